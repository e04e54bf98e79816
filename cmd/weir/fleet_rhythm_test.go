package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"weir/pipeline"
	"weir/storage"
)

// TestSourceMinutes: how a source usually comes is what its minutes say, also when
// they were stored between.
func TestSourceMinutes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 9))
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for range 30 {
		m, seen := new(sourceMinutes), map[int64]bool{}
		if got := m.rhythm(); got != (storage.Rhythm{Last: pipeline.NoTime}) {
			t.Fatalf("of nothing: %+v", got)
		}
		at, newest, lines := start, int64(0), int64(0)
		for range 40 {
			at = at.Add(time.Duration(rng.IntN([]int{3, 200, 3000, 12000}[rng.IntN(4)])) * time.Minute)
			b := &pipeline.Block{Rejects: pipeline.Rejects{Lines: 5, Reason: map[string]int64{"format": 2, "time": 1}}}
			for range 3 {
				q := at.Add(-time.Duration(rng.IntN(90)) * time.Minute)
				b.Requests = append(b.Requests, pipeline.Request{Time: pipeline.TimeOf(q)})
				minute := q.UnixMicro() / minuteMicros
				seen[minute] = true
				newest = max(newest, minute)
			}
			b.Requests = append(b.Requests, pipeline.Request{Time: pipeline.TimeOf(at.Add(2 * time.Hour))}, pipeline.Request{}) // no stamps to go by
			m.add(b, at)
			lines += 5
			if rng.IntN(4) == 0 {
				data := must[[]byte](t)(m.store())
				m = new(sourceMinutes)
				if err := m.restore(data); err != nil {
					t.Fatal(err)
				}
				if again := must[[]byte](t)(m.store()); again != nil {
					t.Fatal("nothing changed, and it is stored again")
				}
			}
			want := storage.Rhythm{Last: pipeline.Time(newest * minuteMicros), Lines: lines, Rejected: lines / 5 * 3}
			var first, before int64
			for minute := newest - rhythmWeek + 1; minute <= newest; minute++ {
				if !seen[minute] {
					continue
				}
				want.Minutes++
				if first == 0 {
					first, before = minute, minute
				}
				want.Gap, before = max(want.Gap, time.Duration(minute-before)*time.Minute), minute
			}
			want.Span = time.Duration(newest-first) * time.Minute
			if got := m.rhythm(); got != want {
				t.Fatalf("%+v, want %+v", got, want)
			}
		}
	}
	if err := new(sourceMinutes).restore([]byte(`{"active":[1]}`)); err == nil {
		t.Error("a cut record is taken")
	}
}
