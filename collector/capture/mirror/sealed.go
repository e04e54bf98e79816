package mirror

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"weir/collector/capture"
	"weir/collector/capture/quic"
	"weir/collector/capture/tls"
)

// Sealed is a connection whose content is sealed, as far as it can be told.
type Sealed struct {
	*capture.Flow      // its Hello may be nil: the opening was not seen
	Opened        bool // a key was there: its exchanges were given out
	QUIC          bool
	Retry         bool // the server asked for another hello; Hello has the first
	// Sides are the records of each direction; of QUIC the datagrams, without turns.
	Sides [2]tls.Features
}

// maxNames bounds the server names that are counted: clients choose them.
const maxNames = 1024

// hidden sums up what sealed connections keep from detection.
type hidden struct {
	Turns, Bytes int64            // of TLS clients: about as many requests, more of HTTP/2; both ways
	Names        map[string]int64 // connections by server name
}

// sealed takes a connection that has ended.
func (m *Mirror) sealed(s *Sealed) {
	if s.Opened {
		m.Streams.Opened++
	} else {
		m.hidden.add(s)
	}
	if m.onSealed != nil {
		m.onSealed(s)
	}
}

func (h *hidden) add(s *Sealed) {
	client, server := &s.Sides[capture.FromClient], &s.Sides[capture.FromServer]
	h.Bytes += client.Bytes + server.Bytes
	h.Turns += client.Turns
	if s.Hello == nil || s.Hello.SNI == "" {
		return
	}
	h.name(s.Hello.SNI, 1)
}

func (h *hidden) name(name string, n int64) {
	if _, known := h.Names[name]; !known && len(h.Names) >= maxNames {
		return
	}
	if h.Names == nil {
		h.Names = map[string]int64{}
	}
	h.Names[name] += n
}

// join adds what another worker saw.
func (h *hidden) join(o *hidden) {
	h.Turns, h.Bytes = h.Turns+o.Turns, h.Bytes+o.Bytes
	for _, name := range slices.Sorted(maps.Keys(o.Names)) {
		h.name(name, o.Names[name])
	}
}

// most names the servers with the most sealed connections.
func (h *hidden) most() string {
	const listed = 3
	names := slices.SortedFunc(maps.Keys(h.Names), func(a, b string) int {
		return cmp.Or(cmp.Compare(h.Names[b], h.Names[a]), strings.Compare(a, b))
	})
	var words []string
	for _, name := range names[:min(len(names), listed)] {
		words = append(words, fmt.Sprintf("%q %d", name, h.Names[name]))
	}
	if len(names) > listed {
		words = append(words, fmt.Sprintf("%d more names", len(names)-listed))
	}
	return strings.Join(words, ", ")
}

func (m *Mirror) quicDone(c *quic.Connection) {
	m.Streams.QUIC++
	s := Sealed{Flow: &c.Flow, QUIC: true}
	for dir := range s.Sides {
		s.Sides[dir] = tls.Features{Records: c.Packets[dir], Bytes: c.Bytes[dir], First: c.Start, Last: c.Last}
	}
	m.sealed(&s)
}

// blind says what sealed connections hide, and from whom.
func (s *Summary) blind(detectors []string) string {
	st := &s.Streams
	closed := st.TLS - st.Opened // what a key opened counts as what is inside
	sealed := closed + st.QUIC
	if sealed <= 0 {
		return ""
	}
	all := st.HTTP1 + st.HTTP2 + sealed
	names, who := "", ""
	if most := s.Hidden.most(); most != "" {
		names = "; " + most
	}
	if len(detectors) > 0 {
		who = " (" + strings.Join(detectors, ", ") + ")"
	}
	return fmt.Sprintf("blind: %d of %d connections (%d %%) are sealed (TLS %d, QUIC %d%s): no detector sees their requests%s, some %d in %d bytes. Capture behind whatever ends TLS, or give the keys with --keylog.",
		sealed, all, sealed*100/all, closed, st.QUIC, names, who, s.Hidden.Turns, s.Hidden.Bytes)
}
