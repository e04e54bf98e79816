// Package http1 reads HTTP/1.0 and 1.1 (and what is left of 0.9) out of the two byte
// streams of a connection, and joins requests with their responses:
//
//	http1.go   the parser: its states, loss, the end
//	message.go start lines
//	header.go  header blocks
//	body.go    lengths, chunks
//	pair.go    which response answers which request
package http1

import (
	"bytes"

	"weir/collector/capture"
	"weir/pipeline"
)

// Bounds: attackers write what is parsed.
const (
	maxHead     = 64 << 10 // a header block
	maxLine     = 8 << 10  // a chunk's size line with its extensions
	maxWaiting  = 256      // requests without a response, of one connection
	oneSided    = 16       // of these, when the server was never heard
	maxStalled  = 8        // changes of state without a byte
	maxTunneled = 16 << 10 // bytes behind a CONNECT that was not answered yet
)

// Env is what the parsers of one goroutine share.
type Env struct {
	// Emit is told of each exchange.
	Emit func(*capture.Transaction)
	// Want says how much of a body shall be kept, once its header is known;
	// response tells which of the two it is. Nil keeps nothing.
	Want func(t *capture.Transaction, response bool) int
	// Upgraded is told when t changed the protocol of the connection; true means
	// that it will give out t itself. Tunnel then takes the bytes, gaps and ends
	// behind it. Both may be nil.
	Upgraded func(p *Parser, t *capture.Transaction) bool
	Tunnel   func(p *Parser) Tunnel
	Tally    *capture.Tally
	Memory   *capture.Memory

	free []*exchange
}

// Tunnel takes what comes behind an upgrade, as a parser does.
type Tunnel interface {
	Data(dir capture.Direction, at pipeline.Time, b []byte)
	Gap(dir capture.Direction, at pipeline.Time, n int64)
	Close(dir capture.Direction, at pipeline.Time, end capture.End)
}

// state is what a side expects next.
type state uint8

const (
	stateHead    state = iota // a message, or the rest of its header
	stateLength               // the rest of a body of known length
	stateClose                // a body that ends with the connection
	stateSize                 // a chunk's size
	stateChunk                // its bytes
	stateEnd                  // the line end behind them
	stateTrailer              // header lines behind the last chunk
	stateLost                 // somewhere; a message may begin with the next piece
	stateTunnel               // nothing of HTTP's any more
	stateAsked                // client: whether a CONNECT is granted is not known yet
)

// side is one direction.
type side struct {
	state  state
	any    bool // a message was seen
	closed bool
	left   int64         // of a body or a chunk
	begun  pipeline.Time // of buf
	buf    []byte        // the beginning of a line or header that is not whole
	seen   int           // of buf: no header ends before
	at     *exchange     // whose message is being read
}

// Parser reads one connection.
type Parser struct {
	// Tag is the user's.
	Tag uint32

	env    *Env
	flow   *capture.Flow
	sides  [2]side
	queue  []*exchange
	number uint32
	lossy  bool // messages may be missing
	piped  bool // requests came before the response to an earlier one
	dead   bool // given up
	held   int64
}

// Reset makes p the parser of a connection that begins.
func (p *Parser) Reset(env *Env, flow *capture.Flow) {
	p.release()
	queue := p.queue[:0]
	bufs := [2][]byte{p.sides[0].buf[:0], p.sides[1].buf[:0]}
	*p = Parser{env: env, flow: flow, queue: queue}
	for i := range p.sides {
		if cap(bufs[i]) <= 4<<10 {
			p.sides[i].buf = bufs[i]
		}
		if flow.MidStream {
			p.sides[i].state = stateLost
		}
	}
	p.lossy = flow.MidStream
}

// Data takes the next bytes of a direction.
func (p *Parser) Data(dir capture.Direction, at pipeline.Time, b []byte) {
	s := &p.sides[dir]
	if s.closed {
		p.env.Tally.Add(capture.LossMessage, int64(len(b)))
		return
	}
	for stalled := 0; len(b) > 0 && !p.dead; {
		n := 0
		switch s.state {
		case stateHead:
			n = p.head(dir, s, at, b)
		case stateLength, stateChunk:
			n = p.counted(dir, s, at, b)
		case stateClose:
			n = len(b)
			p.body(s, at, b)
		case stateSize:
			n = p.size(dir, s, at, b)
		case stateEnd:
			n = p.chunkEnd(dir, s, at, b)
		case stateTrailer:
			n = p.trailer(dir, s, at, b)
		case stateLost:
			n = p.resync(dir, s, b)
		case stateAsked:
			n = p.asked(s, at, b)
		case stateTunnel:
			p.tunnel(dir, at, b)
			return
		}
		b = b[n:]
		if stalled++; n > 0 {
			stalled = 0
		} else if stalled > maxStalled { // no state leads there; but it would be for ever
			p.env.Tally.Add(capture.LossMessage, int64(len(b)))
			p.lose(s)
			return
		}
	}
	if p.dead {
		p.env.Tally.Add(capture.LossMemory, int64(len(b)))
	}
}

// Gap says that n bytes are missing; n < 0: nobody knows how many.
func (p *Parser) Gap(dir capture.Direction, at pipeline.Time, n int64) {
	s := &p.sides[dir]
	if p.dead || s.closed {
		return
	}
	switch s.state {
	case stateTunnel:
		if t := p.inside(); t != nil {
			t.Gap(dir, at, n)
		}
		return
	case stateLength, stateChunk, stateClose:
		e := s.at
		e.cut(dir)
		m := e.message(dir)
		if n >= 0 && (s.state == stateClose || n <= s.left) {
			m.BodyBytes += n
			m.BodyWire += n
			m.End = at
			if s.state == stateClose {
				return
			}
			if s.left -= n; s.left == 0 {
				p.counted(dir, s, at, nil)
			}
			return
		}
		if s.state == stateLength {
			m.BodyBytes += s.left
			m.BodyWire += s.left
		}
		p.finish(dir, s, at)
	case stateHead:
		if len(s.buf) > 0 {
			p.partial(dir, s, at)
		}
	case stateSize, stateEnd, stateTrailer:
		s.at.cut(dir)
		p.finish(dir, s, at)
	}
	p.lose(s)
}

// lose says that what comes next may be anything.
func (p *Parser) lose(s *side) {
	s.state, s.buf, s.seen, s.left = stateLost, s.buf[:0], 0, 0
	p.lossy = true
}

// Close ends a direction.
func (p *Parser) Close(dir capture.Direction, at pipeline.Time, end capture.End) {
	s := &p.sides[dir]
	if p.dead || s.closed {
		s.closed = true
		return
	}
	if end == capture.EndReset {
		for _, e := range p.queue {
			e.t.Flags |= capture.ResetByClient << dir
		}
	}
	switch s.state {
	case stateTunnel:
		if t := p.inside(); t != nil {
			t.Close(dir, at, end)
		}
	case stateHead:
		if len(s.buf) > 0 {
			p.partial(dir, s, at)
		}
	case stateClose:
		if end != capture.EndFIN && end != capture.EndReset {
			s.at.cut(dir)
		}
		p.finish(dir, s, at)
	case stateLength, stateChunk, stateSize, stateEnd, stateTrailer:
		s.at.cut(dir)
		p.finish(dir, s, at)
	}
	s.closed = true
	if p.sides[capture.FromServer].closed {
		p.unanswered(at)
	}
	if p.sides[dir.Other()].closed {
		p.release()
	}
}

// head reads a header block, which may come in pieces.
func (p *Parser) head(dir capture.Direction, s *side, at pipeline.Time, b []byte) int {
	if len(s.buf) == 0 {
		skip := 0
		for skip < len(b) && (b[skip] == '\r' || b[skip] == '\n') {
			skip++ // empty lines before a message
		}
		if skip > 0 {
			return skip
		}
		s.begun = at
		if c := &p.sides[capture.FromClient]; dir == capture.FromServer && len(c.buf) > 0 && p.ancient(capture.FromClient, c, c.buf) {
			whole := c.buf // it came in pieces
			c.buf, c.seen = c.buf[:0], 0
			p.charge(-int64(len(whole)))
			p.message09(c, c.begun, whole)
		}
		if !p.begins(dir, b) {
			return p.foreign(dir, s, b)
		}
		if end := headEnd(b, 0); end > 0 {
			p.message(dir, s, at, b[:end])
			return end
		}
		if p.ancient(dir, s, b) {
			return p.message09(s, at, b)
		}
	}
	had := len(s.buf)
	n := min(len(b), maxHead-had)
	s.buf = append(s.buf, b[:n]...)
	if !p.charge(int64(n)) {
		return len(b)
	}
	end := headEnd(s.buf, max(0, s.seen-3))
	s.seen = len(s.buf)
	switch {
	case end > 0:
		whole := s.buf
		s.buf, s.seen = s.buf[:0], 0
		p.charge(-int64(len(whole)))
		p.message(dir, s, at, whole[:end])
		return end - had
	case len(s.buf) == maxHead:
		p.env.Tally.Add(capture.LossMessage, maxHead)
		p.charge(-maxHead)
		p.lose(s)
	case had == 0 && !p.begins(dir, s.buf):
		p.charge(-int64(len(s.buf)))
		p.foreignBuffered(s)
	}
	return n
}

func (p *Parser) foreignBuffered(s *side) {
	p.env.Tally.Add(capture.LossMessage, int64(len(s.buf)))
	p.lose(s)
}

// foreign is called for bytes that are no message where one is due.
func (p *Parser) foreign(dir capture.Direction, s *side, b []byte) int {
	if dir == capture.FromServer && p.answers09() {
		e := p.pending()
		e.answered = true
		e.t.Response.Start = s.begun
		s.at, s.state = e, stateClose
		return 0
	}
	p.lose(s)
	return p.resync(dir, s, b)
}

// resync looks for a message in a piece: at its beginning, or behind an empty line.
func (p *Parser) resync(dir capture.Direction, s *side, b []byte) int {
	for from := 0; from < len(b); {
		if startsMessage(dir, b[from:]) {
			s.state = stateHead
			if from > 0 {
				p.env.Tally.Add(capture.LossResync, int64(from))
			}
			return from
		}
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			break
		}
		from += i + 1
	}
	p.env.Tally.Add(capture.LossResync, int64(len(b)))
	return len(b)
}

// charge takes memory; false gives the connection up.
func (p *Parser) charge(n int64) bool {
	if p.env.Memory.Take(n) {
		p.held += n
		return true
	}
	p.dead = true
	p.release()
	return false
}

// release gives back all that p holds.
func (p *Parser) release() {
	if p.env == nil {
		return
	}
	for i, e := range p.queue {
		p.env.put(e)
		p.queue[i] = nil
	}
	p.queue = p.queue[:0]
	for i := range p.sides {
		p.sides[i].at = nil
	}
	p.env.Memory.Take(-p.held)
	p.held = 0
}

// inside is who takes what comes behind an upgrade; nil for nobody.
func (p *Parser) inside() Tunnel {
	if p.env.Tunnel == nil {
		return nil
	}
	return p.env.Tunnel(p)
}

// tunnel passes on bytes of another protocol.
func (p *Parser) tunnel(dir capture.Direction, at pipeline.Time, b []byte) {
	if t := p.inside(); t != nil {
		t.Data(dir, at, b)
		return
	}
	p.env.Tally.Add(capture.LossUpgraded, int64(len(b)))
}

// asked keeps what a client sends behind a CONNECT that was not answered yet.
func (p *Parser) asked(s *side, at pipeline.Time, b []byte) int {
	if len(s.buf)+len(b) > maxTunneled {
		p.env.Tally.Add(capture.LossUpgraded, int64(len(b)))
		return len(b)
	}
	if !p.charge(int64(len(b))) {
		return len(b)
	}
	if len(s.buf) == 0 {
		s.begun = at
	}
	s.buf = append(s.buf, b...)
	return len(b)
}
