package main

import (
	"sync/atomic"
	"time"

	"weir/pipeline"
)

// status is what the stages tell the outside of themselves.
type status struct {
	doing       atomic.Pointer[string] // what start or stop is at; nil in between
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
