package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"weir/alerts"
	"weir/collector"
	"weir/pipeline"
)

const analyzeHelp = `Usage: weir analyze [flags] INPUT...

Looks through access logs or packet captures (pcap, pcapng) once and prints the
alerts. INPUT is a file (plain, .gz, .zst), a glob, or - for standard input; several
are merged by event time.

  weir analyze /var/log/nginx/access.log
  weir analyze --output json 'logs/*.gz' > alerts.jsonl
  zcat old.gz | weir analyze -
  weir analyze traffic.pcap

First it learns what is ordinary from the input itself (an edition: endpoint
templates, cohort priors, popular items); then it detects, exactly as weir run
would with that edition. Alerts go to standard output, progress and the summary
to standard error.

Flags:
  --format NAME        auto (default), combined, json, haproxy, ...; the guide lists them
  --log-format STRING  the log format line of nginx, Apache, HAProxy or Envoy
  --output FORMAT      text (default); one alert revision a line: json, ocsf, ecs, cef;
                       html, one page to read, send or print
  -c FILE              configuration (identity, endpoints, detectors; and how inputs
                       that are its sources are read)
  --keylog FILE        TLS secrets (NSS key log) that open sealed connections of a
                       capture; also from SSLKEYLOGFILE
  --learn INPUT        baseline traffic that raises no alerts (repeatable)
  --edition FILE       start from this edition instead of learning one
  --edition-out FILE   write the edition that was used
  --labels FILE        compare with ground truth (NDJSON) and print the scores
  --blindspots FILE    write what cannot be detected, per endpoint and detector (JSON)
  --pseudonyms         print account names as tokens
  --tz ZONE            for stamps without a zone, e.g. Europe/Berlin
  --workers N          goroutines (default: one per CPU)
  --fail-on SEVERITY   exit 3 if an alert is at least this: info low medium high critical
  --verbose            hashes, the parts of each score, every blind spot
  --quiet              no progress, no summary

Exit: 0 ran; 1 failed; 2 usage; 3 --fail-on met.
`

type analyzeOptions struct {
	how        collectConfig
	output     string
	config     string
	learn      listFlag
	edition    string
	editionOut string
	labels     string
	blindspots string
	pseudonyms bool
	workers    int
	failOn     string
	verbose    bool
	quiet      bool
	profile    string
}

// format is how alert revisions are written, "" for none and what there is not.
func (o *analyzeOptions) format() alerts.Format {
	switch f := alerts.Format(o.output); f {
	case "json":
		return alerts.FormatNative
	case alerts.FormatOCSF, alerts.FormatECS, alerts.FormatCEF:
		return f
	}
	return ""
}

func runAnalyze(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var o analyzeOptions
	fs := flag.NewFlagSet("analyze", flag.ContinueOnError)
	fs.StringVar(&o.how.Format, "format", "auto", "")
	fs.StringVar(&o.how.LogFormat, "log-format", "", "")
	fs.StringVar(&o.how.Timezone, "tz", "", "")
	fs.StringVar(&o.how.keyLog, "keylog", "", "")
	fs.StringVar(&o.output, "output", "text", "")
	fs.StringVar(&o.config, "c", "", "")
	fs.Var(&o.learn, "learn", "")
	fs.StringVar(&o.edition, "edition", "", "")
	fs.StringVar(&o.editionOut, "edition-out", "", "")
	fs.StringVar(&o.labels, "labels", "", "")
	fs.StringVar(&o.blindspots, "blindspots", "", "")
	fs.BoolVar(&o.pseudonyms, "pseudonyms", false, "")
	fs.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "")
	fs.StringVar(&o.failOn, "fail-on", "", "")
	fs.BoolVar(&o.verbose, "verbose", false, "")
	fs.BoolVar(&o.quiet, "quiet", false, "")
	fs.StringVar(&o.profile, "cpuprofile", "", "")
	inputs, code, done := parseFlags(fs, analyzeHelp, args, stdout, stderr)
	if done {
		return code
	}
	usage := func(format string, a ...any) int {
		fmt.Fprintf(stderr, "weir analyze: "+format+"\n", a...)
		return exitUsage
	}
	if len(inputs) == 0 {
		return usage("no input; give a log file, or - for standard input (weir analyze --help)")
	}
	if o.output != "text" && o.output != "html" && o.format() == "" {
		return usage("--output %s: there are text, json, ocsf, ecs, cef and html", o.output)
	}
	if o.failOn != "" && severityRank(o.failOn) < 0 {
		return usage("--fail-on %s: there are info, low, medium, high, critical", o.failOn)
	}
	if o.workers < 1 || o.workers > 256 {
		return usage("--workers %d: want 1 to 256", o.workers)
	}
	if env := os.Getenv("SSLKEYLOGFILE"); o.how.keyLog == "" && env != "" {
		// Set for other programs, too: it need not be there, or hold keys.
		if _, err := readKeyLog(env); err == nil {
			o.how.keyLog = env
		}
	}
	stop, err := startProfile(o.profile)
	if err != nil {
		return usage("%v", err)
	}
	defer stop()
	limitMemory()
	a := &analysis{o: o, stdout: bufio.NewWriterSize(stdout, 1<<16), color: isTerminal(stdout), stderr: stderr, start: time.Now()}
	code = a.run(ctx, inputs, stdin)
	if err := a.stdout.Flush(); err != nil {
		fmt.Fprintf(stderr, "weir analyze: write alerts: %v\n", err)
		return exitFailed
	}
	return code
}

// analysis is one run of weir analyze.
type analysis struct {
	o      analyzeOptions
	stdout *bufio.Writer
	color  bool // stdout is a terminal that wants it
	stderr io.Writer
	start  time.Time

	cfg     *config
	keys    *pipeline.PrivacyKeys
	engine  *engine
	tally   tally
	labels  *Labels
	traffic *TrafficStats
	latest  map[string]pipeline.Alert
	order   []string // ids in order of first revision
	all     []pipeline.Alert
	worst   int
	count   int64
	bar     *progress
	blind   *blindSpots

	onBlock func(*pipeline.Block) // told of every block before it is detected; may be nil
	onAlert func(*pipeline.Alert) // told of every revision; may be nil
}

func (a *analysis) fail(err error) int {
	fmt.Fprintf(a.stderr, "weir analyze: %v\n", err)
	return exitFailed
}

func (a *analysis) run(ctx context.Context, args []string, stdin io.Reader) int {
	var err error
	if a.cfg, err = loadConfig(a.o.config); err != nil {
		return a.fail(err)
	}
	if a.keys, err = openKeys(a.cfg.Privacy.KeyFile); err != nil {
		return a.fail(err)
	}
	logins, err := pipeline.NewLoginRules(a.cfg.Endpoints)
	if err != nil {
		return a.fail(err)
	}
	id, err := a.cfg.newIdentity(a.keys, logins)
	if err != nil {
		return a.fail(err)
	}
	for _, note := range id.Context().Notes() {
		fmt.Fprintf(a.stderr, "weir analyze: %s\n", note)
	}
	if a.o.labels != "" {
		if a.labels, err = LoadLabels(a.o.labels); err != nil {
			return a.fail(err)
		}
		a.labels.Alias(a.token)
		a.traffic = NewTrafficStats(a.labels)
	}
	if a.o.pseudonyms && a.keys.Public() {
		fmt.Fprintln(a.stderr, "weir analyze: --pseudonyms without privacy.key_file: everybody can open these tokens")
	}
	ins, notes, problems, cleanup := openInputs(args, a.cfg, a.o.how, stdin)
	defer cleanup()
	for _, p := range problems {
		fmt.Fprintf(a.stderr, "weir analyze: %v\n", p)
	}
	if len(ins) == 0 {
		return exitFailed
	}
	if !a.o.quiet {
		for _, n := range notes {
			fmt.Fprintln(a.stderr, n)
		}
	}
	a.bar = newProgress(a.stderr, a.o.quiet)
	edition, err := a.learn(ctx, ins, id, stdin)
	if err != nil {
		return a.fail(err)
	}
	if a.o.editionOut != "" {
		if err := pipeline.WriteEdition(a.o.editionOut, edition); err != nil {
			return a.fail(err)
		}
	}
	if a.engine, err = newConfiguredEngine(a.cfg, edition, a.keys, inputLabels(ins), a.o.workers, nil); err != nil {
		return a.fail(err)
	}
	a.latest = map[string]pipeline.Alert{}
	a.blind = newBlindSpots(a.engine.set)
	a.engine.onBatch = a.blind.observe
	if a.traffic != nil {
		a.engine.onBatch = func(batch []pipeline.Ordered) {
			a.blind.observe(batch)
			for i := range batch {
				a.traffic.ObserveRequest(batch[i].Request)
			}
		}
	}
	if err := a.detect(ctx, ins, id); err != nil {
		return a.fail(err)
	}
	a.bar.end()
	a.blind.sampled = a.engine.smallestShare()
	if err := a.writeBlind(); err != nil {
		return a.fail(err)
	}
	code := a.report(ctx, ins, id)
	if code == exitOK && len(problems) > 0 {
		code = exitFailed
	}
	return code
}

// learn returns the edition to start from.
func (a *analysis) learn(ctx context.Context, ins []input, id *pipeline.Identity, stdin io.Reader) (*pipeline.Edition, error) {
	if a.o.edition != "" {
		return pipeline.ReadEdition(a.o.edition)
	}
	from := ins
	if len(a.o.learn) > 0 {
		learn, _, problems, _ := openInputs(a.o.learn, a.cfg, a.o.how, stdin)
		if len(problems) > 0 {
			return nil, errors.Join(problems...)
		}
		from = slices.Concat(learn, ins)
	}
	skip, err := a.cfg.unlearnedFiles(a.keys, inputLabels(from))
	if err != nil {
		return nil, err
	}
	return fit(ctx, from, id, a.o.workers, len(a.cfg.Identity.TrustedProxies) == 0, skip, func(s collector.FileStats) { a.bar.update("learning", s) })
}

// detect reads the inputs in event order and takes them through the engine.
func (a *analysis) detect(ctx context.Context, ins []input, id *pipeline.Identity) error {
	e := a.engine
	readers := map[uint64]reader{}
	owners := map[*pipeline.Block]reader{}
	folds := make([]fold, len(ins))
	for i, in := range ins {
		r := in.open(id, a.o.workers, nil)
		defer r.Close()
		key := inputID(i)
		folds[i] = newFold(in.how.Timezone)
		readers[key] = r
		e.merge.AddSource(key)
	}
	e.applyFacts(inputFacts(ins))
	var out []pipeline.Alert
	var done []*pipeline.Block
	for {
		key, ok := e.merge.Wants()
		if !ok {
			break
		}
		r := readers[key]
		b, err := r.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, io.EOF) {
				e.merge.End(key)
				a.tally.capture(ins[key-1].name, r)
			} else {
				a.tally.errs = append(a.tally.errs, err)
				continue
			}
		} else {
			folds[key-1].fix(b)
			if a.onBlock != nil {
				a.onBlock(b)
			}
			a.tally.add(b)
			a.tally.bytes += b.Cause.To - b.Cause.From
			b.SourceID = key
			owners[b] = r
			e.merge.Push(b)
			a.bar.update("detecting", r.Stats())
			if e.merge.Held() < engineBatch && len(ins) == 1 {
				continue // larger batches share the work better
			}
		}
		out = e.drain(out[:0])
		for i := range out {
			a.take(&out[i])
		}
		done = e.merge.Done(done[:0])
		for _, b := range done {
			owners[b].Release(b)
			delete(owners, b)
		}
	}
	return nil
}

// maxKept bounds the alerts held for the text report and the evaluation.
const maxKept = 200_000

func (a *analysis) take(al *pipeline.Alert) {
	if a.onAlert != nil {
		a.onAlert(al)
	}
	a.count++
	if !alerts.Silent(al) {
		a.worst = max(a.worst, severityRank(al.Severity)+1)
	}
	if a.labels != nil && len(a.all) < maxKept {
		a.all = append(a.all, *al)
	}
	if _, ok := a.latest[al.ID]; !ok && len(a.order) < maxKept {
		a.order = append(a.order, al.ID)
	}
	if len(a.latest) < maxKept {
		a.latest[al.ID] = *al
	}
	if f := a.o.format(); f != "" {
		shown := *al
		a.open(&shown)
		// An error stays with the writer and is reported by its last flush.
		_, _ = a.stdout.Write(append(alerts.AppendFormat(nil, &shown, f, ""), '\n'))
	}
}

// open makes account names readable again, unless pseudonyms are wanted.
func (a *analysis) open(al *pipeline.Alert) {
	if !a.o.pseudonyms {
		openNames(al, a.keys)
	}
}

// token is how the configuration's keys write a name that labels give in clear.
func (a *analysis) token(kind pipeline.PrincipalKind, value string) string {
	return tokenFor(a.keys, a.cfg.Identity.APIKeyPrefix, kind, value)
}

func severityRank(s string) int {
	return slices.Index([]string{"info", "low", "medium", "high", "critical"}, s)
}

// report prints what analysis came to and returns the exit code.
func (a *analysis) report(ctx context.Context, ins []input, id *pipeline.Identity) int {
	final := a.final()
	if a.o.output == "html" {
		if err := a.writeReport(ctx, ins, id, final); err != nil {
			return a.fail(err)
		}
	}
	if a.o.output == "text" {
		for i := range final {
			a.open(&final[i])
			if err := alerts.Text(a.stdout, &final[i], alerts.TextOptions{Color: a.color, Verbose: a.o.verbose}); err != nil {
				return a.fail(err)
			}
			fmt.Fprintln(a.stdout)
		}
		if len(final) == 0 && a.tally.parsed > 0 {
			a.nothing()
		}
	}
	if a.labels != nil {
		ev := Evaluate(a.labels, a.all, a.traffic)
		w := io.Writer(a.stdout)
		if a.o.output != "text" {
			w = a.stderr
		}
		if err := ev.WriteText(w); err != nil {
			return a.fail(err)
		}
	}
	for _, err := range a.tally.errs {
		fmt.Fprintf(a.stderr, "weir analyze: %v\n", err)
	}
	if !a.o.quiet {
		a.summary(len(final))
	}
	if a.tally.parsed == 0 {
		a.explainRejects()
		return exitFailed
	}
	if a.o.failOn != "" && a.worst > severityRank(a.o.failOn) {
		return exitFound
	}
	if len(a.tally.errs) > 0 {
		return exitFailed
	}
	return exitOK
}

// final is every incident as it stands at the end, the gravest first.
func (a *analysis) final() []pipeline.Alert {
	for _, al := range a.engine.book.Open() {
		a.latest[al.ID] = al
	}
	var list []pipeline.Alert
	for _, id := range a.order {
		if al := a.latest[id]; al.Level != "campaign" || al.MembersTotal > 0 {
			list = append(list, al) // a campaign that everybody left is told by their own alerts
		}
	}
	slices.SortStableFunc(list, func(x, y pipeline.Alert) int { return severityRank(y.Severity) - severityRank(x.Severity) })
	return list
}

func (a *analysis) summary(n int) {
	took := time.Since(a.start).Seconds()
	st := a.engine.set.Stats()
	t := &a.tally
	fmt.Fprintf(a.stderr, "%d lines read, %d parsed, %d rejected%s\n", t.lines, t.parsed, t.rejected(), reasonList(t.reasons))
	fmt.Fprintf(a.stderr, "%d clients, %d alerts; %.2f s, %.0f lines/s, %.1f MB/s\n",
		st.Principals, n, took, float64(t.lines)/max(took, 1e-9), float64(t.bytes)/1e6/max(took, 1e-9))
	for _, line := range t.packets {
		fmt.Fprintln(a.stderr, line)
	}
	a.shadowed()
	if late, skewed := a.engine.merge.Late(); late+skewed > 0 {
		fmt.Fprintf(a.stderr, "%d requests came too late for their place, %d carried a time far ahead of their neighbours\n", late, skewed)
	}
	if t.parsed > 0 && t.rejected() > 0 {
		a.explainRejects()
	}
	if n > 0 || a.o.output != "text" {
		a.blind.write(a.stderr, a.blindLines())
	}
}

// shadowed names what detectors in shadow mode found.
func (a *analysis) shadowed() {
	cases := latestFindings(a.engine.shadow, maxShadow)
	if len(cases) == 0 {
		return
	}
	fmt.Fprintf(a.stderr, "%d %s of detectors in shadow mode, no alerts\n", len(cases), verb(len(cases), "case", "cases"))
	for i := range cases {
		if i == 5 && !a.o.verbose {
			fmt.Fprintf(a.stderr, "  and %d more; --verbose names them\n", len(cases)-i)
			break
		}
		title := cases[i].Title
		if !a.o.pseudonyms {
			title = openText(title, a.keys)
		}
		fmt.Fprintf(a.stderr, "  %s: %s (%.1f nats)\n", cases[i].Detector, printable(title), cases[i].Score.Float())
	}
}

// blindLines is how many endpoints the summary names.
func (a *analysis) blindLines() int {
	if a.o.verbose {
		return 0
	}
	return maxBlindLines
}

// writeBlind writes the full report where it is wanted.
func (a *analysis) writeBlind() error {
	if a.o.blindspots == "" {
		return nil
	}
	body, err := a.blind.report().encode()
	if err != nil {
		return fmt.Errorf("write blind spots: %w", err)
	}
	if err := os.WriteFile(a.o.blindspots, body, 0o644); err != nil {
		return fmt.Errorf("write blind spots: %w", err)
	}
	return nil
}

func reasonList(m map[string]int64) string {
	if len(m) == 0 {
		return ""
	}
	var parts []string
	for reason, n := range m {
		parts = append(parts, fmt.Sprintf("%s %d", reason, n))
	}
	slices.Sort(parts)
	return " (" + strings.Join(parts, ", ") + ")"
}

func (a *analysis) explainRejects() {
	t := &a.tally
	if t.parsed == 0 && t.lines == 0 && len(t.packets) > 0 {
		fmt.Fprintln(a.stderr, "weir analyze: there is no request in the packets that weir can read")
		return
	}
	if t.parsed == 0 {
		fmt.Fprintf(a.stderr, "weir analyze: none of the %d lines could be read%s\n", t.lines, reasonList(t.reasons))
	}
	for i, s := range t.samples {
		fmt.Fprintf(a.stderr, "  rejected %s:%d (%s): %s\n", t.names[i], s.Line, s.Reason, s.Text)
	}
	if t.parsed == 0 && len(t.packets) == 0 {
		fmt.Fprintln(a.stderr, "Give --format NAME, or --log-format with the log_format line of your server.")
	}
}

// nothing says what was looked at when there is nothing to say.
func (a *analysis) nothing() {
	e := a.engine
	fmt.Fprintf(a.stdout, "No alerts. Looked at %d requests from %s to %s for: %s.\n", e.requests,
		e.first.Std().Format(time.RFC3339), e.last.Std().Format(time.RFC3339), strings.Join(detectorNames(), ", "))
	if near := e.set.Nearest(5); len(near) > 0 {
		fmt.Fprintln(a.stdout, "Nearest to an alert:")
		for _, n := range near {
			who := n.Who.Value
			if name, ok := a.keys.Open(who); ok && !a.o.pseudonyms {
				who = name
			}
			fmt.Fprintf(a.stdout, "  %s: %s at %.1f of the %.1f nats that a review takes\n", who, n.Detector, n.Score.Float(), pipeline.ReviewAt.Float())
		}
	} else {
		fmt.Fprintln(a.stdout, "No client came near one.")
	}
	a.blind.write(a.stdout, a.blindLines())
	a.shared()
}

// shared names the endpoints where reading another's object says nothing.
func (a *analysis) shared() {
	all := a.engine.cross.Shared()
	for i, t := range all {
		if i == 5 {
			fmt.Fprintf(a.stdout, "Nor on %d endpoints more.\n", len(all)-i)
			break
		}
		fmt.Fprintf(a.stdout, "Not judged by ownership: %s %s, whose objects many clients read (%d reads).\n", t.Endpoint.Method, t.Endpoint.Template, t.Unjudged)
	}
}

func startProfile(path string) (func(), error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return profileTo(f)
}
