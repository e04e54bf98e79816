package h2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/collector/capture"
	"weir/pipeline"
)

// chunk is what one write put on the wire.
type chunk struct {
	dir capture.Direction
	b   []byte
}

// tape records both directions of one connection, from the server's end.
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

// logEntry is what the server logs of one exchange, and what must be read.
type logEntry struct {
	Method, Target, Host, Agent, Cookie, Authorization, Type, Forwarded string
	Status                                                              int
	Request, Response                                                   int64
	GRPC                                                                string
	Prefix                                                              string
}

// shop is a server that logs: bodies both ways, interim responses, trailers,
// compressed or streamed answers.
type shop struct {
	mu  sync.Mutex
	log []logEntry
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := logEntry{
		Method: r.Method, Target: r.RequestURI, Host: r.Host, Agent: r.UserAgent(), Cookie: strings.Join(r.Header["Cookie"], "; "),
		Authorization: r.Header.Get("Authorization"), Type: r.Header.Get("Content-Type"), Forwarded: strings.Join(r.Header["X-Forwarded-For"], ", "),
		Status: http.StatusOK,
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	e.Request, e.Prefix = int64(len(body)), string(body[:min(len(body), 100)])
	var out []byte
	switch {
	case strings.HasPrefix(r.URL.Path, "/missing"):
		e.Status = http.StatusNotFound
		w.WriteHeader(e.Status)
	case strings.HasPrefix(r.URL.Path, "/hints"):
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		out = []byte("hinted")
	case strings.HasPrefix(r.URL.Path, "/rpc"):
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		status := fmt.Sprint(len(body) % 17)
		if r.Method != http.MethodHead { // its answer ends with the header
			e.GRPC = status
		}
		defer func() {
			w.Header().Set("Grpc-Status", status)
			w.Header().Set("Grpc-Message", "x")
		}()
		out = make([]byte, len(body))
	case strings.HasPrefix(r.URL.Path, "/stream"):
		for range 20 {
			out = append(out, make([]byte, 5000)...)
			_, _ = w.Write(make([]byte, 5000))
			w.(http.Flusher).Flush()
		}
		e.Response = int64(len(out))
		out = nil
	default:
		out = make([]byte, len(r.URL.Path)*10)
	}
	_, _ = w.Write(out)
	e.Response += int64(len(out))
	if r.Method == http.MethodHead {
		e.Response = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, e)
}

func serve(tb testing.TB, h http.Handler) (*taping, string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	t := &taping{Listener: l}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: h, Protocols: &protocols}
	go func() { _ = server.Serve(t) }()
	tb.Cleanup(func() { _ = server.Close() })
	return t, l.Addr().String()
}

func h2cClient() *http.Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: &protocols, DisableCompression: true}}
}

// read runs recordings through the parser in pieces of at most n bytes (n = 0: as
// they were written).
func read(tb testing.TB, tapes []*tape, n int) (got []logEntry, tally capture.Tally) {
	tb.Helper()
	memory := capture.Memory{Max: 64 << 20}
	conf := &Config{
		Tally: &tally, Memory: &memory,
		Want: func(*capture.Transaction, capture.Direction) int { return 100 },
		Emit: func(t *capture.Transaction) { got = append(got, toEntry(tb, t)) },
	}
	for _, tape := range tapes {
		tape.mu.Lock()
		p := New(conf, &capture.Flow{}, false)
		at := pipeline.Time(0)
		for i, c := range tape.chunks {
			if i == 0 && !Looks(c.b, c.dir, false) {
				tb.Errorf("not taken for HTTP/2: %q", c.b)
			}
			for b := c.b; len(b) > 0; {
				k := len(b)
				if n > 0 {
					k = min(k, n)
				}
				at++
				p.Data(c.dir, at, b[:k])
				b = b[k:]
			}
		}
		tape.mu.Unlock()
		p.Close(capture.FromClient, at, capture.EndFIN)
		p.Close(capture.FromServer, at, capture.EndFIN)
	}
	if memory.Used != 0 {
		tb.Errorf("%d bytes were not given back", memory.Used)
	}
	return got, tally
}

func toEntry(tb testing.TB, t *capture.Transaction) logEntry {
	if t.Flags&^(capture.GRPC|capture.Continued) != 0 || t.Version != capture.HTTP2 {
		tb.Errorf("stream %d: flags %b, version %v", t.Number, t.Flags, t.Version)
	}
	if t.Request.Start == pipeline.NoTime || t.Request.End < t.Request.Start || t.Response.Start < t.Request.Start || t.Response.End < t.Response.Start {
		tb.Errorf("stream %d: times %d %d %d %d", t.Number, t.Request.Start, t.Request.End, t.Response.Start, t.Response.End)
	}
	r := &t.Request
	return logEntry{
		Method: strings.Clone(r.Get(capture.TextMethod)), Target: strings.Clone(r.Get(capture.TextTarget)),
		Host: strings.Clone(r.Get(capture.TextHost)), Agent: strings.Clone(r.Get(capture.TextAgent)),
		Cookie: strings.Clone(r.Get(capture.TextCookie)), Authorization: strings.Clone(r.Get(capture.TextAuthorization)),
		Type: strings.Clone(r.Get(capture.TextContentType)), Forwarded: strings.Clone(r.Get(capture.TextForwarded)),
		Status: int(t.Status), Request: r.BodyBytes, Response: t.Response.BodyBytes,
		GRPC: strings.Clone(t.Response.Get(capture.TextGRPCStatus)), Prefix: string(r.Prefix),
	}
}

func sortEntries(es []logEntry) {
	slices.SortFunc(es, func(a, b logEntry) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}

// traffic sends n requests from several goroutines and returns the server's log.
func traffic(tb testing.TB, n int) (*taping, []logEntry) {
	tb.Helper()
	var s shop
	listener, addr := serve(tb, &s)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			client := h2cClient()
			r := rand.New(rand.NewPCG(uint64(worker), 1))
			for i := range n / 8 {
				if err := ask(client, addr, r, i); err != nil {
					tb.Error(err)
					return
				}
			}
			client.CloseIdleConnections()
		})
	}
	wg.Wait()
	return listener, s.log
}

func ask(client *http.Client, addr string, r *rand.Rand, i int) error {
	method := []string{"GET", "POST", "PUT", "HEAD", "DELETE"}[r.IntN(5)]
	path := []string{"/orders/%d?page=2", "/missing/%d", "/hints/%d", "/rpc/%d", "/stream/%d", "/ä%d"}[r.IntN(6)]
	var body io.Reader
	if method == "POST" || method == "PUT" {
		size := []int{0, 1, 50, 5000, 40000}[r.IntN(5)]
		body = bytes.NewReader(bytes.Repeat([]byte{byte('a' + i%26)}, size))
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+addr+fmt.Sprintf(path, i), body)
	if err != nil {
		return err
	}
	req.Host = fmt.Sprintf("shop%d.example.com", r.IntN(3))
	req.Header.Set("User-Agent", fmt.Sprintf("client/%d", r.IntN(100)))
	if r.IntN(2) == 0 {
		req.Header.Set("Authorization", fmt.Sprintf("Bearer %064d", r.IntN(1000)))
	}
	if r.IntN(2) == 0 {
		req.AddCookie(&http.Cookie{Name: "session", Value: fmt.Sprint(r.IntN(1000))})
		req.AddCookie(&http.Cookie{Name: "theme", Value: strings.Repeat("x", r.IntN(3000))})
	}
	if r.IntN(4) == 0 {
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		req.Header.Add("X-Forwarded-For", "198.51.100.1")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	return resp.Body.Close()
}

// TestServerLog compares every exchange of a real server and real clients with
// the server's own log, however the bytes are cut.
func TestServerLog(t *testing.T) {
	listener, want := traffic(t, 1000)
	sortEntries(want)
	for _, n := range []int{0, 1, 9, 1460} {
		got, tally := read(t, listener.tapes, n)
		sortEntries(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("by %d: (-log +read)\n%.3000s", n, diff)
		}
		if tally != (capture.Tally{}) {
			t.Errorf("by %d: %v", n, tally)
		}
	}
	if len(want) != 1000 {
		t.Fatalf("%d requests", len(want))
	}
}
