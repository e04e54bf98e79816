package main

import (
	"errors"
	"testing"
	"time"

	"weir/console"
	"weir/pipeline/kafka"
)

// TestBlindSpotsOfAFleet: who works them out says them when they are others, once a
// minute; the console has what was said last.
func TestBlindSpotsOfAFleet(t *testing.T) {
	t.Parallel()
	d := &desk{marks: newMarksBook(nil, "", blindKey)}
	_, err := d.blindspots()
	if missing, ok := errors.AsType[*console.MissingError](err); !ok || !missing.Soon {
		t.Errorf("before anybody said them: %v", err)
	}
	now := time.Unix(1_700_000_000, 0)
	var b blindTeller
	l := &blindLive{}
	say := func(text string, after time.Duration, want string) {
		t.Helper()
		if text != "" {
			body := []byte(text)
			l.body.Store(&body)
		}
		now = now.Add(after)
		if got := b.due(l, now); string(got) != want {
			t.Errorf("%q is said, want %q", got, want)
		} else if got != nil {
			d.marks.take(&kafka.Record{Key: []byte(blindKey), Value: got})
		}
	}
	if got := b.due(nil, now); got != nil {
		t.Errorf("a process that knows none says %s", got)
	}
	say("", 0, "")
	say("one", 0, "one")
	say("two", blindTold/2, "")
	say("", blindTold/2, "two")
	say("", blindTold, "")
	say(string(make([]byte, blindBytes+1)), blindTold, "")
	if body, err := d.blindspots(); err != nil || string(body) != "two" {
		t.Errorf("%s, %v", body, err)
	}
}
