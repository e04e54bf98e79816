package main

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"weir/bench/simulate"
	"weir/pipeline"
)

// TestReached compares the lists of objects and accounts that alerts give a
// responder with what the simulated attacker got, from before the alert on.
func TestReached(t *testing.T) {
	t.Parallel()
	lab, err := newEvalLab("")
	if err != nil {
		t.Fatal(err)
	}
	const start = 30 * time.Hour
	type run struct {
		name   string
		site   string
		plain  bool // a log without accounts, keys and sessions
		attack simulate.Attack
		change func(*simulate.Scenario)
	}
	refused := func(a simulate.Attack) simulate.Attack { a.Success = .9; return a }
	walk := func(variant string, rate float64, e simulate.Evade) simulate.Attack {
		return simulate.Attack{Type: "enum.object", Variant: variant, Rate: rate, Requests: 90, Success: 1, Evade: e}
	}
	// Ownership is learned from owners who come back.
	busy := func(s *simulate.Scenario) { s.Benign[0].Factor = 5 }
	runs := []run{
		{"orders in a row", "shop", false, walk("sequential", 1, simulate.Evade{}), nil},
		{"orders in a row, by an address", "shop", true, refused(walk("sequential", 1, simulate.Evade{})), nil},
		{"orders shuffled", "shop", false, walk("sequential", 1.0/60, simulate.Evade{Shuffle: true, Jitter: 1}), nil},
		{"orders shuffled, by an address", "shop", true, refused(walk("sequential", 1.0/60, simulate.Evade{Shuffle: true, Jitter: 1})), nil},
		{"orders guessed", "shop", false, simulate.Attack{Type: "enum.object", Rate: .2, Requests: 200, Success: .1, Evade: simulate.Evade{Shuffle: true}}, nil},
		{"reports, UUIDs", "saas", false, walk("leaked", 1.0/60, simulate.Evade{Shuffle: true}), busy},
		{"reports, half of the requests for own ones", "saas", false, walk("leaked", 1.0/60, simulate.Evade{Shuffle: true, Own: .5}), busy},
		{"queries in a row", "public", false, walk("sequential", 1, simulate.Evade{}), nil},
		{"100 clients tile the orders", "shop", false, simulate.Attack{Type: "enum.object", Sources: 100, Rate: 5.0 / 4 / 3600, Requests: 500, Success: 1}, func(s *simulate.Scenario) { s.Site.Accounts = 20_000 }},
		{"stuffing", "shop", false, simulate.Attack{Type: "auth.stuffing", Rate: .2, Requests: 300, Success: .04}, nil},
		{"stuffing, failures answer 200", "saas", false, simulate.Attack{Type: "auth.stuffing", Rate: .2, Requests: 300, Success: .04}, nil},
		{"stuffing, a redirect says how it went", "shop", false, simulate.Attack{Type: "auth.stuffing", Rate: .2, Requests: 300, Success: .04}, func(s *simulate.Scenario) { s.Site.Login = "redirect" }},
		{"spraying", "shop", false, simulate.Attack{Type: "auth.spraying", Rate: .2, Requests: 200, Success: .02, Rounds: 4, Every: 30 * time.Minute}, nil},
		{"takeover after stuffing", "shop", false, simulate.Attack{Type: "auth.takeover", Variant: "stuffed", Success: -1}, nil},
		{"one account guessed", "shop", false, simulate.Attack{Type: "auth.bruteforce", Rate: .5, Requests: 100, Success: 1}, nil},
	}
	var mu sync.Mutex
	editions := map[string]*pipeline.Edition{}
	learn := func(t *testing.T, r run) *pipeline.Edition {
		mu.Lock()
		defer mu.Unlock()
		name := r.site
		s := reachedSite(t, r.site)
		if r.change != nil {
			r.change(s)
		}
		name += fmt.Sprint(s.Site.Login, s.Benign[0].Factor)
		if r.plain {
			name += " plain"
		}
		if editions[name] == nil {
			l := *lab
			l.plain = r.plain
			e, err := l.learn(context.Background(), s, evalLearnSeed)
			if err != nil {
				t.Fatal(err)
			}
			editions[name] = e
		}
		return editions[name]
	}
	for _, r := range runs {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			edition := learn(t, r)
			s := reachedSite(t, r.site)
			if r.change != nil {
				r.change(s)
			}
			r.attack.Name, r.attack.Start = "attack", start
			s.Attacks = []simulate.Attack{r.attack}
			l := *lab
			l.plain = r.plain
			trial, err := l.run(context.Background(), s, 5, edition)
			if err != nil {
				t.Fatal(err)
			}
			if testing.Verbose() {
				for _, in := range groupRevisions(trial.alerts) {
					a := in.latest()
					if len(episodesOf(trial.labels, alertOwners(trial.labels, a))) > 0 {
						t.Log(a.Detector, a.Level, openText(a.Principal.Value, lab.keys), a.Outcome.Objects, a.MembersTotal, a.Predicate, openText(a.Reason, lab.keys))
					}
				}
			}
			objects, accounts := trial.compareReached(lab.keys, 0)
			if labelFamily(r.attack.Type) == "auth" {
				if !accounts.equal() || accounts.truth == 0 {
					t.Errorf("accounts: %s", &accounts)
				}
				return
			}
			if !objects.equal() || objects.truth == 0 {
				t.Errorf("objects: %s", &objects)
			}
		})
	}
}

func reachedSite(t *testing.T, site string) *simulate.Scenario {
	t.Helper()
	s, ok := simulate.Builtin(site)
	if !ok {
		t.Fatalf("no scenario %s", site)
	}
	s.Benign = []simulate.Benign{{Profile: "people", Count: 220}, {Profile: "admin"}, {Profile: "support"}, {Profile: "partner-sync"}, {Profile: "challenge", Count: 6}}
	s.Site.Accounts, s.Length = 480, 36*time.Hour
	return s
}
