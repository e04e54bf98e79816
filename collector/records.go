package collector

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"go.uber.org/zap"

	"weir/pipeline"
)

// RecordsConfig says what a Records takes and how.
type RecordsConfig struct {
	Source string // as users know it: a topic's partition
	// Format reads the lines; nil goes by the first of them.
	Format  *Format
	Options ParseOptions // of lines that are recognised
	// NewIdentify makes the Identify; nil leaves requests without an owner.
	NewIdentify func() Identify
	// Cursor and Cause resume where the store was left.
	Cursor []byte
	Cause  int64
	// MaxPending bounds the memory of lines that are not kept yet; 0 is 16 MiB.
	MaxPending int64
	Log        *zap.Logger
}

// Message is a record of a log that somebody else keeps, such as a partition of
// a Kafka topic: one line or several.
type Message struct {
	Offset int64
	Value  []byte
}

// Records reads the lines of messages that come in the order of their offsets.
// A request's Line is its message's offset. The Cursor of a block says which
// message comes behind it, and how many lines of that one are in it already, so
// that each line is stored once, wherever it stops.
//
// One goroutine calls Put, one Next and Close; the rest is for any.
type Records struct {
	inbox
	cfg    RecordsConfig
	kept   atomic.Int64 // offset behind what the store keeps; -1 unknown
	worker *worker
	format *Format
	at     mark // behind what was put
	known  bool // there is such a place
	end    int64
	warned time.Time
}

// mark is a place between two lines: lines of the message at offset are behind
// it already.
type mark struct{ offset, lines int64 }

// place is where a line is from, and what comes behind it.
type place struct {
	offset int64
	behind mark
	end    int64 // of history
}

const (
	recordsLines  = blockRequests // of a chunk
	recordsPeriod = 5 * time.Millisecond
)

// NewRecords makes a Records.
func NewRecords(cfg RecordsConfig) (*Records, error) {
	if cfg.MaxPending <= 0 {
		cfg.MaxPending = 16 << 20
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	r := &Records{cfg: cfg, format: cfg.Format}
	if err := r.open(cfg.Source, cfg.NewIdentify, position{Cause: cfg.Cause}, cfg.MaxPending); err != nil {
		return nil, err
	}
	r.kept.Store(-1)
	if len(cfg.Cursor) == 0 {
		return r, nil
	}
	at, end, ok := readMark(cfg.Cursor)
	if !ok {
		return nil, fmt.Errorf("read the cursor of %s: it is no place between messages", cfg.Source)
	}
	r.at, r.end, r.known = at, end, true
	r.last = append([]byte(nil), cfg.Cursor...)
	r.kept.Store(at.offset)
	return r, nil
}

func readMark(b []byte) (at mark, end int64, ok bool) {
	var v [3]int64
	for i := range v {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > 1<<62 {
			return mark{}, 0, false
		}
		v[i], b = int64(n), b[size:]
	}
	return mark{v[0], v[1]}, v[2], len(b) == 0
}

// Position is the offset of the message to put next; ok is false before the
// first one was ever put. It is for the goroutine that calls Put.
func (r *Records) Position() (offset int64, ok bool) { return r.at.offset, r.known }

// Kept is the offset behind the messages of which every line is in the store;
// ok is false before there are any.
func (r *Records) Kept() (offset int64, ok bool) {
	offset = r.kept.Load()
	return offset, offset >= 0
}

// Begin says where the first message ever put will be, and that those before end
// are history.
func (r *Records) Begin(offset, end int64) {
	if !r.known {
		r.at, r.end, r.known = mark{offset: offset}, end, true
	}
}

// Put reads messages, each behind the one before, and hands their lines on. It
// blocks while too much is not kept yet. Values are not referred to later. An
// error is the context's, or that of Close: messages may then be put again from
// Position on.
func (r *Records) Put(ctx context.Context, list []Message) error {
	c := r.pump.chunk(chunkSize)
	for _, m := range list {
		if r.known && m.Offset < r.at.offset {
			continue // known already
		}
		skip := int64(0)
		if m.Offset == r.at.offset {
			skip = r.at.lines
		}
		number, rest := int64(0), m.Value
		for len(rest) > 0 {
			line := rest
			if i := bytes.IndexByte(rest, '\n'); i >= 0 {
				line, rest = rest[:i], rest[i+1:]
			} else {
				rest = nil
			}
			if number++; number <= skip {
				continue
			}
			at := mark{m.Offset, number}
			if len(rest) == 0 {
				at = mark{offset: m.Offset + 1}
			}
			c.data = append(append(c.data, line[:min(len(line), lineLimit+lineSlack)]...), '\n')
			c.places = append(c.places, place{m.Offset, at, r.end})
			if len(c.places) == recordsLines || len(c.data) >= chunkSize {
				if err := r.hand(ctx, c); err != nil {
					return err
				}
				c = r.pump.chunk(chunkSize)
			}
		}
		if len(c.places) == 0 { // nothing waits: what is behind is this message
			r.at, r.known = mark{offset: m.Offset + 1}, true
		}
	}
	if len(c.places) == 0 {
		r.pump.put(c)
		return nil
	}
	return r.hand(ctx, c)
}

// hand parses a chunk and queues it once there is room.
func (r *Records) hand(ctx context.Context, c *chunk) error {
	c.lines, c.end = int64(len(c.places)), int64(len(c.data))
	f := r.recognised(c.data)
	if r.worker == nil || r.worker.p.format != f {
		r.worker = r.config(f).newWorker()
	}
	r.worker.parse(c)
	memory := c.memory() + int64(cap(c.places))*int64(unsafe.Sizeof(place{}))
	for !r.reserve(memory, 0) {
		t := time.NewTimer(recordsPeriod)
		select {
		case <-t.C:
		case <-ctx.Done():
		case <-r.closing:
		}
		t.Stop()
		if err := r.ended(ctx); err != nil {
			r.pump.put(c)
			return err
		}
	}
	c.reserved = memory
	r.at, r.known = c.places[len(c.places)-1].behind, true
	r.put([]*chunk{c})
	return nil
}

// ended tells whether waiting is over.
func (r *Records) ended(ctx context.Context) error {
	select {
	case <-r.closing:
		return errStopping
	default:
		return ctx.Err()
	}
}

// recognised is the format to read with. While none is known the stock one
// counts what comes as rejected.
func (r *Records) recognised(data []byte) *Format {
	if r.format != nil {
		return r.format
	}
	var lines [][]byte
	eachLine(data, func(line []byte, _ int) bool {
		lines = append(lines, line)
		return len(lines) < detectLines
	})
	d := Detect(lines, r.cfg.Options)
	if d.Format != nil {
		r.format = d.Format
		r.cfg.Log.Info("reading", zap.String("source", r.cfg.Source), zap.String("format", d.Chosen))
		return r.format
	}
	if time.Since(r.warned) >= warnEvery {
		r.warned = time.Now()
		r.cfg.Log.Warn("cannot tell the format yet", zap.String("source", r.cfg.Source), zap.String("problem", d.Problem), zap.String("remedy", d.Remedy))
	}
	if r.worker != nil {
		return r.worker.p.format
	}
	f := combinedFormat(r.cfg.Options)
	return &f
}

// place gives the lines of a block their offsets, and the block its cursor.
func (c *chunk) place(pc *piece) {
	for i := range pc.Requests {
		q := &pc.Requests[i]
		at := &c.places[q.Line-1]
		if q.Line = at.offset; at.offset < at.end {
			q.Flags |= pipeline.FlagBackfill
		}
	}
	for i := range pc.Rejects.Sample {
		s := &pc.Rejects.Sample[i]
		s.Line = c.places[s.Line-1].offset
	}
	last := &c.places[pc.line-2]
	pc.cursor = pc.cursor[:0]
	for _, v := range [...]int64{last.behind.offset, last.behind.lines, last.end} {
		pc.cursor = binary.AppendUvarint(pc.cursor, uint64(v))
	}
}

// Release says that a block is kept; see inbox.Release.
func (r *Records) Release(b *pipeline.Block) {
	if at, _, ok := readMark(b.Cursor); ok && b.Cause.From < b.Cause.To {
		r.kept.Store(max(r.kept.Load(), at.offset))
	}
	r.inbox.Release(b)
}

// Close ends Next, and Put where it waits.
func (r *Records) Close() error {
	r.close()
	return nil
}
