package h2

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"
)

func unlimited(int64) bool { return true }

func newDecoder(partial bool) *decoder {
	d := &decoder{}
	d.init(unlimited, partial)
	return d
}

func fields(d *decoder, b []byte) (list []string, missing int, err error) {
	missing, err = d.decode(b, func(name, value []byte) {
		list = append(list, string(name)+": "+string(value))
	})
	return list, missing, err
}

// TestVectors are the requests and responses of RFC 7541, C.4 and C.6.
func TestVectors(t *testing.T) {
	f := func(d *decoder, block string, size int, want ...string) {
		t.Helper()
		b, err := hex.DecodeString(strings.ReplaceAll(block, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got, missing, err := fields(d, b)
		if diff := cmp.Diff(want, got); diff != "" || err != nil || missing != 0 {
			t.Errorf("%v, %d missing (-want +got)\n%s", err, missing, diff)
		}
		if d.size != size {
			t.Errorf("the table is of %d bytes, want %d", d.size, size)
		}
	}
	d := newDecoder(false)
	f(d, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", 57, ":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com")
	f(d, "8286 84be 5886 a8eb 1064 9cbf", 110, ":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache")
	f(d, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", 164,
		":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value")
	d = newDecoder(false)
	d.max = 256
	f(d, "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3", 222,
		":status: 302", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com")
	f(d, "4883 640e ffc1 c0bf", 222, ":status: 307", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com")
}

// TestEncoder reads what another implementation writes, over many blocks and
// sizes of the table.
func TestEncoder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{":method", ":path", "cookie", "x-a", "x-b", "accept", strings.Repeat("n", 300)}
	var wire bytes.Buffer
	e := hpack.NewEncoder(&wire)
	e.SetMaxDynamicTableSizeLimit(maxTable)
	d := newDecoder(false)
	for i := range 5000 {
		wire.Reset()
		if i%100 == 99 {
			e.SetMaxDynamicTableSize(uint32(r.IntN(maxTable)))
		}
		var want []string
		for range r.IntN(12) {
			value := fmt.Sprint(r.IntN(40))
			switch r.IntN(8) {
			case 0:
				value = strings.Repeat(value, 1+r.IntN(1000))
			case 1:
				value = string([]byte{byte(r.IntN(256)), byte(r.IntN(256)), 0})
			}
			h := hpack.HeaderField{Name: names[r.IntN(len(names))], Value: value, Sensitive: r.IntN(10) == 0}
			if err := e.WriteField(h); err != nil {
				t.Fatal(err)
			}
			want = append(want, h.Name+": "+h.Value)
		}
		got, missing, err := fields(d, wire.Bytes())
		if diff := cmp.Diff(want, got); diff != "" || err != nil || missing != 0 {
			t.Fatalf("block %d: %v, %d missing (-want +got)\n%s", i, err, missing, diff)
		}
	}
}

// TestMiddle begins in the middle of a connection: what was put into the table
// before is counted, what comes after is read.
func TestMiddle(t *testing.T) {
	var wire bytes.Buffer
	e := hpack.NewEncoder(&wire)
	write := func(kv ...string) []byte {
		wire.Reset()
		for i := 0; i < len(kv); i += 2 {
			if err := e.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]}); err != nil {
				t.Fatal(err)
			}
		}
		return bytes.Clone(wire.Bytes())
	}
	write(":authority", "old.example", "x-old", "1")
	d := newDecoder(true)
	got, missing, err := fields(d, write(":method", "GET", ":authority", "old.example", ":path", "/a", "x-new", "1", "x-old", "2"))
	if want := []string{":method: GET", ":path: /a", "x-new: 1"}; !cmp.Equal(want, got) || missing != 2 || err != nil {
		t.Errorf("%q, %d missing, %v", got, missing, err)
	}
	got, missing, err = fields(d, write(":authority", "old.example", ":path", "/a", "x-new", "1", "x-newer", "2"))
	if want := []string{":path: /a", "x-new: 1", "x-newer: 2"}; !cmp.Equal(want, got) || missing != 1 || err != nil {
		t.Errorf("%q, %d missing, %v", got, missing, err)
	}
	d.lose()
	write("x-lost", "1")
	got, missing, err = fields(d, write("x-newer", "2", "x-last", "3"))
	if want := []string{"x-last: 3"}; !cmp.Equal(want, got) || missing != 1 || err != nil {
		t.Errorf("%q, %d missing, %v", got, missing, err)
	}
	// A whole view has no such excuse.
	if _, _, err := fields(newDecoder(false), []byte{0xbe}); err == nil {
		t.Error("an index beyond the table was taken")
	}
}

// TestHPACKBounds checks what one block may cost.
func TestHPACKBounds(t *testing.T) {
	var held int64
	d := &decoder{}
	d.init(func(n int64) bool {
		if held+n > 200<<10 {
			return false
		}
		held += n
		return true
	}, false)
	var wire bytes.Buffer
	e := hpack.NewEncoder(&wire)
	if err := e.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 4000)}); err != nil {
		t.Fatal(err)
	}
	block := append(wire.Bytes(), bytes.Repeat([]byte{0xbe}, 100_000)...)
	size := 0
	if _, err := d.decode(block, func(name, value []byte) { size += len(name) + len(value) }); err != nil || size > maxList {
		t.Errorf("%d bytes of %d were given out, %v", size, len(block), err)
	}
	// The largest table there may be, filled with the smallest entries.
	resize := []byte{0x3f, 0xe1, 0xff, 0x03}
	if _, err := d.decode(append(resize, bytes.Repeat([]byte{0x40, 1, 'a', 0}, 100_000)...), func(_, _ []byte) {}); err != nil {
		t.Error(err)
	}
	if len(d.entries) > 3*maxEntries || cap(d.text) > 3*maxTable || held > 200<<10 {
		t.Errorf("%d entries, %d bytes of text, %d held", len(d.entries), cap(d.text), held)
	}
	// Values that fill it, and no memory for them: they keep their places.
	for range 50 {
		b := append([]byte{0x40, 1, 'b', 0x7f, 0xa1, 0x9b, 0x01}, make([]byte, 20000)...)
		if _, err := d.decode(b, func(_, _ []byte) {}); err != nil {
			t.Error(err)
		}
	}
	d.close()
	if held != 0 {
		t.Errorf("%d bytes were not given back", held)
	}
}

// FuzzHPACK compares with another implementation, for which any input that it
// refuses ends the comparison.
func FuzzHPACK(f *testing.F) {
	for _, s := range []string{
		"828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf", "3fe1ff03400161016282",
		"20828684410f7777772e6578616d706c652e636f6d", "40ffffffff7f61", "1f8001", "0f2f0161",
	} {
		b, _ := hex.DecodeString(s)
		f.Add(b, b)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		d := newDecoder(false)
		their := hpack.NewDecoder(tableDefault, nil)
		their.SetAllowedMaxDynamicTableSize(maxTable)
		for _, b := range [][]byte{one, two} {
			want, theirErr := their.DecodeFull(b)
			size := 0
			for _, h := range want {
				size += len(h.Name) + len(h.Value)
			}
			got, missing, err := fields(d, b)
			if theirErr != nil || size > maxList {
				break // a size update in the middle, a table beyond the limit
			}
			if err != nil || missing != 0 || len(got) != len(want) {
				t.Fatalf("%q, %d missing, %v, want %v", got, missing, err, want)
			}
			for i, h := range want {
				if got[i] != h.Name+": "+h.Value {
					t.Fatalf("field %d: %q, want %v", i, got[i], h)
				}
			}
		}
		p := newDecoder(true)
		for _, b := range [][]byte{two, one, two} {
			if _, _, err := fields(p, b); err != nil {
				p.lose()
			}
		}
	})
}

func BenchmarkHPACK(b *testing.B) {
	var wire bytes.Buffer
	e := hpack.NewEncoder(&wire)
	var blocks [][]byte
	size := 0
	for i := range 100 {
		wire.Reset()
		for _, kv := range [][2]string{
			{":method", "GET"},
			{":scheme", "http"},
			{":authority", "shop.example.com"},
			{":path", fmt.Sprintf("/api/v1/orders/%d", 100000+i*7919)},
			{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"},
			{"accept", "application/json"},
			{"authorization", "Bearer 0123456789abcdef"},
			{"accept-encoding", "gzip, deflate, br"},
			{"cookie", "session=abcdef0123456789"},
		} {
			if err := e.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]}); err != nil {
				b.Fatal(err)
			}
		}
		blocks = append(blocks, bytes.Clone(wire.Bytes()))
		size += wire.Len()
	}
	b.SetBytes(int64(size / len(blocks)))
	b.ReportAllocs()
	d := newDecoder(false)
	n := 0
	field := func(_, _ []byte) { n++ }
	for i := range b.N {
		if i%len(blocks) == 0 {
			d = newDecoder(false)
		}
		if _, err := d.decode(blocks[i%len(blocks)], field); err != nil {
			b.Fatal(err)
		}
	}
}
