package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"weir/pipeline"
)

const evaluateHelp = `Usage: weir evaluate --labels FILE --alerts FILE [flags] [LOG...]

Scores alerts that were made before, by weir or by anything that writes the same
JSON, against labelled episodes. The logs (common or combined form, plain or .gz)
tell how much traffic there was; without them rates are unknown.

  --labels FILE        labelled episodes and benign profiles, one JSON object a line
  --alerts FILE        alert revisions in order, one JSON object a line; - reads stdin
  --output text|json   what to print (text)
`

// runEvaluate is `weir evaluate`. It returns the exit code.
func runEvaluate(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("evaluate", flag.ContinueOnError)
	labels := fs.String("labels", "", "")
	alerts := fs.String("alerts", "", "")
	output := fs.String("output", "text", "")
	logs, code, done := parseFlags(fs, evaluateHelp, args, stdout, stderr)
	if done {
		return code
	}
	if *labels == "" || *alerts == "" || (*output != "text" && *output != "json") {
		fmt.Fprintf(stderr, "weir evaluate: --labels and --alerts are needed, --output is text or json\n\n%s", evaluateHelp)
		return exitUsage
	}
	if err := evaluateFiles(ctx, *labels, *alerts, *output, logs, stdin, stdout); err != nil {
		fmt.Fprintln(stderr, "weir evaluate:", err)
		return exitFailed
	}
	return exitOK
}

func evaluateFiles(ctx context.Context, labelsPath, alertsPath, output string, logs []string, stdin io.Reader, stdout io.Writer) error {
	labels, err := LoadLabels(labelsPath)
	if err != nil {
		return err
	}
	in := stdin
	if alertsPath != "-" {
		f, err := os.Open(alertsPath)
		if err != nil {
			return fmt.Errorf("open alerts: %w", err)
		}
		defer f.Close()
		in = f
	}
	alerts, err := ReadAlerts(bufio.NewReader(in))
	if err != nil {
		return err
	}
	var traffic *TrafficStats
	if len(logs) > 0 {
		traffic = NewTrafficStats(labels)
	}
	for _, path := range logs {
		if err := traffic.observeLog(ctx, path); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	e := Evaluate(labels, alerts, traffic)
	if output == "json" {
		return e.WriteJSON(stdout)
	}
	return e.WriteText(stdout)
}

// observeLog counts the lines of a common or combined log. Counting needs the
// address and the time only; a line without them counts as a request of nobody.
func (s *TrafficStats) observeLog(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return err
		}
	}
	br := bufio.NewReaderSize(r, 1<<20)
	good := false
	for ctx.Err() == nil {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("a line is longer than %d bytes", 1<<20)
		}
		if a, t, ok := addressAndTime(line); ok {
			good = true
			s.Observe(a, t)
		} else if len(line) > 0 {
			s.requests++
		}
		if errors.Is(err, io.EOF) {
			if !good {
				return errors.New("no line starts like a common or combined log: address, two words, [time]")
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func addressAndTime(line []byte) (pipeline.Address, pipeline.Time, bool) {
	first, rest, _ := bytes.Cut(line, []byte{' '})
	_, rest, _ = bytes.Cut(rest, []byte{'['})
	stamp, _, ok := bytes.Cut(rest, []byte{']'})
	if !ok {
		return pipeline.Address{}, 0, false
	}
	t, err := time.Parse("02/Jan/2006:15:04:05 -0700", string(stamp))
	if err != nil {
		return pipeline.Address{}, 0, false
	}
	a, ok := pipeline.ParseAddress(string(first))
	return a, pipeline.TimeOf(t), ok
}
