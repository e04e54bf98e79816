// Thresholds plays fixed "N in M seconds" rules, the kind most tools ship, over
// a combined access log and writes what they would have raised as weir alerts,
// one JSON object a line. Scored with the same labels they stand beside weir's
// own alerts:
//
//	go run ./bench/thresholds access.log.gz > fixed.ndjson
//	weir evaluate --labels labels.ndjson --alerts fixed.ndjson access.log.gz
//
// The rules are leaky buckets and one distinct count, one bucket an address
// (IPv6 by /64). The file is held in memory and sorted by time first.
package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"weir/bench/fixed"
)

// maxLog bounds what is held in memory.
const maxLog = 8 << 30

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "thresholds:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("thresholds", flag.ContinueOnError)
	fs.SetOutput(stderr)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return errors.New("usage: thresholds LOG")
	}
	data, err := readLog(fs.Arg(0))
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	var events []fixed.Event
	rejected := 0
	for line := range bytes.Lines(data) {
		var e fixed.Event
		if !parseLine(&e, bytes.TrimRight(line, "\r\n")) {
			rejected++
			continue
		}
		events = append(events, e)
	}
	if len(events) == 0 {
		return fmt.Errorf("none of %d lines is in combined or common format", rejected)
	}
	slices.SortStableFunc(events, func(a, b fixed.Event) int { return cmp.Compare(a.Time, b.Time) })
	watch := fixed.New()
	for i := range events {
		watch.Observe(&events[i])
	}
	enc := json.NewEncoder(stdout)
	enc.SetEscapeHTML(false)
	raised := watch.Finish()
	for _, a := range raised {
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("write alert: %w", err)
		}
	}
	_, err = fmt.Fprintf(stderr, "%d lines, %d rejected, %d alerts\n", len(events)+rejected, rejected, len(raised))
	return err
}

func readLog(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(r, maxLog+1))
	if err == nil && len(data) > maxLog {
		err = fmt.Errorf("larger than %d bytes", maxLog)
	}
	return data, err
}
