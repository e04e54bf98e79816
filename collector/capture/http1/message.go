package http1

import (
	"bytes"

	"weir/collector/capture"
	"weir/pipeline"
)

// headEnd returns where the header block of b ends, its empty line included; 0 when
// it is not whole. No block ends before from.
func headEnd(b []byte, from int) int {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		switch rest := b[from:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return from + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return from + 2
		}
	}
}

// isToken tells whether c may stand in a method.
func isToken(c byte) bool {
	return c|0x20-'a' < 26 || c-'0' < 10 || c == '-' || c == '_' || c == '.' || c == '!' || c == '#' || c == '$' ||
		c == '%' || c == '&' || c == '\'' || c == '*' || c == '+' || c == '^' || c == '`' || c == '|' || c == '~'
}

// maxMethod is the longest method that is believed.
const maxMethod = 32

// begins reports whether b can begin a message of dir; b may be a part of it.
func (p *Parser) begins(dir capture.Direction, b []byte) bool {
	if dir == capture.FromServer {
		const version = "HTTP/"
		n := min(len(b), len(version))
		return string(b[:n]) == version[:n]
	}
	for i, c := range b[:min(len(b), maxMethod+1)] {
		switch {
		case c == ' ':
			return i > 0
		case (c == '\r' || c == '\n') && i > 2:
			return true // a method alone
		case !isToken(c):
			return false
		}
	}
	return len(b) <= maxMethod
}

// startsMessage is begins for one that knows nothing of what came before: it wants
// more.
func startsMessage(dir capture.Direction, b []byte) bool {
	if dir == capture.FromServer {
		return len(b) >= 12 && string(b[:7]) == "HTTP/1." && b[8] == ' ' && b[9]-'0' < 10
	}
	i := 0
	for i < len(b) && i < 12 && (b[i]-'A' < 26 || b[i] == '_' || b[i] == '-') {
		i++
	}
	if i < 3 || len(b) < i+2 || b[i] != ' ' {
		return false
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		// The line goes on in the next piece.
		return b[i+1] == '/' || bytes.HasPrefix(b[i+1:], []byte("http://"))
	}
	return bytes.Contains(b[i:end], []byte(" HTTP/1."))
}

// message takes a whole header block.
func (p *Parser) message(dir capture.Direction, s *side, at pipeline.Time, b []byte) {
	s.any = true
	if dir == capture.FromClient {
		p.request(s, at, b)
	} else {
		p.response(s, at, b)
	}
}

// line cuts off the first line of b, without its end. bare says that it ends
// without a CR.
func line(b []byte) (l, rest []byte, bare bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil, false
	}
	l, rest = b[:i], b[i+1:]
	if i > 0 && l[i-1] == '\r' {
		return l[:i-1], rest, false
	}
	return l, rest, true
}

// request takes a request's header block.
func (p *Parser) request(s *side, at pipeline.Time, b []byte) {
	start, rest, bare := line(b)
	method, target, version := splitRequest(start)
	if version == 0 && len(rest) > 2 && !isUpperWord(method) {
		p.env.Tally.Add(capture.LossMessage, int64(len(b)))
		p.lose(s)
		return
	}
	e := p.push(s)
	if e == nil {
		p.env.Tally.Add(capture.LossUnpaired, int64(len(b)))
		p.lose(s)
		return
	}
	t := &e.t
	t.Version = version
	if bare {
		t.Flags |= capture.OddLine
	}
	m := &t.Request
	m.Start, m.End, m.HeaderBytes = s.begun, at, int64(len(b))
	m.Set(capture.TextMethod, method)
	m.Set(capture.TextTarget, target)
	var h fields
	h.read(m, rest)
	t.Flags |= h.flags
	e.upgrade = h.upgrade && h.connection
	e.expect = h.expect
	s.at = e
	if p.env.Want != nil {
		m.Want(p.env.Want(t, false))
	}
	if !p.charge(e.grow()) {
		return
	}
	switch {
	case h.chunked:
		s.state = stateSize
	case m.Length > 0:
		s.state, s.left = stateLength, m.Length
	default:
		p.finish(capture.FromClient, s, at)
	}
}

func isUpperWord(b []byte) bool {
	for _, c := range b {
		if c-'A' >= 26 && c != '-' && c != '_' {
			return false
		}
	}
	return len(b) >= 3
}

// splitRequest splits a request line; the target may hold spaces.
func splitRequest(l []byte) (method, target []byte, v capture.Version) {
	i := bytes.IndexByte(l, ' ')
	if i < 0 {
		return l, nil, 0
	}
	method, l = l[:i], bytes.TrimLeft(l[i+1:], " \t")
	l = bytes.TrimRight(l, " \t")
	if n := len(l); n >= 8 && string(l[n-8:n-3]) == "HTTP/" && (n == 8 || l[n-9] == ' ') {
		v = capture.HTTP11
		if l[n-1] == '0' && l[n-3] == '1' || l[n-3] == '0' {
			v = capture.HTTP10
		}
		l = bytes.TrimRight(l[:n-8], " \t")
	} else if j := bytes.LastIndex(l, []byte(" HTTP/")); j >= 0 {
		v = capture.HTTP11 // of some version that there is not
		l = bytes.TrimRight(l[:j], " \t")
	}
	return method, l, v
}

// response takes a response's header block.
func (p *Parser) response(s *side, at pipeline.Time, b []byte) {
	start, rest, _ := line(b)
	status, reason, ok := splitStatus(start)
	if !ok {
		p.env.Tally.Add(capture.LossMessage, int64(len(b)))
		p.lose(s)
		return
	}
	e := p.match(s, at)
	if e == nil {
		p.env.Tally.Add(capture.LossUnpaired, int64(len(b)))
		p.lose(s)
		return
	}
	if status >= 100 && status < 200 && status != 101 {
		e.t.Flags |= capture.Continued // the final response comes behind it
		if e.orphan {
			p.forget(e)
		}
		return
	}
	t := &e.t
	e.answered = true
	m := &t.Response
	m.Start, m.End, m.HeaderBytes = s.begun, at, int64(len(b))
	t.Status = status
	if t.Version == 0 && e.orphan {
		t.Version = capture.HTTP11
	}
	m.Set(capture.TextReason, reason)
	h := fields{answer: true}
	h.read(m, rest)
	s.at = e
	if p.env.Want != nil {
		m.Want(p.env.Want(t, true))
	}
	if !p.charge(e.grow()) {
		return
	}
	p.frame(s, at, e, &h)
}

// frame decides how long a response's body is.
func (p *Parser) frame(s *side, at pipeline.Time, e *exchange, h *fields) {
	t, m := &e.t, &e.t.Response
	method := t.Request.Get(capture.TextMethod)
	switch {
	case t.Status == 101 || method == "CONNECT" && t.Status >= 200 && t.Status < 300:
		p.upgrade(at, e)
	case method == "HEAD" || t.Status == 204 || t.Status == 304:
		p.finish(capture.FromServer, s, at)
	case h.chunked:
		s.state = stateSize
	case m.Length > 0:
		s.state, s.left = stateLength, m.Length
	case m.Length == 0:
		p.finish(capture.FromServer, s, at)
	case h.keepAlive && t.Version == capture.HTTP11 && h.odd:
		p.finish(capture.FromServer, s, at)
	default:
		s.state = stateClose
	}
}

func splitStatus(l []byte) (status uint16, reason []byte, ok bool) {
	i := bytes.IndexByte(l, ' ')
	if i < 0 {
		return 0, nil, false
	}
	l = bytes.TrimLeft(l[i+1:], " ")
	if len(l) < 3 || l[0]-'0' > 9 || l[1]-'0' > 9 || l[2]-'0' > 9 || len(l) > 3 && l[3] != ' ' {
		return 0, nil, false
	}
	status = uint16(l[0]-'0')*100 + uint16(l[1]-'0')*10 + uint16(l[2]-'0')
	return status, bytes.TrimSpace(l[3:]), true
}

// Begins reports whether b, the first bytes of a direction, can be HTTP/1; mid is for
// a connection that began before the capture: then it takes more to tell.
func Begins(dir capture.Direction, b []byte, mid bool) bool {
	if mid {
		return startsMessage(dir, b)
	}
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	var p Parser
	if len(b) == 0 || !p.begins(dir, b) {
		return false
	}
	if dir == capture.FromServer {
		return true
	}
	// Others begin with a word and a space, too: HTTP has a version, or goes on in
	// the next piece.
	l, _, _ := line(b)
	if len(l) == len(b) {
		return b[0]-'A' < 26
	}
	_, target, v := splitRequest(l)
	return v != 0 || len(target) > 0 && (target[0] == '/' || isUpperWord(l[:bytes.IndexByte(l, ' ')]))
}
