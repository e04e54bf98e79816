package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
)

// requestLog is where collect puts blocks: the embedded store, or the bus.
type requestLog interface {
	// AppendBlocks appends blocks, all durable when it returns nil; of each source
	// in order, each once.
	AppendBlocks(ctx context.Context, blocks []*pipeline.Block) (first, last int64, err error)
	// SourceCursor returns what a source needs to go on and the range of it that
	// is there; ok is false for a source never seen.
	SourceCursor(ctx context.Context, id uint64) (cursor []byte, cause pipeline.CauseRange, ok bool, err error)
}

// fleetLog is the requests log of a fleet as one collector writes it. Blocks of a
// source go to one partition, in order, under the source's id.
//
// A source is claimed in its partition before it is read: what was written before
// the claim tells where it was left, to the byte, and what another process writes
// behind it does not count. So no cursor has to be written with the blocks; the
// one that is kept beside them, once a second, only says from where to look.
//
// Its methods may be called by several goroutines.
type fleetLog struct {
	bus        *kafka.Bus
	topics     busTopics
	partitions int
	instance   string
	codec      *pipeline.Codec
	log        *zap.Logger

	mu        sync.Mutex
	sources   map[uint64]*fleetSource // by the id that it has in this process
	saved     map[string]savedCursor  // what was stored when it was opened, by key
	stale     map[string][]string     // keys of cursors of earlier owners, by source
	producers map[int]*kafka.Producer
	next      map[int]int64 // behind what this process appended last, by partition
	cursors   *kafka.Producer
	savedAt   time.Time
}

// fleetSource is a source that this process has claimed.
type fleetSource struct {
	id        uint64 // in blocks
	partition int
	epoch     int64
	mark      savedCursor
	dirty     bool
}

// savedCursor is where a source is, as the topic of cursors holds it: what is in
// the partition before Offset is accounted for.
type savedCursor struct {
	Source string              `json:"source"`
	Epoch  int64               `json:"epoch"`
	Offset int64               `json:"offset"`
	Cause  pipeline.CauseRange `json:"cause"`
	Cursor []byte              `json:"cursor"`
	Seen   bool                `json:"seen"` // there are blocks of it
}

const cursorsEvery = time.Second

// openFleetLog reads where sources were left.
func openFleetLog(ctx context.Context, bus *kafka.Bus, c *busConfig, log *zap.Logger) (*fleetLog, error) {
	instance, err := c.instance()
	if err != nil {
		return nil, err
	}
	l := &fleetLog{
		bus: bus, topics: c.topics(), partitions: c.Partitions, instance: instance, codec: pipeline.NewCodec(), log: log,
		sources: map[uint64]*fleetSource{}, saved: map[string]savedCursor{}, stale: map[string][]string{},
		producers: map[int]*kafka.Producer{}, next: map[int]int64{}, cursors: bus.NewProducer(c.topics().cursors, 0, true),
	}
	err = readCompacted(ctx, bus, l.topics.cursors, "source/", func(key string, value []byte) error {
		source, _, _ := strings.Cut(strings.TrimPrefix(key, "source/"), "/")
		var mark savedCursor
		if err := json.Unmarshal(value, &mark); err != nil {
			return fmt.Errorf("read the cursor %s: %w", key, err)
		}
		l.stale[source] = append(l.stale[source], key)
		if old, ok := l.saved[source]; !ok || mark.Epoch > old.Epoch {
			l.saved[source] = mark
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// readCompacted calls f with what a compacted topic of one partition holds now
// under keys with a prefix, in no order.
func readCompacted(ctx context.Context, bus *kafka.Bus, topic, prefix string, f func(key string, value []byte) error) error {
	first, behind, err := bus.Bounds(ctx, topic, 0)
	if err != nil {
		return err
	}
	values := map[string][]byte{}
	err = bus.ReadRange(ctx, topic, 0, first, behind, true, func(r kafka.Record) error {
		if key := string(r.Key); r.Value == nil {
			delete(values, key)
		} else if strings.HasPrefix(key, prefix) {
			values[key] = r.Value
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read topic %s: %w", topic, err)
	}
	for key, value := range values {
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

// close stores the cursors and closes the connections.
func (l *fleetLog) close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.save(ctx)
	for _, p := range l.producers {
		p.Close()
	}
	l.cursors.Close()
	return err
}

// busID is the id of a source in blocks: paths and addresses are a machine's own.
func (l *fleetLog) busID(id uint64) uint64 { return pipeline.Mix64(id, pipeline.Hash64(l.instance)) }

func sourceKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

func (l *fleetLog) producer(partition int) *kafka.Producer {
	p := l.producers[partition]
	if p == nil {
		p = l.bus.NewProducer(l.topics.requests, partition, false)
		l.producers[partition] = p
	}
	return p
}

// SourceCursor implements requestLog: it claims the source the first time.
func (l *fleetLog) SourceCursor(ctx context.Context, id uint64) (cursor []byte, cause pipeline.CauseRange, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.claimed(ctx, id)
	if err != nil {
		return nil, cause, false, err
	}
	return s.mark.Cursor, s.mark.Cause, s.mark.Seen, nil
}

// claimed returns a source of this process; the caller holds mu.
func (l *fleetLog) claimed(ctx context.Context, id uint64) (*fleetSource, error) {
	if s := l.sources[id]; s != nil {
		return s, nil
	}
	wire := l.busID(id)
	s := &fleetSource{id: wire, partition: int(wire % uint64(l.partitions))}
	key := sourceKey(wire)
	epoch, err := l.producer(s.partition).Claim(ctx, key, l.instance)
	if err != nil {
		return nil, err
	}
	s.epoch = epoch
	if err := l.wrote(ctx, s.partition, kafka.Written{First: epoch, Next: epoch + 1, Parts: 1}); err != nil {
		return nil, err
	}
	// A source without a stored cursor has no blocks: it is stored before the
	// first of them.
	name := fmt.Sprintf("%016x", wire)
	if saved, ok := l.saved[name]; ok {
		s.mark = saved
		fence := saved.Epoch
		err := l.bus.ReadRange(ctx, l.topics.requests, s.partition, saved.Offset, epoch+1, true, func(r kafka.Record) error {
			if string(r.Key) != string(key) {
				return nil
			}
			if r.Claim {
				fence = max(fence, r.Offset)
				return nil
			}
			if r.Epoch < fence {
				return nil
			}
			return s.mark.follow(r.Value)
		})
		if err != nil {
			return nil, fmt.Errorf("look for the end of a source: %w", err)
		}
	}
	s.mark.Epoch, s.mark.Offset, s.dirty = epoch, epoch+1, true
	l.sources[id] = s
	return s, l.save(ctx)
}

// follow takes a block that is in the log into account.
func (m *savedCursor) follow(payload []byte) error {
	var h pipeline.BlockHeader
	if err := pipeline.DecodeHeader(payload, &h); err != nil {
		return err
	}
	if m.Seen && h.Cause.To < m.Cause.To {
		return nil // written twice
	}
	m.take(h.Source, h.Cause, h.Cursor)
	return nil
}

func (m *savedCursor) take(source string, cause pipeline.CauseRange, cursor []byte) {
	if !m.Seen {
		m.Cause.From = cause.From
	}
	m.Source, m.Seen, m.Cause.To = source, true, cause.To
	m.Cursor = append([]byte(nil), cursor...)
}

// AppendBlocks implements requestLog. The error wraps kafka.ErrFenced when another
// process has claimed a source: then nothing of the batch is acknowledged.
func (l *fleetLog) AppendBlocks(ctx context.Context, blocks []*pipeline.Block) (first, last int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lists := map[int][]kafka.Record{}
	marks := map[*fleetSource]savedCursor{}
	for _, b := range blocks {
		s, err := l.claimed(ctx, b.SourceID)
		if err != nil {
			return 0, 0, err
		}
		mark, ok := marks[s]
		if !ok {
			mark = s.mark
		}
		if mark.Seen && b.Cause.From != mark.Cause.To {
			if b.Cause.To <= mark.Cause.To {
				continue // it is there
			}
			return 0, 0, &storage.GapError{Source: b.Source, Stored: mark.Cause.To, Got: b.Cause}
		}
		if len(b.Requests) > 0 || b.Watermark != pipeline.NoTime || b.Cause.From < b.Cause.To {
			r := kafka.Record{Key: sourceKey(s.id), Epoch: s.epoch}
			if r.Value, err = l.encode(b, s.id); err != nil {
				return 0, 0, err
			}
			lists[s.partition] = append(lists[s.partition], r)
		}
		mark.take(b.Source, b.Cause, b.Cursor)
		marks[s] = mark
	}
	if err := l.append(ctx, lists); err != nil {
		return 0, 0, err
	}
	for s, mark := range marks {
		mark.Offset = l.next[s.partition]
		s.mark, s.dirty = mark, true
	}
	if time.Since(l.savedAt) >= cursorsEvery {
		err = l.save(ctx)
	}
	return 0, 0, err
}

// encode writes a block as it is on the bus: under the id and the name that its
// source has among all machines'.
func (l *fleetLog) encode(b *pipeline.Block, id uint64) ([]byte, error) {
	onBus := pipeline.Block{
		Source: l.instance + ":" + b.Source, SourceID: id, Requests: b.Requests, Cause: b.Cause, Cursor: b.Cursor, Watermark: b.Watermark, Rejects: b.Rejects,
	}
	return l.codec.AppendBlock(nil, &onBus)
}

// append writes to several partitions at a time, to each in order.
func (l *fleetLog) append(ctx context.Context, lists map[int][]kafka.Record) error {
	type result struct {
		partition int
		written   kafka.Written
		err       error
	}
	results := make(chan result, len(lists))
	for partition, list := range lists {
		p := l.producer(partition)
		go func() {
			w, err := p.Append(ctx, list)
			results <- result{partition, w, err}
		}()
	}
	var errs []error
	for range lists {
		r := <-results
		if r.err == nil {
			r.err = l.wrote(ctx, r.partition, r.written)
		}
		errs = append(errs, r.err)
	}
	return errors.Join(errs...)
}

// wrote looks for claims on this process's sources between what it wrote before
// and now: most often there is nothing at all.
func (l *fleetLog) wrote(ctx context.Context, partition int, w kafka.Written) error {
	from, known := l.next[partition]
	l.next[partition] = w.Next
	if !known || w.First == from && w.Next-w.First == int64(w.Parts) {
		return nil
	}
	epochs := map[string]int64{}
	for _, s := range l.sources {
		if s.partition == partition {
			epochs[string(sourceKey(s.id))] = s.epoch
		}
	}
	return l.bus.ReadRange(ctx, l.topics.requests, partition, from, w.Next, false, func(r kafka.Record) error {
		if epoch, ours := epochs[string(r.Key)]; ours && r.Claim && r.Offset > epoch {
			return fmt.Errorf("a source of %q: %w: %q, at offset %d of partition %d; give each collector a bus.instance of its own",
				l.instance, kafka.ErrFenced, r.Value, r.Offset, partition)
		}
		return nil
	})
}

// save stores the cursors that changed; the caller holds mu.
func (l *fleetLog) save(ctx context.Context) error {
	var list []kafka.Record
	var saved []*fleetSource
	for _, s := range l.sources {
		if !s.dirty {
			continue
		}
		value, err := json.Marshal(s.mark)
		if err != nil {
			return err
		}
		list = append(list, kafka.Record{Key: fmt.Appendf(nil, "source/%016x/%d", s.id, s.epoch), Value: value, Epoch: kafka.NoEpoch})
		saved = append(saved, s)
	}
	for _, s := range saved {
		name := fmt.Sprintf("%016x", s.id)
		for _, key := range l.stale[name] {
			list = append(list, kafka.Record{Key: []byte(key), Epoch: kafka.NoEpoch})
		}
	}
	l.savedAt = time.Now()
	if len(list) == 0 {
		return nil
	}
	if _, err := l.cursors.Append(ctx, list); err != nil {
		return fmt.Errorf("store cursors: %w", err)
	}
	for _, s := range saved {
		s.dirty = false
		delete(l.stale, fmt.Sprintf("%016x", s.id))
	}
	return nil
}
