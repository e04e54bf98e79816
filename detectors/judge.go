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

// watchAhead is a worker's own view of the proxy watch, which comes behind the
// visits or beside them: it follows the batch as far as somebody has to know.
type watchAhead struct {
	watch *pipeline.ProxyWatch
	at    int // through which request of the batch; -1: none
}

// proxied reports whether nothing may be said against d's principal at request i,
// since it looks like a proxy, or may yet.
func (w *worker) proxied(i int, d *dossier) bool {
	of := w.set.cfg.Watch
	if of == nil || d.Who.Kind != pipeline.PrincipalIP {
		return false
	}
	if w.ahead.at < 0 {
		w.ahead.watch = of.Fork(w.ahead.watch)
	}
	for ; w.ahead.at < i; w.ahead.at++ {
		w.ahead.watch.Observe(w.batch[w.ahead.at+1].Request)
	}
	return w.ahead.watch.Suspect(d.principal()) || w.ahead.watch.Hold(d.principal())
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
