package alerts

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

// GroupSink is a sink for people: it shows the alerts of a group as one thing, a
// page or a thread, and is told again of what stays open.
type GroupSink interface {
	Sink
	// SendGroup is Send for alerts of one group. It sets Thread where that is new.
	SendGroup(ctx context.Context, g *Group) error
}

// Group is what is told at once of the alerts that a route puts together.
type Group struct {
	Key    string       // the same for every message of the group
	By     []Common     // what they have in common; nil for an alert by itself
	Alerts []GroupAlert // the latest revision of each that has news, oldest first
	Open   int          // alerts of the group that are open for the sink after this
	Repeat int          // the how manieth message without news; 0 there is news
	Thread string       // where the messages of the group are, "" this is the first
}

// GroupAlert is an alert of a group.
type GroupAlert struct {
	Alert *pipeline.Alert
	Known bool // the sink was told of it
}

// Common is one thing that the alerts of a group have in common.
type Common struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// text writes what a group has in common: detector auth.stuffing, severity high.
func (g *Group) text() string {
	var b strings.Builder
	for i, c := range g.By {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Name + " " + cmp.Or(c.Value, "none"))
	}
	return b.String()
}

// news are the alerts of which people want to hear: that one they know of is still
// active is none.
func (g *Group) news() []*pipeline.Alert {
	var list []*pipeline.Alert
	for _, a := range g.Alerts {
		if g.Repeat > 0 || !a.Known || a.Alert.Status == "resolved" || a.Alert.Change.Kind != "still_active" {
			list = append(list, a.Alert)
		}
	}
	return list
}

// headline says how many of a group are open.
func (g *Group) headline() string {
	if g.Open == 0 {
		return "All over (" + g.text() + ")"
	}
	return count(int64(g.Open), "alerts") + " open (" + g.text() + ")"
}

// listed are list for people, one a line, at most n and then how many more.
func listed(list []*pipeline.Alert, n int) []string {
	var out []string
	for i, a := range list {
		if i == n {
			return append(out, "and "+thousands(int64(len(list)-n))+" more")
		}
		head := strings.ToUpper(a.Severity)
		if a.Status == "resolved" && isEnd(a) {
			head = "OVER"
		}
		out = append(out, cut(head+"  "+a.Title+" ("+a.Change.Text+")", 300))
	}
	return out
}

// oneByOne sends each alert of batch as a group of its own, of which nothing is known.
func oneByOne(ctx context.Context, s GroupSink, batch []pipeline.Alert) error {
	for i := range batch {
		a := &batch[i]
		g := &Group{Key: a.ID, Alerts: []GroupAlert{{Alert: a}}}
		if a.Status != "resolved" {
			g.Open = 1
		}
		if err := s.SendGroup(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// gravest is the first of the gravest of list, which is not empty.
func gravest(list []*pipeline.Alert) *pipeline.Alert {
	words := severities()
	return slices.MaxFunc(list, func(a, b *pipeline.Alert) int {
		return cmp.Compare(slices.Index(words[:], a.Severity), slices.Index(words[:], b.Severity))
	})
}

// maxGroup is how many alerts go into one message of a group, at most.
const maxGroup = 100

// mates are the rows behind rows[0] that go into one message with it: those of its
// group, of which none is held up. Revisions that a later one of them replaces are
// among them.
func (c *courier) mates(rows []Row) []*Row {
	row := &rows[0]
	r, _ := c.wanted(row)
	if c.ledger == nil || r == nil {
		return nil
	}
	key, by := c.placed(r, &row.Alert)
	if by == nil {
		return nil
	}
	var mates []*Row
	ids := map[string]bool{row.Alert.ID: true}
	for i := range rows[1:] {
		m := &rows[1+i]
		route, ok := c.wanted(m)
		if !ok || c.replaced[m.Seq] || c.ahead[m.Seq] || len(c.pending[m.Alert.ID]) > 0 {
			continue
		}
		if k, _ := c.placed(route, &m.Alert); k != key || !ids[m.Alert.ID] && len(ids) == maxGroup {
			continue
		}
		ids[m.Alert.ID] = true
		mates = append(mates, m)
	}
	return mates
}

// tell makes one attempt to tell of row and its mates, and returns the mates that
// were told of. Where all are refused for good, one of them may be all that is wrong:
// row is tried by itself.
func (c *courier) tell(ctx context.Context, row *Row, mates []*Row) ([]*Row, error) {
	err := c.tellOnce(ctx, row, mates)
	if len(mates) > 0 && errors.Is(err, pipeline.ErrPermanent) {
		return nil, c.tellOnce(ctx, row, nil)
	}
	if err != nil {
		return nil, err
	}
	return mates, nil
}

func (c *courier) tellOnce(ctx context.Context, row *Row, mates []*Row) error {
	route, ok := c.wanted(row)
	if !ok {
		route = &Route{} // sent by hand
	}
	key, by := c.placed(route, &row.Alert)
	g := c.newGroup(key, by)
	rows := append([]*Row{row}, mates...)
	slices.SortFunc(rows, func(x, y *Row) int { return cmp.Compare(x.Seq, y.Seq) })
	last := map[string]int{}
	for i, r := range rows {
		last[r.Alert.ID] = i
	}
	for i, r := range rows {
		if last[r.Alert.ID] == i {
			g.Alerts = append(g.Alerts, GroupAlert{c.shown(&r.Alert), c.ledger.told[r.Alert.ID] != nil})
		}
	}
	g.Open = c.ledger.openWith(key, g.Alerts)
	if err := c.sendGroup(ctx, g); err != nil {
		return err
	}
	delete(c.since, key)
	now := time.Now()
	for i, r := range rows {
		if last[r.Alert.ID] == i {
			c.noteTold(r, g, now)
		}
	}
	c.noteGroup(g)
	return nil
}

func (c *courier) newGroup(key string, by []Common) *Group {
	g := &Group{Key: key, By: by}
	if s := c.ledger.groups[key]; s != nil {
		g.Thread = s.Thread
	}
	return g
}

func (c *courier) sendGroup(ctx context.Context, g *Group) error {
	if c.pace > 0 {
		c.pacedUntil = time.Now().Add(c.pace)
	}
	return c.sink.(GroupSink).SendGroup(ctx, g)
}

// noteTold notes that the sink knows r since now.
func (c *courier) noteTold(r *Row, g *Group, now time.Time) {
	if r.Alert.Status == "resolved" {
		c.ledger.over(r.Alert.ID)
		return
	}
	t := Told{Alert: r.Alert.ID, Group: g.Key, Seq: r.Seq}
	if route, ok := c.wanted(r); ok && route.Repeat > 0 {
		t.Next = now.Add(time.Duration(route.Repeat))
	}
	c.ledger.tell(t)
}

func (c *courier) noteGroup(g *Group) {
	common, err := json.Marshal(g.By)
	if g.By == nil || err != nil {
		common = nil
	}
	if common != nil || g.Thread != "" {
		c.ledger.keep(g.Key, string(common), g.Thread)
	}
}

// repeats tells again of what stays open without news, by groups.
func (c *courier) repeats(ctx context.Context) error {
	l := c.ledger
	if l == nil || l.due.IsZero() || time.Until(l.due) > 0 {
		return nil
	}
	now := time.Now()
	l.due = time.Time{}
	due := map[string][]string{} // by group
	for id, t := range l.told {
		if !t.Next.IsZero() && !t.Next.After(now) {
			due[t.Group] = append(due[t.Group], id)
			continue
		}
		l.wakeAt(t.Next)
	}
	for _, key := range sortedKeys(due) {
		if ctx.Err() != nil || c.halted() {
			l.wakeAt(now) // the rest as soon as may be
			return nil
		}
		ids := due[key]
		slices.Sort(ids)
		for from := 0; from < len(ids); from += maxGroup {
			if err := c.repeat(ctx, key, ids[from:min(from+maxGroup, len(ids))]); err != nil {
				return err
			}
		}
	}
	return c.save(ctx)
}

// repeat tells again of alerts of one group, as they stand.
func (c *courier) repeat(ctx context.Context, key string, ids []string) error {
	l := c.ledger
	g := c.newGroup(key, nil)
	var rows []*Row
	var every []time.Duration
	for _, id := range ids {
		row, ok, err := c.store.LatestAlert(ctx, id)
		if err != nil {
			return err
		}
		t := l.told[id]
		route, wanted, err := c.toldBy(ctx, t)
		if err != nil {
			return err
		}
		switch {
		case !ok:
			l.over(id) // no longer stored
		case forgotten(&row.Alert, t, route, wanted):
			l.over(id)
		case !wanted || route.Repeat == 0:
			next := *t
			next.Next = time.Time{}
			l.tell(next)
		case row.Seq > c.cursor && row.Seq != t.Seq, row.Alert.Status == "resolved", len(c.pending[id]) > 0, Silent(&row.Alert):
			c.again(id, time.Now().Add(time.Duration(route.Repeat))) // its news is on the way, or it is suppressed
		default:
			_, g.By = c.placed(route, &row.Alert)
			g.Repeat = max(g.Repeat, t.Repeats+1)
			g.Alerts = append(g.Alerts, GroupAlert{c.shown(&row.Alert), true})
			rows, every = append(rows, &row), append(every, time.Duration(route.Repeat))
		}
	}
	if len(rows) == 0 {
		return nil
	}
	g.Open = l.openWith(key, g.Alerts)
	if err := c.sendGroup(ctx, g); err != nil {
		if ctx.Err() == nil {
			c.metrics.total.WithLabelValues(c.name, "failed").Inc()
			c.judge(err)
		}
		at := time.Now().Add(pauseAfter(3, false))
		for _, r := range rows {
			c.again(r.Alert.ID, at)
		}
		return nil
	}
	c.metrics.total.WithLabelValues(c.name, "repeated").Inc()
	c.content()
	now := time.Now()
	for i, r := range rows {
		t := Told{Alert: r.Alert.ID, Group: g.Key, Seq: l.told[r.Alert.ID].Seq, Repeats: l.told[r.Alert.ID].Repeats + 1}
		t.Next = now.Add(every[i])
		l.tell(t)
	}
	c.noteGroup(g)
	return nil
}

// toldBy is the route by which the sink was told of an alert, as routes are now: what
// the alert is by now need not be for the sink.
func (c *courier) toldBy(ctx context.Context, t *Told) (via *Route, ok bool, err error) {
	rows, err := c.store.AlertsAfter(ctx, t.Seq-1, 1)
	if err != nil || len(rows) == 0 || rows[0].Seq != t.Seq {
		return nil, false, err
	}
	via, ok = c.wanted(&rows[0])
	return via, ok, nil
}

// forgotten reports whether nobody will end a, of which nothing was heard for longer than
// any incident stays open without news: detection began anew in between.
func forgotten(a *pipeline.Alert, t *Told, route *Route, wanted bool) bool {
	const most = maxQuiet + day
	return wanted && time.Duration(t.Repeats)*time.Duration(route.Repeat) > most && pipeline.TimeOf(time.Now()).Sub(a.Window.Last) > most
}

// again has an alert that is open looked at again then.
func (c *courier) again(id string, then time.Time) {
	t := *c.ledger.told[id]
	t.Next = then
	c.ledger.tell(t)
}
