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

// scored is how many detectors have scores here.
const scored = 10

// scoresOf is the evidence against a principal, by detector in catalog order.
func scoresOf(s *Set, owner uint64) (out [scored]pipeline.Nats) {
	sh := s.shards[pipeline.Shard(owner)]
	if sh == nil {
		return out
	}
	st, fresh := sh.find(owner)
	if fresh || st.full == 0 {
		return out
	}
	p := sh.profile(st.full - 1)
	owned := func(shape loginShape) pipeline.Nats {
		if p.login.shape != shape {
			return 0
		}
		return p.login.spreadScore()
	}
	return [scored]pipeline.Nats{
		p.probe.score(), p.login.guessing(), p.worst().score(), p.crawl.score(s.baselines),
		owned(shapeWide), owned(shapeRounds), max(p.ask.score(), p.login.namesScore()),
		p.inject.score(), max(p.exposedScore(s.baselines), p.taken.score()), p.flood.score(s.baselines),
	}
}

// spreadOf is the evidence of accounts that refused a principal, whatever the
// case's shape.
func spreadOf(s *Set, owner uint64) pipeline.Nats {
	sh := s.shards[pipeline.Shard(owner)]
	if sh == nil {
		return 0
	}
	if st, fresh := sh.find(owner); !fresh && st.full != 0 {
		return sh.profile(st.full - 1).login.spreadScore()
	}
	return 0
}

// population says how ordinary clients behave: each draws its own shares once.
type population struct {
	clients, days              int
	miss, absent, near, failed [2]float64 // beta distributed shares
	median, spread             float64    // of items a day, log-normal
	catalogue                  uint64
	objects, logins            int        // a day, at most
	pace                       float64    // mean seconds between tries to log in
	shared                     [2]float64 // first tries at an account that fail, where people share a client
	guests                     int        // such tries, a day at most
	asks                       float64    // questions about accounts, a day on average, gamma-Poisson with shape 0.7
	unknown                    [2]float64 // answers to them that there is no such account

	odd           [2]float64 // share of searches that show a shape
	strange       float64    // of these, the share that ordinary text does not have
	searches      int        // a day, at most
	size, wide    float64    // of answers in bytes, log-normal
	exports       float64    // share of lists that ask for thousands
	minute, shape float64    // requests in the busiest minute of a day, gamma-Poisson
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
func (p population) clean(seed uint64) (batch []pipeline.Ordered, symbols map[uint64]*[scored]float64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	zipf := rand.NewZipf(rng, 1.1, 3, p.catalogue-1)
	symbols = map[uint64]*[scored]float64{}
	var all []*pipeline.Request
	for i := range p.clients {
		var address pipeline.Address
		address[10], address[11], address[12], address[13], address[14], address[15] = 0xff, 0xff, 10, byte(i>>16), byte(i>>8), byte(i)
		sym := &[scored]float64{}
		symbols[address.Owner()] = sym
		miss, absent, near, failed := betaDraw(rng, p.miss), betaDraw(rng, p.absent), betaDraw(rng, p.near), betaDraw(rng, p.failed)
		agent := fmt.Sprintf("Mozilla/5.%d", rng.IntN(40))
		shared, unknown := betaDraw(rng, p.shared), betaDraw(rng, p.unknown)
		rate := p.asks * gammaOf(rng, 0.7) / 0.7
		id := 1000 + rng.IntN(1_000_000)
		odd, scale := betaDraw(rng, p.odd), p.size*math.Exp(p.wide*rng.NormFloat64())
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
			for n := rng.IntN(p.guests + 1); n > 0; n-- {
				sym[1]++
				sym[4]++
				sym[5]++
				status := uint16(200)
				if rng.Float64() < shared {
					status = 401
				}
				add("POST", "/login", status, pipeline.FlagLogin, 300)
				all[len(all)-1].LoginUser = fmt.Sprintf("u_%d", rng.IntN([]int{1 << 30, 12}[i%2])) // few people, or strangers
			}
			for x := rng.ExpFloat64(); x < rate; x += rng.ExpFloat64() {
				sym[6] += 2 // one more name, known or not
				status := uint16(200)
				if rng.Float64() < unknown {
					status = 404
				}
				add("POST", "/password-reset", status, pipeline.FlagAsks, 60)
				all[len(all)-1].LoginUser = wordOf(rng)
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
			for n := rng.IntN(p.searches + 1); n > 0; n-- {
				sym[4]++
				add("GET", "/search", 200, 0, 10)
				r := all[len(all)-1]
				r.Query = "q=*"
				if rng.Float64() < odd {
					r.Payloads, r.Slot = 1<<rng.IntN(4), uint64(2+rng.IntN(12))
					if rng.Float64() < p.strange {
						r.Payloads = 16 << rng.IntN(20)
					}
				}
				sym[5]++
				r.Bytes = int64(scale * math.Exp(1.2*rng.NormFloat64()))
				if rng.Float64() < p.exports {
					r.Path, r.Query = "/list"+wordOf(rng), "limit=5000"
					r.Seal()
				}
			}
			at = at.Add(time.Minute)
			busy := int(gammaOf(rng, p.shape) * p.minute / p.shape)
			for range busy {
				sym[6]++
				add("GET", "/feed", 200, 0, 60/float64(busy))
			}
			at = at.Add(time.Hour)
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
		median: 14, spread: 1, catalogue: 4000, objects: 8, logins: 4, pace: 9, shared: [2]float64{2, 18},
		asks: 1, unknown: [2]float64{1.5, 13.5},
		odd: [2]float64{0.06, 25}, strange: 0.001, searches: 8, size: 20_000, wide: 1, minute: 25, shape: 0.7,
	}
}

// highest runs the traffic request by request and returns the highest evidence
// that each client ever had.
func highest(t *testing.T, e *pipeline.Edition, batch []pipeline.Ordered) map[uint64]*[scored]pipeline.Nats {
	t.Helper()
	s := newSet(t, Config{}, e)
	peak := map[uint64]*[scored]pipeline.Nats{}
	var found []pipeline.Finding
	for i := range batch {
		found = s.Process(found[:0], batch[i:i+1])
		owner := batch[i].Owner
		p := peak[owner]
		if p == nil {
			p = new([scored]pipeline.Nats)
			peak[owner] = p
		}
		scores := scoresOf(s, owner)
		// Of many accounts the evidence, before there are enough for a case.
		scores[4], scores[5] = spreadOf(s, owner), spreadOf(s, owner)
		for k, v := range scores {
			p[k] = max(p[k], v)
		}
	}
	return peak
}

// excess is how far, in decades, the share of clients whose evidence ever
// reached x lies above the bound symbols/x, at the worst x that enough clients
// reached; and how many clients reached page level.
func excess(k int, peak map[uint64]*[scored]pipeline.Nats, symbols map[uint64]*[scored]float64) (worst float64, curve string, pages int) {
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
		median: 10, spread: 0.9, catalogue: 4000, objects: 8, logins: 4, pace: 9, shared: [2]float64{1, 15},
		asks: 0.5, unknown: [2]float64{1, 20},
		odd: [2]float64{0.05, 50}, strange: 0.001, searches: 5, size: 5000, wide: 0.7, minute: 12, shape: 1,
	}
	kiosks := atShipped()
	kiosks.guests, kiosks.days, kiosks.median, kiosks.objects = 24, 3, 4, 1
	clumsy := kiosks // as many fail as a fit may believe
	clumsy.shared = [2]float64{4, 16}
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
		{"shipped priors, shared machines", pipeline.ShippedEdition(), kiosks},
		{"fitted priors, shared machines", learn(kiosks), kiosks},
		{"fitted priors, clumsy people at shared machines", learn(clumsy), clumsy},
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
	p.clients, p.miss, p.absent, p.median, p.spread = 200, [2]float64{30, 5}, [2]float64{30, 10}, 500, 1.5
	p.failed, p.logins, p.pace, p.catalogue = [2]float64{50, 1}, 80, 1, 1<<30
	p.objects = 40
	p.shared, p.guests, p.asks, p.unknown = [2]float64{50, 1}, 40, 40, [2]float64{10, 10}
	p.odd, p.strange, p.searches = [2]float64{20, 5}, 0.5, 30
	p.size, p.exports, p.minute = 5_000_000, 0.7, 400
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
	account := func(i int, status uint16) pipeline.Request {
		r := login(status)
		r.LoginUser = fmt.Sprintf("u_%d", i)
		return r
	}
	asked := func(i int, path string, status uint16) pipeline.Request {
		return pipeline.Request{Method: "POST", Path: path, Status: status, Flags: pipeline.FlagAsks, LoginUser: fmt.Sprintf("u_%d", i)}
	}
	shaped := func(p pipeline.Payloads, slot uint64, status uint16) pipeline.Request {
		return pipeline.Request{Method: "GET", Path: "/search", Query: "q=*", Status: status, Payloads: p, Slot: slot}
	}
	export := func(i int, size int64) pipeline.Request {
		return pipeline.Request{Method: "GET", Path: fmt.Sprintf("/export/%d", i), Query: "limit=5000", Status: 200, Bytes: size}
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
		{"passwords, 5 a second", 1, 200 * time.Millisecond, 30, func(int) pipeline.Request { return login(401) }},
		{"passwords, 1 a second", 1, time.Second, 30, func(int) pipeline.Request { return login(401) }},
		{"passwords, 1 in 2 s", 1, 2 * time.Second, 45, func(int) pipeline.Request { return login(401) }},
		{"passwords, 1 in 4 s", 1, 4 * time.Second, -1, func(int) pipeline.Request { return login(401) }},
		{"passwords, 1 in 5 s", 1, 5 * time.Second, 0, func(int) pipeline.Request { return login(401) }},
		{"passwords, 1 in 4 minutes", 1, 4 * time.Minute, 0, func(int) pipeline.Request { return login(401) }},
		{"passwords, failing inside a 200, 5 a second", 1, 200 * time.Millisecond, 31, func(int) pipeline.Request {
			r := login(200)
			r.SetApp(401)
			return r
		}},
		{"passwords, outcome hidden, 5 a second", 1, 200 * time.Millisecond, 62, func(int) pipeline.Request { return login(200) }},
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
		{"items, as a false crawler, 1 a second", 3, time.Second, 898, func(i int) pipeline.Request {
			r := get(fmt.Sprintf("/item/%d", i), 200)
			r.Flags = pipeline.FlagPretends
			return r
		}},
		{"many shapes in a parameter, 1 a second", 7, time.Second, 4, func(i int) pipeline.Request { return shaped(16<<(i%20), 2, 200) }},
		{"many shapes in a parameter, 2 a day", 7, 12 * time.Hour, 4, func(i int) pipeline.Request { return shaped(16<<(i%20), 2, 200) }},
		{"one shape in many parameters, errors", 7, time.Second, 4, func(i int) pipeline.Request { return shaped(pipeline.PayloadTautology, uint64(2+i), 500) }},
		{"quotes in many parameters", 7, time.Second, 40, func(i int) pipeline.Request { return shaped(pipeline.PayloadQuote, uint64(2+i), 200) }},
		{"one shape in one parameter", 7, time.Second, 0, func(int) pipeline.Request { return shaped(pipeline.PayloadTautology, 2, 200) }},
		{"exports of 5,000 items, 1 MB each", 8, time.Minute, -1, func(i int) pipeline.Request { return export(i, 1<<20) }},
		{"exports of 5,000 items, 50 MB each", 8, time.Minute, 181, func(i int) pipeline.Request { return export(i, 50<<20) }},
		{"requests, 100 a second", 9, 10 * time.Millisecond, 0, func(int) pipeline.Request { return get("/feed", 200) }},
		{"requests, 100 a second, all fail", 9, 10 * time.Millisecond, 954, func(int) pipeline.Request { return get("/feed", 502) }},
		{"requests, 15 a second, all fail", 9, 66 * time.Millisecond, 2200, func(int) pipeline.Request { return get("/feed", 502) }},
		{"requests, 2 a second", 9, 500 * time.Millisecond, 0, func(int) pipeline.Request { return get("/feed", 200) }},
		{"items, 20 an hour", 3, 3 * time.Minute, -1, func(i int) pipeline.Request { return get(fmt.Sprintf("/item/%d", i), 200) }},
		{"one account, passwords, 5 a second", 1, 200 * time.Millisecond, 30, func(int) pipeline.Request { return account(1, 401) }},
		{"one account, passwords, 1 in 5 s", 1, 5 * time.Second, 0, func(int) pipeline.Request { return account(1, 401) }},
		{"one account, passwords, 1 in 15 minutes", 1, 15 * time.Minute, 0, func(int) pipeline.Request { return account(1, 401) }},
		{"accounts, 4 a second", 4, 250 * time.Millisecond, 20, func(i int) pipeline.Request { return account(i, 401) }},
		{"accounts, 1 a minute", 4, time.Minute, 20, func(i int) pipeline.Request { return account(i, 401) }},
		{"accounts, 10 a day", 4, 144 * time.Minute, 20, func(i int) pipeline.Request { return account(i, 401) }},
		{"accounts, 2 a day", 4, 12 * time.Hour, 17, func(i int) pipeline.Request { return account(i, 401) }},
		{"accounts, 1 a day", 4, 24 * time.Hour, -1, func(i int) pipeline.Request { return account(i, 401) }},
		{"accounts, every fifth works", 4, time.Minute, 34, func(i int) pipeline.Request { return account(i, []uint16{401, 401, 200, 401, 401}[i%5]) }},
		{"accounts, every other one works", 4, time.Minute, -1, func(i int) pipeline.Request { return account(i, []uint16{401, 200}[i%2]) }},
		{"12 accounts in rounds, 10 a day", 5, 144 * time.Minute, 0, func(i int) pipeline.Request { return account(i%12, 401) }},
		{"20 accounts in rounds, 10 a day", 5, 144 * time.Minute, 33, func(i int) pipeline.Request { return account(i%20, 401) }},
		{"30 accounts in rounds, 1 a minute", 5, time.Minute, 50, func(i int) pipeline.Request { return account(i%30, 401) }},
		{"resets, half of the names exist", 6, time.Second, 38, func(i int) pipeline.Request { return asked(i, "/password-reset", []uint16{404, 200}[i%2]) }},
		{"resets, answered alike", 6, time.Second, 47, func(i int) pipeline.Request { return asked(i, "/password-reset", 200) }},
		{"resets, half exist, 10 a day", 6, 144 * time.Minute, 390, func(i int) pipeline.Request { return asked(i, "/password-reset", []uint16{404, 200}[i%2]) }},
		{"sign-up form, names typed", 6, time.Second, -1, func(i int) pipeline.Request { return asked(i, "/check-email", 200) }},
		{"login, unknown accounts told apart", 6, time.Second, 14, func(i int) pipeline.Request { return account(i, []uint16{401, 404, 404}[i%3]) }},
	} {
		ran++
		s := newSet(t, Config{}, pipeline.ShippedEdition())
		address, _ := pipeline.ParseAddress("203.0.113.7")
		block := &pipeline.Block{Source: "attack"}
		review, page := 0, 0
		at := caseStart
		for i := 0; i < 3000 && page == 0; i++ {
			r := c.request(i)
			r.Time, r.Effective, r.Address, r.Owner, r.Kind, r.Agent = at, at, address, address.Owner(), pipeline.PrincipalIP, "curl/8"
			r.Bytes = max(r.Bytes, 500)
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
