package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// A collector that died leaves sources that the merge waits for. It appends to the
// sequence every second, so that nothing of it for bus.silence of the clock means
// that nobody is there: the process that makes alerts says so in the sequence, and
// everybody goes on without its sources at that place, until their next block. The
// record alone decides; a clock does only in who writes it.

const (
	// controlSilent is the kind of a control that holds a fleetSilence.
	controlSilent = "silent"
	// controlStopped is the kind of a control with which a collector says that it was
	// stopped: nobody has to look for it. It has no payload.
	controlStopped = "stopped"
)

// fleetSilence says that sources of a collector are silent. It counts for those of
// which nothing came behind After: what came in between is heard by everybody.
type fleetSilence struct {
	Collector string         `json:"collector"`
	After     int64          `json:"after"` // offset of the sequence, read through it
	Sources   []silentSource `json:"sources"`
}

type silentSource struct {
	ID   uint64 `json:"id"`
	Name string `json:"name"`
	To   int64  `json:"to"` // of its last entry's range
}

const (
	silenceLook = time.Second
	// silenceRead is how much of the sequence is read at most to know who is there.
	silenceRead = 50_000
	// missedFor is how long a collector is missed that does not come back.
	missedFor = 7 * 24 * time.Hour
	// listedSources is how many a text names.
	listedSources = 3
)

// collectorWatch knows when which source was heard last, from the records of the
// sequence. One goroutine at a time uses it.
type collectorWatch struct {
	Next    int64                   `json:"next"` // offset; what is before it was taken
	Sources map[uint64]*heardSource `json:"sources"`
	Stopped map[string]bool         `json:"stopped"` // collectors that said so
}

type heardSource struct {
	Name      string    `json:"name"`
	Collector string    `json:"collector"`
	Epoch     int64     `json:"epoch"`
	To        int64     `json:"to"`
	At        int64     `json:"at"`     // offset of what was heard last
	Heard     time.Time `json:"heard"`  // by the record
	Ended     bool      `json:"ended"`  // it said that it has nothing
	Silent    bool      `json:"silent"` // it was said
	Gone      bool      `json:"gone"`   // its collector does not read it any more
	seen      time.Time // when it was read
}

func newCollectorWatch() *collectorWatch {
	return &collectorWatch{Sources: map[uint64]*heardSource{}, Stopped: map[string]bool{}}
}

// source returns what is known of a source.
func (w *collectorWatch) source(id uint64) *heardSource {
	s := w.Sources[id]
	if s == nil {
		s = &heardSource{Epoch: kafka.NoEpoch, At: -1}
		w.Sources[id] = s
	}
	return s
}

// know takes what a collector says of its sources.
func (w *collectorWatch) know(collector string, told *fleetSources, now time.Time) {
	for _, s := range w.Sources {
		s.Gone = s.Gone || s.Collector == collector
	}
	for _, f := range told.Sources {
		s := w.source(f.ID)
		s.Name, s.Collector, s.seen, s.Gone = f.Name, collector, now, false
		if s.Heard.IsZero() {
			s.Heard = now
		}
	}
}

// grace gives everybody time from now on: this process did not look, or could not.
func (w *collectorWatch) grace(now time.Time) {
	for _, s := range w.Sources {
		s.seen = now
	}
}

// take takes the next record of the sequence. What cannot be read is detect's to
// complain of.
func (w *collectorWatch) take(r *kafka.Record, now time.Time) {
	w.Next = r.Offset + 1
	if len(r.Key) != 8 || !r.Claim {
		e, err := entryOf(r)
		if err != nil {
			return
		}
		if e.Control != nil {
			w.control(e.Control, now)
			return
		}
		if s := w.source(e.ID); r.Epoch >= s.Epoch {
			s.Name, s.To = e.Source, max(s.To, e.Cause.To)
			w.hear(s, r, now)
			s.Ended = e.At == nil && e.Watermark != nil && *e.Watermark == int64(pipeline.MaxTime)
		}
		return
	}
	s := w.source(binary.BigEndian.Uint64(r.Key))
	s.Epoch, s.Collector = r.Offset, string(r.Value)
	w.hear(s, r, now)
	s.Ended = false
}

func (w *collectorWatch) hear(s *heardSource, r *kafka.Record, now time.Time) {
	s.At, s.Heard, s.seen, s.Silent, s.Gone = r.Offset, r.Time, now, false, false
	delete(w.Stopped, s.Collector)
}

func (w *collectorWatch) control(c *controlEntry, now time.Time) {
	switch c.Kind {
	case controlSources:
		var told fleetSources
		if json.Unmarshal(c.Payload, &told) == nil {
			w.know(c.From, &told, now)
		}
	case controlStopped:
		w.Stopped[c.From] = true
	case controlSilent:
		var said fleetSilence
		if json.Unmarshal(c.Payload, &said) != nil {
			return
		}
		for _, of := range said.Sources {
			if s := w.Sources[of.ID]; s != nil && s.At <= said.After {
				s.Silent = true
			}
		}
	}
}

// missing is a collector of which some sources are silent.
type missing struct {
	collector string
	heard     time.Time // the latest of them
	quiet     time.Duration
	sources   []string
	all       bool         // nothing comes of it at all
	news      fleetSilence // those that were not said yet
}

// look returns who is silent for longer than limit, by name.
func (w *collectorWatch) look(now time.Time, limit time.Duration) (list []missing) {
	byName := map[string]*missing{}
	speaks := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(w.Sources)) {
		s := w.Sources[id]
		quiet := now.Sub(s.seen)
		if s.Ended {
			continue
		}
		if quiet < limit {
			speaks[s.Collector] = true
			continue
		}
		m := byName[s.Collector]
		if m == nil {
			m = &missing{collector: s.Collector, news: fleetSilence{Collector: s.Collector, After: w.Next - 1}, quiet: quiet}
			byName[s.Collector] = m
		}
		m.quiet = min(m.quiet, quiet)
		if !s.Gone {
			m.sources = append(m.sources, strings.TrimPrefix(s.Name, s.Collector+":"))
			if s.Heard.After(m.heard) {
				m.heard = s.Heard
			}
		}
		if !s.Silent {
			m.news.Sources = append(m.news.Sources, silentSource{id, s.Name, s.To})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		m := byName[name]
		m.all = !speaks[name]
		slices.Sort(m.sources)
		list = append(list, *m)
	}
	return list
}

// missed reports whether somebody should look for it.
func (w *collectorWatch) missed(m *missing, now time.Time) bool {
	return !w.Stopped[m.collector] && len(m.sources) > 0 && now.Sub(m.heard) < missedFor
}

// expected are the collectors that should say something, and when each did last.
func (w *collectorWatch) expected(now time.Time) map[string]time.Time {
	heard := map[string]time.Time{}
	for _, s := range w.Sources {
		if s.Ended || s.Gone || w.Stopped[s.Collector] || now.Sub(s.Heard) >= missedFor {
			continue
		}
		if s.Heard.After(heard[s.Collector]) {
			heard[s.Collector] = s.Heard
		}
	}
	return heard
}

// forget lets go of sources that nobody waits for and that nobody misses any more.
func (w *collectorWatch) forget(now time.Time) {
	maps.DeleteFunc(w.Sources, func(_ uint64, s *heardSource) bool {
		return (s.Silent || s.Ended) && now.Sub(s.Heard) > missedFor
	})
}

// finding is what is told of it; limit is how long a collector may be silent.
func (m *missing) finding(now time.Time, limit time.Duration) pipeline.Finding {
	quiet := max(m.quiet, now.Sub(m.heard))
	what, who := "Collector "+m.collector+" is silent", "of it"
	if !m.all {
		what, who = "Sources of collector "+m.collector+" are silent", "of them"
	}
	named := strings.Join(m.sources[:min(len(m.sources), listedSources)], ", ")
	if more := len(m.sources) - listedSources; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	f := healthFinding("health.collector_silent", m.collector, fmt.Sprintf("%s for %s", what, span(quiet)),
		fmt.Sprintf("The last that came %s was at %s; a collector that works says something every second. What happens at %s is not seen. Detection goes on without them.",
			who, m.heard.UTC().Format(time.RFC3339), named),
		"silent_seconds", quiet.Seconds(), 0,
		"Is the machine up, does weir collect run there, does it reach the brokers? Started again under the same bus.instance it goes on where it was, and what it brings too late counts as late")
	f.BenignIf = []string{"a machine that was taken away without stopping weir first"}
	f.WouldNotFireIf = "anything had come within " + span(limit)
	return f
}

// silenceKeeper follows the sequence and says who is silent.
type silenceKeeper struct {
	f     *fleet
	log   *zap.Logger
	limit time.Duration

	mu       sync.Mutex
	watch    *collectorWatch
	monitor  monitor // remembers what was told
	behind   int64   // where the sequence ended at the last look
	lookedAt time.Time
}

func newSilenceKeeper(f *fleet, log *zap.Logger) *silenceKeeper {
	return &silenceKeeper{f: f, log: log, limit: time.Duration(f.cfg.Bus.Silence), watch: newCollectorWatch(), monitor: monitor{told: map[string]time.Time{}}}
}

// state is what a checkpoint keeps.
func (k *silenceKeeper) state() (json.RawMessage, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return json.Marshal(k.watch)
}

// restore goes on from what a checkpoint kept; nil is the beginning.
func (k *silenceKeeper) restore(data json.RawMessage) error {
	if data == nil {
		return nil
	}
	return json.Unmarshal(data, k.watch)
}

// open sees where to read from: what is long ago tells nothing.
func (k *silenceKeeper) open(ctx context.Context) error {
	first, behind, err := k.f.bus.Bounds(ctx, k.f.topics.sequence, 0)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w, now := k.watch, time.Now()
	if w.Next == 0 { // never looked
		if err := readCompacted(ctx, k.f.bus, k.f.topics.marks, factPrefix, func(key string, value []byte) error {
			var told fleetSources
			err := json.Unmarshal(value, &told)
			if err == nil {
				w.know(strings.TrimPrefix(key, factPrefix), &told, now)
			}
			return err
		}); err != nil {
			return fmt.Errorf("read what collectors say: %w", err)
		}
	}
	if from := max(first, behind-silenceRead); w.Next < from {
		w.Next = from
		for _, s := range w.Sources { // it may have come back
			s.Ended = false
		}
	}
	w.grace(now)
	return nil
}

// run follows the sequence until ctx ends.
func (k *silenceKeeper) run(ctx context.Context) error {
	if k.limit == 0 {
		return nil
	}
	if err := k.open(ctx); err != nil {
		return err
	}
	following, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var reader sync.WaitGroup
	reader.Go(func() {
		stop(k.f.tail(following, k.f.topics.sequence, 0, k.watch.Next, func(r kafka.Record) error {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.watch.take(&r, time.Now())
			return nil
		}))
	})
	defer reader.Wait()
	defer stop(nil)
	defer k.f.health.heard.Reset()
	tick := time.NewTicker(silenceLook)
	defer tick.Stop()
	for {
		select {
		case <-following.Done():
			if err := context.Cause(following); ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		case <-tick.C:
		}
		if err := k.look(following); err != nil && following.Err() == nil {
			k.log.Warn("cannot say which collectors are silent, and tries on", zap.Error(err))
		}
	}
}

// look says who is silent, if this process sees the end of the sequence.
func (k *silenceKeeper) look(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, 2*silenceLook)
	_, behind, err := k.f.bus.Bounds(within, k.f.topics.sequence, 0)
	cancel()
	now := time.Now()
	k.mu.Lock()
	paused := now.Sub(k.lookedAt) > 5*silenceLook
	before := k.behind
	k.behind, k.lookedAt = behind, now
	if err != nil || paused || k.watch.Next < before {
		// Collectors may have found brokers no better; or what they said waits.
		k.watch.grace(now)
		k.mu.Unlock()
		return err
	}
	list := k.watch.look(now, k.limit)
	var findings []pipeline.Finding
	for i := range list {
		if m := &list[i]; k.watch.missed(m, now) {
			findings = k.monitor.tell(findings, now, m.finding(now, k.limit))
		}
	}
	k.watch.forget(now)
	heard := k.watch.expected(now)
	k.mu.Unlock()
	k.f.health.heard.Reset()
	for name, at := range heard {
		k.f.health.heard.WithLabelValues(name).Set(float64(at.UnixMilli()) / 1e3)
	}
	for i := range list {
		m := &list[i]
		if len(m.news.Sources) == 0 {
			continue
		}
		k.log.Warn("sources are silent: detection goes on without them", zap.String("collector", m.collector), zap.Strings("sources", m.sources), zap.Time("since", m.heard))
		if err := k.f.appendControl(ctx, controlSilent, m.news); err != nil {
			return err
		}
	}
	return k.f.tellAll(ctx, findings)
}
