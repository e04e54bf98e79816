package pipeline

import "math/bits"

// OwnerFilter is a Bloom filter of the principals (Request.Owner) in a block:
// it may admit one that is not there (about 1 in 100) and never denies one that
// is. The empty filter admits nobody.
type OwnerFilter []byte

const (
	ownerFilterBits   = 10 // per owner: 0.8 % false positives with
	ownerFilterProbes = 7
)

// Admits reports whether owner may be in the block.
func (f OwnerFilter) Admits(owner uint64) bool {
	if len(f) == 0 {
		return false
	}
	step := Mix64(owner, ownerFilterProbes) | 1
	for range ownerFilterProbes {
		bit, _ := bits.Mul64(owner, uint64(len(f))*8)
		if f[bit>>3]&(1<<(bit&7)) == 0 {
			return false
		}
		owner += step
	}
	return true
}

// appendOwnerFilter appends the filter of owners, which are distinct.
func appendOwnerFilter(dst []byte, owners []uint64) OwnerFilter {
	if len(owners) == 0 {
		return dst
	}
	start := len(dst)
	dst = append(dst, make([]byte, max(8, (len(owners)*ownerFilterBits+7)/8))...)
	f := dst[start:]
	for _, owner := range owners {
		step := Mix64(owner, ownerFilterProbes) | 1
		for range ownerFilterProbes {
			bit, _ := bits.Mul64(owner, uint64(len(f))*8)
			f[bit>>3] |= 1 << (bit & 7)
			owner += step
		}
	}
	return dst
}
