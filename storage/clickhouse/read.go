package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"weir/pipeline"
	"weir/storage"
)

// Requests calls fn for the stored requests that f selects, with the name of
// their source, until fn returns false, f.Limit is reached or there are no
// more: the newest first. The request is valid during the call only.
func (db *DB) Requests(ctx context.Context, f storage.RequestFilter, fn func(r *pipeline.Request, source string) bool) error {
	from, to := bounds(f.Since, f.Until)
	where, args := []string{"time >= ?", "time <= ?"}, []any{from, to}
	if f.Principal.Value != "" {
		where = append(where, "owner = ?", "kind = ?")
		args = append(args, f.Principal.Hash(), f.Principal.Kind.String())
	}
	if f.Status != 0 {
		where = append(where, "status = ?")
		args = append(args, uint16(f.Status))
	}
	if f.PathPrefix != "" {
		where = append(where, "startsWith(path, ?)")
		args = append(args, f.PathPrefix)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 1000
	}
	rows, err := db.conn.Query(ctx, "SELECT "+requestColumns+" FROM requests WHERE "+strings.Join(where, " AND ")+
		" ORDER BY time DESC, source_id DESC, line DESC LIMIT ?", append(args, limit)...)
	if err != nil {
		return wrap("read requests", err)
	}
	var c cells
	for rows.Next() {
		if err := rows.Scan(c.places()...); err != nil {
			return wrap("read requests", errors.Join(err, rows.Close()))
		}
		if !fn(c.request(), c.source) {
			return rows.Close()
		}
	}
	return wrap("read requests", errors.Join(rows.Err(), rows.Close()))
}

// cells are a row of requests.
type cells struct {
	r                     pipeline.Request
	time                  time.Time
	kind, country, source string
	address, forwarded    netip.Addr
	flags                 uint16
	payloads              uint32
	template              string
	sourceID              uint64
}

// places are where the columns go, in the order of requestColumns.
func (c *cells) places() []any {
	r := &c.r
	return []any{
		&c.time, &r.Owner, &c.kind, &c.address, &c.forwarded, &r.Method, &r.Host, &r.Path, &r.Query, &r.Operation, &c.template, &r.Status, &r.Bytes, &r.Duration, &r.Agent, &r.Referer,
		&r.Account, &r.Key, &r.Session, &r.LoginUser, &r.JA3, &r.JA4, &r.RequestID, &r.ASN, &c.country, &c.flags, &c.payloads, &r.Slot, &c.source, &c.sourceID, &r.Line,
	}
}

func (c *cells) request() *pipeline.Request {
	r := &c.r
	r.Time = pipeline.TimeOf(c.time)
	_ = r.Kind.UnmarshalText([]byte(c.kind)) // never fails
	r.Address, r.Forwarded = pipeline.Address(c.address.As16()), pipeline.Address(c.forwarded.As16())
	r.Flags, r.Payloads = pipeline.RequestFlags(c.flags), pipeline.Payloads(c.payloads)
	r.Country = pipeline.Country{}
	copy(r.Country[:], c.country)
	return r
}

// Minutes returns the rollups of [since, until) in order of time.
func (db *DB) Minutes(ctx context.Context, since, until pipeline.Time) (list []storage.Minute, err error) {
	if until <= since {
		return nil, errors.New("read minutes: the range is empty")
	}
	rows, err := db.conn.Query(ctx, `SELECT minute, source_id, status_class, sum(requests), sum(bytes) FROM source_minutes
		WHERE minute >= toStartOfMinute(?) AND minute <= ? GROUP BY minute, source_id, status_class ORDER BY minute, source_id, status_class LIMIT 1000000`,
		stampOf(since), stampOf(until-1))
	if err != nil {
		return nil, wrap("read minutes", err)
	}
	for rows.Next() {
		var at time.Time
		var class uint8
		var requests, bytes uint64
		var m storage.Minute
		if err := rows.Scan(&at, &m.SourceID, &class, &requests, &bytes); err != nil {
			return nil, wrap("read minutes", errors.Join(err, rows.Close()))
		}
		m.Time, m.StatusClass, m.Requests, m.Bytes = pipeline.TimeOf(at), int(class), int64(requests), int64(bytes)
		list = append(list, m)
	}
	return list, wrap("read minutes", errors.Join(rows.Err(), rows.Close()))
}

// EndpointMinute is a minute of an endpoint's traffic.
type EndpointMinute struct {
	Time     pipeline.Time // its start
	Class    int           // of the status: 2 is 2xx; 0 unknown
	Requests int64
	Bytes    int64
	Clients  int64 // distinct ones, within some percent
}

// EndpointMinutes returns an endpoint's traffic of [since, until) by minute and
// class of status, in that order.
func (db *DB) EndpointMinutes(ctx context.Context, e pipeline.Endpoint, since, until pipeline.Time) (list []EndpointMinute, err error) {
	rows, err := db.conn.Query(ctx, `SELECT minute, status_class, sum(requests), sum(bytes), uniqCombined64Merge(12)(clients) FROM endpoint_minutes
		WHERE host = ? AND template = ? AND method = ? AND minute >= toStartOfMinute(?) AND minute < ?
		GROUP BY minute, status_class ORDER BY minute, status_class`, e.Host, e.Template, e.Method, stampOf(since), stampOf(until))
	if err != nil {
		return nil, wrap("read an endpoint's minutes", err)
	}
	for rows.Next() {
		var at time.Time
		var class uint8
		var requests, bytes, clients uint64
		if err := rows.Scan(&at, &class, &requests, &bytes, &clients); err != nil {
			return nil, wrap("read an endpoint's minutes", errors.Join(err, rows.Close()))
		}
		list = append(list, EndpointMinute{pipeline.TimeOf(at), int(class), int64(requests), int64(bytes), int64(clients)})
	}
	return list, wrap("read an endpoint's minutes", errors.Join(rows.Err(), rows.Close()))
}

// Count returns how many requests are stored.
func (db *DB) Count(ctx context.Context) (n int64, err error) {
	var rows uint64
	if err := db.conn.QueryRow(ctx, "SELECT count() FROM requests").Scan(&rows); err != nil {
		return 0, fmt.Errorf("count requests: %w", err)
	}
	return int64(rows), nil
}

// maxEndpoints is how many endpoints EndpointTotals tells apart.
const maxEndpoints = 5000

// EndpointTotals sums the traffic of endpoints over [since, until), those with most
// requests first; other are the requests of those past maxEndpoints.
func (db *DB) EndpointTotals(ctx context.Context, since, until pipeline.Time) (list []storage.EndpointTotal, other int64, err error) {
	rows, err := db.conn.Query(ctx, `SELECT method, host, template, sum(requests) AS n, sumIf(requests, status_class IN (4, 5)), sum(bytes), max(minute), sum(n) OVER ()
		FROM endpoint_minutes WHERE minute >= toStartOfMinute(?) AND minute < ?
		GROUP BY method, host, template ORDER BY n DESC, template, method, host LIMIT ?`, stampOf(since), stampOf(until), maxEndpoints)
	if err != nil {
		return nil, 0, wrap("read endpoints", err)
	}
	for rows.Next() {
		var e storage.EndpointTotal
		var requests, failed, bytes, all uint64
		var last time.Time
		if err := rows.Scan(&e.Endpoint.Method, &e.Endpoint.Host, &e.Endpoint.Template, &requests, &failed, &bytes, &last, &all); err != nil {
			return nil, 0, wrap("read endpoints", errors.Join(err, rows.Close()))
		}
		e.Requests, e.Errors, e.Bytes, e.Last = int64(requests), int64(failed), int64(bytes), pipeline.TimeOf(last)
		if len(list) == 0 {
			other = int64(all)
		}
		other -= e.Requests
		list = append(list, e)
	}
	return list, other, wrap("read endpoints", errors.Join(rows.Err(), rows.Close()))
}

// Summary is what there is of requests.
type Summary struct {
	Requests       int64
	Oldest, Newest pipeline.Time // 0 without any
}

// Summary returns what there is of requests; it reads no row.
func (db *DB) Summary(ctx context.Context) (s Summary, err error) {
	var n uint64
	var oldest, newest time.Time
	if err := db.conn.QueryRow(ctx, "SELECT count(), min(time), max(time) FROM requests").Scan(&n, &oldest, &newest); err != nil {
		return s, wrap("count requests", err)
	}
	if s.Requests = int64(n); n > 0 {
		s.Oldest, s.Newest = pipeline.TimeOf(oldest), pipeline.TimeOf(newest)
	}
	return s, nil
}
