package packet

import (
	"weir/collector/capture"
	"weir/pipeline"
)

// Fragments of IP datagrams, until they are whole. A datagram that waits for too
// long, or one too many, makes room for others: an attacker can send parts of
// datagrams for ever.
const (
	maxDatagrams   = 1024
	maxParts       = 128
	maxWhole       = 1 << 16
	fragmentWithin = 30e6 // microseconds, as hosts wait
)

type fragKey struct {
	src, dst pipeline.Address
	id, vni  uint32
	proto    uint8 // of IPv4 only
	v4       bool
}

// part is the place of a fragment in its datagram.
type part struct{ from, to int }

type waiting struct {
	key   fragKey
	begun pipeline.Time
	proto uint8
	end   int // length of the datagram, -1 while its last fragment is missing
	parts []part
	data  []byte
	count int64
}

type fragments struct {
	tally  *capture.Tally
	memory *capture.Memory
	table  map[fragKey]*waiting
	order  []*waiting // the oldest first; nil where one is gone
	gone   int
}

func newFragments(tally *capture.Tally, memory *capture.Memory) fragments {
	return fragments{tally: tally, memory: memory, table: map[fragKey]*waiting{}}
}

// add takes a fragment. ok false: it was thrown away and counted. whole is the
// datagram when it is complete, and proto what it carries.
func (f *fragments) add(key fragKey, proto uint8, at int, more bool, b []byte, now pipeline.Time) (whole []byte, carries uint8, ok bool) {
	f.expire(now)
	if at+len(b) > maxWhole || more && len(b)%8 != 0 || len(b) == 0 {
		f.tally.Add(capture.LossFragment, int64(len(b)))
		return nil, 0, false
	}
	w := f.table[key]
	if w == nil {
		if len(f.table) >= maxDatagrams {
			f.oldest()
		}
		w = &waiting{key: key, begun: now, end: -1}
		f.table[key] = w
		f.order = append(f.order, w)
	}
	if len(w.parts) >= maxParts || !f.place(w, at, more, b) {
		f.tally.Add(capture.LossFragment, int64(len(b)))
		return nil, 0, false
	}
	if at == 0 {
		w.proto = proto
	}
	w.count++
	if !w.complete() {
		return nil, 0, true
	}
	f.drop(w, false)
	return w.data[:w.end], w.proto, true
}

// place copies the bytes of b that are not there yet: the first that came win.
func (f *fragments) place(w *waiting, at int, more bool, b []byte) bool {
	to := at + len(b)
	if !more {
		if w.end >= 0 && w.end != to {
			return false
		}
		w.end = to
	}
	if w.end >= 0 && to > w.end {
		return false
	}
	if to > len(w.data) {
		grow := to - len(w.data)
		if !f.memory.Take(int64(grow)) {
			return false
		}
		w.data = append(w.data, make([]byte, grow)...)
	}
	from := at
	differ := false
	for _, p := range w.parts {
		lo, hi := max(at, p.from), min(to, p.to)
		if lo < hi && string(w.data[lo:hi]) != string(b[lo-at:hi-at]) {
			differ = true
		}
	}
	if differ {
		f.tally.Add(capture.LossOverlap, int64(len(b)))
	}
	// Parts are in order and do not touch: copy what lies between them.
	var added []part
	for _, p := range w.parts {
		if p.from > from && from < to {
			added = append(added, part{from, min(p.from, to)})
		}
		from = max(from, p.to)
	}
	if from < to {
		added = append(added, part{from, to})
	}
	for _, a := range added {
		copy(w.data[a.from:a.to], b[a.from-at:a.to-at])
		w.insert(a)
	}
	return true
}

// insert keeps the parts in order and joins those that touch.
func (w *waiting) insert(a part) {
	i := 0
	for i < len(w.parts) && w.parts[i].from < a.from {
		i++
	}
	w.parts = append(w.parts, part{})
	copy(w.parts[i+1:], w.parts[i:])
	w.parts[i] = a
	out := w.parts[:1]
	for _, p := range w.parts[1:] {
		if last := &out[len(out)-1]; p.from <= last.to {
			last.to = max(last.to, p.to)
		} else {
			out = append(out, p)
		}
	}
	w.parts = out
}

func (w *waiting) complete() bool {
	return w.end >= 0 && len(w.parts) == 1 && w.parts[0].from == 0 && w.parts[0].to >= w.end
}

// expire gives up datagrams that have waited for too long.
func (f *fragments) expire(now pipeline.Time) {
	for len(f.order) > f.gone {
		w := f.order[f.gone]
		if w != nil && now-w.begun <= fragmentWithin {
			break
		}
		if w != nil {
			f.drop(w, true)
			continue
		}
		f.gone++
	}
	f.tidy()
}

func (f *fragments) oldest() {
	for len(f.order) > f.gone {
		if w := f.order[f.gone]; w != nil {
			f.drop(w, true)
			return
		}
		f.gone++
	}
}

// drop forgets w; lost says that it never became whole.
func (f *fragments) drop(w *waiting, lost bool) {
	delete(f.table, w.key)
	for i := f.gone; i < len(f.order); i++ {
		if f.order[i] == w {
			f.order[i] = nil
			break
		}
	}
	f.memory.Take(-int64(len(w.data)))
	if lost {
		// The parts were counted as fragments when they came; this says that they
		// were for nothing.
		f.tally.Bytes[capture.LossFragment] += int64(len(w.data))
	}
}

func (f *fragments) tidy() {
	if f.gone > 64 && f.gone > len(f.order)/2 {
		n := copy(f.order, f.order[f.gone:])
		clear(f.order[n:])
		f.order, f.gone = f.order[:n], 0
	}
}
