package alerts

import (
	"cmp"
	"math"

	"weir/pipeline"
)

// incidentHeap orders incidents by (key, id), least first.
type incidentHeap struct {
	list  []*incident
	key   func(*incident) int64
	place func(*incident) *int // where an incident keeps its place in list
}

func dueHeap() incidentHeap {
	return incidentHeap{
		key:   func(inc *incident) int64 { return int64(inc.deadline()) },
		place: func(inc *incident) *int { return &inc.due },
	}
}

func weakHeap() incidentHeap {
	return incidentHeap{
		key:   func(inc *incident) int64 { return int64(inc.weight()) },
		place: func(inc *incident) *int { return &inc.weak },
	}
}

func (h *incidentHeap) Len() int { return len(h.list) }

func (h *incidentHeap) Less(i, j int) bool {
	a, b := h.list[i], h.list[j]
	return cmp.Or(cmp.Compare(h.key(a), h.key(b)), cmp.Compare(a.ID, b.ID)) < 0
}

func (h *incidentHeap) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	*h.place(h.list[i]), *h.place(h.list[j]) = i, j
}

func (h *incidentHeap) Push(x any) {
	inc := x.(*incident)
	*h.place(inc) = len(h.list)
	h.list = append(h.list, inc)
}

func (h *incidentHeap) Pop() any {
	last := len(h.list) - 1
	inc := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	return inc
}

// weight is what keeps an incident when there are too many. Weir's own health
// is never given up for an attacker's noise; there are few sources.
func (inc *incident) weight() pipeline.Nats {
	if isHealth(inc.Finding.Detector) {
		return math.MaxInt64
	}
	return inc.Finding.Score
}
