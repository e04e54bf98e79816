package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sent is one request and what the client saw of its answer.
type sent struct {
	id        int
	client    string // the address that it came from
	method    string
	path      string // as it was on the wire, without query
	query     string
	host      string
	agent     string
	referer   string
	user      string // of HTTP Basic
	forwarded string
	session   string
	key       string
	told      string // the account that the application names as logged in
	tried     string // the account that the application names as tried
	body      int

	status     int
	bytes      int64 // of the body, decoded
	wire       int64 // of the body as framed
	total      int64 // with the header
	start, end time.Time
	failed     bool // no answer
}

// password is every user's.
const password = "pass:word"

func users() []string { return []string{"alice", "bob@example.com", "Carol", "dave.o'neil", "jörg"} }

// traffic makes up n requests; the same seed gives the same ones. Each has its
// number in its path.
func traffic(n int, seed uint64) []*sent {
	rnd := rand.New(rand.NewPCG(seed, 1))
	one := func(of ...string) string { return of[rnd.IntN(len(of))] }
	list := make([]*sent, n)
	for i := range list {
		s := &sent{
			id: i, client: fmt.Sprintf("127.0.%d.%d", 1+rnd.IntN(3), 1+rnd.IntN(250)),
			host:   one("shop.example.com", "API.Example.com", "www.example.com:8080"),
			method: one("GET", "GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "PROPFIND"),
			agent: one("Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0", "curl/8.5.0", "",
				`quoted "agent" with \ and 'more'`, "Überbrowser/1.0 (日本語)", "tab\there", "{brace|pipe}#hash%25", "bad \xff\xfe bytes", "-"),
			referer: one("", "", "https://shop.example.com/a?token=secret", `https://x.example/"quoted"`),
		}
		code := one("200", "200", "200", "200", "404", "403", "500", "302", "204", "401", "304")
		size := one("0", "7", "1024", "70000", "3000c") // c: chunked
		prefix := "/"
		switch rnd.IntN(10) {
		case 0, 1:
			s.user, prefix = one(users()...), "/auth/"
		case 2:
			s.forwarded = one("198.51.100.7", "203.0.113.9, 198.51.100.8", "unknown, 2001:db8::7", "10.0.0.1:4711")
		case 3:
			s.client = fmt.Sprintf("127.0.9.%d", 1+rnd.IntN(4)) // a proxy that is trusted
			s.forwarded = fmt.Sprintf("192.0.2.1, 198.51.100.%d", 1+rnd.IntN(200))
		case 4:
			s.session = fmt.Sprintf("sess-%d-abcdef", rnd.IntN(300))
		case 5:
			s.key = fmt.Sprintf("acme_live_%020d", rnd.IntN(100))
		case 6:
			s.told = one("alice", "zoë")
		case 7:
			s.method, s.tried = "POST", fmt.Sprintf("user%d@example.com", rnd.IntN(500))
		}
		if s.method == "POST" || s.method == "PUT" || s.method == "PATCH" {
			s.body = []int{0, 10, 5000, 300000}[rnd.IntN(4)]
		}
		s.path = prefix + code + "/" + size + "/r" + strconv.Itoa(i) + "/" + one("items", "caf%C3%A9", "café", `a"b'c`, "a%22b", `back\slash`, "a;b=c", "a,b|c{d}", "x", strings.Repeat("long/", 200), "%0a%7f", "[z]^`")
		s.query = one("", "", "id=1234&page=2", "q=caf%C3%A9&token=abc", `q="quoted"&x=<y>`, "a=1&a=2&novalue", "q=ü", "limit=100&order_id=018f3c2e-7b1a-7cc0-8e4a-123456789abc", "back\\slash=1", strings.Repeat("long=1&", 300)+"end=1", "#frag", "?")
		list[i] = s
	}
	return list
}

// sendAll sends every request, workers at a time, each on connections of its
// own that it keeps while the client stays the same.
func sendAll(ctx context.Context, to string, list []*sent, workers int) {
	done := make(chan struct{})
	for w := range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			c := &conn{to: to}
			defer c.close()
			for i := w; i < len(list) && ctx.Err() == nil; i += workers {
				c.do(list[i])
			}
		}()
	}
	for range workers {
		<-done
	}
}

// conn is one client's connection; it counts what comes in.
type conn struct {
	to   string
	from string
	c    net.Conn
	r    *bufio.Reader
	n    int64
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.c.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *conn) close() {
	if c.c != nil {
		_ = c.c.Close()
		c.c = nil
	}
}

func (c *conn) do(s *sent) {
	s.start = time.Now()
	err := c.try(s)
	s.end = time.Now()
	if err != nil {
		s.failed = true
		c.close()
	}
}

func (c *conn) try(s *sent) error {
	if c.c != nil && c.from != s.client {
		c.close()
	}
	if c.c == nil {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(s.client)}}
		nc, err := d.Dial("tcp", c.to)
		if err != nil {
			return err
		}
		c.c, c.from, c.r = nc, s.client, bufio.NewReader(c)
	}
	if err := c.c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.c, s.text()); err != nil {
		return err
	}
	before := c.n - int64(c.r.Buffered())
	res, err := http.ReadResponse(c.r, &http.Request{Method: s.method})
	if err != nil {
		return err
	}
	header := c.n - int64(c.r.Buffered()) - before
	s.bytes, err = io.Copy(io.Discard, res.Body)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	s.status = res.StatusCode
	s.total = c.n - int64(c.r.Buffered()) - before
	s.wire = s.total - header
	if res.Close || res.StatusCode == 400 {
		c.close()
	}
	if s.status == 0 {
		return errors.New("no status")
	}
	return nil
}

// text is the request as it goes over the wire.
func (s *sent) text() string {
	var b strings.Builder
	target := s.path
	if s.query != "" {
		target += "?" + s.query
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", s.method, target, s.host)
	header := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	header("User-Agent", s.agent)
	header("Referer", s.referer)
	header("X-Forwarded-For", s.forwarded)
	header("X-Api-Key", s.key)
	header("X-Test-User", s.told)
	header("X-Test-Login", s.tried)
	if s.session != "" {
		header("Cookie", "theme=dark; session="+s.session)
	}
	if s.user != "" {
		header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(s.user+":"+password)))
	}
	if s.body > 0 || s.method == "POST" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", s.body)
	}
	b.WriteString("\r\n")
	b.WriteString(strings.Repeat("x", s.body))
	return b.String()
}

// origin is the application behind the servers: it answers with the status and
// the size that the path asks for, and tells the log who is logged in.
func origin(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/auth"), "/"), "/")
	if len(parts) < 2 {
		http.NotFound(w, r)
		return
	}
	if u := r.Header.Get("X-Test-User"); u != "" {
		w.Header().Set("X-Log-User", u)
	}
	if u := r.Header.Get("X-Test-Login"); u != "" {
		w.Header().Set("X-Log-Login", u)
	}
	code, err := strconv.Atoi(parts[0])
	if err != nil {
		code = http.StatusNotFound
	}
	if code == http.StatusFound {
		w.Header().Set("Location", "/next?id=1")
	}
	digits, chunked := strings.CutSuffix(parts[1], "c")
	size, _ := strconv.Atoi(digits)
	if code == http.StatusNoContent || code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	if !chunked {
		w.Header().Set("Content-Length", strconv.Itoa(size))
	}
	w.WriteHeader(code)
	if r.Method == http.MethodHead {
		return
	}
	body := []byte(strings.Repeat("y", size))
	if chunked {
		_, _ = w.Write(body[:size/2])
		_ = http.NewResponseController(w).Flush()
		body = body[size/2:]
	}
	_, _ = w.Write(body)
}
