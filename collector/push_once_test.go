package collector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"weir/pipeline"
)

// receipts is what a store remembers of keys.
type receipts struct {
	mu   sync.Mutex
	held map[[32]byte]*pipeline.Receipt
	err  error
}

func (s *receipts) find(_ context.Context, key [32]byte) (*pipeline.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[key], s.err
}

// keep stores the blocks of r as the service does: none of those that need more
// before the last.
func (s *receipts) keep(t *testing.T, r *pushRig) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var batch []*pipeline.Block
		for {
			b, err := r.Next(ctx)
			if err != nil {
				return
			}
			batch = append(batch, b)
			if b.More {
				if b.Receipt != nil {
					t.Error("a receipt in front of the end")
				}
				continue
			}
			r.mu.Lock()
			for _, b := range batch {
				for i := range b.Requests {
					q := b.Requests[i]
					q.Path, q.Query, q.Method = strings.Clone(q.Path), "", ""
					r.kept = append(r.kept, q)
				}
				if b.Receipt != nil {
					s.mu.Lock()
					s.held[b.Receipt.Key] = b.Receipt
					s.mu.Unlock()
				}
			}
			r.mu.Unlock()
			for _, b := range batch {
				r.Release(b)
			}
			batch = batch[:0]
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// TestPushOnce: a body that comes again with its key is answered as it was and
// not kept again; another body, another sender or another format is another.
func TestPushOnce(t *testing.T) {
	s := &receipts{held: map[[32]byte]*pipeline.Receipt{}}
	r := newPushRig(t, PushConfig{Receipt: s.find})
	s.keep(t, r)
	kept := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.kept)
	}
	const lines = 10_000 // several blocks
	body := pushLines(lines, 0)
	first, text := r.post(t, "/ingest/v1/combined", body, "Idempotency-Key", "a")
	if first.StatusCode != 200 || kept() != lines || len(s.held) != 1 || first.Header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("%d %s: %d kept", first.StatusCode, text, kept())
	}
	for _, key := range []string{"a", `"a"`} {
		again, said := r.post(t, "/ingest/v1/combined", body, "Idempotency-Key", key)
		if again.StatusCode != 200 || said != text || again.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s: %d %s, want %s", key, again.StatusCode, said, text)
		}
	}
	if n := kept(); n != lines {
		t.Errorf("%d lines kept", n)
	}
	other, said := r.post(t, "/ingest/v1/combined", pushLines(3, 7), "Idempotency-Key", "a")
	if other.StatusCode != 422 || !strings.Contains(said, "other lines") || kept() != lines {
		t.Errorf("%d %s", other.StatusCode, said)
	}
	for i, headers := range [][]string{{"Idempotency-Key", "b"}, nil} {
		if a, said := r.post(t, "/ingest/v1/combined", body, headers...); a.StatusCode != 200 || kept() != (i+2)*lines {
			t.Errorf("%v: %d %s", headers, a.StatusCode, said)
		}
	}
	if a, _ := r.post(t, "/ingest/v1/auto", body, "Idempotency-Key", "b"); a.StatusCode != 200 || kept() != 4*lines {
		t.Errorf("%d: %d kept", a.StatusCode, kept())
	}
	for _, key := range []string{"", strings.Repeat("x", 256)} {
		if a, said := r.post(t, "/ingest/v1/combined", body, "Idempotency-Key", key); a.StatusCode != 400 || !strings.Contains(said, "Idempotency-Key") {
			t.Errorf("%d %s", a.StatusCode, said)
		}
	}
	s.err = errors.New("disk I/O error")
	if a, _ := r.post(t, "/ingest/v1/combined", body, "Idempotency-Key", "c"); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d", a.StatusCode)
	}
	s.err = nil
	// A refused body leaves its key free.
	if a, _ := r.post(t, "/ingest/v1/combined", []byte("x"), "Idempotency-Key", "c", "Content-Encoding", "gzip"); a.StatusCode != 400 {
		t.Errorf("%d", a.StatusCode)
	}
	if a, _ := r.post(t, "/ingest/v1/combined", body, "Idempotency-Key", "c"); a.StatusCode != 200 {
		t.Errorf("%d", a.StatusCode)
	}
	if r.pending != 0 || len(r.claims) != 0 {
		t.Errorf("%d bytes pending, %d claims", r.pending, len(r.claims))
	}
}

// TestPushOnceAtATime: a key that is on its way makes others with it wait, and
// blocks of several bodies stay together.
func TestPushOnceAtATime(t *testing.T) {
	s := &receipts{held: map[[32]byte]*pipeline.Receipt{}}
	r := newPushRig(t, PushConfig{Receipt: s.find})
	body := pushLines(9000, 0)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if a, said := r.post(t, "/ingest/v1/combined", body, "Idempotency-Key", fmt.Sprint(i)); a.StatusCode != 200 {
				t.Errorf("%d %s", a.StatusCode, said)
			}
		})
	}
	var held []*pipeline.Block
	for ends := 0; ends < 3; {
		b, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Requests) == 0 { // a heartbeat
			continue
		}
		held = append(held, b)
		if b.Receipt != nil == b.More {
			t.Errorf("a receipt: %t, more: %t", b.Receipt != nil, b.More)
		}
		if b.Receipt != nil {
			ends++
			s.held[b.Receipt.Key] = b.Receipt
		}
	}
	if len(held) < 6 {
		t.Errorf("%d blocks", len(held))
	}
	a, said := r.post(t, "/ingest/v1/combined", body, "Idempotency-Key", "1")
	if a.StatusCode != 429 || a.Header.Get("Retry-After") == "" || !strings.Contains(said, "on their way") {
		t.Errorf("%d %s", a.StatusCode, said)
	}
	n := 0
	for _, b := range held {
		n += len(b.Requests)
		r.Release(b)
	}
	wg.Wait()
	if a, _ := r.post(t, "/ingest/v1/combined", body, "Idempotency-Key", "1"); a.StatusCode != 200 || a.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d", a.StatusCode)
	}
	if n != 27_000 || len(s.held) != 3 || len(r.claims) != 0 {
		t.Errorf("%d lines, %d receipts, %d claims", n, len(s.held), len(r.claims))
	}
}
