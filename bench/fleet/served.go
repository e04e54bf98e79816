package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"time"
)

// makeToken makes one for the console's API.
func makeToken(ctx context.Context, o *options, m *measured) error {
	text, err := exec.CommandContext(ctx, o.weir, "token", "create", "-c", m.config, "--name", "bench", "--role", "analyst").Output()
	m.token = strings.TrimSpace(string(text))
	if err != nil {
		return fmt.Errorf("weir token: %w", err)
	}
	return nil
}

// awaitServed waits until each console has every revision in its feed, and compares.
func awaitServed(ctx context.Context, out io.Writer, list []*process, m *measured) error {
	for _, p := range list {
		if p.role != "serve" {
			continue
		}
		var rows [][]byte
		cursor := ""
		var got []string
		for len(got) < len(m.want) {
			var page struct {
				Data []json.RawMessage
				Next string `json:"next_cursor"`
			}
			path := "/api/v1/feed/alerts?limit=500&start=oldest"
			if cursor != "" {
				path += "&cursor=" + url.QueryEscape(cursor)
			}
			err := ask(ctx, p, m.token, path, &page)
			if err == nil && len(page.Data) > 0 {
				for _, row := range page.Data {
					rows = append(rows, row)
				}
				cursor = page.Next
				if got, err = plain(rows); err != nil {
					return err
				}
				continue
			}
			select {
			case <-time.After(500 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("the console has %d of %d revisions: %w: %w\n%s", len(got), len(m.want), ctx.Err(), err, p.log)
			}
		}
		if err := same(m.want, got); err != nil {
			return fmt.Errorf("the console's feed: %w", err)
		}
		fmt.Fprintf(out, "the console's feed has the same %d revisions\n", len(got))
	}
	return nil
}

// ask gets an answer of a console.
func ask(ctx context.Context, p *process, token, path string, into any) error {
	at := addressInLog().FindStringSubmatch(p.log.String())
	if at == nil {
		return errors.New("it does not serve yet")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at[1]+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d %s", path, resp.StatusCode, text)
	}
	return json.Unmarshal(text, into)
}
