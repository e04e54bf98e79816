package alerts

import (
	"cmp"
	"math"

	"weir/pipeline"
)

// dueHeap orders incidents by (deadline, id).
type dueHeap []*incident

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].deadline(), h[j].deadline()), cmp.Compare(h[i].ID, h[j].ID)) < 0
}
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].due, h[j].due = i, j
}
func (h *dueHeap) Push(x any) {
	inc := x.(*incident)
	inc.due = len(*h)
	*h = append(*h, inc)
}
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	inc := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return inc
}

// weakHeap orders incidents by (weight, id).
type weakHeap []*incident

func (h weakHeap) Len() int { return len(h) }
func (h weakHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].weight(), h[j].weight()), cmp.Compare(h[i].ID, h[j].ID)) < 0
}
func (h weakHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].weak, h[j].weak = i, j
}
func (h *weakHeap) Push(x any) {
	inc := x.(*incident)
	inc.weak = len(*h)
	*h = append(*h, inc)
}
func (h *weakHeap) Pop() any {
	last := len(*h) - 1
	inc := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
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
