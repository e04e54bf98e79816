package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/pipeline/kafka"
)

// fleetConfig is a configuration for all processes of a fleet, over sections that
// the test gives.
func fleetConfig(t *testing.T, dir string, c busConfig, sections string) string {
	t.Helper()
	text := fmt.Sprintf("bus: {brokers: ['%s'], replication: %d, min_isr: %d}\nprivacy: {key_file: %q}\n%s\n",
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
	write := func(until int) {
		for written < until {
			n := min(1+rng.IntN(40), until-written)
			if _, err := f.Write(text(log[written : written+n])); err != nil {
				t.Fatal(err)
			}
			written += n
			time.Sleep(time.Millisecond)
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
