// Package clickhouse is the store of a fleet: requests with rollups, findings and
// alert revisions in ClickHouse. It keeps what the logs carried; the logs stay the
// truth, and whatever is written again counts once.
//
// All methods may be called by many goroutines at once, except that inserts of
// one partition come from one goroutine, in their order.
package clickhouse

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	click "github.com/ClickHouse/clickhouse-go/v2"

	"weir/pipeline"
	"weir/storage"
)

// Options say where the server is and who weir is there.
type Options struct {
	Addresses []string // HOST:PORT of the native protocol; tried in turn
	Database  string   // "" is weir
	User      string
	Password  string
	TLS       *tls.Config // nil: without
	// DialTimeout bounds connecting; 0 is 10 s.
	DialTimeout time.Duration
}

// DB is an open store.
type DB struct {
	conn     click.Conn
	database string
}

const defaultDatabase = "weir"

// Open connects, and checks that the schema is there and fits; see Migrate.
func Open(ctx context.Context, o Options) (*DB, error) {
	o.Database = cmp.Or(o.Database, defaultDatabase)
	if err := exists(ctx, o); err != nil {
		return nil, err
	}
	db, err := connect(ctx, o, o.Database)
	if err != nil {
		return nil, err
	}
	if err := db.check(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// exists fails for a database that is not there.
func exists(ctx context.Context, o Options) (err error) {
	db, err := connect(ctx, o, "default")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var n uint64
	if err := db.conn.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = ?", o.Database).Scan(&n); err != nil {
		return wrap("look for database "+o.Database, err)
	}
	if n == 0 {
		return fmt.Errorf("there is no database %s: run weir migrate: %w", o.Database, storage.ErrUnfit)
	}
	return nil
}

// silentWithin is how long a server may say nothing, not even how far it is.
const silentWithin = 2 * time.Minute

func connect(ctx context.Context, o Options, database string) (*DB, error) {
	if o.DialTimeout == 0 {
		o.DialTimeout = 10 * time.Second
	}
	conn, err := click.Open(&click.Options{
		Addr: o.Addresses, Auth: click.Auth{Database: database, Username: o.User, Password: o.Password},
		TLS: o.TLS, DialTimeout: o.DialTimeout, ReadTimeout: silentWithin, Compression: &click.Compression{Method: click.CompressionLZ4},
		MaxOpenConns: 16, MaxIdleConns: 8, ConnMaxLifetime: 10 * time.Minute,
		ClientInfo: click.ClientInfo{Products: []struct{ Name, Version string }{{"weir", ""}}},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse: %w", err)
	}
	if err := conn.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to ClickHouse at %s: %w", strings.Join(o.Addresses, ", "), err), conn.Close())
	}
	return &DB{conn: conn, database: database}, nil
}

// Close ends the connections.
func (db *DB) Close() error { return db.conn.Close() }

// The times that DateTime64 with microseconds takes: years 1900 to 2299. What is
// beyond was no real time and is kept at the bound.
const (
	minTime = pipeline.Time(-2208988800 * 1e6)
	maxTime = pipeline.Time(10413791999 * 1e6)
)

func stampOf(t pipeline.Time) time.Time { return min(max(t, minTime), maxTime).Std() }

// bounds are the times of a filter; 0 is open.
func bounds(since, until pipeline.Time) (from, to time.Time) {
	if since == 0 {
		since = math.MinInt64
	}
	if until == 0 {
		until = math.MaxInt64
	}
	return stampOf(since), stampOf(until)
}

// transient reports whether err may pass: everything but what the server says
// about the statement itself.
func transient(err error) bool {
	var e *click.Exception
	if !errors.As(err, &e) {
		return true
	}
	switch e.Code {
	case codeTooManyParts, codeMemory, codeTooManyQueries, codeTimeout, codeNotEnoughSpace, codeReadOnly, codeSocket, codeAborted:
		return true
	}
	return false
}

// Codes of ClickHouse's ErrorCodes.cpp for what passes.
const (
	codeTimeout        = 159
	codeReadOnly       = 164
	codeTooManyQueries = 202
	codeSocket         = 210
	codeAborted        = 236 // it is shutting down
	codeMemory         = 241
	codeNotEnoughSpace = 243
	codeTooManyParts   = 252
)

// wrap says what an error kept weir from; one that no retry helps wraps
// pipeline.ErrPermanent.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	var e *click.Exception
	if errors.As(err, &e) && e.Code == codeNotEnoughSpace {
		return fmt.Errorf("%s: %w: %w", what, storage.ErrFull, err)
	}
	if !transient(err) {
		return fmt.Errorf("%s: %w: %w", what, pipeline.ErrPermanent, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
