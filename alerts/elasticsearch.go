package alerts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"weir/pipeline"
)

// ElasticsearchConfig configures the _bulk API of Elasticsearch and OpenSearch:
//
//	POST /_bulk
//	{"create":{"_index":"logs-weir.alert-default","_id":"7f3c9a….3"}}
//	{"@timestamp":"2026-11-22T04:00:00Z","event":{"kind":"alert",…},…}
//
// A document is created, never replaced: data streams take nothing else, and one
// that is there already (409) was sent before.
type ElasticsearchConfig struct {
	URL URL `yaml:"url"`
	// DataStream, or index, that alerts go to; logs-weir.alert-default when empty.
	DataStream string `yaml:"data_stream"`
	// APIKeyFile holds the encoded key (base64 of id:key); or User and PasswordFile.
	APIKeyFile   string `yaml:"api_key_file"`
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`

	InsecureHTTP bool     `yaml:"insecure_http"`
	CAFile       string   `yaml:"ca_file"`
	CertFile     string   `yaml:"cert_file"`
	KeyFile      string   `yaml:"key_file"`
	Timeout      Duration `yaml:"timeout"`
}

const (
	elasticStream = "logs-weir.alert-default"
	elasticLimit  = 5 << 20 // of one request; Elastic advises 5 to 15 MB
)

func (c *ElasticsearchConfig) endpoint() endpointConfig {
	return endpointConfig{c.URL, c.InsecureHTTP, c.CAFile, c.CertFile, c.KeyFile, c.Timeout}
}

func (c *ElasticsearchConfig) validate() []error {
	e := c.endpoint()
	errs := e.validate()
	if s := c.DataStream; s != "" && (s != strings.ToLower(s) || strings.ContainsAny(s, "\\/*?\"<>| ,#:") || len(s) > 255 || strings.Trim(s[:1], "-_+.") == "") {
		errs = append(errs, fmt.Errorf("data_stream: %q is no name of a data stream or index", s))
	}
	if c.APIKeyFile != "" && c.User != "" {
		errs = append(errs, errors.New("api_key_file: there is user too; use one"))
	}
	if (c.User == "") != (c.PasswordFile == "") {
		errs = append(errs, errors.New("user: needs user and password_file"))
	}
	return errs
}

type elasticsearch struct {
	cfg   ElasticsearchConfig
	call  *caller
	write writer
}

func newElasticsearch(c ElasticsearchConfig, w writer, o SinkOptions) (*elasticsearch, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open elasticsearch: %w", err)
	}
	call, err := newCaller(c.endpoint(), o)
	if err != nil {
		return nil, fmt.Errorf("open elasticsearch: %w", err)
	}
	if c.DataStream == "" {
		c.DataStream = elasticStream
	}
	s := &elasticsearch{cfg: c, call: call, write: w}
	if _, err := s.header(); err != nil {
		return nil, fmt.Errorf("open elasticsearch: %w", err)
	}
	return s, nil
}

// Send creates one document for each alert.
func (s *elasticsearch) Send(ctx context.Context, batch []pipeline.Alert) error {
	docs := make([][]byte, len(batch))
	for i := range batch {
		docs[i] = s.lines(&batch[i])
	}
	err := chunks(len(docs), elasticLimit, func(i int) int { return len(docs[i]) }, func(from, to int) error {
		return s.bulk(ctx, docs[from:to])
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf("send alerts to %s: %w", s.call.host(), err)
}

// lines are the two lines of one alert.
func (s *elasticsearch) lines(a *pipeline.Alert) []byte {
	b := appendObject(nil, object{"create": object{"_index": s.cfg.DataStream, "_id": revisionOf(a)}})
	b = append(b, '\n')
	ingested := time.Now().UTC().Format(time.RFC3339Nano)
	if s.write.format == FormatECS {
		o := ecs(a)
		if event, ok := o["event"].(object); ok {
			event["ingested"] = ingested
		}
		if part := strings.SplitN(s.cfg.DataStream, "-", 3); len(part) == 3 {
			o["data_stream"] = object{"type": part[0], "dataset": part[1], "namespace": part[2]}
		}
		b = appendObject(b, o)
	} else {
		o := object{"event": object{"ingested": ingested}, string(s.write.format): s.write.value(a)}
		o["@timestamp"] = stamp(max(changedAt(a), 0))
		b = appendObject(b, o)
	}
	return append(b, '\n')
}

func (s *elasticsearch) header() (http.Header, error) {
	h := http.Header{}
	h.Set("Content-Type", "application/x-ndjson")
	switch {
	case s.cfg.APIKeyFile != "":
		key, err := readSecret(s.cfg.APIKeyFile)
		if err != nil {
			return nil, err
		}
		h.Set("Authorization", "ApiKey "+key)
	case s.cfg.User != "":
		password, err := readSecret(s.cfg.PasswordFile)
		if err != nil {
			return nil, err
		}
		h.Set("Authorization", basic(s.cfg.User, password))
	}
	return h, nil
}

func (s *elasticsearch) bulk(ctx context.Context, docs [][]byte) error {
	h, err := s.header()
	if err != nil {
		return err
	}
	path := strings.TrimSuffix(s.call.url.Path, "/") + "/_bulk"
	ans, err := s.call.post(ctx, s.call.at(path, s.call.url.RawQuery), h, bytes.Join(docs, nil), maxAnswer)
	if err != nil {
		return err
	}
	if ans.status == http.StatusRequestEntityTooLarge {
		return fmt.Errorf("answered 413: %w", errTooLarge)
	}
	if err := ans.verdict(); err != nil {
		return err
	}
	var said struct {
		Errors bool `json:"errors"`
		Items  []struct {
			Create struct {
				Status int `json:"status"`
				Error  struct {
					Type string `json:"type"`
				} `json:"error"`
			} `json:"create"`
		} `json:"items"`
	}
	if err := json.Unmarshal(ans.body, &said); err != nil || len(said.Items) != len(docs) {
		return errors.New("answered 200 and not with what became of each document")
	}
	errs := make([]error, len(docs))
	bad := false
	for i, item := range said.Items {
		errs[i] = bulkError(item.Create.Status, item.Create.Error.Type)
		bad = bad || errs[i] != nil
	}
	if !bad {
		return nil
	}
	return &ItemErrors{errs}
}

// bulkError is what the status of one document means. 409: it is there already.
func bulkError(status int, kind string) error {
	if status == http.StatusConflict {
		return nil
	}
	if strings.Trim(kind, wordRunes) != "" || len(kind) > 64 {
		kind = ""
	}
	if err := verdict(status, "", time.Now()); err != nil {
		return fmt.Errorf("document %s: %w", kind, err)
	}
	return nil
}
