package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"golang.org/x/net/bpf"

	"weir/collector/capture"
	"weir/pipeline"
)

// frame is an Ethernet frame with a TCP segment in it.
func frame(srcPort, dstPort uint16, payload string) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	return append(b, ip4(protoTCP, tcp(srcPort, dstPort, payload))...)
}

func tcp(srcPort, dstPort uint16, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, srcPort)
	b = binary.BigEndian.AppendUint16(b, dstPort)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0)
	return append(b, payload...)
}

func udp(srcPort, dstPort uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, srcPort)
	b = binary.BigEndian.AppendUint16(b, dstPort)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

func ip4(proto byte, payload []byte) []byte {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(payload)))
	b = append(b, 0, 7, 0, 0, 64, proto, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2)
	return append(b, payload...)
}

func ip6(next byte, payload []byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, next, 64)
	b = append(b, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	b = append(b, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)
	return append(b, payload...)
}

// pcap is a capture file of frames, a second apart.
func pcap(order binary.AppendByteOrder, magic uint32, frames ...[]byte) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	for _, v := range []uint32{0, 0, 65535, 1} {
		b = order.AppendUint32(b, v)
	}
	for i, f := range frames {
		for _, v := range []uint32{uint32(1700000000 + i), 123000, uint32(len(f)), uint32(len(f))} {
			b = order.AppendUint32(b, v)
		}
		b = append(b, f...)
	}
	return b
}

// ngBlock is a block of pcapng.
func ngBlock(order binary.AppendByteOrder, kind uint32, body []byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	b := order.AppendUint32(order.AppendUint32(nil, kind), uint32(12+len(body)))
	return order.AppendUint32(append(b, body...), uint32(12+len(body)))
}

func pcapng(order binary.AppendByteOrder, frames ...[]byte) []byte {
	section := order.AppendUint32(nil, 0x1a2b3c4d)
	section = append(order.AppendUint16(order.AppendUint16(section, 1), 0), bytes.Repeat([]byte{0xff}, 8)...)
	face := order.AppendUint32(order.AppendUint16(order.AppendUint16(nil, 1), 0), 0)
	face = append(order.AppendUint16(order.AppendUint16(face, optionUnits), 1), 9, 0, 0, 0) // nanoseconds
	b := append(ngBlock(order, blockSection, section), ngBlock(order, blockInterface, face)...)
	for i, f := range frames {
		stamp := uint64(1700000000+i)*1e9 + 123000000
		body := order.AppendUint32(order.AppendUint32(order.AppendUint32(nil, 0), uint32(stamp>>32)), uint32(stamp))
		body = append(order.AppendUint32(order.AppendUint32(body, uint32(len(f))), uint32(len(f))), f...)
		b = append(b, ngBlock(order, blockEnhanced, body)...)
	}
	return b
}

// read returns the payloads of all segments, and the file.
func read(t testing.TB, data []byte) (payloads []string, times []pipeline.Time, f *File) {
	t.Helper()
	f, err := NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var tally capture.Tally
	d := NewDecoder(&tally, &capture.Memory{Max: 1 << 20})
	var p Packet
	for {
		if err := f.Next(&p); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return payloads, times, f
		}
		if d.Decode(&p) == TCP {
			payloads, times = append(payloads, string(d.Segment.Payload)), append(times, p.Time)
		}
	}
}

func TestFiles(t *testing.T) {
	one, two := frame(1, 80, "one"), frame(1, 80, "two")
	f := func(name string, data []byte, damages int64, want ...string) {
		t.Helper()
		got, times, file := read(t, data)
		if len(got) != len(want) {
			t.Errorf("%s: %q, want %q", name, got, want)
			return
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if file.Damages != damages {
			t.Errorf("%s: %d damages, want %d", name, file.Damages, damages)
		}
		if len(times) > 0 && times[0] != 1700000000_123000 && times[0] != 1700000000_000123 {
			t.Errorf("%s: the first is of %d", name, times[0])
		}
	}
	var little, big binary.AppendByteOrder = binary.LittleEndian, binary.BigEndian
	for name, order := range map[string]binary.AppendByteOrder{"little": little, "big": big} {
		whole := pcap(order, 0xa1b2c3d4, one, two)
		f(name+" micro", whole, 0, "one", "two")
		f(name+" nano", pcap(order, 0xa1b23c4d, one, two), 0, "one", "two")
		f(name+" cut", whole[:len(whole)-2], 1, "one")
		broken := bytes.Clone(pcap(order, 0xa1b2c3d4, one, two, two, two))
		order.(binary.ByteOrder).PutUint32(broken[24+16+len(one)+8:], 0xfffffff0) // the second's length
		f(name+" broken", broken, 1, "one", "two", "two")
		ng := pcapng(order, one, two)
		f(name+" ng", ng, 0, "one", "two")
		f(name+" ng cut", ng[:len(ng)-6], 1, "one")
		f(name+" ng twice", append(bytes.Clone(ng), ng...), 0, "one", "two", "one", "two")
		broken = pcapng(order, one, two, two)
		at := bytes.Index(broken, two)
		order.(binary.ByteOrder).PutUint32(broken[at-28+4:], 77)
		f(name+" ng broken", broken, 1, "one", "two")
		f(name+" ng garbage", append(append(bytes.Clone(ng), "garbage!"...), ng[len(ng)-32-(len(two)+3)/4*4:]...), 1, "one", "two", "two")
	}
	if _, err := NewFile(bytes.NewReader([]byte("GET / HTTP/1.1\r\nHost: example.com\r\n"))); !errors.Is(err, ErrFormat) {
		t.Errorf("text gives %v", err)
	}
}

func TestDecode(t *testing.T) {
	inner := frame(4000, 80, "hi")
	f := func(name string, link LinkType, data []byte, vni uint32) {
		t.Helper()
		var tally capture.Tally
		d := NewDecoder(&tally, &capture.Memory{Max: 1 << 20})
		k := d.Decode(&Packet{Data: data, Wire: len(data), Link: link})
		if k != TCP || string(d.Segment.Payload) != "hi" || d.Segment.DstPort != 80 || d.Segment.VNI != vni {
			t.Errorf("%s: kind %d, %+v, %v", name, k, d.Segment, tally.Events)
		}
	}
	ether := func(t uint16, payload []byte) []byte {
		return append(binary.BigEndian.AppendUint16(make([]byte, 12, 14+len(payload)), t), payload...)
	}
	packet := inner[14:]
	v6 := ip6(protoTCP, tcp(4000, 80, "hi"))
	f("ethernet", LinkEthernet, inner, 0)
	f("padded", LinkEthernet, append(bytes.Clone(inner), 0, 0, 0, 0), 0)
	f("raw", LinkRaw, packet, 0)
	f("loopback", LinkNull, append([]byte{2, 0, 0, 0}, packet...), 0)
	f("loopback v6", LinkLoop, append([]byte{0, 0, 0, 30}, v6...), 0)
	f("cooked", LinkSLL, append(append(make([]byte, 14), 8, 0), packet...), 0)
	f("cooked v2", LinkSLL2, append(append([]byte{8, 0}, make([]byte, 18)...), packet...), 0)
	f("VLAN", LinkEthernet, ether(typeVLAN, append([]byte{0, 5, 8, 0}, packet...)), 0)
	f("QinQ", LinkEthernet, ether(typeQinQ, append([]byte{0, 5, 0x81, 0, 0, 6, 8, 0}, packet...)), 0)
	f("MPLS", LinkEthernet, ether(typeMPLS, append([]byte{0, 1, 0, 64, 0, 1, 1, 64}, packet...)), 0)
	f("PPPoE", LinkEthernet, ether(typePPPoE, append([]byte{0x11, 0, 0, 1, 0, 50, 0, 0x21}, packet...)), 0)
	f("SNAP", LinkEthernet, ether(uint16(8+len(packet)), append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, packet...)), 0)
	f("VXLAN", LinkRaw, ip4(protoUDP, udp(5, portVXLAN, append([]byte{8, 0, 0, 0, 0, 0x10, 0x92, 0}, inner...))), 4242)
	f("VXLAN elsewhere", LinkRaw, ip4(protoUDP, udp(5, 12345, append([]byte{8, 0, 0, 0, 0, 0x10, 0x92, 0}, inner...))), 4242)
	f("GENEVE", LinkRaw, ip4(protoUDP, udp(5, portGENEVE, append([]byte{1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 0}, inner...))), 7)
	f("GRE", LinkRaw, ip4(protoGRE, append([]byte{0, 0, 8, 0}, packet...)), 0)
	f("GRE with a key", LinkRaw, ip4(protoGRE, append([]byte{0x20, 0, 0x65, 0x58, 0, 0, 9, 1}, inner...)), 9)
	f("ERSPAN I", LinkRaw, ip4(protoGRE, append([]byte{0, 0, 0x88, 0xbe}, inner...)), 0)
	f("ERSPAN II", LinkRaw, ip4(protoGRE, append([]byte{0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 100, 0, 0, 0, 0}, inner...)), 100)
	f("ERSPAN III", LinkRaw, ip4(protoGRE, append([]byte{0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0}, inner...)), 100)
	f("IPIP", LinkRaw, ip4(protoIPIP, packet), 0)
	f("6in4", LinkRaw, ip4(protoIPv6, v6), 0)
	f("v6 options", LinkRaw, ip6(0, append([]byte{protoRouting, 0, 0, 0, 0, 0, 0, 0, protoTCP, 0, 0, 0, 0, 0, 0, 0}, tcp(4000, 80, "hi")...)), 0)
	f("v6 atomic fragment", LinkRaw, ip6(protoFragment, append([]byte{protoTCP, 0, 0, 0, 0, 0, 0, 9}, tcp(4000, 80, "hi")...)), 0)
	f("offloaded", LinkRaw, func() []byte { b := bytes.Clone(packet); b[2], b[3] = 0, 0; return b }(), 0)
}

func TestFragments(t *testing.T) {
	whole := ip4(protoUDP, udp(7, 9, bytes.Repeat([]byte("abcdefgh"), 10)))
	piece := func(from, to int, more bool) []byte {
		b := append(bytes.Clone(whole[:20]), whole[20+from:20+to]...)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		at := uint16(from / 8)
		if more {
			at |= 0x2000
		}
		binary.BigEndian.PutUint16(b[6:], at)
		return b
	}
	f := func(name string, ok bool, pieces ...[]byte) {
		t.Helper()
		var tally capture.Tally
		memory := &capture.Memory{Max: 1 << 20}
		d := NewDecoder(&tally, memory)
		k := None
		for i, b := range pieces {
			k = d.Decode(&Packet{Time: pipeline.Time(i), Data: b, Wire: len(b), Link: LinkRaw})
		}
		if (k == UDP) != ok {
			t.Errorf("%s: kind %d", name, k)
		}
		if ok && string(d.Datagram.Payload[:16]) != "abcdefghabcdefgh" {
			t.Errorf("%s: %q", name, d.Datagram.Payload)
		}
		if d.Flush(); memory.Used != 0 {
			t.Errorf("%s: %d bytes of memory were not given back", name, memory.Used)
		}
	}
	f("in order", true, piece(0, 40, true), piece(40, 88, false))
	f("backwards", true, piece(40, 88, false), piece(16, 40, true), piece(0, 16, true))
	f("overlapping", true, piece(0, 40, true), piece(16, 56, true), piece(48, 88, false))
	f("repeated", true, piece(0, 40, true), piece(0, 40, true), piece(40, 88, false))
	f("not whole", false, piece(0, 40, true), piece(56, 88, false))
}

func TestFilter(t *testing.T) {
	f := func(text string, want string) { // T and F for the packets below
		t.Helper()
		filter, err := ParseFilter(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			return
		}
		code, err := filter.program(offsets{bpf.LoadAbsolute{Off: 12, Size: 2}, 14}, 65535)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			return
		}
		program, _ := bpf.Disassemble(code)
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			return
		}
		v6 := append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd}, ip6(protoTCP, tcp(5000, 80, "x"))...)
		dns := append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0}, ip4(protoUDP, udp(53, 8080, []byte("x")))...)
		got := ""
		for _, p := range [][]byte{frame(5000, 80, "x"), frame(8080, 5000, "x"), frame(5000, 22, "x"), v6, dns} {
			if n, err := vm.Run(p); err != nil || n == 0 {
				got += "F"
			} else {
				got += "T"
			}
		}
		if got != want {
			t.Errorf("%q takes %s, want %s", text, got, want)
		}
	}
	f("", "TTTTT")
	f("tcp", "TTTTF")
	f("tcp port 80 or 8080", "TTFTF")
	f("port 80 or 8080", "TTFTT")
	f("tcp dst port 80", "TFFTF")
	f("src port 8080", "FTFFF")
	f("tcp and not port 22", "TTFTF")
	f("not (port 80 or port 22)", "FTFFT")
	f("tcp portrange 8000-8099", "FTFFF")
	f("host 192.0.2.1", "TTTFT")
	f("src host 198.51.100.2", "FFFFF")
	f("dst net 198.51.100.0/24 && port 80", "TFFFF")
	f("net 2001:db8::/32", "FFFTF")
	f("host 2001:db8::2 or udp", "FFFTT")
	f("ip6 or udp port 53", "FFFTT")
	f("ip and tcp port 80 or 22", "TFTFF") // "and" binds closer

	bad := func(text string) {
		t.Helper()
		if _, err := ParseFilter(text); err == nil {
			t.Errorf("%q is read", text)
		}
	}
	for _, text := range []string{"port", "port 80 and", "port 99999", "host example.com", "(port 80", "port 80)", "foo", "icmp port 7", "80", "port 90-80"} {
		bad(text)
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(frame(1, 80, "hi"), uint16(1), uint8(0))
	f.Add(ip4(protoUDP, udp(5, portVXLAN, append([]byte{8, 0, 0, 0, 0, 0x10, 0x92, 0}, frame(1, 80, "hi")...))), uint16(101), uint8(9))
	f.Add(ip4(protoGRE, append([]byte{0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 1}, frame(1, 80, "hi")...)), uint16(101), uint8(0))
	f.Add(ip6(protoFragment, append([]byte{protoTCP, 0, 0, 1, 0, 0, 0, 9}, tcp(4000, 80, "hihihi")...)), uint16(101), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, link uint16, cut uint8) {
		var tally capture.Tally
		memory := &capture.Memory{Max: 4096}
		d := NewDecoder(&tally, memory)
		for i := range 3 { // fragments want more than one
			p := Packet{Time: pipeline.Time(i), Data: data, Wire: len(data) + int(cut), Link: LinkType(link)}
			d.Decode(&p)
		}
		d.Flush()
		var lost int64
		for r := capture.LossMalformed; r <= capture.LossDepth; r++ {
			lost += tally.Events[r]
		}
		if c := d.Counts; c.Segments+c.Datagrams+c.Fragments+lost != c.Packets || memory.Used != 0 {
			t.Errorf("%+v, lost %d, memory %d", c, lost, memory.Used)
		}
	})
}

func FuzzFile(f *testing.F) {
	one := frame(1, 80, "one")
	f.Add(pcap(binary.LittleEndian, 0xa1b2c3d4, one, one))
	f.Add(pcap(binary.BigEndian, 0xa1b23c4d, one, one))
	f.Add(pcapng(binary.LittleEndian, one, one))
	f.Add(pcapng(binary.BigEndian, one, one))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := NewFile(bytes.NewReader(data))
		if err != nil {
			return
		}
		var p Packet
		packets := 0
		for ; err == nil; packets++ {
			err = file.Next(&p)
		}
		if packets > len(data) || file.Skipped > int64(len(data)) {
			t.Errorf("%d packets, %d bytes skipped of %d", packets, file.Skipped, len(data))
		}
	})
}
