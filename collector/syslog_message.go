package collector

import "bytes"

// What syslog puts before a line:
//
//	<190>Nov 14 22:45:27 web1 nginx: 203.0.113.9 - - [...        RFC 3164
//	<134>Nov 14 22:45:27 haproxy[812]: 203.0.113.9:50122 [...    without a host, as HAProxy and nginx (nohostname) write it
//	<190>2026-11-14T22:45:27.125Z web1 nginx: 203.0.113.9 ...    with rsyslog's time
//	<165>1 2026-11-14T22:45:27Z web1 nginx 812 - [x@1 y="z"] ... RFC 5424

// syslogBody returns the message of a syslog datagram or frame. What has no
// header is taken as it is.
func syslogBody(b []byte) []byte {
	rest, prio := cutPriority(b)
	if prio && len(rest) > 2 && rest[0] == '1' && rest[1] == ' ' {
		if body, ok := body5424(rest[2:]); ok {
			return body
		}
	}
	after, timed := cutSyslogTime(rest)
	if !prio && !timed {
		return b
	}
	body := after
	if tagged, ok := cutTag(after); ok {
		body = tagged
	} else if timed {
		// The first word is the host, unless the message begins at once.
		if i := bytes.IndexByte(after, ' '); i > 0 && isHostName(after[:i]) {
			body = after[i+1:]
			if tagged, ok := cutTag(body); ok {
				body = tagged
			}
		}
	}
	return cutCookie(body)
}

// cutPriority takes off <N>.
func cutPriority(b []byte) (rest []byte, ok bool) {
	if len(b) < 3 || b[0] != '<' {
		return b, false
	}
	for i := 1; i < len(b) && i < 5; i++ {
		switch {
		case b[i] == '>' && i > 1:
			return b[i+1:], true
		case b[i]-'0' > 9:
			return b, false
		}
	}
	return b, false
}

// cutSyslogTime takes off "Nov 14 22:45:27 " or a stamp of RFC 3339.
func cutSyslogTime(b []byte) (rest []byte, ok bool) {
	if isSyslog(b) {
		return b[16:], true
	}
	if len(b) < 20 || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' {
		return b, false
	}
	i := bytes.IndexByte(b[:min(len(b), 40)], ' ')
	if i < 0 {
		return b, false
	}
	return b[i+1:], true
}

// cutTag takes off "nginx: " or "haproxy[812]: ".
func cutTag(b []byte) (rest []byte, ok bool) {
	for i, c := range b[:min(len(b), 64)] {
		switch {
		case c == ':' && i > 0 && (i+1 == len(b) || b[i+1] == ' '):
			return bytes.TrimLeft(b[i+1:], " "), true
		case c|0x20-'a' < 26 || c-'0' < 10 || bytes.IndexByte([]byte("-_./[]()"), c) >= 0:
		default:
			return b, false
		}
	}
	return b, false
}

func isHostName(b []byte) bool {
	for _, c := range b {
		if c|0x20-'a' >= 26 && c-'0' >= 10 && c != '-' && c != '.' && c != ':' && c != '_' {
			return false
		}
	}
	return len(b) < 256
}

// cutCookie takes off what marks JSON in syslog.
func cutCookie(b []byte) []byte {
	if rest, ok := bytes.CutPrefix(b, []byte("@cee:")); ok {
		return bytes.TrimLeft(rest, " ")
	}
	return b
}

// body5424 reads what follows the version: time, host, program, process,
// message id, data, message.
func body5424(b []byte) (body []byte, ok bool) {
	for range 5 {
		i := bytes.IndexByte(b, ' ')
		if i <= 0 {
			return nil, false
		}
		b = b[i+1:]
	}
	switch {
	case len(b) > 0 && b[0] == '-':
		b = b[1:]
	case len(b) > 0 && b[0] == '[':
		if b, ok = cutData(b); !ok {
			return nil, false
		}
	default:
		return nil, false
	}
	if len(b) > 0 && b[0] != ' ' {
		return nil, false
	}
	b = bytes.TrimPrefix(bytes.TrimPrefix(b, []byte(" ")), []byte("\xef\xbb\xbf"))
	return cutCookie(b), true
}

// cutData takes off [id name="value"]..., whose values escape '"', '\' and ']'.
func cutData(b []byte) (rest []byte, ok bool) {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c == ']' && (i+1 == len(b) || b[i+1] != '['):
			return b[i+1:], true
		}
	}
	return nil, false
}
