package detectors

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"weir/pipeline"
)

// Correlator is the state of the correlate stage: it sees together what several
// principals did to one object, one account, one endpoint. It is sharded by
// meeting key like detect is by principal, so that no result depends on how many
// processes share the work: as one slice of one stage (Config.Stage) it is given the
// signals that meet there, in the order of their places, and what its tables send on
// to other stages is in Sent. One goroutine uses it.
type Correlator struct {
	cfg       Config
	edition   *pipeline.Edition
	hash      string
	baselines *Baselines
	junctions []junction
	families  []families // of junctions
	shards    [pipeline.Shards]*crossing
	seq       uint64
	minute    int64
	begun     bool
	k         knot

	takers  [pipeline.Meetings][]int // junctions that want a meeting's signals, and are on
	here    [pipeline.Meetings]bool  // signals of these meet here and not in another process
	sent    []pipeline.Signal        // for other processes, of the last Process
	awake   []uint16                 // shards with tables that want a tick, in any order
	truths  []Truth                  // of login endpoints: the one in use, and those that will be
	learned []Truth                  // not yet taken by Learned
	relearn bool                     // a table learned something since the last tick
}

// junction is one question about what meets. Its state is one table for each
// virtual shard of meeting keys.
type junction interface {
	// name is the detector whose findings it makes.
	name() string
	// wants reports whether signals of this meeting are its own.
	wants(m pipeline.Meeting) bool
	// open makes an empty table.
	open() table
}

// table is the state of one junction in one virtual shard: bounded, and a
// function of the signals in their order.
type table interface {
	// meet takes the next signal.
	meet(k *knot, s *pipeline.Signal)
	// tick ends a minute at the given time; it is called when the table asked for
	// it with wake since the last one.
	tick(k *knot, at pipeline.Time)
	// encode appends the state to dst, for a checkpoint; decode is its inverse,
	// on an empty table. Wakes are kept by the correlator.
	encode(dst []byte) ([]byte, error)
	decode(data []byte) error
}

// crossing is one virtual shard of the correlator.
type crossing struct {
	tables []table // by junction; nil where nothing met; then those of what is set aside
	awake  []bool  // of tables: wants a tick
	dirty  bool
}

// knot is what a table may use during a call.
type knot struct {
	c        *Correlator
	n        uint16 // the shard at hand
	junction int
	now      pipeline.Time
	b        *Baselines
	out      []pipeline.Finding
	queue    []pipeline.Signal // sent on by tables, to be taken next
	place    pipeline.Place    // of the signal at hand, or of the table that ticks
	emitted  int               // findings because of it
	passed   int               // signals
}

// junctions lists what correlate asks, in the order in which signals are taken.
// To add one: a file with its doc and code, and a line here.
func junctions() []junction {
	return []junction{
		loginTruth{},
		sizeDrift{},
		flashCrowd{},
		endpointBroken{},
		ownerJunction{},
		shareJunction{},
		ledgerJunction{},
		scrapeCrowd{},
		loginJunction{},
		accountJunction{},
		keyJunction{},
	}
}

// NewCorrelator returns a correlator that works under edition.
func NewCorrelator(cfg Config, edition *pipeline.Edition) (*Correlator, error) {
	c := &Correlator{cfg: cfg, junctions: junctions()}
	for _, j := range c.junctions {
		c.families = append(c.families, familyBit(j.name()))
	}
	for m := range c.takers {
		if c.here[m] = cfg.Stage == 0 || cfg.Stage == pipeline.StageOf(pipeline.Meeting(m)); !c.here[m] {
			continue
		}
		for j, of := range c.junctions {
			if of.wants(pipeline.Meeting(m)) && cfg.Modes[of.name()] != ModeOff {
				c.takers[m] = append(c.takers[m], j)
			}
		}
	}
	return c, c.SetEdition(edition)
}

// SetEdition makes e the edition in force from the next signal on.
func (c *Correlator) SetEdition(e *pipeline.Edition) error {
	b, err := DecodeBaselines(e.Detectors)
	if err != nil {
		return err
	}
	c.edition, c.hash, c.baselines = e, e.Hash(), b
	c.k.c, c.k.b = c, b
	return nil
}

// Edition returns the edition in force.
func (c *Correlator) Edition() *pipeline.Edition { return c.edition }

// Process takes the next signal and appends the findings to dst.
func (c *Correlator) Process(dst []pipeline.Finding, s *pipeline.Signal) []pipeline.Finding {
	clear(c.sent)
	c.sent = c.sent[:0]
	now := s.Facts.Time
	if s.Place.Depth() > 0 {
		now = s.Request.Effective // it may be about an earlier request
	}
	dst = c.Advance(dst, max(now, s.Place.Time()))
	c.k.now = now
	c.take(s)
	// What tables send on is taken before the next signal. It cannot run on: what
	// is sent goes one way, from objects to templates to principals.
	for j := 0; j < len(c.k.queue) && j < maxSentOn; j++ {
		next := c.k.queue[j]
		c.take(&next)
	}
	clear(c.k.queue)
	c.k.queue = c.k.queue[:0]
	return c.flush(dst)
}

// Sent returns what the last Process sends on to other stages, in the order of
// places; valid until the next one.
func (c *Correlator) Sent() []pipeline.Signal { return c.sent }

// maxSentOn bounds what one signal can set off.
const maxSentOn = 64

// Advance tells the correlator that event time reached now. Tables that are awake
// tick at the end of every minute, however seldom it is called.
func (c *Correlator) Advance(dst []pipeline.Finding, now pipeline.Time) []pipeline.Finding {
	minute := minuteOf(now)
	if !c.begun {
		c.begun, c.minute = true, minute
	}
	for ; c.minute < minute; c.minute++ {
		if len(c.awake) == 0 {
			c.minute = minute
			break
		}
		dst = c.tick(dst, pipeline.Time((c.minute+1)*60e6))
	}
	return dst
}

// tick ends the minute that ends at at.
func (c *Correlator) tick(dst []pipeline.Finding, at pipeline.Time) []pipeline.Finding {
	c.k.now = at
	slices.Sort(c.awake)
	due := slices.Compact(c.awake)
	c.awake = nil // a tick may wake again
	for _, n := range due {
		x := c.shards[n]
		for j := range x.awake {
			if !x.awake[j] {
				continue
			}
			x.awake[j], x.dirty = false, true
			c.k.at(n, j, pipeline.PlaceOfCrossTick(at, n, j))
			x.tables[j].tick(&c.k, at)
		}
	}
	c.gatherTruth(at)
	return c.flush(dst)
}

func (c *Correlator) take(s *pipeline.Signal) {
	n := pipeline.Shard(s.Key)
	c.k.at(n, 0, s.Place)
	for _, j := range c.takers[s.Meeting] {
		if s.Spare&c.families[j] != 0 {
			continue
		}
		x := c.shards[n]
		if x == nil {
			x = &crossing{tables: make([]table, 2*len(c.junctions)), awake: make([]bool, 2*len(c.junctions))}
			c.shards[n] = x
		}
		of := c.junctions[j]
		if s.Aside {
			j += len(c.junctions)
		}
		if x.tables[j] == nil {
			x.tables[j] = of.open()
		}
		x.dirty = true
		c.k.junction = j
		x.tables[j].meet(&c.k, s)
	}
}

// at says where the knot is.
func (k *knot) at(shard uint16, junction int, p pipeline.Place) {
	k.n, k.junction, k.place, k.emitted, k.passed = shard, junction, p, 0, 0
}

func (c *Correlator) flush(dst []pipeline.Finding) []pipeline.Finding {
	for i := range c.k.out {
		f := &c.k.out[i]
		c.seq++
		f.Seq = c.seq
		f.Edition, f.Shadow = c.hash, c.cfg.Modes[f.Detector] == ModeShadow
		dst = append(dst, *f)
	}
	clear(c.k.out)
	c.k.out = c.k.out[:0]
	return dst
}

// send passes a signal on to where it meets others. Ticks send nothing.
func (k *knot) send(s pipeline.Signal) {
	if k.place.Depth() >= pipeline.MaxDepth {
		return // what is sent goes from objects to templates to principals, or from accounts to endpoints
	}
	s.Aside, s.Place = k.aside(), k.place.Sent(k.passed)
	k.passed++
	if k.c == nil || k.c.here[s.Meeting] {
		k.queue = append(k.queue, s)
	} else {
		k.c.sent = append(k.c.sent, s)
	}
}

// emit gives out a finding. Its Seq, Edition and Shadow are set by the
// correlator.
func (k *knot) emit(f pipeline.Finding) {
	f.Aside, f.Place = k.aside(), k.place.Emit(k.emitted)
	k.emitted++
	k.out = append(k.out, f)
}

// traced reports whether somebody follows the evidence, see Config.Trace.
func (k *knot) traced() bool { return k.c != nil && k.c.cfg.Trace != nil }

// trace says what s is in the case of x's detector against x's owner. Callers
// ask traced first.
func (k *knot) trace(s *pipeline.Signal, x Traced) {
	x.Wide, x.Request, x.Facts = true, &s.Request, &s.Facts
	k.c.cfg.Trace(x)
}

// wake asks for a tick at the end of the minute.
func (k *knot) wake() {
	if x := k.c.shards[k.n]; !x.awake[k.junction] {
		x.awake[k.junction] = true
		k.c.awake = append(k.c.awake, k.n)
	}
}

// templates are those of the edition in force.
func (k *knot) templates() *pipeline.Templates { return k.c.edition.Templates }

// CorrelatorHead is the part of the state outside the shards.
type CorrelatorHead struct {
	Layout string `json:"layout"`
	Seq    uint64 `json:"seq"`
	Minute int64  `json:"minute"`
	Begun  bool   `json:"begun"`

	Truths []Truth `json:"truths,omitempty"`
}

// correlatorLayout is changed with the bytes of any table.
const correlatorLayout = "3"

// Head returns the state outside the shards.
func (c *Correlator) Head() CorrelatorHead {
	return CorrelatorHead{Layout: correlatorLayout, Seq: c.seq, Minute: c.minute, Begun: c.begun, Truths: c.truths}
}

// crossingState is a shard in a checkpoint.
type crossingState struct {
	Tables map[string][]byte `json:"tables"` // by the junction's index and name
	Awake  []string          `json:"awake"`
}

// Changed calls f with every shard that changed since its last checkpoint (all,
// if all is set), and counts it as written when f returns nil.
func (c *Correlator) Changed(all bool, f func(n uint32, data []byte) error) error {
	for n, x := range c.shards {
		if x == nil || !x.dirty && !all {
			continue
		}
		st := crossingState{Tables: map[string][]byte{}}
		for j, t := range x.tables {
			if t == nil {
				continue
			}
			data, err := t.encode(nil)
			if err != nil {
				return fmt.Errorf("write %s: %w", c.label(j), err)
			}
			st.Tables[c.label(j)] = data
			if x.awake[j] {
				st.Awake = append(st.Awake, c.label(j))
			}
		}
		data, err := json.Marshal(st)
		if err != nil {
			return err
		}
		if err := f(uint32(n), data); err != nil {
			return err
		}
		x.dirty = false
	}
	return nil
}

func (c *Correlator) label(j int) string {
	if n := len(c.junctions); j >= n {
		return fmt.Sprintf("%d %s aside", j-n, c.junctions[j-n].name())
	}
	return fmt.Sprintf("%d %s", j, c.junctions[j].name())
}

// Restore takes over a head and the shards that chunk returns; nil is a shard
// that was never used. The correlator must be new.
func (c *Correlator) Restore(h CorrelatorHead, chunk func(n uint32) ([]byte, error)) error {
	if h.Layout != correlatorLayout {
		return ErrLayout
	}
	for n := range c.shards {
		data, err := chunk(uint32(n))
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		var st crossingState
		if err := json.Unmarshal(data, &st); err != nil {
			return fmt.Errorf("read crossing %d: %w", n, err)
		}
		x := &crossing{tables: make([]table, 2*len(c.junctions)), awake: make([]bool, 2*len(c.junctions))}
		known := 0
		for j := range x.tables {
			data, ok := st.Tables[c.label(j)]
			if !ok {
				continue
			}
			known++
			t := c.junctions[j%len(c.junctions)].open()
			if err := t.decode(data); err != nil {
				return fmt.Errorf("read crossing %d of %s: %w", n, c.label(j), errors.Join(ErrLayout, err))
			}
			x.tables[j] = t
			if x.awake[j] = slices.Contains(st.Awake, c.label(j)); x.awake[j] {
				c.awake = append(c.awake, uint16(n))
			}
		}
		if known != len(st.Tables) {
			return ErrLayout
		}
		c.shards[n] = x
	}
	c.seq, c.minute, c.begun, c.truths = h.Seq, h.Minute, h.Begun, h.Truths
	return nil
}
