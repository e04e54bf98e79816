package detectors

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// limitTemplates knows /items/{int} and /login.
func limitTemplates(t *testing.T) *pipeline.Templates {
	t.Helper()
	l := pipeline.NewTemplateLearner()
	for c := range 80 {
		for i := range 4 {
			l.Add("", "GET", fmt.Sprint("/items/", c*31+i), 200, uint64(c))
		}
		l.Add("", "POST", "/login", 302, uint64(c))
	}
	return l.Build(nil)
}

func limitRequest(at time.Duration, method, path string) *pipeline.Request {
	r := &pipeline.Request{Time: caseStart.Add(at), Method: method, Path: path, Status: 200}
	r.Seal()
	return r
}

// TestLimitPeaks: a peak holds what came in any minute, and not much more.
func TestLimitPeaks(t *testing.T) {
	templates := limitTemplates(t)
	f := func(least, most uint32, at ...time.Duration) {
		t.Helper()
		l := NewLimitCounter(templates)
		for _, at := range at {
			l.Add(limitRequest(at, "POST", "/login"), 1)
		}
		if len(l.pairs) != 1 {
			t.Fatalf("%d pairs", len(l.pairs))
		}
		for _, p := range l.pairs {
			if p.peak < least || p.peak > most {
				t.Errorf("%v: peak %d, want %d to %d", at, p.peak, least, most)
			}
		}
	}
	spread := func(n int, every time.Duration) (at []time.Duration) {
		for i := range n {
			at = append(at, time.Duration(i)*every)
		}
		return at
	}
	f(1, 1, 0)
	f(5, 5, spread(5, 0)...)
	f(20, 20, spread(20, time.Second)...)
	f(60, 70, spread(600, time.Second)...)
	f(1, 2, spread(50, time.Minute)...)
	f(2, 2, spread(50, 35*time.Second)...)
	f(1, 1, spread(50, time.Hour)...)
	// Any 60 s, however they lie.
	for shift := range 60 {
		from := time.Duration(shift) * time.Second
		f(40, 40, append(spread(1, 0), slices.Concat(shifted(spread(20, time.Second), 10*time.Minute+from), shifted(spread(20, time.Second), 10*time.Minute+from+40*time.Second))...)...)
	}
	f(3, 3, 30*time.Second, 10*time.Second, 20*time.Second) // late ones, too
	f(2, 2, 10*time.Minute, 0, 20*time.Minute)
}

func shifted(list []time.Duration, by time.Duration) []time.Duration {
	out := slices.Clone(list)
	for i := range out {
		out[i] += by
	}
	return out
}

// TestLimits: the limit of many clients is what one in a thousand goes beyond, of
// few twice the busiest; clients with an alert do not move it.
func TestLimits(t *testing.T) {
	templates := limitTemplates(t)
	f := func(want EndpointLimit, clients, loud int, requests func(client int) int) {
		t.Helper()
		l := NewLimitCounter(templates)
		for c := range clients + loud {
			for i := range requests(c) {
				l.Add(limitRequest(time.Duration(i)*time.Millisecond, "GET", fmt.Sprint("/items/", c+i)), uint64(c))
			}
			l.Add(limitRequest(0, "GET", "/items/nothing/at/all"), uint64(c))
			l.Add(limitRequest(0, "OPTIONS", "/login"), uint64(c))
		}
		got := l.Limits(func(c uint64) bool { return c >= uint64(clients) })
		if want.Clients == 0 {
			if len(got) != 0 {
				t.Errorf("%+v", got)
			}
			return
		}
		want.Method, want.Template = "GET", "/items/{int}"
		if len(got) != 1 || got[0] != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	ten := func(c int) int { return 1 + c%10 }
	f(EndpointLimit{}, limitClients-1, 50, ten)
	f(EndpointLimit{PerMinute: 20, Clients: 30, Median: 6, Most: 10}, 30, 0, ten)
	f(EndpointLimit{PerMinute: limitFloor, Clients: 40, Median: 1, Most: 1, Alerted: 3}, 40, 3, func(int) int { return 1 })
	f(EndpointLimit{PerMinute: 20, Clients: 30, Median: 6, Most: 10, Alerted: 2, AlertedTouched: 2}, 30, 2, func(c int) int {
		if c >= 30 {
			return 500
		}
		return ten(c)
	})
	f(EndpointLimit{PerMinute: 40, Clients: 2000, Touched: 2, Median: 6, Most: 90, Alerted: 1, AlertedTouched: 1}, 2000, 1, func(c int) int {
		switch {
		case c >= 2000:
			return 300
		case c < 2:
			return 90
		case c < 10:
			return 40
		}
		return ten(c)
	})
}

// TestLimitsAreBounded: more clients than fit are a sample of whole ones, chosen
// by hash, whatever their order.
func TestLimitsAreBounded(t *testing.T) {
	templates := limitTemplates(t)
	n := maxLimitPairs + maxLimitPairs/4
	count := func(from, step int) []EndpointLimit {
		l := NewLimitCounter(templates)
		r := limitRequest(0, "POST", "/login")
		for i := range n {
			client := uint64((from + i*step) % n)
			l.Add(r, client)
			l.Add(r, client)
			if len(l.pairs) > maxLimitPairs {
				t.Fatalf("%d pairs", len(l.pairs))
			}
		}
		return l.Limits(func(uint64) bool { return false })
	}
	a, b := count(0, 1), count(n-1, n-1)
	if len(a) != 1 || a[0].Clients < int64(n)/3 || a[0].Clients > int64(n)*2/3 || a[0].Median != 2 || !slices.Equal(a, b) {
		t.Errorf("%+v and %+v", a, b)
	}
}
