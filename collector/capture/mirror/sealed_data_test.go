package mirror

import (
	"bufio"
	"compress/gzip"
	gotls "crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"weir/collector"
	"weir/collector/capture"
	"weir/collector/capture/packet"
	"weir/collector/capture/tls"
)

// tuple names a connection.
type tuple struct {
	src, dst     string
	sport, dport uint16
}

func tupleOf(f *capture.Flow) tuple {
	return tuple{f.Client.String(), f.Server.String(), f.ClientPort, f.ServerPort}
}

// opening is what a sealed connection said in clear. Of a HelloRetryRequest there
// are two hellos.
type opening struct {
	capture.Hello
	retry bool
}

// openings reads a capture file and returns its sealed connections.
func openings(t *testing.T, name string) map[tuple]opening {
	t.Helper()
	found := map[tuple]opening{}
	readPackets(t, name, Config{
		Emit: func(*capture.Transaction) {},
		Sealed: func(s *Sealed) {
			if s.Hello != nil {
				found[tupleOf(s.Flow)] = opening{*s.Hello, s.Retry}
			}
		},
	})
	return found
}

// readPackets runs a capture file through a Mirror.
func readPackets(t *testing.T, name string, cfg Config) *Mirror {
	t.Helper()
	return readSome(t, name, cfg, func() bool { return true })
}

// readSome is readPackets of those packets for which keep is true.
func readSome(t *testing.T, name string, cfg Config, keep func() bool) *Mirror {
	t.Helper()
	f, err := collector.OpenBinary(name, nil)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the capture suites are not here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packets, err := packet.NewFile(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	m := New(cfg)
	var p packet.Packet
	for {
		if err = packets.Next(&p); err != nil {
			break
		}
		if keep() {
			m.Packet(&p)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatalf("%s: %v", name, err)
	}
	m.Flush()
	if m.Memory.Used != 0 {
		t.Errorf("%s: %d bytes of memory were not given back", name, m.Memory.Used)
	}
	return m
}

// TestJA4 compares with what the reference implementation reads.
func TestJA4(t *testing.T) {
	dir := filepath.Join(shared, "ja4_pcaps")
	var want map[string][]struct {
		Src, Dst string
		SrcPort  uint16 `json:"src_port"`
		DstPort  uint16 `json:"dst_port"`
		JA4      string `json:"ja4"`
	}
	loadJSON(t, filepath.Join(dir, "expected_ja4.json"), &want)
	compared := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		found := openings(t, filepath.Join(dir, "pcap", name))
		expected := map[tuple]bool{}
		for _, row := range want[name] {
			k := tuple{row.Src, row.Dst, row.SrcPort, row.DstPort}
			expected[k] = true
			compared++
			got, ok := found[k]
			if !ok {
				t.Errorf("%s %v: not found, want %s", name, k, row.JA4)
				continue
			}
			if got.JA4 != row.JA4 {
				t.Errorf("%s %v: %s, want %s", name, k, got.JA4, row.JA4)
			}
		}
		for k, got := range found {
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
		dir := filepath.Join(shared, set)
		var oracle map[string]struct{ TLS []row }
		loadJSON(t, filepath.Join(dir, "tshark_oracle.json"), &oracle)
		for _, name := range slices.Sorted(maps.Keys(oracle)) {
			if len(oracle[name].TLS) == 0 {
				continue
			}
			found := openings(t, filepath.Join(dir, "pcap", name))
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
			for k, s := range found {
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
				if x := of(want, k); s.retry && slices.Contains(x.ja3, s.JA3) && slices.Contains(x.ja3s, s.JA3S) {
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
	dir := filepath.Join(shared, "zeek_pcaps")
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
	loadJSON(t, filepath.Join(dir, "expected_ssl.json"), &want)
	versions := map[string]uint16{"TLSv10": 0x301, "TLSv11": 0x302, "TLSv12": 0x303, "TLSv13": 0x304, "TLSv13-draft23": 0x7f17, "unknown-32257": 0x7e01}
	ciphers := map[string]uint16{}
	for _, c := range append(gotls.CipherSuites(), gotls.InsecureCipherSuites()...) {
		ciphers[c.Name] = c.ID
	}
	compared := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		found := openings(t, filepath.Join(dir, "pcap", name))
		for _, r := range want[name][0].Rows {
			version, known := versions[r.Version]
			if !known {
				t.Logf("%s: %q is not read", name, r.Version)
				continue
			}
			got, ok := found[tuple{r.OrigH, r.RespH, r.OrigP, r.RespP}]
			if !ok {
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

// shopLine is a line of the server's own log.
type shopLine struct {
	PeerAddr  string `json:"peer_addr"`
	PeerPort  uint16 `json:"peer_port"`
	Scheme    string `json:"scheme"`
	Protocol  string `json:"protocol"`
	Method    string `json:"method"`
	Host      string `json:"host"`
	URI       string `json:"uri"`
	Status    uint16 `json:"status"`
	Bytes     int64  `json:"body_bytes_sent"`
	Agent     string `json:"user_agent"`
	Referer   string `json:"referer"`
	Forwarded string `json:"xff"`
	SNI       string `json:"ssl_sni"`
	Version   string `json:"ssl_protocol"`
	Cipher    string `json:"ssl_cipher"`
}

// shopKeys are the secrets of the shop's clients.
func shopKeys(t *testing.T) *tls.KeyLog {
	t.Helper()
	keys := &tls.KeyLog{}
	log, err := collector.OpenBinary(filepath.Join(shared, "tools_shop", "tls_keys.log.gz"), nil)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the shop's capture is not here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := keys.Read(log); err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestShopLoss takes 30 % of the packets away at random: what is given out as whole must be
// what is there without loss, and no memory may be kept.
func TestShopLoss(t *testing.T) {
	keys := shopKeys(t)
	read := func(lose int) (whole map[string]int, all int, m *Mirror) {
		whole = map[string]int{}
		chance := rand.New(rand.NewPCG(7, uint64(lose)))
		m = readSome(t, filepath.Join(shared, "tools_shop", "traffic.pcap.gz"), Config{Keys: keys, Memory: 4 << 20, Emit: func(x *capture.Transaction) {
			all++
			if x.Flags&(capture.NoRequest|capture.NoResponse|capture.RequestCut|capture.ResponseCut) != 0 {
				return
			}
			q := &x.Request
			whole[fmt.Sprintf("%v %v:%d %s %s%s %q %d %d/%d", x.Version, x.Client, x.ClientPort, q.Get(capture.TextMethod), q.Get(capture.TextHost),
				q.Get(capture.TextTarget), q.Get(capture.TextAgent), x.Status, q.BodyBytes, x.Response.BodyBytes)]++
		}}, func() bool { return chance.IntN(100) >= lose })
		return whole, all, m
	}
	want, _, _ := read(0)
	total := 0
	for _, n := range want {
		total += n
	}
	got, all, m := read(30)
	whole, wrong := 0, 0
	for line, n := range got {
		whole += n
		if n > want[line] && strings.HasPrefix(line, "HTTP/2") { // HTTP/1 has no numbers that join request and response
			if wrong++; wrong < 5 {
				t.Errorf("read %d times, was there %d times: %s", n, want[line], line)
			}
		}
	}
	t.Logf("%d exchanges, %d whole of %d; %v", all, whole, total, m.Tally.Events)
	if whole < total/5 {
		t.Errorf("%d of %d are whole", whole, total)
	}
}

// TestShopOpened opens the shop's connections with its clients' key log and
// compares each exchange with the server's own log.
func TestShopOpened(t *testing.T) {
	dir := filepath.Join(shared, "tools_shop")
	keys := shopKeys(t)
	got := map[string]int{}
	unanswered := 0
	counts := map[capture.Version]int{}
	m := readPackets(t, filepath.Join(dir, "traffic.pcap.gz"), Config{Keys: keys, Emit: func(x *capture.Transaction) {
		if x.Hello == nil {
			return // port 80, see the test of logs
		}
		if x.Flags&capture.NoResponse != 0 {
			unanswered++
			return
		}
		counts[x.Version]++
		q := &x.Request
		line := shopLine{
			PeerAddr: x.Client.String(), PeerPort: x.ClientPort, Scheme: "https", Protocol: x.Version.String(),
			Method: q.Get(capture.TextMethod), Host: q.Get(capture.TextHost), URI: q.Get(capture.TextTarget), Status: x.Status,
			Bytes: x.Response.BodyWire, Agent: q.Get(capture.TextAgent), Referer: q.Get(capture.TextReferer), Forwarded: q.Get(capture.TextForwarded),
			SNI: x.Hello.SNI, Version: gotls.VersionName(x.Hello.Version), Cipher: gotls.CipherSuiteName(x.Hello.Cipher),
		}
		got[fmt.Sprintf("%+v", line)]++
	}})
	f, err := os.Open(filepath.Join(dir, "access.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	logged, same := 0, 0
	var missing []string
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		var l shopLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if l.Scheme != "https" {
			continue
		}
		logged++
		l.Version = strings.Replace(l.Version, "TLSv", "TLS ", 1)
		key := fmt.Sprintf("%+v", l)
		if got[key] == 0 {
			missing = append(missing, key)
			continue
		}
		got[key]--
		same++
	}
	extra := slices.Sorted(maps.Keys(maps.Collect(func(yield func(string, int) bool) {
		for k, n := range got {
			if n > 0 && !yield(k, n) {
				return
			}
		}
	})))
	for _, k := range extra[:min(len(extra), 5)] {
		t.Errorf("read, not logged: %s", k)
	}
	t.Logf("%d logged, %d the same; HTTP/1 %d, HTTP/2 %d, unanswered %d; %+v", logged, same, counts[capture.HTTP11]+counts[capture.HTTP10], counts[capture.HTTP2], unanswered, m.Streams)
	for _, k := range missing[:min(len(missing), 5)] {
		t.Logf("logged, not read: %s", k)
	}
	// What tshark 4.0 opens with the same keys; the rest has none.
	if same != 6379+5277 || unanswered != 0 {
		t.Errorf("%d exchanges are the server's, %d are unanswered", same, unanswered)
	}
}
