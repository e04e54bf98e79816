package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"weir/pipeline"
	"weir/storage"
)

// maxEndpoints bounds the endpoints that are told apart: attackers write paths.
const maxEndpoints = 5000

// AddTraffic adds counts to the rollups by endpoint and moves the cursor of stage to
// position, in one step. Nothing changes when the cursor is there already.
func (db *DB) AddTraffic(ctx context.Context, stage string, position int64, list []storage.EndpointMinute) error {
	return db.write(ctx, "store traffic", func(t *tx) error {
		var stored int64
		if _, err := t.row("SELECT position FROM stage_cursors WHERE stage = ?", []any{stage}, &stored); err != nil || position <= stored {
			return err
		}
		ids := map[pipeline.Endpoint]int64{}
		for i := range list {
			m := &list[i]
			id, ok := ids[m.Endpoint]
			if !ok {
				var err error
				if id, err = t.endpoint(m.Endpoint); err != nil {
					return err
				}
				ids[m.Endpoint] = id
			}
			if _, _, err := t.exec(`INSERT INTO endpoint_minutes (endpoint, minute, status_class, requests, bytes) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, bytes = bytes + excluded.bytes`,
				id, minuteOf(m.Time), m.StatusClass, m.Requests, m.Bytes); err != nil {
				return err
			}
		}
		_, _, err := t.exec("INSERT INTO stage_cursors (stage, position) VALUES (?, ?) ON CONFLICT DO UPDATE SET position = excluded.position", stage, position)
		return err
	})
}

// endpoint returns an endpoint's id, 0 for one past the bound.
func (t *tx) endpoint(e pipeline.Endpoint) (id int64, err error) {
	args := []any{e.Method, e.Host, e.Template}
	if ok, err := t.row("SELECT id FROM endpoints WHERE method = ? AND host = ? AND template = ?", args, &id); ok || err != nil {
		return id, err
	}
	var n int64
	if _, err := t.row("SELECT count(*) FROM endpoints", nil, &n); err != nil || n > maxEndpoints {
		return 0, err
	}
	_, id, err = t.exec("INSERT INTO endpoints (method, host, template) VALUES (?, ?, ?)", args...)
	return id, err
}

// EndpointTotals sums the rollups of endpoints over [since, until); other are the
// requests of those past the bound.
func (db *DB) EndpointTotals(ctx context.Context, since, until pipeline.Time) (list []storage.EndpointTotal, other int64, err error) {
	list, err = readAll(ctx, db, "read endpoints", func(rows *sql.Rows, e *storage.EndpointTotal) error {
		var last int64
		err := rows.Scan(&e.Endpoint.Method, &e.Endpoint.Host, &e.Endpoint.Template, &e.Requests, &e.Errors, &e.Bytes, &last)
		e.Last = pipeline.Time(last * minuteSize)
		return err
	}, `SELECT e.method, e.host, e.template, sum(m.requests), sum(CASE WHEN m.status_class IN (4, 5) THEN m.requests ELSE 0 END), sum(m.bytes), max(m.minute)
		FROM endpoint_minutes m INDEXED BY endpoint_minutes_time JOIN endpoints e ON e.id = m.endpoint WHERE m.minute >= ? AND m.minute <= ? GROUP BY m.endpoint`,
		minuteOf(since), minuteOf(until-1))
	kept := list[:0]
	for _, e := range list {
		if e.Endpoint == (pipeline.Endpoint{}) {
			other = e.Requests
			continue
		}
		kept = append(kept, e)
	}
	return kept, other, err
}

// EndpointMinutes returns an endpoint's rollups of [since, until) in order of time.
func (db *DB) EndpointMinutes(ctx context.Context, of pipeline.Endpoint, since, until pipeline.Time) ([]storage.Minute, error) {
	return readAll(ctx, db, "read an endpoint", func(rows *sql.Rows, m *storage.Minute) error {
		var minute int64
		err := rows.Scan(&minute, &m.StatusClass, &m.Requests, &m.Bytes)
		m.Time = pipeline.Time(minute * minuteSize)
		return err
	}, `SELECT m.minute, m.status_class, m.requests, m.bytes FROM endpoints e JOIN endpoint_minutes m ON m.endpoint = e.id
		WHERE e.method = ? AND e.host = ? AND e.template = ? AND m.minute >= ? AND m.minute <= ? ORDER BY m.minute, m.status_class`,
		of.Method, of.Host, of.Template, minuteOf(since), minuteOf(until-1))
}

// SinkBacklogs counts, by sink, what is tried again and what is dead.
func (db *DB) SinkBacklogs(ctx context.Context) (map[string]storage.SinkBacklog, error) {
	type row struct {
		sink string
		n    storage.SinkBacklog
	}
	list, err := readAll(ctx, db, "count what sinks did not take", func(rows *sql.Rows, r *row) error {
		return rows.Scan(&r.sink, &r.n.Retries, &r.n.Dead)
	}, "SELECT sink, sum(r), sum(d) FROM (SELECT sink, 1 AS r, 0 AS d FROM sink_retries UNION ALL SELECT sink, 0, 1 FROM dead_letters) GROUP BY sink")
	out := map[string]storage.SinkBacklog{}
	for _, r := range list {
		out[r.sink] = r.n
	}
	if err != nil {
		return nil, fmt.Errorf("sinks: %w", err)
	}
	return out, nil
}
