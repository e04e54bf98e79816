package collector

import "bytes"

// setRequest splits a request line: METHOD target PROTOCOL. The target may hold
// spaces: the protocol is what follows the last " HTTP/". What is no request
// line becomes the path, with no method, so that probes of other protocols stay
// visible.
func (f *Fields) setRequest(b []byte, escaped bool) {
	if len(b) == 0 || (len(b) == 1 && b[0] == '-') {
		return
	}
	rest := b
	end := protocolAt(b)
	if end >= 0 {
		f.Protocol = str(b[end+1:])
		rest = b[:end]
	}
	sp := 3
	if len(rest) < 4 || string(rest[:4]) != "GET " {
		sp = bytes.IndexByte(rest, ' ')
	}
	switch {
	case sp > 0 && (end >= 0 && isMethod(rest[:sp]) || isUpperWord(rest[:sp])):
		f.Method = str(rest[:sp])
		target := rest[sp+1:]
		for len(target) > 0 && target[0] == ' ' {
			target = target[1:]
		}
		f.setTarget(target, escaped)
	case isUpperWord(rest):
		f.Method = str(rest)
	default:
		f.Protocol = ""
		f.setPath(b, escaped)
	}
}

// setTarget splits a request target in any of its forms; a host in it counts
// where the log names none otherwise.
func (f *Fields) setTarget(b []byte, escaped bool) {
	if len(b) == 0 {
		return
	}
	if b[0] != '/' {
		if n := schemeLen(b); n > 0 {
			end := bytes.IndexAny(b[n:], "/?")
			if end < 0 {
				end = len(b) - n
			}
			f.setHost(b[n:n+end], escaped)
			if b = b[n+end:]; len(b) == 0 || b[0] == '?' {
				f.Path = "/"
				if len(b) > 1 {
					f.Query = f.text(b[1:], escaped)
				} else {
					f.Query = ""
				}
				return
			}
		} else if f.Method == "CONNECT" {
			f.setHost(b, escaped)
		}
	}
	f.setPath(b, escaped)
}

// setPath splits off the query.
func (f *Fields) setPath(b []byte, escaped bool) {
	if q := bytes.IndexByte(b, '?'); q >= 0 {
		f.Query = f.text(b[q+1:], escaped)
		b = b[:q]
	}
	f.Path = f.text(b, escaped)
}

// setHost takes a host as logged, lowers it and drops user, port and the root's
// dot.
func (f *Fields) setHost(b []byte, escaped bool) {
	if i := bytes.LastIndexByte(b, '@'); i >= 0 {
		b = b[i+1:]
	}
	if i := bytes.LastIndexByte(b, ':'); i >= 0 && i > bytes.LastIndexByte(b, ']') && bytes.IndexByte(b, ':') == i {
		b = b[:i]
	} else if i >= 0 && len(b) > 0 && b[0] == '[' {
		if end := bytes.IndexByte(b, ']'); end > 0 {
			b = b[:end+1]
		}
	}
	if n := len(b); n > 1 && b[n-1] == '.' {
		b = b[:n-1]
	}
	if len(b) == 0 || string(b) == "-" || string(b) == "_" {
		return
	}
	f.Host = f.lower(f.text(b, escaped))
}

// protocolAt returns the index of the space before a closing HTTP version, or
// -1.
func protocolAt(b []byte) int {
	if n := len(b); n >= 9 && b[n-9] == ' ' && string(b[n-8:n-3]) == "HTTP/" && b[n-3]-'0' < 10 && b[n-2] == '.' && b[n-1]-'0' < 10 {
		return n - 9
	}
	i := bytes.LastIndex(b, []byte(" HTTP/"))
	if i < 0 || i+6 == len(b) || len(b)-i > 12 {
		return -1
	}
	for _, c := range b[i+6:] {
		if c-'0' > 9 && c != '.' {
			return -1
		}
	}
	return i
}

// isMethod tells whether b can be a method: a short token of letters, digits,
// '-' and '_'.
func isMethod(b []byte) bool {
	if len(b) > 32 {
		return false
	}
	for _, c := range b {
		if c|0x20-'a' >= 26 && c != '-' && c != '_' && c-'0' > 9 {
			return false
		}
	}
	return b[0]|0x20-'a' < 26
}

func isUpperWord(b []byte) bool {
	if len(b) < 3 || len(b) > 32 {
		return false
	}
	for _, c := range b {
		if c-'A' >= 26 && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// schemeLen returns the length of "http://" or a like prefix, or 0.
func schemeLen(b []byte) int {
	for i, c := range b {
		switch {
		case c|0x20-'a' < 26 || i > 0 && (c-'0' < 10 || c == '+' || c == '-'):
			if i > 10 {
				return 0
			}
		case c == ':' && i > 1 && len(b) > i+2 && b[i+1] == '/' && b[i+2] == '/':
			return i + 3
		default:
			return 0
		}
	}
	return 0
}

// isForwardedList tells whether b reads like X-Forwarded-For: addresses, with
// ports or brackets perhaps, separated by commas; "unknown" may be among them.
func isForwardedList(b []byte) bool {
	seen := false
	for len(b) > 0 {
		part := b
		if i := bytes.IndexByte(b, ','); i >= 0 {
			part, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		part = bytes.TrimSpace(part)
		if isAddress(part) {
			seen = true
		} else if string(part) != "unknown" {
			return false
		}
	}
	return seen
}

// isAddress tells whether b reads like an IP address, with a port or brackets
// perhaps. It is a guess by shape and allocates nothing.
func isAddress(b []byte) bool {
	if len(b) < 2 || len(b) > 60 {
		return false
	}
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		return end > 0 && isIPv6(b[1:end]) && (end+1 == len(b) || b[end+1] == ':')
	}
	if i := bytes.IndexByte(b, ':'); i >= 0 && bytes.LastIndexByte(b, ':') == i {
		if _, ok := integer(b[i+1:]); !ok {
			return false
		}
		b = b[:i]
	} else if i >= 0 {
		return isIPv6(b)
	}
	octets := 0
	for {
		i := bytes.IndexByte(b, '.')
		part := b
		if i >= 0 {
			part = b[:i]
		}
		if v, ok := integer(part); !ok || len(part) > 3 || v > 255 {
			return false
		}
		octets++
		if i < 0 {
			return octets == 4
		}
		b = b[i+1:]
	}
}

func isIPv6(b []byte) bool {
	if i := bytes.IndexByte(b, '%'); i > 0 {
		b = b[:i]
	}
	colons := 0
	for _, c := range b {
		switch {
		case c == ':':
			colons++
		case c-'0' < 10, c|0x20-'a' < 6, c == '.':
		default:
			return false
		}
	}
	return colons >= 2 && colons <= 7 && len(b) <= 45
}

// isSessionCookie tells whether a cookie of that name carries a session by the
// convention of a common framework.
func isSessionCookie(name []byte) bool {
	var buf [32]byte
	if len(name) == 0 || len(name) > len(buf) {
		return false
	}
	low := appendLower(buf[:0], name)
	switch string(low) {
	case "phpsessid", "jsessionid", "session", "sessionid", "session_id", "_session_id", "sid", "connect.sid",
		"connect_sid", "asp.net_sessionid", "asp_net_sessionid", "laravel_session", "ci_session", "cfid", "sess",
		"sessid", "user_session", "auth_session", "__host-session", "__secure-session", "__host_session", "koa.sid",
		"koa_sid", "beaker.session.id", "rack.session", "rack_session", ".aspxauth", "_aspxauth",
		"next-auth.session-token", "__secure-next-auth.session-token":
		return true
	}
	return bytes.HasPrefix(low, []byte("aspsessionid")) || bytes.HasPrefix(low, []byte("wordpress_logged_in")) ||
		bytes.HasPrefix(low, []byte("ssess"))
}

// sessionCookie returns the value of the first session cookie in a Cookie
// header, or nil.
func sessionCookie(b []byte) []byte {
	for n := 0; n < 100 && len(b) > 0; n++ {
		part := b
		if i := bytes.IndexByte(b, ';'); i >= 0 {
			part, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		for len(part) > 0 && part[0] == ' ' {
			part = part[1:]
		}
		if i := bytes.IndexByte(part, '='); i > 0 && isSessionCookie(part[:i]) {
			return part[i+1:]
		}
	}
	return nil
}

func appendLower(dst, b []byte) []byte {
	for _, c := range b {
		if c-'A' < 26 {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
