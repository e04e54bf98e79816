package console

import (
	"encoding/json"
	"fmt"
	"testing"

	"weir/pipeline"
)

func TestShadowCases(t *testing.T) {
	s := &fakeStore{}
	for i := range 3 {
		f := pipeline.Finding{ID: fmt.Sprintf("c%d", i), Detector: "scrape.crawl", Score: pipeline.ReviewAt, Title: "Scraping\x1b[31m"}
		if i == 2 {
			f.Detector, f.Score = "probe.path", pipeline.PageAt
		}
		s.shadows = append(s.shadows, NewShadowCase(&f))
	}
	h := newHandler(options(s))
	f := func(query string, code int, more bool, want ...string) {
		t.Helper()
		w := ask(h, "GET", "/api/v1/shadow"+query)
		var page struct {
			Data []ShadowCase
			More bool
		}
		if err := json.Unmarshal(w.Body.Bytes(), &page); w.Code != code || code == 200 && (err != nil || page.More != more) {
			t.Errorf("%s: %d %s %v", query, w.Code, w.Body, err)
			return
		}
		got := []string{}
		for _, c := range page.Data {
			got = append(got, c.ID+" "+c.Tier)
		}
		if code == 200 && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	f("", 200, false, "c0 review", "c1 review", "c2 page")
	f("?limit=2", 200, true, "c0 review", "c1 review")
	f("?detector=probe.path", 200, false, "c2 page")
	f("?detector=probe.path&limit=1", 200, false, "c2 page")
	f("?detector=nothing", 400, false)
	f("?mode=shadow", 400, false)
	f("?limit=0", 400, false)
}
