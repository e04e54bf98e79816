package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"weir/storage"
)

// SaveTriage stores t and who made it so, both or neither. t continues the stored
// revision, else the error is storage.ErrStale; an alert that is not stored is
// storage.ErrNoAlert.
func (db *DB) SaveTriage(ctx context.Context, t storage.Triage, by storage.AuditEntry) error {
	errs, err := db.SaveTriages(ctx, []storage.TriageChange{{Triage: t, By: by}})
	if err != nil {
		return err
	}
	return errs[0]
}

// SaveTriages stores changes and who made them in one step, but for those with an
// error in errs: it is storage.ErrStale or storage.ErrNoAlert. err is the store's,
// and then nothing is stored.
func (db *DB) SaveTriages(ctx context.Context, list []storage.TriageChange) (errs []error, err error) {
	errs = make([]error, len(list))
	var last, position int64
	err = db.writeFirst(ctx, "store triage", func(t *tx) error {
		for i := range list {
			seq, control, err := t.putTriage(&list[i])
			switch {
			case errors.Is(err, storage.ErrStale) || errors.Is(err, storage.ErrNoAlert):
				errs[i] = err
			case err != nil:
				return err
			default:
				last, position = seq, max(position, control)
			}
		}
		return nil
	})
	if err == nil && last != 0 {
		db.mu.Lock()
		db.audit = max(db.audit, last)
		db.wake()
		db.mu.Unlock()
	}
	if err == nil && position > 0 {
		db.advance(position, 0)
	}
	return errs, err
}

// putTriage stores one change and returns its place in the audit, and that of its
// control record in the log, 0 without one.
func (t *tx) putTriage(c *storage.TriageChange) (change, position int64, err error) {
	id := c.Triage.ID
	var seq, have int64
	ok, err := t.row("SELECT seq FROM alerts WHERE id = ? AND latest = 1", []any{id}, &seq)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s", storage.ErrNoAlert, id)
	}
	if err != nil {
		return 0, 0, err
	}
	if _, err := t.row("SELECT revision FROM triage WHERE id = ?", []any{id}, &have); err != nil {
		return 0, 0, err
	}
	if c.Triage.Revision != have+1 {
		return 0, 0, fmt.Errorf("%w: %s is at %d", storage.ErrStale, id, have)
	}
	if change, err = t.appendAudit(c.By); err != nil {
		return 0, 0, err
	}
	if _, _, err = t.exec(`INSERT INTO triage (id, revision, body, change) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET revision = excluded.revision, body = excluded.body, change = excluded.change`, id, c.Triage.Revision, nonNil(c.Triage.Body), change); err != nil {
		return 0, 0, err
	}
	if c.Triage.Control != nil {
		if position, err = t.appendControl(*c.Triage.Control); err != nil {
			return 0, 0, err
		}
	}
	return change, position, t.relist(id, c.Triage.Body)
}

// TriageAfter returns up to limit triages whose last change stands behind change
// in the audit, in that order.
func (db *DB) TriageAfter(ctx context.Context, change int64, limit int) ([]storage.TriageAt, error) {
	return readAll(ctx, db, "read triage", func(rows *sql.Rows, t *storage.TriageAt) error {
		return rows.Scan(&t.ID, &t.Revision, &t.Body, &t.Change)
	}, "SELECT id, revision, body, change FROM triage WHERE change > ? ORDER BY change LIMIT ?", change, limit)
}

// TriageOf returns the triage of an alert, with the revision 0 before the first; ok
// is false for an alert that is not stored.
func (db *DB) TriageOf(ctx context.Context, id string) (t storage.Triage, ok bool, err error) {
	list, err := readAll(ctx, db, "read triage", scanTriage, `SELECT a.id, coalesce(t.revision, 0), t.body
		FROM alerts a LEFT JOIN triage t ON t.id = a.id WHERE a.id = ? AND a.latest = 1`, id)
	if err != nil || len(list) == 0 {
		return t, false, err
	}
	return list[0], true, nil
}

// triageChunk bounds the parameters of one query.
const triageChunk = 500

// Triages returns the triage of those of ids that have one.
func (db *DB) Triages(ctx context.Context, ids []string) (map[string]storage.Triage, error) {
	found := map[string]storage.Triage{}
	for len(ids) > 0 {
		some := ids[:min(len(ids), triageChunk)]
		ids = ids[len(some):]
		args := make([]any, len(some))
		for i, id := range some {
			args[i] = id
		}
		list, err := readAll(ctx, db, "read triage", scanTriage,
			"SELECT id, revision, body FROM triage WHERE id IN (?"+strings.Repeat(", ?", len(some)-1)+")", args...)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			found[t.ID] = t
		}
	}
	return found, nil
}

func scanTriage(rows *sql.Rows, t *storage.Triage) error {
	return rows.Scan(&t.ID, &t.Revision, &t.Body)
}

// TriagesOf returns the triage of those of ids whose alert is stored, with the
// revision 0 before the first.
func (db *DB) TriagesOf(ctx context.Context, ids []string) (map[string]storage.Triage, error) {
	text, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("read triage: %w", err)
	}
	list, err := readAll(ctx, db, "read triage", scanTriage, `SELECT l.id, coalesce(t.revision, 0), t.body FROM json_each(?) j
		JOIN alert_list l ON l.id = j.value LEFT JOIN triage t ON t.id = l.id`, string(text))
	found := make(map[string]storage.Triage, len(list))
	for _, t := range list {
		found[t.ID] = t
	}
	return found, err
}
