package collector

import "bytes"

// ModSecurity's serial audit log: a record of sections over many lines.
//
//	--c7036611-A--
//	[09/Jan/2008:12:27:56 +0000] OSD4l1BEUOkAAHZ8Y3QAAAAH 203.0.113.7 64995 192.0.2.1 80
//	--c7036611-B--
//	GET /a?b=%27 HTTP/1.1
//	Host: shop.example
//	User-Agent: sqlmap/1.7
//
//	--c7036611-F--
//	HTTP/1.1 403 Forbidden
//	Content-Length: 223
//
//	--c7036611-H--
//	Action: Intercepted (phase 2)
//	--c7036611-Z--
//
// The request is complete at the line Z; the lines before it are none. Version 3
// writes "---" for "--". A body (sections C, E, I) is not looked at: what a
// client sends there cannot pass for the end of the record, whose mark it does not
// know, nor for the beginning of another.

func modSecurityFormat(opt ParseOptions) Format {
	return Format{
		Name:         "modsecurity",
		Describe:     "ModSecurity audit log, serial (sections A B F H) or JSON",
		New:          func() Parser { return &modSecurityParser{clock: newClock(opt.Location)} },
		ClientPrefix: func([]byte) []byte { return nil }, // not in the line that ends a record
		Carry:        carryRecord,
	}
}

// maxRecord is how long a record may be, in bytes; a longer one is given up, so
// that one whose end is missing does not swallow the log.
const maxRecord = 256 << 10

// record follows the boundaries of records from line to line.
type record struct {
	mark    []byte
	open    bool
	section byte
	size    int
}

// recordLine is what a line is to a record.
type recordLine uint8

const (
	recordOutside recordLine = iota
	recordBegins
	recordSection // another section of it begins
	recordInside
	recordEnds
)

func (r *record) step(line []byte) recordLine {
	if r.open {
		if r.size += len(line) + 1; r.size > maxRecord {
			r.open = false
		}
	}
	if mark, section := modSecurityMark(line); section != 0 {
		body := r.open && (r.section == 'C' || r.section == 'E' || r.section == 'I')
		switch {
		case section == 'A' && !body:
			r.mark = append(r.mark[:0], mark...)
			r.open, r.section, r.size = true, section, len(line)+1
			return recordBegins
		case r.open && bytes.Equal(mark, r.mark):
			r.section = section
			if section == 'Z' {
				r.open = false
				return recordEnds
			}
			return recordSection
		}
	}
	if r.open {
		return recordInside
	}
	return recordOutside
}

// carryRecord keeps the record that data ends in the middle of.
func carryRecord(before, data []byte) []byte {
	var r record
	eachLine(before, func(line []byte, _ int) bool {
		r.step(line)
		return true
	})
	from, at := -1, 0 // where the open record begins in data; -1 in before
	eachLine(data, func(line []byte, next int) bool {
		if r.step(line) == recordBegins {
			from = at
		}
		at = next
		return true
	})
	switch {
	case !r.open:
		return before[:0]
	case from >= 0:
		return append(before[:0], data[from:]...)
	}
	return append(before, data...)
}

// modSecurityMark reads a boundary, --mark-A-- or ---mark---A--; section is 0
// where there is none.
func modSecurityMark(line []byte) (mark []byte, section byte) {
	n := len(line)
	if n < 8 || n > 64 || line[0] != '-' || line[1] != '-' || line[n-1] != '-' || line[n-2] != '-' || line[n-4] != '-' || line[n-3]-'A' > 25 {
		return nil, 0
	}
	mark = bytes.Trim(line[:n-4], "-")
	if len(mark) == 0 || bytes.IndexByte(mark, ' ') >= 0 {
		return nil, 0
	}
	return mark, line[n-3]
}

type modSecurityParser struct {
	clock   clock
	record  record
	first   bool   // no line of the section was read
	rec     []byte // what is kept, each a slot, its length in three bytes, and the text
	blocked bool
}

// Parse implements Parser.
func (p *modSecurityParser) Parse(f *Fields, line []byte) error {
	if len(line) == 0 { // ends headers
		f.reset()
		p.record.step(line)
		return SkipLine
	}
	return parseLine(p, f, line)
}

func (p *modSecurityParser) parse(f *Fields, line []byte) Reject {
	switch p.record.step(line) {
	case recordOutside:
		return RejectFormat
	case recordBegins:
		p.rec, p.blocked, p.first = p.rec[:0], false, true
	case recordSection:
		p.first = true
	case recordInside:
		p.line(line)
		p.first = false
	case recordEnds:
		return p.finish(f)
	}
	return SkipLine
}

// line keeps what a line inside a record says.
func (p *modSecurityParser) line(line []byte) {
	switch p.record.section {
	case 'A':
		if p.first {
			p.keep(slotTime, line)
		}
	case 'B':
		if p.first {
			p.keep(slotRequest, line)
			return
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) > jsonKey {
			return
		}
		var buf [jsonKey]byte
		if s := headerSlot(str(appendLower(buf[:0], name))); s != slotNone && s != slotRequestID {
			p.keep(s, bytes.TrimSpace(value))
		}
	case 'F':
		if p.first {
			if _, rest := word(line); len(rest) > 0 {
				status, _ := word(rest)
				p.keep(slotStatus, status)
			}
			return
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		switch {
		case !ok:
		case bytes.EqualFold(name, []byte("content-length")):
			p.keep(slotBytes, bytes.TrimSpace(value))
		case bytes.EqualFold(name, []byte("location")):
			p.keep(slotLocation, bytes.TrimSpace(value))
		}
	case 'H':
		p.blocked = p.blocked || bytes.HasPrefix(line, []byte("Action: Intercepted")) || bytes.HasPrefix(line, []byte("ModSecurity: Access denied"))
	}
}

func (p *modSecurityParser) keep(s slot, v []byte) {
	if len(v) == 0 {
		return
	}
	p.rec = append(p.rec, byte(s), byte(len(v)), byte(len(v)>>8), byte(len(v)>>16))
	p.rec = append(p.rec, v...)
}

// finish makes the request of what was kept.
func (p *modSecurityParser) finish(f *Fields) Reject {
	from := len(f.Scratch)
	f.Scratch = append(f.Scratch, p.rec...) // the record is overwritten by the next
	for b := f.Scratch[from:len(f.Scratch):len(f.Scratch)]; len(b) > 4; {
		s, n := slot(b[0]), int(b[1])|int(b[2])<<8|int(b[3])<<16
		v := b[4 : 4+n]
		b = b[4+n:]
		if s == slotTime {
			if r := p.head(f, v); r != "" {
				return r
			}
			continue
		}
		if r := f.store(s, v, false); r != "" {
			return r
		}
	}
	f.Blocked = p.blocked
	if !f.HasTime {
		return RejectTime
	}
	if f.Method == "" && f.Path == "" && f.Status == 0 {
		return RejectRequest
	}
	return ""
}

// head reads section A: [time] id client port server port.
func (p *modSecurityParser) head(f *Fields, v []byte) Reject {
	end := bytes.IndexByte(v, ']')
	if end < 0 || v[0] != '[' {
		return RejectTime
	}
	stamp := v[1:end]
	t, ok := p.clock.any(stamp)
	if !ok {
		t, ok = p.clock.clfLoose(stamp)
	}
	if !ok {
		return RejectTime
	}
	f.Time, f.HasTime = t, true
	id, rest := word(v[end+1:])
	client, _ := word(rest)
	f.RequestID, f.Remote = f.text(id, false), f.text(client, false)
	return ""
}
