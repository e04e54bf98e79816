package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafka "github.com/segmentio/kafka-go"
	"go.uber.org/zap"
)

const (
	tailAhead = 16      // records that wait to be taken
	tailFetch = 2 << 20 // bytes of an answer
	// tailWait is how long an answer may take: half of it is the broker's, to wait for
	// a record. What comes later than that costs a new connection.
	tailWait = 2 * time.Second
	// stallAfter is how long a record may wait to be taken before the partition's end
	// is looked at, for the lag.
	stallAfter = 5 * time.Second
	// tailParts bounds the keys whose records are incomplete: a writer that died
	// between two parts leaves one.
	tailParts = 1 << 12
)

// Tail reads one partition in order. It fetches ahead by some records; who does
// not call Next stops that. One goroutine uses a Tail.
type Tail struct {
	bus       *Bus
	topic     string
	partition int
	compacted bool
	reader    *kafka.Reader
	next      int64 // offset of the next message
	parts     map[string]*partial
	lag       prometheus.Gauge
	failing   bool
	lost      int64
	taken     atomic.Int64 // next, while nobody waits for it; -1 while Next does
	stalled   *time.Timer
	closed    atomic.Bool
}

// partial is a record of which not all parts came yet.
type partial struct {
	first int64
	epoch int64
	n, of int
	value []byte
}

// NewTail begins to read at offset from, or at what the partition still has;
// compacted says that its topic has holes. The error wraps ErrTopic when the
// partition ends before from: it is not the one that from is of.
func (b *Bus) NewTail(ctx context.Context, topic string, partition int, from int64, compacted bool) (*Tail, error) {
	first, behind, err := b.Bounds(ctx, topic, partition)
	if err != nil {
		return nil, err
	}
	if from > behind {
		return nil, fmt.Errorf("topic %s, partition %d: offset %d is next, and it ends at %d: was the topic made anew? Begin with another bus.prefix: %w", topic, partition, from, behind, ErrTopic)
	}
	d, err := b.dialer()
	if err != nil {
		return nil, err
	}
	t := &Tail{
		bus: b, topic: topic, partition: partition, compacted: compacted, next: from, parts: map[string]*partial{},
		lag: b.metrics.lag.WithLabelValues(topic, strconv.Itoa(partition)),
		reader: kafka.NewReader(kafka.ReaderConfig{
			Brokers: b.Brokers, Dialer: d, Topic: topic, Partition: partition, MinBytes: 1, MaxBytes: tailFetch, QueueCapacity: tailAhead,
			MaxWait: tailWait, ReadLagInterval: -1, IsolationLevel: kafka.ReadCommitted,
			ReadBackoffMin: 5 * time.Millisecond, ReadBackoffMax: retryEvery, MaxAttempts: 3,
		}),
	}
	t.lag.Set(float64(behind - max(from, first)))
	if from < first {
		t.skip(first)
	}
	t.taken.Store(t.next)
	t.stalled = time.AfterFunc(time.Hour, t.lookBehind)
	t.stalled.Reset(stallAfter) // once it is there for lookBehind
	return t, t.reader.SetOffset(t.next)
}

// Close ends reading. The connection goes once the broker has answered.
func (t *Tail) Close() {
	t.closed.Store(true)
	t.stalled.Stop()
	go func() { _ = t.reader.Close() }()
}

// lookBehind tells the lag while nobody takes anything: then no answer of the broker
// says where the partition ends.
func (t *Tail) lookBehind() {
	if t.closed.Load() {
		return
	}
	if next := t.taken.Load(); next >= 0 {
		ctx, cancel := context.WithTimeout(context.Background(), stallAfter)
		defer cancel()
		if _, behind, err := t.bus.bounds(ctx, t.topic, t.partition, time.Time{}); err == nil && t.taken.Load() == next {
			t.lag.Set(float64(max(0, behind-next)))
		}
	}
	t.stalled.Reset(stallAfter)
}

// Position is where reading goes on after a restart: behind every record that
// Next returned, unless one before it is incomplete.
func (t *Tail) Position() int64 {
	at := t.next
	for _, p := range t.parts {
		at = min(at, p.first)
	}
	return at
}

// Lost is how many records were gone before they were read, behind the ones that
// Next returned.
func (t *Tail) Lost() int64 { return t.lost }

// skip goes on at offset to, over what is not there.
func (t *Tail) skip(to int64) {
	if !t.compacted {
		t.lost += to - t.next
		t.bus.metrics.lost.WithLabelValues(t.topic).Add(float64(to - t.next))
		t.bus.log.Error("records are gone before they were read: keep them for longer", zap.String("topic", t.topic),
			zap.Int("partition", t.partition), zap.Int64("from", t.next), zap.Int64("to", to))
	}
	t.next = to
}

// Next blocks for the next record, which is the caller's. Brokers that cannot be
// reached are tried again and again; it ends with ctx's error.
func (t *Tail) Next(ctx context.Context) (Record, error) {
	t.taken.Store(-1)
	defer func() { t.taken.Store(t.next) }()
	for {
		m, err := t.reader.FetchMessage(ctx)
		if ctx.Err() != nil {
			return Record{}, ctx.Err()
		}
		if err != nil {
			if !t.failing {
				t.failing = true
				t.bus.log.Warn("cannot read the topic, and tries on", zap.String("topic", t.topic), zap.Int("partition", t.partition), zap.Error(err))
			}
			if !wait(ctx, retryEvery/4) {
				return Record{}, ctx.Err()
			}
			continue
		}
		t.failing = false
		if m.Offset < t.next {
			continue // a batch begins before what was asked for
		}
		if m.Offset > t.next {
			t.skip(m.Offset)
		}
		t.next = m.Offset + 1
		t.lag.Set(float64(max(0, m.HighWaterMark-t.next)))
		if r, ok := t.join(&m); ok {
			return r, nil
		}
	}
}

// join returns the record that m completes.
func (t *Tail) join(m *kafka.Message) (Record, bool) {
	r, part, parts := recordOf(m)
	if parts == 0 {
		return r, true
	}
	key := string(r.Key)
	p := t.parts[key]
	switch {
	case part == 0:
		if len(t.parts) >= tailParts && p == nil {
			for old := range t.parts {
				delete(t.parts, old)
				break
			}
		}
		t.parts[key] = &partial{first: m.Offset, epoch: r.Epoch, n: 1, of: parts, value: r.Value}
		return Record{}, false
	case p == nil || p.epoch != r.Epoch || p.of != parts || part > p.n:
		return Record{}, false // of one that begins before where reading began, or is never complete
	case part < p.n:
		return Record{}, false // written twice
	}
	p.n, p.value = p.n+1, append(p.value, r.Value...)
	if p.n < p.of {
		return Record{}, false
	}
	delete(t.parts, key)
	r.Value, r.First = p.value, p.first
	return r, true
}

// ReadRange hands every record of a partition with an offset in [from, to) to f.
// The record at to-1 must be there.
func (b *Bus) ReadRange(ctx context.Context, topic string, partition int, from, to int64, compacted bool, f func(Record) error) error {
	if from >= to {
		return nil
	}
	t, err := b.NewTail(ctx, topic, partition, from, compacted)
	if err != nil {
		return err
	}
	defer t.Close()
	for t.next < to {
		r, err := t.Next(ctx)
		if err != nil {
			return err
		}
		if r.Offset >= to {
			return nil
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// ErrFenced is wrapped by errors of an owner that is none any more: another one
// has claimed what it writes.
var ErrFenced = errors.New("somebody else has taken it over")

// Fenced returns ErrFenced about what this process wrote to a topic, and counts it.
func (b *Bus) Fenced(topic string) error {
	b.metrics.fenced.WithLabelValues(topic).Inc()
	return ErrFenced
}
