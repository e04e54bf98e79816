package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"weir/alerts"
	"weir/detectors"
	"weir/pipeline"
)

//go:embed report.html
var reportPage string

//go:embed report.css
var reportStyle string

// What a report shows: attackers choose how much there is to show.
const (
	maxReported = 200 // alerts in full
	maxRows     = 1000
	maxShown    = 32  // accounts, objects, requests of an alert
	maxCell     = 300 // characters of what a client wrote
)

// report is what the page is made of. Everything in it is plain text; the page's
// template escapes it.
type report struct {
	Style   template.CSS // ours alone
	CSP     string
	Version string
	Config  string
	Edition string

	Lead     string
	Inputs   []string
	From, To string
	Span     string
	Requests string
	Clients  string
	Lines    string
	Counts   []reportCount
	Traffic  chart
	Alerts   []reportAlert
	Rest     []reportAlert // as rows alone
	More     int           // not even that

	Detectors []reportDetector
	Near      []string
	Shadow    []string // found by detectors on trial
	Blind     []string
	Rejects   []string
	Notes     []string
}

type reportCount struct {
	Severity string
	N        int
}

type reportDetector struct {
	Name, Mode string
	Alerts     int
}

type reportAlert struct {
	Anchor    string
	Severity  string
	Status    string
	Title     string
	Detector  string
	Reason    string
	Since     string
	Facts     []alerts.Fact
	Next      []string
	BenignIf  []string
	Unless    string
	Signals   []reportSignal
	Score     string
	Needs     string
	Chart     chart
	Exemplars []reportRequest
	Requests  string
	Accounts  []string
	Objects   []string
	Members   []string
	Refs      []string
	ID        string
}

type reportSignal struct {
	Name, Observed, Expected, Against string
	Nats                              string
	For                               bool
	Bar                               pairBar
	Share                             float64 // of the score, 0 to 100
}

type reportRequest struct {
	Time, IP, Method, Path, Status, Bytes, Agent, Source string
	Bad                                                  bool
}

// writeReport writes the page of what analysis came to.
func (a *analysis) writeReport(ctx context.Context, ins []input, id *pipeline.Identity, final []pipeline.Alert) error {
	t := newTimelines(a.engine.first, a.engine.last, final[:min(len(final), maxReported)])
	if err := t.read(ctx, ins, id, a.o.workers); err != nil {
		return err
	}
	for i := range final {
		a.open(&final[i])
	}
	body, err := a.reportData(ins, final, t).render()
	if err != nil {
		return err
	}
	_, _ = a.stdout.Write(body) // an error stays with the writer
	return nil
}

// render is the page.
func (r *report) render() ([]byte, error) {
	page, err := template.New("report").Parse(reportPage)
	if err != nil {
		return nil, fmt.Errorf("read the report's page: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	return b.Bytes(), nil
}

// policy lets the page's own style in, and nothing else.
func policy() string {
	sum := sha256.Sum256([]byte(reportStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}

func (a *analysis) reportData(ins []input, final []pipeline.Alert, t *timelines) *report {
	e := a.engine
	st := e.set.Stats()
	r := &report{
		Style: template.CSS(reportStyle), CSP: policy(), //nolint:gosec // it is a file of ours
		Version: version, Config: a.cfg.hash(), Edition: e.versions.Edition,
		Requests: thousands(e.requests), Clients: thousands(st.Principals), Lines: thousands(a.tally.lines),
		Traffic: t.traffic(final),
	}
	for _, in := range ins {
		r.Inputs = append(r.Inputs, shown(in.name))
	}
	if e.first != pipeline.NoTime {
		r.From, r.To = clockText(e.first), clockText(e.last)
		r.Span = spanText(e.last.Sub(e.first))
	}
	count := map[string]int{}
	by := map[string]int{}
	for i := range final {
		count[final[i].Severity]++
		by[final[i].Detector]++
		switch {
		case i < maxReported:
			r.Alerts = append(r.Alerts, a.reportOf(&final[i], t.chart(i)))
		case i < maxReported+maxRows:
			r.Rest = append(r.Rest, reportRow(&final[i]))
		default:
			r.More++
		}
	}
	for _, s := range []string{"critical", "high", "medium", "low", "info"} {
		r.Counts = append(r.Counts, reportCount{s, count[s]})
	}
	r.Lead = leadOf(count, len(final))
	modes := a.cfg.modes()
	for _, name := range detectorNames() {
		mode := string(modes[name])
		if mode == "" {
			mode = string(detectors.ModeOn)
		}
		r.Detectors = append(r.Detectors, reportDetector{name, mode, by[name]})
	}
	for _, n := range e.set.Nearest(5) {
		who := n.Who.Value
		if name, ok := a.keys.Open(who); ok && !a.o.pseudonyms {
			who = name
		}
		r.Near = append(r.Near, shown(fmt.Sprintf("%s %s: %s at %.1f of the %.1f nats that a review takes", n.Who.Kind, who, n.Detector, n.Score.Float(), pipeline.ReviewAt.Float())))
	}
	for _, line := range a.blind.lines(a.blindLines()) {
		r.Blind = append(r.Blind, alerts.Printable(line))
	}
	a.reportInput(r)
	return r
}

// leadOf is what to take away from the page, in a sentence.
func leadOf(count map[string]int, all int) string {
	pages := count["critical"] + count["high"]
	rest := all - pages - count["info"]
	switch {
	case all == 0:
		return "Nothing reached the level that is worth a review."
	case pages+rest == 0:
		return "Nothing here needs anybody: what there is is information."
	case pages == 0:
		return fmt.Sprintf("Nothing here has to wake anybody; %d %s a look by day.", rest, verb(rest, "alert is worth", "alerts are worth"))
	case rest == 0:
		return fmt.Sprintf("%d %s somebody now: success is confirmed, or something real is the target.", pages, verb(pages, "alert needs", "alerts need"))
	}
	return fmt.Sprintf("%d %s somebody now: success is confirmed, or something real is the target. %d more %s a look by day.",
		pages, verb(pages, "alert needs", "alerts need"), rest, verb(rest, "is worth", "are worth"))
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// reportInput says what of the input was not read, or not taken.
func (a *analysis) reportInput(r *report) {
	t := &a.tally
	if n := t.rejected(); n > 0 {
		r.Rejects = append(r.Rejects, thousands(n)+" lines were rejected"+reasonList(t.reasons))
	}
	for i, s := range t.samples {
		r.Rejects = append(r.Rejects, shown(fmt.Sprintf("%s:%d (%s): %s", t.names[i], s.Line, s.Reason, s.Text)))
	}
	for _, line := range t.packets {
		r.Notes = append(r.Notes, shown(line))
	}
	for _, err := range t.errs {
		r.Notes = append(r.Notes, shown(err.Error()))
	}
	cases := latestFindings(a.engine.shadow, maxShadow)
	for i := range cases {
		if i == maxShown {
			r.Shadow = append(r.Shadow, fmt.Sprintf("and %d more", len(cases)-i))
			break
		}
		title := cases[i].Title
		if !a.o.pseudonyms {
			title = openText(title, a.keys)
		}
		r.Shadow = append(r.Shadow, shown(fmt.Sprintf("%s: %s (%.1f nats)", cases[i].Detector, title, cases[i].Score.Float())))
	}
	if late, skewed := a.engine.merge.Late(); late+skewed > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d requests came too late for their place, %d carried a time far ahead of their neighbours.", late, skewed))
	}
}

func reportRow(al *pipeline.Alert) reportAlert {
	return reportAlert{
		Anchor: "a" + al.ID, Severity: al.Severity, Status: al.Status, Title: shown(al.Title), Detector: al.Detector,
		Since: clockText(al.Window.Onset), ID: al.ID,
	}
}

// reportOf is al as the page shows it.
func (a *analysis) reportOf(al *pipeline.Alert, c chart) reportAlert {
	v := reportRow(al)
	v.Reason, v.Unless, v.Chart = shown(al.Reason), shown(al.WouldNotFireIf), c
	v.Facts = alerts.Facts(al)
	v.Next, v.BenignIf = allShown(al.Next), allShown(al.BenignIf)
	if !strings.HasPrefix(al.Detector, "health.") && al.Severity != "info" {
		v.Score = fmt.Sprintf("%.1f", al.Score.Nats)
		v.Needs = fmt.Sprintf("a review takes %.1f, a page %.1f", al.Score.ReviewAt, al.Score.PageAt)
	}
	for _, s := range al.Signals {
		v.Signals = append(v.Signals, signalOf(s, al.Score.Nats))
	}
	for i := range al.Exemplars[:min(len(al.Exemplars), maxShown)] {
		v.Exemplars = append(v.Exemplars, requestOf(&al.Exemplars[i]))
	}
	v.Requests = thousands(al.Outcome.Requests)
	for _, c := range al.Affected.Accounts[:min(len(al.Affected.Accounts), maxShown)] {
		v.Accounts = append(v.Accounts, shown(c.Name+" ("+c.Outcome+")"))
	}
	v.Objects = allShown(al.Affected.Objects[:min(len(al.Affected.Objects), maxShown)])
	for _, m := range al.Members[:min(len(al.Members), maxShown)] {
		v.Members = append(v.Members, shown(m.Kind.String()+" "+m.Value))
	}
	if n := al.MembersTotal - len(v.Members); n > 0 && len(v.Members) > 0 {
		v.Members = append(v.Members, "and "+thousands(int64(n))+" more")
	}
	for _, list := range [][]string{al.Attack, al.OWASP, al.OAT} {
		v.Refs = append(v.Refs, allShown(list)...)
	}
	return v
}

func signalOf(s pipeline.AlertSignal, score float64) reportSignal {
	against := map[string]string{"cohort": "others here", "own": "its own past", "prior": "shipped experience"}[s.Baseline.Kind]
	if s.Baseline.Kind == "cohort" && s.Baseline.N > 0 {
		against = thousands(s.Baseline.N) + " others here"
	}
	v := reportSignal{
		Name: shown(strings.ReplaceAll(s.Name, "_", " ")), Observed: shortNumber(s.Observed), Expected: shortNumber(s.Expected), Against: against,
		Nats: fmt.Sprintf("%+.1f", s.Nats), For: s.Nats >= 0, Bar: barOf(s.Observed, s.Expected),
	}
	if score > 0 && s.Nats > 0 {
		v.Share = min(100, 100*s.Nats/score)
	}
	return v
}

func requestOf(e *pipeline.Exemplar) reportRequest {
	v := reportRequest{
		Time: e.Time.Std().UTC().Format("2006-01-02 15:04:05"), IP: shown(e.IP), Method: shown(e.Method), Path: shown(e.Path),
		Status: fmt.Sprint(e.Status), Agent: shown(e.Agent), Source: shown(e.Source), Bad: e.Status >= 400,
	}
	if e.Status == 0 {
		v.Status = "unknown"
	}
	if e.Bytes != nil {
		v.Bytes = thousands(*e.Bytes)
	}
	return v
}

// shown is what may stand on the page of s, which a client may have written.
func shown(s string) string {
	s = alerts.Printable(s)
	if r := []rune(s); len(r) > maxCell {
		return string(r[:maxCell-1]) + "…"
	}
	return s
}

func allShown(list []string) (out []string) {
	for _, s := range list {
		out = append(out, shown(s))
	}
	return out
}

func clockText(t pipeline.Time) string { return t.Std().UTC().Format("2 Jan 2006 15:04:05") }

// spanText is a length of time for people.
func spanText(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.1f hours", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.0f minutes", d.Minutes())
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}

// thousands writes n with spaces between groups.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func shortNumber(v float64) string {
	if v >= 1000 || v <= -1000 {
		return thousands(int64(v))
	}
	return short(v)
}

// read counts the requests over time: of all, and of whom the alerts are about. It
// reads the inputs once more, because who that is is known only at the end.
func (t *timelines) read(ctx context.Context, ins []input, id *pipeline.Identity, workers int) error {
	if t.width == 0 {
		return nil
	}
	for i := range ins {
		if err := t.readInput(ctx, &ins[i], id, workers); err != nil {
			return err
		}
	}
	return nil
}

func (t *timelines) readInput(ctx context.Context, in *input, id *pipeline.Identity, workers int) error {
	r := in.open(id, workers, nil)
	defer r.Close()
	folds := newFold(in.how.Timezone)
	for {
		b, err := r.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			continue // detection has said so
		}
		folds.fix(b)
		for i := range b.Requests {
			t.add(&b.Requests[i])
		}
		r.Release(b)
	}
}
