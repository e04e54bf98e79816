// Clickload fills a ClickHouse of its own with a week of made-up requests and
// measures what it costs and how fast the two questions are answered that people
// ask: a client's day and an endpoint's week.
//
//	go run ./bench/clickload -rows 100000000 -dir /var/tmp/clickload
//	go run ./bench/clickload -rows 0 -dir /var/tmp/clickload	# asks again
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"weir/bench/services"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/clickhouse"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "clickload:", err)
		os.Exit(1)
	}
}

const (
	clients   = 200_000
	endpoints = 400
	batchRows = 100_000
	week      = 7 * 24 * time.Hour
	begin     = pipeline.Time(1_790_000_000_000_000)
)

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flag.NewFlagSet("clickload", flag.ContinueOnError)
	rows := fs.Int("rows", 1_000_000, "requests to insert; 0 asks those that are there")
	dir := fs.String("dir", "", "where the server keeps its data (default: a temporary directory)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "clickload"); err != nil {
			return err
		}
		defer os.RemoveAll(*dir)
	}
	server, err := services.NewClickHouse(*dir)
	if err != nil {
		return err
	}
	built := processorTime(syscall.RUSAGE_CHILDREN)
	defer func() {
		err = errors.Join(err, server.Stop())
		if *rows == 0 {
			return
		}
		fmt.Fprintf(out, "%.2f us of the server a request, with merges and questions\n", float64((processorTime(syscall.RUSAGE_CHILDREN)-built).Microseconds())/float64(*rows))
	}()
	o := clickhouse.Options{Addresses: []string{server.Address()}, User: "default"}
	if _, err := clickhouse.Migrate(ctx, o, clickhouse.Retention{}); err != nil {
		return err
	}
	db, err := clickhouse.Open(ctx, o)
	if err != nil {
		return err
	}
	defer db.Close()
	if *rows > 0 {
		if err := fill(ctx, db, *rows, out); err != nil {
			return err
		}
	}
	n, err := db.Count(ctx)
	if err != nil {
		return err
	}
	size, err := sizeOf(filepath.Join(*dir, "data"))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d requests stored, %.2f GB, %.1f bytes a request\n", n, float64(size)/1e9, float64(size)/float64(n))
	return ask(ctx, db, out)
}

// fill inserts n requests in the order of their times.
func fill(ctx context.Context, db *clickhouse.DB, n int, out io.Writer) error {
	random := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(random, 1.1, 50, clients-1)
	popular := rand.NewZipf(random, 1.2, 8, endpoints-1)
	step := pipeline.Time(week.Microseconds()) / pipeline.Time(n)
	requests := db.NewRequests()
	block := &pipeline.Block{Source: "access.log", SourceID: 1, Watermark: pipeline.NoTime}
	start, cpu := time.Now(), processorTime(syscall.RUSAGE_SELF)
	template := func(dst []byte, r *pipeline.Request) []byte { return append(dst, r.Operation...) }
	for done := 0; done < n; {
		block.Requests = block.Requests[:0]
		for len(block.Requests) < batchRows && done+len(block.Requests) < n {
			i := done + len(block.Requests)
			block.Requests = append(block.Requests, made(random, int(zipf.Uint64()), int(popular.Uint64()), i, begin+pipeline.Time(i)*step))
		}
		if err := requests.Insert(ctx, clickhouse.Batch{From: int64(done), To: int64(done + len(block.Requests)), Blocks: []*pipeline.Block{block}}, template); err != nil {
			return err
		}
		done += len(block.Requests)
		if done%(100*batchRows) == 0 {
			fmt.Fprintf(out, "%d requests, %.0f/s\n", done, float64(done)/time.Since(start).Seconds())
		}
	}
	took := time.Since(start)
	fmt.Fprintf(out, "%d requests in %.1f s, %.0f/s; %.2f us of this process a request\n", n, took.Seconds(), float64(n)/took.Seconds(),
		float64((processorTime(syscall.RUSAGE_SELF)-cpu).Microseconds())/float64(n))
	return nil
}

func agentOf(client int) string {
	return fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.%d.%d Safari/537.36", 90+client%40, client%7000, client%97)
}

func made(random *rand.Rand, client, endpoint, i int, at pipeline.Time) pipeline.Request {
	a := pipeline.Address{10: 0xff, 11: 0xff, 12: byte(11 + client>>24), 13: byte(client >> 16), 14: byte(client >> 8), 15: byte(client)}
	r := pipeline.Request{
		Time: at, Line: int64(i + 1), Bytes: int64(random.IntN(40000)), Duration: int64(500 + random.IntN(200000)), Address: a, Owner: a.Owner(),
		Kind: pipeline.PrincipalIP, Status: 200, Method: "GET", Host: "shop.example", Agent: agentOf(client),
		Path: fmt.Sprintf("/api/v1/things%d/%d", endpoint, random.IntN(1_000_000)),
	}
	r.Operation = fmt.Sprintf("/api/v1/things%d/{id}", endpoint) // the template; there is none of an operation
	switch random.IntN(20) {
	case 0:
		r.Status = 404
	case 1:
		r.Status = 302
	}
	if client%3 == 0 {
		r.Session = fmt.Sprintf("s_%016x", uint64(client)*0x9e3779b97f4a7c15)
	}
	return r
}

// ask measures the two questions, each five times for different subjects.
func ask(ctx context.Context, db *clickhouse.DB, out io.Writer) error {
	day := pipeline.Time((24 * time.Hour).Microseconds())
	var timeline, minutes []time.Duration
	rows, points := 0, 0
	for i := range 5 {
		// Busy clients, ordinary ones, seldom ones.
		client := []int{0, 10, 1000, 20_000, 150_000}[i]
		r := made(rand.New(rand.NewPCG(1, 2)), client, 0, 0, 0)
		start := time.Now()
		err := db.Requests(ctx, storage.RequestFilter{Principal: r.Principal(), Since: begin + 3*day, Until: begin + 4*day, Limit: 100_000},
			func(*pipeline.Request, string) bool { rows++; return true })
		if err != nil {
			return err
		}
		timeline = append(timeline, time.Since(start))
		start = time.Now()
		list, err := db.EndpointMinutes(ctx, pipeline.Endpoint{Method: "GET", Host: "shop.example", Template: fmt.Sprintf("/api/v1/things%d/{id}", []int{0, 1, 7, 50, 300}[i])}, begin, begin+7*day)
		if err != nil {
			return err
		}
		points += len(list)
		minutes = append(minutes, time.Since(start))
	}
	fmt.Fprintf(out, "a client's day: %v at most, %v in the middle; %d requests of five clients\n", slices.Max(timeline), middle(timeline), rows)
	fmt.Fprintf(out, "an endpoint's week by minute: %v at most, %v in the middle; %d rows of five endpoints\n", slices.Max(minutes), middle(minutes), points)
	return nil
}

func middle(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

func processorTime(who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func sizeOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // a merge took it away meanwhile
		}
		n += info.Size()
		return nil
	})
	return n, err
}
