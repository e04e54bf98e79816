package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"weir/console"
)

// TestReplacedConfigurations: what the console has replaced is passed over when a
// process starts with it, until the file of one that runs becomes that, or another.
func TestReplacedConfigurations(t *testing.T) {
	t.Parallel()
	m := appliedMark{}.over("a", "b")
	for _, try := range []struct {
		m       appliedMark
		is, had string
		want    bool
	}{
		{appliedMark{}, "a", "", false},
		{m, "a", "", true},   // a start with the old file
		{m, "a", "a", true},  // SIGHUP, or another part of the file
		{m, "a", "c", false}, // somebody brought it back
		{m, "b", "", false},
		{m, "c", "a", false}, // a new file
		{m.over("b", "d"), "a", "", true},
		{m.over("b", "d"), "b", "", true},
		{m.over("b", "a"), "a", "", false}, // brought back in the console
		{m.over("b", "a"), "b", "", true},
		{m.over("b", "b"), "b", "", false},
	} {
		if got := try.m.passedOver(try.is, try.had); got != try.want {
			t.Errorf("%v: %q after %q: passed over %t", try.m.Replaced, try.is, try.had, got)
		}
	}
	for i := range 2 * appliedKept {
		m = m.over(fmt.Sprint(i), fmt.Sprint(i+1))
	}
	if len(m.Replaced) != appliedKept || m.Replaced[appliedKept-1] != fmt.Sprint(2*appliedKept-1) {
		t.Errorf("%d are remembered: %v", len(m.Replaced), m.Replaced)
	}
}

// TestSaidToTheFleet: two files say the same when they have the same about detection
// and alerts, whatever else is in them.
func TestSaidToTheFleet(t *testing.T) {
	t.Parallel()
	s := consoleService(t)
	parse := func(text string) *config {
		t.Helper()
		c, err := parseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	said := func(text string) string {
		t.Helper()
		is, err := parse(text).said(s.keys)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	const base = "detect: {probe.path: {mode: shadow}}\n"
	const suppression = "alerts: {suppressions: [{match: {detector: scrape.crawl}, from: 2026-06-01T00:00:00Z, until: 2027-01-31T00:00:00Z, reason: a test of fleets, author: anna}]}\n"
	if said(base) != said(base+"console: {listen: '127.0.0.1:0'}\n") || said(base) == said("") || said(base) == said(base+suppression) {
		t.Error("what files say is not told apart")
	}
	for text, want := range map[string][]string{
		"detect: {volume.flood: {mode: off}}\n": nil,
		base + suppression:                      nil,
		base + "alerts: {budget: {alerts: 7}}":  nil,
		base + "alerts: {sinks: {disk: {file: {path: /tmp/alerts}}}}\nstore: {path: other.db}\n": {"store.path", "alerts.sinks"},
	} {
		if diff := cmp.Diff(want, ofProcesses(parse(base), parse(text))); diff != "" {
			t.Errorf("%s(-want +got):\n%s", text, diff)
		}
	}
}

// TestDeskApplies: what is refused before anything is written.
func TestDeskApplies(t *testing.T) {
	t.Parallel()
	s := consoleService(t)
	const text = "detect: {probe.path: {mode: shadow}}\n"
	path := writeFile(t, t.TempDir(), "weir.yaml", []byte(text))
	cfg, err := parseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{service: service{db: s.db, cfg: cfg, path: path, text: []byte(text), keys: s.keys}, log: zap.NewNop()}
	d.f = &fleet{service: service{cfg: cfg, path: path, text: []byte(text), keys: s.keys, log: zap.NewNop()}}
	tuning := deskTuning{newTuning(t.Context(), &d.service), d}
	apply := func(text, hash string) error {
		_, _, err := tuning.Apply(t.Context(), text, hash, func([]console.ConfigChange, string, string) error {
			t.Error("the audit has what is refused")
			return nil
		})
		return err
	}
	refused := func(err error, status int, want string) {
		t.Helper()
		wrong, ok := errors.AsType[*console.ConfigError](err)
		if !ok || wrong.Status != status || !strings.Contains(wrong.Text, want) {
			t.Errorf("%v, want %d with %q", err, status, want)
		}
	}
	refused(apply(text+"alerts: {sinks: {disk: {file: {path: /tmp/alerts}}}}\n", ""), http.StatusUnprocessableEntity, "alerts.sinks: in a fleet")
	refused(apply("detect: {probe.path: {mode: off}}\n", "sha256:other"), http.StatusConflict, "meanwhile")
	refused(apply("detect: {probe.path: {mode: of}}\n", ""), http.StatusUnprocessableEntity, "probe.path")
	if err := os.WriteFile(path, []byte("# by hand\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(apply("detect: {probe.path: {mode: off}}\n", ""), http.StatusConflict, "by hand")
}

// TestConsoleAppliesToTheFleet: what is applied in the console is in force for all, and
// stays so when processes start with their old files, until somebody changes one. What a
// detector in shadow mode finds is in the console.
func TestConsoleAppliesToTheFleet(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	c := busConfigOf(broker)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dir, deskDir := t.TempDir(), t.TempDir()
	const had, next = "detect: {probe.path: {mode: shadow}}\n", "detect: {probe.path: {mode: shadow}, volume.flood: {mode: off}}\n"
	log := writeFile(t, dir, "access.log", text(trafficLog(1)))
	sections := fmt.Sprintf("collect: [{file: %q}]\nstore: {path: %q, alert_retention: 36500d}\nconsole: {listen: '127.0.0.1:0'}\n", log, filepath.Join(deskDir, "desk.db"))
	fleet := &fleetProcesses{t: t, config: fleetConfig(t, dir, c, sections+had), list: map[string]*daemon{}}
	old, err := os.ReadFile(fleet.config)
	if err != nil {
		t.Fatal(err)
	}
	deskConfig := writeFile(t, deskDir, "fleet.yaml", old)
	token := strings.TrimSpace(string(weir(t, "token", "create", "-c", deskConfig, "--name", "anna", "--role", "analyst", "--role", "engineer", "--role", "admin").stdout))
	for _, name := range []string{"collect", "detect", "correlate", "alert"} {
		fleet.start(name)
	}
	fleet.list["serve"] = startDaemon(t, "serve", "-c", deskConfig)
	at := &consoleOf{fleet, "serve", token}
	f := sequenceFleet(t, openBus(t, c), &c, fleet.config, "test")
	again(ctx, t, "the cases in shadow mode", func() error {
		var page struct{ Data []struct{ Detector string } }
		if at.must(ctx, http.MethodGet, "/api/v1/shadow?detector=probe.path", "", &page); len(page.Data) == 0 {
			return fmt.Errorf("none\n%s", fleet.logs())
		}
		return nil
	})
	f.start = must[*fleetStart](t)(f.beginning(ctx, nil))
	inForce := func(want string) {
		t.Helper()
		parsed := must[*config](t)(parseConfig([]byte(want)))
		again(ctx, t, "it is in force", func() error {
			var is detectConfig
			if err := json.Unmarshal(must[[]byte](t)(f.configInForce(ctx)), &is); err != nil {
				return err
			}
			if is.Hash != parsed.hash() {
				return fmt.Errorf("in force is %s, not %s\n%s", is.Hash, parsed.hash(), fleet.logs())
			}
			return nil
		})
	}
	inForce(had)
	body := must[[]byte](t)(json.Marshal(map[string]string{"yaml": strings.Replace(string(old), had, next, 1)}))
	at.must(ctx, http.MethodPost, "/api/v1/config/apply", string(body), nil)
	inForce(next)
	if status, text := at.ask(ctx, http.MethodPost, "/api/v1/config/apply", string(body), nil); status != http.StatusUnprocessableEntity {
		t.Errorf("the same again: %d %s", status, text)
	}
	fleet.list["detect"].kill(t)
	fleet.start("detect")
	again(ctx, t, "a process with the old file says so", func() error {
		if !strings.Contains(fleet.list["detect"].log.String(), "what was replaced in the console") {
			return fmt.Errorf("not yet\n%s", fleet.list["detect"].log)
		}
		return nil
	})
	inForce(next)
	fleet.list["serve"].kill(t)
	fleet.list["serve"] = startDaemon(t, "serve", "-c", deskConfig)
	var running struct{ YAML string }
	at.must(ctx, http.MethodGet, "/api/v1/config", "", &running)
	if !strings.Contains(running.YAML, strings.TrimSpace(next)) {
		t.Errorf("serve has %s", running.YAML)
	}
	const third = "detect: {probe.path: {mode: off}}\n"
	writeFile(t, dir, "fleet.yaml", []byte(strings.Replace(string(old), had, third, 1)))
	inForce(third)
	writeFile(t, dir, "fleet.yaml", old)
	inForce(had)
	for _, d := range fleet.list {
		d.stop(t)
	}
}
