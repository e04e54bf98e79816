package packet

import (
	"encoding/binary"

	"weir/collector/capture"
	"weir/pipeline"
)

// IP protocols.
const (
	protoHopByHop = 0
	protoIPIP     = 4
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41
	protoRouting  = 43
	protoFragment = 44
	protoGRE      = 47
	protoAH       = 51
	protoNone     = 59
	protoDstOpts  = 60
	protoMobility = 135
	protoMPLS     = 137
	protoHIP      = 139
	protoShim6    = 140
)

// hop is the network layer around what is being decoded.
type hop struct {
	src, dst pipeline.Address
	short    int // bytes of the payload that were not captured
}

// ip takes an IP packet of either version.
func (d *Decoder) ip(b []byte) Kind {
	if len(b) == 0 {
		return d.malformed(b)
	}
	switch b[0] >> 4 {
	case 4:
		return d.ipv4(b)
	case 6:
		return d.ipv6(b)
	}
	return d.malformed(b)
}

func (d *Decoder) ipv4(b []byte) Kind {
	if len(b) < 20 {
		return d.malformed(b)
	}
	head := int(b[0]&0xf) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		total = len(b) + max(d.cut, 0) // segmentation offload
	}
	if head < 20 || head > len(b) || total < head {
		return d.malformed(b)
	}
	var h hop
	put4(&h.src, b[12:])
	put4(&h.dst, b[16:])
	payload := b[head:min(len(b), total)]
	h.short = total - head - len(payload)
	frag := binary.BigEndian.Uint16(b[6:])
	if frag&0x3fff == 0 {
		return d.transport(b[9], payload, h)
	}
	key := fragKey{src: h.src, dst: h.dst, id: uint32(binary.BigEndian.Uint16(b[4:])), proto: b[9], v4: true}
	return d.fragment(key, b[9], int(frag&0x1fff)*8, frag&0x2000 != 0, payload, h)
}

func put4(a *pipeline.Address, b []byte) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
}

func (d *Decoder) ipv6(b []byte) Kind {
	if len(b) < 40 {
		return d.malformed(b)
	}
	total := int(binary.BigEndian.Uint16(b[4:]))
	var h hop
	copy(h.src[:], b[8:24])
	copy(h.dst[:], b[24:40])
	next, rest := b[6], b[40:]
	if total == 0 && next != protoHopByHop {
		total = len(rest) + max(d.cut, 0)
	}
	if total > 0 {
		h.short = max(0, total-len(rest))
		rest = rest[:min(len(rest), total)]
	}
	return d.extensions(next, rest, h)
}

// extensions walks the headers behind an IPv6 header.
func (d *Decoder) extensions(next uint8, b []byte, h hop) Kind {
	for range 16 {
		var n int
		switch next {
		case protoHopByHop, protoRouting, protoDstOpts, protoMobility, protoHIP, protoShim6:
			if len(b) < 8 {
				return d.malformed(b)
			}
			n = int(b[1])*8 + 8
		case protoAH:
			if len(b) < 8 {
				return d.malformed(b)
			}
			n = int(b[1])*4 + 8
		case protoFragment:
			if len(b) < 8 {
				return d.malformed(b)
			}
			at := binary.BigEndian.Uint16(b[2:])
			if at&^6 == 0 { // an atomic fragment
				next, b = b[0], b[8:]
				continue
			}
			key := fragKey{src: h.src, dst: h.dst, id: binary.BigEndian.Uint32(b[4:])}
			return d.fragment(key, b[0], int(at&^7), at&1 != 0, b[8:], h)
		default:
			return d.transport(next, b, h)
		}
		if n > len(b) {
			return d.malformed(b)
		}
		next, b = b[0], b[n:]
	}
	return d.deep(b)
}

// fragment holds a part of a datagram, and decodes the datagram once it is whole.
func (d *Decoder) fragment(key fragKey, proto uint8, at int, more bool, b []byte, h hop) Kind {
	if h.short > 0 {
		return d.lose(capture.LossFragment, b) // cut off by the capture: it will never be whole
	}
	key.vni = d.vni
	whole, proto, ok := d.frags.add(key, proto, at, more, b, d.at)
	if !ok {
		return None
	}
	if whole == nil {
		return Fragment
	}
	d.cut = 0
	if key.v4 {
		return d.transport(proto, whole, h)
	}
	return d.extensions(proto, whole, h)
}

func (d *Decoder) transport(proto uint8, b []byte, h hop) Kind {
	switch proto {
	case protoTCP:
		return d.tcp(b, h)
	case protoUDP:
		return d.udp(b, h)
	case protoIPIP, protoIPv6:
		return d.inner(b, (*Decoder).ip)
	case protoGRE:
		return d.inner(b, (*Decoder).gre)
	case protoMPLS:
		return d.inner(b, (*Decoder).mpls)
	case protoAH:
		if len(b) < 8 || int(b[1])*4+8 > len(b) {
			return d.malformed(b)
		}
		return d.extensions(b[0], b[int(b[1])*4+8:], h)
	}
	return d.lose(capture.LossProtocol, b)
}

func (d *Decoder) tcp(b []byte, h hop) Kind {
	if len(b) < 20 {
		return d.malformed(b)
	}
	head := int(b[12]>>4) * 4
	if head < 20 || head > len(b)+h.short {
		return d.malformed(b)
	}
	if head > len(b) {
		head, h.short = len(b), h.short-(head-len(b))
	}
	s := &d.Segment
	s.Time, s.Src, s.Dst, s.VNI = d.at, h.src, h.dst, d.vni
	s.SrcPort, s.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	s.Seq, s.Ack, s.Flags = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), b[13]
	s.Payload, s.Missing = b[head:], h.short
	return TCP
}

func (d *Decoder) udp(b []byte, h hop) Kind {
	if len(b) < 8 {
		return d.malformed(b)
	}
	src, dst := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	payload := b[8:]
	if n := int(binary.BigEndian.Uint16(b[4:])); n >= 8 && n-8 < len(payload) {
		payload = payload[:n-8]
	}
	if k, ok := d.tunnel(src, dst, payload); ok {
		return k
	}
	d.Datagram = Datagram{Time: d.at, Src: h.src, Dst: h.dst, SrcPort: src, DstPort: dst, VNI: d.vni, Payload: payload}
	return UDP
}
