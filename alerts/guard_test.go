package alerts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"weir/pipeline"
)

// TestGuard: a name leads nowhere inside unless the configuration allows it, in
// whatever form the address comes, and the connection goes where was looked.
func TestGuard(t *testing.T) {
	f := func(host string, resolved []string, allow []string, want string) {
		t.Helper()
		var dialled, asked []string
		g := newGuard(SinkOptions{})
		for _, p := range allow {
			g.allow = append(g.allow, netip.MustParsePrefix(p))
		}
		g.resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			asked = append(asked, host)
			var out []netip.Addr
			for _, s := range resolved {
				out = append(out, netip.MustParseAddr(s))
			}
			return out, nil
		}
		g.connect = func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = append(dialled, address)
			ours, _ := net.Pipe()
			return ours, nil
		}
		c, err := g.dial(t.Context(), "tcp", net.JoinHostPort(host, "443"))
		got := ""
		if err == nil {
			c.Close()
			got = dialled[0]
		} else if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "allow_networks") || len(dialled) > 0 {
			t.Errorf("%s: %v, dialled %v", host, err, dialled)
		}
		if got != want || len(asked) > 1 || len(dialled) > 1 {
			t.Errorf("%s as %v: connected to %q, want %q; asked %v, dialled %v", host, resolved, got, want, asked, dialled)
		}
	}
	f("siem.example.com", []string{"198.51.100.7"}, nil, "198.51.100.7:443")
	f("siem.example.com", []string{"2606:4700::1"}, nil, "[2606:4700::1]:443")
	for _, inside := range []string{
		"127.0.0.1", "127.8.8.8", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "169.254.169.254", "100.100.100.200", "0.0.0.0",
		"::", "fe80::1", "fd00::1", "fd00:ec2::254", "fec0::1", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.0.8", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
		"64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "::10.0.0.1", "2002:a00:1::", "2002:7f00:1::1",
	} {
		f("siem.example.com", []string{inside}, nil, "")
	}
	// Rebinding: what is asked once is what is dialled; the public one of two is taken.
	f("siem.example.com", []string{"10.0.0.1", "198.51.100.7"}, nil, "198.51.100.7:443")
	f("siem.example.com", []string{"10.1.2.3"}, []string{"10.1.0.0/16"}, "10.1.2.3:443")
	f("siem.example.com", []string{"::ffff:10.1.2.3"}, []string{"10.1.0.0/16"}, "[::ffff:10.1.2.3]:443")
	f("siem.example.com", []string{"10.2.2.3"}, []string{"10.1.0.0/16"}, "")
	f("siem.example.com", []string{"169.254.169.254"}, []string{"10.0.0.0/8"}, "")
	// What the configuration spells out is meant, but for metadata and no unicast.
	f("10.0.0.1", nil, nil, "10.0.0.1:443")
	f("127.0.0.1", nil, nil, "127.0.0.1:443")
	f("169.254.169.254", nil, nil, "")
	f("169.254.169.254", nil, []string{"169.254.169.254/32"}, "169.254.169.254:443")
	f("0.0.0.0", nil, nil, "")
	f("localhost", []string{"127.0.0.1"}, nil, "127.0.0.1:443")
	f("localhost", []string{"10.0.0.1"}, nil, "")
}

// TestRedirectsAreNotFollowed: nor is what they name asked.
func TestRedirectsAreNotFollowed(t *testing.T) {
	inside := 0
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside++ }))
	defer target.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	for name, s := range everySink(t, srv.URL) {
		if err := s.Send(t.Context(), []pipeline.Alert{*last(t, stories()["idwalk"])}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if inside > 0 {
		t.Errorf("%d requests went where a redirect led", inside)
	}
}

// TestNameIntoPrivateNetwork: a sink whose name leads inside is degraded, its alerts
// wait for as long as it takes, and what to do is said.
func TestNameIntoPrivateNetwork(t *testing.T) {
	c := WebhookConfig{URL: "https://siem.example.com/hook", SecretFile: secretFile(t, oldSecret)}
	s, err := OpenSink(SinkConfig{Webhook: &c}, SinkOptions{
		resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("10.9.8.7")}, nil
		},
		dial: func(context.Context, string, string) (net.Conn, error) { panic("BUG: it connects") },
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Send(t.Context(), []pipeline.Alert{*last(t, stories()["idwalk"])})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "siem.example.com is 10.9.8.7, in a private network; name the network in alerts.allow_networks") {
		t.Error(err)
	}
	st := newStore(1)
	deliver(t, st, func(string, int) error { return err }, func(s *sinkFunc, d *Deliverer, _ *observer.ObservedLogs) {
		s.pass(30 * 24 * time.Hour)
		if len(st.dead) > 0 || d.Status()[0].State != "degraded" || s.all < 1000 {
			t.Errorf("dead %v, %+v, %d tries", st.dead, d.Status(), s.all)
		}
	})
}

func TestAllowNetworks(t *testing.T) {
	c := DefaultConfig()
	c.AllowNetworks = []string{"10.1.2.3/16", "192.0.2.1", "fd00::/8"}
	got, err := c.Networks()
	if err != nil || len(got) != 3 || got[0].String() != "10.1.0.0/16" || got[1].String() != "192.0.2.1/32" {
		t.Errorf("%v %v", got, err)
	}
	c.AllowNetworks = []string{"10.0.0.0/33"}
	if err := c.Err(); err == nil || !strings.HasPrefix(err.Error(), "alerts.allow_networks: ") {
		t.Errorf("%v", err)
	}
}

// TestRebinding: whoever controls the name and has it lead inside later gains nothing:
// it is looked at again for every connection.
func TestRebinding(t *testing.T) {
	n := newPipeNet()
	defer close(n.conns)
	taken := 0
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		taken++
		w.Header().Set("Connection", "close")
	})}
	go func() { _ = srv.Serve(n) }()
	leads := []string{"198.51.100.7", "::ffff:127.0.0.1", "10.0.0.1", "198.51.100.8", "169.254.169.254"}
	asked := 0
	s, err := OpenSink(SinkConfig{Webhook: &WebhookConfig{URL: "http://siem.example.com/hook", InsecureHTTP: true, SecretFile: secretFile(t, oldSecret)}}, SinkOptions{
		resolve: func(context.Context, string) ([]netip.Addr, error) {
			asked++
			return []netip.Addr{netip.MustParseAddr(leads[asked-1])}, nil
		},
		dial: n.dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, lead := range leads {
		err := s.Send(t.Context(), []pipeline.Alert{*last(t, stories()["idwalk"])})
		if inside := i != 0 && i != 3; errors.Is(err, ErrRefused) != inside || err != nil && !inside {
			t.Errorf("led to %s: %v", lead, err)
		}
	}
	if taken != 2 || asked != len(leads) {
		t.Errorf("%d taken, asked %d times", taken, asked)
	}
}

// TestAnswersWithoutEnd: a receiver that answers with more than anybody reads, in its
// header or its body, costs no memory and holds nothing up.
func TestAnswersWithoutEnd(t *testing.T) {
	header := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		text := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		if !header {
			text += "Transfer-Encoding: chunked\r\n\r\n"
		}
		more := "X-More: " + strings.Repeat("x", 4000) + "\r\n"
		if !header {
			more = fmt.Sprintf("%x\r\n%s\r\n", 1<<16, strings.Repeat(" ", 1<<16))
		}
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		for err == nil {
			_, err = io.WriteString(c, more)
		}
	}))
	defer srv.Close()
	a := last(t, stories()["idwalk"])
	for name, s := range everySink(t, srv.URL) {
		header = false
		before := allocated()
		err := s.Send(t.Context(), []pipeline.Alert{*a})
		if used := allocated() - before; used > 200<<20 || errors.Is(err, pipeline.ErrPermanent) {
			t.Errorf("%s: a body without end took %d MB: %v", name, used>>20, err)
		}
		header = true
		before = allocated()
		err = s.Send(t.Context(), []pipeline.Alert{*a})
		if used := allocated() - before; used > 20<<20 || err == nil || errors.Is(err, pipeline.ErrPermanent) {
			t.Errorf("%s: a header without end took %d MB: %v", name, used>>20, err)
		}
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
