package capture_test

import (
	"bufio"
	"compress/gzip"
	gotls "crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"weir/collector/capture"
	"weir/collector/capture/quic"
	"weir/collector/capture/tls"
	"weir/pipeline"
)

// dataDir is a set of captures made by others; tests that need it skip without.
func dataDir(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "data", name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the captures of %s are not here: %v", name, err)
	}
	return dir
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// tuple names a connection: the sender of the first hello is the client.
type tuple struct {
	src, dst     string
	sport, dport uint16
}

// sealed is what was read of one connection.
type sealed struct {
	capture.Hello
	known bool
	tls   *tls.Parser
}

// sides is one TCP connection under the plainest joining there is: segments in
// order of their numbers, the first copy of a byte wins, a hole that is still
// there at the end of the capture is a gap.
type sides struct {
	key    tuple
	flow   capture.Flow
	parser *tls.Parser
	dir    [2]struct {
		began   bool
		next    uint32
		pending []piece
	}
}

type piece struct {
	seq  uint32
	at   pipeline.Time
	data []byte
}

// walker reads one capture file.
type walker struct {
	t      *testing.T
	conns  map[tuple]*sides
	udp    *quic.Table
	found  map[tuple]*sealed
	tally  capture.Tally
	memory capture.Memory
	conf   tls.Config
}

func walk(t *testing.T, file string) *walker {
	t.Helper()
	w := &walker{t: t, conns: map[tuple]*sides{}, found: map[tuple]*sealed{}, memory: capture.Memory{Max: 1 << 30}}
	w.conf = tls.Config{Tally: &w.tally, Memory: &w.memory}
	w.udp = quic.NewTable(&w.tally, &w.memory, func(c *quic.Connection) {
		if c.Hello != nil {
			w.found[tuple{c.Client.String(), c.Server.String(), c.ClientPort, c.ServerPort}] = &sealed{Hello: *c.Hello, known: true}
		}
	})
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var in io.Reader = f
	if strings.HasSuffix(file, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	var source gopacket.PacketDataSource
	var link layers.LinkType
	buffered := bufio.NewReader(in)
	if magic, err := buffered.Peek(4); err == nil && string(magic) == "\x0a\x0d\x0d\x0a" {
		r, err := pcapgo.NewNgReader(buffered, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		source, link = r, r.LinkType()
	} else {
		r, err := pcapgo.NewReader(buffered)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		source, link = r, r.LinkType()
	}
	for {
		data, info, err := source.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var first gopacket.Decoder = link
		if strings.HasSuffix(file, "openjdk-25.0.2-zeek.org.pcap") { // LINUX_SLL2, which gopacket does not read
			data, first = data[20:], layers.LayerTypeIPv4
		}
		w.packet(gopacket.NewPacket(data, first, gopacket.NoCopy), pipeline.Time(info.Timestamp.UnixMicro()))
	}
	w.finish()
	return w
}

// packet takes the innermost TCP segment or UDP datagram.
func (w *walker) packet(p gopacket.Packet, at pipeline.Time) {
	var k tuple
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			k.src, k.dst = l.SrcIP.String(), l.DstIP.String()
		case *layers.IPv6:
			k.src, k.dst = l.SrcIP.String(), l.DstIP.String()
		case *layers.TCP:
			k.sport, k.dport = uint16(l.SrcPort), uint16(l.DstPort)
			w.segment(k, l, at)
		case *layers.UDP:
			k.sport, k.dport = uint16(l.SrcPort), uint16(l.DstPort)
			w.udp.Datagram(k.flow(), at, l.Payload)
		}
	}
}

func (k tuple) flow() (f capture.Flow) {
	f.Client, _ = pipeline.ParseAddress(k.src)
	f.Server, _ = pipeline.ParseAddress(k.dst)
	f.ClientPort, f.ServerPort = k.sport, k.dport
	return f
}

func (w *walker) segment(k tuple, l *layers.TCP, at pipeline.Time) {
	c, dir := w.conns[k], capture.FromClient
	if c == nil {
		if c = w.conns[tuple{k.dst, k.src, k.dport, k.sport}]; c != nil {
			dir = capture.FromServer
		}
	}
	if c == nil {
		if l.SYN && l.ACK { // the answer came first
			k, dir = tuple{k.dst, k.src, k.dport, k.sport}, capture.FromServer
		}
		c = &sides{key: k, flow: k.flow()}
		w.conns[k] = c
	}
	d := &c.dir[dir]
	if !d.began {
		d.began, d.next = true, l.Seq
		if l.SYN {
			d.next++
		}
	}
	if len(l.Payload) == 0 {
		return
	}
	d.pending = append(d.pending, piece{l.Seq, at, slices.Clone(l.Payload)})
	w.deliver(c, dir, false)
}

// deliver passes on what is in order; with holes also what comes behind them.
func (w *walker) deliver(c *sides, dir capture.Direction, holes bool) {
	d := &c.dir[dir]
	for len(d.pending) > 0 {
		slices.SortStableFunc(d.pending, func(a, b piece) int { return int(int32(a.seq - b.seq)) })
		p := d.pending[0]
		ahead := int32(p.seq - d.next)
		if ahead > 0 {
			if !holes {
				return
			}
			if c.parser != nil {
				c.parser.Gap(dir, p.at, int64(ahead))
			}
			d.next, ahead = p.seq, 0
		}
		d.pending = d.pending[1:]
		if int(-ahead) >= len(p.data) {
			continue
		}
		fresh := p.data[-ahead:]
		d.next += uint32(len(fresh))
		w.bytes(c, dir, p.at, fresh)
	}
}

// bytes begins TLS at the first chunk that looks like it: behind a CONNECT or a
// STARTTLS too.
func (w *walker) bytes(c *sides, dir capture.Direction, at pipeline.Time, b []byte) {
	if c.parser == nil {
		if !tls.Looks(b, false) {
			return
		}
		if b[5] == 1 && dir == capture.FromServer { // the capture began in the middle
			return
		}
		c.parser = tls.New(&w.conf, &c.flow)
	}
	c.parser.Data(dir, at, b)
}

func (w *walker) finish() {
	for _, k := range slices.SortedFunc(maps.Keys(w.conns), func(a, b tuple) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }) {
		c := w.conns[k]
		for dir := range capture.Direction(2) {
			w.deliver(c, dir, true)
			if c.parser != nil {
				c.parser.Close(dir, 0, capture.EndIdle)
			}
		}
		if c.parser == nil {
			continue
		}
		s := &sealed{tls: c.parser}
		if c.flow.Hello != nil {
			s.Hello, s.known = *c.flow.Hello, true
		}
		w.found[k] = s
	}
	w.udp.Flush()
	if w.memory.Used != 0 {
		w.t.Errorf("memory not given back: %d bytes", w.memory.Used)
	}
}

// TestJA4 compares with what the reference implementation reads.
func TestJA4(t *testing.T) {
	dir := dataDir(t, "ja4_pcaps")
	var want map[string][]struct {
		Src, Dst string
		SrcPort  uint16 `json:"src_port"`
		DstPort  uint16 `json:"dst_port"`
		JA4      string `json:"ja4"`
	}
	readJSON(t, filepath.Join(dir, "expected_ja4.json"), &want)
	compared := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w := walk(t, filepath.Join(dir, "pcap", name))
		expected := map[tuple]bool{}
		for _, row := range want[name] {
			k := tuple{row.Src, row.Dst, row.SrcPort, row.DstPort}
			expected[k] = true
			compared++
			got := w.found[k]
			if got == nil {
				t.Errorf("%s %v: not found, want %s", name, k, row.JA4)
				continue
			}
			if got.JA4 != row.JA4 {
				t.Errorf("%s %v: %s, want %s", name, k, got.JA4, row.JA4)
			}
		}
		for k, got := range w.found {
			if !expected[k] && got.JA4 != "" {
				t.Errorf("%s %v: %s, which nobody expects", name, k, got.JA4)
			}
		}
	}
	if compared < 90 {
		t.Fatalf("%d fingerprints were compared", compared)
	}
}

// TestJA3 compares with what tshark reads of all captures.
func TestJA3(t *testing.T) {
	type row struct {
		Src, Dst, SNI string
		Sport, Dport  string
		JA3, JA3S     string
	}
	compared := 0
	for _, set := range []string{"ja4_pcaps", "zeek_pcaps", "packetbeat_pcaps"} {
		dir := dataDir(t, set)
		var oracle map[string]struct{ TLS []row }
		readJSON(t, filepath.Join(dir, "tshark_oracle.json"), &oracle)
		for _, name := range slices.Sorted(maps.Keys(oracle)) {
			if len(oracle[name].TLS) == 0 {
				continue
			}
			w := walk(t, filepath.Join(dir, "pcap", name))
			// Rows of QUIC have no ports: there the addresses must do.
			type hellos struct{ ja3, ja3s, sni []string }
			want, got := map[tuple]*hellos{}, map[tuple]*hellos{}
			of := func(m map[tuple]*hellos, k tuple) *hellos {
				if m[k] == nil {
					m[k] = &hellos{}
				}
				return m[k]
			}
			for _, r := range oracle[name].TLS {
				sport, _ := strconv.Atoi(r.Sport)
				dport, _ := strconv.Atoi(r.Dport)
				if r.JA3 != "" {
					h := of(want, tuple{r.Src, r.Dst, uint16(sport), uint16(dport)})
					h.ja3, h.sni = append(h.ja3, r.JA3), append(h.sni, strings.ToLower(r.SNI))
				}
				if r.JA3S != "" {
					h := of(want, tuple{r.Dst, r.Src, uint16(dport), uint16(sport)})
					h.ja3s = append(h.ja3s, r.JA3S)
				}
			}
			for k, s := range w.found {
				if s.QUIC {
					k.sport, k.dport = 0, 0
				}
				h := of(got, k)
				if s.JA3 != "" {
					h.ja3, h.sni = append(h.ja3, s.JA3), append(h.sni, s.SNI)
				}
				if s.JA3S != "" {
					h.ja3s = append(h.ja3s, s.JA3S)
				}
				if x := of(want, k); s.tls != nil && s.tls.Retry && slices.Contains(x.ja3, s.JA3) && slices.Contains(x.ja3s, s.JA3S) {
					// tshark has the second hellos too, whose cookie changes the
					// fingerprint: the first is the client's own.
					h.ja3, h.ja3s, h.sni = x.ja3, x.ja3s, x.sni
				}
			}
			for k, h := range want {
				g := of(got, k)
				for what, pair := range map[string][2][]string{"JA3": {g.ja3, h.ja3}, "JA3S": {g.ja3s, h.ja3s}, "SNI": {g.sni, h.sni}} {
					slices.Sort(pair[0])
					slices.Sort(pair[1])
					compared += len(pair[1])
					if !slices.Equal(pair[0], pair[1]) {
						t.Errorf("%s %v: %s %q, want %q", name, k, what, pair[0], pair[1])
					}
				}
			}
			for k, g := range got {
				if want[k] == nil && len(g.ja3)+len(g.ja3s) > 0 {
					t.Errorf("%s %v: %v, which tshark has not", name, k, *g)
				}
			}
		}
	}
	if compared < 300 {
		t.Fatalf("%d values were compared", compared)
	}
	t.Logf("%d values", compared)
}

// TestZeekHandshakes compares what was agreed with what Zeek reads.
func TestZeekHandshakes(t *testing.T) {
	dir := dataDir(t, "zeek_pcaps")
	var want map[string][]struct {
		Rows []struct {
			OrigH   string `json:"id.orig_h"`
			OrigP   uint16 `json:"id.orig_p"`
			RespH   string `json:"id.resp_h"`
			RespP   uint16 `json:"id.resp_p"`
			Version string
			Cipher  string
			SNI     string `json:"server_name"`
		}
	}
	readJSON(t, filepath.Join(dir, "expected_ssl.json"), &want)
	versions := map[string]uint16{"TLSv10": 0x301, "TLSv11": 0x302, "TLSv12": 0x303, "TLSv13": 0x304, "TLSv13-draft23": 0x7f17, "unknown-32257": 0x7e01}
	ciphers := map[string]uint16{}
	for _, c := range append(gotls.CipherSuites(), gotls.InsecureCipherSuites()...) {
		ciphers[c.Name] = c.ID
	}
	compared := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w := walk(t, filepath.Join(dir, "pcap", name))
		for _, r := range want[name][0].Rows {
			version, known := versions[r.Version]
			if !known {
				t.Logf("%s: %q is not read", name, r.Version)
				continue
			}
			got := w.found[tuple{r.OrigH, r.RespH, r.OrigP, r.RespP}]
			if got == nil {
				t.Errorf("%s %v: not found", name, r)
				continue
			}
			compared++
			if got.Version != version || got.SNI != r.SNI || ciphers[r.Cipher] != 0 && got.Cipher != ciphers[r.Cipher] {
				t.Errorf("%s: version %#x, cipher %#x, name %q, want %v", name, got.Version, got.Cipher, got.SNI, r)
			}
		}
	}
	if compared < 35 {
		t.Fatalf("%d handshakes were compared", compared)
	}
}
