package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/zeebo/xxh3"
)

// chunkRef is where a checkpoint's chunk is and what it must hash to.
type chunkRef struct {
	slot byte
	hash [16]byte
}

const chunkRefSize = 4 + 1 + 16

// checkpointBatch bounds the chunks of one transaction, so that a large
// checkpoint does not keep other writers waiting.
const checkpointBatch = 4 << 20

// WriteCheckpoint stores a checkpoint: manifest is the caller's, chunks are
// those that changed since the checkpoint before; the others are taken over
// from it. A nil chunk removes its id. generation must be higher than the
// stored one's, else the caller is not the owner any more.
//
// Chunks are written in several transactions into the slots that the checkpoint
// before does not use; the last one makes the new checkpoint the valid one.
// After an error or a crash the one before is intact.
func (db *DB) WriteCheckpoint(ctx context.Context, generation int64, manifest []byte, chunks map[uint32][]byte) error {
	db.checkpointing.Lock()
	defer db.checkpointing.Unlock()
	refs := make(map[uint32]chunkRef)
	var stored int64
	err := db.writeFirst(ctx, "write checkpoint", func(t *tx) error {
		var list []byte
		ok, err := t.row("SELECT generation, chunks FROM checkpoint_manifest", nil, &stored, &list)
		if err != nil || !ok {
			return err
		}
		if generation <= stored {
			return fmt.Errorf("generation %d where %d is stored: another process owns this state", generation, stored)
		}
		return decodeRefs(list, refs)
	})
	if err != nil {
		return err
	}
	ids := slices.Sorted(maps.Keys(chunks))
	for len(ids) > 0 {
		n, size := 0, 0
		for n < len(ids) && (n == 0 || size < checkpointBatch) {
			size += len(chunks[ids[n]])
			n++
		}
		batch := ids[:n]
		ids = ids[n:]
		err := db.writeFirst(ctx, "write checkpoint", func(t *tx) error { return t.putChunks(batch, chunks, refs) })
		if err != nil {
			return err
		}
		for _, id := range batch {
			data := chunks[id]
			if data == nil {
				delete(refs, id)
				continue
			}
			ref := chunkRef{hash: xxh3.Hash128(data).Bytes()}
			if old, ok := refs[id]; ok {
				ref.slot = 1 - old.slot
			}
			refs[id] = ref
		}
	}
	return db.writeFirst(ctx, "write checkpoint", func(t *tx) error {
		_, _, err := t.exec("INSERT OR REPLACE INTO checkpoint_manifest (one, generation, manifest, chunks) VALUES (1, ?, ?, ?)",
			generation, nonNil(manifest), encodeRefs(refs))
		if err != nil {
			return err
		}
		for id, data := range chunks {
			if data == nil {
				if _, _, err := t.exec("DELETE FROM checkpoint_chunks WHERE id = ?", int64(id)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// putChunks writes each chunk into the slot that refs do not name.
func (t *tx) putChunks(ids []uint32, chunks map[uint32][]byte, refs map[uint32]chunkRef) error {
	for _, id := range ids {
		data := chunks[id]
		if data == nil {
			continue
		}
		slot := byte(0)
		if old, ok := refs[id]; ok {
			slot = 1 - old.slot
		}
		hash := xxh3.Hash128(data).Bytes()
		_, _, err := t.exec("INSERT OR REPLACE INTO checkpoint_chunks (id, slot, hash, data) VALUES (?, ?, ?, ?)",
			int64(id), int64(slot), hash[:], data)
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadCheckpoint returns the last checkpoint that was written whole; ok is
// false without one. chunks reads one chunk by its id, nil for one that the
// checkpoint does not have, and fails for one that is not what was written; it
// is valid until the next WriteCheckpoint.
func (db *DB) ReadCheckpoint(ctx context.Context) (manifest []byte, chunks func(id uint32) ([]byte, error), ok bool, err error) {
	var list []byte
	err = db.readers.QueryRowContext(ctx, "SELECT manifest, chunks FROM checkpoint_manifest").
		Scan(&manifest, &list)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil, false, nil
	}
	refs := make(map[uint32]chunkRef)
	if err == nil {
		err = decodeRefs(list, refs)
	}
	if err != nil {
		return nil, nil, false, fmt.Errorf("read checkpoint: %w", db.wrap(err))
	}
	return manifest, func(id uint32) ([]byte, error) {
		ref, ok := refs[id]
		if !ok {
			return nil, nil
		}
		var data []byte
		err := db.readers.QueryRowContext(ctx, "SELECT data FROM checkpoint_chunks WHERE id = ? AND slot = ?", int64(id), int64(ref.slot)).
			Scan(&data)
		if err != nil {
			return nil, fmt.Errorf("read checkpoint chunk %d: %w", id, db.wrap(err))
		}
		if hash := xxh3.Hash128(data).Bytes(); !bytes.Equal(hash[:], ref.hash[:]) {
			return nil, fmt.Errorf("read checkpoint chunk %d: not what the checkpoint's manifest names: start without a checkpoint", id)
		}
		return nonNil(data), nil
	}, true, nil
}

func encodeRefs(refs map[uint32]chunkRef) []byte {
	list := make([]byte, 0, len(refs)*chunkRefSize)
	for _, id := range slices.Sorted(maps.Keys(refs)) {
		list = binary.LittleEndian.AppendUint32(list, id)
		list = append(list, refs[id].slot)
		hash := refs[id].hash
		list = append(list, hash[:]...)
	}
	return list
}

func decodeRefs(list []byte, refs map[uint32]chunkRef) error {
	if len(list)%chunkRefSize != 0 {
		return fmt.Errorf("checkpoint manifest: list of %d bytes", len(list))
	}
	for ; len(list) > 0; list = list[chunkRefSize:] {
		refs[binary.LittleEndian.Uint32(list)] = chunkRef{list[4] & 1, [16]byte(list[5:chunkRefSize])}
	}
	return nil
}
