package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"

	"weir/alerts/schemas"
	"weir/storage"
	"weir/storage/sqlite"
)

// feedCrashEnv names the store of a child process that writes and serves the
// feed until it is killed.
const feedCrashEnv = "WEIR_TEST_FEED"

const (
	feedWriters = 4
	feedReaders = 8
	feedRows    = 120 // each writer writes so many
)

// feedChild serves the store and has four writers append to it. It prints where
// it listens, every row once it is stored, and when all are.
func feedChild(path string) error {
	ctx := context.Background()
	cfg := defaultConfig()
	cfg.Store.Path = path
	s := &service{cfg: cfg, log: zap.NewNop()}
	if err := s.open(ctx); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("url", "http://"+l.Addr().String())
	// What is stored already is not written again.
	next := make([]int, feedWriters)
	stored, err := s.db.AlertsAfter(ctx, 0, 1<<20)
	if err != nil {
		return err
	}
	for _, a := range stored {
		var w, n int
		if _, err := fmt.Sscanf(a.Alert.ID, "w%d-%d", &w, &n); err != nil {
			return err
		}
		next[w] = max(next[w], n+1)
	}
	var writers sync.WaitGroup
	for w := range feedWriters {
		writers.Go(func() {
			for n := next[w]; n < feedRows; {
				o := storage.Output{Stage: fmt.Sprint("writer", w)}
				for i := range 1 + (n+w)%3 {
					if n+i < feedRows {
						o.Alerts = append(o.Alerts, storage.AlertRevision{Alert: consoleAlert(fmt.Sprintf("w%d-%d", w, n+i), 1, "high")})
					}
				}
				if err := s.db.Commit(ctx, o); err != nil {
					panic(err)
				}
				for _, a := range o.Alerts {
					fmt.Println("row", a.Alert.ID)
				}
				n += len(o.Alerts)
			}
		})
	}
	go func() {
		writers.Wait()
		fmt.Println("done", "all")
	}()
	return s.newServer().Serve(l)
}

// feedPlace tells readers where the child is now.
type feedPlace struct {
	mu         sync.Mutex
	generation int
	url        string
	moved      chan struct{}
}

func (p *feedPlace) set(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation, p.url = p.generation+1, url
	close(p.moved)
	p.moved = make(chan struct{})
}

// after returns where the child is once it is not the one of generation.
func (p *feedPlace) after(ctx context.Context, generation int) (url string, now int, err error) {
	for {
		p.mu.Lock()
		url, now, moved := p.url, p.generation, p.moved
		p.mu.Unlock()
		if now > generation {
			return url, now, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return "", 0, ctx.Err()
		}
	}
}

// TestFeedSurvivesKills: eight readers of every kind and format, four writers, a process
// that is killed again and again: each reader has every row once, in the order
// of the commits.
func TestFeedSurvivesKills(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for a few seconds")
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "weir.db")
	place := &feedPlace{moved: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make([][]string, feedReaders)
	var readers sync.WaitGroup
	for i := range feedReaders {
		readers.Go(func() { got[i] = readWholeFeed(ctx, t, place, i) })
	}
	acknowledged := map[string]bool{}
	const kills = 4
	for round := range kills + 1 {
		rows, all := runFeedChild(t, path, place, map[bool]int{true: 60 + 15*round, false: 1 << 30}[round < kills], acknowledged, &readers)
		if round < kills && (all || rows == 0) {
			t.Fatalf("round %d: the child wrote %d rows and all of them: %t", round, rows, all)
		}
	}
	db, err := sqlite.Open(path, sqlite.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	stored, err := db.AlertsAfter(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, a := range stored {
		want = append(want, a.Alert.ID)
	}
	if len(want) != feedWriters*feedRows || len(acknowledged) == 0 {
		t.Fatalf("%d rows are stored, %d were acknowledged", len(want), len(acknowledged))
	}
	for id := range acknowledged {
		if !slices.Contains(want, id) {
			t.Errorf("%s was acknowledged and is gone", id)
		}
	}
	for i, list := range got {
		if !slices.Equal(list, want) {
			t.Errorf("reader %d has %d rows, in another order or not all: %v", i, len(list), list)
		}
	}
}

// runFeedChild runs a child until it has acknowledged so many rows, and kills it;
// or until all are written and the readers have them.
func runFeedChild(t *testing.T, path string, place *feedPlace, killAt int, acknowledged map[string]bool, readers *sync.WaitGroup) (rows int, all bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), feedCrashEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for s := bufio.NewScanner(out); s.Scan(); {
		kind, value, _ := strings.Cut(s.Text(), " ")
		switch kind {
		case "url":
			place.set(value)
		case "row":
			acknowledged[value] = true
			if rows++; rows == killAt {
				return rows, false
			}
		case "done":
			readers.Wait()
			return rows, true
		}
	}
	t.Fatal("the child ended by itself")
	return rows, false
}

// readWholeFeed reads until it has all rows, in the manner of reader i.
func readWholeFeed(ctx context.Context, t *testing.T, place *feedPlace, i int) (list []string) {
	cursor, generation, where := "", 0, ""
	for len(list) < feedWriters*feedRows {
		if where == "" {
			var err error
			if where, generation, err = place.after(ctx, generation); err != nil {
				return list
			}
		}
		var rows []string
		var err error
		if i%4 == 3 {
			rows, cursor, err = readFeedStream(ctx, where, cursor, i, min(11, feedWriters*feedRows-len(list)))
		} else {
			rows, cursor, err = readFeedPage(ctx, where, cursor, i)
		}
		list = append(list, rows...)
		var refused *url.Error
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return list
		case errors.As(err, &refused) || errors.Is(err, io.ErrUnexpectedEOF):
			where = "" // it was killed
		default:
			t.Errorf("reader %d: %v", i, err)
			return list
		}
	}
	return list
}

// feedFormat is the format that reader i asks for, and how it tells a row.
func feedFormat(i int) (format string, id func(row []byte) (string, error)) {
	member := func(path ...string) func(row []byte) (string, error) {
		return func(row []byte) (id string, err error) {
			for _, name := range path {
				var o map[string]json.RawMessage
				if err := json.Unmarshal(row, &o); err != nil {
					return "", err
				}
				row = o[name]
			}
			return id, json.Unmarshal(row, &id)
		}
	}
	switch i {
	case 1:
		return "ecs", member("event", "id")
	case 2, 7:
		return "ocsf", member("finding_info", "uid")
	case 4:
		return "cim", member("id")
	case 5:
		return "cef", func(row []byte) (string, error) {
			e, err := schemas.ParseCEF(string(row))
			if err != nil {
				return "", err
			}
			return e.Extension["externalId"], nil
		}
	}
	return "native", member("id")
}

// readFeedPage reads one page and returns the cursor behind it; with an error
// nothing was read.
func readFeedPage(ctx context.Context, where, cursor string, i int) (rows []string, next string, err error) {
	lines := i%4 == 1
	limit := []int{3, 50, 500}[i%3]
	format, idOf := feedFormat(i)
	start := []string{"start=oldest", "since=2026-03-02T09:00:00Z"}[i%2]
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/v1/feed/alerts?limit=%d&wait=5&%s&format=%s", where, limit, start, format), nil)
	if err != nil {
		return nil, cursor, err
	}
	if cursor != "" {
		r.URL.RawQuery += "&cursor=" + cursor
	}
	if lines {
		r.Header.Set("Accept", map[bool]string{true: "text/plain", false: "application/x-ndjson"}[format == "cef"])
	}
	resp, err := http.DefaultClient.Do(r) // it takes gzip
	if err != nil {
		return nil, cursor, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, cursor, io.ErrUnexpectedEOF
	}
	if resp.StatusCode != http.StatusOK {
		return nil, cursor, fmt.Errorf("%s: %s", resp.Status, body)
	}
	var page struct {
		Data []json.RawMessage
		Next string `json:"next_cursor"`
	}
	if lines {
		for line := range bytes.Lines(body) {
			page.Data = append(page.Data, bytes.TrimSuffix(line, []byte("\n")))
		}
		page.Next = resp.Header.Get("X-Next-Cursor")
	} else if err := json.Unmarshal(body, &page); err != nil {
		return nil, cursor, err
	}
	for _, row := range page.Data {
		id, err := idOf(row)
		if err != nil {
			return nil, cursor, err
		}
		rows = append(rows, id)
	}
	return rows, page.Next, nil
}

// readFeedStream reads up to most events of a stream and returns the id of the
// last one.
func readFeedStream(ctx context.Context, where, last string, i, most int) (rows []string, id string, err error) {
	format, idOf := feedFormat(i)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, where+"/api/v1/feed/alerts/stream?format="+format, nil)
	if err != nil {
		return nil, last, err
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, last, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, last, fmt.Errorf("%s", resp.Status)
	}
	var eventID, data string
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ": ")
		switch {
		case name == "id":
			eventID = value
		case name == "data":
			data = value
		case s.Text() == "" && data != "":
			row, err := idOf([]byte(data))
			if err != nil {
				return rows, last, err
			}
			rows, last, data = append(rows, row), eventID, ""
			if len(rows) == most {
				return rows, last, nil
			}
		}
	}
	// The kind of its end says nothing: the process was killed.
	return rows, last, io.ErrUnexpectedEOF
}
