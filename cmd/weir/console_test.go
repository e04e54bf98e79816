package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"weir/alerts"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// consoleService is a service with nothing but a store in a directory of the
// test.
func consoleService(t *testing.T) *service {
	t.Helper()
	cfg := defaultConfig()
	cfg.Store.Path = filepath.Join(t.TempDir(), "weir.db")
	s := &service{cfg: cfg, log: zap.NewNop()}
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// askConsole does a GET under a name of this machine.
func askConsole(t *testing.T, s *service, target string) (status int, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	r.Host = "127.0.0.1:7380"
	w := httptest.NewRecorder()
	s.newServer().Handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func putAlerts(t *testing.T, db *sqlite.DB, list ...pipeline.Alert) {
	t.Helper()
	o := storage.Output{Stage: detectStage}
	for _, a := range list {
		o.Alerts = append(o.Alerts, storage.AlertRevision{Alert: a})
	}
	if err := db.Commit(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func consoleAlert(id string, revision int, severity string) pipeline.Alert {
	return pipeline.Alert{
		Schema: pipeline.AlertSchema, ID: id, Revision: revision, Status: "open", Severity: severity, Detector: "auth.bruteforce",
		Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "2001:db8:0:1::/64"},
		Window:    pipeline.AlertWindow{First: 1772442000e6, Last: 1772442060e6},
	}
}

// TestConsolePagesOverTheStore: every alert once, while alerts change between
// the pages; what changed is behind the first page's after.
func TestConsolePagesOverTheStore(t *testing.T) {
	s := consoleService(t)
	const n = 25
	want := map[string]int{}
	for i := range n {
		id := fmt.Sprintf("%02d", i)
		putAlerts(t, s.db, consoleAlert(id, 1, "high"), consoleAlert(id, 2, "low"))
		want[id] = 2
	}
	type page struct {
		Data          []pipeline.Alert
		More          bool
		Before, After *int64
	}
	read := func(target string) (p page) {
		t.Helper()
		status, body := askConsole(t, s, target)
		if err := json.Unmarshal([]byte(body), &p); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s: %v", target, status, body, err)
		}
		return p
	}
	got := map[string]int{}
	var after int64
	for pages, target := 0, "/api/v1/alerts?limit=4"; ; pages++ {
		p := read(target)
		for _, a := range p.Data {
			if got[a.ID] != 0 {
				t.Errorf("%s is on two pages", a.ID)
			}
			got[a.ID] = a.Revision
		}
		if pages == 0 {
			after = *p.After
		}
		if !p.More || pages > n {
			break
		}
		// One that was shown, one that was not, and a new one.
		for _, id := range []string{"24", fmt.Sprintf("%02d", pages), fmt.Sprint("new", pages)} {
			want[id]++
			putAlerts(t, s.db, consoleAlert(id, want[id], "critical"))
		}
		target = fmt.Sprintf("/api/v1/alerts?limit=4&before=%d", *p.Before)
	}
	if len(got) >= len(want) {
		t.Errorf("%d alerts over the pages: nothing changed meanwhile", len(got))
	}
	for _, a := range read(fmt.Sprintf("/api/v1/alerts?limit=1000&after=%d", after)).Data {
		got[a.ID] = a.Revision
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("revisions %v, want %v", got, want)
	}
	if p := read("/api/v1/alerts?severity=low"); len(p.Data) == 0 || p.Data[0].Severity != "low" {
		t.Errorf("%d alerts of low severity", len(p.Data))
	}
	if p := read("/api/v1/alerts/24"); len(p.Data) != want["24"] || p.Data[0].Revision != 1 {
		t.Errorf("%d revisions, want %d", len(p.Data), want["24"])
	}
	// An address is found by the /64 it belongs to.
	if p := read("/api/v1/alerts?limit=1000&principal=ip:2001:db8:0:1:ffff::7"); len(p.Data) != len(want) {
		t.Errorf("%d alerts of an address, want %d", len(p.Data), len(want))
	}
	if p := read("/api/v1/alerts?principal=ip:2001:db8:0:2::7"); len(p.Data) != 0 {
		t.Errorf("%d alerts of another address", len(p.Data))
	}
}

// TestConsoleKeepsNamesToItself: a name goes in as a token and comes out as one,
// and the token finds its requests.
func TestConsoleKeepsNamesToItself(t *testing.T) {
	s := consoleService(t)
	address, _ := pipeline.ParseAddress("203.0.113.7")
	token := s.keys.AccountToken("alice@example.com")
	b := &pipeline.Block{Source: "access.log", SourceID: 1, Cause: pipeline.CauseRange{To: 2}, Watermark: pipeline.NoTime}
	for i := range int64(2) {
		r := pipeline.Request{
			Time: pipeline.Time(1772442000e6 + i), Line: i + 1, Bytes: -1, Duration: -1, Status: 200, Address: address,
			Kind: pipeline.PrincipalAccount, Method: "GET", Path: fmt.Sprint("/orders/", i), Account: token,
		}
		r.Owner = r.Principal().Hash()
		r.Seal()
		b.Requests = append(b.Requests, r)
	}
	if _, _, err := s.db.AppendBlocks(t.Context(), []*pipeline.Block{b}); err != nil {
		t.Fatal(err)
	}
	a := consoleAlert("a", 1, "high")
	a.Principal = pipeline.Principal{Kind: pipeline.PrincipalAccount, Value: token}
	a.Affected.Accounts = []pipeline.AffectedAccount{{Name: token, Outcome: "success"}}
	putAlerts(t, s.db, a)
	f := func(target string, times int) {
		t.Helper()
		status, body := askConsole(t, s, target)
		if status != http.StatusOK || strings.Contains(body, "alice") || strings.Count(body, token) != times {
			t.Errorf("%s: %d, the token %d times, want %d:\n%s", target, status, strings.Count(body, token), times, body)
		}
	}
	f("/api/v1/alerts", 2)
	f("/api/v1/alerts/a", 3) // and in what would suppress it
	f("/api/v1/alerts?principal=account:"+token, 2)
	f("/api/v1/alerts?principal=account:"+token+"x", 0)
	f("/api/v1/requests", 4)
	f("/api/v1/requests?principal=account:"+token, 4)
	f("/api/v1/requests?principal=account:"+token+"&path=/orders/1", 2)
	f("/api/v1/requests?principal=subject:"+token, 0)
	f("/api/v1/requests?since=2026-03-02T09:00:00.000001Z", 2)
}

// TestConsoleShowsAlertsAsAnalyzeDoes: the API's form of an alert is --output
// json's, to the byte.
func TestConsoleShowsAlertsAsAnalyzeDoes(t *testing.T) {
	s := consoleService(t)
	a := consoleAlert("a", 1, "high")
	a.Title, a.Labels = "a \x1b[31m\u202e<b> & c", pipeline.AlertLabels{"service": "shop", "zone": "x"}
	a.Envelope.Triage = map[string]any{}
	putAlerts(t, s.db, a)
	want := "{\"data\":[\n" + string(alerts.AppendJSON(nil, &a)) + "\n],\"more\":false,\"before\":1,\"after\":1,\"next\":null,\"total\":null}\n"
	if _, body := askConsole(t, s, "/api/v1/alerts"); body != want {
		t.Errorf("%s, want %s", body, want)
	}
}

// TestReadyz says what a start, a backlog and a broken store hold up.
func TestReadyz(t *testing.T) {
	s := consoleService(t)
	f := func(status int, want string) {
		t.Helper()
		got, body := askConsole(t, s, "/readyz")
		if got != status || !strings.Contains(body, want) {
			t.Errorf("%d %s, want %d %q", got, body, status, want)
		}
	}
	f(200, "ready")
	s.status.do("the inputs to be opened")
	f(503, `"waits_for":["the inputs to be opened"]`)
	s.status.do("")
	f(200, "ready")
	var blocks []*pipeline.Block
	for i := range int64(readyLag + 1) {
		blocks = append(blocks, &pipeline.Block{Source: "x", SourceID: 1, Cause: pipeline.CauseRange{From: i, To: i + 1}, Watermark: pipeline.NoTime, Rejects: pipeline.Rejects{Lines: 1}})
	}
	// It goes by the store: what an earlier process left counts, too.
	_, last, err := s.db.AppendBlocks(context.WithoutCancel(t.Context()), blocks)
	if err != nil {
		t.Fatal(err)
	}
	f(503, fmt.Sprintf("detection, which is %d records behind", last))
	s.status.detected.Store(last - readyLag)
	f(200, "ready")
}

// TestConsoleConfiguration: check finds a bad address before a start does.
func TestConsoleConfiguration(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := parseConfig([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	f("console: {listen: '127.0.0.1:8080'}", "")
	f("console: {listen: '[::1]:8080'}", "")
	f("console: {listen: '0.0.0.0:8080'}", "is open to others: give tls")
	f("console: {listen: '8080'}", "console.listen")
	f("console: {port: 8080}", "port")
}
