package alerts

import (
	"cmp"
	"container/heap"
	"container/list"
	"fmt"
	"slices"
	"time"

	"weir/pipeline"
)

// Book keeps the open incidents and says what changed about them. One goroutine
// uses it. What it returns is a function of the findings in their order, of
// their times and of the configuration: not of how often Advance is called, of
// restarts or of the machine.
type Book struct {
	cfg      Config
	versions pipeline.AlertVersions
	rules    *pipeline.LoginRules // nil none; see Weigh
	now      pipeline.Time

	open map[place]*incident
	// campaigns are the open ones, by id.
	campaigns []*incident
	due       incidentHeap // by (deadline, id): the next to be resolved
	weak      incidentHeap // by (score, id): the first to go when there are too many
	resolved  map[place]*list.Element
	order     *list.List // of *memory, oldest resolution first
	// forgotten is the latest time seen in an incident that is remembered no
	// more: a case that began before it may have had its id in use.
	forgotten pipeline.Time
	actors    map[pipeline.Principal]*actor
	scan      *scan             // today's background scanning, nil none
	more      *more             // today's overflow, nil none
	surges    map[string]*surge // what is over the budget, by detector
	grouped   map[place]*folded
	spent     spending
	excuses   []excuse
	silences  *pipeline.Silences
	stats     Stats
}

// memory is what stays of a resolved incident, so that it can reopen.
type memory struct {
	Place    place         `json:"place"`
	ID       string        `json:"id"`
	Revision int           `json:"revision"`
	Onset    pipeline.Time `json:"onset"`
	First    pipeline.Time `json:"first"`
	Last     pipeline.Time `json:"last"`
	Opened   pipeline.Time `json:"opened"`
	At       pipeline.Time `json:"at"` // of the resolution
	Sent     bool          `json:"sent"`
	Prior    int           `json:"prior"`
	// The pace goes on too: who comes every three hours is not resolved and
	// reopened every three hours.
	Gaps    []time.Duration `json:"gaps"`
	NextGap int             `json:"next_gap"`
	Hush    hush            `json:"hush,omitzero"`
}

// reopenWithin is how long a resolved incident may reopen.
const reopenWithin = 30 * 24 * time.Hour

// Stats are counts since the book was made or restored, and sizes now.
type Stats struct {
	Open, Resolved, ScanMembers int
	Findings, Revisions         int64
	Ignored                     int64 // findings below review level without an incident
	Excused                     int64 // incidents that a notice explained
	Folded                      int64 // incidents not followed because of MaxOpen
	Grouped                     int   // members of surges now
	Forgotten                   int64 // resolved incidents dropped because of MaxResolved
}

// NewBook returns an empty book. versions go into every alert; a finding's own
// edition takes the place of theirs.
func NewBook(cfg Config, versions pipeline.AlertVersions) *Book {
	return &Book{
		cfg: cfg.bounded(), versions: versions, now: firstTime, forgotten: firstTime,
		open: map[place]*incident{}, resolved: map[place]*list.Element{}, order: list.New(),
		actors: map[pipeline.Principal]*actor{}, due: dueHeap(), weak: weakHeap(),
		silences: pipeline.NewSilences(nil, nil),
		surges:   map[string]*surge{}, grouped: map[place]*folded{},
	}
}

// Weigh makes severity follow the weights that rules give to endpoints. It is called
// before the first finding, after Restore too.
func (b *Book) Weigh(rules *pipeline.LoginRules) { b.rules = rules }

// worth is what the operator says of e: only what is configured counts.
func (b *Book) worth(e *pipeline.Endpoint) int {
	if b.rules == nil || e.Template == "" {
		return ordinary
	}
	known, _ := b.rules.Endpoint(e.Method, e.Template)
	switch {
	case known.Configured && known.Weight == "high":
		return precious
	case known.Configured && known.Weight == "low":
		return cheap
	}
	return ordinary
}

// Take appends to dst the revisions that f causes, after those that its time
// alone causes. Findings come in one fixed total order whose Time never goes
// back; f and what it points to stay the caller's.
func (b *Book) Take(dst []pipeline.Alert, f *pipeline.Finding) []pipeline.Alert {
	g := clean(f)
	g.Time = max(g.Time, b.now)
	dst = b.Advance(dst, g.Time)
	b.stats.Findings++
	dst = b.pardon(dst, &g)
	b.excused(&g)
	p := placeOf(&g)
	if inc := b.open[p]; inc != nil {
		return b.update(dst, inc, &g)
	}
	if m := b.grouped[p]; m != nil {
		return b.regroup(dst, m, &g)
	}
	if g.Score < pipeline.ReviewAt && !g.Facts.Notice {
		b.stats.Ignored++
		return dst
	}
	old := b.recall(p)
	if old == nil && p.Family == "probe" && !p.Aside && background(&g) && !b.elsewhere(p) {
		return b.takeScan(dst, &g)
	}
	return b.begin(dst, p, &g, old)
}

// Advance appends the revisions that are due because event time has reached
// now: incidents whose silence is over, in order of (deadline, id), and the end
// of the day for what runs by days. A time before the latest is ignored.
func (b *Book) Advance(dst []pipeline.Alert, now pipeline.Time) []pipeline.Alert {
	now = clampTime(now, b.now)
	if now <= b.now {
		return dst
	}
	b.now = now
	for {
		// The earliest of: an incident, the day's scanning, the day's overflow.
		at, id, end := pipeline.Time(0), "", (func([]pipeline.Alert) []pipeline.Alert)(nil)
		earliest := func(t pipeline.Time, i string, f func([]pipeline.Alert) []pipeline.Alert) {
			if t <= now && (end == nil || t < at || t == at && i < id) {
				at, id, end = t, i, f
			}
		}
		if b.due.Len() > 0 {
			inc := b.due.list[0]
			earliest(inc.deadline(), inc.ID, func(dst []pipeline.Alert) []pipeline.Alert {
				return b.resolve(dst, inc, inc.changeText("resolved", now))
			})
		}
		if b.scan != nil {
			earliest(b.scan.end(), b.scan.ID, b.endScan)
		}
		if b.more != nil {
			earliest(b.more.end(), b.more.ID, b.endMore)
		}
		if s := b.earliestSurge(); s != nil {
			earliest(s.end(), s.ID, func(dst []pipeline.Alert) []pipeline.Alert { return b.endSurge(dst, s) })
		}
		if end == nil {
			break
		}
		dst = end(dst)
	}
	for e := b.order.Front(); e != nil && now.Sub(e.Value.(*memory).At) > reopenWithin; e = b.order.Front() {
		b.forget(e)
	}
	return dst
}

// begin opens an incident for f, or reopens old.
func (b *Book) begin(dst []pipeline.Alert, p place, f *pipeline.Finding, old *memory) []pipeline.Alert {
	inc := newIncident(p, f, b.parent(p, f), b.worth(&f.Endpoint))
	if !b.afford(inc) {
		return b.overBudget(dst, inc, old)
	}
	full := len(b.open) >= b.cfg.MaxOpen
	if full && b.weak.list[0].weight() >= inc.weight() {
		return b.fold(dst, p, f.Backfill)
	}
	a := b.actor(p.actor())
	a.Holds++
	kind, text := "opened", numbers(nil, tallyOf(f), f.Detector)
	if old != nil {
		kind = "reopened"
		text = "back after " + duration(f.Time.Sub(old.Last)) + " of silence; " + text
		inc.ID, inc.Revision, inc.Sent, inc.Prior = old.ID, old.Revision, old.Sent, old.Prior
		inc.Gaps, inc.NextGap, inc.Hush = old.Gaps, old.NextGap, old.Hush
		inc.pace(inc.Last.Sub(old.Last))
		inc.Onset, inc.First, inc.Opened = min(old.Onset, inc.Onset), min(old.First, inc.First), old.Opened
		b.drop(b.resolved[p])
	} else {
		inc.Prior = a.Alerts
		a.Alerts++
		if inc.ID == "" || f.First <= b.forgotten {
			inc.ID = idOf(p.Family, f.Who, f.First, f.ID, f.Time)
		}
	}
	if full {
		w := b.weak.list[0]
		dst = b.resolve(dst, w, fmt.Sprintf("followed no more: over %d incidents are open and this is the weakest", b.cfg.MaxOpen))
		dst = b.fold(dst, w.Place, f.Backfill)
	}
	if p.Family == "probe" && !p.Aside && b.leaveScan(f.Who) {
		text = brokeOut + "; " + text
	}
	a.enter(p, f, inc.Severity > info)
	b.adopt(inc)
	b.open[p] = inc
	heap.Push(&b.due, inc)
	heap.Push(&b.weak, inc)
	return b.vacateScan(b.say(dst, inc, kind, text, f.Backfill), f.Backfill)
}

// update takes news of an open incident.
func (b *Book) update(dst []pipeline.Alert, inc *incident, f *pipeline.Finding) []pipeline.Alert {
	if inc.Parent == "" {
		inc.Parent = b.parent(inc.Place, f)
	}
	first := inc.absorb(f, b.worth(&f.Endpoint))
	heap.Fix(&b.due, inc.due)
	heap.Fix(&b.weak, inc.weak)
	b.actor(inc.Place.actor()).enter(inc.Place, f, inc.Severity > info)
	kind := inc.news(f, b.now, first)
	if kind == "" && inc.Hush.ID != "" {
		if b.hushed(inc); inc.pierces() != "" {
			kind = "grew"
		}
	}
	if kind == "" {
		return dst
	}
	text := inc.changeText(kind, b.now)
	if kind == "new_endpoint" {
		inc.EndpointAt = b.now
	}
	return b.say(dst, inc, kind, text, f.Backfill)
}

// say appends the next revision of inc.
func (b *Book) say(dst []pipeline.Alert, inc *incident, kind, text string, backfill bool) []pipeline.Alert {
	b.decide(inc, kind)
	inc.Revision++
	inc.Sent = inc.Sent || !backfill
	was, t := inc.Said, tallyOf(&inc.Finding)
	inc.Said = said{
		Time: b.now, Last: inc.Last, Tally: t, News: t, Severity: inc.Severity,
		Endpoint: inc.Finding.Endpoint, Change: pipeline.AlertChange{Kind: kind, Text: text},
		Detector: inc.Finding.Detector, Backfill: backfill, FindingID: inc.Finding.ID, Members: inc.Finding.MembersTotal,
		Succeeded: inc.Succeeded,
	}
	if kind == "still_active" && was.Time > 0 {
		// That it goes on is no news to measure the next by.
		inc.Said.News, inc.Said.Members, inc.Said.Endpoint = *was.news(), was.Members, was.Endpoint
	}
	b.stats.Revisions++
	return append(dst, b.alert(inc, kind != "resolved"))
}

// resolve ends inc and remembers it.
func (b *Book) resolve(dst []pipeline.Alert, inc *incident, text string) []pipeline.Alert {
	dst = b.say(dst, inc, "resolved", text, !inc.Sent)
	heap.Remove(&b.due, inc.due)
	heap.Remove(&b.weak, inc.weak)
	delete(b.open, inc.Place)
	b.campaigns = slices.DeleteFunc(b.campaigns, func(c *incident) bool { return c == inc })
	at := min(inc.deadline(), b.now)
	if e := b.order.Back(); e != nil {
		at = max(at, e.Value.(*memory).At)
	}
	if b.order.Len() >= b.cfg.MaxResolved {
		b.stats.Forgotten++
		b.forget(b.order.Front())
	}
	b.resolved[inc.Place] = b.order.PushBack(&memory{
		Place: inc.Place, ID: inc.ID, Revision: inc.Revision, Onset: inc.Onset, First: inc.First,
		Last: inc.Last, Opened: inc.Opened, At: at, Sent: inc.Sent, Prior: inc.Prior,
		Gaps: inc.Gaps, NextGap: inc.NextGap, Hush: inc.Hush,
	})
	return dst
}

// recall returns the resolved incident of p that may reopen.
func (b *Book) recall(p place) *memory {
	if e := b.resolved[p]; e != nil {
		return e.Value.(*memory)
	}
	return nil
}

// forget drops a resolved incident for good.
func (b *Book) forget(e *list.Element) {
	m := e.Value.(*memory)
	b.forgotten = max(b.forgotten, m.Last, m.First)
	b.drop(e)
}

// drop takes e out of the resolved ones and lets go of its actor.
func (b *Book) drop(e *list.Element) {
	m := e.Value.(*memory)
	b.order.Remove(e)
	delete(b.resolved, m.Place)
	if a := b.actors[m.Place.actor()]; a != nil {
		if a.Holds--; a.Holds <= 0 {
			delete(b.actors, m.Place.actor())
		}
	}
}

// Open returns the open incidents with their latest numbers, gravest first,
// then by onset and id. Nothing changes: each has the number and the change of
// the last revision that was said.
func (b *Book) Open() []pipeline.Alert {
	out := make([]pipeline.Alert, 0, len(b.open)+2)
	for _, inc := range b.due.list { // in no order; sorted below
		out = append(out, b.alert(inc, true))
	}
	if b.scan != nil && !b.scan.Vacant {
		out = append(out, b.scanAlert("open"))
	}
	if b.more != nil {
		out = append(out, b.moreAlert("open"))
	}
	for _, s := range b.surges { // in no order; sorted below
		out = append(out, b.surgeAlert(s, true))
	}
	words := severities()
	slices.SortFunc(out, func(x, y pipeline.Alert) int {
		return cmp.Or(
			cmp.Compare(slices.Index(words[:], y.Severity), slices.Index(words[:], x.Severity)),
			cmp.Compare(x.Window.Onset, y.Window.Onset),
			cmp.Compare(x.ID, y.ID))
	})
	return out
}

// Stats returns counts and sizes.
func (b *Book) Stats() Stats {
	s := b.stats
	s.Open, s.Resolved, s.Grouped = len(b.open), b.order.Len(), len(b.grouped)
	if b.scan != nil {
		s.ScanMembers = len(b.scan.members)
	}
	return s
}

// idOf is an alert id of our own making.
func idOf(family string, who pipeline.Principal, first pipeline.Time, salt string, at pipeline.Time) string {
	s := fmt.Sprintf("%s\x00%s\x00%s\x00%d\x00%s\x00%d", family, who.Kind, who.Value, first, salt, at)
	return fmt.Sprintf("%016x%016x", pipeline.Hash64(s), pipeline.Hash64("2"+s))
}
