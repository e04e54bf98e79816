package alerts

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// pipeNet is a network of one server, for a bubble of synctest.
type pipeNet struct{ conns chan net.Conn }

func newPipeNet() *pipeNet { return &pipeNet{make(chan net.Conn)} }

func (p *pipeNet) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipeNet) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p *pipeNet) Close() error   { return nil }
func (p *pipeNet) Addr() net.Addr { return &net.TCPAddr{} }

// receiver is the other side of a sink: what it took, and the mishaps on the way.
type receiver struct {
	mu      sync.Mutex
	rng     *rand.Rand
	keys    []string // id.revision, in order of arrival
	wrong   []string // what a faithful server would complain about
	present map[string]bool
	tokens  int
	acks    map[int64][]string // taken and not indexed yet; nil for never
	nextAck int64
	rotate  func() // another secret
	secrets []string
}

func newReceiver(seed uint64) *receiver {
	return &receiver{rng: rand.New(rand.NewPCG(seed, 3)), present: map[string]bool{}, acks: map[int64][]string{}}
}

func (r *receiver) complain(format string, args ...any) {
	if len(r.wrong) < 10 {
		r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
	}
}

// take records keys; poison is what no retry can deliver.
func (r *receiver) take(keys ...string) {
	for _, k := range keys {
		r.keys = append(r.keys, k)
		r.present[k] = true
	}
}

func isPoison(body []byte) bool { return bytes.Contains(body, []byte("poison")) }

// mishap is what happens to a request: "" nothing.
func (r *receiver) mishap() string {
	if n := r.rng.IntN(100); n < 12 {
		return []string{"429", "429 later", "500", "503", "hang", "hang taken", "reset", "reset taken", "408", "502", "504", "reset"}[n]
	}
	return ""
}

// serve answers like the API that handle is, with mishaps before and after it.
func (r *receiver) serve(handle func(w http.ResponseWriter, req *http.Request, body []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		m := r.mishap()
		r.mu.Unlock()
		reset := func() {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				c.Close()
			}
		}
		switch m {
		case "hang":
			time.Sleep(time.Minute)
			reset()
		case "reset":
			reset()
		case "hang taken", "reset taken": // it is taken and nobody learns of it
			r.mu.Lock()
			handle(&discard{h: http.Header{}}, req, body)
			r.mu.Unlock()
			if m == "hang taken" {
				time.Sleep(time.Minute)
			}
			reset()
		case "":
			r.mu.Lock()
			defer r.mu.Unlock()
			handle(w, req, body)
		default:
			code, later, _ := strings.Cut(m, " ")
			if later != "" {
				w.Header().Set("Retry-After", "7")
			}
			n, _ := strconv.Atoi(code)
			w.WriteHeader(n)
		}
	})
}

// discard is a ResponseWriter into the void.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// idRevision are the members that name a revision in a native alert.
type idRevision struct {
	ID       string `json:"id"`
	Revision int    `json:"revision"`
}

func (k idRevision) String() string { return fmt.Sprintf("%s.%d", k.ID, k.Revision) }

func (r *receiver) webhook(w http.ResponseWriter, req *http.Request, body []byte) {
	ok := 0
	for _, s := range r.secrets {
		wh, err := standardwebhooks.NewWebhook(s)
		if err == nil && wh.VerifyIgnoringTimestamp(body, req.Header) == nil {
			ok++
		}
	}
	if ok == 0 {
		r.complain("the reference library refuses the signature of %s", req.Header.Get("webhook-id"))
	}
	if isPoison(body) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	r.take(req.Header.Get("webhook-id"))
	if r.rotate != nil && len(r.keys)%500 == 499 {
		r.rotate()
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) splunk(w http.ResponseWriter, req *http.Request, body []byte) {
	say := func(status, code int, more string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"text":"…","code":%d%s}`, code, more)
	}
	if req.Header.Get("Authorization") != "Splunk hunter2" {
		say(403, 4, "")
		return
	}
	channel := req.Header.Get("X-Splunk-Request-Channel")
	if channel == "" {
		say(400, 10, "")
		return
	}
	if strings.HasSuffix(req.URL.Path, "/ack") {
		var asked struct{ Acks []int64 }
		if err := json.Unmarshal(body, &asked); err != nil || req.URL.Query().Get("channel") != channel {
			say(400, 11, "")
			return
		}
		acks := map[string]bool{}
		for _, id := range asked.Acks {
			keys, ok := r.acks[id]
			ok = ok && keys != nil && r.rng.IntN(3) > 0 // not indexed yet
			if acks[strconv.FormatInt(id, 10)] = ok; ok {
				r.take(keys...)
				delete(r.acks, id)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"acks": acks})
		return
	}
	if len(body) > splunkLimit {
		r.complain("a request of %d bytes", len(body))
	}
	if isPoison(body) {
		say(400, 6, `,"invalid-event-number":0`)
		return
	}
	var keys []string
	d := json.NewDecoder(bytes.NewReader(body))
	for d.More() {
		var e struct {
			Time       float64
			Sourcetype string
			Event      struct {
				Severity string
				ID       string `json:"id"`
				Native   idRevision
			}
			Fields map[string]string
		}
		if err := d.Decode(&e); err != nil {
			say(400, 6, "")
			return
		}
		if e.Event.ID != e.Event.Native.ID || e.Fields["dedup_key"] != e.Event.Native.String() || e.Sourcetype != "weir:alert" || e.Time == 0 {
			r.complain("splunk event %+v", e)
		}
		keys = append(keys, e.Event.Native.String())
	}
	r.nextAck++
	if r.acks[r.nextAck] = keys; r.rng.IntN(20) == 0 {
		r.acks[r.nextAck] = nil // taken, lost before it was indexed
	}
	say(200, 0, fmt.Sprintf(`,"ackId":%d`, r.nextAck))
}

func (r *receiver) elastic(w http.ResponseWriter, req *http.Request, body []byte) {
	if req.Header.Get("Authorization") != "ApiKey hunter2" || req.URL.Path != "/_bulk" || req.Header.Get("Content-Type") != "application/x-ndjson" {
		r.complain("%s %v", req.URL, req.Header)
	}
	lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	var items []any
	failed := false
	for i := 0; i+1 < len(lines); i += 2 {
		var action struct {
			Create struct {
				Index string `json:"_index"`
				ID    string `json:"_id"`
			}
		}
		if err := json.Unmarshal(lines[i], &action); err != nil || action.Create.Index != elasticStream {
			r.complain("action %s", lines[i])
		}
		status, kind := 201, ""
		switch {
		case isPoison(lines[i+1]):
			status, kind = 400, "document_parsing_exception"
		case r.present[action.Create.ID]:
			status, kind = 409, "version_conflict_engine_exception"
		case r.rng.IntN(30) == 0:
			status, kind = 429, "es_rejected_execution_exception"
		default:
			r.take(action.Create.ID)
		}
		item := map[string]any{"_id": action.Create.ID, "status": status}
		if kind != "" {
			failed = true
			item["error"] = map[string]string{"type": kind, "reason": "hunter2"}
		}
		items = append(items, map[string]any{"create": item})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"took": 3, "errors": failed, "items": items})
}

func (r *receiver) sentinel(w http.ResponseWriter, req *http.Request, body []byte) {
	if strings.HasSuffix(req.URL.Path, "/oauth2/v2.0/token") {
		if s := string(body); !strings.Contains(s, "client_secret=hunter2") || !strings.Contains(s, "grant_type=client_credentials") || !strings.Contains(s, "monitor.azure.com") {
			r.complain("token request %s", s)
		}
		r.tokens++
		fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3599,"access_token":"t%d"}`, r.tokens)
		return
	}
	if want := "/dataCollectionRules/dcr-1/streams/Custom-Weir_CL"; req.URL.Path != want || req.URL.Query().Get("api-version") != "2023-01-01" {
		r.complain("posted to %s", req.URL)
	}
	if got := req.Header.Get("Authorization"); got != fmt.Sprintf("Bearer t%d", r.tokens) || r.rng.IntN(40) == 0 {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var rows []struct {
		AlertId       string
		Revision      int
		TimeGenerated time.Time
		Alert         idRevision
	}
	if err := json.Unmarshal(body, &rows); err != nil || len(rows) == 0 {
		r.complain("rows: %v", err)
	}
	if len(body) > 1_000_000 || len(rows) > 1 && r.rng.IntN(20) == 0 {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	if isPoison(body) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, row := range rows {
		if row.AlertId != row.Alert.ID || row.TimeGenerated.IsZero() {
			r.complain("row %+v", row)
		}
		r.take(row.Alert.String())
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) pagerDuty(w http.ResponseWriter, _ *http.Request, body []byte) {
	var e struct {
		Routing string `json:"routing_key"`
		Action  string `json:"event_action"`
		Dedup   string `json:"dedup_key"`
		Payload struct {
			Summary, Source, Severity string
			Details                   struct{ Revision int } `json:"custom_details"`
		}
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Routing != "hunter2" || len(body) > 512_000 || e.Payload.Summary == "" || len(e.Payload.Summary) > 1024 ||
		e.Payload.Source == "" || !slices.Contains([]string{"critical", "error", "warning", "info"}, e.Payload.Severity) {
		r.complain("event %s", body)
	}
	if isPoison(body) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.take(fmt.Sprintf("%s.%d", e.Dedup, e.Payload.Details.Revision))
	w.WriteHeader(http.StatusAccepted)
}

func (r *receiver) slack(w http.ResponseWriter, _ *http.Request, body []byte) {
	var m struct {
		Text   string
		Blocks []struct {
			Type     string
			Text     struct{ Text string }
			Elements []struct{ Text string }
		}
	}
	if err := json.Unmarshal(body, &m); err != nil || len(m.Blocks) < 2 || len(m.Blocks) > 50 || len(m.Blocks[0].Text.Text) > 150 {
		r.complain("message %s", body)
		return
	}
	if isPoison(body) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, "invalid_blocks")
		return
	}
	foot := m.Blocks[len(m.Blocks)-1].Elements[0].Text
	r.take(foot[strings.LastIndex(foot, " ")+1:])
	fmt.Fprint(w, "ok")
}

// syslogTCP reads counted frames from each connection, and breaks some of them off
// with up to loses messages read and lost.
func (r *receiver) syslogTCP(p *pipeNet, loses int) {
	for {
		c, err := p.Accept()
		if err != nil {
			return
		}
		r.readSyslog(c, loses)
		c.Close()
	}
}

func (r *receiver) readSyslog(c net.Conn, loses int) {
	in := bufio.NewReader(c)
	var read []string
	r.mu.Lock()
	end := 1 << 30
	if loses > 0 {
		end = 50 + r.rng.IntN(200)
	}
	r.mu.Unlock()
	for len(read) < end {
		size, err := in.ReadString(' ')
		if err != nil {
			break
		}
		n, err := strconv.Atoi(strings.TrimSpace(size))
		m := make([]byte, max(n, 0))
		if err == nil {
			_, err = io.ReadFull(in, m)
		}
		key, problem := syslogKey(string(m))
		r.mu.Lock()
		if err != nil || problem != "" {
			r.complain("syslog %q: %v %s", m, err, problem)
		}
		read = append(read, key)
		if kept := len(read) - loses; kept > 0 { // the last ones are in a buffer yet
			r.take(read[kept-1])
		}
		r.mu.Unlock()
	}
	if len(read) < end { // it ended in order: all is kept
		r.mu.Lock()
		r.take(read[max(len(read)-loses, 0):]...)
		r.mu.Unlock()
	}
}

// syslogKey reads id and revision from the structured data.
func syslogKey(m string) (key, problem string) {
	part := strings.SplitN(m, " ", 7)
	if len(part) != 7 || !strings.HasPrefix(part[0], "<") || !strings.HasSuffix(part[0], ">1") || part[3] != "weir" || part[5] != "auth.stuffing" {
		return "", "header"
	}
	if _, err := time.Parse(time.RFC3339Nano, part[1]); err != nil {
		return "", err.Error()
	}
	data, text, ok := strings.Cut(part[6], "] \xef\xbb\xbf")
	if !ok || !strings.HasPrefix(text, "CEF:0|weir|weir|") {
		return "", "text"
	}
	value := func(name string) string {
		_, v, _ := strings.Cut(data, " "+name+`="`)
		v, _, _ = strings.Cut(v, `"`)
		return v
	}
	return value("id") + "." + value("revision"), ""
}
