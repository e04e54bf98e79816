package collector

import "bytes"

// The stock access log lines of nginx and Apache:
//
//	common          203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200 2326
//	combined        ... 2326 "https://example.com/" "Mozilla/5.0"
//	vhost_combined  shop.example.com:443 203.0.113.7 - ann [...] ...
//
// combined also reads common lines and takes what follows the agent: the first
// quoted list of addresses is X-Forwarded-For (nginx's stock "main"), the first
// bare number with a point is the request time in seconds, and 12ms is one in
// milliseconds. A line that ends early is taken once it has a status and bytes.
//
// Everything left of the first plain quote is read from that quote backwards, so
// a user name cannot pass itself off as a time: servers escape the quote.

func commonFormat(opt ParseOptions) Format {
	return Format{
		Name:         "common",
		Describe:     "Apache common log: no referer and no agent",
		New:          func() Parser { return newLineParser(lineCommon, opt) },
		ClientPrefix: firstToken,
	}
}

func combinedFormat(opt ParseOptions) Format {
	return Format{
		Name:         "combined",
		Describe:     "nginx and Apache combined log, with more fields at its end perhaps",
		New:          func() Parser { return newLineParser(lineCombined, opt) },
		ClientPrefix: firstToken,
	}
}

func vhostFormat(opt ParseOptions) Format {
	return Format{
		Name:     "vhost_combined",
		Describe: "combined log with the virtual host before it",
		New:      func() Parser { return newLineParser(lineVhost, opt) },
		ClientPrefix: func(line []byte) []byte {
			_, rest, ok := bytes.Cut(line, []byte(" "))
			if !ok {
				return nil
			}
			return firstToken(rest)
		},
	}
}

func stockFormat(name, describe string, opt ParseOptions) Format {
	f := combinedFormat(opt)
	f.Name, f.Describe = name, describe
	return f
}

// firstToken returns what stands before the first space.
func firstToken(line []byte) []byte {
	if i := bytes.IndexByte(line, ' '); i > 0 {
		return line[:i]
	}
	return nil
}

type lineKind uint8

const (
	lineCombined lineKind = iota
	lineCommon
	lineVhost
)

// lineParser reads the three stock lines.
type lineParser struct {
	kind  lineKind
	clock clock
	plain bool // no line at hand holds a backslash
}

func newLineParser(kind lineKind, opt ParseOptions) *lineParser {
	return &lineParser{kind: kind, clock: newClock(opt.Location)}
}

// Parse implements Parser.
func (p *lineParser) Parse(f *Fields, line []byte) error { return parseLine(p, f, line) }

func (p *lineParser) setPlain(plain bool) { p.plain = plain }

func (p *lineParser) parse(f *Fields, line []byte) Reject {
	escaped := !p.plain && bytes.IndexByte(line, '\\') >= 0
	quote, r := p.head(f, line, escaped)
	if r != "" {
		return r
	}
	rest, r := f.requestAndStatus(line[quote+1:], escaped)
	if r != "" || len(rest) == 0 {
		return r
	}
	if p.kind == lineCommon {
		return RejectFormat
	}
	f.tail(rest[1:], escaped)
	return ""
}

// head reads up to the quote that opens the request and returns its index.
func (p *lineParser) head(f *Fields, line []byte, escaped bool) (int, Reject) {
	if p.kind != lineVhost {
		if quote := p.nobody(f, line, escaped); quote > 0 {
			return quote, ""
		}
	}
	quote := -1
	for range 8 { // a quoted user may come first
		if quote = endQuote(line, quote+1); quote < 0 {
			return 0, RejectFormat
		}
		if quote >= 4 && line[quote-1] == ' ' && line[quote-2] == ']' {
			break
		}
	}
	open := quote - clfLen - 3
	if open < 0 || line[open] != '[' {
		if open = bytes.LastIndexByte(line[:quote], '['); open < 0 || quote < open+3 {
			return 0, RejectFormat
		}
	}
	if open < 2 || line[open-1] != ' ' || line[quote-2] != ']' {
		return 0, RejectFormat
	}
	if r := p.names(f, line[:open-1], escaped); r != "" {
		return 0, r
	}
	stamp := line[open+1 : quote-2]
	if len(stamp) == 1 && stamp[0] == '-' {
		return quote, ""
	}
	t, ok := p.clock.any(stamp)
	if !ok {
		return 0, RejectTime
	}
	f.Time, f.HasTime = t, true
	return quote, ""
}

// nobody reads the head of most lines, address - - [time], and returns the
// index of the quote behind it; 0 where it is of another kind.
func (p *lineParser) nobody(f *Fields, line []byte, escaped bool) int {
	sp := bytes.IndexByte(line, ' ')
	quote := sp + len(" - - [") + clfLen + len("] ")
	if sp <= 0 || quote >= len(line) || line[0] == '"' || line[sp-1] == ',' || string(line[sp:sp+6]) != " - - [" || string(line[quote-2:quote+1]) != `] "` {
		return 0
	}
	t, ok := p.clock.any(line[sp+6 : quote-2])
	if !ok {
		return 0
	}
	f.Remote = f.text(line[:sp], escaped)
	f.Time, f.HasTime = t, true
	return quote
}

// names reads address, ident and user, with the virtual host before them.
func (p *lineParser) names(f *Fields, b []byte, escaped bool) Reject {
	if p.kind == lineVhost {
		sp := bytes.IndexByte(b, ' ')
		if sp <= 0 || b[0] == '"' || b[sp-1] == ',' || isAddress(b[:sp]) && !isAddress(firstToken(b[sp+1:])) {
			return RejectFormat
		}
		f.setHost(b[:sp], escaped)
		b = b[sp+1:]
	}
	sp := bytes.IndexByte(b, ' ')
	if sp <= 0 || b[sp-1] == ',' || b[0] == '"' {
		return RejectFormat
	}
	f.Remote = f.text(b[:sp], escaped)
	b = b[sp+1:]
	if len(b) < 3 || b[0] != '-' || b[1] != ' ' {
		sp = bytes.IndexByte(b, ' ')
		if sp <= 0 || sp+1 == len(b) || isAddress(b[:sp]) || bytes.IndexByte(b[sp+1:], ' ') >= 0 {
			return RejectFormat // vhost_combined, a list of addresses, something before them
		}
		b = b[sp+1:]
	} else {
		b = b[2:]
	}
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		b = b[1 : len(b)-1]
	}
	f.User = f.text(b, escaped)
	return ""
}

// requestAndStatus reads from behind the request's opening quote to the bytes
// and returns what follows them. Of the quotes that may close the request the
// first counts that a status follows.
func (f *Fields) requestAndStatus(b []byte, escaped bool) ([]byte, Reject) {
	r := RejectFormat
	for end, n := -1, 0; n < 64; n++ {
		if escaped {
			end = endQuote(b, end+1)
		} else if i := bytes.IndexByte(b[end+1:], '"'); i >= 0 {
			end += 1 + i
		} else {
			return nil, r
		}
		if end < 0 {
			return nil, r
		}
		after := b[end+1:]
		if len(after) < 2 || after[0] != ' ' {
			continue
		}
		status, n, ok := statusOf(after[1:])
		if !ok {
			if r == RejectFormat && after[1] != '"' {
				r = RejectStatus
			}
			continue
		}
		after = after[n+2:]
		size := after
		if i := bytes.IndexByte(after, ' '); i >= 0 {
			size = after[:i]
		}
		if len(size) == 1 && size[0] == '-' {
			f.Bytes = 0
		} else if v, ok := integer(size); ok {
			f.Bytes = v
		} else {
			continue
		}
		f.Status = status
		f.setRequest(b[:end], escaped)
		return after[len(size):], ""
	}
	return nil, r
}

// statusOf reads three digits or "-" with a space behind, and how long it is.
func statusOf(b []byte) (status uint16, n int, ok bool) {
	if len(b) >= 4 && b[3] == ' ' {
		x, y, z := b[0]-'0', b[1]-'0', b[2]-'0'
		if x <= 9 && y <= 9 && z <= 9 {
			return uint16(x)*100 + uint16(y)*10 + uint16(z), 3, true
		}
	}
	if len(b) >= 2 && b[0] == '-' && b[1] == ' ' {
		return 0, 1, true
	}
	return 0, 0, false
}

// tail reads referer, agent and whatever a site appended.
func (f *Fields) tail(b []byte, escaped bool) {
	v, _, b := nextField(b, escaped)
	f.Referer = f.text(v, escaped)
	v, _, b = nextField(b, escaped)
	f.Agent = f.text(v, escaped)
	for n := 0; len(b) > 0 && n < 64; n++ {
		var quoted bool
		v, quoted, b = nextField(b, escaped)
		if len(v) < 2 {
			continue
		}
		if quoted {
			if f.Forwarded == "" && isForwardedList(v) {
				f.Forwarded = str(v)
			}
			continue
		}
		if f.Duration < 0 {
			if bytes.IndexByte(v, '.') > 0 {
				f.setDuration(v, 6)
			} else if ms, ok := bytes.CutSuffix(v, []byte("ms")); ok {
				f.setDuration(ms, 3)
			}
		}
	}
}

// nextField splits a field off b: a quoted one ends at a quote that a space or
// the end follows, or with the line; any other at a space.
func nextField(b []byte, escaped bool) (v []byte, quoted bool, rest []byte) {
	if len(b) == 0 {
		return nil, false, nil
	}
	if b[0] != '"' {
		v, rest, _ = bytes.Cut(b, []byte(" "))
		return v, false, rest
	}
	for end := 0; ; {
		if escaped {
			end = endQuote(b, end+1)
		} else if i := bytes.IndexByte(b[end+1:], '"'); i >= 0 {
			end += 1 + i
		} else {
			end = -1
		}
		switch {
		case end < 0:
			return b[1:], true, nil
		case end+1 == len(b):
			return b[1:end], true, nil
		case b[end+1] == ' ':
			return b[1:end], true, b[end+2:]
		}
	}
}
