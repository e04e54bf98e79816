package pipeline

import "testing"

// What the fast look lets pass must be what the tables let pass.
func TestPlain(t *testing.T) {
	texts := []string{
		"", "-", "/", "/a", "/a.b", "/..", "/.git", "/a/.git/config", "/.gitignore", "/a-inf", "/x/-INF/longer/than/eight", "/static/css/main.4f2a.css",
		"/api/v1/orders/100297", "https://shop.example:8443/a_b/c-d", "https://shop.example/?q=1", "/a/../b/c/d/e", "/abcdefg..", "/abcdef.", ".", "..", "/éclair-au-chocolat",
	}
	for c := range 256 {
		for _, at := range []int{0, 3, 7, 8, 12, 20} {
			b := []byte("/abcdefg/hijklmn/opqrs")
			b[at] = byte(c)
			texts = append(texts, string(b), string(b[:at+1]))
		}
	}
	fast := 0
	for _, s := range texts {
		c := classesOf(s)
		if plainPath(s) {
			fast++
			if c&^(charSlashDot|charEqual) != 0 || c&charSlashDot != 0 && oddPath(s) {
				t.Errorf("plainPath(%q) lets a payload's characters pass", s)
			}
		}
		if plainReferer(s) && (c&(charQuoteMark|charAngle|charBracket|charEncoded) != 0 || c&charShell != 0) {
			t.Errorf("plainReferer(%q) lets a payload's characters pass", s)
		}
	}
	if fast < 100 || !plainPath("/api/v1/orders/100297") || !plainPath("/static/css/main.4f2a.css") || !plainReferer("https://shop.example/cart") {
		t.Errorf("ordinary text is not plain: %d of %d", fast, len(texts))
	}
}
