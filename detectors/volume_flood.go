package detectors

import (
	"fmt"
	"time"

	"weir/pipeline"
)

// volumeFlood sees one client that sends far more requests than its kind does,
// for long enough that it is no burst.
//
// Evidence: requests in a minute and in ten minutes, as exponential windows,
// against a gamma-Poisson cohort (the busiest minute of each client is fitted),
// per person behind an address; the own past in its place, and days that grew
// slowly, see past.go. Preflights, assets, logins, misses, 304 and 206
// are not counted: browsers ask for the first, scripts poll and players fetch
// segments; the others are auth's and probe's. One burst is nothing: at least
// five seconds must have been busy by themselves. Volume alone stays at review
// level: a load test and a flood look alike. It pages when it hurts: a fifth of
// the answers are server errors, or take four times as long as the endpoint
// otherwise does in 99 of 100.
//
// Misses: many addresses with a little each; expensive requests at an ordinary
// rate. Looks like it: a load test, a partner's batch job. Half-lives 40 s and
// 400 s. OWASP API4, ATT&CK T1499.002.
type volumeFlood struct{}

// floodState is 56 bytes.
type floodState struct {
	minute, ten breadth
	onset       pipeline.Time
	second      uint32 // the running one
	inSecond    uint16
	busy        uint16 // seconds that were busy, since onset
	people      uint16
	peak        uint16 // requests in the busiest second
	counted     uint32 // since onset
	failed      uint32 // of these, answered 5xx
	slow        uint32
	limited     uint32 // 429
	grown       growth
}

func newVolumeFlood() detector { return volumeFlood{} }

const (
	minuteHalf = 40 // an exponential window as long as a minute
	tenHalf    = 400
	// busySecond is how many requests make a second busy, busyEnough how many
	// such seconds are no burst any more.
	busySecond, busyEnough = 4, 5
	// floodCap is between review and page.
	floodCap = 16 * pipeline.Nat
)

func (volumeFlood) observe(p *Profile, o *pipeline.Observation, s *scope) (pipeline.Nats, bool) {
	if s.r.Verb == pipeline.VerbOptions || o.Status == 304 || o.Status == 206 || o.Status == 0 {
		return 0, false
	}
	if o.Has(pipeline.ObsBorrowed) && !p.rotates() {
		return 0, false
	}
	st := &p.flood
	now := seconds(o.Time)
	st.minute.decay(now, minuteHalf)
	st.ten.decay(now, tenHalf)
	if st.ten.n < 4*breadthOne && st.counted > 0 {
		*st = floodState{minute: st.minute, ten: st.ten, grown: st.grown}
	}
	if st.counted == 0 {
		st.onset = o.Time
	}
	if now != st.second {
		st.second, st.inSecond = now, 0
	}
	st.inSecond = bump(st.inSecond)
	if st.inSecond == busySecond {
		st.busy = bump(st.busy)
	}
	st.peak = max(st.peak, st.inSecond)
	st.minute.add(breadthOne, now, minuteHalf)
	st.ten.add(breadthOne, now, tenHalf)
	st.counted++
	p.counted++
	p.busiest = max(p.busiest, uint16(min(st.minute.n/breadthOne, 1<<16-1)))
	switch {
	case o.Status == 429:
		st.limited++
	case o.Status >= 500:
		st.failed++
	}
	if s.endpoint != nil && s.endpoint.Slow > 0 && s.r.Duration > 4*s.endpoint.Slow {
		st.slow++
	}
	if st.counted < 16 || st.counted%16 == 0 {
		_, high := p.people(s.b)
		st.people = uint16(min(max(1, high-1), 1000))
	}
	score := st.score(s.b)
	return score, score > 0
}

// hurts reports that the server suffers from it.
func (st *floodState) hurts() bool {
	return st.failed >= 20 && 5*st.failed >= st.counted || st.slow >= 20 && 5*st.slow >= st.counted
}

func (st *floodState) score(b *Baselines) pipeline.Nats {
	return max(st.burst(b), st.grown.score())
}

func (st *floodState) burst(b *Baselines) pipeline.Nats {
	if st.busy < busyEnough {
		return 0
	}
	r := st.grown.rate(b.Volume)
	n := max(st.minute.nats(r, int(st.people)), st.ten.nats(tenMinutes(r), int(st.people)))
	n = max(0, n-ln2Nats) // for having had two windows to choose from
	if !st.hurts() {
		n = min(n, floodCap)
	}
	return n
}

// ln2Nats is ln 2.
const ln2Nats = pipeline.Nat * 693147 / 1000000

// tenMinutes is the rate of ten minutes for that of the busiest one: people are
// busy in bursts, so it is three times as many.
func tenMinutes(r Rate) Rate { return Rate{Mean: 3 * r.Mean, Shape: r.Shape, N: r.N} }

func (volumeFlood) phase(p *Profile) uint8 {
	if p.flood.hurts() {
		return 1
	}
	return 0
}

func (volumeFlood) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	st := &p.flood
	if n := st.grown.score(); n > st.burst(b) {
		return append(dst, grown(st.grown, "requests_day_growth", n))
	}
	name, w, r := "requests_minute", st.minute, st.grown.rate(b.Volume)
	if ten := tenMinutes(r); st.ten.nats(ten, int(st.people)) > st.minute.nats(r, int(st.people)) {
		name, w, r = "requests_10_minutes", st.ten, ten
	}
	return append(dst, pipeline.FindingSignal{
		Name: name, Observed: float64(w.n / breadthOne), Expected: float64(r.Mean) / 256, Count: int64(st.counted), Nats: st.burst(b), Baseline: st.grown.baseline(b, r.N),
	})
}

func (volumeFlood) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	st := &p.flood
	f.Onset = st.onset
	f.Outcome.Attempted = int64(st.counted)
	f.Outcome.Basis = "status"
	served := int64(st.counted) - int64(st.failed) - int64(st.limited)
	f.Outcome.Succeeded = &served
	if st.limited > 0 {
		limited := int64(st.limited)
		f.Outcome.Blocked, f.Outcome.BlockedBy = &limited, "429"
	}
	hurts := st.hurts()
	f.Facts.CanSucceed = hurts
	// What a program with a key does in bulk, and the server bears, is its job.
	f.Facts.Notice = (p.Flags&(profileKnown|profileDeclared) != 0 || f.Level == "key") && !hurts
	f.Title = fmt.Sprintf("Request flood from %s", f.Who.Value)
	took := max(time.Second, c.Last.Sub(st.onset))
	f.Reason = fmt.Sprintf("Sent %s in %s, up to %d in a second, where an ordinary client sends %.0f in its busiest minute%s; %s.",
		plural(int64(st.counted), "request", "requests"), span(took), st.peak, float64(b.Volume.Mean)/256,
		when(f.Endpoint.Template != "", ", most lately to "+f.Endpoint.Method+" "+f.Endpoint.Template),
		pick(hurts, fmt.Sprintf("it hurts: %d were answered with a server error, %d took four times as long as usual", st.failed, st.slow),
			pick(st.failed > 0, fmt.Sprintf("%s so far", plural(int64(st.failed), "server error", "server errors")), "the server keeps up")))
	if st.limited > 0 {
		f.Reason += fmt.Sprintf(" %d were rate-limited (429).", st.limited)
	}
	f.Next = append(f.Next, pick(hurts, blockAdvice(f), "Rate-limit "+f.Who.Value+", or ask whose job or load test this is"))
	f.BenignIf = []string{"a load test", "a batch job: add it to identity.known_clients"}
	f.WouldNotFireIf = fmt.Sprintf("it had sent fewer than about %d requests in a minute", floods(st.grown.rate(b.Volume)))
	if st.grown.score() > st.burst(b) {
		f.Next = nil
		describeGrowth(f, st.grown, "Slowly growing load from", func(n int64) string { return plural(n, "request", "requests") })
	}
	f.Attack = []string{"T1499.002", "T1499.003"}
	f.OWASP = []string{"API4:2023"}
	f.OAT = []string{"OAT-015", "OAT-021"}
}

// floods is how many requests in a minute reach the review level.
func floods(r Rate) int {
	for n := 20; n < 100000; n += max(1, n/50) {
		x := breadth{n: uint32(n) * breadthOne}
		if x.nats(r, 1)-ln2Nats >= pipeline.ReviewAt {
			return n
		}
	}
	return 100000
}
