package collector

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"weir/pipeline"
)

// admit checks what holds for every format and drops a byte order mark.
func admit(line []byte) ([]byte, Reject) {
	if len(line) > 3 && line[0] == 0xef && line[1] == 0xbb && line[2] == 0xbf {
		line = line[3:]
	}
	switch {
	case len(line) == 0:
		return line, RejectEmpty
	case len(line) > MaxLine:
		return line, RejectTooLong
	}
	return line, ""
}

// rules read a line of one format that admit let in.
type rules interface {
	parse(f *Fields, line []byte) Reject
}

// parseLine is what is the same for every format.
func parseLine(p rules, f *Fields, line []byte) error {
	f.reset()
	line, r := admit(line)
	if r == "" {
		if r = p.parse(f, line); r == "" {
			return nil
		}
	}
	return refuse(r, line)
}

// refuse makes r the error for line, or a better reason when the line is no
// text at all. It does not allocate.
func refuse(r Reject, line []byte) error {
	if r != RejectFormat && r != RejectJSON {
		return r.err()
	}
	if len(bytes.TrimSpace(line)) == 0 {
		return RejectEmpty
	}
	if len(line) > 2 && (line[0] == 0xff && line[1] == 0xfe || line[0] == 0xfe && line[1] == 0xff) || isUTF16(line) {
		return RejectEncoding
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return RejectBinary
	}
	if !utf8.Valid(line[:min(len(line), 512)]) && mostlyBinary(line) {
		return RejectEncoding
	}
	return r.err()
}

// err is r as an error; converting a constant costs nothing, a variable would
// be allocated.
func (r Reject) err() error {
	switch r {
	case RejectEmpty:
		return RejectEmpty
	case RejectTooLong:
		return RejectTooLong
	case RejectTime:
		return RejectTime
	case RejectRequest:
		return RejectRequest
	case RejectStatus:
		return RejectStatus
	case RejectJSON:
		return RejectJSON
	case RejectBinary:
		return RejectBinary
	case RejectEncoding:
		return RejectEncoding
	case SkipLine:
		return SkipLine
	}
	return RejectFormat
}

// isUTF16 tells whether every other byte of b's start is NUL, as in ASCII
// written as UTF-16.
func isUTF16(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	b = b[:min(len(b), 64)&^1]
	even, odd := 0, 0
	for i := 0; i < len(b); i += 2 {
		if b[i] == 0 {
			even++
		}
		if b[i+1] == 0 {
			odd++
		}
	}
	half := len(b) / 2
	return even == 0 && odd*10 >= half*9 || odd == 0 && even*10 >= half*9
}

func mostlyBinary(b []byte) bool {
	b = b[:min(len(b), 512)]
	odd := 0
	for _, c := range b {
		if c >= 0x80 || c < 0x20 && c != '\t' {
			odd++
		}
	}
	return odd*3 > len(b)
}

const (
	samplesPerReason = 3
	sampleBytes      = 200
)

// rejects counts the lines that no parser took and keeps the first few of each
// reason, fit to be shown. The zero value is ready; one goroutine uses it.
type rejects struct {
	reasons []rejectCount // as many as there are reasons, in order of first use
}

type rejectCount struct {
	reason  string
	lines   int64
	samples []pipeline.RejectSample
}

// add counts line, the n-th of its source (from 1). err is what Parse said.
func (r *rejects) add(err error, line []byte, n int64) {
	reason := "format"
	if known, ok := errors.AsType[Reject](err); ok {
		reason = string(known)
	}
	var c *rejectCount
	for i := range r.reasons {
		if r.reasons[i].reason == reason {
			c = &r.reasons[i]
		}
	}
	if c == nil {
		r.reasons = append(r.reasons, rejectCount{reason: reason})
		c = &r.reasons[len(r.reasons)-1]
	}
	c.lines++
	if len(c.samples) < samplesPerReason {
		c.samples = append(c.samples, pipeline.RejectSample{Reason: reason, Line: n, Text: sampleText(line)})
	}
}

// record writes what was counted into dst, on top of what is there.
func (r *rejects) record(dst *pipeline.Rejects) {
	for _, c := range r.reasons {
		if dst.Reason == nil {
			dst.Reason = make(map[string]int64, len(r.reasons))
		}
		dst.Reason[c.reason] += c.lines
		dst.Sample = append(dst.Sample, c.samples...)
	}
}

// sampleText makes a line printable: at most sampleBytes of it, without line
// noise, and without what may be secret: all that follows a '?' or a word that
// announces a credential is cut.
func sampleText(line []byte) string {
	cut := len(line)
	if i := bytes.IndexByte(line, '?'); i >= 0 {
		cut = i + 1
	}
	if i := secretAt(line[:min(cut, 4*sampleBytes)]); i >= 0 {
		cut = i
	}
	masked := cut < len(line)
	out := make([]byte, 0, sampleBytes+8)
	for b := line[:cut]; len(b) > 0; {
		c, n := utf8.DecodeRune(b)
		if c < 0x20 || c == 0x7f || c >= 0x80 && c < 0xa0 || c == utf8.RuneError && n == 1 || c >= 0x2000 && c < 0x2070 || c == 0xfeff {
			for _, x := range b[:n] {
				out = appendHex(out, x)
			}
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
		if len(out) >= sampleBytes && len(b) > 0 {
			return string(cutText(out, sampleBytes)) + "..."
		}
	}
	if masked {
		return string(cutText(out, sampleBytes)) + "***"
	}
	return string(cutText(out, sampleBytes))
}

// cutText cuts b to n bytes and does not split a character.
func cutText(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

// clip is cutText for messages.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return string(cutText([]byte(s), n)) + "..."
}

// secretAt returns where the first word ends that announces a credential, or
// -1.
func secretAt(line []byte) int {
	low := appendLower(make([]byte, 0, len(line)), line)
	first := -1
	for _, word := range [...]string{"authorization", "bearer ", "basic ", "cookie", "token", "passw", "secret", "api_key", "apikey", "api-key", "session", "%3f"} {
		if i := bytes.Index(low, []byte(word)); i >= 0 && (first < 0 || i+len(word) < first) {
			first = i + len(word)
		}
	}
	return first
}
