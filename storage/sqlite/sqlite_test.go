package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weir/pipeline"
	"weir/storage"
)

// openTest opens a new store, without a reserve.
func openTest(tb testing.TB) *DB {
	tb.Helper()
	db, err := Open(filepath.Join(tb.TempDir(), "weir.db"), Options{Reserve: -1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// reopen closes db and opens its file again.
func reopen(tb testing.TB, db *DB) *DB {
	tb.Helper()
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	again, err := Open(db.path, Options{Reserve: -1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { again.Close() })
	return again
}

const testStart = pipeline.Time(1_790_000_000_000_000)

// testBlock is a block of n requests, one a second, whose cause range is
// [from, from+n) of the source.
func testBlock(source string, from int64, n int) *pipeline.Block {
	b := &pipeline.Block{
		Source: source, SourceID: pipeline.Hash64(source), Watermark: pipeline.NoTime,
		Cause: pipeline.CauseRange{From: from, To: from + int64(n)}, Cursor: []byte(fmt.Sprint("at ", from+int64(n))),
		Rejects: pipeline.Rejects{Lines: int64(n)},
	}
	for i := range int64(n) {
		b.Requests = append(b.Requests, testRequest(from+i))
	}
	return b
}

func testRequest(i int64) pipeline.Request {
	a := pipeline.Address{10: 0xff, 11: 0xff, 12: 10, 14: byte(i >> 10), 15: byte(i >> 2)}
	r := pipeline.Request{
		Time: testStart + pipeline.Time(i*1e6), Line: i + 1, Bytes: 100, Duration: -1, Address: a, Owner: a.Owner(),
		Kind: pipeline.PrincipalIP, Status: []uint16{200, 200, 404, 500}[i%4], Method: "GET",
		Path: fmt.Sprintf("/api/items/%d", i), Agent: "Mozilla/5.0",
	}
	r.Seal()
	return r
}

func mustAppend(tb testing.TB, db *DB, blocks ...*pipeline.Block) (first, last int64) {
	tb.Helper()
	first, last, err := db.AppendBlocks(tb.Context(), blocks)
	if err != nil {
		tb.Fatal(err)
	}
	return first, last
}

func stats(tb testing.TB, db *DB) storage.Stats {
	tb.Helper()
	s, err := db.Stats(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestOpenRefuses(t *testing.T) {
	f := func(want string, is error, prepare func(path string)) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "weir.db")
		prepare(path)
		before, _ := os.ReadFile(path)
		db, err := Open(path, Options{})
		if err == nil {
			db.Close()
			t.Errorf("opened, want %q", want)
			return
		}
		if !strings.Contains(err.Error(), want) || !errors.Is(err, is) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %q, want %q", err, want)
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("%s: the file was changed", want)
		}
	}
	write := func(text string) func(string) {
		return func(path string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	database := func(statements ...string) func(string) {
		return func(path string) {
			db, err := sql.Open("sqlite", path)
			for _, s := range statements {
				if err == nil {
					_, err = db.Exec(s)
				}
			}
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	f("move the file away", storage.ErrUnfit, write(strings.Repeat("10.0.0.1 - - GET /\n", 400)))
	f("another program", storage.ErrUnfit, database("CREATE TABLE t (x)"))
	f("another program", storage.ErrUnfit, database("PRAGMA application_id = 7"))
	f("newer than", storage.ErrUnfit, database("CREATE TABLE t (x)", fmt.Sprint("PRAGMA application_id = ", applicationID), "PRAGMA user_version = 99"))
	f("regular", storage.ErrUnfit, func(path string) { os.Mkdir(path, 0o700) })

	if _, err := Open(filepath.Join(t.TempDir(), "no", "weir.db"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "weir.db"), Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("read-only open of nothing: %v", err)
	}
}

func TestOpenLocked(t *testing.T) {
	db := openTest(t)
	_, err := Open(db.path, Options{})
	if !errors.Is(err, storage.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second open: %v, want ErrLocked with the process", err)
	}
	mustAppend(t, db, testBlock("a", 0, 3))
	r, err := Open(db.path, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if last, err := r.Last(t.Context()); last != 1 || err != nil {
		t.Errorf("reader beside the writer sees position %d, %v", last, err)
	}
	if _, _, err := r.AppendBlocks(t.Context(), []*pipeline.Block{testBlock("a", 3, 1)}); err == nil {
		t.Error("a read-only store took a block")
	}
	mustAppend(t, db, testBlock("a", 3, 3)) // its locks are still there
	if last, _ := r.Last(t.Context()); last != 2 {
		t.Errorf("reader sees position %d, want 2", last)
	}
}

func TestOpenNoPermission(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() == 0 {
		mountDisk(t, dir, "1m", true)
	} else if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "weir.db"), Options{}); err == nil || !strings.Contains(err.Error(), "needs to write in this directory") {
		t.Errorf("read-only directory: %v", err)
	}
}

func TestOpenPathsAndModes(t *testing.T) {
	for _, name := range []string{"a b.db", "q?x=1#y%20.db", "ü.db"} {
		path := filepath.Join(t.TempDir(), name)
		db, err := Open(path, Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mustAppend(t, db, testBlock("a", 0, 1))
		if s := stats(t, db); !s.ReserveArmed || s.Last != 1 {
			t.Errorf("%s: %+v", name, s)
		}
		for _, suffix := range []string{"", "-wal", ".lock", ".reserve"} {
			st, err := os.Stat(path + suffix)
			if err != nil || st.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v, want a file that others cannot read", name+suffix, st, err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := db.AppendBlocks(t.Context(), nil); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("append to a closed store: %v", err)
		}
	}
}

// Every migration leads to the same place, and doing it again does nothing.
func TestReopenKeepsEverything(t *testing.T) {
	db := openTest(t)
	mustAppend(t, db, testBlock("a", 0, 5))
	db = reopen(t, db)
	if s := stats(t, db); s.Requests != 5 || s.Last != 1 {
		t.Errorf("after reopening: %+v", s)
	}
	var sync, vacuum int
	var journal string
	for query, into := range map[string]any{"PRAGMA synchronous": &sync, "PRAGMA auto_vacuum": &vacuum, "PRAGMA journal_mode": &journal} {
		if err := db.conn.QueryRowContext(t.Context(), query).Scan(into); err != nil {
			t.Fatal(err)
		}
	}
	if sync != 2 || vacuum != 2 || journal != "wal" {
		t.Errorf("synchronous %d, auto_vacuum %d, journal %s; want FULL, INCREMENTAL, wal", sync, vacuum, journal)
	}
}

// TestTold: what sinks know of open alerts is stored as a whole, each for itself.
func TestTold(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	save := func(sink string, c storage.ToldChange) {
		t.Helper()
		for range 2 { // twice is once
			if err := db.SaveTold(ctx, sink, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	a := storage.Told{Alert: "a", Group: "g", Seq: 3, Next: 5_000_000, Repeats: 1}
	b := storage.Told{Alert: "b", Group: "g", Seq: 4}
	g := storage.SinkGroup{Group: "g", Common: `[{"name":"detector","value":"auth.stuffing"}]`, Thread: "1.2"}
	save("chat", storage.ToldChange{Cursor: 4, Told: []storage.Told{a, b}, Groups: []storage.SinkGroup{g}})
	save("pager", storage.ToldChange{Cursor: 2, Told: []storage.Told{a}})
	a.Seq, a.Repeats = 7, 2
	save("chat", storage.ToldChange{Cursor: 7, Over: []string{"b", "none"}, Told: []storage.Told{a}, Closed: []string{"none"}})
	db = reopen(t, db)
	told, err := db.Told(ctx, "chat")
	groups, err2 := db.SinkGroups(ctx, "chat")
	seq, known, err3 := db.SinkPosition(ctx, "chat")
	if err := errors.Join(err, err2, err3); err != nil || !slices.Equal(told, []storage.Told{a}) || !slices.Equal(groups, []storage.SinkGroup{g}) || seq != 7 || !known {
		t.Errorf("%v %v, at %d %v: %v", told, groups, seq, known, err)
	}
	save("chat", storage.ToldChange{Cursor: 8, Over: []string{"a"}, Closed: []string{"g"}})
	told, err = db.Told(ctx, "chat")
	groups, err2 = db.SinkGroups(ctx, "chat")
	others, err3 := db.Told(ctx, "pager")
	if err := errors.Join(err, err2, err3); err != nil || len(told)+len(groups) > 0 || len(others) != 1 {
		t.Errorf("%v %v %v: %v", told, groups, others, err)
	}
}

func TestWriteGivesUpWithContext(t *testing.T) {
	db := openTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	inside, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- db.write(t.Context(), "hold", func(*tx) error { close(inside); <-leave; return errors.New("rolled back") })
	}()
	<-inside
	cancel()
	if _, _, err := db.AppendBlocks(ctx, []*pipeline.Block{testBlock("a", 0, 1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("append behind another write: %v", err)
	}
	close(leave)
	if err := <-done; err == nil {
		t.Error("the failing write was committed")
	}
	mustAppend(t, db, testBlock("a", 0, 1))
}
