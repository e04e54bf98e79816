package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/bench/services"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/clickhouse"
)

// startClickHouse starts a server that the test's end stops, or skips.
func startClickHouse(t *testing.T) *services.ClickHouse {
	t.Helper()
	s, err := services.NewClickHouse(t.TempDir())
	if errors.Is(err, services.ErrAbsent) {
		t.Skipf("no ClickHouse: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("ClickHouse said:\n%s", s.Log())
		}
		_ = s.Stop()
	})
	return s
}

// clientSum is what a client's requests come to.
type clientSum struct {
	Requests int
	Lines    int64
	Bytes    int64
}

func (s *clientSum) add(r *pipeline.Request) {
	s.Requests, s.Lines, s.Bytes = s.Requests+1, s.Lines+r.Line, s.Bytes+r.Bytes
}

// sumsOf counts what the sequence holds, by client.
func (f *fleetProcesses) sumsOf(ctx context.Context, c *busConfig) map[uint64]clientSum {
	f.t.Helper()
	bus := openBus(f.t, *c)
	r, err := newSequenceReader(ctx, bus, c, sequencePosition{}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.close()
	_, behind, err := bus.Bounds(ctx, c.topics().sequence, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	sums := map[uint64]clientSum{}
	for r.position().Offset < behind {
		item, err := r.next(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		if item.block == nil {
			continue
		}
		for i := range item.block.Requests {
			s := sums[item.block.Requests[i].Owner]
			s.add(&item.block.Requests[i])
			sums[item.block.Requests[i].Owner] = s
		}
	}
	return sums
}

// TestStoreAcrossFaults: what is on the bus is in ClickHouse, each request and each
// revision once, while store processes, ClickHouse and the broker are killed, and one
// process is stopped and comes back when another one has its partitions.
func TestStoreAcrossFaults(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	server := startClickHouse(t)
	c := busConfigOf(broker)
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	log := text(disordered(trafficLog(*killSeed), *killSeed))
	ref := referenceFor(t, map[string][]byte{"access.log": log})
	dir := t.TempDir()
	f := newFeed(t, filepath.Join(dir, "access.log"), log, *killSeed)
	f.append(t, 1+bytes.IndexByte(log, '\n'))
	config := fleetConfig(t, dir, c, fmt.Sprintf("collect: [{file: %q}]\nstore: {retention: 36500d, alert_retention: 3650d, clickhouse: {addresses: [%q], user: default}}", f.path, server.Address()))
	var out bytes.Buffer
	if code := run(ctx, []string{"migrate", "-c", config}, nil, &out, &out); code != exitOK {
		t.Fatalf("migrate: %s", out.String())
	}
	fleet := &fleetProcesses{t: t, config: config, args: []string{"--edition", ref.edition}, list: map[string]*daemon{}}
	for _, name := range []string{"collect", "detect,correlate,alert/1", "store/1", "store/2"} {
		fleet.start(name)
	}
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	write := func(share float64) {
		for until := min(f.written+int(share*float64(len(log))), len(log)); f.written < until; <-pace.C {
			f.append(t, min(1+f.rng.IntN(4000), len(log)-f.written))
		}
	}
	const group = "weir-store"
	fleet.awaitDeal(ctx, group, 12, "store/1", "store/2")
	write(0.2)
	fleet.list["store/1"].kill(t)
	write(0.1)
	server.Kill()
	fleet.awaitDeal(ctx, group, 12, "store/2")
	write(0.1)
	fleet.start("store/1")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	fleet.awaitDeal(ctx, group, 12, "store/1", "store/2")
	write(0.1)
	paused := fleet.list["store/2"]
	if err := paused.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	write(0.1)
	fleet.awaitDeal(ctx, group, 12, "store/1")
	write(0.1)
	if err := paused.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	fleet.list["store/1"].kill(t)
	server.Kill()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	fleet.start("store/1")
	write(1)
	fleet.awaitAlerts(ctx, openBus(t, c), &c, ref.alerts)
	fleet.mustBeStored(&c, server, bytes.Count(log, []byte("\n")), ref.alerts)
	if t.Failed() {
		t.Log(fleet.logs())
	}
	for name, d := range fleet.list {
		if d.ended() {
			t.Errorf("%s ended by itself:\n%s", name, d.log)
		}
		d.stop(t)
	}
}

// mustBeStored waits until ClickHouse has so many requests and the revisions that are
// wanted: each once, those of each client as they are on the bus.
func (f *fleetProcesses) mustBeStored(c *busConfig, server *services.ClickHouse, requests int, revisions []string) {
	t := f.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Second)
	defer cancel()
	want := f.sumsOf(ctx, c)
	total := 0
	for _, s := range want {
		total += s.Requests
	}
	if total != requests || len(revisions) == 0 {
		t.Fatalf("%d requests are on the bus, want %d; %d revisions are wanted", total, requests, len(revisions))
	}
	var db *clickhouse.DB
	f.await(ctx, "ClickHouse answers", func() (err error) {
		if !server.Running() {
			t.Log("ClickHouse ended by itself, and is started again")
			if err := server.Start(); err != nil {
				return err
			}
		}
		db, err = clickhouse.Open(ctx, clickhouse.Options{Addresses: []string{server.Address()}, User: "default"})
		return err
	})
	defer db.Close()
	again(ctx, t, "every request is in ClickHouse", func() error {
		if n, err := db.Count(ctx); err != nil || n < int64(total) {
			return fmt.Errorf("%d of %d: %w", n, total, err)
		}
		return nil
	})
	got := map[uint64]clientSum{}
	err := db.Requests(context.Background(), storage.RequestFilter{Limit: 1 << 24}, func(r *pipeline.Request, _ string) bool {
		s := got[r.Owner]
		s.add(r)
		got[r.Owner] = s
		return true
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("by client (-on the bus +stored): %v\n%s", err, diff)
	}
	again(ctx, t, "every revision is in ClickHouse", func() error {
		rows, err := db.AlertsAfter(ctx, 0, 1<<20)
		if err != nil {
			return err
		}
		var got []string
		for i := range rows {
			got = append(got, canonicalLines(t, rows[i].Body)...)
		}
		if diff := cmp.Diff(revisions, slices.DeleteFunc(got, followsTheClock)); diff != "" {
			return fmt.Errorf("(-analyze +stored):\n%s", diff)
		}
		return nil
	})
}
