package alerts

import (
	"errors"
	"fmt"

	"weir/pipeline"
)

// errTooLarge is the error of an attempt whose body the other side finds too large.
var errTooLarge = errors.New("the body is too large")

// errTogether is the error of alerts that were refused together: one of them may be
// all that is wrong, so each is tried again alone.
var errTogether = errors.New("refused together with others")

// chunks posts n items in runs of at most limit bytes, and halves what is found too
// large all the same. It returns a plain error while nothing was taken, else
// *ItemErrors.
func chunks(n, limit int, size func(i int) int, post func(from, to int) error) error {
	errs := make([]error, n)
	taken := false
	var failed error // what ended it
	var run func(from, to int)
	run = func(from, to int) {
		err := failed
		if err == nil {
			err = post(from, to)
		}
		items, partial := errors.AsType[*ItemErrors](err)
		switch {
		case err == nil:
			taken = true
		case partial && len(items.Errs) == to-from:
			copy(errs[from:to], items.Errs)
			taken = true
		case errors.Is(err, errTooLarge) && to-from > 1:
			mid := from + (to-from)/2
			run(from, mid)
			run(mid, to)
		case errors.Is(err, errTooLarge):
			errs[from] = fmt.Errorf("%w: %w", err, pipeline.ErrPermanent)
		case errors.Is(err, pipeline.ErrPermanent) && to-from == n:
			failed = err // whoever sends tries them one by one
		case errors.Is(err, pipeline.ErrPermanent) && to-from > 1:
			for i := from; i < to; i++ {
				errs[i] = errTogether
			}
		default:
			for i := from; i < to; i++ {
				errs[i] = err
			}
			if !errors.Is(err, pipeline.ErrPermanent) {
				failed = err
			}
		}
	}
	for from := 0; from < n; {
		to, bytes := from, 0
		for to < n && (to == from || bytes+size(to) <= limit) {
			bytes += size(to)
			to++
		}
		run(from, to)
		from = to
	}
	if failed != nil && !taken {
		return failed
	}
	for _, err := range errs {
		if err != nil {
			if n == 1 {
				return err
			}
			return &ItemErrors{errs}
		}
	}
	return nil
}
