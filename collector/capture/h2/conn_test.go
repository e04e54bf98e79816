package h2

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"weir/collector/capture"
	"weir/pipeline"
)

// side writes the frames of one direction.
type side struct {
	bytes.Buffer
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func newSide() *side {
	s := &side{}
	s.Framer = http2.NewFramer(&s.Buffer, nil)
	s.AllowIllegalWrites = true
	s.enc = hpack.NewEncoder(&s.block)
	return s
}

func (s *side) fields(kv ...string) []byte {
	s.block.Reset()
	for i := 0; i < len(kv); i += 2 {
		if err := s.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]}); err != nil {
			panic(err)
		}
	}
	return bytes.Clone(s.block.Bytes())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (s *side) headers(id uint32, end bool, kv ...string) {
	must(s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.fields(kv...), EndStream: end, EndHeaders: true}))
}

func (s *side) get(id uint32, path string) {
	s.headers(id, true, ":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", path, "user-agent", "agent/1")
}

// take returns what was written since the last time.
func (s *side) take() []byte {
	b := bytes.Clone(s.Bytes())
	s.Reset()
	return b
}

// rig is a parser with what it gave out, as text.
type rig struct {
	*Parser
	tally  capture.Tally
	memory capture.Memory
	got    []string
}

func newRig(tb testing.TB, mid bool) *rig {
	tb.Helper()
	r := &rig{memory: capture.Memory{Max: 8 << 20}}
	conf := &Config{
		Tally: &r.tally, Memory: &r.memory,
		Want: func(*capture.Transaction, capture.Direction) int { return 1000 },
		Emit: func(t *capture.Transaction) { r.got = append(r.got, describe(t)) },
	}
	r.Parser = New(conf, &capture.Flow{}, mid)
	return r
}

func describe(t *capture.Transaction) string {
	var words []string
	for _, f := range []struct {
		flag capture.Flags
		word string
	}{
		{capture.Upgraded, "upgraded"},
		{capture.WebSocket, "websocket"},
		{capture.GRPC, "grpc"},
		{capture.Continued, "continued"},
		{capture.NoRequest, "no-request"},
		{capture.NoResponse, "no-response"},
		{capture.RequestCut, "request-cut"},
		{capture.ResponseCut, "response-cut"},
		{capture.ResetByClient, "reset-by-client"},
		{capture.ResetByServer, "reset-by-server"},
		{capture.BothLengths, "both-lengths"},
		{capture.ManyLengths, "many-lengths"},
		{capture.BadLength, "bad-length"},
		{capture.OddEncoding, "odd-encoding"},
		{capture.OddLine, "odd-line"},
	} {
		if t.Flags&f.flag != 0 {
			words = append(words, f.word)
		}
	}
	return fmt.Sprintf("%d %s %s%s %d %d/%d %s", t.Number, t.Request.Get(capture.TextMethod), t.Request.Get(capture.TextHost),
		t.Request.Get(capture.TextTarget), t.Status, t.Request.BodyBytes, t.Response.BodyBytes, strings.Join(words, ","))
}

func (r *rig) closeBoth(tb testing.TB) {
	tb.Helper()
	r.Close(capture.FromClient, 99, capture.EndFIN)
	r.Close(capture.FromServer, 99, capture.EndFIN)
	if r.memory.Used != 0 {
		tb.Errorf("%d bytes were not given back", r.memory.Used)
	}
}

func (r *rig) want(tb testing.TB, want ...string) {
	tb.Helper()
	if diff := cmp.Diff(want, r.got); diff != "" {
		tb.Errorf("(-want +got)\n%s", diff)
	}
}

// TestFrames covers what clients and servers do beyond the plain exchange, cut at
// every byte.
func TestFrames(t *testing.T) {
	f := func(name string, write func(c, s *side), want ...string) {
		t.Helper()
		c, s := newSide(), newSide()
		c.WriteString(Preface)
		must(c.WriteSettings())
		must(s.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
		write(c, s)
		both := [2][]byte{c.take(), s.take()}
		for _, n := range []int{1 << 20, 1, 2, 10} {
			r := newRig(t, false)
			for dir, b := range both {
				for ; len(b) > 0; b = b[min(n, len(b)):] {
					r.Data(capture.Direction(dir), 1, b[:min(n, len(b))])
				}
			}
			r.closeBoth(t)
			if diff := cmp.Diff(want, r.got); diff != "" || r.tally != (capture.Tally{}) {
				t.Errorf("%s by %d: %v (-want +got)\n%s", name, n, r.tally, diff)
			}
		}
	}
	f("padding, priority, continuation", func(c, s *side) {
		block := c.fields(":method", "POST", ":authority", "a.example", ":path", "/p", "cookie", "a=1", "cookie", "b=2")
		must(c.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, BlockFragment: block[:3], PadLength: 200,
			Priority: http2.PriorityParam{StreamDep: 3, Weight: 9, Exclusive: true},
		}))
		must(c.WriteContinuation(1, false, nil))
		must(c.WriteContinuation(1, false, block[3:9]))
		must(c.WriteContinuation(1, true, block[9:]))
		must(c.WriteDataPadded(1, false, []byte("hello"), make([]byte, 100)))
		must(c.WriteDataPadded(1, false, nil, make([]byte, 7)))
		must(c.WritePriority(1, http2.PriorityParam{StreamDep: 5}))
		must(c.WriteDataPadded(1, true, []byte(" you"), nil))
		must(s.WriteWindowUpdate(1, 100))
		must(s.WritePing(false, [8]byte{1}))
		must(s.WriteRawFrame(0xfa, 9, 77, []byte("unknown to all")))
		s.headers(1, false, ":status", "100")
		s.headers(1, false, ":status", "103", "link", "x")
		s.headers(1, false, ":status", "201", "content-length", "3")
		must(s.WriteData(1, true, []byte("yes")))
	}, "1 POST a.example/p 201 9/3 continued")
	f("gRPC", func(c, s *side) {
		c.headers(1, false, ":method", "POST", ":authority", "a", ":path", "/shop.Orders/Get", "content-type", "application/grpc+proto", "te", "trailers")
		must(c.WriteData(1, true, []byte{0, 0, 0, 0, 1, 7}))
		s.headers(1, false, ":status", "200", "content-type", "application/grpc")
		must(s.WriteData(1, false, []byte{0, 0, 0, 0, 2, 7, 7}))
		s.headers(1, true, "grpc-status", "5", "grpc-message", "no such order")
	}, "1 POST a/shop.Orders/Get 200 6/7 grpc")
	f("resets", func(c, s *side) {
		c.get(1, "/1")
		c.get(3, "/3")
		c.get(5, "/5")
		c.headers(7, false, ":method", "POST", ":authority", "a.example", ":path", "/7")
		must(c.WriteRSTStream(3, http2.ErrCodeCancel))
		s.headers(1, false, ":status", "200")
		must(s.WriteData(1, false, []byte("abc")))
		must(s.WriteRSTStream(1, http2.ErrCodeInternal))
		s.headers(3, false, ":status", "200") // was on its way
		must(s.WriteRSTStream(5, http2.ErrCodeRefusedStream))
		s.headers(7, true, ":status", "413") // before the request is over
		must(s.WriteRSTStream(7, http2.ErrCodeNo))
	}, "3 GET a.example/3 0 0/0 no-response,reset-by-client", "1 GET a.example/1 200 0/3 response-cut,reset-by-server",
		"5 GET a.example/5 0 0/0 no-response,reset-by-server", "7 POST a.example/7 413 0/0 request-cut")
	f("going away", func(c, s *side) {
		c.get(1, "/1")
		c.get(3, "/3")
		must(s.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil))
		must(s.WriteGoAway(1, http2.ErrCodeNo, []byte("bye")))
		s.headers(1, true, ":status", "204")
	}, "3 GET a.example/3 0 0/0 no-response,reset-by-server", "1 GET a.example/1 204 0/0 ")
	f("WebSocket and a tunnel", func(c, s *side) {
		c.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a", ":path", "/chat")
		must(c.WriteData(1, false, make([]byte, 100)))
		c.headers(3, false, ":method", "CONNECT", ":authority", "b:443")
		s.headers(1, false, ":status", "200")
		must(s.WriteData(1, true, make([]byte, 100)))
		s.headers(3, true, ":status", "502")
		must(c.WriteData(3, true, nil))
	}, "1 CONNECT a/chat 200 100/0 upgraded,websocket", "3 CONNECT b:443 502 0/0 ")
	f("a push", func(c, s *side) {
		c.get(1, "/")
		must(s.WritePushPromise(http2.PushPromiseParam{
			StreamID: 1, PromiseID: 2, EndHeaders: true, PadLength: 9,
			BlockFragment: s.fields(":method", "GET", ":authority", "a.example", ":path", "/style.css"),
		}))
		s.headers(1, true, ":status", "200")
		s.headers(2, false, ":status", "200")
		must(s.WriteData(2, true, []byte("css")))
	}, "1 GET a.example/ 200 0/0 ", "2 GET a.example/style.css 200 0/3 ")
	f("shapes of smuggling", func(c, s *side) {
		c.headers(1, true, ":method", "POST", ":path", "/1", "content-length", "5", "transfer-encoding", "chunked")
		c.headers(3, true, ":method", "POST", ":path", "/3", "content-length", "5", "content-length", "6")
		c.headers(5, true, ":method", "GET", ":path", "/5", "x", "a\r\nHost: b")
		c.headers(7, true, ":method", "GET", ":path", "/7 HTTP/1.1\r\nX: y", "content-length", "+5")
		c.headers(9, false, ":method", "POST", ":path", "/9", "content-length", "0")
		must(c.WriteData(9, true, []byte("GET /admin")))
		for id := uint32(1); id < 11; id += 2 {
			s.headers(id, true, ":status", "400")
		}
	}, "1 POST /1 400 0/0 both-lengths,bad-length,odd-encoding", "3 POST /3 400 0/0 many-lengths,bad-length", "5 GET /5 400 0/0 odd-line",
		"7 GET /7 HTTP/1.1\r\nX: y 400 0/0 bad-length,odd-line", "9 POST /9 400 10/0 bad-length")
	f("one side ends early", func(c, s *side) {
		c.get(1, "/1")
		s.headers(1, false, ":status", "200", "content-length", "10")
		must(s.WriteData(1, false, []byte("abc")))
		c.get(3, "/3")
	}, "1 GET a.example/1 200 0/3 response-cut", "3 GET a.example/3 0 0/0 no-response")
}

// TestLate waits for a request's rest that crosses the server's word that it needs
// no more.
func TestLate(t *testing.T) {
	c, s := newSide(), newSide()
	c.WriteString(Preface)
	r := newRig(t, false)
	both := func(at pipeline.Time) {
		r.Data(capture.FromClient, at, c.take())
		r.Data(capture.FromServer, at, s.take())
	}
	for id := uint32(1); id <= 3; id += 2 {
		c.headers(id, false, ":method", "POST", ":authority", "a.example", ":path", "/login")
		s.headers(id, true, ":status", "401")
		must(s.WriteRSTStream(id, http2.ErrCodeNo))
	}
	both(1)
	must(c.WriteData(1, true, []byte("user=a")))
	both(2)
	r.want(t, "1 POST a.example/login 401 6/0 ")
	must(c.WritePing(false, [8]byte{}))
	both(2 + lingering)
	r.want(t, "1 POST a.example/login 401 6/0 ", "3 POST a.example/login 401 0/0 request-cut")
	if r.lingers != 0 {
		t.Errorf("%d streams are waited for", r.lingers)
	}
	r.closeBoth(t)
}

// TestOrder checks the hash of the order of headers.
func TestOrder(t *testing.T) {
	order := func(kv ...string) (sum uint64, count uint16) {
		c := newSide()
		c.WriteString(Preface)
		c.headers(1, true, kv...)
		var tally capture.Tally
		memory := capture.Memory{Max: 1 << 20}
		p := New(&Config{Tally: &tally, Memory: &memory, Emit: func(t *capture.Transaction) {
			sum, count = t.Request.Order, t.Request.Headers
		}}, &capture.Flow{}, false)
		p.Data(capture.FromClient, 1, c.take())
		p.Close(capture.FromClient, 1, capture.EndFIN)
		p.Close(capture.FromServer, 1, capture.EndFIN)
		return sum, count
	}
	a, n := order(":method", "GET", ":path", "/a", ":authority", "x", "user-agent", "1", "accept", "*/*")
	b, _ := order(":method", "PUT", ":path", "/b", ":authority", "y", "user-agent", "2", "accept", "-", "cookie", "c")
	c, _ := order(":method", "GET", ":authority", "x", ":path", "/a", "user-agent", "1", "accept", "*/*")
	d, _ := order(":method", "GET", ":path", "/a", ":authority", "x", "accept", "*/*", "user-agent", "1")
	if a == 0 || a != b || a == c || a == d || c == d || n != 2 {
		t.Errorf("orders %x %x %x %x, %d headers", a, b, c, d, n)
	}
}

// TestUpgrade reads the answer to a request of HTTP/1.1 as stream 1.
func TestUpgrade(t *testing.T) {
	r := newRig(t, false)
	var first capture.Transaction
	first.Reset()
	first.Request.Start = 1
	first.Request.Set(capture.TextMethod, []byte("GET"))
	first.Request.Set(capture.TextTarget, []byte("/first"))
	first.Flags, first.Status = capture.Upgraded, 101
	p := Upgrade(r.conf, &capture.Flow{}, &first)
	c, s := newSide(), newSide()
	c.WriteString(Preface)
	must(c.WriteSettings())
	c.get(3, "/second")
	must(s.WriteSettings())
	s.headers(1, false, ":status", "200")
	must(s.WriteData(1, true, []byte("one")))
	s.headers(3, true, ":status", "204")
	p.Data(capture.FromServer, 2, s.take())
	p.Data(capture.FromClient, 3, c.take())
	p.Close(capture.FromClient, 4, capture.EndFIN)
	p.Close(capture.FromServer, 4, capture.EndFIN)
	r.want(t, "1 GET /first 200 0/3 upgraded", "3 GET a.example/second 204 0/0 ")
	if r.memory.Used != 0 {
		t.Errorf("%d bytes were not given back", r.memory.Used)
	}
}

// TestMiddleOfConnection begins where nothing is known.
func TestMiddleOfConnection(t *testing.T) {
	c, s := newSide(), newSide()
	c.get(1, "/1") // fills the tables
	s.headers(1, true, ":status", "200", "server", "x")
	c.take()
	s.take()
	r := newRig(t, true)
	c.get(3, "/3")
	must(c.WritePing(false, [8]byte{}))
	b := c.take()
	if !Looks(b, capture.FromClient, true) || Looks(b, capture.FromClient, false) {
		t.Error("frames in a row are not taken for HTTP/2, or without the preface")
	}
	r.Data(capture.FromClient, 1, append([]byte("the end of a frame that was cut"), b...))
	s.headers(3, true, ":status", "404", "server", "x")
	must(s.WritePing(true, [8]byte{}))
	r.Data(capture.FromServer, 2, append([]byte{0, 0, 3, 0, 0, 0, 0}, s.take()...))
	c.headers(5, true, ":method", "GET", ":scheme", "http", ":authority", "b.example", ":path", "/5", "user-agent", "agent/1")
	s.headers(5, true, ":status", "200", "server", "y")
	r.Data(capture.FromClient, 3, c.take())
	r.Data(capture.FromServer, 4, s.take())
	r.closeBoth(t)
	// The first authority and agent were named before.
	r.want(t, "3 GET /3 404 0/0 request-cut,response-cut", "5 GET b.example/5 200 0/0 request-cut")
	if r.tally.Events[capture.LossHPACK] < 2 || r.tally.Bytes[capture.LossResync] != 31+7 {
		t.Errorf("counted %v", r.tally)
	}
}

// TestGaps takes a piece away, anywhere: nothing invents exchanges, what is far
// from the hole is whole, and it goes on behind it.
func TestGaps(t *testing.T) {
	c, s := newSide(), newSide()
	c.WriteString(Preface)
	const n = 60
	for i := range uint32(n) {
		c.headers(2*i+1, false, ":method", "POST", ":authority", "a.example", ":path", fmt.Sprintf("/order/%d", i), "user-agent", fmt.Sprint("agent/", i%5))
		must(c.WriteData(2*i+1, true, make([]byte, 300)))
		s.headers(2*i+1, false, ":status", "200", "server", fmt.Sprint("x", i%5))
		must(s.WriteData(2*i+1, true, make([]byte, 500)))
	}
	both := [2][]byte{c.take(), s.take()}
	const segment = 200
	for _, lost := range []capture.Direction{capture.FromClient, capture.FromServer} {
		for from := 0; from < len(both[lost]); from += 71 {
			for _, known := range []bool{true, false} {
				r := newRig(t, false)
				to := min(from+400, len(both[lost]))
				for at := 0; at < max(len(both[0]), len(both[1])); at += segment {
					for dir := range capture.Direction(2) {
						end := min(at+segment, len(both[dir]))
						if at >= end {
							continue
						}
						b := both[dir][at:end]
						if dir == lost && from < end && to > at {
							r.Data(dir, 1, b[:max(from-at, 0)])
							if from >= at {
								gap := int64(to - from)
								if !known {
									gap = -1
								}
								r.Gap(dir, 1, gap)
							}
							b = b[min(to-at, len(b)):]
						}
						r.Data(dir, 1, b)
					}
				}
				r.closeBoth(t)
				whole := 0
				for _, g := range r.got {
					var i int
					if _, err := fmt.Sscanf(g, "%d POST a.example/order", &i); err == nil && strings.HasSuffix(g, "200 300/500 ") {
						whole++
						if !strings.Contains(g, fmt.Sprintf("/order/%d 200", i/2)) {
							t.Fatalf("gap of %d at %d: %s", lost, from, g)
						}
					}
				}
				// Behind a hole in the client's side names are unknown until they
				// are written out again: a.example is not.
				if least := from/1000 - 4; whole < least || len(r.got) > n {
					t.Fatalf("gap of %d at %d, known %v: %d of %d are whole: %q", lost, from, known, whole, len(r.got), r.got)
				}
				ends := 0
				for _, g := range r.got {
					if strings.Contains(g, fmt.Sprintf("/order/%d ", n-1)) {
						ends++
					}
				}
				if to < len(both[lost])-2000 && ends != 1 {
					t.Fatalf("gap of %d at %d, known %v: reading did not go on: %v %q", lost, from, known, r.tally, r.got)
				}
			}
		}
	}
}

// TestBounds checks what one connection can make the parser hold.
func TestBounds(t *testing.T) {
	r := newRig(t, false)
	c := newSide()
	c.WriteString(Preface)
	for i := range uint32(3 * MaxStreams) {
		c.get(2*i+1, "/"+strings.Repeat("x", 3000))
		r.Data(capture.FromClient, 1, c.take())
		if len(r.streams) > MaxStreams || r.memory.Used > r.memory.Max {
			t.Fatalf("%d streams, %d bytes", len(r.streams), r.memory.Used)
		}
	}
	if len(r.got) != 2*MaxStreams || r.tally.Events[capture.LossUnpaired] != 2*MaxStreams {
		t.Errorf("%d were given out, %v", len(r.got), r.tally)
	}
	// A header block without an end.
	must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 99999, BlockFragment: make([]byte, 16000)}))
	for range 100 {
		must(c.WriteContinuation(99999, false, make([]byte, 16000)))
		r.Data(capture.FromClient, 1, c.take())
	}
	if cap(r.half[0].block) > maxBlock {
		t.Errorf("%d bytes of a header block are held", cap(r.half[0].block))
	}
	must(c.WriteContinuation(99999, true, nil))
	c.headers(100001, true, ":method", "GET", ":path", "/after")
	r.Data(capture.FromClient, 1, c.take())
	r.closeBoth(t)
	if last := r.got[len(r.got)-1]; last != "100001 GET /after 0 0/0 no-response" {
		t.Errorf("the last is %.200q", last)
	}
}
