package detectors

import (
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// behindProxy sends a third of the traffic through a proxy that nobody declared.
func behindProxy(t *testing.T, batch []pipeline.Ordered) []pipeline.Ordered {
	t.Helper()
	proxy, ok := pipeline.ParseAddress("192.0.2.200")
	if !ok {
		t.Fatal("no address")
	}
	for i := range batch {
		if r := batch[i].Request; r.Kind == pipeline.PrincipalIP && r.Owner%3 == 0 {
			r.Forwarded, r.Address, r.Owner = r.Address, proxy, proxy.Owner()
		}
	}
	return batch
}

// watched runs a batch through detect, correlate and the proxy watch, in parts of n.
func watched(t *testing.T, batch []pipeline.Ordered, workers, n int) []pipeline.Finding {
	t.Helper()
	e := pipeline.ShippedEdition()
	cross, err := NewCorrelator(Config{}, e)
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, Config{Workers: workers, Cross: cross, Watch: pipeline.NewProxyWatch()}, e)
	var out []pipeline.Finding
	for part := range slices.Chunk(batch, n) {
		out = s.Process(out, part)
	}
	return end(s, out, batch)
}

// TestPlaces: findings come in the order of their places, each has one of its own,
// and neither they nor what is withheld from behind a proxy depend on workers and
// cuts.
func TestPlaces(t *testing.T) {
	batch := behindProxy(t, mixedTraffic(t))
	want := watched(t, batch, 1, len(batch))
	names := map[string]int{}
	for i := range want {
		names[want[i].Detector]++
		if i > 0 && !want[i-1].Place.Before(want[i].Place) {
			t.Fatalf("finding %d (%s) at %s is not behind the one before (%s) at %s", i, want[i].Detector, want[i].Place, want[i-1].Detector, want[i-1].Place)
		}
	}
	if len(names) < 6 || names["health.identity"] != 1 {
		t.Fatalf("too little is found to tell: %v", names)
	}
	for _, c := range [][2]int{{1, 1}, {1, 700}, {3, 4096}, {2, 1500}} {
		got := watched(t, batch, c[0], c[1])
		sameLines(t, "findings", lines(t, got), lines(t, want))
		for i := range got {
			if got[i].Place != want[i].Place {
				t.Fatalf("%d workers, parts of %d: finding %d is at %s, want %s", c[0], c[1], i, got[i].Place, want[i].Place)
			}
		}
	}
}

// TestTicks: how often the clock is looked at changes nothing, though tables stay
// awake for hours.
func TestTicks(t *testing.T) {
	batch := mixedTraffic(t)
	run := func(step time.Duration) string {
		e := pipeline.ShippedEdition()
		cross, err := NewCorrelator(Config{}, e)
		if err != nil {
			t.Fatal(err)
		}
		s := newSet(t, Config{Cross: cross}, e)
		var out []pipeline.Finding
		for part := range slices.Chunk(batch, 1000) {
			out = s.Process(out, part)
		}
		last := batch[len(batch)-1].Effective
		for at := step; at <= 12*time.Hour; at += step {
			out = s.Advance(out, last.Add(at))
		}
		return lines(t, out)
	}
	want := run(time.Minute)
	for _, step := range []time.Duration{7 * time.Second, 12 * time.Hour} {
		sameLines(t, step.String(), run(step), want)
	}
}

// TestSlices: a set visits its slices only, refuses those that it cannot take
// over, and slices that were given up by one set go on in another.
func TestSlices(t *testing.T) {
	const n = 5
	batch := mixedTraffic(t)
	e := pipeline.ShippedEdition()
	open := func() *Set {
		s := newSet(t, Config{Slices: n}, e)
		s.LearnTruth(nil, pipeline.MaxTime)
		return s
	}
	fresh := func(uint32) ([]byte, error) { return nil, nil }
	whole, parts := open(), []*Set{open(), open()}
	for i := range n {
		for _, s := range []*Set{whole, parts[i%2]} {
			if err := s.AddSlice(i, pipeline.Place{}, fresh); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := whole.AddSlice(2, pipeline.Place{}, fresh); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a slice is added twice: %v", err)
	}
	half := len(batch) / 2
	want := whole.Process(nil, batch)
	var found []pipeline.Finding
	for _, s := range parts {
		found = s.Process(found, batch[:half])
	}
	// Slice 1 moves.
	kept := map[uint32][]byte{}
	from, to := parts[1], parts[0]
	if err := from.ChangedSlice(1, true, func(n uint32, data []byte) error { kept[n] = slices.Clone(data); return nil }); err != nil {
		t.Fatal(err)
	}
	lo, hi := pipeline.SliceShards(1, n)
	for k := range kept {
		if int(k) < lo || int(k) >= hi {
			t.Errorf("virtual shard %d is kept with slice 1", k)
		}
	}
	done := from.SliceReached(1)
	from.RemoveSlice(1)
	if got := from.Slices(); !slices.Equal(got, []int{3}) {
		t.Errorf("slices %v are left, want 3", got)
	}
	if err := to.AddSlice(1, done, func(n uint32) ([]byte, error) { return kept[n], nil }); err != nil {
		t.Fatal(err)
	}
	for _, s := range parts {
		found = s.Process(found, batch[half:])
	}
	slices.SortFunc(found, func(a, b pipeline.Finding) int { return a.Place.Compare(b.Place) })
	for i := range found {
		found[i].Seq = 0
	}
	for i := range want {
		want[i].Seq = 0
	}
	if len(want) < 20 {
		t.Fatalf("only %d findings", len(want))
	}
	sameLines(t, "two sets", lines(t, found), lines(t, want))
	if err := from.AddSlice(1, done, fresh); err == nil || !strings.Contains(err.Error(), "go back") {
		t.Errorf("a slice is added to a set that is further: %v", err)
	}
}

// TestWaitsForTruth: a set whose correlate is another process goes no further than
// TruthDelay beyond what it knows, and ends minutes before it waits.
func TestWaitsForTruth(t *testing.T) {
	batch := mixedTraffic(t)
	s := newSet(t, Config{Slices: 1}, pipeline.ShippedEdition())
	if err := s.AddSlice(0, pipeline.Place{}, func(uint32) ([]byte, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	_, n := s.Take(nil, batch)
	start := pipeline.Time(minuteOf(batch[0].Effective) * 60e6)
	if n == 0 || n == len(batch) || batch[n-1].Effective >= start.Add(TruthDelay+time.Minute) || batch[n].Effective < start.Add(TruthDelay+time.Minute) {
		t.Fatalf("it took %d requests of %d, up to %s", n, len(batch), batch[max(n-1, 0)].Effective.Std())
	}
	if want := pipeline.PlaceReached(batch[n].Effective); s.Reached() != want {
		t.Errorf("it reached %s, want %s", s.Reached(), want)
	}
	if _, more := s.Take(nil, batch[n:]); more != 0 {
		t.Errorf("it took %d more", more)
	}
	s.LearnTruth(nil, start.Add(time.Minute))
	if _, more := s.Take(nil, batch[n:]); more == 0 {
		t.Error("it waits for what it knows")
	}
}
