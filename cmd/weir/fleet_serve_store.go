package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/clickhouse"
)

// deskStore is the stores of a fleet as the console wants them: the file has the
// feed, triage, users and the audit, ClickHouse the requests and the charts.
type deskStore struct {
	consoleStore
	d *desk
}

// openRequests connects to ClickHouse, where there is one, and tries until it
// answers: meanwhile everything else works.
func (d *desk) openRequests(ctx context.Context) error {
	for d.cfg.Store.ClickHouse != nil {
		db, err := d.f.openClickHouse(ctx)
		if err == nil {
			d.requests.Store(db)
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		d.log.Error("requests and charts cannot be shown", zap.Error(err))
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// clickHouse is the store of requests, or why there is none.
func (d *desk) clickHouse() (*clickhouse.DB, error) {
	if db := d.requests.Load(); db != nil {
		return db, nil
	}
	if d.cfg.Store.ClickHouse == nil {
		return nil, &console.MissingError{Text: "this fleet keeps no requests: they are in ClickHouse, where store.clickhouse names one and weir store runs"}
	}
	return nil, &console.MissingError{Text: "ClickHouse does not answer: there are no requests and charts until it does", Soon: true}
}

// read calls f with the store of requests, and says so when that does not answer.
func (d *desk) read(ctx context.Context, f func(db *clickhouse.DB) error) error {
	db, err := d.clickHouse()
	if err != nil {
		return err
	}
	err = f(db)
	if err == nil || ctx.Err() != nil || errors.Is(err, pipeline.ErrPermanent) {
		return err
	}
	d.log.Warn("ClickHouse does not answer", zap.Error(err))
	return fmt.Errorf("%w: %w", &console.MissingError{Text: "ClickHouse does not answer: there are no requests and charts until it does", Soon: true}, err)
}

func (s deskStore) Requests(ctx context.Context, f console.RequestFilter, fn func(r *pipeline.Request, source string) bool) error {
	return s.d.read(ctx, func(db *clickhouse.DB) error { return db.Requests(ctx, storage.RequestFilter(f), fn) })
}

func (s deskStore) Minutes(ctx context.Context, since, until pipeline.Time, fn func(m console.Minute)) error {
	return s.d.read(ctx, func(db *clickhouse.DB) error {
		list, err := db.Minutes(ctx, since, until)
		names := s.d.sourceNames()
		for _, m := range list {
			name, ok := names[m.SourceID]
			if !ok {
				name = fmt.Sprintf("%016x", m.SourceID)
			}
			fn(console.Minute{Time: m.Time, Source: name, Class: m.StatusClass, Requests: m.Requests, Bytes: m.Bytes})
		}
		return err
	})
}

func (s deskStore) EndpointTotals(ctx context.Context, since, until pipeline.Time) (list []console.EndpointTotal, other int64, err error) {
	err = s.d.read(ctx, func(db *clickhouse.DB) error {
		stored, rest, err := db.EndpointTotals(ctx, since, until)
		for _, e := range stored {
			list = append(list, console.EndpointTotal(e))
		}
		other = rest
		return err
	})
	return list, other, err
}

func (s deskStore) EndpointMinutes(ctx context.Context, of pipeline.Endpoint, since, until pipeline.Time, fn func(m console.Minute)) error {
	return s.d.read(ctx, func(db *clickhouse.DB) error {
		list, err := db.EndpointMinutes(ctx, of, since, until)
		for _, m := range list {
			fn(console.Minute{Time: m.Time, Class: m.Class, Requests: m.Requests, Bytes: m.Bytes})
		}
		return err
	})
}
