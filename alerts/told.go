package alerts

import (
	"context"
	"encoding/json"
	"time"

	"weir/pipeline"
)

// Told is an open alert that a sink was told of.
type Told struct {
	Alert   string
	Group   string    // that it stays in
	Seq     int64     // the revision told last
	Next    time.Time // when to tell it again; the zero time never
	Repeats int       // how often it was told again
}

// SinkGroup is a group of alerts that a sink shows as one thing.
type SinkGroup struct {
	Group  string // key
	Common string // what its alerts have in common, a JSON object
	Thread string // where the sink keeps its messages together, "" none
}

// ToldChange is how far a sink came and what it was told on the way. What goes (Over
// are alerts, Closed groups) goes before what comes.
type ToldChange struct {
	Cursor int64
	Over   []string
	Told   []Told
	Closed []string
	Groups []SinkGroup
}

// ledger is what a sink knows of open alerts, as stored but for what changed since.
// One courier uses it.
type ledger struct {
	told   map[string]*Told
	groups map[string]*groupState
	// What is to be stored: nil is to be forgotten.
	alerts  map[string]*Told
	changed map[string]*SinkGroup
	due     time.Time // no alert is to be told again before it; the zero time never
}

type groupState struct {
	SinkGroup
	open int
}

func newLedger(told []Told, groups []SinkGroup) *ledger {
	l := &ledger{told: map[string]*Told{}, groups: map[string]*groupState{}, alerts: map[string]*Told{}, changed: map[string]*SinkGroup{}}
	for _, g := range groups {
		l.groups[g.Group] = &groupState{SinkGroup: g}
	}
	for _, t := range told {
		l.told[t.Alert] = &t
		l.group(t.Group).open++
		l.wakeAt(t.Next)
	}
	return l
}

func (l *ledger) group(key string) *groupState {
	g := l.groups[key]
	if g == nil {
		g = &groupState{SinkGroup: SinkGroup{Group: key}}
		l.groups[key] = g
	}
	return g
}

func (l *ledger) wakeAt(t time.Time) {
	if !t.IsZero() && (l.due.IsZero() || t.Before(l.due)) {
		l.due = t
	}
}

// openWith returns how many alerts of a group are open for the sink once it is told
// of list.
func (l *ledger) openWith(key string, list []GroupAlert) int {
	n := 0
	if g := l.groups[key]; g != nil {
		n = g.open
	}
	for i := range list {
		a := list[i].Alert
		if known := l.told[a.ID] != nil; known && a.Status == "resolved" {
			n--
		} else if !known && a.Status != "resolved" {
			n++
		}
	}
	return n
}

// tell notes that the sink knows t.
func (l *ledger) tell(t Told) {
	if l.told[t.Alert] == nil {
		l.group(t.Group).open++
	}
	l.told[t.Alert], l.alerts[t.Alert] = &t, &t
	l.wakeAt(t.Next)
}

// over notes that the sink need know no more of an alert.
func (l *ledger) over(id string) {
	t := l.told[id]
	if t == nil {
		return
	}
	delete(l.told, id)
	l.alerts[id] = nil
	g := l.group(t.Group)
	if g.open--; g.open <= 0 {
		delete(l.groups, t.Group)
		l.changed[t.Group] = nil
	}
}

// keep notes what a group has in common and where its messages are.
func (l *ledger) keep(key, common, thread string) {
	g := l.groups[key]
	if g == nil || g.Common == common && g.Thread == thread {
		return
	}
	g.Common, g.Thread = common, thread
	c := g.SinkGroup
	l.changed[key] = &c
}

// take returns what changed since the last time, in order; ok is false for nothing.
func (l *ledger) take() (c ToldChange, ok bool) {
	if len(l.alerts) == 0 && len(l.changed) == 0 {
		return c, false
	}
	for _, id := range sortedKeys(l.alerts) {
		if t := l.alerts[id]; t != nil {
			c.Told = append(c.Told, *t)
		} else {
			c.Over = append(c.Over, id)
		}
	}
	for _, key := range sortedKeys(l.changed) {
		if g := l.changed[key]; g != nil {
			c.Groups = append(c.Groups, *g)
		} else {
			c.Closed = append(c.Closed, key)
		}
	}
	return c, true
}

// stored forgets the changes that take returned.
func (l *ledger) stored() { clear(l.alerts); clear(l.changed) }

// loadTold reads what the sink knows.
func (c *courier) loadTold(ctx context.Context) (*ledger, error) {
	told, err := c.store.Told(ctx, c.name)
	if err != nil {
		return nil, err
	}
	groups, err := c.store.SinkGroups(ctx, c.name)
	if err != nil {
		return nil, err
	}
	return newLedger(told, groups), nil
}

// placed is where an alert belongs at the sink by route: an alert stays in the group
// that it was told in.
func (c *courier) placed(r *Route, a *pipeline.Alert) (key string, by []Common) {
	if c.ledger == nil {
		return a.ID, nil
	}
	if t := c.ledger.told[a.ID]; t != nil {
		if err := json.Unmarshal([]byte(c.ledger.group(t.Group).Common), &by); err != nil {
			by = nil
		}
		return t.Group, by
	}
	return r.group(a)
}
