package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"weir/pipeline"
	"weir/storage/sqlite"
)

// shellShift runs weir's commands against a running weir.
type shellShift struct {
	t  *testing.T
	to []string
}

// local runs a command, as it is; the answer is what both of its outputs say.
func (s *shellShift) local(want int, args ...string) string {
	s.t.Helper()
	r := weir(s.t, args...)
	if r.code != want {
		s.t.Fatalf("weir %s: exit %d, want %d\n%s%s", strings.Join(args, " "), r.code, want, r.stdout, r.stderr)
	}
	return string(r.stdout) + r.stderr
}

func (s *shellShift) run(args ...string) string {
	s.t.Helper()
	return s.local(exitOK, append(args, s.to...)...)
}

// has wants a line like pattern in out, and returns its first group.
func (s *shellShift) has(out, pattern string) string {
	s.t.Helper()
	m := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(out)
	if m == nil {
		s.t.Fatalf("want %q in\n%s", pattern, out)
	}
	return m[len(m)-1]
}

// TestWholeShiftThroughTheShell is what an analyst and an engineer do in a shift, at a
// weir that runs on a log: they read, triage, suppress and undo, close many, look at a
// campaign, test a sink, try a change and apply it. The audit has each of it.
func TestWholeShiftThroughTheShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, hook := writeFile(t, dir, "access.log", text(trafficLog(1))), newReceiver(t)
	config, store := hook.config(t, dir), filepath.Join(dir, "weir.db")
	sinks, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "weir.yaml", fmt.Appendf(sinks, "store: {path: %q}\n", store))
	db, err := sqlite.Open(store, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const many = 60
	for i := range many {
		a := consoleAlert(fmt.Sprintf("wave%02d", i), 1, "low")
		a.Detector, a.Campaign, a.Title = "auth.spraying", "c1", "One wave of many"
		putAlerts(t, db, a)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	token := weir(t, "token", "create", "-c", config, "--name", "eva", "--role", "engineer", "--role", "analyst", "--role", "auditor")
	if token.code != exitOK {
		t.Fatal(token.stderr)
	}
	d := startDaemon(t, "run", "-c", config, "--listen", "127.0.0.1:0", log)
	d.waitReady(t)
	s := &shellShift{t: t, to: []string{"--url", d.url(), "--token-file", writeFile(t, dir, "token", token.stdout)}}
	eventually(t, "all of the log is detected", d, func() bool {
		return strings.Contains(s.run("alerts", "--principal", "ip:"+crawlerAddress), "scrape.crawl")
	})
	s.triage()
	s.many(many)
	s.tune(dir, config)
	d.stop(t)
	s.audited(store, many)
}

// triage is what becomes of one alert.
func (s *shellShift) triage() {
	id := s.has(s.run("alerts", "--principal", "ip:"+guesserAddress, "--detector", "auth.bruteforce"), `auth\.bruteforce +([0-9a-f]+) `)
	shown := s.run("alerts", "show", id)
	s.has(shown, `^  what .*: 89 logins of 90 failed`)
	s.has(shown, `^  detail .* nats .* = login_failure [0-9.]+ \+ login_volume [0-9.]+$`)
	s.has(shown, `^  request   .* `+regexp.QuoteMeta(guesserAddress)+` POST /login 401`)
	of := s.run("requests", "--alert", id, "--limit", "1000")
	s.has(of, regexp.QuoteMeta(guesserAddress)+` .*POST /login`)
	if n := strings.Count(of, "\n"); n < 80 || strings.Contains(of, crawlerAddress) {
		s.t.Errorf("the alert's requests are %d lines:\n%s", n, of)
	}
	s.has(s.run("alerts", "set", id, "--assign", "eva", "--status-to", "in_progress"), `in_progress, assigned to eva \(revision 1`)
	s.has(s.run("alerts", "set", id, "--comment", "asked the owner of the account"), `revision 2`)
	s.has(s.run("alerts", "set", id, "--verdict", "true_positive"), `closed, true_positive`)
	s.has(s.run("alerts", "set", id, "--status-to", "new", "--comment", "closed too soon"), `^[0-9a-f]+  new, assigned to eva \(revision 4`)

	crawl := s.has(s.run("alerts", "--principal", "ip:"+crawlerAddress), `scrape\.crawl +([0-9a-f]+) `)
	s.has(s.run("suppress", "preview", "--alert", crawl, "--days", "30"), `^in 30 days: [0-9]+ alerts`)
	quiet := s.has(s.run("suppress", "add", "--alert", crawl, "--reason", "a partner's export", "--for", "2h"), `^([A-Za-z0-9_-]+)$`)
	s.has(s.run("suppress", "list"), `^`+quiet+` +active .*a partner's export`)
	s.has(s.run("suppress", "end", quiet), `^`+quiet+` ended`)
	s.has(s.run("suppress", "list"), `^`+quiet+` +ended `)
}

// many closes a campaign's alerts.
func (s *shellShift) many(n int) {
	page := s.run("alerts", "campaign", "c1")
	s.has(page, `campaign c1: One wave of many$`)
	s.has(page, fmt.Sprintf(`^  %d alerts`, n))
	s.has(page, `^  LOW +open +wave00 +One wave of many`)
	s.local(exitFailed, append([]string{"alerts", "campaign", "none"}, s.to...)...)
	s.has(s.run("alerts", "set", "--all", "--filter", "campaign=c1", "--count", fmt.Sprint(n), "--verdict", "benign_positive", "--comment", "our own test"), fmt.Sprintf(`^%d of %d alerts changed$`, n, n))
}

// tune tests the sink, tries a change and applies it.
func (s *shellShift) tune(dir, config string) {
	s.has(s.local(exitOK, "sink", "test", "siem", "-c", config), `^siem took the test alert`)
	list := s.local(exitOK, "sink", "list", "-c", config, "--output", "json")
	var state sinkListed
	if err := json.Unmarshal([]byte(list), &state); err != nil || state.Sink != "siem" || state.Kind != "webhook" || state.Behind == nil || state.Dead != 0 {
		s.t.Errorf("the sink is %s: %v", list, err)
	}
	now := s.run("config", "show")
	next := writeFile(s.t, dir, "next.yaml", []byte(now+"detect: {scrape.crawl: {mode: shadow}}\n"))
	s.has(s.run("config", "diff", next), `detect\.scrape\.crawl\.mode`)
	tried := s.run("config", "backtest", next)
	s.has(tried, `scrape\.crawl`)
	backtest := s.has(tried, `--backtest ([a-z0-9]+)$`)
	s.has(s.run("config", "apply", next, "--backtest", backtest), `^sha256:`)
	s.has(s.run("config", "show"), `scrape\.crawl: \{mode: shadow\}`)
}

// audited wants each change in the audit, and who made it.
func (s *shellShift) audited(store string, many int) {
	s.local(exitOK, "audit", "verify", "--store", store)
	actions := map[string]int{}
	for line := range strings.Lines(s.local(exitOK, "audit", "show", "--store", store)) {
		var row struct {
			Entry struct {
				Action, Outcome, Reason string
				Time                    pipeline.Time
				Who                     struct{ Name string }
			}
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			s.t.Fatal(err)
		}
		e := &row.Entry
		actions[e.Action]++
		byToken := e.Action != "sink.test" && e.Action != "token.create" && !strings.HasPrefix(e.Action, "service.") && !strings.HasPrefix(e.Action, "audit.")
		if e.Outcome != "success" || byToken && e.Who.Name != "eva" {
			s.t.Errorf("the audit has %s", line)
		}
	}
	for action, want := range map[string]int{
		"alert.triage": 4 + many, "suppression.create": 1, "suppression.end": 1, "sink.test": 1, "backtest.start": 1, "config.apply": 1, "service.start": 1, "service.stop": 1,
	} {
		if actions[action] != want {
			s.t.Errorf("the audit has %s %d times, want %d: %v", action, actions[action], want, actions)
		}
	}
}
