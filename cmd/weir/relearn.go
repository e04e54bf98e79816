package main

import (
	"context"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"weir/detectors"
	"weir/pipeline"
)

// When a running weir learns anew: first as soon as there is something to learn
// from, then once a day of event time.
const (
	learnFirst  = 5_000 // requests
	learnEvery  = 24 * time.Hour
	learnAgain  = time.Hour      // of the clock, at the soonest
	learnWindow = 24 * time.Hour // of event time
)

// relearn fits an edition from stored requests now and then, unless one was
// given. The new one takes effect at its place in the log.
func (s *service) relearn(ctx context.Context) {
	if s.edition != "" {
		return
	}
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	var tried time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, effective, body, known, err := s.db.LatestEdition(ctx)
		if err != nil || time.Since(tried) < learnAgain {
			continue
		}
		st, err := s.db.Stats(ctx)
		if err != nil || st.Requests < learnFirst || known && st.Newest.Sub(effective) < learnEvery {
			continue
		}
		tried = time.Now()
		var before *pipeline.Edition
		if known {
			if before, err = pipeline.DecodeEdition(body); err != nil {
				s.log.Warn("cannot read the edition in force; the new one does not follow it", zap.Error(err))
			}
		}
		edition, err := s.fitStored(ctx, st.First, st.Newest, before)
		if err == nil {
			err = s.publish(ctx, edition)
		}
		debug.FreeOSMemory() // a fit takes hundreds of MB, once a day
		if err != nil && ctx.Err() == nil {
			s.log.Error("cannot learn a new edition; the old one stays", zap.Error(err))
		}
	}
}

// fitStored learns from the last day of stored requests; what it learns follows
// before, if there is one.
func (s *service) fitStored(ctx context.Context, from int64, newest pipeline.Time, before *pipeline.Edition) (*pipeline.Edition, error) {
	fitter := detectors.NewFitter()
	if err := fitter.Follow(before); err != nil {
		s.log.Warn("cannot read the edition in force; the new one does not follow it", zap.Error(err))
	}
	since := newest.Add(-learnWindow)
	skip, err := s.unlearnedStored(ctx, since, before)
	if err != nil {
		return nil, err
	}
	disorders := map[uint64]*disorder{}
	for {
		records, err := s.db.ReadRecords(ctx, from, detectRecords)
		if err != nil {
			return nil, err
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			from = r.Position + 1
			if r.Block == nil {
				continue
			}
			d := disorders[r.Block.SourceID]
			if d == nil {
				d = &disorder{}
				disorders[r.Block.SourceID] = d
			}
			for i := range r.Block.Requests {
				d.observe(r.Block.Requests[i].Time)
				if q := &r.Block.Requests[i]; q.Time >= since && !skip.skips(q, r.Block) {
					fitter.Add(q)
				}
			}
		}
	}
	var worst pipeline.Time
	for _, d := range disorders {
		worst = max(worst, d.worst)
	}
	edition, err := fitter.Fit(worst.Sub(0))
	if err == nil {
		edition.Effective = newest
		if held := fitter.Held(); len(held) > 0 {
			s.log.Warn("what is ordinary changed by more than a tenth a day; the edition follows slowly", zap.Strings("priors", held))
		}
	}
	return edition, err
}
