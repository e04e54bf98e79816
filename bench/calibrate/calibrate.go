// Package calibrate measures chance: how much evidence clean clients come to
// whose habits are drawn from the priors of an edition. An e-value of x should be
// reached on one client-day in x / 2.5 at most; that is what an alert's odds say.
//
// Clients go straight into a detector's evidence frame, so that millions of days
// take a minute. What no prior describes is not drawn: word-list paths, crawlers'
// names, sizes that nobody else asks for.
package calibrate

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"

	"weir/detectors"
	"weir/pipeline"
)

// Options say what to measure.
type Options struct {
	// Null are the priors that evidence is measured against, Truth those that
	// clients are drawn from; nil: the same.
	Null, Truth *detectors.Baselines
	// Together draws clients for whom everything is new at once (a place, a program,
	// what they do), which priors take for independent.
	Together bool
	Days     int64 // client-days per detector
	Seed     uint64
	Workers  int
	// Progress is told how many client-days are done of one detector; nil: nobody.
	// It is called from several goroutines, one at a time.
	Progress func(detector string, days int64)
}

const (
	// DaysEach is how many days each client is watched: longer than evidence halves.
	DaysEach = 10
	// perDecade is how many points of the curve a decade of x has.
	perDecade = 4
	decades   = 10
	points    = perDecade*decades + 1
	// chunk is how many clients one piece of work has: results do not depend on
	// how many workers share them.
	chunk = 500
	// maxSymbols is where the number of symbols a day is cut, for the bound.
	maxSymbols = 4096
)

// Curve is how often clean clients reach evidence, by client-day.
type Curve struct {
	Name    string // the detector's, and what it is about where that is no client
	Says    string // what was drawn
	Clients int64
	Days    int64
	Pages   int64 // client-days that reached page level
	Reviews int64 // and review level
	Highest pipeline.Nats
	symbols [maxSymbols + 1]int64 // client-days by symbols
	reached [points]int64         // client-days
	squares [points]int64         // of such days by client, squared: days of one client are alike
}

// Point is one point of a curve.
type Point struct {
	Log10     float64 // of x
	Reached   int64   // client-days whose highest e-value was at least x
	P         float64 // Reached as a share
	Low, High float64 // its 95 % band
	// Bound is what the clipped test promises for all the questions that a day
	// answers (Lorden 1971): symbols / x.
	Bound float64
}

// Measure draws client-days for every detector.
func Measure(ctx context.Context, o Options) ([]Curve, error) {
	if o.Truth == nil {
		o.Truth = o.Null
	}
	pops := populations()
	curves := make([]Curve, len(pops))
	items := catalogueOf(o.Truth)
	clients := max(1, o.Days/DaysEach)
	var mu sync.Mutex
	var failed error
	type job struct {
		p     int
		chunk int64
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range max(1, o.Workers) {
		wg.Go(func() {
			frames := make([]*client, len(pops))
			var part Curve
			for j := range jobs {
				if frames[j.p] == nil {
					c := &client{b: o.Truth, items: items, together: o.Together}
					if err := pops[j.p].open(c, o.Null); err != nil {
						mu.Lock()
						failed = err
						mu.Unlock()
						continue
					}
					frames[j.p] = c
				}
				part = Curve{}
				c := frames[j.p]
				c.dice = dice{rand.New(rand.NewPCG(o.Seed, uint64(j.p)<<40|uint64(j.chunk)))}
				for range min(chunk, clients-j.chunk*chunk) {
					part.play(c, &pops[j.p])
				}
				mu.Lock()
				curves[j.p].add(&part)
				if o.Progress != nil {
					o.Progress(pops[j.p].name(), curves[j.p].Days)
				}
				mu.Unlock()
			}
		})
	}
	for p := range pops {
		curves[p].Name, curves[p].Says = pops[p].name(), pops[p].says
		for k := int64(0); k*chunk < clients && ctx.Err() == nil; k++ {
			jobs <- job{p, k}
		}
	}
	close(jobs)
	wg.Wait()
	if failed != nil {
		return nil, fmt.Errorf("calibrate: %w", failed)
	}
	return curves, ctx.Err()
}

// start is when the clients' first day begins.
const start pipeline.Time = 1_700_006_400e6

// play adds one client to the curve.
func (v *Curve) play(c *client, p *population) {
	if c.wide != nil {
		c.wide.Begin()
	} else {
		c.frame.Begin()
	}
	c.agent, c.n = c.Uint64(), 0
	p.begin(c)
	var per [points]int64
	last := -1
	for day := range DaysEach {
		c.at = max(c.at, start+pipeline.Time(day)*86400e6+8*3600e6+pipeline.Time(c.Int64N(10*3600e6)))
		if day == 0 {
			c.at = start + 8*3600e6
		}
		c.best, c.said = 0, 0
		p.day(c)
		v.Days++
		v.symbols[min(c.said, maxSymbols)]++
		v.Highest = max(v.Highest, c.best)
		if c.best >= pipeline.PageAt {
			v.Pages++
		}
		if c.best >= pipeline.ReviewAt {
			v.Reviews++
		}
		if c.best > 0 {
			at := min(int(c.best.Float()*perDecade/math.Ln10), points-1)
			per[at]++
			last = max(last, at)
		}
	}
	v.Clients++
	days := int64(0)
	for i := last; i >= 0; i-- {
		days += per[i]
		v.reached[i] += days
		v.squares[i] += days * days
	}
}

func (v *Curve) add(o *Curve) {
	v.Clients += o.Clients
	v.Days += o.Days
	v.Pages += o.Pages
	v.Reviews += o.Reviews
	v.Highest = max(v.Highest, o.Highest)
	for i := range v.symbols {
		v.symbols[i] += o.symbols[i]
	}
	for i := range v.reached {
		v.reached[i] += o.reached[i]
		v.squares[i] += o.squares[i]
	}
}

// Symbols is how many answers a day holds on average.
func (v *Curve) Symbols() float64 {
	sum := int64(0)
	for n, days := range v.symbols {
		sum += int64(n) * days
	}
	return float64(sum) / float64(max(1, v.Days))
}

// Points are the curve from x = 10 on.
func (v *Curve) Points() []Point {
	var out []Point
	for i := perDecade; i < points; i++ {
		x := float64(i) / perDecade
		p := Point{Log10: x, Reached: v.reached[i], P: float64(v.reached[i]) / float64(v.Days)}
		// Days of one client are alike: as much is known as of so many days that
		// are not.
		alike := 1.0
		if v.reached[i] > 0 {
			alike = max(1, float64(v.squares[i])/float64(v.reached[i]))
		}
		low, high := poissonBand(float64(v.reached[i]) / alike)
		p.Low, p.High = low*alike/float64(v.Days), high*alike/float64(v.Days)
		for n, days := range v.symbols {
			if days > 0 {
				p.Bound += float64(days) * min(1, float64(n)/math.Pow(10, x))
			}
		}
		p.Bound /= float64(v.Days)
		out = append(out, p)
	}
	return out
}

// poissonBand is the 95 % band of a mean of which n were counted (Garwood 1936, in
// the approximation of Wilson and Hilferty).
func poissonBand(n float64) (low, high float64) {
	const z = 1.96
	if n > 0 {
		low = n * math.Pow(max(0, 1-1/(9*n)-z/(3*math.Sqrt(n))), 3)
	}
	m := n + 1
	return low, m * math.Pow(1-1/(9*m)+z/(3*math.Sqrt(m)), 3)
}

// OddsFrom is the e-value, as a power of ten, from which on a curve is held to what
// alerts say: fewer would be no news, and a test of 100,000 client-days still sees it.
const OddsFrom = 4

// Stated is what alerts say of an e-value of x: one client-day in x / Stated.
const Stated = 2.5

// Allowed is how far off a curve may be, in decades.
const Allowed = 0.3

// Excess is how far, in decades, the curve's band lies above what alerts say, from
// 10^OddsFrom on, and above what the test promises for all the questions of a day,
// or alerts say if that is more, anywhere, each at the worst x; negative below,
// minus infinity where nobody came.
func (v *Curve) Excess() (odds, bound float64) {
	odds, bound = math.Inf(-1), math.Inf(-1)
	for _, p := range v.Points() {
		if p.Low <= 0 {
			continue
		}
		said := math.Log10(p.Low/Stated) + p.Log10
		bound = max(bound, min(math.Log10(p.Low/p.Bound), said))
		if p.Log10 >= OddsFrom {
			odds = max(odds, said)
		}
	}
	return odds, bound
}

// Off is the worse of Excess.
func (v *Curve) Off() float64 { return max(v.Excess()) }

// OneIn is the measured counterpart of an alert's odds at 10^log10: one client-day
// in so many reached it. Where none did it is the least that the band allows.
func (v *Curve) OneIn(log10 int) (days float64, reached bool) {
	for _, p := range v.Points() {
		if p.Log10 == float64(log10) {
			if p.Reached == 0 {
				return 1 / p.High, false
			}
			return 1 / p.P, true
		}
	}
	return 0, false
}

// String lists the points that somebody reached.
func (v *Curve) String() string {
	var s strings.Builder
	for _, p := range v.Points() {
		if p.Reached > 0 {
			fmt.Fprintf(&s, "\n  1e%.2f: %d of %d client-days, %.2g (%.2g to %.2g); promised %.2g", p.Log10, p.Reached, v.Days, p.P, p.Low, p.High, p.Bound)
		}
	}
	return s.String()
}
