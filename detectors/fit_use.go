package detectors

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"weir/pipeline"
)

// What the fit learns for inject.probe, data.exposure and volume.flood: how
// often ordinary clients send odd input, how busy they are, how much they take,
// and per endpoint how large and how slow answers are.

// fitExtras is what a row of the sample keeps for that: logarithmic bins, an
// eighth of an octave each.
type fitExtras struct {
	payloads   uint32
	sizeBin    uint8 // 0 unknown
	duration   uint8
	limit      uint8
	slot       uint8 // some bits of the slot's hash
	unanswered bool  // a status or a verb that counts for nothing
}

func extrasOf(r *pipeline.Request) fitExtras {
	x := fitExtras{payloads: uint32(r.Payloads), slot: uint8(r.Slot >> 7)}
	if r.Bytes >= 0 {
		x.sizeBin = binOf(uint64(r.Bytes))
	}
	if r.Duration > 0 {
		x.duration = binOf(uint64(r.Duration))
	}
	if r.Query != "" {
		if n := sizeParameter(r.Query); n > 0 {
			x.limit = binOf(uint64(n))
		}
	}
	x.unanswered = r.Verb == pipeline.VerbOptions || r.Status == 0 || r.Status == 304 || r.Status == 206
	return x
}

// binOf is 1 + eight times the logarithm to base two, 255 at most.
func binOf(n uint64) uint8 {
	if n < 8 {
		return uint8(1 + n)
	}
	e := bits.Len64(n) - 1
	return uint8(min(255, 1+8*(e-2)+int(n>>(e-3)&7)))
}

// binTop is the largest value of a bin.
func binTop(b uint8) uint64 {
	if b == 0 {
		return 0
	}
	n := int(b) - 1
	if n < 8 {
		return uint64(n)
	}
	e := n/8 + 2
	return uint64(8+n%8+1)<<(e-3) - 1
}

// sizeParameter finds how many items the query asks for; 0 when it does not say.
func sizeParameter(query string) int64 {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, ok := strings.Cut(pair, "=")
		if !ok || len(value) == 0 || len(value) > 9 || !pipeline.SizeParameter(name) {
			continue
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > 0 {
			return n
		}
	}
	return 0
}

// Sizes are quantiles of the answers of an endpoint, in bytes.
type Sizes struct {
	N      int64 `json:"n"`
	Median int64 `json:"median"`
	P99    int64 `json:"p99"`
	P999   int64 `json:"p999"`
}

// fitUse is what one client did of it.
type fitUse struct {
	owner  uint64
	input  share  // new inputs; of these, odd ones
	strong uint32 // distinct pairs of a shape that ordinary text does not have
	minute uint32 // requests in the busiest minute
	bytes  int64  // on the busiest day
}

// fitUser sums up one client's rows, in their order.
type fitUser struct {
	c        *fitUse
	seen     map[uint64]bool
	at, day  int64
	inMinute uint32
	today    int64
}

func newFitUser(c *fitUse, seen map[uint64]bool, owner uint64) fitUser {
	c.owner = owner
	return fitUser{c: c, seen: seen, at: -1, day: -1}
}

func (u *fitUser) take(r *fitRow, p *pathFacts) {
	for left := r.payloads; left != 0; left &= left - 1 {
		shape := pipeline.Payloads(left & -left)
		k := pipeline.Mix64(pairOf(p.template, uint64(r.slot), int(uint32(shape))), 11)
		if u.seen[k] || len(u.seen) > 1<<16 {
			continue
		}
		u.seen[k] = true
		u.c.input.n++
		u.c.input.k++
		if shape&pipeline.PayloadWeak == 0 {
			u.c.strong++
		}
	}
	if p.is(pipeline.ObsStatic) || p.is(pipeline.ObsAuto) || r.flags&fitLogin != 0 {
		return
	}
	miss := false
	switch r.status {
	case 400, 401, 403, 404, 405, 410, 501:
		miss = true
	}
	if !r.unanswered && !miss {
		if m := int64(r.time) / 60e6; m != u.at {
			u.at, u.inMinute = m, 0
		}
		u.inMinute++
		u.c.minute = max(u.c.minute, u.inMinute)
	}
	item := p.path
	if r.page >= 0 {
		item = pipeline.Mix64(p.path, uint64(r.page)+1)
	}
	d := int64(r.time) / 86400e6
	if k := pipeline.Mix64(pipeline.Mix64(item, uint64(d)), 12); !u.seen[k] && len(u.seen) <= 1<<16 {
		u.seen[k] = true
		if r.payloads == 0 {
			u.c.input.n++
		}
		if r.status >= 200 && r.status < 300 && r.sizeBin > 0 {
			if d != u.day {
				u.day, u.today = d, 0
			}
			u.today += int64(binTop(r.sizeBin))
			u.c.bytes = max(u.c.bytes, u.today)
		}
	}
}

// against is the evidence of this kind that detection would hold against the
// client.
func (c *fitUse) against(b *Baselines) pipeline.Nats {
	var t trial
	for range min(c.input.k, 100) {
		t.observe(b.Inject.Beta, true, countScale, 1, halfLifeSeconds)
	}
	x := breadth{n: min(c.minute, 1<<20) * breadthOne}
	volume := x.nats(b.Volume, 1)
	inject := pipeline.Nats(0)
	if c.strong >= 2 {
		inject = t.score() + rareSome*pipeline.Nats(min(c.strong, 100))
	}
	return max(inject, volume)
}

// fitUses fits the priors of the three detectors.
func fitUses(b *Baselines, clients []fitClient, shipped *Baselines) {
	b.Inject = fitBeta(clients, func(c *fitClient) share { return c.input }, shipped.Inject)
	var minutes, days []float64
	for i := range clients {
		c := &clients[i]
		if c.suspect {
			continue
		}
		if c.minute >= 2 {
			minutes = append(minutes, float64(c.minute))
		}
		if c.bytes > 0 {
			days = append(days, float64(ln(uint64(c.bytes)))/float64(pipeline.Nat))
		}
	}
	b.Volume = rateOf(minutes, shipped.Volume)
	if n := float64(len(days)); n >= 5 {
		slices.Sort(days)
		trim := len(days) / 50
		low, high := days[trim], days[len(days)-1-trim]
		var sum, sum2 float64
		for _, x := range days {
			x = min(max(x, low), high)
			sum += x
			sum2 += float64(x * x)
		}
		mean := sum / n
		spread := math.Sqrt(max(0, sum2/n-float64(mean*mean)))
		own := n / (n + 30)
		prior := float64(shipped.Bytes.Mu) / float64(pipeline.Nat)
		mean = float64(own*mean) + float64((1-own)*prior)
		// People differ by more than a sample shows: never less than e each way.
		spread = float64(own*min(max(spread, 1.25), 3)) + float64((1-own)*float64(shipped.Bytes.Sigma)/256)
		b.Bytes = LogNormal{Mu: pipeline.Nats(mean * float64(pipeline.Nat)), Sigma: uint32(spread * 256), N: int64(n)}
	}
}

// rateOf fits the gamma-Poisson of requests in the busiest minute. Pages of
// today make a dozen calls: a site whose sample shows less has not shown all.
func rateOf(xs []float64, shipped Rate) Rate { return gammaRate(xs, shipped, 15, 1, 0.8) }

// perClientAnswers is how many answers of one client count for an endpoint, so
// that none decides what is usual.
const perClientAnswers = 32

// fitAnswers learns how large, how slow and how odd each endpoint's traffic is,
// from the clients that teach.
func (f *Fitter) fitAnswers(facts []pathFacts, clients []fitClient, endpoints map[uint64]*EndpointBaseline) {
	type answers struct {
		size, duration, limit [256]uint32
		sizes, durations      int64
		limits, clients       int64
		shapes                [32]uint8 // clients by shape, up to a few
	}
	suspect := map[uint64]bool{}
	for i := range clients {
		if clients[i].suspect {
			suspect[clients[i].owner] = true
		}
	}
	all := map[uint64]*answers{}
	count := map[uint64]uint16{} // by client and endpoint
	for i := range f.rows {
		r := &f.rows[i]
		p := &facts[r.path]
		if suspect[r.owner] || p.is(pipeline.ObsUnknown) || p.is(pipeline.ObsStatic) {
			continue
		}
		if all[p.template] == nil {
			if len(all) >= maxEndpoints {
				continue
			}
			all[p.template] = &answers{}
		}
		a := all[p.template]
		k := pipeline.Mix64(r.owner, p.template)
		count[k]++
		if count[k] == 1 {
			a.clients++
		}
		for left := r.payloads; left != 0; left &= left - 1 {
			j := bits.TrailingZeros32(left)
			if s := pipeline.Mix64(k, uint64(j)+77); count[s] == 0 {
				count[s] = 1
				a.shapes[j] = uint8(min(255, int(a.shapes[j])+1))
			}
		}
		if count[k] > perClientAnswers || r.status < 200 || r.status >= 300 || r.status == 206 {
			continue
		}
		if r.sizeBin > 0 {
			a.size[r.sizeBin]++
			a.sizes++
		}
		if r.duration > 0 {
			a.duration[r.duration]++
			a.durations++
		}
		if r.limit > 0 {
			a.limit[r.limit]++
			a.limits++
		}
	}
	quantile := func(bins *[256]uint32, n int64, permille int64) int64 {
		left := (n*permille + 999) / 1000
		for b := range bins {
			if left -= int64(bins[b]); left <= 0 {
				return int64(binTop(uint8(b)))
			}
		}
		return 0
	}
	for t, a := range all {
		e := EndpointBaseline{}
		if a.sizes >= sizesEnough && a.clients >= 5 {
			e.Sizes = Sizes{N: a.sizes, Median: quantile(&a.size, a.sizes, 500), P99: quantile(&a.size, a.sizes, 990), P999: quantile(&a.size, a.sizes, 999)}
		}
		if a.durations >= sizesEnough && a.clients >= 5 {
			e.Slow = quantile(&a.duration, a.durations, 990)
		}
		if a.limits >= sizesEnough && a.clients >= 5 {
			e.Limit = uint32(min(quantile(&a.limit, a.limits, 999), 1<<31))
		}
		for j, n := range a.shapes {
			// Several clients, and no odd ones out.
			if n >= 3 && int64(n)*100 >= a.clients {
				e.Payloads |= 1 << j
			}
		}
		if e.Sizes == (Sizes{}) && e.Slow == 0 && e.Limit == 0 && e.Payloads == 0 {
			continue
		}
		of := endpointOf(endpoints, t)
		of.Sizes, of.Slow, of.Limit, of.Payloads = e.Sizes, e.Slow, e.Limit, e.Payloads
	}
}
