package detectors

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// lastOf runs a case's traffic and returns the last finding of a detector.
func lastOf(t *testing.T, detector, traffic string) *pipeline.Finding {
	t.Helper()
	events, err := parseEvents(traffic, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := detectAll(t, Config{}, pipeline.ShippedEdition(), order(t, events))
	for i := range slices.Backward(found) {
		if found[i].Detector == detector {
			return &found[i]
		}
	}
	t.Fatalf("no finding of %s", detector)
	return nil
}

// reachedBy opens the names of the accounts that worked, sorted.
func reachedBy(t *testing.T, f *pipeline.Finding) []string {
	t.Helper()
	keys, err := pipeline.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, a := range f.Accounts {
		if a.Outcome != "success" {
			continue
		}
		name, ok := keys.Open(a.Name)
		if !ok {
			t.Errorf("account %s cannot be opened", a.Name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestReachedAccounts: the accounts that let an attacker in are all named, also
// those from before it was one, and among ordinary logins of others.
func TestReachedAccounts(t *testing.T) {
	f := func(detector, traffic string, want []string, succeeded int64, truncated bool) {
		t.Helper()
		got := lastOf(t, detector, traffic)
		if names := reachedBy(t, got); !slices.Equal(names, want) {
			t.Errorf("%s: reached %v, want %v", detector, names, want)
		}
		if got.Outcome.Succeeded == nil || *got.Outcome.Succeeded != succeeded {
			t.Errorf("%s: succeeded %v, want %d", detector, got.Outcome.Succeeded, succeeded)
		}
		if got.Truncated != truncated {
			t.Errorf("%s: truncated %t, want %t", detector, got.Truncated, truncated)
		}
		if len(want) > 0 && !strings.Contains(strings.Join(got.Next, "; "), fmt.Sprintf("Reset %s", plural(int64(len(want)), "account", "accounts"))) {
			t.Errorf("%s: no advice to reset them: %q", detector, got.Next)
		}
	}
	others := `
@9h 10.{random:1-3}.{random:0-9}.{random:1-20} 400 every 3s~ POST /login 200/401:12 login=p{random:1-900}
`
	f("auth.stuffing", others+`
@9h 203.0.113.7 2 every 1s POST /login 200 login=early{n}
@9h1m 203.0.113.7 25 every 5s POST /login 401 login=a{n}
@9h5m 203.0.113.7 3 every 5s POST /login 200 login=late{n}
@9h6m 203.0.113.7 4 every 1s POST /login 401 login=c{n}
`, []string{"early0", "early1", "late0", "late1", "late2"}, 3, false)
	f("auth.spraying", others+`
@9h 203.0.113.7 14 every 5s POST /login 401 login=a{n}
@10h 203.0.113.7 14 every 5s POST /login 401,401,401,401,401,401,401,401,401,401,401,401,401,200 login=a{n}
@11h 203.0.113.7 13 every 5s POST /login 401 login=a{n}
@11h30m 203.0.113.7 6 every 5s POST /login 401 login=new{n}
`, []string{"a13"}, 1, false)
	f("auth.bruteforce", others+`
@9h 203.0.113.7 60 every 500ms POST /login 401 login=boss
@9h1m 203.0.113.7 2 every 1s POST /login 200 login=boss
@9h2m 203.0.113.7 5 every 1s POST /login 401 login=boss
`, []string{"boss"}, 2, false)
	// More than the list holds: those that worked stay.
	want := []string{}
	for i := range 40 {
		want = append(want, fmt.Sprintf("hit%d", i))
	}
	slices.Sort(want)
	f("auth.stuffing", `
@9h 203.0.113.7 300 every 1s POST /login 401 login=a{n}
@9h6m 203.0.113.7 40 every 1s POST /login 200 login=hit{n}
@9h7m 203.0.113.7 99 every 1s POST /login 401 login=b{n}
`, want, 40, true)
}

// TestHiddenOutcome: where failures answer like successes, success is not known;
// once a failure shows, it is.
func TestHiddenOutcome(t *testing.T) {
	hidden := lastOf(t, "auth.bruteforce", "@9h 203.0.113.7 200 every 200ms POST /login 200 login=a{n}\n")
	if hidden.Outcome.Succeeded != nil || hidden.Outcome.Basis != "unknown" || len(reachedBy(t, hidden)) > 0 {
		t.Errorf("succeeded %v on basis %s, reached %v; nothing is known", hidden.Outcome.Succeeded, hidden.Outcome.Basis, reachedBy(t, hidden))
	}
	shown := lastOf(t, "auth.stuffing", "@9h 203.0.113.7 1 every 1s POST /login 200 login=first\n@9h1m 203.0.113.7 30 every 1s POST /login 401 login=a{n}\n")
	if shown.Outcome.Succeeded == nil || *shown.Outcome.Succeeded != 0 || !slices.Equal(reachedBy(t, shown), []string{"first"}) {
		t.Errorf("succeeded %v, reached %v; want 0 after the suspicion, and the first", shown.Outcome.Succeeded, reachedBy(t, shown))
	}
}

// TestStuckMailClient: a month of one stale password is one case, at review
// level.
func TestStuckMailClient(t *testing.T) {
	for _, gap := range []string{"2m", "15m", "3h"} {
		events, err := parseEvents("@0s 192.0.2.77 600 every "+gap+" POST /login 401 login=old hours=7-20\n@0s 192.0.2.77 900 every 48m POST /login 401 login=old\n", nil)
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for _, f := range detectAll(t, Config{}, pipeline.ShippedEdition(), order(t, events)) {
			ids[f.ID] = true
			if f.Score >= pipeline.PageAt {
				t.Fatalf("every %s: %s pages at %.1f nats", gap, f.Detector, f.Score.Float())
			}
		}
		if len(ids) > 1 {
			t.Errorf("every %s: %d cases in a month", gap, len(ids))
		}
	}
}

// TestRecentIsBounded: the ring holds what came last, whoever comes.
func TestRecentIsBounded(t *testing.T) {
	var s shard
	for i := range 5 * maxRecent {
		s.recent.remember(uint64(1+i%3), &pipeline.Request{LoginUser: fmt.Sprintf("u_%d", i)}, pipeline.Time(i), accepted, false)
	}
	d := s.openCase(2, pipeline.Principal{}, pipeline.Nat, 1)
	if n := len(s.recent.List); n != maxRecent {
		t.Errorf("%d entries, want %d", n, maxRecent)
	}
	if n := len(d.Logins.Accounts); n != maxRecent/3 && n != maxRecent/3+1 || d.Logins.Accounts[0].Time < 4*maxRecent {
		t.Errorf("%d of the last %d are the principal's: %v", n, maxRecent, d.Logins.Accounts)
	}
	again := s.recent
	s.recall(&dossier{Owner: 2})
	if len(again.List) != maxRecent {
		t.Error("recall changed the size")
	}
	if n := testing.AllocsPerRun(50, func() {
		s.recent.remember(9, &pipeline.Request{LoginUser: "u_1234567"}, 1, accepted, false)
	}); n > 0 {
		t.Errorf("%v allocations an attempt", n)
	}
}

// TestFitFirstAttempts: the share of first attempts that fail is learned from
// first attempts, whatever the share of all attempts is.
func TestFitFirstAttempts(t *testing.T) {
	events, err := parseEvents(`
@0s 10.0.{random:0-3}.{random:1-40} 4000 every 15s~ POST /login 200/401:4 login=p{n}
@0s 10.0.{random:0-3}.{random:1-40} 4000 every 15s~ POST /login 401 login=old
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := DecodeBaselines(fitted(t, order(t, events)).Detectors)
	if err != nil {
		t.Fatal(err)
	}
	// Of all attempts half fail; of first ones 4 %, and the stale account's.
	if m := b.LoginUser.Mean(); b.LoginUser.N < 100 || m < 0.05 || m > 0.11 {
		t.Errorf("first attempts fail %.3f over %d clients", m, b.LoginUser.N)
	}
}

// TestFirstAttemptsWorstFit: under the highest share that a fit may believe, a
// fifth, ten accounts a day page as they should, and two a day come to a review.
// docs/detectors.md says so.
func TestFirstAttemptsWorstFit(t *testing.T) {
	var clients []fitClient
	for range 400 {
		clients = append(clients, fitClient{loginUser: share{1, 1}}, fitClient{loginUser: share{1, 2}})
	}
	b := ShippedBaselines()
	b.LoginUser = fitBeta(clients, func(c *fitClient) share { return c.loginUser }, b.LoginUser)
	if m := b.LoginUser.Mean(); m < 0.19 || m > 0.201 {
		t.Fatalf("the highest share is %.3f", m)
	}
	raw, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e := &pipeline.Edition{Number: 1, Templates: pipeline.ColdTemplates(), Detectors: raw}
	f := func(gap time.Duration, reviewBy, pageBy int) {
		t.Helper()
		review, page := firstFindings(t, e, 80, func(i int) chanceTry { return chanceTry{fmt.Sprintf("u_%d", i), 401, gap, "curl"} })
		t.Logf("every %s: review after %d, page after %d", gap, review, page)
		if review == 0 || review > reviewBy {
			t.Errorf("every %s: review after %d (0: never), want at most %d", gap, review, reviewBy)
		}
		if pageBy > 0 && (page == 0 || page > pageBy) {
			t.Errorf("every %s: page after %d (0: never), want at most %d", gap, page, pageBy)
		}
	}
	f(time.Second, 14, 20)
	f(144*time.Minute, 14, 20)
	f(12*time.Hour, 15, 22)
}
