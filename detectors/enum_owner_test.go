package detectors

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// shopOf is traffic of customers with orders of their own, by random ids, who
// come back to them; an attacker's requests are added by hand.
type shopOf struct {
	rng    *rand.Rand
	orders int
	all    []pipeline.Request
}

func newShop(seed uint64) *shopOf { return &shopOf{rng: rand.New(rand.NewPCG(seed, 40))} }

func orderID(n int) string {
	a, b := pipeline.Hash64(fmt.Sprint("a", n)), pipeline.Hash64(fmt.Sprint("b", n))
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(a), a>>32&0xffff, a>>48&0xfff, b&0xfff, b>>16)
}

func (s *shopOf) read(at time.Duration, kind pipeline.PrincipalKind, who string, order string, status uint16) {
	r := pipeline.Request{
		Time: caseStart.Add(at), Bytes: 900, Duration: -1, Status: status, Method: "GET", Path: "/orders/" + order, Agent: "app/1",
	}
	h := pipeline.Hash64(who)
	r.Address = pipeline.Address{10: 0xff, 11: 0xff, 12: 10, 13: byte(h), 14: byte(h >> 8), 15: byte(h >> 16)}
	r.Kind, r.Owner = kind, pipeline.HashPrincipal(kind, who)
	switch {
	case status >= 400 || kind == pipeline.PrincipalIP:
		r.Kind, r.Owner = pipeline.PrincipalIP, r.Address.Owner()
	case kind == pipeline.PrincipalKey:
		r.Key = who
	default:
		r.Account = who
	}
	s.all = append(s.all, r)
}

// customers come to their own orders from one time to another; order n belongs to n % customers.
func (s *shopOf) customers(kind pipeline.PrincipalKind, customers, each, reads int, from, to time.Duration) {
	s.orders = customers * each
	for range customers * reads {
		c := s.rng.IntN(customers)
		at := from + time.Duration(s.rng.Int64N(int64(to-from)))
		s.read(at, kind, fmt.Sprint("customer", c), orderID(c+customers*s.rng.IntN(each)), 200)
	}
}

func (s *shopOf) batch() []pipeline.Ordered {
	slices.SortStableFunc(s.all, func(a, b pipeline.Request) int { return int(max(-1, min(1, a.Time-b.Time))) })
	block := &pipeline.Block{Source: "shop", Requests: s.all}
	out := make([]pipeline.Ordered, len(s.all))
	for i := range s.all {
		r := &s.all[i]
		r.Effective, r.Line = r.Time, int64(i)+1
		r.Seal()
		out[i] = pipeline.Ordered{Request: r, Block: block}
	}
	return out
}

// fitBefore learns from what came before a time.
func fitBefore(t testing.TB, batch []pipeline.Ordered, until time.Duration) *pipeline.Edition {
	t.Helper()
	n, _ := slices.BinarySearchFunc(batch, caseStart.Add(until), func(o pipeline.Ordered, at pipeline.Time) int { return int(max(-1, min(1, o.Effective-at))) })
	return fitted(t, batch[:n])
}

// foundOf are enum.object's findings about a principal.
func foundOf(found []pipeline.Finding, who string) (out []pipeline.Finding) {
	for _, f := range found {
		if f.Detector == "enum.object" && f.Who.Value == who {
			out = append(out, f)
		}
	}
	return out
}

func middle(xs []int) (mid, p95 int) {
	slices.Sort(xs)
	return xs[len(xs)/2], xs[(len(xs)*95+99)/100-1]
}

// TestOwnedFloor: how many objects of others, random ids in random order, every
// one granted, a thief reads until it pages; and that the alert lists exactly what
// was reached, from before the detection on.
func TestOwnedFloor(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name    string
		kind    pipeline.PrincipalKind
		gap     time.Duration
		own     int // own orders between two of others
		shipped bool
		unseen  int // first requests of a principal that nobody vouches for
		ceiling int
	}{
		{"account, 2 a minute", pipeline.PrincipalAccount, 30 * time.Second, 0, false, 0, 6},
		{"account, 6 a day", pipeline.PrincipalAccount, 4 * time.Hour, 0, false, 0, 6},
		{"account, two own orders between", pipeline.PrincipalAccount, 30 * time.Second, 2, false, 0, 12},
		{"key, 2 a minute", pipeline.PrincipalKey, 30 * time.Second, 0, false, 0, 6},
		{"key, shipped priors", pipeline.PrincipalKey, 30 * time.Second, 0, true, 4, 10},
	} {
		var pages, reviews []int
		for seed := range uint64(40) {
			s := newShop(seed)
			s.customers(c.kind, 120, 4, 36, 0, 4*day)
			at, n, truth, reads := 3*day, 0, []string{}, []pipeline.Time{}
			for _, order := range s.rng.Perm(s.orders)[:24] {
				for range c.own {
					s.read(at, c.kind, "thief", orderID(100_000+n), 200)
					s.read(at+time.Second, c.kind, "thief", orderID(100_000+n), 200) // as who owns it does
					at, n = at+c.gap/4, n+1
				}
				s.read(at, c.kind, "thief", orderID(order), 200)
				truth, reads = append(truth, "/orders/"+orderID(order)), append(reads, caseStart.Add(at))
				at += c.gap
			}
			batch := s.batch()
			e := pipeline.ShippedEdition()
			if !c.shipped {
				e = fitBefore(t, batch, 3*day)
			}
			all := detectAll(t, Config{}, e, batch)
			found := foundOf(all, "thief")
			review, page := 1<<20, 1<<20
			for i := range found {
				n, _ := slices.BinarySearch(reads, found[i].Time+1)
				if found[i].Score >= pipeline.ReviewAt {
					review = min(review, n)
				}
				if found[i].Score >= pipeline.PageAt {
					page = min(page, n)
				}
			}
			reviews, pages = append(reviews, review), append(pages, page)
			if len(found) == 0 {
				continue
			}
			got := slices.Clone(found[len(found)-1].Objects)
			slices.Sort(got)
			slices.Sort(truth)
			if !slices.Equal(got, truth) {
				// What its owner did not come back to yet is nobody's.
				missing := 0
				for _, o := range truth {
					if !slices.Contains(got, o) {
						missing++
					}
				}
				if len(got)+missing != len(truth) || missing > 1+c.unseen {
					t.Errorf("%s, seed %d: %d objects listed, %d reached, %d not listed", c.name, seed, len(got), len(truth), missing)
				}
			}
			for _, f := range all {
				if f.Detector == "enum.object" && f.Who.Value != "thief" {
					t.Errorf("%s, seed %d: %s is accused: %s", c.name, seed, f.Who.Value, f.Reason)
				}
			}
		}
		rm, rp := middle(reviews)
		pm, pp := middle(pages)
		t.Logf("%-34s review after %d (p95 %d), page after %d (p95 %d) foreign objects", c.name, rm, rp, pm, pp)
		if pm > c.ceiling || pp > c.ceiling+2 {
			t.Errorf("%s: pages after %d (p95 %d), want %d", c.name, pm, pp, c.ceiling)
		}
	}
}

// TestOwnedLate: the thief comes before weir knows the owners; as they come back,
// its contacts are judged, and it is named though it is long gone.
func TestOwnedLate(t *testing.T) {
	const day = 24 * time.Hour
	s := newShop(7)
	var truth []string
	for i, order := range s.rng.Perm(800)[:20] {
		s.read(time.Hour+time.Duration(i)*time.Minute, pipeline.PrincipalAccount, "thief", orderID(order), 200)
		truth = append(truth, "/orders/"+orderID(order))
	}
	s.customers(pipeline.PrincipalAccount, 200, 4, 48, 2*time.Hour, 3*day)
	batch := s.batch()
	learn := newShop(8)
	learn.customers(pipeline.PrincipalAccount, 200, 4, 20, 0, 3*day)
	found := foundOf(detectAll(t, Config{}, fitted(t, learn.batch()), batch), "thief")
	if len(found) == 0 {
		t.Fatal("nothing found")
	}
	f := found[len(found)-1]
	got := slices.Clone(f.Objects)
	slices.Sort(got)
	slices.Sort(truth)
	if !slices.Equal(got, truth) || f.Score < pipeline.PageAt || f.Who.Kind != pipeline.PrincipalAccount {
		t.Errorf("%d of %d objects, %v, %.1f nats: %s", len(got), len(truth), f.Who, f.Score.Float(), f.Reason)
	}
	if at := caseStart.Add(time.Hour); f.Onset < at-3600e6 || f.Onset > at.Add(time.Hour) {
		t.Errorf("onset %s", f.Onset.Std())
	}
}

// TestOwnedPoison: a thief who reads every object twice, before its owner does,
// becomes no alibi and makes no culprit of the owners.
func TestOwnedPoison(t *testing.T) {
	const day = 24 * time.Hour
	for _, first := range []bool{true, false} {
		s := newShop(9)
		start := time.Hour
		if !first {
			start = 2 * day
		}
		for i := range 40 {
			for k := range 2 {
				s.read(start+time.Duration(2*i+k)*time.Minute, pipeline.PrincipalAccount, "thief", orderID(i+200*(i%20)), 200)
			}
		}
		s.customers(pipeline.PrincipalAccount, 200, 20, 60, 2*time.Hour, 4*day)
		learn := newShop(8)
		learn.customers(pipeline.PrincipalAccount, 200, 20, 60, 0, 3*day)
		found := detectAll(t, Config{}, fitted(t, learn.batch()), s.batch())
		for _, f := range found {
			if f.Detector == "enum.object" && f.Who.Value != "thief" && f.Score >= pipeline.PageAt {
				t.Errorf("first %v: %s is accused: %s", first, f.Who.Value, f.Reason)
			}
		}
		thief := foundOf(found, "thief")
		if len(thief) == 0 {
			t.Fatalf("first %v: the thief is not found", first)
		}
		last := &thief[len(thief)-1]
		t.Logf("first %v: %.1f nats: %s", first, last.Score.Float(), last.Reason)
		if last.Score < pipeline.PageAt {
			t.Errorf("first %v: the thief does not page", first)
		}
	}
}

// ownedTraffic has everything that ownership judges: thieves by account and by
// key, before and after the owners are known, refused ones, a reader.
func ownedTraffic() *shopOf {
	const day = 24 * time.Hour
	s := newShop(21)
	s.customers(pipeline.PrincipalAccount, 150, 4, 20, 0, 4*day)
	for i, order := range s.rng.Perm(600)[:30] {
		s.read(time.Hour+time.Duration(i)*time.Minute, pipeline.PrincipalAccount, "early", orderID(order), 200)
		s.read(3*day+time.Duration(i)*time.Minute, pipeline.PrincipalKey, "thiefkey", orderID(order), 200)
		s.read(3*day+time.Duration(i)*time.Minute, pipeline.PrincipalAccount, "refused", orderID(order), []uint16{403, 200}[i%2])
	}
	for i := range 200 {
		s.read(time.Duration(i)*20*time.Minute, pipeline.PrincipalAccount, "desk", orderID(i*3), 200)
	}
	for c := range 60 {
		for k := range 8 {
			s.read(2*day+time.Duration(c*7+k*400)*time.Second, pipeline.PrincipalAccount, fmt.Sprint("crowd", c), fmt.Sprint(7_000_000+c*8+k), 200)
		}
	}
	for c := range 150 {
		for range 5 {
			s.read(time.Duration(s.rng.Int64N(int64(4*day))), pipeline.PrincipalAccount, fmt.Sprint("customer", c), fmt.Sprint(1_000_000+s.rng.IntN(9_000_000)), 200)
		}
	}
	return s
}

func ownedCrossed(t testing.TB, workers int, e *pipeline.Edition) (*Set, *Correlator) {
	t.Helper()
	cross, err := NewCorrelator(Config{}, e)
	if err != nil {
		t.Fatal(err)
	}
	return newSet(t, Config{Workers: workers, Cross: cross}, e), cross
}

// TestOwnedSame: workers, batches, and a checkpoint every so often change nothing.
func TestOwnedSame(t *testing.T) {
	batch := ownedTraffic().batch()
	edition := fitBefore(t, batch, 36*time.Hour)
	one, _ := ownedCrossed(t, 1, edition)
	found := end(one, one.Process(nil, batch), batch)
	want := lines(t, found)
	per := map[string]bool{}
	for i := range found {
		f := &found[i]
		per[f.Level+f.Who.Value] = true
		var sum pipeline.Nats
		for _, sig := range f.Signals {
			sum += sig.Nats
		}
		if sum != f.Score {
			t.Errorf("%s: signals sum to %d, the score is %d", f.Who.Value, sum, f.Score)
		}
		if f.Onset > f.First || f.First > f.Last || f.Last > f.Time {
			t.Errorf("%s: onset %d, first %d, last %d, told at %d", f.Who.Value, f.Onset, f.First, f.Last, f.Time)
		}
	}
	for _, who := range []string{"accountearly", "keythiefkey"} {
		if !per[who] {
			t.Errorf("nothing found about %s", who)
		}
	}
	for _, workers := range []int{1, 2, 8} {
		for _, size := range []int{1, 900, 4096} {
			s, _ := ownedCrossed(t, workers, edition)
			var out []pipeline.Finding
			for part := range slices.Chunk(batch, size) {
				out = s.Process(out, part)
			}
			sameLines(t, fmt.Sprintf("%d workers, batches of %d", workers, size), lines(t, end(s, out, batch)), want)
		}
	}
	s, cross := ownedCrossed(t, 2, edition)
	stored := map[uint32][]byte{}
	wide := map[uint32][]byte{}
	var out []pipeline.Finding
	for part := range slices.Chunk(batch, 1777) {
		out = s.Process(out, part)
		keep := func(to map[uint32][]byte) func(uint32, []byte) error {
			return func(n uint32, data []byte) error { to[n] = slices.Clone(data); return nil }
		}
		if err := s.Changed(false, keep(stored)); err != nil {
			t.Fatal(err)
		}
		if err := cross.Changed(false, keep(wide)); err != nil {
			t.Fatal(err)
		}
		var h CorrelatorHead
		raw, err := json.Marshal(cross.Head())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &h); err != nil {
			t.Fatal(err)
		}
		next, nextCross := ownedCrossed(t, 3, edition)
		if err := next.Restore(s.Head(), func(n uint32) ([]byte, error) { return stored[n], nil }); err != nil {
			t.Fatal(err)
		}
		if err := nextCross.Restore(h, func(n uint32) ([]byte, error) { return wide[n], nil }); err != nil {
			t.Fatal(err)
		}
		s, cross = next, nextCross
	}
	sameLines(t, "restored", lines(t, end(s, out, batch)), want)
}

// TestOwnersBounded: ten million objects in all of the table, of which a sixteenth
// is filled here, leave it within its bounds, and the owners in it.
func TestOwnersBounded(t *testing.T) {
	const objects, part = 10_000_000 / 16, pipeline.Shards / 16
	tables := make([]ownerTable, part)
	kept := 0
	for i := range objects {
		key := pipeline.Mix64(uint64(i), 5)
		tb := &tables[key>>52%part]
		h := tb.find(key, true, uint16(i/1000))
		h.who[0], h.hour[0], h.what[0] = uint32(i), uint16(i/1000), holdHere
		if i%50 == 0 {
			h.what[0] |= holdOwns
		}
	}
	for i := range tables {
		tb := &tables[i]
		if len(tb.slots) > ownerWays*ownerSets || tb.used > len(tb.slots) {
			t.Fatalf("%d slots, %d used", len(tb.slots), tb.used)
		}
		for _, h := range tb.slots {
			if h.what[0]&holdOwns != 0 {
				kept++
			}
		}
	}
	if kept < objects/50*9/10 {
		t.Errorf("%d of %d owners are left", kept, objects/50)
	}
}

func FuzzOwnerTable(f *testing.F) {
	var tb ownerTable
	for i := range uint64(40) {
		tb.find(pipeline.Mix64(i, 1), true, 9).what[0] = holdHere
	}
	data, err := tb.encode(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var in ownerTable
		if in.decode(data) != nil {
			return
		}
		out, err := in.encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		var again ownerTable
		if err := again.decode(out); err != nil {
			t.Fatalf("what it wrote it does not read: %v", err)
		}
	})
}

// TestReaders: support at work and a partner's sync, for thirty days, are at most
// one case each, and that is for review; where sharing is what people do, the
// endpoint is not judged, and says so.
func TestReaders(t *testing.T) {
	const day = 24 * time.Hour
	s := newShop(31)
	s.customers(pipeline.PrincipalAccount, 150, 12, 60, 0, 40*day)
	for d := range 40 {
		for range 15 {
			at := time.Duration(d)*day + 8*time.Hour + time.Duration(s.rng.Int64N(int64(9*time.Hour)))
			s.read(at, pipeline.PrincipalAccount, "desk", orderID(s.rng.IntN(s.orders)), 200)
		}
		for k := range 45 {
			order := d*45 + k // the day's new ones, twice
			for again := range 2 {
				s.read(time.Duration(d)*day+time.Duration(k*15+again*7)*time.Minute, pipeline.PrincipalKey, "partner", orderID(order%s.orders), 200)
			}
		}
	}
	batch := s.batch()
	found := detectAll(t, Config{}, fitBefore(t, batch, 10*day), batch)
	cases := map[string]map[string]bool{}
	for i := range found {
		f := &found[i]
		if f.Detector != "enum.object" {
			continue
		}
		if cases[f.Who.Value] == nil {
			cases[f.Who.Value] = map[string]bool{}
		}
		cases[f.Who.Value][f.ID] = true
		if f.Score >= pipeline.PageAt {
			t.Errorf("%s pages: %s", f.Who.Value, f.Reason)
		}
	}
	for who, ids := range cases {
		t.Logf("%s: %d cases", who, len(ids))
		if len(ids) > 1 || who != "desk" && who != "partner" {
			t.Errorf("%s: %d cases", who, len(ids))
		}
	}
	s = newShop(32)
	for range 9000 {
		// A wiki: everybody reads and comes back to the same 150 pages.
		s.read(time.Duration(s.rng.Int64N(int64(4*day))), pipeline.PrincipalAccount, fmt.Sprint("member", s.rng.IntN(150)), orderID(s.rng.IntN(150)), 200)
	}
	batch = s.batch()
	e := fitted(t, batch)
	set, cross := ownedCrossed(t, 1, e)
	if out := end(set, set.Process(nil, batch), batch); len(foundAll(out, "enum.object")) > 0 {
		t.Errorf("a wiki: %d findings, the first: %s", len(out), out[0].Reason)
	}
	if shared := cross.Shared(); len(shared) != 1 || shared[0].Unjudged < 1000 || shared[0].Endpoint.Template != "/orders/{uuid}" {
		t.Errorf("the blind spot is %+v", shared)
	}
}

func foundAll(found []pipeline.Finding, detector string) (out []pipeline.Finding) {
	for _, f := range found {
		if f.Detector == detector {
			out = append(out, f)
		}
	}
	return out
}

// TestOwnedCalibration: where each principal reads others' objects as often as the
// shipped prior says that some do, no more of them ever reach a likelihood ratio
// of x than it promises, and none pages.
func TestOwnedCalibration(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	const principals, contacts = 20_000, 40
	b := ShippedBaselines()
	run := func(of [2]float64) (reached map[int]int, pages int) {
		reached = map[int]int{}
		for range principals {
			share := betaDraw(rng, of)
			l := ledger{Who: pipeline.Principal{Kind: pipeline.PrincipalAccount, Value: "x"}}
			null, _ := l.null(b, nil, 655)
			best := pipeline.Nats(0)
			for i := range contacts {
				l.share.observe(null, rng.Float64() < share, countScale, uint32(1000+i), halfLifeSeconds)
				best = max(best, l.share.score())
			}
			for half := 2; half <= 12; half++ {
				if best.Float() >= float64(half)*2.302585/2 {
					reached[half]++
				}
			}
			if best >= pipeline.PageAt {
				pages++
			}
		}
		return reached, pages
	}
	worst := func(reached map[int]int) float64 {
		over := -99.0
		for half, n := range reached {
			if n >= 5 {
				over = max(over, math.Log10(float64(n)/(principals*min(1, contacts/math.Pow(10, float64(half)/2)))))
			}
		}
		return over
	}
	reached, pages := run([2]float64{1, 99})
	t.Logf("%.2f decades, %d pages: %v", worst(reached), pages, reached)
	if worst(reached) > 0.3 || pages > 0 {
		t.Errorf("chance exceeds its bound by %.2f decades; %d page: %v", worst(reached), pages, reached)
	}
	if reached, _ := run([2]float64{2, 4}); worst(reached) <= 0.3 {
		t.Error("a population far off the prior stays within the line")
	}
}

// TestOwnedOneVictim: objects of one owner only, as in a shared household, count a
// quarter each after the first; they take this many.
func TestOwnedOneVictim(t *testing.T) {
	const day = 24 * time.Hour
	s := newShop(13)
	s.customers(pipeline.PrincipalAccount, 100, 60, 240, 0, 4*day)
	for i := range 50 {
		s.read(3*day+time.Duration(i)*time.Minute, pipeline.PrincipalAccount, "thief", orderID(7+100*i), 200)
	}
	batch := s.batch()
	found := foundOf(detectAll(t, Config{}, fitBefore(t, batch, 3*day), batch), "thief")
	review, page := int64(0), int64(0)
	for i := range found {
		if n := found[i].Outcome.Attempted; review == 0 {
			review = n
		}
		if n := found[i].Outcome.Attempted; page == 0 && found[i].Score >= pipeline.PageAt {
			page = n
		}
	}
	t.Logf("review after %d, page after %d", review, page)
	if review < 8 || review > 20 {
		t.Errorf("review after %d objects of one owner", review)
	}
}

// TestOwnedAllocates: once warm, contacts with objects cost next to no allocation
// in correlate.
func TestOwnedAllocates(t *testing.T) {
	s := newShop(17)
	s.numbered(300, 8, 0, 24*time.Hour)
	s.customers(pipeline.PrincipalAccount, 300, 8, 40, 0, 24*time.Hour)
	batch := s.batch()
	set, _ := ownedCrossed(t, 1, fitted(t, batch))
	var found []pipeline.Finding
	pass := func() {
		for i := range batch {
			// Filters begin anew every week: these are first contacts again.
			batch[i].Effective = batch[i].Effective.Add(8 * 24 * time.Hour)
		}
		found = set.Process(found[:0], batch)
	}
	pass()
	pass()
	if n := testing.AllocsPerRun(3, pass); n > float64(len(batch))/20 {
		t.Errorf("%v allocations for %d requests", n, len(batch))
	}
}
