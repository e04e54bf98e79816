package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
	"weir/storage"
)

// healthRig runs a monitor over one source through simulated time.
type healthRig struct {
	m    *monitor
	w    *watched
	p    pulse
	now  time.Time
	prog progressOf
	got  []string
}

func newHealthRig(rhythm storage.Rhythm) *healthRig {
	start := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	r := &healthRig{now: start, prog: progressOf{event: pipeline.TimeOf(start), started: start}}
	r.w = &watched{name: "access.log", kind: "file", pulse: &r.p, started: start, minute: start, rhythm: rhythm}
	r.m = &monitor{sources: []*watched{r.w}, told: map[string]time.Time{}}
	return r
}

// pass lets time go by; each step of healthEvery comes with lines and bad ones.
func (r *healthRig) pass(d time.Duration, lines, bad int64) {
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(healthEvery)
		if lines+bad > 0 {
			b := &pipeline.Block{Rejects: pipeline.Rejects{Lines: lines + bad}}
			if lines > 0 {
				b.Requests = []pipeline.Request{{Time: pipeline.TimeOf(r.now)}}
			}
			if bad > 0 {
				b.Rejects.Reason = map[string]int64{"format": bad}
				b.Rejects.Sample = []pipeline.RejectSample{{Reason: "format", Text: "what is this"}}
			}
			r.p.hear(b, r.now)
		}
		for _, f := range r.m.look(r.now, r.prog) {
			r.got = append(r.got, f.Detector)
			if f.Title == "" || f.Reason == "" || len(f.Next) != 1 || f.Next[0] == "" || f.WouldNotFireIf == "" || f.BenignIf == nil {
				panic(fmt.Sprintf("finding without its explanation: %+v", f))
			}
		}
	}
}

func (r *healthRig) want(t *testing.T, what string, want ...string) {
	t.Helper()
	if fmt.Sprint(r.got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, r.got, want)
	}
	r.got = nil
}

func TestHealthSilence(t *testing.T) {
	const m = time.Minute
	busy := storage.Rhythm{Minutes: 600, Span: 10 * time.Hour, Gap: m}
	r := newHealthRig(busy)
	r.pass(20*m, 5, 0)
	r.want(t, "a busy source")
	r.pass(3*m-healthEvery, 0, 0)
	r.want(t, "a pause shorter than three minutes")
	r.pass(2*m, 0, 0)
	r.want(t, "five minutes of silence", "health.source_silent")
	r.pass(4*m, 0, 0)
	r.want(t, "it is not told again at once")
	r.pass(8*m, 0, 0)
	r.want(t, "but while it lasts", "health.source_silent")
	r.pass(30*m, 5, 0)
	r.want(t, "and ends")

	r = newHealthRig(storage.Rhythm{Minutes: 600, Span: 72 * time.Hour, Gap: 8 * time.Hour})
	r.pass(m, 5, 0)
	r.pass(16*time.Hour, 0, 0)
	r.want(t, "a night twice as long as the nights before")
	r.pass(m+healthEvery, 0, 0)
	r.want(t, "and no end of it", "health.source_silent")

	r = newHealthRig(storage.Rhythm{Minutes: 4, Span: 12 * m, Gap: 8 * m})
	r.pass(m, 5, 0)
	r.pass(48*time.Hour, 0, 0)
	r.want(t, "a source of which little is known")

	// One that never came since the start, and was live before.
	busy.Last = pipeline.TimeOf(r.now)
	r = newHealthRig(busy)
	r.w.rhythm.Last = pipeline.TimeOf(r.now.Add(-m))
	r.pass(5*m, 0, 0)
	r.want(t, "silent since the start", "health.source_silent")
	r = newHealthRig(busy)
	r.w.rhythm.Last = pipeline.TimeOf(r.now.Add(-400 * 24 * time.Hour))
	r.pass(5*m, 0, 0)
	r.want(t, "last year's log")
}

func TestHealthRejects(t *testing.T) {
	const m = time.Minute
	r := newHealthRig(storage.Rhythm{})
	r.pass(20*m, 50, 1)
	r.want(t, "two in a hundred, always")
	r.pass(5*m, 0, 50)
	r.want(t, "another format", "health.rejects")
	r.pass(30*m, 50, 1)
	r.want(t, "and back")

	r = newHealthRig(storage.Rhythm{})
	r.w.usual = 0.4 // as the store says
	r.pass(60*m, 30, 20)
	r.want(t, "a source that always has four in ten")

	r = newHealthRig(storage.Rhythm{})
	r.pass(10*m, 50, 0)
	r.pass(healthEvery, 0, 60)
	r.pass(10*m, 50, 0)
	r.want(t, "a moment of garbage")
	for range 60 {
		r.pass(2*healthEvery, 1, 0)
		r.pass(m-2*healthEvery, 0, 0)
		r.pass(healthEvery, 0, 1)
	}
	r.want(t, "a few of few")
}

func TestHealthLagAndLoss(t *testing.T) {
	const m = time.Minute
	r := newHealthRig(storage.Rhythm{})
	r.prog.event = pipeline.TimeOf(r.now.Add(-time.Hour)) // history is being read
	for range 60 {
		r.prog.appended += 100
		r.pass(healthEvery*2, 0, 0)
	}
	r.want(t, "behind, in history")
	r.prog.detected = r.prog.appended
	r.prog.event = pipeline.TimeOf(r.now)
	for range 100 {
		r.pass(healthEvery, 5, 0)
		r.prog.detected = r.prog.appended
		r.prog.appended += 100
	}
	r.want(t, "always a little behind")
	for range 40 {
		r.pass(healthEvery, 5, 0)
		r.prog.appended += 100
	}
	r.want(t, "falling behind", "health.lag")
	r.prog.detected = r.prog.appended
	r.pass(30*m, 5, 0)
	r.want(t, "caught up")

	lost := int64(0)
	r.w.lost = func() int64 { return lost }
	r.pass(m, 5, 0)
	lost = 3
	r.pass(m, 5, 0)
	r.want(t, "lost", "health.loss")
	r.prog.shed = 500
	r.pass(m, 5, 0)
	r.want(t, "given up", "health.loss")
	r.pass(60*m, 5, 0)
	r.want(t, "nothing new")
}

// TestHealthAlert: a log whose end is gone when weir comes back is an alert with
// its fix, which verify computes again.
func TestHealthAlert(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := trafficLog(*killSeed)
	path := writeFile(t, dir, "access.log", text(log[:500]))
	store := filepath.Join(dir, "weir.db")
	args := []string{"run", "--store", store, "--listen", "127.0.0.1:0", path}
	d := startDaemon(t, args...)
	d.waitReady(t)
	eventually(t, "the log is read", d, func() bool { return d.metric("weir_requests_total") == 500 })
	if d.metric("weir_heartbeat_timestamp_seconds") < 1e9 || d.metric("weir_source_last_line_timestamp_seconds") < 1e9 {
		t.Error("there is no heartbeat")
	}
	d.kill(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "access.log", text(log[600:1000]))
	d = startDaemon(t, args...)
	eventually(t, "the loss is told", d, func() bool {
		_, _, body := d.get("/api/v1/alerts?detector=health.loss")
		return strings.Contains(body, "delaycompress") && strings.Contains(body, path)
	})
	d.stop(t)
	file := writeFile(t, dir, "alerts.jsonl", []byte(strings.Join(storedAlerts(t, store), "\n")+"\n"))
	if r := weir(t, "verify", "--store", store, file); r.code != exitOK {
		t.Errorf("verify: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// TestHeartbeat: what a sign of life says.
func TestHeartbeat(t *testing.T) {
	s := &service{}
	f := func(want string) {
		t.Helper()
		var h struct {
			Schema, Version string
			Time            time.Time
			DetectedThrough *time.Time `json:"detected_through"`
			Lag             int64
			LookedAt        time.Time `json:"looked_at"`
		}
		if err := json.Unmarshal(s.heartbeat(), &h); err != nil || h.Schema != "weir.heartbeat/1" || h.Version == "" || time.Since(h.Time) > time.Hour {
			t.Errorf("%s: %v", s.heartbeat(), err)
		}
		through := "never"
		if h.DetectedThrough != nil {
			through = h.DetectedThrough.Format(time.RFC3339)
		}
		if got := fmt.Sprint(through, " ", h.Lag, " ", h.LookedAt.Unix()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	f("never 0 0")
	at := time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	s.status.eventTime.Store(int64(pipeline.TimeOf(at)))
	s.status.beat.Store(at.UnixMicro())
	s.status.appended.Store(9)
	s.status.detected.Store(4)
	f(fmt.Sprint("2026-11-30T09:00:00Z 5 ", at.Unix()))
}
