package mirror

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"weir/collector"
	"weir/collector/capture"
	"weir/collector/capture/packet"
	"weir/collector/capture/tls"
	"weir/pipeline"
)

// LiveConfig says what a Live captures.
type LiveConfig struct {
	Source    string // what blocks call it
	SourceID  uint64
	Interface string // by name; "any" is all of them
	Filter    string // see packet.ParseFilter
	Buffer    int    // bytes of the kernel's ring, for each worker; 0: 32 MiB
	SnapLen   int    // bytes of a packet that are kept; 0: all
	// Workers is how many goroutines read; the kernel gives each connection to one of
	// them. The two directions of a connection inside a tunnel may get apart: leave it
	// at 1 for tunnels. 0 is 1.
	Workers int
	// NewIdentify makes the Identify that decides who requests belong to.
	NewIdentify func() collector.Identify
	Keys        *tls.KeyLog
	// Cause is how many exchanges of the source were taken in earlier runs.
	Cause int64
}

// MaxWorkers bounds LiveConfig.Workers.
const MaxWorkers = 64

// Live captures from an interface, as Reader reads a file. Cause is in exchanges. One
// goroutine calls Next and Close; the others are for any.
type Live struct {
	cfg     LiveConfig
	sockets []*packet.Live
	blocks  chan *pipeline.Block
	stopped chan struct{}
	wg      sync.WaitGroup

	mu      sync.Mutex // of batch, convert, number, begun
	batch   *collector.Batch
	convert converter
	number  int64
	begun   time.Time // of the batch
	sumMu   sync.Mutex
	sums    []Summary

	beats  sync.Map // blocks that are nobody's
	cause  atomic.Int64
	failed error // of the last worker that failed; for others once blocks is closed
}

// giveAfter is how long an exchange waits for its block to fill, and beatEvery how
// often a silent source says that it is there.
const (
	giveAfter = 200 * time.Millisecond
	beatEvery = time.Second
	pollWait  = 100 // ms
)

// OpenLive opens the sockets: it needs CAP_NET_RAW, which can be dropped once it
// returns. An error wraps packet.ErrPrivilege when that is what lacks. Start begins.
func OpenLive(cfg LiveConfig) (*Live, error) {
	filter, err := packet.ParseFilter(cfg.Filter)
	if err != nil {
		return nil, err
	}
	workers := min(max(1, cfg.Workers), MaxWorkers)
	l := &Live{cfg: cfg, blocks: make(chan *pipeline.Block, 4), stopped: make(chan struct{}), number: cfg.Cause, sums: make([]Summary, workers)}
	l.cause.Store(cfg.Cause)
	var group uint16
	if workers > 1 {
		group = uint16(pipeline.Mix64(cfg.SourceID, uint64(time.Now().UnixNano()))) | 1
	}
	for range workers {
		s, err := packet.OpenLive(packet.LiveConfig{Interface: cfg.Interface, Filter: filter, Buffer: cfg.Buffer, SnapLen: cfg.SnapLen, Fanout: group})
		if err != nil {
			for _, open := range l.sockets {
				_ = open.Close()
			}
			return nil, err
		}
		l.sockets = append(l.sockets, s)
	}
	var identify collector.Identify
	if cfg.NewIdentify != nil {
		identify = cfg.NewIdentify()
	}
	l.batch = collector.NewBatch(cfg.Source, cfg.SourceID, identify)
	l.batch.Begin(cfg.Cause)
	l.convert.batch = l.batch
	return l, nil
}

// Start begins to read.
func (l *Live) Start() {
	for i, s := range l.sockets {
		l.wg.Go(func() {
			if err := l.run(i, s); err != nil {
				l.mu.Lock()
				l.failed = err
				l.mu.Unlock()
			}
		})
	}
	go func() {
		l.wg.Wait()
		close(l.blocks)
	}()
}

// run reads one socket until the Live is closed.
func (l *Live) run(worker int, s *packet.Live) error {
	m := New(Config{Emit: l.exchange, Keys: l.cfg.Keys})
	defer func() {
		m.Flush()
		l.publish(worker, m)
		l.give(true)
		_ = s.Close()
	}()
	var p packet.Packet
	for n := 0; ; n++ {
		select {
		case <-l.stopped:
			return nil
		default:
		}
		ok, err := s.Next(&p, pollWait)
		if err != nil {
			return err
		}
		if ok {
			m.Packet(&p)
		} else {
			m.Tick(pipeline.TimeOf(time.Now()))
		}
		if !ok || n&0xff == 0 {
			l.publish(worker, m)
			l.give(false)
		}
	}
}

// exchange takes one from any worker.
func (l *Live) exchange(t *capture.Transaction) {
	l.mu.Lock()
	l.number++
	l.convert.add(t, l.number)
	if l.begun.IsZero() {
		l.begun = time.Now()
	}
	full := l.batch.Full()
	l.mu.Unlock()
	if full {
		l.give(true)
	}
}

// give hands the block on when it is full or old enough, or now.
func (l *Live) give(now bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun.IsZero() || !now && time.Since(l.begun) < giveAfter {
		return
	}
	b := l.batch.Take(l.number)
	l.begun = time.Time{}
	l.cause.Store(l.number)
	select {
	case l.blocks <- b: // in order: the others wait with the batch
	case <-l.stopped:
		select {
		case l.blocks <- b: // there is room for the last ones
		default:
		}
	}
}

func (l *Live) publish(worker int, m *Mirror) {
	l.sumMu.Lock()
	defer l.sumMu.Unlock()
	l.sums[worker].add(m, nil)
}

// Next returns the next block, an empty one when there is none for a while, to be
// given back with Release.
func (l *Live) Next(ctx context.Context) (*pipeline.Block, error) {
	t := time.NewTimer(beatEvery)
	defer t.Stop()
	select {
	case b, ok := <-l.blocks:
		if ok {
			return b, nil
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if err := l.failed; err != nil {
			l.failed = nil
			return nil, err
		}
		return nil, io.EOF
	case <-t.C:
		to := l.cause.Load()
		beat := &pipeline.Block{Source: l.cfg.Source, SourceID: l.cfg.SourceID, Watermark: pipeline.NoTime, Cause: pipeline.CauseRange{From: to, To: to}}
		l.beats.Store(beat, true)
		return beat, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Release takes a block back.
func (l *Live) Release(b *pipeline.Block) {
	if _, ours := l.beats.LoadAndDelete(b); !ours {
		l.batch.Release(b)
	}
}

// Dropped is how many packets the kernel dropped because weir was too slow.
func (l *Live) Dropped() (n int64) {
	for _, s := range l.sockets {
		_, dropped := s.Stats()
		n += dropped
	}
	return n
}

// Summary is what was read so far.
func (l *Live) Summary() Summary {
	l.sumMu.Lock()
	defer l.sumMu.Unlock()
	var sum Summary
	for i := range l.sums {
		sum.join(&l.sums[i])
	}
	sum.Tally.Events[capture.LossKernel] = l.Dropped()
	return sum
}

// Close ends the capture and waits for its goroutines.
func (l *Live) Close() error {
	select {
	case <-l.stopped:
		return nil
	default:
	}
	close(l.stopped)
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.failed)
}
