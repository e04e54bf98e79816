package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
)

// FollowConfig says what a Follower reads and how.
type FollowConfig struct {
	Path   string // a plain file; it need not exist yet
	Format *Format
	// NewIdentify makes one Identify for each worker; nil leaves requests
	// without an owner.
	NewIdentify func() Identify
	Timed       bool // rejects lines that carry no time
	Workers     int  // how many goroutines parse; 0 takes one per CPU
	// Cursor resumes behind the block that it came with; empty begins with the
	// first byte of the file.
	Cursor []byte
	// Backfill marks the requests that were in the file when it was first
	// opened, to the block.
	Backfill bool
	// Poll is how often the file is looked at; 0 is 100 ms.
	Poll time.Duration
	// Flush is how long a line waits for company; 0 is 200 ms.
	Flush time.Duration
	// Quiet is how long a file that was rotated away must not grow, and its
	// successor hold data, before it counts as finished; 0 is 1 s.
	Quiet time.Duration
	Log   *zap.Logger // nil logs nothing
}

const (
	heartbeatEvery = time.Second
	warnEvery      = time.Minute
	// locateTries is how often a file is looked for, a poll apart, since a
	// rotation may be going on.
	locateTries = 3
	// headerBytes is where in a file the header of its columns is looked for.
	headerBytes = 64 << 10
)

// Follower reads a log file for ever, across rotations by rename and by
// truncation, in the order it was written. A restart with the cursor of the last
// block that was kept loses and repeats no line, also when the file was rotated
// meanwhile, as long as the rotated files are beside it.
//
// Cause counts bytes over all generations of the file, so that blocks join;
// Line starts again with each generation. Every block carries a Cursor, valid as
// long as the block. A last line without newline waits for it until the file is
// finished.
//
// One goroutine calls Next and Close; Release and Stats are for any.
type Follower struct {
	cfg   FollowConfig
	path  string // absolute
	depth int
	pump  pump
	progress

	resume *cursor  // where to begin; the file is not found yet
	tries  int      // how often it was looked for
	start  cursor   // of the next generation: base, generation and history
	seg    *segment // being read; nil before the first file is open
	queue  []*chunk // started, in order

	current *chunk
	next    int    // piece of current
	last    []byte // cursor of the last block
	pos     int64  // source position behind it
	out     time.Time

	warned   time.Time
	problem  string
	poll     *time.Timer
	isClosed bool
}

// NewFollower makes a Follower. It opens nothing; the error is about cfg.
func NewFollower(cfg FollowConfig) (*Follower, error) {
	if cfg.Format == nil {
		return nil, fmt.Errorf("follow %s: no format is given", cfg.Path)
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", cfg.Path, err)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	orDefault(&cfg.Poll, 100*time.Millisecond)
	orDefault(&cfg.Flush, 200*time.Millisecond)
	orDefault(&cfg.Quiet, time.Second)
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	f := &Follower{cfg: cfg, path: path, depth: 2 * cfg.Workers, out: time.Now()}
	f.size.Store(-1)
	f.start.history = -1
	if len(cfg.Cursor) > 0 {
		f.resume = new(cursor)
		if err := f.resume.decode(cfg.Cursor); err != nil {
			return nil, fmt.Errorf("follow %s: read its cursor: %w", cfg.Path, err)
		}
		f.last = append(f.last, cfg.Cursor...)
		f.pos = f.resume.base + f.resume.offset
	}
	f.pump = pump{
		source: cfg.Path, sourceID: sourceID(cfg.Path), format: cfg.Format,
		identify: cfg.NewIdentify, timed: cfg.Timed, workers: cfg.Workers, limit: lineLimit,
	}
	if !f.pump.open(f.cfg.Workers == 1) {
		f.pump.staff(f.depth)
	}
	return f, nil
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Next blocks for the next block, to be given back with Release. After a second
// without one it returns a heartbeat: a block without requests whose Cause is
// empty and whose Cursor is that of the last block, if any. The error is the
// context's, or io.EOF after Close; trouble with the file is logged and waited
// out.
func (f *Follower) Next(ctx context.Context) (*pipeline.Block, error) {
	for {
		if f.isClosed {
			return nil, io.EOF
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if f.current != nil {
			return f.piece(), nil
		}
		now := time.Now()
		for len(f.queue) < f.depth && f.step(now) {
			now = time.Now()
		}
		if len(f.queue) > 0 {
			if err := f.pump.wait(ctx, f.queue[0]); err != nil {
				return nil, err
			}
			f.current, f.next = f.queue[0], 0
			f.queue = f.queue[:copy(f.queue, f.queue[1:])]
			continue
		}
		beat := f.out.Add(heartbeatEvery)
		if !now.Before(beat) {
			f.out = now
			return f.heartbeat(), nil
		}
		wait := min(f.cfg.Poll, beat.Sub(now))
		if f.seg != nil && !f.seg.first.IsZero() {
			wait = min(wait, f.seg.first.Add(f.cfg.Flush).Sub(now))
		}
		if err := f.sleep(ctx, max(wait, time.Millisecond)); err != nil {
			return nil, err
		}
	}
}

func (f *Follower) sleep(ctx context.Context, d time.Duration) error {
	if f.poll == nil {
		f.poll = time.NewTimer(d)
	} else {
		f.poll.Reset(d)
	}
	select {
	case <-f.poll.C:
		return nil
	case <-ctx.Done():
		f.poll.Stop()
		return ctx.Err()
	}
}

// piece hands out the next block of the current chunk.
func (f *Follower) piece() *pipeline.Block {
	c := f.current
	b, pc := f.pump.give(c, f.next), c.pieces[f.next]
	at := c.seg.cursor(b.Cause.To, pc.line)
	pc.cursor = at.append(pc.cursor[:0])
	b.Cursor = pc.cursor
	if f.cfg.Backfill && b.Cause.From < at.history {
		for i := range b.Requests {
			b.Requests[i].Flags |= pipeline.FlagBackfill
		}
	}
	f.last = append(f.last[:0], pc.cursor...)
	f.pos = b.Cause.To
	f.lines.Add(b.Rejects.Lines)
	f.bytes.Add(b.Cause.To - b.Cause.From)
	f.out = time.Now()
	if f.next++; f.next == c.used {
		f.current = nil
	}
	return b
}

func (f *Follower) heartbeat() *pipeline.Block {
	last := f.last
	if len(last) == 0 && f.seg != nil {
		at := f.seg.cursor(f.seg.at.base+f.seg.at.offset, f.seg.at.lines+1)
		last = at.append(nil)
	}
	return &pipeline.Block{
		Source: f.pump.source, SourceID: f.pump.sourceID, Watermark: pipeline.NoTime,
		Cause: pipeline.CauseRange{From: f.pos, To: f.pos}, Cursor: append([]byte(nil), last...),
	}
}

// step reads once and starts at most one chunk; false means that there is
// nothing to do before the next poll.
func (f *Follower) step(now time.Time) bool {
	g := f.seg
	if g == nil {
		return f.begin(now)
	}
	s := &g.split
	whole, lines := s.whole, s.lines
	err := s.fill()
	if g.part.packed == nil && !g.intact() {
		f.truncated(whole, lines, now)
		return true
	}
	g.note()
	if read := s.read(); read != g.seen {
		g.seen, g.grown = read, now
		f.raw.Store(read)
	}
	f.size.Store(g.at.base + max(g.size, g.seen-g.at.base))
	if s.whole > 0 && g.first.IsZero() {
		g.first = now
	}
	if err == nil || s.lines >= blockRequests || s.whole > 0 && now.Sub(g.first) >= f.cfg.Flush {
		f.flush(false)
	}
	switch {
	case err == nil:
		return true
	case g.part.packed != nil:
		if !errors.Is(err, io.EOF) {
			err = g.part.packed.damage(err, s.c.line+s.lines-1)
			f.cfg.Log.Warn("the rest of a rotated file is lost", zap.String("source", f.cfg.Path), zap.Error(err))
			f.flush(false)
			s.c.data = s.c.data[:0] // the beginning of a line that broke off
		}
	case !errors.Is(err, io.EOF):
		f.warn(now, fmt.Errorf("read %s: %w", g.part.name, bare(err)))
		return false
	case now.Sub(g.grown) < f.cfg.Quiet:
		return false
	}
	return f.leave(now)
}

// flush starts the whole lines that were read; final takes a last line without
// newline too.
func (f *Follower) flush(final bool) {
	s := &f.seg.split
	f.seg.first = time.Time{}
	n, lines := s.take(final)
	if lines == 0 {
		return
	}
	var c *chunk
	if n <= smallChunk {
		c = s.cutSmall(f.pump.chunk(smallChunk), final)
	} else {
		c = s.cut(f.pump.chunk(chunkSize), final)
	}
	c.seg = f.seg
	f.pump.start(c)
	f.queue = append(f.queue, c)
}

// warn logs a problem that is waited out: when it begins and once a minute.
func (f *Follower) warn(now time.Time, err error) {
	if f.problem == err.Error() && now.Sub(f.warned) < warnEvery {
		return
	}
	f.problem, f.warned = err.Error(), now
	f.cfg.Log.Warn("waiting for a file that cannot be read", zap.String("source", f.cfg.Path), zap.Error(err))
}

// settled ends a problem.
func (f *Follower) settled() {
	if f.problem != "" {
		f.cfg.Log.Info("the file can be read again", zap.String("source", f.cfg.Path))
		f.problem = ""
	}
}

// Release takes back a block that Next returned; its requests, their strings
// and its cursor are not valid any more. Heartbeats may be given back or not.
func (f *Follower) Release(b *pipeline.Block) { f.pump.release(b) }

// Stats says how far the Follower has come: Bytes and Lines are since it
// started, Raw and Size are source positions, read and there to be read.
func (f *Follower) Stats() FileStats { return f.stats() }

// Close ends the goroutines and closes the file. Blocks that were handed out
// stay valid.
func (f *Follower) Close() error {
	if f.isClosed {
		return nil
	}
	f.isClosed = true
	f.pump.stop()
	if f.seg != nil {
		f.seg.part.close()
	}
	return nil
}
