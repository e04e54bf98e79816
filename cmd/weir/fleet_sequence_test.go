package main

import (
	"errors"
	"math/rand/v2"
	"testing"

	"weir/pipeline"
	"weir/storage"
)

// TestSequenceGate: of what owners write who are killed, stopped and come back,
// each range of a source counts once, in order.
func TestSequenceGate(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	for range 500 {
		g := newSequenceGate()
		offset, to := int64(0), int64(0)
		type owner struct{ epoch, at int64 }
		var zombies []owner
		var now owner
		var want, got int64
		write := func(epoch, from, until int64) {
			offset++
			ok, err := g.admit(&sequenceEntry{ID: 7, Cause: &pipeline.CauseRange{From: from, To: until}}, epoch)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				if from != got {
					t.Fatalf("range from %d counts behind %d", from, got)
				}
				got = until
			}
		}
		for range 60 {
			switch rng.IntN(8) {
			case 0: // another one takes over, and looks where it was
				if now.epoch > 0 {
					zombies = append(zombies, now)
				}
				offset++
				g.claim(7, offset)
				now = owner{offset, to}
			case 1, 2: // one that was stopped goes on
				if len(zombies) > 0 {
					z := &zombies[rng.IntN(len(zombies))]
					n := 1 + rng.Int64N(9)
					write(z.epoch, z.at, z.at+n)
					z.at += n
				}
			default:
				if now.epoch == 0 {
					continue
				}
				n := 1 + rng.Int64N(9)
				for range 1 + rng.IntN(2) { // written twice when the answer is lost
					write(now.epoch, to, to+n)
				}
				to += n
				write(now.epoch, to, to) // a heartbeat
				want = to
			}
		}
		if got != want {
			t.Fatalf("%d count, want %d", got, want)
		}
	}
	g := newSequenceGate()
	f := func(from, to int64) error {
		_, err := g.admit(&sequenceEntry{ID: 1, Cause: &pipeline.CauseRange{From: from, To: to}}, 3)
		return err
	}
	var gap *storage.GapError
	if err := f(5, 10); err != nil {
		t.Errorf("the first of a source: %v", err)
	}
	if err := f(11, 20); !errors.As(err, &gap) {
		t.Errorf("a gap: %v", err)
	}
	if err := f(7, 20); !errors.As(err, &gap) {
		t.Errorf("an overlap: %v", err)
	}
}
