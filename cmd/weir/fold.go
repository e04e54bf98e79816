package main

import (
	"time"

	"weir/pipeline"
)

// fold tells the two passes of an hour apart that a zone's clocks show twice,
// when they are put back: stamps without a zone are read as of the first. A line
// that is nearer to its neighbours in the second pass belongs there. What it says
// depends on the source's lines in their order alone. One goroutine uses a fold.
type fold struct {
	loc  *time.Location // of stamps without a zone; nil where clocks are never put back
	last pipeline.Time  // the latest so far
}

// foldBehind is how far behind its neighbours a line must be to be looked at;
// half of the shortest shift in use.
const foldBehind = 15 * time.Minute

func newFold(zone string) fold {
	f := fold{last: pipeline.NoTime}
	if loc, err := time.LoadLocation(zone); zone != "" && err == nil && loc != time.UTC {
		f.loc = loc
	}
	return f
}

// fix puts the requests of the next block where they belong.
func (f *fold) fix(b *pipeline.Block) {
	if f.loc == nil {
		return
	}
	for i := range b.Requests {
		r := &b.Requests[i]
		if f.last != pipeline.NoTime && f.last.Sub(r.Time) > foldBehind {
			if again := f.again(r.Time); f.last.Sub(again).Abs() < f.last.Sub(r.Time) {
				r.Time = again
			}
		}
		f.last = max(f.last, r.Time)
	}
}

// again is when the clocks show what they show at t the second time, or t.
func (f *fold) again(t pipeline.Time) pipeline.Time {
	for _, shift := range [...]time.Duration{time.Hour, 30 * time.Minute} {
		first, second := t.Std().In(f.loc), t.Add(shift).Std().In(f.loc)
		if first.Hour() == second.Hour() && first.Minute() == second.Minute() && first.Day() == second.Day() {
			return t.Add(shift)
		}
	}
	return t
}
