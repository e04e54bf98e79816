package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
)

// built is the web app as make ui leaves it; without that only a .gitignore is
// in it, and a page that says so is served.
//
//go:embed all:ui/dist
var built embed.FS

//go:embed ui/placeholder.html
var placeholder []byte

// pagePolicy is what the app's pages may do: use files of their own origin. They
// need nothing inline and nothing of the network.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// asset is a file of the app, as it is sent.
type asset struct {
	kind, tag string
	forever   bool // its name changes with its content
	body      []byte
	packed    func() []byte // gzip, made when it is first asked for; nil where that saves nothing
}

// pages serves the app: its files under their names, and its one page for every
// address that a person opens.
type pages struct {
	files map[string]*asset
	index *asset
}

// withApp serves the app that is built in before it asks next.
func withApp(next http.Handler) http.Handler {
	dist, err := fs.Sub(built, "ui/dist")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	p, err := newPages(dist)
	if err != nil {
		panic("BUG: read what is built in: " + err.Error())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.serve(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

func newPages(dist fs.FS) (*pages, error) {
	p := &pages{files: map[string]*asset{}}
	err := fs.WalkDir(dist, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		body, err := fs.ReadFile(dist, name)
		if err != nil {
			return err
		}
		p.files["/"+name] = newAsset(name, body)
		return nil
	})
	if p.index = p.files["/index.html"]; p.index == nil {
		p.index = newAsset("index.html", placeholder)
	}
	delete(p.files, "/index.html") // it has one address a view, and none of its own
	return p, err
}

func newAsset(name string, body []byte) *asset {
	sum := sha256.Sum256(body)
	a := &asset{kind: mime.TypeByExtension(path.Ext(name)), tag: `"` + hex.EncodeToString(sum[:12]) + `"`, forever: strings.HasPrefix(name, "assets/"), body: body}
	// Not every machine knows these, and some know them wrongly.
	switch path.Ext(name) {
	case ".html":
		a.kind = "text/html; charset=utf-8"
	case ".js":
		a.kind = "text/javascript; charset=utf-8"
	case ".css":
		a.kind = "text/css; charset=utf-8"
	case ".svg":
		a.kind = "image/svg+xml"
	}
	a.packed = sync.OnceValue(func() []byte {
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			panic("BUG: gzip: " + err.Error())
		}
		_, _ = z.Write(body) // into memory
		_ = z.Close()
		if b.Len() >= len(body) {
			return nil
		}
		return b.Bytes()
	})
	return a
}

// serve answers for the app, and returns false for what it has nothing for. The
// page is for those who take HTML: a program that mistypes an address is told so.
func (p *pages) serve(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	a := p.files[r.URL.Path]
	if a == nil {
		if !isView(r.URL.Path) || !strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "text/html") {
			return false
		}
		a = p.index
	}
	h := w.Header()
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
	h.Set("ETag", a.tag)
	h.Set("Vary", "Accept, Accept-Encoding")
	h.Set("Cache-Control", "no-cache") // asks each time whether it changed
	if a.forever {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if r.Header.Get("If-None-Match") == a.tag {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	body := a.body
	if strings.Contains(strings.Join(r.Header.Values("Accept-Encoding"), ","), "gzip") && len(body) >= packFrom {
		if packed := a.packed(); packed != nil {
			h.Set("Content-Encoding", "gzip")
			body = packed
		}
	}
	write(w, http.StatusOK, a.kind, body)
	return true
}

// isView tells whether an address is one that the app shows: no file, and
// nothing that a program asks for.
func isView(name string) bool {
	for _, not := range []string{"/api/", "/ingest/", "/assets/", "/metrics", "/healthz", "/readyz"} {
		if strings.HasPrefix(name+"/", not) || strings.HasPrefix(name, not) {
			return false
		}
	}
	return true
}
