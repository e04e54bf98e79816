package http1

import (
	"bytes"

	"weir/collector/capture"
)

// fields is what a header block says of the message's frame.
type fields struct {
	answer     bool // of a response
	flags      capture.Flags
	lengths    int
	length     int64
	encodings  int
	chunked    bool
	upgrade    bool
	connection bool // Connection names upgrade
	keepAlive  bool
	expect     bool
	odd        bool
}

// read goes through the header lines of b up to the empty one.
func (h *fields) read(m *capture.Message, b []byte) {
	for len(b) > 0 {
		l, rest, bare := line(b)
		if len(l) == 0 {
			break
		}
		if bare {
			h.flags |= capture.OddLine
		}
		folded := false
		for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
			more, r, _ := line(rest)
			if len(bytes.TrimSpace(more)) == 0 {
				break
			}
			l, rest, folded = b[:len(b)-len(r)], r, true
		}
		b = rest
		h.field(m, l, folded)
	}
	h.close(m)
}

func (h *fields) field(m *capture.Message, l []byte, folded bool) {
	i := bytes.IndexByte(l, ':')
	if i <= 0 {
		h.flags |= capture.OddLine
		return
	}
	name, value := l[:i], trim(l[i+1:])
	if c := name[i-1]; c == ' ' || c == '\t' {
		h.flags |= capture.OddLine
		name = trim(name)
	}
	if folded {
		h.flags |= capture.FoldedHeader
		value = bytes.Join(bytes.Fields(value), []byte{' '})
	}
	if h.answer {
		m.Answer(name, value)
	} else {
		m.Header(name, value)
	}
	switch len(name) {
	case 6:
		h.expect = h.expect || fold(name, "expect")
	case 7:
		h.upgrade = h.upgrade || fold(name, "upgrade")
	case 10:
		if fold(name, "connection") {
			h.connection = h.connection || hasWord(value, "upgrade")
			h.keepAlive = h.keepAlive || hasWord(value, "keep-alive")
		}
	case 14:
		if fold(name, "content-length") {
			h.contentLength(value)
		}
	case 17:
		if fold(name, "transfer-encoding") {
			h.encoding(value)
		}
	}
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for n := len(b); n > 0 && (b[n-1] == ' ' || b[n-1] == '\t' || b[n-1] == '\r'); n = len(b) {
		b = b[:n-1]
	}
	return b
}

// fold reports whether name is want, which is in lower case and as long.
func fold(name []byte, want string) bool {
	for i, c := range name {
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != want[i] {
			return false
		}
	}
	return true
}

// hasWord reports whether a list of words holds want.
func hasWord(list []byte, want string) bool {
	for len(list) > 0 {
		part := list
		if i := bytes.IndexByte(list, ','); i >= 0 {
			part, list = list[:i], list[i+1:]
		} else {
			list = nil
		}
		if part = trim(part); len(part) == len(want) && fold(part, want) {
			return true
		}
	}
	return false
}

// contentLength takes a Content-Length, which may be a list of the same.
func (h *fields) contentLength(v []byte) {
	for {
		part := v
		i := bytes.IndexByte(v, ',')
		if i >= 0 {
			part, v = v[:i], v[i+1:]
		}
		n, ok := digits(trim(part))
		switch {
		case !ok:
			h.flags |= capture.BadLength
		case h.lengths > 0:
			h.flags |= capture.ManyLengths
			h.lengths++
		default:
			h.length, h.lengths = n, 1
		}
		if i < 0 {
			return
		}
	}
}

func digits(b []byte) (int64, bool) {
	for len(b) > 18 && b[0] == '0' {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// encoding takes a Transfer-Encoding.
func (h *fields) encoding(v []byte) {
	h.encodings++
	if len(v) == len("chunked") && fold(v, "chunked") && h.encodings == 1 {
		h.chunked = true
		return
	}
	h.flags |= capture.OddEncoding
	last := v
	if i := bytes.LastIndexByte(v, ','); i >= 0 {
		last = v[i+1:]
	}
	if last = trim(last); len(last) == len("chunked") && fold(last, "chunked") {
		h.chunked = true
	}
}

func (h *fields) close(m *capture.Message) {
	if h.lengths > 0 {
		m.Length = h.length
	}
	if h.lengths > 0 && h.encodings > 0 {
		h.flags |= capture.BothLengths
	}
	h.odd = h.flags&capture.BadLength != 0
}
