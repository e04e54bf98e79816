package alerts

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	"weir/pipeline"
)

// Format is how an alert is written for the outside; "" is FormatNative.
type Format string

// The formats.
const (
	FormatNative Format = "native" // weir.alert/1, as in the API
	FormatOCSF   Format = "ocsf"   // OCSF Detection Finding
	FormatECS    Format = "ecs"    // Elastic Common Schema
	FormatCEF    Format = "cef"    // ArcSight's, one line of text
)

// formats lists the formats and what writes them. version is that of OCSF.
func formats() []struct {
	name   Format
	append func(dst []byte, a *pipeline.Alert, version string) []byte
} {
	return []struct {
		name   Format
		append func(dst []byte, a *pipeline.Alert, version string) []byte
	}{
		{FormatNative, func(dst []byte, a *pipeline.Alert, _ string) []byte { return AppendJSON(dst, a) }},
		{FormatOCSF, AppendOCSF},
		{FormatECS, func(dst []byte, a *pipeline.Alert, _ string) []byte { return AppendECS(dst, a) }},
		{FormatCEF, func(dst []byte, a *pipeline.Alert, _ string) []byte { return AppendCEF(dst, a) }},
	}
}

// AppendFormat appends a in format f, one line without the line's end; what f
// does not know is native. ocsfVersion is for OCSF, "" the newest.
func AppendFormat(dst []byte, a *pipeline.Alert, f Format, ocsfVersion string) []byte {
	for _, k := range formats() {
		if k.name == f {
			return k.append(dst, a, ocsfVersion)
		}
	}
	return AppendJSON(dst, a)
}

// object is a JSON object in the making; it is written with its keys sorted.
type object map[string]any

// put sets a member unless it would say nothing: "", an empty list or object.
func (o object) put(name string, v any) {
	switch x := v.(type) {
	case string:
		if x == "" {
			return
		}
	case []string:
		if len(x) == 0 {
			return
		}
	case []object:
		if len(x) == 0 {
			return
		}
	case object:
		if len(x) == 0 {
			return
		}
	case nil:
		return
	}
	o[name] = v
}

// putNumber sets a member to a number that is known.
func (o object) putNumber(name string, n *int64) {
	if n != nil {
		o[name] = *n
	}
}

// putMillis sets a member to t in milliseconds since the epoch, if t is one.
func (o object) putMillis(name string, t pipeline.Time) {
	if t >= 0 && t != pipeline.MaxTime {
		o[name] = int64(t) / 1000
	}
}

// putStamp sets a member to t in RFC 3339, if t is one.
func (o object) putStamp(name string, t pipeline.Time) {
	if s := stamp(t); s != "" {
		o[name] = s
	}
}

// stamp is t in RFC 3339, "" for no time and one that a year cannot hold.
func stamp(t pipeline.Time) string {
	if t < 0 || t.Std().Year() > 9999 {
		return ""
	}
	b, err := t.MarshalText()
	if err != nil {
		return ""
	}
	return string(b)
}

// appendObject appends o with nothing in it that a terminal would obey.
func appendObject(dst []byte, o object) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(o); err != nil {
		panic("BUG: alert is no JSON: " + err.Error())
	}
	return appendPrintable(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// changedAt is the event time of a revision.
func changedAt(a *pipeline.Alert) pipeline.Time {
	return max(a.Window.Last, a.Window.DetectedAt)
}

// ipOf returns s as an address without zone; ok is false for anything else, a
// prefix too.
func ipOf(s string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(s)
	return ip.WithZone("").Unmap(), err == nil
}

// sourceOf is the one address that the abuse of a comes from, "" where it is
// none or several. prefix is true when it stands for a network, like 2001:db8::/64.
func sourceOf(a *pipeline.Alert) (s string, prefix bool) {
	s = a.Principal.Value
	if a.Principal.Kind != pipeline.PrincipalIP {
		if s = ""; len(a.Addresses) == 1 {
			s = a.Addresses[0]
		}
	}
	return s, strings.Contains(s, "/")
}

// userOf is the account or subject that a is about, "" where there is none.
func userOf(a *pipeline.Alert) string {
	switch a.Principal.Kind {
	case pipeline.PrincipalAccount, pipeline.PrincipalSubject:
		return a.Principal.Value
	}
	return ""
}

// asNumber reads "AS64496".
func asNumber(s string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimPrefix(s, "AS"), 10, 64)
	return n, err == nil && n > 0
}

// operation is the endpoint in one line: POST /login.
func operation(e pipeline.Endpoint) string {
	return strings.TrimSpace(e.Method + " " + e.Template)
}

// link is what the console calls itself for a, "" when it has no address.
func link(a *pipeline.Alert) string {
	s, _ := a.Envelope.Links["console"].(string)
	return s
}
