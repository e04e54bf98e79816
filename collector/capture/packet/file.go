// Package packet reads packets: capture files, and what is inside a packet down to
// the TCP segment or UDP datagram, through link layers, tunnels and fragments.
//
//	file.go     pcap
//	ng.go       pcapng
//	decode.go   what a packet holds
//	link.go     link layers
//	network.go  IPv4, IPv6, their fragments
//	tunnel.go   what UDP and GRE carry
package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"weir/pipeline"
)

// Packet is one packet as captured.
type Packet struct {
	Time pipeline.Time
	Data []byte // what was captured of it; valid until the next one is read
	Wire int    // its length on the wire
	Link LinkType
}

// MaxPacket is the longest packet that is believed, in bytes: larger than any
// snap length in use (tcpdump 256 KiB) and any offloaded segment.
const MaxPacket = 1 << 20

// ErrFormat is an input that is no capture file.
var ErrFormat = errors.New("it is no capture file")

// File reads a capture file, pcap or pcapng, of either byte order, in micro- or
// nanoseconds. What is damaged is skipped and counted. One goroutine uses it.
type File struct {
	// Skipped is how many bytes could not be read as packets, in how many places.
	Skipped int64
	Damages int64
	// Secrets is told of the key material in a pcapng file; nil: of nobody's
	// interest. The argument is valid until it returns.
	Secrets func(kind uint32, data []byte)

	in    input
	big   bool
	ng    bool
	begun bool
	head  int  // of a pcap record: 16, or 24 as modified by Kuznetzov
	nano  bool // pcap stamps count nanoseconds
	snap  uint32
	link  LinkType
	last  uint32 // seconds of the last good record
	faces []face // interfaces of the section
}

// NewFile begins to read; the error wraps ErrFormat when the first bytes are no
// capture's.
func NewFile(r io.Reader) (*File, error) {
	f := &File{in: input{r: r, buf: make([]byte, 0, 256<<10)}}
	b, err := f.in.peek(24)
	if len(b) < 24 {
		if err == nil || errors.Is(err, io.EOF) {
			err = ErrFormat
		}
		return nil, err
	}
	f.head = 16
	switch string(b[:4]) {
	case "\x0a\x0d\x0d\x0a":
		f.ng = true
		return f, nil
	case "\xd4\xc3\xb2\xa1":
	case "\xa1\xb2\xc3\xd4":
		f.big = true
	case "\x4d\x3c\xb2\xa1":
		f.nano = true
	case "\xa1\xb2\x3c\x4d":
		f.big, f.nano = true, true
	case "\x34\xcd\xb2\xa1":
		f.head = 24
	case "\xa1\xb2\xcd\x34":
		f.big, f.head = true, 24
	default:
		return nil, ErrFormat
	}
	f.snap = f.u32(b[16:])
	f.link = LinkType(f.u32(b[20:]) & 0xffff) // above are the FCS bits
	f.in.skip(24)
	return f, nil
}

// IsCapture tells a capture file by its first bytes.
func IsCapture(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	switch string(head[:4]) {
	case "\x0a\x0d\x0d\x0a", "\xd4\xc3\xb2\xa1", "\xa1\xb2\xc3\xd4", "\x4d\x3c\xb2\xa1", "\xa1\xb2\x3c\x4d", "\x34\xcd\xb2\xa1", "\xa1\xb2\xcd\x34":
		return true
	}
	return false
}

func (f *File) u16(b []byte) uint16 {
	if f.big {
		return binary.BigEndian.Uint16(b)
	}
	return binary.LittleEndian.Uint16(b)
}

func (f *File) u32(b []byte) uint32 {
	if f.big {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

func (f *File) damage(n int64) {
	f.Skipped += n
	f.Damages++
}

// Read is how many bytes were read so far.
func (f *File) Read() int64 { return f.in.total }

// Next reads the next packet into p. io.EOF is the end of the file, also one in
// the middle of a packet, which is counted as a damage; other errors are the
// reader's.
func (f *File) Next(p *Packet) error {
	if f.ng {
		return f.nextBlock(p)
	}
	for {
		b, err := f.in.peek(f.head)
		if len(b) < f.head {
			return f.ends(b, err)
		}
		sec, frac, n, wire := f.u32(b), f.u32(b[4:]), f.u32(b[8:]), f.u32(b[12:])
		if !f.plausible(sec, frac, n, wire) {
			if err := f.resync(); err != nil {
				return err
			}
			continue
		}
		b, err = f.in.peek(f.head + int(n))
		if len(b) < f.head+int(n) {
			return f.ends(b, err)
		}
		f.in.skip(len(b))
		f.last, f.begun = sec, true
		if f.nano {
			frac /= 1000
		}
		*p = Packet{Time: pipeline.Time(int64(sec)*1e6 + int64(frac)), Data: b[f.head:], Wire: max(int(wire), int(n)), Link: f.link}
		return nil
	}
}

// ends is called at the end of the input, with what is left of it.
func (f *File) ends(rest []byte, err error) error {
	if len(rest) > 0 {
		f.damage(int64(len(rest)))
		f.in.skip(len(rest))
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

// plausible reports whether a record's head can be one.
func (f *File) plausible(sec, frac, n, wire uint32) bool {
	if n > MaxPacket || wire > 16*MaxPacket || f.snap > 0 && f.snap < MaxPacket && n > max(f.snap, 1<<16) {
		return false
	}
	return frac < 1e6 || f.nano && frac < 1e9 || f.head == 24
}

// resyncWithin is how far from the last packet's time, in seconds, the next one
// behind a damage may be.
const resyncWithin = 24 * 3600

// resync skips bytes until two records in a row look like such.
func (f *File) resync() error {
	skipped := int64(0)
	defer func() { f.damage(skipped) }()
	for {
		b, err := f.in.peek(64 << 10)
		if len(b) <= f.head {
			skipped += int64(len(b))
			f.in.skip(len(b))
			if err == nil {
				err = io.EOF
			}
			return err
		}
		for i := 1; i+f.head <= len(b); i++ {
			if f.looksLike(b[i:]) {
				f.in.skip(i)
				skipped += int64(i)
				return nil
			}
		}
		n := len(b) - f.head
		f.in.skip(n)
		skipped += int64(n)
	}
}

func (f *File) looksLike(b []byte) bool {
	sec, frac, n, wire := f.u32(b), f.u32(b[4:]), f.u32(b[8:]), f.u32(b[12:])
	if n < 14 || n > wire || wire > MaxPacket || !f.plausible(sec, frac, n, wire) || f.begun && max(sec, f.last)-min(sec, f.last) > resyncWithin {
		return false
	}
	next := f.head + int(n)
	if next+f.head > len(b) {
		return next <= len(b)
	}
	b = b[next:]
	second := f.u32(b)
	return f.plausible(second, f.u32(b[4:]), f.u32(b[8:]), f.u32(b[12:])) && max(sec, second)-min(sec, second) <= resyncWithin
}

// input is a buffered reader that shows what comes next.
type input struct {
	r     io.Reader
	buf   []byte
	at    int
	total int64
	err   error
}

// peek returns the next n bytes, fewer only at the end or an error.
func (in *input) peek(n int) ([]byte, error) {
	for len(in.buf)-in.at < n && in.err == nil {
		if in.at > 0 && cap(in.buf)-in.at < max(n, 64<<10) {
			in.buf = in.buf[:copy(in.buf, in.buf[in.at:])]
			in.at = 0
		}
		if cap(in.buf)-in.at < n {
			grown := make([]byte, len(in.buf)-in.at, n+n/2)
			copy(grown, in.buf[in.at:])
			in.buf, in.at = grown, 0
		}
		m, err := in.r.Read(in.buf[len(in.buf):cap(in.buf)])
		in.buf = in.buf[:len(in.buf)+m]
		in.total += int64(m)
		if err != nil {
			in.err = err
		}
	}
	if have := len(in.buf) - in.at; have < n {
		return in.buf[in.at:], in.err
	}
	return in.buf[in.at : in.at+n], nil
}

func (in *input) skip(n int) { in.at += n }

// String names the file's layout for people.
func (f *File) String() string {
	if f.ng {
		return "pcapng"
	}
	unit := "microseconds"
	if f.nano {
		unit = "nanoseconds"
	}
	return fmt.Sprintf("pcap in %s, %v", unit, f.link)
}
