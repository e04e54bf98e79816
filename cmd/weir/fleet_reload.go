package main

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"
)

// fleetReloader gives a process of a running fleet another configuration. What
// detection and alerts read of it goes into the sequence, unless it is in force there
// already: all processes have the same file, and one of them comes first. One goroutine
// uses it.
type fleetReloader struct {
	f    *fleet
	load func() (*config, error)
	hup  <-chan os.Signal
	file reloader // knows the file
}

// run reloads at SIGHUP, and when the file changes, until ctx ends. publishes says that
// the process tells the fleet.
func (r *fleetReloader) run(ctx context.Context, publishes bool) {
	tick := time.NewTicker(configEvery)
	defer tick.Stop()
	for {
		why := "the file changed"
		select {
		case <-ctx.Done():
			return
		case <-r.hup:
			why = "SIGHUP"
		case <-tick.C:
			if !r.file.changed() {
				continue
			}
		}
		r.reload(ctx, why, publishes)
	}
}

// reload reads the configuration and puts into force what can be; a bad one changes
// nothing.
func (r *fleetReloader) reload(ctx context.Context, why string, publishes bool) {
	f := r.f
	text, err := readSmall(r.file.path)
	var waits []string
	if err == nil {
		waits, err = r.apply(ctx, publishes)
	}
	if ctx.Err() != nil {
		return
	}
	r.file.file, r.file.changing = sumOf(text), ""
	f.status.setReload(err, waits)
	if err != nil {
		f.metrics.reloads.WithLabelValues("failed").Inc()
		f.metrics.reloadOK.Set(0)
		f.log.Error("the new configuration is bad: the old one stays in force", zap.String("because", why), zap.String("file", r.file.path), zap.Error(err))
		return
	}
	if t := f.reloaded.Load(); t != nil {
		t.applied(string(text), f.current().hash())
	}
	f.metrics.reloads.WithLabelValues("ok").Inc()
	f.metrics.reloadOK.Set(1)
	f.log.Info("configuration reloaded", zap.String("because", why), zap.String("config", f.current().hash()))
	if len(waits) > 0 {
		f.log.Warn("some of the new configuration takes a restart of weir; the rest is in force", zap.Strings("waits", waits))
	}
}

// apply puts a new configuration into force; waits names what takes a restart.
func (r *fleetReloader) apply(ctx context.Context, publishes bool) (waits []string, err error) {
	f := r.f
	next, err := r.load()
	if err != nil {
		return nil, err
	}
	now, waits := f.current().reloaded(next)
	publish := func() error {
		if !publishes {
			return nil
		}
		return f.publish(ctx, now, f.current())
	}
	if d := f.service.deliverer.Load(); d != nil {
		err = d.Reload(now.Alerts, publish)
	} else {
		if len(f.current().Alerts.Sinks) == 0 && len(now.Alerts.Sinks) > 0 {
			waits = append(waits, "alerts.sinks (the first one)")
		}
		err = publish()
	}
	if err != nil {
		return nil, err
	}
	f.inForce.Store(now)
	return waits, nil
}
