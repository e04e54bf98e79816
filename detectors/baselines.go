package detectors

import (
	"encoding/json"
	"fmt"
	"slices"

	"weir/pipeline"
)

// Baselines is what detectors compare a principal with: priors of its cohort,
// what is known of each endpoint, and which items are popular. It is the
// "detectors" part of an edition; the shipped ones serve until a fit.
// Immutable once built; safe for concurrent use.
type Baselines struct {
	Version int   `json:"version"` // of this layout
	Clients int64 `json:"clients"` // behind the fit; 0: shipped priors
	// Since is the event time of the first request of the fit.
	Since pipeline.Time `json:"since"`

	Probe  Prior `json:"probe"`  // first contacts with paths that miss
	Object Prior `json:"object"` // first contacts with objects that miss
	Near   Prior `json:"near"`   // new ids close to ids already asked for
	Login  Prior `json:"login"`  // login attempts that fail
	// LoginUser is first attempts at an account that fail.
	LoginUser Prior `json:"login_user"`
	Crawl     Rate  `json:"crawl"` // distinct items a day
	// Crowd is how many user agents people have.
	Crowd CrowdCurve `json:"crowd"`

	Inject Prior     `json:"inject"` // new inputs that show an attack's shape
	Volume Rate      `json:"volume"` // requests in the busiest minute
	Bytes  LogNormal `json:"bytes"`  // taken on the busiest day
	Share  Prior     `json:"share"`  // first contacts with objects that are another's
	// Readers are principals that read what many others own: support, a partner's
	// sync. They own nothing, and what they read is worth a look at most. Sorted.
	Readers []uint64 `json:"readers,omitempty"`

	Endpoints []EndpointBaseline `json:"endpoints"` // sorted by Template
	Items     []ItemBaseline     `json:"items"`     // sorted by Item; the popular ones
	// RareTail is the tail evidence of a page without an id that is not in Items.
	RareTail pipeline.Nats `json:"rare_tail"`
	// Catalogue is how many distinct items there are.
	Catalogue int64 `json:"catalogue"`
	// Asked are wordlist paths that ordinary clients ask for here: they are no
	// sign of a scanner. Sorted.
	Asked []uint64 `json:"asked"`
}

// baselinesVersion is the layout written by this version.
const baselinesVersion = 1

// Prior is a cohort's share of something, with what it was fitted from.
type Prior struct {
	Beta
	N int64 `json:"n"` // clients; 0: shipped
}

// Rate is a gamma-Poisson count a day: Mean with over-dispersion Shape (the
// gamma's), in 1/256.
type Rate struct {
	Mean  uint32 `json:"mean"`
	Shape uint32 `json:"shape"`
	N     int64  `json:"n"`
}

// EndpointBaseline is what the fit learned of one template.
type EndpointBaseline struct {
	Template uint64 `json:"template"`
	// Refuses: somebody was answered 401 or 403 here, so its objects are
	// somebody's.
	Refuses bool `json:"refuses,omitempty"`
	// Guarded: accounts are served here and nobody else is. Only where that is
	// known does an account that a request names count as its owner: elsewhere the
	// server may not have looked at it, and anybody can send a name.
	Guarded bool `json:"guarded,omitempty"`
	// Keyed: keys are served here and nobody without a key or an account is.
	Keyed bool `json:"keyed,omitempty"`
	// Programs: of the keys that read much here, half and more read what many own, or
	// come back to hardly anything.
	Programs bool `json:"programs,omitempty"`
	// Answers401: a failed login shows in the status here.
	Answers401 bool `json:"answers_401,omitempty"`
	// Truth is what its answers to login attempts mean, where that was learned.
	Truth []LoginAnswer `json:"login_truth,omitempty"`
	// Wrong is what a wrong password is answered here, see fitWrong.
	Wrong LoginAnswer `json:"wrong_password,omitzero"`
	Near  Prior       `json:"near"`
	Miss  Prior       `json:"miss"`
	// Share is how often a first contact with an object here is with another's.
	Share Prior `json:"share"`
	// Merged is the share of near ids in the stream of all clients' first contacts.
	Merged Prior `json:"merged"`
	// RareTail is the tail evidence of an object that is not in Items; 0 where
	// objects are somebody's, so that none is popular.
	RareTail pipeline.Nats `json:"rare_tail"`
	// Rare is the share of first contacts that are with unpopular objects.
	Rare Prior `json:"rare,omitzero"`
	// Payloads are the shapes of pipeline.Payloads that ordinary clients send here.
	Payloads uint32 `json:"payloads,omitempty"`
	// Sizes are of answers in bytes; Slow is the 99th percentile of durations in
	// microseconds and Limit the 99.9th of size parameters, 0 unknown.
	Sizes Sizes  `json:"sizes,omitzero"`
	Slow  int64  `json:"slow,omitempty"`
	Limit uint32 `json:"limit,omitempty"`
}

// ItemBaseline is one popular item.
type ItemBaseline struct {
	Item uint64        `json:"item"`
	Tail pipeline.Nats `json:"tail"`
}

// ShippedBaselines are the priors of a weir that has seen nothing: rates from
// the literature and from clean logs, deliberately ragged so that an odd site
// costs attempts, not false pages.
func ShippedBaselines() *Baselines {
	return &Baselines{
		Version:   baselinesVersion,
		Probe:     Prior{Beta: betaOf(1.5, 16)},
		Object:    Prior{Beta: betaOf(1, 12)},
		Near:      Prior{Beta: betaOf(1.5, 6)},
		Login:     Prior{Beta: betaOf(2, 8)},
		LoginUser: Prior{Beta: betaOf(2, 18)}, // detection.md 3.4
		Crawl:     Rate{Mean: 30 * 256, Shape: 192},
		Crowd:     shippedCrowd(),
		Inject:    Prior{Beta: betaOf(0.06, 25)},
		Volume:    Rate{Mean: 25 * 256, Shape: 179},
		Bytes:     LogNormal{Mu: ln(1 << 20), Sigma: 2 * 256},
		Share:     Prior{Beta: betaOf(1, 99)},
	}
}

// DecodeBaselines reads the detectors' part of an edition; empty input gives
// the shipped ones.
func DecodeBaselines(data json.RawMessage) (*Baselines, error) {
	if len(data) == 0 || string(data) == "null" {
		return ShippedBaselines(), nil
	}
	var b Baselines
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, fmt.Errorf("read baselines: %w", err)
	}
	if b.Version != baselinesVersion {
		return nil, fmt.Errorf("read baselines: version %d, this weir reads %d: fit a new edition with --edition-out: %w", b.Version, baselinesVersion, ErrLayout)
	}
	for _, p := range []Prior{b.Probe, b.Object, b.Near, b.Login, b.LoginUser, b.Inject, b.Share} {
		if p.A == 0 || p.B == 0 {
			return nil, fmt.Errorf("read baselines: a prior is empty")
		}
	}
	if b.Crawl.Mean == 0 || b.Crawl.Shape == 0 {
		return nil, fmt.Errorf("read baselines: the crawl rate is empty")
	}
	if !b.Crowd.rising() {
		return nil, fmt.Errorf("read baselines: the crowd curve does not rise")
	}
	if b.Volume.Mean == 0 || b.Volume.Shape == 0 || b.Bytes.Sigma < 64 {
		return nil, fmt.Errorf("read baselines: the rates of requests or bytes are empty")
	}
	byTemplate := func(a, b EndpointBaseline) int { return compare(a.Template, b.Template) }
	byItem := func(a, b ItemBaseline) int { return compare(a.Item, b.Item) }
	if !slices.IsSortedFunc(b.Endpoints, byTemplate) || !slices.IsSortedFunc(b.Items, byItem) || !slices.IsSorted(b.Asked) || !slices.IsSorted(b.Readers) {
		return nil, fmt.Errorf("read baselines: a table is not sorted")
	}
	return &b, nil
}

// Encode writes b for an edition; equal baselines give equal bytes.
func (b *Baselines) Encode() (json.RawMessage, error) { return json.Marshal(b) }

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// endpoint returns what is known of a template; nil when nothing is.
func (b *Baselines) endpoint(template uint64) *EndpointBaseline {
	i, ok := slices.BinarySearchFunc(b.Endpoints, template, func(e EndpointBaseline, t uint64) int { return compare(e.Template, t) })
	if !ok {
		return nil
	}
	return &b.Endpoints[i]
}

// tail returns the tail evidence of an item; template is its catalogue, 0 for
// pages without an id.
func (b *Baselines) tail(item, template uint64) pipeline.Nats {
	if b.Catalogue == 0 {
		return 0
	}
	rare := b.RareTail
	if template != 0 {
		e := b.endpoint(template)
		if e == nil || e.Refuses {
			return 0
		}
		rare = e.RareTail
	}
	i, ok := slices.BinarySearchFunc(b.Items, item, func(e ItemBaseline, t uint64) int { return compare(e.Item, t) })
	if !ok {
		return rare
	}
	return b.Items[i].Tail
}

func (b *Baselines) asked(path uint64) bool {
	_, ok := slices.BinarySearch(b.Asked, path)
	return ok
}

// baseline describes p for an alert.
func (b *Baselines) baseline(p Prior) pipeline.Baseline { return b.describe(p.N) }

func (b *Baselines) describe(n int64) pipeline.Baseline {
	if n == 0 {
		return pipeline.Baseline{Kind: "prior"}
	}
	since := b.Since
	return pipeline.Baseline{Kind: "cohort", N: n, Since: &since}
}
