package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigFromTheShell: an engineer elsewhere sees, tries and applies a change; a
// second one who read it before that is told.
func TestConfigFromTheShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := writeFile(t, dir, "access.log", text(trafficLog(1)))
	config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil, "store: {path: %s}\n", filepath.Join(dir, "weir.db")))
	token := weir(t, "token", "create", "-c", config, "--name", "eva", "--role", "engineer", "--role", "auditor")
	file := writeFile(t, dir, "eva.token", token.stdout)
	d := startDaemon(t, "run", "-c", config, "--listen", "127.0.0.1:0", log)
	d.waitReady(t)
	c := &apiClient{t: t, base: d.url(), token: strings.TrimSpace(string(token.stdout))}
	eventually(t, "all of the log is detected", d, func() bool {
		return strings.Contains(string(c.do("GET", "/metrics", nil, 200)), "\nweir_detect_lag_records 0\n") &&
			strings.Contains(string(c.do("GET", "/api/v1/alerts", nil, 200)), crawlerAddress)
	})
	f := func(code int, want string, args ...string) string {
		t.Helper()
		r := weir(t, append(append([]string{"config"}, args...), "--url", d.url(), "--token-file", file)...)
		if r.code != code || !strings.Contains(string(r.stdout)+r.stderr, want) {
			t.Errorf("weir config %v: exit %d, %s%s, want %d %q", args, r.code, r.stdout, r.stderr, code, want)
		}
		return string(r.stdout)
	}
	next := writeFile(t, dir, "next.yaml", []byte(f(exitOK, "store:", "show")+"detect: {probe.path: {mode: off}}\n"))
	f(exitOK, "detect.probe.path.mode: unset → off", "diff", next)
	f(exitOK, `{"changes":[{"path":"detect.probe.path.mode","old":"","new":"off"}]}`, "diff", next, "--output", "json")
	f(exitOK, "alerts gained, ", "backtest", next)
	f(exitOK, "sha256:", "apply", next, "--backtest", "x1")
	f(exitFailed, "nothing to apply", "apply", next)
	f(exitOK, "nothing differs", "diff", next)
	f(exitFailed, "no such detector", "diff", writeFile(t, dir, "bad.yaml", []byte("detect: {probe.paths: {mode: off}}\n")))
	f(exitUsage, "Usage:", "apply")
	if written, err := os.ReadFile(config); err != nil || !strings.Contains(string(written), "mode: off") {
		t.Errorf("the file is %q (%v)", written, err)
	}
	audit := string(c.do("GET", "/api/v1/feed/audit", nil, 200))
	for _, want := range []string{`"action":"config.apply"`, `"action":"backtest.start"`, `"x1"`, "eva"} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit lacks %s", want)
		}
	}
}
