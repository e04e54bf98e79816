package console

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func testPages(t *testing.T, dist fs.FS) *pages {
	t.Helper()
	p, err := newPages(dist)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func getPage(p *pages, target string, header ...string) (*httptest.ResponseRecorder, bool) {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	return w, p.serve(w, r)
}

// TestPages: files under their names, the page under every address a person
// opens, and nothing for programs that mistype one.
func TestPages(t *testing.T) {
	script := strings.Repeat("export const x = 1;\n", 200)
	p := testPages(t, fstest.MapFS{
		"index.html":       {Data: []byte("<!doctype html><title>weir</title>")},
		"assets/a-1234.js": {Data: []byte(script)},
		"assets/a-1234.css": {
			Data: []byte("a{}"),
		},
		"favicon.svg": {Data: []byte("<svg/>")},
		".gitignore":  {Data: []byte("*")},
	})
	const html = "text/html,application/xhtml+xml"
	for _, tt := range []struct {
		path, accept string
		kind         string // "" for nothing
		forever      bool
	}{
		{"/", html, "text/html; charset=utf-8", false},
		{"/alerts/7f3c?x=1", html, "text/html; charset=utf-8", false},
		{"/principals/ip/2001:db8::%2F64", html, "text/html; charset=utf-8", false},
		{"/assets/a-1234.js", "*/*", "text/javascript; charset=utf-8", true},
		{"/assets/a-1234.css", "text/css", "text/css; charset=utf-8", true},
		{"/favicon.svg", "image/*", "image/svg+xml", false},
		{"/alerts", "*/*", "", false},
		{"/", "application/json", "", false},
		{"/api/v1/nothing", html, "", false},
		{"/api", html, "", false},
		{"/ingest/v1/json", html, "", false},
		{"/metrics", html, "", false},
		{"/assets/gone.js", html, "", false},
		{"/.gitignore", "*/*", "", false},
		{"/assets/../index.html", "*/*", "", false},
	} {
		w, ok := getPage(p, tt.path, "Accept", tt.accept)
		if ok != (tt.kind != "") || w.Header().Get("Content-Type") != tt.kind {
			t.Errorf("%s for %s: served %t as %q, want %q", tt.path, tt.accept, ok, w.Header().Get("Content-Type"), tt.kind)
		}
		if !ok {
			continue
		}
		h := w.Header()
		if got := strings.Contains(h.Get("Cache-Control"), "immutable"); got != tt.forever {
			t.Errorf("%s: Cache-Control %q", tt.path, h.Get("Cache-Control"))
		}
		policy := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; style-src 'self'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", tt.path, policy)
		}
		again, _ := getPage(p, tt.path, "Accept", tt.accept, "If-None-Match", h.Get("ETag"))
		if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
			t.Errorf("%s, known already: %d", tt.path, again.Code)
		}
	}
	w, _ := getPage(p, "/assets/a-1234.js", "Accept-Encoding", "br, gzip")
	z, err := gzip.NewReader(bytes.NewReader(w.Body.Bytes()))
	if err != nil || w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("not packed: %v", err)
	}
	if body, err := io.ReadAll(z); err != nil || string(body) != script {
		t.Errorf("unpacked: %d bytes, %v", len(body), err)
	}
	if w, ok := getPage(p, "/", "Accept", html); !ok || w.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("the page is kept: %q", w.Header().Get("Cache-Control"))
	}
}

// TestPlaceholder: without the app there is a page that says so, and a method
// other than reading is not the app's.
func TestPlaceholder(t *testing.T) {
	p := testPages(t, fstest.MapFS{".gitignore": {Data: []byte("*")}})
	w, ok := getPage(p, "/", "Accept", "text/html")
	if !ok || !strings.Contains(w.Body.String(), "/api/v1/alerts") {
		t.Errorf("placeholder: %t %q", ok, w.Body.String())
	}
	if p.serve(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil)) {
		t.Error("POST / was served")
	}
}

// TestPagesBehindGuard: the app's policy takes the place of the API's, which
// stays where the API answers.
func TestPagesBehindGuard(t *testing.T) {
	h := newHandler(options(&fakeStore{}))
	ask := func(path, accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	if w := ask("/alerts", "text/html"); w.Code != http.StatusOK || w.Header().Get("Content-Security-Policy") != pagePolicy || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("page: %d %v", w.Code, w.Header())
	}
	if w := ask("/api/v1/nothing", "text/html"); w.Code != http.StatusNotFound || !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'; frame-ancestors") {
		t.Errorf("no route: %d %v", w.Code, w.Header())
	}
}
