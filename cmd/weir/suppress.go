package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"weir/alerts"
	"weir/pipeline"
)

const suppressHelp = `Usage: weir suppress add MATCH... --reason TEXT [--for 24h] [flags]
       weir suppress preview MATCH... [--days 7]
       weir suppress list [flags]
       weir suppress end ID [flags]

Keeps alerts from waking people, for a while and for a reason. They are still
found, stored and shown; what is covered teaches nothing meanwhile and counts for
nothing afterwards. A first success pierces it, and so does ten times as much as was
known, but in a maintenance. preview says what it would have hidden lately.

  weir suppress add --alert 681081c5a65329e5 --reason "their exporter is broken"
  weir suppress add --maintenance --address 192.0.2.0/28 --for 4h --reason "load test, ticket 4711"

MATCH, at least one but in a maintenance:
  --alert ID             what is the smallest that would have covered this alert; others add to it
  --detector NAME        auth.stuffing, or a family: auth
  --principal KIND:VALUE ip:203.0.113.7, account:NAME, key:KEY ...
  --endpoint "M /PATH"   a method and a template, as alerts have it
  --address NETWORK      where requests come from
  --account NAME, --key KEY, --client NAME (of identity.known_clients)
  --label KEY=VALUE      repeatable
  --level LEVEL          client, account, key, cohort, endpoint, campaign

Flags:
  -c FILE            configuration: where the store is
  --store FILE       the store (default weir.db), also while weir runs
  --url URL          a running weir instead, with --token-file
  --token-file FILE  a token of an analyst or an engineer
  --for HOW-LONG     like 90m, 24h (the default) or 7d
  --until TIME       in place of --for, like 2026-12-31T06:00:00Z
  --from TIME        when it begins (default now)
  --maintenance      announced: only a success pierces it
  --reason TEXT      why; who reads it later must understand it
  --days N           of preview: how far back (default 7)
  --output text|json one object a line

Exit: 0 done; 1 failed; 2 usage.
`

// suppressCommand is one call of weir suppress.
type suppressCommand struct {
	config, store, url, tokenFile        string
	alert, detector, principal, endpoint string
	address, account, key, client, level string
	long, until, from, reason            string
	labels                               listFlag
	maintenance                          bool
	days                                 int
	output                               string
	stdout, stderr                       io.Writer
	ask                                  func(method, path string, body any, into any) error
}

func runSuppress(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	c := &suppressCommand{stdout: stdout, stderr: stderr}
	fs := flag.NewFlagSet("suppress", flag.ContinueOnError)
	for name, into := range map[string]*string{
		"c": &c.config, "store": &c.store, "url": &c.url, "token-file": &c.tokenFile, "alert": &c.alert, "detector": &c.detector, "principal": &c.principal,
		"endpoint": &c.endpoint, "address": &c.address, "account": &c.account, "key": &c.key, "client": &c.client, "level": &c.level,
		"for": &c.long, "until": &c.until, "from": &c.from, "reason": &c.reason,
	} {
		fs.StringVar(into, name, "", "")
	}
	fs.Var(&c.labels, "label", "")
	fs.BoolVar(&c.maintenance, "maintenance", false, "")
	fs.IntVar(&c.days, "days", 0, "")
	fs.StringVar(&c.output, "output", "text", "")
	rest, code, done := parseFlags(fs, suppressHelp, args, stdout, stderr)
	if done {
		return code
	}
	if c.output != "text" && c.output != "json" {
		fmt.Fprintf(stderr, "weir suppress: --output %s: there are text and json\n", c.output)
		return exitUsage
	}
	if len(rest) == 0 || len(rest) != map[string]int{"add": 1, "preview": 1, "list": 1, "end": 2}[rest[0]] {
		fmt.Fprint(stderr, suppressHelp)
		return exitUsage
	}
	err := c.open(ctx, func() error {
		switch rest[0] {
		case "add":
			return c.add()
		case "preview":
			return c.preview()
		case "end":
			return c.end(rest[1])
		}
		return c.list()
	})
	if err != nil {
		fmt.Fprintf(stderr, "weir suppress %s: %v\n", rest[0], err)
		return exitFailed
	}
	return exitOK
}

// open gives do a way to ask: a running weir, or the API over the store's file.
func (c *suppressCommand) open(ctx context.Context, do func() error) error {
	to := shellTarget{config: c.config, store: c.store, url: c.url, tokenFile: c.tokenFile}
	return to.open(ctx, func(api *shellClient) error {
		c.ask = api.ask
		return do()
	})
}

// asked is ask, whose answer is printed as it is where programs want it: done says so.
func (c *suppressCommand) asked(method, path string, body, into any) (done bool, err error) {
	if c.output != "json" {
		return false, c.ask(method, path, body, into)
	}
	var answer json.RawMessage
	if err := c.ask(method, path, body, &answer); err != nil {
		return true, err
	}
	return true, jsonLinesTo(c.stdout, []json.RawMessage{answer})
}

// jsonLinesTo writes one object a line.
func jsonLinesTo(w io.Writer, list []json.RawMessage) error {
	var out bytes.Buffer
	for _, line := range list {
		if err := json.Compact(&out, line); err != nil {
			return err
		}
		out.WriteByte('\n')
	}
	_, err := w.Write(out.Bytes())
	return err
}

// suppressed is a suppression as the API answers it.
type suppressed struct {
	ID, State, Author, Reason, Source, Alert string
	Maintenance                              bool
	Starts, Expires                          pipeline.Time
	Ended                                    *pipeline.Time
	Hidden                                   int64
	Match                                    map[string]any
}

// body is what the flags ask for.
func (c *suppressCommand) body() (map[string]any, error) {
	match := map[string]any{}
	if c.alert != "" {
		var a struct {
			Proposed struct{ Match map[string]any } `json:"proposed_suppression"`
		}
		if err := c.ask(http.MethodGet, "/api/v1/alerts/"+url.PathEscape(c.alert), nil, &a); err != nil {
			return nil, fmt.Errorf("--alert %s: %w", c.alert, err)
		}
		match = a.Proposed.Match
	}
	for name, value := range map[string]string{
		"detector": c.detector, "level": c.level, "address": c.address, "account": c.account, "key": c.key, "client": c.client,
	} {
		if value != "" {
			match[name] = value
		}
	}
	if c.principal != "" {
		match["principal"] = alerts.ReadPrincipal(c.principal)
	}
	if c.endpoint != "" {
		method, template, ok := strings.Cut(c.endpoint, " ")
		if !ok {
			method, template = "", method
		}
		match["endpoint"] = map[string]string{"method": method, "template": template}
	}
	if len(c.labels) > 0 {
		labels := map[string]string{}
		for _, l := range c.labels {
			k, v, ok := strings.Cut(l, "=")
			if !ok {
				return nil, fmt.Errorf("--label %s: want KEY=VALUE", l)
			}
			labels[k] = v
		}
		match["labels"] = labels
	}
	body := map[string]any{"match": match, "reason": c.reason, "maintenance": c.maintenance}
	for name, value := range map[string]string{"for": c.long, "expires": c.until, "starts": c.from, "alert": c.alert} {
		if value != "" {
			body[name] = value
		}
	}
	if c.days != 0 {
		body["days"] = c.days
	}
	return body, nil
}

func (c *suppressCommand) add() error {
	body, err := c.body()
	if err != nil {
		return err
	}
	var s suppressed
	if done, err := c.asked(http.MethodPost, "/api/v1/suppressions", body, &s); done || err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%s until %s\n", matchText(s.Match), dateOf(s.Expires, ""))
	fmt.Fprintln(c.stdout, s.ID)
	return nil
}

func (c *suppressCommand) end(id string) error {
	var s suppressed
	if done, err := c.asked(http.MethodDelete, "/api/v1/suppressions/"+url.PathEscape(id), nil, &s); done || err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%s ended; it kept %d alerts from sinks\n", printable(s.ID), s.Hidden)
	return nil
}

func (c *suppressCommand) preview() error {
	body, err := c.body()
	if err != nil {
		return err
	}
	var p struct {
		Alerts, Pages, Succeeded, Days int
		Truncated                      bool
		Sample                         []struct{ ID, Title, Severity string }
	}
	if done, err := c.asked(http.MethodPost, "/api/v1/suppressions/preview", body, &p); done || err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "in %d days: %d alerts, %d of them high or critical, %d with a success\n", p.Days, p.Alerts, p.Pages, p.Succeeded)
	for _, a := range p.Sample {
		fmt.Fprintf(c.stdout, "  %-8s %s  %s\n", printable(a.Severity), printable(a.ID), printable(a.Title))
	}
	if p.Truncated {
		fmt.Fprintln(c.stdout, "there were more alerts than are looked at")
	}
	return nil
}

func (c *suppressCommand) list() error {
	if c.output == "json" {
		var l struct{ Data []json.RawMessage }
		err := c.ask(http.MethodGet, "/api/v1/suppressions", nil, &l)
		return errors.Join(err, jsonLinesTo(c.stdout, l.Data))
	}
	var l struct{ Data []suppressed }
	if err := c.ask(http.MethodGet, "/api/v1/suppressions", nil, &l); err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tFROM\tUNTIL\tHIDDEN\tBY\tMATCH\tREASON")
	for _, s := range l.Data {
		until := s.Expires
		if s.Ended != nil {
			until = *s.Ended
		}
		state := s.State
		if s.Maintenance {
			state += " maintenance"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", printable(s.ID), state, dateOf(s.Starts, "-"), dateOf(until, "-"), s.Hidden, printable(s.Author), matchText(s.Match), printable(s.Reason))
	}
	return t.Flush()
}

// matchText is a match on one line.
func matchText(m map[string]any) string {
	var parts []string
	text := func(v any) string { s, _ := v.(string); return s }
	for _, name := range []string{"detector", "level", "address", "account", "key", "client"} {
		if s := text(m[name]); s != "" {
			parts = append(parts, name+" "+s)
		}
	}
	if p, _ := m["principal"].(map[string]any); text(p["value"]) != "" {
		parts = append(parts, text(p["kind"])+":"+text(p["value"]))
	}
	if e, _ := m["endpoint"].(map[string]any); text(e["method"])+text(e["host"])+text(e["template"]) != "" {
		parts = append(parts, strings.TrimSpace(text(e["method"])+" "+text(e["host"])+text(e["template"])))
	}
	labels, _ := m["labels"].(map[string]any)
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+text(labels[k]))
	}
	if len(parts) == 0 {
		return "everything"
	}
	return printable(strings.Join(parts, ", "))
}
