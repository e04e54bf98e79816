package alerts

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"weir/pipeline"
)

// TestSlackBot: what Slack's API answers is whose it is, and a thread is what it says.
func TestSlackBot(t *testing.T) {
	answer := ""
	var asked map[string]any
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = nil
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || r.URL.Path != "/api/chat.postMessage" {
			t.Errorf("%s: %v", r.URL, err)
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	s, err := OpenSink(SinkConfig{Slack: &SlackConfig{TokenFile: secretFile(t, "hunter2"), Channel: "C1", URL: URL(srv.URL + "/api/")}}, SinkOptions{Version: "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	a := last(t, stories()["stuffing"])
	f := func(said, want string) {
		t.Helper()
		answer = said
		err := s.Send(t.Context(), []pipeline.Alert{*a})
		got := "retry"
		switch {
		case err == nil:
			got = "ok"
		case errors.Is(err, pipeline.ErrPermanent):
			got = "permanent"
		case errors.Is(err, ErrRefused):
			got = "refused"
		}
		if got != want {
			t.Errorf("%s: %s, want %s (%v)", said, got, want, err)
		}
		leaks(t, err)
	}
	f(`{"ok":true,"channel":"C1","ts":"1732248000.000100"}`, "ok")
	for _, code := range []string{"ratelimited", "internal_error", "service_unavailable"} {
		f(`{"ok":false,"error":"`+code+`"}`, "retry")
	}
	for _, code := range []string{"invalid_auth", "channel_not_found", "not_in_channel", "is_archived", "missing_scope", "token hunter2 is unknown", ""} {
		f(`{"ok":false,"error":"`+code+`"}`, "refused")
	}
	f(`{"ok":false,"error":"invalid_blocks"}`, "permanent")
	f(`<html>`, "retry")

	answer = `{"ok":true,"ts":"7.1"}`
	g := &Group{Key: "k", By: []Common{{"detector", "<!channel>"}}, Alerts: []GroupAlert{{Alert: a}}, Open: 1}
	if err := s.(GroupSink).SendGroup(t.Context(), g); err != nil || g.Thread != "7.1" || asked["thread_ts"] != nil || asked["channel"] != "C1" {
		t.Errorf("%v, thread %q: %v", err, g.Thread, asked)
	}
	if asked["text"] != "1 alert open (detector &lt;!channel&gt;)" {
		t.Errorf("the text is %v", asked["text"])
	}
	answer = `{"ok":true,"ts":"8.1"}`
	g.Repeat = 1
	if err := s.(GroupSink).SendGroup(t.Context(), g); err != nil || g.Thread != "7.1" || asked["thread_ts"] != "7.1" || asked["reply_broadcast"] != true {
		t.Errorf("%v, thread %q: %v", err, g.Thread, asked)
	}
	// One that is known to go on is no news: nothing is asked.
	on := *a
	on.Status, on.Change.Kind = "open", "still_active"
	g.Repeat, g.Alerts = 0, []GroupAlert{{Alert: &on, Known: true}}
	asked = map[string]any{"nothing": true}
	if err := s.(GroupSink).SendGroup(t.Context(), g); err != nil || asked["nothing"] != true {
		t.Errorf("%v: %v", err, asked)
	}
}

// TestShowNames: of an alert exactly the names of whom a responder acts on are shown,
// wherever it says them, and the alert itself is as it was.
func TestShowNames(t *testing.T) {
	open := func(token string) (string, bool) {
		name, ok := map[string]string{"u_a": "alice", "u_b": "bob", "u_c": "carol", "u_d": "\x1b[2Jdave"}[token]
		return name, ok
	}
	a := pipeline.Alert{
		Title: "u_b and u_a", Reason: "u_a, u_c; u_x", Next: []string{"Reset u_a"}, BenignIf: []string{}, Change: pipeline.AlertChange{Text: "u_a"},
		Principal: pipeline.Principal{Kind: pipeline.PrincipalAccount, Value: "u_c"}, Members: []pipeline.Principal{{Kind: pipeline.PrincipalAccount, Value: "u_b"}},
		Affected: pipeline.AlertAffected{Accounts: []pipeline.AffectedAccount{{Name: "u_a", Outcome: "success"}, {Name: "u_b", Outcome: "failure"}, {Name: "u_x", Outcome: "success"}, {Name: "u_d", Outcome: "success"}}},
	}
	before := string(AppendJSON(nil, &a))
	got := showNames(&a, open)
	if string(AppendJSON(nil, &a)) != before {
		t.Error("the alert was changed")
	}
	want := a
	want.Title, want.Reason, want.Next, want.Change.Text = "u_b and alice", "alice, carol; u_x", []string{"Reset alice"}, "alice"
	want.Principal.Value = "carol"
	want.Affected.Accounts = []pipeline.AffectedAccount{{Name: "alice", Outcome: "success"}, {Name: "u_b", Outcome: "failure"}, {Name: "u_x", Outcome: "success"}, {Name: "\x1b[2Jdave", Outcome: "success"}}
	if g, w := string(AppendJSON(nil, got)), string(AppendJSON(nil, &want)); g != w {
		t.Errorf("%s\nwant %s", g, w)
	}
	a.Principal.Kind = pipeline.PrincipalIP
	if got := showNames(&a, open); got.Principal.Value != "u_c" || got.Reason != "alice, u_c; u_x" {
		t.Errorf("%+v", got)
	}
	a.Affected.Accounts = nil
	if showNames(&a, open) != &a {
		t.Error("there is nothing to show, and it was copied")
	}
}
