package alerts

import (
	"strconv"
	"strings"

	"weir/pipeline"
)

// ArcSight's Common Event Format, revision 25:
//
//	CEF:0|weir|weir|1.0|auth.stuffing|Credential stuffing against POST /login|8|rt=1732248000000 src=203.0.113.7 …
//
// src takes IPv4 alone; an IPv6 address is c6a2.

// cefMessage is the most that msg and the custom strings hold.
const (
	cefMessage = 1023
	cefCustom  = 1023
)

// AppendCEF appends a as one line of CEF without the line's end.
func AppendCEF(dst []byte, a *pipeline.Alert) []byte {
	sev := severityOf(a.Severity)
	dst = append(dst, "CEF:0|weir|weir|"...)
	for _, s := range []string{a.Versions.Weir, a.Detector, cut(a.Title, 512), strconv.Itoa(sev.cef)} {
		dst = append(appendCEFHeader(dst, s), '|')
	}
	e := cefExtension{dst: dst, first: true}
	e.time("rt", changedAt(a))
	e.time("start", a.Window.First)
	e.time("end", a.Window.Last)
	e.text("externalId", a.ID)
	e.text("cat", family(a.Detector))
	e.text("act", a.Change.Kind)
	e.text("cnt", strconv.FormatInt(a.Outcome.Requests, 10))
	if s, prefix := sourceOf(a); prefix {
		e.text("shost", s)
	} else if ip, ok := ipOf(s); ok && ip.Is4() {
		e.text("src", ip.String())
	} else if ok {
		e.text("c6a2", ip.String())
		e.text("c6a2Label", "Source IPv6 Address")
	}
	e.text("suser", cut(userOf(a), cefMessage))
	e.text("dhost", a.Endpoint.Host)
	e.text("requestMethod", a.Endpoint.Method)
	e.text("request", cut(a.Endpoint.Template, cefMessage))
	if len(a.Context.Agents) > 0 {
		e.text("requestClientApplication", cut(a.Context.Agents[0], cefMessage))
	}
	e.text("outcome", cefOutcome(a))
	e.text("reason", cut(a.Change.Text, cefMessage))
	e.text("msg", cut(a.Reason, cefMessage))
	e.labelled("cs1", "Detector", a.Detector)
	e.labelled("cs2", "Campaign", a.Campaign)
	e.labelled("cs3", "MITRE technique", strings.Join(a.Attack, ","))
	e.labelled("cs4", "Service", a.Labels["service"])
	e.labelled("cs5", "Console", link(a))
	e.labelled("cs6", "Evidence", cefEvidence(a))
	e.labelled("cn1", "Revision", strconv.Itoa(a.Revision))
	e.labelled("cfp1", "Evidence in nats", decimal(a.Score.Nats))
	e.labelled("flexString1", "Status", statusOf(a).word)
	e.labelled("flexString2", "Next step", strings.Join(a.Next, "; "))
	return e.dst
}

func cefOutcome(a *pipeline.Alert) string {
	switch n := a.Outcome.Succeeded; {
	case n == nil:
		return ""
	case *n > 0:
		return "success"
	}
	return "failure"
}

func cefEvidence(a *pipeline.Alert) string {
	var parts []string
	for _, s := range a.Signals {
		parts = append(parts, s.Name+" "+decimal(s.Observed)+" for "+decimal(s.Expected)+": "+decimal(s.Nats)+" nats")
	}
	return strings.Join(parts, "; ")
}

// cefExtension appends the key=value part.
type cefExtension struct {
	dst   []byte
	first bool
}

func (e *cefExtension) text(key, value string) {
	if value == "" {
		return
	}
	if !e.first {
		e.dst = append(e.dst, ' ')
	}
	e.first = false
	e.dst = append(append(e.dst, key...), '=')
	e.dst = appendCEFValue(e.dst, value)
}

func (e *cefExtension) time(key string, t pipeline.Time) {
	if t >= 0 && t != pipeline.MaxTime {
		e.text(key, strconv.FormatInt(int64(t)/1000, 10))
	}
}

func (e *cefExtension) labelled(key, label, value string) {
	if value == "" {
		return
	}
	e.text(key, cut(value, cefCustom))
	e.text(key+"Label", label)
}

// appendCEFHeader escapes \ and |; a header holds no line's end.
func appendCEFHeader(dst []byte, s string) []byte {
	for _, r := range strings.ReplaceAll(s, "\r\n", "\n") {
		switch {
		case r == '\\' || r == '|':
			dst = append(dst, '\\', byte(r))
		case !strconv.IsPrint(r):
			dst = append(dst, ' ')
		default:
			dst = append(dst, string(r)...)
		}
	}
	return dst
}

// appendCEFValue escapes \ and =; a line's end is \n. What else a terminal would
// obey is a space.
func appendCEFValue(dst []byte, s string) []byte {
	for _, r := range strings.ReplaceAll(s, "\r\n", "\n") {
		switch {
		case r == '\\' || r == '=':
			dst = append(dst, '\\', byte(r))
		case r == '\n' || r == '\r':
			dst = append(dst, '\\', 'n')
		case !strconv.IsPrint(r):
			dst = append(dst, ' ')
		default:
			dst = append(dst, string(r)...)
		}
	}
	return dst
}
