package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"weir/alerts"
	"weir/pipeline"
	"weir/storage/sqlite"
)

const sinkHelp = `Usage: weir sink list -c FILE
       weir sink test NAME -c FILE
       weir sink dead-letters [NAME] -c FILE
       weir sink replay NAME ID... | --all -c FILE

Looks after the sinks that a configuration names.

  list          how far each sink is, what waits to be tried again, what is dead
  test          send an alert that says it is a test, and say what became of it
  dead-letters  what a sink will not get, and why
  replay        try dead letters again, by the ids that dead-letters shows; it
                works while weir run does, which takes them up within seconds

Flags:
  -c FILE             the configuration
  --all               replay all dead letters of the sink
  --output text|json  one object a line

The audit of the store has who tested and who replayed what.

Exit: 0 done; 1 failed; 2 usage.
`

// sinkCommand is one call of weir sink.
type sinkCommand struct {
	cfg    *config
	all    bool
	output string
	stdout io.Writer
}

func runSink(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var path string
	c := sinkCommand{stdout: stdout}
	fs := flag.NewFlagSet("sink", flag.ContinueOnError)
	fs.StringVar(&path, "c", "", "")
	fs.BoolVar(&c.all, "all", false, "")
	fs.StringVar(&c.output, "output", "text", "")
	rest, code, done := parseFlags(fs, sinkHelp, args, stdout, stderr)
	if done {
		return code
	}
	if c.output != "text" && c.output != "json" {
		fmt.Fprintf(stderr, "weir sink: --output %s: there are text and json\n", c.output)
		return exitUsage
	}
	if len(rest) == 0 || path == "" || !c.plausible(rest[0], len(rest)-1) {
		fmt.Fprint(stderr, sinkHelp)
		return exitUsage
	}
	var err error
	if c.cfg, err = loadConfig(path); err == nil {
		err = c.do(ctx, rest[0], rest[1:])
	}
	if err != nil {
		fmt.Fprintf(stderr, "weir sink: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// plausible reports whether action takes n arguments.
func (c *sinkCommand) plausible(action string, n int) bool {
	switch action {
	case "list":
		return n == 0 && !c.all
	case "test":
		return n == 1 && !c.all
	case "dead-letters":
		return n <= 1 && !c.all
	case "replay":
		return n == 1 && c.all || n > 1 && !c.all
	}
	return false
}

func (c *sinkCommand) do(ctx context.Context, action string, args []string) error {
	sink := ""
	if len(args) > 0 {
		sink = args[0]
		if _, ok := c.cfg.Alerts.Sinks[sink]; !ok && action != "dead-letters" {
			return fmt.Errorf("alerts.sinks has no %q", sink)
		}
	}
	switch action {
	case "list":
		return c.list(ctx)
	case "test":
		return c.test(ctx, sink)
	case "dead-letters":
		return c.deadLetters(ctx, sink)
	}
	return c.replay(ctx, sink, args[1:])
}

// open reads the store, beside a weir that has it or without one.
func (c *sinkCommand) open() (*sqlite.DB, error) {
	return sqlite.Open(c.cfg.Store.Path, sqlite.Options{ReadOnly: true, Readers: 1})
}

// maxListedLetters bounds what one call shows.
const maxListedLetters = 10_000

func (c *sinkCommand) list(ctx context.Context) error {
	db, err := c.open()
	if err != nil {
		return err
	}
	defer db.Close()
	st, err := db.Stats(ctx)
	if err != nil {
		return err
	}
	letters, err := db.DeadLetters(ctx, "", 0, maxListedLetters)
	if err != nil {
		return err
	}
	w := c.table()
	c.head(w, "SINK\tKIND\tBEHIND\tRETRIES\tDEAD")
	for _, name := range sortedNames(c.cfg.Alerts.Sinks) {
		seq, known, err := db.SinkPosition(ctx, name)
		if err != nil {
			return err
		}
		retries, err := db.DueRetries(ctx, name, pipeline.MaxTime, maxListedLetters)
		if err != nil {
			return err
		}
		v := sinkListed{Sink: name, Retries: len(retries)}
		behind := "new"
		if known {
			v.Behind = new(max(st.Alerts-seq, 0))
			behind = strconv.FormatInt(*v.Behind, 10)
		}
		for _, l := range letters {
			if l.Sink == name {
				v.Dead++
			}
		}
		sink := c.cfg.Alerts.Sinks[name]
		v.Kind = sink.Kind()
		if err := c.say(w, v, "%s\t%s\t%s\t%d\t%d\n", name, v.Kind, behind, v.Retries, v.Dead); err != nil {
			return err
		}
	}
	return w.Flush()
}

func sortedNames(sinks map[string]alerts.SinkConfig) []string {
	return slices.Sorted(maps.Keys(sinks))
}

func (c *sinkCommand) test(ctx context.Context, sink string) error {
	networks, err := c.cfg.Alerts.Networks()
	if err != nil {
		return err
	}
	s, err := alerts.OpenSink(c.cfg.Alerts.Sinks[sink], alerts.SinkOptions{Version: version, Networks: networks, Kafka: produceTo})
	if err != nil {
		return err
	}
	a := alerts.TestAlert(version, pipeline.TimeOf(time.Now()))
	start := time.Now()
	sent := s.Send(ctx, []pipeline.Alert{*a})
	took := time.Since(start).Milliseconds()
	if sent != nil {
		sent = fmt.Errorf("%s did not take the test alert %s: %w", sink, a.ID, sent)
	}
	if err := errors.Join(sent, c.record(ctx, "sink.test", sink, sent == nil, map[string]any{"alert": a.ID})); err != nil {
		return err
	}
	return c.say(c.stdout, sinkTested{sink, a.ID, took}, "%s took the test alert %s in %d ms\n", sink, a.ID, took)
}

func (c *sinkCommand) deadLetters(ctx context.Context, sink string) error {
	db, err := c.open()
	if err != nil {
		return err
	}
	defer db.Close()
	letters, err := db.DeadLetters(ctx, sink, 0, maxListedLetters)
	if err != nil {
		return err
	}
	w := c.table()
	if len(letters) > 0 {
		c.head(w, "ID\tSINK\tWHEN\tALERT\tREASON")
	}
	for _, l := range letters {
		alert, v := "no longer stored", sinkLetter{ID: l.ID, Sink: l.Sink, Time: l.Time, Reason: l.Reason}
		rows, err := db.AlertsAfter(ctx, l.Seq-1, 1)
		if err != nil {
			return err
		}
		if len(rows) == 1 && rows[0].Seq == l.Seq {
			v.Alert, v.Revision = rows[0].Alert.ID, rows[0].Alert.Revision
			alert = fmt.Sprintf("%s.%d", v.Alert, v.Revision)
		}
		if err := c.say(w, v, "%d\t%s\t%s\t%s\t%s\n", l.ID, l.Sink, l.Time.Std().Format(time.RFC3339), alert, l.Reason); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (c *sinkCommand) replay(ctx context.Context, sink string, args []string) error {
	ids := make([]int64, len(args))
	for i, s := range args {
		id, err := strconv.ParseInt(s, 10, 64)
		if err != nil || id < 1 {
			return fmt.Errorf("%q is no id of a dead letter", s)
		}
		ids[i] = id
	}
	n, err := sqlite.Replay(ctx, c.cfg.Store.Path, sink, ids)
	if err := errors.Join(err, c.record(ctx, "sink.replay", sink, err == nil, map[string]any{"letters": ids, "all": c.all, "replayed": n})); err != nil {
		return err
	}
	if int(n) < len(ids) && c.output == "text" {
		fmt.Fprintf(c.stdout, "%d of %d are dead letters of %s\n", n, len(ids), sink)
	}
	return c.say(c.stdout, sinkReplayed{sink, n}, "%d will be tried again\n", n)
}
