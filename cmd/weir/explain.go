package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weir/alerts"
	"weir/collector"
	"weir/detectors"
	"weir/pipeline"
	"weir/storage/sqlite"
)

const explainHelp = `Usage: weir explain [flags] LINE
       weir explain --alert ID [--events] [flags] INPUT...
       weir explain --client KIND:VALUE [flags] INPUT...

LINE     How weir reads a log line: fields, whose request it is and why, endpoint,
         what detectors see in it. - reads the line from standard input.
--alert  Why an alert fired. ID is that of the alert, or its first characters;
         --events lists every request that carries evidence, and checks that
         without them the alert does not fire.
--client Why one did not: what hid its case, or how many more of what would have
         made one, which is tried out; and how near each detector came. KIND is ip,
         account, subject, key or session.

  weir explain '203.0.113.7 - - [22/Nov/2026:08:00:00 +0000] "GET /.env HTTP/1.1" 404 0'
  weir explain --alert 7f3c9a --events --edition e.json access.log
  weir explain --client ip:203.0.113.7 access.log
  weir explain --alert 7f3c9a --store /var/lib/weir/weir.db -c weir.yaml

The inputs are detected over again, under --edition or the edition that weir
analyze would learn from them. --store takes what weir run has stored instead.

Flags:
  --events             with --alert: the requests that carry evidence
  --since, --until T   with --client: look at this time only (RFC 3339)
  --store FILE         what weir run stored, instead of inputs; it may be running.
                       With LINE: its keys and the edition in force
  --edition FILE       detect with this edition
  -c FILE              configuration
  --format NAME        auto (default), combined, common, vhost_combined, json ...
  --log-format STRING  the log format line of nginx, Apache, HAProxy or Envoy
  --tz ZONE            for stamps without a zone
  --output FORMAT      text (default) or json, in which account names stay tokens

Exit: 0 explained; 1 failed, or there is no such alert or client; 2 usage.
`

func runExplain(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	f := replayFlags{asStored: true}
	var alert, client, since, until, output string
	var events bool
	fs := flag.NewFlagSet("explain", flag.ContinueOnError)
	f.add(fs)
	fs.StringVar(&alert, "alert", "", "")
	fs.StringVar(&client, "client", "", "")
	fs.StringVar(&since, "since", "", "")
	fs.StringVar(&until, "until", "", "")
	fs.BoolVar(&events, "events", false, "")
	fs.StringVar(&output, "output", "text", "")
	rest, code, done := parseFlags(fs, explainHelp, args, stdout, stderr)
	if done {
		return code
	}
	usage := func(format string, a ...any) int {
		fmt.Fprintf(stderr, "weir explain: "+format+"\n", a...)
		return exitUsage
	}
	switch {
	case output != "text" && output != "json":
		return usage("--output %s: text or json", output)
	case alert != "" && client != "":
		return usage("--alert and --client: give one of them")
	case alert == "" && events:
		return usage("--events goes with --alert")
	case client == "" && since+until != "":
		return usage("--since and --until go with --client")
	case alert == "" && client == "" && len(rest) != 1:
		return usage("give one log line in quotes, or --alert ID or --client KIND:VALUE with the inputs (weir explain --help)")
	case alert != "" && len(alert) < 4:
		return usage("--alert %s: give at least 4 characters of the id", alert)
	case (alert != "" || client != "") && f.store == "" && len(rest) == 0:
		return usage("no input; give the log files, or --store weir.db")
	}
	out := bufio.NewWriter(stdout)
	var err error
	switch {
	case alert != "":
		limitMemory()
		err = explainAlert(ctx, out, f, alert, events, output == "json", rest, stdin)
	case client != "":
		limitMemory()
		err = explainClient(ctx, out, f, client, [2]string{since, until}, output == "json", rest, stdin)
	default:
		err = explainLine(ctx, out, f, rest[0], output == "json", stdin)
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintf(stderr, "weir explain: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// explainLine says how a line is read, with what a collector would have done.
func explainLine(ctx context.Context, out io.Writer, f replayFlags, line string, asJSON bool, stdin io.Reader) error {
	if line == "-" {
		data, err := io.ReadAll(io.LimitReader(stdin, collector.MaxLine+1))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		line, _, _ = strings.Cut(string(data), "\n")
	}
	x, err := readExplained(ctx, f, strings.TrimRight(line, "\r\n"), !asJSON)
	if err != nil {
		return err
	}
	if asJSON {
		return explanation{Line: x}.print(out)
	}
	fmt.Fprintf(out, "%-11s %s\n", "format", x.Format)
	if x.Rejected != "" {
		return errors.New(x.Rejected)
	}
	for _, v := range x.Fields {
		fmt.Fprintf(out, "%-11s %s\n", v.Name, strings.ReplaceAll(v.Value, "\n", "\n            "))
	}
	return nil
}

// readExplained reads line; account names are in clear or tokens.
func readExplained(ctx context.Context, f replayFlags, line string, clear bool) (*lineExplained, error) {
	dir, err := os.MkdirTemp("", "weir-explain-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "line")
	if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
		return nil, err
	}
	cfg, err := loadConfig(f.config)
	if err != nil {
		return nil, err
	}
	keys, edition, err := lineContext(ctx, f, cfg)
	if err != nil {
		return nil, err
	}
	logins, err := pipeline.NewLoginRules(cfg.Endpoints)
	if err != nil {
		return nil, err
	}
	id, err := cfg.newIdentity(keys, logins)
	if err != nil {
		return nil, err
	}
	how := cfg.read("-", f.how)
	format, chosen, err := how.format(func() ([][]byte, error) { return [][]byte{[]byte(line)}, nil }, true)
	if err != nil {
		return nil, err
	}
	x := &lineExplained{Format: cmp.Or(chosen, format.Name), Fields: []lineField{}}
	r := collector.NewReader(collector.ReaderConfig{Path: path, Source: "line", Format: format, Timed: true, NewIdentify: identify(id), Workers: 1})
	defer r.Close()
	b, err := r.Next(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the line: %w", err)
	}
	if len(b.Requests) != 1 {
		x.Rejected = "the line holds no request"
		for reason := range b.Rejects.Reason {
			x.Rejected = "the line is rejected: " + rejectWords(reason)
		}
		return x, nil
	}
	set, err := detectors.NewSet(detectors.Config{Logins: logins}, edition)
	if err != nil {
		return nil, err
	}
	q := &b.Requests[0]
	q.Effective = q.Time
	name := func(token string) string { return token }
	if clear {
		name = func(token string) string { return openText(token, keys) }
	}
	x.Fields = requestFields(q, id, name)
	got := set.Read(q)
	guess := " (a guess from the path alone: no template is learned for it; --edition FILE)"
	if got.Known {
		guess = ""
	}
	x.Fields = append(x.Fields, lineField{"endpoint", printable(q.Method) + " " + printable(got.Template) + guess})
	if len(got.Words) > 0 {
		x.Fields = append(x.Fields, lineField{"detectors", strings.Join(got.Words, "\n")})
	}
	return x, nil
}

// lineContext returns the keys and the edition that a line is read under: those of
// the store, when there is one.
func lineContext(ctx context.Context, f replayFlags, cfg *config) (keys *pipeline.PrivacyKeys, edition *pipeline.Edition, err error) {
	keyFile := cfg.Privacy.KeyFile
	if f.store != "" && keyFile == "" {
		keyFile = storeKeyFile(f.store)
		if _, err := os.Stat(keyFile); err != nil {
			return nil, nil, fmt.Errorf("find the store's keys: %w; give the service's configuration with -c", err)
		}
	}
	if keys, err = openKeys(keyFile); err != nil {
		return nil, nil, err
	}
	switch {
	case f.edition != "":
		edition, err = pipeline.ReadEdition(f.edition)
	case f.store != "":
		edition, err = storedEdition(ctx, f.store)
	default:
		edition = pipeline.ShippedEdition()
	}
	return keys, edition, err
}

// storedEdition is the latest one of a store, or the shipped one before the first.
func storedEdition(ctx context.Context, store string) (*pipeline.Edition, error) {
	db, err := sqlite.Open(store, sqlite.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	_, _, body, ok, err := db.LatestEdition(ctx)
	if err != nil || !ok {
		return pipeline.ShippedEdition(), err
	}
	return pipeline.DecodeEdition(body)
}

func rejectWords(reason string) string {
	switch collector.Reject(reason) {
	case collector.RejectFormat:
		return "it is not laid out as the format says"
	case collector.RejectTime:
		return "there is no time where one belongs"
	case collector.RejectStatus:
		return "there is no status where one belongs"
	case collector.RejectRequest:
		return "it is no request"
	case collector.RejectJSON:
		return "it is not one JSON object"
	}
	return reason
}

// requestFields are what is known of a request; name opens account names, or not.
func requestFields(q *pipeline.Request, id *pipeline.Identity, name func(token string) string) (list []lineField) {
	field := func(name, value string) {
		if value != "" {
			list = append(list, lineField{name, printable(value)})
		}
	}
	number := func(name string, n int64, unit string) {
		if n >= 0 {
			field(name, fmt.Sprintf("%d%s", n, unit))
		} else {
			field(name, "unknown")
		}
	}
	field("time", q.Time.Std().Format(time.RFC3339Nano))
	field("address", q.Address.String())
	if !q.Forwarded.IsZero() {
		field("forwarded", q.Forwarded.String()+" (claimed by a header; not believed, because no trusted proxy sent it)")
	}
	field("method", q.Method)
	field("host", q.Host)
	field("path", q.Path)
	field("query", q.Query)
	number("status", int64(q.Status), "")
	number("bytes", q.Bytes, "")
	if q.Duration >= 0 {
		field("duration", fmt.Sprintf("%d µs", q.Duration))
	}
	field("agent", q.Agent)
	field("referer", q.Referer)
	field("account", name(q.Account))
	field("key", q.Key)
	field("session", q.Session)
	field("login user", name(q.LoginUser))
	field("ja4", q.JA4)
	who := q.Principal()
	field("belongs to", who.Kind.String()+" "+name(who.Value)+": "+whyOwner(q))
	if known, ok := id.Known(q); ok {
		field("known as", known)
	}
	if x := id.Context(); x != nil && len(x.ListsOf(q.Address)) > 0 {
		field("listed", strings.Join(x.ListsOf(q.Address), ", "))
	}
	named, date := pipeline.CrawlerNamed(q.Agent)
	switch {
	case q.Flags&pipeline.FlagCrawler != 0:
		field("crawler", "verified: the address is one that "+cmp.Or(named, "it")+" publishes")
	case q.Flags&pipeline.FlagPretends != 0:
		field("crawler", "claims to be "+cmp.Or(named, "one")+"; the address is none of those published"+map[bool]string{true: ", as of " + date}[date != ""])
	case named != "":
		field("crawler", "names "+named+"; not checked")
	}
	field("network", strings.Join(slices.DeleteFunc([]string{pipeline.NewPlaces().Network(q), pipeline.ASNText(q.ASN), q.Country.String()}, func(s string) bool { return s == "" }), ", "))
	if q.Flags&pipeline.FlagBlocked != 0 {
		field("blocked", "a WAF or gateway stopped it")
	}
	return list
}

// whyOwner gives the rule that decided whose request it is.
func whyOwner(q *pipeline.Request) string {
	switch {
	case q.Kind == pipeline.PrincipalNone:
		return "nobody can be named"
	case q.Kind != pipeline.PrincipalIP:
		return "it carries this credential, and the server accepted it"
	case q.Flags&pipeline.FlagLogin != 0:
		return "a login attempt belongs to the address"
	case q.Account != "" || q.Key != "" || q.Session != "":
		return "its credential does not count, because the server did not accept it"
	}
	return "it carries no credential"
}

// printable keeps what a log holds from talking to the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e || r == 0xfffd {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// findAlert replays and returns the last revision of the alert whose id begins
// with id.
func (p *replay) findAlert(ctx context.Context, id string) (*pipeline.Alert, error) {
	var got *pipeline.Alert
	var several bool
	ids := []string{}
	take := func(a *pipeline.Alert) {
		if !strings.HasPrefix(a.ID, id) {
			if len(ids) < 5 && !slices.Contains(ids, a.ID) {
				ids = append(ids, a.ID)
			}
			return
		}
		several = several || got != nil && got.ID != a.ID
		kept := *a
		got = &kept
	}
	if p.db != nil {
		// The stored one is what people saw.
		stored, err := p.db.Alert(ctx, id)
		if err != nil {
			return nil, err
		}
		for i := range stored {
			take(&stored[i].Alert)
		}
	}
	if got == nil {
		if _, err := p.run(ctx, nil, nil, take); err != nil {
			return nil, err
		}
	}
	switch {
	case several:
		return nil, fmt.Errorf("--alert %s: more than one alert begins so", id)
	case got == nil && len(ids) == 0:
		return nil, fmt.Errorf("--alert %s: the input gives no alert at all", id)
	case got == nil:
		return nil, fmt.Errorf("--alert %s: the input gives no such alert; is it the same input, configuration and --edition? There are %s", id, strings.Join(ids, ", "))
	}
	return got, nil
}

func explainAlert(ctx context.Context, out io.Writer, f replayFlags, id string, events, asJSON bool, inputs []string, stdin io.Reader) error {
	p, err := openReplay(ctx, f, inputs, stdin)
	if err != nil {
		return err
	}
	defer p.close()
	al, err := p.findAlert(ctx, id)
	if err != nil {
		return err
	}
	if asJSON {
		return p.explainAlertJSON(ctx, out, al, events)
	}
	shown := p.shown(*al)
	if err := alerts.Text(out, &shown, alerts.TextOptions{Stored: f.store != ""}); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nWhy: %s reached %.2f nats; review takes %.2f, a page %.2f.\n", al.Detector, al.Score.Nats, al.Score.ReviewAt, al.Score.PageAt)
	for _, s := range al.Signals {
		fmt.Fprintf(out, "  %+7.2f  %s: %s observed, %s expected (%s)\n", s.Nats, s.Name, short(s.Observed), short(s.Expected), s.Baseline.Kind)
	}
	if al.Level == "campaign" && !events {
		fmt.Fprintf(out, "\nIt is a campaign of %d; for what one of them did:\n", al.MembersTotal)
		for _, m := range shown.Members[:min(5, len(shown.Members))] {
			fmt.Fprintf(out, "  weir explain --client %s:%s ...\n", m.Kind, printable(m.Value))
		}
	}
	if !events {
		fmt.Fprintf(out, "\nEvery request that carries evidence: add --events.\n")
		return nil
	}
	if whole, err := p.whole(ctx); err != nil {
		return err
	} else if !whole {
		fmt.Fprintf(out, "\nThe store no longer holds its first requests: evidence from them is missing below.\n")
	}
	list, still, err := p.evidenceOf(ctx, al)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintf(out, "\nNo request could be traced: %s joins what several clients did; its exemplars are in the alert.\n", al.Detector)
		return nil
	}
	fmt.Fprintf(out, "\nRequests that carry evidence: %d (- adds nothing here, but would if the others were not there)\n", len(list))
	for _, e := range list {
		mark := "       -"
		if e.counted {
			mark = fmt.Sprintf("%+8.2f", e.gain.Float())
		}
		fmt.Fprintf(out, "  %s  %s  %s  %s  %s:%d\n", mark, e.when.Std().Format("2006-01-02T15:04:05Z"), e.ip, printable(e.what), printable(filepath.Base(e.at.source)), e.at.line)
	}
	if still {
		fmt.Fprintf(out, "Checked: without them the alert STILL fires; other requests carry evidence, too.\n")
	} else {
		fmt.Fprintf(out, "Checked: without them the alert does not fire.\n")
	}
	return nil
}

func short(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

// cutKind splits KIND:VALUE; the value may hold colons.
func cutKind(s string) (kind, value string) {
	kind, value, _ = strings.Cut(s, ":")
	return kind, value
}
