package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
)

func shadowFinding(id string, at pipeline.Time, seq uint64, score pipeline.Nats) pipeline.Finding {
	address, _ := pipeline.ParseAddress("203.0.113.7")
	return pipeline.Finding{
		ID: id, Seq: seq, Time: at, First: at - 1, Last: at, Detector: "probe.path", Who: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: address.String()},
		Score: score, Title: "a case of " + id, Shadow: true, Sampled: 1,
	}
}

// marksOf is a topic of marks.
type marksOf struct {
	next  int64
	books []*marksBook
}

func (m *marksOf) append(list []kafka.Record) {
	for i := range list {
		list[i].Offset, list[i].Time = m.next, time.Now()
		m.next++
		for _, b := range m.books {
			b.take(&list[i])
		}
	}
}

// keeperOf is what a process finds that makes alerts from here on.
func keeperOf(t *testing.T, book *marksBook) *shadowKeeper {
	t.Helper()
	k := &shadowKeeper{map[string]shadowPlace{}, map[string]pipeline.Finding{}}
	for id, m := range book.under(shadowPrefix) {
		var p shadowPlace
		if err := json.Unmarshal(m.value, &p); err != nil {
			t.Fatal(err)
		}
		k.there[id] = p
	}
	return k
}

// TestShadowsReachTheDesk: what detectors in shadow mode find comes to the console of a
// fleet, the latest of each case, once, whoever makes the alerts and whatever is
// replayed.
func TestShadowsReachTheDesk(t *testing.T) {
	t.Parallel()
	s := consoleService(t)
	book := newMarksBook(nil, "", shadowPrefix)
	d := &desk{service: service{db: s.db, cfg: s.cfg}, log: zap.NewNop(), marks: book}
	marks := &marksOf{books: []*marksBook{book}}
	const begin = pipeline.Time(1_700_000_000_000_000_000)
	say := func(k *shadowKeeper, want int, list ...pipeline.Finding) {
		t.Helper()
		k.add(list)
		records, err := k.take()
		if err != nil || len(records) != want {
			t.Fatalf("%d marks, want %d, %v", len(records), want, err)
		}
		marks.append(records)
		if err := d.adoptShadows(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first := keeperOf(t, book)
	a1, a2, b := shadowFinding("a", begin, 1, 10), shadowFinding("a", begin+5, 4, 20), shadowFinding("b", begin+1, 2, 10)
	say(first, 2, a1, b, a2)
	say(first, 0, a1, a2)
	say(first, 0)
	second := keeperOf(t, book) // which takes over, and replays
	say(second, 0, a1, b, a2)
	a3 := shadowFinding("a", begin+9, 9, 30)
	say(second, 1, a2, a3)
	older, err := json.Marshal(a2)
	if err != nil {
		t.Fatal(err)
	}
	marks.append([]kafka.Record{{Key: []byte(shadowPrefix + "a"), Value: older}}) // of a process that did not know that it is none any more
	marks.append([]kafka.Record{{Key: []byte(shadowPrefix + "c"), Value: []byte("{")}})
	if err := d.adoptShadows(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.shadowNext = 0 // a start
	if err := d.adoptShadows(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := s.db.Findings(t.Context(), storage.FindingFilter{})
	if diff := cmp.Diff([]pipeline.Finding{a3, b}, list); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	status, body := askConsole(t, s, "/api/v1/shadow?detector=probe.path&limit=1")
	if status != http.StatusOK || !strings.Contains(body, "a case of a") || !strings.Contains(body, `"more":true`) {
		t.Errorf("%d %s", status, body)
	}
	if list := d.oldShadows(time.Now()); len(list) != 0 {
		t.Errorf("%d marks are old", len(list))
	}
	if list := d.oldShadows(time.Now().Add(time.Duration(s.cfg.Store.AlertRetention) + time.Minute)); len(list) != 3 {
		t.Errorf("%d marks are old, of three", len(list))
	}
}

// TestShadowsAreBounded: the marks have so many cases, the latest, each of so many
// bytes.
func TestShadowsAreBounded(t *testing.T) {
	t.Parallel()
	book := newMarksBook(nil, "", shadowPrefix)
	marks := &marksOf{books: []*marksBook{book}}
	k := keeperOf(t, book)
	const cases = 5 * shadowKept / 2
	for i := range cases {
		k.add([]pipeline.Finding{shadowFinding(fmt.Sprintf("%05d", i), pipeline.Time(1+i), uint64(i), 10)})
		if len(k.wait) > 2*shadowKept {
			t.Fatalf("%d wait", len(k.wait))
		}
		if i%700 == 0 {
			list, err := k.take()
			if err != nil {
				t.Fatal(err)
			}
			marks.append(list)
		}
	}
	large := shadowFinding("large", cases+1, cases+1, 10)
	for i := range 64 {
		large.Objects = append(large.Objects, fmt.Sprint(i, strings.Repeat("x", 1000)))
	}
	huge := shadowFinding("huge", cases+2, cases+2, 10)
	huge.Reason = strings.Repeat("x", shadowBytes)
	k.add([]pipeline.Finding{large, huge})
	list, err := k.take()
	if err != nil {
		t.Fatal(err)
	}
	marks.append(list)
	there := book.under(shadowPrefix)
	var ids []string
	for id, m := range there {
		ids = append(ids, id)
		if len(m.value) > shadowBytes {
			t.Errorf("%s has %d bytes", id, len(m.value))
		}
	}
	slices.Sort(ids)
	if len(ids) != shadowKept || len(k.there) != shadowKept || ids[0] != fmt.Sprintf("%05d", cases-shadowKept+1) || ids[len(ids)-1] != "large" {
		t.Errorf("%d cases, %d known, from %s to %s", len(ids), len(k.there), ids[0], ids[len(ids)-1])
	}
	var short pipeline.Finding
	if err := json.Unmarshal(there["large"].value, &short); err != nil || !short.Truncated || short.Title != large.Title {
		t.Errorf("%v, %+v", err, short)
	}
}
