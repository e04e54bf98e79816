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

	"weir/pipeline"
)

func TestParseLine(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		var e event
		got := "rejected"
		if parseLine(&e, []byte(line)) {
			got = fmt.Sprint(e.address, " ", e.time.Std().Format(time.RFC3339), " ", e.method, " ", e.path, " ", e.status)
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

func TestTemplate(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		tmpl, id := template(path)
		if got := tmpl + " " + id; got != want {
			t.Errorf("template(%q) = %q, want %q", path, got, want)
		}
	}
	f("/api/v1/orders/17", "/api/v1/orders/{id} 17")
	f("/users/17/orders", "/users/{id}/orders 17")
	f("/u/123e4567-e89b-12d3-a456-426614174000", "/u/{id} 123e4567-e89b-12d3-a456-426614174000")
	f("/p/lamp-3", "/p/lamp-3 ")
	f("/", "/ ")
	f("", " ")
}

// TestRules plays n events, every apart, and looks at which rules fire.
func TestRules(t *testing.T) {
	f := func(n int, every time.Duration, status uint16, method, path, want string) {
		t.Helper()
		w := newWatch()
		at := pipeline.Time(1_772_431_200_000_000)
		for i := range n {
			p := path
			if strings.Contains(p, "%") {
				p = fmt.Sprintf(path, i)
			}
			w.observe(&event{time: at.Add(time.Duration(i) * every), address: pipeline.Address{15: 1}, method: method, path: p, status: status})
		}
		var got []string
		for _, a := range w.finish() {
			got = append(got, a.Detector)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%d × %s %s %d every %s: %q, want %q", n, method, path, status, every, s, want)
		}
	}
	const s = time.Second
	f(10, s/10, 404, "GET", "/x%d", "")
	f(11, s/10, 404, "GET", "/x%d", "probe.path")
	f(1000, s/10, 404, "GET", "/x", "")       // not distinct
	f(1000, s/10, 404, "GET", "/x%d.css", "") // assets
	f(1000, 11*s, 404, "GET", "/x%d", "")     // slower than the leak: never
	f(1000, 9*s, 404, "GET", "/x%d", "probe.path")
	f(5, s, 401, "POST", "/login", "")
	f(6, s, 401, "POST", "/login", "auth.bruteforce")
	f(600, s, 200, "POST", "/login", "") // a failure that answers 200 is not seen
	f(40, s/100, 200, "GET", "/p/a%d", "")
	f(42, s/100, 200, "GET", "/p/a%d", "scrape.crawl")
	f(1000, s/2+s/100, 200, "GET", "/p/a%d", "")
	f(50, s, 200, "POST", "/orders/%d", "")
	f(51, s, 200, "POST", "/orders/%d", "enum.object")
	f(1000, 7*s, 200, "POST", "/orders/%d", "")
}

func TestAFiringRuleExtendsItsIncident(t *testing.T) {
	w := newWatch()
	at := pipeline.Time(1_772_431_200_000_000)
	burst := func(from pipeline.Time) {
		for i := range 6 {
			w.observe(&event{time: from.Add(time.Duration(i) * time.Second), address: pipeline.Address{15: 1}, method: "POST", path: "/l", status: 401})
		}
	}
	burst(at)
	burst(at.Add(2 * time.Hour))
	burst(at.Add(24 * time.Hour))
	got := w.finish()
	if len(got) != 2 || got[0].Window.Last.Sub(at) != 2*time.Hour+5*time.Second || got[0].Window.DetectedAt.Sub(at) != 5*time.Second {
		t.Fatalf("%d incidents: %+v", len(got), got)
	}
	if got[0].ID == got[1].ID || !strings.Contains(got[0].Reason, "2 times") {
		t.Errorf("ids %s and %s, reason %q", got[0].ID, got[1].ID, got[0].Reason)
	}
}

func TestSweepKeepsWhatCounts(t *testing.T) {
	w := newWatch()
	at := pipeline.Time(1_772_431_200_000_000)
	for i := range 4 {
		w.observe(&event{time: at, address: pipeline.Address{15: 1}, method: "POST", path: "/l", status: 401})
		w.observe(&event{time: at, address: pipeline.Address{15: byte(i)}, method: "GET", path: "/a", status: 404})
	}
	before := len(w.buckets)
	w.sweep(at.Add(400 * time.Millisecond))
	if len(w.buckets) != before {
		t.Errorf("%d buckets after a sweep, want %d: none is empty yet", len(w.buckets), before)
	}
	w.sweep(at.Add(time.Minute))
	if len(w.buckets) != 0 {
		t.Errorf("%d buckets kept, want none", len(w.buckets))
	}
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
		var e event
		if parseLine(&e, line) {
			newWatch().observe(&e)
		}
	})
}
