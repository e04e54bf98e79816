package detectors

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

// keyJunction sees API keys that somebody else uses.
//
// Evidence comes in two families, and both must be there. Place: the key is used
// from a network operator (else a /16) that it never used, against its own rate of
// news: a server's key is new almost never, one that sits on a thousand devices
// every day. Behaviour: a program (agent family, JA4) new to the key, a browser
// above all; writes and reads that it never made; being refused (403) on one
// template after the other, which is somebody trying what the key can do. Each
// counts for a day. A refused request belongs to its address, whose key it names
// only by its own word: it counts once the same network used the key with success.
// New place, program, writes and reads are what a move to another host looks like
// too: without a second refusal or a browser they stay at review level.
//
// Misses: keys younger than three days; a thief in the owner's network who does
// what the owner does. Looks like it: a move to another host together with a new
// release that is refused. OWASP API2, ATT&CK T1528, T1550.001.
type keyJunction struct{}

const nameKeyMisuse = "key.misuse"

func (keyJunction) name() string                  { return nameKeyMisuse }
func (keyJunction) wants(m pipeline.Meeting) bool { return m == pipeline.MeetPrincipal }
func (keyJunction) open() table                   { return new(keyTable) }

// kindKeyNews says that a key did something for the first time in a while.
const kindKeyNews uint8 = 4

// tellKey reports whether correlate should see a key's request: the first from a
// place, with a program, of a write, of a refusal. The profile forgets after some
// weeks, and the key's own row does not.
func tellKey(p *Profile, o *pipeline.Observation, r *pipeline.Ordered) bool {
	now := seconds(o.Time)
	if r.Kind != pipeline.PrincipalKey {
		return p.seen.add(pipeline.Mix64(o.Endpoint, keyOf(r)), now) // an address that is refused with it
	}
	news := p.seen.add(pipeline.Mix64(wide(r), 0x6b1), now)
	news = p.seen.add(pipeline.Mix64(stackOf(r), 0x6b2), now) || news
	switch {
	case r.Status == 403:
		news = p.seen.add(pipeline.Mix64(o.Endpoint, 0x6b3), now) || news
	case r.Verb != pipeline.VerbOptions && r.Status < 400:
		news = p.seen.add(pipeline.Mix64(o.Endpoint, 0x6b4), now) || news
	}
	return news
}

// keyOf is the key of r as a principal.
func keyOf(r *pipeline.Ordered) uint64 {
	if r.Kind == pipeline.PrincipalKey {
		return r.Owner
	}
	return pipeline.HashPrincipal(pipeline.PrincipalKey, r.Key)
}

const (
	keyWays     = 8
	minKeys     = 8
	maxKeys     = 64
	maxKeyCases = 8
	keyKnown    = 3 * daySeconds // younger keys have no habits
	// moveCap is what place, program, writes and reads come to at most where no
	// browser shows and not more than one endpoint refuses, which a new release may
	// run into: between review and page.
	moveCap = 17 * pipeline.Nat
	// refusedCap is what one endpoint that refuses says at most.
	refusedCap = 3 * pipeline.Nat
)

// keyRow is one key, pointer-free.
type keyRow struct {
	key    uint64
	first  pipeline.Time
	last   uint32
	places rateOfNews
	stacks rateOfNews
	writes rateOfNews
	reads  rateOfNews
	denied rateOfNews
	// What counts now, each until a day after it was seen.
	place   int32 // Nats
	stack   int32
	write   int32
	read    int32
	refused int32
	browser int32
	_       int32
	since   pipeline.Time
	from    uint64 // the new place
	items   uint32 // requests that brought news
}

// rateOfNews is how often something new happens to a key, and what it knows.
type rateOfNews struct {
	known [4]uint64 // a bloom of all that was ever seen
	n     uint32
	_     uint32
}

// see reports whether h is new.
func (r *rateOfNews) see(h uint64) bool {
	a, b := h>>8&255, h>>40&255
	if r.known[a>>6]>>(a&63)&1 == 1 && r.known[b>>6]>>(b&63)&1 == 1 {
		return false
	}
	r.known[a>>6] |= 1 << (a & 63)
	r.known[b>>6] |= 1 << (b & 63)
	r.n++
	return true
}

// nats is how unlikely news is on any one day for a key so old.
func (r *rateOfNews) nats(age uint32) pipeline.Nats {
	days := uint64(age)/daySeconds + 1
	before := uint64(r.n) - min(uint64(r.n), 2) // the first ones are what it is, and this is the latest
	return max(0, min(lnRatio(9*2*days, 10*(2*before+1)), symbolCap))
}

type keyTable struct {
	rows  []keyRow
	cases []*accountCase
}

func (t *keyTable) tick(*knot, pipeline.Time) {}

func (t *keyTable) row(key uint64) *keyRow {
	if t.rows == nil {
		t.rows = make([]keyRow, minKeys)
	}
	for {
		set := t.set(key)
		at := 0
		for i := range set {
			if set[i].key == key {
				return &set[i]
			}
			if set[at].key != 0 && (set[i].key == 0 || set[i].last < set[at].last) {
				at = i
			}
		}
		if set[at].key != 0 && len(t.rows) < maxKeys {
			old := t.rows
			t.rows = make([]keyRow, 2*len(old))
			for i := range old {
				if old[i].key == 0 {
					continue
				}
				to := t.set(old[i].key)
				for j := range to {
					if to[j].key == 0 {
						to[j] = old[i]
						break
					}
				}
			}
			continue
		}
		set[at] = keyRow{key: key}
		return &set[at]
	}
}

func (t *keyTable) set(key uint64) []keyRow {
	i := int(key>>24) & (len(t.rows)/keyWays - 1)
	return t.rows[i*keyWays : (i+1)*keyWays]
}

func (t *keyTable) meet(k *knot, s *pipeline.Signal) {
	if s.Kind != kindKeyNews {
		return
	}
	o, q := &s.Facts, &s.Request
	// Anybody can send a key and be refused: that neither makes a row nor teaches
	// one where the key is at home.
	claimed := q.Kind != pipeline.PrincipalKey
	if claimed && !t.has(s.Key) {
		return
	}
	r := t.row(s.Key)
	if r.first == 0 {
		r.first = o.Time
	}
	if claimed && (r.from == 0 || r.from != wide(q)) {
		return
	}
	r.last = seconds(o.Time)
	if r.since != 0 && o.Time-r.since > daySeconds*1e6 {
		r.place, r.stack, r.write, r.read, r.refused, r.browser, r.since, r.items, r.from = 0, 0, 0, 0, 0, 0, 0, 0, 0
	}
	age := seconds(o.Time) - seconds(r.first)
	known := age >= keyKnown
	place := wide(q)
	newPlace := r.places.see(pipeline.Mix64(place, 1))
	newStack := r.stacks.see(stackOf(q))
	counted := false
	add := func(to *int32, n, limit pipeline.Nats) {
		if !known || n <= 0 {
			return
		}
		if r.since == 0 {
			r.since = o.Time
		}
		*to = int32(min(max(pipeline.Nats(*to)+n, 0), limit))
		counted = true
	}
	if newPlace {
		if n := r.places.nats(age); known && n > pipeline.Nats(r.place) {
			r.place, r.from = 0, place
			add(&r.place, n, symbolCap)
		}
	}
	stranger := r.from != 0 && place == r.from
	if newStack && stranger {
		add(&r.stack, r.stacks.nats(age), symbolCap)
		if strings.HasPrefix(q.Agent, "Mozilla/") {
			add(&r.browser, 5*pipeline.Nat, 5*pipeline.Nat)
		}
	}
	switch {
	case o.Status == 403:
		if r.denied.see(o.Endpoint) && stranger {
			add(&r.refused, min(r.denied.nats(age), refusedCap), 12*pipeline.Nat)
		}
	case o.Status >= 400:
	case !o.Has(pipeline.ObsRead):
		if r.writes.see(o.Endpoint) && stranger {
			add(&r.write, min(r.writes.nats(age), 3*pipeline.Nat), 6*pipeline.Nat)
		}
	default:
		if r.reads.see(o.Endpoint) && stranger {
			add(&r.read, min(r.reads.nats(age), 2*pipeline.Nat), 6*pipeline.Nat)
		}
	}
	if counted {
		r.items++
	}
	if k.traced() && (counted || stranger) {
		_, score := r.parts()
		k.trace(s, Traced{Detector: nameKeyMisuse, Owner: s.Key, Score: score, Counted: counted, Part: true})
	}
	if counted {
		t.tell(k, r, s)
	}
}

// keyPart is one line of evidence.
type keyPart struct {
	name string
	nats pipeline.Nats
}

// parts are the lines of evidence: nothing, unless both families are there.
func (r *keyRow) parts() (parts [6]keyPart, score pipeline.Nats) {
	place, stack, browser := pipeline.Nats(r.place), pipeline.Nats(r.stack), pipeline.Nats(r.browser)
	write, read, refused := pipeline.Nats(r.write), pipeline.Nats(r.read), pipeline.Nats(r.refused)
	if place <= 0 || stack+browser+write+read+refused <= 0 || r.items < 3 {
		return parts, 0
	}
	if over := place + stack + write + read + refused - moveCap; browser == 0 && refused <= refusedCap && over > 0 {
		cut := min(over, read)
		over -= cut
		read -= cut
		cut = min(over, write)
		over -= cut
		write -= cut
		refused -= min(over, refused)
	}
	parts = [6]keyPart{{"new_place", place}, {"new_stack", stack}, {"browser", browser}, {"new_writes", write}, {"new_reads", read}, {"refused_scopes", refused}}
	return parts, place + stack + browser + write + read + refused
}

// has reports whether key has a row.
func (t *keyTable) has(key uint64) bool {
	return t.rows != nil && slices.ContainsFunc(t.set(key), func(r keyRow) bool { return r.key == key })
}

func (t *keyTable) tell(k *knot, r *keyRow, s *pipeline.Signal) {
	c := t.openCase(s)
	c.note(k, s)
	parts, score := r.parts()
	if score < pipeline.ReviewAt || k.c.cfg.Modes[nameKeyMisuse] == ModeOff {
		return
	}
	f := c.finding(k, nameKeyMisuse, r.since)
	f.Level, f.Who = "key", pipeline.Principal{Kind: pipeline.PrincipalKey, Value: c.Account}
	if c.Guess == "" || c.Told < r.since {
		c.Guess = findingID("key", r.key, r.since)
	}
	c.Told = k.now
	f.ID = c.Guess
	own := pipeline.Baseline{Kind: "own", N: int64(seconds(s.Facts.Time)-seconds(r.first)) / daySeconds}
	for _, x := range parts {
		if x.nats > 0 {
			f.Signals = append(f.Signals, pipeline.FindingSignal{Name: x.name, Observed: 1, Count: 1, Nats: x.nats, Baseline: own})
			f.Score += x.nats
		}
	}
	f.Outcome = pipeline.Outcome{Requests: int64(r.items), Attempted: int64(r.items), Basis: "unknown"}
	f.Facts = pipeline.FindingFacts{CanSucceed: true}
	f.Title = fmt.Sprintf("API key %s is used by somebody else, from %s", c.Account, s.Request.Address.PrincipalValue())
	f.Reason = fmt.Sprintf("In %d days this key was used from %s; now it comes from a new network%s%s%s%s%s, within %s.",
		own.N, plural(int64(r.places.n-1), "network", "networks"), when(r.stack > 0, ", with a program new to it"), when(r.browser > 0, ", a browser"),
		when(r.write > 0, ", and changes what it never changed"), when(r.read > 0, ", and reads what it never read"), when(r.refused > 0, ", and is refused on what it never asked for"),
		span(time.Duration(f.Last-r.since)*time.Microsecond))
	f.Next = []string{"Ask the key's owner; if it was not them, rotate key " + c.Account, "Look at what it read and changed since then"}
	f.BenignIf = []string{"the owner moved it to another host with a new release", "a developer tried the key in a browser"}
	f.WouldNotFireIf = "it came from a network that the key used before, or did only what it always did"
	f.Attack, f.OAT, f.OWASP = []string{"T1528", "T1550.001"}, []string{"OAT-020"}, []string{"API2:2023"}
	k.emit(f)
}

func (t *keyTable) openCase(s *pipeline.Signal) *accountCase {
	i, ok := slices.BinarySearchFunc(t.cases, s.Key, func(c *accountCase, key uint64) int { return compare(c.Key, key) })
	if ok {
		return t.cases[i]
	}
	if len(t.cases) >= maxKeyCases {
		least := 0
		for j, c := range t.cases {
			if c.Last < t.cases[least].Last {
				least = j
			}
		}
		t.cases = slices.Delete(t.cases, least, least+1)
		if least < i {
			i--
		}
	}
	c := &accountCase{Key: s.Key, Account: clean(s.Request.Key, 256), First: s.Facts.Time}
	t.cases = slices.Insert(t.cases, i, c)
	return c
}

func keyLayout() string { return layoutOf(reflect.TypeFor[keyRow]()) }

func (t *keyTable) encode(dst []byte) ([]byte, error) {
	data, err := json.Marshal(accountChunk{Layout: keyLayout(), Rows: raw(t.rows), Cases: t.cases})
	return append(dst, data...), err
}

func (t *keyTable) decode(data []byte) error {
	var c accountChunk
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	if c.Layout != keyLayout() || !unraw(c.Rows, &t.rows, maxKeys) || len(c.Cases) > maxKeyCases || slices.Contains(c.Cases, nil) ||
		len(t.rows) > 0 && (len(t.rows) < minKeys || len(t.rows)&(len(t.rows)-1) != 0) {
		return ErrLayout
	}
	t.cases = c.Cases
	return nil
}
