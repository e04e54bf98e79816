package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"weir/pipeline"
)

// fakeStore keeps a feed of alerts and requests in memory.
type fakeStore struct {
	mu       sync.Mutex
	feed     []pipeline.Alert // seq is the index and 1
	requests []pipeline.Request
	err      error
	wait     chan struct{} // not nil: answers come when it is closed
	holding  int           // answers that wait
	alertsBy AlertQuery    // last asked
	sought   RequestFilter
	access
	accounts
}

func (s *fakeStore) hold(ctx context.Context) error {
	if s.wait == nil {
		return s.err
	}
	s.mu.Lock()
	s.holding++
	s.mu.Unlock()
	select {
	case <-s.wait:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("read: %w", ctx.Err())
	}
}

func (s *fakeStore) put(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	revision := 1
	for i := range s.feed {
		if s.feed[i].ID == id {
			revision++
		}
	}
	s.feed = append(s.feed, pipeline.Alert{Schema: pipeline.AlertSchema, ID: id, Revision: revision, Status: "open"})
	s.more()
}

func (s *fakeStore) row(i int) Alert {
	text, err := json.Marshal(&s.feed[i])
	if err != nil {
		panic(err)
	}
	return Alert{Seq: int64(i + 1), JSON: text}
}

func (s *fakeStore) Alerts(ctx context.Context, f AlertFilter) (list []Alert, err error) {
	if err := s.hold(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for i := len(s.feed) - 1; i >= 0 && len(list) < f.Limit; i-- {
		seq, id := int64(i+1), s.feed[i].ID
		if !seen[id] && seq > f.AfterSeq && (f.BeforeSeq == 0 || seq < f.BeforeSeq) {
			list = append(list, s.row(i))
		}
		seen[id] = true
	}
	return list, nil
}

func (s *fakeStore) Alert(ctx context.Context, id string) (list []Alert, err error) {
	if err := s.hold(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.feed {
		if s.feed[i].ID == id {
			list = append(list, s.row(i))
		}
	}
	return list, nil
}

func (s *fakeStore) Requests(ctx context.Context, f RequestFilter, fn func(r *pipeline.Request, source string) bool) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sought = f
	for i := range s.requests {
		if i == f.Limit || !fn(&s.requests[i], "access.log") {
			return nil
		}
	}
	return nil
}

func options(s *fakeStore) Options {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_test", Help: "Of a test."}, func() float64 { return 7 }))
	return Options{
		Store: s, Waits: func(context.Context) []string { return nil }, Metrics: registry, Register: registry, Log: zap.NewNop(), Pepper: &Pepper{key: [32]byte{1}},
		Blindspots: func() ([]byte, error) { return []byte(`{"schema":"weir.blindspots/1"}`), nil },
		NeverBlock: func(p netip.Prefix) string {
			return map[bool]string{true: "it is in never_block"}[p.Contains(netip.MustParseAddr("192.0.2.1"))]
		},
		Limits: func() *Limits { return &Limits{Since: 1, Until: 2} },
		Names:  func(token string) (string, bool) { return "name of " + token, token != "u_none" },
		Tuning: &fakeTuning{},
		Detectors: func() []DetectorInfo {
			return []DetectorInfo{{Name: "auth.stuffing", Mode: "on", Title: "Credential stuffing", Doc: "Pairs of names and passwords.", Knobs: []Knob{{Name: "mode"}}}}
		},
		System: func(context.Context) (System, error) {
			return System{State: []SystemState{}, Sources: []SystemSource{}, Rejects: []SystemRejects{}, Sinks: []SystemSink{}, Processes: []SystemProcess{}}, nil
		},
		Baseline: func(pipeline.Endpoint) *Baseline { return &Baseline{Facts: []BaselineFact{{Name: "x"}}} },
	}
}

// ask does a request to localhost.
func ask(h http.Handler, method, target string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "localhost:7380"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// wantProblem checks that w is a whole problem and returns it.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int, detail string) (p problem) {
	t.Helper()
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Errorf("%d: %v", w.Code, err)
	}
	if w.Code != status || p.Status != status || p.Title != http.StatusText(status) || p.Type != "about:blank" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s %+v, want a problem of status %d", w.Code, w.Header().Get("Content-Type"), p, status)
	}
	if !strings.Contains(p.Detail, detail) {
		t.Errorf("detail %q, want %q in it", p.Detail, detail)
	}
	if p.RequestID == "" || p.RequestID != w.Header().Get("X-Request-Id") {
		t.Errorf("request id %q, in the header %q", p.RequestID, w.Header().Get("X-Request-Id"))
	}
	return p
}

func TestAnswers(t *testing.T) {
	s := &fakeStore{}
	s.put("a1")
	s.suppressions = []Suppression{{Suppression: pipeline.Suppression{ID: "a1"}}}
	o := options(s)
	server := httptest.NewServer(newHandler(o))
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ids := map[string]bool{}
	f := func(method, path string, status int, kind, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != status || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) || !strings.Contains(string(got), body) {
			t.Errorf("%s %s: %d %s %q, want %d %s %q", method, path, resp.StatusCode, resp.Header.Get("Content-Type"), got, status, kind, body)
		}
		if method == http.MethodHead && (len(got) != 0 || resp.ContentLength <= 0) {
			t.Errorf("HEAD %s: %d bytes, length %d", path, len(got), resp.ContentLength)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer", "Access-Control-Allow-Origin": "",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s %s: %s: %q, want %q", method, path, name, got, want)
			}
		}
		id := resp.Header.Get("X-Request-Id")
		if id == "" || ids[id] {
			t.Errorf("%s %s: request id %q is empty or used before", method, path, id)
		}
		ids[id] = true
		if status == http.StatusMethodNotAllowed && (resp.Header.Get("Allow") == "" || strings.Contains(resp.Header.Get("Allow"), method)) {
			t.Errorf("%s %s: Allow: %q", method, path, resp.Header.Get("Allow"))
		}
	}
	const plain, problems = "text/plain", "application/problem+json"
	f("GET", "/healthz", 200, plain, "ok\n")
	f("GET", "/readyz", 200, plain, "ready\n")
	f("GET", "/metrics", 200, plain, "weir_test 7")
	f("GET", "/api/v1/alerts", 200, "application/json", `"id":"a1"`)
	f("GET", "/api/v1/alerts/a1", 200, "application/json", `"id":"a1"`)
	f("GET", "/api/v1/alerts/a2", 404, problems, "no alert has this id")
	f("GET", "/api/v1/alerts/", 404, problems, "there is no")
	f("GET", "/api/v1/requests", 200, "application/json", "{\"data\":[\n],\"more\":false}\n")
	f("GET", "/api/v1/blindspots", 200, "application/json", `weir.blindspots/1`)
	f("GET", "/api/v1/blindspots?detector=x", 400, problems, "detector")
	f("GET", "/api/v1/openapi.json", 200, "application/json", `"openapi": "3.1.0"`)
	f("GET", "/", 404, problems, "/api/v1/alerts, ")
	f("GET", "/api/v2/alerts", 404, problems, "/api/v1/requests")
	f("GET", "/%1b%5b31m%C2%9b", 404, problems, `\\x1b[31m\\u009b`)
	f("GET", "//example.com/", 307, "text/html", "/example.com/")
	f("POST", "/nothing", 404, problems, "")
	taken := map[string]bool{}
	for _, r := range newConsole(o).routes() {
		taken[r.method+" "+r.path] = true
	}
	for _, r := range newConsole(o).routes() {
		path := strings.NewReplacer("{id}", "a1", "{kind}", "ip", "{value}", "192.0.2.7").Replace(r.path)
		if r.method != http.MethodGet {
			if !taken["GET "+r.path] {
				f("GET", path, 405, problems, r.method)
			}
			continue
		}
		switch {
		case r.noLocal:
			f("HEAD", path, 403, problems, "")
		case !strings.HasSuffix(path, "/stream") && wantAnswers()["GET "+r.path] == 0:
			f("HEAD", path+goodQueries()["GET "+r.path], 200, "", "")
		}
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
			if !taken[method+" "+r.path] {
				f(method, path, 405, problems, "GET and HEAD")
			}
		}
	}
	f("HEAD", "/api/v1/alerts?limit=0", 400, problems, "")
}

// TestHosts: a page whose name resolves to this machine gets nothing.
func TestHosts(t *testing.T) {
	o := options(&fakeStore{})
	o.Hosts = []string{"127.0.0.53"}
	h := newHandler(o)
	f := func(host string, want int) {
		t.Helper()
		r := httptest.NewRequest("GET", "/healthz", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
		if want != http.StatusOK {
			wantProblem(t, w, want, "is not served here")
		}
	}
	for _, host := range []string{"localhost", "LocalHost:7380", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:7380", "127.0.0.53", "127.0.0.53:7380"} {
		f(host, 200)
	}
	for _, host := range []string{
		"", ":7380", "example.com", "localhost.example.com", "localhost.", "evil-localhost", "127.0.0.1.example.com", "127.0.0.2", "0.0.0.0",
		"[::1", "[::1]x", "[::2]", "[::ffff:127.0.0.1]", "localhost:x", "localhost@example.com", "example.com@localhost", "2130706433", "localhost/", "[localhost]x:1",
	} {
		f(host, 421)
	}
	o.Hosts = []string{""}
	h = newHandler(o)
	f("", 421)
	f("127.0.0.53", 421)
}

func TestReadySaysWhatItWaitsFor(t *testing.T) {
	o := options(&fakeStore{})
	var waits []string
	o.Waits = func(context.Context) []string { return waits }
	h := newHandler(o)
	if w := ask(h, "GET", "/readyz"); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	o.Notes = func() []string { return []string{"look at the log"} }
	if w := ask(newHandler(o), "GET", "/readyz"); w.Code != 200 || w.Body.String() != "ready\nnote: look at the log\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	waits = []string{"detection, which is 1001 records behind", "the store"}
	p := wantProblem(t, ask(h, "GET", "/readyz"), 503, "weir waits for detection, which is 1001 records behind; the store")
	if d := cmp.Diff(waits, p.WaitsFor); d != "" {
		t.Error(d)
	}
	if w := ask(h, "GET", "/healthz"); w.Code != 200 {
		t.Errorf("not ready, and /healthz is %d", w.Code)
	}
}

// TestStoreFails: the caller gets a number, the log has the cause under it.
func TestStoreFails(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	o := options(&fakeStore{err: errors.New("disk I/O error in /var/lib/weir")})
	o.Log = zap.New(core)
	h := newHandler(o)
	paths := []string{"/api/v1/alerts", "/api/v1/alerts/a", "/api/v1/requests"}
	for _, path := range paths {
		w := ask(h, "GET", path)
		if strings.Contains(w.Body.String(), "disk") {
			t.Errorf("%s tells the cause: %s", path, w.Body)
		}
		p := wantProblem(t, w, 500, "the store did not answer")
		entries := logs.FilterField(zap.String("request_id", p.RequestID)).All()
		if len(entries) != 1 || !strings.Contains(fmt.Sprint(entries[0].ContextMap()["error"]), "disk I/O error") {
			t.Errorf("%s: the log has %v", path, entries)
		}
	}
	if logs.Len() != len(paths) {
		t.Errorf("%d log entries, want %d", logs.Len(), len(paths))
	}
}

func TestSlowStoreIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{wait: make(chan struct{})}
		h := newHandler(options(s))
		begun := time.Now()
		wantProblem(t, ask(h, "GET", "/api/v1/requests?path=/x"), 503, "since, until or principal")
		if took := time.Since(begun); took != answerWithin {
			t.Errorf("took %s, want %s", took, answerWithin)
		}
	})
}

// TestAnswersTakeTurns: no more than so many at a time; others wait and then
// are told to come back, and health is never among them.
func TestAnswersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{wait: make(chan struct{})}
		h := newHandler(options(s))
		codes := make(chan int, 2*maxAnswering)
		for range maxAnswering {
			go func() { codes <- ask(h, "GET", "/api/v1/alerts").Code }()
		}
		synctest.Wait()
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			if w := ask(h, "GET", path); w.Code != 200 {
				t.Errorf("%s: %d while answers are in the making", path, w.Code)
			}
		}
		// One that has waited gets the turn that comes free.
		go func() { codes <- ask(h, "GET", "/api/v1/alerts").Code }()
		synctest.Wait()
		time.Sleep(answerWithin / 2) // of the bubble's clock
		if s.holding != maxAnswering {
			t.Errorf("%d answers are in the making, want %d", s.holding, maxAnswering)
		}
		close(s.wait)
		synctest.Wait()
		for range maxAnswering + 1 {
			if code := <-codes; code != 200 {
				t.Errorf("%d, want 200", code)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := newConsole(options(&fakeStore{}))
		for range maxAnswering {
			c.turns <- struct{}{} // for ever
		}
		w := ask(c.guard(c.mux(c.routes())), "GET", "/api/v1/alerts")
		wantProblem(t, w, 503, "in the making")
		if w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
}

// listPage is a list as its reader sees it.
type listPage struct {
	Data []struct {
		ID       string
		Revision int
	}
	More          bool
	Before, After *int64
}

func readPage(t *testing.T, h http.Handler, target string) (p listPage) {
	t.Helper()
	w := ask(h, "GET", target)
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 {
		t.Fatalf("%s: %d %s: %v", target, w.Code, w.Body, err)
	}
	return p
}

// TestPaging walks through all alerts with pages of every size, while alerts
// change and new ones come: none shows twice, and with what the first page's
// after finds none is missed.
func TestPaging(t *testing.T) {
	for _, busy := range []bool{false, true} {
		for size := 1; size <= 12; size++ {
			s := &fakeStore{}
			for _, id := range []string{"a", "b", "c", "a", "d", "e", "f", "b", "g", "h", "i", "j", "k"} {
				s.put(id)
			}
			h := newHandler(options(s))
			changes := []string{"c", "new1", "k", "d", "new2", "c"}
			got := map[string]int{}
			target := fmt.Sprintf("/api/v1/alerts?limit=%d", size)
			var first *int64
			for n := 0; ; n++ {
				p := readPage(t, h, target)
				if len(p.Data) > size || p.More && len(p.Data) != size || n > 20 {
					t.Fatalf("%s: %d alerts, more %t", target, len(p.Data), p.More)
				}
				for _, a := range p.Data {
					if got[a.ID] != 0 {
						t.Errorf("size %d: %s is on two pages", size, a.ID)
					}
					got[a.ID] = a.Revision
				}
				if n == 0 {
					first = p.After
					if *first != 13 || *p.Before > 13 || size > 1 && *p.Before == 13 {
						t.Errorf("size %d: after %d, before %d", size, *first, *p.Before)
					}
				}
				if !p.More {
					if (p.Before == nil) != (len(p.Data) == 0) {
						t.Errorf("size %d: before %v on a page of %d", size, p.Before, len(p.Data))
					}
					break
				}
				if busy && n < len(changes) {
					s.put(changes[n])
				}
				target = fmt.Sprintf("/api/v1/alerts?limit=%d&before=%d", size, *p.Before)
			}
			for _, a := range readPage(t, h, fmt.Sprintf("/api/v1/alerts?after=%d", *first)).Data {
				got[a.ID] = a.Revision
			}
			want := map[string]int{}
			for i := range s.feed {
				want[s.feed[i].ID]++
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("size %d, busy %t: %s", size, busy, d)
			}
		}
	}
}

func TestEmptyPage(t *testing.T) {
	h := newHandler(options(&fakeStore{}))
	if got, want := ask(h, "GET", "/api/v1/alerts").Body.String(), "{\"data\":[\n],\"more\":false,\"before\":null,\"after\":null,\"next\":null,\"total\":null}\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRevisions(t *testing.T) {
	s := &fakeStore{}
	for _, id := range []string{"a", "b", "a", "a"} {
		s.put(id)
	}
	p := readPage(t, newHandler(options(s)), "/api/v1/alerts/a")
	var got []int
	for _, a := range p.Data {
		got = append(got, a.Revision)
	}
	if !slices.Equal(got, []int{1, 2, 3}) || p.More {
		t.Errorf("revisions %v, more %t", got, p.More)
	}
}

// TestAnswersAreBounded: attackers choose how long a path is.
func TestAnswersAreBounded(t *testing.T) {
	s := &fakeStore{requests: make([]pipeline.Request, 40)}
	for i := range s.requests {
		s.requests[i].Path = "/" + strings.Repeat("x", 1<<20)
		s.put(fmt.Sprint("a", i))
		s.feed[i].Reason = s.requests[i].Path
	}
	h := newHandler(options(s))
	for _, target := range []string{"/api/v1/alerts", "/api/v1/requests"} {
		w := ask(h, "GET", target)
		size := w.Body.Len()
		var p listPage
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if len(p.Data) != 15 || !p.More || size > maxAnswer+4096 {
			t.Errorf("%s: %d in %d bytes, more %t", target, len(p.Data), size, p.More)
		}
	}
	// One too large for any answer is shown alone: paging goes on behind it.
	s = &fakeStore{}
	s.put("small")
	s.put("large")
	s.feed[1].Reason = strings.Repeat("x", maxAnswer)
	h = newHandler(options(s))
	p := readPage(t, h, "/api/v1/alerts")
	if len(p.Data) != 1 || p.Data[0].ID != "large" || !p.More || *p.Before != 2 {
		t.Errorf("%d alerts, more %t", len(p.Data), p.More)
	}
	if p = readPage(t, h, "/api/v1/alerts?before=2"); len(p.Data) != 1 || p.Data[0].ID != "small" || p.More {
		t.Errorf("%d alerts, more %t", len(p.Data), p.More)
	}
}

func TestRequests(t *testing.T) {
	address, ok := pipeline.ParseAddress("203.0.113.7")
	if !ok {
		t.Fatal("no address")
	}
	s := &fakeStore{requests: []pipeline.Request{
		{
			Time: 1767225600e6, Kind: pipeline.PrincipalIP, Address: address, Method: "POST", Host: "shop.example", Path: "/login\x1b[2J\u009b\u202e\xff<b>", Query: "a=b", Line: 18211,
			Status: 401, Bytes: 1910, Duration: 15, Agent: "curl", Referer: "-", Account: "u_1", Key: "k_1", Session: "s_1", LoginUser: "u_2",
		},
		{Bytes: -1, Duration: -1},
	}}
	h := newHandler(options(s))
	w := ask(h, "GET", "/api/v1/requests")
	want := `{"data":[
{"time":"2026-01-01T00:00:00Z","principal":{"kind":"ip","value":"203.0.113.7"},"ip":"203.0.113.7","method":"POST","host":"shop.example","path":"/login\u001b[2J\u009b\u202e\ufffd\u003cb\u003e","query":"a=b","status":401,"bytes":1910,"duration_us":15,"user_agent":"curl","referer":"-","account":"u_1","key":"k_1","session":"s_1","login_user":"u_2","source":"access.log:18211"},
{"time":"1970-01-01T00:00:00Z","principal":{"kind":"","value":""},"ip":"-","method":"","host":"","path":"","query":"","status":null,"bytes":null,"duration_us":null,"user_agent":"","referer":"","account":"","key":"","session":"","login_user":"","source":"access.log:0"}
],"more":false}
`
	if d := cmp.Diff(want, w.Body.String()); d != "" {
		t.Error(d)
	}
	if p := readPage(t, h, "/api/v1/requests?limit=1"); len(p.Data) != 1 || !p.More {
		t.Errorf("limit 1: %d requests, more %t", len(p.Data), p.More)
	}
	if p := readPage(t, h, "/api/v1/requests?limit=2"); len(p.Data) != 2 || p.More {
		t.Errorf("limit 2: %d requests, more %t", len(p.Data), p.More)
	}
}

func TestServerHasTimeouts(t *testing.T) {
	s := NewServer(options(&fakeStore{}))
	for name, d := range map[string]time.Duration{"header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout} {
		if d <= 0 || d > 5*time.Minute {
			t.Errorf("%s: %s", name, d)
		}
	}
	// It counts from the request on: an answer may wait for its turn.
	if s.WriteTimeout <= answerWithin {
		t.Errorf("a write ends after %s, an answer may take %s", s.WriteTimeout, answerWithin)
	}
	if s.MaxHeaderBytes <= 0 || s.MaxHeaderBytes > 64<<10 {
		t.Errorf("headers of %d bytes", s.MaxHeaderBytes)
	}
}
