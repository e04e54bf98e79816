package alerts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"weir/pipeline"
)

// SentinelConfig configures Microsoft Sentinel's Logs Ingestion API. Each alert is
// a row of the table behind the stream:
//
//	POST {url}/dataCollectionRules/{rule}/streams/{stream}?api-version=2023-01-01
//	[{"TimeGenerated":"2026-11-22T04:00:00Z","AlertId":"7f3c9a…","Revision":3,"Title":"…","Alert":{…}}]
//
// Log Analytics keeps repeats: summarize arg_max(Revision, *) by AlertId.
type SentinelConfig struct {
	URL    URL    `yaml:"url"`  // of the data collection endpoint or rule
	Rule   string `yaml:"rule"` // its immutable id, dcr-…
	Stream string `yaml:"stream"`
	// TenantID, ClientID and ClientSecretFile are of the application that may
	// publish metrics to the rule. Authority issues its tokens.
	TenantID         string `yaml:"tenant_id"`
	ClientID         string `yaml:"client_id"`
	ClientSecretFile string `yaml:"client_secret_file"`
	Authority        URL    `yaml:"authority"` // https://login.microsoftonline.com when empty

	InsecureHTTP bool     `yaml:"insecure_http"`
	CAFile       string   `yaml:"ca_file"`
	Timeout      Duration `yaml:"timeout"`
}

const (
	sentinelAuthority = "https://login.microsoftonline.com"
	sentinelScope     = "https://monitor.azure.com/.default"
	sentinelLimit     = 1_000_000 - 1024 // of one call
	sentinelField     = 64_000           // of one value; longer ones are cut there
)

func (c *SentinelConfig) endpoint() endpointConfig {
	return endpointConfig{c.URL, c.InsecureHTTP, c.CAFile, "", "", c.Timeout}
}

func (c *SentinelConfig) authority() endpointConfig {
	e := c.endpoint()
	if e.url = c.Authority; e.url == "" {
		e.url = sentinelAuthority
	}
	return e
}

func (c *SentinelConfig) validate() []error {
	e, auth := c.endpoint(), c.authority()
	errs := e.validate()
	for _, err := range auth.validate() {
		if after, ok := strings.CutPrefix(err.Error(), "url: "); ok {
			errs = append(errs, fmt.Errorf("authority: %s", after))
		}
	}
	need := func(name, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s: is missing", name))
		} else if strings.ContainsAny(value, "/?# ") {
			errs = append(errs, fmt.Errorf("%s: %q is no identifier", name, value))
		}
	}
	need("rule", c.Rule)
	need("stream", c.Stream)
	need("tenant_id", c.TenantID)
	need("client_id", c.ClientID)
	if c.ClientSecretFile == "" {
		errs = append(errs, errors.New("client_secret_file: is missing"))
	}
	return errs
}

type sentinel struct {
	cfg        SentinelConfig
	call, auth *caller
	write      writer
	token      string
	until      time.Time
}

func newSentinel(c SentinelConfig, w writer, o SinkOptions) (*sentinel, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open sentinel: %w", err)
	}
	if _, err := readSecret(c.ClientSecretFile); err != nil {
		return nil, fmt.Errorf("open sentinel: %w", err)
	}
	s := &sentinel{cfg: c, write: w}
	var err error
	if s.call, err = newCaller(c.endpoint(), o); err == nil {
		s.auth, err = newCaller(c.authority(), o)
	}
	if err != nil {
		return nil, fmt.Errorf("open sentinel: %w", err)
	}
	return s, nil
}

// Send posts the alerts as rows.
func (s *sentinel) Send(ctx context.Context, batch []pipeline.Alert) error {
	rows := make([][]byte, len(batch))
	for i := range batch {
		rows[i] = s.row(&batch[i])
	}
	err := chunks(len(rows), sentinelLimit, func(i int) int { return len(rows[i]) + 1 }, func(from, to int) error {
		return s.post(ctx, rows[from:to])
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf("send alerts to %s: %w", s.call.host(), err)
}

// row is one alert. An alert that is longer than a value may be leaves out its
// lists: cut JSON would be none.
func (s *sentinel) row(a *pipeline.Alert) []byte {
	src, _ := sourceOf(a)
	o := object{
		"TimeGenerated": stamp(max(changedAt(a), 0)), "AlertId": a.ID, "Revision": a.Revision, "FindingUid": revisionOf(a), "Status": statusOf(a).word,
		"Severity": severityOf(a.Severity).word, "Detector": a.Detector, "Title": a.Title, "Reason": a.Reason, "Principal": a.Principal.Value,
		"SourceIp": src, "Campaign": a.Campaign, "Service": a.Labels["service"], "Tier": a.Tier, "Techniques": strings.Join(a.Attack, ","),
	}
	if v, ok := verdictOf(a); ok {
		o["Classification"] = v.sentinel
	}
	full := s.write.append(nil, a)
	if len(full) > sentinelField {
		short := *a
		short.Members, short.Exemplars, short.Affected = nil, nil, pipeline.AlertAffected{Truncated: true}
		full = s.write.append(nil, &short)
	}
	if o["Alert"] = json.RawMessage(full); !json.Valid(full) {
		o["Alert"] = string(full)
	}
	return appendObject(nil, o)
}

func (s *sentinel) post(ctx context.Context, rows [][]byte) error {
	if err := s.login(ctx); err != nil {
		return err
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("Authorization", "Bearer "+s.token)
	body := append(append([]byte{'['}, bytes.Join(rows, []byte{','})...), ']')
	path := strings.TrimSuffix(s.call.url.Path, "/") + "/dataCollectionRules/" + s.cfg.Rule + "/streams/" + s.cfg.Stream
	ans, err := s.call.post(ctx, s.call.at(path, "api-version=2023-01-01"), h, body, answerRest)
	if err != nil {
		return err
	}
	switch ans.status {
	case http.StatusRequestEntityTooLarge:
		return fmt.Errorf("answered 413: %w", errTooLarge)
	case http.StatusUnauthorized:
		s.token = "" // another for the next try
	}
	return ans.verdict()
}

// login makes sure of a token for another minute.
func (s *sentinel) login(ctx context.Context) error {
	if s.token != "" && time.Until(s.until) > time.Minute {
		return nil
	}
	secret, err := readSecret(s.cfg.ClientSecretFile)
	if err != nil {
		return err
	}
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {s.cfg.ClientID}, "client_secret": {secret}, "scope": {sentinelScope},
	}
	h := http.Header{}
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	ans, err := s.auth.post(ctx, s.auth.at("/"+s.cfg.TenantID+"/oauth2/v2.0/token", ""), h, []byte(form.Encode()), 64<<10)
	if err != nil {
		return fmt.Errorf("log in at %s: %w", s.auth.host(), err)
	}
	if ans.status >= 400 && ans.status < 500 && ans.status != http.StatusTooManyRequests && ans.status != http.StatusRequestTimeout {
		return fmt.Errorf("log in at %s: answered %d: %w", s.auth.host(), ans.status, ErrRefused)
	}
	if err := ans.verdict(); err != nil {
		return fmt.Errorf("log in at %s: %w", s.auth.host(), err)
	}
	var said struct {
		Token   string  `json:"access_token"`
		Seconds float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(ans.body, &said); err != nil || said.Token == "" {
		return fmt.Errorf("log in at %s: the answer holds none", s.auth.host())
	}
	s.token = said.Token
	s.until = time.Now().Add(time.Duration(min(max(said.Seconds, 0), 86_400) * float64(time.Second)))
	return nil
}
