package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
)

// learnerState is the version of the encoded state.
const learnerState = 1

// AppendState appends the learner's state for a checkpoint. Learners that have
// seen the same requests, in any order, append the same bytes.
func (l *TemplateLearner) AppendState(dst []byte) []byte {
	dst = append(dst, learnerState, byte(l.level))
	dst = binary.AppendUvarint(dst, uint64(len(l.paths)))
	keys := slices.Sorted(maps.Keys(l.paths))
	index := make(map[uint64]uint64, len(keys))
	for i, key := range keys {
		index[key] = uint64(i)
		p := l.paths[key]
		for _, s := range [...]string{p.host, p.text} {
			dst = binary.AppendUvarint(dst, uint64(len(s)))
			dst = append(dst, s...)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(l.clients)))
	for _, id := range slices.Sorted(maps.Keys(l.clients)) {
		c := l.clients[id]
		dst = binary.BigEndian.AppendUint64(dst, id)
		dst = binary.AppendUvarint(dst, uint64(len(c.pairs)))
		for _, p := range c.pairs {
			dst = binary.AppendUvarint(dst, index[p.path])
			dst = binary.AppendUvarint(dst, uint64(p.hits))
			dst = append(dst, byte(p.flags))
		}
	}
	return dst
}

// ReadTemplateLearner reads what AppendState wrote. It keeps no reference to b.
func ReadTemplateLearner(b []byte) (*TemplateLearner, error) {
	r := learnerReader{b: b}
	l := NewTemplateLearner()
	if v := r.byte(); v != learnerState {
		return nil, fmt.Errorf("read template learner: state version %d, want %d", v, learnerState)
	}
	l.level = int(r.byte())
	var keys []uint64
	for range r.count(2) {
		p := &learnedPath{host: string(r.bytes(maxHost)), text: string(r.bytes(maxTemplateText))}
		key := Mix64(Hash64(p.host), Hash64(p.text))
		if r.bad || l.paths[key] != nil || checkTemplate(p.text) != nil {
			return nil, errors.New("read template learner: damaged paths")
		}
		l.paths[key] = p
		keys = append(keys, key)
	}
	for range r.count(9) {
		id := r.uint64()
		c := &learnedClient{}
		n := r.count(3)
		if r.bad || n > maxClientPaths || l.clients[id] != nil || bits.LeadingZeros64(id) < l.level {
			return nil, errors.New("read template learner: damaged clients")
		}
		l.clients[id] = c
		for range n {
			at := r.uvarint()
			p := learnedPair{hits: uint32(min(r.uvarint(), 1<<32-1)), flags: learnedFlags(r.byte())}
			if r.bad || at >= uint64(len(keys)) {
				return nil, errors.New("read template learner: damaged pairs")
			}
			p.path = keys[at]
			if !l.count(c, p) {
				return nil, errors.New("read template learner: a pair is listed twice")
			}
			l.paths[p.path].clients++
		}
	}
	if r.bad || len(r.b) > 0 || l.pairs > l.limit || slices.ContainsFunc(slices.Collect(maps.Values(l.paths)), func(p *learnedPath) bool { return p.clients == 0 }) {
		return nil, errors.New("read template learner: damaged state")
	}
	return l, nil
}

// learnerReader takes fields off b; bad once one was missing.
type learnerReader struct {
	b   []byte
	bad bool
}

func (r *learnerReader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *learnerReader) uint64() uint64 {
	if len(r.b) < 8 {
		r.bad = true
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *learnerReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many entries follow, each of at least size bytes.
func (r *learnerReader) count(size int) int {
	v := r.uvarint()
	if v > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(v)
}

func (r *learnerReader) bytes(limit int) []byte {
	n := r.count(1)
	if n > limit {
		r.bad, n = true, 0
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}
