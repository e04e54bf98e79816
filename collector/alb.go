package collector

import "bytes"

// The access logs of Amazon's Application Load Balancers, and of the Classic
// ones, which lack the type before the time and what follows the protocol:
//
//	https 2018-07-02T22:23:00.186641Z app/lb/50dc 192.0.2.1:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 0 57 "GET https://h:443/ HTTP/1.1" "curl/7.46.0" ECDHE TLSv1.2 arn:tg "Root=1-583" "h" "arn:cert" 1 2018-07-02T22:22:48.364000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-"
//
// The time is that of the answer. Bytes are with headers.

func albFormat(opt ParseOptions) Format {
	return Format{
		Name:     "aws_alb",
		Describe: "Amazon load balancers, Application and Classic",
		New:      func() Parser { return &albParser{clock: newClock(opt.Location)} },
		ClientPrefix: func(line []byte) []byte {
			w, rest := word(line)
			if len(w) > 0 && w[0]-'0' > 9 {
				_, rest = word(rest)
			}
			_, rest = word(rest)
			w, _ = word(rest)
			return hostOf(w)
		},
	}
}

type albParser struct{ clock clock }

// Parse implements Parser.
func (p *albParser) Parse(f *Fields, line []byte) error { return parseLine(p, f, line) }

func (p *albParser) parse(f *Fields, line []byte) Reject {
	w, b := word(line)
	classic := len(w) > 0 && w[0]-'0' < 10
	if !classic {
		switch string(w) {
		case "http", "https", "h2", "grpcs", "ws", "wss":
		default:
			return RejectFormat
		}
		w, b = word(b)
	}
	t, n, timed := p.clock.iso(w)
	_, b = word(b)
	client, b := word(b)
	target, b := word(b)
	total, answered := int64(0), true
	for range 3 { // until the target had it, until it answered, until the client had it
		w, b = word(b)
		if string(w) == "-1" || string(w) == "-" {
			answered = false
			continue
		}
		v, ok := decimal(w, 6)
		if !ok {
			return RejectFormat
		}
		total += v
	}
	status, b := word(b)
	_, b = word(b)
	_, b = word(b)
	sent, b := word(b)
	if len(b) < 2 || b[0] != ' ' || b[1] != '"' {
		return RejectFormat
	}
	if !timed || n == 0 {
		return RejectTime
	}
	f.Time, f.HasTime = t, true
	f.Remote = f.text(hostOf(client), false)
	if answered && total < 1e15 {
		f.Duration = total
	}
	if string(status) != "-" {
		v, ok := integer(status)
		if !ok || v > 999 {
			return RejectStatus
		}
		f.Status = uint16(v)
	}
	if v, ok := integer(sent); ok {
		f.Bytes = v
	}
	escaped := bytes.IndexByte(line, '\\') >= 0
	request, quoted, b := nextField(b[1:], escaped)
	if !quoted {
		return RejectFormat
	}
	if len(request) > 1 && (request[0] != '-' || request[1] != ' ') { // it could not read it
		f.setRequest(request, escaped)
	}
	w, _, b = nextField(b, escaped)
	f.Agent = f.text(w, escaped)
	if classic {
		return ""
	}
	for i := 0; i < 9 && len(b) > 0; i++ {
		w, _, b = nextField(b, escaped)
		switch i {
		case 3:
			f.RequestID = f.text(w, escaped)
		case 4:
			if f.Host == "" && len(w) > 0 {
				f.setHost(w, escaped)
			}
		case 8: // the actions; the last one answered
			f.Blocked = string(target) == "-" && (string(w) == "waf" || bytes.HasSuffix(w, []byte(",waf")))
		}
	}
	return ""
}
