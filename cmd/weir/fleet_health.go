package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/pipeline"
)

// fleetHealth is what a process of a fleet tells of the fleet's health.
type fleetHealth struct {
	heard    *prometheus.GaugeVec
	alerting prometheus.Gauge

	stageRecords, stageSeconds *prometheus.GaugeVec // of this process
	fleetRecords, fleetSeconds *prometheus.GaugeVec // of all
}

func newFleetHealth() *fleetHealth {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"stage"})
	}
	return &fleetHealth{
		stageRecords: gauge("weir_stage_lag_records", "Records that wait for a stage's slices in this process, the slowest of them."),
		stageSeconds: gauge("weir_stage_lag_seconds", "How long what the slowest of a stage's slices in this process takes next has waited."),
		fleetRecords: gauge("weir_fleet_lag_records", "Records that wait for the slowest slice of a stage, whoever has it. Of the process that makes alerts."),
		fleetSeconds: gauge("weir_fleet_lag_seconds", "How long what the slowest slice of a stage takes next has waited, whoever has it. Of the process that makes alerts."),
		heard: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_collector_last_heard_timestamp_seconds", Help: "When a collector last said anything; those that work do each second. Of the process that makes alerts.",
		}, []string{"collector"}),
		alerting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_alerting", Help: "1 in the process that makes alerts, 0 in one that stands by."}),
	}
}

func (h *fleetHealth) all() []prometheus.Collector {
	return []prometheus.Collector{h.heard, h.alerting, h.stageRecords, h.stageSeconds, h.fleetRecords, h.fleetSeconds}
}

// tellHealth puts a finding of weir's own at the end of the sequence.
func (f *fleet) tellHealth(ctx context.Context, g *pipeline.Finding) error {
	g.Time = pipeline.TimeOf(time.Now())
	return f.appendControl(ctx, controlHealth, g)
}

// tellAll puts findings at the end of the sequence, and says so.
func (f *fleet) tellAll(ctx context.Context, list []pipeline.Finding) error {
	for i := range list {
		g := &list[i]
		f.log.Warn(g.Title, zap.String("detector", g.Detector), zap.String("reason", g.Reason), zap.String("fix", g.Next[0]))
		f.metrics.told.WithLabelValues(g.Detector).Inc()
		if err := f.tellHealth(ctx, g); err != nil {
			return err
		}
	}
	return nil
}
