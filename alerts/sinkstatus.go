package alerts

import (
	"errors"
	"time"

	"go.uber.org/zap"
)

// complain logs err when it is another than the last.
func (c *courier) complain(err error) {
	state := "failing"
	switch {
	case errors.Is(err, ErrGone):
		state = "disabled"
	case errors.Is(err, ErrRefused):
		state = "degraded"
	case c.down:
		state = "down"
	}
	c.state(state, err)
	if c.said != err.Error() {
		c.said = err.Error()
		c.log.Warn("alerts are not delivered", zap.String("state", state), zap.Error(err))
	}
}

func (c *courier) state(s string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.State, c.status.Reason = s, err.Error()
}

// content notes that the sink takes alerts.
func (c *courier) content() {
	c.mu.Lock()
	c.status.State, c.status.Reason = "ok", ""
	c.mu.Unlock()
	if c.said != "" {
		c.said = ""
		c.log.Info("alerts are delivered again")
	}
}

func (c *courier) lag(last int64) {
	n := max(last-c.cursor, 0)
	age := c.backlog.age(last, c.cursor, time.Now())
	c.metrics.lag.WithLabelValues(c.name).Set(float64(n))
	c.metrics.age.WithLabelValues(c.name).Set(age.Seconds())
	c.mu.Lock()
	c.status.Lag, c.status.Age = n, age
	c.mu.Unlock()
}

// backlog remembers when the feed reached where.
type backlog []feedMark

type feedMark struct {
	seq int64
	at  time.Time
}

// maxFeedMarks bounds a backlog: what comes later is as old as the last of them.
const maxFeedMarks = 1024

// age is how long the oldest row behind the cursor has waited, as far as it was
// seen.
func (b *backlog) age(last, cursor int64, now time.Time) time.Duration {
	list := *b
	for len(list) > 0 && list[0].seq <= cursor {
		list = list[1:]
	}
	if n := len(list); last > cursor && n < maxFeedMarks && (n == 0 || list[n-1].seq < last) {
		list = append(list, feedMark{last, now})
	}
	*b = list
	if len(list) == 0 {
		return 0
	}
	return now.Sub(list[0].at)
}
