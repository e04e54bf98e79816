package detectors

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// contacts are first contacts of many clients with one endpoint, sizes drawn by
// size(i).
func contacts(n, clients int, gap time.Duration, size func(i int) int64) []pipeline.Signal {
	out := make([]pipeline.Signal, n)
	for i := range out {
		at := caseStart.Add(time.Duration(i) * gap)
		r := &pipeline.Request{Time: at, Effective: at, Method: "GET", Path: "/orders", Status: 200, Bytes: size(i)}
		out[i] = pipeline.Signal{
			Meeting: pipeline.MeetTemplate, Key: 77, Sender: pipeline.Mix64(uint64(i%clients), 5), Weight: 256, Kind: contactSignal,
			Request: pipeline.Ordered{Request: r}, Facts: pipeline.Observation{Time: at, Template: 77, Bytes: r.Bytes, Status: 200},
		}
	}
	return out
}

func correlate(t *testing.T, signals []pipeline.Signal, restoreEvery int) (out []pipeline.Finding) {
	t.Helper()
	c, err := NewCorrelator(Config{}, pipeline.ShippedEdition())
	if err != nil {
		t.Fatal(err)
	}
	for i := range signals {
		out = c.Process(out, &signals[i])
		if restoreEvery == 0 || i%restoreEvery != restoreEvery-1 {
			continue
		}
		stored := map[uint32][]byte{}
		if err := c.Changed(true, func(n uint32, data []byte) error { stored[n] = slices.Clone(data); return nil }); err != nil {
			t.Fatal(err)
		}
		head := c.Head()
		if c, err = NewCorrelator(Config{}, pipeline.ShippedEdition()); err != nil {
			t.Fatal(err)
		}
		if err := c.Restore(head, func(n uint32) ([]byte, error) { return stored[n], nil }); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestSizeDrift: a shift is told once, soon, and the same from a checkpoint; a
// few clients' large answers are none, and neither is noise.
func TestSizeDrift(t *testing.T) {
	draw := func(rng *rand.Rand, median, spread float64) int64 {
		return int64(median * math.Exp(spread*rng.NormFloat64()))
	}
	told := func(name string, want, within int, signals []pipeline.Signal) {
		t.Helper()
		found := correlate(t, signals, 0)
		sameLines(t, name, lines(t, correlate(t, signals, 37)), lines(t, found))
		if len(found) != want {
			t.Errorf("%s: %d notices, want %d", name, len(found), want)
		}
		for i := range found {
			f := &found[i]
			if !f.Facts.Notice || f.Level != "endpoint" || f.Who.Kind != pipeline.PrincipalEndpoint || f.Score != f.Signals[0].Nats {
				t.Errorf("%s: %+v", name, f)
			}
			if after := int(f.Time.Sub(caseStart)/time.Minute) - 1000; after < 0 || after > within {
				t.Errorf("%s: told %d answers after the change: %s", name, after, f.Reason)
			}
		}
	}
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 3))
		from := func(before, after, spread float64) []pipeline.Signal {
			return contacts(2000, 300, time.Minute, func(i int) int64 {
				if i < 1000 {
					return draw(rng, before, spread)
				}
				return draw(rng, after, spread)
			})
		}
		name := func(s string) string { return fmt.Sprintf("%s, seed %d", s, seed) }
		told(name("twice as large"), 1, 60, from(3000, 6000, 0.2))
		told(name("twelve times as large"), 1, 60, from(3000, 36000, 0.3))
		told(name("twice as large, ragged"), 1, 200, from(3000, 6000, 0.7))
		told(name("no change"), 0, 0, from(3000, 3000, 0.3))
		told(name("no change, ragged"), 0, 0, from(3000, 3000, 1.2))
		told(name("smaller"), 0, 0, from(3000, 1000, 0.3))
		told(name("ten clients"), 0, 0, contacts(2000, 300, time.Minute, func(i int) int64 {
			if i > 1000 && i%300 < 10 {
				return 60000
			}
			return draw(rng, 3000, 0.3)
		}))
	}
}

// TestNoticeBounds: attackers who make up endpoints fill no memory.
func TestNoticeBounds(t *testing.T) {
	drift, crowd, broken := &driftTable{}, &crowdTable{}, &brokenTable{}
	s := contacts(1, 1, time.Second, func(int) int64 { return 100 })[0]
	s.Sender = 0
	for i := range uint64(5000) {
		s.Key = i
		drift.meet(&knot{}, &s)
		crowd.meet(&knot{}, &s)
		broken.meet(&knot{}, &s)
	}
	if len(drift.All) != maxNoticed || len(crowd.All) != maxNoticed || len(broken.All) != maxNoticed {
		t.Errorf("%d, %d and %d endpoints, want %d", len(drift.All), len(crowd.All), len(broken.All), maxNoticed)
	}
}

// TestInjectOutcome: what a WAF stopped is said so, and the parts add up.
func TestInjectOutcome(t *testing.T) {
	f := func(status uint16, flags pipeline.RequestFlags, by string, succeeded, canSucceed bool) {
		t.Helper()
		s := newSet(t, Config{}, pipeline.ShippedEdition())
		address, _ := pipeline.ParseAddress("203.0.113.7")
		var found []pipeline.Finding
		for i := range 30 {
			at := caseStart.Add(time.Duration(i) * time.Second)
			r := pipeline.Request{
				Time: at, Effective: at, Method: "GET", Path: "/search", Query: "q=*", Status: status, Flags: flags, Payloads: 16 << (i % 20), Slot: 9,
				Address: address, Owner: address.Owner(), Kind: pipeline.PrincipalIP, Bytes: 100,
			}
			r.Seal()
			found = s.Process(found, []pipeline.Ordered{{Request: &r, Block: &pipeline.Block{}}})
		}
		if len(found) == 0 || found[0].Detector != "inject.probe" {
			t.Fatalf("status %d: %d findings", status, len(found))
		}
		o := found[len(found)-1].Outcome
		if o.BlockedBy != by || (by != "") != (o.Blocked != nil) || (o.Succeeded == nil) != succeeded || found[len(found)-1].Facts.CanSucceed != canSucceed {
			data, _ := json.Marshal(o)
			t.Errorf("status %d: %s", status, data)
		}
	}
	f(403, pipeline.FlagBlocked, "a WAF or gateway", false, false)
	f(403, 0, "403", false, false)
	f(404, 0, "", false, false)
	f(200, 0, "", true, false)
	f(500, 0, "", true, true)
}
