package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"weir/pipeline"
	"weir/storage"
)

// SinkPosition returns how far a sink's delivery got; known is false for a sink
// never seen.
func (db *DB) SinkPosition(ctx context.Context, sink string) (seq int64, known bool, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT seq FROM sink_cursors WHERE sink = ?", sink).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read cursor of sink %s: %w", sink, db.wrap(err))
	}
	return seq, true, nil
}

// SaveRetry remembers that the revision at seq failed attempts times at sink
// and is due at next.
func (db *DB) SaveRetry(ctx context.Context, sink string, seq int64, attempts int, next pipeline.Time) error {
	return db.writeFirst(ctx, "store retry of sink "+sink, func(t *tx) error {
		_, _, err := t.exec(`INSERT INTO sink_retries (sink, seq, attempts, next_time) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET attempts = excluded.attempts, next_time = excluded.next_time`, sink, seq, attempts, int64(next))
		return err
	})
}

// DueRetries returns up to limit retries of sink that are due at now, the
// longest due first.
func (db *DB) DueRetries(ctx context.Context, sink string, now pipeline.Time, limit int) ([]storage.SinkRetry, error) {
	rows, err := db.readers.QueryContext(ctx, `SELECT seq, attempts, next_time FROM sink_retries
		WHERE sink = ? AND next_time <= ? ORDER BY next_time, seq LIMIT ?`, sink, int64(now), limit)
	if err != nil {
		return nil, fmt.Errorf("list retries of sink %s: %w", sink, db.wrap(err))
	}
	defer rows.Close()
	var out []storage.SinkRetry
	for rows.Next() {
		var r storage.SinkRetry
		var next int64
		if err := rows.Scan(&r.Seq, &r.Attempts, &next); err != nil {
			return nil, fmt.Errorf("list retries of sink %s: %w", sink, db.wrap(err))
		}
		r.Next = pipeline.Time(next)
		out = append(out, r)
	}
	return out, db.wrap(rows.Err())
}

// DropRetry forgets a retry; one that is gone is no error.
func (db *DB) DropRetry(ctx context.Context, sink string, seq int64) error {
	return db.writeFirst(ctx, "drop retry of sink "+sink, func(t *tx) error {
		_, _, err := t.exec("DELETE FROM sink_retries WHERE sink = ? AND seq = ?", sink, seq)
		return err
	})
}
