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
	Tally    capture.Tally
	Skipped  int64 // bytes of the file that are no packets
	Damages  int64 // in how many places
}

func (s *Summary) add(m *Mirror, f *packet.File) {
	s.Packets, s.Segments, s.Streams, s.Tally = m.Packets(), m.Segments(), m.Streams, m.Tally
	if f != nil {
		s.Skipped, s.Damages = f.Skipped, f.Damages
	}
}

// Lines says it in sentences, the main one first.
func (s *Summary) Lines() []string {
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
	if line := s.blind(); line != "" {
		out = append(out, line)
	}
	return out
}

// blind says what sealed connections hide.
func (s *Summary) blind() string {
	st := &s.Streams
	sealed := st.TLS - st.Opened + st.QUIC
	all := st.HTTP1 + st.HTTP2 + st.TLS + st.QUIC
	if sealed == 0 {
		return ""
	}
	return fmt.Sprintf("blind: %d of %d connections (%d %%) are sealed (TLS %d, QUIC %d): their requests are seen by no detector. Capture behind whatever ends TLS, or give the keys.",
		sealed, all, sealed*100/all, st.TLS-st.Opened, st.QUIC)
}
