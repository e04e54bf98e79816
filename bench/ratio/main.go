// Ratio runs a program and the yardstick (bench/splitter) on the same log in
// turns and prints how they compare: seconds, lines a second, the ratio of the
// medians, and the peak resident memory of each.
//
//	go run ./bench/ratio -splitter bin/splitter access.log -- bin/weir analyze --quiet access.log
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "ratio:", err)
		os.Exit(1)
	}
}

// measured is what the turns of one program took.
type measured struct {
	name    string
	seconds []float64
	cpu     []float64 // user and system time
	rss     int64     // kB, the largest of the turns
}

func run(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("ratio", flag.ContinueOnError)
	fs.SetOutput(stderr)
	splitter := fs.String("splitter", "bin/splitter", "the yardstick's program")
	turns := fs.Int("n", 3, "turns of each program")
	procs := fs.String("procs", "", "GOMAXPROCS of the program under test; all cores when empty")
	if err := fs.Parse(args); err != nil {
		return err
	}
	rest := fs.Args()
	if len(rest) < 2 || *turns < 1 {
		return errors.New("usage: ratio [-splitter PROGRAM] [-n TURNS] [-procs N] LOG [--] PROGRAM [ARGUMENTS]")
	}
	log, command := rest[0], rest[1:]
	if command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return errors.New("no program to measure")
	}
	lines, err := countLines(log)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	yard := measured{name: "splitter"}
	prog := measured{name: strings.Join(command, " ")}
	var env []string
	if *procs != "" {
		env = []string{"GOMAXPROCS=" + *procs}
	}
	for range *turns {
		if err := errors.Join(yard.turn([]string{*splitter, log}, nil), prog.turn(command, env)); err != nil {
			return err
		}
	}
	base := median(yard.seconds)
	for _, m := range []*measured{&yard, &prog} {
		s := median(m.seconds)
		if _, err := fmt.Fprintf(stdout, "%-9s %7.3f s  cpu %7.3f s  %9.0f lines/s  ratio %5.2f  peak RSS %6.1f MB  %s\n",
			label(m == &yard), s, median(m.cpu), float64(lines)/s, s/base, float64(m.rss)/1024, m.name); err != nil {
			return err
		}
	}
	return nil
}

func label(yardstick bool) string {
	if yardstick {
		return "yardstick"
	}
	return "program"
}

// turn runs command once. Its output is thrown away; its errors are kept.
func (m *measured) turn(command, env []string) error {
	c := exec.Command(command[0], command[1:]...)
	c.Env = append(os.Environ(), env...)
	var errs tail
	c.Stderr = &errs
	began := time.Now()
	if err := c.Run(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", command[0], err, errs.b)
	}
	m.seconds = append(m.seconds, time.Since(began).Seconds())
	m.cpu = append(m.cpu, (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds())
	if u, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.rss = max(m.rss, u.Maxrss)
	}
	return nil
}

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-4096):]
	return len(p), nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// countLines also brings the file into the page cache, so that the first turn
// is like the others.
func countLines(path string) (n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		b, err := r.ReadSlice('\n')
		if bytes.HasSuffix(b, []byte("\n")) {
			n++
		} else if errors.Is(err, io.EOF) && len(b) > 0 {
			n++
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return n, err
		}
	}
}
