package collector

import (
	"bytes"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// str views b as a string; it lives as long as b's bytes do not change.
func str(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// view is str the other way round; nobody writes to what it returns.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// text returns the value b as logged, with its escapes undone when it has any,
// and "" when it is absent.
func (f *Fields) text(b []byte, escaped bool) string {
	if len(b) == 0 || (len(b) == 1 && b[0] == '-') {
		return ""
	}
	if !escaped || bytes.IndexByte(b, '\\') < 0 {
		return str(b)
	}
	from := len(f.Scratch)
	f.Scratch = appendUnescaped(f.Scratch, b)
	return str(f.Scratch[from:len(f.Scratch):len(f.Scratch)])
}

// lower returns s in lower case.
func (f *Fields) lower(s string) string {
	for i := range len(s) {
		if s[i]-'A' < 26 {
			from := len(f.Scratch)
			for _, c := range []byte(s) {
				if c-'A' < 26 {
					c += 'a' - 'A'
				}
				f.Scratch = append(f.Scratch, c)
			}
			return str(f.Scratch[from:len(f.Scratch):len(f.Scratch)])
		}
	}
	return s
}

// decoded returns s with the bytes that were written as mark and two hexadecimal
// digits put back; what must not be raw stays written as \xhh.
func (f *Fields) decoded(s string, mark byte) string {
	if strings.IndexByte(s, mark) < 0 {
		return s
	}
	from := len(f.Scratch)
	for keepHigh := false; ; keepHigh = true {
		for i := 0; i < len(s); i++ {
			v, ok := rune(0), false
			if s[i] == mark {
				v, ok = hex(view(s[i+1:]), 2)
			}
			switch {
			case !ok:
				f.Scratch = append(f.Scratch, s[i])
				continue
			case v >= 0x80 && !keepHigh:
				f.Scratch = append(f.Scratch, byte(v))
			case v >= 0x80:
				f.Scratch = appendHex(f.Scratch, byte(v))
			default:
				f.Scratch = appendSafe(f.Scratch, byte(v))
			}
			i += 2
		}
		if keepHigh || utf8.Valid(f.Scratch[from:]) {
			return str(f.Scratch[from:len(f.Scratch):len(f.Scratch)])
		}
		f.Scratch = f.Scratch[:from]
	}
}

// appendUnescaped appends b with the escapes of nginx, Apache and JSON undone.
// What must not reach a terminal or a table raw (control characters, bytes that
// do not form UTF-8) is written as \xhh instead.
func appendUnescaped(dst, b []byte) []byte {
	from := len(dst)
	dst, high := unescape(dst, b, false)
	if high && !utf8.Valid(dst[from:]) {
		dst, _ = unescape(dst[:from], b, true)
	}
	return dst
}

// unescape does the work; high tells whether a byte above ASCII came from a
// \xHH escape, and with keepHigh those stay escaped.
func unescape(dst, b []byte, keepHigh bool) (_ []byte, high bool) {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 || i+1 == len(b) {
			return append(dst, b...), high
		}
		dst = append(dst, b[:i]...)
		c := b[i+1]
		b = b[i+2:]
		switch c {
		case 'x':
			v, ok := hex(b, 2)
			if !ok {
				dst = append(dst, '\\', 'x')
				continue
			}
			b = b[2:]
			if v < 0x80 {
				dst = appendSafe(dst, byte(v))
				continue
			}
			high = true
			if keepHigh {
				dst = appendHex(dst, byte(v))
			} else {
				dst = append(dst, byte(v))
			}
		case 'u':
			v, ok := hex(b, 4)
			if !ok {
				dst = append(dst, '\\', 'u')
				continue
			}
			b = b[4:]
			if v < 0x80 {
				dst = appendSafe(dst, byte(v))
				continue
			}
			if v >= 0xd800 && v < 0xdc00 && len(b) >= 6 && b[0] == '\\' && b[1] == 'u' {
				if low, ok := hex(b[2:], 4); ok && low >= 0xdc00 && low < 0xe000 {
					v = 0x10000 + (v-0xd800)<<10 + (low - 0xdc00)
					b = b[6:]
				}
			}
			dst = utf8.AppendRune(dst, v)
		case 'b':
			dst = appendHex(dst, '\b')
		case 'f':
			dst = appendHex(dst, '\f')
		case 'n':
			dst = appendHex(dst, '\n')
		case 'r':
			dst = appendHex(dst, '\r')
		case 't':
			dst = appendHex(dst, '\t')
		case 'v':
			dst = appendHex(dst, '\v')
		case '"', '\\', '/', '\'':
			dst = append(dst, c)
		default: // no escape that a log writer makes: as it stands
			dst = append(dst, '\\', c)
		}
	}
}

// appendSafe appends an ASCII byte, control characters as \xhh.
func appendSafe(dst []byte, c byte) []byte {
	if c < 0x20 || c == 0x7f {
		return appendHex(dst, c)
	}
	return append(dst, c)
}

func appendHex(dst []byte, c byte) []byte {
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'x', digits[c>>4], digits[c&15])
}

// hex reads n hexadecimal digits at the start of b.
func hex(b []byte, n int) (v rune, ok bool) {
	if len(b) < n {
		return 0, false
	}
	for _, c := range b[:n] {
		switch {
		case c-'0' < 10:
			c -= '0'
		case c|0x20-'a' < 6:
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		v = v<<4 | rune(c)
	}
	return v, true
}

// endQuote returns the index in b of the first '"' at or after from that no
// backslash escapes, or -1.
func endQuote(b []byte, from int) int {
	for i := from; i < len(b); {
		j := bytes.IndexByte(b[i:], '"')
		if j < 0 {
			return -1
		}
		i += j
		n := 0
		for k := i - 1; k >= from && b[k] == '\\'; k-- {
			n++
		}
		if n&1 == 0 {
			return i
		}
		i++
	}
	return -1
}

// appendPlain appends the text that the inside of a JSON string stands for, control
// characters and all: a log line inside has escapes of its own, which must stay.
func appendPlain(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 || i+1 == len(b) {
			return append(dst, b...)
		}
		dst = append(dst, b[:i]...)
		c := b[i+1]
		b = b[i+2:]
		switch c {
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'u':
			r, n := jsonRune(b)
			if n == 0 {
				dst = append(dst, '\\', 'u')
				continue
			}
			dst, b = utf8.AppendRune(dst, r), b[n:]
		default:
			dst = append(dst, c)
		}
	}
}

// jsonRune reads what follows \u, two halves where the first is one, and how
// long it is, 0 where it is no number.
func jsonRune(b []byte) (r rune, n int) {
	v, ok := hex(b, 4)
	if !ok {
		return utf8.RuneError, 0
	}
	r = v
	if utf16.IsSurrogate(r) && len(b) >= 10 && b[4] == '\\' && b[5] == 'u' {
		if low, ok := hex(b[6:], 4); ok {
			if full := utf16.DecodeRune(r, low); full != utf8.RuneError {
				return full, 10
			}
		}
	}
	return r, 4
}
