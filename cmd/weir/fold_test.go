package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/collector"
	"weir/pipeline"
)

// TestClockChanges: a log whose stamps have no zone, over the nights when the
// clocks of its zone change and over the end of a year, has the times at which
// its lines were written.
func TestClockChanges(t *testing.T) {
	f := func(zone string, from time.Time, step time.Duration, n int, disorder ...int) {
		t.Helper()
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Skipf("no time zones here: %v", err)
		}
		var log strings.Builder
		var want []time.Time
		for i := range n {
			k := i
			if len(disorder) > 0 {
				k += disorder[i%len(disorder)]
			}
			at := from.Add(time.Duration(k) * step)
			want = append(want, at)
			fmt.Fprintf(&log, `{"time":%q,"ip":"203.0.113.7","method":"GET","path":"/p%d","status":200}`+"\n", at.In(loc).Format("2006-01-02T15:04:05.000"), i)
		}
		for _, workers := range []int{1, 4} {
			path := writeFile(t, t.TempDir(), "access.log", []byte(log.String()))
			format, err := collector.CompileJSON(collector.ParseOptions{Location: loc})
			if err != nil {
				t.Fatal(err)
			}
			r := collector.NewReader(collector.ReaderConfig{Path: path, Format: &format, Timed: true, Workers: workers})
			folds, got := newFold(zone), 0
			for {
				b, err := r.Next(t.Context())
				if err != nil {
					break
				}
				folds.fix(b)
				for i := range b.Requests {
					if at := b.Requests[i].Time; got < len(want) && at != pipeline.TimeOf(want[got]) {
						t.Fatalf("%s from %s: line %d is at %s, was written at %s", zone, from, got, at.Std(), want[got])
					}
					got++
				}
				r.Release(b)
			}
			r.Close()
			if got != n {
				t.Errorf("%s: %d lines of %d", zone, got, n)
			}
		}
	}
	back := time.Date(2026, 10, 24, 23, 30, 0, 0, time.UTC) // two hours around 01:00 UTC
	f("Europe/Berlin", back, 2*time.Second, 7200)
	f("Europe/Berlin", back, 100*time.Second, 144)
	f("Europe/Berlin", back, 2*time.Second, 7200, 0, 20, -20, 5, 0, -3) // 40 s out of order
	f("Europe/Berlin", time.Date(2026, 3, 28, 23, 30, 0, 0, time.UTC), 2*time.Second, 7200)
	f("Europe/Berlin", time.Date(2026, 12, 31, 22, 30, 0, 0, time.UTC), 2*time.Second, 3600)
	f("Australia/Lord_Howe", time.Date(2026, 4, 4, 13, 0, 0, 0, time.UTC), 2*time.Second, 7200) // half an hour
	f("America/New_York", time.Date(2026, 11, 1, 4, 30, 0, 0, time.UTC), 2*time.Second, 7200)
	f("UTC", back, 2*time.Second, 100)
}
