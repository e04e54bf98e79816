package collector

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// HAProxy's HTTP log, with or without what syslog puts before it:
//
//	Feb  6 12:14:14 localhost haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1"
//
// The captured headers in braces have no names there, so they are not read; a
// log-format of one's own names them. More words before the timers and behind
// the request (option httpslog) are passed over. Lines of TCP proxies and of
// connections that failed are no requests.

func haproxyFormat(opt ParseOptions) Format {
	return Format{
		Name:     "haproxy",
		Describe: "HAProxy, option httplog or httpslog; --log-format takes your own log-format",
		New:      func() Parser { return &haproxyParser{clock: newClock(opt.Location)} },
		ClientPrefix: func(line []byte) []byte {
			open := haproxyStamp(line)
			if open < 0 {
				return nil
			}
			client := line[bytes.LastIndexByte(line[:open-1], ' ')+1 : open-1]
			return hostOf(client)
		},
	}
}

type haproxyParser struct{ clock clock }

// Parse implements Parser.
func (p *haproxyParser) Parse(f *Fields, line []byte) error { return parseLine(p, f, line) }

func (p *haproxyParser) parse(f *Fields, line []byte) Reject {
	open := haproxyStamp(line)
	if open < 0 {
		return RejectFormat
	}
	client := line[bytes.LastIndexByte(line[:open-1], ' ')+1 : open-1]
	f.Remote = f.text(hostOf(client), false)
	end := bytes.IndexByte(line[open:], ']')
	t, ok := p.clock.clfLoose(line[open+1 : open+end])
	if !ok {
		return RejectTime
	}
	f.Time, f.HasTime = t, true
	b := line[open+end+1:]
	var w []byte
	timers := false
	for range 8 { // frontend, backend/server, perhaps more, the timers
		if w, b = word(b); haproxyTimers(w) {
			timers = true
			break
		}
	}
	if !timers {
		return RejectFormat
	}
	total := w[bytes.LastIndexByte(w, '/')+1:]
	f.setDuration(bytes.TrimPrefix(total, []byte("+")), 3)
	w, b = word(b)
	switch status, ok := integer(bytes.TrimPrefix(w, []byte("-"))); {
	case !ok && bytes.IndexByte(w, '/') >= 0: // the connections of a TCP proxy's line
		return RejectFormat
	case !ok || status > 999:
		return RejectStatus
	case w[0] != '-':
		f.Status = uint16(status)
	}
	w, b = word(b)
	v, ok := integer(bytes.TrimPrefix(w, []byte("+")))
	if !ok {
		return RejectFormat
	}
	f.Bytes = v // with headers
	_, b = word(b)
	_, b = word(b)
	state, b := word(b)
	if len(state) < 2 || len(state) > 4 {
		return RejectFormat
	}
	quote := bytes.IndexByte(b, '"')
	if quote < 0 {
		return RejectFormat
	}
	request := b[quote+1:]
	if end := bytes.IndexByte(request, '"'); end >= 0 { // a quote inside is written #22
		request = request[:end]
	}
	if string(request) != "<BADREQ>" {
		f.setRequest(request, false)
		f.undoHash()
	}
	f.Blocked = haproxyBlocked(state, f.Status)
	return ""
}

// undoHash puts back the bytes that HAProxy writes as #22.
func (f *Fields) undoHash() {
	f.Path = f.decoded(f.Path, '#')
	f.Query = f.decoded(f.Query, '#')
}

// haproxyBlocked tells by the termination state whether a rule of the proxy
// stopped the request; 400 is bad syntax, 401 and 407 ask for a password.
func haproxyBlocked(state []byte, status uint16) bool {
	if len(state) < 2 || state[0] != 'P' {
		return false
	}
	return state[1] == 'T' || state[1] == 'R' && status != 400 && status != 401 && status != 407
}

// haproxyStamp returns the index of the '[' before the time, or -1.
func haproxyStamp(line []byte) int {
	for from := 0; from < min(len(line), 512); {
		i := bytes.IndexByte(line[from:], '[')
		if i < 0 {
			return -1
		}
		if i += from; i > 1 && line[i-1] == ' ' && len(line) > i+25 && line[i+3] == '/' && line[i+7] == '/' && line[i+12] == ':' && bytes.IndexByte(line[i:min(len(line), i+40)], ']') > 0 {
			return i
		}
		from = i + 1
	}
	return -1
}

// haproxyTimers: five numbers between slashes; -1 for one that was not reached.
func haproxyTimers(w []byte) bool {
	slashes := 0
	for _, c := range w {
		switch {
		case c == '/':
			slashes++
		case c-'0' > 9 && c != '-' && c != '+':
			return false
		}
	}
	return slashes == 4
}

// word splits a word off b, and the spaces before it.
func word(b []byte) (w, rest []byte) {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i:]
	}
	return b, nil
}

// hostOf drops the port behind the last colon, also of an IPv6 address without
// brackets.
func hostOf(b []byte) []byte {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 {
		return b
	}
	if _, ok := integer(b[i+1:]); !ok {
		return b
	}
	if b = b[:i]; len(b) > 2 && b[0] == '[' && b[len(b)-1] == ']' {
		b = b[1 : len(b)-1]
	}
	return b
}

// CompileHAProxy compiles an HAProxy log-format: its text alone, or as
// haproxy.cfg has it, with the keyword, quotes or escaped spaces. What HAProxy
// may leave out with the space before it (%hr and %hs without captures) may be
// missing in lines. Errors name the column.
func CompileHAProxy(logFormat string, opt ParseOptions) (Format, error) {
	ls, err := compileHAProxy(logFormat)
	if err != nil {
		return Format{}, fmt.Errorf("compile HAProxy log-format %q: %w", clip(strings.TrimSpace(logFormat), 120), err)
	}
	return layoutsFormat("haproxy", "HAProxy log-format", ls, opt), nil
}

func compileHAProxy(text string) ([]*layout, error) {
	if len(text) > maxFormat {
		return nil, fmt.Errorf("longer than %d bytes", maxFormat)
	}
	text = unquoteHAProxy(text)
	var out []*layout
	for _, without := range [...]string{"", "%hr", "%hs", "%hr %hs"} {
		s, all := text, true
		for v := range strings.FieldsSeq(without) {
			all = all && strings.Contains(s, " "+v)
			s = strings.Replace(s, " "+v, "", 1)
		}
		if !all {
			continue
		}
		l, err := haproxyLayout(s)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// unquoteHAProxy takes off what haproxy.cfg puts around a format.
func unquoteHAProxy(text string) string {
	s := strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(s, "log-format "); ok {
		s = strings.TrimSpace(rest)
	}
	if n := len(s); n >= 2 && s[0] == '"' && s[n-1] == '"' {
		return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(s[1 : n-1])
	} else if n >= 2 && s[0] == '\'' && s[n-1] == '\'' && !strings.Contains(s[1:n-1], "'") {
		return s[1 : n-1]
	}
	return strings.NewReplacer(`\ `, " ", `\"`, `"`, `\\`, `\`).Replace(s)
}

func haproxyLayout(text string) (*layout, error) {
	b := &builder{}
	b.raw = true // HAProxy writes quotes as #22
	for i := 0; i < len(text); {
		if text[i] != '%' {
			b.literal(text[i])
			i++
			continue
		}
		name, quoted, n := haproxyName(text[i:])
		switch {
		case n == 0:
			b.errs = append(b.errs, fmt.Errorf("column %d: a %% with no variable's name behind it", i+1))
			return nil, errors.Join(b.errs...)
		case name == "%":
			b.literal('%')
		default:
			if quoted {
				b.literal('"')
			}
			o := haproxyValue(name)
			switch o.slot {
			case slotRequest, slotTarget, slotPath, slotQuery:
				b.hash = b.hash || name[0] != '[' // samples are written as they are
			}
			b.value(o, text[i:i+n], i+1)
			if quoted {
				b.literal('"')
			}
		}
		i += n
	}
	return b.finish()
}

// haproxyName reads %name, %{+Q}name, %[expression] or %(name)… at the start of
// s; quoted is what +Q makes of the value.
func haproxyName(s string) (name string, quoted bool, n int) {
	n = 1
	if strings.HasPrefix(s, "%%") {
		return "%", false, 2
	}
	if n < len(s) && s[n] == '(' {
		end := strings.IndexByte(s, ')')
		if end < 0 {
			return "", false, 0
		}
		n = end + 1
	}
	if n < len(s) && s[n] == '{' {
		end := strings.IndexByte(s[n:], '}')
		if end < 0 {
			return "", false, 0
		}
		quoted = strings.Contains(s[n:n+end], "Q")
		n += end + 1
	}
	if n < len(s) && s[n] == '[' {
		end := strings.IndexByte(s[n:], ']')
		if end < 0 {
			return "", false, 0
		}
		return s[n : n+end+1], quoted, n + end + 1
	}
	from := n
	for n < len(s) && (s[n]|0x20-'a' < 26) {
		n++
	}
	if n == from {
		return "", false, 0
	}
	return s[from:n], quoted, n
}

// haproxyValue is what a variable or sample holds.
func haproxyValue(name string) op {
	switch name {
	case "t", "tr", "trg", "tl", "Tl":
		return op{slot: slotTime, kind: kindTime, stamp: stampLoose}
	case "T", "trl":
		return op{slot: slotTime, kind: kindTime, stamp: stampCLF}
	case "Ts":
		return op{slot: slotTime, kind: kindTime, stamp: stampSeconds}
	case "ms":
		return op{slot: slotTime, kind: kindTime, stamp: stampFraction(3)}
	case "ci", "[src]":
		return op{slot: slotRemote} // an IPv6 address has colons of its own
	case "r", "[txn.request_line]":
		return op{slot: slotRequest}
	case "HM", "[method]", "[capture.req.method]":
		return op{slot: slotMethod, kind: kindToken}
	case "HU", "[url]", "[capture.req.uri]", "[pathq]", "HPO":
		return op{slot: slotTarget}
	case "HP", "[path]":
		return op{slot: slotPath}
	case "HQ", "[query]":
		return op{slot: slotQuery}
	case "HV", "[capture.req.ver]", "[req.ver]":
		return op{slot: slotProtocol}
	case "ST", "[status]", "[txn.status]":
		return op{slot: slotStatus, kind: kindToken} // -1 without an answer
	case "B":
		return op{slot: slotBytesSent, kind: kindToken}
	case "Ta", "Tt":
		return op{slot: slotMillis, kind: kindToken}
	case "U", "cp", "fp", "bi", "bp", "ac", "fc", "bc", "sc", "sq", "bq", "lc", "rt", "pid":
		return op{kind: kindNumber}
	case "ft", "f", "b", "s", "tsc", "ts", "rc", "TR", "Tw", "Tc", "Tr", "Td", "Th", "Ti", "Tq", "CC", "CS", "fi", "si", "sp", "H", "sslc", "sslv", "o":
		return op{kind: kindToken}
	case "[res.hdr(location)]", "[res.hdr(x-log-user)]", "[res.hdr(x-log-login)]":
		return op{slot: answerSlot(name[len("[res.hdr(") : len(name)-2])}
	case "ID", "[unique-id]":
		return op{slot: slotRequestID, kind: kindToken}
	case "[http_auth_user]":
		return op{slot: slotUser}
	case "[ssl_fc_sni]":
		return op{slot: slotServerName, kind: kindToken}
	}
	if !strings.HasPrefix(name, "[") {
		return op{}
	}
	// Samples: req.hdr(x), capture.req.hdr and variables named for what they hold.
	inner, _, _ := strings.Cut(strings.Trim(name, "[]"), ",")
	for _, fetch := range [...]string{"req.hdr(", "req.fhdr(", "hdr(", "fhdr(", "req.hdr_ip(", "var(txn.", "var(sess.", "var(req.", "req.cook(", "cook("} {
		arg, ok := strings.CutPrefix(inner, fetch)
		if !ok {
			continue
		}
		arg = strings.ToLower(strings.TrimSuffix(arg, ")"))
		if strings.Contains(fetch, "cook") {
			if isSessionCookie([]byte(arg)) {
				return op{slot: slotSession}
			}
			return op{}
		}
		if s := headerSlot(strings.ReplaceAll(arg, "_", "-")); s != slotNone {
			return op{slot: s}
		}
		if s, ok := jsonField(arg); ok && strings.HasPrefix(fetch, "var") {
			return op{slot: s}
		}
	}
	return op{}
}
