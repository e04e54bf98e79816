package capture

// Reason is why packets or bytes did not become part of an exchange. The set is
// closed: it labels metrics.
type Reason uint8

// The reasons.
const (
	// Of whole packets, by packet/ and the source.
	LossKernel    Reason = iota // dropped before weir saw it, as the kernel counts
	LossSnaplen                 // bytes that the capture cut off
	LossMalformed               // a header that contradicts its packet
	LossLink                    // a link or network layer that weir does not read
	LossProtocol                // neither TCP nor a tunnel that weir opens
	LossFragment                // fragments that never became whole, or overlap
	LossDepth                   // tunnels nested too deep
	// Of segments, by tcp/.
	LossGap         // bytes that no packet brought
	LossRetransmit  // bytes that had come before (no loss; for the sum)
	LossOverlap     // bytes that came twice and differ: the first won
	LossWindow      // bytes outside any plausible window
	LossConnections // segments of connections beyond the cap
	LossMemory      // bytes held out of order beyond the cap
	LossNotHTTP     // bytes of connections that speak something else
	// Of streams, by their parsers.
	LossResync   // bytes skipped to find a message again after a gap
	LossMessage  // bytes of messages that cannot be read
	LossUnpaired // requests or responses beyond the cap of a connection
	LossFrame    // HTTP/2 frames that cannot be read
	LossHPACK    // HTTP/2 header blocks that cannot be read, bytes lost with them
	LossRecord   // TLS records that cannot be read
	LossUpgraded // bytes behind an upgrade to another protocol
	Reasons      = iota
)

// Names of the reasons, as metrics have them.
func (r Reason) String() string {
	return [...]string{
		"kernel", "snaplen", "malformed", "link", "protocol", "fragment", "depth",
		"gap", "retransmit", "overlap", "window", "connections", "memory", "not_http",
		"resync", "message", "unpaired", "frame", "hpack", "record", "upgraded",
	}[r]
}

// Tally counts what was lost or ignored. One goroutine uses it.
type Tally struct {
	Events [Reasons]int64 // packets, segments or occurrences
	Bytes  [Reasons]int64
}

// Add counts one occurrence of n bytes.
func (t *Tally) Add(r Reason, n int64) {
	t.Events[r]++
	t.Bytes[r] += n
}

// Memory is a budget that parsers and connections of one goroutine share.
type Memory struct {
	Used, Max int64
}

// Take reserves n bytes and reports whether they were there; when not, nothing is
// reserved. A negative n gives back.
func (m *Memory) Take(n int64) bool {
	if n > 0 && m.Used+n > m.Max {
		return false
	}
	m.Used += n
	return true
}
