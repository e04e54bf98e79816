package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// roleSlice is a slice of a role that runs by itself: its state, and who it is now. Its
// methods are called by one goroutine at a time.
type roleSlice interface {
	// open claims its state and makes it what was kept.
	open(ctx context.Context) error
	// run works until ctx ends, and keeps its state then, within a few seconds. It
	// returns errStale when it could not: the unit is opened anew then.
	run(ctx context.Context) error
	close()
}

// runUnits has the units of the slices that a group deals to this process run,
// until ctx ends or one of them fails.
func (f *fleet) runUnits(ctx context.Context, group, topic string, make func(slice int) roleSlice) error {
	units := map[int]roleSlice{}
	drop := func(i int) {
		units[i].close()
		delete(units, i)
	}
	defer func() {
		for i := range units {
			drop(i)
		}
	}()
	return f.bus.RunGroup(ctx, f.cfg.Bus.Prefix+group, topic, func(ctx context.Context, deal kafka.Deal) error {
		owned := map[int]bool{}
		for _, i := range deal.Owned {
			owned[i] = true
		}
		for i := range units {
			if !owned[i] || !deal.Follows {
				drop(i)
			}
		}
		running, fail := context.WithCancelCause(ctx)
		defer fail(nil)
		var all sync.WaitGroup
		var mu sync.Mutex
		var errs []error
		for i := range owned {
			mu.Lock()
			u, known := units[i]
			if !known {
				u = make(i)
				units[i] = u
			}
			mu.Unlock()
			all.Go(func() {
				if !known {
					if err := u.open(running); err != nil {
						mu.Lock()
						defer mu.Unlock()
						drop(i) // the next deal may have it again
						if err = stopped(running, err); err != nil {
							errs = append(errs, err)
							fail(err)
						}
						return
					}
				}
				if err := u.run(running); err != nil {
					mu.Lock()
					defer mu.Unlock()
					drop(i) // it may have sent what its state does not know, or the other way round
					if err = stopped(running, err); err != nil && !errors.Is(err, errStale) {
						errs = append(errs, err)
						fail(err)
					}
				}
			})
		}
		if len(owned) == 0 {
			<-ctx.Done()
		}
		all.Wait()
		return errors.Join(errs...)
	})
}

// putAside puts a record of what a stage sends into the dead letters, as err says that
// it cannot be read. It fails where a newer weir wrote it. If it was of a producer, the
// next one of that leaves a hole, and its consumer ends there: nothing is passed over
// silently.
func (f *fleet) putAside(ctx context.Context, topic string, partition int, r kafka.Record, err error) error {
	if errors.Is(err, pipeline.ErrBlockVersion) {
		return fmt.Errorf("topic %s, partition %d, offset %d: %w", topic, partition, r.Offset, err)
	}
	dead := f.bus.NewDeadLetters(f.topics.dead)
	defer dead.Close()
	return dead.Put(ctx, topic, partition, r, "bundle", err)
}

// errStale says that a unit is not what is kept of it.
var errStale = errors.New("its state could not be kept")
