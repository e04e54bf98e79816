package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
)

// load sends bodies of lines, each line with a number of its own in its path.
type load struct {
	p        plan
	w        *weir
	bodies   int
	work     chan int
	acked    []atomic.Bool // by body
	sent     atomic.Int64  // bodies, with those sent again
	replayed atomic.Int64  // acknowledged for the second time
	unsure   atomic.Int64  // no answer, or one that says that nobody knows
	statusN  [600]atomic.Int64
	worst    atomic.Int64 // nanoseconds from the first try to the 2xx
	wire     atomic.Int64 // bytes
	mu       sync.Mutex
	failed   error
}

func newLoad(p plan, w *weir) *load {
	bodies := int(p.span.Seconds() * float64(p.rate) / float64(p.batch))
	return &load{p: p, w: w, bodies: bodies, work: make(chan int, bodies), acked: make([]atomic.Bool, bodies)}
}

func (l *load) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// run sends everything at the plan's pace, and returns when all is acknowledged.
func (l *load) run() {
	var senders, others sync.WaitGroup
	for range l.p.senders {
		senders.Go(func() {
			var b body
			for n := range l.work {
				l.deliver(&b, n)
			}
		})
	}
	done := make(chan struct{})
	var life atomic.Int64
	others.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.w.sample(int(life.Load()), l.statusN[http.StatusOK].Load(), l.statusN[http.StatusTooManyRequests].Load())
			case <-done:
				return
			}
		}
	})
	others.Go(func() {
		gap := l.p.span / time.Duration(l.p.kills+1)
		for range l.p.kills {
			select {
			case <-time.After(gap):
			case <-done:
				return
			}
			l.w.kill()
			life.Add(1)
			if err := l.w.start(); err != nil {
				l.mu.Lock()
				l.failed = errors.Join(l.failed, err)
				l.mu.Unlock()
				return
			}
		}
	})
	if l.p.limit != "" {
		others.Go(func() { l.slowDown(done) })
	}
	pace := l.p.span / time.Duration(l.bodies)
	begin := time.Now()
	for n := range l.bodies {
		if wait := time.Until(begin.Add(time.Duration(n) * pace)); wait > 0 {
			time.Sleep(wait)
		}
		l.work <- n
	}
	close(l.work)
	senders.Wait()
	close(done)
	others.Wait()
}

// slowDown makes the disk slow for the plan's time.
func (l *load) slowDown(done <-chan struct{}) {
	for _, step := range []struct {
		wait time.Duration
		text string
	}{{l.p.slowFrom, l.p.slow}, {l.p.slowSpan, l.p.fast}} {
		select {
		case <-time.After(step.wait):
		case <-done: // what was made slow must not stay so
			step.text = l.p.fast
		}
		if err := os.WriteFile(l.p.limit, []byte(step.text), 0o600); err != nil {
			l.mu.Lock()
			l.failed = errors.Join(l.failed, err)
			l.mu.Unlock()
		}
	}
}

// deliver sends body n until it is acknowledged.
func (l *load) deliver(b *body, n int) {
	b.make(l.p, n)
	began := time.Now()
	for l.err() == nil {
		status, wait := l.send(b)
		l.statusN[status].Add(1)
		if status == http.StatusOK {
			l.acked[n].Store(true)
			for took := time.Since(began).Nanoseconds(); ; {
				worst := l.worst.Load()
				if took <= worst || l.worst.CompareAndSwap(worst, took) {
					return
				}
			}
		}
		if status == 0 || status == http.StatusServiceUnavailable {
			l.unsure.Add(1)
		}
		time.Sleep(wait)
	}
}

// send makes one attempt; status 0 is none. wait is how long the sender is to
// wait before the next.
func (l *load) send(b *body) (status int, wait time.Duration) {
	const soon = 50 * time.Millisecond
	base := l.w.where()
	if base == "" {
		return 0, soon
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+b.format, bytes.NewReader(b.wire()))
	if err != nil {
		return 0, soon
	}
	if b.packed {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if b.key != "" {
		req.Header.Set("Idempotency-Key", b.key)
	}
	l.sent.Add(1)
	l.wire.Add(int64(len(b.wire())))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, soon
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, soon
	}
	if resp.Header.Get("Idempotency-Replayed") != "" {
		l.replayed.Add(1)
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return min(resp.StatusCode, 599), max(soon, time.Duration(seconds)*time.Second)
}

func (l *load) report(out io.Writer, took time.Duration) {
	lines := float64(l.bodies * l.p.batch)
	fmt.Fprintf(out, "%d lines acknowledged in %.1f s (%.0f/s), %.1f MB on the wire, %d bodies sent for %d, %d without a sure answer, %d acknowledged as kept before, slowest %.1f s\n",
		l.bodies*l.p.batch, took.Seconds(), lines/took.Seconds(), float64(l.wire.Load())/1e6, l.sent.Load(), l.bodies, l.unsure.Load(), l.replayed.Load(), float64(l.worst.Load())/1e9)
	for status := range l.statusN {
		if n := l.statusN[status].Load(); n > 0 {
			fmt.Fprintf(out, "  status %d: %d\n", status, n)
		}
	}
}

// body is one request's content and its memory.
type body struct {
	format string
	key    string
	packed bool
	lines  []byte
	zipped bytes.Buffer
	zip    *gzip.Writer
}

func (b *body) wire() []byte {
	if b.packed {
		return b.zipped.Bytes()
	}
	return b.lines
}

// make writes body n: of four, two are text and two NDJSON, one of each gzip.
func (b *body) make(p plan, n int) {
	b.lines, b.packed = b.lines[:0], n%4 >= 2
	if p.keys {
		b.key = fmt.Sprint("body-", n)
	}
	b.format = "combined"
	if n%2 == 1 {
		b.format = "json"
	}
	now := time.Now().UTC()
	for i := n * p.batch; i < (n+1)*p.batch; i++ {
		b.lines = appendLine(b.lines, p, i, b.format == "json", now)
	}
	if !b.packed {
		return
	}
	b.zipped.Reset()
	if b.zip == nil {
		b.zip, _ = gzip.NewWriterLevel(&b.zipped, gzip.BestSpeed)
	}
	b.zip.Reset(&b.zipped)
	_, _ = b.zip.Write(b.lines) // a bytes.Buffer takes everything
	_ = b.zip.Close()
}

// isMalformed says which lines are no request, spread evenly.
func (p plan) isMalformed(i int) bool { return i*p.malformed/1000 != (i+1)*p.malformed/1000 }

const pathPrefix = "/item/"

// appendLine writes line i.
func appendLine(b []byte, p plan, i int, asJSON bool, at time.Time) []byte {
	if p.isMalformed(i) {
		if asJSON {
			return append(strconv.AppendInt(append(b, `{"remote_addr": "203.0.113.7", "cut `...), int64(i), 10), '\n')
		}
		return append(strconv.AppendInt(append(b, "203.0.113.7 - - cut "...), int64(i), 10), '\n')
	}
	h := uint64(i) * 0x9e3779b97f4a7c15 >> 11
	client := h % uint64(p.clients)
	address := fmt.Appendf(nil, "10.%d.%d.%d", client>>16&255, client>>8&255, client&255)
	status := 200
	if client%100 == 0 && h>>20%20 == 0 { // broken links, followed by a few
		status = 404
	}
	const agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
	if asJSON {
		b = append(append(append(b, `{"time":"`...), at.Format(time.RFC3339)...), `","remote_addr":"`...)
		b = append(append(b, address...), `","request_method":"GET","request_uri":"`+pathPrefix...)
		b = append(strconv.AppendInt(b, int64(i), 10), `","status":`...)
		b = append(strconv.AppendInt(b, int64(status), 10), `,"body_bytes_sent":`...)
		return append(strconv.AppendInt(b, int64(500+h%4000), 10), `,"http_user_agent":"`+agent+"\"}\n"...)
	}
	b = append(append(b, address...), " - - ["...)
	b = append(at.AppendFormat(b, "02/Jan/2006:15:04:05 -0700"), `] "GET `+pathPrefix...)
	b = append(strconv.AppendInt(b, int64(i), 10), ` HTTP/1.1" `...)
	b = append(strconv.AppendInt(b, int64(status), 10), ' ')
	return append(strconv.AppendInt(b, int64(500+h%4000), 10), ` "-" "`+agent+"\"\n"...)
}
