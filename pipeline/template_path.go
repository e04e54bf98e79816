package pipeline

import (
	"strings"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// A path has one canonical form, and every hash and template is made of it:
// percent-decoded once, // and dot segments collapsed, ;params and a trailing
// slash gone, without query. Bytes that would change the reading of the result
// stay escaped, in upper case: control characters, space, " # % / ; < > ? \ `
// { } and whatever is not UTF-8. So a segment of the canonical form never holds
// a slash, every % in it begins an escape, and { can only begin a slot.

const (
	maxPath     = 2048            // bytes of a path that are read; the rest is only hashed
	maxDepth    = 16              // segments a template can have
	maxSegment  = 128             // bytes beyond which a segment is SlotLong
	pathScratch = 3*maxPath + 128 // canonical bytes of the longest path
)

// segmentRange is a segment's place in a text, half-open.
type segmentRange struct{ from, to uint16 }

// normalPath is a path in canonical form, cut into segments. It is valid as
// long as the path and the scratch it was read with.
type normalPath struct {
	text    string // "/" for the root
	n       int    // segments; the last of maxDepth holds all that follow
	seg     [maxDepth]segmentRange
	raw     [maxDepth]segmentRange // in the path as received; unused when plain
	tail    uint64                 // hash of what lies beyond maxPath
	plain   bool                   // text is the head of the path
	odd     bool                   // written as no browser writes it
	garbage bool                   // carries control or non-UTF-8 bytes
	deep    bool                   // the last segment is several
}

// Classes of a byte in a path.
const (
	pathPlain  = iota // stands for itself
	pathSlash         // separates
	pathRemark        // needs the careful reading
)

// pathClassOf: bytes above 0x7f take the careful reading for their UTF-8.
var pathClassOf = func() (t [256]uint8) {
	for c := range t {
		if c <= ' ' || c >= 0x7f {
			t[c] = pathRemark
		}
	}
	for _, c := range []byte("\"#%;<>?\\`{}") {
		t[c] = pathRemark
	}
	t['/'] = pathSlash
	return t
}()

// readPlain reads a path that is in canonical form but for a trailing slash.
// It reports false, with p undefined, for any other.
func (p *normalPath) readPlain(path string) bool {
	if len(path) == 0 || path[0] != '/' || len(path) > maxPath {
		return false
	}
	start := 1
	for i := 1; i < len(path); i++ {
		switch pathClassOf[path[i]] {
		case pathPlain:
		case pathSlash:
			if i == start || isDots(path[start:i]) {
				return false
			}
			p.push(start, i)
			start = i + 1
		default:
			return false
		}
	}
	end := len(path)
	if start < end {
		if isDots(path[start:]) {
			return false
		}
		p.push(start, end)
	} else if end > 1 {
		end--
	}
	p.text, p.plain = path[:end], true
	return true
}

// push notes a segment of p.text; beyond maxDepth it lengthens the last.
func (p *normalPath) push(from, to int) {
	if p.n == maxDepth {
		p.seg[maxDepth-1].to = uint16(to)
		p.deep = true
		return
	}
	p.seg[p.n] = segmentRange{uint16(from), uint16(to)}
	p.n++
}

func isDots(s string) bool { return s == "." || s == ".." }

// read reads any path. The caller sets p.text to the result, which points into
// scratch: were it set here, the compiler would move scratch to the heap.
func (p *normalPath) read(path string, scratch *[pathScratch]byte) (text string) {
	*p = normalPath{}
	if len(path) > maxPath {
		p.tail, p.odd = Hash64(path[maxPath:]), true
		path = path[:maxPath]
	}
	from := 0
	if len(path) == 0 || path[0] != '/' {
		p.odd = true
		from = authorityEnd(path)
	}
	out, depth := 0, 0
	for from < len(path) {
		if path[from] == '/' {
			from++
		}
		end := from
		for end < len(path) && path[end] != '/' && path[end] != '?' && path[end] != '#' {
			end++
		}
		last := end == len(path) || path[end] != '/'
		if end == from && !last {
			p.odd = true
		}
		n := p.decode(scratch[out:], path[from:end])
		switch string(scratch[out : out+n]) {
		case "/":
		case "/.":
			p.odd = true
		case "/..":
			p.odd = true
			for depth > 0 {
				out--
				if scratch[out] == '/' {
					depth--
					break
				}
			}
		default:
			if depth < maxDepth {
				p.raw[depth] = segmentRange{uint16(from), uint16(end)}
			}
			depth++
			out += n
		}
		if last {
			p.odd = p.odd || end < len(path) && path[end] == '#'
			break
		}
		from = end
	}
	if out == 0 {
		scratch[0], out = '/', 1
	}
	start := 1
	for i := 1; i <= out; i++ {
		if i == out || scratch[i] == '/' {
			if i > start {
				p.push(start, i)
			}
			start = i + 1
		}
	}
	// The string aliases scratch, which nobody writes while p is in use.
	return unsafe.String(&scratch[0], out)
}

// authorityEnd is where the path of an absolute-form target begins.
func authorityEnd(path string) int {
	i := strings.Index(path, "://")
	if i <= 0 || strings.IndexByte(path[:i], '/') >= 0 {
		return 0
	}
	if j := strings.IndexByte(path[i+3:], '/'); j >= 0 {
		return i + 3 + j
	}
	return len(path)
}

// decode writes "/" and the canonical form of one segment to dst.
func (p *normalPath) decode(dst []byte, s string) int {
	if i := strings.IndexByte(s, ';'); i >= 0 {
		// Java servers write sessions this way; everything else is odd.
		if j := i + len(";jsessionid="); j > len(s) || !strings.EqualFold(s[i:j], ";jsessionid=") {
			p.odd = true
		}
		s = s[:i]
	}
	n, high := p.unescape(dst, s, false)
	if high && !p.readable(dst[:n]) {
		p.odd, p.garbage = true, true
		n, _ = p.unescape(dst, s, true)
	}
	return n
}

// readable reports whether b is UTF-8 that a terminal may show.
func (p *normalPath) readable(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n < 2 || !unicode.IsPrint(r) {
			return false
		}
		b = b[n:]
	}
	return true
}

// unescape does decode's work; ascii escapes every byte above 0x7f.
func (p *normalPath) unescape(dst []byte, s string, ascii bool) (n int, high bool) {
	dst[0], n = '/', 1
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%':
			v, ok := unhex2(s, i+1)
			if !ok {
				p.odd = true
				break
			}
			c = v
			i += 2
			p.odd = p.odd || oddEscaped(c)
			if _, twice := unhex2(s, i+1); c == '%' && twice {
				p.odd = true
			}
		case c < 0x80 && pathClassOf[c] == pathRemark:
			p.odd = true
		}
		if c < ' ' || c == 0x7f {
			p.garbage = true
		}
		if c == '/' || pathClassOf[c] == pathRemark && (c < 0x80 || ascii) {
			const digits = "0123456789ABCDEF"
			dst[n], dst[n+1], dst[n+2] = '%', digits[c>>4], digits[c&15]
			n += 3
			continue
		}
		high = high || c >= 0x80
		dst[n] = c
		n++
	}
	return n, high
}

// oddEscaped reports whether no browser or URL library escapes c.
func oddEscaped(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '.' || c == '/' || c == '\\' || c < ' ' || c == 0x7f
}

func unhex2(s string, i int) (v byte, ok bool) {
	if i+2 > len(s) {
		return 0, false
	}
	for _, c := range []byte(s[i : i+2]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		v = v<<4 | c
	}
	return v, true
}

// segment is the i-th segment of the canonical text.
func (p *normalPath) segment(i int) string { return p.text[p.seg[i].from:p.seg[i].to] }

// slot is the stateless pass over segment i.
func (p *normalPath) slot(i int) (t SlotType, ext string, asset bool) {
	last := i == p.n-1
	if last && p.deep {
		return SlotLong, "", false
	}
	return slotOf(p.segment(i), last)
}

// value is segment i as received, pointing into path.
func (p *normalPath) value(path string, i int) string {
	at := p.raw[i]
	if p.plain {
		at = p.seg[i]
	}
	return path[at.from:at.to]
}

// appendTyped appends the canonical text with typed segments as slots.
func (p *normalPath) appendTyped(dst []byte) []byte {
	if p.n == 0 {
		return append(dst, '/')
	}
	for i := range p.n {
		dst = append(dst, '/')
		t, ext, _ := p.slot(i)
		dst = appendSegment(dst, t, ext, p.segment(i))
	}
	return dst
}

// appendSegment appends a segment as templates write it: the word, or the slot
// and the extension that stays.
func appendSegment(dst []byte, t SlotType, ext, word string) []byte {
	if t == SlotNone {
		return append(dst, word...)
	}
	dst = append(dst, slotNames[t]...)
	if ext != "" {
		dst = append(append(dst, '.'), ext...)
	}
	return dst
}
