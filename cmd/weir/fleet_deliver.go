package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"weir/alerts"
	"weir/pipeline"
	"weir/pipeline/kafka"
)

// feedStore is the topic of alerts as delivery wants it, in the process that makes
// them. What a sink has is one record in the topic of marks, whole each time: who
// takes over goes on from there, and what the last attempt sent may come again.
// A row's Seq is its offset and one. Several goroutines use it.
type feedStore struct {
	bus    *kafka.Bus
	topics busTopics

	mu     sync.Mutex
	end    int64 // of the feed, behind what counts
	latest map[string]alerts.Row
	sinks  map[string]*sinkState
	marks  *kafka.Producer
	dead   *kafka.DeadLetters
	pack   *zstd.Encoder
}

// sinkState is what a sink has.
type sinkState struct {
	Cursor  int64                       `json:"cursor"`
	Known   bool                        `json:"known"`
	Retries map[int64]alerts.Retry      `json:"retries"`
	Told    map[string]alerts.Told      `json:"told"`
	Groups  map[string]alerts.SinkGroup `json:"groups"`
}

const sinkPrefix = "sink/"

// openFeedStore reads what the sinks have.
func openFeedStore(ctx context.Context, bus *kafka.Bus, topics busTopics) (*feedStore, error) {
	s := &feedStore{bus: bus, topics: topics, latest: map[string]alerts.Row{}, sinks: map[string]*sinkState{}, marks: bus.NewProducer(topics.marks, 0, false), dead: bus.NewDeadLetters(topics.dead)}
	var err error
	if s.pack, err = zstd.NewWriter(nil); err != nil {
		return nil, err
	}
	unpack, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer unpack.Close()
	err = readCompacted(ctx, bus, topics.marks, sinkPrefix, func(key string, value []byte) error {
		data, err := unpack.DecodeAll(value, nil)
		if err == nil {
			st := newSinkState()
			s.sinks[strings.TrimPrefix(key, sinkPrefix)] = st
			err = json.Unmarshal(data, st)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		return nil
	})
	return s, err
}

func newSinkState() *sinkState {
	return &sinkState{Retries: map[int64]alerts.Retry{}, Told: map[string]alerts.Told{}, Groups: map[string]alerts.SinkGroup{}}
}

func (s *feedStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks.Close()
	s.dead.Close()
}

// needs is the offset of the feed from which delivery needs the last revisions of
// alerts that sinks were told of.
func (s *feedStore) needs(from int64) int64 {
	for _, st := range s.sinks {
		for _, t := range st.Told {
			from = min(from, t.Seq-1)
		}
	}
	return max(0, from)
}

// add takes a revision that is in the feed at an offset.
func (s *feedStore) add(offset int64, a *sentAlert) error {
	row := alerts.Row{Seq: offset + 1, Backfill: a.Backfill}
	if err := json.Unmarshal(a.Alert, &row.Alert); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest[row.Alert.ID] = row
	s.end = max(s.end, offset+1)
	if row.Alert.Status == "resolved" && !s.told(row.Alert.ID) {
		delete(s.latest, row.Alert.ID)
	}
	return nil
}

// told reports whether a sink was told of an alert; mu is held.
func (s *feedStore) told(id string) bool {
	for _, st := range s.sinks {
		if _, ok := st.Told[id]; ok {
			return true
		}
	}
	return false
}

// errFull ends reading.
var errFull = errors.New("enough")

// AlertsAfter implements alerts.Store.
func (s *feedStore) AlertsAfter(ctx context.Context, seq int64, limit int) (rows []alerts.Row, err error) {
	s.mu.Lock()
	end := s.end
	s.mu.Unlock()
	if seq >= end {
		return nil, nil
	}
	err = readFeed(ctx, s.bus, s.topics.alerts, seq, end, func(_ string, offset int64, a *sentAlert) error {
		row := alerts.Row{Seq: offset + 1, Backfill: a.Backfill}
		if err := json.Unmarshal(a.Alert, &row.Alert); err != nil {
			return err
		}
		if rows = append(rows, row); len(rows) >= limit {
			return errFull
		}
		return nil
	})
	if errors.Is(err, errFull) {
		err = nil
	}
	return rows, err
}

// LastAlert implements alerts.Store.
func (s *feedStore) LastAlert(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end, nil
}

// SinkCursor implements alerts.Store.
func (s *feedStore) SinkCursor(_ context.Context, sink string) (seq int64, known bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.sinks[sink]; st != nil {
		return st.Cursor, st.Known, nil
	}
	return 0, false, nil
}

// change changes what a sink has and stores it.
func (s *feedStore) change(ctx context.Context, sink string, f func(st *sinkState)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.sinks[sink]
	if st == nil {
		st = newSinkState()
		s.sinks[sink] = st
	}
	f(st)
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	_, err = s.marks.Append(ctx, []kafka.Record{{Key: []byte(sinkPrefix + sink), Value: s.pack.EncodeAll(data, nil), Epoch: kafka.NoEpoch}})
	return err
}

// SetSinkCursor implements alerts.Store.
func (s *feedStore) SetSinkCursor(ctx context.Context, sink string, seq int64) error {
	return s.change(ctx, sink, func(st *sinkState) { st.Cursor, st.Known = seq, true })
}

// SaveRetry implements alerts.Store.
func (s *feedStore) SaveRetry(ctx context.Context, sink string, r alerts.Retry) error {
	return s.change(ctx, sink, func(st *sinkState) { st.Retries[r.Seq] = r })
}

// DueRetries implements alerts.Store.
func (s *feedStore) DueRetries(_ context.Context, sink string, now time.Time, limit int) (due []alerts.Retry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.sinks[sink]; st != nil {
		for _, r := range st.Retries {
			if !r.Next.After(now) {
				due = append(due, r)
			}
		}
	}
	slices.SortFunc(due, func(x, y alerts.Retry) int { return cmp.Or(x.Next.Compare(y.Next), cmp.Compare(x.Seq, y.Seq)) })
	return due[:min(limit, len(due))], nil
}

// DropRetry implements alerts.Store.
func (s *feedStore) DropRetry(ctx context.Context, sink string, seq int64) error {
	return s.change(ctx, sink, func(st *sinkState) { delete(st.Retries, seq) })
}

// DeadLetter implements alerts.Store: the revision goes to the topic of what could
// not be dealt with, under the sink's name.
func (s *feedStore) DeadLetter(ctx context.Context, sink string, seq int64, reason string, attempts []byte) error {
	s.mu.Lock()
	err := s.dead.Put(ctx, s.topics.alerts, 0, kafka.Record{Offset: seq - 1, Key: []byte(sink), Value: attempts}, "sink", errors.New(reason))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.DropRetry(ctx, sink, seq)
}

// Told implements alerts.Store.
func (s *feedStore) Told(_ context.Context, sink string) (list []alerts.Told, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.sinks[sink]; st != nil {
		for _, t := range st.Told {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(x, y alerts.Told) int { return strings.Compare(x.Alert, y.Alert) })
	return list, nil
}

// SinkGroups implements alerts.Store.
func (s *feedStore) SinkGroups(_ context.Context, sink string) (list []alerts.SinkGroup, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.sinks[sink]; st != nil {
		for _, g := range st.Groups {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(x, y alerts.SinkGroup) int { return strings.Compare(x.Group, y.Group) })
	return list, nil
}

// SaveTold implements alerts.Store.
func (s *feedStore) SaveTold(ctx context.Context, sink string, c alerts.ToldChange) error {
	return s.change(ctx, sink, func(st *sinkState) {
		st.Cursor, st.Known = c.Cursor, true
		for _, id := range c.Over {
			delete(st.Told, id)
		}
		for _, key := range c.Closed {
			delete(st.Groups, key)
		}
		for _, t := range c.Told {
			st.Told[t.Alert] = t
		}
		for _, g := range c.Groups {
			st.Groups[g.Group] = g
		}
	})
}

// LatestAlert implements alerts.Store.
func (s *feedStore) LatestAlert(_ context.Context, id string) (r alerts.Row, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok = s.latest[id]
	return r, ok, nil
}

// deliverer brings the feed to the configured sinks; nil without any.
func (f *fleet) deliverer(s *feedStore) (*alerts.Deliverer, error) {
	cfg := f.current()
	if len(cfg.Alerts.Sinks) == 0 {
		return nil, nil
	}
	return alerts.NewDeliverer(alerts.DelivererOptions{
		Config: cfg.Alerts, Store: s, Version: version, Kafka: produceTo, Log: f.log, Metrics: f.metrics.registry, Heartbeat: f.heartbeat, Open: f.keys.Open,
	})
}

// eventTime notes how far this process is, for heartbeats and metrics.
func (f *fleet) eventTime(t pipeline.Time) {
	if t != pipeline.NoTime && int64(t) > f.status.eventTime.Load() {
		f.status.eventTime.Store(int64(t))
	}
	f.status.beat.Store(time.Now().UnixMicro())
}
