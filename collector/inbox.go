package collector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"weir/pipeline"
)

// inbox stands between those who receive lines (Push, Syslog, Records) and
// the one who reads blocks. Its Cause counts bytes of lines as received, joined
// over all senders, its Cursor how many lines these were, but for Records.
//
// One goroutine calls Next and Close; the rest is for any.
type inbox struct {
	pump pump
	progress

	mu      sync.Mutex
	queue   []*chunk
	pending int64 // memory of the chunks that are read and not released
	limit   int64 // of pending
	wake    chan struct{}
	closing chan struct{}
	closed  sync.Once

	current *chunk
	next    int // piece of current
	pos     int64
	count   int64  // lines handed out
	last    []byte // cursor of the last block
	out     time.Time
}

// delivery is what one sender waits for: its lines are kept once done is closed.
type delivery struct {
	left atomic.Int64 // blocks that are not released
	done chan struct{}

	// What keeps it whole; nil for most.
	receipt *pipeline.Receipt
	toGive  int    // blocks that were not handed out, of the one who calls Next
	kept    func() // called when done is closed
}

// position is where an inbox goes on: what the store knows of the source.
type position struct {
	Cursor []byte
	Cause  int64 // end of the range that is stored
}

func (q *inbox) open(source string, newIdentify func() Identify, at position, limit int64) error {
	q.pump = pump{source: source, sourceID: pipeline.Hash64(source), identify: newIdentify, timed: true, workers: 2, limit: lineLimit} // workers bounds the idle chunks
	q.pump.open(false)
	q.limit, q.pos, q.out = limit, at.Cause, time.Now()
	q.wake, q.closing = make(chan struct{}, 1), make(chan struct{})
	q.size.Store(-1)
	if len(at.Cursor) > 0 {
		n, size := binary.Uvarint(at.Cursor)
		if size != len(at.Cursor) || n > 1<<62 {
			return fmt.Errorf("read the cursor of %s: it is no number of lines", source)
		}
		q.count, q.last = int64(n), append([]byte(nil), at.Cursor...)
	}
	return nil
}

// config makes what workers of one format go by; chunks are the inbox's.
func (q *inbox) config(f *Format) *pump {
	return &pump{source: q.pump.source, sourceID: q.pump.sourceID, format: f, identify: q.pump.identify, timed: true, limit: lineLimit}
}

// memory is what a parsed chunk holds.
func (c *chunk) memory() int64 {
	return int64(cap(c.data) + cap(c.tail) + cap(c.requests)*int(unsafe.Sizeof(pipeline.Request{})))
}

// reserve counts memory that a sender's lines take, of which it holds mine
// already; false when others hold so much that it has to come again.
func (q *inbox) reserve(n, mine int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pending+n > q.limit && q.pending > mine {
		return false
	}
	q.pending += n
	return true
}

func (q *inbox) unreserve(n int64) {
	q.mu.Lock()
	q.pending -= n
	q.mu.Unlock()
}

// full tells whether a sender would have to wait.
func (q *inbox) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pending >= q.limit
}

// put queues parsed chunks, whose memory is reserved, as one delivery.
func (q *inbox) put(chunks []*chunk) *delivery {
	d := &delivery{done: make(chan struct{})}
	q.putAs(d, chunks)
	return d
}

// putAs queues chunks as d; with a receipt their blocks ask for one commit.
func (q *inbox) putAs(d *delivery, chunks []*chunk) {
	for _, c := range chunks {
		c.delivery = d
		d.toGive += c.used
	}
	d.left.Store(int64(d.toGive))
	q.mu.Lock()
	q.queue = append(q.queue, chunks...)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Next blocks for the next block, to be given back with Release once it is
// kept. After a second without one it returns a heartbeat, as Follower.Next
// does. The error is the context's, or io.EOF after Close.
func (q *inbox) Next(ctx context.Context) (*pipeline.Block, error) {
	for {
		if q.current != nil {
			return q.piece(), nil
		}
		q.mu.Lock()
		if len(q.queue) > 0 {
			q.current, q.next = q.queue[0], 0
			q.queue[0] = nil
			if q.queue = q.queue[1:]; len(q.queue) == 0 {
				q.queue = nil
			}
		}
		q.mu.Unlock()
		if q.current != nil {
			continue
		}
		wait := time.Until(q.out.Add(heartbeatEvery))
		if wait <= 0 {
			q.out = time.Now()
			return q.heartbeat(), nil
		}
		t := time.NewTimer(wait)
		select {
		case <-q.wake:
		case <-t.C:
		case <-ctx.Done():
		case <-q.closing:
		}
		t.Stop()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		select {
		case <-q.closing:
			return nil, io.EOF
		default:
		}
	}
}

// piece hands out the next block of the current chunk and gives it its place.
func (q *inbox) piece() *pipeline.Block {
	c := q.current
	b, pc := q.pump.give(c, q.next), c.pieces[q.next]
	n := b.Cause.To - b.Cause.From
	b.Cause = pipeline.CauseRange{From: q.pos, To: q.pos + n}
	q.pos += n
	if len(c.places) > 0 {
		c.place(pc)
	} else {
		shift := q.count + 1 - (pc.line - b.Rejects.Lines)
		for i := range b.Requests {
			b.Requests[i].Line += shift
		}
		for i := range b.Rejects.Sample {
			b.Rejects.Sample[i].Line += shift
		}
		q.count += b.Rejects.Lines
		pc.cursor = binary.AppendUvarint(pc.cursor[:0], uint64(q.count))
	}
	b.Cursor = pc.cursor
	q.last = append(q.last[:0], pc.cursor...)
	q.lines.Add(b.Rejects.Lines)
	q.bytes.Add(n)
	q.raw.Add(n)
	q.out = time.Now()
	b.Receipt, b.More = nil, false
	if d := c.delivery; d.receipt != nil {
		if d.toGive--; d.toGive == 0 {
			b.Receipt = d.receipt
		}
		b.More = d.toGive > 0
	}
	if q.next++; q.next == c.used {
		q.current = nil
	}
	return b
}

func (q *inbox) heartbeat() *pipeline.Block {
	return &pipeline.Block{
		Source: q.pump.source, SourceID: q.pump.sourceID, Watermark: pipeline.NoTime,
		Cause: pipeline.CauseRange{From: q.pos, To: q.pos}, Cursor: append([]byte(nil), q.last...),
	}
}

// Release says that a block is kept: the sender may be told. The block's memory
// is not valid any more. Heartbeats may be given back or not.
func (q *inbox) Release(b *pipeline.Block) {
	q.pump.mu.Lock()
	c, ours := q.pump.given[b]
	var d *delivery
	var memory int64
	if ours {
		d = c.delivery
		if c.out == 1 { // the last of its chunk
			memory = c.reserved
		}
	}
	q.pump.mu.Unlock()
	if !ours {
		return
	}
	q.pump.release(b)
	q.unreserve(memory)
	if d.left.Add(-1) == 0 {
		close(d.done)
		if d.kept != nil {
			d.kept()
		}
	}
}

// Stats says how much was received.
func (q *inbox) Stats() FileStats { return q.stats() }

// close ends Next, and the patience of senders.
func (q *inbox) close() { q.closed.Do(func() { close(q.closing) }) }

// errFull is a sender that has to come again.
var errFull = errors.New("the pipeline is full")

// errStopping is a delivery of which nobody knows whether it is kept.
var errStopping = errors.New("weir is stopping")

// await waits until d is kept.
func (q *inbox) await(ctx context.Context, d *delivery, patience time.Duration) error {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-q.closing:
	case <-t.C:
		return context.DeadlineExceeded
	}
	select {
	case <-d.done: // while it was closing
		return nil
	default:
		return errStopping
	}
}
