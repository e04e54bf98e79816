package alerts

import (
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// broken is a notice that GET /orders/{id} refuses everybody.
func broken(from, to pipeline.Time) *pipeline.Finding {
	return &pipeline.Finding{
		ID: "id-broken", Time: to, Detector: "health.endpoint", Level: "endpoint",
		Who:   pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: "GET /orders/{id}"},
		Onset: from, First: from, Last: to, Score: pipeline.PageAt, Sampled: 1,
		Endpoint: pipeline.Endpoint{Method: "GET", Template: "/orders/{id}"},
		Facts:    pipeline.FindingFacts{Notice: true, Excuses: true},
	}
}

// walking is a finding of 20 nats against addr, of which share come from refusals
// at GET /orders/{id} within the ten minutes before at.
func walking(addr string, at pipeline.Time, share pipeline.Nats) *pipeline.Finding {
	f := stuffing(addr, at, 14, 0)
	f.ID, f.Detector, f.Outcome.Accounts = "id-enum-"+addr, "enum.object", nil
	f.Signals[0].Name = "object_miss"
	f.Endpoint = pipeline.Endpoint{Method: "GET", Template: "/orders/{id}"}
	f.Shares = []pipeline.EndpointShare{{Endpoint: f.Endpoint, Since: at.Add(-10 * time.Minute), Last: at, Nats: share}}
	return f
}

// TestExcuse: what everybody is refused counts against nobody, as long as it
// lasted, and a notice that comes late ends what rests on it.
func TestExcuse(t *testing.T) {
	at := func(minutes int) pipeline.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	take := func(b *Book, f *pipeline.Finding) []pipeline.Alert { return b.Take(nil, f) }
	all := 20 * pipeline.Nat

	b := NewBook(DefaultConfig(), versions())
	early := take(b, walking("192.0.2.1", at(1), all))
	if len(early) != 1 || early[0].Status != "open" {
		t.Fatalf("before the notice: %v", brief(early))
	}
	take(b, walking("192.0.2.2", at(1), 4*pipeline.Nat))
	notice := take(b, broken(at(0), at(5)))
	if len(notice) != 2 || notice[0].ID != early[0].ID || notice[0].Status != "resolved" || !strings.HasPrefix(notice[0].Change.Text, "explained: GET /orders/{id}") || notice[1].Detector != "health.endpoint" {
		t.Errorf("the notice: %v %q", brief(notice), notice[0].Change.Text)
	}
	data, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = Restore(DefaultConfig(), versions(), data); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		f      *pipeline.Finding
		opened bool
		nats   float64
	}{
		{"rests on it", walking("192.0.2.3", at(6), all), false, 0},
		{"little of it", walking("192.0.2.4", at(7), 2*pipeline.Nat), true, 18},
		{"the endpoint is mended", walking("192.0.2.6", at(90), all), true, 20},
	} {
		got := take(b, c.f)
		var opened []pipeline.Alert
		for i := range got {
			if got[i].Change.Kind == "opened" {
				opened = append(opened, got[i])
			}
		}
		if (len(opened) == 1) != c.opened {
			t.Errorf("%s: %v", c.name, brief(got))
			continue
		}
		if c.opened {
			sum := 0.0
			for _, s := range opened[0].Signals {
				sum += s.Nats
			}
			if s := opened[0].Score.Nats; s != c.nats || sum != s {
				t.Errorf("%s: %v nats, signals sum to %v; want %v", c.name, s, sum, c.nats)
			}
		}
	}
	worked := walking("192.0.2.9", at(91), all)
	worked.Shares[0].Since, worked.Shares[0].Last, worked.Facts.Succeeded = at(2), at(4), true
	if got := take(b, worked); len(got) != 1 || got[0].Status != "open" {
		t.Errorf("who got in is excused: %v", brief(got))
	}
	if n := b.Stats().Excused; n != 1 {
		t.Errorf("%d incidents explained, want 1", n)
	}
}
