package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	// DedupeSources is how many sources can show copies of one request.
	DedupeSources = 8
	dedupeSlots   = 1 << 17 // of a generation; two are kept
	dedupeAge     = 10 * time.Minute
)

// Dedupe tells copies of a request that several sources show (load balancer,
// ingress, application) by its request id. It counts how often each source shows
// an id: the n-th sighting of a source is a copy when another source showed the
// id n times already. So a request counts once whichever source is first, and a
// client that sends one id again and again hides nothing.
//
// Ids are remembered for ten minutes of event time, or as long as there is room:
// one that is forgotten counts again. Memory is fixed. What it says depends on
// the requests in their order alone. One goroutine uses a Dedupe.
type Dedupe struct {
	place  map[uint64]int // of a source in an entry
	gen    [2][]dedupeEntry
	used   [2]int
	turn   int // the generation that is written
	since  Time
	copies int64
}

type dedupeEntry struct {
	Key  uint64 // 0: free
	Seen [DedupeSources]uint8
}

// NewDedupe makes a Dedupe over sources, of which DedupeSources count.
func NewDedupe(sources []uint64) *Dedupe {
	d := &Dedupe{since: NoTime}
	d.SetSources(sources)
	for i := range d.gen {
		d.gen[i] = make([]dedupeEntry, dedupeSlots)
	}
	return d
}

// SetSources changes the sources; what is remembered stays.
func (d *Dedupe) SetSources(sources []uint64) {
	d.place = map[uint64]int{}
	for i, id := range sources[:min(len(sources), DedupeSources)] {
		d.place[id] = i
	}
}

// Copies is how many copies there were.
func (d *Dedupe) Copies() int64 { return d.copies }

// Copy reports whether r is a copy; it is asked once for every request, in
// order.
func (d *Dedupe) Copy(r *Request, source uint64) bool {
	i, ok := d.place[source]
	if !ok || r.RequestID == "" {
		return false
	}
	if d.since == NoTime {
		d.since = r.Effective
	}
	if d.used[d.turn] >= dedupeSlots*3/4 || r.Effective.Sub(d.since) > dedupeAge {
		d.turn ^= 1
		clear(d.gen[d.turn])
		d.used[d.turn], d.since = 0, r.Effective
	}
	// Hops rewrite paths and hosts; the method stays.
	key := Mix64(Hash64(r.RequestID), uint64(r.Verb)) | 1
	e, old := d.find(d.turn, key), d.find(d.turn^1, key)
	if e.Key == 0 {
		*e = dedupeEntry{Key: key}
		if old.Key == key {
			e.Seen = old.Seen
		}
		d.used[d.turn]++
	}
	most := uint8(0)
	for _, n := range e.Seen {
		most = max(most, n)
	}
	if e.Seen[i] == 255 {
		return false
	}
	e.Seen[i]++
	if e.Seen[i] <= most {
		d.copies++
		return true
	}
	return false
}

// find returns the entry of key, or the free one where it belongs.
func (d *Dedupe) find(gen int, key uint64) *dedupeEntry {
	for i := key >> 1; ; i++ {
		e := &d.gen[gen][i%dedupeSlots]
		if e.Key == key || e.Key == 0 {
			return e
		}
	}
}

// AppendState appends what d remembers, for a checkpoint.
func (d *Dedupe) AppendState(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, uint64(d.since))
	dst = le.AppendUint64(dst, uint64(d.copies))
	dst = le.AppendUint32(dst, uint32(d.turn))
	for g := range d.gen {
		dst = le.AppendUint32(dst, uint32(d.used[g]))
		for i := range d.gen[g] {
			if e := &d.gen[g][i]; e.Key != 0 {
				dst = le.AppendUint64(dst, e.Key)
				dst = append(dst, e.Seen[:]...)
			}
		}
	}
	return dst
}

// RestoreState makes d what it was at AppendState.
func (d *Dedupe) RestoreState(b []byte) error {
	le := binary.LittleEndian
	fresh := NewDedupe(nil)
	fresh.place = d.place
	if len(b) < 20 {
		return errors.New("read dedupe state: it is cut")
	}
	fresh.since, fresh.copies, fresh.turn = Time(le.Uint64(b)), int64(le.Uint64(b[8:])), int(le.Uint32(b[16:]))
	if fresh.turn > 1 {
		return errors.New("read dedupe state: no such generation")
	}
	b = b[20:]
	const size = 8 + DedupeSources
	for g := range fresh.gen {
		if len(b) < 4 {
			return errors.New("read dedupe state: it is cut")
		}
		n := int(le.Uint32(b))
		b = b[4:]
		if n > dedupeSlots*3/4 || len(b) < n*size {
			return fmt.Errorf("read dedupe state: %d ids in %d bytes", n, len(b))
		}
		for range n {
			key := le.Uint64(b)
			e := fresh.find(g, key)
			if key == 0 || e.Key != 0 {
				return errors.New("read dedupe state: an id is there twice")
			}
			e.Key = key
			copy(e.Seen[:], b[8:])
			b = b[size:]
		}
		fresh.used[g] = n
	}
	*d = *fresh
	return nil
}
