// Command weir watches API traffic and names the clients that abuse it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the build (-ldflags -X main.version=...).
var version = "dev" //nolint:gochecknoglobals // the linker writes it

// Exit codes, as the outside relies on them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitFound  = 3 // --fail-on met
)

// command is one subcommand: a file of this package each.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int
}

func commands() []command {
	return []command{
		{"analyze", "look through log files once and print the alerts", runAnalyze},
		{"run", "follow logs, detect, store, alert, serve: everything in one process", runService},
		{"explain", "say how a line is read, why an alert fired, why one did not", runExplain},
		{"backtest", "what another configuration would change: alerts gained, lost, moved", runBacktest},
		{"verify", "recompute an alert from its input, bit for bit", runVerify},
		{"evaluate", "score alerts against labelled episodes", runEvaluate},
		{"eval", "measure detection on simulated traffic and write a report", runEval},
		{"simulate", "make traffic with ground truth: harmless clients and attacks", runSimulate},
		{"config", "show, try and apply the configuration of a weir that runs", runConfig},
		{"suppress", "keep alerts from waking people, for a while and for a reason", runSuppress},
		{"alerts", "search and triage alerts: filters, assignment, verdicts, in bulk", runAlerts},
		{"requests", "search the stored requests", runRequests},
		{"sink", "test sinks, list and replay what they did not take", runSink},
		{"init", "look at a log and write a commented weir.yaml", runInit},
		{"token", "make, list and revoke API tokens", runToken},
		{"user", "make, list and change who signs in to the console", runUser},
		{"audit", "verify or print who did what with weir", runAudit},
		{"migrate", "bring the schema of ClickHouse up to date", runMigrate},
		{"healthy", "ask a running weir whether it works, for health checks", runHealthy},
		{"check", "validate a configuration, every problem at once", runCheck},
		{"version", "print the version", runVersion},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	switch args[0] {
	case "-h", "--help", "help":
		usage(stdout)
		return exitOK
	case "--version":
		return runVersion(ctx, nil, stdin, stdout, stderr)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], stdin, stdout, stderr)
		}
	}
	if list, ok := rolesOf(args[0]); ok {
		return runRoles(ctx, args[0], list, args[1:], stdin, stdout, stderr)
	}
	fmt.Fprintf(stderr, "weir: no command %q\n\n", args[0])
	usage(stderr)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, `weir watches API traffic and names the clients that abuse it.

Usage:

  weir <command> [flags] [arguments]

Commands:

`)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	for _, r := range roles() {
		fmt.Fprintf(w, "  %-10s %s\n", r.name, r.summary)
	}
	fmt.Fprint(w, `
Start with a log that you have:

  weir analyze /var/log/nginx/access.log

"weir <command> --help" tells more.
`)
}

func runVersion(_ context.Context, _ []string, _ io.Reader, stdout, _ io.Writer) int {
	fmt.Fprintf(stdout, "weir %s\n", version)
	return exitOK
}

// parseFlags parses args; done is true when the command is over with code.
func parseFlags(fs *flag.FlagSet, help string, args []string, stdout, stderr io.Writer) (rest []string, code int, done bool) {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	// Flags may stand behind the inputs, as people type them.
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, help)
			return nil, exitOK, true
		}
		if err != nil {
			fmt.Fprintf(stderr, "weir %s: %v\n\n%s", fs.Name(), err, help)
			return nil, exitUsage, true
		}
		args = fs.Args()
		if len(args) == 0 {
			return rest, 0, false
		}
		rest = append(rest, args[0])
		args = args[1:]
	}
}

// listFlag is a flag that may be given several times.
type listFlag []string

func (l *listFlag) String() string     { return fmt.Sprint(*l) }
func (l *listFlag) Set(s string) error { *l = append(*l, s); return nil }
