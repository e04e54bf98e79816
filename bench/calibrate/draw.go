package calibrate

import (
	"math"
	"math/rand/v2"
	"slices"

	"weir/detectors"
	"weir/pipeline"
)

// dice draws from the distributions that the priors are made of.
type dice struct{ *rand.Rand }

func (d dice) gamma(shape float64) float64 {
	if shape < 1 {
		return d.gamma(shape+1) * math.Pow(d.Float64(), 1/shape)
	}
	a := shape - 1.0/3
	c := 1 / math.Sqrt(9*a)
	for {
		x := d.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-d.Float64()) < 0.5*x*x+a-a*v+a*math.Log(v) {
			return a * v
		}
	}
}

// share draws a client's own share from a cohort's.
func (d dice) share(b detectors.Beta) float64 {
	x, y := d.gamma(float64(b.A)/256), d.gamma(float64(b.B)/256)
	if x+y == 0 {
		return 0
	}
	return x / (x + y)
}

// rate draws a client's own mean from a cohort's, mean and shape in 1/256.
func (d dice) rate(r detectors.Rate) float64 {
	shape := float64(r.Shape) / 256
	return float64(r.Mean) / 256 * d.gamma(shape) / shape
}

// poisson counts what happens mean times on average.
func (d dice) poisson(mean float64) int {
	if mean > 60 {
		return max(0, int(mean+math.Sqrt(mean)*d.NormFloat64()+.5))
	}
	n, p, least := 0, d.Float64(), math.Exp(-mean)
	for p > least {
		p *= d.Float64()
		n++
	}
	return n
}

func (d dice) yes(share float64) bool { return d.Float64() < share }

// catalogue is what readers read: items by how popular they are.
type catalogue struct {
	items []item
	sum   []float64 // cumulated weights
}

type item struct {
	hash uint64
	tail pipeline.Nats
}

// catalogueOf takes the popular items of an edition, and as many others as it
// counted; a weir that has seen nothing knows no popularity, and people follow
// Zipf's law all the same.
func catalogueOf(b *detectors.Baselines) *catalogue {
	c := &catalogue{}
	total := 0.0
	add := func(hash uint64, tail pipeline.Nats, weight float64) {
		total += weight
		c.items, c.sum = append(c.items, item{hash, tail}), append(c.sum, total)
	}
	if b.Catalogue == 0 {
		for i := range 4000 {
			add(pipeline.Mix64(uint64(i), 1), 0, math.Pow(float64(i)+3, -1.1))
		}
		return c
	}
	rare := b.RareTail
	for i := range b.Endpoints {
		rare = max(rare, b.Endpoints[i].RareTail)
	}
	n := min(b.Catalogue, 1<<16)
	// What tails leave of the mass is the most popular items', whose tails are cut.
	mass, cut := float64(n-int64(len(b.Items)))*math.Exp(-rare.Float()), 0
	for _, it := range b.Items {
		mass += math.Exp(-it.Tail.Float())
		if it.Tail <= -2*pipeline.Nat {
			cut++
		}
	}
	left := max(0, float64(n)-mass) / float64(max(1, cut))
	for _, it := range b.Items {
		w := math.Exp(-it.Tail.Float())
		if it.Tail <= -2*pipeline.Nat {
			w += left
		}
		add(it.Item, it.Tail, w)
	}
	for i := int64(len(b.Items)); i < n; i++ {
		add(pipeline.Mix64(uint64(i), 1), rare, math.Exp(-rare.Float()))
	}
	return c
}

func (c *catalogue) draw(d dice) *item {
	i, _ := slices.BinarySearch(c.sum, d.Float64()*c.sum[len(c.sum)-1])
	return &c.items[min(i, len(c.items)-1)]
}
