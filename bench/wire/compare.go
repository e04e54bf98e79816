package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"weir/collector"
	"weir/collector/capture/mirror"
	"weir/collector/capture/tls"
	"weir/pipeline"
)

// record is a transaction as both sides tell it; id is in its query.
type record struct {
	ID       string  `json:"id"`
	Address  string  `json:"remote_addr"`
	Method   string  `json:"method"`
	Host     string  `json:"host"`
	Path     string  `json:"path"`
	Query    string  `json:"query"`
	Status   int     `json:"status"`
	Bytes    int64   `json:"bytes"`
	Agent    string  `json:"agent"`
	Referer  string  `json:"referer"`
	User     string  `json:"login_user"`
	Duration float64 `json:"duration"`
}

// readLog reads the server's log.
func readLog(name string, h2 bool) (map[string]record, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]record{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%w: %s", err, lines.Bytes())
		}
		r.Path, _, _ = strings.Cut(r.Path, "?")
		if r.Path == "/api/v1/doc" && !h2 {
			r.Bytes -= int64(len("HTTP/1.1 100 Continue\r\n\r\n")) // nginx counts it to the body
		}
		if _, twice := all[r.ID]; twice {
			return nil, fmt.Errorf("the server logged %s twice", r.ID)
		}
		all[r.ID] = r
	}
	return all, lines.Err()
}

// take adds the requests of a block.
func take(all map[string]record, b *pipeline.Block) {
	for i := range b.Requests {
		r := &b.Requests[i]
		id := r.Query
		if at := strings.Index(id, "n="); at >= 0 {
			id = id[at+2:]
		}
		id, _, _ = strings.Cut(id, "&")
		all[strings.Clone(id)] = record{
			ID: strings.Clone(id), Address: r.Address.String(), Method: strings.Clone(r.Method), Host: strings.Clone(r.Host), Path: strings.Clone(r.Path),
			Query: strings.Clone(r.Query), Status: int(r.Status), Bytes: r.Bytes, Agent: strings.Clone(r.Agent), Referer: strings.Clone(r.Referer),
			Duration: float64(r.Duration) / 1e6, User: strings.Clone(r.LoginUser),
		}
	}
}

// plain is an Identify that names the address and changes nothing else.
func plain() collector.Identify {
	return func(r *pipeline.Request, f *collector.Fields) {
		r.Address, _ = pipeline.ParseAddress(f.Remote)
		r.LoginUser = f.LoginUser
	}
}

// follow reads a key log, which the client may still write; nil for "".
func follow(keyLog string) *tls.KeyLog {
	if keyLog == "" {
		return nil
	}
	keys := &tls.KeyLog{}
	keys.Follow(keyLog)
	return keys
}

// readFile reads a capture file.
func readFile(ctx context.Context, name, keyLog string) (map[string]record, error) {
	all := map[string]record{}
	r := mirror.NewReader(mirror.ReaderConfig{Path: name, NewIdentify: plain, Keys: follow(keyLog)})
	defer r.Close()
	for {
		b, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			sum := r.Summary()
			for _, line := range sum.Lines() {
				fmt.Println("tcpdump:", line)
			}
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		take(all, b)
		r.Release(b)
	}
}

// live is a capture that goes on beside the client.
type live struct {
	l    *mirror.Live
	all  map[string]record
	done chan error
}

func captureLive(p place, o *options) (*live, error) {
	l, err := mirror.OpenLive(mirror.LiveConfig{
		Source: "wire", SourceID: 1, Interface: p.device, Filter: p.filter, Workers: o.captures, Buffer: 64 << 20, NewIdentify: plain, Keys: follow(o.keys),
	})
	if err != nil {
		return nil, err
	}
	c := &live{l: l, all: map[string]record{}, done: make(chan error, 1)}
	l.Start()
	go func() {
		for {
			b, err := l.Next(context.Background())
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				c.done <- err
				return
			}
			take(c.all, b)
			l.Release(b)
		}
	}()
	return c, nil
}

func (c *live) stop() (map[string]record, mirror.Summary, error) {
	err := c.l.Close()
	return c.all, c.l.Summary(), errors.Join(err, <-c.done)
}

// compare looks for every line of the log among what was read.
func compare(name string, logged, read map[string]record) error {
	missing, differ, shown := 0, 0, 0
	fields := map[string]int{}
	worst := 0.0
	for id, want := range logged {
		got, ok := read[id]
		if !ok {
			missing++
			continue
		}
		worst = max(worst, want.Duration-got.Duration, got.Duration-want.Duration)
		got.Duration = want.Duration
		if got == want {
			continue
		}
		differ++
		for field, is := range map[string]bool{
			"address": got.Address != want.Address, "method": got.Method != want.Method, "host": got.Host != want.Host, "path": got.Path != want.Path,
			"query": got.Query != want.Query, "status": got.Status != want.Status, "bytes": got.Bytes != want.Bytes, "agent": got.Agent != want.Agent,
			"referer": got.Referer != want.Referer, "login": got.User != want.User,
		} {
			if is {
				fields[field]++
			}
		}
		if shown++; shown <= 3 {
			fmt.Printf("%s: log %+v\n%s: got %+v\n", name, want, name, got)
		}
	}
	fmt.Printf("%s: the log has %d, weir %d; %d missing, %d differ %v; durations differ by at most %.1f ms\n",
		name, len(logged), len(read), missing, differ, fields, 1000*worst)
	if missing+differ > 0 || len(logged) == 0 {
		return fmt.Errorf("%s: %d missing, %d differ of %d", name, missing, differ, len(logged))
	}
	return nil
}
