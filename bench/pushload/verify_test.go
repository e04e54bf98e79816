package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/storage/sqlite"
)

func TestSlope(t *testing.T) {
	at := time.Unix(0, 0)
	if got := slope([]sample{{at: at, rss: 10}, {at: at.Add(time.Second), rss: 13}, {at: at.Add(2 * time.Second), rss: 16}}); got != 3 {
		t.Errorf("slope %v, want 3", got)
	}
}

// TestVerifyFindsLosses: a store without the acknowledged lines is an error.
func TestVerifyFindsLosses(t *testing.T) {
	store := filepath.Join(t.TempDir(), "weir.db")
	db, err := sqlite.Open(store, sqlite.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	l := newLoad(plan{rate: 10, batch: 10, span: time.Second}, nil)
	var out bytes.Buffer
	if err := verify(&out, store, l); err == nil {
		t.Error("a run that acknowledged nothing passes")
	}
	l.acked[0].Store(true)
	if err := verify(&out, store, l); err == nil || !strings.Contains(err.Error(), "10 lines are lost") {
		t.Errorf("ten lost lines give %v", err)
	}
}
