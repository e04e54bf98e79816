package quic

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	gotls "crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/collector/capture"
	"weir/pipeline"
)

// TestKeys checks the keys against RFC 9001, A.1 and RFC 9369, A.1.
func TestKeys(t *testing.T) {
	f := func(version uint32, side int, key, iv, hp string) {
		t.Helper()
		dcid, _ := hex.DecodeString("8394c8f03e515708")
		m, err := derive(version, dcid, capture.Direction(side))
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(m.key); got != key {
			t.Errorf("key %s, want %s", got, key)
		}
		if got := hex.EncodeToString(m.iv); got != iv {
			t.Errorf("iv %s, want %s", got, iv)
		}
		if got := hex.EncodeToString(m.hp); got != hp {
			t.Errorf("hp %s, want %s", got, hp)
		}
	}
	f(Version1, 0, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2")
	f(Version1, 1, "cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e", "c206b8d9b9f0f37644430b490eeaa314")
	f(Version2, 0, "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9")
	f(Version2, 1, "82db637861d55e1d011f19ea71d5d2a7", "dd13c276499c0249d3310652", "edf6d05c83121201b436e16877593c3a")
}

// helloOf is what crypto/tls sends to open a QUIC connection.
func helloOf(tb testing.TB, name string) []byte {
	tb.Helper()
	c := gotls.QUICClient(&gotls.QUICConfig{TLSConfig: &gotls.Config{
		ServerName: name, NextProtos: []string{"h3"}, MinVersion: gotls.VersionTLS13,
	}})
	c.SetTransportParameters(bytes.Repeat([]byte{7}, 900)) // two packets
	if err := c.Start(context.Background()); err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for {
		switch e := c.NextEvent(); e.Kind {
		case gotls.QUICWriteData:
			return bytes.Clone(e.Data)
		case gotls.QUICNoEvent:
			tb.Fatal("no hello")
		default:
		}
	}
}

// frame is a CRYPTO frame.
func frame(offset int, data []byte) []byte {
	b := []byte{frameCrypto}
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(offset))
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(len(data)))
	return append(b, data...)
}

// seal builds an Initial packet around frames, filled up to size bytes.
func seal(tb testing.TB, version uint32, side int, first, dcid []byte, number byte, token, payload []byte, size int) []byte {
	tb.Helper()
	typ := byte(0)
	if version == Version2 {
		typ = 1
	}
	b := []byte{0xc0 | typ<<4}
	b = binary.BigEndian.AppendUint32(b, version)
	b = append(append(b, byte(len(dcid))), dcid...)
	b = append(b, 4, 9, 9, 9, 9)
	b = append(append(b, byte(len(token))), token...)
	if pad := size - len(b) - 2 - 1 - tagLen - len(payload); pad > 0 {
		payload = append(bytes.Clone(payload), make([]byte, pad)...)
	}
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(1+len(payload)+tagLen))
	pn := len(b)
	b = append(b, number)
	m, err := derive(version, first, capture.Direction(side))
	if err != nil {
		tb.Fatal(err)
	}
	block, _ := aes.NewCipher(m.key)
	aead, _ := cipher.NewGCM(block)
	nonce := bytes.Clone(m.iv)
	nonce[11] ^= number
	b = aead.Seal(b, nonce, payload, b)
	mask := make([]byte, 16)
	hp, _ := aes.NewCipher(m.hp)
	hp.Encrypt(mask, b[pn+4:pn+20])
	b[0] ^= mask[0] & 0x0f
	b[pn] ^= mask[1]
	return b
}

func testTable(t *testing.T, max int64) (*Table, *capture.Tally, *capture.Memory, *[]Connection) {
	t.Helper()
	var tally capture.Tally
	memory := capture.Memory{Max: max}
	var got []Connection
	table := NewTable(&tally, &memory, func(c *Connection) { got = append(got, *c) })
	t.Cleanup(func() {
		table.Flush()
		if memory.Used != 0 {
			t.Errorf("%d bytes were not given back", memory.Used)
		}
	})
	return table, &tally, &memory, &got
}

func addresses(client, port int) capture.Flow {
	a, _ := pipeline.ParseAddress("192.0.2.1")
	b, _ := pipeline.ParseAddress("198.51.100.7")
	a[15] = byte(client)
	return capture.Flow{Client: a, Server: b, ClientPort: uint16(port), ServerPort: 443}
}

func back(f capture.Flow) capture.Flow {
	f.Client, f.Server, f.ClientPort, f.ServerPort = f.Server, f.Client, f.ServerPort, f.ClientPort
	return f
}

// TestDatagrams reads a hello whose pieces come in any order, over two packets,
// of both versions.
func TestDatagrams(t *testing.T) {
	hello := helloOf(t, "Shop.Example.com")
	f := func(name string, version uint32, datagrams [][]byte, want capture.Hello) {
		t.Helper()
		table, tally, _, _ := testTable(t, 1<<20)
		flow := addresses(1, 5000)
		var c *Connection
		for i, d := range datagrams {
			before := bytes.Clone(d)
			got, ok := table.Datagram(flow, pipeline.Time(i), d)
			if !ok {
				t.Fatalf("%s: datagram %d is of no connection; %v", name, i, tally.Events)
			}
			if !bytes.Equal(before, d) {
				t.Fatalf("%s: the datagram was changed", name)
			}
			c = got
		}
		if c.Hello == nil {
			t.Fatalf("%s: no hello; %v", name, tally.Events)
		}
		got := *c.Hello
		got.JA3, got.JA4 = "", ""
		if diff := cmp.Diff(want, got); diff != "" || c.Version != version {
			t.Errorf("%s: version %x, (-want +got)\n%s", name, c.Version, diff)
		}
		if len(c.Hello.JA4) != 36 || c.Hello.JA4[:4] != "q13d" || c.Hello.JA4[8:10] != "h3" {
			t.Errorf("%s: JA4 %q", name, c.Hello.JA4)
		}
		if c.Packets[0] != int64(len(datagrams)) {
			t.Errorf("%s: %d packets", name, c.Packets[0])
		}
	}
	want := capture.Hello{SNI: "shop.example.com", ALPN: "h3", Version: 0x304, QUIC: true}
	dcid := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	for _, v := range []uint32{Version1, Version2} {
		half := len(hello) / 2
		two := [][]byte{
			seal(t, v, 0, dcid, dcid, 0, nil, frame(0, hello[:half]), 1200),
			seal(t, v, 0, dcid, dcid, 1, nil, frame(half, hello[half:]), 1200),
		}
		f("in order", v, two, want)
		f("turned round", v, [][]byte{two[1], two[0]}, want)
		f("sent again", v, [][]byte{two[0], two[0], two[1], two[1]}, want)

		var pieces [][]byte
		for at := 0; at < len(hello); at += 40 {
			pieces = append(pieces, frame(at, hello[at:min(at+60, len(hello))]))
		}
		r := rand.New(rand.NewPCG(1, 2))
		r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		shuffled := [][]byte{
			seal(t, v, 0, dcid, dcid, 0, nil, bytes.Join(pieces[:len(pieces)/2], []byte{0, 0, framePing}), 1250),
			seal(t, v, 0, dcid, dcid, 1, nil, bytes.Join(pieces[len(pieces)/2:], nil), 1250),
		}
		f("shuffled", v, shuffled, want)

		retried := []byte{8, 7, 6, 5}
		f("after a Retry", v, [][]byte{
			two[0],
			seal(t, v, 0, retried, retried, 2, []byte("token"), frame(0, hello[:half]), 1200),
			seal(t, v, 0, retried, retried, 3, []byte("token"), frame(half, hello[half:]), 1200),
		}, want)
	}
	half := len(hello) / 2
	f("another version agreed", Version2, [][]byte{
		seal(t, Version1, 0, dcid, dcid, 0, nil, frame(0, hello[:half]), 1200),
		seal(t, Version2, 0, dcid, []byte("other"), 1, nil, frame(half, hello[half:]), 1200),
	}, want)
}

// TestServer reads the answer, which names the cipher.
func TestServer(t *testing.T) {
	hello := helloOf(t, "a.example")
	dcid := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	table, tally, _, got := testTable(t, 1<<20)
	flow := addresses(1, 5000)
	table.Datagram(flow, 1, seal(t, Version1, 0, dcid, dcid, 0, nil, frame(0, hello), 1400))
	answer := append([]byte{3, 3}, make([]byte, 32)...)
	answer = append(answer, 0, 0x13, 0x02, 0, 0, 6, 0, 43, 0, 2, 3, 4)
	answer = append([]byte{2, 0, 0, byte(len(answer))}, answer...)
	if _, ok := table.Datagram(back(flow), 2, seal(t, Version1, 1, dcid, []byte{9, 9, 9, 9}, 0, nil, frame(0, answer), 0)); !ok {
		t.Fatal("the answer is of no connection")
	}
	short := []byte{0x40, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	table.Datagram(back(flow), 3, short)
	table.Datagram(flow, 4, short)
	if _, ok := table.Datagram(addresses(9, 1), 4, short); ok {
		t.Error("a packet of no connection was taken for one")
	}
	table.Flush()
	if len(*got) != 1 {
		t.Fatalf("%d connections; %v", len(*got), tally.Events)
	}
	c := (*got)[0]
	if c.Opening.Cipher != 0x1302 || c.Opening.Version != 0x304 || c.Opening.SNI != "a.example" || c.Opening.JA3S == "" {
		t.Errorf("read %+v", c.Opening)
	}
	if c.Packets != [2]int64{2, 2} || c.Start != 1 || c.Last != 4 {
		t.Errorf("packets %v from %d to %d", c.Packets, c.Start, c.Last)
	}
}

// TestAgain has the addresses of one connection used by another.
func TestAgain(t *testing.T) {
	table, tally, _, got := testTable(t, 1<<20)
	flow := addresses(1, 5000)
	one, two := []byte{1, 2, 3, 4, 5, 6, 7, 8}, []byte{8, 7, 6, 5, 4, 3, 2, 1}
	table.Datagram(flow, 1, seal(t, Version1, 0, one, one, 0, nil, frame(0, helloOf(t, "one.example")), 1400))
	table.Datagram(flow, 2, seal(t, Version1, 0, one, one, 1, nil, []byte{framePing}, 1200))
	table.Datagram(flow, 3, seal(t, Version1, 0, one, []byte{9, 9, 9, 9}, 2, nil, []byte{frameAck, 0, 0, 0, 0}, 1200))
	table.Datagram(flow, 4, seal(t, Version1, 0, two, two, 0, nil, frame(0, helloOf(t, "two.example")), 1400))
	table.Flush()
	if len(*got) != 2 || (*got)[0].Opening.SNI != "one.example" || (*got)[0].Packets[0] != 3 || (*got)[1].Opening.SNI != "two.example" || *tally != (capture.Tally{}) {
		t.Errorf("read %+v; %v", *got, *tally)
	}
}

// TestBounds checks that strangers cannot make the table grow.
func TestBounds(t *testing.T) {
	table, tally, memory, got := testTable(t, 64<<10)
	dcid := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	// The beginning of a hello that never ends, from many addresses.
	open := seal(t, Version1, 0, dcid, dcid, 0, nil, frame(0, []byte{1, 0, 0x3f, 0, 3, 3}), 1200)
	for i := range MaxConnections + 100 {
		table.Datagram(addresses(i&255, 1000+i>>8), 1, open)
	}
	if len(table.open) > MaxConnections || len(table.ring) > MaxConnections || len(*got) != 100 {
		t.Errorf("%d connections are followed, %d were given up", len(table.open), len(*got))
	}
	if memory.Used > memory.Max || tally.Events[capture.LossMessage] == 0 {
		t.Errorf("%d bytes of %d are used; %v", memory.Used, memory.Max, tally.Events)
	}
	// After a silence they all go.
	for range MaxConnections {
		table.Datagram(addresses(1, 1), 1+2*idle, []byte{0x40})
	}
	if len(table.open) > 1 {
		t.Errorf("%d silent connections are followed", len(table.open))
	}
	// A hello beyond the buffer.
	far := seal(t, Version1, 0, dcid, dcid, 0, nil, frame(16000, make([]byte, 600)), 1200)
	table.Datagram(addresses(1, 2), 1+3*idle, far)
	over := seal(t, Version1, 0, dcid, dcid, 0, nil, frame(0, []byte{1, 1, 0, 0}), 1200)
	if c, ok := table.Datagram(addresses(1, 3), 1+3*idle, over); !ok || !c.done[0] {
		t.Error("a hello of 64 KiB is waited for")
	}
}

func FuzzInitial(f *testing.F) {
	hello := helloOf(f, "a.example")
	dcid := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	f.Add(frame(0, hello), true, byte(0))
	f.Add(append(frame(0, hello[:100]), frame(100, hello[100:])...), false, byte(1))
	f.Add([]byte{frameAck, 0, 0, 0x40, 0xff, 0}, false, byte(0))
	f.Add([]byte{frameCrypto, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, true, byte(3))
	f.Fuzz(func(t *testing.T, payload []byte, v2 bool, cut byte) {
		version := Version1
		if v2 {
			version = Version2
		}
		if len(payload) > 8000 {
			return
		}
		var tally capture.Tally
		memory := capture.Memory{Max: 1 << 16}
		table := NewTable(&tally, &memory, nil)
		flow := addresses(1, 1)
		sealed := seal(t, version, 0, dcid, dcid, 0, nil, payload, 1200)
		table.Datagram(flow, 1, sealed)
		table.Datagram(flow, 2, sealed[:len(sealed)-min(int(cut), len(sealed))])
		table.Datagram(flow, 3, payload) // unsealed: the header is the fuzzer's
		table.Datagram(back(flow), 4, seal(t, version, 1, dcid, dcid, 0, nil, payload, 100))
		if memory.Used > memory.Max {
			t.Fatalf("%d bytes are used", memory.Used)
		}
		table.Flush()
		if memory.Used != 0 {
			t.Fatalf("%d bytes were not given back", memory.Used)
		}
	})
}

func BenchmarkInitial(b *testing.B) {
	hello := helloOf(b, "shop.example.com")
	dcid := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	half := len(hello) / 2
	one := seal(b, Version1, 0, dcid, dcid, 0, nil, frame(0, hello[:half]), 1200)
	two := seal(b, Version1, 0, dcid, dcid, 1, nil, frame(half, hello[half:]), 1200)
	var tally capture.Tally
	memory := capture.Memory{Max: 1 << 20}
	table := NewTable(&tally, &memory, nil)
	b.SetBytes(int64(len(one) + len(two)))
	b.ReportAllocs()
	for i := range b.N {
		flow := addresses(i&255, i>>8&0xffff)
		table.Datagram(flow, 1, one)
		table.Datagram(flow, 1, two)
	}
}
