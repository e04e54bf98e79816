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

// queryer is a connection or a pool of them.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// version returns the schema version, 0 for a new file, and all schema files,
// of which there are as many or more. It only reads.
func version(ctx context.Context, q queryer) (have int, files []string, err error) {
	var id, tables int64
	for query, into := range map[string]any{"PRAGMA application_id": &id, "PRAGMA user_version": &have, "SELECT count(*) FROM sqlite_schema": &tables} {
		if err := q.QueryRowContext(ctx, query).Scan(into); err != nil {
			return 0, nil, err
		}
	}
	if id != applicationID && (id != 0 || have != 0 || tables != 0) {
		return 0, nil, fmt.Errorf("a database of another program: %w", storage.ErrUnfit)
	}
	if files, err = migrations(); err == nil && have > len(files) {
		err = fmt.Errorf("schema version %d is newer than %d, the newest this weir knows: upgrade weir, or restore the file from before: %w",
			have, len(files), storage.ErrUnfit)
	}
	return have, files, err
}

// checkVersion is for a store that is only read.
func checkVersion(ctx context.Context, q queryer) error {
	have, files, err := version(ctx, q)
	if err != nil {
		return err
	}
	if have < len(files) {
		return fmt.Errorf("schema version %d, this weir reads %d: start the service once to bring it up to date", have, len(files))
	}
	return nil
}

// migrate brings the file up to date, one file a transaction.
func migrate(ctx context.Context, c *sql.Conn) error {
	have, files, err := version(ctx, c)
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
	for i := have; i < len(files); i++ {
		text, rerr := schema.ReadFile(files[i])
		if rerr != nil {
			return rerr
		}
		exec("BEGIN IMMEDIATE")
		exec(string(text))
		exec(fmt.Sprintf("PRAGMA application_id = %d", applicationID))
		exec(fmt.Sprintf("PRAGMA user_version = %d", i+1))
		exec("COMMIT")
		if err != nil {
			_, _ = c.ExecContext(ctx, "ROLLBACK")
			return fmt.Errorf("schema file %s: %w", files[i], err)
		}
	}
	return err
}
