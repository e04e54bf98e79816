package detectors

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"weir/pipeline"
)

// Config is the detection section of a configuration.
type Config struct {
	// Modes by detector name; absent ones are on.
	Modes map[string]Mode
	// Watch notices undeclared proxies: nothing is found against them. Nil: no
	// address is one. The set feeds it.
	Watch *pipeline.ProxyWatch
	// Logins says what a failed login looks like where the configuration does.
	Logins *pipeline.LoginRules
	// Labels are those of each source, by Block.Source.
	Labels map[string]map[string]string
	// Workers is how many goroutines share the virtual shards (0: one).
	Workers int
	// Cross takes the set's signals as they come, where both are one process; its
	// findings come out in their place among the set's. Nil: see Signals.
	Cross *Correlator
	// Trace is told what each detector made of each request about each principal,
	// before anything else is; nil: nothing. What it points to is valid during the
	// call. With one worker the calls come in the order of the requests.
	Trace func(Traced)
}

// Traced is what a detector made of a request.
type Traced struct {
	Detector string
	Owner    uint64 // of the principal that the request is evidence about
	Request  *pipeline.Ordered
	Facts    *pipeline.Observation
	Score    pipeline.Nats // of the principal after it, where Counted
	Counted  bool

	// Of correlate, whose principals are accounts, keys, cohorts and endpoints too.
	Wide bool
	// Part says that it belongs to the case even if it was not counted: it would be
	// if others were not there.
	Part bool
	// Late says that Owner was judged for an earlier request of its own with the
	// same Facts.Object; Request is another's, which settled whose that is. Of
	// Owner the low half may be missing.
	Late bool
}

// Set asks every detector about every request. It is the state of the detect
// stage; one goroutine calls its methods.
type Set struct {
	cfg       Config
	entries   []entry
	detectors []detector
	edition   *pipeline.Edition
	hash      string
	baselines *Baselines
	v         *observer // for what is decided before the work is shared
	shards    [pipeline.Shards]*shard
	workers   []*worker
	seq       uint64
	minute    int64 // of the last tick
	begun     bool
	noticed   string            // the proxy notice given last
	told      []told            // of the segment at hand
	signals   []pipeline.Signal // of the last Process, for another process
	warm      uint64            // see worker.warm
	truthSeq  uint64            // of the login truth in use
	places    *pipeline.Places
	silences  *pipeline.Silences
}

// worker owns the virtual shards whose number is its own modulo the number of
// workers.
type worker struct {
	set   *Set
	id    int
	v     *observer
	out   []placed
	told  []told
	mine  []visit // of the batch at hand
	obs   pipeline.Observation
	sc    scope
	hot   map[uint16]int // shards with changed cases → how many
	salt  uint64         // what the key of the principal at hand differs by from it
	spare families       // that are not asked about the visit at hand
	arena arena
	warm  uint64 // keeps what was read ahead from being optimized away
}

// placed is a finding with the place in the batch that caused it.
type placed struct {
	at, detector int
	owner        uint64
	first        bool // the case's first
	f            pipeline.Finding
}

// NewSet returns a set that detects under edition; an unknown detector name is
// an error.
func NewSet(cfg Config, edition *pipeline.Edition) (*Set, error) {
	s := &Set{cfg: cfg, places: pipeline.NewPlaces(), silences: pipeline.NewSilences(cfg.Labels, suppressedFamilies)}
	for name := range cfg.Modes {
		if !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("detect.%s: no such detector; there are %v", name, Names())
		}
	}
	for _, e := range catalog() {
		e.family = familyBit(e.name)
		s.entries = append(s.entries, e)
		s.detectors = append(s.detectors, e.new())
	}
	for i := range max(1, cfg.Workers) {
		s.workers = append(s.workers, &worker{set: s, id: i, hot: map[uint16]int{}})
	}
	return s, s.SetEdition(edition)
}

// SetEdition makes e the edition in force from the next request on.
func (s *Set) SetEdition(e *pipeline.Edition) error {
	b, err := DecodeBaselines(e.Detectors)
	if err != nil {
		return err
	}
	s.edition, s.hash, s.baselines = e, e.Hash(), b
	s.v = newObserver(e.Templates, b)
	for _, w := range s.workers {
		w.v = newObserver(e.Templates, b)
		w.v.logins, w.v.truth = s.cfg.Logins, s.v.truth
		w.sc.b, w.sc.v = b, w.v
	}
	s.truthSeq = 0
	s.learn()
	s.silences.Forget()
	return nil
}

// Edition returns the edition in force.
func (s *Set) Edition() *pipeline.Edition { return s.edition }

// Process detects over a batch that is in order and appends the findings to
// dst, in an order that depends on the requests alone.
func (s *Set) Process(dst []pipeline.Finding, batch []pipeline.Ordered) []pipeline.Finding {
	s.signals = s.signals[:0]
	s.learn()
	for len(batch) > 0 {
		minute := int64(batch[0].Effective) / 60e6
		if !s.begun {
			s.begun, s.minute = true, minute
		}
		if minute > s.minute {
			dst = s.Advance(dst, batch[0].Effective)
		}
		end := (s.minute + 1) * 60e6
		n := len(batch)
		if int64(batch[n-1].Effective) >= end {
			// Effective times never go back, so the minute ends at one place.
			n, _ = slices.BinarySearchFunc(batch, end, func(o pipeline.Ordered, end int64) int {
				if int64(o.Effective) < end {
					return -1
				}
				return 1
			})
			n = max(n, 1)
		}
		dst = s.segment(dst, batch[:n])
		batch = batch[n:]
	}
	return dst
}

// Advance tells the set that event time reached now without a request.
func (s *Set) Advance(dst []pipeline.Finding, now pipeline.Time) []pipeline.Finding {
	if minute := int64(now) / 60e6; s.begun && minute > s.minute {
		dst = s.tick(dst, minute)
	}
	if s.cfg.Cross != nil {
		dst = s.cfg.Cross.Advance(dst, now)
		s.learn()
	}
	return dst
}

// parallelFrom is the batch size from which handing shards to goroutines pays.
const parallelFrom = 512

func (s *Set) segment(dst []pipeline.Finding, batch []pipeline.Ordered) []pipeline.Finding {
	n := uint16(len(s.workers))
	for _, w := range s.workers {
		w.mine = w.mine[:0]
	}
	quiet := s.silences.None()
	give := func(i int, owner uint64, as role) {
		if !quiet {
			s.give(i, &batch[i], owner, as)
			return
		}
		w := s.workers[pipeline.Shard(owner)%n]
		w.mine = append(w.mine, visit{i: int32(i), as: as, owner: owner})
	}
	for i := range batch {
		r := batch[i].Request
		if r.PathKey == 0 {
			r.Seal() // here, before the workers share it
		}
		if r.Kind == pipeline.PrincipalIP || r.Address.IsZero() {
			give(i, r.Owner, asOwner)
			continue
		}
		if !s.owns(r) {
			give(i, r.Address.Owner(), asAddress)
			continue
		}
		give(i, r.Owner, asOwner)
		give(i, r.Address.Owner(), asLender)
	}
	parallel := n > 1 && len(batch) >= parallelFrom
	if !parallel {
		for _, w := range s.workers {
			w.take(batch)
		}
	} else {
		if s.cfg.Watch != nil {
			s.cfg.Watch.Mark()
		}
		var wg sync.WaitGroup
		for _, w := range s.workers[1:] {
			wg.Go(func() { w.take(batch) })
		}
		wg.Go(func() { s.watch(batch) })
		s.workers[0].take(batch)
		wg.Wait()
	}
	var all []placed
	for _, w := range s.workers {
		all = append(all, w.out...)
		w.out = w.out[:0]
	}
	signals := s.gather()
	if len(all) == 0 {
		if !parallel {
			s.watch(batch)
		}
		for i := range signals {
			dst = s.relay(dst, &signals[i].Signal)
		}
		return dst
	}
	slices.SortStableFunc(all, func(a, b placed) int {
		if a.at != b.at {
			return a.at - b.at
		}
		if a.detector != b.detector {
			return a.detector - b.detector
		}
		return compareStrings(a.f.ID, b.f.ID)
	})
	for _, p := range s.judge(batch, all, parallel) {
		for len(signals) > 0 && signals[0].at < p.at {
			dst = s.relay(dst, &signals[0].Signal)
			signals = signals[1:]
		}
		dst = s.number(dst, p.f)
	}
	for i := range signals {
		dst = s.relay(dst, &signals[i].Signal)
	}
	return dst
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (s *Set) number(dst []pipeline.Finding, f pipeline.Finding) []pipeline.Finding {
	s.seq++
	f.Seq = s.seq
	return append(dst, f)
}

// tick ends the minutes before minute: every open case that moved says so.
func (s *Set) tick(dst []pipeline.Finding, minute int64) []pipeline.Finding {
	at := pipeline.Time((s.minute + 1) * 60e6)
	s.minute = minute
	dst = s.suspects(dst, at)
	var all []placed
	for _, w := range s.workers {
		for n := range w.hot {
			sh := s.shards[n]
			sh.dirty = true // what was told is state too
			for _, d := range sh.cases {
				for i, c := range d.Cases {
					if c == nil || !c.Changed || !c.Opened {
						continue
					}
					if s.withheld(d) {
						c.Opened, c.Changed = c.Sent, false
						continue
					}
					if st, fresh := sh.find(d.Owner); !fresh && st.full != 0 {
						all = append(all, placed{f: w.finding(at, i, sh.profile(st.full-1), d, c), detector: i})
						c.Sent = true
					}
					c.Changed = false
				}
			}
		}
		clear(w.hot)
	}
	slices.SortFunc(all, func(a, b placed) int {
		if a.f.Last != b.f.Last {
			if a.f.Last < b.f.Last {
				return -1
			}
			return 1
		}
		if a.f.ID != b.f.ID {
			return compareStrings(a.f.ID, b.f.ID)
		}
		return a.detector - b.detector
	})
	for i := range all {
		dst = s.number(dst, all[i].f)
	}
	return dst
}

// visit is one principal's look at request i of a batch: its owner's, or its
// address's.
type visit struct {
	i     int32
	as    role
	aside bool     // a suppression set it aside: owner is the key of that
	spare families // that are not asked
	owner uint64
}

// role is in which quality a principal sees a request.
type role uint8

const (
	asOwner   role = iota
	asAddress      // the address owns it, whatever credential it names
	asLender       // the address, where a credential owns it
)

// readAhead is how many visits are looked up before the first of them is made:
// what each waits for in memory, it waits for together with the others.
const readAhead = 16

func (w *worker) take(batch []pipeline.Ordered) {
	for mine := range slices.Chunk(w.mine, readAhead) {
		sum := w.warm
		for _, v := range mine {
			r := batch[v.i].Request
			sum += w.v.paths[r.PathKey&(pathCache-1)].key + uint64(r.Status) + uint64(len(r.Referer))
		}
		for _, v := range mine {
			sum += w.set.shards[pipeline.Shard(v.owner)].warm(v.owner)
		}
		w.warm = sum
		for _, v := range mine {
			w.salt, w.spare = 0, v.spare
			if v.aside {
				w.salt = asideSalt
			}
			w.visit(int(v.i), &batch[v.i], v.owner, v.as)
		}
	}
}

// visit lets every detector see request i about one principal: its owner, or
// its address when a credential owns it (borrowed).
func (w *worker) visit(i int, r *pipeline.Ordered, owner uint64, as role) {
	if r.Kind == pipeline.PrincipalNone {
		return
	}
	n := pipeline.Shard(owner)
	sh := w.set.shards[n]
	if sh == nil {
		sh = new(shard)
		w.set.shards[n] = sh
	}
	sh.dirty = true
	st, fresh := sh.find(owner)
	now := seconds(r.Effective)
	if fresh {
		st.first = now
	}
	st.last = now
	if st.requests < 1<<16-1 {
		st.requests++
	}
	miss := r.Status >= 400 || r.Flags&pipeline.FlagAppFailed != 0
	if st.full == 0 && st.requests < promoteAt && !miss && r.Flags&(pipeline.FlagLogin|pipeline.FlagAsks) == 0 && r.Payloads == 0 && !w.proven(r.Request, as) {
		if r.Status != 0 {
			st.hits++
		}
		if as != asLender && sampledClient(owner^w.salt) {
			w.glimpse(i, st, r)
		}
		return
	}
	if st.full != 0 && !miss && as == asOwner && w.set.cfg.Trace == nil && w.asset(sh, sh.profile(st.full-1), r) {
		return
	}
	o := &w.obs
	endpoint := w.v.observe(o, r.Request)
	o.Owner = owner ^ w.salt
	var p *Profile
	if st.full == 0 {
		p = sh.promote(st, &w.arena)
		p.Kind = r.Kind
		if as != asOwner {
			p.Kind = pipeline.PrincipalIP
		}
		// What the stub saw were hits; they speak for the principal.
		for range st.hits {
			p.probe.misses.observe(w.sc.b.Probe.Beta, false, countScale, now, halfLifeSeconds)
		}
		p.First = pipeline.Time(st.first) * 1e6
		p.Requests = uint32(st.requests) - 1
	} else {
		p = sh.profile(st.full - 1)
	}
	if day := p.touch(o.Time, o.Agent); day != 0 && w.salt == 0 {
		sh.endDay(p, day, w.sc.b)
	}
	if as == asLender {
		o.Flags |= pipeline.ObsBorrowed
		p.borrowed++
		p.credentials.add(r.Owner)
	}
	if p.Requests < 64 && w.v.declares(r.Request) {
		p.Flags |= profileDeclared
	}
	if r.Flags&pipeline.FlagKnown != 0 {
		p.Flags |= profileKnown
	}
	p.place(r.Request)
	sc := &w.sc
	sc.endpoint, sc.r = endpoint, r.Request
	sc.freshItem, sc.freshPath, sc.freshObject = false, false, false
	// A preflight leaves the first contact to the request behind it.
	if (!o.Has(pipeline.ObsStatic) || o.Has(pipeline.ObsMiss)) && !preflight(r.Request) {
		sc.freshItem = p.seen.add(o.Item, now)
		path := o.Path
		if o.Flags&(pipeline.ObsSlot|pipeline.ObsUnknown|pipeline.ObsMiss) == pipeline.ObsSlot|pipeline.ObsMiss && (endpoint != nil || p.met(o.Template)) {
			path = pipeline.Mix64(o.Template, 3) // misses of ids are enum.object's
		}
		sc.freshPath = sc.freshItem
		if path != o.Item {
			sc.freshPath = p.seen.add(path, now)
		}
	}
	if o.Flags&(pipeline.ObsLogin|pipeline.ObsAsks) != 0 && w.spare&familyAuth == 0 {
		w.account(sh, p, r, as)
	}
	entries, trace, spare := w.set.entries, w.set.cfg.Trace, w.spare
	for k, d := range w.set.detectors {
		if e := &entries[k]; e.of != 0 && o.Flags&e.of == 0 || o.Flags&e.not != 0 || spare&e.family != 0 {
			continue
		}
		score, counted := d.observe(p, o, sc)
		if trace != nil {
			trace(Traced{Detector: entries[k].name, Owner: o.Owner, Request: r, Facts: o, Score: score, Counted: counted})
		}
		if counted && score >= dossierAt {
			w.counted(i, k, score+p.listed(score), sh, n, p, r, as)
		}
	}
	if o.Object != 0 && granted(o.Status) {
		w.touch(sh, p, r)
	}
	w.follow(i, p, r)
	if as != asLender {
		w.tell(i, p, r)
	}
}

// asset counts a request for a file that a page is made of, if r is one and no
// more than that: no detector judges it. It reports whether it was.
func (w *worker) asset(sh *shard, p *Profile, r *pipeline.Ordered) bool {
	if r.Verb != pipeline.VerbGet || r.Kind != pipeline.PrincipalIP || r.Payloads != 0 || r.Flags != 0 || r.Query != "" || p.tried.at != 0 ||
		!w.v.factsOf(r.Request).asset() {
		return false
	}
	if day := p.touch(r.Effective, r.AgentKey); day != 0 && w.salt == 0 {
		sh.endDay(p, day, w.sc.b)
	}
	if p.Requests < 64 && w.v.declares(r.Request) {
		p.Flags |= profileDeclared
	}
	return true
}

// counted keeps the request as an example and emits a finding when the case
// opens or changes in kind.
func (w *worker) counted(i, k int, score pipeline.Nats, sh *shard, n uint16, p *Profile, r *pipeline.Ordered, as role) {
	s := w.set
	if s.cfg.Modes[s.entries[k].name] == ModeOff {
		return
	}
	if p.Flags&profileSuspect != 0 {
		return
	}
	who := r.Principal()
	if as != asOwner {
		who = pipeline.Principal{Kind: pipeline.PrincipalIP, Value: r.Address.PrincipalValue()}
	}
	d := sh.openCase(p.Owner, who, score, len(s.detectors))
	if d == nil {
		return
	}
	d.Aside = w.salt != 0
	if s.cfg.Labels != nil && r.Block != nil {
		d.label(s.cfg.Labels[r.Block.Source])
	}
	d.adopt(k, s.entries)
	c := d.note(k, *r, s.places.Network(r.Request), &w.obs, s.edition.Templates)
	c.Score = score
	if score < pipeline.ReviewAt && !c.Opened {
		return
	}
	phase := s.detectors[k].phase(p)
	// Background noise waits for the end of the minute: by then it may have
	// turned out to be more than that.
	quiet := s.entries[k].name == "probe.path" && phase == 0 && p.probe.missed < toldProbe
	if !quiet && (!c.Opened || phase > c.Phase || !c.Paged && score >= pipeline.PageAt) {
		w.emit(i, k, p, d, c)
		return
	}
	c.Opened, c.Changed = true, true
	w.hot[n] = 1
}

func (w *worker) emit(i, k int, p *Profile, d *dossier, c *caseFile) {
	f := w.finding(w.obs.Time, k, p, d, c)
	first := !c.Sent
	c.Opened, c.Sent, c.Changed = true, true, false
	c.Paged = c.Paged || f.Score >= pipeline.PageAt
	c.Phase = w.set.detectors[k].phase(p)
	w.out = append(w.out, placed{i, k, p.Owner, first, f})
}

// finding builds the whole case as it stands.
func (w *worker) finding(at pipeline.Time, k int, p *Profile, d *dossier, c *caseFile) pipeline.Finding {
	s := w.set
	low, high := p.people(s.baselines)
	f := pipeline.Finding{
		Time: at, Detector: s.entries[k].name, Level: level(d.Who.Kind), Who: d.Who,
		First: c.First, Last: c.Last, Endpoint: c.Endpoint,
		Outcome:   pipeline.Outcome{Requests: c.Requests},
		Addresses: slices.Clone(d.Addresses), AddressesTotal: max(len(d.Addresses), min(d.Distinct.count(), 1420)),
		Objects: slices.Clone(c.Objects), Truncated: c.Truncated, Supersedes: c.Supersedes,
		Agents: slices.Clone(d.Agents), JA4: slices.Clone(d.JA4), People: [2]int{low, high},
		FirstSeen: p.First, Rate5m: p.rate5m(), Exemplars: slices.Clone(c.Exemplars), Sampled: 1, Late: c.Late,
		Edition: s.hash, Aside: d.Aside, Backfill: c.Backfill, Shadow: s.cfg.Modes[s.entries[k].name] == ModeShadow, Labels: maps.Clone(d.Labels),
	}
	if len(d.Addresses) < maxAddresses {
		f.AddressesTotal = len(d.Addresses)
	}
	if !c.Unsized {
		bytes := c.Bytes
		f.Outcome.Bytes = &bytes
	}
	d.affected(&f, p)
	f.Signals = s.detectors[k].signals(nil, p, s.baselines)
	for _, sig := range f.Signals {
		f.Score += sig.Nats
	}
	f.Shares = c.shares(f.Signals)
	if n := p.listed(f.Score); n > 0 {
		f.Signals = append(f.Signals, listedSignal(n))
		f.Score += n
	}
	d.Origin.describe(&f)
	s.detectors[k].describe(&f, p, c, s.baselines)
	if f.Detector == "enum.object" {
		d.handed(&f, p.worst())
	}
	c.block(&f)
	if f.Onset == 0 {
		f.Onset = c.First
	}
	// The case file opens with the first evidence worth keeping; what the
	// detector counted before belongs to it too.
	f.Outcome.Requests = max(f.Outcome.Requests, f.Outcome.Attempted)
	if c.ID == "" {
		c.ID = findingID(family(f.Detector), p.Owner, f.Onset)
	}
	f.ID = c.ID
	f.First = min(f.First, f.Onset)
	return f
}

func findingID(family string, owner uint64, first pipeline.Time) string {
	a := pipeline.Mix64(pipeline.Mix64(pipeline.Hash64(family), owner), uint64(first))
	b := pipeline.Mix64(pipeline.Mix64(owner, pipeline.Hash64(family)), ^uint64(first))
	return hex64(a) + hex64(b)
}

func hex64(v uint64) string {
	s := strconv.FormatUint(v, 16)
	return "0000000000000000"[len(s):] + s
}

func level(k pipeline.PrincipalKind) string {
	switch k {
	case pipeline.PrincipalAccount, pipeline.PrincipalSubject:
		return "account"
	case pipeline.PrincipalKey:
		return "key"
	}
	return "client"
}

// Stats is the size of the state.
type Stats struct {
	Principals, Profiles, Cases                 int64
	EvictedStubs, EvictedProfiles, EvictedCases int64
}

// Stats counts the state; it walks all shards.
func (s *Set) Stats() (st Stats) {
	for _, sh := range s.shards {
		if sh == nil {
			continue
		}
		st.Principals += int64(sh.used)
		st.Profiles += int64(sh.count)
		st.Cases += int64(len(sh.cases))
		st.EvictedStubs += sh.evictedStubs
		st.EvictedProfiles += sh.evictedProfiles
		st.EvictedCases += sh.evictedCases
	}
	return st
}
