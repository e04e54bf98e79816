package alerts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

	dial func(sink string) func(ctx context.Context, network, address string) (net.Conn, error) // of tests
}

// Deliverer brings stored alerts to sinks, one goroutine a sink, in the order of
// the feed, at least once: after a crash the last attempt may come again, under the
// same ids. The revisions of one alert come in their order.
type Deliverer struct {
	o       DelivererOptions
	metrics *metrics

	mu       sync.Mutex
	ctx      context.Context // of Run; nil before
	ended    bool
	wg       sync.WaitGroup
	couriers map[string]*courier
	beats    context.CancelFunc // ends the heartbeats
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
	State  string        // ok, failing, down, degraded (it refuses us), disabled
	Reason string        // of the last failure, "" when ok
	Lag    int64         // revisions behind the feed
	Age    time.Duration // how long the oldest of them has waited
}

// NewDeliverer opens the sinks. A new sink starts with what comes from now on.
func NewDeliverer(o DelivererOptions) (*Deliverer, error) {
	d := &Deliverer{o: o, metrics: newMetrics(o.Metrics), couriers: map[string]*courier{}}
	sinks := o.Sinks
	if sinks == nil {
		var err error
		if sinks, err = d.open(&o.Config); err != nil {
			return nil, err
		}
	}
	cfg := o.Config
	for _, name := range sortedKeys(sinks) {
		d.couriers[name] = d.courier(name, d.turn(&cfg, name, sinks[name]))
	}
	return d, nil
}

// open opens every sink of c, or none.
func (d *Deliverer) open(c *Config) (map[string]Sink, error) {
	networks, err := c.Networks()
	if err != nil {
		return nil, fmt.Errorf("alerts.allow_networks: %w", err)
	}
	sinks := map[string]Sink{}
	for _, name := range sortedKeys(c.Sinks) {
		o := SinkOptions{Version: d.o.Version, Networks: networks, Kafka: d.o.Kafka}
		if d.o.dial != nil {
			o.dial = d.o.dial(name)
		}
		s, err := OpenSink(c.Sinks[name], o)
		if err != nil {
			closeSinks(sinks)
			return nil, fmt.Errorf("alerts.sinks.%s: %w", name, err)
		}
		sinks[name] = s
	}
	return sinks, nil
}

func closeSinks(sinks map[string]Sink) {
	for _, s := range sinks {
		if c, ok := s.(io.Closer); ok {
			_ = c.Close()
		}
	}
}

func (d *Deliverer) turn(c *Config, name string, sink Sink) *turn {
	s := c.Sinks[name]
	t := &turn{cfg: c, sink: sink, waits: c.waits(name)}
	t.batch, t.pace = s.limits()
	if s.Clear() {
		t.open = d.o.Open
	}
	return t
}

func (d *Deliverer) courier(name string, t *turn) *courier {
	for _, r := range []string{"sent", "failed", "dead", "skipped", "repeated"} {
		d.metrics.total.WithLabelValues(name, r)
	}
	d.metrics.dead.WithLabelValues(name)
	return &courier{
		name: name, next: t, pending: map[string][]int64{}, store: d.o.Store, log: d.o.Log.With(zap.String("sink", name)), metrics: d.metrics,
		wake: make(chan struct{}, 1), status: SinkStatus{Name: name, State: "ok"}, ahead: map[int64]bool{}, replaced: map[int64]bool{},
	}
}

// Run delivers until ctx ends, and returns when every sink's goroutine has.
func (d *Deliverer) Run(ctx context.Context) {
	d.mu.Lock()
	d.ctx = ctx
	for _, name := range sortedKeys(d.couriers) {
		d.start(d.couriers[name])
	}
	d.beat()
	d.mu.Unlock()
	<-ctx.Done()
	d.mu.Lock()
	d.ended = true // no reload starts another
	d.mu.Unlock()
	d.wg.Wait()
}

// start runs c; mu is held.
func (d *Deliverer) start(c *courier) {
	ctx := d.ctx
	d.wg.Go(func() { c.run(ctx) })
}

// beat starts the heartbeats of the webhooks anew; mu is held.
func (d *Deliverer) beat() {
	if d.beats != nil {
		d.beats()
	}
	ctx, stop := context.WithCancel(d.ctx)
	d.beats = stop
	for _, name := range sortedKeys(d.couriers) {
		if hook, ok := d.couriers[name].sinkNow().(*webhook); ok && hook.every > 0 && d.o.Heartbeat != nil {
			b := &heartbeat{hook: hook, data: d.o.Heartbeat, log: d.o.Log.With(zap.String("sink", name))}
			d.wg.Go(func() { b.run(ctx) })
		}
	}
}

// Wake says that there are new alerts; without it they are seen within five
// seconds. It never blocks and may be called from any goroutine.
func (d *Deliverer) Wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.couriers {
		c.rouse()
	}
}

// Status returns how the sinks do, by name. Any goroutine may call it.
func (d *Deliverer) Status() []SinkStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]SinkStatus, 0, len(d.couriers))
	for _, name := range sortedKeys(d.couriers) {
		c := d.couriers[name]
		c.mu.Lock()
		out = append(out, c.status)
		c.mu.Unlock()
	}
	return out
}

type metrics struct {
	total, dead *prometheus.CounterVec
	lag, age    *prometheus.GaugeVec
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
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_delivery_lag_seconds", Help: "How long the oldest alert revision that a sink does not have has waited.",
		}, []string{"sink"}),
	}
	if r != nil {
		m.total, m.dead, m.lag, m.age = register(r, m.total), register(r, m.dead), register(r, m.lag), register(r, m.age)
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
