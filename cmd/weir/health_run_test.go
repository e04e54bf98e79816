package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// idleListener is a console that nobody asks: a bubble's time stands still while
// a goroutine waits for the network.
type idleListener struct{ closed chan struct{} }

func (l idleListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l idleListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l idleListener) Addr() net.Addr { return &net.TCPAddr{} }

// liveRun is a whole weir run inside a bubble, whose clock is the bubble's.
type liveRun struct {
	t   *testing.T
	dir string
	db  func() *sqlite.DB // of the run; nil until it is open
}

// log appends lines to a file.
func (r *liveRun) log(name string, lines ...string) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, name), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err = f.WriteString(strings.Join(lines, "\n") + "\n"); err == nil {
		err = f.Close()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// runLive runs weir under config, in which DIR is a directory, while drive logs
// and lets time go by, and returns the alerts in their latest revision. before
// writes what is there at the start.
func runLive(t *testing.T, dir, config, edition string, before, drive func(r *liveRun)) (alerts []pipeline.Alert) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &liveRun{t: t, dir: dir}
		before(r)
		cfg, err := parseConfig([]byte(strings.ReplaceAll(config, "DIR", dir)))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Store.Path = filepath.Join(dir, "weir.db")
		s := &service{
			cfg: cfg, log: zap.NewNop(), workers: 1, edition: edition,
			listen: func() (net.Listener, error) { return idleListener{make(chan struct{})}, nil },
		}
		r.db = func() *sqlite.DB { return s.db }
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.run(ctx) }()
		drive(r)
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	db := openStored(t, filepath.Join(dir, "weir.db"))
	defer db.Close()
	list, err := db.Alerts(t.Context(), storage.AlertFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		alerts = append(alerts, list[i].Alert)
	}
	return alerts
}

// TestHealthRun: a whole weir run whose source stops, changes its format, or
// loses a field tells so within five minutes, with the fix, and raises nothing
// else.
func TestHealthRun(t *testing.T) {
	t.Parallel()
	type fields struct{ user, forwarded, peer string }
	line := func(i int, at time.Time, f fields) string {
		return fmt.Sprintf(`{"time":%q,"remote_addr":%q,"http_x_forwarded_for":%q,"request_method":"GET","request_uri":"/page-%c","status":200,"body_bytes_sent":%d,"http_user_agent":"Mozilla/5.0 (X11; Linux) Firefox/%d","user":%q}`,
			at.UTC().Format(time.RFC3339Nano), f.peer, f.forwarded, 'a'+i%7, 1000+i%7, 100+i%20, f.user)
	}
	whole := func(i int) fields {
		who := i % 20
		return fields{fmt.Sprintf("user%d", who), fmt.Sprintf("203.0.113.%d", who+1), "10.0.0.1"}
	}
	const config = "collect: [{file: DIR/access.log, format: json}]\nidentity: {trusted_proxies: [10.0.0.0/8]}\nprivacy: {key_file: \"\"}\n"
	f := func(name string, change func(i int, at time.Time) string, detector, title, fix string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			write := func(r *liveRun, d time.Duration, line func(i int, at time.Time) string) {
				for range int(d / time.Second) {
					r.log("access.log", line(n, time.Now()), line(n+1, time.Now()))
					n += 2
					time.Sleep(time.Second)
				}
			}
			ordinary := func(i int, at time.Time) string { return line(i, at, whole(i)) }
			var at time.Time
			got := runLive(t, t.TempDir(), config, "", func(r *liveRun) { write(r, 2*time.Second, ordinary) }, func(r *liveRun) {
				write(r, 12*time.Minute, ordinary)
				at = time.Now()
				if change == nil {
					time.Sleep(5 * time.Minute)
				} else {
					write(r, 5*time.Minute, change)
				}
			})
			if len(got) != 1 {
				for _, a := range got {
					t.Errorf("%s: %s", a.Detector, a.Title)
				}
				t.Fatalf("%d alerts, want one", len(got))
			}
			a := got[0]
			if a.Detector != detector || !strings.Contains(a.Title, title) || len(a.Next) == 0 || !strings.Contains(a.Next[0], fix) {
				t.Errorf("%s: %s (%v), want %s: %s (%s)", a.Detector, a.Title, a.Next, detector, title, fix)
			}
			if d := a.Window.DetectedAt.Std(); d.After(at.Add(5*time.Minute)) || d.Before(at.Add(-time.Minute)) {
				t.Errorf("told at %s, %s after the change", d, d.Sub(at))
			}
		})
	}
	f("stopped", nil, "health.source_silent", "No line from", "Is the server up")
	f("another format", func(i int, at time.Time) string {
		return fmt.Sprintf(`203.0.113.%d - - [%s] "GET /page-%c HTTP/1.1" 200 1000`, i%20+1, at.UTC().Format("02/Jan/2006:15:04:05 -0700"), 'a'+i%7)
	}, "health.rejects", "of the lines of", "Give the new one as log_format")
	f("no user", func(i int, at time.Time) string {
		x := whole(i)
		x.user = "-"
		return line(i, at, x)
	}, "health.identity", "shows no user any more", "$remote_user")
	f("no forwarding header", func(i int, at time.Time) string {
		x := whole(i)
		x.forwarded = ""
		return line(i, at, x)
	}, "health.identity", "shows no client's address any more", "X-Forwarded-For")
}
