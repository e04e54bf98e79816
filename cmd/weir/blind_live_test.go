package main

import (
	"encoding/json"
	"testing"
	"time"

	"weir/pipeline"
)

// TestBlindLive: what a running weir publishes is of the current day of events,
// or of the last one while the current has few requests.
func TestBlindLive(t *testing.T) {
	share := 1.0
	l := newBlindLive(blindSet(t), func() float64 { return share }, nil)
	clock := time.Unix(1_800_000_000, 0)
	feed := func(from, n int, status uint16) {
		batch := make([]pipeline.Ordered, n)
		for i := range batch {
			batch[i].Request = blindRequest(from+i, "GET", "/", status)
		}
		l.observe(batch)
	}
	f := func(what string, requests int64, causes ...string) {
		t.Helper()
		clock = clock.Add(blindEvery)
		if err := l.publish(clock); err != nil {
			t.Fatal(err)
		}
		var r blindReport
		if err := json.Unmarshal(*l.body.Load(), &r); err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, s := range r.Data {
			got[s.Cause] = true
		}
		if r.Schema != blindSchema || r.Requests != requests || len(got) != len(causes) || r.Since == nil || !r.Until.After(*r.Since) {
			t.Errorf("%s: %+v, want %d requests, causes %v", what, r, requests, causes)
		}
		for _, c := range causes {
			if !got[c] {
				t.Errorf("%s: %s is not told: %v", what, c, got)
			}
		}
	}
	feed(0, 2000, 200)
	f("the first day", 2000)
	feed(86400, 100, 0)
	f("a few requests of the second", 2000)
	feed(86500, 1000, 0)
	share = 0.1
	f("the second day", 1100, "status", "sampling")
}
