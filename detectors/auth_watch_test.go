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

// TestWatchRunLength holds the watch to at most one false alarm in 90 days of an
// endpoint that only its own noise moves: the height of failWatch.height is from
// these simulations. Half of the shapes stay far below.
func TestWatchRunLength(t *testing.T) {
	const runs = 24
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
		early, late := 0, 0
		for seed := range uint64(runs) {
			var w failWatch
			s.run(seed, 104, 1e9, func(from, to pipeline.Time, n, k, _ int64) bool {
				was := w.alarm
				w.window(from, to, n, k)
				switch {
				case !w.alarm || was:
				case to-caseStart > 14*86400e6:
					late++
				default:
					early++
				}
				return true
			})
		}
		t.Logf("%8.0f a day, %2.0f %% fail, noise %.1f points, swing %.0f: %.2f false alarms in 90 days, %.2f in the first 14",
			s.perDay, s.base*100, s.noise*100, s.swing*100, float64(late)/runs, float64(early)/runs)
		if late > runs {
			t.Errorf("%+v: %d false alarms in %d runs of 90 days", s, late, runs)
		}
		if early*4 > runs {
			t.Errorf("%+v: %d false alarms in the first 14 days of %d runs", s, early, runs)
		}
	}
}

// TestWatchDelay holds how long attacks that share nothing stay unseen, on a site
// that weir knows for 14 days, and whether the 90 % interval covers what there was.
func TestWatchDelay(t *testing.T) {
	const runs = 48
	var all, covered int
	for _, c := range []struct {
		site
		median float64 // hours, at most
	}{
		{site{perDay: 1e4, base: .1, noise: .005, attack: .05}, 8},
		{site{perDay: 1e4, base: .1, noise: .005, attack: .10}, 4},
		{site{perDay: 1e5, base: .1, noise: .005, attack: .02}, 10},
		{site{perDay: 1e5, base: .1, noise: .005, attack: .03}, 4}, // 1,000 sources, 3 a day
		{site{perDay: 1e5, base: .1, noise: .005, attack: .05}, 2},
		{site{perDay: 1e5, base: .1, noise: .002, attack: .02}, 4},
		{site{perDay: 9e5, base: .1, noise: .005, attack: .02}, 4},
		{site{perDay: 9e5, base: .1, noise: .005, attack: .03}, 3},
	} {
		var hours []float64
		in := 0
		for seed := range uint64(runs) {
			var w failWatch
			start, bad := 14+float64(seed)/24, int64(0)
			c.run(seed, start+8, start, func(from, to pipeline.Time, n, k, m int64) bool {
				w.window(from, to, n, k)
				bad += m
				at := float64(to-caseStart)/86400e6 - start
				if !w.alarm || at < 0 {
					return true
				}
				hours = append(hours, at*24)
				all++
				if e := w.estimate(w.rise, to); e.Low <= bad && bad <= e.High {
					in++
					covered++
				}
				return false
			})
		}
		median := quantile(hours, .5)
		t.Logf("%8.0f a day, noise %.1f points, attack %2.0f %%: found %d of %d, median %.1f h, 90 %% within %.1f h; interval covers %d",
			c.perDay, c.noise*100, c.attack*100, len(hours), runs, median, quantile(hours, .9), in)
		if len(hours) < runs || median > c.median {
			t.Errorf("%+v: found %d of %d, median %.1f h, want %.1f", c.site, len(hours), runs, median, c.median)
		}
		if in*100 < len(hours)*75 {
			t.Errorf("%+v: the 90 %% interval covers %d of %d", c.site, in, len(hours))
		}
	}
	if covered*100 < all*85 {
		t.Errorf("the 90 %% interval covers %d of %d", covered, all)
	}
}

// TestWatchRelearns: a share that stays where it is becomes the usual one after a
// week, and the alarm ends.
func TestWatchRelearns(t *testing.T) {
	var w failWatch
	alarmed, ended := 0.0, 0.0
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range 40 * 40 { // windows of 36 minutes, for 40 days
		from := caseStart + pipeline.Time(i)*2160e6
		share := 0.1
		if i >= 14*40 {
			share = 0.25
		}
		w.window(from, from+2160e6, 500, binomial(rng, 500, share))
		at := float64(i+1) / 40
		if w.alarm && alarmed == 0 {
			alarmed = at
		}
		if alarmed > 0 && !w.alarm && ended == 0 {
			ended = at
		}
	}
	if alarmed < 14 || alarmed > 15 || ended < alarmed+6.9 || ended > alarmed+7.2 || w.alarm {
		t.Errorf("alarm on day %.2f, over on day %.2f, alarm now %v", alarmed, ended, w.alarm)
	}
}
