package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"weir/pipeline"
	"weir/storage"
)

// SourceRhythm tells how a source usually comes, from the minutes of event time
// in which it had requests, those of the last week before its newest. A source
// that was never seen gives zeros.
func (db *DB) SourceRhythm(ctx context.Context, id uint64) (r storage.Rhythm, err error) {
	const week = 7 * 24 * 60
	var active, span, gap, last sql.NullInt64
	err = db.readers.QueryRowContext(ctx, `
		WITH active AS (SELECT DISTINCT minute FROM request_minutes
			WHERE source_id = ?1 AND minute > (SELECT max(minute) FROM request_minutes WHERE source_id = ?1) - ?2),
		gaps AS (SELECT minute, minute - lag(minute) OVER (ORDER BY minute) AS gap FROM active)
		SELECT count(*), max(minute) - min(minute), max(gap), max(minute) FROM gaps`, int64(id), week).Scan(&active, &span, &gap, &last)
	if err != nil {
		return r, fmt.Errorf("read the rhythm of a source: %w", db.wrap(err))
	}
	r = storage.Rhythm{Minutes: active.Int64, Span: time.Duration(span.Int64) * time.Minute, Gap: time.Duration(gap.Int64) * time.Minute, Last: pipeline.NoTime}
	if last.Valid {
		r.Last = pipeline.Time(last.Int64 * minuteSize)
	}
	err = db.readers.QueryRowContext(ctx, "SELECT lines, rejected FROM source_cursors WHERE source_id = ?", int64(id)).Scan(&r.Lines, &r.Rejected)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("read the rhythm of a source: %w", db.wrap(err))
	}
	return r, nil
}
