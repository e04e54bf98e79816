package detectors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// naive fits the priors as if everybody taught.
func naive(t *testing.T, batch []pipeline.Ordered) *pipeline.Edition {
	t.Helper()
	f := NewFitter()
	for i := range batch {
		f.Add(batch[i].Request)
	}
	e, err := f.Fit(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := DecodeBaselines(e.Detectors)
	if err != nil {
		t.Fatal(err)
	}
	facts := f.pathFacts(e.Templates, b)
	clients, shipped := f.clients(f.order(), facts, f.fitTruth(facts)), ShippedBaselines()
	b.Probe = fitBeta(clients, func(c *fitClient) share { return c.probe }, shipped.Probe)
	b.Object = fitBeta(clients, func(c *fitClient) share { return c.object }, shipped.Object)
	b.Login = fitBeta(clients, func(c *fitClient) share { return c.login }, shipped.Login)
	b.LoginUser = fitBeta(clients, func(c *fitClient) share { return c.loginUser }, shipped.LoginUser)
	b.Crawl = fitRate(clients, shipped.Crawl)
	fitUses(b, clients, shipped)
	for i := range b.Endpoints {
		b.Endpoints[i].Miss, b.Endpoints[i].Near = Prior{}, Prior{} // the priors above serve
	}
	if e.Detectors, err = b.Encode(); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestPoisoning: attackers among the clients of the training days, three in a
// hundred, move the time to detect what they do by less than a fifth. Were they not
// kept from teaching, it would move further.
func TestPoisoning(t *testing.T) {
	const seeds, clients, attackers = 20, 100, 3
	clean := atShipped()
	clean.clients, clean.days, clean.logins, clean.minute, clean.median, clean.searches = clients, 1, 8, 3, 8, 3
	type attack struct {
		name    string
		k       int
		gap     time.Duration
		taught  int // requests of each attacker in the training days
		request func(rng *rand.Rand, i int) pipeline.Request
	}
	attacks := []attack{
		{"names", 0, 40 * time.Second, 60, func(rng *rand.Rand, i int) pipeline.Request {
			return pipeline.Request{Method: "GET", Path: "/" + wordOf(rng), Status: 404}
		}},
		{"names, one in eight exists", 0, 40 * time.Second, 60, func(rng *rand.Rand, i int) pipeline.Request {
			return pipeline.Request{Method: "GET", Path: "/" + wordOf(rng), Status: []uint16{404, 404, 404, 404, 404, 404, 404, 200}[i%8]}
		}},
		{"passwords", 1, time.Second, 60, func(*rand.Rand, int) pipeline.Request {
			return pipeline.Request{Method: "POST", Path: "/login", Status: 401, Flags: pipeline.FlagLogin}
		}},
		{"objects, refused", 2, time.Minute, 60, func(rng *rand.Rand, i int) pipeline.Request {
			return pipeline.Request{Method: "GET", Path: fmt.Sprintf("/orders/%d", rng.IntN(1<<30)), Status: 403}
		}},
		{"accounts", 4, time.Minute, 60, func(rng *rand.Rand, i int) pipeline.Request {
			return pipeline.Request{Method: "POST", Path: "/login", Status: 401, Flags: pipeline.FlagLogin, LoginUser: fmt.Sprintf("x_%d", rng.IntN(1<<30))}
		}},
		{"items", 3, 10 * time.Second, 1000, func(_ *rand.Rand, i int) pipeline.Request {
			return pipeline.Request{Method: "GET", Path: fmt.Sprintf("/item/%d", i), Status: 200}
		}},
		{"shapes", 7, time.Minute, 20, func(_ *rand.Rand, i int) pipeline.Request {
			return pipeline.Request{Method: "GET", Path: "/search", Query: "q=*", Status: 200, Payloads: 16 << (i % 20), Slot: uint64(2 + i/20)}
		}},
	}
	block := &pipeline.Block{Source: "attack"}
	send := func(r *pipeline.Request, at pipeline.Time, a pipeline.Address) pipeline.Ordered {
		r.Time, r.Effective, r.Address, r.Owner, r.Kind, r.Agent, r.Bytes = at, at, a, a.Owner(), pipeline.PrincipalIP, "curl/8", 2000
		r.Seal()
		return pipeline.Ordered{Request: r, Block: block}
	}
	floor := func(e *pipeline.Edition, c *attack, seed uint64) int {
		rng := rand.New(rand.NewPCG(seed, 17))
		s := newSet(t, Config{}, e)
		a, _ := pipeline.ParseAddress("203.0.113.7")
		at := caseStart.Add(7 * 24 * time.Hour)
		for i := range 3000 {
			r := c.request(rng, i)
			s.Process(nil, []pipeline.Ordered{send(&r, at, a)})
			if scoresOf(s, a.Owner())[c.k] >= pipeline.PageAt {
				return i + 1
			}
			at = at.Add(c.gap)
		}
		return 3001
	}
	median := func(n []int) float64 {
		slices.Sort(n)
		return float64(n[len(n)/2]+n[(len(n)-1)/2]) / 2
	}
	days := make([][]pipeline.Ordered, seeds)
	plain := make([]*pipeline.Edition, seeds)
	for seed := range days {
		days[seed], _ = clean.clean(uint64(seed) + 1)
		plain[seed] = fitted(t, days[seed])
	}
	fooled := 0
	for i := range attacks {
		c := &attacks[i]
		var without, with, ungated []int
		for seed := range days {
			rng := rand.New(rand.NewPCG(uint64(seed), 23))
			batch := slices.Clone(days[seed])
			for n := range attackers {
				a := addressOf(198<<24 | 51<<16 | uint32(n+1))
				at := caseStart.Add(time.Duration(rng.Int64N(int64(20 * time.Hour))))
				for i := range c.taught {
					r := c.request(rng, i+n*c.taught)
					batch = append(batch, send(&r, at, a))
					at = at.Add(c.gap)
				}
			}
			slices.SortStableFunc(batch, func(a, b pipeline.Ordered) int { return int(max(-1, min(1, a.Effective-b.Effective))) })
			without = append(without, floor(plain[seed], c, uint64(seed)))
			with = append(with, floor(fitted(t, batch), c, uint64(seed)))
			if seed < 3 {
				ungated = append(ungated, floor(naive(t, batch), c, uint64(seed)))
			}
		}
		a, b, u := median(without), median(with), median(ungated)
		t.Logf("%-28s pages after %4.0f; poisoned %4.0f (%+.0f %%); if all taught %4.0f", c.name, a, b, 100*(b-a)/a, u)
		if a > 3000 {
			t.Errorf("%s: never pages, poisoned or not", c.name)
		}
		if b >= 1.2*a {
			t.Errorf("%s: %d %% attackers in the training days move the page from %.0f requests to %.0f", c.name, 100*attackers/clients, a, b)
		}
		if u >= 1.2*a {
			fooled++
		}
	}
	if fooled == 0 {
		t.Error("a fit that everybody teaches is not moved either: the attackers teach nothing")
	}
}
