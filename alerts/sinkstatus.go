package alerts

import (
	"errors"

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
	c.metrics.lag.WithLabelValues(c.name).Set(float64(n))
	c.mu.Lock()
	c.status.Lag = n
	c.mu.Unlock()
}
