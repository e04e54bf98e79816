package quic

const (
	// maxCrypto is the longest hello that is put together.
	maxCrypto = 16 << 10
	// maxSpans is how many pieces with holes between them are held: clients that
	// shuffle their frames on purpose send about a dozen.
	maxSpans = 64
)

// stream is a byte stream out of CRYPTO frames that come in any order.
type stream struct {
	buf   []byte
	spans []span // what has come: sorted, apart from each other
}

type span struct{ from, to int }

// put stores a piece and reports whether there was room for it. The memory that
// it takes more goes to take first.
func (s *stream) put(offset int, data []byte, take func(n int64) bool) bool {
	end := offset + len(data)
	if len(data) == 0 {
		return true
	}
	if end > maxCrypto {
		return false
	}
	if end > cap(s.buf) {
		size := min(max(end, 2*cap(s.buf), 2048), maxCrypto)
		if !take(int64(size - cap(s.buf))) {
			return false
		}
		bigger := make([]byte, len(s.buf), size)
		copy(bigger, s.buf)
		s.buf = bigger
	}
	if !s.mark(offset, end) {
		return false
	}
	if end > len(s.buf) {
		s.buf = s.buf[:end]
	}
	copy(s.buf[offset:], data)
	return true
}

// mark adds a span.
func (s *stream) mark(from, to int) bool {
	i := 0
	for i < len(s.spans) && s.spans[i].to < from {
		i++
	}
	j := i
	for j < len(s.spans) && s.spans[j].from <= to {
		from, to = min(from, s.spans[j].from), max(to, s.spans[j].to)
		j++
	}
	if i < j {
		s.spans[i] = span{from, to}
		s.spans = append(s.spans[:i+1], s.spans[j:]...)
		return true
	}
	if len(s.spans) == maxSpans {
		return false
	}
	s.spans = append(s.spans, span{})
	copy(s.spans[i+1:], s.spans[i:])
	s.spans[i] = span{from, to}
	return true
}

// ready is what has come without a hole.
func (s *stream) ready() []byte {
	if len(s.spans) == 0 || s.spans[0].from > 0 {
		return nil
	}
	return s.buf[:s.spans[0].to]
}

// message returns the first handshake message once it is whole; over tells that
// it never will be, because it is too long.
func (s *stream) message() (typ byte, body []byte, over bool) {
	b := s.ready()
	if len(b) < 4 {
		return 0, nil, false
	}
	n := 4 + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
	if n > maxCrypto {
		return 0, nil, true
	}
	if len(b) < n {
		return 0, nil, false
	}
	return b[0], b[4:n], false
}
