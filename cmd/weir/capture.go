package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

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
	_, cause, _, err := s.requests.SourceCursor(ctx, src.id())
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
		NewIdentify: identify(s.id), Keys: keys, Cause: cause.To,
	})
	if err != nil {
		return nil, err
	}
	s.metrics.packets.add(src.name, live)
	src.start = func() {
		s.log.Info("reading packets", zap.String("source", src.name), zap.String("filter", c.Capture.Filter))
		live.Start()
	}
	src.next, src.release, src.lost = live.Next, live.Release, live.Dropped
	src.close = func() error {
		err := live.Close()
		sum := live.Summary()
		for _, line := range sum.Lines(detectorNames()...) {
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
			err := packet.DropPrivileges()
			if errors.Is(err, packet.ErrPartly) {
				s.log.Warn("the right to capture stays", zap.Error(err))
				return nil
			}
			return err
		}
	}
	return nil
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

// packetMetrics tells of the live captures whenever it is asked.
type packetMetrics struct {
	mu   sync.Mutex
	live map[string]*mirror.Live // by source
}

func (m *packetMetrics) add(source string, live *mirror.Live) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live == nil {
		m.live = map[string]*mirror.Live{}
	}
	m.live[source] = live
}

// packetDescs are the metrics of captures.
type packetDescs struct{ packets, exchanges, connections, open, lost, lostBytes *prometheus.Desc }

func describePackets() packetDescs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"source"}, labels...), nil)
	}
	return packetDescs{
		packets:     desc("weir_capture_packets_total", "Packets that a capture has read."),
		exchanges:   desc("weir_capture_exchanges_total", "Requests and responses found in packets."),
		connections: desc("weir_capture_connections_total", "Connections that a capture has seen, by what they speak.", "protocol"),
		open:        desc("weir_capture_open_connections", "TCP connections in memory."),
		lost:        desc("weir_capture_lost_total", "Packets, segments or messages that a capture did not read, by reason.", "reason"),
		lostBytes:   desc("weir_capture_lost_bytes_total", "Bytes that a capture did not read, by reason.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (m *packetMetrics) Describe(ch chan<- *prometheus.Desc) {
	d := describePackets()
	for _, one := range []*prometheus.Desc{d.packets, d.exchanges, d.connections, d.open, d.lost, d.lostBytes} {
		ch <- one
	}
}

// Collect implements prometheus.Collector.
func (m *packetMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := describePackets()
	for source, live := range m.live {
		sum := live.Summary()
		count := func(d *prometheus.Desc, n int64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append([]string{source}, labels...)...)
		}
		count(d.packets, sum.Packets.Packets)
		count(d.exchanges, sum.Streams.Exchanges)
		for r := range capture.Reason(capture.Reasons) {
			count(d.lost, sum.Tally.Events[r], r.String())
			count(d.lostBytes, sum.Tally.Bytes[r], r.String())
		}
		st := &sum.Streams
		for name, n := range map[string]int64{"http1": st.HTTP1, "http2": st.HTTP2, "tls": st.TLS, "quic": st.QUIC, "other": st.Other} {
			count(d.connections, n, name)
		}
		ch <- prometheus.MustNewConstMetric(d.open, prometheus.GaugeValue, float64(sum.Segments.Open), source)
	}
}
