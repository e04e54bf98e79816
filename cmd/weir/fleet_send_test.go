package main

import (
	"math/rand/v2"
	"slices"
	"testing"

	"weir/pipeline"
)

// TestJoinedAndCut: bundles that are joined on the way, and cut where they are large,
// bring every item and every control once, in order.
func TestJoinedAndCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		producers := fleetShape{1 + rng.IntN(4)}.producers(pipeline.StageResource)
		var want []pipeline.Place
		var all pipeline.Bundle[pipeline.Finding]
		at := pipeline.Place{}
		for n := range 30 {
			// What a member says at once: of some requests, with controls between them.
			var b pipeline.Bundle[pipeline.Finding]
			for _, p := range producers {
				b.Spans = append(b.Spans, pipeline.Span{Producer: p, From: at})
			}
			for k := range rng.IntN(6) {
				request := pipeline.PlaceOfRequest(pipeline.Time(n), uint64(k))
				for i := range rng.IntN(4) {
					place := request.Signal(uint16(i))
					b.Add(pipeline.Finding{Place: place}, rng.IntN(len(producers)))
					want = append(want, place)
				}
				at = request.End()
				for rng.IntN(4) == 0 {
					at = at.Control(int64(len(want)), int64(len(want)))
					b.AddControl(at)
					want = append(want, at)
				}
			}
			for i := range b.Spans {
				b.Spans[i].To = at
			}
			joinBundles(&all, &b)
		}
		g := pipeline.NewGather(placeOfFinding, producers, 0)
		var got []pipeline.Place
		var batch []pipeline.Finding
		for i, part := range cutBundle(&all, placeOfFinding, 1+rng.IntN(20)) {
			if err := g.Push(int64(i), part); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for more := true; more; more = g.Control() {
				var reached pipeline.Place
				batch, reached = g.Next(batch[:0])
				for j := range batch {
					got = append(got, batch[j].Place)
				}
				if g.Control() {
					got = append(got, reached)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d places, want %d", seed, len(got), len(want))
		}
	}
}
