package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// silenceRig is a sequence in memory with a watch over it, and a gate as readers of
// the sequence have one.
type silenceRig struct {
	t      *testing.T
	w      *collectorWatch
	g      *sequenceGate
	now    time.Time
	offset int64
}

func newSilenceRig(t *testing.T) *silenceRig {
	return &silenceRig{t: t, w: newCollectorWatch(), g: newSequenceGate(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// write appends a record, which both see; what silences of it counts is returned.
func (r *silenceRig) write(key []byte, e *sequenceEntry, epoch int64) (silent []uint64) {
	r.t.Helper()
	record := kafka.Record{Offset: r.offset, Key: key, Epoch: epoch, Time: r.now, Claim: e == nil}
	r.offset++
	if e == nil {
		record.Value = []byte("shop")
		r.g.claim(uint64(key[7]), record.Offset)
	} else {
		record.Value = must[[]byte](r.t)(json.Marshal(e))
	}
	switch {
	case e == nil:
	case e.Control == nil:
		if must[bool](r.t)(r.g.admit(e, epoch)) {
			r.g.heard(e.ID, record.Offset)
		}
	case e.Control.Kind == controlSilent:
		var c fleetSilence
		if err := json.Unmarshal(e.Control.Payload, &c); err != nil {
			r.t.Fatal(err)
		}
		silent = r.g.silent(&c)
	}
	r.w.take(&record, r.now)
	return silent
}

func (r *silenceRig) claim(id uint64) (epoch int64) {
	r.write(sourceKey(id), nil, kafka.NoEpoch)
	return r.offset - 1
}

// entry is a block of a source, a heartbeat where to is from.
func (r *silenceRig) entry(id uint64, epoch, from, to int64, watermark pipeline.Time) {
	e := &sequenceEntry{Source: fmt.Sprintf("shop:s%d", id), ID: id, Cause: &pipeline.CauseRange{From: from, To: to}, At: &blockAt{}}
	if from == to {
		e.At, e.Watermark = nil, new(int64(watermark))
	}
	r.write(sourceKey(id), e, epoch)
}

func (r *silenceRig) control(kind string, payload any) []uint64 {
	return r.write([]byte("control/"+kind), &sequenceEntry{Control: &controlEntry{Kind: kind, From: "shop", Payload: must[[]byte](r.t)(json.Marshal(payload))}}, kafka.NoEpoch)
}

// look is what the watch says now, in short.
func (r *silenceRig) look(what, want string) (list []missing) {
	r.t.Helper()
	list = r.w.look(r.now, 30*time.Second)
	var said []string
	for i := range list {
		m := &list[i]
		s := fmt.Sprintf("%s [%s] %d news", m.collector, strings.Join(m.sources, " "), len(m.news.Sources))
		if m.all {
			s += ", all"
		}
		if !r.w.missed(m, r.now) {
			s += ", not missed"
		}
		said = append(said, s)
	}
	if got := strings.Join(said, "; "); got != want {
		r.t.Errorf("%s: %q, want %q", what, got, want)
	}
	return list
}

// TestCollectorWatch: who is silent is told from who has nothing, who stopped and
// who came back, and a silence that was overtaken counts for nobody.
func TestCollectorWatch(t *testing.T) {
	r := newSilenceRig(t)
	pass := func(d time.Duration) { r.now = r.now.Add(d) }
	facts := fleetSources{Sources: []fleetFact{{sourceFact: sourceFact{ID: 1, Name: "shop:s1"}}, {sourceFact: sourceFact{ID: 2, Name: "shop:s2"}}, {sourceFact: sourceFact{ID: 3, Name: "shop:s3"}}}}
	e1, e2 := r.claim(1), r.claim(2)
	r.control(controlSources, &facts)
	r.entry(1, e1, 0, 10, 0)
	r.entry(2, e2, 0, 10, 0)
	pass(29 * time.Second)
	r.look("half a minute", "")
	pass(time.Second)
	r.entry(1, e1, 10, 10, pipeline.TimeOf(r.now))
	list := r.look("one speaks, one died, one never came", "shop [s2 s3] 2 news")
	if got := r.control(controlSilent, list[0].news); len(got) != 2 || got[0] != 2 || got[1] != 3 {
		t.Errorf("silent: %v, want 2 and 3", got)
	}
	r.look("it was said", "shop [s2 s3] 0 news")
	pass(time.Minute)
	list = r.look("all are silent", "shop [s1 s2 s3] 1 news, all")
	r.entry(1, e1, 10, 20, 0)
	if got := r.control(controlSilent, list[0].news); len(got) != 0 {
		t.Errorf("silent: %v, though it spoke", got)
	}
	r.look("it speaks", "shop [s2 s3] 0 news")

	// Of who was fenced nothing counts.
	e2b := r.claim(2)
	pass(time.Minute)
	r.entry(2, e2, 10, 20, 0)
	r.entry(1, e1, 20, 20, pipeline.MaxTime)
	list = r.look("a zombie speaks, and one has nothing", "shop [s2 s3] 1 news, all")
	if got := r.control(controlSilent, list[0].news); len(got) != 1 {
		t.Errorf("silent: %v, want the fenced one's", got)
	}
	r.entry(2, e2b, 10, 20, 0)
	r.look("back", "shop [s3] 0 news")

	// Kept and read again, then stopped.
	data := must[[]byte](t)(json.Marshal(r.w))
	r.w = newCollectorWatch()
	if err := json.Unmarshal(data, r.w); err != nil {
		t.Fatal(err)
	}
	r.w.grace(r.now)
	r.look("nobody is blamed for what this process did not see", "")
	pass(time.Minute)
	r.look("after that", "shop [s2 s3] 1 news, all")
	expected := func(what string, want int) {
		t.Helper()
		if got := r.w.expected(r.now); len(got) != want {
			t.Errorf("%s: %v, want %d", what, got, want)
		}
	}
	expected("a collector that should speak", 1)
	r.control(controlStopped, nil)
	expected("stopped", 0)
	r.look("stopped", "shop [s2 s3] 1 news, all, not missed")
	facts.Sources = facts.Sources[:2]
	e2c := r.claim(2)
	r.control(controlSources, &facts)
	pass(time.Minute)
	r.look("started without the third", "shop [s2] 1 news, all")
	r.entry(2, e2c, 20, 30, 0)
	pass(missedFor + time.Minute)
	list = r.look("for ever", "shop [s2] 1 news, all, not missed")
	expected("for ever", 0)
	if r.w.forget(r.now); r.w.Sources[2] == nil || r.w.Sources[3] != nil {
		t.Error("it forgets one that is waited for, or keeps one that is not")
	}
	r.control(controlSilent, list[0].news)
	if r.w.forget(r.now); len(r.w.Sources) != 0 {
		t.Errorf("%d sources are kept", len(r.w.Sources))
	}
}

// TestMissingFinding: what is told names the collector, its sources and what to do.
func TestMissingFinding(t *testing.T) {
	heard := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m := missing{collector: "shop", heard: heard, sources: []string{"/a", "/b", "/c", "push:9", "z"}, all: true}
	f := m.finding(heard.Add(90*time.Second), 30*time.Second)
	text := fmt.Sprint(f.Detector, f.Title, f.Reason, f.Next, f.WouldNotFireIf)
	for _, want := range []string{"health.collector_silent", "Collector shop is silent for 90 s", "2026-03-01T12:00:00Z", "/a, /b, /c and 2 more", "bus.instance", "within 30 s"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in: %s", want, text)
		}
	}
	if m.all = false; !strings.Contains(m.finding(heard, time.Minute).Title, "Sources of collector shop are silent") {
		t.Errorf("some of its sources: %s", m.finding(heard, time.Minute).Title)
	}
}
