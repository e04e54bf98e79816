package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

var strangers = regexp.MustCompile(`"remote_addr":"24`)

var simulatedStamp = regexp.MustCompile(`"time_iso8601":"([^"]+)"`)

// shifted is a simulated log at another time, with one harmless line three quarters of
// an hour behind it, so that all of it is told.
func shifted(t *testing.T, log string, by time.Duration) (lines []byte, first pipeline.Time) {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var last time.Time
	move := func(line []byte, extra time.Duration) []byte {
		at, err := time.Parse(time.RFC3339Nano, string(simulatedStamp.FindSubmatch(line)[1]))
		if err != nil {
			t.Fatal(err)
		}
		last = at.Add(by)
		if first == 0 {
			first = pipeline.TimeOf(last)
		}
		return simulatedStamp.ReplaceAll(line, fmt.Appendf(nil, `"time_iso8601":%q`, last.Add(extra).Format(time.RFC3339Nano)))
	}
	var quiet []byte
	for line := range bytes.Lines(data) {
		if quiet == nil && bytes.Contains(line, []byte(`"status":200`)) {
			quiet = line
		}
		lines = append(lines, move(line, 0)...)
	}
	end := last
	at, err := time.Parse(time.RFC3339Nano, string(simulatedStamp.FindSubmatch(quiet)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return append(lines, move(quiet, end.Add(45*time.Minute).Sub(at.Add(by)))...), first
}

// since keeps the alerts that began at or after a time.
func since(list []pipeline.Alert, from pipeline.Time) (kept []pipeline.Alert) {
	for i := range list {
		if list[i].Window.First >= from {
			kept = append(kept, list[i])
		}
	}
	return kept
}

// predicted is what old becomes by r.
func predicted(old map[string]outcome, r *backtestResult) map[string]outcome {
	got := maps.Clone(old)
	for _, v := range r.Lost {
		delete(got, v.ID)
	}
	for _, v := range r.Moved {
		delete(got, v.Was.ID)
		got[v.ID] = v.outcome()
	}
	for _, v := range r.Gained {
		got[v.ID] = v.outcome()
	}
	return got
}

// TestBacktestThenApply: a change is tried on the stored history, applied over the API
// to the weir that runs, and what that raises on the traffic of the next day is what a
// backtest of that day says; what it had raised before stays.
func TestBacktestThenApply(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var parts [2][]byte
	var next pipeline.Time
	for i := range parts {
		log := filepath.Join(dir, fmt.Sprintf("part%d.json", i))
		if r := weir(t, "simulate", "--quiet", "--scenario", "tiny-attacks", "--seed", fmt.Sprint(i+1), "--out", log, "--labels", log+".truth"); r.code != exitOK {
			t.Fatal(r.stderr)
		}
		parts[i], next = shifted(t, log, time.Duration(i)*26*time.Hour)
		if i > 0 { // other clients, with accounts of their own
			parts[i] = strangers.ReplaceAll(parts[i], []byte(`"remote_addr":"7`))
			parts[i] = bytes.ReplaceAll(parts[i], []byte("@mail.example"), []byte("@post.example"))
			parts[i] = bytes.ReplaceAll(parts[i], []byte(`"2001:db8:`), []byte(`"2001:db9:`))
		}
	}
	first, whole := writeFile(t, dir, "first.json", parts[0]), writeFile(t, dir, "whole.json", slices.Concat(parts[0], parts[1]))
	edition, store, live := filepath.Join(dir, "e.json"), filepath.Join(dir, "weir.db"), writeFile(t, dir, "live.json", nil)
	analyzed(t, "--edition-out", edition, first)
	base := fmt.Sprintf("privacy: {key_file: %s}\nstore: {path: %s}\nendpoints: [{match: POST /api/login, role: login, failure: {status: [401]}}]\n", filepath.Join(dir, "weir.key"), store)
	const oldModes, newModes = "detect: {auth.stuffing: {mode: off}, inject.probe: {mode: shadow}}\n", "detect: {probe.path: {mode: off}, enum.object: {mode: shadow}}\nalerts: {budget: {alerts: 50, pages: 20}, suppressions: [{match: {address: 75.93.248.96}, from: 2026-01-01T00:00:00Z, until: 2026-12-31T00:00:00Z, reason: it was ordered, author: eva}]}\n"
	config, before := writeFile(t, dir, "weir.yaml", []byte(base+oldModes)), writeFile(t, dir, "before.yaml", []byte(base+oldModes))
	after := writeFile(t, dir, "after.yaml", []byte(strings.Replace(base, "failure:", "weight: low, failure:", 1)+newModes))
	token := weir(t, "token", "create", "-c", config, "--name", "eva", "--role", "engineer", "--role", "auditor")
	d := startDaemon(t, "run", "-c", config, "--edition", edition, "--listen", "127.0.0.1:0", live)
	d.waitReady(t)
	c := &apiClient{t: t, base: d.url(), token: strings.TrimSpace(string(token.stdout))}
	lines := int64(0)
	feed := func(data []byte) {
		t.Helper()
		f, err := os.OpenFile(live, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write(data)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines += int64(bytes.Count(data, []byte("\n")))
		eventually(t, "it is detected", d, func() bool {
			return drained(t, store, lines, 1) && strings.Contains(string(c.do("GET", "/metrics", nil, 200)), "\nweir_detect_lag_records 0\n")
		})
	}
	feed(parts[0])

	text, err := os.ReadFile(after)
	if err != nil {
		t.Fatal(err)
	}
	id := decoded[struct{ ID string }](t, c.do("POST", "/api/v1/backtests", map[string]string{"config": string(text)}, 202)).ID
	var v jobView
	eventually(t, "the backtest is done", d, func() bool {
		v = decoded[jobView](t, c.do("GET", "/api/v1/backtests/"+id, nil, 200))
		return v.State != "running"
	})
	if v.State != "done" || v.LostTotal == 0 || v.GainedTotal == 0 {
		t.Fatalf("the backtest: %+v", v)
	}
	told := served(t, store)
	tried := outcomesOf(analyzedAlerts(t, "--pseudonyms", "-c", after, "--edition", edition, first))
	mustPredict(t, backtested(t, "-c", after, "--store", store, "--pseudonyms"), told, tried)
	got := decoded[struct{ Restart string }](t, c.do("POST", "/api/v1/config/apply", map[string]string{"yaml": string(text), "backtest": id}, 200))
	if got.Restart != "" {
		t.Errorf("left for a restart: %s", got.Restart)
	}
	feed(parts[1])
	d.stop(t)

	var list []pipeline.Alert
	var claims []byte
	for _, a := range storedRevisions(t, store) {
		list = append(list, a.Alert)
		line, err := json.Marshal(&a.Alert)
		if err != nil {
			t.Fatal(err)
		}
		claims = append(append(claims, line...), '\n')
	}
	for id, o := range outcomesOf(list) {
		if was, ok := told[id]; ok && (was.detector != o.detector || was.detected != o.detected) {
			t.Errorf("%s was %+v and is %+v", id, was, o)
		}
	}
	is := outcomesOf(since(list, next))
	old := outcomesOf(since(analyzedAlerts(t, "--pseudonyms", "-c", before, "--edition", edition, whole), next))
	r := backtested(t, "--pseudonyms", "-c", after, "--against", before, "--store", store, "--since", next.Std().Format(time.RFC3339Nano))
	// A case that was there before goes on as it began.
	going := map[string]bool{}
	for _, day := range []map[string]outcome{told, tried} {
		for _, o := range day {
			going[o.principal] = true
		}
	}
	fresh := func(m map[string]outcome) map[string]outcome {
		maps.DeleteFunc(m, func(_ string, o outcome) bool { return going[o.principal] })
		return m
	}
	is = fresh(is)
	if want := fresh(predicted(old, r)); !maps.Equal(is, want) {
		for id := range is {
			if is[id] != want[id] {
				t.Errorf("%s is %+v, predicted %+v", id, is[id], want[id])
			}
		}
		for id := range want {
			if _, ok := is[id]; !ok {
				t.Errorf("%s was predicted and is not there: %+v", id, want[id])
			}
		}
	}
	if len(r.Gained) == 0 || len(r.Lost) == 0 || len(is) < 8 {
		t.Errorf("of the next day %d gained, %d lost, %d alerts", len(r.Gained), len(r.Lost), len(is))
	}
	// All of it can be recomputed from the log, with the change at its place.
	if got := weir(t, "verify", "-c", config, "--store", store, writeFile(t, dir, "claims.jsonl", claims)); got.code != exitOK {
		t.Errorf("weir verify: exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

// analyzedAlerts are the revisions that weir analyze gives.
func analyzedAlerts(t *testing.T, args ...string) (list []pipeline.Alert) {
	t.Helper()
	r := weir(t, append([]string{"analyze", "--output", "json", "--quiet"}, args...)...)
	if r.code != exitOK {
		t.Fatalf("weir analyze %s: exit %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	for line := range bytes.Lines(r.stdout) {
		var a pipeline.Alert
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}
