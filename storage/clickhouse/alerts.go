package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"weir/pipeline"
	"weir/storage"
)

// AppendAlerts stores revisions at their places in the feed. Rows that are there
// already stay as they are.
func (db *DB) AppendAlerts(ctx context.Context, rows []storage.StoredAlert) error {
	if len(rows) == 0 {
		return nil
	}
	ctx = once(ctx, fmt.Sprintf("alerts/%d/%d/%d", rows[0].Seq, rows[len(rows)-1].Seq, len(rows)))
	batch, err := db.conn.PrepareBatch(ctx, "INSERT INTO alerts (seq, id, revision, first_time, time, severity, tier, detector, principal_kind, principal_value, status, backfill, body)")
	if err != nil {
		return wrap("store alerts", err)
	}
	for i := range rows {
		a := &rows[i].Alert
		if err := batch.Append(rows[i].Seq, a.ID, uint32(a.Revision), stampOf(a.Window.First), stampOf(a.Window.Last), a.Severity, a.Tier, a.Detector,
			a.Principal.Kind.String(), a.Principal.Value, a.Status, rows[i].Backfill, string(rows[i].Body)); err != nil {
			return wrap("store alerts", errors.Join(err, batch.Abort()))
		}
	}
	return wrap("store alerts", batch.Send())
}

// AppendFindings stores the latest state of findings; bodies are as the caller
// writes them, beside list.
func (db *DB) AppendFindings(ctx context.Context, list []pipeline.Finding, bodies [][]byte) error {
	if len(list) == 0 {
		return nil
	}
	batch, err := db.conn.PrepareBatch(ctx, "INSERT INTO findings (time, id, detector, principal_kind, principal_value, body)")
	if err != nil {
		return wrap("store findings", err)
	}
	for i := range list {
		f := &list[i]
		if err := batch.Append(stampOf(f.Time), f.ID, f.Detector, f.Who.Kind.String(), f.Who.Value, string(bodies[i])); err != nil {
			return wrap("store findings", errors.Join(err, batch.Abort()))
		}
	}
	return wrap("store findings", batch.Send())
}

// Alerts returns the latest revision of each alert that f selects, the one that
// changed last first.
func (db *DB) Alerts(ctx context.Context, f storage.AlertFilter) ([]storage.StoredAlert, error) {
	where, args := []string{"seq IN (SELECT max(seq) FROM alerts GROUP BY id)"}, []any(nil)
	add := func(cond string, a any) {
		where = append(where, cond)
		args = append(args, a)
	}
	if f.Since != 0 {
		add("time >= ?", stampOf(f.Since))
	}
	if f.Until != 0 {
		add("first_time <= ?", stampOf(f.Until))
	}
	if len(f.Severity) > 0 {
		add("severity IN ?", f.Severity)
	}
	if f.Detector != "" {
		add("detector = ?", f.Detector)
	}
	if f.Principal.Value != "" {
		add("principal_value = ?", f.Principal.Value)
		add("principal_kind = ?", f.Principal.Kind.String())
	}
	if f.Status != "" {
		add("status = ?", f.Status)
	}
	if f.AfterSeq != 0 {
		add("seq > ?", f.AfterSeq)
	}
	if f.BeforeSeq != 0 {
		add("seq < ?", f.BeforeSeq)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	return db.alerts(ctx, strings.Join(where, " AND ")+" ORDER BY seq DESC LIMIT ?", append(args, limit)...)
}

// Alert returns all revisions of an alert, the first one first; none for an id
// that is not stored.
func (db *DB) Alert(ctx context.Context, id string) ([]storage.StoredAlert, error) {
	return db.alerts(ctx, "id = ? ORDER BY revision", id)
}

// AlertsAfter returns up to limit revisions of the feed behind seq, in order. A
// reader that goes on from the last one's Seq misses none.
func (db *DB) AlertsAfter(ctx context.Context, seq int64, limit int) ([]storage.StoredAlert, error) {
	return db.alerts(ctx, "seq > ? ORDER BY seq LIMIT ?", seq, limit)
}

// alerts selects rows by what stands behind WHERE.
func (db *DB) alerts(ctx context.Context, where string, args ...any) (list []storage.StoredAlert, err error) {
	rows, err := db.conn.Query(ctx, "SELECT seq, body, backfill FROM alerts FINAL WHERE "+where, args...)
	if err != nil {
		return nil, wrap("read alerts", err)
	}
	for rows.Next() {
		var a storage.StoredAlert
		var body string
		if err := rows.Scan(&a.Seq, &body, &a.Backfill); err != nil {
			return nil, wrap("read alerts", errors.Join(err, rows.Close()))
		}
		a.Body = []byte(body)
		if err := json.Unmarshal(a.Body, &a.Alert); err != nil {
			return nil, errors.Join(fmt.Errorf("%d of the feed: %w", a.Seq, err), rows.Close())
		}
		list = append(list, a)
	}
	return list, wrap("read alerts", errors.Join(rows.Err(), rows.Close()))
}
