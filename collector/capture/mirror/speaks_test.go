package mirror

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/collector/capture"
	"weir/pipeline"
)

// said is what one side sends.
type said struct {
	dir capture.Direction
	b   string
}

func client(b string) said { return said{capture.FromClient, b} }
func server(b string) said { return said{capture.FromServer, b} }

// frameHTTP2 is a frame of HTTP/2.
func frameHTTP2(kind, flags, stream byte, body string) string {
	return string([]byte{0, 0, byte(len(body)), kind, flags, 0, 0, 0, stream}) + body
}

// TestLayers: what a connection speaks is told by its first bytes, and what is inside
// of it likewise.
func TestLayers(t *testing.T) {
	f := func(name string, want Streams, exchanges []string, all ...said) {
		t.Helper()
		var got []string
		m := New(Config{Emit: func(x *capture.Transaction) {
			got = append(got, fmt.Sprintf("%v %s %s %d %d", x.Version, x.Request.Get(capture.TextMethod), x.Request.Get(capture.TextTarget), x.Status, x.Response.BodyBytes))
		}})
		l := m.layers[m.layer(&capture.Flow{})-1]
		for i, s := range all {
			l.Data(s.dir, pipeline.Time(1e15+i), []byte(s.b))
		}
		for dir := range capture.Direction(2) {
			l.Close(dir, 2e15, capture.EndFIN)
		}
		want.Exchanges = int64(len(exchanges))
		if d := cmp.Diff(want, m.Streams); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if d := cmp.Diff(exchanges, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if m.Memory.Used != 0 || len(m.free) != len(m.layers) {
			t.Errorf("%s: %d bytes of memory, %d of %d layers in use", name, m.Memory.Used, len(m.layers)-len(m.free), len(m.layers))
		}
	}
	const get, ok = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
	one := []string{"HTTP/1.1 GET /a 200 2"}
	preface := string(prefaceHTTP2) + frameHTTP2(4, 0, 0, "")
	// :method GET, :scheme http, :path /, and :status 200, all of the static table.
	asks, answers := frameHTTP2(1, 5, 1, "\x82\x86\x84"), frameHTTP2(1, 4, 1, "\x88")+frameHTTP2(0, 1, 1, "hi")

	f("HTTP/1", Streams{HTTP1: 1}, one, client(get), server(ok))
	f("HTTP/2", Streams{HTTP2: 1}, []string{"HTTP/2.0 GET / 200 2"}, client(preface+asks), server(frameHTTP2(4, 0, 0, "")+answers))
	f("HTTP/2, the server's settings first", Streams{HTTP2: 1}, []string{"HTTP/2.0 GET / 200 2"}, server(frameHTTP2(4, 0, 0, "")), client(preface+asks), server(answers))
	f("upgrade to HTTP/2", Streams{HTTP1: 1, HTTP2: 1}, []string{"HTTP/1.1 GET /up 200 2"},
		client("GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"),
		server("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), server(frameHTTP2(4, 0, 0, "")+answers), client(preface))
	f("HTTP/1 inside CONNECT", Streams{HTTP1: 2}, []string{"HTTP/1.1 CONNECT h:80 200 0", "HTTP/1.1 GET /a 200 2"},
		client("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n"), server("HTTP/1.1 200 OK\r\n\r\n"), client(get), server(ok))
	f("behind a proxy's words", Streams{HTTP1: 1}, one, client("\x05\x01\x00"), server("\x05\x00"), client("\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"), server("\x05\x00"), client(get), server(ok))
	f("no request, answered", Streams{HTTP1: 1}, []string{"HTTP/1.1  \x01\x02nothing 200 2"}, client("\x01\x02nothing"), server(ok))
	f("TLS to a port of HTTP", Streams{HTTP1: 1}, []string{"HTTP/1.1  \x16\x03\x01\x00\x05\x01\x00\x00\x01\x00 200 2"}, client("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), server(ok))
	f("something else", Streams{Other: 1}, nil, server("220 mail ESMTP\r\n"), client("EHLO x\r\n"), server("250 a\r\n"), client("QUIT\r\n"),
		server("1"), client("2"), server("3"), client("4"), server("5"))
}
