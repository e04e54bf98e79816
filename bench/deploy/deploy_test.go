// Package deploy has what others' own code says of the files in deploy: Compose's
// loader, and Prometheus' parser. It is a module of its own, so that weir does not
// depend on them.
package deploy

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const files = "../../deploy"

// TestCompose loads the file as docker compose does.
func TestCompose(t *testing.T) {
	f := func(profiles []string, services int) {
		t.Helper()
		o, err := cli.NewProjectOptions([]string{filepath.Join(files, "compose.yaml")},
			cli.WithEnv([]string{"WEIR_VERSION=v1", "WEIR_LOGS=/var/log/nginx"}), cli.WithProfiles(profiles))
		if err != nil {
			t.Fatal(err)
		}
		p, err := o.LoadProject(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Services) != services {
			t.Errorf("with %v there are %v", profiles, p.ServiceNames())
		}
		detect := p.Services["detect"]
		if detect.GetScale() != 2 || detect.Deploy.Resources.Limits.MemoryBytes != 2<<30 || detect.Image != "weir:v1" || !detect.ReadOnly {
			t.Errorf("detect is %+v", detect)
		}
		if serve := p.Services["serve"]; len(serve.Tmpfs) > 0 || len(serve.Volumes) != 1 || serve.Ports[0].HostIP != "127.0.0.1" {
			t.Errorf("serve is %+v", serve)
		}
	}
	f(nil, 11)
	f([]string{"watch"}, 13)
	if o, err := cli.NewProjectOptions([]string{filepath.Join(files, "compose.yaml")}, cli.WithEnv(nil)); err == nil {
		if _, err := o.LoadProject(t.Context()); err == nil {
			t.Error("it loads without the variables that it needs")
		}
	}
}

// TestQueries: every query of the dashboard and every rule is one of Prometheus.
func TestQueries(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(files, "grafana", "weir.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	n := 0
	f := func(at, query string) {
		n++
		query = strings.NewReplacer("$__rate_interval", "5m", "$job", "weir", "$instance", ".+").Replace(query)
		if _, err := parser.NewParser(parser.Options{}).ParseExpr(query); err != nil {
			t.Errorf("%s: %v: %s", at, err, query)
		}
	}
	for _, p := range board.Panels {
		for _, q := range p.Targets {
			f(p.Title, q.Expr)
		}
	}
	for _, a := range board.Annotations.List {
		f(a.Name, a.Expr)
	}
	if n < 40 {
		t.Errorf("the dashboard has %d queries", n)
	}
	if _, errs := rulefmt.ParseFile(filepath.Join(files, "prometheus", "weir.rules.yml"), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler)); len(errs) > 0 {
		t.Errorf("the rules: %v", errs)
	}
}
