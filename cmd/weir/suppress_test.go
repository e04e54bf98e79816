package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// The testers come from one network, in the second half of the first hour.
const testers = "192.0.2."

// testing returns trafficLog with a penetration and a load test in it: by names of
// addresses that nobody else has. lucky testers get in.
func windowLog(seed uint64, lucky bool) []entry {
	log := trafficLog(seed)
	rng := rand.New(rand.NewPCG(seed, 21))
	at := time.Date(2026, 3, 2, 10, 31, 0, 0, time.UTC)
	end := time.Date(2026, 3, 2, 10, 59, 0, 0, time.UTC)
	size := firstSize + len(log)
	say := func(at time.Time, host int, method, path string, status int) {
		if at.Before(end) {
			log = append(log, entry{at, fmt.Sprintf("%s%d - - [%s] \"%s %s HTTP/1.1\" %d %d \"-\" \"pentest/1.0\"\n",
				testers, host, at.Format("02/Jan/2006:15:04:05 -0700"), method, path, status, size)})
			size++
		}
	}
	for i := range 900 {
		step := at.Add(time.Duration(i) * 1700 * time.Millisecond)
		say(step, 7, "GET", fmt.Sprintf("/%s%d.php", []string{"admin", "backup", ".env", "old", "test"}[i%5], i), 404)
		say(step, 8, "GET", fmt.Sprintf("/api/orders/%d", 7000+i), []int{403, 404}[rng.IntN(2)])
		status := 401
		if lucky && i == 600 {
			status = 302
		}
		say(step, 9, "POST", "/login", status)
	}
	for i := range 4000 {
		say(at.Add(time.Duration(i)*400*time.Millisecond), 10+i%4, "GET", fmt.Sprintf("/products/item-%d", i), 200)
	}
	slices.SortStableFunc(log, func(a, b entry) int { return a.at.Compare(b.at) })
	return log
}

const windowConfig = `
alerts:
  maintenance:
    - match: {address: 192.0.2.0/28}
      from: 2026-03-02T10:30:00Z
      until: 2026-03-02T11:00:00Z
      reason: penetration and load test, ticket 4711
`

// revisionsOf runs weir analyze and returns the revisions, each with its whole text.
func revisionsOf(t *testing.T, args ...string) (list []pipeline.Alert, lines []string) {
	t.Helper()
	r := weir(t, append([]string{"analyze", "--output", "json", "--quiet", "--pseudonyms"}, args...)...)
	if r.code != exitOK {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	for line := range bytes.Lines(r.stdout) {
		var a pipeline.Alert
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		list, lines = append(list, a), append(lines, string(line))
	}
	return list, lines
}

// ofTesters reports whether an alert is about a tester.
func ofTesters(a *pipeline.Alert) bool {
	return strings.HasPrefix(a.Principal.Value, testers) ||
		slices.ContainsFunc(a.Addresses, func(ip string) bool { return strings.HasPrefix(ip, testers) })
}

// TestMaintenanceWindow: a penetration and a load test wake nobody and leave nothing
// behind, and everybody else is seen as ever.
func TestMaintenanceWindow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := windowLog(*killSeed, false)
	without := slices.DeleteFunc(slices.Clone(log), func(e entry) bool { return strings.HasPrefix(e.text, testers) })
	withFile, withoutFile := writeFile(t, dir, "with.log", text(log)), writeFile(t, dir, "without.log", text(without))
	config := writeFile(t, dir, "weir.yaml", []byte(windowConfig))
	edition := func(name string) string { return filepath.Join(dir, name) }

	// Without the window the testers page.
	loud, _ := revisionsOf(t, withFile)
	if !slices.ContainsFunc(loud, func(a pipeline.Alert) bool { return ofTesters(&a) && a.Tier == "page" }) {
		t.Fatal("nobody would notice the test: this test shows nothing")
	}

	hidden, lines := revisionsOf(t, "-c", config, withFile, "--edition-out", edition("with.json"))
	_, want := revisionsOf(t, withoutFile, "--edition-out", edition("without.json"))
	var rest []string
	silent := 0
	for i := range hidden {
		a := &hidden[i]
		if !ofTesters(a) {
			rest = append(rest, lines[i])
			if id, quiet := a.Silent(); id != "" || quiet {
				t.Errorf("%s of %s is silent: %v", a.Detector, a.Principal.Value, a.Envelope.Silence)
			}
			continue
		}
		silent++
		if id, quiet := a.Silent(); !quiet || !strings.HasPrefix(id, "c_") || a.Envelope.Silence["reason"] != "penetration and load test, ticket 4711" {
			t.Errorf("%s of %s speaks: %s %v", a.Detector, a.Principal.Value, a.Change.Kind, a.Envelope.Silence)
		}
	}
	if silent == 0 {
		t.Error("what the testers did is not shown at all")
	}
	// No shift: what was learned is the same, and so is every other alert, before,
	// during and after the window, up to the line numbers.
	learned := func(name string) string {
		data, err := os.ReadFile(edition(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if learned("with.json") != learned("without.json") {
		t.Error("the window was learned from")
	}
	mustName(t, rest, abusers()...)
	mustBeSame(t, "with the window", canonicalLines(t, []byte(strings.Join(want, ""))), canonicalLines(t, []byte(strings.Join(rest, ""))))

	for _, workers := range []string{"1", "2", "8"} {
		_, got := revisionsOf(t, "-c", config, withFile, "--edition", edition("with.json"), "--workers", workers)
		if !slices.Equal(got, lines) {
			t.Errorf("%s workers: other bytes", workers)
		}
	}

	// What nobody is woken by fails nothing; a match of nothing is one of everything.
	everything := writeFile(t, dir, "all.yaml", []byte(strings.NewReplacer("{address: 192.0.2.0/28}", "{}", "T11:00", "T23:00", "T10:30", "T00:00").Replace(windowConfig)))
	only := slices.DeleteFunc(slices.Clone(log), func(e entry) bool { return !strings.HasPrefix(e.text, testers) })
	onlyFile := writeFile(t, dir, "only.log", text(only))
	if r := weir(t, "analyze", "--quiet", "--fail-on", "low", onlyFile); r.code != exitFound {
		t.Errorf("exit %d without a maintenance", r.code)
	}
	if r := weir(t, "analyze", "--quiet", "--fail-on", "low", "-c", everything, onlyFile); r.code != exitOK {
		t.Errorf("exit %d in a maintenance of everything: %s", r.code, r.stdout)
	}

	// The text says what hid it.
	r := weir(t, "analyze", "-c", config, "--quiet", withFile)
	if !strings.Contains(string(r.stdout), "penetration and load test, ticket 4711") {
		t.Errorf("the text does not say what hid an alert:\n%s", r.stdout)
	}
}

// TestMaintenancePierced: a tester who gets in is told of.
func TestMaintenancePierced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := writeFile(t, dir, "access.log", text(windowLog(*killSeed, true)))
	config := writeFile(t, dir, "weir.yaml", []byte(windowConfig))
	list, _ := revisionsOf(t, "-c", config, file)
	var got []string
	for i := range list {
		a := &list[i]
		if !ofTesters(a) || a.Change.Kind == "still_active" {
			continue
		}
		if id, quiet := a.Silent(); !quiet {
			got = append(got, fmt.Sprintf("%s %s %s %v", a.Principal.Value, a.Change.Kind, a.Severity, a.Envelope.Silence["pierced"]))
			if id == "" {
				t.Error("a pierced revision does not say by which suppression it is covered")
			}
		}
	}
	want := []string{"192.0.2.9 succeeded critical first success", "192.0.2.9 resolved critical <nil>"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestSuppressedAcrossKills: a service that is killed again and again stores, with
// suppressions, what analyze prints.
func TestSuppressedAcrossKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := windowLog(*killSeed, true)
	edition := filepath.Join(dir, "edition.json")
	config := writeFile(t, dir, "weir.yaml", []byte(windowConfig))
	_, want := revisionsOf(t, "-c", config, writeFile(t, dir, "whole.log", text(log)), "--edition-out", edition)
	f := newFeed(t, filepath.Join(dir, "access.log"), text(log), *killSeed)
	store := follow(t, []*feed{f}, min(*kills, 3), "-c", config, "--edition", edition)
	var got []string
	for _, a := range storedRevisions(t, store) {
		got = append(got, canonical(a.Alert))
	}
	mustBeSame(t, "killed", canonicalLines(t, []byte(strings.Join(want, ""))), got)
	silence := func(line []byte) string {
		var a pipeline.Alert
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(a.ID, a.Revision, a.Envelope.Silence)
	}
	quiet := 0
	for i, a := range storedRevisions(t, store) {
		if now, was := silence(a.Body), silence([]byte(want[i])); now != was {
			t.Errorf("revision %d: silence %s, want %s", i, now, was)
		}
		if _, silent := a.Alert.Silent(); silent {
			quiet++
		}
	}
	if quiet == 0 {
		t.Error("nothing is silent")
	}
	db := openStored(t, store)
	defer db.Close()
	if list, err := db.Suppressions(t.Context(), 10); err != nil || len(list) != 1 || list[0].Hidden == 0 || list[0].Source != "config" {
		t.Errorf("%+v %v", list, err)
	}
}

// TestTwoTriesADay: who tries two accounts a day is one alert for weeks.
func TestTwoTriesADay(t *testing.T) {
	t.Parallel()
	c := stageCase(t, filepath.Join("..", "..", "detectors", "testdata", "auth_stuffing", "attack_two_a_day.txtar"))
	ids, kinds := map[string]bool{}, map[string]int{}
	var first, last pipeline.Time
	for _, a := range c.open(c.log("", c.lines)).alerts(t) {
		if a.Principal.Value == "203.0.113.7" {
			ids[a.ID] = true
			kinds[a.Change.Kind]++
			first, last = a.Window.First, a.Window.Last
		}
	}
	if len(ids) != 1 || kinds["opened"] != 1 || kinds["reopened"] != 0 || last.Sub(first) < 14*24*time.Hour {
		t.Errorf("%d alerts over %s: %v", len(ids), last.Sub(first), kinds)
	}
}

// post asks a running weir with a token.
func (d *daemon) post(t *testing.T, token, method, path, body string, into any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, d.url()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s %s: %d %v %s", method, path, resp.StatusCode, err, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		t.Fatal(err)
	}
}

// TestSuppressLive: in a running service an analyst suppresses a client, by the API
// and from the shell; its alerts are shown and not sent; what it did under the
// suppression counts for nothing when that ends, and a restart changes nothing.
func TestSuppressLive(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	dir := t.TempDir()
	config, store := hook.config(t, dir), filepath.Join(dir, "weir.db")
	text := strings.TrimSpace(string(weir(t, "token", "create", "-c", config, "--store", store, "--name", "anna", "--role", "analyst", "--role", "viewer").stdout))
	now := time.Now().UTC()
	var log strings.Builder
	say := func(at time.Time, ip, method, path string, status int) {
		fmt.Fprintf(&log, "%s - - [%s] \"%s %s HTTP/1.1\" %d 512 \"-\" \"curl/8.9\"\n", ip, at.Format("02/Jan/2006:15:04:05 -0700"), method, path, status)
	}
	file := filepath.Join(dir, "access.log")
	write := func() {
		t.Helper()
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(log.String()); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		log.Reset()
	}
	args := []string{"run", "-c", config, "--store", store, "--listen", "127.0.0.1:0", file}
	d := startDaemon(t, args...)
	d.waitReady(t)
	say(now, "203.0.113.1", "GET", "/", 200)
	write()
	stored := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d requests are detected", n), d, func() bool {
			db := openStored(t, store)
			defer db.Close()
			st, err := db.Stats(t.Context())
			return err == nil && st.Requests == int64(n)
		})
	}
	stored(1)
	var s suppressionAnswer
	d.post(t, text, "POST", "/api/v1/suppressions", `{"match":{"principal":{"kind":"ip","value":"198.51.100.7"},"endpoint":{"method":"POST","template":"/login"}},"reason":"their old client retries","for":"1h"}`, &s)
	if s.ID == "" || s.Author != "anna" || s.State != "active" {
		t.Fatalf("%+v", s)
	}
	for i := range 100 { // guessing by the suppressed, and by somebody else
		at := now.Add(time.Duration(60+i) * time.Second)
		say(at, "198.51.100.7", "POST", "/login", 401)
		say(at, "198.51.100.8", "POST", "/login", 401)
	}
	say(now.Add(400*time.Second), "203.0.113.1", "GET", "/", 200)
	write()
	stored(202)
	silent := func() (list []pipeline.Alert) {
		var page struct{ Data []pipeline.Alert }
		d.post(t, text, "GET", "/api/v1/alerts?principal=ip:198.51.100.7", "", &page)
		return page.Data
	}
	eventually(t, "the suppressed client's alert is shown", d, func() bool { return len(silent()) == 1 })
	if id, quiet := silent()[0].Silent(); id != s.ID || !quiet {
		t.Errorf("%v", silent()[0].Envelope.Silence)
	}
	told := func(ip string) bool {
		hook.mu.Lock()
		defer hook.mu.Unlock()
		return slices.ContainsFunc(hook.alerts, func(a pipeline.Alert) bool { return a.Principal.Value == ip })
	}
	eventually(t, "the other one is told of", d, func() bool { return told("198.51.100.8") })
	d.post(t, text, "GET", "/api/v1/suppressions/"+s.ID, "", &s)
	if s.Hidden != 1 {
		t.Errorf("%d hidden, want 1", s.Hidden)
	}

	// It ends, for events from a moment on, and weir is killed on the way.
	d.kill(t)
	d = startDaemon(t, args...)
	d.waitReady(t)
	r := weir(t, "suppress", "end", s.ID, "-c", config, "--store", store)
	if r.code != exitOK || !strings.Contains(r.stderr, "kept 1 alerts from sinks") {
		t.Fatalf("%d %s", r.code, r.stderr)
	}
	if r := weir(t, "suppress", "list", "--url", d.url(), "--token-file", writeFile(t, dir, "token", []byte(text))); !strings.Contains(string(r.stdout), "ended") {
		t.Errorf("%d %s %s", r.code, r.stdout, r.stderr)
	}
	for i := range 3 { // a few more are no case by themselves
		say(now.Add(time.Duration(420+i)*time.Second), "198.51.100.7", "POST", "/login", 401)
	}
	for i := range 200 {
		say(now.Add(time.Duration(430+i)*time.Second), "198.51.100.9", "POST", "/login", 401)
	}
	say(now.Add(800*time.Second), "203.0.113.1", "GET", "/", 200)
	write()
	stored(406)
	eventually(t, "who came after it is told of", d, func() bool { return told("198.51.100.9") })
	if told("198.51.100.7") {
		t.Error("the suppressed client is told of")
	}
	if list := silent(); len(list) != 1 || list[0].Envelope.Silence["id"] != s.ID {
		t.Errorf("%d alerts of the suppressed client", len(list))
	}
	if got := d.metric("weir_replay_differences"); got > 0 {
		t.Errorf("weir_replay_differences %v", got)
	}
	d.stop(t)
}

// suppressionAnswer is what the test reads of a suppression.
type suppressionAnswer struct {
	ID, State, Author string
	Hidden            int64
}

// TestConfiguredSuppressionComesBack: one that is taken out of the configuration ends,
// and is in force again once it is back.
func TestConfiguredSuppressionComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := writeFile(t, dir, "access.log", []byte("198.51.100.1 - - [02/Mar/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 5\n"))
	store := fmt.Sprintf("store: {path: %s}\n", filepath.Join(dir, "weir.db"))
	with := store + "alerts: {suppressions: [{match: {detector: probe.path}, from: 2026-01-01T00:00:00Z, until: " +
		time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339) + ", reason: a scan that was ordered, author: eva}]}\n"
	for i, c := range []struct{ config, want string }{{with, "active"}, {store, "ended"}, {with, "active"}} {
		config := writeFile(t, dir, "weir.yaml", []byte(c.config))
		d := startDaemon(t, "run", "-c", config, "--listen", "127.0.0.1:0", log)
		d.waitReady(t)
		d.stop(t)
		r := weir(t, "suppress", "list", "-c", config, "--output", "json")
		if r.code != exitOK || !strings.Contains(string(r.stdout), fmt.Sprintf(`"state":%q`, c.want)) {
			t.Errorf("%d: exit %d, %s%s, want it %s", i, r.code, r.stdout, r.stderr, c.want)
		}
	}
}
