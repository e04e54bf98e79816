package main

import (
	"bytes"
	"encoding"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v4"

	"weir/alerts"
	"weir/console"
	"weir/detectors"
	"weir/pipeline"
	"weir/pipeline/kafka"
)

// keysOf calls add for every key of a section's type.
func keysOf(typ reflect.Type, at string, add func(string)) {
	text := reflect.TypeFor[encoding.TextUnmarshaler]()
	switch {
	case typ.Implements(text) || reflect.PointerTo(typ).Implements(text):
		add(at)
	case typ.Kind() == reflect.Pointer:
		keysOf(typ.Elem(), at, add)
	case typ.Kind() == reflect.Struct:
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name == "-" {
				continue
			}
			keysOf(f.Type, strings.TrimPrefix(at+"."+name, "."), add)
		}
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
		add(at)
		keysOf(typ.Elem(), at+"[]", add)
	case typ.Kind() == reflect.Map && typ.Elem().Kind() == reflect.Struct:
		add(at)
		keysOf(typ.Elem(), at+".NAME", add)
	default:
		add(at)
	}
}

// leavesOf calls add for every key that weir check --print-defaults shows.
func leavesOf(v any, at string, add func(string)) {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 {
		add(at)
		return
	}
	for k, v := range m {
		leavesOf(v, strings.TrimPrefix(at+"."+k, "."), add)
	}
}

// TestGuideNamesEveryKey: the reference has each key of the configuration and
// none besides, and its defaults are the defaults.
func TestGuideNamesEveryKey(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (?:`([^`]*)` )?\\| \\S")
	defaults := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(sectionOf(t, readPage(t, "docs/guide.md"), "Configuration reference"), -1) {
		defaults[m[1]] = m[2]
	}
	known := map[string]bool{}
	keysOf(reflect.TypeFor[config](), "", func(key string) {
		known[key] = true
		if _, ok := defaults[key]; !ok {
			t.Errorf("the reference does not name %s", key)
		}
	})
	if len(known) < 40 {
		t.Fatalf("the configuration has %d keys", len(known))
	}
	for key, value := range defaults {
		if !known[key] {
			t.Errorf("the reference names %s, which is no key", key)
		}
		if value == "" {
			continue
		}
		parts := strings.Split(key, ".")
		text := strings.Join(parts, ": {") + ": " + value + strings.Repeat("}", len(parts)-1)
		got, err := parseConfig([]byte(text))
		if err != nil {
			t.Errorf("the reference gives %s the default %s: %v", key, value, err)
		} else if d := cmp.Diff(defaultConfig(), got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("the reference gives %s the default %s: %s", key, value, d)
		}
	}
	out, err := yaml.Dump(defaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := yaml.Load(out, &tree); err != nil {
		t.Fatal(err)
	}
	leaves := 0
	leavesOf(tree, "", func(key string) {
		leaves++
		if defaults[key] == "" {
			t.Errorf("the reference gives no default for %s", key)
		}
	})
	if leaves < 10 {
		t.Errorf("there are %d defaults", leaves)
	}
}

// metricNames are the names of all metrics that weir registers.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	m := newMetrics(&service{})
	if _, err := alerts.NewDeliverer(alerts.DelivererOptions{
		Sinks: map[string]alerts.Sink{}, Log: zap.NewNop(), Metrics: m.registry,
	}); err != nil {
		t.Fatal(err)
	}
	console.NewServer(console.Options{Pepper: &console.Pepper{}, Metrics: m.registry, Register: m.registry, Log: zap.NewNop()})
	m.registry.MustRegister(kafka.NewMetrics()) // of a fleet's processes
	m.registry.MustRegister(newStoreMetrics().all()...)
	processMetrics(m.registry, time.Now(), "run")
	m.registry.MustRegister(newFleetHealth().all()...)
	described := make(chan *prometheus.Desc)
	go func() {
		m.registry.Describe(described)
		close(described)
	}()
	names := map[string]bool{}
	for d := range described {
		names[regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	if len(names) < 10 {
		t.Fatalf("there are %d metrics", len(names))
	}
	return names
}

func TestGuideNamesEveryMetric(t *testing.T) {
	guide := readPage(t, "docs/guide.md")
	table := sectionOf(t, guide, "Metrics")
	have := metricNames(t)
	for name := range have {
		if strings.HasPrefix(name, "weir_") && !strings.Contains(table, "\n| `"+name+"` |") {
			t.Errorf("the guide does not list %s", name)
		}
	}
	for _, name := range regexp.MustCompile(`weir_\w+`).FindAllString(guide, -1) {
		if !have[name] {
			t.Errorf("the guide names %s, which is no metric", name)
		}
	}
}

// TestGuideNamesEveryPath: the table of the HTTP API has the paths of the OpenAPI
// document and their parameters.
func TestGuideNamesEveryPath(t *testing.T) {
	section := sectionOf(t, readPage(t, "docs/guide.md"), "HTTP API")
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:GET|POST|PATCH|DELETE) [^`]+)` \\|(.*)$").FindAllStringSubmatch(section, -1) {
		rows[m[1]] = m[2]
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Roles      []string `json:"x-roles"`
			Parameters []struct {
				Name string `json:"name"`
				In   string `json:"in"`
				Ref  string `json:"$ref"`
			} `json:"parameters"`
		} `json:"paths"`
		Components struct {
			Parameters map[string]struct {
				Name string `json:"name"`
			} `json:"parameters"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(readPage(t, "console/openapi.json")), &doc); err != nil {
		t.Fatal(err)
	}
	parameters, known := 0, map[string]bool{}
	for at, methods := range doc.Paths {
		for method, p := range methods {
			name := strings.ToUpper(method) + " " + at
			known[name] = true
			row, ok := rows[name]
			roles, answer, _ := strings.Cut(strings.TrimPrefix(row, " "), "|")
			if want := strings.Join(p.Roles, " "); !ok || strings.TrimSpace(roles) != want && (strings.TrimSpace(roles) != "any" || len(p.Roles) < 6) {
				t.Errorf("the guide does not list %s, or not for the roles %s", name, want)
			}
			for _, q := range p.Parameters {
				if q.In != "query" && q.Ref == "" {
					continue
				}
				parameters++
				if q.Ref != "" {
					q.Name = doc.Components.Parameters[path.Base(q.Ref)].Name
				}
				if ok && !strings.Contains(answer, "`"+q.Name+"`") {
					t.Errorf("the guide does not name the parameter %s of %s", q.Name, name)
				}
			}
		}
	}
	for name := range rows {
		if !known[name] {
			t.Errorf("the guide lists %s, which is not there", name)
		}
	}
	if parameters < 10 {
		t.Errorf("the OpenAPI document has %d parameters", parameters)
	}
}

func TestGuideNamesEveryMemberOfAnAlert(t *testing.T) {
	section := sectionOf(t, readPage(t, "docs/guide.md"), "Reading an alert")
	var members map[string]json.RawMessage
	if err := json.Unmarshal(alerts.AppendJSON(nil, &pipeline.Alert{}), &members); err != nil || len(members) < 20 {
		t.Fatalf("an alert has %d members: %v", len(members), err)
	}
	for name := range members {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("the guide does not name %s", name)
		}
	}
}

// TestDetectorsHaveSections: each detector has one, whole, and no other has.
func TestDetectorsHaveSections(t *testing.T) {
	page := readPage(t, "docs/detectors.md")
	want := append(detectors.Names(), "health.identity", "health.collector_silent", "health.endpoint", "health.logins")
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(page, -1) {
		got = append(got, m[1])
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, name := range got {
		section := sectionOf(t, page, name)
		parts := []string{"Evidence", "Severity", "Misses", "Looks like it", "Knobs"}
		if !strings.HasPrefix(name, "health.") {
			parts = append(parts, "Names")
			if !strings.Contains(section, "| review after | page after |") {
				t.Errorf("%s: no table of what it takes", name)
			}
			for _, id := range []string{"ATT&CK T", "OWASP API", "OAT-0", "`detect." + name + ".mode`"} {
				if !strings.Contains(section, id) {
					t.Errorf("%s: no %s", name, id)
				}
			}
		}
		for _, p := range parts {
			if !strings.Contains(section, "**"+p+".**") {
				t.Errorf("%s: no **%s.**", name, p)
			}
		}
	}
}

// TestGuideVerifiesASignature: the Python of the guide takes what a webhook
// sends, and nothing else.
func TestGuideVerifiesASignature(t *testing.T) {
	code := blocks(sectionOf(t, readPage(t, "docs/guide.md"), "Webhooks"), "python")
	if len(code) != 1 {
		t.Fatalf("the guide has %d pieces of Python, want one", len(code))
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here: the guide's Python is not tried")
	}
	type message struct {
		Secrets []string          `json:"secrets"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
	const newSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	sent := message{Secrets: []string{hookSecret, newSecret, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"}, Headers: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent.Body = string(body)
		for name := range r.Header {
			sent.Headers[strings.ToLower(name)] = r.Header.Get(name)
		}
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(hookSecret+"\n"+newSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sink, err := alerts.OpenSink(alerts.SinkConfig{Webhook: &alerts.WebhookConfig{URL: alerts.URL(server.URL), SecretFile: file}}, alerts.SinkOptions{Version: version})
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Send(t.Context(), []pipeline.Alert{{ID: "a", Revision: 1, Change: pipeline.AlertChange{Kind: "opened"}}}); err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", code[0]+`
import json, sys
m = json.load(sys.stdin)
body = m["body"].encode()
for secret in m["secrets"]:
    print(verify(secret, m["headers"], body), verify(secret, m["headers"], body + b" "))
m["headers"]["webhook-timestamp"] = "1"
print(verify(m["secrets"][0], m["headers"], body))
`)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("True False\nTrue False\nFalse False\nFalse\n", strings.ReplaceAll(string(out), "\r", "")); d != "" {
		t.Error(d)
	}
}
