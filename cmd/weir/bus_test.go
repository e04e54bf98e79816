package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/bench/services"
	"weir/pipeline/kafka"
)

// busConfigOf is the bus of a fleet on a test's broker.
func busConfigOf(brokers ...*services.Kafka) busConfig {
	c := defaultBus()
	c.Replication, c.MinISR = len(brokers), max(1, len(brokers)-1)
	for _, k := range brokers {
		c.Brokers = append(c.Brokers, k.Address())
	}
	return c
}

func openBus(t *testing.T, c busConfig) *kafka.Bus {
	t.Helper()
	cluster, err := c.cluster()
	if err != nil {
		t.Fatal(err)
	}
	bus, err := kafka.NewBus(cluster, zap.NewNop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	return bus
}

// TestBus: topics, logs, states and groups on a real broker.
func TestBus(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	c := busConfigOf(broker)
	bus := openBus(t, c)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	again(ctx, t, "make the topics", func() error { return bus.Ensure(ctx, c.specs()) })
	t.Run("topics", func(t *testing.T) { tryTopics(ctx, t, bus, c) })
	t.Run("log", func(t *testing.T) { tryLog(ctx, t, bus, c, broker) })
	t.Run("state", func(t *testing.T) { tryState(ctx, t, bus, c) })
	t.Run("group", func(t *testing.T) { tryGroup(ctx, t, bus, c) })
	t.Run("oauthbearer", func(t *testing.T) { tryBearer(ctx, t, broker) })
}

// tryTopics: what is there and fits is left alone, what does not is named.
func tryTopics(ctx context.Context, t *testing.T, bus *kafka.Bus, c busConfig) {
	if err := bus.Ensure(ctx, c.specs()); err != nil {
		t.Errorf("the same again: %v", err)
	}
	f := func(change func(c *busConfig), want ...string) {
		t.Helper()
		other := c
		change(&other)
		err := bus.Ensure(ctx, other.specs())
		if !errors.Is(err, kafka.ErrTopic) {
			t.Errorf("%v", err)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("no %q in: %v", w, err)
			}
		}
	}
	f(func(c *busConfig) { c.Partitions = 7 }, "topic weir-requests: it has 12 partitions, bus.partitions says 7", "topic weir-state")
	f(func(c *busConfig) { c.Replication, c.MinISR = 3, 2 }, "min.insync.replicas is 1, bus.min_isr says 2")
	f(func(c *busConfig) { c.Retention *= 2 }, "topic weir-requests: retention.ms is")
	f(func(c *busConfig) { c.Prefix, c.Replication = "other-", 3 }, "set bus.replication")
	turned := []kafka.TopicSpec{
		{Name: c.topics().state, Partitions: 12, Replicas: 1, MinISR: 1, Retention: time.Hour}, {Name: c.topics().requests, Partitions: 12, Replicas: 1, MinISR: 1, Compact: true},
	}
	if err := bus.Ensure(ctx, turned); err == nil || !strings.Contains(err.Error(), `topic weir-state: cleanup.policy is "compact"`) || !strings.Contains(err.Error(), `topic weir-requests: cleanup.policy is "delete"`) {
		t.Errorf("other policies: %v", err)
	}
}

// tryLog: records of all sizes come out as they went in, across the broker's
// death; where reading ends can be gone on from.
func tryLog(ctx context.Context, t *testing.T, bus *kafka.Bus, c busConfig, broker *services.Kafka) {
	topic := c.topics().template
	p := bus.NewProducer(topic, 3, true)
	defer p.Close()
	var sent []kafka.Record
	for i := range 40 {
		sent = append(sent, kafka.Record{Key: fmt.Appendf(nil, "k%d", i%3), Value: bytes.Repeat([]byte{byte(i)}, i*i*i*50), Epoch: int64(i) - 1})
	}
	for i := 0; i < len(sent); i += 10 {
		if i == 20 {
			broker.Kill()
			go func() {
				if err := broker.Start(); err != nil {
					t.Error(err)
				}
			}()
		}
		w, err := p.Append(ctx, sent[i:i+10])
		if err != nil {
			t.Fatal(err)
		}
		if w.Next != sent[i+9].Offset+1 || int(w.Next-w.First) != w.Parts {
			t.Errorf("written %+v, and the last record is at %d", w, sent[i+9].Offset)
		}
	}
	tail, err := bus.NewTail(ctx, topic, 3, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range sent {
		if i == 30 { // begin anew
			at := tail.Position()
			tail.Close()
			if tail, err = bus.NewTail(ctx, topic, 3, at, false); err != nil {
				t.Fatal(err)
			}
		}
		got, err := tail.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got.Offset != want.Offset || string(got.Key) != string(want.Key) || got.Epoch != want.Epoch || !bytes.Equal(got.Value, want.Value) {
			t.Fatalf("record %d: %d bytes at %d under %s by %d, want %d at %d under %s by %d", i,
				len(got.Value), got.Offset, got.Key, got.Epoch, len(want.Value), want.Offset, want.Key, want.Epoch)
		}
	}
	tail.Close()
	if _, err := bus.NewTail(ctx, topic, 3, 1<<40, false); !errors.Is(err, kafka.ErrTopic) {
		t.Errorf("an offset of another topic: %v", err)
	}
	dead := bus.NewDeadLetters(c.topics().dead)
	defer dead.Close()
	if err := dead.Put(ctx, topic, 3, sent[1], "block", errors.New("cut")); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = bus.ReadRange(ctx, c.topics().dead, 0, 0, 1, false, func(r kafka.Record) error {
		n++
		if text := string(r.Value); !strings.Contains(text, `"reason":"block"`) || !strings.Contains(text, `"error":"cut"`) || !strings.Contains(text, fmt.Sprintf(`"offset":%d`, sent[1].Offset)) {
			t.Errorf("dead letter %s", text)
		}
		return nil
	})
	if err != nil || n != 1 {
		t.Errorf("%d dead letters: %v", n, err)
	}
}

// tryState: a checkpoint comes back whole; half of one, and what an owner writes
// that is none any more, does not.
func tryState(ctx context.Context, t *testing.T, bus *kafka.Bus, c busConfig) {
	topic := c.topics().state
	open := func() *kafka.State {
		t.Helper()
		s, err := bus.OpenState(ctx, topic, 5, "detect/5", "test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	holds := func(s *kafka.State, head string, chunks map[uint32]string) {
		t.Helper()
		got, read, there := s.Checkpoint()
		if there != (head != "") || string(got) != head {
			t.Fatalf("checkpoint %q, want %q", got, head)
		}
		for id, want := range chunks {
			if data, err := read(id); err != nil || string(data) != want {
				t.Errorf("%s: chunk %d of %d bytes, want %d: %v", head, id, len(data), len(want), err)
			}
		}
	}
	other, err := bus.OpenState(ctx, topic, 5, "detect/55", "test") // a neighbour in the partition
	ok(err)
	defer other.Close()
	other.Begin()
	other.Put(1, []byte("other"))
	ok(other.Finish(ctx, []byte("neighbour")))

	first := open()
	holds(first, "", nil)
	if !first.Whole() {
		t.Error("the first checkpoint is not a whole one")
	}
	big := strings.Repeat("0123456789", 300_000)
	first.Begin()
	first.Put(1, []byte("one"))
	first.Put(2, []byte(big))
	ok(first.Flush(ctx))
	first.Put(3, []byte{})
	ok(first.Finish(ctx, []byte("a")))
	first.Begin()
	first.Put(2, []byte("two"))
	ok(first.Finish(ctx, []byte("b")))
	first.Begin() // half a checkpoint
	first.Put(1, []byte("ONE"))
	first.Put(3, []byte("THREE"))
	ok(first.Flush(ctx))

	second := open()
	holds(second, "b", map[uint32]string{1: "one", 2: "two", 3: "", 4: ""})
	// The owner before goes on as if nothing was.
	first.Begin()
	first.Put(1, []byte("zombie"))
	ok(first.Finish(ctx, []byte("zombie")))
	third := open()
	holds(third, "b", map[uint32]string{1: "one", 2: "two"})
	third.Begin()
	third.Put(1, []byte("uno"))
	third.Put(2, []byte(big))
	ok(third.Finish(ctx, []byte("c")))
	third.Begin()
	third.Put(2, nil)
	ok(third.Finish(ctx, []byte("d")))
	first.Begin()
	first.Put(2, []byte("zombie"))
	ok(first.Finish(ctx, []byte("zombie")))
	second.Begin()
	second.Put(1, []byte("zombie"))
	ok(second.Finish(ctx, []byte("zombie")))
	holds(open(), "d", map[uint32]string{1: "uno", 2: ""})
	again, err := bus.OpenState(ctx, topic, 5, "detect/55", "test")
	ok(err)
	defer again.Close()
	holds(again, "neighbour", map[uint32]string{1: "other"})
}

// tryGroup: slices are all had, each by one, as members come and go; nobody gets
// one before it was let go.
func tryGroup(ctx context.Context, t *testing.T, bus *kafka.Bus, c busConfig) {
	var mu sync.Mutex
	holders := map[int]string{}
	changed := make(chan struct{}, 1000)
	member := func(name string) (leave func()) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			err := bus.RunGroup(ctx, "weir-detect", c.topics().requests, func(ctx context.Context, deal kafka.Deal) error {
				mu.Lock()
				for _, s := range deal.Owned {
					if other := holders[s]; other != "" {
						t.Errorf("%s gets slice %d that %s has", name, s, other)
					}
					holders[s] = name
				}
				mu.Unlock()
				changed <- struct{}{}
				<-ctx.Done()
				mu.Lock()
				for _, s := range deal.Owned {
					delete(holders, s)
				}
				mu.Unlock()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}()
		return func() { cancel(); <-done }
	}
	await := func(what string, names ...string) map[int]string {
		t.Helper()
		for {
			mu.Lock()
			counts := map[string]int{}
			copied := map[int]string{}
			for s, name := range holders {
				counts[name]++
				copied[s] = name
			}
			mu.Unlock()
			good := len(copied) == c.Partitions && len(counts) == len(names)
			for _, name := range names {
				good = good && counts[name] == c.Partitions/len(names)
			}
			if good {
				return copied
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("%s: %v", what, copied)
			}
		}
	}
	leaveA := member("a")
	await("one has all", "a")
	leaveB := member("b")
	before := await("two share", "a", "b")
	leaveC := member("c")
	after := await("three share", "a", "b", "c")
	moved := 0
	for s, name := range after {
		if before[s] != name {
			moved++
		}
	}
	if moved != c.Partitions/3 {
		t.Errorf("%d slices moved to the third of three, want %d", moved, c.Partitions/3)
	}
	leaveB()
	await("two are left", "a", "c")
	leaveA()
	leaveC()
}

// tryBearer: a token in a file is shown to the broker, and another is refused.
func tryBearer(ctx context.Context, t *testing.T, broker *services.Kafka) {
	dir := t.TempDir()
	from := kafkaConfig{
		Brokers: []string{broker.SecureAddress()}, TLS: &clientTLSConfig{CAFile: broker.CAFile()},
		SASL: &saslConfig{Mechanism: kafka.OAuthBearer, TokenFile: writeFile(t, dir, "token", []byte(services.KafkaToken+"\n"))},
	}
	cluster, err := from.cluster()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := cluster.Partitions(ctx, "weir-requests")
	if err != nil || len(ids) != 12 || !slices.IsSorted(ids) {
		t.Errorf("partitions %v: %v", ids, err)
	}
	writeFile(t, dir, "token", []byte("e30.e30."))
	if _, err := cluster.Partitions(ctx, "weir-requests"); err == nil || !strings.Contains(err.Error(), "SASL") && !strings.Contains(err.Error(), "token") {
		t.Errorf("a token that is none: %v", err)
	}
}
