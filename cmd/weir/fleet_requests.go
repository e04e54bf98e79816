package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
)

// requestGate tells which records of a partition of requests count, each source
// for itself: those of who claimed it last, each range of it once. It is a
// function of the records alone. One goroutine uses it; it is part of what a
// consumer keeps.
type requestGate struct {
	Sources map[uint64]*gatedSource `json:"sources"`
}

// gatedSource is what a gate knows of a source.
type gatedSource struct {
	Epoch int64 `json:"epoch"`
	To    int64 `json:"to"`
	Seen  bool  `json:"seen"`
	// Torn says that blocks are known to be lost: the next may leave a gap.
	Torn bool `json:"torn,omitempty"`
}

func newRequestGate() *requestGate { return &requestGate{Sources: map[uint64]*gatedSource{}} }

func (g *requestGate) source(id uint64) *gatedSource {
	s := g.Sources[id]
	if s == nil {
		s = &gatedSource{Epoch: kafka.NoEpoch}
		g.Sources[id] = s
	}
	return s
}

// claim takes a claim at an offset.
func (g *requestGate) claim(id uint64, offset int64) {
	s := g.source(id)
	s.Epoch = max(s.Epoch, offset)
}

// tear says that blocks are lost: of a source, or of all with 0.
func (g *requestGate) tear(id uint64) {
	for at, s := range g.Sources {
		if id == 0 || at == id {
			s.Torn = true
		}
	}
}

// admit reports whether a block counts that was written under an epoch. One that
// leaves a gap fails with a *storage.GapError.
func (g *requestGate) admit(id uint64, epoch int64, source string, cause pipeline.CauseRange) (bool, error) {
	s := g.source(id)
	switch {
	case epoch < s.Epoch:
		return false, nil // of who was fenced
	case !s.Seen || s.Torn || cause.From == s.To:
	case cause.To <= s.To:
		return false, nil // written twice
	default:
		return false, &storage.GapError{Source: source, Stored: s.To, Got: cause}
	}
	*s = gatedSource{Epoch: epoch, To: cause.To, Seen: true}
	return true, nil
}

// requestReader reads the blocks of one partition that count, in order. One
// goroutine uses a requestReader.
type requestReader struct {
	tail      *kafka.Tail
	topic     string
	partition int
	gate      *requestGate
	codec     *pipeline.Codec
	dead      *kafka.DeadLetters // nil: somebody else puts aside what cannot be read
	lost      int64
}

// The reasons of dead letters of requests.
const (
	deadBlock = "block" // it does not decode
	deadKey   = "key"   // it names no source
)

// next blocks for the next block. A record that cannot be read is put aside, and
// its source's next block may leave a gap. The error wraps
// pipeline.ErrBlockVersion for a block of a newer weir, which is no fault of the
// record's.
func (r *requestReader) next(ctx context.Context) (*pipeline.Block, error) {
	for {
		record, err := r.tail.Next(ctx)
		if err != nil {
			return nil, err
		}
		if lost := r.tail.Lost(); lost > r.lost {
			r.lost = lost
			r.gate.tear(0)
		}
		if len(record.Key) != 8 {
			if err := r.putAside(ctx, record, deadKey, fmt.Errorf("a key of %d bytes", len(record.Key))); err != nil {
				return nil, err
			}
			continue
		}
		id := binary.BigEndian.Uint64(record.Key)
		if record.Claim {
			r.gate.claim(id, record.Offset)
			continue
		}
		b, err := r.block(id, record)
		if errors.Is(err, errPoison) {
			r.gate.tear(id)
			err = r.putAside(ctx, record, deadBlock, err)
		}
		if err != nil {
			return nil, err
		}
		if b != nil {
			return b, nil
		}
	}
}

// errPoison is wrapped by errors about a record that can never be read.
var errPoison = errors.New("not readable")

// block decodes a record; nil for one that does not count.
func (r *requestReader) block(id uint64, record kafka.Record) (*pipeline.Block, error) {
	poison := func(err error) error {
		if errors.Is(err, pipeline.ErrBlockVersion) {
			return fmt.Errorf("offset %d of %s, partition %d: %w", record.Offset, r.topic, r.partition, err)
		}
		return fmt.Errorf("%w: %w", errPoison, err)
	}
	var h pipeline.BlockHeader
	if err := pipeline.DecodeHeader(record.Value, &h); err != nil {
		return nil, poison(err)
	}
	if h.SourceID != id {
		return nil, poison(fmt.Errorf("it is of source %016x, under the key of %016x", h.SourceID, id))
	}
	ok, err := r.gate.admit(id, record.Epoch, h.Source, h.Cause)
	if err != nil || !ok {
		return nil, err
	}
	b := new(pipeline.Block)
	if err := r.codec.DecodeBlock(record.Value, b); err != nil {
		return nil, poison(err)
	}
	return b, nil
}

func (r *requestReader) putAside(ctx context.Context, record kafka.Record, reason string, why error) error {
	if r.dead == nil {
		return nil
	}
	return r.dead.Put(ctx, r.topic, r.partition, record, reason, why)
}
