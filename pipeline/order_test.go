package pipeline

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestPlaceOrder: places lie in the order in which one process meets things, and
// so do their bytes.
func TestPlaceOrder(t *testing.T) {
	request := PlaceOfRequest
	r := request(59e6, 1<<48)
	s := r.Signal(0)
	want := []Place{
		{},
		Place{}.Control(0, 0), Place{}.Control(0, 1).Control(2, 2),
		request(-5, 0),
		request(0, 7),
		r,
		r.Finding(0, "00000000000000020000000000000000"), r.Finding(0, "0000000000000003ffffffffffffffff"), r.Finding(2, "00"),
		s, s.Emit(0), s.Emit(1),
		s.Sent(0), s.Sent(0).Emit(0), s.Sent(1),
		s.Sent(0).Sent(0), s.Sent(0).Sent(1), s.Sent(1).Sent(0), s.Sent(1).Sent(0).Emit(2),
		s.Sent(0).Sent(0).Sent(0), s.Sent(0).Sent(0).Sent(1).Emit(5),
		r.Signal(1), r.Signal(1).Sent(3),
		r.Signal(0x100),
		r.End(), r.End().Control(3, 7), r.End().Control(3, 7).Control(8, 8), r.End().Control(1<<40, 1<<40),
		request(59e6, 1<<48+1),
		request(59e6, 2<<48),
		PlaceOfNotice(60e6),
		PlaceOfTick(60e6, 10, "ff", 1), PlaceOfTick(60e6, 59e6, "01", 1), PlaceOfTick(60e6, 59e6, "0100000000000000", 2), PlaceOfTick(60e6, 59e6, "0200000000000000", 0),
		PlaceOfCrossTick(60e6, 3, 0), PlaceOfCrossTick(60e6, 3, 0).Emit(1), PlaceOfCrossTick(60e6, 3, 1), PlaceOfCrossTick(60e6, 300, 0),
		PlaceReached(60e6), PlaceReached(60e6).Control(9, 9), PlaceReached(60e6).Control(2, 10),
		request(60e6, 5), request(60e6, 5).Signal(3).Sent(0), request(60e6, 6),
		request(60e6, 7), request(60e6, 8).End(),
		PlaceOfNotice(61e6),
	}
	for i := 1; i < len(want); i++ {
		a, b := want[i-1], want[i]
		if !a.Before(b) || b.Before(a) || bytes.Compare(a[:], b[:]) != -1 || a.Compare(a) != 0 {
			t.Errorf("%d: %s is not before %s", i, a, b)
		}
		text, err := b.MarshalText()
		var again Place
		if err != nil || again.UnmarshalText(text) != nil || again != b {
			t.Errorf("%s is read back as %s (%v)", b, again, err)
		}
	}
	if first, last := r.End().Control(2, 2).Control(3, 7).Offsets(); first != 3 || last != 7 {
		t.Errorf("a control at [%d, %d], want [3, 7]", first, last)
	}
	if d := s.Sent(0).Sent(2).Depth(); d != 2 {
		t.Errorf("depth %d, want 2", d)
	}
	for _, c := range []struct {
		p    Place
		want Time
	}{{Place{}, NoTime}, {PlaceReached(60e6), 60e6}, {PlaceOfTick(60e6, 1, "", 0), 60e6 - 1}, {r.End(), 59e6}, {r.End().Control(1, 1), 59e6}, {Place{}.Control(1, 1), NoTime}} {
		if got := c.p.Through(); got != c.want || c.p.Time() < got {
			t.Errorf("%s is through %d, want %d", c.p, got, c.want)
		}
	}
}

// TestSlices: every virtual shard is in the slice whose range holds it.
func TestSlices(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 12, 64, 100, 4095, 4096} {
		next := 0
		for i := range n {
			from, to := SliceShards(i, n)
			if from != next || to <= from || to-from > Shards/n+1 {
				t.Fatalf("slice %d of %d is [%d, %d), behind %d", i, n, from, to, next)
			}
			next = to
			for shard := from; shard < to; shard++ {
				if got := SliceOf(uint16(shard), n); got != i {
					t.Fatalf("shard %d is in slice %d of %d, want %d", shard, got, n, i)
				}
			}
		}
		if next != Shards {
			t.Fatalf("%d slices end at %d", n, next)
		}
	}
}

// told is an item of the tests below.
type gathered struct {
	at   Place
	from Producer
	n    int
}

func numberPlace(n int) Place {
	return PlaceOfRequest(Time(n/4), uint64(n%4))
}

// TestGather: whatever the cuts, the repeats and the interleaving, what comes out
// is every item and every control once, in order, and a restart from a checkpoint goes
// on with it.
func TestGather(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const places = 400
		var producers []Producer
		for i := range 1 + rng.IntN(6) {
			producers = append(producers, Producer{StageDetect, uint16(i)})
		}
		var want []gathered
		items := map[Producer][]gathered{}
		ends, controls := []Place{{}}, []Place{} // where a span may end
		for n := 1; n < places; n++ {
			if n > 1 {
				ends = append(ends, numberPlace(n-1).End())
			}
			for rng.IntN(20) == 0 {
				p := ends[len(ends)-1].Control(int64(len(controls)), int64(len(controls)))
				ends, controls, want = append(ends, p), append(controls, p), append(want, gathered{at: p})
			}
			p := producers[rng.IntN(len(producers))]
			for k := range rng.IntN(3) {
				it := gathered{numberPlace(n).Signal(uint16(k)), p, len(want)}
				items[p] = append(items[p], it)
				want = append(want, it)
			}
		}
		// The log: each producer's spans in turn, cut anywhere, with repeats of older
		// ones and of the latest cut otherwise.
		var log []Bundle[gathered]
		sent := map[Producer]int{}
		ends = append(ends, numberPlace(places-1).End())
		last := len(ends) - 1
		say := func(p Producer, from, to int) {
			b := Bundle[gathered]{Spans: []Span{{Producer: p, From: ends[from], To: ends[to]}}}
			for _, c := range controls {
				if ends[from].Before(c) && !ends[to].Before(c) || rng.IntN(100) == 0 { // or one that others passed
					b.AddControl(c)
				}
			}
			for _, it := range items[p] {
				if b.Spans[0].From.Before(it.at) && it.at.Before(b.Spans[0].To) {
					b.Add(it, 0)
				}
			}
			log = append(log, b)
		}
		for open := slices.Clone(producers); len(open) > 0; {
			i := rng.IntN(len(open))
			p := open[i]
			from := sent[p]
			if rng.IntN(4) == 0 {
				from = rng.IntN(from + 1)
			}
			to := min(from+rng.IntN(60), last)
			if rng.IntN(8) == 0 {
				to = min(from+rng.IntN(last), last)
			}
			say(p, from, to)
			if sent[p] = max(sent[p], to); sent[p] == last {
				open = slices.Delete(open, i, i+1)
			}
		}
		bound := 0
		if seed%2 == 1 {
			bound = 1 + rng.IntN(40)
		}
		open := func() *Gather[gathered] {
			return NewGather(func(g *gathered) Place { return g.at }, producers, bound)
		}
		g := open()
		var got []gathered
		next := func() (reached Place) {
			for {
				if got, reached = g.Next(got); !g.Control() {
					return reached
				}
				got = append(got, gathered{at: reached})
			}
		}
		saved, savedLen := g.State(), 0
		largest := 0
		for at := int64(0); ; {
			if at < int64(len(log)) {
				if err := g.Push(at, &log[at]); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				largest = max(largest, len(log[at].Items))
				at++
			}
			if bound > 0 || rng.IntN(3) > 0 || at == int64(len(log)) {
				next()
			}
			if bound > 0 && g.Held() > bound+largest*len(producers) {
				t.Fatalf("seed %d: %d items wait where %d may", seed, g.Held(), bound)
			}
			if back, ok := g.Rewind(); ok {
				at = back
				continue
			}
			switch rng.IntN(20) {
			case 0:
				next()
				saved, savedLen = g.State(), len(got)
			case 1:
				// Killed: it goes on from the checkpoint.
				g, got, at = open(), got[:savedLen], saved.Position
				if err := g.Restore(saved); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if at >= int64(len(log)) {
				break
			}
		}
		reached := next()
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d items in order, want %d", seed, len(got), len(want))
		}
		if reached != ends[last] || g.Held() != 0 {
			t.Errorf("seed %d: reached %s with %d held", seed, reached, g.Held())
		}
	}
}

// TestGatherRefuses: a hole in what a producer sent is an error, and so is what no
// producer could have sent.
func TestGatherRefuses(t *testing.T) {
	a, b := Producer{StageDetect, 0}, Producer{StageResource, 3}
	at := numberPlace
	span := func(p Producer, from, to int, items ...int) Bundle[gathered] {
		x := Bundle[gathered]{Spans: []Span{{p, at(from), at(to)}}}
		for _, n := range items {
			x.Add(gathered{at: at(n)}, 0)
		}
		return x
	}
	first := span(a, 0, 8, 3, 8)
	first.Spans[0].From = Place{}
	for _, c := range []struct {
		name string
		next Bundle[gathered]
		want bool
	}{
		{"goes on", span(a, 8, 9, 9), true},
		{"overlaps", span(a, 4, 9, 8, 9), true},
		{"hole", span(a, 9, 12, 10), false},
		{"never started", span(b, 9, 12), false},
		{"stranger", span(Producer{StageLogin, 0}, 0, 12), false},
		{"item before its span", span(a, 8, 12, 7), false},
		{"item behind its span", span(a, 8, 12, 13), false},
		{"disorder", span(a, 8, 12, 11, 10), false},
		{"backwards", span(a, 12, 8), false},
		{"item of no span", Bundle[gathered]{Items: []gathered{{}}, Of: []uint16{0}}, false},
	} {
		g := NewGather(func(g *gathered) Place { return g.at }, []Producer{a, b}, 0)
		if err := g.Push(0, &first); err != nil {
			t.Fatal(err)
		}
		err := g.Push(1, &c.next)
		if (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
