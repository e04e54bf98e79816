package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// dashboard is a dashboard of Grafana, as far as the tests look.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
	Annotations struct {
		List []struct{ Name, Expr string }
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ H, W, X, Y int }
		Targets []struct{ RefID, Expr, LegendFormat string }
	}
}

func loadDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(readPage(t, "deploy/grafana/weir.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// queries are those of the panels and annotations, by where they are.
func (d *dashboard) queries() map[string]string {
	list := map[string]string{}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			list[p.Title+"/"+q.RefID] = q.Expr
		}
	}
	for _, a := range d.Annotations.List {
		list[a.Name] = a.Expr
	}
	return list
}

// TestGrafanaDashboard: panels have ids and places of their own, and queries ask
// for metrics that exist, of the job and the instances that are chosen.
func TestGrafanaDashboard(t *testing.T) {
	d := loadDashboard(t)
	if d.UID != "weir" || d.SchemaVersion < 36 || len(d.Panels) < 40 {
		t.Fatalf("%s of schema %d, %d panels", d.UID, d.SchemaVersion, len(d.Panels))
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	ids, rows := map[int]bool{}, 0
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID <= 0 || ids[p.ID] || p.Title == "" {
			t.Errorf("panel %q: its id %d is not its own", p.Title, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("panel %q is at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("panel %q lies over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		switch {
		case p.Type == "row":
			rows++
		case len(p.Targets) == 0:
			t.Errorf("panel %q shows nothing", p.Title)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] {
				t.Errorf("panel %q: %s is there twice", p.Title, q.RefID)
			}
			refs[q.RefID] = true
		}
	}
	if rows < 6 {
		t.Errorf("there are %d rows", rows)
	}
	have := metricNames(t)
	for at, q := range d.queries() {
		names := askedMetrics(q)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing: %s", at, q)
		}
		for _, name := range names {
			if !have[name] {
				t.Errorf("%s asks for %s, which is no metric", at, name)
			}
			if n := strings.Count(q, name+"{job=~\"$job\", instance=~\"$instance\""); n < strings.Count(q, name+"{") || n == 0 {
				t.Errorf("%s asks for %s of any job: %s", at, name, q)
			}
		}
		for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(q, -1) {
			if m[1] != "__rate_interval" && !slices.Contains(variables, m[1]) {
				t.Errorf("%s: there is no variable %s", at, m[1])
			}
		}
	}
}

// TestEveryMetricIsLookedAt: what weir tells of itself is in a panel or a rule.
func TestEveryMetricIsLookedAt(t *testing.T) {
	d := loadDashboard(t)
	looked := map[string]bool{}
	for _, q := range d.queries() {
		for _, name := range askedMetrics(q) {
			looked[name] = true
		}
	}
	var rules ruleFile
	loadDeployed(t, "prometheus/weir.rules.yml", &rules)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			for _, name := range askedMetrics(r.Expr) {
				looked[name] = true
			}
		}
	}
	// Figures for who looks into one matter.
	apart := []string{
		"weir_requests_total", "weir_log_position", "weir_detect_position", "weir_fleet_lag_records", "weir_config_reloads_total", "weir_otlp_skipped_spans_total",
		"weir_capture_packets_total", "weir_capture_exchanges_total", "weir_capture_connections_total", "weir_capture_open_connections", "weir_capture_lost_bytes_total",
	}
	for name := range metricNames(t) {
		if strings.HasPrefix(name, "weir_") && !looked[name] && !slices.Contains(apart, name) {
			t.Errorf("nobody looks at %s", name)
		}
	}
}

// TestGrafanaProvisioning: the files name each other and the dashboard's place.
func TestGrafanaProvisioning(t *testing.T) {
	var source struct {
		Sources []struct{ Name, UID, Type, URL string } `yaml:"datasources"`
	}
	var boards struct {
		Providers []struct {
			Type    string
			Options struct{ Path string }
		}
	}
	for name, into := range map[string]any{"datasource": &source, "dashboards": &boards} {
		if err := yaml.Load([]byte(readPage(t, "deploy/grafana/"+name+".yaml")), into); err != nil {
			t.Fatal(err)
		}
	}
	grafana := loadCompose(t).Services["grafana"]
	at := fmt.Sprintf("%s/weir.json", boards.Providers[0].Options.Path)
	mounted := slices.ContainsFunc(grafana.Configs, func(c struct{ Source, Target string }) bool { return c.Target == at })
	if len(source.Sources) != 1 || source.Sources[0].Type != "prometheus" || !mounted {
		t.Errorf("%+v, and the dashboard is not at %s", source, at)
	}
}
