package alerts

import (
	"fmt"
	"time"

	"weir/pipeline"
)

// more is one day's incidents that are not followed because too many are open.
type more struct {
	Day      pipeline.Time
	ID       string
	Revision int
	Said     int64
	Change   pipeline.AlertChange
	Opened   pipeline.Time
	Last     pipeline.Time
	Sent     bool
	Beyond   int64 // foldings that no longer fit into places
	places   map[uint64]struct{}
}

func (m *more) end() pipeline.Time { return m.Day.Add(day) }

func (m *more) total() int64 { return int64(len(m.places)) }

// fold counts p as not followed.
func (b *Book) fold(dst []pipeline.Alert, p place, backfill bool) []pipeline.Alert {
	m := b.more
	if m == nil {
		m = &more{Day: dayOf(b.now), Opened: b.now, places: map[uint64]struct{}{}}
		m.ID = idOf("health", moreWho(m.Day), m.Day, "", 0)
		b.more = m
	}
	who := p.actor()
	h := pipeline.Hash64(p.Family + " " + who.Kind.String() + ":" + who.Value)
	_, known := m.places[h]
	switch {
	case known:
	case len(m.places) < maxMembers:
		m.places[h] = struct{}{}
		b.stats.Folded++
	default:
		m.Beyond++
		b.stats.Folded++
	}
	m.Last = b.now
	n := m.total()
	switch {
	case m.Revision == 0:
		return b.sayMore(dst, "opened", fmt.Sprintf("%s more", thousands(n)), backfill)
	case n >= growth*m.Said:
		return b.sayMore(dst, "grew", fmt.Sprintf("%s → %s more", thousands(m.Said), thousands(n)), backfill)
	}
	return dst
}

func moreWho(d pipeline.Time) pipeline.Principal {
	return pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: "incidents over the limit " + d.Std().Format(time.DateOnly)}
}

func (b *Book) sayMore(dst []pipeline.Alert, kind, text string, backfill bool) []pipeline.Alert {
	m := b.more
	m.Revision++
	m.Said = m.total()
	m.Sent = m.Sent || !backfill
	m.Change = pipeline.AlertChange{Kind: kind, Text: text}
	b.stats.Revisions++
	status := "open"
	if kind == "resolved" {
		status = "resolved"
	}
	a := b.moreAlert(status)
	markBackfill(&a, backfill)
	return append(dst, a)
}

func (b *Book) endMore(dst []pipeline.Alert) []pipeline.Alert {
	dst = b.sayMore(dst, "resolved", fmt.Sprintf("the day is over; %s more", thousands(b.more.total())), !b.more.Sent)
	b.more = nil
	return dst
}

// moreAlert is the notice that weir is blind to some incidents.
func (b *Book) moreAlert(status string) pipeline.Alert {
	m := b.more
	n := thousands(m.total())
	if m.Beyond > 0 {
		n = "over " + n
	}
	f := pipeline.Finding{
		ID: m.ID, Time: b.now, Detector: "health.loss", Level: "endpoint", Who: moreWho(m.Day),
		Onset: m.Opened, First: m.Opened, Last: m.Last, FirstSeen: m.Opened,
		Outcome: pipeline.Outcome{Requests: m.total(), Basis: "unknown"},
		Title:   n + " more incidents than weir follows",
		Reason: fmt.Sprintf("%s incidents were set aside because %s were open already; each was weaker than all that are followed.",
			n, thousands(int64(b.cfg.MaxOpen))),
		Next:           []string{"Look for one attack from many sources and block it upstream", "Raise alerts.max_open if memory allows"},
		BenignIf:       []string{},
		WouldNotFireIf: fmt.Sprintf("at most %s incidents were open", thousands(int64(b.cfg.MaxOpen))),
		Sampled:        1,
	}
	inc := incident{
		Place: place{Who: f.Who, Family: "health"}, ID: m.ID, Revision: m.Revision, Finding: f, Severity: low, Tier: tierReview,
		Onset: m.Opened, First: m.Opened, Last: m.Last, Opened: m.Opened, Said: said{Change: m.Change},
	}
	return b.alert(&inc, status == "open")
}
