package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// fleetConfig is a configuration for all processes of a fleet, over sections that
// the test gives.
func fleetConfig(t *testing.T, dir string, c busConfig, sections string) string {
	t.Helper()
	text := fmt.Sprintf("bus: {brokers: ['%s'], replication: %d, min_isr: %d, session_timeout: 4s}\nprivacy: {key_file: %q}\n%s\n",
		strings.Join(c.Brokers, "', '"), c.Replication, c.MinISR, filepath.Join(dir, "weir.key"), sections)
	return writeFile(t, dir, "fleet.yaml", []byte(text))
}

// onBus counts the requests on the bus by their size, which tells lines apart,
// and how many entries of the sequence did not count.
func onBus(ctx context.Context, t *testing.T, bus *kafka.Bus, c *busConfig) (sizes map[int64]int, passed int) {
	t.Helper()
	r, err := newSequenceReader(ctx, bus, c, sequencePosition{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	_, behind, err := bus.Bounds(ctx, c.topics().sequence, 0)
	if err != nil {
		t.Fatal(err)
	}
	sizes = map[int64]int{}
	for r.position().Offset < behind {
		entry, err := r.next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if entry.block == nil {
			continue
		}
		for i := range entry.block.Requests {
			sizes[entry.block.Requests[i].Bytes]++
		}
	}
	return sizes, r.passed
}

// TestCollectAcrossKills: a collector and its broker are killed again and again
// while it follows a log. Every line is on the bus, and counts once.
func TestCollectAcrossKills(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	c := busConfigOf(broker)
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	log := trafficLog(*killSeed)
	const first = 20
	if err := os.WriteFile(path, text(log[:first]), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fleetConfig(t, dir, c, fmt.Sprintf("collect: [{file: %q, labels: {service: shop}}]", path))
	args := []string{"collect", "-c", config, "--listen", "127.0.0.1:0"}
	var d *daemon
	start := func() {
		d = startDaemon(t, args...)
		d.waitReady(t)
	}
	start()
	rng := rand.New(rand.NewPCG(*killSeed, 61))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	written := first
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	write := func(until int) {
		for ; written < until; <-pace.C {
			n := min(1+rng.IntN(40), until-written)
			if _, err := f.Write(text(log[written : written+n])); err != nil {
				t.Fatal(err)
			}
			written += n
		}
	}
	rounds := min(*kills, 8)
	for n := range rounds {
		write(first + (len(log)-first)*(n+1)/(rounds+1))
		if n%4 == 3 {
			broker.Kill()
		}
		if n%4 != 2 {
			d.kill(t)
		}
		write(written + (len(log)-written)/10)
		if n%4 == 3 {
			if err := broker.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if n%4 != 2 {
			start()
		}
	}
	write(len(log))
	bus := openBus(t, c)
	again(ctx, t, "every line is on the bus", func() error {
		sizes, passed := onBus(ctx, t, bus, &c)
		missing, repeated := 0, 0
		for i := range log {
			switch n := sizes[int64(firstSize+i)]; {
			case n == 0:
				missing++
			case n > 1:
				repeated += n - 1
			}
		}
		if repeated > 0 {
			t.Fatalf("%d lines count twice", repeated)
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d lines are missing\n%s", missing, len(log), d.log)
		}
		t.Logf("%d kills, %d lines; %d records on the bus did not count", rounds, len(log), passed)
		return nil
	})
	if t.Failed() {
		return
	}
	// A second collector of the same name takes over, and the first one finds out
	// with the next line that it writes.
	other := startDaemon(t, args...)
	other.waitReady(t)
	eventually(t, "the other collects", other, func() bool { return strings.Contains(other.log.String(), "weir is collecting") })
	if _, err := f.Write(text(log[:3])); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first is told", d, d.ended)
	if !strings.Contains(d.log.String(), kafka.ErrFenced.Error()) {
		t.Errorf("the first ends without saying why:\n%s", d.log)
	}
	again(ctx, t, "the lines count twice now", func() error {
		sizes, _ := onBus(ctx, t, bus, &c)
		for i := range 3 {
			if n := sizes[int64(firstSize+i)]; n != 2 {
				return fmt.Errorf("line %d counts %d times", i, n)
			}
		}
		return nil
	})
	other.stop(t)
	// Another key is another fleet.
	if err := os.Remove(filepath.Join(dir, "weir.key")); err != nil {
		t.Fatal(err)
	}
	stranger := startDaemon(t, args...)
	eventually(t, "a stranger is refused", stranger, stranger.ended)
	if !strings.Contains(stranger.log.String(), "the fleet's key is") {
		t.Errorf("a stranger ends with:\n%s", stranger.log)
	}
}

// fleetProcesses are the processes of a fleet by name.
type fleetProcesses struct {
	t      *testing.T
	config string
	args   []string // of all
	list   map[string]*daemon
}

// start starts a process; its name begins with its roles, up to a slash.
func (f *fleetProcesses) start(name string) {
	f.t.Helper()
	roles, _, _ := strings.Cut(name, "/")
	f.list[name] = startDaemon(f.t, append([]string{roles, "-c", f.config}, f.args...)...)
}

// logs is what the processes wrote.
func (f *fleetProcesses) logs() string {
	var b strings.Builder
	for name, d := range f.list {
		fmt.Fprintf(&b, "--- %s\n%s", name, d.log)
	}
	return b.String()
}

// followsTheClock reports whether a canonical alert is about weir itself and told by the
// clock: a busy machine or an outage raises it, and analyze knows nothing of it.
func followsTheClock(line string) bool {
	for _, detector := range []string{"health.lag", "health.loss", "health.source_silent"} {
		if strings.Contains(line, `"detector":"`+detector+`"`) {
			return true
		}
	}
	return false
}

// feedOf is what the topic of alerts holds of the traffic, as comparisons want it.
func feedOf(ctx context.Context, t *testing.T, bus *kafka.Bus, c *busConfig) (list []string) {
	t.Helper()
	topic := c.topics().alerts
	_, behind, err := bus.Bounds(ctx, topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = readFeed(ctx, bus, topic, 0, behind, func(_ string, _ int64, a *sentAlert) error {
		list = append(list, canonicalLines(t, a.Alert)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list, followsTheClock)
}

// awaitAlerts waits until the fleet has given as many revisions as are wanted, and
// compares them.
func (f *fleetProcesses) awaitAlerts(ctx context.Context, bus *kafka.Bus, c *busConfig, want []string) {
	f.t.Helper()
	for {
		got := feedOf(ctx, f.t, bus, c)
		if len(got) >= len(want) {
			mustBeSame(f.t, "the fleet", want, got)
			return
		}
		for name, d := range f.list {
			if d.ended() {
				f.t.Fatalf("%s ended by itself:\n%s", name, d.log)
			}
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("%d of %d revisions came:%s\nwanted:%s\n%s", len(got), len(want), listed(got), listed(want), f.logs())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// TestFleetGivesWhatAnalyzeGives: processes that share the work give the alerts of
// one, byte for byte.
func TestFleetGivesWhatAnalyzeGives(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	c := busConfigOf(broker)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	// Three sources of one collector, one of which shows a share of its traffic.
	dir := t.TempDir()
	var collect, paths []string
	for i, part := range dealt(disordered(trafficLog(*killSeed), *killSeed), 3, *killSeed) {
		path := writeFile(t, dir, fmt.Sprintf("access%d.log", i), text(part))
		paths = append(paths, path)
		collect = append(collect, fmt.Sprintf("{file: %q, labels: {service: shop}, sample_rate: %v}", path, 1-float64(i)/4))
	}
	fleet := &fleetProcesses{t: t, config: fleetConfig(t, dir, c, "collect: ["+strings.Join(collect, ", ")+"]"), list: map[string]*daemon{}}
	edition := filepath.Join(dir, "edition.json")
	want := analyzed(t, append(paths, "-c", fleet.config, "--edition-out", edition)...)
	mustName(t, want, abusers()...)
	if all := strings.Join(want, "\n"); !strings.Contains(all, `"service":"shop"`) || !strings.Contains(all, `"sampled":0.5`) {
		t.Fatalf("the alerts have neither labels nor shares:\n%s", want[0])
	}
	fleet.args = []string{"--edition", edition}
	for _, name := range []string{"collect", "detect/1", "detect/2", "detect/3", "correlate/1", "correlate/2", "alert/1"} {
		fleet.start(name)
	}
	fleet.awaitAlerts(ctx, openBus(t, c), &c, want)
	for _, d := range fleet.list {
		d.stop(t)
	}
}

// dealtTo are the slices that a process has of a group, as it said last.
func (f *fleetProcesses) dealtTo(name, group string) int {
	said := regexp.MustCompile(`slices are dealt\s+\{"group": "`+group+`", "generation": \d+, "slices": \[([^\]]*)\]`).FindAllStringSubmatch(f.list[name].log.String(), -1)
	if len(said) == 0 || said[len(said)-1][1] == "" {
		return 0
	}
	return 1 + strings.Count(said[len(said)-1][1], ",")
}

// awaitDeal waits until some processes have all slices of a group between them.
func (f *fleetProcesses) awaitDeal(ctx context.Context, group string, slices int, names ...string) {
	f.t.Helper()
	again(ctx, f.t, fmt.Sprintf("%v have the slices of %s", names, group), func() error {
		n := 0
		for _, name := range names {
			got := f.dealtTo(name, group)
			if n += got; got == 0 && slices >= len(names) {
				return fmt.Errorf("%s has none\n%s", name, f.logs())
			}
		}
		if n != slices {
			return fmt.Errorf("%d of %d\n%s", n, slices, f.logs())
		}
		return nil
	})
}

// TestFleetAcrossFaults: a process of each role is killed, detect processes come
// and go, one is stopped and comes back when others have its slices, and the alerts
// are those of one process that nothing happened to.
func TestFleetAcrossFaults(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	c := busConfigOf(broker)
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	log := text(disordered(trafficLog(*killSeed), *killSeed))
	ref := referenceFor(t, map[string][]byte{"access.log": log})
	mustName(t, ref.alerts, abusers()...)
	dir := t.TempDir()
	hook := newReceiver(t)
	f := newFeed(t, filepath.Join(dir, "access.log"), log, *killSeed)
	f.append(t, 1+bytes.IndexByte(log, '\n'))
	fleet := &fleetProcesses{
		t: t, config: fleetConfig(t, dir, c, fmt.Sprintf("collect: [{file: %q}]\nalerts: {sinks: {siem: {webhook: {url: %q, secret_file: %q}}}}", f.path, hook.URL+"/hook", writeFile(t, dir, "secret", []byte(hookSecret+"\n")))), args: []string{"--edition", ref.edition}, list: map[string]*daemon{},
	}
	for _, name := range []string{"collect", "detect/1", "detect/2", "detect/3", "correlate/1", "correlate/2", "alert/1", "alert/2"} {
		fleet.start(name)
	}
	const detect, cross = "weir-detect", "weir-correlate-template"
	// write appends a share of the log, a little at a time.
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	write := func(share float64) {
		for until := min(f.written+int(share*float64(len(log))), len(log)); f.written < until; <-pace.C {
			f.append(t, min(1+f.rng.IntN(4000), len(log)-f.written))
		}
	}
	kill := func(name string) { fleet.list[name].kill(t) }
	fleet.awaitDeal(ctx, detect, 12, "detect/1", "detect/2", "detect/3")
	fleet.awaitDeal(ctx, cross, 12, "correlate/1", "correlate/2")
	write(0.1)
	kill("detect/1")
	write(0.1)
	fleet.awaitDeal(ctx, detect, 12, "detect/2", "detect/3")
	fleet.start("detect/1")
	kill("correlate/1")
	write(0.1)
	kill("collect")
	fleet.awaitDeal(ctx, cross, 12, "correlate/2")
	fleet.start("collect")
	fleet.start("correlate/1")
	active := "alert/1"
	if fleet.dealtTo(active, "weir-alert") == 0 {
		active = "alert/2"
	}
	write(0.1)
	kill(active)
	fleet.start(active)
	fleet.start("detect/4")
	fleet.awaitDeal(ctx, detect, 12, "detect/1", "detect/2", "detect/3", "detect/4")
	write(0.1)
	paused := fleet.list["detect/2"]
	if err := paused.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	write(0.1)
	fleet.awaitDeal(ctx, detect, 12, "detect/1", "detect/3", "detect/4")
	write(0.1)
	if err := paused.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	fleet.list["detect/3"].stop(t)
	delete(fleet.list, "detect/3")
	write(1)
	bus := openBus(t, c)
	fleet.awaitAlerts(ctx, bus, &c, ref.alerts)
	wanted := sentIDs(ctx, t, bus, &c)
	if len(wanted) < 2 {
		t.Fatalf("only %d revisions are for the sink", len(wanted))
	}
	again(ctx, t, "each revision reaches the sink", func() error {
		if missing := hook.missing(wanted); len(missing) > 0 {
			return fmt.Errorf("%d of %d are missing\n%s", len(missing), len(wanted), fleet.logs())
		}
		return nil
	})
	for name, d := range fleet.list {
		if strings.Contains(d.log.String(), "please report this") {
			t.Errorf("%s:\n%s", name, d.log)
		}
		d.stop(t)
	}
}

// sentIDs are the webhook ids of the revisions in the topic of alerts that sinks get.
func sentIDs(ctx context.Context, t *testing.T, bus *kafka.Bus, c *busConfig) (ids []string) {
	t.Helper()
	topic := c.topics().alerts
	_, behind, err := bus.Bounds(ctx, topic, 0)
	if err == nil {
		err = readFeed(ctx, bus, topic, 0, behind, func(key string, _ int64, a *sentAlert) error {
			var al pipeline.Alert
			if err := json.Unmarshal(a.Alert, &al); err != nil {
				return err
			}
			if !a.Backfill && (al.Severity == "high" || al.Severity == "critical") {
				ids = append(ids, key)
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestFleetAcrossBrokers: of three brokers one dies, comes back, and another dies,
// and nothing is lost or said twice.
func TestFleetAcrossBrokers(t *testing.T) {
	t.Parallel()
	brokers := startBrokers(t, t.TempDir(), 3)
	c := busConfigOf(brokers...)
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	log := text(disordered(trafficLog(*killSeed), *killSeed))
	ref := referenceFor(t, map[string][]byte{"access.log": log})
	dir := t.TempDir()
	f := newFeed(t, filepath.Join(dir, "access.log"), log, *killSeed)
	fleet := &fleetProcesses{
		t: t, config: fleetConfig(t, dir, c, fmt.Sprintf("collect: [{file: %q}]", f.path)), args: []string{"--edition", ref.edition}, list: map[string]*daemon{},
	}
	for _, name := range []string{"collect", "detect,correlate/1", "detect,correlate/2", "alert"} {
		fleet.start(name)
	}
	fleet.awaitDeal(ctx, "weir-detect", c.Partitions, "detect,correlate/1", "detect,correlate/2")
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	write := func(share float64) {
		for until := min(f.written+int(share*float64(len(log))), len(log)); f.written < until; <-pace.C {
			f.append(t, min(1+f.rng.IntN(4000), len(log)-f.written))
		}
	}
	write(0.2)
	brokers[0].Kill()
	write(0.3)
	again(ctx, t, "start the first broker again", brokers[0].Start)
	write(0.1)
	bus := openBus(t, c)
	again(ctx, t, "the first broker follows again", func() error {
		for _, spec := range c.specs() {
			if err := bus.InSync(ctx, spec.Name, c.Replication); err != nil {
				return err
			}
		}
		return nil
	})
	brokers[1].Kill()
	write(1)
	fleet.awaitAlerts(ctx, bus, &c, ref.alerts)
	for _, d := range fleet.list {
		d.stop(t)
	}
}
