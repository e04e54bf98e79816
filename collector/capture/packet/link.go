package packet

import (
	"encoding/binary"
	"fmt"
)

// LinkType is a link layer by its number in capture files,
// https://www.tcpdump.org/linktypes.html.
type LinkType uint16

// The link types that are read.
const (
	LinkNull     LinkType = 0
	LinkEthernet LinkType = 1
	LinkPPP      LinkType = 9
	LinkRaw12    LinkType = 12
	LinkRaw14    LinkType = 14
	LinkPPPHDLC  LinkType = 50
	LinkPPPoE    LinkType = 51
	LinkRaw      LinkType = 101
	LinkCHDLC    LinkType = 104
	LinkWLAN     LinkType = 105
	LinkLoop     LinkType = 108
	LinkSLL      LinkType = 113
	LinkRadiotap LinkType = 127
	LinkIPv4     LinkType = 228
	LinkIPv6     LinkType = 229
	LinkNFLog    LinkType = 239
	LinkSLL2     LinkType = 276
)

func (l LinkType) String() string {
	switch l {
	case LinkNull, LinkLoop:
		return "loopback"
	case LinkEthernet:
		return "Ethernet"
	case LinkSLL:
		return "Linux cooked v1"
	case LinkSLL2:
		return "Linux cooked v2"
	case LinkRaw, LinkRaw12, LinkRaw14, LinkIPv4, LinkIPv6:
		return "raw IP"
	}
	return fmt.Sprintf("link type %d", uint16(l))
}

// Ethernet types.
const (
	typeIPv4    = 0x0800
	typeIPv6    = 0x86dd
	typeVLAN    = 0x8100
	typeQinQ    = 0x88a8
	typeQinQOld = 0x9100
	typeQinQAlt = 0x9200
	typeMPLS    = 0x8847
	typeMPLSm   = 0x8848
	typePPPoE   = 0x8864
	typeTEB     = 0x6558 // Ethernet inside GRE, GENEVE
	typeERSPAN2 = 0x88be
	typeERSPAN3 = 0x22eb
	typePPP     = 0x880b
	typeVNTag   = 0x8926
)

// link takes a packet apart from its link layer.
func (d *Decoder) link(b []byte, l LinkType) Kind {
	switch l {
	case LinkEthernet:
		return d.ethernet(b)
	case LinkSLL:
		if len(b) < 16 {
			return d.malformed(b)
		}
		return d.etherType(binary.BigEndian.Uint16(b[14:]), b[16:])
	case LinkSLL2:
		if len(b) < 20 {
			return d.malformed(b)
		}
		return d.etherType(binary.BigEndian.Uint16(b), b[20:])
	case LinkRaw, LinkRaw12, LinkRaw14, LinkIPv4, LinkIPv6:
		return d.ip(b)
	case LinkNull, LinkLoop:
		// The address family is of the machine that captured; what follows tells.
		if len(b) < 4 {
			return d.malformed(b)
		}
		return d.ip(b[4:])
	case LinkPPP, LinkPPPHDLC:
		return d.ppp(b)
	case LinkPPPoE:
		return d.pppoe(b)
	case LinkCHDLC:
		if len(b) < 4 {
			return d.malformed(b)
		}
		return d.etherType(binary.BigEndian.Uint16(b[2:]), b[4:])
	case LinkNFLog:
		return d.nflog(b)
	case LinkWLAN:
		return d.wlan(b)
	case LinkRadiotap:
		if len(b) < 4 || int(binary.LittleEndian.Uint16(b[2:])) > len(b) {
			return d.malformed(b)
		}
		return d.wlan(b[binary.LittleEndian.Uint16(b[2:]):])
	}
	return d.unread(b)
}

func (d *Decoder) ethernet(b []byte) Kind {
	if len(b) < 14 {
		return d.malformed(b)
	}
	t := binary.BigEndian.Uint16(b[12:])
	if t <= 1500 {
		return d.llc(b[14:min(len(b), 14+int(t))])
	}
	return d.etherType(t, b[14:])
}

// llc reads what an 802.3 frame carries: SNAP, or IP as such.
func (d *Decoder) llc(b []byte) Kind {
	switch {
	case len(b) >= 8 && b[0] == 0xaa && b[1] == 0xaa && b[2] == 3:
		return d.etherType(binary.BigEndian.Uint16(b[6:]), b[8:])
	case len(b) >= 3 && b[0] == 6 && b[1] == 6 && b[2] == 3:
		return d.ip(b[3:])
	}
	return d.unread(b)
}

// maxTags is how many VLAN tags or MPLS labels a frame may carry.
const maxTags = 8

func (d *Decoder) etherType(t uint16, b []byte) Kind {
	for range maxTags {
		switch t {
		case typeIPv4, typeIPv6:
			return d.ip(b)
		case typeVLAN, typeQinQ, typeQinQOld, typeQinQAlt:
			if len(b) < 4 {
				return d.malformed(b)
			}
			t, b = binary.BigEndian.Uint16(b[2:]), b[4:]
			if t <= 1500 {
				return d.llc(b[:min(len(b), int(t))])
			}
		case typeVNTag:
			if len(b) < 6 {
				return d.malformed(b)
			}
			t, b = binary.BigEndian.Uint16(b[4:]), b[6:]
		case typeMPLS, typeMPLSm:
			return d.mpls(b)
		case typePPPoE:
			return d.pppoe(b)
		case typePPP:
			return d.ppp(b)
		case typeTEB:
			return d.inner(b, (*Decoder).ethernet)
		default:
			return d.unread(b)
		}
	}
	return d.deep(b)
}

func (d *Decoder) mpls(b []byte) Kind {
	for range maxTags {
		if len(b) < 5 {
			return d.malformed(b)
		}
		bottom := b[2]&1 != 0
		b = b[4:]
		if !bottom {
			continue
		}
		switch b[0] >> 4 {
		case 4, 6:
			return d.ip(b)
		case 0: // a pseudowire's control word
			if len(b) < 18 {
				return d.malformed(b)
			}
			return d.inner(b[4:], (*Decoder).ethernet)
		}
		return d.inner(b, (*Decoder).ethernet)
	}
	return d.deep(b)
}

func (d *Decoder) pppoe(b []byte) Kind {
	if len(b) < 8 || b[0] != 0x11 {
		return d.malformed(b)
	}
	if b[1] != 0 {
		return d.unread(b)
	}
	return d.ppp(b[6:])
}

// ppp reads a PPP frame, with or without HDLC's address and compressed protocol.
func (d *Decoder) ppp(b []byte) Kind {
	if len(b) >= 2 && b[0] == 0xff && b[1] == 3 {
		b = b[2:]
	}
	if len(b) < 2 {
		return d.malformed(b)
	}
	proto := uint16(b[0])
	if b[0]&1 == 0 {
		proto, b = binary.BigEndian.Uint16(b), b[2:]
	} else {
		b = b[1:]
	}
	switch proto {
	case 0x21, 0x57:
		return d.ip(b)
	case 0x281, 0x283:
		return d.mpls(b)
	}
	return d.unread(b)
}

// nflog reads the attributes of Linux' packet log: type 9 is the packet.
func (d *Decoder) nflog(b []byte) Kind {
	if len(b) < 4 {
		return d.malformed(b)
	}
	for b = b[4:]; len(b) >= 4; {
		// They are in the order of the machine that captured; a packet's length
		// tells which that is.
		n, t := int(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:])
		if t&0xff == 0 && t != 0 {
			n, t = int(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint16(b[2:])
		}
		if n < 4 || n > len(b) {
			return d.malformed(b)
		}
		if t&0x7fff == 9 {
			return d.ip(b[4:n])
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return d.unread(b)
}

// wlan reads an 802.11 data frame that is not encrypted.
func (d *Decoder) wlan(b []byte) Kind {
	if len(b) < 24 {
		return d.malformed(b)
	}
	const data, protected, order = 2, 0x40, 0x80
	if b[0]>>2&3 != data || b[1]&protected != 0 || b[0]&0x40 != 0 {
		return d.unread(b) // management, control, sealed, or without a body
	}
	n := 24
	if b[1]&3 == 3 {
		n += 6
	}
	if b[0]&0x80 != 0 { // quality of service
		n += 2
		if b[1]&order != 0 {
			n += 4
		}
	}
	if n > len(b) {
		return d.malformed(b)
	}
	return d.llc(b[n:])
}
