package detectors

import (
	"fmt"
	"math"
	"testing"
	"time"

	"weir/pipeline"
)

// item is a page of a catalogue, read by an address with an agent.
func (s *shopOf) item(at time.Duration, who, agent string, n int) {
	s.read(at, pipeline.PrincipalIP, who, "", 200)
	r := &s.all[len(s.all)-1]
	r.Path, r.Agent = fmt.Sprintf("/items/%d", 1000+n), agent
}

// visitors read what is popular: item n of 3,000 with weight 1/n, people from first
// on, several items each.
func (s *shopOf) visitors(first, people, each int, from, to time.Duration) {
	for p := first; p < first+people; p++ {
		at := from + time.Duration(s.rng.Int64N(int64(to-from)*9/10))
		for range 1 + s.rng.IntN(2*each) {
			s.item(at, fmt.Sprint("visitor", p), fmt.Sprintf("Mozilla/5.%d", p%12), int(math.Pow(3000, s.rng.Float64())))
			at += time.Duration(5+s.rng.IntN(100)) * time.Second
		}
	}
}

// TestScrapeCrowd: clients that share out a catalogue are one campaign, whether a
// tool gives them away or that each reads more than ordinary; people are none,
// however many come and whatever their browser is.
func TestScrapeCrowd(t *testing.T) {
	const day = 24 * time.Hour
	browser := func(i int) string { return fmt.Sprintf("Mozilla/5.%d", i%12) }
	for _, c := range []struct {
		name      string
		predicate string
		within    int // items of the whole crowd until it is told
		attack    func(s *shopOf)
	}{
		{"200 clients of one tool, 12 items each", "agent fetch/1", 1200, func(s *shopOf) {
			for i := range 200 {
				for n := range 12 {
					s.item(3*day+time.Duration(n*600+i)*time.Second, fmt.Sprint("crowd", i), "fetch/1", i*12+n)
				}
			}
		}},
		{"30 clients, agents like people's, 90 items each", "clients that read more than ordinary ones", 2500, func(s *shopOf) {
			for i := range 30 {
				for n := range 90 {
					s.item(3*day+time.Duration(n*100+i)*time.Second, fmt.Sprint("crowd", i), browser(i), i*90+n)
				}
			}
		}},
		{"a rush of people", "", 0, func(s *shopOf) { s.visitors(5000, 1500, 6, 3*day, 3*day+3*time.Hour) }},
		{"everybody reads four times as much", "", 0, func(s *shopOf) { s.visitors(0, 300, 24, 3*day, 4*day) }},
		{"a new version of the browser", "", 0, func(s *shopOf) {
			from := len(s.all)
			s.visitors(0, 300, 6, 3*day, 4*day)
			for i := range s.all[from:] {
				s.all[from+i].Agent = "Mozilla/6.0"
			}
		}},
		{"five partners copy all of it", "", 0, func(s *shopOf) {
			for i := range 5 {
				for n := range 600 {
					s.item(3*day+time.Duration(n*20)*time.Second, fmt.Sprint("partner", i), "partner/1", n*5)
				}
			}
		}},
	} {
		for seed := range uint64(2) {
			s := newShop(seed)
			for d := range 3 {
				s.visitors(0, 300, 6, time.Duration(d)*day, time.Duration(d+1)*day)
			}
			s.visitors(0, 300, 6, 3*day, 4*day)
			c.attack(s)
			batch := s.batch()
			var told, last *pipeline.Finding
			found := detectAll(t, Config{}, fitBefore(t, batch, 3*day), batch)
			ids := map[string]bool{}
			for i := range found {
				if f := &found[i]; f.Level == "campaign" {
					if told == nil {
						told = f
					}
					last = f
					ids[f.ID] = true
				}
			}
			if c.predicate == "" {
				if told != nil {
					t.Errorf("%s, seed %d: %.1f nats: %s", c.name, seed, told.Score.Float(), told.Reason)
				}
				continue
			}
			if told == nil {
				t.Errorf("%s, seed %d: nothing found", c.name, seed)
				continue
			}
			until, total := 0, 0
			names := map[string]bool{}
			for i := range batch {
				r := batch[i].Request
				if r.Agent == "fetch/1" || r.Effective >= caseStart.Add(3*day) && c.predicate != "agent fetch/1" && crowdOf(r, 30) {
					names[r.Address.PrincipalValue()] = true
					total++
					if r.Effective <= told.Time {
						until++
					}
				}
			}
			right := 0
			for _, m := range last.Members {
				if names[m.Value] {
					right++
				}
			}
			if seed == 0 {
				t.Logf("%-50s after %d of %d items; %d of %d members right, %d in all; estimate %+v: %s", c.name, until, total, right, len(last.Members), last.MembersTotal, last.Estimate, last.Reason)
			}
			if len(ids) != 1 || last.Predicate != c.predicate || until > c.within || last.Score < pipeline.PageAt {
				t.Errorf("%s, seed %d: %d campaigns, by %s, after %d items, %.1f nats", c.name, seed, len(ids), last.Predicate, until, last.Score.Float())
			}
			if right < len(last.Members)*9/10 || last.MembersTotal < len(names)*6/10 || last.MembersTotal > len(names)*15/10 {
				t.Errorf("%s, seed %d: %d members, %d listed, %d right", c.name, seed, last.MembersTotal, len(last.Members), right)
			}
		}
	}
}

func crowdOf(r *pipeline.Request, n int) bool {
	for i := range n {
		h := pipeline.Hash64(fmt.Sprint("crowd", i))
		if r.Address[13] == byte(h) && r.Address[14] == byte(h>>8) && r.Address[15] == byte(h>>16) {
			return true
		}
	}
	return false
}

// TestScrapeCrowdRestart: a checkpoint in the middle changes nothing.
func TestScrapeCrowdRestart(t *testing.T) {
	const day = 24 * time.Hour
	s := newShop(1)
	s.visitors(0, 300, 6, 0, day)
	for i := range 60 {
		for n := range 12 {
			s.item(day+time.Duration(n*600+i)*time.Second, fmt.Sprint("crowd", i), "fetch/1", i*12+n)
		}
	}
	batch := s.batch()
	e := fitBefore(t, batch, day)
	x, err := NewCorrelator(Config{}, e)
	if err != nil {
		t.Fatal(err)
	}
	set := newSet(t, Config{Cross: x}, e)
	set.Process(nil, batch)
	found := false
	for _, sh := range x.shards {
		if sh == nil {
			continue
		}
		for j, tb := range sh.tables[:len(x.junctions)] {
			if _, ok := x.junctions[j].(scrapeCrowd); !ok || tb == nil {
				continue
			}
			data, err := tb.encode(nil)
			if err != nil {
				t.Fatal(err)
			}
			again := new(readingTable)
			if err := again.decode(data); err != nil {
				t.Fatal(err)
			}
			second, err := again.encode(nil)
			if err != nil || string(second) != string(data) {
				t.Errorf("a table is another after a checkpoint: %v", err)
			}
			found = found || len(again.All) > 0 && len(again.All[0].Dims[readerAgent]) > 0
			if again.decode(data[:len(data)/2]) == nil {
				t.Error("half a checkpoint is read")
			}
		}
	}
	if !found {
		t.Fatal("no catalogue was followed")
	}
}
