package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
	Workers     int // how many goroutines parse; 0 takes one per CPU
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
	// Quiet is how long a file that was rotated away must not grow, while its
	// successor holds data, before it counts as finished; 0 is 1 s.
	Quiet time.Duration
	Log   *zap.Logger // nil logs nothing
}

const (
	heartbeatEvery = time.Second
	warnEvery      = time.Minute
	// locateTries is how often a file is looked for, a poll apart, since a
	// rotation may be going on.
	locateTries = 3
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
		identify: cfg.NewIdentify, workers: cfg.Workers, limit: lineLimit,
	}
	f.pump.open(f.depth)
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
		if err != io.EOF {
			err = g.part.packed.damage(err, s.c.line+s.lines-1)
			f.cfg.Log.Warn("the rest of a rotated file is lost", zap.String("source", f.cfg.Path), zap.Error(err))
			f.flush(false)
			s.c.data = s.c.data[:0] // the beginning of a line that broke off
		}
	case err != io.EOF:
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

// begin opens the first file: where the cursor says, or the followed one.
func (f *Follower) begin(now time.Time) bool {
	at := f.start
	name := f.path
	if f.resume != nil {
		if name = locate(f.path, f.resume); name == "" {
			if f.tries++; f.tries < locateTries {
				return false
			}
			f.lost(f.resume)
			return true
		}
		at = *f.resume
	}
	p, err := openPart(name)
	if err == nil && p.packed != nil && f.resume == nil {
		p.close()
		err = fmt.Errorf("open %s: it is compressed, and only plain files can be followed; read it with weir analyze", name)
	}
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && f.start.history < 0 {
			f.start.history = 0 // what comes now is news
		}
		f.warn(now, err)
		return false
	}
	if f.resume == nil {
		at.id = p.id
	}
	g, err := newSegment(p, at, f.pump.chunk(chunkSize), now)
	if err != nil {
		p.close()
		if f.resume == nil {
			f.warn(now, err)
			return false
		}
		f.lost(f.resume)
		return true
	}
	if g.at.history < 0 {
		g.at.history = g.size
	}
	f.seg, f.resume, f.tries = g, nil, 0
	f.settled()
	return true
}

// lost goes on with the followed file from its beginning because the one that
// at was in cannot be found.
func (f *Follower) lost(at *cursor) {
	f.cfg.Log.Warn("the file that was being read is gone; what was written to it since is lost",
		zap.String("source", f.cfg.Path), zap.Int64("line", at.lines), zap.Int64("byte", at.offset))
	f.start = cursor{base: at.base + at.offset, generation: at.generation + 1, history: at.history}
	f.resume, f.tries = nil, 0
}

// truncated goes on after the file lost its content under us: first with the
// rest of it, if a copy is beside the file, then with what is in it now. whole
// and lines are what was read before the last read, which cannot be trusted.
func (f *Follower) truncated(whole int, lines int64, now time.Time) {
	g := f.seg
	s := &g.split
	unread := s.read()
	s.whole, s.lines, s.skipping, s.dropped = whole, lines, false, 0
	f.flush(false)
	at := g.cursor(s.c.offset, s.c.line)
	at.print, at.printBytes = fingerprint(g.head), int64(len(g.head))
	g.part.close()
	f.pump.put(s.c)
	f.seg = nil
	if locate(f.path, &at) != "" {
		f.resume = &at
		return
	}
	f.start = cursor{base: at.base + at.offset, generation: at.generation + 1, history: at.history}
	f.cfg.Log.Info("the file was truncated; going on with its beginning", zap.String("source", f.cfg.Path),
		zap.Int64("line", at.lines), zap.Int64("unfinished_bytes", unread-at.base-at.offset))
}

// leave goes on with the file that was begun after this one, if there is one.
func (f *Follower) leave(now time.Time) bool {
	g := f.seg
	fi, err := os.Stat(f.path)
	if err == nil && identify(fi) == g.part.id && g.part.packed == nil {
		f.settled()
		return false
	}
	p := f.successor(now)
	if p == nil {
		if errors.Is(err, os.ErrNotExist) && now.Sub(g.grown) >= warnEvery {
			f.warn(now, openError(f.path, err))
		}
		return false
	}
	if g.part.packed == nil && g.intact() && g.size > g.seen-g.at.base {
		p.close()
		return true // it has grown in the last moment
	}
	f.flush(true)
	end := cursor{id: p.id, base: g.split.c.offset, generation: g.at.generation + 1, history: g.at.history}
	next, err := newSegment(p, end, f.pump.chunk(chunkSize), now)
	if err != nil { // cannot be: nothing is read at offset 0
		p.close()
		f.warn(now, err)
		return false
	}
	g.part.close()
	f.pump.put(g.split.c)
	f.seg = next
	f.settled()
	return true
}

// successor opens the file that was begun after the one being read; nil if
// there is none with data yet.
func (f *Follower) successor(now time.Time) *part {
	for range locateTries {
		name, passed := f.successorName()
		if name == f.path {
			if fi, err := os.Stat(name); err != nil || fi.Size() == 0 {
				return nil // its writer has not come over yet
			}
		}
		p, err := openPart(name)
		if err != nil {
			f.warn(now, err)
			return nil
		}
		// A rotation may have renamed the files between the two steps.
		if again, _ := f.successorName(); again == name {
			if fi, err := os.Stat(name); err == nil && identify(fi) == p.id {
				for _, e := range passed {
					f.cfg.Log.Warn("a rotated file cannot be read and is passed over", zap.String("source", f.cfg.Path), zap.Error(e))
				}
				return p
			}
		}
		p.close()
	}
	return nil
}

// successorName finds the name of that file, and why files before it must be
// passed over.
func (f *Follower) successorName() (name string, passed []error) {
	g := f.seg
	all := rotations(f.path)
	var at *rotation
	for i := range all {
		if fi, err := os.Stat(all[i].path); err == nil && identify(fi) == g.part.id {
			at = &all[i]
		}
	}
	if at == nil { // compressed meanwhile, or removed
		c := g.cursor(g.split.c.offset, g.split.c.line)
		for i := range all {
			if at == nil && c.printBytes > 0 && holds(all[i].path, &c) {
				at = &all[i]
			}
		}
	}
	for at != nil {
		next := after(all, at)
		if next == nil {
			break
		}
		p, err := openPart(next.path)
		if err == nil {
			p.close()
			return next.path, passed
		}
		passed = append(passed, err)
		at = next
	}
	return f.path, passed
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
