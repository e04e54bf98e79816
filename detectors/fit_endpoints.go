package detectors

import (
	"slices"

	"weir/pipeline"
)

// maxItems is how many popular items an edition names.
const maxItems = 8192

// unpopular is what a catalogue's unpopular items say: the tail evidence of one
// that nobody is known to read, and how often people ask for such.
type unpopular struct {
	tail  pipeline.Nats
	share Prior
}

// fitItems learns how popular items are, catalogue by catalogue: among objects
// that everybody has their own of, none is popular and none says anything.
func (f *Fitter) fitItems(b *Baselines, clients []fitClient) map[uint64]unpopular {
	type catalogue struct{ items, contacts, rare, once, clients, last uint64 }
	counts := map[fitItem]uint64{}
	catalogues := map[uint64]*catalogue{}
	for i := range clients {
		for _, item := range clients[i].items {
			c := catalogues[item.template]
			if c == nil {
				c = &catalogue{}
				catalogues[item.template] = c
			}
			// A suspect's items exist, but it says nothing of popularity: neither of
			// these nor, by how many there are, of the others.
			n := counts[item]
			if !clients[i].suspect {
				if n == 0 {
					c.items++
				}
				n++
				c.contacts++
				if c.last != uint64(i)+1 {
					c.last = uint64(i) + 1
					c.clients++
				}
			}
			counts[item] = n
		}
	}
	b.Catalogue = int64(len(counts))
	tailOf := func(item fitItem, n uint64) pipeline.Nats {
		c := catalogues[item.template]
		return min(max(lnRatio(c.contacts, max(c.items, 1)*max(n, 1)), -2*pipeline.Nat), 2*pipeline.Nat)
	}
	items := make([]fitItem, 0, len(counts))
	for item, c := range counts {
		if c >= 2 {
			items = append(items, item)
		}
	}
	slices.SortFunc(items, func(x, y fitItem) int {
		if counts[x] != counts[y] {
			return compare(counts[y], counts[x])
		}
		return compare(x.item, y.item)
	})
	items = items[:min(len(items), maxItems)]
	slices.SortFunc(items, func(x, y fitItem) int { return compare(x.item, y.item) })
	for _, item := range items {
		b.Items = append(b.Items, ItemBaseline{item.item, tailOf(item, counts[item])})
	}
	// What was read once stands for what nobody read yet (Good 1953).
	for item, n := range counts {
		c := catalogues[item.template]
		if n > 0 && tailOf(item, n) > 0 {
			c.rare += n
		}
		if n == 1 {
			c.once++
		}
	}
	rare := map[uint64]unpopular{}
	for t, c := range catalogues {
		u := unpopular{tail: max(0, tailOf(fitItem{template: t}, 1))}
		if c.clients >= 20 && c.contacts > 0 {
			share := min(c.rare+c.once, c.contacts)
			u.share = Prior{Beta: Beta{max(uint32(share*readerNull*256/c.contacts), 1), max(uint32((c.contacts-share)*readerNull*256/c.contacts), 1)}, N: int64(c.clients)}
		}
		rare[t] = u
	}
	b.RareTail = rare[0].tail
	return rare
}

// fitGuarded finds the endpoints that serve accounts only.
func (f *Fitter) fitGuarded(facts []pathFacts, endpoints map[uint64]*EndpointBaseline) {
	type use struct {
		accounts  bool
		keys      bool
		anonymous map[uint64]struct{} // clients, up to a few
		strangers map[uint64]struct{} // those of them without a key
	}
	uses := map[uint64]*use{}
	for i := range f.rows {
		r := &f.rows[i]
		p := &facts[r.path]
		if r.flags&(fitLogin|fitAsks) != 0 || p.is(pipeline.ObsUnknown|pipeline.ObsStatic) || (r.status < 200 || r.status >= 300) && r.status != 304 {
			continue
		}
		u := uses[p.template]
		if u == nil {
			u = &use{anonymous: map[uint64]struct{}{}, strangers: map[uint64]struct{}{}}
			uses[p.template] = u
		}
		if r.flags&fitAccount != 0 {
			u.accounts = true
		} else if len(u.anonymous) < 2 {
			u.anonymous[r.client] = struct{}{}
		}
		if r.flags&fitProven != 0 {
			u.keys = u.keys || r.flags&fitAccount == 0
		} else if len(u.strangers) < 2 {
			u.strangers[r.client] = struct{}{}
		}
	}
	for t, u := range uses {
		if u.accounts && len(u.anonymous) < 2 {
			endpointOf(endpoints, t).Guarded = true
		}
		if u.keys && len(u.strangers) < 2 {
			endpointOf(endpoints, t).Keyed = true
		}
	}
}

// maxEndpoints bounds an edition's endpoint table.
const maxEndpoints = 8192

func fitEndpoints(clients []fitClient, endpoints map[uint64]*EndpointBaseline, rare map[uint64]unpopular) []EndpointBaseline {
	for t := range rare {
		if t != 0 {
			endpointOf(endpoints, t)
		}
	}
	miss, near := map[uint64][]fitClient{}, map[uint64][]fitClient{}
	for i := range clients {
		c := &clients[i]
		if c.suspect {
			continue
		}
		for _, w := range c.walks {
			endpointOf(endpoints, w.template)
			miss[w.template] = append(miss[w.template], fitClient{object: w.miss})
			near[w.template] = append(near[w.template], fitClient{near: w.near})
		}
	}
	shipped := ShippedBaselines()
	templates := make([]uint64, 0, len(endpoints))
	for t := range endpoints {
		templates = append(templates, t)
	}
	slices.Sort(templates)
	var out []EndpointBaseline
	for _, t := range templates[:min(len(templates), maxEndpoints)] {
		e := *endpoints[t]
		if !e.Refuses {
			e.RareTail, e.Rare = rare[t].tail, rare[t].share
		}
		e.Miss = fitBeta(miss[t], func(c *fitClient) share { return c.object }, shipped.Object)
		e.Near = fitBeta(near[t], func(c *fitClient) share { return c.near }, shipped.Near)
		out = append(out, e)
	}
	return out
}

// fitAsked finds wordlist paths that several ordinary clients are served here.
func (f *Fitter) fitAsked(facts []pathFacts, clients []fitClient) []uint64 {
	served := map[uint64]int{}
	for i := range clients {
		if clients[i].suspect {
			continue
		}
		for _, item := range clients[i].items {
			served[item.item]++
		}
	}
	var out []uint64
	for i := range facts {
		if facts[i].rarity > 0 && served[facts[i].path] >= 3 {
			out = append(out, facts[i].path)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
