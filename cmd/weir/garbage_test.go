package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// What is no request is counted and skipped, and changes nothing about what the
// good lines come to.

// strangerAddress is the client of the odd lines.
const strangerAddress = "192.0.2.9"

// strangerLine is a line of its own at a time of its own.
func strangerLine(stamp string) string {
	return fmt.Sprintf("%s - - [%s] \"GET /odd HTTP/1.1\" 200 17 \"-\" \"Mozilla/5.0\"\n", strangerAddress, stamp)
}

// rubbish returns n random bytes without a newline.
func rubbish(n int) string {
	rng := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		if b[i] = byte(rng.IntN(256)); b[i] == '\n' {
			b[i] = 'n'
		}
	}
	return string(b)
}

// litter is a kind of odd lines: put has them at every step of a log.
type litter struct {
	name   string
	lines  []string
	reject string // the reason that they are counted under, "" for requests
}

func litters() []litter {
	return []litter{
		{"binary", []string{rubbish(300) + "\n", rubbish(20_000) + "\n"}, "encoding|binary|format"},
		{"NUL bytes", []string{strings.Repeat("\x00", 4096) + "\n", "\x00\n"}, "binary"},
		{"empty", []string{"\n", "\r\n", "  \t \n"}, "empty"},
		{"1 MiB", []string{strings.Repeat("A", 1<<20) + "\n", "203.0.113.1 - - [02/Mar/2026:10:00:00 +0000] \"GET /" + strings.Repeat("b", 1<<20) + " HTTP/1.1\" 200 1 \"-\" \"-\"\n"}, "too_long"},
		{"half a line", []string{"203.0.113.1 - - [02/Mar/2026:10:\n", "203.0.113.1 - - [02/Mar/2026:10:00:00 +0000] \"GET /\n"}, "format|request"},
		{"no such date", []string{strangerLine("31/Feb/2026:10:00:00 +0000"), strangerLine("02/Mar/2026:25:61:00 +0000")}, "time"},
		{"invalid UTF-8", []string{"192.0.2.9 - - [02/Mar/2026:10:00:00 +0000] \"GET /\xff\xfe\xc3\x28 HTTP/1.1\" 200 17 \"\xa0\" \"\xf8\x88\"\n"}, ""},
		{"escapes", []string{"192.0.2.9 - - [02/Mar/2026:10:00:00 +0000] \"GET /\\x1b[31m\u202e%00 HTTP/1.1\" 200 17 \"-\" \"\x1b]0;x\x07\"\n"}, ""},
		{"hours early", []string{strangerLine("02/Mar/2026:03:00:00 +0000"), strangerLine("01/Mar/2026:10:00:00 +0000")}, ""},
		{"hours ahead", []string{strangerLine("02/Mar/2026:23:00:00 +0000")}, ""},
		{"year 9999", []string{strangerLine("31/Dec/9999:23:59:59 +0000")}, ""},
		{"year 0001", []string{strangerLine("01/Jan/0001:00:00:00 +0000")}, "time"},
	}
}

// littered puts the lines of each kind into log, at four places, none at its
// beginning.
func littered(log []entry, kinds ...litter) []byte {
	var b bytes.Buffer
	for i, e := range log {
		b.WriteString(e.text)
		if i%800 != 500 {
			continue
		}
		for _, k := range kinds {
			for _, line := range k.lines {
				b.WriteString(line)
			}
		}
	}
	return b.Bytes()
}

func TestOddLinesChangeNothing(t *testing.T) {
	t.Parallel()
	log := trafficLog(*killSeed)
	ref := referenceFor(t, map[string][]byte{"access.log": text(log)})
	mustName(t, ref.alerts, abusers()...)
	kinds := litters()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, t.TempDir(), "access.log", littered(log, k))
			for _, workers := range []string{"1", "4"} {
				got := analyzed(t, path, "--edition", ref.edition, "--workers", workers)
				mustBeSame(t, "with odd lines", ref.alerts, got)
			}
			odd := 4 * len(k.lines)
			want := fmt.Sprintf("%d lines read, %d parsed, %d rejected (", len(log)+odd, len(log), odd)
			if k.reject == "" {
				want = fmt.Sprintf("%d lines read, %d parsed, 0 rejected\n", len(log)+odd, len(log)+odd)
			}
			r := weir(t, "analyze", "--edition", ref.edition, path)
			if r.code != exitOK || !strings.Contains(r.stderr, want) {
				t.Fatalf("exit %d, want %q in\n%.2000s", r.code, want, r.stderr)
			}
			if k.reject != "" && !slices.ContainsFunc(strings.Split(k.reject, "|"), func(s string) bool { return strings.Contains(r.stderr, s+" ") }) {
				t.Errorf("the reason %s is not in\n%.2000s", k.reject, r.stderr)
			}
			if strings.ContainsAny(string(r.stdout)+r.stderr, "\x00\x1b\x07\u202e") {
				t.Error("what a terminal obeys is printed")
			}
			// Learned from the littered log itself, the abusers show too.
			mustName(t, analyzed(t, path), abusers()...)
		})
	}
	t.Run("CRLF", func(t *testing.T) {
		t.Parallel()
		path := writeFile(t, t.TempDir(), "access.log", bytes.ReplaceAll(text(log), []byte("\n"), []byte("\r\n")))
		mustBeSame(t, "with CRLF", ref.alerts, analyzed(t, path, "--edition", ref.edition))
	})
	t.Run("no last newline", func(t *testing.T) {
		t.Parallel()
		path := writeFile(t, t.TempDir(), "access.log", bytes.TrimSuffix(text(log), []byte("\n")))
		mustBeSame(t, "without the last newline", ref.alerts, analyzed(t, path, "--edition", ref.edition))
	})
	t.Run("run", func(t *testing.T) {
		t.Parallel()
		data := littered(log, kinds...)
		dir := t.TempDir()
		all := analyzed(t, writeFile(t, dir, "all.log", data), "--edition", ref.edition)
		mustBeSame(t, "with all odd lines", ref.alerts, all)
		requests, rejected := len(log), 0
		for _, k := range kinds {
			if k.reject == "" {
				requests += 4 * len(k.lines)
			} else {
				rejected += 4 * len(k.lines)
			}
		}
		path := filepath.Join(dir, "access.log")
		store := filepath.Join(dir, "weir.db")
		f := newFeed(t, path, data, *killSeed)
		d := startDaemon(t, "run", "--store", store, "--listen", "127.0.0.1:0", "--edition", ref.edition, path)
		begin(t, d, f)
		for f.write(t, 0.05) {
		}
		eventually(t, "all lines are detected", d, func() bool {
			return d.metric("weir_lines_total") == float64(requests+rejected) && drained(t, store, int64(requests), 1) && d.metric("weir_detect_lag_records") == 0
		})
		if got := d.metric("weir_rejects_total"); got != float64(rejected) {
			t.Errorf("weir_rejects_total %v, want %d", got, rejected)
		}
		d.stop(t)
		mustBeSame(t, "weir run", ref.alerts, storedAlerts(t, store))
		if !strings.Contains(d.log.String(), "lines rejected") {
			t.Error("the log does not tell of the rejected lines")
		}
	})
}

// TestInputsThatCannotBeRead: each has a message that says why.
func TestInputsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := text(trafficLog(*killSeed))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	good := writeFile(t, dir, "good.log", data)
	file := func(name string, data string) string { return writeFile(t, dir, name, []byte(data)) }
	cases := []struct{ path, want string }{
		{file("binary.bin", rubbish(100_000)), "binary"},
		{file("zeros", strings.Repeat("\x00", 10_000)), ""},
		{file("empty.log", ""), "empty"},
		{file("newlines.log", "\n\n\n"), "empty"},
		{dir, "it is a directory; name the files in it"},
		{filepath.Join(dir, "gone.log"), "no such file"},
		{file("prose.txt", "Nothing here\nis a request\n"), "no known format"},
		{file("short.gz", packed.String()[:9]), "gzip"},
		{file("header.gz", packed.String()[:4]), "gzip"},
		{file("broken.gz", packed.String()[:12]+rubbish(500)), "gzip"},
		{file("twice.gz", "BZh91AY&SY"+rubbish(100)), "bzip2"},
		{file("sixteen.log", "\xff\xfe2\x000\x003\x00\n\x00"), "UTF-16"},
	}
	for _, c := range cases {
		r := weir(t, "analyze", c.path)
		if r.code != exitFailed || len(r.stdout) > 0 || !strings.Contains(r.stderr, c.want) || !strings.Contains(r.stderr, filepath.Base(c.path)) {
			t.Errorf("%s: exit %d, want 1 and %q:\n%.1000s\n%.1000s", filepath.Base(c.path), r.code, c.want, r.stdout, r.stderr)
		}
		// Beside a good input it is named, and the good one's alerts come.
		both := weir(t, "analyze", "--output", "json", c.path, good)
		if both.code != exitFailed || !strings.Contains(both.stderr, c.want) || !bytes.Contains(both.stdout, []byte(guesserAddress)) {
			t.Errorf("%s beside a good log: exit %d:\n%.1000s", filepath.Base(c.path), both.code, both.stderr)
		}
	}

	// A stream that breaks off gives what could be read, and says so.
	cut := file("cut.gz", packed.String()[:packed.Len()*3/4])
	r := weir(t, "analyze", cut)
	if r.code != exitFailed || !strings.Contains(r.stderr, "unexpected end of the gzip stream") || !bytes.Contains(r.stdout, []byte(guesserAddress)) {
		t.Errorf("a cut gzip: exit %d:\n%.1000s\n%.1000s", r.code, r.stdout, r.stderr)
	}

	// The service: what can never be followed is an error at once.
	store := filepath.Join(dir, "weir.db")
	for _, c := range []struct{ path, want string }{
		{dir, "directory"},
		{filepath.Join(dir, "binary.bin"), "binary"},
		{filepath.Join(dir, "prose.txt"), "no known format"},
		{filepath.Join(dir, "broken.gz"), "gzip"},
		{filepath.Join(dir, "nowhere", "access.log"), "no such file"},
		{filepath.Join(dir, "*.none"), "no file matches"},
	} {
		r := weir(t, "run", "--store", store, "--listen", "127.0.0.1:0", c.path)
		if r.code != exitFailed || !strings.Contains(r.stderr, c.want) {
			t.Errorf("weir run %s: exit %d, want 1 and %q:\n%.1000s", filepath.Base(c.path), r.code, c.want, r.stderr)
		}
	}
	if r := weir(t, "run", "--store", good, "--listen", "127.0.0.1:0", good); r.code != exitFailed || !strings.Contains(r.stderr, good) {
		t.Errorf("a log as the store: exit %d:\n%.1000s", r.code, r.stderr)
	}
	if r := weir(t, "run", "--store", filepath.Join(dir, "nowhere", "weir.db"), "--listen", "127.0.0.1:0", good); r.code != exitFailed {
		t.Errorf("a store in no directory: exit %d:\n%.1000s", r.code, r.stderr)
	}
}

// TestNothingToReadYet: a file that is empty or missing is waited for.
func TestNothingToReadYet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := text(trafficLog(*killSeed))
	empty := writeFile(t, dir, "empty.log", nil)
	missing := filepath.Join(dir, "missing.log")
	d := startDaemon(t, "run", "--store", filepath.Join(dir, "weir.db"), "--listen", "127.0.0.1:0", empty, missing)
	d.waitReady(t)
	for _, path := range []string{empty, missing} {
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := float64(2 * bytes.Count(log, []byte("\n")))
	eventually(t, "both files are read", d, func() bool { return d.metric("weir_requests_total") == want })
	d.stop(t)
}

func TestNoPermission(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := writeFile(t, dir, "access.log", text(trafficLog(*killSeed)))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	cmd := weirCommand(t, "analyze", path)
	if os.Getuid() == 0 {
		// root reads everything: be somebody else.
		for p := dir; p != "/" && p != "."; p = filepath.Dir(p) {
			if err := os.Chmod(p, 0o755); err != nil || p == os.TempDir() {
				break
			}
		}
		bin := t.TempDir()
		if err := os.Chmod(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		self, err := os.ReadFile(cmd.Path)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path = filepath.Join(bin, "weir")
		if err := os.WriteFile(cmd.Path, self, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || bytes.Contains(out, []byte("no such file")) {
		t.Skipf("cannot run as somebody who may not read the file: %v %s", err, out)
	}
	if cmd.ProcessState.ExitCode() != exitFailed || !bytes.Contains(out, []byte("permission denied")) || !bytes.Contains(out, []byte("sudo cat "+path)) {
		t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}
