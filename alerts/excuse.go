package alerts

import (
	"cmp"
	"slices"
	"time"

	"weir/pipeline"
)

// excuse is a time in which an endpoint refused everybody, as a notice says.
type excuse struct {
	ID       string            `json:"id"` // of the notice
	Aside    bool              `json:"aside,omitempty"`
	Endpoint pipeline.Endpoint `json:"endpoint"`
	From     pipeline.Time     `json:"from"`
	To       pipeline.Time     `json:"to"`
}

const (
	// excuseSlack is how long before the first client that a notice counts, and
	// after the last, something may have been broken already, or still.
	excuseSlack = 15 * time.Minute
	// excuseFor is how long an excuse is remembered: longer than evidence halves.
	excuseFor  = 14 * 24 * time.Hour
	maxExcuses = 64
)

// pardon takes note of a notice that excuses, and looks at the open incidents once
// more: those that rest on it end.
func (b *Book) pardon(dst []pipeline.Alert, f *pipeline.Finding) []pipeline.Alert {
	if !f.Facts.Excuses {
		return dst
	}
	b.excuses = slices.DeleteFunc(b.excuses, func(e excuse) bool { return e.To.Add(excuseFor) < b.now })
	i := slices.IndexFunc(b.excuses, func(e excuse) bool { return e.ID == f.ID && e.Aside == f.Aside })
	if i < 0 {
		if len(b.excuses) >= maxExcuses {
			b.excuses = slices.Delete(b.excuses, 0, 1)
		}
		i = len(b.excuses)
		b.excuses = append(b.excuses, excuse{ID: f.ID, Aside: f.Aside, Endpoint: f.Endpoint, From: f.Onset})
	}
	e := &b.excuses[i]
	e.From, e.To = min(e.From, f.Onset), max(e.To, f.Last)
	var over []*incident
	for _, inc := range b.open {
		// What was told of before the notice knew is told in full; it ends if too
		// little of it stays.
		g := inc.Finding
		g.Signals = slices.Clip(g.Signals)
		if b.excused(&g) > 0 && g.Score < pipeline.ReviewAt && !inc.Succeeded {
			over = append(over, inc)
		}
	}
	slices.SortFunc(over, func(x, y *incident) int { return cmp.Compare(x.ID, y.ID) })
	for _, inc := range over {
		b.stats.Excused++
		b.excused(&inc.Finding)
		dst = b.resolve(dst, inc, "explained: "+where(f.Endpoint)+" refuses everybody since "+clock(e.From))
	}
	return dst
}

// excused takes out of f what it was refused where everybody was, as a signal of
// its own, and returns how much that is. Who got in is not excused.
func (b *Book) excused(f *pipeline.Finding) (taken pipeline.Nats) {
	if len(b.excuses) == 0 || f.Facts.Succeeded {
		return 0
	}
	n := int64(0)
	for i := range f.Shares {
		s := &f.Shares[i]
		if slices.ContainsFunc(b.excuses, func(e excuse) bool {
			return e.Aside == f.Aside && e.Endpoint.Host == s.Endpoint.Host && e.Endpoint.Template == s.Endpoint.Template &&
				s.Last >= e.From.Add(-excuseSlack) && s.Since <= e.To.Add(excuseSlack)
		}) {
			taken += s.Nats
			n++
		}
	}
	f.Shares = nil // each is taken out once
	if taken <= 0 {
		return 0
	}
	f.Score -= taken
	f.Signals = append(f.Signals, pipeline.FindingSignal{
		Name: "everybody_refused", Observed: float64(n), Count: n, Nats: -taken, Baseline: pipeline.Baseline{Kind: "cohort"},
	})
	return taken
}
