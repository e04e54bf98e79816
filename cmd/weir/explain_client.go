package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

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

// clientQuestion is what weir explain --client is asked.
type clientQuestion struct {
	client string
	span   [2]string // --since, --until
	output string    // text, json
	hidden bool      // names stay tokens
	plain  bool      // progress for a program: a number from 0 to 1 a line
}

func explainClient(ctx context.Context, out, stderr io.Writer, f replayFlags, q clientQuestion, inputs []string, stdin io.Reader) error {
	o := backtestOptions{since: q.span[0], until: q.span[1]}
	since, until, err := o.window()
	if err != nil {
		return err
	}
	p, err := openReplay(ctx, f, inputs, stdin)
	if err != nil {
		return err
	}
	defer p.close()
	who, err := p.principal(q.client)
	if err != nil {
		return err
	}
	bar := &backtestBar{w: stderr, quiet: true, plain: q.plain}
	p.progress = func(done float64, lines int64) { bar.update(0, done, lines) }
	c, err := p.client(ctx, who, since, cmp.Or(until, pipeline.MaxTime))
	if err != nil {
		return err
	}
	if !c.known && c.seen == 0 {
		return fmt.Errorf("--client %s: no request of %s %s; who a request belongs to: weir explain LINE", q.client, who.Kind, openText(who.Value, p.keys))
	}
	why := c.why()
	if why.Code == "below" {
		p.progress = func(done float64, lines int64) { bar.update(1, done, lines) }
		if err := p.missing(ctx, c, &why); err != nil {
			return err
		}
	}
	open := func(s string) string { return openText(s, p.keys) }
	if q.hidden {
		open = func(s string) string { return s }
	}
	x := c.explanation(why, open)
	if q.output == "json" {
		return printJSON(out, x)
	}
	x.print(out)
	return nil
}

// printJSON writes v for programs, and for people who read what those do.
func printJSON(out io.Writer, v any) error {
	body, err := json.MarshalIndent(v, "", " ")
	if err == nil {
		_, err = out.Write(append(body, '\n'))
	}
	return err
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
