// Package mirror turns packets into requests: it puts the readers of the packages
// beside it together.
//
//	mirror.go   packets in, exchanges out
//	layer.go    what a connection speaks, and what is inside of that
//	request.go  an exchange as a request, without its secrets
//	reader.go   a capture file as a source
//	live.go     an interface as a source
//	sealed.go   what is known of sealed connections
//	summary.go  what was read, lost and sealed
package mirror

import (
	"bytes"

	"weir/collector/capture"
	"weir/collector/capture/h2"
	"weir/collector/capture/http1"
	"weir/collector/capture/packet"
	"weir/collector/capture/quic"
	"weir/collector/capture/tcp"
	"weir/collector/capture/tls"
	"weir/pipeline"
)

// Config bounds a Mirror.
type Config struct {
	TCP tcp.Config
	// Memory is the budget in bytes of what waits: segments out of order,
	// fragments, messages that are not whole, the text of unanswered requests.
	Memory int64
	// Keys opens sealed connections; nil opens none.
	Keys *tls.KeyLog
	// Emit is told of each exchange, which is valid until it returns.
	Emit func(*capture.Transaction)
	// Want says how much of a body is kept, see http1.Env; nil keeps what names an
	// operation or an account.
	Want func(t *capture.Transaction, response bool) int
	// Sealed is told of each TLS and QUIC connection when it ends, which is valid
	// until it returns; it may be nil.
	Sealed func(*Sealed)
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
	quic    *quic.Table
	http1   http1.Env
	h2      h2.Config
	tls     tls.Config
	layers  []*layer // by Conn.Slot - 1
	free    []uint32
	emit    func(*capture.Transaction)
	frame   int64

	onSealed func(*Sealed)
	hidden   hidden
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
	m := &Mirror{emit: cfg.Emit, onSealed: cfg.Sealed}
	m.Memory.Max = cfg.Memory
	m.decoder = packet.NewDecoder(&m.Tally, &m.Memory)
	m.tcp = tcp.New(cfg.TCP, tcp.Callbacks{Data: m.data, Gap: m.gap, Close: m.close}, &m.Tally, &m.Memory)
	m.quic = quic.NewTable(&m.Tally, &m.Memory, m.quicDone)
	m.http1 = http1.Env{Emit: m.exchange, Want: cfg.Want, Upgraded: m.upgraded, Tunnel: m.tunnel, Tally: &m.Tally, Memory: &m.Memory}
	m.h2 = h2.Config{Emit: m.exchange, Tally: &m.Tally, Memory: &m.Memory, Want: func(t *capture.Transaction, dir capture.Direction) int {
		return cfg.Want(t, dir == capture.FromServer)
	}}
	m.tls = tls.Config{Tally: &m.Tally, Memory: &m.Memory, Keys: cfg.Keys, Inner: m.inner}
	return m
}

// Packet takes the next packet.
func (m *Mirror) Packet(p *packet.Packet) {
	m.frame++
	switch m.decoder.Decode(p) {
	case packet.TCP:
		m.tcp.Segment(&m.decoder.Segment)
	case packet.UDP:
		d := &m.decoder.Datagram
		m.quic.Datagram(capture.Flow{
			Client: d.Src, Server: d.Dst, ClientPort: d.SrcPort, ServerPort: d.DstPort, VNI: d.VNI, Start: d.Time,
		}, d.Time, d.Payload)
	}
}

// Tick says that it is now and no packet came: what was silent for too long ends.
func (m *Mirror) Tick(now pipeline.Time) { m.tcp.Tick(now) }

// Flush gives out what still waits: there are no more packets.
func (m *Mirror) Flush() {
	m.decoder.Flush()
	m.tcp.Flush()
	m.quic.Flush()
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

// kindSecrets is the kind of a pcapng block of secrets that is a TLS key log.
const kindSecrets = 0x544c534b

// secrets takes the key material of a pcapng file.
func secrets(keys *tls.KeyLog) func(kind uint32, data []byte) {
	return func(kind uint32, data []byte) {
		if kind == kindSecrets {
			_ = keys.Read(bytes.NewReader(data)) // lines that are none are counted there
		}
	}
}

func (m *Mirror) data(c *tcp.Conn, dir capture.Direction, at pipeline.Time, b []byte) {
	if c.Slot == 0 {
		c.Slot = m.layer(&c.Flow)
	}
	m.layers[c.Slot-1].Data(dir, at, b)
}

func (m *Mirror) gap(c *tcp.Conn, dir capture.Direction, at pipeline.Time, n int64) {
	if c.Slot == 0 {
		c.Slot = m.layer(&c.Flow)
	}
	m.layers[c.Slot-1].Gap(dir, at, n)
}

func (m *Mirror) close(c *tcp.Conn, dir capture.Direction, at pipeline.Time, end capture.End) {
	if c.Slot == 0 {
		return
	}
	l := m.layers[c.Slot-1]
	if l.Close(dir, at, end); l.closed == 3 {
		c.Slot = 0
	}
}
