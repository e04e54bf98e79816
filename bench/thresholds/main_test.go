package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/bench/fixed"
	"weir/pipeline"
)

func TestParseLine(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		var e fixed.Event
		got := "rejected"
		if parseLine(&e, []byte(line)) {
			got = fmt.Sprint(e.Address, " ", e.Time.Std().Format(time.RFC3339), " ", e.Method, " ", e.Path, " ", e.Status)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	f(`192.0.2.7 - u [02/Mar/2026:06:00:00 +0100] "GET /a?b=c HTTP/1.1" 404 12 "-" "x"`, "192.0.2.7 2026-03-02T05:00:00Z GET /a 404")
	f(`2001:db8::1 - - [02/Mar/2026:06:00:00 +0000] "POST /l HTTP/2.0" 200 1`, "2001:db8::1 2026-03-02T06:00:00Z POST /l 200")
	f(`192.0.2.7 - - [02/Mar/2026:06:00:00 +0000] "" 400 0 "-" "-"`, "192.0.2.7 2026-03-02T06:00:00Z   400")
	f(`host - - [02/Mar/2026:06:00:00 +0000] "GET / HTTP/1.1" 200 1`, "rejected")
	f(`192.0.2.7 - - [yesterday] "GET / HTTP/1.1" 200 1`, "rejected")
	f(`192.0.2.7 - - [02/Mar/2026:06:00:00 +0000] "GET / HTTP/1.1" 2x0 1`, "rejected")
	f(`192.0.2.7 - - [02/Mar/2026:06:00:00 +0000] "GET / HTTP/1.1" 2`, "rejected")
	f("", "rejected")
}

func TestRunSortsAndWritesAlerts(t *testing.T) {
	var log strings.Builder
	for i := 29; i >= 0; i-- { // newest first
		fmt.Fprintf(&log, "192.0.2.7 - - [02/Mar/2026:06:00:%02d +0000] \"GET /x%d HTTP/1.1\" 404 1 \"-\" \"-\"\n", i, i)
	}
	log.WriteString("junk\n")
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(path, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if err := run([]string{path}, &out, &errs); err != nil {
		t.Fatal(err)
	}
	var a pipeline.Alert
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	if a.Principal.Value != "192.0.2.7" || a.Window.DetectedAt.Std().Format("15:04:05") != "06:00:11" {
		t.Errorf("alert on %s detected %s, want 192.0.2.7 at 06:00:11", a.Principal.Value, a.Window.DetectedAt.Std())
	}
	if !strings.Contains(errs.String(), "31 lines, 1 rejected, 1 alerts") {
		t.Errorf("summary %q", errs.String())
	}
	if err := run([]string{path + ".none"}, io.Discard, io.Discard); err == nil {
		t.Error("no error for a file that is not there")
	}
	if err := os.WriteFile(path, []byte("junk\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{path}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "none of 1 lines") {
		t.Errorf("a file without a good line gives %v", err)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`192.0.2.7 - u [02/Mar/2026:06:00:00 +0100] "GET /a?b=c HTTP/1.1" 404 12 "-" "x"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var e fixed.Event
		if parseLine(&e, line) {
			fixed.New().Observe(&e)
		}
	})
}
