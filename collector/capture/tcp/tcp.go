// Package tcp puts segments back into the two byte streams of each connection:
//
//	tcp.go     connections, their beginning and end
//	stream.go  one direction: order, loss, overlap
//	table.go   where connections are kept, and who has to go
//
// It survives what captures are like: packets that are missing, come twice, late or
// in another order, connections that began before the capture or are seen from one
// side alone. Where bytes are missing it says so as soon as that is certain, and
// goes on behind them.
package tcp

import (
	"weir/collector/capture"
	"weir/collector/capture/packet"
	"weir/pipeline"
)

// Callbacks are told what a connection carries, see package capture. Close comes
// once for each direction, whether bytes of it were seen or not, if Data or Gap came
// for either.
type Callbacks struct {
	Data  func(c *Conn, dir capture.Direction, at pipeline.Time, b []byte)
	Gap   func(c *Conn, dir capture.Direction, at pipeline.Time, n int64)
	Close func(c *Conn, dir capture.Direction, at pipeline.Time, end capture.End)
}

// Config bounds an Assembler.
type Config struct {
	// Connections is how many are kept; beyond it those go first that have carried
	// nothing, then the silent ones.
	Connections int
	// Held is how many bytes of one connection may wait for earlier ones.
	Held int
}

// DefaultConfig keeps 262,144 connections (some 80 MB when there are as many) and
// holds a megabyte of each within the common budget.
func DefaultConfig() Config { return Config{Connections: 1 << 18, Held: 1 << 20} }

// Times in capture time, microseconds.
const (
	idleAfter     = 600e6 // a connection that carried something
	halfOpenAfter = 60e6  // one that has not
	closedAfter   = 30e6  // one that is over, kept to know its late packets
	waitFor       = 5e3   // bytes that the peer acknowledged and nobody saw
	heldFor       = 1e6   // bytes out of order without any acknowledgement
)

// Counts says what was done with payload. Bytes is the sum of Delivered, Held and
// the bytes of the segment reasons of the Tally except LossGap, which counts what
// never came.
type Counts struct {
	Segments, Bytes, Delivered, Held int64
	Connections, Open                int64 // ever and now
	MidStream                        int64
}

// Assembler keeps connections. One goroutine uses it.
type Assembler struct {
	Counts Counts

	cfg    Config
	call   Callbacks
	tally  *capture.Tally
	memory *capture.Memory
	table  table
	now    pipeline.Time
	ahead  pipeline.Time // a time far ahead that the next segment may confirm
}

// New returns an empty Assembler.
func New(cfg Config, call Callbacks, tally *capture.Tally, memory *capture.Memory) *Assembler {
	return &Assembler{cfg: cfg, call: call, tally: tally, memory: memory, table: newTable(), now: pipeline.NoTime, ahead: pipeline.NoTime}
}

// Conn is a connection. Flow says who is the client: who sent the SYN, else who it
// looks like.
type Conn struct {
	Flow capture.Flow
	// Slot is the user's; 0 at first.
	Slot uint32

	half       [2]half // by Direction
	last       pipeline.Time
	prev, next uint32 // in its list
	self       uint32
	list       listID
	opened     bool // a SYN was seen
	told       bool // Data or Gap came
	stray      uint8
}

// maxStray is how many segments in a row must lie outside of every window until a
// connection is believed to be another one with the same ports.
const maxStray = 4

// clock follows the capture's time; one stamp far ahead does not count.
func (a *Assembler) clock(t pipeline.Time) {
	const far = 3600e6
	switch {
	case t <= a.now:
	case a.now == pipeline.NoTime || t-a.now < far || a.ahead != pipeline.NoTime && t-a.ahead < far && a.ahead-t < far:
		a.now, a.ahead = t, pipeline.NoTime
	default:
		a.ahead = t
	}
}

// Segment takes the next segment of the capture.
func (a *Assembler) Segment(s *packet.Segment) {
	a.Counts.Segments++
	a.Counts.Bytes += int64(len(s.Payload))
	a.clock(s.Time)
	a.expire()
	k := keyOf(s)
	c := a.table.find(k)
	if s.Flags&(packet.SYN|packet.RST) == packet.SYN {
		c = a.syn(c, k, s)
	} else if c == nil || c.list == listClosed && a.reborn(c, s) {
		if c != nil {
			a.remove(c)
		}
		if len(s.Payload) == 0 || s.Flags&packet.RST != 0 {
			a.lose(capture.LossWindow, s) // it says nothing of a connection that is not known
			return
		}
		if c = a.add(k, s, looksLikeClient(s)); c != nil {
			c.Flow.MidStream = true
			a.Counts.MidStream++
		}
	}
	switch {
	case c == nil:
		a.lose(capture.LossConnections, s)
	case c.list == listClosed:
		a.lose(capture.LossRetransmit, s)
	default:
		a.touch(c, s.Time)
		a.segment(c, c.direction(s), s)
	}
}

// lose counts the payload of a segment that is not looked at.
func (a *Assembler) lose(r capture.Reason, s *packet.Segment) {
	if len(s.Payload) > 0 {
		a.tally.Add(r, int64(len(s.Payload)))
	}
}

// direction tells which way s goes.
func (c *Conn) direction(s *packet.Segment) capture.Direction {
	if s.SrcPort == c.Flow.ClientPort && s.Src == c.Flow.Client {
		return capture.FromClient
	}
	return capture.FromServer
}

// syn takes the beginning of a connection, or another look at it.
func (a *Assembler) syn(c *Conn, k key, s *packet.Segment) *Conn {
	answer := s.Flags&packet.ACK != 0
	if c != nil {
		h := &c.half[c.direction(s)]
		if c.list != listClosed && (!h.seen || h.next == s.Seq+1 || h.isn && h.first == s.Seq) {
			return c // the answer, or a retransmission
		}
		if c.list != listClosed && answer {
			return c // of something old
		}
		a.finish(c, capture.EndIdle) // its ports are in use again
		a.remove(c)
	}
	if c = a.add(k, s, !answer); c != nil {
		c.opened = true
	}
	return c
}

// reborn reports whether s cannot belong to the connection that is over: the SYN of
// another one with the same ports was not captured.
func (a *Assembler) reborn(c *Conn, s *packet.Segment) bool {
	const near = 1 << 20
	h := &c.half[c.direction(s)]
	d := int32(s.Seq - h.next)
	return len(s.Payload) > 0 && h.seen && (d > near || d < -near)
}

// looksLikeClient guesses who sent a segment in the middle of a connection.
func looksLikeClient(s *packet.Segment) bool {
	p := s.Payload
	switch {
	case len(p) >= 5 && string(p[:5]) == "HTTP/":
		return false
	case len(p) >= 6 && p[0] == 0x16 && p[1] == 3 && p[5] == 2: // ServerHello
		return false
	case len(p) >= 6 && p[0] == 0x16 && p[1] == 3 && p[5] == 1: // ClientHello
		return true
	case len(p) >= 8 && isUpper(p[:3]):
		return true
	}
	if known(s.SrcPort) != known(s.DstPort) {
		return known(s.DstPort)
	}
	return s.SrcPort > s.DstPort
}

func isUpper(b []byte) bool {
	for _, c := range b {
		if c-'A' >= 26 {
			return false
		}
	}
	return true
}

// known reports whether servers of HTTP listen on p.
func known(p uint16) bool {
	switch p {
	case 80, 443, 3000, 5000, 8000, 8008, 8080, 8081, 8088, 8443, 8888, 9000, 9090, 50051:
		return true
	}
	return false
}

// Tick says that the time is now, while no segment comes.
func (a *Assembler) Tick(now pipeline.Time) {
	a.clock(now)
	a.expire()
}

// Flush ends all connections: the capture is over.
func (a *Assembler) Flush() {
	for _, id := range [...]listID{listActive, listHalfOpen} {
		for a.table.lists[id].head != 0 {
			c := a.table.conn(a.table.lists[id].head)
			a.finish(c, capture.EndIdle)
			a.remove(c)
		}
	}
}

// finish gives out what c still holds and ends both directions.
func (a *Assembler) finish(c *Conn, end capture.End) {
	for dir := range capture.Direction(2) {
		a.flush(c, dir)
	}
	for dir := range capture.Direction(2) {
		a.close(c, dir, end)
	}
}

// close ends a direction.
func (a *Assembler) close(c *Conn, dir capture.Direction, end capture.End) {
	h := &c.half[dir]
	if h.closed {
		return
	}
	h.closed = true
	for len(h.held) > 0 { // beyond the end
		a.tally.Add(capture.LossWindow, int64(len(h.held[0].data)))
		a.pop(h)
	}
	if c.told {
		a.call.Close(c, dir, max(a.now, c.last), end)
	}
	if c.half[dir.Other()].closed && c.list != listClosed {
		a.Counts.Open--
		a.table.move(c, listClosed)
	}
}
