package collector

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// JSON lines: one object a line, as nginx (escape=json), Caddy, Traefik, Envoy,
// Cloudflare, OpenTelemetry and ECS shippers write them:
//
//	{"time":"2026-11-22T02:57:43.389Z","remote_addr":"192.0.2.194","request_method":"GET","request_uri":"/a?b=1","status":200}
//
// Members are found by their common names (jsonnames.go) in any case, nested or
// with dots. The scanner reads a line once, and as the members of a log come in
// the same order line after line, it guesses each name from the last line before
// it looks one up. It takes more than JSON: \xHH in strings and values left
// empty or "-", which nginx writes when log_format imitates JSON.

// CompileJSON returns the JSON format with the members that opt.Map names put
// before the common ones. The fields of the map are: time remote forwarded
// forwarded_std real_ip method host path query request protocol agent referer
// status bytes duration (or duration_ms, _us, _ns) user subject api_key session
// cookies login_user authorization ja3 ja4 request_id blocked operation request_body
// graphql_variables location grpc_status graphql_errors error_code.
func CompileJSON(opt ParseOptions) (Format, error) {
	root := jsonRoot()
	fields := make([]string, 0, len(opt.Map))
	for field := range opt.Map {
		fields = append(fields, field)
	}
	slices.Sort(fields)
	var errs []error
	for _, field := range fields {
		s, ok := jsonField(field)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("map field %q: weir has no such field; its fields are %s", field, jsonFieldNames()))
		case opt.Map[field] == "" || len(opt.Map[field]) > 128 || strings.Count(opt.Map[field], ".") > jsonDepth-2:
			errs = append(errs, fmt.Errorf("map field %q: %q is no member's name", field, clip(opt.Map[field], 40)))
		default:
			root.add(opt.Map[field], s, 0)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Format{}, err
	}
	return jsonFormat(root, opt), nil
}

// maxElements is how many elements of an array of names and values are read.
const maxElements = 64

// jsonFormat returns the format; root is nil for the common names.
func jsonFormat(root *jsonNode, opt ParseOptions) Format {
	if root == nil {
		root = jsonRoot()
	}
	return Format{
		Name:     "json",
		Describe: "one JSON object a line; members by their common names or a map",
		Arrays:   true,
		New: func() Parser {
			return &jsonParser{root: root, clock: newClock(opt.Location)}
		},
		ClientPrefix: func(line []byte) []byte {
			return jsonClient(root, line)
		},
	}
}

// jsonClient finds the member that names the client.
func jsonClient(root *jsonNode, line []byte) []byte {
	p := jsonParser{root: root, stop: slotRemote}
	if i := skipSpace(line, 0); i < len(line) && line[i] == '{' && len(line) <= MaxLine {
		p.object(line, i+1, root, 0)
	}
	return p.vals[slotRemote].b
}

// jsonDepth is how deep weir looks for members; what lies deeper is skipped.
const jsonDepth = 8

// jsonMemos is how many members of a line are guessed, and jsonGuesses how many
// guesses there are for each: logs of one program have lines of several kinds.
const (
	jsonMemos   = 256
	jsonGuesses = 2
)

// jsonKey is the longest name of a member that means anything.
const jsonKey = 128

type jsonParser struct {
	root  *jsonNode
	where []string // of a preset: the values of slotWhere that are requests
	clock clock
	stop  slot // end the scan when this one is found
	memos [][jsonGuesses]jsonMemo
	n     int    // members seen in this line
	seen  uint64 // slots found in this line
	vals  [slots]jsonValue
}

type jsonMemo struct {
	key      []byte
	in, what *jsonNode
}

// jsonValue is a value found: the inside of a string, or a number.
type jsonValue struct {
	b       []byte
	escaped bool // from a string, where escapes count
	rank    uint8
	slot    slot // how to read it; differs from its place for durations
}

// Parse implements Parser.
func (p *jsonParser) Parse(f *Fields, line []byte) error { return parseLine(p, f, line) }

func (p *jsonParser) parse(f *Fields, line []byte) Reject {
	p.n, p.seen = 0, 0
	i := skipSpace(line, 0)
	if i >= len(line) || line[i] != '{' {
		return RejectJSON
	}
	if i = p.object(line, i+1, p.root, 0); i < 0 {
		return RejectJSON
	}
	if i = skipSpace(line, i); i < len(line) && line[i] == ',' {
		i = skipSpace(line, i+1) // an element of an array written line by line
	}
	if i < len(line) {
		return RejectJSON
	}
	return p.fill(f)
}

// fill stores what was found, in the order of the slots.
func (p *jsonParser) fill(f *Fields) Reject {
	reject := Reject("")
	if p.where != nil && (p.seen>>slotWhere&1 == 0 || !isOneOf(p.vals[slotWhere].b, p.where)) {
		return SkipLine
	}
	for m := p.seen; m != 0; m &= m - 1 {
		s := slot(bits.TrailingZeros64(m))
		v := p.vals[s]
		switch s {
		case slotTime:
			t, ok := p.clock.any(v.b)
			if !ok {
				reject = RejectTime
			}
			f.Time, f.HasTime = t, ok
			continue
		case slotRequest:
			if bytes.IndexByte(v.b, ' ') < 0 && (v.b[0] == '/' || schemeLen(v.b) > 0) {
				f.setTarget(v.b, v.escaped)
				continue
			}
		case slotStatus, slotStatusFirst:
			if len(v.b) > 3 && (v.b[3] == ' ' || v.b[3] == '.') {
				v.b = v.b[:3]
			}
		case slotForwarded:
			if !v.escaped && v.b[0] == '[' {
				f.Forwarded = f.joined(v.b)
				continue
			}
		}
		if r := f.store(v.slot, v.b, v.escaped); r != "" {
			reject = r
		}
	}
	if f.Method == "" && f.Path == "" && (f.Status == 0 || reject == RejectStatus) {
		return RejectRequest
	}
	return reject
}

// joined reads an array of strings, which object has checked, as one list.
func (f *Fields) joined(b []byte) string {
	from := len(f.Scratch)
	for i := 1; i < len(b); {
		if b[i] != '"' {
			i++
			continue
		}
		end := endQuote(b, i+1)
		if end < 0 {
			break
		}
		if len(f.Scratch) > from {
			f.Scratch = append(f.Scratch, ',', ' ')
		}
		f.Scratch = appendUnescaped(f.Scratch, b[i+1:end])
		i = end + 1
	}
	return str(f.Scratch[from:len(f.Scratch):len(f.Scratch)])
}

// object reads the members of an object that node knows, from behind its '{',
// and returns the index behind its '}', or -1.
func (p *jsonParser) object(b []byte, i int, node *jsonNode, depth int) int {
	if i = skipSpace(b, i); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return -1
		}
		var what *jsonNode
		if what, i = p.key(b, i+1, node); i < 0 {
			return -1
		}
		if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
			return -1
		}
		if i = p.value(b, skipSpace(b, i+1), what, depth); i < 0 {
			return -1
		}
		if i = skipSpace(b, i); i >= len(b) {
			return -1
		}
		if b[i] == '}' {
			return i + 1
		}
		if b[i] != ',' {
			return -1
		}
		i = skipSpace(b, i+1)
	}
}

// key reads a name from behind its opening quote and returns what it means, nil
// for nothing, and the index behind its closing quote.
func (p *jsonParser) key(b []byte, i int, node *jsonNode) (*jsonNode, int) {
	n := p.n
	p.n++
	if n < len(p.memos) {
		m := &p.memos[n][0]
		if end := i + len(m.key); m.in == node && end < len(b) && b[end] == '"' && string(b[i:end]) == string(m.key) {
			return m.what, end + 1
		}
		m = &p.memos[n][1]
		if end := i + len(m.key); m.in == node && end < len(b) && b[end] == '"' && string(b[i:end]) == string(m.key) {
			return m.what, end + 1
		}
	}
	end := stringEnd(b, i)
	if end < 0 {
		return nil, -1
	}
	key := b[i:end]
	if len(key) > jsonKey || bytes.IndexByte(key, '\\') >= 0 {
		return nil, end + 1
	}
	return p.learn(n, key, node), end + 1
}

// named is key for a name that stands in a value: it is found already.
func (p *jsonParser) named(name []byte, node *jsonNode) *jsonNode {
	n := p.n
	p.n++
	if n < len(p.memos) {
		for k := range p.memos[n] {
			if m := &p.memos[n][k]; m.in == node && string(name) == string(m.key) {
				return m.what
			}
		}
	}
	if len(name) == 0 || len(name) > jsonKey {
		return nil
	}
	return p.learn(n, name, node)
}

// learn looks key up and remembers it as the n-th of a line.
func (p *jsonParser) learn(n int, key []byte, node *jsonNode) *jsonNode {
	var buf [jsonKey]byte
	what := node.kids[string(appendLower(buf[:0], key))]
	if what != nil && what.upper != nil && key[0]-'A' < 26 {
		what = what.upper
	}
	if p.stop == slotNone && n < jsonMemos {
		for len(p.memos) <= n {
			p.memos = append(p.memos, [jsonGuesses]jsonMemo{})
		}
		m := &p.memos[n]
		m[0], m[1] = m[1], m[0]
		m[0].key, m[0].in, m[0].what = append(m[0].key[:0], key...), node, what
	}
	return what
}

// value reads one value at i and returns the index behind it, or -1.
func (p *jsonParser) value(b []byte, i int, what *jsonNode, depth int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		end := stringEnd(b, i+1)
		if end >= 0 && what != nil && what.slot != slotNone {
			if p.keep(what, b[i+1:end], true) {
				return -1
			}
		}
		if end < 0 {
			return -1
		}
		return end + 1
	case '{':
		if what != nil && what.whole() {
			return p.container(what, b, i)
		}
		if what != nil && what.kids != nil && depth+1 < jsonDepth {
			return p.object(b, i+1, what, depth+1)
		}
		return skipContainer(b, i)
	case '[':
		if what != nil && what.whole() {
			return p.container(what, b, i)
		}
		if what != nil && what.pairs {
			return p.pairs(b, i+1, what)
		}
		end := skipContainer(b, i)
		if end >= 0 && what != nil && what.slot != slotNone {
			if what.slot == slotForwarded || what.slot == slotAppErrors {
				p.keep(what, b[i:end], false)
			} else if j := skipSpace(b, i+1); b[j] == '"' {
				if e := stringEnd(b, j+1); e >= 0 {
					p.keep(what, b[j+1:e], true)
				}
			}
		}
		return end
	}
	end := i
	for end < len(b) && b[end] != ',' && b[end] != '}' && b[end] > ' ' && b[end] != ']' {
		end++
	}
	v := b[i:end]
	if len(v) > 0 && v[0]-'0' < 10 {
		if !isNumber(v) {
			return -1
		}
		if what != nil && what.slot != slotNone && p.keep(what, v, false) {
			return -1
		}
		return end
	}
	if !isScalar(v) {
		return -1
	}
	if what != nil && (what.slot == slotAppErrors || what.slot == slotAppError) && len(v) > 1 && string(v) != "null" {
		p.keep(what, v, false) // true, false or a negative code
	}
	if what != nil && what.slot == slotBlocked && string(v) == "true" {
		p.keep(what, v, false)
	}
	return end
}

// whole tells whether the value is kept as it stands when it is an object or a
// list: a body that the log writes as JSON.
func (n *jsonNode) whole() bool { return n.slot == slotBody || n.slot == slotVariables }

func (p *jsonParser) container(what *jsonNode, b []byte, i int) int {
	end := skipContainer(b, i)
	switch {
	case end >= 0:
		if p.keep(what, b[i:end], false) {
			return -1
		}
	case p.stop == slots: // a body that was cut off
		p.keep(what, b[i:], false)
	}
	return end
}

// keep remembers a value unless a better name's is there; it reports whether
// the scan should end.
func (p *jsonParser) keep(what *jsonNode, v []byte, quoted bool) bool {
	if len(v) == 0 || len(v) == 1 && v[0] == '-' || !quoted && what.slot != slotAppErrors && string(v) == "[]" {
		return false
	}
	s := what.slot
	if s >= slotNanos && s <= slotSeconds {
		s = slotDuration
	}
	bit := uint64(1) << s
	if p.seen&bit != 0 && p.vals[s].rank <= what.rank {
		return false
	}
	p.seen |= bit
	p.vals[s] = jsonValue{b: v, escaped: quoted, rank: what.rank, slot: what.slot}
	return p.stop != slotNone && s == p.stop
}

// tokenPayload knows the one member of a token's payload that weir reads. It is
// never written.
var tokenPayload = &jsonNode{kids: map[string]*jsonNode{"sub": {slot: slotSubject}}}

// tokenSubject returns the inside of the string "sub", or the number, at the top
// of the object b, or nil.
func tokenSubject(b []byte) []byte {
	p := jsonParser{root: tokenPayload, stop: slotSubject}
	if i := skipSpace(b, 0); i < len(b) && b[i] == '{' {
		p.object(b, i+1, p.root, 0)
	}
	return p.vals[slotSubject].b
}

// isOneOf tells whether b is one of words, which are in lower case.
func isOneOf(b []byte, words []string) bool {
	var buf [jsonKey]byte
	if len(b) > len(buf) {
		return false
	}
	low := appendLower(buf[:0], b)
	return slices.Contains(words, string(low))
}
