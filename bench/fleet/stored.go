package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zeebo/xxh3"

	"weir/collector"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/clickhouse"
)

// clientSum is what a client's requests come to, in any order.
type clientSum struct {
	requests, bytes int64
	check           uint64 // sum of the hashes of what each of them is
}

func (s *clientSum) add(r *pipeline.Request, buf []byte) []byte {
	buf = binary.LittleEndian.AppendUint64(buf[:0], uint64(r.Time))
	for _, n := range []int64{int64(r.Status), r.Bytes, r.Line} {
		buf = binary.LittleEndian.AppendUint64(buf, uint64(n))
	}
	buf = append(buf, r.Address[:]...)
	for _, text := range []string{r.Method, r.Host, r.Path, r.Query, r.Agent, r.Referer, r.Account, r.Key, r.Session} {
		buf = append(append(buf, text...), 0)
	}
	s.requests, s.bytes, s.check = s.requests+1, s.bytes+r.Bytes, s.check+xxh3.Hash(buf)
	return buf
}

// sumsOfLog reads a log as collect does, without a fleet.
func sumsOfLog(ctx context.Context, path, key string) (map[uint64]clientSum, error) {
	keys, err := pipeline.LoadOrCreatePrivacyKeys(key)
	if err != nil {
		return nil, err
	}
	logins, err := pipeline.NewLoginRules(nil)
	if err != nil {
		return nil, err
	}
	id, err := pipeline.NewIdentity(pipeline.DefaultIdentityConfig(), keys, logins)
	if err != nil {
		return nil, err
	}
	head, err := collector.Head(path)
	if err != nil {
		return nil, err
	}
	d := collector.Detect(head, collector.ParseOptions{})
	if d.Format == nil {
		return nil, errors.New(d.Problem)
	}
	r := collector.NewReader(collector.ReaderConfig{Path: path, Format: d.Format, Timed: true, NewIdentify: func() collector.Identify {
		one := id.NewResolver()
		return func(req *pipeline.Request, f *collector.Fields) { one.Resolve(req, &f.Clear) }
	}})
	defer r.Close()
	sums := map[uint64]clientSum{}
	var buf []byte
	for {
		b, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return sums, nil
		}
		if err != nil {
			return nil, err
		}
		for i := range b.Requests {
			s := sums[b.Requests[i].Owner]
			buf = s.add(&b.Requests[i], buf)
			sums[b.Requests[i].Owner] = s
		}
		r.Release(b)
	}
}

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
		total += s.requests
	}
	for {
		n, err := db.Count(ctx)
		if err != nil {
			return err
		}
		rows, err := db.AlertsAfter(ctx, 0, len(m.want)+1)
		if err != nil {
			return err
		}
		if n >= total && len(rows) >= len(m.want) {
			return compareStored(ctx, out, m, db, rows)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("ClickHouse has %d of %d requests and %d of %d revisions: %w", n, total, len(rows), len(m.want), ctx.Err())
		}
	}
}

func compareStored(ctx context.Context, out io.Writer, m *measured, db *clickhouse.DB, rows []storage.StoredAlert) error {
	got := map[uint64]clientSum{}
	var buf []byte
	var n int64
	err := db.Requests(ctx, storage.RequestFilter{Limit: 1 << 30}, func(r *pipeline.Request, _ string) bool {
		s := got[r.Owner]
		buf = s.add(r, buf)
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
	var list [][]byte
	for i := range rows {
		list = append(list, rows[i].Body)
	}
	stored, err := plain(list)
	if err != nil {
		return err
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
