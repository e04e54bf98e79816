package collector

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// errTooLarge is a body beyond the cap, as sent or unpacked.
var errTooLarge = errors.New("the body is too large")

// bodies unpacks what senders push. The zero value is ready, any goroutine may
// use it.
type bodies struct {
	gzip, zstd sync.Pool
}

// encodings is what open reads, for senders.
const encodings = "gzip, zstd, identity"

// errCoding is a body in a coding that is not read.
var errCoding = errors.New("the content coding is not read")

// open returns the lines of a body in an HTTP content coding, at most max bytes
// of them, and what to call when done. A JSON array of objects comes out as one
// object a line.
func (p *bodies) open(src io.Reader, coding string, max int64) (r io.Reader, done func(), err error) {
	r, done, err = p.unpack(src, coding, max)
	if err != nil {
		return nil, done, err
	}
	b := bufio.NewReaderSize(r, 4096)
	if beginsArray(b) {
		return &arrayLines{src: b}, done, nil
	}
	return b, done, nil
}

// unpack is open without a look at what it is.
func (p *bodies) unpack(src io.Reader, coding string, max int64) (r io.Reader, done func(), err error) {
	done = func() {}
	switch coding {
	case "", "identity":
		r = src
	case "gzip", "x-gzip":
		z, _ := p.gzip.Get().(*gzip.Reader)
		if z == nil {
			z = new(gzip.Reader)
		}
		if err := z.Reset(src); err != nil {
			return nil, done, err
		}
		r, done = z, func() { p.gzip.Put(z) }
	case "zstd":
		z, _ := p.zstd.Get().(*zstd.Decoder)
		if z == nil {
			z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
			if err != nil {
				return nil, done, err
			}
		}
		if err := z.Reset(src); err != nil {
			return nil, done, err
		}
		r, done = z, func() {
			_ = z.Reset(nil)
			p.zstd.Put(z)
		}
	default:
		return nil, done, errCoding
	}
	return &capped{r, max}, done, nil
}

// capped fails behind n bytes, instead of ending as io.LimitReader does: what
// is cut must not be taken for whole.
type capped struct {
	src io.Reader
	n   int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	if c.n -= int64(n); c.n < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// beginsArray tells a JSON array of objects from lines that begin with '['.
func beginsArray(b *bufio.Reader) bool {
	head, _ := b.Peek(512)
	open := false
	for _, c := range head {
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		case !open && c == '[':
			open = true
		default:
			return open && (c == '{' || c == ']')
		}
	}
	return false
}

// maxNesting is how deep a pushed array may be: deeper is no request.
const maxNesting = 64

// arrayLines turns [{...},{...}] into one object a line: between elements it
// writes a newline, inside of them none.
type arrayLines struct {
	src    *bufio.Reader
	depth  int // 0 before and behind the array
	ended  bool
	text   bool // inside a string
	escape bool
	err    error
}

func (a *arrayLines) Read(p []byte) (n int, err error) {
	for n < len(p) && a.err == nil {
		if n > 0 && a.src.Buffered() == 0 {
			break
		}
		c, err := a.src.ReadByte()
		if err != nil {
			a.err = err
			if err == io.EOF && !a.ended {
				a.err = fmt.Errorf("the JSON array breaks off: %w", io.ErrUnexpectedEOF)
			}
			break
		}
		out, ok := a.next(c)
		if ok {
			p[n] = out
			n++
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, a.err
}

// next takes one byte of the array; ok says that out belongs to the lines.
func (a *arrayLines) next(c byte) (out byte, ok bool) {
	space := c == ' ' || c == '\t' || c == '\r' || c == '\n'
	switch {
	case a.text:
		switch {
		case a.escape:
			a.escape = false
		case c == '\\':
			a.escape = true
		case c == '"':
			a.text = false
		case c == '\n': // not JSON: the parser refuses the element
			return ' ', true
		}
		return c, true
	case a.ended:
		if !space {
			a.err = errors.New("something follows the JSON array")
		}
		return 0, false
	case a.depth == 0:
		if c == '[' {
			a.depth = 1
		}
		return 0, false
	case space:
		return ' ', a.depth > 1
	case a.depth == 1 && c == ']':
		a.ended, a.depth = true, 0
		return '\n', true
	case a.depth == 1 && c == ',':
		return '\n', true
	case c == '"':
		a.text = true
	case c == '{' || c == '[':
		if a.depth++; a.depth > maxNesting {
			a.err = errors.New("the JSON array is nested too deep")
		}
	case c == '}' || c == ']':
		a.depth--
	}
	return c, true
}
