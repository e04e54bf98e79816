package main

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"
)

// Plan says what to generate.
type Plan struct {
	Lines, Clients, Distinct, Attackers int
	Seed                                uint64
	Start                               time.Time
	Span                                time.Duration
	JSON                                bool // objects instead of combined lines
}

func (p Plan) validate() error {
	switch {
	case p.Lines < 1:
		return errors.New("-lines must be at least 1")
	case p.Clients < 1 || p.Clients > 1<<24:
		return errors.New("-clients must be from 1 to 16777216")
	case p.Attackers < 0 || p.Attackers > 64:
		return errors.New("-attackers must be from 0 to 64")
	case p.Distinct < 0 || p.Distinct > p.Lines:
		return errors.New("-distinct-addresses must not exceed -lines: each needs a line of its own")
	case p.Distinct > 1<<30:
		return errors.New("-distinct-addresses must not exceed 1073741824")
	case p.Span < time.Second:
		return errors.New("-span must be at least 1s")
	}
	return nil
}

const linesPerVisit = 23.5 // measured mean of visit; paces arrivals

// actor is one client at work: a visitor in one visit, or an attacker. next is
// microseconds since the start.
type actor struct {
	next   int64
	order  uint64 // breaks ties, so that output does not depend on the heap
	client uint32
	kind   actorKind
	pages  int // a visitor's pages to go; an attacker's requests to go
	assets int // still to fetch for the page in hand
	step   int // what was done so far
	known  int // assets already in the browser's cache
	user   int // an account, 0 none
	gap    int64
	page   page
}

type actorKind uint8

const (
	visitor actorKind = iota
	scanner
	loginLoop
	crawler
	idWalk
	actorKinds
)

type actorHeap []*actor

func (h actorHeap) Len() int { return len(h) }
func (h actorHeap) Less(i, j int) bool {
	return h[i].next < h[j].next || h[i].next == h[j].next && h[i].order < h[j].order
}
func (h actorHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *actorHeap) Push(x any)   { *h = append(*h, x.(*actor)) }
func (h *actorHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	*h = old[:len(old)-1]
	return a
}

// generator plays a Plan, one line at a time. One goroutine uses it.
type generator struct {
	plan     Plan
	rnd      *rand.Rand
	visitors *rand.Zipf
	products *rand.Zipf
	scheme   addressScheme
	queue    actorHeap
	free     []*actor
	arrival  int64 // of the next visit
	every    float64
	order    uint64
	single   int // addresses of -distinct-addresses used
	lines    int
	now      int64
	second   int64
	stamp    []byte
	truth    []attack
}

// attack is the ground truth of one attacker.
type attack struct {
	kind        actorKind
	client      uint32
	first, last int64 // microseconds since the start
	requests    int
}

func newGenerator(p Plan) *generator {
	r := rand.New(rand.NewPCG(p.Seed, 0x77656972))
	g := &generator{
		plan:     p,
		rnd:      r,
		visitors: rand.NewZipf(r, 1.1, 20+float64(p.Clients)/20, uint64(p.Clients-1)),
		products: rand.NewZipf(r, 1.2, 30, productCount-1),
		scheme:   schemeFor(p.Clients + p.Attackers + p.Distinct),
		second:   -1,
	}
	attackLines := 0
	for i := range p.Attackers {
		a := g.newAttacker(i)
		attackLines += a.pages
		heap.Push(&g.queue, a)
		g.truth = append(g.truth, attack{kind: a.kind, client: a.client, first: -1})
	}
	visits := float64(max(1, p.Lines-attackLines-p.Distinct)) / linesPerVisit
	g.every = float64(p.Span.Microseconds()) / max(1, visits)
	return g
}

// newAttacker makes the i-th attacker. Each sends a bounded share of the lines.
func (g *generator) newAttacker(i int) *actor {
	kind := scanner + actorKind(i)%(actorKinds-scanner)
	wanted := [actorKinds]int{scanner: 2400, loginLoop: 600, crawler: 1800, idWalk: 900}[kind]
	n := min(wanted, max(1, g.plan.Lines/(4*g.plan.Attackers)))
	span := g.plan.Span.Microseconds()
	g.order++
	a := &actor{
		kind: kind, order: g.order, client: uint32(g.plan.Clients + i), pages: n,
		next: span/10 + int64(g.rnd.Uint64N(uint64(span/4+1))),
		user: int(g.rnd.Uint64N(uint64(3 * g.plan.Clients))),
	}
	// Quick ones last minutes, the walk and the login loop half of the log.
	a.gap = 150_000
	if kind == loginLoop || kind == idWalk {
		a.gap = max(300_000, span/2/int64(n))
	}
	return a
}

// visit starts a visit of a visitor drawn by popularity.
func (g *generator) visit() *actor {
	var a *actor
	if n := len(g.free); n > 0 {
		a, g.free = g.free[n-1], g.free[:n-1]
	} else {
		a = new(actor)
	}
	g.order++
	*a = actor{
		next: g.arrival, order: g.order, client: uint32(g.visitors.Uint64()),
		pages: 1 + int(g.exp(4)), user: 0,
	}
	if g.rnd.Uint64N(5) == 0 {
		a.user = int(a.client) + 1
	}
	return a
}

func (g *generator) exp(mean float64) float64 { return g.rnd.ExpFloat64() * mean }

// think is a log-normal pause between pages: median 9 s.
func (g *generator) think() int64 { return int64(9e6 * math.Exp(g.rnd.NormFloat64())) }

// WriteLog writes the plan's lines to w in order of time.
func (g *generator) WriteLog(w io.Writer) error {
	buf := make([]byte, 0, 1<<20+4096)
	var line []byte
	for g.lines < g.plan.Lines {
		if g.plan.JSON {
			line = g.appendNext(line[:0])
			buf = appendJSON(buf, line)
		} else {
			buf = g.appendNext(buf)
		}
		if len(buf) >= 1<<20 {
			if _, err := w.Write(buf); err != nil {
				return fmt.Errorf("write log: %w", err)
			}
			buf = buf[:0]
		}
	}
	if _, err := w.Write(buf); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	return nil
}

// appendNext appends the next line.
func (g *generator) appendNext(buf []byte) []byte {
	g.lines++
	if int64(g.single)*int64(g.plan.Lines) < int64(g.lines)*int64(g.plan.Distinct) {
		g.single++
		return g.appendSingle(buf)
	}
	for len(g.queue) == 0 || g.arrival <= g.queue[0].next {
		heap.Push(&g.queue, g.visit())
		g.arrival += 1 + int64(g.exp(g.every))
	}
	a := g.queue[0]
	g.now = a.next
	buf = g.appendRequest(buf, a)
	if a.kind != visitor {
		t := &g.truth[a.client-uint32(g.plan.Clients)]
		if t.first < 0 {
			t.first = g.now
		}
		t.last, t.requests = g.now, t.requests+1
	}
	if a.pages <= 0 && a.assets <= 0 {
		heap.Pop(&g.queue)
		if a.kind == visitor {
			g.free = append(g.free, a)
		}
		return buf
	}
	heap.Fix(&g.queue, 0)
	return buf
}
