package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"weir/console"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// side is what one configuration makes of the input.
type side struct {
	replay    *replay
	labels    *Labels
	traffic   *TrafficStats
	revisions []pipeline.Alert // for the labels; pruned
	told      map[string]*told
	first     pipeline.Time // event time of the input
	last      pipeline.Time
	requests  int64
	dropped   int64            // alerts beyond maxTold
	shadow    map[string]int64 // findings of detectors in shadow mode
}

// told is an alert as it stands at the end. What no comparison asks for is left
// out.
type told struct {
	a      pipeline.Alert
	at     pipeline.Time // when it was first told of
	paged  bool          // at some time, and not kept from sinks
	silent bool          // kept from sinks by a suppression, at the end
	paired bool
}

// maxTold bounds the alerts that are held a side.
const maxTold = 50_000

func (s *side) label(path string) (err error) {
	if s.labels, err = LoadLabels(path); err != nil {
		return err
	}
	s.labels.Alias(func(kind pipeline.PrincipalKind, value string) string {
		return tokenFor(s.replay.keys, s.replay.cfg.Identity.APIKeyPrefix, kind, value)
	})
	s.traffic = NewTrafficStats(s.labels)
	return nil
}

// run detects; since and until choose the alerts that are kept, 0 is open.
func (s *side) run(ctx context.Context, since, until pipeline.Time) error {
	s.told = map[string]*told{}
	if s.traffic != nil {
		s.replay.onBatch = func(batch []pipeline.Ordered) {
			for i := range batch {
				s.traffic.ObserveRequest(batch[i].Request)
			}
		}
	}
	e, err := s.replay.run(ctx, nil, nil, s.take)
	if err != nil {
		return err
	}
	s.first, s.last, s.requests = e.first, e.last, e.requests
	s.shadow = map[string]int64{}
	seen := map[string]bool{}
	for i := range e.shadow {
		if f := &e.shadow[i]; !seen[f.ID] {
			seen[f.ID] = true
			s.shadow[f.Detector]++
		}
	}
	for id, t := range s.told {
		w := t.a.Window
		empty := t.a.Level == "campaign" && t.a.MembersTotal == 0 // its members' own alerts tell of it
		if empty || since != 0 && w.Last < since || until != 0 && w.First > until {
			delete(s.told, id)
		}
	}
	return nil
}

func (s *side) take(a *pipeline.Alert) {
	p := pruned(a)
	t := s.told[a.ID]
	if t == nil {
		if len(s.told) >= maxTold {
			s.dropped++
			return
		}
		t = &told{at: a.Window.DetectedAt}
		s.told[a.ID] = t
	}
	t.a = p
	id, silent := a.Silent()
	t.silent = silent && id != ""
	t.paged = t.paged || !t.silent && (a.Severity == "high" || a.Severity == "critical")
	if s.labels != nil && len(s.revisions) < maxKept {
		s.revisions = append(s.revisions, p)
	}
}

// pruned is a without what is large and not compared.
func pruned(a *pipeline.Alert) pipeline.Alert {
	p := *a
	p.Next, p.BenignIf, p.Attack, p.OWASP, p.OAT, p.Labels = nil, nil, nil, nil, nil, nil
	p.Signals, p.Affected, p.Envelope = nil, pipeline.AlertAffected{}, pipeline.AlertEnvelope{}
	p.Context.Agents, p.Context.JA4 = nil, nil
	p.Exemplars = slices.Clip(p.Exemplars[:min(1, len(p.Exemplars))])
	return p
}

// comparison is the old side against the new one.
type comparison struct {
	was, now     side
	store        bool
	since, until pipeline.Time
	changes      []configChange
	units        []unit
	sides        both[string]
	waits        []string // of the changes, what takes a restart of weir
	verdicts     map[string]string
	stored       map[string]bool // ids of alerts that the store has
	notes        []string

	pseudonyms bool   // names stay tokens
	console    string // where links lead, "" as configured
}

func (b *comparison) note(format string, a ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, a...))
}

// prepare says what of the changes shows, and what cannot.
func (b *comparison) prepare() {
	var lost []string
	for _, c := range b.changes {
		root, _, _ := strings.Cut(c.Path, ".")
		root, _, _ = strings.Cut(root, "[")
		name := c.Path
		switch {
		case root == "collect":
			name = "collect"
		case strings.HasPrefix(name, "identity.trusted_proxies"), strings.HasPrefix(name, "identity.internal_networks"), strings.HasPrefix(name, "identity.api_key_prefix"):
		default:
			continue
		}
		if b.store && !slices.Contains(lost, name) {
			lost = append(lost, name)
		}
	}
	if len(lost) > 0 {
		b.note("stored requests were reduced when they were collected: the change of %s is left out; give the log files to see it", strings.Join(lost, ", "))
	}
	if len(b.waits) > 0 && b.store {
		b.note("applied to a running weir, this takes a restart: %s; the rest is in force at once", strings.Join(b.waits, ", "))
	}
	if x := b.now.replay.apart; x != nil && slices.ContainsFunc(x.add, func(s pipeline.Suppression) bool { return s.Match.Detector != "" }) {
		b.note("a suppression that names detectors judges what it covers by itself: here from the first stored request on, and once it is applied from then on, without a past")
	}
	b.units = unitsOf(b.changes, b.store)
	if len(b.units) == 0 {
		b.note("nothing that alerts depend on differs between the two configurations")
	}
}

// readStore takes what the store knows of the alerts of both sides: verdicts, and which
// of them people have seen.
func (b *comparison) readStore(ctx context.Context, p *replay) (err error) {
	if b.verdicts, err = storedVerdicts(ctx, p.db, &b.was, &b.now); err != nil {
		return err
	}
	whole, err := p.whole(ctx)
	if err != nil {
		return err
	}
	if !whole {
		b.note("the store no longer holds its first requests: profiles are cold where it begins, under both configurations, as they are not in the weir that runs")
	}
	return b.compareStored(ctx, p.db)
}

// compareStored notes how the old side differs from what was told at the time.
func (b *comparison) compareStored(ctx context.Context, db *sqlite.DB) error {
	f := storage.AlertFilter{Since: b.since, Until: b.until, Limit: 1000}
	b.stored = map[string]bool{}
	missing := 0
	for {
		page, err := db.Alerts(ctx, f)
		if err != nil {
			return err
		}
		for i := range page {
			a := &page[i].Alert
			b.stored[a.ID] = true
			empty := a.Level == "campaign" && a.MembersTotal == 0
			if _, same := b.was.told[a.ID]; !same && !empty && a.Window.DetectedAt < b.was.last {
				missing++
			}
			f.BeforeSeq = page[i].Seq
		}
		if len(page) < f.Limit || len(b.stored) >= maxTold {
			break
		}
	}
	unseen := 0
	for id := range b.was.told {
		if !b.stored[id] {
			unseen++
		}
	}
	if missing+unseen > 0 && len(b.stored) < maxTold {
		b.note("the old configuration, over all that is stored, gives %d alerts that were not told at the time, and not %d that were: weir ran with others then, or with state from before what is stored", unseen, missing)
	}
	return nil
}

// storedVerdicts are the verdicts that people gave to alerts of either side.
func storedVerdicts(ctx context.Context, db *sqlite.DB, sides ...*side) (map[string]string, error) {
	var ids []string
	for _, s := range sides {
		for id := range s.told {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	rows, err := db.Triages(ctx, slices.Compact(ids))
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for id, row := range rows {
		var t console.Triage
		if err := json.Unmarshal(row.Body, &t); err != nil {
			return nil, fmt.Errorf("read triage of %s: %w", id, err)
		}
		if t.Verdict != "" {
			found[id] = t.Verdict
		}
	}
	return found, nil
}

// sorted are the alerts of a side in the order in which they were told of.
func (s *side) sorted() []*told {
	list := make([]*told, 0, len(s.told))
	for _, t := range s.told {
		list = append(list, t)
	}
	slices.SortFunc(list, func(x, y *told) int {
		return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.a.ID, y.a.ID))
	})
	return list
}

// match pairs the alerts of both sides: by id, and what is left by principal,
// family and overlapping windows, because an id holds the time of the first
// counted request.
func (b *comparison) match() (pairs [][2]*told, gained, lost []*told) {
	old := b.was.sorted()
	byWho := map[string][]*told{}
	for _, n := range b.now.sorted() {
		if o := b.was.told[n.a.ID]; o != nil {
			o.paired, n.paired = true, true
			pairs = append(pairs, [2]*told{o, n})
		}
	}
	for _, o := range old {
		if !o.paired {
			byWho[caseKey(&o.a)] = append(byWho[caseKey(&o.a)], o)
		}
	}
	for _, n := range b.now.sorted() {
		if n.paired {
			continue
		}
		for _, o := range byWho[caseKey(&n.a)] {
			if !o.paired && o.a.Window.First <= n.a.Window.Last && n.a.Window.First <= o.a.Window.Last {
				o.paired, n.paired = true, true
				pairs = append(pairs, [2]*told{o, n})
				break
			}
		}
		if !n.paired {
			gained = append(gained, n)
		}
	}
	for _, o := range old {
		if !o.paired {
			lost = append(lost, o)
		}
	}
	return pairs, gained, lost
}

// caseKey is what the alerts of one case have in common.
func caseKey(a *pipeline.Alert) string {
	return a.Level + " " + familyOf(a.Detector) + " " + a.Principal.Kind.String() + ":" + a.Principal.Value
}
