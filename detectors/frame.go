package detectors

import (
	"fmt"

	"weir/pipeline"
)

// Frame is the evidence of one detector by itself: one principal at a time, what
// was observed straight into the detector's part of its profile, without
// templates, tables and case files around it. Calibration measures it: millions of
// clients whose habits are drawn from the priors. One goroutine uses a Frame.
type Frame struct {
	detector detector
	evidence func(p *Profile, b *Baselines) pipeline.Nats
	p        Profile
	sc       scope
}

// NewFrame returns the frame of the detector called name under b.
func NewFrame(b *Baselines, name string) (*Frame, error) {
	f := &Frame{evidence: frameEvidence(name)}
	for _, e := range catalog() {
		if e.name == name {
			f.detector = e.new()
		}
	}
	if f.detector == nil || f.evidence == nil {
		return nil, fmt.Errorf("%s: no detector of single clients has this name", name)
	}
	f.sc.b, f.sc.v = b, newObserver(pipeline.ShippedEdition().Templates, b)
	return f, nil
}

// frameEvidence is what name holds against a client. Of many accounts it is the
// evidence before there are enough of them for a case.
func frameEvidence(name string) func(p *Profile, b *Baselines) pipeline.Nats {
	switch name {
	case "probe.path":
		return func(p *Profile, _ *Baselines) pipeline.Nats { return p.probe.score() }
	case "auth.bruteforce":
		return func(p *Profile, _ *Baselines) pipeline.Nats { return p.login.guessing() }
	case "enum.object":
		return func(p *Profile, _ *Baselines) pipeline.Nats { return p.worst().score() }
	case "scrape.crawl":
		return func(p *Profile, b *Baselines) pipeline.Nats { return p.crawl.score(b) }
	case "auth.stuffing", "auth.spraying":
		return func(p *Profile, _ *Baselines) pipeline.Nats { return p.login.spreadScore() }
	case "enum.user":
		return func(p *Profile, _ *Baselines) pipeline.Nats { return max(p.ask.score(), p.login.namesScore()) }
	case "inject.probe":
		return func(p *Profile, _ *Baselines) pipeline.Nats { return p.inject.score() }
	case "data.exposure":
		return func(p *Profile, b *Baselines) pipeline.Nats {
			return max(p.exposedScore(b), p.taken.score())
		}
	case "volume.flood":
		return func(p *Profile, b *Baselines) pipeline.Nats { return p.flood.score(b) }
	}
	return nil
}

// Begin forgets the principal; the next See is another's.
func (f *Frame) Begin() { f.p = Profile{} }

// See takes what was observed of one request, r, on an endpoint of which endpoint
// is known (nil: nothing), and returns the evidence against the principal after
// it. It keeps no reference to what it is given.
func (f *Frame) See(o *pipeline.Observation, r *pipeline.Request, endpoint *EndpointBaseline) pipeline.Nats {
	p, sc, now := &f.p, &f.sc, seconds(o.Time)
	p.touch(o.Time, o.Agent)
	sc.r, sc.endpoint, sc.freshObject = r, endpoint, false
	sc.freshItem = p.seen.add(o.Item, now)
	sc.freshPath = sc.freshItem
	switch {
	case o.Has(pipeline.ObsLogin):
		p.login.take(p, o, sc)
	case o.Has(pipeline.ObsAsks):
		p.ask.take(p, o, sc)
	}
	f.detector.observe(p, o, sc)
	return f.evidence(p, sc.b)
}

// WideFrame is what Frame is for the evidence of a wider view, about one account,
// key or reader of others' objects at a time.
type WideFrame struct {
	k        knot
	junction junction
	table    table
	s        pipeline.Signal
}

// NewWideFrame returns the frame under b of what is met at an account, for a key,
// or of contacts with objects of others.
func NewWideFrame(b *Baselines, at pipeline.Meeting, name string) (*WideFrame, error) {
	c, err := NewCorrelator(Config{}, pipeline.ShippedEdition())
	if err != nil {
		return nil, err
	}
	f := &WideFrame{k: knot{c: c, b: b}}
	for _, j := range c.junctions {
		if j.wants(at) && j.name() == name {
			f.junction = j
		}
	}
	if f.junction == nil {
		return nil, fmt.Errorf("%s: nothing of this name is met there", name)
	}
	c.shards[0] = &crossing{tables: make([]table, 2*len(c.junctions)), awake: make([]bool, 2*len(c.junctions))}
	f.Begin()
	return f, nil
}

// Begin forgets what was met; the next call is about another.
func (f *WideFrame) Begin() { f.table = f.junction.open() }

const frameKey = 0x77656972 << 24

func (f *WideFrame) meet(o *pipeline.Observation, r *pipeline.Request) {
	f.k.now, f.s.Key, f.s.Sender, f.s.Facts = o.Time, frameKey, o.Owner, *o
	f.s.Request = pipeline.Ordered{Request: r}
	f.table.meet(&f.k, &f.s)
	f.k.out, f.k.queue = f.k.out[:0], f.k.queue[:0]
}

// Login takes a login at the account and returns the evidence of guessing at it
// and of its being taken over.
func (f *WideFrame) Login(o *pipeline.Observation, r *pipeline.Request) (guessing, takeover pipeline.Nats) {
	f.s.Kind = kindLogin
	f.meet(o, r)
	row := f.table.(*accountTable).row(frameKey)
	return row.guessScore(), row.takeoverScore()
}

// Key takes a request with the key and returns the evidence of its misuse.
func (f *WideFrame) Key(o *pipeline.Observation, r *pipeline.Request) (score pipeline.Nats) {
	f.s.Kind = kindKeyNews
	f.meet(o, r)
	_, score = f.table.(*keyTable).row(frameKey).parts()
	return score
}

// Contact takes a first contact with an object; by says whose it is, 0 nobody
// else's. It returns the evidence against who asked.
func (f *WideFrame) Contact(o *pipeline.Observation, r *pipeline.Request, by uint32) pipeline.Nats {
	f.s.Kind = contactOwn | contactLate
	if by != 0 {
		f.s.Kind |= contactForeign
	}
	share := f.k.b.Share
	f.s.Value = uint64(share.A)<<16/uint64(share.A+share.B) | 1<<16 | uint64(by)<<32
	f.meet(o, r)
	if t := f.table.(*ledgerTable); len(t.Ledgers) > 0 {
		return t.Ledgers[0].score()
	}
	return 0
}
