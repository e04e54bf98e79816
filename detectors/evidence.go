package detectors

import (
	"math/bits"

	"weir/pipeline"
)

// Evidence is integer arithmetic throughout: floating point may be fused or
// rounded differently from one machine to the next, and an alert must not.

// lnTable holds ln(1 + i/1024) in Nats for i = 0..1024, from an integer
// computation (repeated squaring for log2, times ln 2).
var lnTable = makeLnTable() //nolint:gochecknoglobals // a table of constants

// ln2 is ln 2 in 2^-40 units.
const ln2Q40 = 762123384786

func makeLnTable() [1025]pipeline.Nats {
	var t [1025]pipeline.Nats
	for i := 1; i <= 1024; i++ {
		x := uint64(1<<62) + uint64(i)<<52 // 1 + i/1024 in Q62
		var log2 uint64                    // Q40
		if i == 1024 {
			t[i] = pipeline.Nats((ln2Q40 + 1<<19) >> 20)
			continue
		}
		for b := 39; b >= 0; b-- {
			hi, lo := bits.Mul64(x, x) // Q124
			x = hi<<2 | lo>>62         // Q62
			if x >= 1<<63 {
				x >>= 1
				log2 |= 1 << b
			}
		}
		hi, lo := bits.Mul64(log2, ln2Q40) // Q80
		t[i] = pipeline.Nats((hi<<4 | lo>>60) + (lo>>59)&1)
	}
	return t
}

// ln returns the natural logarithm of x, which must be at least 1, to about
// 2^-20 nats.
func ln(x uint64) pipeline.Nats {
	e := bits.Len64(x) - 1
	frac := x << (63 - e) << 1 // the bits behind the leading one, Q64
	i := frac >> 54
	rest := frac << 10 >> 44 // 20 bits
	lo, hi := lnTable[i], lnTable[i+1]
	return pipeline.Nats((int64(e)*ln2Q40+1<<19)>>20) + lo + (hi-lo)*pipeline.Nats(rest)>>20
}

// lnRatio returns ln(num/den); a zero counts as one.
func lnRatio(num, den uint64) pipeline.Nats { return ln(max(num, 1)) - ln(max(den, 1)) }

// Beta is a beta distribution of a share, its parameters in 1/256.
type Beta struct {
	A uint32 `json:"a"`
	B uint32 `json:"b"`
}

// betaOf is for priors written as numbers.
func betaOf(a, b float64) Beta { return Beta{uint32(a * 256), uint32(b * 256)} }

// Mean is the expected share, for people.
func (b Beta) Mean() float64 { return float64(b.A) / float64(b.A+b.B) }

// alternatives are what attackers look like: almost always a miss, mostly, and
// often (detection.md 3.0). mixturePrice is ln of their number: the score is
// the mean of their likelihood ratios, bounded below by the best one's share.
const mixturePrice = pipeline.Nats(1151978) // ln 3

func alternative(j int) Beta {
	switch j {
	case 0:
		return Beta{20 * 256, 1 * 256}
	case 1:
		return Beta{4 * 256, 2 * 256}
	}
	return Beta{6 * 256, 12 * 256}
}

const (
	// symbolCap bounds what one event can say.
	symbolCap = 7 * pipeline.Nat
	// halfLife of evidence held against an address, a /64, a session, a key or
	// an account; behind shared egress it is shorter, see Profile.
	halfLifeSeconds = 7 * 24 * 3600
	// countScale is one event in the counters of a trial.
	countScale = 16
	// countCap halves the counters of a trial: 250 events are enough to know a
	// share, and a cap keeps old ones from outweighing new ones.
	countCap = 4000
)

// trial is a sequential test of one yes/no question against an over-dispersed
// cohort: three alternatives, each a clipped log likelihood ratio with the
// counts since it last was at zero. It is pointer-free and 36 bytes.
type trial struct {
	at     uint32 // event time of the last update, seconds
	branch [3]branch
}

type branch struct {
	s    int32 // Nats
	k, n uint16
}

// observe takes one symbol of the given weight (countScale is a whole one) at
// event second now. null is what the cohort does; half is the half-life of the
// evidence in seconds.
func (t *trial) observe(null Beta, yes bool, weight, now uint32, half uint32) {
	if !yes && t.branch == [3]branch{} && null.B >= 2*null.A {
		// No alternative expects a no more often than two times in three, and the
		// cohort does: nothing comes of it.
		t.at = max(t.at, now)
		return
	}
	t.decay(now, half)
	for j := range t.branch {
		b := &t.branch[j]
		alt := alternative(j)
		k, n := uint64(b.k)*(256/countScale), uint64(b.n)*(256/countScale)
		var inc pipeline.Nats
		if yes {
			inc = lnRatio((uint64(alt.A)+k)*(uint64(null.A)+uint64(null.B)+n), (uint64(null.A)+k)*(uint64(alt.A)+uint64(alt.B)+n))
		} else {
			inc = lnRatio((uint64(alt.B)+n-k)*(uint64(null.A)+uint64(null.B)+n), (uint64(null.B)+n-k)*(uint64(alt.A)+uint64(alt.B)+n))
		}
		inc = min(inc, symbolCap) * pipeline.Nats(weight) / countScale
		s := pipeline.Nats(b.s) + inc
		if s <= 0 {
			*b = branch{}
			continue
		}
		b.s = int32(min(s, 1000*pipeline.Nat))
		b.n += uint16(weight)
		if yes {
			b.k += uint16(weight)
		}
		if b.n > countCap {
			b.n, b.k = b.n/2, b.k/2
		}
	}
}

// decay tempers the evidence by its age.
func (t *trial) decay(now, half uint32) {
	if now <= t.at {
		return
	}
	age := now - t.at
	t.at = now
	if age < half/256 {
		// Below 0.3 % it is not worth the rounding; the age is not lost, it is
		// given back.
		t.at -= age
		if t.branch == [3]branch{} {
			t.at = now
		}
		return
	}
	f := int64(halfPower(uint64(age) << 16 / uint64(half))) // Q16
	for j := range t.branch {
		b := &t.branch[j]
		b.s = int32(int64(b.s) * f >> 16)
		b.k = uint16(int64(b.k) * f >> 16)
		b.n = uint16(int64(b.n) * f >> 16)
	}
}

// halfPower returns 2^-x in Q16 for x in Q16.
func halfPower(x uint64) uint64 {
	whole, frac := x>>16, x&0xffff
	if whole >= 16 {
		return 0
	}
	// 2^-f for f in [0,1): a quadratic through 0, 1/2 and 1, within 0.1 %.
	// 1 - 0.6715728 f + 0.1715728 f^2, in Q16.
	y := uint64(65536) - (44012*frac)>>16 + ((11244*frac)>>16*frac)>>16
	return y >> whole
}

// score is the evidence of the best alternative, less the price of having had
// three to choose from.
func (t *trial) score() pipeline.Nats {
	best := max(t.branch[0].s, t.branch[1].s, t.branch[2].s)
	return max(0, pipeline.Nats(best)-mixturePrice)
}

// bloom is a set of hashes that only ever says "seen" too often, which removes
// evidence and never adds any. Two generations of 1,024 bits, three probes inside
// one cache line (a blocked filter, Putze et al. 2007): the older generation is
// dropped when the younger is half full or a week old.
type bloom struct {
	used  uint16          // distinct items put into generation 0
	born  uint32          // event second
	block [2][2][8]uint64 // block, generation
}

// bloomFull is where 1,024 bits are half set with three probes.
const bloomFull = 236

// add reports whether h is new, and remembers it.
func (b *bloom) add(h uint64, now uint32) bool {
	if b.used >= bloomFull || (now > b.born && now-b.born > 7*24*3600) {
		for i := range b.block {
			b.block[i][1], b.block[i][0] = b.block[i][0], [8]uint64{}
		}
		b.used, b.born = 0, now
	}
	g := &b.block[h>>63]
	p1, p2, p3 := h&511, h>>9&511, h>>18&511
	has := func(g *[8]uint64) bool {
		return (g[p1>>6]>>(p1&63))&(g[p2>>6]>>(p2&63))&(g[p3>>6]>>(p3&63))&1 == 1
	}
	if has(&g[0]) {
		return false
	}
	old := has(&g[1])
	g[0][p1>>6] |= 1 << (p1 & 63)
	g[0][p2>>6] |= 1 << (p2 & 63)
	g[0][p3>>6] |= 1 << (p3 & 63)
	b.used++
	return !old
}

// filter is a bloom of a quarter of the size, for what is asked seldom.
type filter struct {
	used uint16
	born uint32
	gen  [2][8]uint64
}

// filterFull is where 512 bits are half set with three probes.
const filterFull = 118

// add reports whether h is new, and remembers it.
func (b *filter) add(h uint64, now uint32) bool {
	if b.used >= filterFull || now > b.born && now-b.born > 7*24*3600 {
		b.gen[1], b.gen[0] = b.gen[0], [8]uint64{}
		b.used, b.born = 0, now
	}
	p := [3]uint64{h & 511, h >> 9 & 511, h >> 18 & 511}
	fresh := [2]bool{}
	for i := range b.gen {
		for _, bit := range p {
			fresh[i] = fresh[i] || b.gen[i][bit>>6]>>(bit&63)&1 == 0
		}
	}
	if !fresh[0] {
		return false
	}
	for _, bit := range p {
		b.gen[0][bit>>6] |= 1 << (bit & 63)
	}
	b.used++
	return fresh[1]
}

// linear64 estimates a small number of distinct hashes in 64 bits.
type linear64 uint64

func (l *linear64) add(h uint64) { *l |= 1 << (h >> 58) }

// count is the estimate: exact for a handful, about 10 % off at 40, 200 at most.
func (l linear64) count() int {
	zero := 64 - bits.OnesCount64(uint64(l))
	if zero == 0 {
		return 266
	}
	// 64 ln(64/zero)
	return int((64*lnRatio(64, uint64(zero)) + pipeline.Nat/2) / pipeline.Nat)
}

// linear256 does the same up to about a thousand.
type linear256 [4]uint64

func (l *linear256) add(h uint64) { l[h>>62] |= 1 << (h >> 56 & 63) }

func (l *linear256) count() int {
	zero := 256
	for _, w := range l {
		zero -= bits.OnesCount64(w)
	}
	if zero == 0 {
		return 1420
	}
	return int((256*lnRatio(256, uint64(zero)) + pipeline.Nat/2) / pipeline.Nat)
}
