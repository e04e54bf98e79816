package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"weir/pipeline/kafka"
	"weir/storage"
)

// feedBatch is how many records of the topic of alerts go in one transaction.
const feedBatch = 500

// followFeed brings the topic of alerts into the file, until ctx ends: each
// revision once, at its place in the topic, with how far that is in the same
// transaction.
func (d *desk) followFeed(ctx context.Context) error {
	topic := d.f.topics.alerts
	at, err := d.followedTo(ctx)
	if err != nil {
		return err
	}
	if at, err = d.fillFeed(ctx, at); err != nil {
		return err
	}
	tail, err := d.f.bus.NewTail(ctx, topic, 0, at.Next, false)
	if err != nil {
		return err
	}
	defer tail.Close()
	_, end, err := d.f.bus.Bounds(ctx, topic, 0)
	if err != nil {
		return err
	}
	d.behind.Store(end - at.Next)
	reading, stop := context.WithCancelCause(ctx)
	records := make(chan kafka.Record, feedBatch)
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			r, err := tail.Next(reading)
			if err != nil {
				stop(err)
				return
			}
			select {
			case records <- r:
			case <-reading.Done():
				return
			}
		}
	})
	defer reader.Wait()
	defer stop(nil)
	for {
		select {
		case r := <-records:
			// What is there already goes with it.
			list := []kafka.Record{r}
			for len(records) > 0 && len(list) < feedBatch {
				list = append(list, <-records)
			}
			if err := d.takeFeed(ctx, &at, list); err != nil {
				return err
			}
			d.behind.Store(max(0, end-at.Next))
		case <-reading.Done():
			return context.Cause(reading)
		}
	}
}

// followedTo is how far the file has followed the feed.
func (d *desk) followedTo(ctx context.Context) (at storage.Followed, err error) {
	at, ok, err := d.db.Followed(ctx, d.f.topics.alerts)
	if err != nil || ok {
		return at, err
	}
	st, err := d.db.Stats(ctx)
	if err == nil && (st.Alerts > 0 || st.Requests > 0) {
		err = fmt.Errorf("store.path: %s holds what weir run found, or another fleet: give serve a file of its own", d.cfg.Store.Path)
	}
	return storage.Followed{Fence: kafka.NoEpoch}, err
}

// takeFeed stores records.
func (d *desk) takeFeed(ctx context.Context, at *storage.Followed, list []kafka.Record) error {
	rows, err := followedRows(d.f.topics.alerts, at, list)
	if err != nil {
		return err
	}
	if err := d.db.Follow(ctx, d.f.topics.alerts, *at, rows); err != nil {
		return err
	}
	d.next.Store(at.Next)
	return nil
}

// followedRows are the revisions in records that count, each at its place: the offset
// and one, as sinks and ClickHouse have it. It moves at behind them. A revision that
// was written twice is left to the store, which has the first one.
func followedRows(topic string, at *storage.Followed, list []kafka.Record) (rows []storage.AlertRevision, err error) {
	for i := range list {
		r := &list[i]
		at.Next = r.Offset + 1
		if r.Claim {
			at.Fence = max(at.Fence, r.Offset)
			continue
		}
		if r.Epoch < at.Fence {
			continue
		}
		var sent sentAlert
		row := storage.AlertRevision{Seq: r.Offset + 1}
		if err := json.Unmarshal(r.Value, &sent); err != nil {
			return nil, fmt.Errorf("read the alert at offset %d of %s: %w", r.Offset, topic, err)
		}
		if err := json.Unmarshal(sent.Alert, &row.Alert); err != nil {
			return nil, fmt.Errorf("read the alert at offset %d of %s: %w", r.Offset, topic, err)
		}
		row.Backfill = sent.Backfill
		rows = append(rows, row)
	}
	return rows, nil
}

// fillFeed takes from ClickHouse what the topic does not hold any more: the places
// are the same.
func (d *desk) fillFeed(ctx context.Context, at storage.Followed) (storage.Followed, error) {
	topic := d.f.topics.alerts
	first, _, err := d.f.bus.Bounds(ctx, topic, 0)
	if err != nil || at.Next >= first {
		return at, err
	}
	if d.cfg.Store.ClickHouse == nil {
		d.log.Error("alerts are gone from the topic before they were read, and there is no ClickHouse that would have them", zap.Int64("from", at.Next), zap.Int64("to", first))
		return at, nil
	}
	db, err := d.f.openClickHouse(ctx)
	if err != nil {
		return at, err
	}
	defer db.Close()
	for taken := int64(0); ; {
		list, err := db.AlertsAfter(ctx, at.Next, feedBatch)
		if err != nil {
			return at, err
		}
		var rows []storage.AlertRevision
		for i := range list {
			if a := &list[i]; a.Seq <= first {
				rows = append(rows, storage.AlertRevision{Alert: a.Alert, Backfill: a.Backfill, Seq: a.Seq})
				at.Next = a.Seq
			}
		}
		if len(rows) == 0 {
			d.log.Info("alerts that the topic does not hold any more are read from ClickHouse", zap.Int64("revisions", taken))
			return at, nil
		}
		if err := d.db.Follow(ctx, topic, at, rows); err != nil {
			return at, err
		}
		taken += int64(len(rows))
	}
}
