package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// poisonAddress probes in a block that nobody can read.
const poisonAddress = "198.51.100.111"

// damage makes a block unreadable but for its head, as a fault of a disk may.
func damage(t *testing.T, block []byte) []byte {
	t.Helper()
	for i := len(block) / 2; i < len(block); i += 7 {
		block[i] ^= 0x55
	}
	var h pipeline.BlockHeader
	if err := pipeline.DecodeHeader(block, &h); err != nil {
		t.Fatalf("the head went, too: %v", err)
	}
	if err := pipeline.NewCodec().DecodeBlock(block, new(pipeline.Block)); err == nil || errors.Is(err, pipeline.ErrBlockVersion) {
		t.Fatalf("the damage is none: %v", err)
	}
	return block
}

// lettersOf counts what is put aside by topic and reason.
func (f *followedFleet) lettersOf(ctx context.Context) map[string]int {
	f.t.Helper()
	topic := f.c.topics().dead
	_, behind, err := f.bus.Bounds(ctx, topic, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	out := map[string]int{}
	err = f.bus.ReadRange(ctx, topic, 0, 0, behind, false, func(r kafka.Record) error {
		var letter kafka.DeadLetter
		if err := json.Unmarshal(r.Value, &letter); err != nil {
			return err
		}
		if letter.Error == "" || len(letter.Value) == 0 {
			return fmt.Errorf("a letter without a cause or content: %s", r.Value)
		}
		out[letter.Topic+" "+letter.Reason]++
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// TestFleetAcrossPoison: a block of a source is damaged, entries and bundles are no
// such thing. They are put aside with their reason and counted, everything else goes
// on, and the alerts are those of a log without the lines of that block.
func TestFleetAcrossPoison(t *testing.T) {
	t.Parallel()
	brokers := startBrokers(t, t.TempDir(), 1)
	f := newFollowedFleet(t, text(trafficLog(*killSeed)), "", brokers...)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	// The collector of another bus reads the same log: what it makes of the lines in
	// question is what gets damaged.
	other := f.c
	other.Prefix = "other-"
	second := &fleetProcesses{t: t, args: f.args, list: map[string]*daemon{}}
	second.config = writeFile(t, t.TempDir(), "other.yaml", []byte(strings.Replace(readText(t, f.config), "bus: {", "bus: {prefix: other-, ", 1)))
	for _, name := range []string{"collect", "detect", "correlate", "alert"} {
		f.start(name)
	}
	second.start("collect")
	f.awaitDeal(ctx, "weir-detect", 12, "detect")
	half := f.behind(guesserAddress, 1)
	f.writeTo(half)
	var poison strings.Builder
	for i, line := range strings.Split(strings.TrimSpace(string(f.log.data[half:half+40_000])), "\n")[:200] {
		_, stamp, _ := strings.Cut(line, "[")
		stamp, _, _ = strings.Cut(stamp, "]")
		fmt.Fprintf(&poison, "%s - - [%s] \"GET /hidden%d.php HTTP/1.1\" 404 9 \"-\" \"curl/8.9\"\n", poisonAddress, stamp, i)
	}
	mustName(t, analyzed(t, writeFile(t, t.TempDir(), "access.log", append([]byte(poison.String()), f.log.data...))), poisonAddress)
	at := map[*busConfig]int64{&f.c: 0, &other: 0}
	for c := range at {
		again(ctx, t, "half of the log is on the bus", func() error {
			if sizes, _ := onBus(ctx, t, f.bus, c); len(sizes) != f.lines() {
				return fmt.Errorf("%d of %d lines", len(sizes), f.lines())
			}
			return nil
		})
	}
	f.list["collect"].stop(t)
	_, from, err := f.bus.Bounds(ctx, other.topics().sequence, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.log.file.WriteString(poison.String()); err != nil {
		t.Fatal(err)
	}
	again(ctx, t, "the other collector has them", func() error {
		if sizes, _ := onBus(ctx, t, f.bus, &other); sizes[9] != 200 {
			return fmt.Errorf("%d of 200", sizes[9])
		}
		return nil
	})
	second.list["collect"].stop(t)
	blocks := f.copyDamaged(ctx, &other, from)
	// What is no entry, no block and no bundle.
	topics := f.c.topics()
	stranger := sourceKey(4711)
	entry, err := json.Marshal(sequenceEntry{Source: "nobody", ID: 4711, Cause: &pipeline.CauseRange{To: 9}, Rows: 9, At: new(f.put(ctx, topics.requests, 7, stranger, []byte{1, 2, 3}))})
	if err != nil {
		t.Fatal(err)
	}
	f.put(ctx, topics.sequence, 0, stranger, entry)
	f.put(ctx, topics.sequence, 0, stranger, []byte(`{"source":`))
	f.put(ctx, topics.sequence, 0, nil, []byte("no entry"))
	for _, topic := range []string{topics.template, topics.login, topics.findings, topics.truths} {
		f.put(ctx, topic, 0, nil, []byte{1, 0xff, 0xff})
	}
	f.start("collect")
	f.writeAll()
	f.awaitAlerts(ctx, f.bus, &f.c, f.ref.alerts)
	want := map[string]int{
		topics.requests + " block": blocks + 1, topics.sequence + " entry": 2,
		topics.template + " bundle": 1, topics.login + " bundle": 1, topics.findings + " bundle": 1, topics.truths + " bundle": 1,
	}
	total := 0.0
	for what, n := range f.lettersOf(ctx) {
		if want[what] != n {
			t.Errorf("%d letters of %s, want %d", n, what, want[what])
		}
		total += float64(n)
		delete(want, what)
	}
	counted := 0.0
	for _, name := range []string{"detect", "correlate", "alert"} {
		counted += max(0, f.list[name].metric("weir_bus_dead_letters_total"))
	}
	if len(want) > 0 || counted != total {
		t.Errorf("missing %v; %v are counted, %v there", want, counted, total)
	}
	f.stopAll()
}

// put appends a record and returns where it is.
func (f *followedFleet) put(ctx context.Context, topic string, partition int, key, value []byte) blockAt {
	f.t.Helper()
	p := f.bus.NewProducer(topic, partition, false)
	defer p.Close()
	r := []kafka.Record{{Key: key, Value: value, Epoch: kafka.NoEpoch}}
	if _, err := p.Append(ctx, r); err != nil {
		f.t.Fatal(err)
	}
	return blockAt{partition, r[0].First}
}

// copyDamaged appends the blocks of another bus to this one, damaged, as the owner of
// their source would, and returns how many there are.
func (f *followedFleet) copyDamaged(ctx context.Context, other *busConfig, from int64) (n int) {
	t := f.t
	t.Helper()
	_, behind, err := f.bus.Bounds(ctx, other.topics().sequence, 0)
	if err != nil {
		t.Fatal(err)
	}
	topics := f.c.topics()
	sequence := f.bus.NewProducer(topics.sequence, 0, true)
	defer sequence.Close()
	epoch := kafka.NoEpoch
	err = f.bus.ReadRange(ctx, other.topics().sequence, 0, from, behind, false, func(r kafka.Record) error {
		e, err := entryOf(&r)
		if err != nil || e.At == nil {
			return err
		}
		block, err := readBlock(ctx, f.bus, other.topics().requests, e.ID, *e.At)
		if err != nil {
			return err
		}
		if epoch == kafka.NoEpoch {
			if epoch, err = sequence.Claim(ctx, sourceKey(e.ID), "test"); err != nil {
				return err
			}
		}
		e.At = new(f.put(ctx, topics.requests, e.At.Partition, sourceKey(e.ID), damage(t, block)))
		value, err := json.Marshal(e)
		if err == nil {
			_, err = sequence.Append(ctx, []kafka.Record{{Key: sourceKey(e.ID), Value: value, Epoch: epoch}})
		}
		n++
		return err
	})
	if err != nil || n == 0 {
		t.Fatalf("%d blocks are damaged: %v", n, err)
	}
	return n
}
