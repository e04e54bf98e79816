package pipeline

import (
	"net/netip"
	"strings"
	"testing"
)

func TestNeverBlock(t *testing.T) {
	c := IdentityConfig{
		TrustedProxies: []string{"192.0.2.0/24", "unix:", "2001:db8:1:2::7"}, InternalNetworks: []string{"198.18.0.0/15"},
		KnownClients: []KnownClient{{Name: "partner", IP: "203.0.113.200"}, {Name: "other", Key: "acme_"}},
	}
	n, err := NewNeverBlock(c, nil, []string{"203.0.113.77", "2001:db8:9::/48"})
	if err != nil {
		t.Fatal(err)
	}
	f := func(prefix, want string) {
		t.Helper()
		got := n.Why(netip.MustParsePrefix(prefix))
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", prefix, got, want)
		}
	}
	for _, may := range []string{"203.0.113.7/32", "8.8.4.4/32", "198.51.100.1/32", "2001:db8:2:3::/64", "172.32.0.1/32", "100.128.0.1/32", "223.255.255.255/32"} {
		f(may, "")
	}
	f("203.0.113.77/32", "never_block")
	f("203.0.113.76/31", "never_block")
	f("2001:db8:9:1::/64", "never_block")
	f("192.0.2.1/32", "trusted proxy")
	f("2001:db8:1:2::/64", "trusted proxy") // one address of the /64 is enough
	f("198.19.0.1/32", "internal_networks")
	f("203.0.113.200/32", "known client")
	f("104.16.3.4/32", "Cloudflare")
	f("2606:4700:1::/64", "Cloudflare")
	f("151.101.1.1/32", "Fastly")
	f("66.249.66.1/32", "crawler")
	for _, special := range []string{"10.1.2.3/32", "172.16.0.1/32", "192.168.1.1/32", "127.0.0.1/32", "169.254.169.254/32", "100.64.0.1/32", "224.0.0.1/32", "255.255.255.255/32", "0.0.0.0/32", "::1/128", "::/128", "fe80::/64", "fd00::/64", "ff02::/64", "0.0.0.0/0", "::/0"} {
		f(special, "it is")
	}
	if got := n.Why(netip.Prefix{}); got == "" {
		t.Error("no address may be blocked")
	}
	if _, err := NewNeverBlock(c, nil, []string{"x"}); err == nil || !strings.Contains(err.Error(), "never_block") {
		t.Errorf("%v", err)
	}
}
