package console

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/pipeline"
)

// TestDecisions: who is listed, who is spared and why.
func TestDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := pipeline.TimeOf(time.Now())
		good := func() pipeline.Alert {
			return pipeline.Alert{
				ID: "a1", Status: "open", Severity: "high", Tier: "page", Detector: "auth.bruteforce", Title: "guessing",
				Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"},
				Window:    pipeline.AlertWindow{Last: now.Add(-time.Hour)}, Context: pipeline.AlertContext{People: &[2]int{1, 3}},
			}
		}
		f := func(want string, change func(a *pipeline.Alert)) {
			t.Helper()
			a := good()
			change(&a)
			s := &fakeStore{}
			s.feed = append(s.feed, a)
			h := newHandler(options(s))
			var l decisionList
			w := ask(h, "GET", "/api/v1/decisions")
			if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			var got []string
			for _, d := range l.Data {
				got = append(got, fmt.Sprintf("%s %s:%s %ds", d.Action, d.Kind, d.Value, d.Seconds))
			}
			for _, e := range l.Spared {
				got = append(got, fmt.Sprintf("spare %s: %s", e.Value, e.Why))
			}
			if strings.Join(got, "; ") != want {
				t.Errorf("%v, want %s", got, want)
			}
			// Files have the addresses that the list has, and nothing else.
			for format, line := range map[string]string{"text": "%s", "nginx": "deny %s; # a1", "haproxy": "%s a1"} {
				lines := strings.Split(strings.TrimSuffix(ask(h, "GET", "/api/v1/decisions?format="+format).Body.String(), "\n"), "\n")
				var wanted []string
				for _, d := range l.Data {
					if d.Kind != "ip" {
						continue
					}
					if format == "text" {
						wanted = append(wanted, d.Value)
					} else {
						wanted = append(wanted, fmt.Sprintf(line, d.Value))
					}
				}
				if strings.Join(lines[1:], "|") != strings.Join(wanted, "|") || !strings.HasPrefix(lines[0], "# ") {
					t.Errorf("%s: %q, want %q", format, lines, wanted)
				}
			}
		}
		const block = "block ip:203.0.113.7 10800s"
		f(block, func(*pipeline.Alert) {})
		f("block ip:2001:db8:1:2::/64 10800s", func(a *pipeline.Alert) { a.Principal.Value = "2001:db8:1:2::/64" })
		f("", func(a *pipeline.Alert) { a.Window.Last = now.Add(-decisionFor) })
		f("block ip:203.0.113.7 14400s", func(a *pipeline.Alert) { a.Window.Last = now.Add(48 * time.Hour) })
		f("spare 203.0.113.7: 2 to 4 people may be behind it", func(a *pipeline.Alert) { a.Context.People = &[2]int{2, 4} })
		f("spare 203.0.113.7: how many people are behind it is not known", func(a *pipeline.Alert) { a.Context.People = nil })
		f("spare 203.0.113.7: it shows many browsers: one client that changes its name, or many people", func(a *pipeline.Alert) {
			a.Context.Agents = []string{"a", "b", "c", "d"}
		})
		f(block, func(a *pipeline.Alert) { a.Context.Agents = []string{"a", "b", "c"} })
		f("spare 203.0.113.7: suppression s1 covers it", func(a *pipeline.Alert) {
			a.Envelope.Silence = map[string]any{"id": "s1", "pierced": "first success"}
		})
		f("spare 203.0.113.7: it does not page by itself", func(a *pipeline.Alert) { a.Tier = "review" })
		f("spare 192.0.2.1: it is in never_block", func(a *pipeline.Alert) { a.Principal.Value = "192.0.2.1" })
		f("spare x\ndeny all: it is no address", func(a *pipeline.Alert) { a.Principal.Value = "x\ndeny all" })
		for _, network := range []string{"cgnat", "cdn", "corporate", "crawler"} {
			f("spare 203.0.113.7: its network is "+network, func(a *pipeline.Alert) { a.Context.Network = network })
		}
		f(block, func(a *pipeline.Alert) { a.Context.Network = "hosting" })
		f(block, func(a *pipeline.Alert) { a.ID = "a\n1;}" })
		f("reset account:u_a 10800s; spare 203.0.113.7: 100 to 600 people may be behind it", func(a *pipeline.Alert) {
			a.Context.People = &[2]int{100, 600}
			a.Affected.Accounts = []pipeline.AffectedAccount{{Name: "u_a", Outcome: "success"}, {Name: "u_b", Outcome: "failure"}}
		})
		for kind, action := range map[pipeline.PrincipalKind]string{
			pipeline.PrincipalAccount: "suspend", pipeline.PrincipalSubject: "suspend", pipeline.PrincipalKey: "suspend", pipeline.PrincipalSession: "end",
		} {
			f(action+" "+kind.String()+":x 10800s", func(a *pipeline.Alert) { a.Principal = pipeline.Principal{Kind: kind, Value: "x"} })
		}
		f("", func(a *pipeline.Alert) { a.Principal = pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: "x"} })
	})
	o := options(&fakeStore{})
	o.NeverBlock = nil
	wantProblem(t, ask(newHandler(o), "GET", "/api/v1/decisions"), 404, "decisions are off")
}
