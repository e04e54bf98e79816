package alerts

import (
	"math"
	"math/rand/v2"
	"testing"

	"weir/pipeline"
)

func TestOneIn(t *testing.T) {
	f := func(n pipeline.Nats, want uint64) {
		t.Helper()
		if got := oneIn(n); got != want {
			t.Errorf("%v nats: one in %d, want %d", n.Float(), got, want)
		}
	}
	f(-5, 1)
	f(0, 1)
	f(pipeline.ReviewAt, 1_000_000)
	f(pipeline.PageAt, 100_000_000)
	f(24222106, 11_000_000_000) // 23.1 nats
	f(36*pipeline.Nat, oddsCap)
	f(math.MaxInt64, oddsCap)
	for n := pipeline.Nats(1); n < 34*pipeline.Nat; n += 12_345 {
		want := math.Exp(n.Float())
		if got := float64(oneIn(n)); math.Abs(got-want) > want*0.051+1 {
			t.Fatalf("%v nats: one in %v, want about %v", n.Float(), got, want)
		}
	}
}

// The rounded parts sum to the rounded whole, and none is off by more than 0.01.
func TestSignalsSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		in := make([]pipeline.FindingSignal, 1+r.IntN(12))
		score := pipeline.Nats(0)
		for i := range in {
			in[i].Nats = pipeline.Nats(r.Int64N(int64(12*pipeline.Nat))) - 2*pipeline.Nat
			score += in[i].Nats
		}
		sum := int64(0)
		for i, s := range signals(in, score) {
			sum += int64(math.Round(s.Nats * 100))
			if math.Abs(s.Nats-in[i].Nats.Float()) > 0.01 {
				t.Fatalf("%v became %v", in[i].Nats.Float(), s.Nats)
			}
		}
		if sum != hundredths(score) {
			t.Fatalf("parts sum to %d hundredths, the score is %d", sum, hundredths(score))
		}
	}
	got := signals([]pipeline.FindingSignal{{Name: "a", Nats: 3 * pipeline.Nat}}, 5*pipeline.Nat)
	if len(got) != 2 || got[1].Name != "other" || got[1].Nats != 2 {
		t.Errorf("what the parts do not explain is not shown: %+v", got)
	}
	// Numbers beyond reason still end, and still sum.
	huge := signals([]pipeline.FindingSignal{{Nats: math.MaxInt64}, {Nats: math.MinInt64}}, math.MaxInt64)
	if len(huge) != 3 || huge[0].Nats+huge[1].Nats+huge[2].Nats != nats(math.MaxInt64) {
		t.Errorf("%+v", huge)
	}
}
