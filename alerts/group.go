package alerts

import "time"

// group returns what of rows, the whole window, may be sent now, in order, and when
// the next of those that wait may be; the zero time when none waits. Those of a group
// wait from its first on. Of the revisions
// of one alert that wait, all but the latest are replaced. What is behind one that
// waits need not wait with it: it is sent, and the cursor stays before the barrier.
// A full window is a backlog: nothing of it waits any longer.
func (c *courier) group(rows []Row) (ready []Row, next time.Time) {
	c.barrier = 0
	if !c.waits {
		return rows, next
	}
	clear(c.replaced)
	waits := make([]time.Duration, len(rows)) // 0 is ready
	later := map[string]bool{}                // alerts with a revision further on, whatever became of it
	now := time.Now()
	since := map[string]time.Time{} // when the first that waits was seen, by group
	keys := make([]string, len(rows))
	for i := len(rows) - 1; i >= 0; i-- {
		r := &rows[i]
		id := r.Alert.ID
		route, wanted := c.wanted(r)
		if !wanted {
			continue
		}
		wait := time.Duration(route.GroupWait)
		key, _ := c.placed(route, &r.Alert)
		keys[i] = key
		switch {
		case c.ahead[r.Seq]:
		case later[id] && wait > 0:
			c.replaced[r.Seq] = true
		case wait > 0 && len(c.pending[id]) == 0:
			waits[i], since[key] = wait, now
			if t, ok := c.since[key]; ok {
				since[key] = t
			}
		}
		later[id] = true
	}
	c.since = since
	for i := range rows {
		at := since[keys[i]].Add(waits[i])
		if waits[i] == 0 || len(rows) == window || !at.After(now) {
			ready = append(ready, rows[i])
			continue
		}
		if c.barrier == 0 {
			c.barrier = rows[i].Seq
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return ready, next
}

// reach moves the cursor to seq, which is taken care of; behind the barrier that is
// noted beside the cursor.
func (c *courier) reach(seq int64) {
	if c.behind(seq) {
		c.ahead[seq] = true
		return
	}
	c.cursor = seq
}

// behind reports whether something older than seq waits.
func (c *courier) behind(seq int64) bool { return c.barrier > 0 && seq > c.barrier }

// wanted returns the route that brings r to the sink, if one does.
func (c *courier) wanted(r *Row) (via *Route, ok bool) {
	if r.Backfill || Backfill(&r.Alert) || Silent(&r.Alert) {
		return nil, false
	}
	return c.cfg.wants(c.name, &r.Alert)
}

func (c *courier) skip(r *Row) bool {
	_, wanted := c.wanted(r)
	return !wanted || c.replaced[r.Seq]
}

// skipped notes that r was passed over.
func (c *courier) skipped(r *Row) {
	c.metrics.total.WithLabelValues(c.name, "skipped").Inc()
	if c.ledger != nil && r.Alert.Status == "resolved" && !c.replaced[r.Seq] {
		c.ledger.over(r.Alert.ID) // the sink is not told of ends
	}
}

// sweep moves the cursor on over what follows it in rows and needs no more doing.
func (c *courier) sweep(rows []Row) {
	for i := range rows {
		r := &rows[i]
		switch {
		case r.Seq <= c.cursor:
		case c.behind(r.Seq):
			return
		case c.ahead[r.Seq]:
			delete(c.ahead, r.Seq)
			c.cursor = r.Seq
		case c.skip(r):
			c.skipped(r)
			c.cursor = r.Seq
		default:
			return
		}
	}
}
