package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"sync"

	"weir/pipeline"
)

// ReaderConfig says what a Reader reads and how.
type ReaderConfig struct {
	Path  string    // a file, plain or compressed; "-" is Stdin
	Stdin io.Reader // for Path "-"
	// Source is what blocks call the input; Path when empty. A spooled stdin is
	// still "-".
	Source string
	Format *Format
	// NewIdentify makes one Identify for each worker; nil leaves requests
	// without an owner.
	NewIdentify func() Identify
	// Workers is how many goroutines parse; 0 takes one per CPU. The blocks are
	// the same for any number.
	Workers int
	// Timed rejects lines that carry no time: detection has no place for them.
	Timed bool
	// Keep, if set, chooses by Format.ClientPrefix which lines are parsed; the
	// others count as lines, not as rejects. Lines whose client cannot be told
	// are parsed. Several goroutines call it at once.
	Keep func(prefix []byte) bool
}

// Reader turns a file, from its beginning to its end, into blocks in the order
// of its lines. Cause is in bytes of the uncompressed file. A block whose lines
// were all rejected or not kept has no requests and is delivered all the same,
// so that causes join. Cursor is nil and Watermark is NoTime.
//
// One goroutine calls Next and Close; Release and Stats are for any.
type Reader struct {
	cfg  ReaderConfig
	pump pump
	progress

	file  *File
	split splitter
	broke error // why the reading ended; the chunk before it is delivered first

	order   chan *chunk // what the workers read, in order; nil with one worker
	reading sync.Mutex  // held by the worker that reads
	fed     error       // why the reading ended; for others once order is closed
	stopped chan struct{}
	wg      sync.WaitGroup

	waiting *chunk // taken from order, perhaps not parsed yet
	current *chunk
	next    int // piece of current
	err     error
	closed  bool
}

// NewReader makes a Reader; the file is opened by the first Next.
func NewReader(cfg ReaderConfig) *Reader {
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Source == "" {
		cfg.Source = cfg.Path
	}
	r := &Reader{cfg: cfg, stopped: make(chan struct{})}
	r.size.Store(-1)
	r.pump = pump{
		source: cfg.Source, sourceID: sourceID(cfg.Source), format: cfg.Format, identify: cfg.NewIdentify,
		keep: cfg.Keep, timed: cfg.Timed, workers: cfg.Workers, limit: lineLimit,
	}
	return r
}

// lookAhead is how many chunks a worker may parse ahead of the consumer: enough
// to keep it busy while the consumer works through a batch.
const lookAhead = 4

// sourceID is stable for a file wherever weir is started.
func sourceID(name string) uint64 {
	if name != "-" {
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
	}
	return pipeline.Hash64(name)
}

// Next returns the next block, to be given back with Release. An error other
// than the context's is returned once, then io.EOF: the input ended there, and
// the blocks before it are good. ErrEmpty is an input without a byte, a
// *DamageError one that broke off.
func (r *Reader) Next(ctx context.Context) (*pipeline.Block, error) {
	for {
		if b := r.piece(); b != nil {
			return b, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.err != nil {
			return nil, r.fail(io.EOF)
		}
		if err := r.advance(ctx); err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return nil, err
			}
			return nil, r.fail(err)
		}
	}
}

func (r *Reader) fail(err error) error {
	r.err = err
	return err
}

// piece hands out the next block of the current chunk.
func (r *Reader) piece() *pipeline.Block {
	c := r.current
	if c == nil {
		return nil
	}
	b := r.pump.give(c, r.next)
	r.lines.Add(b.Rejects.Lines)
	r.bytes.Add(b.Cause.To - b.Cause.From)
	if r.next++; r.next == c.used {
		r.current, r.next = nil, 0
	}
	return b
}

// advance makes the next chunk the current one.
func (r *Reader) advance(ctx context.Context) error {
	if r.file == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	if r.waiting == nil {
		if r.order == nil {
			c, err := r.read()
			if c == nil {
				return err
			}
			r.waiting = c
		} else {
			select {
			case c, ok := <-r.order:
				if !ok {
					return r.fed
				}
				r.waiting = c
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	if err := r.pump.wait(ctx, r.waiting); err != nil {
		return err
	}
	r.current, r.waiting = r.waiting, nil
	return nil
}

func (r *Reader) open() error {
	if r.closed {
		return io.EOF
	}
	if r.cfg.Format == nil {
		return fmt.Errorf("read %s: no format is given", r.cfg.Source)
	}
	f, err := OpenFile(r.cfg.Path, r.cfg.Stdin)
	if err != nil {
		return err
	}
	r.file = f
	r.size.Store(f.Size())
	r.split = splitter{src: f, limit: lineLimit, c: r.pump.chunk(chunkSize)}
	if r.pump.open(r.cfg.Workers == 1 && f.file != nil) {
		return nil // everything happens in Next
	}
	r.order = make(chan *chunk, lookAhead*r.cfg.Workers)
	for range r.cfg.Workers {
		r.wg.Go(r.work)
	}
	return nil
}

// work reads and parses chunk after chunk until the input ends or the Reader is
// closed. Reading is one worker's at a time; it parses what it read, which is
// still in its cache.
func (r *Reader) work() {
	w := r.pump.newWorker()
	for {
		c := r.take()
		if c == nil {
			return
		}
		w.parse(c)
		c.done <- struct{}{}
	}
}

// take reads the next chunk and gives it its place in the order; nil at the end.
func (r *Reader) take() *chunk {
	r.reading.Lock()
	defer r.reading.Unlock()
	if r.fed != nil {
		return nil
	}
	c, err := r.read()
	if c != nil {
		select {
		case r.order <- c:
			return c
		case <-r.stopped:
			err = io.EOF
		}
	}
	r.fed = err
	close(r.order)
	return nil
}

// read returns the next chunk, or nil and why there is none.
func (r *Reader) read() (*chunk, error) {
	if r.broke != nil {
		return nil, r.broke
	}
	err := r.split.fill()
	r.raw.Store(r.file.Raw())
	c := r.split.cut(r.pump.chunk(chunkSize), errors.Is(err, io.EOF))
	if err != nil {
		r.broke = err
		if !errors.Is(err, io.EOF) {
			r.broke = r.file.damage(err, r.split.c.line-1)
		}
	}
	if len(c.data) > 0 {
		r.pump.bring(c)
		return c, nil
	}
	return nil, r.broke
}

// Release takes back a block that Next returned; its requests and their strings
// are not valid any more. Blocks may come back in any order.
func (r *Reader) Release(b *pipeline.Block) { r.pump.release(b) }

// Stats says how far the Reader has come.
func (r *Reader) Stats() FileStats { return r.stats() }

// Close ends the reading and waits for its goroutines, except for one that
// waits for stdin. Blocks that were handed out stay valid.
func (r *Reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	close(r.stopped)
	r.err = io.EOF
	if r.file == nil {
		return nil
	}
	if r.file.file == nil {
		return nil // the read in progress cannot be interrupted
	}
	err := r.file.file.Close()
	r.wg.Wait()
	r.file.Close()
	return err
}
