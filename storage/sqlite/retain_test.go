package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"weir/pipeline"
	"weir/storage"
)

// bulky is a block whose bytes do not compress.
func bulky(source string, from int64, n int) *pipeline.Block {
	b := testBlock(source, from, n)
	for i := range b.Requests {
		h := pipeline.Hash64(b.Requests[i].Path)
		var id []byte
		for range 100 {
			h = pipeline.Mix64(h, 1)
			id = append(id, byte(h))
		}
		b.Requests[i].RequestID = string(id)
	}
	return b
}

func TestRetainAge(t *testing.T) {
	db := openTest(t)
	for i := range int64(100) {
		mustAppend(t, db, testBlock("a", i*60, 60)) // a minute each
		if i%10 == 0 {
			if _, err := db.AppendControl(t.Context(), pipeline.Control{Kind: "edition"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	commit(t, db, storage.Output{Position: 1, Alerts: []storage.AlertRevision{
		testAlert("old", 1), testAlert("old", 2), testAlert("new", 1), testAlert("new", 2, func(a *pipeline.Alert) { a.Window.Last = testStart + 5000e6 }),
	}, Findings: []pipeline.Finding{{ID: "old", Time: testStart}, {ID: "new", Time: testStart + 5900e6}}})
	end := testStart + 5999e6
	f := func(want int64, p storage.RetainPolicy) {
		t.Helper()
		r, err := db.Retain(t.Context(), p)
		if s := stats(t, db); err != nil || s.Blocks != want || r.Requests != r.Blocks*60 {
			t.Errorf("%+v: removed %+v, %d blocks left, want %d; %v", p, r, s.Blocks, want, err)
		}
	}
	f(100, storage.RetainPolicy{KeepFrom: 1 << 40})
	if whole, err := db.Whole(t.Context()); err != nil || !whole {
		t.Errorf("a log that lost nothing is not whole: %v", err)
	}
	f(100, storage.RetainPolicy{MaxAge: time.Minute, KeepFrom: 1})
	f(61, storage.RetainPolicy{MaxAge: time.Hour, KeepFrom: 1 << 40}) // counted from the newest request
	f(51, storage.RetainPolicy{MaxAge: time.Minute, KeepFrom: 55})    // 49 blocks and 5 controls stand before 55
	f(51, storage.RetainPolicy{MaxAge: time.Hour, KeepFrom: 1 << 40, Now: end})
	f(32, storage.RetainPolicy{MaxAge: 31 * time.Minute, KeepFrom: 1 << 40, Now: end})
	// The controls before that block went, too, but the last one: it is in force there.
	if s := stats(t, db); s.First != 68 || s.Newest != end {
		t.Errorf("after retention %+v", s)
	}
	if left, err := db.ReadRecords(t.Context(), 1, 2); err != nil || len(left) != 2 || left[0].Control == nil || left[1].Position != 76 || left[1].Block == nil {
		t.Errorf("the log begins with %+v, %v", left, err)
	}
	if whole, err := db.Whole(t.Context()); err != nil || whole {
		t.Errorf("a log that lost its beginning is whole: %v, %v", whole, err)
	}
	r, err := db.Retain(t.Context(), storage.RetainPolicy{AlertAge: time.Hour, KeepFrom: 1})
	if err != nil || r.Alerts != 2 || feed(t, db) != "3:new.1 4:new.2" {
		t.Errorf("alerts: %+v, %v, feed %s", r, err, feed(t, db))
	}
	if _, ok, _ := db.Finding(t.Context(), "old"); ok {
		t.Error("the old finding is there")
	}
	if _, ok, _ := db.Finding(t.Context(), "new"); !ok {
		t.Error("the new finding is gone")
	}
	ms, err := db.Minutes(t.Context(), testStart-120e6, end+1)
	if err != nil || len(ms) == 0 || ms[0].Time < end-3661e6 {
		t.Errorf("minutes from %v on, %v", ms[0].Time, err)
	}
	// Positions go on when nothing is left, after a restart too.
	f(0, storage.RetainPolicy{MaxAge: time.Second, KeepFrom: 1 << 40, Now: end + 1e9})
	db = reopen(t, db)
	if first, _ := mustAppend(t, db, testBlock("a", 6000, 1)); first != 111 {
		t.Errorf("position %d after everything was removed, want 111", first)
	}
	if last, err := db.Last(t.Context()); last != 111 || err != nil {
		t.Errorf("last %d, %v", last, err)
	}
}

// Alerts go with all their revisions, in more than one step, and none that lasts.
func TestRetainManyAlerts(t *testing.T) {
	db := openTest(t)
	var o storage.Output
	for i := range retainAlerts + 20 {
		id := fmt.Sprintf("%03d", i)
		o.Alerts = append(o.Alerts, testAlert(id, 1), testAlert(id, 2))
	}
	o.Alerts = append(o.Alerts, testAlert("new", 1), testAlert("new", 2, func(a *pipeline.Alert) { a.Window.Last = testStart + 7200e6 }))
	commit(t, db, o)
	r, err := db.Retain(t.Context(), storage.RetainPolicy{AlertAge: time.Hour, KeepFrom: 1, Now: testStart + 7300e6})
	if err != nil || r.Alerts != 2*(retainAlerts+20) {
		t.Errorf("%d revisions removed, %v", r.Alerts, err)
	}
	left, err := db.AlertsAfter(t.Context(), 0, 10)
	if err != nil || len(left) != 2 || left[0].Alert.ID != "new" || left[1].Alert.ID != "new" {
		t.Errorf("%d revisions are left, %v", len(left), err)
	}
}

// A file of years ago, read today, does not go at once.
func TestRetainOldFile(t *testing.T) {
	db := openTest(t)
	b := testBlock("2015.log", 0, 10)
	for i := range b.Requests {
		b.Requests[i].Time -= 10 * 365 * 86400e6
	}
	mustAppend(t, db, b)
	if r, err := db.Retain(t.Context(), storage.RetainPolicy{MaxAge: time.Hour, KeepFrom: 99}); r.Blocks != 0 || err != nil {
		t.Errorf("removed %+v, %v", r, err)
	}
}

func TestRetainBytes(t *testing.T) {
	db := openTest(t)
	for i := range int64(40) {
		mustAppend(t, db, bulky("a", i*2000, 2000))
	}
	before := stats(t, db)
	const most = 4 << 20
	if before.Bytes < 7<<20 {
		t.Fatalf("only %d bytes: the case proves nothing", before.Bytes)
	}
	r, err := db.Retain(t.Context(), storage.RetainPolicy{MaxBytes: most, KeepFrom: 1 << 40})
	after := stats(t, db)
	if err != nil || after.Bytes > most || after.Bytes < most/2 || after.FileBytes > most+most/4 || after.First != r.Blocks+1 {
		t.Errorf("%d bytes in a file of %d, first %d, removed %+v, %v", after.Bytes, after.FileBytes, after.First, r, err)
	}
	// Filled again and again it stays where it is.
	for i := range int64(40) {
		mustAppend(t, db, bulky("a", (40+i)*2000, 2000))
		if _, err := db.Retain(t.Context(), storage.RetainPolicy{MaxBytes: most, KeepFrom: 1 << 40}); err != nil {
			t.Fatal(err)
		}
	}
	if s := stats(t, db); s.FileBytes > most+most/4 || s.Last != 80 {
		t.Errorf("the file grew to %d bytes, %+v", s.FileBytes, s)
	}
	if r, err := db.Retain(t.Context(), storage.RetainPolicy{MaxBytes: 1, KeepFrom: stats(t, db).First + 2}); r.Blocks != 2 || err != nil {
		t.Errorf("removed %+v, %v: what stages need must stay", r, err)
	}
	check(t, db)
}

// check runs SQLite's own check of the file.
func check(tb testing.TB, db *DB) {
	tb.Helper()
	var text string
	if err := db.readers.QueryRow("PRAGMA integrity_check").Scan(&text); err != nil || text != "ok" {
		tb.Errorf("integrity check: %s, %v", text, err)
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	mountDisk(t, dir, "48m", false)
	db, err := Open(filepath.Join(dir, "weir.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := t.Context()
	next := int64(0)
	add := func() error {
		_, _, err := db.AppendBlocks(ctx, []*pipeline.Block{bulky("a", next*2000, 2000)})
		if err == nil {
			next++
		}
		return err
	}
	fill := func() {
		t.Helper()
		for range 500 {
			if err := add(); errors.Is(err, storage.ErrFull) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
		t.Fatal("the disk does not fill")
	}
	fill()
	if s := stats(t, db); s.Last != next || !s.ReserveArmed {
		t.Errorf("full: %+v, %d blocks were acknowledged", s, next)
	}
	// The rest of the disk is taken by others.
	junk, err := os.Create(filepath.Join(dir, "junk"))
	if err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 4096); err == nil; {
		_, err = junk.Write(buf)
	}
	junk.Close()
	for i := range 20 { // detection and delivery go on
		a := testAlert("a", i+1)
		commit(t, db, storage.Output{Position: int64(i), Alerts: []storage.AlertRevision{a}})
	}
	if err := writeCheckpoint(ctx, db, 1, []byte("m"), chunks{1: make([]byte, 100_000)}); err != nil {
		t.Fatal(err)
	}
	if stats(t, db).ReserveArmed {
		t.Error("alerts were stored on a full disk without the reserve: the case proves nothing")
	}
	r, err := db.Shed(ctx, 3<<20, next-1)
	if err != nil {
		t.Fatal(err)
	}
	s := stats(t, db)
	if r.Bytes < 3<<20 || s.Shed != r.Requests || s.Shed == 0 || s.Last != next || s.First < 2 {
		t.Errorf("shed %+v, then %+v", r, s)
	}
	for range 5 {
		if err := add(); err != nil {
			t.Fatalf("append after shedding: %v", err)
		}
	}
	// Full, shed, full: again and again.
	for range 3 {
		fill()
		if _, err := db.Shed(ctx, 2<<20, next+1); err != nil {
			t.Fatal(err)
		}
	}
	if !stats(t, db).ReserveArmed {
		t.Error("the reserve was not taken again")
	}
	check(t, db)
	if n := len(feed(t, db)); n == 0 {
		t.Error("alerts are gone")
	}
}
