package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// feedAlerts are what the topic of alerts holds.
func feedAlerts(ctx context.Context, t *testing.T, bus *kafka.Bus, c *busConfig) (list []pipeline.Alert) {
	t.Helper()
	topic := c.topics().alerts
	_, behind, err := bus.Bounds(ctx, topic, 0)
	if err == nil {
		err = readFeed(ctx, bus, topic, 0, behind, func(_ string, _ int64, a *sentAlert) error {
			var al pipeline.Alert
			err := json.Unmarshal(a.Alert, &al)
			list = append(list, al)
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// liveLog is a log that is written while weir follows it. Its lines differ by the
// size of the response.
type liveLog struct {
	t    *testing.T
	path string
	next int
	n    int // lines written
}

func (l *liveLog) write(at time.Time, ip, path string, status int) {
	l.t.Helper()
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s - - [%s] \"GET %s HTTP/1.1\" %d %d \"-\" \"Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0\"\n", ip, at.UTC().Format("02/Jan/2006:15:04:05 -0700"), path, status, l.next+l.n)
		l.n++
		if e := f.Close(); err == nil {
			err = e
		}
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// TestFleetGoesOnWithoutACollector: of two collectors one is killed in the middle of
// its traffic. Detection goes on, finds an attack that the other one shows, and says
// who is missing; when it is back, nothing of it is lost, and that is over.
func TestFleetGoesOnWithoutACollector(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	c := busConfigOf(broker)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	config := func(instance, sections string) string {
		sub := filepath.Join(dir, instance)
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		return writeFile(t, sub, "weir.yaml", fmt.Appendf(nil, "bus: {brokers: ['%s'], replication: 1, min_isr: 1, silence: 3s, instance: %s}\nprivacy: {key_file: %q}\n%s",
			strings.Join(c.Brokers, "', '"), instance, filepath.Join(dir, "weir.key"), sections))
	}
	logs := map[string]*liveLog{}
	all := &fleetProcesses{t: t, list: map[string]*daemon{}}
	collect := map[string]string{}
	start := func(name string) {
		d := startDaemon(t, "collect", "-c", collect[name], "--listen", "127.0.0.1:0")
		all.list[name] = d
		d.waitReady(t)
	}
	for i, name := range []string{"edge-1", "edge-2"} {
		logs[name] = &liveLog{t: t, path: filepath.Join(dir, name+".log"), next: 1 + i*1_000_000}
		logs[name].write(time.Now(), "203.0.113.1", "/", 200)
		collect[name] = config(name, fmt.Sprintf("collect: [{file: %q, format: combined}]\n", logs[name].path))
		start(name)
	}
	a, b := logs["edge-1"], logs["edge-2"]
	rest := config("judge", "")
	all.list["rest"] = startDaemon(t, "detect,correlate,alert", "-c", rest, "--listen", "127.0.0.1:0")
	bus := openBus(t, c)
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	ordinary := func(until func() bool) {
		t.Helper()
		for i := 0; !until(); i++ {
			for _, l := range []*liveLog{a, b} {
				l.write(time.Now(), fmt.Sprintf("203.0.113.%d", 1+i%40), fmt.Sprintf("/page-%d", i%7), 200)
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
				t.Fatalf("not in time\n%s", all.logs())
			}
		}
	}
	detected := func() float64 { return all.list["rest"].metric("weir_stage_lag_records") }
	wrote := func(n int) func() bool { return func() bool { return b.n >= n } }
	ordinary(wrote(300))
	eventually(t, "the fleet works", all.list["rest"], func() bool {
		return strings.Contains(all.list["rest"].log.String(), "alerts are made here") && detected() >= 0
	})

	// In the middle of its traffic: one that was idle said so, and nobody waits for it.
	busy := time.Now()
	ordinary(func() bool { return time.Since(busy) > 2*time.Second })
	all.list["edge-1"].kill(t)
	killed := time.Now()
	ordinary(func() bool { return time.Since(killed) > 1500*time.Millisecond }) // stamps are of seconds
	for i := range 150 {
		b.write(time.Now(), "198.51.100.7", fmt.Sprintf("/%s-%d.php", []string{"wp-login", "admin", "backup", "config", ".env"}[i%5], i), 404)
	}
	var attack, health time.Duration
	look := func(want func(a *pipeline.Alert) bool) bool {
		list := feedAlerts(ctx, t, bus, &c)
		for i := range list {
			if want(&list[i]) {
				return true
			}
		}
		return false
	}
	silentAlert := func(a *pipeline.Alert) bool {
		return a.Detector == "health.collector_silent" && a.Principal.Value == "edge-1"
	}
	ordinary(func() bool {
		if attack == 0 && look(func(a *pipeline.Alert) bool { return a.Principal.Value == "198.51.100.7" }) {
			attack = time.Since(killed)
		}
		if health == 0 && look(silentAlert) {
			health = time.Since(killed)
		}
		return attack > 0 && health > 0
	})
	t.Logf("after the kill the attack was told within %s, the silence within %s, with bus.silence 3s", attack.Round(time.Millisecond), health.Round(time.Millisecond))

	start("edge-1")
	sizes := map[int64]int{}
	again(ctx, t, "every line is on the bus", func() error {
		sizes, _ = onBus(ctx, t, bus, &c)
		if len(sizes) < a.n+b.n {
			return fmt.Errorf("%d of %d\n%s", len(sizes), a.n+b.n, all.logs())
		}
		return nil
	})
	for size, n := range sizes {
		if n != 1 {
			t.Errorf("the line of size %d is there %d times", size, n)
		}
	}
	eventually(t, "what came too late for its place counts as late", all.list["rest"], func() bool { return all.list["rest"].metric("weir_late_requests") > 0 })
	// Event time goes on, by steps that any log may make.
	for at := time.Now(); at.Before(killed.Add(70 * time.Minute)); at = at.Add(10 * time.Minute) {
		for range 5 {
			a.write(at, "203.0.113.1", "/", 200)
			b.write(at, "203.0.113.2", "/", 200)
		}
	}
	again(ctx, t, "the silence is over", func() error {
		if !look(func(a *pipeline.Alert) bool { return silentAlert(a) && a.Status == "resolved" }) {
			return fmt.Errorf("it is not\n%s", all.logs())
		}
		return nil
	})
	if !strings.Contains(all.list["rest"].log.String(), "sources are silent: detection goes on without them") {
		t.Error("the log does not say who is silent")
	}
	for name, d := range all.list {
		if strings.Contains(d.log.String(), "please report this") {
			t.Errorf("%s:\n%s", name, d.log)
		}
		d.stop(t)
	}
	// Who was stopped is not missed.
	n := 0
	for _, a := range feedAlerts(ctx, t, bus, &c) {
		if a.Detector == "health.collector_silent" && a.Principal.Value == "edge-2" {
			n++
		}
	}
	if n > 0 {
		t.Errorf("%d revisions about a collector that was not killed", n)
	}
}
