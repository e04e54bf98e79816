package detectors

import (
	"fmt"

	"weir/pipeline"
)

// probePath sees clients that look for what might be there: wordlists, backup
// files, admin pages, exploits that try a path.
//
// Evidence: the first contact with each path either misses (400 403 404 405 410
// 501; of ids, where one of them is known to be there, only the first
// miss counts) or hits; misses are tested
// against the cohort's over-dispersed share. Paths that scanners ask for and
// people do not add the logarithm of how much rarer they are among people, up
// to the cap of one event; here-popular ones add nothing. A miss that came with
// a referer counts half: something pointed at it. At least three distinct
// misses over two seconds, so that no single event ever alerts.
//
// Misses: scanners that ask only for what exists; servers that answer 200 to
// everything (until soft 404s are learned); more than about 17 sources that share one
// wordlist. Looks like it: a site whose links broke, a mirror of an old site, a
// misconfigured agent. Half-life 7 days. OWASP API9, ATT&CK T1595.003.
type probePath struct{}

// probeState is 48 bytes.
type probeState struct {
	misses trial
	listed int32         // Nats from wordlist paths
	onset  pipeline.Time // of the first miss that counted
	missed uint16        // distinct misses
	named  uint16        // distinct wordlist paths
	found  uint16        // 2xx answers to paths that people do not ask for
	secure uint16        // misses answered 403

	softSize int32  // of the last 2xx to a path that no template knows
	softs    uint16 // how many like it in a row
}

func newProbePath() detector { return probePath{} }

// dedicatedProbe is the number of distinct misses from which a scan is meant
// for this host and no longer background noise.
const dedicatedProbe = 40

// ownWords is the number of distinct misses from which page-level evidence is no
// background noise either, where at most a quarter of them is on scanners' lists:
// what everybody's host is asked for is on them.
const ownWords = 16

// dedicated reports whether the scan is meant for this host.
func (st *probeState) dedicated() bool {
	return st.missed >= dedicatedProbe || st.missed >= ownWords && 4*st.named <= st.missed && st.score() >= pipeline.PageAt
}

// toldProbe is the number of distinct misses from which even background noise is
// told at once and not at the end of the minute.
const toldProbe = 16

func (probePath) observe(p *Profile, o *pipeline.Observation, s *scope) (pipeline.Nats, bool) {
	st := &p.probe
	if !s.freshPath {
		return 0, false
	}
	now := seconds(o.Time)
	if !o.Has(pipeline.ObsMiss) && !st.soft(o) {
		if o.Status >= 200 && o.Status < 400 && !o.Has(pipeline.ObsStatic) {
			st.misses.observe(s.b.Probe.Beta, false, countScale, now, halfLifeSeconds)
			if o.Rarity > 0 && o.Status < 300 && st.missed >= 3 {
				st.found++
				return st.score(), true
			}
		}
		return 0, false
	}
	weight := uint32(countScale)
	if o.Has(pipeline.ObsLinked) {
		weight /= 2
	}
	before := st.misses.score()
	st.decay(now)
	st.misses.observe(s.b.Probe.Beta, true, weight, now, halfLifeSeconds)
	if rise := symbolCap - max(0, st.misses.score()-before); o.Rarity > 0 && rise > 0 {
		st.listed = int32(min(pipeline.Nats(st.listed)+min(o.Rarity, rise), 1000*pipeline.Nat))
		st.named = bump(st.named)
	}
	if st.missed == 0 || st.onset == 0 {
		st.onset = o.Time
	}
	st.missed = bump(st.missed)
	if o.Status == 403 {
		st.secure = bump(st.secure)
	}
	return st.score(), true
}

// soft reports a miss in a hit's clothes: sites that answer 200 to everything
// answer paths that they do not have with one page, whose size gives it away.
// From the third such answer on they count.
func (st *probeState) soft(o *pipeline.Observation) bool {
	if !o.Has(pipeline.ObsUnknown) || o.Status < 200 || o.Status >= 300 || o.Bytes <= 0 || o.Bytes >= 1<<30 {
		return false
	}
	size := int32(o.Bytes)
	if d := size - st.softSize; d > st.softSize/50 || -d > st.softSize/50 {
		st.softSize, st.softs = size, 0
	}
	st.softs = bump(st.softs)
	return st.softs >= 3
}

// bump counts without wrapping.
func bump(n uint16) uint16 {
	if n < 1<<16-1 {
		n++
	}
	return n
}

// decay tempers the wordlist evidence with the trial's age.
func (st *probeState) decay(now uint32) {
	if now > st.misses.at && now-st.misses.at >= halfLifeSeconds/256 {
		f := int64(halfPower(uint64(now-st.misses.at) << 16 / halfLifeSeconds))
		st.listed = int32(int64(st.listed) * f >> 16)
	}
	if st.misses.score() == 0 && st.listed == 0 {
		st.onset, st.missed, st.named, st.found, st.secure = 0, 0, 0, 0, 0
	}
}

func (st *probeState) score() pipeline.Nats {
	if st.missed < 3 {
		return 0
	}
	return st.misses.score() + pipeline.Nats(st.listed)
}

func (probePath) phase(p *Profile) uint8 {
	switch st := &p.probe; {
	case st.found > 0:
		return 2
	case st.dedicated():
		return 1
	}
	return 0
}

func (probePath) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	st := &p.probe
	dst = append(dst, pipeline.FindingSignal{
		Name: "first_contact_miss", Observed: float64(st.missed), Expected: expected(st.missed, b.Probe),
		Count: int64(st.missed), Nats: st.misses.score(), Baseline: b.baseline(b.Probe),
	})
	if st.listed > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "wordlist_path", Observed: float64(st.named), Expected: 0,
			Count: int64(st.named), Nats: pipeline.Nats(st.listed), Baseline: pipeline.Baseline{Kind: "prior"},
		})
	}
	return dst
}

// expected is what the cohort would have missed of as many first contacts.
func expected(n uint16, p Prior) float64 {
	return float64(int64(p.Mean()*float64(n)*100+0.5)) / 100
}

func (probePath) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	st := &p.probe
	f.Onset = st.onset
	found := int64(st.found)
	f.Outcome.Attempted = int64(st.missed) + found
	f.Outcome.Succeeded = &found
	f.Outcome.Basis = "status"
	if st.secure > 0 {
		blocked := int64(st.secure)
		f.Outcome.Blocked, f.Outcome.BlockedBy = &blocked, "403"
	}
	f.Facts.Succeeded = false
	f.Facts.CanSucceed = found > 0
	f.Facts.Opportunistic = found == 0 && !st.dedicated()
	f.Title = fmt.Sprintf("Path probing from %s", f.Who.Value)
	share := 100 * b.Probe.Mean()
	f.Reason = fmt.Sprintf("Asked for %s that do not exist here (ordinary clients miss %.0f %% of the paths they try)%s%s.",
		plural(int64(st.missed), "different path", "different paths"), share,
		when(st.named > 0, fmt.Sprintf("; %d of them are on scanners' word lists", st.named)),
		when(found > 0, fmt.Sprintf("; %s answered", plural(found, "rare path", "rare paths"))))
	if found > 0 {
		f.Next = append(f.Next, fmt.Sprintf("Check the %s that answered 2xx: see the exemplars", plural(found, "path", "paths")))
	}
	f.Next = append(f.Next, blockAdvice(f))
	f.BenignIf = []string{"a vulnerability scan that you ordered", "old or broken links that point here"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %d distinct paths had missed", max(3, needed(b.Probe.Beta, st)))
	f.Attack = []string{"T1595.003", "T1595.002"}
	f.OWASP = []string{"API9:2023"}
	f.OAT = []string{"OAT-014", "OAT-018"}
}

// needed is how many misses reach the review level without any hit.
func needed(null Beta, st *probeState) int {
	var t trial
	for i := 1; i <= 500; i++ {
		t.observe(null, true, countScale, 1, halfLifeSeconds)
		if t.score()+pipeline.Nats(st.listed) >= pipeline.ReviewAt {
			return i
		}
	}
	return 500
}
