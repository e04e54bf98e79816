package collector

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// segment is one generation of a followed file: the bytes between two
// rotations. Only the Follower's goroutine touches it.
type segment struct {
	part  *part
	split splitter
	// at is the generation as a cursor names it: its identity is that of the
	// file when it was first opened, whatever it is read from now.
	at    cursor
	head  []byte // its first bytes, as far as read, at most fingerprintBytes
	print uint64 // of a complete head
	check []byte

	size  int64     // of the file when last looked at
	seen  int64     // how far it was read then
	grown time.Time // when it last grew, or was opened
	moved time.Time // when its successor was first seen to hold data; zero if it has none
	first time.Time // when the oldest whole line of the open chunk was read; zero if none
}

// newSegment goes on in p behind at.offset. c is an empty chunk.
func newSegment(p *part, at cursor, c *chunk, now time.Time) (*segment, error) {
	g := &segment{part: p, at: at, grown: now, head: make([]byte, min(at.offset, fingerprintBytes), fingerprintBytes), check: make([]byte, fingerprintBytes)}
	if _, err := io.ReadFull(p, g.head); err != nil {
		return nil, fmt.Errorf("read %s: %w", p.name, err)
	}
	if len(g.head) == fingerprintBytes {
		g.print = fingerprint(g.head)
	}
	rest := at.offset - int64(len(g.head))
	var err error
	if p.packed != nil {
		_, err = io.CopyN(io.Discard, p, rest)
	} else {
		_, err = p.file.Seek(rest, io.SeekCurrent)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s up to byte %d: %w", p.name, at.offset, err)
	}
	if p.packed == nil {
		if fi, err := p.file.Stat(); err == nil {
			g.size = fi.Size()
		}
	}
	c.reset(at.base+at.offset, at.lines+1)
	g.split = splitter{src: p, limit: lineLimit, c: c}
	g.seen = g.split.read()
	return g, nil
}

// intact looks whether the file still is what was read of it: neither shorter
// nor with another beginning. It is asked after reading, so that what a
// truncation put in the way of a read is not taken for the old content.
func (g *segment) intact() bool {
	fi, err := g.part.file.Stat()
	if err != nil {
		return true // the next read tells
	}
	g.size = fi.Size()
	if g.size < g.split.read()-g.at.base {
		return false
	}
	n, _ := g.part.file.ReadAt(g.check[:len(g.head)], 0)
	return bytes.Equal(g.check[:n], g.head)
}

// note keeps the beginning of the file for its fingerprint.
func (g *segment) note() {
	if len(g.head) == fingerprintBytes {
		return
	}
	c := g.split.c
	from := int64(len(g.head)) - (c.offset - g.at.base)
	more := c.data[from:]
	g.head = append(g.head, more[:min(len(more), fingerprintBytes-len(g.head))]...)
	if len(g.head) == fingerprintBytes {
		g.print = fingerprint(g.head)
	}
}

// cursor resumes at a source position of this segment; line is the number of
// the line there.
func (g *segment) cursor(position, line int64) cursor {
	c := g.at
	c.offset, c.lines = position-g.at.base, line-1
	c.printBytes = min(c.offset, int64(len(g.head)))
	c.print = g.print
	if c.printBytes < fingerprintBytes {
		c.print = fingerprint(g.head[:c.printBytes])
	}
	return c
}
