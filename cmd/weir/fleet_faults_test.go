package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/bench/services"
	"weir/pipeline/kafka"
	"weir/storage/clickhouse"
)

//nolint:gochecknoglobals // flags of the test binary
var (
	pauseFor  = flag.Duration("pause", 0, "how long the tests stop an owner at least")
	refuseFor = flag.Duration("refuse", 0, "how long ClickHouse takes nothing at least")
	busyLines = flag.Int("busylines", 40_000, "requests while it does not")
)

// followedFleet is a fleet whose collector follows a log that the test writes, and
// what one process makes of that log.
type followedFleet struct {
	*fleetProcesses
	c   busConfig
	bus *kafka.Bus
	ref reference
	log *feed
}

// newFollowedFleet has nothing started yet; the log has one line. In data each line
// comes in its turn: what is told of a silent log then changes nothing.
func newFollowedFleet(t *testing.T, data []byte, sections string, brokers ...*services.Kafka) *followedFleet {
	t.Helper()
	dir := t.TempDir()
	f := &followedFleet{c: busConfigOf(brokers...), ref: referenceFor(t, map[string][]byte{"access.log": data})}
	mustName(t, f.ref.alerts, abusers()...)
	f.log = newFeed(t, filepath.Join(dir, "access.log"), data, *killSeed)
	f.log.append(t, 1+bytes.IndexByte(data, '\n'))
	f.fleetProcesses = &fleetProcesses{
		t: t, config: fleetConfig(t, dir, f.c, fmt.Sprintf("collect: [{file: %q}]\n%s", f.log.path, sections)),
		args: []string{"--edition", f.ref.edition, "--listen", "127.0.0.1:0"}, list: map[string]*daemon{},
	}
	f.bus = openBus(t, f.c)
	return f
}

// migrate makes ClickHouse's schema.
func (f *followedFleet) migrate(ctx context.Context) {
	f.t.Helper()
	var out bytes.Buffer
	if code := run(ctx, []string{"migrate", "-c", f.config}, nil, &out, &out); code != exitOK {
		f.t.Fatalf("migrate: %s", out.String())
	}
}

// storeSection is the configuration's, for a server.
func storeSection(server *services.ClickHouse) string {
	return fmt.Sprintf("store: {retention: 36500d, alert_retention: 3650d, clickhouse: {addresses: [%q], user: default}}", server.Address())
}

// writeTo writes the log up to an offset, a little at a time.
func (f *followedFleet) writeTo(offset int) {
	f.t.Helper()
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for step := max(4000, len(f.log.data)/400); f.log.written < offset; <-pace.C {
		f.log.append(f.t, min(1+f.log.rng.IntN(step), offset-f.log.written))
	}
}

func (f *followedFleet) writeAll() { f.writeTo(len(f.log.data)) }

// lines is how many whole ones are written.
func (f *followedFleet) lines() int { return bytes.Count(f.log.data[:f.log.written], []byte("\n")) }

// behind is the offset behind the nth line of an address, the last one for -1.
func (f *followedFleet) behind(address string, n int) int {
	f.t.Helper()
	at, end := 0, 0
	for line := range bytes.Lines(f.log.data) {
		at += len(line)
		if bytes.HasPrefix(line, []byte(address+" ")) {
			if end, n = at, n-1; n == 0 {
				break
			}
		}
	}
	if end == 0 || n > 0 {
		f.t.Fatalf("%s has too few lines", address)
	}
	return end
}

// awaitTaken waits until one of some processes has taken every line that is written,
// but for the first, which may have come before its slices.
func (f *followedFleet) awaitTaken(ctx context.Context, names ...string) {
	f.t.Helper()
	lines := float64(f.lines() - 1)
	f.await(ctx, fmt.Sprintf("%v take %v requests", names, lines), func() error {
		most := -1.0
		for _, name := range names {
			most = max(most, f.list[name].metric("weir_requests_total"))
		}
		if most < lines {
			return fmt.Errorf("%v of %v", most, lines)
		}
		return nil
	})
}

// await waits for ok, with all that the processes say when it does not come.
func (f *fleetProcesses) await(ctx context.Context, what string, ok func() error) {
	f.t.Helper()
	again(ctx, f.t, what, ok)
	if f.t.Failed() {
		f.t.Fatal(f.logs())
	}
}

// awaitNamed waits until the alerts name an address.
func (f *followedFleet) awaitNamed(ctx context.Context, address string) {
	f.t.Helper()
	f.await(ctx, "an alert names "+address, func() error {
		for _, line := range feedOf(ctx, f.t, f.bus, &f.c) {
			if strings.Contains(line, address) {
				return nil
			}
		}
		return fmt.Errorf("none does")
	})
}

// stopAll ends every process as an operator would; none may have ended before.
func (f *fleetProcesses) stopAll() {
	f.t.Helper()
	for name, d := range f.list {
		if d.ended() {
			f.t.Errorf("%s ended by itself:\n%s", name, d.log)
			continue
		}
		if strings.Contains(d.log.String(), "please report this") {
			f.t.Errorf("%s:\n%s", name, d.log)
		}
		d.stop(f.t)
	}
}

func (f *fleetProcesses) signal(name string, s syscall.Signal) {
	f.t.Helper()
	if err := f.list[name].cmd.Process.Signal(s); err != nil {
		f.t.Fatal(err)
	}
}

// resident is the memory of a process in bytes.
func (d *daemon) resident(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// TestFleetAcrossAKill: a small fleet gives the alerts of one process though one of
// its detect processes is killed in the middle of an attack. It is the one test of a
// fleet that runs without make e2e.
func TestFleetAcrossAKill(t *testing.T) {
	t.Parallel()
	f := newFollowedFleet(t, text(trafficLog(*killSeed)), "", newBrokers(t, t.TempDir(), 1)...)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, name := range []string{"collect", "detect/1", "detect/2", "correlate", "alert"} {
		f.start(name)
	}
	f.awaitDeal(ctx, "weir-detect", 12, "detect/1", "detect/2")
	f.writeTo(f.behind(proberAddress, 80))
	f.awaitTaken(ctx, "detect/1")
	f.list["detect/1"].kill(t)
	f.start("detect/1")
	f.writeAll()
	f.awaitAlerts(ctx, f.bus, &f.c, f.ref.alerts)
	f.stopAll()
}

// TestFleetAcrossPauses: the owner of everything in each role is stopped in the
// middle of an attack, another process takes over and gives the alert in time, the
// first one comes back and believes that it owns all of it, and the other one leaves.
// The alerts are those of one process, and everything is stored once.
func TestFleetAcrossPauses(t *testing.T) {
	t.Parallel()
	brokers := startBrokers(t, t.TempDir(), 1)
	server := startClickHouse(t)
	f := newFollowedFleet(t, text(trafficLog(*killSeed)), storeSection(server), brokers...)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute+5*(*pauseFor))
	defer cancel()
	f.migrate(ctx)
	steps := []struct {
		role, during string
		slices       map[string]int // by group
	}{
		{"detect", proberAddress, map[string]int{"detect": 12}},
		{"alert", guesserAddress, map[string]int{"alert": 1}},
		{"correlate", walkerAddress, map[string]int{"correlate-resource": 12, "correlate-template": 12, "correlate-principal": 12, "correlate-login": 1}},
		{"store", crawlerAddress, map[string]int{"store": 12, "store-alerts": 1}},
	}
	awaitAll := func(i int, names ...string) {
		for group, n := range steps[i].slices {
			f.awaitDeal(ctx, "weir-"+group, n, names...)
		}
	}
	f.start("collect")
	for i, s := range steps {
		f.start(s.role + "/1")
		awaitAll(i, s.role+"/1")
	}
	db, err := clickhouse.Open(ctx, clickhouse.Options{Addresses: []string{server.Address()}, User: "default"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	stored := func() {
		t.Helper()
		lines := f.lines()
		f.await(ctx, "what is written is stored", func() error {
			if n, err := db.Count(ctx); err != nil || n != int64(lines) {
				return fmt.Errorf("%d of %d: %w", n, lines, err)
			}
			return nil
		})
	}
	for i, s := range steps {
		first, second := s.role+"/1", s.role+"/2"
		f.writeTo(f.behind(s.during, 40))
		if i == 0 {
			f.awaitTaken(ctx, first)
		}
		stored()
		before := len(feedOf(ctx, t, f.bus, &f.c))
		f.signal(first, syscall.SIGSTOP)
		until := time.NewTimer(*pauseFor)
		f.start(second)
		awaitAll(i, second)
		f.writeTo(min(f.behind(s.during, -1)+len(f.log.data)/20, len(f.log.data)))
		f.awaitNamed(ctx, s.during)
		stored()
		<-until.C
		after := len(feedOf(ctx, t, f.bus, &f.c))
		t.Logf("%s was stopped: meanwhile %d revisions came", first, after-before)
		f.signal(first, syscall.SIGCONT)
		awaitAll(i, first, second)
		f.list[second].stop(t)
		delete(f.list, second)
		awaitAll(i, first)
	}
	f.writeAll()
	f.awaitAlerts(ctx, f.bus, &f.c, f.ref.alerts)
	f.mustBeStored(&f.c, server, f.lines(), f.ref.alerts)
	f.stopAll()
}

// TestFleetWithoutClickHouse: ClickHouse takes nothing for a while, because it says so
// or because it does not answer at all. The lag grows, what store has in memory does
// not, alerts go out, and then everything is there once.
func TestFleetWithoutClickHouse(t *testing.T) {
	t.Parallel()
	t.Run("refuses", func(t *testing.T) {
		withoutClickHouse(t, func(s *services.ClickHouse) (back func()) {
			for _, table := range []string{"requests", "alerts"} {
				tellClickHouse(t, s, "ALTER TABLE "+table+" MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1")
			}
			return func() {
				for _, table := range []string{"requests", "alerts"} {
					tellClickHouse(t, s, "ALTER TABLE "+table+" RESET SETTING parts_to_throw_insert, parts_to_delay_insert")
				}
			}
		})
	})
	t.Run("hangs", func(t *testing.T) {
		withoutClickHouse(t, func(s *services.ClickHouse) (back func()) {
			if err := s.Pause(); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := s.Resume(); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

// tellClickHouse runs a statement.
func tellClickHouse(t *testing.T, s *services.ClickHouse, statement string) {
	t.Helper()
	res, err := http.Post("http://"+s.HTTPAddress()+"/?database=weir", "text/plain", strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", statement, res.StatusCode, text, err)
	}
}

// storeGrowth is how much more memory store may take from a third of an outage to its
// end: it waits with one batch, however much comes.
const storeGrowth = 48 << 20

func withoutClickHouse(t *testing.T, refuse func(*services.ClickHouse) (back func())) {
	brokers := startBrokers(t, t.TempDir(), 1)
	server := startClickHouse(t)
	t.Cleanup(func() { _ = server.Resume() })
	f := newFollowedFleet(t, text(busyLog(*killSeed, *busyLines)), storeSection(server), brokers...)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute+2*(*refuseFor))
	defer cancel()
	f.migrate(ctx)
	for _, name := range []string{"collect", "detect,correlate,alert", "store"} {
		f.start(name)
	}
	store := f.list["store"]
	f.writeTo(f.behind(proberAddress, 1))
	db, err := clickhouse.Open(ctx, clickhouse.Options{Addresses: []string{server.Address()}, User: "default"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	before := f.lines()
	f.await(ctx, "what is written is stored", func() error {
		if n, err := db.Count(ctx); err != nil || n != int64(before) {
			return fmt.Errorf("%d of %d: %w", n, before, err)
		}
		return nil
	})
	back := refuse(server)
	begun := time.Now()
	until := time.NewTimer(*refuseFor)
	f.writeTo(f.behind(proberAddress, -1) + len(f.log.data)/20)
	f.awaitNamed(ctx, proberAddress)
	named := time.Since(begun)
	f.writeTo(f.behind(guesserAddress, -1) + len(f.log.data)/20)
	f.awaitNamed(ctx, guesserAddress)
	first, lag := store.resident(t), store.metric("weir_bus_lag_records")
	f.writeAll()
	f.awaitAlerts(ctx, f.bus, &f.c, f.ref.alerts)
	f.await(ctx, "the lag grows", func() error {
		if now := store.metric("weir_bus_lag_records"); now <= lag {
			return fmt.Errorf("%v records, as before", now)
		}
		return nil
	})
	<-until.C
	last := store.resident(t)
	t.Logf("for %.0f s ClickHouse took nothing: %d requests waited; the first alert came after %.1f s, all %d within; store had %d MiB, then %d MiB; lag %v, then %v records",
		time.Since(begun).Seconds(), f.lines()-before, named.Seconds(), len(f.ref.alerts), first>>20, last>>20, lag, store.metric("weir_bus_lag_records"))
	if last-first > storeGrowth {
		t.Errorf("store grew from %d to %d MiB", first>>20, last>>20)
	}
	back()
	f.mustBeStored(&f.c, server, f.lines(), f.ref.alerts)
	f.stopAll()
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
