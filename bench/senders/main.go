// Senders has real servers of this machine log into a running weir, by file and
// by syslog, while a client of its own sends them requests of every kind, and
// compares what weir stored with what the client sent, field by field:
//
//	go run ./bench/senders -weir bin/weir
//
// It knows nginx, HAProxy, Apache, Caddy and rsyslog, and leaves out those that
// are not installed. Everything is on loopback and in a directory of its own.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "senders:", err)
		os.Exit(1)
	}
}

var errDiffers = errors.New("what is stored is not what was sent")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("senders", flag.ContinueOnError)
	fs.SetOutput(stderr)
	weir := fs.String("weir", "bin/weir", "the program under test")
	n := fs.Int("n", 5000, "requests a server")
	seed := fs.Uint64("seed", 1, "of the requests")
	only := fs.String("only", "", "servers whose name begins so")
	docs := fs.String("docs", "docs/logs.md", "the documented snippets")
	golden := fs.String("golden", "", "directory to write the first lines of documented logs to")
	keep := fs.Bool("keep", false, "keep the directory")
	if err := fs.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*docs)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "weir-senders-")
	if err != nil {
		return err
	}
	if *keep {
		fmt.Fprintln(stderr, "directory", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // servers drop root
		return err
	}
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(origin), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 20}
	go func() { _ = server.Serve(app) }()
	defer server.Close()
	r := &rig{dir: dir, docs: string(text), origin: app.Addr().String(), ports: map[string]string{}}
	fronts, err := available(r, *only, stderr)
	if err != nil {
		return err
	}
	defer func() { r.stop() }()
	results, err := measure(ctx, r, fronts, *weir, *n, *seed, stderr)
	if err != nil {
		return err
	}
	if *golden != "" {
		if err := writeGolden(r, fronts, *golden); err != nil {
			return err
		}
	}
	if !write(stdout, results) {
		return errDiffers
	}
	return nil
}

// available sets up the servers that are installed.
func available(r *rig, only string, stderr io.Writer) ([]*front, error) {
	var fronts []*front
	for _, s := range []struct {
		program string
		set     func(*rig) (*front, error)
	}{
		{"nginx", nginx},
		{"haproxy", func(r *rig) (*front, error) { return haproxy(r, false) }},
		{"haproxy", func(r *rig) (*front, error) { return haproxy(r, true) }},
		{"apache2", apache},
		{"caddy", caddy},
	} {
		if !strings.HasPrefix(s.program, only) {
			continue
		}
		if installed(s.program) == "" {
			fmt.Fprintf(stderr, "senders: %s is not installed, left out\n", s.program)
			continue
		}
		f, err := s.set(r)
		if err != nil {
			return nil, err
		}
		fronts = append(fronts, f)
	}
	if len(fronts) == 0 {
		return nil, errors.New("no server is installed: there is nothing to compare")
	}
	return fronts, nil
}

// measure starts weir and the servers, sends, and reads what weir stored.
func measure(ctx context.Context, r *rig, fronts []*front, weir string, n int, seed uint64, stderr io.Writer) ([]*result, error) {
	store, key := r.path("weir.db"), r.path("weir.key")
	config, metrics := "", "127.0.0.1:"+r.port("metrics")
	ways, list, results := map[string]*way{}, map[string][]*sent{}, map[string]*result{}
	var ordered []*result
	for _, f := range fronts {
		all := traffic(n, seed)
		for _, w := range f.ways {
			config += "  - " + w.source + "\n"
			name := sourceName(w.source)
			ways[name], list[name] = w, all
			results[name] = &result{server: f.server, way: w.name, fields: map[string]int{}, example: map[string]string{}}
			ordered = append(ordered, results[name])
		}
	}
	path, err := r.write("weir.yaml", "collect:\n"+config+"identity: {trusted_proxies: [127.0.9.0/24]}\n"+fmt.Sprintf("privacy: {key_file: %q}\n", key))
	if err != nil {
		return nil, err
	}
	out, err := os.Create(r.path("weir.out"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c := exec.Command(weir, "run", "-c", path, "--store", store, "--listen", metrics)
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		return nil, err
	}
	ended := false
	defer func() {
		if !ended {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	if err := answers(ctx, metrics); err != nil {
		return nil, fmt.Errorf("weir does not start: %w\n%s", err, tail(r.path("weir.out")))
	}
	expected := 0
	for _, f := range fronts {
		if err := f.start(ctx, r); err != nil {
			return nil, fmt.Errorf("%s: %w", f.server, err)
		}
		if err := answers(ctx, f.address); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", f.server, err, tail(r.path(f.server+".out")))
		}
		all := list[sourceName(f.ways[0].source)]
		start := time.Now()
		sendAll(ctx, f.address, all, 8)
		good, refused := outcome(all)
		fmt.Fprintf(stderr, "%s: %d requests in %.1f s: %d answered, %d refused as bad requests, %d without an answer\n",
			f.server, n, time.Since(start).Seconds(), good, refused, n-good-refused)
		for _, w := range f.ways {
			res := results[sourceName(w.source)]
			res.sent, res.refused = good, refused
			expected += good
		}
	}
	waitStored(ctx, metrics, expected)
	r.stop()
	r.running = nil
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	err = c.Wait()
	ended = true
	if err != nil {
		return nil, fmt.Errorf("weir: %w\n%s", err, tail(r.path("weir.out")))
	}
	for name, res := range results {
		if res.written = -1; filepath.IsAbs(name) {
			if res.written, err = writtenTo(name, list[name]); err != nil {
				return nil, err
			}
		}
	}
	return ordered, read(ctx, store, key, ways, list, results)
}

// outcome counts the requests that were answered, and those of them that the
// server refused to read: such a line need not hold what was sent.
func outcome(all []*sent) (good, refused int) {
	for _, s := range all {
		switch {
		case s.failed:
		case s.status == http.StatusBadRequest:
			refused++
		default:
			good++
		}
	}
	return good, refused
}

// sourceName is the source as weir calls it.
func sourceName(source string) string {
	line, _, _ := strings.Cut(source, "\n")
	if path, ok := strings.CutPrefix(line, "file: "); ok {
		if name, err := strconv.Unquote(path); err == nil {
			return name
		}
	}
	_, rest, _ := strings.Cut(line, `listen: "`)
	address, _, _ := strings.Cut(rest, `"`)
	return "syslog:" + address
}

// waitStored waits until weir counts as many requests, or none come any more.
func waitStored(ctx context.Context, metrics string, want int) {
	last, since := -1, time.Now()
	for ctx.Err() == nil {
		got := counted(metrics)
		if got != last {
			last, since = got, time.Now()
		}
		if got >= want && time.Since(since) > time.Second || time.Since(since) > 5*time.Second {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func counted(metrics string) int {
	res, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		return -1
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "weir_requests_total "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return int(v)
		}
	}
	return -1
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// goldenLines is how many lines of a log are written.
const goldenLines = 60

func writeGolden(r *rig, fronts []*front, dir string) error {
	for _, f := range fronts {
		for _, w := range f.ways {
			if w.golden == "" {
				continue
			}
			b, err := os.ReadFile(sourceName(w.source))
			if err != nil {
				return err
			}
			lines := bytes.SplitAfter(b, []byte("\n"))
			var out []byte
			for _, l := range lines {
				if len(l) < 800 && bytes.Count(out, []byte("\n")) < goldenLines {
					out = append(out, l...)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, w.golden), out, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
