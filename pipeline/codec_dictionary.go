package pipeline

import "math/bits"

// dictionary numbers distinct values in the order they first come up: the
// encoded block does not depend on the hash, which is keyed because clients
// choose the values.
type dictionary[T comparable] struct {
	values []T
	index  []uint32 // row → value
	slots  []uint64 // open addressing: high half of the hash, number+1
	mask   uint64
}

// reset empties d for at most rows values.
func (d *dictionary[T]) reset(rows int) {
	size := 1 << bits.Len(uint(2*rows)) // at most half full
	if cap(d.slots) < size {
		d.slots = make([]uint64, size)
	} else {
		d.slots = d.slots[:size]
		clear(d.slots)
	}
	d.mask = uint64(size - 1)
	d.values, d.index = d.values[:0], d.index[:0]
}

// add appends the number of v, whose hash is h, to d.index and reports whether
// v is new.
func (d *dictionary[T]) add(h uint64, v T) bool {
	const high = 0xffffffff << 32
	for i := h & d.mask; ; i = (i + 1) & d.mask {
		s := d.slots[i]
		if s == 0 {
			d.values = append(d.values, v)
			d.slots[i] = h&high | uint64(len(d.values))
			d.index = append(d.index, uint32(len(d.values)-1))
			return true
		}
		if (s^h)&high == 0 {
			if n := uint32(s) - 1; d.values[n] == v {
				d.index = append(d.index, n)
				return false
			}
		}
	}
}
