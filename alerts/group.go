package alerts

import "time"

// group returns what of rows, the whole window, may be sent now, in order, and when
// the next of those that wait may be; the zero time when none waits. Of the revisions
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
	since := map[string]time.Time{} // when the first that waits was seen, by alert
	for i := len(rows) - 1; i >= 0; i-- {
		r := &rows[i]
		id := r.Alert.ID
		wait, wanted := c.wanted(r)
		switch {
		case !wanted:
			continue
		case c.ahead[r.Seq]:
		case later[id] && wait > 0:
			c.replaced[r.Seq] = true
		case wait > 0 && len(c.pending[id]) == 0:
			waits[i], since[id] = wait, now
			if t, ok := c.since[id]; ok {
				since[id] = t
			}
		}
		later[id] = true
	}
	c.since = since
	for i := range rows {
		at := since[rows[i].Alert.ID].Add(waits[i])
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

// wanted reports whether the sink is to get r, and how long r waits for others.
func (c *courier) wanted(r *Row) (wait time.Duration, ok bool) {
	if r.Backfill || Backfill(&r.Alert) || Silent(&r.Alert) {
		return 0, false
	}
	return c.cfg.wants(c.name, &r.Alert)
}

func (c *courier) skip(r *Row) bool {
	_, wanted := c.wanted(r)
	return !wanted || c.replaced[r.Seq]
}
