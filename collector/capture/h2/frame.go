package h2

import (
	"encoding/binary"

	"weir/collector/capture"
	"weir/pipeline"
)

// Preface is what a client begins a connection with (RFC 9113, 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	frameHead = 9
	// usualFrame is the longest frame that is sent unless the peer allows more
	// (RFC 9113, 6.5.2), which hardly anybody does; beyond it, and beyond streams
	// of usualStream, a place where frames begin again is not believed.
	usualFrame  = 16 << 10
	usualStream = 1 << 24
	// maxBlock is the longest header block that is put together from several
	// frames or segments; servers refuse requests beyond 8 KiB to 1 MiB.
	maxBlock = 256 << 10
)

// The types of frames (RFC 9113, 6).
const (
	frameData byte = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePush
	framePing
	frameGoAway
	frameWindow
	frameContinuation
)

const (
	flagEndStream  = 0x01
	flagEndHeaders = 0x04
	flagPadded     = 0x08
	flagPriority   = 0x20
)

// head is the head of a frame.
type head struct {
	size   int
	typ    byte
	flags  byte
	stream uint32
}

func parseHead(b []byte) head {
	return head{
		size:   int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		typ:    b[3],
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1),
	}
}

// plausible tells whether a head obeys the rules for its type as every known
// implementation does: it is for finding frames, not for refusing them.
func (h head) plausible(raw []byte) bool {
	if raw[5]&0x80 != 0 || h.size > usualFrame || h.stream > usualStream {
		return false
	}
	onStream := h.stream&1 == 1
	switch h.typ {
	case frameData:
		return onStream && h.flags&^(flagEndStream|flagPadded) == 0 && (h.size > 0 || h.flags == flagEndStream)
	case frameHeaders:
		return onStream && h.size > 0 && h.flags&^(flagEndStream|flagEndHeaders|flagPadded|flagPriority) == 0
	case frameContinuation:
		return onStream && h.flags&^flagEndHeaders == 0
	case framePriority:
		return onStream && h.size == 5 && h.flags == 0
	case frameReset:
		return onStream && h.size == 4 && h.flags == 0
	case frameSettings:
		return h.stream == 0 && h.flags&^1 == 0 && h.size%6 == 0 && h.size <= 240 && (h.flags == 0 || h.size == 0)
	case framePing:
		return h.stream == 0 && h.size == 8 && h.flags&^1 == 0
	case frameGoAway:
		return h.stream == 0 && h.size >= 8 && h.size < 4096 && h.flags == 0
	case frameWindow:
		return h.size == 4 && h.flags == 0
	}
	return false
}

// Looks reports whether b, the first bytes of a direction, begins HTTP/2. It
// wants as many bytes as there are, at least nine; mid is for connections whose
// beginning was not seen: then two frames in a row count, or one that is a chunk
// by itself.
func Looks(b []byte, dir capture.Direction, mid bool) bool {
	if dir == capture.FromClient && len(b) >= frameHead && string(b[:min(len(b), len(Preface))]) == Preface[:min(len(b), len(Preface))] {
		return true
	}
	if len(b) < frameHead {
		return false
	}
	h := parseHead(b)
	if !h.plausible(b) {
		return false
	}
	if dir == capture.FromServer && !mid {
		return h.typ == frameSettings && h.flags == 0
	}
	return mid && chain(b, nil) > 0
}

// chain returns how many frames in a row b begins with; 0 when that is too
// little to believe it. known, if any, tells of streams that are open.
func chain(b []byte, known func(id uint32) bool) int {
	n := 0
	for len(b) >= frameHead {
		h := parseHead(b)
		if !h.plausible(b) || n == 0 && h.typ == frameContinuation {
			return 0
		}
		n++
		if known != nil && h.stream != 0 && known(h.stream) {
			return n
		}
		if len(b)-frameHead < h.size {
			break
		}
		b = b[frameHead+h.size:]
	}
	if n >= 2 || n == 1 && len(b) == 0 {
		return n
	}
	return 0
}

// half is one direction of a connection.
type half struct {
	hpack   decoder
	raw     [frameHead]byte
	nraw    uint8
	preface uint8 // bytes of the preface still to come
	seeking bool  // out of step with the frames
	lossy   bool  // bytes were missed: streams may be that nobody has seen begin
	closed  bool

	head
	left int  // bytes of the payload still to come
	skip int  // of them, before what counts: pad length, priority, promised id
	pad  int  // of them, behind it
	hurt bool // bytes of the payload are missing

	// A header block that is not yet whole.
	block   []byte
	blockOf head // of the HEADERS or PUSH_PROMISE that began it
	open    bool // CONTINUATION follows
	start   pipeline.Time
	prelude [6]byte // pad length and promised id, as they come
	nprel   uint8

	last uint32 // the highest stream that this side opened
}

// Data takes the next bytes of one direction.
func (p *Parser) Data(dir capture.Direction, at pipeline.Time, b []byte) {
	h := &p.half[dir]
	for len(b) > 0 {
		if h.preface > 0 {
			n := min(int(h.preface), len(b))
			h.preface -= uint8(n)
			b = b[n:]
			continue
		}
		if h.seeking {
			if b = p.seek(h, b); len(b) == 0 {
				return
			}
		}
		if h.left == 0 {
			n := copy(h.raw[h.nraw:], b)
			if h.nraw == 0 {
				h.start = at
			}
			h.nraw += uint8(n)
			b = b[n:]
			if h.nraw < frameHead {
				return
			}
			h.nraw = 0
			p.begin(dir, at)
			continue
		}
		n := min(h.left, len(b))
		p.payload(dir, at, b[:n])
		b = b[n:]
	}
}

// seek looks for a place where frames begin and returns what is from there on.
func (p *Parser) seek(h *half, b []byte) []byte {
	for i := 0; i+frameHead <= len(b); i++ {
		if chain(b[i:], p.known) > 0 {
			p.conf.Tally.Add(capture.LossResync, int64(i))
			h.seeking = false
			return b[i:]
		}
	}
	p.conf.Tally.Add(capture.LossResync, int64(len(b)))
	return nil
}

// begin starts a frame whose head is complete.
func (p *Parser) begin(dir capture.Direction, at pipeline.Time) {
	h := &p.half[dir]
	if p.lingers > 0 {
		p.expire(at)
	}
	f := parseHead(h.raw[:])
	if h.open && f.typ != frameContinuation {
		// The block that was begun never ends.
		p.conf.Tally.Add(capture.LossHPACK, int64(len(h.block)))
		p.dropBlock(h)
		h.hpack.lose()
	}
	if h.lossy && f.typ <= frameContinuation && f.typ != framePush && !f.plausible(h.raw[:]) && !p.known(f.stream) ||
		f.typ > frameContinuation && f.size > usualFrame {
		// Either the place where frames seemed to begin again was none, or this is
		// something else.
		p.conf.Tally.Add(capture.LossFrame, frameHead)
		p.astray(h)
		return
	}
	h.head, h.left, h.skip, h.pad, h.hurt, h.nprel = f, f.size, 0, 0, false, 0
	switch f.typ {
	case frameData, frameHeaders, framePush:
		if f.flags&flagPadded != 0 {
			h.skip = 1
		}
		if f.typ == frameHeaders && f.flags&flagPriority != 0 {
			h.skip += 5
		}
		if f.typ == framePush {
			h.skip += 4
		}
		if h.skip > f.size {
			p.conf.Tally.Add(capture.LossFrame, int64(f.size))
			p.astray(h)
			return
		}
		if f.typ != frameData {
			h.blockOf, h.block = f, h.block[:0]
		}
	case frameContinuation:
		h.hurt = !h.open
	}
	if h.left == 0 {
		p.finish(dir, at)
	}
}

// astray gives up following the frames of a direction until a place is found
// where they begin again.
func (p *Parser) astray(h *half) {
	h.seeking, h.lossy, h.left, h.nraw, h.preface = true, true, 0, 0, 0
	p.dropBlock(h)
	h.hpack.lose()
}

// payload takes bytes of the running frame.
func (p *Parser) payload(dir capture.Direction, at pipeline.Time, b []byte) {
	h := &p.half[dir]
	whole := len(b) == h.size
	h.left -= len(b)
	switch h.typ {
	case frameData, frameHeaders, framePush:
		b = h.strip(b)
		if h.typ == frameData {
			p.data(dir, at, b)
			break
		}
		fallthrough
	case frameContinuation:
		if h.hurt {
			break
		}
		if whole && h.flags&flagEndHeaders != 0 && len(h.block) == 0 {
			p.endBlock(dir, at, b) // the usual case: nothing is copied
			return
		}
		if !p.keep(h, b) {
			h.hurt = true
		}
	case frameReset, frameGoAway:
		// Four bytes: the error, or the last stream that is served.
		h.nprel += uint8(copy(h.prelude[h.nprel:4], b))
	}
	if h.left == 0 {
		p.finish(dir, at)
	}
}

// strip cuts off what does not belong to the content: pad length, priority and
// promised id before it, padding behind it.
func (h *half) strip(b []byte) []byte {
	if h.skip > 0 {
		n := min(h.skip, len(b))
		h.nprel += uint8(copy(h.prelude[h.nprel:], b[:n]))
		h.skip -= n
		b = b[n:]
		if h.skip == 0 && h.flags&flagPadded != 0 {
			h.pad = min(int(h.prelude[0]), h.left+len(b))
		}
	}
	// Of the bytes still to come and these, the last pad ones are padding.
	if over := h.pad - h.left; over > 0 {
		b = b[:max(len(b)-over, 0)]
	}
	return b
}

// keep adds to the header block.
func (p *Parser) keep(h *half, b []byte) bool {
	need := len(h.block) + len(b)
	if need > maxBlock {
		return false
	}
	if need > cap(h.block) {
		size := min(max(need, 2*cap(h.block), 512), maxBlock)
		if !p.conf.Memory.Take(int64(size - cap(h.block))) {
			return false
		}
		fresh := make([]byte, len(h.block), size)
		copy(fresh, h.block)
		h.block = fresh
	}
	h.block = append(h.block, b...)
	return true
}

func (p *Parser) dropBlock(h *half) {
	p.conf.Memory.Take(-int64(cap(h.block)))
	h.block, h.open = nil, false
}

// finish ends the running frame.
func (p *Parser) finish(dir capture.Direction, at pipeline.Time) {
	h := &p.half[dir]
	switch h.typ {
	case frameData:
		if h.flags&flagEndStream != 0 {
			p.endData(dir, at)
		}
	case frameReset:
		if !h.hurt && h.nprel == 4 {
			p.reset(dir, at, h.stream, binary.BigEndian.Uint32(h.prelude[:]))
		}
	case frameGoAway:
		if !h.hurt && h.nprel == 4 {
			p.goAway(dir, binary.BigEndian.Uint32(h.prelude[:])&(1<<31-1))
		}
	case frameHeaders, framePush, frameContinuation:
		switch {
		case h.typ == frameContinuation && !h.open:
			p.conf.Tally.Add(capture.LossFrame, int64(h.size))
		case h.hurt:
			p.lostBlock(dir, at)
		case h.flags&flagEndHeaders != 0:
			p.endBlock(dir, at, h.block)
		default:
			h.open = true
		}
	}
}

// Gap says that n bytes of a direction are missing; n < 0 that nobody knows how
// many.
func (p *Parser) Gap(dir capture.Direction, at pipeline.Time, n int64) {
	h := &p.half[dir]
	h.lossy = true
	inside := !h.seeking && h.preface == 0 && h.left > 0 && n >= 0 && n <= int64(h.left)
	if !inside {
		if !h.seeking {
			p.cut(dir)
		}
		p.astray(h)
		return
	}
	h.left -= int(n)
	h.hurt = true
	if h.typ == frameData {
		p.missed(dir, n)
	}
	if h.left == 0 {
		p.finish(dir, at)
	}
}
