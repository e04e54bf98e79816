package pipeline

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

func TestDedupe(t *testing.T) {
	// Sources a, b, c show copies; x does not take part.
	ids := map[byte]uint64{'a': 10, 'b': 20, 'c': 30, 'x': 40}
	f := func(what, shown, want string) {
		t.Helper()
		d := NewDedupe([]uint64{10, 20, 30})
		got := ""
		for i := 0; i+1 < len(shown); i += 3 {
			r := Request{RequestID: shown[i+1 : i+2], Effective: Time(i), Verb: VerbGet}
			if r.RequestID == "-" {
				r.RequestID = ""
			}
			// A checkpoint between any two requests changes nothing.
			state := d.AppendState(nil)
			again := NewDedupe([]uint64{10, 20, 30})
			if err := again.RestoreState(state); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.AppendState(nil), state) {
				t.Fatalf("%s: the state changes when it is read", what)
			}
			d = again
			if d.Copy(&r, ids[shown[i]]) {
				got += "-"
			} else {
				got += "1"
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	f("three hops count once", "a1 b1 c1 b2 a2 c2", "1--1--")
	f("whichever is first", "c1 a1 b1", "1--")
	f("repetitions count", "a1 a1 a1 b1 b1 b1 b1", "111---1")
	f("mixed up", "a1 b1 b1 a1 b1 a1", "1-1-1-")
	f("not those of others", "x1 a1 x1 b1", "111-")
	f("no id", "a- b- c-", "111")

	// Two methods under one id are two requests.
	d := NewDedupe([]uint64{10, 20})
	get, post := Request{RequestID: "q", Verb: VerbGet}, Request{RequestID: "q", Verb: VerbPost}
	if d.Copy(&get, 10) || d.Copy(&post, 20) || !d.Copy(&get, 20) || d.Copies() != 1 {
		t.Error("methods are not told apart")
	}
	// One id a million times is never a copy within its source.
	for range 1000 {
		if d.Copy(&get, 10) {
			t.Fatal("a repetition is taken for a copy")
		}
	}
}

// TestDedupeForgets: ids are kept for their time, more of them than there is
// room push out the oldest, and nothing grows.
func TestDedupeForgets(t *testing.T) {
	d := NewDedupe([]uint64{1, 2})
	at := func(id string, after time.Duration, source uint64) bool {
		return d.Copy(&Request{RequestID: id, Effective: Time(0).Add(after)}, source)
	}
	at("old", 0, 1)
	if !at("old", 9*time.Minute, 2) {
		t.Error("an id is forgotten within its time")
	}
	at("older", 9*time.Minute, 1)
	if !at("older", 12*time.Minute, 2) {
		t.Error("an id is forgotten at once when its time is over")
	}
	at("far", 40*time.Minute, 1)
	at("farther", 80*time.Minute, 1)
	if at("older", 80*time.Minute, 2) {
		t.Error("an id is never forgotten")
	}
	for i := range 3 * dedupeSlots {
		if at(fmt.Sprint(i), 80*time.Minute, 1) {
			t.Fatal("a new id is a copy")
		}
		if i > 1000 && i%1000 == 0 && !at(fmt.Sprint(i-1000), 80*time.Minute, 2) {
			t.Fatalf("id %d is forgotten with room to spare", i-1000)
		}
	}
	for g, used := range d.used {
		if used > dedupeSlots*3/4 {
			t.Errorf("generation %d holds %d", g, used)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 20), bytes.Repeat([]byte{255}, 40)} {
		if d.RestoreState(b) == nil {
			t.Errorf("%d bytes are read as a state", len(b))
		}
	}
}

// TestSourceLateness: a source's own disorder is sorted, and others do not wait
// for more than their own.
func TestSourceLateness(t *testing.T) {
	m := NewMerge(0, 0)
	m.SetSourceLateness(2, 5*time.Second)
	m.AddSource(1)
	m.AddSource(2)
	push := func(source uint64, seconds ...int) {
		b := &Block{SourceID: source, Watermark: NoTime}
		for _, s := range seconds {
			b.Requests = append(b.Requests, Request{Time: Time(0).Add(time.Duration(s) * time.Second)})
		}
		m.Push(b)
	}
	push(2, 10, 12, 11, 9, 20, 17, 30)
	push(1, 10, 11, 9, 40)
	got := ""
	for _, o := range m.Next(nil) {
		got += fmt.Sprintf("%d:%d ", o.Block.SourceID, int64(o.Effective)/1e6)
	}
	if want := "2:9 1:10 2:10 1:11 1:11 2:11 2:12 2:17 2:20 "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
