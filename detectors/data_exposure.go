package detectors

import (
	"fmt"

	"weir/pipeline"
)

// dataExposure sees one client that takes much more data than its kind does:
// bulk exports, page sizes that nobody else asks for, answers far larger than
// the endpoint usually gives.
//
// Evidence, from the first contact with each item that was granted (assets are
// no data; a range download counts once for its object): bytes a day against
// the cohort's log-normal or the own past's, at most 12 nats, so that it never
// alerts alone, or days that grew slowly, see past.go; beside them, to review
// level, a walk through more pages of a list than people turn, scrape.crawl's, if they
// are on average as large as what others take in a day;
// answers more than four times the endpoint's 99th percentile, against an
// over-dispersed share; and size parameters (limit, per_page ...) beyond the
// endpoint's 99.9th percentile whose answer was indeed large. Evidence halves in
// a day (bytes) and seven (the others). At least three different items.
//
// Misses: exports that are usual for the endpoint; a single huge answer. Looks like it: a backup, a data
// warehouse's sync. OWASP API3, API4, ATT&CK T1213, T1567.
type dataExposure struct{}

// exposureState is 72 bytes.
type exposureState struct {
	bytes  int64 // a day, decaying
	total  int64 // since onset
	onset  pipeline.Time
	large  trial
	sized  int32 // Nats from size parameters
	at     uint32
	items  uint16 // first contacts with a known size
	huge   uint16 // answers beyond the endpoint's
	asked  uint16 // size parameters beyond the endpoint's
	people uint16
	limit  uint32 // the largest
}

func newDataExposure() detector { return dataExposure{} }

const (
	bytesCap = 12 * pipeline.Nat
	sizedCap = 10 * pipeline.Nat
	// sizesEnough is how many answers make an endpoint's sizes known.
	sizesEnough = 50
	// priorLimit is the size parameter that nobody sends where none is known.
	priorLimit = 500
	// smallDay is what nobody needs to hear of, however little others take.
	smallDay = 1 << 20
)

// hugeNull is the share of answers beyond four times the 99th percentile.
func hugeNull() Beta { return betaOf(0.2, 40) }

func (dataExposure) observe(p *Profile, o *pipeline.Observation, s *scope) (pipeline.Nats, bool) {
	if o.Status < 200 || o.Status >= 300 || o.Bytes < 0 {
		return 0, false
	}
	if o.Has(pipeline.ObsBorrowed) && !p.rotates() {
		return 0, false
	}
	st := &p.exposure
	now := seconds(o.Time)
	limit := int64(0)
	if s.r.Query != "" {
		limit = sizeParameter(s.r.Query)
	}
	fresh := s.freshItem
	if limit > 0 && !fresh {
		fresh = p.seen.add(pipeline.Mix64(o.Item, uint64(limit)+0x6c696d), now)
	}
	if !fresh {
		return 0, false
	}
	if o.Status == 206 && !s.freshItem {
		return 0, false
	}
	st.decay(now)
	if st.items == 0 {
		st.onset = o.Time
	}
	st.items = bump(st.items)
	if st.items < 16 || st.items%16 == 0 {
		_, high := p.people(s.b)
		st.people = uint16(min(max(1, high-1), 1000))
	}
	if st.bytes < 1<<60 && o.Bytes < 1<<50 {
		st.bytes += o.Bytes
		st.total += o.Bytes
	}
	counted := false
	e := s.endpoint
	known := e != nil && e.Sizes.N >= sizesEnough
	if known && o.Status != 206 {
		huge := o.Bytes > 4*max(e.Sizes.P99, 256)
		st.large.observe(hugeNull(), huge, countScale, now, halfLifeSeconds)
		if huge {
			st.huge = bump(st.huge)
			counted = true
		}
	}
	if limit > 0 {
		top := int64(priorLimit)
		if e != nil && e.Limit > 0 {
			top = int64(e.Limit)
		}
		if limit > 2*top && (!known || o.Bytes > 2*e.Sizes.Median) && o.Bytes > 4096 {
			st.sized = int32(min(pipeline.Nats(st.sized)+rareSome, sizedCap))
			st.asked = bump(st.asked)
			st.limit = uint32(max(int64(st.limit), min(limit, 1<<31)))
			counted = true
		}
	}
	score := max(p.exposedScore(s.b), p.taken.score())
	return score, counted || score >= dossierAt
}

func (st *exposureState) decay(now uint32) {
	if now <= st.at {
		return
	}
	age := now - st.at
	if age < daySeconds/256 && st.at != 0 {
		return
	}
	if st.at != 0 {
		st.bytes = st.bytes >> 16 * int64(halfPower(uint64(age)<<16/daySeconds))
		st.sized = int32(int64(st.sized) * int64(halfPower(uint64(age)<<16/halfLifeSeconds)) >> 16)
		st.large.decay(now, halfLifeSeconds)
	}
	st.at = now
	if st.bytes < 4096 && st.sized == 0 && st.large.branch == [3]branch{} {
		*st = exposureState{at: now}
	}
}

// LogNormal is the distribution of bytes a day: of the logarithm, Mu in Nats and
// the standard deviation Sigma in 1/256 nats.
type LogNormal struct {
	Mu    pipeline.Nats `json:"mu"`
	Sigma uint32        `json:"sigma"`
	N     int64         `json:"n"`
}

// nats is the evidence that n bytes a day come of a client that takes 20, 150 or
// 1,100 times as much as the cohort.
func (l LogNormal) nats(n int64, people int) pipeline.Nats {
	if n < smallDay {
		return 0
	}
	x := ln(uint64(n)/uint64(max(1, people))+1) - l.Mu
	best := pipeline.Nats(0)
	for _, d := range [...]pipeline.Nats{3, 5, 7} {
		// d (2x - d) / 2 sigma^2
		best = max(best, d*(2*x-d*pipeline.Nat)*128/pipeline.Nats(l.Sigma)*256/pipeline.Nats(l.Sigma))
	}
	return max(0, best-mixturePrice)
}

// exposed are the lines of evidence of p. Until three answers were out of the
// ordinary by themselves, what was taken counts beside a walk through the pages of
// a list, and that comes to review level at most: exports are made to be taken.
func (p *Profile) exposed(b *Baselines) (bytes, large, sized, pages pipeline.Nats) {
	st := &p.exposure
	some := st.huge+st.asked > 0
	if st.items < 3 || !some && p.crawl.walk == 0 {
		return 0, 0, 0, 0
	}
	bytes = min(p.taken.taken(b.Bytes).nats(st.bytes, int(st.people)), bytesCap)
	switch {
	case st.huge+st.asked >= 3:
		return bytes, st.large.score(), pipeline.Nats(st.sized), 0
	case p.crawl.walk > 0 && st.bytes/int64(st.items) >= expBytes(b.Bytes.Mu): // each as much as others take in a day
		return bytes, 0, 0, min(pipeline.Nats(p.crawl.walk), slowCap-bytes)
	}
	return min(bytes, dossierAt-1), 0, 0, 0 // three different items at least
}

func (p *Profile) exposedScore(b *Baselines) pipeline.Nats {
	bytes, large, sized, pages := p.exposed(b)
	return bytes + large + sized + pages
}

func (dataExposure) phase(*Profile) uint8 { return 0 }

func (dataExposure) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	st, g := &p.exposure, p.taken
	bytes, large, sized, pages := p.exposed(b)
	if n := g.score(); n > bytes+large+sized+pages {
		return append(dst, grown(g, "bytes_day_growth", n))
	}
	if bytes > 0 || large+sized == 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "bytes_day", Observed: float64(st.bytes), Expected: float64(expBytes(g.taken(b.Bytes).Mu)), Count: int64(st.items), Nats: bytes, Baseline: g.baseline(b, b.Bytes.N),
		})
	}
	if large > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "large_response", Observed: float64(st.huge), Expected: float64(st.items) / 200, Count: int64(st.huge), Nats: large, Baseline: b.describe(b.Clients),
		})
	}
	if sized > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "size_parameter", Observed: float64(st.limit), Expected: priorLimit, Count: int64(st.asked), Nats: sized, Baseline: b.describe(b.Clients),
		})
	}
	if pages > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "page_walk", Observed: float64(p.crawl.deep), Expected: pageRun, Count: int64(p.crawl.deep), Nats: pages, Baseline: pipeline.Baseline{Kind: "prior"},
		})
	}
	return dst
}

// expBytes is e to the mu, from the table of logarithms: within a thousandth.
func expBytes(mu pipeline.Nats) int64 {
	lo, hi := uint64(1), uint64(1)<<50
	for lo < hi {
		mid := (lo + hi) / 2
		if ln(mid) < mu {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return int64(lo)
}

func (dataExposure) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	st := &p.exposure
	f.Onset = st.onset
	took := int64(st.items)
	f.Outcome.Attempted, f.Outcome.Objects = took, took
	f.Outcome.Succeeded = &took
	f.Outcome.Basis = "status"
	bytes := st.total
	f.Outcome.Bytes = &bytes
	f.Facts.Notice = p.Flags&(profileKnown|profileDeclared) != 0
	f.Title = fmt.Sprintf("Bulk data taken by %s", f.Who.Value)
	f.Reason = fmt.Sprintf("Took %s in %s of data (ordinary clients take %s a day)%s%s.",
		amount(st.total), plural(took, "answer", "answers"), amount(expBytes(b.Bytes.Mu)),
		when(st.huge > 0, fmt.Sprintf("; %s more than four times as large as 99 in 100 there", plural(int64(st.huge), "answer is", "answers are"))),
		when(p.crawl.deep > pageRun, fmt.Sprintf("; turned %d pages of a list in a row", p.crawl.deep))+
			when(st.asked > 0, fmt.Sprintf("; asked for up to %d items at once, beyond what anybody else asks for, and got them", st.limit)))
	f.Next = append(f.Next, "Check what the answers in the exemplars hold and whether "+f.Who.Value+" may have it")
	if st.asked > 0 {
		f.Next = append(f.Next, "Cap the size parameter on that endpoint")
	}
	f.Next = append(f.Next, blockAdvice(f))
	f.BenignIf = []string{"a backup or an export job: add it to identity.known_clients", "an administrator's report"}
	f.WouldNotFireIf = "fewer than 3 answers had been that large or asked for so many items"
	if _, large, sized, pages := p.exposed(b); pages > 0 && large+sized == 0 {
		f.Title = fmt.Sprintf("All pages of a list taken by %s", f.Who.Value)
		f.WouldNotFireIf = fmt.Sprintf("it had turned no more than %d pages in a row, or they had been as small as others take", pageRun)
	}
	if p.taken.score() > p.exposedScore(b) {
		f.Next = nil
		describeGrowth(f, p.taken, "Slowly growing export by", amount)
	}
	f.Attack = []string{"T1213", "T1567", "T1119"}
	f.OWASP = []string{"API3:2023", "API4:2023"}
	f.OAT = []string{"OAT-011"}
}

// amount is a number of bytes as people say it.
func amount(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d kB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
