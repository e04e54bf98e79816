package collector

import (
	"bytes"
	"fmt"
	"strings"
)

// propose reads lines piece by piece (quoted strings, bracketed times, words)
// and says what nginx log_format would write them. It returns "" when it cannot
// tell, or when the format it found does not read most lines itself.
func propose(lines [][]byte) (format string, noClient bool) {
	shapes := map[string]int{}
	common := ""
	for _, l := range lines {
		if pieces, ok := split(l); ok {
			s := shape(pieces)
			if shapes[s]++; shapes[s] > shapes[common] {
				common = s
			}
		}
	}
	if common == "" || shapes[common]*2 < len(lines) {
		return "", false
	}
	var columns []column
	for _, l := range lines {
		pieces, ok := split(l)
		if !ok || shape(pieces) != common {
			continue
		}
		if columns == nil {
			columns = make([]column, len(pieces))
		}
		for i, p := range pieces {
			columns[i].add(p)
		}
	}
	format, noClient = name(columns)
	if format == "" || !strings.Contains(format, "$request") {
		return "", false
	}
	f, err := CompileNginx(format, ParseOptions{})
	if err != nil {
		return "", false
	}
	if n, _ := countParsed(f, lines); n*2 < len(lines) {
		return "", false
	}
	return format, noClient
}

// piece is a part of a line between spaces, with the marks around it.
type logPiece struct {
	mark byte // '"', '[' or 0
	text []byte
}

const maxPieces = 60

// split cuts a line at single spaces; quotes and brackets hold spaces.
func split(l []byte) ([]logPiece, bool) {
	var out []logPiece
	for i := 0; ; {
		if len(out) == maxPieces {
			return nil, false
		}
		p := logPiece{}
		end := len(l)
		switch {
		case i < len(l) && l[i] == '"':
			if end = endQuote(l, i+1); end < 0 {
				return nil, false
			}
			p = logPiece{'"', l[i+1 : end]}
			end++
		case i < len(l) && l[i] == '[':
			n := bytes.IndexByte(l[i:], ']')
			if n < 0 {
				return nil, false
			}
			p = logPiece{'[', l[i+1 : i+n]}
			end = i + n + 1
		default:
			if n := bytes.IndexByte(l[i:], ' '); n >= 0 {
				end = i + n
			}
			p.text = l[i:end]
			if len(p.text) == 0 {
				return nil, false
			}
		}
		out = append(out, p)
		if end == len(l) {
			return out, true
		}
		if l[end] != ' ' {
			return nil, false
		}
		if i = end + 1; i == len(l) {
			return nil, false
		}
	}
}

func shape(pieces []logPiece) string {
	b := make([]byte, len(pieces))
	for i, p := range pieces {
		b[i] = max(p.mark, '.')
	}
	return string(b)
}

// column is what was seen in one place of the lines.
type column struct {
	mark     byte
	lines    int
	absent   int // "-" or ""
	constant string
	changes  bool
	longest  int
	values   map[string]bool // of the first few

	time, iso, epoch, address, forwarded, request, method, target, status, integer, decimal, url, agent, token, host, protocol int
}

func (c *column) add(p logPiece) {
	c.mark = p.mark
	c.lines++
	v := p.text
	if c.lines == 1 {
		c.constant = string(v)
		c.values = map[string]bool{}
	} else if c.constant != string(v) {
		c.changes = true
	}
	if len(v) == 0 || string(v) == "-" {
		c.absent++
		return
	}
	c.longest = max(c.longest, len(v))
	if len(c.values) < detectLines && len(v) <= 200 {
		c.values[string(v)] = true
	}
	count := func(n *int, is bool) {
		if is {
			*n++
		}
	}
	clk := newClock(nil)
	_, isCLF := clk.clf(v)
	_, isoLen, isISO := clk.iso(v)
	n, isInt := integer(v)
	_, isNumber := decimal(v, 0)
	_, isEpoch := epoch(v)
	point := bytes.IndexByte(v, '.') >= 0
	count(&c.time, isCLF)
	count(&c.iso, isISO && isoLen == len(v))
	count(&c.epoch, isEpoch && isNumber && len(v) >= 10 && n < 1e11)
	count(&c.address, isAddress(v))
	count(&c.forwarded, isForwardedList(v))
	sp := bytes.IndexByte(v, ' ')
	count(&c.request, sp > 0 && isMethod(v[:sp]) && protocolAt(v) > 0)
	count(&c.method, isUpperWord(v) && len(v) <= 9)
	count(&c.target, v[0] == '/')
	count(&c.status, isInt && n >= 100 && n < 600)
	count(&c.integer, isInt)
	count(&c.decimal, isNumber && point)
	count(&c.url, schemeLen(v) > 0)
	count(&c.agent, bytes.HasPrefix(v, []byte("Mozilla/")) || bytes.IndexByte(v, '/') > 0 && schemeLen(v) == 0 && v[0] != '/')
	count(&c.token, isSessionToken(v))
	count(&c.protocol, bytes.HasPrefix(v, []byte("HTTP/")))
	count(&c.host, point && v[len(v)-1]|0x20-'a' < 26 && bytes.IndexByte(v, '/') < 0 && sp < 0)
}

// most tells whether nearly all values that are there are so.
func (c *column) most(n int) bool { return n > 0 && n*10 >= (c.lines-c.absent)*9 }

// isSessionToken tells whether v looks drawn at random: long, letters and
// digits mixed.
func isSessionToken(v []byte) bool {
	if len(v) < 16 || len(v) > 128 {
		return false
	}
	digits, letters := 0, 0
	for _, c := range v {
		switch {
		case c-'0' < 10:
			digits++
		case c|0x20-'a' < 26:
			letters++
		case c == '-' || c == '_' || c == '.' || c == ',' || c == '%' || c == ':':
		default:
			return false
		}
	}
	return digits >= 2 && letters >= 2
}

// name gives every column its variable.
func name(columns []column) (format string, noClient bool) {
	used := map[string]bool{}
	var out strings.Builder
	unknown := 0
	beforeTime, afterRequest := true, false
	for i := range columns {
		c := &columns[i]
		if i > 0 {
			out.WriteByte(' ')
		}
		take := func(v string) string {
			used[v] = true
			return "$" + v
		}
		free := func(v string, is bool) bool { return is && !used[v] }
		// In "address - user" a second dash is a user who is not logged in.
		user := used["remote_addr"] && !afterRequest && i > 0 && columns[i-1].constant == "-"
		var v string
		switch {
		case c.mark == 0 && !c.changes && c.constant == "-" && !user:
			v = "-"
		case free("time_local", c.most(c.time)):
			v = take("time_local")
		case free("time_iso8601", c.most(c.iso)):
			v = take("time_iso8601")
		case free("msec", c.most(c.epoch) && beforeTime && !used["time_local"] && !used["time_iso8601"]):
			v = take("msec")
		case free("request", c.most(c.request) && c.mark == '"'):
			v = take("request")
		case free("remote_addr", c.most(c.address) && c.mark == 0):
			v = take("remote_addr")
		case free("http_x_forwarded_for", c.most(c.forwarded)):
			v = take("http_x_forwarded_for")
		case free("request_method", c.most(c.method) && !used["request"]):
			v = take("request_method")
		case free("request_uri", !used["request"] && c.most(c.target+c.url) && used["request_method"]):
			v = take("request_uri")
		case free("server_protocol", c.most(c.protocol)):
			v = take("server_protocol")
		case free("status", c.most(c.status) && c.longest == 3):
			v = take("status")
		case free("body_bytes_sent", c.most(c.integer) && used["status"]):
			v = take("body_bytes_sent")
		case free("request_time", c.most(c.decimal) && used["status"]):
			v = take("request_time")
		case free("cookie_"+sessionName(c), c.most(c.token) && afterRequest && len(c.values) > 0):
			v = take("cookie_" + sessionName(c))
		case free("http_referer", afterRequest && c.mark == '"' && (c.url > 0 || c.absent == c.lines) && c.agent <= c.url):
			v = take("http_referer")
		case free("http_user_agent", afterRequest && c.mark == '"' && (c.agent > 0 || c.absent == c.lines)):
			v = take("http_user_agent")
		case free("host", c.most(c.host) && c.mark == 0):
			v = take("host")
		case free("remote_user", used["remote_addr"] && !afterRequest && c.mark == 0 && (c.changes || c.absent > 0)):
			v = take("remote_user")
		default:
			unknown++
			v = fmt.Sprintf("$unknown%d", unknown)
		}
		switch v {
		case "$time_local", "$time_iso8601", "$msec":
			beforeTime = false
		case "$request", "$request_uri":
			afterRequest = true
		}
		switch c.mark {
		case '"':
			v = `"` + v + `"`
		case '[':
			v = "[" + v + "]"
		}
		out.WriteString(v)
	}
	return out.String(), !used["remote_addr"] && !used["http_x_forwarded_for"]
}

// sessionName guesses the cookie by the look of its values.
func sessionName(c *column) string {
	upper := true
	for v := range c.values {
		upper = upper && strings.ToUpper(v) == v
	}
	switch {
	case c.longest == 26 && !upper:
		return "PHPSESSID"
	case c.longest == 32 && upper:
		return "JSESSIONID"
	}
	return "session"
}
