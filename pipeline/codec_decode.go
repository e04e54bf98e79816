package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// blockDecoder holds the memory that decoding uses, between two blocks too.
type blockDecoder struct {
	values  []string
	numbers []uint64
}

var errVarint = errors.New("broken number")

// columns fills rs, which are zero, from the columns in data; strings point
// into data. Columns come in the order of their numbers and none twice, so the
// work is bounded by the rows. Unknown columns are passed over.
func (d *blockDecoder) columns(data []byte, rs []Request) error {
	var before protowire.Number
	return eachField(data, func(num protowire.Number, _ uint64, p []byte) error {
		if num <= before {
			return fmt.Errorf("column %d after column %d", num, before)
		}
		before = num
		if err := d.column(num, p, rs); err != nil {
			return fmt.Errorf("column %d: %w", num, err)
		}
		return nil
	})
}

func (d *blockDecoder) column(num protowire.Number, p []byte, rs []Request) error {
	switch num {
	case columnOwner:
		return fixed(d, p, rs, 8, func(r *Request, v []byte) { r.Owner = binary.LittleEndian.Uint64(v) })
	case columnAddress:
		return fixed(d, p, rs, 16, func(r *Request, v []byte) { r.Address = Address(v) })
	case columnForwarded:
		return fixed(d, p, rs, 16, func(r *Request, v []byte) { r.Forwarded = Address(v) })
	}
	if num >= columnText {
		if int(num-columnText) >= len(textColumns) {
			return nil
		}
		return d.text(p, rs, textColumns[num-columnText])
	}
	vs, err := d.packed(p, len(rs), math.MaxUint64)
	if err != nil {
		return err
	}
	if len(vs) == 1 {
		for range len(rs) - 1 {
			vs = append(vs, vs[0])
		}
		d.numbers = vs
	}
	if len(vs) != len(rs) {
		return fmt.Errorf("%d values for %d rows", len(vs), len(rs))
	}
	return setNumbers(num, vs, rs)
}

func setNumbers(num protowire.Number, vs []uint64, rs []Request) error {
	var last int64
	for i, v := range vs {
		r := &rs[i]
		signed := protowire.DecodeZigZag(v)
		switch num {
		case columnTime:
			last += signed
			r.Time = Time(last)
		case columnEffective:
			r.Effective = r.Time + Time(signed)
		case columnLine:
			last += signed
			r.Line = last
		case columnBytes:
			r.Bytes = signed
		case columnDuration:
			r.Duration = signed
		case columnKind:
			if v > math.MaxUint8 {
				return fmt.Errorf("kind %d", v)
			}
			r.Kind = PrincipalKind(v)
		case columnFlags:
			if v > math.MaxUint16 {
				return fmt.Errorf("flags %d", v)
			}
			r.Flags = RequestFlags(v)
		case columnStatus:
			if v > math.MaxUint16 {
				return fmt.Errorf("status %d", v)
			}
			r.Status = uint16(v)
		case columnSlot:
			r.Slot = v
		case columnASN:
			if v > math.MaxUint32 {
				return fmt.Errorf("AS number %d", v)
			}
			r.ASN = uint32(v)
		case columnPayloads:
			if v > math.MaxUint32 {
				return fmt.Errorf("payloads %d", v)
			}
			r.Payloads = Payloads(v)
		case columnCountry:
			if v > math.MaxUint16 {
				return fmt.Errorf("country %d", v)
			}
			r.Country = Country{byte(v >> 8), byte(v)}
		}
	}
	return nil
}

// packed reads at most limit numbers, none above most, into d.numbers.
func (d *blockDecoder) packed(p []byte, limit int, most uint64) ([]uint64, error) {
	vs := d.numbers[:0]
	for i := 0; i < len(p); {
		v := uint64(p[i])
		if v < 0x80 {
			i++
		} else {
			var n int
			v, n = binary.Uvarint(p[i:])
			if n <= 0 {
				return nil, errVarint
			}
			i += n
		}
		if len(vs) == limit {
			return nil, fmt.Errorf("more than %d values", limit)
		}
		if v > most {
			return nil, fmt.Errorf("%d where at most %d is possible", v, most)
		}
		vs = append(vs, v)
	}
	d.numbers = vs
	return vs, nil
}

// dictionaryFields splits a dictionary or text column.
func dictionaryFields(p []byte) (lengths, data, index []byte, err error) {
	err = eachField(p, func(num protowire.Number, _ uint64, p []byte) error {
		switch num {
		case 1:
			lengths = p
		case 2:
			data = p
		case 3:
			index = p
		}
		return nil
	})
	return lengths, data, index, err
}

// fixed reads a dictionary column of values of size bytes.
func fixed(d *blockDecoder, p []byte, rs []Request, size int, set func(*Request, []byte)) error {
	_, data, index, err := dictionaryFields(p)
	if err != nil {
		return err
	}
	n := len(data) / size
	if n == 0 || n*size != len(data) {
		return fmt.Errorf("%d bytes of values of %d", len(data), size)
	}
	if n == 1 && len(index) == 0 {
		for i := range rs {
			set(&rs[i], data)
		}
		return nil
	}
	vs, err := d.packed(index, len(rs), uint64(n-1))
	if err != nil {
		return err
	}
	if len(vs) != len(rs) {
		return fmt.Errorf("%d indexes for %d rows", len(vs), len(rs))
	}
	for i, v := range vs {
		set(&rs[i], data[int(v)*size:][:size])
	}
	return nil
}

// text reads a text column: one value for all rows, a dictionary, or a value a
// row.
func (d *blockDecoder) text(p []byte, rs []Request, field func(*Request) *string) error {
	lengths, data, index, err := dictionaryFields(p)
	if err != nil {
		return err
	}
	ns, err := d.packed(lengths, len(rs), uint64(len(data)))
	if err != nil {
		return err
	}
	d.values = d.values[:0]
	for _, n := range ns {
		if n > uint64(len(data)) {
			return errors.New("values longer than their data")
		}
		v := ""
		if n > 0 {
			v = unsafe.String(&data[0], int(n))
			data = data[n:]
		}
		d.values = append(d.values, v)
	}
	if len(data) > 0 {
		return fmt.Errorf("%d bytes behind the last value", len(data))
	}
	switch {
	case len(index) > 0:
		vs, err := d.packed(index, len(rs), uint64(max(len(d.values), 1)-1))
		if err != nil {
			return err
		}
		if len(vs) != len(rs) || len(d.values) == 0 {
			return fmt.Errorf("%d indexes into %d values for %d rows", len(vs), len(d.values), len(rs))
		}
		for i, v := range vs {
			*field(&rs[i]) = d.values[v]
		}
	case len(d.values) == 1:
		for i := range rs {
			*field(&rs[i]) = d.values[0]
		}
	case len(d.values) == len(rs):
		for i, v := range d.values {
			*field(&rs[i]) = v
		}
	default:
		return fmt.Errorf("%d values for %d rows", len(d.values), len(rs))
	}
	return nil
}
