package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

func TestConfigProblemsHavePlaces(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		_, err := parseConfig([]byte(text))
		if err == nil {
			t.Fatalf("%q is accepted", text)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: no %q in: %v", text, w, err)
			}
		}
	}
	f("collekt: []\nlog: {level: loud}", "collekt: no such key (line 1)", "log.level")
	f("collect: [{file: a, push: {}}, {push: {listen: '0.0.0.0:99999', tsl: {}}}, {push: {listen: '0.0.0.0:1', max_body: 20%}}, {push: {listen: '[::]:1', tls: {cert_file: a}}}, {push: {}}, {push: {}}]",
		"collect[0].file", "collect[1].push.tsl: no such key", "collect[1].push.listen", "collect[2].push.listen: \"0.0.0.0:1\" is open to others: give tokens_file",
		"give tls, or insecure_http", "collect[2].push.max_body", "collect[3].push.listen", "collect[3].push.tls.key_file", "collect[5]: push:127.0.0.1:7381 is a source already")
	f("collect: [{syslog: {listen: '0.0.0.0:514'}}, {syslog: {listen: 'tls://127.0.0.1:1', allow: [x]}, push: {}}, {syslog: {listen: 'udp://0.0.0.0:514', tls: {}}}]",
		"collect[0].syslog.listen: \"0.0.0.0:514\": want udp://", "is open to others: name who", "collect[1].syslog.tls", "collect[1].syslog.allow: \"x\"", "collect[1].file",
		"collect[2].syslog.tls: it is for tls:// only", "collect[2].syslog.listen")
	f("collect: [{otlp: {listen: '0.0.0.0:4318'}}, {otlp: {}}, {otlp: {}}]", "collect[0].otlp.listen: \"0.0.0.0:4318\" is open to others", "collect[2]: otlp:127.0.0.1:4318 is a source already")
	f("collect: [{kafka: {}}, {kafka: {brokers: [a, ':9', 'b:x'], topic: t, start: now, tls: {cert_file: a}, sasl: {mechanism: md5}}}, {kafka: {brokers: ['a:1'], topic: t, sasl: {mechanism: plain, user: u, password_file: p}}, file: a}]",
		"collect[0].kafka.brokers: it is empty", "collect[0].kafka.topic", "collect[1].kafka.brokers[0]: \"a\" is not HOST:PORT", "collect[1].kafka.brokers[1]", "collect[1].kafka.brokers[2]: the port \"x\"",
		"collect[1].kafka.start", "collect[1].kafka.tls", "collect[1].kafka.sasl.mechanism: \"md5\"", "collect[1].kafka.sasl.user", "collect[1].kafka.sasl.password_file",
		"collect[2].kafka.sasl.mechanism: plain shows", "collect[2].file")
	f("bus: {brokers: [a], prefix: 'a b', partitions: 0, replication: 2, min_isr: 2, retention: 1m, session_timeout: 1ms, instance: a/b, silence: 1s, sasl: {mechanism: oauthbearer, user: u}}",
		"bus.brokers[0]: \"a\" is not HOST:PORT", "bus.prefix", "bus.partitions: 0", "bus.min_isr: 2 of 2 copies", "bus.retention", "bus.session_timeout", "bus.instance", "bus.silence",
		"bus.sasl.token_file", "bus.sasl.mechanism: oauthbearer takes token_file", "bus.sasl.mechanism: oauthbearer shows the token")
	f("bus: {tls: {}, partitions: 300, replication: 0, topic: t}", "bus.topic: no such key", "bus.brokers: it is empty", "bus.partitions: 300", "bus.replication", "bus.min_isr: 2: want 1 to replication, which is 0")
	f("bus: {brokers: ['a:1'], sasl: {mechanism: plain, user: u, password_file: p, token_file: t}}", "bus.sasl.token_file: it is for oauthbearer", "bus.sasl.mechanism: plain shows")
	f("collect: [{file: a, lateness: 2h, sample_rate: 1.5, dedupe: content}]", "collect[0].lateness", "collect[0].sample_rate", "collect[0].dedupe", "collect: dedupe is on 1 sources")
	f("collect: [{file: a}, {fil: b}]", "collect[1].fil: no such key", "collect[1].file")
	f("detect: {probe.pat: {mode: on}, probe.path: {mode: maybe}}", "detect.probe.pat: no such detector", "detect.probe.path.mode")
	f("alerts: {sinks: {a: {webhook: {url: 'https://x.example', secre: 1}}}}", "alerts.sinks.a.webhook.secre: no such key")
	f("store: {max_bytes: 200%}", "max_bytes")
	f("privacy: {key_file: ${WEIR_TEST_NOT_SET}}", "line 1: environment variable WEIR_TEST_NOT_SET is not set")
}

// FuzzConfig: no text makes the loader panic, and what it accepts can be
// written and read again.
func FuzzConfig(f *testing.F) {
	examples, err := filepath.Glob(filepath.Join(repositoryRoot(f), "deploy/examples/*.yaml"))
	if err != nil || len(examples) == 0 {
		f.Fatalf("no examples found: %v", err)
	}
	for _, e := range examples {
		text, err := os.ReadFile(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("collect: [{file: a, format: json, fields: {path: p}}]\nidentity: {trusted_proxies: [10.0.0.0/8]}\ndetect: {scrape.crawl: {mode: shadow}}")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfig([]byte(text))
		if err != nil {
			return
		}
		out, err := yaml.Dump(c)
		if err != nil {
			t.Fatalf("write what was read: %v", err)
		}
		if _, err := parseConfig(out); err != nil && !strings.Contains(err.Error(), "environment variable") {
			t.Fatalf("read what was written: %v\n%s", err, out)
		}
	})
}
