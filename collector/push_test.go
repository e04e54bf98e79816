package collector

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"weir/pipeline"
)

// pushRig is a Push with a reader that keeps what comes, unless it is held.
type pushRig struct {
	*Push
	url string

	mu   sync.Mutex
	kept []pipeline.Request
	last pipeline.CauseRange
	gaps int
}

func newPushRig(t *testing.T, cfg PushConfig) *pushRig {
	t.Helper()
	cfg.Source = "push:test"
	cfg.Formats = func(name string) (*Format, error) {
		f, err := Named(name, ParseOptions{})
		return &f, err
	}
	p, err := NewPush(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &pushRig{Push: p, last: pipeline.CauseRange{To: cfg.Cause}}
	server := httptest.NewServer(p)
	r.url = server.URL
	t.Cleanup(func() {
		_ = p.Close()
		server.Close()
	})
	return r
}

// read keeps blocks until the test ends.
func (r *pushRig) read(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			b, err := r.Next(ctx)
			if err != nil {
				return
			}
			r.mu.Lock()
			for i := range b.Requests {
				q := b.Requests[i]
				q.Path, q.Query, q.Method = strings.Clone(q.Path), "", ""
				r.kept = append(r.kept, q)
			}
			if b.Cause.From != r.last.To {
				r.gaps++
			}
			r.last = b.Cause
			r.mu.Unlock()
			r.Release(b)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func (r *pushRig) post(t *testing.T, path string, body []byte, headers ...string) (answer, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header}, string(b)
}

// answer is what tests look at of a response, beside its body.
type answer struct {
	StatusCode int
	Header     http.Header
}

func pushLines(n, from int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "203.0.113.9 - - [02/Mar/2026:10:00:00 +0000] \"GET /p/%d HTTP/1.1\" 200 512 \"-\" \"curl/8\"\n", from+i)
	}
	return b.Bytes()
}

func pushGzip(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func pushZstd(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}

// TestPushTakes: what is pushed is kept before the answer, in every dress.
func TestPushTakes(t *testing.T) {
	object := `{"time":"2026-03-02T10:00:00Z","remote_addr":"203.0.113.9","method":"GET","path":"/p/%d","status":200,"user_agent":"a]},{[\"b"}`
	one, two, three := fmt.Sprintf(object, 1), fmt.Sprintf(object, 2), fmt.Sprintf(object, 3)
	pretty := strings.ReplaceAll("[\n  "+one+",\n\n  "+two+"\n]\n", `,"`, ",\n   \"")
	long := "203.0.113.9 " + strings.Repeat("x", 3*lineLimit) + "\n"
	f := func(what, format string, body []byte, coding string, requests int, rejected map[string]int64) {
		t.Helper()
		r := newPushRig(t, PushConfig{Cause: 70, Cursor: []byte{5}})
		r.read(t)
		resp, text := r.post(t, "/ingest/v1/"+format, body, "Content-Encoding", coding)
		var got pushed
		if err := json.Unmarshal([]byte(text), &got); err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", what, resp.StatusCode, text)
			return
		}
		bad := int64(0)
		for reason, n := range rejected {
			if bad += n; got.Rejected[reason] != n {
				t.Errorf("%s: rejected %v, want %v", what, got.Rejected, rejected)
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.kept) != requests || got.Requests != int64(requests) || got.Lines != int64(requests)+bad || r.gaps > 0 {
			t.Errorf("%s: %d kept, answer %s, %d gaps; want %d requests", what, len(r.kept), text, r.gaps, requests)
			return
		}
		for i, q := range r.kept {
			if bad == 0 && (q.Path != fmt.Sprintf("/p/%d", i+1) || q.Line != int64(6+i)) {
				t.Errorf("%s: request %d is %s, line %d", what, i, q.Path, q.Line)
				return
			}
		}
	}
	many := pushLines(20_000, 1)
	f("text", "combined", pushLines(3, 1), "", 3, nil)
	f("text without a last newline", "combined", bytes.TrimSpace(pushLines(3, 1)), "", 3, nil)
	f("many", "combined", many, "", 20_000, nil)
	f("gzip", "combined", pushGzip(t, many), "gzip", 20_000, nil)
	f("zstd", "combined", pushZstd(t, many), "zstd", 20_000, nil)
	f("recognised", "auto", pushLines(3, 1), "identity", 3, nil)
	f("NDJSON", "json", []byte(one+"\n"+two+"\n"+three), "", 3, nil)
	f("an array", "json", []byte("["+one+","+two+" , "+three+"]"), "", 3, nil)
	f("an array over many lines", "json", []byte(pretty), "", 2, nil)
	f("an array, gzip, recognised", "auto", pushGzip(t, []byte(pretty)), "gzip", 2, nil)
	f("nothing", "combined", nil, "", 0, nil)
	f("an empty array", "json", []byte("[ ]\n"), "", 0, map[string]int64{"empty": 1})
	f("bad lines", "combined", []byte("what\n"+string(pushLines(2, 1))+"\n"), "", 2, map[string]int64{"format": 1, "empty": 1})
	f("a long line", "combined", []byte(string(pushLines(2, 1))+long+string(pushLines(1, 3))), "", 3, map[string]int64{"too_long": 1})
	f("a long last line", "combined", []byte(string(pushLines(2, 1))+strings.TrimSpace(long)), "", 2, map[string]int64{"too_long": 1})
}

// TestPushRefuses: what is refused says why and leaves nothing behind.
func TestPushRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	if err := os.WriteFile(file, fmt.Appendf(nil, "# who may\nedge %x\n", sha256.Sum256([]byte("s3cret"))), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := ReadTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, cfg PushConfig, path string, body []byte, status int, detail string, headers ...string) {
		t.Helper()
		cfg.MaxBody = 100_000
		r := newPushRig(t, cfg)
		r.read(t)
		resp, text := r.post(t, path, body, headers...)
		var p struct {
			Title, Detail string
			Status        int
		}
		err := json.Unmarshal([]byte(text), &p)
		if resp.StatusCode != status || err != nil || p.Status != status || p.Title == "" || !strings.Contains(p.Detail, detail) || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d and %q", what, resp.StatusCode, text, status, detail)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.kept) > 0 || r.pending != 0 {
			t.Errorf("%s: %d requests were kept, %d bytes are held", what, len(r.kept), r.pending)
		}
	}
	three := pushLines(3, 1)
	const combined = "/ingest/v1/combined"
	f("no such format", PushConfig{}, "/ingest/v1/klingon", three, 404, "klingon")
	f("elsewhere", PushConfig{}, "/ingest", three, 404, "/ingest/v1/")
	f("unknown lines", PushConfig{}, "/ingest/v1/auto", []byte("what\nis\nthis\n"), 422, "--log-format")
	f("a coding", PushConfig{}, combined, three, 415, "gzip", "Content-Encoding", "br")
	f("too large", PushConfig{}, combined, pushLines(2000, 1), 413, "100000")
	f("a bomb", PushConfig{}, combined, pushGzip(t, bytes.Repeat([]byte{'\n'}, 10<<20)), 413, "100000", "Content-Encoding", "gzip")
	f("a zstd bomb", PushConfig{}, combined, pushZstd(t, bytes.Repeat([]byte{'\n'}, 10<<20)), 413, "100000", "Content-Encoding", "zstd")
	f("no gzip", PushConfig{}, combined, three, 400, "gzip", "Content-Encoding", "gzip")
	f("half of gzip", PushConfig{}, combined, pushGzip(t, three)[:60], 400, "nothing of it", "Content-Encoding", "gzip")
	f("half of an array", PushConfig{}, "/ingest/v1/json", []byte(`[{"a":1},{"b":2}`), 400, "breaks off")
	f("more than an array", PushConfig{}, "/ingest/v1/json", []byte(`[{"a":1}] x`), 400, "follows")
	f("a deep array", PushConfig{}, "/ingest/v1/json", []byte("[{\"a\":"+strings.Repeat("[", 100)), 400, "deep")
	f("no token", PushConfig{Tokens: tokens}, combined, three, 401, "token")
	f("another token", PushConfig{Tokens: tokens}, combined, three, 401, "token", "Authorization", "Bearer secret")
	f("the hash", PushConfig{Tokens: tokens}, combined, three, 401, "token", "Authorization", fmt.Sprintf("Bearer %x", sha256.Sum256([]byte("s3cret"))))
	f("Basic", PushConfig{Tokens: tokens}, combined, three, 401, "token", "Authorization", "Basic s3cret")
	f("a page", PushConfig{}, combined, three, 403, "Origin", "Origin", "https://evil.example")
	f("another name", PushConfig{}, combined, three, 421, "localhost", "Host", "evil.example")
	f("busy", PushConfig{Busy: func() bool { return true }}, combined, three, 429, "nothing of this body")

	r := newPushRig(t, PushConfig{Tokens: tokens})
	r.read(t)
	if resp, text := r.post(t, combined, three, "Authorization", "bearer s3cret", "Origin", "https://x", "Host", "weir.example"); resp.StatusCode != 200 {
		t.Errorf("with a token: %d %s", resp.StatusCode, text)
	}
	if resp, err := http.Get(r.url + combined); err != nil {
		t.Error(err)
	} else if _ = resp.Body.Close(); resp.StatusCode != 401 {
		t.Errorf("GET without a token: %d", resp.StatusCode)
	}
}

// TestPushFull: while nobody keeps anything senders are put off and memory stays
// bounded; nothing that was put off is kept, all that was not is.
func TestPushFull(t *testing.T) {
	const limit = 4 << 20
	r := newPushRig(t, PushConfig{MaxPending: limit})
	var mu sync.Mutex
	counts := map[int]int{}
	var senders, one sync.WaitGroup
	one.Add(1)
	var once sync.Once
	body := pushLines(500, 1)
	for range 16 {
		senders.Go(func() {
			for range 8 {
				resp, _ := r.post(t, "/ingest/v1/combined", body)
				mu.Lock()
				counts[resp.StatusCode]++
				mu.Unlock()
				if resp.StatusCode == 429 {
					if resp.Header.Get("Retry-After") == "" {
						t.Error("429 without Retry-After")
					}
					once.Do(one.Done)
				}
			}
		})
	}
	one.Wait() // somebody was put off
	r.mu.Lock()
	pending := r.pending
	r.mu.Unlock()
	if pending > limit+2<<20 {
		t.Errorf("%d bytes are held, the limit is %d", pending, limit)
	}
	r.read(t)
	senders.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if counts[200] == 0 || counts[200]+counts[429] != 128 || len(r.kept) != 500*counts[200] || r.pending != 0 {
		t.Errorf("answers %v, %d requests kept, %d bytes held in the end", counts, len(r.kept), r.pending)
	}
}

// TestPushSlowLog: a log that takes its time for each block is answered with
// 429, again and again, and memory stays below its bound; senders that come
// again lose nothing and nothing of theirs counts twice, and once the log is
// fast nobody is put off any more.
func TestPushSlowLog(t *testing.T) {
	const limit, senders, bodies, lines = 1 << 19, 8, 6, 200
	r := newPushRig(t, PushConfig{MaxPending: limit})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	putOff := make(chan struct{}, senders*bodies*64) // a block is kept for each sender that was put off
	fast := make(chan struct{})
	kept := map[string]int{}
	var most int64
	var log, all sync.WaitGroup
	log.Go(func() {
		for {
			b, err := r.Next(ctx)
			if err != nil {
				return
			}
			select {
			case <-putOff:
			case <-fast:
			case <-ctx.Done():
				return
			}
			r.inbox.mu.Lock()
			most = max(most, r.pending)
			r.inbox.mu.Unlock()
			for i := range b.Requests {
				kept[strings.Clone(b.Requests[i].Path)]++
			}
			r.Release(b)
		}
	})
	var refused atomic.Int64
	for n := range senders {
		all.Go(func() {
			for i := range bodies {
				body := pushLines(lines, (n*bodies+i)*lines)
				for {
					resp, text := r.post(t, "/ingest/v1/combined", body)
					if resp.StatusCode == 200 {
						break
					}
					if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
						t.Errorf("%d %s, want 429 with Retry-After", resp.StatusCode, text)
						return
					}
					if refused.Add(1) == 40 {
						close(fast)
					}
					select {
					case putOff <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	all.Wait()
	before := refused.Load()
	if resp, text := r.post(t, "/ingest/v1/combined", pushLines(1, senders*bodies*lines)); resp.StatusCode != 200 {
		t.Errorf("with a fast log: %d %s", resp.StatusCode, text)
	}
	cancel()
	log.Wait()
	if len(kept) != senders*bodies*lines+1 {
		t.Errorf("%d lines are kept, want %d", len(kept), senders*bodies*lines+1)
	}
	for path, n := range kept {
		if n != 1 {
			t.Errorf("%s is kept %d times", path, n)
		}
	}
	if before < 40 || most > limit+256<<10 || r.pending != 0 {
		t.Errorf("%d answers to come again; %d bytes held at most, the limit is %d; %d in the end", before, most, limit, r.pending)
	}
}

// TestPushStops: a sender whose lines nobody kept is not told that they are.
func TestPushStops(t *testing.T) {
	r := newPushRig(t, PushConfig{})
	var wg sync.WaitGroup
	wg.Go(func() {
		resp, text := r.post(t, "/ingest/v1/combined", pushLines(3, 1))
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%d %s, want 503 with Retry-After", resp.StatusCode, text)
		}
	})
	if b, err := r.Next(context.Background()); err != nil || len(b.Requests) != 3 {
		t.Errorf("%v", err)
	}
	_ = r.Close()
	wg.Wait()
	if _, err := r.Next(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("Next after Close: %v", err)
	}
}

func TestReadTokens(t *testing.T) {
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("x")))
	f := func(text, want string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadTokens(file)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	f("a "+sum+"\n\n# b\n  b\t"+sum+" # c", "")
	f("", "none in it")
	f("a\n", "line 1")
	f("a "+sum+"\nb "+sum[:63]+"g\n", "line 2: the hash is not hex")
	f("a "+sum+" c", "line 1")
	f("a "+fmt.Sprintf("%x", sha256.Sum256(nil)), "hash of nothing")
	if _, err := ReadTokens(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there gives no error")
	}
}

// FuzzArrayLines: what comes out has no more lines than the array has commas and
// an end, never fails to end, and each element of valid JSON is one line.
func FuzzArrayLines(f *testing.F) {
	for _, s := range []string{`[{"a":1},{"b":"],}\""}]`, `[{}]`, `[ ]`, `[{"a":[1,2,{"c":"\\"}]} , {} ]`, `[{"a`, "[{\n}\n,\n{}]\n", `[{}]x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var p bodies
		r, done, err := p.open(bytes.NewReader(in), "", 1<<20)
		if err != nil {
			t.Skip()
		}
		defer done()
		out, err := io.ReadAll(r)
		var want []json.RawMessage
		if json.Unmarshal(in, &want) != nil || len(want) == 0 || !strings.HasPrefix(string(bytes.TrimSpace(want[0])), "{") {
			return
		}
		if bytes.Count(bytes.SplitN(in, []byte("{"), 2)[0], []byte(" ")) > 400 || deepest(in) >= maxNesting {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		lines := bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n"))
		if len(lines) != len(want) {
			t.Fatalf("%q: %d lines, want %d: %q", in, len(lines), len(want), out)
		}
		for i := range lines {
			var a, b bytes.Buffer
			if json.Compact(&a, lines[i]) != nil || json.Compact(&b, want[i]) != nil || a.String() != b.String() {
				t.Fatalf("%q: line %q, want %q", in, lines[i], want[i])
			}
		}
	})
}

func deepest(b []byte) (most int) {
	n := 0
	for _, c := range b {
		switch c {
		case '[', '{':
			n++
			most = max(most, n)
		case ']', '}':
			n--
		}
	}
	return most
}
