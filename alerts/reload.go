package alerts

import (
	"context"
	"io"
	"time"
)

// turn is what of a courier comes from the configuration.
type turn struct {
	sink  Sink
	batch int           // alerts in one attempt, at most
	pace  time.Duration // between the beginnings of attempts, at least
	cfg   *Config
	waits bool                                      // some route lets revisions wait; see group
	open  func(token string) (name string, ok bool) // names, where the sink is shown them
}

// Reload has the sinks and routes of c, which has passed Validate, take the place of
// those at work: an attempt on its way ends by the old ones, and what waits, is to be
// tried again or is known to a sink stays. A sink that is named no more gets nothing
// from then on; named again, it goes on where it was. Every sink is opened and before
// called first; when that fails, nothing changes and the error says why. One goroutine
// calls it at a time.
func (d *Deliverer) Reload(c Config, before func() error) error {
	sinks, err := d.open(&c)
	if err != nil {
		return err
	}
	if err := before(); err != nil {
		closeSinks(sinks)
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range sortedKeys(d.couriers) {
		if _, ok := sinks[name]; !ok {
			d.couriers[name].retire()
			delete(d.couriers, name)
			d.metrics.lag.DeleteLabelValues(name)
			d.metrics.age.DeleteLabelValues(name)
		}
	}
	running := d.ctx != nil && !d.ended
	for _, name := range sortedKeys(sinks) {
		t := d.turn(&c, name, sinks[name])
		if old := d.couriers[name]; old != nil {
			old.hand(t)
			continue
		}
		n := d.courier(name, t)
		d.couriers[name] = n
		if running {
			d.start(n)
		}
	}
	if running {
		d.beat()
	}
	return nil
}

// rouse has the courier look for work.
func (c *courier) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// hand gives the courier t for its next attempt. Any goroutine may call it.
func (c *courier) hand(t *turn) {
	c.unused()
	c.mu.Lock()
	c.next = t
	c.mu.Unlock()
	c.rouse()
}

// unused closes a sink that was handed and never used.
func (c *courier) unused() {
	c.mu.Lock()
	t := c.next
	c.next = nil
	c.mu.Unlock()
	if t == nil {
		return
	}
	if closer, ok := t.sink.(io.Closer); ok {
		_ = closer.Close()
	}
}

// retire ends the courier after the attempt at hand. Any goroutine may call it.
func (c *courier) retire() {
	c.retired.Store(true)
	c.rouse()
}

// sinkNow is the sink that the courier has, or is about to have.
func (c *courier) sinkNow() Sink {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		return c.next.sink
	}
	return c.sink
}

// handed reports whether there is something to be taken on.
func (c *courier) handed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next != nil
}

// adopt takes what was handed, between attempts: what stood in the way of the old
// sink need not stand in the way of this one.
func (c *courier) adopt(ctx context.Context) error {
	if !c.handed() {
		return nil
	}
	// What the sink knows is read for any: another may be handed meanwhile.
	ledger := c.ledger
	if ledger == nil {
		var err error
		if ledger, err = c.loadTold(ctx); err != nil {
			return err
		}
	}
	c.mu.Lock()
	t := c.next
	c.next = nil
	c.mu.Unlock()
	if t == nil {
		return nil
	}
	if c.ledger = ledger; !isForPeople(t.sink) {
		c.ledger = nil
	}
	if closer, ok := c.sink.(io.Closer); ok {
		_ = closer.Close() // what was sent is taken
	}
	c.mu.Lock()
	c.turn = *t
	c.mu.Unlock()
	c.disabled, c.down = false, false
	c.pausedUntil, c.pacedUntil, c.head.next = time.Time{}, time.Time{}, time.Time{}
	clear(c.replaced)
	return nil
}

func isForPeople(s Sink) bool {
	_, ok := s.(GroupSink)
	return ok
}
