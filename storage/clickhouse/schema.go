package clickhouse

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"weir/storage"
)

//go:embed schema/*.sql
var schema embed.FS

// Retention is how long each class of rows stays; 0 keeps what is configured in
// the schema already, which is forever at first.
type Retention struct {
	Requests time.Duration
	Rollups  time.Duration
	Alerts   time.Duration // and findings
}

// migrations are the schema files in order; file n brings the schema from
// version n-1 to n.
func migrations() ([]string, error) {
	names, err := fs.Glob(schema, "schema/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if n, err := strconv.Atoi(name[len("schema/"):][:4]); err != nil || n != i+1 {
			return nil, fmt.Errorf("schema file %s: want number %d", name, i+1)
		}
	}
	return names, nil
}

// Migrate makes the database if it is absent, brings its schema up to date and
// sets the retention; applied are the files it took. One process migrates at a
// time; statements that were made already are passed over, so that one that was
// interrupted is made again.
func Migrate(ctx context.Context, o Options, keep Retention) (applied []string, err error) {
	first, err := connect(ctx, o, "default")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, first.Close()) }()
	name := cmp.Or(o.Database, defaultDatabase)
	if err := first.conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+quote(name)); err != nil {
		return nil, wrap("make database "+name, err)
	}
	db, err := connect(ctx, o, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS schema_versions (version UInt32, time DateTime('UTC') DEFAULT now()) ENGINE = MergeTree ORDER BY version`); err != nil {
		return nil, wrap("make the table of versions", err)
	}
	have, files, err := db.version(ctx)
	if err != nil {
		return nil, err
	}
	for i := have; i < len(files); i++ {
		if err := db.apply(ctx, files[i]); err != nil {
			return applied, fmt.Errorf("schema file %s: %w", files[i], err)
		}
		if err := db.conn.Exec(ctx, "INSERT INTO schema_versions (version) VALUES (?)", i+1); err != nil {
			return applied, wrap("write down the version", err)
		}
		applied = append(applied, files[i])
	}
	return applied, db.retain(ctx, keep)
}

// apply runs the statements of a schema file.
func (db *DB) apply(ctx context.Context, file string) error {
	text, err := schema.ReadFile(file)
	if err != nil {
		return err
	}
	for statement := range strings.SplitSeq(string(text), ";\n") {
		s := strings.TrimSpace(statement)
		if s == "" {
			continue
		}
		for _, make := range []string{"CREATE TABLE ", "CREATE MATERIALIZED VIEW "} {
			s = strings.Replace(s, "\n"+make, "\n"+make+"IF NOT EXISTS ", 1)
			if strings.HasPrefix(s, make) {
				s = make + "IF NOT EXISTS " + s[len(make):]
			}
		}
		if err := db.conn.Exec(ctx, s); err != nil {
			return wrap("run it", err)
		}
	}
	return nil
}

// longestTTL is what a TTL can say: DateTime ends in 2106, and begins anew. What is to
// stay for longer stays.
const longestTTL = 50 * 365 * 24 * time.Hour

// retain sets how long rows stay. A TTL that changes does not rewrite parts:
// those that are old as a whole go at the next merge.
func (db *DB) retain(ctx context.Context, keep Retention) error {
	for _, t := range []struct {
		table, column string
		age           time.Duration
	}{
		{"requests", "time", keep.Requests},
		{"endpoint_minutes", "minute", keep.Rollups},
		{"source_minutes", "minute", keep.Rollups},
		{"findings", "time", keep.Alerts},
		{"alerts", "time", keep.Alerts},
	} {
		if t.age <= 0 || t.age > longestTTL {
			continue
		}
		statement := fmt.Sprintf("ALTER TABLE %s MODIFY TTL toDateTime(%s) + toIntervalSecond(%d) SETTINGS materialize_ttl_after_modify = 0",
			t.table, t.column, int64(t.age.Seconds()))
		if err := db.conn.Exec(ctx, statement); err != nil {
			return wrap("set how long "+t.table+" stay", err)
		}
	}
	return nil
}

func (db *DB) version(ctx context.Context) (have int, files []string, err error) {
	var v uint32
	if err := db.conn.QueryRow(ctx, "SELECT max(version) FROM schema_versions").Scan(&v); err != nil {
		return 0, nil, wrap("read the schema's version", err)
	}
	have = int(v)
	if files, err = migrations(); err == nil && have > len(files) {
		err = fmt.Errorf("schema version %d is newer than %d, the newest this weir knows: upgrade weir: %w", have, len(files), storage.ErrUnfit)
	}
	return have, files, err
}

// check is for a store that is in use.
func (db *DB) check(ctx context.Context) error {
	var there uint64
	if err := db.conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'schema_versions'").Scan(&there); err != nil {
		return wrap("look for the schema", err)
	}
	if there == 0 {
		return fmt.Errorf("database %s has no schema of weir: run weir migrate: %w", db.database, storage.ErrUnfit)
	}
	have, files, err := db.version(ctx)
	if err != nil {
		return err
	}
	if have < len(files) {
		return fmt.Errorf("schema version %d, this weir wants %d: run weir migrate: %w", have, len(files), storage.ErrUnfit)
	}
	return nil
}

// quote makes name an identifier.
func quote(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}
