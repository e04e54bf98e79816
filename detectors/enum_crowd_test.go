package detectors

import (
	"fmt"
	"testing"
	"time"

	"weir/pipeline"
)

// numbered is traffic of customers with numbered orders of their own, some made
// in a row, with agents of all kinds.
func (s *shopOf) numbered(customers, each int, from, to time.Duration) {
	for c := range customers {
		first := 10_000 + s.rng.IntN(900_000)
		for n := range each {
			id := 10_000 + s.rng.IntN(900_000)
			if c%4 == 0 {
				id = first + n
			}
			for range 3 {
				at := from + time.Duration(s.rng.Int64N(int64(to-from)))
				s.read(at, pipeline.PrincipalAccount, fmt.Sprint("customer", c), fmt.Sprint(id), 200)
				r := &s.all[len(s.all)-1]
				r.Agent = fmt.Sprintf("Mozilla/5.%d", c%40)
			}
		}
	}
}

// TestCrowd: two hundred clients, three or four ids each, none of which alerts by
// itself, are one campaign with its members, by whatever they have in common; two
// hundred customers at their own orders are nothing.
func TestCrowd(t *testing.T) {
	const day = 24 * time.Hour
	const clients = 200
	browser := func(i int) string { return fmt.Sprintf("Mozilla/5.%d", i%40) }
	for _, c := range []struct {
		name      string
		each      int
		agent     func(i int) string
		network   func(i int) (a, b, c byte)
		status    func(n int) uint16
		id        func(i, n, each int) int
		predicate string
	}{
		{"one agent, blocks", 4, func(int) string { return "python-requests/2.31" }, nil, nil, func(i, n, each int) int { return 500_000 + i*each + n }, "agent python-requests/2.31"},
		{"one agent, interleaved", 3, func(int) string { return "python-requests/2.31" }, nil, nil, func(i, n, each int) int { return 500_000 + n*clients + i }, "agent python-requests/2.31"},
		{"one network, agents at random", 4, browser, func(i int) (a, b, c byte) { return 198, 51, 100 }, nil, func(i, n, each int) int { return 500_000 + i*each + n }, "network 198.51.100.0/24"},
		{"nothing in common", 4, browser, nil, nil, func(i, n, each int) int { return 500_000 + i*each + n }, "all clients"},
		{"new orders in a rush", 4, nil, nil, nil, nil, ""},
		{"customers", 4, browser, nil, nil, nil, ""},
	} {
		for seed := range uint64(5) {
			s := newShop(seed)
			s.numbered(600, 5, 0, 4*day)
			if c.id != nil {
				for i := range clients {
					for n := range c.each {
						// All at work at once, for two hours.
						at := 3*day + time.Duration(n)*30*time.Minute + time.Duration(i)*8*time.Second
						s.read(at, pipeline.PrincipalAccount, fmt.Sprint("crowd", i), fmt.Sprint(c.id(i, n, c.each)), 200)
						r := &s.all[len(s.all)-1]
						r.Agent = c.agent(i)
						if c.network != nil {
							r.Address[12], r.Address[13], r.Address[14] = c.network(i)
						}
					}
				}
			} else if c.agent == nil {
				// All along, new orders are made in a row and read by their customers; on the
				// last day ten times as many.
				id, gap := 2_000_000, 10*time.Minute
				for at := time.Duration(0); at < 4*day; at += gap {
					if at > 3*day {
						gap = time.Minute
					}
					for k := range 3 {
						s.read(at+time.Duration(k)*time.Hour/7, pipeline.PrincipalAccount, fmt.Sprint("buyer", id%700), fmt.Sprint(id), 200)
					}
					id++
				}
			} else {
				s.numbered(200, c.each, 3*day, 3*day+2*time.Hour)
			}
			batch := s.batch()
			var campaign, last *pipeline.Finding
			found := detectAll(t, Config{}, fitBefore(t, batch, 3*day), batch)
			ids := map[string]bool{}
			for i := range found {
				f := &found[i]
				if f.Level != "campaign" {
					if f.Detector == "enum.object" {
						t.Errorf("%s: %s is accused by itself: %s", c.name, f.Who.Value, f.Reason)
					}
					continue
				}
				if campaign == nil {
					campaign = f
				}
				last = f
				ids[f.ID] = true
			}
			if c.predicate == "" {
				if campaign != nil {
					t.Errorf("%s, seed %d: %.1f nats: %s", c.name, seed, campaign.Score.Float(), campaign.Reason)
				}
				continue
			}
			if campaign == nil {
				t.Errorf("%s, seed %d: nothing found", c.name, seed)
				continue
			}
			right := 0
			for _, m := range last.Members {
				if len(m.Value) > 5 && m.Value[:5] == "crowd" {
					right++
				}
			}
			if seed == 0 {
				t.Logf("%-30s after %d ids; %d members, %d of them right; %.1f nats; estimate %+v: %s", c.name, campaign.Outcome.Attempted, last.MembersTotal, right, last.Score.Float(), *last.Estimate, last.Reason)
			}
			if len(ids) != 1 || last.Predicate != c.predicate {
				t.Errorf("%s, seed %d: %d campaigns, the last by %s", c.name, seed, len(ids), last.Predicate)
			}
			if right < clients*95/100 || last.MembersTotal > clients*105/100 || last.Score < pipeline.PageAt {
				t.Errorf("%s, seed %d: %d members, %d of them right, %.1f nats", c.name, seed, last.MembersTotal, right, last.Score.Float())
			}
		}
	}
}
