package collector

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"weir/pipeline"
)

// blockRequests is the most requests a block holds.
const blockRequests = 4096

// maxArray is the most elements of an array in a line that are read.
const maxArray = 1024

// Identify decides who a request belongs to: it fills Address, Forwarded,
// Owner, Kind, Flags, Account, Key, Session and LoginUser of r from f. It may
// leave strings that are valid until its next call only; they are copied. One
// goroutine uses an Identify.
type Identify func(r *pipeline.Request, f *Fields)

// chunk is a run of whole lines on its way from the input to blocks.
type chunk struct {
	data   []byte // the lines as read; strings of requests point here
	tail   []byte // copies of the values that are not in data as they stand
	offset int64  // source position of data[0]
	end    int64  // source position behind the last line
	line   int64  // number of the first line, from 1
	lines  int64
	seg    *segment // where a Follower read it; nil in a Reader

	brought bool   // parsers take chunks in any order: carry is all they know of those before
	carry   []byte // lines to parse before, for what they say about these

	delivery *delivery // of an inbox: who waits for it
	reserved int64     // of an inbox: the memory counted for it
	places   []place   // of Records: where each line is from

	requests []pipeline.Request
	pieces   []*piece // made once and reused; used says how many count
	used     int
	out      int // pieces not given back yet
	done     chan struct{}
}

func (c *chunk) reset(offset, line int64) {
	c.data = c.data[:0]
	c.offset, c.end, c.line, c.lines, c.seg, c.used = offset, offset, line, 0, nil, 0
	c.brought, c.carry = false, c.carry[:0]
	c.delivery, c.reserved, c.places = nil, 0, c.places[:0]
}

// piece is one block of a chunk.
type piece struct {
	pipeline.Block
	line    int64 // number of the line behind the block's last
	cursor  []byte
	rejects rejects
}

// pump parses chunks on several goroutines. Whoever feeds it keeps the order:
// it starts chunks, then waits for each in turn.
type pump struct {
	source   string
	sourceID uint64
	format   *Format
	identify func() Identify
	keep     func([]byte) bool
	timed    bool
	arrival  func() time.Time // the time of lines that carry none; nil rejects them when timed
	workers  int
	limit    int

	jobs   chan *chunk // of a staff; nil without one
	inline *worker     // parses in wait
	wg     sync.WaitGroup

	mu    sync.Mutex
	free  []*chunk // of chunkSize
	small []*chunk
	given map[*pipeline.Block]*chunk

	carry []byte // of the next chunk; see Format.Carry
}

// bring gives c the lines before it that its parser must know. Chunks come in
// order, from one goroutine at a time.
func (p *pump) bring(c *chunk) {
	if p.format.Carry != nil {
		c.brought, c.carry = true, append(c.carry[:0], p.carry...)
		p.carry = p.format.Carry(p.carry, c.data)
	}
}

// open makes ready. With inline, whoever waits for a chunk parses it.
func (p *pump) open(inline bool) bool {
	p.given = make(map[*pipeline.Block]*chunk)
	if inline {
		p.inline = p.newWorker()
	}
	return inline
}

// staff makes the workers that start hands chunks to. depth is how many chunks
// are under way at most.
func (p *pump) staff(depth int) {
	p.jobs = make(chan *chunk, depth)
	for range p.workers {
		w := p.newWorker()
		p.wg.Go(func() {
			for c := range p.jobs {
				w.parse(c)
				c.done <- struct{}{}
			}
		})
	}
}

// start hands c to the workers; it does not block when at most depth chunks
// are under way.
func (p *pump) start(c *chunk) {
	p.bring(c)
	if p.jobs != nil {
		p.jobs <- c
	}
}

// wait returns when c is parsed, or with the context's error, and may then be
// called again.
func (p *pump) wait(ctx context.Context, c *chunk) error {
	if p.inline != nil {
		p.inline.parse(c)
		return nil
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends the workers once all that was started is parsed.
func (p *pump) stop() {
	if p.jobs != nil {
		close(p.jobs)
		p.wg.Wait()
	}
}

// smallChunk is the capacity of the chunks that hold a few lines.
const smallChunk = 16 << 10

// chunk gives an empty chunk, reused when there is one.
func (p *pump) chunk(size int) *chunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	pool := &p.free
	if size == smallChunk {
		pool = &p.small
	}
	if n := len(*pool); n > 0 {
		c := (*pool)[n-1]
		*pool = (*pool)[:n-1]
		c.reset(0, 1)
		return c
	}
	return &chunk{data: make([]byte, 0, size), line: 1, done: make(chan struct{}, 1)}
}

// put takes back a chunk that nobody uses.
func (p *pump) put(c *chunk) {
	if cap(c.requests) > 4*blockRequests {
		c.requests = nil // thousands of tiny lines; not worth keeping
	}
	if cap(c.tail) > 4*chunkSize {
		c.tail = nil
	}
	if cap(c.data) > 4*chunkSize {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if cap(c.data) == smallChunk {
		if len(p.small) < 16 {
			p.small = append(p.small, c)
		}
	} else if len(p.free) < 4*p.workers+4 {
		p.free = append(p.free, c)
	}
}

// give hands out block i of c, to be given back with release.
func (p *pump) give(c *chunk, i int) *pipeline.Block {
	b := &c.pieces[i].Block
	p.mu.Lock()
	p.given[b] = c
	p.mu.Unlock()
	return b
}

// release takes a block back; its chunk is reused with the last one.
func (p *pump) release(b *pipeline.Block) {
	p.mu.Lock()
	c, ok := p.given[b]
	delete(p.given, b)
	last := false
	if ok {
		c.out--
		last = c.out == 0
	}
	p.mu.Unlock()
	if last {
		p.put(c)
	}
}

// worker parses chunks, one at a time.
type worker struct {
	p        *pump
	parser   Parser
	plain    setPlainer // the parser, if it wants to know; nil
	identify Identify
	f        Fields
}

// setPlainer is a parser of lines that stand alone. It looks for escapes unless
// it is told that none of the lines to come has any.
type setPlainer interface{ setPlain(bool) }

func (p *pump) newWorker() *worker {
	w := &worker{p: p, parser: p.format.New()}
	w.plain, _ = w.parser.(setPlainer)
	if p.identify != nil {
		w.identify = p.identify()
	}
	return w
}

// parse turns the lines of c into requests, cut into blocks.
func (w *worker) parse(c *chunk) {
	c.requests, c.tail, c.used = c.requests[:0], c.tail[:0], 0
	if w.p.keep == nil {
		c.requests = slices.Grow(c.requests, roomFor(c.lines))
	}
	if c.brought {
		w.parser = w.p.format.New() // it knows nothing of other chunks
		eachLine(c.carry, func(line []byte, _ int) bool {
			_ = w.parser.Parse(&w.f, line) // counted where it was read
			return true
		})
	}
	if w.plain != nil {
		w.plain.setPlain(bytes.IndexByte(c.data, '\\') < 0)
	}
	first, from, number, start := 0, c.offset, c.line, c.line
	pc := c.piece()
	cut := func(at int) {
		to := c.offset + int64(at)
		w.close(c, pc, first, pipeline.CauseRange{From: from, To: to}, number-start, number)
		first, from, start = len(c.requests), to, number
		pc = c.piece()
	}
	at := 0 // where the line begins
	eachLine(c.data, func(line []byte, next int) bool {
		var err error
		if w.p.format.Arrays && len(line) > 0 && line[0] == '[' {
			if len(c.requests)-first > blockRequests-maxArray {
				cut(at)
			}
			err = w.array(c, line, number)
		} else {
			err = w.line(c, line, number)
		}
		if err != nil {
			pc.rejects.add(err, line, number)
		}
		number++
		if len(c.requests)-first == blockRequests && next < len(c.data) {
			cut(next)
		}
		at = next
		return true
	})
	w.close(c, pc, first, pipeline.CauseRange{From: from, To: c.end}, number-start, number)
	c.out = c.used
	// An append that moved the requests left earlier blocks with the old memory,
	// which is complete: nothing writes to a request after its line.
}

// roomFor rounds up so that a reused chunk seldom grows.
func roomFor(lines int64) int {
	n := 16
	for int64(n) < lines && n < blockRequests {
		n *= 2
	}
	return n
}

// piece gives the next block of c.
func (c *chunk) piece() *piece {
	if c.used == len(c.pieces) {
		c.pieces = append(c.pieces, &piece{})
	}
	c.used++
	pc := c.pieces[c.used-1]
	pc.rejects.reasons = pc.rejects.reasons[:0]
	return pc
}

func (w *worker) close(c *chunk, pc *piece, first int, cause pipeline.CauseRange, lines, number int64) {
	n := len(c.requests)
	pc.Block = pipeline.Block{
		Source: w.p.source, SourceID: w.p.sourceID,
		Requests: c.requests[first:n:n], Arena: c.data,
		Cause: cause, Watermark: pipeline.NoTime,
		Rejects: pipeline.Rejects{Lines: lines},
	}
	pc.rejects.record(&pc.Rejects)
	pc.line = number
}

// array parses a line that is a JSON array of objects. It is one line, with the
// fault of the first element that has one.
func (w *worker) array(c *chunk, line []byte, number int64) (fault error) {
	if len(line) > w.p.limit {
		return RejectTooLong
	}
	n := 0
	for element := range elements(line) {
		if n++; n > maxArray {
			return RejectTooLong
		}
		if err := w.line(c, element, number); err != nil && fault == nil {
			fault = err
		}
	}
	if n == 0 {
		return w.line(c, line, number) // it says what is wrong
	}
	return fault
}

// line parses one line and appends its request to c.
func (w *worker) line(c *chunk, line []byte, number int64) error {
	if len(line) > w.p.limit {
		return RejectTooLong
	}
	if w.p.keep != nil {
		if prefix := w.p.format.ClientPrefix(line); prefix != nil && !w.p.keep(prefix) {
			return nil
		}
	}
	f := &w.f
	if err := w.parser.Parse(f, line); err != nil {
		if errors.Is(err, SkipLine) {
			return nil
		}
		return err
	}
	at := pipeline.NoTime
	if f.HasTime {
		at = f.Time
	} else if w.p.arrival != nil {
		at = pipeline.TimeOf(w.p.arrival())
	} else if w.p.timed {
		return RejectTime
	}
	c.add(f, at, number, w.identify)
	return nil
}

// add appends the request that f holds.
func (c *chunk) add(f *Fields, at pipeline.Time, number int64, identify Identify) {
	n := len(c.requests)
	if n == cap(c.requests) {
		c.requests = slices.Grow(c.requests, max(16, n))
	}
	c.requests = c.requests[:n+1]
	r := &c.requests[n]
	*r = pipeline.Request{
		Time: at, Line: number, Bytes: f.Bytes, Duration: f.Duration, Status: f.Status,
		Method: f.Method, Host: f.Host, Path: f.Path, Query: f.Query, Agent: f.Agent, Referer: f.Referer,
		JA3: f.JA3, JA4: f.JA4, RequestID: f.RequestID,
	}
	f.apply(r)
	if f.Blocked || f.Status == statusNoAnswer {
		r.Flags |= pipeline.FlagBlocked
	}
	if identify != nil {
		identify(r, f)
		f.applyLocation(r)
		f.content.Apply(r)
		c.own(&r.Account)
		c.own(&r.Key)
		c.own(&r.Session)
		c.own(&r.LoginUser)
	}
	c.own(&r.Method)
	c.own(&r.Host)
	c.own(&r.Path)
	c.own(&r.Query)
	c.own(&r.Agent)
	c.own(&r.Referer)
	c.own(&r.JA3)
	c.own(&r.JA4)
	c.own(&r.RequestID)
	c.own(&r.Operation)
	r.Seal()
}

// own makes s point into c's memory: a value that is not in the lines as it
// stands (unescaped, a token) is copied to the tail.
func (c *chunk) own(s *string) {
	if len(*s) == 0 {
		return
	}
	at := uintptr(unsafe.Pointer(unsafe.StringData(*s)))
	if at-uintptr(unsafe.Pointer(unsafe.SliceData(c.data))) < uintptr(len(c.data)) {
		return
	}
	n := len(c.tail)
	c.tail = append(c.tail, *s...)
	*s = unsafe.String(&c.tail[n], len(c.tail)-n)
}

// progress counts what a source has read; any goroutine may look.
type progress struct{ lines, bytes, raw, size atomic.Int64 }

// FileStats is how far a file source has come.
type FileStats struct {
	Lines int64 // handed out, good and bad
	Bytes int64 // of these lines, uncompressed
	Raw   int64 // bytes read of the file itself, compressed as it may be
	Size  int64 // of the file, to compare with Raw; -1 when it cannot be known
}

func (p *progress) stats() FileStats {
	return FileStats{Lines: p.lines.Load(), Bytes: p.bytes.Load(), Raw: p.raw.Load(), Size: p.size.Load()}
}
