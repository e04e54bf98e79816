package kafka

import "github.com/prometheus/client_golang/prometheus"

// Metrics are what a Bus tells of itself.
type Metrics struct {
	lag        *prometheus.GaugeVec
	lost       *prometheus.CounterVec
	retries    *prometheus.CounterVec
	written    *prometheus.CounterVec
	dead       *prometheus.CounterVec
	rebalances *prometheus.CounterVec
	owned      *prometheus.GaugeVec
	dealt      *prometheus.GaugeVec
	fenced     *prometheus.CounterVec
}

// NewMetrics makes them.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	return &Metrics{
		lag:        gauge("weir_bus_lag_records", "Records of a partition that this process has not taken yet.", "topic", "partition"),
		lost:       counter("weir_bus_lost_records_total", "Records that left a topic before this process took them.", "topic"),
		retries:    counter("weir_bus_produce_retries_total", "Writes that were tried again; what was written twice is told by its cause.", "topic"),
		written:    counter("weir_bus_written_bytes_total", "Bytes written, before compression.", "topic"),
		dead:       counter("weir_bus_dead_letters_total", "Records that could not be read, by their topic and reason.", "topic", "reason"),
		rebalances: counter("weir_bus_rebalances_total", "Times that slices were dealt anew.", "group"),
		fenced:     counter("weir_bus_fenced_total", "Times that another process took over what this one wrote.", "topic"),
		owned:      gauge("weir_bus_slices", "Slices that this process has.", "group"),
		dealt:      gauge("weir_bus_group_slices", "Slices that the processes of a group share.", "group"),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.lag, m.lost, m.retries, m.written, m.dead, m.rebalances, m.owned, m.dealt, m.fenced}
}
