// Package tls reads what a TLS connection says before it is sealed, and what can
// still be told afterwards: the hellos with their fingerprints, and how many
// records of which size went in each direction. With a key log it opens the
// records too.
//
//	hello.go        ClientHello and ServerHello, out of one handshake message
//	fingerprint.go  JA3, JA3S, JA4
//	conn.go         one connection: records, handshake messages, features
//	keylog.go       the secrets of an NSS key log
//	open.go         records opened with them
//
// Everything here is written by strangers: every length is checked, and nothing
// grows past a cap.
package tls

import (
	"encoding/binary"
	"errors"
	"slices"
)

// ErrMalformed is a handshake message whose lengths do not add up.
var ErrMalformed = errors.New("read hello: malformed")

// List is a vector of 16-bit numbers as it is on the wire.
type List []byte

// Len is the count of numbers.
func (l List) Len() int { return len(l) / 2 }

// At is the i-th number.
func (l List) At(i int) uint16 { return binary.BigEndian.Uint16(l[2*i:]) }

// ClientHello is what a client says first. Its slices point into the message it
// was read from.
type ClientHello struct {
	Version    uint16 // legacy_version
	Random     [32]byte
	Ciphers    List
	Groups     List   // supported_groups
	Points     []byte // ec_point_formats
	Signatures List   // signature_algorithms
	Versions   List   // supported_versions
	ALPN       []byte // the first protocol offered
	ServerName []byte // server_name, the first host name

	// Extensions are the types in the order sent.
	Extensions []uint16

	ECH    bool // encrypted_client_hello: ServerName is the outer, public one
	GREASE bool // a reserved value of RFC 8701 among ciphers or extensions
	Resume bool // offers a session or a pre-shared key
}

// ServerHello is the server's answer.
type ServerHello struct {
	Version    uint16 // the version chosen, supported_versions included
	legacy     uint16
	Random     [32]byte
	Cipher     uint16
	ALPN       []byte
	Extensions []uint16
	Retry      bool // a HelloRetryRequest
	PSK        bool // took a pre-shared key: the session is resumed
}

// Numbers of extensions (IANA TLS ExtensionType Values).
const (
	extServerName    = 0
	extGroups        = 10
	extPoints        = 11
	extSignatures    = 13
	extALPN          = 16
	extTicket        = 35
	extPSK           = 41
	extVersions      = 43
	extECH           = 0xfe0d
	maxExtensions    = 256 // clients send 10 to 25
	helloHeader      = 2 + 32
	handshakeHeader  = 4
	typeClientHello  = 1
	typeServerHello  = 2
	typeExtensions   = 8 // EncryptedExtensions
	typeKeyUpdate    = 24
	typeFinished     = 20
	versionTLS13     = 0x0304
	versionTLS12     = 0x0303
	versionDraftBase = 0x7f00
)

// cursor walks over a message; bad sticks.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.bad = true
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u8() int {
	if b := c.take(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (c *cursor) u16() int {
	if b := c.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) vec8() []byte  { return c.take(c.u8()) }
func (c *cursor) vec16() []byte { return c.take(c.u16()) }

// ParseClientHello reads the body of a ClientHello, without the four bytes of
// type and length.
func ParseClientHello(msg []byte) (h ClientHello, err error) {
	c := cursor{b: msg}
	if len(msg) < helloHeader {
		return h, ErrMalformed
	}
	h.Version = uint16(c.u16())
	copy(h.Random[:], c.take(32))
	session := c.vec8()
	ciphers := c.vec16()
	c.vec8() // compression
	if c.bad || len(ciphers)%2 != 0 {
		return h, ErrMalformed
	}
	h.Ciphers = List(ciphers)
	h.Resume = len(session) > 0
	for i := range h.Ciphers.Len() {
		h.GREASE = h.GREASE || isGREASE(h.Ciphers.At(i))
	}
	if len(c.b) == 0 {
		return h, nil // SSL 3.0 and old TLS: no extensions
	}
	exts := cursor{b: c.vec16()}
	if c.bad {
		return h, ErrMalformed
	}
	h.Extensions = make([]uint16, 0, 24)
	for len(exts.b) > 0 {
		typ, body := uint16(exts.u16()), exts.vec16()
		if exts.bad || len(h.Extensions) == maxExtensions {
			return h, ErrMalformed
		}
		h.Extensions = append(h.Extensions, typ)
		h.extension(typ, body)
	}
	return h, nil
}

// extension takes one extension; what is inside one that is malformed is left
// out, as long as the extension itself is framed well: the fingerprints need its
// type alone.
func (h *ClientHello) extension(typ uint16, body []byte) {
	c := cursor{b: body}
	switch typ {
	case extServerName:
		h.ServerName = serverName(body)
	case extGroups:
		h.Groups = evenList(c.vec16())
	case extPoints:
		h.Points = c.vec8()
	case extSignatures:
		h.Signatures = evenList(c.vec16())
	case extALPN:
		names := cursor{b: c.vec16()}
		h.ALPN = names.vec8()
	case extVersions:
		h.Versions = evenList(c.vec8())
		if len(h.Versions) > 0 && !h.hasPSK() {
			// With TLS 1.3 the session id is sent for middleboxes only: what resumes
			// is the pre-shared key.
			h.Resume = false
		}
	case extPSK:
		h.Resume = true
	case extTicket:
		h.Resume = h.Resume || len(body) > 0
	case extECH:
		h.ECH = true
	default:
		h.GREASE = h.GREASE || isGREASE(typ)
	}
}

func (h *ClientHello) hasPSK() bool {
	return slices.Contains(h.Extensions, extPSK)
}

func evenList(b []byte) List { return List(b[:len(b)&^1]) }

func serverName(body []byte) []byte {
	c := cursor{b: body}
	list := cursor{b: c.vec16()}
	for len(list.b) > 0 {
		kind, name := list.u8(), list.vec16()
		if list.bad {
			return nil
		}
		if kind == 0 {
			return name
		}
	}
	return nil
}

// isGREASE tells the reserved values of RFC 8701: 0x0a0a, 0x1a1a, ... 0xfafa.
func isGREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// retryRandom marks a ServerHello as HelloRetryRequest (RFC 8446, 4.1.3).
func retryRandom() [32]byte {
	return [32]byte{
		0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
		0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
	}
}

// ParseServerHello reads the body of a ServerHello.
func ParseServerHello(msg []byte) (h ServerHello, err error) {
	c := cursor{b: msg}
	if len(msg) < helloHeader {
		return h, ErrMalformed
	}
	h.legacy = uint16(c.u16())
	h.Version = h.legacy
	copy(h.Random[:], c.take(32))
	h.Retry = h.Random == retryRandom()
	if h.Version >= versionDraftBase && h.Version < versionDraftBase+23 {
		// Drafts of TLS 1.3 before the 22nd had neither session id nor
		// compression here.
		h.Cipher = uint16(c.u16())
	} else {
		c.vec8() // session id
		h.Cipher = uint16(c.u16())
		c.u8() // compression
	}
	if c.bad {
		return h, ErrMalformed
	}
	if len(c.b) == 0 {
		return h, nil
	}
	exts := cursor{b: c.vec16()}
	if c.bad {
		return h, ErrMalformed
	}
	for len(exts.b) > 0 {
		typ, body := uint16(exts.u16()), exts.vec16()
		if exts.bad || len(h.Extensions) == maxExtensions {
			return h, ErrMalformed
		}
		h.Extensions = append(h.Extensions, typ)
		inner := cursor{b: body}
		switch typ {
		case extVersions:
			if v := inner.u16(); !inner.bad {
				h.Version = uint16(v)
			}
		case extALPN:
			names := cursor{b: inner.vec16()}
			h.ALPN = names.vec8()
		case extPSK:
			h.PSK = true
		}
	}
	return h, nil
}
