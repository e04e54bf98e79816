package packet

import (
	"weir/collector/capture"
	"weir/pipeline"
)

// Kind is what a packet turned out to hold.
type Kind uint8

// The kinds.
const (
	None     Kind = iota // nothing for HTTP; the Tally has why
	TCP                  // Decoder.Segment is set
	UDP                  // Decoder.Datagram is set
	Fragment             // a part of a datagram that is not whole yet
)

// Flags of a segment, as in the TCP header.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// Segment is a TCP segment. Payload is valid until the next packet is decoded.
type Segment struct {
	Time             pipeline.Time
	Src, Dst         pipeline.Address
	SrcPort, DstPort uint16
	VNI              uint32
	Seq, Ack         uint32
	Flags            uint8
	Payload          []byte
	Missing          int // bytes of the payload that the capture cut off
}

// Datagram is a UDP datagram that is no tunnel.
type Datagram struct {
	Time             pipeline.Time
	Src, Dst         pipeline.Address
	SrcPort, DstPort uint16
	VNI              uint32
	Payload          []byte
}

// Counts says what a Decoder was given. Packets is the sum of Segments, Datagrams,
// Fragments and the events of the packet reasons of its Tally.
type Counts struct {
	Packets, Bytes, Segments, Datagrams, Fragments int64
}

// maxDepth is how many tunnels a packet may be wrapped in.
const maxDepth = 8

// Decoder takes packets apart. What it does not read it counts in the Tally. One
// goroutine uses it.
type Decoder struct {
	Segment  Segment
	Datagram Datagram
	Counts   Counts

	tally *capture.Tally
	frags fragments
	at    pipeline.Time
	vni   uint32
	depth int
	cut   int // bytes of the packet that were not captured
}

// NewDecoder returns a Decoder that counts into tally and holds fragments within
// memory.
func NewDecoder(tally *capture.Tally, memory *capture.Memory) *Decoder {
	return &Decoder{tally: tally, frags: newFragments(tally, memory)}
}

// Decode takes p apart. A fragment that completes a datagram gives what the whole
// datagram holds.
func (d *Decoder) Decode(p *Packet) Kind {
	d.at, d.vni, d.depth = p.Time, 0, 0
	d.cut = p.Wire - len(p.Data)
	d.Counts.Packets++
	d.Counts.Bytes += int64(len(p.Data))
	if d.cut > 0 {
		d.tally.Bytes[capture.LossSnaplen] += int64(d.cut)
	}
	k := d.link(p.Data, p.Link)
	switch k {
	case TCP:
		d.Counts.Segments++
	case UDP:
		d.Counts.Datagrams++
	case Fragment:
		d.Counts.Fragments++
	}
	return k
}

// Flush gives up the datagrams that are not whole.
func (d *Decoder) Flush() {
	for len(d.frags.table) > 0 {
		d.frags.oldest()
	}
}

// inner takes apart what a tunnel carries.
func (d *Decoder) inner(b []byte, how func(*Decoder, []byte) Kind) Kind {
	if d.depth++; d.depth > maxDepth {
		return d.deep(b)
	}
	return how(d, b)
}

func (d *Decoder) malformed(b []byte) Kind { return d.lose(capture.LossMalformed, b) }
func (d *Decoder) unread(b []byte) Kind    { return d.lose(capture.LossLink, b) }
func (d *Decoder) deep(b []byte) Kind      { return d.lose(capture.LossDepth, b) }

func (d *Decoder) lose(r capture.Reason, b []byte) Kind {
	d.tally.Add(r, int64(len(b)))
	return None
}
