package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/detectors"
	"weir/pipeline"
	"weir/pipeline/kafka"
)

// detectRole runs the detect member of this process: it takes the sequence, sends
// what the member's slices have to say, and keeps their state. Slices are dealt by a
// group; with each deal that gives it any, the member begins anew from what is kept.
type detectRole struct {
	f      *fleet
	member *detectMember
	view   atomic.Pointer[detectView]
	states map[int]*kafka.State
	codec  *pipeline.Codec
	at     sequencePosition
	saved  time.Time
	log    *zap.Logger
	blind  *blindLive // of the member that has the first slice; nil of others
}

// sliceHead is the head of a checkpoint of one slice.
type sliceHead struct {
	Done pipeline.Place   `json:"done"` // of the slice
	At   sequencePosition `json:"at"`
}

const (
	// fleetCheckpoint is how often states are kept: a slice that moves is detected
	// again from there.
	fleetCheckpoint = 15 * time.Second
	// chunkCommon is the chunk with what is the same in all slices.
	chunkCommon uint32 = 1 << 17
)

func runDetect(ctx context.Context, f *fleet) error {
	d := &detectRole{f: f, codec: pipeline.NewCodec(), states: map[int]*kafka.State{}, log: f.log.With(zap.String("role", "detect"))}
	defer d.letGo()
	if !f.given {
		var learning sync.WaitGroup
		defer learning.Wait()
		learned, stop := context.WithCancel(ctx)
		defer stop()
		learning.Go(func() { f.relearn(learned, &d.view) })
	}
	return f.bus.RunGroup(ctx, f.cfg.Bus.Prefix+"detect", f.topics.requests, d.own)
}

// detectView is how far a detect role is, for those who look from outside.
type detectView struct {
	requests int64
	newest   pipeline.Time
	first    bool // it has slice 0
}

// show tells how far the role is.
func (d *detectRole) show() {
	d.view.Store(&detectView{d.member.requests, d.member.last, d.states[0] != nil})
}

// letGo closes the states.
func (d *detectRole) letGo() {
	for i, s := range d.states {
		s.Close()
		delete(d.states, i)
		d.f.progress.leave(stageDetect, i)
	}
}

// own detects for slices until ctx ends.
func (d *detectRole) own(ctx context.Context, deal kafka.Deal) error {
	work, owned := context.WithoutCancel(ctx), deal.Owned
	fresh := false
	if !deal.Follows {
		d.letGo() // somebody else may have had them
	}
	for i := range d.states {
		if !slices.Contains(owned, i) {
			d.states[i].Close()
			delete(d.states, i)
			d.f.progress.leave(stageDetect, i)
			d.member.removeSlice(i)
		}
	}
	for _, i := range owned {
		fresh = fresh || d.states[i] == nil
	}
	if len(owned) == 0 {
		d.view.Store(nil)
		<-ctx.Done()
		return nil
	}
	if fresh {
		begun := time.Now()
		if err := d.restore(ctx, owned); err != nil {
			return stopped(ctx, err)
		}
		d.log.Info("slices are restored", zap.Ints("slices", owned), zap.Int64("position", d.at.Offset), zap.Duration("took", time.Since(begun)))
	}
	d.reached()
	d.watchBlind()
	if err := d.take(ctx); err != nil {
		d.letGo()
		return stopped(ctx, err)
	}
	// Who gets a slice next goes on from here.
	letting, cancel := context.WithTimeout(work, d.f.letGoWithin())
	defer cancel()
	if err := d.checkpoint(letting); err != nil {
		d.log.Warn("slices are let go without a checkpoint: they are detected again from the last one", zap.Error(err))
		d.letGo() // what is here may be further than what is kept
	}
	return nil
}

// letGoWithin is how long a checkpoint may take that a deal waits for: whoever takes
// longer than a session counts as dead.
func (f *fleet) letGoWithin() time.Duration { return f.bus.SessionTimeout() * 6 / 10 }

// stopped is err, or nil when ctx has ended: much fails then.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// restore claims the states of slices and begins anew from the lowest of them.
func (d *detectRole) restore(ctx context.Context, owned []int) error {
	d.letGo()
	heads := make([]sliceHead, len(owned))
	chunks := make([]func(uint32) ([]byte, error), len(owned))
	var opening sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for n, i := range owned {
		opening.Go(func() {
			s, err := d.f.bus.OpenState(ctx, d.f.topics.state, i, "detect/"+strconv.Itoa(i), d.f.instance)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			d.states[i] = s
			chunks[n] = func(uint32) ([]byte, error) { return nil, nil }
			if head, read, ok := s.Checkpoint(); ok {
				errs = append(errs, json.Unmarshal(head, &heads[n]))
				chunks[n] = read
			}
		})
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		d.letGo()
		return err
	}
	lowest := 0
	for n := range heads {
		if heads[n].Done.Before(heads[lowest].Done) {
			lowest = n
		}
	}
	if err := d.begin(heads[lowest], chunks[lowest]); err != nil {
		d.letGo()
		return err
	}
	for n, i := range owned {
		if err := d.member.addSlice(i, heads[n].Done, chunks[n]); err != nil {
			d.letGo()
			return err
		}
	}
	return nil
}

// begin makes the member that goes on from the state that is common to slices.
func (d *detectRole) begin(from sliceHead, chunk func(uint32) ([]byte, error)) (err error) {
	d.at = from.At
	if d.at.Gate.Sources == nil {
		d.at.Gate = *newSequenceGate()
	}
	f := d.f
	if d.member, err = newDetectMember(f.cfg, f.shape(), f.edition, f.keys, nil, f.workers); err != nil {
		return err
	}
	common, err := chunk(chunkCommon)
	if err != nil {
		return err
	}
	if common == nil {
		return d.member.begin(f.start)
	}
	_, err = d.member.restoreCommon(d.codec, common)
	return err
}

// readItem is an item with where reading goes on behind it.
type readItem struct {
	sequenceItem
	offset int64
	source uint64 // whose gate the record moved; 0 none
	gate   gatedSource
	err    error
}

// read reads items ahead until ctx ends.
func (d *detectRole) read(ctx context.Context, out chan<- readItem) {
	r, err := newSequenceReader(ctx, d.f.bus, &d.f.cfg.Bus, d.at, d.log)
	if err == nil {
		defer r.close()
		if d.states[0] != nil { // one of all puts aside what nobody can read
			r.dead = d.f.bus.NewDeadLetters(d.f.topics.dead)
		}
	}
	for {
		item := readItem{err: err}
		if err == nil {
			item.sequenceItem, item.err = r.next(ctx)
			item.offset, item.source = r.offset, r.touched
			if s := r.gate.Sources[r.touched]; s != nil {
				item.gate = *s
			}
		}
		select {
		case out <- item:
		case <-ctx.Done():
			return
		}
		if item.err != nil {
			return
		}
	}
}

// take detects until ctx ends.
func (d *detectRole) take(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	items := make(chan readItem, 8)
	truths := make(chan truthItem, 8)
	var readers sync.WaitGroup
	readers.Go(func() { d.read(reading, items) })
	from := d.member.truths.State().Position
	readers.Go(func() { d.readTruths(reading, from, truths) })
	defer readers.Wait()
	defer stop()
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	work := context.WithoutCancel(ctx) // what was flushed has to be sent
	d.saved = time.Now()
	ready := d.member.step() // it may have waited when it was let go
	for ctx.Err() == nil {
		more := items
		if !ready {
			more = nil // it waits for what correlate learned
		}
		select {
		case item := <-more:
			if item.err != nil {
				return item.err
			}
			if err := d.item(&item); err != nil {
				return err
			}
		case t := <-truths:
			if t.err != nil {
				return t.err
			}
			if err := d.member.learn(t.offset, &t.bundle); err != nil {
				return err
			}
		case <-tick.C:
			d.show()
			if _, err := d.f.sender.add(work, d.member.flush(), false); err != nil {
				return err
			}
			if err := d.tellStatus(); err != nil {
				return err
			}
			if time.Since(d.saved) >= fleetCheckpoint {
				if err := d.checkpoint(work); err != nil {
					return err
				}
			}
			continue
		case <-ctx.Done():
			continue
		}
		if ready = d.member.step(); !ready {
			// What it waits for follows from what it has to say.
			if _, err := d.f.sender.add(work, d.member.flush(), true); err != nil {
				return err
			}
		}
	}
	return nil
}

// reached notes how far the slices are.
func (d *detectRole) reached() {
	for i := range d.states {
		d.f.progress.reach(stageDetect, i, d.at.Offset)
	}
}

// watchBlind has the member with the first slice, of which there is one, work out
// what the log hides: each sees all of it.
func (d *detectRole) watchBlind() {
	if d.states[0] == nil {
		d.blind, d.member.onBatch = nil, nil
		d.f.metrics.blind.Reset()
		return
	}
	if d.blind == nil || d.blind.set != d.member.set {
		d.blind = newBlindLive(d.member.set, d.member.smallestShare, d.f.metrics.blind)
		d.member.onBatch = d.blind.observe
		d.f.blind.Store(d.blind)
	}
}

// tellStatus tells metrics how the member does.
func (d *detectRole) tellStatus() error {
	st, m := &d.f.status, d.member
	st.detected.Store(d.at.Offset)
	d.f.eventTime(m.last)
	late, skewed := m.merge.Late()
	st.late.Store(late)
	st.skewed.Store(skewed)
	if d.blind == nil {
		return nil
	}
	return d.blind.publish(time.Now())
}

// item takes the next record of the sequence.
func (d *detectRole) item(item *readItem) error {
	d.at.Offset = item.offset
	d.reached()
	if item.source != 0 {
		d.at.Gate.Sources[item.source] = new(item.gate)
	}
	if len(item.silent) > 0 {
		d.member.silence(item.silent)
		return nil
	}
	if item.control != nil {
		d.f.controls.keep(item.last, item.control)
		return d.member.control(item.first, item.last, item.control)
	}
	if item.block != nil {
		d.member.push(item.block)
		d.f.metrics.requests.Add(float64(len(item.block.Requests)))
	}
	return nil
}

// truthItem is a record of the topic of truths.
type truthItem struct {
	offset int64
	bundle pipeline.Bundle[detectors.Truth]
	err    error
}

func (d *detectRole) readTruths(ctx context.Context, from int64, out chan<- truthItem) {
	err := d.f.tail(ctx, d.f.topics.truths, 0, from, func(r kafka.Record) error {
		item := truthItem{offset: r.Offset}
		if err := detectors.DecodeTruths(r.Value, &item.bundle); err != nil {
			return d.f.putAside(ctx, d.f.topics.truths, 0, r, err)
		}
		select {
		case out <- item:
		case <-ctx.Done():
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		select {
		case out <- truthItem{err: err}:
		case <-ctx.Done():
		}
	}
}

// checkpoint keeps the slices' state, once everything is sent that they said. What
// waits for correlate, or is further than the member, stays as it was kept.
func (d *detectRole) checkpoint(ctx context.Context) error {
	m := d.member
	ticket, err := d.f.sender.add(ctx, m.flush(), true)
	if err == nil {
		err = d.f.sender.wait(ctx, ticket)
	}
	d.saved = time.Now()
	if err != nil || !m.idle() {
		return err
	}
	sizes, st := m.set.Stats(), &d.f.status
	st.principals.Store(sizes.Principals)
	st.profiles.Store(sizes.Profiles)
	st.cases.Store(sizes.Cases)
	st.evictions.Store(sizes.EvictedStubs + sizes.EvictedProfiles + sizes.EvictedCases)
	if m.dedupe != nil {
		st.copies.Store(m.dedupe.Copies())
	}
	common, err := m.common(d.codec, d.at.Offset)
	if err != nil {
		return err
	}
	var keeping sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for i, s := range d.states {
		if m.set.Reached().Before(m.set.SliceReached(i)) {
			continue
		}
		head, err := json.Marshal(sliceHead{Done: m.set.SliceReached(i), At: d.at})
		if err != nil {
			return err
		}
		s.Begin()
		s.Put(chunkCommon, common)
		if err := m.set.ChangedSlice(i, s.Whole(), func(n uint32, data []byte) error {
			s.Put(n, data)
			return nil
		}); err != nil {
			return err
		}
		keeping.Go(func() {
			err := s.Finish(ctx, head)
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		})
	}
	keeping.Wait()
	return errors.Join(errs...)
}
