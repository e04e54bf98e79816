package detectors

import (
	"cmp"
	"math"
	"slices"

	"weir/pipeline"
)

// maxReaders bounds the principals that an edition names as readers.
const maxReaders = 4096

// Readers read at least so many objects, of so many owners, on so many days.
const (
	readerObjects = 20
	readerOwners  = 10
	readerDays    = 3
)

// fitContact is one principal's first contact with one object.
type fitContact struct {
	object, who, home uint64
	template          uint64
	time              pipeline.Time
	day               int32
	number            int64
	times             int32 // accesses
	proven, numbered  bool
	account           bool // not a key
	foreign           bool
	by                uint64
}

// fitShares learns how often objects are shared, by template: what ownership is
// measured against. A principal that reads what many others own, day by day, is
// a reader: it owns nothing, and does not teach. Nor does who lies beyond the
// central nine tenths, as long as those agree.
func (f *Fitter) fitShares(b *Baselines, facts []pathFacts, clients []fitClient, order []int32) {
	suspect := map[uint64]bool{}
	for from, i := 0, 0; from < len(order); i++ {
		owner := f.rows[order[from]].owner
		suspect[owner] = clients[i].suspect
		for from < len(order) && f.rows[order[from]].owner == owner {
			from++
		}
	}
	contacts := f.contacts(b, facts)
	judgeContacts(contacts, nil)
	readers := map[uint64]bool{}
	principals, wide := map[uint64]int{}, map[uint64]int{}
	all := reads(contacts)
	for of, r := range all {
		principals[of.template]++
		if r.wide() {
			wide[of.template]++
		}
	}
	for of, r := range all {
		// Where more than a tenth read what many others own, sharing is what the
		// endpoint is for. Whoever is foreign to many owns nothing; only who is so
		// for days is a reader to detection.
		if r.wide() && wide[of.template] <= max(2, principals[of.template]/10) {
			readers[of.who] = true
			if len(r.days) >= readerDays {
				b.Readers = append(b.Readers, of.who)
			}
		}
	}
	fitPrograms(b, contacts, all)
	slices.Sort(b.Readers)
	b.Readers = slices.Compact(b.Readers)
	b.Readers = b.Readers[:min(len(b.Readers), maxReaders)]
	judgeContacts(contacts, readers)
	perTemplate := map[uint64]map[uint64]*share{}
	for i := range contacts {
		c := &contacts[i]
		if readers[c.who] || suspect[c.who] {
			continue
		}
		who := perTemplate[c.template]
		if who == nil {
			who = map[uint64]*share{}
			perTemplate[c.template] = who
		}
		s := who[c.who]
		if s == nil {
			s = &share{}
			who[c.who] = s
		}
		s.n++
		if c.foreign {
			s.k++
		}
	}
	// Owners outside the sample are not seen.
	scale := math.Exp2(float64(f.level.Load()))
	var ordinary []share
	for i := range b.Endpoints {
		e := &b.Endpoints[i]
		var sample []share
		for _, s := range perTemplate[e.Template] {
			sample = append(sample, *s)
		}
		e.Share = fitShare(sample, b.Share, scale)
		if e.Share.Mean() < float64(shareOff)/65536 {
			ordinary = append(ordinary, sample...)
		}
	}
	b.Share = fitShare(ordinary, ShippedBaselines().Share, scale)
	fitMerged(b, contacts, suspect)
}

// contacts are all first contacts with objects that were granted, by object.
func (f *Fitter) contacts(b *Baselines, facts []pathFacts) []fitContact {
	var all []fitContact
	for i := range f.rows {
		r := &f.rows[i]
		p := &facts[r.path]
		object, number, _, numbered := r.object(p)
		if object == 0 || r.flags&fitLogin != 0 || p.flags&(pipeline.ObsStatic|pipeline.ObsAuto|pipeline.ObsUnknown) != 0 || !granted(r.status) ||
			f.methods[r.method] == "OPTIONS" {
			continue
		}
		e := b.endpoint(p.template)
		c := fitContact{object: object, who: r.owner, home: r.client, template: p.template, time: r.time, day: int32(int64(r.time) / 86400e6), number: number, numbered: numbered, times: 1, account: r.flags&fitAccount != 0}
		// As Set.owns decides.
		if c.proven = r.flags&fitProven != 0; c.proven && c.account && (e == nil || !e.Guarded) {
			c.proven, c.who = false, r.client
		}
		all = append(all, c)
	}
	return firstContacts(all)
}

// firstContacts are the first ones of all with each object, by object.
func firstContacts(all []fitContact) []fitContact {
	type key struct {
		object, who uint64
		time        pipeline.Time
		i           int
	}
	keys := make([]key, len(all))
	for i := range all {
		keys[i] = key{all[i].object, all[i].who, all[i].time, i}
	}
	slices.SortFunc(keys, func(a, b key) int {
		switch {
		case a.object != b.object:
			return cmp.Compare(a.object, b.object)
		case a.who != b.who:
			return cmp.Compare(a.who, b.who)
		case a.time != b.time:
			return cmp.Compare(a.time, b.time)
		}
		return a.i - b.i
	})
	var out []fitContact
	for i, k := range keys {
		if i > 0 && keys[i-1].object == k.object && keys[i-1].who == k.who {
			out[len(out)-1].times++
			continue
		}
		out = append(out, all[k.i])
	}
	return out
}

// judgeContacts says which contacts are with another's object; readers own none.
// As long as they are not known (nil), of two owners each is foreign to the other.
func judgeContacts(contacts []fitContact, readers map[uint64]bool) {
	for from := 0; from < len(contacts); {
		to := from
		for to < len(contacts) && contacts[to].object == contacts[from].object {
			to++
		}
		group := contacts[from:to]
		from = to
		for i := range group {
			c := &group[i]
			c.foreign, c.by = false, 0
			own := c.proven && c.times > 1 && !readers[c.who]
			for j := range group {
				o := &group[j]
				if i == j || !o.proven || o.times < 2 || readers[o.who] || own && readers != nil && o.time > c.time {
					continue
				}
				if o.home == c.home && (o.proven != c.proven || o.account != c.account) {
					continue // the same, by another name
				}
				if c.foreign = true; c.by == 0 {
					c.by = o.who
				}
			}
		}
	}
}

// programReads is how many objects of which it comes back to one in ten at most make
// a key that of a program which owns none of them.
const programReads = 200

// fitPrograms finds where keys are for programs that read what many own: the month's
// end, a partner's sync. Where each key has objects of its own, it comes back to them.
// What they do looks like scraping, so that evidence keeps none of them out.
func fitPrograms(b *Baselines, contacts []fitContact, all map[readerOf]*reading) {
	type use struct{ objects, again int }
	uses := map[readerOf]use{}
	for i := range contacts {
		if c := &contacts[i]; c.proven && !c.account {
			u := uses[readerOf{c.who, c.template}]
			u.objects++
			if c.times > 1 {
				u.again++
			}
			uses[readerOf{c.who, c.template}] = u
		}
	}
	keys, wide := map[uint64]int{}, map[uint64]int{}
	for of, u := range uses {
		if u.objects < readerObjects {
			continue
		}
		keys[of.template]++
		if r := all[of]; r != nil && r.wide() || u.objects >= programReads && 10*u.again <= u.objects {
			wide[of.template]++
		}
	}
	for i := range b.Endpoints {
		e := &b.Endpoints[i]
		e.Programs = wide[e.Template] > 0 && 2*wide[e.Template] >= keys[e.Template]
	}
}

type reading struct {
	objects, owners map[uint64]struct{}
	days            map[int32]struct{}
}

func (r *reading) wide() bool {
	return len(r.objects) >= readerObjects && len(r.owners) >= readerOwners
}

type readerOf struct{ who, template uint64 }

// reads is what each principal reads of others, by template.
func reads(contacts []fitContact) map[readerOf]*reading {
	out := map[readerOf]*reading{}
	for i := range contacts {
		c := &contacts[i]
		of := readerOf{c.who, c.template}
		r := out[of]
		if r == nil {
			r = &reading{map[uint64]struct{}{}, map[uint64]struct{}{}, map[int32]struct{}{}}
			out[of] = r
		}
		if !c.foreign {
			continue
		}
		r.objects[c.object], r.owners[c.by], r.days[c.day] = struct{}{}, struct{}{}, struct{}{}
	}
	return out
}

// fitShare is the share that the central nine tenths of principals agree on.
func fitShare(sample []share, shipped Prior, scale float64) Prior {
	if len(sample) == 0 {
		return shipped
	}
	slices.SortFunc(sample, func(a, b share) int {
		if c := cmp.Compare(uint64(a.k)*uint64(b.n), uint64(b.k)*uint64(a.n)); c != 0 {
			return c
		}
		return cmp.Compare(a.n, b.n)
	})
	central := sample[:len(sample)-len(sample)/10]
	var k, n float64
	for _, s := range central {
		most := min(float64(s.n), 50) // no one principal decides
		k += float64(float64(s.k) * most / float64(s.n))
		n += most
	}
	mean := (float64(k*scale) + float64(shipped.Mean()*20)) / (n + 20)
	mean = min(max(mean, 0.0005), 0.95)
	size := shareSize(int64(len(sample)))
	a := max(1, uint32(float64(mean*float64(size)*256)+0.5))
	return Prior{Beta: Beta{a, max(1, size*256-min(a, size*256))}, N: int64(len(sample))}
}
