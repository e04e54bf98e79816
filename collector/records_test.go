package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"weir/pipeline"
)

// topicLog makes messages of one line or more, some without any, with gaps
// between their offsets, and says which line is in which.
func topicLog(rng *rand.Rand, n int) (list []Message, where map[string]int64) {
	where = map[string]int64{}
	offset := int64(100)
	for line := 0; line < n; {
		var b bytes.Buffer
		for range rng.IntN(4) {
			path := fmt.Sprintf("/p/%d", line)
			where[path] = offset
			fmt.Fprintf(&b, "203.0.113.9 - - [02/Mar/2026:10:00:00 +0000] \"GET %s HTTP/1.1\" 200 512 \"-\" \"curl/8\"\n", path)
			line++
		}
		if b.Len() > 0 && rng.IntN(2) == 0 {
			b.Truncate(b.Len() - 1)
		}
		list = append(list, Message{offset, b.Bytes()})
		offset += int64(1 + rng.IntN(10)/9)
	}
	return list, where
}

// keeper stores blocks as the log does.
type keeper struct {
	cursor []byte
	cause  int64
	seen   map[string]int
	lines  map[string]int64
	old    int // with FlagBackfill
}

func (k *keeper) take(t *testing.T, b *pipeline.Block) {
	t.Helper()
	if b.Cause.From != k.cause {
		t.Fatalf("block from %d, stored to %d", b.Cause.From, k.cause)
	}
	k.cause, k.cursor = b.Cause.To, append(k.cursor[:0], b.Cursor...)
	for i := range b.Requests {
		r := &b.Requests[i]
		path := strings.Clone(r.Path)
		k.seen[path]++
		k.lines[path] = r.Line
		if r.Flags&pipeline.FlagBackfill != 0 {
			k.old++
		}
	}
}

// TestRecords: wherever it is stopped, between any two blocks, each line is
// stored once and knows its message's offset.
func TestRecords(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		list, where := topicLog(rng, 9000)
		if seed == 0 { // one message with more lines than a block has
			var b bytes.Buffer
			for i := range 9000 {
				fmt.Fprintf(&b, "203.0.113.9 - - [02/Mar/2026:10:00:00 +0000] \"GET /big/%d HTTP/1.1\" 200 512 \"-\" \"curl/8\"\n", i)
				where[fmt.Sprintf("/big/%d", i)] = list[len(list)/2].Offset
			}
			for path, offset := range where {
				if offset == list[len(list)/2].Offset && strings.HasPrefix(path, "/p/") {
					delete(where, path)
				}
			}
			list[len(list)/2].Value = b.Bytes()
		}
		history := list[len(list)/3].Offset
		k := &keeper{seen: map[string]int{}, lines: map[string]int64{}}
		lives := 0
		for len(k.seen) < len(where) {
			if lives++; lives > 1000 {
				t.Fatalf("seed %d: no end: %d of %d lines", seed, len(k.seen), len(where))
			}
			recordsLife(t, rng, list, history, k)
		}
		old := 0
		for path, offset := range where {
			if k.seen[path] != 1 || k.lines[path] != offset {
				t.Fatalf("seed %d: %s is stored %d times, as of offset %d; want once, of %d", seed, path, k.seen[path], k.lines[path], offset)
			}
			if offset < history {
				old++
			}
		}
		if k.old != old || lives < 2 {
			t.Errorf("seed %d: %d lines are history, want %d; %d lives", seed, k.old, old, lives)
		}
	}
}

// recordsLife reads from where k is until it is stopped somewhere.
func recordsLife(t *testing.T, rng *rand.Rand, list []Message, history int64, k *keeper) {
	t.Helper()
	r, err := NewRecords(RecordsConfig{Source: "kafka:web/0", Cursor: k.cursor, Cause: k.cause, MaxPending: 1})
	if err != nil {
		t.Fatal(err)
	}
	from, known := r.Position()
	if !known {
		from = list[0].Offset
		r.Begin(from, history)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var putting sync.WaitGroup
	putting.Go(func() {
		rest := list
		for len(rest) > 0 && rest[0].Offset < from {
			rest = rest[1:]
		}
		for len(rest) > 0 {
			n := min(len(rest), 1+rng.IntN(800))
			if err := r.Put(ctx, rest[:n]); err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			rest = rest[n:]
		}
		cancel()
	})
	for range 1 + rng.Int64N(12) {
		b, err := r.Next(ctx)
		if err != nil { // all is put: what is queued is there
			putting.Wait()
			if r.current == nil && len(r.queue) == 0 {
				break
			}
			if b, err = r.Next(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		k.take(t, b)
		r.Release(b)
		if at, _, ok := readMark(k.cursor); ok {
			if kept, ok := r.Kept(); !ok || kept != at.offset {
				t.Errorf("kept to %d, stored to %d", kept, at.offset)
			}
		}
	}
	cancel()
	putting.Wait()
	_ = r.Close()
}

func TestRecordsRefusesACursor(t *testing.T) {
	for _, cursor := range []string{"\x80", "\x01", "\x01\x02", "\x01\x02\x03\x04"} {
		if _, err := NewRecords(RecordsConfig{Source: "kafka:web/0", Cursor: []byte(cursor)}); err == nil || !strings.Contains(err.Error(), "kafka:web/0") {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

// TestRecordsCloses: Put does not wait for a reader that has gone.
func TestRecordsCloses(t *testing.T) {
	r, err := NewRecords(RecordsConfig{Source: "kafka:web/0", MaxPending: 1})
	if err != nil {
		t.Fatal(err)
	}
	list, _ := topicLog(rand.New(rand.NewPCG(1, 1)), 10)
	if err := r.Put(context.Background(), list); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		list, _ := topicLog(rand.New(rand.NewPCG(1, 1)), 10)
		for i := range list {
			list[i].Offset += 1000
		}
		if err := r.Put(context.Background(), list); !errors.Is(err, errStopping) {
			t.Errorf("Put while closing: %v", err)
		}
	})
	_ = r.Close()
	wg.Wait()
}
