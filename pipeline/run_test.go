package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// list is a Source of a few batches; it notes what is done to it.
type list struct {
	batches   [][]int
	then      error // after the batches; nil waits for the context
	commitErr error
	taken     int
	committed []int // batches taken at each commit
	commitCtx []error
}

func (l *list) Next(ctx context.Context) ([]int, error) {
	if l.taken < len(l.batches) {
		l.taken++
		return l.batches[l.taken-1], nil
	}
	if l.then != nil {
		return nil, l.then
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (l *list) Commit(ctx context.Context) error {
	l.committed = append(l.committed, l.taken)
	l.commitCtx = append(l.commitCtx, ctx.Err())
	return l.commitErr
}

func (l *list) Close() error { return nil }

func TestRun(t *testing.T) {
	broken, refused := errors.New("broken"), errors.New("refused")
	three := [][]int{{1, 2}, {3}, {4, 5}}
	cases := []struct {
		name      string
		src       list
		failAt    int // batch that the handler refuses
		want      error
		seen      []int
		committed []int
	}{
		{"to the end", list{batches: three, then: io.EOF}, 0, nil, []int{1, 2, 3, 4, 5}, []int{1, 2, 3}},
		{"a wrapped end", list{batches: three, then: fmt.Errorf("file: %w", io.EOF)}, 0, nil, []int{1, 2, 3, 4, 5}, []int{1, 2, 3}},
		{"an empty source", list{then: io.EOF}, 0, nil, nil, nil},
		{"the source breaks", list{batches: three[:1], then: broken}, 0, broken, []int{1, 2}, []int{1}},
		{"the handler refuses", list{batches: three, then: io.EOF}, 2, refused, []int{1, 2, 3}, []int{1}},
		{"the commit fails", list{batches: three, then: io.EOF, commitErr: broken}, 0, broken, []int{1, 2}, []int{1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var seen []int
			calls := 0
			err := Run(t.Context(), &c.src, func(_ context.Context, batch []int) error {
				seen = append(seen, batch...)
				if calls++; calls == c.failAt {
					return refused
				}
				return nil
			}, time.Second)
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if !slices.Equal(seen, c.seen) || !slices.Equal(c.src.committed, c.committed) {
				t.Errorf("saw %v and committed after batches %v; want %v and %v", seen, c.src.committed, c.seen, c.committed)
			}
		})
	}
}

// TestRunStops: a cancelled Run ends without an error; the batch in hand is
// finished and committed if that takes no longer than the grace.
func TestRunStops(t *testing.T) {
	const grace = 10 * time.Second
	cases := []struct {
		name     string
		work     time.Duration // of a batch, after the cancellation
		took     time.Duration
		canceled bool
	}{
		{"while it waits", 0, 0, false},
		{"within the grace", 9 * time.Second, 9 * time.Second, false},
		{"beyond the grace", time.Hour, grace, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				src := &list{batches: [][]int{{1}}}
				var stopped time.Time
				handle := func(ctx context.Context, _ []int) error {
					if c.work == 0 {
						return nil
					}
					stopped = time.Now()
					cancel()
					select {
					case <-time.After(c.work):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				result := make(chan error, 1)
				go func() { result <- Run(ctx, src, handle, grace) }()
				synctest.Wait()
				if c.work == 0 {
					stopped = time.Now()
					cancel()
				}
				err := <-result
				if took := time.Since(stopped); took != c.took {
					t.Errorf("stopped after %s, want %s", took, c.took)
				}
				if c.canceled {
					if !errors.Is(err, context.Canceled) || len(src.committed) != 0 {
						t.Errorf("error %v after %d commits; want a cancelled batch that is not committed", err, len(src.committed))
					}
					return
				}
				if err != nil || !slices.Equal(src.committed, []int{1}) {
					t.Errorf("error %v, commits %v; want the batch committed", err, src.committed)
				}
				if slices.ContainsFunc(src.commitCtx, func(err error) bool { return err != nil }) {
					t.Error("the commit was given a context that had ended")
				}
			})
		})
	}
}

// TestRunTakesNoMore: after the cancellation no further batch is handled, even
// if the source has one.
func TestRunTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &list{batches: [][]int{{1}, {2}, {3}}}
		n := 0
		err := Run(ctx, src, func(context.Context, []int) error {
			n++
			cancel()
			return nil
		}, time.Second)
		if err != nil || n != 1 || !slices.Equal(src.committed, []int{1}) {
			t.Errorf("error %v, %d batches handled, commits %v; want one of each", err, n, src.committed)
		}
	})
}

// TestRetry: every failure is tried again after a wait that doubles up to 30 s,
// half to one and a half of it, until it works, is permanent or is cancelled.
func TestRetry(t *testing.T) {
	flaky := errors.New("flaky")
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		h := Retry(func(_ context.Context, batch []int) error {
			if !slices.Equal(batch, []int{7}) {
				t.Errorf("batch %v", batch)
			}
			if at = append(at, time.Now()); len(at) <= 14 {
				return flaky
			}
			return nil
		})
		if err := h(t.Context(), []int{7}); err != nil {
			t.Fatal(err)
		}
		if len(at) != 15 {
			t.Fatalf("%d tries, want 15", len(at))
		}
		want, spread := 100*time.Millisecond, map[time.Duration]bool{}
		for i := 1; i < len(at); i++ {
			wait := at[i].Sub(at[i-1])
			if wait < want/2 || wait >= want*3/2 {
				t.Errorf("wait %d took %s, want about %s", i, wait, want)
			}
			if want == 30*time.Second {
				spread[wait] = true
			}
			want = min(2*want, 30*time.Second)
		}
		if len(spread) < 2 {
			t.Error("the waits carry no jitter")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		err := Retry(func(context.Context, []int) error {
			tries++
			return fmt.Errorf("rejected: %w", ErrPermanent)
		})(t.Context(), nil)
		if !errors.Is(err, ErrPermanent) || tries != 1 || time.Since(start) != 0 {
			t.Errorf("a permanent error: %v after %d tries and %s; want it at once", err, tries, time.Since(start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		err := Retry(func(context.Context, []int) error { return flaky })(ctx, nil)
		if !errors.Is(err, flaky) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("cancelled: %v after %s; want both reasons after 5s", err, time.Since(start))
		}
	})
}

// TestRetryInRun: what is retried at the edge reaches the handler's state once.
func TestRetryInRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written []int
		fails := 3
		write := Retry(func(_ context.Context, batch []int) error {
			if fails > 0 {
				fails--
				return errors.New("busy")
			}
			written = append(written, batch...)
			return nil
		})
		sum := 0
		src := &list{batches: [][]int{{1, 2}, {3}}, then: io.EOF}
		err := Run(t.Context(), src, func(ctx context.Context, batch []int) error {
			for _, n := range batch {
				sum += n
			}
			return write(ctx, batch)
		}, time.Second)
		if err != nil || sum != 6 || !slices.Equal(written, []int{1, 2, 3}) {
			t.Errorf("error %v, state %d, written %v; want 6 and each once", err, sum, written)
		}
	})
}
