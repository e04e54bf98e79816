package h2

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"weir/collector/capture"
	"weir/pipeline"
)

func FuzzFrames(f *testing.F) {
	c, s := newSide(), newSide()
	c.WriteString(Preface)
	must(c.WriteSettings())
	c.get(1, "/1")
	c.headers(3, false, ":method", "POST", ":path", "/3", "content-type", "application/grpc")
	must(c.WriteDataPadded(3, true, []byte("x"), make([]byte, 9)))
	must(s.WriteSettings())
	s.headers(1, false, ":status", "103")
	s.headers(1, true, ":status", "200")
	must(s.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: s.fields(":path", "/2"), EndHeaders: true}))
	s.headers(3, false, ":status", "200")
	must(s.WriteData(3, false, []byte("yy")))
	s.headers(3, true, "grpc-status", "1")
	must(s.WriteRSTStream(2, 1))
	must(s.WriteGoAway(1, 0, nil))
	client, server := c.take(), s.take()
	f.Add(client, server, uint16(50), int16(-1), false)
	f.Add(client, server, uint16(0), int16(3), true)
	f.Add(server, client, uint16(10), int16(40), false)
	f.Fuzz(func(t *testing.T, client, server []byte, cut uint16, gap int16, mid bool) {
		run := func(n int) ([]string, bool) {
			r := newRig(t, mid)
			r.memory.Max = 1 << 18
			both := [2][]byte{client, server}
			for dir := range capture.Direction(2) {
				b := both[dir]
				at := min(int(cut), len(b))
				for _, part := range [][]byte{b[:at], b[at:]} {
					for ; len(part) > 0; part = part[min(n, len(part)):] {
						r.Data(dir, pipeline.Time(len(part)), part[:min(n, len(part))])
					}
					if gap != 0 {
						r.Gap(dir, 1, int64(gap))
					}
				}
				Looks(b, dir, mid)
			}
			if r.memory.Used > r.memory.Max || len(r.streams) > MaxStreams {
				t.Fatalf("%d bytes, %d streams", r.memory.Used, len(r.streams))
			}
			r.closeBoth(t)
			return r.got, r.half[0].lossy || r.half[1].lossy
		}
		whole, lossy := run(1 << 20)
		pieces, _ := run(3)
		// Where frames begin again depends on how much is seen at once.
		if !lossy && !cmp.Equal(whole, pieces) {
			t.Fatalf("in one piece %q, in many %q", whole, pieces)
		}
	})
}

func BenchmarkExchange(b *testing.B) {
	c, s := newSide(), newSide()
	var client, server [][]byte
	c.WriteString(Preface)
	size := 0
	const n = 1000
	for i := range uint32(n) {
		c.headers(2*i+1, true, ":method", "GET", ":scheme", "http", ":authority", "shop.example.com", ":path", fmt.Sprintf("/api/v1/orders/%d", i*7919),
			"user-agent", "Mozilla/5.0 (X11; Linux x86_64)", "accept", "application/json", "authorization", "Bearer 0123456789abcdef", "cookie", "session=abcdef0123456789")
		s.headers(2*i+1, false, ":status", "200", "content-type", "application/json", "content-length", "500", "date", "Mon, 21 Oct 2013 20:13:21 GMT")
		must(s.WriteData(2*i+1, true, make([]byte, 500)))
		client, server = append(client, c.take()), append(server, s.take())
		size += len(client[i]) + len(server[i])
	}
	var tally capture.Tally
	memory := capture.Memory{Max: 1 << 20}
	got := 0
	conf := &Config{Tally: &tally, Memory: &memory, Emit: func(*capture.Transaction) { got++ }}
	b.SetBytes(int64(size / n))
	b.ReportAllocs()
	var p *Parser
	for i := range b.N {
		if i%n == 0 {
			p = New(conf, &capture.Flow{}, false)
		}
		p.Data(capture.FromClient, 1, client[i%n])
		p.Data(capture.FromServer, 2, server[i%n])
	}
	if got != b.N {
		b.Fatalf("%d exchanges of %d", got, b.N)
	}
}
