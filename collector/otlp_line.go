package collector

import (
	"encoding/base64"
	encoded "encoding/hex"
	"math"
	"strconv"
)

// otlpLines turns the records of an export into lines: those with HTTP
// attributes into objects of the otel format, other logs into their bodies.
// Text goes to where it is needed at once; nothing refers to the export later.
type otlpLines struct {
	requests []byte // one object a line
	text     []byte // bodies, one a line
	limit    int    // of both
	skipped  int64  // spans that are no server's HTTP request

	begun int  // where the record's line begins in requests
	attrs int  // of the record so far
	http  bool // one of them is of HTTP
}

const (
	maxOTLPAttributes = 128 // of a record that are read; collectors allow as many by default
	maxOTLPDepth      = 8   // of objects in a log's body
	otlpServer        = 2   // SPAN_KIND_SERVER
)

// begin starts a record.
func (l *otlpLines) begin() {
	l.begun, l.attrs, l.http = len(l.requests), 0, false
	l.requests = append(l.requests, `{"attributes":{`...)
}

// name starts an attribute; with ok false it is left out.
func (l *otlpLines) name(key []byte) (ok bool) {
	if len(key) == 0 || len(key) > jsonKey || l.attrs == maxOTLPAttributes {
		return false
	}
	switch string(key) {
	case "http.request.method", "http.method", "url.path", "url.full", "http.target", "http.url":
		l.http = true
	}
	if l.attrs++; l.attrs > 1 {
		l.requests = append(l.requests, ',')
	}
	l.requests = append(appendJSONText(l.requests, key), ':')
	return true
}

// undo takes the record back.
func (l *otlpLines) undo() { l.requests = l.requests[:l.begun] }

// endSpan ends a span's line.
func (l *otlpLines) endSpan(kind, start, end uint64, trace []byte) error {
	if kind != otlpServer || !l.http {
		l.undo()
		l.skipped++
		return nil
	}
	l.requests = append(l.requests, '}')
	if start > 0 {
		l.requests = appendNanos(l.requests, `,"startTimeUnixNano":"`, start)
	}
	if end >= start && start > 0 {
		l.requests = strconv.AppendUint(append(l.requests, `,"durationNano":`...), end-start, 10)
	}
	return l.end(trace)
}

// endLog ends the line of a log record that has HTTP attributes.
func (l *otlpLines) endLog(at, observed uint64, trace []byte) error {
	l.requests = append(l.requests, '}')
	if at == 0 {
		at = observed
	}
	if at > 0 {
		l.requests = appendNanos(l.requests, `,"timeUnixNano":"`, at)
	}
	return l.end(trace)
}

func appendNanos(dst []byte, name string, at uint64) []byte {
	return append(strconv.AppendUint(append(dst, name...), at, 10), '"')
}

// end ends the line; trace is the trace's id in hex.
func (l *otlpLines) end(trace []byte) error {
	if len(trace) > 0 && len(trace) <= 64 {
		l.requests = appendJSONText(append(l.requests, `,"traceId":`...), trace)
	}
	l.requests = append(l.requests, '}', '\n')
	return l.check()
}

// endText ends the line in text, which begins at from: a body has one.
func (l *otlpLines) endText(from int) error {
	for len(l.text) > from && (l.text[len(l.text)-1] == '\n' || l.text[len(l.text)-1] == '\r') {
		l.text = l.text[:len(l.text)-1]
	}
	for i := from; i < len(l.text); i++ {
		if l.text[i] == '\n' {
			l.text[i] = ' '
		}
	}
	l.text = append(l.text, '\n')
	return l.check()
}

// check keeps the lines of an export within memory: escapes can make them
// longer than what was sent.
func (l *otlpLines) check() error {
	if len(l.requests)+len(l.text) > l.limit {
		return errTooLarge
	}
	return nil
}

// traceHex is the id of a trace as people write it.
func traceHex(dst, id []byte) []byte {
	if len(id) != 16 {
		return dst
	}
	return encoded.AppendEncode(dst, id)
}

// appendJSONText appends s as a JSON string. Bytes that are no UTF-8 stay.
func appendJSONText(dst, s []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// appendJSONDouble appends v; what JSON has no number for is null.
func appendJSONDouble(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}

// appendJSONBytes appends v as OTLP's JSON does.
func appendJSONBytes(dst, v []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), v), '"')
}
