package detectors

import (
	"fmt"

	"weir/pipeline"
)

// enumObject sees clients that walk through object ids: orders, users, files.
//
// Evidence, per (principal, template), from the first contact with each object:
// misses (403 404 410 400) against the cohort's over-dispersed share; near ids
// (within 8 of the one before, at the same stride as before, or inside one of
// the last four blocks of 64 that it touched, so that shuffled and reversed
// walks show too) against the share of near ids among ordinary clients of that
// template. The two multiply: how an id was chosen and whether it was granted
// are separate facts. Nearness counts only where objects are somebody's: where
// somebody was refused, or this client misses; where accounts alone are served it
// counts to review level at most, unless the objects are known to be others'
// (ledgers). A walk through public pages is
// scraping, and a program with a key that goes through ids does its work. Nothing counts until something of the template is known to be there:
// names that all miss are probing. 401 is no evidence: it says that the caller, not the object, was
// refused.
//
// Misses: random ids that all exist and are granted (that needs ownership), and
// walks slower than about two ids a day. Looks like it: a sync job with stale
// ids, an admin tool. OWASP API1, ATT&CK T1213.
type enumObject struct{}

// walkState is one template's walk, 160 bytes.
type walkState struct {
	template uint64
	misses   trial
	near     trial
	onset    pipeline.Time
	last     int64 // id asked for last
	stride   int64
	block    [4]int64  // id>>6 of the last blocks touched
	mask     [4]uint64 // ids seen in each
	hand     uint8
	numbers  bool
	private  bool
	guarded  bool   // accounts alone are served, and how they choose ids is known
	exists   bool   // something is there: the edition, an answer or a refusal says so
	objects  uint16 // distinct
	missed   uint16
	refused  uint16 // of those, 403
	granted  uint16
	nearHits uint16
	lo, hi   int64
}

func newEnumObject() detector { return enumObject{} }

func (enumObject) observe(p *Profile, o *pipeline.Observation, s *scope) (pipeline.Nats, bool) {
	if o.Object == 0 {
		return 0, false
	}
	miss := false
	switch {
	case o.Status == 403 || o.Status == 404 || o.Status == 410 || o.Status == 400:
		miss = true
	case o.Status >= 200 && o.Status < 300 || o.Status == 304:
	default:
		return 0, false
	}
	now := seconds(o.Time)
	if !p.objects.add(pipeline.Mix64(o.Object, o.Template), now) {
		return 0, false
	}
	s.freshObject = true
	w := p.walkOf(o.Template)
	w.misses.decay(now, halfLifeSeconds)
	w.near.decay(now, halfLifeSeconds)
	if w.misses.score() == 0 && w.near.score() == 0 && w.objects > 64 {
		*w = walkState{template: w.template, last: w.last, stride: w.stride, block: w.block, mask: w.mask, hand: w.hand, numbers: w.numbers, private: w.private, guarded: w.guarded, exists: w.exists}
	}
	if w.objects == 0 {
		w.onset = o.Time
	}
	if s.endpoint != nil && s.endpoint.Refuses || o.Status == 403 {
		w.private = true
	}
	w.guarded = s.endpoint != nil && s.endpoint.Guarded && s.endpoint.scatters() && !o.Has(pipeline.ObsBorrowed)
	w.exists = w.exists || s.endpoint != nil || !miss || o.Status == 403
	w.objects = bump(w.objects)
	missNull, nearNull := s.b.Object.Beta, s.b.Near.Beta
	if s.endpoint != nil {
		if s.endpoint.Miss.N >= 20 {
			missNull = s.endpoint.Miss.Beta
		}
		if s.endpoint.Near.N >= 20 {
			nearNull = s.endpoint.Near.Beta
		}
	}
	weight := uint32(countScale)
	if o.Has(pipeline.ObsLinked) {
		weight /= 2
	}
	if miss {
		w.missed = bump(w.missed)
		if o.Status == 403 {
			w.refused = bump(w.refused)
		}
	} else {
		w.granted = bump(w.granted)
	}
	// A granted object at an address that a credential owns is that
	// credential's; here it only speaks for the address.
	w.misses.observe(missNull, miss, weight, now, halfLifeSeconds)
	// Programs with a key go through ids in order: that is what they are for. What
	// they are refused and whose it is counts all the same.
	if o.Has(pipeline.ObsNumber) && s.r.Key == "" {
		near, first := w.place(o.Number)
		if !first {
			if near {
				w.nearHits = bump(w.nearHits)
				o.Flags |= pipeline.ObsNear
			}
			w.near.observe(nearNull, near, weight, now, halfLifeSeconds)
		}
	}
	return max(p.walk[0].score(), p.walk[1].score()), miss || w.private || w.guarded
}

// walkOf returns the walk of a template, replacing the weaker one.
func (p *Profile) walkOf(template uint64) *walkState {
	for i := range p.walk {
		if p.walk[i].template == template {
			return &p.walk[i]
		}
	}
	weak := 0
	if p.walk[1].template == 0 || p.walk[0].template != 0 && p.walk[1].misses.score()+p.walk[1].near.score() <= p.walk[0].misses.score()+p.walk[0].near.score() {
		weak = 1
	}
	if p.walk[0].template == 0 {
		weak = 0
	}
	if w := &p.walk[weak]; w.template == 0 && w.objects > 0 {
		w.template = template // what remained of an evicted one
		return w
	}
	p.walk[weak] = walkState{template: template}
	return &p.walk[weak]
}

// met reports whether the principal was shown that something of the template is
// there. Names that look like ids and all miss are names: probe.path's.
func (p *Profile) met(template uint64) bool {
	for i := range p.walk {
		if p.walk[i].template == template && p.walk[i].exists {
			return true
		}
	}
	return false
}

// place records an id and says whether it is near those before it.
func (w *walkState) place(id int64) (near, first bool) {
	first = !w.numbers
	if first {
		w.numbers, w.lo, w.hi = true, id, id
	}
	w.lo, w.hi = min(w.lo, id), max(w.hi, id)
	d := id - w.last
	near = !first && (d >= 1 && d <= 8 || d <= -1 && d >= -8 || d != 0 && (d == w.stride || d == 2*w.stride))
	if d != 2*w.stride { // else one was left out, or taken for seen
		w.stride = d
	}
	w.last = id
	block, bit := id>>6, uint64(1)<<(uint64(id)&63)
	for i := range w.block {
		if w.mask[i] != 0 && w.block[i] == block {
			near = near || !first
			w.mask[i] |= bit
			return near, first
		}
	}
	w.block[w.hand&3], w.mask[w.hand&3] = block, bit
	w.hand++
	return near, first
}

// evidence is the score before there is enough to be told of.
func (w *walkState) evidence() pipeline.Nats { return w.misses.score() + w.near.score() }

func (w *walkState) score() pipeline.Nats {
	miss, near := w.parts()
	return miss + near
}

// scatters reports whether it is known that what one client asks for here is
// seldom next to one another. Where each account's own objects are numbered in a
// row, a row says nothing.
func (e *EndpointBaseline) scatters() bool {
	return e.Near.N >= 20 && uint64(e.Near.A)*100 < 15*(uint64(e.Near.A)+uint64(e.Near.B))
}

// parts are the two lines of evidence.
func (w *walkState) parts() (miss, near pipeline.Nats) {
	switch {
	case w.objects < 3 || !w.exists:
	case w.missed >= 3 || w.private:
		return w.misses.score(), w.near.score()
	case w.guarded:
		return 0, min(w.near.score(), slowCap)
	}
	return 0, 0
}

// succeeded: objects were granted in the middle of a run of misses.
func (w *walkState) succeeded() bool {
	return w.private && w.granted >= 3 && w.nearHits >= 3 && w.missed >= 3
}

// worst is the walk with the most evidence.
func (p *Profile) worst() *walkState {
	if p.walk[1].score() > p.walk[0].score() {
		return &p.walk[1]
	}
	return &p.walk[0]
}

func (enumObject) phase(p *Profile) uint8 {
	if p.worst().succeeded() {
		return 1
	}
	return 0
}

func (enumObject) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	w := p.worst()
	miss, near := b.Object, b.Near
	if e := b.endpoint(w.template); e != nil {
		if e.Miss.N >= 20 {
			miss = e.Miss
		}
		if e.Near.N >= 20 {
			near = e.Near
		}
	}
	missed, nearby := w.parts()
	if n := missed; n > 0 || nearby == 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "object_miss", Observed: float64(w.missed), Expected: expected(w.objects, miss),
			Count: int64(w.missed), Nats: n, Baseline: b.baseline(miss),
		})
	}
	if n := nearby; n > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "near_id", Observed: float64(w.nearHits), Expected: expected(w.objects, near),
			Count: int64(w.nearHits), Nats: n, Baseline: b.baseline(near),
		})
	}
	return dst
}

func (enumObject) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	w := p.worst()
	f.Onset = w.onset
	granted, blocked := int64(w.granted), int64(w.refused)
	f.Outcome.Attempted = int64(w.objects)
	f.Outcome.Succeeded = &granted
	f.Outcome.Objects = granted
	f.Outcome.Basis = "status"
	if blocked > 0 {
		f.Outcome.Blocked, f.Outcome.BlockedBy = &blocked, "403"
	}
	// Whether a granted object is this client's own is not known from statuses:
	// success is possible, not confirmed.
	f.Facts.CanSucceed = w.private
	on := f.Endpoint.Method + " " + f.Endpoint.Template
	f.Title = fmt.Sprintf("Object ids walked on %s by %s", on, f.Who.Value)
	f.Reason = fmt.Sprintf("Asked for %s: %s, %s%s%s.",
		plural(int64(w.objects), "different object", "different objects"),
		fmt.Sprintf("%d refused or absent", w.missed), fmt.Sprintf("%d granted", w.granted),
		when(w.numbers, fmt.Sprintf(", ids %d to %d, %d of them next to an earlier one", w.lo, w.hi, w.nearHits)),
		fmt.Sprintf(" (ordinary clients miss %.0f %%)", 100*b.Object.Mean()))
	if granted > 0 {
		f.Next = append(f.Next, fmt.Sprintf("Check whether the %s to this client", plural(granted, "granted object belongs", "granted objects belong")))
	}
	f.Next = append(f.Next, blockAdvice(f))
	f.BenignIf = []string{"a sync job with stale ids", "a support or admin tool"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %d of the ids had missed or followed one another", max(3, int(w.objects)/4))
	f.Attack = []string{"T1213", "T1119"}
	f.OWASP = []string{"API1:2023"}
	f.OAT = []string{"OAT-011"}
}
