package detectors

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"weir/pipeline"
)

// daily is a client that comes every day and takes what day says.
type daily struct {
	address pipeline.Address
	rng     *rand.Rand
	fresh   int
	made    []pipeline.Request
}

func newDaily(seed uint64) *daily {
	return &daily{address: addressOf(0xcb007100 + uint32(seed)), rng: rand.New(rand.NewPCG(seed, 28))}
}

// day is the requests of a day, spread over ten hours.
func (d *daily) day(day int, n int, request func(i int) pipeline.Request) []pipeline.Ordered {
	d.made = d.made[:0]
	for i := range n {
		r := request(d.fresh)
		d.fresh++
		at := caseStart + pipeline.Time(day)*86400e6 + pipeline.Time(float64(8*3600e6)+float64(36000e6)*(float64(i)+d.rng.Float64())/float64(n))
		r.Time, r.Effective, r.Address, r.Owner, r.Kind, r.Agent = at, at, d.address, d.address.Owner(), pipeline.PrincipalIP, "okhttp/4"
		r.Method = "GET"
		d.made = append(d.made, r)
	}
	block := &pipeline.Block{Source: "ramp"}
	out := make([]pipeline.Ordered, n)
	for i := range d.made {
		d.made[i].Seal()
		out[i] = pipeline.Ordered{Request: &d.made[i], Block: block}
	}
	return out
}

// noise is a factor of mean 1 whose coefficient of variation is cv.
func noise(rng *rand.Rand, cv float64) float64 {
	s := math.Sqrt(math.Log1p(cv * cv))
	return math.Exp(s*rng.NormFloat64() - s*s/2)
}

// TestGrowthFloor holds how far a client grows, a little every day, until it is
// told: after five weeks at its level, whose days are off by half, or for a
// program by a tenth, over 20 seeds. Beside it is what the cohort alone would have
// let it grow to.
func TestGrowthFloor(t *testing.T) {
	item := func(i int) pipeline.Request {
		return pipeline.Request{Path: fmt.Sprintf("/item/%d", i), Status: 200, Bytes: 2000}
	}
	file := func(i int) pipeline.Request {
		return pipeline.Request{Path: fmt.Sprintf("/item/%d", i%40), Status: 200, Bytes: 2000}
	}
	for _, c := range []struct {
		name     string
		detector int
		base     int
		rate, cv float64
		days     int
		mid, p95 int // ceilings of the growth when told, in hundredths
		request  func(i int) pipeline.Request
	}{
		{"items, 60 a day, 3 % a day", 3, 60, 0.03, 0.5, 60, 300, 400, item},
		{"items, 120 a day, 3 % a day", 3, 120, 0.03, 0.5, 60, 300, 400, item},
		{"items, 120 a day, 3 % a day, a program", 3, 120, 0.03, 0.1, 60, 300, 300, item},
		{"items, 120 a day, 10 % a day", 3, 120, 0.10, 0.5, 40, 560, 680, item},
		{"items, 120 a day, 2 % a day", 3, 120, 0.02, 0.5, 80, 300, 450, item},
		{"requests, 500 a day, 3 % a day", 9, 500, 0.03, 0.5, 60, 300, 400, file},
	} {
		var grew []int
		never := 0
		for seed := range uint64(20) {
			s := newSet(t, Config{}, pipeline.ShippedEdition())
			d := newDaily(seed)
			told := 0
			for day := 0; day < 35+c.days && told == 0; day++ {
				level := float64(c.base) * math.Pow(1+c.rate, float64(max(0, day-35)))
				s.Process(nil, d.day(day, max(1, int(level*noise(d.rng, c.cv)+0.5)), c.request))
				if told == 0 && scoresOf(s, d.address.Owner())[c.detector] >= pipeline.ReviewAt {
					told = int(100 * level / float64(c.base))
				}
			}
			if told == 0 {
				never++
				told = 1 << 20
			}
			grew = append(grew, told)
		}
		mid, p95 := middle(grew)
		alone := "never"
		if c.detector == 3 {
			alone = fmt.Sprintf("%.1f times", float64(enough(ShippedBaselines().Crawl))/float64(c.base))
		}
		t.Logf("%-40s told at %.2f times, p95 %.2f, never %d of 20; without the past: %s", c.name, float64(mid)/100, float64(p95)/100, never, alone)
		if mid > c.mid || p95 > c.p95 {
			t.Errorf("%s: told at %d, p95 %d hundredths; want %d, %d", c.name, mid, p95, c.mid, c.p95)
		}
	}
}

// TestGrowthCalibration: clients that keep their level, drawn from the shipped
// priors, whose days are off as ever, make growth no more often than its nats say,
// and it never pages.
func TestGrowthCalibration(t *testing.T) {
	const clients, days = 4000, 60
	for _, c := range []struct {
		name string
		cv   float64
		far  bool
	}{{"days off by 0.1", 0.1, false}, {"days off by 0.5", 0.5, false}, {"days off by 0.9", 0.9, false}, {"far above the cohort, days off by 0.5", 0.5, true}} {
		rng := rand.New(rand.NewPCG(uint64(c.cv*10), 9))
		b := ShippedBaselines()
		at := map[int]int{}
		most, busy := pipeline.Nats(0), pipeline.Nats(0)
		for i := range clients {
			sh := new(shard)
			p := &Profile{Owner: uint64(i) + 1, Requests: 100, First: caseStart}
			items := 30 * gammaOf(rng, 0.75) / 0.75
			if c.far {
				items = 150 * math.Exp(0.7*rng.NormFloat64())
			}
			size := math.Exp(2*rng.NormFloat64()) * float64(1<<20) / 20
			peak, x := pipeline.Nats(0), breadth{}
			for day := range days {
				f := noise(rng, c.cv)
				// The next day against the own null, all of it at once, where the cohort's says less.
				x.n = x.n/2 + uint32(items*f)*breadthOne
				minute := breadth{n: uint32(items*f) * breadthOne}
				bytes := int64(size * 30 * f)
				for _, v := range [][2]pipeline.Nats{
					{x.nats(b.Crawl, 1), x.nats(p.crawl.grown.rate(b.Crawl), 1)},
					{minute.nats(b.Volume, 1), minute.nats(p.flood.grown.rate(b.Volume), 1)},
					{b.Bytes.nats(bytes, 1), min(p.taken.taken(b.Bytes).nats(bytes, 1), bytesCap)},
				} {
					if v[0] < pipeline.PageAt {
						busy = max(busy, v[1])
					}
				}
				p.crawl.got += uint32(items * f)
				p.counted += uint32(10 * items * f)
				p.exposure.total += int64(size * 20 * f * noise(rng, 0.3))
				p.busiest = uint16(items * f)
				sh.endDay(p, uint16(20000+day), b)
				peak = max(peak, p.crawl.grown.score(), p.flood.grown.score(), p.taken.score())
			}
			for _, n := range []int{5, 7, 9, 11, 13} {
				if peak >= pipeline.Nats(n)*pipeline.Nat {
					at[n]++
				}
			}
			most = max(most, peak)
		}
		line := ""
		for _, n := range []int{5, 7, 9, 11, 13} {
			bound := float64(clients*days*int(lagged)) / math.Exp(float64(n))
			line += fmt.Sprintf("  %d nats: %d of %.1f", n, at[n], bound)
			// Two standard errors, and 0.3 decades.
			if most := 2 * (bound + 2*math.Sqrt(bound) + 1); !c.far && float64(at[n]) > most {
				t.Errorf("%s: %d clients of %d reach %d nats; chance allows %.1f", c.name, at[n], clients, n, most)
			}
		}
		t.Logf("%s: %d client-days, clients that reached (bound):%s; the busiest day %.1f nats against the own past", c.name, clients*days, line, busy.Float())
		if busy >= pipeline.PageAt && !c.far {
			t.Errorf("%s: a day that is off as ever reaches %.1f nats against the own past", c.name, busy.Float())
		}
		if most >= pipeline.PageAt {
			t.Errorf("%s: growth reaches %.1f nats, a page", c.name, most.Float())
		}
		if c.far && at[13] > 20 {
			t.Errorf("%s: %d of %d clients that keep their level reach 13 nats", c.name, at[13], clients)
		}
	}
}

// TestOwnPast holds how many items in a day page against a client with a past,
// beside one without, and that no past earns the right to take everything.
func TestOwnPast(t *testing.T) {
	item := func(i int) pipeline.Request {
		return pipeline.Request{Path: fmt.Sprintf("/item/%d", i), Status: 200, Bytes: 2000}
	}
	for _, c := range []struct {
		name      string
		base      int
		days      int
		rate      float64
		least     int // items in a day that must not page
		most      int // that must
		wantsOwn  bool
		unsettled float64 // the day's coefficient of variation
	}{
		{"no past", 25, 0, 0, 800, 1150, false, 0.3},
		{"four days are no past", 25, 4, 0, 800, 1250, false, 0.3},
		{"a steady one of an ordinary level", 25, 30, 0, 250, 500, true, 0.3},
		{"a restless one of an ordinary level", 25, 30, 0, 500, 1250, true, 1.2},
		{"a few a day do not make a hair trigger", 8, 30, 0, 130, 330, true, 0.3},
		{"a heavy one is let do more", 130, 30, 0, 1150, 2400, true, 0.3},
		{"who takes more every day earns four times at most", 25, 60, 0.05, 1150, 4 * 1250, true, 0.1},
	} {
		s := newSet(t, Config{}, pipeline.ShippedEdition())
		d := newDaily(7)
		own := false
		for day := range c.days {
			n := max(1, int(float64(c.base)*math.Pow(1+c.rate, float64(day))*noise(d.rng, c.unsettled)+0.5))
			s.Process(nil, d.day(day, n, item))
		}
		page := 0
		for i, r := range d.day(c.days+2, 6000, item) {
			s.Process(nil, []pipeline.Ordered{r})
			sh := s.shards[pipeline.Shard(d.address.Owner())]
			st, _ := sh.find(d.address.Owner())
			if i == 10 && st.full != 0 {
				own = sh.profile(st.full-1).crawl.grown.own != 0
			}
			if scoresOf(s, d.address.Owner())[3] >= pipeline.PageAt {
				page = i + 1
				break
			}
		}
		t.Logf("%-55s pages after %d", c.name, page)
		if page < c.least || page > c.most || own != c.wantsOwn {
			t.Errorf("%s: pages after %d items, own null %v; want %d to %d, %v", c.name, page, own, c.least, c.most, c.wantsOwn)
		}
	}
}

// TestPastsBounded: a flood of principals that come for a day or two takes no
// place from who comes every day, and the table stays within its bound.
func TestPastsBounded(t *testing.T) {
	b := ShippedBaselines()
	sh := new(shard)
	regular := &Profile{Owner: 1, Requests: 100, First: caseStart}
	crowd := uint64(1000)
	for day := range uint16(40) {
		regular.crawl.got += 100
		sh.endDay(regular, 20000+day, b)
		for range 200 {
			crowd++
			p := &Profile{Owner: crowd, Requests: 50, First: pipeline.Time(20000+int64(day)) * 86400e6}
			p.crawl.got = 30
			sh.endDay(p, 20000+day, b)
		}
	}
	if len(sh.pasts) > maxPasts || cap(sh.pasts) > maxPasts {
		t.Errorf("%d pasts, room for %d; at most %d", len(sh.pasts), cap(sh.pasts), maxPasts)
	}
	h := sh.pastOf(regular, 20040)
	if h == nil || h.days != 40 || h.lag[pastItems].oldest() == 0 {
		t.Errorf("the regular client has %+v", h)
	}
	quiet := &Profile{Owner: 2, Requests: pastLeast - 1}
	if sh.pastOf(quiet, 20100) != nil {
		t.Error("a client with a handful of requests takes a place")
	}
}

// TestPastSame: restarts, workers and the cut into batches change nothing of what
// weeks of growth come to.
func TestPastSame(t *testing.T) {
	var batch []pipeline.Ordered
	for seed := range uint64(2) {
		d := newDaily(seed)
		for day := range 65 {
			level := 70 * math.Pow(1.05, float64(max(0, day-35)))
			batch = append(batch, d.day(day, int(level), func(i int) pipeline.Request {
				return pipeline.Request{Path: fmt.Sprintf("/item/%d", i), Status: 200, Bytes: 2000}
			})...)
			d.made = nil
		}
	}
	slices.SortStableFunc(batch, func(a, b pipeline.Ordered) int { return int(max(-1, min(1, a.Effective-b.Effective))) })
	run := func(workers, chunk, restart int) string {
		s := newSet(t, Config{Workers: workers}, pipeline.ShippedEdition())
		var out []pipeline.Finding
		for i := 0; i < len(batch); i += chunk {
			if restart > 0 && i/chunk%restart == restart-1 {
				chunks := map[uint32][]byte{}
				if err := s.Changed(true, func(n uint32, data []byte) error { chunks[n] = data; return nil }); err != nil {
					t.Fatal(err)
				}
				next := newSet(t, Config{Workers: workers}, pipeline.ShippedEdition())
				if err := next.Restore(s.Head(), func(n uint32) ([]byte, error) { return chunks[n], nil }); err != nil {
					t.Fatal(err)
				}
				s = next
			}
			out = s.Process(out, batch[i:min(len(batch), i+chunk)])
		}
		return lines(t, end(s, out, batch))
	}
	want := run(1, 997, 0)
	if !strings.Contains(want, "items_day_growth") {
		t.Fatal("no growth is found")
	}
	sameLines(t, "8 workers", run(8, 4096, 0), want)
	sameLines(t, "restarts", run(1, 997, 4), want)
}
