package capture

import (
	"unsafe"

	"github.com/zeebo/xxh3"

	"weir/pipeline"
)

// Text names the values of a message that are kept.
type Text uint8

// The values. Of a header that comes several times the first counts, except
// where said.
const (
	TextMethod Text = iota
	TextTarget      // as sent: path and query, absolute, authority or "*"
	TextHost        // Host or :authority
	TextAgent
	TextReferer
	TextForwarded    // all X-Forwarded-For, joined by ", "
	TextForwardedStd // all Forwarded, joined by ", "
	TextAuthorization
	TextAPIKey // X-Api-Key and its like
	TextCookie // all Cookie, joined by "; "
	TextRequestID
	TextContentType
	TextContentEncoding
	TextUpgrade
	TextLocation
	TextSetCookie // the first
	TextServer
	TextGRPCStatus  // grpc-status, of the header or the trailer
	TextOrigin      // Origin
	TextLanguage    // Accept-Language
	TextReason      // of an HTTP/1 status line
	TextGRPCMessage // grpc-message
	texts
)

// MaxText is the longest value that is kept, in bytes; what is longer is cut.
// The text of one message is at most MaxMessageText.
const (
	MaxText        = 8 << 10
	MaxMessageText = 32 << 10
	keptText       = 4 << 10
)

// Message is one half of an exchange. Parsers fill it with Set, Header and Body.
type Message struct {
	Start pipeline.Time // of its first byte; NoTime when the half is missing
	End   pipeline.Time // of its last

	// HeaderBytes is the size of the start line and the header block on the
	// wire; BodyWire that of the body on the wire, chunk framing and trailers
	// included; BodyBytes that of the body without framing, as the content
	// encoding left it. Frame headers of HTTP/2 count in none of them.
	HeaderBytes, BodyWire, BodyBytes int64
	// Length is what Content-Length says; -1 none.
	Length int64
	// Order is the hash of the header names in the order sent, as written, without
	// those that come and go with the single request (see orderless). Headers is
	// how many there were, pseudo headers not counted.
	Order   uint64
	Headers uint16

	// Prefix is the beginning of the body, as the content encoding left it, up to
	// the cap given to Want; empty unless it was wanted. DecodePrefix decodes it.
	Prefix []byte

	want  int
	text  []byte
	spans [texts]span
}

// span is a place in Message.text; a value of length 0 is not distinguished from
// none.
type span struct{ at, n uint32 }

// Reset empties m and keeps its memory.
func (m *Message) Reset() {
	text, prefix := m.text[:0], m.Prefix[:0]
	// Few need much, and what is kept for the next one counts in no budget.
	if cap(text) > keptText {
		text = nil
	}
	if cap(prefix) > keptText {
		prefix = nil
	}
	*m = Message{Start: pipeline.NoTime, End: pipeline.NoTime, Length: -1, text: text, Prefix: prefix}
}

// Get returns a value, "" if there is none. It is valid until the message is
// reset.
func (m *Message) Get(t Text) string {
	s := m.spans[t]
	if s.n == 0 {
		return ""
	}
	return unsafe.String(&m.text[s.at], int(s.n))
}

// Has reports whether there is a value.
func (m *Message) Has(t Text) bool { return m.spans[t].n > 0 }

// Set stores a copy of v as the value of t, in place of any other.
func (m *Message) Set(t Text, v []byte) {
	m.spans[t] = m.keep(v)
}

func (m *Message) keep(v []byte) span {
	v = v[:min(len(v), MaxText, MaxMessageText-len(m.text))]
	at := len(m.text)
	m.text = append(m.text, v...)
	return span{uint32(at), uint32(len(v))}
}

// join adds v to the value of t behind sep.
func (m *Message) join(t Text, sep string, v []byte) {
	s := m.spans[t]
	if s.n == 0 {
		m.Set(t, v)
		return
	}
	if int(s.at+s.n) != len(m.text) { // not the last one: move it
		s = m.keep(m.text[s.at : s.at+s.n])
	}
	if int(s.n)+len(sep)+len(v) > MaxText || len(m.text)+len(sep)+len(v) > MaxMessageText {
		m.spans[t] = s
		return
	}
	m.text = append(append(m.text, sep...), v...)
	m.spans[t] = span{s.at, s.n + uint32(len(sep)+len(v))}
}

// Header takes the next header of the message as received: it counts it, folds
// its name into Order and keeps its value if that is one of Text. Names of any
// case are known. Content-Length and Transfer-Encoding are the parser's business:
// it sets Length.
func (m *Message) Header(name, value []byte) {
	m.Headers++
	t, order := headerOf(name)
	if order {
		m.Order = pipeline.Mix64(m.Order, xxh3.Hash(name))
	}
	switch t {
	case texts:
	case TextForwarded, TextForwardedStd:
		m.join(t, ", ", value)
	case TextCookie:
		m.join(t, "; ", value)
	default:
		if m.spans[t].n == 0 {
			m.Set(t, value)
		}
	}
}

// Answer is Header for a response, of which fewer values are kept, and no order.
func (m *Message) Answer(name, value []byte) {
	m.Headers++
	switch len(name) {
	case len("server"), len("location"), len("set-cookie"), len("grpc-status"), len("content-type"), len("content-encoding"):
	default:
		return
	}
	if t, _ := headerOf(name); t != texts && m.spans[t].n == 0 {
		m.Set(t, value)
	}
}

// Trailer takes a header that came behind the body.
func (m *Message) Trailer(name, value []byte) {
	if t, _ := headerOf(name); t == TextGRPCStatus || t == TextGRPCMessage {
		m.Set(t, value)
	}
}

// Want says how much of the body shall be kept in Prefix: call it when the header
// is complete.
func (m *Message) Want(n int) { m.want = n }

// Body takes the next bytes of the body, without framing.
func (m *Message) Body(b []byte) {
	m.BodyBytes += int64(len(b))
	if room := m.want - len(m.Prefix); room > 0 {
		m.Prefix = append(m.Prefix, b[:min(room, len(b))]...)
	}
}

// Wanted is how much of the body may still be kept.
func (m *Message) Wanted() int { return m.want - len(m.Prefix) }

// Size is the memory that m holds beyond itself.
func (m *Message) Size() int { return cap(m.text) + cap(m.Prefix) }

// headerOf tells which value a header is, texts for none, and whether its place
// in the order says something about the client program.
func headerOf(name []byte) (Text, bool) {
	// Most are written like this, and most say nothing here.
	switch string(name) {
	case "Accept", "Accept-Encoding", "Connection", "Cache-Control", "accept", "accept-encoding", "cache-control":
		return texts, true
	case "Host":
		return TextHost, true
	case "User-Agent":
		return TextAgent, true
	case "Cookie":
		return TextCookie, false
	case "Referer":
		return TextReferer, false
	case "Content-Type":
		return TextContentType, false
	case "Accept-Language":
		return TextLanguage, true
	case "Content-Length", "Transfer-Encoding":
		return texts, false
	}
	var buf [24]byte
	if len(name) > len(buf) {
		return texts, true
	}
	low := buf[:len(name)]
	for i, c := range name {
		if c-'A' < 26 {
			c |= 0x20
		}
		low[i] = c
	}
	switch string(low) {
	case "host":
		return TextHost, true
	case "user-agent":
		return TextAgent, true
	case "referer":
		return TextReferer, false
	case "x-forwarded-for":
		return TextForwarded, true
	case "forwarded":
		return TextForwardedStd, true
	case "authorization":
		return TextAuthorization, false
	case "x-api-key", "api-key", "apikey", "x-apikey":
		return TextAPIKey, false
	case "cookie":
		return TextCookie, false
	case "x-request-id", "x-correlation-id", "x-amzn-trace-id":
		return TextRequestID, false
	case "content-type":
		return TextContentType, false
	case "content-encoding":
		return TextContentEncoding, false
	case "content-length", "transfer-encoding", "range", "if-none-match", "if-modified-since", "if-range", "expect", "origin":
		if string(low) == "origin" {
			return TextOrigin, false
		}
		return texts, false
	case "upgrade":
		return TextUpgrade, true
	case "location":
		return TextLocation, false
	case "set-cookie":
		return TextSetCookie, false
	case "server":
		return TextServer, true
	case "grpc-status":
		return TextGRPCStatus, false
	case "grpc-message":
		return TextGRPCMessage, false
	case "accept-language":
		return TextLanguage, true
	}
	return texts, true
}
