package h2

import "errors"

const (
	// tableDefault is the size of a dynamic table until its encoder says another
	// (RFC 9113, 6.5.2).
	tableDefault = 4096
	// maxTable is the most that is kept of a dynamic table: Chrome's and nginx's
	// are 64 KiB and 4 KiB. Of a larger one the old entries are unknown.
	maxTable = 64 << 10
	// maxEntries bounds the count of entries likewise: each counts 32 bytes.
	maxEntries = maxTable / entryOverhead
	// maxList is how much of one header list is given out, names and values: one
	// byte of a block can stand for kilobytes.
	maxList       = 256 << 10
	entryOverhead = 32 // RFC 7541, 4.1
)

// errHPACK is a header block that cannot be read; the table is of no use then.
var errHPACK = errors.New("read header block: malformed")

// decoder is the HPACK state of one direction (RFC 7541). It differs from an
// endpoint's in that it may have missed some of it: entries that it does not
// know are counted where they are used, and the rest is read.
type decoder struct {
	entries []entry // oldest first
	first   int     // of the entries still in the table
	text    []byte  // names and values of the entries, in their order
	base    int     // position of text[0]
	size    int     // of the table, as RFC 7541, 4.1 counts
	max     int
	partial bool // older entries may exist that are not here
	missing int  // fields of the running block that are not known

	scratch []byte // of decoded strings
	take    func(n int64) bool
	held    int64
}

type entry struct {
	at          int // position of the name, the value follows
	name, value uint32
	hidden      bool // only its size is known
}

func (d *decoder) init(take func(n int64) bool, partial bool) {
	d.max, d.take, d.partial = tableDefault, take, partial
	if partial {
		d.max = maxTable // what was agreed is not known: nothing is forgotten early
	}
}

// lose forgets the table: a block was missed, and how many entries it added
// nobody knows.
func (d *decoder) lose() {
	d.first, d.entries, d.base, d.text, d.size = 0, d.entries[:0], 0, d.text[:0], 0
	d.partial, d.max = true, maxTable
}

// close gives the memory back.
func (d *decoder) close() {
	d.take(-d.held)
	*d = decoder{take: d.take, partial: true}
}

// decode reads one header block and calls field for each header in order. The
// slices are valid during that call. missing says how many fields referred to
// what is not known; they are left out.
func (d *decoder) decode(b []byte, field func(name, value []byte)) (missing int, err error) {
	d.missing = 0
	room := maxList
	for len(b) > 0 {
		c := b[0]
		var name, value []byte
		var known, add bool
		switch {
		case c&0x80 != 0: // indexed
			var i int
			if i, b, err = integer(b, 7); err != nil || i == 0 {
				return d.missing, errHPACK
			}
			name, value, known = d.at(i)
		case c&0xe0 == 0x20: // table size
			if b, err = d.resize(b); err != nil {
				return d.missing, err
			}
			continue
		default:
			bits := uint(4)
			if c&0xc0 == 0x40 {
				bits, add = 6, true
			}
			if name, value, known, b, err = d.literal(b, bits); err != nil {
				return d.missing, err
			}
		}
		switch {
		case known:
			if room -= len(name) + len(value); room >= 0 {
				field(name, value)
			}
		case d.partial:
			d.missing++
		default:
			return d.missing, errHPACK
		}
		if add { // last: it may move what name points to
			d.add(name, value, known)
		}
	}
	return d.missing, nil
}

// literal reads a field whose value, perhaps whose name too, is written out.
// Both are in scratch or b.
func (d *decoder) literal(b []byte, bits uint) (name, value []byte, known bool, rest []byte, err error) {
	i, b, err := integer(b, bits)
	if err != nil {
		return nil, nil, false, nil, err
	}
	d.scratch = d.scratch[:0]
	known = true
	if i > 0 {
		name, _, known = d.at(i)
	} else if name, b, err = d.text1(b); err != nil {
		return nil, nil, false, nil, err
	}
	value, b, err = d.text1(b)
	return name, value, known, b, err
}

// text1 reads one string.
func (d *decoder) text1(b []byte) (s, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errHPACK
	}
	coded := b[0]&0x80 != 0
	n, b, err := integer(b, 7)
	if err != nil || n > len(b) {
		return nil, nil, errHPACK
	}
	s, rest = b[:n], b[n:]
	if !coded {
		return s, rest, nil
	}
	// The shortest code has five bits. An earlier string stays where it is even
	// when scratch moves.
	at := len(d.scratch)
	out, ok := appendHuffman(d.scratch, s, maxList)
	if !ok {
		return nil, nil, errHPACK
	}
	d.scratch = out
	return out[at:], rest, nil
}

// integer reads a number with a prefix of that many bits (RFC 7541, 5.1).
func integer(b []byte, bits uint) (v int, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errHPACK
	}
	limit := 1<<bits - 1
	v = int(b[0]) & limit
	b = b[1:]
	if v < limit {
		return v, b, nil
	}
	for shift := uint(0); shift < 28; shift += 7 {
		if len(b) == 0 {
			return 0, nil, errHPACK
		}
		c := b[0]
		b = b[1:]
		v += int(c&0x7f) << shift
		if c&0x80 == 0 {
			return v, b, nil
		}
	}
	return 0, nil, errHPACK
}

// at returns the entry of an index, static ones first, then the newest first.
func (d *decoder) at(i int) (name, value []byte, known bool) {
	if i < len(static) {
		return static[i].name, static[i].value, true
	}
	i = len(d.entries) - 1 - (i - len(static))
	if i < d.first {
		return nil, nil, false
	}
	e := &d.entries[i]
	if e.hidden {
		return nil, nil, false
	}
	b := d.text[e.at-d.base:]
	return b[:e.name], b[e.name:][:e.value], true
}

// resize takes a change of the table's size.
func (d *decoder) resize(b []byte) ([]byte, error) {
	n, b, err := integer(b, 5)
	if err != nil {
		return nil, err
	}
	d.partial = d.partial || n > maxTable
	d.max = min(n, maxTable)
	d.evict(d.max)
	return b, nil
}

// evict makes the table no larger than size.
func (d *decoder) evict(size int) {
	for d.size > size && d.first < len(d.entries) {
		e := &d.entries[d.first]
		d.size -= int(e.name) + int(e.value) + entryOverhead
		d.first++
	}
	if d.first == len(d.entries) {
		d.first, d.entries, d.base, d.text = 0, d.entries[:0], 0, d.text[:0]
	}
}

// add puts an entry into the table. One that is not known, or for which there is
// no memory, keeps its place.
func (d *decoder) add(name, value []byte, known bool) {
	size := len(name) + len(value) + entryOverhead
	if size > d.max {
		d.evict(0)
		return
	}
	// The name may be inside text: it moves below.
	e := entry{name: uint32(len(name)), value: uint32(len(value)), hidden: !known}
	if need := len(name) + len(value); known && len(d.text)+need > cap(d.text) {
		bigger := max(2*cap(d.text), len(d.text)+need, 512)
		live := d.text
		if d.first > 0 {
			live = d.text[d.entries[d.first].at-d.base:]
			bigger = max(2*(len(live)+need), 512)
		}
		if d.reserve(bigger - cap(d.text)) {
			fresh := make([]byte, len(live), bigger)
			copy(fresh, live)
			d.base += len(d.text) - len(live)
			d.text = fresh
		} else {
			e.hidden, d.partial = true, true
		}
	}
	d.evict(d.max - size)
	if d.first > 64 && 2*d.first > len(d.entries) {
		n := copy(d.entries, d.entries[d.first:])
		d.entries, d.first = d.entries[:n], 0
	}
	if len(d.entries) == cap(d.entries) {
		grow := max(2*cap(d.entries), 16)
		if !d.reserve((grow - cap(d.entries)) * 24) {
			d.lose()
			return
		}
		fresh := make([]entry, len(d.entries), grow)
		copy(fresh, d.entries)
		d.entries = fresh
	}
	e.at = d.base + len(d.text)
	if !e.hidden {
		d.text = append(append(d.text, name...), value...)
	}
	d.entries = append(d.entries, e)
	d.size += size
}

func (d *decoder) reserve(n int) bool {
	if !d.take(int64(n)) {
		return false
	}
	d.held += int64(n)
	return true
}
