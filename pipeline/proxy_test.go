package pipeline

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shopLine is what the tests read of one line of the shop's log.
type shopLine struct {
	Remote  string `json:"remote_addr"`
	Peer    string `json:"peer_addr"`
	Method  string `json:"method"`
	URI     string `json:"uri"`
	Status  uint16 `json:"status"`
	Agent   string `json:"user_agent"`
	XFF     string `json:"xff"`
	User    string `json:"user"`
	Key     string `json:"api_key_id"`
	Session string `json:"session"`
	Login   string `json:"login_user"`
}

func shopLines(t testing.TB) []shopLine {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "shared", "data", "tools_shop", "access.json.gz"))
	if err != nil {
		t.Skipf("no shop data: %v", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []shopLine
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var l shopLine
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		t.Fatal("no lines")
	}
	return out
}

func (l *shopLine) fill(req *Request, c *Clear, remote string) {
	*c = Clear{Remote: remote, Forwarded: l.XFF, User: l.User, APIKey: l.Key, Session: l.Session, LoginUser: l.Login}
	path, query, _ := strings.Cut(l.URI, "?")
	*req = Request{Method: l.Method, Path: path, Query: query, Status: l.Status, Agent: l.Agent}
}

// watchShop feeds the shop's log to a new ProxyWatch.
func watchShop(t testing.TB, lines []shopLine, remote func(*shopLine) string, proxies ...string) *ProxyWatch {
	t.Helper()
	r := testResolver(t, IdentityConfig{TrustedProxies: proxies}, nil)
	w := NewProxyWatch()
	for i := range lines {
		var req Request
		var c Clear
		lines[i].fill(&req, &c, remote(&lines[i]))
		r.Resolve(&req, &c)
		w.Observe(&req)
	}
	return w
}

func TestProxyWatchShop(t *testing.T) {
	lines := shopLines(t)
	peer := func(l *shopLine) string { return l.Peer }
	client := func(l *shopLine) string { return l.Remote }
	bare := func(lines []shopLine) []shopLine {
		out := append([]shopLine(nil), lines...)
		for i := range out {
			out[i].XFF = "-"
		}
		return out
	}
	only := func(keep func(*shopLine) bool) []shopLine {
		var out []shopLine
		for i := range lines {
			if keep(&lines[i]) {
				out = append(out, lines[i])
			}
		}
		return out
	}
	f := func(name string, w *ProxyWatch, want string) {
		t.Helper()
		text, line := w.Notice()
		if line != want {
			t.Errorf("%s: config line %q, want %q\n%s", name, line, want, text)
		}
		for i := range lines {
			a, _ := parseHost(lines[i].Remote)
			if w.Suspect(a.Owner()) && !strings.Contains(want, a.String()+"/") {
				t.Errorf("%s: %s is suspected", name, a)
				return
			}
		}
	}
	f("peer, headers", watchShop(t, lines, peer), "identity: {trusted_proxies: [192.0.2.10/32]}")
	f("peer, declared", watchShop(t, lines, peer, "192.0.2.10"), "")
	f("client", watchShop(t, lines, client), "")
	f("client, no headers", watchShop(t, bare(lines), client), "")
	// A small share behind the proxy and no header: nothing tells it from a house.
	f("peer, no headers", watchShop(t, bare(lines), peer), "")
	office := only(func(l *shopLine) bool { return l.Remote == "198.51.100.99" })
	f("the office alone", watchShop(t, bare(office), client), "")
	all := func(l *shopLine) string { return "10.0.0.5" }
	f("everything behind one, no headers", watchShop(t, bare(lines), all), "identity: {trusted_proxies: [10.0.0.5/32]}")
	front := append([]shopLine(nil), lines...)
	for i := range front {
		front[i].XFF = front[i].Remote
	}
	f("everything behind one, headers", watchShop(t, front, all), "identity: {trusted_proxies: [10.0.0.5/32]}")
	text, _ := watchShop(t, bare(lines), all).Notice()
	if !strings.Contains(text, "$http_x_forwarded_for") || !strings.Contains(text, "LogFormat") {
		t.Errorf("notice gives no log setting: %s", text)
	}
}

// combinedLines feeds a file in the combined format with its first field as
// the peer.
func watchCombined(t *testing.T, path ...string) *ProxyWatch {
	t.Helper()
	name := filepath.Join(append([]string{"..", "..", "shared", "data"}, path...)...)
	f, err := os.Open(name)
	if err != nil {
		t.Skipf("no data: %v", err)
	}
	defer f.Close()
	in := io.Reader(f)
	if strings.HasSuffix(name, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	w, n := NewProxyWatch(), 0
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		q := strings.Split(sc.Text(), "\"")
		if len(q) < 6 {
			continue
		}
		remote, _, _ := strings.Cut(q[0], " ")
		a, ok := parseHost(remote)
		if !ok {
			continue
		}
		var status int
		fmt.Sscan(q[2], &status)
		w.Observe(&Request{Address: a, Agent: q[len(q)-2], Status: uint16(status)})
		n++
	}
	if n < 5000 {
		t.Fatalf("%d lines read", n)
	}
	return w
}

func TestProxyWatchRealLogs(t *testing.T) {
	f := func(path ...string) {
		t.Helper()
		if text, _ := watchCombined(t, path...).Notice(); text != "" {
			t.Errorf("%v: %s", path, text)
		}
	}
	f("baseline_access_logs", "apache_logs.gz")
	f("apache_scanner_logs", "acunetix.log.gz")
}

// visitor makes the i-th request of a person: five requests to a visit.
func visitor(agents []string, people, i int) (person int, agent string) {
	person = (i/5*7 + i%3) % people
	return person, agents[person%len(agents)]
}

func agentList(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("Mozilla/5.0 (%c%c; rv:1) Gecko/%d", 'a'+i%26, 'a'+i/26, i))
	}
	return out
}

func TestProxyWatchRules(t *testing.T) {
	at := func(s string) Address {
		a, ok := parseHost(s)
		if !ok {
			t.Fatalf("bad address %q", s)
		}
		return a
	}
	host := func(i int) Address { return at(fmt.Sprintf("100.64.%d.%d", i>>8&255, i&255)) }
	// Background: ordinary direct visitors.
	background := func(i int) Request {
		return Request{Address: at(fmt.Sprintf("203.0.113.%d", i%100+1)), Agent: "Mozilla/5.0", Status: 200}
	}
	front := at("198.51.100.10")
	f := func(name string, n int, want bool, gen func(i int) Request) {
		t.Helper()
		w := NewProxyWatch()
		for i := range n {
			req := gen(i)
			w.Observe(&req)
		}
		if got := w.Suspect(front.Owner()); got != want {
			text, _ := w.Notice()
			t.Errorf("%s: suspect %v, want %v %s", name, got, want, text)
		}
		if text, line := w.Notice(); (text != "" || line != "") != want {
			t.Errorf("%s: notice %q %q, want any: %v", name, text, line, want)
		}
		b, err := w.AppendState(nil)
		if err != nil {
			t.Fatal(err)
		}
		again := NewProxyWatch()
		if err := again.RestoreState(b); err != nil || again.s != w.s {
			t.Errorf("%s: restored state differs: %v", name, err)
		}
	}
	agents := agentList(9)
	proxied := func(i int) Request {
		p, agent := visitor(agents, 40, i)
		return Request{Address: front, Forwarded: host(p), Agent: agent, Status: 200}
	}
	f("a proxy before everything", 2000, true, proxied)
	f("one of ten nodes", 20000, true, func(i int) Request {
		r := proxied(i / 10)
		if i%10 > 0 {
			r.Address = at(fmt.Sprintf("10.0.0.%d", i%10))
		}
		return r
	})
	f("a proxy for long", 3*proxyHalveEvery, true, proxied)
	f("a proxy that went away", 6*proxyHalveEvery, false, func(i int) Request {
		if i < proxyHalveEvery/2 {
			return proxied(i)
		}
		if i%40 == 0 {
			return Request{Address: front, Agent: agents[0], Status: 404}
		}
		return background(i)
	})
	f("too few requests to say", 127, false, proxied)
	f("a proxy before thousands of clients", 50000, true, func(i int) Request {
		p := i / 50 * 5 // five at a time, ten requests each
		return Request{Address: front, Forwarded: host(p + i%5), Agent: agents[(p+i)%5], Status: 200}
	})
	f("a proxy with a loud scanner behind it", 4000, true, func(i int) Request {
		r := proxied(i / 3)
		if i%3 > 0 {
			r = Request{Address: front, Forwarded: host(9999), Agent: "gobuster/3.5", Status: 404}
		}
		return r
	})
	f("a new header each request", 4000, false, func(i int) Request {
		return Request{Address: front, Forwarded: host(i), Agent: agents[i%9], Status: 404}
	})
	f("a new header each request, all served", 4000, false, func(i int) Request {
		return Request{Address: front, Forwarded: host(i), Agent: agents[i%9], Status: 200}
	})
	f("a few forged clients and rotated agents, scanning", 4000, false, func(i int) Request {
		return Request{Address: front, Forwarded: host(i % 5), Agent: agents[i%9], Status: 404}
	})
	f("forged clients, guessing passwords answered 200", 4000, false, func(i int) Request {
		return Request{Address: front, Forwarded: host(i % 5), Agent: agents[i%5], Status: 200, Flags: FlagLogin}
	})
	f("an alibi of one request in ten", 8000, false, func(i int) Request {
		r := Request{Address: front, Forwarded: host(99), Agent: agents[0], Status: 404}
		if i%10 == 0 {
			r = proxied(i / 10)
		}
		return r
	})
	f("agents rotated independently of the forged clients", 4000, false, func(i int) Request {
		return Request{Address: front, Forwarded: host(i % 5), Agent: agents[i%9], Status: 200}
	})
	f("served, but a small share of the site", 40000, false, func(i int) Request {
		if i%25 > 0 {
			return background(i)
		}
		return proxied(i / 25)
	})
	f("an alibi first, the attack later", 30000, false, func(i int) Request {
		if i < 3000 {
			return proxied(i)
		}
		return Request{Address: front, Forwarded: host(1), Agent: agents[0], Status: 404}
	})
	f("its own address as header", 4000, false, func(i int) Request {
		r := proxied(i)
		r.Address = at("203.0.113.80")
		r.Forwarded = r.Address
		return r
	})
	f("rotated list of agents, no header", 4000, false, func(i int) Request {
		return Request{Address: at("203.0.113.80"), Agent: agentList(40)[i*7%40], Status: 200}
	})
	f("rotated agents that never find anything, no header", 4000, false, func(i int) Request {
		_, agent := visitor(agentList(40), 40, i)
		return Request{Address: front, Agent: agent, Status: 404}
	})
	f("an office of fourteen kinds of agent at half the traffic", 8000, false, func(i int) Request {
		if i%2 == 0 {
			return background(i)
		}
		_, agent := visitor(agentList(14), 80, i/2)
		return Request{Address: front, Agent: agent, Status: 200}
	})
	f("an office of fourteen kinds of agent alone", 8000, false, func(i int) Request {
		_, agent := visitor(agentList(14), 80, i)
		return Request{Address: at("203.0.113.80"), Agent: agent, Status: 200}
	})
	// A private address is no client from the internet.
	front = at("127.0.0.1")
	f("a private proxy with an attacker who makes nine requests in ten", 8000, true, func(i int) Request {
		r := Request{Address: front, Forwarded: host(99), Agent: agents[0], Status: 404}
		if i%10 == 0 {
			r = proxied(i / 10)
		}
		return r
	})
	f("the same, no header", 8000, true, func(i int) Request {
		r := Request{Address: front, Agent: agents[0], Status: 401, Flags: FlagLogin}
		if i%10 == 0 {
			r = proxied(i / 10)
			r.Forwarded = Address{}
		}
		return r
	})
	f("a private client that forges a header with each request and changes agents", 8000, false, func(i int) Request {
		return Request{Address: front, Forwarded: host(i), Agent: agents[i%9], Status: 401, Flags: FlagLogin}
	})
	f("a private client with two programs", 8000, false, func(i int) Request {
		return Request{Address: front, Agent: agents[i%2], Status: 200}
	})
	f("nine kinds of agent from a private address, which no client on the internet has", 8000, true, func(i int) Request {
		return Request{Address: front, Agent: agentList(9)[i*7%9], Status: 200}
	})
	if err := NewProxyWatch().RestoreState([]byte("short")); err == nil {
		t.Error("short state accepted")
	}
}

// TestProxyWatchHold: findings wait while a population may be behind a loud client,
// and for nobody who forges one from nothing.
func TestProxyWatchHold(t *testing.T) {
	address := func(s string) Address {
		a, ok := parseHost(s)
		if !ok {
			t.Fatalf("bad address %q", s)
		}
		return a
	}
	agents := agentList(5)
	host := func(i int) Address { return address(fmt.Sprintf("100.64.0.%d", i)) }
	guess := func(front, claim Address) Request {
		return Request{Address: front, Forwarded: claim, Agent: "python-requests/2.31", Status: 401, Flags: FlagLogin}
	}
	// f wants findings of front to wait, at some time from the given request to
	// the other, or never.
	f := func(name, front string, from, to int, want bool, gen func(i int, front Address) Request) {
		t.Helper()
		w, a := NewProxyWatch(), address(front)
		for i := range to {
			req := gen(i, a)
			w.Observe(&req)
			if i >= from && (w.Hold(a.Owner()) || w.Suspect(a.Owner())) != want {
				t.Errorf("%s: request %d: hold %v, suspect %v, want either: %v", name, i+1, w.Hold(a.Owner()), w.Suspect(a.Owner()), want)
				return
			}
		}
	}
	loud := func(i int, front Address) Request {
		if i%8 > 0 {
			return guess(front, host(99))
		}
		return Request{Address: front, Forwarded: host(1 + i/8*7%20), Agent: agents[i/8*7%20%5], Status: 200}
	}
	bare := func(i int, front Address) Request {
		r := loud(i, front)
		r.Forwarded = Address{}
		return r
	}
	for _, front := range []string{"203.0.113.5", "10.0.0.5"} {
		f("one loud client of many behind "+front, front, 24, 511, true, loud)
		f("a new header each request from "+front, front, 0, 2000, false, func(i int, a Address) Request { return guess(a, host(i%250)) })
		f("a forged header from "+front, front, 0, 2000, false, func(_ int, a Address) Request { return guess(a, host(7)) })
		f("three forged headers from "+front, front, 0, 2000, false, func(i int, a Address) Request { return guess(a, host(i%3)) })
	}
	f("a new header and agent each request, all served", "203.0.113.5", 0, 512, false, func(i int, a Address) Request {
		return Request{Address: a, Forwarded: host(i % 250), Agent: fmt.Sprintf("curl/%c", 'a'+i%2), Status: 200}
	})
	f("a private proxy, no header", "10.0.0.5", 24, 2000, true, bare)
	f("a public address, no header", "203.0.113.5", 0, 2000, false, bare)
	f("a loud client, in the end", "203.0.113.5", 512, 2000, false, loud)
}

func TestProxyWatchCDN(t *testing.T) {
	f := func(name string, want bool, gen func(i int) (addr, agent string)) {
		t.Helper()
		w := NewProxyWatch()
		var a Address
		for i := range 4000 {
			addr, agent := gen(i)
			var ok bool
			if a, ok = parseHost(addr); !ok {
				t.Fatal(addr)
			}
			w.Observe(&Request{Address: a, Agent: agent, Status: 200})
		}
		text, line := w.Notice()
		if w.Suspect(a.Owner()) != want || strings.Contains(line, "104.16.0.0/13") != want {
			t.Errorf("%s: suspect %v, line %q, text %q", name, w.Suspect(a.Owner()), line, text)
		}
	}
	agents := agentList(9)
	f("a site behind it", true, func(i int) (string, string) {
		return fmt.Sprintf("172.70.%d.%d", i%20, i%200), agents[i%9]
	})
	f("one abuser on its network", false, func(i int) (string, string) { return "104.28.1.1", agents[i%9] })
	f("many edges, one agent", false, func(i int) (string, string) {
		return fmt.Sprintf("104.28.1.%d", i%200+1), "curl/8"
	})
	f("a few visitors through it", false, func(i int) (string, string) {
		if i%10 > 0 && i < 3999 {
			return fmt.Sprintf("203.0.113.%d", i%200+1), agents[i%9]
		}
		return fmt.Sprintf("172.70.1.%d", i%100+1), agents[i%9]
	})
	for i, n := range cdnNetworks() {
		if len(n) < 15 {
			t.Errorf("provider %d: %d networks", i, len(n))
		}
	}
}

func TestProxyWatchAllocs(t *testing.T) {
	w, i := NewProxyWatch(), 0
	if n := testing.AllocsPerRun(2000, func() {
		i++
		w.Observe(&Request{Address: Address{10: 255, 11: 255, 13: byte(i), 15: 1}, Forwarded: Address{10: 255, 11: 255, 15: byte(i)}, Agent: "Mozilla/5.0", Status: 200})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkProxyWatch(b *testing.B) {
	w, i := NewProxyWatch(), 0
	for b.Loop() {
		i++
		w.Observe(&Request{Address: Address{10: 255, 11: 255, 12: 10, 14: byte(i >> 8), 15: byte(i)}, Agent: "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0", Status: 200})
	}
}
