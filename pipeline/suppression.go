package pipeline

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
)

// Suppression says which alerts nobody is to be woken by, for a while and for a
// reason. It enters as a record in the log and takes effect there, on events from
// Starts on. What it covers is still detected, stored and shown; see Silences.
type Suppression struct {
	ID    string           `json:"id"`
	Match SuppressionMatch `json:"match"`
	// In force for event times in [Starts, Expires), and before Ended if that is
	// set; of these, with a Schedule, those within it.
	Starts   Time      `json:"starts"`
	Expires  Time      `json:"expires"`
	Ended    *Time     `json:"ended,omitempty"` // somebody ended it early
	Schedule *Schedule `json:"schedule,omitempty"`
	// Maintenance is announced: that there is much of it is expected, so that only
	// a success pierces it.
	Maintenance bool   `json:"maintenance,omitempty"`
	Author      string `json:"author"`
	Reason      string `json:"reason"`
	Created     Time   `json:"created"`
	Source      string `json:"source"`          // api, shell, config
	Alert       string `json:"alert,omitempty"` // the alert that it was made from
	// Known is what was known of that alert then: less than ten times as much is no
	// news.
	Known *SuppressedKnown `json:"known,omitempty"`
}

// SuppressedKnown is how far an alert was when it was suppressed.
type SuppressedKnown struct {
	Count     int64 `json:"count"` // attempted, else requests
	Succeeded bool  `json:"succeeded"`
}

// SuppressionMatch selects alerts; what is empty is not asked. It also selects the
// requests that teach nothing meanwhile: by all that requests have, so by neither
// Detector nor Level.
type SuppressionMatch struct {
	Detector  string            `json:"detector,omitempty"` // a name (auth.stuffing) or a family (auth)
	Level     string            `json:"level,omitempty"`
	Principal *Principal        `json:"principal,omitempty"`
	Address   string            `json:"address,omitempty"` // where requests come from: an address or a network
	Account   string            `json:"account,omitempty"` // its token
	Key       string            `json:"key,omitempty"`     // its token
	Client    string            `json:"client,omitempty"`  // a name of identity.known_clients
	Endpoint  *EndpointMatch    `json:"endpoint,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"` // all are to be equal
	// KeyBegins is set for a Client that is known by its keys: the readable
	// beginning of their tokens.
	KeyBegins string `json:"key_begins,omitempty"`
}

// EndpointMatch selects endpoints. Template is one, or a pattern: "*" stands for
// any run inside a segment, a last "**" for any rest.
type EndpointMatch struct {
	Method   string `json:"method,omitempty"`
	Host     string `json:"host,omitempty"`
	Template string `json:"template,omitempty"`
}

// Schedule repeats every week: on Days (all when empty), from From to To, local
// time of Timezone. To at or before From is on the next day.
type Schedule struct {
	Days     []string `json:"days,omitempty" yaml:"days"` // mon tue wed thu fri sat sun
	From     string   `json:"from" yaml:"from"`           // 02:00
	To       string   `json:"to" yaml:"to"`
	Timezone string   `json:"timezone,omitempty" yaml:"timezone"`
}

// End is when s is over.
func (s *Suppression) End() Time {
	if s.Ended != nil {
		return min(*s.Ended, s.Expires)
	}
	return s.Expires
}

// Empty reports a match that covers everything.
func (m *SuppressionMatch) Empty() bool {
	return m.Detector == "" && m.Level == "" && !m.narrow()
}

// narrow reports whether it asks who or where.
func (m *SuppressionMatch) narrow() bool {
	return m.Principal != nil || m.Address != "" || m.Account != "" || m.Key != "" || m.Client != "" || m.Endpoint != nil || len(m.Labels) > 0
}

// Weekdays are the words of a schedule's days, in the order of time.Weekday.
func Weekdays() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

// weekly is a Schedule that was read.
type weekly struct {
	days     [7]bool
	from, to int // minutes of the day
	zone     *time.Location
}

// Read returns when s is in force; the error is for people.
func (s *Schedule) read() (w weekly, err error) {
	minute := func(text string) int {
		t, e := time.Parse("15:04", text)
		err = cmp.Or(err, e)
		return t.Hour()*60 + t.Minute()
	}
	w.from, w.to = minute(s.From), minute(s.To)
	if err != nil {
		return w, err
	}
	if w.zone, err = time.LoadLocation(s.Timezone); err != nil {
		return w, err
	}
	for i, day := range Weekdays() {
		w.days[i] = len(s.Days) == 0 || slices.Contains(s.Days, day)
	}
	return w, nil
}

// Validate returns what is wrong with s, nil for nothing.
func (s *Schedule) Validate() error { _, err := s.read(); return err }

func (w *weekly) holds(t Time) bool {
	local := t.Std().In(w.zone)
	day, minute := int(local.Weekday()), local.Hour()*60+local.Minute()
	if w.from < w.to {
		return w.days[day] && minute >= w.from && minute < w.to
	}
	return w.days[day] && minute >= w.from || w.days[(day+6)%7] && minute < w.to
}

// compiled is a suppression ready to match.
type compiled struct {
	Suppression
	weekly  *weekly
	network netip.Prefix
	who     uint64 // of Match.Principal; 0 any
	traffic bool   // it can tell by a request alone
	mask    uint32
	// paths remembers which paths are at its endpoint, under one edition.
	paths map[uint64]bool
}

// maxKnownPaths bounds what one suppression remembers of paths.
const maxKnownPaths = 4096

func compileSuppression(s Suppression, mask func(detector string) uint32) *compiled {
	c := &compiled{Suppression: s, traffic: true, mask: mask(s.Match.Detector)}
	if s.Schedule != nil {
		w, err := s.Schedule.read()
		if err != nil {
			c.traffic, c.Expires = false, c.Starts // it was validated; a broken one hides nothing
		}
		c.weekly = &w
	}
	if s.Match.Address != "" {
		c.network = readNetwork(s.Match.Address)
	}
	if p := s.Match.Principal; p != nil {
		c.who = max(p.Hash(), 1)
		c.traffic = c.traffic && p.Kind != PrincipalCohort && p.Kind != PrincipalEndpoint
	}
	return c
}

// readNetwork reads an address or a network; what is neither has no address in it.
func readNetwork(s string) netip.Prefix {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked()
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
	}
	return netip.Prefix{}
}

func (c *compiled) inForce(t Time) bool {
	return t >= c.Starts && t < c.End() && (c.weekly == nil || c.weekly.holds(t))
}

// Silences are the suppressions that the log has brought so far. One goroutine
// uses them.
type Silences struct {
	list   []*compiled // by id
	labels map[string]map[string]string
	mask   func(detector string) uint32
	// What is in force at times in [from, until): those that ask for a principal by
	// its hash, and the others.
	about       map[uint64][]*compiled
	broad       []*compiled
	from, until Time
}

// NewSilences returns none. labels are those of sources, by Block.Source; mask says
// what Aside answers for a suppression of such detectors ("" all), nil 1.
func NewSilences(labels map[string]map[string]string, mask func(detector string) uint32) *Silences {
	if mask == nil {
		mask = func(string) uint32 { return 1 }
	}
	return &Silences{labels: labels, mask: mask}
}

// maxSilences bounds what is remembered of suppressions; the ones that ended first
// are forgotten first.
const maxSilences = 4096

// Put takes a new one, or news of one.
func (s *Silences) Put(x Suppression) {
	s.from, s.until = 0, 0
	c := compileSuppression(x, s.mask)
	i, ok := slices.BinarySearchFunc(s.list, x.ID, func(c *compiled, id string) int { return strings.Compare(c.ID, id) })
	if ok {
		s.list[i] = c
		return
	}
	if len(s.list) >= maxSilences {
		first := 0
		for j := range s.list {
			if s.list[j].End() < s.list[first].End() {
				first = j
			}
		}
		s.list = slices.Delete(s.list, first, first+1)
		if first < i {
			i--
		}
	}
	s.list = slices.Insert(s.list, i, c)
}

// None reports that there never was one.
func (s *Silences) None() bool { return len(s.list) == 0 }

// List returns all, by id.
func (s *Silences) List() []Suppression {
	out := make([]Suppression, len(s.list))
	for i, c := range s.list {
		out[i] = c.Suppression
	}
	return out
}

// Forget drops what is remembered of paths: another edition has other templates.
func (s *Silences) Forget() {
	for _, c := range s.list {
		c.paths = nil
	}
}

// At reports whether any that can tell by a request is in force at t. It comes
// before Aside.
func (s *Silences) At(t Time) bool { return len(s.list) > 0 && s.at(t) }

func (s *Silences) at(t Time) bool {
	if t < s.from || t >= s.until {
		s.look(t)
	}
	return len(s.about)+len(s.broad) > 0
}

func (s *Silences) look(t Time) {
	s.broad, s.about = s.broad[:0], map[uint64][]*compiled{}
	s.from, s.until = t, MaxTime
	for _, c := range s.list {
		if !c.traffic {
			continue
		}
		for _, edge := range [...]Time{c.Starts, c.End()} {
			if edge > t {
				s.until = min(s.until, edge)
			}
		}
		if c.weekly != nil {
			s.until = min(s.until, t-(t%60e6+60e6)%60e6+60e6)
		}
		switch {
		case !c.inForce(t):
		case c.who != 0:
			s.about[c.who] = append(s.about[c.who], c)
		default:
			s.broad = append(s.broad, c)
		}
	}
}

// Aside returns what the suppressions in force say of r as evidence about who, the
// hash of a principal: their masks together, 0 when there is none. template gives the
// endpoint as alerts show it, and is asked where one wants to know.
func (s *Silences) Aside(r *Ordered, who uint64, template func(*Request) string) (mask uint32) {
	for _, list := range [...][]*compiled{s.about[who], s.broad} {
		for _, c := range list {
			if mask|c.mask != mask && c.takes(r, who, s.labels, template) {
				mask |= c.mask
			}
		}
	}
	return mask
}

// Unlearned reports whether r is nothing to learn from: a suppression that asks who
// or where covers it, or a maintenance.
func (s *Silences) Unlearned(r *Ordered, template func(*Request) string) bool {
	if !s.At(r.Time) {
		return false
	}
	for _, who := range [...]uint64{r.Owner, r.Address.Owner()} {
		for _, list := range [...][]*compiled{s.about[who], s.broad} {
			for _, c := range list {
				if (c.Match.narrow() || c.Maintenance) && c.takes(r, who, s.labels, template) {
					return true
				}
			}
		}
	}
	return false
}

func (c *compiled) takes(r *Ordered, who uint64, labels map[string]map[string]string, template func(*Request) string) bool {
	m := &c.Match
	switch {
	case c.who != 0 && c.who != who,
		m.Account != "" && r.Account != m.Account,
		m.Key != "" && r.Key != m.Key,
		m.KeyBegins != "" && !strings.HasPrefix(r.Key, m.KeyBegins),
		m.Address != "" && !c.network.Contains(r.Address.Addr()):
		return false
	}
	if len(m.Labels) > 0 {
		if r.Block == nil {
			return false
		}
		of := labels[r.Block.Source]
		for k, v := range m.Labels {
			if of[k] != v {
				return false
			}
		}
	}
	return m.Endpoint == nil || c.at(r.Request, template)
}

// at reports whether r is at the endpoint.
func (c *compiled) at(r *Request, template func(*Request) string) bool {
	e := c.Match.Endpoint
	if e.Method != "" && !strings.EqualFold(e.Method, r.Method) || e.Host != "" && !strings.EqualFold(e.Host, r.Host) {
		return false
	}
	if e.Template == "" {
		return true
	}
	if r.PathKey == 0 {
		r.Seal()
	}
	here, known := c.paths[r.PathKey]
	if known {
		return here
	}
	text := template(r)
	here = onTemplate(e.Template, text) || text == "{unknown}" && onTemplate(e.Template, r.Path)
	if c.paths == nil || len(c.paths) >= maxKnownPaths {
		c.paths = map[uint64]bool{}
	}
	c.paths[r.PathKey] = here
	return here
}

// Silenced is what a suppression is asked about: a case, from a finding or from an
// alert.
type Silenced struct {
	Detector, Level string
	Who             Principal
	Addresses       []string
	Endpoint        Endpoint
	Labels          map[string]string
	aside           bool
}

// SilencedFinding is f as suppressions see it.
func SilencedFinding(f *Finding) Silenced {
	return Silenced{f.Detector, f.Level, f.Who, f.Addresses, f.Endpoint, f.Labels, f.Aside}
}

// SilencedAlert is a as suppressions see it.
func SilencedAlert(a *Alert) Silenced {
	return Silenced{a.Detector, a.Level, a.Principal, a.Addresses, a.Endpoint, a.Labels, false}
}

// Covers reports whether m selects x, at whatever time.
func (m *SuppressionMatch) Covers(x *Silenced) bool {
	c := compileSuppression(Suppression{Match: *m}, func(string) uint32 { return 0 })
	return c.kind(x) && c.covers(x)
}

// Covering returns the first suppression by id that covers f at time t, nil for none.
// A finding of what was set aside, about more than one client, is covered by any that
// may have set it aside.
func (s *Silences) Covering(f *Finding, t Time) *Suppression {
	x := SilencedFinding(f)
	for _, c := range s.list {
		if (c.inForce(t) || f.Aside && c.inForce(f.Last)) && c.kind(&x) && c.covers(&x) {
			return &c.Suppression
		}
	}
	if !f.Aside || !f.Wide && f.Level != "campaign" && f.Level != "endpoint" && f.Level != "cohort" {
		return nil
	}
	for _, c := range s.list {
		if c.traffic && (c.inForce(f.Last) || c.inForce(t)) && c.kind(&x) {
			return &c.Suppression
		}
	}
	return nil
}

// kind reports whether x is of the detectors and the level. What weir says of itself
// is covered where it is named.
func (c *compiled) kind(x *Silenced) bool {
	m := &c.Match
	family, _, _ := strings.Cut(x.Detector, ".")
	return (m.Detector == "" || m.Detector == x.Detector || strings.TrimSuffix(m.Detector, ".*") == family) &&
		(m.Level == "" || m.Level == x.Level) && (family != "health" || m.Detector != "" || x.aside)
}

// covers reports whether x is about the principal and the place.
func (c *compiled) covers(x *Silenced) bool {
	m := &c.Match
	named := func(value string, kinds ...PrincipalKind) bool {
		return value == "" || slices.Contains(kinds, x.Who.Kind) && x.Who.Value == value
	}
	switch {
	case m.Principal != nil && *m.Principal != x.Who,
		!named(m.Account, PrincipalAccount, PrincipalSubject),
		!named(m.Key, PrincipalKey),
		m.KeyBegins != "" && (x.Who.Kind != PrincipalKey || !strings.HasPrefix(x.Who.Value, m.KeyBegins)),
		m.Address != "" && !c.from(x):
		return false
	}
	if e := m.Endpoint; e != nil && (e.Method != "" && !strings.EqualFold(e.Method, x.Endpoint.Method) ||
		e.Host != "" && !strings.EqualFold(e.Host, x.Endpoint.Host) || e.Template != "" && !onTemplate(e.Template, x.Endpoint.Template)) {
		return false
	}
	for k, v := range m.Labels {
		if x.Labels[k] != v {
			return false
		}
	}
	return true
}

// from reports whether all that is known of where x came from is in the network.
func (c *compiled) from(x *Silenced) bool {
	in := func(s string) bool {
		p := readNetwork(s)
		return p.IsValid() && c.network.IsValid() && c.network.Bits() <= p.Bits() && c.network.Contains(p.Addr())
	}
	if x.Who.Kind == PrincipalIP {
		return in(x.Who.Value) || len(x.Addresses) > 0 && !slices.ContainsFunc(x.Addresses, func(a string) bool { return !in(a) })
	}
	return len(x.Addresses) > 0 && !slices.ContainsFunc(x.Addresses, func(a string) bool { return !in(a) })
}

// onTemplate reports whether template is one that pattern means. What names an
// object in the query is no part of the comparison.
func onTemplate(pattern, template string) bool {
	pattern, _, _ = strings.Cut(pattern, "?")
	template, _, _ = strings.Cut(template, "?")
	if template == "" {
		return false
	}
	if strings.EqualFold(pattern, template) {
		return true
	}
	if !strings.Contains(pattern, "*") {
		return false
	}
	want, got := strings.Split(strings.ToLower(pattern), "/"), strings.Split(strings.ToLower(template), "/")
	for i, w := range want {
		if w == "**" && i == len(want)-1 {
			return true
		}
		if i >= len(got) {
			return false
		}
		if ok, err := path.Match(w, got[i]); err != nil || !ok {
			return false
		}
	}
	return len(want) == len(got)
}
