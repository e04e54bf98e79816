package collector

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

	f   *Follower
	got []kept
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
	var c cursor
	if err := c.decode(b.Cursor); err != nil || c.base+c.offset != b.Cause.To {
		r.t.Fatalf("cursor at %d (%v), block to %d", c.base+c.offset, err, b.Cause.To)
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
