package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/pipeline"
)

var (
	chaosAlerts = flag.Int("alerts", 600, "how many revisions go through each sink's mishaps")
	chaosSeed   = flag.Uint64("chaosseed", 1, "chooses the mishaps and the kills")
)

// mortal is a store of a process that can be killed: it writes nothing then. It dies
// by itself at one of its writes, after the sink took what is to be written down.
type mortal struct {
	*memoryStore
	writes atomic.Int64 // left
}

var errKilled = errors.New("killed")

func (m *mortal) alive() error {
	if m.writes.Add(-1) < 0 {
		return errKilled
	}
	return nil
}

func (m *mortal) SetSinkCursor(ctx context.Context, sink string, seq int64) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.memoryStore.SetSinkCursor(ctx, sink, seq)
}

func (m *mortal) SaveTold(ctx context.Context, sink string, c ToldChange) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.memoryStore.SaveTold(ctx, sink, c)
}

func (m *mortal) SaveRetry(ctx context.Context, sink string, r Retry) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.memoryStore.SaveRetry(ctx, sink, r)
}

func (m *mortal) DropRetry(ctx context.Context, sink string, seq int64) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.memoryStore.DropRetry(ctx, sink, seq)
}

func (m *mortal) DeadLetter(ctx context.Context, sink string, seq int64, reason string, attempts []byte) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.memoryStore.DeadLetter(ctx, sink, seq, reason, attempts)
}

// chaosRows are n revisions of n/4 alerts, each alert's in order; one in 97 is such
// that no receiver takes it, where poison is.
func chaosRows(n int, poison bool) (rows []Row, poisoned map[string]bool) {
	rng := rand.New(rand.NewPCG(11, 13))
	next := map[int]int{}
	poisoned = map[string]bool{}
	for i := range n {
		id := rng.IntN(max(n/4, 1))
		next[id]++
		a := *TestAlert("1.0", noon.Add(time.Duration(i)*time.Second))
		a.ID, a.Revision, a.Severity, a.Detector, a.Change.Kind = fmt.Sprintf("a%05d", id), next[id], "high", "auth.stuffing", "grew"
		if poison && i%97 == 50 {
			a.Title = "poison"
			poisoned[revisionOf(&a)] = true
		}
		rows = append(rows, Row{Seq: int64(i) + 1, Alert: a})
	}
	return rows, poisoned
}

// through delivers rows over cfg while the process is killed every few seconds, and
// returns the store as it is at the end.
func through(t *testing.T, cfg SinkConfig, dial *pipeNet, rows []Row, kills bool) *memoryStore {
	t.Helper()
	st := &memoryStore{cursor: map[string]int64{"siem": 0}, retries: map[int64]Retry{}, rows: rows}
	all := DefaultConfig()
	all.Sinks = map[string]SinkConfig{"siem": cfg}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(*chaosSeed, 6))
	begun := time.Now()
	for life := 0; ; life++ {
		sink, err := OpenSink(cfg, SinkOptions{Version: "1.0", dial: dial.dial})
		if err != nil {
			t.Fatal(err)
		}
		m := &mortal{memoryStore: st}
		m.writes.Store(1 + int64(rng.IntN(max(len(rows)/50, 30))))
		d, err := NewDeliverer(DelivererOptions{Config: all, Store: m, Sinks: map[string]Sink{"siem": sink}, Log: zap.NewNop(), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		lasts := time.Duration(2000+rng.IntN(6000)) * time.Millisecond
		if !kills || life >= max(200, len(rows)/10) { // enough crashes; the other mishaps go on
			lasts = 100 * time.Hour
			m.writes.Store(1 << 40)
		}
		for until := time.Now().Add(lasts); time.Now().Before(until) && m.writes.Load() >= 0; {
			time.Sleep(min(time.Until(until), time.Second)) // the bubble's clock
			st.mu.Lock()
			done := st.cursor["siem"] == int64(len(rows)) && len(st.retries) == 0
			st.mu.Unlock()
			if done {
				cancel()
				wg.Wait()
				t.Logf("killed %d times, %s", life, time.Since(begun).Round(time.Second))
				return st
			}
		}
		m.writes.Store(-1)
		cancel()
		wg.Wait()
		if lasts >= time.Hour {
			t.Fatalf("cursor %d of %d, %d retries after %s", st.cursor["siem"], len(rows), len(st.retries), lasts)
		}
	}
}

// mustHaveAll: every revision but the poisoned ones arrived, each alert's in order,
// and the dead letters are the poisoned ones.
func mustHaveAll(t *testing.T, r *receiver, rows []Row, poisoned map[string]bool, st *memoryStore) {
	t.Helper()
	got := map[string]bool{}
	newest := map[string]int{}
	for _, k := range r.keys {
		if got[k] {
			continue
		}
		got[k] = true
		id, revision, _ := strings.Cut(k, ".")
		n, err := strconv.Atoi(revision)
		if err != nil || n <= newest[id] {
			t.Fatalf("%s comes after revision %d", k, newest[id])
		}
		newest[id] = n
	}
	missing := 0
	for i := range rows {
		if k := revisionOf(&rows[i].Alert); got[k] == poisoned[k] {
			missing++
		}
	}
	dead := map[string]bool{}
	for _, d := range st.dead {
		seq, why, _ := strings.Cut(d, " ")
		n, err := strconv.Atoi(seq)
		if err != nil || !poisoned[revisionOf(&rows[n-1].Alert)] {
			t.Errorf("a dead letter that is none: %s (%s)", d, why)
		}
		dead[seq] = true
	}
	if missing > 0 || len(got) != len(rows)-len(poisoned) || len(dead) != len(poisoned) {
		t.Errorf("%d of %d revisions arrived, %d dead letters for %d that nobody takes; %d are wrong", len(got), len(rows), len(dead), len(poisoned), missing)
	}
	if len(r.wrong) > 0 {
		t.Errorf("a faithful server would complain:\n%s", strings.Join(r.wrong, "\n"))
	}
	t.Logf("%d revisions, %d arrivals, %d dead letters", len(rows), len(r.keys), len(dead))
}

// TestSinksThroughMishaps: 429, 500, timeouts, resets, items refused, and a process
// that is killed every few seconds; each against a fake of its API.
func TestSinksThroughMishaps(t *testing.T) {
	secret := secretFile(t, "hunter2\n")
	where := "http://192.0.2.1"
	signing := secretFile(t, oldSecret+"\n")
	minute := 60_000
	for _, c := range []struct {
		name   string
		cfg    SinkConfig
		handle func(*receiver) func(http.ResponseWriter, *http.Request, []byte)
	}{
		{
			"webhook",
			SinkConfig{Webhook: &WebhookConfig{URL: URL(where + "/hook"), InsecureHTTP: true, SecretFile: signing}},
			func(r *receiver) func(http.ResponseWriter, *http.Request, []byte) { return r.webhook },
		},
		{
			"splunk",
			SinkConfig{Batch: 50, Splunk: &SplunkConfig{URL: URL(where), InsecureHTTP: true, TokenFile: secret, Ack: true}},
			func(r *receiver) func(http.ResponseWriter, *http.Request, []byte) { return r.splunk },
		},
		{
			"elasticsearch",
			SinkConfig{Batch: 50, Elasticsearch: &ElasticsearchConfig{URL: URL(where), InsecureHTTP: true, APIKeyFile: secret}},
			func(r *receiver) func(http.ResponseWriter, *http.Request, []byte) { return r.elastic },
		},
		{"sentinel", SinkConfig{Batch: 50, Sentinel: &SentinelConfig{
			URL: URL(where), Authority: URL(where), InsecureHTTP: true, Rule: "dcr-1", Stream: "Custom-Weir_CL", TenantID: "t", ClientID: "c", ClientSecretFile: secret,
		}}, func(r *receiver) func(http.ResponseWriter, *http.Request, []byte) { return r.sentinel }},
		{
			"pagerduty",
			SinkConfig{MaxPerMinute: minute, PagerDuty: &PagerDutyConfig{URL: URL(where), InsecureHTTP: true, RoutingKeyFile: secret}},
			func(r *receiver) func(http.ResponseWriter, *http.Request, []byte) { return r.pagerDuty },
		},
		{
			"slack",
			SinkConfig{MaxPerMinute: minute, Slack: &SlackConfig{URLFile: secretFile(t, where+"/services/hunter2"), InsecureHTTP: true}},
			func(r *receiver) func(http.ResponseWriter, *http.Request, []byte) { return r.slack },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rows, poisoned := chaosRows(*chaosAlerts, true)
				r := newReceiver(*chaosSeed)
				r.secrets = []string{oldSecret}
				if c.name == "webhook" {
					r.rotate = rotation(t, r, signing)
				}
				p := newPipeNet()
				srv := &http.Server{Handler: r.serve(c.handle(r))}
				go func() { _ = srv.Serve(p) }()
				st := through(t, c.cfg, p, rows, true)
				time.Sleep(10 * time.Minute) // what hangs ends
				r.mu.Lock()
				mustHaveAll(t, r, rows, poisoned, st)
				r.mu.Unlock()
				close(p.conns)
				srv.Close()
			})
		})
	}
}

// rotation changes the secrets step by step: both, the new one alone, both, ...
// The receiver changes its own in between, while both sign.
func rotation(t *testing.T, r *receiver, file string) func() {
	step := 0
	return func() {
		step++
		content := []string{newSecret + "\n" + oldSecret, newSecret, oldSecret + "\n" + newSecret, oldSecret}[(step-1)%4]
		if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
			t.Error(err)
		}
		r.secrets = []string{[]string{newSecret, newSecret, oldSecret, oldSecret}[(step-1)%4]}
	}
}

// TestSyslogThroughMishaps: connections that break with messages in the receiver's
// buffer lose nothing while weir lives; nor does a kill while the receiver lives.
func TestSyslogThroughMishaps(t *testing.T) {
	for _, kills := range []bool{false, true} {
		t.Run(fmt.Sprintf("kills=%t", kills), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rows, _ := chaosRows(*chaosAlerts, false)
				r := newReceiver(*chaosSeed)
				p := newPipeNet()
				loses := 3
				if kills {
					loses = 0
				}
				go r.syslogTCP(p, loses)
				cfg := SinkConfig{Batch: 5, MaxPerMinute: 120, Syslog: &SyslogConfig{Address: "tcp://192.0.2.1:514", Hostname: "gw1"}}
				st := through(t, cfg, p, rows, kills)
				synctest.Wait()
				r.mu.Lock()
				// Nobody notices that the very last ones are lost, until another comes.
				got := map[string]bool{}
				for _, k := range r.keys {
					got[k] = true
				}
				if n := len(rows) - loses; loses > 0 {
					rows = slices.DeleteFunc(rows, func(row Row) bool { return row.Seq > int64(n) && !got[revisionOf(&row.Alert)] })
				}
				mustHaveAll(t, r, rows, nil, st)
				r.mu.Unlock()
				close(p.conns)
			})
		})
	}
}

// TestFileThroughKills: every line is whole and on the disk, over all rotated files.
func TestFileThroughKills(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "alerts.ndjson")
	synctest.Test(t, func(t *testing.T) {
		rows, _ := chaosRows(*chaosAlerts, false)
		cfg := SinkConfig{Batch: 20, MaxPerMinute: 60, File: &FileConfig{Path: path, MaxBytes: 200_000, Keep: 1000}}
		st := through(t, cfg, newPipeNet(), rows, true)
		names, err := filepath.Glob(path + "*")
		if err != nil || len(names) < 3 {
			t.Fatalf("files %v: %v", names, err)
		}
		slices.SortFunc(names, func(a, b string) int { return age(b) - age(a) })
		r := newReceiver(*chaosSeed)
		for _, name := range names {
			keys, size := linesOf(t, name)
			if size > 200_000 {
				t.Errorf("%s has %d bytes", name, size)
			}
			r.take(keys...)
		}
		mustHaveAll(t, r, rows, nil, st)
	})
}

func age(name string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(filepath.Ext(name), "."))
	return n
}

// linesOf reads the keys of a file of native alerts.
func linesOf(t *testing.T, name string) (keys []string, size int) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		t.Errorf("%s ends in half a line", name)
	}
	for line := range strings.Lines(string(data)) {
		var a pipeline.Alert
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		keys = append(keys, revisionOf(&a))
	}
	return keys, len(data)
}

func TestChaosIsRough(t *testing.T) {
	r := newReceiver(*chaosSeed)
	seen := map[string]int{}
	for range 2000 {
		seen[r.mishap()]++
	}
	for _, m := range []string{"429", "429 later", "500", "503", "hang", "hang taken", "reset", "reset taken"} {
		if seen[m] == 0 {
			t.Errorf("%q never happens: %v", m, slices.Collect(maps.Keys(seen)))
		}
	}
}
