package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/storage"
)

// weir tells when it goes blind: a source that is silent for longer than it ever
// was, lines that are rejected more than usual, detection that falls behind,
// what was lost. These follow from the clock, so they enter the log as control
// records: a replay raises the same alerts. Each is told again while it lasts and
// resolves by itself.

// controlHealth is the kind of a control record that holds a finding.
const controlHealth = "health"

const (
	healthEvery  = 2 * time.Second
	rhythmEvery  = 10 * time.Minute
	toldAgain    = 10 * time.Minute
	silentAtBest = 3 * time.Minute  // however regular a source is
	rhythmSpan   = 10 * time.Minute // of event time, before a source has a rhythm
	rhythmActive = 5                // minutes with requests in it
	rejectWindow = 3                // minutes
	rejectLines  = 10               // in it
	rejectShare  = 0.05
	lagTooLong   = time.Minute
)

// pulse is what collect tells of a source; any goroutine may use it.
type pulse struct {
	heard    atomic.Int64 // when its last line came, in microseconds
	event    atomic.Int64 // time of its last request; 0 none
	lines    atomic.Int64
	rejected atomic.Int64
	sample   atomic.Pointer[string]
	told     toldCounts
	minutes  *sourceMinutes              // nil where the store knows; set before use
	trusted  func(pipeline.Address) bool // tells proxies; nil none; set before use
}

// hear takes a block that was stored.
func (p *pulse) hear(b *pipeline.Block, now time.Time) {
	if b.Rejects.Lines == 0 {
		return
	}
	p.heard.Store(now.UnixMicro())
	p.lines.Add(b.Rejects.Lines)
	if p.minutes != nil {
		p.minutes.add(b, now)
	}
	if n := len(b.Requests); n > 0 {
		p.event.Store(int64(b.Requests[n-1].Time))
		p.told.add(b.Requests, p.trusted)
	}
	for _, n := range b.Rejects.Reason {
		p.rejected.Add(n)
	}
	if len(b.Rejects.Sample) > 0 {
		s := b.Rejects.Sample[0]
		text := s.Reason + ": " + s.Text
		p.sample.Store(&text)
	}
}

// watched is a source as the monitor sees it. The monitor's goroutine uses it.
type watched struct {
	name    string
	path    string // as its machine knows it; "" is name
	kind    string // file, push, otlp, syslog, kafka, capture
	pulse   *pulse
	lost    func() int64 // what the source knows to be lost, ever; nil nothing
	rhythm  storage.Rhythm
	started time.Time

	minutes []rejectMinute // the last ones, rejectWindow+1 at most
	usual   float64        // share of rejected lines
	bad     int            // minutes in a row with too many
	minute  time.Time
	knows   int64 // of lost, when last told

	fields      [toldFields]fieldWatch
	gone        [toldFields]bool
	fieldMinute time.Time
}

type rejectMinute struct{ lines, rejected int64 } // ever, at its end

// monitor decides what is wrong. look is a function of what it is given: tests
// need no clock.
type monitor struct {
	sources []*watched
	told    map[string]time.Time // by detector and source
	shed    int64
	backlog []mark // where the log ended, and when
}

// mark is a moment of the log.
type mark struct {
	at       time.Time
	position int64
}

// progressOf is how far the stages are.
type progressOf struct {
	appended, detected int64
	event              pipeline.Time // that detection has reached
	started            time.Time
	shed               int64 // stored requests given up, ever
}

// look returns the findings of this moment; how they are timed is detect's.
func (m *monitor) look(now time.Time, p progressOf) (list []pipeline.Finding) {
	for _, w := range m.sources {
		if f, ok := w.silent(now); ok {
			list = m.tell(list, now, f)
		}
		if f, ok := w.rejects(now); ok {
			list = m.tell(list, now, f)
		}
		if f, ok := w.loses(); ok {
			list = m.tell(list, now, f)
		}
		for _, f := range w.goneFields(now) {
			list = m.tell(list, now, f)
		}
	}
	if f, ok := m.lag(now, p); ok {
		list = m.tell(list, now, f)
	}
	if p.shed > m.shed {
		f := healthFinding("health.loss", "weir's store", "The disk was full: stored requests were given up",
			fmt.Sprintf("%d stored requests made room for new ones. Detection and alerts went on; searches and replays do not find them.", p.shed-m.shed),
			"lost", float64(p.shed-m.shed), 0, "Give the store's disk room, or lower store.max_bytes and store.retention")
		f.BenignIf, f.WouldNotFireIf = []string{}, "the disk of the store had room"
		m.shed = p.shed
		list = m.tell(list, now, f)
	}
	return list
}

// tell appends f unless it was told just now.
func (m *monitor) tell(list []pipeline.Finding, now time.Time, f pipeline.Finding) []pipeline.Finding {
	key := f.Detector + "\x00" + f.Who.Value
	if last, ok := m.told[key]; ok && now.Sub(last) < toldAgain {
		return list
	}
	m.told[key] = now
	return append(list, f)
}

// silence is how long the source may be silent, by its own pauses of the last
// week; ok is false while they are not known.
func (w *watched) silence() (limit time.Duration, ok bool) {
	if w.rhythm.Minutes < rhythmActive || w.rhythm.Span < rhythmSpan {
		return 0, false
	}
	return max(silentAtBest, 2*w.rhythm.Gap+time.Minute), true
}

func (w *watched) silent(now time.Time) (f pipeline.Finding, ok bool) {
	limit, ok := w.silence()
	if !ok {
		return f, false
	}
	heard, event := w.started, w.rhythm.Last.Std()
	if us := w.pulse.heard.Load(); us != 0 {
		heard = time.UnixMicro(us)
	}
	if e := w.pulse.event.Load(); e != 0 {
		event = pipeline.Time(e).Std()
	}
	// Only of a log that was live: one that holds last year's has no now.
	if heard.Sub(event) > max(liveWithin, limit) {
		return f, false
	}
	quiet := now.Sub(heard)
	if quiet < limit {
		return f, false
	}
	fix := map[string]string{
		"file":    "Is the server up, does it still write to this path, may weir read it? ls -l " + cmp.Or(w.path, w.name),
		"push":    "Is the sender up, does it reach weir, what is it answered? See weir_push_answers_total",
		"otlp":    "Is the exporter up, does it reach weir, what is it answered? See weir_push_answers_total and weir_otlp_skipped_spans_total",
		"kafka":   "Is the producer up, are the brokers, does another member of the group read the partition? The log says what is assigned to weir",
		"syslog":  "Is the sender up, does it reach weir, does a firewall stand between?",
		"capture": "Does the interface still carry the traffic, does the mirror still send? See weir_capture_packets_total and weir_capture_connections_total",
	}[w.kind]
	f = healthFinding("health.source_silent", w.name, "No line from "+w.name+" for "+span(quiet),
		fmt.Sprintf("The last line came %s ago. In the last week the source was never silent for more than %s. What happens there now is not seen.", span(quiet), span(w.rhythm.Gap)),
		"silent_seconds", quiet.Seconds(), w.rhythm.Gap.Seconds(), fix)
	f.BenignIf = []string{"a service that was switched off", "a longer pause than ever before, such as a holiday"}
	f.WouldNotFireIf = "a line had come within " + span(limit)
	return f, true
}

func (w *watched) rejects(now time.Time) (f pipeline.Finding, ok bool) {
	if now.Sub(w.minute) >= time.Minute {
		w.minute = now
		w.minutes = append(w.minutes, rejectMinute{w.pulse.lines.Load(), w.pulse.rejected.Load()})
		if len(w.minutes) > rejectWindow+1 {
			w.minutes = w.minutes[1:]
		}
		first, last := w.minutes[0], w.minutes[len(w.minutes)-1]
		lines, bad := last.lines-first.lines, last.rejected-first.rejected
		share := float64(bad) / float64(max(lines, 1))
		switch {
		case bad >= rejectLines && share >= max(rejectShare, 3*w.usual+0.02):
			w.bad++
		default:
			w.bad = 0
			if lines > 0 {
				w.usual += (share - w.usual) / 60
			}
		}
	}
	if w.bad < 2 {
		return f, false
	}
	first, last := w.minutes[0], w.minutes[len(w.minutes)-1]
	lines, bad := last.lines-first.lines, last.rejected-first.rejected
	share := float64(bad) / float64(max(lines, 1))
	sample := ""
	if s := w.pulse.sample.Load(); s != nil {
		sample = " One of them: " + *s
	}
	f = healthFinding("health.rejects", w.name, fmt.Sprintf("%.0f %% of the lines of %s are not read", 100*share, w.name),
		fmt.Sprintf("%d of the last %d lines are no requests in the format that weir reads the source with; usually %.1f %% are. What they say is not seen.%s", bad, lines, 100*w.usual, sample),
		"rejected_share", share, w.usual,
		"Has the server's log format changed? Give the new one as log_format or format of the source; weir explain 'LINE' shows how a line is read")
	f.BenignIf = []string{"another program that writes into the same log"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %.0f %% of its lines were rejected", 100*max(rejectShare, 3*w.usual+0.02))
	return f, true
}

// loses tells of what the source knows to be lost since it was last told.
func (w *watched) loses() (f pipeline.Finding, ok bool) {
	if w.lost == nil {
		return f, false
	}
	n := w.lost()
	if n <= w.knows {
		return f, false
	}
	title, reason, fix := "Messages to "+w.name+" were lost",
		fmt.Sprintf("%d datagrams found no room because the stages behind were full.", n-w.knows),
		"Send by tcp:// or push, which wait; look at the disk and at weir_detect_lag_records"
	if w.kind == "file" {
		title, reason = "The rest of a rotated log is lost: "+w.name,
			"The file that was being read was gone before its end was read, and no rotated copy is beside it."
		fix = "Keep a rotated file beside the log, uncompressed: rotate 2 and delaycompress in logrotate"
	}
	if w.kind == "capture" {
		title, reason = "Packets of "+w.name+" were lost",
			fmt.Sprintf("The kernel dropped %d packets because weir did not read them in time: the requests in them are not seen, or in part.", n-w.knows)
		fix = "Raise buffer or workers of the capture, or filter for the servers' ports; look at weir_detect_lag_records"
	}
	f = healthFinding("health.loss", w.name, title, reason, "lost", float64(n-w.knows), 0, fix)
	f.BenignIf, f.WouldNotFireIf = []string{}, "nothing had been lost"
	w.knows = n
	return f, true
}

// lag tells of detection that is behind what was stored, on live traffic: while
// history is read it must be.
func (m *monitor) lag(now time.Time, p progressOf) (f pipeline.Finding, ok bool) {
	if n := len(m.backlog); n == 0 || m.backlog[n-1].position < p.appended {
		m.backlog = append(m.backlog, mark{now, p.appended})
	}
	for len(m.backlog) > 0 && (m.backlog[0].position <= p.detected || len(m.backlog) > 4096) {
		m.backlog = m.backlog[1:]
	}
	if len(m.backlog) == 0 || p.event == pipeline.NoTime || p.event.Std().Before(p.started) {
		return f, false
	}
	behind := now.Sub(m.backlog[0].at)
	if behind < lagTooLong {
		return f, false
	}
	f = healthFinding("health.lag", "detection", "Detection is "+span(behind)+" behind",
		fmt.Sprintf("%d records of the requests log wait for detection, the oldest for %s. Alerts come that much later.", p.appended-p.detected, span(behind)),
		"lag_seconds", behind.Seconds(), 0, "Give the machine more or faster cores, or switch off detectors that are not needed")
	f.BenignIf, f.WouldNotFireIf = []string{"a burst that is being worked off"}, "nothing waited for more than "+span(lagTooLong)
	return f, true
}

// healthFinding is a case of weir's own, worth a review.
func healthFinding(detector, what, title, reason, signal string, observed, expected float64, fix string) pipeline.Finding {
	return pipeline.Finding{
		Detector: detector, Level: "endpoint", Who: pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: what},
		Sampled: 1, Facts: pipeline.FindingFacts{Notice: true}, Outcome: pipeline.Outcome{Basis: "unknown"}, Score: pipeline.ReviewAt,
		Signals: []pipeline.FindingSignal{{Name: signal, Observed: observed, Expected: expected, Count: 1, Nats: pipeline.ReviewAt, Baseline: pipeline.Baseline{Kind: "own"}}},
		Title:   title, Reason: reason, Next: []string{fix},
	}
}

// span writes a duration for people.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	}
	return strconv.Itoa(int(d.Hours())) + " h"
}

// healthWays are how a monitor reaches the rest of weir: the store, or the bus.
type healthWays struct {
	name   func(source string) string // in findings
	rhythm func(ctx context.Context, id uint64) (storage.Rhythm, error)
	raise  func(ctx context.Context, f *pipeline.Finding) error
}

// watch looks at the service's health until ctx ends.
func (s *service) watch(ctx context.Context, sources []*source) {
	s.watchBy(ctx, sources, healthWays{name: func(source string) string { return source }, rhythm: s.db.SourceRhythm, raise: s.raise})
}

func (s *service) watchBy(ctx context.Context, sources []*source, ways healthWays) {
	now := time.Now()
	m := &monitor{told: map[string]time.Time{}, shed: s.status.shed.Load()}
	for _, src := range sources {
		if !src.follow {
			continue // it ends
		}
		w := &watched{name: ways.name(src.name), path: src.name, kind: "file", pulse: &src.pulse, lost: src.lost, started: now, minute: now, fieldMinute: now}
		if src.cfg != nil {
			w.kind = src.cfg.kind()
		}
		m.sources = append(m.sources, w)
	}
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	var learned time.Time
	for {
		if now := time.Now(); now.Sub(learned) >= rhythmEvery || learned.Sub(s.status.startedAt()) < rhythmEvery {
			first := learned.IsZero()
			learned = now
			for _, w := range m.sources {
				r, err := ways.rhythm(ctx, pulseID(sources, w))
				if err != nil {
					break // the store says so elsewhere
				}
				w.rhythm = r
				if first && r.Lines >= 1000 {
					w.usual = float64(r.Rejected) / float64(r.Lines)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p := progressOf{
			appended: s.status.appended.Load(), detected: s.status.detected.Load(), event: pipeline.NoTime,
			started: s.status.startedAt(), shed: s.status.shed.Load(),
		}
		if e := s.status.eventTime.Load(); e != 0 {
			p.event = pipeline.Time(e)
		}
		for _, w := range m.sources {
			if w.lost != nil {
				s.metrics.lost.WithLabelValues(w.path).Set(float64(w.lost()))
			}
		}
		for _, f := range m.look(time.Now(), p) {
			s.log.Warn(f.Title, zap.String("detector", f.Detector), zap.String("reason", f.Reason), zap.String("fix", f.Next[0]))
			s.metrics.told.WithLabelValues(f.Detector).Inc()
			if err := ways.raise(ctx, &f); err != nil && ctx.Err() == nil {
				s.log.Error("cannot store a health alert", zap.Error(err))
			}
		}
	}
}

// pulseID is the id of a watched source.
func pulseID(sources []*source, w *watched) uint64 {
	for _, src := range sources {
		if &src.pulse == w.pulse {
			return src.id()
		}
	}
	return 0
}

// raise puts a finding of weir's own into the log.
func (s *service) raise(ctx context.Context, f *pipeline.Finding) error {
	f.Time = pipeline.TimeOf(time.Now())
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = s.db.AppendControl(ctx, pipeline.Control{Kind: controlHealth, Payload: body})
	return err
}

// takeHealth raises the alert of a control record: at its place in event time.
func (e *engine) takeHealth(dst []pipeline.Alert, payload json.RawMessage) ([]pipeline.Alert, error) {
	var f pipeline.Finding
	if err := json.Unmarshal(payload, &f); err != nil {
		return dst, fmt.Errorf("read what is said of weir's health: %w", err)
	}
	if e.book == nil {
		return dst, nil // its alert is made elsewhere
	}
	at := e.last
	if e.set != nil { // late requests do not turn event time back
		at = max(at, e.set.Reached().Time())
	}
	if at != pipeline.NoTime {
		f.Time = at
	}
	f.Onset, f.First, f.Last, f.FirstSeen = f.Time, f.Time, f.Time, f.Time
	a := pipeline.Mix64(f.Who.Hash(), pipeline.Hash64(f.Detector))
	f.ID = fmt.Sprintf("%016x%016x", pipeline.Mix64(a, uint64(f.Time)), a)
	e.findings = append(e.findings[:0], f)
	return e.take(dst), nil
}
