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
	// Receipt returns what was stored with a source's blocks under a key, nil for
	// nothing or what is long ago.
	Receipt(ctx context.Context, id uint64, key [32]byte) (*pipeline.Receipt, error)
}

// fleetLog is the requests log of a fleet as one collector writes it: blocks go
// to the topic of requests, those of a source to one partition, and once they are
// durable there the sequence says which, in which order.
//
// A source is claimed in the sequence before it is read: what the sequence says
// before the claim tells where the source was left, to the byte, and what another
// process appends behind it does not count. So no cursor has to be written with
// the blocks; the mark that is kept beside them, once a second, only says from
// where to look.
//
// Its methods may be called by several goroutines.
type fleetLog struct {
	bus        *kafka.Bus
	topics     busTopics
	partitions int
	instance   string
	codec      *pipeline.Codec

	mu        sync.Mutex
	sources   map[uint64]*fleetSource // by the id that it has in this process
	saved     map[string]sourceMark   // what was stored when it was opened, by source
	stale     map[string][]string     // keys of marks of earlier owners, by source
	producers map[int]*kafka.Producer
	sequence  *kafka.Producer
	next      int64 // behind what this process appended to the sequence last; 0 nothing
	marks     *kafka.Producer
	savedAt   time.Time
}

// fleetSource is a source that this process has claimed.
type fleetSource struct {
	id        uint64 // on the bus
	partition int
	epoch     int64
	mark      sourceMark
	dirty     bool
	receipts  receiptBook
}

func (s *fleetSource) name() string { return fmt.Sprintf("%016x", s.id) }

// sourceMark is where a source is, as the topic of marks holds it: what is in the
// sequence before Offset is accounted for.
type sourceMark struct {
	Source string              `json:"source"`
	Epoch  int64               `json:"epoch"`
	Offset int64               `json:"offset"`
	Cause  pipeline.CauseRange `json:"cause"`
	Cursor []byte              `json:"cursor"`
	Seen   bool                `json:"seen"` // there are blocks of it
}

func (m *sourceMark) take(b *pipeline.Block) {
	if !m.Seen {
		m.Cause.From = b.Cause.From
	}
	m.Source, m.Seen, m.Cause.To = b.Source, true, b.Cause.To
	m.Cursor = append([]byte(nil), b.Cursor...)
}

const (
	marksEvery = time.Second
	markPrefix = "source/"
)

// openFleetLog reads where sources were left.
func openFleetLog(ctx context.Context, bus *kafka.Bus, c *busConfig) (*fleetLog, error) {
	instance, err := c.instance()
	if err != nil {
		return nil, err
	}
	t := c.topics()
	l := &fleetLog{
		bus: bus, topics: t, partitions: c.Partitions, instance: instance, codec: pipeline.NewCodec(),
		sources: map[uint64]*fleetSource{}, saved: map[string]sourceMark{}, stale: map[string][]string{}, producers: map[int]*kafka.Producer{},
		sequence: bus.NewProducer(t.sequence, 0, true), marks: bus.NewProducer(t.marks, 0, true),
	}
	err = readCompacted(ctx, bus, t.marks, markPrefix, func(key string, value []byte) error {
		source, _, _ := strings.Cut(strings.TrimPrefix(key, markPrefix), "/")
		var mark sourceMark
		if err := json.Unmarshal(value, &mark); err != nil {
			return fmt.Errorf("read the mark %s: %w", key, err)
		}
		l.stale[source] = append(l.stale[source], key)
		if old, ok := l.saved[source]; !ok || mark.Epoch > old.Epoch {
			l.saved[source] = mark
		}
		return nil
	})
	return l, err
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

// close stores the marks and closes the connections.
func (l *fleetLog) close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.save(ctx)
	for _, p := range l.producers {
		p.Close()
	}
	l.sequence.Close()
	l.marks.Close()
	return err
}

// busID is the id of a source on the bus: paths and addresses are a machine's own.
func (l *fleetLog) busID(id uint64) uint64 { return pipeline.Mix64(id, pipeline.Hash64(l.instance)) }

// busName is its name there.
func (l *fleetLog) busName(name string) string { return l.instance + ":" + name }

func sourceKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

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
	s := &fleetSource{id: l.busID(id)}
	s.partition = int(s.id % uint64(l.partitions))
	var err error
	if s.epoch, err = l.sequence.Claim(ctx, sourceKey(s.id), l.instance); err != nil {
		return nil, err
	}
	if err := l.wrote(ctx, kafka.Written{First: s.epoch, Next: s.epoch + 1, Parts: 1}); err != nil {
		return nil, err
	}
	// A source without a mark has no blocks: the mark is stored before the first.
	if mark, ok := l.saved[s.name()]; ok {
		if s.mark, err = l.end(ctx, s, mark); err != nil {
			return nil, fmt.Errorf("look for the end of a source: %w", err)
		}
	}
	s.mark.Epoch, s.mark.Offset, s.dirty = s.epoch, s.epoch+1, true
	l.sources[id] = s
	return s, l.save(ctx)
}

// end is where a source was left, by what the sequence says behind a mark.
func (l *fleetLog) end(ctx context.Context, s *fleetSource, mark sourceMark) (sourceMark, error) {
	key := string(sourceKey(s.id))
	fence := mark.Epoch
	var last *sequenceEntry
	err := l.bus.ReadRange(ctx, l.topics.sequence, 0, mark.Offset, s.epoch+1, true, func(r kafka.Record) error {
		switch {
		case string(r.Key) != key:
			return nil
		case r.Claim:
			fence = max(fence, r.Offset)
			return nil
		case r.Epoch < fence:
			return nil
		}
		e, err := entryOf(&r)
		if err == nil && e.At != nil && (!mark.Seen || e.Cause.To > mark.Cause.To) {
			last = e
		}
		return err
	})
	if err != nil || last == nil {
		return mark, err
	}
	payload, err := readBlock(ctx, l.bus, l.topics.requests, s.id, *last.At)
	if err != nil {
		return mark, err
	}
	var h pipeline.BlockHeader
	if err := pipeline.DecodeHeader(payload, &h); err != nil {
		return mark, err
	}
	mark.take(&pipeline.Block{Source: h.Source, Cause: h.Cause, Cursor: h.Cursor})
	return mark, nil
}

// readBlock reads one block of the topic of requests.
func readBlock(ctx context.Context, bus *kafka.Bus, topic string, id uint64, at blockAt) ([]byte, error) {
	t, err := bus.NewTail(ctx, topic, at.Partition, at.Offset, false)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	for {
		r, err := t.Next(ctx)
		if err != nil {
			return nil, err
		}
		if isBlock(&r, id, at.Offset) {
			return r.Value, nil
		}
		if r.First > at.Offset && t.Position() > at.Offset {
			return nil, fmt.Errorf("topic %s, partition %d: there is no block at offset %d", topic, at.Partition, at.Offset)
		}
	}
}

// isBlock reports whether r is the block of a source that begins at an offset; of
// one in parts the first may be there twice.
func isBlock(r *kafka.Record, id uint64, offset int64) bool {
	return r.First <= offset && offset <= r.Offset && string(r.Key) == string(sourceKey(id))
}

// AppendBlocks implements requestLog. The error wraps kafka.ErrFenced when another
// process has claimed a source: then nothing of the batch is acknowledged.
func (l *fleetLog) AppendBlocks(ctx context.Context, blocks []*pipeline.Block) (first, last int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := blockBatch{marks: map[*fleetSource]sourceMark{}, lists: map[int][]kafka.Record{}}
	for _, b := range blocks {
		s, err := l.claimed(ctx, b.SourceID)
		if err == nil {
			err = l.add(&batch, s, b)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if err := l.append(ctx, &batch); err != nil {
		return 0, 0, err
	}
	for s, mark := range batch.marks {
		mark.Offset = l.next
		s.mark, s.dirty = mark, true
	}
	for i := range batch.entries {
		if e := &batch.entries[i]; e.entry.Receipt != nil {
			e.source.receipts.put(e.entry.Receipt)
		}
	}
	if time.Since(l.savedAt) >= marksEvery {
		err = l.save(ctx)
	}
	return 0, 0, err
}

// blockBatch is what one AppendBlocks appends.
type blockBatch struct {
	marks   map[*fleetSource]sourceMark
	lists   map[int][]kafka.Record // blocks by partition
	entries []batchEntry
}

type batchEntry struct {
	entry  sequenceEntry
	source *fleetSource
	block  int // in the list of the source's partition; -1 none
}

// add puts a block into the batch, if it is not there already.
func (l *fleetLog) add(batch *blockBatch, s *fleetSource, b *pipeline.Block) error {
	mark, ok := batch.marks[s]
	if !ok {
		mark = s.mark
	}
	if mark.Seen && b.Cause.From != mark.Cause.To {
		if b.Cause.To <= mark.Cause.To {
			return nil
		}
		return &storage.GapError{Source: b.Source, Stored: mark.Cause.To, Got: b.Cause}
	}
	e := batchEntry{sequenceEntry{Source: l.busName(b.Source), ID: s.id, Cause: &b.Cause, Rows: len(b.Requests), Receipt: sentReceiptOf(b.Receipt)}, s, -1}
	switch {
	case len(b.Requests) > 0 || b.Cause.From < b.Cause.To:
		onBus := pipeline.Block{
			Source: e.entry.Source, SourceID: s.id, Requests: b.Requests, Cause: b.Cause, Cursor: b.Cursor, Watermark: b.Watermark, Rejects: b.Rejects,
		}
		value, err := l.codec.AppendBlock(nil, &onBus)
		if err != nil {
			return err
		}
		e.block = len(batch.lists[s.partition])
		batch.lists[s.partition] = append(batch.lists[s.partition], kafka.Record{Key: sourceKey(s.id), Value: value, Epoch: kafka.NoEpoch})
		batch.entries = append(batch.entries, e)
	case b.Watermark != pipeline.NoTime:
		e.entry.Watermark = new(int64(b.Watermark))
		batch.entries = append(batch.entries, e)
	}
	mark.take(b)
	batch.marks[s] = mark
	return nil
}

// append appends the blocks, to several partitions at a time, and then their
// entries.
func (l *fleetLog) append(ctx context.Context, batch *blockBatch) error {
	results := make(chan error, len(batch.lists))
	for partition, list := range batch.lists {
		p := l.producers[partition]
		if p == nil {
			p = l.bus.NewProducer(l.topics.requests, partition, false)
			l.producers[partition] = p
		}
		go func() {
			_, err := p.Append(ctx, list)
			results <- err
		}()
	}
	var errs []error
	for range batch.lists {
		errs = append(errs, <-results)
	}
	if err := errors.Join(errs...); err != nil || len(batch.entries) == 0 {
		return err
	}
	var list []kafka.Record
	for i := range batch.entries {
		e := &batch.entries[i]
		if e.block >= 0 {
			e.entry.At = &blockAt{e.source.partition, batch.lists[e.source.partition][e.block].First}
		}
		value, err := json.Marshal(&e.entry)
		if err != nil {
			return err
		}
		list = append(list, kafka.Record{Key: sourceKey(e.source.id), Value: value, Epoch: e.source.epoch})
	}
	// All in one request to the broker, so that they are there or not: those of a body
	// with a receipt have to be.
	w, err := l.sequence.Append(ctx, list)
	if err != nil {
		return err
	}
	return l.wrote(ctx, w)
}

// wrote looks for claims on this process's sources between what it appended to the
// sequence before and now: most often there is nothing, or what other collectors
// appended.
func (l *fleetLog) wrote(ctx context.Context, w kafka.Written) error {
	from := l.next
	l.next = w.Next
	if from == 0 || w.First == from && w.Next-w.First == int64(w.Parts) {
		return nil
	}
	epochs := map[string]int64{}
	for _, s := range l.sources {
		epochs[string(sourceKey(s.id))] = s.epoch
	}
	return l.bus.ReadRange(ctx, l.topics.sequence, 0, from, w.Next, false, func(r kafka.Record) error {
		if epoch, ours := epochs[string(r.Key)]; ours && r.Claim && r.Offset > epoch {
			return fmt.Errorf("a source of %q: %w: %q, at offset %d of the sequence; give each collector a bus.instance of its own",
				l.instance, l.bus.Fenced(l.topics.sequence), r.Value, r.Offset)
		}
		return nil
	})
}

// save stores the marks that changed; the caller holds mu.
func (l *fleetLog) save(ctx context.Context) error {
	l.savedAt = time.Now()
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
		list = append(list, kafka.Record{Key: fmt.Appendf(nil, "%s%s/%d", markPrefix, s.name(), s.epoch), Value: value, Epoch: kafka.NoEpoch})
		saved = append(saved, s)
	}
	for _, s := range saved {
		for _, key := range l.stale[s.name()] {
			list = append(list, kafka.Record{Key: []byte(key), Epoch: kafka.NoEpoch})
		}
	}
	if len(list) == 0 {
		return nil
	}
	if _, err := l.marks.Append(ctx, list); err != nil {
		return fmt.Errorf("store marks: %w", err)
	}
	for _, s := range saved {
		s.dirty = false
		delete(l.stale, s.name())
	}
	return nil
}
