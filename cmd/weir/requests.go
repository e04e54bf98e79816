package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"weir/console"
)

const requestsHelp = `Usage: weir requests [FILTER...] [flags]

The requests that weir has stored, newest first, as the console shows them.

  weir requests --principal ip:203.0.113.7 --since 2026-11-22T03:00:00Z
  weir requests --path /admin --status-code 403 --output json

FILTER:
  --alert ID              of the alert's client, in the alert's time
  --principal KIND:VALUE  ip:203.0.113.7, account:u_..., key:k_..., session:s_...
  --path PREFIX           how the path begins
  --status-code N         of the answer
  --since, --until T      RFC 3339
  --limit N               at most so many (default 100)
  --filter NAME=VALUE     any other parameter of GET /api/v1/requests; repeatable

Flags:
  --output text|json      one object a line
` + shellTargetHelp + `
Exit: 0 done; 1 failed; 2 usage.
`

func runRequests(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var to shellTarget
	var f alertFilters
	var path, output, alert string
	var status int
	fs := flag.NewFlagSet("requests", flag.ContinueOnError)
	to.add(fs.StringVar)
	for name, into := range map[string]*string{"principal": &f.principal, "since": &f.since, "until": &f.until, "path": &path, "alert": &alert} {
		fs.StringVar(into, name, "", "")
	}
	fs.StringVar(&output, "output", "text", "")
	fs.IntVar(&status, "status-code", 0, "")
	fs.IntVar(&f.limit, "limit", defaultLimit, "")
	fs.Var(&f.more, "filter", "")
	rest, code, done := parseFlags(fs, requestsHelp, args, stdout, stderr)
	if done {
		return code
	}
	if len(rest) > 0 || output != "text" && output != "json" {
		fmt.Fprintf(stderr, "weir requests: no arguments but flags; --output is text or json (weir requests --help)\n")
		return exitUsage
	}
	err := to.open(ctx, func(api *shellClient) error {
		if alert != "" {
			if err := f.ofAlert(api, alert); err != nil {
				return err
			}
		}
		q, err := f.query()
		if err != nil {
			return err
		}
		q.Set("limit", strconv.Itoa(f.limit))
		if path != "" {
			q.Set("path", path)
		}
		if status != 0 {
			q.Set("status", strconv.Itoa(status))
		}
		return listRequests(api, q, output, stdout, stderr)
	})
	if err != nil {
		fmt.Fprintf(stderr, "weir requests: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// ofAlert selects what an alert's client did in the alert's time, where the filters
// say nothing else.
func (f *alertFilters) ofAlert(api *shellClient, id string) error {
	_, a, err := (&alertsCommand{api: api}).alert(id)
	if err != nil {
		return fmt.Errorf("--alert %s: %w", id, err)
	}
	f.principal = cmp.Or(f.principal, a.Principal.Kind.String()+":"+a.Principal.Value)
	f.since = cmp.Or(f.since, a.Window.First.Std().Format(time.RFC3339Nano))
	f.until = cmp.Or(f.until, a.Window.Last.Add(time.Microsecond).Std().Format(time.RFC3339Nano))
	return nil
}

func listRequests(api *shellClient, q url.Values, output string, stdout, stderr io.Writer) error {
	var page struct {
		Data []json.RawMessage
		More bool
	}
	if err := api.ask(http.MethodGet, "/api/v1/requests?"+q.Encode(), nil, &page); err != nil {
		return err
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	if output == "text" && len(page.Data) > 0 {
		fmt.Fprintln(t, "TIME\tWHO\tFROM\tSTATUS\tBYTES\tREQUEST\tAGENT")
	}
	for _, line := range page.Data {
		if output == "json" {
			if _, err := fmt.Fprintf(stdout, "%s\n", line); err != nil {
				return err
			}
			continue
		}
		var r console.Request
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if r.Query != "" {
			r.Path += "?" + r.Query
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s %s\t%s\n", r.Time.Std().UTC().Format(time.RFC3339), printable(r.Principal.Kind.String()+":"+r.Principal.Value),
			cmp.Or(printable(r.IP), "-"), numberOr(r.Status), numberOr(r.Bytes), printable(r.Method), printable(r.Path), printable(r.Agent))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	switch {
	case len(page.Data) == 0:
		fmt.Fprintln(stderr, "no stored request is so")
	case page.More:
		fmt.Fprintln(stderr, "there are more; --limit, --since and --until choose others")
	}
	return nil
}

// numberOr is what is known of a number.
func numberOr[T int | int64](n *T) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}
