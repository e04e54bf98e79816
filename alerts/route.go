package alerts

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

// Route sends the alerts that match to sinks. The first route that matches an
// alert decides; one with Continue lets those after it be looked at too, and for
// each sink the first that names it decides.
type Route struct {
	Match Match    `yaml:"match"`
	To    []string `yaml:"to"`
	// Continue lets the routes behind this one be looked at too.
	Continue bool `yaml:"continue"`
	// GroupBy puts alerts together that are the same in all of these: detector,
	// principal, endpoint, campaign, severity, tier, level, label.NAME. Sinks for
	// people show such a group as one thing; without it each alert is by itself.
	GroupBy []string `yaml:"group_by"`
	// GroupWait is how long a revision waits, from the first that waits, for later
	// ones of its alert or group: the latest of each alert is sent in place of all.
	// At most maxGroupWait.
	GroupWait Duration `yaml:"group_wait"`
	// Repeat is after how long without news sinks for people are told again of an
	// alert that is still open; 0 never, at least minRepeat.
	Repeat Duration `yaml:"repeat"`
	// SendResolved, true when absent, also sends the end of an incident.
	SendResolved *bool `yaml:"send_resolved"`
}

// Match is what a route asks of an alert: something of each list that is given.
type Match struct {
	Change   []string          `yaml:"change"` // what the revision is: opened, grew ...
	Severity []string          `yaml:"severity"`
	Tier     []string          `yaml:"tier"`
	Detector []string          `yaml:"detector"` // a name (auth.stuffing) or a family (auth)
	Level    []string          `yaml:"level"`
	Endpoint []string          `yaml:"endpoint"` // "METHOD /template", as in endpoints; see onEndpoint
	Labels   map[string]string `yaml:"labels"`   // all are to be equal
}

// maxGroupWait keeps what waits in the memory of one courier meaningful.
const maxGroupWait = time.Hour

// minRepeat and maxRepeat bound how often an open alert is told again.
const (
	minRepeat = 5 * time.Minute
	maxRepeat = 7 * 24 * time.Hour
)

// levels are the words of an alert's level.
func levels() []string {
	return []string{"client", "account", "key", "cohort", "endpoint", "campaign"}
}

// changes are the words of an alert's change.kind.
func changes() []string {
	return []string{"opened", "grew", "succeeded", "new_endpoint", "still_active", "resolved", "reopened"}
}

func tiers() []string {
	return []string{tierName(tierPage), tierName(tierReview), tierName(tierContext)}
}

// validate returns every problem, each with its path below the route.
func (r *Route) validate(sinks map[string]SinkConfig) []error {
	var errs []error
	bad := func(at, format string, args ...any) { errs = append(errs, fmt.Errorf(at+": "+format, args...)) }
	words := severities()
	oneOf := func(at string, got, want []string) {
		for _, s := range got {
			if !slices.Contains(want, s) {
				bad(at, "%q is none of %s", s, strings.Join(want, ", "))
			}
		}
	}
	oneOf("match.change", r.Match.Change, changes())
	oneOf("match.severity", r.Match.Severity, words[:])
	oneOf("match.tier", r.Match.Tier, tiers())
	for _, d := range r.Match.Detector {
		if d == "" {
			bad("match.detector", "is empty; want a name like auth.stuffing or a family like auth")
		}
	}
	oneOf("match.level", r.Match.Level, levels())
	for _, e := range r.Match.Endpoint {
		if _, tmpl := cutEndpoint(e); !strings.HasPrefix(tmpl, "/") || !validPattern(tmpl) {
			bad("match.endpoint", "%q; want a method and a path, like POST /login or /admin/**", e)
		}
	}
	if r.GroupWait > Duration(maxGroupWait) {
		bad("group_wait", "%v is longer than %v", time.Duration(r.GroupWait), maxGroupWait)
	}
	for _, name := range r.GroupBy {
		if !slices.Contains(groupings(), name) && (!strings.HasPrefix(name, labelPrefix) || len(name) == len(labelPrefix)) {
			bad("group_by", "%q is none of %s, label.NAME", name, strings.Join(groupings(), ", "))
		}
	}
	if d := time.Duration(r.Repeat); d != 0 && (d < minRepeat || d > maxRepeat) {
		bad("repeat", "%v is not within %v to %v", d, minRepeat, maxRepeat)
	}
	if len(r.To) == 0 {
		bad("to", "names no sink")
	}
	for _, to := range r.To {
		if _, ok := sinks[to]; !ok {
			bad("to", "no sink is named %q", to)
		}
		if w := sinks[to].Webhook; len(r.GroupBy) > 0 && w != nil && w.TemplateFile != "" {
			bad("group_by", "sink %q writes a template, which is for one alert", to)
		}
	}
	return errs
}

// wants returns the route that brings a to sink; ok is false when none does. Without
// any route every sink gets what pages: severity high and critical, and their ends.
func (c *Config) wants(sink string, a *pipeline.Alert) (via *Route, ok bool) {
	if len(c.Routes) == 0 {
		return &Route{}, a.Severity == "high" || a.Severity == "critical"
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		if !r.Match.matches(a) {
			continue
		}
		if slices.Contains(r.To, sink) {
			return r, a.Status != "resolved" || !isEnd(a) || r.SendResolved == nil || *r.SendResolved
		}
		if !r.Continue {
			return nil, false
		}
	}
	return nil, false
}

// isEnd reports whether a, which is resolved, is the end of something: what is over the
// budget is closed from the start.
func isEnd(a *pipeline.Alert) bool {
	switch a.Change.Kind {
	case "opened", "reopened", "succeeded":
		return false
	}
	return true
}

// waits reports whether something that sink gets may have to wait: what takes every
// revision never does.
func (c *Config) waits(sink string) bool {
	s := c.Sinks[sink]
	if k := s.kind(); k != nil && !k.people {
		return false
	}
	return slices.ContainsFunc(c.Routes, func(r Route) bool { return r.GroupWait > 0 && slices.Contains(r.To, sink) })
}

const labelPrefix = "label."

// groupings are what GroupBy may name, besides labels.
func groupings() []string {
	return []string{"detector", "principal", "endpoint", "campaign", "severity", "tier", "level"}
}

// group is the group of an alert that no sink knows yet: its key, and what it is by;
// by itself where there is no GroupBy.
func (r *Route) group(a *pipeline.Alert) (key string, by []Common) {
	if len(r.GroupBy) == 0 {
		return a.ID, nil
	}
	var salt strings.Builder
	for _, name := range r.GroupBy {
		c := Common{Name: name}
		switch name {
		case "detector":
			c.Value = a.Detector
		case "principal":
			c.Value = a.Principal.Kind.String() + ":" + a.Principal.Value
		case "endpoint":
			c.Value = where(a.Endpoint)
		case "campaign":
			if c.Value = a.Campaign; c.Value == "" {
				c.Value = a.ID // part of none: its own
			}
		case "severity":
			c.Value = a.Severity
		case "tier":
			c.Value = a.Tier
		case "level":
			c.Value = a.Level
		default:
			c.Value = a.Labels[strings.TrimPrefix(name, labelPrefix)]
		}
		salt.WriteString(c.Name + "\x00" + c.Value + "\x00")
		by = append(by, c)
	}
	return fmt.Sprintf("%016x%016x", pipeline.Hash64(salt.String()), pipeline.Hash64("2"+salt.String())), by
}

func (m *Match) matches(a *pipeline.Alert) bool {
	for _, of := range [...]struct {
		want []string
		got  string
	}{{m.Change, a.Change.Kind}, {m.Severity, a.Severity}, {m.Tier, a.Tier}, {m.Level, a.Level}} {
		if len(of.want) > 0 && !slices.Contains(of.want, of.got) {
			return false
		}
	}
	if len(m.Detector) > 0 && !slices.ContainsFunc(m.Detector, func(d string) bool {
		return d == a.Detector || strings.TrimSuffix(d, ".*") == family(a.Detector)
	}) {
		return false
	}
	if len(m.Endpoint) > 0 && !slices.ContainsFunc(m.Endpoint, func(e string) bool { return onEndpoint(e, &a.Endpoint) }) {
		return false
	}
	for k, v := range m.Labels {
		if a.Labels[k] != v {
			return false
		}
	}
	return true
}

// cutEndpoint takes "METHOD /path" apart; no method, or "*", is any: "".
func cutEndpoint(s string) (method, tmpl string) {
	method, tmpl, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok {
		method, tmpl = "", method
	}
	if method == "*" {
		method = ""
	}
	return method, strings.TrimSpace(tmpl)
}

func validPattern(tmpl string) bool {
	_, err := path.Match(tmpl, "")
	return err == nil
}

// onEndpoint reports whether e is one that pattern means: "*" stands for any run
// inside a segment of the template, "{name}" for a whole segment, a last "**" for
// any rest. Letter case does not matter.
func onEndpoint(pattern string, e *pipeline.Endpoint) bool {
	method, tmpl := cutEndpoint(pattern)
	if method != "" && !strings.EqualFold(method, e.Method) || e.Template == "" {
		return false
	}
	want := strings.Split(strings.ToLower(tmpl), "/")
	got := strings.Split(strings.ToLower(e.Template), "/")
	for i, w := range want {
		if w == "**" && i == len(want)-1 {
			return true
		}
		if i >= len(got) {
			return false
		}
		if strings.HasPrefix(w, "{") && strings.HasSuffix(w, "}") {
			continue
		}
		if ok, err := path.Match(w, got[i]); err != nil || !ok {
			return false
		}
	}
	return len(want) == len(got)
}
