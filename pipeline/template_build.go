package pipeline

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// A path becomes a template when enough clients got an answer there.
const (
	gateClients  = 3  // distinct clients that make a path known; fewer where a host has fewer than fullClients
	fullClients  = 10 // from here on gateClients holds in full
	returnHits   = 5  // a client that was served so often on a path makes it known alone,
	returnPaths  = 32 // for so many paths: an administrator's pages, a monitor's probe
	warmShare    = 80 // per cent of an average client's answered paths that templates must explain before a host has any
	warmRequests = 20 // answered requests of a host before it has any
)

// buildItem is a path on its way into a trie.
type buildItem struct {
	segs   []string
	visits []buildVisit
	prior  int64 // clients that the edition before saw
	fixed  bool  // a template of the edition before: it stays
	write  bool
}

// buildVisit is one client on one path.
type buildVisit struct {
	client int32
	good   bool
	known  bool // the client came back often enough to make the path known alone
}

// templateBuilder grows one host's templates.
type templateBuilder struct {
	gate    int
	level   int // of the client sample
	clients int // of the host, sampled
	stamp   int32
	seen    []int32 // client → stamp
	out     []templateLine
	known   map[int32]int // client → paths explained
}

// Build decides the templates of everything added so far. It is a function of
// the set of requests and of prev alone. What prev holds stays: a template only
// ever merges into a wider one, and none is split. prev may be nil.
func (l *TemplateLearner) Build(prev *Templates) *Templates {
	if prev == nil {
		prev = ColdTemplates()
	}
	ids := slices.Sorted(maps.Keys(l.clients))
	classes := l.classes(prev, ids)
	items := make(map[string]map[string]*buildItem, len(classes))
	requests := make(map[string]int64)
	for n, id := range ids {
		returned := 0
		for _, p := range l.clients[id].pairs {
			path := l.paths[p.path]
			class := sharedHost
			if classes[path.host] {
				class = path.host
			}
			item := itemOf(items, class, path.text)
			visit := buildVisit{client: int32(n), good: p.flags&learnedGood != 0}
			item.write = item.write || p.flags&learnedWrite != 0
			if visit.good {
				requests[class] += int64(p.hits)
				if p.hits >= returnHits && returned < returnPaths {
					returned++
					visit.known = true
				}
			}
			item.visits = append(item.visits, visit)
		}
	}
	warm := make(map[string]bool)
	for i := range prev.hosts {
		h := &prev.hosts[i]
		warm[h.name] = true
		for _, line := range h.lines {
			item := itemOf(items, h.name, line.text)
			item.fixed, item.write = true, item.write || line.write
			item.prior = max(1, line.clients)
		}
	}
	seen := make([]int32, len(ids))
	stamp := int32(0)
	var hosts []hostTemplates
	for _, name := range slices.Sorted(maps.Keys(items)) {
		b := templateBuilder{level: l.level, seen: seen, stamp: stamp, known: make(map[int32]int)}
		lines, share := b.build(items[name])
		stamp = b.stamp
		if len(lines) == 0 || !warm[name] && (share < warmShare || requests[name] < warmRequests) {
			continue
		}
		hosts = append(hosts, hostTemplates{name: name, lines: lines})
	}
	return newTemplates(bound(hosts))
}

func itemOf(items map[string]map[string]*buildItem, class, text string) *buildItem {
	byText := items[class]
	if byText == nil {
		byText = make(map[string]*buildItem)
		items[class] = byText
	}
	item := byText[text]
	if item == nil {
		item = &buildItem{}
		if text != "/" {
			item.segs = strings.Split(text[1:], "/")
		}
		byText[text] = item
	}
	return item
}

// classes chooses the hosts with templates of their own: those of prev, then
// those with the most clients. A host that hardly anybody asks for is a forged
// header or noise, unless the whole log is small.
func (l *TemplateLearner) classes(prev *Templates, ids []uint64) map[string]bool {
	own := make(map[string]bool)
	for i := range prev.hosts {
		own[prev.hosts[i].name] = true
	}
	clients := make(map[string]int)
	last := make(map[string]uint64)
	for _, id := range ids {
		for _, p := range l.clients[id].pairs {
			host := l.paths[p.path].host
			if last[host] != id+1 {
				last[host] = id + 1
				clients[host]++
			}
		}
	}
	names := slices.Collect(maps.Keys(clients))
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(clients[b]-clients[a], cmp.Compare(a, b)) })
	for _, name := range names {
		if len(own) < maxTemplateHosts && clients[name] >= gateFor(len(ids)) {
			own[name] = true
		}
	}
	return own
}

// gateFor is how many clients make a path known where there are n in all.
func gateFor(n int) int {
	if n >= fullClients {
		return gateClients
	}
	return max(1, (gateClients*n+fullClients-1)/fullClients)
}

// build returns a host's templates and which share of an average client's
// answered paths they explain, in per cent.
func (b *templateBuilder) build(byText map[string]*buildItem) ([]templateLine, int) {
	items := make([]*buildItem, 0, len(byText))
	for _, text := range slices.Sorted(maps.Keys(byText)) {
		items = append(items, byText[text])
	}
	good, _ := b.distinct(items)
	b.clients = good
	b.gate = gateFor(good)
	b.grow(nil, items)
	paths := make(map[int32]int)
	for _, item := range items {
		for _, v := range item.visits {
			if v.good {
				paths[v.client]++
			}
		}
	}
	share, clients := 0, 0
	for client, n := range paths {
		share += 100 * b.known[client] / n
		clients++
	}
	if clients > 0 {
		share /= clients
	}
	slices.SortFunc(b.out, byWorth)
	return b.out[:min(len(b.out), maxHostTemplates)], share
}

// byWorth orders lines: those that stand for the edition before first, then
// those with the most clients.
func byWorth(x, y templateLine) int {
	return cmp.Or(cmp.Compare(fixedFirst(x), fixedFirst(y)), cmp.Compare(y.clients, x.clients), cmp.Compare(x.text, y.text))
}

func fixedFirst(l templateLine) int {
	if l.fixed {
		return 0
	}
	return 1
}

// bound holds all hosts together to maxTemplateNodes, dropping the least worth.
func bound(hosts []hostTemplates) []hostTemplates {
	type placed struct {
		templateLine
		host int
	}
	var all []placed
	nodes := 0
	for i := range hosts {
		for _, l := range hosts[i].lines {
			all = append(all, placed{l, i})
			nodes += strings.Count(l.text, "/")
		}
	}
	if nodes <= maxTemplateNodes {
		return hosts
	}
	slices.SortFunc(all, func(x, y placed) int {
		return cmp.Or(byWorth(x.templateLine, y.templateLine), cmp.Compare(x.host, y.host))
	})
	for i := range hosts {
		hosts[i].lines = nil
	}
	nodes = 0
	for _, l := range all {
		if nodes += strings.Count(l.text, "/"); nodes > maxTemplateNodes {
			break
		}
		hosts[l.host].lines = append(hosts[l.host].lines, l.templateLine)
	}
	return slices.DeleteFunc(hosts, func(h hostTemplates) bool { return len(h.lines) == 0 })
}

// distinct counts the clients of items: those that were served, and all.
func (b *templateBuilder) distinct(items []*buildItem) (good, all int) {
	b.stamp += 2
	for _, item := range items {
		for _, v := range item.visits {
			s := b.seen[v.client]
			if s < b.stamp-1 {
				all++
				s = b.stamp - 1
			}
			if v.good && s != b.stamp {
				good++
				s = b.stamp
			}
			b.seen[v.client] = s
		}
	}
	return good, all
}

// grow decides the node that prefix leads to. items all pass through it.
func (b *templateBuilder) grow(prefix []string, items []*buildItem) {
	depth := len(prefix)
	slices.SortStableFunc(items, func(x, y *buildItem) int { return slices.Compare(x.segs[depth:], y.segs[depth:]) })
	ends := 0
	for ends < len(items) && len(items[ends].segs) == depth {
		ends++
	}
	if b.admit(items[:ends]) {
		b.emit(prefix, items[:ends])
	}
	var groups []*buildGroup
	for from := ends; from < len(items); {
		to := from + 1
		for to < len(items) && items[to].segs[depth] == items[from].segs[depth] {
			to++
		}
		groups = append(groups, b.group(items[from:to], depth))
		from = to
	}
	merged := b.collapse(groups, depth)
	for _, g := range merged {
		if b.admit(g.items) {
			b.grow(append(prefix[:depth:depth], g.seg), g.items)
		}
	}
}

// admit is the gate: what few clients were answered on does not grow a node.
func (b *templateBuilder) admit(items []*buildItem) bool {
	for _, item := range items {
		if item.fixed || slices.ContainsFunc(item.visits, func(v buildVisit) bool { return v.known }) {
			return true
		}
	}
	if len(items) == 0 {
		return false
	}
	good, all := b.distinct(items)
	return good >= b.gate || all >= gateClients
}

func (b *templateBuilder) emit(segs []string, items []*buildItem) {
	line := templateLine{text: "/" + strings.Join(segs, "/")}
	for _, item := range items {
		line.clients = max(line.clients, item.prior)
		line.write = line.write || item.write
		line.fixed = line.fixed || item.fixed
		for _, v := range item.visits {
			if v.good {
				b.known[v.client]++
			}
		}
	}
	_, all := b.distinct(items)
	line.clients = max(line.clients, int64(all)<<min(b.level, 40))
	b.out = append(b.out, line)
}
