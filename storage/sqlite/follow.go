package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"weir/storage"
)

// Followed returns how far this store has followed a topic; ok is false before
// anything of it was stored.
func (db *DB) Followed(ctx context.Context, topic string) (at storage.Followed, ok bool, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT next, fence FROM followed WHERE topic = ?", topic).Scan(&at.Next, &at.Fence)
	if errors.Is(err, sql.ErrNoRows) {
		return at, false, nil
	}
	if err != nil {
		return at, false, fmt.Errorf("read how far %s was followed: %w", topic, db.wrap(err))
	}
	return at, true, nil
}

// Follow stores revisions at their places in the feed, which are behind all that
// are stored, and how far topic is followed with them, in one step. A revision
// that is stored stays at the place that it has; one with other content counts as
// a replay difference.
func (db *DB) Follow(ctx context.Context, topic string, at storage.Followed, list []storage.AlertRevision) error {
	alerts, _, err := encodeOutput(storage.Output{Alerts: list})
	if err != nil {
		return fmt.Errorf("follow %s: %w", topic, err)
	}
	var seq int64
	err = db.writeFirst(ctx, "follow "+topic, func(t *tx) error {
		seq = 0
		differences := int64(0)
		for i := range list {
			n, differs, err := t.putAlert(&list[i], alerts[i])
			if err != nil {
				return err
			}
			if differs {
				differences++
			}
			seq = max(seq, n)
		}
		if err := t.count("replay_differences", differences); err != nil {
			return err
		}
		_, _, err := t.exec(`INSERT INTO followed (topic, next, fence) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET next = excluded.next, fence = excluded.fence`, topic, at.Next, at.Fence)
		return err
	})
	if err == nil && seq != 0 {
		db.advance(0, seq)
	}
	return err
}

// Desk returns which desk this file is, and makes it id when it is none yet.
func (db *DB) Desk(ctx context.Context, id string) (have string, err error) {
	err = db.write(ctx, "name the desk", func(t *tx) error {
		if _, _, err := t.exec("INSERT INTO desk (one, id) VALUES (1, ?) ON CONFLICT DO NOTHING", id); err != nil {
			return err
		}
		_, err := t.row("SELECT id FROM desk", nil, &have)
		return err
	})
	return have, err
}
