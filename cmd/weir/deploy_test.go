package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// TestSystemdUnits: what the units start is what the program takes, and stopping
// may take as long as the program allows itself.
func TestSystemdUnits(t *testing.T) {
	units, err := filepath.Glob(filepath.Join(repositoryRoot(t), "deploy", "systemd", "*.service"))
	if err != nil || len(units) < 2 {
		t.Fatalf("%d units: %v", len(units), err)
	}
	for _, unit := range units {
		t.Run(filepath.Base(unit), func(t *testing.T) {
			data, err := os.ReadFile(unit)
			if err != nil {
				t.Fatal(err)
			}
			calls := regexp.MustCompile(`(?m)^Exec\w+=/usr/local/bin/(weir .*)$`).FindAllStringSubmatch(string(data), -1)
			if len(calls) < 2 {
				t.Fatalf("the unit starts %d times weir", len(calls))
			}
			for _, c := range calls {
				for _, r := range roles() { // of a template: any of them
					call := strings.NewReplacer("%I", r.name, " $WEIR_ARGS", " --edition x --listen y").Replace(c[1])
					if problem := wrongCall(call); problem != "" {
						t.Error(problem)
					}
				}
			}
			stop := regexp.MustCompile(`(?m)^TimeoutStopSec=(\S+)$`).FindStringSubmatch(string(data))
			var grace duration
			if stop == nil || grace.UnmarshalText([]byte(stop[1])) != nil || grace <= duration(stopGrace) {
				t.Errorf("TimeoutStopSec %v: want more than the %s that the stages may take", stop, stopGrace)
			}
			analyzeUnit(t, strings.Replace(filepath.Base(unit), "@", "@detect", 1), data)
		})
	}
}

// analyzeUnit has systemd's own tool read a unit, where it is: what it does not
// know, and how exposed the service is.
func analyzeUnit(t *testing.T, name string, data []byte) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here: the unit was not read by systemd")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, t.TempDir(), name, bytes.ReplaceAll(data, []byte("/usr/local/bin/weir"), []byte(self)))
	for _, args := range [][]string{{"verify", "--man=no", file}, {"security", "--offline=true", "--threshold=20", file}} {
		if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
			t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// ruleFile is a file of rules of Prometheus.
type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

// loadDeployed reads a YAML file below deploy that has no other keys than into.
func loadDeployed(t *testing.T, name string, into any) {
	t.Helper()
	if err := yaml.Load([]byte(readPage(t, filepath.Join("deploy", name))), into, yaml.WithKnownFields()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// askedMetrics are the metrics that a query names, without those of Prometheus.
func askedMetrics(query string) []string {
	query = regexp.MustCompile(`"[^"]*"|'[^']*'`).ReplaceAllString(query, `""`)
	return regexp.MustCompile(`\b(?:weir|process|go)_\w+`).FindAllString(query, -1)
}

// TestPrometheusRules: the rules are whole, ask for metrics that exist, and lead
// to a section that says what to do.
func TestPrometheusRules(t *testing.T) {
	var file ruleFile
	loadDeployed(t, "prometheus/weir.rules.yml", &file)
	have, asked := metricNames(t), map[string]bool{}
	page := readPage(t, "docs/operations.md")
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			var held duration
			switch {
			case r.Alert == "" || seen[r.Alert]:
				t.Errorf("rule %q has no name of its own", r.Alert)
			case r.Expr == "" || strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")"):
				t.Errorf("%s: expr %q", r.Alert, r.Expr)
			case r.For != "" && held.UnmarshalText([]byte(r.For)) != nil:
				t.Errorf("%s: for %q", r.Alert, r.For)
			case r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["action"] == "":
				t.Errorf("%s: want a severity, a summary and an action", r.Alert)
			case r.Annotations["runbook_url"] != "docs/operations.md#"+strings.ToLower(r.Alert) || !strings.Contains(page, "\n### "+r.Alert+"\n"):
				t.Errorf("%s: %q leads to no section of its own", r.Alert, r.Annotations["runbook_url"])
			}
			seen[r.Alert] = true
			for _, name := range askedMetrics(r.Expr) {
				asked[name] = true
				if !have[name] {
					t.Errorf("%s asks for %s, which is no metric", r.Alert, name)
				}
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Weir\w+)$`).FindAllStringSubmatch(page, -1) {
		if !seen[m[1]] {
			t.Errorf("docs/operations.md has a section %s, which is no rule", m[1])
		}
	}
	for _, name := range []string{
		"weir_detect_lag_records", "weir_rejects_total", "weir_store_full_total", "weir_dead_letters_total", "weir_bus_slices", "weir_store_failures_total",
	} {
		if !asked[name] {
			t.Errorf("no rule watches %s", name)
		}
	}
}

// TestPrometheusRulesAreTested: for each rule the test file has a moment at which
// it fires and one at which it does not. Prometheus' own tool runs them, where it is.
func TestPrometheusRulesAreTested(t *testing.T) {
	var rules ruleFile
	loadDeployed(t, "prometheus/weir.rules.yml", &rules)
	var file struct {
		RuleFiles []string `yaml:"rule_files"`
		Interval  string   `yaml:"evaluation_interval"`
		Tests     []struct {
			Name     string `yaml:"name"`
			Interval string `yaml:"interval"`
			Series   []struct {
				Series string `yaml:"series"`
				Values string `yaml:"values"`
			} `yaml:"input_series"`
			Alerts []struct {
				Name  string `yaml:"alertname"`
				Time  string `yaml:"eval_time"`
				Fires []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	loadDeployed(t, "prometheus/weir.rules.test.yml", &file)
	have := metricNames(t)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, s := range test.Series {
			for _, name := range askedMetrics(s.Series) {
				if !have[name] {
					t.Errorf("%s: has %s, which is no metric", test.Name, name)
				}
			}
		}
		for _, a := range test.Alerts {
			fires[a.Name] = fires[a.Name] || len(a.Fires) > 0
			quiet[a.Name] = quiet[a.Name] || len(a.Fires) == 0
		}
	}
	n := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			n++
			if !fires[r.Alert] || !quiet[r.Alert] {
				t.Errorf("%s: tested when it fires: %v, when it does not: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
			}
		}
	}
	if n < 20 {
		t.Errorf("there are %d rules", n)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool here (Debian has it in prometheus): the rules were not run")
	}
	for _, args := range [][]string{{"check", "rules", "weir.rules.yml"}, {"test", "rules", "weir.rules.test.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = filepath.Join(repositoryRoot(t), "deploy", "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
