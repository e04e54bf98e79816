package main

import (
	"context"
	"time"

	"weir/alerts"
	"weir/pipeline"
	"weir/storage/sqlite"
)

// deliveryStore is the embedded store as delivery wants it.
type deliveryStore struct{ db *sqlite.DB }

func (s deliveryStore) AlertsAfter(ctx context.Context, seq int64, limit int) ([]alerts.Row, error) {
	stored, err := s.db.AlertsAfter(ctx, seq, limit)
	rows := make([]alerts.Row, len(stored))
	for i, a := range stored {
		rows[i] = alerts.Row{Seq: a.Seq, Backfill: a.Backfill, Alert: a.Alert}
	}
	return rows, err
}

func (s deliveryStore) LastAlert(ctx context.Context) (int64, error) {
	st, err := s.db.Stats(ctx)
	return st.Alerts, err
}

func (s deliveryStore) SinkCursor(ctx context.Context, sink string) (seq int64, known bool, err error) {
	return s.db.SinkPosition(ctx, sink)
}

func (s deliveryStore) SetSinkCursor(ctx context.Context, sink string, seq int64) error {
	return s.db.SetSinkCursor(ctx, sink, seq)
}

func (s deliveryStore) SaveRetry(ctx context.Context, sink string, r alerts.Retry) error {
	return s.db.SaveRetry(ctx, sink, r.Seq, r.Attempts, pipeline.TimeOf(r.Next))
}

func (s deliveryStore) DueRetries(ctx context.Context, sink string, now time.Time, limit int) ([]alerts.Retry, error) {
	due, err := s.db.DueRetries(ctx, sink, pipeline.TimeOf(now), limit)
	out := make([]alerts.Retry, len(due))
	for i, r := range due {
		out[i] = alerts.Retry{Seq: r.Seq, Attempts: r.Attempts, Next: r.Next.Std()}
	}
	return out, err
}

func (s deliveryStore) DropRetry(ctx context.Context, sink string, seq int64) error {
	return s.db.DropRetry(ctx, sink, seq)
}

func (s deliveryStore) DeadLetter(ctx context.Context, sink string, seq int64, reason string, attempts []byte) error {
	if err := s.db.DeadLetter(ctx, sink, seq, reason, attempts); err != nil {
		return err
	}
	return s.db.DropRetry(ctx, sink, seq)
}
