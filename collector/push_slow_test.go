package collector

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// pipeListener is a network of one server, for a bubble of synctest.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error   { close(p.done); return nil }
func (p *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// TestPushSlowloris: a sender that drips is cut off in the server's time, and others are
// served meanwhile.
func TestPushSlowloris(t *testing.T) {
	f := func(what, text string, drop func(i int) string, most time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			p, err := NewPush(PushConfig{Source: "push:test", Log: zap.NewNop(), Formats: func(name string) (*Format, error) {
				f, err := Named(name, ParseOptions{})
				return &f, err
			}})
			if err != nil {
				t.Fatal(err)
			}
			l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
			server := p.NewServer()
			go func() { _ = server.Serve(l) }()
			slow := l.dial()
			answer := make(chan string)
			go func() {
				text, _ := io.ReadAll(slow)
				answer <- string(text)
			}()
			begun := time.Now()
			_, err = io.WriteString(slow, text)
			for i := 0; err == nil && i < 600; i++ {
				if i == 3 {
					other := l.dial()
					go func() { _, _ = io.WriteString(other, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") }()
					resp, err := http.ReadResponse(bufio.NewReader(other), nil)
					if err != nil || resp.StatusCode != http.StatusNotFound {
						t.Fatalf("%s: another one: %v", what, err)
					}
					_ = resp.Body.Close()
					_ = other.Close()
				}
				time.Sleep(time.Second)
				_, err = io.WriteString(slow, drop(i))
			}
			if cut := time.Since(begun); cut > most {
				t.Errorf("%s: cut off after %s, want at most %s", what, cut, most)
			}
			_ = slow.Close()
			if got := <-answer; strings.Contains(got, " 200 ") || strings.Contains(got, " 204 ") {
				t.Errorf("%s: answered %q", what, got)
			}
			_ = p.Close()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	f("a first line", "POST /ingest/", func(int) string { return "a" }, 12*time.Second)
	f("headers", "POST /ingest/v1/json HTTP/1.1\r\nHost: localhost\r\n", func(i int) string { return fmt.Sprintf("X-%d: a\r\n", i) }, 12*time.Second)
	const one = `203.0.113.9 - - [02/Mar/2026:10:00:00 +0000] "GET /p HTTP/1.1" 200 512 "-" "c"`
	f("a body that nobody keeps", fmt.Sprintf("POST /ingest/v1/combined HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(one)+45, one),
		func(int) string { return "\n" }, 2*time.Minute)
	f("a body", "POST /ingest/v1/combined HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", func(int) string { return "x" }, 75*time.Second)
}
