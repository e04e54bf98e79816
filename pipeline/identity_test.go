package pipeline

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// testResolver compiles a configuration with the public keys.
func testResolver(t testing.TB, cfg IdentityConfig, rules []EndpointRule) *Resolver {
	t.Helper()
	id, err := NewIdentity(cfg, publicKeys(t), loginRules(t, rules...))
	if err != nil {
		t.Fatal(err)
	}
	return id.NewResolver()
}

func jwt(payload string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"HS256"}`)) + "." + enc([]byte(payload)) + ".c2lnbmF0dXJl"
}

func basicHeader(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestPrincipal(t *testing.T) {
	r := testResolver(t, DefaultIdentityConfig(), nil)
	k := publicKeys(t)
	user := func(s string) string { return k.AccountToken(s) }
	// f checks the owner of a request from 203.0.113.9 unless c says otherwise.
	f := func(name string, status uint16, c Clear, kind PrincipalKind, value string) *Request {
		t.Helper()
		if c.Remote == "" {
			c.Remote = "203.0.113.9"
		}
		req := Request{Method: "GET", Path: "/x", Status: status, Flags: FlagLogin | FlagRefused | FlagSkew}
		r.Resolve(&req, &c)
		if p := req.Principal(); p != (Principal{kind, value}) {
			t.Errorf("%s, %d: owner %s %s, want %s %s", name, status, p.Kind, p.Value, kind, value)
		}
		want := uint64(0)
		if kind != PrincipalNone {
			want = req.Principal().Hash()
		}
		if req.Owner != want {
			t.Errorf("%s: owner hash %x, want %x", name, req.Owner, want)
		}
		if req.Flags&FlagSkew == 0 {
			t.Errorf("%s: a flag of others was cleared", name)
		}
		return &req
	}
	const ip = "203.0.113.9"
	all := Clear{User: "Bob", APIKey: "acme_1234567890", Session: "s1"}
	for _, ok := range []uint16{200, 204, 206, 302, 304} {
		f("user", ok, all, PrincipalAccount, user("bob"))
		f("key", ok, Clear{APIKey: all.APIKey, Session: "s1"}, PrincipalKey, k.KeyToken(all.APIKey, 4))
		f("session", ok, Clear{Session: "s1"}, PrincipalSession, k.SessionToken("s1"))
		f("nothing", ok, Clear{}, PrincipalIP, ip)
	}
	f("subject", 200, Clear{Subject: "Bob", User: "eve"}, PrincipalSubject, user("bob"))
	for _, no := range []uint16{0, 101, 400, 401, 403, 404, 429, 500} {
		req := f("all", no, Clear{Subject: "victim", APIKey: all.APIKey, Session: "s1"}, PrincipalIP, ip)
		if req.Account != user("victim") || req.Key == "" || req.Session != k.SessionToken("s1") {
			t.Errorf("%d: tokens missing: %+v", no, req)
		}
		if got := req.Flags&FlagRefused != 0; got != (no == 401 || no == 403) {
			t.Errorf("%d: refused %v", no, got)
		}
	}
	if req := f("nothing to refuse", 401, Clear{}, PrincipalIP, ip); req.Flags&FlagRefused != 0 {
		t.Error("refused without a credential")
	}
	// Words for nobody are nobody, but an attacker may try them as names.
	for _, s := range []string{"-", "", `""`, " ", "null", "Anonymous", "undefined", "guest", "(null)", "none"} {
		f(s, 200, Clear{User: s, Subject: s, Session: s, APIKey: s, Authorization: "Bearer " + s}, PrincipalIP, ip)
	}
	if req := f("guest login", 200, Clear{LoginUser: "guest"}, PrincipalIP, ip); req.LoginUser != user("guest") {
		t.Error("login name lost")
	}

	// Authorization.
	f("jwt", 200, Clear{Authorization: "Bearer " + jwt(`{"iat":1,"sub":"Bob","azp":"app"}`)}, PrincipalSubject, user("bob"))
	f("jwt number", 200, Clear{Authorization: "bearer " + jwt(`{"sub":1234}`)}, PrincipalSubject, user("1234"))
	f("jwt client", 200, Clear{Authorization: "Bearer " + jwt(`{"client_id":"Robot"}`)}, PrincipalSubject, user("robot"))
	f("jwt azp", 200, Clear{Authorization: "Bearer " + jwt(`{"sub":"","azp":"app"}`)}, PrincipalSubject, user("app"))
	f("jwt nested", 200, Clear{Authorization: "Bearer " + jwt(`{"a":{"sub":"evil"},"sub":"bob\u0021"}`)}, PrincipalSubject, user("bob!"))
	f("jwt and user", 200, Clear{User: "alice", Authorization: "Bearer " + jwt(`{"sub":"victim"}`)}, PrincipalAccount, user("alice"))
	for _, opaque := range []string{
		"abcdef", "eyJ.x.y", "eyJhbGciOiJIUzI1NiJ9.e30.x", jwt(`[1]`), jwt(`{"sub":`), jwt(`{"sub":{"a":1}}`), "a.b.c.d.e", jwt(`{"sub":"x"}`) + ".more",
		"eyJ." + strings.Repeat("A", maxPayload+1) + ".x",
	} {
		f("opaque", 200, Clear{Authorization: "Bearer " + opaque}, PrincipalSession, k.SessionToken(opaque))
	}
	f("own session first", 200, Clear{Session: "s1", Authorization: "Bearer abc"}, PrincipalSession, k.SessionToken("s1"))
	f("basic", 200, Clear{Authorization: basicHeader("Bob", "p:w")}, PrincipalAccount, user("bob"))
	f("basic, broken", 200, Clear{Authorization: "Basic !!!"}, PrincipalIP, ip)
	f("basic, no colon", 200, Clear{Authorization: "Basic Ym9i"}, PrincipalIP, ip)
	f("basic, no user", 200, Clear{Authorization: basicHeader("", "pw")}, PrincipalIP, ip)
	f("digest", 200, Clear{Authorization: `Digest realm="a, b", username="Bob", nonce=1`}, PrincipalAccount, user("bob"))
	f("aws", 200, Clear{Authorization: "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/2026/x, Signature=abc"}, PrincipalKey, k.KeyToken("AKIAIOSFODNN7EXAMPLE", 4))
	f("api key", 200, Clear{Authorization: "ApiKey acme_1234567890"}, PrincipalKey, k.KeyToken("acme_1234567890", 4))
	f("token", 200, Clear{Authorization: "Token abc"}, PrincipalSession, k.SessionToken("abc"))
	f("bare", 200, Clear{Authorization: "abc"}, PrincipalSession, k.SessionToken("abc"))
	f("negotiate", 200, Clear{Authorization: "Negotiate YII"}, PrincipalIP, ip)
	f("scheme alone", 200, Clear{Authorization: "Bearer"}, PrincipalIP, ip)
	f("huge", 200, Clear{Authorization: "Bearer " + strings.Repeat("x", maxSecret), Session: strings.Repeat("x", maxSecret+1)}, PrincipalIP, ip)

	// Without an address whatever there is owns the request.
	f("no address", 200, Clear{Remote: "-"}, PrincipalNone, "")
	f("host name", 404, Clear{Remote: "host.example.org"}, PrincipalNone, "")
	f("no address, session", 404, Clear{Remote: "-", Session: "s1"}, PrincipalSession, k.SessionToken("s1"))
	f("no address, user", 404, Clear{Remote: "-", User: "bob"}, PrincipalAccount, user("bob"))
	if n := r.Counts(); n.NoAddress != 4 || n.Hostname != 1 || n.NoPrincipal != 2 {
		t.Errorf("counts %+v", n)
	}
	// One host moves freely inside its /64.
	a := f("v6", 404, Clear{Remote: "2001:db8:1:2::1"}, PrincipalIP, "2001:db8:1:2::/64")
	b := f("v6", 404, Clear{Remote: "[2001:db8:1:2:ffff::9]:443"}, PrincipalIP, "2001:db8:1:2::/64")
	if a.Owner != b.Owner || a.Address == b.Address {
		t.Error("one /64, two owners")
	}
}

func TestPrincipalOfLogins(t *testing.T) {
	r := testResolver(t, DefaultIdentityConfig(), []EndpointRule{{Match: "POST /enter", Role: RoleLogin}})
	k := publicKeys(t)
	f := func(method, path string, status uint16, c Clear, login bool, kind PrincipalKind, loginUser string) {
		t.Helper()
		req := Request{Method: method, Path: path, Status: status}
		r.Resolve(&req, &c)
		if got := req.Flags&FlagLogin != 0; got != login || req.Kind != kind || req.LoginUser != k.AccountToken(loginUser) {
			t.Errorf("%s %s %d: login %v kind %s user %q", method, path, status, got, req.Kind, req.LoginUser)
		}
	}
	const ip = "203.0.113.9"
	f("POST", "/login", 200, Clear{Remote: ip, User: "bob", Session: "s", LoginUser: "Bob"}, true, PrincipalIP, "bob")
	f("POST", "/login", 401, Clear{Remote: ip, LoginUser: "victim", Session: "fresh"}, true, PrincipalIP, "victim")
	f("POST", "/enter", 302, Clear{Remote: ip, Authorization: "Bearer " + jwt(`{"sub":"victim"}`)}, true, PrincipalIP, "")
	f("GET", "/files", 401, Clear{Remote: ip, Authorization: basicHeader("victim", "guess")}, true, PrincipalIP, "victim")
	f("GET", "/files", 401, Clear{Remote: ip, User: "victim"}, true, PrincipalIP, "victim")
	f("GET", "/files", 200, Clear{Remote: ip, User: "bob"}, false, PrincipalAccount, "")
	f("POST", "/login", 401, Clear{Session: "s", LoginUser: "victim"}, true, PrincipalSession, "victim")
	f("POST", "/login", 401, Clear{Session: "s", User: "victim"}, true, PrincipalSession, "victim")
}

// A client that changes what it sends with every request gains nothing while
// the server refuses it.
func TestForgersStayOneOwner(t *testing.T) {
	r := testResolver(t, IdentityConfig{TrustedProxies: []string{"192.0.2.10"}}, nil)
	f := func(name string, status uint16, gen func(i int) Clear) {
		t.Helper()
		owners := map[uint64]bool{}
		for i := range 500 {
			c := gen(i)
			if c.Remote == "" {
				c.Remote = "203.0.113.9"
			}
			req := Request{Method: "GET", Path: "/api/orders/1", Status: status}
			r.Resolve(&req, &c)
			owners[req.Owner] = true
		}
		if len(owners) != 1 {
			t.Errorf("%s, %d: %d owners", name, status, len(owners))
		}
	}
	ip := func(i int) string { return fmt.Sprintf("198.51.%d.%d", i>>8, i&255) }
	f("forged header, no proxy", 200, func(i int) Clear { return Clear{Forwarded: ip(i), ForwardedStd: "for=" + ip(i)} })
	f("forged leftmost", 200, func(i int) Clear {
		return Clear{Remote: "192.0.2.10", Forwarded: ip(i) + ", 203.0.113.9"}
	})
	f("rotating inside a /64", 200, func(i int) Clear { return Clear{Remote: fmt.Sprintf("2001:db8:1:2::%x", i+1)} })
	for _, status := range []uint16{401, 403, 404, 500} {
		f("key", status, func(i int) Clear { return Clear{APIKey: fmt.Sprintf("key-%d", i)} })
		f("cookie", status, func(i int) Clear { return Clear{Session: fmt.Sprint(i)} })
		f("subject", status, func(i int) Clear {
			return Clear{Authorization: "Bearer " + jwt(fmt.Sprintf(`{"sub":"u%d"}`, i))}
		})
		f("user", status, func(i int) Clear { return Clear{User: fmt.Sprint("user", i)} })
		f("basic", status, func(i int) Clear { return Clear{Authorization: basicHeader(fmt.Sprint("u", i), "pw")} })
	}
}

// With its proxy declared, the shop's log gives the addresses that the shop saw,
// and every line with a login path is an attempt.
func TestShopIdentity(t *testing.T) {
	lines := shopLines(t)
	r := testResolver(t, IdentityConfig{TrustedProxies: []string{"192.0.2.10"}}, nil)
	logins, wrong := 0, 0
	kinds := map[PrincipalKind]int{}
	for i := range lines {
		l := &lines[i]
		var req Request
		var c Clear
		l.fill(&req, &c, l.Peer)
		r.Resolve(&req, &c)
		if want, _ := parseHost(l.Remote); req.Address != want {
			if wrong++; wrong < 5 {
				t.Errorf("line %d: %s, want %s (peer %s, header %q)", i+1, req.Address, want, l.Peer, l.XFF)
			}
		}
		login := l.Method == "POST" && strings.HasSuffix(req.Path, "/login")
		if login {
			logins++
		}
		if got := req.Flags&FlagLogin != 0; got != login {
			t.Errorf("line %d: %s %s %d user %s: login %v", i+1, l.Method, l.URI, l.Status, l.User, got)
		}
		if (l.Status == 401 || l.Status == 403 || l.Status == 404) && req.Kind != PrincipalIP {
			t.Errorf("line %d: a refused request belongs to a %s", i+1, req.Kind)
		}
		kinds[req.Kind]++
	}
	if n := r.Counts(); n.NoAddress+n.NoPrincipal+n.BadForwarded != 0 || logins < 1000 || kinds[PrincipalAccount] == 0 || kinds[PrincipalKey] == 0 {
		t.Errorf("counts %+v, %d logins, %v", n, logins, kinds)
	}
	t.Logf("%d logins, owners by kind: %v", logins, kinds)
}

func TestKnownClients(t *testing.T) {
	cfg := DefaultIdentityConfig()
	cfg.KnownClients = []KnownClient{{Name: "partner-sync", Key: "acme_"}, {Name: "load-test", IP: "198.51.100.0/28"}, {Name: "owner", Account: "Root@example.org"}}
	r := testResolver(t, cfg, nil)
	f := func(status uint16, c Clear, want string) {
		t.Helper()
		req := Request{Status: status}
		r.Resolve(&req, &c)
		if got, ok := r.id.Known(&req); got != want || ok != (want != "") {
			t.Errorf("%d %s: %q %v, want %q", status, req.Key, got, ok, want)
		}
	}
	const ip = "203.0.113.9"
	f(200, Clear{Remote: ip, APIKey: "acme_9876543210"}, "partner-sync")
	f(401, Clear{Remote: ip, APIKey: "acme_forged"}, "")
	f(200, Clear{Remote: ip, APIKey: "acmeX9876543210"}, "")
	f(200, Clear{Remote: ip, APIKey: "acme_"}, "")
	f(404, Clear{Remote: "198.51.100.9"}, "load-test")
	f(404, Clear{Remote: "198.51.100.16"}, "")
	f(200, Clear{Remote: ip, User: "root@EXAMPLE.org"}, "owner")
	f(404, Clear{Remote: ip, User: "root@example.org"}, "")
	f(200, Clear{}, "")
}

func TestIdentityConfigProblems(t *testing.T) {
	if err := DefaultIdentityConfig().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	good := IdentityConfig{TrustedProxies: []string{"192.0.2.0/24", "2001:db8::1", "unix:"}, KnownClients: []KnownClient{{Name: "a", Key: "acme_"}}}
	if err := good.Validate(); err != nil {
		t.Errorf("good: %v", err)
	}
	const pasted = "sk_live_SECRETSECRETSECRET"
	bad := IdentityConfig{
		TrustedProxies:   []string{"192.0.2.10/24", "proxy.example.org", "0.0.0.0/0", "::/0"},
		InternalNetworks: []string{"10.0.0.0/33", "unix:"},
		APIKeyPrefix:     99,
		KnownClients: []KnownClient{
			{Key: "x"},
			{Name: "a"},
			{Name: "b", Key: "x", IP: "192.0.2.1"},
			{Name: "c", IP: "nope"},
			{Name: "d", Key: pasted},
			{Name: "e", Key: "a b"},
		},
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"identity.trusted_proxies[0]: \"192.0.2.10/24\" has bits behind its mask; write 192.0.2.0/24, or 192.0.2.10/32",
		"identity.trusted_proxies[1]:", "identity.trusted_proxies[2]:", "identity.trusted_proxies[3]:", "identity.internal_networks[0]:", "identity.internal_networks[1]:",
		"identity.api_key_prefix:", "identity.known_clients[0].name:", "identity.known_clients[1]:", "identity.known_clients[2]:",
		"identity.known_clients[3].ip:", "identity.known_clients[4].key:", "identity.known_clients[5].key:",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "SECRET") {
		t.Errorf("error repeats a key: %v", err)
	}
	if _, err := NewIdentity(bad, publicKeys(t), nil); err == nil {
		t.Error("NewIdentity accepted it")
	}
	if _, err := NewIdentity(good, nil, nil); err == nil {
		t.Error("NewIdentity without keys")
	}
	big := IdentityConfig{TrustedProxies: make([]string, maxNetworks+1), KnownClients: make([]KnownClient, maxKnownClients+1)}
	if err := big.Validate(); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("big: %v", err)
	}
}

func TestResolveAllocs(t *testing.T) {
	cfg := DefaultIdentityConfig()
	cfg.TrustedProxies = []string{"192.0.2.0/24", "10.0.0.0/8"}
	r := testResolver(t, cfg, nil)
	f := func(name string, c Clear) {
		t.Helper()
		req := Request{Method: "GET", Path: "/x", Status: 200}
		r.Resolve(&req, &c)
		if n := testing.AllocsPerRun(200, func() { r.Resolve(&req, &c) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	f("plain", Clear{Remote: "203.0.113.9"})
	f("proxied", Clear{Remote: "[2001:db8::1]:443", Forwarded: "6.6.6.6, 203.0.113.9, 10.0.0.1"})
	f("everything", Clear{Remote: "192.0.2.9", ForwardedStd: `for="[2001:db8::9]:1"`, User: "Bob Ross", APIKey: "acme_0123456789", Session: strings.Repeat("s", 300), LoginUser: "Bob"})
	f("jwt", Clear{Remote: "203.0.113.9", Authorization: "Bearer " + jwt(`{"sub":"bob","x":"`+strings.Repeat("y", 800)+`"}`)})
	f("basic", Clear{Remote: "203.0.113.9", Authorization: basicHeader("bob@example.org", strings.Repeat("p", 40))})
}

func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"", "Bearer " + jwt(`{"sub":"bob"}`), "Bearer eyJ..", "Basic ", basicHeader("a", "b"), `Digest username="`, "AWS4-HMAC-SHA256 Credential=", "Token", "=", "Bearer " + jwt(`{"sub":1e999}`)} {
		f.Add(s, uint16(200))
	}
	r := testResolver(f, DefaultIdentityConfig(), nil)
	f.Fuzz(func(t *testing.T, header string, status uint16) {
		req := Request{Method: "GET", Path: "/", Status: status}
		r.Resolve(&req, &Clear{Remote: "203.0.113.9", Authorization: header})
		first := req
		r.Resolve(&req, &Clear{Remote: "203.0.113.9", Authorization: header})
		if first != req {
			t.Fatalf("%q: two answers:\n%+v\n%+v", header, first, req)
		}
		if (status < 200 || status > 399) && req.Kind != PrincipalIP {
			t.Fatalf("%q %d: owner %s", header, status, req.Kind)
		}
		if req.Account != "" {
			if _, ok := publicKeys(t).Open(req.Account); !ok {
				t.Fatalf("%q: account token does not open", header)
			}
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	cfg := DefaultIdentityConfig()
	cfg.TrustedProxies = []string{"192.0.2.0/24", "10.0.0.0/8"}
	for _, c := range []struct {
		name string
		c    Clear
	}{
		{"plain", Clear{Remote: "203.0.113.9"}},
		{"proxied", Clear{Remote: "192.0.2.10", Forwarded: "6.6.6.6, 203.0.113.9"}},
		{"user", Clear{Remote: "203.0.113.9", User: "bob", Session: "0123456789abcdef0123456789abcdef"}},
		{"jwt", Clear{Remote: "203.0.113.9", Authorization: "Bearer " + jwt(`{"sub":"bob","x":"`+strings.Repeat("y", 600)+`"}`)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := testResolver(b, cfg, nil)
			req := Request{Method: "GET", Path: "/api/v1/x", Status: 200}
			b.ReportAllocs()
			for b.Loop() {
				r.Resolve(&req, &c.c)
			}
		})
	}
	b.Run("new session each", func(b *testing.B) {
		r := testResolver(b, cfg, nil)
		req := Request{Method: "GET", Path: "/api/v1/x", Status: 200}
		names := make([]string, 1<<16)
		for i := range names {
			names[i] = fmt.Sprintf("session-%d", i)
		}
		i := 0
		for b.Loop() {
			r.Resolve(&req, &Clear{Remote: "203.0.113.9", Session: names[i&(1<<16-1)], User: names[i&(1<<16-1)]})
			i++
		}
	})
}
