package alerts

import (
	"context"
	"errors"
	"slices"
	"time"

	"weir/pipeline"
)

// some takes care of the oldest open rows, as many as go together, and returns
// how many; 0 when they have to wait.
func (c *courier) some(ctx context.Context, rows []Row) (int, error) {
	if n, at := c.gather(rows); len(at) > 1 {
		return c.together(ctx, rows[:n], at)
	}
	passed, err := c.row(ctx, rows)
	if !passed || err != nil {
		return 0, err
	}
	return 1, nil
}

// gather returns how many of rows can be dealt with together, and the places of
// those that are to be sent. A batch has one revision of an alert: part of a batch
// may fail, and a later revision must not get before an earlier one.
func (c *courier) gather(rows []Row) (n int, at []int) {
	if c.batch < 2 || c.down || c.alone > 0 {
		return 0, nil
	}
	seen := map[string]bool{}
	for i := range rows {
		r := &rows[i]
		if c.skip(r) || c.ahead[r.Seq] {
			continue
		}
		if r.Seq == c.head.seq && c.head.attempts > 0 || len(at) == c.batch || seen[r.Alert.ID] || len(c.pending[r.Alert.ID]) > 0 {
			return i, at
		}
		seen[r.Alert.ID] = true
		at = append(at, i)
	}
	return len(rows), at
}

// together sends the rows at the places at in one attempt.
func (c *courier) together(ctx context.Context, rows []Row, at []int) (int, error) {
	send := make([]pipeline.Alert, len(at))
	for i, p := range at {
		send[i] = rows[p].Alert
	}
	err := c.send(ctx, send)
	if err != nil && ctx.Err() != nil {
		return 0, nil
	}
	errs := make([]error, len(at))
	if items, ok := errors.AsType[*ItemErrors](err); ok && len(items.Errs) == len(at) {
		errs, err = items.Errs, nil
	}
	if err == nil && !slices.ContainsFunc(errs, func(e error) bool { return e == nil || errors.Is(e, pipeline.ErrPermanent) }) {
		err = errs[0] // nothing got through: the trouble is the sink
	}
	if err != nil {
		return c.failedTogether(ctx, rows, at, err)
	}
	if err := c.sort(ctx, rows, at, errs); err != nil {
		return 0, err
	}
	for _, p := range at {
		c.reach(rows[p].Seq)
	}
	skipped := 0
	for i := range rows {
		if c.behind(rows[i].Seq) {
			break
		}
		if c.skip(&rows[i]) {
			skipped++
		}
		delete(c.ahead, rows[i].Seq)
		c.cursor = rows[i].Seq
	}
	c.metrics.total.WithLabelValues(c.name, "skipped").Add(float64(skipped))
	c.head = head{}
	return len(rows), c.save(ctx)
}

// failedTogether deals with an attempt that failed as a whole. If a retry cannot
// help, each alert is sent alone: one of them may be all that is wrong.
func (c *courier) failedTogether(ctx context.Context, rows []Row, at []int, err error) (int, error) {
	c.metrics.total.WithLabelValues(c.name, "failed").Add(float64(len(at)))
	switch c.judge(err) {
	case rejected:
		c.alone = len(rows)
		return c.some(ctx, rows)
	case failed:
		c.head = head{seq: rows[at[0]].Seq, attempts: 1}
		c.head.note(err)
		c.head.next = c.later(1, err)
	}
	return 0, nil
}

// sort does with each alert of an attempt what its error says.
func (c *courier) sort(ctx context.Context, rows []Row, at []int, errs []error) error {
	sent := 0
	for i, why := range errs {
		row := &rows[at[i]]
		if why == nil {
			sent++
			continue
		}
		c.metrics.total.WithLabelValues(c.name, "failed").Inc()
		h := head{seq: row.Seq, attempts: 1}
		h.note(why)
		if c.judge(why) == rejected {
			if err := c.deadLetter(ctx, &h, why); err != nil {
				return err
			}
			continue
		}
		r := Retry{Seq: row.Seq, Attempts: 1, Next: c.later(1, why)}
		if err := c.store.SaveRetry(context.WithoutCancel(ctx), c.name, r); err != nil {
			return err
		}
		c.pend(row.Alert.ID, row.Seq)
	}
	c.metrics.total.WithLabelValues(c.name, "sent").Add(float64(sent))
	if sent == len(errs) {
		c.content()
	}
	return nil
}

// What waits behind an earlier revision of its alert is not due on its own.
const parkedFor = 100 * 365 * 24 * time.Hour

// maxRetries bounds the retries of a sink that are known by their alerts.
const maxRetries = 1 << 20

// loadRetries learns which alerts have retries. The first of each is due: a crash
// may have come before it was told so.
func (c *courier) loadRetries(ctx context.Context) error {
	all, err := c.store.DueRetries(ctx, c.name, time.Now().Add(2*parkedFor), maxRetries)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b Retry) int { return int(min(max(a.Seq-b.Seq, -1), 1)) })
	clear(c.pending)
	soon := time.Now().Add(maxRetryAfter * 2)
	for _, r := range all {
		rows, err := c.store.AlertsAfter(ctx, r.Seq-1, 1)
		if err != nil {
			return err
		}
		if len(rows) == 0 || rows[0].Seq != r.Seq {
			continue
		}
		if id := rows[0].Alert.ID; c.pend(id, r.Seq) == 1 && r.Next.After(soon) {
			if err := c.store.SaveRetry(ctx, c.name, Retry{Seq: r.Seq, Attempts: r.Attempts, Next: time.Now()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// pend notes a retry and returns how many its alert has.
func (c *courier) pend(id string, seq int64) int {
	if list := c.pending[id]; !slices.Contains(list, seq) {
		c.pending[id] = append(list, seq)
		slices.Sort(c.pending[id])
	}
	return len(c.pending[id])
}

// park puts a revision among the retries of its alert, of which there are some: behind
// them, or before them when a crash made it come after them.
func (c *courier) park(ctx context.Context, row *Row) error {
	list := c.pending[row.Alert.ID]
	if slices.Contains(list, row.Seq) {
		return nil
	}
	next := time.Now()
	if row.Seq > list[0] {
		next = next.Add(parkedFor)
	}
	if err := c.store.SaveRetry(context.WithoutCancel(ctx), c.name, Retry{Seq: row.Seq, Next: next}); err != nil {
		return err
	}
	c.pend(row.Alert.ID, row.Seq)
	return nil
}

// alertOf is the alert whose retry is at seq, "" when it is not known.
func (c *courier) alertOf(seq int64) string {
	for id, list := range c.pending {
		if slices.Contains(list, seq) {
			return id
		}
	}
	return ""
}

// settled forgets a retry that is over; what was parked behind it is due.
func (c *courier) settled(ctx context.Context, id string, seq int64) error {
	list := slices.DeleteFunc(c.pending[id], func(s int64) bool { return s == seq })
	if len(list) == 0 {
		delete(c.pending, id)
		return nil
	}
	c.pending[id] = list
	return c.store.SaveRetry(ctx, c.name, Retry{Seq: list[0], Next: time.Now()})
}

// retries tries the alerts that failed apart from the others.
func (c *courier) retries(ctx context.Context) error {
	due, err := c.store.DueRetries(ctx, c.name, time.Now(), window)
	if err != nil {
		return err
	}
	for _, r := range due {
		if ctx.Err() != nil || c.halted() {
			return nil
		}
		rows, err := c.store.AlertsAfter(ctx, r.Seq-1, 1)
		if err != nil {
			return err
		}
		h := head{seq: r.Seq, attempts: r.Attempts}
		if len(rows) == 0 || rows[0].Seq != r.Seq {
			if err := c.deadLetter(ctx, &h, errors.New("alert is no longer stored")); err != nil {
				return err
			}
			if err := c.settled(context.WithoutCancel(ctx), c.alertOf(r.Seq), r.Seq); err != nil {
				return err
			}
			continue
		}
		if ended, err := c.retry(ctx, &rows[0], &h); err != nil || ended {
			return err
		}
	}
	return nil
}

// retry tries one alert again; ended is true when nothing else is to be tried now.
func (c *courier) retry(ctx context.Context, row *Row, h *head) (ended bool, err error) {
	id := row.Alert.ID
	if c.pend(id, row.Seq); c.pending[id][0] != row.Seq {
		// Sent again by hand while an earlier revision waits: behind it.
		return false, c.store.SaveRetry(ctx, c.name, Retry{Seq: row.Seq, Attempts: h.attempts, Next: time.Now().Add(parkedFor)})
	}
	res, why := c.try(ctx, row, nil)
	save := context.WithoutCancel(ctx)
	switch res {
	case cancelled, gone:
		return true, nil
	case taken:
		if err := c.store.DropRetry(save, c.name, row.Seq); err != nil {
			return false, err
		}
		return false, c.settled(save, id, row.Seq)
	case failed:
		h.attempts++
		h.note(why)
		if !spent(h.attempts) {
			return false, c.store.SaveRetry(save, c.name, Retry{Seq: row.Seq, Attempts: h.attempts, Next: c.later(h.attempts, why)})
		}
	case rejected:
		h.note(why)
	}
	if err := c.deadLetter(ctx, h, why); err != nil {
		return false, err
	}
	return false, c.settled(save, id, row.Seq)
}
