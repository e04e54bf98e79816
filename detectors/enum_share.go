package detectors

import (
	"encoding/json"
	"slices"

	"weir/pipeline"
)

// shareJunction learns, by template, how often a first contact is with another's
// object, and hands contacts on to their principals with that. Where it is
// common (public pages, what teams share) ownership says nothing: the template is
// not judged, and counted as such, see Correlator.Shared.
//
// Each principal teaches with one contact a day, and none that has evidence
// against it in detect: an attacker cannot make its own doings common. Nor does who
// reads what many others own (support, administrators, programs), as in the fit:
// what it taught is taken back when it shows. Where more than a tenth do, sharing
// is what the endpoint is for.
type shareJunction struct{}

func (shareJunction) name() string                  { return "enum.object" }
func (shareJunction) wants(m pipeline.Meeting) bool { return m == pipeline.MeetTemplate }
func (shareJunction) open() table                   { return new(shareTable) }

const (
	maxSharing = 16 // templates of one virtual shard
	// The null is as ragged as a beta distribution of so many contacts, see
	// shareSize.
	leastShareSize, mostShareSize = 100, 400
	// shareESS caps what live contacts weigh; the shipped mean weighs shippedESS,
	// a fitted one fittedESS.
	shareESS, shippedESS, fittedESS = 200, 20, 400
	// shareOff is the share from which on objects are nobody's.
	shareOff = 65536 * 3 / 10
	// shareKnown is how many principals have to teach before ownership alone may page.
	shareKnown = 20
)

// shareSize is how ragged the null is, whatever its mean: as a beta distribution of
// so many contacts as principals agree on it. Who came to one object of another's
// comes to one of a third's next about as often as one in that many.
func shareSize(principals int64) uint32 {
	return uint32(min(max(principals, leastShareSize), mostShareSize))
}

// sharing is what is known of one template.
type sharing struct {
	Template uint64
	Day      uint32
	K, N     uint32    // contacts that teach, halved at shareESS; K in teachOne
	Taught   uint32    // principals that taught, not more than one a day each
	Who      linear256 // they
	Sharers  []sharer  `json:",omitempty"` // who came to others' objects, sorted by print
	Turns    [4]uint64 // who taught today, by hash
	Unjudged int64     // foreign contacts that were not judged: shared here
	Off      bool      // objects here are shared
	Endpoint pipeline.Endpoint
	Crowds   *crowds `json:",omitempty"`
}

// sharer is a principal that came to objects of others.
type sharer struct {
	Print   uint32
	Day     uint32 // of the last one
	Objects uint16
	Taught  uint16 // how many of them are in K
}

const (
	maxSharers = 64 // of one template
	sharerDays = 30 // after which one that stayed away is forgotten
)

type shareTable struct{ Templates []*sharing } // sorted by template

func (t *shareTable) of(template uint64) *sharing {
	i, ok := slices.BinarySearchFunc(t.Templates, template, func(s *sharing, id uint64) int { return compare(s.Template, id) })
	if ok {
		return t.Templates[i]
	}
	if len(t.Templates) >= maxSharing {
		// The one that taught least goes; then by template.
		least := 0
		for j, s := range t.Templates {
			if s.Taught < t.Templates[least].Taught {
				least = j
			}
		}
		t.Templates = slices.Delete(t.Templates, least, least+1)
		i, _ = slices.BinarySearchFunc(t.Templates, template, func(s *sharing, id uint64) int { return compare(s.Template, id) })
	}
	s := &sharing{Template: template}
	t.Templates = slices.Insert(t.Templates, i, s)
	return s
}

func (t *shareTable) meet(k *knot, s *pipeline.Signal) {
	if s.Kind&contactMask != contactOwn {
		return
	}
	sh := t.of(s.Key)
	e := k.b.endpoint(s.Key)
	if s.Kind == contactAbsent || s.Kind == contactAgain {
		if s.Kind == contactAbsent {
			sh.crowd(k, s, e)
		}
		if !sh.Off {
			next := *s
			next.Meeting, next.Key = pipeline.MeetPrincipal, s.Sender
			k.send(next)
		}
		return
	}
	foreign := s.Kind&contactForeign == contactForeign
	late := s.Kind&contactLate == contactLate
	share, known := sh.share(k.b, e)
	if !late && s.Score < 7*pipeline.Nat {
		sh.teach(shortOf(s.Sender), uint32(max(int64(s.Facts.Time), 0)/86400e6), foreign, e)
	}
	if sh.Off = share >= shareOff; sh.Off {
		if foreign {
			sh.Unjudged++
			if sh.Endpoint.Template == "" {
				sh.Endpoint = endpointAt(k, s)
			}
		}
	} else {
		next := *s
		next.Meeting, next.Key = pipeline.MeetPrincipal, s.Sender
		next.Value = s.Value | uint64(share)
		if known {
			next.Value |= 1 << 16
		}
		k.send(next)
	}
	if !late {
		sh.crowd(k, s, e)
	}
}

func (sh *sharing) teach(who, day uint32, foreign bool, e *EndpointBaseline) {
	var by *sharer
	if foreign {
		by = sh.sharer(who, day)
		by.Objects = bump(by.Objects)
		if by.Objects >= readerOwners && sh.few(e) {
			sh.K -= min(sh.K, teachOne*uint32(by.Taught))
			sh.N -= min(sh.N, uint32(by.Taught))
			by.Taught = 0
			return
		}
	}
	if day != sh.Day {
		sh.Day, sh.Turns = day, [4]uint64{}
	}
	at := pipeline.Mix64(uint64(who), 11)
	if sh.Turns[at>>62]>>(at&63)&1 == 1 {
		return
	}
	sh.Turns[at>>62] |= 1 << (at & 63)
	sh.Taught++
	sh.Who.add(at)
	sh.N++
	if foreign {
		sh.K += teachOne
		by.Taught = bump(by.Taught)
	}
	if sh.N > shareESS {
		sh.K, sh.N = sh.K/2, sh.N/2
		for i := range sh.Sharers {
			sh.Sharers[i].Taught /= 2
		}
	}
}

// teachOne is one contact in sharing.K.
const teachOne = 256

// few reports whether those who read what many others own are no more than a tenth.
func (sh *sharing) few(e *EndpointBaseline) bool {
	wide, all := uint32(0), uint32(sh.Who.count())
	for i := range sh.Sharers {
		if sh.Sharers[i].Objects >= readerOwners {
			wide++
		}
	}
	if e != nil {
		all = max(all, uint32(min(e.Share.N, 1<<30)))
	}
	return wide <= max(2, all/10)
}

// sharer is what is known of who as one; who came to the fewest makes room.
func (sh *sharing) sharer(who, day uint32) *sharer {
	find := func() (int, bool) {
		return slices.BinarySearchFunc(sh.Sharers, who, func(s sharer, w uint32) int { return compare(uint64(s.Print), uint64(w)) })
	}
	i, ok := find()
	if !ok {
		if len(sh.Sharers) >= maxSharers {
			least := 0
			for j := range sh.Sharers {
				a, b := &sh.Sharers[j], &sh.Sharers[least]
				stale, other := day > a.Day+sharerDays, day > b.Day+sharerDays
				if stale && !other || stale == other && a.Objects < b.Objects {
					least = j
				}
			}
			sh.Sharers = slices.Delete(sh.Sharers, least, least+1)
			i, _ = find()
		}
		sh.Sharers = slices.Insert(sh.Sharers, i, sharer{Print: who})
	}
	s := &sh.Sharers[i]
	if day > s.Day+sharerDays {
		*s = sharer{Print: who}
	}
	s.Day = max(s.Day, day)
	return s
}

// share is the expected share in 1/65536, and whether it is known of this
// template and not only from elsewhere.
func (sh *sharing) share(b *Baselines, e *EndpointBaseline) (share uint32, known bool) {
	prior, size := b.Share.Beta, uint64(shippedESS)
	if e != nil && e.Share.N >= 20 {
		prior, size, known = e.Share.Beta, fittedESS, true
	}
	mean := uint64(prior.A) << 16 / (uint64(prior.A) + uint64(prior.B))
	share = uint32((mean*size + uint64(sh.K)<<16/teachOne) / (size + uint64(sh.N)))
	return min(max(share, 33), 65535), known || sh.Who.count() >= shareKnown
}

func (t *shareTable) tick(k *knot, at pipeline.Time) {
	for _, sh := range t.Templates {
		if sh.Crowds != nil {
			sh.Crowds.tick(k, at, sh.Template)
		}
	}
}

func (t *shareTable) encode(dst []byte) ([]byte, error) {
	for _, sh := range t.Templates {
		if sh.Crowds != nil {
			sh.Crowds.freeze()
		}
	}
	data, err := json.Marshal(t)
	return append(dst, data...), err
}

func (t *shareTable) decode(data []byte) error {
	if err := json.Unmarshal(data, t); err != nil {
		return err
	}
	for _, sh := range t.Templates {
		if sh == nil || sh.Crowds != nil && !sh.Crowds.thaw() {
			return errTable
		}
	}
	return nil
}

// SharedTemplate is an endpoint on which ownership cannot be judged.
type SharedTemplate struct {
	Endpoint pipeline.Endpoint
	Unjudged int64 // foreign contacts that were not judged
}

// Shared returns the endpoints whose objects many read, so that reading
// another's says nothing there: a blind spot.
func (c *Correlator) Shared() []SharedTemplate {
	var out []SharedTemplate
	for _, x := range c.shards {
		if x == nil {
			continue
		}
		for _, t := range x.tables[:len(c.junctions)] {
			st, ok := t.(*shareTable)
			if !ok {
				continue
			}
			for _, sh := range st.Templates {
				if sh.Off && sh.Unjudged > 0 {
					out = append(out, SharedTemplate{sh.Endpoint, sh.Unjudged})
				}
			}
		}
	}
	return out
}

func endpointAt(k *knot, s *pipeline.Signal) pipeline.Endpoint {
	r := s.Request.Request
	return pipeline.Endpoint{Method: clean(r.Method, 16), Host: clean(r.Host, 128), Template: templateText(k.templates(), r, &s.Facts)}
}
