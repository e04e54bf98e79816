package mirror

import (
	"bytes"

	"weir/collector/capture"
	"weir/collector/capture/h2"
	"weir/collector/capture/http1"
	"weir/collector/capture/tls"
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

// layer is a connection and its parser, or what is inside of one: behind a CONNECT,
// an upgrade, or the encryption that a key opens.
type layer struct {
	m      *Mirror
	flow   *capture.Flow
	self   uint32 // its place from 1
	inside uint32 // the layer behind an upgrade; 0 none
	speaks protocol
	closed uint8 // directions
	http   http1.Parser
	h2     *h2.Parser
	tls    *tls.Parser
	held   [2][]byte // first bytes that are too few to tell anything, by direction
	tried  int       // pieces that told nothing
	first  []byte    // what a client sent that is no request, until the server answers
	begun  pipeline.Time
}

// layer makes one for flow and returns its place.
func (m *Mirror) layer(flow *capture.Flow) uint32 {
	var l *layer
	if n := len(m.free); n > 0 {
		l = m.layers[m.free[n-1]-1]
		m.free = m.free[:n-1]
	} else {
		l = &layer{m: m}
		m.layers = append(m.layers, l)
		l.self = uint32(len(m.layers))
	}
	l.flow, l.inside, l.speaks, l.closed, l.tried = flow, 0, unknown, 0, 0
	l.h2, l.tls, l.first = nil, nil, l.first[:0]
	l.held[0], l.held[1] = l.held[0][:0], l.held[1][:0]
	return l.self
}

// inner makes the layer inside a sealed connection that is opened.
func (m *Mirror) inner(flow *capture.Flow) tls.Reader { return m.layers[m.layer(flow)-1] }

// undecided reports whether the first bytes of a direction are too few to tell what
// it speaks, although they begin like something: who writes the first bytes one by
// one hides nothing.
func undecided(dir capture.Direction, b []byte) bool {
	switch {
	case len(b) == 0:
		return false
	case dir == capture.FromServer && b[0] == 0: // a SETTINGS frame?
		return len(b) < 9 && (len(b) < 2 || b[1] == 0) && (len(b) < 4 || b[3] == 4) && (len(b) < 5 || b[4] == 0)
	case b[0] == 0x16:
		return len(b) < 6
	}
	return dir == capture.FromClient && len(b) < len(prefaceHTTP2) && bytes.HasPrefix(prefaceHTTP2, b)
}

// Data takes the next bytes of a direction.
func (l *layer) Data(dir capture.Direction, at pipeline.Time, b []byte) {
	if len(l.held[dir]) > 0 || l.speaks == unknown && undecided(dir, b) {
		l.held[dir] = append(l.held[dir], b...)
		if l.speaks == unknown && undecided(dir, l.held[dir]) {
			return
		}
		l.told(dir, at)
		return
	}
	l.take(dir, at, b)
}

// told passes on what was held.
func (l *layer) told(dir capture.Direction, at pipeline.Time) {
	if b := l.held[dir]; len(b) > 0 {
		l.held[dir] = b[:0]
		l.take(dir, at, b)
	}
}

func (l *layer) take(dir capture.Direction, at pipeline.Time, b []byte) {
	if l.speaks == unknown || len(l.first) > 0 && dir == capture.FromServer && l.speaks == speaksTLS {
		l.sniff(dir, at, b)
	}
	switch l.speaks {
	case speaksHTTP1:
		l.http.Data(dir, at, b)
	case speaksHTTP2:
		l.h2.Data(dir, at, b)
	case speaksTLS:
		l.tls.Data(dir, at, b)
	default:
		l.m.Tally.Add(capture.LossNotHTTP, int64(len(b)))
	}
}

// Gap says that n bytes are missing.
func (l *layer) Gap(dir capture.Direction, at pipeline.Time, n int64) {
	l.told(dir, at)
	switch l.speaks {
	case unknown:
		l.flow.MidStream = true // its beginning is lost
	case speaksHTTP1:
		l.http.Gap(dir, at, n)
	case speaksHTTP2:
		l.h2.Gap(dir, at, n)
	case speaksTLS:
		l.tls.Gap(dir, at, n)
	}
}

// Close ends a direction; with the second the layer is free again.
func (l *layer) Close(dir capture.Direction, at pipeline.Time, end capture.End) {
	if l.closed&(1<<dir) != 0 {
		return
	}
	l.told(dir, at)
	l.end(dir, at, end)
	if l.closed |= 1 << dir; l.closed != 3 {
		return
	}
	if l.tls != nil {
		l.m.sealed(&Sealed{Flow: l.flow, Opened: l.tls.Opened(), Retry: l.tls.Retry, Sides: [2]tls.Features{*l.tls.Features(0), *l.tls.Features(1)}})
	}
	l.h2, l.tls = nil, nil
	if len(l.m.free) > keptLayers {
		l.http, l.first = http1.Parser{}, nil
	}
	l.m.free = append(l.m.free, l.self)
}

// keptLayers is how many free layers keep their memory: a burst shall not hold it.
const keptLayers = 1 << 10

// end tells the parser that a direction ended.
func (l *layer) end(dir capture.Direction, at pipeline.Time, end capture.End) {
	switch l.speaks {
	case speaksHTTP1:
		l.http.Close(dir, at, end)
	case speaksHTTP2:
		l.h2.Close(dir, at, end)
	case speaksTLS:
		l.tls.Close(dir, at, end)
	}
}

// How many pieces may tell nothing: of a connection that began before the capture any
// can be the middle of a body, and in front of others stand the words of a proxy.
const (
	maxTriedMid = 1 << 12
	maxTried    = 8
)

// maxFirst is how much is kept of what a client sent that is no request.
const maxFirst = 256

// sniff decides by the first bytes what a connection speaks.
func (l *layer) sniff(dir capture.Direction, at pipeline.Time, b []byte) {
	before := l.speaks
	is := speaks(dir, b, l.flow.MidStream || l.tried > 0)
	answered := dir == capture.FromServer && is == speaksHTTP1 && len(l.first) > 0
	switch {
	case answered:
		if before == speaksTLS {
			l.m.Streams.TLS--
			l.tls.Close(capture.FromClient, at, capture.EndLimit)
			l.tls.Close(capture.FromServer, at, capture.EndLimit)
			l.tls, l.flow.Hello = nil, nil
		}
	case before != unknown:
		l.first = l.first[:0] // TLS that is answered in TLS
		return
	case dir == capture.FromClient && len(l.first) == 0 && (is == unknown && l.tried == 0 || is == speaksTLS):
		l.first, l.begun = append(l.first, b[:min(len(b), maxFirst)]...), at
	}
	if is == unknown {
		l.tried++
		if l.tried >= maxTriedMid || l.tried >= maxTried && !l.flow.MidStream {
			is = speaksOther
		}
	}
	l.begin(is, answered, is == speaksHTTP2 && (l.flow.MidStream || l.tried > 0) && !bytes.HasPrefix(b, prefaceHTTP2))
	for dir := range capture.Direction(2) {
		if l.closed&(1<<dir) != 0 {
			l.end(dir, at, capture.EndFIN) // before anybody was there to be told
		}
	}
}

// begin makes the parser of a protocol. answered says that what the client sent was
// no request, and the server answers it in HTTP all the same; mid that the beginning
// of HTTP/2 was not seen.
func (l *layer) begin(is protocol, answered, mid bool) {
	l.speaks = is
	st := &l.m.Streams
	switch is {
	case speaksHTTP1:
		st.HTTP1++
		l.http.Reset(&l.m.http1, l.flow)
		l.http.Tag = l.self
		if answered && !l.flow.MidStream {
			l.http.Malformed(l.begun, l.first)
		}
		l.first = l.first[:0]
	case speaksHTTP2:
		st.HTTP2++
		l.h2 = h2.New(&l.m.h2, l.flow, mid)
	case speaksTLS:
		st.TLS++
		l.tls = tls.New(&l.m.tls, l.flow)
	case speaksOther:
		st.Other++
	}
}

// prefaceHTTP2 is what a client says first in HTTP/2. It is never written.
var prefaceHTTP2 = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

func speaks(dir capture.Direction, b []byte, mid bool) protocol {
	switch {
	case bytes.HasPrefix(b, prefaceHTTP2):
		return speaksHTTP2
	case tls.Looks(b, mid):
		return speaksTLS
	case http1.Begins(dir, b, mid):
		return speaksHTTP1
	case dir == capture.FromServer && len(b) >= 9 && b[0] == 0 && b[3] == 4 && b[4] == 0 && b[5]|b[6]|b[7]|b[8] == 0:
		return speaksHTTP2 // its settings came before the client's preface
	case mid && h2.Looks(b, dir, true):
		return speaksHTTP2
	}
	return unknown
}

// upgraded makes the layer behind an upgrade: HTTP/2 gives out the exchange that
// asked for it itself, with its response.
func (m *Mirror) upgraded(p *http1.Parser, t *capture.Transaction) bool {
	l := m.layers[p.Tag-1]
	if t.Flags&capture.WebSocket != 0 {
		return false
	}
	l.inside = m.layer(l.flow)
	if t.Status != 101 || t.Request.Get(capture.TextUpgrade) != "h2c" {
		return false
	}
	in := m.layers[l.inside-1]
	in.speaks = speaksHTTP2
	m.Streams.HTTP2++
	in.h2 = h2.Upgrade(&m.h2, l.flow, t)
	return true
}

// tunnel is who takes what comes behind an upgrade.
func (m *Mirror) tunnel(p *http1.Parser) http1.Tunnel {
	if in := m.layers[p.Tag-1].inside; in != 0 {
		return m.layers[in-1]
	}
	return nil
}
