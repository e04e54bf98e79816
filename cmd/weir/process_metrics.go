package main

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
)

// processMetrics registers what a process tells of itself: who it is, since when,
// and what it takes of its machine. roles are those that it has, run for all in one.
func processMetrics(r prometheus.Registerer, started time.Time, roles ...string) {
	role := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_role_info", Help: "1 for each role that this process has, run for all in one, with weir's version."}, []string{"role", "version"})
	for _, name := range roles {
		role.WithLabelValues(name, version).Set(1)
	}
	start := prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_start_timestamp_seconds", Help: "When this process started."})
	start.Set(float64(started.Unix()))
	r.MustRegister(role, start,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector())
}

// roleMetrics are the metrics that stay at 0 in a process of a fleet without the
// roles that feed them: it does not show them, since rules take 0 for an answer. Without
// roles they are of weir run alone.
func roleMetrics() map[string][]string {
	return map[string][]string{
		"weir_lines_total":                 {"collect"},
		"weir_requests_total":              {"collect", "detect"},
		"weir_otlp_skipped_spans_total":    {"collect"},
		"weir_log_position":                {"collect"},
		"weir_replay_differences":          {"alert", "serve"},
		"weir_heartbeat_timestamp_seconds": {"alert"},
		"weir_detect_lag_seconds":          {"alert"},
		"weir_detect_lag_records":          {"detect"},
		"weir_detect_position":             {"detect"},
		"weir_shed_requests_total":         {},
		"weir_store_full_total":            {},
		"weir_store_bytes":                 {"serve"},
		"weir_principals":                  {"detect"},
		"weir_profiles":                    {"detect"},
		"weir_case_files":                  {"detect"},
		"weir_evictions":                   {"detect"},
		"weir_late_requests":               {"detect"},
		"weir_duplicate_requests":          {"detect"},
		"weir_skewed_requests":             {"detect"},
		"weir_alerting":                    {"alert"},
	}
}

// ofRoles returns what of g a process of a fleet with these roles shows.
func ofRoles(g prometheus.Gatherer, list []role) prometheus.Gatherer {
	of := roleMetrics()
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := g.Gather()
		return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool {
			feeders, some := of[f.GetName()]
			return some && !slices.ContainsFunc(list, func(r role) bool { return slices.Contains(feeders, r.name) })
		}), err
	})
}
