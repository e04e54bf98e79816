package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/alerts"
)

// configEvery is how often the configuration file is looked at. It is reloaded once it
// was the same twice: nobody reads half of it.
const configEvery = 2 * time.Second

// reloader gives a running weir another configuration. One goroutine uses it.
type reloader struct {
	s         *service
	deliverer *alerts.Deliverer
	load      func() (*config, error) // with what the command line adds
	path      string                  // of the file; "" none
	cfg       *config                 // in force
	body      []byte                  // of the control record in force
	file      string                  // what was read last, see fileSum
	changing  string                  // what was seen and not read yet
	asks      chan chan reloadAnswer  // of who waits for what becomes of it
}

// reloadAnswer is what became of a reload.
type reloadAnswer struct {
	waits []string // takes a restart
	err   error
}

// ask reloads and returns what became of it. Any goroutine may call it.
func (r *reloader) ask(ctx context.Context) ([]string, error) {
	answer := make(chan reloadAnswer, 1)
	select {
	case r.asks <- answer:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a := <-answer:
		return a.waits, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fileSum tells one content of the file from another; "" while it cannot be read.
func fileSum(path string) string {
	data, err := os.ReadFile(path)
	if path == "" || err != nil {
		return ""
	}
	return sumOf(data)
}

func sumOf(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// run reloads at SIGHUP, and when the file changes, until ctx ends.
func (r *reloader) run(ctx context.Context, hup <-chan os.Signal) {
	tick := time.NewTicker(configEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			_ = r.reload(ctx, "SIGHUP") // it has said what is wrong
		case answer := <-r.asks:
			answer <- r.reload(ctx, "it was applied over the API")
		case <-tick.C:
			if r.changed() {
				_ = r.reload(ctx, "the file changed")
			}
		}
	}
}

// changed reports whether the file is another than was read, and complete.
func (r *reloader) changed() bool {
	now := fileSum(r.path)
	if now == "" || now == r.file {
		r.changing = ""
		return false
	}
	settled := now == r.changing
	r.changing = now
	return settled
}

// reload reads the configuration and puts into force what can be; a bad one changes
// nothing.
func (r *reloader) reload(ctx context.Context, why string) reloadAnswer {
	s := r.s
	text, err := readSmall(r.path)
	var waits []string
	if err == nil {
		waits, err = r.apply(ctx, text)
	}
	if ctx.Err() != nil {
		return reloadAnswer{nil, ctx.Err()}
	}
	if r.path != "" {
		r.file, r.changing = sumOf(text), ""
	}
	s.status.setReload(err, waits)
	if err != nil {
		s.metrics.reloads.WithLabelValues("failed").Inc()
		s.metrics.reloadOK.Set(0)
		s.log.Error("the new configuration is bad: the old one stays in force", zap.String("because", why), zap.String("file", r.path), zap.Error(err))
		return reloadAnswer{nil, err}
	}
	if s.tuning != nil {
		s.tuning.applied(string(text), r.cfg.hash())
	}
	s.metrics.reloads.WithLabelValues("ok").Inc()
	s.metrics.reloadOK.Set(1)
	s.log.Info("configuration reloaded", zap.String("because", why), zap.String("config", r.cfg.hash()))
	if len(waits) > 0 {
		s.log.Warn("some of the new configuration takes a restart of weir; the rest is in force", zap.Strings("waits", waits))
	}
	return reloadAnswer{waits, nil}
}

// apply puts a new configuration into force: sinks and routes between two attempts,
// what detection reads at its place in the log. waits names what takes a restart.
func (r *reloader) apply(ctx context.Context, text []byte) (waits []string, err error) {
	if r.path == "" {
		return nil, errors.New("weir runs without a configuration file; start it with -c")
	}
	next, err := r.load()
	if err != nil {
		return nil, err
	}
	now, waits := r.cfg.reloaded(next)
	body := r.body
	err = r.deliverer.Reload(now.Alerts, func() error {
		if err := r.s.recordNames(ctx, r.cfg.Alerts.Sinks, now.Alerts.Sinks); err != nil {
			return err
		}
		if body, err = r.s.publishConfig(ctx, now, text, r.body); err != nil {
			return err
		}
		return r.s.publishSuppressions(ctx, now)
	})
	if err != nil {
		return nil, err
	}
	r.cfg, r.body = now, body
	r.s.inForce.Store(now)
	return waits, nil
}

// reloaded is c with what of next may change while weir runs: the modes of detectors,
// the weights of endpoints, and alerts. waits are the keys of the rest that differ.
func (c *config) reloaded(next *config) (now *config, waits []string) {
	n := *c
	n.Detect, n.Alerts = next.Detect, next.Alerts
	if equalButWeights(c, next) {
		n.Endpoints = next.Endpoints
	} else {
		waits = append(waits, "endpoints (match, role, failure)")
	}
	for _, part := range []struct {
		name     string
		old, new any
	}{
		{"collect", c.Collect, next.Collect},
		{"identity", c.Identity, next.Identity},
		{"context", c.Context, next.Context},
		{"store", c.Store, next.Store},
		{"console", c.Console, next.Console},
		{"privacy", c.Privacy, next.Privacy},
		{"bus", c.Bus, next.Bus},
		{"log", c.Log, next.Log},
	} {
		waits = append(waits, differing(part.name, reflect.ValueOf(part.old), reflect.ValueOf(part.new))...)
	}
	return &n, waits
}

// equalButWeights reports whether both have the same endpoints, in the same order, but
// for how much they weigh.
func equalButWeights(a, b *config) bool {
	if len(a.Endpoints) != len(b.Endpoints) {
		return false
	}
	for i := range a.Endpoints {
		x := a.Endpoints[i]
		if x.Weight = b.Endpoints[i].Weight; !reflect.DeepEqual(x, b.Endpoints[i]) {
			return false
		}
	}
	return true
}

// differing lists the keys below name whose values differ; of lists the list.
func differing(name string, a, b reflect.Value) []string {
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return nil
	}
	if a.Kind() != reflect.Struct {
		return []string{name}
	}
	var out []string
	for i := range a.NumField() {
		key, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
		if key != "" && key != "-" && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			out = append(out, name+"."+key)
		}
	}
	return out
}

// hangups is told of SIGHUP until stop.
func hangups() (hup chan os.Signal, stop func()) {
	hup = make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	return hup, func() { signal.Stop(hup) }
}

// reloadStatus is what became of the last reload.
type reloadStatus struct {
	err   string   // "" it is in force
	waits []string // takes a restart
}

func (s *status) setReload(err error, waits []string) {
	r := reloadStatus{waits: waits}
	if err != nil {
		r.err = err.Error()
		if old := s.reload.Load(); old != nil {
			r.waits = old.waits
		}
	}
	s.reload.Store(&r)
}

// notes says what somebody who looks at a weir that is ready should know.
func (s *service) notes() (list []string) {
	r := s.status.reload.Load()
	if r == nil {
		return nil
	}
	if r.err != "" {
		list = append(list, "the configuration file is bad, an older one is in force: see the log")
	}
	if len(r.waits) > 0 {
		list = append(list, "of the configuration take a restart: "+strings.Join(r.waits, ", "))
	}
	return list
}

// reloadMetrics are those of the configuration.
func reloadMetrics() (reloads *prometheus.CounterVec, ok prometheus.Gauge) {
	reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_config_reloads_total", Help: "Reloads of the configuration, by result: ok, failed (the old one stayed in force).",
	}, []string{"result"})
	ok = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "weir_config_last_reload_successful", Help: "1 while the configuration file is what is in force, 0 while the last reload found it bad.",
	})
	for _, result := range []string{"ok", "failed"} {
		reloads.WithLabelValues(result)
	}
	ok.Set(1)
	return reloads, ok
}
