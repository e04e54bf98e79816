package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/detectors"
	"weir/pipeline"
)

// maxTraced bounds the requests that are kept to be listed.
const maxTraced = 1 << 20

// maxRounds bounds how often evidence is taken away and looked for again.
const maxRounds = 12

// lateSlack is how far before an alert's onset evidence of a wider view may lie:
// whose an object is may become known later, and its age is kept in hours.
const lateSlack = time.Hour

// traced is one request that has to do with the case at hand.
type traced struct {
	at      spot
	when    pipeline.Time
	ip      string
	what    string    // method, path, status
	keys    [5]uint64 // what it has in common with requests that would count in its place
	gain    pipeline.Nats
	counted bool
	part    bool // of the case, though it adds nothing
}

// tracer keeps what the detectors of one family made of the requests behind one
// alert: those of an incident are of one principal and one family, whichever of
// them gives it its name.
type tracer struct {
	family string
	owners map[uint64]bool // as correlate may know them, the high half alone, too
	from   pipeline.Time   // of what a wider view counts
	until  pipeline.Time
	all    []traced
	index  map[spot]int
	last   map[string]pipeline.Nats // score by detector
	full   bool
}

func newTracer(al *pipeline.Alert, owners map[uint64]bool, from, until pipeline.Time) *tracer {
	t := &tracer{
		family: familyOf(al.Detector), owners: map[uint64]bool{}, from: from, until: until,
		index: map[spot]int{}, last: map[string]pipeline.Nats{},
	}
	for o := range owners {
		t.owners[o], t.owners[o>>32<<32] = true, true
	}
	return t
}

func (t *tracer) take(x detectors.Traced) {
	r := x.Request
	// A key's case opens by the first of each kind, accepted or refused; the next
	// ones of the same client are no news, and would be.
	key := t.family == "key"
	if key && !x.Wide && r.Key != "" {
		x.Owner = pipeline.HashPrincipal(pipeline.PrincipalKey, r.Key)
	}
	if !t.owners[x.Owner] || r.Effective > t.until || x.Wide && !x.Late && r.Effective < t.from {
		return
	}
	if familyOf(x.Detector) != t.family && !key {
		return
	}
	if x.Late {
		t.late(x)
		return
	}
	at := spotOf(r.Block.Source, r.Request)
	i, ok := t.index[at]
	if !ok {
		if len(t.all) >= maxTraced {
			t.full = true
			return
		}
		i = len(t.all)
		t.index[at] = i
		t.all = append(t.all, traced{at: at, when: r.Effective, ip: r.Address.String(), what: fmt.Sprintf("%s %s %d", r.Method, r.Path, r.Status)})
	}
	e := &t.all[i]
	if familyOf(x.Detector) != t.family {
		e.keys[4] = r.Address.Owner()
		return
	}
	e.part = e.part || x.Part
	switch {
	case x.Detector == "auth.takeover" && !x.Facts.Has(pipeline.ObsLogin):
		e.keys[4] = pipeline.Mix64(r.Address.Owner(), r.AgentKey) // a visit
	case x.Wide && x.Part:
		if key {
			e.keys[4] = r.Address.Owner()
		}
	default:
		copy(e.keys[:], []uint64{x.Facts.Item, x.Facts.Path, x.Facts.Object, x.Facts.User})
	}
	if x.Counted {
		t.count(e, x)
	}
}

func (t *tracer) count(e *traced, x detectors.Traced) {
	e.counted = true
	name := x.Detector
	if x.Wide {
		name += "+"
	}
	e.gain += x.Score - t.last[name]
	t.last[name] = x.Score
}

// late finds the request that x was counted for.
func (t *tracer) late(x detectors.Traced) {
	for i := range t.all {
		if e := &t.all[i]; e.keys[2] == x.Facts.Object {
			t.count(e, x)
			return
		}
	}
}

// evidence is what of it carries evidence: what counted, what is of the case, and
// what asks for the same things again, which would count if the first did not.
func (t *tracer) evidence() (list []traced) {
	same := map[uint64]bool{}
	for _, e := range t.all {
		if e.counted {
			for _, k := range e.keys {
				same[k] = true
			}
		}
	}
	delete(same, 0)
	for _, e := range t.all {
		if e.when <= t.until && (e.counted || e.part || slices.ContainsFunc(e.keys[:], func(k uint64) bool { return same[k] })) {
			list = append(list, e)
		}
	}
	return list
}

// familyOf is a detector's name up to the dot: alerts of one family are one case.
func familyOf(detector string) string {
	name, _, _ := strings.Cut(detector, ".")
	return name
}

// backgroundScan reports whether al is the day's rolling campaign of scanners that
// nothing answered: its members are the cases.
func backgroundScan(al *pipeline.Alert) bool {
	return al.Level == "campaign" && al.Detector == "probe.path"
}

// evidenceOf lists the requests that carry evidence for al, up to where another
// alert of the same kind begins, and reports whether al fires without them.
func (p *replay) evidenceOf(ctx context.Context, al *pipeline.Alert) (list []traced, still bool, err error) {
	scan := backgroundScan(al)
	owners := map[uint64]bool{al.Principal.Hash(): true}
	from, until := al.Window.Onset, pipeline.MaxTime // where the same client's next alert begins
	if scan {
		day := pipeline.Time(24 * time.Hour / time.Microsecond)
		until = (al.Window.Last/day+1)*day - 1
	}
	if scan {
		for _, m := range al.Members {
			owners[m.Hash()] = true
		}
	}
	drop := map[spot]bool{}
	for round := range maxRounds {
		known := len(owners)
		t := newTracer(al, owners, from.Add(-lateSlack), until)
		still = false
		if _, err := p.run(ctx, drop, t.take, func(a *pipeline.Alert) {
			if a.ID != al.ID && (scan || familyOf(a.Detector) != t.family || a.Principal != al.Principal) {
				return
			}
			if round == 0 && a.ID != al.ID && a.Window.First > al.Window.Last {
				until = min(until, a.Window.First-1)
				t.until = until
			}
			if a.ID == al.ID || a.Window.First <= until {
				still, from = true, min(from, a.Window.Onset)
				for _, m := range a.Members {
					if scan {
						owners[m.Hash()] = true
					}
				}
			}
		}); err != nil {
			return nil, false, err
		}
		if t.full {
			return nil, false, fmt.Errorf("more than %d requests have to do with it", maxTraced)
		}
		if len(drop) > 0 && !still {
			break
		}
		found := t.evidence()
		if len(found) == 0 && len(owners) == known {
			break
		}
		for _, e := range found {
			e.counted = e.counted && round == 0
			list = append(list, e)
		}
		for _, e := range found {
			drop[e.at] = true
		}
	}
	slices.SortStableFunc(list, func(a, b traced) int { return cmp.Compare(a.when, b.when) })
	return list, still, nil
}
