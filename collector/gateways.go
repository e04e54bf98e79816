package collector

import "bytes"

// Lines that begin like the common or combined log and say more at their end:
//
//	ingress_nginx   ... "agent" 462 0.050 [default-web-80] [] 10.0.50.80:9000 59 0.049 200 529a007902362a5f51385a5fa7049884
//	traefik         ... "agent" 72 "router" "http://10.0.0.9:80" 12ms
//	aws_apigateway  ... "GET /pets HTTP/1.1" 200 3487 c6af9ac6-7b61-11e6-9a41-93e8deadbeef

func ingressFormat(opt ParseOptions) Format {
	f := combinedFormat(opt)
	f.Name, f.Describe = "ingress_nginx", "ingress-nginx of Kubernetes, its stock layout"
	f.New = func() Parser { return &ingressParser{lineParser: newLineParser(lineCombined, opt)} }
	return f
}

// ingressParser adds the request's id to what the combined log has.
type ingressParser struct{ *lineParser }

// Parse implements Parser.
func (p *ingressParser) Parse(f *Fields, line []byte) error { return parseLine(p, f, line) }

func (p *ingressParser) parse(f *Fields, line []byte) Reject {
	if r := p.lineParser.parse(f, line); r != "" {
		return r
	}
	i := bytes.LastIndexByte(line, ' ')
	id := line[i+1:]
	if len(id) != 32 || !isHexID(id) || !bytes.Contains(line, []byte(" [")) {
		return RejectFormat
	}
	f.RequestID = str(id)
	return ""
}

func traefikFormat(opt ParseOptions) Format {
	f := combinedFormat(opt)
	f.Name, f.Describe = "traefik", "Traefik, its access log in the common layout or as JSON"
	f.New = func() Parser { return &traefikParser{lineParser: newLineParser(lineCombined, opt)} }
	return f
}

// traefikParser reads the combined log that ends in a duration.
type traefikParser struct{ *lineParser }

// Parse implements Parser.
func (p *traefikParser) Parse(f *Fields, line []byte) error { return parseLine(p, f, line) }

func (p *traefikParser) parse(f *Fields, line []byte) Reject {
	if r := p.lineParser.parse(f, line); r != "" {
		return r
	}
	took, ok := bytes.CutSuffix(line[bytes.LastIndexByte(line, ' ')+1:], []byte("ms"))
	if !ok || !isDigits(took) {
		return RejectFormat
	}
	f.Duration = -1
	f.setDuration(took, 3) // a router's name may hold what looks like one
	return ""
}

func apiGatewayFormat(opt ParseOptions) Format {
	f := commonFormat(opt)
	f.Name, f.Describe = "aws_apigateway", "Amazon API Gateway, access log in the common layout or as JSON"
	f.New = func() Parser { return &apiGatewayParser{lineParser: newLineParser(lineCombined, opt)} }
	return f
}

// apiGatewayParser reads the common log with the request's id behind it.
type apiGatewayParser struct{ *lineParser }

// Parse implements Parser.
func (p *apiGatewayParser) Parse(f *Fields, line []byte) error { return parseLine(p, f, line) }

func (p *apiGatewayParser) parse(f *Fields, line []byte) Reject {
	i := bytes.LastIndexByte(line, ' ')
	id := line[i+1:]
	if i < 0 || !isHexID(id) && (len(id) < 12 || len(id) > 24 || id[len(id)-1] != '=') {
		return RejectFormat
	}
	quote := bytes.LastIndexByte(line[:i], '"')
	if bytes.Count(line[quote+1:i], []byte(" ")) != 2 { // the status and the length
		return RejectFormat
	}
	if r := p.lineParser.parse(f, line[:i]); r != "" {
		return r
	}
	f.RequestID = str(id)
	return ""
}

// isHexID tells whether b is 32 or more hexadecimal digits, with dashes perhaps.
func isHexID(b []byte) bool {
	digits := 0
	for _, c := range b {
		switch {
		case c-'0' < 10, c|0x20-'a' < 6:
			digits++
		case c != '-':
			return false
		}
	}
	return digits >= 32 && len(b) <= 36
}

// withJSON reads lines that begin with '{' by the preset of that name and all
// others by f.
func withJSON(f Format, ps []preset, name string, opt ParseOptions) Format {
	for _, p := range ps {
		if p.name != name {
			continue
		}
		j := p.format(opt)
		text := f.New
		prefix := f.ClientPrefix
		f.New = func() Parser { return &textOrJSON{text: text(), json: j.New()} }
		f.Arrays = true
		f.ClientPrefix = func(line []byte) []byte {
			if len(line) > 0 && line[0] == '{' {
				return j.ClientPrefix(line)
			}
			return prefix(line)
		}
		return f
	}
	panic("no preset is called " + name)
}

type textOrJSON struct{ text, json Parser }

// Parse implements Parser.
func (p *textOrJSON) Parse(f *Fields, line []byte) error {
	if len(line) > 0 && line[0] == '{' {
		return p.json.Parse(f, line)
	}
	return p.text.Parse(f, line)
}
