package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// Every process says with its beat how far its slices are. The one that makes alerts
// compares that with where the logs end, and so knows who is behind, also of slices
// that nobody has.

const (
	// sinkLagTooLong is how long a sink may be behind before that is told: routes may
	// hold alerts back, and a sink is tried again less and less often.
	sinkLagTooLong = 15 * time.Minute
)

// sliceName is a slice of a stage, as people call it.
type sliceName struct {
	Stage string `json:"stage"`
	Slice int    `json:"slice"`
}

// The stages beside those of pipeline.
const (
	stageDetect      = "detect"
	stageAlert       = "alert"
	stageStore       = "store"
	stageStoreAlerts = "store-alerts"
)

// reads is the partition that a slice reads.
func (t *busTopics) reads(n sliceName) kafka.TopicPartition {
	switch n.Stage {
	case stageAlert:
		return kafka.TopicPartition{Topic: t.findings}
	case stageStoreAlerts:
		return kafka.TopicPartition{Topic: t.alerts}
	}
	for _, s := range crossStages() {
		if n.Stage == s.String() {
			return kafka.TopicPartition{Topic: t.topic(s), Partition: n.Slice}
		}
	}
	return kafka.TopicPartition{Topic: t.sequence}
}

// progressBook is how far the slices of this process are. Several goroutines use it.
type progressBook struct {
	mu sync.Mutex
	at map[sliceName]int64 // offset, everything before it was taken
}

// reach notes that a slice has taken what is before an offset.
func (b *progressBook) reach(stage string, slice int, offset int64) {
	b.mu.Lock()
	b.at[sliceName{stage, slice}] = offset
	b.mu.Unlock()
}

// leave notes that this process does not have a slice any more.
func (b *progressBook) leave(stage string, slice int) {
	b.mu.Lock()
	delete(b.at, sliceName{stage, slice})
	b.mu.Unlock()
}

// list is what is known, in order.
func (b *progressBook) list() (list []reached) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n, at := range b.at {
		list = append(list, reached{n, at})
	}
	slices.SortFunc(list, func(x, y reached) int {
		return strings.Compare(fmt.Sprintf("%s/%04d", x.Stage, x.Slice), fmt.Sprintf("%s/%04d", y.Stage, y.Slice))
	})
	return list
}

// reached is how far a slice is.
type reached struct {
	sliceName
	At int64 `json:"at"`
}

// lagOf is how far a stage is behind: its slowest slice.
type lagOf struct {
	records int64
	oldest  time.Duration // how long what is taken next has waited
	moves   bool          // all of its slices that are behind have moved since the last look
}

// lagBook works out lags from positions and ends. One goroutine uses it.
type lagBook struct {
	backlog map[sliceName][]mark
	before  map[sliceName]int64
}

func newLagBook() *lagBook {
	return &lagBook{backlog: map[sliceName][]mark{}, before: map[sliceName]int64{}}
}

// maxBacklog bounds the moments that are remembered of a slice.
const maxBacklog = 4096

// look returns the lags by stage, of slices at positions in logs that end there now.
func (b *lagBook) look(now time.Time, at map[sliceName]int64, end func(sliceName) (int64, bool)) map[string]lagOf {
	lags := map[string]lagOf{}
	for n, position := range at {
		behind, ok := end(n)
		if !ok {
			continue
		}
		list := b.backlog[n]
		if len(list) == 0 || list[len(list)-1].position < behind {
			list = append(list, mark{now, behind})
		}
		for len(list) > 0 && (list[0].position <= position || len(list) > maxBacklog) {
			list = list[1:]
		}
		b.backlog[n] = list
		lag, known := lags[n.Stage]
		if !known {
			lag.moves = true
		}
		lag.records = max(lag.records, behind-position)
		if len(list) > 0 {
			lag.oldest = max(lag.oldest, now.Sub(list[0].at))
			lag.moves = lag.moves && position > b.before[n]
		}
		b.before[n] = position
		lags[n.Stage] = lag
	}
	for n := range b.backlog {
		if _, ok := at[n]; !ok {
			delete(b.backlog, n)
			delete(b.before, n)
		}
	}
	return lags
}

// ends asks the brokers where the logs of slices end.
func (f *fleet) ends(ctx context.Context, at map[sliceName]int64) (func(sliceName) (int64, bool), error) {
	var list []kafka.TopicPartition
	for n := range at {
		if p := f.topics.reads(n); !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return func(sliceName) (int64, bool) { return 0, false }, nil
	}
	within, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	ends, err := f.bus.Ends(within, list)
	return func(n sliceName) (int64, bool) {
		behind, ok := ends[f.topics.reads(n)]
		return behind, ok
	}, err
}

// measure works out how far this process's slices are behind.
func (f *fleet) measure(ctx context.Context, lags *lagBook) {
	at := map[sliceName]int64{}
	for _, r := range f.progress.list() {
		at[r.sliceName] = r.At
	}
	end, err := f.ends(ctx, at)
	if err != nil {
		return // it is said elsewhere
	}
	f.health.stageRecords.Reset()
	f.health.stageSeconds.Reset()
	byStage := lags.look(time.Now(), at, end)
	f.status.appended.Store(f.status.detected.Load() + byStage[stageDetect].records)
	for stage, lag := range byStage {
		f.health.stageRecords.WithLabelValues(stage).Set(float64(lag.records))
		f.health.stageSeconds.WithLabelValues(stage).Set(lag.oldest.Seconds())
	}
}

// lagKeeper watches the whole fleet's progress, in the process that makes alerts.
type lagKeeper struct {
	f       *fleet
	started time.Time
	monitor monitor // remembers what was told

	mu    sync.Mutex
	at    map[sliceName]int64
	heard map[sliceName]time.Time
}

func newLagKeeper(f *fleet) *lagKeeper {
	return &lagKeeper{f: f, started: f.status.startedAt(), monitor: monitor{told: map[string]time.Time{}}, at: map[sliceName]int64{}, heard: map[sliceName]time.Time{}}
}

// take takes what a process says, at some time.
func (k *lagKeeper) take(value []byte, at time.Time) {
	var told processBeat
	if json.Unmarshal(value, &told) != nil {
		return // the console shows that nothing is known of it
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range told.At {
		k.at[r.sliceName] = max(k.at[r.sliceName], r.At)
		if at.After(k.heard[r.sliceName]) {
			k.heard[r.sliceName] = at
		}
	}
}

// known are the slices that somebody had in the last day.
func (k *lagKeeper) known(now time.Time) map[sliceName]int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := map[sliceName]int64{}
	for n, at := range k.at {
		if now.Sub(k.heard[n]) < beatForgotten {
			list[n] = at
		}
	}
	return list
}

// run watches until ctx ends; sinks tells how those do, nil without any.
func (k *lagKeeper) run(ctx context.Context, sinks func() []sinkLag) error {
	f := k.f
	book := newMarksBook(f.bus, f.topics.marks, processPrefix)
	book.changed = func(_ string, m markedValue) { k.take(m.value, m.time) }
	following, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var reader sync.WaitGroup
	known := make(chan struct{})
	reader.Go(func() { stop(book.follow(following, known)) })
	defer reader.Wait()
	defer stop(nil)
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	defer f.health.fleetRecords.Reset()
	defer f.health.fleetSeconds.Reset()
	lags := newLagBook()
	select {
	case <-known:
	case <-following.Done():
	}
	for {
		select {
		case <-following.Done():
			if err := context.Cause(following); ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		case <-tick.C:
		}
		now := time.Now()
		at := k.known(now)
		end, err := f.ends(following, at)
		if err != nil {
			continue // it is said elsewhere
		}
		byStage := lags.look(now, at, end)
		findings := k.look(now, byStage, sinks)
		for stage, lag := range byStage {
			f.health.fleetRecords.WithLabelValues(stage).Set(float64(lag.records))
			f.health.fleetSeconds.WithLabelValues(stage).Set(lag.oldest.Seconds())
		}
		if err := f.tellAll(following, findings); err != nil && following.Err() == nil {
			f.log.Warn("cannot say who is behind, and tries on", zap.Error(err))
		}
	}
}

// look returns who is behind for too long. Who works off what was stored before this
// process began is not: history takes its time.
func (k *lagKeeper) look(now time.Time, lags map[string]lagOf, sinks func() []sinkLag) (list []pipeline.Finding) {
	event := pipeline.Time(k.f.status.eventTime.Load())
	live := event != 0 && !event.Std().Before(k.started)
	for _, s := range stagesInOrder() {
		lag, ok := lags[s.name]
		if ok && lag.oldest >= lagTooLong && (live || !lag.moves) {
			list = k.monitor.tell(list, now, s.finding(lag))
		}
	}
	if sinks == nil {
		return list
	}
	for _, s := range sinks() {
		if s.age >= sinkLagTooLong {
			list = k.monitor.tell(list, now, s.finding())
		}
	}
	return list
}

// laggingStage is what is told of a stage that is behind.
type laggingStage struct{ name, who, title, waits, cost, fix string }

func stagesInOrder() []laggingStage {
	list := []laggingStage{{
		stageDetect, "detection", "Detection", "detection", "Alerts come that much later.",
		"Does every detect process run, does it keep up? Add some, up to bus.partitions, or faster cores; or switch off detectors that are not needed",
	}}
	for _, s := range crossStages() {
		list = append(list, laggingStage{
			s.String(), "correlation " + s.String(), "Correlation (" + s.String() + ")", "correlation", "Alerts come that much later.",
			"Does every correlate process run, does it keep up? Add some, up to bus.partitions, or faster cores",
		})
	}
	return append(list,
		laggingStage{
			stageAlert, "alerting", "Alerting", "the alert stage", "Alerts come that much later.",
			"Is its machine overloaded? See weir_stage_lag_seconds and the log of the active alert process",
		},
		laggingStage{
			stageStore, "storing requests", "Storing requests", "ClickHouse", "Detection goes on; searches do not find what came since. The bus keeps what waits for bus.retention.",
			"Does ClickHouse take inserts, does every store process run? See weir_store_failures_total",
		},
		laggingStage{
			stageStoreAlerts, "storing alerts", "Storing alerts", "ClickHouse", "Sinks get them; searches do not find them.",
			"Does ClickHouse take inserts, does a store process run? See weir_store_failures_total",
		})
}

func (s *laggingStage) finding(lag lagOf) pipeline.Finding {
	f := healthFinding("health.lag", s.who, s.title+" is "+span(lag.oldest)+" behind",
		fmt.Sprintf("%d records of the bus wait for %s, the oldest for %s. %s", lag.records, s.waits, span(lag.oldest), s.cost),
		"lag_seconds", lag.oldest.Seconds(), 0, s.fix)
	f.BenignIf, f.WouldNotFireIf = []string{"a burst that is being worked off"}, "nothing waited for more than "+span(lagTooLong)
	return f
}

// sinkLag is how far a sink is behind.
type sinkLag struct {
	name, state, reason string
	alerts              int64
	age                 time.Duration
}

func (s *sinkLag) finding() pipeline.Finding {
	why := ""
	if s.reason != "" {
		why = " It says: " + s.reason
	}
	f := healthFinding("health.lag", "sink "+s.name, "Sink "+s.name+" is "+span(s.age)+" behind",
		fmt.Sprintf("%d alert revisions wait for it, the oldest for %s; it is %s. Nothing is lost: they are sent once it takes them.%s", s.alerts, span(s.age), s.state, why),
		"lag_seconds", s.age.Seconds(), 0, "Is it up, does it take what weir sends? See weir_delivery_total and the log of the active alert process")
	f.BenignIf, f.WouldNotFireIf = []string{"maintenance of the receiver"}, "nothing waited for more than "+span(sinkLagTooLong)
	return f
}
