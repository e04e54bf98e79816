package pipeline

import (
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		a, ok := parseHost(in)
		if ok != (want != "") || ok && a.String() != want {
			t.Errorf("%q: %s %v, want %q", in, a, ok, want)
		}
	}
	f("192.0.2.1", "192.0.2.1")
	f(" 192.0.2.1 ", "192.0.2.1")
	f("192.0.2.1:443", "192.0.2.1")
	f(`"192.0.2.1:47011"`, "192.0.2.1")
	f("[2001:db8::1]:80", "2001:db8::1")
	f("[2001:db8::1]", "2001:db8::1")
	f(`"[2001:db8::1]:_port"`, "2001:db8::1")
	f("2001:DB8::1", "2001:db8::1")
	f("::ffff:192.0.2.1", "192.0.2.1")
	f("[::ffff:192.0.2.1]:5", "192.0.2.1")
	f("fe80::1%eth0", "fe80::1")
	f("[fe80::1%eth0]:80", "fe80::1")
	for _, bad := range []string{
		"", "-", " ", "unknown", "_hidden", "host.example.org", "192.0.2", "192.0.2.256", "192.0.2.01", "192.0.2.1:", "192.0.2.1:x",
		"192.0.2.1:123456", "[192.0.2.1]:80", "[2001:db8::1", "[]", "[2001:db8::1]80", "2001:db8::/64", "2001:db8::1%", "0.0.0.0", "::", "::ffff:0.0.0.0", ":80",
		"unix:", "1.2.3.4%eth0", strings.Repeat("1", 500), strings.Repeat(":", 40), "192.0.2.1, 192.0.2.2",
	} {
		f(bad, "")
	}
}

func TestWalk(t *testing.T) {
	trusted := []string{"192.0.2.0/24", "10.0.0.0/8", "2001:db8:f::/48"}
	f := func(remote, xff, std, want, claim string) {
		t.Helper()
		r := testResolver(t, IdentityConfig{TrustedProxies: trusted}, nil)
		req := Request{Status: 200, Forwarded: Address{1}, Address: Address{1}}
		r.Resolve(&req, &Clear{Remote: remote, Forwarded: xff, ForwardedStd: std})
		if req.Address.String() != want || req.Forwarded.String() != claim {
			t.Errorf("%q xff %q forwarded %q: %s claims %s, want %s claims %s", remote, xff, std, req.Address, req.Forwarded, want, claim)
		}
	}
	// An untrusted peer is the client, whatever it claims.
	f("203.0.113.9", "", "", "203.0.113.9", "-")
	f("203.0.113.9:1234", "-", "-", "203.0.113.9", "-")
	f("203.0.113.9", "198.51.100.1", "", "203.0.113.9", "198.51.100.1")
	f("203.0.113.9", "198.51.100.1, 10.0.0.1, junk", "", "203.0.113.9", "10.0.0.1")
	f("203.0.113.9", "198.51.100.1, 203.0.113.9", "", "203.0.113.9", "-")
	f("203.0.113.9", "", "for=198.51.100.1", "203.0.113.9", "198.51.100.1")
	// A trusted one: from the right, never the leftmost.
	f("192.0.2.10", "198.51.100.1", "", "198.51.100.1", "-")
	f("192.0.2.10", "6.6.6.6, 198.51.100.1", "", "198.51.100.1", "6.6.6.6")
	f("192.0.2.10", "6.6.6.6,198.51.100.1:5555,10.1.1.1", "", "198.51.100.1", "6.6.6.6")
	f("192.0.2.10", "6.6.6.6, 198.51.100.1,, 10.1.1.1 ,", "", "198.51.100.1", "6.6.6.6")
	f("192.0.2.10", "10.0.0.7, 10.0.0.8", "", "10.0.0.7", "-")
	f("192.0.2.10", "", "", "192.0.2.10", "-")
	f("::ffff:192.0.2.10", "2001:db8:9::1", "", "2001:db8:9::1", "-")
	f("2001:db8:f::1", "[2001:db8:9::1]:4711", "", "2001:db8:9::1", "-")
	// Garbage ends the walk at the last good address.
	f("192.0.2.10", "198.51.100.1, unknown", "", "192.0.2.10", "-")
	f("192.0.2.10", "198.51.100.1, <script>, 10.0.0.3", "", "10.0.0.3", "-")
	f("192.0.2.10", strings.Repeat("10.0.0.1,", 1000)+"10.0.0.2", "", "10.0.0.1", "-")
	f("192.0.2.10", strings.Repeat(",", 100000), "", "192.0.2.10", "-")
	// RFC 7239.
	f("192.0.2.10", "", "for=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1", "-")
	f("192.0.2.10", "", `proto=https; For="[2001:db8:cafe::17]:4711"`, "2001:db8:cafe::17", "-")
	f("192.0.2.10", "", `for=6.6.6.6, for="198.51.100.1:80", for=10.0.0.9`, "198.51.100.1", "6.6.6.6")
	f("192.0.2.10", "", `for="6.6.6.6, for=198.51.100.1`, "198.51.100.1", "6.6.6.6")
	f("192.0.2.10", "", "for=198.51.100.1, for=unknown", "192.0.2.10", "-")
	f("192.0.2.10", "", "for=198.51.100.1, for=_hidden", "192.0.2.10", "-")
	f("192.0.2.10", "", "for=198.51.100.1, proto=http", "192.0.2.10", "-")
	// Where both are there, the common one counts.
	f("192.0.2.10", "198.51.100.1", "for=6.6.6.6", "198.51.100.1", "-")
	// A header in the place of the peer, and no peer at all.
	f("6.6.6.6, 198.51.100.1, 10.0.0.1", "", "", "198.51.100.1", "6.6.6.6")
	f("6.6.6.6, 198.51.100.1", "", "", "198.51.100.1", "6.6.6.6")
	f("-", "6.6.6.6, 198.51.100.1, 10.0.0.1", "", "198.51.100.1", "6.6.6.6")
	// No address.
	f("-", "", "", "-", "-")
	f("client.example.org", "198.51.100.1", "", "-", "198.51.100.1")
	f("unix:", "198.51.100.1", "", "-", "198.51.100.1")
	trusted = append(trusted, "unix:")
	f("unix:", "6.6.6.6, 198.51.100.1", "", "198.51.100.1", "6.6.6.6")
	f("client.example.org", "198.51.100.1", "", "-", "198.51.100.1")
}

func TestRealIP(t *testing.T) {
	r := testResolver(t, IdentityConfig{}, nil)
	var req Request
	r.Resolve(&req, &Clear{Remote: "10.0.0.1", RealIP: "198.51.100.1", Forwarded: "6.6.6.6"})
	if req.Address.String() != "198.51.100.1" || !req.Forwarded.IsZero() {
		t.Errorf("%s claims %s", req.Address, req.Forwarded)
	}
	r.Resolve(&req, &Clear{Remote: "10.0.0.1", RealIP: "junk"})
	if req.Address.String() != "10.0.0.1" {
		t.Errorf("%s", req.Address)
	}
}

func TestNetworks(t *testing.T) {
	id := testResolver(t, IdentityConfig{
		TrustedProxies:   []string{"192.0.2.0/25", "192.0.2.64/26", "2001:db8::/32", "198.51.100.7", "::ffff:203.0.113.0/120"},
		InternalNetworks: []string{"10.0.0.0/8"},
	}, nil).id
	f := func(s string, want bool) {
		t.Helper()
		a, ok := parseHost(s)
		if !ok || id.Trusted(a) != want {
			t.Errorf("%s: %v, want %v", s, id.Trusted(a), want)
		}
	}
	f("192.0.2.0", true)
	f("192.0.2.127", true)
	f("192.0.2.128", false)
	f("192.0.1.255", false)
	f("198.51.100.7", true)
	f("198.51.100.8", false)
	f("203.0.113.255", true)
	f("2001:db8:ffff::1", true)
	f("2001:db9::", false)
	if a, _ := parseHost("10.1.2.3"); !id.Internal(a) || id.Trusted(a) {
		t.Error("internal")
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "[::1]:80", "fe80::1%x", "::ffff:1.2.3.4", "2001:db8::/64", "1.2.3.4:5", "::", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := parseHost(s)
		if ok == a.IsZero() {
			t.Fatalf("%q: %v %v", s, a, ok)
		}
		if ok {
			if b, again := parseHost(a.String()); !again || a != b {
				t.Fatalf("%q: %s reads back as %s", s, a, b)
			}
			if p, again := ParseAddress(a.PrincipalValue()); !again || p.Owner() != a.Owner() {
				t.Fatalf("%q: principal %s has another owner", s, a.PrincipalValue())
			}
		}
		if p, ok := ParseAddress(s); ok && !p.IsZero() {
			if q, again := ParseAddress(p.String()); !again || p != q {
				t.Fatalf("%q: %s reads back as %s", s, p, q)
			}
		}
	})
}

// Whatever a client puts into the headers, what a trusted proxy appended wins.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "6.6.6.6", `for="`, "for=6.6.6.6;", ",,,", `"`, "192.0.2.1", "unknown", "a\x00,b"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	r := testResolver(f, IdentityConfig{TrustedProxies: []string{"192.0.2.1"}}, nil)
	f.Fuzz(func(t *testing.T, forged string, std bool) {
		c := Clear{Remote: "192.0.2.1", Forwarded: forged + ", 198.51.100.9"}
		if std {
			c = Clear{Remote: "192.0.2.1", ForwardedStd: forged + `, for="198.51.100.9:80";proto=https`}
		}
		req := Request{Status: 404}
		r.Resolve(&req, &c)
		if req.Address.String() != "198.51.100.9" {
			t.Fatalf("%+q: %s", forged, req.Address)
		}
		c = Clear{Remote: "203.0.113.5", Forwarded: forged, ForwardedStd: forged}
		r.Resolve(&req, &c)
		if req.Address.String() != "203.0.113.5" {
			t.Fatalf("untrusted %+q: %s", forged, req.Address)
		}
	})
}
