package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"weir/alerts"
	"weir/detectors"
	"weir/pipeline"
)

// reason is why a client did not alert. Code is for programs: alerted, suppressed,
// information, shadow, off, excused, proxy, evicted, few, below, nothing, and
// pending where the input ends too soon. What it says nothing of is nil.
type reason struct {
	Code     string   `json:"code"`
	Detector string   `json:"detector"`
	Text     string   `json:"text"`
	Score    *float64 `json:"score"`   // in nats, the most of the detector
	Missing  *float64 `json:"missing"` // of what a review takes
	More     *int64   `json:"more"`    // so many more would raise it
	Of       string   `json:"of"`      // of what
	Every    *float64 `json:"every"`   // at its own pace, in seconds
	Line     string   `json:"line"`    // of the configuration, which hides it
}

// explanation is why a client alerted or did not: the JSON of weir explain --client.
type explanation struct {
	Client    pipeline.Principal  `json:"client"`
	Requests  int64               `json:"requests"`
	LookedAt  int64               `json:"looked_at"` // closely
	First     *pipeline.Time      `json:"first"`     // of those
	Last      *pipeline.Time      `json:"last"`
	ReviewAt  float64             `json:"review_at"`
	PageAt    float64             `json:"page_at"`
	Reason    reason              `json:"reason"`
	Alerts    []explainedAlert    `json:"alerts"`
	Detectors []explainedDetector `json:"detectors"` // the nearest first
	Notes     []string            `json:"notes"`

	brief bool // it was never looked at closely
}

// explainedAlert is an alert of the client, or one that it is a member of.
type explainedAlert struct {
	ID       string `json:"id"`
	Detector string `json:"detector"`
	Severity string `json:"severity"`
	Tier     string `json:"tier"`
	Title    string `json:"title"`
	Hidden   string `json:"hidden"` // what keeps it from sinks
}

// explainedDetector is how near a detector came.
type explainedDetector struct {
	Detector string            `json:"detector"`
	Mode     detectors.Mode    `json:"mode"`
	Counted  int64             `json:"counted"` // requests
	Score    *float64          `json:"score"`   // the most it reached; null where nothing counted
	Missing  *float64          `json:"missing"`
	When     *pipeline.Time    `json:"when"` // that was
	What     string            `json:"what"`
	Signals  []explainedSignal `json:"signals"` // at the end
}

type explainedSignal struct {
	Name     string  `json:"name"`
	Observed float64 `json:"observed"`
	Expected float64 `json:"expected"`
	Nats     float64 `json:"nats"`
}

// why decides what kept the client from an alert: what hid a case that was there,
// then what kept one from being made, then what was missing.
func (c *clientCase) why() reason {
	if len(c.alerts) > 0 {
		return c.whyTold()
	}
	for _, h := range c.hidden {
		line := "detect." + h.detector + ".mode: shadow"
		if h.fate == fateShadow {
			return hid("shadow", h.detector, h.score, line, "%s. It has a case of %.2f nats, which is kept and never told", line, h.score.Float())
		}
	}
	for _, h := range c.hidden {
		if h.fate == fateExcused {
			return hid("excused", h.detector, h.score, "", "an endpoint notice: %s reached %.2f nats, most of it where everybody was refused at that time", h.detector, h.score.Float())
		}
	}
	near := c.sorted()
	for i := range near {
		if near[i].best >= pipeline.ReviewAt {
			return c.whyEnough(&near[i])
		}
	}
	switch {
	case c.seen > 0 && (!c.known || c.client.Requests+1 < c.seen):
		return reason{Code: "evicted", Detector: near[0].detector, Text: fmt.Sprintf("it was dropped from memory to bound it and began anew: %d requests were looked at, %d are remembered", c.seen, c.client.Requests)}
	case !c.client.Full:
		return reason{Code: "few", Text: "it showed too little to be looked at closely: a handful of requests that worked and no login"}
	case near[0].counted == 0:
		return reason{Code: "nothing", Text: "no detector counted anything against it"}
	}
	n := near[0]
	return hid("below", n.detector, n.best, "", "too little: %s came nearest", n.detector)
}

// whyTold is the reason of a client with alerts: nobody may have been told of them.
func (c *clientCase) whyTold() reason {
	first := &c.alerts[0]
	suppressed, information := true, true
	for i := range c.alerts {
		id, silent := c.alerts[i].Silent()
		suppressed = suppressed && silent && id != ""
		information = information && c.alerts[i].Severity == "info"
	}
	switch {
	case suppressed:
		return reason{Code: "suppressed", Detector: first.Detector, Text: "it did alert, and nobody is told: " + alerts.Hidden(first)}
	case information && len(c.client.Hides) > 0:
		return reason{Code: "information", Detector: first.Detector, Text: "it did alert, as information only: " + c.client.Hides[0]}
	}
	return reason{Code: "alerted", Detector: first.Detector, Text: "it did alert"}
}

// whyEnough is the reason of a client with enough for a case that was not told.
func (c *clientCase) whyEnough(n *nearest) reason {
	line := fmt.Sprintf("detect.%s.mode: %s", n.detector, n.mode)
	score := n.best.Float()
	switch {
	case n.mode == detectors.ModeOff, n.mode == detectors.ModeShadow:
		return hid(string(n.mode), n.detector, n.best, line, "%s. It reached %.2f nats, enough for an alert", line, score)
	case c.client.Withheld != "":
		return hid("proxy", n.detector, n.best, "", "%s (%s reached %.2f nats)", c.client.Withheld, n.detector, score)
	case c.sizes.EvictedCases > 0:
		return hid("evicted", n.detector, n.best, "", "%s reached %.2f nats, and its case made room for stronger ones: %d were dropped", n.detector, score, c.sizes.EvictedCases)
	}
	return hid("pending", n.detector, n.best, "", "%s reached %.2f nats, enough, and the input ends before the minute does in which it is told", n.detector, score)
}

// hid is a reason with how far the detector came.
func hid(code, detector string, score pipeline.Nats, line, format string, a ...any) reason {
	at, missing := score.Float(), max(0, (pipeline.ReviewAt-score).Float())
	return reason{Code: code, Detector: detector, Text: fmt.Sprintf(format, a...), Score: &at, Missing: &missing, Line: line}
}

// sorted is the detectors, the nearest first.
func (c *clientCase) sorted() []nearest {
	list := slices.Clone(c.near)
	slices.SortStableFunc(list, func(a, b nearest) int {
		return cmp.Or(-cmp.Compare(a.best, b.best), -cmp.Compare(a.counted, b.counted))
	})
	return list
}

// explanation is c for people and programs; open gives names for tokens.
func (c *clientCase) explanation(why reason, open func(string) string) *explanation {
	why.Text = open(why.Text)
	x := &explanation{
		Client:   pipeline.Principal{Kind: c.who.Kind, Value: open(c.who.Value)},
		Requests: max(c.client.Requests, c.seen), LookedAt: c.seen,
		ReviewAt: pipeline.ReviewAt.Float(), PageAt: pipeline.PageAt.Float(),
		Reason: why, Alerts: []explainedAlert{}, Notes: c.notes(), brief: c.known && !c.client.Full,
	}
	if c.seen > 0 {
		x.First, x.Last = &c.first, &c.last
	}
	for i := range c.alerts {
		a := &c.alerts[i]
		x.Alerts = append(x.Alerts, explainedAlert{a.ID, a.Detector, a.Severity, a.Tier, open(a.Title), alerts.Hidden(a)})
	}
	for _, n := range c.sorted() {
		x.Detectors = append(x.Detectors, c.detectorView(&n, open))
	}
	return x
}

func (c *clientCase) detectorView(n *nearest, open func(string) string) explainedDetector {
	d := explainedDetector{Detector: n.detector, Mode: n.mode, Counted: n.counted, Signals: []explainedSignal{}}
	if n.counted == 0 {
		return d
	}
	score, missing := n.best.Float(), max(0, (pipeline.ReviewAt-n.best).Float())
	d.Score, d.Missing, d.When, d.What = &score, &missing, &n.when, open(n.what)
	for i := range c.client.Standing {
		if s := &c.client.Standing[i]; s.Detector == n.detector {
			for _, g := range s.Signals {
				d.Signals = append(d.Signals, explainedSignal{g.Name, g.Observed, g.Expected, g.Nats.Float()})
			}
		}
	}
	return d
}

// notes are what else there is to know, a sentence each.
func (c *clientCase) notes() []string {
	notes := append([]string{}, c.client.Hides...)
	for _, n := range c.broken {
		if n.misses > 0 {
			notes = append(notes, fmt.Sprintf("%d of its misses were at %s %s while it failed for everybody (%s to %s): these count against nobody",
				n.misses, n.endpoint.Method, n.endpoint.Template, n.from.Std().Format(time.RFC3339), n.to.Std().Format(time.RFC3339)))
		}
	}
	if c.cold {
		notes = append(notes, "no endpoint templates are learned yet: until then an unknown path is no miss")
	}
	return notes
}

func (x *explanation) print(out io.Writer) {
	fmt.Fprintf(out, "%s %s: %d requests\n", x.Client.Kind, printable(x.Client.Value), x.Requests)
	for i := range x.Alerts {
		a := &x.Alerts[i]
		fmt.Fprintf(out, "  alert %s: %s %s, %s\n", a.ID, strings.ToUpper(a.Severity), a.Detector, printable(a.Title))
		if a.Hidden != "" {
			fmt.Fprintf(out, "    %s\n", a.Hidden)
		}
	}
	if x.Reason.Code != "alerted" {
		fmt.Fprintf(out, "Why no alert: %s.\n", printable(x.Reason.Text))
	}
	for _, n := range x.Notes {
		fmt.Fprintf(out, "  note: %s\n", printable(n))
	}
	if x.brief {
		return
	}
	fmt.Fprintf(out, "Looked at closely: %d requests. Review takes %.2f nats, a page %.2f.\n", x.LookedAt, x.ReviewAt, x.PageAt)
	for i := range x.Detectors {
		x.Detectors[i].print(out)
	}
}

func (d *explainedDetector) print(out io.Writer) {
	mode := ""
	if d.Mode != detectors.ModeOn {
		mode = fmt.Sprintf(" (detect.%s.mode: %s hides what it finds)", d.Detector, d.Mode)
	}
	switch {
	case d.Score == nil:
		fmt.Fprintf(out, "  %-16s nothing counted%s\n", d.Detector, mode)
		return
	case *d.Missing == 0:
		fmt.Fprintf(out, "  %-16s %.2f nats, enough%s\n", d.Detector, *d.Score, mode)
	default:
		fmt.Fprintf(out, "  %-16s %.2f nats at most, %.2f missing%s\n", d.Detector, *d.Score, *d.Missing, mode)
	}
	fmt.Fprintf(out, "    %d requests counted; the most at %s, %s\n", d.Counted, d.When.Std().Format(time.RFC3339), printable(d.What))
	for _, s := range d.Signals {
		fmt.Fprintf(out, "    at the end %+.2f  %s: %s observed, %s expected\n", s.Nats, s.Name, short(s.Observed), short(s.Expected))
	}
}
