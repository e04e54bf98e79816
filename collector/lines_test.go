package collector

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// drip gives data in pieces of the sizes given, over and over, with an io.EOF
// for each 0.
type drip struct {
	data  []byte
	sizes []byte
	next  int
}

func (d *drip) Read(p []byte) (int, error) {
	if len(d.data) == 0 {
		return 0, io.EOF
	}
	n := len(d.data)
	if len(d.sizes) > 0 {
		n = int(d.sizes[d.next%len(d.sizes)])
		d.next++
	}
	if n == 0 && d.next <= 4*len(d.sizes) {
		return 0, io.EOF
	}
	n = copy(p, d.data[:min(max(n, 1), len(d.data))])
	d.data = d.data[n:]
	return n, nil
}

// checkSplit cuts data as pieces bring it and compares with cutting it whole.
func checkSplit(t *testing.T, data, sizes []byte) {
	const size, limit = 64, 16
	src := &drip{data: data, sizes: sizes}
	fresh := func() *chunk { return &chunk{data: make([]byte, 0, size), line: 1} }
	s := splitter{src: src, limit: limit, c: fresh()}
	var got []string
	position, number := int64(0), int64(1)
	rest := data
	take := func(c *chunk) {
		if c.offset != position || c.line != number {
			t.Fatalf("chunk at byte %d line %d, want %d and %d", c.offset, c.line, position, number)
		}
		position, number = c.end, c.line+c.lines
		before := len(got)
		eachLine(c.data, func(line []byte, _ int) bool {
			got = append(got, string(line))
			return true
		})
		if int64(len(got)-before) != c.lines {
			t.Fatalf("chunk says %d lines and holds %d", c.lines, len(got)-before)
		}
		rest = data[min(position, int64(len(data))):]
	}
	for i := 0; ; i++ {
		err := s.fill()
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if s.read() != int64(len(data)-len(src.data)) {
			t.Fatalf("read %d bytes, says %d", len(data)-len(src.data), s.read())
		}
		final := errors.Is(err, io.EOF) && len(src.data) == 0
		if err == nil || i%2 == 0 || final {
			if n, _ := s.take(final); n > 0 {
				if i%3 == 0 {
					take(s.cutSmall(&chunk{line: 1}, final))
				} else {
					take(s.cut(fresh(), final))
				}
			}
		}
		if final && len(s.c.data) == 0 {
			break
		}
	}
	if len(rest) > 0 {
		t.Fatalf("%d bytes are left", len(rest))
	}
	var want []string
	eachLine(data, func(line []byte, _ int) bool {
		want = append(want, string(line))
		return true
	})
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d\n%q\n%q", len(got), len(want), got, want)
	}
	for i := range want {
		if len(want[i]) <= limit && got[i] != want[i] {
			t.Fatalf("line %d is %q, want %q", i+1, got[i], want[i])
		}
		if len(want[i]) > limit && (len(got[i]) <= limit || !strings.HasPrefix(want[i], got[i][:limit])) {
			t.Fatalf("line %d is %q, want the beginning of %q and too long", i+1, got[i], want[i])
		}
	}
}

func TestSplitter(t *testing.T) {
	f := func(data string, sizes ...byte) {
		t.Helper()
		checkSplit(t, []byte(data), sizes)
	}
	long := strings.Repeat("x", 300)
	for _, sizes := range [][]byte{nil, {1}, {3}, {0, 1}, {7, 0, 50}, {64}, {63, 1}, {65, 0}} {
		f("", sizes...)
		f("\n", sizes...)
		f("\n\n\n", sizes...)
		f("a\nb\r\nc", sizes...)
		f(strings.Repeat("line\n", 40), sizes...)
		f(long, sizes...)
		f(long+"\n", sizes...)
		f(long+"\r\nafter\n", sizes...)
		f("before\n"+long+"\nafter\n"+long+"\n"+long, sizes...)
		f(long[:63]+"\n"+long[:62]+"\n"+long[:64]+"\n"+long[:65]+"\n"+long[:24]+"\r\n"+long[:16]+"\r\nx", sizes...)
		f("a\n"+long[:40]+"\n"+long[:23]+"\n"+strings.Repeat("\n", 200), sizes...)
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\nb\r\nc"), []byte{1, 0, 5})
	f.Add(bytes.Repeat([]byte("0123456789"), 30), []byte{64})
	f.Add(append(bytes.Repeat([]byte("y"), 100), "\nz\n\n"...), []byte{3, 0})
	f.Fuzz(func(t *testing.T, data, sizes []byte) {
		checkSplit(t, data, sizes)
	})
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestSplitterNoProgress(t *testing.T) {
	s := splitter{src: silent{}, limit: 16, c: &chunk{data: make([]byte, 0, 64)}}
	if err := s.fill(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("fill: %v", err)
	}
}
