package alerts

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

func TestConfig(t *testing.T) {
	cfg := DefaultConfig()
	err := yaml.Load([]byte(`
sinks: {siem: {webhook: {url: "https://siem.example.com/hook?token=x", secret_file: /etc/weir/siem.key, timeout: 20s}}}
routes: [{match: {severity: [high, critical], labels: {env: prod}}, to: [siem], group_wait: 30s, send_resolved: true}]
`), &cfg, yaml.WithKnownFields())
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Err(); err != nil {
		t.Error(err)
	}
	if r := cfg.Routes[0]; time.Duration(r.GroupWait) != 30*time.Second || !*r.SendResolved || cfg.MaxOpen != 100_000 {
		t.Errorf("%+v", r)
	}
	if s := fmt.Sprintf("%v %+v %#v", cfg.Sinks["siem"].Webhook.URL, *cfg.Sinks["siem"].Webhook, *cfg.Sinks["siem"].Webhook); strings.Contains(s, "token") {
		t.Errorf("the url is printed: %s", s)
	}
	if err := yaml.Load([]byte(`sinks: {siem: {webhook: {uri: x}}}`), &cfg, yaml.WithKnownFields()); err == nil {
		t.Error("an unknown key is no error")
	}
}

func TestValidateTellsAll(t *testing.T) {
	f := func(c Config, want ...string) {
		t.Helper()
		got := []string{}
		for _, err := range c.Validate() {
			got = append(got, err.Error())
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
	hook := func(url string) SinkConfig {
		return SinkConfig{Webhook: &WebhookConfig{URL: URL(url), SecretFile: "x"}}
	}
	with := func(s SinkConfig) Config {
		c := DefaultConfig()
		c.Sinks = map[string]SinkConfig{"a": s}
		return c
	}
	f(DefaultConfig())
	f(with(hook("https://h/x")))
	f(with(hook("http://127.0.0.1:9/x")))
	f(with(hook("http://[::1]:9/x")))
	f(with(hook("http://localhost/x")))
	f(with(hook("http://10.0.0.1/x")), "alerts.sinks.a.webhook.url: http to another host")
	f(with(SinkConfig{Webhook: &WebhookConfig{URL: "http://10.0.0.1/x", SecretFile: "x", InsecureHTTP: true}}))
	f(with(hook("https://user:pass@h/x")), "alerts.sinks.a.webhook.url: holds a user")
	f(with(hook("ftp://h/x")), "alerts.sinks.a.webhook.url: scheme")
	f(with(hook("https://")), "alerts.sinks.a.webhook.url: is no address")
	f(with(hook("https://:443/x")), "alerts.sinks.a.webhook.url: is no address")
	f(with(hook("")), "alerts.sinks.a.webhook.url: is missing")
	f(with(SinkConfig{}), "alerts.sinks.a: has 0 kinds")
	f(with(SinkConfig{Webhook: &WebhookConfig{URL: "https://h/x", Timeout: Duration(time.Hour)}}),
		"alerts.sinks.a.webhook.timeout", "alerts.sinks.a.webhook.secret_file: is missing")
	f(Config{Routes: []Route{{Match: Match{Severity: []string{"urgent"}, Detector: []string{""}}, To: []string{"nobody"}}, {
		Match:     Match{Change: []string{"grown"}, Tier: []string{"pages"}, Level: []string{"user"}, Endpoint: []string{"login", "GET /a[", "POST /login"}},
		GroupWait: Duration(2 * time.Hour),
	}}},
		"alerts.max_open", "alerts.max_resolved", "alerts.routes[0].match.severity", "alerts.routes[0].match.detector",
		`alerts.routes[0].to: no sink is named "nobody"`,
		"alerts.routes[1].match.change", "alerts.routes[1].match.tier", "alerts.routes[1].match.level", `alerts.routes[1].match.endpoint: "login"`,
		`alerts.routes[1].match.endpoint: "GET /a["`, "alerts.routes[1].group_wait: 2h0m0s is longer than 1h0m0s", "alerts.routes[1].to: names no sink")
	bad := DefaultConfig()
	bad.Sinks = map[string]SinkConfig{
		"a": {Webhook: &WebhookConfig{URL: "https://h/x", SecretFile: "x", TemplateFile: "t"}, Identity: "plain"},
		"b": {Slack: &SlackConfig{TokenFile: "t"}}, "c": {Slack: &SlackConfig{URLFile: "t", Channel: "C1"}}, "d": {Slack: &SlackConfig{URLFile: "t", TokenFile: "t"}},
	}
	bad.Routes = []Route{{To: []string{"a"}, GroupBy: []string{"detector", "label.team", "label.", "client"}, Repeat: Duration(time.Minute)}}
	f(bad, "alerts.sinks.a.identity: ", "alerts.sinks.b.slack.channel: is missing", "alerts.sinks.c.slack.channel: and url", "alerts.sinks.d.slack.url_file: there is",
		`alerts.routes[0].group_by: "label."`, `alerts.routes[0].group_by: "client"`, "alerts.routes[0].repeat: 1m0s", `alerts.routes[0].group_by: sink "a" writes a template`)
	bad = DefaultConfig()
	bad.Sinks = map[string]SinkConfig{"a b": hook("https://h/x")}
	f(bad, `alerts.sinks: name "a b"`)
}

func TestDuration(t *testing.T) {
	f := func(in string, want time.Duration) {
		t.Helper()
		var d Duration
		err := d.UnmarshalText([]byte(in))
		if (err != nil) != (want < 0) || err == nil && time.Duration(d) != want {
			t.Errorf("%q: %v, %v, want %v", in, time.Duration(d), err, want)
		}
	}
	f("90s", 90*time.Second)
	f("7d", 7*24*time.Hour)
	f("1h30m", 90*time.Minute)
	for _, bad := range []string{"", "7", "-1s", "-1d", "d", "99999999d", "1w"} {
		f(bad, -1)
	}
}
