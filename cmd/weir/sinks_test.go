package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/alerts/schemas"
	"weir/pipeline"
)

// siems stands for the other sides of several sinks.
type siems struct {
	mu      sync.Mutex
	refuse  bool // the webhook calls everything malformed
	busy    bool // the bulk API tells each third document to come again
	hook    map[string]int
	elastic map[string]int // stored documents, by _id
	splunk  map[string]int // indexed events, by dedup_key
	taken   map[string][]string
	wrong   []string
}

func (s *siems) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil: // the sender was killed within it
	case r.URL.Path == "/hook":
		if s.refuse {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		s.hook[r.Header.Get("webhook-id")]++
	case r.URL.Path == "/_bulk":
		s.bulk(w, body)
	case strings.HasSuffix(r.URL.Path, "/ack"):
		acks := map[string]bool{}
		var asked struct{ Acks []int64 }
		if err := json.Unmarshal(body, &asked); err != nil {
			s.wrong = append(s.wrong, err.Error())
		}
		for _, id := range asked.Acks {
			for _, k := range s.taken[fmt.Sprint(id)] {
				s.splunk[k]++
			}
			acks[fmt.Sprint(id)] = true
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"acks": acks})
	default:
		var keys []string
		for d := json.NewDecoder(bytes.NewReader(body)); d.More(); {
			var e struct{ Fields map[string]string }
			if err := d.Decode(&e); err != nil {
				s.wrong = append(s.wrong, err.Error())
				return
			}
			keys = append(keys, e.Fields["dedup_key"])
		}
		id := fmt.Sprint(len(s.taken))
		s.taken[id] = keys
		fmt.Fprintf(w, `{"text":"Success","code":0,"ackId":%s}`, id)
	}
}

// bulk creates documents; while it is busy each third is told to come again, once.
func (s *siems) bulk(w http.ResponseWriter, body []byte) {
	var items []any
	failed := false
	lines := bytes.Split(bytes.TrimSpace(body), []byte("\n"))
	for i := 0; i < len(lines); i += 2 {
		var a struct {
			Create struct {
				ID string `json:"_id"`
			}
		}
		if err := json.Unmarshal(lines[i], &a); err != nil {
			s.wrong = append(s.wrong, err.Error())
		}
		status := http.StatusCreated
		switch n, there := s.elastic[a.Create.ID]; {
		case there && n == 0 || s.busy && !there && len(s.elastic)%3 == 2:
			if status = http.StatusTooManyRequests; there {
				status = http.StatusCreated
				s.elastic[a.Create.ID] = 1
			} else {
				s.elastic[a.Create.ID] = 0
			}
		case there:
			status = http.StatusConflict
		default:
			s.elastic[a.Create.ID] = 1
		}
		failed = failed || status != http.StatusCreated
		items = append(items, map[string]any{"create": map[string]any{"status": status}})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": failed, "items": items})
}

// all reports whether each of ids is in got.
func (s *siems) all(ids []string, got map[string]int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(ids, func(id string) bool { return got[id] == 0 })
}

// TestSinksAcrossKills: four sinks get everything though the process is killed;
// what one called malformed is a dead letter, and gets there by a replay beside the
// running service.
func TestSinksAcrossKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := disordered(trafficLog(*killSeed), *killSeed)
	ref := referenceFor(t, map[string][]byte{"access.log": text(log)})
	s := &siems{refuse: true, busy: *kills > 6, hook: map[string]int{}, elastic: map[string]int{}, splunk: map[string]int{}, taken: map[string][]string{}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	secret := writeFile(t, dir, "secret", []byte(hookSecret+"\n"))
	lines, store := filepath.Join(dir, "alerts.ndjson"), filepath.Join(dir, "weir.db")
	config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil, `store: {path: %[4]q}
alerts:
  sinks:
    siem: {webhook: {url: %[1]q, secret_file: %[2]q}}
    elastic: {elasticsearch: {url: %[3]q, api_key_file: %[2]q}}
    splunk: {splunk: {url: %[3]q, token_file: %[2]q, ack: true}}
    disk: {file: {path: %[5]q}}
`, srv.URL+"/hook", secret, srv.URL, store, lines))
	f := newFeed(t, filepath.Join(dir, "access.log"), text(log), *killSeed)
	args := []string{"run", "-c", config, "--store", store, "--listen", "127.0.0.1:0", "--edition", ref.edition, f.path}
	d := startDaemon(t, args...)
	eventually(t, "the sinks are known", d, func() bool { return d.url() != "" && sinkKnown(t, store) })
	begin(t, d, f)
	rng := rand.New(rand.NewPCG(*killSeed, 14))
	const steps = 100
	pace := time.NewTicker(10 * time.Millisecond) // of the writer
	defer pace.Stop()
	for step := 0; f.write(t, 1.0/steps); step++ {
		if step > 20 && rng.IntN(steps) < 3 {
			d.kill(t)
			d = startDaemon(t, args...)
		}
		<-pace.C
	}
	d.waitReady(t)
	eventually(t, "all lines are detected", d, func() bool {
		return drained(t, store, int64(len(log)), 1) && d.metric("weir_detect_lag_records") == 0
	})
	ids := wanted(t, store)
	if len(ids) < 2 {
		t.Fatalf("only %d revisions are for the sinks", len(ids))
	}
	letters := func(sink string) string {
		r := weir(t, "sink", "dead-letters", sink, "-c", config)
		if r.code != exitOK {
			t.Fatalf("weir sink dead-letters: %s", r.stderr)
		}
		return string(r.stdout)
	}
	eventually(t, "what is called malformed is a dead letter", d, func() bool {
		return strings.Count(letters("siem"), "answered 422") == len(ids)
	})
	s.mu.Lock()
	s.refuse = false
	s.mu.Unlock()
	first := regexp.MustCompile(`(?m)^(\d+) `).FindStringSubmatch(letters("siem"))[1]
	for _, args := range [][]string{{"replay", "siem", first}, {"replay", "siem", "--all"}, {"test", "siem"}} {
		if r := weir(t, append([]string{"sink", "-c", config}, args...)...); r.code != exitOK {
			t.Fatalf("weir sink %v: %s", args, r.stderr)
		}
	}
	eventually(t, "a replay brings each to the webhook", d, func() bool { return s.all(ids, s.hook) })
	eventually(t, "each is a document once", d, func() bool { return s.all(ids, s.elastic) })
	eventually(t, "each is indexed", d, func() bool { return s.all(ids, s.splunk) })
	nothingLeft := regexp.MustCompile(`(?m)^siem +webhook +0 +0 +0$`)
	eventually(t, "weir sink list shows that nothing is left", d, func() bool {
		return nothingLeft.Match(weir(t, "sink", "list", "-c", config).stdout)
	})
	d.stop(t)
	data, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	onDisk := map[string]int{}
	for line := range strings.Lines(string(data)) {
		var a pipeline.Alert
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("line %s: %v", line, err)
		}
		onDisk[fmt.Sprintf("%s.%d", a.ID, a.Revision)]++
	}
	if !s.all(ids, onDisk) {
		t.Errorf("the file has %d of %d revisions", len(onDisk), len(ids))
	}
	for _, w := range s.wrong {
		t.Error(w)
	}
	if len(letters("siem")) > 0 {
		t.Errorf("dead letters are left: %s", letters("siem"))
	}
}

// TestRsyslogTakesAlerts: a real receiver, over TCP with counted octets.
func TestRsyslogTakesAlerts(t *testing.T) {
	rsyslogd, err := exec.LookPath("rsyslogd")
	if err != nil {
		if rsyslogd = "/usr/sbin/rsyslogd"; exec.Command(rsyslogd, "-v").Run() != nil {
			t.Skip("there is no rsyslogd here")
		}
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	out := filepath.Join(dir, "out.log")
	conf := writeFile(t, dir, "rsyslog.conf", fmt.Appendf(nil, `global(workDirectory=%q maxMessageSize="64k")
module(load="imtcp")
input(type="imtcp" port=%q address="127.0.0.1")
template(name="fields" type="string" string="%%app-name%% %%msgid%% %%syslogfacility-text%%.%%syslogseverity-text%% %%structured-data%% %%msg%%\n")
action(type="omfile" file=%q template="fields")
`, dir, port, out))
	cmd := exec.Command(rsyslogd, "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
	var said safeBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Skipf("rsyslogd does not start: %v", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil, "alerts: {sinks: {siem: {syslog: {address: 'tcp://127.0.0.1:%s', facility: local4}}}}\n", port))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	sent, text := false, ""
	for range 200 {
		sent = sent || weir(t, "sink", "test", "siem", "-c", config).code == exitOK
		data, err := os.ReadFile(out)
		if text = string(data); err == nil && strings.Contains(text, "\n") {
			break
		}
		<-tick.C
	}
	m := regexp.MustCompile(`(?m)^weir health\.test local4\.info \[weir@32473 id="(test-[0-9a-f]+)" revision="1" severity="info" tier="context" status="open"\] .*?(CEF:0\|.*)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("rsyslog wrote %q; it said %s", text, said.String())
	}
	c, err := schemas.ParseCEF(m[2])
	if err != nil || c.Extension["externalId"] != m[1] {
		t.Errorf("%v: %s", err, m[2])
	}
}
