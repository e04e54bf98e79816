package alerts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

// SplunkConfig configures Splunk's HTTP Event Collector:
//
//	POST /services/collector/event      Authorization: Splunk <token>
//	{"time":1732248000.000,"source":"weir","sourcetype":"weir:alert","event":{…CIM names…,"native":{…}},"fields":{"dedup_key":"7f3c9a….3",…}}
//
// Splunk takes whatever comes as often as it comes: fields.dedup_key tells repeats.
type SplunkConfig struct {
	URL        URL    `yaml:"url"` // https://splunk.example.com:8088
	TokenFile  string `yaml:"token_file"`
	Index      string `yaml:"index"`      // the token's own when empty
	Sourcetype string `yaml:"sourcetype"` // weir:alert when empty
	// Ack waits until Splunk has indexed what it took; the token has to have
	// indexer acknowledgement on.
	Ack bool `yaml:"ack"`

	InsecureHTTP bool     `yaml:"insecure_http"`
	CAFile       string   `yaml:"ca_file"`
	CertFile     string   `yaml:"cert_file"`
	KeyFile      string   `yaml:"key_file"`
	Timeout      Duration `yaml:"timeout"`
}

const (
	splunkLimit    = 2 << 20 // of one request
	splunkAckEvery = 10 * time.Second
	splunkAckTries = 30
)

func (c *SplunkConfig) endpoint() endpointConfig {
	return endpointConfig{c.URL, c.InsecureHTTP, c.CAFile, c.CertFile, c.KeyFile, c.Timeout}
}

func (c *SplunkConfig) validate() []error {
	e := c.endpoint()
	errs := e.validate()
	if c.TokenFile == "" {
		errs = append(errs, errors.New("token_file: is missing"))
	}
	return errs
}

type splunk struct {
	cfg     SplunkConfig
	call    *caller
	write   writer
	host    string // of this machine
	channel string
}

func newSplunk(c SplunkConfig, w writer, o SinkOptions) (*splunk, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open splunk: %w", err)
	}
	call, err := newCaller(c.endpoint(), o)
	if err != nil {
		return nil, fmt.Errorf("open splunk: %w", err)
	}
	if c.Sourcetype == "" {
		c.Sourcetype = "weir:alert"
	}
	if _, err := readSecret(c.TokenFile); err != nil {
		return nil, fmt.Errorf("open splunk: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "weir"
	}
	return &splunk{cfg: c, call: call, write: w, host: host, channel: newUUID()}, nil
}

// newUUID returns a random UUID, version 4.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Send posts the alerts, and waits until they are indexed if so configured.
func (s *splunk) Send(ctx context.Context, batch []pipeline.Alert) error {
	events := make([][]byte, len(batch))
	for i := range batch {
		events[i] = s.event(&batch[i])
	}
	err := chunks(len(events), splunkLimit, func(i int) int { return len(events[i]) }, func(from, to int) error {
		return s.post(ctx, bytes.Join(events[from:to], []byte("\n")))
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf("send alerts to %s: %w", s.call.host(), err)
}

func (s *splunk) event(a *pipeline.Alert) []byte {
	event := cim(a)
	event[string(s.write.format)] = s.write.value(a)
	at := max(int64(changedAt(a)), 0) / 1000
	o := object{
		"time": json.Number(fmt.Sprintf("%d.%03d", at/1000, at%1000)), "host": s.host, "source": "weir", "sourcetype": s.cfg.Sourcetype, "event": event,
		"fields": object{"dedup_key": revisionOf(a), "alert_id": a.ID, "revision": fmt.Sprint(a.Revision), "severity": a.Severity},
	}
	o.put("index", s.cfg.Index)
	return appendObject(nil, o)
}

func (s *splunk) header() (http.Header, error) {
	token, err := readSecret(s.cfg.TokenFile)
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("Authorization", "Splunk "+token)
	if s.cfg.Ack {
		h.Set("X-Splunk-Request-Channel", s.channel)
	}
	return h, nil
}

func (s *splunk) path(name, query string) string {
	return s.call.at(strings.TrimSuffix(s.call.url.Path, "/")+"/services/collector/"+name, query)
}

func (s *splunk) post(ctx context.Context, body []byte) error {
	h, err := s.header()
	if err != nil {
		return err
	}
	ans, err := s.call.post(ctx, s.path("event", ""), h, body, 64<<10)
	if err != nil {
		return err
	}
	var said struct {
		Code  int    `json:"code"`
		AckID *int64 `json:"ackId"`
	}
	said.Code = -1
	_ = json.Unmarshal(ans.body, &said)
	if err := splunkError(ans, said.Code); err != nil || !s.cfg.Ack {
		return err
	}
	if said.AckID == nil {
		return fmt.Errorf("answered without ackId; indexer acknowledgement is off for this token: %w", ErrRefused)
	}
	return s.indexed(ctx, *said.AckID)
}

// splunkError is what an answer means. What is wrong with the token, the index or
// the channel is no fault of an alert.
func splunkError(ans *answer, code int) error {
	switch {
	case ans.status == http.StatusRequestEntityTooLarge:
		return fmt.Errorf("answered 413: %w", errTooLarge)
	case ans.status == http.StatusBadRequest && slices.Contains([]int{7, 10, 11, 14, 16}, code):
		return fmt.Errorf("answered 400, code %d (%s): %w", code, splunkCode(code), ErrRefused)
	case ans.status == http.StatusBadRequest:
		return fmt.Errorf("answered 400, code %d (%s): %w", code, splunkCode(code), pipeline.ErrPermanent)
	}
	return ans.verdict()
}

func splunkCode(code int) string {
	if s, ok := map[int]string{
		5: "no data", 6: "invalid data format", 7: "incorrect index", 10: "data channel is missing", 11: "invalid data channel", 12: "event field is required",
		13: "event field is blank", 14: "acknowledgement is disabled", 15: "indexed fields are wrong", 16: "query string authorization is not enabled",
	}[code]; ok {
		return s
	}
	return "unknown"
}

// indexed waits until Splunk says that it has what it acknowledged as id.
func (s *splunk) indexed(ctx context.Context, id int64) error {
	ask := appendObject(nil, object{"acks": []int64{id}})
	for range splunkAckTries {
		h, err := s.header()
		if err != nil {
			return err
		}
		ans, err := s.call.post(ctx, s.path("ack", "channel="+s.channel), h, ask, 64<<10)
		if err != nil {
			return err
		}
		if err := ans.verdict(); err != nil {
			return err
		}
		var said struct {
			Acks map[string]bool `json:"acks"`
		}
		if err := json.Unmarshal(ans.body, &said); err != nil {
			return errors.New("answered with no acknowledgement")
		}
		if said.Acks[fmt.Sprint(id)] {
			return nil
		}
		t := time.NewTimer(splunkAckEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
	return errors.New("took the alerts and did not index them in 5 minutes")
}
