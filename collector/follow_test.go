package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/pipeline"
)

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
					"touch": func() { writeFile(t, r.path, []byte{}) },
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
	f("a\n", "drain", "away", "touch", "check", "b\n", "reopen", "c\n") // made before the writer comes over
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
		for start := time.Now(); time.Since(start) < 3*time.Second; {
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
		if b, err := r.f.Next(ctx); !errors.Is(err, context.Canceled) {
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
