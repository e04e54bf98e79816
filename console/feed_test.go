package console

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"weir/pipeline"
)

func readDocumentAs(t *testing.T, h http.Handler, token string) *apiDocument {
	t.Helper()
	d := &apiDocument{t: t}
	w := askAs(h, token, "GET", "/api/v1/openapi.json", "")
	if err := json.Unmarshal(w.Body.Bytes(), &d.root); err != nil {
		t.Fatalf("%d: %v", w.Code, err)
	}
	return d
}

// feedAnswer is a page as its reader sees it.
type feedAnswer struct {
	Data []struct {
		Schema   string
		ID       string
		Revision int
		Severity string
	}
	Next string    `json:"next_cursor"`
	More *bool     `json:"has_more"`
	Beat heartbeat `json:"heartbeat"`
}

func (a *feedAnswer) ids() (list []string) {
	for _, row := range a.Data {
		list = append(list, fmt.Sprint(row.ID, ".", row.Revision))
	}
	return list
}

func readFeed(t *testing.T, h http.Handler, target string) (a feedAnswer) {
	t.Helper()
	w := ask(h, "GET", target)
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 200 || a.Next == "" || a.More == nil {
		t.Fatalf("%s: %d %s: %v", target, w.Code, w.Body, err)
	}
	if got := w.Header().Get("X-Next-Cursor"); got != a.Next || w.Header().Get("X-Has-More") != fmt.Sprint(*a.More) {
		t.Errorf("%s: headers %v, cursor %s", target, w.Header(), a.Next)
	}
	link := w.Header().Get("Link")
	next, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
	u, err := url.Parse(next)
	path, _, _ := strings.Cut(target, "?")
	if !ok || err != nil || u.Query().Get("cursor") != a.Next || u.Query().Has("start") || u.Path != path {
		t.Errorf("%s: Link %s", target, link)
	}
	return a
}

// TestFeedPages: with pages of every size, filtered or not, a reader has each row
// once and in order, while rows come; the same cursor gives the same page.
func TestFeedPages(t *testing.T) {
	severities := []string{"low", "high", "critical"}
	for limit := 1; limit <= 7; limit++ {
		for _, only := range []string{"", "&severity=high", "&severity=critical,low"} {
			s := &fakeStore{}
			put := func(id string) {
				s.put(id)
				s.feed[len(s.feed)-1].Severity = severities[len(s.feed)%3]
			}
			for _, id := range []string{"a", "b", "c", "a", "d", "e", "f", "b", "g", "h"} {
				put(id)
			}
			h := newHandler(options(s))
			var got, want []string
			target := fmt.Sprintf("/api/v1/feed/alerts?limit=%d%s", limit, only)
			for next, n := target, 0; ; n++ {
				a := readFeed(t, h, next)
				if len(a.Data) > limit || *a.More && len(a.Data) != limit || n > 30 {
					t.Fatalf("%s: %d rows, more %t", next, len(a.Data), *a.More)
				}
				if again := readFeed(t, h, next); !slices.Equal(again.ids(), a.ids()) || again.Next != a.Next {
					t.Errorf("%s: another page the second time", next)
				}
				got = append(got, a.ids()...)
				if n < 4 {
					put([]string{"a", "x", "c", "y"}[n])
				} else if !*a.More && len(a.Data) == 0 {
					break
				}
				next = target + "&cursor=" + a.Next
			}
			for _, a := range s.feed {
				if only == "" || strings.Contains(only, a.Severity) {
					want = append(want, fmt.Sprint(a.ID, ".", a.Revision))
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("limit %d%s: %v, want %v", limit, only, got, want)
			}
		}
	}
}

func TestFeedStart(t *testing.T) {
	s := &fakeStore{}
	s.put("a")
	h := newHandler(options(s))
	a := readFeed(t, h, "/api/v1/feed/alerts?start=newest")
	if len(a.Data) != 0 {
		t.Errorf("%d rows", len(a.Data))
	}
	s.put("b")
	if a = readFeed(t, h, "/api/v1/feed/alerts?cursor="+a.Next); !slices.Equal(a.ids(), []string{"b.1"}) {
		t.Errorf("%v", a.ids())
	}
	if a = readFeed(t, h, "/api/v1/feed/alerts?start=oldest"); !slices.Equal(a.ids(), []string{"a.1", "b.1"}) {
		t.Errorf("%v", a.ids())
	}
}

// TestFeedFrom: since begins at a place and leaves nothing out behind it, until
// ends at one, and windows that meet have each row once.
func TestFeedFrom(t *testing.T) {
	s := &fakeStore{}
	at := func(minute int) pipeline.Time {
		return pipeline.Time(1772442000e6).Add(time.Duration(minute) * time.Minute)
	}
	stamp := func(minute int) string { return at(minute).Std().UTC().Format(time.RFC3339) }
	for i, minute := range []int{1, 3, 2, 5, 4, 8} { // late ones, too
		s.put(fmt.Sprint("a", i))
		s.feed[i].Window.Last = at(minute)
	}
	h := newHandler(options(s))
	f := func(query, want string) feedAnswer {
		t.Helper()
		a := readFeed(t, h, "/api/v1/feed/alerts?limit=2&"+query)
		got := a.ids()
		for b := a; *b.More; got = append(got, b.ids()...) {
			b = readFeed(t, h, "/api/v1/feed/alerts?limit=2&"+query+"&cursor="+b.Next)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
		return a
	}
	f("since="+stamp(0), "a0.1 a1.1 a2.1 a3.1 a4.1 a5.1")
	f("since="+stamp(3), "a1.1 a2.1 a3.1 a4.1 a5.1")
	f("until="+stamp(5), "a0.1 a1.1 a2.1")
	f("since="+stamp(5)+"&until="+stamp(8), "a3.1 a4.1")
	f("since="+stamp(8)+"&until="+stamp(60), "a5.1")
	late := f("since="+stamp(9), "")
	f("since="+stamp(9)+"&until="+stamp(10)+"&severity=high", "")
	s.put("b")
	s.feed[6].Window.Last = at(2)
	f("since="+stamp(0)+"&cursor="+late.Next, "b.1") // a cursor knows better
	f("since="+stamp(9), "")
	for _, query := range []string{"since=" + stamp(5) + "&until=" + stamp(4), "since=" + stamp(5) + "&start=newest", "since=yesterday", "until="} {
		wantProblem(t, ask(h, "GET", "/api/v1/feed/alerts?"+query), 400, "")
	}
	wantProblem(t, ask(h, "HEAD", "/api/v1/feed/alerts/stream?until="+stamp(5)), 400, "no parameter")
	if w := ask(h, "HEAD", "/api/v1/feed/alerts/stream?since="+stamp(5)); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	if len(readFeed(t, h, "/api/v1/feed/audit?until="+stamp(0)).Data) != 0 || len(readFeed(t, h, "/api/v1/feed/audit?since="+stamp(0)).Data) == 0 {
		t.Error("the audit has no place for a time")
	}
}

// TestFeedFormats: a page in any format has the rows of the native one, and its
// cursor.
func TestFeedFormats(t *testing.T) {
	s := &fakeStore{}
	s.put("a")
	s.put("b")
	h := newHandler(options(s))
	native := readFeed(t, h, "/api/v1/feed/alerts")
	f := func(format, accept string, status int, kind string) []string {
		t.Helper()
		r := httptest.NewRequest("GET", "/api/v1/feed/alerts?format="+format, nil)
		r.Host = "localhost"
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != status || w.Header().Get("Content-Type") != kind {
			t.Fatalf("%s as %s: %d %v", format, accept, w.Code, w.Header())
		}
		if status != 200 {
			return nil
		}
		if got := w.Header().Get("X-Next-Cursor"); got != native.Next {
			t.Errorf("%s: cursor %s, want %s", format, got, native.Next)
		}
		if kind != string(formPage) {
			return strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
		}
		var page struct{ Data []json.RawMessage }
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
			t.Fatal(err)
		}
		var rows []string
		for _, row := range page.Data {
			rows = append(rows, string(row))
		}
		return rows
	}
	for _, format := range []string{"ocsf", "ecs", "cim"} {
		want := []string{fmt.Sprintf(`{"format":%q,"id":"a","revision":1}`, format), fmt.Sprintf(`{"format":%q,"id":"b","revision":1}`, format)}
		for _, form := range []pageForm{formPage, formLines} {
			if got := f(format, string(form), 200, string(form)); !slices.Equal(got, want) {
				t.Errorf("%s: %q", format, got)
			}
		}
		f(format, "text/plain", 406, "application/problem+json")
	}
	lines := f("cef", "text/plain", 200, string(formText))
	if want := []string{`CEF:0|weir|weir|"a.1`, `CEF:0|weir|weir|"b.1`}; !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
	for _, form := range []pageForm{formPage, formLines} {
		for i, row := range f("cef", string(form), 200, string(form)) {
			var text string
			if err := json.Unmarshal([]byte(row), &text); err != nil || text != lines[i] {
				t.Errorf("%s: %v", row, err)
			}
		}
	}
	wantProblem(t, ask(h, "GET", "/api/v1/feed/alerts?format=leef"), 400, "want of native, ocsf, ecs, cim, cef")
	wantProblem(t, ask(h, "GET", "/api/v1/feed/alerts?format=cef&heartbeat=true"), 400, "no CEF")
	wantProblem(t, ask(h, "GET", "/api/v1/feed/audit?format=ocsf"), 400, "no parameter")
}

// TestCursors: what weir did not give for this feed and filter is refused.
func TestCursors(t *testing.T) {
	s := &fakeStore{}
	s.put("a")
	o := options(s)
	h := newHandler(o)
	good := readFeed(t, h, "/api/v1/feed/alerts").Next
	f := func(target, cursor string, want int) {
		t.Helper()
		w := ask(h, "GET", target+"cursor="+url.QueryEscape(cursor))
		if w.Code != want {
			t.Errorf("%s%s: %d, want %d", target, cursor, w.Code, want)
		}
		if want == 400 {
			wantProblem(t, w, 400, "cursor: ")
		}
	}
	f("/api/v1/feed/alerts?", good, 200)
	f("/api/v1/feed/alerts?severity=high&", good, 400)
	f("/api/v1/feed/audit?", good, 400)
	f("/api/v1/feed/alerts?", "1", 400)
	f("/api/v1/feed/alerts?", strings.Repeat("A", len(good)), 400)
	f("/api/v1/feed/alerts?", strings.Repeat("A", 60_000), 400)
	f("/api/v1/feed/alerts?", good+"=", 400)
	for i := range good {
		wrong := []byte(good)
		if wrong[i] = 'A'; good[i] == 'A' {
			wrong[i] = 'B'
		}
		f("/api/v1/feed/alerts?", string(wrong), 400)
	}
	// A restart gives the same ones, another pepper others.
	h = newHandler(o)
	f("/api/v1/feed/alerts?", good, 200)
	o.Pepper = &Pepper{key: [32]byte{2}}
	h = newHandler(o)
	f("/api/v1/feed/alerts?", good, 400)
	two := readFeed(t, h, "/api/v1/feed/alerts?severity=high,critical").Next
	f("/api/v1/feed/alerts?severity=critical,high&", two, 200)
}

// TestGone: a reader that retention passed is told, once, and goes on with what
// is left.
func TestGone(t *testing.T) {
	s := &fakeStore{}
	for _, id := range []string{"a", "b", "c", "d"} {
		s.put(id)
	}
	h := newHandler(options(s))
	slow := readFeed(t, h, "/api/v1/feed/alerts?limit=1").Next
	quick := readFeed(t, h, "/api/v1/feed/alerts").Next
	s.removed = 3
	p := wantProblem(t, ask(h, "GET", "/api/v1/feed/alerts?cursor="+slow), 410, "retention has removed rows")
	if ask(h, "GET", "/api/v1/feed/alerts/stream?cursor="+slow).Code != 410 {
		t.Error("a stream is not told")
	}
	a := readFeed(t, h, "/api/v1/feed/alerts?cursor="+p.OldestCursor)
	if !slices.Equal(a.ids(), []string{"d.1"}) {
		t.Errorf("%v", a.ids())
	}
	s.put("e")
	for _, cursor := range []string{quick, a.Next} {
		if a := readFeed(t, h, "/api/v1/feed/alerts?cursor="+cursor); !slices.Equal(a.ids(), []string{"e.1"}) {
			t.Errorf("%v", a.ids())
		}
	}
	// Who begins now has missed nothing that it could know of.
	if a := readFeed(t, h, "/api/v1/feed/alerts"); !slices.Equal(a.ids(), []string{"d.1", "e.1"}) {
		t.Errorf("%v", a.ids())
	}
	s.feed, s.removed = s.feed[:2], 0
	wantProblem(t, ask(h, "GET", "/api/v1/feed/alerts?cursor="+quick), 410, "the store was replaced")
}

func TestFeedForms(t *testing.T) {
	s := &fakeStore{}
	for i := range 40 {
		s.put(fmt.Sprint("a", i))
	}
	h := newHandler(options(s))
	f := func(accept, encoding string, status int, kind, coding string) []byte {
		t.Helper()
		r := httptest.NewRequest("GET", "/api/v1/feed/alerts?heartbeat=true", nil)
		r.Host = "localhost"
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		r.Header.Set("Accept-Encoding", encoding)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != status || w.Header().Get("Content-Type") != kind || w.Header().Get("Content-Encoding") != coding {
			t.Errorf("%s, %s: %d %v", accept, encoding, w.Code, w.Header())
		}
		if status == 200 && w.Header().Get("Vary") != "Accept, Accept-Encoding" {
			t.Errorf("Vary: %s", w.Header().Get("Vary"))
		}
		body := w.Body.Bytes()
		var err error
		switch coding {
		case "gzip":
			var z *gzip.Reader
			if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
				body, err = io.ReadAll(z)
			}
		case "zstd":
			var z *zstd.Decoder
			if z, err = zstd.NewReader(nil); err == nil {
				body, err = z.DecodeAll(body, nil)
			}
		}
		if err != nil {
			t.Error(err)
		}
		return body
	}
	const whole, lines, wrong = "application/json", "application/x-ndjson", "application/problem+json"
	plain := f("", "", 200, whole, "")
	for _, encoding := range []string{"gzip", "zstd", "gzip, zstd", "zstd;q=0, gzip", "*", "br, gzip;q=0.5"} {
		coding := map[bool]string{true: "zstd", false: "gzip"}[encoding == "zstd"]
		if got := f("*/*", encoding, 200, whole, coding); len(got) < len(plain)-80 {
			t.Errorf("%s: %d bytes, want about %d", encoding, len(got), len(plain))
		}
	}
	f(whole, "br, gzip;q=0, identity", 200, whole, "")
	f("application/json, application/x-ndjson", "", 200, whole, "")
	f("application/x-ndjson;q=0, */*", "", 200, whole, "")
	f("text/html", "", 406, wrong, "")
	f("application/x-ndjson;q=0", "", 406, wrong, "")
	for _, accept := range []string{lines, "application/x-ndjson, application/json", "Application/NDJSON"} {
		var kinds []string
		for line := range bytes.Lines(f(accept, "gzip", 200, lines, "gzip")) {
			var row struct{ Schema string }
			if err := json.Unmarshal(line, &row); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			kinds = append(kinds, row.Schema)
		}
		if len(kinds) != 41 || kinds[39] != pipeline.AlertSchema || kinds[40] != HeartbeatSchema {
			t.Errorf("%s: %v", accept, kinds)
		}
	}
}

// TestHeartbeats: only where there is nothing more, and they say what is wrong.
func TestHeartbeats(t *testing.T) {
	s := &fakeStore{}
	s.put("a")
	s.put("b")
	o := options(s)
	o.Waits = func(context.Context) []string { return []string{"the inputs"} }
	o.Through = func() pipeline.Time { return 1772442000e6 }
	h := newHandler(o)
	a := readFeed(t, h, "/api/v1/feed/alerts?heartbeat=true&limit=1")
	if len(a.Data) != 1 || a.Data[0].Schema != pipeline.AlertSchema {
		t.Errorf("a heartbeat before the end: %+v", a)
	}
	a = readFeed(t, h, "/api/v1/feed/alerts?heartbeat=true&cursor="+readFeed(t, h, "/api/v1/feed/alerts").Next)
	if len(a.Data) != 1 || a.Data[0].Schema != HeartbeatSchema || *a.Beat.Through != 1772442000e6 || !slices.Equal(a.Beat.Waits, []string{"the inputs"}) {
		t.Errorf("%+v", a)
	}
	if a := readFeed(t, h, "/api/v1/feed/alerts?heartbeat=false&start=newest"); len(a.Data) != 0 || a.Beat.Schema != HeartbeatSchema {
		t.Errorf("%+v", a)
	}
}

// TestPagesAreBounded: attackers choose how long a reason is.
func TestPagesAreBounded(t *testing.T) {
	s := &fakeStore{}
	for i := range 12 {
		s.put(fmt.Sprint("a", i))
		s.feed[i].Reason = strings.Repeat("x", 1<<20)
	}
	s.feed[5].Reason = strings.Repeat("x", 2*feedPage)
	h := newHandler(options(s))
	var got []string
	next := "/api/v1/feed/alerts?limit=5000"
	for range 20 {
		w := ask(h, "GET", next)
		var a feedAnswer
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		if w.Body.Len() > feedPage+4096 && len(a.Data) > 1 {
			t.Errorf("%d bytes of %d rows", w.Body.Len(), len(a.Data))
		}
		got = append(got, a.ids()...)
		if !*a.More {
			break
		}
		next = "/api/v1/feed/alerts?limit=5000&cursor=" + a.Next
	}
	var want []string
	for i := range 12 {
		want = append(want, fmt.Sprintf("a%d.1", i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// TestLongPoll answers when a row comes, and at the end of its time without one;
// those that wait keep nobody from an answer, and there is a bound for them.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		h := newHandler(options(s))
		tail := readFeed(t, h, "/api/v1/feed/alerts").Next
		begun := time.Now()
		if a := readFeed(t, h, "/api/v1/feed/alerts?wait=30&cursor="+tail); len(a.Data) != 0 || time.Since(begun) != 30*time.Second {
			t.Errorf("%d rows after %s", len(a.Data), time.Since(begun))
		}
		answers := make(chan string, maxWaitingEach)
		for range maxWaitingEach {
			go func() {
				a := readFeed(t, h, "/api/v1/feed/alerts?wait=60&cursor="+tail)
				answers <- strings.Join(a.ids(), " ")
			}()
		}
		synctest.Wait()
		w := ask(h, "GET", "/api/v1/feed/alerts?wait=1&cursor="+tail)
		wantProblem(t, w, 429, "without wait")
		if w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		readFeed(t, h, "/api/v1/feed/alerts?cursor="+tail)
		time.Sleep(10 * time.Second)
		s.put("a")
		begun = time.Now()
		for range maxWaitingEach {
			if got := <-answers; got != "a.1" {
				t.Errorf("%q", got)
			}
		}
		if time.Since(begun) != 0 {
			t.Errorf("they heard of it after %s", time.Since(begun))
		}
	})
}

// event is one of a stream.
type event struct{ id, kind, data string }

// readEvents reads a stream until it ends or fn returns false.
func readEvents(r io.Reader, fn func(e event) bool) error {
	var e event
	for s := bufio.NewScanner(r); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data = value
		case "":
			if value == "" && e != (event{}) && !fn(e) {
				return nil
			}
			if value == "" {
				e = event{}
			}
		}
	}
	return io.ErrUnexpectedEOF
}

func openStream(ctx context.Context, t *testing.T, url, token, last string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestStream over a real connection: every row once across reconnects, in order,
// with ids that pages take, too.
func TestStream(t *testing.T) {
	s := &fakeStore{}
	o := options(s)
	server := NewServer(o)
	hs := httptest.NewUnstartedServer(server.Handler)
	hs.Start()
	defer hs.Close()
	const total = 30
	var got []string
	last := ""
	written := 0
	for len(got) < total {
		ctx, cancel := context.WithCancel(t.Context())
		resp := openStream(ctx, t, hs.URL+"/api/v1/feed/alerts/stream", "", last)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%d %v", resp.StatusCode, resp.Header)
		}
		for range 10 {
			s.put(fmt.Sprint("a", written))
			written++
		}
		n := 0
		err := readEvents(resp.Body, func(e event) bool {
			var a pipeline.Alert
			if err := json.Unmarshal([]byte(e.data), &a); err != nil || e.kind != "alerts" || e.id == "" {
				t.Errorf("%+v: %v", e, err)
			}
			got, last = append(got, a.ID), e.id
			n++
			return n < 7 && len(got) < total
		})
		cancel()
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, id := range got {
		if id != fmt.Sprint("a", i) {
			t.Fatalf("%v", got)
		}
	}
	if a := readFeed(t, server.Handler, "/api/v1/feed/alerts?limit=1&cursor="+last); len(s.feed) > total && a.ids()[0] != fmt.Sprintf("a%d.1", total) {
		t.Errorf("%v", a.ids())
	}
}

// TestStreamEnds with its token, with the server, and says when retention passed.
func TestStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		o := options(s)
		c := newConsole(o)
		stop, cancel := context.WithCancel(t.Context())
		defer cancel()
		c.stop = stop
		h := c.guard(c.mux(c.routes()))
		text := s.give(o, "x", Feed)
		stream := func() (*httptest.ResponseRecorder, chan struct{}) {
			r := httptest.NewRequest("GET", "/api/v1/feed/alerts/stream?heartbeat=true", nil)
			r.Host = "localhost"
			r.Header.Set("Authorization", "Bearer "+text)
			w, done := httptest.NewRecorder(), make(chan struct{})
			go func() {
				h.ServeHTTP(w, r)
				close(done)
			}()
			synctest.Wait()
			return w, done
		}
		w, done := stream()
		time.Sleep(4*streamBeat + time.Second)
		synctest.Wait()
		s.mu.Lock()
		s.tokens[0].Revoked = 1
		s.mu.Unlock()
		<-done
		if beats := strings.Count(w.Body.String(), ": alive "); beats != 4 || strings.Count(w.Body.String(), HeartbeatSchema) != 4 {
			t.Errorf("%d signs of life: %s", beats, w.Body)
		}
		s.tokens[0].Revoked = 0
		s.put("a")
		w, done = stream()
		s.mu.Lock()
		s.removed = 5
		s.mu.Unlock()
		s.put("b")
		<-done
		var kinds []string
		var last string
		_ = readEvents(w.Body, func(e event) bool {
			kinds, last = append(kinds, e.kind), e.id
			return true
		})
		if !slices.Equal(kinds, []string{"alerts", "gone"}) || last == "" {
			t.Errorf("%v", kinds)
		}
		s.mu.Lock()
		s.removed = 0
		s.mu.Unlock()
		_, done = stream()
		cancel()
		<-done
		if c.rates.all != 0 {
			t.Errorf("%d streams are counted", c.rates.all)
		}
	})
}

// TestReaders: how far each token is behind, in the API and in metrics, across
// restarts; a reader sees itself alone.
func TestReaders(t *testing.T) {
	s := &fakeStore{}
	for i := range 5 {
		s.put(fmt.Sprint(i))
	}
	o := options(s)
	h := NewServer(o).Handler
	siem, boss := s.give(o, "siem", Feed), s.give(o, "boss", Admin|Feed)
	next := readFeedAs(t, h, siem, "/api/v1/feed/alerts?limit=2")
	readFeedAs(t, h, siem, "/api/v1/feed/alerts?limit=2&cursor="+next)
	readFeedAs(t, h, boss, "/api/v1/feed/alerts")
	list := func(h http.Handler, token string) (out []string) {
		var a struct{ Data []readerView }
		w := askAs(h, token, "GET", "/api/v1/feed/readers", "")
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for _, v := range a.Data {
			out = append(out, fmt.Sprint(v.Feed, " ", v.Name, " ", v.Seq, " ", v.Lag))
		}
		slices.Sort(out)
		return out
	}
	if got := list(h, siem); !slices.Equal(got, []string{"alerts siem 2 3"}) {
		t.Errorf("a reader sees %v", got)
	}
	if got := list(h, boss); !slices.Equal(got, []string{"alerts boss 0 5", "alerts siem 2 3"}) {
		t.Errorf("%v", got)
	}
	id, _ := idOf(siem)
	want := fmt.Sprintf(`weir_feed_reader_lag_rows{feed="alerts",reader="siem/%s"} 3`, id)
	if w := askAs(h, boss, "GET", "/metrics", ""); !strings.Contains(w.Body.String(), want) {
		t.Errorf("no %s in %s", want, w.Body)
	}
	// Stored at most every so often: after a restart it may seem farther behind.
	again := newHandler(o)
	if got := list(again, boss); !slices.Equal(got, []string{"alerts boss 0 5", "alerts siem 0 5"}) {
		t.Errorf("after a restart: %v", got)
	}
	s.tokens[0].Revoked = 1
	if got := list(again, boss); !slices.Equal(got, []string{"alerts boss 0 5"}) {
		t.Errorf("a revoked one is there: %v", got)
	}
}

func readFeedAs(t *testing.T, h http.Handler, token, target string) (next string) {
	t.Helper()
	w := askAs(h, token, "GET", target, "")
	if w.Code != 200 {
		t.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	return w.Header().Get("X-Next-Cursor")
}

// TestAuditFeed: it has rows, reading it is a row once an hour, and a reader that
// waits does not wake itself for ever.
func TestAuditFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		o := options(s)
		h := newHandler(o)
		text := s.give(o, "carl", Auditor)
		next := readFeedAs(t, h, text, "/api/v1/feed/audit")
		for range 5 {
			next = readFeedAs(t, h, text, "/api/v1/feed/audit?wait=10&cursor="+next)
		}
		if list := s.entries(); len(list) != 1 || list[0].Action != "audit.read" || list[0].Who.Name != "carl" {
			t.Errorf("%+v", list)
		}
		time.Sleep(auditEvery)
		readFeedAs(t, h, text, "/api/v1/feed/audit?cursor="+next)
		if n := len(s.entries()); n != 2 {
			t.Errorf("%d entries", n)
		}
		s.auditErr = errors.New("disk full")
		other := s.give(o, "dora", Auditor)
		for range 2 {
			wantProblem(t, askAs(h, other, "GET", "/api/v1/feed/audit", ""), 500, "the store")
		}
	})
}
