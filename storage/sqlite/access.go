package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"weir/pipeline"
	"weir/storage"
)

// CreateToken stores a token and who made it, both or neither.
func (db *DB) CreateToken(ctx context.Context, k storage.Token, by storage.AuditEntry) error {
	return db.audited(ctx, "create token", by, func(t *tx) error {
		_, _, err := t.exec(`INSERT INTO tokens (id, name, mac, roles, creator, created, expires, revoked, used)
			VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)`, k.ID, k.Name, nonNil(k.MAC), strings.Join(k.Roles, " "), k.Creator, int64(k.Created), int64(k.Expires))
		return err
	})
}

// RevokeToken ends a token, with who did it. One that is revoked already keeps
// its time; one that is not stored is storage.ErrNoToken.
func (db *DB) RevokeToken(ctx context.Context, id string, at pipeline.Time, by storage.AuditEntry) error {
	return db.audited(ctx, "revoke token", by, func(t *tx) error {
		n, _, err := t.exec("UPDATE tokens SET revoked = CASE revoked WHEN 0 THEN ? ELSE revoked END WHERE id = ?", int64(at), id)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: %s", storage.ErrNoToken, id)
		}
		return err
	})
}

const tokenColumns = "SELECT id, name, mac, roles, creator, created, expires, revoked, used FROM tokens "

func scanToken(rows *sql.Rows, k *storage.Token) error {
	var roles string
	if err := rows.Scan(&k.ID, &k.Name, &k.MAC, &roles, &k.Creator, &k.Created, &k.Expires, &k.Revoked, &k.Used); err != nil {
		return err
	}
	k.Roles = strings.Fields(roles)
	return nil
}

// Token returns a token by its id, also one that is revoked or expired; ok is
// false without one.
func (db *DB) Token(ctx context.Context, id string) (k storage.Token, ok bool, err error) {
	list, err := readAll(ctx, db, "read token", scanToken, tokenColumns+"WHERE id = ?", id)
	if err != nil || len(list) == 0 {
		return k, false, err
	}
	return list[0], true, nil
}

// Tokens lists all tokens, the oldest first.
func (db *DB) Tokens(ctx context.Context) ([]storage.Token, error) {
	return readAll(ctx, db, "list tokens", scanToken, tokenColumns+"ORDER BY created, id")
}

// HasTokens tells whether any token was ever made: revoking the last one must
// not open what tokens close.
func (db *DB) HasTokens(ctx context.Context) (has bool, err error) {
	if err := db.readers.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM tokens)").Scan(&has); err != nil {
		return false, fmt.Errorf("look for tokens: %w", db.wrap(err))
	}
	return has, nil
}

// UseToken stores when a token was used last.
func (db *DB) UseToken(ctx context.Context, id string, at pipeline.Time) error {
	return db.write(ctx, "store use of token", func(t *tx) error {
		_, _, err := t.exec("UPDATE tokens SET used = max(used, ?) WHERE id = ?", int64(at), id)
		return err
	})
}

// SaveFeedReader stores how far a reader has come. It may go back: readers
// read again.
func (db *DB) SaveFeedReader(ctx context.Context, r storage.FeedReader) error {
	return db.write(ctx, "store reader of a feed", func(t *tx) error {
		_, _, err := t.exec(`INSERT INTO feed_readers (feed, reader, seq, time) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET seq = excluded.seq, time = excluded.time`, r.Feed, r.Reader, r.Seq, int64(r.Time))
		return err
	})
}

// FeedReaders lists the readers of all feeds.
func (db *DB) FeedReaders(ctx context.Context) ([]storage.FeedReader, error) {
	return readAll(ctx, db, "list readers of feeds", func(rows *sql.Rows, r *storage.FeedReader) error {
		return rows.Scan(&r.Feed, &r.Reader, &r.Seq, &r.Time)
	}, "SELECT feed, reader, seq, time FROM feed_readers ORDER BY feed, reader")
}

// FeedPage returns up to limit revisions behind seq and through until, in the
// order of their commits, of the given severities (none: all), and through:
// everything behind seq and through it is in the page, or of another severity.
// Who goes on from through gets each revision once, whatever is committed
// meanwhile.
func (db *DB) FeedPage(ctx context.Context, seq, until int64, severities []string, limit int) (list []storage.StoredAlert, through int64, err error) {
	// What is committed later stands behind last: seqs are given in the
	// transactions that commit them, and there is one at a time.
	_, last, err := db.FeedBounds(ctx)
	if err != nil {
		return nil, 0, err
	}
	last = min(last, until)
	query, args := "SELECT seq, body, backfill FROM alerts WHERE seq > ? AND seq <= ?", []any{seq, last}
	if len(severities) > 0 {
		query += " AND severity IN (?" + strings.Repeat(", ?", len(severities)-1) + ")"
		for _, s := range severities {
			args = append(args, s)
		}
	}
	if list, err = db.alerts(ctx, query+" ORDER BY seq LIMIT ?", append(args, limit)...); err != nil {
		return nil, 0, err
	}
	through = max(seq, last)
	if len(list) == limit {
		through = list[limit-1].Seq
	}
	return list, through, nil
}

// By itself SQLite would walk along the feed to the first row that is late enough.
const feedAtQuery = "SELECT min(seq) FROM alerts INDEXED BY alerts_changed WHERE max(time, detected_at) >= ?"

// FeedAt returns the place in front of the first stored revision that was made
// at t or later, in event time; ok is false while there is none.
func (db *DB) FeedAt(ctx context.Context, t pipeline.Time) (seq int64, ok bool, err error) {
	return db.placeAt(ctx, feedAtQuery, t)
}

// placeAt is the place in front of the seq that query gives for t.
func (db *DB) placeAt(ctx context.Context, query string, t pipeline.Time) (seq int64, ok bool, err error) {
	var first sql.NullInt64
	if err := db.readers.QueryRowContext(ctx, query, int64(t)).Scan(&first); err != nil {
		return 0, false, fmt.Errorf("find a time in a feed: %w", db.wrap(err))
	}
	return max(0, first.Int64-1), first.Valid, nil
}

// FeedBounds returns the highest seq that was removed from the alerts' feed and
// the highest one that was given, 0 for none.
func (db *DB) FeedBounds(ctx context.Context) (removed, last int64, err error) {
	return db.bounds(ctx, "alerts_removed", "alerts")
}

func (db *DB) bounds(ctx context.Context, counter, table string) (removed, last int64, err error) {
	err = db.readers.QueryRowContext(ctx, `SELECT (SELECT coalesce(sum(value), 0) FROM counters WHERE name = ?),
		(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?)`, counter, table).Scan(&removed, &last)
	if err != nil {
		return 0, 0, fmt.Errorf("read bounds of %s: %w", table, db.wrap(err))
	}
	return removed, last, nil
}
