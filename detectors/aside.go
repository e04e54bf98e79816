package detectors

import "weir/pipeline"

// What a suppression covers is set aside: it is evidence in a world of its own, where
// detectors find what they would find, and of which nothing is left when the
// suppression ends. A principal has a second profile there, under a key that no
// other has, and what meets in correlate meets in tables of its own. A suppression
// of one detector sets aside what its family sees of the requests; the others see
// them as ever.

// asideSalt is what the key of a principal differs by there.
const asideSalt = 0x5ca1ab1e_0ddba11d

// families are those of detectors, a bit each; beyond them stands what learns.
type families = uint16

const allFamilies families = 1<<16 - 1

func familyNames() [8]string {
	return [...]string{"auth", "enum", "probe", "scrape", "key", "data", "inject", "volume"}
}

const (
	familyAuth families = 1 << iota
	familyEnum
)

// familyLearns is of what belongs to no detector: it is set aside with everything
// alone.
const familyLearns families = 1 << 15

// familyBit is the bit of a detector's family, or of a family.
func familyBit(detector string) families {
	of := family(detector)
	for i, name := range familyNames() {
		if of == name {
			return 1 << i
		}
	}
	return familyLearns
}

// suppressedFamilies is what a suppression of a detector, or of a family, sets aside.
func suppressedFamilies(detector string) uint32 {
	switch bit := familyBit(detector); {
	case detector == "":
		return uint32(allFamilies)
	case bit == familyLearns:
		return 0
	default:
		return uint32(bit)
	}
}

// Suppress takes a suppression, or news of one, from the next request on.
func (s *Set) Suppress(x pipeline.Suppression) { s.silences.Put(x) }

// Suppressions returns what Suppress took, by id, to go on with after a restart.
func (s *Set) Suppressions() []pipeline.Suppression { return s.silences.List() }

// aside is what is set aside of r as evidence about the principal who.
func (s *Set) aside(r *pipeline.Ordered, who uint64) families {
	mask := families(s.silences.Aside(r, who, s.template))
	if r.Flags&(pipeline.FlagLogin|pipeline.FlagAsks) != 0 && mask&(familyAuth|familyEnum) != 0 {
		mask |= familyAuth | familyEnum // they count attempts together
	}
	return mask
}

func (s *Set) template(r *pipeline.Request) string { return EndpointText(s.edition.Templates, r) }

// EndpointText is the template of r as alerts show it.
func EndpointText(t *pipeline.Templates, r *pipeline.Request) string { return endpointText(t, r) }

// give adds a visit of request i to those of the worker that has the principal; of
// what is set aside there is another one.
func (s *Set) give(i int, r *pipeline.Ordered, owner uint64, as role) {
	spare := families(0)
	if s.silences.At(r.Effective) {
		if spare = s.aside(r, owner); spare != 0 {
			s.assign(visit{int32(i), as, true, ^spare, owner ^ asideSalt})
			if spare == allFamilies {
				return
			}
		}
	}
	s.assign(visit{int32(i), as, false, spare, owner})
}

// assign gives a visit to the worker that has the principal, if this set does.
func (s *Set) assign(v visit) {
	if shard := pipeline.Shard(v.owner); s.whole || s.visits[shard] {
		w := s.workers[shard%uint16(len(s.workers))]
		w.mine = append(w.mine, v)
	}
}

// principal is the hash of d's principal.
func (d *dossier) principal() uint64 {
	if d.Aside {
		return d.Owner ^ asideSalt
	}
	return d.Owner
}

// aside reports whether the table at hand is one of what is set aside.
func (k *knot) aside() bool { return k.c != nil && k.junction >= len(k.c.junctions) }

// ordinary is the table that holds, of the same shard, what is not set aside; nil if
// there is none. It is read only.
func (k *knot) ordinary() table {
	if !k.aside() {
		return nil
	}
	return k.c.shards[k.n].tables[k.junction-len(k.c.junctions)]
}
