package capture

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Inflater undoes content encodings. One goroutine uses it.
type Inflater struct {
	gzip gzip.Reader
	zstd *zstd.Decoder
	br   *brotli.Reader
	out  []byte
}

// maxEncodings is how many encodings lie upon each other at most.
const maxEncodings = 2

// ErrEncoding is a content encoding that is not known.
var ErrEncoding = errors.New("unknown content encoding")

// Decode returns the body of m as far as it was kept, decoded, and no more than limit
// bytes of it whatever it would swell to. What could be decoded before a damage, or
// the end of what was kept, is returned without an error: a prefix is all there is.
// The result is valid until the next call.
func (f *Inflater) Decode(m *Message, limit int) ([]byte, error) {
	encoding := m.Get(TextContentEncoding)
	if encoding == "" || len(m.Prefix) == 0 {
		return m.Prefix[:min(len(m.Prefix), limit)], nil
	}
	names := bytes.Split([]byte(encoding), []byte{','})
	if len(names) > maxEncodings {
		return nil, ErrEncoding
	}
	b := m.Prefix
	for i, name := range slices.Backward(names) {
		name := string(bytes.ToLower(bytes.TrimSpace(name)))
		if name == "" || name == "identity" {
			continue
		}
		r, err := f.open(name, b)
		if err != nil {
			return nil, err
		}
		if i < len(names)-1 { // what is below must not be written over
			b = f.read(r, limit, nil)
			continue
		}
		f.out = f.read(r, limit, f.out[:0])
		b = f.out
	}
	return b[:min(len(b), limit)], nil
}

// zstdMemory bounds what a frame may ask for.
const zstdMemory = 8 << 20

func (f *Inflater) open(name string, b []byte) (io.Reader, error) {
	src := bytes.NewReader(b)
	switch name {
	case "gzip", "x-gzip":
		if err := f.gzip.Reset(src); err != nil {
			return nil, err
		}
		return &f.gzip, nil
	case "deflate":
		// zlib by the book, raw by some servers.
		if r, err := zlib.NewReader(src); err == nil {
			return r, nil
		}
		return flate.NewReader(bytes.NewReader(b)), nil
	case "br":
		if f.br == nil {
			f.br = brotli.NewReader(src)
			return f.br, nil
		}
		return f.br, f.br.Reset(src)
	case "zstd":
		if f.zstd == nil {
			z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(zstdMemory))
			if err != nil {
				return nil, err
			}
			f.zstd = z
			return z, nil
		}
		return f.zstd, f.zstd.Reset(src)
	}
	return nil, ErrEncoding
}

// read takes up to limit bytes.
func (f *Inflater) read(r io.Reader, limit int, dst []byte) []byte {
	for len(dst) < limit {
		if cap(dst) == len(dst) {
			grown := make([]byte, len(dst), max(4<<10, 2*cap(dst)))
			copy(grown, dst)
			dst = grown
		}
		n, err := r.Read(dst[len(dst):min(cap(dst), limit)])
		dst = dst[:len(dst)+n]
		if err != nil {
			break
		}
	}
	return dst
}
