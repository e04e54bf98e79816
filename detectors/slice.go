package detectors

import (
	"fmt"
	"sort"

	"weir/pipeline"
)

// A set that is one of several processes sees every request, since merge, proxy
// watch and minutes need all of them, but visits the principals of its slices only.
// Slices come and go between batches. One that comes may be further than the set,
// which then goes back (RestoreHead) and takes the log from there again: until it
// has come to where the slice is, nothing of the slice is visited or told.

// setSlice is what a set knows of one slice.
type setSlice struct {
	mine  bool
	ahead bool           // it is further than the set
	done  pipeline.Place // how far, then
}

// deal decides which virtual shards are visited.
func (s *Set) deal() {
	s.behind, s.whole = 0, true
	for i := range s.slices {
		sl := &s.slices[i]
		if sl.ahead {
			s.behind++
		}
		here := sl.mine && !sl.ahead
		s.whole = s.whole && here
		from, to := pipeline.SliceShards(i, len(s.slices))
		for n := from; n < to; n++ {
			s.visits[n] = here
		}
	}
}

// sliceOf is the slice of a principal.
func (s *Set) sliceOf(owner uint64) int {
	return pipeline.SliceOf(pipeline.Shard(owner), len(s.slices))
}

// SliceOf is the slice that a signal of Signals comes from.
func (s *Set) SliceOf(sig *pipeline.Signal) int {
	if sig.Aside {
		return s.sliceOf(sig.Sender ^ asideSalt)
	}
	return s.sliceOf(sig.Sender)
}

// Reached is the place up to which the set has taken everything.
func (s *Set) Reached() pipeline.Place { return s.reached }

// Control is the place of a control of the sequence, see pipeline.Place.Control, that is
// met where the set is now: from here on the set has passed it.
func (s *Set) Control(first, last int64) pipeline.Place {
	s.reached = s.reached.Control(first, last)
	if s.behind > 0 {
		s.wakeUp(s.reached)
	}
	return s.reached
}

// SliceReached is the place up to which slice i, which the set has, was taken.
func (s *Set) SliceReached(i int) pipeline.Place {
	if s.slices[i].ahead {
		return s.slices[i].done
	}
	return s.reached
}

// Slices returns the slices that the set has.
func (s *Set) Slices() (list []int) {
	for i := range s.slices {
		if s.slices[i].mine {
			list = append(list, i)
		}
	}
	return list
}

// AddSlice takes over slice i as it was at done, with the shards that chunk returns
// (nil: one that was never used). The set must not be further than that.
func (s *Set) AddSlice(i int, done pipeline.Place, chunk func(n uint32) ([]byte, error)) error {
	if s.slices[i].mine {
		return fmt.Errorf("slice %d is here already", i)
	}
	if done.Before(s.reached) {
		return fmt.Errorf("slice %d is at %s, the set at %s: it has to go back first", i, done, s.reached)
	}
	from, to := pipeline.SliceShards(i, len(s.slices))
	for n := from; n < to; n++ {
		if err := s.restoreShard(n, chunk); err != nil {
			s.drop(i)
			return err
		}
	}
	s.slices[i] = setSlice{mine: true, ahead: s.reached.Before(done), done: done}
	s.deal()
	return nil
}

// RemoveSlice forgets slice i; ChangedSlice is called before where its state is
// wanted.
func (s *Set) RemoveSlice(i int) {
	s.drop(i)
	s.slices[i] = setSlice{}
	s.deal()
}

func (s *Set) drop(i int) {
	from, to := pipeline.SliceShards(i, len(s.slices))
	for n := from; n < to; n++ {
		s.shards[n] = nil
		delete(s.workers[n%len(s.workers)].hot, uint16(n))
	}
}

// ChangedSlice is Changed for the virtual shards of slice i.
func (s *Set) ChangedSlice(i int, all bool, f func(n uint32, data []byte) error) error {
	from, to := pipeline.SliceShards(i, len(s.slices))
	return s.changed(from, to, all, f)
}

// RestoreHead takes over the state outside the slices, of this place or an earlier
// one. Slices that the set has stay as they are, ahead of it.
func (s *Set) RestoreHead(h SnapshotHead) error {
	if h.Layout != Layout() {
		return ErrLayout
	}
	for i := range s.slices {
		if sl := &s.slices[i]; sl.mine {
			sl.done = s.SliceReached(i)
			sl.ahead = h.Reached.Before(sl.done)
		}
	}
	s.seq, s.minute, s.begun, s.noticed = h.Seq, h.Minute, h.Begun, h.Noticed
	s.since, s.count, s.reached, s.floor = h.Since, h.Count, h.Reached, pipeline.Time(h.Floor)
	s.truth = truthBook{list: h.Truths, through: pipeline.Time(h.TruthThrough)}
	s.learn(true)
	s.deal()
	return nil
}

// catchUp lets slices join whose place comes before the first request of batch, and
// returns how many of its requests come before the next one's.
func (s *Set) catchUp(batch []pipeline.Ordered) int {
	s.wakeUp(s.placeOf(batch, 0))
	n := len(batch)
	for i := range s.slices {
		if sl := &s.slices[i]; sl.ahead {
			n = sort.Search(n, func(k int) bool { return sl.done.Before(s.placeOf(batch, k)) })
		}
	}
	return n
}

// wakeUp lets slices join whose place is before p.
func (s *Set) wakeUp(p pipeline.Place) {
	woken := false
	for i := range s.slices {
		if sl := &s.slices[i]; sl.ahead && sl.done.Before(p) {
			sl.ahead, woken = false, true
		}
	}
	if woken {
		s.deal()
	}
}

// asleep reports whether virtual shard n is of a slice that is ahead.
func (s *Set) asleep(n uint16) bool {
	return s.behind > 0 && s.slices[pipeline.SliceOf(n, len(s.slices))].ahead
}
