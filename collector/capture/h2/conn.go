// Package h2 reads HTTP/2 out of the two byte streams of a connection: in clear
// with prior knowledge or behind an upgrade, or as a key log opened it. gRPC is
// HTTP/2 with a status in its trailers.
//
//	frame.go    frames, and where they begin again behind a gap
//	hpack.go    header blocks; huffman.go and static.go are their tables
//	conn.go     one connection: which streams there are
//	stream.go   one exchange
//
// It is written for what strangers send: the streams of a connection, a header
// block, what a block may expand to, a table and all of it together have caps.
package h2

import (
	"slices"
	"sort"

	"weir/collector/capture"
	"weir/pipeline"
)

// MaxStreams is how many exchanges of one connection may be open at once; beyond
// it the oldest is given out as it is. Servers allow 100 to 1000.
const MaxStreams = 1024

// lingering is how long (µs) the rest of a request is waited for whose response is
// there: servers that need no more of it say so while it is on its way.
const lingering = 1e6

// Config is what the parsers of one goroutine share.
type Config struct {
	Tally  *capture.Tally
	Memory *capture.Memory
	// Emit takes each exchange; what it is given is valid until it returns.
	Emit func(*capture.Transaction)
	// Want says how many bytes of a body to keep, when its header is complete; nil
	// keeps none.
	Want func(t *capture.Transaction, dir capture.Direction) int

	free []*stream // to be used again
}

// Parser reads one connection, see package capture for how it is fed. It is for
// one goroutine.
type Parser struct {
	conf    *Config
	flow    *capture.Flow
	half    [2]half
	streams []*stream     // by id
	lingers int           // of them, streams that were reset behind their response
	oldest  pipeline.Time // of these, when the first was

	// The header block that is being read.
	dir     capture.Direction
	message *capture.Message // nil: it is read for the table's sake
	stream  *stream
	trailer bool
	field   func(name, value []byte)
}

// New returns the parser of a connection. mid is for one whose beginning was not
// seen.
func New(conf *Config, flow *capture.Flow, mid bool) *Parser {
	p := &Parser{conf: conf, flow: flow}
	for i := range p.half {
		p.half[i].hpack.init(conf.Memory.Take, mid)
		p.half[i].seeking, p.half[i].lossy = mid, mid
	}
	if !mid {
		p.half[capture.FromClient].preface = uint8(len(Preface))
	}
	p.field = p.header
	return p
}

// Upgrade returns the parser of a connection that changes from HTTP/1.1: t is the
// exchange that did it, whose response comes as stream 1. t's request moves into
// the parser.
func Upgrade(conf *Config, flow *capture.Flow, t *capture.Transaction) *Parser {
	p := New(conf, flow, false)
	s := p.open(1)
	s.t.Request, t.Request = t.Request, s.t.Request
	s.t.Version, s.t.Flags = capture.HTTP11, t.Flags&^capture.NoResponse
	s.asked, s.over[capture.FromClient] = true, true
	p.account(s)
	p.half[capture.FromClient].last = 1
	return p
}

// find returns the open stream of that id, nil if there is none.
func (p *Parser) find(id uint32) *stream {
	if i := p.place(id); i < len(p.streams) && p.streams[i].t.Number == id {
		return p.streams[i]
	}
	return nil
}

func (p *Parser) known(id uint32) bool { return p.find(id) != nil }

func (p *Parser) place(id uint32) int {
	return sort.Search(len(p.streams), func(i int) bool { return p.streams[i].t.Number >= id })
}

// open begins a stream.
func (p *Parser) open(id uint32) *stream {
	if len(p.streams) == MaxStreams {
		p.conf.Tally.Add(capture.LossUnpaired, 0)
		p.give(p.streams[0])
	}
	var s *stream
	if n := len(p.conf.free); n > 0 {
		s, p.conf.free = p.conf.free[n-1], p.conf.free[:n-1]
	} else {
		s = &stream{}
	}
	s.clear()
	s.t.Flow, s.t.Number, s.t.Version = p.flow, id, capture.HTTP2
	if !p.conf.Memory.Take(streamSize) {
		s.poor = true // what it holds further is refused likewise
	} else {
		s.held = streamSize
	}
	i := p.place(id)
	p.streams = append(p.streams, nil)
	copy(p.streams[i+1:], p.streams[i:])
	p.streams[i] = s
	return s
}

// give passes an exchange on and forgets its stream.
func (p *Parser) give(s *stream) {
	if s.reset != pipeline.NoTime {
		p.lingers--
	}
	s.settle()
	if s.asked || s.answered {
		p.conf.Emit(&s.t)
	}
	i := p.place(s.t.Number)
	p.streams = append(p.streams[:i], p.streams[i+1:]...)
	p.conf.Memory.Take(-s.held)
	s.held = 0
	if len(p.conf.free) < MaxStreams {
		p.conf.free = append(p.conf.free, s)
	}
}

// account charges what a stream holds.
func (p *Parser) account(s *stream) {
	size := streamSize + int64(s.t.Request.Size()+s.t.Response.Size())
	if size <= s.held {
		return
	}
	if p.conf.Memory.Take(size - s.held) {
		s.held = size
		return
	}
	s.poor = true
}

// opened returns the stream that a HEADERS frame of a side is about, nil if it is
// of none that matters.
func (p *Parser) opened(dir capture.Direction, id uint32) *stream {
	client := &p.half[capture.FromClient]
	if s := p.find(id); s != nil {
		if dir == capture.FromClient && id&1 == 1 {
			client.last = max(client.last, id)
		}
		return s
	}
	if dir == capture.FromClient {
		if id <= client.last || id&1 == 0 {
			return nil // of a stream that is over
		}
		client.last = id
		return p.open(id)
	}
	h := &p.half[dir]
	// The answer to what was not seen: the client's side is late, lost or mute.
	if id&1 == 1 && id > client.last && id > h.last || client.lossy && id > h.last {
		h.last = max(h.last, id)
		return p.open(id)
	}
	return nil
}

// endBlock reads a header block that is whole.
func (p *Parser) endBlock(dir capture.Direction, at pipeline.Time, b []byte) {
	h := &p.half[dir]
	of := h.blockOf
	id := of.stream
	p.dir, p.message, p.trailer = dir, nil, false
	if of.typ == framePush {
		p.promise(dir, at)
	} else {
		p.begins(dir, h.start, p.opened(dir, id))
	}
	missing, err := h.hpack.decode(b, p.field)
	if missing > 0 || err != nil {
		p.conf.Tally.Add(capture.LossHPACK, int64(len(b)))
	}
	if err != nil {
		h.hpack.lose()
	}
	s := p.stream
	p.stream = nil
	size := len(b)
	if cap(h.block) > 0 {
		p.dropBlock(h)
	}
	h.open = false
	if s == nil {
		return
	}
	if missing > 0 || err != nil {
		s.cut(p.dir)
	}
	p.headed(s, at, size)
	if of.typ == frameHeaders && of.flags&flagEndStream != 0 && p.find(of.stream) == s {
		p.ended(s, dir, at)
	}
}

// promise takes a request that the server makes for the client.
func (p *Parser) promise(dir capture.Direction, at pipeline.Time) {
	h := &p.half[dir]
	p.stream = nil
	i := 0
	if h.blockOf.flags&flagPadded != 0 {
		i = 1
	}
	id := uint32(h.prelude[i])<<24 | uint32(h.prelude[i+1])<<16 | uint32(h.prelude[i+2])<<8 | uint32(h.prelude[i+3])
	if dir != capture.FromServer || id&1 == 1 || p.find(id) != nil {
		return
	}
	s := p.open(id)
	p.dir = capture.FromClient
	p.begins(capture.FromClient, at, s)
	s.over[capture.FromClient] = true
}

// lostBlock ends a header block of which bytes are missing, or that is too long:
// the table is of no use from here on.
func (p *Parser) lostBlock(dir capture.Direction, at pipeline.Time) {
	h := &p.half[dir]
	of := h.blockOf
	if h.typ != frameContinuation || h.flags&flagEndHeaders != 0 {
		p.conf.Tally.Add(capture.LossHPACK, int64(len(h.block)))
	}
	p.dropBlock(h)
	h.hpack.lose()
	if of.typ != frameHeaders {
		return
	}
	s := p.opened(dir, of.stream)
	if s == nil {
		return
	}
	s.lost(dir, h.start)
	if of.flags&flagEndStream != 0 && h.flags&flagEndHeaders != 0 {
		p.ended(s, dir, at)
	}
}

// data takes bytes of a body.
func (p *Parser) data(dir capture.Direction, at pipeline.Time, b []byte) {
	s := p.find(p.half[dir].stream)
	if s == nil {
		return // reset, or a tunnel
	}
	m := s.message(dir)
	if !s.poor {
		m.Body(b)
		p.account(s)
	} else {
		m.BodyBytes += int64(len(b))
	}
	m.End = at
}

// endData ends a DATA frame that ends its stream.
func (p *Parser) endData(dir capture.Direction, at pipeline.Time) {
	if s := p.find(p.half[dir].stream); s != nil {
		p.ended(s, dir, at)
	}
}

// missed takes a gap inside a body.
func (p *Parser) missed(dir capture.Direction, n int64) {
	if s := p.find(p.half[dir].stream); s != nil {
		s.message(dir).BodyBytes += n
		s.cut(dir)
	}
}

// cut marks the messages that were running in a direction: of which of them
// bytes are missing nobody knows.
func (p *Parser) cut(dir capture.Direction) {
	for _, s := range p.streams {
		if !s.over[dir] && s.began(dir) {
			s.cut(dir)
		}
	}
}

// ended takes the end of a stream's half.
func (p *Parser) ended(s *stream, dir capture.Direction, at pipeline.Time) {
	m := s.message(dir)
	m.End = at
	s.over[dir] = true
	if s.over[capture.FromServer] && s.over[capture.FromClient] {
		p.give(s)
	}
}

// reset takes an RST_STREAM.
func (p *Parser) reset(dir capture.Direction, at pipeline.Time, id, code uint32) {
	s := p.find(id)
	if s == nil {
		return
	}
	if code == 0 && dir == capture.FromServer && s.over[dir] && s.asked {
		// The rest of the request is of no interest (RFC 9113, 8.1), but may be on
		// its way.
		if s.reset == pipeline.NoTime {
			if s.reset = at; p.lingers == 0 {
				p.oldest = at
			}
			p.lingers++
		}
		return
	}
	if code != 0 || !s.over[capture.FromServer] {
		if dir == capture.FromClient {
			s.t.Flags |= capture.ResetByClient
		} else {
			s.t.Flags |= capture.ResetByServer
		}
	}
	if m := s.message(dir); m.Start != pipeline.NoTime {
		m.End = max(m.End, at)
	}
	p.give(s)
}

// expire gives out what was waited for long enough.
func (p *Parser) expire(at pipeline.Time) {
	if at-p.oldest <= lingering {
		return
	}
	p.oldest = at
	for i := 0; i < len(p.streams); {
		s := p.streams[i]
		if s.reset == pipeline.NoTime {
			i++
			continue
		}
		if at-s.reset > lingering {
			p.give(s)
			continue
		}
		p.oldest = min(p.oldest, s.reset)
		i++
	}
}

// goAway takes the announcement that streams beyond last are not served.
func (p *Parser) goAway(dir capture.Direction, last uint32) {
	if dir != capture.FromServer {
		return
	}
	for _, s := range slices.Backward(p.streams) {

		if s.t.Number <= last || s.t.Number&1 == 0 {
			break
		}
		if !s.answered {
			s.t.Flags |= capture.ResetByServer
			p.give(s)
		}
	}
}

// Close ends a direction; with the second one everything is given out.
func (p *Parser) Close(dir capture.Direction, _ pipeline.Time, end capture.End) {
	h := &p.half[dir]
	if h.closed {
		return
	}
	h.closed = true
	if end == capture.EndReset {
		for _, s := range p.streams {
			s.t.Flags |= capture.ResetByClient << dir
		}
	}
	p.dropBlock(h)
	h.hpack.close()
	if !p.half[dir.Other()].closed {
		return
	}
	for len(p.streams) > 0 {
		p.give(p.streams[0])
	}
}
