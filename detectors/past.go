package detectors

import (
	"fmt"

	"weir/pipeline"
)

// The own past of a principal: how much it usually takes on a day that it comes.
// It serves twice.
//
// As a null: who has come on seven days is measured against its own level
// instead of the cohort's, in scrape.crawl, data.exposure and volume.flood. The
// own level moves that null at most to twice less and four times more, so that
// nobody earns the right to take everything, and a day with evidence against it
// teaches nothing.
//
// As a lagged reference: a level that follows along hides a slow ramp (at 3 % a
// day until it is 37 times higher, detection.md 3.0), so each day is also held
// against the level of three to five weeks before, in a CUSUM. Growth alone
// reaches review at most: a business that grows looks like that.
//
// What is kept of somebody lives beside the profiles, for those alone who come
// back, and outlives the profile. The profile has what follows from it, in room
// that it had to spare, and is written when the principal's day ends, on its first
// request of another: a request costs a counter and no more.

// measure is what a past is kept of.
type measure uint8

const (
	pastItems    measure = iota // distinct items granted in a day
	pastBytes                   // of these, in a day
	pastRequests                // in a day, as volume.flood counts them
	pastMinute                  // in the busiest minute of a day; it has no lag
	measures
	lagged = pastMinute // measures with a lagged reference
)

const (
	// maxPasts bounds a virtual shard, pastsGrow is how many room is made for at
	// once. A principal is taken in when it comes on a second day and did pastLeast
	// requests on the first.
	maxPasts, pastsGrow = 64, 4
	pastLeast           = 10
	pastStale           = 35 // days after which anybody may take the place

	// ownDays and ownEvents are what an own level must be known from, ownWeight is
	// how many days the cohort's weighs beside it.
	ownDays, ownEvents, ownWeight = 7, 50, 7
	// ownLow and ownHigh bound the own null against the cohort's, in octaves;
	// ownStep is a sixteenth of one.
	ownLow, ownHigh, ownStep = 1, 2, 16
	// A past is steady when its days are off by half at most, and many.
	steadySpread, steadyDays = levelOne / 4, 21
	steadyShape              = 256 * 2
	// ownCalm is the evidence of a day from which on it teaches nothing.
	ownCalm = 3 * pipeline.Nat

	// levelDays is the memory of a level: a half-life of seven days.
	levelDays   = 10
	spreadDays  = 28
	pastWeeks   = 5 // snapshots of the level, one a week: the oldest is 28 to 34 days old
	weekEnough  = 7 // days that make a level worth a snapshot
	levelOne    = 1024
	growthShift = levelOne * 7 / 10 // the alternative: twice as much
	growthSlack = levelOne / 10     // what a level may be off
	priorSpread = levelOne / 4      // variance of ln(day): people are off by half
	leastSpread = levelOne * 8 / 100
	growthDay   = 3 * pipeline.Nat // what one day can say: growth takes five
	growthUnits = 16               // of growth.nats in a nat
	// growthCap is between review and page.
	growthCap = floodCap - pipeline.Nat/growthUnits
	// growthCohort is how many times the ordinary a client must take for its growth
	// to be anybody's business: one in sixteen does. Of bytes it is as many.
	growthCohort = 3
	// busyDay is how many busiest minutes of an ordinary client make such a day.
	busyDay = 20
)

// past is what a shard keeps of one principal.
type past struct {
	owner    uint64
	bytes    int64 // the counters of its profile when its last day ended
	requests uint32
	items    uint32
	day      uint16 // that ended last, since 1970
	week     uint16 // of the last snapshot
	days     uint8  // days seen
	weeks    uint8  // snapshots taken
	told     uint8  // 1 + measure whose growth reached review; until it is over
	_        uint8
	of       [measures]usual
	lag      [lagged]lag
}

// usual is of ln(a day's amount) in 1/1024, over the days that had any.
type usual struct {
	mean   int16
	spread uint16 // variance
	n      uint8
	_      uint8
}

// lag is the level as it was, and the evidence against it: 0 in before is none.
type lag struct {
	before [pastWeeks]int16
	sum    uint16 // CUSUM, nats in 1/1024
}

// growth is what a detector knows of its principal's past: 4 bytes.
type growth struct {
	nats   uint8 // evidence of growth, 1/16
	before uint8 // level it is measured against, and the present one: bins of binOf
	now    uint8
	own    uint8 // the own null, see ratio; 0 none
}

func (g growth) score() pipeline.Nats { return pipeline.Nats(g.nats) * pipeline.Nat / growthUnits }

// ownSteady marks an own level that varies less than people do.
const ownSteady = 128

// rate is r with the own level as its mean. A steady past is less ragged than
// the cohort.
func (g growth) rate(r Rate) Rate {
	if g.own == 0 {
		return r
	}
	r.Mean = max(1, uint32(uint64(r.Mean)<<ownHigh*g.ratio()>>16))
	if g.own&ownSteady != 0 {
		r.Shape = max(r.Shape, steadyShape)
	}
	return r
}

// ratio is the own level over four times the cohort's, 1/65536.
func (g growth) ratio() uint64 {
	step := uint64(g.own&^ownSteady) - 1
	return halfPower(((ownLow+ownHigh)*ownStep - step) << 16 / ownStep)
}

// taken is l around the own level.
func (g growth) taken(l LogNormal) LogNormal {
	if g.own == 0 {
		return l
	}
	l.Mu += ln(g.ratio()<<ownHigh) - ln(1<<16)
	if g.own&ownSteady != 0 {
		l.Sigma = min(l.Sigma, 256)
	}
	return l
}

// baseline says what a count was held against: the own past, else n clients.
func (g growth) baseline(b *Baselines, n int64) pipeline.Baseline {
	if g.own == 0 {
		return b.describe(n)
	}
	return pipeline.Baseline{Kind: "own", N: ownDays}
}

// growthOf is where a profile has room for it.
func (p *Profile) growthOf(m measure) *growth {
	switch m {
	case pastItems:
		return &p.crawl.grown
	case pastBytes:
		return &p.taken
	}
	return &p.flood.grown
}

// grown is the line of evidence; its Nats are n, the score that growth alone
// made.
func grown(g growth, what string, n pipeline.Nats) pipeline.FindingSignal {
	return pipeline.FindingSignal{
		Name: what, Observed: float64(binTop(g.now)), Expected: float64(binTop(g.before)), Count: int64(binTop(g.now)), Nats: n,
		Baseline: pipeline.Baseline{Kind: "own", N: 28},
	}
}

// grew says it in words.
func (g growth) grew(what func(n int64) string) string {
	before := max(1, binTop(g.before))
	times := 10 * binTop(g.now) / before
	return fmt.Sprintf("Its days grew little by little, from about %s four weeks before to about %s: %d.%d times as much",
		what(int64(before)), what(int64(binTop(g.now))), times/10, times%10)
}

// describeGrowth makes f a case of growth; what counts the measure in words.
func describeGrowth(f *pipeline.Finding, g growth, title string, what func(n int64) string) {
	f.Title = title + " " + f.Who.Value
	f.Reason = g.grew(what) + ", as much as no ordinary client takes."
	f.Next = append(f.Next, "Ask whose "+f.Who.Value+" is and whether its work grew; else set it a quota")
	f.BenignIf = []string{"a customer or a partner whose business grows: add it to identity.known_clients", "a season in which everybody does more"}
	f.WouldNotFireIf = "it had taken less than twice what it took four weeks before"
}

// endDay is called with the first request of another day: day is the last one
// that p's principal came on.
func (s *shard) endDay(p *Profile, day uint16, b *Baselines) {
	h := s.pastOf(p, day)
	busiest := p.busiest
	p.busiest = 0
	if h == nil {
		return
	}
	since := func(now, then int64) uint64 {
		if now < then {
			return uint64(now) // the counter began anew
		}
		return uint64(now - then)
	}
	_, people := p.people(b)
	share := uint64(min(max(1, people-1), 1000))
	amounts := [measures]uint64{
		since(int64(p.crawl.got), int64(h.items)) / share, since(p.exposure.total, h.bytes) / share,
		since(int64(p.counted), int64(h.requests)) / share, uint64(busiest) / share,
	}
	h.items, h.bytes, h.requests = p.crawl.got, p.exposure.total, p.counted
	if h.days == 0 && p.First < pipeline.Time(day)*86400e6 {
		// It was turned away before: these are more days than one.
		h.day, h.days = day, 1
		return
	}
	h.day = day
	h.days = min(h.days, 254) + 1
	for m := range measures {
		if m < lagged {
			h.grow(m, amounts[m], b)
		}
		h.of[m].take(amounts[m])
		p.own(m, &h.of[m], amounts[m], b)
	}
	if week := day / 7; week > h.week && h.days >= weekEnough {
		h.week = week
		h.weeks = min(h.weeks, 254) + 1
		for m := range lagged {
			l := &h.lag[m]
			copy(l.before[1:], l.before[:pastWeeks-1])
			if l.before[0] = 0; h.of[m].n >= weekEnough {
				l.before[0] = h.of[m].mean
			}
		}
	}
	h.tell(p)
}

// pastOf finds what is kept of p's principal, or makes room for it; nil where
// there is none. Who comes back often is never put out by who does not.
func (s *shard) pastOf(p *Profile, day uint16) *past {
	worst := -1
	for i := range s.pasts {
		h := &s.pasts[i]
		if h.owner == p.Owner {
			return h
		}
		stale := uint16(pastStale)
		if h.days <= 1 {
			stale = 2
		}
		if h.day+stale < day && (worst < 0 || h.day < s.pasts[worst].day) {
			worst = i
		}
	}
	if p.Requests < pastLeast {
		return nil
	}
	fresh := past{owner: p.Owner, day: day, week: day / 7}
	if len(s.pasts) == cap(s.pasts) {
		if worst >= 0 {
			s.pasts[worst] = fresh
			return &s.pasts[worst]
		}
		if len(s.pasts) == maxPasts {
			return nil
		}
		s.pasts = append(make([]past, 0, len(s.pasts)+pastsGrow), s.pasts...)
	}
	s.pasts = append(s.pasts, fresh)
	return &s.pasts[len(s.pasts)-1]
}

// levelOf is ln n as levels have it.
func levelOf(n uint64) int64 { return int64(ln(max(1, n))) * levelOne / int64(pipeline.Nat) }

func clip(x, most int64) int64 { return min(max(x, -most), most) }

// take learns from a day. One day moves a level by a tenth of a nat at most.
func (l *usual) take(amount uint64) {
	if amount == 0 {
		return
	}
	x := levelOf(amount)
	if l.n == 0 {
		l.mean, l.spread, l.n = int16(x), priorSpread, 1
		return
	}
	off := x - int64(l.mean)
	l.n = min(l.n, 254) + 1
	n := int64(l.n)
	wide := clip(off, 2*levelOne)
	l.spread = uint16(int64(l.spread) + (wide*wide/levelOne-int64(l.spread))/min(n, spreadDays))
	if n > ownDays {
		off = clip(off, levelOne)
	}
	l.mean += int16(off / min(n, levelDays))
}

// variance leans on that of people, and is never less than a little.
func (l *usual) variance() int64 {
	n := min(int64(l.n), 30)
	return max(leastSpread, (10*priorSpread+n*int64(l.spread))/(10+n))
}

// grow holds a day against the level of weeks before.
func (h *past) grow(m measure, amount uint64, b *Baselines) {
	l := &h.lag[m]
	before := l.oldest()
	if before == 0 || amount == 0 {
		return
	}
	v := h.of[m].variance()
	off := levelOf(amount) - int64(before) - growthSlack
	inc := growthShift * (2*off - growthShift) / (2 * v) // 1/1024 nats
	inc = min(inc, int64(growthDay)*1024/int64(pipeline.Nat))
	if amount < ordinary(m, b) {
		inc = min(inc, 0)
	}
	l.sum = uint16(min(max(0, int64(l.sum)+inc), 31*1024))
}

func (l *lag) oldest() int16 {
	for i := pastWeeks - 1; i > 0; i-- {
		if l.before[i] != 0 {
			if i > 1 && l.before[i-1] != 0 {
				return int16((int32(l.before[i]) + int32(l.before[i-1])) / 2)
			}
			return l.before[i]
		}
	}
	return 0
}

// ordinary is the amount of a day below which nobody needs to hear of growth.
func ordinary(m measure, b *Baselines) uint64 {
	switch m {
	case pastItems:
		return growthCohort * uint64(b.Crawl.Mean) / 256
	case pastBytes:
		return max(smallDay, uint64(expBytes(b.Bytes.Mu+pipeline.Nat*3*pipeline.Nats(b.Bytes.Sigma)/512)))
	}
	return busyDay * uint64(b.Volume.Mean) / 256
}

// tell writes the growth of each measure into p. What grows in several ways is
// told in one: by items, else bytes, else requests, until it is over.
func (h *past) tell(p *Profile) {
	best := uint16(0)
	for m := range lagged {
		best = max(best, h.lag[m].sum)
	}
	if h.told != 0 && h.lag[h.told-1].sum == 0 {
		h.told = 0
	}
	by := measure(h.told) - 1
	if h.told == 0 {
		for by = 0; h.lag[by].sum < best/2; by++ {
		}
	}
	for m := range lagged {
		g := p.growthOf(m)
		l := &h.lag[m]
		g.nats, g.before, g.now = 0, 0, 0
		if m != by || l.sum == 0 {
			continue
		}
		score := min(pipeline.Nats(l.sum)*pipeline.Nat/1024, growthCap)
		if score >= pipeline.ReviewAt {
			h.told = uint8(m) + 1
		}
		g.nats, g.before, g.now = uint8(score*growthUnits/pipeline.Nat), binOfLevel(l.oldest()), binOfLevel(h.of[m].mean)
	}
}

// binOfLevel is the bin of e to the level.
func binOfLevel(l int16) uint8 {
	return binOf(uint64(expBytes(pipeline.Nats(l) * (pipeline.Nat / levelOne))))
}

// own writes the own null of a measure into p, unless the day speaks against it.
func (p *Profile) own(m measure, l *usual, amount uint64, b *Baselines) {
	g := p.growthOf(m)
	var cohort, against pipeline.Nats
	count := func(r Rate) {
		x := breadth{n: uint32(min(amount, 1<<20)) * breadthOne}
		cohort, against = ln(uint64(r.Mean))-ln(256), x.nats(g.rate(r), 1)
	}
	switch m {
	case pastItems:
		count(b.Crawl)
	case pastMinute:
		count(b.Volume)
	case pastBytes:
		cohort, against = b.Bytes.Mu, g.taken(b.Bytes).nats(int64(min(amount, 1<<50)), 1)
	default:
		return
	}
	if against >= ownCalm || l.n < ownDays || ln(uint64(l.n))+pipeline.Nats(l.mean)*pipeline.Nat/levelOne < ln(ownEvents) {
		return
	}
	n := int64(l.n)
	off := int64(pipeline.Nats(l.mean)*pipeline.Nat/levelOne-cohort) * n / (n + ownWeight)
	step := ownLow*ownStep + off*ownStep/int64(ln2Nats)
	g.own = uint8(min(max(step, 0), (ownLow+ownHigh)*ownStep)) + 1
	// Beyond the bound it is no longer the own level, and as ragged as the cohort's.
	if l.spread <= steadySpread && n >= steadyDays && step < (ownLow+ownHigh)*ownStep {
		g.own |= ownSteady
	}
}
