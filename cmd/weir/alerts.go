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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"weir/alerts"
	"weir/console"
	"weir/pipeline"
)

const alertsHelp = `Usage: weir alerts [list] [FILTER...] [flags]
       weir alerts show ID [flags]
       weir alerts set ID... CHANGE... [flags]
       weir alerts set --all --count N [FILTER...] CHANGE... [flags]
       weir alerts campaign ID [flags]
       weir alerts shadow [FILTER...] [flags]

Search and triage alerts as the console does, by the same API, with the same audit:
of a store's file, whether weir runs or not, or of a weir elsewhere.

  weir alerts --status open --severity high,critical
  weir alerts show 681081c5a65329e54204b0b8cdfe766a
  weir alerts set 681081c5a65329e54204b0b8cdfe766a --assign eva --comment "on it"
  weir alerts set 681081c5a65329e54204b0b8cdfe766a --verdict true_positive --tag case-4711
  weir alerts set --all --detector probe.path --count 500 --verdict benign_positive
  weir alerts shadow --detector scrape.crawl

list    the latest revision of each, the one that changed last first
show    one as text, with its triage and its revision
set     status, assignee, verdict (which closes it), tags, a comment. With --revision
        it is made to that revision of the triage only: when somebody else was faster
        it says who did what. --all takes every alert that the filters select, when
        they are as many as --count says
campaign  what it is, what happened when, and its alerts
shadow  cases of detectors in shadow mode: found and kept, and never told

FILTER:
  --severity S,S     info low medium high critical
  --detector NAME, --status open|resolved, --principal KIND:VALUE
  --since, --until T RFC 3339; the alert's window meets them
  --limit N          at most so many (default 100)
  --filter NAME=VALUE  any other parameter of GET /api/v1/alerts; repeatable

CHANGE:
  --status-to S      new, in_progress, closed
  --assign NAME      --assign "" for nobody
  --verdict V        true_positive, benign_positive, false_positive_logic,
                     false_positive_data, duplicate, undetermined, test
  --tag T, --untag T repeatable
  --comment TEXT
  --revision N       of the triage that it is made to

Flags:
  --output text|json one object a line
  --reveal REASON    of show: open the names of accounts, which the audit has
` + shellTargetHelp + `
Exit: 0 done; 1 failed, or not all of it; 2 usage.
`

// alertsCommand is one call of weir alerts.
type alertsCommand struct {
	to      shellTarget
	filters alertFilters
	change  triageFlags
	output  string
	reveal  string
	all     bool
	count   int

	stdout, stderr io.Writer
	api            *shellClient
}

// alertFilters are the parameters of a search.
type alertFilters struct {
	severity, detector, status, principal, since, until string
	limit                                               int
	more                                                listFlag
}

// triageFlags are a change of triage.
type triageFlags struct {
	status, assignee, verdict, comment *string
	tags, untags                       listFlag
	revision                           int64
}

// optional is a flag that tells "" from nothing.
func optional(fs *flag.FlagSet, into **string, name string) {
	fs.Func(name, "", func(s string) error {
		*into = &s
		return nil
	})
}

func runAlerts(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	c := &alertsCommand{stdout: stdout, stderr: stderr}
	fs := flag.NewFlagSet("alerts", flag.ContinueOnError)
	c.to.add(fs.StringVar)
	f := &c.filters
	for name, into := range map[string]*string{
		"severity": &f.severity, "detector": &f.detector, "status": &f.status, "principal": &f.principal, "since": &f.since, "until": &f.until, "reveal": &c.reveal,
	} {
		fs.StringVar(into, name, "", "")
	}
	fs.StringVar(&c.output, "output", "text", "")
	fs.IntVar(&f.limit, "limit", 0, "")
	fs.Var(&f.more, "filter", "")
	fs.BoolVar(&c.all, "all", false, "")
	fs.IntVar(&c.count, "count", -1, "")
	optional(fs, &c.change.status, "status-to")
	optional(fs, &c.change.assignee, "assign")
	optional(fs, &c.change.verdict, "verdict")
	optional(fs, &c.change.comment, "comment")
	fs.Var(&c.change.tags, "tag", "")
	fs.Var(&c.change.untags, "untag", "")
	fs.Int64Var(&c.change.revision, "revision", -1, "")
	rest, code, done := parseFlags(fs, alertsHelp, args, stdout, stderr)
	if done {
		return code
	}
	if len(rest) == 0 {
		rest = []string{"list"}
	}
	action, ids := rest[0], rest[1:]
	if problem := c.plausible(action, ids); problem != "" {
		fmt.Fprintf(stderr, "weir alerts: %s (weir alerts --help)\n", problem)
		return exitUsage
	}
	err := c.to.open(ctx, func(api *shellClient) error {
		c.api = api
		switch action {
		case "show":
			return c.show(ids[0])
		case "set":
			return c.set(ids)
		case "campaign":
			return c.campaign(ids[0])
		case "shadow":
			return c.shadow()
		}
		return c.list()
	})
	if err != nil {
		fmt.Fprintf(stderr, "weir alerts: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// plausible says what is wrong with how the command is called, "" for nothing.
func (c *alertsCommand) plausible(action string, ids []string) string {
	switch {
	case !slices.Contains([]string{"list", "show", "set", "campaign", "shadow"}, action):
		return fmt.Sprintf("no action %q: there are list, show, set, campaign and shadow", action)
	case c.output != "text" && c.output != "json":
		return "--output " + c.output + ": there are text and json"
	case (action == "show" || action == "campaign") && len(ids) != 1:
		return action + " takes one id"
	case (action == "list" || action == "shadow") && len(ids) > 0:
		return action + " takes no ids"
	case action == "set" && c.all == (len(ids) > 0):
		return "set takes ids, or --all with filters"
	case action == "set" && c.change.empty():
		return "set what? Give --assign, --status-to, --verdict, --tag, --untag or --comment"
	case action != "set" && (!c.change.empty() || c.all):
		return "only set changes something"
	case c.change.revision >= 0 && len(ids) != 1:
		return "--revision is of one alert"
	}
	return ""
}

func (t *triageFlags) empty() bool {
	return t.status == nil && t.assignee == nil && t.verdict == nil && t.comment == nil && len(t.tags)+len(t.untags) == 0
}

// body is the change as the API takes it. A verdict closes.
func (t *triageFlags) body() map[string]any {
	b := map[string]any{}
	if t.status != nil {
		b["status"] = *t.status
	} else if t.verdict != nil && *t.verdict != "" {
		b["status"] = "closed"
	}
	if t.assignee != nil {
		b["assignee"] = *t.assignee
	}
	if t.verdict != nil {
		b["verdict"] = *t.verdict
	}
	if t.comment != nil {
		b["comment"] = *t.comment
	}
	if len(t.tags) > 0 {
		b["add_tags"] = []string(t.tags)
	}
	if len(t.untags) > 0 {
		b["remove_tags"] = []string(t.untags)
	}
	return b
}

// query is the search as the API takes it, without its limit.
func (f *alertFilters) query() (url.Values, error) {
	q := url.Values{}
	for name, value := range map[string]string{
		"severity": f.severity, "detector": f.detector, "status": f.status, "principal": f.principal, "since": f.since, "until": f.until,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for _, s := range f.more {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--filter %s: want NAME=VALUE", s)
		}
		q.Add(name, value)
	}
	return q, nil
}

// alertPage is an answer of the API with alerts.
type alertPage struct {
	Data   []json.RawMessage
	More   bool
	Before *int64
}

// maxSet bounds how many alerts one call changes, pageSize is how many come at a
// time.
const maxSet, pageSize = 10_000, 500

// each calls f for the alerts that the filters select, at most most.
func (c *alertsCommand) each(most int, f func(line []byte, a *pipeline.Alert) error) error {
	q, err := c.filters.query()
	if err != nil {
		return err
	}
	for most > 0 {
		q.Set("limit", strconv.Itoa(min(most, pageSize)))
		var page alertPage
		if err := c.api.ask(http.MethodGet, "/api/v1/alerts?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, line := range page.Data {
			var a pipeline.Alert
			if err := json.Unmarshal(line, &a); err != nil {
				return fmt.Errorf("read an alert: %w", err)
			}
			if err := f(line, &a); err != nil {
				return err
			}
			most--
		}
		if !page.More || page.Before == nil || len(page.Data) == 0 {
			return nil
		}
		q.Set("before", strconv.FormatInt(*page.Before, 10))
	}
	return nil
}

const defaultLimit = 100

func (c *alertsCommand) list() error {
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	n := 0
	err := c.each(cmp.Or(c.filters.limit, defaultLimit), func(line []byte, a *pipeline.Alert) error {
		if c.output == "json" {
			_, err := fmt.Fprintf(c.stdout, "%s\n", line)
			return err
		}
		if n++; n == 1 {
			fmt.Fprintln(t, "SEVERITY\tSTATUS\tTRIAGE\tLAST\tDETECTOR\tID\tTITLE")
		}
		severity := strings.ToUpper(printable(a.Severity))
		if _, silent := a.Silent(); silent {
			severity += " (suppressed)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", severity, printable(a.Status), triageText(a.Envelope.Triage), dateOf(a.Window.Last, "-"),
			printable(a.Detector), printable(a.ID), printable(a.Title))
		return nil
	})
	if err == nil {
		err = t.Flush()
	}
	if err == nil && n == 0 && c.output == "text" {
		fmt.Fprintln(c.stderr, "no alert is so")
	}
	return err
}

// triageOf reads what an alert's envelope says of its triage.
func triageOf(m map[string]any) (t console.Triage) {
	body, err := json.Marshal(m)
	if err == nil {
		_ = json.Unmarshal(body, &t) // what cannot be read is as nobody had looked
	}
	return t
}

// triageText is where an alert is with people, in a word or two.
func triageText(m map[string]any) string {
	t := triageOf(m)
	s := cmp.Or(t.Verdict, t.Status, "new")
	if t.Assignee != "" {
		s += " " + t.Assignee
	}
	return printable(s)
}

// shadow lists what detectors in shadow mode found.
func (c *alertsCommand) shadow() error {
	q, err := c.filters.query()
	if err != nil {
		return err
	}
	q.Set("limit", strconv.Itoa(cmp.Or(c.filters.limit, defaultLimit)))
	var page struct {
		Data []json.RawMessage
		More bool
	}
	if err := c.api.ask(http.MethodGet, "/api/v1/shadow?"+q.Encode(), nil, &page); err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	if c.output == "text" && len(page.Data) > 0 {
		fmt.Fprintln(t, "TIER\tLAST\tDETECTOR\tNATS\tID\tTITLE")
	}
	for _, line := range page.Data {
		if c.output == "json" {
			if _, err := fmt.Fprintf(c.stdout, "%s\n", line); err != nil {
				return err
			}
			continue
		}
		var s console.ShadowCase
		if err := json.Unmarshal(line, &s); err != nil {
			return fmt.Errorf("read a case: %w", err)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.1f\t%s\t%s\n", printable(s.Tier), dateOf(s.Last, "-"), printable(s.Detector), s.Score, printable(s.ID), printable(s.Title))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	switch {
	case len(page.Data) == 0:
		fmt.Fprintln(c.stderr, "no detector in shadow mode has such a case")
	case page.More:
		fmt.Fprintln(c.stderr, "there are more; --limit, --since and --until choose others")
	}
	return nil
}

func (c *alertsCommand) alert(id string) (line []byte, a *pipeline.Alert, err error) {
	var page alertPage
	if err := c.api.ask(http.MethodGet, "/api/v1/alerts/"+url.PathEscape(id), nil, &page); err != nil {
		return nil, nil, err
	}
	if len(page.Data) == 0 {
		return nil, nil, fmt.Errorf("no alert has the id %s", printable(id))
	}
	line = page.Data[len(page.Data)-1]
	a = new(pipeline.Alert)
	if err := json.Unmarshal(line, a); err != nil {
		return nil, nil, fmt.Errorf("read the alert: %w", err)
	}
	return line, a, nil
}

func (c *alertsCommand) show(id string) error {
	line, a, err := c.alert(id)
	if err != nil {
		return err
	}
	if c.reveal != "" {
		if line, err = c.revealed(line, a.ID); err != nil {
			return err
		}
		if err := json.Unmarshal(line, a); err != nil {
			return fmt.Errorf("read the alert: %w", err)
		}
	}
	if c.output == "json" {
		_, err := fmt.Fprintf(c.stdout, "%s\n", line)
		return err
	}
	if err := alerts.Text(c.stdout, a, alerts.TextOptions{Stored: true, Verbose: true, Color: isTerminal(c.stdout)}); err != nil {
		return err
	}
	if hidden := alerts.Hidden(a); hidden != "" {
		fmt.Fprintf(c.stdout, "  silent    %s\n", hidden)
	}
	fmt.Fprintf(c.stdout, "  triage    %s\n", triageLine(triageOf(a.Envelope.Triage)))
	for _, said := range triageOf(a.Envelope.Triage).Comments {
		fmt.Fprintf(c.stdout, "            %s %s: %s\n", dateOf(said.Time, "-"), printable(said.Who), printable(said.Text))
	}
	for _, e := range a.Exemplars {
		fmt.Fprintf(c.stdout, "  request   %s %s %s %s %d\n", e.Time.Std().Format(time.RFC3339), e.IP, printable(e.Method), printable(e.Path), e.Status)
	}
	return nil
}

// triageLine is a triage with its revision.
func triageLine(t console.Triage) string {
	if t.Revision == 0 {
		return "new (revision 0): nobody has looked at it"
	}
	s := cmp.Or(t.Status, "new")
	if t.Verdict != "" {
		s += ", " + t.Verdict
	}
	if t.Assignee != "" {
		s += ", assigned to " + t.Assignee
	}
	if len(t.Tags) > 0 {
		s += ", tags " + strings.Join(t.Tags, " ")
	}
	return printable(fmt.Sprintf("%s (revision %d, by %s at %s)", s, t.Revision, t.Who, dateOf(t.Time, "-")))
}

var accountTokens = regexp.MustCompile(`u_[A-Za-z0-9_-]+`)

// maxRevealed is how many names one question opens.
const maxRevealed = 200

// revealed is an alert's JSON with the names of accounts, which are asked for with
// a reason.
func (c *alertsCommand) revealed(line []byte, id string) ([]byte, error) {
	tokens := accountTokens.FindAllString(string(line), -1)
	slices.Sort(tokens)
	tokens = slices.Compact(tokens)
	names := map[string]string{}
	for part := range slices.Chunk(tokens, maxRevealed) {
		var got struct {
			Data []struct {
				Token string
				Name  *string
			}
		}
		if err := c.api.ask(http.MethodPost, "/api/v1/reveal", map[string]any{"tokens": part, "reason": c.reveal, "alert": id}, &got); err != nil {
			return nil, fmt.Errorf("--reveal: %w", err)
		}
		for _, d := range got.Data {
			if d.Name != nil {
				quoted, err := json.Marshal(*d.Name)
				if err != nil {
					return nil, err
				}
				names[d.Token] = string(quoted[1 : len(quoted)-1])
			}
		}
	}
	return accountTokens.ReplaceAllFunc(line, func(t []byte) []byte {
		if name, ok := names[string(t)]; ok {
			return []byte(name)
		}
		return t
	}), nil
}
