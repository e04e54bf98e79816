package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/pipeline"
	"weir/storage/sqlite"
)

// shellTarget is whom a command asks: a weir that runs elsewhere, with a token, or
// the API over the store's file, whether weir runs or not.
type shellTarget struct {
	config, store, url, tokenFile string
}

const shellTargetHelp = `  -c FILE            configuration: where the store is
  --store FILE       the store (default weir.db), also while weir runs
  --url URL          a running weir instead, with --token-file
  --token-file FILE  a token with the role that it takes
`

func (s *shellTarget) add(v func(p *string, name, value, usage string)) {
	v(&s.config, "c", "", "")
	v(&s.store, "store", "", "")
	v(&s.url, "url", "", "")
	v(&s.tokenFile, "token-file", "", "")
}

// open gives do a way to ask.
func (s *shellTarget) open(ctx context.Context, do func(api *shellClient) error) error {
	if s.url != "" {
		token, err := os.ReadFile(s.tokenFile)
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		client := &http.Client{Timeout: time.Minute}
		return do(&shellClient{ctx: ctx, base: strings.TrimSuffix(s.url, "/"), token: strings.TrimSpace(string(token)), send: client.Do})
	}
	cfg, err := loadConfig(s.config)
	if err != nil {
		return err
	}
	if s.store != "" {
		cfg.Store.Path = s.store
	}
	keyFile := cfg.Privacy.KeyFile
	if keyFile == "" {
		keyFile = storeKeyFile(cfg.Store.Path)
	}
	if _, err := os.Stat(cfg.Store.Path); err != nil {
		return fmt.Errorf("find the store: %w; a weir elsewhere is asked with --url", err)
	}
	keys, err := pipeline.LoadOrCreatePrivacyKeys(keyFile)
	if err != nil {
		return err
	}
	pepper, err := console.LoadOrCreatePepper(cfg.pepperFile())
	if err != nil {
		return err
	}
	return withAccess(cfg, func(db *sqlite.DB) error {
		h := console.NewShell(console.Options{
			Store: consoleStore{db}, Log: zap.NewNop(), Pepper: pepper, Names: keys.Open,
			Resolve: func(m *pipeline.SuppressionMatch) error { return resolveMatch(m, cfg, keys) },
		}, shellUser())
		return do(&shellClient{ctx: ctx, base: "http://localhost", send: func(r *http.Request) (*http.Response, error) {
			w := &shellAnswer{header: http.Header{}, status: http.StatusOK}
			h.ServeHTTP(w, r)
			return &http.Response{StatusCode: w.status, Status: http.StatusText(w.status), Header: w.header, Body: io.NopCloser(&w.body)}, nil
		}})
	})
}

// shellAnswer is an answer in this process.
type shellAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *shellAnswer) Header() http.Header         { return w.header }
func (w *shellAnswer) WriteHeader(status int)      { w.status = status }
func (w *shellAnswer) Write(b []byte) (int, error) { return w.body.Write(b) }

// maxShellAnswer bounds what is read of an answer, in bytes.
const maxShellAnswer = 64 << 20

// shellClient asks an API.
type shellClient struct {
	ctx   context.Context
	base  string
	token string
	send  func(*http.Request) (*http.Response, error)
}

// shellProblem is an answer that is none.
type shellProblem struct {
	status int
	detail string
}

func (p *shellProblem) Error() string { return p.detail }

// ask asks and reads the answer into into; a problem is a *shellProblem.
func (c *shellClient) ask(method, path string, body, into any) error {
	return c.askAt(method, path, "", body, into)
}

// askAt asks with the revision that a change is made to, "" for any. It waits where
// it is told to, as a token may ask so often a minute.
func (c *shellClient) askAt(method, path, revision string, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	for {
		wait, err := c.try(method, path, revision, text, into)
		if wait == 0 {
			return err
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

// maxShellWait bounds how long one answer is waited for when there were too many.
const maxShellWait = 2 * time.Minute

func (c *shellClient) try(method, path, revision string, body []byte, into any) (wait time.Duration, err error) {
	r, err := http.NewRequestWithContext(c.ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if revision != "" {
		r.Header.Set("If-Match", strconv.Quote(revision))
	}
	resp, err := c.send(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxShellAnswer))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 && time.Duration(s)*time.Second <= maxShellWait {
			return time.Duration(s) * time.Second, nil
		}
	}
	if resp.StatusCode/100 != 2 {
		var p struct{ Detail string }
		if json.Unmarshal(answer, &p) != nil || p.Detail == "" {
			p.Detail = resp.Status
		}
		return 0, &shellProblem{resp.StatusCode, printable(p.Detail)}
	}
	return 0, json.Unmarshal(answer, into)
}
