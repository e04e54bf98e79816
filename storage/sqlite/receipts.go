package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"weir/pipeline"
)

// How many receipts are kept, and how long: senders that come again do so within
// seconds.
const (
	maxReceipts = 100_000
	receiptsFor = 20 * time.Minute
)

// putReceipt stores r and drops what is old.
func (t *tx) putReceipt(source int64, r *pipeline.Receipt) error {
	_, id, err := t.exec("INSERT INTO receipts (source_id, key, lines, answer, time) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
		source, r.Key[:], r.Lines[:], nonNil(r.Answer), int64(r.Time))
	if err != nil {
		return err
	}
	_, _, err = t.exec("DELETE FROM receipts WHERE id <= ? OR time < ?", id-maxReceipts, int64(r.Time.Add(-receiptsFor)))
	return err
}

// Receipt returns what is stored under a source's key, nil for nothing.
func (db *DB) Receipt(ctx context.Context, source uint64, key [32]byte) (*pipeline.Receipt, error) {
	r := &pipeline.Receipt{Key: key}
	var lines []byte
	err := db.readers.QueryRowContext(ctx, "SELECT lines, answer, time FROM receipts WHERE source_id = ? AND key = ?", int64(source), key[:]).
		Scan(&lines, &r.Answer, &r.Time)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for a receipt: %w", db.wrap(err))
	case len(lines) != len(r.Lines):
		return nil, fmt.Errorf("look for a receipt: a hash of %d bytes is stored", len(lines))
	}
	r.Lines = [32]byte(lines)
	return r, nil
}
