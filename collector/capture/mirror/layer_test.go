package mirror

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	gotls "crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c" //nolint:staticcheck // nothing else answers an upgrade

	"weir/collector/capture"
	"weir/collector/capture/tls"
	"weir/pipeline"
)

// chunk is what one write put on the wire.
type chunk struct {
	dir capture.Direction
	b   []byte
}

// tape records one connection from the server's end.
type tape struct {
	net.Conn
	mu     sync.Mutex
	chunks []chunk
}

func (c *tape) add(dir capture.Direction, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chunks = append(c.chunks, chunk{dir, bytes.Clone(b)})
}

// recorded is what is on the tape by now.
func (c *tape) recorded() []chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.chunks)
}

func (c *tape) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.add(capture.FromClient, b[:n])
	}
	return n, err
}

func (c *tape) Write(b []byte) (int, error) {
	c.add(capture.FromServer, b)
	return c.Conn.Write(b)
}

type taping struct {
	net.Listener
	mu    sync.Mutex
	tapes []*tape
}

func (l *taping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := &tape{Conn: c}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tapes = append(l.tapes, t)
	return t, nil
}

// replay runs recordings through a Mirror's layers in pieces of at most n bytes and
// returns the exchanges in words.
func replay(t *testing.T, tapes []*tape, keys *tls.KeyLog, n int) (got []string, m *Mirror) {
	t.Helper()
	m = New(Config{Keys: keys, Emit: func(x *capture.Transaction) {
		got = append(got, fmt.Sprintf("%s %s%s %d %d/%d", x.Request.Get(capture.TextMethod), x.Request.Get(capture.TextHost),
			x.Request.Get(capture.TextTarget), x.Status, x.Request.BodyBytes, x.Response.BodyBytes))
	}})
	for _, tape := range tapes {
		flow := capture.Flow{}
		l := m.layers[m.layer(&flow)-1]
		at := pipeline.Time(0)
		for _, c := range tape.recorded() {
			for b := c.b; len(b) > 0; b = b[min(n, len(b)):] {
				at++
				l.Data(c.dir, at, b[:min(n, len(b))])
			}
		}
		l.Close(capture.FromClient, at, capture.EndFIN)
		l.Close(capture.FromServer, at, capture.EndFIN)
	}
	if m.Memory.Used != 0 {
		t.Errorf("%d bytes were not given back", m.Memory.Used)
	}
	if len(m.free) != len(m.layers) {
		t.Errorf("%d of %d layers are free", len(m.free), len(m.layers))
	}
	slices.Sort(got)
	return got, m
}

// logging is a handler that writes the log that replay must return.
type logging struct {
	mu  sync.Mutex
	log []string
}

func (h *logging) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	out := strings.Repeat("x", 10*len(r.URL.Path))
	status := http.StatusOK
	if strings.HasPrefix(r.URL.Path, "/gone") {
		status = http.StatusGone
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(out)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, out)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf("%s %s%s %d %d/%d", r.Method, r.Host, r.RequestURI, status, len(body), len(out)))
}

func (h *logging) lines() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(slices.Values(h.log))
}

func listen(t *testing.T, h http.Handler, config *gotls.Config) (*taping, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tapes := &taping{Listener: l}
	server := &http.Server{Handler: h, TLSConfig: config}
	t.Cleanup(func() { _ = server.Close() })
	if config != nil {
		go func() { _ = server.ServeTLS(tapes, "", "") }()
	} else {
		go func() { _ = server.Serve(tapes) }()
	}
	return tapes, l.Addr().String()
}

// TestUpgradeToHTTP2 has other people's clients ask for HTTP/2 by an upgrade.
func TestUpgradeToHTTP2(t *testing.T) {
	f := func(wantLines int, words ...string) {
		t.Helper()
		program, err := exec.LookPath(words[0])
		if err != nil {
			t.Logf("there is no %s", words[0])
			return
		}
		h := &logging{}
		tapes, addr := listen(t, h2c.NewHandler(h, &http2.Server{}), nil) //nolint:staticcheck // as above
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "ADDR", addr)
		}
		if out, err := exec.CommandContext(t.Context(), program, words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", words, err, out)
		}
		want := h.lines()
		for _, n := range []int{1 << 20, 1, 100} {
			got, m := replay(t, tapes.tapes, nil, n)
			if !slices.Equal(got, want) || len(want) != wantLines || m.Streams.HTTP2 == 0 {
				t.Errorf("%s by %d: read %q, want %q; %+v", words[0], n, got, want, m.Streams)
			}
		}
	}
	f(2, "curl", "-s", "--http2", "http://ADDR/one", "http://ADDR/gone/two")
	f(2, "nghttp", "-u", "http://ADDR/one", "http://ADDR/two")
	f(2, "nghttp", "http://ADDR/one", "http://ADDR/two") // prior knowledge
	f(1, "curl", "-s", "--http2-prior-knowledge", "-d", "a=b", "http://ADDR/form")
}

func certificate(t *testing.T) gotls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), DNSNames: []string{"shop.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return gotls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// https asks a server for things, through a proxy when dial does.
func https(t *testing.T, addr string, keys io.Writer, version uint16, h2 bool, dial func(context.Context, string, string) (net.Conn, error)) {
	t.Helper()
	transport := &http.Transport{
		ForceAttemptHTTP2: h2, DialContext: dial, DisableCompression: true,
		TLSClientConfig: &gotls.Config{InsecureSkipVerify: true, ServerName: "shop.example", KeyLogWriter: keys, MaxVersion: version},
	}
	client := &http.Client{Transport: transport}
	for i := range 20 {
		resp, err := client.Post(fmt.Sprintf("https://%s/orders/%d", addr, i), "text/plain", strings.NewReader(strings.Repeat("y", 3000*i)))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	transport.CloseIdleConnections()
}

// TestOpenedLayers reads both versions of HTTP inside both versions of TLS, straight
// and through a CONNECT.
func TestOpenedLayers(t *testing.T) {
	cert := certificate(t)
	for _, version := range []uint16{gotls.VersionTLS12, gotls.VersionTLS13} {
		for _, h2 := range []bool{false, true} {
			h := &logging{}
			tapes, addr := listen(t, h, &gotls.Config{Certificates: []gotls.Certificate{cert}})
			var log bytes.Buffer
			https(t, addr, &log, version, h2, nil)
			keys := &tls.KeyLog{}
			if err := keys.Read(&log); err != nil {
				t.Fatal(err)
			}
			want := h.lines()
			for _, n := range []int{1 << 20, 1000} {
				got, m := replay(t, tapes.tapes, keys, n)
				if !slices.Equal(got, want) || len(want) != 20 {
					t.Errorf("version %x, HTTP/2 %v, by %d: read %q, want %q", version, h2, n, got, want)
				}
				if st := m.Streams; st.TLS != 1 || st.Opened != 1 || st.HTTP2 == 1 != h2 {
					t.Errorf("version %x, HTTP/2 %v: %+v", version, h2, st)
				}
			}
			// Without keys it is hidden, and said so.
			got, m := replay(t, tapes.tapes, nil, 1460)
			var s Summary
			s.add(m, nil)
			s.add(m, nil) // a live capture does it again and again
			if line := s.blind(nil); len(got) != 0 || !strings.Contains(line, `1 of 1 connections (100 %) are sealed (TLS 1, QUIC 0; "shop.example" 1)`) {
				t.Errorf("read %q; %s", got, line)
			}
		}
	}
}

// TestInsideConnect follows a client through a proxy: what is recorded is the
// proxy's connection.
func TestInsideConnect(t *testing.T) {
	h := &logging{}
	_, origin := listen(t, h, &gotls.Config{Certificates: []gotls.Certificate{certificate(t)}})
	tapes, proxy := listen(t, http.HandlerFunc(connect), nil)
	var log bytes.Buffer
	https(t, origin, &log, gotls.VersionTLS13, false, func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, proxy)
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", addr, addr); err != nil {
			return nil, err
		}
		for head := ""; !strings.HasSuffix(head, "\r\n\r\n"); {
			var b [1]byte
			if _, err := c.Read(b[:]); err != nil {
				return nil, err
			}
			head += string(b[:])
		}
		return c, nil
	})
	keys := &tls.KeyLog{}
	if err := keys.Read(&log); err != nil {
		t.Fatal(err)
	}
	want := append(h.lines(), fmt.Sprintf("CONNECT %s%s 200 0/0", origin, origin))
	slices.Sort(want)
	if got, m := replay(t, tapes.tapes, keys, 1460); !slices.Equal(got, want) || len(want) != 21 {
		t.Errorf("read %q, want %q; %+v", got, want, m.Streams)
	}
}

// connect is a proxy.
func connect(w http.ResponseWriter, r *http.Request) {
	out, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(in, out) }()
	_, _ = io.Copy(out, in)
}

// TestSecretsInFile has the keys in a block of the capture file.
func TestSecretsInFile(t *testing.T) {
	h := &logging{}
	tapes, addr := listen(t, h, &gotls.Config{Certificates: []gotls.Certificate{certificate(t)}})
	var log bytes.Buffer
	https(t, addr, &log, gotls.VersionTLS13, true, nil)
	file := filepath.Join(t.TempDir(), "a.pcapng")
	write := func(keys []byte) {
		if err := os.WriteFile(file, pcapng(tapes.tapes, keys), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func() (n int) {
		r := NewReader(ReaderConfig{Path: file})
		defer r.Close()
		for {
			b, err := r.Next(t.Context())
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				return n
			}
			n += len(b.Requests)
			for i := range b.Requests {
				if q := &b.Requests[i]; q.Status != 200 || len(q.JA4) != 36 || !strings.HasPrefix(q.Path, "/orders/") {
					t.Errorf("read %+v", q)
				}
			}
			r.Release(b)
		}
	}
	write(log.Bytes())
	if n := read(); n != 20 {
		t.Errorf("%d requests were read with the file's keys", n)
	}
	write(nil)
	if n := read(); n != 0 {
		t.Errorf("%d requests were read without keys", n)
	}
}

// pcapng writes recordings as a capture of raw IP packets.
func pcapng(tapes []*tape, keys []byte) (out []byte) {
	le := binary.LittleEndian
	block := func(kind uint32, body []byte) {
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
		out = le.AppendUint32(out, kind)
		out = le.AppendUint32(out, uint32(12+len(body)))
		out = append(out, body...)
		out = le.AppendUint32(out, uint32(12+len(body)))
	}
	block(0x0a0d0d0a, []byte{0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	block(1, []byte{101, 0, 0, 0, 0, 0, 0, 0}) // LINKTYPE_RAW
	if keys != nil {
		block(10, append(le.AppendUint32(le.AppendUint32(nil, kindSecrets), uint32(len(keys))), keys...))
	}
	stamp := uint32(0)
	for i, tape := range tapes {
		var seq [2]uint32
		packet := func(dir capture.Direction, flags byte, b []byte) {
			ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}
			ports := []uint16{uint16(5000 + i), 443}
			if dir == capture.FromServer {
				ip[15], ip[19] = 2, 1
				ports[0], ports[1] = ports[1], ports[0]
			}
			be := binary.BigEndian
			seg := be.AppendUint16(be.AppendUint16(nil, ports[0]), ports[1])
			seg = be.AppendUint32(be.AppendUint32(seg, seq[dir]), seq[dir.Other()])
			seg = append(seg, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
			seg = append(seg, b...)
			be.PutUint16(ip[2:], uint16(len(ip)+len(seg)))
			seq[dir] += uint32(len(b))
			if flags&3 != 0 { // SYN or FIN
				seq[dir]++
			}
			ip = append(ip, seg...)
			stamp++
			head := le.AppendUint32(le.AppendUint32(make([]byte, 4, 20), 0), stamp)
			head = le.AppendUint32(le.AppendUint32(head, uint32(len(ip))), uint32(len(ip)))
			block(6, append(head, ip...))
		}
		packet(capture.FromClient, 2, nil)
		packet(capture.FromServer, 0x12, nil)
		for _, c := range tape.recorded() {
			for b := c.b; len(b) > 0; b = b[min(1400, len(b)):] {
				packet(c.dir, 0x18, b[:min(1400, len(b))])
			}
		}
		packet(capture.FromClient, 0x11, nil)
		packet(capture.FromServer, 0x11, nil)
	}
	return out
}
