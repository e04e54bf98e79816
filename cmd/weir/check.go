package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"

	"weir/pipeline"
)

const checkHelp = `Usage: weir check -c FILE
       weir check --print-defaults

Validates a configuration and prints every problem at once, each with its place.

Exit: 0 it is good; 1 it is not; 2 usage.
`

func runCheck(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var path string
	var defaults bool
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	fs.StringVar(&path, "c", "", "")
	fs.BoolVar(&defaults, "print-defaults", false, "")
	rest, code, done := parseFlags(fs, checkHelp, args, stdout, stderr)
	if done {
		return code
	}
	if defaults {
		out, err := yaml.Dump(defaultConfig())
		if err != nil {
			fmt.Fprintf(stderr, "weir check: %v\n", err)
			return exitFailed
		}
		_, _ = stdout.Write(out)
		return exitOK
	}
	if path == "" && len(rest) == 1 {
		path = rest[0]
	}
	if path == "" || len(rest) > 1 {
		fmt.Fprint(stderr, checkHelp)
		return exitUsage
	}
	c, err := loadConfig(path)
	if err != nil {
		fmt.Fprintf(stderr, "weir check: %v\n", err)
		return exitFailed
	}
	context, err := pipeline.LoadContext(c.Context)
	if err != nil {
		fmt.Fprintf(stderr, "weir check: configuration %s:\n%v\n", path, err)
		return exitFailed
	}
	for _, w := range context.Notes() {
		fmt.Fprintf(stderr, "warning: %s\n", w)
	}
	fmt.Fprintf(stdout, "%s: good; %d sources, %d sinks\n", path, len(c.Collect), len(c.Alerts.Sinks))
	return exitOK
}
