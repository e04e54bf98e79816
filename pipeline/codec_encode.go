package pipeline

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The columns of a block, by field number in block.proto.
const (
	columnTime protowire.Number = 1 + iota
	columnEffective
	columnLine
	columnBytes
	columnDuration
	columnOwner
	columnKind
	columnFlags
	columnStatus
	columnAddress
	columnForwarded
	columnSlot
	columnASN
	columnPayloads
	columnCountry
	columnText // the first of the text columns, in the order of textColumns
)

// textColumns are the text fields of a request in the order of their columns.
// A new one goes to the end.
var textColumns = [...]func(*Request) *string{
	func(r *Request) *string { return &r.Method },
	func(r *Request) *string { return &r.Host },
	func(r *Request) *string { return &r.Path },
	func(r *Request) *string { return &r.Query },
	func(r *Request) *string { return &r.Agent },
	func(r *Request) *string { return &r.Referer },
	func(r *Request) *string { return &r.Account },
	func(r *Request) *string { return &r.Key },
	func(r *Request) *string { return &r.Session },
	func(r *Request) *string { return &r.LoginUser },
	func(r *Request) *string { return &r.JA3 },
	func(r *Request) *string { return &r.JA4 },
	func(r *Request) *string { return &r.RequestID },
	func(r *Request) *string { return &r.Operation },
}

// blockEncoder holds the memory that encoding uses, between two blocks too.
type blockEncoder struct {
	seed    maphash.Seed
	salt    uint64
	out     []byte // the columns, before compression
	head    []byte
	packed  []byte
	filter  []byte
	column  []byte // one column
	numbers []uint64
	reasons []string
	owners  dictionary[uint64]
	texts   dictionary[string]
	places  dictionary[Address]
}

// release lets go of the block's strings, and of memory that an unusually
// large block needed.
func (e *blockEncoder) release() {
	clear(e.texts.values[:cap(e.texts.values)])
	clear(e.reasons[:cap(e.reasons)])
	if cap(e.out) > 8<<20 {
		e.out, e.packed, e.column = nil, nil, nil
	}
}

// columns builds the columns of rs in e.out and the distinct owners in
// e.owners.
func (e *blockEncoder) columns(rs []Request) {
	e.out = e.out[:0]
	e.owners.reset(len(rs))
	if len(rs) == 0 {
		return
	}
	var last int64
	e.number(columnTime, rs, func(r *Request) uint64 {
		d := int64(r.Time) - last
		last = int64(r.Time)
		return protowire.EncodeZigZag(d)
	})
	// Effective is unset until blocks are merged, and seldom differs then.
	for i := range rs {
		if rs[i].Effective != 0 {
			same := e.gather(rs, func(r *Request) uint64 {
				return protowire.EncodeZigZag(int64(r.Effective) - int64(r.Time))
			})
			e.pack(columnEffective, same)
			break
		}
	}
	last = 0
	e.number(columnLine, rs, func(r *Request) uint64 {
		d := r.Line - last
		last = r.Line
		return protowire.EncodeZigZag(d)
	})
	e.number(columnBytes, rs, func(r *Request) uint64 { return protowire.EncodeZigZag(r.Bytes) })
	e.number(columnDuration, rs, func(r *Request) uint64 { return protowire.EncodeZigZag(r.Duration) })
	e.ownerColumn(rs)
	e.number(columnKind, rs, func(r *Request) uint64 { return uint64(r.Kind) })
	e.number(columnFlags, rs, func(r *Request) uint64 { return uint64(r.Flags) })
	e.number(columnStatus, rs, func(r *Request) uint64 { return uint64(r.Status) })
	e.address(columnAddress, rs, func(r *Request) *Address { return &r.Address })
	e.address(columnForwarded, rs, func(r *Request) *Address { return &r.Forwarded })
	e.number(columnSlot, rs, func(r *Request) uint64 { return r.Slot })
	e.number(columnASN, rs, func(r *Request) uint64 { return uint64(r.ASN) })
	e.number(columnPayloads, rs, func(r *Request) uint64 { return uint64(r.Payloads) })
	e.number(columnCountry, rs, func(r *Request) uint64 { return uint64(r.Country[0])<<8 | uint64(r.Country[1]) })
	for i, field := range textColumns {
		e.text(columnText+protowire.Number(i), rs, field)
	}
}

// number writes a packed column; none when every row is 0, one value when all
// rows are equal.
func (e *blockEncoder) number(num protowire.Number, rs []Request, value func(*Request) uint64) {
	same := e.gather(rs, value)
	if same && e.numbers[0] == 0 {
		return
	}
	e.pack(num, same)
}

// gather puts the rows' values in e.numbers and reports whether all are equal.
func (e *blockEncoder) gather(rs []Request, value func(*Request) uint64) (same bool) {
	e.numbers = e.numbers[:0]
	same = true
	for i := range rs {
		v := value(&rs[i])
		e.numbers = append(e.numbers, v)
		same = same && v == e.numbers[0]
	}
	return same
}

func (e *blockEncoder) pack(num protowire.Number, same bool) {
	if same {
		e.numbers = e.numbers[:1]
	}
	e.column = e.column[:0]
	for _, v := range e.numbers {
		e.column = protowire.AppendVarint(e.column, v)
	}
	e.field(num, e.column)
}

func (e *blockEncoder) ownerColumn(rs []Request) {
	d := &e.owners
	for i := range rs {
		v := rs[i].Owner
		if i > 0 && v == rs[i-1].Owner {
			d.index = append(d.index, d.index[i-1])
			continue
		}
		hi, lo := bits.Mul64(v^e.salt, 0x9e3779b97f4a7c15)
		d.add(hi^lo, v)
	}
	values := e.column[:0]
	for _, v := range d.values {
		values = binary.LittleEndian.AppendUint64(values, v)
	}
	e.column = values
	e.dictionary(columnOwner, values, d.index, len(d.values))
}

func (e *blockEncoder) address(num protowire.Number, rs []Request, field func(*Request) *Address) {
	d := &e.places
	d.reset(len(rs))
	for i := range rs {
		v := field(&rs[i])
		if i > 0 && *v == *field(&rs[i-1]) {
			d.index = append(d.index, d.index[i-1])
			continue
		}
		a := binary.LittleEndian.Uint64(v[:8]) ^ e.salt
		hi, lo := bits.Mul64(binary.LittleEndian.Uint64(v[8:])^bits.RotateLeft64(e.salt, 32), a|1)
		d.add(hi^lo, *v)
	}
	if len(d.values) == 1 && d.values[0].IsZero() {
		return
	}
	e.column = e.column[:0]
	for i := range d.values {
		e.column = append(e.column, d.values[i][:]...)
	}
	e.dictionary(num, e.column, d.index, len(d.values))
}

// text writes a text column: as a dictionary where that is shorter, else row by
// row; none when every row is empty.
func (e *blockEncoder) text(num protowire.Number, rs []Request, field func(*Request) *string) {
	d := &e.texts
	d.reset(len(rs))
	const probe = 256 // rows after which a column without repeats is known
	plain, shared := 0, 0
	pays := true
	for i := range rs {
		v := *field(&rs[i])
		plain += len(v)
		if i > 0 && v == *field(&rs[i-1]) {
			d.index = append(d.index, d.index[i-1])
			continue
		}
		if v == "" && len(d.values) > 0 && d.values[0] == "" {
			d.index = append(d.index, 0)
			continue
		}
		if d.add(maphash.String(e.seed, v), v) {
			shared += len(v) + 1
		}
		if i == probe && len(d.values) > probe*7/8 {
			pays = false
			break
		}
	}
	if pays && len(d.values) == 1 && d.values[0] == "" {
		return
	}
	lengths, data := e.column[:0], 0
	if pays && (len(d.values) == 1 || shared+len(rs) < plain) {
		for _, v := range d.values {
			lengths = protowire.AppendVarint(lengths, uint64(len(v)))
			data += len(v)
		}
		e.column = lengths
		e.stringDictionary(num, data)
		return
	}
	for i := range rs {
		v := *field(&rs[i])
		lengths = protowire.AppendVarint(lengths, uint64(len(v)))
		data += len(v)
	}
	e.column = lengths
	e.out = protowire.AppendTag(e.out, num, protowire.BytesType)
	e.out = protowire.AppendVarint(e.out, uint64(sizeField(len(lengths))+sizeField(data)))
	e.field(1, lengths)
	e.out = protowire.AppendVarint(protowire.AppendTag(e.out, 2, protowire.BytesType), uint64(data))
	for i := range rs {
		e.out = append(e.out, *field(&rs[i])...)
	}
}

// stringDictionary writes e.texts, whose lengths are in e.column.
func (e *blockEncoder) stringDictionary(num protowire.Number, data int) {
	d := &e.texts
	index := 0
	if len(d.values) > 1 {
		index = sizePacked(d.index)
	}
	e.out = protowire.AppendTag(e.out, num, protowire.BytesType)
	e.out = protowire.AppendVarint(e.out, uint64(sizeField(len(e.column))+sizeField(data)+sizeField(index)))
	e.field(1, e.column)
	e.out = protowire.AppendVarint(protowire.AppendTag(e.out, 2, protowire.BytesType), uint64(data))
	for _, v := range d.values {
		e.out = append(e.out, v...)
	}
	e.indexField(d.index, index)
}

// dictionary writes a column of n distinct fixed-size values.
func (e *blockEncoder) dictionary(num protowire.Number, values []byte, rows []uint32, n int) {
	index := 0
	if n > 1 {
		index = sizePacked(rows)
	}
	e.out = protowire.AppendTag(e.out, num, protowire.BytesType)
	e.out = protowire.AppendVarint(e.out, uint64(sizeField(len(values))+sizeField(index)))
	e.field(2, values)
	e.indexField(rows, index)
}

func (e *blockEncoder) indexField(rows []uint32, size int) {
	if size == 0 {
		return
	}
	e.out = protowire.AppendVarint(protowire.AppendTag(e.out, 3, protowire.BytesType), uint64(size))
	for _, v := range rows {
		e.out = protowire.AppendVarint(e.out, uint64(v))
	}
}

func (e *blockEncoder) field(num protowire.Number, data []byte) {
	e.out = protowire.AppendBytes(protowire.AppendTag(e.out, num, protowire.BytesType), data)
}

// rejects appends the reject counts, sorted, and the samples to the header.
func (e *blockEncoder) rejects(r Rejects) {
	slices.Sort(e.reasons)
	for _, reason := range e.reasons {
		m := protowire.AppendString(protowire.AppendTag(e.column[:0], 1, protowire.BytesType), reason)
		m = protowire.AppendVarint(protowire.AppendTag(m, 2, protowire.VarintType), protowire.EncodeZigZag(r.Reason[reason]))
		e.head = protowire.AppendBytes(protowire.AppendTag(e.head, 13, protowire.BytesType), m)
		e.column = m
	}
	for _, s := range r.Sample {
		m := protowire.AppendString(protowire.AppendTag(e.column[:0], 1, protowire.BytesType), s.Reason)
		m = protowire.AppendVarint(protowire.AppendTag(m, 2, protowire.VarintType), protowire.EncodeZigZag(s.Line))
		m = protowire.AppendString(protowire.AppendTag(m, 3, protowire.BytesType), s.Text)
		e.head = protowire.AppendBytes(protowire.AppendTag(e.head, 14, protowire.BytesType), m)
		e.column = m
	}
}

// sizeField is the size of a bytes field with a small number; none for 0.
func sizeField(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

func sizePacked(vs []uint32) int {
	n := 0
	for _, v := range vs {
		n += protowire.SizeVarint(uint64(v))
	}
	return n
}
