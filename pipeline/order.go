package pipeline

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Place is where something stands in the one total order of what is detected:
// requests, the findings and signals they cause, and what the end of a minute
// brings. Places are functions of the input alone, so that every process that
// takes part of the work gives the same thing the same place; what comes from
// several processes is put in order by them. They compare as bytes, as Compare
// does; the zero Place is before all others.
//
//	time 8 · phase 1 · then, big-endian, at the end of a minute, in this order,
//	notice
//	tick        case's last event 8 · ID 8 · detector 1         of detect
//	cross tick  virtual shard 2 · junction 1 · ordinal 2        of correlate
//	reached     nothing 8, and, of a control, what follows an end
//	and of requests
//	request     number 8, and
//	            0 · detector 1 · ID 8                           a finding of detect's
//	            1 · signal 2 · depth 1 · steps 8                a signal, and what it causes
//	            ff                                              its end, and
//	              offset 8 · back 4                             a control behind it
type Place [32]byte

// The phases of one time.
const (
	phaseNotice byte = 1 + iota
	phaseTick
	phaseCross
	phaseReached
	phaseRequest
)

const (
	placeTail = 17 // where that of a request begins
	// placeEnd is where the tail of a control begins: behind the byte of an end.
	placeEnd = placeTail + 1
	// MaxDepth is how often a signal may be sent on: objects to templates to
	// principals.
	MaxDepth = 3
)

func placeAt(at Time, phase byte) (p Place) {
	binary.BigEndian.PutUint64(p[:], uint64(at)^1<<63)
	p[8] = phase
	return p
}

// PlaceOfRequest is the place of a request by its effective time and how many came
// before it. What it causes comes behind it, up to its End. One that is earlier
// than event time was said to be has its place there, since minutes may have ended.
func PlaceOfRequest(at Time, number uint64) Place {
	p := placeAt(at, phaseRequest)
	binary.BigEndian.PutUint64(p[9:], number)
	return p
}

// PlaceOfNotice is the place of what the minute that ends at at says of the input.
func PlaceOfNotice(at Time) Place { return placeAt(at, phaseNotice) }

// PlaceOfTick is the place of a case that says at the end of a minute that it
// moved: by the case's last event, its ID and the number of its detector.
func PlaceOfTick(at, last Time, id string, detector int) Place {
	p := placeAt(at, phaseTick)
	binary.BigEndian.PutUint64(p[9:], uint64(last)^1<<63)
	binary.BigEndian.PutUint64(p[17:], idNumber(id))
	p[25] = byte(detector)
	return p
}

// PlaceOfCrossTick is the place of the first of what a table of correlate says at
// the end of a minute; see Emit.
func PlaceOfCrossTick(at Time, shard uint16, junction int) Place {
	p := placeAt(at, phaseCross)
	binary.BigEndian.PutUint16(p[9:], shard)
	p[11] = byte(junction)
	return p
}

// PlaceReached is behind all that happens before at and at the end of the minute
// that ends there, and before every request at at.
func PlaceReached(at Time) Place { return placeAt(at, phaseReached) }

// Time is the event time of the place: the request's, or the end of the minute.
func (p Place) Time() Time { return Time(binary.BigEndian.Uint64(p[:]) ^ 1<<63) }

// Through is the latest time of which p says, as the place up to which all is
// done, that the minute which ends there has ended; NoTime for none.
func (p Place) Through() Time {
	if t := p.Time(); t == NoTime || p[8] >= phaseReached {
		return t
	}
	return p.Time() - 1
}

// Compare returns -1, 0 or 1 as p is before q, q, or behind it.
func (p Place) Compare(q Place) int {
	for i := 0; i < len(p); i += 8 {
		a, b := binary.BigEndian.Uint64(p[i:]), binary.BigEndian.Uint64(q[i:])
		if a != b {
			if a < b {
				return -1
			}
			return 1
		}
	}
	return 0
}

// Before reports whether p is before q.
func (p Place) Before(q Place) bool { return p.Compare(q) < 0 }

// End is behind everything that the request at p causes, and before the next one.
func (p Place) End() Place {
	clear(p[placeTail:])
	p[placeTail] = 0xff
	return p
}

// Control is the place of a control of the sequence that is met when everything up
// to p is done, and nothing behind it: p is the zero Place, an End, what PlaceReached
// gives, or a control's place. The control's record, or its parts, are from offset
// first to offset last; those of later ones are higher.
func (p Place) Control(first, last int64) Place {
	binary.BigEndian.PutUint64(p[placeEnd:], uint64(last)+1)
	binary.BigEndian.PutUint32(p[placeEnd+8:], uint32(last-first))
	return p
}

// Offsets are those that were given to Control.
func (p Place) Offsets() (first, last int64) {
	last = int64(binary.BigEndian.Uint64(p[placeEnd:])) - 1
	return last - int64(binary.BigEndian.Uint32(p[placeEnd+8:])), last
}

// Finding is the place of a finding of detect's that the request at p causes.
func (p Place) Finding(detector int, id string) Place {
	p[placeTail+1] = byte(detector)
	binary.BigEndian.PutUint64(p[placeTail+2:], idNumber(id))
	return p
}

// Signal is the place of a signal that the request at p causes, by its number
// among them.
func (p Place) Signal(index uint16) Place {
	p[placeTail] = 1
	binary.BigEndian.PutUint16(p[placeTail+1:], index)
	return p
}

// Depth is how often the signal at p was sent on.
func (p Place) Depth() int { return int(p[placeTail+3]) }

// Sent is the place of what is sent on as the nth because of the signal at p, which
// must not be MaxDepth deep.
func (p Place) Sent(n int) Place {
	p = p.step(n)
	p[placeTail+3]++
	return p
}

// Emit is the place of the nth finding because of the signal at p, or of what is
// told at the end of a minute.
func (p Place) Emit(n int) Place {
	if p[8] == phaseCross {
		binary.BigEndian.PutUint16(p[12:], uint16(n))
		return p
	}
	return p.step(n)
}

func (p Place) step(n int) Place {
	binary.BigEndian.PutUint16(p[placeTail+4+2*min(p.Depth(), MaxDepth):], uint16(min(n+1, 1<<16-1)))
	return p
}

// idNumber is the first 64 bits of a finding's ID.
func idNumber(id string) uint64 {
	n, _ := strconv.ParseUint(id[:min(len(id), 16)], 16, 64) // what is no number sorts first
	return n
}

// MarshalText writes p as hexadecimal digits.
func (p Place) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, p[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (p *Place) UnmarshalText(b []byte) error {
	if len(b) != 2*len(p) {
		return fmt.Errorf("a place of %d digits", len(b))
	}
	_, err := hex.Decode(p[:], b)
	return err
}

// String shows p to people.
func (p Place) String() string {
	t, err := p.Time().MarshalText()
	if p == (Place{}) || err != nil {
		return "the start"
	}
	return fmt.Sprintf("%s/%x", t, p[8:])
}

// SliceOf is the slice of a virtual shard when all are dealt to n slices, as evenly
// as can be: a run of shards each. n is from 1 to Shards.
func SliceOf(shard uint16, n int) int { return int(shard) * n / Shards }

// SliceShards returns the virtual shards [from, to) of slice i of n.
func SliceShards(i, n int) (from, to int) {
	return (i*Shards + n - 1) / n, ((i+1)*Shards + n - 1) / n
}
