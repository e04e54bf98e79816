package detectors

import (
	"slices"

	"weir/pipeline"
)

// reachList is what a principal was granted: objects, each once, in the order in
// which it came to them. Whose they are may become known later, and then only
// what it is about changes. Bounded: what has no place is counted.
type reachList struct {
	List    []reached
	Counted []uint64 // things told apart, sorted
	Beyond  int64    // those that List has no place for
}

// reached is one object that a principal was granted.
type reached struct {
	Thing    uint64
	Template uint64
	Time     pipeline.Time
	Text     string
	Foreign  bool `json:",omitempty"` // another's, as is known
	Again    bool `json:",omitempty"` // it came back to it
}

// found is the place of an object in the list, -1 when it has none.
func (l *reachList) found(thing uint64) int {
	return slices.IndexFunc(l.List, func(r reached) bool { return r.Thing == thing })
}

// add takes r unless it is there; of one that is, only whose it is may be news.
func (l *reachList) add(r reached) {
	at, old := slices.BinarySearch(l.Counted, r.Thing)
	if old {
		if i := l.found(r.Thing); i >= 0 {
			l.List[i].Foreign = l.List[i].Foreign || r.Foreign
		}
		return
	}
	if len(l.Counted) < maxCounted {
		l.Counted = slices.Insert(l.Counted, at, r.Thing)
	}
	if len(l.List) < maxOwned {
		l.List = append(l.List, r)
	} else {
		l.Beyond++
	}
}

// drop forgets what the principal came to before the given time and nobody is
// known to own.
func (l *reachList) drop(before pipeline.Time) {
	gone := func(r reached) bool { return r.Time < before && !r.Foreign }
	if !slices.ContainsFunc(l.List, gone) {
		return
	}
	l.List = slices.DeleteFunc(l.List, func(r reached) bool {
		if !gone(r) {
			return false
		}
		if at, ok := slices.BinarySearch(l.Counted, r.Thing); ok {
			l.Counted = slices.Delete(l.Counted, at, at+1)
		}
		return true
	})
}

// again notes that the principal came back to an object.
func (l *reachList) again(thing uint64) {
	if i := l.found(thing); i >= 0 {
		l.List[i].Again = true
	}
}

// others lists what is not the principal's own, and how many there are. Its own is
// what it comes back to while nobody else owns it; unless it comes back to what is
// others' as well.
func (l *reachList) others() (texts []string, total int64, truncated bool) {
	foreign, back := 0, 0
	for i := range l.List {
		if r := &l.List[i]; r.Foreign {
			if foreign++; r.Again {
				back++
			}
		}
	}
	for i := range l.List {
		if r := &l.List[i]; r.Foreign || !r.Again || 2*back >= foreign {
			texts = append(texts, r.Text)
		}
	}
	return texts, int64(len(texts)) + l.Beyond, l.Beyond > 0
}

// since lists what was granted on a template from a time on.
func (l *reachList) since(template uint64, from pipeline.Time) (texts []string) {
	for i := range l.List {
		if r := &l.List[i]; r.Template == template && r.Time >= from {
			texts = append(texts, r.Text)
		}
	}
	return texts
}

const (
	// maxContacts is how many contacts with objects a virtual shard remembers of
	// principals that nothing is held against yet: how it began.
	maxContacts = 64
	// contactGap ends the row of contacts that an attack began with.
	contactGap = pipeline.Time(24 * 3600e6)
	maxObject  = 256
)

// recentContacts is a ring of them; once it is full it allocates nothing.
type recentContacts struct {
	List []recentContact
	Next int
}

type recentContact struct {
	Owner    uint64 // or a print of it; 0 taken out
	Thing    uint64
	Template uint64
	Time     pipeline.Time
	Near     uint8 // its id is a number, see ringNumber
	Text     []byte
}

const (
	ringNumber uint8 = 1 + iota
	ringNear         // and next to an earlier one
)

func (r *recentContacts) remember(owner, thing, template uint64, at pipeline.Time, q *pipeline.Request, o *pipeline.Observation) {
	if len(r.List) < maxContacts {
		r.List = append(r.List, recentContact{})
	}
	e := &r.List[r.Next]
	r.Next = (r.Next + 1) % maxContacts
	e.Owner, e.Thing, e.Template, e.Time = owner, thing, template, at
	e.Text, e.Near = appendObject(e.Text[:0], q, o), 0
	if o.Has(pipeline.ObsNumber) {
		e.Near = ringNumber
		if o.Has(pipeline.ObsNear) {
			e.Near = ringNear
		}
	}
}

// again takes out what the owner came back to.
func (r *recentContacts) again(owner, thing uint64) {
	for i := range r.List {
		if e := &r.List[i]; e.Owner == owner && e.Thing == thing {
			e.Owner = 0
		}
	}
}

// recall moves the owner's contacts that led up to the given time into l; NoTime is
// that of the last one.
// each, if there, is told of every one of them.
func (r *recentContacts) recall(l *reachList, owner uint64, at pipeline.Time, each func(*recentContact)) {
	n, first := len(r.List), -1
	for k := n - 1; k >= 0; k-- {
		e := &r.List[(r.Next+k)%n]
		if e.Owner != owner {
			continue
		}
		if at != pipeline.NoTime && at-e.Time > contactGap {
			break
		}
		at, first = e.Time, k
	}
	for k := max(first, 0); first >= 0 && k < n; k++ {
		e := &r.List[(r.Next+k)%n]
		if e.Owner != owner {
			continue
		}
		l.add(reached{Thing: e.Thing, Template: e.Template, Time: e.Time, Text: toValid(string(e.Text))})
		if each != nil {
			each(e)
		}
		e.Owner = 0
	}
}

// valid reports whether a checkpoint holds a ring.
func (r *recentContacts) valid() bool {
	return len(r.List) <= maxContacts && r.Next >= 0 && r.Next < maxContacts && (len(r.List) == maxContacts || r.Next <= len(r.List))
}

// touch lists an object that p was granted, before and after there is a dossier.
// Only what it meets for the first time is of interest, unless a walk is under way:
// that filter may say "seen" too often.
func (w *worker) touch(sh *shard, p *Profile, r *pipeline.Ordered) {
	o := &w.obs
	if p.Flags&profileSuspect != 0 || o.Flags&(pipeline.ObsLogin|pipeline.ObsStatic|pipeline.ObsAuto) != 0 {
		return
	}
	walk := p.walking(o.Template)
	if !w.sc.freshObject && (walk == nil || walk.evidence() == 0) {
		return
	}
	d := sh.caseOf(p.Owner)
	if d == nil || walk == nil {
		if w.sc.freshObject && (walk == nil || walk.suspicious(w.sc.endpoint)) {
			sh.touched.remember(p.Owner, o.Object, o.Template, o.Time, r.Request, o)
		}
		return
	}
	if walk.score() < dossierAt {
		d.Reached.drop(o.Time - contactGap)
	}
	d.Reached.add(reached{Thing: o.Object, Template: o.Template, Time: o.Time, Text: objectText(r.Request, o)})
}

// suspicious reports whether the walk may become a case against who was granted all:
// what many ask for and nobody is refused is somebody's only once something else
// speaks against the walk. It saves most of the memory traffic of a busy site.
func (w *walkState) suspicious(e *EndpointBaseline) bool {
	return e == nil || e.Refuses || e.Guarded || w.private || w.guarded || w.missed > 0 || w.nearHits > 0
}

// walking is p's walk through the ids of a template, nil when it has none.
func (p *Profile) walking(template uint64) *walkState {
	for i := range p.walk {
		if w := &p.walk[i]; w.template == template && w.objects > 0 {
			return w
		}
	}
	return nil
}

// handed puts the objects of a walk into f.
func (d *dossier) handed(f *pipeline.Finding, w *walkState) {
	f.Objects = d.Reached.since(w.template, w.onset)
	n := int64(len(f.Objects))
	if d.Reached.Beyond > 0 {
		n += d.Reached.Beyond
	}
	n = max(n, int64(w.granted))
	f.Outcome.Objects, f.Outcome.Succeeded, f.Truncated = n, &n, n > int64(len(f.Objects))
}
