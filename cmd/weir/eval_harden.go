package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"weir/detectors"
	"weir/pipeline"
)

// What attackers do to the state that detection rests on: teach it, and flood it.

// reportPoisoned compares floors after poisoned training days with the others.
func (e *evaluation) reportPoisoned(p func(string, ...any)) {
	head := false
	for i := range e.floors {
		r := &e.floors[i]
		if r.of == "" {
			continue
		}
		for j := range e.floors {
			of := &e.floors[j]
			if of.name != r.of {
				continue
			}
			if !head {
				head = true
				p("## Poisoned training\n\nThree in a hundred of the clients that the edition is learned from attack, all day and in every way below. Wanted: less than 20 %% later.\n\n")
				p("| attack | alert after, clean | poisoned | moved | page after, clean | poisoned | moved |\n|---|---|---|---|---|---|---|\n")
			}
			p("| %s | %s | %s | %s | %s | %s | %s |\n", of.name, hitRequests(of.alert), hitRequests(r.alert), moved(of.alert, r.alert), hitRequests(of.page), hitRequests(r.page), moved(of.page, r.page))
		}
	}
	if head {
		p("\n")
	}
}

// moved is how much later the median is.
func moved(from, to []evalHit) string {
	requests := func(h evalHit) float64 { return float64(h.Requests) }
	a, _, n := spread(from, requests)
	b, _, m := spread(to, requests)
	switch {
	case n == 0 && m == 0:
		return "–"
	case n == 0 || m == 0 || a == 0:
		return "lost or won"
	}
	return fmt.Sprintf("%+.0f %%", 100*(b-a)/a)
}

// evalFlood is how many new addresses a flood has.
const evalFlood = 10_000_000

// slowAttack is one that a flood might wash out of the state.
type slowAttack struct {
	name    string
	gap     time.Duration
	request func(rng *rand.Rand, i int) pipeline.Request
}

func slowAttacks() []slowAttack {
	return []slowAttack{
		{"made-up names, 8 a day", 3 * time.Hour, func(rng *rand.Rand, _ int) pipeline.Request {
			return pipeline.Request{Method: "GET", Path: fmt.Sprintf("/%x", rng.Uint64()), Status: 404}
		}},
		{"objects in a row, refused, 8 a day", 3 * time.Hour, func(_ *rand.Rand, i int) pipeline.Request {
			return pipeline.Request{Method: "GET", Path: fmt.Sprintf("/orders/%d", 5000+i), Status: 403}
		}},
		{"accounts, 8 a day", 3 * time.Hour, func(_ *rand.Rand, i int) pipeline.Request {
			return pipeline.Request{Method: "POST", Path: "/login", Status: 401, Flags: pipeline.FlagLogin, LoginUser: fmt.Sprintf("u_%d", i)}
		}},
	}
}

// floodResult is how many requests each slow attacker made until it was paged for.
type floodResult struct {
	name           string
	plain, flooded int // 0: never
	took           time.Duration
	stats          detectors.Stats
}

// flood runs the slow attackers twice under shipped priors, undisturbed and among
// ten million new addresses, each with a miss.
func (e *evaluation) flood(ctx context.Context) error {
	attacks := slowAttacks()
	e.floods = make([]floodResult, len(attacks))
	for i := range attacks {
		e.floods[i].name = attacks[i].name
	}
	plain, _, err := e.slow(ctx, attacks, 0, 60)
	if err != nil {
		return err
	}
	longest := 1
	for i, n := range plain {
		e.floods[i].plain = n
		longest = max(longest, n)
	}
	begun := time.Now()
	flooded, stats, err := e.slow(ctx, attacks, evalFlood/longest, longest+longest/4+1)
	if err != nil {
		return err
	}
	for i, n := range flooded {
		e.floods[i].flooded, e.floods[i].stats, e.floods[i].took = n, stats, time.Since(begun)
	}
	return nil
}

// slow plays the attackers, rounds requests each, with so many new addresses
// between two of them.
func (e *evaluation) slow(ctx context.Context, attacks []slowAttack, between, rounds int) ([]int, detectors.Stats, error) {
	set, err := detectors.NewSet(detectors.Config{}, pipeline.ShippedEdition())
	if err != nil {
		return nil, detectors.Stats{}, err
	}
	rng := rand.New(rand.NewPCG(evalCalibrationSeed, 3))
	block := &pipeline.Block{Source: "flood"}
	paged, whose := make([]int, len(attacks)), map[string]int{}
	at := pipeline.TimeOf(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))
	var found []pipeline.Finding
	send := func(batch []pipeline.Ordered, round int) {
		found = set.Process(found[:0], batch)
		for i := range found {
			if k, ok := whose[found[i].Who.Value]; ok && found[i].Score >= pipeline.PageAt && paged[k] == 0 {
				paged[k] = round
			}
		}
	}
	address := func(r *pipeline.Request, a pipeline.Address) {
		r.Time, r.Effective, r.Address, r.Owner, r.Kind, r.Bytes = at, at, a, a.Owner(), pipeline.PrincipalIP, 100
		r.Agent = "curl/8"
		r.Seal()
	}
	const batchSize = 4096
	junk := make([]pipeline.Request, batchSize)
	ordered := make([]pipeline.Ordered, batchSize)
	for i := range junk {
		ordered[i] = pipeline.Ordered{Request: &junk[i], Block: block}
	}
	sent, told := uint64(0), uint64(0)
	for round := 1; round <= rounds && ctx.Err() == nil; round++ {
		for k := range attacks {
			a, _ := pipeline.ParseAddress(fmt.Sprintf("203.0.113.%d", k+1))
			whose[a.PrincipalValue()] = k
			r := attacks[k].request(rng, round)
			address(&r, a)
			send([]pipeline.Ordered{{Request: &r, Block: block}}, round)
		}
		at = at.Add(attacks[0].gap / 2)
		for left := between; left > 0 && sent < evalFlood && ctx.Err() == nil; left -= batchSize {
			n := min(left, batchSize, evalFlood-int(sent))
			for i := range n {
				sent++
				h := pipeline.Mix64(sent, 99)
				var a pipeline.Address
				for b := range 8 {
					a[b] = byte(h >> (56 - 8*b))
				}
				junk[i] = pipeline.Request{Method: "GET", Path: "/gone", Status: 404}
				address(&junk[i], a)
			}
			send(ordered[:n], round)
			if !e.o.quiet && sent >= told+1_000_000 {
				told = sent
				fmt.Fprintf(e.stderr, "flood: %d of %d addresses, %s\n", sent, evalFlood, time.Since(e.start).Round(time.Second))
			}
		}
		at = at.Add(attacks[0].gap / 2)
	}
	return paged, set.Stats(), ctx.Err()
}

func (e *evaluation) reportFloods(p func(string, ...any)) {
	if len(e.floods) == 0 {
		return
	}
	st := e.floods[0].stats
	p("## Floods\n\nSlow attackers, undisturbed and among %d new addresses, each with a miss, under the shipped priors (%d profiles and %d stubs made room). Wanted: a floor less than 20 %% higher.\n\n", evalFlood, st.EvictedProfiles, st.EvictedStubs)
	p("| attack | page after | page after, flooded | moved |\n|---|---|---|---|\n")
	for _, f := range e.floods {
		hit := func(n int) []evalHit {
			if n == 0 {
				return nil
			}
			return []evalHit{{Requests: int64(n)}}
		}
		p("| %s | %s | %s | %s |\n", f.name, hitRequests(hit(f.plain)), hitRequests(hit(f.flooded)), moved(hit(f.plain), hit(f.flooded)))
	}
	p("\n")
}
