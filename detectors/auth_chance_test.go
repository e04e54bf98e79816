package detectors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// attempt is one login at somebody's account.
type chanceTry struct {
	user   string
	status uint16
	gap    time.Duration // since the one before
	agent  string
}

// firstFindings feeds n attempts of one client to a set under e and returns after how
// many it was reviewed and paged; 0 for never.
func firstFindings(t *testing.T, e *pipeline.Edition, n int, next func(i int) chanceTry) (review, page int) {
	t.Helper()
	s := newSet(t, Config{}, e)
	address, _ := pipeline.ParseAddress("203.0.113.7")
	block := &pipeline.Block{Source: "attack"}
	at := caseStart
	for i := 0; i < n && page == 0; i++ {
		a := next(i)
		at = at.Add(a.gap)
		r := pipeline.Request{
			Method: "POST", Path: "/login", Status: a.status, Flags: pipeline.FlagLogin, LoginUser: a.user, Time: at, Effective: at,
			Address: address, Owner: address.Owner(), Kind: pipeline.PrincipalIP, Bytes: 500, Agent: a.agent,
		}
		r.Seal()
		for _, f := range s.Process(nil, []pipeline.Ordered{{Request: &r, Block: block}}) {
			if review == 0 {
				review = i + 1
			}
			if f.Score >= pipeline.PageAt {
				page = i + 1
			}
		}
	}
	return review, page
}

// TestCanaries: a client of whose logins one in five works, by chance. The
// ceilings are the measured numbers and a tenth; docs/detectors.md has them.
func TestCanaries(t *testing.T) {
	f := func(gap time.Duration, median, p90 int) {
		t.Helper()
		var pages []int
		const runs, limit = 100, 400
		for seed := range uint64(runs) {
			rng := rand.New(rand.NewPCG(seed, 3))
			_, page := firstFindings(t, pipeline.ShippedEdition(), limit, func(i int) chanceTry {
				status := uint16(401)
				if rng.Float64() < 0.2 {
					status = 200
				}
				return chanceTry{fmt.Sprintf("u_%d", i), status, gap, "curl"}
			})
			if page == 0 {
				page = limit + 1
			}
			pages = append(pages, page)
		}
		slices.Sort(pages)
		never := 0
		for _, p := range pages {
			if p > limit {
				never++
			}
		}
		t.Logf("one in five works, every %s: page after %d (median), %d (p90); not within %d: %d of %d", gap, pages[runs/2], pages[runs*9/10], limit, never, runs)
		if pages[runs/2] > median || pages[runs*9/10] > p90 {
			t.Errorf("every %s: page after %d (median) and %d (p90); want at most %d and %d", gap, pages[runs/2], pages[runs*9/10], median, p90)
		}
	}
	f(time.Minute, 28, 52)
	f(144*time.Minute, 30, 71) // too slow: some are never paged
}

// TestOffice: five hundred people behind one address, whatever it shows of
// them, mistype on two mornings; each gets in at the second try.
func TestOffice(t *testing.T) {
	f := func(typos float64, agents, reviewed int) {
		t.Helper()
		reviews, pages := 0, 0
		const runs = 40
		for seed := range uint64(runs) {
			rng := rand.New(rand.NewPCG(seed, 4))
			again := ""
			review, page := firstFindings(t, pipeline.ShippedEdition(), 1500, func(i int) chanceTry {
				a := chanceTry{again, 200, 10 * time.Second, fmt.Sprintf("Mozilla/5.%d", rng.IntN(agents))}
				if again != "" {
					again = ""
					return a
				}
				a.user, a.gap = fmt.Sprintf("u_%d", rng.IntN(500)), time.Duration(8*rng.ExpFloat64()*float64(time.Second))
				if i == 750 {
					a.gap = 20 * time.Hour
				}
				if rng.Float64() < typos {
					a.status, again = 401, a.user
				}
				return a
			})
			reviews += min(review, 1)
			pages += min(page, 1)
		}
		t.Logf("%.0f %% mistype, %d agents: %d of %d reviewed, %d paged", 100*typos, agents, reviews, runs, pages)
		if pages > 0 || reviews > reviewed {
			t.Errorf("%.0f %% mistype, %d agents: %d of %d reviewed, %d paged; want at most %d and none", 100*typos, agents, reviews, runs, pages, reviewed)
		}
	}
	f(0.16, 1, 0)
	f(0.2, 1, 2) // where nothing tells how many people they are
	f(0.2, 40, 0)
	f(0.3, 40, 2)
}
