package console

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"weir/pipeline"
)

// TestPagesBySearch: a cursor goes on in its own search alone.
func TestPagesBySearch(t *testing.T) {
	s := &fakeStore{}
	for i := range 7 {
		s.put(fmt.Sprint("a", i))
	}
	h := newHandler(options(s))
	type page struct {
		Data  []alertRow
		More  bool
		Next  *string
		Total *struct{ Count int64 }
	}
	read := func(query string, want int) (p page) {
		t.Helper()
		w := ask(h, "GET", "/api/v1/alerts?"+query)
		if w.Code != want {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		_ = json.Unmarshal(w.Body.Bytes(), &p)
		return p
	}
	var got []string
	for query := "view=row&status=open&limit=3"; ; {
		p := read(query, 200)
		for _, row := range p.Data {
			got = append(got, row.ID)
			if row.Triage.Status != "new" || row.Triage.Tags == nil {
				t.Errorf("%+v", row.Triage)
			}
		}
		if first := len(got) == len(p.Data); first != (p.Total != nil) || first && p.Total.Count != 7 {
			t.Errorf("%s: total %v", query, p.Total)
		}
		if !p.More {
			if p.Next != nil {
				t.Error("the last page has a next one")
			}
			break
		}
		query = "view=row&status=open&limit=3&cursor=" + *p.Next
		read("view=row&limit=3&cursor="+*p.Next, 400)
		read("view=row&status=open&sort=score&cursor="+*p.Next, 400)
	}
	if !slices.Equal(got, []string{"a6", "a5", "a4", "a3", "a2", "a1", "a0"}) {
		t.Errorf("%v", got)
	}
}

// bulkOf asks for a bulk change.
func bulkOf(t *testing.T, h http.Handler, token, body string, want int) (out bulkAnswer) {
	t.Helper()
	w := askAs(h, token, "POST", bulkPath, body)
	if w.Code != want {
		t.Fatalf("%s: %d, want %d: %s", body, w.Code, want, w.Body)
	}
	if want == 200 {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func outcomes(a bulkAnswer) string {
	var list []string
	for _, o := range a.Data {
		list = append(list, o.ID+" "+o.Outcome)
	}
	return strings.Join(list, ", ")
}

// TestBulk: each alert says what became of it, what changed is in the audit, and
// an undo takes it back, but for what somebody else changed since.
func TestBulk(t *testing.T) {
	s := &fakeStore{}
	for i := range 5 {
		s.put(fmt.Sprint("a", i))
	}
	o := options(s)
	h := newHandler(o)
	ada, viewer := s.give(o, "ada", Analyst), s.give(o, "eve", Viewer)
	bulkOf(t, h, viewer, `{"ids":["a1"],"change":{"assignee":"eve"}}`, 403)
	closed := bulkOf(t, h, ada, `{"ids":["a1","none","a2"],"change":{"status":"closed","verdict":"duplicate","add_tags":["x"]}}`, 200)
	if got := outcomes(closed); got != "a1 changed, none not_found, a2 changed" || closed.Changed != 2 {
		t.Errorf("%s", got)
	}
	if got := outcomes(bulkOf(t, h, ada, `{"ids":["a1","a3"],"change":{"add_tags":["x"]}}`, 200)); got != "a1 unchanged, a3 changed" {
		t.Errorf("%s", got)
	}
	if got := outcomes(bulkOf(t, h, ada, `{"ids":["a1","a3"],"change":{"status":"closed"}}`, 200)); got != "a1 unchanged, a3 invalid" {
		t.Errorf("%s", got)
	}
	// Somebody else is at a2 before the undo.
	if w := askAs(h, ada, "PATCH", "/api/v1/alerts/a2", `{"comment":"wait"}`); w.Code != 200 {
		t.Fatal(w.Body)
	}
	var undo bulkRequest
	for _, o := range closed.Data {
		if o.Outcome == "changed" {
			undo.Items = append(undo.Items, bulkItem{ID: o.ID, Revision: &o.Triage.Revision, Change: &triageRequest{Status: &o.Before.Status, RemoveTags: []string{"x"}}})
		}
	}
	body, err := json.Marshal(undo)
	if err != nil {
		t.Fatal(err)
	}
	undone := bulkOf(t, h, ada, string(body), 200)
	if got := outcomes(undone); got != "a1 changed, a2 stale" || undone.Data[0].Triage.Status != "new" || undone.Data[0].Triage.Verdict != "" || len(undone.Data[0].Triage.Tags) != 0 || undone.Data[1].Triage.Comments != 1 {
		t.Errorf("%s %+v", got, undone.Data)
	}
	// By a filter with the number that the person saw.
	bulkOf(t, h, ada, `{"filter":{"status":"open"},"count":4,"change":{"assignee":"ada"}}`, 409)
	if a := bulkOf(t, h, ada, `{"filter":{"status":"open"},"count":5,"change":{"assignee":"ada"}}`, 200); a.Changed != 5 {
		t.Errorf("%s", outcomes(a))
	}
	changes := 0
	for _, e := range s.entries() {
		if e.Action == "alert.triage" && e.Outcome == "success" && len(e.Target.IDs) == 1 && e.Who.Name == "ada" {
			changes++
		}
	}
	if changes != 10 {
		t.Errorf("%d changes in the audit, want 10", changes)
	}
	for bad, want := range map[string]int{
		`{}`: 400, `{"ids":["a1"]}`: 400, `{"ids":["a1"],"filter":{},"count":1,"change":{"comment":"x"}}`: 400, `{"ids":["a1","a1"],"change":{"comment":"x"}}`: 400,
		`{"filter":{"status":"open"},"change":{"comment":"x"}}`: 400, `{"filter":{"stat":"open"},"count":1,"change":{"comment":"x"}}`: 400, `{"items":[{"id":"a1"}]}`: 400,
		`{"ids":["a1"],"change":{}}`: 400, `{"ids":["a1"],"change":{"status":"x"}}`: 400, `{"ids":["` + strings.Repeat("x", maxBulkBody) + `"],"change":{"comment":"x"}}`: 413,
	} {
		bulkOf(t, h, ada, bad, want)
	}
	var many []string
	for i := range maxBulk + 1 {
		many = append(many, fmt.Sprintf(`"x%d"`, i))
	}
	bulkOf(t, h, ada, `{"ids":[`+strings.Join(many, ",")+`],"change":{"comment":"x"}}`, 400)
	if a := bulkOf(t, h, ada, `{"ids":[`+strings.Join(many[1:], ",")+`],"change":{"comment":"x"}}`, 200); len(a.Data) != maxBulk || a.Changed != 0 {
		t.Errorf("%d of %d", a.Changed, len(a.Data))
	}
	s.mu.Lock()
	s.auditErr = http.ErrServerClosed
	s.mu.Unlock()
	bulkOf(t, h, ada, `{"ids":["a1"],"change":{"comment":"x"}}`, 500)
}

// TestConflictShowsTheOther: who was slower sees what is there now.
func TestConflictShowsTheOther(t *testing.T) {
	s := &fakeStore{}
	s.put("a1")
	o := options(s)
	h := newHandler(o)
	ada := s.give(o, "ada", Analyst)
	if w := askAs(h, ada, "PATCH", "/api/v1/alerts/a1", `{"assignee":"ada"}`); w.Code != 200 || w.Header().Get("ETag") != `"1"` {
		t.Fatal(w.Body)
	}
	if w := askAs(h, ada, "GET", "/api/v1/alerts/a1", ""); w.Header().Get("ETag") != `"1"` {
		t.Errorf("ETag %s", w.Header().Get("ETag"))
	}
	r := httptest.NewRequest("PATCH", "/api/v1/alerts/a1", strings.NewReader(`{"assignee":"bob"}`))
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+ada)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("If-Match", `"0"`)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 409 || p.Triage == nil || p.Triage.Assignee != "ada" || p.Triage.Revision != 1 {
		t.Errorf("%d %s: %v", w.Code, w.Body, err)
	}
}

// changeStream reads events of the stream of changes.
type changeStream struct {
	t    *testing.T
	body *bufio.Reader
	id   string
}

func openChanges(t *testing.T, base, token, last string) *changeStream {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/alerts/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &changeStream{t: t, body: bufio.NewReader(resp.Body)}
}

// next returns the next event of another kind than heartbeat and place.
func (c *changeStream) next() (kind, data string) {
	c.t.Helper()
	for {
		line, err := c.body.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			kind = v
		}
		if v, ok := strings.CutPrefix(line, "id: "); ok {
			c.id = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok {
			data = v
		}
		if line == "" && data != "" && kind != "heartbeat" && kind != "place" {
			return kind, data
		}
		if line == "" {
			kind, data = "", ""
		}
	}
}

// TestChanges: the second analyst sees what the first one does, as it happens, and
// after a break what happened meanwhile.
func TestChanges(t *testing.T) {
	s := &fakeStore{}
	s.put("a0")
	o := options(s)
	server := NewServer(o)
	web := httptest.NewServer(server.Handler)
	t.Cleanup(web.Close)
	o.Hosts = nil
	ada, bob := s.give(o, "ada", Analyst), s.give(o, "bob", Analyst)
	stream := openChanges(t, web.URL, bob, "")
	change := func(id, body string) {
		t.Helper()
		if w := askAs(server.Handler, ada, "PATCH", "/api/v1/alerts/"+id, body); w.Code != 200 {
			t.Fatal(w.Body)
		}
	}
	want := func(c *changeStream, kind, part string) {
		t.Helper()
		if k, data := c.next(); k != kind || !strings.Contains(data, part) {
			t.Errorf("%s %s, want %s with %s", k, data, kind, part)
		}
	}
	s.put("a1")
	want(stream, "alert", `"id":"a1","seq":2`)
	change("a1", `{"assignee":"ada"}`)
	want(stream, "triage", `{"id":"a1","triage":{"revision":1,"status":"new","assignee":"ada"`)
	s.put("a0")
	want(stream, "alert", `"id":"a0","seq":3,"revision":2`)
	last := stream.id
	change("a0", `{"comment":"one"}`)
	change("a0", `{"comment":"two"}`)
	s.put("a2")
	again := openChanges(t, web.URL, bob, last)
	kinds := map[string]bool{}
	for len(kinds) < 2 {
		k, data := again.next()
		kinds[k] = true
		if k == "triage" && strings.Contains(data, `"id":"a0"`) && !strings.Contains(data, `"comments":`) {
			t.Errorf("%s", data)
		}
	}
	for _, wrong := range []string{"x", "9-9", "-1-0"} {
		want(openChanges(t, web.URL, bob, wrong), "gone", "{}")
	}
}

// TestViewsOfAnAlert are of it alone.
func TestViewsOfAnAlert(t *testing.T) {
	s := &fakeStore{}
	s.put("a1")
	s.put("a2")
	s.put("a1")
	ip := pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"}
	s.feed[2].Principal, s.feed[2].Window.First, s.feed[2].Window.Last = ip, 5, 9
	s.feed[2].Exemplars = []pipeline.Exemplar{{Source: "access.log:1"}}
	s.feed[2].Campaign, s.feed[1].Campaign = "c", "c"
	s.requests = []pipeline.Request{{Time: 7, Kind: pipeline.PrincipalIP, Status: 200, Line: 1}, {Time: 6, Line: 2}}
	o := options(s)
	h := newHandler(o)
	ada := s.give(o, "ada", Analyst)
	if w := askAs(h, ada, "PATCH", "/api/v1/alerts/a1", `{"comment":"looking"}`); w.Code != 200 {
		t.Fatal(w.Body)
	}
	read := func(view string, into any) {
		t.Helper()
		w := askAs(h, ada, "GET", "/api/v1/alerts/a1/"+view, "")
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s %v", view, w.Code, w.Body, err)
		}
	}
	var revisions struct{ Data []revisionRow }
	if read("revisions", &revisions); len(revisions.Data) != 2 || revisions.Data[1].Revision != 2 || revisions.Data[1].Seq != 3 {
		t.Errorf("%+v", revisions)
	}
	var audit struct{ Data []auditOfRow }
	if read("audit", &audit); len(audit.Data) != 1 || audit.Data[0].Reason != "looking" || audit.Data[0].Who.Name != "ada" {
		t.Errorf("%+v", audit)
	}
	var requests struct {
		Data     []evidenceRow
		Evidence struct{ Marked int }
	}
	if read("requests", &requests); len(requests.Data) == 0 || s.sought.Principal != ip || s.sought.Since != 5 || s.sought.Until != 9 || requests.Evidence.Marked != 1 || !requests.Data[0].Evidence {
		t.Errorf("%+v %+v", requests, s.sought)
	}
	var related struct{ Data []relatedRow }
	if read("related", &related); len(related.Data) != 1 || related.Data[0].Alert.ID != "a2" || !slices.Contains(related.Data[0].Why, "campaign") {
		t.Errorf("%+v", related)
	}
}
