package http1

import (
	"bytes"

	"weir/collector/capture"
	"weir/pipeline"
)

// body takes bytes of a body.
func (p *Parser) body(s *side, at pipeline.Time, b []byte) {
	m := s.at.message(s.dir(p))
	m.Body(b)
	m.BodyWire += int64(len(b))
	m.End = at
}

func (s *side) dir(p *Parser) capture.Direction {
	if s == &p.sides[capture.FromClient] {
		return capture.FromClient
	}
	return capture.FromServer
}

// counted takes bytes of a body of known length, or of a chunk.
func (p *Parser) counted(dir capture.Direction, s *side, at pipeline.Time, b []byte) int {
	if dir == capture.FromClient && s.at.unsent(b) {
		// A client that waited for a 100 got its answer without one, and goes on
		// with the next request.
		s.at.cut(dir)
		p.finish(dir, s, at)
		return 0
	}
	n := int(min(s.left, int64(len(b))))
	if n > 0 {
		p.body(s, at, b[:n])
		s.left -= int64(n)
	}
	if s.left == 0 {
		if s.state == stateChunk {
			s.state = stateEnd
		} else {
			p.finish(dir, s, at)
		}
	}
	return n
}

// unsent reports whether b is another request, where the body was not sent.
func (e *exchange) unsent(b []byte) bool {
	return e.expect && e.answered && e.t.Request.BodyBytes == 0 && startsMessage(capture.FromClient, b)
}

// bodyLine collects a line of the frame; nil while it is not whole. n is how much of
// b was used.
func (p *Parser) bodyLine(s *side, b []byte) (l []byte, n int, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i >= 0 {
		n = i + 1
	} else {
		n = len(b)
	}
	if len(s.buf)+n > maxLine {
		return nil, n, false
	}
	if i < 0 {
		s.buf = append(s.buf, b...)
		return nil, n, true
	}
	if len(s.buf) == 0 {
		return b[:n], n, true
	}
	s.buf = append(s.buf, b[:n]...)
	l, s.buf = s.buf, s.buf[:0]
	return l, n, true
}

// size reads the line that begins a chunk.
func (p *Parser) size(dir capture.Direction, s *side, at pipeline.Time, b []byte) int {
	l, n, ok := p.bodyLine(s, b)
	m := s.at.message(dir)
	m.BodyWire += int64(n)
	m.End = at
	if ok && l == nil {
		return n
	}
	v, valid := chunkSize(l)
	if !ok || !valid {
		p.badChunk(dir, s, at, n)
		return n
	}
	if v == 0 {
		s.state = stateTrailer
	} else {
		s.state, s.left = stateChunk, v
	}
	return n
}

func (p *Parser) badChunk(dir capture.Direction, s *side, at pipeline.Time, n int) {
	if dir == capture.FromClient {
		s.at.t.Flags |= capture.BadChunk
	}
	s.at.cut(dir)
	p.finish(dir, s, at)
	p.env.Tally.Add(capture.LossMessage, int64(n))
	p.lose(s)
}

// chunkSize reads a chunk's size; extensions do not matter.
func chunkSize(l []byte) (int64, bool) {
	if i := bytes.IndexByte(l, ';'); i >= 0 {
		l = l[:i]
	}
	l = bytes.TrimSpace(l)
	for len(l) > 15 && l[0] == '0' {
		l = l[1:]
	}
	if len(l) == 0 || len(l) > 15 {
		return 0, false
	}
	var n int64
	for _, c := range l {
		switch {
		case c-'0' < 10:
			n = n<<4 | int64(c-'0')
		case c|0x20-'a' < 6:
			n = n<<4 | int64(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// chunkEnd reads the line end behind a chunk's bytes.
func (p *Parser) chunkEnd(dir capture.Direction, s *side, at pipeline.Time, b []byte) int {
	n := 0
	m := s.at.message(dir)
	if b[0] == '\r' {
		n++
	}
	if n < len(b) {
		if b[n] != '\n' {
			p.badChunk(dir, s, at, 0)
			return 0
		}
		n++
		s.state = stateSize
	}
	m.BodyWire += int64(n)
	return n
}

// trailer reads lines behind the last chunk, up to the empty one.
func (p *Parser) trailer(dir capture.Direction, s *side, at pipeline.Time, b []byte) int {
	l, n, ok := p.bodyLine(s, b)
	m := s.at.message(dir)
	m.BodyWire += int64(n)
	m.End = at
	if ok && l == nil {
		return n
	}
	if !ok {
		p.badChunk(dir, s, at, n)
		return n
	}
	l = bytes.TrimRight(l, "\r\n")
	if len(l) == 0 {
		p.finish(dir, s, at)
	} else if i := bytes.IndexByte(l, ':'); i > 0 {
		m.Trailer(l[:i], trim(l[i+1:]))
	}
	return n
}
