package sqlite

import (
	"context"
	"encoding/json"
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
	rows, err := db.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", db.wrap(err))
	}
	defer rows.Close()
	var out []storage.StoredAlert
	for rows.Next() {
		var a storage.StoredAlert
		if err := rows.Scan(&a.Seq, &a.Body, &a.Backfill); err != nil {
			return nil, fmt.Errorf("read alerts: %w", db.wrap(err))
		}
		if err := json.Unmarshal(a.Body, &a.Alert); err != nil {
			return nil, fmt.Errorf("read alert at %d of the feed: %w", a.Seq, err)
		}
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read alerts: %w", db.wrap(err))
	}
	return out, nil
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
	rows, err := db.readers.QueryContext(ctx, `SELECT id, sink, seq, reason, attempts, time FROM dead_letters
		WHERE id > ? AND (? = '' OR sink = ?) ORDER BY id LIMIT ?`, after, sink, sink, limit)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", db.wrap(err))
	}
	defer rows.Close()
	var out []storage.DeadLetter
	for rows.Next() {
		var d storage.DeadLetter
		if err := rows.Scan(&d.ID, &d.Sink, &d.Seq, &d.Reason, &d.Attempts, &d.Time); err != nil {
			return nil, fmt.Errorf("list dead letters: %w", db.wrap(err))
		}
		out = append(out, d)
	}
	return out, db.wrap(rows.Err())
}

// RemoveDeadLetter removes a dead letter, after a replay say; removing one that
// is gone is no error.
func (db *DB) RemoveDeadLetter(ctx context.Context, id int64) error {
	return db.writeFirst(ctx, "remove dead letter", func(t *tx) error {
		_, _, err := t.exec("DELETE FROM dead_letters WHERE id = ?", id)
		return err
	})
}
