package http1

import (
	"bytes"

	"weir/collector/capture"
	"weir/pipeline"
)

// exchange is a request that waits for its response, or a response in the making.
type exchange struct {
	t        capture.Transaction
	taken    int64 // memory counted for it
	sent     bool  // the request is complete
	answered bool  // the response has begun
	done     bool  // and is complete
	orphan   bool  // nobody saw the request
	upgrade  bool  // it asks for another protocol
	expect   bool  // it waits for a 100
}

// exchangeSize is about what an exchange takes without its text.
const exchangeSize = 1 << 10

func (e *exchange) message(dir capture.Direction) *capture.Message {
	if dir == capture.FromClient {
		return &e.t.Request
	}
	return &e.t.Response
}

// cut marks the message of dir as not whole.
func (e *exchange) cut(dir capture.Direction) {
	if dir == capture.FromClient {
		e.t.Flags |= capture.RequestCut
	} else {
		e.t.Flags |= capture.ResponseCut
	}
}

// grow returns how much more memory e takes than was counted.
func (e *exchange) grow() int64 {
	n := exchangeSize + int64(e.t.Request.Size()+e.t.Response.Size()) + int64(e.t.Request.Wanted()+e.t.Response.Wanted())
	d := n - e.taken
	e.taken = n
	return d
}

func (env *Env) get() *exchange {
	if n := len(env.free); n > 0 {
		e := env.free[n-1]
		env.free = env.free[:n-1]
		return e
	}
	e := &exchange{}
	e.t.Reset()
	return e
}

const maxFree = 1024

func (env *Env) put(e *exchange) {
	if len(env.free) >= maxFree {
		return
	}
	e.t.Reset()
	*e = exchange{t: e.t}
	env.free = append(env.free, e)
}

// push makes the exchange of a request that begins; nil when too many wait.
func (p *Parser) push(s *side) *exchange {
	if r := &p.sides[capture.FromServer]; len(p.queue) >= oneSided && !r.any && p.queue[0].sent && !p.queue[0].answered {
		p.queue[0].t.Flags |= capture.NoResponse // the capture shows this direction alone
		p.emit(p.queue[0], s.begun)
	}
	if len(p.queue) >= maxWaiting {
		return nil
	}
	e := p.add()
	if n := len(p.queue); n > 1 {
		if before := p.queue[n-2]; !before.done && !p.lossy {
			e.t.Flags |= capture.Pipelined
			p.piped = true
		}
	}
	if p.sides[capture.FromServer].closed {
		e.t.Flags |= capture.AfterClose
	}
	return e
}

func (p *Parser) add() *exchange {
	e := p.env.get()
	e.t.Flow = p.flow
	e.t.Number = p.number
	p.number++
	p.queue = append(p.queue, e)
	return e
}

// pending is the oldest request that was not answered completely; nil for none.
func (p *Parser) pending() *exchange {
	for _, e := range p.queue {
		if !e.done {
			return e
		}
	}
	return nil
}

// match finds the request that a response answers which begins now. Where nothing
// is missing that is the oldest. Where messages are, and the client does not send
// several requests at once, it is the latest: the answers to those before it are
// lost.
func (p *Parser) match(s *side, at pipeline.Time) *exchange {
	if p.lossy && !p.piped {
		for len(p.queue) > 1 && !p.queue[0].answered && p.queue[1].t.Request.Start <= at {
			e := p.queue[0]
			e.sent = true
			e.t.Flags |= capture.NoResponse
			p.emit(e, at)
		}
		p.lossy = p.sides[capture.FromClient].state == stateLost
	}
	if e := p.pending(); e != nil {
		return e
	}
	if len(p.queue) >= maxWaiting {
		return nil
	}
	e := p.add()
	e.orphan, e.sent = true, true
	e.t.Flags |= capture.NoRequest
	return e
}

// finish ends the message of a direction, and gives out what is complete.
func (p *Parser) finish(dir capture.Direction, s *side, at pipeline.Time) {
	e := s.at
	s.at, s.left, s.buf, s.seen = nil, 0, s.buf[:0], 0
	s.state = stateHead
	if dir == capture.FromClient {
		e.sent = true
		if e.t.Request.Get(capture.TextMethod) == "CONNECT" && !e.done {
			s.state = stateAsked
		}
	} else {
		e.answered, e.done = true, true
		if c := &p.sides[capture.FromClient]; c.state == stateAsked && e.t.Request.Get(capture.TextMethod) == "CONNECT" {
			p.refused(c)
		}
	}
	for len(p.queue) > 0 && p.queue[0].done && p.queue[0].sent {
		p.emit(p.queue[0], at)
	}
}

// refused goes on with HTTP behind a CONNECT that was not granted.
func (p *Parser) refused(c *side) {
	c.state = stateHead
	if len(c.buf) > 0 {
		held := append([]byte(nil), c.buf...)
		c.buf = c.buf[:0]
		p.charge(-int64(len(held)))
		p.Data(capture.FromClient, c.begun, held)
	}
}

// emit gives out the oldest exchange, which is e.
func (p *Parser) emit(e *exchange, at pipeline.Time) {
	n := copy(p.queue, p.queue[1:])
	p.queue[n] = nil
	p.queue = p.queue[:n]
	if e.t.Response.Start != pipeline.NoTime && e.t.Response.End < e.t.Response.Start {
		e.t.Response.End = at
	}
	p.env.Emit(&e.t)
	p.charge(-e.taken)
	p.env.put(e)
}

// forget takes back an exchange that was only just added.
func (p *Parser) forget(e *exchange) {
	n := len(p.queue) - 1
	p.queue[n] = nil
	p.queue = p.queue[:n]
	p.charge(-e.taken)
	p.env.put(e)
}

// unanswered gives out the requests that no response can come for.
func (p *Parser) unanswered(at pipeline.Time) {
	for len(p.queue) > 0 && (p.sides[capture.FromClient].closed || p.queue[0].sent) {
		e := p.queue[0]
		if !e.answered {
			e.t.Flags |= capture.NoResponse
		} else if !e.done {
			e.t.Flags |= capture.ResponseCut
		}
		if s := &p.sides[capture.FromClient]; s.at == e {
			s.at = nil
			p.lose(s)
		}
		p.emit(e, at)
	}
}

// upgrade ends HTTP on the connection: what comes is something else.
func (p *Parser) upgrade(at pipeline.Time, e *exchange) {
	e.t.Flags |= capture.Upgraded
	if e.t.Status == 101 && isWebSocket(e.t.Request.Get(capture.TextUpgrade)) {
		e.t.Flags |= capture.WebSocket
	}
	c, s := &p.sides[capture.FromClient], &p.sides[capture.FromServer]
	held := append([]byte(nil), c.buf...)
	p.charge(-int64(len(c.buf)))
	c.buf, s.buf = nil, nil
	if c.at != nil && c.at != e {
		c.at = nil
	}
	e.sent, e.answered, e.done = true, true, true
	c.at, s.at = nil, nil
	taken := p.env.Upgraded != nil && p.env.Upgraded(p, &e.t)
	for len(p.queue) > 0 && p.queue[0].done && (!taken || p.queue[0] != e) {
		p.emit(p.queue[0], at)
	}
	for len(p.queue) > 0 { // what was taken for requests behind it
		p.forget(p.queue[len(p.queue)-1])
	}
	c.state, s.state = stateTunnel, stateTunnel
	if len(held) > 0 {
		p.tunnel(capture.FromClient, c.begun, held)
	}
}

func isWebSocket(v string) bool {
	return len(v) >= 9 && fold([]byte(v[:9]), "websocket")
}

// partial takes the beginning of a header block whose end is lost.
func (p *Parser) partial(dir capture.Direction, s *side, at pipeline.Time) {
	b := s.buf
	p.charge(-int64(len(b)))
	s.buf, s.seen = s.buf[:0], 0
	l, _, _ := line(b)
	if len(l) == len(b) || p.dead {
		p.env.Tally.Add(capture.LossMessage, int64(len(b)))
		return
	}
	if dir == capture.FromClient {
		if _, _, v := splitRequest(l); v == 0 {
			p.env.Tally.Add(capture.LossMessage, int64(len(b)))
			return
		}
	}
	p.message(dir, s, at, b[:bytes.LastIndexByte(b, '\n')+1])
	if s.at != nil {
		s.at.cut(dir)
		p.finish(dir, s, at)
	} else if n := len(p.queue); dir == capture.FromClient && n > 0 {
		p.queue[n-1].cut(dir)
	}
}

// ancient reports whether b is a request of HTTP/0.9: one line without a version, at
// the beginning of a connection.
func (p *Parser) ancient(dir capture.Direction, s *side, b []byte) bool {
	if dir != capture.FromClient || s.any || p.flow.MidStream || len(b) > 4096 || b[len(b)-1] != '\n' {
		return false
	}
	l, rest, _ := line(b)
	method, target, version := splitRequest(l)
	return len(rest) == 0 && version == 0 && len(target) > 0 && isUpperWord(method)
}

// message09 takes such a request.
func (p *Parser) message09(s *side, at pipeline.Time, b []byte) int {
	l, _, _ := line(b)
	method, target, _ := splitRequest(l)
	e := p.push(s)
	if e == nil {
		return len(b)
	}
	m := &e.t.Request
	m.Start, m.End, m.HeaderBytes = at, at, int64(len(b))
	m.Set(capture.TextMethod, method)
	m.Set(capture.TextTarget, target)
	s.any, s.at = true, e
	p.charge(e.grow())
	p.finish(capture.FromClient, s, at)
	return len(b)
}

// answers09 reports whether the response that is due has no header.
func (p *Parser) answers09() bool {
	e := p.pending()
	return e != nil && e.t.Version == 0 && e.sent && !e.answered && e.t.Request.Headers == 0
}

// Malformed takes the first bytes that a client sent, which are no request, once the
// server answers them in HTTP. As in the logs of servers, the first line is a target
// without a method.
func (p *Parser) Malformed(at pipeline.Time, b []byte) {
	s := &p.sides[capture.FromClient]
	e := p.push(s)
	if e == nil {
		return
	}
	l, _, _ := line(b)
	m := &e.t.Request
	m.Start, m.End, m.HeaderBytes = at, at, int64(len(b))
	m.Set(capture.TextTarget, l)
	e.t.Flags |= capture.OddLine
	e.t.Version = capture.HTTP11
	e.sent, s.any = true, true
	p.charge(e.grow())
	p.lose(s)
	p.lossy = false
}
