package alerts

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"time"

	"weir/pipeline"
)

// surge is what of one detector is over the budget: an incident of the level campaign
// that tells of all of it. Each member has a row of its own in the feed, closed from
// the start, and costs a hundred bytes until the surge ends: it may be any number of
// them that a detector set wrong finds.
type surge struct {
	Key          string               `json:"key"` // see surgeKey
	Detector     string               `json:"detector"`
	Quiet        bool                 `json:"quiet,omitempty"` // suppressions cover its members
	ID           string               `json:"id"`
	Revision     int                  `json:"revision"`
	Said         int                  `json:"said"` // members at the last revision
	SaidSeverity int                  `json:"said_severity"`
	SaidWorked   bool                 `json:"said_worked"`
	Change       pipeline.AlertChange `json:"change"`
	Severity     int                  `json:"severity"` // the gravest that a member would have
	Opened       pipeline.Time        `json:"opened"`
	Onset        pipeline.Time        `json:"onset"`
	First        pipeline.Time        `json:"first"`
	Last         pipeline.Time        `json:"last"`
	Sent         bool                 `json:"sent"`
	Best         pipeline.Finding     `json:"best"`  // of the strongest member
	Shown        []shownMember        `json:"shown"` // the busiest, by who
	Members      int                  `json:"members"`
	Beyond       int64                `json:"beyond"` // findings of those that no longer fit
	Requests     int64                `json:"requests"`
	Tries        int64                `json:"tries"`
	Worked       int64                `json:"worked"` // members with a confirmed success
	Labels       map[string]string    `json:"labels"` // that all have
}

// folded is a member of a surge.
type folded struct {
	Surge     string        `json:"surge"` // its key
	Place     place         `json:"place"`
	ID        string        `json:"id"`
	Revision  int           `json:"revision"`
	Onset     pipeline.Time `json:"onset"`
	First     pipeline.Time `json:"first"`
	Last      pipeline.Time `json:"last"`
	Opened    pipeline.Time `json:"opened"`
	Requests  int64         `json:"requests"`
	Tries     int64         `json:"tries"`
	Succeeded bool          `json:"succeeded,omitempty"`
}

// maxGrouped bounds the members of all surges together.
const maxGrouped = 1 << 18

// end is when the surge is over: it was silent for long, or lasted a day.
func (s *surge) end() pipeline.Time { return min(s.Last.Add(minQuiet), s.Opened.Add(day)) }

func (s *surge) who() pipeline.Principal {
	return pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: s.Key + " over the budget since " + s.Opened.Std().Format(time.RFC3339)}
}

// overBudget makes inc, which the budget does not allow, a member of its detector's
// surge, and tells of it once.
func (b *Book) overBudget(dst []pipeline.Alert, inc *incident, old *memory) []pipeline.Alert {
	f := &inc.Finding
	key := b.surgeKey(inc)
	s := b.surges[key]
	if s == nil {
		s = &surge{
			Key: key, Detector: f.Detector, Quiet: b.covered(inc), Opened: b.now, Onset: f.Onset, First: f.First, Last: f.Last, Best: *f, Labels: maps.Clone(f.Labels), Severity: inc.Severity,
		}
		s.ID = idOf("surge", s.who(), s.Opened, "", 0)
		b.surges[key] = s
	}
	if len(b.grouped) >= maxGrouped {
		s.Beyond++
		s.Last = max(s.Last, f.Last)
		return dst
	}
	m := &folded{Surge: s.Key, Place: inc.Place, ID: inc.ID, Onset: inc.Onset, First: inc.First, Last: inc.Last, Opened: b.now}
	kind := "opened"
	if old != nil {
		kind = "reopened"
		m.ID, m.Revision, m.Opened = old.ID, old.Revision, old.Opened
		b.drop(b.resolved[inc.Place])
	} else if m.ID == "" || f.First <= b.forgotten {
		m.ID = idOf(inc.Place.Family, f.Who, f.First, f.ID, f.Time)
	}
	b.grouped[inc.Place] = m
	s.Members++
	s.take(m, f, inc.Severity)
	dst = b.sayGrouped(dst, s, m, inc, kind, f.Backfill)
	return b.tellSurge(dst, s, f.Backfill)
}

// sayGrouped appends the revision of a member: closed, for the surge tells of what
// follows.
func (b *Book) sayGrouped(dst []pipeline.Alert, s *surge, m *folded, inc *incident, kind string, backfill bool) []pipeline.Alert {
	was := severities()[inc.Severity]
	inc.ID, inc.Revision, inc.Opened, inc.Parent = m.ID, m.Revision, m.Opened, s.ID
	inc.Severity, inc.Tier = min(inc.Severity, low), tierContext
	dst = b.say(dst, inc, kind, was+" by itself, over the budget: "+s.Detector+" tells of it as "+s.ID+"; "+numbers(nil, tallyOf(&inc.Finding), inc.Finding.Detector), backfill)
	a := &dst[len(dst)-1]
	a.Status, a.Ongoing, a.Rate5m = "resolved", false, 0
	m.Revision = inc.Revision
	return dst
}

// take counts what f says of m.
func (s *surge) take(m *folded, f *pipeline.Finding, severity int) {
	s.Requests += f.Outcome.Requests - m.Requests
	s.Tries += f.Outcome.Attempted - m.Tries
	m.Requests, m.Tries = f.Outcome.Requests, f.Outcome.Attempted
	if f.Facts.Succeeded && !m.Succeeded {
		m.Succeeded = true
		s.Worked++
	}
	m.Onset, m.First, m.Last = min(m.Onset, f.Onset), min(m.First, f.First), max(m.Last, f.Last)
	s.Onset, s.First, s.Last = min(s.Onset, f.Onset), min(s.First, f.First), max(s.Last, f.Last)
	s.Severity = max(s.Severity, severity)
	if f.Score > s.Best.Score {
		s.Best = *f
	}
	for k, v := range s.Labels {
		if f.Labels[k] != v {
			delete(s.Labels, k) // not common to all
		}
	}
	s.Shown = show(s.Shown, f.Who, m.Tries)
}

// tellSurge appends a revision of s if there is news: it began, has several times the
// members, is graver, or has the first that worked.
func (b *Book) tellSurge(dst []pipeline.Alert, s *surge, backfill bool) []pipeline.Alert {
	n := count(int64(s.Members), "alerts")
	switch {
	case s.Revision == 0:
		return b.saySurge(dst, s, "opened", n, backfill)
	case s.Worked > 0 && !s.SaidWorked:
		return b.saySurge(dst, s, "succeeded", n+", of "+thousands(s.Worked)+" success is confirmed", backfill)
	case s.Severity > s.SaidSeverity:
		w := severities()
		return b.saySurge(dst, s, "grew", fmt.Sprintf("severity %s → %s; %s", w[s.SaidSeverity], w[s.Severity], n), backfill)
	case s.Members >= growth*s.Said:
		return b.saySurge(dst, s, "grew", thousands(int64(s.Said))+" → "+n, backfill)
	case !backfill && !s.Sent:
		return b.saySurge(dst, s, "still_active", "began before weir was watching; "+n, backfill)
	}
	return dst
}

func (b *Book) saySurge(dst []pipeline.Alert, s *surge, kind, text string, backfill bool) []pipeline.Alert {
	s.Revision++
	s.Said, s.SaidSeverity, s.SaidWorked = s.Members, s.Severity, s.Worked > 0
	s.Sent = s.Sent || !backfill
	s.Change = pipeline.AlertChange{Kind: kind, Text: text}
	b.stats.Revisions++
	a := b.surgeAlert(s, kind != "resolved")
	markBackfill(&a, backfill)
	return append(dst, a)
}

// regroup takes news of a member. A first success is told by itself where the budget
// allows: it leaves the surge and is an incident again.
func (b *Book) regroup(dst []pipeline.Alert, m *folded, f *pipeline.Finding) []pipeline.Alert {
	s := b.surges[m.Surge]
	first := f.Facts.Succeeded && !m.Succeeded
	inc := newIncident(m.Place, f, "", b.worth(&f.Endpoint))
	if first && len(b.open) < b.cfg.MaxOpen && b.afford(inc) {
		return b.leaveSurge(dst, s, m, inc)
	}
	s.take(m, f, inc.Severity)
	if first {
		dst = b.sayGrouped(dst, s, m, inc, "succeeded", f.Backfill)
	}
	return b.tellSurge(dst, s, f.Backfill)
}

// leaveSurge makes a member, as inc, an incident of its own.
func (b *Book) leaveSurge(dst []pipeline.Alert, s *surge, m *folded, inc *incident) []pipeline.Alert {
	f := &inc.Finding
	delete(b.grouped, m.Place)
	s.Members--
	s.Requests -= m.Requests
	s.Tries -= m.Tries
	s.Shown = slices.DeleteFunc(s.Shown, func(x shownMember) bool { return x.Who == f.Who })
	inc.ID, inc.Revision, inc.Opened = m.ID, m.Revision, m.Opened
	inc.Onset, inc.First = min(m.Onset, inc.Onset), min(m.First, inc.First)
	a := b.actor(m.Place.actor())
	a.Holds++
	a.Alerts++
	a.enter(inc.Place, f, true)
	b.open[inc.Place] = inc
	heap.Push(&b.due, inc)
	heap.Push(&b.weak, inc)
	return b.say(dst, inc, "succeeded", "no longer one of many over the budget; "+numbers(nil, tallyOf(f), f.Detector), f.Backfill)
}

// endSurge resolves s and forgets its members: who comes again is a new alert.
func (b *Book) endSurge(dst []pipeline.Alert, s *surge) []pipeline.Alert {
	dst = b.saySurge(dst, s, "resolved", "no more of them since "+clock(s.Last)+"; "+count(int64(s.Members), "alerts"), !s.Sent)
	for p, m := range b.grouped { // in no order: each stands for itself
		if m.Surge == s.Key {
			b.forgotten = max(b.forgotten, m.Last, m.First)
			delete(b.grouped, p)
		}
	}
	delete(b.surges, s.Key)
	return dst
}

// earliestSurge is the surge that ends first, nil without any.
func (b *Book) earliestSurge() *surge {
	var first *surge
	for _, s := range b.surges { // in no order: the least of all
		if first == nil || cmp.Or(cmp.Compare(s.end(), first.end()), cmp.Compare(s.ID, first.ID)) < 0 {
			first = s
		}
	}
	return first
}

// surgeAlert renders s.
func (b *Book) surgeAlert(s *surge, open bool) pipeline.Alert {
	n := thousands(int64(s.Members))
	if s.Beyond > 0 {
		n = "over " + n
	}
	worked := s.Worked
	f := s.Best
	f.Level, f.Who = "campaign", s.who()
	f.Title = n + " more " + detectorName(s.Detector) + " alerts than are told one by one"
	f.Reason = fmt.Sprintf("%s found %s clients over the budget of %s alerts and %s pages an hour: one attack from many sources, or a detector that does not fit this traffic. "+
		"Each has a row in the feed, with this alert as its campaign.", s.Detector, n, allowed(b.cfg.Budget.Alerts), allowed(b.cfg.Budget.Pages))
	f.Next = []string{
		"Look at the busiest members: if ordinary clients are among them, put the detector on trial: detect: {" + s.Detector + ": {mode: shadow}}",
		"If it is an attack, block what its sources have in common upstream",
	}
	f.BenignIf = []string{"a change of the site or of its clients that this detector does not know yet"}
	f.WouldNotFireIf = "no more alerts were opened in an hour than the budget allows"
	f.Outcome = pipeline.Outcome{Requests: s.Requests, Attempted: s.Tries, Succeeded: &worked, Basis: "unknown"}
	f.People, f.FirstSeen, f.Rate5m, f.Labels, f.Endpoint = [2]int{}, s.First, 0, s.Labels, pipeline.Endpoint{}
	f.Accounts, f.Objects, f.Truncated, f.Agents, f.JA4 = nil, nil, false, nil, nil
	f.ASN, f.Country, f.Network, f.Predicate, f.Estimate = "", "", "", "", nil
	f.Addresses, f.Members, f.MembersTotal = nil, nil, s.Members
	for _, m := range s.Shown {
		f.Members = append(f.Members, m.Who)
		if m.Who.Kind == pipeline.PrincipalIP && len(f.Addresses) < maxAddresses {
			f.Addresses = append(f.Addresses, m.Who.Value)
		}
	}
	f.AddressesTotal = len(f.Addresses)
	tier := tierReview
	if s.Severity >= medium {
		tier = tierPage
	}
	inc := incident{
		Place: place{Who: f.Who, Family: family(s.Detector)}, ID: s.ID, Revision: s.Revision, Finding: f, Severity: s.Severity, Tier: tier,
		Onset: s.Onset, First: s.First, Last: s.Last, Opened: s.Opened, Said: said{Change: s.Change}, Parent: s.ID,
	}
	if s.Quiet {
		inc.Place.Aside, inc.Quiet = true, true
		b.hushed(&inc)
	}
	a := b.alert(&inc, open)
	a.Ongoing = open
	a.Quality.Identity = ""
	return a
}

func allowed(n int) string {
	if n == 0 {
		return "any number of"
	}
	return thousands(int64(n))
}
