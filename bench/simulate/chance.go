package simulate

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// mix scrambles (splitmix64's finisher).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func hash2(a, b uint64) uint64 { return mix(a*0x9e3779b97f4a7c15 + mix(b+0x632be59bd9b4e019)) }

// hashName is FNV-1a, scrambled.
func hashName(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}

// unit maps a hash to [0,1).
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// bell turns a hash into a draw near the standard normal: the number of ones in
// 64 bits has mean 32 and deviation 4.
func bell(h uint64) float64 { return float64(bits.OnesCount64(h)-32) / 4 }

// permute maps x in [0,n) to another place, one to one: a Feistel network over
// the next even power of two, walked until it lands inside. A larger x would
// perhaps never land; it is taken modulo n.
func permute(x, n, key uint64) uint64 {
	x %= n
	half := (bits.Len64(max(1, n-1)) + 1) / 2
	mask := uint64(1)<<half - 1
	for {
		l, r := x>>half, x&mask
		for i := range uint64(3) {
			l, r = r, l^mix(r^key+i*0x9e3779b97f4a7c15)&mask
		}
		if x = l<<half | r; x < n {
			return x
		}
	}
}

// unpermute is the inverse of permute.
func unpermute(x, n, key uint64) uint64 {
	x %= n
	half := (bits.Len64(max(1, n-1)) + 1) / 2
	mask := uint64(1)<<half - 1
	for {
		l, r := x>>half, x&mask
		for i := uint64(3); i > 0; i-- {
			l, r = r^mix(l^key+(i-1)*0x9e3779b97f4a7c15)&mask, l
		}
		if x = l<<half | r; x < n {
			return x
		}
	}
}

// gammaDraw is Marsaglia and Tsang's method.
func gammaDraw(r *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gammaDraw(r, shape+1) * math.Pow(1-r.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v *= v * v
		if math.Log(1-r.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

func betaDraw(r *rand.Rand, a, b float64) float64 {
	x := gammaDraw(r, a)
	return x / (x + gammaDraw(r, b))
}

// curve is when clients are active: weights by hour, mean 1.
type curve struct {
	hours   [24]float64
	weekend float64
	peak    float64
}

func newCurve(weekend float64, hours [24]float64) curve {
	c := curve{weekend: weekend}
	sum := 0.0
	for _, h := range hours {
		sum += h
	}
	for i, h := range hours {
		c.hours[i] = h * 24 / sum
		c.peak = max(c.peak, c.hours[i])
	}
	c.peak *= max(1, weekend)
	return c
}

// curves of the day, in UTC of the scenario.
func flatCurve() curve {
	return curve{hours: [24]float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, weekend: 1, peak: 1}
}

func homeCurve() curve {
	return newCurve(1.25, [24]float64{2, 1, .6, .5, .5, .8, 2, 4, 5, 5, 5.5, 6, 7, 6, 5.5, 5.5, 6, 7, 8.5, 10, 10.5, 9, 6.5, 4})
}

func officeCurve() curve {
	return newCurve(.06, [24]float64{.1, .1, .1, .1, .1, .3, 1.5, 5, 10, 11, 11, 10, 6, 9, 10, 10, 9, 6, 2.5, 1, .6, .4, .3, .2})
}

// at is the weight at µs since the start of w.
func (c *curve) at(w *world, now int64) float64 {
	minute := (w.dayStart + now/60_000_000)
	h, part := minute/60%24, float64(minute%60)/60
	v := c.hours[h]*(1-part) + c.hours[(h+1)%24]*part
	if d := (w.weekday + minute/1440) % 7; d == 0 || d == 6 {
		v *= c.weekend
	}
	return v
}

// next draws the next moment of a Poisson process with perDay events a day that
// follows the curve.
func (c *curve) next(w *world, r *rand.Rand, now int64, perDay float64) int64 {
	if perDay <= 0 {
		return w.end
	}
	mean := 86400e6 / (perDay * c.peak)
	for now < w.end {
		now += 1 + int64(min(1e15, r.ExpFloat64()*mean))
		if r.Float64()*c.peak < c.at(w, now) {
			break
		}
	}
	return now
}
