package pipeline

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unsafe"
)

// Most text of most requests holds nothing but letters, digits and the marks of
// an ordinary address. Eight bytes at a time tell so, and spare the rest.

const (
	eachByte = 0x0101010101010101
	highBits = 0x80 * eachByte
)

// within sets the high bit of each byte of x that is between lo and hi. It says
// nothing where x has a high bit set.
func within(x uint64, lo, hi byte) uint64 {
	return (x + uint64(0x80-lo)*eachByte) &^ (x + uint64(0x7f-hi)*eachByte) & highBits
}

// plainReferer reports a referer without a character of any payload.
func plainReferer(s string) bool {
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	if len(b) < 8 {
		return s == "" || s == "-"
	}
	all, high := uint64(highBits), uint64(0)
	for i := 0; ; i += 8 {
		i = min(i, len(b)-8)
		x := binary.LittleEndian.Uint64(b[i:])
		high |= x
		all &= within(x|0x20*eachByte, 'a', 'z') | within(x, '-', ':') | within(x, '_', '_')
		if i == len(b)-8 {
			return all == highBits && high&highBits == 0
		}
	}
}

// plainPath reports a path without a character of any payload that is not
// oddPath either.
func plainPath(s string) bool {
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	if len(b) < 8 {
		for i := range b {
			if c := b[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '/' || c > '9') && c != '_' {
				return false
			}
		}
		return true
	}
	all, high := uint64(highBits), uint64(0)
	for i := 0; ; i += 8 {
		i = min(i, len(b)-8)
		x := binary.LittleEndian.Uint64(b[i:])
		high |= x
		all &= within(x|0x20*eachByte, 'a', 'z') | within(x, '-', '9') | within(x, '_', '_')
		for m := within(x, '-', '.'); m != 0; m &= m - 1 {
			if oddAt(s, i+bits.TrailingZeros64(m)/8) {
				return false
			}
		}
		if i == len(b)-8 {
			return all == highBits && high&highBits == 0
		}
	}
}

// oddAt reports whether the dot or hyphen at i makes a path odd: dots that
// climb, a repository, an infinite number.
func oddAt(s string, i int) bool {
	if s[i] == '-' {
		return strings.HasPrefix(s[i:], "-inf") || strings.HasPrefix(s[i:], "-INF")
	}
	return i+1 < len(s) && s[i+1] == '.' || i > 0 && s[i-1] == '/' && strings.HasPrefix(s[i:], ".git")
}
