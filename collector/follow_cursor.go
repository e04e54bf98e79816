package collector

import (
	"encoding/binary"
	"errors"
	"math"

	"weir/pipeline"
)

// fingerprintBytes is how much of a file's beginning identifies it.
const fingerprintBytes = 1 << 10

// fileID is what the system knows a file by; the zero value is unknown.
type fileID struct{ dev, ino uint64 }

// cursor is where a Follower resumes: the file it was in, how to recognise that
// file under another name, and how far it had come.
type cursor struct {
	id         fileID
	print      uint64 // of the first printBytes bytes
	printBytes int64  // at most offset and fingerprintBytes
	offset     int64  // in the file, uncompressed
	lines      int64  // of the file before offset
	base       int64  // source position of the file's first byte
	generation int64  // how many files came before
	history    int64  // source position up to which lines were there at the very start
}

const cursorVersion = 1

var errCursor = errors.New("it is not a cursor of this version of weir; remove it to read the file from its beginning")

// append encodes c.
func (c *cursor) append(dst []byte) []byte {
	dst = append(dst, cursorVersion)
	dst = binary.LittleEndian.AppendUint64(dst, c.print)
	for _, v := range [...]uint64{c.id.dev, c.id.ino, uint64(c.printBytes), uint64(c.offset), uint64(c.lines), uint64(c.base), uint64(c.generation), uint64(c.history)} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// decode reads what append wrote.
func (c *cursor) decode(b []byte) error {
	if len(b) < 9 || b[0] != cursorVersion {
		return errCursor
	}
	c.print = binary.LittleEndian.Uint64(b[1:])
	b = b[9:]
	var v [8]uint64
	for i := range v {
		x, n := binary.Uvarint(b)
		if n <= 0 || i >= 2 && x > math.MaxInt64/2 {
			return errCursor
		}
		v[i], b = x, b[n:]
	}
	c.id = fileID{v[0], v[1]}
	c.printBytes, c.offset, c.lines = int64(v[2]), int64(v[3]), int64(v[4])
	c.base, c.generation, c.history = int64(v[5]), int64(v[6]), int64(v[7])
	if len(b) > 0 || c.printBytes > min(c.offset, fingerprintBytes) {
		return errCursor
	}
	return nil
}

// fingerprint is the hash of a file's first bytes.
func fingerprint(head []byte) uint64 { return pipeline.Hash64(string(head)) }
