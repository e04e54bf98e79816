package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/console"
	"weir/pipeline"
)

// deskUser does requests with a token and reads the answers.
type deskUser struct {
	t     *testing.T
	h     http.Handler
	token string
}

func (a *deskUser) ask(method, target, body string, want int, into any) {
	a.t.Helper()
	r := httptest.NewRequestWithContext(a.t.Context(), method, target, strings.NewReader(body))
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+a.token)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, r)
	if w.Code != want {
		a.t.Fatalf("%s %s: %d, want %d: %s", method, target, w.Code, want, w.Body)
	}
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			a.t.Fatalf("%s: %v", target, err)
		}
	}
}

// TestDesk: a shift over the embedded store: find, group, change many, undo, look
// at one from all sides.
func TestDesk(t *testing.T) {
	s := consoleService(t)
	for i := range 30 {
		a := consoleAlert(fmt.Sprintf("%02d", i), 1, []string{"low", "high", "critical"}[i%3])
		a.Title, a.Campaign = fmt.Sprint("Guessing at ", i), map[bool]string{true: "c1"}[i%10 == 0]
		a.Endpoint = pipeline.Endpoint{Method: "POST", Template: "/login"}
		a.Outcome.Succeeded = new(int64(1))
		putAlerts(t, s.db, a)
	}
	a := &deskUser{t, s.newServer().Handler, giveToken(t, s, console.Engineer)}
	type row struct {
		ID       string
		Severity string
		Triage   struct {
			Status, Assignee, Verdict string
			Revision                  int64
		}
	}
	var page struct {
		Data  []row
		Next  *string
		Total struct{ Count int64 }
	}
	a.ask("GET", "/api/v1/alerts?view=row&sort=severity&limit=12&q=guessing", "", 200, &page)
	if page.Total.Count != 30 || len(page.Data) != 12 || page.Data[9].Severity != "critical" || page.Data[10].Severity != "high" {
		t.Errorf("%+v", page)
	}
	a.ask("GET", "/api/v1/alerts?view=row&sort=severity&limit=12&q=guessing&cursor="+*page.Next, "", 200, &page)
	if page.Data[0].Severity != "high" {
		t.Errorf("%+v", page.Data[0])
	}
	var groups struct {
		Data []struct {
			Key    string
			Count  int64
			Filter map[string]string
		}
	}
	a.ask("GET", "/api/v1/alerts/groups?by=severity&status=open", "", 200, &groups)
	if len(groups.Data) != 3 || groups.Data[0].Count != 10 {
		t.Errorf("%+v", groups)
	}
	var done struct {
		Changed int
		Data    []struct {
			ID, Outcome string
			Triage      struct{ Revision int64 }
		}
	}
	a.ask("POST", "/api/v1/alerts/bulk", `{"filter":{"severity":"low"},"count":10,"change":{"status":"closed","verdict":"false_positive_data","add_tags":["old"]}}`, 200, &done)
	if done.Changed != 10 {
		t.Errorf("%+v", done)
	}
	a.ask("GET", "/api/v1/alerts?view=row&verdict=false_positive_data&tag=old", "", 200, &page)
	if page.Total.Count != 10 || page.Data[0].Triage.Status != "closed" {
		t.Errorf("%+v", page)
	}
	var detectors struct {
		Data []struct {
			Name, Title, Mode string
			Alerts            int64
			Rate              *float64 `json:"false_positive_rate"`
		}
	}
	a.ask("GET", "/api/v1/detectors", "", 200, &detectors)
	for _, d := range detectors.Data {
		if d.Name == "auth.bruteforce" && (d.Alerts != 30 || d.Rate == nil || *d.Rate != 1) || d.Title == "" || d.Mode != "on" {
			t.Errorf("%+v", d)
		}
	}
	var items []string
	for _, o := range done.Data {
		items = append(items, fmt.Sprintf(`{"id":%q,"revision":%d,"change":{"status":"new","remove_tags":["old"]}}`, o.ID, o.Triage.Revision))
	}
	a.ask("POST", "/api/v1/alerts/bulk", `{"items":[`+strings.Join(items, ",")+`]}`, 200, &done)
	if done.Changed != 10 {
		t.Errorf("%+v", done)
	}
	var list struct{ Data []json.RawMessage }
	for view, want := range map[string]int{"revisions": 1, "audit": 2, "deliveries": 0, "related": 29} {
		if a.ask("GET", "/api/v1/alerts/00/"+view, "", 200, &list); len(list.Data) != want {
			t.Errorf("%s: %d, want %d", view, len(list.Data), want)
		}
	}
	var campaign struct {
		Alerts    int64
		Succeeded int64
		Timeline  []json.RawMessage
	}
	if a.ask("GET", "/api/v1/campaigns/c1", "", 200, &campaign); campaign.Alerts != 3 || campaign.Succeeded != 3 || len(campaign.Timeline) < 3 {
		t.Errorf("%+v", campaign)
	}
	var system struct {
		Version string
		Store   struct{ Alerts int64 }
	}
	if a.ask("GET", "/api/v1/system", "", 200, &system); system.Store.Alerts != 30 || system.Version == "" {
		t.Errorf("%+v", system)
	}
	if c, err := s.db.CheckAudit(t.Context()); err != nil || c.Broken != 0 || c.Rows != 21 {
		t.Errorf("%+v %v", c, err)
	}
}

// TestTrafficPages: what stored requests say of endpoints and of principals, each
// counted once.
func TestTrafficPages(t *testing.T) {
	s := consoleService(t)
	const start = 1772442000e6
	address, _ := pipeline.ParseAddress("203.0.113.7")
	next := int64(0)
	put := func(n int, method, path string, status uint16) {
		t.Helper()
		b := &pipeline.Block{Source: "access.log", SourceID: 1, Cause: pipeline.CauseRange{From: next, To: next + int64(n)}, Watermark: pipeline.NoTime}
		for i := range n {
			r := pipeline.Request{Time: pipeline.Time(start + next*1e6 + int64(i)*1e6), Line: next + int64(i) + 1, Bytes: 10, Duration: -1, Status: status, Address: address, Kind: pipeline.PrincipalIP, Method: method, Path: path}
			r.Owner = r.Principal().Hash()
			r.Seal()
			b.Requests = append(b.Requests, r)
		}
		next += int64(n)
		if _, _, err := s.db.AppendBlocks(t.Context(), []*pipeline.Block{b}); err != nil {
			t.Fatal(err)
		}
	}
	put(90, "GET", "/orders/1", 200)
	put(30, "POST", "/login", 401)
	r := &rollup{s: s}
	counted := func() {
		t.Helper()
		if err := r.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	counted()
	// What was counted is not counted again.
	if err := s.db.AddTraffic(t.Context(), rollupStage, 1, nil); err != nil {
		t.Fatal(err)
	}
	put(10, "GET", "/orders/2", 500)
	counted()
	waits, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.step(waits); err == nil {
		t.Error("there was more to count")
	}
	a := &deskUser{t, s.newServer().Handler, giveToken(t, s, console.Analyst)}
	span := "since=2026-03-02T09:00:00Z&until=2026-03-02T09:10:00Z"
	var endpoints struct {
		Data []struct {
			Method, Template        string
			Requests, Errors, Bytes int64
		}
	}
	if a.ask("GET", "/api/v1/endpoints?"+span, "", 200, &endpoints); len(endpoints.Data) != 2 || endpoints.Data[0].Requests != 100 || endpoints.Data[0].Errors != 10 || endpoints.Data[1].Errors != 30 || endpoints.Data[1].Bytes != 300 {
		t.Fatalf("%+v", endpoints)
	}
	type chart struct {
		Requests int64
		Statuses map[string]int64
		Series   struct{ Requests, Errors []int64 }
	}
	var one, all, who chart
	a.ask("GET", "/api/v1/endpoints/one?"+span+"&method=GET&template="+url.QueryEscape(endpoints.Data[0].Template), "", 200, &one)
	if one.Requests != 100 || one.Statuses["5xx"] != 10 || len(one.Series.Requests) != 10 || one.Series.Requests[0] != 60 || one.Series.Requests[1] != 30 || one.Series.Errors[2] != 10 {
		t.Errorf("%+v", one)
	}
	a.ask("GET", "/api/v1/traffic?"+span, "", 200, &all)
	a.ask("GET", "/api/v1/principals/ip/203.0.113.7?"+span, "", 200, &who)
	for name, c := range map[string]chart{"traffic": all, "principal": who} {
		if c.Statuses["2xx"] != 90 || c.Statuses["4xx"] != 30 || c.Series.Requests[1] != 60 || c.Series.Errors[1] != 30 {
			t.Errorf("%s: %+v", name, c)
		}
	}
	a.ask("GET", "/api/v1/principals/ip/203.0.113.8?"+span, "", 200, &who)
	if who.Requests != 0 {
		t.Errorf("another's: %+v", who)
	}
}

// TestDetectorsHaveWords: each detector is explained, and documented.
func TestDetectorsHaveWords(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(repositoryRoot(t), "docs", "detectors.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := &service{cfg: defaultConfig()}
	for _, d := range s.detectorInfos() {
		if d.Title == "" || d.Doc == "" || !strings.Contains(string(page), "\n## "+d.Name+"\n") {
			t.Errorf("%+v", d)
		}
	}
	if n := len(s.detectorInfos()); n != len(detectorWords()) {
		t.Errorf("%d detectors, %d explained", n, len(detectorWords()))
	}
}
