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

// Checkpoint is one that is being written: Put and Flush as often as it takes,
// then Finish. Until Finish returns nil the one before is the valid one; after an
// error or a crash it is intact. Chunks that are not put are taken over from it.
// One goroutine uses a Checkpoint; Close ends it, whatever happened.
type Checkpoint struct {
	db         *DB
	generation int64
	refs       map[uint32]chunkRef
	put        map[uint32]bool   // by now
	waiting    map[uint32][]byte // not written yet
	size       int               // of waiting
	closed     bool
}

// BeginCheckpoint begins the next checkpoint, once the one that is being written
// is closed. generation must be higher than the stored one's, else the caller is
// not the owner any more.
func (db *DB) BeginCheckpoint(ctx context.Context, generation int64) (*Checkpoint, error) {
	db.checkpointing.Lock()
	c := &Checkpoint{db: db, generation: generation, refs: map[uint32]chunkRef{}, put: map[uint32]bool{}, waiting: map[uint32][]byte{}}
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
		return decodeRefs(list, c.refs)
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Put adds a chunk that changed; nil removes its id. The chunk is c's from now
// on, and an id is put once. With full the caller should Flush.
func (c *Checkpoint) Put(id uint32, data []byte) (full bool) {
	if c.put[id] {
		panic(fmt.Sprintf("BUG: chunk %d is in the checkpoint twice", id))
	}
	c.put[id], c.waiting[id] = true, data
	c.size += len(data)
	return c.size >= checkpointBatch
}

// Flush writes what was put, into slots that the checkpoint before does not use.
// After an error, such as storage.ErrFull, it may be called again.
func (c *Checkpoint) Flush(ctx context.Context) error {
	ids := slices.Sorted(maps.Keys(c.waiting))
	if len(ids) == 0 {
		return nil
	}
	err := c.db.writeFirst(ctx, "write checkpoint", func(t *tx) error { return t.putChunks(ids, c.waiting, c.refs) })
	if err != nil {
		return err
	}
	for _, id := range ids {
		data := c.waiting[id]
		if data == nil {
			delete(c.refs, id) // Finish removes its rows
			continue
		}
		ref := chunkRef{hash: xxh3.Hash128(data).Bytes()}
		if old, ok := c.refs[id]; ok {
			ref.slot = 1 - old.slot
		}
		c.refs[id] = ref
	}
	clear(c.waiting)
	c.size = 0
	return nil
}

// Finish writes the rest, and makes this checkpoint the valid one. manifest is
// the caller's. After an error it may be called again.
func (c *Checkpoint) Finish(ctx context.Context, manifest []byte) error {
	if err := c.Flush(ctx); err != nil {
		return err
	}
	return c.db.writeFirst(ctx, "write checkpoint", func(t *tx) error {
		_, _, err := t.exec("INSERT OR REPLACE INTO checkpoint_manifest (one, generation, manifest, chunks) VALUES (1, ?, ?, ?)",
			c.generation, nonNil(manifest), encodeRefs(c.refs))
		if err != nil {
			return err
		}
		for id := range c.put {
			if _, kept := c.refs[id]; kept {
				continue
			}
			if _, _, err := t.exec("DELETE FROM checkpoint_chunks WHERE id = ?", int64(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close ends the checkpoint; again it does nothing.
func (c *Checkpoint) Close() {
	if !c.closed {
		c.closed = true
		c.db.checkpointing.Unlock()
	}
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
// is valid until the next checkpoint.
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
