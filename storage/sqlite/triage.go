package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"weir/storage"
)

// SaveTriage stores t and who made it so, both or neither. t continues the stored
// revision, else the error is storage.ErrStale; an alert that is not stored is
// storage.ErrNoAlert.
func (db *DB) SaveTriage(ctx context.Context, t storage.Triage, by storage.AuditEntry) error {
	var position int64
	err := db.audited(ctx, "store triage", by, func(tx *tx) error {
		var seq, have int64
		ok, err := tx.row("SELECT seq FROM alerts WHERE id = ? AND latest = 1", []any{t.ID}, &seq)
		if err == nil && !ok {
			err = fmt.Errorf("%w: %s", storage.ErrNoAlert, t.ID)
		}
		if err != nil {
			return err
		}
		if _, err := tx.row("SELECT revision FROM triage WHERE id = ?", []any{t.ID}, &have); err != nil {
			return err
		}
		if t.Revision != have+1 {
			return fmt.Errorf("%w: %s is at %d", storage.ErrStale, t.ID, have)
		}
		_, _, err = tx.exec(`INSERT INTO triage (id, revision, body) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET revision = excluded.revision, body = excluded.body`, t.ID, t.Revision, nonNil(t.Body))
		if err == nil && t.Control != nil {
			position, err = tx.appendControl(*t.Control)
		}
		return err
	})
	if err == nil && position > 0 {
		db.advance(position, 0)
	}
	return err
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
