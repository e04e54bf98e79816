package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
)

const (
	pollEvery  = 5 * time.Second
	window     = 256 // revisions looked at together
	quickTries = 2   // failures of one alert before others are tried past it
	maxHistory = 10
)

// courier serves one sink. Its goroutine alone uses it, but for status.
//
// Alerts go in order, as many together as the sink takes. When one fails twice,
// one behind it is tried: if that is taken, the trouble is the alert, which moves
// to the retries and blocks nobody but its own later revisions; if not, the trouble
// is the sink: the circuit is open, and all wait in order, for as long as it takes.
// There is never more than one attempt at a sink at a time.
type courier struct {
	turn    // what it is configured to do; mu guards writing it
	name    string
	store   Store
	log     *zap.Logger
	metrics *metrics
	wake    chan struct{}

	cursor, saved int64 // taken care of; stored
	backlog       backlog
	head          head
	ahead         map[int64]bool       // sent though behind the head
	pending       map[string][]int64   // retries by alert, in order
	barrier       int64                // the oldest that waits, 0 none
	since         map[string]time.Time // alerts that wait
	replaced      map[int64]bool       // by later revisions
	ledger        *ledger              // of a sink for people whose messages depend on those before; else nil
	ready         []Row                // that are being sent, from the first open one
	alone         int                  // so many to come are sent one by one
	down          bool                 // nothing gets through
	disabled      bool
	pausedUntil   time.Time // as the sink asked
	pacedUntil    time.Time
	said          string // the error that was logged last

	mu      sync.Mutex
	status  SinkStatus
	next    *turn       // to be taken on before the next attempt; nil none
	retired atomic.Bool // it is to end
}

// head is the oldest alert that is not taken.
type head struct {
	seq      int64
	attempts int
	probes   int // others tried since it fails
	next     time.Time
	history  []attempt
}

// attempt is one failed try, for the dead letter.
type attempt struct {
	Time  time.Time `json:"time"`
	Error string    `json:"error"`
}

// result is what became of one try.
type result int

const (
	taken result = iota
	failed
	rejected // a retry cannot help
	gone
	cancelled
)

func (c *courier) run(ctx context.Context) {
	started := false
	for ctx.Err() == nil && !c.retired.Load() {
		var wait time.Duration
		err := c.adopt(ctx)
		switch {
		case err != nil:
		case !started:
			err = c.start(ctx)
			started = err == nil
		default:
			wait, err = c.step(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.complain(fmt.Errorf("read or write delivery state: %w", err))
			wait = 5 * time.Second
		}
		if wait <= 0 {
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-c.wake:
		}
		t.Stop()
	}
	if c.cursor != c.saved { // skipped ones; sent ones are saved at once
		_ = c.save(ctx)
	}
	c.unused()
	if closer, ok := c.sink.(io.Closer); ok {
		_ = closer.Close() // what was sent is taken
	}
}

// start finds where the sink is; a new one begins at the end, durably.
func (c *courier) start(ctx context.Context) error {
	seq, known, err := c.store.SinkCursor(ctx, c.name)
	if err != nil {
		return err
	}
	if !known {
		if seq, err = c.store.LastAlert(ctx); err != nil {
			return err
		}
		if err := c.store.SetSinkCursor(ctx, c.name, seq); err != nil {
			return err
		}
	}
	c.cursor, c.saved = seq, seq
	return c.loadRetries(ctx)
}

// save stores the cursor, even while ctx ends: what was sent is not sent again.
func (c *courier) save(ctx context.Context) error {
	if c.ledger != nil {
		if change, ok := c.ledger.take(); ok {
			change.Cursor = c.cursor
			if err := c.store.SaveTold(context.WithoutCancel(ctx), c.name, change); err != nil {
				return err
			}
			c.ledger.stored()
			c.saved = c.cursor
		}
	}
	if c.cursor == c.saved {
		return nil
	}
	if err := c.store.SetSinkCursor(context.WithoutCancel(ctx), c.name, c.cursor); err != nil {
		return err
	}
	c.saved = c.cursor
	return nil
}

// step does what can be done now and returns how long there is nothing to do.
func (c *courier) step(ctx context.Context) (time.Duration, error) {
	if err := c.save(ctx); err != nil {
		return 0, err
	}
	last, err := c.store.LastAlert(ctx)
	if err != nil {
		return 0, err
	}
	c.lag(last)
	if c.disabled {
		return pollEvery, nil
	}
	if w := max(time.Until(c.pausedUntil), time.Until(c.pacedUntil)); w > 0 {
		return min(w, pollEvery), nil
	}
	if w := time.Until(c.head.next); c.down && w > 0 {
		return min(w, pollEvery), nil
	}
	if !c.down {
		if err := c.retries(ctx); err != nil {
			return 0, err
		}
		if err := c.repeats(ctx); err != nil {
			return 0, err
		}
	}
	rows, err := c.store.AlertsAfter(ctx, c.cursor, window)
	if err != nil {
		return 0, err
	}
	ready, next := c.group(rows)
	for i := 0; i < len(ready) && ctx.Err() == nil && !c.halted(); {
		c.ready = ready[i:]
		n, err := c.some(ctx, ready[i:])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			break
		}
		i += n
	}
	if err := c.save(ctx); err != nil {
		return 0, err
	}
	c.lag(max(last, c.cursor))
	if len(rows) == window && c.cursor == rows[len(rows)-1].Seq {
		return 0, nil // there may be more
	}
	if w := time.Until(c.head.next); w > 0 {
		return min(w, pollEvery), nil
	}
	if w := time.Until(c.pacedUntil); w > 0 {
		return min(w, pollEvery), nil
	}
	if w := time.Until(next); w > 0 {
		return min(w, pollEvery), nil
	}
	return pollEvery, nil
}

// halted reports whether nothing may be sent now.
func (c *courier) halted() bool {
	return c.disabled || c.retired.Load() || c.handed() || time.Until(c.pausedUntil) > 0 || time.Until(c.pacedUntil) > 0
}

// row takes care of rows[0], the oldest open one; false when it has to wait.
func (c *courier) row(ctx context.Context, rows []Row) (passed bool, err error) {
	row := &rows[0]
	if row.Seq <= c.cursor {
		return true, nil // told of with one before it
	}
	if c.skip(row) {
		if !c.behind(row.Seq) {
			c.skipped(row)
			c.cursor = row.Seq
		}
		return true, nil
	}
	if c.ahead[row.Seq] {
		if c.behind(row.Seq) {
			return true, nil
		}
		delete(c.ahead, row.Seq)
		c.cursor = row.Seq
		return true, c.save(ctx)
	}
	if len(c.pending[row.Alert.ID]) > 0 {
		if err := c.park(ctx, row); err != nil {
			return false, err
		}
		return true, c.pass(ctx, row.Seq)
	}
	if c.head.seq != row.Seq {
		c.head = head{seq: row.Seq}
	}
	if h := &c.head; time.Until(h.next) <= 0 {
		r, why := c.try(ctx, row, c.mates(rows))
		switch r {
		case cancelled, gone:
			return false, nil
		case taken:
			c.down = false
			return true, c.pass(ctx, row.Seq)
		case rejected:
			c.down = false
			h.note(why)
			return true, c.bury(ctx, h, why)
		}
		h.attempts++
		h.note(why)
		c.down = c.down || errors.Is(why, ErrRefused) // it is no fault of the alert
		h.next = c.later(h.attempts, why)
		if spent(h.attempts) && !c.down {
			return true, c.bury(ctx, h, why)
		}
	}
	return c.probe(ctx, rows)
}

// probe tries one alert behind the failing head, once after each failure of it,
// to learn whether the trouble is the alert or the sink.
func (c *courier) probe(ctx context.Context, rows []Row) (passed bool, err error) {
	h := &c.head
	if h.attempts < quickTries || h.probes > h.attempts-quickTries || time.Until(c.pausedUntil) > 0 {
		return false, nil
	}
	others := c.others(rows)
	if len(others) == 0 {
		return false, nil
	}
	other := others[h.probes%len(others)]
	h.probes = h.attempts - quickTries + 1
	r, why := c.try(ctx, other, nil)
	switch r {
	case cancelled, gone:
		return false, nil
	case failed:
		c.down = true
		c.state("down", why)
		if p := time.Now().Add(pauseAfter(h.attempts, true)); p.Before(h.next) {
			h.next = p
		}
		return false, nil
	case rejected:
		o := head{seq: other.Seq}
		o.note(why)
		if err := c.deadLetter(ctx, &o, why); err != nil {
			return false, err
		}
	}
	c.down = false
	c.ahead[other.Seq] = true
	save := context.WithoutCancel(ctx)
	if err := c.store.SaveRetry(save, c.name, Retry{Seq: h.seq, Attempts: h.attempts, Next: h.next}); err != nil {
		return false, err
	}
	c.pend(rows[0].Alert.ID, h.seq)
	return true, c.pass(ctx, h.seq)
}

// others lists what may be tried past rows[0]: of each alert the first revision
// that is open, so that no later one gets before it.
func (c *courier) others(rows []Row) []*Row {
	var others []*Row
	seen := map[string]bool{rows[0].Alert.ID: true}
	for i := range rows[1:] {
		r := &rows[1+i]
		if c.skip(r) || c.ahead[r.Seq] || seen[r.Alert.ID] || len(c.pending[r.Alert.ID]) > 0 {
			continue
		}
		seen[r.Alert.ID] = true
		others = append(others, r)
	}
	return others
}

// try sends one alert once, with its mates where there are any, and keeps the sink's
// status.
func (c *courier) try(ctx context.Context, row *Row, mates []*Row) (result, error) {
	var err error
	if c.ledger != nil {
		mates, err = c.tell(ctx, row, mates)
	} else {
		err = c.send(ctx, []pipeline.Alert{row.Alert})
	}
	if items, ok := errors.AsType[*ItemErrors](err); ok && len(items.Errs) == 1 {
		err = items.Errs[0]
	}
	if err == nil {
		for _, m := range mates {
			c.ahead[m.Seq] = true
		}
		c.metrics.total.WithLabelValues(c.name, "sent").Add(float64(1 + len(mates)))
		c.content()
		return taken, nil
	}
	if ctx.Err() != nil {
		return cancelled, err
	}
	c.metrics.total.WithLabelValues(c.name, "failed").Inc()
	return c.judge(err), err
}

// send makes one attempt.
func (c *courier) send(ctx context.Context, batch []pipeline.Alert) error {
	if c.pace > 0 {
		c.pacedUntil = time.Now().Add(c.pace)
	}
	if c.open != nil {
		shown := make([]pipeline.Alert, len(batch))
		for i := range batch {
			shown[i] = *c.shown(&batch[i])
		}
		batch = shown
	}
	err := c.sink.Send(ctx, batch)
	if err == nil {
		for i := range batch {
			delete(c.since, batch[i].ID) // its next revision waits anew
		}
	}
	return err
}

// judge is what err makes of an alert, and what it says of the sink.
func (c *courier) judge(err error) result {
	c.complain(err)
	switch {
	case errors.Is(err, ErrGone):
		c.disabled = true
		return gone
	case errors.Is(err, pipeline.ErrPermanent):
		return rejected
	}
	if ra, ok := errors.AsType[*RetryAfter](err); ok {
		c.pausedUntil = time.Now().Add(min(max(ra.Wait, 0), maxRetryAfter))
	}
	return failed
}

// later is when to try again after n failures.
func (c *courier) later(n int, why error) time.Time {
	if ra, ok := errors.AsType[*RetryAfter](why); ok && ra.Wait > 0 {
		return c.pausedUntil
	}
	return time.Now().Add(pauseAfter(n, c.down))
}

// pass moves the cursor behind seq.
func (c *courier) pass(ctx context.Context, seq int64) error {
	c.reach(seq)
	if c.ledger != nil {
		c.sweep(c.ready)
	}
	c.head = head{}
	c.alone = max(c.alone-1, 0)
	return c.save(ctx)
}

// bury makes the head a dead letter and moves on.
func (c *courier) bury(ctx context.Context, h *head, why error) error {
	if err := c.deadLetter(ctx, h, why); err != nil {
		return err
	}
	return c.pass(ctx, h.seq)
}

func (c *courier) deadLetter(ctx context.Context, h *head, why error) error {
	history, err := json.Marshal(append([]attempt{}, h.history...))
	if err != nil {
		return fmt.Errorf("write tries: %w", err)
	}
	if err := c.store.DeadLetter(context.WithoutCancel(ctx), c.name, h.seq, why.Error(), history); err != nil {
		return err
	}
	c.metrics.total.WithLabelValues(c.name, "dead").Inc()
	c.metrics.dead.WithLabelValues(c.name).Inc()
	return nil
}

func (h *head) note(why error) {
	if len(h.history) == maxHistory {
		h.history = append(h.history[:0], h.history[1:]...)
	}
	h.history = append(h.history, attempt{time.Now().UTC(), why.Error()})
}
