package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/pipeline"
	"weir/storage"
)

var pushInLog = regexp.MustCompile(`"push": "([^"]+)"`)

// pushURL is where the process takes lines, "" while it does not.
func (d *daemon) pushURL() string {
	if m := pushInLog.FindStringSubmatch(d.log.String()); m != nil {
		return m[1]
	}
	return ""
}

// push sends a body under a key, "" for none, and returns the status, 0 for no
// answer.
func push(url, token, key string, body []byte) (status int, answer string) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// storedSizes counts the stored requests by their response's size, which tells
// the lines of trafficLog apart.
func storedSizes(t *testing.T, store string) map[int64]int {
	t.Helper()
	db := openStored(t, store)
	defer db.Close()
	sizes := map[int64]int{}
	err := db.Requests(context.Background(), storage.RequestFilter{Limit: 1 << 20}, func(r *pipeline.Request, _ string) bool {
		sizes[r.Bytes]++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return sizes
}

// TestPushAcrossKills: senders push while weir is killed again and again. What
// was acknowledged is kept, whatever the moment; what repeats had no answer, and
// with keys nothing repeats.
func TestPushAcrossKills(t *testing.T) {
	t.Run("plain", func(t *testing.T) { pushAcrossKills(t, false) })
	t.Run("keys", func(t *testing.T) { pushAcrossKills(t, true) })
}

func pushAcrossKills(t *testing.T, keys bool) {
	t.Parallel()
	dir := t.TempDir()
	store := filepath.Join(dir, "weir.db")
	tokens := writeFile(t, dir, "tokens", fmt.Appendf(nil, "edge %x\n", sha256.Sum256([]byte("s3cret"))))
	config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil,
		"collect: [{push: {listen: \"127.0.0.1:0\", tokens_file: %q}, labels: {service: shop}}]\n", tokens))
	args := []string{"run", "-c", config, "--store", store, "--listen", "127.0.0.1:0"}
	log := trafficLog(*killSeed)

	var mu sync.Mutex
	var current *daemon
	acked, unsure := map[int64]bool{}, 0
	start := func() {
		d := startDaemon(t, args...)
		eventually(t, "weir takes lines", d, func() bool { return d.pushURL() != "" })
		mu.Lock()
		current = d
		mu.Unlock()
	}
	start()
	const batch, senders = 40, 3
	work := make(chan int, len(log)/batch+1)
	for from := 0; from < len(log); from += batch {
		work <- from
	}
	close(work)
	total, done := len(work), make(chan int, len(work))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	defer wg.Wait()
	defer close(stop)
	for range senders {
		wg.Go(func() {
			pace := time.NewTicker(20 * time.Millisecond)
			defer pace.Stop()
			for from := range work {
				part := log[from:min(from+batch, len(log))]
				body := append(text(part), "no request at all\n"...)
				for {
					select {
					case <-stop:
						return
					case <-pace.C:
					}
					mu.Lock()
					url := current.pushURL()
					mu.Unlock()
					status, answer := push(url+"auto", "s3cret", map[bool]string{true: fmt.Sprint("batch-", from)}[keys], body)
					if status == http.StatusOK {
						if want := fmt.Sprintf(`"requests":%d,"rejected":{"format":1}`, len(part)); !strings.Contains(answer, want) {
							t.Errorf("answer %s, want %s", answer, want)
						}
						break
					}
					mu.Lock()
					unsure++
					mu.Unlock()
				}
				mu.Lock()
				for i := range part {
					acked[int64(firstSize+from+i)] = true
				}
				mu.Unlock()
				done <- from
			}
		})
	}
	rng := rand.New(rand.NewPCG(*killSeed, 15))
	killed := 0
	for finished := 0; finished < total; {
		next := finished + 1 + rng.IntN(2*total/(*kills+1))
		for ; finished < min(next, total); finished++ {
			select {
			case <-done:
			case <-time.After(patience):
				t.Fatalf("%d of %d bodies pushed within %s\n%s", finished, total, patience, current.log)
			}
		}
		if finished < total && killed < *kills {
			current.kill(t)
			killed++
			mu.Lock()
			sure := len(acked)
			mu.Unlock()
			// What was acknowledged before the kill is in the file.
			if have := storedSizes(t, store); len(have) < sure-senders*batch {
				t.Fatalf("kill %d: %d lines stored, %d acknowledged", killed, len(have), sure)
			}
			start()
		}
	}
	d := current
	eventually(t, "all is detected", d, func() bool { return d.metric("weir_detect_lag_records") == 0 })
	if n := d.metric("weir_push_answers_total"); n < 1 {
		t.Errorf("weir_push_answers_total %v", n)
	}
	if status, _ := push(d.pushURL()+"auto", "guess", "", text(log[:1])); status != http.StatusUnauthorized {
		t.Errorf("a wrong token is answered %d", status)
	}
	d.stop(t)
	have := storedSizes(t, store)
	lost, repeated := 0, 0
	for size := range acked {
		if have[size] == 0 {
			lost++
		}
		repeated += have[size] - 1
	}
	if lost > 0 || len(acked) != len(log) || len(have) != len(log) {
		t.Errorf("%d acknowledged lines of %d are lost; %d are stored of %d", lost, len(acked), len(have), len(log))
	}
	if most := map[bool]int{true: 0, false: unsure * batch}[keys]; repeated > most {
		t.Errorf("%d lines are stored again, and only %d bodies had no answer; keys: %t", repeated, unsure, keys)
	}
	t.Logf("%d kills, %d lines acknowledged, %d bodies without an answer, %d lines kept again", killed, len(acked), unsure, repeated)
}

// TestBatchesKeepDeliveriesWhole: blocks that belong together are in one
// transaction, however many, and in none when the rest does not come.
func TestBatchesKeepDeliveriesWhole(t *testing.T) {
	push, file := &source{}, &source{}
	f := func(want string, sent ...string) {
		t.Helper()
		blocks := make(chan read, len(sent))
		for _, s := range sent {
			src := push
			if s[0] == 'f' {
				src = file
			}
			blocks <- read{&pipeline.Block{Source: s, More: strings.HasSuffix(s, "+")}, src}
		}
		close(blocks)
		var got []string
		for {
			batch := nextBatch(blocks)
			if len(batch) == 0 {
				break
			}
			var names []string
			for _, r := range batch {
				names = append(names, r.block.Source)
			}
			got = append(got, strings.Join(names, " "))
		}
		if strings.Join(got, " | ") != want {
			t.Errorf("%v: %q, want %s", sent, got, want)
		}
	}
	f("")
	f("p1 f1 p2", "p1", "f1", "p2")
	f("p1+ p2+ p3", "p1+", "p2+", "p3")
	f("p0 f1 f2", "p0", "p1+", "f1", "p2+", "f2")
	f("f1", "p1+", "f1")
	var many, more []string
	for range batchBlocks {
		many, more = append(many, "f"), append(more, "p+")
	}
	f(strings.Join(many, " ")+" | f", append(many, "f")...)
	f(strings.Join(more, " ")+" p | f", append(more, "p", "f")...)
}
