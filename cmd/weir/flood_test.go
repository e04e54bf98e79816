package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/alerts"
	"weir/pipeline"
	"weir/storage"
)

var flood = flag.Int("flood", 3000, "how many clients a detector set wrong finds within a minute")

// floods are the other sides while a flood of alerts comes.
type floods struct {
	mu      sync.Mutex
	indexed map[string]int // Splunk's events, by dedup_key
	pages   map[string][]string
	summary string // of the last page
	hook    map[string]bool
	counts  []float64 // of the groups that the webhook got
}

func (s *floods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := json.NewDecoder(strings.NewReader(string(body))); d.More(); {
		var e struct {
			Fields  map[string]string
			Action  string `json:"event_action"`
			Dedup   string `json:"dedup_key"`
			Payload struct{ Summary string }
			Data    struct {
				Count  float64
				Alerts []pipeline.Alert
			}
		}
		if err := d.Decode(&e); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		switch r.URL.Path {
		case "/pages":
			s.pages[e.Dedup] = append(s.pages[e.Dedup], e.Action)
			if e.Action == "trigger" {
				s.summary = e.Payload.Summary
			}
		case "/hook":
			s.counts = append(s.counts, e.Data.Count)
			for i := range e.Data.Alerts {
				s.hook[fmt.Sprint(e.Data.Alerts[i].ID, ".", e.Data.Alerts[i].Revision)] = true
			}
		default:
			s.indexed[e.Fields["dedup_key"]]++
		}
	}
	_, _ = io.WriteString(w, `{"text":"Success","code":0}`)
}

// TestFloodIsDelivered: each alert of a flood is a row in the feed and gets to the
// SIEM, which has the campaign and its count, too. The pager has one page for the
// detector, and its resolve; the webhook few messages. What is kept stays small.
func TestFloodIsDelivered(t *testing.T) {
	t.Parallel()
	n := *flood
	other := &floods{indexed: map[string]int{}, pages: map[string][]string{}, hook: map[string]bool{}}
	srv := httptest.NewServer(other)
	defer srv.Close()
	dir := t.TempDir()
	secret := writeFile(t, dir, "secret", []byte("hunter2\n"))
	cfg, err := parseConfig(fmt.Appendf(nil, `store: {path: %[3]q}
alerts:
  sinks:
    siem: {splunk: {url: %[1]q, token_file: %[2]q}}
    pager: {max_per_minute: 60000, pagerduty: {url: %[4]q, routing_key_file: %[2]q}}
    hook: {webhook: {url: %[5]q, bearer_file: %[2]q}}
  routes:
    - {to: [siem], continue: true}
    - {match: {severity: [high, critical]}, to: [pager, hook], group_by: [detector]}
`, srv.URL, secret, filepath.Join(dir, "weir.db"), srv.URL+"/pages", srv.URL+"/hook"))
	if err != nil {
		t.Fatal(err)
	}
	s := &service{cfg: cfg, log: zap.NewNop()}
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.db.Close()
	d, err := s.newDeliverer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	known := func() bool {
		for _, name := range sortedNames(cfg.Alerts.Sinks) {
			if _, known, err := s.db.SinkPosition(ctx, name); err != nil || !known {
				return false
			}
		}
		return true
	}
	waitFor(t, "the sinks are known", known)
	book := alerts.NewBook(cfg.Alerts, pipeline.AlertVersions{Weir: version})
	begin := pipeline.TimeOf(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	var seq int64
	commit := func(list []pipeline.Alert) {
		o := storage.Output{Stage: detectStage, Position: seq}
		for i := range list {
			o.Alerts = append(o.Alerts, storage.AlertRevision{Alert: list[i]})
		}
		if err := s.db.Commit(ctx, o); err != nil {
			t.Fatal(err)
		}
		d.Wake()
	}
	rows := 0
	var out []pipeline.Alert
	for i := range n {
		at := begin.Add(time.Duration(i) * time.Minute / time.Duration(n))
		tried := int64(20)
		out = book.Take(out, &pipeline.Finding{
			ID: fmt.Sprint("f", i), Time: at, Detector: "auth.stuffing", Level: "client", Score: 2 * pipeline.PageAt,
			Who:   pipeline.Principal{Kind: pipeline.PrincipalIP, Value: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)},
			Onset: at, First: at, Last: at, Title: "Credential stuffing", Outcome: pipeline.Outcome{Requests: 20, Attempted: 20, Accounts: &tried},
			Facts: pipeline.FindingFacts{CanSucceed: true}, Endpoint: pipeline.Endpoint{Method: "POST", Template: "/login"},
		})
		if len(out) >= 256 || i == n-1 {
			rows += len(out)
			seq++
			commit(out)
			out = out[:0]
		}
	}
	if st := book.Stats(); st.Open != 60 || st.Grouped != n-60 {
		t.Errorf("%+v", st)
	}
	before := peakMemory()
	snap, err := book.Snapshot()
	if err != nil || len(snap) > 1<<20+n*500 {
		t.Errorf("a checkpoint of %d bytes: %v", len(snap), err)
	}
	indexed := func() int { other.mu.Lock(); defer other.mu.Unlock(); return len(other.indexed) }
	waitFor(t, "the SIEM has every row", func() bool { return indexed() == rows })
	out = book.Advance(nil, begin.Add(2*time.Hour))
	rows += len(out)
	commit(out)
	waitFor(t, "the SIEM has the end", func() bool { return indexed() == rows })
	waitFor(t, "the page is resolved", func() bool {
		other.mu.Lock()
		defer other.mu.Unlock()
		for _, list := range other.pages {
			return list[len(list)-1] == "resolve"
		}
		return false
	})
	if st, err := s.db.Stats(ctx); err != nil || int(st.Alerts) != rows {
		t.Errorf("the feed has %d of %d rows: %v", st.Alerts, rows, err)
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if len(other.pages) != 1 || !strings.Contains(other.summary, "alerts open (detector auth.stuffing)") {
		t.Errorf("%d pages, %s", len(other.pages), other.summary)
	}
	for k, times := range other.indexed {
		if times != 1 {
			t.Errorf("%s is indexed %d times", k, times)
		}
	}
	if len(other.counts) > rows/10 || len(other.hook) < 61 || slices.Max(other.counts) > 100 {
		t.Errorf("%d messages to the webhook, of %d alerts", len(other.counts), len(other.hook))
	}
	pageEvents := 0
	for _, list := range other.pages {
		pageEvents += len(list)
	}
	t.Logf("%d rows, a checkpoint of %d kB, %d events to the pager, %d messages to the webhook; %s, %s before the checkpoint", rows, len(snap)>>10, pageEvents, len(other.counts), peakMemory(), before)
}

// peakMemory is the most that this process had resident.
func peakMemory() string {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "VmHWM") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return ""
}

// waitFor polls until ok.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(max(patience, time.Duration(*flood)*5*time.Millisecond))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}
