package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"weir/bench/fixed"
	"weir/bench/simulate"
	"weir/collector"
	"weir/detectors"
	"weir/pipeline"
)

// trial is one simulated log and what was made of it: by weir, with an edition
// that was learned elsewhere, and by fixed thresholds.
type evalTrial struct {
	labels  *Labels
	truth   []simulate.Label
	traffic *TrafficStats
	alerts  []pipeline.Alert // all revisions
	fixed   []pipeline.Alert
	events  int64
	blind   bool // endpoints that do not show which objects are asked for were named
}

// evalLab holds what all trials share. It is safe for several goroutines.
type evalLab struct {
	cfg  *config
	keys *pipeline.PrivacyKeys
	id   *pipeline.Identity
	// plain leaves out what the common log forms do not have: accounts, keys and
	// sessions.
	plain bool
}

func newEvalLab(path string) (*evalLab, error) {
	cfg, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	keys, err := openKeys(cfg.Privacy.KeyFile)
	if err != nil {
		return nil, err
	}
	logins, err := pipeline.NewLoginRules(cfg.Endpoints)
	if err != nil {
		return nil, err
	}
	id, err := pipeline.NewIdentity(cfg.Identity, keys, logins)
	if err != nil {
		return nil, err
	}
	return &evalLab{cfg: cfg, keys: keys, id: id}, nil
}

// request turns an event into the request that a JSON log of it gives.
func (l *evalLab) request(q *pipeline.Request, r *pipeline.Resolver, e *simulate.Event, line int64) {
	path, query, _ := strings.Cut(e.Path, "?")
	*q = pipeline.Request{
		Time: pipeline.TimeOf(e.Time), Line: line, Bytes: e.Bytes, Duration: e.Duration.Microseconds(), Status: uint16(e.Status),
		Method: e.Method, Host: e.Host, Path: path, Query: query, Agent: e.Agent, Referer: e.Referer, JA4: e.JA4,
		ASN: e.ASN, Operation: e.Operation,
	}
	if len(e.Country) == 2 {
		q.Country = pipeline.Country{e.Country[0], e.Country[1]}
	}
	if e.AppStatus {
		q.SetApp(uint16(e.AppCode))
	}
	if strings.HasSuffix(path, q.Operation) {
		q.Operation = ""
	}
	var body collector.Body
	if e.ContentBody != "" {
		body, _ = collector.ReadBody(nil, path, e.Operation, []byte(e.ContentBody), nil)
	}
	c := pipeline.Clear{Remote: e.IP, User: e.User, APIKey: e.APIKey, Session: e.Session, LoginUser: e.LoginUser, BodyUser: body.User}
	if l.plain {
		c = pipeline.Clear{Remote: e.IP}
	}
	r.Resolve(q, &c)
	body.Apply(q)
	q.Query, q.Path, q.Referer = strings.Clone(q.Query), strings.Clone(q.Path), strings.Clone(q.Referer)
	q.Account, q.Key, q.Session, q.LoginUser = strings.Clone(q.Account), strings.Clone(q.Key), strings.Clone(q.Session), strings.Clone(q.LoginUser)
	q.Seal()
}

// learn fits an edition to a scenario.
func (l *evalLab) learn(ctx context.Context, s *simulate.Scenario, seed uint64) (*pipeline.Edition, error) {
	fitter := detectors.NewFitter()
	r := l.id.NewResolver()
	var line int64
	if _, err := s.Run(seed, func(e *simulate.Event) error {
		line++
		var q pipeline.Request
		l.request(&q, r, e, line)
		fitter.Add(&q)
		if line%4096 == 0 {
			return ctx.Err()
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return fitter.Fit(0)
}

// evalBlock is how many requests a block holds.
const evalBlock = 2048

// run plays a scenario through detection under an edition.
func (l *evalLab) run(ctx context.Context, s *simulate.Scenario, seed uint64, edition *pipeline.Edition) (*evalTrial, error) {
	blind := newBlindSpots(nil)
	e, err := newEngine(l.cfg, edition, l.keys, nil, 1)
	if err != nil {
		return nil, err
	}
	t := &evalTrial{}
	watch := fixed.New()
	r := l.id.NewResolver()
	e.merge.AddSource(1)
	// Labels come with the last event; what the requests were is kept, small, to
	// count them then.
	var seen []evalSeen
	var block *pipeline.Block
	push := func() {
		if block == nil {
			return
		}
		e.merge.Push(block)
		t.alerts = e.drain(t.alerts)
		e.merge.Done(nil)
		block = nil
	}
	t.truth, err = s.Run(seed, func(ev *simulate.Event) error {
		t.events++
		if block == nil {
			block = &pipeline.Block{Source: "simulated", SourceID: 1, Watermark: pipeline.NoTime, Requests: make([]pipeline.Request, 0, evalBlock), Cause: pipeline.CauseRange{From: t.events}}
		}
		block.Requests = append(block.Requests, pipeline.Request{})
		q := &block.Requests[len(block.Requests)-1]
		l.request(q, r, ev, t.events)
		q.Effective = q.Time
		blind.add(q)
		seen = append(seen, evalSeen{q.Time, q.Address, q.Session, q.Key, q.Account})
		path, _, _ := strings.Cut(ev.Path, "?")
		watch.Observe(&fixed.Event{Time: q.Time, Address: q.Address, Method: ev.Method, Path: path, Status: uint16(ev.Status)})
		if len(block.Requests) == evalBlock {
			push()
			return ctx.Err()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	push()
	e.merge.End(1)
	t.alerts = e.drain(t.alerts)
	t.fixed = watch.Finish()
	if t.labels, err = readTruth(t.truth); err != nil {
		return nil, err
	}
	t.labels.Alias(func(kind pipeline.PrincipalKind, value string) string {
		return tokenFor(l.keys, l.cfg.Identity.APIKeyPrefix, kind, value)
	})
	t.blind = blind.opaque()
	t.traffic = NewTrafficStats(t.labels)
	for i := range seen {
		x := &seen[i]
		t.traffic.ObserveRequest(&pipeline.Request{Time: x.at, Address: x.address, Session: x.session, Key: x.key, Account: x.account})
	}
	return t, nil
}

// evalSeen is what of a request its labels need.
type evalSeen struct {
	at                    pipeline.Time
	address               pipeline.Address
	session, key, account string
}

// readTruth takes the simulator's labels as the labels file would.
func readTruth(truth []simulate.Label) (*Labels, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range truth {
		if err := enc.Encode(&truth[i]); err != nil {
			return nil, fmt.Errorf("write label: %w", err)
		}
	}
	return ReadLabels(&b)
}

// evalHit is when an episode was first named, at each level. Requests is -1
// where it never was.
type evalHit struct {
	Requests int64
	Seconds  float64
}

// hits finds when alerts first named episode i, at any severity above info and
// as a page.
func (t *evalTrial) hits(alerts []pipeline.Alert, i int) (any, page evalHit) {
	ep := &t.labels.Episodes[i]
	any, page = evalHit{-1, -1}, evalHit{-1, -1}
	set := func(h *evalHit, at pipeline.Time) {
		at = max(at, ep.Start)
		if s := at.Sub(ep.Start).Seconds(); h.Requests < 0 || s < h.Seconds {
			*h = evalHit{t.traffic.requestsUntil(i, at), s}
		}
	}
	for j := range alerts {
		a := &alerts[j]
		if a.Severity == "info" || strings.HasPrefix(a.Detector, "health.") || labelFamily(ep.Type) != labelFamily(a.Detector) || !windowsOverlap(a, ep) {
			continue
		}
		named := false
		for _, o := range alertOwners(t.labels, a) {
			for _, k := range t.labels.owners[o].episodes {
				named = named || int(k) == i
			}
		}
		if !named {
			continue
		}
		// Only the first revision was told when the case opened.
		at := a.Window.DetectedAt
		if a.Revision > 1 {
			at = a.Window.Last
		}
		if at < wholeSecond(ep.Start) {
			continue
		}
		set(&any, at)
		if a.Severity == "high" || a.Severity == "critical" || a.Score.Nats >= a.Score.PageAt {
			set(&page, at)
		}
	}
	return any, page
}
