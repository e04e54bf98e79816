package detectors

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// scoresOf is the evidence against a principal, by detector in catalog order.
func scoresOf(s *Set, owner uint64) (out [4]pipeline.Nats) {
	sh := s.shards[pipeline.Shard(owner)]
	if sh == nil {
		return out
	}
	st, fresh := sh.find(owner)
	if fresh || st.full == 0 {
		return out
	}
	p := sh.profile(st.full - 1)
	return [4]pipeline.Nats{p.probe.score(), p.login.score(), p.worst().score(), p.crawl.score(s.baselines)}
}

// population says how ordinary clients behave: each draws its own shares once.
type population struct {
	clients, days              int
	miss, absent, near, failed [2]float64 // beta distributed shares
	median, spread             float64    // of items a day, log-normal
	catalogue                  uint64
	objects, logins            int     // a day, at most
	pace                       float64 // mean seconds between tries to log in
}

func gammaOf(rng *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gammaOf(rng, shape+1) * math.Pow(rng.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-rng.Float64()) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

func betaDraw(rng *rand.Rand, of [2]float64) float64 {
	a, b := gammaOf(rng, of[0]), gammaOf(rng, of[1])
	return a / (a + b)
}

// wordOf makes up a word of ten letters.
func wordOf(rng *rand.Rand) string {
	var b [10]byte
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	return string(b[:])
}

// clean is the traffic of a population in order of time, and how many symbols
// each client gave each detector.
func (p population) clean(seed uint64) (batch []pipeline.Ordered, symbols map[uint64]*[4]float64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	zipf := rand.NewZipf(rng, 1.1, 3, p.catalogue-1)
	symbols = map[uint64]*[4]float64{}
	var all []*pipeline.Request
	for i := range p.clients {
		var address pipeline.Address
		address[10], address[11], address[12], address[13], address[14], address[15] = 0xff, 0xff, 10, byte(i>>16), byte(i>>8), byte(i)
		sym := &[4]float64{}
		symbols[address.Owner()] = sym
		miss, absent, near, failed := betaDraw(rng, p.miss), betaDraw(rng, p.absent), betaDraw(rng, p.near), betaDraw(rng, p.failed)
		agent := fmt.Sprintf("Mozilla/5.%d", rng.IntN(40))
		id := 1000 + rng.IntN(1_000_000)
		for day := range p.days {
			at := caseStart.Add(time.Duration(day)*24*time.Hour + 8*time.Hour + time.Duration(rng.Int64N(int64(10*time.Hour))))
			add := func(method, path string, status uint16, flags pipeline.RequestFlags, gap float64) {
				at = at.Add(time.Duration(gap * rng.ExpFloat64() * float64(time.Second)))
				r := &pipeline.Request{
					Time: at, Effective: at, Bytes: 2000, Duration: -1, Owner: address.Owner(), Kind: pipeline.PrincipalIP, Flags: flags,
					Status: status, Address: address, Method: method, Path: path, Agent: agent,
				}
				r.Seal()
				all = append(all, r)
			}
			for n := 1 + rng.IntN(p.logins); n > 0; n-- {
				sym[1]++
				if rng.Float64() < failed {
					add("POST", "/login", 401, pipeline.FlagLogin, p.pace)
				} else {
					add("POST", "/login", 200, pipeline.FlagLogin, p.pace)
				}
			}
			for n := int(p.median * math.Exp(p.spread*rng.NormFloat64())); n > 0; n-- {
				sym[0]++
				if rng.Float64() < miss {
					add("GET", "/"+wordOf(rng)+".html", 404, 0, 20)
					continue
				}
				sym[3]++
				add("GET", fmt.Sprintf("/item/%d", zipf.Uint64()+1), 200, 0, 20)
			}
			for n := rng.IntN(p.objects + 1); n > 0; n-- {
				sym[2] += 2 // a miss or not, near or not
				if rng.Float64() < near {
					id += 1 + rng.IntN(4)
				} else {
					id = 1000 + rng.IntN(1_000_000)
				}
				status := uint16(200)
				if rng.Float64() < absent {
					status = []uint16{403, 404}[rng.IntN(2)]
				}
				add("GET", fmt.Sprintf("/orders/%d", id), status, 0, 15)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *pipeline.Request) int { return int(max(-1, min(1, a.Effective-b.Effective))) })
	block := &pipeline.Block{Source: "clean"}
	for _, r := range all {
		batch = append(batch, pipeline.Ordered{Request: r, Block: block})
	}
	return batch, symbols
}

// atShipped is a population drawn from the shipped priors themselves: the
// hardest one for which they promise anything.
func atShipped() population {
	return population{
		clients: 5000, days: 2, miss: [2]float64{1.5, 16}, absent: [2]float64{1, 12}, near: [2]float64{1.5, 6}, failed: [2]float64{2, 8},
		median: 14, spread: 1, catalogue: 4000, objects: 8, logins: 4, pace: 9,
	}
}

// highest runs the traffic request by request and returns the highest evidence
// that each client ever had.
func highest(t *testing.T, e *pipeline.Edition, batch []pipeline.Ordered) map[uint64]*[4]pipeline.Nats {
	t.Helper()
	s := newSet(t, Config{}, e)
	peak := map[uint64]*[4]pipeline.Nats{}
	var found []pipeline.Finding
	for i := range batch {
		found = s.Process(found[:0], batch[i:i+1])
		owner := batch[i].Owner
		p := peak[owner]
		if p == nil {
			p = new([4]pipeline.Nats)
			peak[owner] = p
		}
		for k, v := range scoresOf(s, owner) {
			p[k] = max(p[k], v)
		}
	}
	return peak
}

// excess is how far, in decades, the share of clients whose evidence ever
// reached x lies above the bound symbols/x, at the worst x that enough clients
// reached; and how many clients reached page level.
func excess(k int, peak map[uint64]*[4]pipeline.Nats, symbols map[uint64]*[4]float64) (worst float64, curve string, pages int) {
	worst = math.Inf(-1)
	for half := 2; half <= 12; half++ {
		x := math.Pow(10, float64(half)/2)
		var bound, reached float64
		for owner, p := range peak {
			bound += min(1, symbols[owner][k]/x)
			if p[k].Float() >= math.Log(x) {
				reached++
			}
		}
		if reached > 0 {
			curve += fmt.Sprintf("  1e%.1f: %.0f of %.1f", float64(half)/2, reached, bound)
		}
		if reached >= 5 {
			worst = max(worst, math.Log10(reached/bound))
		}
	}
	for _, p := range peak {
		if p[k] >= pipeline.PageAt {
			pages++
		}
	}
	return worst, curve, pages
}

// TestCalibration holds chance to what the evidence promises: of clean clients,
// at most symbols/x ever reach a likelihood ratio of x, within 0.3 decades, and
// none reaches page level.
func TestCalibration(t *testing.T) {
	tame := population{
		clients: 5000, days: 2, miss: [2]float64{1, 30}, absent: [2]float64{1, 25}, near: [2]float64{1, 9}, failed: [2]float64{1.5, 12},
		median: 10, spread: 0.9, catalogue: 4000, objects: 8, logins: 4, pace: 9,
	}
	shop := atShipped()
	shop.median, shop.spread = 20, 1.1
	learn := func(p population) *pipeline.Edition {
		batch, _ := p.clean(101)
		return fitted(t, batch)
	}
	for _, c := range []struct {
		name    string
		edition *pipeline.Edition
		p       population
	}{
		{"shipped priors, their own population", pipeline.ShippedEdition(), atShipped()},
		{"shipped priors, a tame population", pipeline.ShippedEdition(), tame},
		{"fitted priors, the shipped ones' population", learn(atShipped()), atShipped()},
		{"fitted priors, a tame population", learn(tame), tame},
		{"fitted priors, a population of readers", learn(shop), shop},
	} {
		t.Run(c.name, func(t *testing.T) {
			batch, symbols := c.p.clean(202)
			peak := highest(t, c.edition, batch)
			if len(peak) < c.p.clients*9/10 {
				t.Fatalf("only %d clients of %d", len(peak), c.p.clients)
			}
			for k, name := range catalogNames() {
				worst, curve, pages := excess(k, peak, symbols)
				t.Logf("%-16s %+.2f decades; of %d clients reached (bound):%s", name, worst, len(peak), curve)
				if worst > 0.3 {
					t.Errorf("%s: chance exceeds its bound by %.2f decades:%s", name, worst, curve)
				}
				if pages > 0 {
					t.Errorf("%s: %d of %d clean clients reached page level", name, pages, len(peak))
				}
			}
		})
	}
}

// TestCalibrationBreaks: clients that the priors do not describe must show above
// the line, or TestCalibration could not fail.
func TestCalibrationBreaks(t *testing.T) {
	p := atShipped()
	p.clients, p.miss, p.absent, p.median, p.spread = 200, [2]float64{30, 5}, [2]float64{30, 10}, 300, 1.5
	p.failed, p.logins, p.pace, p.catalogue = [2]float64{50, 1}, 80, 1, 1<<30
	p.objects = 40
	batch, symbols := p.clean(303)
	peak := highest(t, pipeline.ShippedEdition(), batch)
	for k, name := range catalogNames() {
		if worst, curve, _ := excess(k, peak, symbols); worst <= 0.3 {
			t.Errorf("%s: a population far off the priors stays within the line:%s", name, curve)
		}
	}
}

// TestFloor holds how many requests each attack takes until it pages, under the
// shipped priors: what an attacker gets for free on a site that weir has never
// seen. The ceilings are the measured numbers and a tenth.
func TestFloor(t *testing.T) {
	listed := []string{"/.env", "/.git/config", "/wp-login.php", "/backup.zip", "/phpinfo.php", "/.aws/credentials"}
	rng := rand.New(rand.NewPCG(4, 4))
	order := rng.Perm(400)
	get := func(path string, status uint16) pipeline.Request {
		return pipeline.Request{Method: "GET", Path: path, Status: status}
	}
	login := func(status uint16) pipeline.Request {
		return pipeline.Request{Method: "POST", Path: "/login", Status: status, Flags: pipeline.FlagLogin}
	}
	ran := 0
	for _, c := range []struct {
		attack   string
		detector int
		gap      time.Duration
		ceiling  int // 0: must never page; -1: is not seen, which is no aim
		request  func(i int) pipeline.Request
	}{
		{"word list, 1 a second", 0, time.Second, 3, func(i int) pipeline.Request { return get(listed[i%len(listed)], 404) }},
		{"word list, 2 a day", 0, 12 * time.Hour, 3, func(i int) pipeline.Request { return get(listed[i%len(listed)], 404) }},
		{"made-up names, 1 a second", 0, time.Second, 20, func(int) pipeline.Request { return get("/"+wordOf(rng), 404) }},
		{"made-up names, 8 a day", 0, 3 * time.Hour, 23, func(int) pipeline.Request { return get("/"+wordOf(rng), 404) }},
		{"made-up names, 2 a day", 0, 12 * time.Hour, -1, func(int) pipeline.Request { return get("/"+wordOf(rng), 404) }},
		{"made-up names, one in six exists", 0, time.Second, -1, func(i int) pipeline.Request {
			return get("/"+wordOf(rng), []uint16{404, 404, 404, 404, 404, 200}[i%6])
		}},
		{"made-up names, every other one exists", 0, time.Second, -1, func(i int) pipeline.Request {
			return get("/"+wordOf(rng), []uint16{404, 200}[i%2])
		}},
		{"passwords, 5 a second", 1, 200 * time.Millisecond, 37, func(int) pipeline.Request { return login(401) }},
		{"passwords, 1 in 2 s", 1, 2 * time.Second, 57, func(int) pipeline.Request { return login(401) }},
		{"passwords, 1 in 4 s", 1, 4 * time.Second, -1, func(int) pipeline.Request { return login(401) }},
		{"passwords, 1 in 5 s", 1, 5 * time.Second, 0, func(int) pipeline.Request { return login(401) }},
		{"passwords, 1 in 4 minutes", 1, 4 * time.Minute, 0, func(int) pipeline.Request { return login(401) }},
		{"passwords, outcome hidden, 5 a second", 1, 200 * time.Millisecond, 75, func(int) pipeline.Request { return login(200) }},
		{"objects in a row, refused", 2, 5 * time.Second, 12, func(i int) pipeline.Request { return get(fmt.Sprintf("/orders/%d", 5000+i), 403) }},
		{"objects in a row, refused, 4 a day", 2, 6 * time.Hour, 14, func(i int) pipeline.Request { return get(fmt.Sprintf("/orders/%d", 5000+i), 403) }},
		{"objects in a row, one in three refused", 2, 5 * time.Second, 97, func(i int) pipeline.Request {
			return get(fmt.Sprintf("/orders/%d", 5000+i), []uint16{403, 200, 200}[i%3])
		}},
		{"objects by chance, refused", 2, 5 * time.Second, 26, func(int) pipeline.Request { return get(fmt.Sprintf("/orders/%d", rng.IntN(1<<30)), 403) }},
		{"objects shuffled, one in three refused", 2, time.Minute, -1, func(i int) pipeline.Request {
			return get(fmt.Sprintf("/orders/%d", 5000+order[i%400]), []uint16{403, 200, 200}[i%3])
		}},
		{"items, 1 a second", 3, time.Second, 1130, func(i int) pipeline.Request { return get(fmt.Sprintf("/item/%d", i), 200) }},
		{"items, 1 in 40 s", 3, 40 * time.Second, 1375, func(i int) pipeline.Request { return get(fmt.Sprintf("/item/%d", i), 200) }},
		{"items, 20 an hour", 3, 3 * time.Minute, -1, func(i int) pipeline.Request { return get(fmt.Sprintf("/item/%d", i), 200) }},
	} {
		ran++
		s := newSet(t, Config{}, pipeline.ShippedEdition())
		address, _ := pipeline.ParseAddress("203.0.113.7")
		block := &pipeline.Block{Source: "attack"}
		review, page := 0, 0
		at := caseStart
		for i := 0; i < 3000 && page == 0; i++ {
			r := c.request(i)
			r.Time, r.Effective, r.Address, r.Owner, r.Kind, r.Bytes, r.Agent = at, at, address, address.Owner(), pipeline.PrincipalIP, 500, "curl/8"
			r.Seal()
			s.Process(nil, []pipeline.Ordered{{Request: &r, Block: block}})
			score := scoresOf(s, r.Owner)[c.detector]
			if review == 0 && score >= pipeline.ReviewAt {
				review = i + 1
			}
			if score >= pipeline.PageAt {
				page = i + 1
			}
			at = at.Add(c.gap)
		}
		t.Logf("%-16s %-42s review after %4d, page after %4d", Names()[c.detector], c.attack, review, page)
		switch {
		case c.ceiling == 0 && page > 0:
			t.Errorf("%s pages after %d; it must not", c.attack, page)
		case c.ceiling > 0 && (page == 0 || page > c.ceiling):
			t.Errorf("%s pages after %d (0: never); want at most %d", c.attack, page, c.ceiling)
		}
	}
	if ran == 0 {
		t.Fatal("no attack ran")
	}
}
