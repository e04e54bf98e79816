package pipeline

import (
	"container/heap"
	"time"
)

// A time that runs ahead of its source by more than jumpAhead counts only once
// the next jumpVotes lines agree, each by being no more than jumpAhead before
// it. At the end of a source, where no line can agree, one of up to jumpPause is
// a log that paused.
const (
	jumpAhead = time.Hour
	jumpVotes = 2
	jumpPause = 24 * time.Hour
)

// mergeLimit bounds the times that order anything, so that sums stay in range;
// it is some 70,000 years away from any real stamp.
const mergeLimit Time = 1 << 61

// Ordered is a request in its place, with the block that owns its memory.
type Ordered struct {
	*Request
	Block *Block
}

// Merge puts the requests of several sources into one order by effective
// time, and is the only place where that order is decided. Within a source the
// source's own order holds, once lines are sorted within the lateness; ties go
// to the source that was added first. What comes out depends on the blocks, the
// lateness and the order of AddSource alone: not on how the input was cut into
// blocks, nor on any clock. One goroutine uses a Merge.
type Merge struct {
	lateness time.Duration
	bound    int // requests held before the lowest source is released
	sources  []*mergeSource
	index    map[uint64]int
	disorder map[uint64]time.Duration // lateness of sources that have their own
	held     int
	late     int64
	skewed   int64
	released Time // effective time of the last request given out
	done     []*Block
}

type mergeSource struct {
	id      uint64
	late    time.Duration // its own lateness, where it is more than the common one
	max     Time          // highest accepted own time
	eff     Time          // effective time of the last released line
	arrival uint64
	pending []heldRequest // a jump ahead, then what came behind it; jumpVotes+1 at most
	run     []heldRequest // inside the lateness, as they came in order
	from    int           // first of run that waits
	heap    arrivalHeap   // and those that came out of order
	ready   []heldRequest // effective time set, in order
	head    int
	idle    bool // said that it has nothing: do not wait for it
	until   Time // event time it said so for; MaxTime when that is not known
	ended   bool
}

type heldRequest struct {
	Ordered
	at      Time
	arrival uint64
}

type arrivalHeap []heldRequest

func (h arrivalHeap) Len() int { return len(h) }
func (h arrivalHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].arrival < h[j].arrival
}
func (h arrivalHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *arrivalHeap) Push(x any)   { *h = append(*h, x.(heldRequest)) }
func (h *arrivalHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = heldRequest{}
	*h = old[:len(old)-1]
	return x
}

// NewMerge returns an empty merge. Lines of a source are sorted within
// lateness; bound is how many requests may wait for a slower source before
// that source's later ones count as late (0: 262,144).
func NewMerge(lateness time.Duration, bound int) *Merge {
	if bound == 0 {
		bound = 1 << 18
	}
	return &Merge{lateness: lateness, bound: bound, index: map[uint64]int{}, released: NoTime}
}

// AddSource declares a source that Next waits for. Adding it twice is harmless.
func (m *Merge) AddSource(id uint64) {
	if _, ok := m.index[id]; ok {
		return
	}
	m.index[id] = len(m.sources)
	m.sources = append(m.sources, &mergeSource{id: id, late: m.disorder[id], max: NoTime, eff: NoTime})
}

// Late returns how many requests came after their place in the order, and how
// many carried a time ahead of all their neighbours.
func (m *Merge) Late() (late, skewed int64) { return m.late, m.skewed }

// Held returns how many requests wait.
func (m *Merge) Held() int { return m.held }

// Push takes a block of a source. The block's memory must stay as it is until
// all its requests came out of Next.
func (m *Merge) Push(b *Block) {
	m.AddSource(b.SourceID)
	s := m.sources[m.index[b.SourceID]]
	s.ready, s.head = compact(s.ready, s.head)
	if len(b.Requests) > 0 {
		s.idle = false
		m.held += len(b.Requests)
		b.held = len(b.Requests)
	} else {
		m.done = append(m.done, b)
	}
	for i := range b.Requests {
		s.push(m, Ordered{&b.Requests[i], b})
	}
	if b.Watermark != NoTime {
		s.flush(m, b.Watermark)
		s.idle, s.until = true, b.Watermark
	}
}

// Silence says that nothing is to be expected of a source: its own lines are put in
// their places, and Next does not wait for it until its next block. One that is
// not known stays so.
func (m *Merge) Silence(id uint64) {
	i, ok := m.index[id]
	if !ok {
		return
	}
	s := m.sources[i]
	s.flush(m, MaxTime)
	s.idle, s.until = true, MaxTime
}

// SetLateness changes the lateness for what is pushed from now on.
func (m *Merge) SetLateness(d time.Duration) {
	m.lateness = d
	if d == 0 {
		for _, s := range m.sources {
			if s.late == 0 {
				s.empty()
			}
		}
	}
}

// SetSourceLateness gives a source, which need not be there yet, a lateness of
// its own: the larger of the two counts for what it pushes from now on.
func (m *Merge) SetSourceLateness(id uint64, d time.Duration) {
	if m.disorder == nil {
		m.disorder = map[uint64]time.Duration{}
	}
	m.disorder[id] = d
	if i, ok := m.index[id]; ok {
		s := m.sources[i]
		if s.late = d; d == 0 && m.lateness == 0 {
			s.empty()
		}
	}
}

// Clock returns the event time that all sources have reached without a request,
// when all of them say that they are idle; ok is false otherwise.
func (m *Merge) Clock() (now Time, ok bool) {
	now = MaxTime
	for _, s := range m.sources {
		if s.ended {
			continue
		}
		if !s.idle {
			return 0, false
		}
		now = min(now, s.until)
	}
	return now, now != MaxTime && m.held == 0
}

// End says that the source has no more: Next no longer waits for it.
func (m *Merge) End(id uint64) {
	m.AddSource(id)
	s := m.sources[m.index[id]]
	s.flush(m, NoTime)
	s.ended = true
}

func (s *mergeSource) push(m *Merge, o Ordered) {
	h := heldRequest{o, min(max(o.Time, -mergeLimit), mergeLimit), s.arrival}
	s.arrival++
	if len(s.pending) == 0 && s.max != NoTime && h.at.Sub(s.max) <= jumpAhead {
		s.place(m, h)
		return
	}
	s.pending = append(s.pending, h)
	for len(s.pending) > 0 && s.settle(m, false) {
	}
}

// settle places the first pending request if the lines behind it say enough
// about its time; certain says that what they say will have to do.
func (s *mergeSource) settle(m *Merge, certain bool) bool {
	h, behind := s.pending[0], s.pending[1:]
	behind = behind[:min(len(behind), jumpVotes)]
	before := 0 // lines behind it that contradict it
	for _, b := range behind {
		if h.at.Sub(b.at) > jumpAhead {
			before++
		}
	}
	skewed, to := false, s.max
	switch {
	case s.max == NoTime:
		// The first line has nothing before it: it is odd if all behind it are
		// far below.
		if len(behind) < jumpVotes && !certain {
			return false
		}
		if skewed = before > 0 && before == len(behind); skewed {
			to = behind[0].at
		}
	case h.at.Sub(s.max) <= jumpAhead:
	case before > 0:
		skewed = true
	case len(behind) < jumpVotes:
		if !certain {
			return false
		}
		skewed = true
	}
	if skewed {
		h.at = to
		h.Flags |= FlagSkew
		m.skewed++
	}
	s.pending = append(s.pending[:0], s.pending[1:]...)
	s.place(m, h)
	return true
}

// believe takes the pending times that lie no further than to as they are.
func (s *mergeSource) believe(m *Merge, to Time) {
	for len(s.pending) > 0 && s.max != NoTime && s.pending[0].at <= to {
		h := s.pending[0]
		s.pending = append(s.pending[:0], s.pending[1:]...)
		s.place(m, h)
	}
}

func (s *mergeSource) place(m *Merge, h heldRequest) {
	s.max = max(s.max, h.at)
	lateness := max(m.lateness, s.late)
	if lateness == 0 {
		s.release(h)
		return
	}
	if n := len(s.run); n == s.from || h.at >= s.run[n-1].at {
		s.run = append(s.run, h)
	} else {
		heap.Push(&s.heap, h)
	}
	limit := s.max.Add(-lateness)
	for s.waits() > 0 && (s.lowest() < limit || s.waits() > m.bound) {
		s.release(s.pop())
	}
	s.eff = max(s.eff, limit) // a line that comes even later is put here
}

func (s *mergeSource) release(h heldRequest) {
	s.eff = max(s.eff, h.at)
	h.Effective = s.eff
	s.ready = append(s.ready, h)
}

// flush puts everything that waits in its place. reached is how far the source
// says that its event time has come: MaxTime when it does not know, NoTime when
// it has ended.
func (s *mergeSource) flush(m *Merge, reached Time) {
	for len(s.pending) > 0 {
		switch {
		case s.max == NoTime:
		case reached == NoTime:
			s.believe(m, s.max.Add(jumpPause))
		case reached != MaxTime:
			s.believe(m, min(reached, mergeLimit).Add(jumpAhead))
		}
		if len(s.pending) > 0 {
			s.settle(m, true)
		}
	}
	s.empty()
}

// empty releases what waits within the lateness.
func (s *mergeSource) empty() {
	for s.waits() > 0 {
		s.release(s.pop())
	}
}

// waits is how many requests wait within the lateness.
func (s *mergeSource) waits() int { return len(s.run) - s.from + len(s.heap) }

// fromHeap reports whether the first of them in order is the heap's.
func (s *mergeSource) fromHeap() bool {
	if len(s.heap) == 0 || s.from == len(s.run) {
		return len(s.heap) > 0
	}
	a, b := &s.heap[0], &s.run[s.from]
	return a.at < b.at || a.at == b.at && a.arrival < b.arrival
}

func (s *mergeSource) lowest() Time {
	if s.fromHeap() {
		return s.heap[0].at
	}
	return s.run[s.from].at
}

func (s *mergeSource) pop() heldRequest {
	if s.fromHeap() {
		return heap.Pop(&s.heap).(heldRequest)
	}
	h := s.run[s.from]
	s.run[s.from] = heldRequest{} // it would hold a block until the list is compacted
	s.from++
	s.run, s.from = compact(s.run, s.from)
	return h
}

// compact gives back the room in front of from once it is half of list, which
// may never run empty: a source can always be ahead of another.
func compact(list []heldRequest, from int) ([]heldRequest, int) {
	switch {
	case from == len(list):
		return list[:0], 0
	case from < 1024 || from < len(list)/2:
		return list, from
	}
	n := copy(list, list[from:])
	clear(list[n:])
	return list[:n], 0
}

// Next appends to dst every request whose place is certain, in order, and
// returns dst.
func (m *Merge) Next(dst []Ordered) []Ordered {
	if len(m.sources) == 1 {
		s := m.sources[0]
		for _, h := range s.ready[s.head:] {
			dst = m.give(dst, h)
		}
		s.ready, s.head = s.ready[:0], 0
		return dst
	}
	for {
		best, blocked := -1, false
		for i, s := range m.sources {
			if s.head == len(s.ready) {
				continue
			}
			if best < 0 || s.ready[s.head].Effective < m.sources[best].ready[m.sources[best].head].Effective {
				best = i
			}
		}
		if best < 0 {
			return dst
		}
		at := m.sources[best].ready[m.sources[best].head].Effective
		for i, s := range m.sources {
			if s.head < len(s.ready) || s.ended || s.idle {
				continue
			}
			if s.eff < at || (s.eff == at && i < best) { // nothing below s.eff comes from s
				blocked = true
				break
			}
		}
		if blocked && m.held <= m.bound {
			return dst
		}
		s := m.sources[best]
		dst = m.give(dst, s.ready[s.head])
		s.ready[s.head] = heldRequest{}
		s.head++
		if s.head == len(s.ready) {
			s.ready, s.head = s.ready[:0], 0
		}
	}
}

func (m *Merge) give(dst []Ordered, h heldRequest) []Ordered {
	if h.Effective < m.released {
		h.Effective = m.released
		h.Flags |= FlagLate
		m.late++
	}
	m.released = h.Effective
	m.held--
	if h.Block.held--; h.Block.held == 0 {
		m.done = append(m.done, h.Block)
	}
	return append(dst, h.Ordered)
}

// Done appends the blocks whose requests all came out of Next since the last
// call: once those requests are dealt with, nothing needs the blocks' memory.
func (m *Merge) Done(dst []*Block) []*Block {
	dst = append(dst, m.done...)
	clear(m.done)
	m.done = m.done[:0]
	return dst
}

// Wants returns the source whose next block is needed to go on: the one that
// holds the others back. ok is false when no source is open.
func (m *Merge) Wants() (id uint64, ok bool) {
	var best *mergeSource
	for _, s := range m.sources {
		if s.ended {
			continue
		}
		if best == nil || s.eff < best.eff {
			best = s
		}
	}
	if best == nil {
		return 0, false
	}
	return best.id, true
}
