package collector

import (
	"bytes"
	"encoding/base64"
)

// slot is what a value of a line means. Values are stored in the order of their
// slots, so that of two that say the same the better one comes later here.
type slot uint8

const (
	slotNone slot = iota
	slotRequest
	slotMethod
	slotServerName // the virtual host's configured name
	slotHost       // the name the client asked for
	slotHostTarget // host and target in one: $host$request_uri
	slotPath       // decoded or normalised by the server
	slotQuery
	slotTarget // as received, perhaps absolute, perhaps with query
	slotProtocol
	slotStatusFirst // before internal redirects
	slotStatus
	slotBytesSent // with headers
	slotBytes
	slotBytesCLF // "-" is zero
	slotNanos
	slotMicros
	slotMillis
	slotSeconds
	slotDuration // the unit follows from how it is written
	slotRemote
	slotPeer     // the connection's other end, where slotRemote was rewritten by the server
	slotResolved // the client, resolved by the server
	slotForwarded
	slotForwardedStd
	slotAgent
	slotAgentEncoded // as in a URL: %20 for a space
	slotReferer
	slotRefererEncoded
	slotAuthorization
	slotUser
	slotSubject
	slotJWT // a token's payload
	slotAPIKey
	slotCookies
	slotSession
	slotLogin
	slotJA3
	slotJA4
	slotRequestID
	slotBody      // of the request: read for what it asks for, see body.go
	slotVariables // of a GraphQL request
	slotOperation // what the request does, where the path does not say it
	slotLocation  // where the answer redirects to
	slotAppErrors // the application's errors, or how many there are
	slotAppError  // the code of one
	slotGRPC      // status
	slotBlocked   // what a WAF or gateway did
	slotAction    // the same in a member that applications write, too
	slotEnvoyFlags
	slotWhere // what kind of event the object is
	slotTime  // last: nothing depends on it
	slots
)

// store puts b where s says. b is not absent. The result is a Reject, or "".
func (f *Fields) store(s slot, b []byte, escaped bool) Reject {
	switch s {
	case slotRequest:
		f.setRequest(b, escaped)
	case slotMethod:
		if string(b) != "<BADREQ>" { // HAProxy's, for what it cannot read
			f.Method = f.text(b, escaped)
		}
	case slotServerName, slotHost:
		f.setHost(b, escaped)
	case slotHostTarget:
		i := bytes.IndexByte(b, '/')
		if i < 0 {
			i = len(b)
		}
		f.setHost(b[:i], escaped)
		if i < len(b) {
			f.Query = ""
			f.setTarget(b[i:], escaped)
		}
	case slotPath:
		if f.Path == "" {
			f.setTarget(b, escaped)
		}
	case slotQuery:
		if b[0] == '?' {
			b = b[1:]
		}
		if f.Query == "" {
			f.Query = f.text(b, escaped)
		}
	case slotTarget:
		host, query := f.Host, f.Query
		f.Query = ""
		f.setTarget(b, escaped)
		if host != "" {
			f.Host = host
		}
		if f.Query == "" {
			f.Query = query
		}
	case slotProtocol:
		if string(b) != "<BADREQ>" {
			f.Protocol = f.text(b, escaped)
		}
	case slotStatusFirst, slotStatus:
		v, ok := integer(b)
		if !ok || v > 999 {
			if string(b) == "-1" { // HAProxy's for no answer
				return ""
			}
			return RejectStatus
		}
		f.Status = uint16(v)
	case slotBytesSent, slotBytes, slotBytesCLF:
		if v, ok := decimal(b, 0); ok {
			f.Bytes = v
		}
	case slotNanos:
		f.setDuration(b, -3)
	case slotMicros:
		f.setDuration(b, 0)
	case slotMillis:
		f.setDuration(b, 3)
	case slotSeconds:
		f.setDuration(b, 6)
	case slotDuration:
		f.setDurationText(b)
	case slotBody, slotVariables, slotOperation, slotLocation, slotAppErrors, slotAppError, slotGRPC:
		f.storeApplication(s, b, escaped)
	case slotBlocked:
		f.Blocked = f.Blocked || isBlocked(b)
	case slotEnvoyFlags:
		f.Blocked = f.Blocked || envoyBlocked(b)
	case slotAction:
		f.Blocked = f.Blocked || string(b) == "BLOCK" // as AWS WAF writes it
	case slotTime, slotWhere:
		// The owner of a clock stores times, that of a preset knows the kind.
	default:
		f.storeIdentity(s, b, escaped)
	}
	return ""
}

func (f *Fields) storeIdentity(s slot, b []byte, escaped bool) {
	v := f.text(b, escaped)
	switch s {
	case slotRemote:
		f.Remote = v
	case slotPeer:
		if f.Remote != "" && f.Remote != v {
			f.RealIP = f.Remote
		}
		f.Remote = v
	case slotResolved:
		f.RealIP = v
	case slotForwarded:
		f.Forwarded = v
	case slotForwardedStd:
		f.ForwardedStd = v
	case slotAgent:
		f.Agent = v
	case slotAgentEncoded:
		f.Agent = f.decoded(v, '%')
	case slotReferer:
		f.Referer = v
	case slotRefererEncoded:
		f.Referer = f.decoded(v, '%')
	case slotAuthorization:
		if !isRedacted(v) {
			f.Authorization = v
			f.subjectFromBearer()
		}
	case slotUser:
		if v != `""` { // Apache's empty user
			f.User = v
		}
	case slotSubject:
		f.Subject = v
	case slotJWT:
		f.subjectFrom(view(v))
	case slotAPIKey:
		if !isRedacted(v) {
			f.APIKey = v
		}
	case slotCookies:
		if c := sessionCookie(view(v)); len(c) > 0 {
			f.Session = str(c)
		}
	case slotSession:
		if !isRedacted(v) {
			f.Session = v
		}
	case slotLogin:
		f.LoginUser = v
	case slotJA3:
		f.JA3 = v
	case slotJA4:
		f.JA4 = v
	case slotRequestID:
		f.RequestID = v
	}
}

// isRedacted tells whether a proxy put a placeholder where a secret was: taken
// for a value, it would make one client of everybody.
func isRedacted(v string) bool {
	for _, p := range [...]string{"REDACTED", "[REDACTED]", "<redacted>", "redacted", "***", "*****", "********", "[FILTERED]", "(masked)"} {
		if v == p {
			return true
		}
	}
	return false
}

func (f *Fields) setDuration(b []byte, shift int) {
	if v, ok := decimal(b, shift); ok && v < 1e15 {
		f.Duration = v
	}
}

// setDurationText reads a duration whose unit is written behind it, or else is
// seconds when it has a point and milliseconds when it has none.
func (f *Fields) setDurationText(b []byte) {
	n := len(b)
	for n > 0 && b[n-1]-'0' > 9 {
		n--
	}
	shift := 0
	switch string(bytes.TrimSpace(b[n:])) {
	case "s", "sec":
		shift = 6
	case "ms":
		shift = 3
	case "us", "µs", "μs":
	case "ns":
		shift = -3
	case "":
		shift = 3
		if bytes.IndexByte(b, '.') >= 0 {
			shift = 6
		}
	default:
		return
	}
	f.setDuration(bytes.TrimSpace(b[:n]), shift)
}

// subjectFromBearer takes the subject out of a bearer JSON Web Token. Whether
// to believe it is for the identity step, which knows what the server answered.
func (f *Fields) subjectFromBearer() {
	const bearer = "bearer "
	a := f.Authorization
	if f.Subject != "" || len(a) < len(bearer) || len(a) > 16<<10 {
		return
	}
	for i := range len(bearer) {
		if a[i]|0x20 != bearer[i]|0x20 {
			return
		}
	}
	token := view(a[len(bearer):])
	dot := bytes.IndexByte(token, '.')
	if dot < 0 {
		return
	}
	payload := token[dot+1:]
	if dot = bytes.IndexByte(payload, '.'); dot < 0 {
		return
	}
	payload = payload[:dot]
	if !isBase64URL(payload) {
		return
	}
	from := len(f.Scratch)
	out, err := base64.RawURLEncoding.AppendDecode(f.Scratch, payload)
	if err != nil {
		return
	}
	f.Scratch = out
	f.subjectFrom(out[from:])
}

// subjectFrom reads "sub" of a token's payload, a JSON object.
func (f *Fields) subjectFrom(payload []byte) {
	if sub := tokenSubject(payload); len(sub) > 0 {
		f.Subject = f.text(sub, true)
	}
}

func isBase64URL(b []byte) bool {
	for _, c := range b {
		if c|0x20-'a' >= 26 && c-'0' > 9 && c != '-' && c != '_' {
			return false
		}
	}
	return len(b)%4 != 1
}
