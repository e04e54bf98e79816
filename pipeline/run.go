package pipeline

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"
)

// Source yields records in order. One goroutine uses a Source.
type Source[T any] interface {
	// Next blocks for the next batch; the caller owns it until it calls Next
	// again. io.EOF ends the stream.
	Next(ctx context.Context) ([]T, error)
	// Commit marks everything that Next has returned so far as done.
	Commit(ctx context.Context) error
	Close() error
}

// Handler does one stage's work. nil means the batch is safe to commit.
type Handler[T any] func(ctx context.Context, batch []T) error

// ErrPermanent is wrapped by errors that a retry cannot help.
var ErrPermanent = errors.New("permanent")

// Run hands src's batches to h, one at a time, and commits each that h took.
// It returns nil when src ends or ctx is cancelled; the batch in hand then has
// grace to finish.
func Run[T any](ctx context.Context, src Source[T], h Handler[T], grace time.Duration) error {
	for ctx.Err() == nil {
		batch, err := src.Next(ctx)
		if err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := finish(ctx, grace, func(ctx context.Context) error {
			if err := h(ctx, batch); err != nil {
				return err
			}
			return src.Commit(ctx)
		}); err != nil {
			return err
		}
	}
	return nil
}

// finish calls f with a context that outlives ctx by grace.
func finish(ctx context.Context, grace time.Duration, f func(context.Context) error) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(grace, cancel)
		context.AfterFunc(work, func() { t.Stop() })
	})
	defer stop()
	return f(work)
}

// Retry calls h until it succeeds, fails with ErrPermanent, or ctx ends,
// waiting from 100 ms up to 30 s between tries, with jitter. It wraps I/O only:
// a stage that keeps state must see a batch once.
func Retry[T any](h Handler[T]) Handler[T] {
	return func(ctx context.Context, batch []T) error {
		for wait := 100 * time.Millisecond; ; wait = min(2*wait, 30*time.Second) {
			err := h(ctx, batch)
			if err == nil || errors.Is(err, ErrPermanent) {
				return err
			}
			t := time.NewTimer(wait/2 + rand.N(wait))
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return errors.Join(err, ctx.Err())
			}
		}
	}
}
