package alerts

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/zap"

	"weir/pipeline"
)

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func secretFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openHook(t *testing.T, url string, change func(*WebhookConfig)) Sink {
	t.Helper()
	c := WebhookConfig{URL: URL(url), SecretFile: secretFile(t, "# two while rotating\n"+newSecret+"\r\n\n"+oldSecret+"\n")}
	if change != nil {
		change(&c)
	}
	s, err := OpenSink(SinkConfig{Webhook: &c}, SinkOptions{Version: "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWebhookVerifiesByTheReference(t *testing.T) {
	var header http.Header
	var body []byte
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer srv.Close()
	ca := secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	a := last(t, stories()["stuffing"])
	s := openHook(t, srv.URL+"/hook", func(c *WebhookConfig) { c.CAFile, c.HubSignature = ca, true })
	if err := s.Send(t.Context(), []pipeline.Alert{*a}); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{oldSecret, newSecret} {
		wh, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		if err := wh.Verify(body, header); err != nil {
			t.Errorf("the reference library refuses us: %v", err)
		}
		if err := wh.Verify(append(body, ' '), header); err == nil {
			t.Error("the reference library takes anything")
		}
	}
	if id := header.Get("webhook-id"); id != a.ID+".2" {
		t.Errorf("webhook-id %s", id)
	}
	key, err := readSecrets(secretFile(t, newSecret))
	if err != nil {
		t.Fatal(err)
	}
	m := hmac.New(sha256.New, key[0])
	m.Write(body)
	if got, want := header.Get("X-Hub-Signature-256"), "sha256="+hex.EncodeToString(m.Sum(nil)); got != want {
		t.Errorf("X-Hub-Signature-256 %s, want %s", got, want)
	}
	var got struct {
		Type      string
		Timestamp time.Time
		Data      json.RawMessage
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if got.Type != "alert.succeeded" || !got.Timestamp.Equal(noon.Std()) || string(got.Data) != string(AppendJSON(nil, a)) {
		t.Errorf("%s %s %s", got.Type, got.Timestamp, got.Data)
	}
	// Without its certificate the server is not trusted.
	if err := openHook(t, srv.URL, nil).Send(t.Context(), []pipeline.Alert{*a}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
}

func TestSecretFile(t *testing.T) {
	f := func(content, want string) {
		t.Helper()
		_, err := readSecrets(secretFile(t, content))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", content, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "MfKQ9r8") {
			t.Errorf("the secret is in the error: %v", err)
		}
	}
	f("", "0 secrets")
	f("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "line 1 does not begin with whsec_")
	f("\nwhsec_MfKQ9r8*", "line 2 is not whsec_ and base64")
	f("whsec_MfKQ9r8G", "want 24 to 64")
	f(strings.Repeat(oldSecret+"\n", 9), "9 secrets")
	f(strings.Repeat("#", maxSecretFile+1), "over")
}

// everySink makes one sink of every kind in the catalog that speaks HTTP, for a
// server at url; hunter2 and hunter3 are its secrets.
func everySink(t *testing.T, address string) map[string]Sink {
	t.Helper()
	secret := secretFile(t, "hunter2\n")
	open := func(c SinkConfig) Sink {
		s, err := OpenSink(c, SinkOptions{Version: "1.0"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	u := URL(address)
	sinks := map[string]Sink{
		"webhook":       openHook(t, address+"/T00/hunter2?token=hunter3", nil),
		"splunk":        open(SinkConfig{Splunk: &SplunkConfig{URL: u, TokenFile: secret}}),
		"elasticsearch": open(SinkConfig{Elasticsearch: &ElasticsearchConfig{URL: u, User: "weir", PasswordFile: secret}}),
		"sentinel": open(SinkConfig{Sentinel: &SentinelConfig{
			URL: u, Authority: u, Rule: "dcr-1", Stream: "Custom-Weir_CL", TenantID: "t", ClientID: "c", ClientSecretFile: secret,
		}}),
		"pagerduty": open(SinkConfig{PagerDuty: &PagerDutyConfig{URL: u, RoutingKeyFile: secret}}),
		"slack":     open(SinkConfig{Slack: &SlackConfig{URLFile: secretFile(t, address+"/services/T00/hunter2?token=hunter3")}}),
		"slack bot": open(SinkConfig{Slack: &SlackConfig{TokenFile: secret, Channel: "C1", URL: u}}),
	}
	for _, k := range catalog() {
		if sinks[k.name] == nil && !slices.Contains([]string{"syslog", "file", "kafka"}, k.name) {
			t.Fatalf("sink %s has no case here", k.name)
		}
	}
	return sinks
}

// leaks fails when err shows a secret.
func leaks(t *testing.T, err error) {
	t.Helper()
	for _, s := range []string{"hunter2", "hunter3", "token", "MfKQ9r8", "C2FVsBQ", "v1,"} {
		if err != nil && strings.Contains(err.Error(), s) {
			t.Errorf("%q is in the error: %v", s, err)
		}
	}
}

func TestRetryTable(t *testing.T) {
	status, after := 0, ""
	hits := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token") {
			_, _ = io.WriteString(w, `{"access_token":"hunter3","expires_in":3599}`)
			return
		}
		hits++
		if r.URL.Path == "/_bulk" && status == http.StatusOK {
			_, _ = io.WriteString(w, `{"errors":false,"items":[{"create":{"status":201}}]}`)
			return
		}
		if r.URL.Path == "/chat.postMessage" && status == http.StatusOK {
			_, _ = io.WriteString(w, `{"ok":true,"ts":"1.2"}`)
			return
		}
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.Header().Set("Location", "/elsewhere?token=hunter3")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, r.URL.String()+r.Header.Get("webhook-signature")) // a server that repeats what it got
	}))
	defer srv.Close()
	for name, s := range everySink(t, srv.URL) {
		f := func(code int, retryAfter string, want string, wait time.Duration) {
			t.Helper()
			status, after, hits = code, retryAfter, 0
			err := s.Send(t.Context(), []pipeline.Alert{*last(t, stories()["idwalk"])})
			got := "retry"
			switch {
			case err == nil:
				got = "ok"
			case errors.Is(err, ErrGone):
				got = "gone"
			case errors.Is(err, pipeline.ErrPermanent):
				got = "permanent"
			case errors.Is(err, ErrRefused):
				got = "refused"
			}
			var ra *RetryAfter
			if errors.As(err, &ra) != (wait > 0) || wait > 0 && (ra.Wait > wait || ra.Wait < wait-2*time.Second) {
				t.Errorf("%s: %d with Retry-After %q: %v, want %s", name, code, retryAfter, err, wait)
			}
			if got != want || hits != 1 {
				t.Errorf("%s: %d: %s after %d requests (%v), want %s after 1", name, code, got, hits, err, want)
			}
			leaks(t, err)
		}
		f(200, "", "ok", 0)
		for _, code := range []int{201, 202, 204} {
			if name != "elasticsearch" && name != "slack bot" { // they say what became of it
				f(code, "", "ok", 0)
			}
		}
		for _, code := range []int{408, 425, 429, 500, 502, 503, 504} {
			f(code, "", "retry", 0)
			f(code, "120", "retry", 2*time.Minute)
		}
		f(503, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), "retry", time.Hour)
		f(503, "99999999999", "retry", maxRetryAfter)
		f(503, "soon", "retry", 0)
		for _, code := range []int{301, 302, 307, 308, 401, 403, 404} {
			f(code, "", "refused", 0)
		}
		for _, code := range []int{400, 405, 413, 422} {
			f(code, "60", "permanent", 0)
		}
		f(410, "", "gone", 0)
	}
}

func TestNoSecretInErrors(t *testing.T) {
	// Nobody listens.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	alert := []pipeline.Alert{*last(t, stories()["idwalk"])}
	f := func(url string, ctx context.Context) {
		t.Helper()
		for name, s := range everySink(t, url) {
			err := s.Send(ctx, alert)
			if err == nil || errors.Is(err, pipeline.ErrPermanent) {
				t.Errorf("%s: %v, want an error that a retry may help", name, err)
			}
			leaks(t, err)
			if again := s.Send(ctx, alert); again == nil || again.Error() != err.Error() {
				t.Errorf("%s: the same trouble reads differently: %v, %v", name, err, again)
			}
		}
	}
	f("http://"+addr, t.Context())
	// The connection breaks off.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			c.Close()
		}
	}))
	defer srv.Close()
	f(srv.URL, t.Context())
	// The server never answers.
	hang := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer slow.Close()
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f(slow.URL, ctx)
}

// TestWebhookHeartbeat: it comes at once and again, signed like an alert, and a
// refusal stops neither the next nor the alerts.
func TestWebhookHeartbeat(t *testing.T) {
	wh, err := standardwebhooks.NewWebhook(newSecret)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 16)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := wh.Verify(body, r.Header); err != nil {
			t.Errorf("the reference library refuses us: %v", err)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		got <- r.Header.Get("webhook-id") + " " + string(body)
	}))
	defer srv.Close()
	hook := openHook(t, srv.URL, func(c *WebhookConfig) { c.Heartbeat = Duration(minHeartbeat) }).(*webhook)
	if hook.every != minHeartbeat {
		t.Fatalf("every %s", hook.every)
	}
	hook.every = 20 * time.Millisecond
	n := 0
	b := &heartbeat{hook: hook, log: zap.NewNop(), data: func() []byte { n++; return fmt.Appendf(nil, `{"n":%d}`, n) }}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go b.run(ctx)
	seen := map[string]bool{}
	for i := 1; i <= 3; i++ {
		id, body, _ := strings.Cut(<-got, " ")
		var v struct {
			Type      string
			Timestamp time.Time
			Data      struct{ N int }
		}
		if err := json.Unmarshal([]byte(body), &v); err != nil || v.Type != "weir.heartbeat" || v.Data.N != i || v.Timestamp.IsZero() {
			t.Errorf("heartbeat %d: %s: %v", i, body, err)
		}
		if seen[id] {
			t.Errorf("the id %s is used twice", id)
		}
		seen[id] = true
	}
}
