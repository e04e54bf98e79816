package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// The receipt of a pushed body is in the sequence, in the entry of the body's last
// block: the entries of a batch are appended in one request, so that the lines and
// what is remembered of them are there or are not. Who takes a source over reads the
// last minutes of the sequence for them, when the first sender asks.

const (
	// receiptsFor and maxReceipts bound what is remembered of a source, as in the
	// embedded store.
	receiptsFor = 20 * time.Minute
	maxReceipts = 100_000
)

// sentReceipt is a pipeline.Receipt in the sequence.
type sentReceipt struct {
	Key    []byte `json:"key"`
	Lines  []byte `json:"lines"`
	Answer []byte `json:"answer"`
	Time   int64  `json:"time"`
}

// sentReceiptOf is r as it is sent; nil for nil.
func sentReceiptOf(r *pipeline.Receipt) *sentReceipt {
	if r == nil {
		return nil
	}
	return &sentReceipt{Key: r.Key[:], Lines: r.Lines[:], Answer: r.Answer, Time: int64(r.Time)}
}

// receiptBook is what is remembered of a source. Its zero value has not been read.
type receiptBook struct {
	reading sync.Mutex // held while it is read

	mu    sync.Mutex
	read  bool
	known map[[32]byte]*pipeline.Receipt
	order [][32]byte // oldest first
}

// put takes a receipt, and forgets old ones. The first under a key stays.
func (b *receiptBook) put(s *sentReceipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(s)
}

// add is put; mu is held.
func (b *receiptBook) add(s *sentReceipt) {
	if len(s.Key) != 32 || len(s.Lines) != 32 {
		return // nobody can be told of it
	}
	r := &pipeline.Receipt{Key: [32]byte(s.Key), Lines: [32]byte(s.Lines), Answer: s.Answer, Time: pipeline.Time(s.Time)}
	if b.known == nil {
		b.known = map[[32]byte]*pipeline.Receipt{}
	}
	if b.known[r.Key] != nil {
		return
	}
	b.known[r.Key], b.order = r, append(b.order, r.Key)
	for len(b.order) > maxReceipts || b.known[b.order[0]].Time < r.Time.Add(-receiptsFor) {
		delete(b.known, b.order[0])
		b.order = b.order[1:]
	}
}

// get returns what is known under a key; read is false before readReceipts.
func (b *receiptBook) get(key [32]byte) (r *pipeline.Receipt, read bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[key], b.read
}

// Receipt implements requestLog.
func (l *fleetLog) Receipt(ctx context.Context, id uint64, key [32]byte) (*pipeline.Receipt, error) {
	l.mu.Lock()
	s, err := l.claimed(ctx, id)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	r, read := s.receipts.get(key)
	if r != nil || read {
		return r, nil
	}
	s.receipts.reading.Lock()
	defer s.receipts.reading.Unlock()
	if r, read = s.receipts.get(key); r != nil || read {
		return r, nil
	}
	if err := l.readReceipts(ctx, s); err != nil {
		return nil, fmt.Errorf("look for a receipt: %w", err)
	}
	r, _ = s.receipts.get(key)
	return r, nil
}

// readReceipts reads what was stored before this process claimed the source.
func (l *fleetLog) readReceipts(ctx context.Context, s *fleetSource) error {
	from, err := l.bus.OffsetAt(ctx, l.topics.sequence, 0, time.Now().Add(-receiptsFor))
	if err != nil {
		return err
	}
	key, fence := sourceKey(s.id), kafka.NoEpoch
	var old []*sentReceipt
	err = l.bus.ReadRange(ctx, l.topics.sequence, 0, from, s.epoch+1, false, func(r kafka.Record) error {
		switch {
		case !bytes.Equal(r.Key, key):
		case r.Claim:
			fence = max(fence, r.Offset)
		case r.Epoch >= fence && bytes.Contains(r.Value, []byte(`"receipt":`)):
			var e sequenceEntry
			if err := json.Unmarshal(r.Value, &e); err == nil && e.Receipt != nil { // detect complains of others
				old = append(old, e.Receipt)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// They are older than what came since.
	b := &s.receipts
	b.mu.Lock()
	defer b.mu.Unlock()
	since, recent := b.order, b.known
	b.order, b.known, b.read = nil, nil, true
	for _, r := range old {
		b.add(r)
	}
	for _, k := range since {
		b.add(sentReceiptOf(recent[k]))
	}
	return nil
}
