// Gen writes a made-up access log in nginx's combined format, or as JSON, the same for the
// same flags on every machine: visitors with their pages and assets, and a few
// attackers. It can write the ground truth beside it.
//
//	go run ./bench/gen -lines 2000000 -clients 50000 -seed 1 -o access.log
package main

import (
	"bufio"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("gen", flag.ContinueOnError)
	fs.SetOutput(stderr)
	p := Plan{}
	fs.IntVar(&p.Lines, "lines", 100_000, "lines to write")
	fs.IntVar(&p.Clients, "clients", 5_000, "ordinary visitors to draw from (Zipf)")
	fs.IntVar(&p.Distinct, "distinct-addresses", 0, "spread single requests over so many further addresses")
	fs.IntVar(&p.Attackers, "attackers", 4, "attackers: a scanner, a login loop, a crawler, an id walk, and again")
	fs.Uint64Var(&p.Seed, "seed", 1, "seed")
	fs.DurationVar(&p.Span, "span", 24*time.Hour, "event time from first to last line, roughly")
	fs.BoolVar(&p.JSON, "json", false, "write JSON objects instead of combined lines")
	start := fs.String("start", "2026-03-02T06:00:00Z", "time of the first line")
	out := fs.String("o", "", "file to write (.gz compresses); standard output when empty")
	labels := fs.String("labels", "", "write the ground truth to this file")
	if err := fs.Parse(args); err != nil {
		return err
	}
	t, err := time.Parse(time.RFC3339, *start)
	if err != nil {
		return fmt.Errorf("parse -start: %w", err)
	}
	p.Start = t.UTC()
	if err := p.validate(); err != nil {
		return err
	}
	g := newGenerator(p)
	if err := writeLog(*out, stdout, g); err != nil {
		return err
	}
	if *labels == "" {
		return nil
	}
	f, err := os.Create(*labels)
	if err != nil {
		return fmt.Errorf("create labels: %w", err)
	}
	if err := errors.Join(g.WriteLabels(f), f.Close()); err != nil {
		return fmt.Errorf("write labels: %w", err)
	}
	return nil
}

func writeLog(path string, stdout io.Writer, g *generator) error {
	if path == "" {
		return g.WriteLog(stdout)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	if !strings.HasSuffix(path, ".gz") {
		err = g.WriteLog(f)
	} else {
		var z *gzip.Writer
		if z, err = gzip.NewWriterLevel(f, gzip.BestCompression); err == nil {
			b := bufio.NewWriterSize(z, 1<<20)
			err = errors.Join(g.WriteLog(b), b.Flush(), z.Close())
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
