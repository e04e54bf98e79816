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
	skip, err := s.unlearnedStored(ctx, newest.Add(-learnWindow), before)
	if err != nil {
		return nil, err
	}
	l := newLearner(newest, before, skip, s.log)
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
			if r.Block != nil {
				l.add(r.Block)
			}
		}
	}
	return l.fit()
}

// learner makes an edition of the last day of blocks.
type learner struct {
	fitter    *detectors.Fitter
	newest    pipeline.Time
	skip      *unlearned
	disorders map[uint64]*disorder
	log       *zap.Logger
}

// newLearner begins one of the day before newest, that follows before, if there is one.
func newLearner(newest pipeline.Time, before *pipeline.Edition, skip *unlearned, log *zap.Logger) *learner {
	l := &learner{detectors.NewFitter(), newest, skip, map[uint64]*disorder{}, log}
	if err := l.fitter.Follow(before); err != nil {
		log.Warn("cannot read the edition in force; the new one does not follow it", zap.Error(err))
	}
	return l
}

func (l *learner) add(b *pipeline.Block) {
	d := l.disorders[b.SourceID]
	if d == nil {
		d = &disorder{}
		l.disorders[b.SourceID] = d
	}
	since := l.newest.Add(-learnWindow)
	for i := range b.Requests {
		q := &b.Requests[i]
		d.observe(q.Time)
		if q.Time >= since && !l.skip.skips(q, b) {
			l.fitter.Add(q)
		}
	}
}

func (l *learner) fit() (*pipeline.Edition, error) {
	var worst pipeline.Time
	for _, d := range l.disorders {
		worst = max(worst, d.worst)
	}
	edition, err := l.fitter.Fit(worst.Sub(0))
	if err != nil {
		return nil, err
	}
	edition.Effective = l.newest
	if held := l.fitter.Held(); len(held) > 0 {
		l.log.Warn("what is ordinary changed by more than a tenth a day; the edition follows slowly", zap.Strings("priors", held))
	}
	return edition, nil
}
