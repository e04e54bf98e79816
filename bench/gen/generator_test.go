package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testPlan(t *testing.T, args ...string) []byte {
	t.Helper()
	var out, errs bytes.Buffer
	if err := run(args, &out, &errs); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, errs.String())
	}
	return out.Bytes()
}

func TestSameFlagsSameBytes(t *testing.T) {
	a := testPlan(t, "-lines", "5000", "-clients", "200", "-seed", "7")
	if !bytes.Equal(a, testPlan(t, "-lines", "5000", "-clients", "200", "-seed", "7")) {
		t.Error("two runs differ")
	}
	if bytes.Equal(a, testPlan(t, "-lines", "5000", "-clients", "200", "-seed", "8")) {
		t.Error("the seed changes nothing")
	}
}

func TestLinesAndDistinctAddresses(t *testing.T) {
	f := func(lines, distinct int, args ...string) {
		t.Helper()
		out := testPlan(t, args...)
		seen := make(map[string]bool)
		n := 0
		var last time.Time
		for line := range strings.Lines(string(out)) {
			n++
			addr, rest, _ := strings.Cut(line, " - - [")
			seen[addr] = true
			stamp, _, _ := strings.Cut(rest, "]")
			at, err := time.Parse("02/Jan/2006:15:04:05 -0700", stamp)
			if err != nil {
				t.Fatalf("line %d: %v", n, err)
			}
			if at.Before(last) {
				t.Fatalf("line %d: time goes back", n)
			}
			last = at
			if strings.Count(line, `"`) != 6 {
				t.Fatalf("line %d is not combined: %s", n, line)
			}
		}
		if n != lines || len(seen) < distinct {
			t.Errorf("%v: %d lines of %d addresses, want %d of at least %d", args, n, len(seen), lines, distinct)
		}
	}
	f(1, 1, "-lines", "1", "-clients", "1", "-attackers", "0")
	f(2000, 10, "-lines", "2000", "-clients", "600")
	f(2000, 2000, "-lines", "2000", "-clients", "600", "-distinct-addresses", "2000")
	f(60_000, 30_000, "-lines", "60000", "-clients", "600", "-distinct-addresses", "30000")
	f(300_000, 200_000, "-lines", "300000", "-clients", "600", "-distinct-addresses", "200000")
}

func TestJSONSaysTheSame(t *testing.T) {
	flags := []string{"-lines", "3000", "-clients", "100", "-attackers", "4", "-span", "2h"}
	plain := strings.Split(string(testPlan(t, flags...)), "\n")
	objects := strings.Split(string(testPlan(t, append(flags, "-json")...)), "\n")
	if len(plain) != len(objects) || len(plain) < 3000 {
		t.Fatalf("%d and %d lines", len(plain), len(objects))
	}
	for i, object := range objects[:len(objects)-1] {
		var o struct {
			Address string `json:"remote_addr"`
			Time    string `json:"time_local"`
			Method  string `json:"request_method"`
			Target  string `json:"request_uri"`
			Proto   string `json:"server_protocol"`
			Status  int    `json:"status"`
			Bytes   int    `json:"body_bytes_sent"`
			Referer string `json:"http_referer"`
			Agent   string `json:"http_user_agent"`
		}
		if err := json.Unmarshal([]byte(object), &o); err != nil {
			t.Fatalf("line %d: %v: %s", i+1, err, object)
		}
		line := fmt.Sprintf(`%s - - [%s] "%s %s %s" %d %d "%s" "%s"`, o.Address, o.Time, o.Method, o.Target, o.Proto, o.Status, o.Bytes, o.Referer, o.Agent)
		if line != plain[i] {
			t.Fatalf("line %d:\n%s\n%s", i+1, plain[i], line)
		}
	}
}

func TestAddressesAreDistinct(t *testing.T) {
	for _, clients := range []int{762, 1 << 17, 1 << 19} {
		s := schemeFor(clients)
		seen := make(map[string]bool, clients)
		var b []byte
		for n := range clients {
			b = s.append(b[:0], uint32(n))
			if seen[string(b)] {
				t.Fatalf("%d clients: %s twice", clients, b)
			}
			seen[string(b)] = true
		}
	}
}

func TestLabelsNameWhatWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "labels.ndjson")
	out := testPlan(t, "-lines", "20000", "-clients", "300", "-labels", path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]bool)
	for line := range strings.Lines(string(data)) {
		var l struct {
			Type       string   `json:"type"`
			Principals []string `json:"principals"`
			Start, End time.Time
			Requests   int `json:"requests"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Type == "" {
			continue
		}
		types[l.Type] = true
		addr := strings.TrimPrefix(l.Principals[0], "ip:")
		if got := strings.Count("\n"+string(out), "\n"+addr+" "); got != l.Requests || got < 10 {
			t.Errorf("%s by %s: %d lines, labels say %d", l.Type, addr, got, l.Requests)
		}
		if l.End.Before(l.Start) {
			t.Errorf("%s ends before it starts", l.Type)
		}
	}
	if len(types) != 4 {
		t.Errorf("attack types %v, want four", types)
	}
}

func TestFlagErrors(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		if err := run(args, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want an error with %q", args, err, want)
		}
	}
	f("-lines", "-lines", "0")
	f("-clients", "-clients", "0")
	f("-distinct-addresses", "-lines", "10", "-distinct-addresses", "11")
	f("-attackers", "-attackers", "65")
	f("-span", "-span", "1ms")
	f("-start", "-start", "now")
	f("create log", "-o", filepath.Join(t.TempDir(), "none", "x.log"))
}

// sampleFlags made cmd/weir/testdata/sample.log.gz; `make sample` makes it again.
var sampleFlags = []string{"-lines", "3000", "-clients", "140", "-seed", "20260302", "-span", "2h", "-start", "2026-03-02T09:00:00Z"}

func TestSampleIsWhatGenMakes(t *testing.T) {
	f, err := os.Open(filepath.Join("..", "..", "cmd", "weir", "testdata", "sample.log.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.LimitReader(z, 16<<20))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, testPlan(t, sampleFlags...)) {
		t.Error("the sample is not what gen writes now: run `make sample` and look at the difference")
	}
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(makefile), strings.Join(sampleFlags, " ")) {
		t.Error("the Makefile's sample target has other flags than this test")
	}
}

func BenchmarkWriteLog(b *testing.B) {
	p := Plan{Lines: 200_000, Clients: 5_000, Attackers: 4, Seed: 1, Span: 24 * time.Hour, Start: time.Unix(1772431200, 0).UTC()}
	b.ReportAllocs()
	for b.Loop() {
		if err := newGenerator(p).WriteLog(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(p.Lines)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
