package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/pipeline"
)

// seen is what a test keeps of a request, cloned.
type seen struct {
	Line                 int64
	Path, Query, Account string
}

// result is all that a source gave.
type result struct {
	Requests []seen
	Lines    int64
	Reasons  map[string]int64
	Samples  []pipeline.RejectSample
	End      int64
	Errs     []string
	Blocks   []int
}

// take adds b and checks what holds for every block.
func (r *result) take(t *testing.T, b *pipeline.Block) {
	t.Helper()
	if b.Cause.From != r.End {
		t.Fatalf("block from %d does not join the one to %d", b.Cause.From, r.End)
	}
	if len(b.Requests) > blockRequests || b.Watermark != pipeline.NoTime {
		t.Fatalf("block of %d requests with watermark %d", len(b.Requests), b.Watermark)
	}
	r.End = b.Cause.To
	r.Lines += b.Rejects.Lines
	for reason, n := range b.Rejects.Reason {
		if r.Reasons == nil {
			r.Reasons = make(map[string]int64)
		}
		r.Reasons[reason] += n
	}
	r.Samples = append(r.Samples, b.Rejects.Sample...)
	r.Blocks = append(r.Blocks, len(b.Requests))
	for i := range b.Requests {
		q := &b.Requests[i]
		if q.Account != "" && (q.Account != "token of "+q.Path || q.Owner != pipeline.Hash64(q.Account)) {
			t.Fatalf("account %q of %q", q.Account, q.Path)
		}
		r.Requests = append(r.Requests, seen{q.Line, strings.Clone(q.Path), strings.Clone(q.Query), ""})
	}
}

// readAll reads an input to its end, holding some blocks back before they are
// released.
func readAll(t *testing.T, cfg ReaderConfig) result {
	t.Helper()
	if cfg.Format == nil {
		cfg.Format = plainFormat()
	}
	cfg.NewIdentify = account
	r := NewReader(cfg)
	defer r.Close()
	var got result
	var held []*pipeline.Block
	for {
		b, err := r.Next(t.Context())
		if err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			got.Errs = append(got.Errs, err.Error())
			continue
		}
		held = append(held, b)
		if len(held) > 3 {
			got.take(t, held[0])
			r.Release(held[0])
			held = held[1:]
		}
	}
	for _, b := range held {
		got.take(t, b)
		r.Release(b)
		r.Release(b) // twice is once
	}
	if st := r.Stats(); st.Lines != got.Lines || st.Bytes != got.End {
		t.Errorf("stats %+v, want %d lines of %d bytes", st, got.Lines, got.End)
	}
	if n := len(r.pump.given); n != 0 {
		t.Errorf("%d blocks count as given after all were released", n)
	}
	return got
}

// readWays reads data with several numbers of workers and as a stream, checks
// that all say the same, and returns it.
func readWays(t *testing.T, data []byte) result {
	t.Helper()
	name := writeFile(t, "input.log", data)
	first := readAll(t, ReaderConfig{Path: name, Workers: 1})
	for _, workers := range []int{2, 5} {
		if diff := cmp.Diff(first, readAll(t, ReaderConfig{Path: name, Workers: workers})); diff != "" {
			t.Fatalf("%d workers differ from one: %s", workers, diff)
		}
	}
	for _, workers := range []int{1, 2} {
		stream := readAll(t, ReaderConfig{Path: "-", Stdin: bytes.NewReader(data), Workers: workers})
		for i, e := range stream.Errs {
			stream.Errs[i] = strings.Replace(e, "stdin", name, 1)
		}
		if diff := cmp.Diff(first, stream); diff != "" {
			t.Fatalf("the stream differs from the file: %s", diff)
		}
	}
	for i, e := range first.Errs {
		first.Errs[i] = strings.Replace(e, filepath.Dir(name)+"/", "", 1)
	}
	return first
}

func TestReader(t *testing.T) {
	f := func(text string, want ...seen) {
		t.Helper()
		for _, data := range [][]byte{[]byte(text), gzipped(text), zstded(text), gzipped(text[:len(text)/2], text[len(text)/2:]), zstded(text[:len(text)/2], "", text[len(text)/2:])} {
			got := readWays(t, data)
			if diff := cmp.Diff(want, got.Requests); diff != "" || got.Errs != nil || got.End != int64(len(text)) {
				t.Errorf("%q: end %d, errors %q: %s", text, got.End, got.Errs, diff)
			}
		}
	}
	f("/a\n/b\n", seen{1, "/a", "", ""}, seen{2, "/b", "", ""})
	f("/a\r\n\r\n!no\n/b", seen{1, "/a", "", ""}, seen{4, "/b", "", ""})
	f("/a?%41\n/b%\n", seen{1, "/a?%41", "/a?%41 unescaped", ""}, seen{2, "/b%", "/b% unescaped", ""})
	f("\n", []seen(nil)...)
}

func TestReaderMany(t *testing.T) {
	var text bytes.Buffer
	var want result
	add := func(line string, reason Reject) {
		want.Lines++
		text.WriteString(line + "\n")
		if reason == "" {
			s := seen{Line: want.Lines, Path: line}
			if strings.IndexByte(line, '%') >= 0 {
				s.Query = line + " unescaped"
			}
			want.Requests = append(want.Requests, s)
			return
		}
		if want.Reasons == nil {
			want.Reasons = make(map[string]int64)
		}
		want.Reasons[string(reason)]++
	}
	for i := range 60000 {
		switch {
		case i%997 == 0:
			add("!"+strings.Repeat("z", i%50), RejectFormat)
		case i == 20000:
			add(strings.Repeat("l", 3<<20), RejectTooLong)
		case i == 30000:
			add(strings.Repeat("m", lineLimit+1), RejectTooLong)
		case i == 30001:
			add(strings.Repeat("n", lineLimit), "")
		case i%5 == 0:
			add(fmt.Sprintf("/%d?%%2e", i), "")
		case i > 50000:
			add("/", "") // many lines a chunk
		default:
			add(fmt.Sprintf("/item/%d/%s", i, strings.Repeat("p", i%200)), "")
		}
	}
	for _, data := range [][]byte{text.Bytes(), gzipped(text.String())} {
		got := readWays(t, data)
		if got.Errs != nil || got.Lines != want.Lines || got.End != int64(text.Len()) {
			t.Fatalf("%d lines to byte %d, errors %v; want %d lines to %d", got.Lines, got.End, got.Errs, want.Lines, text.Len())
		}
		if diff := cmp.Diff(want.Reasons, got.Reasons); diff != "" {
			t.Error(diff)
		}
		if len(want.Requests) != len(got.Requests) {
			t.Fatalf("%d requests, want %d", len(got.Requests), len(want.Requests))
		}
		for i := range want.Requests {
			if want.Requests[i] != got.Requests[i] {
				t.Fatalf("request %d is %.100v, want %.100v", i, got.Requests[i], want.Requests[i])
			}
		}
		full := false
		for _, n := range got.Blocks {
			full = full || n == blockRequests
		}
		if !full {
			t.Error("no chunk gave a full block; the test does not reach the cut")
		}
	}
}

func TestReaderDamage(t *testing.T) {
	var text strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&text, "/item/%d/%x\n", i, uint32(i)*2654435761)
	}
	whole := gzipped(text.String())
	f := func(data []byte, minLines int64, want string) {
		t.Helper()
		got := readWays(t, data)
		if len(got.Errs) != 1 || !strings.Contains(got.Errs[0], want) {
			t.Fatalf("errors %q, want one with %q", got.Errs, want)
		}
		if got.Lines < minLines || !strings.HasSuffix(got.Errs[0], fmt.Sprintf("lines up to %d were read", got.Lines)) {
			t.Errorf("%d lines; %s", got.Lines, got.Errs[0])
		}
		for i, r := range got.Requests {
			if want := fmt.Sprintf("/item/%d/%x", i, uint32(i)*2654435761); r.Path != want {
				t.Fatalf("line %d is %q, want %q", i+1, r.Path, want)
			}
		}
	}
	half := len(whole) / 2
	f(whole[:half], 8000, fmt.Sprintf("read input.log: unexpected end of the gzip stream at byte %d; ", half))
	f(whole[:5], 0, "unexpected end of the gzip stream at byte 5; lines up to 0")
	f(whole[:len(whole)-3], 19990, "unexpected end of the gzip stream")
	broken := bytes.Clone(whole)
	broken[len(broken)-6] ^= 1
	f(broken, 19990, "damaged gzip stream at byte")
	f(append(bytes.Clone(whole), "junk that is no member"...), 20000, "damaged gzip stream at byte")
	z := zstded(text.String())
	f(z[:len(z)/2], 0, "unexpected end of the zstd stream at byte")
}

func TestReaderKeep(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "%d /path/%d\n", i%10, i)
	}
	text.WriteString("!unknown\n")
	name := writeFile(t, "x.log", []byte(text.String()))
	for _, workers := range []int{1, 3} {
		got := readAll(t, ReaderConfig{Path: name, Workers: workers, Keep: func(p []byte) bool { return string(p) == "7" }})
		if len(got.Requests) != 500 || got.Requests[1] != (seen{Line: 18, Path: "7 /path/17"}) || got.Lines != 5001 || got.Reasons["format"] != 1 {
			t.Errorf("%d requests, %d lines, rejects %v", len(got.Requests), got.Lines, got.Reasons)
		}
	}
}

func TestReaderClose(t *testing.T) {
	name := writeFile(t, "x.log", bytes.Repeat([]byte("/some/line/of/a/log\n"), 200000))
	for _, workers := range []int{1, 4} {
		r := NewReader(ReaderConfig{Path: name, Workers: workers, Format: plainFormat()})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b, err := r.Next(ctx)
		if err != nil || b.Requests[0].Path != "/some/line/of/a/log" {
			t.Fatal(err)
		}
		for b != nil { // what is parsed may still come
			cancel()
			b, err = r.Next(ctx)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("next: %v", err)
		}
		if _, err := r.Next(t.Context()); err != nil {
			t.Errorf("next after a cancelled one: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for err == nil {
			_, err = r.Next(t.Context())
		}
		r.Close()
		if NewReader(ReaderConfig{Path: name}).Close() != nil {
			t.Error("close of an unused reader")
		}
	}
}

func TestReaderAllocations(t *testing.T) {
	line := "/some/line/of/a/log?%41 that is unescaped and has a token\n"
	name := writeFile(t, "x.log", bytes.Repeat([]byte(line), 300000))
	r := NewReader(ReaderConfig{Path: name, Workers: 1, Format: plainFormat(), NewIdentify: account})
	defer r.Close()
	next := func() {
		b, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.Release(b)
	}
	for range 4 {
		next()
	}
	if n := testing.AllocsPerRun(20, next); n > 0 {
		t.Errorf("%v allocations a block of thousands of lines", n)
	}
}
