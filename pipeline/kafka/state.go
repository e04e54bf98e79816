package kafka

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"
	"go.uber.org/zap"
)

// State is what a slice of a stage keeps in a compacted topic, under keys of its
// name: its owner's claim, chunks, and manifests that say which chunks make a
// checkpoint.
//
//	NAME/claim                       the owner; its offset is the owner's epoch
//	NAME/c/EPOCH/CHUNK/SLOT/PIECE    a piece of a chunk; two slots, used in turn
//	NAME/m/EPOCH/SLOT                a manifest; two slots, used in turn
//
// A checkpoint writes into slots that the one before does not name, and is valid
// once its manifest is there: half of one is never read. Keys bear the epoch, so
// that an owner that is none any more writes beside, not over, what counts; what
// it writes behind the claim of the next one is not read. One goroutine uses a
// State.
type State struct {
	bus       *Bus
	p         *Producer
	name      string
	epoch     int64
	seq       int64
	saved     map[uint32]stateRef // by the last manifest
	refs      map[uint32]stateRef // by the next one
	list      stateRef            // of the list of chunks
	slot      byte                // of the last manifest
	others    []string            // keys of earlier owners, until the first manifest is there
	read      *savedState
	waiting   map[uint32][]byte
	size      int
	put       map[uint32]bool
	partition int
	topic     string
}

// stateRef is where a chunk is and what it must hash to.
type stateRef struct {
	Slot   byte
	Pieces int
	Hash   [16]byte
}

const (
	stateRefSize = 4 + 1 + 2 + 16
	statePiece   = 900 << 10
	stateBatch   = 4 << 20
	// chunkList is the chunk that lists the others, with the caller's head.
	chunkList uint32 = math.MaxUint32
)

// stateRoot is a manifest.
type stateRoot struct {
	Seq    int64  `json:"seq"`
	Slot   byte   `json:"slot"` // of the list
	Pieces int    `json:"pieces"`
	Hash   string `json:"hash"`
}

// savedState is what was read of a checkpoint.
type savedState struct {
	epoch  int64
	head   []byte
	refs   map[uint32]stateRef
	pieces map[string][]byte
}

// OpenState claims the state of name in a partition of topic and reads its newest
// whole checkpoint. Whoever had it before is fenced from here on.
func (b *Bus) OpenState(ctx context.Context, topic string, partition int, name, owner string) (*State, error) {
	s := &State{bus: b, p: b.NewProducer(topic, partition, true), name: name, topic: topic, partition: partition, saved: map[uint32]stateRef{}, waiting: map[uint32][]byte{}, put: map[uint32]bool{}}
	fail := func(err error) (*State, error) {
		s.p.Close()
		return nil, fmt.Errorf("open state %s: %w", name, err)
	}
	var err error
	if s.epoch, err = s.p.Claim(ctx, []byte(name+"/claim"), owner); err != nil {
		return fail(err)
	}
	for tries := 0; ; tries++ {
		var broken error
		if s.read, s.others, broken, err = b.readState(ctx, topic, partition, name, s.epoch); err != nil {
			return fail(err)
		}
		if broken == nil {
			break
		}
		// Compaction may have taken what a manifest names while it was read.
		if tries >= 2 {
			return fail(broken)
		}
		b.log.Warn("no checkpoint of the state is whole, and reads it again", zap.String("state", name), zap.Error(broken))
	}
	return s, nil
}

// Epoch is the owner's: higher than that of all before.
func (s *State) Epoch() int64 { return s.epoch }

// Close lets go of the state; the claim stays until somebody else's.
func (s *State) Close() { s.p.Close() }

// Whole reports that the next checkpoint has to hold every chunk: it is the first
// of this owner.
func (s *State) Whole() bool { return s.seq == 0 }

// Checkpoint is the newest whole one when the state was opened; ok is false
// without one. chunks reads one chunk, nil for one that it does not have; it is
// valid until the next checkpoint begins.
func (s *State) Checkpoint() (head []byte, chunks func(id uint32) ([]byte, error), ok bool) {
	if s.read == nil {
		return nil, nil, false
	}
	read := s.read
	return read.head, func(id uint32) ([]byte, error) {
		ref, ok := read.refs[id]
		if !ok {
			return nil, nil
		}
		return read.chunk(s.name, id, ref)
	}, true
}

// Begin begins the next checkpoint, and forgets one that was not finished.
// Chunks that are not put are taken over from the one before, unless Whole.
func (s *State) Begin() {
	s.read, s.size = nil, 0
	clear(s.put)
	clear(s.waiting)
	s.refs = maps.Clone(s.saved)
}

// Put adds a chunk that changed; nil removes its id. The chunk is s's from now on,
// and an id is put once. With full the caller should Flush.
func (s *State) Put(id uint32, data []byte) (full bool) {
	if s.put[id] || id == chunkList {
		panic(fmt.Sprintf("BUG: chunk %d is in the checkpoint twice", id))
	}
	s.put[id], s.waiting[id] = true, data
	s.size += len(data)
	return s.size >= stateBatch
}

// Flush writes what was put. After an error it may be called again.
func (s *State) Flush(ctx context.Context) error {
	var list []Record
	ids := slices.Sorted(maps.Keys(s.waiting))
	refs := map[uint32]stateRef{}
	for _, id := range ids {
		if data := s.waiting[id]; data != nil {
			ref := stateRef{Hash: xxh3.Hash128(data).Bytes()}
			if old, ok := s.saved[id]; ok {
				ref.Slot = 1 - old.Slot
			}
			list, ref.Pieces = s.pieces(list, id, ref.Slot, data)
			refs[id] = ref
		}
	}
	if _, err := s.p.Append(ctx, list); err != nil {
		return fmt.Errorf("write state %s: %w", s.name, err)
	}
	for _, id := range ids {
		if ref, ok := refs[id]; ok {
			s.refs[id] = ref
		} else {
			delete(s.refs, id)
		}
	}
	clear(s.waiting)
	s.size = 0
	return nil
}

// pieces appends the records of a chunk.
func (s *State) pieces(list []Record, id uint32, slot byte, data []byte) ([]Record, int) {
	n := (len(data) + statePiece - 1) / statePiece // none of an empty one: an empty value would read like a deletion
	for i := range n {
		piece := data[i*statePiece : min((i+1)*statePiece, len(data))]
		list = append(list, Record{Key: chunkKey(s.name, s.epoch, id, slot, i), Value: piece, Epoch: s.epoch})
	}
	return list, n
}

// Finish writes the rest and the manifest, with the caller's head: from then on
// this checkpoint is the newest.
func (s *State) Finish(ctx context.Context, head []byte) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	body := binary.LittleEndian.AppendUint32(nil, uint32(len(s.refs)))
	for _, id := range slices.Sorted(maps.Keys(s.refs)) {
		ref := s.refs[id]
		body = append(binary.LittleEndian.AppendUint32(body, id), ref.Slot)
		body = append(binary.LittleEndian.AppendUint16(body, uint16(ref.Pieces)), ref.Hash[:]...)
	}
	body = append(body, head...)
	ref := stateRef{Slot: 1 - s.list.Slot, Hash: xxh3.Hash128(body).Bytes()}
	var list []Record
	list, ref.Pieces = s.pieces(nil, chunkList, ref.Slot, body)
	root, err := json.Marshal(stateRoot{Seq: s.seq + 1, Slot: ref.Slot, Pieces: ref.Pieces, Hash: hex.EncodeToString(ref.Hash[:])})
	if err != nil {
		return err
	}
	// The manifest comes behind what it names: they are of one producer.
	list = append(list, Record{Key: fmt.Appendf(nil, "%s/m/%d/%d", s.name, s.epoch, 1-s.slot), Value: root, Epoch: s.epoch})
	if _, err := s.p.Append(ctx, list); err != nil {
		return fmt.Errorf("write state %s: %w", s.name, err)
	}
	s.seq, s.list, s.slot = s.seq+1, ref, 1-s.slot
	s.saved = s.refs
	var gone []Record
	for _, key := range s.others {
		gone = append(gone, Record{Key: []byte(key), Epoch: s.epoch})
	}
	for _, id := range slices.Sorted(maps.Keys(s.put)) {
		_, kept := s.refs[id]
		for slot := byte(0); !kept && slot < 2; slot++ {
			gone = append(gone, Record{Key: chunkKey(s.name, s.epoch, id, slot, 0), Epoch: s.epoch})
		}
	}
	if len(gone) > 0 {
		if _, err := s.p.Append(ctx, gone); err != nil {
			return fmt.Errorf("clear state %s: %w", s.name, err)
		}
		s.others = nil
	}
	return nil
}

func chunkKey(name string, epoch int64, id uint32, slot byte, piece int) []byte {
	return fmt.Appendf(nil, "%s/c/%d/%d/%d/%d", name, epoch, id, slot, piece)
}

// readState reads what is before the claim at offset epoch. broken says why none
// of the checkpoints is whole, when there are some.
func (b *Bus) readState(ctx context.Context, topic string, partition int, name string, epoch int64) (best *savedState, keys []string, broken, err error) {
	type manifest struct {
		epoch int64
		root  stateRoot
	}
	pieces := map[string][]byte{}
	roots := map[string]manifest{}
	fence := NoEpoch
	prefix := name + "/"
	err = b.ReadRange(ctx, topic, partition, 0, epoch+1, true, func(r Record) error {
		key, ours := strings.CutPrefix(string(r.Key), prefix)
		switch {
		case !ours:
			return nil
		case r.Claim:
			fence = max(fence, r.Offset)
			return nil
		case r.Epoch < fence:
			return nil // of an owner that was none any more; its keys are its own
		case r.Value == nil:
			delete(pieces, string(r.Key))
			delete(roots, string(r.Key))
			return nil
		case strings.HasPrefix(key, "c/"):
			pieces[string(r.Key)] = r.Value
		case strings.HasPrefix(key, "m/"):
			m := manifest{epoch: r.Epoch}
			if err := json.Unmarshal(r.Value, &m.root); err != nil {
				return fmt.Errorf("manifest at offset %d: %w", r.Offset, err)
			}
			roots[string(r.Key)] = m
		}
		return nil
	})
	if err != nil {
		return nil, nil, nil, err
	}
	keys = append(slices.Sorted(maps.Keys(roots)), slices.Sorted(maps.Keys(pieces))...)
	list := slices.SortedFunc(maps.Values(roots), func(x, y manifest) int {
		if x.epoch != y.epoch {
			return int(min(1, max(-1, y.epoch-x.epoch)))
		}
		return int(min(1, max(-1, y.root.Seq-x.root.Seq)))
	})
	var errs []error
	for _, m := range list {
		saved, err := openSaved(name, m.epoch, m.root, pieces)
		if err == nil {
			return saved, keys, nil, nil
		}
		errs = append(errs, err)
	}
	return nil, keys, errors.Join(errs...), nil
}

// openSaved reads a manifest's list, and looks at every chunk that it names.
func openSaved(name string, epoch int64, root stateRoot, pieces map[string][]byte) (*savedState, error) {
	bad := func(err error) (*savedState, error) {
		return nil, fmt.Errorf("checkpoint %d of epoch %d: %w", root.Seq, epoch, err)
	}
	s := &savedState{epoch: epoch, refs: map[uint32]stateRef{}, pieces: pieces}
	ref := stateRef{Slot: root.Slot, Pieces: root.Pieces}
	hash, err := hex.DecodeString(root.Hash)
	if err != nil || len(hash) != len(ref.Hash) {
		return bad(errors.New("its manifest has no hash"))
	}
	copy(ref.Hash[:], hash)
	body, err := s.chunk(name, chunkList, ref)
	if err != nil {
		return bad(err)
	}
	if len(body) < 4 || len(body[4:])/stateRefSize < int(binary.LittleEndian.Uint32(body)) {
		return bad(errors.New("its list of chunks is cut"))
	}
	n := binary.LittleEndian.Uint32(body)
	body = body[4:]
	for range n {
		id := binary.LittleEndian.Uint32(body)
		r := stateRef{Slot: body[4], Pieces: int(binary.LittleEndian.Uint16(body[5:]))}
		copy(r.Hash[:], body[7:])
		body = body[stateRefSize:]
		if _, err := s.chunk(name, id, r); err != nil {
			return bad(err)
		}
		s.refs[id] = r
	}
	s.head = body
	return s, nil
}

// chunk joins the pieces of a chunk.
func (s *savedState) chunk(name string, id uint32, ref stateRef) ([]byte, error) {
	data := []byte{}
	for i := range ref.Pieces {
		piece, ok := s.pieces[string(chunkKey(name, s.epoch, id, ref.Slot, i))]
		if !ok {
			return nil, fmt.Errorf("piece %d of chunk %s is missing", i, strconv.FormatUint(uint64(id), 10))
		}
		if ref.Pieces == 1 {
			data = piece
		} else {
			data = append(data, piece...)
		}
	}
	if hash := xxh3.Hash128(data).Bytes(); hash != ref.Hash {
		return nil, fmt.Errorf("chunk %d is not what the manifest names", id)
	}
	return data, nil
}
