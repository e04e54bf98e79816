package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"weir/pipeline"
)

// shapeOf is the elements and attributes of a page, without what they hold.
func shapeOf(t *testing.T, page []byte) (shape []string, text string) {
	t.Helper()
	z := html.NewTokenizer(bytes.NewReader(page))
	var all strings.Builder
	for {
		switch z.Next() {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				t.Fatal(z.Err())
			}
			return shape, all.String()
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			tag := z.Token()
			s := tag.Type.String() + " " + tag.Data
			for _, a := range tag.Attr {
				s += " " + a.Key
			}
			shape = append(shape, s)
		case html.TextToken:
			all.WriteString(z.Token().Data)
		case html.CommentToken, html.DoctypeToken:
			shape = append(shape, z.Token().Type.String())
		}
	}
}

// mustBeHarmless fails for anything that runs, loads or leads away.
func mustBeHarmless(t *testing.T, page []byte) {
	t.Helper()
	known := strings.Fields(`html head meta title style body header main footer section article h1 h2 h3 p ul ol li b span svg rect div table thead tbody tr th td a dl dt dd br code`)
	shape, _ := shapeOf(t, page)
	for _, s := range shape {
		f := strings.Fields(s)
		if len(f) < 2 {
			continue
		}
		if !slices.Contains(known, f[1]) {
			t.Errorf("an element %s", s)
		}
		for _, attr := range f[2:] {
			if strings.HasPrefix(attr, "on") || slices.Contains([]string{"src", "style", "srcset", "action", "formaction", "xlink:href"}, attr) {
				t.Errorf("an attribute %s", s)
			}
		}
	}
	z := html.NewTokenizer(bytes.NewReader(page))
	for kind := z.Next(); kind != html.ErrorToken; kind = z.Next() {
		for _, a := range z.Token().Attr {
			if a.Key == "href" && !strings.HasPrefix(a.Val, "#a") {
				t.Errorf("a link to %s", a.Val)
			}
		}
	}
	for _, bad := range []string{"ZgotmplZ", "javascript:", "url("} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("%q in the page", bad)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	sample := filepath.Join("testdata", "sample.log.gz")
	r := weir(t, "analyze", "--quiet", "--output", "html", sample)
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	mustBeHarmless(t, r.stdout)
	sum := sha256.Sum256([]byte(reportStyle))
	if want := html.EscapeString("style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"); !bytes.Contains(r.stdout, []byte(strings.ReplaceAll(want, "+", "&#43;"))) {
		t.Errorf("the policy is not %s", want)
	}
	if !bytes.Contains(r.stdout, []byte("<style>"+reportStyle+"</style>")) {
		t.Error("the style is not the one that the policy lets in")
	}
	_, text := shapeOf(t, r.stdout)
	for _, want := range []string{
		"Object ids walked on GET /api/v1/orders/{int} by 198.51.100.21", "1 alert needs somebody now", "3 more are worth a look", "GET /api/v1/orders/100299",
		"probe.path", "What this log does not show", "object miss", "Block 198.51.100.21",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if grave, mild := strings.Index(text, "Object ids walked"), strings.Index(text, "Password guessing"); grave > mild {
		t.Error("the gravest alert is not the first")
	}
	for _, workers := range []string{"1", "3"} {
		if again := weir(t, "analyze", "--quiet", "--output", "html", "--workers", workers, sample); !bytes.Equal(again.stdout, r.stdout) {
			t.Errorf("another page with %s workers", workers)
		}
	}
}

// TestReportOfNothing: without an alert, and without a line that can be read, the
// page says so.
func TestReportOfNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	quiet := writeFile(t, dir, "quiet.log", []byte(`203.0.113.7 - - [22/Nov/2026:08:00:00 +0000] "GET / HTTP/1.1" 200 5`+"\n"))
	r := weir(t, "analyze", "--quiet", "--output", "html", quiet)
	if _, text := shapeOf(t, r.stdout); r.code != exitOK || !strings.Contains(text, "No alerts") || !strings.Contains(text, "1requests") {
		t.Errorf("exit %d: %.500s", r.code, text)
	}
	mustBeHarmless(t, r.stdout)
	bad := writeFile(t, dir, "bad.log", []byte("<script>alert(1)</script>\n"))
	r = weir(t, "analyze", "--quiet", "--output", "html", "--format", "combined", bad)
	if _, text := shapeOf(t, r.stdout); r.code != exitFailed || !strings.Contains(text, "No request could be read") || !strings.Contains(text, "<script>alert(1)") {
		t.Errorf("exit %d: %.500s", r.code, text)
	}
	mustBeHarmless(t, r.stdout)
}

// TestReportPseudonyms: with --pseudonyms the page has no account name.
func TestReportPseudonyms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var b bytes.Buffer
	for i := range 60 {
		fmt.Fprintf(&b, `{"time":"2026-11-22T08:%02d:%02dZ","ip":"203.0.113.7","method":"POST","path":"/login","status":401,"login_user":"victim-%d"}`+"\n", i/60, i%60, i)
	}
	log := writeFile(t, dir, "a.json", b.Bytes())
	clear, hidden := weir(t, "analyze", "--quiet", "--output", "html", log), weir(t, "analyze", "--quiet", "--pseudonyms", "--output", "html", log)
	if !bytes.Contains(clear.stdout, []byte("victim-")) {
		t.Error("names are not shown")
	}
	if bytes.Contains(hidden.stdout, []byte("victim-")) || !bytes.Contains(hidden.stdout, []byte("u_")) {
		t.Error("names are shown in spite of --pseudonyms, or no tokens")
	}
}

// fill sets every text in v to s, and gives lists two elements.
func fill(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		if v.Type() != reflect.TypeFor[template.CSS]() {
			v.SetString(s)
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			if f.CanSet() {
				fill(f, s)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), s)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(3)
	case reflect.Float64:
		v.SetFloat(4)
	}
}

// FuzzReport: whatever clients write, the page has the elements that it has with
// plain words, in every place that holds a text at all.
func FuzzReport(f *testing.F) {
	for _, s := range []string{
		"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "'><svg/onload=alert(1)>", "</style><script>", "</title><script>", "{{.CSP}}", "-->", "<!--", "]]>", "\u202eevil", "a\x00b", "\xff\xfe", "&lt;script&gt;",
		"x onmouseover=alert(1)", "`", "javascript:alert(1)", "</td></table><form action=//evil>", strings.Repeat("a", 5000), "", " ",
	} {
		f.Add(s)
	}
	render := func(t *testing.T, s string) []byte {
		t.Helper()
		r := &report{Style: template.CSS(reportStyle)}
		fill(reflect.ValueOf(r).Elem(), shown(s))
		r.CSP = policy()
		// What the program itself chooses from a few words.
		for i := range r.Alerts {
			r.Alerts[i].Severity, r.Alerts[i].Anchor = "high", "a0"
		}
		for i := range r.Traffic.Marks {
			r.Traffic.Marks[i].Severity = "high"
		}
		page, err := r.render()
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	f.Fuzz(func(t *testing.T, s string) {
		page := render(t, s)
		got, text := shapeOf(t, page)
		other := "x"
		if shown(s) == "" {
			other = ""
		}
		want, _ := shapeOf(t, render(t, other))
		if !slices.Equal(got, want) {
			t.Errorf("%q changes the page's elements", s)
		}
		for _, r := range text {
			if r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0 {
				t.Errorf("%q leaves %U in the text", s, r)
			}
		}
	})
}

// TestReportOfHostileLog: the same through the whole program.
func TestReportOfHostileLog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for i := range 120 {
		fmt.Fprintf(&b, `{"time":"2026-11-22T08:%02d:%02dZ","ip":"203.0.113.7","method":"GET","host":"<b>h</b>","path":"/<script>alert(%d)</script>/.env\"onload=x","status":404,"user_agent":"<img src=x onerror=alert(1)>\u202e{{.CSP}}"}`+"\n", i/60, i%60, i)
	}
	dir := t.TempDir()
	r := weir(t, "analyze", "--quiet", "--output", "html", writeFile(t, dir, "<i>.json", b.Bytes()))
	if r.code != exitOK {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	mustBeHarmless(t, r.stdout)
	if _, text := shapeOf(t, r.stdout); !strings.Contains(text, "alert(") || !strings.Contains(text, "<img src=x") {
		t.Errorf("the requests are not shown: %.2000s", text)
	}
}

func TestChartSteps(t *testing.T) {
	t.Parallel()
	const day = pipeline.Time(86400e6)
	for _, span := range []pipeline.Time{0, 1, 5e6, 3600e6, day, 30 * day, 4000 * day} {
		tl := newTimelines(1_700_000_000e6, 1_700_000_000e6+span, nil)
		if tl.n < 1 || tl.n > chartSteps {
			t.Errorf("%d bars for %d s", tl.n, span/1e6)
		}
		for _, at := range []pipeline.Time{0, span / 2, span} {
			tl.add(&pipeline.Request{Time: 1_700_000_000e6 + at, Status: 200})
		}
		if c := tl.draw(&tl.all); !c.Has || c.N != tl.n {
			t.Errorf("no chart for %d s: %+v", span/1e6, c)
		}
	}
	if c := newTimelines(pipeline.NoTime, pipeline.NoTime, nil); c.draw(&c.all).Has {
		t.Error("a chart of nothing")
	}
}

// TestShadowInAnalyses: what detectors on trial find is named beside the alerts,
// bounded, and never among them.
func TestShadowInAnalyses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := writeFile(t, dir, "c.yaml", []byte("detect: {enum.object: {mode: shadow}}\n"))
	sample := filepath.Join("testdata", "sample.log.gz")
	r := weir(t, "analyze", "-c", config, "--output", "json", sample)
	if bytes.Contains(r.stdout, []byte("enum.object")) || !strings.Contains(r.stderr, "1 case of detectors in shadow mode") || !strings.Contains(r.stderr, "  enum.object: Object ids walked on GET /api/v1/orders/{int} by 198.51.100.21 (") {
		t.Errorf("%s", r.stderr)
	}
	_, text := shapeOf(t, weir(t, "analyze", "--quiet", "-c", config, "--output", "html", sample).stdout)
	if !strings.Contains(text, "Found by detectors in shadow mode") || !strings.Contains(text, "enum.object: Object ids walked") {
		t.Error("the page does not name what was found on trial")
	}
	var many []pipeline.Finding
	for i := range 5 * maxShadow {
		if len(many) >= maxShadow {
			many = latestFindings(many, maxShadow/2)
		}
		many = append(many, pipeline.Finding{ID: fmt.Sprint(i / 2), Seq: uint64(i)})
	}
	if last := many[len(many)-1]; len(many) > maxShadow || last.Seq != 5*maxShadow-1 {
		t.Errorf("%d findings are held, the last %d", len(many), last.Seq)
	}
	got := latestFindings([]pipeline.Finding{{ID: "a", Seq: 1}, {ID: "b", Seq: 2}, {ID: "a", Seq: 3}, {ID: "c", Seq: 4}}, 2)
	if len(got) != 2 || got[0].Seq != 3 || got[1].Seq != 4 {
		t.Errorf("%+v", got)
	}
}
