package mirror

import (
	"fmt"
	"strings"

	"weir/collector/capture"
	"weir/collector/capture/packet"
	"weir/collector/capture/tcp"
)

// Summary is what packets came to.
type Summary struct {
	Packets  packet.Counts
	Segments tcp.Counts
	Streams  Streams
	Hidden   hidden // in sealed connections
	Tally    capture.Tally
	Skipped  int64 // bytes of the file that are no packets
	Damages  int64 // in how many places
}

func (s *Summary) add(m *Mirror, f *packet.File) {
	s.Packets, s.Segments, s.Streams, s.Tally = m.Packets(), m.Segments(), m.Streams, m.Tally
	s.Hidden = hidden{}
	s.Hidden.join(&m.hidden) // a copy: m goes on
	if f != nil {
		s.Skipped, s.Damages = f.Skipped, f.Damages
	}
}

// Lines says it in sentences, the main one first. detectors are those that see
// requests: sealed ones they do not.
func (s *Summary) Lines(detectors ...string) []string {
	st := &s.Streams
	out := []string{fmt.Sprintf("%d packets, %d connections (HTTP/1 %d, HTTP/2 %d, TLS %d, QUIC %d, other %d), %d exchanges",
		s.Packets.Packets, s.Segments.Connections, st.HTTP1, st.HTTP2, st.TLS, st.QUIC, st.Other, st.Exchanges)}
	var parts []string
	for r := range capture.Reason(capture.Reasons) {
		if events, bytes := s.Tally.Events[r], s.Tally.Bytes[r]; events+bytes > 0 {
			parts = append(parts, fmt.Sprintf("%v %d (%d bytes)", r, events, bytes))
		}
	}
	if s.Damages > 0 {
		parts = append(parts, fmt.Sprintf("damaged file %d (%d bytes)", s.Damages, s.Skipped))
	}
	if len(parts) > 0 {
		out = append(out, "not read: "+strings.Join(parts, ", "))
	}
	if line := s.blind(detectors); line != "" {
		out = append(out, line)
	}
	return out
}

// join adds what another worker read.
func (s *Summary) join(o *Summary) {
	p, q := &s.Packets, &o.Packets
	p.Packets, p.Bytes, p.Segments, p.Datagrams, p.Fragments = p.Packets+q.Packets, p.Bytes+q.Bytes, p.Segments+q.Segments, p.Datagrams+q.Datagrams, p.Fragments+q.Fragments
	t, u := &s.Segments, &o.Segments
	t.Segments, t.Bytes, t.Delivered, t.Held = t.Segments+u.Segments, t.Bytes+u.Bytes, t.Delivered+u.Delivered, t.Held+u.Held
	t.Connections, t.Open, t.MidStream = t.Connections+u.Connections, t.Open+u.Open, t.MidStream+u.MidStream
	a, b := &s.Streams, &o.Streams
	a.HTTP1, a.HTTP2, a.TLS, a.QUIC, a.Other = a.HTTP1+b.HTTP1, a.HTTP2+b.HTTP2, a.TLS+b.TLS, a.QUIC+b.QUIC, a.Other+b.Other
	a.Opened, a.Exchanges = a.Opened+b.Opened, a.Exchanges+b.Exchanges
	s.Hidden.join(&o.Hidden)
	for r := range capture.Reasons {
		s.Tally.Events[r] += o.Tally.Events[r]
		s.Tally.Bytes[r] += o.Tally.Bytes[r]
	}
}
