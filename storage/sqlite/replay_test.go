package sqlite

import (
	"path/filepath"
	"testing"

	"weir/pipeline"
)

// TestReplay: beside a weir that has the store, and of the named sink alone.
func TestReplay(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	for seq := range int64(4) {
		if err := db.DeadLetter(ctx, "siem", seq, "400", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.DeadLetter(ctx, "other", 9, "400", nil); err != nil {
		t.Fatal(err)
	}
	letters, err := db.DeadLetters(ctx, "siem", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	f := func(want, left, due int64, sink string, ids ...int64) {
		t.Helper()
		n, err := Replay(ctx, db.path, sink, ids)
		if err != nil || n != want {
			t.Fatalf("replayed %d, want %d: %v", n, want, err)
		}
		ls, err := db.DeadLetters(ctx, "", 0, 10)
		if err != nil || int64(len(ls)) != left {
			t.Errorf("%d letters left, want %d: %v", len(ls), left, err)
		}
		rs, err := db.DueRetries(ctx, "siem", pipeline.MaxTime, 10)
		if err != nil || int64(len(rs)) != due {
			t.Errorf("%d retries, want %d: %v", len(rs), due, err)
		}
	}
	f(0, 5, 0, "nobody")
	f(0, 5, 0, "siem", 999)
	f(2, 3, 2, "siem", letters[1].ID, letters[2].ID)
	f(0, 3, 2, "other", letters[0].ID) // of another sink
	f(2, 1, 4, "siem")
	// The store is written on as before.
	if err := db.SetSinkCursor(ctx, "siem", 4); err != nil {
		t.Error(err)
	}
	if _, err := Replay(ctx, filepath.Join(t.TempDir(), "none.db"), "siem", nil); err == nil {
		t.Error("a store that is not there is replayed")
	}
}
