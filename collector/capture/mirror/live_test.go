package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"weir/collector"
	"weir/collector/capture/packet"
	"weir/pipeline"
)

// TestLive captures what a client and a server say to each other on loopback.
func TestLive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasPrefix(r.URL.Path, "/gone") {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 700))
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	plain := func() collector.Identify {
		return func(r *pipeline.Request, f *collector.Fields) { r.Address, _ = pipeline.ParseAddress(f.Remote) }
	}
	for _, workers := range []int{1, 3} {
		l, err := OpenLive(LiveConfig{Source: "capture:lo", SourceID: 7, Interface: "lo", Filter: "tcp port " + port, Buffer: 4 << 20, Workers: workers, NewIdentify: plain, Cause: 100})
		if errors.Is(err, packet.ErrPrivilege) {
			t.Skipf("no right to capture: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		l.Start()
		const n = 300
		go func() {
			client := server.Client()
			for i := range n {
				resp, err := client.Post(fmt.Sprintf("%s/%s/%d?n=%d", server.URL, []string{"page", "gone"}[i%2], i, i), "application/json", strings.NewReader(`{"a":1}`))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		seen, cause := map[string]bool{}, int64(100)
		for len(seen) < n {
			b, err := l.Next(ctx)
			if err != nil {
				t.Fatalf("%d of %d requests, then: %v", len(seen), n, err)
			}
			if b.Cause.From != cause || b.Cause.To-b.Cause.From != int64(len(b.Requests)) {
				t.Errorf("a block of %d requests from %d to %d, want from %d", len(b.Requests), b.Cause.From, b.Cause.To, cause)
			}
			cause = b.Cause.To
			for i := range b.Requests {
				r := &b.Requests[i]
				want := uint16(200)
				if strings.HasPrefix(r.Path, "/gone") {
					want = 404
				}
				if r.Method != "POST" || r.Status != want || r.Bytes != 700 || r.Address.String() != "127.0.0.1" {
					t.Errorf("%s %s: %d, %d bytes, from %v", r.Method, r.Path, r.Status, r.Bytes, r.Address)
				}
				seen[strings.Clone(r.Query)] = true
			}
			l.Release(b)
		}
		cancel()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if sum := l.Summary(); sum.Streams.Exchanges != n {
			t.Errorf("%d workers: %d exchanges counted, want %d", workers, sum.Streams.Exchanges, n)
		}
	}
}

func TestLiveRefuses(t *testing.T) {
	if _, err := OpenLive(LiveConfig{Interface: "no-such-if0"}); err == nil || !strings.Contains(err.Error(), "no-such-if0") {
		t.Errorf("an interface that there is not gives %v", err)
	}
	if _, err := OpenLive(LiveConfig{Interface: "lo", Filter: "port"}); err == nil || !strings.Contains(err.Error(), "tcp port 80") {
		t.Errorf("a bad filter gives %v", err)
	}
}
