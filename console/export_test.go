package console

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestExport(t *testing.T) {
	s := &fakeStore{}
	for i := range exportPage + 7 {
		s.put(fmt.Sprintf("a%04d", i))
	}
	o := options(s)
	viewer := s.give(o, "vera", Viewer)
	h := newHandler(o)
	w := askAs(h, viewer, "GET", "/api/v1/alerts/export?format=csv", "")
	rows, err := csv.NewReader(w.Body).ReadAll()
	if w.Code != 200 || err != nil || len(rows) != exportPage+8 || strings.Join(rows[0], ",") != strings.Join(exportColumns(), ",") {
		t.Fatalf("%d, %d rows, %v: %v", w.Code, len(rows), err, rows[:min(1, len(rows))])
	}
	if got := w.Header().Get("Content-Disposition"); got != `attachment; filename="alerts.csv"` || w.Header().Get("X-Total-Count") != fmt.Sprint(exportPage+7) {
		t.Errorf("%q %q", got, w.Header().Get("X-Total-Count"))
	}
	seen := map[string]bool{}
	for _, r := range rows[1:] {
		seen[r[0]] = true
	}
	if len(seen) != exportPage+7 {
		t.Errorf("%d different alerts of %d", len(seen), exportPage+7)
	}
	w = askAs(h, viewer, "GET", "/api/v1/alerts/export?suppressed=false", "")
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	var a struct{ Schema, ID string }
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-ndjson" || json.Unmarshal([]byte(lines[0]), &a) != nil || a.ID == "" {
		t.Errorf("%d %s: %.200s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	list := s.entries()
	if e := list[len(list)-1]; e.Action != "alerts.export" || e.Who.Name != "vera" || !strings.Contains(fmt.Sprint(e.After), "suppressed:false") {
		t.Errorf("the audit has %+v", e)
	}
	for query, code := range map[string]int{"format=xls": 400, "limit=5": 400, "severity=worst": 400, "format=csv&format=csv": 400} {
		if w := askAs(h, viewer, "GET", "/api/v1/alerts/export?"+query, ""); w.Code != code {
			t.Errorf("%s: %d, want %d", query, w.Code, code)
		}
	}
	// What is not in the audit does not leave, and there is a bound.
	s.auditErr = fmt.Errorf("full")
	if w := askAs(h, viewer, "GET", "/api/v1/alerts/export", ""); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "a0001") {
		t.Errorf("without the audit: %d %.100s", w.Code, w.Body)
	}
	s.auditErr = nil
	last := 0
	for range maxExports {
		last = askAs(h, viewer, "GET", "/api/v1/alerts/export", "").Code
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("after %d exports: %d", maxExports, last)
	}
}

func TestPlainCell(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := plainCell(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	f("", "")
	f("Crawl by 203.0.113.7", "Crawl by 203.0.113.7")
	f("=HYPERLINK(1)", "'=HYPERLINK(1)")
	f("@x", "'@x")
	f("-1", "'-1")
	f("\tx", "'\tx")
}
