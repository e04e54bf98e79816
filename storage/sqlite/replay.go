package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"weir/pipeline"
)

// Replay makes dead letters of sink retries that are due now, those with the ids
// or, without any, all, and returns how many. It may run beside a weir that has the
// store: it is one short transaction on tables that nobody keeps in memory.
func Replay(ctx context.Context, path, sink string, ids []int64) (n int64, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", err)
	}
	db, err := pool(path, 1, "busy_timeout(10000)", "synchronous(FULL)")
	if err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", err)
	}
	defer db.Close()
	if err := checkVersion(ctx, db); err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", err)
	}
	t, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", err)
	}
	defer func() { _ = t.Rollback() }() // of no effect after a commit
	which, args := "sink = ?", []any{sink}
	if len(ids) > 0 {
		which += " AND id IN (?" + strings.Repeat(", ?", len(ids)-1) + ")"
		for _, id := range ids {
			args = append(args, id)
		}
	}
	// The order of the statements takes the lock for writing at once.
	if _, err := t.ExecContext(ctx, `INSERT INTO sink_retries (sink, seq, attempts, next_time)
		SELECT sink, seq, 0, ? FROM dead_letters WHERE `+which+` ON CONFLICT DO UPDATE SET attempts = 0, next_time = excluded.next_time`,
		append([]any{int64(pipeline.TimeOf(time.Now()))}, args...)...); err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", err)
	}
	res, err := t.ExecContext(ctx, "DELETE FROM dead_letters WHERE "+which, args...)
	if err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", err)
	}
	if n, err = res.RowsAffected(); err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", err)
	}
	if err := t.Commit(); err != nil {
		return 0, fmt.Errorf("replay dead letters: %w", err)
	}
	return n, nil
}
