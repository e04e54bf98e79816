// Package mirror turns packets into requests: it puts the readers of the packages
// beside it together.
//
//	mirror.go   packets in, exchanges out
//	sniff.go    what a connection speaks
//	request.go  an exchange as a request, without its secrets
//	reader.go   a capture file as a source
//	summary.go  what was read, lost and sealed
package mirror

import (
	"weir/collector/capture"
	"weir/collector/capture/http1"
	"weir/collector/capture/packet"
	"weir/collector/capture/tcp"
	"weir/pipeline"
)

// Config bounds a Mirror.
type Config struct {
	TCP tcp.Config
	// Memory is the budget in bytes of what waits: segments out of order,
	// fragments, messages that are not whole, the text of unanswered requests.
	Memory int64
	// Emit is told of each exchange, which is valid until it returns.
	Emit func(*capture.Transaction)
	// Want says how much of a body is kept, see http1.Env; nil keeps what names an
	// operation or an account.
	Want func(t *capture.Transaction, response bool) int
}

// DefaultMemory is the budget of what waits.
const DefaultMemory = 64 << 20

// bodyKept is how much of a body is kept, encoded, and bodyRead how much of it is
// decoded: logins are short.
const (
	bodyKept = 16 << 10
	bodyRead = 64 << 10
)

// Mirror reads packets. One goroutine uses it.
type Mirror struct {
	Tally  capture.Tally
	Memory capture.Memory
	// Streams counts connections by what they speak.
	Streams Streams

	decoder *packet.Decoder
	tcp     *tcp.Assembler
	env     http1.Env
	streams []*stream // by Conn.Slot - 1
	free    []uint32
	emit    func(*capture.Transaction)
	frame   int64
}

// Streams counts connections that carried something.
type Streams struct {
	HTTP1, HTTP2, TLS, QUIC, Other int64
	Opened                         int64 // of TLS: with a key
	Exchanges                      int64
}

// New returns a Mirror that has read nothing.
func New(cfg Config) *Mirror {
	if cfg.TCP == (tcp.Config{}) {
		cfg.TCP = tcp.DefaultConfig()
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Want == nil {
		cfg.Want = want
	}
	m := &Mirror{emit: cfg.Emit}
	m.Memory.Max = cfg.Memory
	m.decoder = packet.NewDecoder(&m.Tally, &m.Memory)
	m.tcp = tcp.New(cfg.TCP, tcp.Callbacks{Data: m.data, Gap: m.gap, Close: m.close}, &m.Tally, &m.Memory)
	m.env = http1.Env{Emit: m.exchange, Want: cfg.Want, Upgraded: m.upgraded, Tally: &m.Tally, Memory: &m.Memory}
	return m
}

// Packet takes the next packet.
func (m *Mirror) Packet(p *packet.Packet) {
	m.frame++
	if m.decoder.Decode(p) == packet.TCP {
		m.tcp.Segment(&m.decoder.Segment)
	}
}

// Flush gives out what still waits: there are no more packets.
func (m *Mirror) Flush() {
	m.decoder.Flush()
	m.tcp.Flush()
}

// Frame is the number of the packet at hand, from 1.
func (m *Mirror) Frame() int64 { return m.frame }

// Packets and Segments say how much was read, and that the sums are right.
func (m *Mirror) Packets() packet.Counts { return m.decoder.Counts }

// Segments is Packets for TCP.
func (m *Mirror) Segments() tcp.Counts { return m.tcp.Counts }

func (m *Mirror) exchange(t *capture.Transaction) {
	m.Streams.Exchanges++
	m.emit(t)
}

// stream is a connection and its parser.
type stream struct {
	conn   *tcp.Conn
	speaks protocol
	http   http1.Parser
	inner  protocol // behind an upgrade
	tried  int      // pieces that told nothing
	first  []byte   // what a client sent that is no request, until the server answers
	begun  pipeline.Time
	closed uint8
}

func (m *Mirror) stream(c *tcp.Conn) *stream {
	if c.Slot != 0 {
		return m.streams[c.Slot-1]
	}
	var s *stream
	if n := len(m.free); n > 0 {
		c.Slot = m.free[n-1]
		m.free = m.free[:n-1]
		s = m.streams[c.Slot-1]
	} else {
		s = &stream{}
		m.streams = append(m.streams, s)
		c.Slot = uint32(len(m.streams))
	}
	s.conn, s.speaks, s.inner, s.tried, s.closed = c, unknown, unknown, 0, 0
	s.first = s.first[:0]
	return s
}

func (m *Mirror) data(c *tcp.Conn, dir capture.Direction, at pipeline.Time, b []byte) {
	s := m.stream(c)
	if s.speaks == unknown || s.speaks == speaksTLS && dir == capture.FromServer && len(s.first) > 0 {
		m.sniff(s, dir, at, b)
	}
	switch s.speaks {
	case speaksHTTP1:
		s.http.Data(dir, at, b)
	default:
		m.Tally.Add(capture.LossNotHTTP, int64(len(b)))
	}
}

func (m *Mirror) gap(c *tcp.Conn, dir capture.Direction, at pipeline.Time, n int64) {
	s := m.stream(c)
	if s.speaks == unknown {
		c.Flow.MidStream = true // its beginning is lost
	}
	if s.speaks == speaksHTTP1 {
		s.http.Gap(dir, at, n)
	}
}

func (m *Mirror) close(c *tcp.Conn, dir capture.Direction, at pipeline.Time, end capture.End) {
	s := m.stream(c)
	if s.speaks == speaksHTTP1 {
		s.http.Close(dir, at, end)
	}
	if s.closed |= 1 << dir; s.closed == 3 {
		s.conn = nil
		m.free = append(m.free, c.Slot)
		c.Slot = 0
	}
}
