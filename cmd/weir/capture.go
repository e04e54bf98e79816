package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/collector/capture"
	"weir/collector/capture/mirror"
	"weir/collector/capture/packet"
	"weir/collector/capture/tls"
)

// captureConfig is collect[].capture: packets of an interface.
type captureConfig struct {
	Interface string `yaml:"interface"` // by name; any is all of them
	Filter    string `yaml:"filter"`    // as tcpdump's: tcp port 80 or 8080
	Buffer    size   `yaml:"buffer,omitempty"`
	SnapLen   int    `yaml:"snaplen,omitempty"`
	Workers   int    `yaml:"workers,omitempty"`
	KeyLog    string `yaml:"keylog,omitempty"` // the file that servers or clients write their TLS secrets to
}

// validate returns what is wrong, each with its path below at.
func (c *captureConfig) validate(at string) (errs []error) {
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(at+"."+key+": "+format, args...))
	}
	if c.Interface == "" {
		bad("interface", "give the interface's name (ip link lists them), or any")
	}
	if _, err := packet.ParseFilter(c.Filter); err != nil {
		bad("filter", "%w", err)
	}
	if c.Buffer.Percent > 0 || c.Buffer.Bytes != 0 && (c.Buffer.Bytes < 2<<20 || c.Buffer.Bytes > 4<<30) {
		bad("buffer", "want bytes, from 2MiB to 4GiB")
	}
	if c.SnapLen != 0 && (c.SnapLen < 256 || c.SnapLen > packet.MaxPacket) {
		bad("snaplen", "%d: want 256 to %d bytes, or 0 for all", c.SnapLen, packet.MaxPacket)
	}
	if c.Workers < 0 || c.Workers > mirror.MaxWorkers {
		bad("workers", "%d: want 1 to %d", c.Workers, mirror.MaxWorkers)
	}
	return errs
}

// captureSource opens an interface.
func (s *service) captureSource(ctx context.Context, c *collectConfig) (*source, error) {
	src := &source{input: input{name: c.sourceName()}, follow: true, listens: true}
	_, cause, _, err := s.db.SourceCursor(ctx, src.id())
	if err != nil {
		return nil, err
	}
	var keys *tls.KeyLog
	if c.Capture.KeyLog != "" {
		keys = &tls.KeyLog{}
		keys.Follow(c.Capture.KeyLog) // it grows with each connection
	}
	live, err := mirror.OpenLive(mirror.LiveConfig{
		Source: src.name, SourceID: src.id(), Interface: c.Capture.Interface, Filter: c.Capture.Filter,
		Buffer: int(c.Capture.Buffer.Bytes), SnapLen: c.Capture.SnapLen, Workers: c.Capture.Workers,
		NewIdentify: identify(s.id), Logins: s.id.Logins(), Keys: keys, Cause: cause.To,
	})
	if err != nil {
		return nil, err
	}
	s.metrics.registry.MustRegister(&packetMetrics{name: src.name, live: live})
	src.start = func() {
		s.log.Info("reading packets", zap.String("source", src.name), zap.String("filter", c.Capture.Filter))
		live.Start()
	}
	src.next, src.release, src.lost = live.Next, live.Release, live.Dropped
	src.close = func() error {
		err := live.Close()
		sum := live.Summary()
		for _, line := range sum.Lines() {
			s.log.Info(line, zap.String("source", src.name))
		}
		return err
	}
	return src, nil
}

// dropPrivileges gives up the right to capture once all sources are open.
func (s *service) dropPrivileges(sources []*source) error {
	for _, src := range sources {
		if src.cfg != nil && src.cfg.Capture != nil {
			return packet.DropPrivileges()
		}
	}
	return nil
}

// environKeyLog is the key log that the environment names, as browsers and curl
// know it; "" when there is nothing in it, for it is meant for those first.
func environKeyLog() string {
	path := os.Getenv("SSLKEYLOGFILE")
	if fi, err := os.Stat(path); err != nil || fi.Size() == 0 {
		return ""
	}
	return path
}

// maxKeyLog bounds a key log.
const maxKeyLog = 1 << 30

// readKeyLog reads the TLS secrets of a file; "" gives none.
func readKeyLog(path string) (*tls.KeyLog, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key log: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > maxKeyLog {
		return nil, fmt.Errorf("read key log %s: it is larger than %d bytes", path, maxKeyLog)
	}
	keys := &tls.KeyLog{}
	if err := keys.Read(f); err != nil {
		return nil, fmt.Errorf("read key log %s: %w", path, err)
	}
	if n, bad, _ := keys.Len(); n == 0 {
		return nil, errors.Join(fmt.Errorf("read key log %s: there are no keys in it (%d lines are none)", path, bad))
	}
	return keys, nil
}

// packetMetrics tells of a live capture whenever it is asked.
type packetMetrics struct {
	name string
	live *mirror.Live
}

// Describe implements prometheus.Collector.
func (m *packetMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.desc("weir_capture_packets_total", "Packets that a capture has read.")
}

func (m *packetMetrics) desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, prometheus.Labels{"source": m.name})
}

// Collect implements prometheus.Collector.
func (m *packetMetrics) Collect(ch chan<- prometheus.Metric) {
	sum := m.live.Summary()
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	count(m.desc("weir_capture_packets_total", "Packets that a capture has read."), sum.Packets.Packets)
	count(m.desc("weir_capture_exchanges_total", "Requests and responses found in packets."), sum.Streams.Exchanges)
	events := m.desc("weir_capture_lost_total", "Packets, segments or messages that a capture did not read, by reason.", "reason")
	bytes := m.desc("weir_capture_lost_bytes_total", "Bytes that a capture did not read, by reason.", "reason")
	for r := range capture.Reason(capture.Reasons) {
		count(events, sum.Tally.Events[r], r.String())
		count(bytes, sum.Tally.Bytes[r], r.String())
	}
	streams := m.desc("weir_capture_connections_total", "Connections that a capture has seen, by what they speak.", "protocol")
	for _, p := range []struct {
		name string
		n    int64
	}{{"http1", sum.Streams.HTTP1}, {"http2", sum.Streams.HTTP2}, {"tls", sum.Streams.TLS}, {"quic", sum.Streams.QUIC}, {"other", sum.Streams.Other}} {
		count(streams, p.n, p.name)
	}
	ch <- prometheus.MustNewConstMetric(m.desc("weir_capture_open_connections", "TCP connections in memory."), prometheus.GaugeValue, float64(sum.Segments.Open))
}
