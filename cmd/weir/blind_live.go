package main

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/detectors"
	"weir/pipeline"
)

// blindLive keeps the blind-spot report of a running weir: of the last whole day
// of events and the current one. The goroutine of detection feeds and publishes
// it; any may read what was published.
type blindLive struct {
	set       *detectors.Set
	share     func() float64 // the smallest share of the traffic that a source shows; 0 all
	now, last *blindSpots    // last is nil on the first day
	published time.Time
	at        int64 // requests of now, when published
	body      atomic.Pointer[[]byte]
	gauge     *prometheus.GaugeVec // nil without metrics
}

const (
	blindDay   = 24 * 3600 * 1e6 // of events
	blindEvery = 10 * time.Second
	// blindEnough is how many requests of a new day replace the report of the
	// last one.
	blindEnough = 1000
)

func newBlindLive(set *detectors.Set, share func() float64, gauge *prometheus.GaugeVec) *blindLive {
	return &blindLive{set: set, share: share, now: newBlindSpots(set), gauge: gauge}
}

// observe takes the next requests, in order.
func (l *blindLive) observe(batch []pipeline.Ordered) {
	if len(batch) > 0 && l.now.requests > 0 && batch[0].Effective.Sub(l.now.since).Microseconds() >= blindDay {
		l.last, l.now = l.now, newBlindSpots(l.set)
	}
	l.now.observe(batch)
}

// publish makes the report readable, now and then.
func (l *blindLive) publish(clock time.Time) error {
	if clock.Sub(l.published) < blindEvery || l.at == l.now.requests {
		return nil
	}
	l.published, l.at = clock, l.now.requests
	of := l.now
	if l.last != nil && of.requests < blindEnough {
		of = l.last
	}
	of.sampled = l.share()
	report := of.report()
	body, err := report.encode()
	if err != nil {
		return err
	}
	l.body.Store(&body)
	if l.gauge == nil {
		return nil
	}
	l.gauge.Reset()
	for _, s := range report.Data {
		if s.Endpoint == "" { // attackers name endpoints
			l.gauge.WithLabelValues(s.Detector, s.Cause, string(s.Loses)).Set(float64(s.Requests) / float64(max(s.Of, 1)))
		}
	}
	return nil
}

// blindspots is the report as published last.
func (s *service) blindspots() ([]byte, error) {
	if l := s.blind.Load(); l != nil {
		if body := l.body.Load(); body != nil {
			return *body, nil
		}
	}
	return (&blindSpots{}).report().encode()
}
