package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/console"
	"weir/detectors"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// outcome is what of an alert a backtest speaks about.
type outcome struct {
	detector, severity, tier, principal string
	detected                            pipeline.Time
	paged, silent                       bool
}

// outcomesOf is what revisions come to, by id.
func outcomesOf(revisions []pipeline.Alert) map[string]outcome {
	found := map[string]outcome{}
	empty := map[string]bool{}
	for i := range revisions {
		a := &revisions[i]
		o, known := found[a.ID]
		if !known {
			o.detected = a.Window.DetectedAt
		}
		id, silent := a.Silent()
		o.detector, o.severity, o.tier, o.silent = a.Detector, a.Severity, a.Tier, silent && id != ""
		o.principal = a.Principal.Kind.String() + ":" + a.Principal.Value
		o.paged = o.paged || !o.silent && (a.Severity == "high" || a.Severity == "critical")
		found[a.ID], empty[a.ID] = o, a.Level == "campaign" && a.MembersTotal == 0
	}
	maps.DeleteFunc(found, func(id string, _ outcome) bool { return empty[id] })
	return found
}

// applied is what comes of the log under a configuration.
func applied(t *testing.T, args ...string) map[string]outcome {
	t.Helper()
	r := weir(t, append([]string{"analyze", "--output", "json", "--quiet"}, args...)...)
	if r.code != exitOK {
		t.Fatalf("weir analyze %s: exit %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	var list []pipeline.Alert
	for line := range bytes.Lines(r.stdout) {
		var a pipeline.Alert
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	return outcomesOf(list)
}

// served is what a service has stored.
func served(t *testing.T, store string) map[string]outcome {
	t.Helper()
	var list []pipeline.Alert
	for _, a := range storedRevisions(t, store) {
		list = append(list, a.Alert)
	}
	return outcomesOf(list)
}

func (v *backtestAlert) outcome() outcome {
	return outcome{v.Detector, v.Severity, v.Tier, v.Principal.Kind.String() + ":" + v.Principal.Value, v.Detected, v.Paged, v.Silent}
}

// mustPredict fails unless old, changed as r says, is exactly now.
func mustPredict(t *testing.T, r *backtestResult, old, now map[string]outcome) {
	t.Helper()
	got := maps.Clone(old)
	for _, v := range r.Lost {
		if got[v.ID] != v.outcome() {
			t.Errorf("lost %s is told as %+v, it was %+v", v.ID, v.outcome(), got[v.ID])
		}
		delete(got, v.ID)
	}
	for _, v := range r.Moved {
		was := got[v.Was.ID]
		if was.detector != v.Was.Detector || was.severity != v.Was.Severity || was.tier != v.Was.Tier || was.detected != v.Was.Detected {
			t.Errorf("moved %s is told to have been %+v, it was %+v", v.ID, *v.Was, was)
		}
		delete(got, v.Was.ID)
		got[v.ID] = v.outcome()
	}
	for _, v := range r.Gained {
		if _, there := old[v.ID]; there {
			t.Errorf("gained %s was there", v.ID)
		}
		got[v.ID] = v.outcome()
	}
	for _, v := range slices.Concat(r.Gained, r.Lost, r.Moved) {
		if v.Why == "" || strings.Contains(v.Why, "report this") {
			t.Errorf("%s %s: why is %q", v.Detector, v.ID, v.Why)
		}
	}
	if !maps.Equal(got, now) {
		for id := range now {
			if got[id] != now[id] {
				t.Errorf("%s is %+v, predicted %+v", id, now[id], got[id])
			}
		}
		for id := range got {
			if _, there := now[id]; !there {
				t.Errorf("%s was predicted and is not there: %+v", id, got[id])
			}
		}
	}
	if r.Same != len(old)-len(r.Lost)-len(r.Moved) {
		t.Errorf("%d are told to be the same, want %d", r.Same, len(old)-len(r.Lost)-len(r.Moved))
	}
}

func backtested(t *testing.T, args ...string) *backtestResult {
	t.Helper()
	got := weir(t, append([]string{"backtest", "--quiet", "--output", "json"}, args...)...)
	if got.code != exitOK {
		t.Fatalf("weir backtest %s: exit %d\n%s", strings.Join(args, " "), got.code, got.stderr)
	}
	var r backtestResult
	if err := json.Unmarshal(got.stdout, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// Changes of the configuration that show on the generated log.
const (
	backtestOld = "detect: {auth.stuffing: {mode: off}}\n"
	backtestNew = "detect: {probe.path: {mode: off}, enum.object: {mode: shadow}}\nidentity: {known_clients: [{name: load-test, ip: 198.51.100.0/24}]}\n"
	noLogin     = "endpoints: [{match: POST /login, role: other}]\n"
	suppressing = "alerts: {suppressions: [{match: {detector: probe.path}, from: 2026-01-01T00:00:00Z, until: 2026-12-31T00:00:00Z, reason: a scan that was ordered, author: eva}]}\n"
	weighty     = "endpoints: [{match: POST /login, role: login, weight: high, failure: {status: [401]}}]\n"
)

// TestBacktestPredicts: the alerts that a backtest tells are gained, lost and
// moved are those that differ once the new configuration is applied.
func TestBacktestPredicts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := writeFile(t, dir, "access.log", text(trafficLog(1)))
	edition := filepath.Join(dir, "e.json")
	analyzed(t, "--edition-out", edition, log)
	var changed [3]int
	for i, c := range []struct{ old, new string }{
		{backtestOld, backtestNew},
		{backtestNew, backtestOld},
		{"", noLogin},
		{noLogin, weighty},
		{"", weighty},
		{"", "identity: {trusted_proxies: [198.51.100.0/24]}\n"},
		{"log: {level: info}\n", "log: {level: warn}\n"},
		{"", suppressing},
	} {
		old, now := writeFile(t, dir, fmt.Sprintf("old%d.yaml", i), []byte(c.old)), writeFile(t, dir, fmt.Sprintf("new%d.yaml", i), []byte(c.new))
		r := backtested(t, "-c", now, "--against", old, "--edition", edition, log)
		mustPredict(t, r, applied(t, "-c", old, "--edition", edition, log), applied(t, "-c", now, "--edition", edition, log))
		changed[0] += len(r.Gained)
		changed[1] += len(r.Lost)
		changed[2] += len(r.Moved)
		if i == 6 && len(r.Gained)+len(r.Lost)+len(r.Moved) > 0 {
			t.Errorf("another log level changes alerts: %+v", r)
		}
	}
	if changed[0] == 0 || changed[1] == 0 || changed[2] == 0 {
		t.Errorf("gained, lost, moved: %v; one was never tried", changed)
	}
}

// TestBacktestOfEveryDetector: on a labelled set, with accounts, keys and campaigns,
// each detector is turned off and put on trial; what is told is what then happens,
// and recall falls where the labels say so.
func TestBacktestOfEveryDetector(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, labels, edition := filepath.Join(dir, "a.json"), filepath.Join(dir, "truth"), filepath.Join(dir, "e.json")
	for _, args := range [][]string{
		{"simulate", "--quiet", "--scenario", "tiny-attacks", "--out", log, "--labels", labels},
		{"analyze", "--quiet", "--edition-out", edition, log},
	} {
		if r := weir(t, args...); r.code != exitOK {
			t.Fatalf("%s: %s", args, r.stderr)
		}
	}
	old := applied(t, "--edition", edition, log)
	lost, worse := 0, 0
	for i, name := range detectors.Names() {
		mode := [2]string{"off", "shadow"}[i%2]
		config := writeFile(t, dir, name+".yaml", fmt.Appendf(nil, "detect: {%s: {mode: %s}}\n", name, mode))
		r := backtested(t, "-c", config, "--edition", edition, "--labels", labels, log)
		mustPredict(t, r, old, applied(t, "-c", config, "--edition", edition, log))
		for _, v := range slices.Concat(r.Gained, r.Lost, r.Moved) {
			if want := "detect." + name + ".mode: on → " + mode; v.Why != want {
				t.Errorf("why of %s is %q, want %q", v.Detector, v.Why, want)
			}
		}
		lost += len(r.Lost)
		if r.Basis != "labels" || r.Recall.Old == nil || *r.Recall.New > *r.Recall.Old {
			t.Errorf("%s %s: by %q, recall %+v", name, mode, r.Basis, r.Recall)
		} else if *r.Recall.New < *r.Recall.Old {
			worse++
			if !slices.ContainsFunc(r.Episodes, func(e episodeChange) bool { return e.Change == "lost" }) {
				t.Errorf("%s %s: no episode is named that is missed now", name, mode)
			}
		}
	}
	if lost < 5 || worse < 3 {
		t.Errorf("%d alerts lost in all, recall fell %d times", lost, worse)
	}
}

// TestBacktestPredictsTheService: of stored history, too, whose requests were
// identified under the old configuration. What a service gives under the new one is
// what analyze gives.
func TestBacktestPredictsTheService(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := text(trafficLog(1))
	log, edition := writeFile(t, dir, "whole.log", data), filepath.Join(dir, "e.json")
	analyzed(t, "--edition-out", edition, log)
	key := "privacy: {key_file: " + filepath.Join(dir, "weir.key") + "}\n"
	old, now := writeFile(t, dir, "old.yaml", []byte(key+backtestOld+weighty)), writeFile(t, dir, "new.yaml", []byte(key+backtestNew+noLogin))
	f := newFeed(t, filepath.Join(dir, "access.log"), data, 1)
	for f.write(t, 1) {
	}
	store := follow(t, []*feed{f}, 0, "-c", old, "--edition", edition)
	// Retention that has nothing to drop leaves the log's beginning: the edition.
	db, err := sqlite.Open(store, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Retain(t.Context(), storage.RetainPolicy{MaxAge: 7 * 24 * time.Hour, KeepFrom: 1 << 40})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{now, writeFile(t, dir, "roles.yaml", []byte(key+noLogin+suppressing))} {
		r := backtested(t, "-c", c, "--against", old, "--store", store)
		mustPredict(t, r, served(t, store), applied(t, "-c", c, "--edition", edition, log))
		if len(r.Lost) == 0 {
			t.Errorf("%d lost", len(r.Lost))
		}
		if c == now {
			backtestVerdicts(t, r, now, old, store)
		}
	}
}

// backtestVerdicts: what people said of alerts judges both sides.
func backtestVerdicts(t *testing.T, r *backtestResult, now, old, store string) {
	t.Helper()
	if len(r.Lost) < 2 || r.Basis != "" {
		t.Fatalf("%d lost, basis %q", len(r.Lost), r.Basis)
	}
	db, err := sqlite.Open(store, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, verdict := range []string{"true_positive", "false_positive_logic"} {
		body, err := json.Marshal(console.Triage{Revision: 1, Status: "closed", Verdict: verdict})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.SaveTriage(context.Background(), storage.Triage{ID: r.Lost[i].ID, Revision: 1, Body: body}, storage.AuditEntry{Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r = backtested(t, "-c", now, "--against", old, "--store", store)
	if r.Basis != "verdicts" || r.Precision.Old == nil || *r.Precision.Old != 0.5 || r.Precision.New != nil || *r.Recall.Old != 1 || *r.Recall.New != 0 {
		t.Errorf("by verdicts: basis %q precision %+v recall %+v verdicts %+v", r.Basis, r.Precision, r.Recall, r.Verdicts)
	}
	// Only what ends in the window counts.
	r = backtested(t, "-c", now, "--against", old, "--store", store, "--since", "2030-01-01T00:00:00Z")
	if r.Alerts.Old+r.Alerts.New != 0 {
		t.Errorf("alerts of another time: %+v", r.Alerts)
	}
}

func TestConfigDiff(t *testing.T) {
	t.Parallel()
	f := func(old, now string, want ...string) {
		t.Helper()
		list, err := diffConfigs([]byte(old), []byte(now))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range list {
			got = append(got, c.Path+": "+c.Old+" > "+c.New)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q against %q: %q, want %q", old, now, got, want)
		}
	}
	f("", "")
	f("a: 1", "a: 1 # one")
	f("detect: {probe.path: {mode: on}}", "")
	f("detect: {probe.path: {mode: on}}", "detect: {probe.path: {mode: off}}", "detect.probe.path.mode:  > off")
	f("endpoints: [{match: A /x, role: login}, {match: /y, role: other}]", "endpoints: [{match: /y, role: other}]",
		"endpoints[A /x].match: A /x > ", "endpoints[A /x].role: login > ")
	f("identity: {trusted_proxies: [10.0.0.1]}", "identity: {trusted_proxies: [10.0.0.1, 10.0.0.2]}", "identity.trusted_proxies: 10.0.0.1 > 10.0.0.1, 10.0.0.2")
	f("alerts: {sinks: {a: {webhook: {url: 'https://u:p@h/services/T0/x', secret_file: /s, headers: {X-Key: abc}}}}}", "",
		"alerts.sinks.a.webhook.headers.X-Key: <secret> > ", "alerts.sinks.a.webhook.secret_file: /s > ", "alerts.sinks.a.webhook.url: https://h/... > ")
	f("x: {token: abc, password: '${P}', api_token: q}", "", "x.api_token: <secret> > ", "x.password: <secret> > ", "x.token: <secret> > ")
	if _, err := diffConfigs([]byte("a: ["), nil); err == nil {
		t.Error("no error for what is no YAML")
	}
}
