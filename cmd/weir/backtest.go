package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"weir/collector"
	"weir/pipeline"
)

const backtestHelp = `Usage: weir backtest -c new.yaml --store weir.db [--since T] [--until T]
       weir backtest -c new.yaml [--against old.yaml] [flags] INPUT...

What another configuration would change: detects the same requests under both and
tells which alerts are gained, lost and moved (another severity, tier, detector or
time), each with what in the configuration did it; precision and recall on labels,
or on the verdicts that people gave; alerts and pages a day; the detection delay.

  weir backtest -c new.yaml --store /var/lib/weir/weir.db
  weir backtest -c new.yaml --against /etc/weir/weir.yaml access.log

The old configuration is --against. Without it, it is the one that weir runs with,
as the store's log names it; of files alone, no configuration at all.

Files are read anew under each configuration, with one edition: that of --edition,
or what the old configuration learns from them. The store's requests are taken as
they were stored, with the editions, sources and health records of its log; weir
may be running meanwhile. What was reduced when they were collected cannot be
judged again: a change of identity.trusted_proxies, identity.internal_networks,
identity.api_key_prefix or collect shows on files alone, and is named.

After applying the new configuration, the same input gives what is told here.

Flags:
  -c FILE              the new configuration
  --against FILE       the old one
  --store FILE         what weir run stored, instead of inputs; with inputs: they are
                       detected, against the configuration that it runs with
  --since, --until T   with --store: alerts of this time only (RFC 3339); what came
                       before is detected too, so that profiles are warm
  --labels FILE        score both against ground truth (NDJSON)
  --edition FILE       of files: detect with this edition
  --output text|json   what to print (text)
  --list N             how many alerts of each kind to print (text 20, json all)
  --console URL        where the console is, for links (default: console.listen)
  --pseudonyms         names of accounts stay tokens
  --workers N          goroutines (default: one per CPU)
  --format NAME, --log-format STRING, --tz ZONE   as for weir analyze
  --quiet              no progress

Exit: 0 compared; 1 failed; 2 usage.
`

// backtestOptions are the flags of weir backtest.
type backtestOptions struct {
	replayFlags
	against      string
	since, until string
	labels       string
	output       string
	list         int
	workers      int
	quiet        bool
	console      string
	pseudonyms   bool
	plain        bool // progress for a program: a number from 0 to 1 a line
}

func runBacktest(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var o backtestOptions
	fs := flag.NewFlagSet("backtest", flag.ContinueOnError)
	o.add(fs)
	fs.StringVar(&o.against, "against", "", "")
	fs.StringVar(&o.since, "since", "", "")
	fs.StringVar(&o.until, "until", "", "")
	fs.StringVar(&o.labels, "labels", "", "")
	fs.StringVar(&o.output, "output", "text", "")
	fs.IntVar(&o.list, "list", 0, "")
	fs.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "")
	fs.BoolVar(&o.quiet, "quiet", false, "")
	fs.StringVar(&o.console, "console", "", "")
	fs.BoolVar(&o.pseudonyms, "pseudonyms", false, "")
	fs.BoolVar(&o.plain, "plain-progress", false, "")
	inputs, code, done := parseFlags(fs, backtestHelp, args, stdout, stderr)
	if done {
		return code
	}
	usage := func(format string, a ...any) int {
		fmt.Fprintf(stderr, "weir backtest: "+format+"\n", a...)
		return exitUsage
	}
	switch {
	case o.config == "":
		return usage("-c names the new configuration (weir backtest --help)")
	case o.output != "text" && o.output != "json":
		return usage("--output %s: there are text and json", o.output)
	case o.store == "" && len(inputs) == 0:
		return usage("no input; give log files, or --store weir.db")
	case o.store != "" && len(inputs) > 0 && o.against != "":
		return usage("--store beside inputs names the configuration that weir runs with, and --against another one; give one of them")
	case (o.store == "" || len(inputs) > 0) && o.since+o.until != "":
		return usage("--since and --until go with --store")
	case o.list < 0 || o.workers < 1 || o.workers > 256:
		return usage("--list %d --workers %d: want a number, and 1 to 256", o.list, o.workers)
	}
	limitMemory()
	out := bufio.NewWriter(stdout)
	err := backtest(ctx, out, stderr, o, inputs, stdin)
	if err = errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintf(stderr, "weir backtest: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// backtest detects under both configurations, one after the other, and prints the
// difference.
func backtest(ctx context.Context, out, stderr io.Writer, o backtestOptions, inputs []string, stdin io.Reader) (err error) {
	b := &comparison{pseudonyms: o.pseudonyms, console: o.console}
	if err := b.openSides(ctx, o, inputs, stdin); err != nil {
		return err
	}
	was, now := b.was.replay, b.now.replay
	defer was.close()
	if b.since, b.until, err = o.window(); err != nil {
		return err
	}
	was.until, now.until = b.until, b.until
	b.prepare()
	bar := &backtestBar{w: stderr, quiet: o.quiet, plain: o.plain, next: time.Now().Add(time.Second)}
	for i, s := range []*side{&b.was, &b.now} {
		s.replay.workers = o.workers
		s.replay.progress = func(done float64, lines int64) { bar.update(i, done, lines) }
		if o.labels != "" {
			if err := s.label(o.labels); err != nil {
				return err
			}
		}
		if err := s.run(ctx, b.since, b.until); err != nil {
			return err
		}
	}
	bar.end()
	if was.db != nil {
		if err := b.readStore(ctx, was); err != nil {
			return err
		}
	}
	r := b.result()
	if o.output == "json" {
		r.cut(o.list)
		body, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			return err
		}
		_, err = out.Write(append(body, '\n'))
		return err
	}
	return r.writeText(out, o.list)
}

// openSides opens the input under the old and under the new configuration; both
// read the same, and closing the first closes it.
func (b *comparison) openSides(ctx context.Context, o backtestOptions, inputs []string, stdin io.Reader) error {
	next, err := loadConfig(o.config) // before anything is read: it is what people edit
	if err != nil {
		return err
	}
	f := o.replayFlags
	f.config = o.against
	b.sides = both[string]{cmp.Or(o.against, "no configuration: the defaults"), o.config}
	running := &runningConfig{}
	if o.store != "" && o.against == "" {
		if running, err = storedConfig(ctx, o.store, next); err != nil {
			return err
		}
		f.given, b.sides.Old = running.cfg, running.from
		b.changes, err = running.diff(o.config, next)
	} else {
		b.changes, err = diffFiles(o.against, o.config)
	}
	if err != nil {
		return err
	}
	if o.store != "" && len(inputs) > 0 {
		f.store = ""
		for _, c := range []*config{f.given, next} {
			c.Privacy.KeyFile = cmp.Or(c.Privacy.KeyFile, storeKeyFile(o.store))
		}
	}
	if b.was.replay, err = openReplay(ctx, f, inputs, stdin); err != nil {
		return err
	}
	if running.note != "" {
		b.note("%s", running.note)
	} else if running.hash != "" && running.hash != b.was.replay.cfg.hash() {
		b.note("weir runs with the file as it stands but for what takes a restart; the old side is all of the file")
	}
	b.store = b.was.replay.db != nil
	_, b.waits = b.was.replay.cfg.reloaded(next)
	if b.now.replay, err = b.was.replay.under(ctx, next, o.how); err != nil {
		b.was.replay.close()
		return err
	}
	return nil
}

// under is a replay of the same input with another configuration. It lives as long
// as p and is not closed.
func (p *replay) under(ctx context.Context, cfg *config, how collectConfig) (*replay, error) {
	n := &replay{cfg: cfg, keys: p.keys, edition: p.edition, db: p.db, ins: slices.Clone(p.ins), cleanup: func() {}}
	logins, err := pipeline.NewLoginRules(cfg.Endpoints)
	if err != nil {
		return nil, err
	}
	if p.db != nil {
		// What was decided when the requests came cannot be decided again.
		cfg.Collect, cfg.Privacy = p.cfg.Collect, p.cfg.Privacy
		was := p.cfg.Identity
		cfg.Identity.TrustedProxies, cfg.Identity.InternalNetworks, cfg.Identity.APIKeyPrefix = was.TrustedProxies, was.InternalNetworks, was.APIKeyPrefix
	} else if cfg.Privacy.KeyFile != p.cfg.Privacy.KeyFile {
		return nil, errors.New("privacy.key_file differs: under other keys everybody has another name, and every alert another id")
	}
	if n.id, err = cfg.newIdentity(n.keys, logins); err != nil {
		return nil, err
	}
	if p.db != nil {
		for _, side := range []*replay{p, n} {
			if side.apart, err = apart(ctx, p.db, side.cfg, p.keys); err != nil {
				return nil, err
			}
		}
		n.again = pipeline.NewReidentify(p.id, n.id)
		n.amend = func(b *pipeline.Block) {
			for i := range b.Requests {
				n.again.Apply(&b.Requests[i])
			}
		}
		return n, nil
	}
	for i := range n.ins {
		in := &n.ins[i]
		in.how = cfg.read(in.name, how)
		if in.packets {
			continue
		}
		head := func() ([][]byte, error) { return collector.Head(in.path) }
		if in.format, _, err = in.how.format(head, true); err != nil {
			return nil, fmt.Errorf("%s: %w", in.name, err)
		}
	}
	return n, nil
}

// window is the time that --since and --until name; 0 is open.
func (o *backtestOptions) window() (since, until pipeline.Time, err error) {
	for _, f := range []struct {
		flag, text string
		into       *pipeline.Time
	}{{"--since", o.since, &since}, {"--until", o.until, &until}} {
		if f.text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, f.text)
		if err != nil {
			return 0, 0, fmt.Errorf("%s %s: want a time like 2026-11-22T08:00:00Z", f.flag, f.text)
		}
		*f.into = pipeline.TimeOf(t)
	}
	if since != 0 && until != 0 && until < since {
		return 0, 0, errors.New("--until is before --since")
	}
	return since, until, nil
}

// backtestBar tells how far it is.
type backtestBar struct {
	w            io.Writer
	quiet, plain bool
	next         time.Time
	lines        int64
}

func (b *backtestBar) update(pass int, done float64, lines int64) {
	b.lines += lines
	now := time.Now()
	if b.quiet && !b.plain || now.Before(b.next) {
		return
	}
	whole := (float64(pass) + done) / 2
	if b.plain {
		b.next = now.Add(200 * time.Millisecond)
		fmt.Fprintf(b.w, "%.4f\n", whole)
		return
	}
	b.next = now.Add(5 * time.Second)
	fmt.Fprintf(b.w, "%s configuration: %3.0f %% of both, %d requests\n", [2]string{"old", "new"}[pass], 100*whole, b.lines)
}

func (b *backtestBar) end() {
	if b.plain {
		fmt.Fprintln(b.w, "1")
	}
}

// readSmall reads a configuration as it is written; "" is none.
func readSmall(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return data, nil
}
