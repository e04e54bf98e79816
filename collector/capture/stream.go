// Package capture holds what the readers of packets share: the record of one
// HTTP exchange and how a parser of a byte stream is fed.
//
//	packet/   capture files and interfaces, link layers, tunnels, fragments
//	tcp/      connections: byte streams in order out of packets
//	http1/    HTTP/1.0 and 1.1
//	h2/       HTTP/2, gRPC
//	tls/      hello messages, fingerprints, records and their keys
//	quic/     Initial packets
//	mirror/   all of it together: a source of pipeline.Blocks
//
// # Parsers
//
// The first bytes of a connection select its parser (mirror does). Each parser
// is a type of its own with three methods, called from one goroutine:
//
//	Data(dir Direction, at pipeline.Time, b []byte)
//	Gap(dir Direction, at pipeline.Time, n int64)
//	Close(dir Direction, at pipeline.Time, end End)
//
// Data brings the next bytes of one direction, in order and never twice, in
// pieces as small as one byte; b is the caller's again when Data returns. Gap says
// that n bytes are missing (n < 0: nobody knows how many); a parser then counts
// what it throws away and looks for a place to begin again, or stays deaf. Close
// ends a direction and comes at most once for each; after both the parser gives
// out what it still holds and is not called again. The two directions of a
// connection are independent: a response may come before its request was seen,
// and one direction may never come at all.
//
// A parser gives out each exchange by calling the func(*Transaction) it was made
// with. The Transaction and all it points to are the parser's own: they are valid
// until that call returns.
package capture

import "weir/pipeline"

// Direction tells who sent bytes.
type Direction uint8

// The directions.
const (
	FromClient Direction = iota
	FromServer
)

// Other is the opposite direction.
func (d Direction) Other() Direction { return d ^ 1 }

// End is how a direction ended.
type End uint8

// The ends.
const (
	EndFIN   End = iota
	EndReset     // RST of either side
	EndIdle      // silent for too long, or the capture ended
	EndLimit     // given up because a cap was reached
)

// Flow is the connection that an exchange ran over.
type Flow struct {
	Client, Server         pipeline.Address
	ClientPort, ServerPort uint16
	VNI                    uint32        // of VXLAN or GENEVE, the session of ERSPAN; 0 none
	Start                  pipeline.Time // of the first packet seen
	MidStream              bool          // the capture began after the connection did
	Hello                  *Hello        // nil while the connection is not known to be sealed
}

// Hello is what the opening of a sealed connection (TLS, QUIC) says in clear.
// Values that are not known are "".
type Hello struct {
	JA3, JA4 string // of the ClientHello; JA3 as MD5 in hex
	JA3S     string // of the ServerHello
	SNI      string // lower case
	ALPN     string // what the server chose; else the client's first offer
	Version  uint16 // that was agreed: 0x0303, 0x0304; the client's best without a ServerHello
	Cipher   uint16 // that was agreed, 0 unknown
	QUIC     bool
}

// Version is a version of HTTP.
type Version uint8

// The versions.
const (
	HTTP10 Version = iota + 1
	HTTP11
	HTTP2
	HTTP3
)

func (v Version) String() string {
	return [...]string{"", "HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0"}[v]
}

// Flags are facts about an exchange beyond its text.
type Flags uint32

// The flags.
const (
	// Pipelined: sent before the response to the request before it had ended.
	Pipelined Flags = 1 << iota
	// Upgraded: the connection changed its protocol by this exchange (101, or a
	// CONNECT that was accepted).
	Upgraded
	// WebSocket: the handshake of one, over HTTP/1 or extended CONNECT.
	WebSocket
	// GRPC: the content type says so.
	GRPC
	// Continued: the server sent 100 Continue.
	Continued
	// NoRequest: only the response was seen; Request is empty.
	NoRequest
	// NoResponse: the connection or the capture ended without one.
	NoResponse
	// RequestCut and ResponseCut: the message did not come to its end, or bytes
	// in the middle are missing.
	RequestCut
	ResponseCut
	// ResetByClient and ResetByServer: the exchange was broken off.
	ResetByClient
	ResetByServer
	// AfterClose: sent when the server had closed its direction: it never saw it.
	AfterClose
	// The shapes of request smuggling: both Content-Length and
	// Transfer-Encoding, Content-Lengths that differ or are no numbers, folded
	// header lines, chunk sizes that are no numbers, a Transfer-Encoding that is
	// not plainly "chunked", a space before a colon or a bare CR or LF, in the
	// request; HTTP/2: what downgrading would make of these.
	BothLengths
	ManyLengths
	BadLength
	FoldedHeader
	BadChunk
	OddEncoding
	OddLine
)

// Smuggling is the set of flags that are shapes of request smuggling.
const Smuggling = BothLengths | ManyLengths | BadLength | FoldedHeader | BadChunk | OddEncoding | OddLine

// Transaction is one exchange: a request and its response, as far as they were
// seen. It holds secrets in clear; only the identity step sees them next.
type Transaction struct {
	*Flow
	Number  uint32 // of the exchange in its connection from 0; of HTTP/2 the stream's id
	Version Version
	Flags   Flags
	Status  uint16 // of the final response; 0 none
	// Request is the half that the client sent, Response the server's final one.
	Request, Response Message
}

// Reset empties t and keeps its memory.
func (t *Transaction) Reset() {
	t.Flow, t.Number, t.Version, t.Flags, t.Status = nil, 0, 0, 0, 0
	t.Request.Reset()
	t.Response.Reset()
}
