package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"weir/alerts"
	"weir/pipeline"
)

// explanation is what weir explain --output json prints: one of its members.
// Account names stay tokens in it.
type explanation struct {
	Client *clientExplained `json:"client,omitempty"`
	Alert  *alertExplained  `json:"alert,omitempty"`
	Line   *lineExplained   `json:"line,omitempty"`
}

func (x explanation) print(out io.Writer) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(x)
}

// clientExplained is why a client did not alert.
type clientExplained struct {
	Principal pipeline.Principal `json:"principal"`
	Requests  int64              `json:"requests"`  // that are remembered
	LookedAt  int64              `json:"looked_at"` // by detectors, in the time that was asked for
	First     *pipeline.Time     `json:"first"`
	Last      *pipeline.Time     `json:"last"`
	Whole     bool               `json:"whole"` // the store holds its log from the beginning
	Why       explainedReason    `json:"why"`
	Notes     []string           `json:"notes"`
	ReviewAt  float64            `json:"review_at"` // nats
	PageAt    float64            `json:"page_at"`
	Alerts    []explainedAlert   `json:"alerts"`
	Detectors []explainedNear    `json:"detectors"` // the nearest first
}

// explainedReason is a reason; code unknown is a client without a request.
type explainedReason struct {
	Code     string `json:"code"`
	Detector string `json:"detector"`
	Text     string `json:"text"`

	Line    string   `json:"line"`    // of the configuration, which hides it; "" for none
	Score   *float64 `json:"score"`   // nats, the most of the detector
	Missing *float64 `json:"missing"` // of what a review takes
	More    *int64   `json:"more"`    // so many more would raise it, which was tried
	Of      string   `json:"of"`      // of what
	Every   *float64 `json:"every"`   // at its own pace, in seconds
}

// explainedAlert is an alert that the client has after all; hidden says what keeps
// it from being told.
type explainedAlert struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Detector string `json:"detector"`
	Title    string `json:"title"`
	Hidden   string `json:"hidden"`
}

// explainedNear is how near a detector came.
type explainedNear struct {
	Detector string            `json:"detector"`
	Mode     string            `json:"mode"`
	Counted  int64             `json:"counted"` // requests
	Nats     float64           `json:"nats"`    // at most
	Time     *pipeline.Time    `json:"time"`    // of the most
	Request  string            `json:"request"` // that made it the most
	Signals  []explainedSignal `json:"signals"` // as they stand at the end
}

type explainedSignal struct {
	Name     string  `json:"name"`
	Observed float64 `json:"observed"`
	Expected float64 `json:"expected"`
	Nats     float64 `json:"nats"`
}

func knownTime(t pipeline.Time) *pipeline.Time {
	if t == 0 {
		return nil
	}
	return &t
}

// explained is c for programs.
func (c *clientCase) explained(ctx context.Context, p *replay, why reason) (*clientExplained, error) {
	whole, err := p.whole(ctx)
	if err != nil {
		return nil, err
	}
	x := &clientExplained{
		Principal: c.who, Requests: max(c.client.Requests, c.seen), LookedAt: c.seen, First: knownTime(c.first), Last: knownTime(c.last), Whole: whole,
		Why:   explainedReason{why.code, why.detector, printable(why.text), why.line, why.score, why.missing, why.more, printable(why.of), why.every},
		Notes: c.notes(), ReviewAt: pipeline.ReviewAt.Float(), PageAt: pipeline.PageAt.Float(), Alerts: []explainedAlert{}, Detectors: []explainedNear{},
	}
	for i := range c.alerts {
		a := &c.alerts[i]
		x.Alerts = append(x.Alerts, explainedAlert{a.ID, a.Severity, a.Detector, printable(a.Title), alerts.Hidden(a)})
	}
	standing := map[string][]explainedSignal{}
	for i, n := range c.near {
		if i >= len(c.client.Standing) {
			break
		}
		for _, s := range c.client.Standing[i].Signals {
			standing[n.detector] = append(standing[n.detector], explainedSignal{s.Name, s.Observed, s.Expected, s.Nats.Float()})
		}
	}
	for _, n := range c.sorted() {
		v := explainedNear{Detector: n.detector, Mode: string(n.mode), Counted: n.counted, Signals: []explainedSignal{}}
		if n.counted > 0 {
			v.Nats, v.Time, v.Request = n.best.Float(), knownTime(n.when), printable(n.what)
			v.Signals = append(v.Signals, standing[n.detector]...)
		}
		x.Detectors = append(x.Detectors, v)
	}
	return x, nil
}

// notes are what else has to do with it, a sentence each.
func (c *clientCase) notes() []string {
	list := []string{}
	for _, h := range c.client.Hides {
		list = append(list, printable(h))
	}
	for _, n := range c.broken {
		if n.misses > 0 {
			list = append(list, fmt.Sprintf("%d of its misses were at %s %s while it failed for everybody (%s to %s): these count against nobody",
				n.misses, printable(n.endpoint.Method), printable(n.endpoint.Template), n.from.Std().Format(time.RFC3339), n.to.Std().Format(time.RFC3339)))
		}
	}
	if c.cold {
		list = append(list, "no endpoint templates are learned yet: until then an unknown path is no miss")
	}
	return list
}

// alertExplained is why an alert fired.
type alertExplained struct {
	ID       string            `json:"id"`
	Detector string            `json:"detector"`
	Nats     float64           `json:"nats"`
	ReviewAt float64           `json:"review_at"`
	PageAt   float64           `json:"page_at"`
	Signals  []explainedSignal `json:"signals"`
	Whole    bool              `json:"whole"`
	Events   []explainedEvent  `json:"events"` // the first maxEvents
	Total    int               `json:"total"`
	Still    bool              `json:"still"` // it fires without them, too
}

// explainedEvent is a request that carries evidence; nats is null for one that
// would if those before it were not there.
type explainedEvent struct {
	Nats    *float64      `json:"nats"`
	Time    pipeline.Time `json:"time"`
	Address string        `json:"address"`
	Request string        `json:"request"`
	Source  string        `json:"source"` // as in an alert's exemplars
}

// maxEvents bounds the events of an answer.
const maxEvents = 2000

func explainedOf(al *pipeline.Alert) *alertExplained {
	x := &alertExplained{
		ID: al.ID, Detector: al.Detector, Nats: al.Score.Nats, ReviewAt: al.Score.ReviewAt, PageAt: al.Score.PageAt,
		Signals: []explainedSignal{}, Events: []explainedEvent{}, Whole: true,
	}
	for _, s := range al.Signals {
		x.Signals = append(x.Signals, explainedSignal{s.Name, s.Observed, s.Expected, s.Nats})
	}
	return x
}

// explainAlertJSON is explainAlert for programs.
func (p *replay) explainAlertJSON(ctx context.Context, out io.Writer, al *pipeline.Alert, events bool) (err error) {
	x := explainedOf(al)
	if x.Whole, err = p.whole(ctx); err != nil {
		return err
	}
	if events {
		list, still, err := p.evidenceOf(ctx, al)
		if err != nil {
			return err
		}
		x.take(list, still)
	}
	return explanation{Alert: x}.print(out)
}

func (x *alertExplained) take(list []traced, still bool) {
	x.Total, x.Still = len(list), still
	for _, e := range list[:min(len(list), maxEvents)] {
		v := explainedEvent{Time: e.when, Address: e.ip, Request: printable(e.what), Source: fmt.Sprintf("%s:%d", printable(filepath.Base(e.at.source)), e.at.line)}
		if e.counted {
			nats := e.gain.Float()
			v.Nats = &nats
		}
		x.Events = append(x.Events, v)
	}
}

// lineExplained is how a line is read.
type lineExplained struct {
	Format   string      `json:"format"`
	Fields   []lineField `json:"fields"`
	Rejected string      `json:"rejected"` // why it is no request, "" when it is one
}

type lineField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
