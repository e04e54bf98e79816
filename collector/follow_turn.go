package collector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"
)

// How a Follower comes into a file and goes from one generation to the next.

// begin opens the first file: where the cursor says, or the followed one.
func (f *Follower) begin(now time.Time) bool {
	at := f.start
	name := f.path
	if f.resume != nil {
		if name = locate(f.path, f.resume); name == "" {
			if f.tries++; f.tries < locateTries {
				return false
			}
			f.lost(f.resume)
			return true
		}
		at = *f.resume
	}
	p, err := openPart(name)
	if err == nil && p.packed != nil && f.resume == nil {
		p.close()
		err = fmt.Errorf("open %s: it is compressed, and only plain files can be followed; read it with weir analyze", name)
	}
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && f.start.history < 0 {
			f.start.history = 0 // what comes now is news
		}
		f.warn(now, err)
		return false
	}
	if f.resume == nil {
		at.id = p.id
	}
	g, err := newSegment(p, at, f.pump.chunk(chunkSize), now)
	if err != nil {
		p.close()
		if f.resume == nil {
			f.warn(now, err)
			return false
		}
		f.lost(f.resume)
		return true
	}
	if g.at.history < 0 {
		g.at.history = g.size
	}
	if f.cfg.Format.Carry != nil && at.offset > 0 && p.packed == nil {
		f.pump.carry = priorLines(p.file, at.offset, f.cfg.Format.Carry)
	}
	f.seg, f.resume, f.tries = g, nil, 0
	f.settled()
	return true
}

// lost goes on with the followed file from its beginning because the one that
// at was in cannot be found.
func (f *Follower) lost(at *cursor) {
	f.losses.Add(1)
	f.cfg.Log.Warn("the file that was being read is gone; what was written to it since is lost",
		zap.String("source", f.cfg.Path), zap.Int64("line", at.lines), zap.Int64("byte", at.offset))
	f.start = cursor{base: at.base + at.offset, generation: at.generation + 1, history: at.history}
	f.resume, f.tries = nil, 0
}

// truncated goes on after the file lost its content under us: first with the
// rest of it, if a copy is beside the file, then with what is in it now. whole
// and lines are what was read before the last read, which cannot be trusted.
func (f *Follower) truncated(whole int, lines int64, now time.Time) {
	g := f.seg
	s := &g.split
	unread := s.read()
	s.whole, s.lines, s.skipping, s.dropped = whole, lines, false, 0
	f.flush(false)
	at := g.cursor(s.c.offset, s.c.line)
	at.print, at.printBytes = fingerprint(g.head), int64(len(g.head))
	g.part.close()
	f.pump.put(s.c)
	f.seg = nil
	if locate(f.path, &at) != "" {
		f.resume = &at
		return
	}
	f.start = cursor{base: at.base + at.offset, generation: at.generation + 1, history: at.history}
	f.cfg.Log.Info("the file was truncated; going on with its beginning", zap.String("source", f.cfg.Path),
		zap.Int64("line", at.lines), zap.Int64("unfinished_bytes", unread-at.base-at.offset))
}

// leave goes on with the file that was begun after this one, if there is one.
func (f *Follower) leave(now time.Time) bool {
	g := f.seg
	fi, err := os.Stat(f.path)
	if err == nil && identify(fi) == g.part.id && g.part.packed == nil {
		g.moved = time.Time{}
		f.settled()
		return false
	}
	p := f.successor(now)
	if p == nil {
		if errors.Is(err, os.ErrNotExist) && now.Sub(g.grown) >= warnEvery {
			f.warn(now, openError(f.path, err))
		}
		return false
	}
	if g.part.packed == nil {
		// A server's processes come over to the new file one after another.
		if g.moved.IsZero() {
			g.moved = now
		}
		if now.Sub(g.moved) < f.cfg.Quiet {
			p.close()
			return false
		}
		if g.intact() && g.size > g.seen-g.at.base {
			p.close()
			return true // it has grown in the last moment
		}
	}
	f.flush(true)
	end := cursor{id: p.id, base: g.split.c.offset, generation: g.at.generation + 1, history: g.at.history}
	next, err := newSegment(p, end, f.pump.chunk(chunkSize), now)
	if err != nil { // cannot be: nothing is read at offset 0
		p.close()
		f.warn(now, err)
		return false
	}
	g.part.close()
	f.pump.put(g.split.c)
	f.seg = next
	f.settled()
	return true
}

// successor opens the file that was begun after the one being read; nil if
// there is none with data yet.
func (f *Follower) successor(now time.Time) *part {
	for range locateTries {
		name, passed := f.successorName()
		if name == f.path {
			if fi, err := os.Stat(name); err != nil || fi.Size() == 0 {
				return nil // its writer has not come over yet
			}
		}
		p, err := openPart(name)
		if err != nil {
			f.warn(now, err)
			return nil
		}
		// A rotation may have renamed the files between the two steps.
		if again, _ := f.successorName(); again == name {
			if fi, err := os.Stat(name); err == nil && identify(fi) == p.id {
				for _, e := range passed {
					f.cfg.Log.Warn("a rotated file cannot be read and is passed over", zap.String("source", f.cfg.Path), zap.Error(e))
				}
				return p
			}
		}
		p.close()
	}
	return nil
}

// successorName finds the name of that file, and why files before it must be
// passed over.
func (f *Follower) successorName() (name string, passed []error) {
	g := f.seg
	all := rotations(f.path)
	var at *rotation
	for i := range all {
		if fi, err := os.Stat(all[i].path); err == nil && identify(fi) == g.part.id {
			at = &all[i]
		}
	}
	if at == nil { // compressed meanwhile, or removed
		c := g.cursor(g.split.c.offset, g.split.c.line)
		for i := range all {
			if at == nil && c.printBytes > 0 && holds(all[i].path, &c) {
				at = &all[i]
			}
		}
	}
	for at != nil {
		next := after(all, at)
		if next == nil {
			break
		}
		p, err := openPart(next.path)
		if err == nil {
			p.close()
			return next.path, passed
		}
		passed = append(passed, err)
		at = next
	}
	return f.path, passed
}

// priorLines is what a parser must have read of a file before offset: the header
// stands at its beginning, what is open right before.
func priorLines(file io.ReaderAt, offset int64, carry func(before, data []byte) []byte) []byte {
	head := make([]byte, min(offset, headerBytes))
	n, _ := file.ReadAt(head, 0)
	if int64(n) < offset {
		n = bytes.LastIndexByte(head[:n], '\n') + 1
	}
	out := carry(nil, head[:n])
	from := max(int64(n), offset-tailBytes)
	tail := make([]byte, offset-from)
	if n, _ = file.ReadAt(tail, from); n == 0 {
		return out
	}
	if tail = tail[:n]; from == offset-tailBytes {
		tail = tail[bytes.IndexByte(tail, '\n')+1:]
	}
	return carry(out, tail)
}

// tailBytes is how much before the place to go on at is looked at for what was
// open there.
const tailBytes = 256 << 10
