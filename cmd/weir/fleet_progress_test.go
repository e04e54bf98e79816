package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// lagRig is a fleet's slices and logs, as the process that makes alerts sees them.
type lagRig struct {
	t    *testing.T
	k    *lagKeeper
	b    *lagBook
	now  time.Time
	ends map[string]int64 // by stage
	got  []string
}

func newLagRig(t *testing.T) *lagRig {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := &fleet{}
	f.status.started.Store(start.Unix())
	return &lagRig{t: t, k: newLagKeeper(f), b: newLagBook(), now: start, ends: map[string]int64{}}
}

// say has a process say how far its slices are.
func (r *lagRig) say(list ...reached) {
	r.t.Helper()
	r.k.take(must[[]byte](r.t)(json.Marshal(processBeat{At: list})), r.now)
}

// pass lets time go by while each stage's log grows by so much at each look.
func (r *lagRig) pass(d time.Duration, grows map[string]int64, sinks func() []sinkLag, each func()) map[string]lagOf {
	var lags map[string]lagOf
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(beatEvery)
		for stage, n := range grows {
			r.ends[stage] += n
		}
		if each != nil {
			each()
		}
		lags = r.b.look(r.now, r.k.known(r.now), func(n sliceName) (int64, bool) {
			behind, ok := r.ends[n.Stage]
			return behind, ok
		})
		for _, f := range r.k.look(r.now, lags, sinks) {
			r.got = append(r.got, f.Who.Value)
			if f.Detector != "health.lag" || f.Title == "" || f.Reason == "" || len(f.Next) != 1 || f.WouldNotFireIf == "" || len(f.BenignIf) == 0 {
				r.t.Errorf("finding without its explanation: %+v", f)
			}
		}
	}
	return lags
}

func (r *lagRig) want(what string, want ...string) {
	r.t.Helper()
	if fmt.Sprint(r.got) != fmt.Sprint(want) {
		r.t.Errorf("%s: %v, want %v", what, r.got, want)
	}
	r.got = nil
}

// TestFleetLag: who is behind is told, also where nobody is there any more; history
// that is worked off, and a role that was given up, are not.
func TestFleetLag(t *testing.T) {
	const m = time.Minute
	at := func(stage string, slice int, to int64) reached { return reached{sliceName{stage, slice}, to} }
	r := newLagRig(t)
	live := func() { r.k.f.status.eventTime.Store(int64(pipeline.TimeOf(r.now))) }
	keepUp := func(stages ...string) func() {
		return func() {
			live()
			for _, s := range stages {
				r.say(at(s, 0, r.ends[s]), at(s, 1, r.ends[s]))
			}
		}
	}
	grow := map[string]int64{"detect": 100, "template": 10, "alert": 5, "store": 100}
	lags := r.pass(10*m, grow, nil, keepUp("detect", "template", "alert", "store"))
	r.want("all keep up")
	if l := lags["detect"]; l.records != 0 || l.oldest != 0 {
		t.Errorf("detect: %+v", l)
	}
	if _, ok := lags["principal"]; ok {
		t.Error("there is a lag of a stage that nobody has")
	}

	// A slice of correlate dies, and nobody has it.
	r.pass(m-beatEvery, grow, nil, func() { keepUp("detect", "alert", "store")(); r.say(at("template", 0, r.ends["template"])) })
	r.want("less than a minute")
	lags = r.pass(2*m, grow, nil, func() { keepUp("detect", "alert", "store")(); r.say(at("template", 0, r.ends["template"])) })
	r.want("one slice of two", "correlation template")
	if l := lags["template"]; l.oldest < 2*m || l.records < 200 || l.moves {
		t.Errorf("template: %+v", l)
	}
	r.pass(12*m, grow, nil, func() { keepUp("detect", "alert", "store")(); r.say(at("template", 0, r.ends["template"])) })
	r.want("while it lasts", "correlation template")
	r.pass(30*m, grow, nil, keepUp("detect", "template", "alert", "store"))
	r.want("and ends")

	// What was told before it was restarted does not turn a slice back.
	r.say(at("detect", 0, 1))
	r.pass(m, nil, nil, nil)
	r.want("an old position")

	// ClickHouse is down for a while, and a sink.
	sink := sinkLag{name: "siem", state: "down", reason: "refused", alerts: 7}
	r.pass(20*m, grow, func() []sinkLag { sink.age += beatEvery; return []sinkLag{sink} }, keepUp("detect", "template", "alert"))
	r.want("the store, twice, and the sink", "storing requests", "storing requests", "sink siem")
	if f := sink.finding(); !strings.Contains(f.Reason, "7 alert revisions") || !strings.Contains(f.Reason, "refused") {
		t.Errorf("sink: %s", f.Reason)
	}

	// History is worked off: behind, and moving.
	r = newLagRig(t)
	r.k.f.status.eventTime.Store(int64(pipeline.TimeOf(r.now.Add(-24 * time.Hour))))
	r.ends["detect"] = 100_000
	done := int64(0)
	r.pass(10*m, nil, nil, func() { done += 300; r.say(at("detect", 0, done)) })
	r.want("history")
	r.pass(2*m, nil, nil, func() { r.say(at("detect", 0, done)) })
	r.want("history that stands still", "detection")
	r.pass(beatForgotten+m, nil, nil, nil)
	r.got = nil
	r.pass(time.Hour, nil, nil, nil)
	r.want("a role that nobody has for a day")
}
