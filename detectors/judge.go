package detectors

import (
	"slices"

	"weir/pipeline"
)

// owns reports whether the credential that r names is its owner. An account is
// a name that anybody can send; it counts where servers are known to ask for
// proof of it.
func (s *Set) owns(r *pipeline.Request) bool {
	if r.Kind != pipeline.PrincipalAccount && r.Kind != pipeline.PrincipalSubject {
		return true
	}
	e := s.v.factsOf(r).endpoint
	return e != nil && e.Guarded
}

// proven reports whether the principal is an account or a key whose proof the
// server asked for: few can be made up, so the first request already counts.
func (w *worker) proven(r *pipeline.Request, as role) bool {
	if as != asOwner || r.Kind < pipeline.PrincipalKey {
		return false
	}
	if r.Kind != pipeline.PrincipalKey {
		return true
	}
	e := w.v.factsOf(r).endpoint
	return e != nil && e.Keyed
}

// judge drops the findings against addresses that, by the time of the finding,
// look like a proxy or may yet. The watch sees the batch on the way.
func (s *Set) judge(batch []pipeline.Ordered, all []placed, watched bool) []placed {
	watch := s.cfg.Watch
	if watch == nil {
		return all
	}
	if watched {
		watch.Rewind()
	}
	var kept []placed
	for i := range batch {
		watch.Observe(batch[i].Request)
		for len(all) > 0 && all[0].at == i {
			p := all[0]
			all = all[1:]
			owner := p.owner
			if p.f.Aside {
				owner ^= asideSalt
			}
			if p.f.Who.Kind != pipeline.PrincipalIP || !watch.Suspect(owner) && !watch.Hold(owner) {
				kept = append(kept, p)
				continue
			}
			s.unopen(p)
			if notice, ok := s.notice(p.f.Time); ok {
				kept = append(kept, placed{at: i, f: notice})
			}
		}
	}
	return kept
}

// unopen undoes the opening of a case that p was.
func (s *Set) unopen(p placed) {
	if d := s.shards[pipeline.Shard(p.owner)].caseOf(p.owner); d != nil && p.first {
		c := d.Cases[p.detector]
		c.Opened, c.Sent, c.Paged, c.Phase = false, false, false, 0
	}
}

// withheld reports whether nothing is said against d's principal now.
func (s *Set) withheld(d *dossier) bool {
	w := s.cfg.Watch
	return w != nil && d.Who.Kind == pipeline.PrincipalIP && (w.Suspect(d.principal()) || w.Hold(d.principal()))
}

// watch feeds the proxy watch; what it concludes takes effect at the next tick.
func (s *Set) watch(batch []pipeline.Ordered) {
	if s.cfg.Watch == nil {
		return
	}
	for part := range slices.Chunk(batch, readAhead) {
		sum := s.warm
		for _, r := range part {
			sum += uint64(r.Status) + uint64(r.Forwarded[0])
		}
		s.warm = sum
		for _, r := range part {
			s.cfg.Watch.Observe(r.Request)
		}
	}
}
