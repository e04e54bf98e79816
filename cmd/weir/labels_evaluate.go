package main

import (
	"slices"
	"strings"

	"weir/pipeline"
)

// listedFalse bounds the list of false alerts; the counts are always whole.
const listedFalse = 1000

// Evaluation compares alerts with labels. What cannot be known (no episodes,
// no traffic counted) is nil, never 0.
//
// An alert matches an episode when its principal, one of its addresses or a
// member is among the episode's principals, the families are equal and the
// windows overlap. An alert that matches none is misnamed when it names an
// attacker all the same, and false when it names harmless or unlabelled
// clients only; both count against precision, only the latter against the rates
// of false alerts. health.* and info alerts are counted apart.
type Evaluation struct {
	Requests        *int64   `json:"requests"`
	CleanClientDays *int64   `json:"clean_client_days"`
	Days            *float64 `json:"days"` // at least 1

	Episodes int             `json:"episodes"`
	Detected int             `json:"detected"`
	Recall   *float64        `json:"recall"`
	Types    []TypeResult    `json:"types"`
	Results  []EpisodeResult `json:"results"` // one an episode, in the labels' order

	Alerts    int      `json:"alerts"` // without health and info
	Matched   int      `json:"matched"`
	Misnamed  int      `json:"misnamed"`
	False     int      `json:"false"`
	Precision *float64 `json:"precision"`
	Health    int      `json:"health"`
	Info      int      `json:"info"`

	SecondsMedian  *float64 `json:"seconds_to_detect_median"`
	SecondsP95     *float64 `json:"seconds_to_detect_p95"`
	RequestsMedian *int64   `json:"requests_to_detect_median"`
	RequestsP95    *int64   `json:"requests_to_detect_p95"`

	FalsePerMillionRequests   *float64        `json:"false_per_million_requests"`
	FalsePerMillionClientDays *float64        `json:"false_per_million_clean_client_days"`
	Profiles                  []ProfileResult `json:"profiles"`

	AlertsPerEpisode *float64 `json:"alerts_per_episode"` // of detected episodes
	Pages            int      `json:"pages"`              // alerts that were high or critical at some time
	PagesPerDay      *float64 `json:"pages_per_day"`

	FalseAlerts []AlertRef `json:"false_alerts"` // misnamed ones too; at most 1,000
}

// TypeResult is the recall of one type of attack.
type TypeResult struct {
	Type     string  `json:"type"`
	Episodes int     `json:"episodes"`
	Detected int     `json:"detected"`
	Paged    int     `json:"paged"` // detected by an alert that was high or critical
	Recall   float64 `json:"recall"`

	SecondsMedian  *float64 `json:"seconds_to_detect_median"`
	RequestsMedian *int64   `json:"requests_to_detect_median"`
}

// EpisodeResult is what became of one episode. Seconds and Requests run from
// its start to the first alert.
type EpisodeResult struct {
	Episode  string   `json:"episode"`
	Type     string   `json:"type"`
	Alerts   int      `json:"alerts"`   // those that a campaign tells of not counted
	Detector string   `json:"detector"` // of the first alert; "" none
	Paged    bool     `json:"paged"`
	Seconds  *float64 `json:"seconds"`
	Requests *int64   `json:"requests"`
	Of       *int64   `json:"of"` // requests of the episode that were seen
	at       pipeline.Time
}

// ProfileResult counts the false alerts on one kind of harmless client.
type ProfileResult struct {
	Profile    string `json:"profile"` // "unlabelled" for clients the labels do not name
	Clients    int    `json:"clients"`
	Requests   *int64 `json:"requests"`
	ClientDays *int64 `json:"client_days"`
	False      int    `json:"false"`
}

// AlertRef names an alert in a list.
type AlertRef struct {
	ID       string `json:"id"`
	Detector string `json:"detector"`
	Severity string `json:"severity"`
	Title    string `json:"title"`
	About    string `json:"about"` // the profile, "unlabelled", or the attacker's episode
	Misnamed bool   `json:"misnamed"`
}

// incidentRevisions is one alert id with its revisions in order.
type incidentRevisions struct {
	revisions []*pipeline.Alert
	paged     bool
}

func (in *incidentRevisions) latest() *pipeline.Alert { return in.revisions[len(in.revisions)-1] }

// Evaluate compares alerts, all revisions in order, with labels. traffic may be
// nil: what it would tell is then unknown. alerts is only read.
func Evaluate(labels *Labels, alerts []pipeline.Alert, traffic *TrafficStats) *Evaluation {
	e := &Evaluation{
		Episodes:    len(labels.Episodes),
		Results:     make([]EpisodeResult, len(labels.Episodes)),
		FalseAlerts: []AlertRef{},
	}
	for i := range labels.Episodes {
		e.Results[i] = EpisodeResult{Episode: labels.Episodes[i].ID, Type: labels.Episodes[i].Type}
		if traffic != nil {
			e.Results[i].Of = new(traffic.episodes[i].total)
		}
	}
	falseOf := make([]int, len(labels.Profiles)+1) // the last: unlabelled
	for _, in := range groupRevisions(alerts) {
		e.take(labels, in, falseOf)
	}
	for i := range e.Results {
		if r := &e.Results[i]; r.Detector != "" {
			at := max(r.at, labels.Episodes[i].Start)
			r.Seconds = new(at.Sub(labels.Episodes[i].Start).Seconds())
			if traffic != nil {
				r.Requests = new(traffic.requestsUntil(i, at))
			}
		}
	}
	e.sum(labels, traffic, falseOf)
	return e
}

// groupRevisions gathers revisions by id, ids in order of first appearance.
func groupRevisions(alerts []pipeline.Alert) []*incidentRevisions {
	var all []*incidentRevisions
	byID := make(map[string]*incidentRevisions)
	for i := range alerts {
		a := &alerts[i]
		in := byID[a.ID]
		if in == nil {
			in = &incidentRevisions{}
			byID[a.ID] = in
			all = append(all, in)
		}
		in.revisions = append(in.revisions, a)
		in.paged = in.paged || a.Severity == "high" || a.Severity == "critical"
	}
	return all
}

// take judges one alert.
func (e *Evaluation) take(labels *Labels, in *incidentRevisions, falseOf []int) {
	a := in.latest()
	if a.Level == "campaign" && a.MembersTotal == 0 {
		return // everybody left it; their own alerts count
	}
	switch {
	case strings.HasPrefix(a.Detector, "health."):
		e.Health++
		return
	case a.Severity == "info":
		e.Info++
		return
	}
	e.Alerts++
	if in.paged {
		e.Pages++
	}
	owners := alertOwners(labels, a)
	matched, attacker := false, int32(-1)
	for _, i := range episodesOf(labels, owners) {
		attacker = i
		ep := &labels.Episodes[i]
		if labelFamily(ep.Type) != labelFamily(a.Detector) || !windowsOverlap(a, ep) {
			continue
		}
		matched = true
		r := &e.Results[i]
		at := in.firstSeen(ep)
		if r.Detector == "" || at < r.at {
			r.at, r.Detector = at, a.Detector
		}
		if a.Tier != "context" { // else its campaign tells of it
			r.Alerts++
		}
		r.Paged = r.Paged || in.paged
	}
	if matched {
		e.Matched++
		return
	}
	about := "unlabelled"
	if attacker >= 0 {
		e.Misnamed++
		about = labels.Episodes[attacker].ID
	} else {
		e.False++
		profiles := profilesOf(labels, owners)
		if len(profiles) == 0 {
			falseOf[len(falseOf)-1]++
		} else {
			about = labels.Profiles[profiles[0]]
		}
		for _, p := range profiles {
			falseOf[p]++
		}
	}
	if len(e.FalseAlerts) < listedFalse {
		e.FalseAlerts = append(e.FalseAlerts, AlertRef{
			ID: a.ID, Detector: a.Detector, Severity: a.Severity, Title: a.Title, About: about, Misnamed: attacker >= 0,
		})
	}
}

// firstSeen is the event time at which the alert first spoke of ep: that of its
// first revision, unless the alert is older than the episode.
func (in *incidentRevisions) firstSeen(ep *Episode) pipeline.Time {
	for _, r := range in.revisions {
		if r.Severity == "info" || r.Window.Last < wholeSecond(ep.Start) {
			continue
		}
		if r.Window.DetectedAt >= wholeSecond(ep.Start) {
			return r.Window.DetectedAt
		}
		return r.Window.Last
	}
	return in.latest().Window.Last
}

// windowsOverlap reports whether the windows share a moment, ends included.
func windowsOverlap(a *pipeline.Alert, ep *Episode) bool {
	return a.Window.First <= ep.End && a.Window.Last >= wholeSecond(ep.Start)
}

// alertOwners returns the labelled principals that a names, each once, the
// alert's own principal first.
func alertOwners(labels *Labels, a *pipeline.Alert) []int32 {
	var found []int32
	add := func(p pipeline.Principal) {
		if i, ok := labels.index[principalKey(p)]; ok && !slices.Contains(found, i) {
			found = append(found, i)
		}
	}
	add(a.Principal)
	for _, s := range a.Addresses {
		add(pipeline.Principal{Kind: pipeline.PrincipalIP, Value: s})
	}
	for _, m := range a.Members {
		add(m)
	}
	return found
}

// episodesOf returns the episodes of any of owners, sorted, each once.
func episodesOf(labels *Labels, owners []int32) []int32 {
	var found []int32
	for _, o := range owners {
		found = append(found, labels.owners[o].episodes...)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// profilesOf returns the benign profiles of owners in their order, each once.
func profilesOf(labels *Labels, owners []int32) []int32 {
	var found []int32
	for _, o := range owners {
		if p := labels.owners[o].profile; p >= 0 && !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	return found
}

// sum fills the totals from the results.
func (e *Evaluation) sum(labels *Labels, traffic *TrafficStats, falseOf []int) {
	types := make(map[string]*TypeResult)
	secondsOf, requestsOf := make(map[string][]float64), make(map[string][]int64)
	var seconds []float64
	var requests []int64
	pairs := 0
	for i := range e.Results {
		r := &e.Results[i]
		t := types[r.Type]
		if t == nil {
			t = &TypeResult{Type: r.Type}
			types[r.Type] = t
		}
		t.Episodes++
		if r.Detector == "" {
			continue
		}
		e.Detected++
		t.Detected++
		pairs += r.Alerts
		if r.Paged {
			t.Paged++
		}
		seconds = append(seconds, *r.Seconds)
		secondsOf[r.Type] = append(secondsOf[r.Type], *r.Seconds)
		if r.Requests != nil {
			requests = append(requests, *r.Requests)
			requestsOf[r.Type] = append(requestsOf[r.Type], *r.Requests)
		}
	}
	e.Types = make([]TypeResult, 0, len(types))
	for _, t := range types {
		t.Recall = float64(t.Detected) / float64(t.Episodes)
		t.SecondsMedian, t.RequestsMedian = quantile(secondsOf[t.Type], 50), quantile(requestsOf[t.Type], 50)
		e.Types = append(e.Types, *t)
	}
	slices.SortFunc(e.Types, func(a, b TypeResult) int { return strings.Compare(a.Type, b.Type) })
	e.Recall = ratioOf(e.Detected, float64(e.Episodes))
	e.Precision = ratioOf(e.Matched, float64(e.Alerts))
	e.AlertsPerEpisode = ratioOf(pairs, float64(e.Detected))
	e.SecondsMedian, e.SecondsP95 = quantile(seconds, 50), quantile(seconds, 95)
	e.RequestsMedian, e.RequestsP95 = quantile(requests, 50), quantile(requests, 95)
	e.profiles(labels, traffic, falseOf)
	if traffic == nil {
		return
	}
	e.Requests, e.CleanClientDays, e.Days = new(traffic.requests), new(traffic.cleanClientDays()), new(traffic.days())
	e.FalsePerMillionRequests = ratioOf(e.False*1e6, float64(traffic.requests))
	e.FalsePerMillionClientDays = ratioOf(e.False*1e6, float64(*e.CleanClientDays))
	e.PagesPerDay = ratioOf(e.Pages, *e.Days)
}

// profiles lists the benign profiles in the labels' order, then the clients
// that the labels do not name.
func (e *Evaluation) profiles(labels *Labels, traffic *TrafficStats, falseOf []int) {
	e.Profiles = make([]ProfileResult, len(labels.Profiles), len(labels.Profiles)+1)
	for i, name := range labels.Profiles {
		e.Profiles[i] = ProfileResult{Profile: name, False: falseOf[i]}
		if traffic != nil {
			e.Profiles[i].Requests, e.Profiles[i].ClientDays = new(int64), new(int64)
		}
	}
	for i, o := range labels.owners {
		if o.profile < 0 {
			continue
		}
		p := &e.Profiles[o.profile]
		p.Clients++
		if traffic != nil {
			*p.Requests += traffic.owners[i].requests
			*p.ClientDays += traffic.owners[i].days
		}
	}
	if n := falseOf[len(falseOf)-1]; n > 0 {
		u := ProfileResult{Profile: "unlabelled", False: n}
		if traffic != nil {
			u.ClientDays = new(traffic.others.count())
		}
		e.Profiles = append(e.Profiles, u)
	}
}

// ratioOf is n/d, nil when d is 0.
func ratioOf(n int, d float64) *float64 {
	if d == 0 {
		return nil
	}
	return new(float64(n) / d)
}

// quantile is the nearest-rank percentile of v, nil when v is empty. It sorts v.
func quantile[T int64 | float64](v []T, percent int) *T {
	if len(v) == 0 {
		return nil
	}
	slices.Sort(v)
	return new(v[(len(v)*percent+99)/100-1])
}
