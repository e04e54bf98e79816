package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"weir/pipeline"
	"weir/storage"
)

// appendBuffer is the memory of one AppendBlocks.
type appendBuffer struct {
	data    []byte
	ends    []int // of the encoded blocks in data
	minutes map[minuteKey]minuteSum
}

type minuteKey struct {
	minute int64
	source uint64
	class  uint16
}

type minuteSum struct{ requests, bytes int64 }

// AppendBlocks stores blocks at the end of the requests log, together with the
// sources' cursors and the rollups: all or none, durable when it returns nil.
// It returns the positions of the first and last block it stored, 0 and 0 for
// none.
//
// A block must continue what is stored of its source. One that is stored
// already is skipped and counted; one that leaves a gap or overlaps fails the
// call with a *storage.GapError. A block without requests moves its source's
// cursor; it takes a position only for a watermark or a cause range, so that a
// reader sees each source's ranges join. On a full disk the error wraps
// storage.ErrFull.
func (db *DB) AppendBlocks(ctx context.Context, blocks []*pipeline.Block) (first, last int64, err error) {
	buf, _ := db.buffers.Get().(*appendBuffer)
	if buf == nil {
		buf = &appendBuffer{minutes: make(map[minuteKey]minuteSum)}
	}
	defer db.buffers.Put(buf)
	buf.data, buf.ends = buf.data[:0], buf.ends[:0]
	for _, b := range blocks {
		if len(b.Requests) > 0 && b.Cause.From >= b.Cause.To {
			return 0, 0, fmt.Errorf("append block of %s: %d requests from the empty range [%d, %d)",
				b.Source, len(b.Requests), b.Cause.From, b.Cause.To)
		}
		if buf.data, err = db.codec.AppendBlock(buf.data, b); err != nil {
			return 0, 0, err
		}
		buf.ends = append(buf.ends, len(buf.data))
	}
	err = db.write(ctx, "append blocks", func(t *tx) error {
		first, last = 0, 0
		clear(buf.minutes)
		skipped, start := int64(0), 0
		for i, b := range blocks {
			payload := buf.data[start:buf.ends[i]]
			start = buf.ends[i]
			position, fresh, err := t.appendBlock(b, payload)
			if err != nil {
				return err
			}
			if !fresh {
				skipped++
				continue
			}
			if position != 0 {
				last = position
				if first == 0 {
					first = position
				}
			}
			buf.addMinutes(b)
		}
		if err := t.count("skipped", skipped); err != nil {
			return err
		}
		return t.putMinutes(buf.minutes)
	})
	if err != nil {
		return 0, 0, err
	}
	if last != 0 {
		db.advance(last, 0)
	}
	return first, last, nil
}

// appendBlock stores one block; fresh is false for one stored before, position
// 0 for one that moves the cursor only.
func (t *tx) appendBlock(b *pipeline.Block, payload []byte) (position int64, fresh bool, err error) {
	id := int64(b.SourceID)
	var stored int64
	known, err := t.row("SELECT cause_to FROM source_cursors WHERE source_id = ?", []any{id}, &stored)
	if err != nil {
		return 0, false, err
	}
	if known && b.Cause.From != stored {
		if b.Cause.To <= stored {
			return 0, false, nil
		}
		return 0, false, &storage.GapError{Source: b.Source, Stored: stored, Got: b.Cause}
	}
	if len(b.Requests) > 0 || b.Watermark != pipeline.NoTime || b.Cause.From < b.Cause.To {
		var h pipeline.BlockHeader
		if err := pipeline.DecodeHeader(payload, &h); err != nil {
			return 0, false, err
		}
		if h.Rows == 0 {
			h.MinTime, h.MaxTime = h.Watermark, h.Watermark
		}
		_, position, err = t.exec(`INSERT INTO request_blocks
			(control, source_id, cause_from, cause_to, min_time, max_time, rows, bloom, payload)
			VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)`,
			id, b.Cause.From, b.Cause.To, int64(h.MinTime), int64(h.MaxTime), h.Rows, []byte(h.Owners), payload)
		if err != nil {
			return 0, false, err
		}
	}
	var rejected int64
	for _, n := range b.Rejects.Reason {
		rejected += n
	}
	_, _, err = t.exec(`INSERT INTO source_cursors
		(source_id, source, cause_from, cause_to, cursor, requests, lines, rejected) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET source = excluded.source, cause_to = excluded.cause_to, cursor = excluded.cursor,
		requests = requests + excluded.requests, lines = lines + excluded.lines, rejected = rejected + excluded.rejected`,
		id, b.Source, b.Cause.From, b.Cause.To, b.Cursor, len(b.Requests), b.Rejects.Lines, rejected)
	if err == nil && b.Receipt != nil {
		err = t.putReceipt(id, b.Receipt)
	}
	return position, true, err
}

// addMinutes counts b's requests by minute and class.
func (buf *appendBuffer) addMinutes(b *pipeline.Block) {
	var key minuteKey
	var sum minuteSum
	for i := range b.Requests {
		r := &b.Requests[i]
		k := minuteKey{minuteOf(r.Time), b.SourceID, min(r.Status/100, 9)}
		if k != key {
			buf.minutes[key] = sum
			key, sum = k, buf.minutes[k]
		}
		sum.requests++
		sum.bytes += max(r.Bytes, 0)
	}
	buf.minutes[key] = sum
}

const minuteSize = 60_000_000 // microseconds

// minuteOf rounds down, before 1970 too.
func minuteOf(t pipeline.Time) int64 {
	m := int64(t) / minuteSize
	if int64(t)%minuteSize < 0 {
		m--
	}
	return m
}

func (t *tx) putMinutes(minutes map[minuteKey]minuteSum) error {
	for k, v := range minutes {
		if v.requests == 0 {
			continue
		}
		_, _, err := t.exec(`INSERT INTO request_minutes (minute, source_id, status_class, requests, bytes) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, bytes = bytes + excluded.bytes`,
			k.minute, int64(k.source), k.class, v.requests, v.bytes)
		if err != nil {
			return err
		}
	}
	return nil
}

// AppendControl stores c at the end of the requests log and returns its
// position.
func (db *DB) AppendControl(ctx context.Context, c pipeline.Control) (position int64, err error) {
	err = db.writeFirst(ctx, "append control record", func(t *tx) error {
		position, err = t.appendControl(c)
		return err
	})
	if err != nil {
		return 0, err
	}
	db.advance(position, 0)
	return position, nil
}

func (t *tx) appendControl(c pipeline.Control) (int64, error) {
	if c.Kind == "" {
		return 0, errors.New("control record without a kind")
	}
	_, position, err := t.exec(`INSERT INTO request_blocks
		(control, source_id, cause_from, cause_to, min_time, max_time, rows, bloom, payload)
		VALUES (?, 0, 0, 0, ?, ?, 0, NULL, ?)`, c.Kind, int64(pipeline.NoTime), int64(pipeline.NoTime), nonNil(c.Payload))
	return position, err
}

// LastControl returns the last control record of a kind in the log, which retention
// keeps; ok is false where there is none.
func (db *DB) LastControl(ctx context.Context, kind string) (payload []byte, ok bool, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT payload FROM request_blocks WHERE max_time = ? AND control = ? ORDER BY position DESC LIMIT 1", int64(pipeline.NoTime), kind).
		Scan(&payload)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read control record: %w", db.wrap(err))
	}
	return payload, true, nil
}

// SourceCursor returns what the source needs to resume and the range of it that
// is stored; ok is false for a source never seen.
func (db *DB) SourceCursor(ctx context.Context, id uint64) (cursor []byte, cause pipeline.CauseRange, ok bool, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT cursor, cause_from, cause_to FROM source_cursors WHERE source_id = ?", int64(id)).
		Scan(&cursor, &cause.From, &cause.To)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, cause, false, nil
	}
	if err != nil {
		return nil, cause, false, fmt.Errorf("read source cursor: %w", db.wrap(err))
	}
	return cursor, cause, true, nil
}

// readBytes bounds what one ReadRecords takes from the file, compressed.
const readBytes = 16 << 20

// ReadRecords returns up to max records from position from on, in order, fewer
// where they are large, none at the end of the log. Positions that retention
// removed are left out. The caller owns the records.
func (db *DB) ReadRecords(ctx context.Context, from int64, max int) (records []pipeline.Record, err error) {
	defer func() {
		if err != nil {
			records, err = nil, fmt.Errorf("read records from %d: %w", from, db.wrap(err))
		}
	}()
	rows, err := db.readers.QueryContext(ctx,
		"SELECT position, control, payload FROM request_blocks WHERE position >= ? ORDER BY position LIMIT ?", from, max)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var kind sql.NullString
	var payload sql.RawBytes // decoding copies it
	for size := 0; size < readBytes && rows.Next(); size += len(payload) {
		var r pipeline.Record
		if err := rows.Scan(&r.Position, &kind, &payload); err != nil {
			return nil, err
		}
		if kind.Valid {
			r.Control = &pipeline.Control{Kind: kind.String, Payload: append([]byte{}, payload...)}
		} else {
			r.Block = new(pipeline.Block)
			if err := db.codec.DecodeBlock(payload, r.Block); err != nil {
				return nil, fmt.Errorf("position %d: %w", r.Position, err)
			}
		}
		records = append(records, r)
	}
	return records, rows.Err()
}

// RecentFrom returns the position from which on the log holds the newest blocks
// with requests, of since at the soonest, and not many more than so many requests;
// 0 for none.
func (db *DB) RecentFrom(ctx context.Context, since pipeline.Time, requests int64) (position int64, err error) {
	rows, err := db.readers.QueryContext(ctx, `SELECT position, rows FROM request_blocks INDEXED BY request_blocks_time
		WHERE rows > 0 AND max_time >= ? ORDER BY max_time DESC, position DESC`, int64(since))
	if err != nil {
		return 0, fmt.Errorf("find recent requests: %w", db.wrap(err))
	}
	defer rows.Close()
	for n := int64(0); n < requests && rows.Next(); {
		var at, held int64
		if err := rows.Scan(&at, &held); err != nil {
			return 0, fmt.Errorf("find recent requests: %w", db.wrap(err))
		}
		if n += held; position == 0 || at < position {
			position = at
		}
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("find recent requests: %w", db.wrap(err))
	}
	return position, nil
}

// LogSources returns the ids of the sources in the log, in the order in which
// their first blocks there came.
func (db *DB) LogSources(ctx context.Context) ([]uint64, error) {
	return readAll(ctx, db, "read the log's sources", func(rows *sql.Rows, id *uint64) error {
		var n int64
		err := rows.Scan(&n)
		*id = uint64(n)
		return err
	}, "SELECT source_id FROM request_blocks WHERE control IS NULL GROUP BY source_id ORDER BY min(position)")
}

// Whole reports whether the log still holds every source from where it was first
// read.
func (db *DB) Whole(ctx context.Context) (whole bool, err error) {
	err = db.readers.QueryRowContext(ctx, `SELECT NOT EXISTS (SELECT 1 FROM source_cursors s WHERE NOT EXISTS
		(SELECT 1 FROM request_blocks b WHERE b.control IS NULL AND b.source_id = s.source_id AND b.cause_from = s.cause_from))`).Scan(&whole)
	if err != nil {
		return false, fmt.Errorf("look at the log's beginning: %w", db.wrap(err))
	}
	return whole, nil
}

// Last returns the position of the last record ever appended, 0 before the
// first.
func (db *DB) Last(ctx context.Context) (int64, error) {
	if db.conn == nil { // another process appends
		var last int64
		err := db.readers.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'request_blocks'").Scan(&last)
		return last, db.wrap(err)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.last, nil
}

// WaitAfter returns when a record behind position is in the log. It ends with
// ctx's error or storage.ErrClosed.
func (db *DB) WaitAfter(ctx context.Context, position int64) error {
	return db.wait(ctx, func() bool { return db.last > position })
}

// WaitAlertsAfter returns when the feed holds an alert behind seq.
func (db *DB) WaitAlertsAfter(ctx context.Context, seq int64) error {
	return db.wait(ctx, func() bool { return db.alert > seq })
}

func (db *DB) wait(ctx context.Context, there func() bool) error {
	for {
		db.mu.Lock()
		ok, moved, closed := there(), db.moved, db.closed
		db.mu.Unlock()
		switch {
		case ok:
			return nil
		case closed:
			return storage.ErrClosed
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// advance publishes what was committed and wakes who waits for it.
func (db *DB) advance(last, alert int64) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.last, db.alert = max(db.last, last), max(db.alert, alert)
	db.wake()
}

// wake wakes who waits; the caller holds mu.
func (db *DB) wake() {
	if !db.closed {
		close(db.moved)
		db.moved = make(chan struct{})
	}
}
