package pipeline

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

func address(t testing.TB, s string) Address {
	t.Helper()
	a, ok := ParseAddress(s)
	if !ok {
		t.Fatalf("%q is no address", s)
	}
	return a
}

func file(t testing.TB, name, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func mmdb(t testing.TB, kind string, records map[string]mmdbtype.Map) string {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 24, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for cidr, rec := range records {
		_, n, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Insert(n, rec); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return file(t, "test.mmdb", b.String())
}

func load(t testing.TB, c ContextConfig) *Context {
	t.Helper()
	x, err := LoadContext(c)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func facts(x *Context, a Address, agent string) string {
	r := Request{Address: a, Agent: agent}
	n := x.NewAnnotator()
	n.Annotate(&r)
	n.Annotate(&r) // what the cache says is the same
	var out []string
	for _, f := range []struct {
		flag RequestFlags
		name string
	}{{FlagCrawler, "crawler"}, {FlagPretends, "pretends"}, {FlagListed, "listed"}} {
		if r.Flags&f.flag != 0 {
			out = append(out, f.name)
		}
	}
	if r.ASN != 0 {
		out = append(out, ASNText(r.ASN))
	}
	if r.Country != (Country{}) {
		out = append(out, r.Country.String())
	}
	if s := NewPlaces().Network(&r); s != "" {
		out = append(out, "net="+s)
	}
	return strings.Join(out, " ")
}

func TestCrawlers(t *testing.T) {
	const google = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
	shipped := load(t, DefaultContextConfig())
	off := load(t, ContextConfig{Crawlers: CrawlersConfig{Mode: "off"}})
	f := func(x *Context, ip, agent, want string) {
		t.Helper()
		if got := facts(x, address(t, ip), agent); got != want {
			t.Errorf("%s as %q: %q; want %q", ip, agent, got, want)
		}
	}
	f(shipped, "66.249.66.1", google, "crawler net=crawler")
	f(shipped, "2001:4860:4801:13::5", google, "crawler net=crawler")
	f(shipped, "66.249.80.1", google, "") // Google's own, not in the list: not doubted
	f(shipped, "203.0.113.7", google, "pretends")
	f(shipped, "203.0.113.7", "googlebot/2.1", "pretends")
	f(shipped, "203.0.113.7", "MyGooglebotLike/1.0", "")
	f(shipped, "10.0.0.7", google, "net=corporate") // nothing is known behind a NAT
	f(shipped, "100.64.3.7", google, "net=cgnat")
	f(shipped, "104.16.0.1", "Mozilla/5.0", "net=cdn")
	f(shipped, "66.249.66.1", "Mozilla/5.0", "")
	f(shipped, "157.55.39.10", "Mozilla/5.0 (compatible; bingbot/2.0)", "crawler net=crawler")
	f(shipped, "203.0.113.7", "Mozilla/5.0 (compatible; GPTBot/1.1)", "pretends")
	f(shipped, "203.0.113.7", "ClaudeBot/1.0", "") // its list is partial
	f(shipped, "17.1.2.3", "Applebot/0.1", "")
	f(off, "203.0.113.7", google, "")
	f(nil, "203.0.113.7", google, "")

	more := DefaultContextConfig()
	more.Crawlers.File = file(t, "extra.json", `[
	  {"name":"ExampleBot","creationTime":"2026-11-01T00:00:00Z","prefixes":["198.51.100.0/24",{"ipv6Prefix":"2001:db8:7::/48"}]},
	  {"name":"Googlebot","agent":"Googlebot","prefixes":[{"ipv4Prefix":"203.0.113.0/24"}]}]`)
	x := load(t, more)
	f(x, "198.51.100.9", "ExampleBot/1", "crawler net=crawler")
	f(x, "2001:db8:7::1", "ExampleBot/1", "crawler net=crawler")
	f(x, "192.0.2.1", "ExampleBot/1", "pretends")
	f(x, "203.0.113.7", google, "crawler net=crawler")
	f(x, "66.249.66.1", google, "") // replaced, and at home
	f(x, "34.64.82.65", google, "pretends")
	if x.Hash() == "" || shipped.Hash() != "" || off.Hash() == "" || x.Hash() == off.Hash() {
		t.Errorf("hashes %q, %q, %q", shipped.Hash(), x.Hash(), off.Hash())
	}
	if name, date := CrawlerNamed(google); name != "Googlebot" || date != "2026-03-16" {
		t.Errorf("CrawlerNamed: %q, %q", name, date)
	}
}

// The shipped list is whole: every crawler has ranges, none is so wide that it
// verifies strangers, and its word is in its own name.
func TestShippedCrawlers(t *testing.T) {
	list := shippedCrawlers()
	if len(list) < 5 {
		t.Fatalf("%d crawlers", len(list))
	}
	for _, c := range list {
		if len(c.ranges) == 0 || !strings.EqualFold(c.name, c.word) {
			t.Errorf("%s: %d ranges, word %q", c.name, len(c.ranges), c.word)
		}
		for _, r := range c.ranges {
			a, b := r.lo.Addr(), r.hi.Addr()
			if a.Is4() && (r.lo[12] != r.hi[12] || r.lo[13] != r.hi[13]) || a.Is6() && r.lo[5] != r.hi[5] {
				t.Errorf("%s: %s to %s is wide", c.name, a, b)
			}
		}
	}
}

func TestLists(t *testing.T) {
	f := func(format, column, text string, inside, outside []string, note string) {
		t.Helper()
		x, err := LoadContext(ContextConfig{Lists: []ListConfig{{Name: "l", File: file(t, "list", text), Format: format, Column: column}}})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		for _, s := range inside {
			if got := facts(x, address(t, s), ""); !strings.HasPrefix(got, "listed") {
				t.Errorf("%s: %s: %q", text, s, got)
			}
			if names := x.ListsOf(address(t, s)); len(names) != 1 || names[0] != "l" {
				t.Errorf("%s: %s is on %v", text, s, names)
			}
		}
		for _, s := range outside {
			if got := facts(x, address(t, s), ""); strings.HasPrefix(got, "listed") {
				t.Errorf("%s: %s: %q", text, s, got)
			}
		}
		if got := strings.Join(x.Notes(), "\n"); !strings.Contains(got, note) || (got == "") != (note == "") {
			t.Errorf("%s: notes %q; want %q", text, got, note)
		}
	}
	fails := func(format, column, text, want string) {
		t.Helper()
		_, err := LoadContext(ContextConfig{Lists: []ListConfig{{Name: "l", File: file(t, "list", text), Format: format, Column: column}}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "context.lists[0].file") {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
	f("", "", "# spam\n203.0.113.7\n198.51.100.0/24 ; SBL1\n2001:db8::/32 x\n", []string{"203.0.113.7", "198.51.100.255", "2001:db8::1"}, []string{"203.0.113.8", "192.0.2.1"}, "")
	f("plain", "", "\xef\xbb\xbf203.0.113.7/24\r\n", []string{"203.0.113.200"}, nil, "")
	f("plain", "", "203.0.113.7\n1.2.3.4\nnonsense\n", []string{"203.0.113.7"}, nil, `1 entries skipped, the first: line 3: "nonsense"`)
	f("plain", "", "203.0.113.7\n10.0.0.0/8\n0.0.0.0/0\n", []string{"203.0.113.7"}, []string{"10.1.1.1", "8.8.8.8"}, "2 entries are private")
	f("", "", "", nil, []string{"203.0.113.7"}, "")
	f("csv", "ip", "seen,ip,why\n2026-01-01,203.0.113.7,scan\n", []string{"203.0.113.7"}, nil, "")
	f("csv", "2", "a,203.0.113.7\nb,203.0.113.9\n", []string{"203.0.113.7", "203.0.113.9"}, nil, "")
	f("csv", "", "ip,n\n203.0.113.7,3\n", []string{"203.0.113.7"}, nil, "")
	f("stix", "", `{"type":"bundle","objects":[{"type":"ipv4-addr","value":"203.0.113.7"},{"type":"ipv6-addr","value":"2001:db8::/48"},
		{"type":"indicator","pattern_type":"stix","pattern":"[ipv4-addr:value = '198.51.100.1' OR ipv4-addr:value ISSUBSET '198.51.101.0/24'] OR [ipv6-addr:value IN ('2001:db8:9::1', '2001:db8:9::2')]"},
		{"type":"indicator","pattern":"[url:value = 'http://x/']"},{"type":"malware","name":"x"},
		{"type":"ipv4-addr","value":"192.0.2.9","revoked":true}]}`,
		[]string{"203.0.113.7", "2001:db8::9", "198.51.100.1", "198.51.101.77", "2001:db8:9::2"}, []string{"192.0.2.9"}, "")
	f("stix", "", `{"type":"bundle","objects":[{"type":"ipv4-addr","value":"203.0.113.7"},
		{"type":"indicator","pattern":"[ipv4-addr:value = '198.51.100.1' AND network-traffic:dst_port = 22]"}]}`,
		[]string{"203.0.113.7"}, []string{"198.51.100.1"}, "1 entries skipped")
	fails("plain", "", "<html>\n<body>\n", "no address in it")
	fails("plain", "", "203.0.113.7\nx\ny\n", "most of it is no address")
	fails("plain", "", "10.0.0.1\n", "no entry counts")
	fails("csv", "addr", "ip\n203.0.113.7\n", `no column "addr"`)
	fails("csv", "0", "203.0.113.7\n", "column 0")
	fails("stix", "", `{"type":"x"}`, "its type is")
	fails("stix", "", `{`, "read STIX bundle")
}

func TestGeoIP(t *testing.T) {
	asn := mmdb(t, "GeoLite2-ASN", map[string]mmdbtype.Map{
		"203.0.113.0/24":  {"autonomous_system_number": mmdbtype.Uint32(64500)},
		"198.51.100.0/24": {"autonomous_system_number": mmdbtype.Uint32(24940)},
		"2001:db8::/32":   {"autonomous_system_number": mmdbtype.Uint32(64501)},
	})
	country := mmdb(t, "GeoLite2-Country", map[string]mmdbtype.Map{
		"203.0.113.0/24":  {"country": mmdbtype.Map{"iso_code": mmdbtype.String("DE")}},
		"198.51.100.0/24": {"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("FI")}},
		"192.0.2.0/24":    {"country": mmdbtype.Map{"iso_code": mmdbtype.String("d\x00")}},
	})
	x := load(t, ContextConfig{GeoIP: GeoIPConfig{ASN: asn, Country: country}})
	f := func(ip, want string) {
		t.Helper()
		if got := facts(x, address(t, ip), ""); got != want {
			t.Errorf("%s: %q; want %q", ip, got, want)
		}
	}
	f("203.0.113.7", "AS64500 DE")
	f("198.51.100.7", "AS24940 FI net=hosting")
	f("2001:db8::1", "AS64501")
	f("192.0.2.1", "")
	f("8.8.8.8", "")
	_, err := LoadContext(ContextConfig{GeoIP: GeoIPConfig{ASN: file(t, "a", "no database"), Country: "/does/not/exist"}})
	if err == nil || !strings.Contains(err.Error(), "context.geoip.asn: read") || !strings.Contains(err.Error(), "context.geoip.country: open") {
		t.Errorf("bad databases: %v", err)
	}
	annotator, r := x.NewAnnotator(), Request{Address: address(t, "203.0.113.7"), Agent: "Googlebot"}
	annotator.Annotate(&r)
	if n := testing.AllocsPerRun(100, func() { annotator.Annotate(&r) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// Addresses that share a place in the cache are told apart.
func TestAnnotatorCache(t *testing.T) {
	x := load(t, ContextConfig{Lists: []ListConfig{{Name: "odd", File: file(t, "l", "203.0.113.1\n203.0.113.3\n203.0.113.5\n")}}})
	n := x.NewAnnotator()
	n.addresses = n.addresses[:0:0]
	n.addresses = make([]addressFacts, contextAddresses)
	for round := range 3 {
		for i := range 20_000 {
			r := Request{Address: address(t, fmt.Sprintf("203.%d.%d.%d", i>>16, i>>8&255, i&255))}
			if i == 0 {
				r.Address = address(t, "203.0.113.3")
			}
			n.Annotate(&r)
			if want := x.listed.contains(r.Address); want != (r.Flags&FlagListed != 0) {
				t.Fatalf("round %d, %s: listed %v", round, r.Address, !want)
			}
		}
	}
}

func TestContextConfig(t *testing.T) {
	c := ContextConfig{
		Crawlers: CrawlersConfig{Mode: "on"},
		Lists:    []ListConfig{{Name: "a", File: "x", Format: "xml"}, {Name: "a", Column: "2"}, {}},
	}
	err := c.Validate()
	for _, want := range []string{
		"context.crawlers.mode", "context.lists[0].format", `context.lists[1].name: "a" is there twice`,
		"context.lists[1].file", "context.lists[1].column", "context.lists[2].name",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if err := DefaultContextConfig().Validate(); err != nil {
		t.Error(err)
	}
	extra := DefaultContextConfig()
	for _, bad := range []string{`[]`, `{}`, `[{"name":"ExampleBot"}]`, `[{"name":"ExampleBot","prefixes":["0.0.0.0/0"]}]`, `[{"name":"ExampleBot","prefixes":["x"]}]`, `[{"nam":"x"}]`} {
		extra.Crawlers.File = file(t, "extra.json", bad)
		if _, err := LoadContext(extra); err == nil || !strings.Contains(err.Error(), "context.crawlers.file") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzList(f *testing.F) {
	f.Add("plain", "", "203.0.113.7\n# x\n")
	f.Add("csv", "ip", "ip\n203.0.113.7\n")
	f.Add("stix", "", `{"type":"bundle","objects":[{"type":"indicator","pattern":"[ipv4-addr:value IN ('203.0.113.7')]"}]}`)
	f.Fuzz(func(t *testing.T, format, column, text string) {
		l, err := parseList([]byte(text), ListConfig{Format: format, Column: column}, 100)
		if err != nil {
			return
		}
		if len(l.prefixes) > 100 {
			t.Fatalf("%d entries", len(l.prefixes))
		}
		for _, p := range l.prefixes {
			if tooWide(p) || p != p.Masked() {
				t.Errorf("%s", p)
			}
		}
		newNetworks(l.prefixes)
	})
}

func FuzzCrawlerFile(f *testing.F) {
	f.Add(`[{"name":"ExampleBot","prefixes":["198.51.100.0/24",{"ipv4Prefix":"203.0.113.0/24"}]}]`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseCrawlerFile(nil, []byte(text))
		if err == nil && nameOf(list, list[0].word) != 0 {
			t.Errorf("%q does not find itself", list[0].word)
		}
	})
}
