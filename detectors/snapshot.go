package detectors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	"weir/pipeline"
)

// A checkpoint of a Set is one chunk per virtual shard, of which only those
// that changed are written, and a head. Stubs, profiles and graves hold no
// pointers and are written as they lie in memory; Layout names that layout, and a
// checkpoint of another one is not read.

// SnapshotHead is the part of a Set's state outside the shards.
type SnapshotHead struct {
	Layout  string `json:"layout"`
	Seq     uint64 `json:"seq"`
	Minute  int64  `json:"minute"`
	Begun   bool   `json:"begun"`
	Noticed string `json:"noticed"`

	Since        int64          `json:"since"` // the first minute
	Count        uint64         `json:"count"` // requests taken
	Reached      pipeline.Place `json:"reached"`
	Floor        int64          `json:"floor"`
	Truths       []Truth        `json:"truths,omitempty"`
	TruthThrough int64          `json:"truth_through"`
}

// ErrLayout says that a checkpoint was written by another version.
var ErrLayout = errors.New("state of another version")

// Layout names how state lies in memory: names, types and places of all fields,
// and the byte order.
func Layout() string {
	return layoutOf(reflect.TypeFor[stub](), reflect.TypeFor[Profile](), reflect.TypeFor[grave](), reflect.TypeFor[past]())
}

// layoutOf names how pointer-free types lie in memory.
func layoutOf(types ...reflect.Type) string {
	var b strings.Builder
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Struct:
			for f := range t.Fields() {
				fmt.Fprintf(&b, "%s@%d:", f.Name, f.Offset)
				walk(f.Type)
			}
		case reflect.Array:
			fmt.Fprintf(&b, "[%d]", t.Len())
			walk(t.Elem())
		default:
			b.WriteString(t.Kind().String())
			b.WriteByte(';')
		}
	}
	for _, t := range types {
		walk(t)
	}
	order := binary.NativeEndian.Uint16([]byte{1, 0})
	fmt.Fprintf(&b, "order %d; shards %d", order, pipeline.Shards)
	return hex64(pipeline.Hash64(b.String()))
}

// Head returns the state outside the shards.
func (s *Set) Head() SnapshotHead {
	return SnapshotHead{
		Layout: Layout(), Seq: s.seq, Minute: s.minute, Begun: s.begun, Noticed: s.noticed,
		Since: s.since, Count: s.count, Reached: s.reached, Floor: int64(s.floor), Truths: s.truth.list, TruthThrough: int64(s.truth.through),
	}
}

// Changed calls f with the number and the state of every shard that changed
// since its last checkpoint (all, if all is set), and counts it as written when f
// returns nil. The bytes are f's.
func (s *Set) Changed(all bool, f func(n uint32, data []byte) error) error {
	return s.changed(0, len(s.shards), all, f)
}

// changed is Changed for the virtual shards [from, to).
func (s *Set) changed(from, to int, all bool, f func(n uint32, data []byte) error) error {
	for n := from; n < to; n++ {
		sh := s.shards[n]
		if sh == nil || !sh.dirty && !all {
			continue
		}
		data, err := sh.encode()
		if err != nil {
			return err
		}
		if err := f(uint32(n), data); err != nil {
			return err
		}
		sh.dirty = false
	}
	return nil
}

// Restore takes over a head and the shards that chunk returns; a nil chunk is a
// shard that was never used. The set must be new, and have all slices.
func (s *Set) Restore(h SnapshotHead, chunk func(n uint32) ([]byte, error)) error {
	if err := s.RestoreHead(h); err != nil {
		return err
	}
	for n := range s.shards {
		if err := s.restoreShard(n, chunk); err != nil {
			return err
		}
	}
	return nil
}

// restoreShard takes over virtual shard n.
func (s *Set) restoreShard(n int, chunk func(n uint32) ([]byte, error)) error {
	data, err := chunk(uint32(n))
	if err != nil || data == nil {
		return err
	}
	w := s.workers[n%len(s.workers)]
	sh := new(shard)
	if err := sh.decode(data, len(s.detectors), &w.arena); err != nil {
		return fmt.Errorf("read shard %d: %w", n, err)
	}
	s.shards[n] = sh
	for _, d := range sh.cases {
		for _, c := range d.Cases {
			if c != nil && c.Changed {
				w.hot[uint16(n)] = 1
			}
		}
	}
	return nil
}

// raw is the memory of a slice of pointer-free values.
func raw[T any](v []T) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

// shardFiles is the part of a shard that holds text.
type shardFiles struct {
	Cases   []*dossier     `json:"cases"`
	Recent  recentAccounts `json:"recent"`
	Touched recentContacts `json:"touched"`
}

// unraw is the inverse of raw; false if data is no whole number of values, or
// more than limit.
func unraw[T any](data []byte, dst *[]T, limit int) bool {
	var one T
	size := int(unsafe.Sizeof(one))
	if len(data)%size != 0 || len(data)/size > limit {
		return false
	}
	if len(data) == 0 {
		return true
	}
	*dst = make([]T, len(data)/size)
	copy(raw(*dst), data)
	return true
}

type shardHead struct {
	Buckets, Profiles, Graves, Cases    uint32
	Pasts                               uint32
	Used, Hand                          uint32
	EvictedStubs, EvictedProfiles, More int64
}

func (sh *shard) encode() ([]byte, error) {
	cases, err := json.Marshal(shardFiles{sh.cases, sh.recent, sh.touched})
	if err != nil {
		return nil, err
	}
	h := shardHead{
		uint32(len(sh.buckets)), uint32(sh.count), uint32(len(sh.graves)), uint32(len(cases)), uint32(len(sh.pasts)),
		uint32(sh.used), uint32(sh.hand), sh.evictedStubs, sh.evictedProfiles, sh.evictedCases,
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		return nil, err
	}
	b.Write(raw(sh.buckets))
	for i := range sh.count {
		b.Write(raw([]Profile{*sh.profile(int32(i))}))
	}
	b.Write(raw(sh.graves))
	b.Write(raw(sh.pasts))
	b.Write(cases)
	return b.Bytes(), nil
}

func (sh *shard) decode(data []byte, detectors int, a *arena) error {
	var h shardHead
	r := bytes.NewReader(data)
	if err := binary.Read(r, binary.LittleEndian, &h); err != nil {
		return err
	}
	if h.Buckets > stubBuckets*stubWays || h.Profiles > maxProfiles || h.Graves > graveSlots || h.Pasts > maxPasts || int(h.Cases) > r.Len() {
		return errors.New("sizes beyond the bounds")
	}
	read := func(dst []byte) error {
		if n, _ := r.Read(dst); n != len(dst) {
			return errors.New("it is cut short")
		}
		return nil
	}
	sh.buckets = make([]stub, h.Buckets)
	sh.count = int(h.Profiles)
	for i := 0; i < sh.count; i += slabProfiles {
		sh.slabs = append(sh.slabs, a.slab())
	}
	if len(sh.buckets) > 0 {
		if err := read(raw(sh.buckets)); err != nil {
			return err
		}
	}
	for i := range sh.count {
		p := sh.profile(int32(i))
		if err := read(unsafe.Slice((*byte)(unsafe.Pointer(p)), int(unsafe.Sizeof(*p)))); err != nil {
			return err
		}
	}
	if h.Graves > 0 {
		sh.graves = make([]grave, h.Graves)
		if err := read(raw(sh.graves)); err != nil {
			return err
		}
	}
	if h.Pasts > 0 {
		sh.pasts = make([]past, h.Pasts)
		if err := read(raw(sh.pasts)); err != nil {
			return err
		}
	}
	cases := make([]byte, h.Cases)
	if len(cases) > 0 {
		if err := read(cases); err != nil {
			return err
		}
	}
	var files shardFiles
	if err := json.Unmarshal(cases, &files); err != nil {
		return err
	}
	sh.cases, sh.recent, sh.touched = files.Cases, files.Recent, files.Touched
	if len(sh.recent.List) > maxRecent || sh.recent.Next < 0 || sh.recent.Next >= maxRecent || !sh.touched.valid() {
		return errors.New("sizes beyond the bounds")
	}
	for _, d := range sh.cases {
		if len(d.Cases) != detectors {
			return ErrLayout
		}
	}
	sh.used, sh.hand = int(h.Used), int(h.Hand)
	sh.evictedStubs, sh.evictedProfiles, sh.evictedCases = h.EvictedStubs, h.EvictedProfiles, h.More
	return nil
}
