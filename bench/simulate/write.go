package simulate

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// Formats lists what a Writer writes.
func Formats() []string { return []string{"combined", "json"} }

// Writer writes events as lines of an access log: "combined" (nginx's, without
// identities: no account, key, session or fingerprint) or "json" (nginx's
// variable names, with them).
type Writer struct {
	w      *bufio.Writer
	json   bool
	buf    []byte
	second int64
	stamp  []byte // of that second
}

// NewWriter returns a Writer to w, which must be flushed.
func NewWriter(w io.Writer, format string) (*Writer, error) {
	if format != "combined" && format != "json" {
		return nil, fmt.Errorf("format %q: there are combined and json", clip(format))
	}
	return &Writer{w: bufio.NewWriterSize(w, 1<<18), json: format == "json"}, nil
}

// Flush writes what is buffered.
func (w *Writer) Flush() error { return w.w.Flush() }

// Write appends one line. It keeps nothing of e.
func (w *Writer) Write(e *Event) error {
	b := w.buf[:0]
	if w.json {
		b = w.jsonLine(b, e)
	} else {
		b = w.combinedLine(b, e)
	}
	w.buf = b
	_, err := w.w.Write(b)
	return err
}

func (w *Writer) combinedLine(b []byte, e *Event) []byte {
	if s := e.Time.Unix(); s != w.second || w.stamp == nil {
		w.second = s
		w.stamp = e.Time.AppendFormat(w.stamp[:0], "02/Jan/2006:15:04:05 -0700")
	}
	b = append(b, e.IP...)
	b = append(b, " - - ["...)
	b = append(b, w.stamp...)
	b = append(b, `] "`...)
	b = append(b, e.Method...)
	b = append(b, ' ')
	b = quoted(b, e.Path)
	b = append(b, ` HTTP/1.1" `...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, e.Bytes, 10)
	b = append(b, ` "`...)
	b = quoted(b, dash(e.Referer))
	b = append(b, `" "`...)
	b = quoted(b, dash(e.Agent))
	return append(b, '"', '\n')
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// quoted escapes as nginx does: quotes, backslashes and what does not print.
func quoted(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

func (w *Writer) jsonLine(b []byte, e *Event) []byte {
	b = append(b, `{"time_iso8601":"`...)
	b = e.Time.AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
	b = append(b, '"')
	str := func(name, v string) {
		if v != "" {
			b = append(b, `,"`...)
			b = append(b, name...)
			b = append(b, `":`...)
			b = jsonString(b, v)
		}
	}
	str("remote_addr", e.IP)
	str("request_method", e.Method)
	str("host", e.Host)
	str("request_uri", e.Path)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	b = append(b, `,"body_bytes_sent":`...)
	b = strconv.AppendInt(b, e.Bytes, 10)
	b = append(b, `,"request_time":`...)
	b = strconv.AppendFloat(b, e.Duration.Seconds(), 'f', 3, 64)
	str("http_user_agent", e.Agent)
	str("http_referer", e.Referer)
	str("user", e.User)
	str("api_key", e.APIKey)
	str("session", e.Session)
	str("login_user", e.LoginUser)
	str("ja4", e.JA4)
	str("country", e.Country)
	if e.ASN != 0 {
		b = append(b, `,"asn":`...)
		b = strconv.AppendUint(b, uint64(e.ASN), 10)
	}
	str("operation", e.Operation)
	if e.AppStatus {
		b = append(b, `,"error_code":`...)
		b = strconv.AppendInt(b, int64(e.AppCode), 10)
	}
	str("request_body", e.ContentBody)
	return append(b, '}', '\n')
}

func jsonString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// WriteLabels writes labels as weir reads them: one JSON object a line.
func WriteLabels(w io.Writer, labels []Label) error {
	bw := bufio.NewWriter(w)
	enc := json.NewEncoder(bw)
	for i := range labels {
		if err := enc.Encode(&labels[i]); err != nil {
			return err
		}
	}
	return bw.Flush()
}
