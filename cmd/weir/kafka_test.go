package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/bench/services"
	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
)

// startKafka starts a broker of a test that runs with make e2e only.
func startKafka(t *testing.T) *services.Kafka {
	t.Helper()
	return startBrokers(t, t.TempDir(), 1)[0]
}

// startBrokers starts a cluster of a test that runs with make e2e only, with its
// data in dir.
func startBrokers(t *testing.T, dir string, n int) []*services.Kafka {
	t.Helper()
	if os.Getenv("WEIR_E2E") == "" {
		t.Skip("runs with make e2e: brokers take some seconds, and so does noticing that a process is gone")
	}
	return newBrokers(t, dir, n)
}

// newBrokers starts a cluster that the test's end kills. It skips where there is no
// Java, or no Kafka for it.
func newBrokers(t *testing.T, dir string, n int) []*services.Kafka {
	t.Helper()
	list, err := services.NewKafkaCluster(dir, n)
	if errors.Is(err, services.ErrAbsent) {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		t.Skipf("no Kafka: %s", reason)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		t.Cleanup(k.Kill)
	}
	return list
}

// TestKafkaAcrossKills: weir reads a topic of a real broker while both are killed
// again and again. Every line is in the store, and once.
func TestKafkaAcrossKills(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	cluster := kafka.Cluster{Brokers: []string{broker.Address()}}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const topic, partitions = "web", 3
	again(ctx, t, "create the topic", func() error { return cluster.Create(ctx, topic, partitions) })
	again(ctx, t, "see the partitions", func() error {
		ids, err := cluster.Partitions(ctx, topic)
		if err == nil && len(ids) != partitions {
			err = fmt.Errorf("partitions %v", ids)
		}
		return err
	})

	dir := t.TempDir()
	store := filepath.Join(dir, "weir.db")
	config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil,
		"collect: [{kafka: {brokers: [%q], topic: %s, group: test}, labels: {service: shop}}]\n", broker.Address(), topic))
	args := []string{"run", "-c", config, "--store", store, "--listen", "127.0.0.1:0"}
	log := trafficLog(*killSeed)
	var d *daemon
	start := func() {
		d = startDaemon(t, args...)
		d.waitReady(t)
	}
	start()

	// One line a record, or a few. Kills come while lines are written: a share of
	// the writes is let go before each. What may have been written twice is told
	// apart.
	var mu sync.Mutex
	twice, written := map[int64]bool{}, 0
	const lines = 8 // of a write
	writes := (len(log) + lines - 1) / lines
	let := make(chan struct{}, writes)
	var writing sync.WaitGroup
	for id := range partitions {
		writing.Go(func() {
			rng := rand.New(rand.NewPCG(*killSeed, uint64(id)))
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for from := id * lines; from < len(log); from += lines * partitions {
				<-let
				<-pace.C
				part := log[from:min(from+lines, len(log))]
				var values [][]byte
				for i := 0; i < len(part); {
					n := min(1+rng.IntN(3), len(part)-i)
					values = append(values, slices.Clone(text(part[i:i+n])))
					i += n
				}
				tries := 0
				again(ctx, t, "write", func() error {
					if tries++; tries > 1 {
						mu.Lock()
						for i := range part {
							twice[int64(firstSize+from+i)] = true
						}
						mu.Unlock()
					}
					return cluster.Write(ctx, topic, id, values)
				})
				mu.Lock()
				written++
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() {
		writing.Wait()
		close(done)
	}()
	rng := rand.New(rand.NewPCG(*killSeed, 16))
	share := writes / (*kills + 1)
	for n := range *kills {
		for range share {
			let <- struct{}{}
		}
		after := n*share + share/4 + rng.IntN(share/2)
		eventually(t, "some lines are written", d, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return written >= after
		})
		if n%3 != 2 {
			broker.Kill()
		}
		if n%3 != 1 {
			d.kill(t)
		}
		if n%3 != 2 {
			if err := broker.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if n%3 != 1 {
			start()
		}
	}
	for range writes - *kills*share {
		let <- struct{}{}
	}
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatalf("not all lines could be written\n%s", d.log)
	}
	before := len(log)
	eventually(t, "all lines are stored", d, func() bool { return len(storedSizes(t, store)) == before })
	d.stop(t)
	have, lost, repeated := storedSizes(t, store), 0, 0
	for i := range log {
		size := int64(firstSize + i)
		if have[size] == 0 {
			lost++
		} else if have[size] > 1 && !twice[size] {
			repeated += have[size] - 1
		}
	}
	if lost > 0 || repeated > 0 || len(have) != len(log) {
		t.Errorf("%d of %d lines are lost, %d are stored again that were written once; %d different ones are stored", lost, len(log), repeated, len(have))
	}
	t.Logf("%d kills, %d lines, %d of them perhaps written twice", *kills, len(log), len(twice))
	db := openStored(t, store)
	defer db.Close()
	st, err := db.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range st.Sources {
		if s.Requests > 0 && !strings.HasPrefix(s.Source, "kafka:web/") {
			t.Errorf("source %s", s.Source)
		}
	}
}

// TestKafkaSecure: weir reads over TLS as a user, by each mechanism, what is in
// the topic, which is history to it; a wrong password is called one.
func TestKafkaSecure(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	cluster := kafka.Cluster{Brokers: []string{broker.Address()}}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const topic = "web"
	again(ctx, t, "create the topic", func() error { return cluster.Create(ctx, topic, 1) })
	log := trafficLog(*killSeed)
	again(ctx, t, "write", func() error { return cluster.Write(ctx, topic, 0, [][]byte{text(log)}) })
	dir := t.TempDir()
	password := writeFile(t, dir, "password", []byte(services.KafkaPassword+"\n"))
	for _, mechanism := range kafka.Mechanisms() {
		store := filepath.Join(dir, mechanism+".db")
		config := writeFile(t, dir, mechanism+".yaml", fmt.Appendf(nil,
			"collect: [{kafka: {brokers: [%q], topic: %s, group: %s, tls: {ca_file: %q}, sasl: {mechanism: %s, user: %s, password_file: %q}}}]\n",
			broker.SecureAddress(), topic, mechanism, broker.CAFile(), mechanism, services.KafkaUser, password))
		d := startDaemon(t, "run", "-c", config, "--store", store, "--listen", "127.0.0.1:0")
		d.waitReady(t)
		eventually(t, "all lines are stored", d, func() bool { return d.metric("weir_requests_total") == float64(len(log)) })
		d.stop(t)
		db := openStored(t, store)
		n := 0
		err := db.Requests(ctx, storage.RequestFilter{Limit: 1 << 20}, func(r *pipeline.Request, source string) bool {
			if n++; r.Line != 0 || source != "kafka:web/0" || r.Flags&pipeline.FlagBackfill == 0 {
				t.Errorf("%s: request of %s:%d, flags %b", mechanism, source, r.Line, r.Flags)
				return false
			}
			return true
		})
		if err := errors.Join(err, db.Close()); err != nil || n != len(log) {
			t.Errorf("%s: %d requests are stored, want %d: %v", mechanism, n, len(log), err)
		}
	}
	pem, err := os.ReadFile(broker.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	wrong := kafka.Cluster{Brokers: []string{broker.SecureAddress()}, TLS: &tls.Config{RootCAs: roots}, Mechanism: "scram-sha-512", User: services.KafkaUser, Password: "guess"}
	if _, err := wrong.Partitions(ctx, topic); err == nil || !strings.Contains(err.Error(), "SASL") {
		t.Errorf("a wrong password: %v", err)
	}
}

// again does f until it succeeds.
func again(ctx context.Context, t *testing.T, what string, f func() error) {
	t.Helper()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%s: %v", what, err)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestKafkaSinkAcrossKills: each alert is in the topic of a real broker though weir
// and the broker are killed; those of one alert are in one partition, in order.
func TestKafkaSinkAcrossKills(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	cluster := kafka.Cluster{Brokers: []string{broker.Address()}}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	again(ctx, t, "create the topic", func() error { return cluster.Create(ctx, "alerts", 3) })
	again(ctx, t, "see the partitions", func() error { _, err := cluster.Partitions(ctx, "alerts"); return err })
	dir := t.TempDir()
	password := writeFile(t, dir, "password", []byte(services.KafkaPassword+"\n"))
	store := filepath.Join(dir, "weir.db")
	config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil, `store: {path: %q}
alerts: {sinks: {siem: {kafka: {brokers: [%q], topic: alerts, tls: {ca_file: %q}, sasl: {mechanism: scram-sha-256, user: %s, password_file: %q}}}}}
`, store, broker.SecureAddress(), broker.CAFile(), services.KafkaUser, password))
	log := disordered(trafficLog(*killSeed), *killSeed)
	f := newFeed(t, filepath.Join(dir, "access.log"), text(log), *killSeed)
	args := []string{"run", "-c", config, "--store", store, "--listen", "127.0.0.1:0", f.path}
	d := startDaemon(t, args...)
	eventually(t, "the sink is known", d, func() bool { return d.url() != "" && sinkKnown(t, store) })
	begin(t, d, f)
	rng := rand.New(rand.NewPCG(*killSeed, 15))
	const steps = 200
	for step := 0; f.write(t, 1.0/steps); step++ {
		if rng.IntN(steps) < *kills {
			d.kill(t)
			d = startDaemon(t, args...)
			d.waitReady(t)
		}
		if step == steps/2 {
			broker.Kill()
			again(ctx, t, "start the broker again", broker.Start)
		}
	}
	d.waitReady(t)
	eventually(t, "all lines are detected", d, func() bool {
		return drained(t, store, int64(len(log)), 1) && d.metric("weir_detect_lag_records") == 0
	})
	ids := wanted(t, store)
	if len(ids) < 2 {
		t.Fatalf("only %d revisions are for the sink", len(ids))
	}
	reader := newAlertReader(cluster)
	go func() { _ = reader.topic(t).Run(ctx) }()
	eventually(t, "each revision is in the topic", d, func() bool { return len(reader.missing(ids)) == 0 })
	d.stop(t)
	reader.mu.Lock()
	defer reader.mu.Unlock()
	for _, w := range reader.wrong {
		t.Error(w)
	}
}

// alertReader reads all partitions of the topic alerts.
type alertReader struct {
	cluster kafka.Cluster
	mu      sync.Mutex
	got     map[string]bool
	where   map[string]int // partition of an alert
	newest  map[string]int
	wrong   []string
}

func newAlertReader(c kafka.Cluster) *alertReader {
	return &alertReader{cluster: c, got: map[string]bool{}, where: map[string]int{}, newest: map[string]int{}}
}

func (r *alertReader) topic(t *testing.T) *kafka.Topic {
	t.Helper()
	topic, err := kafka.NewTopic(kafka.TopicConfig{
		Cluster: r.cluster, Topic: "alerts", Group: "siem", Partition: func(id int) kafka.Partition { return &alertPartition{reader: r, id: id} }, Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func (r *alertReader) missing(ids []string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return r.got[id] })
}

// alertPartition takes the messages of one partition.
type alertPartition struct {
	reader *alertReader
	id     int
	mu     sync.Mutex
	next   int64
	begun  bool
}

func (p *alertPartition) Position() (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next, p.begun
}

func (p *alertPartition) Kept() (int64, bool) { return p.Position() }

func (p *alertPartition) Begin(offset, _ int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.begun = offset, true
}

func (p *alertPartition) Put(_ context.Context, list []kafka.Message) error {
	r := p.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range list {
		var a pipeline.Alert
		if err := json.Unmarshal(m.Value, &a); err != nil {
			r.wrong = append(r.wrong, err.Error())
			continue
		}
		key := fmt.Sprintf("%s.%d", a.ID, a.Revision)
		if at, ok := r.where[a.ID]; ok && at != p.id {
			r.wrong = append(r.wrong, key+" is in another partition than its alert")
		}
		if !r.got[key] && a.Revision < r.newest[a.ID] {
			r.wrong = append(r.wrong, fmt.Sprintf("%s comes after revision %d", key, r.newest[a.ID]))
		}
		r.got[key], r.where[a.ID] = true, p.id
		r.newest[a.ID] = max(r.newest[a.ID], a.Revision)
	}
	p.mu.Lock()
	p.next = list[len(list)-1].Offset + 1
	p.mu.Unlock()
	return nil
}
