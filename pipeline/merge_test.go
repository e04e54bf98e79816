package pipeline

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Times in these tests are minutes after mergeStart unless they say otherwise.
var mergeStart = TimeOf(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

var (
	year0001 = TimeOf(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
	year9999 = TimeOf(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
)

func minutes(list ...float64) []Time {
	out := make([]Time, len(list))
	for i, m := range list {
		out[i] = mergeStart + Time(m*60e6)
	}
	return out
}

// blockOf makes a block of one source; lines continue at line.
func blockOf(source uint64, line int64, times ...Time) *Block {
	b := &Block{Source: "s" + strconv.FormatUint(source, 10), SourceID: source, Watermark: NoTime}
	for i, t := range times {
		b.Requests = append(b.Requests, Request{Time: t, Line: line + int64(i)})
	}
	return b
}

func heartbeat(source uint64, reached Time) *Block {
	return &Block{SourceID: source, Watermark: reached}
}

// out is what a request came to, without its memory.
type out struct {
	Source string
	Line   int64
	Own    Time
	At     Time
	Flags  RequestFlags
}

func outs(list []Ordered) []out {
	var got []out
	for _, o := range list {
		got = append(got, out{o.Block.Source, o.Line, o.Time, o.Effective, o.Flags})
	}
	return got
}

// step is one call on a Merge.
type step func(*Merge)

func push(b *Block) step     { return func(m *Merge) { m.Push(b) } }
func end(source uint64) step { return func(m *Merge) { m.End(source) } }

// play runs steps, taking what is ready after each.
func play(m *Merge, steps ...step) []out {
	var got []Ordered
	for _, s := range steps {
		s(m)
		got = m.Next(got)
	}
	return outs(got)
}

// describe writes effective times as minutes, with what happened to each.
func describe(list []out) string {
	s := ""
	for _, o := range list {
		switch o.At {
		case year9999:
			s += " 9999"
		case year0001:
			s += " 0001"
		default:
			s += " " + strconv.FormatFloat(float64(o.At-mergeStart)/60e6, 'f', -1, 64)
		}
		if o.Flags&FlagSkew != 0 {
			s += "!"
		}
		if o.Flags&FlagLate != 0 {
			s += "L"
		}
	}
	if s == "" {
		return ""
	}
	return s[1:]
}

// TestMergeOneSource says what the lines of one source come to. In want "!"
// marks a time that was not believed.
func TestMergeOneSource(t *testing.T) {
	day := 24 * 60.0
	cases := []struct {
		name     string
		lateness time.Duration
		own      []Time
		last     step
		want     string
	}{
		{"nothing", 0, nil, end(1), ""},
		{"one line", 0, minutes(3), end(1), "3"},
		{"in order", 0, minutes(0, 1, 1, 2), end(1), "0 1 1 2"},
		{"going back keeps the order", 0, minutes(0, 5, 3, 4, 6), end(1), "0 5 5 5 6"},
		{"a jump of an hour is none", 0, minutes(0, 60), end(1), "0 60"},
		{"sorted within the lateness", time.Minute, minutes(0, 1, 0.5, 1.2, 0.9, 3), end(1), "0 0.5 0.9 1 1.2 3"},
		{"too late for the lateness", time.Minute, minutes(0, 5, 1, 6), end(1), "0 4 5 6"},

		{"9999 first", 0, append([]Time{year9999}, minutes(0, 1, 2)...), end(1), "0! 0 1 2"},
		{"9999 in the middle", 0, slices.Concat(minutes(0, 1), []Time{year9999}, minutes(2, 3, 4)), end(1), "0 1 1! 2 3 4"},
		{"9999 twice", 0, slices.Concat(minutes(0, 1), []Time{year9999, year9999}, minutes(2, 3, 4)), end(1), "0 1 1! 1! 2 3 4"},
		{"9999 last", 0, append(minutes(0, 1), year9999), end(1), "0 1 1!"},
		{"9999 last and silent", 0, append(minutes(0, 1), year9999), push(heartbeat(1, MaxTime)), "0 1 1!"},
		{"0001 first", 0, append([]Time{year0001}, minutes(0, 1, 2)...), end(1), "0001 0 1 2"},
		{"0001 in the middle", 0, slices.Concat(minutes(0, 1), []Time{year0001}, minutes(2, 3)), end(1), "0 1 1 2 3"},
		{"0001 last", 0, append(minutes(0, 1), year0001), end(1), "0 1 1"},
		{"9999 within the lateness", time.Minute, slices.Concat(minutes(0, 1), []Time{year9999}, minutes(0.5, 2, 3)), end(1), "0 0.5 1 1! 2 3"},

		{"a jump that two agree with", 0, minutes(0, 300, 301, 302), end(1), "0 300 301 302"},
		{"a jump that one agrees with", 0, minutes(0, 3*day, 3*day+1), push(heartbeat(1, MaxTime)), "0 0! 0!"},
		{"a jump that the next denies", 0, minutes(0, 300, 1, 2), end(1), "0 0! 1 2"},
		{"a jump that the one after denies", 0, minutes(0, 300, 301, 1, 2), end(1), "0 0! 0! 1 2"},
		{"an odd one right after a pause", 0, slices.Concat(minutes(0), []Time{year9999}, minutes(300, 301, 302)), end(1), "0 0! 300 301 302"},
		{"an odd one while a pause is weighed", 0, slices.Concat(minutes(0, 300), []Time{year9999}, minutes(301, 302, 303)), end(1), "0 300 300! 301 302 303"},

		{"gaps of hours", 0, minutes(0, 300, 600, 900, 1200, 1500), end(1), "0 300 600 900 1200 1500"},
		{"gaps of days", 0, minutes(0, 3*day, 6*day, 9*day), end(1), "0 4320 4320! 4320!"},
		{"a pause before the last line", 0, minutes(0, 1, 300), end(1), "0 1 300"},
		{"a pause in a live log", 0, minutes(0, 1, 3*day), push(heartbeat(1, minutes(3 * day)[0])), "0 1 4320"},
		{"an odd line in a live log", 0, append(minutes(0, 1), year9999), push(heartbeat(1, minutes(2)[0])), "0 1 1!"},
		{"one line in a live log", 0, minutes(7), push(heartbeat(1, minutes(7)[0])), "7"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := NewMerge(c.lateness, 0)
			got := play(m, push(blockOf(1, 1, c.own...)), c.last)
			if describe(got) != c.want {
				t.Errorf("effective times %q, want %q", describe(got), c.want)
			}
			skewed := int64(0)
			for _, o := range got {
				if o.Flags&FlagSkew != 0 {
					skewed++
				}
				if o.Own != c.own[o.Line-1] {
					t.Errorf("line %d: own time changed to %d", o.Line, o.Own)
				}
			}
			if late, n := m.Late(); n != skewed || late != 0 {
				t.Errorf("counted %d late and %d skewed, want 0 and %d", late, n, skewed)
			}
			if m.Held() != 0 {
				t.Errorf("%d requests still held", m.Held())
			}
		})
	}
}

// ownTimes makes a plausible log: mostly forward, sometimes back, now and then
// odd or after a pause.
func ownTimes(r *rand.Rand, n int, odd bool) []Time {
	at := mergeStart
	list := make([]Time, n)
	for i := range list {
		at += Time(r.Int64N(3e6))
		list[i] = at - Time(r.Int64N(2)*r.Int64N(50e6))
		if !odd {
			continue
		}
		switch r.IntN(40) {
		case 0:
			list[i] = year9999
		case 1:
			list[i] = year0001
		case 2:
			list[i] += Time(r.Int64N(5 * 3600e6))
		case 3:
			at += Time(r.Int64N(5 * 3600e6))
		}
	}
	return list
}

// cut splits times into blocks at random places.
func cut(r *rand.Rand, source uint64, times []Time) (blocks []*Block) {
	line := int64(1)
	for len(times) > 0 {
		n := min(len(times), r.IntN(9)) // an empty block now and then
		blocks = append(blocks, blockOf(source, line, times[:n]...))
		times, line = times[n:], line+int64(n)
	}
	return blocks
}

// seeds runs f with several seeded generators.
func seeds(t *testing.T, n uint64, f func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	for seed := range n {
		f(t, rand.New(rand.NewPCG(seed, 7)))
		if t.Failed() {
			t.Fatalf("at seed %d", seed)
		}
	}
}

func same(t *testing.T, what string, got, want []out) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("%s: request %d is %+v, want %+v", what, i, got[i], want[i])
			return
		}
	}
	t.Errorf("%s: %d requests, want %d", what, len(got), len(want))
}

// TestMergeKeepsOrderOfOneSource: without lateness the order stays and the
// effective time is the highest own time so far.
func TestMergeKeepsOrderOfOneSource(t *testing.T) {
	seeds(t, 100, func(t *testing.T, r *rand.Rand) {
		own := ownTimes(r, 300, false)
		want, top := []out(nil), NoTime
		for i, at := range own {
			top = max(top, at)
			want = append(want, out{"s1", int64(i) + 1, at, top, 0})
		}
		same(t, "one source", play(NewMerge(0, 0), push(blockOf(1, 1, own...)), end(1)), want)
	})
}

// TestMergeSorts: what is less than the lateness out of order is sorted
// exactly, equal times by their place in the file.
func TestMergeSorts(t *testing.T) {
	seeds(t, 100, func(t *testing.T, r *rand.Rand) {
		own := ownTimes(r, 300, false)
		var want []out
		for i, at := range own {
			at -= at % 1e6 // seconds, as logs have them: ties
			own[i] = at
			want = append(want, out{"s1", int64(i) + 1, at, at, 0})
		}
		slices.SortStableFunc(want, func(a, b out) int { return int(a.Own - b.Own) })
		same(t, "sorted", play(NewMerge(time.Minute, 0), push(blockOf(1, 1, own...)), end(1)), want)
	})
}

// TestMergeCuts: how sources are cut into blocks, and in which turn they are
// pushed, changes nothing.
func TestMergeCuts(t *testing.T) {
	seeds(t, 200, func(t *testing.T, r *rand.Rand) {
		lateness := []time.Duration{0, time.Minute, 2 * time.Hour}[r.IntN(3)]
		sources := make([][]Time, 1+r.IntN(3))
		for i := range sources {
			sources[i] = ownTimes(r, r.IntN(200), true)
			if lateness > 0 {
				continue
			}
			for j := range sources[i] { // seconds, as logs have them: ties
				sources[i][j] -= sources[i][j] % 1e6
			}
		}
		run := func(cuts [][]*Block) []out {
			m := NewMerge(lateness, 0)
			for i := range cuts {
				m.AddSource(uint64(i) + 1)
			}
			var got []Ordered
			for open := len(cuts); open > 0; {
				i := r.IntN(len(cuts))
				if cuts[i] == nil {
					continue
				}
				if len(cuts[i]) == 0 {
					m.End(uint64(i) + 1)
					cuts[i] = nil
					open--
				} else {
					m.Push(cuts[i][0])
					cuts[i] = cuts[i][1:]
				}
				if r.IntN(2) == 0 {
					got = m.Next(got)
				}
			}
			return outs(m.Next(got))
		}
		var want []out
		for try := range 4 {
			cuts := make([][]*Block, len(sources))
			for i, times := range sources {
				cuts[i] = []*Block{}
				if try == 0 {
					cuts[i] = append(cuts[i], blockOf(uint64(i)+1, 1, times...))
					continue
				}
				cuts[i] = append(cuts[i], cut(r, uint64(i)+1, times)...)
			}
			got := run(cuts)
			if try == 0 {
				want = got
				continue
			}
			same(t, "another cut", got, want)
		}
	})
}

// TestMergeOfParts: a file cut into three, each line to any of them, comes out
// as the file.
func TestMergeOfParts(t *testing.T) {
	seeds(t, 100, func(t *testing.T, r *rand.Rand) {
		lateness := []time.Duration{0, time.Minute}[r.IntN(2)]
		var parts [3]*Block
		for i := range parts {
			parts[i] = blockOf(uint64(i)+1, 1)
		}
		var want []Time
		at := mergeStart
		for line := range int64(400) {
			at += 1 + Time(r.Int64N(5e6))
			want = append(want, at)
			p := parts[r.IntN(3)]
			p.Requests = append(p.Requests, Request{Time: at, Line: line})
		}
		m := NewMerge(lateness, 0)
		var got []Ordered
		for i := range parts {
			m.AddSource(uint64(i) + 1)
		}
		for i := range parts {
			m.Push(parts[i])
			m.End(uint64(i) + 1)
			got = m.Next(got)
		}
		if len(got) != len(want) {
			t.Fatalf("%d requests, want %d", len(got), len(want))
		}
		for i, o := range got {
			if o.Line != int64(i) || o.Effective != want[i] || o.Flags != 0 {
				t.Fatalf("request %d: line %d at %d with flags %b", i, o.Line, o.Effective, o.Flags)
			}
		}
	})
}

// TestMergeTies: of equal times those of the source that was added first come
// first, whoever was pushed first.
func TestMergeTies(t *testing.T) {
	m := NewMerge(0, 0)
	m.AddSource(1)
	m.AddSource(2)
	m.AddSource(2) // harmless
	got := play(m,
		push(blockOf(2, 1, minutes(0, 1, 1)...)), push(blockOf(1, 1, minutes(0, 1, 2)...)),
		end(2), end(1))
	line := ""
	for _, o := range got {
		line += fmt.Sprintf("%s:%d ", o.Source, o.Line)
	}
	if want := "s1:1 s2:1 s1:2 s2:2 s2:3 s1:3 "; line != want {
		t.Errorf("order %s, want %s", line, want)
	}
}

// TestMergeIdle: a source that says it is idle holds nobody back; what it
// brings later is late.
func TestMergeIdle(t *testing.T) {
	m := NewMerge(0, 0)
	m.AddSource(1)
	m.AddSource(2)
	check := func(what, want string, steps ...step) {
		t.Helper()
		if got := describe(play(m, steps...)); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	clock := func(what string, want Time, wantOK bool) {
		t.Helper()
		if got, ok := m.Clock(); ok != wantOK || ok && got != want {
			t.Errorf("%s: clock %d, %v; want %d, %v", what, got, ok, want, wantOK)
		}
	}
	check("one waits for the other", "", push(blockOf(1, 1, minutes(0, 1, 2, 3, 4)...)))
	check("the other has come to 1.5", "0 0 1 1 1.5", push(blockOf(2, 1, minutes(0, 1, 1.5)...)))
	check("and no further", "1.5", push(blockOf(2, 4, minutes(1.5)...)))
	clock("nobody is idle", 0, false)
	check("idle", "2 3 4", push(heartbeat(2, minutes(2)[0])))
	clock("one of two is idle", 0, false)
	check("both idle", "", push(heartbeat(1, minutes(9)[0])))
	clock("both idle", minutes(2)[0], true)
	check("idle further", "", push(heartbeat(2, minutes(8)[0])))
	clock("idle further", minutes(8)[0], true)
	check("late lines", "4L 4L", push(blockOf(2, 5, minutes(2, 3)...)))
	clock("not idle any more", 0, false)
	if late, _ := m.Late(); late != 2 {
		t.Errorf("%d late, want 2", late)
	}
	check("nothing comes before what was released", "5", push(blockOf(2, 7, minutes(5)...)), push(blockOf(1, 6, minutes(6)...)))
	check("the end", "6", end(2))
	check("one is idle without a time", "", push(heartbeat(1, MaxTime)))
	clock("nobody knows the time", 0, false)
}

// TestMergeSilence: a source that is said to be silent holds nobody up until its next
// block, and what that brings too late is late.
func TestMergeSilence(t *testing.T) {
	silence := func(id uint64) step { return func(m *Merge) { m.Silence(id) } }
	m := NewMerge(time.Minute, 0)
	m.AddSource(1)
	m.AddSource(2)
	m.AddSource(3)
	f := func(what, want string, steps ...step) {
		t.Helper()
		if got := describe(play(m, steps...)); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	f("one of three", "", push(blockOf(1, 1, minutes(0, 1, 2, 3, 4, 5)...)))
	f("the second dies with a line inside the lateness", "", push(blockOf(2, 1, minutes(0, 1.5)...)))
	f("it is said, and the third is waited for", "", silence(2))
	f("which never came", "0 0 1 1.5 2 3", silence(3))
	f("nobody waits", "4 5 6", push(blockOf(1, 7, minutes(6, 7, 8)...)))
	f("an unknown one", "", silence(9))
	if _, ok := m.index[9]; ok {
		t.Error("a source is known since it is silent")
	}
	f("the second is back, with what it has", "6L 6L", push(blockOf(2, 3, minutes(1.6, 3, 9)...)))
	f("it is waited for again", "7 8 9 9", push(blockOf(1, 10, minutes(9, 10, 11)...)), push(blockOf(2, 6, minutes(10, 11)...)), push(heartbeat(3, mergeStart)))
	if late, _ := m.Late(); late != 2 {
		t.Errorf("%d late, want 2", late)
	}
	if _, ok := m.Clock(); ok {
		t.Error("there is a clock while lines wait")
	}
}

// TestMergeWants: Wants names the source that holds the others
// back, so that reading it always helps.
func TestMergeWants(t *testing.T) {
	m := NewMerge(0, 0)
	if _, ok := m.Wants(); ok {
		t.Error("an empty merge wants a source")
	}
	m.AddSource(1)
	m.AddSource(2)
	for i, c := range []struct {
		step step
		want uint64
	}{
		{push(blockOf(1, 1, minutes(0, 1, 2)...)), 2},
		{push(blockOf(2, 1, minutes(0, 3, 4)...)), 1},
		{push(blockOf(1, 4, minutes(5)...)), 2},
		{end(2), 1},
		{end(1), 0},
	} {
		c.step(m)
		m.Next(nil)
		if got, ok := m.Wants(); got != c.want || ok != (c.want != 0) {
			t.Errorf("step %d: wants %d (%v), want %d", i, got, ok, c.want)
		}
	}
}

// TestMergeBound: at the bound the lowest source is released by what was pushed
// alone, and what comes too late for that is counted and named.
func TestMergeBound(t *testing.T) {
	m := NewMerge(0, 4)
	m.AddSource(1)
	m.AddSource(2)
	check := func(what, want string, steps ...step) {
		t.Helper()
		if got := describe(play(m, steps...)); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		if m.Held() > 4 {
			t.Errorf("%s: %d held", what, m.Held())
		}
	}
	check("below the bound", "", push(blockOf(1, 1, minutes(0, 1, 2, 3)...)))
	check("above it", "0 1", push(blockOf(1, 5, minutes(4, 5)...)))
	check("the slow one", "1L 2 2.5 3 3.5 4 5", push(blockOf(2, 1, minutes(0, 2.5, 3.5)...)), end(2))
	if late, _ := m.Late(); late != 1 {
		t.Errorf("%d late, want 1", late)
	}
}

// TestMergeBoundsWhatItSorts: a burst within the lateness does not grow memory
// without end.
func TestMergeBoundsWhatItSorts(t *testing.T) {
	m := NewMerge(time.Hour, 100)
	n := 0
	for line := range int64(50) {
		m.Push(blockOf(1, 1+line*100, slices.Repeat(minutes(float64(line)/100), 100)...))
		n += len(m.Next(nil))
		if m.Held() > 100 {
			t.Fatalf("%d requests held, the bound is 100", m.Held())
		}
	}
	m.End(1)
	if n += len(m.Next(nil)); n != 5000 {
		t.Errorf("%d requests, want 5000", n)
	}
}

// TestMergeLatenessChanges: an edition that ends the lateness leaves nothing
// behind and nothing out of order.
func TestMergeLatenessChanges(t *testing.T) {
	set := func(d time.Duration) step { return func(m *Merge) { m.SetLateness(d) } }
	m := NewMerge(2*time.Minute, 0)
	got := play(m,
		push(blockOf(1, 1, minutes(0, 3, 2)...)), set(0), push(blockOf(1, 4, minutes(2.5, 4)...)),
		set(time.Minute), push(blockOf(1, 6, minutes(6, 5.5, 9)...)))
	if want := "0 2 3 3 4 5.5 6"; describe(got) != want {
		t.Errorf("%q, want %q", describe(got), want)
	}
	if m.Held() != 1 {
		t.Errorf("%d held, want the last one", m.Held())
	}
}

// TestMergeMemory: a source that is always ahead of another never runs empty;
// what it gave out must not stay in memory.
func TestMergeMemory(t *testing.T) {
	m := NewMerge(0, 0)
	m.AddSource(1)
	m.AddSource(2)
	const rounds = 20_000
	var got []Ordered
	for i := range rounds {
		at := mergeStart + Time(i)*1e6
		m.Push(blockOf(1, int64(i)*5, at, at, at, at, at+5e6))
		m.Push(blockOf(2, int64(i), at))
		got = m.Next(got[:0])
		m.Done(nil)
	}
	if n := cap(m.sources[0].ready); n > 20_000 {
		t.Errorf("room for %d requests after %d, with at most a few held (%d)", n, 5*rounds, m.Held())
	}
}

// TestMergeDone: each block is given back once, after its last request.
func TestMergeDone(t *testing.T) {
	seeds(t, 100, func(t *testing.T, r *rand.Rand) {
		m := NewMerge([]time.Duration{0, time.Minute}[r.IntN(2)], []int{0, 20}[r.IntN(2)])
		left := map[*Block]int{} // requests not given out yet
		var queues [3][]*Block
		for i := range queues {
			m.AddSource(uint64(i) + 1)
			queues[i] = cut(r, uint64(i)+1, ownTimes(r, 100, true))
		}
		look := func() {
			for _, o := range m.Next(nil) {
				left[o.Block]--
			}
			for _, b := range m.Done(nil) {
				if n, ok := left[b]; !ok || n != 0 {
					t.Errorf("a block is done with %d requests to come (pushed or not done before: %v)", n, ok)
				}
				delete(left, b)
			}
		}
		for len(queues[0])+len(queues[1])+len(queues[2]) > 0 {
			if i := r.IntN(3); len(queues[i]) > 0 {
				left[queues[i][0]] = len(queues[i][0].Requests)
				m.Push(queues[i][0])
				queues[i] = queues[i][1:]
				look()
			}
		}
		for i := range queues {
			m.End(uint64(i) + 1)
		}
		look()
		if len(left) != 0 {
			t.Errorf("%d blocks never done", len(left))
		}
	})
}

// TestMergeSnapshot: a Merge restored at any block goes on as if nothing had
// happened.
func TestMergeSnapshot(t *testing.T) {
	codec := NewCodec()
	seeds(t, 60, func(t *testing.T, r *rand.Rand) {
		lateness := []time.Duration{0, time.Minute}[r.IntN(2)]
		bound := []int{0, 50}[r.IntN(2)]
		var blocks []*Block
		for i := range uint64(3) {
			blocks = append(blocks, cut(r, i+1, ownTimes(r, 60, true))...)
			blocks = append(blocks, heartbeat(i+1, []Time{MaxTime, mergeStart}[r.IntN(2)]))
		}
		r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		fresh := func(b *Block) *Block {
			c := *b
			c.Requests = slices.Clone(b.Requests)
			return &c
		}
		whole, broken := NewMerge(lateness, bound), NewMerge(lateness, bound)
		for i, b := range blocks {
			want := play(whole, push(fresh(b)))
			same(t, fmt.Sprintf("block %d", i), play(broken, push(fresh(b))), want)
			data, err := broken.Snapshot(codec)
			if err != nil {
				t.Fatal(err)
			}
			broken = NewMerge(lateness, bound)
			if err := broken.Restore(codec, data); err != nil {
				t.Fatal(err)
			}
			again, err := broken.Snapshot(codec)
			if err != nil || string(again) != string(data) {
				t.Errorf("block %d: a restored merge writes another snapshot (%v)", i, err)
			}
			wantNow, wantOK := whole.Clock()
			if now, ok := broken.Clock(); ok != wantOK || ok && now != wantNow {
				t.Errorf("block %d: clock %d, %v; want %d, %v", i, now, ok, wantNow, wantOK)
			}
		}
		for i := range uint64(3) {
			same(t, "the end", play(broken, end(i+1)), play(whole, end(i+1)))
		}
		wantLate, wantSkewed := whole.Late()
		if late, skewed := broken.Late(); late != wantLate || skewed != wantSkewed {
			t.Errorf("counted %d late and %d skewed, want %d and %d", late, skewed, wantLate, wantSkewed)
		}
		if broken.Held() != 0 || whole.Held() != 0 {
			t.Errorf("%d and %d still held", broken.Held(), whole.Held())
		}
	})
}

func TestMergeRestoreRejects(t *testing.T) {
	codec := NewCodec()
	m := NewMerge(time.Minute, 0)
	m.Push(blockOf(1, 1, minutes(0, 1, 2)...))
	good, err := m.Snapshot(codec)
	if err != nil {
		t.Fatal(err)
	}
	if err := NewMerge(time.Minute, 0).Restore(codec, good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", `[]`, `{"sources":[{"id":1,"ready":[5]}]}`, `{"sources":[{"id":1,"pending":3}]}`, `{"sources":[{"id":1,"block":"AAAA"}]}`} {
		if err := NewMerge(time.Minute, 0).Restore(codec, []byte(bad)); err == nil {
			t.Errorf("restored %s", bad)
		}
	}
}

// FuzzMerge: with any times, cuts, heartbeats and bounds nothing is lost or
// doubled, effective times never go back, and own times stay.
func FuzzMerge(f *testing.F) {
	f.Add(uint64(1), uint8(0), uint8(0), []byte("\x00\x01\x02\x03"))
	f.Add(uint64(2), uint8(1), uint8(3), []byte{0, 255, 9, 8, 200, 17, 33, 64, 4, 4, 4, 130})
	f.Add(uint64(3), uint8(2), uint8(1), []byte{7, 7, 7, 15, 23, 31, 71, 135, 199, 3, 6})
	f.Fuzz(func(t *testing.T, seed uint64, lateness, bound uint8, ops []byte) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := NewMerge([]time.Duration{0, time.Minute, 3 * time.Hour, math.MaxInt64}[lateness%4], int(bound))
		odd := []Time{NoTime, MaxTime, year0001, year9999, 0, -1, NoTime + 1, MaxTime - 1}
		var got []Ordered
		pushed := map[string]Time{}
		var line [3]int64
		released := NoTime
		look := func() {
			got = m.Next(got[:0])
			for _, o := range got {
				if o.Effective < released {
					t.Fatalf("effective time went back from %d to %d", released, o.Effective)
				}
				released = o.Effective
				key := fmt.Sprint(o.Block.SourceID, ":", o.Line)
				if own, ok := pushed[key]; !ok || own != o.Time {
					t.Fatalf("%s came out twice, from nowhere or with another time", key)
				}
				delete(pushed, key)
			}
			if m.Held() != len(pushed) {
				t.Fatalf("%d held, want %d", m.Held(), len(pushed))
			}
		}
		for _, op := range ops {
			source := uint64(op % 3)
			b := &Block{SourceID: source, Watermark: NoTime}
			for range op >> 2 % 8 {
				at := mergeStart + Time(r.Int64N(4*3600e6))
				if r.IntN(4) == 0 {
					at = odd[r.IntN(len(odd))]
				}
				b.Requests = append(b.Requests, Request{Time: at, Line: line[source]})
				pushed[fmt.Sprint(source, ":", line[source])] = at
				line[source]++
			}
			switch op >> 5 {
			case 0:
				b.Watermark = MaxTime
			case 1:
				b.Watermark = mergeStart + Time(r.Int64N(4*3600e6))
			case 2:
				m.SetLateness(time.Duration(r.IntN(3)) * time.Minute)
			}
			m.Push(b)
			look()
		}
		for source := range uint64(3) {
			m.End(source)
		}
		look()
		if len(pushed) != 0 {
			t.Fatalf("%d requests lost", len(pushed))
		}
	})
}

// BenchmarkMerge is the cost of a request of one source.
func BenchmarkMerge(b *testing.B) {
	for _, c := range []struct {
		name     string
		lateness time.Duration
		sources  int
	}{{"one", 0, 1}, {"sorted", time.Minute, 1}, {"three", 0, 3}} {
		b.Run(c.name, func(b *testing.B) {
			const rows = 4096
			var blocks [2][]*Block // in turn: a last request may wait for the next block
			for i := range uint64(c.sources) {
				for k := range blocks {
					blocks[k] = append(blocks[k], blockOf(i, 1, make([]Time, rows)...))
				}
			}
			m := NewMerge(c.lateness, 0)
			var dst []Ordered
			var done []*Block
			at, turn := mergeStart, 0
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += rows * c.sources {
				for _, block := range blocks[turn] {
					for j := range block.Requests {
						// A lateness of three lines: what waits is done before its block comes again.
						block.Requests[j].Time = at + Time(j)*20e6
					}
					m.Push(block)
				}
				at, turn = at+rows*20e6, 1-turn
				dst = m.Next(dst[:0])
				done = m.Done(done[:0])
			}
			if len(done) == 0 && b.N > 4*rows {
				b.Fatal("no block was done")
			}
		})
	}
}

// TestMergeLetsGo: a request that came out keeps no block in memory.
func TestMergeLetsGo(t *testing.T) {
	m := NewMerge(5*time.Second, 0)
	at := TimeOf(time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC))
	out := 0
	for i := range 40 {
		b := &Block{SourceID: 1, Watermark: NoTime}
		for j := range 100 {
			b.Requests = append(b.Requests, Request{Time: at.Add(time.Duration(i*100+j) * 10 * time.Millisecond)})
		}
		m.Push(b)
		out += len(m.Next(nil))
		s := m.sources[0]
		for _, h := range s.run[:s.from] {
			if h.Block != nil || h.Request != nil {
				t.Fatal("what came out is still referred to")
			}
		}
	}
	if out == 0 || m.Held() == 0 || m.Held() > 600 {
		t.Errorf("%d requests came out, %d wait", out, m.Held())
	}
}
