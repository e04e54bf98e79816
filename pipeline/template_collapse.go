package pipeline

import (
	"cmp"
	"slices"
	"strings"
)

// When the words under one node are values of a slot. A word (/cart, /search)
// and a value (/p/{slug}) cannot be told apart one by one: a popular product has
// as many clients as a page of the API. They differ as a family:
//
//   - values are many, and new ones keep coming; words are few;
//   - values are exchangeable: what follows them, and the methods they are
//     asked with, are the same for all; words lead to subtrees of their own;
//   - a client picks some of the values, but uses most of the words;
//   - no value towers over the next in rank by more than a few times (Zipf),
//     a word like /users/me does.
//
// Hence five rules, of which one suffices; each is a conjunction because a
// wrong merge loses an endpoint and a missed one only costs some templates.
//
//	sparse    more than 32 words with a median of at most 2 clients
//	dense     12 or more words, read only or many with the same subtree, each client picking few of them
//	parallel  6 or more words with the same subtree of words, and clients that keep to one: tenants
//	tokens    words beside a typed token slot that look like its values
//	files     6 or more documents in one directory, by extension
//
// The root is where words live, so there titles of several words become
// {slug}, which single words do not match. Versions, locales and reserved words are never values. A
// single client vouches for few words only, so one scanner that is answered 200
// for everything does not merge anything.
const (
	sparseWords   = 32
	sparseMedian  = 2
	denseWords    = 12
	parallelWords = 6
	fileWords     = 6
	rootWords     = 64 // words of one part at the root become values beyond this
	vouched       = 8  // words that one client alone can vouch for
	towerRanks    = 8  // how far down the rank a gap is looked for
	towerFactor   = 4  // a word has this many times the clients of the next
	towerClients  = 20 // and at least so many
)

// buildGroup is the items that share the segment at one depth.
type buildGroup struct {
	seg    string
	slot   SlotType
	items  []*buildItem
	good   int // clients served below
	all    int
	write  bool
	fixed  bool     // in the edition before
	next   []string // distinct segments that follow, sorted; "" for none
	typed  bool     // an id slot follows at once
	keep   bool     // stays a word
	into   SlotType // what it is merged into
	same   int      // share of next that is common among its siblings, per cent
	single int32    // the only client, or -1
}

func (b *templateBuilder) group(items []*buildItem, depth int) *buildGroup {
	g := &buildGroup{seg: items[0].segs[depth], items: items, single: -1}
	g.slot, _ = parseSegment(g.seg)
	prior := 0
	for _, item := range items {
		next := ""
		if len(item.segs) > depth+1 {
			next = item.segs[depth+1]
		}
		if len(g.next) == 0 || g.next[len(g.next)-1] != next { // items are sorted
			g.next = append(g.next, next)
			t, _ := parseSegment(next)
			switch t {
			case SlotInt, SlotUUID, SlotULID, SlotHex, SlotB64, SlotMixed:
				g.typed = true
			}
		}
		g.fixed = g.fixed || item.fixed
		g.write = g.write || item.write
		if item.fixed {
			prior = max(prior, 1, int(item.prior>>min(b.level, 40)))
		}
	}
	good, all := b.distinct(items)
	if good == 1 {
		for _, item := range items {
			for _, v := range item.visits {
				if v.good {
					g.single = v.client
				}
			}
		}
	}
	g.good, g.all = max(good, prior), max(all, prior)
	return g
}

// collapse merges the words of a node that are values into a {str} group (at
// the root {slug}), together with the types that {str} swallows.
func (b *templateBuilder) collapse(groups []*buildGroup, depth int) []*buildGroup {
	var words []*buildGroup
	have := make(map[SlotType]bool) // merged in the edition before
	for _, g := range groups {
		if g.slot == SlotStr || g.slot == SlotSlug {
			have[g.slot] = true
			g.into = g.slot
		}
	}
	for _, g := range groups {
		switch {
		case g.slot != SlotNone:
		case have[SlotSlug] && isTitle(g.seg):
			// What was a word then stays one, and everything else is a value.
			if !g.fixed {
				g.into = SlotSlug
			}
		case have[SlotStr]:
			if !g.fixed {
				g.into = SlotStr
			}
		default:
			words = append(words, g)
		}
	}
	into := b.values(words, groups, depth)
	for _, g := range words {
		if into != SlotNone && !g.keep {
			g.into = into
		}
	}
	out := groups[:0:0]
	for _, slot := range [...]SlotType{SlotStr, SlotSlug} {
		m := &buildGroup{seg: slotNames[slot], slot: slot}
		for _, g := range groups {
			if g.into == slot {
				m.items = append(m.items, g.items...)
			}
		}
		if len(m.items) == 0 {
			continue
		}
		out = append(out, m)
		if slot != SlotStr {
			continue
		}
		_, m.all = b.distinct(m.items)
		for _, g := range groups {
			if g.slot.token() && strings.HasSuffix(g.seg, "}") || g.slot == SlotInt && !g.fixed && 10*g.all < m.all {
				g.into = SlotStr
				m.items = append(m.items, g.items...)
			}
		}
	}
	for _, g := range groups {
		if g.into == SlotNone {
			out = append(out, g)
		}
	}
	return out
}

// values decides whether words are values, of which slot, and marks those that
// stay words all the same.
func (b *templateBuilder) values(words, groups []*buildGroup, depth int) SlotType {
	for _, g := range words {
		g.keep = isWord(g.seg, depth)
	}
	if b.tokens(words, groups) {
		return SlotStr
	}
	b.shape(words)
	candidates := slices.DeleteFunc(slices.Clone(words), func(g *buildGroup) bool { return g.good == 0 || g.keep })
	all := func(*buildGroup) bool { return true }
	try := func(rule func([]*buildGroup) bool, in func(*buildGroup) bool) bool {
		some := slices.DeleteFunc(slices.Clone(candidates), func(g *buildGroup) bool { return !in(g) })
		if !rule(some) {
			return false
		}
		for _, g := range words {
			g.keep = g.keep || g.good > 0 && !in(g)
		}
		keepTowers(some)
		return true
	}
	title := func(g *buildGroup) bool { return isTitle(g.seg) }
	single := func(g *buildGroup) bool { return !isTitle(g.seg) }
	document := func(g *buildGroup) bool { return isDocument(g.seg) }
	if depth > 0 {
		if try(b.sparse, all) || try(b.dense, all) || try(b.parallel, all) || try(b.files, document) {
			return SlotStr
		}
		return SlotNone
	}
	if len(slices.DeleteFunc(b.counted(candidates), title)) > rootWords && try(b.sparse, single) || try(b.parallel, all) {
		return SlotStr
	}
	if try(b.sparse, title) || try(b.dense, title) {
		for _, g := range words {
			g.keep = g.keep || !isTitle(g.seg)
		}
		return SlotSlug
	}
	return SlotNone
}

func (b *templateBuilder) files(words []*buildGroup) bool { return len(b.counted(words)) >= fileWords }

// counted leaves out the words that one client alone brings beyond its share.
func (b *templateBuilder) counted(words []*buildGroup) []*buildGroup {
	limit := vouched
	if b.clients < fullClients {
		limit = 2 * sparseWords
	}
	share := make(map[int32]int)
	return slices.DeleteFunc(slices.Clone(words), func(g *buildGroup) bool {
		if g.single < 0 || g.fixed {
			return false
		}
		share[g.single]++
		return share[g.single] > limit
	})
}

func (b *templateBuilder) sparse(words []*buildGroup) bool {
	words = b.counted(words)
	if len(words) <= sparseWords {
		return false
	}
	return median(words) <= sparseMedian && average(words, func(g *buildGroup) int { return g.same }) >= 50
}

func (b *templateBuilder) dense(words []*buildGroup) bool {
	words = b.counted(words)
	n := len(words)
	if n < denseWords {
		return false
	}
	clients, top, visits := b.union(words)
	if clients == 0 {
		return false
	}
	picked := 100 * visits / (clients * n) // share of the words that a client uses
	wrote := func(g *buildGroup) int { return percent(g.write && len(g.next) == 1 && g.next[0] == "") }
	if n <= sparseWords {
		wrote = func(g *buildGroup) int { return percent(g.write) }
		if 100*top > 50*clients || picked > 35 {
			return false
		}
	}
	return picked <= 50 &&
		average(words, func(g *buildGroup) int { return g.same }) >= 80 &&
		average(words, wrote) <= 10 &&
		average(words, func(g *buildGroup) int { return percent(g.typed) }) <= 10
}

func (b *templateBuilder) parallel(words []*buildGroup) bool {
	words = b.counted(words)
	if len(words) < parallelWords {
		return false
	}
	clients, _, visits := b.union(words)
	if clients == 0 || visits > 2*clients || clients < 2*len(words) {
		return false
	}
	counts := make(map[string]int)
	for _, g := range words {
		for _, next := range g.next {
			if t, _ := parseSegment(next); t == SlotNone && next != "" {
				counts[next]++
			}
		}
	}
	common := 0
	for _, n := range counts {
		if 2*n >= len(words) {
			common++
		}
	}
	return common >= 2
}

// tokens finds the values of a token type that by chance have too few digits
// for it. Identifiers of one kind are often equally long, which tells the
// popular ones among them from words.
func (b *templateBuilder) tokens(words, groups []*buildGroup) bool {
	slot := 0
	for _, g := range groups {
		if g.slot.token() && strings.HasSuffix(g.seg, "}") && g.good >= b.gate {
			slot += g.good
		}
	}
	if slot == 0 {
		return false
	}
	alike, others := 0, 0
	lengths := make(map[int]int)
	for _, g := range words {
		switch {
		case g.keep:
		case !looksToken(g.seg):
			others++
		case g.good <= sparseMedian && len(g.seg) < longToken:
			alike++
			lengths[len(g.seg)]++
		default:
			alike += 3 // no word is so long and so mixed
			lengths[len(g.seg)]++
		}
	}
	if alike < 3 || 10*alike < 7*(alike+others) {
		return false
	}
	for _, g := range words {
		g.keep = g.keep || !looksToken(g.seg) && (!hasCaseOrDigit(g.seg) || 5*lengths[len(g.seg)] < 4*alike)
	}
	return true
}

// union counts the clients of words, those of the largest, and the pairs.
func (b *templateBuilder) union(words []*buildGroup) (clients, top, visits int) {
	var items []*buildItem
	for _, g := range words {
		items = append(items, g.items...)
		top = max(top, g.good)
		visits += g.good
	}
	clients, _ = b.distinct(items)
	// Words of the edition before may have more clients than were seen now.
	return max(clients, top), top, visits
}

// shape sets same: what follows a word is common when it follows several of
// its siblings. Words whose subtree is their own, and that several clients
// use, stay words.
func (b *templateBuilder) shape(words []*buildGroup) {
	counts := make(map[string]int)
	n := 0
	for _, g := range words {
		if g.good == 0 || g.keep {
			continue
		}
		n++
		for _, next := range g.next {
			counts[next]++
		}
	}
	common := max(2, (n+19)/20)
	rare := 0 // words with a continuation of their own
	for _, g := range words {
		if g.good > 0 && !g.keep && slices.ContainsFunc(g.next, func(s string) bool { return s != "" && counts[s] < common }) {
			rare++
		}
	}
	for _, g := range words {
		below, shared := 0, 0
		for _, next := range g.next {
			if next == "" {
				continue
			}
			below++
			// Values of a slot below are rare each but follow most siblings.
			if counts[next] >= common || 2*rare >= n {
				shared++
			}
		}
		g.same = 100
		if below > 0 {
			g.same = 100 * shared / below
		}
		if below > 0 && g.same < 50 && g.good >= b.gate && 2*rare < n {
			g.keep = true
		}
	}
}

// keepTowers keeps the words that stand out of the rank order.
func keepTowers(words []*buildGroup) {
	ranked := slices.Clone(words)
	slices.SortStableFunc(ranked, func(x, y *buildGroup) int { return cmp.Compare(y.good, x.good) })
	for i := min(towerRanks, len(ranked)-1) - 1; i >= 0; i-- {
		if ranked[i].good >= towerClients && ranked[i].good >= towerFactor*ranked[i+1].good {
			for _, g := range ranked[:i+1] {
				g.keep = true
			}
			return
		}
	}
}

func median(words []*buildGroup) int {
	n := make([]int, len(words))
	for i, g := range words {
		n[i] = g.good
	}
	slices.Sort(n)
	return n[len(n)/2]
}

func average(words []*buildGroup, f func(*buildGroup) int) int {
	sum := 0
	for _, g := range words {
		sum += f(g)
	}
	return sum / len(words)
}

func percent(b bool) int {
	if b {
		return 100
	}
	return 0
}
