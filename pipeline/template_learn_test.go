package pipeline

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// siteTraffic is a small site with ten words and some values, for clients
// numbered from base.
func siteTraffic(l *TemplateLearner, host string, base, clients int) {
	for c := range clients {
		for _, path := range []string{"/", "/login", "/cart", fmt.Sprintf("/orders/%d", c), fmt.Sprintf("/u/%s", specValue("user", uint64(c)))} {
			for range 3 {
				l.Add(host, "GET", path, 200, uint64(base+c))
			}
		}
	}
}

func TestTemplateGate(t *testing.T) {
	f := func(clients int, status uint16, visitors int, want bool) {
		t.Helper()
		l := NewTemplateLearner()
		siteTraffic(l, "", 0, clients)
		for c := range visitors {
			l.Add("", "POST", "/hidden/page", status, uint64(c))
		}
		var m Match
		if l.Build(nil).Match("", "/hidden/page", &m); m.Known != want {
			t.Errorf("%d of %d clients were answered %d: known %v cold %v, want %v", visitors, clients, status, m.Known, m.Cold, want)
		}
	}
	f(50, 200, 3, true)
	f(50, 201, 3, true)
	f(50, 304, 3, true)
	f(50, 200, 2, false)
	f(50, 403, 3, true)
	f(50, 401, 2, false)
	f(50, 302, 3, true)
	f(50, 404, 50, false)
	f(50, 500, 50, false)
	f(6, 200, 2, true)
	f(6, 200, 1, false)
	f(3, 200, 1, true)
	f(3, 403, 2, false)
}

func TestTemplateReturns(t *testing.T) {
	l := NewTemplateLearner()
	siteTraffic(l, "", 0, 100)
	for i := range 200 { // one administrator, many pages, again and again
		for range returnHits {
			l.Add("", "GET", fmt.Sprintf("/admin/%s", specValue("word", uint64(i))), 200, 1<<20)
		}
	}
	n := 0
	var m Match
	tt := l.Build(nil)
	for i := range 200 {
		if tt.Match("", fmt.Sprintf("/admin/%s", specValue("word", uint64(i))), &m); m.Known {
			n++
		}
	}
	if n < returnPaths/2 || n > returnPaths {
		t.Errorf("%d pages of one client are known, want at most %d", n, returnPaths)
	}
}

// One scanner that is answered 200 for everything changes nothing.
func TestTemplateScanner(t *testing.T) {
	plain, scanned := NewTemplateLearner(), NewTemplateLearner()
	siteTraffic(plain, "", 0, 100)
	siteTraffic(scanned, "", 0, 100)
	for i := range 20000 {
		scanned.Add("", "GET", fmt.Sprintf("/%s/%s", specValue("word", uint64(i%100)), specValue("slug", uint64(i))), 200, 1<<30)
		scanned.Add("", "GET", "/"+specValue("slug", uint64(i)), 200, 1<<30)
	}
	if scanned.pairs > plain.pairs+maxClientPaths {
		t.Errorf("one client holds %d pairs", scanned.pairs-plain.pairs)
	}
	if diff := cmp.Diff(templateTexts(plain.Build(nil), ""), templateTexts(scanned.Build(nil), "")); diff != "" {
		t.Error(diff)
	}
}

func TestTemplateFamilies(t *testing.T) {
	f := func(name, want string, traffic func(add func(client int, method, path string))) {
		t.Helper()
		l := NewTemplateLearner()
		siteTraffic(l, "", 0, 100)
		traffic(func(client int, method, path string) { l.Add("", method, path, 200, uint64(client)) })
		list := slices.DeleteFunc(templateTexts(l.Build(nil), ""), func(s string) bool { return len(s) < 3 || s[:3] != "/x/" })
		if got := fmt.Sprint(list); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	word := func(i int) string { return specValue("word", uint64(i)) }
	f("user names and a word among them", "[/x/me /x/{str}]", func(add func(int, string, string)) {
		for c := range 100 {
			add(c, "GET", "/x/"+word(c))
			add(c, "GET", "/x/me")
		}
	})
	f("a word towers over values", "[/x/overview /x/{str}]", func(add func(int, string, string)) {
		for c := range 100 {
			add(c, "GET", "/x/"+word(c))
			add(c, "GET", "/x/overview")
		}
	})
	f("pages that everybody uses", "[/x/a /x/b /x/c /x/d /x/e /x/f /x/g /x/h /x/i /x/j /x/k /x/l /x/m /x/n]", func(add func(int, string, string)) {
		for c := range 100 {
			for i := range 14 {
				add(c, "GET", "/x/"+string(rune('a'+i)))
			}
		}
	})
	f("popular products", "[/x/{str}]", func(add func(int, string, string)) {
		r := rand.New(rand.NewPCG(1, 1))
		zipf := rand.NewZipf(r, 1.2, 4, 100)
		for c := range 100 {
			for range 10 {
				add(c, "GET", "/x/"+word(int(zipf.Uint64())))
			}
		}
	})
	f("collections with ids", "[/x/accounts /x/accounts/{int} /x/bills /x/bills/{int}]", func(add func(int, string, string)) {
		for c := range 100 {
			for _, name := range []string{"accounts", "bills"} {
				add(c, "GET", "/x/"+name)
				add(c, "GET", fmt.Sprintf("/x/%s/%d", name, c))
			}
		}
	})
	f("tenants", "[/x/{str}/members /x/{str}/projects]", func(add func(int, string, string)) {
		for c := range 100 {
			add(c, "GET", "/x/"+word(c%10)+"/members")
			add(c, "POST", "/x/"+word(c%10)+"/projects")
		}
	})
	f("remote procedures", "[/x/AMethod /x/BMethod /x/CMethod /x/DMethod /x/EMethod /x/FMethod /x/GMethod /x/HMethod /x/IMethod /x/JMethod /x/KMethod /x/LMethod /x/MMethod /x/NMethod]", func(add func(int, string, string)) {
		for c := range 100 {
			for i := range 3 {
				add(c, "POST", fmt.Sprintf("/x/%c%s", 'A'+(c+i)%14, "Method"))
			}
		}
	})
}

func TestTemplatesMonotone(t *testing.T) {
	early, late := NewTemplateLearner(), NewTemplateLearner()
	siteTraffic(early, "a.example", 0, 100)
	siteTraffic(late, "a.example", 500, 20) // too few user names to find the slot again
	late.Add("a.example", "GET", "/u/"+specValue("user", 77777), 200, 501)
	for c := range 30 {
		late.Add("a.example", "GET", "/u/novel", 200, uint64(c))
		late.Add("a.example", "GET", "/fresh", 200, uint64(c))
	}
	first := early.Build(nil)
	second := late.Build(first)
	for _, text := range templateTexts(first, "a.example") {
		if !slices.Contains(templateTexts(second, "a.example"), text) {
			t.Errorf("%s is gone", text)
		}
	}
	if got := templateTexts(second, "a.example"); !slices.Contains(got, "/fresh") || slices.Contains(got, "/u/novel") {
		t.Errorf("second edition: %s", got)
	}
	if diff := cmp.Diff(templateTexts(second, "a.example"), templateTexts(NewTemplateLearner().Build(second), "a.example")); diff != "" {
		t.Errorf("an edition does not survive a silent tick: %s", diff)
	}
	before := encodeTemplates(t, first)
	if got := encodeTemplates(t, NewTemplateLearner().Build(first)); !bytes.Equal(got, before) {
		t.Error("a silent tick changes the edition's bytes")
	}
}

// At its bounds a learner samples, and the sample depends on neither order nor
// on how requests are split.
func TestLearnerBounds(t *testing.T) {
	s := ownSpecs()[0]
	lines := s.traffic(3)
	for i := range 40000 { // thousands of clients that differ
		lines = append(lines, trafficLine{"GET", "/p/" + specValue("slug", uint64(i%500)), 200, uint64(1000 + i/8)})
	}
	for i := range 3000 { // and one beyond its own bound
		lines = append(lines, trafficLine{"GET", "/soft/" + specValue("slug", uint64(i)), 200, 99})
	}
	build := func(parts int) ([]byte, *TemplateLearner) {
		learners := make([]*TemplateLearner, parts)
		for i := range learners {
			learners[i] = NewTemplateLearner()
			learners[i].limit = 4000
		}
		for i, r := range lines {
			learners[i%parts].Add("", r.method, r.path, r.status, r.client)
		}
		for _, o := range learners[1:] {
			learners[0].Merge(o)
		}
		return encodeTemplates(t, learners[0].Build(nil)), learners[0]
	}
	want, l := build(1)
	if l.level == 0 || l.pairs > l.limit {
		t.Fatalf("level %d, %d pairs: the bound was not tried", l.level, l.pairs)
	}
	pairs, refs := 0, 0
	for _, c := range l.clients {
		pairs += len(c.pairs)
	}
	for _, p := range l.paths {
		refs += p.clients
	}
	if pairs != l.pairs || refs != l.pairs {
		t.Errorf("%d pairs are counted, %d held, %d referred to", l.pairs, pairs, refs)
	}
	r := rand.New(rand.NewPCG(8, 8))
	for i := range 4 {
		r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		if got, _ := build(1 + 2*(i%2)); !bytes.Equal(got, want) {
			t.Fatalf("shuffle %d in %d parts gives other bytes", i, 1+2*(i%2))
		}
	}
}

func TestTemplateHosts(t *testing.T) {
	l := NewTemplateLearner()
	siteTraffic(l, "a.example", 0, 60)
	siteTraffic(l, "b.example", 0, 60)
	for i := range 400 { // forged Host headers
		l.Add(fmt.Sprintf("h%d.invalid", i), "GET", "/", 200, 7)
		l.Add(fmt.Sprintf("h%d\x00", i), "GET", "/", 200, 7)
	}
	for i := range 40 {
		l.Add(fmt.Sprintf("t%d.example", i%20), "GET", "/dashboard", 200, uint64(i))
	}
	tt := l.Build(nil)
	if tt.Hosts() != 3 {
		t.Errorf("%d host classes, want a, b and the shared one", tt.Hosts())
	}
	var m Match
	if tt.Match("t5.example", "/dashboard", &m); !m.Known {
		t.Errorf("hosts with few clients learn together: %+v", m)
	}
}

func TestTemplateLimits(t *testing.T) {
	prev := []hostTemplates{}
	for h := range 20 {
		lines := []templateLine{}
		for i := range maxHostTemplates + 100 {
			lines = append(lines, templateLine{text: fmt.Sprintf("/q/%c%s", 'a'+i%20, specValue("word", uint64(i))) + fmt.Sprintf("x%d", i), clients: int64(i)})
		}
		prev = append(prev, hostTemplates{name: fmt.Sprintf("h%d", h), lines: lines})
	}
	tt := newTemplates(bound(prev))
	if tt.Len() > maxTemplateNodes/2 || tt.Len() < maxTemplateNodes/4 {
		t.Errorf("%d templates", tt.Len())
	}
	for i := range tt.hosts {
		if n := len(tt.hosts[i].lines); n > maxHostTemplates {
			t.Errorf("%d templates of one host", n)
		}
	}
}

func TestLearnerState(t *testing.T) {
	lines := ownSpecs()[1].traffic(4)
	l := learnTemplates(lines, 1)
	state := l.AppendState(nil)
	if !bytes.Equal(learnTemplates(lines, 3).AppendState(nil), state) {
		t.Error("the state depends on how requests were split")
	}
	again, err := ReadTemplateLearner(state)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.AppendState(nil), state) || !bytes.Equal(encodeTemplates(t, again.Build(nil)), encodeTemplates(t, l.Build(nil))) {
		t.Error("the state read back is another")
	}
	for n := range 2000 {
		if _, err := ReadTemplateLearner(state[:n*len(state)/2000]); err == nil {
			t.Fatalf("a state cut at %d of %d is accepted", n, 2000)
		}
	}
}

func FuzzReadTemplateLearner(f *testing.F) {
	l := NewTemplateLearner()
	siteTraffic(l, "a.example", 0, 3)
	f.Add(l.AppendState(nil))
	f.Add(NewTemplateLearner().AppendState(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ReadTemplateLearner(b)
		if err != nil {
			return
		}
		if _, err := ReadTemplateLearner(l.AppendState(nil)); err != nil {
			t.Fatal(err)
		}
		l.Add("a", "GET", "/x", 200, 5)
		l.Build(nil)
	})
}

func BenchmarkTemplateLearnerAdd(b *testing.B) {
	lines := ownSpecs()[0].traffic(1)
	l := NewTemplateLearner()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := &lines[i%len(lines)]
		l.Add("shop.example", r.method, r.path, r.status, r.client)
	}
}

func BenchmarkTemplateBuild(b *testing.B) {
	l := learnTemplates(ownSpecs()[0].traffic(1), 1)
	b.ReportAllocs()
	for b.Loop() {
		l.Build(nil)
	}
}
