// Package sqlite is weir's embedded log and store: one file that holds the
// requests log, every stage's cursor and output, checkpoints and delivery.
//
// What a method has stored when it returns nil is durable (write-ahead log,
// synced at every commit). One connection writes, in the order of the calls;
// a few read beside it. All methods may be called from any goroutine.
//
// Beside weir.db stand weir.db-wal and weir.db-shm (SQLite's), weir.db.lock
// (held while a process writes) and weir.db.reserve: room that is given up when
// the disk is full, so that alerts and the removal of old requests still work.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"weir/pipeline"
	"weir/storage"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// Options are Open's; the zero value is right for the service.
type Options struct {
	// ReadOnly opens the store beside the process that writes it. Writes fail
	// and WaitAfter does not see what the other process appends.
	ReadOnly bool
	// Beside opens the store for a few small writes, of tokens and the audit,
	// while another process may have it. It must exist and be up to date.
	Beside  bool
	Reserve int64 // bytes kept for a full disk; 0: 16 MiB, below 0: none
	Readers int   // connections that read; 0: 4
}

const (
	pageSize = 8192
	// logSize is where the write-ahead log is moved into the file. On a disk that
	// is full the log can be twice as large, and the file needs as much room to
	// take it in: the reserve must be more than that.
	logSize = 4 << 20
)

// DB is an open store.
type DB struct {
	path    string
	writer  *sql.DB
	conn    *sql.Conn            // the writer's one connection; nil when read-only
	stmts   map[string]*sql.Stmt // of conn, by their text; all are constants
	turn    chan struct{}        // holds one token: who has it may use conn
	readers *sql.DB
	codec   *pipeline.Codec
	buffers sync.Pool // of *appendBuffer
	lock    *os.File
	reserve reserve
	limits  findLimits

	checkpointing sync.Mutex

	mu     sync.Mutex
	last   int64         // position of the last record
	alert  int64         // seq of the last alert revision
	audit  int64         // seq of the last audit entry that this process knows
	moved  chan struct{} // closed and replaced when one of them grows
	closed bool
}

// Open opens the store at path and creates it where there is none. Its
// directory must exist.
func Open(path string, o Options) (*DB, error) {
	db, err := open(path, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return db, nil
}

func open(path string, o Options) (_ *DB, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	db := &DB{
		path: path, codec: pipeline.NewCodec(), stmts: make(map[string]*sql.Stmt),
		turn: make(chan struct{}, 1), moved: make(chan struct{}), limits: defaultFindLimits(),
	}
	db.turn <- struct{}{}
	defer func() {
		if err != nil {
			db.Close()
		}
	}()
	ctx := context.Background()
	if o.ReadOnly || o.Beside {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	switch {
	case o.ReadOnly:
	case o.Beside:
		if err := db.openWriter(ctx, 10_000); err != nil {
			return nil, err
		}
	default:
		if err := db.own(ctx, o.Reserve); err != nil {
			return nil, err
		}
	}
	readers := o.Readers
	if readers == 0 {
		readers = 4
	}
	if db.readers, err = pool(path, readers, "busy_timeout(10000)", "query_only(1)", "cache_size(-4000)"); err != nil {
		return nil, err
	}
	if o.ReadOnly || o.Beside {
		if err := checkVersion(ctx, db.readers); err != nil {
			return nil, db.wrap(err)
		}
	}
	sequence := func(table string, into *int64) error {
		err := db.readers.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", table).Scan(into)
		return db.wrap(err)
	}
	if err := errors.Join(sequence("request_blocks", &db.last), sequence("alerts", &db.alert), sequence("audit", &db.audit)); err != nil {
		return nil, err
	}
	return db, nil
}

// own makes db the one that writes the file.
func (db *DB) own(ctx context.Context, reserved int64) error {
	if err := db.prepareFile(); err != nil {
		return err
	}
	if err := db.openWriter(ctx, 2000); err != nil {
		return err
	}
	if err := migrate(ctx, db.conn); err != nil {
		return db.wrap(err)
	}
	if reserved >= 0 {
		db.reserve = reserve{path: db.path + ".reserve", size: reserved}
		if reserved == 0 {
			db.reserve.size = 4 * logSize
		}
		db.reserve.arm() // a disk too full for it shows in Stats
	}
	return nil
}

// openWriter opens the connection that writes; it waits for so many
// milliseconds when another process is writing.
func (db *DB) openWriter(ctx context.Context, patience int) (err error) {
	if db.writer, err = pool(db.path, 1, fmt.Sprintf("busy_timeout(%d)", patience), "synchronous(FULL)", "cache_size(-16000)",
		fmt.Sprintf("wal_autocheckpoint(%d)", logSize/pageSize), fmt.Sprintf("journal_size_limit(%d)", 2*logSize)); err != nil {
		return err
	}
	if db.conn, err = db.writer.Conn(ctx); err != nil {
		return db.wrap(err)
	}
	return nil
}

// prepareFile takes the lock and makes sure the file can be written, before
// SQLite reports the same in its own words.
func (db *DB) prepareFile() error {
	dir := filepath.Dir(db.path)
	if st, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%w: create the directory", err)
	} else if !st.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	lock, err := lockFile(db.path + ".lock")
	if err != nil {
		return err
	}
	db.lock = lock
	// Traffic is nobody else's business: SQLite gives its other files this mode.
	f, err := os.OpenFile(db.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	switch {
	case err == nil:
		return f.Close()
	case !errors.Is(err, os.ErrExist):
		return err
	}
	if st, err := os.Stat(db.path); err != nil {
		return err
	} else if !st.Mode().IsRegular() {
		return fmt.Errorf("not a regular file: %w", storage.ErrUnfit)
	}
	return writable(db.path)
}

// pool opens connections to the file with the given pragmas.
func pool(path string, size int, pragmas ...string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path // a drive letter
	}
	q := url.Values{"_pragma": pragmas}
	u.RawQuery = q.Encode()
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

// Close waits for the write at work, ends the calls that wait, and closes the
// file.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	close(db.moved)
	db.mu.Unlock()
	var errs []error
	if db.readers != nil {
		errs = append(errs, db.readers.Close())
	}
	<-db.turn
	defer func() { db.turn <- struct{}{} }()
	if db.conn != nil {
		for _, s := range db.stmts {
			s.Close()
		}
		errs = append(errs, db.conn.Close())
	}
	if db.writer != nil {
		errs = append(errs, db.writer.Close())
	}
	if db.lock != nil {
		errs = append(errs, unlockFile(db.lock))
	}
	return errors.Join(errs...)
}

// tx is a write transaction.
type tx struct {
	ctx context.Context
	db  *DB
}

// write runs f in a transaction and commits it. It returns f's error as it is,
// and the store's with what was being done.
func (db *DB) write(ctx context.Context, what string, f func(*tx) error) error {
	if db.conn == nil {
		return fmt.Errorf("%s: the store is open read-only", what)
	}
	select {
	case <-db.turn:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	defer func() { db.turn <- struct{}{} }()
	db.mu.Lock()
	closed := db.closed
	db.mu.Unlock()
	if closed {
		return fmt.Errorf("%s: %w", what, storage.ErrClosed)
	}
	t := &tx{ctx, db}
	// BEGIN and COMMIT do not end half way: whether a commit took effect must
	// be known.
	whole := context.WithoutCancel(ctx)
	_, err := db.conn.ExecContext(whole, "BEGIN IMMEDIATE")
	if err == nil {
		if err = f(t); err == nil {
			_, err = db.conn.ExecContext(whole, "COMMIT")
		}
		if err != nil {
			// A full disk may have rolled it back already.
			_, _ = db.conn.ExecContext(whole, "ROLLBACK")
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, db.wrap(err))
	}
	return nil
}

// writeFirst is write for what must get through on a full disk: it gives up the
// reserve and tries once more.
func (db *DB) writeFirst(ctx context.Context, what string, f func(*tx) error) error {
	err := db.write(ctx, what, f)
	if errors.Is(err, storage.ErrFull) && db.reserve.release() {
		err = db.write(ctx, what, f)
	}
	return err
}

func (t *tx) stmt(query string) (*sql.Stmt, error) {
	s := t.db.stmts[query]
	if s == nil {
		var err error
		if s, err = t.db.conn.PrepareContext(t.ctx, query); err != nil {
			return nil, err
		}
		t.db.stmts[query] = s
	}
	return s, nil
}

// exec runs query, a constant, and returns the rows it changed and the last
// rowid it inserted.
func (t *tx) exec(query string, args ...any) (rows, id int64, err error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, 0, err
	}
	r, err := s.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, 0, err
	}
	rows, _ = r.RowsAffected()
	id, _ = r.LastInsertId()
	return rows, id, nil
}

// row scans the one row of query, a constant; ok is false without any.
func (t *tx) row(query string, args []any, into ...any) (ok bool, err error) {
	s, err := t.stmt(query)
	if err != nil {
		return false, err
	}
	err = s.QueryRowContext(t.ctx, args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// count adds n to a counter that Stats shows.
func (t *tx) count(name string, n int64) error {
	if n == 0 {
		return nil
	}
	_, _, err := t.exec("INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value", name, n)
	return err
}

// wrap marks the errors whose remedy differs.
func (db *DB) wrap(err error) error {
	var e *driver.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_FULL:
		return fmt.Errorf("%w (%w)", storage.ErrFull, err)
	case lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN:
		// Growing the shared memory beside the file fails in other words.
		if free, ok := diskFree(filepath.Dir(db.path)); ok && free < 256<<10 {
			return fmt.Errorf("%w (%w)", storage.ErrFull, err)
		}
	case lib.SQLITE_NOTADB, lib.SQLITE_CORRUPT:
		return fmt.Errorf("%w: move the file away, or restore it (%w)", storage.ErrUnfit, err)
	case lib.SQLITE_READONLY:
		return fmt.Errorf("%w: the file or its directory is read-only", err)
	}
	return err
}
