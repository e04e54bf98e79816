package tls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	gotls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/collector/capture"
	"weir/pipeline"
)

// chunk is what one write put on the wire.
type chunk struct {
	dir capture.Direction
	b   []byte
}

// tape records both directions of a connection in the order they were read.
type tape struct {
	mu     sync.Mutex
	chunks []chunk
}

func (t *tape) add(dir capture.Direction, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.chunks = append(t.chunks, chunk{dir, bytes.Clone(b)})
}

// taped is the server's end of a connection, recorded.
type taped struct {
	net.Conn
	tape *tape
}

func (c taped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.tape.add(capture.FromClient, b[:n])
	}
	return n, err
}

func (c taped) Write(b []byte) (int, error) {
	c.tape.add(capture.FromServer, b)
	return c.Conn.Write(b)
}

func certificate(tb testing.TB) gotls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop.example.com"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), DNSNames: []string{"shop.example.com"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	return gotls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// talk runs a client and an echoing server over loopback: what the client says,
// line by line, comes back. It returns the recording and what the server agreed
// on.
func talk(tb testing.TB, client, server *gotls.Config, lines ...string) ([]chunk, gotls.ConnectionState) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var tape tape
	var state gotls.ConnectionState
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		conn := gotls.Server(taped{raw, &tape}, server)
		defer func() { _ = raw.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				done <- err
				return
			}
			if _, err = conn.Write(buf[:n]); err != nil {
				done <- err
				return
			}
		}
		state = conn.ConnectionState()
		done <- conn.Close()
	}()
	conn, err := gotls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		tb.Fatal(err)
	}
	for _, line := range lines {
		if _, err := io.WriteString(conn, line); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, len(line))); err != nil {
			tb.Fatal(err)
		}
	}
	if err := conn.Close(); err != nil {
		tb.Fatal(err)
	}
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
	return tape.chunks, state
}

// feed gives a recording to a parser in pieces of at most n bytes.
func feed(p *Parser, chunks []chunk, n int) {
	at := pipeline.Time(0)
	for _, c := range chunks {
		for b := c.b; len(b) > 0; b = b[min(n, len(b)):] {
			at++
			p.Data(c.dir, at, b[:min(n, len(b))])
		}
	}
	p.Close(capture.FromClient, at, capture.EndFIN)
	p.Close(capture.FromServer, at, capture.EndFIN)
}

// TestConnection reads real connections, in pieces of any size.
func TestConnection(t *testing.T) {
	cert := certificate(t)
	f := func(name string, client, server *gotls.Config) {
		t.Helper()
		client.InsecureSkipVerify, client.ServerName = true, "Shop.Example.com"
		client.NextProtos = []string{"h2", "http/1.1"}
		server.Certificates, server.NextProtos = []gotls.Certificate{cert}, []string{"http/1.1"}
		var said *gotls.ClientHelloInfo
		server.GetConfigForClient = func(h *gotls.ClientHelloInfo) (*gotls.Config, error) {
			said = h
			return nil, nil
		}
		chunks, state := talk(t, client, server, "one", "two", "three")
		if !Looks(chunks[0].b, false) {
			t.Fatalf("%s: not taken for TLS", name)
		}
		var first capture.Hello
		for _, n := range []int{1 << 20, 1, 5, 6, 100, 1460} {
			var tally capture.Tally
			memory := capture.Memory{Max: 1 << 16}
			var flow capture.Flow
			p := New(&Config{Tally: &tally, Memory: &memory}, &flow)
			feed(p, chunks, n)
			if flow.Hello == nil {
				t.Fatalf("%s by %d: no hello", name, n)
			}
			got := *flow.Hello
			if len(got.JA3) != 32 || len(got.JA4) != 36 || len(got.JA3S) != 32 {
				t.Errorf("%s by %d: fingerprints %+v", name, n, got)
			}
			if n == 1<<20 {
				first = got
			}
			if got != first {
				t.Errorf("%s by %d: %+v, in one piece %+v", name, n, got, first)
			}
			got.JA3, got.JA4, got.JA3S = "", "", ""
			want := capture.Hello{SNI: "shop.example.com", ALPN: "http/1.1", Version: state.Version, Cipher: state.CipherSuite}
			if state.Version == gotls.VersionTLS13 {
				want.ALPN = "h2" // the choice is sealed: what the client likes best
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s by %d: (-want +got)\n%s", name, n, diff)
			}
			if p.Resumed != (state.DidResume && state.Version == gotls.VersionTLS13) || memory.Used != 0 || tally != (capture.Tally{}) {
				t.Errorf("%s by %d: resumed %v, %d bytes held, tally %v", name, n, p.Resumed, memory.Used, tally)
			}
			// Three lines each way; TLS 1.3 seals the end of the handshake too.
			c, s := p.Features(capture.FromClient), p.Features(capture.FromServer)
			if state.Version == gotls.VersionTLS12 {
				if c.Records != 3 || s.Records != 3 || c.Turns != 3 || s.Turns != 3 || c.Bytes != 3*(8+16)+3+3+5 {
					t.Errorf("%s by %d: %+v %+v", name, n, c, s)
				}
			} else if c.Records < 4 || s.Records < 4 || c.Turns < 4 || c.First < 1 || c.Last <= c.First {
				t.Errorf("%s by %d: %+v %+v", name, n, c, s)
			}
		}
		if len(said.CipherSuites) == 0 {
			t.Errorf("%s: the server saw no hello", name)
		}
	}
	f("1.3", &gotls.Config{}, &gotls.Config{})
	f("1.2", &gotls.Config{MaxVersion: gotls.VersionTLS12, CipherSuites: []uint16{gotls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, &gotls.Config{})
	f("retry", &gotls.Config{CurvePreferences: []gotls.CurveID{gotls.X25519, gotls.CurveP384}}, &gotls.Config{CurvePreferences: []gotls.CurveID{gotls.CurveP384}})
	cache := gotls.NewLRUClientSessionCache(4)
	f("first of a session", &gotls.Config{ClientSessionCache: cache}, &gotls.Config{})
}

// TestHelloInRecords puts a hello into many records.
func TestHelloInRecords(t *testing.T) {
	chunks, _ := talk(t, &gotls.Config{InsecureSkipVerify: true, ServerName: "a.example"}, &gotls.Config{Certificates: []gotls.Certificate{certificate(t)}})
	var hello []byte
	for _, c := range chunks {
		if c.dir == capture.FromServer {
			break
		}
		hello = append(hello, c.b...)
	}
	hello = hello[recordHead:]
	for _, n := range []int{1, 3, 4, 100} {
		var wire []byte
		for b := hello; len(b) > 0; b = b[min(n, len(b)):] {
			wire = append(wire, helloType, 3, 1, 0, byte(min(n, len(b))))
			wire = append(wire, b[:min(n, len(b))]...)
		}
		var tally capture.Tally
		memory := capture.Memory{Max: 1 << 16}
		var flow capture.Flow
		p := New(&Config{Tally: &tally, Memory: &memory}, &flow)
		p.Data(capture.FromClient, 1, wire)
		if flow.Hello == nil || flow.Hello.SNI != "a.example" {
			t.Errorf("records of %d bytes: no hello; %v", n, tally.Events)
		}
	}
}

// TestGaps takes bytes away: what stays must be read as it was.
func TestGaps(t *testing.T) {
	lines := []string{string(make([]byte, 3000)), "two", "three", string(make([]byte, 3000)), "five"}
	chunks, _ := talk(t, &gotls.Config{InsecureSkipVerify: true, ServerName: "a.example"}, &gotls.Config{Certificates: []gotls.Certificate{certificate(t)}}, lines...)
	var client []byte
	for _, c := range chunks {
		if c.dir == capture.FromClient {
			client = append(client, c.b...)
		}
	}
	run := func(from, to int, known bool) (*Parser, *capture.Flow, *capture.Tally) {
		var tally capture.Tally
		memory := capture.Memory{Max: 1 << 16}
		var flow capture.Flow
		p := New(&Config{Tally: &tally, Memory: &memory}, &flow)
		p.Data(capture.FromClient, 1, client[:from])
		n := int64(to - from)
		if !known {
			n = -1
		}
		if to > from {
			p.Gap(capture.FromClient, 2, n)
		}
		p.Data(capture.FromClient, 3, client[to:])
		p.Close(capture.FromClient, 4, capture.EndFIN)
		if memory.Used != 0 {
			t.Errorf("gap %d to %d: %d bytes held", from, to, memory.Used)
		}
		return p, &flow, &tally
	}
	whole, _, _ := run(len(client), len(client), true)
	all := whole.Features(capture.FromClient).Records
	hello := recordHead + int(client[3])<<8 + int(client[4])
	for from := 0; from < len(client); from += 7 {
		for _, n := range []int{1, 100, 1460} {
			for _, known := range []bool{true, false} {
				to := min(from+n, len(client))
				p, flow, _ := run(from, to, known)
				if (flow.Hello != nil) != (from >= hello) {
					t.Fatalf("gap %d to %d: hello %v", from, to, flow.Hello)
				}
				// Only the records that the gap touches may be missing, and the
				// one behind when its head cannot be told.
				got := p.Features(capture.FromClient).Records
				if got > all || got < all-5 {
					t.Fatalf("gap %d to %d known %v: %d of %d records", from, to, known, got, all)
				}
			}
		}
	}
}

func FuzzHello(f *testing.F) {
	chunks, _ := talk(f, &gotls.Config{InsecureSkipVerify: true, ServerName: "a.example", NextProtos: []string{"h2"}}, &gotls.Config{Certificates: []gotls.Certificate{certificate(f)}}, "one")
	var both [2][]byte
	for _, c := range chunks {
		both[c.dir] = append(both[c.dir], c.b...)
	}
	f.Add(both[0], both[1], uint16(300))
	f.Add(both[1], both[0], uint16(1))
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff}, []byte{22, 3, 1, 0, 0}, uint16(0))
	f.Fuzz(func(t *testing.T, client, server []byte, cut uint16) {
		for _, b := range [][]byte{client, server} {
			if h, err := ParseClientHello(b); err == nil && (len(h.JA3()) != 32 || len(h.JA4(QUIC)) != 36) {
				t.Fatalf("fingerprints %q %q", h.JA3(), h.JA4(QUIC))
			}
			if h, err := ParseServerHello(b); err == nil && len(h.JA3S()) != 32 {
				t.Fatalf("fingerprint %q", h.JA3S())
			}
		}
		var tally capture.Tally
		memory := capture.Memory{Max: 1 << 16}
		var flow capture.Flow
		p := New(&Config{Tally: &tally, Memory: &memory}, &flow)
		at := min(int(cut), len(client))
		p.Data(capture.FromClient, 1, client[:at])
		p.Data(capture.FromServer, 1, server)
		p.Data(capture.FromClient, 2, client[at:])
		p.Gap(capture.FromServer, 3, int64(cut))
		p.Data(capture.FromServer, 4, client)
		p.Gap(capture.FromClient, 5, -1)
		p.Data(capture.FromClient, 6, server)
		if memory.Used > memory.Max {
			t.Fatalf("%d bytes held", memory.Used)
		}
		p.Close(capture.FromServer, 7, capture.EndIdle)
		p.Close(capture.FromClient, 7, capture.EndIdle)
		if memory.Used != 0 {
			t.Fatalf("%d bytes were not given back", memory.Used)
		}
	})
}

func BenchmarkHandshake(b *testing.B) {
	chunks, _ := talk(b, &gotls.Config{InsecureSkipVerify: true, ServerName: "a.example"}, &gotls.Config{Certificates: []gotls.Certificate{certificate(b)}}, "one")
	var tally capture.Tally
	memory := capture.Memory{Max: 1 << 16}
	conf := &Config{Tally: &tally, Memory: &memory}
	b.ReportAllocs()
	for range b.N {
		var flow capture.Flow
		feed(New(conf, &flow), chunks, 1460)
	}
}

func BenchmarkSealedBytes(b *testing.B) {
	chunks, _ := talk(b, &gotls.Config{InsecureSkipVerify: true}, &gotls.Config{Certificates: []gotls.Certificate{certificate(b)}}, string(make([]byte, 60000)))
	var tally capture.Tally
	memory := capture.Memory{Max: 1 << 16}
	var flow capture.Flow
	p := New(&Config{Tally: &tally, Memory: &memory}, &flow)
	size := 0
	for _, c := range chunks {
		size += len(c.b)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for i := range b.N {
		for _, c := range chunks {
			p.Data(c.dir, pipeline.Time(i), c.b)
		}
	}
}
