package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
	"weir/storage/clickhouse"
)

// The store role puts what the bus carries into ClickHouse, each request and each
// revision once. It cuts batches by what the log holds alone, so that a process
// that goes on, or one that does not know yet that it is no owner any more, makes
// inserts that ClickHouse has seen (ADR 21).
const (
	storeRows = 100_000         // requests of an insert, about
	storeSpan = 5 * time.Second // from its first record to its last, by the log's stamps
)

// storeMetrics are those of the role.
type storeMetrics struct {
	requests, alerts, inserts, failures prometheus.Counter
}

func newStoreMetrics() *storeMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &storeMetrics{
		requests: counter("weir_store_requests_total", "Requests inserted into ClickHouse, those offered again too."),
		alerts:   counter("weir_store_alert_revisions_total", "Alert revisions inserted into ClickHouse."),
		inserts:  counter("weir_store_inserts_total", "Inserts of requests into ClickHouse."),
		failures: counter("weir_store_failures_total", "Inserts that ClickHouse did not take; they are tried again."),
	}
}

func (m *storeMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.alerts, m.inserts, m.failures}
}

// runStore stores the partitions that are dealt to this process.
func runStore(ctx context.Context, f *fleet) error {
	f.status.do("ClickHouse")
	db, err := f.openClickHouse(ctx)
	f.status.do("")
	if err != nil {
		return err
	}
	defer db.Close()
	m := newStoreMetrics()
	for _, c := range m.all() {
		if err := f.metrics.registry.Register(c); err != nil {
			return err
		}
	}
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var running sync.WaitGroup
	for _, r := range []struct {
		group, topic string
		unit         func(slice int) roleSlice
	}{
		{"store", f.topics.requests, func(i int) roleSlice { return newRequestStore(f, db, m, i) }},
		{"store-alerts", f.topics.alerts, func(int) roleSlice { return newAlertStore(f, db, m) }},
	} {
		running.Go(func() {
			if err := f.runUnits(failed, r.group, r.topic, r.unit); err != nil {
				fail(err)
			}
		})
	}
	running.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(failed)
}

// openClickHouse connects, and tries until the server answers: it may start after
// weir.
func (f *fleet) openClickHouse(ctx context.Context) (*clickhouse.DB, error) {
	if f.cfg.Store.ClickHouse == nil {
		return nil, errNoClickHouse
	}
	o, err := f.cfg.Store.ClickHouse.options()
	if err != nil {
		return nil, err
	}
	var db *clickhouse.DB
	err = f.insist(ctx, "ClickHouse", nil, func() error {
		db, err = clickhouse.Open(ctx, o)
		if errors.Is(err, storage.ErrUnfit) {
			return errors.Join(err, pipeline.ErrPermanent)
		}
		return err
	})
	return db, err
}

// insist calls g until it succeeds, fails for good, or ctx ends.
func (f *fleet) insist(ctx context.Context, what string, failures prometheus.Counter, g func() error) error {
	for pause, tries := 100*time.Millisecond, 0; ; pause, tries = min(2*pause, 5*time.Second), tries+1 {
		err := g()
		if err == nil {
			if tries > 0 {
				f.log.Info("goes on", zap.String("what", what), zap.Int("tries", tries+1))
			}
			return nil
		}
		if errors.Is(err, pipeline.ErrPermanent) || ctx.Err() != nil {
			return err
		}
		if failures != nil {
			failures.Inc()
		}
		if tries == 0 {
			f.log.Warn("does not work, and tries on", zap.String("what", what), zap.Error(err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// requestStore stores one partition of requests.
type requestStore struct {
	f         *fleet
	log       *zap.Logger
	metrics   *storeMetrics
	partition int
	requests  *clickhouse.Requests
	state     *kafka.State
	at        sequencePosition // a boundary: everything before it is stored
	edition   []byte           // in force there, encoded; nil as the fleet began
	kept      bool             // it is in the state
	templates *pipeline.Templates
}

// chunkStoreEdition is the chunk with the edition.
const chunkStoreEdition uint32 = 1

// requestBatch is what the next insert carries.
type requestBatch struct {
	blocks   []*pipeline.Block
	rows     int
	from, to int64 // offsets of the sequence
	first    time.Time
}

// take adds what a record of the sequence before offset to comes to, and reports
// whether b ends with it: another edition names endpoints otherwise.
func (b *requestBatch) take(item *sequenceItem, to int64) (ends bool) {
	if item.block != nil && len(item.block.Requests) > 0 {
		if b.rows == 0 {
			b.from, b.first = to-1, item.time
		}
		b.blocks, b.rows, b.to = append(b.blocks, item.block), b.rows+len(item.block.Requests), to
	}
	renamed := item.control != nil && item.control.Kind == controlEdition
	return b.rows >= storeRows || b.rows > 0 && (renamed || item.time.Sub(b.first) >= storeSpan)
}

func newRequestStore(f *fleet, db *clickhouse.DB, m *storeMetrics, partition int) *requestStore {
	return &requestStore{f: f, metrics: m, partition: partition, requests: db.NewRequests(), log: f.log.With(zap.String("role", "store"), zap.Int("partition", partition))}
}

// open implements roleSlice.
func (u *requestStore) open(ctx context.Context) (err error) {
	if u.state, err = u.f.bus.OpenState(ctx, u.f.topics.state, u.partition, "store/"+strconv.Itoa(u.partition), u.f.instance); err != nil {
		return err
	}
	if head, chunk, ok := u.state.Checkpoint(); ok {
		if err := json.Unmarshal(head, &u.at); err != nil {
			return fmt.Errorf("read the state of store: %w", err)
		}
		if u.edition, err = chunk(chunkStoreEdition); err != nil {
			return fmt.Errorf("read the state of store: %w", err)
		}
	}
	if err := u.name(ctx); err != nil {
		return err
	}
	if u.at.Gate.Sources == nil {
		u.at.Gate = *newSequenceGate()
	}
	u.f.progress.reach(stageStore, u.partition, u.at.Offset)
	return nil
}

// name has endpoints named by the edition in force.
func (u *requestStore) name(ctx context.Context) error {
	body := u.edition
	if body == nil {
		start, err := u.f.beginning(ctx, nil)
		if err != nil {
			return err
		}
		if u.templates = u.f.edition.Templates; start == nil {
			return nil // nothing was judged yet
		}
		body = start.Edition
	}
	edition, err := pipeline.DecodeEdition(body)
	if err == nil {
		u.templates = edition.Templates
	}
	return err
}

// rename takes a control: from here on another edition may name endpoints.
func (u *requestStore) rename(ctx context.Context, c *controlEntry) error {
	if c == nil || c.Kind != controlEdition {
		return nil
	}
	var sent sentEdition
	if err := json.Unmarshal(c.Payload, &sent); err != nil {
		return fmt.Errorf("read the edition: %w", err)
	}
	u.edition, u.kept = sent.Edition, false
	return u.name(ctx)
}

// close implements roleSlice.
func (u *requestStore) close() {
	u.f.progress.leave(stageStore, u.partition)
	if u.state != nil {
		u.state.Close()
	}
}

// controlTick is the kind of a control that says nothing but that time goes on: a
// batch ends with it when the log holds nothing else.
const controlTick = "tick"

// run implements roleSlice. What is in the batch when ctx ends is read again by whoever
// goes on.
func (u *requestStore) run(ctx context.Context) error {
	r, err := newSequenceReader(ctx, u.f.bus, &u.f.cfg.Bus, u.at, u.log)
	if err != nil {
		return err
	}
	defer r.close()
	r.only = u.partition
	tick := time.AfterFunc(time.Hour, func() {
		if err := u.f.appendControl(ctx, controlTick, u.partition); err != nil && ctx.Err() == nil {
			u.log.Warn("cannot end a batch: it waits for the next request", zap.Error(err))
		}
	})
	tick.Stop()
	defer tick.Stop()
	var b requestBatch
	for {
		waiting := b.rows > 0
		item, err := r.next(ctx)
		if err != nil {
			return err
		}
		u.f.progress.reach(stageStore, u.partition, r.offset)
		if b.take(&item, r.offset) {
			tick.Stop()
			if err := u.insert(ctx, &b); err != nil {
				return err
			}
			u.at, b = r.position(), requestBatch{blocks: b.blocks[:0]}
			if err := u.rename(ctx, item.control); err != nil {
				return err
			}
			if err := u.keep(ctx); err != nil {
				return err
			}
			continue
		}
		if err := u.rename(ctx, item.control); err != nil {
			return err
		}
		if b.rows > 0 && !waiting {
			tick.Reset(storeSpan + time.Second)
		}
	}
}

// insert stores a batch, however long ClickHouse takes nothing: meanwhile nothing
// is read.
func (u *requestStore) insert(ctx context.Context, b *requestBatch) error {
	templates := u.templates
	template := func(dst []byte, r *pipeline.Request) []byte { return templates.AppendText(dst, r.Host, r.Path) }
	err := u.f.insist(ctx, "an insert into ClickHouse", u.metrics.failures, func() error {
		return u.requests.Insert(ctx, clickhouse.Batch{Partition: u.partition, From: b.from, To: b.to, Blocks: b.blocks}, template)
	})
	if err == nil {
		u.metrics.requests.Add(float64(b.rows))
		u.metrics.inserts.Inc()
	}
	clear(b.blocks)
	return err
}

// keep writes down the boundary.
func (u *requestStore) keep(ctx context.Context) error {
	head, err := json.Marshal(u.at)
	if err != nil {
		return err
	}
	u.state.Begin()
	if u.edition != nil && (!u.kept || u.state.Whole()) {
		u.state.Put(chunkStoreEdition, u.edition)
	}
	if err := u.state.Finish(ctx, head); err != nil {
		return err
	}
	u.kept = true
	return nil
}

// alertStore stores the topic of alerts.
type alertStore struct {
	f       *fleet
	metrics *storeMetrics
	db      *clickhouse.DB
	state   *kafka.State
	at      alertStoreHead
}

// alertStoreHead is where it is.
type alertStoreHead struct {
	Next  int64    `json:"next"`  // offset; everything before it is stored
	Fence int64    `json:"fence"` // the highest claim before it
	Last  []string `json:"last"`  // the latest revisions, as id.revision: a write that was tried again repeats some
}

// keepLast is how many revisions a write may repeat.
const keepLast = 1024

func newAlertStore(f *fleet, db *clickhouse.DB, m *storeMetrics) *alertStore {
	return &alertStore{f: f, db: db, metrics: m}
}

// open implements roleSlice.
func (u *alertStore) open(ctx context.Context) (err error) {
	if u.state, err = u.f.bus.OpenState(ctx, u.f.topics.state, 0, "store-alerts", u.f.instance); err != nil {
		return err
	}
	u.at = alertStoreHead{Fence: kafka.NoEpoch}
	if head, _, ok := u.state.Checkpoint(); ok {
		if err := json.Unmarshal(head, &u.at); err != nil {
			return fmt.Errorf("read the state of store: %w", err)
		}
	}
	return nil
}

// close implements roleSlice.
func (u *alertStore) close() {
	u.f.progress.leave(stageStoreAlerts, 0)
	if u.state != nil {
		u.state.Close()
	}
}

// run implements roleSlice.
func (u *alertStore) run(ctx context.Context) error {
	reading, stop := context.WithCancelCause(ctx)
	records := make(chan kafka.Record, 1000)
	var reader sync.WaitGroup
	reader.Go(func() {
		err := u.f.tail(reading, u.f.topics.alerts, 0, u.at.Next, func(r kafka.Record) error {
			select {
			case records <- r:
				return nil
			case <-reading.Done():
				return reading.Err()
			}
		})
		stop(err)
	})
	defer reader.Wait()
	defer stop(nil)
	for {
		select {
		case r := <-records:
			// What is there already goes with it in one insert.
			list := []kafka.Record{r}
			for len(records) > 0 {
				list = append(list, <-records)
			}
			if err := u.store(ctx, list); err != nil {
				return err
			}
		case <-reading.Done():
			return context.Cause(reading)
		}
	}
}

// store inserts the revisions in records.
func (u *alertStore) store(ctx context.Context, list []kafka.Record) error {
	var rows []storage.StoredAlert
	for i := range list {
		row, err := u.row(&list[i])
		if err != nil {
			return err
		}
		if row != nil {
			rows = append(rows, *row)
		}
	}
	err := u.f.insist(ctx, "an insert into ClickHouse", u.metrics.failures, func() error { return u.db.AppendAlerts(ctx, rows) })
	if err != nil {
		return err
	}
	u.metrics.alerts.Add(float64(len(rows)))
	u.at.Next, u.at.Last = list[len(list)-1].Offset+1, u.at.Last[max(0, len(u.at.Last)-keepLast):]
	u.f.progress.reach(stageStoreAlerts, 0, u.at.Next)
	head, err := json.Marshal(u.at)
	if err != nil {
		return err
	}
	u.state.Begin()
	return u.state.Finish(ctx, head)
}

// row is the revision in a record, nil for one that does not count.
func (u *alertStore) row(r *kafka.Record) (*storage.StoredAlert, error) {
	if r.Claim {
		u.at.Fence = max(u.at.Fence, r.Offset)
		return nil, nil
	}
	if r.Epoch < u.at.Fence {
		return nil, nil
	}
	var sent sentAlert
	row := storage.StoredAlert{Seq: r.Offset + 1}
	err := json.Unmarshal(r.Value, &sent)
	if err == nil {
		row.Backfill, row.Body = sent.Backfill, sent.Alert
		err = json.Unmarshal(sent.Alert, &row.Alert)
	}
	if err != nil {
		return nil, fmt.Errorf("read the alert at offset %d of %s: %w", r.Offset, u.f.topics.alerts, err)
	}
	key := fmt.Sprintf("%s.%d", row.Alert.ID, row.Alert.Revision)
	if slices.Contains(u.at.Last, key) {
		return nil, nil
	}
	u.at.Last = append(u.at.Last, key)
	return &row, nil
}
