package mirror

import (
	"bytes"

	"weir/collector/capture"
	"weir/collector/capture/http1"
	"weir/pipeline"
)

// protocol is what a connection speaks.
type protocol uint8

const (
	unknown protocol = iota
	speaksHTTP1
	speaksHTTP2
	speaksTLS
	speaksOther
)

// How many pieces may tell nothing: of a connection that began before the capture any
// can be the middle of a body, and in front of others stand the words of a proxy.
const (
	maxTriedMid = 1 << 12
	maxTried    = 8
)

// maxFirst is how much is kept of what a client sent that is no request.
const maxFirst = 256

// sniff decides by the first bytes what a connection speaks.
func (m *Mirror) sniff(s *stream, dir capture.Direction, at pipeline.Time, b []byte) {
	before := s.speaks
	mid := s.conn.Flow.MidStream || s.tried > 0
	is := speaks(dir, b, mid)
	answered := dir == capture.FromServer && is == speaksHTTP1 && len(s.first) > 0
	switch {
	case answered:
		if before == speaksTLS {
			m.Streams.TLS--
		}
	case before != unknown:
		s.first = s.first[:0] // TLS that is answered in TLS
		return
	case dir == capture.FromClient && len(s.first) == 0 && (is == unknown && s.tried == 0 || is == speaksTLS):
		s.first, s.begun = append(s.first, b[:min(len(b), maxFirst)]...), at
	}
	if is == unknown {
		s.tried++
		if s.tried >= maxTriedMid || s.tried >= maxTried && !s.conn.Flow.MidStream {
			is = speaksOther
		}
	}
	s.speaks = is
	switch is {
	case speaksHTTP1:
		m.Streams.HTTP1++
		s.http.Reset(&m.env, &s.conn.Flow)
		s.http.Tag = s.conn.Slot
		if answered && !s.conn.Flow.MidStream {
			s.http.Malformed(s.begun, s.first)
		}
		s.first = s.first[:0]
	case speaksHTTP2:
		m.Streams.HTTP2++
	case speaksTLS:
		m.Streams.TLS++
	case speaksOther:
		m.Streams.Other++
	}
}

// prefaceHTTP2 is what a client says first in HTTP/2. It is never written.
var prefaceHTTP2 = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

func speaks(dir capture.Direction, b []byte, mid bool) protocol {
	switch {
	case len(b) >= 14 && bytes.HasPrefix(prefaceHTTP2, b[:min(len(b), len(prefaceHTTP2))]):
		return speaksHTTP2
	case len(b) >= 5 && b[0] >= 0x14 && b[0] <= 0x18 && b[1] == 3 && b[2] <= 4 && (b[0] == 0x16 || mid):
		return speaksTLS
	case http1.Begins(dir, b, mid):
		return speaksHTTP1
	case dir == capture.FromServer && len(b) >= 9 && b[0] == 0 && b[3] == 4 && b[4] == 0 && bytes.Equal(b[5:9], []byte{0, 0, 0, 0}):
		return speaksHTTP2 // its settings came before the client's preface
	}
	return unknown
}

// upgraded takes what comes behind an upgrade. t is the exchange that asked for it,
// in the first call.
func (m *Mirror) upgraded(p *http1.Parser, t *capture.Transaction, dir capture.Direction, _ pipeline.Time, b []byte) {
	if t != nil {
		return
	}
	s := m.streams[p.Tag-1]
	if s.inner == unknown {
		if s.inner = speaks(dir, b, false); s.inner == unknown {
			s.inner = speaksOther
		}
	}
	m.Tally.Add(capture.LossUpgraded, int64(len(b)))
}
