package detectors

import (
	"slices"
	"strings"

	"weir/pipeline"
)

// Near is a principal that came close to a case.
type Near struct {
	Who      pipeline.Principal
	Detector string
	Score    pipeline.Nats
}

// Nearest returns the n principals with the most evidence that opened no case.
func (s *Set) Nearest(n int) []Near {
	var all []Near
	for _, sh := range s.shards {
		if sh == nil {
			continue
		}
		for _, d := range sh.cases {
			best := Near{Who: d.Who}
			opened := false
			for i, c := range d.Cases {
				if c != nil && c.Score > best.Score {
					best.Score, best.Detector = c.Score, s.entries[i].name
				}
				opened = opened || c != nil && c.Opened
			}
			if !opened {
				all = append(all, best)
			}
		}
	}
	slices.SortFunc(all, func(a, b Near) int {
		if a.Score != b.Score {
			return int(b.Score - a.Score)
		}
		return strings.Compare(a.Who.Value, b.Who.Value)
	})
	return all[:min(n, len(all))]
}
