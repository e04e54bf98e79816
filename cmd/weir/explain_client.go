package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"weir/alerts"
	"weir/detectors"
	"weir/pipeline"
)

// nearest is how close a detector came to a principal.
type nearest struct {
	detector string
	mode     detectors.Mode
	counted  int64
	best     pipeline.Nats
	when     pipeline.Time
	what     string
	at       spot
	gaps     []time.Duration // between what was counted, the latest
	last     pipeline.Time
}

// maxGaps is how many gaps tell a client's pace.
const maxGaps = 32

// clientCase is what is known of why a client alerted, or did not.
type clientCase struct {
	who      pipeline.Principal
	owner    uint64
	from, to pipeline.Time

	near   []nearest
	seen   int64 // requests that detectors looked at
	first  pipeline.Time
	last   pipeline.Time
	alerts []pipeline.Alert // as they stand at the end
	hidden []hiddenCase     // findings that became no alert
	client detectors.Client
	known  bool // something of it is remembered
	cold   bool // no endpoint templates are learned at all
	sizes  detectors.Stats
	users  []string // that its logins tried, two at most
	missed []miss
	broken []notice
}

// miss is a request of the client that was refused or found nothing.
type miss struct {
	r  pipeline.Request // method, host, path and operation
	at pipeline.Time
}

// maxMissed bounds the misses that are compared with notices.
const maxMissed = 4096

// notice is an endpoint that failed for everybody.
type notice struct {
	endpoint pipeline.Endpoint
	from, to pipeline.Time
	misses   int // of the client there, meanwhile
}

// hiddenCase is a finding that became no alert.
type hiddenCase struct {
	detector string
	score    pipeline.Nats
	fate     fate
}

func explainClient(ctx context.Context, out io.Writer, f replayFlags, text string, span [2]string, asJSON bool, inputs []string, stdin io.Reader) error {
	o := backtestOptions{since: span[0], until: span[1]}
	since, until, err := o.window()
	if err != nil {
		return err
	}
	p, err := openReplay(ctx, f, inputs, stdin)
	if err != nil {
		return err
	}
	defer p.close()
	who, err := p.principal(text)
	if err != nil {
		return err
	}
	c, err := p.client(ctx, who, since, cmp.Or(until, pipeline.MaxTime))
	if err != nil {
		return err
	}
	unseen := !c.known && c.seen == 0
	if unseen && !asJSON {
		return fmt.Errorf("--client %s: no request of %s %s; who a request belongs to: weir explain LINE", text, who.Kind, openText(who.Value, p.keys))
	}
	why := c.why()
	if why.code == "below" {
		if err := p.missing(ctx, c, &why); err != nil {
			return err
		}
	}
	if asJSON {
		if unseen {
			why = reason{code: "unknown", text: "no request that is stored belongs to it"}
		}
		x, err := c.explained(ctx, p, why)
		return errors.Join(err, explanation{Client: x}.print(out))
	}
	c.print(out, p, why)
	return nil
}

// client detects everything and keeps what has to do with who.
func (p *replay) client(ctx context.Context, who pipeline.Principal, from, to pipeline.Time) (*clientCase, error) {
	c := &clientCase{who: who, owner: who.Hash(), from: from, to: to}
	modes := p.cfg.modes()
	for _, name := range detectorNames() {
		c.near = append(c.near, nearest{detector: name, mode: cmp.Or(modes[name], detectors.ModeOn)})
	}
	p.finding = c.finding
	defer func() { p.finding = nil }()
	at := map[string]int{}
	e, err := p.run(ctx, nil, c.trace, func(a *pipeline.Alert) {
		if a.Principal != who && !slices.Contains(a.Members, who) || a.Window.Last < from || a.Window.First > to {
			return
		}
		i, ok := at[a.ID]
		if !ok {
			i = len(c.alerts)
			at[a.ID] = i
			c.alerts = append(c.alerts, pipeline.Alert{})
		}
		c.alerts[i] = *a
	})
	if err != nil {
		return nil, err
	}
	for _, a := range e.book.Open() {
		// Of those that joined it since, a campaign may not have told yet.
		if _, told := at[a.ID]; !told && slices.Contains(a.Members, who) && a.Window.Last >= from && a.Window.First <= to {
			c.alerts = append(c.alerts, a)
		}
	}
	if err := c.modesOf(e); err != nil {
		return nil, err
	}
	c.excuse(e.set)
	c.client, c.known = e.set.Client(c.owner)
	c.cold = e.set.Edition().Templates.Len() == 0
	c.sizes = e.set.Stats()
	return c, nil
}

// modesOf takes the modes that are in force at the end, as the log has them.
func (c *clientCase) modesOf(e *engine) error {
	if e.configBody == nil {
		return nil
	}
	var in detectConfig
	if err := json.Unmarshal(e.configBody, &in); err != nil {
		return fmt.Errorf("read the configuration of detection in the log: %w", err)
	}
	for i := range c.near {
		c.near[i].mode = cmp.Or(in.Modes[c.near[i].detector], detectors.ModeOn)
	}
	return nil
}

func (c *clientCase) finding(f *pipeline.Finding, fate fate) {
	if f.Facts.Excuses && fate == fateTold {
		i := slices.IndexFunc(c.broken, func(n notice) bool { return n.endpoint == f.Endpoint && n.from == f.Onset })
		if i < 0 {
			i = len(c.broken)
			c.broken = append(c.broken, notice{endpoint: f.Endpoint, from: f.Onset})
		}
		c.broken[i].to = max(c.broken[i].to, f.Last)
	}
	if fate == fateTold || f.Who != c.who || f.Time < c.from || f.Time > c.to {
		return
	}
	i := slices.IndexFunc(c.hidden, func(h hiddenCase) bool { return h.detector == f.Detector && h.fate == fate })
	if i < 0 {
		i = len(c.hidden)
		c.hidden = append(c.hidden, hiddenCase{detector: f.Detector, fate: fate})
	}
	c.hidden[i].score = max(c.hidden[i].score, f.Score)
}

func (c *clientCase) trace(x detectors.Traced) {
	if x.Owner != c.owner || x.Request.Effective < c.from || x.Request.Effective > c.to {
		return
	}
	i := slices.IndexFunc(c.near, func(n nearest) bool { return n.detector == x.Detector })
	if i < 0 {
		return
	}
	if now := x.Request.Effective; !x.Wide && (c.seen == 0 || now != c.last || i == 0) {
		if c.seen == 0 {
			c.first = now
		}
		if i == 0 || now != c.last {
			c.seen++
		}
		c.last = now
	}
	if u := x.Request.LoginUser; u != "" && len(c.users) < 2 && !slices.Contains(c.users, u) {
		c.users = append(c.users, strings.Clone(u))
	}
	if i == 0 && x.Request.Answer() >= 400 && len(c.missed) < maxMissed {
		r := x.Request
		c.missed = append(c.missed, miss{pipeline.Request{
			Method: strings.Clone(r.Method), Host: strings.Clone(r.Host), Path: strings.Clone(r.Path), Operation: strings.Clone(r.Operation), Status: r.Status,
		}, r.Effective})
	}
	if x.Counted {
		c.near[i].count(x)
	}
}

// excuse counts the client's misses where everybody was refused.
func (c *clientCase) excuse(set *detectors.Set) {
	for i := range c.broken {
		n := &c.broken[i]
		for j := range c.missed {
			m := &c.missed[j]
			if m.at >= n.from && m.at <= n.to && m.r.Host == n.endpoint.Host && set.Read(&m.r).Template == n.endpoint.Template {
				n.misses++
			}
		}
	}
}

func (n *nearest) count(x detectors.Traced) {
	r := x.Request
	if n.counted++; n.counted > 1 && r.Effective >= n.last {
		if len(n.gaps) == maxGaps {
			n.gaps = slices.Delete(n.gaps, 0, 1)
		}
		n.gaps = append(n.gaps, r.Effective.Sub(n.last))
	}
	n.last = r.Effective
	if x.Score < n.best || x.Score == n.best && n.counted > 1 && x.Score > 0 {
		return
	}
	n.best, n.when = x.Score, r.Effective
	n.what = fmt.Sprintf("%s %s %d", r.Method, r.Path, r.Status)
	n.at = spotOf(r.Block.Source, r.Request)
	if x.Late {
		n.what = "when it became known whose an object is that it had asked for"
	}
}

// sorted is the detectors, the nearest first.
func (c *clientCase) sorted() []nearest {
	list := slices.Clone(c.near)
	slices.SortStableFunc(list, func(a, b nearest) int {
		return cmp.Or(-cmp.Compare(a.best, b.best), -cmp.Compare(a.counted, b.counted))
	})
	return list
}

func (c *clientCase) print(out io.Writer, p *replay, why reason) {
	fmt.Fprintf(out, "%s %s: %d requests\n", c.who.Kind, printable(openText(c.who.Value, p.keys)), max(c.client.Requests, c.seen))
	for i := range c.alerts {
		a := &c.alerts[i]
		fmt.Fprintf(out, "  alert %s: %s %s, %s\n", a.ID, strings.ToUpper(a.Severity), a.Detector, printable(openText(a.Title, p.keys)))
		if hidden := alerts.Hidden(a); hidden != "" {
			fmt.Fprintf(out, "    %s\n", hidden)
		}
	}
	if why.code != "alerted" {
		fmt.Fprintf(out, "Why no alert: %s.\n", printable(why.text))
	}
	for _, note := range c.notes() {
		fmt.Fprintf(out, "  note: %s\n", note)
	}
	if c.known && !c.client.Full {
		return
	}
	fmt.Fprintf(out, "Looked at closely: %d requests. Review takes %.2f nats, a page %.2f.\n", c.seen, pipeline.ReviewAt.Float(), pipeline.PageAt.Float())
	for i, n := range c.near {
		mode := ""
		if n.mode != detectors.ModeOn {
			mode = fmt.Sprintf(" (detect.%s.mode: %s hides what it finds)", n.detector, n.mode)
		}
		switch {
		case n.counted == 0:
			fmt.Fprintf(out, "  %-16s nothing counted%s\n", n.detector, mode)
			continue
		case n.best >= pipeline.ReviewAt:
			fmt.Fprintf(out, "  %-16s %.2f nats, enough%s\n", n.detector, n.best.Float(), mode)
		default:
			fmt.Fprintf(out, "  %-16s %.2f nats at most, %.2f missing%s\n", n.detector, n.best.Float(), (pipeline.ReviewAt - n.best).Float(), mode)
		}
		fmt.Fprintf(out, "    %d requests counted; the most at %s, %s\n", n.counted, n.when.Std().Format(time.RFC3339), printable(n.what))
		if i < len(c.client.Standing) {
			for _, s := range c.client.Standing[i].Signals {
				fmt.Fprintf(out, "    at the end %+.2f  %s: %s observed, %s expected\n", s.Nats.Float(), s.Name, short(s.Observed), short(s.Expected))
			}
		}
	}
}
