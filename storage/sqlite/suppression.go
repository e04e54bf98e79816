package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"weir/pipeline"
	"weir/storage"
)

// SuppressionControl is the kind of the control record that brings a suppression, or
// news of one, into the log.
const SuppressionControl = "suppression"

// VerdictControl is the kind of the record of what people say that an alert was.
const VerdictControl = "verdict"

// PutSuppression stores s, or news of it, at its place in the log and in the list, with
// who made it so: all or nothing.
func (db *DB) PutSuppression(ctx context.Context, s pipeline.Suppression, by storage.AuditEntry) error {
	body, err := marshal(&s)
	if err != nil {
		return fmt.Errorf("store suppression: %w", err)
	}
	var position int64
	err = db.audited(ctx, "store suppression", by, func(t *tx) error {
		if position, err = t.appendControl(pipeline.Control{Kind: SuppressionControl, Payload: body}); err != nil {
			return err
		}
		_, _, err = t.exec(`INSERT INTO suppressions (id, created, ends, body) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET ends = excluded.ends, body = excluded.body`, s.ID, int64(s.Created), int64(s.End()), body)
		return err
	})
	if err == nil {
		db.advance(position, 0)
	}
	return err
}

const suppressionColumns = `SELECT s.body, (SELECT count(*) FROM suppressed_alerts WHERE suppression = s.id) FROM suppressions s `

func scanSuppression(rows *sql.Rows, s *storage.Suppression) error {
	var body []byte
	if err := rows.Scan(&body, &s.Hidden); err != nil {
		return err
	}
	if err := json.Unmarshal(body, &s.Suppression); err != nil {
		return fmt.Errorf("a suppression: %w", err)
	}
	return nil
}

// Suppressions lists up to limit suppressions, what was made last first, also those
// that ended.
func (db *DB) Suppressions(ctx context.Context, limit int) ([]storage.Suppression, error) {
	return readAll(ctx, db, "list suppressions", scanSuppression, suppressionColumns+"ORDER BY s.created DESC, s.id LIMIT ?", limit)
}

// SuppressionsFrom lists those that end at or behind a time.
func (db *DB) SuppressionsFrom(ctx context.Context, from pipeline.Time) ([]storage.Suppression, error) {
	return readAll(ctx, db, "list suppressions", scanSuppression, suppressionColumns+"WHERE s.ends >= ? ORDER BY s.id", int64(from))
}

// Suppression returns one by its id; ok is false without it.
func (db *DB) Suppression(ctx context.Context, id string) (s storage.Suppression, ok bool, err error) {
	list, err := readAll(ctx, db, "read suppression", scanSuppression, suppressionColumns+"WHERE s.id = ?", id)
	if err != nil || len(list) == 0 {
		return s, false, err
	}
	return list[0], true, nil
}

// TruePositives lists the cases that ended at or behind a time and that people
// confirmed.
func (db *DB) TruePositives(ctx context.Context, from pipeline.Time) ([]storage.TruePositive, error) {
	return readAll(ctx, db, "list confirmed alerts", func(rows *sql.Rows, v *storage.TruePositive) error {
		var who string
		if err := rows.Scan(&who, &v.First, &v.Last); err != nil {
			return err
		}
		kind, value, _ := strings.Cut(who, ":")
		v.Who.Value = value
		return v.Who.Kind.UnmarshalText([]byte(kind))
	}, `SELECT l.principal, l.first_time, l.time FROM alert_facets f CROSS JOIN alert_list l INDEXED BY alert_list_facet
		WHERE f.verdict = 'true_positive' AND l.facet = f.id AND l.time >= ? ORDER BY l.id`, int64(from))
}

// noteSilence counts a revision that a suppression kept from sinks.
func (t *tx) noteSilence(a *pipeline.Alert) error {
	id, silent := a.Silent()
	if id == "" || !silent {
		return nil
	}
	_, _, err := t.exec("INSERT INTO suppressed_alerts (suppression, alert) VALUES (?, ?) ON CONFLICT DO NOTHING", id, a.ID)
	return err
}
