package sqlite

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"testing"
)

type chunks = map[uint32][]byte

// readCheckpoint reads the whole checkpoint; nil without one.
func readCheckpoint(tb testing.TB, db *DB, ids ...uint32) (string, chunks) {
	tb.Helper()
	manifest, read, ok, err := db.ReadCheckpoint(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if !ok {
		return "", nil
	}
	got := make(chunks)
	for _, id := range ids {
		data, err := read(id)
		if err != nil {
			tb.Fatal(err)
		}
		if data != nil {
			got[id] = data
		}
	}
	return string(manifest), got
}

// writeCheckpoint writes a whole checkpoint.
func writeCheckpoint(ctx context.Context, db *DB, generation int64, manifest []byte, changed chunks) error {
	c, err := db.BeginCheckpoint(ctx, generation)
	if err != nil {
		return err
	}
	defer c.Close()
	for id, data := range changed {
		if c.Put(id, data) {
			if err := c.Flush(ctx); err != nil {
				return err
			}
		}
	}
	return c.Finish(ctx, manifest)
}

func sameChunks(a, b chunks) bool { return maps.EqualFunc(a, b, bytes.Equal) }

func TestCheckpoint(t *testing.T) {
	db := openTest(t)
	ids := []uint32{0, 1, 2, 1 << 31}
	want := make(chunks)
	if m, got := readCheckpoint(t, db, ids...); m != "" || got != nil {
		t.Errorf("checkpoint of a new store: %q %v", m, got)
	}
	generation := int64(0)
	f := func(manifest string, changed chunks) {
		t.Helper()
		generation += 3
		if err := writeCheckpoint(t.Context(), db, generation, []byte(manifest), changed); err != nil {
			t.Fatal(err)
		}
		maps.Copy(want, changed)
		maps.DeleteFunc(want, func(_ uint32, v []byte) bool { return v == nil })
		if m, got := readCheckpoint(t, db, ids...); m != manifest || !sameChunks(got, want) {
			t.Errorf("%s: read %s %v, want %v", manifest, m, got, want)
		}
	}
	f("one", chunks{0: []byte("a"), 1: []byte("b"), 1 << 31: {}})
	f("two", chunks{1: []byte("b2")})
	f("three", nil)
	f("four", chunks{1: []byte("b3"), 2: []byte("c"), 0: nil})
	f("five", chunks{0: []byte("back"), 7: nil})
	db = reopen(t, db)
	f("six", chunks{1: []byte("b4")})

	if err := writeCheckpoint(t.Context(), db, generation, []byte("late"), nil); err == nil {
		t.Error("a checkpoint of a generation that is stored was taken")
	}
	if m, _ := readCheckpoint(t, db); m != "six" {
		t.Errorf("manifest %q after a late writer", m)
	}
	var rows int
	if err := db.readers.QueryRow("SELECT count(*) FROM checkpoint_chunks").Scan(&rows); err != nil || rows > 2*len(ids) {
		t.Errorf("%d chunk rows for %d chunks, %v: slots are not used again", rows, len(ids), err)
	}
}

// A write that stops half way, again and again, leaves the checkpoint before.
func TestCheckpointHalfWritten(t *testing.T) {
	db := openTest(t)
	r := rand.New(rand.NewPCG(1, 2))
	fill := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	ids := []uint32{1, 2, 3}
	want := chunks{1: fill(100), 2: fill(5 << 20), 3: fill(10)}
	if err := writeCheckpoint(t.Context(), db, 1, []byte("whole"), want); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		// What Flush does.
		refs := map[uint32]chunkRef{}
		err := db.write(t.Context(), "test", func(tx *tx) error {
			var list []byte
			if _, err := tx.row("SELECT chunks FROM checkpoint_manifest", nil, &list); err != nil {
				return err
			}
			if err := decodeRefs(list, refs); err != nil {
				return err
			}
			return tx.putChunks(ids, chunks{1: fill(100), 2: fill(20), 3: fill(10)}, refs)
		})
		if err != nil || len(refs) != 3 {
			t.Fatalf("%d chunks, %v", len(refs), err)
		}
		db = reopen(t, db)
		if m, got := readCheckpoint(t, db, ids...); m != "whole" || !sameChunks(got, want) {
			t.Fatal("half a checkpoint was read")
		}
	}
	want[2] = fill(50)
	if err := writeCheckpoint(t.Context(), db, 2, []byte("next"), chunks{2: want[2]}); err != nil {
		t.Fatal(err)
	}
	if m, got := readCheckpoint(t, db, ids...); m != "next" || !sameChunks(got, want) {
		t.Error("the checkpoint after half a one is not whole")
	}
	if _, err := db.conn.ExecContext(t.Context(), "UPDATE checkpoint_chunks SET data = zeroblob(100) WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	_, read, _, err := db.ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(1); err == nil {
		t.Error("a damaged chunk was read")
	}
}

// TestCheckpointGivenUp: what was flushed of a checkpoint that is not finished is
// never read, and the next one may begin.
func TestCheckpointGivenUp(t *testing.T) {
	db := openTest(t)
	want := chunks{1: []byte("a"), 2: []byte("b")}
	if err := writeCheckpoint(t.Context(), db, 1, []byte("whole"), want); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c, err := db.BeginCheckpoint(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		c.Put(1, []byte("half"))
		c.Put(2, nil)
		for range 2 { // the second has nothing to do
			if err := c.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		c.Close()
		if m, got := readCheckpoint(t, db, 1, 2); m != "whole" || !sameChunks(got, want) {
			t.Fatalf("%q %v after a checkpoint that was given up", m, got)
		}
	}
	if err := writeCheckpoint(t.Context(), db, 2, []byte("next"), chunks{1: make([]byte, checkpointBatch), 2: nil, 3: []byte("c")}); err != nil {
		t.Fatal(err)
	}
	if m, got := readCheckpoint(t, db, 1, 2, 3); m != "next" || len(got) != 2 || len(got[1]) != checkpointBatch || string(got[3]) != "c" {
		t.Errorf("%q with %d chunks", m, len(got))
	}
}
