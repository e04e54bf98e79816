package packet

import (
	"encoding/binary"
	"errors"
	"io"

	"weir/pipeline"
)

// Blocks of pcapng, https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6
	blockSecrets   = 10
)

// face is an interface of a section.
type face struct {
	link   LinkType
	snap   uint32
	units  uint64 // of its stamps, a second
	offset int64  // seconds
}

const (
	maxBlock = MaxPacket + 1<<16
	maxFaces = 1 << 12
)

// nextBlock reads blocks up to the next packet.
func (f *File) nextBlock(p *Packet) error {
	for {
		b, err := f.in.peek(12)
		if len(b) < 12 {
			return f.ends(b, err)
		}
		kind := f.u32(b)
		if kind == blockSection {
			switch string(b[8:12]) {
			case "\x1a\x2b\x3c\x4d":
				f.big = true
			case "\x4d\x3c\x2b\x1a":
				f.big = false
			default:
				if err := f.resyncBlock(); err != nil {
					return err
				}
				continue
			}
		}
		n := int64(f.u32(b[4:]))
		if kind != blockSection && kind != blockInterface && kind != blockPacket && kind != blockSimple && kind != blockEnhanced && n > maxBlock && n%4 == 0 {
			if err := f.leave(n); err != nil { // a long block of another kind
				return err
			}
			continue
		}
		if n < 12 || n%4 != 0 || n > maxBlock {
			if err := f.resyncBlock(); err != nil {
				return err
			}
			continue
		}
		b, err = f.in.peek(int(n))
		if int64(len(b)) < n {
			return f.ends(b, err)
		}
		if int64(f.u32(b[n-4:])) != n {
			if err := f.resyncBlock(); err != nil {
				return err
			}
			continue
		}
		f.in.skip(int(n))
		if f.block(p, kind, b[8:n-4]) {
			return nil
		}
	}
}

// leave skips a block that is not looked into.
func (f *File) leave(n int64) error {
	for n > 0 {
		b, err := f.in.peek(int(min(n, 64<<10)))
		if len(b) == 0 {
			return f.ends(b, err)
		}
		f.in.skip(len(b))
		n -= int64(len(b))
	}
	return nil
}

// block takes the body of a block; true when it is a packet.
func (f *File) block(p *Packet, kind uint32, b []byte) bool {
	switch kind {
	case blockSection:
		f.faces = f.faces[:0]
	case blockInterface:
		if len(b) >= 8 && len(f.faces) < maxFaces {
			f.faces = append(f.faces, f.face(b))
		}
	case blockEnhanced, blockPacket:
		return f.packet(p, kind, b)
	case blockSimple:
		if len(b) < 4 || len(f.faces) == 0 {
			f.damage(int64(len(b)))
			return false
		}
		wire, in := f.u32(b), &f.faces[0]
		n := len(b) - 4
		if int64(wire) < int64(n) {
			n = int(wire)
		}
		if in.snap > 0 && int64(n) > int64(in.snap) {
			n = int(in.snap)
		}
		*p = Packet{Time: pipeline.NoTime, Data: b[4 : 4+n], Wire: max(int(wire), n), Link: in.link}
		return true
	case blockSecrets:
		if f.Secrets != nil && len(b) >= 8 {
			if n := int64(f.u32(b[4:])); n <= int64(len(b)-8) {
				f.Secrets(f.u32(b), b[8:8+n])
			}
		}
	}
	return false
}

// packet takes an Enhanced Packet Block or its predecessor.
func (f *File) packet(p *Packet, kind uint32, b []byte) bool {
	if len(b) < 20 {
		f.damage(int64(len(b)))
		return false
	}
	id := f.u32(b)
	if kind == blockPacket {
		id = uint32(f.u16(b))
	}
	n, wire := f.u32(b[12:]), f.u32(b[16:])
	if int64(id) >= int64(len(f.faces)) || int64(n) > int64(len(b)-20) {
		f.damage(int64(len(b)))
		return false
	}
	in := &f.faces[id]
	stamp := uint64(f.u32(b[4:]))<<32 | uint64(f.u32(b[8:]))
	*p = Packet{Time: in.time(stamp), Data: b[20 : 20+n], Wire: max(int(wire), int(n)), Link: in.link}
	return true
}

// time turns a stamp into microseconds.
func (in *face) time(stamp uint64) pipeline.Time {
	sec, rest := stamp/in.units, stamp%in.units
	var us uint64
	switch {
	case in.units == 1e6:
		us = rest
	case in.units < 1<<43:
		us = rest * 1e6 / in.units
	default:
		us = uint64(float64(rest) / float64(in.units) * 1e6)
	}
	return pipeline.Time((int64(min(sec, 1<<40))+in.offset)*1e6 + int64(us))
}

// Options of an interface.
const (
	optionEnd    = 0
	optionUnits  = 9  // if_tsresol
	optionOffset = 14 // if_tsoffset
)

func (f *File) face(b []byte) face {
	in := face{link: LinkType(f.u16(b)), snap: f.u32(b[4:]), units: 1e6}
	for b = b[8:]; len(b) >= 4; {
		code, n := f.u16(b), int(f.u16(b[2:]))
		b = b[4:]
		if code == optionEnd || n > len(b) {
			break
		}
		switch {
		case code == optionUnits && n >= 1:
			in.units = units(b[0])
		case code == optionOffset && n >= 8:
			var v uint64
			if f.big {
				v = binary.BigEndian.Uint64(b)
			} else {
				v = binary.LittleEndian.Uint64(b)
			}
			if off := int64(v); off > -1<<40 && off < 1<<40 {
				in.offset = off
			}
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return in
}

// units is how many parts of a second if_tsresol means.
func units(resolution byte) uint64 {
	n := resolution & 0x7f
	if resolution&0x80 != 0 {
		return 1 << min(n, 63)
	}
	u := uint64(1)
	for range min(n, 19) {
		u *= 10
	}
	return u
}

// resyncBlock skips bytes, from behind the next, until something looks like a
// block.
func (f *File) resyncBlock() error {
	skipped := int64(0)
	defer func() { f.damage(skipped) }()
	step := 4
	for {
		b, err := f.in.peek(maxBlock + 64)
		if len(b) < 12+step {
			skipped += int64(len(b))
			f.in.skip(len(b))
			if err == nil || errors.Is(err, io.EOF) {
				err = io.EOF
			}
			return err
		}
		limit := min(len(b)-12, 1<<16)
		for i := step; i <= limit; i++ {
			if f.looksLikeBlock(b[i:]) {
				f.in.skip(i)
				skipped += int64(i)
				return nil
			}
		}
		f.in.skip(limit)
		skipped += int64(limit)
		step = 1
	}
}

func (f *File) looksLikeBlock(b []byte) bool {
	kind, n := f.u32(b), int64(f.u32(b[4:]))
	if kind == blockSection {
		return string(b[8:12]) == "\x1a\x2b\x3c\x4d" || string(b[8:12]) == "\x4d\x3c\x2b\x1a"
	}
	if kind == 0 || kind > 16 || n < 12 || n > maxBlock || n%4 != 0 || n > int64(len(b)) {
		return false
	}
	return int64(f.u32(b[n-4:])) == n
}
