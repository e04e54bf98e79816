package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

const line = `192.0.2.7 - - [02/Mar/2026:06:00:00 +0000] "GET /a HTTP/1.1" 404 12 "https://x.example/" "agent/1.0"`

func TestSplit(t *testing.T) {
	var f fields
	if !split(&f, []byte(line)) {
		t.Fatal("rejected")
	}
	got := []string{string(f.address), string(f.time), string(f.request), string(f.status), string(f.bytes), string(f.referer), string(f.agent)}
	want := "192.0.2.7|02/Mar/2026:06:00:00 +0000|GET /a HTTP/1.1|404|12|https://x.example/|agent/1.0"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got %s, want %s", s, want)
	}
	for i := range line[:len(line)-1] {
		if split(&f, []byte(line[:i])) {
			t.Errorf("accepted a line cut at %d", i)
		}
	}
}

func TestCount(t *testing.T) {
	f := func(in string, lines, rejected, status404 int64) {
		t.Helper()
		for _, r := range []struct {
			name string
			oneb bool
		}{{"whole", false}, {"byte by byte", true}} {
			var c *counts
			var err error
			if r.oneb && len(in) > 1<<16 {
				continue
			} else if r.oneb {
				c, err = count(iotest.OneByteReader(strings.NewReader(in)))
			} else {
				c, err = count(strings.NewReader(in))
			}
			if err != nil || c.lines != lines || c.rejected != rejected || c.status[404] != status404 || c.bytes != int64(len(in)) {
				t.Errorf("%s: lines %d rejected %d 404s %d bytes %d, %v", r.name, c.lines, c.rejected, c.status[404], c.bytes, err)
			}
		}
	}
	f("", 0, 0, 0)
	f(line, 1, 0, 1)
	f(line+"\n", 1, 0, 1)
	f(line+"\nx\n"+line, 3, 1, 2)
	f(strings.Repeat("x", 3<<20)+"\n"+line+"\n", 2, 1, 1)
	f(strings.Repeat(line+"\n", 30_000), 30_000, 0, 30_000)
}

func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(path, &out); err != nil || !strings.Contains(out.String(), "lines 1\n") || !strings.Contains(out.String(), "4xx 1\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if err := run(path+".none", &out); err == nil {
		t.Error("no error for a file that is not there")
	}
}
