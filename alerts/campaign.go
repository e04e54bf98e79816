package alerts

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

const (
	day = 24 * time.Hour
	// linkWithin is how close in time two families of one principal are a campaign.
	linkWithin = day
	maxMembers = 65_536 // exact up to here
	maxShown   = 64
	brokeOut   = "no longer mere background scanning"
)

func dayOf(t pipeline.Time) pipeline.Time {
	d := t % pipeline.Time(day/time.Microsecond)
	if d < 0 {
		d += pipeline.Time(day / time.Microsecond)
	}
	return t - d
}

// actor is what a principal's incidents have in common, while any is open or
// remembered.
type actor struct {
	Who      pipeline.Principal `json:"who"`
	Holds    int                `json:"holds"`
	Alerts   int                `json:"alerts"`   // incidents so far
	Families []string           `json:"families"` // of the campaign, sorted
	Since    pipeline.Time      `json:"since"`    // onset of its first
	Last     pipeline.Time      `json:"last"`     // latest finding
}

func (b *Book) actor(who pipeline.Principal) *actor {
	a := b.actors[who]
	if a == nil {
		a = &actor{Who: who, Families: []string{}}
		b.actors[who] = a
	}
	return a
}

// enter notes activity of a family; notices and health are no attack.
func (a *actor) enter(p place, f *pipeline.Finding, attack bool) {
	if !attack || isHealth(f.Detector) {
		return
	}
	if len(a.Families) > 0 && f.Time.Sub(a.Last) > linkWithin {
		a.Families = a.Families[:0]
	}
	if len(a.Families) == 0 {
		a.Since = f.Onset
	}
	if i, ok := slices.BinarySearch(a.Families, p.Family); !ok && len(a.Families) < 16 {
		a.Families = slices.Insert(a.Families, i, p.Family)
	}
	a.Last = f.Time
}

// campaign is the id that links the families of one principal, "" while there
// is one only.
func (b *Book) campaign(p place) string {
	a := b.actors[p.actor()]
	if a == nil || len(a.Families) < 2 || !slices.Contains(a.Families, p.Family) {
		return ""
	}
	return idOf("campaign", p.actor(), dayOf(a.Since), "", 0)
}

// elsewhere reports whether another family has a case against p's principal.
func (b *Book) elsewhere(p place) bool {
	a := b.actors[p.actor()]
	return a != nil && b.now.Sub(a.Last) <= linkWithin &&
		slices.ContainsFunc(a.Families, func(f string) bool { return f != p.Family })
}

// childWithin is how far outside of a campaign's window a case may lie that is
// part of it.
const childWithin = 30 * time.Minute

// insertCampaign adds inc to the open campaigns.
func (b *Book) insertCampaign(inc *incident) {
	i, _ := slices.BinarySearchFunc(b.campaigns, inc, func(x, y *incident) int { return cmp.Compare(x.ID, y.ID) })
	b.campaigns = slices.Insert(b.campaigns, i, inc)
}

// adopt makes inc its own campaign if it is one, and the open cases that are part
// of it its children.
func (b *Book) adopt(inc *incident) {
	if inc.Finding.Level != "campaign" {
		return
	}
	inc.Parent = inc.ID
	b.insertCampaign(inc)
	for _, c := range b.due.list { // in no order: each stands for itself
		if c.Parent == "" && inc.includes(c.Place, &c.Finding) {
			c.Parent = inc.ID
		}
	}
}

// parent is the id of the open campaign that f is part of, the first by id.
func (b *Book) parent(p place, f *pipeline.Finding) string {
	for _, c := range b.campaigns {
		if c.includes(p, f) {
			return c.ID
		}
	}
	return ""
}

// includes reports whether a client's case is part of campaign c: the same family
// and endpoint, about the same time, and a member, an agent or a TLS fingerprint of
// the campaign's, where it has something in common at all.
func (c *incident) includes(p place, f *pipeline.Finding) bool {
	g := &c.Finding
	if f.Level == "campaign" || p.Family != c.Place.Family || p.Aside != c.Place.Aside || f.Endpoint != g.Endpoint || f.Facts.Notice ||
		f.Last < c.Onset.Add(-childWithin) || f.First > c.Last.Add(childWithin) {
		return false
	}
	shares := func(a, b []string) bool {
		return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
	}
	return strings.HasPrefix(g.Predicate, "diffuse") || slices.Contains(g.Members, f.Who) || shares(f.JA4, g.JA4) || shares(f.Agents, g.Agents)
}

// scan is one day's background scanning: clients that asked for what is not
// here and got nothing. Every public host has hundreds a day.
type scan struct {
	Day      pipeline.Time
	ID       string
	Revision int
	Said     int // members at the last revision
	Change   pipeline.AlertChange
	Opened   pipeline.Time
	Onset    pipeline.Time
	First    pipeline.Time
	Last     pipeline.Time
	Sent     bool
	Vacant   bool             // every client left it; resolved until another comes
	Best     pipeline.Finding // of the strongest member
	Shown    []shownMember    // the busiest, by who
	Sum      memberSum
	Beyond   int64 // findings of clients that no longer fit
	Labels   map[string]string

	members   map[uint64]memberSum
	addresses map[uint64]struct{}
}

type shownMember struct {
	Who       pipeline.Principal
	Attempted int64
}

// memberSum is one member's numbers, and the sum of all. Unknown ones are
// counted so that they can be left again.
type memberSum struct {
	Requests, Attempted, Succeeded, Blocked, Bytes, Objects int64
	NoSuccess, NoBlocked, NoBytes                           int64
}

func sumOf(o *pipeline.Outcome) memberSum {
	m := memberSum{Requests: o.Requests, Attempted: o.Attempted, Objects: o.Objects}
	known := func(p *int64, to, missing *int64) {
		if p == nil {
			*missing = 1
			return
		}
		*to = *p
	}
	known(o.Succeeded, &m.Succeeded, &m.NoSuccess)
	known(o.Blocked, &m.Blocked, &m.NoBlocked)
	known(o.Bytes, &m.Bytes, &m.NoBytes)
	return m
}

func (m *memberSum) add(o memberSum, sign int64) {
	m.Requests += sign * o.Requests
	m.Attempted += sign * o.Attempted
	m.Succeeded += sign * o.Succeeded
	m.Blocked += sign * o.Blocked
	m.Bytes += sign * o.Bytes
	m.Objects += sign * o.Objects
	m.NoSuccess += sign * o.NoSuccess
	m.NoBlocked += sign * o.NoBlocked
	m.NoBytes += sign * o.NoBytes
}

func (s *scan) end() pipeline.Time { return s.Day.Add(day) }

// value is the stable name of a day's scanning.
func (s *scan) value() string {
	return "internet background scanning " + s.Day.Std().Format(time.DateOnly)
}

// takeScan adds f to the scanning of its day.
func (b *Book) takeScan(dst []pipeline.Alert, f *pipeline.Finding) []pipeline.Alert {
	s := b.scan
	if s == nil {
		s = &scan{
			Day: dayOf(b.now), Opened: b.now, Onset: f.Onset, First: f.First, Last: f.Last, Best: *f, Labels: maps.Clone(f.Labels),
			members: map[uint64]memberSum{}, addresses: map[uint64]struct{}{},
		}
		s.ID = idOf("probe", pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: s.value()}, s.Day, "", 0)
		b.scan = s
	}
	s.add(f)
	n := len(s.members)
	switch {
	case s.Revision == 0:
		return b.sayScan(dst, "opened", count(int64(n), "clients"), f.Backfill)
	case s.Vacant:
		s.Vacant = false
		return b.sayScan(dst, "reopened", count(int64(n), "clients"), f.Backfill)
	case n >= growth*max(s.Said, 1):
		return b.sayScan(dst, "grew", fmt.Sprintf("%d → %s", s.Said, count(int64(n), "clients")), f.Backfill)
	case !f.Backfill && !s.Sent:
		return b.sayScan(dst, "still_active", "began before weir was watching; "+count(int64(n), "clients"), f.Backfill)
	}
	return dst
}

func (s *scan) add(f *pipeline.Finding) {
	h, sum := memberHash(f.Who), sumOf(&f.Outcome)
	old, known := s.members[h]
	if !known && len(s.members) >= maxMembers {
		s.Beyond++
		return
	}
	s.members[h] = sum
	s.Sum.add(old, -1)
	s.Sum.add(sum, 1)
	s.Shown = show(s.Shown, f.Who, sum.Attempted)
	for _, a := range f.Addresses {
		if len(s.addresses) < maxMembers {
			s.addresses[pipeline.Hash64(a)] = struct{}{}
		}
	}
	s.Onset, s.First, s.Last = min(s.Onset, f.Onset), min(s.First, f.First), max(s.Last, f.Last)
	if f.Score > s.Best.Score || f.Who == s.Best.Who {
		s.Best = *f
	}
	for k, v := range s.Labels {
		if f.Labels[k] != v {
			delete(s.Labels, k) // not common to all
		}
	}
}

// show keeps the busiest members, sorted by who.
func show(list []shownMember, who pipeline.Principal, attempted int64) []shownMember {
	i, ok := slices.BinarySearchFunc(list, who, func(m shownMember, w pipeline.Principal) int { return compareWho(m.Who, w) })
	if ok {
		list[i].Attempted = attempted
		return list
	}
	if len(list) >= maxShown {
		least := 0
		for j := range list {
			if list[j].Attempted < list[least].Attempted {
				least = j
			}
		}
		if attempted <= list[least].Attempted {
			return list
		}
		list = slices.Delete(list, least, least+1)
		if least < i {
			i--
		}
	}
	return slices.Insert(list, i, shownMember{who, attempted})
}

// memberHash is a member's identity: of all of its name, so that the count is
// exact.
func memberHash(p pipeline.Principal) uint64 { return pipeline.Hash64(p.Kind.String() + ":" + p.Value) }

func compareWho(a, b pipeline.Principal) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
}

// leaveScan takes who out of today's scanning and reports whether it was in.
func (b *Book) leaveScan(who pipeline.Principal) bool {
	s := b.scan
	if s == nil {
		return false
	}
	old, ok := s.members[memberHash(who)]
	if !ok {
		return false
	}
	delete(s.members, memberHash(who))
	s.Sum.add(old, -1)
	s.Shown = slices.DeleteFunc(s.Shown, func(m shownMember) bool { return m.Who == who })
	return true
}

// vacateScan resolves today's scanning when its last client has left it for an
// incident of its own.
func (b *Book) vacateScan(dst []pipeline.Alert, backfill bool) []pipeline.Alert {
	s := b.scan
	if s == nil || s.Vacant || len(s.members) > 0 {
		return dst
	}
	s.Vacant = true
	return b.sayScan(dst, "resolved", "its clients have alerts of their own now", backfill)
}

func (b *Book) sayScan(dst []pipeline.Alert, kind, text string, backfill bool) []pipeline.Alert {
	s := b.scan
	s.Revision++
	s.Said = len(s.members)
	s.Sent = s.Sent || !backfill
	s.Change = pipeline.AlertChange{Kind: kind, Text: text}
	b.stats.Revisions++
	status := "open"
	if kind == "resolved" {
		status = "resolved"
	}
	a := b.scanAlert(status)
	markBackfill(&a, backfill)
	return append(dst, a)
}

// endScan closes the day.
func (b *Book) endScan(dst []pipeline.Alert) []pipeline.Alert {
	if b.scan.Vacant {
		b.scan = nil
		return dst
	}
	dst = b.sayScan(dst, "resolved", "the day is over; "+count(int64(len(b.scan.members)), "clients"), !b.scan.Sent)
	b.scan = nil
	return dst
}
