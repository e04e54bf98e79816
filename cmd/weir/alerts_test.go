package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"weir/storage/sqlite"
)

// TestShiftThroughTheShell is a shift: list, open, assign, give a verdict, comment,
// close many at once; on the store's file, and of a running weir with a token. Two
// people on one alert do not overwrite each other, and the audit has all of it.
func TestShiftThroughTheShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := filepath.Join(dir, "weir.db")
	db, err := sqlite.Open(store, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const many = 40
	for i := range many {
		a := consoleAlert(fmt.Sprintf("scan%02d", i), 1, "low")
		a.Detector = "probe.path"
		putAlerts(t, db, a)
	}
	grave := consoleAlert("grave1", 1, "critical")
	grave.Title, grave.Detector = "Credential stuffing against POST /login from 203.0.113.7\x1b[31m", "auth.stuffing"
	putAlerts(t, db, grave)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	secret := weir(t, "token", "create", "--store", store, "--name", "eva", "--role", "analyst", "--role", "auditor")
	if secret.code != exitOK {
		t.Fatal(secret.stderr)
	}
	token := writeFile(t, dir, "token", secret.stdout)
	log := writeFile(t, dir, "access.log", []byte(`203.0.113.7 - - [22/Nov/2026:08:00:00 +0000] "GET /a?q=1 HTTP/1.1" 200 5 "-" "curl/8"`+"\n"))

	shift := func(t *testing.T, to []string, who string, first int64) {
		run := func(want int, args ...string) string {
			t.Helper()
			r := weir(t, append(args, to...)...)
			if r.code != want {
				t.Fatalf("weir %s: exit %d, want %d\n%s%s", strings.Join(args, " "), r.code, want, r.stdout, r.stderr)
			}
			return string(r.stdout) + r.stderr
		}
		has := func(out, pattern string) {
			t.Helper()
			if !regexp.MustCompile("(?m)" + pattern).MatchString(out) {
				t.Errorf("want %q in\n%s", pattern, out)
			}
		}
		list := run(exitOK, "alerts", "--severity", "high,critical", "--status", "open")
		has(list, `^CRITICAL +open +.*auth\.stuffing +grave1 +Credential stuffing`)
		if strings.Contains(list, "scan") || strings.Contains(list, "\x1b") {
			t.Errorf("the list has too much:\n%s", list)
		}
		has(run(exitOK, "alerts", "show", "grave1"), fmt.Sprintf(`^  triage +.*revision %d`, first))
		has(run(exitOK, "alerts", "set", "grave1", "--assign", "eva", "--status-to", "in_progress", "--revision", strconv.FormatInt(first, 10)), `^grave1  in_progress, assigned to eva \(revision`)
		// Somebody with an older view is told, and changes nothing.
		has(run(exitFailed, "alerts", "set", "grave1", "--assign", "bob", "--revision", strconv.FormatInt(first, 10)), `somebody else was faster: it is in_progress, assigned to eva \(revision [0-9]+, by `+who)
		run(exitFailed, "alerts", "set", "grave1", "--status-to", "closed")
		has(run(exitOK, "alerts", "set", "grave1", "--verdict", "true_positive", "--tag", "case-4711", "--comment", "passwords are reset"), `closed, true_positive, assigned to eva, tags case-4711`)
		shown := run(exitOK, "alerts", "show", "grave1")
		has(shown, `^CRITICAL`)
		has(shown, who+`: passwords are reset$`)
		has(run(exitOK, "alerts", "set", "grave1", "--untag", "case-4711", "--status-to", "new", "--assign", "", "--output", "json"), `^\{"id":"grave1","triage":\{"revision":[0-9]+,"status":"new","assignee":"","verdict":"","tags":\[\]`)

		scans := []string{"--detector", "probe.path"}
		has(run(exitFailed, append([]string{"alerts", "set", "--all", "--verdict", "benign_positive"}, scans...)...), `40 alerts are so; --count 40 changes them`)
		run(exitFailed, append([]string{"alerts", "set", "--all", "--count", "39", "--verdict", "benign_positive"}, scans...)...)
		has(run(exitOK, append([]string{"alerts", "set", "--all", "--count", "40", "--verdict", "benign_positive", "--comment", "our own scan"}, scans...)...), `^40 of 40 alerts changed$`)
		has(run(exitOK, append([]string{"alerts", "--limit", "3"}, scans...)...), `^LOW +open +benign_positive`)
		if lines := strings.Count(run(exitOK, append([]string{"alerts", "--limit", "1000", "--output", "json"}, scans...)...), "\n"); lines != many {
			t.Errorf("%d lines of JSON, want %d", lines, many)
		}
		has(run(exitFailed, "alerts", "set", "grave1", "none1", "--comment", "both"), `none1: no alert has this id`)
	}
	user := shellUser().Name
	t.Run("store", func(t *testing.T) { shift(t, []string{"--store", store}, user, 0) })
	d := startDaemon(t, "run", "--store", store, "--listen", "127.0.0.1:0", log)
	d.waitReady(t)
	t.Run("url", func(t *testing.T) { shift(t, []string{"--url", d.url(), "--token-file", token}, "eva", 4) })
	t.Run("beside", func(t *testing.T) {
		r := weir(t, "alerts", "set", "grave1", "--comment", "while weir runs", "--store", store)
		if r.code != exitOK {
			t.Error(r.stderr)
		}
	})
	eventually(t, "the request is stored", d, func() bool {
		return strings.Contains(string(weir(t, "requests", "--principal", "ip:203.0.113.7", "--store", store).stdout), "GET /a?q=")
	})
	d.stop(t)
	if r := weir(t, "audit", "verify", "--store", store); r.code != exitOK {
		t.Error(r.stderr)
	}
	audit := string(weir(t, "audit", "show", "--store", store).stdout)
	if n := strings.Count(audit, `"action":"alert.triage","outcome":"success"`); n != 2*(4+many)+1 {
		t.Errorf("the audit has %d changes", n)
	}
	if !strings.Contains(audit, `"interface":"cli"`) || !strings.Contains(audit, "our own scan") {
		t.Error("the audit does not say that the shell did it, or why")
	}
}

// TestShadowIsNeverTold: what detectors in shadow mode find is kept and shown, and
// is no alert, in no feed and at no sink.
func TestShadowIsNeverTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := text(trafficLog(1))
	hook := newReceiver(t)
	sinks, err := os.ReadFile(hook.config(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, dir, "weir.yaml", append(sinks, "detect: {scrape.crawl: {mode: shadow}, probe.path: {mode: shadow}, auth.bruteforce: {mode: shadow}}\n"...))
	edition := filepath.Join(dir, "e.json")
	analyzed(t, "--edition-out", edition, writeFile(t, dir, "learn.log", data))
	f := newFeed(t, filepath.Join(dir, "access.log"), data, 1)
	store := follow(t, []*feed{f}, 0, "-c", config, "--edition", edition)
	live := 0
	for _, a := range storedRevisions(t, store) {
		if !a.Backfill && a.Alert.Detector == "enum.object" {
			live++
		}
		if d := a.Alert.Detector; d == "scrape.crawl" || d == "probe.path" || d == "auth.bruteforce" {
			t.Errorf("an alert of %s", d)
		}
	}
	out := string(weir(t, "alerts", "shadow", "--store", store).stdout)
	for _, want := range []string{"scrape.crawl", "probe.path", "auth.bruteforce", crawlerAddress, "page "} {
		if !strings.Contains(out, want) {
			t.Errorf("the shadow cases do not show %s:\n%s", want, out)
		}
	}
	if one := string(weir(t, "alerts", "shadow", "--store", store, "--detector", "probe.path", "--output", "json").stdout); strings.Count(one, "\n") != 1 || !strings.Contains(one, proberAddress) {
		t.Errorf("of probe.path alone: %s", one)
	}
	hook.mu.Lock()
	defer hook.mu.Unlock()
	for _, a := range hook.alerts {
		if d := a.Detector; d == "scrape.crawl" || d == "probe.path" || d == "auth.bruteforce" {
			t.Errorf("the sink was told of %s", d)
		}
	}
	if live == 0 || len(hook.bad) > 0 {
		t.Errorf("%d live alerts of a detector that is on; %v", live, hook.bad)
	}
}
