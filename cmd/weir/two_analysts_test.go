package main

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"weir/console"
	"weir/pipeline"
)

// TestTwoAnalystsOnOneAlert: both read it; the one who is later gets 409 with the
// state as it is, one by one and in bulk, and nothing of the first one's change is
// lost. With what was read anew the second one's change is made.
func TestTwoAnalystsOnOneAlert(t *testing.T) {
	s := consoleService(t)
	putAlerts(t, s.db, consoleAlert("a", 1, "high"), consoleAlert("b", 1, "high"))
	h := s.newServer().Handler
	token := func(name string) string {
		f := tokenFlags{name: name, expires: "1d", roles: console.Analyst.Names()}
		k, text, err := f.newToken(pipeline.Time(4e15).Std())
		if err != nil {
			t.Fatal(err)
		}
		k.MAC = s.pepper.MAC(text)
		by, err := shellEntry("token.create", tokenTarget(k.ID), nil, auditedToken(k))
		if err == nil {
			err = s.db.CreateToken(t.Context(), k, by)
		}
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	type triage struct {
		Revision                       int64
		Status, Verdict, Assignee, Who string
	}
	type state struct {
		Detail string
		Triage triage
	}
	ask := func(who, method, path, match, body string, want int) (got state, tag string) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+who)
		r.Header.Set("Content-Type", "application/json")
		if match != "" {
			r.Header.Set("If-Match", match)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Fatalf("%s %s: %d, want %d: %s", method, path, w.Code, want, w.Body)
		}
		if method == "PATCH" {
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
		}
		return got, w.Header().Get("ETag")
	}
	eva, bob := token("eva"), token("bob")
	_, evas := ask(eva, "GET", "/api/v1/alerts/a", "", "", 200)
	_, bobs := ask(bob, "GET", "/api/v1/alerts/a", "", "", 200)
	if evas == "" || evas != bobs {
		t.Fatalf("they read %q and %q", evas, bobs)
	}
	ask(eva, "PATCH", "/api/v1/alerts/a", evas, `{"status":"closed","verdict":"true_positive","assignee":"eva"}`, 200)
	same := func(x triage) {
		t.Helper()
		if x.Revision != 1 || x.Status != "closed" || x.Verdict != "true_positive" || x.Assignee != "eva" || x.Who != "eva" {
			t.Errorf("%+v", x)
		}
	}
	late, _ := ask(bob, "PATCH", "/api/v1/alerts/a", bobs, `{"status":"closed","verdict":"duplicate","assignee":"bob"}`, 409)
	if same(late.Triage); late.Detail == "" {
		t.Error("nothing is said")
	}

	// In bulk what is stale is told, and the other is changed.
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/alerts/bulk", strings.NewReader(
		`{"items":[{"id":"a","revision":0,"change":{"assignee":"bob"}},{"id":"b","revision":0,"change":{"assignee":"bob"}}]}`))
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+bob)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var bulk struct {
		Changed int
		Data    []struct {
			ID, Outcome string
			Triage      triage
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &bulk); err != nil || bulk.Changed != 1 || len(bulk.Data) != 2 || bulk.Data[0].Outcome != "stale" || bulk.Data[1].Outcome != "changed" {
		t.Fatalf("%s: %v", w.Body, err)
	}
	same(bulk.Data[0].Triage)

	found, err := (consoleStore{s.db}).Triages(t.Context(), []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	var kept triage
	if err := json.Unmarshal(found["a"], &kept); err != nil {
		t.Fatal(err)
	}
	same(kept)
	_, bobs = ask(bob, "GET", "/api/v1/alerts/a", "", "", 200)
	if now, _ := ask(bob, "PATCH", "/api/v1/alerts/a", bobs, `{"comment":"mine was the same"}`, 200); now.Triage.Revision != 2 || now.Triage.Verdict != "true_positive" || now.Triage.Who != "bob" {
		t.Errorf("%+v", now)
	}
	rows, err := s.db.AuditAfter(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	made := []string{}
	for i := range rows {
		var e struct {
			Action, Outcome string
			Who             struct{ Name string }
			Target          struct{ IDs []string }
		}
		if err := json.Unmarshal(rows[i].Body, &e); err != nil {
			t.Fatal(err)
		}
		if e.Action == "alert.triage" {
			made = append(made, e.Who.Name+" "+e.Target.IDs[0]+" "+e.Outcome)
		}
	}
	if got := strings.Join(made, ", "); got != "eva a success, bob b success, bob a success" {
		t.Errorf("the audit has %s", got)
	}
}
