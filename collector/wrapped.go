package collector

import (
	"bytes"
	"fmt"
)

// What container engines put around the lines of a program:
//
//	docker   {"log":"203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] \"GET / HTTP/1.1\" 200 5\n","stream":"stdout","time":"2025-10-10T11:55:36Z"}
//	cri      2025-10-10T11:55:36.123456789Z stdout F 203.0.113.7 - - [...] "GET / HTTP/1.1" 200 5
//
// The line inside is read by a format of its own. A line without time has that
// of the engine. Pieces of a line that was too long for the engine are not put
// together: cri marks them with P, and they are passed over with the piece that
// ends them being no line of the format.

// wrapping is a kind of wrapper.
type wrapping uint8

const (
	wrapDocker wrapping = iota
	wrapCRI
)

func dockerFormat(opt ParseOptions) Format {
	return wrappedFormat(wrapDocker, jsonOrCombined(opt), opt)
}

func criFormat(opt ParseOptions) Format { return wrappedFormat(wrapCRI, jsonOrCombined(opt), opt) }

// jsonOrCombined is what the line inside is taken for when nobody says.
func jsonOrCombined(opt ParseOptions) Format {
	f := combinedFormat(opt)
	j := jsonFormat(nil, opt)
	text := f.New
	f.New = func() Parser { return &textOrJSON{text: text(), json: j.New()} }
	return f
}

// wrappedFormat reads what is inside as inner does, which has no Carry.
func wrappedFormat(kind wrapping, inner Format, opt ParseOptions) Format {
	name, describe := "docker", "Docker's json-file log around another; auto tells which"
	if kind == wrapCRI {
		name, describe = "cri", "a Kubernetes container log around another; auto tells which"
	}
	return Format{
		Name:     name,
		Describe: describe,
		New: func() Parser {
			return &wrappedParser{kind: kind, inner: inner.New(), clock: newClock(opt.Location)}
		},
		ClientPrefix: func([]byte) []byte { return nil }, // it may be escaped
	}
}

// nameWrapped is wrappedFormat for a kind by its name.
func nameWrapped(kind string, inner Format, opt ParseOptions) (Format, error) {
	if inner.Carry != nil {
		return Format{}, fmt.Errorf("read %s inside %s: its lines do not stand alone", inner.Name, kind)
	}
	k := wrapDocker
	if kind == "cri" {
		k = wrapCRI
	}
	f := wrappedFormat(k, inner, opt)
	f.Name += "+" + inner.Name
	return f, nil
}

type wrappedParser struct {
	kind  wrapping
	inner Parser
	clock clock
	line  []byte // the line inside, where it had escapes
}

// Parse implements Parser.
func (p *wrappedParser) Parse(f *Fields, line []byte) error {
	f.reset()
	line, r := admit(line)
	if r != "" {
		return refuse(r, line)
	}
	inside, at, ok := p.unwrap(line)
	if !ok {
		return refuse(RejectFormat, line)
	}
	if len(inside) == 0 {
		return SkipLine
	}
	if err := p.inner.Parse(f, inside); err != nil {
		return err
	}
	if !f.HasTime {
		f.Time, _, f.HasTime = p.clock.iso(at)
	}
	return nil
}

// unwrap returns the line inside and the engine's time. The line is empty for a
// piece of one.
func (p *wrappedParser) unwrap(line []byte) (inside, at []byte, ok bool) {
	if p.kind == wrapCRI {
		at, rest := word(line)
		stream, rest := word(rest)
		tag, rest := word(rest)
		if len(at) < 20 || at[10] != 'T' || string(stream) != "stdout" && string(stream) != "stderr" || len(tag) == 0 || tag[0] != 'F' && tag[0] != 'P' {
			return nil, nil, false
		}
		if tag[0] == 'P' || len(rest) == 0 {
			return nil, at, true
		}
		return rest[1:], at, true
	}
	log, escaped, at, ok := dockerMembers(line)
	if !ok {
		return nil, nil, false
	}
	if !escaped {
		return log, at, true
	}
	p.line = appendPlain(p.line[:0], log)
	return trimCR(bytes.TrimSuffix(p.line, []byte("\n"))), at, true
}

// dockerMembers returns the insides of "log" and "time".
func dockerMembers(b []byte) (log []byte, escaped bool, at []byte, ok bool) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return nil, false, nil, false
	}
	for i++; ; i++ {
		if i = skipSpace(b, i); i >= len(b) || b[i] != '"' {
			return nil, false, nil, false
		}
		end := stringEnd(b, i+1)
		if end < 0 {
			return nil, false, nil, false
		}
		key := b[i+1 : end]
		if i = skipSpace(b, end+1); i >= len(b) || b[i] != ':' {
			return nil, false, nil, false
		}
		i = skipSpace(b, i+1)
		v, quoted, next := scalar(b, i)
		if next < 0 {
			return nil, false, nil, false
		}
		switch {
		case quoted && string(key) == "log":
			log, escaped, ok = v, bytes.IndexByte(v, '\\') >= 0, true
		case quoted && string(key) == "time":
			at = v
		}
		if i = skipSpace(b, next); i >= len(b) || b[i] != ',' {
			return log, escaped, at, ok && i < len(b) && b[i] == '}'
		}
	}
}

// appendPlain appends the inside of a JSON string as it was before it was
// escaped: the line inside has escapes of its own, which must stay.
func appendPlain(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 || i+1 == len(b) {
			return append(dst, b...)
		}
		dst = append(dst, b[:i]...)
		c := b[i+1]
		n := 2
		switch c {
		case 'n':
			dst = append(dst, '\n')
		case 't':
			dst = append(dst, '\t')
		case 'r':
			dst = append(dst, '\r')
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'u':
			v, ok := hex(b[i+2:], 4)
			switch {
			case !ok:
				dst = append(dst, '\\', 'u')
			case v < 0x80: // a control character, or '<' and its like
				n, dst = 6, append(dst, byte(v))
			case v >= 0xd800 && v < 0xdc00 && len(b) >= i+12 && b[i+6] == '\\' && b[i+7] == 'u':
				n, dst = 12, appendUnescaped(dst, b[i:i+12])
			default:
				n, dst = 6, appendUnescaped(dst, b[i:i+6])
			}
		default:
			dst = append(dst, c)
		}
		b = b[i+n:]
	}
}

// detectWrapped finds the format inside a container engine's log.
func detectWrapped(lines [][]byte, opt ParseOptions) (Detection, bool) {
	for _, kind := range [...]wrapping{wrapDocker, wrapCRI} {
		p := wrappedParser{kind: kind}
		var inside [][]byte
		wrapped := 0
		for _, l := range lines {
			if in, _, ok := p.unwrap(l); ok {
				wrapped++
				inside = append(inside, bytes.Clone(in))
			}
		}
		if wrapped*2 <= len(lines) {
			continue
		}
		d := detect(inside, opt, true)
		if d.Format == nil || d.Format.Carry != nil {
			return d, false
		}
		f := wrappedFormat(kind, *d.Format, opt)
		f.Name += "+" + d.Format.Name // Named knows it, too
		d.Chosen = fmt.Sprintf("a container engine's log around %s", d.Chosen)
		d.Format = &f
		return d, true
	}
	return Detection{}, false
}
