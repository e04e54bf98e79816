package detectors

import (
	"encoding/json"
	"fmt"
	"slices"

	"weir/pipeline"
)

// endpointBroken sees an endpoint that everybody is suddenly refused at: a deploy
// that broke it, a store behind it that is gone. No client is to blame for its
// misses there, so alert takes them out of the findings that list them
// (Finding.Shares) for as long as the notice speaks of.
//
// A CUSUM of sampled clients' first contacts with paths, each miss once a client,
// weighs an outage, where nine in ten miss, against the share that missed until
// then. Many attackers who come only to be refused look like one to it; but they
// do not keep others from being served, so those who are must have become rare: at
// most a fifth of what the hour before the onset makes expect.
//
// Misses: paths that no template knows; endpoints with less than about two dozen
// first contacts an hour; faults for a part of the clients. A notice of level
// endpoint, never a page.
type endpointBroken struct{}

func (endpointBroken) name() string                  { return "health.endpoint" }
func (endpointBroken) wants(m pipeline.Meeting) bool { return m == pipeline.MeetTemplate }
func (endpointBroken) open() table                   { return &brokenTable{} }

// missSignal is the Kind of a first contact with a path of a known template that
// missed, or that the server failed at.
const missSignal uint8 = 9

const (
	brokenClients = 8 // sampled ones
	brokenServed  = 8 // contacts that must have been expected by then
	brokenBin     = pipeline.Time(5 * 60e6)
	brokenBins    = 12                       // of which the rate of served contacts is told
	brokenStep    = 5 * pipeline.Nat / 2     // what one client can say
	brokenShare   = 230                      // of 256 that miss where something is broken
	brokenLeast   = 5                        // of 256 that miss where nothing is, at least
	brokenQuiet   = pipeline.Time(10 * 60e6) // between two revisions of a notice
)

// missed reports a first contact that endpointBroken wants to know of: the
// counterpart of contact.
func missed(o *pipeline.Observation, sc *scope) bool {
	return (o.Has(pipeline.ObsMiss) || o.Status >= 500) && o.Has(pipeline.ObsRead) && sc.freshPath && o.Template != 0 &&
		(sampledClient(o.Owner) || o.Owner>>12&3 == 0) &&
		o.Flags&(pipeline.ObsStatic|pipeline.ObsUnknown|pipeline.ObsAuto|pipeline.ObsLogin|pipeline.ObsBorrowed) == 0
}

// brokenTable is sorted by template.
type brokenTable struct{ All []*brokenState }

type brokenState struct {
	Key    uint64
	Bin    int64              // that Bins[Bin % brokenBins] counts
	Since  int64              // the first one
	Bins   [brokenBins]uint16 // contacts that were served, ring
	Miss   uint32             // of Seen, that missed while nothing was broken
	Seen   uint32
	Sum    pipeline.Nats // CUSUM
	Onset  pipeline.Time
	Hourly uint32    // contacts an hour that were served before Onset
	Run    linear256 // clients that missed in this run
	Missed uint32    // how many
	Served uint32    // contacts since Onset that were not refused
	Again  uint32    // misses of clients that missed before
	ID     string    // of the notice
	Told   pipeline.Time
}

func (t *brokenTable) meet(k *knot, s *pipeline.Signal) {
	if s.Kind != missSignal && s.Kind != contactSignal {
		return
	}
	i, ok := slices.BinarySearchFunc(t.All, s.Key, func(b *brokenState, key uint64) int { return compare(b.Key, key) })
	if !ok {
		if s.Kind == missSignal || len(t.All) >= maxNoticed {
			return // nobody was served there yet
		}
		bin := int64(s.Facts.Time / brokenBin)
		t.All = slices.Insert(t.All, i, &brokenState{Key: s.Key, Bin: bin, Since: bin})
	}
	b := t.All[i]
	b.turn(int64(s.Facts.Time / brokenBin))
	if s.Kind == contactSignal {
		at := b.Bin % brokenBins
		b.Bins[at] = bump(b.Bins[at])
	}
	b.hear(k, s)
}

// turn begins the bins up to bin.
func (b *brokenState) turn(bin int64) {
	for n := 0; b.Bin < bin && n < brokenBins; n++ {
		b.Bin++
		b.Bins[b.Bin%brokenBins] = 0
	}
	b.Bin = max(b.Bin, bin)
}

// hourly is how many contacts an hour are served, of the bins before this one.
func (b *brokenState) hourly() uint32 {
	sum, bins := uint32(0), min(b.Bin-b.Since, brokenBins-1)
	if bins < brokenBins/2 {
		return 0
	}
	for i := range b.Bins {
		if int64(i) != b.Bin%brokenBins {
			sum += uint32(b.Bins[i])
		}
	}
	return sum * uint32(3600e6/brokenBin) / uint32(bins)
}

// hear takes a contact.
func (b *brokenState) hear(k *knot, s *pipeline.Signal) {
	miss := s.Kind == missSignal
	run := b.Run
	run.add(pipeline.Mix64(s.Sender, 33)) // the sample is chosen by bits of the hash
	if miss && run == b.Run && b.Sum > 0 {
		// One client counts once, until all have: then another round begins.
		if b.Again++; b.Again >= driftReference {
			b.Run, b.Again = linear256{}, 0
		}
		b.tell(k, s)
		return
	}
	inc := b.ratio(miss)
	if b.Sum+inc <= 0 {
		b.learn(miss)
		b.Sum, b.Run, b.Missed, b.Served, b.Again, b.ID, b.Told = 0, linear256{}, 0, 0, 0, "", 0
		return
	}
	if b.Sum == 0 {
		b.Onset, b.Hourly = s.Facts.Time, b.hourly()
	}
	b.Sum = min(b.Sum+inc, 2*pipeline.PageAt) // it is mended when a few clients say so
	if k.traced() {
		traceEndpoint(k, s, "health.endpoint", b.Sum, inc > 0)
	}
	if !miss {
		b.Served++
		return
	}
	b.Run = run
	b.Missed++
	b.tell(k, s)
}

// expected is how many contacts should have been served since the onset.
func (b *brokenState) expected(now pipeline.Time) int64 {
	return int64(b.Hourly) * int64(now-b.Onset) / 3600e6
}

// tell says that the endpoint is broken, when it is, and now and then while it is.
func (b *brokenState) tell(k *knot, s *pipeline.Signal) {
	served := b.expected(s.Facts.Time)
	if b.Sum < pipeline.ReviewAt || b.Missed < brokenClients || b.Told != 0 && s.Facts.Time-b.Told < brokenQuiet ||
		served < brokenServed || int64(b.Served)*5 > served {
		return
	}
	b.Told = s.Facts.Time
	k.emit(b.finding(k, s, served))
}

// learn counts a contact while nothing is broken.
func (b *brokenState) learn(miss bool) {
	if b.Seen++; miss {
		b.Miss++
	}
	if b.Seen >= 1<<10 {
		b.Seen, b.Miss = b.Seen/2, b.Miss/2
	}
}

// usual is the share of contacts that miss otherwise, of 256.
func (b *brokenState) usual() uint64 {
	return max(brokenLeast, (256*uint64(b.Miss)+2*brokenLeast*8)/(uint64(b.Seen)+16))
}

// ratio is what a client's contact says for a fault.
func (b *brokenState) ratio(miss bool) pipeline.Nats {
	usual := min(b.usual(), brokenShare)
	if miss {
		return min(brokenStep, lnRatio(brokenShare, usual))
	}
	return max(-brokenStep, lnRatio(256-brokenShare, 256-usual))
}

func (b *brokenState) finding(k *knot, s *pipeline.Signal, served int64) pipeline.Finding {
	f := endpointFinding(k, s, "health.endpoint", b.Onset)
	if b.ID == "" {
		b.ID = f.ID
	}
	f.ID = b.ID
	f.Facts.Excuses = true
	f.Score = b.Sum
	f.Signals = []pipeline.FindingSignal{{
		Name: "clients_refused", Observed: float64(b.Missed), Expected: float64(uint64(b.Missed+b.Served)*b.usual()) / 256, Count: int64(b.Missed), Nats: b.Sum,
		Baseline: pipeline.Baseline{Kind: "own", N: int64(b.Seen)},
	}}
	f.Outcome.Requests, f.Outcome.Attempted = int64(b.Missed+b.Served), int64(b.Missed)
	f.Title = fmt.Sprintf("%s fails for everybody", f.Who.Value)
	f.Reason = fmt.Sprintf("All of %s looked at were refused there since %s, and %s where about %d would have been served: something broke, and misses there count against nobody.",
		plural(int64(b.Missed), "client", "clients"), b.Onset.Std().UTC().Format("15:04 UTC"), pick(b.Served == 0, "nobody was served", fmt.Sprintf("%d answers were given", b.Served)), served)
	f.Next = []string{"Look at what was deployed, and at what the endpoint depends on"}
	f.BenignIf = []string{"an endpoint that was taken away on purpose"}
	f.WouldNotFireIf = "as many clients were served there as before"
	return f
}

func (*brokenTable) tick(*knot, pipeline.Time) {}

func (t *brokenTable) encode(dst []byte) ([]byte, error) { return appendJSON(dst, t.All) }
func (t *brokenTable) decode(data []byte) error          { return json.Unmarshal(data, &t.All) }
