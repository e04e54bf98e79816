package alerts

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest/observer"

	"weir/pipeline"
)

// TestBatchesKeepOrder: parts of a batch fail; no later revision gets before an
// earlier one, and those refused for good alone are dead letters.
func TestBatchesKeepOrder(t *testing.T) {
	st := newStore(0)
	for i, id := range []string{"a", "b", "a", "c", "b", "a", "d"} {
		st.rows = append(st.rows, Row{Seq: int64(i) + 1, Alert: pipeline.Alert{ID: id, Revision: i + 1, Severity: "high"}})
	}
	var got []string
	var sizes []int
	tries := map[string]int{}
	rule := func(batch []pipeline.Alert) error {
		errs := make([]error, len(batch))
		bad := false
		for i := range batch {
			k := revisionOf(&batch[i])
			tries[k]++
			switch {
			case k == "a.1" && tries[k] < 4:
				errs[i] = errDown
			case k == "b.5":
				errs[i] = fmt.Errorf("400: %w", pipeline.ErrPermanent)
			default:
				got = append(got, k)
			}
			bad = bad || errs[i] != nil
		}
		sizes = append(sizes, len(batch))
		if bad {
			return &ItemErrors{errs}
		}
		return nil
	}
	deliverBatches(t, st, 10, rule, func(pass func(time.Duration), _ *observer.ObservedLogs) {
		pass(time.Hour)
		if d := cmp.Diff([]string{"b.2", "c.4", "d.7", "a.1", "a.3", "a.6"}, got); d != "" {
			t.Errorf("%s%v", d, got)
		}
		if len(st.dead) != 1 || !strings.HasPrefix(st.dead[0], "5 ") || len(st.retries) != 0 || st.cursor["siem"] != 7 {
			t.Errorf("dead %v, retries %v, cursor %d", st.dead, st.retries, st.cursor["siem"])
		}
		if sizes[0] != 2 {
			t.Errorf("batches of %v: want a and b first, without a's second revision", sizes)
		}
	})
}

// TestBatchRefusedTogether: each is tried alone, so that the good ones get through.
func TestBatchRefusedTogether(t *testing.T) {
	st := newStore(20)
	var got []string
	rule := func(batch []pipeline.Alert) error {
		if slices.ContainsFunc(batch, func(a pipeline.Alert) bool { return a.ID == "a7" }) {
			return fmt.Errorf("answered 400: %w", pipeline.ErrPermanent)
		}
		for _, a := range batch {
			got = append(got, a.ID)
		}
		return nil
	}
	deliverBatches(t, st, 10, rule, func(pass func(time.Duration), _ *observer.ObservedLogs) {
		pass(time.Minute)
		if len(got) != 19 || len(st.dead) != 1 || !strings.HasPrefix(st.dead[0], "7 ") || !slices.IsSortedFunc(got, func(a, b string) int { return len(a)*100 - len(b)*100 + strings.Compare(a, b) }) {
			t.Errorf("got %v, dead %v", got, st.dead)
		}
	})
}

// TestPace: attempts are as far apart as the limit says.
func TestPace(t *testing.T) {
	st := newStore(30)
	var sent atomic.Int64
	deliverPaced(t, st, SinkConfig{MaxPerMinute: 6}, func([]pipeline.Alert) error { sent.Add(1); return nil }, func(pass func(time.Duration), _ *observer.ObservedLogs) {
		pass(2 * time.Minute)
		if n := sent.Load(); n < 12 || n > 14 {
			t.Errorf("%d attempts in 2 minutes, want 6 a minute", n)
		}
		pass(4 * time.Minute)
		if n := sent.Load(); n != 30 {
			t.Errorf("%d attempts in 6 minutes for 30 alerts", n)
		}
	})
}

// TestParkedBehindACrash: a crash between the end of a retry and what waits behind
// it leaves nothing waiting for ever.
func TestParkedBehindACrash(t *testing.T) {
	st := newStore(2)
	st.rows[1].Alert.ID, st.rows[0].Alert.ID = "a", "a"
	st.cursor["siem"] = 2
	st.retries[2] = Retry{Seq: 2, Next: time.Now().Add(parkedFor)}
	n := 0
	deliverBatches(t, st, 1, func([]pipeline.Alert) error { n++; return nil }, func(pass func(time.Duration), _ *observer.ObservedLogs) {
		pass(time.Minute)
		if n != 1 || len(st.retries) != 0 {
			t.Errorf("%d sent, retries %v", n, st.retries)
		}
	})
}

func TestChunks(t *testing.T) {
	f := func(sizes []int, limit int, refuse func(from, to int) error, wantPosts string, wantErr string) {
		t.Helper()
		var posts []string
		err := chunks(len(sizes), limit, func(i int) int { return sizes[i] }, func(from, to int) error {
			posts = append(posts, fmt.Sprintf("%d-%d", from, to))
			return refuse(from, to)
		})
		if got := strings.Join(posts, " "); got != wantPosts || fmt.Sprint(err) != wantErr {
			t.Errorf("%v: posted %s, %v; want %s, %s", sizes, got, err, wantPosts, wantErr)
		}
	}
	fine := func(int, int) error { return nil }
	f([]int{1, 1, 1}, 10, fine, "0-3", "<nil>")
	f([]int{6, 6, 6}, 10, fine, "0-1 1-2 2-3", "<nil>")
	f([]int{4, 4, 40, 4}, 10, fine, "0-2 2-3 3-4", "<nil>")
	f([]int{1, 1, 1, 1}, 10, func(from, to int) error {
		if to-from > 1 {
			return errTooLarge
		}
		return nil
	}, "0-4 0-2 0-1 1-2 2-4 2-3 3-4", "<nil>")
	f([]int{1}, 10, func(int, int) error { return errTooLarge }, "0-1", "the body is too large: permanent")
	down := func(from, _ int) error {
		if from > 0 {
			return errDown
		}
		return nil
	}
	f([]int{6, 6, 6}, 10, down, "0-1 1-2", "2 of 3 alerts were not taken: answered 503 Service Unavailable")
	f([]int{6, 6}, 10, func(int, int) error { return errDown }, "0-1", "answered 503 Service Unavailable")
}

// batchSink is a sink made of a rule for whole batches.
type batchSink func([]pipeline.Alert) error

func (s batchSink) Send(_ context.Context, batch []pipeline.Alert) error { return s(batch) }
