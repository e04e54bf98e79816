package alerts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/pipeline"
)

// Row is a stored alert revision. Seq grows in the order of the feed.
type Row struct {
	Seq      int64
	Backfill bool // history: no sink gets it
	Alert    pipeline.Alert
}

// Retry is an alert that a sink did not take and that is tried again apart
// from the others.
type Retry struct {
	Seq      int64
	Attempts int // failed so far
	Next     time.Time
}

// Store is what delivery keeps. Every write is durable when it returns, and
// doing it twice is doing it once. Several goroutines use it, each for its sink.
type Store interface {
	// AlertsAfter returns at most limit revisions with Seq > seq, in order.
	AlertsAfter(ctx context.Context, seq int64, limit int) ([]Row, error)
	// LastAlert returns the highest Seq, 0 when there is none.
	LastAlert(ctx context.Context) (int64, error)
	// SinkCursor returns how far sink is; known is false for a new sink.
	SinkCursor(ctx context.Context, sink string) (seq int64, known bool, err error)
	SetSinkCursor(ctx context.Context, sink string, seq int64) error
	// SaveRetry remembers or updates a retry; DueRetries returns those with
	// Next <= now, the longest due first; DropRetry forgets one.
	SaveRetry(ctx context.Context, sink string, r Retry) error
	DueRetries(ctx context.Context, sink string, now time.Time, limit int) ([]Retry, error)
	DropRetry(ctx context.Context, sink string, seq int64) error
	// DeadLetter keeps a revision that sink will not get, and drops its retry.
	// attempts is a JSON list of the last tries.
	DeadLetter(ctx context.Context, sink string, seq int64, reason string, attempts []byte) error
	// Told and SinkGroups return what a sink knows of open alerts; SaveTold stores what
	// changed together with the cursor. LatestAlert returns an alert's last revision.
	Told(ctx context.Context, sink string) ([]Told, error)
	SinkGroups(ctx context.Context, sink string) ([]SinkGroup, error)
	SaveTold(ctx context.Context, sink string, c ToldChange) error
	LatestAlert(ctx context.Context, id string) (r Row, ok bool, err error)
}

// DelivererOptions are what NewDeliverer needs. Config has passed Validate.
type DelivererOptions struct {
	Config  Config
	Store   Store
	Sinks   map[string]Sink                    // by name; nil opens those of Config
	Version string                             // of weir, for the User-Agent
	Kafka   func(KafkaConfig) (Produce, error) // how topics are written; nil is not at all
	Log     *zap.Logger
	Metrics prometheus.Registerer
	// Heartbeat returns what heartbeats say, a JSON object; nil sends none.
	Heartbeat func() []byte
	// Open returns the name behind an account's token, for sinks that are shown names.
	Open func(token string) (name string, ok bool)
}

// Deliverer brings stored alerts to sinks, one goroutine a sink, in the order of
// the feed, at least once: after a crash the last attempt may come again, under the
// same ids. The revisions of one alert come in their order.
type Deliverer struct {
	couriers []*courier
	beats    []*heartbeat
}

// heartbeat tells one webhook that weir lives.
type heartbeat struct {
	hook *webhook
	data func() []byte
	log  *zap.Logger
}

func (b *heartbeat) run(ctx context.Context) {
	tick := time.NewTicker(b.hook.every)
	defer tick.Stop()
	failing := false
	for {
		err := b.hook.beat(ctx, b.data())
		if err != nil && ctx.Err() == nil && !failing {
			b.log.Warn("a heartbeat is not taken", zap.Error(err))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// SinkStatus is how a sink does.
type SinkStatus struct {
	Name   string
	State  string // ok, failing, down, degraded (it refuses us), disabled
	Reason string // of the last failure, "" when ok
	Lag    int64  // revisions behind the feed
}

// NewDeliverer opens the sinks. A new sink starts with what comes from now on.
func NewDeliverer(o DelivererOptions) (*Deliverer, error) {
	m := newMetrics(o.Metrics)
	sinks := o.Sinks
	if sinks == nil {
		networks, err := o.Config.Networks()
		if err != nil {
			return nil, fmt.Errorf("alerts.allow_networks: %w", err)
		}
		sinks = map[string]Sink{}
		for _, name := range sortedKeys(o.Config.Sinks) {
			s, err := OpenSink(o.Config.Sinks[name], SinkOptions{Version: o.Version, Networks: networks, Kafka: o.Kafka})
			if err != nil {
				return nil, fmt.Errorf("alerts.sinks.%s: %w", name, err)
			}
			sinks[name] = s
		}
	}
	d := &Deliverer{}
	for _, name := range sortedKeys(sinks) {
		s := o.Config.Sinks[name]
		batch, pace := s.limits()
		c := &courier{
			name: name, sink: sinks[name], batch: batch, pace: pace, pending: map[string][]int64{}, cfg: &o.Config, store: o.Store, log: o.Log.With(zap.String("sink", name)),
			metrics: m, wake: make(chan struct{}, 1), status: SinkStatus{Name: name, State: "ok"}, ahead: map[int64]bool{},
			waits: o.Config.waits(name), replaced: map[int64]bool{},
		}
		if _, ok := sinks[name].(GroupSink); ok {
			c.ledger = newLedger(nil, nil)
		}
		if s.Clear() {
			c.open = o.Open
		}
		d.couriers = append(d.couriers, c)
		if hook, ok := sinks[name].(*webhook); ok && hook.every > 0 && o.Heartbeat != nil {
			d.beats = append(d.beats, &heartbeat{hook: hook, data: o.Heartbeat, log: o.Log.With(zap.String("sink", name))})
		}
		for _, r := range []string{"sent", "failed", "dead", "skipped", "repeated"} {
			m.total.WithLabelValues(name, r)
		}
		m.dead.WithLabelValues(name)
	}
	return d, nil
}

// Run delivers until ctx ends, and returns when every sink's goroutine has.
func (d *Deliverer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, c := range d.couriers {
		wg.Go(func() { c.run(ctx) })
	}
	for _, b := range d.beats {
		wg.Go(func() { b.run(ctx) })
	}
	wg.Wait()
}

// Wake says that there are new alerts; without it they are seen within five
// seconds. It never blocks and may be called from any goroutine.
func (d *Deliverer) Wake() {
	for _, c := range d.couriers {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// Status returns how the sinks do, by name. Any goroutine may call it.
func (d *Deliverer) Status() []SinkStatus {
	out := make([]SinkStatus, 0, len(d.couriers))
	for _, c := range d.couriers {
		c.mu.Lock()
		out = append(out, c.status)
		c.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b SinkStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

type metrics struct {
	total, dead *prometheus.CounterVec
	lag         *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_delivery_total", Help: "Tries to deliver an alert revision to a sink, by result: sent, failed, dead, skipped, repeated.",
		}, []string{"sink", "result"}),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_dead_letters_total", Help: "Alert revisions that a sink will not get.",
		}, []string{"sink"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_delivery_lag_alerts", Help: "Alert revisions that a sink is behind the feed.",
		}, []string{"sink"}),
	}
	if r != nil {
		m.total, m.dead, m.lag = register(r, m.total), register(r, m.dead), register(r, m.lag)
	}
	return m
}

// register returns c, or the one of its name that is registered already: sinks
// are reloaded without a restart.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if err := r.Register(c); err != nil {
		if are, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			if old, ok := are.ExistingCollector.(C); ok {
				return old
			}
		}
	}
	return c
}
