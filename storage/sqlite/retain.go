package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"weir/pipeline"
	"weir/storage"
)

// The steps of retention: each is a transaction, so that other writers get
// their turn in between.
const (
	retainBlocks = 32
	retainRows   = 500
	retainAlerts = 100
	vacuumPages  = 512
)

// Retain removes what p does not keep, oldest first, in small steps, and gives
// the room back to the disk. It may be called at any time and is best called
// every few minutes.
func (db *DB) Retain(ctx context.Context, p storage.RetainPolicy) (r storage.Retained, err error) {
	now := p.Now
	if now == 0 {
		if now, err = db.newest(ctx); err != nil {
			return r, err
		}
	}
	if p.MaxAge > 0 && now != pipeline.NoTime {
		for more := true; more; {
			if more, err = db.dropBlocks(ctx, int64(now.Add(-p.MaxAge)), p.KeepFrom, math.MaxInt64, "", &r); err != nil {
				return r, err
			}
		}
		if err := db.dropControls(ctx, p.KeepFrom); err != nil {
			return r, err
		}
	}
	for more := p.MaxBytes > 0; more; {
		used, err := db.used(ctx)
		if err != nil {
			return r, err
		}
		if used <= p.MaxBytes {
			break
		}
		if more, err = db.dropBlocks(ctx, math.MaxInt64, p.KeepFrom, used-p.MaxBytes, "", &r); err != nil {
			return r, err
		}
	}
	if p.AlertAge > 0 && now != pipeline.NoTime {
		if r.Alerts, err = db.dropOld(ctx, int64(now.Add(-p.AlertAge))); err != nil {
			return r, err
		}
	}
	if now != pipeline.NoTime {
		if err := db.dropTraffic(ctx, minuteOf(now.Add(-trafficAge))); err != nil {
			return r, err
		}
	}
	if p.AuditFrom > 0 {
		if err := db.dropAudit(ctx, int64(p.AuditFrom)); err != nil {
			return r, err
		}
	}
	if err := db.vacuum(ctx); err != nil {
		return r, err
	}
	db.rearm()
	return r, nil
}

// trafficAge is how long the rollups by endpoint are kept: there are many.
const trafficAge = 31 * 24 * time.Hour

// dropTraffic removes the rollups by endpoint before a minute.
func (db *DB) dropTraffic(ctx context.Context, minute int64) (err error) {
	for n := int64(retainRows); err == nil && n == retainRows; {
		err = db.write(ctx, "retain", func(t *tx) error {
			var err error
			n, _, err = t.exec(`DELETE FROM endpoint_minutes WHERE (endpoint, minute, status_class) IN
				(SELECT endpoint, minute, status_class FROM endpoint_minutes WHERE minute < ? LIMIT ?)`, minute, retainRows)
			return err
		})
	}
	return err
}

// dropAudit removes the audit's rows in front of the first one that is not
// older than cutoff: what stays is one piece of the chain.
func (db *DB) dropAudit(ctx context.Context, cutoff int64) (err error) {
	for n := int64(retainRows); err == nil && n == retainRows; {
		err = db.write(ctx, "retain", func(t *tx) error {
			var err error
			n, _, err = t.exec(`DELETE FROM audit WHERE seq IN (SELECT seq FROM audit
				WHERE seq < (SELECT coalesce(min(seq), 9223372036854775807) FROM audit WHERE time >= ?) ORDER BY seq LIMIT ?)`, cutoff, retainRows)
			return err
		})
	}
	return err
}

// Shed makes room on a full disk: it gives up the reserve, removes the oldest
// blocks before keepFrom until at least bytes are free, counts them in Stats,
// and takes the reserve again. Less was freed when no more blocks may go.
func (db *DB) Shed(ctx context.Context, bytes, keepFrom int64) (r storage.Retained, err error) {
	db.reserve.release()
	// Room that the log takes and the file has already; on a disk without any
	// left this may be all there is.
	if err := db.truncateLog(ctx); err != nil && !errors.Is(err, storage.ErrFull) {
		return r, err
	}
	for more := true; more && r.Bytes < bytes; {
		if more, err = db.dropBlocks(ctx, math.MaxInt64, keepFrom, bytes-r.Bytes, "shed", &r); err != nil {
			return r, err
		}
	}
	if err := db.vacuum(ctx); err != nil {
		return r, err
	}
	db.rearm()
	return r, nil
}

// rearm takes the reserve again when that leaves room for what waits to be
// stored.
func (db *DB) rearm() {
	const room = 1 << 20
	if free, ok := diskFree(filepath.Dir(db.path)); !ok || free >= db.reserve.size+room {
		db.reserve.arm()
	}
}

// newest is the earlier of the wall clock and the newest stored request.
func (db *DB) newest(ctx context.Context) (pipeline.Time, error) {
	newest := pipeline.NoTime
	err := db.readers.QueryRowContext(ctx, "SELECT coalesce(max(max_time), ?) FROM request_blocks WHERE rows > 0", int64(newest)).Scan(&newest)
	if err != nil {
		return newest, fmt.Errorf("retain: %w", db.wrap(err))
	}
	return min(newest, pipeline.TimeOf(time.Now())), nil
}

// used is what the file's content takes.
func (db *DB) used(ctx context.Context) (int64, error) {
	var pages, free, size int64
	for query, into := range map[string]*int64{"PRAGMA page_count": &pages, "PRAGMA freelist_count": &free, "PRAGMA page_size": &size} {
		if err := db.readers.QueryRowContext(ctx, query).Scan(into); err != nil {
			return 0, fmt.Errorf("retain: %w", db.wrap(err))
		}
	}
	return (pages - free) * size, nil
}

// dropBlocks removes up to retainBlocks of the oldest blocks that end before
// cutoff and stand before keepFrom, until their payloads are bytes, and reports
// whether there may be more. counter, when not empty, counts the requests.
func (db *DB) dropBlocks(ctx context.Context, cutoff, keepFrom, bytes int64, counter string, r *storage.Retained) (more bool, err error) {
	var n, requests, size int64
	err = db.write(ctx, "retain", func(t *tx) error {
		s, err := t.stmt(`SELECT position, rows, length(payload) + coalesce(length(bloom), 0) FROM request_blocks
			WHERE max_time < ? AND position < ? AND control IS NULL ORDER BY max_time, position LIMIT ?`)
		if err != nil {
			return err
		}
		rows, err := s.QueryContext(ctx, cutoff, keepFrom, retainBlocks)
		if err != nil {
			return err
		}
		defer rows.Close()
		var positions []int64
		for size < bytes && rows.Next() {
			var position, count, length int64
			if err := rows.Scan(&position, &count, &length); err != nil {
				return err
			}
			positions = append(positions, position)
			requests += count
			size += length
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		n = int64(len(positions))
		for _, position := range positions {
			if _, _, err := t.exec("DELETE FROM request_blocks WHERE position = ?", position); err != nil {
				return err
			}
		}
		if counter == "" {
			return nil
		}
		return t.count(counter, requests)
	})
	if err != nil {
		return false, err
	}
	r.Blocks += n
	r.Requests += requests
	r.Bytes += size
	return n > 0, nil
}

// dropControls removes the control records in front of the first block that stays,
// but for those that hold what is in force there: the last of each kind, and
// suppressions, of which each brings its own. A replay begins with them.
func (db *DB) dropControls(ctx context.Context, keepFrom int64) error {
	return db.write(ctx, "retain", func(t *tx) error {
		_, _, err := t.exec(`DELETE FROM request_blocks WHERE control IS NOT NULL AND control <> ?1 AND max_time = ?2 AND position < ?3
			AND position < (SELECT coalesce(min(position), 0) FROM request_blocks WHERE control IS NULL)
			AND position NOT IN (SELECT max(position) FROM request_blocks WHERE control IS NOT NULL AND max_time = ?2
				AND position < (SELECT coalesce(min(position), 0) FROM request_blocks WHERE control IS NULL) GROUP BY control)`,
			SuppressionControl, int64(pipeline.NoTime), keepFrom)
		return err
	})
}

// dropOld removes alerts, findings, editions, dead letters and rollups that
// ended before cutoff.
func (db *DB) dropOld(ctx context.Context, cutoff int64) (alerts int64, err error) {
	each := func(cutoff int64, query string) (total int64) {
		for n := int64(retainRows); err == nil && n == retainRows; {
			err = db.write(ctx, "retain", func(t *tx) error {
				var err error
				n, _, err = t.exec(query, cutoff, retainRows)
				return err
			})
			total += n
		}
		return total
	}
	alerts, err = db.dropAlerts(ctx, cutoff)
	each(cutoff, "DELETE FROM findings WHERE id IN (SELECT id FROM findings WHERE time < ? LIMIT ?)")
	each(cutoff, "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE time < ? LIMIT ?)")
	each(cutoff, `DELETE FROM editions WHERE number IN (SELECT number FROM editions
		WHERE effective < ? AND number < (SELECT max(number) FROM editions) LIMIT ?)`)
	each(minuteOf(pipeline.Time(cutoff)), `DELETE FROM request_minutes WHERE (minute, source_id, status_class) IN
		(SELECT minute, source_id, status_class FROM request_minutes WHERE minute < ? LIMIT ?)`)
	return alerts, err
}

// dropAlerts removes the alerts that ended before cutoff, retainAlerts at a time
// with all their revisions. Between two steps it rests as long as one took: another
// process that has something to write gets its turn, too.
func (db *DB) dropAlerts(ctx context.Context, cutoff int64) (alerts int64, err error) {
	for {
		var n int64
		began := time.Now()
		err := db.write(ctx, "retain", func(t *tx) (err error) {
			n, _, err = t.exec(`DELETE FROM alerts WHERE id IN (SELECT id FROM alerts INDEXED BY alerts_time
				WHERE latest = 1 AND time < ? ORDER BY time LIMIT ?)`, cutoff, retainAlerts)
			return err
		})
		if alerts += n; err != nil || n < retainAlerts {
			return alerts, err
		}
		select {
		case <-ctx.Done():
			return alerts, fmt.Errorf("retain: %w", ctx.Err())
		case <-time.After(time.Since(began)):
		}
	}
}

// vacuum gives free pages back to the disk, a few at a time, and shortens the
// write-ahead log.
func (db *DB) vacuum(ctx context.Context) error {
	for {
		var free int64
		if err := db.readers.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&free); err != nil {
			return fmt.Errorf("retain: %w", db.wrap(err))
		}
		if free == 0 {
			break
		}
		err := db.writeFirst(ctx, "give back room", func(t *tx) error {
			// Each row it returns is one page given back.
			rows, err := db.conn.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages))
			if err != nil {
				return err
			}
			for rows.Next() {
			}
			return errors.Join(rows.Err(), rows.Close())
		})
		if err != nil {
			return err
		}
		if err := db.truncateLog(ctx); err != nil {
			return err
		}
		var left int64
		if err := db.readers.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&left); err != nil {
			return fmt.Errorf("retain: %w", db.wrap(err))
		}
		if left >= free {
			break // others filled what was freed
		}
	}
	return nil
}

// truncateLog moves the write-ahead log into the file; with a reader at work it
// does what it can.
func (db *DB) truncateLog(ctx context.Context) error {
	select {
	case <-db.turn:
	case <-ctx.Done():
		return fmt.Errorf("retain: %w", ctx.Err())
	}
	defer func() { db.turn <- struct{}{} }()
	var busy, log, moved int64
	err := db.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &moved)
	if err != nil {
		return fmt.Errorf("retain: %w", db.wrap(err))
	}
	return nil
}

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}
