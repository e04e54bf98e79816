package pipeline

import (
	"bufio"
	"compress/gzip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// trafficLine is what a log line teaches.
type trafficLine struct {
	method, path string
	status       uint16
	client       uint64
}

// readTrafficLog reads a gzipped combined log from the data beside the tree.
func readTrafficLog(t *testing.T, name string) []trafficLine {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "shared", "data", filepath.FromSlash(name)))
	if err != nil {
		t.Skipf("needs %s beside the tree: %v", name, err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []trafficLine
	for sc := bufio.NewScanner(z); sc.Scan(); {
		parts := strings.SplitN(sc.Text(), `"`, 4)
		if len(parts) < 3 {
			continue
		}
		request, after := strings.Fields(parts[1]), strings.Fields(parts[2])
		if len(request) < 2 || len(after) < 1 {
			continue
		}
		status, _ := strconv.Atoi(after[0])
		client, _, _ := strings.Cut(parts[0], " ")
		lines = append(lines, trafficLine{request[0], request[1], uint16(status), Hash64(client)})
	}
	if len(lines) == 0 {
		t.Fatalf("%s: no lines", name)
	}
	return lines
}

func templateTexts(tt *Templates, host string) []string {
	var list []string
	if h := tt.byName[host]; h != nil {
		for _, l := range h.lines {
			list = append(list, l.text)
		}
	}
	return list
}

// unknownShare is the share of served requests without a template, in
// thousandths.
func unknownShare(tt *Templates, lines []trafficLine) int {
	served, unknown := 0, 0
	var m Match
	for _, r := range lines {
		if r.status < 200 || r.status >= 300 {
			continue
		}
		served++
		if tt.Match("", r.path, &m); !m.Known {
			unknown++
		}
	}
	return 1000 * unknown / served
}

func TestTemplatesOfToolsShop(t *testing.T) {
	lines := readTrafficLog(t, "tools_shop/access.log.gz")
	want := []string{
		"/", "/about", "/account", "/admin/orders", "/api/v1/cart", "/api/v1/login", "/api/v1/logout", "/api/v1/notifications", "/api/v1/orders",
		"/api/v1/orders/{int}", "/api/v1/products", "/api/v1/products/{mixed}", "/api/v1/profile", "/api/v1/search", "/cart", "/category/{str}", "/contact",
		"/health", "/login", "/p/{mixed}", "/password-reset", "/products", "/robots.txt", "/search", "/sitemap.xml", "/static/css/{file}.css",
		"/static/img/{file}.jpg", "/static/img/{file}.png", "/static/js/{file}.js", "/{file}.ico",
	}
	tt := learnTemplates(lines, 1).Build(nil)
	if diff := cmp.Diff(want, templateTexts(tt, "")); diff != "" {
		t.Error(diff)
	}
	if n := unknownShare(tt, lines); n > 1 {
		t.Errorf("%d in a thousand served requests have no template", n)
	}
	// The same shop with slugs that carry no digits: values by family alone.
	letters := strings.NewReplacer("0", "a", "1", "b", "2", "c", "3", "d", "4", "e", "5", "f", "6", "g", "7", "h", "8", "i", "9", "k")
	for i, r := range lines {
		for _, dir := range []string{"/p/", "/api/v1/products/"} {
			if slug, ok := strings.CutPrefix(r.path, dir); ok {
				lines[i].path = dir + letters.Replace(slug)
			}
		}
	}
	for i, text := range want {
		if strings.HasSuffix(text, "/{mixed}") {
			want[i] = strings.Replace(text, "{mixed}", "{str}", 1)
		}
	}
	if diff := cmp.Diff(want, templateTexts(learnTemplates(lines, 1).Build(nil), "")); diff != "" {
		t.Errorf("without digits: %s", diff)
	}
}

func TestTemplatesOfBlog(t *testing.T) {
	lines := readTrafficLog(t, "baseline_access_logs/apache_logs.gz")
	tt := learnTemplates(lines, 1).Build(nil)
	list := templateTexts(tt, "")
	t.Logf("%d templates, %d in a thousand served requests without one:\n%s", len(list), unknownShare(tt, lines), strings.Join(list, "\n"))
	if len(list) < 80 || len(list) > 250 {
		t.Errorf("%d templates of about 1,400 paths", len(list))
	}
	if n := unknownShare(tt, lines); n > 25 {
		t.Errorf("%d in a thousand served requests have no template", n)
	}
	text := func(path, want string) {
		t.Helper()
		if got := string(tt.AppendText(nil, "", path)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	text("/blog/geekery/some-new-post.html", "/blog/geekery/{str}")
	text("/blog/tags/anything", "/blog/tags/{str}")
	text("/images/web/2009/banner.png", "/images/web/{int}/{file}.png")
	text("/articles/dynamic-dns-with-dhcp/", "/articles/dynamic-dns-with-dhcp")
	text("/projects/xdotool/", "/projects/xdotool")
	text("/wp-login.php", unknownText)
	text("/admin", unknownText)
}
