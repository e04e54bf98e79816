package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"weir/pipeline"
	"weir/storage"
)

// AuditHash is what the row at seq hashes to.
func AuditHash(prev []byte, seq int64, body []byte) []byte {
	text := hex.AppendEncode(nil, prev)
	text = append(strconv.AppendInt(append(text, '\n'), seq, 10), '\n')
	sum := sha256.Sum256(append(text, body...))
	return sum[:]
}

// AppendAudit stores an entry at the end of the audit.
func (db *DB) AppendAudit(ctx context.Context, e storage.AuditEntry) error {
	return db.audited(ctx, "append to the audit", e, func(*tx) error { return nil })
}

// audited does f and stores e, both or neither.
func (db *DB) audited(ctx context.Context, what string, e storage.AuditEntry, f func(*tx) error) error {
	var seq int64
	err := db.writeFirst(ctx, what, func(t *tx) (err error) {
		if err := f(t); err != nil {
			return err
		}
		seq, err = t.appendAudit(e)
		return err
	})
	if err == nil {
		db.mu.Lock()
		db.audit = max(db.audit, seq)
		db.wake()
		db.mu.Unlock()
	}
	return err
}

func (t *tx) appendAudit(e storage.AuditEntry) (seq int64, err error) {
	prev := make([]byte, sha256.Size)
	// The chain goes on from what was given, also when retention took all rows.
	_, err = t.row("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1", nil, &seq, &prev)
	if err != nil {
		return 0, err
	}
	var given int64
	if _, err := t.row("SELECT seq FROM sqlite_sequence WHERE name = 'audit'", nil, &given); err != nil {
		return 0, err
	}
	seq = max(seq, given) + 1
	_, _, err = t.exec("INSERT INTO audit (seq, time, prev, hash, body) VALUES (?, ?, ?, ?, ?)",
		seq, int64(e.Time), prev, AuditHash(prev, seq, e.Body), nonNil(e.Body))
	if err != nil || !bytes.Contains(e.Body, []byte(`"kind":"alert"`)) {
		return seq, err
	}
	var about struct {
		Target struct {
			Kind string
			IDs  []string
		}
	}
	if json.Unmarshal(e.Body, &about) != nil || about.Target.Kind != "alert" {
		return seq, nil
	}
	for _, id := range about.Target.IDs {
		if _, _, err := t.exec("INSERT OR IGNORE INTO audit_alerts (alert, seq) VALUES (?, ?)", id, seq); err != nil {
			return 0, err
		}
	}
	return seq, nil
}

// AuditOfAlert returns up to limit entries about an alert, the newest first.
func (db *DB) AuditOfAlert(ctx context.Context, id string, limit int) ([]storage.AuditRow, error) {
	return readAll(ctx, db, "read the audit", func(rows *sql.Rows, r *storage.AuditRow) error {
		return rows.Scan(&r.Seq, &r.Time, &r.Prev, &r.Hash, &r.Body)
	}, `SELECT a.seq, a.time, a.prev, a.hash, a.body FROM audit_alerts t JOIN audit a ON a.seq = t.seq
		WHERE t.alert = ? ORDER BY t.seq DESC LIMIT ?`, id, limit)
}

// AuditAfter returns up to limit rows of the audit behind seq, in order.
func (db *DB) AuditAfter(ctx context.Context, seq int64, limit int) ([]storage.AuditRow, error) {
	return readAll(ctx, db, "read the audit", func(rows *sql.Rows, r *storage.AuditRow) error {
		return rows.Scan(&r.Seq, &r.Time, &r.Prev, &r.Hash, &r.Body)
	}, "SELECT seq, time, prev, hash, body FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit)
}

// AuditAt is FeedAt of the audit, by the time of its entries.
func (db *DB) AuditAt(ctx context.Context, t pipeline.Time) (seq int64, ok bool, err error) {
	return db.placeAt(ctx, "SELECT min(seq) FROM audit WHERE time >= ?", t)
}

// AuditBounds is FeedBounds of the audit.
func (db *DB) AuditBounds(ctx context.Context) (removed, last int64, err error) {
	return db.bounds(ctx, "audit_removed", "audit")
}

// WaitAuditAfter returns when the audit holds an entry behind seq that this
// process stored.
func (db *DB) WaitAuditAfter(ctx context.Context, seq int64) error {
	return db.wait(ctx, func() bool { return db.audit > seq })
}

// CheckAudit walks along the chain. The error is the store's; what is wrong with
// the chain is in the result.
func (db *DB) CheckAudit(ctx context.Context) (c storage.AuditCheck, err error) {
	removed, last, err := db.AuditBounds(ctx)
	if err != nil {
		return c, err
	}
	broken := func(seq int64, format string, args ...any) (storage.AuditCheck, error) {
		c.Broken, c.Why = seq, fmt.Sprintf(format, args...)
		return c, nil
	}
	seq, prev := removed, make([]byte, sha256.Size)
	for {
		rows, err := db.AuditAfter(ctx, seq, 1000)
		if err != nil {
			return c, err
		}
		for _, r := range rows {
			switch {
			case r.Seq != seq+1:
				return broken(r.Seq, "it follows on %d: rows between them are gone", seq)
			case (c.Rows > 0 || removed == 0) && !bytes.Equal(r.Prev, prev):
				return broken(r.Seq, "it does not continue the row before")
			case !bytes.Equal(r.Hash, AuditHash(r.Prev, r.Seq, r.Body)):
				return broken(r.Seq, "it does not hash to what it says")
			}
			if c.Rows == 0 {
				c.First = r.Seq
			}
			seq, prev = r.Seq, r.Hash
			c.Rows, c.Last, c.Hash = c.Rows+1, r.Seq, r.Hash
		}
		if len(rows) == 0 {
			break
		}
	}
	if seq < last {
		return broken(seq+1, "it and what follows through %d are gone", last)
	}
	var head int64
	// A row in front of what retention removed is not where it belongs.
	err = db.readers.QueryRowContext(ctx, "SELECT seq FROM audit WHERE seq <= ? ORDER BY seq LIMIT 1", removed).Scan(&head)
	if err == nil {
		return broken(head, "rows behind it were removed while it was kept")
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return c, fmt.Errorf("read the audit: %w", db.wrap(err))
	}
	return c, nil
}
