package main

import (
	"context"
	"errors"
	"sync"

	"weir/pipeline/kafka"
)

// unit is a slice of a role that runs by itself: its state, and who it is now. Its
// methods are called by one goroutine at a time.
type unit interface {
	// open claims its state and makes it what was kept.
	open(ctx context.Context) error
	// run works until ctx ends, and keeps its state then, within a few seconds.
	run(ctx context.Context) error
	close()
}

// runUnits has the units of the slices that a group deals to this process run,
// until ctx ends or one of them fails.
func (f *fleet) runUnits(ctx context.Context, group, topic string, make func(slice int) unit) error {
	units := map[int]unit{}
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
			u, known := units[i]
			if !known {
				u = make(i)
				units[i] = u
			}
			all.Go(func() {
				var err error
				if !known {
					err = u.open(running)
				}
				if err == nil {
					err = u.run(running)
				}
				if err = stopped(running, err); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					fail(err)
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
