package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/pipeline"
)

// TestReceiptBook: what is remembered is bounded by time and number, and the first
// under a key stays.
func TestReceiptBook(t *testing.T) {
	var b receiptBook
	at := pipeline.TimeOf(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	receipt := func(n int, answer string) *sentReceipt {
		return sentReceiptOf(&pipeline.Receipt{Key: sha256.Sum256(fmt.Append(nil, n)), Answer: []byte(answer), Time: at})
	}
	f := func(what string, n int, want string) {
		t.Helper()
		got := ""
		if r, _ := b.get(sha256.Sum256(fmt.Append(nil, n))); r != nil {
			got = string(r.Answer)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	f("nothing", 1, "")
	b.put(receipt(1, "one"))
	b.put(receipt(1, "another"))
	f("the first stays", 1, "one")
	at = at.Add(receiptsFor)
	b.put(receipt(2, "two"))
	f("as old as may be", 1, "one")
	at = at.Add(time.Second)
	b.put(receipt(3, "three"))
	f("too old", 1, "")
	f("not as old", 2, "two")
	for n := range maxReceipts {
		b.put(receipt(10+n, ""))
	}
	f("too many", 3, "")
	if len(b.known) != maxReceipts || len(b.order) != maxReceipts {
		t.Errorf("%d receipts, %d in order; want %d", len(b.known), len(b.order), maxReceipts)
	}
	b.put(&sentReceipt{Key: []byte("short")})
	if sentReceiptOf(nil) != nil {
		t.Error("a receipt of nothing")
	}
}

// TestPushToTheBusAcrossKills: a collector is killed again and again under pushed
// bodies of two blocks each, which come again under their keys until they are
// answered. Every line is on the bus once.
func TestPushToTheBusAcrossKills(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	c := busConfigOf(broker)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	dir := t.TempDir()
	tokens := writeFile(t, dir, "tokens", fmt.Appendf(nil, "edge %x\n", sha256.Sum256([]byte("s3cret"))))
	args := []string{"collect", "-c", fleetConfig(t, dir, c, fmt.Sprintf("collect: [{push: {listen: '127.0.0.1:0', tokens_file: %q}}]", tokens)), "--listen", "127.0.0.1:0"}
	const bodies, lines, senders, kills = 60, 5000, 4, 6
	body := func(n int) []byte {
		var b bytes.Buffer
		for i := range lines {
			fmt.Fprintf(&b, "203.0.113.%d - - [02/Mar/2026:10:00:%02d +0000] \"GET /a HTTP/1.1\" 200 %d \"-\" \"Firefox\"\n", i%200, n%60, 1+n*lines+i)
		}
		return b.Bytes()
	}
	var mu sync.Mutex
	var current *daemon
	unsure := 0
	start := func() {
		d := startDaemon(t, args...)
		eventually(t, "weir takes lines", d, func() bool { return d.pushURL() != "" })
		mu.Lock()
		current = d
		mu.Unlock()
	}
	start()
	work, done := make(chan int, bodies), make(chan int, bodies)
	for n := range bodies {
		work <- n
	}
	close(work)
	var sending sync.WaitGroup
	defer sending.Wait()
	for range senders {
		sending.Go(func() {
			for n := range work {
				text := body(n)
				again(ctx, t, "push", func() error {
					mu.Lock()
					url := current.pushURL()
					mu.Unlock()
					status, answer := push(url+"auto", "s3cret", fmt.Sprint("body-", n), text)
					if status != http.StatusOK {
						mu.Lock()
						unsure++
						mu.Unlock()
						return fmt.Errorf("status %d: %s", status, answer)
					}
					if want := fmt.Sprintf(`{"lines":%d,"requests":%d,`, lines, lines); !strings.HasPrefix(answer, want) {
						t.Errorf("answer %s, want %s", answer, want)
					}
					return nil
				})
				done <- n
			}
		})
	}
	rng := rand.New(rand.NewPCG(*killSeed, 71))
	for n := range bodies {
		select {
		case <-done:
		case <-ctx.Done():
			t.Fatalf("%d of %d bodies are answered\n%s", n, bodies, current.log)
		}
		if n%(bodies/kills) == bodies/kills/2 {
			<-time.After(time.Duration(rng.IntN(100)) * time.Millisecond) // at any moment of the next
			current.kill(t)
			start()
		}
	}
	// One more after the last start: a key of long before the kill.
	if status, answer := push(current.pushURL()+"auto", "s3cret", "body-0", body(0)); status != http.StatusOK {
		t.Errorf("a body from before is answered %d: %s", status, answer)
	}
	if status, _ := push(current.pushURL()+"auto", "s3cret", "body-0", body(1)); status != http.StatusUnprocessableEntity {
		t.Errorf("another body under its key is answered %d", status)
	}
	current.stop(t)
	sizes, passed := onBus(ctx, t, openBus(t, c), &c)
	lost, repeated := 0, 0
	for i := range int64(bodies * lines) {
		switch n := sizes[1+i]; {
		case n == 0:
			lost++
		case n > 1:
			repeated += n - 1
		}
	}
	if lost > 0 || repeated > 0 || len(sizes) != bodies*lines {
		t.Errorf("%d lines of %d are lost, %d are there again; %d sizes", lost, bodies*lines, repeated, len(sizes))
	}
	t.Logf("%d kills, %d lines, %d tries without an answer, %d records on the bus that do not count", kills, bodies*lines, unsure, passed)
}
