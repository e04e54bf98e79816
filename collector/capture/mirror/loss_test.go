package mirror

import (
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"weir/collector"
	"weir/collector/capture"
	"weir/collector/capture/packet"
	"weir/collector/capture/tcp"
	"weir/collector/capture/tls"
	"weir/pipeline"
)

// eachPacket calls f for each packet of a suite's capture.
func eachPacket(t testing.TB, name string, f func(p *packet.Packet)) {
	t.Helper()
	in, err := collector.OpenBinary(name, nil)
	if err != nil {
		t.Skipf("the capture suites are not here: %v", err)
	}
	defer in.Close()
	file, err := packet.NewFile(in)
	if err != nil {
		t.Fatal(err)
	}
	var p packet.Packet
	for {
		if err := file.Next(&p); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		f(&p)
	}
}

// TestBrokenCaptures reads real traffic with a third of its packets gone, with one
// direction missing, cut after 96 bytes, and with little memory: nothing panics,
// memory stays under its cap, and the counters add up.
func TestBrokenCaptures(t *testing.T) {
	shop := filepath.Join(shared, "tools_shop", "traffic.pcap.gz")
	const whole = 19366 // requests in clear, as tshark counts them; see the README there
	f := func(name string, cfg Config, keep func(p *packet.Packet) bool, check func(seen, orphans int, m *Mirror)) {
		t.Helper()
		seen, orphans := 0, 0
		cfg.Emit = func(x *capture.Transaction) {
			if x.Flags&capture.NoRequest != 0 {
				orphans++
			} else {
				seen++
			}
		}
		m := New(cfg)
		var highest, offered int64
		eachPacket(t, shop, func(p *packet.Packet) {
			if keep(p) {
				offered++
				m.Packet(p)
				highest = max(highest, m.Memory.Used)
			}
		})
		m.Flush()
		checkSums(t, name, m)
		if m.Packets().Packets != offered {
			t.Errorf("%s: %d packets offered, %d counted", name, offered, m.Packets().Packets)
		}
		if highest > m.Memory.Max {
			t.Errorf("%s: %d bytes of memory, the cap is %d", name, highest, m.Memory.Max)
		}
		check(seen, orphans, m)
	}
	r := rand.New(rand.NewPCG(5, 6))
	f("all", Config{}, func(*packet.Packet) bool { return true }, func(seen, orphans int, _ *Mirror) {
		if seen != whole || orphans > 0 {
			t.Errorf("%d requests, %d answers without one; want %d and none", seen, orphans, whole)
		}
	})
	f("a third dropped", Config{}, func(*packet.Packet) bool { return r.IntN(100) >= 30 }, func(seen, orphans int, m *Mirror) {
		// A request and its first line come in one packet: seven tenths are seen.
		if seen < whole*6/10 || seen > whole*8/10 || orphans < whole/10 || m.Tally.Bytes[capture.LossGap] == 0 {
			t.Errorf("a third dropped: %d requests, %d answers without one, %d bytes missing", seen, orphans, m.Tally.Bytes[capture.LossGap])
		}
	})
	fromServer := func(p *packet.Packet) bool { // Ethernet and IP, as this capture is
		if p.Data[12] == 8 {
			return p.Data[34] == 0 && p.Data[35] == 80
		}
		return p.Data[54] == 0 && p.Data[55] == 80
	}
	f("no answers", Config{}, func(p *packet.Packet) bool { return !fromServer(p) }, func(seen, orphans int, _ *Mirror) {
		if seen < whole*99/100 || orphans > 0 {
			t.Errorf("no answers: %d requests, %d answers", seen, orphans)
		}
	})
	f("no requests", Config{}, fromServer, func(seen, orphans int, _ *Mirror) {
		if seen > 0 || orphans < 18918*99/100 {
			t.Errorf("no requests: %d requests, %d answers", seen, orphans)
		}
	})
	f("cut after 96 bytes", Config{}, func(p *packet.Packet) bool {
		p.Data = p.Data[:min(len(p.Data), 96)]
		return true
	}, func(_, _ int, m *Mirror) {
		if m.Tally.Bytes[capture.LossSnaplen] == 0 {
			t.Error("cut after 96 bytes: nothing is said to be cut off")
		}
	})
	f("little memory", Config{Memory: 64 << 10, TCP: tcp.Config{Connections: 64, Held: 8 << 10}}, func(*packet.Packet) bool { return r.IntN(10) > 0 }, func(int, int, *Mirror) {})
}

// TestKeys opens what the recording has keys for: HTTP/1 and HTTP/2 inside TLS 1.3.
func TestKeys(t *testing.T) {
	log, err := collector.OpenBinary(filepath.Join(shared, "tools_shop", "tls_keys.log.gz"), nil)
	if err != nil {
		t.Skipf("the recording is not here: %v", err)
	}
	defer log.Close()
	var keys tls.KeyLog
	if err := keys.Read(log); err != nil {
		t.Fatal(err)
	}
	versions := map[capture.Version]int{}
	m := New(Config{Keys: &keys, Emit: func(x *capture.Transaction) {
		if x.Hello != nil && x.Hello.JA4 != "" && x.Status > 0 {
			versions[x.Version]++
		}
	}})
	eachPacket(t, filepath.Join(shared, "tools_shop", "traffic.pcap.gz"), m.Packet)
	m.Flush()
	checkSums(t, "with keys", m)
	// As tshark decrypts them; see the README there.
	if h1, h2 := versions[capture.HTTP10]+versions[capture.HTTP11], versions[capture.HTTP2]; h1 != 6379 || h2 != 5277 {
		t.Errorf("%d exchanges of HTTP/1 and %d of HTTP/2 inside TLS, want 6379 and 5277", h1, h2)
	}
	if sealed := m.Streams.TLS - m.Streams.Opened; sealed != 151 {
		t.Errorf("%d of %d connections stay sealed", sealed, m.Streams.TLS)
	}
}

// TestHalfOpenMemory opens a million connections that carry nothing: what is kept of
// them is bounded, and a connection that speaks HTTP goes on.
func TestHalfOpenMemory(t *testing.T) {
	n := 0
	m := New(Config{TCP: tcp.Config{Connections: 1 << 14, Held: 1 << 20}, Emit: func(*capture.Transaction) { n++ }})
	syn := func(i int) *packet.Packet {
		b := []byte{
			0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, byte(i >> 16), byte(i >> 8), byte(i), 192, 0, 2, 80,
			byte(i >> 8), byte(i), 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, packet.SYN, 0xff, 0xff, 0, 0, 0, 0,
		}
		return &packet.Packet{Time: pipeline.Time(1e15 + i), Data: b, Wire: len(b), Link: packet.LinkRaw}
	}
	say := func(seq byte, text string) *packet.Packet {
		p := syn(0)
		p.Data[27], p.Data[33] = seq, packet.ACK|packet.PSH
		p.Data = append(p.Data, text...)
		p.Data[3], p.Wire = byte(len(p.Data)), len(p.Data)
		return p
	}
	m.Packet(syn(0))
	m.Packet(say(2, "GET /a HTTP/1.1\r\n"))
	for i := range 1_000_000 {
		m.Packet(syn(i + 1))
	}
	m.Packet(say(2+17, "Host: h\r\n\r\n"))
	m.Flush()
	if n != 1 {
		t.Errorf("%d exchanges, want the one", n)
	}
	checkSums(t, "half open", m)
	if open, lost := m.Segments().Connections, m.Tally.Events[capture.LossConnections]; open != 1_000_001 || lost < 900_000 {
		t.Errorf("%d connections, %d of them given up", open, lost)
	}
}
