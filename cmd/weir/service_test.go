package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"weir/pipeline"
)

// daemon is a weir run of a test.
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	log  *safeBuffer
}

// safeBuffer takes what a process writes while a test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startDaemon starts a process that the test's end kills if nothing else did.
func startDaemon(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: weirCommand(t, args...), done: make(chan struct{}), log: &safeBuffer{}}
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.done)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.done
		if text := d.log.String(); strings.Contains(text, "goroutine ") {
			t.Errorf("weir run crashed:\n%s", text)
		}
	})
	return d
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if d.ended() {
		t.Fatalf("weir run ended by itself:\n%s", d.log)
	}
	_ = d.cmd.Process.Kill()
	<-d.done
}

// stop asks the process to end, and fails when it does not do so in time and
// with 0.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%v\n%s", err, d.log)
	}
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		t.Fatalf("weir run did not end within 10 s of SIGTERM:\n%s", d.log)
	}
	if code := d.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Fatalf("exit %d after SIGTERM, want 0:\n%s", code, d.log)
	}
}

var addressInLog = regexp.MustCompile(`"http": "(http://[^"]+)"`)

// url is where the process serves, "" while it does not.
func (d *daemon) url() string {
	if m := addressInLog.FindStringSubmatch(d.log.String()); m != nil {
		return m[1]
	}
	return ""
}

// waitReady waits until the process serves.
func (d *daemon) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, "weir run serves", d, func() bool { return d.url() != "" })
}

// get returns an answer: status 0 when there is none.
func (d *daemon) get(path string) (status int, header http.Header, body string) {
	base := d.url()
	if base == "" {
		return 0, nil, ""
	}
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(base + path)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	return resp.StatusCode, resp.Header, string(b)
}

// metric is the value of a metric without labels, or the sum over its labels;
// -1 while it cannot be read.
func (d *daemon) metric(name string) float64 {
	_, _, body := d.get("/metrics")
	sum, found := 0.0, false
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err == nil {
			sum, found = sum+v, true
		}
	}
	if !found {
		return -1
	}
	return sum
}

// patience is how long a test waits for what must come.
const patience = 40 * time.Second

// eventually polls until ok, and fails with the daemon's log when it does not
// come or the process ends.
func eventually(t *testing.T, what string, d *daemon, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if d.ended() {
			t.Fatalf("weir run ended before %s:\n%s", what, d.log)
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s\n%s", patience, what, d.log)
		}
		<-tick.C
	}
}

// receiver is a webhook's other end: it verifies each message and keeps it.
type receiver struct {
	*httptest.Server
	hook *standardwebhooks.Webhook

	mu      sync.Mutex
	failing bool // answers 500
	failed  int
	got     map[string]int // messages by webhook-id
	alerts  []pipeline.Alert
	bad     []string
}

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{hook: hook, got: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		return // the sender was killed within the message
	}
	if r.failing {
		r.failed++
		http.Error(w, "no", http.StatusInternalServerError)
		return
	}
	id := req.Header.Get("webhook-id")
	if err := r.hook.Verify(body, req.Header); err != nil {
		r.bad = append(r.bad, fmt.Sprintf("message %s: %v", id, err))
	}
	var m struct {
		Type string         `json:"type"`
		Data pipeline.Alert `json:"data"`
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Type != "alert."+m.Data.Change.Kind {
		r.bad = append(r.bad, fmt.Sprintf("message %s: type %q, %v", id, m.Type, err))
	}
	if want := fmt.Sprintf("%s.%d", m.Data.ID, m.Data.Revision); id != want {
		r.bad = append(r.bad, fmt.Sprintf("message %s holds revision %s", id, want))
	}
	r.got[id]++
	r.alerts = append(r.alerts, m.Data)
}

func (r *receiver) fail(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = on
}

func (r *receiver) failures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// missing is which of ids did not come.
func (r *receiver) missing(ids []string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return r.got[id] > 0 })
}

// sinkConfig configures the receiver as a sink; no route: what pages goes out.
func (r *receiver) config(t *testing.T, dir string) string {
	t.Helper()
	secret := writeFile(t, dir, "secret", []byte(hookSecret+"\n"))
	return writeFile(t, dir, "weir.yaml", fmt.Appendf(nil,
		"alerts: {sinks: {siem: {webhook: {url: %q, secret_file: %q}}}}\n", r.URL+"/hook", secret))
}

// wanted is what the sink must get of a store's feed.
func wanted(t *testing.T, store string) (ids []string) {
	t.Helper()
	for _, a := range storedRevisions(t, store) {
		if !a.Backfill && (a.Alert.Severity == "high" || a.Alert.Severity == "critical") {
			ids = append(ids, fmt.Sprintf("%s.%d", a.Alert.ID, a.Alert.Revision))
		}
	}
	return ids
}

// sinkKnown reports whether the store knows the sink: from then on each alert
// must reach it.
func sinkKnown(t *testing.T, store string) bool {
	t.Helper()
	db := openStored(t, store)
	defer db.Close()
	_, known, err := db.SinkPosition(context.Background(), "siem")
	if err != nil {
		t.Fatal(err)
	}
	return known
}

func TestWebhookAcrossKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := disordered(trafficLog(*killSeed), *killSeed)
	ref := referenceFor(t, map[string][]byte{"access.log": text(log)})
	r := newReceiver(t)
	store := filepath.Join(dir, "weir.db")
	f := newFeed(t, filepath.Join(dir, "access.log"), text(log), *killSeed)
	args := []string{"run", "-c", r.config(t, dir), "--store", store, "--listen", "127.0.0.1:0", "--edition", ref.edition, f.path}

	d := startDaemon(t, args...)
	eventually(t, "the sink is known", d, func() bool { return d.url() != "" && sinkKnown(t, store) })
	begin(t, d, f)
	rng := rand.New(rand.NewPCG(*killSeed, 12))
	const steps = 200
	pace := time.NewTicker(10 * time.Millisecond) // of the writer
	defer pace.Stop()
	killed := 0
	for step := 0; f.write(t, 1.0/steps); step++ {
		// The sink fails for a while, in the middle of it.
		r.fail(step > 80 && step < 130)
		if step > 20 && rng.IntN(steps) < *kills+2 {
			d.kill(t)
			killed++
			d = startDaemon(t, args...)
		}
		<-pace.C
	}
	d.waitReady(t)
	eventually(t, "all lines are detected", d, func() bool {
		return drained(t, store, int64(len(log)), 1) && d.metric("weir_detect_lag_records") == 0
	})
	// The last kill: whatever waits for its turn is tried again at the start.
	d.kill(t)
	d = startDaemon(t, args...)
	d.waitReady(t)
	ids := wanted(t, store)
	if len(ids) < 2 {
		t.Fatalf("only %d revisions are for the sink", len(ids))
	}
	eventually(t, "each revision reaches the sink", d, func() bool { return len(r.missing(ids)) == 0 })
	d.stop(t)
	mustBeSame(t, "weir run", ref.alerts, storedAlerts(t, store))

	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bad {
		t.Error(b)
	}
	stored := map[string]string{}
	for _, a := range storedRevisions(t, store) {
		stored[fmt.Sprintf("%s.%d", a.Alert.ID, a.Alert.Revision)] = canonical(a.Alert)
	}
	onsets := map[string]string{}
	for _, a := range r.alerts {
		id := fmt.Sprintf("%s.%d", a.ID, a.Revision)
		if stored[id] != canonical(a) {
			t.Errorf("message %s is not what is stored", id)
		}
		if !slices.Contains(ids, id) {
			t.Errorf("message %s is not for the sink", id)
		}
		family, _, _ := strings.Cut(a.Detector, ".")
		onset := fmt.Sprint(family, a.Principal, a.Window.Onset)
		if other, ok := onsets[onset]; ok && other != a.ID {
			t.Errorf("one case under two ids, %s and %s", other, a.ID)
		}
		onsets[onset] = a.ID
	}
	t.Logf("%d kills, %d messages of %d revisions", killed+1, len(r.alerts), len(ids))
}

// TestSinkOutage: a sink that refuses for a while, without a restart, gets
// everything once it is well again, within the wait of a first failure.
func TestSinkOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := trafficLog(*killSeed)
	ref := referenceFor(t, map[string][]byte{"access.log": text(log)})
	r := newReceiver(t)
	r.fail(true)
	store := filepath.Join(dir, "weir.db")
	f := newFeed(t, filepath.Join(dir, "access.log"), text(log), *killSeed)
	d := startDaemon(t, "run", "-c", r.config(t, dir), "--store", store, "--listen", "127.0.0.1:0", "--edition", ref.edition, f.path)
	eventually(t, "the sink is known", d, func() bool { return d.url() != "" && sinkKnown(t, store) })
	begin(t, d, f)
	for f.write(t, 0.1) {
	}
	eventually(t, "the sink has failed", d, func() bool { return r.failures() > 0 })
	if n := d.metric("weir_delivery_total"); n < 1 {
		t.Errorf("weir_delivery_total %v, want the failure in it", n)
	}
	r.fail(false)
	eventually(t, "each revision reaches the sink", d, func() bool {
		ids := wanted(t, store)
		return len(ids) > 1 && len(r.missing(ids)) == 0
	})
	d.stop(t)
	if !strings.Contains(d.log.String(), "500") {
		t.Errorf("the log does not tell of the failure:\n%s", d.log)
	}
}

func TestServiceHTTP(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := trafficLog(*killSeed)
	path := writeFile(t, dir, "access.log", text(log))
	store := filepath.Join(dir, "weir.db")
	d := startDaemon(t, "run", "--store", store, "--listen", "127.0.0.1:0", path)
	d.waitReady(t)
	eventually(t, "the log is detected", d, func() bool {
		return d.metric("weir_requests_total") == float64(len(log)) && d.metric("weir_detect_lag_records") == 0
	})

	type page struct {
		Data   []json.RawMessage `json:"data"`
		Before *int64            `json:"before"`
	}
	get := func(path string, want int, kind string) string {
		t.Helper()
		status, header, body := d.get(path)
		if status != want || !strings.HasPrefix(header.Get("Content-Type"), kind) {
			t.Errorf("GET %s: %d %s %.200s, want %d %s", path, status, header.Get("Content-Type"), body, want, kind)
		}
		return body
	}
	list := func(path string) (p page) {
		t.Helper()
		if err := json.Unmarshal([]byte(get(path, 200, "application/json")), &p); err != nil {
			t.Errorf("GET %s: %v", path, err)
		}
		return p
	}
	count := func(path string, want int) {
		t.Helper()
		if p := list(path); len(p.Data) != want {
			t.Errorf("GET %s: %d items, want %d", path, len(p.Data), want)
		}
	}
	problem := func(path string, status int, detail string) {
		t.Helper()
		var p struct {
			Type, Title, Detail string
			Status              int
		}
		body := get(path, status, "application/problem+json")
		if err := json.Unmarshal([]byte(body), &p); err != nil || p.Status != status || p.Title == "" || !strings.Contains(p.Detail, detail) {
			t.Errorf("GET %s: %s (%v), want the detail %q", path, body, err, detail)
		}
	}

	get("/healthz", 200, "text/plain")
	get("/readyz", 200, "text/plain")
	for _, name := range []string{"weir_lines_total", "weir_requests_total", "weir_alert_revisions_total", "weir_detect_lag_records", "weir_replay_differences"} {
		if d.metric(name) < 0 {
			t.Errorf("no metric %s", name)
		}
	}
	if body := get("/metrics", 200, "text/plain"); strings.Contains(body, guesserAddress) {
		t.Error("a client's address is in the metrics")
	}

	all := list("/api/v1/alerts")
	if len(all.Data) < 4 || all.Before == nil {
		t.Fatalf("%d alerts", len(all.Data))
	}
	ids := map[string]bool{}
	for next := "/api/v1/alerts?limit=1"; ; {
		p := list(next)
		if len(p.Data) == 0 || len(p.Data) > 1 || p.Before == nil || len(ids) > len(all.Data) {
			break
		}
		var a pipeline.Alert
		if err := json.Unmarshal(p.Data[0], &a); err != nil {
			t.Fatal(err)
		}
		if ids[a.ID] {
			t.Errorf("alert %s is on two pages", a.ID)
		}
		ids[a.ID] = true
		if p := list("/api/v1/alerts/" + a.ID); len(p.Data) != a.Revision {
			t.Errorf("alert %s has %d revisions, want %d", a.ID, len(p.Data), a.Revision)
		}
		next = fmt.Sprintf("/api/v1/alerts?limit=1&before=%d", *p.Before)
	}
	if len(ids) != len(all.Data) {
		t.Errorf("%d alerts over all pages, want %d", len(ids), len(all.Data))
	}
	count("/api/v1/alerts?principal=ip:"+guesserAddress, 1)
	count("/api/v1/alerts?detector=auth.bruteforce", 1)
	count("/api/v1/alerts?principal=ip:192.0.2.1", 0)
	count("/api/v1/alerts?status=resolved&principal=ip:"+guesserAddress, 1)
	count("/api/v1/alerts?severity=info", 0)
	count("/api/v1/alerts?until=2026-03-02T09:59:59Z", 0)
	count("/api/v1/alerts?since=2026-03-02T09:00:00Z", len(all.Data))
	high, rest := list("/api/v1/alerts?severity=high,critical"), list("/api/v1/alerts?severity=info,low,medium")
	if len(high.Data) == 0 || len(high.Data)+len(rest.Data) != len(all.Data) {
		t.Errorf("%d graver and %d milder alerts of %d", len(high.Data), len(rest.Data), len(all.Data))
	}
	problem("/api/v1/alerts?severty=high", 400, "severty")
	problem("/api/v1/alerts?limit=many", 400, "limit")
	problem("/api/v1/alerts?limit=-1", 400, "limit")
	problem("/api/v1/alerts?since=yesterday", 400, "since")
	problem("/api/v1/alerts?principal=203.0.113.7", 400, "principal")
	problem("/api/v1/alerts?a=1&b=2", 400, "b")
	problem("/api/v1/alerts/nothing", 404, "id")
	problem("/api/v1/nothing", 404, "/api/v1/alerts")

	count("/api/v1/requests?limit=7", 7)
	count("/api/v1/requests?limit=10000", len(log))
	count("/api/v1/requests?principal=ip:"+guesserAddress, 90)
	count("/api/v1/requests?principal=ip:"+guesserAddress+"&status=302", 1)
	count("/api/v1/requests?path="+url.QueryEscape("/api/orders/5")+"&principal=ip:"+walkerAddress, 150)
	count("/api/v1/requests?status=599", 0)
	problem("/api/v1/requests?principle=ip:"+guesserAddress, 400, "principle")
	problem("/api/v1/requests?limit=1000000", 400, "limit")
	problem("/api/v1/requests?until=1", 400, "until")
	var r struct{ IP, Method, Path, Source string }
	if p := list("/api/v1/requests?principal=ip:" + guesserAddress + "&status=302"); len(p.Data) == 1 {
		if err := json.Unmarshal(p.Data[0], &r); err != nil || r.IP != guesserAddress || r.Path != "/login" || r.Method != "POST" || !strings.HasPrefix(r.Source, path+":") {
			t.Errorf("request %s: %v", p.Data[0], err)
		}
	}

	// A store has one weir.
	second := weir(t, "run", "--store", store, "--listen", "127.0.0.1:0", path)
	if want := fmt.Sprintf("process %d has it", d.cmd.Process.Pid); second.code != exitFailed || !strings.Contains(second.stderr, want) || !strings.Contains(second.stderr, "another store") {
		t.Errorf("a second weir run: exit %d, want 1 and %q:\n%s", second.code, want, second.stderr)
	}
	// An address, too.
	taken := weir(t, "run", "--store", filepath.Join(dir, "other.db"), "--listen", strings.TrimPrefix(d.url(), "http://"), path)
	if taken.code != exitFailed || !strings.Contains(taken.stderr, "choose another with --listen") {
		t.Errorf("the same address: exit %d:\n%s", taken.code, taken.stderr)
	}
	open := weir(t, "run", "--store", filepath.Join(dir, "third.db"), "--listen", "0.0.0.0:0", path)
	if open.code != exitFailed || !strings.Contains(open.stderr, "is open to others: give tls") {
		t.Errorf("an open address: exit %d:\n%s", open.code, open.stderr)
	}
	begun := time.Now()
	d.stop(t)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("SIGTERM took %s", took)
	}

	// What is stored is there again, before a line is written.
	d = startDaemon(t, "run", "--store", store, "--listen", "127.0.0.1:0", path)
	d.waitReady(t)
	count("/api/v1/alerts", len(all.Data))
	count("/api/v1/requests?limit=10000", len(log))
	d.stop(t)
}
