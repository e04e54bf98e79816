package alerts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"weir/pipeline"
)

// AppendJSON appends a in its canonical JSON, one line without the line's end:
// fields in the order of the schema, lists never null, the labels service, env
// and team always there, and nothing in it that a terminal would obey.
func AppendJSON(dst []byte, a *pipeline.Alert) []byte {
	c := *a
	c.Next, c.BenignIf, c.Addresses = full(a.Next), full(a.BenignIf), full(a.Addresses)
	c.Members, c.Signals, c.Exemplars = full(a.Members), full(a.Signals), full(a.Exemplars)
	c.Affected.Accounts, c.Affected.Objects = full(a.Affected.Accounts), full(a.Affected.Objects)
	c.Context.Agents, c.Context.JA4 = full(a.Context.Agents), full(a.Context.JA4)
	c.Attack, c.OWASP, c.OAT = full(a.Attack), full(a.OWASP), full(a.OAT)
	c.Labels = labels(a.Labels)
	for _, m := range []*map[string]any{&c.Envelope.Triage, &c.Envelope.Links, &c.Envelope.Silence} {
		if *m == nil {
			*m = map[string]any{}
		}
	}
	c.Score.Nats, c.Score.PageAt, c.Score.ReviewAt = finite(c.Score.Nats), finite(c.Score.PageAt), finite(c.Score.ReviewAt)
	c.Score.Odds.OneIn, c.Quality.Sampled = finite(c.Score.Odds.OneIn), finite(c.Quality.Sampled)
	for i, s := range c.Signals {
		if s.Observed != finite(s.Observed) || s.Expected != finite(s.Expected) || s.Nats != finite(s.Nats) {
			c.Signals = copied(c.Signals)
			c.Signals[i].Observed, c.Signals[i].Expected, c.Signals[i].Nats = finite(s.Observed), finite(s.Expected), finite(s.Nats)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(&c); err != nil {
		// Only an envelope that holds what JSON cannot is left to fail.
		c.Envelope = pipeline.AlertEnvelope{
			Triage: map[string]any{"error": fmt.Sprintf("write envelope: %v", err)}, Links: map[string]any{}, Silence: map[string]any{},
		}
		b.Reset()
		if err := e.Encode(&c); err != nil {
			panic("BUG: alert is no JSON: " + err.Error())
		}
	}
	return appendPrintable(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// full returns in, or an empty list for none.
func full[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

// appendPrintable appends JSON with the characters that terminals obey or hide
// (C1 controls, bidirectional overrides, zero widths) as \uXXXX. Outside
// strings JSON has none of them.
func appendPrintable(dst, src []byte) []byte {
	for len(src) > 0 {
		r, n := utf8.DecodeRune(src)
		if r < 0x7f || strconv.IsPrint(r) {
			dst = append(dst, src[:n]...)
		} else if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, hi, lo)
		} else {
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		src = src[n:]
	}
	return dst
}
