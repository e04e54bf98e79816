package collector

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/pipeline"
)

// rig drives a Follower and the program that writes its file. It runs in a
// synctest bubble: time passes only while the Follower waits.
type rig struct {
	t       *testing.T
	dir     string
	path    string
	workers int
	dated   bool // rotated names carry a date
	rotated int
	old     *os.File // the writer's, after a rename
	log     *observer.ObservedLogs
	logger  *zap.Logger

	parts [][]byte // what was written, a generation each

	f    *Follower
	got  []kept
	stop context.CancelFunc
}

// kept is a line with what is committed together with it.
type kept struct {
	text   string
	line   int64
	cursor []byte // of its block; nil when it is not the block's last
	to     int64
}

func newRig(t *testing.T, workers int) *rig {
	core, log := observer.New(zap.InfoLevel)
	r := &rig{t: t, dir: t.TempDir(), workers: workers, log: log, logger: zap.New(core), parts: [][]byte{nil}}
	r.path = filepath.Join(r.dir, "access.log")
	r.start(nil)
	return r
}

func (r *rig) start(cursor []byte) {
	f, err := NewFollower(FollowConfig{Path: r.path, Format: plainFormat(), NewIdentify: account, Workers: r.workers, Cursor: cursor, Log: r.logger})
	if err != nil {
		r.t.Fatal(err)
	}
	r.f = f
}

// next takes one block; false is a heartbeat.
func (r *rig) next() bool {
	r.t.Helper()
	b, err := r.f.Next(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var at int64
	if n := len(r.got); n > 0 {
		at = r.got[n-1].to
	}
	if b.Cause.From != at {
		r.t.Fatalf("block from %d does not join the one to %d", b.Cause.From, at)
	}
	if b.SourceID != pipeline.Hash64(r.path) || b.Watermark != pipeline.NoTime {
		r.t.Fatalf("source %x, watermark %d", b.SourceID, b.Watermark)
	}
	if b.Cause.To == b.Cause.From {
		if len(b.Requests) > 0 {
			r.t.Fatal("a heartbeat with requests")
		}
		return false
	}
	if position, err := CursorPosition(b.Cursor); err != nil || position != b.Cause.To {
		r.t.Fatalf("cursor at %d (%v), block to %d", position, err, b.Cause.To)
	}
	for i := range b.Requests {
		q := &b.Requests[i]
		if q.Account != "token of "+q.Path {
			r.t.Fatalf("account %q of %q", q.Account, q.Path)
		}
		r.got = append(r.got, kept{text: strings.Clone(q.Path), line: q.Line})
	}
	last := &r.got[len(r.got)-1]
	last.cursor, last.to = bytes.Clone(b.Cursor), b.Cause.To
	r.f.Release(b)
	return true
}

// drain takes blocks until nothing comes for some seconds.
func (r *rig) drain() {
	r.t.Helper()
	for idle := 0; idle < 4; {
		if r.next() {
			idle = 0
		} else {
			idle++
		}
	}
}

// write appends to the current file as a program does that has it open.
func (r *rig) write(text string) {
	r.t.Helper()
	name := r.path
	f := r.old
	if f == nil {
		var err error
		if f, err = os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			r.t.Fatal(err)
		}
		defer f.Close()
	}
	if _, err := f.WriteString(text); err != nil {
		r.t.Fatal(err)
	}
	n := len(r.parts) - 1
	r.parts[n] = append(r.parts[n], text...)
}

func (r *rig) rename(from, to string) {
	r.t.Helper()
	if err := os.Rename(from, to); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// shift makes room for the newest rotated file and returns its name.
func (r *rig) shift() string {
	r.rotated++
	if r.dated {
		return fmt.Sprintf("%s-202501%02d", r.path, r.rotated)
	}
	for n := r.rotated; n > 0; n-- {
		for _, ext := range []string{"", ".gz"} {
			if name := fmt.Sprintf("%s.%d%s", r.path, n, ext); r.exists(name) {
				r.rename(name, fmt.Sprintf("%s.%d%s", r.path, n+1, ext))
			}
		}
	}
	return r.path + ".1"
}

// moveAway renames the file; the writer goes on in it until reopen.
func (r *rig) moveAway() {
	r.t.Helper()
	var err error
	if r.old, err = os.OpenFile(r.path, os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.rename(r.path, r.shift())
}

// reopen is the writer's turn to the new file.
func (r *rig) reopen() {
	r.old.Close()
	r.old = nil
	r.parts = append(r.parts, nil)
}

// copyTruncate copies the file and empties it.
func (r *rig) copyTruncate() {
	r.t.Helper()
	data, err := os.ReadFile(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	writeFile(r.t, r.shift(), data)
	r.truncate()
}

func (r *rig) truncate() {
	r.t.Helper()
	if err := os.Truncate(r.path, 0); err != nil {
		r.t.Fatal(err)
	}
	r.parts = append(r.parts, nil)
}

// compress replaces every rotated file by its .gz.
func (r *rig) compress() {
	r.t.Helper()
	for _, e := range rotations(r.path) {
		if e.packed {
			continue
		}
		data, err := os.ReadFile(e.path)
		if err != nil {
			r.t.Fatal(err)
		}
		writeFile(r.t, e.path+".gz", gzipped(string(data)))
		if err := os.Remove(e.path); err != nil {
			r.t.Fatal(err)
		}
	}
}

// kill ends the Follower and begins another with the cursor of an earlier
// block: the last back blocks were not kept, but the first one was.
func (r *rig) kill(back int) {
	r.t.Helper()
	r.f.Close()
	n := len(r.got)
	for ; n > 0; n-- {
		if r.got[n-1].cursor != nil {
			if back == 0 || !slices.ContainsFunc(r.got[:n-1], func(k kept) bool { return k.cursor != nil }) {
				break
			}
			back--
		}
	}
	r.got = r.got[:n]
	var cursor []byte
	if n > 0 {
		cursor = r.got[n-1].cursor
	}
	r.start(cursor)
}

// check compares what came with what was written.
func (r *rig) check() {
	r.t.Helper()
	r.drain()
	var want []kept
	end := int64(0)
	for i, p := range r.parts {
		if i == len(r.parts)-1 {
			p = p[:bytes.LastIndexByte(p, '\n')+1]
		}
		end += int64(len(p))
		n := int64(0)
		eachLine(p, func(line []byte, _ int) bool {
			n++
			want = append(want, kept{text: string(line), line: n})
			return true
		})
	}
	for i := range min(len(want), len(r.got)) {
		if want[i].text != r.got[i].text || want[i].line != r.got[i].line {
			r.t.Fatalf("line %d is %q (%d of its file), want %q (%d)\n%s", i, r.got[i].text, r.got[i].line, want[i].text, want[i].line, r.listing())
		}
	}
	if len(want) != len(r.got) {
		r.t.Fatalf("%d lines, want %d\n%s", len(r.got), len(want), r.listing())
	}
	if n := len(r.got); n > 0 && r.got[n-1].to != end {
		r.t.Fatalf("the last block ends at %d, want %d", r.got[n-1].to, end)
	}
}

func (r *rig) listing() string {
	var b strings.Builder
	files, _ := os.ReadDir(r.dir)
	for _, f := range files {
		data, _ := os.ReadFile(filepath.Join(r.dir, f.Name()))
		fmt.Fprintf(&b, "%s: %.60q\n", f.Name(), data)
	}
	for _, e := range r.log.All() {
		fmt.Fprintln(&b, e.Message, e.ContextMap())
	}
	return b.String()
}

func (r *rig) close() {
	r.f.Close()
	if r.old != nil {
		r.old.Close()
	}
}

func TestFollower(t *testing.T) {
	// The script is a list of steps: text to write, or one of the words below.
	f := func(script ...string) {
		t.Helper()
		for _, workers := range []int{1, 2} {
			synctest.Test(t, func(t *testing.T) {
				t.Helper()
				r := newRig(t, workers)
				defer r.close()
				steps := map[string]func(){
					"next": func() { r.next() }, "drain": r.drain, "check": r.check, "away": r.moveAway, "reopen": r.reopen,
					"copytruncate": r.copyTruncate, "truncate": r.truncate, "gzip": r.compress, "dated": func() { r.dated = true },
					"kill": func() { r.kill(0) }, "kill back": func() { r.kill(1) }, "down": func() { r.f.Close() },
				}
				for _, s := range script {
					if step, ok := steps[s]; ok {
						step()
					} else {
						r.write(s)
					}
				}
				r.check()
			})
		}
	}
	f("a\nb\n")
	f("check", "a\nb\n", "check", "c", "check", "d\n")         // not there at first; half a line
	f("a\n", "drain", "kill", "check", "b\n", "kill", "c\n")   // restarts
	f("a\nb\n", "drain", "c\n", "drain", "kill back", "d\n")   // a block that was not kept
	f("a\n", "drain", "away", "b\n", "check", "reopen", "c\n") // written to after the rename
	f("a\n", "drain", "away", "b\n", "check", "c\n", "reopen", "check", "d\n", "check", "e\n")
	f("a\n", "drain", "away", "b\nhalf", "reopen", "c\n")               // ends without newline
	f("a\n", "drain", "away", "reopen", "b\n", "away", "reopen", "c\n") // twice between two looks
	f("a\n", "drain", "away", "reopen", "b\n", "gzip", "away", "reopen", "c\n", "gzip")
	f("dated", "a\n", "drain", "away", "reopen", "b\n", "away", "reopen", "c\n", "away", "reopen", "d\n")
	f("dated", "a\n", "drain", "down", "b\n", "away", "reopen", "c\n", "away", "reopen", "d\n", "gzip", "kill")
	f("a\n", "drain", "truncate", "b\n")
	f("a\n", "drain", "truncate", "longer than before\n") // grown beyond the old size
	f("a\n", "drain", "truncate", "b\n", "drain", "truncate", "check", "c\n")
	f("a\n", "drain", "b\nhalf", "copytruncate", "c\n") // the rest is in the copy
	f("a\n", "drain", "b\n", "copytruncate", "c\n", "copytruncate", "d\n")
	f("a\n", "drain", "b\n", "copytruncate", "gzip", "c\n")
	f("a\n", "drain", "down", "b\n", "away", "c\n", "reopen", "d\n", "kill") // rotated while down
	f("a\n", "drain", "down", "b\n", "away", "reopen", "c\n", "away", "reopen", "d\n", "kill")
	f("a\n", "drain", "down", "b\n", "away", "reopen", "c\n", "gzip", "kill") // and compressed
	f("a\n", "drain", "down", "b\n", "away", "reopen", "c\n", "away", "reopen", "d\n", "gzip", "kill", "next", "kill")
	f("a\n", "drain", "down", "b\n", "copytruncate", "c and more than before\n", "kill") // same inode, other content
	f("a\n", "drain", "down", "b\n", "copytruncate", "gzip", "kill", "check", "c\n")
	f("a\n", "drain", "down", "away", "reopen", "b\n", "kill", "check", "away", "c\n", "kill", "reopen", "d\n")
	f(strings.Repeat("many lines\n", 100000), "drain", "more\n", "away", "reopen", "b\n")
	f(strings.Repeat("many lines\n", 100000), "next", "next", "kill", "next", "away", "kill back", "more\n", "reopen", "b\n")
}

func TestFollowerLateWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		defer r.close()
		r.write("a\n")
		r.drain()
		r.moveAway()
		writeFile(t, r.path, []byte("c\n")) // one worker of the server has come over
		time.AfterFunc(700*time.Millisecond, func() { r.write("b\n") })
		for len(r.got) < 2 {
			r.next()
		}
		r.reopen()
		r.parts[1] = []byte("c\n")
		r.check()
	})
}

func TestFollowerSameBeginning(t *testing.T) {
	header := strings.Repeat("# a header longer than a fingerprint\n", 60)
	f := func(before, after string, down bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			r := newRig(t, 1)
			defer r.close()
			r.write(header + before)
			r.drain()
			if down {
				r.f.Close()
			}
			r.truncate()
			r.write(header + after)
			if down {
				r.kill(0)
			}
			r.check()
		})
	}
	f("a\nb\n", "c\n", false)
	f("a\nb\n", "c\n", true)
}

func TestFollowerRandom(t *testing.T) {
	runs := 100
	if testing.Short() {
		runs = 30
	}
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t, 1+int(seed%2))
			defer r.close()
			r.dated = seed%3 == 0
			serial := 0
			var done []string
			defer func() {
				if t.Failed() {
					t.Logf("seed %d: %s", seed, strings.Join(done, ", "))
				}
			}()
			write := func(half bool) {
				var text strings.Builder
				n := 1 + rnd.IntN(4)
				if rnd.IntN(20) == 0 {
					n = 9000
				}
				for range n {
					serial++
					fmt.Fprintf(&text, "%d line%s\n", serial, strings.Repeat("-", rnd.IntN(40)))
				}
				s := text.String()
				if half {
					s = s[:len(s)-1-rnd.IntN(3)]
				}
				r.write(s)
			}
			write(false)
			r.drain()
			for range 25 {
				op := []string{"write", "write", "half", "next", "next", "drain", "rename", "rename", "truncate", "kill", "kill", "gzip"}[rnd.IntN(12)]
				done = append(done, op)
				switch op {
				case "write":
					write(false)
				case "half":
					write(true)
				case "next":
					r.next()
				case "drain":
					r.drain()
				case "rename":
					r.moveAway()
					if rnd.IntN(2) == 0 {
						write(rnd.IntN(4) == 0)
					}
					if rnd.IntN(3) == 0 {
						r.next()
					}
					r.reopen()
					write(false)
				case "truncate":
					r.drain()
					if rnd.IntN(2) == 0 {
						write(false) // only the copy has it
					}
					r.copyTruncate()
					write(false)
				case "kill":
					r.kill(rnd.IntN(3))
				case "gzip":
					r.compress()
				}
			}
			r.write("end\n")
			r.check()
		})
		if t.Failed() {
			return
		}
	}
}

func TestFollowerFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		defer r.close()
		start := time.Now()
		f := func(wantBlock bool, want time.Duration) {
			t.Helper()
			if got := r.next(); got != wantBlock || time.Since(start) != want {
				t.Errorf("block %v after %v, want %v after %v", got, time.Since(start), wantBlock, want)
			}
		}
		f(false, time.Second) // no file
		r.write("a\n")
		f(true, time.Second+200*time.Millisecond)
		f(false, 2*time.Second+200*time.Millisecond)
		f(false, 3*time.Second+200*time.Millisecond)
		r.write(strings.Repeat("b\n", 5000)) // enough for a block: at once
		f(true, 3*time.Second+200*time.Millisecond)
		f(true, 3*time.Second+200*time.Millisecond)
		if n := len(r.got); n != 5001 || r.got[4096].cursor == nil {
			t.Errorf("%d lines; the first block does not hold 4096", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if b, err := r.f.Next(ctx); err != context.Canceled {
			t.Errorf("next gave %v, %v", b, err)
		}
	})
}

func TestFollowerWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		defer r.close()
		for range 150 {
			r.next()
		}
		if n := r.log.FilterMessageSnippet("waiting").Len(); n != 3 {
			t.Errorf("%d warnings in 150 s, want one a minute", n)
		}
		r.write("a\n")
		r.check()
		if n := r.log.FilterMessageSnippet("can be read again").Len(); n != 1 {
			t.Errorf("%d notes that it is over", n)
		}

		// The file that a cursor names is gone, and so is what it held.
		r.f.Close()
		r.write("lost\n")
		os.Remove(r.path)
		r.parts = append(r.parts, nil)
		r.parts[0] = []byte("a\n")
		r.write("b\n")
		r.kill(0)
		r.check()
		if n := r.log.FilterMessageSnippet("is gone").Len(); n != 1 {
			t.Errorf("%d warnings about lost lines, want 1", n)
		}
	})
	f := func(prepare func(path string) error, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			r := newRig(t, 1)
			defer r.close()
			if err := prepare(r.path); err != nil {
				t.Fatal(err)
			}
			r.next()
			all := r.log.All()
			if len(all) != 1 || !strings.Contains(fmt.Sprint(all[0].ContextMap()["error"]), want) {
				t.Errorf("logged %v, want %q", all, want)
			}
		})
	}
	f(func(p string) error { return os.Mkdir(p, 0o700) }, "must be a regular one")
	f(func(p string) error { return os.Symlink(os.DevNull, p) }, "must be a regular one")
	f(func(p string) error { return os.WriteFile(p, gzipped("a\n"), 0o600) }, "it is compressed")
}

func TestFollowerBackfill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := writeFile(t, "access.log", []byte("a\nb\n"))
		var cursor []byte
		flags := func(want int) {
			t.Helper()
			f, err := NewFollower(FollowConfig{Path: path, Format: plainFormat(), Workers: 1, Backfill: true, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			marked := 0
			for range 4 {
				b, err := f.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, q := range b.Requests {
					if q.Flags&pipeline.FlagBackfill != 0 {
						marked++
					}
				}
				cursor = bytes.Clone(b.Cursor)
			}
			if marked != want {
				t.Errorf("%d requests are marked, want %d", marked, want)
			}
		}
		flags(2)
		file, _ := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		fmt.Fprintln(file, "c")
		file.Close()
		flags(0)
	})
}

func TestCursor(t *testing.T) {
	c := cursor{id: fileID{1 << 63, 77}, print: 1<<64 - 1, printBytes: 1024, offset: 1 << 40, lines: 9, base: 1 << 50, generation: 3, history: 5}
	enc := c.append(nil)
	var back cursor
	if err := back.decode(enc); err != nil || back != c {
		t.Errorf("%+v came back as %+v, %v", c, back, err)
	}
	f := func(b []byte) {
		t.Helper()
		if _, err := NewFollower(FollowConfig{Path: "x", Format: plainFormat(), Cursor: b}); err == nil || !strings.Contains(err.Error(), "not a cursor of this version") {
			t.Errorf("cursor %x: %v", b, err)
		}
	}
	for n := 1; n < len(enc); n++ {
		f(enc[:n])
	}
	f(append(slices.Clone(enc), 0))
	f(append([]byte{2}, enc[1:]...))
	bad := c
	bad.printBytes = 2000
	f(bad.append(nil))
	bad = c
	bad.offset = -1
	f(bad.append(nil))
	if _, err := NewFollower(FollowConfig{Path: "x"}); err == nil {
		t.Error("no format is no error")
	}
}

func FuzzCursor(f *testing.F) {
	c := cursor{id: fileID{1, 2}, printBytes: 3, offset: 4}
	f.Add(c.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, again cursor
		if c.decode(b) != nil {
			return
		}
		if err := again.decode(c.append(nil)); err != nil || again != c {
			t.Fatalf("%+v came back as %+v, %v", c, again, err)
		}
	})
}

func TestParseRotation(t *testing.T) {
	f := func(base, name string, ok bool, want rotation) {
		t.Helper()
		if got, gotOK := parseRotation(base, name); gotOK != ok || ok && got != want {
			t.Errorf("%s beside %s: %+v %v, want %+v %v", name, base, got, gotOK, want, ok)
		}
	}
	f("access.log", "access.log", false, rotation{})
	f("access.log", "access.log.1", true, rotation{scheme: rotationNumber, number: 1})
	f("access.log", "access.log.10.gz", true, rotation{scheme: rotationNumber, number: 10, packed: true})
	f("access.log", "access.1.log.zst", true, rotation{scheme: rotationNumber, number: 1, packed: true})
	f("access.log", "access.log-20250131", true, rotation{scheme: rotationDate, date: "20250131"})
	f("access.log", "access-2025-01-31_10:00.log.gz", true, rotation{scheme: rotationDate, date: "2025-01-31_10:00", packed: true})
	f("access.log", "access.log.old", true, rotation{})
	f("access.log", "access.log.gz", true, rotation{packed: true})
	f("access.log", "access.log2", false, rotation{})
	f("access.log", "accessory.log", false, rotation{})
	f("access.log", "error.log.1", false, rotation{})
	f("access.log", "access.log.99999999999999999999", true, rotation{scheme: rotationDate, date: "99999999999999999999"})
	f("access", "access.1", true, rotation{scheme: rotationNumber, number: 1})
	f(".log", ".log.1", true, rotation{scheme: rotationNumber, number: 1})
}

func FuzzParseRotation(f *testing.F) {
	f.Add("access.log", "access.log.1.gz")
	f.Add("access.log", "access-20250131.log")
	f.Add("", ".")
	f.Fuzz(func(t *testing.T, base, name string) {
		if _, ok := parseRotation(base, name); ok && !fs.ValidPath(name) && name == base {
			t.Fatal("a file is no rotation of itself")
		}
	})
}
