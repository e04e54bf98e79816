package detectors

import (
	"testing"
	"time"

	"weir/pipeline"
)

// TestEndpointBroken: an endpoint that nobody is served at any more is told of
// once, soon, and again while it lasts; attackers who are refused beside people who
// are served break nothing, and neither does a quiet night.
func TestEndpointBroken(t *testing.T) {
	const gap = 10 * time.Second
	// answers are contacts of people, every ten seconds until people, with miss(i)
	// deciding who is refused, and of bots that only miss, from from on.
	answers := func(people int, miss func(i int) bool, bots, from int) (out []pipeline.Signal) {
		crowd := contacts(3000, 300, gap, func(int) int64 { return 1000 })
		for i := range crowd {
			if s := &crowd[i]; i < people {
				if miss(i) {
					s.Kind, s.Facts.Status, s.Facts.Flags = missSignal, 404, pipeline.ObsMiss
				}
				out = append(out, *s)
			}
			for b := range bots {
				if i >= from {
					s := crowd[i]
					s.Kind, s.Sender = missSignal, pipeline.Mix64(uint64(i*bots+b), 9)
					out = append(out, s)
				}
			}
		}
		return out
	}
	never := func(int) bool { return false }
	told := func(name string, first, last int, signals []pipeline.Signal) {
		t.Helper()
		found := correlate(t, signals, 0)
		sameLines(t, name, lines(t, correlate(t, signals, 41)), lines(t, found))
		if first < 0 {
			if len(found) != 0 {
				t.Errorf("%s: %d notices: %s", name, len(found), found[0].Reason)
			}
			return
		}
		if len(found) == 0 {
			t.Errorf("%s: nothing told", name)
			return
		}
		ids := map[string]bool{}
		for i := range found {
			f := &found[i]
			ids[f.ID] = true
			if f.Detector != "health.endpoint" || !f.Facts.Notice || !f.Facts.Excuses || f.Level != "endpoint" || f.Score != f.Signals[0].Nats {
				t.Errorf("%s: %+v", name, f)
			}
		}
		at := func(f *pipeline.Finding) int { return int(f.Time.Sub(caseStart) / gap) }
		if a, b := at(&found[0]), at(&found[len(found)-1]); a < 1000 || a > first || b > last+60 || b < last-120 || len(ids) != 1 {
			t.Errorf("%s: %d notices under %d ids, the first after %d contacts, the last after %d", name, len(found), len(ids), a, b)
		}
	}
	told("broken for an hour", 1040, 1360, answers(3000, func(i int) bool { return i >= 1000 && i < 1360 }, 0, 0))
	told("broken where one in five misses anyway", 1100, 1360, answers(3000, func(i int) bool { return i%5 == 0 || i >= 1000 && i < 1360 }, 0, 0))
	told("all is well", -1, 0, answers(3000, never, 0, 0))
	told("half is broken", -1, 0, answers(3000, func(i int) bool { return i >= 1000 && i%2 == 0 }, 0, 0))
	told("bots beside people", -1, 0, answers(3000, never, 20, 1000))
	told("bots after people left", -1, 0, answers(900, never, 3, 1400))
	told("new, and never there", -1, 0, answers(3000, func(int) bool { return true }, 0, 0))
}
