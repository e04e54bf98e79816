package pipeline

import (
	"fmt"
	"slices"
)

// Gather puts what several producers send to one consumer into the one order of
// places. It gives out an item once every producer has said that it has nothing
// before it; skips what it has seen, whoever repeats it; and takes a hole between
// two spans of a producer for an error, since something would be lost. A control comes
// out between the items before and behind its place, once every producer has passed it.
//
// Memory is bounded: when as many items wait as the bound says, what comes of
// producers that are ahead is left in the log, to be read again from Rewind's
// position once those behind have come closer. Where Next follows every Push, no
// more than a span of each producer waits beside the bound. One goroutine uses a
// Gather.
type Gather[T any] struct {
	place   func(*T) Place
	index   map[Producer]int
	lanes   []lane[T]
	heap    []int // lanes that have something, the one with the first item on top
	bound   int
	held    int
	reached Place // given out up to here
	next    int64 // position behind the last bundle
	// Controls that wait, rising; met says that reached is the place of one.
	controls []Place
	met      bool
}

// lane is what one producer sent.
type lane[T any] struct {
	producer Producer
	mark     Place // taken up to here
	queue    []T
	head     int
	spans    []spanAt // those that end behind what was given out
	left     bool     // what follows mark was left in the log, from leftAt on
	leftAt   int64
}

type spanAt struct {
	position int64
	to       Place
}

// GapError says that something of a producer is missing.
type GapError struct {
	Producer   Producer
	Have, From Place
}

func (e *GapError) Error() string {
	return fmt.Sprintf("what %s sent between %s and %s is missing", e.Producer, e.Have, e.From)
}

// NewGather returns a Gather of what producers send, none of it taken yet; place
// is that of an item. bound is how many items may wait (0: 65,536).
func NewGather[T any](place func(*T) Place, producers []Producer, bound int) *Gather[T] {
	if bound <= 0 {
		bound = 1 << 16
	}
	g := &Gather[T]{place: place, bound: bound, index: map[Producer]int{}}
	for _, p := range producers {
		g.index[p] = len(g.lanes)
		g.lanes = append(g.lanes, lane[T]{producer: p})
	}
	return g
}

// Push takes the bundle at a position of the log; positions rise, except after
// Rewind. Of b it keeps the items. After an error nothing of the bundle that
// follows it is taken, and the Gather cannot go on.
func (g *Gather[T]) Push(position int64, b *Bundle[T]) error {
	if err := b.check(); err != nil {
		return err
	}
	g.next = position + 1
	for _, p := range b.Controls {
		if g.reached.Before(p) {
			g.controls = insertPlace(g.controls, p)
		}
	}
	lowest := g.limit()
	for i := range b.Spans {
		s := &b.Spans[i]
		n, ok := g.index[s.Producer]
		if !ok {
			return fmt.Errorf("%s: no such producer", s.Producer)
		}
		l := &g.lanes[n]
		switch {
		case s.To.Compare(l.mark) <= 0: // seen
		case l.left:
		case l.mark.Before(s.From):
			return &GapError{Producer: s.Producer, Have: l.mark, From: s.From}
		case g.held >= g.bound && lowest.Before(l.mark):
			l.left, l.leftAt = true, position
		default:
			if err := g.take(n, position, i, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// take takes span i of b into lane n.
func (g *Gather[T]) take(n int, position int64, i int, b *Bundle[T]) error {
	s, l := &b.Spans[i], &g.lanes[n]
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
	}
	empty := len(l.queue) == 0
	last := s.From
	for j := range b.Items {
		if int(b.Of[j]) != i {
			continue
		}
		p := g.place(&b.Items[j])
		if p.Before(last) || s.To.Before(p) {
			return fmt.Errorf("%s: an item at %s, behind %s, in a span from %s to %s", s.Producer, p, last, s.From, s.To)
		}
		last = p
		if l.mark.Before(p) {
			l.queue = append(l.queue, b.Items[j])
			g.held++
		}
	}
	l.mark = s.To
	l.spans = append(l.spans, spanAt{position, s.To})
	if empty && len(l.queue) > 0 {
		g.heap = append(g.heap, n)
		g.up(len(g.heap) - 1)
	}
	return nil
}

// limit is the place up to which every producer has said all.
func (g *Gather[T]) limit() Place {
	var p Place
	for i := range g.lanes {
		if i == 0 || g.lanes[i].mark.Before(p) {
			p = g.lanes[i].mark
		}
	}
	return p
}

// Reached is the place up to which everything was given out.
func (g *Gather[T]) Reached() Place { return g.reached }

// Held is how many items wait.
func (g *Gather[T]) Held() int { return g.held }

// Next appends to dst what can be given out now, in order, and returns it with the
// place up to which that is all there is. At a control it stops: then Control is true,
// and Next is called again once the control has taken effect.
func (g *Gather[T]) Next(dst []T) ([]T, Place) {
	g.reached = g.limit()
	if g.met = len(g.controls) > 0 && g.controls[0].Compare(g.reached) <= 0; g.met {
		g.reached = g.controls[0]
		g.controls = slices.Delete(g.controls, 0, 1)
	}
	for len(g.heap) > 0 {
		n := g.heap[0]
		l := &g.lanes[n]
		if p := g.place(&l.queue[l.head]); g.reached.Before(p) {
			break
		}
		dst = append(dst, l.queue[l.head])
		var none T
		l.queue[l.head] = none
		l.head++
		g.held--
		if l.head == len(l.queue) {
			l.queue, l.head = l.queue[:0], 0
			last := len(g.heap) - 1
			g.heap[0] = g.heap[last]
			g.heap = g.heap[:last]
		}
		g.down()
	}
	for i := range g.lanes {
		l := &g.lanes[i]
		done := 0
		for done < len(l.spans) && l.spans[done].to.Compare(g.reached) <= 0 {
			done++
		}
		l.spans = slices.Delete(l.spans, 0, done)
		if l.head > 1024 && l.head > len(l.queue)/2 {
			l.queue = slices.Delete(l.queue, 0, l.head)
			l.head = 0
		}
	}
	return dst, g.reached
}

// Control reports whether the last Next stopped at a control; its place is what Next
// returned.
func (g *Gather[T]) Control() bool { return g.met }

// Rewind returns the position from which the log has to be read again, since
// bundles were left there for which there is room now, or on which all else waits.
func (g *Gather[T]) Rewind() (position int64, ok bool) {
	room, limit := g.held <= g.bound/2, g.limit()
	for i := range g.lanes {
		l := &g.lanes[i]
		room = room || l.left && l.mark == limit
		if l.left && (!ok || l.leftAt < position) {
			position, ok = l.leftAt, true
		}
	}
	if !ok || !room {
		return 0, false
	}
	for i := range g.lanes {
		g.lanes[i].left = false
	}
	return position, true
}

// first orders lanes by their first item; equal places by producer.
func (g *Gather[T]) first(i, j int) bool {
	a, b := &g.lanes[g.heap[i]], &g.lanes[g.heap[j]]
	c := g.place(&a.queue[a.head]).Compare(g.place(&b.queue[b.head]))
	return c < 0 || c == 0 && g.heap[i] < g.heap[j]
}

func (g *Gather[T]) up(i int) {
	for i > 0 && g.first(i, (i-1)/2) {
		g.heap[i], g.heap[(i-1)/2] = g.heap[(i-1)/2], g.heap[i]
		i = (i - 1) / 2
	}
}

func (g *Gather[T]) down() {
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(g.heap); c++ {
			if g.first(c, least) {
				least = c
			}
		}
		if least == i {
			return
		}
		g.heap[i], g.heap[least] = g.heap[least], g.heap[i]
		i = least
	}
}

// GatherState is a Gather in a checkpoint: what was given out, and from which
// position on the log has to be read again. What waited is not in it.
type GatherState struct {
	Reached  Place      `json:"reached"`
	Position int64      `json:"position"`
	Marks    []SpanMark `json:"marks"`
}

// SpanMark is how far a producer's items were taken.
type SpanMark struct {
	Producer
	Mark Place `json:"mark"`
}

// State returns g's state after the last Next.
func (g *Gather[T]) State() GatherState {
	st := GatherState{Reached: g.reached, Position: g.next}
	for i := range g.lanes {
		l := &g.lanes[i]
		mark := l.mark
		if g.reached.Before(mark) {
			mark = g.reached
		}
		if len(l.spans) > 0 {
			st.Position = min(st.Position, l.spans[0].position)
		}
		if l.left {
			st.Position = min(st.Position, l.leftAt)
		}
		st.Marks = append(st.Marks, SpanMark{l.producer, mark})
	}
	return st
}

// Restore makes g, which must be new, go on from st. The log is read from
// st.Position on.
func (g *Gather[T]) Restore(st GatherState) error {
	g.reached, g.next = st.Reached, st.Position
	for _, m := range st.Marks {
		n, ok := g.index[m.Producer]
		if !ok {
			return fmt.Errorf("%s: no such producer", m.Producer)
		}
		g.lanes[n].mark = m.Mark
	}
	return nil
}
