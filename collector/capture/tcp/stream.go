package tcp

import (
	"encoding/binary"

	"weir/collector/capture"
	"weir/collector/capture/packet"
	"weir/pipeline"
)

// half is one direction of a connection.
type half struct {
	next   uint32 // the first byte that was not given out
	first  uint32 // of the SYN
	acked  uint32 // up to here the peer has it
	top    uint32 // up to here the sender has sent something
	end    uint32 // of the FIN
	since  pipeline.Time
	bytes  int32 // held
	held   []piece
	recent recent

	seen, isn, fin, closed, acks, missing bool
}

// piece is payload that waits: for bytes before it, or for the request that it
// answers.
type piece struct {
	at   pipeline.Time
	seq  uint32
	ack  uint32 // what of the other direction its sender had got
	acks bool
	cut  int32 // bytes behind it that the capture cut off
	data []byte
}

// maxHeld is how many pieces a direction holds.
const maxHeld = 1024

// recent is the last payload that was given out, to tell a retransmission from
// another text in its place.
type recent struct {
	seq, n     uint32
	head, tail uint64
}

func marks(b []byte) (head, tail uint64) {
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[len(b)-8:])
	}
	for i, c := range b {
		head |= uint64(c) << (8 * i)
	}
	return head, head
}

// segment takes a segment of a connection that is not over.
func (a *Assembler) segment(c *Conn, dir capture.Direction, s *packet.Segment) {
	h := &c.half[dir]
	seq := s.Seq
	if s.Flags&packet.SYN != 0 {
		seq++
		if !h.seen {
			h.seen, h.isn, h.first, h.next, h.top = true, true, s.Seq, seq, seq
		}
	}
	if s.Flags&packet.ACK != 0 {
		a.acknowledge(c, dir.Other(), s)
	}
	if s.Flags&packet.RST != 0 {
		a.lose(capture.LossWindow, s) // what a RST carries is no part of the stream
		a.reset(c, dir, seq)
		return
	}
	if len(s.Payload) > 0 || s.Missing > 0 {
		if !h.seen {
			h.seen, h.next, h.top = true, seq, seq
		}
		if !a.payload(c, dir, seq, s) {
			return
		}
	}
	end := seq + uint32(len(s.Payload)+s.Missing)
	if h.seen && int32(end-h.top) > 0 && int32(end-h.next) < maxAhead {
		h.top = end
	}
	if s.Flags&packet.FIN != 0 && !h.fin {
		if !h.seen {
			h.seen, h.next, h.top = true, end, end
		}
		h.fin, h.end = true, end
	}
	a.settle(c, dir, s.Time)
	a.settle(c, dir.Other(), s.Time)
}

// maxAhead is how far beyond the next byte a segment may begin: the largest window
// that TCP can offer.
const maxAhead = 1 << 30

// payload puts the payload of s in its place; false: it lies outside.
func (a *Assembler) payload(c *Conn, dir capture.Direction, seq uint32, s *packet.Segment) bool {
	h := &c.half[dir]
	if h.closed {
		a.lose(capture.LossRetransmit, s)
		return true
	}
	d := int32(seq - h.next)
	if d >= maxAhead || d <= -maxAhead {
		a.lose(capture.LossWindow, s)
		if c.stray++; c.stray >= maxStray {
			a.finish(c, capture.EndLimit)
		}
		return false
	}
	c.stray = 0
	b := s.Payload
	if d < 0 {
		n := min(int64(-d), int64(len(b)))
		a.repeated(h, seq, b, n)
		if b = b[n:]; len(b) == 0 {
			return true
		}
		seq += uint32(n)
	}
	if seq == h.next && len(h.held) == 0 && !a.waits(c, dir, s.Flags&packet.ACK != 0, s.Ack) {
		a.give(c, dir, s.Time, b)
		if s.Missing > 0 {
			a.skip(c, dir, s.Time, int64(s.Missing), false)
		}
		return true
	}
	a.hold(c, dir, piece{at: s.Time, seq: seq, ack: s.Ack, acks: s.Flags&packet.ACK != 0, cut: int32(s.Missing)}, b)
	return true
}

// repeated counts n bytes that came before.
func (a *Assembler) repeated(h *half, seq uint32, b []byte, n int64) {
	reason := capture.LossRetransmit
	if r := &h.recent; seq == r.seq && uint32(len(b)) == r.n {
		if head, tail := marks(b); head != r.head || tail != r.tail {
			reason = capture.LossOverlap
		}
	}
	a.tally.Add(reason, n)
}

// waits reports whether what the sender had got of the other direction was not seen
// yet: an answer before its question.
func (a *Assembler) waits(c *Conn, dir capture.Direction, acks bool, ack uint32) bool {
	o := &c.half[dir.Other()]
	return acks && o.seen && !o.closed && int32(ack-o.next) > 0 && int32(ack-o.next) < maxAhead && (!o.fin || ack != o.end+1)
}

// give passes on the next bytes.
func (a *Assembler) give(c *Conn, dir capture.Direction, at pipeline.Time, b []byte) {
	h := &c.half[dir]
	head, tail := marks(b)
	h.recent = recent{h.next, uint32(len(b)), head, tail}
	h.next += uint32(len(b))
	a.Counts.Delivered += int64(len(b))
	a.call.Data(c, dir, at, b)
	a.tell(c, dir, at)
}

// tell notes that the user knows of c, and of what it has missed.
func (a *Assembler) tell(c *Conn, dir capture.Direction, at pipeline.Time) {
	if c.list == listHalfOpen {
		a.table.move(c, listActive)
	}
	if c.told {
		return
	}
	c.told = true
	if c.half[dir.Other()].closed {
		a.call.Close(c, dir.Other(), at, capture.EndFIN)
	}
}

// skip passes over n bytes that will not come.
func (a *Assembler) skip(c *Conn, dir capture.Direction, at pipeline.Time, n int64, count bool) {
	h := &c.half[dir]
	h.next += uint32(n)
	if count {
		a.tally.Add(capture.LossGap, n)
	}
	a.call.Gap(c, dir, at, n)
	a.tell(c, dir, at)
}

// hold keeps b until its turn comes. Of bytes that two pieces bring the first win.
func (a *Assembler) hold(c *Conn, dir capture.Direction, p piece, b []byte) {
	h := &c.half[dir]
	i := len(h.held)
	for i > 0 && int32(p.seq-h.held[i-1].seq) < 0 {
		i--
	}
	if i > 0 { // what the piece before it has
		prev := &h.held[i-1]
		if over := int64(int32(prev.seq + uint32(len(prev.data)) - p.seq)); over > 0 {
			n := min(over, int64(len(b)))
			from := len(prev.data) - int(over)
			a.overlap(prev.data[from:from+int(n)], b[:n])
			p.seq, b = p.seq+uint32(n), b[n:]
		}
	}
	var rest []byte
	var restSeq uint32
	if i < len(h.held) && len(b) > 0 { // what the one behind it has
		next := &h.held[i]
		if room := int64(int32(next.seq - p.seq)); room < int64(len(b)) {
			n := min(int64(len(b))-room, int64(len(next.data)))
			a.overlap(next.data[:n], b[room:room+n])
			rest, restSeq, b = b[room+n:], next.seq+uint32(len(next.data)), b[:room]
			p.cut = 0
		}
	}
	if len(b) > 0 {
		if !a.room(c, dir, len(b)) {
			a.tally.Add(capture.LossMemory, int64(len(b)+len(rest)))
			return
		}
		p.data = append(make([]byte, 0, len(b)), b...)
		h.held = append(h.held, piece{})
		copy(h.held[i+1:], h.held[i:])
		h.held[i] = p
		h.bytes += int32(len(b))
		a.Counts.Held += int64(len(b))
	}
	if len(rest) > 0 {
		a.hold(c, dir, piece{at: p.at, seq: restSeq, ack: p.ack, acks: p.acks}, rest)
	}
}

func (a *Assembler) overlap(have, got []byte) {
	if string(have) == string(got) {
		a.tally.Add(capture.LossRetransmit, int64(len(got)))
	} else {
		a.tally.Add(capture.LossOverlap, int64(len(got)))
	}
}

// room makes room for n bytes more; false when there is none.
func (a *Assembler) room(c *Conn, dir capture.Direction, n int) bool {
	h := &c.half[dir]
	return int(h.bytes)+n <= a.cfg.Held && len(h.held) < maxHeld && a.memory.Take(int64(n))
}

// acknowledge notes what the peer of dir has got.
func (a *Assembler) acknowledge(c *Conn, dir capture.Direction, s *packet.Segment) {
	h := &c.half[dir]
	if !h.seen && s.Flags&packet.SYN != 0 {
		h.seen, h.next, h.top = true, s.Ack, s.Ack // its SYN was not captured
	}
	if !h.seen || !h.acks || int32(s.Ack-h.acked) > 0 {
		if d := int32(s.Ack - h.next); !h.seen || d < maxAhead && d > -maxAhead {
			h.acked, h.acks = s.Ack, true
		}
	}
}

// settle gives out what can be, and decides whether missing bytes will come.
func (a *Assembler) settle(c *Conn, dir capture.Direction, now pipeline.Time) {
	h := &c.half[dir]
	for h.seen && !h.closed {
		a.drain(c, dir)
		if h.fin && h.next == h.end {
			h.next++
			a.close(c, dir, capture.EndFIN)
			return
		}
		lost := a.lost(h)
		if lost <= 0 {
			h.missing = false
			if len(h.held) > 0 && now-h.held[0].at > heldFor || int(h.bytes) > a.cfg.Held/2 || len(h.held) > maxHeld/2 {
				a.force(c, dir)
				continue
			}
			return
		}
		if !h.missing {
			h.missing, h.since = true, now
		}
		// The peer has them; and their sender went on, or they had time enough.
		if int32(h.top-h.acked) < 0 && now-h.since <= waitFor {
			return
		}
		a.skip(c, dir, now, lost, true)
		h.missing = false
		// What waited for these bytes in the other direction can go on.
		a.drain(c, dir)
		a.drain(c, dir.Other())
	}
}

// lost is how many bytes, from the next on, the peer has got and nobody saw.
func (a *Assembler) lost(h *half) int64 {
	if !h.acks {
		return 0
	}
	to := h.acked
	if h.fin && int32(to-h.end) > 0 {
		to = h.end
	}
	if len(h.held) > 0 && int32(h.held[0].seq-to) < 0 {
		to = h.held[0].seq
	}
	return int64(int32(to - h.next))
}

// drain gives out the pieces whose turn has come.
func (a *Assembler) drain(c *Conn, dir capture.Direction) {
	h := &c.half[dir]
	for len(h.held) > 0 && !h.closed {
		p := h.held[0]
		d := int64(int32(h.next - p.seq))
		if d < 0 || a.waits(c, dir, p.acks, p.ack) {
			return
		}
		a.pop(h)
		if d >= int64(len(p.data)) {
			a.tally.Add(capture.LossRetransmit, int64(len(p.data)))
			continue
		}
		if d > 0 {
			a.tally.Add(capture.LossRetransmit, d)
		}
		a.give(c, dir, p.at, p.data[d:])
		if p.cut > 0 {
			a.skip(c, dir, p.at, int64(p.cut), false)
		}
	}
}

func (a *Assembler) pop(h *half) {
	n := len(h.held[0].data)
	h.held[0] = piece{}
	h.held = h.held[1:]
	if len(h.held) == 0 {
		h.held = nil
	}
	h.bytes -= int32(n)
	a.Counts.Held -= int64(n)
	a.memory.Take(-int64(n))
}

// force gives out the first piece that waits, over what is missing before it.
func (a *Assembler) force(c *Conn, dir capture.Direction) {
	h, o := &c.half[dir], &c.half[dir.Other()]
	p := h.held[0]
	if n := int64(int32(p.seq - h.next)); n > 0 {
		a.skip(c, dir, p.at, n, true)
	}
	if a.waits(c, dir, p.acks, p.ack) {
		to := p.ack
		if len(o.held) > 0 && int32(o.held[0].seq-to) < 0 {
			to = o.held[0].seq
		}
		if n := int64(int32(to - o.next)); n > 0 {
			a.skip(c, dir.Other(), p.at, n, true)
			return
		}
		// Each waits for the other: no order of both can be right.
		h.held[0].acks = false
	}
}

// flush gives out all that waits.
func (a *Assembler) flush(c *Conn, dir capture.Direction) {
	h := &c.half[dir]
	for !h.closed {
		a.drain(c, dir)
		if len(h.held) == 0 {
			break
		}
		a.force(c, dir)
	}
	if !h.seen || h.closed || !c.told {
		return
	}
	n := a.lost(h)
	if h.fin {
		n = max(n, int64(int32(h.end-h.next)))
	}
	if n > 0 {
		a.skip(c, dir, max(a.now, c.last), n, true)
	}
}

// reset ends a connection if the sequence number of the RST is one that its peer
// would take.
func (a *Assembler) reset(c *Conn, dir capture.Direction, seq uint32) {
	const window = 1 << 20
	h := &c.half[dir]
	if d := int32(seq - h.next); h.seen && (d < -window || d > window) && seq != h.acked {
		a.tally.Add(capture.LossWindow, 0)
		return
	}
	a.finish(c, capture.EndReset)
}
