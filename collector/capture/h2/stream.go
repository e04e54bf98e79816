package h2

import (
	"bytes"
	"unsafe"

	"github.com/zeebo/xxh3"

	"weir/collector/capture"
	"weir/pipeline"
)

// stream is one exchange.
type stream struct {
	t        capture.Transaction
	over     [2]bool // the half has ended
	damaged  [2]bool // bytes of it are missing
	headers  [2]bool // its header block was read or is lost
	asked    bool    // the request began
	answered bool    // the final response began
	tunnel   bool    // its DATA is no HTTP
	poor     bool    // there was no memory: bodies are not kept
	protocol bool    // :protocol websocket
	lengths  int     // Content-Length headers of the request
	held     int64
	reset    pipeline.Time // when the server said that it needs no more
}

const streamSize = int64(unsafe.Sizeof(stream{}))

func (s *stream) clear() {
	t := s.t
	t.Reset()
	*s = stream{t: t, reset: pipeline.NoTime}
}

func (s *stream) message(dir capture.Direction) *capture.Message {
	if dir == capture.FromClient {
		return &s.t.Request
	}
	return &s.t.Response
}

func (s *stream) began(dir capture.Direction) bool {
	return s.message(dir).Start != pipeline.NoTime
}

func (s *stream) cut(dir capture.Direction) { s.damaged[dir] = true }

// lost takes a header block that cannot be read.
func (s *stream) lost(dir capture.Direction, at pipeline.Time) {
	if m := s.message(dir); m.Start == pipeline.NoTime {
		m.Start, m.End = at, at
	}
	s.headers[dir] = true
	s.cut(dir)
	if dir == capture.FromClient {
		s.asked = true
	} else {
		s.answered = true
	}
}

// settle sets the flags that follow from how the exchange ended.
func (s *stream) settle() {
	t := &s.t
	r := &t.Request
	if r.Length >= 0 && r.Length != r.BodyBytes && s.over[capture.FromClient] && !s.damaged[capture.FromClient] {
		t.Flags |= capture.BadLength
	}
	if !s.asked {
		t.Flags |= capture.NoRequest
	} else if (!s.over[capture.FromClient] || s.damaged[capture.FromClient]) && !s.tunnel {
		t.Flags |= capture.RequestCut
	}
	if !s.answered {
		t.Flags |= capture.NoResponse
	} else if (!s.over[capture.FromServer] || s.damaged[capture.FromServer]) && !s.tunnel {
		t.Flags |= capture.ResponseCut
	}
	t.Request.BodyWire = max(t.Request.BodyWire, t.Request.BodyBytes)
	t.Response.BodyWire = max(t.Response.BodyWire, t.Response.BodyBytes)
}

// begins prepares for a header block: where its fields go.
func (p *Parser) begins(dir capture.Direction, at pipeline.Time, s *stream) {
	p.stream = s
	if s == nil {
		return
	}
	p.message = s.message(dir)
	p.trailer = s.headers[dir]
	if !p.trailer && p.message.Start == pipeline.NoTime {
		p.message.Start = at
	}
	p.message.End = at
}

// header takes one field of the block that is being read.
func (p *Parser) header(name, value []byte) {
	m := p.message
	if m == nil || len(name) == 0 {
		return
	}
	if p.trailer {
		m.Trailer(name, value)
		return
	}
	if p.dir == capture.FromClient {
		p.odd(name, value)
	}
	if name[0] == ':' {
		p.pseudo(name, value)
		return
	}
	if string(name) == "content-length" {
		p.length(value)
	}
	m.Header(name, value)
}

// pseudo takes a pseudo header. Their order is the client program's too.
func (p *Parser) pseudo(name, value []byte) {
	m := p.message
	m.Order = pipeline.Mix64(m.Order, xxh3.Hash(name))
	switch string(name) {
	case ":method":
		m.Set(capture.TextMethod, value)
	case ":path":
		m.Set(capture.TextTarget, value)
	case ":authority":
		m.Set(capture.TextHost, value)
	case ":protocol":
		p.stream.protocol = string(value) == "websocket"
		m.Set(capture.TextUpgrade, value)
	case ":status":
		if len(value) == 3 {
			status := uint16(0)
			for _, c := range value {
				if c-'0' > 9 {
					return
				}
				status = status*10 + uint16(c-'0')
			}
			p.stream.t.Status = status
		}
	}
}

// length takes a Content-Length.
func (p *Parser) length(value []byte) {
	m, s := p.message, p.stream
	n, ok := decimal(value)
	if p.dir == capture.FromClient {
		if s.lengths++; s.lengths > 1 && n != m.Length {
			s.t.Flags |= capture.ManyLengths
		}
		if !ok {
			s.t.Flags |= capture.BadLength
		}
	}
	if ok && m.Length < 0 {
		m.Length = n
	}
}

func decimal(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c-'0' > 9 || n > 1<<58 {
			return -1, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(b) > 0
}

// odd notes what becomes request smuggling when a proxy writes the request as
// HTTP/1: what HTTP/2 forbids in fields (RFC 9113, 8.2).
func (p *Parser) odd(name, value []byte) {
	if bytes.ContainsAny(value, "\r\n\x00") || bytes.ContainsAny(name, "\r\n\x00 ") || bytes.IndexByte(name[1:], ':') >= 0 {
		p.stream.t.Flags |= capture.OddLine
	}
	if string(name) == "transfer-encoding" {
		p.stream.t.Flags |= capture.OddEncoding
		if p.stream.lengths > 0 {
			p.stream.t.Flags |= capture.BothLengths
		}
	}
}

// headed ends the reading of a block of a stream that is size bytes long.
func (p *Parser) headed(s *stream, at pipeline.Time, size int) {
	dir, m := p.dir, p.message
	m.End = at
	if p.trailer {
		m.BodyWire = m.BodyBytes + int64(size)
		p.account(s)
		return
	}
	if dir == capture.FromServer {
		if s.t.Status >= 100 && s.t.Status < 200 {
			// An interim response: the final one follows.
			if s.t.Status == 100 {
				s.t.Flags |= capture.Continued
			}
			s.t.Status = 0
			m.Reset()
			return
		}
		s.answered = true
	} else {
		s.asked = true
	}
	s.headers[dir] = true
	m.HeaderBytes = int64(size)
	p.kind(s, dir, m)
	if p.conf.Want != nil && !s.tunnel && !s.poor {
		m.Want(p.conf.Want(&s.t, dir))
	}
	p.account(s)
	if s.tunnel && s.asked {
		p.give(s)
	}
}

// kind tells gRPC and the handshakes of tunnels apart.
func (p *Parser) kind(s *stream, dir capture.Direction, m *capture.Message) {
	if dir == capture.FromClient {
		if s.protocol {
			s.t.Flags |= capture.WebSocket
		}
		if hasPrefix(m.Get(capture.TextContentType), "application/grpc") {
			s.t.Flags |= capture.GRPC
		}
	} else if s.t.Status/100 == 2 && s.t.Request.Get(capture.TextMethod) == "CONNECT" {
		s.t.Flags |= capture.Upgraded
		s.tunnel = true
	}
}

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }
