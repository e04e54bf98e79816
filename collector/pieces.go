package collector

import "bytes"

// Container engines cut long lines, of each stream on its own:
//
//	2025-10-10T11:55:36.1Z stdout P 203.0.113.7 - - [...] "GET /aaaa
//	2025-10-10T11:55:36.2Z stderr F something else
//	2025-10-10T11:55:36.3Z stdout F aaaa HTTP/1.1" 200 5

const (
	streams = 2 // stdout, stderr
	// dockerPiece is how long what Docker logs without a newline must be to be a
	// piece: it cuts at 16 KiB. Others write lines in its form and no newlines.
	dockerPiece = 16000
	// pieceLines is how many lines before a chunk are looked at for pieces of a
	// line that ends in it, and maxOpen how much of those is kept: more than
	// lineLimit even if every byte was escaped.
	pieceLines = 256
	maxOpen    = 8 * lineLimit
)

// piecePlace is the stream that a piece belongs to; more says that it is not
// the last of its line.
type piecePlace struct {
	stream int
	more   bool
}

func streamOf(name []byte) (int, bool) {
	switch string(name) {
	case "stdout":
		return 0, true
	case "stderr":
		return 1, true
	}
	return 0, false
}

// pieces are those of a line that is not complete yet.
type pieces struct {
	line []byte
	open bool
	long bool // more than lineLimit: the line is given up
}

func (p *pieces) add(b []byte) {
	if !p.open {
		p.line, p.open, p.long = p.line[:0], true, false
	}
	if p.long = p.long || len(p.line)+len(b) > lineLimit; !p.long {
		p.line = append(p.line, b...)
	}
}

// end returns the whole line that b ends, which is valid until the next add; ok
// is false when it is too long.
func (p *pieces) end(b []byte) (line []byte, ok bool) {
	if !p.open {
		return b, true
	}
	p.add(b)
	p.open = false
	return p.line, !p.long
}

// carry is Format.Carry: the pieces at the end of data whose lines are not
// complete.
func (k wrapping) carry(before, data []byte) []byte {
	p := wrappedParser{kind: k}
	var closed [streams]bool
	var found [][]byte // backwards
	end, looked := len(data), 0
	for end > 0 && looked < pieceLines && (!closed[0] || !closed[1]) {
		looked++
		from := bytes.LastIndexByte(data[:end-1], '\n') + 1
		line := trimCR(bytes.TrimSuffix(data[from:end], []byte("\n")))
		if _, _, pc, ok := p.unwrap(line); ok && !closed[pc.stream] {
			if pc.more {
				found = append(found, data[from:end])
			} else {
				closed[pc.stream] = true
			}
		}
		end = from
	}
	out := before[:0]
	if end == 0 { // all of data was looked at: lines may be open since before
		eachLine(bytes.Clone(before), func(line []byte, _ int) bool {
			if _, _, pc, ok := p.unwrap(line); ok && !closed[pc.stream] {
				out = append(append(out, line...), '\n')
			}
			return true
		})
	}
	for i := len(found) - 1; i >= 0 && len(out) < maxOpen; i-- {
		if out = append(out, found[i]...); out[len(out)-1] != '\n' {
			out = append(out, '\n')
		}
	}
	return out
}
