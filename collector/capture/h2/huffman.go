package h2

// The Huffman code of RFC 7541, appendix B, is canonical: the lengths say all.

const (
	huffmanSymbols = 256
	huffmanTables  = 24 // more than the code needs at 8 bits a step; checked below
	huffmanEOS     = 30 // bits of the end-of-string symbol, all ones
)

var huffmanLength = [huffmanSymbols]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

// huffmanStep is what the next eight bits mean: a symbol of some of them, or
// another table that all of them lead to. Neither: no code begins so.
type huffmanStep struct {
	symbol byte
	bits   uint8 // of the eight that the symbol takes; 0 if it is no symbol
	table  uint8 // 0 if there is none
}

var huffman = func() (tables [huffmanTables][256]huffmanStep) {
	used := 1
	code := uint32(0)
	for bits := uint8(5); bits <= huffmanEOS; bits++ {
		for symbol, n := range huffmanLength {
			if n != bits {
				continue
			}
			// Walk down by whole bytes, then fill all the slots that begin with
			// the rest.
			at, left := 0, bits
			for left > 8 {
				step := &tables[at][byte(code>>(left-8))]
				if step.table == 0 {
					step.table = uint8(used)
					used++
				}
				at, left = int(step.table), left-8
			}
			first := byte(code << (8 - left))
			for i := range 1 << (8 - left) {
				tables[at][first+byte(i)] = huffmanStep{symbol: byte(symbol), bits: left}
			}
			code++
		}
		code <<= 1
	}
	return tables
}()

// appendHuffman decodes src behind dst, at most limit bytes of it; ok is false
// if src is no code or decodes to more.
func appendHuffman(dst, src []byte, limit int) (out []byte, ok bool) {
	var bits uint64
	var n uint8 // bits that are not used yet
	table := uint8(0)
	open := uint8(0) // bits that led to table
	end := len(dst) + limit
	for _, b := range src {
		bits, n = bits<<8|uint64(b), n+8
		for n >= 8 {
			step := huffman[table][byte(bits>>(n-8))]
			switch {
			case step.bits > 0:
				if len(dst) == end {
					return dst, false
				}
				dst = append(dst, step.symbol)
				n -= step.bits
				table, open = 0, 0
			case step.table > 0:
				n -= 8
				table, open = step.table, open+8
			default:
				return dst, false
			}
		}
	}
	for n > 0 {
		step := huffman[table][byte(bits<<(8-n))]
		if step.bits == 0 || step.bits > n {
			break
		}
		if len(dst) == end {
			return dst, false
		}
		dst = append(dst, step.symbol)
		n -= step.bits
		table, open = 0, 0
	}
	// What is left is padding: fewer than eight ones.
	if open > 0 || n > 7 || byte(bits)|byte(0xff<<n) != 0xff {
		return dst, false
	}
	return dst, true
}
