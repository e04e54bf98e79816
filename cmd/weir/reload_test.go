package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
)

// hookAlerts is a webhook that keeps what it gets.
type hookAlerts struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string][]string // by path, id.revision in order
}

func newHookAlerts(t *testing.T) *hookAlerts {
	t.Helper()
	h := &hookAlerts{got: map[string][]string{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got[r.URL.Path] = append(h.got[r.URL.Path], r.Header.Get("webhook-id"))
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hookAlerts) of(path string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got[path])
}

// abuse is lines of ordinary clients with, among them, one that stuffs credentials and
// one that probes for paths.
func abuse(begin time.Time, stuffer, prober string) []byte {
	var b strings.Builder
	line := func(at time.Duration, ip, method, path, user string, status int) {
		fmt.Fprintf(&b, `{"time":%q,"remote_addr":%q,"request_method":%q,"request_uri":%q,"status":%d,"body_bytes_sent":900,"http_user_agent":"x","login_user":%q}`+"\n",
			begin.Add(at).Format(time.RFC3339), ip, method, path, status, user)
	}
	for i := range 600 {
		at := time.Duration(i) * time.Second
		line(at, fmt.Sprintf("198.51.100.%d", i%200+1), "GET", fmt.Sprintf("/page/%d", i%17), "", 200)
		if i%4 == 0 {
			line(at, stuffer, "POST", "/login", fmt.Sprintf("victim%d", i), 401)
		}
		if i%4 == 2 {
			line(at, prober, "GET", fmt.Sprintf("/hidden%d/.env", i), "", 404)
		}
	}
	return []byte(b.String())
}

// TestReloadUnderLoad: a configuration is reloaded while lines come. Alerts are what
// the first gives for what came before and the second for what came after, each names
// the configuration that it is of, and a recomputation gives the same, also after a
// kill in the middle of it.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHookAlerts(t)
	secret := writeFile(t, dir, "secret", []byte(hookSecret+"\n"))
	store := filepath.Join(dir, "weir.db")
	logFile := writeFile(t, dir, "access.log", nil)
	config := filepath.Join(dir, "weir.yaml")
	write := func(modes, path string) {
		t.Helper()
		writeFile(t, dir, "weir.yaml", fmt.Appendf(nil, `detect: %s
endpoints: [{match: POST /login, role: login, failure: {status: [401]}}]
store: {path: %q}
alerts:
  sinks: {siem: {webhook: {url: %q, secret_file: %q}}}
  routes: [{to: [siem]}]
`, modes, store, h.URL+path, secret))
	}
	appendLines := func(lines []byte) {
		t.Helper()
		f, err := os.OpenFile(logFile, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write(lines)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("{probe.path: {mode: shadow}}", "/one")
	args := []string{"run", "-c", config, "--listen", "127.0.0.1:0", logFile}
	d := startDaemon(t, args...)
	d.waitReady(t)
	eventually(t, "the sink is known", d, func() bool { return sinkKnown(t, store) })
	begin := time.Now().Add(-2 * time.Hour).Truncate(time.Second).UTC()
	appendLines(abuse(begin, "203.0.113.1", "203.0.113.2"))
	eventually(t, "the first half is detected", d, func() bool {
		return d.metric("weir_lines_total") == 900 && d.metric("weir_detect_lag_records") == 0 && len(h.of("/one")) > 0
	})
	// A bad one first: nothing changes.
	write("{probe.paths: {mode: shadow}}", "/bad")
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bad configuration is noticed", d, func() bool { return d.metric("weir_config_last_reload_successful") == 0 })
	if _, _, body := d.get("/readyz"); !strings.Contains(body, "note: the configuration file is bad") {
		t.Errorf("/readyz says %s", body)
	}
	if text := d.log.String(); !strings.Contains(text, "the old one stays in force") || !strings.Contains(text, "detect.probe.paths: no such detector") {
		t.Errorf("the log has %s", text)
	}
	second := abuse(begin.Add(20*time.Minute), "203.0.113.3", "203.0.113.4")
	cut := len(second) / 50
	cut += strings.IndexByte(string(second[cut:]), '\n') + 1
	appendLines(second[:cut]) // the merge holds some of it while the next comes into force
	write("{auth.stuffing: {mode: shadow}}", "/two")
	eventually(t, "the file's change is noticed", d, func() bool { return d.metric("weir_config_last_reload_successful") == 1 })
	appendLines(second[cut:])
	d.kill(t)
	d = startDaemon(t, args...)
	d.waitReady(t)
	eventually(t, "the second half is detected", d, func() bool {
		return drained(t, store, 1800, 1) && d.metric("weir_detect_lag_records") == 0 && len(h.of("/two")) > 0
	})
	if n := d.metric("weir_replay_differences"); n != 0 {
		t.Errorf("%v outputs of the replay differ", n)
	}
	d.stop(t)
	hashes := map[string]string{}
	for _, m := range []string{"{probe.path: {mode: shadow}}", "{auth.stuffing: {mode: shadow}}"} {
		cfg, err := parseConfig(fmt.Appendf(nil, "detect: %s\nendpoints: [{match: POST /login, role: login, failure: {status: [401]}}]\n", m))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cfg.newIdentity(openPublic(t), nil); err != nil {
			t.Fatal(err)
		}
		hashes[cfg.hash()] = m
	}
	var all []byte
	told := map[string]string{} // the configuration of each detector's first revision
	for _, r := range storedRevisions(t, store) {
		a := r.Alert
		if a.Detector == "health.source_silent" {
			continue
		}
		if _, ok := told[a.Detector]; !ok {
			told[a.Detector] = hashes[a.Versions.Config]
		}
		text, err := json.Marshal(&a)
		if err != nil {
			t.Fatal(err)
		}
		for _, ip := range []string{"203.0.113.2", "203.0.113.3"} { // on trial while they came
			if strings.Contains(string(text), `"`+ip+`"`) {
				t.Errorf("an alert names %s: %s", ip, text)
			}
		}
		all = append(append(all, text...), '\n')
	}
	for _, ip := range []string{"203.0.113.1", "203.0.113.4"} {
		if !strings.Contains(string(all), `"`+ip+`"`) {
			t.Errorf("no alert names %s", ip)
		}
	}
	if told["auth.stuffing"] != "{probe.path: {mode: shadow}}" || told["probe.path"] != "{auth.stuffing: {mode: shadow}}" {
		t.Errorf("the alerts say that they are of %v", told)
	}
	claims := writeFile(t, dir, "alerts.jsonl", all)
	if r := weir(t, "verify", "-c", config, "--store", store, claims); r.code != exitOK {
		t.Errorf("weir verify: exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
}

func openPublic(t *testing.T) *pipeline.PrivacyKeys {
	t.Helper()
	keys, err := pipeline.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestWhatTakesARestart is named, by its key.
func TestWhatTakesARestart(t *testing.T) {
	read := func(text string) *config {
		t.Helper()
		c, err := parseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := read("collect: [{file: a.log}]\nendpoints: [{match: POST /login, role: login}]\n")
	f := func(text string, changes bool, want ...string) {
		t.Helper()
		next := read(text)
		now, waits := old.reloaded(next)
		if !slices.Equal(waits, want) || changes == (now.hash() == old.hash()) {
			t.Errorf("%s: waits for %v, %v", text, waits, now)
		}
	}
	const rest = "collect: [{file: a.log}]\nendpoints: [{match: POST /login, role: login}]\n"
	f(rest, false)
	f(rest+"detect: {probe.path: {mode: shadow}}\n", true)
	f("collect: [{file: a.log}]\nendpoints: [{match: POST /login, role: login, weight: high}]\n", true)
	f("collect: [{file: a.log}]\nendpoints: [{match: POST /login, role: other, weight: high}]\n", false, "endpoints (match, role, failure)")
	f("collect: [{file: b.log}]\n", false, "endpoints (match, role, failure)", "collect")
	f(rest+"store: {path: other.db, retention: 1d}\nconsole: {listen: '127.0.0.1:1'}\nlog: {level: warn}\nidentity: {trusted_proxies: [192.0.2.1]}\nprivacy: {key_file: k}\n",
		false, "identity.trusted_proxies", "store.path", "store.retention", "console.listen", "privacy.key_file", "log.level")
}

// TestReloadSuppressions: a suppression that a reloaded configuration has is in force, and
// one that it has no more is ended; a configuration that cannot be is all or nothing.
func TestReloadSuppressions(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "weir.yaml")
	write := func(alerts string) {
		t.Helper()
		writeFile(t, dir, "weir.yaml", fmt.Appendf(nil, "store: {path: %q}\nalerts: %s\n", filepath.Join(dir, "weir.db"), alerts))
	}
	write("{}")
	load := func() (*config, error) { return loadConfig(path) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	s := &service{cfg: cfg, log: zap.NewNop()}
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.db.Close()
	d, err := s.newDeliverer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &reloader{s: s, load: load, path: path, cfg: cfg, deliverer: d}
	inForce := func() (reasons []string) {
		t.Helper()
		list, err := s.db.SuppressionsFrom(t.Context(), timeOf(time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if list[i].End() > timeOf(time.Now()) {
				reasons = append(reasons, list[i].Reason)
			}
		}
		return reasons
	}
	f := func(alerts string, ok bool, want ...string) {
		t.Helper()
		write(alerts)
		before := r.cfg
		got := r.reload(t.Context(), "a test")
		if (got.err == nil) != ok || !ok && r.cfg != before || !slices.Equal(inForce(), want) {
			t.Errorf("%s: %v, in force %v, want %v", alerts, got.err, inForce(), want)
		}
	}
	const one = `{suppressions: [{match: {detector: probe.path}, until: 2126-01-31T00:00:00Z, reason: their exporter, author: anna}]}`
	f(one, true, "their exporter")
	f(one, true, "their exporter")
	f(strings.Replace(one, "{sup", "{sinks: {siem: {splunk: {url: 'https://h', token_file: none}}}, sup", 1), false, "their exporter")
	f(strings.Replace(one, "detector: probe.path", "level: nobody", 1), false, "their exporter")
	f("{}", true)
}
