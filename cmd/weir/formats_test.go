package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"weir/alerts"
	"weir/alerts/schemas"
	"weir/pipeline"
)

// TestEveryAlertInEveryFormat: what the sample log, simulated attacks and a shop
// under real tools raise is valid in every format, and analyze writes it.
func TestEveryAlertInEveryFormat(t *testing.T) {
	root := repositoryRoot(t)
	set, err := schemas.Open(filepath.Join(root, "..", "shared", "schemas"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the schemas are not here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	checks := map[alerts.Format]func(line []byte) error{
		alerts.FormatOCSF: set.OCSF,
		alerts.FormatECS:  func(line []byte) error { return set.ECS(line, "weir") },
		alerts.FormatCEF:  func(line []byte) error { _, err := schemas.ParseCEF(string(line)); return err },
	}
	f := func(name string, least int, path func(t *testing.T) string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			input := path(t)
			native := outputLines(t, input, "json")
			if len(native) < least {
				t.Errorf("%d revisions, want %d at least", len(native), least)
			}
			seen := map[string]bool{}
			want := map[alerts.Format][]byte{}
			for _, line := range native {
				var a pipeline.Alert
				if err := json.Unmarshal(line, &a); err != nil {
					t.Fatal(err)
				}
				seen[a.Detector] = true
				for format, check := range checks {
					line := alerts.AppendFormat(nil, &a, format, "")
					if err := check(line); err != nil {
						t.Fatalf("%s: %v\n%s", format, err, line)
					}
					want[format] = append(append(want[format], line...), '\n')
				}
			}
			t.Logf("%d revisions by %d detectors", len(native), len(seen))
			if name != "sample" {
				return
			}
			// What analyze writes is what a sink writes of the stored alert.
			for format := range checks {
				if got := bytes.Join(append(outputLines(t, input, string(format)), nil), []byte("\n")); !bytes.Equal(got, want[format]) {
					t.Errorf("weir analyze --output %s differs from the stored alerts in that format", format)
				}
			}
		})
	}
	at := func(parts ...string) func(*testing.T) string {
		return func(t *testing.T) string {
			path := filepath.Join(append([]string{root}, parts...)...)
			if _, err := os.Stat(path); err != nil {
				t.Skipf("the data is not here: %v", err)
			}
			return path
		}
	}
	f("sample", 4, at("cmd", "weir", "testdata", "sample.log.gz"))
	f("tools_shop", 10, at("..", "shared", "data", "tools_shop", "access.json.gz"))
	scenarios, clients := []string{"tiny-attacks", "saas-attacks"}, "40"
	if os.Getenv("WEIR_E2E") != "" {
		scenarios, clients = []string{"shop-attacks", "saas-attacks", "public-attacks", "graphql-attacks", "grpc-attacks"}, "300"
	}
	for _, scenario := range scenarios {
		f(scenario, 5, func(t *testing.T) string {
			log := filepath.Join(t.TempDir(), "a.json")
			var out, errs bytes.Buffer
			args := []string{"simulate", "--quiet", "--scenario", scenario, "--clients", clients, "--out", log, "--labels", filepath.Join(t.TempDir(), "l")}
			if code := run(context.Background(), args, nil, &out, &errs); code != exitOK {
				t.Fatalf("weir simulate: %d %s", code, errs.String())
			}
			return log
		})
	}
}

// outputLines runs weir analyze on path.
func outputLines(t *testing.T, path, format string) [][]byte {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"analyze", "--quiet", "--output", format, path}, nil, &out, &errs); code != exitOK {
		t.Fatalf("weir analyze --output %s: %d %s", format, code, errs.String())
	}
	return bytes.Split(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\n"))
}
