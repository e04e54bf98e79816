package alerts

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/pipeline"
)

// noon is where the tests begin: 12:00 UTC.
var noon = pipeline.TimeOf(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))

func versions() pipeline.AlertVersions {
	return pipeline.AlertVersions{Weir: "test", Config: "sha256:0", Edition: "e0"}
}

// stuffing is a finding against addr with n accounts tried and ok logins.
func stuffing(addr string, at pipeline.Time, n, ok int64) *pipeline.Finding {
	return &pipeline.Finding{
		ID: "id-auth-" + addr, Time: at, Detector: "auth.stuffing", Level: "client",
		Who:   pipeline.Principal{Kind: pipeline.PrincipalIP, Value: addr},
		Onset: at.Add(-time.Minute), First: at.Add(-time.Minute), Last: at, Score: 20 * pipeline.Nat,
		Signals:   []pipeline.FindingSignal{{Name: "login_failure", Observed: 57, Expected: 4.1, Count: n, Nats: 20 * pipeline.Nat}},
		Outcome:   pipeline.Outcome{Requests: n + 3, Attempted: n, Succeeded: &ok, Accounts: &n, Basis: "learned"},
		Endpoint:  pipeline.Endpoint{Method: "POST", Template: "/login"},
		Facts:     pipeline.FindingFacts{CanSucceed: true, Succeeded: ok > 0},
		Addresses: []string{addr}, AddressesTotal: 1, Sampled: 1,
	}
}

// probing is a finding of background scanning.
func probing(addr string, at pipeline.Time, n int64) *pipeline.Finding {
	f := stuffing(addr, at, n, 0)
	f.ID, f.Detector, f.Outcome.Accounts = "id-probe-"+addr, "probe.path", nil
	f.Facts = pipeline.FindingFacts{Opportunistic: true}
	return f
}

// brief is a revision in one line.
func brief(as []pipeline.Alert) []string {
	out := []string{}
	for i := range as {
		out = append(out, fmt.Sprintf("%s.%d %s %s %s", as[i].ID, as[i].Revision, as[i].Change.Kind, as[i].Severity, as[i].Status))
	}
	return out
}

func TestGrade(t *testing.T) {
	f := func(detector string, score pipeline.Nats, facts pipeline.FindingFacts, active bool, severity, tier string) {
		t.Helper()
		s, r := grade(&pipeline.Finding{Detector: detector, Score: score, Facts: facts}, active, ordinary)
		if w := severities(); w[s] != severity || tierName(r) != tier {
			t.Errorf("%s %v %+v: %s %s, want %s %s", detector, score.Float(), facts, w[s], tierName(r), severity, tier)
		}
	}
	type facts = pipeline.FindingFacts
	f("auth.stuffing", pipeline.PageAt, facts{Succeeded: true, CanSucceed: true}, true, "critical", "page")
	f("auth.stuffing", pipeline.PageAt, facts{Succeeded: true}, false, "high", "page")
	f("auth.stuffing", pipeline.PageAt, facts{CanSucceed: true}, true, "high", "page")
	f("scrape.crawl", pipeline.PageAt, facts{}, true, "medium", "page")
	f("scrape.crawl", pipeline.PageAt-1, facts{}, true, "low", "review")
	f("scrape.crawl", pipeline.ReviewAt-1, facts{}, true, "low", "context")
	f("probe.path", 2*pipeline.PageAt, facts{Opportunistic: true}, true, "low", "review")
	f("probe.path", 2*pipeline.PageAt, facts{Opportunistic: true, Succeeded: true}, true, "critical", "page")
	f("scrape.crawl", 2*pipeline.PageAt, facts{Notice: true}, true, "info", "context")
	f("health.identity", 0, facts{Notice: true}, true, "info", "context")
	f("health.identity", pipeline.ReviewAt, facts{Notice: true}, true, "low", "review")
}

func TestGradeByWorth(t *testing.T) {
	f := func(score pipeline.Nats, facts pipeline.FindingFacts, active bool, wantCheap, wantOrdinary, wantPrecious string) {
		t.Helper()
		got := []string{}
		for _, worth := range []int{cheap, ordinary, precious} {
			s, _ := grade(&pipeline.Finding{Detector: "enum.object", Score: score, Facts: facts}, active, worth)
			got = append(got, severities()[s])
		}
		if d := cmp.Diff([]string{wantCheap, wantOrdinary, wantPrecious}, got); d != "" {
			t.Errorf("%v %+v: %s", score.Float(), facts, d)
		}
	}
	type facts = pipeline.FindingFacts
	f(pipeline.PageAt, facts{Succeeded: true}, true, "high", "critical", "critical")
	f(pipeline.PageAt, facts{Succeeded: true}, false, "high", "high", "critical")
	f(pipeline.PageAt, facts{CanSucceed: true}, true, "medium", "high", "high")
	f(pipeline.PageAt, facts{}, true, "medium", "medium", "high")
	f(pipeline.PageAt-1, facts{Succeeded: true}, true, "low", "low", "low") // worth is no evidence
	f(pipeline.PageAt, facts{Opportunistic: true}, true, "low", "low", "low")
	f(pipeline.PageAt, facts{Notice: true}, true, "info", "info", "info")
}

// The operator's weights decide by the endpoint that a finding is about, also
// after a restart.
func TestWeigh(t *testing.T) {
	rules, err := pipeline.NewLoginRules([]pipeline.EndpointRule{
		{Match: "POST /login", Role: "login", Weight: "low"},
		{Match: "/v2/{any}/secret", Role: "other", Weight: "high"},
		{Match: "/plain", Role: "other"},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := func(rules *pipeline.LoginRules, method, template, want string) {
		t.Helper()
		x := stuffing("203.0.113.7", noon, 12, 0)
		x.Endpoint = pipeline.Endpoint{Method: method, Template: template}
		b := NewBook(DefaultConfig(), versions())
		b.Weigh(rules)
		if got := b.Take(nil, x); len(got) != 1 || got[0].Severity != want {
			t.Errorf("%s %s: %v, want %s", method, template, brief(got), want)
		}
	}
	f(nil, "POST", "/login", "high")
	f(rules, "POST", "/login", "medium")
	f(rules, "POST", "/Login/", "medium")
	f(rules, "GET", "/login", "high")
	f(rules, "POST", "/oauth/token", "high") // a name that weir knows, which nobody weighed
	f(rules, "", "", "high")
	f(rules, "GET", "/plain", "high")

	b := NewBook(DefaultConfig(), versions())
	b.Weigh(rules)
	x := stuffing("203.0.113.7", noon, 12, 0)
	b.Take(nil, x)
	snap, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = Restore(DefaultConfig(), versions(), snap); err != nil {
		t.Fatal(err)
	}
	b.Weigh(rules)
	x = stuffing("203.0.113.7", noon.Add(time.Minute), 13, 0)
	x.Facts.CanSucceed, x.Endpoint.Template = false, "/v2/{id}/secret"
	got := b.Take(nil, x)
	if d := cmp.Diff([]string{"id-auth-203.0.113.7.2 grew high open"}, brief(got)); d != "" {
		t.Error(d)
	}
}

func TestRevisions(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	var got []string
	take := func(f *pipeline.Finding) {
		for _, a := range b.Take(nil, f) {
			if a.Change.Kind == "still_active" {
				continue
			}
			got = append(got, a.Window.Last.Std().Format("15:04")+" "+a.Change.Kind+" "+a.Severity+": "+a.Change.Text)
		}
	}
	at := func(min int) pipeline.Time { return noon.Add(time.Duration(min) * time.Minute) }

	weak := stuffing("203.0.113.7", at(0), 5, 0)
	weak.Score = pipeline.ReviewAt - 1
	take(weak) // below review: nothing
	take(stuffing("203.0.113.7", at(1), 12, 0))
	take(stuffing("203.0.113.7", at(2), 30, 0)) // not 4 times
	take(stuffing("203.0.113.7", at(3), 48, 0))
	take(stuffing("203.0.113.7", at(4), 57, 2))
	take(stuffing("203.0.113.7", at(5), 58, 3)) // success is old news
	moved := stuffing("203.0.113.7", at(6), 60, 3)
	moved.Endpoint.Template = "/v2/login"
	take(moved)
	take(stuffing("203.0.113.7", at(7), 61, 3)) // back, but within the hour
	for m := 17; m <= 400; m += 10 {
		take(stuffing("203.0.113.7", at(m), 62, 3))
	}
	got = append(got, brief(b.Advance(nil, at(12*60)))...)
	take(stuffing("203.0.113.7", at(13*60), 9, 0))
	want := []string{
		"12:01 opened high: 12 accounts",
		"12:03 grew high: 12 → 48 accounts",
		"12:04 succeeded critical: 48 → 57 accounts, 2 logins worked",
		"12:06 new_endpoint critical: now at POST /v2/login; 57 → 60 accounts, 3 logins worked",
		"13:07 new_endpoint critical: now at POST /login; 60 → 62 accounts, 3 logins worked",
		"id-auth-203.0.113.7.24 resolved critical resolved",
		"01:00 reopened high: back after 6 h 23 min of silence; 9 accounts",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStillActive(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	f := func(of func(at pipeline.Time) *pipeline.Finding, from, to, every time.Duration, want string) {
		t.Helper()
		var got []pipeline.Alert
		for d := from; d < to; d += every {
			got = b.Take(got, of(noon.Add(d)))
		}
		kinds := map[string]int{}
		for _, a := range got {
			kinds[a.Change.Kind]++
		}
		if s := fmt.Sprint(kinds); s != want {
			t.Errorf("%v to %v: %s, want %s", from, to, s, want)
		}
	}
	day := 24 * time.Hour
	page := func(at pipeline.Time) *pipeline.Finding { return stuffing("203.0.113.7", at, 12, 0) }
	f(page, 0, time.Hour, time.Minute, "map[opened:1 still_active:3]")
	f(page, time.Hour, time.Hour+10*time.Minute, time.Minute, "map[still_active:1]")
	f(page, time.Hour+10*time.Minute, day, time.Minute, "map[still_active:91]")
	f(page, day, 2*day, 5*time.Minute, "map[still_active:4]") // seldom from the second day on
	review := func(at pipeline.Time) *pipeline.Finding {
		x := stuffing("203.0.113.9", at, 12, 0)
		x.Score = pipeline.ReviewAt
		return x
	}
	f(review, 2*day, 3*day, 5*time.Minute, "map[opened:1 resolved:1 still_active:3]")
	// One that comes back is new: it is told of as often.
	b.Advance(nil, noon.Add(5*day))
	f(page, 6*day, 6*day+time.Hour, time.Minute, "map[reopened:1 still_active:3]")

	// Growth is measured from the last news: slow growth is noticed, too.
	kinds := []string{}
	for i := range 5 {
		for _, a := range b.Take(nil, stuffing("203.0.113.8", noon.Add(7*day+time.Duration(i)*15*time.Minute), 12<<i/2, 0)) {
			if a.Principal.Value == "203.0.113.8" {
				kinds = append(kinds, a.Change.Kind+" "+a.Change.Text)
			}
		}
	}
	if d := cmp.Diff([]string{
		"opened 6 accounts", "still_active still active after 15 min; 6 → 12 accounts", "grew 6 → 24 accounts",
		"still_active still active after 15 min; 24 → 48 accounts", "grew 24 → 96 accounts",
	}, kinds); d != "" {
		t.Error(d)
	}
}

func TestStillActiveText(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	b.Take(nil, stuffing("203.0.113.7", noon, 12, 0))
	got := b.Take(nil, stuffing("203.0.113.7", noon.Add(30*time.Minute-1), 12, 0))
	if len(got) != 1 || got[0].Change.Text != "still active after 29 min; 12 accounts" {
		t.Errorf("%v", got)
	}
}

func TestSilence(t *testing.T) {
	// Silence is over after max(30 min, 10 times the median gap), at most 7 days.
	f := func(gap, want time.Duration) {
		t.Helper()
		b := NewBook(DefaultConfig(), versions())
		now := noon
		for range 5 {
			b.Take(nil, stuffing("203.0.113.7", now, 12, 0))
			now = now.Add(gap)
		}
		last := now.Add(-gap)
		if n := len(b.Advance(nil, last.Add(want-time.Microsecond))); n != 0 {
			t.Errorf("gap %s: resolved before %s", gap, want)
		}
		got := b.Advance(nil, last.Add(want))
		if len(got) != 1 || got[0].Status != "resolved" || got[0].Ongoing || got[0].Outcome.Attempted != 12 {
			t.Errorf("gap %s: not resolved after %s: %v", gap, want, brief(got))
		}
	}
	f(time.Minute, 30*time.Minute)
	f(10*time.Minute, 100*time.Minute)
	f(3*time.Hour, 30*time.Hour) // resolved and reopened once, then by its own pace
	f(30*time.Hour, 7*24*time.Hour)
}

func TestReopenIsBounded(t *testing.T) {
	f := func(silence time.Duration, maxResolved int, want string) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.MaxResolved = maxResolved
		b := NewBook(cfg, versions())
		b.Take(nil, stuffing("203.0.113.7", noon, 12, 0))
		b.Take(nil, stuffing("203.0.113.8", noon.Add(time.Minute), 12, 0))
		b.Advance(nil, noon.Add(2*time.Hour))
		again := stuffing("203.0.113.7", noon.Add(silence), 12, 0)
		again.First = noon.Add(-time.Minute) // the detector kept its case, and its id
		got := b.Take(nil, again)
		if len(got) != 1 || got[0].Change.Kind != want {
			t.Fatalf("after %s: %v, want %s", silence, brief(got), want)
		}
		if same := got[0].ID == "id-auth-203.0.113.7"; same != (want == "reopened") {
			t.Errorf("after %s: id %s for %s: an id that was used must not begin again at revision 1", silence, got[0].ID, want)
		}
	}
	f(29*24*time.Hour, 10, "reopened")
	f(31*24*time.Hour, 10, "opened")
	f(3*time.Hour, 1, "opened") // forgotten for want of room
}

// TestFamilyKeepsItsName: two detectors of a family that both grow give an
// incident a new name seldom, and what either saw of accounts stays.
func TestFamilyKeepsItsName(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	account := func(name, outcome string) pipeline.AffectedAccount {
		return pipeline.AffectedAccount{Name: name, Outcome: outcome, Time: noon}
	}
	names := []string{}
	take := func(detector, supersedes string, minute int, score pipeline.Nats, ok int64, accounts ...pipeline.AffectedAccount) pipeline.Alert {
		t.Helper()
		f := stuffing("203.0.113.7", noon.Add(time.Duration(minute)*time.Minute), 12, ok)
		f.Detector, f.Supersedes, f.Score, f.Accounts = detector, supersedes, score*pipeline.Nat, accounts
		b.Take(nil, f)
		open := b.Open()
		if len(open) != 1 {
			t.Fatalf("%d incidents, want one a family", len(open))
		}
		names = append(names, open[0].Detector)
		return open[0]
	}
	for m := 0; m < 60; m += 2 {
		take("auth.stuffing", "", m, pipeline.Nats(20+m), 0, account("ann", "failure"))
		take("auth.takeover", "", m+1, pipeline.Nats(21+m), 0, account("bob", "failure"))
	}
	if changes := len(slices.Compact(slices.Clone(names))) - 1; changes > 0 {
		t.Errorf("one nat more changed the name %d times", changes)
	}
	names = names[:0]
	if a := take("auth.takeover", "", 61, 120, 2, account("bob", "success"), account("cid", "success")); a.Detector != "auth.takeover" {
		t.Errorf("clearly more evidence does not give the name: %s", a.Detector)
	}
	a := take("auth.spraying", "auth.takeover", 62, 60, 0, account("dan", "failure"), account("bob", "failure"))
	if a.Detector != "auth.spraying" {
		t.Errorf("who takes the case over does not name it: %s", a.Detector)
	}
	got := []string{}
	for _, c := range a.Affected.Accounts {
		got = append(got, c.Name+" "+c.Outcome)
	}
	if d := cmp.Diff([]string{"bob success", "cid success", "ann failure", "dan failure"}, got); d != "" {
		t.Errorf("accounts that another detector saw: %s", d)
	}
	if a.Outcome.Succeeded == nil || *a.Outcome.Succeeded != 2 {
		t.Errorf("succeeded %v, want the 2 that another detector saw", a.Outcome.Succeeded)
	}
}

// TestAccountsAreBounded: what worked stays when there are too many.
func TestAccountsAreBounded(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	for m := range 4 {
		f := stuffing("203.0.113.7", noon.Add(time.Duration(m)*time.Minute), 12, int64(m))
		for i := range 200 {
			outcome := "failure"
			if m == 3 {
				outcome = "success"
			}
			f.Accounts = append(f.Accounts, pipeline.AffectedAccount{Name: fmt.Sprintf("%d-%d", m, i), Outcome: outcome, Time: noon})
		}
		b.Take(nil, f)
	}
	a := b.Open()[0]
	worked := 0
	for _, c := range a.Affected.Accounts {
		worked += got(c)
	}
	if len(a.Affected.Accounts) != maxAccounts || worked != 200 || !a.Affected.Truncated {
		t.Errorf("%d accounts, %d worked, truncated %t; want %d, 200, true", len(a.Affected.Accounts), worked, a.Affected.Truncated, maxAccounts)
	}
}

func TestFamily(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	spray := stuffing("203.0.113.7", noon, 12, 0)
	spray.Detector, spray.ID = "auth.spraying", "id-spray"
	b.Take(nil, spray)
	strong := stuffing("203.0.113.7", noon.Add(time.Minute), 12, 0)
	strong.Score = 30 * pipeline.Nat
	b.Take(nil, strong)
	weak := stuffing("203.0.113.7", noon.Add(2*time.Minute), 12, 0)
	weak.Detector = "auth.bruteforce"
	b.Take(nil, weak)
	open := b.Open()
	if len(open) != 1 || open[0].ID != "id-spray" || open[0].Detector != "auth.stuffing" || open[0].Window.Last != noon.Add(2*time.Minute) {
		t.Errorf("one incident a family, named by its strongest detector: %v %s", brief(open), open[0].Detector)
	}
	if open[0].Campaign != "" {
		t.Error("one family is no campaign")
	}
	enum := stuffing("203.0.113.7", noon.Add(3*time.Minute), 12, 0)
	enum.Detector, enum.ID = "enum.object", "id-enum"
	got := b.Take(nil, enum)
	if len(got) != 1 || got[0].Campaign == "" || got[0].Context.PriorAlerts != 1 {
		t.Fatalf("second family: %v, campaign %q", brief(got), got[0].Campaign)
	}
	for _, a := range b.Open() {
		if a.Campaign != got[0].Campaign {
			t.Errorf("%s has campaign %q, want %q", a.ID, a.Campaign, got[0].Campaign)
		}
	}
	// Two health problems of one source are two alerts.
	for _, d := range []string{"health.rejects", "health.source_silent"} {
		h := &pipeline.Finding{ID: d, Time: noon.Add(4 * time.Minute), Detector: d, Who: pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: "access.log"}, Facts: pipeline.FindingFacts{Notice: true}}
		if got := b.Take(nil, h); len(got) != 1 || got[0].Severity != "info" || got[0].Tier != "context" {
			t.Errorf("%s: %v", d, brief(got))
		}
	}
}

func TestBackgroundScanning(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	var all []pipeline.Alert
	for i := range 100 {
		for range 2 { // a later finding of a member replaces the earlier
			all = b.Take(all, probing(fmt.Sprintf("198.51.100.%d", i), noon.Add(time.Duration(i)*time.Second), int64(10+i)))
		}
	}
	texts := []string{}
	for _, a := range all {
		texts = append(texts, a.Change.Kind+" "+a.Change.Text)
	}
	want := []string{"opened 1 client", "grew 1 → 4 clients", "grew 4 → 16 clients", "grew 16 → 64 clients"}
	if d := cmp.Diff(want, texts); d != "" {
		t.Error(d)
	}
	a := b.Open()[0]
	if a.Level != "campaign" || a.Severity != "low" || a.Tier != "review" || a.MembersTotal != 100 || len(a.Members) != 64 ||
		a.Outcome.Attempted != 100*10+99*100/2 || a.AddressesTotal != 100 ||
		a.Principal != (pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: "internet background scanning 2026-11-22"}) {
		t.Errorf("campaign: %s %s %s, %d members, %d shown, attempted %d, %d addresses, %v", a.Level, a.Severity, a.Tier,
			a.MembersTotal, len(a.Members), a.Outcome.Attempted, a.AddressesTotal, a.Principal)
	}
	if !slices.IsSortedFunc(a.Members, compareWho) {
		t.Error("members are not sorted")
	}
	// A real answer, and a second family, each break a member out.
	hit := probing("198.51.100.3", noon.Add(10*time.Minute), 14)
	hit.Facts.Opportunistic, hit.Facts.CanSucceed = false, true
	got := b.Take(nil, hit)
	if len(got) != 1 || got[0].ID != hit.ID || got[0].Change.Text != "no longer mere background scanning; 14 paths" {
		t.Errorf("answered member: %v %+v", brief(got), got)
	}
	b.Take(nil, stuffing("198.51.100.5", noon.Add(11*time.Minute), 20, 0))
	got = b.Take(nil, probing("198.51.100.5", noon.Add(12*time.Minute), 16))
	if len(got) != 1 || got[0].Level != "client" || got[0].Campaign == "" {
		t.Errorf("member with a second family: %v", brief(got))
	}
	// The day ends exactly at midnight, and another begins.
	midnight := dayOf(noon).Add(day)
	var ends []pipeline.Alert
	for _, a := range b.Advance(nil, midnight) {
		if a.Level == "campaign" {
			ends = append(ends, a)
		}
	}
	if len(ends) != 1 || ends[0].Status != "resolved" || ends[0].MembersTotal != 98 {
		t.Errorf("end of the day: %v", brief(ends))
	}
	got = b.Take(nil, probing("198.51.100.9", midnight.Add(time.Second), 16))
	if len(got) != 1 || got[0].ID == ends[0].ID || got[0].Revision != 1 {
		t.Errorf("next day: %v", brief(got))
	}
}

func TestScanMembersAreBounded(t *testing.T) {
	s := &scan{members: map[uint64]memberSum{}, addresses: map[uint64]struct{}{}}
	for i := range maxMembers + 10 {
		s.add(probing(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), noon, 1))
	}
	if len(s.members) != maxMembers || s.Beyond != 10 || s.Sum.Attempted != maxMembers || len(s.addresses) != maxMembers {
		t.Errorf("%d members, %d beyond, sum %d", len(s.members), s.Beyond, s.Sum.Attempted)
	}
}

func TestOverflow(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxOpen = 10
	b := NewBook(cfg, versions())
	var all []pipeline.Alert
	for i := range 30 {
		f := stuffing(fmt.Sprintf("198.51.100.%d", i), noon.Add(time.Duration(i)*time.Second), 12, 0)
		f.Score += pipeline.Nats(i % 7)
		all = b.Take(all, f)
	}
	if n := b.Stats(); n.Open != 10 || n.Folded != 20 {
		t.Errorf("%d open, %d folded", n.Open, n.Folded)
	}
	open := map[string]int{}
	notice := []string{}
	for _, a := range all {
		switch {
		case a.Detector == "health.loss":
			notice = append(notice, a.Change.Kind+" "+a.Change.Text)
		case a.Status == "open":
			open[a.ID]++
		default:
			open[a.ID]--
		}
	}
	still := 0
	for _, n := range open {
		still += n
	}
	if still != 10 {
		t.Errorf("%d alerts stay open outside, 10 are followed", still)
	}
	if d := cmp.Diff([]string{"opened 1 more", "grew 1 → 4 more", "grew 4 → 16 more"}, notice); d != "" {
		t.Error(d)
	}
	last := b.Open()
	if i := slices.IndexFunc(last, func(a pipeline.Alert) bool { return a.Detector == "health.loss" }); i < 0 || last[i].Title != "20 more incidents than weir follows" {
		t.Errorf("no notice among the open: %v", brief(last))
	}
	for _, a := range last {
		if a.Detector != "health.loss" && a.Score.Nats < 20 {
			t.Errorf("a weak one was kept: %v", a.Score.Nats)
		}
	}
}

func TestBackfill(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	f := stuffing("203.0.113.7", noon, 12, 0)
	f.Backfill = true
	past := stuffing("203.0.113.8", noon, 12, 0)
	past.Backfill = true
	got := b.Take(b.Take(nil, f), past)
	got = b.Take(got, stuffing("203.0.113.7", noon.Add(time.Minute), 13, 0))
	got = b.Advance(got, noon.Add(3*time.Hour))
	var marks []string
	for i := range got {
		marks = append(marks, fmt.Sprintf("%s.%d %s %v", got[i].Principal.Value, got[i].Revision, got[i].Change.Kind, Backfill(&got[i])))
	}
	want := []string{
		"203.0.113.7.1 opened true", "203.0.113.8.1 opened true",
		"203.0.113.7.2 still_active false", // began in history, goes on live: someone must hear of it
		"203.0.113.8.2 resolved true", "203.0.113.7.3 resolved false",
	}
	if d := cmp.Diff(want, marks); d != "" {
		t.Error(d)
	}
}

// random returns findings in order, of every kind that the book treats apart.
func random(seed uint64, n int) []*pipeline.Finding {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]*pipeline.Finding, 0, n)
	now := noon
	for range n {
		now = now.Add(time.Duration(r.Int64N(int64(3 * time.Minute))))
		if r.IntN(200) == 0 {
			now = now.Add(time.Duration(r.Int64N(int64(40 * 24 * time.Hour))))
		}
		addr := fmt.Sprintf("203.0.113.%d", r.IntN(25)*r.IntN(2)) // .0 is busy
		f := stuffing(addr, now, 1+r.Int64N(500), max(0, r.Int64N(20)-16))
		if r.IntN(2) == 0 {
			f = probing(addr, now, 1+r.Int64N(500))
			f.Facts.Opportunistic = r.IntN(5) > 0
		}
		if r.IntN(6) == 0 {
			f.Detector = "auth.spraying"
		}
		f.Score = pipeline.Nats(r.Int64N(int64(30*pipeline.Nat))) + 5*pipeline.Nat
		f.Last = now.Add(-time.Duration(r.Int64N(int64(time.Hour))))
		f.First = now - now%(6*3600e6) // a detector's case, with the id that goes with it
		f.ID = fmt.Sprint(f.ID, f.Detector, f.First)
		f.Endpoint.Template = []string{"/login", "/v2/login", ""}[r.IntN(3)]
		f.Backfill = len(out) < n/5
		out = append(out, f)
	}
	return out
}

func lines(as []pipeline.Alert) string {
	var b []byte
	for i := range as {
		b = append(AppendJSON(b, &as[i]), '\n')
	}
	return string(b)
}

// The revisions depend on the findings and their times: not on how often time
// is told, and not on being restored in between.
func TestSameFindingsSameRevisions(t *testing.T) {
	for seed := range uint64(5) {
		cfg := DefaultConfig()
		cfg.MaxOpen, cfg.MaxResolved = 12, 9
		if seed%2 == 1 {
			cfg.Budget = Budget{Alerts: 2, Pages: 2}
		}
		findings := random(seed, 600)
		end := findings[len(findings)-1].Time.Add(40 * 24 * time.Hour)

		plain := NewBook(cfg, versions())
		var want []pipeline.Alert
		for _, f := range findings {
			want = plain.Take(want, f)
		}
		want = plain.Advance(want, end)
		kinds := map[string]int{}
		for _, a := range want {
			kinds[a.Change.Kind]++
		}
		if len(kinds) != 7 {
			t.Fatalf("the sample does not show every kind of change: %v", kinds)
		}

		ticked := NewBook(cfg, versions())
		var got []pipeline.Alert
		for _, f := range findings {
			for now := ticked.now; now < f.Time && ticked.now > noon; now = now.Add(7 * time.Hour) {
				got = ticked.Advance(got, now)
			}
			got = ticked.Take(got, f)
		}
		got = ticked.Advance(got, end)
		if d := cmp.Diff(lines(want), lines(got)); d != "" {
			t.Fatalf("seed %d: ticks change the revisions: %s", seed, d)
		}

		b := NewBook(cfg, versions())
		got = nil
		for i, f := range findings {
			got = b.Take(got, f)
			if i%13 != 0 {
				continue
			}
			snap, err := b.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if b, err = Restore(cfg, versions(), snap); err != nil {
				t.Fatal(err)
			}
			again, err := b.Snapshot()
			if err != nil || !bytes.Equal(snap, again) {
				t.Fatalf("seed %d: snapshot after restore differs (%v): %s", seed, err, cmp.Diff(string(snap), string(again)))
			}
		}
		got = b.Advance(got, end)
		if d := cmp.Diff(lines(want), lines(got)); d != "" {
			t.Fatalf("seed %d: a restore changes the revisions: %s", seed, d)
		}
		seen := map[string]bool{}
		next := map[string]int{}
		for _, a := range want {
			if seen[revisionOf(&a)] || a.Revision != next[a.ID]+1 {
				t.Fatalf("seed %d: revision %s is out of order", seed, revisionOf(&a))
			}
			seen[revisionOf(&a)], next[a.ID] = true, a.Revision
		}
	}
}

func TestRestoreRefusesJunk(t *testing.T) {
	f := func(data, want string) {
		t.Helper()
		if _, err := Restore(DefaultConfig(), versions(), []byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", data, err, want)
		}
	}
	f(``, "read snapshot")
	f(`{"schema":"weir.book/9"}`, "schema")
	f(`{"schema":"weir.book/1","open":[null]}`, "open incident 0")
	f(`{"schema":"weir.book/1","open":[{"severity":9}]}`, "severity")
	f(`{"schema":"weir.book/1","resolved":[null]}`, "resolved incident 0")
	f(`{"schema":"weir.book/1","actors":[null]}`, "client 0")
}

func TestBookKeepsNothingOfTheCaller(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	f := stuffing("203.0.113.7", noon, 12, 0)
	f.Labels = map[string]string{"service": "shop"}
	before := lines(b.Take(nil, f))
	f.Signals[0].Name, *f.Outcome.Succeeded, f.Addresses[0], f.Labels["service"] = "changed", 99, "changed", "changed"
	open := b.Open()
	open[0].Signals[0].Name, *open[0].Outcome.Accounts, open[0].Labels["service"] = "changed", 99, "changed"
	if d := cmp.Diff(before, lines(b.Open())); d != "" {
		t.Error(d)
	}
}

func BenchmarkTake(b *testing.B) {
	book := NewBook(DefaultConfig(), versions())
	f := stuffing("203.0.113.7", noon, 12, 0)
	b.ReportAllocs()
	for b.Loop() {
		f.Time += 60e6
		f.Last = f.Time
		book.Take(nil, f)
	}
}

// A case that weakens keeps its severity: the route that took the opening must
// take the end.
func TestSeverityNeverFalls(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	first := stuffing("203.0.113.7", noon, 12, 0)
	first.Score, first.Facts.CanSucceed = pipeline.ReviewAt, true
	got := b.Take(nil, first)
	got = b.Take(got, stuffing("203.0.113.7", noon.Add(time.Minute), 13, 0))
	weak := stuffing("203.0.113.7", noon.Add(2*time.Minute), 14, 0)
	weak.Score = pipeline.Nat
	got = b.Take(got, weak)
	got = b.Advance(got, noon.Add(time.Hour))
	var s []string
	for _, a := range got {
		s = append(s, a.Severity+" "+a.Tier+" "+a.Change.Text)
	}
	want := []string{"low review 12 accounts", "high page severity low → high; 12 → 13 accounts", "high page silent since 22 Nov 12:02 UTC; 14 accounts"}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	if got[2].Score.Nats != 1 {
		t.Errorf("the end carries %v nats, not the last numbers", got[2].Score.Nats)
	}
}

// TestTwoViews: what one principal's requests prove and what ownership proves are
// one alert: the graver one speaks, whichever came last, and no object is lost.
func TestTwoViews(t *testing.T) {
	walk := func(at time.Duration, score pipeline.Nats) *pipeline.Finding {
		f := stuffing("203.0.113.7", noon.Add(at), 40, 0)
		f.ID, f.Detector, f.Outcome.Accounts, f.Score = "id-walk", "enum.object", nil, score
		f.Objects = []string{"/orders/1", "/orders/2"}
		return f
	}
	owned := func(at time.Duration, objects ...string) *pipeline.Finding {
		f := walk(at, 22*pipeline.Nat)
		f.ID, f.Wide, f.Facts.Succeeded, f.Title = "id-owned", true, true, "owned"
		f.Objects = objects
		return f
	}
	b := NewBook(DefaultConfig(), versions())
	var last []pipeline.Alert
	take := func(f *pipeline.Finding) { last = append(last, b.Take(nil, f)...) }
	take(walk(0, 30*pipeline.Nat))
	take(owned(time.Minute, "/orders/7"))
	for i := range 20 {
		take(walk(time.Duration(2+2*i)*time.Minute, 90*pipeline.Nat))
		take(owned(time.Duration(3+2*i)*time.Minute, "/orders/7", fmt.Sprint("/orders/", 100+i)))
	}
	ids := map[string]bool{}
	for i := range last {
		ids[last[i].ID] = true
	}
	if len(ids) != 1 || len(last) > 4 {
		t.Errorf("%d alerts in %d revisions: %v", len(ids), len(last), brief(last))
	}
	end := last[len(last)-1]
	if end.Title != "owned" || end.Severity != "critical" {
		t.Errorf("%s %s", end.Severity, end.Title)
	}
	inc := b.open[placeOf(walk(0, 0))]
	if a := b.alert(inc, true); !slices.Equal(a.Affected.Objects, []string{"/orders/7", "/orders/119"}) {
		t.Errorf("objects %v", a.Affected.Objects)
	}
	// The other way round: ownership is only worth a look, the walk pages; its
	// objects stay those that are known to be another's.
	b = NewBook(DefaultConfig(), versions())
	look := owned(0, "/orders/7")
	look.Score, look.Facts.Succeeded = 14*pipeline.Nat, true
	b.Take(nil, look)
	b.Take(nil, walk(time.Minute, 40*pipeline.Nat))
	look = owned(2*time.Minute, "/orders/7", "/orders/8")
	look.Score = 14 * pipeline.Nat
	b.Take(nil, look)
	a := b.alert(b.open[placeOf(look)], true)
	if a.Title == "owned" || a.Severity != "high" || !slices.Equal(a.Affected.Objects, []string{"/orders/7", "/orders/8"}) {
		t.Errorf("%s %s %v", a.Severity, a.Title, a.Affected.Objects)
	}
}

// TestMembers: a campaign's members reach the alert, listed up to a bound, counted beyond.
func TestMembers(t *testing.T) {
	f := stuffing("203.0.113.7", noon, 40, 0)
	f.Level, f.Who = "campaign", pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: "agent x"}
	for i := range 400 {
		f.Members = append(f.Members, pipeline.Principal{Kind: pipeline.PrincipalIP, Value: fmt.Sprint("10.0.0.", i)})
	}
	f.MembersTotal = 900
	a := NewBook(DefaultConfig(), versions()).Take(nil, f)
	if len(a) != 1 || len(a[0].Members) != maxListed || a[0].MembersTotal != 900 || a[0].Level != "campaign" {
		t.Fatalf("%d alerts, %d members of %d", len(a), len(a[0].Members), a[0].MembersTotal)
	}
}

// TestMembersGrow: four times the members are news, whatever their attempts come to.
func TestMembersGrow(t *testing.T) {
	b := NewBook(DefaultConfig(), versions())
	for i, c := range []struct {
		members int
		text    string
	}{
		{12, "40 accounts"}, {47, ""}, {48, "12 → 48 clients; 40 accounts"}, {100, ""}, {192, "48 → 192 clients; 40 accounts"},
	} {
		f := stuffing("203.0.113.7", noon.Add(time.Duration(i)*time.Minute), 40, 0)
		f.ID, f.Level, f.Who, f.MembersTotal = "id", "campaign", pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: "agent x"}, c.members
		text := ""
		for _, a := range b.Take(nil, f) {
			text += a.Change.Text
		}
		if text != c.text {
			t.Errorf("%d members: %q, want %q", c.members, text, c.text)
		}
	}
}

// TestCampaignChildren: cases that are part of a campaign carry its id, do not page
// as long as nothing worked, and survive a restart; others are left alone.
func TestCampaignChildren(t *testing.T) {
	camp := func(at pipeline.Time) *pipeline.Finding {
		f := stuffing("", at, 300, 0)
		f.ID, f.Level, f.Who = "id-campaign", "campaign", pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: "agent hydra at POST /login"}
		f.Predicate, f.Agents, f.MembersTotal = "agent hydra", []string{"hydra"}, 214
		f.Estimate = &pipeline.Estimate{Attempts: 290, Low: 270, High: 300}
		for i := range 64 {
			f.Members = append(f.Members, pipeline.Principal{Kind: pipeline.PrincipalIP, Value: fmt.Sprintf("198.51.100.%d", i)})
		}
		return f
	}
	by := func(addr, agent string, at pipeline.Time, ok int64) *pipeline.Finding {
		f := stuffing(addr, at, 20, ok)
		f.Agents = []string{agent}
		return f
	}
	b := NewBook(DefaultConfig(), versions())
	early := b.Take(nil, by("198.51.100.9", "x", noon, 0))
	if early[0].Campaign != "" || early[0].Severity != "high" {
		t.Fatalf("before the campaign: %v %q", brief(early), early[0].Campaign)
	}
	own := b.Take(nil, camp(noon.Add(time.Minute)))
	if len(own) != 1 || own[0].Campaign != "id-campaign" || own[0].Severity != "high" || own[0].MembersTotal != 214 ||
		own[0].Estimate == nil || own[0].Estimate.Low != 270 || own[0].Predicate != "agent hydra" {
		t.Fatalf("campaign: %+v", own)
	}
	data, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	restored, err := Restore(DefaultConfig(), versions(), data)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Book{b, restored} {
		for _, c := range []struct {
			what               string
			f                  *pipeline.Finding
			campaign, severity string
		}{
			{"a member", by("198.51.100.3", "x", noon.Add(2*time.Minute), 0), "id-campaign", "low"},
			{"the campaign's agent", by("203.0.113.1", "hydra", noon.Add(3*time.Minute), 0), "id-campaign", "low"},
			{"a member that got in", by("198.51.100.4", "x", noon.Add(4*time.Minute), 1), "id-campaign", "critical"},
			{"somebody else", by("203.0.113.2", "x", noon.Add(5*time.Minute), 0), "", "high"},
			{"the campaign's agent, a day later", by("203.0.113.3", "hydra", noon.Add(24*time.Hour), 0), "", "high"},
		} {
			got := b.Take(nil, c.f)
			last := got[len(got)-1]
			if last.Campaign != c.campaign || last.Severity != c.severity {
				t.Errorf("%s: campaign %q, severity %s; want %q, %s", c.what, last.Campaign, last.Severity, c.campaign, c.severity)
			}
		}
	}
}
