package alerts

import (
	"math"
	"slices"

	"weir/pipeline"
)

// hundredths rounds n to 1/100 nat, half up, in integers: every machine gets
// the same digits.
func hundredths(n pipeline.Nats) int64 {
	return (int64(bounded(n))*100 + int64(pipeline.Nat)/2) >> 20
}

// bounded keeps sums of nats far from overflow; a million nats mean no more
// than a hundred.
func bounded(n pipeline.Nats) pipeline.Nats { return min(max(n, -1<<40), 1<<40) }

func nats(n pipeline.Nats) float64 { return float64(hundredths(n)) / 100 }

// round2 rounds to two decimals, half away from zero.
func round2(x float64) float64 { return math.Round(x*100) / 100 }

// signals renders the evidence so that the rounded parts sum to the rounded
// whole (largest remainder). What the parts do not explain gets a line of its
// own, so that a broken sum is seen and not hidden.
func signals(in []pipeline.FindingSignal, score pipeline.Nats) []pipeline.AlertSignal {
	in = slices.Clone(in)
	rest := bounded(score)
	for i := range in {
		in[i].Nats = bounded(in[i].Nats)
		rest -= in[i].Nats
	}
	if rest > pipeline.Nat/200 || rest < -pipeline.Nat/200 {
		in = append(in, pipeline.FindingSignal{Name: "other", Nats: rest})
	}
	out := make([]pipeline.AlertSignal, len(in))
	parts := make([]int64, len(in))
	left := make([]int64, len(in)) // remainders, in 2^-20 hundredths
	order := make([]int, len(in))
	missing := hundredths(score)
	for i := range in {
		n := int64(in[i].Nats) * 100
		parts[i], left[i], order[i] = n>>20, n&(1<<20-1), i
		missing -= parts[i]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return int(left[b] - left[a]) // both below 2^20
	})
	for i := 0; missing > 0 && len(order) > 0; i, missing = i+1, missing-1 {
		parts[order[i%len(order)]]++
	}
	for i := 0; missing < 0 && len(order) > 0; i, missing = i+1, missing+1 {
		parts[order[len(order)-1-i%len(order)]]--
	}
	for i := range in {
		out[i] = pipeline.AlertSignal{
			Name: in[i].Name, Observed: round2(in[i].Observed), Expected: round2(in[i].Expected),
			Count: in[i].Count, Nats: float64(parts[i]) / 100, Baseline: in[i].Baseline,
		}
	}
	return out
}

// oddsCap is where odds stop meaning more.
const oddsCap = 1_000_000_000_000_000

// oneIn is e^n to two significant digits, at least 1 and at most 1e15, in
// integers only: math.Exp may differ between processors in the last digit.
func oneIn(n pipeline.Nats) uint64 {
	if n <= 0 {
		return 1
	}
	if n > 35*pipeline.Nat { // e^34.54 = 1e15
		return oddsCap
	}
	const one, ln2 = uint64(1) << 32, uint64(2977044472) // ln 2 · 2^32
	x := uint64(n) << 12
	k, r := x/ln2, x%ln2
	sum, term := one, one
	for i := uint64(1); i < 16 && term > 0; i++ {
		term = term * r >> 32 / i
		sum += term
	}
	// sum is e^r · 2^32, below 2^33; the result is sum · 2^(k-32).
	if k <= 32 {
		sum >>= 32 - k
	} else {
		sum <<= k - 32
	}
	scale := uint64(1)
	for sum/scale >= 100 {
		scale *= 10
	}
	return min((sum+scale/2)/scale*scale, oddsCap)
}
