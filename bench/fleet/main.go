// Fleet runs the roles as processes on a real Kafka and a real ClickHouse over one log
// after the other, and compares: their alerts with those of weir analyze, byte for
// byte, and each client's requests in ClickHouse with those that are in the log. It
// tells what each role costs by request, and fails on a difference.
//
//	go build -o bin/ ./cmd/weir ./bench/gen ./bench/fleet && bin/fleet -brokers 3
//	bin/fleet -brokers 3 access.json.gz other.log       these logs instead of a made-up one
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"weir/bench/fleet/sums"
	"weir/bench/services"
	"weir/collector"
	"weir/pipeline/kafka"
)

type options struct {
	weir, gen                       string
	logs                            []string
	lines, brokers, slices          int
	detect, correlate, within, idle int
	store, serve                    int
}

func main() {
	var o options
	flag.StringVar(&o.weir, "weir", "bin/weir", "the binary")
	flag.StringVar(&o.gen, "gen", "bin/gen", "bench/gen, built")
	flag.IntVar(&o.lines, "lines", 2_000_000, "lines of the made-up log")
	flag.IntVar(&o.brokers, "brokers", 1, "brokers")
	flag.IntVar(&o.slices, "partitions", 12, "partitions")
	flag.IntVar(&o.detect, "detect", 3, "detect processes")
	flag.IntVar(&o.correlate, "correlate", 2, "correlate processes")
	flag.IntVar(&o.store, "store", 1, "store processes; 0 also leaves ClickHouse out")
	flag.IntVar(&o.serve, "serve", 1, "serve processes")
	flag.IntVar(&o.idle, "idle", 0, "seconds to measure what the fleet costs when nothing comes")
	flag.IntVar(&o.within, "within", 1200, "seconds to wait for each log")
	flag.Parse()
	o.logs = flag.Args()
	if err := run(o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run(o options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if len(o.logs) == 0 {
		log := filepath.Join(dir, "access.log")
		if text, err := exec.Command(o.gen, "-lines", strconv.Itoa(o.lines), "-clients", "50000", "-o", log).CombinedOutput(); err != nil {
			return fmt.Errorf("make a log: %w\n%s", err, text)
		}
		o.logs = []string{log}
	}
	s := servers{dir: dir}
	if s.brokers, err = services.NewKafkaCluster(dir, o.brokers); err != nil {
		return err
	}
	for _, b := range s.brokers {
		defer b.Kill()
	}
	if o.store > 0 {
		if s.clickhouse, err = services.NewClickHouse(filepath.Join(dir, "clickhouse")); err != nil {
			return err
		}
		defer s.clickhouse.Kill()
	}
	for i, log := range o.logs {
		if err := runLog(o, out, &s, log, i+1); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(log), err)
		}
	}
	return nil
}

// servers are what the fleets share.
type servers struct {
	dir        string
	brokers    []*services.Kafka
	clickhouse *services.ClickHouse // nil without
}

// runLog has a fleet of its own, in topics and a database of its own, over a log.
func runLog(o options, out io.Writer, s *servers, name string, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(o.within)*time.Second)
	defer cancel()
	dir := filepath.Join(s.dir, fmt.Sprintf("log%d", n))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	m := &measured{
		servers: s, dir: dir, log: filepath.Join(dir, "whole.log"), live: filepath.Join(dir, "live.log"), prefix: fmt.Sprintf("fleet%d-", n), database: fmt.Sprintf("fleet%d", n),
		config: filepath.Join(dir, "fleet.yaml"), key: filepath.Join(dir, "key"), edition: filepath.Join(dir, "edition"),
	}
	if err := unpack(name, m.log); err != nil {
		return err
	}
	var err error
	if m.lines, err = countLines(m.log); err != nil {
		return err
	}
	for _, b := range s.brokers {
		m.addresses = append(m.addresses, b.Address())
	}
	text := fmt.Sprintf("collect: [{file: %q}]\nbus: {brokers: ['%s'], prefix: %s, partitions: %d, replication: %d, min_isr: %d}\nprivacy: {key_file: %q}\n",
		m.live, strings.Join(m.addresses, "', '"), m.prefix, o.slices, o.brokers, max(1, o.brokers-1), m.key)
	if s.clickhouse != nil {
		text += fmt.Sprintf("store: {path: %q, retention: 36500d, alert_retention: 36500d, clickhouse: {addresses: [%q], user: default, database: %s}}\nconsole: {listen: '127.0.0.1:0'}\n",
			filepath.Join(dir, "desk.db"), s.clickhouse.Address(), m.database)
	}
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		return err
	}
	analyze := exec.CommandContext(ctx, o.weir, "analyze", "-c", m.config, "--quiet", "--pseudonyms", "--output", "json", "--edition-out", m.edition, m.log)
	printed, err := analyze.Output()
	if err != nil {
		return fmt.Errorf("weir analyze: %w", err)
	}
	if m.want, err = plain(bytes.Split(bytes.TrimSpace(printed), []byte("\n"))); err != nil {
		return err
	}
	if len(m.want) == 0 {
		return errors.New("weir analyze raises no alert: nothing can be compared")
	}
	fmt.Fprintf(out, "%s: %d lines, %d revisions; analyze (fit and detection, one process): %.2f µs of CPU a line\n", filepath.Base(name), m.lines, len(m.want),
		micros(analyze.ProcessState.UserTime()+analyze.ProcessState.SystemTime(), m.lines))
	if s.clickhouse != nil {
		if m.sums, err = sums.OfLog(ctx, m.log, m.key); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if text, err := exec.CommandContext(ctx, o.weir, "migrate", "-c", m.config).CombinedOutput(); err != nil {
			return fmt.Errorf("weir migrate: %w\n%s", err, text)
		}
	}
	if o.serve > 0 {
		if err := makeToken(ctx, &o, m); err != nil {
			return err
		}
	}
	return fleet(ctx, o, out, m)
}

// unpack writes a log as it is when it is not compressed.
func unpack(name, to string) error {
	in, err := collector.OpenFile(name, nil)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}

// measured is what a fleet is held against.
type measured struct {
	*servers
	addresses            []string
	config, edition, dir string
	key                  string
	log, live            string // the whole log, and the file that is followed
	prefix, database     string
	token                string // of the console
	want                 []string
	sums                 map[uint64]sums.Client // by client, as the log has them
	lines                int64
}

func fleet(ctx context.Context, o options, out io.Writer, m *measured) error {
	before := m.spent(nil)
	// What a file holds at the first start is history: it begins with one line, and
	// gets the others once that is detected.
	whole, err := os.ReadFile(m.log)
	if err != nil {
		return err
	}
	first := bytes.IndexByte(whole, '\n') + 1
	if err := os.WriteFile(m.live, whole[:first], 0o600); err != nil {
		return err
	}
	var list []*process
	start := func(role string, n int) error {
		for range n {
			args := []string{role, "-c", m.config, "--edition", m.edition}
			if role != "serve" { // the console says where it is
				args = append(args, "--listen", "127.0.0.1:0")
			}
			p := &process{role: role, cmd: exec.Command(o.weir, args...), log: &logBuffer{}, done: make(chan struct{})}
			p.cmd.Stderr = p.log
			if err := p.cmd.Start(); err != nil {
				return err
			}
			go func() {
				_ = p.cmd.Wait()
				close(p.done)
			}()
			list = append(list, p)
		}
		return nil
	}
	defer func() {
		for _, p := range list {
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}()
	if err := errors.Join(start("alert", 1), start("correlate", o.correlate), start("detect", o.detect), start("store", o.store), start("serve", o.serve), start("collect", 1)); err != nil {
		return err
	}
	bus, err := kafka.NewBus(kafka.Cluster{Brokers: m.addresses}, nil, nil)
	if err != nil {
		return err
	}
	defer bus.Close()
	for !detected(list, 1) && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
	}
	begun := time.Now()
	f, err := os.OpenFile(m.live, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(whole[first:])
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := await(ctx, bus, list, m); err != nil {
		for _, p := range list { // where each of them is
			_ = p.cmd.Process.Signal(syscall.SIGQUIT)
			<-p.done
			err = fmt.Errorf("%w\n--- weir %s\n%s", err, p.role, p.log)
		}
		return err
	}
	took := time.Since(begun)
	if err := awaitStored(ctx, out, m); err != nil {
		return err
	}
	if err := awaitServed(ctx, out, list, m); err != nil {
		return err
	}
	all := time.Since(begun)
	working := spentSince(m.spent(list), before)
	if m.clickhouse != nil {
		fmt.Fprintf(out, "all was stored after %.0f s\n", all.Seconds())
	}
	fmt.Fprintf(out, "the fleet gave the same %d revisions, byte for byte, in %.0f s (%.0f lines/s with everything on this machine)\n", len(m.want), took.Seconds(), float64(m.lines)/took.Seconds())
	idle := map[string]time.Duration{}
	if o.idle > 0 {
		before = m.spent(list)
		time.Sleep(time.Duration(o.idle) * time.Second)
		idle = spentSince(m.spent(list), before)
	}
	m.printCosts(out, list, working, all, idle, time.Duration(o.idle)*time.Second)
	for _, topic := range []string{"requests", "sequence", "signals-resource", "signals-template", "signals-principal", "signals-login", "findings", "truths", "state", "marks", "alerts"} {
		fmt.Fprintf(out, "%-18s %7.1f bytes a line on the brokers\n", topic, float64(sizeOf(m.servers.dir, m.prefix+topic))/float64(m.lines))
	}
	return nil
}

// await waits until every detect process has all lines and the feed is what is
// wanted.
func await(ctx context.Context, bus *kafka.Bus, list []*process, m *measured) error {
	for {
		for _, p := range list {
			select {
			case <-p.done:
				return fmt.Errorf("weir %s ended:\n%s", p.role, p.log)
			default:
			}
		}
		got, err := feed(ctx, bus, m.prefix+"alerts")
		if err != nil {
			return err
		}
		if len(got) >= len(m.want) {
			return same(m.want, got)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d of %d revisions came: %w", len(got), len(m.want), ctx.Err())
		}
	}
}

// addressInLog finds where a process serves in what it says.
func addressInLog() *regexp.Regexp { return regexp.MustCompile(`"http": "(http://[^"]+)"`) }

// detected reports whether a detect process has taken so many lines. One that got
// its slices later has taken fewer.
func detected(list []*process, lines int64) bool {
	address := addressInLog()
	count := regexp.MustCompile(`(?m)^weir_requests_total (\S+)`)
	for _, p := range list {
		at := address.FindStringSubmatch(p.log.String())
		if p.role != "detect" || at == nil {
			continue
		}
		resp, err := http.Get(at[1] + "/metrics")
		if err != nil {
			continue
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		n := count.FindSubmatch(text)
		if err != nil || n == nil {
			continue
		}
		if v, err := strconv.ParseFloat(string(n[1]), 64); err == nil && int64(v) >= lines {
			return true
		}
	}
	return false
}

// feed is what the topic of alerts holds.
func feed(ctx context.Context, bus *kafka.Bus, topic string) ([]string, error) {
	if _, err := bus.Partitions(ctx, topic); err != nil {
		return nil, nil // it is not made yet
	}
	_, behind, err := bus.Bounds(ctx, topic, 0)
	if err != nil {
		return nil, err
	}
	var list [][]byte
	err = bus.ReadRange(ctx, topic, 0, 0, behind, false, func(r kafka.Record) error {
		if r.Claim {
			return nil
		}
		var a struct {
			Alert json.RawMessage `json:"alert"`
		}
		if err := json.Unmarshal(r.Value, &a); err != nil {
			return err
		}
		list = append(list, a.Alert)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return plain(list)
}

// plain writes alerts without what comparisons leave out: also those about weir itself
// that follow the clock, as a busy machine raises some.
func plain(list [][]byte) (out []string, err error) {
	for _, line := range list {
		if len(line) == 0 {
			continue
		}
		var a map[string]any
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, err
		}
		switch a["detector"] {
		case "health.lag", "health.loss", "health.source_silent":
			continue
		}
		delete(a, "envelope")
		if examples, ok := a["exemplars"].([]any); ok {
			for _, e := range examples {
				if e, ok := e.(map[string]any); ok {
					delete(e, "source")
				}
			}
		}
		text, err := json.Marshal(a)
		if err != nil {
			return nil, err
		}
		out = append(out, string(text))
	}
	return out, nil
}
