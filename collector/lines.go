package collector

import (
	"bytes"
	"io"
)

const (
	// chunkSize is how much of an input is read and parsed at a time.
	chunkSize = 128 << 10
	// lineLimit is the longest line that is parsed, without its end.
	lineLimit = 64 << 10
	// lineSlack is kept of a line that is too long beyond the limit, so that it
	// is still too long without a line end.
	lineSlack = 8
)

// splitter cuts a stream of bytes into chunks of whole lines, whatever pieces
// the stream comes in. What has no newline yet stays behind for the next chunk.
// A line that does not fit a chunk is skipped up to its newline in bounded
// memory: the chunk then holds the beginning of it, which is enough to reject
// it, and nothing else. One goroutine uses a splitter.
type splitter struct {
	src   io.Reader
	limit int // longest line; cap(c.data) must be more than limit+lineSlack+1

	c        *chunk // being filled
	whole    int    // bytes of c.data that are whole lines
	lines    int64  // how many lines these are
	skipping bool   // inside a line that does not fit
	dropped  int64  // bytes of that line that were left out
}

// fill reads until the chunk is worth cutting (nil) or the stream has no more
// bytes for now (io.EOF) or fails. After io.EOF it may be called again.
func (s *splitter) fill() error {
	for idle := 0; ; {
		if s.skipping {
			return s.skip()
		}
		n := len(s.c.data)
		if n == cap(s.c.data) {
			if s.whole > 0 {
				return nil
			}
			s.skipping = true
			s.dropped = int64(n - s.limit - lineSlack)
			s.c.data = s.c.data[:s.limit+lineSlack]
			continue
		}
		m, err := s.src.Read(s.c.data[n:cap(s.c.data)])
		s.c.data = s.c.data[:n+m]
		s.scan(n)
		if err != nil {
			return err
		}
		if m > 0 {
			idle = 0
		} else if idle++; idle == 100 {
			return io.ErrNoProgress
		}
	}
}

// scan counts the lines that end at or behind c.data[from].
func (s *splitter) scan(from int) {
	if i := bytes.LastIndexByte(s.c.data[from:], '\n'); i >= 0 {
		s.lines += int64(bytes.Count(s.c.data[from:from+i+1], newline))
		s.whole = from + i + 1
	}
}

// newline is never written.
var newline = []byte{'\n'}

// skip drops the rest of a line that does not fit; nil means its end is found.
func (s *splitter) skip() error {
	keep := s.limit + lineSlack
	room := s.c.data[keep:cap(s.c.data)]
	for idle := 0; ; {
		n, err := s.src.Read(room)
		if i := bytes.IndexByte(room[:n], '\n'); i >= 0 {
			s.dropped += int64(i)
			s.c.data = s.c.data[:keep+copy(room, room[i:n])]
			s.whole, s.lines, s.skipping = keep+1, 1, false
			return nil // an error that came with these bytes comes again
		}
		s.dropped += int64(n)
		if err != nil {
			return err
		}
		if n > 0 {
			idle = 0
		} else if idle++; idle == 100 {
			return io.ErrNoProgress
		}
	}
}

// read is the position behind the last byte that was read.
func (s *splitter) read() int64 { return s.c.offset + int64(len(s.c.data)) + s.dropped }

// cut takes out the whole lines, for a chunk, and goes on in next, which it
// resets. With final it takes the last line too, though it has no newline. The
// chunk may be empty.
func (s *splitter) cut(next *chunk, final bool) *chunk {
	c := s.c
	n, lines := s.take(final)
	next.reset(c.offset+int64(n)+s.dropped, c.line+lines)
	next.data = append(next.data, c.data[n:]...)
	c.data, c.lines, c.end = c.data[:n], lines, next.offset
	s.c = next
	s.restart()
	return c
}

// cutSmall is cut for a few lines: it copies them to c and stays in its chunk,
// so that little data does not hold much memory.
func (s *splitter) cutSmall(c *chunk, final bool) *chunk {
	n, lines := s.take(final)
	c.reset(s.c.offset, s.c.line)
	c.data = append(c.data, s.c.data[:n]...)
	c.lines, c.end = lines, c.offset+int64(n)+s.dropped
	s.c.offset, s.c.line = c.end, s.c.line+lines
	s.c.data = s.c.data[:copy(s.c.data, s.c.data[n:])]
	s.restart()
	return c
}

// take says what the next cut takes: bytes and lines.
func (s *splitter) take(final bool) (n int, lines int64) {
	switch {
	case s.dropped > 0 && !s.skipping:
		return s.limit + lineSlack + 1, 1 // the line that did not fit, alone
	case final && len(s.c.data) > s.whole:
		return len(s.c.data), s.lines + 1
	}
	return s.whole, s.lines
}

// restart begins a chunk that holds what the last cut left.
func (s *splitter) restart() {
	s.whole, s.lines, s.dropped, s.skipping = 0, 0, 0, false
	s.scan(0)
}

// eachLine calls f with every line of data, without its end ("\n" or "\r\n"),
// and the index behind that end.
func eachLine(data []byte, f func(line []byte, next int) bool) {
	for pos := 0; pos < len(data); {
		line, next := data[pos:], len(data)
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line, next = line[:i], pos+i+1
		}
		if !f(trimCR(line), next) {
			return
		}
		pos = next
	}
}

func trimCR(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}
