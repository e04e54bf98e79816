package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEvaluateCommand(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	labels := write("labels.ndjson", `{"episode":"e","type":"probe.path","principals":["ip:203.0.113.7"],"start":"2026-03-02T10:00:00Z","end":"2026-03-02T10:10:00Z"}`)
	log := write("a.log", `203.0.113.7 - - [02/Mar/2026:10:00:05 +0000] "GET /x HTTP/1.1" 404 1
203.0.113.7 - - [02/Mar/2026:10:00:06 +0000] "GET /y HTTP/1.1" 404 1
192.0.2.1 - - [02/Mar/2026:10:00:06 +0000] "GET / HTTP/1.1" 200 1
junk`)
	a, err := json.Marshal(alertOn(t, "1", "probe.path", "high", "ip:203.0.113.7", "10:00:05", "10:00:06", "10:00:05"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := write("alerts.ndjson", string(a)+"\n")

	f := func(code int, want string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		got := runEvaluate(t.Context(), args, bytes.NewReader(a), &out, &errs)
		if got != code || !strings.Contains(out.String()+errs.String(), want) {
			t.Errorf("evaluate %v = %d\n%s%s\nwant %d and %q", args, got, out.String(), errs.String(), code, want)
		}
	}
	f(0, "recall 100.0 %", "--labels", labels, "--alerts", alerts)
	f(0, "median 5.0 s, 1 requests", log, "--labels", labels, "--alerts", alerts)
	f(0, "median 5.0 s, - requests", "--labels", labels, "--alerts", "-")
	f(0, "median 5.0 s, 1 requests", "--labels", labels, "--alerts", alerts, log)
	f(0, "4 requests, 1 clean client-days", "--labels", labels, "--alerts", alerts, log)
	f(0, `"precision":1`, "--labels", labels, "--alerts", alerts, "--output", "json", log)
	f(0, "Usage:", "-h")
	f(2, "Usage:", "--labels", labels)
	f(2, "Usage:", "--labels", labels, "--alerts", alerts, "--output", "html")
	f(2, "not defined", "--what")
	f(1, "open labels", "--labels", labels+".none", "--alerts", alerts)
	f(1, "open alerts", "--labels", labels, "--alerts", alerts+".none")
	f(1, "read alert 1", "--labels", labels, "--alerts", log)
	f(1, "no line starts like", "--labels", labels, "--alerts", alerts, alerts)
}
