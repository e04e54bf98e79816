package console

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// pipes is a listener whose connections are in memory, so that they live by the
// clock of a bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// dial connects; every read is drained into what the function returns.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// TestSlowloris: who sends slowly, or takes answers slowly, is cut off in the
// server's time, and others are served meanwhile.
func TestSlowloris(t *testing.T) {
	// drip sends text a byte a second and returns after how long it is cut off,
	// and what was answered.
	drip := func(t *testing.T, s *fakeStore, text string, body func(i int) string) (time.Duration, string) {
		t.Helper()
		var cut time.Duration
		var answer string
		synctest.Test(t, func(t *testing.T) {
			l := newPipes()
			o := options(s)
			server := NewServer(o)
			go func() { _ = server.Serve(l) }()
			c := l.dial()
			read := make(chan string)
			go func() {
				text, _ := io.ReadAll(c)
				read <- string(text)
			}()
			begun := time.Now()
			if _, err := io.WriteString(c, text); err != nil {
				t.Error(err)
			}
			for i := range 600 {
				if _, err := io.WriteString(c, body(i)); err != nil {
					break
				}
				time.Sleep(time.Second)
			}
			cut = time.Since(begun)
			answer = <-read
			other := l.dial()
			go func() { _, _ = io.WriteString(other, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") }()
			resp, err := http.ReadResponse(bufio.NewReader(other), nil)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("another one: %v", err)
			}
			_ = resp.Body.Close()
			_ = other.Close()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
		return cut, answer
	}
	f := func(what, text string, body func(i int) string, most time.Duration, status string) {
		t.Helper()
		s := &fakeStore{}
		cut, answer := drip(t, s, text, body)
		if cut > most || status != "" && !strings.HasPrefix(answer, "HTTP/1.1 "+status) || strings.Contains(answer, "200 OK") {
			t.Errorf("%s: cut off after %s, want at most %s: %.100q", what, cut, most, answer)
		}
	}
	f("headers", "GET /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n", func(i int) string { return fmt.Sprintf("X-%d: a\r\n", i) }, 6*time.Second, "")
	f("a first line", "GET /api/v1/", func(int) string { return "a" }, 6*time.Second, "")
	token, _ := NewToken()
	f("a body", "POST /api/v1/reveal HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5000\r\nAuthorization: Bearer "+token+"\r\n\r\n",
		func(int) string { return " " }, 12*time.Second, "401")
}

// TestSlowStoreOverAConnection: the deadline for requests ends no answer that
// takes longer.
func TestSlowStoreOverAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{wait: make(chan struct{})}
		l := newPipes()
		server := NewServer(options(s))
		go func() { _ = server.Serve(l) }()
		c := l.dial()
		go func() { _, _ = io.WriteString(c, "GET /api/v1/requests HTTP/1.1\r\nHost: localhost\r\n\r\n") }()
		go func() {
			time.Sleep(answerWithin - time.Second)
			close(s.wait)
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v %v", resp, err)
		}
		_ = resp.Body.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	})
}

// TestSlowReaders: a stream that is not taken ends.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		for range 10 {
			s.put("a")
		}
		o := options(s)
		o.Waits = func(context.Context) []string { return nil }
		l := newPipes()
		server := NewServer(o)
		go func() { _ = server.Serve(l) }()
		c := l.dial()
		if _, err := io.WriteString(c, "GET /api/v1/feed/alerts/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * streamWrite)
		synctest.Wait()
		if rest, err := io.ReadAll(c); len(rest) > 64<<10 {
			t.Errorf("it went on: %d bytes, %v", len(rest), err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestOversized: requests beyond any bound are refused and read no further.
func TestOversized(t *testing.T) {
	s := &fakeStore{}
	o := options(s)
	token := s.give(o, "anna", Admin)
	server := NewServer(o)
	l, err := Config{Listen: "127.0.0.1:0"}.Open(zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	f := func(what, request string, want string) {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() { _, _ = io.WriteString(c, request) }()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		defer resp.Body.Close()
		if resp.Status != want && !strings.HasPrefix(resp.Status, want) {
			t.Errorf("%s: %s, want %s", what, resp.Status, want)
		}
		for name, values := range resp.Header {
			for _, v := range values {
				if strings.Contains(name+v, "Injected") || strings.ContainsAny(v, "\r\n") {
					t.Errorf("%s: header %s: %q", what, name, v)
				}
			}
		}
	}
	auth := "Host: localhost\r\nAuthorization: Bearer " + token + "\r\n"
	long := strings.Repeat("x", 64<<10)
	f("a good one", "GET /api/v1/alerts HTTP/1.1\r\n"+auth+"\r\n", "200")
	f("long header", "GET /api/v1/alerts HTTP/1.1\r\n"+auth+"X: "+long+"\r\n\r\n", "431")
	f("many headers", "GET /api/v1/alerts HTTP/1.1\r\n"+auth+strings.Repeat("X: aaaaaaaaaaaaaaaaaaaaaaaa\r\n", 2000)+"\r\n", "431")
	f("long path", "GET /"+long+" HTTP/1.1\r\n"+auth+"\r\n", "431")
	f("large body", fmt.Sprintf("POST /api/v1/reveal HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{\"reason\":\"%s\"}", auth, 16<<30, strings.Repeat(long, 8)), "413")
	f("chunked body", "POST /api/v1/reveal HTTP/1.1\r\n"+auth+"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"40000\r\n{\"reason\":\""+strings.Repeat("x", 0x40000-11)+"\r\n", "413")
	f("both lengths", "POST /api/v1/reveal HTTP/1.1\r\n"+auth+"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", "400")
	f("a body of a GET", fmt.Sprintf("GET /api/v1/alerts HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", auth, 300<<10, strings.Repeat("x", 300<<10)), "200")
	f("many parameters", "GET /api/v1/alerts?"+strings.Repeat("severity=low&", 1000)+" HTTP/1.1\r\n"+auth+"\r\n", "400")
	// What comes in must not go out as a header.
	for _, in := range []string{
		"GET /api/v1/feed/alerts?severity=low%0d%0aInjected:%201 HTTP/1.1\r\n" + auth,
		"GET /%0d%0aInjected:%201 HTTP/1.1\r\n" + auth,
		"GET /api/v1/feed/alerts?limit=1&cursor=a%0d%0aInjected:1 HTTP/1.1\r\n" + auth,
		"GET /api/v1/feed/alerts HTTP/1.1\r\n" + auth + "Accept: text/html\rInjected: 1\r\n",
		"GET //Injected/%0d%0aInjected:1 HTTP/1.1\r\n" + auth,
	} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(c, in+"Connection: close\r\n\r\n") }()
		text, _ := io.ReadAll(c)
		head, _, _ := strings.Cut(string(text), "\r\n\r\n")
		for line := range strings.Lines(head) {
			if name, _, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "Injected" || strings.Contains(strings.TrimSuffix(line, "\r\n"), "\r") {
				t.Errorf("%q answers with %q", in, head)
			}
		}
		_ = c.Close()
	}
	// The Link repeats parameters: escaped.
	w := askAs(server.Handler, token, "GET", "/api/v1/feed/alerts?severity=low&limit=2", "")
	if link := w.Header().Get("Link"); strings.ContainsAny(link, "\r\n\"\\") && strings.Count(link, `"`) != 2 || strings.Count(link, ">") != 1 {
		t.Errorf("Link: %s", link)
	}
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func (a *authority) issue(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTLS: 1.3 alone, client certificates where they are asked for, and a
// certificate that changes on disk is used without a restart.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca, strangers := newAuthority(t), newAuthority(t)
	certFile, keyFile, caFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "ca")
	put := func(serial int64) {
		cert, key := ca.issue(t, serial)
		writeFile(t, certFile, cert)
		writeFile(t, keyFile, key)
	}
	put(100)
	writeFile(t, caFile, ca.pem)
	c := Config{Listen: "127.0.0.1:0", TLS: &TLSConfig{CertFile: certFile, KeyFile: keyFile}}
	serve := func() string {
		l, err := c.Open(zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		server := NewServer(options(&fakeStore{}))
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { server.Close() })
		return l.Addr().String()
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.pem)
	get := func(address string, set func(*tls.Config)) (serial int64, err error) {
		conf := &tls.Config{RootCAs: roots}
		set(conf)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		resp, err := client.Get("https://" + address + "/healthz")
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		if resp.TLS.Version != tls.VersionTLS13 || resp.StatusCode != 200 || resp.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%x %d %v", resp.TLS.Version, resp.StatusCode, resp.Header)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
	}
	address := serve()
	if serial, err := get(address, func(*tls.Config) {}); serial != 100 || err != nil {
		t.Errorf("%d, %v", serial, err)
	}
	if _, err := get(address, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err == nil {
		t.Error("it speaks TLS 1.2")
	}
	c.TLS.ClientCAFile = caFile
	address = serve()
	with := func(a *authority) func(*tls.Config) {
		cert, key := a.issue(t, 7)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} }
	}
	if _, err := get(address, with(ca)); err != nil {
		t.Error(err)
	}
	if _, err := get(address, func(*tls.Config) {}); err == nil {
		t.Error("no certificate is needed")
	}
	if _, err := get(address, with(strangers)); err == nil {
		t.Error("a stranger's certificate is taken")
	}
	// Another one on disk.
	h := &certificate{cert: certFile, key: keyFile, log: zap.NewNop()}
	if err := h.read(); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	serial := func(at time.Time) int64 { return h.get(at).Leaf.SerialNumber.Int64() }
	put(101)
	if got := serial(at); got != 101 {
		t.Errorf("certificate %d", got)
	}
	put(102)
	if got := serial(at.Add(certLook - 1)); got != 101 {
		t.Errorf("looked again too soon: %d", got)
	}
	if got := serial(at.Add(certLook)); got != 102 {
		t.Errorf("certificate %d", got)
	}
	writeFile(t, certFile, []byte("half"))
	if got := serial(at.Add(2 * certLook)); got != 102 {
		t.Errorf("certificate %d after a bad one", got)
	}
	put(103)
	if got := serial(at.Add(3 * certLook)); got != 103 {
		t.Errorf("certificate %d", got)
	}
	for _, bad := range []TLSConfig{{CertFile: dir + "/none", KeyFile: keyFile}, {CertFile: certFile, KeyFile: keyFile, ClientCAFile: keyFile}} {
		c.TLS = &bad
		if _, err := c.Open(zap.NewNop()); err == nil {
			t.Errorf("%+v opens", bad)
		}
	}
}

// TestMetricsServer has metrics and health without a token, and nothing else.
func TestMetricsServer(t *testing.T) {
	s := &fakeStore{}
	o := options(s)
	s.give(o, "x", Viewer)
	o.Open = true
	h := NewMetricsServer(o).Handler
	for path, want := range map[string]int{"/metrics": 200, "/healthz": 200, "/readyz": 200, "/api/v1/alerts": 404, "/api/v1/openapi.json": 404, "/api/v1/reveal": 404} {
		if w := ask(h, "GET", path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}
