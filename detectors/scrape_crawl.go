package detectors

import (
	"fmt"

	"weir/pipeline"
)

// scrapeCrawl sees clients that take the whole catalogue: mirrors, price
// scrapers, harvesters, at any pace.
//
// Evidence, from the first contact with each item that was granted (pages and
// objects; assets are no items; a page number or a cursor makes a list page an item
// of its own): breadth, the number of distinct items a day against a gamma-Poisson
// cohort, or its own past (half-life one day, divided by the people seen behind an
// address); else days that grew, slowly, see past.go;
// the long tail, for each item the logarithm of how much likelier a crawler,
// which takes every item alike, asks for it than people, who follow
// popularity, tempered by one half (Ro et al. 2018), less what is owed to having
// read the popular ones already; and a walk through page
// numbers deeper than people go. How many items, and which ones given how many,
// are separate facts and multiply. Pace is no evidence: a bot can wait.
//
// Objects that somebody is refused are somebody's and no catalogue: walks through
// them are enum.object's.
//
// Misses: many addresses that share the work; a scraper that reads only what is
// popular. Looks like it: partner syncs and search crawlers. A crawler that comes
// from where its publisher says is reported as information, and so is one whose
// publisher says nothing, if it gives an address to write to; one that comes from
// elsewhere is a scraper, and its false name is evidence.
// OWASP API6, OAT-011, ATT&CK T1119.
type scrapeCrawl struct{}

// crawlState is 56 bytes.
type crawlState struct {
	items  breadth
	onset  pipeline.Time
	tail   int32 // Nats
	walk   int32 // Nats
	page   int32
	run    uint16 // page numbers in a row
	deep   uint16 // the longest run
	people uint16
	feigns bool   // names a crawler that does not come from there
	got    uint32 // distinct items since onset
	again  uint32 // reads of items read before
	grown  growth
	bytes  int64
}

func newScrapeCrawl() detector { return scrapeCrawl{} }

const (
	// pageRun is how many list pages in a row people turn.
	pageRun = 10
	// walkCap bounds what turning pages can say: it never alerts alone.
	walkCap = 7 * pipeline.Nat
)

func (scrapeCrawl) observe(p *Profile, o *pipeline.Observation, s *scope) (pipeline.Nats, bool) {
	st := &p.crawl
	if o.Status < 200 || o.Status >= 300 && o.Status != 304 {
		return 0, false
	}
	if o.Has(pipeline.ObsBorrowed) && !p.rotates() {
		return 0, false
	}
	if s.endpoint != nil && s.endpoint.Refuses {
		return 0, false // objects that are somebody's are no catalogue
	}
	if !s.freshItem {
		st.again++
		return 0, false
	}
	now := seconds(o.Time)
	if st.items.n == 0 {
		*st = crawlState{onset: o.Time, page: -1, grown: st.grown}
	}
	st.feigns = p.Flags&profilePretends != 0
	st.items.add(breadthOne, now, daySeconds)
	st.got++
	_, high := p.people(s.b)
	st.people = uint16(min(max(1, high-1), 1000))
	if o.Bytes > 0 {
		st.bytes += o.Bytes
	}
	st.tail = int32(max(0, min(pipeline.Nats(st.tail)+(o.Tail-st.exhausted())/2, 1000*pipeline.Nat)))
	if o.Page >= 0 {
		if o.Page == st.page+1 || o.Page >= pipeline.CursorFrom && st.page >= pipeline.CursorFrom {
			st.run = bump(st.run)
			if st.run > pageRun && st.run > st.deep {
				st.walk = int32(min(pipeline.Nats(st.walk)+pipeline.Nat*7/10, walkCap))
			}
			st.deep = max(st.deep, st.run)
		} else {
			st.run = 1
		}
		st.page = o.Page
	}
	return st.score(s.b), true
}

// exhausted is how much likelier the next new item is an unpopular one for
// somebody who follows popularity and has read the popular ones already. The
// share of reads that are repeats estimates the popularity used up (Good 1953).
func (st *crawlState) exhausted() pipeline.Nats {
	return lnRatio(uint64(st.got)+uint64(st.again), uint64(st.got))
}

func (st *crawlState) score(b *Baselines) pipeline.Nats {
	br, tail, walk := st.parts(b)
	return max(br+tail+walk+st.feigned(br), st.grown.score())
}

// feignedCrawler is the evidence of a crawler's name from elsewhere: people have
// no reason to send one, and scrapers do, for the doors it opens.
const feignedCrawler = 4 * pipeline.Nat

// feigned counts only beside a count that is out of the ordinary.
func (st *crawlState) feigned(br pipeline.Nats) pipeline.Nats {
	if !st.feigns || br == 0 {
		return 0
	}
	return feignedCrawler
}

func (st *crawlState) parts(b *Baselines) (br, tail, walk pipeline.Nats) {
	if st.got < 20 {
		return 0, 0, 0
	}
	br = st.items.nats(st.grown.rate(b.Crawl), int(st.people))
	// Which items somebody reads says nothing while the count is ordinary:
	// people have tastes.
	if br == 0 {
		return 0, 0, 0
	}
	return br, min(pipeline.Nats(st.tail), 2*br), pipeline.Nats(st.walk)
}

func (scrapeCrawl) phase(p *Profile) uint8 {
	return 0
}

func (scrapeCrawl) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	st := &p.crawl
	br, tail, walk := st.parts(b)
	if n := st.grown.score(); n > br+tail+walk+st.feigned(br) {
		return append(dst, grown(st.grown, "items_day_growth", n))
	}
	base := st.grown.baseline(b, b.Crawl.N)
	n := int64(st.items.n / 256)
	dst = append(dst, pipeline.FindingSignal{
		Name: "distinct_items", Observed: float64(n), Expected: float64(st.grown.rate(b.Crawl).Mean) / 256, Count: int64(st.got), Nats: br, Baseline: base,
	})
	if tail > 0 {
		dst = append(dst, pipeline.FindingSignal{Name: "unpopular_items", Observed: float64(n), Expected: 0, Count: int64(st.got), Nats: tail, Baseline: base})
	}
	if walk > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "page_walk", Observed: float64(st.deep), Expected: pageRun, Count: int64(st.deep), Nats: walk, Baseline: pipeline.Baseline{Kind: "prior"},
		})
	}
	if feigned := st.feigned(br); feigned > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "false_crawler", Observed: 1, Expected: 0, Count: 1, Nats: feigned, Baseline: pipeline.Baseline{Kind: "prior"},
		})
	}
	return dst
}

func (scrapeCrawl) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	st := &p.crawl
	f.Onset = st.onset
	got := int64(st.got)
	f.Outcome.Attempted = got
	f.Outcome.Succeeded = &got
	f.Outcome.Objects = got
	f.Outcome.Basis = "status"
	if st.bytes > 0 {
		bytes := st.bytes
		f.Outcome.Bytes = &bytes
	}
	crawler, known := crawlerOf(p, f.Agents), p.Flags&profileKnown != 0
	f.Facts.Notice = crawler.excused || known
	f.Title = fmt.Sprintf("%s by %s", pick(f.Facts.Notice, "Crawl", "Scraping"), f.Who.Value)
	f.Reason = fmt.Sprintf("Took %s in %s where an ordinary client reads %.0f a day%s%s%s.",
		plural(got, "different page or object", "different pages and objects"), span(c.Last.Sub(st.onset)), float64(b.Crawl.Mean)/256,
		when(b.Catalogue > 0 && got >= b.Catalogue/4, fmt.Sprintf(", about %d %% of all there are", min(100, 100*got/max(1, b.Catalogue)))),
		when(st.tail > 0 && b.Catalogue > 0, ", popular and unpopular ones alike"),
		when(st.deep > pageRun, fmt.Sprintf(", and turned %d list pages in a row", st.deep)))
	if known {
		f.Reason += " The configuration names it as a known client."
	} else {
		f.Reason += crawler.reason
	}
	f.Next = append(f.Next, pick(f.Facts.Notice, "Nothing, if you want to be indexed; else name it in robots.txt or block it", "Rate-limit "+f.Who.Value+" on the endpoints in the exemplars"))
	f.BenignIf = []string{"a partner's sync job: add it to identity.known_clients", crawler.benign, "a site monitor that follows every link"}
	f.WouldNotFireIf = fmt.Sprintf("it had read fewer than about %d different items in a day", enough(st.grown.rate(b.Crawl)))
	if br, tail, walk := st.parts(b); st.grown.score() > br+tail+walk+st.feigned(br) {
		f.Next = nil
		describeGrowth(f, st.grown, pick(f.Facts.Notice, "Growing crawl by", "Slowly growing scraping by"), func(n int64) string { return plural(n, "different page or object", "different pages and objects") })
	}
	f.Attack = []string{"T1119", "T1213"}
	f.OWASP = []string{"API6:2023"}
	f.OAT = []string{"OAT-011"}
}

func pick(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// enough is how many distinct items in a day reach the review level by
// themselves.
func enough(r Rate) int {
	for n := 10; n < 100000; n += max(1, n/50) {
		x := breadth{n: uint32(n) * 256}
		if x.nats(r, 1) >= pipeline.ReviewAt {
			return n
		}
	}
	return 100000
}
