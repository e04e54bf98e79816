package alerts

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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
// A group that a route makes is one POST with the latest revision of each alert that
// has news, and an alert that is told again without news has a type of its own:
//
//	{"type":"alert.group","timestamp":"…","data":{"schema":"weir.alert_group/1","group":"5be1…","by":[{"name":"detector","value":"auth.stuffing"}],
//	  "count":2,"open":14,"repeat":0,"alerts":[{…},{…}]}}
//	{"type":"alert.repeat","timestamp":"…","data":{…the alert…}}
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
	// BearerFile holds a token for Authorization: Bearer; User and PasswordFile are
	// for Basic. HeaderFiles are further headers, each with a file that holds it.
	BearerFile   string            `yaml:"bearer_file"`
	User         string            `yaml:"user"`
	PasswordFile string            `yaml:"password_file"`
	HeaderFiles  map[string]string `yaml:"header_files"`
	// TemplateFile holds a template of the body; see bodyTemplate.
	TemplateFile string `yaml:"template_file"`
	// InsecureHTTP admits http:// to hosts other than this one.
	InsecureHTTP bool `yaml:"insecure_http"`
	// CAFile holds certificates in PEM to trust instead of the system's. CertFile
	// and KeyFile are shown to the server.
	CAFile   string `yaml:"ca_file"`
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// Timeout bounds one try; 15 s when absent.
	Timeout Duration `yaml:"timeout"`
	// Heartbeat is how often a webhook tells that weir lives, and how far it
	// has come; 0 never:
	//
	//	{"type":"weir.heartbeat","timestamp":"…","data":{"schema":"weir.heartbeat/1",…}}
	Heartbeat Duration `yaml:"heartbeat"`
}

const (
	maxSecrets    = 8
	maxSecretFile = 64 << 10
	minHeartbeat  = 10 * time.Second
	maxHeartbeat  = 24 * time.Hour
)

func (c *WebhookConfig) endpoint() endpointConfig {
	return endpointConfig{c.URL, c.InsecureHTTP, c.CAFile, c.CertFile, c.KeyFile, c.Timeout}
}

func (c *WebhookConfig) validate() []error {
	e := c.endpoint()
	errs := e.validate()
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.SecretFile == "" && c.BearerFile == "" && c.PasswordFile == "" && len(c.HeaderFiles) == 0 && c.CertFile == "" {
		bad("secret_file: is missing, and there is no other proof of who sends; write a secret with: printf 'whsec_%%s\\n' \"$(openssl rand -base64 32)\" > FILE")
	}
	if c.HubSignature && c.SecretFile == "" {
		bad("hub_signature: needs secret_file")
	}
	if (c.User == "") != (c.PasswordFile == "") {
		bad("user: Basic needs user and password_file")
	}
	if c.BearerFile != "" && c.PasswordFile != "" {
		bad("bearer_file: there is password_file too; a request has one Authorization")
	}
	for _, name := range sortedKeys(c.HeaderFiles) {
		if !headerName(name) || reservedHeader(name) {
			bad("header_files: %q cannot be set", name)
		}
		if c.HeaderFiles[name] == "" {
			bad("header_files.%s: names no file", name)
		}
	}
	if t := time.Duration(c.Heartbeat); t != 0 && (t < minHeartbeat || t > maxHeartbeat) {
		bad("heartbeat: %s is not within %s to %s", t, minHeartbeat, maxHeartbeat)
	}
	return errs
}

// headerName reports whether a header can be called so: letters, digits, - and _.
func headerName(s string) bool { return s != "" && strings.Trim(s, wordRunes) == "" }

func reservedHeader(name string) bool {
	switch strings.ToLower(name) {
	case "authorization", "host", "content-length", "content-type", "user-agent", "connection", "transfer-encoding", "x-hub-signature-256":
		return true
	}
	return strings.HasPrefix(strings.ToLower(name), "webhook-")
}

// webhook is the sink. Nothing of it changes: Send and beat may go on at once.
type webhook struct {
	every    time.Duration // between heartbeats; 0 none
	cfg      WebhookConfig
	call     *caller
	write    writer
	template *bodyTemplate // nil for none
}

func newWebhook(c WebhookConfig, w writer, o SinkOptions) (*webhook, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open webhook: %w", err)
	}
	call, err := newCaller(c.endpoint(), o)
	if err != nil {
		return nil, fmt.Errorf("open webhook: %w", err)
	}
	h := &webhook{every: time.Duration(c.Heartbeat), cfg: c, call: call, write: w}
	if c.TemplateFile != "" {
		if h.template, err = readTemplate(c.TemplateFile); err != nil {
			return nil, fmt.Errorf("open webhook: %w", err)
		}
	}
	if _, err := h.header("test", nil); err != nil { // every secret can be read
		return nil, fmt.Errorf("open webhook: %w", err)
	}
	return h, nil
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
		if err := h.alert(ctx, &batch[i]); err != nil {
			return fmt.Errorf("post alert to %s: %w", h.call.host(), err)
		}
	}
	return nil
}

// payload is the body for a: a function of the alert alone.
func payload(a *pipeline.Alert) []byte { return enveloped(a, "alert."+a.Change.Kind) }

func enveloped(a *pipeline.Alert, what string) []byte {
	at, err := max(a.Window.Last, a.Window.DetectedAt).MarshalText()
	if err != nil {
		at = nil
	}
	kind, err := json.Marshal(what)
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

// body is what is posted: the envelope of Standard Webhooks around a native alert;
// other formats stand alone, as their readers want them.
func (h *webhook) body(a *pipeline.Alert) ([]byte, error) {
	switch {
	case h.template != nil:
		return h.template.body(a)
	case h.write.format == FormatNative:
		return payload(a), nil
	}
	return h.write.append(nil, a), nil
}

// alert makes one attempt to deliver a.
func (h *webhook) alert(ctx context.Context, a *pipeline.Alert) error {
	body, err := h.body(a)
	if err != nil {
		return err
	}
	return h.post(ctx, revisionOf(a), h.contentType(), body)
}

// contentType is that of an alert by itself.
func (h *webhook) contentType() string {
	if h.template == nil && h.write.format == FormatCEF {
		return "text/plain; charset=utf-8"
	}
	return "application/json"
}

// beat posts one heartbeat: data is a JSON object. It is not tried again, the next
// one says more.
func (h *webhook) beat(ctx context.Context, data []byte) error {
	now := time.Now().UTC()
	body := fmt.Appendf(nil, `{"type":"weir.heartbeat","timestamp":%q,"data":%s}`, now.Format(time.RFC3339Nano), data)
	if err := h.post(ctx, "heartbeat."+strconv.FormatInt(now.UnixNano(), 10), "application/json", body); err != nil {
		return fmt.Errorf("post heartbeat to %s: %w", h.call.host(), err)
	}
	return nil
}

// post makes one attempt to deliver body under an id.
func (h *webhook) post(ctx context.Context, id, kind string, body []byte) error {
	header, err := h.header(id, body)
	if err != nil {
		return err
	}
	header.Set("Content-Type", kind)
	ans, err := h.call.post(ctx, h.call.url.String(), header, body, answerRest)
	if err != nil {
		return err
	}
	return ans.verdict()
}

// header reads the secrets anew: another in the file is how one is rotated.
func (h *webhook) header(id string, body []byte) (http.Header, error) {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	out := http.Header{}
	out.Set("webhook-id", id)
	out.Set("webhook-timestamp", now)
	if h.cfg.SecretFile != "" {
		secrets, err := readSecrets(h.cfg.SecretFile)
		if err != nil {
			return nil, ownFault{err}
		}
		out.Set("webhook-signature", sign(secrets, id, now, body))
		if h.cfg.HubSignature {
			m := hmac.New(sha256.New, secrets[0])
			m.Write(body)
			out.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(m.Sum(nil)))
		}
	}
	if h.cfg.BearerFile != "" {
		s, err := readSecret(h.cfg.BearerFile)
		if err != nil {
			return nil, err
		}
		out.Set("Authorization", "Bearer "+s)
	}
	if h.cfg.PasswordFile != "" {
		s, err := readSecret(h.cfg.PasswordFile)
		if err != nil {
			return nil, err
		}
		out.Set("Authorization", basic(h.cfg.User, s))
	}
	for _, name := range sortedKeys(h.cfg.HeaderFiles) {
		s, err := readSecret(h.cfg.HeaderFiles[name])
		if err != nil {
			return nil, err
		}
		out.Set(name, s)
	}
	return out, nil
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// sign returns a signature by each secret.
func sign(secrets [][]byte, id, at string, body []byte) string {
	var b strings.Builder
	for i, s := range secrets {
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
