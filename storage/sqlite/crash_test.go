package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"weir/pipeline"
	"weir/storage"
)

// crashEnv names the store to the child that TestCrash kills.
const crashEnv = "WEIR_TEST_CRASH_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		fmt.Fprintln(os.Stderr, crashChild(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// crashChild appends, commits and writes checkpoints until it is killed, and
// prints what was acknowledged: a kind and the number it got to.
func crashChild(path string) error {
	ctx := context.Background()
	db, err := Open(path, Options{})
	if err != nil {
		return err
	}
	errs := make(chan error)
	go func() {
		_, cause, _, err := db.SourceCursor(ctx, pipeline.Hash64("a"))
		for next := cause.To; err == nil; next += 3 * 500 {
			_, _, err = db.AppendBlocks(ctx, []*pipeline.Block{testBlock("a", next, 500), testBlock("a", next+500, 500), testBlock("a", next+1000, 500)})
			fmt.Println("cause", next+1500)
		}
		errs <- err
	}()
	go func() {
		position, err := db.StageCursor(ctx, "alert")
		for ; err == nil; position++ {
			err = db.Commit(ctx, storage.Output{Stage: "alert", Position: position + 1, Alerts: []storage.AlertRevision{testAlert("a", int(position+1))}})
			fmt.Println("alert", position+1)
		}
		errs <- err
	}()
	go func() {
		generation := int64(0)
		manifest, _, _, err := db.ReadCheckpoint(ctx)
		fmt.Sscan(string(manifest), &generation)
		for ; err == nil; generation++ {
			g := generation + 1
			err = writeCheckpoint(ctx, db, g, fmt.Append(nil, g), crashChunks(g))
			fmt.Println("checkpoint", g)
		}
		errs <- err
	}()
	return <-errs
}

// crashChunks are the chunks that generation g changes.
func crashChunks(g int64) chunks {
	c := chunks{0: fmt.Append(nil, g), uint32(1 + g%5): append(fmt.Append(nil, g), make([]byte, 6<<20)...)}
	return c
}

func TestCrash(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for a few seconds")
	}
	path := filepath.Join(t.TempDir(), "weir.db")
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged := map[string]int64{}
		lines := 0
		for s := bufio.NewScanner(out); s.Scan(); {
			var kind string
			var n int64
			if _, err := fmt.Sscan(s.Text(), &kind, &n); err != nil {
				t.Fatalf("child: %q", s.Text())
			}
			acknowledged[kind] = n
			if lines++; lines == 40+7*round && cmd.Process.Kill() != nil {
				t.Fatal("cannot kill the child")
			}
		}
		cmd.Wait()
		if len(acknowledged) != 3 {
			t.Fatalf("the child was killed before it did everything: %v", acknowledged)
		}
		verifyCrash(t, path, acknowledged)
	}
}

// verifyCrash holds the store against what was acknowledged before the kill.
func verifyCrash(t *testing.T, path string, acknowledged map[string]int64) {
	t.Helper()
	ctx := t.Context()
	db, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	check(t, db)
	_, cause, _, err := db.SourceCursor(ctx, pipeline.Hash64("a"))
	if err != nil || cause.To < acknowledged["cause"] {
		t.Fatalf("stored through %d, acknowledged %d, %v", cause.To, acknowledged["cause"], err)
	}
	end, position := int64(0), int64(0)
	for {
		records, err := db.ReadRecords(ctx, position+1, 64)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			if r.Position != position+1 || r.Block.Cause.From != end || len(r.Block.Requests) != 500 || r.Block.Requests[0].Line != end+1 {
				t.Fatalf("position %d after %d: [%d, %d) after %d", r.Position, position, r.Block.Cause.From, r.Block.Cause.To, end)
			}
			position, end = r.Position, r.Block.Cause.To
		}
	}
	if end != cause.To {
		t.Errorf("the log ends at %d, its cursor at %d", end, cause.To)
	}
	stage, err := db.StageCursor(ctx, "alert")
	if err != nil || stage < acknowledged["alert"] {
		t.Errorf("stage at %d, acknowledged %d, %v", stage, acknowledged["alert"], err)
	}
	as, err := db.AlertsAfter(ctx, 0, 1<<20)
	if err != nil || int64(len(as)) != stage || as[len(as)-1].Seq != stage {
		t.Errorf("%d alerts at cursor %d, %v: cursor and output belong together", len(as), stage, err)
	}
	manifest, read, ok, err := db.ReadCheckpoint(ctx)
	if err != nil || !ok {
		t.Fatalf("checkpoint: %v, %v", ok, err)
	}
	var g int64
	fmt.Sscan(string(manifest), &g)
	if g < acknowledged["checkpoint"] {
		t.Errorf("checkpoint %d, acknowledged %d", g, acknowledged["checkpoint"])
	}
	want := make(chunks)
	for i := max(1, g-4); i <= g; i++ {
		maps.Copy(want, crashChunks(i))
	}
	for id, data := range want {
		got, err := read(id)
		if err != nil || string(got) != string(data) {
			t.Errorf("checkpoint %d: chunk %d holds %d bytes, want %d, %v", g, id, len(got), len(data), err)
		}
	}
}
