package alerts

import (
	"testing"
	"time"
)

// TestBacklogAge: the age is that of the oldest row that a sink does not have, by
// when the feed was seen to hold it.
func TestBacklogAge(t *testing.T) {
	var b backlog
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := func(after time.Duration, last, cursor int64, want time.Duration) {
		t.Helper()
		at = at.Add(after)
		if got := b.age(last, cursor, at); got != want {
			t.Errorf("the feed at %d, the sink at %d: %s, want %s", last, cursor, got, want)
		}
	}
	f(0, 5, 5, 0)
	f(time.Minute, 7, 5, 0)
	f(time.Minute, 9, 5, time.Minute)
	f(time.Minute, 9, 6, 2*time.Minute)
	f(0, 9, 7, time.Minute)
	f(0, 9, 9, 0)
	f(0, 10, 9, 0)
	for n := range int64(2 * maxFeedMarks) {
		f(time.Second, 11+n, 9, time.Duration(n+1)*time.Second)
	}
	if len(b) != maxFeedMarks {
		t.Errorf("%d marks are kept, want %d", len(b), maxFeedMarks)
	}
}
