// Package quic reads what a QUIC connection says before it is sealed: the hellos
// inside the Initial packets of versions 1 and 2. Their keys follow from what the
// first packet carries in clear (RFC 9001, 5.2; RFC 9369), so anybody on the path
// can open them; nothing behind them is readable.
//
//	packet.go  Initial packets: keys, protection, frames
//	crypto.go  CRYPTO frames in any order to a byte stream
//	table.go   the connections that are open, by their addresses
package quic

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"

	"weir/collector/capture"
	"weir/collector/capture/tls"
)

// The versions that are read.
const (
	Version1 uint32 = 1
	Version2 uint32 = 0x6b3343cf
)

const (
	maxID = 20 // bytes of a connection id (RFC 9000, 17.2)
	// minInitial is the least size of a datagram that a client opens a connection
	// with (RFC 9000, 14.1).
	minInitial = 1200
	sample     = 16 // bytes that header protection is computed from
	tagLen     = 16
)

// Looks reports whether a datagram begins with a long header of a version that
// is read.
func Looks(b []byte) bool {
	if len(b) < 7 || b[0]&0xc0 != 0xc0 || b[5] > maxID {
		return false
	}
	v := binary.BigEndian.Uint32(b[1:])
	return v == Version1 || v == Version2
}

// kind is the type of a long-header packet, whatever number its version gives it.
type kind uint8

const (
	kindInitial kind = iota
	kindEarly
	kindHandshake
	kindRetry
)

// packet is one long-header packet inside a datagram.
type packet struct {
	version uint32
	kind    kind
	dcid    []byte
	whole   []byte // the packet, from its first byte to its last
	pn      int    // where the packet number begins in whole
}

// next cuts the first long-header packet off a datagram; ok is false when there
// is none that can be read.
func next(b []byte) (p packet, rest []byte, ok bool) {
	if !Looks(b) {
		return p, nil, false
	}
	p.version = binary.BigEndian.Uint32(b[1:])
	p.kind = kind(b[0] >> 4 & 3)
	if p.version == Version2 {
		p.kind = (p.kind + 3) & 3 // its types are rotated by one
	}
	c := reader{b: b[5:]}
	p.dcid = c.take(c.u8())
	scid := c.take(c.u8())
	if p.kind == kindRetry || len(p.dcid) > maxID || len(scid) > maxID {
		return p, nil, !c.bad && p.kind == kindRetry
	}
	if p.kind == kindInitial {
		c.take(c.varint()) // token
	}
	n := c.varint()
	p.pn = len(b) - len(c.b)
	c.take(n)
	if c.bad {
		return p, nil, false
	}
	p.whole = b[:p.pn+n]
	return p, c.b, true
}

// reader walks over a packet; bad sticks.
type reader struct {
	b   []byte
	bad bool
}

func (c *reader) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.b) {
		c.bad = true
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *reader) u8() int {
	if b := c.take(1); b != nil {
		return int(b[0])
	}
	return 0
}

// varint reads a variable-length integer (RFC 9000, 16). What no datagram and no
// buffer here can hold is bad.
func (c *reader) varint() int {
	if c.bad || len(c.b) == 0 {
		c.bad = true
		return 0
	}
	n := 1 << (c.b[0] >> 6)
	b := c.take(n)
	if c.bad {
		return 0
	}
	v := uint64(b[0] & 0x3f)
	for _, x := range b[1:] {
		v = v<<8 | uint64(x)
	}
	if v > 1<<31-1 {
		c.bad = true
		return 0
	}
	return int(v)
}

// keys open the Initial packets of one side.
type keys struct {
	aead cipher.AEAD
	mask cipher.Block // of the header protection
	iv   [12]byte
}

// salt and the labels of a version (RFC 9001, 5.2; RFC 9369, 3.3).
func salt(version uint32) []byte {
	if version == Version2 {
		return []byte{
			0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93,
			0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
		}
	}
	return []byte{
		0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
		0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
	}
}

// material is what the keys of one side are made of.
type material struct{ key, iv, hp []byte }

// derive returns the material of a side, the client (0) or the server (1), from the
// destination connection id of the client's first packet.
func derive(version uint32, dcid []byte, side capture.Direction) (m material, err error) {
	root, err := hkdf.Extract(sha256.New, dcid, salt(version))
	if err != nil {
		return m, err
	}
	prefix := "quic "
	if version == Version2 {
		prefix = "quicv2 "
	}
	label := "client in"
	if side == capture.FromServer {
		label = "server in"
	}
	secret := tls.ExpandLabel(sha256.New, root, label, sha256.Size)
	return material{
		key: tls.ExpandLabel(sha256.New, secret, prefix+"key", 16),
		iv:  tls.ExpandLabel(sha256.New, secret, prefix+"iv", 12),
		hp:  tls.ExpandLabel(sha256.New, secret, prefix+"hp", 16),
	}, nil
}

// initialKeys returns the keys of a side, see derive; they open nothing when they
// cannot be made.
func initialKeys(version uint32, dcid []byte, side capture.Direction) (k keys) {
	m, err := derive(version, dcid, side)
	if err != nil {
		return keys{}
	}
	block, err := aes.NewCipher(m.key)
	if err != nil {
		return keys{}
	}
	if k.mask, err = aes.NewCipher(m.hp); err != nil {
		return keys{}
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return keys{}
	}
	copy(k.iv[:], m.iv)
	return k
}

// open removes the protection of an Initial packet. It works in scratch, which
// it returns grown; plain points into it.
func (k *keys) open(p packet, scratch []byte) (plain, grown []byte, ok bool) {
	if k.aead == nil || len(p.whole) < p.pn+4+sample {
		return nil, scratch, false
	}
	scratch = append(scratch[:0], p.whole...)
	var mask [aes.BlockSize]byte
	k.mask.Encrypt(mask[:], scratch[p.pn+4:p.pn+4+sample])
	scratch[0] ^= mask[0] & 0x0f
	n := int(scratch[0]&3) + 1
	var number uint64
	for i := range n {
		scratch[p.pn+i] ^= mask[1+i]
		number = number<<8 | uint64(scratch[p.pn+i])
	}
	// An opening takes a few packets: their numbers are never cut short.
	nonce := k.iv
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^number)
	body := scratch[p.pn+n:]
	plain, err := k.aead.Open(body[:0], nonce[:], body, scratch[:p.pn+n])
	return plain, scratch, err == nil
}

// Frames that an Initial packet may carry (RFC 9000, 12.4).
const (
	framePadding = 0
	framePing    = 1
	frameAck     = 2
	frameAckECN  = 3
	frameCrypto  = 6
)

// frames calls each for every CRYPTO frame and reports whether all frames could
// be read. A CONNECTION_CLOSE ends the walk.
func frames(plain []byte, each func(offset int, data []byte)) bool {
	c := reader{b: plain}
	for len(c.b) > 0 && !c.bad {
		switch c.varint() {
		case framePadding, framePing:
		case frameAck:
			c.ack(false)
		case frameAckECN:
			c.ack(true)
		case frameCrypto:
			offset := c.varint()
			data := c.take(c.varint())
			if !c.bad {
				each(offset, data)
			}
		case 0x1c:
			return true
		default:
			return false
		}
	}
	return !c.bad
}

func (c *reader) ack(ecn bool) {
	c.varint() // largest
	c.varint() // delay
	ranges := c.varint()
	c.varint() // first range
	for i := 0; i < ranges && !c.bad; i++ {
		c.varint()
		c.varint()
	}
	if ecn {
		c.varint()
		c.varint()
		c.varint()
	}
}
