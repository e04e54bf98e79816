package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// sequencePosition is where a reader of the sequence is.
type sequencePosition struct {
	Offset int64        `json:"offset"`
	Gate   sequenceGate `json:"gate"`
}

// sequenceItem is what a record of the sequence comes to: a block, a control, or
// nothing that counts.
type sequenceItem struct {
	block   *pipeline.Block
	control *controlEntry
	silent  []uint64  // sources that nobody waits for, until their next block
	lost    int       // requests of a block that is gone, or cannot be read
	time    time.Time // of the record
	// Where the record is, all of it.
	first, last int64
}

// sequenceReader takes blocks and controls in the order of the sequence. Blocks are
// fetched and decoded ahead, each partition by a goroutine; who does not call next
// stops that. One goroutine uses a sequenceReader.
type sequenceReader struct {
	bus    *kafka.Bus
	topics busTopics
	codec  *pipeline.Codec
	log    *zap.Logger
	dead   *kafka.DeadLetters // nil: somebody else puts aside what cannot be read
	tail   *kafka.Tail
	offset int64
	gate   *sequenceGate
	only   int // the partition of requests whose blocks are wanted; -1: all
	passed int // entries that did not count
	// touched is the source whose part of the gate the last record moved; 0 none.
	touched uint64
	lost    int64 // entries that were gone
	stop    context.CancelFunc
	ctx     context.Context // of those that fetch
	ahead   map[int]*aheadPartition
}

// newSequenceReader begins at a position; the zero one is the beginning.
func newSequenceReader(ctx context.Context, bus *kafka.Bus, c *busConfig, from sequencePosition, log *zap.Logger) (*sequenceReader, error) {
	if log == nil {
		log = zap.NewNop()
	}
	r := &sequenceReader{bus: bus, topics: c.topics(), only: -1, codec: pipeline.NewCodec(), log: log, offset: from.Offset, gate: newSequenceGate(), ahead: map[int]*aheadPartition{}}
	for id, s := range from.Gate.Sources {
		r.gate.Sources[id] = new(*s)
	}
	var err error
	if r.tail, err = bus.NewTail(ctx, r.topics.sequence, 0, from.Offset, false); err != nil {
		return nil, err
	}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	return r, nil
}

// close ends fetching.
func (r *sequenceReader) close() {
	r.stop()
	for _, a := range r.ahead {
		a.fetching.Wait()
	}
	r.tail.Close()
	if r.dead != nil {
		r.dead.Close()
	}
}

// position is behind what next returned.
func (r *sequenceReader) position() sequencePosition {
	p := sequencePosition{Offset: r.offset, Gate: *newSequenceGate()}
	for id, s := range r.gate.Sources {
		p.Gate.Sources[id] = new(*s)
	}
	return p
}

// next blocks for the next record of the sequence. The error wraps
// pipeline.ErrBlockVersion for a block of a newer weir.
func (r *sequenceReader) next(ctx context.Context) (item sequenceItem, err error) {
	record, err := r.tail.Next(ctx)
	if err != nil {
		return item, err
	}
	defer func() {
		if err == nil {
			item.time, r.offset = record.Time, r.tail.Position()
			item.first, item.last = record.First, record.Offset
		}
	}()
	r.touched = 0
	if len(record.Key) == 8 {
		r.touched = binary.BigEndian.Uint64(record.Key)
	}
	if lost := r.tail.Lost(); lost > r.lost {
		r.lost = lost
		r.gate.tear()
	}
	if record.Claim {
		if r.touched != 0 {
			r.gate.claim(r.touched, record.Offset)
		}
		return item, nil
	}
	e, err := entryOf(&record)
	if err != nil {
		return item, r.putAside(ctx, r.topics.sequence, 0, record, "entry", err)
	}
	if e.Control != nil && e.Control.Kind == controlSilent {
		var c fleetSilence
		if err := json.Unmarshal(e.Control.Payload, &c); err != nil {
			return item, r.putAside(ctx, r.topics.sequence, 0, record, "entry", err)
		}
		return sequenceItem{silent: r.gate.silent(&c)}, nil
	}
	if e.Control != nil {
		return sequenceItem{control: e.Control}, nil
	}
	ok, err := r.gate.admit(e, record.Epoch)
	if err != nil {
		return item, err
	}
	if !ok {
		r.passed++
		return item, nil
	}
	r.gate.heard(e.ID, record.Offset)
	if e.At == nil {
		return sequenceItem{block: e.heartbeat()}, nil
	}
	if r.only >= 0 && e.At.Partition != r.only {
		return item, nil
	}
	return r.block(ctx, e)
}

// block fetches the block of an entry.
func (r *sequenceReader) block(ctx context.Context, e *sequenceEntry) (item sequenceItem, err error) {
	a := r.ahead[e.At.Partition]
	if a == nil {
		if a, err = r.fetchAhead(ctx, *e.At); err != nil {
			return item, err
		}
		r.ahead[e.At.Partition] = a
	}
	f, ok, err := a.get(ctx, e.ID, e.At.Offset)
	if err != nil {
		return item, err
	}
	if !ok {
		f.record = kafka.Record{First: e.At.Offset, Offset: e.At.Offset, Key: sourceKey(e.ID)}
		if f.record.Value, err = readBlock(ctx, r.bus, r.topics.requests, e.ID, *e.At); err != nil {
			if ctx.Err() != nil {
				return item, err
			}
			r.log.Error("a block is gone before it was read: keep requests for longer", zap.String("source", e.Source), zap.Int("requests", e.Rows), zap.Error(err))
			return sequenceItem{lost: e.Rows}, nil
		}
		f.decode(r.codec)
	}
	if f.err == nil && (f.block.SourceID != e.ID || f.block.Cause != *e.Cause) {
		f.err = fmt.Errorf("it is [%d, %d) of source %016x, its entry says [%d, %d) of %016x", f.block.Cause.From, f.block.Cause.To, f.block.SourceID, e.Cause.From, e.Cause.To, e.ID)
	}
	if f.err != nil {
		if errors.Is(f.err, pipeline.ErrBlockVersion) {
			return item, fmt.Errorf("offset %d of %s, partition %d: %w", f.record.Offset, r.topics.requests, e.At.Partition, f.err)
		}
		return sequenceItem{lost: e.Rows}, r.putAside(ctx, r.topics.requests, e.At.Partition, f.record, "block", f.err)
	}
	return sequenceItem{block: f.block}, nil
}

func (r *sequenceReader) putAside(ctx context.Context, topic string, partition int, record kafka.Record, reason string, why error) error {
	if r.dead == nil {
		return nil
	}
	return r.dead.Put(ctx, topic, partition, record, reason, why)
}

// fetchedBlock is a record of a partition of requests, decoded.
type fetchedBlock struct {
	record kafka.Record
	block  *pipeline.Block
	err    error
}

func (f *fetchedBlock) decode(c *pipeline.Codec) {
	f.block = new(pipeline.Block)
	f.err = c.DecodeBlock(f.record.Value, f.block)
}

const (
	blocksAhead = 6  // of a partition, decoded
	blocksAside = 32 // of a partition, that the sequence did not name yet
)

// aheadPartition fetches the blocks of one partition ahead. Several collectors
// write there, and the sequence may name their blocks in another order: those that
// come before their turn wait aside, up to a bound.
type aheadPartition struct {
	fetched  chan fetchedBlock
	aside    []fetchedBlock
	fetching sync.WaitGroup
}

// fetchAhead begins at a block.
func (r *sequenceReader) fetchAhead(ctx context.Context, at blockAt) (*aheadPartition, error) {
	tail, err := r.bus.NewTail(ctx, r.topics.requests, at.Partition, at.Offset, false)
	if err != nil {
		return nil, err
	}
	a := &aheadPartition{fetched: make(chan fetchedBlock, blocksAhead)}
	a.fetching.Go(func() {
		defer tail.Close()
		for {
			record, err := tail.Next(r.ctx)
			if err != nil {
				return
			}
			f := fetchedBlock{record: record}
			f.decode(r.codec)
			select {
			case a.fetched <- f:
			case <-r.ctx.Done():
				return
			}
		}
	})
	return a, nil
}

// get returns the block of a source that begins at an offset; ok is false when it
// went by already.
func (a *aheadPartition) get(ctx context.Context, id uint64, offset int64) (f fetchedBlock, ok bool, err error) {
	// What a source wrote before is named in order or never.
	a.aside = slices.DeleteFunc(a.aside, func(f fetchedBlock) bool {
		return f.record.Offset < offset && string(f.record.Key) == string(sourceKey(id))
	})
	for i := range a.aside {
		if isBlock(&a.aside[i].record, id, offset) {
			f = a.aside[i]
			a.aside = slices.Delete(a.aside, i, i+1)
			return f, true, nil
		}
	}
	if n := len(a.aside); n > 0 && a.aside[n-1].record.First > offset {
		return f, false, nil
	}
	for {
		select {
		case f = <-a.fetched:
		case <-ctx.Done():
			return f, false, ctx.Err()
		}
		if isBlock(&f.record, id, offset) {
			return f, true, nil
		}
		if f.record.Offset < offset && string(f.record.Key) == string(sourceKey(id)) {
			continue
		}
		if len(a.aside) == blocksAside {
			a.aside = slices.Delete(a.aside, 0, 1)
		}
		a.aside = append(a.aside, f)
		if f.record.First > offset {
			return f, false, nil
		}
	}
}
