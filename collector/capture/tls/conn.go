package tls

import (
	"bytes"

	"weir/collector/capture"
	"weir/pipeline"
)

// Bounds of what one connection may hold.
const (
	// maxHello is the longest handshake message that is put together: browsers
	// with post-quantum keys send 1,800 bytes, session tickets add some thousand.
	maxHello = 32 << 10
	// maxRecord is the longest record body: 2^14 bytes and what sealing may add
	// (RFC 5246, 6.2.3).
	maxRecord  = 1<<14 + 2048
	maxName    = 255 // bytes of a server name, as DNS has it
	recordHead = 5
	recordCCS  = 20
	alertType  = 21
	helloType  = 22
	dataType   = 23
	beatType   = 24 // heartbeat
)

// Looks reports whether b, the first bytes of a connection, begins a TLS record.
// It needs five bytes; mid is for connections whose beginning was not seen: then
// any record counts, else only a handshake.
func Looks(b []byte, mid bool) bool {
	if len(b) < recordHead || !plausible(b) {
		return false
	}
	if b[0] == helloType {
		return mid || len(b) == recordHead || b[5] == typeClientHello || b[5] == typeServerHello
	}
	return mid && b[1] == 3 && b[2] == 3
}

// plausible tells whether five bytes can be the head of a record.
func plausible(b []byte) bool {
	n := int(b[3])<<8 | int(b[4])
	return b[0] >= recordCCS && b[0] <= beatType && b[1] == 3 && b[2] <= 4 && n <= maxRecord
}

// Features is what can be told of one direction of a sealed connection.
type Features struct {
	Records int64         // of application data; with TLS 1.3 the sealed part of the handshake too
	Bytes   int64         // in them, as sealed
	Largest int64         // the longest of them
	Turns   int64         // how often this side began to speak after the other: about the number of messages
	First   pipeline.Time // of the first of them, NoTime if none
	Last    pipeline.Time // of the last
	Alert   uint8         // the last alert in clear: its number, 0 none
}

// Reader takes the bytes of an opened connection as a parser does, see package
// capture.
type Reader interface {
	Data(dir capture.Direction, at pipeline.Time, b []byte)
	Gap(dir capture.Direction, at pipeline.Time, n int64)
	Close(dir capture.Direction, at pipeline.Time, end capture.End)
}

// Config is what parsers of one goroutine share.
type Config struct {
	Tally  *capture.Tally
	Memory *capture.Memory
	// Keys opens connections; nil opens none.
	Keys *KeyLog
	// Inner makes the reader of an opened connection; nil opens none.
	Inner func(*capture.Flow) Reader
}

// Parser reads one TLS connection: it sets the flow's Hello when that is known
// and counts records. It is for one goroutine.
type Parser struct {
	// Retry tells of a HelloRetryRequest, ECH and GREASE of what the client
	// offered, Resumed of a session that was taken up again.
	Retry, ECH, GREASE, Resumed bool

	conf   *Config
	flow   *capture.Flow
	hello  capture.Hello
	half   [2]half
	talker capture.Direction // who sent application data last
	spoken bool              // anybody did
	held   int64             // of conf.Memory

	random       [32]byte // of the client
	serverRandom [32]byte
	server       bool // a ServerHello was read
	inner        Reader
}

// half is one direction.
type half struct {
	Features
	head    [recordHead]byte
	nhead   uint8
	typ     byte
	seeking bool // out of step with the records
	broken  bool // bytes of this record are missing
	done    bool // the hello was read, or will not be
	changed bool // ChangeCipherSpec was seen
	left    int  // bytes of the record body still to come
	size    int  // of the record body
	hello   []byte
	record  []byte // the record body, where it is opened
	passed  uint64 // sealed records that came before a key did
	opener  *opener
}

// New returns the parser of a connection.
func New(conf *Config, flow *capture.Flow) *Parser {
	p := &Parser{conf: conf, flow: flow}
	for i := range p.half {
		p.half[i].First, p.half[i].Last = pipeline.NoTime, pipeline.NoTime
	}
	return p
}

// Features returns what was counted of one direction.
func (p *Parser) Features(dir capture.Direction) *Features { return &p.half[dir].Features }

// Opened reports whether a key log opened the connection.
func (p *Parser) Opened() bool { return p.inner != nil }

// Data takes the next bytes of one direction.
func (p *Parser) Data(dir capture.Direction, at pipeline.Time, b []byte) {
	h := &p.half[dir]
	for len(b) > 0 {
		if h.seeking {
			if b = p.seek(h, b); len(b) == 0 {
				return
			}
		}
		if h.left == 0 {
			n := copy(h.head[h.nhead:], b)
			h.nhead += uint8(n)
			b = b[n:]
			if h.nhead < recordHead {
				return
			}
			h.nhead = 0
			if !plausible(h.head[:]) {
				p.conf.Tally.Add(capture.LossRecord, int64(recordHead))
				h.seeking = true
				continue
			}
			p.begin(dir, at)
			if h.left == 0 {
				p.end(dir, at)
			}
			continue
		}
		n := min(h.left, len(b))
		p.body(dir, b[:n])
		h.left -= n
		b = b[n:]
		if h.left == 0 {
			p.end(dir, at)
		}
	}
}

// seek looks for the head of a record of application data: what else comes in
// the middle of a connection is rare and short.
func (p *Parser) seek(h *half, b []byte) []byte {
	for i := 0; i < len(b); {
		at := bytes.IndexByte(b[i:], dataType)
		if at < 0 {
			break
		}
		i += at
		if rest := b[i:]; len(rest) >= recordHead && plausible(rest) && rest[2] == 3 && (rest[3]|rest[4]) != 0 {
			p.conf.Tally.Add(capture.LossResync, int64(i))
			h.seeking, h.nhead, h.left = false, 0, 0
			return rest
		}
		i++
	}
	p.conf.Tally.Add(capture.LossResync, int64(len(b)))
	return nil
}

// begin starts a record whose head is complete.
func (p *Parser) begin(dir capture.Direction, at pipeline.Time) {
	h := &p.half[dir]
	h.typ = h.head[0]
	h.size = int(h.head[3])<<8 | int(h.head[4])
	h.left, h.broken = h.size, false
	h.record = h.record[:0]
	if h.typ != dataType {
		return
	}
	h.Records++
	h.Bytes += int64(h.size)
	h.Largest = max(h.Largest, int64(h.size))
	if h.First == pipeline.NoTime {
		h.First = at
	}
	h.Last = at
	if !p.spoken || p.talker != dir {
		h.Turns++
		p.spoken, p.talker = true, dir
	}
}

// body takes bytes of the record that is running.
func (p *Parser) body(dir capture.Direction, b []byte) {
	h := &p.half[dir]
	switch {
	case h.typ == helloType && !h.done && !h.changed:
		p.handshake(dir, b)
	case h.typ == alertType && !h.changed && h.size == 2 && !h.broken:
		h.Alert = b[len(b)-1]
	}
	if p.opens(h) && !h.broken {
		if h.record = p.grow(h.record, b, maxRecord); h.record == nil {
			h.broken = true
		}
	}
}

// opens tells whether the running record is sealed and worth opening.
func (p *Parser) opens(h *half) bool {
	return p.conf.Keys != nil && p.server && p.conf.Inner != nil && (h.typ == dataType || h.changed && h.typ != recordCCS)
}

// grow appends to a buffer within the budget; nil when there is no more.
func (p *Parser) grow(buf, b []byte, limit int) []byte {
	if len(buf)+len(b) > limit {
		return nil
	}
	if need := len(buf) + len(b); need > cap(buf) {
		bigger := min(max(need, 2*cap(buf)), limit)
		if !p.conf.Memory.Take(int64(bigger - cap(buf))) {
			return nil
		}
		p.held += int64(bigger - cap(buf))
		fresh := make([]byte, len(buf), bigger)
		copy(fresh, buf)
		buf = fresh
	}
	return append(buf, b...)
}

func (p *Parser) release(buf []byte) {
	p.conf.Memory.Take(-int64(cap(buf)))
	p.held -= int64(cap(buf))
}

// handshake puts messages in clear together until the hello is read.
func (p *Parser) handshake(dir capture.Direction, b []byte) {
	h := &p.half[dir]
	buf := p.grow(h.hello, b, maxHello)
	if buf == nil {
		p.conf.Tally.Add(capture.LossMessage, int64(len(h.hello)+len(b)))
		p.forget(h)
		return
	}
	h.hello = buf
	for len(h.hello) >= handshakeHeader && !h.done {
		n := handshakeHeader + int(h.hello[1])<<16 + int(h.hello[2])<<8 + int(h.hello[3])
		if n > maxHello {
			p.conf.Tally.Add(capture.LossMessage, int64(len(h.hello)))
			p.forget(h)
			return
		}
		if len(h.hello) < n {
			return
		}
		p.message(dir, h.hello[0], h.hello[handshakeHeader:n])
		h.hello = h.hello[:copy(h.hello, h.hello[n:])]
	}
	if h.done {
		p.forget(h)
	}
}

// forget ends the reading of handshake messages of a direction.
func (p *Parser) forget(h *half) {
	h.done = true
	p.release(h.hello)
	h.hello = nil
}

// message takes one whole handshake message.
func (p *Parser) message(dir capture.Direction, typ byte, body []byte) {
	h := &p.half[dir]
	switch {
	case dir == capture.FromClient && typ == typeClientHello:
		h.done = true
		if hello, err := ParseClientHello(body); err != nil {
			p.conf.Tally.Add(capture.LossMessage, int64(len(body)))
		} else {
			p.client(&hello)
		}
	case dir == capture.FromServer && typ == typeServerHello:
		hello, err := ParseServerHello(body)
		if err != nil {
			p.conf.Tally.Add(capture.LossMessage, int64(len(body)))
			h.done = true
			return
		}
		p.answer(&hello)
		h.done = !hello.Retry
	case typ != 0: // a HelloRequest may come before
		h.done = true
	}
}

// client takes the ClientHello. After a HelloRetryRequest a second one comes,
// which only repeats the first.
func (p *Parser) client(c *ClientHello) {
	p.random = c.Random
	p.ECH, p.GREASE = c.ECH, c.GREASE
	FillClient(&p.hello, c, TCP)
	p.flow.Hello = &p.hello
}

// FillClient sets what a ClientHello tells.
func FillClient(dst *capture.Hello, c *ClientHello, t Transport) {
	dst.JA3, dst.JA4 = c.JA3(), c.JA4(t)
	dst.SNI = string(bytes.ToLower(c.ServerName[:min(len(c.ServerName), maxName)]))
	dst.QUIC = t == QUIC
	if dst.ALPN == "" {
		dst.ALPN = string(c.ALPN)
	}
	if dst.Version == 0 {
		dst.Version = c.highest()
	}
}

// FillServer sets what a ServerHello tells.
func FillServer(dst *capture.Hello, s *ServerHello) {
	dst.JA3S, dst.Version, dst.Cipher = s.JA3S(), s.Version, s.Cipher
	if len(s.ALPN) > 0 {
		dst.ALPN = string(s.ALPN)
	}
}

func (p *Parser) answer(s *ServerHello) {
	p.Retry = p.Retry || s.Retry
	p.Resumed = s.PSK
	FillServer(&p.hello, s)
	p.flow.Hello = &p.hello
	if !s.Retry {
		p.server, p.serverRandom = true, s.Random
	}
}

// end finishes a record.
func (p *Parser) end(dir capture.Direction, at pipeline.Time) {
	h := &p.half[dir]
	if h.typ == recordCCS {
		h.changed = h.changed || p.hello.Version != versionTLS13
		return
	}
	if !p.opens(h) {
		return
	}
	p.open(dir, at)
}

// Gap says that n bytes of a direction are missing.
func (p *Parser) Gap(dir capture.Direction, at pipeline.Time, n int64) {
	h := &p.half[dir]
	if h.typ == helloType && h.left > 0 || len(h.hello) > 0 {
		p.forget(h) // what was begun cannot be ended
	}
	inside := !h.seeking && h.left > 0 && n >= 0 && n <= int64(h.left)
	h.broken = true
	if inside {
		if h.left -= int(n); h.left == 0 {
			p.end(dir, at)
		}
		return
	}
	h.seeking, h.left, h.nhead = true, 0, 0
	if h.opener != nil {
		h.opener.missed = true
	}
	if p.inner != nil {
		p.inner.Gap(dir, at, -1)
	}
}

// Close ends a direction.
func (p *Parser) Close(dir capture.Direction, at pipeline.Time, end capture.End) {
	h := &p.half[dir]
	p.release(h.hello)
	p.release(h.record)
	h.hello, h.record = nil, nil
	h.done, h.opener = true, nil
	if p.inner != nil {
		p.inner.Close(dir, at, end)
	}
}
