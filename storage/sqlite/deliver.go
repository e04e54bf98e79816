package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"weir/pipeline"
	"weir/storage"
)

// AlertsAfter returns up to limit revisions of the feed behind seq, in order. A
// reader that goes on from the last one's Seq misses none.
func (db *DB) AlertsAfter(ctx context.Context, seq int64, limit int) ([]storage.StoredAlert, error) {
	return db.alerts(ctx, "SELECT seq, body, backfill FROM alerts WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit)
}

// alerts runs a query for seq, body and backfill.
func (db *DB) alerts(ctx context.Context, query string, args ...any) ([]storage.StoredAlert, error) {
	return readAll(ctx, db, "read alerts", func(rows *sql.Rows, a *storage.StoredAlert) error {
		if err := rows.Scan(&a.Seq, &a.Body, &a.Backfill); err != nil {
			return err
		}
		if err := json.Unmarshal(a.Body, &a.Alert); err != nil {
			return fmt.Errorf("%d of the feed: %w", a.Seq, err)
		}
		return nil
	}, query, args...)
}

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

// SetSinkCursor stores that sink has everything through seq, taken or kept as a
// retry. It may go back, to deliver again.
func (db *DB) SetSinkCursor(ctx context.Context, sink string, seq int64) error {
	return db.writeFirst(ctx, "store cursor of sink "+sink, func(t *tx) error {
		_, _, err := t.exec(`INSERT INTO sink_cursors (sink, seq, attempts, next_time) VALUES (?, ?, 0, 0)
			ON CONFLICT DO UPDATE SET seq = excluded.seq`, sink, seq)
		return err
	})
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
	return readAll(ctx, db, "list retries of sink "+sink, func(rows *sql.Rows, r *storage.SinkRetry) error {
		return rows.Scan(&r.Seq, &r.Attempts, &r.Next)
	}, `SELECT seq, attempts, next_time FROM sink_retries
		WHERE sink = ? AND next_time <= ? ORDER BY next_time, seq LIMIT ?`, sink, int64(now), limit)
}

// DropRetry forgets a retry; one that is gone is no error.
func (db *DB) DropRetry(ctx context.Context, sink string, seq int64) error {
	return db.writeFirst(ctx, "drop retry of sink "+sink, func(t *tx) error {
		_, _, err := t.exec("DELETE FROM sink_retries WHERE sink = ? AND seq = ?", sink, seq)
		return err
	})
}

// DeadLetter keeps a revision that sink did not take, with what was tried. It
// does not move the sink's cursor; the same revision again replaces the letter.
func (db *DB) DeadLetter(ctx context.Context, sink string, seq int64, reason string, attempts []byte) error {
	return db.writeFirst(ctx, "store dead letter of sink "+sink, func(t *tx) error {
		_, _, err := t.exec(`INSERT INTO dead_letters (sink, seq, reason, attempts, time) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts, time = excluded.time`,
			sink, seq, reason, attempts, int64(pipeline.TimeOf(time.Now())))
		return err
	})
}

// DeadLetters lists up to limit dead letters with an ID above after, of one
// sink or, for "", of all.
func (db *DB) DeadLetters(ctx context.Context, sink string, after int64, limit int) ([]storage.DeadLetter, error) {
	return readAll(ctx, db, "list dead letters", func(rows *sql.Rows, d *storage.DeadLetter) error {
		return rows.Scan(&d.ID, &d.Sink, &d.Seq, &d.Reason, &d.Attempts, &d.Time)
	}, `SELECT id, sink, seq, reason, attempts, time FROM dead_letters
		WHERE id > ? AND (? = '' OR sink = ?) ORDER BY id LIMIT ?`, after, sink, sink, limit)
}

// RemoveDeadLetter removes a dead letter, after a replay say; removing one that
// is gone is no error.
func (db *DB) RemoveDeadLetter(ctx context.Context, id int64) error {
	return db.writeFirst(ctx, "remove dead letter", func(t *tx) error {
		_, _, err := t.exec("DELETE FROM dead_letters WHERE id = ?", id)
		return err
	})
}

// SinkKept is a revision that a sink did not take yet, or not at all.
func (db *DB) SinkKept(ctx context.Context, sink string, seq int64) (k storage.SinkKept, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT attempts, next_time FROM sink_retries WHERE sink = ? AND seq = ?", sink, seq).Scan(&k.Attempts, &k.Time)
	if k.Retrying = err == nil; err == nil {
		return k, nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = db.readers.QueryRowContext(ctx, "SELECT reason, time FROM dead_letters WHERE sink = ? AND seq = ?", sink, seq).Scan(&k.Reason, &k.Time)
		k.Dead = err == nil
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return k, fmt.Errorf("read what sink %s did not take: %w", sink, db.wrap(err))
	}
	return k, nil
}
