package main

import (
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"weir/bench/simulate"
	"weir/collector"
)

const simulateHelp = `Usage: weir simulate [flags] --out FILE --labels FILE

Writes an access log of made-up traffic, and the truth about it: which clients
are harmless, and as what, and which are attackers, doing what and with which
success. Nothing is sent to anybody. The same scenario and seed give the same
bytes.

  weir simulate --list
  weir simulate --scenario shop-attacks --out access.json.gz --labels truth.ndjson
  weir analyze --labels truth.ndjson access.json.gz

To see what weir makes of an attack on your own kind of traffic, write a
scenario:

  site: {kind: saas, login: size}     # a failed login answers 200
  days: 2
  clients: 500
  benign:
    - {profile: people}
    - {profile: office-nat, count: 80}
  attacks:
    - type: auth.stuffing
      variant: diffuse                # sources look like people at home
      sources: 50
      rate: 3/h                       # of each source: 2/s, 30/m, 5/h, 1/d
      start: 9h
      duration: 1d
      evade: {jitter: 0.5, agents: true, diurnal: true}

Flags:
  --scenario NAME|FILE  a built-in scenario (shop-attacks by default) or a YAML file
  --seed N              another seed, other traffic of the same kind (1)
  --clients N           resize the crowds of the scenario to N people
  --format FORMAT       json (default): nginx's names, with accounts, keys,
                        sessions and fingerprints; or combined: without them
  --out FILE            the log; .gz compresses; - is standard output
  --labels FILE         the truth, NDJSON as weir analyze --labels reads it
  --list                name the scenarios, profiles and attacks
  --quiet               no progress, no summary

Exit: 0 ran; 1 failed; 2 usage.
`

type simulateOptions struct {
	scenario, format, out, labels string
	seed                          uint64
	clients                       int
	list, quiet                   bool
}

// runSimulate is `weir simulate`. It returns the exit code.
func runSimulate(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var o simulateOptions
	fs := flag.NewFlagSet("simulate", flag.ContinueOnError)
	fs.StringVar(&o.scenario, "scenario", "shop-attacks", "")
	fs.Uint64Var(&o.seed, "seed", 1, "")
	fs.IntVar(&o.clients, "clients", 0, "")
	fs.StringVar(&o.format, "format", "json", "")
	fs.StringVar(&o.out, "out", "", "")
	fs.StringVar(&o.labels, "labels", "", "")
	fs.BoolVar(&o.list, "list", false, "")
	fs.BoolVar(&o.quiet, "quiet", false, "")
	rest, code, done := parseFlags(fs, simulateHelp, args, stdout, stderr)
	if done {
		return code
	}
	usage := func(format string, a ...any) int {
		fmt.Fprintf(stderr, "weir simulate: "+format+"\n", a...)
		return exitUsage
	}
	switch {
	case len(rest) > 0:
		return usage("%q: a scenario is given with --scenario, files with --out and --labels", rest[0])
	case o.list:
		listSimulations(stdout)
		return exitOK
	case !slices.Contains(simulate.Formats(), o.format):
		return usage("--format %s: there are %s", o.format, strings.Join(simulate.Formats(), " and "))
	case o.out == "":
		return usage("--out FILE is needed: where to write the log (weir simulate --help)")
	case o.labels == o.out:
		return usage("--out and --labels name the same file")
	case o.clients < 0 || o.clients > 1<<18:
		return usage("--clients %d: want 1 to %d", o.clients, 1<<18)
	}
	if err := simulateFiles(ctx, &o, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "weir simulate:", err)
		return exitFailed
	}
	return exitOK
}

func listSimulations(w io.Writer) {
	fmt.Fprintln(w, "Scenarios (--scenario):")
	for _, name := range simulate.Builtins() {
		s, _ := simulate.Builtin(name)
		fmt.Fprintf(w, "  %-16s %s\n", name, s.About)
	}
	fmt.Fprintln(w, "\nSites (site.kind): "+strings.Join(simulate.Sites(), " "))
	fmt.Fprintln(w, "\nHarmless clients (benign[].profile):")
	for _, p := range simulate.Profiles() {
		fmt.Fprintf(w, "  %-16s %s\n", p.Name, p.About)
	}
	fmt.Fprintln(w, "\nAttacks (attacks[].type), and their variants:")
	for _, a := range simulate.Attacks() {
		if _, v, ok := strings.Cut(a.Name, "/"); ok {
			fmt.Fprintf(w, "    %-14s %s\n", v, a.About)
		} else {
			fmt.Fprintf(w, "  %-16s %s\n", a.Name, a.About)
		}
	}
}

// simulationScenario finds a scenario: a file where there is one or where the
// name looks like one, else a built-in.
func simulationScenario(name string) (*simulate.Scenario, error) {
	if s, ok := simulate.Builtin(name); ok {
		return s, nil
	}
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(name, "./\\") {
		return nil, fmt.Errorf("no file and no built-in scenario is named %q; there are %s", name, strings.Join(simulate.Builtins(), " "))
	}
	if err != nil {
		return nil, fmt.Errorf("open scenario: %w", err)
	}
	defer f.Close()
	s, err := simulate.Load(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

func simulateFiles(ctx context.Context, o *simulateOptions, stdout, stderr io.Writer) error {
	s, err := simulationScenario(o.scenario)
	if err != nil {
		return err
	}
	if o.clients > 0 {
		s.Resize(o.clients)
	}
	start := time.Now()
	var labels []simulate.Label
	lines := int64(0)
	err = createFile(o.out, stdout, func(w io.Writer) error {
		out, err := simulate.NewWriter(w, o.format)
		if err != nil {
			return err
		}
		bar := newProgress(stderr, o.quiet)
		defer bar.end()
		begin := s.Start
		labels, err = s.Run(o.seed, func(e *simulate.Event) error {
			if lines++; lines%1024 == 0 {
				if err := ctx.Err(); err != nil {
					return err
				}
				if begin.IsZero() {
					begin = e.Time
				}
				bar.update("simulate", collector.FileStats{Size: int64(s.Length), Raw: int64(max(0, e.Time.Sub(begin))), Lines: lines})
			}
			return out.Write(e)
		})
		if err != nil {
			return err
		}
		return out.Flush()
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", o.out, err)
	}
	if o.labels != "" {
		if err := createFile(o.labels, stdout, func(w io.Writer) error { return simulate.WriteLabels(w, labels) }); err != nil {
			return fmt.Errorf("write %s: %w", o.labels, err)
		}
	}
	if !o.quiet {
		episodes := 0
		for i := range labels {
			if labels[i].Episode != "" {
				episodes++
			}
		}
		took := time.Since(start).Seconds()
		fmt.Fprintf(stderr, "%d requests, %d harmless groups, %d attacks in %.1f s (%.0f requests/s)\n",
			lines, len(labels)-episodes, episodes, took, float64(lines)/max(took, .001))
		if o.labels == "" {
			fmt.Fprintln(stderr, "The truth was not written; --labels FILE writes it.")
		} else if o.out != "-" && o.labels != "-" {
			fmt.Fprintf(stderr, "Next: weir analyze --labels %s %s\n", o.labels, o.out)
		}
	}
	return nil
}

// createFile writes the file at path with f: compressed where the name ends in
// .gz, to stdout where it is "-".
func createFile(path string, stdout io.Writer, f func(io.Writer) error) error {
	if path == "-" {
		return f(stdout)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var w io.Writer = file
	var z *gzip.Writer
	if strings.HasSuffix(path, ".gz") {
		z = gzip.NewWriter(file)
		w = z
	}
	if err := f(w); err != nil {
		return err
	}
	if z != nil {
		if err := z.Close(); err != nil {
			return err
		}
	}
	return file.Close()
}
