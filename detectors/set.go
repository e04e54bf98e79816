package detectors

import (
	"fmt"
	"slices"
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
	// Slices is into how many slices the virtual shards are dealt, where several
	// processes share them; the set begins with none of them, see AddSlice. 0: the
	// set has all.
	Slices int
	// Stage is the part of correlate that a Correlator is, where the others are
	// other processes; 0: all of it.
	Stage pipeline.Stage
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
	since     int64             // the first minute
	count     uint64            // requests taken, over all
	reached   pipeline.Place    // everything up to here is done
	floor     pipeline.Time     // the highest time that Advance was told
	noticed   string            // the proxy notice given last
	told      []told            // of the segment at hand
	signals   []pipeline.Signal // of the last Process, for another process
	warm      uint64            // see worker.warm
	truth     truthBook
	places    *pipeline.Places
	silences  *pipeline.Silences

	slices []setSlice
	behind int                   // slices that are further than the set is
	visits [pipeline.Shards]bool // virtual shards that are visited
	whole  bool                  // they all are
}

// worker owns the virtual shards whose number is its own modulo the number of
// workers.
type worker struct {
	set   *Set
	id    int
	v     *observer
	out   []placed
	told  []told
	given int                // of told, to gather
	index uint16             // of the next signal of the visit at hand
	batch []pipeline.Ordered // at hand
	ahead watchAhead
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
	f            pipeline.Finding
}

// NewSet returns a set that detects under edition; an unknown detector name is
// an error.
func NewSet(cfg Config, edition *pipeline.Edition) (*Set, error) {
	s := &Set{
		cfg: cfg, places: pipeline.NewPlaces(), silences: pipeline.NewSilences(cfg.Labels, suppressedFamilies),
		floor: pipeline.NoTime, truth: truthBook{through: pipeline.NoTime},
	}
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
	if cfg.Slices < 0 || cfg.Slices > pipeline.Shards {
		return nil, fmt.Errorf("%d slices: there are %d virtual shards", cfg.Slices, pipeline.Shards)
	}
	s.slices = make([]setSlice, max(1, cfg.Slices))
	s.slices[0].mine = cfg.Slices == 0
	s.deal()
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
	s.learn(true)
	s.silences.Forget()
	return nil
}

// Edition returns the edition in force.
func (s *Set) Edition() *pipeline.Edition { return s.edition }

// Process detects over a batch that is in order and appends the findings to
// dst, in an order that depends on the requests alone.
func (s *Set) Process(dst []pipeline.Finding, batch []pipeline.Ordered) []pipeline.Finding {
	dst, _ = s.Take(dst, batch)
	return dst
}

// Take is Process where correlate is another process: it stops, with every minute
// before it ended, at the first request of a minute for which what correlate
// learned is not known yet, see LearnTruth, and returns how many it took.
func (s *Set) Take(dst []pipeline.Finding, batch []pipeline.Ordered) (_ []pipeline.Finding, taken int) {
	s.signals = s.signals[:0]
	for taken < len(batch) {
		rest := batch[taken:]
		minute := minuteOf(rest[0].Effective)
		if !s.begun {
			s.begun, s.minute, s.since = true, minute, minute
			s.learn(false)
		}
		if minute > s.minute {
			dst = s.Advance(dst, rest[0].Effective)
		}
		if !s.ready() {
			break
		}
		end := pipeline.Time((s.minute + 1) * 60e6)
		n := len(rest)
		if rest[n-1].Effective >= end {
			// Effective times never go back, so the minute ends at one place.
			n, _ = slices.BinarySearchFunc(rest, end, func(o pipeline.Ordered, end pipeline.Time) int {
				if o.Effective < end {
					return -1
				}
				return 1
			})
			n = max(n, 1)
		}
		if s.behind > 0 {
			n = s.catchUp(rest[:n])
		}
		dst = s.segment(dst, rest[:n])
		s.reached = s.placeOf(rest, n-1).End()
		s.count += uint64(n)
		taken += n
	}
	return dst, taken
}

// placeOf is the place of request i of a batch, of which nothing is taken yet.
func (s *Set) placeOf(batch []pipeline.Ordered, i int) pipeline.Place {
	return pipeline.PlaceOfRequest(max(batch[i].Effective, s.floor), s.count+uint64(i))
}

// minuteOf is the minute of event time that t lies in.
func minuteOf(t pipeline.Time) int64 {
	m := int64(t) / 60e6
	if int64(t) < m*60e6 {
		m-- // before 1970
	}
	return m
}

// Advance tells the set that event time reached now without a request.
func (s *Set) Advance(dst []pipeline.Finding, now pipeline.Time) []pipeline.Finding {
	if !s.begun {
		return dst
	}
	if minute := minuteOf(now); minute > s.minute {
		dst = s.tick(dst, minute)
		if s.cfg.Cross != nil {
			dst = s.cfg.Cross.Advance(dst, now)
			s.truth.list = s.cfg.Cross.truths
		}
		s.learn(false)
	}
	s.floor = max(s.floor, now)
	if at := pipeline.PlaceReached(now); s.reached.Before(at) {
		s.reached = at
	}
	return dst
}

// parallelFrom is the batch size from which handing shards to goroutines pays.
const parallelFrom = 512

func (s *Set) segment(dst []pipeline.Finding, batch []pipeline.Ordered) []pipeline.Finding {
	for _, w := range s.workers {
		w.mine = w.mine[:0]
	}
	n, whole, quiet := uint16(len(s.workers)), s.whole, s.silences.None()
	give := func(i int, owner uint64, as role) {
		if !quiet {
			s.give(i, &batch[i], owner, as)
			return
		}
		if shard := pipeline.Shard(owner); whole || s.visits[shard] {
			w := s.workers[shard%n]
			w.mine = append(w.mine, visit{i: int32(i), as: as, owner: owner})
		}
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
	if len(s.workers) == 1 || len(batch) < parallelFrom {
		for _, w := range s.workers {
			w.take(batch)
		}
		s.watch(batch)
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
		if s.cfg.Watch != nil {
			s.cfg.Watch.Unmark()
		}
	}
	var all []placed
	for _, w := range s.workers {
		all = append(all, w.out...)
		w.out = w.out[:0]
	}
	signals := s.gather(quiet)
	slices.SortFunc(all, func(a, b placed) int {
		if a.at != b.at {
			return a.at - b.at
		}
		if a.detector != b.detector {
			return a.detector - b.detector
		}
		return compareStrings(a.f.ID, b.f.ID)
	})
	for i := range all {
		p := &all[i]
		for len(signals) > 0 && signals[0].at < p.at {
			dst = s.relay(dst, batch, &signals[0])
			signals = signals[1:]
		}
		dst = s.number(dst, p, s.placeOf(batch, p.at).Finding(p.detector, p.f.ID))
	}
	for i := range signals {
		dst = s.relay(dst, batch, &signals[i])
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

// number gives out p's finding.
func (s *Set) number(dst []pipeline.Finding, p *placed, at pipeline.Place) []pipeline.Finding {
	s.seq++
	p.f.Seq, p.f.Place, p.f.Slice = s.seq, at, s.sliceOf(p.owner)
	return append(dst, p.f)
}

// tick ends the minutes before minute: every open case that moved says so.
func (s *Set) tick(dst []pipeline.Finding, minute int64) []pipeline.Finding {
	at := pipeline.Time((s.minute + 1) * 60e6)
	if s.behind > 0 {
		s.wakeUp(pipeline.PlaceOfNotice(at))
	}
	s.minute = minute
	dst = s.suspects(dst, at)
	var all []placed
	for _, w := range s.workers {
		for n := range w.hot {
			if s.asleep(n) {
				continue
			}
			delete(w.hot, n)
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
						all = append(all, placed{f: w.finding(at, i, sh.profile(st.full-1), d, c), detector: i, owner: d.Owner})
						c.Sent = true
					}
					c.Changed = false
				}
			}
		}
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
		p := &all[i]
		dst = s.number(dst, p, pipeline.PlaceOfTick(at, p.f.Last, p.f.ID, p.detector))
	}
	s.reached = pipeline.PlaceReached(pipeline.Time(minute * 60e6))
	return dst
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
