package main

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"weir/pipeline"
)

// backtestResult is what weir backtest tells: its JSON form.
type backtestResult struct {
	Config   both[string]   `json:"config"` // hashes, as alerts carry them
	Sides    both[string]   `json:"sides"`  // where the configurations are from, in words
	Changes  []configChange `json:"changes"`
	Requests int64          `json:"requests"`
	First    *pipeline.Time `json:"first"` // event time of the input; null without requests
	Last     *pipeline.Time `json:"last"`
	Days     float64        `json:"days"` // that rates are over: at least 1

	Gained      []backtestAlert `json:"gained"`
	Lost        []backtestAlert `json:"lost"`
	Moved       []backtestAlert `json:"moved"`
	GainedTotal int             `json:"gained_total"`
	LostTotal   int             `json:"lost_total"`
	MovedTotal  int             `json:"moved_total"`
	Same        int             `json:"same"`

	Alerts     both[int]      `json:"alerts"`
	Pages      both[int]      `json:"pages"` // alerts that were high or critical at some time, and sent
	AlertsADay both[float64]  `json:"alerts_a_day"`
	PagesADay  both[float64]  `json:"pages_a_day"`
	Precision  both[*float64] `json:"precision"` // null: nothing to judge by
	Recall     both[*float64] `json:"recall"`
	Basis      string         `json:"basis"` // labels, verdicts, or empty
	Verdicts   both[verdicts] `json:"verdicts"`
	// Delay is the median from an alert's onset to when it was told, in seconds of
	// event time; with labels from the episode's start.
	Delay    both[*float64]         `json:"delay"`
	Episodes []episodeChange        `json:"episodes"` // that one side alone detects
	Shadow   both[map[string]int64] `json:"shadow"`   // findings of detectors in shadow mode
	Notes    []string               `json:"notes"`
}

// both is a value under the old and under the new configuration.
type both[T any] struct {
	Old T `json:"old"`
	New T `json:"new"`
}

// verdicts counts what people said of a side's alerts.
type verdicts struct {
	True   int `json:"true"`
	Benign int `json:"benign"`
	False  int `json:"false"`
}

// backtestAlert is an alert that one side has, or both differently.
type backtestAlert struct {
	ID        string             `json:"id"`
	Detector  string             `json:"detector"`
	Severity  string             `json:"severity"`
	Tier      string             `json:"tier"`
	Level     string             `json:"level"`
	Title     string             `json:"title"`
	Principal pipeline.Principal `json:"principal"`
	Detected  pipeline.Time      `json:"detected_at"`
	Paged     bool               `json:"paged"`
	Silent    bool               `json:"suppressed"` // kept from sinks
	Verdict   string             `json:"verdict"`    // of people, "" for none
	Why       string             `json:"why"`
	Link      string             `json:"link"` // page of the console, "" where none is known

	Changed []string   `json:"changed,omitempty"` // of a moved one
	Was     *alertSide `json:"was,omitempty"`
}

// alertSide is what of a moved alert was otherwise.
type alertSide struct {
	ID       string        `json:"id"`
	Detector string        `json:"detector"`
	Severity string        `json:"severity"`
	Tier     string        `json:"tier"`
	Detected pipeline.Time `json:"detected_at"`
}

// episodeChange is a labelled episode that one configuration misses.
type episodeChange struct {
	Episode string `json:"episode"`
	Type    string `json:"type"`
	Change  string `json:"change"` // gained, lost
}

func (b *comparison) view(t *told) backtestAlert {
	a := &t.a
	open := func(s string) string {
		if b.pseudonyms {
			return s
		}
		return openText(s, b.now.replay.keys)
	}
	return backtestAlert{
		Link: b.link(a),
		ID:   a.ID, Detector: a.Detector, Severity: a.Severity, Tier: a.Tier, Level: a.Level, Title: open(a.Title),
		Principal: pipeline.Principal{Kind: a.Principal.Kind, Value: open(a.Principal.Value)},
		Detected:  t.at, Paged: t.paged, Silent: t.silent, Verdict: b.verdicts[a.ID],
	}
}

// link is the console's page of an alert, of one that was never told that of who it is
// about.
func (b *comparison) link(a *pipeline.Alert) string {
	base := cmp.Or(strings.TrimSuffix(b.console, "/"), b.was.replay.cfg.consoleURL())
	switch {
	case !b.store || base == "":
		return ""
	case b.stored[a.ID]:
		return base + "/alerts/" + a.ID
	case a.Principal.Value == "" || a.Principal.Kind == pipeline.PrincipalCohort || a.Principal.Kind == pipeline.PrincipalEndpoint:
		return ""
	}
	return base + "/principals/" + a.Principal.Kind.String() + "/" + url.PathEscape(a.Principal.Value)
}

// consoleURL is where the console is, as far as its configuration tells.
func (c *config) consoleURL() string {
	host, port, err := net.SplitHostPort(c.Console.Listen)
	if err != nil || port == "0" {
		return ""
	}
	scheme, standard := "http", "80"
	if c.Console.TLS != nil {
		scheme, standard = "https", "443"
	}
	ip, _ := netip.ParseAddr(host)
	if len(c.Console.Names) > 0 {
		host = c.Console.Names[0]
	} else if host == "" || ip.IsUnspecified() {
		return ""
	}
	if port != standard {
		host = net.JoinHostPort(host, port)
	}
	return scheme + "://" + host
}

// moved is n with what was otherwise, false if nothing was.
func (b *comparison) moved(o, n *told) (backtestAlert, bool) {
	v := b.view(n)
	v.Was = &alertSide{o.a.ID, o.a.Detector, o.a.Severity, o.a.Tier, o.at}
	for _, c := range []struct {
		name    string
		differs bool
	}{
		{"severity", o.a.Severity != n.a.Severity},
		{"tier", o.a.Tier != n.a.Tier},
		{"detector", o.a.Detector != n.a.Detector},
		{"time", o.at != n.at},
		{"id", o.a.ID != n.a.ID},
		{"paged", o.paged != n.paged},
		{"suppressed", o.silent != n.silent},
	} {
		if c.differs {
			v.Changed = append(v.Changed, c.name)
		}
	}
	v.Verdict = cmp.Or(v.Verdict, b.verdicts[o.a.ID])
	return v, len(v.Changed) > 0
}

// result compares.
func (b *comparison) result() *backtestResult {
	r := &backtestResult{
		Config:  both[string]{b.was.replay.cfg.hash(), b.now.replay.cfg.hash()},
		Sides:   b.sides,
		Changes: b.changes, Requests: b.now.requests, Days: 1,
		Gained: []backtestAlert{}, Lost: []backtestAlert{}, Moved: []backtestAlert{}, Episodes: []episodeChange{},
		Shadow: both[map[string]int64]{b.was.shadow, b.now.shadow},
	}
	if r.Changes == nil {
		r.Changes = []configChange{}
	}
	if b.was.first != pipeline.NoTime {
		first, last := max(b.was.first, b.since), b.was.last
		if b.until != 0 {
			last = min(last, b.until)
		}
		r.First, r.Last = &first, &last
		r.Days = max(1, last.Sub(first).Hours()/24)
	}
	pairs, gained, lost := b.match()
	for _, t := range gained {
		v := b.view(t)
		v.Why = b.why(&t.a)
		r.Gained = append(r.Gained, v)
	}
	for _, t := range lost {
		v := b.view(t)
		v.Why = b.why(&t.a)
		r.Lost = append(r.Lost, v)
	}
	for _, p := range pairs {
		v, ok := b.moved(p[0], p[1])
		if !ok {
			r.Same++
			continue
		}
		v.Why = b.why(&p[0].a, &p[1].a)
		r.Moved = append(r.Moved, v)
	}
	r.GainedTotal, r.LostTotal, r.MovedTotal = len(r.Gained), len(r.Lost), len(r.Moved)
	r.Alerts, r.Pages = both[int]{len(b.was.told), len(b.now.told)}, both[int]{b.was.pages(), b.now.pages()}
	r.AlertsADay = both[float64]{float64(r.Alerts.Old) / r.Days, float64(r.Alerts.New) / r.Days}
	r.PagesADay = both[float64]{float64(r.Pages.Old) / r.Days, float64(r.Pages.New) / r.Days}
	r.Delay = both[*float64]{b.was.delay(), b.now.delay()}
	b.judge(r, pairs)
	if b.was.dropped+b.now.dropped > 0 {
		b.note("there are over %d alerts: those beyond are not compared", maxTold)
	}
	if x := b.now.replay.again; x != nil && x.Unnamed > 0 {
		b.note("%d stored requests are logins, resets or lookups under the new configuration and do not say whose account they tried: that is read when they are collected", x.Unnamed)
	}
	if b.now.traffic != nil && b.now.labels != nil && len(b.now.labels.Episodes) == 0 {
		b.note("the labels hold no episode: recall is unknown")
	}
	r.Notes = b.notes
	if r.Notes == nil {
		r.Notes = []string{}
	}
	return r
}

func (s *side) pages() (n int) {
	for _, t := range s.told {
		if t.paged {
			n++
		}
	}
	return n
}

// delay is the median from onset to telling, in seconds; nil without alerts.
func (s *side) delay() *float64 {
	var all []float64
	for _, t := range s.told {
		if !strings.HasPrefix(t.a.Detector, "health.") {
			all = append(all, max(0, t.at.Sub(t.a.Window.Onset).Seconds()))
		}
	}
	return quantile(all, 50)
}

// judge fills precision and recall: by labels, else by the verdicts that people
// gave. A verdict of a lost alert counts against the new side's recall; one of an
// alert that moved goes along with it.
func (b *comparison) judge(r *backtestResult, pairs [][2]*told) {
	if b.was.labels != nil {
		r.Basis = "labels"
		old, now := Evaluate(b.was.labels, b.was.revisions, b.was.traffic), Evaluate(b.now.labels, b.now.revisions, b.now.traffic)
		r.Precision, r.Recall = both[*float64]{old.Precision, now.Precision}, both[*float64]{old.Recall, now.Recall}
		r.Delay = both[*float64]{old.SecondsMedian, now.SecondsMedian}
		for i := range old.Results {
			o, n := &old.Results[i], &now.Results[i]
			switch {
			case o.Detector == "" && n.Detector != "":
				r.Episodes = append(r.Episodes, episodeChange{n.Episode, n.Type, "gained"})
			case o.Detector != "" && n.Detector == "":
				r.Episodes = append(r.Episodes, episodeChange{o.Episode, o.Type, "lost"})
			}
		}
		return
	}
	if len(b.verdicts) == 0 {
		return
	}
	r.Basis = "verdicts"
	said := map[string]string{} // by id, along with what moved
	maps.Copy(said, b.verdicts)
	for _, p := range pairs {
		said[p[1].a.ID] = cmp.Or(said[p[1].a.ID], said[p[0].a.ID])
		said[p[0].a.ID] = cmp.Or(said[p[0].a.ID], said[p[1].a.ID])
	}
	count := func(s *side) (v verdicts) {
		for id := range s.told {
			switch said[id] {
			case "true_positive":
				v.True++
			case "benign_positive":
				v.Benign++
			case "false_positive_logic", "false_positive_data":
				v.False++
			}
		}
		return v
	}
	r.Verdicts = both[verdicts]{count(&b.was), count(&b.now)}
	all := r.Verdicts.Old.True // true positives of either side
	for _, n := range b.now.sorted() {
		if !n.paired && said[n.a.ID] == "true_positive" {
			all++
		}
	}
	precision := func(v verdicts) *float64 { return ratioOf(v.True, float64(v.True+v.Benign+v.False)) }
	r.Precision = both[*float64]{precision(r.Verdicts.Old), precision(r.Verdicts.New)}
	r.Recall = both[*float64]{ratioOf(r.Verdicts.Old.True, float64(all)), ratioOf(r.Verdicts.New.True, float64(all))}
}

// cut shortens the lists to n each, 0 not at all; the totals stay.
func (r *backtestResult) cut(n int) {
	if n == 0 {
		return
	}
	for _, list := range []*[]backtestAlert{&r.Gained, &r.Lost, &r.Moved} {
		*list = slices.Clip((*list)[:min(n, len(*list))])
	}
}
