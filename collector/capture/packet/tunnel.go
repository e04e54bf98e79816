package packet

import "encoding/binary"

// Ports of tunnels over UDP.
const (
	portGTP      = 2152
	portTeredo   = 3544
	portGRE      = 4754
	portVXLAN    = 4789
	portVXLANGPE = 4790
	portAYIYA    = 5072
	portGENEVE   = 6081
	portMPLS     = 6635
	portVXLANOld = 8472 // Linux before the port was assigned
)

// tunnel opens a datagram to a tunnel's port that looks like one.
func (d *Decoder) tunnel(src, dst uint16, b []byte) (Kind, bool) {
	switch dst {
	case portVXLAN, portVXLANOld, portVXLANGPE:
		return d.vxlan(b, dst == portVXLANGPE)
	case portGENEVE:
		return d.geneve(b)
	case portGRE:
		return d.inner(b, (*Decoder).gre), true
	case portMPLS:
		return d.inner(b, (*Decoder).mpls), true
	}
	switch {
	case dst == portGTP || src == portGTP:
		return d.gtp(b)
	case dst == portTeredo || src == portTeredo:
		return d.teredo(b)
	case dst == portAYIYA || src == portAYIYA:
		return d.ayiya(b)
	}
	return d.unusual(b)
}

// typeAruba is the upper half of the GRE types that carry wireless frames.
const typeAruba = 0x82

// unusual opens the tunnels that use other ports, when a datagram can be nothing
// else: VXLAN with all its reserved bits clear around an Ethernet frame of IP, and
// Teredo between its clients.
func (d *Decoder) unusual(b []byte) (Kind, bool) {
	if len(b) >= 60 && b[0]>>4 == 6 && int(binary.BigEndian.Uint16(b[4:])) == len(b)-40 && (isTeredo(b[8:]) || isTeredo(b[24:])) {
		return d.inner(b, (*Decoder).ip), true
	}
	if len(b) < 8+14+20 || b[0] != 8 || b[1]|b[2]|b[3]|b[7] != 0 {
		return None, false
	}
	t, v := binary.BigEndian.Uint16(b[20:]), b[22]>>4
	if t == typeIPv4 && v == 4 && b[22]&0xf >= 5 || t == typeIPv6 && v == 6 {
		return d.vxlan(b, false)
	}
	return None, false
}

// isTeredo tells an address of 2001::/32.
func isTeredo(a []byte) bool { return binary.BigEndian.Uint32(a) == 0x20010000 }

func (d *Decoder) vxlan(b []byte, gpe bool) (Kind, bool) {
	if len(b) < 8 || b[0]&8 == 0 && !gpe {
		return None, false
	}
	d.vni = binary.BigEndian.Uint32(b[4:]) >> 8
	next := byte(3)
	if gpe && b[0]&4 != 0 {
		next = b[3]
	}
	switch next {
	case 1, 2:
		return d.inner(b[8:], (*Decoder).ip), true
	case 5:
		return d.inner(b[8:], (*Decoder).mpls), true
	}
	return d.inner(b[8:], (*Decoder).ethernet), true
}

func (d *Decoder) geneve(b []byte) (Kind, bool) {
	if len(b) < 8 || b[0]>>6 != 0 {
		return None, false
	}
	n := 8 + int(b[0]&0x3f)*4
	if n > len(b) {
		return None, false
	}
	d.vni = binary.BigEndian.Uint32(b[4:]) >> 8
	t := binary.BigEndian.Uint16(b[2:])
	if d.depth++; d.depth > maxDepth {
		return d.deep(b), true
	}
	return d.etherType(t, b[n:]), true
}

// gre opens a GRE packet: IP, Ethernet (also as NVGRE), MPLS, PPP, and ERSPAN I,
// II and III.
func (d *Decoder) gre(b []byte) Kind {
	if len(b) < 4 {
		return d.malformed(b)
	}
	flags, proto := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	n := 4
	if flags&0x8000 != 0 || flags&0x4000 != 0 { // checksum, routing
		n += 4
	}
	if flags&0x2000 != 0 { // key
		if proto == typeTEB && len(b) >= n+4 {
			d.vni = binary.BigEndian.Uint32(b[n:]) >> 8
		}
		n += 4
	}
	sequence := flags&0x1000 != 0
	if sequence {
		n += 4
	}
	if flags&7 == 1 { // PPTP's
		if flags&0x80 != 0 {
			n += 4
		}
		if n >= len(b) {
			return d.unread(b) // an acknowledgement
		}
		return d.ppp(b[n:])
	}
	if n > len(b) || flags&0x4000 != 0 || flags&7 != 0 {
		return d.malformed(b)
	}
	b = b[n:]
	switch proto {
	case typeERSPAN2:
		if !sequence {
			return d.ethernet(b)
		}
		if len(b) < 8 {
			return d.malformed(b)
		}
		d.vni = uint32(binary.BigEndian.Uint16(b[2:]) & 0x3ff)
		return d.ethernet(b[8:])
	case typeERSPAN3:
		if len(b) < 12 {
			return d.malformed(b)
		}
		d.vni = uint32(binary.BigEndian.Uint16(b[2:]) & 0x3ff)
		if n = 12; b[11]&1 != 0 { // a platform's subheader
			n = 20
		}
		if n > len(b) {
			return d.malformed(b)
		}
		return d.ethernet(b[n:])
	case typeTEB:
		return d.ethernet(b)
	}
	if proto>>8 == typeAruba {
		return d.wlan(b)
	}
	return d.etherType(proto, b)
}

// gtp opens a GTP-U message that carries a packet.
func (d *Decoder) gtp(b []byte) (Kind, bool) {
	if len(b) < 8 || b[0]>>5 != 1 || b[0]&0x10 == 0 || b[1] != 0xff {
		return None, false
	}
	n := 8
	if b[0]&7 != 0 {
		if n = 12; len(b) < n {
			return None, false
		}
		for next := b[11]; b[0]&4 != 0 && next != 0; {
			if n >= len(b) || b[n] == 0 || n+int(b[n])*4 > len(b) {
				return None, false
			}
			n += int(b[n]) * 4
			next = b[n-1]
		}
	}
	if n >= len(b) || b[n]>>4 != 4 && b[n]>>4 != 6 {
		return None, false
	}
	return d.inner(b[n:], (*Decoder).ip), true
}

// teredo opens IPv6 over UDP, with its authentication and origin headers.
func (d *Decoder) teredo(b []byte) (Kind, bool) {
	if len(b) >= 4 && b[0] == 0 && b[1] == 1 {
		n := 4 + int(b[2]) + int(b[3]) + 9
		if n > len(b) {
			return None, false
		}
		b = b[n:]
	}
	if len(b) >= 8 && b[0] == 0 && b[1] == 0 {
		b = b[8:]
	}
	if len(b) < 40 || b[0]>>4 != 6 {
		return None, false
	}
	return d.inner(b, (*Decoder).ip), true
}

// ayiya opens a message of "Anything In Anything".
func (d *Decoder) ayiya(b []byte) (Kind, bool) {
	if len(b) < 8 {
		return None, false
	}
	identity, signature := 1<<(b[0]>>4), int(b[1]>>4)*4
	op, next := b[2]>>4&0xf, b[3]
	if b[2]&0xf != 0 {
		op = b[2] & 0xf
	}
	n := 8 + identity + signature
	if op != 1 || n > len(b) || next != protoIPv6 && next != protoIPIP {
		return None, false
	}
	return d.inner(b[n:], (*Decoder).ip), true
}
