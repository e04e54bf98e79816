package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/alerts"
	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage/sqlite"
)

// sequenceFleet is a process that joins the fleet of a test to speak in its sequence.
func sequenceFleet(t *testing.T, bus *kafka.Bus, c *busConfig, path, instance string) *fleet {
	t.Helper()
	cfg := must[*config](t)(loadConfig(path))
	keys := must[*pipeline.PrivacyKeys](t)(pipeline.LoadOrCreatePrivacyKeys(cfg.Privacy.KeyFile))
	return &fleet{service: service{cfg: cfg, keys: keys, log: zap.NewNop()}, bus: bus, topics: c.topics(), instance: instance, edition: pipeline.ShippedEdition()}
}

// bySequence is what one engine makes of the sequence as it lies in Kafka, how many
// requests that are, how many controls by kind, and where they were.
func (f *fleet) bySequence(ctx context.Context, t *testing.T) (list []string, requests int, controls map[string]int, where []string) {
	t.Helper()
	start := must[*fleetStart](t)(f.beginning(ctx, nil))
	if start == nil {
		t.Fatal("the fleet did not begin")
	}
	edition := must[*pipeline.Edition](t)(pipeline.DecodeEdition(start.Edition))
	e := must[*engine](t)(newEngine(f.cfg, edition, f.keys, map[string]map[string]string{}, 2))
	if err := e.begin(start); err != nil {
		t.Fatal(err)
	}
	_, behind, err := f.bus.Bounds(ctx, f.topics.sequence, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := must[*sequenceReader](t)(newSequenceReader(ctx, f.bus, &f.cfg.Bus, sequencePosition{}, nil))
	defer r.close()
	controls = map[string]int{}
	for r.offset < behind {
		item := must[sequenceItem](t)(r.next(ctx))
		var out []pipeline.Alert
		switch {
		case item.control != nil:
			controls[item.control.Kind]++
			where = append(where, fmt.Sprintf("%s after %d requests, %d revisions", item.control.Kind, requests, len(list)))
			out = must[[]pipeline.Alert](t)(e.meet(nil, item.control))
		case item.block != nil || len(item.silent) > 0:
			for _, id := range item.silent {
				e.merge.Silence(id)
			}
			if item.block != nil {
				requests += len(item.block.Requests)
				e.merge.Push(item.block)
			}
			out = e.drain(nil)
			if now, ok := e.merge.Clock(); ok {
				out = e.advance(out, now)
			}
		}
		for i := range out {
			list = append(list, string(alerts.AppendJSON(nil, &out[i])))
		}
	}
	return list, requests, controls, where
}

// feed is the topic of alerts, envelopes included.
func (f *fleet) feed(ctx context.Context, t *testing.T) (list []string) {
	t.Helper()
	_, behind, err := f.bus.Bounds(ctx, f.topics.alerts, 0)
	if err == nil {
		err = readFeed(ctx, f.bus, f.topics.alerts, 0, behind, func(_ string, _ int64, a *sentAlert) error {
			list = append(list, string(a.Alert))
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// rows is of how many requests the sequence has entries.
func (f *fleet) rows(ctx context.Context, t *testing.T) (n int) {
	t.Helper()
	_, behind, err := f.bus.Bounds(ctx, f.topics.sequence, 0)
	if err == nil {
		err = f.bus.ReadRange(ctx, f.topics.sequence, 0, 0, behind, false, func(r kafka.Record) error {
			if r.Claim {
				return nil
			}
			e, err := entryOf(&r)
			if err == nil {
				n += e.Rows
			}
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFleetLearnsOnTheWay: a fleet without an edition learns one from its bus, its
// configuration changes while it works, somebody suppresses something, and processes
// are killed throughout. Its alerts are those of one process that takes the sequence
// as it is.
func TestFleetLearnsOnTheWay(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	c := busConfigOf(broker)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	dir := t.TempDir()
	scenario := writeFile(t, dir, "scenario.yaml", fmt.Appendf(nil, fleetAttacks, "status", 100))
	lines := simulatedLines(ctx, t, dir, scenario)
	files := [2]*os.File{}
	var collect []string
	for i := range files {
		files[i] = must[*os.File](t)(os.Create(filepath.Join(dir, fmt.Sprintf("access%d.log", i))))
		defer files[i].Close()
		collect = append(collect, fmt.Sprintf("{file: %q, labels: {service: shop%d}}", files[i].Name(), i))
	}
	written := 0
	write := func(share float64) {
		for until := min(len(lines), int(share*float64(len(lines)))); written < until; {
			n := min(200, until-written)
			if _, err := files[(written/200)%2].Write(bytes.Join(lines[written:written+n], nil)); err != nil {
				t.Fatal(err)
			}
			written += n
		}
	}
	write(0.01)
	sections := "collect: [" + strings.Join(collect, ", ") + "]\n"
	fleet := &fleetProcesses{t: t, config: fleetConfig(t, dir, c, sections), list: map[string]*daemon{}}
	names := []string{"collect", "detect/1", "detect/2", "correlate/1", "correlate/2", "alert/1", "alert/2"}
	for _, name := range names {
		fleet.start(name)
	}
	fleet.awaitDeal(ctx, "weir-detect", 12, "detect/1", "detect/2")
	bus := openBus(t, c)
	f := sequenceFleet(t, bus, &c, fleet.config, "test")
	restart := func(list ...string) {
		for _, name := range list {
			fleet.list[name].kill(t)
			fleet.start(name)
		}
	}
	alive := func() error {
		for name, d := range fleet.list {
			if d.ended() {
				t.Fatalf("%s ended by itself:\n%s", name, d.log)
			}
		}
		return nil
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
		defer cancel()
		again(ctx, t, what, func() error {
			if ok() {
				return nil
			}
			return errors.Join(alive(), fmt.Errorf("not yet\n%s", fleet.logs()))
		})
	}
	write(0.2)
	restart("detect/1", "correlate/1")
	write(0.42)
	await("an edition is learned", func() bool {
		edition, err := f.editionInForce(ctx)
		return err == nil && edition != nil && edition.Templates.Len() > 0
	})
	write(0.45)
	restart("detect/2", "alert/1")
	// The same file for all: who notices first says so, and SIGHUP says it again.
	fleetConfig(t, dir, c, sections+"detect: {probe.path: {mode: shadow}, volume.flood: {mode: off}}\nalerts: {suppressions: [{match: {detector: scrape.crawl}, until: 2027-01-31T00:00:00Z, reason: a test of fleets, author: anna}]}\n")
	await("the configuration is in force", func() bool {
		body, err := f.forced(ctx, controlConfig)
		return err == nil && body != nil
	})
	// Somebody who does not know that another one learns.
	before := must[*pipeline.Edition](t)(f.editionInForce(ctx))
	if err := f.learn(ctx, before.Effective.Add(time.Hour), before); err != nil {
		t.Fatal(err)
	}
	restart("correlate/2", "alert/2", "collect")
	write(0.5)
	await("the lines are on the bus", func() bool { return f.rows(ctx, t) >= written })
	suppression := pipeline.Suppression{
		ID: "s_test", Match: pipeline.SuppressionMatch{Labels: map[string]string{"service": "shop1"}}, Starts: 0, Expires: pipeline.TimeOf(time.Now().Add(time.Hour)), Author: "anna", Reason: "a test of fleets", Source: "api",
	}
	if err := f.putSuppression(ctx, suppression); err != nil {
		t.Fatal(err)
	}
	write(0.6)
	restart("detect/1")
	await("the lines are on the bus", func() bool { return f.rows(ctx, t) >= written })
	suppression.Ended = new(pipeline.TimeOf(time.Now()))
	if err := f.putSuppression(ctx, suppression); err != nil {
		t.Fatal(err)
	}
	write(1)
	restart("alert/1", "alert/2")
	var got []string
	again(ctx, t, "the fleet gives what one process makes of its sequence", func() error {
		got = f.feed(ctx, t)
		want, requests, controls, where := f.bySequence(ctx, t)
		if requests < len(lines) || len(got) < len(want) {
			return errors.Join(alive(), fmt.Errorf("%d of %d requests, %d of %d revisions\n%s", requests, len(lines), len(got), len(want), fleet.logs()))
		}
		mustBeSame(t, "the fleet", want, got)
		t.Logf("%d requests, %d revisions; %s", requests, len(got), strings.Join(where, "; "))
		if controls[controlEdition] != 2 || controls[controlConfig] < 1 || controls[sqlite.SuppressionControl] < 3 || controls[controlSources] < 2 {
			t.Errorf("the sequence has %v", controls)
		}
		return nil
	})
	editions, configs, services, silent := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, text := range got {
		var a pipeline.Alert
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatal(err)
		}
		id, _ := a.Silent()
		editions[a.Versions.Edition], configs[a.Versions.Config], services[a.Labels["service"]], silent[id] = true, true, true, true
	}
	if len(editions) < 2 || len(configs) < 2 || len(services) < 2 || len(silent) < 2 {
		t.Errorf("the alerts have editions %v, configurations %v, services %v, suppressions %v", editions, configs, services, silent)
	}
	for _, d := range fleet.list {
		d.stop(t)
	}
}

// simulatedLines is the log of a scenario.
func simulatedLines(ctx context.Context, t *testing.T, dir, scenario string) (lines [][]byte) {
	t.Helper()
	path := filepath.Join(dir, "simulated.json")
	var said bytes.Buffer
	if code := runSimulate(ctx, []string{"--scenario", scenario, "--out", path}, nil, io.Discard, &said); code != exitOK {
		t.Fatalf("exit %d: %s", code, said.String())
	}
	return slices.Collect(bytes.Lines(must[[]byte](t)(os.ReadFile(path))))
}
