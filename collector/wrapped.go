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
// of the engine. Pieces of a line that was too long for the engine are put
// together, stream by stream: cri marks all but the last with P, Docker's have
// 16 KiB and no newline. See pieces.go.

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
		Carry:        kind.carry,
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
	open  [streams]pieces
}

// Parse implements Parser.
func (p *wrappedParser) Parse(f *Fields, line []byte) error {
	f.reset()
	line, r := admit(line)
	if r != "" {
		return refuse(r, line)
	}
	inside, at, pc, ok := p.unwrap(line)
	if !ok {
		return refuse(RejectFormat, line)
	}
	if pc.more {
		p.open[pc.stream].add(inside)
		return SkipLine
	}
	if inside, ok = p.open[pc.stream].end(inside); !ok {
		return RejectTooLong
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

// unwrap returns the line inside, or a piece of one, and the engine's time.
func (p *wrappedParser) unwrap(line []byte) (inside, at []byte, pc piecePlace, ok bool) {
	if p.kind == wrapCRI {
		at, rest := word(line)
		stream, rest := word(rest)
		tag, rest := word(rest)
		if len(at) < 20 || at[10] != 'T' || len(tag) == 0 || tag[0] != 'F' && tag[0] != 'P' {
			return nil, nil, pc, false
		}
		if pc.stream, ok = streamOf(stream); !ok {
			return nil, nil, pc, false
		}
		pc.more = tag[0] == 'P'
		if len(rest) == 0 {
			return nil, at, pc, true
		}
		return rest[1:], at, pc, true
	}
	log, stream, escaped, at, ok := dockerMembers(line)
	if !ok {
		return nil, nil, pc, false
	}
	pc.stream, _ = streamOf(stream)
	if escaped {
		p.line = appendPlain(p.line[:0], log)
		log = p.line
	}
	whole := bytes.HasSuffix(log, []byte("\n"))
	pc.more = !whole && len(log) >= dockerPiece
	return trimCR(bytes.TrimSuffix(log, []byte("\n"))), at, pc, true
}

// dockerMembers returns the insides of "log", "stream" and "time".
func dockerMembers(b []byte) (log, stream []byte, escaped bool, at []byte, ok bool) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return nil, nil, false, nil, false
	}
	for i++; ; i++ {
		if i = skipSpace(b, i); i >= len(b) || b[i] != '"' {
			return nil, nil, false, nil, false
		}
		end := stringEnd(b, i+1)
		if end < 0 {
			return nil, nil, false, nil, false
		}
		key := b[i+1 : end]
		if i = skipSpace(b, end+1); i >= len(b) || b[i] != ':' {
			return nil, nil, false, nil, false
		}
		i = skipSpace(b, i+1)
		v, quoted, next := scalar(b, i)
		if next < 0 {
			return nil, nil, false, nil, false
		}
		switch {
		case quoted && string(key) == "log":
			log, escaped, ok = v, bytes.IndexByte(v, '\\') >= 0, true
		case quoted && string(key) == "stream":
			stream = v
		case quoted && string(key) == "time":
			at = v
		}
		if i = skipSpace(b, next); i >= len(b) || b[i] != ',' {
			return log, stream, escaped, at, ok && i < len(b) && b[i] == '}'
		}
	}
}

// detectWrapped finds the format inside a container engine's log.
func detectWrapped(lines [][]byte, opt ParseOptions) (Detection, bool) {
	for _, kind := range [...]wrapping{wrapDocker, wrapCRI} {
		p := wrappedParser{kind: kind}
		var inside [][]byte
		wrapped := 0
		for _, l := range lines {
			in, _, pc, ok := p.unwrap(l)
			if !ok {
				continue
			}
			wrapped++
			if pc.more {
				p.open[pc.stream].add(in)
			} else if in, ok = p.open[pc.stream].end(in); ok {
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
