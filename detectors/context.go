package detectors

import (
	"fmt"

	"weir/pipeline"
)

// What is known of a client from elsewhere, as collect wrote it into the
// requests. It is kept here for all detectors: none asks for it by itself.

// place marks p by what is known of r's address. Only addresses are marked as
// verified and as listed: a credential may be used from many.
func (p *Profile) place(r *pipeline.Request) {
	if r.Flags&pipeline.FlagPretends != 0 {
		p.Flags |= profilePretends
	}
	if p.Kind != pipeline.PrincipalIP {
		return
	}
	if r.Flags&pipeline.FlagCrawler != 0 {
		p.Flags |= profileVerified
	}
	if r.Flags&pipeline.FlagListed != 0 {
		p.Flags |= profileListed
	}
}

// listedNats is what a listed address adds to a case. Lists are wrong about
// addresses that many share or that changed hands, so it is little.
const listedNats = 3 * pipeline.Nat

// listed is what the address's place on a list adds to own evidence: nothing
// unless that alone is within reach of a review, and never the step to a page.
func (p *Profile) listed(own pipeline.Nats) pipeline.Nats {
	switch {
	case p.Flags&profileListed == 0 || own < pipeline.ReviewAt-listedNats:
		return 0
	case own >= pipeline.PageAt:
		return listedNats
	}
	return min(listedNats, pipeline.PageAt-1-own)
}

func listedSignal(n pipeline.Nats) pipeline.FindingSignal {
	return pipeline.FindingSignal{Name: "listed_address", Observed: 1, Expected: 0, Count: 1, Nats: n, Baseline: pipeline.Baseline{Kind: "prior"}}
}

// crawlerWords is what an alert says of a client that names a crawler.
type crawlerWords struct {
	excused bool   // reported as information
	reason  string // a sentence behind the reason
	benign  string
}

func crawlerOf(p *Profile, agents []string) crawlerWords {
	name, date := "", ""
	for _, a := range agents {
		if name, date = pipeline.CrawlerNamed(a); name != "" {
			break
		}
	}
	who := pick(name != "", name, "the crawler that it names")
	switch {
	case p.Flags&profileVerified != 0:
		return crawlerWords{true, fmt.Sprintf(" Verified crawler: the address is one that %s publishes.", pick(name != "", name, "its operator")), "a search engine's crawler"}
	case p.Flags&profilePretends != 0:
		return crawlerWords{
			reason: fmt.Sprintf(" It claims to be %s, and its address is none of those published%s.", who, when(date != "", ", as of "+date)),
			benign: fmt.Sprintf("%s with addresses newer than weir's list: give them in context.crawlers.file", who),
		}
	case p.Flags&profileDeclared != 0:
		return crawlerWords{true, " It names itself a crawler; not checked, because weir knows no complete list of its addresses.", "a search engine's crawler"}
	}
	return crawlerWords{benign: "a search engine's crawler"}
}

// block says how many of a case's requests a gateway stopped; where none is
// known to be, the log may just not tell.
func (c *caseFile) block(f *pipeline.Finding) {
	if c.Blocked == 0 {
		return
	}
	n := c.Blocked
	f.Outcome.Blocked = &n
	f.Outcome.BlockedBy = pick(c.Closed, "the web server (444)", "a WAF or gateway")
}

// origin is where a principal's counted requests came from, as far as all of
// them agree.
type origin struct {
	Known   bool
	ASN     uint32
	Country string
	Network string
}

func (w *origin) add(r *pipeline.Request, n string) {
	country := r.Country.String()
	if !w.Known {
		*w = origin{true, r.ASN, country, n}
		return
	}
	if w.ASN != r.ASN {
		w.ASN = 0
	}
	if w.Country != country {
		w.Country = ""
	}
	if w.Network != n {
		w.Network = ""
	}
}

func (w *origin) describe(f *pipeline.Finding) {
	f.ASN, f.Country, f.Network = pipeline.ASNText(w.ASN), w.Country, w.Network
}
