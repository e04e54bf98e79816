package collector

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// A layout is a compiled log_format or LogFormat: values with literal text
// between them. A value ends where the literal behind it begins; what a quote
// opens ends at the first quote that no backslash escapes. A value that may hold
// that literal itself (a user with spaces) is tried at later places too, a
// bounded number of times; numbers, addresses and times have a fixed shape, so
// the first place where the whole line fits is the right one unless the server
// escapes nothing.

// kind is the shape of a value.
type kind uint8

const (
	kindText   kind = iota
	kindToken       // no spaces, and no part of a list
	kindNumber      // digits and a point, or "-"
	kindStatus      // three digits, or "-"
	kindList        // of an upstream's values: "a, b : c"
	kindTime        // ends by itself
)

// maxOps is how many values a layout may have; maxTries how many places of
// values are tried in one line.
const (
	maxOps   = 200
	maxTries = 64
)

type op struct {
	before []byte // literal text in front of the value
	slot   slot
	kind   kind
	quoted bool // between quotes
	stamp  func(c *clock, b []byte, t *stamp) (n int, ok bool)
}

type layout struct {
	ops    []op
	tail   []byte // literal text behind the last value
	raw    bool   // the server escapes nothing
	hash   bool   // HAProxy: the request has bytes written as #22
	order  []int  // ops to store, the better later
	client int    // op that names the client, or -1
}

// builder collects values and literals in the order of a format's text.
type builder struct {
	layout
	lit  []byte
	errs []error
	name string // of the value before
}

// literal appends text that lines have as it is.
func (b *builder) literal(s ...byte) { b.lit = append(b.lit, s...) }

// value appends a value whose name, as the user wrote it, starts at column.
func (b *builder) value(o op, name string, column int) {
	if len(b.ops) >= maxOps {
		if len(b.ops) == maxOps {
			b.errs = append(b.errs, fmt.Errorf("more than %d values", maxOps))
		}
		return
	}
	o.before, b.lit = b.lit, nil
	if n := len(b.ops); n > 0 && len(o.before) == 0 {
		last := &b.ops[n-1]
		switch {
		case last.kind == kindTime && o.kind == kindTime:
		case last.slot == slotNone && o.slot == slotNone:
			last.kind = kindText // nobody wants either: one value
			return
		case last.slot == slotPath && o.slot == slotQuery:
			last.slot = slotTarget
			return
		case (last.slot == slotHost || last.slot == slotServerName) && (o.slot == slotTarget || o.slot == slotPath):
			last.slot, last.kind = slotHostTarget, kindText
			return
		case (last.slot == slotHostTarget || last.slot == slotTarget) && o.slot == slotQuery:
			return
		default:
			b.errs = append(b.errs, fmt.Errorf("column %d: %s follows %s with nothing between them, so a line does not show where one ends; put a space or quotes between them", column, name, b.name))
		}
	}
	b.name = name
	b.ops = append(b.ops, o)
}

// finish checks the whole and settles what is stored.
func (b *builder) finish() (*layout, error) {
	if len(b.ops) == 0 {
		b.errs = append(b.errs, errors.New("no values in it"))
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	l := &b.layout
	l.tail = b.lit
	l.client = -1
	have := [slots]bool{}
	for i := range l.ops {
		o := &l.ops[i]
		next := l.tail
		if i+1 < len(l.ops) {
			next = l.ops[i+1].before
		}
		if i > 0 && len(o.before) == 0 && o.kind != kindTime {
			return nil, fmt.Errorf("nothing stands before value %d", i+1)
		}
		o.quoted = len(o.before) > 0 && o.before[len(o.before)-1] == '"' && len(next) > 0 && next[0] == '"'
		if o.quoted && o.kind == kindToken {
			o.kind = kindText // the quotes bound it whatever a client puts in
		}
		have[o.slot] = true
		if o.slot != slotNone && o.slot != slotTime {
			l.order = append(l.order, i)
		}
	}
	if !have[slotRequest] && !have[slotTarget] && !have[slotPath] && !have[slotHostTarget] {
		return nil, errors.New("it has no request and no path, so there is nothing to watch; add one")
	}
	slices.SortStableFunc(l.order, func(x, y int) int { return int(l.ops[x].slot) - int(l.ops[y].slot) })
	for _, s := range [...]slot{slotResolved, slotRemote, slotPeer, slotSession, slotAPIKey, slotUser, slotForwarded} {
		i := slices.IndexFunc(l.ops, func(o op) bool { return o.slot == s })
		if i >= 0 {
			l.client = i
			break
		}
	}
	return l, nil
}

// layoutParser reads lines by a layout.
type layoutParser struct {
	*layout
	clock clock
	at    []span // where each value of this line is
	stamp stamp
	deep  int  // the value furthest to the right that did not fit
	plain bool // no line at hand holds a backslash
}

type span struct{ from, to int }

func (l *layout) format(name, describe string, opt ParseOptions) Format {
	return Format{
		Name:     name,
		Describe: describe,
		New: func() Parser {
			return &layoutParser{layout: l, clock: newClock(opt.Location), at: make([]span, len(l.ops))}
		},
		ClientPrefix: l.clientPrefix,
	}
}

// layoutsFormat reads lines by the first of ls that fits.
func layoutsFormat(name, describe string, ls []*layout, opt ParseOptions) Format {
	if len(ls) == 1 {
		return ls[0].format(name, describe, opt)
	}
	f := ls[0].format(name, describe, opt)
	f.New = func() Parser {
		p := &eitherParser{}
		for _, l := range ls {
			p.of = append(p.of, l.format(name, describe, opt).New())
		}
		return p
	}
	return f
}

// eitherParser reads a line by the first of its parsers that does; what was read
// before plays no part.
type eitherParser struct{ of []Parser }

// Parse implements Parser.
func (p *eitherParser) Parse(f *Fields, line []byte) error {
	first := p.of[0].Parse(f, line)
	for _, other := range p.of[1:] {
		if first == nil {
			break
		}
		if other.Parse(f, line) == nil {
			return nil
		}
	}
	return first
}

// clientPrefix finds the value that names the client by taking the first place
// where each value before it can end.
func (l *layout) clientPrefix(line []byte) []byte {
	if l.client < 0 {
		return nil
	}
	pos := 0
	for i := 0; i <= l.client; i++ {
		if !bytes.HasPrefix(line[pos:], l.ops[i].before) {
			return nil
		}
		pos += len(l.ops[i].before)
		end := l.end(line, i, pos, pos)
		if end < 0 {
			return nil
		}
		if i == l.client {
			return line[pos:end]
		}
		pos = end
	}
	return nil
}

// Parse implements Parser.
func (p *layoutParser) Parse(f *Fields, line []byte) error { return parseLine(p, f, line) }

func (p *layoutParser) setPlain(plain bool) { p.plain = plain }

func (p *layoutParser) parse(f *Fields, line []byte) Reject {
	if !p.match(line) {
		switch {
		case p.deep < len(p.ops) && p.ops[p.deep].kind == kindTime:
			return RejectTime
		case p.deep < len(p.ops) && p.ops[p.deep].kind == kindStatus:
			return RejectStatus
		}
		return RejectFormat
	}
	escaped := !p.raw && !p.plain && bytes.IndexByte(line, '\\') >= 0
	for _, i := range p.order {
		v := line[p.at[i].from:p.at[i].to]
		s := p.ops[i].slot
		if len(v) == 0 || len(v) == 1 && v[0] == '-' {
			if s == slotBytesCLF && len(v) == 1 {
				f.Bytes = 0
			}
			continue
		}
		if r := f.store(s, v, escaped); r != "" {
			return r
		}
	}
	if p.hash {
		f.undoHash()
	}
	if p.stamp.set {
		t, ok := p.stamp.time(&p.clock)
		if !ok {
			return RejectTime
		}
		f.Time, f.HasTime = t, true
	}
	return ""
}

// match finds the place of every value.
func (p *layoutParser) match(line []byte) bool {
	p.stamp = stamp{}
	p.deep = 0
	tries := 0
	i, pos, again := 0, 0, false
	for {
		ok := false
		switch {
		case i == len(p.ops):
			if string(line[pos:]) == string(p.tail) {
				return true
			}
		case again:
			ok = p.place(line, i, p.at[i].from, p.at[i].to+1)
		case bytes.HasPrefix(line[pos:], p.ops[i].before):
			from := pos + len(p.ops[i].before)
			ok = p.place(line, i, from, from)
		}
		if ok {
			pos = p.at[i].to
			i++
			again = false
			continue
		}
		if !again {
			p.deep = max(p.deep, i)
		}
		// Back to the last value that could end later.
		for i--; i >= 0 && p.ops[i].kind != kindText && p.ops[i].kind != kindList; i-- {
		}
		if tries++; i < 0 || tries > maxTries {
			return false
		}
		again = true
	}
}

// place settles where value i, which begins at from, ends: at min or later.
func (p *layoutParser) place(line []byte, i, from, min int) bool {
	o := &p.ops[i]
	p.at[i].from = from
	if o.kind == kindTime {
		n, ok := o.stamp(&p.clock, line[from:], &p.stamp)
		p.at[i].to = from + n
		return ok
	}
	for range maxTries {
		end := p.end(line, i, from, min)
		if end < 0 {
			return false
		}
		p.at[i].to = end
		if fits(o.kind, line[from:end]) {
			return true
		}
		if o.kind != kindList {
			return false // longer is no better
		}
		min = end + 1
	}
	return false
}

// end returns the first index at or after min where value i, which begins at
// from, can end, or -1.
func (l *layout) end(line []byte, i, from, min int) int {
	next := l.tail
	if i+1 < len(l.ops) {
		next = l.ops[i+1].before
	} else if len(next) == 0 {
		if min > len(line) {
			return -1
		}
		return len(line)
	}
	for min <= len(line) {
		var n int
		if l.ops[i].quoted && !l.raw {
			if n = endQuote(line, max(min, from)); n < 0 {
				return -1
			}
			n -= min
		} else if n = bytes.Index(line[min:], next); n < 0 {
			return -1
		}
		if bytes.HasPrefix(line[min+n:], next) {
			return min + n
		}
		min += n + 1
	}
	return -1
}

// fits tells whether v has the shape of k.
func fits(k kind, v []byte) bool {
	switch k {
	case kindToken:
		return bytes.IndexByte(v, ' ') < 0 && (len(v) == 0 || v[len(v)-1] != ',')
	case kindStatus:
		if len(v) == 3 {
			return v[0]-'0' < 10 && v[1]-'0' < 10 && v[2]-'0' < 10
		}
		return len(v) == 0 || len(v) == 1 && v[0] == '-'
	case kindNumber:
		if len(v) == 1 && v[0] == '-' {
			return true
		}
		for _, c := range v {
			if c-'0' > 9 && c != '.' {
				return false
			}
		}
	case kindList:
		if n := len(v); n > 0 && (v[n-1] == ',' || v[n-1] == ':' || v[0] == ':' || v[0] == ',') {
			return false
		}
	}
	return true
}
