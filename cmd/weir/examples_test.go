package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"weir/alerts"
	"weir/collector"
	"weir/pipeline"
)

// TestExamples: every example is a configuration that the program starts from.
// Secrets lie where it says, and a line that it calls its log's is read.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(repositoryRoot(t), "deploy", "examples", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	lines, sinks := 0, 0
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			l, s := tryExample(t, string(data))
			lines, sinks = lines+l, sinks+s
		})
	}
	if lines < 2 || sinks < 2 {
		t.Errorf("the examples show %d log lines and %d sinks: want two at least", lines, sinks)
	}
}

// tryExample starts from an example as far as that goes without its machine,
// and returns how many log lines and sinks it tried.
func tryExample(t *testing.T, text string) (lines, sinks int) {
	t.Helper()
	const etc = "/etc/weir/"
	dir := t.TempDir() + "/"
	for _, name := range regexp.MustCompile(`: `+etc+`([^\s,}]+)`).FindAllStringSubmatch(text, -1) {
		content := []byte(hookSecret + "\n")
		switch filepath.Ext(name[1]) {
		case ".url":
			content = []byte("https://hooks.example.com/services/T0/B0/x")
		case ".tmpl": // copied from where we ship it
			content = []byte(readPage(t, "deploy/templates/"+name[1]))
		}
		if err := os.WriteFile(dir+name[1], content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, etc, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"check", "-c", file}, nil, &out, &errs); code != exitOK || errs.Len() > 0 {
		t.Fatalf("weir check ends with %d: %s%s", code, out.String(), errs.String())
	}
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Collect) == 0 {
		t.Fatal("it reads nothing")
	}
	keys, err := pipeline.LoadOrCreatePrivacyKeys(filepath.Join(dir, "weir.key"))
	if err != nil {
		t.Fatal(err)
	}
	logins, err := pipeline.NewLoginRules(cfg.Endpoints)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pipeline.NewIdentity(cfg.Identity, keys, logins)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newEngine(cfg, pipeline.ShippedEdition(), keys, nil, 1); err != nil {
		t.Fatal(err)
	}
	for name, s := range cfg.Alerts.Sinks {
		sinks++
		if _, err := alerts.OpenSink(s, alerts.SinkOptions{Version: version, Kafka: produceTo}); err != nil {
			t.Errorf("sink %s: %v", name, err)
		}
	}
	for line := range strings.Lines(text) {
		line, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "# line: ")
		if !ok {
			continue
		}
		lines++
		f, _, err := cfg.Collect[0].format(func() ([][]byte, error) { return [][]byte{[]byte(line)}, nil }, true)
		if err != nil {
			t.Fatal(err)
		}
		var fields collector.Fields
		if err := f.New().Parse(&fields, []byte(line)); err != nil {
			t.Fatalf("its line is rejected: %v", err)
		}
		r := pipeline.Request{Method: fields.Method, Path: fields.Path, Status: fields.Status}
		id.NewResolver().Resolve(&r, &fields.Clear)
		if !fields.HasTime || fields.Path == "" || fields.Status != 200 || fields.Bytes != 512 || r.Address.PrincipalValue() != "203.0.113.9" {
			t.Errorf("its line is read as %s %s %d, %d bytes, of %s", fields.Method, fields.Path, fields.Status, fields.Bytes, r.Address.PrincipalValue())
		}
	}
	return lines, sinks
}
