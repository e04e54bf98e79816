package tls

import (
	"crypto/md5" // JA3 is defined with it; nothing is secured by it
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
)

// Transport is what carries a ClientHello, as JA4 writes it.
type Transport byte

// The transports.
const (
	TCP  Transport = 't'
	QUIC Transport = 'q'
)

// JA3 is the MD5, in hex, of the hello's numbers in the order sent, without
// GREASE (github.com/salesforce/ja3).
func (h *ClientHello) JA3() string {
	b := make([]byte, 0, 512)
	b = append(strconv.AppendUint(b, uint64(h.Version), 10), ',')
	b = append(appendDecimal(b, h.Ciphers), ',')
	first := true
	for _, e := range h.Extensions {
		if isGREASE(e) {
			continue
		}
		if !first {
			b = append(b, '-')
		}
		b = strconv.AppendUint(b, uint64(e), 10)
		first = false
	}
	b = append(b, ',')
	b = append(appendDecimal(b, h.Groups), ',')
	for i, p := range h.Points {
		if i > 0 {
			b = append(b, '-')
		}
		b = strconv.AppendUint(b, uint64(p), 10)
	}
	return md5Hex(b)
}

// JA3S is the same of a ServerHello: version, cipher, extensions.
func (h *ServerHello) JA3S() string {
	b := make([]byte, 0, 64)
	b = append(strconv.AppendUint(b, uint64(h.legacy), 10), ',')
	b = append(strconv.AppendUint(b, uint64(h.Cipher), 10), ',')
	for i, e := range h.Extensions {
		if i > 0 {
			b = append(b, '-')
		}
		b = strconv.AppendUint(b, uint64(e), 10)
	}
	return md5Hex(b)
}

func md5Hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

func appendDecimal(dst []byte, l List) []byte {
	first := true
	for i := range l.Len() {
		v := l.At(i)
		if isGREASE(v) {
			continue
		}
		if !first {
			dst = append(dst, '-')
		}
		dst = strconv.AppendUint(dst, uint64(v), 10)
		first = false
	}
	return dst
}

// JA4 is FoxIO's fingerprint of a TLS client (BSD-licensed; the others of its
// family are not, and are not here): transport, version, whether a host name is
// sent, how many ciphers and extensions, the ends of the first ALPN, and hashes
// of the sorted ciphers and of the sorted extensions with the signature
// algorithms.
func (h *ClientHello) JA4(t Transport) string {
	ciphers := make([]uint16, 0, 64)
	for i := range h.Ciphers.Len() {
		if v := h.Ciphers.At(i); !isGREASE(v) {
			ciphers = append(ciphers, v)
		}
	}
	named, count := byte('i'), 0
	exts := make([]uint16, 0, 64)
	for _, e := range h.Extensions {
		if isGREASE(e) {
			continue
		}
		count++
		switch e {
		case extServerName:
			named = 'd'
		case extALPN:
		default:
			exts = append(exts, e)
		}
	}
	slices.Sort(ciphers)
	slices.Sort(exts)

	out := make([]byte, 0, 36)
	out = append(out, byte(t))
	out = append(out, versionCode(h.highest())...)
	out = append(out, named)
	out = appendCount(out, len(ciphers))
	out = appendCount(out, count)
	out = appendALPN(out, h.ALPN)
	out = append(out, '_')
	text := appendHexList(make([]byte, 0, 512), ciphers)
	out = appendHash(out, text)
	out = append(out, '_')
	text = appendHexList(text[:0], exts)
	if len(text) > 0 && h.Signatures.Len() > 0 {
		text = append(text, '_')
		for i := range h.Signatures.Len() {
			// The signature algorithms keep their order and, unlike the rest,
			// their GREASE does not occur.
			if i > 0 {
				text = append(text, ',')
			}
			text = appendHex16(text, h.Signatures.At(i))
		}
	}
	out = appendHash(out, text)
	return string(out)
}

// highest is the version that the client asks for.
func (h *ClientHello) highest() uint16 {
	if h.Versions.Len() == 0 {
		return h.Version
	}
	best := uint16(0)
	for i := range h.Versions.Len() {
		if v := h.Versions.At(i); !isGREASE(v) {
			best = max(best, v)
		}
	}
	return best
}

func versionCode(v uint16) string {
	switch v {
	case versionTLS13:
		return "13"
	case versionTLS12:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

func appendCount(dst []byte, n int) []byte {
	n = min(n, 99)
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

// appendALPN writes the first and the last character of a protocol's name, of
// its hex digits where one of them is neither letter nor digit.
func appendALPN(dst, name []byte) []byte {
	if len(name) == 0 {
		return append(dst, '0', '0')
	}
	first, last := name[0], name[len(name)-1]
	if isAlnum(first) && isAlnum(last) {
		return append(dst, first, last)
	}
	return append(dst, hexDigits[first>>4], hexDigits[last&15])
}

func isAlnum(c byte) bool { return c-'0' < 10 || c|0x20-'a' < 26 }

const hexDigits = "0123456789abcdef"

func appendHex16(dst []byte, v uint16) []byte {
	return append(dst, hexDigits[v>>12], hexDigits[v>>8&15], hexDigits[v>>4&15], hexDigits[v&15])
}

func appendHexList(dst []byte, list []uint16) []byte {
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendHex16(dst, v)
	}
	return dst
}

// appendHash writes the first 12 hex digits of text's SHA-256, zeros for none.
func appendHash(dst, text []byte) []byte {
	if len(text) == 0 {
		return append(dst, "000000000000"...)
	}
	sum := sha256.Sum256(text)
	return hex.AppendEncode(dst, sum[:6])
}
