package detectors

import (
	"math"
	"testing"

	"weir/pipeline"
)

func TestLn(t *testing.T) {
	for _, x := range []uint64{1, 2, 3, 7, 10, 1000, 1 << 20, 123456789, 1<<63 + 12345} {
		got, want := ln(x).Float(), math.Log(float64(x))
		if math.Abs(got-want) > 3e-6 {
			t.Errorf("ln(%d) = %.8f, want %.8f", x, got, want)
		}
	}
	for x := uint64(1); x < 100000; x++ {
		if ln(x+1) < ln(x) {
			t.Fatalf("ln is not monotone at %d", x)
		}
	}
}

func TestHalfPower(t *testing.T) {
	for x := 0.0; x < 15; x += 0.01 {
		got := float64(halfPower(uint64(x*65536))) / 65536
		if math.Abs(got-math.Exp2(-x)) > 0.002 {
			t.Errorf("halfPower(%.2f) = %.5f, want %.5f", x, got, math.Exp2(-x))
		}
	}
}

// TestTrialAttempts holds the number of misses in a row that page, by how
// ragged the cohort is (detection.md 3.4).
func TestTrialAttempts(t *testing.T) {
	f := func(null Beta, from, to int) {
		t.Helper()
		var tr trial
		for i := 1; i <= 200; i++ {
			tr.observe(null, true, countScale, 1000+uint32(i), halfLifeSeconds)
			if tr.score() >= pipeline.PageAt {
				if i < from || i > to {
					t.Errorf("null %.2f: paged after %d misses, want %d to %d", null.Mean(), i, from, to)
				}
				return
			}
		}
		t.Errorf("null %.2f: never paged", null.Mean())
	}
	f(betaOf(8, 72), 9, 12)
	f(betaOf(2, 18), 12, 20)
	f(betaOf(.6, 6.9), 20, 75)
}

// TestTrialNull simulates clean clients drawn from the cohort: chance alone
// must stay far below the bound.
func TestTrialNull(t *testing.T) {
	null := betaOf(2, 18)
	rng := uint64(42)
	next := func() float64 {
		rng ^= rng << 13
		rng ^= rng >> 7
		rng ^= rng << 17
		return float64(rng>>11) / (1 << 53)
	}
	gamma := func(shape int) float64 { // integer shapes only
		s := 0.0
		for range shape {
			s -= math.Log(1 - next())
		}
		return s
	}
	const clients, events = 20000, 60
	reviews := 0
	for range clients {
		x, y := gamma(2), gamma(18)
		p := x / (x + y)
		var tr trial
		for i := range events {
			tr.observe(null, next() < p, countScale, 1000+uint32(i), halfLifeSeconds)
		}
		if tr.score() >= 9*pipeline.Nat { // ln 8103
			reviews++
		}
	}
	if reviews > clients*events/8103 {
		t.Errorf("%d of %d clean clients reached 9 nats; the bound is %d", reviews, clients, clients*events/8103)
	}
}

func TestDistinct(t *testing.T) {
	var l linear64
	var w linear256
	var b bloom
	fresh := 0
	for i := range uint64(40) {
		h := pipeline.Mix64(i, 99)
		l.add(h)
		w.add(h)
		if b.add(h, 10) {
			fresh++
		}
		if b.add(h, 10) {
			t.Fatalf("item %d is new twice", i)
		}
	}
	if n := l.count(); n < 30 || n > 50 {
		t.Errorf("linear64 counts %d of 40", n)
	}
	if n := w.count(); n < 35 || n > 46 {
		t.Errorf("linear256 counts %d of 40", n)
	}
	if fresh < 37 {
		t.Errorf("bloom lost %d of 40", 40-fresh)
	}
}
