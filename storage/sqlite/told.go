package sqlite

import (
	"context"
	"database/sql"

	"weir/storage"
)

// Told returns the open alerts that sink was told of, by alert.
func (db *DB) Told(ctx context.Context, sink string) ([]storage.Told, error) {
	return readAll(ctx, db, "list what sink "+sink+" knows", func(rows *sql.Rows, t *storage.Told) error {
		return rows.Scan(&t.Alert, &t.Group, &t.Seq, &t.Next, &t.Repeats)
	}, "SELECT alert, grp, seq, next_time, repeats FROM sink_told WHERE sink = ? ORDER BY alert", sink)
}

// SinkGroups returns the groups of sink, by key.
func (db *DB) SinkGroups(ctx context.Context, sink string) ([]storage.SinkGroup, error) {
	return readAll(ctx, db, "list groups of sink "+sink, func(rows *sql.Rows, g *storage.SinkGroup) error {
		return rows.Scan(&g.Group, &g.Common, &g.Thread)
	}, "SELECT grp, common, thread FROM sink_groups WHERE sink = ? ORDER BY grp", sink)
}

// SaveTold stores a sink's cursor together with what it was told on the way.
func (db *DB) SaveTold(ctx context.Context, sink string, c storage.ToldChange) error {
	return db.writeFirst(ctx, "store what sink "+sink+" knows", func(t *tx) error {
		if _, _, err := t.exec(`INSERT INTO sink_cursors (sink, seq, attempts, next_time) VALUES (?, ?, 0, 0)
			ON CONFLICT DO UPDATE SET seq = excluded.seq`, sink, c.Cursor); err != nil {
			return err
		}
		for _, id := range c.Over {
			if _, _, err := t.exec("DELETE FROM sink_told WHERE sink = ? AND alert = ?", sink, id); err != nil {
				return err
			}
		}
		for _, a := range c.Told {
			if _, _, err := t.exec(`INSERT INTO sink_told (sink, alert, grp, seq, next_time, repeats) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET grp = excluded.grp, seq = excluded.seq, next_time = excluded.next_time, repeats = excluded.repeats`,
				sink, a.Alert, a.Group, a.Seq, int64(a.Next), a.Repeats); err != nil {
				return err
			}
		}
		for _, key := range c.Closed {
			if _, _, err := t.exec("DELETE FROM sink_groups WHERE sink = ? AND grp = ?", sink, key); err != nil {
				return err
			}
		}
		for _, g := range c.Groups {
			if _, _, err := t.exec(`INSERT INTO sink_groups (sink, grp, common, thread) VALUES (?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET common = excluded.common, thread = excluded.thread`, sink, g.Group, g.Common, g.Thread); err != nil {
				return err
			}
		}
		return nil
	})
}

// LatestAlert returns the newest revision of an alert; ok is false for one that is
// not stored.
func (db *DB) LatestAlert(ctx context.Context, id string) (a storage.StoredAlert, ok bool, err error) {
	list, err := db.alerts(ctx, "SELECT seq, body, backfill FROM alerts WHERE id = ? ORDER BY revision DESC LIMIT 1", id)
	if err != nil || len(list) == 0 {
		return a, false, err
	}
	return list[0], true, nil
}
