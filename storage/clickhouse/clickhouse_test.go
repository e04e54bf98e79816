package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/bench/services"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/storetest"
)

// start starts a server of its own for the test.
func start(t *testing.T) *services.ClickHouse {
	t.Helper()
	if testing.Short() {
		t.Skip("without servers")
	}
	s, err := services.NewClickHouse(t.TempDir())
	if errors.Is(err, services.ErrAbsent) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func optionsOf(s *services.ClickHouse, database string) Options {
	return Options{Addresses: []string{s.Address()}, Database: database, User: "default"}
}

func open(t *testing.T, o Options) *DB {
	t.Helper()
	if _, err := Migrate(t.Context(), o, Retention{}); err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// byPath is a template for tests.
func byPath(dst []byte, r *pipeline.Request) []byte {
	i := strings.LastIndexByte(r.Path, '/')
	return append(append(dst, r.Path[:i+1]...), "{id}"...)
}

func TestContract(t *testing.T) {
	s := start(t)
	var databases atomic.Int64
	storetest.Run(t, func(t *testing.T) storetest.Empty {
		db := open(t, optionsOf(s, fmt.Sprint("contract", databases.Add(1))))
		requests := db.NewRequests()
		places := map[string]int64{} // of revisions, as the feed's topic gives them
		return storetest.Empty{
			Store: db,
			Append: func(ctx context.Context, blocks []*pipeline.Block) error {
				return requests.Insert(ctx, Batch{From: blocks[0].Cause.From, To: blocks[len(blocks)-1].Cause.To, Blocks: blocks}, byPath)
			},
			Commit: func(ctx context.Context, list []storage.AlertRevision) error {
				var rows []storage.StoredAlert
				for _, a := range list {
					name := fmt.Sprint(a.Alert.ID, ".", a.Alert.Revision)
					if places[name] == 0 {
						places[name] = int64(len(places) + 1)
					}
					body, err := json.Marshal(&a.Alert)
					if err != nil {
						return err
					}
					rows = append(rows, storage.StoredAlert{Seq: places[name], Alert: a.Alert, Body: body, Backfill: a.Backfill})
				}
				return db.AppendAlerts(ctx, rows)
			},
		}
	})
}

func TestSchema(t *testing.T) {
	s := start(t)
	o := optionsOf(s, "schema")
	if _, err := Open(t.Context(), o); !errors.Is(err, storage.ErrUnfit) || !strings.Contains(err.Error(), "weir migrate") {
		t.Errorf("opened a database that is not there: %v", err)
	}
	all, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	keep := Retention{Requests: 7 * 24 * time.Hour, Rollups: 90 * 24 * time.Hour, Alerts: 400 * 24 * time.Hour}
	applied, err := Migrate(t.Context(), o, keep)
	if err != nil || len(applied) != len(all) {
		t.Fatalf("applied %v, %v", applied, err)
	}
	if applied, err = Migrate(t.Context(), o, keep); err != nil || len(applied) != 0 {
		t.Errorf("applied %v again, %v", applied, err)
	}
	db, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var create string
	if err := db.conn.QueryRow(t.Context(), "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = 'requests'").Scan(&create); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(create, "TTL toDateTime(time) + toIntervalSecond(604800)") {
		t.Errorf("requests are kept by %s", create)
	}
	// What is kept for longer than a TTL can say is not dropped at once.
	long := Retention{Requests: 100 * 365 * 24 * time.Hour}
	if _, err := Migrate(t.Context(), optionsOf(s, "long"), long); err != nil {
		t.Fatal(err)
	}
	if err := open(t, optionsOf(s, "long")).NewRequests().Insert(t.Context(), Batch{To: 1, Blocks: storetest.Blocks(1, 10)}, byPath); err != nil {
		t.Fatal(err)
	}
	if n, err := open(t, optionsOf(s, "long")).Count(t.Context()); err != nil || n != 10 {
		t.Errorf("%d requests are there, %v", n, err)
	}
	// Half a migration, as a kill leaves it, is made whole.
	if err := db.conn.Exec(t.Context(), "DROP TABLE findings"); err != nil {
		t.Fatal(err)
	}
	if err := db.conn.Exec(t.Context(), "TRUNCATE TABLE schema_versions"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), o); !errors.Is(err, storage.ErrUnfit) || !strings.Contains(err.Error(), "weir migrate") {
		t.Errorf("opened half a schema: %v", err)
	}
	if _, err := Migrate(t.Context(), o, keep); err != nil {
		t.Error(err)
	}
	if err := db.conn.Exec(t.Context(), "INSERT INTO schema_versions (version) VALUES (99)"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), o); !errors.Is(err, storage.ErrUnfit) {
		t.Errorf("opened the schema of a newer weir: %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	_, err := Open(t.Context(), Options{Addresses: []string{"127.0.0.1:1"}, DialTimeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("error %v, want one that says where", err)
	}
}

// Inserts go on while the server is killed again and again; each range is
// inserted until that works, as the store role does, and now and then again.
func TestKills(t *testing.T) {
	s := start(t)
	db := open(t, optionsOf(s, "kills"))
	requests := db.NewRequests()
	const batches, rows = 40, 5000
	blocks := storetest.Blocks(batches, rows)
	inserted := make(chan int, batches)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range inserted {
			if i%8 == 3 {
				s.Kill()
				if err := s.Start(); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	tries := 0
	for i, b := range blocks {
		inserted <- i // the kill comes in the middle of an insert, or near it
		for end := time.Now().Add(time.Minute); ; {
			tries++
			err := requests.Insert(t.Context(), Batch{Partition: 3, From: int64(i), To: int64(i + 1), Blocks: []*pipeline.Block{b}}, byPath)
			if err == nil && (i%5 > 0 || tries%2 > 0) {
				break
			}
			if err != nil && (errors.Is(err, pipeline.ErrPermanent) || time.Now().After(end)) {
				t.Fatal(err)
			}
		}
	}
	close(inserted)
	<-done
	if t.Failed() {
		return
	}
	t.Logf("%d inserts of %d ranges", tries, batches)
	check := func(query string, want uint64) {
		t.Helper()
		var got uint64
		if err := db.conn.QueryRow(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", query, got, err, want)
		}
	}
	check("SELECT count() FROM requests", batches*rows)
	check("SELECT uniqExact(line) FROM requests", batches*rows)
	check("SELECT sum(requests) FROM source_minutes", batches*rows)
	check("SELECT sum(requests) FROM endpoint_minutes", batches*rows)
}

func TestEndpointMinutes(t *testing.T) {
	db := open(t, optionsOf(start(t), "minutes"))
	blocks := storetest.Blocks(1, 600)
	if err := db.NewRequests().Insert(t.Context(), Batch{To: 1, Blocks: blocks}, byPath); err != nil {
		t.Fatal(err)
	}
	first := blocks[0].Requests[0].Time
	list, err := db.EndpointMinutes(t.Context(), pipeline.Endpoint{Method: "GET", Host: "shop.example", Template: "/api/items/{id}"}, first, first+3600e6)
	if err != nil {
		t.Fatal(err)
	}
	total, clients := int64(0), int64(0)
	for _, m := range list {
		total += m.Requests
		clients = max(clients, m.Clients)
	}
	// Seven addresses, and three accounts.
	if total != 600 || clients < 7 || clients > 10 {
		t.Errorf("%d requests of up to %d clients a minute in %d rows", total, clients, len(list))
	}
	if none, err := db.EndpointMinutes(t.Context(), pipeline.Endpoint{Method: "PUT", Host: "shop.example", Template: "/api/items/{id}"}, first, first+3600e6); err != nil || len(none) > 0 {
		t.Errorf("%d minutes of an endpoint that nobody asked, %v", len(none), err)
	}
}
