package alerts

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathbig "math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/alerts/schemas"
	"weir/pipeline"
)

// asked is a server that remembers what it was asked, and answers 200.
type asked struct {
	*httptest.Server
	header http.Header
	body   []byte
}

func newAsked(t *testing.T) *asked {
	t.Helper()
	a := &asked{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		a.header = r.Header.Clone()
		a.body, _ = io.ReadAll(r.Body)
	}))
	t.Cleanup(a.Close)
	return a
}

func sendOne(t *testing.T, c SinkConfig, a *pipeline.Alert) error {
	t.Helper()
	s, err := OpenSink(c, SinkOptions{Version: "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	return s.Send(t.Context(), []pipeline.Alert{*a})
}

func TestWebhookAuthorization(t *testing.T) {
	srv := newAsked(t)
	secret := secretFile(t, "hunter2\n")
	a := last(t, stories()["stuffing"])
	f := func(change func(*WebhookConfig), name, want string) {
		t.Helper()
		c := WebhookConfig{URL: URL(srv.URL)}
		change(&c)
		if err := sendOne(t, SinkConfig{Webhook: &c}, a); err != nil {
			t.Fatal(err)
		}
		if got := srv.header.Get(name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
		if srv.header.Get("webhook-signature") != "" {
			t.Error("a signature by no secret")
		}
	}
	f(func(c *WebhookConfig) { c.BearerFile = secret }, "Authorization", "Bearer hunter2")
	f(func(c *WebhookConfig) { c.User, c.PasswordFile = "weir", secret }, "Authorization", "Basic d2VpcjpodW50ZXIy")
	f(func(c *WebhookConfig) { c.HeaderFiles = map[string]string{"DD-API-KEY": secret} }, "DD-API-KEY", "hunter2")
	// A secret is read for each attempt.
	s, err := OpenSink(SinkConfig{Webhook: &WebhookConfig{URL: URL(srv.URL), BearerFile: secret}}, SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("hunter3"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), []pipeline.Alert{*a}); err != nil || srv.header.Get("Authorization") != "Bearer hunter3" {
		t.Errorf("%v, %s", err, srv.header.Get("Authorization"))
	}
	// One that is gone is trouble of the sink, not of the alert.
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), []pipeline.Alert{*a}); !errors.Is(err, ErrRefused) {
		t.Errorf("without its secret: %v", err)
	}
}

// clientCertificate writes a self-signed certificate and its key.
func clientCertificate(t *testing.T) (certFile, keyFile string, cert *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: mathbig.NewInt(1), Subject: pkix.Name{CommonName: "weir"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	certFile = secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	keyFile = secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})))
	return certFile, keyFile, cert
}

func TestClientCertificate(t *testing.T) {
	certFile, keyFile, cert := clientCertificate(t)
	var who string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		who = r.TLS.PeerCertificates[0].Subject.CommonName
	}))
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	defer srv.Close()
	ca := secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	c := WebhookConfig{URL: URL(srv.URL), CAFile: ca, CertFile: certFile, KeyFile: keyFile}
	if err := sendOne(t, SinkConfig{Webhook: &c}, last(t, stories()["stuffing"])); err != nil || who != "weir" {
		t.Errorf("%v, the server saw %q", err, who)
	}
}

func TestWebhookFormats(t *testing.T) {
	srv := newAsked(t)
	secret := secretFile(t, oldSecret)
	a := last(t, stories()["stuffing"])
	f := func(format Format, version, contentType string, want []byte) {
		t.Helper()
		c := SinkConfig{Format: format, OCSFVersion: version, Webhook: &WebhookConfig{URL: URL(srv.URL), SecretFile: secret}}
		if err := sendOne(t, c, a); err != nil {
			t.Fatal(err)
		}
		if srv.header.Get("Content-Type") != contentType || !bytes.Equal(srv.body, want) {
			t.Errorf("%s: %s %s", format, srv.header.Get("Content-Type"), srv.body)
		}
	}
	f("", "", "application/json", payload(a))
	f(FormatNative, "", "application/json", payload(a))
	f(FormatOCSF, "", "application/json", AppendOCSF(nil, a, "1.8.0"))
	f(FormatOCSF, "1.1.0", "application/json", AppendOCSF(nil, a, "1.1.0"))
	f(FormatECS, "", "application/json", AppendECS(nil, a))
	f(FormatCEF, "", "text/plain; charset=utf-8", AppendCEF(nil, a))
}

func TestTemplate(t *testing.T) {
	a := hostileAlert("\"}],\n{{.id}}")
	f := func(text, want, problem string) {
		t.Helper()
		b, err := readTemplate(secretFile(t, text))
		var got []byte
		if err == nil {
			got, err = b.body(a)
		}
		if string(got) != want || (err != nil) != (problem != "") || err != nil && !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %s, %v; want %s, %s", text, got, err, want, problem)
		}
	}
	f(`{"t": {{json .title}}, "p": {{json (pick .severity "critical" 1 "high" 2 3)}}}`, `{"t": "\"}],\n{{.id}}", "p": 2}`, "")
	f(`{"p": {{json (pick .severity "low" 1 3)}}, "s": {{json (cut 5 .detector)}}}`, `{"p": 3, "s": "au…"}`, "")
	f(`{"s": {{len (format "ocsf") | lt 500}}}`, `{"s": true}`, "")
	f(`{"t": "{{.title}}"}`, "", "no JSON")
	f(`{{json .titel}}`, "", "titel")
	f(`{{`, "", "read template_file")
	f(`{{json (pick .severity "low" 1)}}`, "", "everything else")
	f(`{{format "xml"}}`, "", "none of ocsf")
	f(`"{{range .next}}{{printf "%2000000s" .}}{{end}}"`, "", "too large")
}

// TestTemplatesOfDeploy: those that we ship make what their receivers ask for.
func TestTemplatesOfDeploy(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "deploy", "templates", "*.tmpl"))
	if err != nil || len(files) < 3 {
		t.Fatalf("templates %v: %v", files, err)
	}
	for _, file := range files {
		b, err := readTemplate(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range corpus(t) {
			body, err := b.body(&a)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			name := strings.TrimSuffix(filepath.Base(file), ".tmpl")
			if max := map[string]int{"teams": 28 << 10, "datadog": 1 << 20, "google-secops": 1 << 20}[name]; max == 0 || len(body) > max {
				t.Errorf("%s: %d bytes, at most %d", name, len(body), max)
			}
		}
	}
}

// TestFileMends: half a line of a crash goes, whole ones stay, and a file that
// another rotated is left to him.
func TestFileMends(t *testing.T) {
	a := last(t, stories()["stuffing"])
	line := string(AppendJSON(nil, a)) + "\n"
	f := func(before, want string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "alerts.ndjson")
		if before != "-" {
			if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := sendOne(t, SinkConfig{File: &FileConfig{Path: path}}, a); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%.20q: %v %.60q, want %.60q", before, err, got, want)
		}
	}
	f("-", line)
	f("", line)
	f("{}\n", "{}\n"+line)
	f("{}\n{\"half", "{}\n"+line)
	f("half", line)
	long := strings.Repeat("x", 200<<10)
	f("{}\n"+long, "{}\n"+line)
	f(long, line)

	path := filepath.Join(t.TempDir(), "alerts.ndjson")
	s, err := OpenSink(SinkConfig{File: &FileConfig{Path: path}}, SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Send(t.Context(), []pipeline.Alert{*a}); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path + ".old"); err != nil || string(got) != line {
		t.Errorf("%v %.40q", err, got)
	}
}

// TestSyslogOverUDPAndTLS takes the messages with real sockets.
func TestSyslogOverUDPAndTLS(t *testing.T) {
	a := last(t, stories()["stuffing"])
	check := func(m, format string) {
		t.Helper()
		key, problem := syslogKey(m)
		if problem != "" || key != a.ID+".2" {
			t.Errorf("%s: %s %s: %q", format, key, problem, m)
		}
		_, text, _ := strings.Cut(m, "\xef\xbb\xbf")
		if _, err := schemas.ParseCEF(text); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(m, "<130>1 2026-11-22T12:00:00Z gw1 weir ") { // local0, critical
			t.Errorf("%.60q", m)
		}
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := sendOne(t, SinkConfig{Syslog: &SyslogConfig{Address: "udp://" + u.LocalAddr().String(), Hostname: "gw1"}}, a); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	n, _, err := u.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	check(string(buf[:n]), "udp")

	srv := httptest.NewTLSServer(nil) // for its certificate
	defer srv.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: srv.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		n, _ := c.Read(buf)
		got <- string(buf[:n])
	}()
	ca := secretFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	if err := sendOne(t, SinkConfig{Syslog: &SyslogConfig{Address: "tls://" + l.Addr().String(), Hostname: "gw1", CAFile: ca}}, a); err != nil {
		t.Fatal(err)
	}
	size, m, _ := strings.Cut(<-got, " ")
	if size != fmt.Sprint(len(m)) {
		t.Errorf("counted %s octets of %d", size, len(m))
	}
	check(m, "tls")
}

// TestPagerDutyPagesOnce: all revisions of an incident have one key and its end
// resolves it. That it is still active is news to whom was told nothing: it began in
// history. See TestPeopleAndSIEM for who knows of it.
func TestPagerDutyPagesOnce(t *testing.T) {
	srv := newAsked(t)
	c := SinkConfig{PagerDuty: &PagerDutyConfig{URL: URL(srv.URL), RoutingKeyFile: secretFile(t, "hunter2")}}
	f := func(change func(*pipeline.Alert), action string) {
		t.Helper()
		a := *last(t, stories()["stuffing"])
		change(&a)
		srv.body = nil
		if err := sendOne(t, c, &a); err != nil {
			t.Fatal(err)
		}
		var e struct {
			Action  string `json:"event_action"`
			Dedup   string `json:"dedup_key"`
			Payload map[string]any
		}
		if err := json.Unmarshal(srv.body, &e); err != nil {
			t.Fatal(err)
		}
		if e.Action != action || e.Dedup != a.ID || (e.Payload != nil) != (action == "trigger") {
			t.Errorf("%+v, want %s", e, action)
		}
		if action == "trigger" && (e.Payload["severity"] != "critical" || e.Payload["component"] != "POST /login" || e.Payload["source"] != "203.0.113.7") {
			t.Errorf("%+v", e.Payload)
		}
	}
	f(func(*pipeline.Alert) {}, "trigger")
	f(func(a *pipeline.Alert) { a.Change.Kind = "still_active" }, "trigger")
	f(func(a *pipeline.Alert) { a.Status, a.Change.Kind = "resolved", "resolved" }, "resolve")
}

// TestKafkaKeys: the key is the alert's id, and an error is whose it is.
func TestKafkaKeys(t *testing.T) {
	var keys []string
	var values [][]byte
	var answer error
	s, err := OpenSink(SinkConfig{Kafka: &KafkaConfig{Brokers: []string{"a:9092"}, Topic: "alerts"}}, SinkOptions{
		Kafka: func(c KafkaConfig) (Produce, error) {
			return func(_ context.Context, k []string, v [][]byte) error {
				keys, values = k, v
				return answer
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	a, b := last(t, stories()["stuffing"]), last(t, stories()["crawl"])
	if err := s.Send(t.Context(), []pipeline.Alert{*a, *b}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(keys, []string{a.ID, b.ID}) || string(values[1]) != string(AppendJSON(nil, b)) {
		t.Errorf("%v %q", keys, values)
	}
	answer = fmt.Errorf("too large: %w", pipeline.ErrPermanent)
	if err := s.Send(t.Context(), []pipeline.Alert{*a}); !errors.Is(err, pipeline.ErrPermanent) || !strings.Contains(err.Error(), "topic alerts") {
		t.Error(err)
	}
	if _, err := OpenSink(SinkConfig{Kafka: &KafkaConfig{Brokers: []string{"a:9092"}, Topic: "alerts"}}, SinkOptions{}); err == nil {
		t.Error("it opens without a way to write")
	}
}

// TestSlackText: nothing in an alert mentions anybody or makes a link.
func TestSlackText(t *testing.T) {
	a := hostileAlert("<!channel> <https://evil.example|here> & co")
	body := string(appendObject(nil, slackMessage(a)))
	for _, bad := range []string{"<!channel>", "<https"} {
		var m struct {
			Blocks []struct {
				Type string
				Text struct{ Type, Text string }
			}
		}
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			t.Fatal(err)
		}
		for _, b := range m.Blocks {
			if b.Text.Type == "mrkdwn" && strings.Contains(b.Text.Text, bad) {
				t.Errorf("%s in %s", bad, b.Text.Text)
			}
		}
	}
	if !strings.Contains(body, "&lt;!channel&gt;") {
		t.Error(body)
	}
}

func TestSinkConfigs(t *testing.T) {
	f := func(s SinkConfig, want ...string) {
		t.Helper()
		c := DefaultConfig()
		c.Sinks = map[string]SinkConfig{"a": s}
		var got []string
		for _, err := range c.Validate() {
			got = append(got, strings.TrimPrefix(err.Error(), "alerts.sinks.a"))
		}
		for i, w := range want {
			if i >= len(got) || !strings.HasPrefix(got[i], w) {
				t.Errorf("problem %d: want %q in %q", i, w, got)
				return
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d problems, want %d: %q", len(got), len(want), got)
		}
	}
	hook := &WebhookConfig{URL: "https://h/", SecretFile: "s"}
	f(SinkConfig{Webhook: hook, Format: FormatOCSF, OCSFVersion: "1.5.0", MaxPerMinute: 60})
	f(SinkConfig{Webhook: hook, Format: "leef"}, ".format: ")
	f(SinkConfig{Webhook: hook, OCSFVersion: "1.5.0"}, ".ocsf_version: is for format: ocsf")
	f(SinkConfig{Webhook: hook, Format: FormatOCSF, OCSFVersion: "2"}, ".ocsf_version: ")
	f(SinkConfig{Webhook: hook, Batch: 5, MaxPerMinute: -1}, ".batch: webhook takes one", ".max_per_minute: ")
	f(SinkConfig{Webhook: &WebhookConfig{
		URL: "https://h/", BearerFile: "a", User: "u", PasswordFile: "p", HubSignature: true, CertFile: "c",
		HeaderFiles: map[string]string{"Host": "x", "a b": "y", "X-Ok": ""},
	}},
		".webhook.cert_file", ".webhook.hub_signature", ".webhook.bearer_file", ".webhook.header_files: \"Host\"", ".webhook.header_files.X-Ok", ".webhook.header_files: \"a b\"")
	f(SinkConfig{Splunk: &SplunkConfig{}}, ".splunk.url: is missing", ".splunk.token_file")
	f(SinkConfig{Elasticsearch: &ElasticsearchConfig{URL: "https://h", DataStream: "Logs", APIKeyFile: "k", User: "u"}},
		".elasticsearch.data_stream", ".elasticsearch.api_key_file", ".elasticsearch.user")
	f(SinkConfig{Sentinel: &SentinelConfig{URL: "https://h", Authority: "ftp://x", Rule: "a/b"}}, ".sentinel.authority: scheme",
		".sentinel.rule", ".sentinel.stream", ".sentinel.tenant_id", ".sentinel.client_id", ".sentinel.client_secret_file")
	f(SinkConfig{Syslog: &SyslogConfig{Address: "siem:514", Facility: "loud", Hostname: "a b"}}, ".syslog.address", ".syslog.facility", ".syslog.hostname")
	f(SinkConfig{Syslog: &SyslogConfig{Address: "tcp://siem"}}, ".syslog.address: has no port")
	f(SinkConfig{Syslog: &SyslogConfig{Address: "udp://siem:514", CAFile: "x"}}, ".syslog.address: certificates")
	f(SinkConfig{Syslog: &SyslogConfig{Address: "tls://siem:6514"}, Format: FormatNative, Batch: 10})
	f(SinkConfig{File: &FileConfig{MaxBytes: 5, MaxAge: 1, Keep: -1}}, ".file.path", ".file.max_bytes", ".file.max_age", ".file.keep")
	f(SinkConfig{PagerDuty: &PagerDutyConfig{}, Format: FormatECS}, ".format: pagerduty has a form", ".pagerduty.routing_key_file")
	f(SinkConfig{Slack: &SlackConfig{}}, ".slack.url_file")
	f(SinkConfig{Kafka: &KafkaConfig{Brokers: []string{"a:9092"}, Topic: "alerts", TLS: &KafkaTLS{}, SASL: &KafkaAccount{"plain", "u", "p"}}, Format: FormatECS})
	f(SinkConfig{Kafka: &KafkaConfig{Brokers: []string{"a"}, TLS: &KafkaTLS{CertFile: "c"}, SASL: &KafkaAccount{Mechanism: "md5"}}},
		".kafka.brokers[0]", ".kafka.topic", ".kafka.tls", ".kafka.sasl.mechanism", ".kafka.sasl.user")
	f(SinkConfig{Kafka: &KafkaConfig{Topic: "t", SASL: &KafkaAccount{"plain", "u", "p"}}}, ".kafka.brokers: is missing", ".kafka.sasl.mechanism: plain shows")
	f(SinkConfig{Slack: &SlackConfig{URLFile: "x"}, File: &FileConfig{Path: "y"}}, ": has 2 kinds")
}
