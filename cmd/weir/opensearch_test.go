package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/alerts"
	"weir/bench/services"
	"weir/pipeline"
	"weir/storage"
)

// openSearchTypes are the types of ECS that OpenSearch calls otherwise. Its
// constant_keyword wants the constant in the mapping.
func openSearchTypes() map[string]string {
	return map[string]string{"flattened": "flat_object", "constant_keyword": "keyword"}
}

// ecsTypes reads the types of ECS, as published.
func ecsTypes(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repositoryRoot(t), "..", "shared", "schemas", "ecs_fields.json"))
	if err != nil {
		t.Skipf("the fields of ECS are not here: %v", err)
	}
	var list struct {
		Fields map[string]struct{ Type string }
	}
	if err := json.Unmarshal(data, &list); err != nil || len(list.Fields) < 2000 {
		t.Fatalf("%d fields: %v", len(list.Fields), err)
	}
	types := map[string]string{}
	for name, f := range list.Fields {
		types[name] = f.Type
		if as, ok := openSearchTypes()[f.Type]; ok {
			types[name] = as
		}
	}
	return types
}

// TestOpenSearchTemplate: the template that is shipped gives each field the type
// that ECS gives it.
func TestOpenSearchTemplate(t *testing.T) {
	types := ecsTypes(t)
	var template struct {
		Template struct{ Mappings map[string]any }
	}
	if err := json.Unmarshal([]byte(readPage(t, "deploy/templates/opensearch.json")), &template); err != nil {
		t.Fatal(err)
	}
	looked := 0
	var walk func(prefix string, o map[string]any)
	walk = func(prefix string, o map[string]any) {
		for name, v := range o["properties"].(map[string]any) {
			name, v := prefix+name, v.(map[string]any)
			if v["properties"] != nil {
				walk(name+".", v)
				continue
			}
			looked++
			if got := v["type"]; got != types[name] && (name != "weir" || got != "flat_object") {
				t.Errorf("%s is %v, ECS has %q", name, got, types[name])
			}
		}
	}
	walk("", template.Template.Mappings)
	if looked < 50 {
		t.Errorf("looked at %d fields", looked)
	}
}

// wholeECS is a template with every field of ECS and none besides, but ours below
// weir.
func wholeECS(types map[string]string) map[string]any {
	root := map[string]any{"weir": map[string]any{"type": "flat_object"}}
	for name, kind := range types {
		parts := strings.Split(name, ".")
		at := root
		for _, p := range parts[:len(parts)-1] {
			o, _ := at[p].(map[string]any)
			if o == nil {
				o = map[string]any{}
				at[p] = o
			}
			if o["properties"] == nil {
				o["properties"] = map[string]any{}
			}
			at = o["properties"].(map[string]any)
		}
		o, _ := at[parts[len(parts)-1]].(map[string]any)
		if o == nil {
			o = map[string]any{}
			at[parts[len(parts)-1]] = o
		}
		o["type"] = kind
		switch kind {
		case "scaled_float":
			o["scaling_factor"] = 1000
		case "object":
			if name == "labels" {
				o["dynamic"] = true
			}
		case "keyword":
			o["ignore_above"] = 1024
		}
	}
	return map[string]any{
		"index_patterns": []string{"logs-whole-*"}, "data_stream": map[string]any{}, "priority": 500,
		"template": map[string]any{
			"settings": map[string]any{"index.mapping.total_fields.limit": 10_000, "number_of_replicas": 0},
			"mappings": map[string]any{"dynamic": "strict", "date_detection": false, "properties": root},
		},
	}
}

// openSearch asks a node.
func openSearch(t *testing.T, method, where string, body any) map[string]any {
	t.Helper()
	text, err := json.Marshal(body)
	if raw, ok := body.(string); ok {
		text, err = []byte(raw), nil
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, where, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %d %s: %v", method, where, resp.StatusCode, answer, err)
	}
	var o map[string]any
	if err := json.Unmarshal(answer, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestOpenSearchTakesAlerts: a real node, whose mapping has the types of ECS and
// takes no other field, takes every alert; one that comes again is no second
// document; and it is found by its fields' types.
func TestOpenSearchTakesAlerts(t *testing.T) {
	types := ecsTypes(t)
	if os.Getenv("WEIR_E2E") == "" {
		t.Skip("runs with make e2e: a node takes some ten seconds")
	}
	node, err := services.NewOpenSearch(t.TempDir())
	if errors.Is(err, services.ErrAbsent) {
		t.Skipf("no OpenSearch: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Kill)
	template := strings.Replace(readPage(t, "deploy/templates/opensearch.json"), `"dynamic": false`, `"dynamic": "strict"`, 1)
	if !strings.Contains(template, "strict") {
		t.Fatal("the template is not made strict")
	}
	openSearch(t, "PUT", node.URL()+"/_index_template/weir", template)
	openSearch(t, "PUT", node.URL()+"/_index_template/whole", wholeECS(types))

	var list []pipeline.Alert
	root := repositoryRoot(t)
	inputs := []string{filepath.Join(root, "cmd", "weir", "testdata", "sample.log.gz")}
	if shop := filepath.Join(root, "..", "shared", "data", "tools_shop", "access.json.gz"); exists(shop) {
		inputs = append(inputs, shop)
	}
	for _, scenario := range []string{"tiny-attacks", "saas-attacks", "shop-attacks"} {
		dir := t.TempDir()
		if w := weir(t, "simulate", "--quiet", "--scenario", scenario, "--clients", "60", "--out", filepath.Join(dir, "a.json"), "--labels", filepath.Join(dir, "l")); w.code != exitOK {
			t.Fatalf("weir simulate: %s", w.stderr)
		}
		inputs = append(inputs, filepath.Join(dir, "a.json"))
	}
	detectors, high := map[string]bool{}, map[string]bool{}
	for _, input := range inputs {
		for _, line := range outputLines(t, input, "json") {
			var a pipeline.Alert
			if err := json.Unmarshal(line, &a); err != nil {
				t.Fatal(err)
			}
			a.Labels = map[string]string{"service": "shop", "env": "prod", "team.name": "a"}
			list = append(list, a)
			detectors[a.Detector] = true
			if a.Severity == "high" || a.Severity == "critical" {
				high[fmt.Sprint(a.ID, ".", a.Revision)] = true
			}
		}
	}
	for _, stream := range []string{"logs-weir.alert-default", "logs-whole-default"} {
		var cfg alerts.SinkConfig
		cfg.Elasticsearch = &alerts.ElasticsearchConfig{URL: alerts.URL(node.URL()), DataStream: stream, InsecureHTTP: true}
		sink, err := alerts.OpenSink(cfg, alerts.SinkOptions{Version: "test", Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		if err != nil {
			t.Fatal(err)
		}
		count := func() int {
			openSearch(t, "POST", node.URL()+"/"+stream+"/_refresh", "")
			return int(openSearch(t, "GET", node.URL()+"/"+stream+"/_count", "{}")["count"].(float64))
		}
		ids := map[string]bool{}
		for from := 0; from < len(list); from += 50 {
			batch := list[from:min(from+50, len(list))]
			for try := range 2 { // the second time all is there already
				if err := sink.Send(t.Context(), batch); err != nil {
					t.Fatalf("%s, try %d: %v", stream, try, err)
				}
			}
			for _, a := range batch {
				ids[fmt.Sprint(a.ID, ".", a.Revision)] = true
			}
		}
		if n := count(); n != len(ids) {
			t.Errorf("%s: %d documents of %d alerts", stream, n, len(ids))
		}
		// What the types are for: numbers compare, networks contain, patterns match.
		for query, least := range map[string]int{
			`{"query":{"range":{"event.severity":{"gte":73}}}}`:                len(high),
			`{"query":{"term":{"related.ip":"0.0.0.0/0"}}}`:                    1,
			`{"query":{"wildcard":{"url.path":{"value":"*login*"}}}}`:          1,
			`{"query":{"match":{"message":"from"}}}`:                           1,
			`{"query":{"term":{"labels.team_name":"a"}}}`:                      len(ids),
			`{"query":{"term":{"weir.tier":"page"}}}`:                          1,
			`{"query":{"range":{"@timestamp":{"lt":"2100-01-01T00:00:00Z"}}}}`: len(ids),
		} {
			if n := int(openSearch(t, "GET", node.URL()+"/"+stream+"/_count", query)["count"].(float64)); n < least {
				t.Errorf("%s: %s finds %d, want %d", stream, query, n, least)
			}
		}
	}
	t.Logf("%d revisions by %d detectors, %d of them high or critical", len(list), len(detectors), len(high))
	if len(detectors) < 8 {
		t.Errorf("alerts by %d detectors only", len(detectors))
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestOpenSearchAcrossAKill: the node is killed while alerts go to it; in the end it
// has each once.
func TestOpenSearchAcrossAKill(t *testing.T) {
	t.Parallel()
	if os.Getenv("WEIR_E2E") == "" {
		t.Skip("runs with make e2e: a node takes some ten seconds to come back")
	}
	node, err := services.NewOpenSearch(t.TempDir())
	if errors.Is(err, services.ErrAbsent) {
		t.Skipf("no OpenSearch: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Kill)
	openSearch(t, "PUT", node.URL()+"/_index_template/weir", readPage(t, "deploy/templates/opensearch.json"))
	s := consoleService(t)
	s.cfg.Alerts.Sinks = map[string]alerts.SinkConfig{"os": {Elasticsearch: &alerts.ElasticsearchConfig{URL: alerts.URL(node.URL()), InsecureHTTP: true}}}
	s.cfg.Alerts.Routes = []alerts.Route{{To: []string{"os"}}}
	d, err := s.newDeliverer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	running.Go(func() { s.wakeDelivery(ctx, d) })
	defer running.Wait()
	defer cancel()
	const total, batch = 6000, 20
	running.Go(func() {
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		for n := 0; n < total && ctx.Err() == nil; n += batch {
			o := storage.Output{Stage: detectStage}
			for i := range batch {
				a := consoleAlert(fmt.Sprintf("%032x", (n+i)/2), 1+(n+i)%2, "high")
				a.Tier = "page"
				o.Alerts = append(o.Alerts, storage.AlertRevision{Alert: a})
			}
			if err := s.db.Commit(ctx, o); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			<-pace.C
		}
	})
	count := func() int {
		openSearch(t, "POST", node.URL()+"/logs-weir.alert-default/_refresh", "")
		return int(openSearch(t, "GET", node.URL()+"/logs-weir.alert-default/_count", "{}")["count"].(float64))
	}
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	reach := func(least int) int {
		t.Helper()
		for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); <-look.C {
			r, err := http.Get(node.URL() + "/logs-weir.alert-default/_count")
			if err != nil {
				continue
			}
			_ = r.Body.Close()
			if r.StatusCode != http.StatusOK {
				continue // no stream yet
			}
			if n := count(); n >= least {
				return n
			}
		}
		t.Fatalf("%d documents do not come; the sink is %+v", least, d.Status())
		return 0
	}
	// Once: the sink waits longer from try to try, and a node is slow to come back.
	n := reach(500)
	node.Kill()
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	if again := reach(n); again < n {
		t.Errorf("%d documents after the kill, %d before it", again, n)
	}
	if n := reach(total); n != total {
		t.Errorf("%d documents, want %d", n, total)
	}
	if letters, err := s.db.DeadLetters(t.Context(), "os", 0, 10); err != nil || len(letters) > 0 {
		t.Errorf("%d dead letters, %v", len(letters), err)
	}
}
