package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"weir/pipeline"
	"weir/storage"
)

// Alerts returns the latest revision of each alert that f selects, the one that
// changed last first. It looks for them in the lists: a body is read when it is
// returned, not to be passed over.
func (db *DB) Alerts(ctx context.Context, f storage.AlertFilter) ([]storage.StoredAlert, error) {
	if len(f.Severity) > 16 {
		return nil, fmt.Errorf("read alerts: %d severities, at most 16", len(f.Severity))
	}
	q := storage.AlertQuery{Since: f.Since, Until: f.Until, Severity: f.Severity, Principal: f.Principal, AfterSeq: f.AfterSeq, Limit: f.Limit}
	if f.Detector != "" {
		q.Detector = []string{f.Detector}
	}
	if f.Status != "" {
		q.Status = []string{f.Status}
	}
	if f.BeforeSeq != 0 {
		q.After = &storage.AlertPlace{Seq: f.BeforeSeq}
	}
	list, err := db.FindAlerts(ctx, q)
	return list.Alerts, err
}

// Alert returns all revisions of an alert, the first one first; none for an id
// that is not stored.
func (db *DB) Alert(ctx context.Context, id string) ([]storage.StoredAlert, error) {
	return db.alerts(ctx, "SELECT seq, body, backfill FROM alerts WHERE id = ? ORDER BY revision", id)
}

// Findings returns the latest finding of each case that f selects, the newest
// first: those of detectors in shadow mode are stored alone.
func (db *DB) Findings(ctx context.Context, f storage.FindingFilter) ([]pipeline.Finding, error) {
	where := "time >= ? AND time <= ?"
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if f.Since != 0 {
		since = int64(f.Since)
	}
	if f.Until != 0 {
		until = int64(f.Until)
	}
	args := []any{since, until}
	if f.Detector != "" {
		where += " AND detector = ?"
		args = append(args, f.Detector)
	}
	if f.Principal.Value != "" {
		where += " AND principal_kind = ? AND principal_value = ?"
		args = append(args, f.Principal.Kind.String(), f.Principal.Value)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	return readAll(ctx, db, "read findings", func(rows *sql.Rows, into *pipeline.Finding) error {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return err
		}
		return json.Unmarshal(body, into)
	}, "SELECT body FROM findings WHERE "+where+" ORDER BY time DESC, id LIMIT ?", append(args, limit)...)
}

// candidate is a block that may hold what a filter asks for.
type candidate struct{ position, newest int64 }

// Requests calls fn for the stored requests that f selects, with the name of
// their source, until fn returns false, f.Limit is reached or there are no
// more: newest block first, newest line first within a block. The request is
// valid during the call only.
func (db *DB) Requests(ctx context.Context, f storage.RequestFilter, fn func(r *pipeline.Request, source string) bool) error {
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if f.Since != 0 {
		since = int64(f.Since)
	}
	if f.Until != 0 {
		until = int64(f.Until)
	}
	left := f.Limit
	if left <= 0 {
		left = 1000
	}
	var owner uint64
	if f.Principal.Value != "" {
		owner = f.Principal.Hash()
	}
	next := candidate{math.MaxInt64, math.MaxInt64}
	var b pipeline.Block
	for {
		found, last, err := db.candidates(ctx, f, owner, since, until, next)
		if err != nil {
			return fmt.Errorf("read requests: %w", db.wrap(err))
		}
		for _, c := range found {
			if err := db.block(ctx, c.position, &b); err != nil {
				return fmt.Errorf("read requests: %w", err)
			}
			for i := len(b.Requests) - 1; i >= 0; i-- {
				r := &b.Requests[i]
				if int64(r.Time) < since || int64(r.Time) > until || !selects(f, owner, r) {
					continue
				}
				left--
				if !fn(r, b.Source) || left == 0 {
					return nil
				}
			}
		}
		if last == next {
			return nil
		}
		next = last
	}
}

func selects(f storage.RequestFilter, owner uint64, r *pipeline.Request) bool {
	return (f.Principal.Value == "" || r.Owner == owner && r.Kind == f.Principal.Kind) &&
		(f.Status == 0 || int(r.Status) == f.Status) &&
		strings.HasPrefix(r.Path, f.PathPrefix)
}

// candidates looks at a page of blocks before next, newest first, and returns
// those whose filter admits owner, and where the page ended: at next when there
// are no more.
func (db *DB) candidates(ctx context.Context, f storage.RequestFilter, owner uint64, since, until int64, next candidate) (found []candidate, last candidate, err error) {
	last = next
	rows, err := db.readers.QueryContext(ctx, `SELECT position, max_time, bloom FROM request_blocks INDEXED BY request_blocks_time
		WHERE rows > 0 AND max_time >= ? AND (max_time, position) < (?, ?) AND min_time <= ?
		ORDER BY max_time DESC, position DESC LIMIT 64`, since, next.newest, next.position, until)
	if err != nil {
		return nil, last, err
	}
	defer rows.Close()
	var bloom []byte
	for rows.Next() {
		if err := rows.Scan(&last.position, &last.newest, &bloom); err != nil {
			return nil, last, err
		}
		if f.Principal.Value == "" || pipeline.OwnerFilter(bloom).Admits(owner) {
			found = append(found, last)
		}
	}
	return found, last, rows.Err()
}

// block reads the block at position into b: none when retention took it just
// now.
func (db *DB) block(ctx context.Context, position int64, b *pipeline.Block) error {
	b.Requests = b.Requests[:0]
	rows, err := db.readers.QueryContext(ctx, "SELECT payload FROM request_blocks WHERE position = ?", position)
	if err != nil {
		return db.wrap(err)
	}
	defer rows.Close()
	if !rows.Next() {
		return db.wrap(rows.Err())
	}
	var payload []byte
	if err := rows.Scan(&payload); err != nil {
		return db.wrap(err)
	}
	if err := db.codec.DecodeBlock(payload, b); err != nil {
		return fmt.Errorf("position %d: %w", position, err)
	}
	return nil
}

// Minutes returns the rollups of [since, until) in order of time.
func (db *DB) Minutes(ctx context.Context, since, until pipeline.Time) ([]storage.Minute, error) {
	if until <= since {
		return nil, errors.New("read minutes: the range is empty")
	}
	return readAll(ctx, db, "read minutes", func(rows *sql.Rows, m *storage.Minute) error {
		var minute, source int64
		err := rows.Scan(&minute, &source, &m.StatusClass, &m.Requests, &m.Bytes)
		m.Time, m.SourceID = pipeline.Time(minute*minuteSize), uint64(source)
		return err
	}, `SELECT minute, source_id, status_class, requests, bytes FROM request_minutes
		WHERE minute >= ? AND minute <= ? ORDER BY minute, source_id, status_class LIMIT 1000000`, minuteOf(since), minuteOf(until-1))
}

// readAll returns all rows of a query as scan reads them; what says what an error
// kept it from.
func readAll[T any](ctx context.Context, db *DB, what string, scan func(*sql.Rows, *T) error, query string, args ...any) ([]T, error) {
	rows, err := db.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, db.wrap(err))
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		var v T
		if err := scan(rows, &v); err != nil {
			return nil, fmt.Errorf("%s: %w", what, db.wrap(err))
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, db.wrap(err))
	}
	return out, nil
}

// Stats describes the store.
func (db *DB) Stats(ctx context.Context) (s storage.Stats, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read statistics: %w", db.wrap(err))
		}
	}()
	scan := func(query string, into ...any) {
		if err == nil {
			err = db.readers.QueryRowContext(ctx, query).Scan(into...)
		}
	}
	s.Oldest, s.Newest = pipeline.NoTime, pipeline.NoTime
	const none = "coalesce(%s, -9223372036854775808)"
	scan("SELECT coalesce(min(position), 0) FROM request_blocks", &s.First)
	scan("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'request_blocks'", &s.Last)
	scan("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'alerts'", &s.Alerts)
	scan("SELECT count(*), coalesce(sum(rows), 0), "+fmt.Sprintf(none, "min(min_time)")+", "+fmt.Sprintf(none, "max(max_time)")+
		" FROM request_blocks WHERE rows > 0", &s.Blocks, &s.Requests, &s.Oldest, &s.Newest)
	var pages, free, size int64
	scan("PRAGMA page_count", &pages)
	scan("PRAGMA freelist_count", &free)
	scan("PRAGMA page_size", &size)
	counter := func(name string, into *int64) {
		if err == nil {
			err = db.readers.QueryRowContext(ctx, "SELECT coalesce(sum(value), 0) FROM counters WHERE name = ?", name).Scan(into)
		}
	}
	counter("skipped", &s.Skipped)
	counter("replay_differences", &s.ReplayDifferences)
	counter("shed", &s.Shed)
	if err != nil {
		return s, err
	}
	s.Bytes, s.FileBytes = (pages-free)*size, fileSize(db.path)+fileSize(db.path+"-wal")
	s.ReserveArmed = db.reserve.isArmed()
	rows, err := db.readers.QueryContext(ctx, "SELECT source, source_id, cause_from, cause_to, requests, lines, rejected FROM source_cursors ORDER BY source, source_id")
	if err != nil {
		return s, err
	}
	defer rows.Close()
	for rows.Next() {
		var c storage.SourceStats
		var id int64
		if err := rows.Scan(&c.Source, &id, &c.Cause.From, &c.Cause.To, &c.Requests, &c.Lines, &c.Rejected); err != nil {
			return s, err
		}
		c.ID = uint64(id)
		s.Sources = append(s.Sources, c)
	}
	return s, rows.Err()
}
