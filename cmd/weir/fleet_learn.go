package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// learnLook is how often the process that has the first slice of detect looks whether
// there is something to learn.
const learnLook = 20 * time.Second

// relearn is service.relearn for a fleet: the process with the first slice of detect
// learns from what is on the bus, and what it learned holds where the sequence has it.
// Two of them, one of which does not know yet that it lost the slice, are harmless: the
// editions follow one another.
func (f *fleet) relearn(ctx context.Context, view *atomic.Pointer[detectView]) {
	niceThread()
	tick := time.NewTicker(learnLook)
	defer tick.Stop()
	var tried time.Time
	var before *pipeline.Edition // as far as this process knows
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v := view.Load()
		if v == nil || !v.first || v.requests < learnFirst || time.Since(tried) < learnAgain {
			continue
		}
		due := func() bool { return before == nil || v.newest.Sub(before.Effective) >= learnEvery }
		if !due() {
			continue
		}
		var err error
		if before, err = f.editionInForce(ctx); err == nil && due() {
			tried = time.Now()
			err = f.learn(ctx, v.newest, before)
			debug.FreeOSMemory() // a fit takes hundreds of MB, once a day
		}
		if err != nil && ctx.Err() == nil {
			f.log.Error("cannot learn a new edition; the old one stays", zap.Error(err))
		}
	}
}

// learn puts an edition into the sequence that it learned from the day before newest.
func (f *fleet) learn(ctx context.Context, newest pipeline.Time, before *pipeline.Edition) error {
	begun := time.Now()
	edition, err := f.fitBus(ctx, newest, before)
	if err != nil {
		return err
	}
	edition.Number = f.edition.Number + 1
	if before != nil {
		edition.Number = before.Number + 1
	}
	f.log.Info("an edition is learned", zap.Duration("took", time.Since(begun)))
	return f.publishEdition(ctx, edition)
}

// fitBus learns from what is on the bus of the day before newest.
func (f *fleet) fitBus(ctx context.Context, newest pipeline.Time, before *pipeline.Edition) (*pipeline.Edition, error) {
	cluster, err := f.cfg.Bus.cluster()
	if err != nil {
		return nil, err
	}
	// A bus of its own: that old records are read is no lag, and what is gone is no loss.
	bus, err := kafka.NewBus(cluster, nil, nil)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	// What happened that day was not written before, clocks aside.
	from, err := bus.OffsetAt(ctx, f.topics.sequence, 0, newest.Add(-learnWindow-time.Hour).Std())
	if err != nil {
		return nil, err
	}
	_, behind, err := bus.Bounds(ctx, f.topics.sequence, 0)
	if err != nil {
		return nil, err
	}
	labels, err := f.labelsOf(ctx)
	if err != nil {
		return nil, err
	}
	templates := f.edition.Templates
	if before != nil {
		templates = before.Templates
	}
	skip, err := f.unlearnedFleet(ctx, labels, templates)
	if err != nil {
		return nil, err
	}
	l := newLearner(newest, before, skip, f.log)
	r, err := newSequenceReader(ctx, bus, &f.cfg.Bus, sequencePosition{Offset: from}, nil)
	if err != nil {
		return nil, err
	}
	defer r.close()
	for r.offset < behind {
		item, err := r.next(ctx)
		if err != nil {
			return nil, fmt.Errorf("read what is on the bus: %w", err)
		}
		if item.block != nil && len(item.block.Requests) > 0 {
			l.add(item.block)
		}
	}
	return l.fit()
}

// labelsOf are the labels of the sources, as collectors said last.
func (f *fleet) labelsOf(ctx context.Context) (map[string]map[string]string, error) {
	marks, err := f.marks(ctx, factPrefix)
	if err != nil {
		return nil, err
	}
	labels := map[string]map[string]string{}
	for key := range marks {
		var told fleetSources
		if err := json.Unmarshal(marks[key].Value, &told); err != nil {
			return nil, errors.Join(fmt.Errorf("read %s", key), err)
		}
		for _, s := range told.Sources {
			labels[s.Name] = s.Labels
		}
	}
	return labels, nil
}
