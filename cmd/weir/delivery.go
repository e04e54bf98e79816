package main

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"weir/alerts"
	"weir/console"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// newDeliverer opens the sinks. The audit has which of them are shown names before
// they get anything.
func (s *service) newDeliverer(ctx context.Context) (*alerts.Deliverer, error) {
	d, err := alerts.NewDeliverer(alerts.DelivererOptions{
		Config: s.cfg.Alerts, Store: deliveryStore{s.db}, Version: version, Kafka: produceTo, Log: s.log, Metrics: s.metrics.registry, Heartbeat: s.heartbeat,
		Open: s.keys.Open,
	})
	if err != nil {
		return nil, err
	}
	return d, s.recordNames(ctx, nil, s.cfg.Alerts.Sinks)
}

// recordNames writes into the audit which sinks are shown names that were not before.
func (s *service) recordNames(ctx context.Context, before, sinks map[string]alerts.SinkConfig) error {
	for _, name := range sortedNames(sinks) {
		sink, old := sinks[name], before[name]
		if !sink.Clear() || old.Clear() {
			continue
		}
		err := s.recordAs(ctx, "sink.names", &console.AuditTarget{Kind: "sink", IDs: []string{name}}, map[string]string{"identity": sink.Identity, "kind": sink.Kind()})
		if err != nil {
			return fmt.Errorf("sink %s stays without names: %w", name, err)
		}
		s.log.Info("a sink is shown names of accounts", zap.String("sink", name))
	}
	return nil
}

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

func (s deliveryStore) Told(ctx context.Context, sink string) ([]alerts.Told, error) {
	told, err := s.db.Told(ctx, sink)
	out := make([]alerts.Told, len(told))
	for i, t := range told {
		out[i] = alerts.Told{Alert: t.Alert, Group: t.Group, Seq: t.Seq, Repeats: t.Repeats}
		if t.Next != 0 {
			out[i].Next = t.Next.Std()
		}
	}
	return out, err
}

func (s deliveryStore) SinkGroups(ctx context.Context, sink string) ([]alerts.SinkGroup, error) {
	groups, err := s.db.SinkGroups(ctx, sink)
	out := make([]alerts.SinkGroup, len(groups))
	for i, g := range groups {
		out[i] = alerts.SinkGroup(g)
	}
	return out, err
}

func (s deliveryStore) SaveTold(ctx context.Context, sink string, c alerts.ToldChange) error {
	out := storage.ToldChange{Cursor: c.Cursor, Over: c.Over, Closed: c.Closed}
	for _, t := range c.Told {
		next := pipeline.Time(0)
		if !t.Next.IsZero() {
			next = pipeline.TimeOf(t.Next)
		}
		out.Told = append(out.Told, storage.Told{Alert: t.Alert, Group: t.Group, Seq: t.Seq, Next: next, Repeats: t.Repeats})
	}
	for _, g := range c.Groups {
		out.Groups = append(out.Groups, storage.SinkGroup(g))
	}
	return s.db.SaveTold(ctx, sink, out)
}

func (s deliveryStore) LatestAlert(ctx context.Context, id string) (r alerts.Row, ok bool, err error) {
	a, ok, err := s.db.LatestAlert(ctx, id)
	return alerts.Row{Seq: a.Seq, Backfill: a.Backfill, Alert: a.Alert}, ok, err
}
