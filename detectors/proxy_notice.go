package detectors

import (
	"weir/pipeline"
)

// suspects takes over what the proxy watch concluded: profiles of suspects are
// marked, and what to configure is told once as a notice, by who has the first
// slice.
func (s *Set) suspects(dst []pipeline.Finding, at pipeline.Time) []pipeline.Finding {
	if s.cfg.Watch == nil {
		return dst
	}
	text, _ := s.cfg.Watch.Notice()
	if text == "" && s.noticed == "" {
		return dst // nobody is suspect, nor was
	}
	for n, sh := range s.shards {
		if sh == nil || s.asleep(uint16(n)) {
			continue
		}
		for _, d := range sh.cases {
			if d.Who.Kind != pipeline.PrincipalIP {
				continue
			}
			st, fresh := sh.find(d.Owner)
			if fresh || st.full == 0 {
				continue
			}
			sh.dirty = true
			if p := sh.profile(st.full - 1); s.cfg.Watch.Suspect(d.principal()) {
				p.Flags |= profileSuspect
			} else {
				p.Flags &^= profileSuspect
			}
		}
	}
	if f, ok := s.notice(at); ok && s.slices[0].mine && !s.slices[0].ahead {
		return s.number(dst, &placed{f: f}, pipeline.PlaceOfNotice(at))
	}
	return dst
}

// notice is the case for telling weir of a proxy; ok only the first time that
// there is one.
func (s *Set) notice(at pipeline.Time) (f pipeline.Finding, ok bool) {
	text, line := s.cfg.Watch.Notice()
	if text == "" || s.noticed != "" {
		return f, false
	}
	s.noticed = text
	who := pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: "client identity"}
	return pipeline.Finding{
		ID: findingID("health", who.Hash(), 0), Time: at, Detector: "health.identity", Level: "endpoint", Who: who,
		Onset: at, First: at, Last: at, FirstSeen: at, Sampled: 1, Edition: s.hash,
		Facts:          pipeline.FindingFacts{Notice: true},
		Outcome:        pipeline.Outcome{Basis: "unknown"},
		Title:          "Most clients hide behind one proxy that weir is not told about",
		Reason:         text,
		Next:           []string{line},
		BenignIf:       []string{"one very busy client with several programs"},
		WouldNotFireIf: "the proxy were configured as trusted, or its share of the requests were small",
	}, true
}
