package alerts

import (
	"context"
	"errors"
	"fmt"
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

// memoryStore is a Store that forgets nothing and can fail.
type memoryStore struct {
	mu      sync.Mutex
	rows    []Row
	cursor  map[string]int64
	retries map[int64]Retry
	dead    []string
	fail    error

	told   map[string]map[string]Told
	groups map[string]map[string]SinkGroup
}

func newStore(n int) *memoryStore {
	s := &memoryStore{cursor: map[string]int64{"siem": 0}, retries: map[int64]Retry{}}
	for range n {
		s.add(pipeline.Alert{Severity: "high"})
	}
	return s
}

func (s *memoryStore) add(a pipeline.Alert) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seq := int64(len(s.rows) + 1)
	a.ID, a.Revision = fmt.Sprint("a", seq), 1
	s.rows = append(s.rows, Row{Seq: seq, Alert: a})
}

func (s *memoryStore) AlertsAfter(_ context.Context, seq int64, limit int) ([]Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := s.rows[min(seq, int64(len(s.rows))):]
	return slices.Clone(rows[:min(limit, len(rows))]), s.fail
}

func (s *memoryStore) LastAlert(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.rows)), s.fail
}

func (s *memoryStore) SinkCursor(_ context.Context, sink string) (int64, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.cursor[sink]
	return n, ok, s.fail
}

func (s *memoryStore) SetSinkCursor(_ context.Context, sink string, seq int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail == nil {
		s.cursor[sink] = seq
	}
	return s.fail
}

func (s *memoryStore) SaveRetry(_ context.Context, _ string, r Retry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retries[r.Seq] = r
	return s.fail
}

func (s *memoryStore) DueRetries(_ context.Context, _ string, now time.Time, _ int) ([]Retry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Retry
	for _, r := range s.retries {
		if !r.Next.After(now) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Retry) int { return a.Next.Compare(b.Next) })
	return out, s.fail
}

func (s *memoryStore) DropRetry(_ context.Context, _ string, seq int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.retries, seq)
	return s.fail
}

func (s *memoryStore) DeadLetter(_ context.Context, _ string, seq int64, reason string, attempts []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.retries, seq)
	s.dead = append(s.dead, fmt.Sprintf("%d %s %d", seq, reason, strings.Count(string(attempts), `"error"`)))
	return s.fail
}

func (s *memoryStore) Told(_ context.Context, sink string) ([]Told, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Told
	for _, id := range sortedKeys(s.told[sink]) {
		out = append(out, s.told[sink][id])
	}
	return out, s.fail
}

func (s *memoryStore) SinkGroups(_ context.Context, sink string) ([]SinkGroup, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []SinkGroup
	for _, key := range sortedKeys(s.groups[sink]) {
		out = append(out, s.groups[sink][key])
	}
	return out, s.fail
}

func (s *memoryStore) SaveTold(_ context.Context, sink string, c ToldChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if s.told == nil {
		s.told, s.groups = map[string]map[string]Told{}, map[string]map[string]SinkGroup{}
	}
	if s.told[sink] == nil {
		s.told[sink], s.groups[sink] = map[string]Told{}, map[string]SinkGroup{}
	}
	s.cursor[sink] = c.Cursor
	for _, id := range c.Over {
		delete(s.told[sink], id)
	}
	for _, t := range c.Told {
		s.told[sink][t.Alert] = t
	}
	for _, key := range c.Closed {
		delete(s.groups[sink], key)
	}
	for _, g := range c.Groups {
		s.groups[sink][g.Group] = g
	}
	return nil
}

func (s *memoryStore) LatestAlert(_ context.Context, id string) (r Row, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.rows {
		if s.rows[i].Alert.ID == id && (!ok || s.rows[i].Alert.Revision > r.Alert.Revision) {
			r, ok = s.rows[i], true
		}
	}
	return r, ok, s.fail
}

// sinkFunc is a sink made of a rule: what to answer for the n-th try of an alert.
// mu is the test's while it looks: it lets go of it only in pass.
type sinkFunc struct {
	mu    sync.Mutex
	rule  func(id string, try int) error
	tries map[string]int
	sent  []string
	log   []time.Time // of tries of a1
	all   int
}

func (s *sinkFunc) Send(_ context.Context, batch []pipeline.Alert) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := batch[0].ID
	s.tries[id]++
	s.all++
	if id == "a1" {
		s.log = append(s.log, time.Now())
	}
	err := s.rule(id, s.tries[id])
	if err == nil {
		s.sent = append(s.sent, id)
	}
	return err
}

var errDown = errors.New("answered 503 Service Unavailable")

// deliver runs f while a Deliverer serves rule from st.
func deliver(t *testing.T, st *memoryStore, rule func(id string, try int) error, f func(s *sinkFunc, d *Deliverer, logs *observer.ObservedLogs)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		s := &sinkFunc{rule: rule, tries: map[string]int{}}
		d, err := NewDeliverer(DelivererOptions{
			Config: DefaultConfig(), Store: st, Sinks: map[string]Sink{"siem": s}, Log: zap.New(core), Metrics: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		synctest.Wait()
		s.mu.Lock()
		f(s, d, logs)
		s.mu.Unlock()
		cancel()
		wg.Wait()
	})
}

// deliverBatches is deliver for a sink that takes batches of up to n.
func deliverBatches(t *testing.T, st *memoryStore, n int, rule func([]pipeline.Alert) error, f func(pass func(time.Duration), logs *observer.ObservedLogs)) {
	t.Helper()
	deliverPaced(t, st, SinkConfig{Batch: n}, rule, f)
}

func deliverPaced(t *testing.T, st *memoryStore, c SinkConfig, rule func([]pipeline.Alert) error, f func(pass func(time.Duration), logs *observer.ObservedLogs)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		cfg := DefaultConfig()
		cfg.Sinks = map[string]SinkConfig{"siem": c}
		d, err := NewDeliverer(DelivererOptions{Config: cfg, Store: st, Sinks: map[string]Sink{"siem": batchSink(rule)}, Log: zap.New(core), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		f(func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}, logs)
		cancel()
		wg.Wait()
	})
}

// pass lets d go by and waits until all is still.
func (s *sinkFunc) pass(d time.Duration) {
	s.mu.Unlock()
	defer s.mu.Lock()
	time.Sleep(d) // the bubble's clock: takes no time
	synctest.Wait()
}

func TestDeliversInOrder(t *testing.T) {
	st := newStore(200)
	st.rows[3].Backfill = true
	st.rows[4].Alert.Envelope.Triage = map[string]any{backfillKey: true}
	st.rows[5].Alert.Severity = "low" // no route takes it
	deliver(t, st, func(string, int) error { return nil }, func(s *sinkFunc, d *Deliverer, logs *observer.ObservedLogs) {
		var want []string
		for i := 1; i <= 200; i++ {
			if i < 4 || i > 6 {
				want = append(want, fmt.Sprint("a", i))
			}
		}
		if diff := cmp.Diff(want, s.sent); diff != "" {
			t.Error(diff)
		}
		if st.cursor["siem"] != 200 || d.Status()[0] != (SinkStatus{Name: "siem", State: "ok"}) {
			t.Errorf("cursor %d, %+v", st.cursor["siem"], d.Status())
		}
		st.add(pipeline.Alert{Severity: "critical"})
		d.Wake()
		s.pass(0)
		if len(s.sent) != 198 {
			t.Error("a wake-up delivers nothing")
		}
		st.add(pipeline.Alert{Severity: "low"})
		s.pass(2 * pollEvery)
		if st.cursor["siem"] != 202 {
			t.Error("the cursor stays at what is skipped")
		}
	})
}

func TestNewSinkStartsNow(t *testing.T) {
	st := newStore(5)
	delete(st.cursor, "siem")
	deliver(t, st, func(string, int) error { return nil }, func(s *sinkFunc, _ *Deliverer, _ *observer.ObservedLogs) {
		if st.cursor["siem"] != 5 {
			t.Error("where it starts is not stored")
		}
		st.add(pipeline.Alert{Severity: "high"})
		s.pass(2 * pollEvery)
		if diff := cmp.Diff([]string{"a6"}, s.sent); diff != "" {
			t.Error(diff)
		}
	})
}

// One alert that never gets through keeps the schedule and ends as a dead letter.
func TestSchedule(t *testing.T) {
	st := newStore(1)
	deliver(t, st, func(string, int) error { return errDown }, func(s *sinkFunc, d *Deliverer, logs *observer.ObservedLogs) {
		s.pass(100 * time.Hour)
		plan := schedule()
		if len(s.log) != len(plan) {
			t.Fatalf("%d tries, want %d", len(s.log), len(plan))
		}
		for i := 1; i < len(plan); i++ {
			gap := s.log[i].Sub(s.log[i-1])
			if low, high := plan[i]*8/10, plan[i]*12/10+2*pollEvery; gap < low || gap > high {
				t.Errorf("try %d after %s, want %s to %s", i+1, gap, low, high)
			}
		}
		if diff := cmp.Diff([]string{"1 answered 503 Service Unavailable 10"}, st.dead); diff != "" {
			t.Error(diff)
		}
		if logs.Len() != 1 {
			t.Errorf("%d log lines for one lasting error", logs.Len())
		}
	})
}

// One poisoned alert holds up the others for seconds, and is tried on apart.
func TestPoisonedAlertBlocksNobody(t *testing.T) {
	st := newStore(50)
	deliver(t, st, func(id string, try int) error {
		if id == "a1" && try < 5 || id == "a2" && try < 4 {
			return errDown
		}
		return nil
	}, func(s *sinkFunc, d *Deliverer, _ *observer.ObservedLogs) {
		s.pass(10 * time.Minute) // two at once look like an outage, once
		if len(s.sent) < 48 || st.cursor["siem"] != 50 {
			t.Errorf("after 10 minutes %d of 48 are sent, cursor %d", len(s.sent), st.cursor["siem"])
		}
		s.pass(8 * time.Hour)
		sent := slices.Clone(s.sent)
		slices.Sort(sent)
		if len(sent) != 50 || len(slices.Compact(sent)) != 50 || len(st.retries) != 0 || len(st.dead) != 0 {
			t.Errorf("%d sent, %d retries, dead %v", len(s.sent), len(st.retries), st.dead)
		}
		if d.Status()[0].State != "ok" {
			t.Errorf("%+v", d.Status())
		}
	})
}

// A retry that fails to the end is a dead letter too.
func TestRetryEndsAsDeadLetter(t *testing.T) {
	st := newStore(3)
	deliver(t, st, func(id string, _ int) error {
		if id == "a1" {
			return errDown
		}
		return nil
	}, func(s *sinkFunc, _ *Deliverer, _ *observer.ObservedLogs) {
		s.pass(100 * time.Hour)
		if len(st.dead) != 1 || s.tries["a1"] != len(schedule()) || len(st.retries) != 0 {
			t.Errorf("dead %v after %d tries, %d retries", st.dead, s.tries["a1"], len(st.retries))
		}
	})
}

// An outage of a week loses nothing, keeps the order and ends within the half hour.
func TestOutage(t *testing.T) {
	st := newStore(20)
	up := false
	deliver(t, st, func(string, int) error {
		if up {
			return nil
		}
		return errDown
	}, func(s *sinkFunc, d *Deliverer, _ *observer.ObservedLogs) {
		s.pass(7 * 24 * time.Hour)
		if d.Status()[0].State != "down" || d.Status()[0].Lag != 20 || len(st.dead) != 0 || len(st.retries) != 0 {
			t.Errorf("%+v, dead %v, %d retries", d.Status()[0], st.dead, len(st.retries))
		}
		if s.all > 2*7*48*2 {
			t.Errorf("%d tries in a week hammer the sink", s.all)
		}
		up = true
		s.pass(40 * time.Minute)
		var want []string
		for i := 1; i <= 20; i++ {
			want = append(want, fmt.Sprint("a", i))
		}
		if diff := cmp.Diff(want, s.sent); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPermanentAndGone(t *testing.T) {
	st := newStore(4)
	deliver(t, st, func(id string, _ int) error {
		switch id {
		case "a2":
			return fmt.Errorf("answered 400: %w", pipeline.ErrPermanent)
		case "a4":
			return fmt.Errorf("answered 410: %w", ErrGone)
		}
		return nil
	}, func(s *sinkFunc, d *Deliverer, _ *observer.ObservedLogs) {
		s.pass(time.Hour)
		if diff := cmp.Diff([]string{"a1", "a3"}, s.sent); diff != "" {
			t.Error(diff)
		}
		if len(st.dead) != 1 || s.tries["a4"] != 1 || st.cursor["siem"] != 3 || d.Status()[0].State != "disabled" {
			t.Errorf("dead %v, a4 tried %d times, cursor %d, %+v", st.dead, s.tries["a4"], st.cursor["siem"], d.Status())
		}
	})
}

func TestRefusedIsDegraded(t *testing.T) {
	st := newStore(1)
	deliver(t, st, func(_ string, try int) error {
		if try < 4 {
			return fmt.Errorf("answered 401: %w", ErrRefused)
		}
		return nil
	}, func(s *sinkFunc, d *Deliverer, logs *observer.ObservedLogs) {
		s.pass(time.Minute)
		if d.Status()[0].State != "degraded" {
			t.Errorf("%+v", d.Status())
		}
		s.pass(time.Hour)
		if len(s.sent) != 1 || d.Status()[0].State != "ok" || logs.Len() != 2 {
			t.Errorf("sent %v, %+v, %d log lines", s.sent, d.Status(), logs.Len())
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	st := newStore(3)
	deliver(t, st, func(id string, try int) error {
		if id == "a1" && try == 1 {
			return &RetryAfter{Wait: 3 * time.Hour, Err: errDown}
		}
		return nil
	}, func(s *sinkFunc, _ *Deliverer, _ *observer.ObservedLogs) {
		s.pass(3*time.Hour - time.Minute)
		if s.all != 1 {
			t.Errorf("%d tries though asked to wait", s.all)
		}
		s.pass(2 * time.Minute)
		if diff := cmp.Diff([]string{"a1", "a2", "a3"}, s.sent); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStoreTrouble(t *testing.T) {
	st := newStore(3)
	st.fail = errors.New("disk full")
	deliver(t, st, func(string, int) error { return nil }, func(s *sinkFunc, _ *Deliverer, logs *observer.ObservedLogs) {
		s.pass(time.Minute)
		if len(s.sent) != 0 || logs.Len() != 1 || !strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()), "disk full") {
			t.Errorf("sent %v, logs %v", s.sent, logs.All())
		}
		st.mu.Lock()
		st.fail = nil
		st.mu.Unlock()
		s.pass(10 * time.Second)
		if len(s.sent) != 3 || st.cursor["siem"] != 3 {
			t.Errorf("sent %v, cursor %d", s.sent, st.cursor["siem"])
		}
	})
}

// A crash after the sink took an alert and before that was stored sends the
// same revision again, under the same id, and nothing is left out.
func TestCrashSendsAgain(t *testing.T) {
	st := newStore(3)
	var got []string
	for range 2 {
		deliver(t, st, func(id string, _ int) error {
			got = append(got, id)
			if id == "a2" && len(got) == 2 {
				st.mu.Lock()
				st.fail = errors.New("crash") // before the cursor is stored
				st.mu.Unlock()
			}
			return nil
		}, func(s *sinkFunc, _ *Deliverer, _ *observer.ObservedLogs) { s.pass(time.Second) })
		st.fail = nil
	}
	if diff := cmp.Diff([]string{"a1", "a2", "a2", "a3"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	for range 2 { // a reload registers again
		if _, err := NewDeliverer(DelivererOptions{Store: newStore(0), Sinks: map[string]Sink{"siem": &sinkFunc{}}, Log: zap.NewNop(), Metrics: reg}); err != nil {
			t.Fatal(err)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	if diff := cmp.Diff([]string{"weir_dead_letters_total", "weir_delivery_total"}, names); diff != "" {
		t.Error(diff)
	}
}
