package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// TestMain lets the test binary be weir: under that name it is the program.
func TestMain(m *testing.M) {
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == "weir" {
		main()
	}
	if path := os.Getenv(feedCrashEnv); path != "" {
		fmt.Fprintln(os.Stderr, feedChild(path))
		os.Exit(1)
	}
	flag.Parse()
	// The tests of the service wait more than they compute.
	if p := flag.Lookup("test.parallel"); p.Value.String() == p.DefValue {
		if err := p.Value.Set(strconv.Itoa(max(8, runtime.GOMAXPROCS(0)))); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	os.Exit(m.Run())
}

// A script is testdata/script/*.txtar: what people type and what they see. Its
// files are put into a directory of its own, then its comment is run, line by
// line; '...' quotes, # begins a comment, and a ! in front turns a line round:
//
//	weir ARG...           run weir: it must end with 0; with ! it must not
//	code N                the last weir ended with N
//	stdout|stderr REGEXP  the last weir printed so ((?m) is on)
//	cmp A B               two files hold the same
//	cp A B                copy a file
//	stdin A               what the next weir reads
//	env NAME=VALUE        for the weirs that follow
//	remedy                the last weir printed flags that help: $REMEDY
//
// stdout and stderr are files, too: what the last weir printed. The syntax is
// testscript's but for code and remedy.
type script struct {
	t         *testing.T
	dir       string
	env       []string
	stdin     []byte
	remedy    string
	code      int
	out, errs []byte
	weirs     int // how often weir ran
}

// unarchive splits a txtar file.
func unarchive(data string) (comment string, files map[string]string) {
	files = map[string]string{}
	name := ""
	for line := range strings.Lines(data) {
		mark := strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(mark, "-- "); ok && strings.HasSuffix(rest, " --") {
			name = strings.TrimSpace(strings.TrimSuffix(rest, " --"))
			files[name] = ""
		} else if name == "" {
			comment += line
		} else {
			files[name] += line
		}
	}
	return comment, files
}

// words splits a line at spaces outside of '...'.
func words(line string) (out []string) {
	word, in, quoted := "", false, false
	for _, c := range line {
		switch {
		case c == '\'':
			quoted, in = !quoted, true
		case !quoted && (c == ' ' || c == '\t'):
			if in {
				out, word, in = append(out, word), "", false
			}
		case !quoted && !in && c == '#':
			return out
		default:
			word, in = word+string(c), true
		}
	}
	if in {
		out = append(out, word)
	}
	return out
}

func (s *script) read(name string) ([]byte, error) {
	switch name {
	case "stdout":
		return s.out, nil
	case "stderr":
		return s.errs, nil
	}
	return os.ReadFile(filepath.Join(s.dir, name))
}

func (s *script) weir(args []string) error {
	cmd := weirCommand(s.t, args...)
	cmd.Dir, cmd.Env = s.dir, append(cmd.Env, s.env...)
	cmd.Stdin = bytes.NewReader(s.stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	s.stdin, s.out, s.errs, s.code = nil, out.Bytes(), errs.Bytes(), cmd.ProcessState.ExitCode()
	s.weirs++
	if s.code < 0 || bytes.Contains(s.errs, []byte("goroutine ")) {
		return errors.New("weir crashed")
	}
	return nil
}

// step does one line; ok is what a ! turns round.
func (s *script) step(w []string) (ok bool, err error) {
	args := w[1:]
	want := map[string]int{"code": 1, "stdout": 1, "stderr": 1, "cmp": 2, "cp": 2, "stdin": 1, "env": 1, "remedy": 0}
	if n, known := want[w[0]]; w[0] != "weir" && (!known || len(args) != n) {
		return false, fmt.Errorf("no such line: %q", w)
	}
	switch w[0] {
	case "weir":
		err := s.weir(args)
		return s.code == exitOK, err
	case "code":
		n, err := strconv.Atoi(args[0])
		return s.code == n, err
	case "stdout", "stderr":
		re, err := regexp.Compile("(?m)" + args[0])
		if err != nil {
			return false, err
		}
		text, _ := s.read(w[0])
		return re.Match(text), nil
	case "env":
		s.env = append(s.env, args[0])
		return true, nil
	case "remedy":
		m := regexp.MustCompile(`(?m)^\s+(--log-format '[^']+')$`).FindSubmatch(s.errs)
		if m == nil {
			return false, nil
		}
		s.remedy = string(m[1])
		return true, nil
	}
	a, err := s.read(args[0])
	if err != nil {
		return false, err
	}
	switch w[0] {
	case "cp":
		return true, os.WriteFile(filepath.Join(s.dir, args[1]), a, 0o600)
	case "cmp":
		b, err := s.read(args[1])
		return bytes.Equal(a, b), err
	}
	s.stdin = a
	return true, nil
}

func (s *script) run(text string) error {
	for i, line := range strings.Split(text, "\n") {
		w := words(strings.ReplaceAll(line, "$REMEDY", s.remedy))
		if len(w) == 0 {
			continue
		}
		not := w[0] == "!"
		if not {
			w = w[1:]
		}
		ok, err := s.step(w)
		if err != nil || ok == not {
			return fmt.Errorf("line %d: %s: want %v (%v)\nexit %d\nstdout:\n%.3000s\nstderr:\n%.3000s", i+1, line, !not, fmt.Sprint(err), s.code, s.out, s.errs)
		}
	}
	if s.weirs == 0 {
		return errors.New("weir was never run")
	}
	return nil
}

func newScript(t *testing.T, files map[string]string) *script {
	t.Helper()
	s := &script{t: t, dir: t.TempDir(), env: []string{"HOME=/nowhere"}}
	for name, body := range files {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The generated log, for scripts that need alerts.
	writeFile(t, s.dir, "traffic.log", text(trafficLog(1)))
	return s
}

func TestScripts(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts found: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			comment, files := unarchive(string(data))
			if err := newScript(t, files).run(comment); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		})
	}
}

// TestScriptsFail: a line that does not hold fails its script.
func TestScriptsFail(t *testing.T) {
	t.Parallel()
	f := func(text, want string) {
		t.Helper()
		err := newScript(t, map[string]string{"a": "1\n", "b": "2\n"}).run(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want an error with %q", text, err, want)
		}
	}
	f("", "never run")
	f("# weir version", "never run")
	f("weir nothing", "line 1")
	f("! weir version", "line 1")
	f("weir version\ncode 1", "line 2")
	f("weir version\nstdout nothing", "line 2")
	f("weir version\n! stdout weir", "line 2")
	f("cmp a b", "line 1")
	f("cmp a c", "line 1")
	f("remedy", "line 1")
	f("stdout", "no such line")
	f("wier version", "no such line")
}
