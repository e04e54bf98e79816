package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/collector"
	"weir/collector/capture/mirror"
	"weir/pipeline"
	"weir/storage"
)

// source is one input of the service: a file that is followed, one that ends
// (compressed, or standard input), a listener that others send to, or a
// partition of a topic.
type source struct {
	input
	cfg     *collectConfig
	follow  bool
	listens bool
	start   func()       // begins to listen, once the blocks are read; nil for files
	lost    func() int64 // what it knows to be lost, since it was opened; nil nothing
	pulse   pulse
	next    func(context.Context) (*pipeline.Block, error)
	release func(*pipeline.Block)
	close   func() error
}

// sources opens the configured inputs where the store says they were left.
func (s *service) sources(ctx context.Context) ([]*source, error) {
	var out []*source
	var errs []error
	for i := range s.cfg.Collect {
		c := &s.cfg.Collect[i]
		if c.File == "" {
			list, err := s.listeners(ctx, c)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for _, src := range list {
				src.cfg, src.pulse.trusted = c, s.id.Trusted
				s.label(src.name, c)
			}
			out = append(out, list...)
			continue
		}
		names, err := collector.Expand([]string{c.File})
		if err != nil {
			if _, statErr := os.Stat(filepath.Dir(c.File)); statErr != nil || strings.ContainsAny(c.File, "*?[") {
				errs = append(errs, err)
				continue
			}
			names = []string{c.File} // it may come later
		}
		for _, name := range names {
			src, err := s.source(ctx, c, name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			src.cfg, src.pulse.trusted = c, s.id.Trusted
			s.label(name, c)
			out = append(out, src)
		}
	}
	return out, errors.Join(append(errs, s.dropPrivileges(out))...)
}

func (s *service) label(name string, c *collectConfig) {
	if len(c.Labels) > 0 {
		if s.labels == nil {
			s.labels = map[string]map[string]string{}
		}
		s.labels[name] = c.Labels
	}
}

// listeners opens what others send to, or a topic with its partitions.
func (s *service) listeners(ctx context.Context, c *collectConfig) ([]*source, error) {
	if c.Kafka != nil {
		return s.kafkaSources(ctx, c)
	}
	open := s.pushSource
	if c.Capture != nil {
		open = s.captureSource
	}
	if c.Syslog != nil {
		open = s.syslogSource
	}
	src, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	return []*source{src}, nil
}

func (s *service) source(ctx context.Context, c *collectConfig, name string) (*source, error) {
	src := &source{input: input{name: name, path: name}}
	if name == "-" {
		path, _, err := collector.SpoolStdin(s.stdin, os.TempDir())
		if err != nil {
			return nil, err
		}
		src.path = path
	}
	if mirror.IsCapture(src.path) {
		src.packets = true
		s.log.Info("reading packets", zap.String("source", name))
		r := src.open(s.id, s.workers, nil)
		src.next, src.release, src.close = r.Next, r.Release, r.Close
		return src, nil
	}
	f, chosen, err := c.format(func() ([][]byte, error) { return collector.Head(src.path) }, true)
	if errors.Is(err, collector.ErrEmpty) || errors.Is(err, os.ErrNotExist) {
		s.log.Info("waiting for the first lines to tell the format", zap.String("source", name))
		src.follow = true
		s.awaitLines(src, c)
		return src, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	src.format = f
	s.log.Info("reading", zap.String("source", name), zap.String("format", chosen))
	src.follow = name != "-" && !compressed(name)
	if !src.follow {
		r := collector.NewReader(collector.ReaderConfig{Path: src.path, Source: name, Format: f, Timed: true, NewIdentify: identify(s.id), Workers: s.workers})
		src.next, src.release, src.close = r.Next, r.Release, r.Close
		return src, nil
	}
	fo, err := s.follower(ctx, src, true)
	if err != nil {
		return nil, err
	}
	src.next, src.release, src.close, src.lost = fo.Next, fo.Release, fo.Close, fo.Lost
	return src, nil
}

// follower goes on with the source where the store says it was left; history
// marks what it holds already.
func (s *service) follower(ctx context.Context, src *source, history bool) (*collector.Follower, error) {
	cursor, _, _, err := s.requests.SourceCursor(ctx, src.id())
	if err != nil {
		return nil, err
	}
	return collector.NewFollower(collector.FollowConfig{
		Path: src.name, Format: src.format, Timed: true, NewIdentify: identify(s.id), Workers: s.workers, Cursor: cursor, Backfill: history, Log: s.log,
	})
}

// awaitLines makes src a source that has nothing until its file holds lines
// that tell the format, and follows it from then on.
func (s *service) awaitLines(src *source, c *collectConfig) {
	const look = 200 * time.Millisecond
	var fo *collector.Follower
	var warned time.Time
	var beats sync.Map // heartbeats from before there was a follower
	src.release = func(b *pipeline.Block) {
		if _, ours := beats.LoadAndDelete(b); !ours {
			fo.Release(b)
		}
	}
	src.close = func() error {
		if fo == nil {
			return nil
		}
		return fo.Close()
	}
	open := func(ctx context.Context) error {
		f, chosen, err := c.format(func() ([][]byte, error) { return collector.Head(src.path) }, true)
		if err != nil {
			if !errors.Is(err, collector.ErrEmpty) && !errors.Is(err, os.ErrNotExist) && time.Since(warned) > time.Minute {
				warned = time.Now()
				s.log.Warn("cannot tell the format yet", zap.String("source", src.name), zap.Error(err))
			}
			return err
		}
		src.format = f
		if fo, err = s.follower(ctx, src, false); err == nil {
			s.log.Info("reading", zap.String("source", src.name), zap.String("format", chosen))
		}
		return err
	}
	var opened atomic.Pointer[collector.Follower] // for who asks from elsewhere
	src.lost = func() int64 {
		if f := opened.Load(); f != nil {
			return f.Lost()
		}
		return 0
	}
	src.next = func(ctx context.Context) (*pipeline.Block, error) {
		if fo != nil {
			return fo.Next(ctx)
		}
		if open(ctx) == nil {
			opened.Store(fo)
			return fo.Next(ctx)
		}
		t := time.NewTimer(look)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		beat := &pipeline.Block{Source: src.name, SourceID: src.id(), Watermark: pipeline.NoTime}
		beats.Store(beat, true)
		return beat, nil
	}
}

// compressed tells a .gz or .zst by its first bytes: it is read once, not
// followed.
func compressed(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && (magic[0] == 0x1f && magic[1] == 0x8b || magic == [4]byte{0x28, 0xb5, 0x2f, 0xfd})
}

// read is a block on its way into the log.
type read struct {
	block *pipeline.Block
	src   *source
}

// collect reads all sources until ctx ends, and puts their blocks into the log.
func (s *service) collect(ctx context.Context, sources []*source) error {
	blocks := make(chan read, 4)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for _, src := range sources {
		if src.start != nil {
			src.start()
		}
		wg.Go(func() { s.readSource(reading, src, blocks) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(blocks)
		close(done)
	}()
	err := s.appendAll(ctx, blocks)
	if err != nil {
		stop()
		for range blocks { // let the readers go
		}
	}
	<-done
	for _, src := range sources {
		_ = src.close()
	}
	if err == nil {
		<-ctx.Done() // every finite source has ended: keep serving
	}
	return err
}

// idleAfter is how long a log whose stamps are not of now must be silent before
// others stop waiting for it. A live one says when its lines are all there: once
// it was silent for its lateness; its event time then follows the clock.
const (
	idleAfter = 10 * time.Second
	idleSlack = 900 * time.Millisecond // beside the lateness of a live one; idle sources are looked at once a second
)

// patience is how long a live source must be silent for all of its lines to be
// there.
func (s *service) patience(src *source) time.Duration {
	late := time.Duration(s.status.lateness.Load())
	if src.cfg != nil {
		late = max(late, time.Duration(src.cfg.Lateness))
	}
	if src.listens && (src.cfg == nil || src.cfg.Lateness == 0) {
		late = max(late, sentLateness)
	}
	return late + idleSlack
}

// liveWithin is how close to the clock a log's stamps must be for the clock to
// say anything about its event time.
const liveWithin = 15 * time.Minute

func (s *service) readSource(ctx context.Context, src *source, out chan<- read) {
	var last pipeline.Time
	heard := time.Now() // a source that is silent since the start says so too
	said := false
	folds := newFold("")
	if src.cfg != nil {
		folds = newFold(src.cfg.Timezone)
	}
	for {
		b, err := src.next(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				if errors.Is(err, io.EOF) && !src.follow {
					s.endOf(ctx, src, out)
				}
				return
			}
			s.log.Error("cannot read on", zap.String("source", src.name), zap.Error(err))
			continue
		}
		folds.fix(b)
		if !src.follow && src.name != "-" {
			for i := range b.Requests {
				b.Requests[i].Flags |= pipeline.FlagBackfill // a finished file is history
			}
		}
		if n := len(b.Requests); n > 0 {
			last, heard, said = b.Requests[n-1].Time, time.Now(), false
		} else if b.Cause.From == b.Cause.To {
			idle := time.Since(heard)
			live := time.Since(last.Std()).Abs() < liveWithin+idle
			patience := idleAfter
			if live {
				patience = s.patience(src)
			}
			switch {
			case idle < patience || said && !live:
				src.release(b)
				continue
			case live:
				b.Watermark = last.Add(idle - patience)
			default:
				b.Watermark = pipeline.MaxTime
			}
			said = true
		}
		select {
		case out <- read{b, src}:
		case <-ctx.Done():
			return
		}
	}
}

// id is the source's identity in blocks.
func (src *source) id() uint64 {
	if src.listens {
		return pipeline.Hash64(src.name)
	}
	if abs, err := filepath.Abs(src.name); err == nil && src.name != "-" {
		return pipeline.Hash64(abs)
	}
	return pipeline.Hash64(src.name)
}

// endOf says that a finite source has nothing more to wait for.
func (s *service) endOf(ctx context.Context, src *source, out chan<- read) {
	b := &pipeline.Block{Source: src.name, SourceID: src.id(), Watermark: pipeline.MaxTime}
	if _, cause, ok, err := s.requests.SourceCursor(ctx, b.SourceID); err == nil && ok {
		b.Cause = pipeline.CauseRange{From: cause.To, To: cause.To}
	}
	end := &source{input: src.input, cfg: src.cfg, release: func(*pipeline.Block) {}}
	select {
	case out <- read{b, end}:
	case <-ctx.Done():
	}
}

// appendAll puts blocks into the log, several in a transaction, and returns
// when they end.
func (s *service) appendAll(ctx context.Context, blocks <-chan read) error {
	// A batch in hand is finished when ctx ends: it is read already.
	work := context.WithoutCancel(ctx)
	said := map[string]time.Time{}
	for {
		batch := nextBatch(blocks)
		if len(batch) == 0 {
			return nil
		}
		list := make([]*pipeline.Block, len(batch))
		for i, r := range batch {
			list[i] = r.block
		}
		var last int64
		err := s.whileFull(ctx, func() (err error) {
			_, last, err = s.requests.AppendBlocks(work, list)
			return err
		})
		if err != nil {
			return err
		}
		if last > 0 {
			s.status.appended.Store(last)
		}
		for _, r := range batch {
			s.count(r, said)
			r.src.release(r.block)
		}
	}
}

// batchBlocks is how many blocks one transaction takes that do not ask for more.
const batchBlocks = 32

// nextBatch waits for blocks and returns those of one transaction; none once they
// have ended. What has to be committed together is, or is not there at all: blocks
// that wait for others when the readers end are left out.
func nextBatch(blocks <-chan read) (batch []read) {
	whole := map[*source]int{} // where blocks begin that need more
	for len(batch) < batchBlocks || len(whole) > 0 {
		var r read
		var ok bool
		if len(batch) == 0 || len(whole) > 0 {
			r, ok = <-blocks
		} else {
			select {
			case r, ok = <-blocks:
			default:
				return batch
			}
		}
		if !ok {
			break
		}
		batch = append(batch, r)
		if _, begun := whole[r.src]; r.block.More && !begun {
			whole[r.src] = len(batch) - 1
		} else if !r.block.More {
			delete(whole, r.src)
		}
	}
	kept := batch[:0]
	for i, r := range batch {
		if from, cut := whole[r.src]; !cut || i < from {
			kept = append(kept, r)
		}
	}
	return kept
}

// whileFull does f, and makes room and does it again while the disk is full:
// stored requests go first, nothing else is given up.
func (s *service) whileFull(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, storage.ErrFull) {
			return err
		}
		s.metrics.full.Inc()
		freed, shedErr := s.db.Shed(context.WithoutCancel(ctx), 8<<20, s.status.keepFrom.Load())
		s.metrics.shed.Add(float64(freed.Requests))
		s.status.shed.Add(freed.Requests)
		s.log.Error("the disk is full: the oldest stored requests make room; detection and alerts go on",
			zap.Int64("requests_given_up", freed.Requests), zap.Error(errors.Join(err, shedErr)))
		if freed.Blocks > 0 {
			continue
		}
		t := time.NewTimer(time.Second)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// count feeds the metrics, and logs a sample of what was rejected, once a
// reason and minute.
func (s *service) count(r read, said map[string]time.Time) {
	b := r.block
	if now := time.Now(); b.Rejects.Lines > 0 {
		r.src.pulse.hear(b, now)
		s.metrics.lastLine.WithLabelValues(b.Source).Set(float64(now.Unix()))
		s.metrics.sourceLines.WithLabelValues(b.Source).Add(float64(b.Rejects.Lines))
		rejected := int64(0)
		for _, n := range b.Rejects.Reason {
			rejected += n
		}
		s.metrics.sourceRejects.WithLabelValues(b.Source).Add(float64(rejected))
	}
	s.metrics.lines.Add(float64(b.Rejects.Lines))
	s.metrics.requests.Add(float64(len(b.Requests)))
	for reason, n := range b.Rejects.Reason {
		s.metrics.rejects.WithLabelValues(reason).Add(float64(n))
	}
	for _, sample := range b.Rejects.Sample {
		if time.Since(said[sample.Reason]) < time.Minute {
			continue
		}
		said[sample.Reason] = time.Now()
		s.log.Warn("lines rejected", zap.String("source", b.Source), zap.String("reason", sample.Reason),
			zap.Int64("line", sample.Line), zap.String("sample", sample.Text))
	}
}

// retain drops what is older or larger than the configuration keeps.
func (s *service) retain(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		p := storage.RetainPolicy{
			MaxAge: time.Duration(s.cfg.Store.Retention), AlertAge: time.Duration(s.cfg.Store.AlertRetention),
			MaxBytes: s.maxBytes(), KeepFrom: s.status.keepFrom.Load(),
		}
		if age := time.Duration(s.cfg.Store.AuditRetention); age > 0 {
			p.AuditFrom = timeOf(time.Now().Add(-age))
		}
		if r, err := s.db.Retain(ctx, p); err != nil && ctx.Err() == nil {
			s.log.Error("cannot apply retention", zap.Error(err))
		} else if r.Blocks > 0 {
			s.log.Info("retention", zap.Int64("requests", r.Requests), zap.Int64("bytes", r.Bytes))
		}
		if st, err := s.db.Stats(ctx); err == nil {
			s.status.storeBytes.Store(st.Bytes)
			s.status.differences.Store(st.ReplayDifferences)
			if st.ReplayDifferences > 0 {
				s.log.Error("a replay gave other alerts than before: please report this", zap.Int64("differences", st.ReplayDifferences))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
