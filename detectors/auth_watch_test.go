package detectors

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"weir/pipeline"
)

// site is logins at one endpoint, a window at a time.
type site struct {
	perDay      float64
	base, swing float64 // share that fails; how far it swings over the day
	noise       float64 // beyond chance, lasting six hours
	attack      float64 // malicious logins, as a share of the others
}

// run calls f with each window; attack starts on day start.
func (s site) run(seed uint64, days, start float64, f func(from, to pipeline.Time, n, k, bad int64) bool) {
	rng := rand.New(rand.NewPCG(seed, 31))
	at, x := 0.0, 0.0 // days
	for at < days {
		size := 500.0
		if s.perDay > 1e6 {
			size = 2000
		}
		rate := s.perDay * (1 + 0.6*math.Sin(2*math.Pi*at))
		bad := 0.0
		if at >= start {
			bad = s.attack * s.perDay
		}
		took := size / (rate + bad)
		decay := math.Exp(-took * 4)
		x = x*decay + s.noise*math.Sqrt(1-decay*decay)*rng.NormFloat64()
		p := min(max(s.base+s.swing*math.Sin(2*math.Pi*at+1)+x, 0.001), 0.99)
		n := int64(size)
		m := int64(0)
		if bad > 0 {
			m = binomial(rng, n, bad/(rate+bad))
		}
		k := m + binomial(rng, n-m, p)
		from := caseStart + pipeline.Time(at*86400e6)
		at += took
		if !f(from, caseStart+pipeline.Time(at*86400e6), n, k, m) {
			return
		}
	}
}

// binomial draws from a binomial distribution, near enough.
func binomial(rng *rand.Rand, n int64, p float64) (k int64) {
	if mean := float64(n) * p; mean > 30 {
		return min(max(int64(mean+math.Sqrt(mean*(1-p))*rng.NormFloat64()+.5), 0), n)
	}
	for range n {
		if rng.Float64() < p {
			k++
		}
	}
	return k
}

func quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	slices.Sort(xs)
	return xs[min(int(q*float64(len(xs))), len(xs)-1)]
}

func TestWatchRunLength(t *testing.T) {
	for _, s := range []site{
		{perDay: 2e3, base: .1, noise: .005},
		{perDay: 1e4, base: .1, noise: .002},
		{perDay: 1e4, base: .1, noise: .005},
		{perDay: 1e5, base: .1, noise: .002},
		{perDay: 1e5, base: .1, noise: .005},
		{perDay: 1e5, base: .1, noise: .015},
		{perDay: 1e5, base: .1, swing: .02, noise: .005},
		{perDay: 1e5, base: .3, noise: .005},
		{perDay: 1e5, base: .02, noise: .005},
		{perDay: 9e5, base: .1, noise: .005},
		{perDay: 2e6, base: .1, noise: .005},
		{perDay: 2e6, base: .1, noise: .002},
	} {
		alarms, days := 0, 0.0
		runs := 24
		early := 0
		for seed := range uint64(runs) {
			var w failWatch
			s.run(seed, 104, 1e9, func(from, to pipeline.Time, n, k, _ int64) bool {
				was := w.alarm
				w.window(from, to, n, k)
				if w.alarm && !was {
					if to-caseStart > 14*86400e6 {
						alarms++
					} else {
						early++
					}
				}
				return true
			})
			days += 90
			if seed == 0 {
				t.Logf("%+v: sigma %.4f level %.4f perHr %.1f limit %.4f", s, float64(w.sigma())/shareOne, float64(w.level)/shareOne, float64(w.perHr)/256, float64(w.limit)/shareOne)
			}
		}
		t.Logf("   %d alarms in %d runs of 90 days, %d in the first 14", alarms, runs, early)
	}
}

func TestWatchDelay(t *testing.T) {
	for _, s := range []site{
		{perDay: 1e4, base: .1, noise: .005, attack: .05},
		{perDay: 1e4, base: .1, noise: .005, attack: .10},
		{perDay: 1e5, base: .1, noise: .005, attack: .02},
		{perDay: 1e5, base: .1, noise: .005, attack: .03},
		{perDay: 1e5, base: .1, noise: .005, attack: .05},
		{perDay: 1e5, base: .1, noise: .002, attack: .02},
		{perDay: 9e5, base: .1, noise: .005, attack: .03},
		{perDay: 9e5, base: .1, noise: .005, attack: .02},
	} {
		var hours []float64
		covered, all, later, coveredLater, coveredSince := 0, 0, 0, 0, 0
		for seed := range uint64(24) {
			var w failWatch
			start := 14 + float64(seed)/24
			var bad, since int64
			found := 0.0
			s.run(seed, start+8, start, func(from, to pipeline.Time, n, k, m int64) bool {
				if w.near == 0 {
					since = 0
				}
				since += m
				bad += m
				w.window(from, to, n, k)
				at := float64(to-caseStart) / 86400e6
				if w.alarm && at > start && found == 0 {
					found = at
					hours = append(hours, (at-start)*24)
					all++
					e := w.estimate(w.rise, to)
					if e.Low <= bad && bad <= e.High {
						covered++
					}
					if e.Low <= since && since <= e.High {
						coveredSince++
					}
					t.Logf("%d %d %+v", bad, since, e)
				}
				if found > 0 && at > found+0.5 {
					later++
					e := w.estimate(w.rise, to)
					if e.Low <= bad && bad <= e.High {
						coveredLater++
					}
					return false
				}
				return true
			})
		}
		t.Logf("%+v: found %d of 24, median %.1f h, p90 %.1f; covered %d of %d, %d of %d, since onset %d", s, len(hours), quantile(hours, .5), quantile(hours, .9), covered, all, coveredLater, later, coveredSince)
	}
}
