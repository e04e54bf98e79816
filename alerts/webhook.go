package alerts

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// WebhookConfig configures a webhook after Standard Webhooks 1.0. Each alert
// revision is one POST:
//
//	webhook-id: 7f3c9a….3            the same on every try: what to deduplicate by
//	webhook-timestamp: 1732248000     of this try
//	webhook-signature: v1,K5oZ…=      one for each secret, separated by spaces
//
//	{"type":"alert.opened","timestamp":"2026-11-22T04:00:00Z","data":{…the alert…}}
//
// Only an answer of 2xx takes the alert.
type WebhookConfig struct {
	URL URL `yaml:"url"`
	// SecretFile holds secrets as whsec_…, one a line. Every one signs, so a
	// second line is how a secret is rotated.
	SecretFile string `yaml:"secret_file"`
	// HubSignature adds X-Hub-Signature-256 over the body, by the first secret,
	// for receivers that know no other.
	HubSignature bool `yaml:"hub_signature"`
	// InsecureHTTP admits http:// to hosts other than this one.
	InsecureHTTP bool `yaml:"insecure_http"`
	// CAFile holds certificates in PEM to trust instead of the system's.
	CAFile string `yaml:"ca_file"`
	// Timeout bounds one try; 15 s when absent.
	Timeout Duration `yaml:"timeout"`
	// Heartbeat is how often a webhook tells that weir lives, and how far it
	// has come; 0 never:
	//
	//	{"type":"weir.heartbeat","timestamp":"…","data":{"schema":"weir.heartbeat/1",…}}
	Heartbeat Duration `yaml:"heartbeat"`
}

// URL is an address whose path and query may be a secret: it prints without
// them.
type URL string

func (u URL) String() string {
	p, err := url.Parse(string(u))
	if err != nil || p.Host == "" {
		return "<url>"
	}
	return p.Scheme + "://" + p.Host + "/…"
}

// GoString keeps %#v from showing more than String.
func (u URL) GoString() string { return strconv.Quote(u.String()) }

// MarshalText keeps printed configuration from showing more than String.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

const (
	webhookTimeout = 15 * time.Second
	maxSecrets     = 8
	maxSecretFile  = 64 << 10
	maxRetryAfter  = 24 * time.Hour
	minHeartbeat   = 10 * time.Second
	maxHeartbeat   = 24 * time.Hour
)

func (c *WebhookConfig) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	u, err := url.Parse(string(c.URL))
	switch {
	case c.URL == "":
		bad("url: is missing")
	case err != nil || u.Host == "" || u.Hostname() == "":
		bad("url: is no address like https://siem.example.com/hook")
	default:
		if u.User != nil {
			bad("url: holds a user or password; webhooks are signed with secret_file instead")
		}
		if u.Scheme != "https" && u.Scheme != "http" {
			bad("url: scheme %q, want https", u.Scheme)
		}
		if u.Scheme == "http" && !c.InsecureHTTP && !loopback(u.Hostname()) {
			bad("url: http to another host sends alerts in clear; use https, or set insecure_http: true")
		}
	}
	if c.SecretFile == "" {
		bad("secret_file: is missing; write a secret with: printf 'whsec_%%s\\n' \"$(openssl rand -base64 32)\" > FILE")
	}
	if t := time.Duration(c.Timeout); t != 0 && (t < time.Second || t > time.Minute) {
		bad("timeout: %s is not within 1s to 1m", t)
	}
	if t := time.Duration(c.Heartbeat); t != 0 && (t < minHeartbeat || t > maxHeartbeat) {
		bad("heartbeat: %s is not within %s to %s", t, minHeartbeat, maxHeartbeat)
	}
	return errs
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || strings.EqualFold(host, "localhost")
}

// webhook is the sink. Nothing of it changes: Send and beat may go on at once.
type webhook struct {
	every   time.Duration // between heartbeats; 0 none
	url     string
	host    string // all of the address that may be printed
	agent   string
	secrets [][]byte
	hub     bool
	client  *http.Client
}

func newWebhook(c WebhookConfig, version string) (*webhook, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open webhook: %w", err)
	}
	secrets, err := readSecrets(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("open webhook: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("open webhook: read ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("open webhook: ca_file %s holds no certificate in PEM", c.CAFile)
		}
	}
	u, err := url.Parse(string(c.URL))
	if err != nil {
		return nil, errors.New("open webhook: url is no address")
	}
	timeout := time.Duration(c.Timeout)
	if timeout == 0 {
		timeout = webhookTimeout
	}
	return &webhook{
		every: time.Duration(c.Heartbeat), url: string(c.URL), host: u.Scheme + "://" + u.Host, agent: "weir/" + version, secrets: secrets, hub: c.HubSignature,
		client: &http.Client{
			Timeout: timeout,
			Transport: &http.Transport{
				Proxy:           nil, // never by surprise of the environment
				TLSClientConfig: conf, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second,
				TLSHandshakeTimeout: timeout, MaxResponseHeaderBytes: 64 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// readSecrets reads whsec_ secrets, one a line; empty lines and lines with #
// are skipped.
func readSecrets(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read secret_file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("read secret_file: %w", err)
	}
	if len(data) > maxSecretFile {
		return nil, fmt.Errorf("read secret_file %s: over %d bytes", path, maxSecretFile)
	}
	var out [][]byte
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, ok := strings.CutPrefix(line, "whsec_")
		if !ok {
			return nil, fmt.Errorf("read secret_file %s: line %d does not begin with whsec_", path, i+1)
		}
		b, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			return nil, fmt.Errorf("read secret_file %s: line %d is not whsec_ and base64", path, i+1)
		}
		if len(b) < 24 || len(b) > 64 {
			return nil, fmt.Errorf("read secret_file %s: line %d has %d bytes, want 24 to 64", path, i+1, len(b))
		}
		out = append(out, b)
	}
	if len(out) == 0 || len(out) > maxSecrets {
		return nil, fmt.Errorf("read secret_file %s: %d secrets, want 1 to %d", path, len(out), maxSecrets)
	}
	return out, nil
}

// Send posts the alerts one by one and stops at the first that fails.
func (h *webhook) Send(ctx context.Context, batch []pipeline.Alert) error {
	for i := range batch {
		if err := h.post(ctx, revisionOf(&batch[i]), payload(&batch[i])); err != nil {
			return fmt.Errorf("post alert to %s: %w", h.host, err)
		}
	}
	return nil
}

// payload is the body for a: a function of the alert alone.
func payload(a *pipeline.Alert) []byte {
	at, err := max(a.Window.Last, a.Window.DetectedAt).MarshalText()
	if err != nil {
		at = nil
	}
	kind, err := json.Marshal("alert." + a.Change.Kind)
	if err != nil {
		kind = []byte(`"alert"`)
	}
	b := append(make([]byte, 0, 4096), `{"type":`...)
	b = append(b, kind...)
	b = append(b, `,"timestamp":"`...)
	b = append(b, at...)
	b = append(b, `","data":`...)
	return append(AppendJSON(b, a), '}')
}

// beat posts one heartbeat: data is a JSON object. It is not tried again, the next
// one says more.
func (h *webhook) beat(ctx context.Context, data []byte) error {
	now := time.Now().UTC()
	body := fmt.Appendf(nil, `{"type":"weir.heartbeat","timestamp":%q,"data":%s}`, now.Format(time.RFC3339Nano), data)
	if err := h.post(ctx, "heartbeat."+strconv.FormatInt(now.UnixNano(), 10), body); err != nil {
		return fmt.Errorf("post heartbeat to %s: %w", h.host, err)
	}
	return nil
}

// post makes one attempt to deliver body under an id.
func (h *webhook) post(ctx context.Context, id string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", pipeline.ErrPermanent)
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", h.agent)
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", now)
	req.Header.Set("webhook-signature", h.sign(id, now, body))
	if h.hub {
		m := hmac.New(sha256.New, h.secrets[0])
		m.Write(body)
		req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(m.Sum(nil)))
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return cause(err)
	}
	// Read a little so that the connection can be used again; what it says is
	// never shown, it may repeat the address or the signature.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	_ = resp.Body.Close()
	return verdict(resp.StatusCode, resp.Header.Get("Retry-After"), time.Now())
}

func (h *webhook) sign(id, at string, body []byte) string {
	var b strings.Builder
	for i, s := range h.secrets {
		m := hmac.New(sha256.New, s)
		_, _ = io.WriteString(m, id+"."+at+".")
		m.Write(body)
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("v1," + base64.StdEncoding.EncodeToString(m.Sum(nil)))
	}
	return b.String()
}

// verdict is the retry table: what an HTTP status means for a delivery.
func verdict(status int, retryAfter string, now time.Time) error {
	err := fmt.Errorf("answered %d %s", status, http.StatusText(status))
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusGone:
		return fmt.Errorf("%w: %w", err, ErrGone)
	case status < 400:
		return fmt.Errorf("%w, and redirects are not followed: %w", err, ErrRefused)
	case status == 401, status == 403, status == 404:
		return fmt.Errorf("%w: %w", err, ErrRefused)
	case status == 408, status == 425, status == 429, status >= 500:
		if w := wait(retryAfter, now); w > 0 {
			return &RetryAfter{Wait: w, Err: err}
		}
		return err
	}
	return fmt.Errorf("%w: %w", err, pipeline.ErrPermanent)
}

// wait reads Retry-After, seconds or a date; 0 when there is none to honour.
func wait(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Duration(min(max(n, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// cause reduces an error of net/http to what is the same on every try and
// holds no part of the address: not the URL, not our port.
func cause(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		if ue.Timeout() {
			return errors.New("timed out")
		}
		err = ue.Err
	}
	if oe, ok := errors.AsType[*net.OpError](err); ok && oe.Err != nil {
		return fmt.Errorf("%s: %w", oe.Op, oe.Err)
	}
	return err
}
