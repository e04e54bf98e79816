package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"weir/pipeline"
)

// TrafficStore is what charts are made from.
type TrafficStore interface {
	// Minutes calls fn for the rollups of [since, until), in order of time.
	Minutes(ctx context.Context, since, until pipeline.Time, fn func(m Minute)) error
	// EndpointTotals sums the rollups of endpoints over [since, until); other are the
	// requests past the bound of endpoints that are told apart.
	EndpointTotals(ctx context.Context, since, until pipeline.Time) (list []EndpointTotal, other int64, err error)
	// EndpointMinutes calls fn for an endpoint's rollups of [since, until), in order
	// of time.
	EndpointMinutes(ctx context.Context, of pipeline.Endpoint, since, until pipeline.Time, fn func(m Minute)) error
}

// Minute is traffic of one minute.
type Minute struct {
	Time     pipeline.Time
	Source   string // "" of an endpoint's
	Class    int    // of the status: 2 is 2xx; 0 unknown
	Requests int64
	Bytes    int64
}

// EndpointTotal is an endpoint's traffic.
type EndpointTotal struct {
	Endpoint                pipeline.Endpoint
	Requests, Errors, Bytes int64
	Last                    pipeline.Time
}

// What charts show.
const (
	maxSpan      = 31 * 24 * 3600 * 1e6 // microseconds; longer is cut at its beginning
	daySpan      = 24 * 3600 * 1e6
	maxMinutes   = 24 * 60 // points by the minute; longer spans go by the hour
	maxRead      = 200_000 // requests read for one principal
	topEndpoints = 50
	topOthers    = 20
)

// span is the time of a chart.
type span struct {
	since, until pipeline.Time
	step         int64 // seconds
}

// span reads since, until and step: without them the last day of event time.
func (c *console) span(q *query) span {
	var s span
	s.since, s.until = q.window()
	step := q.one("step", "minute or hour")
	if step != "" && step != "minute" && step != "hour" {
		q.bad("step", step, "minute or hour")
	}
	if s.until == 0 {
		if s.until = s.since + daySpan; s.since == 0 && c.Through != nil {
			s.until = (c.Through()/60e6 + 1) * 60e6
		}
	}
	if s.since == 0 {
		s.since = s.until - daySpan
	}
	s.since = max(s.since, s.until-maxSpan, 1)
	if s.step = 60; step == "hour" || step == "" && s.until-s.since > maxMinutes*60e6 {
		s.step = 3600
	}
	if s.step == 60 {
		s.since = max(s.since, s.until-7*daySpan)
	}
	s.since -= s.since % pipeline.Time(s.step*1e6)
	return s
}

// points is how many steps there are.
func (s *span) points() int { return int((int64(s.until-s.since) + s.step*1e6 - 1) / (s.step * 1e6)) }

// at is the step of t, false outside.
func (s *span) at(t pipeline.Time) (int, bool) {
	i := int(int64(t-s.since) / (s.step * 1e6))
	return i, t >= s.since && i < s.points()
}

// classes counts requests by the class of their status.
type classes struct {
	OK       int64 `json:"2xx"`
	Redirect int64 `json:"3xx"`
	Client   int64 `json:"4xx"`
	Server   int64 `json:"5xx"`
	Other    int64 `json:"other"`
}

func (c *classes) add(class int, n int64) {
	switch class {
	case 2:
		c.OK += n
	case 3:
		c.Redirect += n
	case 4:
		c.Client += n
	case 5:
		c.Server += n
	default:
		c.Other += n
	}
}

// series is a chart: a number each step.
type series struct {
	Step     int64         `json:"step_s"`
	Start    pipeline.Time `json:"start"`
	Requests []int64       `json:"requests"`
	Errors   []int64       `json:"errors"` // 4xx and 5xx
}

func newSeries(s *span) series {
	return series{s.step, s.since, make([]int64, max(s.points(), 0)), make([]int64, max(s.points(), 0))}
}

func (v *series) add(s *span, t pipeline.Time, class int, n int64) {
	i, ok := s.at(t)
	if !ok {
		return
	}
	v.Requests[i] += n
	if class == 4 || class == 5 {
		v.Errors[i] += n
	}
}

// named is how often something was seen.
type named struct {
	Value    string `json:"value"`
	Requests int64  `json:"requests"`
}

// topOf are the most frequent of counts.
func topOf(counts map[string]int64, most int) []named {
	list := make([]named, 0, len(counts))
	for v, n := range counts {
		list = append(list, named{v, n})
	}
	slices.SortFunc(list, func(a, b named) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Value, b.Value))
	})
	return list[:min(len(list), most)]
}

// trafficView is all traffic.
type trafficView struct {
	Since   pipeline.Time `json:"since"`
	Until   pipeline.Time `json:"until"`
	Totals  classes       `json:"statuses"`
	Series  series        `json:"series"`
	Sources []named       `json:"sources"`
}

// traffic answers how much there was.
func (c *console) traffic(r *http.Request) (any, error) {
	q := newQuery(r.URL.RawQuery)
	s := c.span(q)
	if err := q.err(); err != nil {
		return nil, err
	}
	v := trafficView{Since: s.since, Until: s.until, Series: newSeries(&s)}
	sources := map[string]int64{}
	err := c.Store.Minutes(r.Context(), s.since, s.until, func(m Minute) {
		v.Totals.add(m.Class, m.Requests)
		v.Series.add(&s, m.Time, m.Class, m.Requests)
		sources[m.Source] += m.Requests
	})
	v.Sources = topOf(sources, topOthers)
	return v, err
}

// endpointRow is an endpoint in the list.
type endpointRow struct {
	pipeline.Endpoint
	Requests int64          `json:"requests"`
	Errors   int64          `json:"errors"`
	Bytes    int64          `json:"bytes"`
	Alerts   int64          `json:"alerts"`
	Last     *pipeline.Time `json:"last"`
}

// endpoints answers {"data":[...],"more":BOOL,"since","until","other":{"requests"}}.
func (c *console) endpoints(r *http.Request) (any, error) {
	q := newQuery(r.URL.RawQuery)
	s := c.span(q)
	word := strings.ToLower(q.term("q", "part of an endpoint"))
	order := q.one("sort", "requests, errors, alerts or name")
	if order != "" && !slices.Contains([]string{"requests", "errors", "alerts", "name"}, order) {
		q.bad("sort", order, "requests, errors, alerts or name")
	}
	limit := int(q.number("limit", alertsLimit, 1, maxAlerts))
	if err := q.err(); err != nil {
		return nil, err
	}
	totals, other, err := c.Store.EndpointTotals(r.Context(), s.since, s.until)
	if err != nil {
		return nil, err
	}
	groups, err := c.Store.GroupAlerts(r.Context(), AlertQuery{Since: s.since, Until: s.until}, "endpoint")
	if err != nil {
		return nil, err
	}
	alerts := map[string]int64{}
	for _, g := range groups {
		alerts[g.Key] = g.Count
	}
	rows := []endpointRow{}
	add := func(t EndpointTotal) {
		key := t.Endpoint.Method + " " + t.Endpoint.Host + " " + t.Endpoint.Template
		n := alerts[key]
		delete(alerts, key)
		if word == "" || strings.Contains(strings.ToLower(key), word) {
			rows = append(rows, endpointRow{t.Endpoint, t.Requests, t.Errors, t.Bytes, n, timeOrNil(t.Last)})
		}
	}
	for _, t := range totals {
		add(t)
	}
	for key := range alerts { // what is alerted and was not told apart
		if parts := strings.SplitN(key, " ", 3); len(parts) == 3 && parts[2] != "" {
			add(EndpointTotal{Endpoint: pipeline.Endpoint{Method: parts[0], Host: parts[1], Template: parts[2]}})
		}
	}
	slices.SortFunc(rows, func(a, b endpointRow) int {
		name := cmp.Or(strings.Compare(a.Template, b.Template), strings.Compare(a.Method, b.Method), strings.Compare(a.Host, b.Host))
		switch order {
		case "errors":
			return cmp.Or(cmp.Compare(b.Errors, a.Errors), name)
		case "alerts":
			return cmp.Or(cmp.Compare(b.Alerts, a.Alerts), cmp.Compare(b.Requests, a.Requests), name)
		case "name":
			return name
		}
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), name)
	})
	more := len(rows) > limit
	return map[string]any{"data": rows[:min(len(rows), limit)], "more": more, "since": s.since, "until": s.until, "other": map[string]int64{"requests": other}}, nil
}

// endpointPage is one endpoint.
type endpointPage struct {
	Endpoint    pipeline.Endpoint `json:"endpoint"`
	Since       pipeline.Time     `json:"since"`
	Until       pipeline.Time     `json:"until"`
	Requests    int64             `json:"requests"`
	Errors      int64             `json:"errors"`
	Bytes       int64             `json:"bytes"`
	Statuses    classes           `json:"statuses"`
	Series      series            `json:"series"`
	Alerts      []alertRow        `json:"alerts"`
	AlertsTotal int64             `json:"alerts_total"`
	Baseline    *Baseline         `json:"baseline"`
}

// Baseline is what the edition knows of an endpoint.
type Baseline struct {
	Edition string         `json:"edition"`
	Known   bool           `json:"known"` // it has a template of its own
	Facts   []BaselineFact `json:"facts"`
}

// BaselineFact is one number and what it means.
type BaselineFact struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Text  string  `json:"text"`
}

// endpoint answers one endpoint's traffic and alerts.
func (c *console) endpoint(r *http.Request) (any, error) {
	q := newQuery(r.URL.RawQuery)
	s := c.span(q)
	of := pipeline.Endpoint{Method: q.term("method", "a method"), Host: q.term("host", "a host"), Template: q.one("template", "a template")}
	if err := q.err(); err != nil {
		return nil, err
	}
	if of.Method == "" || of.Template == "" {
		return nil, &problem{Status: http.StatusBadRequest, Detail: "give method and template, and host where there are several"}
	}
	v := endpointPage{Endpoint: of, Since: s.since, Until: s.until, Series: newSeries(&s)}
	err := c.Store.EndpointMinutes(r.Context(), of, s.since, s.until, func(m Minute) {
		v.Requests += m.Requests
		v.Bytes += m.Bytes
		if m.Class == 4 || m.Class == 5 {
			v.Errors += m.Requests
		}
		v.Statuses.add(m.Class, m.Requests)
		v.Series.add(&s, m.Time, m.Class, m.Requests)
	})
	if err != nil {
		return nil, err
	}
	list, err := c.Store.FindAlerts(r.Context(), AlertQuery{Endpoint: of.Method + " " + of.Host + " " + of.Template, Since: s.since, Until: s.until, Limit: topEndpoints, Count: true})
	if err != nil {
		return nil, err
	}
	v.AlertsTotal = list.Total
	if v.Alerts, err = rowsOf(list.Alerts); err != nil {
		return nil, err
	}
	if c.Baseline != nil {
		v.Baseline = c.Baseline(of)
	}
	return v, nil
}

// principalView is one principal.
type principalView struct {
	Principal   pipeline.Principal `json:"principal"`
	Since       pipeline.Time      `json:"since"`
	Until       pipeline.Time      `json:"until"`
	Complete    bool               `json:"complete"` // else the newest part is here
	Requests    int64              `json:"requests"`
	Bytes       int64              `json:"bytes"`
	FirstSeen   *pipeline.Time     `json:"first_seen"`
	LastSeen    *pipeline.Time     `json:"last_seen"`
	Statuses    classes            `json:"statuses"`
	Series      series             `json:"series"`
	Endpoints   []principalAsked   `json:"endpoints"`
	Addresses   []named            `json:"addresses"`
	Agents      []named            `json:"agents"`
	Context     *principalContext  `json:"context"` // as its latest alert has it
	Alerts      []alertRow         `json:"alerts"`
	AlertsTotal int64              `json:"alerts_total"`
}

type principalAsked struct {
	pipeline.Endpoint
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
}

type principalContext struct {
	ASN     string  `json:"asn"`
	Country string  `json:"country"`
	Network string  `json:"network"`
	People  *[2]int `json:"people"`
}

// principal answers what a principal did: its stored requests, and its alerts of
// all times.
func (c *console) principal(r *http.Request) (any, error) {
	q := newQuery(r.URL.RawQuery)
	s := c.span(q)
	if q.values.Has("principal") {
		q.bad("principal", q.values.Get("principal"), "it in the path alone")
	}
	q.values.Set("principal", r.PathValue("kind")+":"+r.PathValue("value"))
	of := q.principal("principal")
	if err := q.err(); err != nil {
		return nil, err
	}
	v := principalView{Principal: of, Since: s.since, Until: s.until, Complete: true, Series: newSeries(&s), Endpoints: []principalAsked{}}
	if err := c.readPrincipal(r.Context(), &v, &s); err != nil {
		return nil, err
	}
	list, err := c.Store.FindAlerts(r.Context(), AlertQuery{Principal: of, Limit: topEndpoints, Count: true})
	if err != nil {
		return nil, err
	}
	v.AlertsTotal = list.Total
	if v.Alerts, err = rowsOf(list.Alerts); err != nil || len(list.Alerts) == 0 {
		return v, err
	}
	known := list.Alerts[0].Alert.Context
	v.Context = &principalContext{known.ASN, known.Country, known.Network, known.People}
	return v, nil
}

// readPrincipal reads the stored requests of v's principal.
func (c *console) readPrincipal(ctx context.Context, v *principalView, s *span) error {
	addresses, agents := map[string]int64{}, map[string]int64{}
	asked := map[pipeline.Endpoint]*principalAsked{}
	count := func(m map[string]int64, value string) {
		if _, ok := m[value]; ok {
			m[value]++
		} else if len(m) < 10_000 { // it chooses them
			m[strings.Clone(value)] = 1
		}
	}
	f := RequestFilter{Since: s.since, Until: s.until, Principal: v.Principal, Limit: maxRead + 1}
	err := c.Store.Requests(ctx, f, func(r *pipeline.Request, _ string) bool {
		if v.Requests == maxRead {
			v.Complete = false
			return false
		}
		v.Requests++
		v.Bytes += max(r.Bytes, 0)
		class := int(r.Status / 100)
		v.Statuses.add(class, 1)
		v.Series.add(s, r.Time, class, 1)
		if v.LastSeen == nil || r.Time > *v.LastSeen {
			v.LastSeen = new(r.Time)
		}
		if v.FirstSeen == nil || r.Time < *v.FirstSeen {
			v.FirstSeen = new(r.Time)
		}
		count(addresses, r.Address.String())
		count(agents, r.Agent)
		template := r.Path
		if c.Template != nil {
			template = c.Template(r.Host, r.Path)
		}
		at := pipeline.Endpoint{Method: r.Method, Host: r.Host, Template: template}
		a := asked[at]
		if a == nil && len(asked) < 10_000 {
			at = pipeline.Endpoint{Method: strings.Clone(r.Method), Host: strings.Clone(r.Host), Template: strings.Clone(template)}
			a = &principalAsked{Endpoint: at}
			asked[at] = a
		}
		if a != nil {
			a.Requests++
			if class == 4 || class == 5 {
				a.Errors++
			}
		}
		return true
	})
	v.Addresses, v.Agents = topOf(addresses, topOthers), topOf(agents, topOthers)
	for _, a := range asked {
		v.Endpoints = append(v.Endpoints, *a)
	}
	slices.SortFunc(v.Endpoints, func(a, b principalAsked) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Template, b.Template), strings.Compare(a.Method, b.Method))
	})
	v.Endpoints = v.Endpoints[:min(len(v.Endpoints), topEndpoints)]
	return err
}
