package detectors

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"weir/pipeline"
)

// tick tells of the campaign at the end of a minute.
func (cs *crowds) tick(k *knot, at pipeline.Time, template uint64) {
	e := k.b.endpoint(template)
	if e == nil {
		return
	}
	if cs.Told != nil {
		for _, c := range cs.Crowds {
			if !cs.is(c) {
				continue
			}
			if cs.Told.Changed {
				cs.Told.Changed = false
				k.emit(cs.finding(k, c, e, at))
			}
			if at.Sub(c.Last) < maxCampaignQuiet {
				return
			}
		}
		cs.Told = nil
	}
	var best *crowd
	most := int64(0)
	able := func(c *crowd) bool {
		_, n := c.walkers()
		return c.score() >= pipeline.ReviewAt && n >= crowdLeast && c.Dossier != nil && c.Dossier.Cases[0] != nil
	}
	for _, c := range cs.Crowds {
		if able(c) {
			most = max(most, c.excess(cs.null(e, c)))
		}
	}
	for _, c := range cs.Crowds {
		if able(c) && 5*c.excess(cs.null(e, c)) >= 4*most && (best == nil || c.Contacts < best.Contacts) {
			best = c
		}
	}
	if best == nil {
		return
	}
	cs.Told = &toldCrowd{Dim: best.Dim, Value: best.Value}
	f := cs.finding(k, best, e, at)
	k.emit(f)
}

// maxCampaignQuiet is how long a campaign keeps its crowd without news.
const maxCampaignQuiet = 7 * 24 * 3600e9

func (cs *crowds) finding(k *knot, c *crowd, e *EndpointBaseline, at pipeline.Time) pipeline.Finding {
	d := c.Dossier
	cf := d.Cases[0]
	members, total := c.walkers()
	on := cf.Endpoint.Method + " " + cf.Endpoint.Template
	objects, granted := c.handed()
	merged := Prior{Beta: cs.null(e, c), N: e.Merged.N}
	f := pipeline.Finding{
		Time: at, Detector: "enum.object", Level: "campaign", Wide: true, Who: pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: c.Text + " on " + on},
		Onset: c.Onset, First: c.Onset, Last: c.Last, Endpoint: cf.Endpoint,
		Outcome: pipeline.Outcome{Requests: int64(c.Contacts), Attempted: int64(c.Contacts), Succeeded: &granted, Objects: granted, Basis: "status"},
		Facts:   pipeline.FindingFacts{CanSucceed: true},
		Members: members, MembersTotal: total, Predicate: c.Text,
		Addresses: slices.Clone(d.Addresses), AddressesTotal: max(len(d.Addresses), d.Distinct.count()),
		Objects: objects, Truncated: int64(len(objects)) < granted, Agents: slices.Clone(d.Agents), JA4: slices.Clone(d.JA4),
		FirstSeen: c.Onset, Exemplars: slices.Clone(cf.Exemplars), Sampled: 1, Late: cf.Late, Backfill: cf.Backfill, Labels: maps.Clone(d.Labels),
		Attack: []string{"T1213", "T1119"}, OWASP: []string{"API1:2023"}, OAT: []string{"OAT-011"},
	}
	if len(d.Addresses) < maxAddresses {
		f.AddressesTotal = len(d.Addresses)
	}
	for _, part := range []struct {
		name string
		n    uint32
		null Prior
		nats pipeline.Nats
	}{{"merged_near_id", c.Hits, merged, c.near.score()}, {"object_miss", c.Missed, pickPrior(e.Miss.N >= 20, e.Miss, k.b.Object), c.miss.score()}} {
		if part.nats == 0 {
			continue
		}
		f.Score += part.nats
		f.Signals = append(f.Signals, pipeline.FindingSignal{
			Name: part.name, Observed: float64(part.n), Expected: expected(uint16(min(c.Contacts, 1<<16-1)), part.null), Count: int64(part.n), Nats: part.nats, Baseline: k.b.baseline(part.null),
		})
	}
	// Bad contacts among all, when ordinary ones are near so often (detection.md 1.3).
	low, high := c.bad(merged.Beta)
	f.Estimate = &pipeline.Estimate{Attempts: (low + high) / 2, Low: low, High: high}
	if cs.Told.ID == "" {
		cs.Told.ID = findingID("enum crowd", f.Who.Hash(), c.Onset)
	}
	f.ID = cs.Told.ID
	what := thingsOf(cf.Endpoint.Template)
	f.Title = fmt.Sprintf("%d clients walk the ids of %s together", total, on)
	common := "with one thing in common (" + c.Text + ")"
	if c.Dim == crowdAll {
		common = "with nothing in common that the log shows"
	}
	f.Reason = fmt.Sprintf("%d clients %s asked for %d %s in %s, %d of them next to one another's (ordinary traffic: %.0f %%); no client did enough to show alone.",
		total, common, c.Contacts, what, span(c.Last.Sub(c.Onset)), c.Hits, 100*merged.Mean())
	f.Next = []string{"Challenge or rate-limit " + pick(c.Dim == crowdAll, "the listed clients", c.Text) + " on " + on, fmt.Sprintf("Check whether the %d granted %s belong to those who got them", granted, what)}
	f.BenignIf = []string{"a new version of an app that fetches in a row", "a load test from many addresses"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %d clients had asked for ids next to one another's", crowdLeast)
	return f
}

// bad is the range that the number of contacts of the walk lies in.
func (c *crowd) bad(null Beta) (low, high int64) {
	n, f0 := float64(c.Contacts), null.Mean()
	mid := (float64(c.Hits) - float64(n*f0)) / (1 - f0)
	off := 2 * math.Sqrt(float64(n*f0)+1)
	return int64(max(0, mid-off)), int64(min(n, mid+off))
}

func pickPrior(is bool, yes, no Prior) Prior {
	if is {
		return yes
	}
	return no
}
