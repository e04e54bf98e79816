package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"weir/bench/fleet/sums"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/clickhouse"
)

// awaitStored waits until ClickHouse has every request, and compares: each client's,
// and the revisions.
func awaitStored(ctx context.Context, out io.Writer, m *measured) error {
	if m.clickhouse == nil {
		return nil
	}
	db, err := clickhouse.Open(ctx, clickhouse.Options{Addresses: []string{m.clickhouse.Address()}, User: "default", Database: m.database})
	if err != nil {
		return err
	}
	defer db.Close()
	var total int64
	for _, s := range m.sums {
		total += s.Requests
	}
	for {
		n, err := db.Count(ctx)
		if err != nil {
			return err
		}
		rows, err := db.AlertsAfter(ctx, 0, 1<<20)
		if err != nil {
			return err
		}
		var list [][]byte
		for i := range rows {
			list = append(list, rows[i].Body)
		}
		stored, err := plain(list)
		if err != nil {
			return err
		}
		if n >= total && len(stored) >= len(m.want) {
			return compareStored(ctx, out, m, db, stored)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("ClickHouse has %d of %d requests and %d of %d revisions: %w", n, total, len(stored), len(m.want), ctx.Err())
		}
	}
}

func compareStored(ctx context.Context, out io.Writer, m *measured, db *clickhouse.DB, stored []string) error {
	got := map[uint64]sums.Client{}
	var buf []byte
	var n int64
	err := db.Requests(ctx, storage.RequestFilter{Limit: 1 << 30}, func(r *pipeline.Request, _ string) bool {
		s := got[r.Owner]
		buf = s.Add(r, buf)
		got[r.Owner] = s
		n++
		return true
	})
	if err != nil {
		return err
	}
	differ := 0
	for owner, want := range m.sums {
		if got[owner] != want {
			if differ++; differ == 1 {
				err = fmt.Errorf("client %016x: ClickHouse has %+v, the log %+v", owner, got[owner], want)
			}
		}
	}
	if differ > 0 || len(got) != len(m.sums) {
		return fmt.Errorf("of %d clients in the log and %d in ClickHouse %d differ: %w", len(m.sums), len(got), differ, err)
	}
	if err := same(m.want, stored); err != nil {
		return fmt.Errorf("in ClickHouse: %w", err)
	}
	fmt.Fprintf(out, "ClickHouse has each of %d requests of %d clients once, by count, bytes and checksum of each client, and each of %d revisions\n", n, len(got), len(stored))
	return nil
}

// same compares revisions.
func same(want, got []string) error {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			return fmt.Errorf("revision %d differs:\n%s\n%s", i+1, want[i], got[i])
		}
	}
	if len(want) != len(got) {
		return fmt.Errorf("%d revisions, want %d", len(got), len(want))
	}
	return nil
}
