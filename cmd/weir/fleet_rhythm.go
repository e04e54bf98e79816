package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
)

// A collector of a fleet has no store that knows how a source usually comes: it keeps
// the minutes of the last week in which each had requests, and puts them into the
// topic of marks every ten minutes.

const (
	rhythmWeek   = 7 * 24 * 60 // minutes
	minuteMicros = int64(time.Minute / time.Microsecond)
	rhythmPrefix = "rhythm/"
	// aheadMost is how far ahead of the clock a stamp may be to count.
	aheadMost = time.Hour
)

// sourceMinutes are the minutes of event time in which a source had requests, those
// of the last week before its newest. Several goroutines use it.
type sourceMinutes struct {
	mu       sync.Mutex
	newest   int64 // minute; 0 none
	active   [(rhythmWeek + 63) / 64]uint64
	lines    int64 // ever
	rejected int64
	changed  bool // since it was stored
}

// storedMinutes is it in the topic of marks.
type storedMinutes struct {
	Newest   int64    `json:"newest"`
	Active   []uint64 `json:"active"`
	Lines    int64    `json:"lines"`
	Rejected int64    `json:"rejected"`
}

// add takes a block that was stored.
func (m *sourceMinutes) add(b *pipeline.Block, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = true
	m.lines += b.Rejects.Lines
	for _, n := range b.Rejects.Reason {
		m.rejected += n
	}
	most := now.Add(aheadMost).UnixMicro()
	last := int64(-1)
	for i := range b.Requests {
		at := int64(b.Requests[i].Time)
		if minute := at / minuteMicros; minute != last && at > 0 && at <= most {
			last = minute
			m.mark(minute)
		}
	}
}

// mark makes a minute active; mu is held.
func (m *sourceMinutes) mark(minute int64) {
	if m.newest == 0 || minute-m.newest >= rhythmWeek {
		clear(m.active[:])
		m.newest = minute
	}
	for ; m.newest < minute; m.newest++ {
		slot := (m.newest + 1) % rhythmWeek
		m.active[slot/64] &^= 1 << (slot % 64)
	}
	if m.newest-minute < rhythmWeek {
		slot := minute % rhythmWeek
		m.active[slot/64] |= 1 << (slot % 64)
	}
}

// rhythm says how the source usually comes.
func (m *sourceMinutes) rhythm() storage.Rhythm {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := storage.Rhythm{Last: pipeline.NoTime, Lines: m.lines, Rejected: m.rejected}
	if m.newest == 0 {
		return r
	}
	r.Last = pipeline.Time(m.newest * minuteMicros)
	for _, w := range m.active {
		r.Minutes += int64(bits.OnesCount64(w))
	}
	first, before, gap := int64(0), int64(0), int64(0)
	for minute := m.newest - rhythmWeek + 1; minute <= m.newest; minute++ {
		slot := ((minute % rhythmWeek) + rhythmWeek) % rhythmWeek
		if m.active[slot/64]&(1<<(slot%64)) == 0 {
			continue
		}
		if first == 0 {
			first, before = minute, minute
		}
		gap, before = max(gap, minute-before), minute
	}
	r.Span, r.Gap = time.Duration(m.newest-first)*time.Minute, time.Duration(gap)*time.Minute
	return r
}

// store writes it, if it changed.
func (m *sourceMinutes) store() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.changed {
		return nil, nil
	}
	m.changed = false
	return json.Marshal(storedMinutes{m.newest, m.active[:], m.lines, m.rejected})
}

func (m *sourceMinutes) restore(data []byte) error {
	var s storedMinutes
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	if len(s.Active) != len(m.active) {
		return fmt.Errorf("%d words of minutes, want %d", len(s.Active), len(m.active))
	}
	m.newest, m.lines, m.rejected = s.Newest, s.Lines, s.Rejected
	copy(m.active[:], s.Active)
	return nil
}

// fleetRhythms are those of a collector's sources.
type fleetRhythms struct {
	f        *fleet
	l        *fleetLog
	minutes  map[uint64]*sourceMinutes // by the source's id in this process
	stored   map[uint64]time.Time
	producer *kafka.Producer
}

// openRhythms reads them and has the sources tell them what comes.
func (f *fleet) openRhythms(ctx context.Context, l *fleetLog, sources []*source) (*fleetRhythms, error) {
	stored := map[string][]byte{}
	if err := readCompacted(ctx, f.bus, f.topics.marks, rhythmPrefix, func(key string, value []byte) error {
		stored[strings.TrimPrefix(key, rhythmPrefix)] = value
		return nil
	}); err != nil {
		return nil, err
	}
	r := &fleetRhythms{f: f, l: l, minutes: map[uint64]*sourceMinutes{}, stored: map[uint64]time.Time{}, producer: f.bus.NewProducer(f.topics.marks, 0, true)}
	for _, src := range sources {
		m := new(sourceMinutes)
		if data := stored[r.key(src.id())]; data != nil {
			if err := m.restore(data); err != nil { // nothing hangs on it
				f.log.Warn("how a source usually comes is learned anew", zap.String("source", src.name), zap.Error(err))
			}
		}
		src.pulse.minutes, r.minutes[src.id()] = m, m
	}
	return r, nil
}

func (r *fleetRhythms) key(id uint64) string { return fmt.Sprintf("%016x", r.l.busID(id)) }

// rhythm says how a source usually comes, and stores what that follows from, now and
// then.
func (r *fleetRhythms) rhythm(ctx context.Context, id uint64) (storage.Rhythm, error) {
	m := r.minutes[id]
	if m == nil {
		return storage.Rhythm{Last: pipeline.NoTime}, nil
	}
	if time.Since(r.stored[id]) < rhythmEvery {
		return m.rhythm(), nil
	}
	r.stored[id] = time.Now()
	return m.rhythm(), r.store(ctx, id)
}

func (r *fleetRhythms) store(ctx context.Context, id uint64) error {
	value, err := r.minutes[id].store()
	if err != nil || value == nil {
		return err
	}
	_, err = r.producer.Append(ctx, []kafka.Record{{Key: []byte(rhythmPrefix + r.key(id)), Value: value, Epoch: kafka.NoEpoch}})
	return err
}

// close stores what came last.
func (r *fleetRhythms) close(ctx context.Context) {
	leaving, cancel := context.WithTimeout(ctx, r.f.letGoWithin())
	defer cancel()
	for id := range r.minutes {
		if err := r.store(leaving, id); err != nil {
			r.f.log.Warn("cannot store how a source usually comes", zap.Error(err))
			break
		}
	}
	r.producer.Close()
}
