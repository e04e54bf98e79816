package pipeline

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
)

// randomBlock makes a block that uses every field, odd values included.
func randomBlock(seed uint64, rows int) *Block {
	r := rand.New(rand.NewPCG(seed, 1))
	number := func() int64 {
		switch r.IntN(8) {
		case 0:
			return math.MinInt64
		case 1:
			return math.MaxInt64
		case 2:
			return -1
		}
		return r.Int64N(5000)
	}
	// Columns are empty, constant, shared or unique, by the block.
	text := func(kind, i int) string {
		switch kind {
		case 0:
			return ""
		case 1:
			return "\xff\x00 one"
		case 2:
			return strings.Repeat("v", r.IntN(7)) + strconv.Itoa(r.IntN(5))
		}
		return fmt.Sprintf("%x-%d", r.Uint64(), i)
	}
	var kinds [len(textColumns)]int
	for i := range kinds {
		kinds[i] = r.IntN(4)
	}
	odd := r.IntN(3) == 0
	b := &Block{
		Source: "access.log", SourceID: r.Uint64(), Cause: CauseRange{number(), number()},
		Watermark: NoTime,
	}
	if r.IntN(2) == 0 {
		b.Watermark = Time(number())
		b.Cursor = []byte{1, 0, byte(seed)}
		b.Rejects = Rejects{
			Lines: int64(rows) + 3, Reason: map[string]int64{"empty": 2, "time": 1},
			Sample: []RejectSample{{Reason: "time", Line: 7, Text: "x\x01"}, {}},
		}
	}
	effective := r.IntN(3)
	for i := range rows {
		q := Request{
			Time: Time(1700000000000000 + int64(i)*1000), Line: int64(i) + 5, Bytes: r.Int64N(1 << 20), Duration: -1,
			Owner: uint64(r.IntN(9)), Kind: PrincipalIP, Status: 200,
			Address: Address{10: 0xff, 11: 0xff, 15: byte(r.IntN(50))},
		}
		if odd {
			q.Time, q.Line, q.Bytes, q.Duration = Time(number()), number(), number(), number()
			q.Owner, q.Kind, q.Flags, q.Status = r.Uint64(), PrincipalKind(r.IntN(256)), RequestFlags(r.IntN(1<<16)), uint16(r.IntN(1<<16))
			binary.LittleEndian.PutUint64(q.Forwarded[4:], r.Uint64())
		}
		switch effective {
		case 1:
			q.Effective = q.Time
		case 2:
			q.Effective = Time(number())
		}
		for c, field := range textColumns {
			*field(&q) = text(kinds[c], i)
		}
		q.AgentKey = 0
		q.Seal()
		b.Requests = append(b.Requests, q)
	}
	return b
}

func sameBlock(t *testing.T, want, got *Block) {
	t.Helper()
	for i := range want.Requests {
		want.Requests[i].AgentKey = 0
		want.Requests[i].Seal() // decoding does
	}
	ignore := cmpopts.IgnoreFields(Block{}, "Arena")
	if slices.Equal(want.Requests, got.Requests) { // cmp is slow on thousands of rows
		ignore = cmpopts.IgnoreFields(Block{}, "Arena", "Requests")
	}
	if d := cmp.Diff(want, got, ignore, cmpopts.IgnoreUnexported(Block{}), cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("block differs (-want +got):\n%s", d)
	}
}

func TestBlockRoundTrip(t *testing.T) {
	c, other := NewCodec(), NewCodec()
	var into Block // used again, as readers do
	var data []byte
	for seed := range uint64(60) {
		for _, rows := range []int{0, 1, 2, 3, 257, 900} {
			b := randomBlock(seed, rows)
			var err error
			data, err = c.AppendBlock(data[:0], b)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.DecodeBlock(data, &into); err != nil {
				t.Fatalf("seed %d, %d rows: %v", seed, rows, err)
			}
			sameBlock(t, b, &into)
			again, err := other.AppendBlock(nil, &into)
			if err != nil || string(again) != string(data) {
				t.Fatalf("seed %d, %d rows: equal blocks gave different bytes (%v)", seed, rows, err)
			}
		}
	}
}

func TestBlockHeader(t *testing.T) {
	c := NewCodec()
	b := randomBlock(4, 300)
	for i := range b.Requests {
		b.Requests[i].Owner = uint64(i%40) * 0x9e3779b97f4a7c15
		b.Requests[i].Time = Time(1000 - i)
	}
	data, err := c.AppendBlock([]byte("before"), b)
	if err != nil || string(data[:6]) != "before" {
		t.Fatalf("AppendBlock did not append: %q, %v", data[:6], err)
	}
	var h BlockHeader
	if err := DecodeHeader(data[6:], &h); err != nil {
		t.Fatal(err)
	}
	if h.Rows != 300 || h.MinTime != 701 || h.MaxTime != 1000 || h.SourceID != b.SourceID || h.Cause != b.Cause {
		t.Errorf("header %+v does not describe the block", h)
	}
	admitted := 0
	for i := range uint64(10_040) {
		owner := i * 0x9e3779b97f4a7c15
		ok := h.Owners.Admits(owner)
		if i < 40 && !ok {
			t.Errorf("the filter denies owner %d, who is in the block", i)
		}
		if i >= 40 && ok {
			admitted++
		}
	}
	if admitted > 200 {
		t.Errorf("the filter admits %d of 10000 strangers, want about 100", admitted)
	}
	if err := DecodeHeader(mustAppend(t, c, &Block{Watermark: NoTime}), &h); err != nil || h.MinTime != NoTime || h.Watermark != NoTime || h.Owners.Admits(0) {
		t.Errorf("empty block: header %+v, %v", h, err)
	}
}

func mustAppend(t testing.TB, c *Codec, b *Block) []byte {
	t.Helper()
	data, err := c.AppendBlock(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBlockRefused(t *testing.T) {
	c := NewCodec()
	encode := func(want string, b *Block) {
		t.Helper()
		if data, err := c.AppendBlock([]byte("x"), b); err == nil || !strings.Contains(err.Error(), want) || string(data) != "x" {
			t.Errorf("AppendBlock: %q, %v, want %q and dst unchanged", data, err, want)
		}
	}
	encode("8193 requests", &Block{Requests: make([]Request, maxBlockRows+1)})
	encode("bytes of columns", &Block{Requests: []Request{{Path: strings.Repeat("a", maxBlockColumns)}}})
	encode("cursor", &Block{Cursor: make([]byte, maxBlockHeader)})

	decode := func(want string, head, columns func([]byte) []byte) {
		t.Helper()
		h := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 2)
		var p []byte
		if columns != nil {
			p = columns(nil)
		}
		h = protowire.AppendVarint(protowire.AppendTag(h, 4, protowire.VarintType), uint64(len(p)))
		if head != nil {
			h = head(h)
		}
		data := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
		data = protowire.AppendBytes(protowire.AppendTag(data, 2, protowire.BytesType), h)
		data = protowire.AppendBytes(protowire.AppendTag(data, 3, protowire.BytesType), c.enc.EncodeAll(p, nil))
		var b Block
		if err := c.DecodeBlock(data, &b); err == nil || !strings.Contains(err.Error(), want) || len(b.Requests) != 0 {
			t.Errorf("DecodeBlock: %d requests, %v, want %q", len(b.Requests), err, want)
		}
	}
	varint := func(num protowire.Number, v uint64) func([]byte) []byte {
		return func(dst []byte) []byte {
			return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
		}
	}
	field := func(num protowire.Number, v ...byte) func([]byte) []byte {
		return func(dst []byte) []byte {
			return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), v)
		}
	}
	both := func(a, b func([]byte) []byte) func([]byte) []byte {
		return func(dst []byte) []byte { return b(a(dst)) }
	}
	decode("rows, at most", varint(1, 1<<40), nil)
	decode("bytes of columns, at most", varint(4, 1<<40), nil)
	decode("the header says", varint(4, 5000), field(columnLine, 1))
	decode("decompress", varint(4, 1), field(columnLine, 1))
	decode("more than 2 values", nil, field(columnLine, 1, 1, 1))
	decode("broken number", nil, field(columnLine, 0x80))
	decode("0 values for 2 rows", nil, field(columnLine))
	decode("kind 256", nil, field(columnKind, 0x80, 2))
	decode("status 65536", nil, field(columnStatus, 0x80, 0x80, 4))
	decode("column 3 after column 3", nil, both(field(columnLine, 1), field(columnLine, 1)))
	decode("column 3 after column 16", nil, both(field(columnText, 10, 1, 0), field(columnLine, 1)))
	decode("values of 16", nil, field(columnAddress, 18, 2, 1, 1))
	decode("at most 1 is possible", nil, field(columnText, 10, 1, 2, 18, 1, 'a'))
	decode("longer than their data", nil, field(columnText, 10, 2, 1, 1, 18, 1, 'a'))
	decode("behind the last value", nil, field(columnText, 10, 1, 0, 18, 1, 'a'))
	decode("at most 0 is possible", nil, field(columnText, 10, 1, 1, 18, 1, 'a', 26, 2, 0, 1))
	decode("0 values for 2 rows", nil, field(columnText))
	decode("1 indexes", nil, field(columnText, 10, 1, 1, 18, 1, 'a', 26, 1, 0))

	var b Block
	newer := varint(1, 9)(nil)
	if err := c.DecodeBlock(newer, &b); !errors.Is(err, ErrBlockVersion) {
		t.Errorf("newer version: %v", err)
	}
	if err := c.DecodeBlock(nil, &b); err == nil {
		t.Error("nothing was taken for a block")
	}
}

// A column that a later version adds is passed over.
func TestBlockUnknownColumn(t *testing.T) {
	var d blockDecoder
	rs := make([]Request, 1)
	data := protowire.AppendBytes(protowire.AppendTag(nil, columnLine, protowire.BytesType), []byte{8})
	data = protowire.AppendBytes(protowire.AppendTag(data, 99, protowire.BytesType), []byte("later"))
	if err := d.columns(data, rs); err != nil || rs[0].Line != 4 {
		t.Errorf("line %d, %v", rs[0].Line, err)
	}
}

func FuzzDecodeBlock(f *testing.F) {
	c := NewCodec()
	for seed := range uint64(6) {
		f.Add(mustAppend(f, c, randomBlock(seed, int(seed)*3)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b, again Block
		if c.DecodeBlock(data, &b) != nil {
			return
		}
		out, err := c.AppendBlock(nil, &b)
		if err != nil {
			return
		}
		if err := c.DecodeBlock(out, &again); err != nil {
			t.Fatalf("what was decoded and encoded does not decode: %v", err)
		}
		sameBlock(t, &b, &again)
	})
}

// FuzzDecodeColumns reaches the columns, which the compressor's checksum hides
// from FuzzDecodeBlock.
func FuzzDecodeColumns(f *testing.F) {
	for seed := range uint64(6) {
		e := blockEncoder{seed: NewCodec().seed}
		e.columns(randomBlock(seed, 5).Requests)
		f.Add(e.out, uint16(5))
	}
	f.Fuzz(func(t *testing.T, data []byte, rows uint16) {
		var d blockDecoder
		rs := make([]Request, rows%300)
		if len(rs) == 0 || d.columns(data, rs) != nil {
			return
		}
		for i := range rs {
			for _, field := range textColumns {
				if len(*field(&rs[i])) > len(data) {
					t.Fatal("a string longer than all the data")
				}
			}
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	c := NewCodec()
	f.Add(uint64(1), uint16(10), "GET", "/a", "b")
	f.Add(uint64(2), uint16(700), "\xff", "", "x")
	f.Fuzz(func(t *testing.T, seed uint64, rows uint16, method, path, agent string) {
		b := randomBlock(seed, int(rows)%700)
		for i := range b.Requests {
			if i%3 == 0 {
				b.Requests[i].Method, b.Requests[i].Path, b.Requests[i].Agent = method, path, agent
			}
		}
		var got Block
		if err := c.DecodeBlock(mustAppend(t, c, b), &got); err != nil {
			t.Fatal(err)
		}
		sameBlock(t, b, &got)
	})
}

// realRequests reads the combined log under shared data that path names.
func realRequests(tb testing.TB, path ...string) []Request {
	tb.Helper()
	name := filepath.Join(append([]string{"..", "..", "shared", "data"}, path...)...)
	file, err := os.Open(name)
	if err != nil {
		tb.Skipf("%s is not here: nothing real to measure on", name)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		tb.Fatal(err)
	}
	var rs []Request
	for s := bufio.NewScanner(z); s.Scan(); {
		part := strings.Split(s.Text(), "\"")
		head, request := strings.Fields(part[0]), strings.Fields(part[1])
		if len(part) < 6 || len(head) < 5 || len(request) < 2 {
			continue
		}
		at, err := time.Parse("[02/Jan/2006:15:04:05 -0700]", head[3]+" "+head[4])
		answer := strings.Fields(part[2])
		if err != nil || len(answer) < 2 {
			continue
		}
		a, _ := ParseAddress(head[0])
		r := Request{
			Time: TimeOf(at), Line: int64(len(rs) + 1), Bytes: -1, Duration: -1,
			Address: a, Owner: a.Owner(), Kind: PrincipalIP, Method: request[0], Agent: part[5],
		}
		status, _ := strconv.Atoi(answer[0])
		r.Status = uint16(status)
		if n, err := strconv.ParseInt(answer[1], 10, 64); err == nil {
			r.Bytes = n
		}
		r.Path, r.Query, _ = strings.Cut(request[1], "?")
		if part[3] != "-" {
			r.Referer = part[3]
		}
		if head[2] != "-" {
			r.Account, r.Kind = head[2], PrincipalAccount
			r.Owner = HashPrincipal(r.Kind, r.Account)
		}
		rs = append(rs, r)
	}
	if len(rs) < 5000 {
		tb.Fatalf("%s: only %d requests read", name, len(rs))
	}
	return rs
}

func realBlocks(tb testing.TB, path ...string) []*Block {
	rs := realRequests(tb, path...)
	var bs []*Block
	for from := 0; from+MaxBlockRequests <= len(rs); from += MaxBlockRequests {
		bs = append(bs, &Block{Source: "access.log", SourceID: 1, Watermark: NoTime, Requests: rs[from:][:MaxBlockRequests]})
	}
	return bs
}

func BenchmarkBlock(b *testing.B) {
	for _, set := range [][]string{{"tools_shop", "access.log.gz"}, {"baseline_access_logs", "apache_logs.gz"}} {
		blocks := realBlocks(b, set...)
		c := NewCodec()
		size, raw := 0, 0
		for _, bl := range blocks {
			size += len(mustAppend(b, c, bl))
			e := blockEncoder{seed: c.seed}
			e.columns(bl.Requests)
			raw += len(e.out)
		}
		rows := float64(len(blocks) * MaxBlockRequests)
		b.Run("encode/"+set[0], func(b *testing.B) {
			b.SetBytes(int64(raw / len(blocks)))
			b.ReportAllocs()
			var data []byte
			for i := 0; b.Loop(); i++ {
				data, _ = c.AppendBlock(data[:0], blocks[i%len(blocks)])
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*MaxBlockRequests), "ns/request")
			b.ReportMetric(float64(size)/rows, "B/request")
		})
		b.Run("decode/"+set[0], func(b *testing.B) {
			data := mustAppend(b, c, blocks[0])
			b.SetBytes(int64(raw / len(blocks)))
			b.ReportAllocs()
			var into Block
			for b.Loop() {
				if err := c.DecodeBlock(data, &into); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*MaxBlockRequests), "ns/request")
		})
	}
}
