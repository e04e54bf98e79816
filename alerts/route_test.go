package alerts

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"weir/pipeline"
)

func TestRoutes(t *testing.T) {
	no := false
	cfg := Config{Routes: []Route{
		{Match: Match{Severity: []string{"critical"}}, To: []string{"pager"}, Continue: true},
		{Match: Match{Detector: []string{"auth", "probe.path"}}, To: []string{"siem"}, SendResolved: &no, GroupWait: Duration(time.Minute)},
		{Match: Match{Labels: map[string]string{"team": "a"}}, To: []string{"team", "siem"}},
	}}
	f := func(a pipeline.Alert, want ...string) {
		t.Helper()
		got := []string{}
		for _, s := range []string{"pager", "siem", "team"} {
			if via, ok := cfg.wants(s, &a); ok && via.GroupWait > 0 {
				got = append(got, s+" "+time.Duration(via.GroupWait).String())
			} else if ok {
				got = append(got, s)
			}
		}
		if d := cmp.Diff(append([]string{}, want...), got); d != "" {
			t.Errorf("%s %s: %s", a.Detector, a.Severity, d)
		}
	}
	type labels = pipeline.AlertLabels
	f(pipeline.Alert{Detector: "auth.stuffing", Severity: "critical", Labels: labels{"team": "a"}}, "pager", "siem 1m0s")
	f(pipeline.Alert{Detector: "probe.path", Severity: "low"}, "siem 1m0s")
	f(pipeline.Alert{Detector: "probe.other", Severity: "low"})
	f(pipeline.Alert{Detector: "probe.other", Severity: "low", Labels: labels{"team": "a"}}, "siem", "team")
	f(pipeline.Alert{Detector: "auth.stuffing", Severity: "critical", Status: "resolved", Labels: labels{"team": "a"}}, "pager")
	cfg = Config{}
	f(pipeline.Alert{Severity: "high"}, "pager", "siem", "team")
	f(pipeline.Alert{Severity: "medium"})
}

func TestMatch(t *testing.T) {
	a := pipeline.Alert{
		Detector: "auth.stuffing", Severity: "high", Tier: "page", Level: "campaign", Change: pipeline.AlertChange{Kind: "grew"},
		Endpoint: pipeline.Endpoint{Method: "POST", Host: "api.example.com", Template: "/v1/users/{id}/Login"},
	}
	f := func(want bool, m Match) {
		t.Helper()
		if got := m.matches(&a); got != want {
			t.Errorf("%+v: %v", m, got)
		}
	}
	f(true, Match{})
	f(true, Match{Tier: []string{"review", "page"}, Level: []string{"campaign"}, Severity: []string{"high"}, Detector: []string{"auth.*"}})
	f(true, Match{Change: []string{"opened", "grew"}})
	f(false, Match{Change: []string{"still_active"}})
	f(false, Match{Tier: []string{"review"}})
	f(false, Match{Level: []string{"client", "account"}})
	f(false, Match{Detector: []string{"auth.spraying", "probe"}})
	for pattern, want := range map[string]bool{
		"POST /v1/users/{id}/login": true, "post /v1/users/*/login": true, "* /v1/users/{x}/log*": true, "/v1/**": true, "/**": true,
		"GET /v1/**": false, "/v1/users/{id}": false, "/v1/users/{id}/login/x": false, "/v1/*": false, "/v2/**": false, "/v1/users/{id}/login/**": true, "/v1/users/{id}/login/x/**": false,
	} {
		f(want, Match{Endpoint: []string{pattern}})
	}
	a.Endpoint = pipeline.Endpoint{}
	f(false, Match{Endpoint: []string{"/**"}})
}

// grouped runs f while a sink with these routes is served from st; it takes
// batches of up to batch.
func grouped(t *testing.T, st *memoryStore, batch int, routes []Route, f func(pass func(time.Duration), sent func() string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		sink := batchSink(func(batch []pipeline.Alert) error {
			mu.Lock()
			defer mu.Unlock()
			for _, a := range batch {
				got = append(got, fmt.Sprintf("%s.%d", a.ID, a.Revision))
			}
			return nil
		})
		cfg := DefaultConfig()
		cfg.Routes, cfg.Sinks = routes, map[string]SinkConfig{"siem": {Batch: batch}}
		d, err := NewDeliverer(DelivererOptions{Config: cfg, Store: st, Sinks: map[string]Sink{"siem": sink}, Log: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		f(func(wait time.Duration) {
			d.Wake()
			time.Sleep(wait) // the bubble's clock: takes no time
			synctest.Wait()
		}, func() string {
			mu.Lock()
			defer mu.Unlock()
			defer func() { got = nil }()
			return strings.Join(got, " ")
		})
		cancel()
		wg.Wait()
	})
}

// revise stores a revision.
func (s *memoryStore) revise(id string, revision int, severity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, Row{Seq: int64(len(s.rows) + 1), Alert: pipeline.Alert{ID: id, Revision: revision, Severity: severity}})
}

func TestGroupWait(t *testing.T) {
	routes := []Route{
		{Match: Match{Severity: []string{"critical"}}, To: []string{"siem"}},
		{Match: Match{Severity: []string{"low", "high"}}, To: []string{"siem"}, GroupWait: Duration(30 * time.Second)},
	}
	for _, batch := range []int{1, 16} {
		t.Run(fmt.Sprint("batch ", batch), func(t *testing.T) {
			st := newStore(0)
			grouped(t, st, batch, routes, func(pass func(time.Duration), sent func() string) {
				f := func(want string) {
					t.Helper()
					if got := sent(); got != want {
						t.Errorf("sent %q, want %q", got, want)
					}
				}
				st.revise("x", 1, "high")
				st.revise("pages", 1, "critical") // what is behind need not wait
				st.revise("nobody", 1, "info")
				st.revise("calm", 1, "critical")
				pass(time.Second)
				f("pages.1 calm.1")
				if st.cursor["siem"] != 0 {
					t.Errorf("the cursor is at %d, past a revision that waits", st.cursor["siem"])
				}
				pass(10 * time.Second)
				st.revise("x", 2, "high")
				st.revise("y", 1, "low")
				pass(18 * time.Second)
				f("")
				pass(time.Second) // the first came 30 s ago: no longer than that
				f("x.2")
				st.revise("y", 2, "low")
				st.revise("x", 3, "high") // waits anew
				pass(11 * time.Second)
				f("y.2")
				pass(20 * time.Second)
				f("x.3")
				if int(st.cursor["siem"]) != len(st.rows) {
					t.Errorf("the cursor is at %d of %d", st.cursor["siem"], len(st.rows))
				}
				// A graver revision by a route that does not wait takes the others along.
				st.revise("z", 1, "high")
				st.revise("z", 2, "high")
				pass(time.Second)
				f("")
				st.revise("z", 3, "critical")
				pass(time.Second)
				f("z.3")
				pass(time.Minute)
				f("")
			})
		})
	}
}

// A crash while something waits loses nothing; what was sent past it comes again.
func TestGroupWaitAcrossRestart(t *testing.T) {
	routes := []Route{
		{Match: Match{Severity: []string{"critical"}}, To: []string{"siem"}},
		{To: []string{"siem"}, GroupWait: Duration(30 * time.Second)},
	}
	st := newStore(0)
	st.revise("x", 1, "high")
	st.revise("pages", 1, "critical")
	grouped(t, st, 1, routes, func(pass func(time.Duration), sent func() string) {
		if pass(20 * time.Second); sent() != "pages.1" {
			t.Error("what need not wait was not sent")
		}
	})
	grouped(t, st, 1, routes, func(pass func(time.Duration), sent func() string) {
		pass(31 * time.Second)
		if got := sent(); got != "pages.1 x.1" {
			t.Errorf("sent %q", got)
		}
	})
}

// A backlog does not go at the pace of the waiting.
func TestGroupWaitBacklog(t *testing.T) {
	st := newStore(0)
	for i := range 20 * window {
		st.revise(fmt.Sprint("b", i/2), 1+i%2, "high")
	}
	grouped(t, st, 16, []Route{{To: []string{"siem"}, GroupWait: Duration(time.Minute)}}, func(pass func(time.Duration), sent func() string) {
		pass(61 * time.Second)
		got := strings.Fields(sent())
		if len(got) != 10*window || slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(s, ".1") }) {
			t.Errorf("sent %d revisions, want the last of each of %d alerts", len(got), 10*window)
		}
	})
}

// TestGroupsThroughMishaps: revisions that come over time, a sink that fails for all
// or for some, a process that is killed. Of each alert the latest arrives, what need
// not wait arrives whole, and no earlier revision comes for the first time after a
// later one.
func TestGroupsThroughMishaps(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { groupChaos(t, rand.New(rand.NewPCG(seed, *chaosSeed)), 1+int(seed%3)*20) })
		})
	}
}

func groupChaos(t *testing.T, rng *rand.Rand, batch int) {
	t.Helper()
	const total = 1500
	cfg := DefaultConfig()
	cfg.Sinks = map[string]SinkConfig{"siem": {Batch: batch}}
	cfg.Routes = []Route{
		{Match: Match{Severity: []string{"critical"}}, To: []string{"siem"}},
		{Match: Match{Severity: []string{"high"}}, To: []string{"siem"}, GroupWait: Duration(30 * time.Second)},
		{Match: Match{Severity: []string{"low"}}, To: []string{"siem"}, GroupWait: Duration(5 * time.Minute)},
	}
	st := newStore(0)
	must, last, next := map[string]bool{}, map[string]int{}, map[string]int{}
	newest, arrived := map[string]int{}, map[string]bool{}
	calm := false
	take := func(a *pipeline.Alert) {
		if arrived[revisionOf(a)] {
			return
		}
		arrived[revisionOf(a)] = true
		if a.Revision < newest[a.ID] {
			t.Errorf("%s comes after revision %d", revisionOf(a), newest[a.ID])
		}
		newest[a.ID] = a.Revision
	}
	dice := rand.New(rand.NewPCG(rng.Uint64(), 2))
	sink := batchSink(func(some []pipeline.Alert) error { // one courier: never twice at a time
		what := dice.IntN(10)
		if calm {
			what = 9
		}
		switch {
		case what == 0:
			return errDown
		case what == 1: // taken, and nobody hears
			for i := range some {
				take(&some[i])
			}
			return errDown
		case what == 2 && len(some) > 1:
			errs := make([]error, len(some))
			for i := range some {
				if dice.IntN(3) == 0 {
					errs[i] = errDown
				} else {
					take(&some[i])
				}
			}
			return &ItemErrors{Errs: errs}
		}
		for i := range some {
			take(&some[i])
		}
		return nil
	})
	for life, made := 0, 0; ; life++ {
		m := &mortal{memoryStore: st}
		m.writes.Store(1 + int64(rng.IntN(60)))
		if calm = made == total; calm {
			m.writes.Store(1 << 40)
		}
		d, err := NewDeliverer(DelivererOptions{Config: cfg, Store: m, Sinks: map[string]Sink{"siem": sink}, Log: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		for lasts := 5 + rng.IntN(60); lasts > 0 && m.writes.Load() >= 0 && made < total; lasts-- {
			for range min(rng.IntN(8), total-made) {
				made++
				id := fmt.Sprint("g", made/60*7+rng.IntN(12))
				next[id]++
				severity := [...]string{"high", "high", "low", "critical", "info"}[rng.IntN(5)]
				st.revise(id, next[id], severity)
				if severity != "info" {
					last[id] = next[id]
				}
				if severity == "critical" {
					must[fmt.Sprint(id, ".", next[id])] = true
				}
			}
			d.Wake()
			time.Sleep(time.Duration(rng.IntN(8000)) * time.Millisecond)
		}
		if calm {
			time.Sleep(12 * time.Hour)
		}
		m.writes.Store(-1)
		cancel()
		wg.Wait()
		if calm {
			t.Logf("killed %d times; %d of %d revisions arrived", life, len(arrived), total)
			break
		}
	}
	for k := range must {
		if !arrived[k] {
			t.Errorf("%s need not wait and did not arrive", k)
		}
	}
	for id, n := range last {
		if newest[id] != n {
			t.Errorf("of %s the latest that arrived is %d, want %d", id, newest[id], n)
		}
	}
	if len(st.dead) > 0 || len(st.retries) > 0 || st.cursor["siem"] != total || len(arrived) >= total*4/5 || len(must) == 0 {
		t.Errorf("%d dead letters, %d retries, cursor %d, %d arrived", len(st.dead), len(st.retries), st.cursor["siem"], len(arrived))
	}
}
