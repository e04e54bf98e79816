// Pushload measures what `weir run` does under pushed lines, and proves what it
// acknowledged: it starts weir with a push entrance, sends text lines and
// NDJSON at a steady rate, plain and gzip, some of them malformed, kills weir
// now and then without warning, sends again what was not answered 2xx, and
// reads the store back line by line. It prints the resident memory of each
// second, and exits 1 when an acknowledged line is missing.
//
//	go build -o bin/ ./cmd/weir ./bench/pushload && bin/pushload -weir bin/weir
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "pushload:", err)
		os.Exit(1)
	}
}

// plan is what a run does.
type plan struct {
	weir      string
	dir       string // of the store
	rate      int    // lines a second
	span      time.Duration
	malformed int // of 1000 lines
	kills     int
	batch     int // lines of a body
	senders   int
	clients   int
	keys      bool // each body comes with an Idempotency-Key

	limit              string // file that sets the disk's limit, "" for none
	slow, fast         string // what is written to it
	slowFrom, slowSpan time.Duration
}

func run(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("pushload", flag.ContinueOnError)
	fs.SetOutput(stderr)
	p := plan{}
	fs.StringVar(&p.weir, "weir", "bin/weir", "the program")
	fs.StringVar(&p.dir, "dir", "", "where the store goes; a temporary directory when empty")
	fs.IntVar(&p.rate, "rate", 50_000, "lines a second")
	fs.DurationVar(&p.span, "span", time.Minute, "how long lines are sent")
	fs.IntVar(&p.malformed, "malformed", 10, "of 1000 lines, how many are no request")
	fs.IntVar(&p.kills, "kills", 5, "how often weir is killed and started again")
	fs.IntVar(&p.batch, "batch", 1000, "lines of a body")
	fs.IntVar(&p.senders, "senders", 16, "connections")
	fs.IntVar(&p.clients, "clients", 50_000, "addresses in the lines")
	fs.BoolVar(&p.keys, "keys", false, "give each body an Idempotency-Key: no line may be stored again")
	fs.StringVar(&p.limit, "limit", "", "control file that slows the disk of -dir, such as /sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
	fs.StringVar(&p.slow, "slow", "", "what is written to it for a slow disk, such as '7:0 500000'")
	fs.StringVar(&p.fast, "fast", "", "and for a fast one, such as '7:0 0'")
	fs.DurationVar(&p.slowFrom, "slow-from", 10*time.Second, "when the disk becomes slow")
	fs.DurationVar(&p.slowSpan, "slow-span", 20*time.Second, "for how long")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if p.rate < p.batch || p.batch < 1 || p.senders < 1 || p.clients < 1 || p.span < time.Second || p.kills < 0 || p.malformed < 0 || p.malformed > 1000 {
		return errors.New("want rate >= batch >= 1, span >= 1s, and a sender and a client at least")
	}
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "pushload")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		p.dir = dir
	}
	store := filepath.Join(p.dir, "weir.db")
	config := filepath.Join(p.dir, "weir.yaml")
	if err := os.WriteFile(config, []byte("collect: [{push: {listen: \"127.0.0.1:0\"}}]\n"), 0o600); err != nil {
		return err
	}
	w := &weir{program: p.weir, args: []string{"run", "-c", config, "--store", store, "--listen", "127.0.0.1:0"}}
	if err := w.start(); err != nil {
		return err
	}
	defer func() { _ = w.stop() }() // again, if all went well
	l := newLoad(p, w)
	began := time.Now()
	l.run()
	took := time.Since(began)
	if err := errors.Join(l.err(), w.caughtUp(2*time.Minute)); err != nil {
		return err
	}
	if err := w.stop(); err != nil {
		return err
	}
	l.report(stdout, took)
	if err := w.memory(stdout); err != nil {
		return err
	}
	return verify(stdout, store, l)
}
