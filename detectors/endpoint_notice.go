package detectors

import (
	"encoding/json"
	"fmt"
	"slices"

	"weir/pipeline"
)

// What many clients see together at one endpoint, and no client is to blame
// for. Detect sends the first contact of a principal with each path that was
// granted (contactSignal); both junctions here take those.
//
// sizeDrift: the endpoint's answers became larger for everybody, as when a
// release returns more fields than before. A CUSUM over half-octave bins of
// size: the reference is the first two hundred answers by at least twenty
// clients, the alternative is the same shifted up by half an octave to four.
//
// flashCrowd: many clients that are new to the endpoint come within ten minutes,
// none of them odd: an audience, no attack. It is told so that nobody mistakes
// it for one.
//
// Both are notices of level endpoint and never page.

// contactSignal is the Kind of these signals at MeetTemplate.
const contactSignal uint8 = 7

// sampledClient picks one principal in sixteen, which is told of from its
// first request on: crowds are made of clients with two or three.
func sampledClient(owner uint64) bool { return owner>>8&15 == 0 }

// contact reports a request that both junctions want to know of.
func contact(o *pipeline.Observation, sc *scope) bool {
	return (sampledClient(o.Owner) || o.Owner>>12&3 == 0) && sc.freshPath && o.Has(pipeline.ObsRead) && o.Status >= 200 && o.Status < 300 && o.Status != 206 && o.Bytes >= 0 && o.Template != 0 &&
		o.Flags&(pipeline.ObsStatic|pipeline.ObsUnknown|pipeline.ObsAuto|pipeline.ObsLogin|pipeline.ObsBorrowed) == 0
}

const (
	driftReference = 200 // answers that make a reference
	driftClients   = 20  // distinct, for a reference and for a notice
	driftBins      = 80
	driftStep      = 5 * pipeline.Nat / 2 // what one answer can say
	driftQuiet     = 24 * 3600e6          // between two notices of one endpoint

	crowdWindow  = 600 // seconds
	crowdHistory = 6   // windows before the first notice
	crowdClients = 20  // sampled ones
	crowdFactor  = 8
	crowdQuiet   = 6 * 3600e6

	// maxNoticed bounds the endpoints of one virtual shard; templates are bounded
	// where they are learned, and beyond this new ones wait.
	maxNoticed = 64
)

type sizeDrift struct{}

func (sizeDrift) name() string                  { return "data.exposure" }
func (sizeDrift) wants(m pipeline.Meeting) bool { return m == pipeline.MeetTemplate }
func (sizeDrift) open() table                   { return &driftTable{} }

type flashCrowd struct{}

func (flashCrowd) name() string                  { return "volume.flood" }
func (flashCrowd) wants(m pipeline.Meeting) bool { return m == pipeline.MeetTemplate }
func (flashCrowd) open() table                   { return &crowdTable{} }

// driftTable is sorted by endpoint.
type driftTable struct{ All []*driftState }

type driftState struct {
	Key     uint64
	Before  [driftBins]uint16 // the reference
	N       uint32
	Clients linear256
	Sum     pipeline.Nats // CUSUM
	Onset   pipeline.Time
	After   [driftBins]uint16 // since the sum last was zero
	M       uint32
	Again   uint32 // left out of this round
	Larger  uint32 // of M, the ones that speak for a shift
	Run     linear256
	Told    pipeline.Time
}

// halfOctave is the bin of a size.
func halfOctave(n int64) int { return min(driftBins-1, int(binOf(uint64(n)))/4) }

func (t *driftTable) meet(k *knot, s *pipeline.Signal) {
	if s.Kind != contactSignal {
		return
	}
	i, ok := slices.BinarySearchFunc(t.All, s.Key, func(d *driftState, key uint64) int { return compare(d.Key, key) })
	if !ok {
		if len(t.All) >= maxNoticed {
			return
		}
		t.All = slices.Insert(t.All, i, &driftState{Key: s.Key})
	}
	d := t.All[i]
	bin := halfOctave(s.Facts.Bytes)
	if d.N < driftReference || d.Clients.count() < driftClients {
		if d.N < 1<<15 {
			d.Before[bin]++
			d.N++
		}
		d.Clients.add(s.Sender)
		return
	}
	run := d.Run
	run.add(s.Sender)
	if run == d.Run {
		if k.traced() {
			traceEndpoint(k, s, "data.exposure", d.Sum, false)
		}
		// One client counts once, until all have: then another round begins.
		if d.Again++; d.Again >= driftReference {
			d.Run, d.Again = linear256{}, 0
		}
		return
	}
	inc := d.ratio(bin)
	if d.Sum+inc <= 0 {
		d.calm()
		return
	}
	if d.Sum == 0 {
		d.Onset = s.Facts.Time
	}
	d.Sum += inc
	if k.traced() {
		traceEndpoint(k, s, "data.exposure", d.Sum, inc > 0)
	}
	d.Run = run
	d.After[bin]++
	d.M++
	if inc > 0 {
		d.Larger++
	}
	if d.Sum < pipeline.ReviewAt || d.Larger < driftClients || 5*d.Larger < 2*d.M {
		if d.M > 1<<14 {
			d.calm()
		}
		return
	}
	if d.Told == 0 || s.Facts.Time-d.Told > driftQuiet {
		k.emit(d.finding(k, s))
		d.Told = s.Facts.Time
	}
	// What it is now is what comes next is compared with, once that is known.
	*d = driftState{Key: d.Key, Told: d.Told, Before: d.After, N: d.M, Clients: d.Run}
}

// calm begins a new run.
func (d *driftState) calm() {
	d.Sum, d.M, d.Larger, d.Again, d.After, d.Run = 0, 0, 0, 0, [driftBins]uint16{}, linear256{}
}

// ratio is what an answer of this bin says for a shift up.
func (d *driftState) ratio(bin int) pipeline.Nats {
	smooth := func(b int) (n uint64) {
		if b < 0 || b >= driftBins {
			return 0
		}
		n = 2 * uint64(d.Before[b])
		if b > 0 {
			n += uint64(d.Before[b-1])
		}
		if b+1 < driftBins {
			n += uint64(d.Before[b+1])
		}
		return n
	}
	var shifted uint64
	for _, by := range [...]int{1, 2, 3, 4, 6, 8} {
		shifted += smooth(bin - by)
	}
	// Both sides are leaned on with a twentieth of the reference, spread out.
	lean := uint64(d.N) * 4 / 20
	return max(-driftStep, min(driftStep, lnRatio(shifted*4+lean, smooth(bin)*24+lean)))
}

func median(bins *[driftBins]uint16, n uint32) int64 {
	left := int64(n+1) / 2
	for b := range bins {
		if left -= int64(bins[b]); left <= 0 {
			return int64(binTop(uint8(min(255, 4*b+3))))
		}
	}
	return 0
}

// traceEndpoint tells who follows the evidence what s is to a notice about its
// endpoint.
func traceEndpoint(k *knot, s *pipeline.Signal, detector string, score pipeline.Nats, counted bool) {
	k.trace(s, Traced{Detector: detector, Owner: noticedEndpoint(k, s).Hash(), Score: score, Counted: counted, Part: true})
}

// noticedEndpoint is the endpoint of s as a notice names it.
func noticedEndpoint(k *knot, s *pipeline.Signal) pipeline.Principal {
	r := s.Request
	return pipeline.Principal{
		Kind:  pipeline.PrincipalEndpoint,
		Value: clean(r.Method, 16) + " " + clean(r.Host, 128) + string(k.templates().AppendText(nil, r.Host, r.Path)),
	}
}

// endpointFinding begins a notice about the endpoint of s.
func endpointFinding(k *knot, s *pipeline.Signal, detector string, onset pipeline.Time) pipeline.Finding {
	r := s.Request
	template := string(k.templates().AppendText(nil, r.Host, r.Path))
	who := noticedEndpoint(k, s)
	bytes := s.Facts.Bytes
	return pipeline.Finding{
		ID: findingID(family(detector), who.Hash(), onset), Time: s.Facts.Time, Detector: detector, Level: "endpoint", Who: who,
		Onset: onset, First: onset, Last: s.Facts.Time, FirstSeen: onset, Sampled: 1,
		Endpoint: pipeline.Endpoint{Method: clean(r.Method, 16), Host: clean(r.Host, 128), Template: template},
		Facts:    pipeline.FindingFacts{Notice: true},
		Outcome:  pipeline.Outcome{Basis: "unknown"},
		Backfill: r.Flags&pipeline.FlagBackfill != 0,
		Exemplars: []pipeline.Exemplar{{
			Time: r.Time, IP: r.Address.String(), Method: clean(r.Method, 16), Path: clean(r.Path, 256), Status: int(r.Status), Bytes: &bytes, Agent: clean(r.Agent, 160), Source: source(r),
		}},
	}
}

func (d *driftState) finding(k *knot, s *pipeline.Signal) pipeline.Finding {
	f := endpointFinding(k, s, "data.exposure", d.Onset)
	before, after := median(&d.Before, d.N), median(&d.After, d.M)
	clients := int64(d.Larger)
	f.Score = d.Sum
	f.Signals = []pipeline.FindingSignal{{
		Name: "answer_size", Observed: float64(after), Expected: float64(before), Count: int64(d.M), Nats: d.Sum,
		Baseline: pipeline.Baseline{Kind: "own", N: int64(d.N)},
	}}
	f.Outcome.Requests, f.Outcome.Attempted = int64(d.M), int64(d.M)
	f.Title = fmt.Sprintf("Answers of %s grew for everybody", f.Who.Value)
	f.Reason = fmt.Sprintf("Its answers grew from about %s to about %s for %s since %s, whoever asks: no client did this.",
		amount(before), amount(after), plural(clients, "client", "clients"), d.Onset.Std().UTC().Format("15:04 UTC"))
	f.Next = []string{"Compare an answer with one from before: does it show fields that clients must not see?"}
	f.BenignIf = []string{"a release that returns more on purpose", "a catalogue that grew"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %d clients had been given larger answers", driftClients)
	f.OWASP = []string{"API3:2023"}
	return f
}

func (*driftTable) tick(*knot, pipeline.Time) {}

func (t *driftTable) encode(dst []byte) ([]byte, error) { return appendJSON(dst, t.All) }
func (t *driftTable) decode(data []byte) error          { return json.Unmarshal(data, &t.All) }

func appendJSON(dst []byte, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	return append(dst, data...), err
}

// crowdTable is sorted by endpoint.
type crowdTable struct{ All []*crowdState }

type crowdState struct {
	Key     uint64
	Window  int64 // of ten minutes
	Clients linear256
	Odd     linear256 // of these, with evidence against them
	Base    int64     // clients in a window, 1/256
	Windows int64     // closed ones
	Told    pipeline.Time
}

func (t *crowdTable) meet(k *knot, s *pipeline.Signal) {
	if s.Kind != contactSignal || !sampledClient(s.Sender) {
		return
	}
	i, ok := slices.BinarySearchFunc(t.All, s.Key, func(c *crowdState, key uint64) int { return compare(c.Key, key) })
	window := int64(s.Facts.Time) / (crowdWindow * 1e6)
	if !ok {
		if len(t.All) >= maxNoticed {
			return
		}
		t.All = slices.Insert(t.All, i, &crowdState{Key: s.Key, Window: window})
	}
	c := t.All[i]
	if window > c.Window {
		c.Base += (int64(c.Clients.count())*256 - c.Base) / min(8, c.Windows+1)
		gap := window - c.Window
		for range min(gap-1, 64) {
			c.Base -= c.Base / 8
		}
		c.Windows = min(c.Windows+gap, 1<<20)
		c.Window, c.Clients, c.Odd = window, linear256{}, linear256{}
	}
	h := pipeline.Mix64(s.Sender, 21) // the sample is chosen by bits of the hash
	c.Clients.add(h)
	if k.traced() {
		traceEndpoint(k, s, "volume.flood", 0, true)
	}
	if s.Score >= dossierAt {
		c.Odd.add(h)
	}
	n := c.Clients.count()
	if n < crowdClients || c.Windows < crowdHistory || int64(n)*256 < crowdFactor*max(c.Base, 256) || 4*c.Odd.count() > n ||
		c.Told != 0 && s.Facts.Time-c.Told < crowdQuiet {
		return
	}
	c.Told = s.Facts.Time
	f := endpointFinding(k, s, "volume.flood", pipeline.Time(window*crowdWindow*1e6))
	f.Score = lnRatio(uint64(n)*256, uint64(max(c.Base, 256))) * pipeline.Nats(crowdClients)
	f.Signals = []pipeline.FindingSignal{{
		Name: "clients_10_minutes", Observed: float64(16 * n), Expected: float64(16*c.Base) / 256, Count: int64(n), Nats: f.Score,
		Baseline: pipeline.Baseline{Kind: "own", N: c.Windows},
	}}
	f.Outcome.Requests, f.Outcome.Attempted = int64(16*n), int64(16*n)
	f.Title = fmt.Sprintf("Flash crowd on %s", f.Who.Value)
	f.Reason = fmt.Sprintf("About %d clients came within ten minutes where about %d do otherwise; each does as much as usual, so this is an audience and no flood.",
		16*n, 16*c.Base/256)
	f.Next = []string{"Nothing, if the server keeps up"}
	f.BenignIf = []string{"a campaign, a newsletter or news that points here"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than about %d clients had come", 16*crowdFactor*max(c.Base, 256)/256)
	k.emit(f)
}

func (*crowdTable) tick(*knot, pipeline.Time) {}

func (t *crowdTable) encode(dst []byte) ([]byte, error) { return appendJSON(dst, t.All) }
func (t *crowdTable) decode(data []byte) error          { return json.Unmarshal(data, &t.All) }
