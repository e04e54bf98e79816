package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/pipeline"
)

func mustLabels(t *testing.T, text string) *Labels {
	t.Helper()
	l, err := ReadLabels(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// labelTime is 2026-03-02 at a time of day.
func labelTime(t *testing.T, s string) pipeline.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, "2026-03-02T"+s+"Z")
	if err != nil {
		t.Fatal(err)
	}
	return pipeline.TimeOf(v)
}

// alertOn is one revision: detector, severity, principal, window.
func alertOn(t *testing.T, id, detector, severity, principal, first, last, detected string) pipeline.Alert {
	t.Helper()
	a := pipeline.Alert{Schema: pipeline.AlertSchema, ID: id, Revision: 1, Detector: detector, Severity: severity, Title: detector + " by " + principal}
	if principal != "" {
		p, err := parseLabelPrincipal(principal)
		if err != nil {
			t.Fatal(err)
		}
		a.Principal = p
	}
	a.Window = pipeline.AlertWindow{First: labelTime(t, first), Last: labelTime(t, last), DetectedAt: labelTime(t, detected)}
	return a
}

func labelAddress(t *testing.T, s string) pipeline.Address {
	t.Helper()
	a, ok := pipeline.ParseAddress(s)
	if !ok {
		t.Fatalf("no address: %s", s)
	}
	return a
}

func TestReadLabelsErrors(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		_, err := ReadLabels(strings.NewReader(in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadLabels(%q) = %v, want an error with %q", in, err, want)
		}
	}
	const window = `"start":"2026-03-02T10:00:00Z","end":"2026-03-02T10:01:00Z"`
	ok := `{"benign":"a","principals":["ip:192.0.2.1"]}` + "\n"
	f("", "no labels")
	f("\n\n", "no labels")
	f(ok+"{", "line 2: not a JSON object")
	f(ok+`{"principals":["ip:192.0.2.1"]}`, "line 2: exactly one of")
	f(`{"episode":"e","benign":"b","principals":["ip:192.0.2.1"]}`, "line 1: exactly one of")
	f(`{"benign":"b"}`, `"principals" is empty`)
	f(`{"benign":"b","principals":["192.0.2.1"]}`, "is not \"kind:value\"")
	f(`{"benign":"b","principals":["ip:"]}`, "is not \"kind:value\"")
	f(`{"benign":"b","principals":["ip:192.0.2.0/24"]}`, "neither an IP address nor an IPv6 /64")
	f(`{"episode":"e","type":"probe","principals":["ip:192.0.2.1"],`+window+`}`, `type "probe" is no detector name`)
	f(`{"episode":"e","type":"probe.path","principals":["ip:192.0.2.1"],"end":"2026-03-02T10:01:00Z"}`, `start "" is no RFC 3339`)
	f(`{"episode":"e","type":"probe.path","principals":["ip:192.0.2.1"],"start":"2026-03-02T10:00:00Z","end":"yesterday"}`, `end "yesterday" is no RFC 3339`)
	f(`{"episode":"e","type":"probe.path","principals":["ip:192.0.2.1"],"start":"2026-03-02T10:02:00Z","end":"2026-03-02T10:01:00Z"}`, "is before start")
	e := `{"episode":"e","type":"probe.path","principals":["ip:192.0.2.1"],` + window + `}` + "\n"
	f(e+ok+e, `line 3: episode "e" is already on line 1`)
	f(ok+`{"benign":"`+strings.Repeat("x", maxLabelLine), "line 2: longer than")
}

func TestEvaluateMatching(t *testing.T) {
	labels := mustLabels(t, `
{"episode":"e1","type":"auth.stuffing","principals":["ip:203.0.113.7","session:abc"],"start":"2026-03-02T10:00:00.9Z","end":"2026-03-02T10:10:00Z","extra":1}
{"episode":"e2","type":"scrape.crawl","principals":["ip:2001:db8:1:2::5"],"start":"2026-03-02T10:00:00Z","end":"2026-03-02T10:10:00Z"}
{"benign":"office","principals":["ip:198.51.100.2"]}
`)
	f := func(a pipeline.Alert, want string) {
		t.Helper()
		e := Evaluate(labels, []pipeline.Alert{a}, nil)
		got := fmt.Sprintf("matched=%d misnamed=%d false=%d detected=%d apart=%d", e.Matched, e.Misnamed, e.False, e.Detected, e.Health+e.Info)
		if got != want {
			t.Errorf("%s: %s, want %s", a.Title, got, want)
		}
	}
	const (
		hit      = "matched=1 misnamed=0 false=0 detected=1 apart=0"
		misnamed = "matched=0 misnamed=1 false=0 detected=0 apart=0"
		bad      = "matched=0 misnamed=0 false=1 detected=0 apart=0"
		apart    = "matched=0 misnamed=0 false=0 detected=0 apart=1"
	)
	at := func(detector, principal, first, last string) pipeline.Alert {
		t.Helper()
		return alertOn(t, "x", detector, "medium", principal, first, last, last)
	}
	f(at("auth.stuffing", "ip:203.0.113.7", "10:02:00", "10:03:00"), hit)
	f(at("auth.spraying", "ip:203.0.113.7", "10:02:00", "10:03:00"), hit) // same family
	f(at("probe.path", "ip:203.0.113.7", "10:02:00", "10:03:00"), misnamed)
	f(at("auth.stuffing", "session:abc", "10:02:00", "10:03:00"), hit)
	f(at("auth.stuffing", "key:abc", "10:02:00", "10:03:00"), bad) // the kind counts
	// Windows: ends are inclusive, and logs stamp whole seconds.
	f(at("auth.stuffing", "ip:203.0.113.7", "10:10:00", "10:20:00"), hit)
	f(at("auth.stuffing", "ip:203.0.113.7", "10:10:00.000001", "10:20:00"), misnamed)
	f(at("auth.stuffing", "ip:203.0.113.7", "09:00:00", "10:00:00"), hit)
	f(at("auth.stuffing", "ip:203.0.113.7", "09:00:00", "09:59:59.999999"), misnamed)
	// IPv6 by /64, as an address or as the prefix.
	f(at("scrape.crawl", "ip:2001:db8:1:2::/64", "10:02:00", "10:03:00"), hit)
	f(at("scrape.crawl", "ip:2001:db8:1:2:ffff::1", "10:02:00", "10:03:00"), hit)
	f(at("scrape.crawl", "ip:2001:db8:1:3::5", "10:02:00", "10:03:00"), bad)
	// An address or a member is enough.
	a := at("auth.stuffing", "account:u_1", "10:02:00", "10:03:00")
	f(a, bad)
	a.Addresses = []string{"192.0.2.99", "203.0.113.7"}
	f(a, hit)
	a.Addresses, a.Members = nil, []pipeline.Principal{{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"}}
	f(a, hit)
	// Benign and unlabelled clients make an alert false; notices are apart.
	f(at("scrape.crawl", "ip:198.51.100.2", "10:02:00", "10:03:00"), bad)
	f(at("scrape.crawl", "ip:192.0.2.1", "10:02:00", "10:03:00"), bad)
	f(at("health.rejects", "endpoint:access.log", "10:02:00", "10:03:00"), apart)
	a = at("auth.stuffing", "ip:203.0.113.7", "10:02:00", "10:03:00")
	a.Severity = "info"
	f(a, apart)
}

func TestEvaluateUsesLatestRevisionAndFirstDetection(t *testing.T) {
	labels := mustLabels(t, `{"episode":"e1","type":"probe.path","principals":["ip:203.0.113.7"],"start":"2026-03-02T10:00:00Z","end":"2026-03-02T10:10:00Z"}`)
	traffic := NewTrafficStats(labels)
	for s := range 600 {
		traffic.Observe(labelAddress(t, "203.0.113.7"), labelTime(t, "10:00:00").Add(time.Duration(s)*time.Second))
		traffic.Observe(labelAddress(t, "192.0.2.1"), labelTime(t, "10:00:00").Add(time.Duration(s)*time.Second))
	}
	traffic.Observe(labelAddress(t, "203.0.113.7"), labelTime(t, "11:00:00")) // outside the episode

	first := alertOn(t, "a", "probe.path", "low", "endpoint:internet", "10:00:00", "10:00:30", "10:00:30")
	second := first
	second.Revision, second.Severity = 2, "high"
	second.Members = []pipeline.Principal{{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"}}
	second.Window.Last = labelTime(t, "10:05:00")
	e := Evaluate(labels, []pipeline.Alert{first, second}, traffic)
	if e.Alerts != 1 || e.Matched != 1 || e.Pages != 1 {
		t.Fatalf("alerts %d matched %d pages %d, want one of each", e.Alerts, e.Matched, e.Pages)
	}
	want := EpisodeResult{
		Episode: "e1", Type: "probe.path", Alerts: 1, Detector: "probe.path", Paged: true,
		Seconds: new(30.0), Requests: new(int64(31)), Of: new(int64(600)),
	}
	if d := cmp.Diff(want, e.Results[0], cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".at" }, cmp.Ignore())); d != "" {
		t.Error(d)
	}
	if *e.Requests != 1201 || *e.CleanClientDays != 1 || *e.Days != 1 {
		t.Errorf("requests %d clean client-days %d days %g, want 1201 1 1", *e.Requests, *e.CleanClientDays, *e.Days)
	}

	// An alert older than the episode counts from when it spoke of it.
	old := alertOn(t, "b", "probe.path", "low", "ip:203.0.113.7", "08:00:00", "08:00:10", "08:00:10")
	again := old
	again.Revision, again.Window.Last = 2, labelTime(t, "10:01:00")
	e = Evaluate(labels, []pipeline.Alert{old, again}, traffic)
	if got := *e.Results[0].Seconds; got != 60 {
		t.Errorf("seconds to detect %g, want 60", got)
	}
}

func TestEvaluateTotals(t *testing.T) {
	var text strings.Builder
	for i := range 4 {
		fmt.Fprintf(&text, `{"episode":"e%d","type":"%s","principals":["ip:203.0.113.%d"],"start":"2026-03-02T10:00:00Z","end":"2026-03-02T10:10:00Z"}`+"\n",
			i, []string{"probe.path", "probe.path", "enum.object", "enum.user"}[i], i)
	}
	text.WriteString(`{"benign":"human","principals":["ip:192.0.2.1","ip:192.0.2.2"]}` + "\n" + `{"benign":"office","principals":["ip:192.0.2.3"]}` + "\n")
	labels := mustLabels(t, text.String())
	traffic := NewTrafficStats(labels)
	for day := range 4 {
		for i := range 25 { // 3 labelled benign clients, 21 others, on each of 4 days
			a := labelAddress(t, fmt.Sprintf("192.0.2.%d", i))
			for range 10 {
				traffic.Observe(a, labelTime(t, "10:00:00").Add(time.Duration(day)*24*time.Hour))
			}
		}
	}
	alert := func(id, detector, severity, principal, detected string) pipeline.Alert {
		t.Helper()
		return alertOn(t, id, detector, severity, principal, "10:00:00", detected, detected)
	}
	e := Evaluate(labels, []pipeline.Alert{
		alert("1", "probe.path", "high", "ip:203.0.113.0", "10:00:10"),
		alert("2", "probe.path", "low", "ip:203.0.113.0", "10:00:05"),
		alert("3", "enum.object", "low", "ip:203.0.113.2", "10:00:20"),
		alert("4", "enum.user", "low", "ip:203.0.113.3", "10:05:00"),
		alert("5", "probe.path", "critical", "ip:192.0.2.3", "10:00:10"),
		alert("6", "probe.path", "low", "ip:192.0.2.200", "10:00:10"),
		alert("7", "auth.stuffing", "low", "ip:203.0.113.1", "10:00:10"),
		alert("8", "health.lag", "low", "endpoint:x", "10:00:10"),
	}, traffic)
	got := map[string]any{
		"recall": *e.Recall, "precision": *e.Precision, "alerts": e.Alerts, "false": e.False, "misnamed": e.Misnamed,
		"median": *e.SecondsMedian, "p95": *e.SecondsP95, "per million": *e.FalsePerMillionRequests,
		"per client-day": *e.FalsePerMillionClientDays, "per episode": *e.AlertsPerEpisode, "pages/day": *e.PagesPerDay,
	}
	want := map[string]any{
		"recall": 0.75, "precision": 4.0 / 7, "alerts": 7, "false": 2, "misnamed": 1,
		"median": 20.0, "p95": 300.0, "per million": 2000.0,
		"per client-day": 2e6 / 100, "per episode": 4.0 / 3, "pages/day": 2.0 / 3,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]TypeResult{
		{"enum.object", 1, 1, 0, 1, new(20.0), new(int64(0))},
		{"enum.user", 1, 1, 0, 1, new(300.0), new(int64(0))},
		{"probe.path", 2, 1, 1, 0.5, new(5.0), new(int64(0))},
	}, e.Types); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]ProfileResult{
		{"human", 2, new(int64(80)), new(int64(8)), 0},
		{"office", 1, new(int64(40)), new(int64(4)), 1},
		{"unlabelled", 0, nil, new(int64(88)), 1},
	}, e.Profiles); d != "" {
		t.Error(d)
	}

	var out bytes.Buffer
	if err := e.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"recall 75.0 %", "after 300.0 s", "precision 57.1 %", "missed  e1  probe.path", "false     probe.path by ip:192.0.2.3", "misnamed  auth.stuffing", "office", "2000.00 per million requests"} {
		if !strings.Contains(out.String(), s) {
			t.Errorf("text lacks %q:\n%s", s, out.String())
		}
	}
	out.Reset()
	if err := e.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back Evaluation
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back.Matched != 4 || len(back.FalseAlerts) != 3 {
		t.Errorf("JSON form: %v, matched %d, false alerts %d", err, back.Matched, len(back.FalseAlerts))
	}
}

func TestEvaluateKnowsNothing(t *testing.T) {
	e := Evaluate(mustLabels(t, `{"benign":"a","principals":["ip:192.0.2.1"]}`), nil, nil)
	for name, v := range map[string]*float64{
		"recall": e.Recall, "precision": e.Precision, "seconds": e.SecondsMedian, "rate": e.FalsePerMillionRequests, "pages": e.PagesPerDay,
	} {
		if v != nil {
			t.Errorf("%s = %g without data, want nil", name, *v)
		}
	}
	if err := e.WriteText(&bytes.Buffer{}); err != nil {
		t.Error(err)
	}
}

func TestAliasAndObserveRequest(t *testing.T) {
	labels := mustLabels(t, `
{"episode":"e","type":"scrape.crawl","principals":["session:abc","ip:203.0.113.7"],"start":"2026-03-02T10:00:00Z","end":"2026-03-02T10:10:00Z"}
{"benign":"human","principals":["session:def"]}`)
	labels.Alias(func(_ pipeline.PrincipalKind, value string) string { return "s_" + value })
	traffic := NewTrafficStats(labels)
	for _, r := range []pipeline.Request{
		{Session: "s_abc", Kind: pipeline.PrincipalSession},                                    // by its token
		{Session: "s_abc", Address: labelAddress(t, "203.0.113.7")},                            // two names, one request
		{Session: "s_def", Address: labelAddress(t, "192.0.2.1")},                              // a clean client, named
		{Address: labelAddress(t, "192.0.2.2")},                                                // a clean client, unnamed
		{Session: "s_zzz", Address: labelAddress(t, "192.0.2.2")},                              // the same client
		{Account: "u_1", Kind: pipeline.PrincipalAccount, Owner: 77},                           // no address at all
		{Account: "u_1", Session: "s_abc", Address: labelAddress(t, "192.0.2.9"), Status: 200}, // the attacker elsewhere
		{Account: "u_1", Kind: pipeline.PrincipalAccount, Owner: 77, Path: "/", Method: "GET"}, // again
	} {
		r.Time = labelTime(t, "10:01:00")
		r.Effective = r.Time
		traffic.ObserveRequest(&r)
	}
	if got := traffic.requestsUntil(0, labelTime(t, "10:10:00")); got != 3 || traffic.requests != 8 {
		t.Errorf("episode %d of %d requests, want 3 of 8", got, traffic.requests)
	}
	if got := traffic.cleanClientDays(); got != 3 {
		t.Errorf("clean client-days %d, want 3", got)
	}
	a := alertOn(t, "1", "scrape.crawl", "low", "session:s_abc", "10:01:00", "10:02:00", "10:01:30")
	if e := Evaluate(labels, []pipeline.Alert{a}, traffic); e.Matched != 1 {
		t.Error("an alert on the token of a labelled session does not match")
	}
}

func TestDistinctEstimator(t *testing.T) {
	f := func(n int, tolerance float64) {
		t.Helper()
		d := distinctEstimator{limit: 4096}
		for i := range n {
			d.add(pipeline.Hash64(strconv.Itoa(i)))
			d.add(pipeline.Hash64(strconv.Itoa(i)))
		}
		if off := float64(d.count())/float64(n) - 1; off > tolerance || off < -tolerance {
			t.Errorf("%d distinct counted as %d", n, d.count())
		}
		if len(d.seen) > d.limit {
			t.Errorf("%d hashes kept, limit %d", len(d.seen), d.limit)
		}
	}
	f(100, 0)
	f(4096, 0)
	f(300_000, 0.06)
}

func TestTrafficIsBoundedByLabels(t *testing.T) {
	labels := mustLabels(t, `{"episode":"e","type":"scrape.crawl","principals":["ip:203.0.113.7"],"start":"0001-01-01T00:00:00Z","end":"9999-12-31T23:59:59Z"}`)
	traffic := NewTrafficStats(labels)
	a := labelAddress(t, "203.0.113.7")
	for _, s := range []string{"0001-01-01T00:00:00Z", "2026-03-02T10:00:00Z", "9999-12-31T23:59:59Z"} {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		traffic.Observe(a, pipeline.TimeOf(v))
	}
	traffic.Observe(pipeline.Address{}, 0)
	if n := len(traffic.episodes[0].counts); n > stepsPerEpisode {
		t.Errorf("%d steps kept, bound %d", n, stepsPerEpisode)
	}
	if got := traffic.requestsUntil(0, labels.Episodes[0].End); got != 3 || traffic.requests != 4 {
		t.Errorf("%d of %d requests, want 3 of 4", got, traffic.requests)
	}
	at := labelTime(t, "10:00:00")
	if n := testing.AllocsPerRun(100, func() { traffic.Observe(a, at) }); n > 0 {
		t.Errorf("Observe allocates %g times", n)
	}
}

func TestReadAlerts(t *testing.T) {
	a := alertOn(t, "1", "scrape.crawl", "low", "ip:203.0.113.7", "10:01:00", "10:02:00", "10:01:30")
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadAlerts(bytes.NewReader(append(b, '\n')))
	if err != nil || len(got) != 1 || got[0].Window != a.Window || got[0].Principal != a.Principal {
		t.Errorf("round trip: %+v, %v", got, err)
	}
	f := func(in, want string) {
		t.Helper()
		if _, err := ReadAlerts(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadAlerts(%q) = %v, want an error with %q", in, err, want)
		}
	}
	f(string(b)+"\n{", "read alert 2")
	f(`{"schema":"other"}`, `schema "other", want "weir.alert/1"`)
}

func TestShopLabelsLoad(t *testing.T) {
	path := filepath.Join("..", "..", "..", "shared", "data", "tools_shop", "labels.ndjson")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("labelled data is not here: %v", err)
	}
	l, err := LoadLabels(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Episodes) != 15 || len(l.Profiles) != 13 {
		t.Errorf("%d episodes and %d profiles, want 15 and 13", len(l.Episodes), len(l.Profiles))
	}
}

func FuzzReadLabels(f *testing.F) {
	f.Add(`{"episode":"e","type":"scrape.crawl","principals":["session:abc"],"start":"2026-03-02T10:00:00Z","end":"2026-03-02T10:10:00Z"}`)
	f.Add(`{"benign":"human","principals":["ip:2001:db8::/64"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ReadLabels(strings.NewReader(text))
		if err != nil {
			return
		}
		s := NewTrafficStats(l)
		for i := range l.Episodes {
			s.Observe(pipeline.Address{1}, l.Episodes[i].End)
			s.requestsUntil(i, l.Episodes[i].End)
		}
		Evaluate(l, nil, s)
	})
}
