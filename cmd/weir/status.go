package main

import (
	"encoding/json"
	"sync/atomic"
	"time"

	"weir/pipeline"
)

// status is what the stages tell the outside of themselves.
type status struct {
	doing       atomic.Pointer[string] // what start or stop is at; nil in between
	reload      atomic.Pointer[reloadStatus]
	started     atomic.Int64
	appended    atomic.Int64
	detected    atomic.Int64
	eventTime   atomic.Int64
	keepFrom    atomic.Int64 // lowest position a restart needs
	principals  atomic.Int64
	profiles    atomic.Int64
	cases       atomic.Int64
	evictions   atomic.Int64
	late        atomic.Int64
	skewed      atomic.Int64
	storeBytes  atomic.Int64
	differences atomic.Int64
	copies      atomic.Int64
	shed        atomic.Int64
	lateness    atomic.Int64 // of the edition in force, in nanoseconds
	beat        atomic.Int64 // when detection last looked, in microseconds
}

// do says what weir is busy with instead of its work; "" for nothing.
func (s *status) do(what string) {
	if what == "" {
		s.doing.Store(nil)
		return
	}
	s.doing.Store(&what)
}

// startedAt is when this process began.
func (s *status) startedAt() time.Time { return time.Unix(s.started.Load(), 0) }

// lagSeconds is how far detection's event time is behind the clock.
func (s *status) lagSeconds() float64 {
	t := s.eventTime.Load()
	if t == 0 {
		return 0
	}
	return max(0, time.Since(pipeline.Time(t).Std()).Seconds())
}

// heartbeat is what weir says of itself to those who wait for a sign of life.
type heartbeat struct {
	Schema          string         `json:"schema"`
	Version         string         `json:"version"`
	Time            time.Time      `json:"time"`
	DetectedThrough *pipeline.Time `json:"detected_through"` // event time; null before the first request
	Lag             int64          `json:"lag"`              // records that wait for detection
	LookedAt        time.Time      `json:"looked_at"`        // when detection last looked for work: it stands still when that hangs
}

func (s *service) heartbeat() []byte {
	st := &s.status
	h := heartbeat{
		Schema: "weir.heartbeat/1", Version: version, Time: time.Now().UTC(),
		Lag: max(0, st.appended.Load()-st.detected.Load()), LookedAt: time.UnixMicro(st.beat.Load()).UTC(),
	}
	if t := st.eventTime.Load(); t != 0 {
		h.DetectedThrough = new(pipeline.Time(t))
	}
	body, err := json.Marshal(h)
	if err != nil {
		return []byte("{}")
	}
	return body
}
