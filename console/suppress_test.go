package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/pipeline"
)

func TestSuppressions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		s.put("a1")
		o := options(s)
		h := newHandler(o)
		anna, eve := s.give(o, "anna", Analyst), s.give(o, "eve", Engineer)
		d := readDocumentAs(t, h, anna)
		view := func(w *httptest.ResponseRecorder) (v suppressionView) {
			t.Helper()
			if w.Code != 200 {
				t.Fatalf("%d: %s", w.Code, w.Body)
			}
			var any map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &any); err != nil {
				t.Fatal(err)
			}
			for _, bad := range d.check("answer", d.at("components", "schemas", "Suppression"), any) {
				t.Error(bad)
			}
			if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
		made := func(token, body string) suppressionView {
			t.Helper()
			return view(askAs(h, token, "POST", "/api/v1/suppressions", body))
		}
		bad := func(token, body string, code int, said string) {
			t.Helper()
			wantProblem(t, askAs(h, token, "POST", "/api/v1/suppressions", body), code, said)
		}
		const match = `"match":{"detector":"probe.path","principal":{"kind":"ip","value":"2001:db8::7"}}`
		const reason = `"reason":"their exporter is broken"`
		one := made(anna, `{`+match+`,`+reason+`,"alert":"a1"}`)
		if one.State != "active" || one.Author != "anna" || one.Expires.Sub(one.Starts) != 24*time.Hour || one.Ended != nil || one.Alert != "a1" ||
			one.Match.Principal.Value != "2001:db8::/64" || one.Source != "api" {
			t.Errorf("%+v", one)
		}
		if s.suppressions[0].Known == nil {
			t.Error("what was known of the alert is not stored")
		}
		week := made(anna, `{`+match+`,`+reason+`,"for":"7d"}`)
		later := made(eve, `{"match":{},"maintenance":true,`+reason+`,"starts":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`","for":"30d","schedule":{"days":["sat"],"from":"22:00","to":"02:00","timezone":"Europe/Berlin"}}`)
		if later.State != "scheduled" || later.Schedule == nil {
			t.Errorf("%+v", later)
		}
		bad(anna, `{`+match+`,`+reason+`,"for":"8d"}`, 403, "an analyst suppresses for 7 days at most")
		bad(anna, `{`+match+`,`+reason+`,"starts":"`+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+`","expires":"`+time.Now().Add(8*24*time.Hour).UTC().Format(time.RFC3339)+`"}`, 403, "7 days")
		bad(eve, `{`+match+`,`+reason+`,"for":"400d"}`, 400, "for:")
		bad(anna, `{`+match+`,"for":"1h"}`, 400, "reason: say why")
		bad(anna, `{"match":{},`+reason+`}`, 400, "match: is empty")
		bad(anna, `{"match":{"address":"house"},`+reason+`}`, 400, "match.address")
		bad(anna, `{"match":{"level":"high"},`+reason+`}`, 400, "match.level")
		bad(anna, `{"match":{"client":"nobody"},`+reason+`}`, 400, "match.client")
		bad(anna, `{`+match+`,`+reason+`,"expires":"1999-01-01T00:00:00Z"}`, 400, "expires")
		bad(anna, `{`+match+`,`+reason+`,"expires":"2101-01-01T00:00:00Z","for":"1h"}`, 400, "not both")
		bad(anna, `{`+match+`,`+reason+`,"schedule":{"from":"9","to":"10:00"}}`, 400, "schedule")
		bad(anna, `{`+match+`,`+reason+`,"alert":"none"}`, 404, "alert: no alert")
		bad(anna, `{`+match+`,`+reason+`,"colour":1}`, 400, "colour")

		list := func(query string) (states []string) {
			t.Helper()
			w := askAs(h, anna, "GET", "/api/v1/suppressions"+query, "")
			var l struct{ Data []suppressionView }
			if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != 200 {
				t.Fatalf("%d %v", w.Code, err)
			}
			for _, v := range l.Data {
				states = append(states, v.State)
			}
			return states
		}
		if got := list(""); !slices.Equal(got, []string{"scheduled", "active", "active"}) {
			t.Error(got)
		}
		time.Sleep(time.Minute) // of the bubble's clock
		ended := view(askAs(h, anna, "DELETE", "/api/v1/suppressions/"+week.ID, ""))
		if ended.State != "ended" || ended.Ended == nil || *ended.Ended != pipeline.TimeOf(time.Now()) || ended.Expires != week.Expires {
			t.Errorf("%+v", ended)
		}
		time.Sleep(24 * time.Hour)
		if again := view(askAs(h, anna, "DELETE", "/api/v1/suppressions/"+week.ID, "")); *again.Ended != *ended.Ended {
			t.Errorf("ended again: %v", *again.Ended)
		}
		if over := view(askAs(h, anna, "GET", "/api/v1/suppressions/"+one.ID, "")); over.State != "ended" || *over.Ended != one.Expires {
			t.Errorf("%+v", over)
		}
		if got := list("?state=ended"); len(got) != 2 {
			t.Error(got)
		}
		if got := list("?state=active,scheduled"); !slices.Equal(got, []string{"active"}) {
			t.Error(got)
		}
		future := made(anna, `{`+match+`,`+reason+`,"starts":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`)
		if future = view(askAs(h, anna, "DELETE", "/api/v1/suppressions/"+future.ID, "")); future.State != "ended" {
			t.Errorf("ended before it began: %+v", future)
		}
		s.suppressions = s.suppressions[:3]
		s.suppressions[2].Source = "config"
		wantProblem(t, askAs(h, eve, "DELETE", "/api/v1/suppressions/"+later.ID, ""), 409, "the configuration has it")
		// Where detection is behind the clock, now is where it is.
		behind := pipeline.TimeOf(time.Now().Add(-10 * time.Minute))
		o.Through = func() pipeline.Time { return behind }
		late := newHandler(o)
		x := view(askAs(late, anna, "POST", "/api/v1/suppressions", `{`+match+`,`+reason+`}`))
		if x.Starts != behind || x.Expires.Sub(behind) != 24*time.Hour {
			t.Errorf("%+v", x)
		}
		if x = view(askAs(late, anna, "DELETE", "/api/v1/suppressions/"+x.ID, "")); *x.Ended != behind || x.State != "ended" {
			t.Errorf("%+v", x)
		}
		s.suppressions = s.suppressions[:3]
		wantProblem(t, askAs(h, eve, "DELETE", "/api/v1/suppressions/none", ""), 404, "no suppression has this id")
		var did []string
		for _, e := range s.entries() {
			if strings.HasPrefix(e.Action, "suppression.") {
				did = append(did, e.Action+" "+e.Who.Name)
			}
		}
		if want := []string{"suppression.create anna", "suppression.create anna", "suppression.create eve", "suppression.end anna", "suppression.create anna", "suppression.end anna", "suppression.create anna", "suppression.end anna"}; !slices.Equal(did, want) {
			t.Errorf("the audit has %q", did)
		}
		// What is not in the audit is nowhere.
		s.auditErr = errors.New("disk full")
		bad(anna, `{`+match+`,`+reason+`}`, 500, "the store did not answer")
		if len(s.suppressions) != 3 {
			t.Error("stored without the audit")
		}
	})
}

func TestPreviewAndProposal(t *testing.T) {
	s := &fakeStore{}
	alert := func(id, detector, who, method, path, template, severity string, succeeded int64) {
		a := pipeline.Alert{
			ID: id, Detector: detector, Severity: severity, Title: "T " + id, Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: who},
			Addresses: []string{who}, Endpoint: pipeline.Endpoint{Method: method, Template: template}, Labels: pipeline.AlertLabels{"env": "prod"},
			Window:    pipeline.AlertWindow{Last: pipeline.TimeOf(time.Now()), First: pipeline.TimeOf(time.Now())},
			Outcome:   pipeline.Outcome{Succeeded: &succeeded, Attempted: 40},
			Exemplars: []pipeline.Exemplar{{Method: method, Path: path}},
		}
		s.feed = append(s.feed, a)
	}
	alert("a1", "probe.path", "203.0.113.7", "GET", "/export/17", "/export/{id}", "high", 0)
	alert("a2", "probe.path", "203.0.113.7", "GET", "/other", "/export/{id}", "low", 0)
	alert("a3", "probe.path", "203.0.113.9", "GET", "/export/17", "/export/{id}", "high", 0)
	alert("a4", "auth.stuffing", "203.0.113.7", "POST", "/login", "/login", "critical", 2)
	o := options(s)
	h := newHandler(o)
	anna := s.give(o, "anna", Analyst)
	f := func(match string, alerts, pages, succeeded int, ids string) {
		t.Helper()
		w := askAs(h, anna, "POST", "/api/v1/suppressions/preview", `{"match":`+match+`,"days":3}`)
		var p suppressionPreview
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", match, w.Code, w.Body)
		}
		var got []string
		for _, a := range p.Sample {
			got = append(got, a.ID)
		}
		slices.Sort(got)
		if p.Alerts != alerts || p.Pages != pages || p.Succeeded != succeeded || p.Days != 3 || strings.Join(got, " ") != ids {
			t.Errorf("%s: %+v", match, p)
		}
	}
	f(`{"detector":"probe.path"}`, 3, 2, 0, "a1 a2 a3")
	f(`{"detector":"probe","principal":{"kind":"ip","value":"203.0.113.7"}}`, 2, 1, 0, "a1 a2")
	f(`{"address":"203.0.113.0/29"}`, 3, 2, 1, "a1 a2 a4")
	f(`{"endpoint":{"method":"post","template":"/log*"}}`, 1, 1, 1, "a4")
	f(`{"labels":{"env":"dev"}}`, 0, 0, 0, "")
	f(`{"labels":{"env":"prod"},"level":"campaign"}`, 0, 0, 0, "")
	wantProblem(t, askAs(h, anna, "POST", "/api/v1/suppressions/preview", `{"match":{"detector":"x"},"days":91}`), 400, "days")
	wantProblem(t, askAs(h, anna, "POST", "/api/v1/suppressions/preview", `{"match":{}}`), 400, "match: is empty")
	if len(s.suppressions) != 0 || len(s.entries()) != 0 {
		t.Error("a preview changed something")
	}

	// The smallest one: without the endpoint where an example is elsewhere.
	proposed := func(id, body string) *proposedSuppression {
		t.Helper()
		w := askAs(h, anna, "GET", "/api/v1/alerts/"+id, "")
		if body != "" {
			w = askAs(h, anna, "PATCH", "/api/v1/alerts/"+id, body)
		}
		var got struct {
			Proposed *proposedSuppression `json:"proposed_suppression"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", id, w.Code, w.Body)
		}
		return got.Proposed
	}
	if p := proposed("a1", `{"status":"closed","verdict":"false_positive_logic","comment":"ids that were never there"}`); p == nil || p.Match.Detector != "probe.path" ||
		p.Match.Principal.Value != "203.0.113.7" || p.Match.Endpoint.Template != "/export/{id}" || p.Match.Endpoint.Method != "GET" ||
		p.Reason != "false positive logic: ids that were never there" || p.For != "24h" || p.Alert != "a1" {
		t.Errorf("%+v", p)
	} else {
		body, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if w := askAs(h, anna, "POST", "/api/v1/suppressions", string(body)); w.Code != 200 || s.suppressions[0].Known == nil || s.suppressions[0].Known.Count != 40 {
			t.Errorf("what is proposed is not taken: %d %s", w.Code, w.Body)
		}
	}
	if p := proposed("a2", ""); p == nil || p.Match.Endpoint != (endpointView{}) {
		t.Errorf("%+v", p)
	}
	for _, verdict := range []string{"true_positive", "test", "duplicate"} {
		if p := proposed("a4", fmt.Sprintf(`{"status":"closed","verdict":%q}`, verdict)); p != nil {
			t.Errorf("%s proposes %+v", verdict, p)
		}
	}
}
