package fixed

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

func TestTemplate(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		tmpl, id := template(path)
		if got := tmpl + " " + id; got != want {
			t.Errorf("template(%q) = %q, want %q", path, got, want)
		}
	}
	f("/api/v1/orders/17", "/api/v1/orders/{id} 17")
	f("/users/17/orders", "/users/{id}/orders 17")
	f("/u/123e4567-e89b-12d3-a456-426614174000", "/u/{id} 123e4567-e89b-12d3-a456-426614174000")
	f("/p/lamp-3", "/p/lamp-3 ")
	f("/", "/ ")
	f("", " ")
}

// TestRules plays n events, every apart, and looks at which rules fire.
func TestRules(t *testing.T) {
	f := func(n int, every time.Duration, status uint16, method, path, want string) {
		t.Helper()
		w := New()
		at := pipeline.Time(1_772_431_200_000_000)
		for i := range n {
			p := path
			if strings.Contains(p, "%") {
				p = fmt.Sprintf(path, i)
			}
			w.Observe(&Event{Time: at.Add(time.Duration(i) * every), Address: pipeline.Address{15: 1}, Method: method, Path: p, Status: status})
		}
		var got []string
		for _, a := range w.Finish() {
			got = append(got, a.Detector)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%d × %s %s %d every %s: %q, want %q", n, method, path, status, every, s, want)
		}
	}
	const s = time.Second
	f(10, s/10, 404, "GET", "/x%d", "")
	f(11, s/10, 404, "GET", "/x%d", "probe.path")
	f(1000, s/10, 404, "GET", "/x", "")       // not distinct
	f(1000, s/10, 404, "GET", "/x%d.css", "") // assets
	f(1000, 11*s, 404, "GET", "/x%d", "")     // slower than the leak: never
	f(1000, 9*s, 404, "GET", "/x%d", "probe.path")
	f(5, s, 401, "POST", "/login", "")
	f(6, s, 401, "POST", "/login", "auth.bruteforce")
	f(600, s, 200, "POST", "/login", "") // a failure that answers 200 is not seen
	f(40, s/100, 200, "GET", "/p/a%d", "")
	f(42, s/100, 200, "GET", "/p/a%d", "scrape.crawl")
	f(1000, s/2+s/100, 200, "GET", "/p/a%d", "")
	f(50, s, 200, "POST", "/orders/%d", "")
	f(51, s, 200, "POST", "/orders/%d", "enum.object")
	f(1000, 7*s, 200, "POST", "/orders/%d", "")
}

func TestAFiringRuleExtendsItsIncident(t *testing.T) {
	w := New()
	at := pipeline.Time(1_772_431_200_000_000)
	burst := func(from pipeline.Time) {
		for i := range 6 {
			w.Observe(&Event{Time: from.Add(time.Duration(i) * time.Second), Address: pipeline.Address{15: 1}, Method: "POST", Path: "/l", Status: 401})
		}
	}
	burst(at)
	burst(at.Add(2 * time.Hour))
	burst(at.Add(24 * time.Hour))
	got := w.Finish()
	if len(got) != 2 || got[0].Window.Last.Sub(at) != 2*time.Hour+5*time.Second || got[0].Window.DetectedAt.Sub(at) != 5*time.Second {
		t.Fatalf("%d incidents: %+v", len(got), got)
	}
	if got[0].ID == got[1].ID || !strings.Contains(got[0].Reason, "2 times") {
		t.Errorf("ids %s and %s, reason %q", got[0].ID, got[1].ID, got[0].Reason)
	}
}

func TestSweepKeepsWhatCounts(t *testing.T) {
	w := New()
	at := pipeline.Time(1_772_431_200_000_000)
	for i := range 4 {
		w.Observe(&Event{Time: at, Address: pipeline.Address{15: 1}, Method: "POST", Path: "/l", Status: 401})
		w.Observe(&Event{Time: at, Address: pipeline.Address{15: byte(i)}, Method: "GET", Path: "/a", Status: 404})
	}
	before := len(w.buckets)
	w.sweep(at.Add(400 * time.Millisecond))
	if len(w.buckets) != before {
		t.Errorf("%d buckets after a sweep, want %d: none is empty yet", len(w.buckets), before)
	}
	w.sweep(at.Add(time.Minute))
	if len(w.buckets) != 0 {
		t.Errorf("%d buckets kept, want none", len(w.buckets))
	}
}
