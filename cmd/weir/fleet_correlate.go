package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// runCorrelate runs slices of every stage of correlate: each stage is a group of its
// own.
func runCorrelate(ctx context.Context, f *fleet) error {
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var running sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, stage := range crossStages() {
		running.Go(func() {
			err := f.runUnits(failed, "correlate-"+stage.String(), f.topics.topic(stage), func(slice int) roleSlice {
				return &crossUnit{f: f, of: pipeline.Producer{Stage: stage, Slice: uint16(slice)}, log: f.log.With(zap.String("role", "correlate"))}
			})
			if err = stopped(failed, err); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("%s: %w", stage, err))
				mu.Unlock()
				fail(err)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// crossUnit runs one slice of a stage of correlate.
type crossUnit struct {
	f      *fleet
	of     pipeline.Producer
	log    *zap.Logger
	member *crossMember
	state  *kafka.State
	next   int64 // of its log
}

// open implements roleSlice.
func (u *crossUnit) open(ctx context.Context) error {
	var err error
	if u.member, err = newCrossMember(u.f.cfg, u.f.shape(), u.of, u.f.edition, nil); err != nil {
		return err
	}
	slice := int(u.of.Slice)
	if u.state, err = u.f.bus.OpenState(ctx, u.f.topics.state, slice, u.of.Stage.String()+"/"+strconv.Itoa(slice), u.f.instance); err != nil {
		return err
	}
	if head, chunks, ok := u.state.Checkpoint(); ok {
		u.next, err = u.member.restore(head, chunks)
	} else {
		err = u.member.begin(u.f.start)
	}
	u.f.progress.reach(u.of.Stage.String(), slice, u.next)
	return err
}

// close implements roleSlice.
func (u *crossUnit) close() {
	u.f.progress.leave(u.of.Stage.String(), int(u.of.Slice))
	if u.state != nil {
		u.state.Close()
	}
}

// bundleItem is a record of a topic of bundles.
type bundleItem[T any] struct {
	offset int64
	bundle *pipeline.Bundle[T]
	err    error
}

// readBundles sends what a partition holds from an offset on until ctx ends.
func readBundles[T any](ctx context.Context, f *fleet, topic string, partition int, from int64, decode func([]byte, *pipeline.Bundle[T]) error, out chan<- bundleItem[T]) {
	send := func(item bundleItem[T]) error {
		select {
		case out <- item:
		case <-ctx.Done():
			return ctx.Err()
		}
		return item.err
	}
	err := f.tail(ctx, topic, partition, from, func(r kafka.Record) error {
		item := bundleItem[T]{offset: r.Offset, bundle: new(pipeline.Bundle[T])}
		if err := decode(r.Value, item.bundle); err != nil {
			return f.putAside(ctx, topic, partition, r, err)
		}
		return send(item)
	})
	if err != nil && ctx.Err() == nil {
		_ = send(bundleItem[T]{err: err})
	}
}

// run implements roleSlice.
func (u *crossUnit) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := u.read(ctx); err != nil {
			return err
		}
	}
	letting, cancel := context.WithTimeout(context.WithoutCancel(ctx), u.f.letGoWithin())
	defer cancel()
	if err := u.checkpoint(letting); err != nil {
		u.log.Warn("a slice is let go without a checkpoint: it is correlated again from the last one", zap.Stringer("slice", u.of), zap.Error(err))
		return errStale
	}
	return nil
}

// read takes bundles until ctx ends, or some have to be read again.
func (u *crossUnit) read(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	items := make(chan bundleItem[pipeline.Signal], 8)
	var reader sync.WaitGroup
	reader.Go(func() {
		readBundles(reading, u.f, u.f.topics.topic(u.of.Stage), int(u.of.Slice), u.next, u.f.codec.DecodeSignals, items)
	})
	defer reader.Wait()
	defer stop()
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	work := context.WithoutCancel(ctx) // what was flushed has to be sent
	saved := time.Now()
	for {
		select {
		case item := <-items:
			if item.err != nil {
				return item.err
			}
			if err := u.member.push(item.offset, item.bundle, u.f.controls.look(ctx)); err != nil {
				return err
			}
			u.next = item.offset + 1
			u.f.progress.reach(u.of.Stage.String(), int(u.of.Slice), u.next)
			if position, again := u.member.in.Rewind(); again {
				u.next = position
				return nil
			}
			if u.of.Stage == pipeline.StageLogin && len(items) == 0 {
				if _, err := u.f.sender.add(work, u.member.flush(), true); err != nil { // detect waits for it
					return err
				}
			}
		case <-tick.C:
			if _, err := u.f.sender.add(work, u.member.flush(), false); err != nil {
				return err
			}
			if time.Since(saved) >= fleetCheckpoint {
				if err := u.checkpoint(work); err != nil {
					return err
				}
				saved = time.Now()
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// checkpoint keeps the state, once everything is sent.
func (u *crossUnit) checkpoint(ctx context.Context) error {
	ticket, err := u.f.sender.add(ctx, u.member.flush(), true)
	if err == nil {
		err = u.f.sender.wait(ctx, ticket)
	}
	if err != nil {
		return err
	}
	u.state.Begin()
	if err := u.member.cross.Changed(u.state.Whole(), func(n uint32, data []byte) error {
		u.state.Put(n, data)
		return nil
	}); err != nil {
		return err
	}
	head, err := u.member.head()
	if err != nil {
		return err
	}
	return u.state.Finish(ctx, head)
}
