package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"

	"weir/storage"
)

//go:embed schema/*.sql
var schema embed.FS

// applicationID marks the file as weir's ("weir").
const applicationID = 0x77656972

// migration is a schema file: it brings the schema to version.
type migration struct {
	version int
	name    string
}

// migrations are the schema files in order of their numbers, which grow and may
// leave some out.
func migrations() (list []migration, err error) {
	names, err := fs.Glob(schema, "schema/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	last := 0
	for _, name := range names {
		n, err := strconv.Atoi(name[len("schema/"):][:4])
		if err != nil || n <= last {
			return nil, fmt.Errorf("schema file %s: want a number above %d", name, last)
		}
		last = n
		list = append(list, migration{n, name})
	}
	return list, nil
}

// queryer is a connection or a pool of them.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// version returns the schema version, 0 for a new file, and the schema files
// that it lacks. It only reads.
func version(ctx context.Context, q queryer) (have int, lacks []migration, err error) {
	var id, tables int64
	for query, into := range map[string]any{"PRAGMA application_id": &id, "PRAGMA user_version": &have, "SELECT count(*) FROM sqlite_schema": &tables} {
		if err := q.QueryRowContext(ctx, query).Scan(into); err != nil {
			return 0, nil, err
		}
	}
	if id != applicationID && (id != 0 || have != 0 || tables != 0) {
		return 0, nil, fmt.Errorf("a database of another program: %w", storage.ErrUnfit)
	}
	files, err := migrations()
	if err != nil {
		return have, nil, err
	}
	newest := files[len(files)-1].version
	if have > newest {
		return have, nil, fmt.Errorf("schema version %d is newer than %d, the newest this weir knows: upgrade weir, or restore the file from before: %w",
			have, newest, storage.ErrUnfit)
	}
	for i, f := range files {
		if f.version > have {
			return have, files[i:], nil
		}
	}
	return have, nil, nil
}

// checkVersion is for a store that is only read.
func checkVersion(ctx context.Context, q queryer) error {
	have, lacks, err := version(ctx, q)
	if err != nil {
		return err
	}
	if len(lacks) > 0 {
		return fmt.Errorf("schema version %d, this weir reads %d: start the service once to bring it up to date", have, lacks[len(lacks)-1].version)
	}
	return nil
}

// migrate brings the file up to date, one file a transaction.
func migrate(ctx context.Context, c *sql.Conn) error {
	have, lacks, err := version(ctx, c)
	if err != nil {
		return err
	}
	exec := func(query string) {
		if err == nil {
			_, err = c.ExecContext(ctx, query)
		}
	}
	if have == 0 { // before the first table, or never
		exec(fmt.Sprintf("PRAGMA page_size = %d", pageSize))
		exec("PRAGMA auto_vacuum = INCREMENTAL")
	}
	exec("PRAGMA journal_mode = WAL")
	for _, f := range lacks {
		text, rerr := schema.ReadFile(f.name)
		if rerr != nil {
			return rerr
		}
		exec("BEGIN IMMEDIATE")
		exec(string(text))
		exec(fmt.Sprintf("PRAGMA application_id = %d", applicationID))
		exec(fmt.Sprintf("PRAGMA user_version = %d", f.version))
		exec("COMMIT")
		if err != nil {
			_, _ = c.ExecContext(ctx, "ROLLBACK")
			return fmt.Errorf("schema file %s: %w", f.name, err)
		}
	}
	return err
}
