package tcp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"weir/collector/capture"
	"weir/collector/capture/packet"
	"weir/pipeline"
)

// rig is an Assembler that writes down what it gives out.
type rig struct {
	a      *Assembler
	tally  capture.Tally
	memory capture.Memory
	got    [2]bytes.Buffer // missing bytes as '?'
	gaps   [2]int64
	closed [2][]capture.End
	calls  int
}

func newRig(cfg Config) *rig {
	r := &rig{memory: capture.Memory{Max: 8 << 20}}
	r.a = New(cfg, Callbacks{
		Data: func(_ *Conn, dir capture.Direction, _ pipeline.Time, b []byte) {
			r.calls++
			r.got[dir].Write(b)
		},
		Gap: func(_ *Conn, dir capture.Direction, _ pipeline.Time, n int64) {
			r.gaps[dir] += n
			r.got[dir].WriteByte('?')
		},
		Close: func(_ *Conn, dir capture.Direction, _ pipeline.Time, end capture.End) {
			r.closed[dir] = append(r.closed[dir], end)
		},
	}, &r.tally, &r.memory)
	return r
}

// sums fails when bytes went anywhere that no counter names.
func (r *rig) sums(t testing.TB) {
	t.Helper()
	c := r.a.Counts
	sum := c.Delivered + c.Held
	for _, reason := range []capture.Reason{capture.LossRetransmit, capture.LossOverlap, capture.LossWindow, capture.LossConnections, capture.LossMemory} {
		sum += r.tally.Bytes[reason]
	}
	if sum != c.Bytes {
		t.Errorf("%d bytes came, %d are counted: %+v %v", c.Bytes, sum, c, r.tally.Bytes)
	}
	if c.Held != 0 || r.memory.Used != 0 {
		t.Errorf("%d bytes held, %d of memory used at the end", c.Held, r.memory.Used)
	}
}

func address(n int) (a pipeline.Address) {
	a[10], a[11], a[12], a[13], a[14], a[15] = 0xff, 0xff, 10, byte(n>>16), byte(n>>8), byte(n)
	return a
}

// side makes segments of one end of a connection.
type side struct {
	src, dst         pipeline.Address
	srcPort, dstPort uint16
}

func (s side) seg(at int64, flags uint8, seq, ack uint32, payload string) packet.Segment {
	return packet.Segment{
		Time: pipeline.Time(1e15 + at*1000), Src: s.src, Dst: s.dst, SrcPort: s.srcPort, DstPort: s.dstPort,
		Seq: seq, Ack: ack, Flags: flags, Payload: []byte(payload),
	}
}

func ends() (client, server side) {
	client = side{address(1), address(2), 40000, 80}
	return client, side{client.dst, client.src, client.dstPort, client.srcPort}
}

const (
	sa = packet.SYN | packet.ACK
	pa = packet.PSH | packet.ACK
	fa = packet.FIN | packet.ACK
)

func TestReassembly(t *testing.T) {
	c, s := ends()
	hello := []packet.Segment{c.seg(0, packet.SYN, 100, 0, ""), s.seg(1, sa, 500, 101, ""), c.seg(2, packet.ACK, 101, 501, "")}
	f := func(name string, segments []packet.Segment, client, server string) {
		t.Helper()
		r := newRig(DefaultConfig())
		for i := range segments {
			r.a.Segment(&segments[i])
		}
		r.a.Flush()
		if got := r.got[0].String(); got != client {
			t.Errorf("%s: client sent %q, want %q", name, got, client)
		}
		if got := r.got[1].String(); got != server {
			t.Errorf("%s: server sent %q, want %q", name, got, server)
		}
		for dir := range r.closed {
			if r.calls > 0 && len(r.closed[dir]) != 1 {
				t.Errorf("%s: direction %d was closed %d times", name, dir, len(r.closed[dir]))
			}
		}
		r.sums(t)
	}
	with := func(more ...packet.Segment) []packet.Segment {
		return append(append([]packet.Segment{}, hello...), more...)
	}

	f("in order", with(c.seg(3, pa, 101, 501, "abc"), s.seg(4, pa, 501, 104, "xyz"), c.seg(5, fa, 104, 504, ""), s.seg(6, fa, 504, 105, "")), "abc", "xyz")
	f("reordered", with(c.seg(3, pa, 104, 501, "def"), c.seg(4, pa, 101, 501, "abc")), "abcdef", "")
	f("retransmitted", with(c.seg(3, pa, 101, 501, "abc"), c.seg(4, pa, 101, 501, "abc"), c.seg(5, pa, 104, 501, "def")), "abcdef", "")
	f("partly new", with(c.seg(3, pa, 101, 501, "abc"), c.seg(4, pa, 102, 501, "bcdef")), "abcdef", "")
	f("overlap out of order", with(c.seg(3, pa, 104, 501, "DEF"), c.seg(4, pa, 103, 501, "cdefgh"), c.seg(5, pa, 101, 501, "ab")), "abcDEFgh", "")
	f("fills between", with(c.seg(3, pa, 103, 501, "c"), c.seg(4, pa, 106, 501, "f"), c.seg(5, pa, 102, 501, "bcdefg"), c.seg(6, pa, 101, 501, "a")), "abcdefg", "")
	f("keepalive", with(c.seg(3, pa, 101, 501, "abc"), c.seg(4, packet.ACK, 103, 501, "\x00"), c.seg(5, pa, 104, 501, "def")), "abcdef", "")
	f("lost, acknowledged", with(c.seg(3, pa, 104, 501, "def"), s.seg(4, packet.ACK, 501, 107, "")), "?def", "")
	f("request lost", with(s.seg(9, pa, 501, 120, "answer"), c.seg(10, packet.ACK, 120, 507, "")), "?", "answer")
	f("answer first", with(s.seg(3, pa, 501, 104, "xyz"), c.seg(4, pa, 101, 501, "abc")), "abc", "xyz")
	f("end lost", with(c.seg(3, pa, 101, 501, "abc"), c.seg(4, fa, 110, 501, ""), s.seg(5, fa, 501, 111, "")), "abc?", "")
	f("mid-stream", []packet.Segment{c.seg(3, pa, 1000, 501, "GET /"), c.seg(4, pa, 1005, 501, "abc")}, "GET /abc", "")
	f("one side", []packet.Segment{s.seg(3, pa, 501, 104, "HTTP/1.1 200"), s.seg(4, pa, 513, 104, " OK")}, "", "HTTP/1.1 200 OK")
	f("one side, lost", []packet.Segment{s.seg(3, pa, 501, 104, "HTTP/1.1 200"), s.seg(4, pa, 520, 104, "b"), s.seg(5000, pa, 521, 104, "c")}, "", "HTTP/1.1 200?bc")
	f("reset", with(c.seg(3, pa, 101, 501, "abc"), s.seg(4, packet.RST|packet.ACK, 501, 104, "")), "abc", "")
	f("reset elsewhere", with(c.seg(3, pa, 101, 501, "abc"), s.seg(4, packet.RST, 501+1<<29, 104, ""), c.seg(5, pa, 104, 501, "def")), "abcdef", "")
	f("wrapped", []packet.Segment{
		c.seg(0, packet.SYN, 0xfffffffd, 0, ""), s.seg(1, sa, 0xffffffff, 0xfffffffe, ""), c.seg(2, pa, 0xfffffffe, 0, "abcd"), s.seg(3, pa, 0, 2, "xyz"), c.seg(4, pa, 2, 3, "ef"),
	}, "abcdef", "xyz")
	f("late after the end", with(c.seg(3, pa, 101, 501, "abc"), c.seg(4, fa, 104, 501, ""), s.seg(5, fa, 501, 105, ""), c.seg(6, pa, 101, 501, "abc")), "abc", "")
	f("ports again", with(c.seg(3, pa, 101, 501, "abc"), c.seg(4, fa, 104, 501, ""), s.seg(5, fa, 501, 105, ""), c.seg(6, packet.SYN, 900000, 0, "")), "abc", "")
	f("data with the SYN", []packet.Segment{c.seg(0, packet.SYN, 100, 0, "abc"), s.seg(1, sa, 500, 104, ""), c.seg(2, pa, 104, 501, "def")}, "abcdef", "")
	f("outside", with(c.seg(3, pa, 101, 501, "abc"), c.seg(4, pa, 101+1<<30+5, 501, "zzz"), c.seg(5, pa, 104, 501, "def")), "abcdef", "")
	cut := c.seg(3, pa, 101, 501, "abc")
	cut.Missing = 4
	f("cut off", with(cut, c.seg(4, pa, 108, 501, "def")), "abc?def", "")
}

func TestOverlapDiffers(t *testing.T) {
	c, _ := ends()
	r := newRig(DefaultConfig())
	for _, s := range []packet.Segment{
		c.seg(0, packet.SYN, 100, 0, ""), c.seg(1, pa, 101, 0, "GET /good"), c.seg(2, pa, 101, 0, "GET /evil"), c.seg(3, pa, 101, 0, "GET /good"),
	} {
		r.a.Segment(&s)
	}
	r.a.Flush()
	if got := r.got[0].String(); got != "GET /good" {
		t.Errorf("got %q: the first must win", got)
	}
	if n := r.tally.Bytes[capture.LossOverlap]; n != 9 {
		t.Errorf("%d bytes differ, want 9", n)
	}
	r.sums(t)
}

// TestHalfOpen sends a million SYNs: memory stays bounded, and who carried something
// stays.
func TestHalfOpen(t *testing.T) {
	r := newRig(Config{Connections: 1 << 12, Held: 1 << 20})
	c, s := ends()
	for _, seg := range []packet.Segment{c.seg(0, packet.SYN, 100, 0, ""), s.seg(1, sa, 500, 101, ""), c.seg(2, pa, 101, 501, "abc")} {
		r.a.Segment(&seg)
	}
	const n = 1_000_000
	for i := range n {
		seg := packet.Segment{Time: pipeline.Time(1e15 + i), Src: address(i + 10), Dst: c.dst, SrcPort: uint16(i), DstPort: 80, Seq: uint32(i), Flags: packet.SYN}
		r.a.Segment(&seg)
	}
	late := c.seg(900, pa, 104, 501, "def")
	r.a.Segment(&late)
	if got := r.got[0].String(); got != "abcdef" {
		t.Errorf("got %q: the one that carried something is gone", got)
	}
	if used := len(r.a.table.slabs) * slab; used > 1<<12+slab {
		t.Errorf("%d connections in memory", used)
	}
	if got := r.a.Counts.Connections; got != n+1 {
		t.Errorf("%d connections counted", got)
	}
	if lost, open := r.tally.Events[capture.LossConnections], r.a.Counts.Open; lost+open != n+1 {
		t.Errorf("%d given up, %d open: not %d", lost, open, n+1)
	}
	r.a.Flush()
	r.sums(t)
}

// exchangeOf is a connection that exchanges texts in segments.
func exchangeOf(r *rand.Rand, c, s side, rounds int) (segments []packet.Segment, sent [2][]byte) {
	seq := [2]uint32{r.Uint32(), r.Uint32()}
	from := [2]side{c, s}
	at := int64(0)
	add := func(dir int, flags uint8, payload []byte) {
		at++
		segments = append(segments, from[dir].seg(at, flags, seq[dir], seq[1-dir], string(payload)))
		seq[dir] += uint32(len(payload))
	}
	add(0, packet.SYN, nil)
	seq[0]++
	add(1, sa, nil)
	seq[1]++
	add(0, packet.ACK, nil)
	for i := range rounds {
		for dir := range 2 {
			text := fmt.Appendf(nil, "<%d.%d.", dir, i)
			for range r.IntN(4000) {
				text = append(text, byte('a'+r.IntN(26)))
			}
			sent[dir] = append(sent[dir], text...)
			for len(text) > 0 {
				n := min(len(text), 1+r.IntN(1400))
				add(dir, pa, text[:n])
				text = text[n:]
			}
			add(1-dir, packet.ACK, nil)
		}
	}
	add(0, fa, nil)
	seq[0]++
	add(1, fa, nil)
	seq[1]++
	add(0, packet.ACK, nil)
	return segments, sent
}

// TestLoss drops a third of the packets at random: what is given out and what is said
// to be missing are together what was sent.
func TestLoss(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	c, s := ends()
	var gaps, undetected int64
	for range 300 {
		segments, sent := exchangeOf(rnd, c, s, 6)
		r := newRig(DefaultConfig())
		var dropped int64
		for i := range segments {
			if i > 2 && rnd.IntN(100) < 30 {
				dropped += int64(len(segments[i].Payload))
				continue
			}
			r.a.Segment(&segments[i])
		}
		r.a.Flush()
		r.sums(t)
		told := r.gaps[0] + r.gaps[1]
		if told != r.tally.Bytes[capture.LossGap] {
			t.Fatalf("%d bytes of gaps, %d counted", told, r.tally.Bytes[capture.LossGap])
		}
		if told > dropped+2 { // a FIN of which only the acknowledgement was seen counts for a byte
			t.Fatalf("%d bytes are said to be missing, %d were dropped", told, dropped)
		}
		if r.a.Counts.Delivered+dropped != int64(len(sent[0])+len(sent[1])) {
			t.Fatalf("%d given out, %d dropped of %d", r.a.Counts.Delivered, dropped, len(sent[0])+len(sent[1]))
		}
		gaps, undetected = gaps+told, undetected+dropped-told
	}
	if gaps == 0 || undetected*50 > gaps {
		t.Errorf("%d bytes were told missing, %d were not: they were the last of a direction that nothing came behind", gaps, undetected)
	}
}

// TestDisorder moves packets by a few places and repeats some: nothing is lost.
func TestDisorder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	c, s := ends()
	for range 100 {
		_ = s
		// One direction: an acknowledgement that overtakes what it is for tells of a loss.
		segments, sent := exchangeOf(rnd, c, s, 3)
		var one []packet.Segment
		for _, seg := range segments {
			if seg.SrcPort == c.srcPort && len(seg.Payload) > 0 || seg.Flags&packet.SYN != 0 {
				one = append(one, seg)
			}
		}
		for i := 3; i+3 < len(one); i += 4 {
			j := i + rnd.IntN(3)
			one[i], one[j] = one[j], one[i]
			one = append(one, one[rnd.IntN(i)])
		}
		r := newRig(DefaultConfig())
		for i := range one {
			r.a.Segment(&one[i])
		}
		r.a.Flush()
		r.sums(t)
		if got := r.got[0].Bytes(); !bytes.Equal(got, sent[0]) {
			t.Fatalf("%d bytes given out, %d sent", len(got), len(sent[0]))
		}
	}
}

func FuzzStreams(f *testing.F) {
	f.Add([]byte{0, 2, 0, 0, 0}, uint16(200))
	f.Add([]byte{0, 2, 0, 0, 1, 18, 0, 1, 0, 16, 1, 1, 1, 24, 1, 1, 1, 17, 5, 2}, uint16(100))
	f.Fuzz(func(t *testing.T, script []byte, capSize uint16) {
		r := newRig(Config{Connections: 1 + int(capSize%8), Held: 64 + int(capSize)})
		r.memory.Max = int64(capSize) * 4
		c, s := ends()
		from := [2]side{c, s}
		for at := int64(0); len(script) >= 5; at++ {
			b := script[:5]
			script = script[5:]
			one := from[b[0]&1]
			one.srcPort += uint16(b[0] >> 6 & 1 * (1 - b[0]&1))
			seg := one.seg(at*int64(b[0]>>1), b[1], 100+uint32(int8(b[2])), 500+uint32(int8(b[3])), string(make([]byte, int(b[4])*3)))
			seg.Missing = int(b[4] >> 7)
			r.a.Segment(&seg)
			if r.memory.Used > r.memory.Max {
				t.Fatalf("%d bytes of %d", r.memory.Used, r.memory.Max)
			}
		}
		r.a.Flush()
		r.sums(t)
	})
}
