package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
)

// The sequence is a topic of one partition that says in which order the processes
// of a fleet take blocks, and the facts from outside between them: what the merge
// gives out depends on it. A record is of one source, under its id: a claim, or a
// sequenceEntry under the epoch of one.

// sequenceEntry is a block, a heartbeat, or a control.
type sequenceEntry struct {
	// Of blocks and heartbeats.
	Source    string               `json:"source,omitempty"`
	ID        uint64               `json:"id,omitempty"`
	Cause     *pipeline.CauseRange `json:"cause,omitempty"`
	Watermark *int64               `json:"watermark,omitempty"` // of a heartbeat
	Rows      int                  `json:"rows,omitempty"`
	At        *blockAt             `json:"at,omitempty"` // nil for a heartbeat
	Receipt   *sentReceipt         `json:"receipt,omitempty"`

	Control *controlEntry `json:"control,omitempty"`
}

// blockAt is where a block is in the topic of requests.
type blockAt struct {
	Partition int   `json:"partition"`
	Offset    int64 `json:"offset"`
}

// controlEntry is a fact from outside.
type controlEntry struct {
	Kind    string          `json:"kind"`
	From    string          `json:"from"` // the instance that says so
	Payload json.RawMessage `json:"payload"`
}

// heartbeat is the block that e stands for when it has none.
func (e *sequenceEntry) heartbeat() *pipeline.Block {
	b := &pipeline.Block{Source: e.Source, SourceID: e.ID, Cause: *e.Cause, Watermark: pipeline.NoTime}
	if e.Watermark != nil {
		b.Watermark = pipeline.Time(*e.Watermark)
	}
	return b
}

// errPoison is wrapped by errors about a record that can never be read.
var errPoison = errors.New("not readable")

// entryOf reads a record of the sequence that is no claim. The error wraps
// errPoison.
func entryOf(r *kafka.Record) (*sequenceEntry, error) {
	e := new(sequenceEntry)
	d := json.NewDecoder(bytes.NewReader(r.Value))
	d.DisallowUnknownFields()
	if err := d.Decode(e); err != nil {
		return nil, fmt.Errorf("%w: the entry at offset %d of the sequence: %w", errPoison, r.Offset, err)
	}
	if e.Control == nil && (e.Cause == nil || string(r.Key) != string(sourceKey(e.ID))) {
		return nil, fmt.Errorf("%w: the entry at offset %d of the sequence is of no source", errPoison, r.Offset)
	}
	return e, nil
}

// sequenceGate tells which entries count, each source for itself: those of who
// claimed it last, each range of it once. It is a function of the records alone.
// One goroutine uses it; it is part of what a consumer keeps.
type sequenceGate struct {
	Sources map[uint64]*gatedSource `json:"sources"`
}

// gatedSource is what a gate knows of a source.
type gatedSource struct {
	Epoch int64 `json:"epoch"`
	To    int64 `json:"to"`
	Seen  bool  `json:"seen"`
	At    int64 `json:"at,omitempty"` // offset of its last record that counts, a claim too
}

func newSequenceGate() *sequenceGate { return &sequenceGate{Sources: map[uint64]*gatedSource{}} }

func (g *sequenceGate) source(id uint64) *gatedSource {
	s := g.Sources[id]
	if s == nil {
		s = &gatedSource{Epoch: kafka.NoEpoch}
		g.Sources[id] = s
	}
	return s
}

// claim takes a claim at an offset.
func (g *sequenceGate) claim(id uint64, offset int64) {
	s := g.source(id)
	s.Epoch = max(s.Epoch, offset)
	s.At = offset
}

// heard takes the offset of an entry that counts.
func (g *sequenceGate) heard(id uint64, offset int64) { g.source(id).At = offset }

// silent returns those of the sources that a control says are silent of which
// nothing came behind what whoever says so had read.
func (g *sequenceGate) silent(c *fleetSilence) (ids []uint64) {
	for _, s := range c.Sources {
		if known := g.Sources[s.ID]; known == nil || known.At <= c.After {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// tear says that entries are lost: the next of each source may leave a gap.
func (g *sequenceGate) tear() {
	for _, s := range g.Sources {
		s.Seen = false
	}
}

// admit reports whether an entry of a source counts that was written under an
// epoch. One that leaves a gap fails with a *storage.GapError.
func (g *sequenceGate) admit(e *sequenceEntry, epoch int64) (bool, error) {
	s := g.source(e.ID)
	switch {
	case epoch < s.Epoch:
		return false, nil // of who was fenced
	case !s.Seen || e.Cause.From == s.To:
	case e.Cause.To <= s.To:
		return false, nil // written twice
	default:
		return false, &storage.GapError{Source: e.Source, Stored: s.To, Got: *e.Cause}
	}
	*s = gatedSource{Epoch: epoch, To: e.Cause.To, Seen: true, At: s.At}
	return true, nil
}
