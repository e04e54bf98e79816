package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"weir/pipeline"
)

// evalCampaign is an attack on a busy login by many sources with a few tries each.
// Logins are fed to detection as they are, without the rest of a site's traffic:
// two weeks of a hundred thousand a day in one run.
type evalCampaign struct {
	name    string
	want    string
	perDay  float64 // logins of people
	noise   float64 // of their share that fails, beyond chance
	warm    int     // days before the attack
	length  time.Duration
	sources int
	each    float64 // attempts of a source a day
	tool    bool    // all sources are one tool
}

func evalCampaigns() []evalCampaign {
	return []evalCampaign{
		{"1,000 diffuse sources, 3 logins a day each, among 100,000 a day", "≤ 4 h; interval right in 85 %", 100_000, .005, 10, aDay, 1000, 3, false},
		{"the same, 2,000 sources", "", 100_000, .005, 10, aDay, 2000, 3, false},
		{"1,000 sources of one tool, 3 a day each, among 100,000 a day", "12 to 50 attempts", 100_000, .005, 3, 6 * time.Hour, 1000, 3, true},
	}
}

// campaignResult is one campaign over all seeds.
type campaignResult struct {
	evalCampaign
	found         []evalHit // attempts and seconds from the attack's start to the first alert
	first, end    int       // runs whose interval covers the truth, at the first alert and at the end
	judged        int       // runs with an estimate
	early         int       // campaigns told before the attack
	more          int       // campaigns of one run beyond the first
	attempts, est []float64
}

// loginTown is people who log in, each with an account, places, an agent and a
// way of mistyping.
type loginTown struct {
	rng    *rand.Rand
	people []loginTownsman
	agents []string
	ja4    []string
}

type loginTownsman struct {
	account      string
	agent, ja4   uint8
	home, mobile pipeline.Address
	asn          uint32
	fails        float64
}

const (
	townBrowsers = 60
	townStacks   = 9
	townISPs     = 40
	townMobile   = 1_900
	townFails    = .1 // of people's logins
)

func newLoginTown(seed uint64, people int) *loginTown {
	v := &loginTown{rng: rand.New(rand.NewPCG(seed, 0x746f776e))}
	for i := range townBrowsers {
		v.agents = append(v.agents, fmt.Sprintf("Mozilla/5.0 (%d) Chrome/1%d.0 Safari/537.36", i%7, i))
	}
	for i := range townStacks {
		v.ja4 = append(v.ja4, fmt.Sprintf("t13d15%02dh2_8daaf6152771_02713d6af862", i))
	}
	for i := range people {
		isp := uint32(v.rng.IntN(townISPs))
		browser := v.rng.IntN(townBrowsers)
		// Mistyping is unlike from one to the next: a share from Beta(1, 9), by the
		// inverse of its distribution.
		v.people = append(v.people, loginTownsman{
			account: "u_" + strconv.Itoa(i), agent: uint8(browser), ja4: uint8(browser % townStacks), asn: 1000 + isp,
			home:   address4(10<<24 | isp<<18 | uint32(v.rng.IntN(1<<18))),
			mobile: address4(11<<24 | uint32(v.rng.IntN(1<<14))),
			fails:  1 - math.Pow(v.rng.Float64(), townFails/(1-townFails)),
		})
	}
	return v
}

func address4(n uint32) (a pipeline.Address) {
	a[10], a[11], a[12], a[13], a[14], a[15] = 0xff, 0xff, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return a
}

// loginAt fills q with a login attempt.
func loginAt(q *pipeline.Request, at pipeline.Time, line int64, a pipeline.Address, asn uint32, agent, ja4, account string, failed bool) {
	*q = pipeline.Request{
		Time: at, Effective: at, Line: line, Bytes: 870, Duration: -1, Owner: a.Owner(), Kind: pipeline.PrincipalIP, Flags: pipeline.FlagLogin,
		Status: 200, Address: a, ASN: asn, Method: "POST", Path: "/api/login", Agent: agent, JA4: ja4, LoginUser: account,
	}
	if failed {
		q.Status, q.Bytes = 401, 190
	}
	q.Seal()
}

// play sends the town's days to each, and the attack's attempts among them, in
// order of time. It returns the times of those.
func (c *evalCampaign) play(seed uint64, start pipeline.Time, each func(fill func(q *pipeline.Request, line int64)) error) (attempts []pipeline.Time, err error) {
	v := newLoginTown(seed, int(c.perDay/2))
	r := rand.New(rand.NewPCG(seed, 0x72616964))
	began := float64(c.warm) * 86400
	end := began + c.length.Seconds()
	// A source tries at any time of its day; the order of sources is a shuffle a day.
	attack := c.each * float64(c.sources) / 86400
	next, peak := began+r.ExpFloat64()/attack, c.perDay/86400*1.6
	drift, last := 0.0, 0.0
	for at := 0.0; ; {
		at += v.rng.ExpFloat64() / peak
		for next < at && next < end {
			t := start + pipeline.Time(next*1e6)
			attempts = append(attempts, t)
			i := uint32(r.IntN(c.sources))
			like := &v.people[int(i)*7919%len(v.people)]
			agent, ja4, asn := v.agents[like.agent], v.ja4[like.ja4], like.asn
			if i%2 == 1 {
				asn = 3000 + i%300 // networks that people do not come from
			}
			if c.tool {
				agent, ja4 = "python-requests/2.31.0", "t13d1812h1_85036bcba153_b26ce05bbdd6"
			}
			account, failed := "x_"+strconv.FormatUint(r.Uint64()>>20, 36), true
			if r.Float64() < .4 {
				account, failed = v.people[r.IntN(len(v.people))].account, r.Float64() >= .025
			}
			if err := each(func(q *pipeline.Request, line int64) {
				loginAt(q, t, line, address4(100<<24|(i*2654435761)>>8), asn, agent, ja4, account, failed)
			}); err != nil {
				return nil, err
			}
			next += r.ExpFloat64() / attack
		}
		if at >= end {
			return attempts, nil
		}
		// People come by day; thinning leaves the day's curve.
		if v.rng.Float64() > (1+.6*math.Sin(2*math.Pi*at/86400))/1.6 {
			continue
		}
		// The share that fails wanders, with a memory of six hours.
		decay := math.Exp(-(at - last) / 21600)
		drift, last = float64(drift*decay)+float64(c.noise*math.Sqrt(1-float64(decay*decay))*v.rng.NormFloat64()), at
		p := &v.people[v.rng.IntN(len(v.people))]
		where, asn := p.home, p.asn
		if v.rng.IntN(5) == 0 {
			where, asn = p.mobile, townMobile
		}
		failed := v.rng.Float64() < p.fails+drift
		t := start + pipeline.Time(at*1e6)
		if err := each(func(q *pipeline.Request, line int64) {
			loginAt(q, t, line, where, asn, v.agents[p.agent], v.ja4[p.ja4], p.account, failed)
		}); err != nil {
			return nil, err
		}
	}
}

// campaign runs campaign i once, from the shipped edition: all that it knows of
// the login it learns in the days before.
func (e *evaluation) campaign(ctx context.Context, i int, seed uint64) error {
	c := e.campaigns[i].evalCampaign
	g, err := newEngine(e.lab.cfg, pipeline.ShippedEdition(), e.lab.keys, nil, 1)
	if err != nil {
		return err
	}
	g.merge.AddSource(1)
	start := pipeline.TimeOf(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))
	var alerts []pipeline.Alert
	var block *pipeline.Block
	push := func() {
		if block != nil {
			g.merge.Push(block)
			alerts = g.drain(alerts)
			g.merge.Done(nil)
			block = nil
		}
	}
	line := int64(0)
	attempts, err := c.play(seed, start, func(fill func(q *pipeline.Request, line int64)) error {
		line++
		if block == nil {
			block = &pipeline.Block{Source: "simulated", SourceID: 1, Watermark: pipeline.NoTime, Requests: make([]pipeline.Request, 0, evalBlock), Cause: pipeline.CauseRange{From: line}}
		}
		block.Requests = append(block.Requests, pipeline.Request{})
		fill(&block.Requests[len(block.Requests)-1], line)
		if len(block.Requests) == evalBlock {
			push()
			return ctx.Err()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s, seed %d: %w", c.name, seed, err)
	}
	push()
	g.merge.End(1)
	alerts = g.drain(alerts)
	until := func(at pipeline.Time) (n int64) {
		for _, t := range attempts {
			if t <= at {
				n++
			}
		}
		return n
	}
	began := start + pipeline.Time(float64(c.warm)*86400e6)
	hit, covers := evalHit{-1, -1}, [2]bool{}
	ids, early := map[string]bool{}, map[string]bool{}
	var truth, est float64
	for j := range alerts {
		a := &alerts[j]
		if a.Level != "campaign" || a.Estimate == nil {
			continue
		}
		opened := a.Window.DetectedAt
		if opened < began {
			early[a.ID] = true
			continue
		}
		ids[a.ID] = true
		n := until(a.Window.Last)
		right := a.Estimate.Low <= n && n <= a.Estimate.High
		if hit.Requests < 0 {
			hit = evalHit{until(opened), opened.Sub(began).Seconds()}
			covers[0] = right
		}
		covers[1] = right
		truth, est = float64(n), float64(a.Estimate.Attempts)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &e.campaigns[i]
	r.found = append(r.found, hit)
	r.early += len(early)
	r.more += max(0, len(ids)-1)
	if hit.Requests >= 0 {
		r.judged++
		r.attempts, r.est = append(r.attempts, truth), append(r.est, est)
	}
	for j, n := range []*int{&r.first, &r.end} {
		if covers[j] {
			*n++
		}
	}
	return nil
}

func (e *evaluation) reportCampaigns(p func(string, ...any)) {
	if len(e.campaigns) == 0 {
		return
	}
	p("## A busy login\n\n")
	p("Logins alone, fed straight to detection: people whose failures vary by half a point beyond chance over hours, then an attack. *Interval* is in how many runs the 90 %% interval of the campaign's size held the truth, at its first alert and at its last revision.\n\n")
	p("| attack | wanted | attempts until the alert | time to alert | interval, first | interval, last | size / truth | more campaigns | before the attack |\n|---|---|---|---|---|---|---|---|---|\n")
	for i := range e.campaigns {
		r := &e.campaigns[i]
		var ratio []float64
		for j := range r.est {
			if r.attempts[j] > 0 {
				ratio = append(ratio, r.est[j]/r.attempts[j])
			}
		}
		size := "none"
		if len(ratio) > 0 {
			size = fmt.Sprintf("%.2f", *quantile(ratio, 50))
		}
		p("| %s | %s | %s | %s | %d of %d | %d of %d | %s | %d | %d |\n", r.name, r.want, hitRequests(r.found), hitTime(r.found), r.first, r.judged, r.end, r.judged, size, r.more, r.early)
	}
	p("\n")
}
