package alerts

import (
	"math/rand/v2"
	"time"
)

// schedule is how long to wait before each try of one alert, the first
// included; after the last it is a dead letter, some three days on.
func schedule() []time.Duration {
	return []time.Duration{
		0, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
		5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// outagePause is the longest wait while a sink takes nothing at all: no alert
// is given up for an outage, so it is worth looking often.
const outagePause = 30 * time.Minute

// pauseAfter is the wait after n failed tries, 20 % more or less.
func pauseAfter(n int, down bool) time.Duration {
	s := schedule()
	d := s[min(n, len(s)-1)]
	if down {
		d = min(d, outagePause)
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// spent reports whether n failed tries are all there are.
func spent(n int) bool { return n >= len(schedule()) }
