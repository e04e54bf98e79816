package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(log, []byte("a\nb\nc"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(want string, args ...string) {
		t.Helper()
		var out strings.Builder
		err := run(args, &out, io.Discard)
		got := out.String()
		if err != nil {
			got += err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%v: %s, want %q", args, got, want)
		}
	}
	f("ratio", "-splitter", "/bin/true", "-n", "2", log, "--", "/bin/true", "x")
	f("/bin/true x\n", "-splitter", "/bin/true", log, "/bin/true", "x")
	f("run /bin/false", "-splitter", "/bin/true", log, "/bin/false")
	f("usage:", log)
	f("read log", "-splitter", "/bin/true", log+".none", "/bin/true")
	if n, err := countLines(log); n != 3 || err != nil {
		t.Errorf("%d lines, %v, want 3", n, err)
	}
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Errorf("median %g, want 2", m)
	}
}
