package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"weir/alerts"
	"weir/pipeline"
	"weir/pipeline/kafka"
)

// The processes of a fleet say how they are: a record each among the marks. The
// console shows it, and the process that makes alerts sees who is behind.

const (
	processPrefix = "process/"
	beatEvery     = 5 * time.Second
	// beatGone is how old a record is whose process does not run any more, and
	// beatForgotten when it is removed.
	beatGone      = 4 * beatEvery
	beatForgotten = 24 * time.Hour
)

// processBeat is how a process is.
type processBeat struct {
	Instance    string              `json:"instance"`
	PID         int                 `json:"pid"`
	Roles       []string            `json:"roles"`
	Version     string              `json:"version"`
	Config      string              `json:"config"`
	Started     time.Time           `json:"started"`
	Slices      map[string]int64    `json:"slices,omitempty"`  // that it has, by group
	Lag         map[string]int64    `json:"lag,omitempty"`     // records that wait, by stage
	At          []reached           `json:"at,omitempty"`      // how far its slices are
	Through     *pipeline.Time      `json:"through,omitempty"` // event time of the alerts that it made
	Requests    int64               `json:"requests"`          // since its start, as the rest
	Rejects     map[string]int64    `json:"rejects,omitempty"`
	Differences int64               `json:"differences,omitempty"`
	Sources     []sourceBeat        `json:"sources,omitempty"`
	Sinks       []alerts.SinkStatus `json:"sinks,omitempty"`
	Ended       bool                `json:"ended,omitempty"` // as it was told to
}

// sourceBeat is how a source of a collector is.
type sourceBeat struct {
	Source   string         `json:"source"` // as the bus has it
	Lines    int64          `json:"lines"`
	Rejected int64          `json:"rejected"`
	Lost     int64          `json:"lost"`
	LastLine *pipeline.Time `json:"last_line"`
}

// beat says how this process is until ctx ends.
func (f *fleet) beat(ctx context.Context, list []role) {
	var roles []string
	for _, r := range list {
		roles = append(roles, r.name)
	}
	key := fmt.Appendf(nil, "%s%s/%d", processPrefix, f.instance, os.Getpid())
	p := f.bus.NewProducer(f.topics.marks, 0, true)
	defer p.Close()
	tell := func(ctx context.Context, ended bool) {
		b := f.beatNow(roles)
		b.Ended = ended
		value, err := json.Marshal(b)
		if err == nil {
			_, err = p.Append(ctx, []kafka.Record{{Key: key, Value: value, Epoch: kafka.NoEpoch}})
		}
		if err != nil && ctx.Err() == nil {
			f.log.Warn("cannot say how this process is", zap.Error(err))
		}
	}
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	lags := newLagBook()
	for ctx.Err() == nil {
		f.measure(ctx, lags)
		tell(ctx, false)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	tell(ending, true)
}

// beatNow is how this process is now.
func (f *fleet) beatNow(roles []string) processBeat {
	b := processBeat{
		Instance: f.instance, PID: os.Getpid(), Roles: roles, Version: version, Config: f.current().hash(), Started: f.status.startedAt().UTC(),
		Slices: f.sums("weir_bus_slices", "group", f.cfg.Bus.Prefix), Lag: f.sums("weir_stage_lag_records", "stage", ""),
		At: f.progress.list(), Rejects: f.sums("weir_rejects_total", "reason", ""), Differences: f.status.differences.Load(),
	}
	if t := f.status.eventTime.Load(); t != 0 {
		b.Through = new(pipeline.Time(t))
	}
	if list := f.collecting.Load(); list != nil {
		for _, src := range *list {
			s := sourceBeat{Source: f.instance + ":" + src.name, Lines: src.pulse.lines.Load(), Rejected: src.pulse.rejected.Load(), LastLine: optionalTime(pipeline.Time(src.pulse.heard.Load()))}
			if src.lost != nil {
				s.Lost = src.lost()
			}
			b.Requests += s.Lines - s.Rejected
			b.Sources = append(b.Sources, s)
		}
	}
	if d := f.service.deliverer.Load(); d != nil {
		b.Sinks = d.Status()
	}
	return b
}

// sums adds up this process's metrics of one name, by one label without a prefix.
func (f *fleet) sums(name, label, prefix string) map[string]int64 {
	out := map[string]int64{}
	families, err := f.metrics.registry.Gather()
	if err != nil && len(families) == 0 {
		return out
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if n := int64(m.GetGauge().GetValue() + m.GetCounter().GetValue()); n != 0 {
				out[strings.TrimPrefix(labelOf(m, label), prefix)] += n
			}
		}
	}
	return out
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
