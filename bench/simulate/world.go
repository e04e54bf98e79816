package simulate

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// world is one run of a scenario.
type world struct {
	s        *Scenario
	seed     uint64
	site     site
	start    time.Time
	end      int64 // µs since start
	dayStart int64 // minutes since midnight
	weekday  int64
	groups   []*group
	exits    *group // the mobile exits that people share
	deploys  []window
	logouts  []int64
}

// window is a time in which an op fails for everybody.
type window struct {
	from, to int64
	op       op
	status   int
}

// group is one entry of a scenario, or the honest owner of something stolen.
type group struct {
	name    string
	profile string
	key     uint64
	count   int
	addr    uint64 // number of the first address that is its own
	account int    // number of the first account that is its own
	at, len int64  // µs
	factor  float64
	visits  float64 // a day and client; 0: one run from at on
	curve   curve
	script  func(c *client)
	attack  *Attack
	perRun  bool // a run of its own for each client, not visits
	truth   truth
}

// sharedExits are the address numbers of mobile exits that all people share.
const sharedExits = 4096

// Run makes the events and returns the labels, harmless groups first, each in
// order of name. Events come in order of time, no two at the same; where the
// scenario has late records, duplicates or skewed clocks, they come as a log
// would hold them. An event is valid until emit returns; an error of emit ends
// the run. Memory follows the number of clients, not of events.
func (s *Scenario) Run(seed uint64, emit func(*Event) error) ([]Label, error) {
	if list := s.problems(); len(list) > 0 {
		return nil, fmt.Errorf("scenario:\n%w", errors.Join(list...))
	}
	w, err := newWorld(s, seed)
	if err != nil {
		return nil, err
	}
	sink := newMangler(s.Logs, seed, emit)
	if err := w.run(sink.take); err != nil {
		return nil, err
	}
	if err := sink.flush(); err != nil {
		return nil, err
	}
	return w.labels(), nil
}

func newWorld(s *Scenario, seed uint64) (*world, error) {
	w := &world{s: s, seed: mix(seed + 0x51), site: newSite(s.Site), start: s.Start.UTC().Truncate(time.Microsecond), end: s.Length.Microseconds()}
	if w.start.IsZero() {
		w.start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	}
	w.dayStart = int64(w.start.Hour()*60 + w.start.Minute())
	w.weekday = int64(w.start.Weekday())

	// In order of name, so that the order in the scenario does not matter.
	benign := slices.Clone(s.Benign)
	slices.SortFunc(benign, func(a, b Benign) int { return strings.Compare(a.name(), b.name()) })
	attacks := slices.Clone(s.Attacks)
	slices.SortFunc(attacks, func(a, b Attack) int { return strings.Compare(a.name(), b.name()) })

	w.exits = &group{name: "mobile-exits", profile: "mobile-exits"}
	w.add(w.exits)
	address, account := uint64(sharedExits), 0
	for i := range benign {
		b := &benign[i]
		p, _ := profileNamed(b.Profile)
		g := &group{
			name: b.name(), profile: p.name, count: b.Count, addr: address, account: account, visits: p.visits, curve: p.curve(),
			script: p.script, factor: b.Factor, at: b.At.Microseconds(), len: b.For.Microseconds(), perRun: p.visits == 0,
		}
		if g.count == 0 {
			g.count = p.count
			if p.name == "people" && s.Clients > 0 {
				g.count = s.Clients
			}
		}
		if g.factor == 0 {
			g.factor = 1
		}
		if g.at == 0 {
			g.at = int64(float64(p.at.Microseconds()) * min(1, float64(w.end)/86400e6))
		}
		if g.len == 0 {
			g.len = p.length.Microseconds()
		}
		address += uint64(g.count + p.spare)
		account += g.count + p.spare
		w.add(g)
		if p.prepare != nil {
			p.prepare(w, g)
		}
	}
	// Attackers' addresses follow; their own accounts are the last ones.
	last := w.site.accounts
	for i := range attacks {
		a := attacks[i].withDefaults()
		kind, _ := attackNamed(a.Type)
		n := a.Sources * max(1, a.Evade.Addresses)
		own := a.Sources*max(1, a.Evade.Accounts) + canaries
		last -= own
		g := &group{
			name: a.name(), profile: a.Variant, count: a.Sources, addr: address, account: last, attack: &a, curve: homeCurve(),
			script: kind.script, factor: 1, at: a.Start.Microseconds(), len: a.Duration.Microseconds(), perRun: true,
		}
		g.truth.episode = true
		address += uint64(n + 8)
		w.add(g)
		if kind.honest != nil {
			h := &group{
				name: g.name + "-owner", profile: "owner", count: 1, addr: address, account: g.account, curve: flatCurve(),
				script: kind.honest, factor: 1, perRun: true, attack: &a,
			}
			if a.Type == "auth.takeover" {
				h.count = a.Requests // one victim each
			}
			address += uint64(h.count)
			w.add(h)
		}
	}
	if address > maxAddresses {
		return nil, fmt.Errorf("scenario: it wants %d addresses; there are %d", address, maxAddresses)
	}
	if last < account {
		return nil, fmt.Errorf("site.accounts: %d are too few: the clients and attackers have %d of their own", w.site.accounts, account+w.site.accounts-last)
	}
	return w, nil
}

// canaries are accounts of his own that an attacker mixes in.
const canaries = 64

func (w *world) add(g *group) {
	g.key = hashName(g.name)
	w.groups = append(w.groups, g)
}

// stream is the chance of one visit of one client.
func (w *world) stream(g *group, index, visit int, what uint64) *rand.Rand {
	h := hash2(w.seed^g.key, uint64(index)<<32|uint64(uint32(visit))) ^ mix(what)
	return rand.New(rand.NewPCG(h, mix(h^g.key)))
}

// task is one client in the queue: at work when c is there, else to come.
type task struct {
	at    int64
	order uint64
	g     *group
	index int
	visit int
	c     *client
	next  func() (struct{}, bool)
	stop  func()
}

func (t *task) before(o *task) bool { return t.at < o.at || t.at == o.at && t.order < o.order }

// queue is a binary heap.
type queue []task

func (q queue) down(i int) {
	for {
		k := 2*i + 1
		if k >= len(q) {
			return
		}
		if k+1 < len(q) && q[k+1].before(&q[k]) {
			k++
		}
		if !q[k].before(&q[i]) {
			return
		}
		q[i], q[k] = q[k], q[i]
		i = k
	}
}

func (w *world) run(emit func(*Event) error) error {
	var q queue
	for _, g := range w.groups {
		for i := range g.count {
			t := task{g: g, index: i, order: hash2(g.key, uint64(i))}
			if g.perRun {
				t.at = g.at
			} else {
				t.at = w.nextVisit(&t, 0)
			}
			if t.at < w.end {
				q = append(q, t)
			}
		}
	}
	for i := len(q)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
	defer func() {
		for i := range q {
			if q[i].stop != nil {
				q[i].stop()
			}
		}
	}()
	last := int64(-1)
	for len(q) > 0 {
		t := &q[0]
		if t.c == nil {
			w.begin(t)
		} else {
			last = max(last+1, t.at)
			t.c.ev.Time = w.start.Add(time.Duration(last) * time.Microsecond)
			if err := emit(&t.c.ev); err != nil {
				return err
			}
		}
		at := t.at
		if _, more := t.next(); more {
			t.at = max(at, t.c.now)
		} else {
			t.c, t.next, t.stop = nil, nil, nil
			t.visit++
			t.at = w.end
			if !t.g.perRun {
				t.at = w.nextVisit(t, at)
			}
		}
		if t.at >= w.end {
			if t.stop != nil {
				t.stop()
			}
			q[0] = q[len(q)-1]
			q[len(q)-1] = task{}
			q = q[:len(q)-1]
		}
		q.down(0)
	}
	return nil
}

// begin starts the coroutine of a visit.
func (w *world) begin(t *task) {
	c := &client{w: w, g: t.g, index: t.index, visit: t.visit, now: t.at, r: w.stream(t.g, t.index, t.visit, 1), account: -1, attack: t.g.truth.episode}
	t.c = c
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		t.g.script(c)
	})
}

// nextVisit draws when the client comes again after now.
func (w *world) nextVisit(t *task, now int64) int64 {
	g := t.g
	if g.len > 0 { // within a window: spread over it, most come early
		if t.visit > 0 {
			return w.end
		}
		u := w.stream(g, t.index, 0, 2).Float64()
		return g.at + int64(u*u*float64(g.len))
	}
	keen := math.Exp(.7*bell(hash2(w.seed^g.key, uint64(t.index))) - .245)
	return g.curve.next(w, w.stream(g, t.index, t.visit, 3), now, g.visits*g.factor*keen)
}

// disturb is what the site does to everybody: a broken release, a mass logout.
func (w *world) disturb(c *client, k *call) {
	for i := range w.deploys {
		if d := &w.deploys[i]; k.app && k.op == d.op && c.now >= d.from && c.now < d.to && k.status < 400 && k.login == "" && !k.refused {
			k.status = d.status
			w.site.answer(k)
		}
	}
	if c.id.user == "" || !private(k.op) || k.login != "" || !k.app {
		return
	}
	if k.status < 400 && w.loggedOut(c) {
		k.status = 401
		w.site.answer(k)
	}
}

// loggedOut reports whether a mass logout ended the client's session; who sends
// credentials with every request has none.
func (w *world) loggedOut(c *client) bool {
	if c.id.session == "" {
		return false
	}
	for _, t := range w.logouts {
		if c.id.sessionSince < t && c.now >= t {
			return true
		}
	}
	return false
}

// private reports whether an op needs an account.
func private(o op) bool {
	switch o {
	case opMe, opMine, opObject, opCreate, opEmail, opPayout, opPassword, opExport, opPoll, opWrite:
		return true
	}
	return false
}

// slow is how much longer than usual an answer takes.
func (w *world) slow(z float64) float64 { return math.Exp(.5 * z) }

// truth gathers what a label says of a group.
type truth struct {
	episode    bool
	principals map[string]struct{}
	first      int64
	last       int64
	attempts   int64
	reached    Reached
	listed     map[string]struct{} // what the lists of reached hold
}

func (t *truth) saw(id *identity) {
	t.name("ip:", labelled(id.ip))
	t.name("account:", id.user)
	t.name("key:", id.key)
}

// labelled is what a label calls an address: for IPv6 the /64, which is one home.
func labelled(ip string) string {
	if !strings.Contains(ip, ":") {
		return ip
	}
	p, err := netip.MustParseAddr(ip).Prefix(64)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return p.String()
}

func (t *truth) name(kind, value string) {
	if value == "" {
		return
	}
	if t.principals == nil {
		t.principals = make(map[string]struct{})
	}
	if len(t.principals) < maxAddresses+maxLabelled {
		t.principals[kind+value] = struct{}{}
	}
}

func (t *truth) attempt(now int64) {
	if t.attempts == 0 {
		t.first = now
	}
	t.first, t.last = min(t.first, now), max(t.last, now)
	t.attempts++
}

// got notes an object that an attacker reached. Totals count each once as long
// as the list has room, all after that.
func (t *truth) got(object string) {
	t.list(&t.reached.Objects, &t.reached.ObjectsTotal, "object ", object)
}

// list appends v to a bounded list and counts it, unless it is there.
func (t *truth) list(to *[]string, total *int64, kind, v string) {
	if _, old := t.listed[kind+v]; old {
		return
	}
	*total++
	if len(*to) < maxReached {
		if t.listed == nil {
			t.listed = make(map[string]struct{})
		}
		t.listed[kind+v] = struct{}{}
		*to = append(*to, v)
	}
}

// entered notes an account of a victim that an attacker got into.
func (t *truth) entered(name string) {
	t.reached.LoginsWorked++
	t.knows(name)
	t.name("account:", name)
}

// knows notes an account that an attacker learned of.
func (t *truth) knows(name string) {
	t.list(&t.reached.Accounts, &t.reached.AccountsTotal, "account ", name)
}

func (w *world) labels() []Label {
	var list []Label
	for pass := range 2 {
		for _, g := range w.groups {
			t := &g.truth
			if t.episode != (pass == 1) || len(t.principals) == 0 || t.episode && t.attempts == 0 {
				continue
			}
			l := Label{Profile: g.profile}
			for p := range t.principals {
				l.Principals = append(l.Principals, p)
			}
			slices.Sort(l.Principals)
			if !t.episode {
				l.Benign = g.name
				list = append(list, l)
				continue
			}
			first := w.start.Add(time.Duration(t.first) * time.Microsecond)
			last := w.start.Add(time.Duration(t.last) * time.Microsecond)
			l.Episode, l.Type, l.Start, l.End, l.Attempts = g.name, g.attack.Type, &first, &last, t.attempts
			l.Note = g.attack.note()
			r := t.reached
			r.Objects, r.Accounts = append([]string{}, r.Objects...), append([]string{}, r.Accounts...)
			l.Reached = &r
			list = append(list, l)
		}
	}
	return list
}
