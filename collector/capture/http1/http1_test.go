package http1

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/collector/capture"
	"weir/pipeline"
)

// step is what a parser is fed: text of a side, or a gap or an end.
type step struct {
	dir capture.Direction
	b   string
	gap int64
	end bool
	how capture.End
}

func c(b string) step { return step{b: b} }
func s(b string) step { return step{dir: capture.FromServer, b: b} }

func gap(dir capture.Direction, n int64) step       { return step{dir: dir, gap: n} }
func end(dir capture.Direction, h capture.End) step { return step{dir: dir, end: true, how: h} }
func fin() []step                                   { return []step{end(0, capture.EndFIN), end(1, capture.EndFIN)} }

func steps(list ...any) (all []step) {
	for _, x := range list {
		switch x := x.(type) {
		case step:
			all = append(all, x)
		case []step:
			all = append(all, x...)
		}
	}
	return all
}

// play feeds steps, cut into pieces of at most size bytes, and returns what came out.
func play(t testing.TB, mid bool, size int, all []step) (got []string, tally *capture.Tally) {
	t.Helper()
	tally = &capture.Tally{}
	memory := &capture.Memory{Max: 1 << 20}
	env := &Env{
		Tally: tally, Memory: memory, Emit: func(x *capture.Transaction) { got = append(got, show(x)) },
		Want: func(*capture.Transaction, bool) int { return 64 },
	}
	var p Parser
	p.Reset(env, &capture.Flow{MidStream: mid})
	for i, st := range all {
		at := pipeline.Time(1e15 + i*1000)
		switch {
		case st.end:
			p.Close(st.dir, at, st.how)
		case st.gap != 0:
			p.Gap(st.dir, at, st.gap)
		default:
			for b := []byte(st.b); len(b) > 0; {
				n := min(len(b), size)
				p.Data(st.dir, at, b[:n:n])
				b = b[n:]
			}
		}
	}
	if memory.Used != 0 {
		t.Errorf("%d bytes of memory were not given back", memory.Used)
	}
	return got, tally
}

func show(x *capture.Transaction) string {
	q, r := &x.Request, &x.Response
	out := fmt.Sprintf("%s %s %s -> %d", q.Get(capture.TextMethod), q.Get(capture.TextHost), q.Get(capture.TextTarget), x.Status)
	if q.BodyBytes+r.BodyBytes > 0 {
		out += fmt.Sprintf(" %d/%d", q.BodyBytes, r.BodyBytes)
	}
	if len(q.Prefix) > 0 {
		out += fmt.Sprintf(" %q", q.Prefix)
	}
	for _, f := range []struct {
		flag capture.Flags
		name string
	}{
		{capture.Pipelined, "pipelined"},
		{capture.Upgraded, "upgraded"},
		{capture.WebSocket, "websocket"},
		{capture.Continued, "continued"},
		{capture.NoRequest, "no_request"},
		{capture.NoResponse, "no_response"},
		{capture.RequestCut, "request_cut"},
		{capture.ResponseCut, "response_cut"},
		{capture.ResetByServer, "reset"},
		{capture.AfterClose, "after_close"},
		{capture.BothLengths, "both_lengths"},
		{capture.ManyLengths, "many_lengths"},
		{capture.BadLength, "bad_length"},
		{capture.FoldedHeader, "folded"},
		{capture.BadChunk, "bad_chunk"},
		{capture.OddEncoding, "odd_encoding"},
		{capture.OddLine, "odd_line"},
	} {
		if x.Flags&f.flag != 0 {
			out += " " + f.name
		}
	}
	return out
}

const (
	get  = "GET /a?b=1 HTTP/1.1\r\nHost: h\r\n\r\n"
	ok   = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	none = "HTTP/1.1 204 No Content\r\n\r\n"
)

func TestParser(t *testing.T) {
	f := func(name string, all []step, want ...string) {
		t.Helper()
		for _, size := range []int{1 << 20, 7, 1} { // whole, in pieces, byte by byte
			got, _ := play(t, false, size, all)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s, in pieces of %d: %s", name, size, d)
			}
		}
	}
	one := "GET h /a?b=1 -> 200 0/5"

	f("plain", steps(c(get), s(ok), fin()), one)
	f("keep-alive", steps(c(get), s(ok), c(get), s(none)), one, "GET h /a?b=1 -> 204")
	f("pipelined", steps(c(get+get), s(ok+none)), one, "GET h /a?b=1 -> 204 pipelined")
	f("head", steps(c("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"), s("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), c(get), s(ok)), "HEAD h / -> 200", one)
	f("304", steps(c(get), s("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"), c(get), s(ok)), "GET h /a?b=1 -> 304", one)
	f("chunks", steps(c(get), s("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n00003\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"), c(get), s(ok)),
		"GET h /a?b=1 -> 200 0/8", one)
	f("chunked request", steps(c("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n"), s(ok)), `POST h / -> 200 3/5 "a=b"`)
	f("until close", steps(c("GET / HTTP/1.0\r\n\r\n"), s("HTTP/1.0 200 OK\r\n\r\nsome text"), fin()), "GET  / -> 200 0/9")
	f("body", steps(c("POST /l HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\nuser=me"), s(ok)), `POST h /l -> 200 7/5 "user=me"`)
	f("100", steps(c("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"), s("HTTP/1.1 100 Continue\r\n\r\n"), c("abc"), s(ok)),
		`PUT h / -> 200 3/5 "abc" continued`)
	f("early answer", steps(c("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nab"), s(ok), c("cdefgh"), c(get), s(ok)), `POST h / -> 200 8/5 "abcdefgh"`, one)
	f("websocket", steps(c("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
		s("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"), c("\x81\x05hello"), s("\x81\x05hello"), fin()), "GET h /ws -> 101 upgraded websocket")
	f("connect", steps(c("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"), s("HTTP/1.1 200 OK\r\n\r\n"), c("GET / HTTP/1.1\r\n\r\n"), fin()), "CONNECT h:443 h:443 -> 200 upgraded")
	f("connect refused", steps(c("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"), s("HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nhello"), c(get), s(ok)), "CONNECT h:443 h:443 -> 403 0/5", one)
	f("0.9", steps(c("GET /old\r\n"), s("<html>"), fin()), "GET  /old -> 0 0/6")
	f("unanswered", steps(c(get), end(0, capture.EndFIN), end(1, capture.EndReset)), "GET h /a?b=1 -> 0 no_response reset")
	f("after close", steps(end(1, capture.EndFIN), c(get), end(0, capture.EndFIN)), "GET h /a?b=1 -> 0 no_response after_close")
	f("cut body", steps(c(get), s("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"), fin()), "GET h /a?b=1 -> 200 0/5 response_cut")
	f("empty lines before", steps(c("\r\n\r\n"+get), s("\r\n"+ok)), one)
	f("bare LF", steps(c("GET / HTTP/1.1\nHost: h\n\n"), s("HTTP/1.1 200 OK\nContent-Length: 0\n\n")), "GET h / -> 200 odd_line")
	f("absolute", steps(c("GET http://x/y HTTP/1.1\r\nHost: h\r\n\r\n"), s(ok)), "GET h http://x/y -> 200 0/5")
	f("spaces in the target", steps(c("GET /a b c HTTP/1.1\r\nHost: h\r\n\r\n"), s(ok)), "GET h /a b c -> 200 0/5")

	post := "POST / HTTP/1.1\r\nHost: h\r\n"
	f("CL and TE", steps(c(post+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), s(ok)), "POST h / -> 200 0/5 both_lengths")
	f("two CL", steps(c(post+"Content-Length: 2\r\nContent-Length: 3\r\n\r\nab"), s(ok)), `POST h / -> 200 2/5 "ab" many_lengths`)
	f("list CL", steps(c(post+"Content-Length: 2, 2\r\n\r\nab"), s(ok)), `POST h / -> 200 2/5 "ab" many_lengths`)
	f("bad CL", steps(c(post+"Content-Length: +2\r\n\r\n"), s(ok)), "POST h / -> 200 0/5 bad_length")
	f("zeros CL", steps(c(post+"Content-Length: 0000000000000000000000002\r\n\r\nab"), s(ok)), `POST h / -> 200 2/5 "ab"`)
	f("folded TE", steps(c(post+"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"), s(ok)), "POST h / -> 200 0/5 folded")
	f("odd TE", steps(c(post+"Transfer-Encoding: xchunked\r\n\r\n"), s(ok)), "POST h / -> 200 0/5 odd_encoding")
	f("space before the colon", steps(c(post+"Content-Length : 2\r\n\r\nab"), s(ok)), `POST h / -> 200 2/5 "ab" odd_line`)
	f("bad chunk", steps(c(post+"Transfer-Encoding: chunked\r\n\r\nzz\r\nab"), s(ok)), "POST h / -> 200 0/5 request_cut bad_chunk")
}

func TestGaps(t *testing.T) {
	f := func(name string, mid bool, all []step, want ...string) {
		t.Helper()
		got, _ := play(t, mid, 1<<20, all)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	one := "GET h /a?b=1 -> 200 0/5"
	long := "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"

	f("inside a body", false, steps(c(get), s(long), gap(1, 90), s("world"), c(get), s(ok)), "GET h /a?b=1 -> 200 0/100 response_cut", one)
	f("to the end of a body", false, steps(c(get), s(long), gap(1, 95), c(get), s(ok)), "GET h /a?b=1 -> 200 0/100 response_cut", one)
	f("beyond a body", false, steps(c(get), s(long), gap(1, 200), s("rest\r\n"+ok)), "GET h /a?b=1 -> 200 0/100 response_cut", "   -> 200 0/5 no_request")
	f("a response", false, steps(c(get), gap(1, 45), c("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"), s(ok)), "GET h /a?b=1 -> 0 no_response", "GET h /b -> 200 0/5")
	f("a request", false, steps(c(get), s(ok), gap(0, 50), s(none), c(get), s(ok)), one, "   -> 204 no_request", one)
	f("the end of a header", false, steps(c("GET /a HTTP/1.1\r\nHost: h\r\nCook"), gap(0, 50), s(ok), c(get), s(ok)), "GET h /a -> 200 0/5 request_cut", one)
	f("a chunk", false, steps(c(get), s("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc"), gap(1, 97), s("\r\n0\r\n\r\n"), c(get), s(ok)),
		"GET h /a?b=1 -> 200 0/100 response_cut", one)
	f("mid-stream", true, steps(s("tail of a body"), c(get), s(ok)), one)
	f("mid-stream, in a body", true, steps(c("GET not a request"), c(get), s(ok)), one)
	f("one side", true, steps(s(ok+none)), "   -> 200 0/5 no_request", "   -> 204 no_request")
	f("other side", false, steps(c(get+get), fin()), "GET h /a?b=1 -> 0 no_response", "GET h /a?b=1 -> 0 pipelined no_response")
}

func TestBounds(t *testing.T) {
	// A header without an end, and requests without answers.
	got, tally := play(t, false, 1<<20, steps(c("GET / HTTP/1.1\r\nX: "+strings.Repeat("a", 200<<10)), fin()))
	if len(got) > 0 || tally.Bytes[capture.LossMessage] == 0 {
		t.Errorf("an endless header gave %v, %d bytes counted", got, tally.Bytes[capture.LossMessage])
	}
	many := steps(c(get), s(ok))
	for range 1000 {
		many = append(many, c(get))
	}
	got, tally = play(t, false, 1<<20, steps(many, fin()))
	if len(got) != maxWaiting+1 || tally.Events[capture.LossUnpaired] == 0 {
		t.Errorf("%d requests wait, %d counted beyond", len(got), tally.Events[capture.LossUnpaired])
	}
}

func FuzzParser(f *testing.F) {
	f.Add([]byte(get+ok), uint8(3), false)
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\x00HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), uint8(1), true)
	f.Add([]byte("CONNECT a:1 HTTP/1.1\r\n\r\n\x00HTTP/1.1 200 OK\r\n\r\n\x01\x02rest"), uint8(9), false)
	f.Add([]byte("GET / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n\x00HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx"), uint8(4), false)
	f.Fuzz(func(t *testing.T, data []byte, size uint8, mid bool) {
		// A zero byte changes the side, 1 is a gap, 2 an end.
		var all []step
		dir := capture.FromClient
		last := 0
		for i, b := range data {
			if b > 2 {
				continue
			}
			if i > last {
				all = append(all, step{dir: dir, b: string(data[last:i])})
			}
			last = i + 1
			switch b {
			case 0:
				dir = dir.Other()
			case 1:
				all = append(all, gap(dir, int64(i)-3))
			case 2:
				all = append(all, end(dir, capture.End(i%4)))
			}
		}
		if last < len(data) {
			all = append(all, step{dir: dir, b: string(data[last:])})
		}
		all = append(all, fin()...)
		play(t, mid, int(size)+1, all)
	})
}
