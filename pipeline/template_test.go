package pipeline

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSlotType(t *testing.T) {
	f := func(want SlotType, values ...string) {
		t.Helper()
		for _, v := range values {
			if got := slotTypeOf(v); got != want {
				t.Errorf("%s: %q, want %q", v, got, want)
			}
		}
	}
	f(SlotNone, "v1", "v2.7", "v4.0", "v1beta1", "v20240101", "1.2.3", "10.15.2", "2fa", "oauth2", "sha256", "en", "pt-BR", "zh-Hans", "es-419", "login",
		"check-otp", "xmlrpc", "jquery%20mobile%20ui", "getUserAccountByEmail", "How-To-Install-Windows-10-On-A-Mac", "privacy-policy", "@bob", "a", "-", "+",
		"log4j-core", "base64url", "12:30", "internationalization")
	f(SlotInt, "0", "7", "2015", "20151122", "1234567890123456789", "-5")
	f(SlotUUID, "123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000")
	f(SlotULID, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav")
	f(SlotHex, "507f1f77bcf86cd799439011", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "0x52908400098527886e0f7030069857d2e4169ee7", "12345678901234567890")
	f(SlotB64, "BXJLTRjVB3tjUxmfSEYhK9", "dGhpcyBpcyBhIHRlc3Q_3a=", "V1StGXR8_Z5jdHi6B-myT", "0ujsswThIGTUYm2K8FjOOfXtY1K")
	f(SlotEmail, "bob@example.com", "a.b+c@mail.example.org", "bob2@example.com")
	f(SlotDate, "2026-11-22", "2026-11", "22-11-2026", "2026.11.22", "2026-11-22T03:04:05Z")
	f(SlotIP, "192.0.2.7", "2001:db8::1", "::1", "fe80:0:0:0:1:2:3:4")
	f(SlotPhone, "+4915112345678", "+1-202-555-0100")
	f(SlotJWT, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl")
	f(SlotMixed, "steel-bottle-776", "user12345", "a1b2c3d4", "sysadvent-2008-12", "dQw4w9Wg123")
	f(SlotLong, strings.Repeat("a", 129))
}

func TestSlotOf(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		slot, ext, _ := slotOf(in, true)
		got := string(appendSegment(nil, slot, ext, in))
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
		if again, e := parseSegment(got); again != slot || e != ext {
			t.Errorf("%s: read back as %v %q", got, again, e)
		}
	}
	f("123.json", "{int}.json")
	f("main.3f9a8c2b.js", "{file}.js")
	f("LOGO.PNG", "{file}.png")
	f("report-2024.pdf", "{mixed}.pdf")
	f("index.html", "index.html")
	f("5.aaab", "5.aaab")
	f("bob@example.com", "{email}")
	f(".env", ".env")
	f("robots.txt", "robots.txt")
	f("example.com", "example.com")
}

func TestNormalPath(t *testing.T) {
	f := func(in, want string, odd bool) {
		t.Helper()
		var scratch [pathScratch]byte
		var p normalPath
		p.text = p.read(in, &scratch)
		if p.text != want || p.odd != odd {
			t.Errorf("%q: %q odd %v, want %q odd %v", in, p.text, p.odd, want, odd)
		}
		var q normalPath
		if q.readPlain(in) && (q.text != p.text || q.n != p.n || p.odd || q.seg != p.seg) {
			t.Errorf("%q: the two readings differ: %q and %q", in, q.text, p.text)
		}
	}
	f("/", "/", false)
	f("", "/", true)
	f("/a/b", "/a/b", false)
	f("/a/b/", "/a/b", false)
	f("/a/b?x=/c", "/a/b", false)
	f("/a/b#c", "/a/b", true)
	f("//a///b", "/a/b", true)
	f("/a/./b/../c", "/a/c", true)
	f("/../../etc/passwd", "/etc/passwd", true)
	f("/a/..", "/", true)
	f("/a/%2e%2e/b", "/b", true)
	f("/a/..;/b", "/b", true)
	f("/a/..%2fb", "/a/..%2Fb", true)
	f("/a%2Fb", "/a%2Fb", true)
	f("/%61dmin", "/admin", true)
	f("/a%20b", "/a%20b", false)
	f("/a b", "/a%20b", true)
	f("/caf%C3%A9", "/café", false)
	f("/café", "/café", false)
	f("/a%00b", "/a%00b", true)
	f("/a%ffb", "/a%FFb", true)
	f("/%e2%80%ae", "/%E2%80%AE", true) // would turn a terminal's line around
	f("/100%", "/100%25", true)
	f("/%2525", "/%2525", true)
	f("/%25zz", "/%25zz", false)
	f("/a;v=1/b", "/a/b", true)
	f("/a;jsessionid=0A", "/a", false)
	f("/bob%40example.com", "/bob@example.com", false)
	f("/{int}", "/%7Bint%7D", true)
	f("/..hidden/...", "/..hidden/...", false)
	f("/.well-known/x", "/.well-known/x", false)
	f("http://example.com/a/b", "/a/b", true)
	f("http://example.com", "/", true)
	f("*", "/*", true)
	f(`/a\..\b`, "/a%5C..%5Cb", true)
}

// shopTemplates are learned templates without learning.
func shopTemplates() *Templates {
	return newTemplates([]hostTemplates{
		{name: "shop.example", lines: []templateLine{
			{text: "/"},
			{text: "/users/{int}"},
			{text: "/users/{int}/orders"},
			{text: "/users/{int}/orders/{uuid}"},
			{text: "/users/me"},
			{text: "/p/{str}"},
			{text: "/static/{file}.js"},
			{text: "/invoices/{int}.pdf"},
			{text: "/{slug}"},
		}},
		{name: sharedHost, lines: []templateLine{{text: "/health"}}},
	})
}

func TestMatch(t *testing.T) {
	tt := shopTemplates()
	f := func(path, text string, known bool, slots int, slot SlotType, value string, number int64) {
		t.Helper()
		var m Match
		tt.Match("shop.example", path, &m)
		got, ok := tt.Text(m.Template)
		if got != text || !ok || m.Known != known || m.Cold {
			t.Errorf("%s: %q known %v cold %v, want %q %v", path, got, m.Known, m.Cold, text, known)
		}
		if m.Slots != slots || m.Type != slot || m.Value != value || m.Number != number || (m.Object != 0) != (slots > 0) {
			t.Errorf("%s: %d slots, %q %q %d, want %d, %q %q %d", path, m.Slots, m.Type, m.Value, m.Number, slots, slot, value, number)
		}
		if got := string(tt.AppendText(nil, "shop.example", path)); got != text {
			t.Errorf("%s: AppendText %s, want %s", path, got, text)
		}
	}
	f("/", "/", true, 0, SlotNone, "", 0)
	f("/users/17", "/users/{int}", true, 1, SlotInt, "17", 17)
	f("/users/17/orders/", "/users/{int}/orders", true, 1, SlotInt, "17", 17)
	f("/users/17/orders/123e4567-e89b-12d3-a456-426614174000", "/users/{int}/orders/{uuid}", true, 2, SlotUUID, "123e4567-e89b-12d3-a456-426614174000", 17)
	f("/users/me", "/users/me", true, 0, SlotNone, "", 0)
	f("/users/bob", unknownText, false, 0, SlotNone, "", 0)
	f("/users", unknownText, false, 0, SlotNone, "", 0)
	f("/p/red%20rug", "/p/{str}", true, 1, SlotStr, "red%20rug", 0)
	f("/p/steel-bottle-776", "/p/{str}", true, 1, SlotStr, "steel-bottle-776", 0)
	f("/a/../p/%72ug", "/p/{str}", true, 1, SlotStr, "%72ug", 0)
	f("/static/app.1.js?v=2", "/static/{file}.js", true, 1, SlotFile, "app.1.js", 0)
	f("/static/app.css", unknownText, false, 1, SlotFile, "app.css", 0)
	f("/invoices/88.pdf", "/invoices/{int}.pdf", true, 1, SlotInt, "88.pdf", 88)
	f("/a-fine-title", "/{slug}", true, 1, SlotSlug, "a-fine-title", 0)
	f("/administrator", unknownText, false, 0, SlotNone, "", 0)
	f("/nowhere/5", unknownText, false, 1, SlotInt, "5", 5)
}

func TestMatchIdentity(t *testing.T) {
	tt := shopTemplates()
	match := func(tt *Templates, host, path string) (m Match) {
		tt.Match(host, path, &m)
		return m
	}
	a, b := match(tt, "shop.example", "/users/17"), match(tt, "SHOP.example", "//users/%31%37/?x")
	if a.Path != b.Path || a.Template != b.Template || a.Object != b.Object || a.Parent != b.Parent || a.Odd || !b.Odd {
		t.Errorf("two spellings of one path differ: %+v %+v", a, b)
	}
	orders := match(tt, "shop.example", "/users/17/orders")
	if orders.Object != a.Object || orders.Parent != a.Parent || orders.Template == a.Template {
		t.Errorf("an object is the same below its id: %+v %+v", a, orders)
	}
	other := match(tt, "shop.example", "/users/18")
	if other.Object == a.Object || other.Path == a.Path || other.Template != a.Template || other.Parent != a.Parent {
		t.Errorf("two objects of one template: %+v %+v", a, other)
	}
	if p := match(tt, "shop.example", "/p/x"); p.Parent == a.Parent {
		t.Error("two resources have one parent")
	}
	// A template is the same in every edition, learned or cold.
	cold := match(ColdTemplates(), "shop.example", "/users/17")
	if !cold.Cold || cold.Known || cold.Template != a.Template || cold.Object != a.Object || cold.Parent != a.Parent || cold.Path != a.Path {
		t.Errorf("cold %+v, learned %+v", cold, a)
	}
	// Hosts without templates of their own share a class, but no object.
	x, y := match(tt, "x.example", "/health"), match(tt, "y.example", "/health")
	if !x.Known || x.Template != y.Template || x.Path == y.Path || x.Parent == y.Parent {
		t.Errorf("shared class: %+v %+v", x, y)
	}
	// What is only hashed still tells paths apart.
	long := "/" + strings.Repeat("a/", 1500)
	if l, r := match(tt, "", long+"x"), match(tt, "", long+"y"); l.Path == r.Path || !l.Odd || l.Template != r.Template {
		t.Errorf("beyond the longest path: %+v %+v", l, r)
	}
	deep := match(ColdTemplates(), "", strings.Repeat("/a", 40))
	if deep.Type != SlotLong || deep.Slots != 1 {
		t.Errorf("deeper than templates are: %+v", deep)
	}
}

func TestMatchAllocates(t *testing.T) {
	tt := shopTemplates()
	var m Match
	for _, path := range []string{"/users/17/orders/123e4567-e89b-12d3-a456-426614174000", "/a/../%41;x/./%ff", "/nowhere/7"} {
		if n := testing.AllocsPerRun(100, func() { tt.Match("Shop.example", path, &m) }); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func FuzzMatch(f *testing.F) {
	for _, s := range []string{"/users/17", "//a/../%2e%2e/b;x?y", "/%ff%00", "http://h/x", "/a/{int}/{str}", "/" + strings.Repeat("%41/", 300), "/a;jsessionid=1/é", "/p/%7Bint%7D"} {
		f.Add("shop.example", s)
	}
	tt := shopTemplates()
	f.Fuzz(func(t *testing.T, host, path string) {
		var m, again, cold Match
		tt.Match(host, path, &m)
		tt.Match(host, path, &again)
		if m != again {
			t.Fatal("two matches of one path differ")
		}
		if m.Value != "" && !strings.Contains(path, m.Value) {
			t.Fatalf("value %q is not in the path", m.Value)
		}
		if (m.Object != 0) != (m.Slots > 0) || m.Known && m.Cold {
			t.Fatalf("inconsistent: %+v", m)
		}
		if ColdTemplates().Match(host, path, &cold); cold.Path != m.Path || !cold.Cold {
			t.Fatalf("the path's hash depends on templates: %+v %+v", m, cold)
		}
		var scratch, scratch2 [pathScratch]byte
		var p, q normalPath
		p.text = p.read(path, &scratch)
		if !utf8.ValidString(p.text) || p.n > maxDepth || p.text[0] != '/' {
			t.Fatalf("canonical form %q", p.text)
		}
		if p.tail == 0 && len(p.text) <= maxPath {
			if q.text = q.read(p.text, &scratch2); q.text != p.text {
				t.Fatalf("canonical form is not stable: %q, then %q", p.text, q.text)
			}
		}
		q = normalPath{}
		if q.readPlain(path) && (q.text != p.text || q.n != p.n || q.seg != p.seg || q.deep != p.deep || p.odd) {
			t.Fatalf("the two readings differ: %q %q", q.text, p.text)
		}
		text := string(p.appendTyped(nil))
		if len(text) <= maxTemplateText && !p.garbage && p.n > 0 && !p.deep {
			if err := checkTemplate(text); err != nil {
				t.Fatalf("typed text %q: %v", text, err)
			}
		}
		l := NewTemplateLearner()
		l.Add(host, "GET", path, 200, 1)
		l.Build(nil)
	})
}

func BenchmarkMatch(b *testing.B) {
	tt := shopTemplates()
	bench := func(name, path string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var m Match
			for b.Loop() {
				tt.Match("shop.example", path, &m)
			}
		})
	}
	bench("five", "/users/17/orders/123e4567-e89b-12d3-a456-426614174000")
	bench("words", "/users/me")
	bench("unknown", "/api/v1/accounts/17/settings")
	bench("odd", "/users/./%31%37/orders/123e4567-e89b-12d3-a456-426614174000")
}
