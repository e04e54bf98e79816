package main

import (
	"slices"
	"testing"
)

// TestRoleMetrics: a process of a fleet shows what its roles feed, and not at 0
// what others do.
func TestRoleMetrics(t *testing.T) {
	have := metricNames(t)
	for name, feeders := range roleMetrics() {
		if !have[name] {
			t.Errorf("%s is no metric", name)
		}
		for _, r := range feeders {
			if !slices.ContainsFunc(roles(), func(known role) bool { return known.name == r }) {
				t.Errorf("%s is fed by %s, which is no role", name, r)
			}
		}
	}
	f := func(command string, shows, not []string) {
		t.Helper()
		list, ok := rolesOf(command)
		if !ok {
			t.Fatalf("%s are no roles", command)
		}
		families, err := ofRoles(newMetrics(&service{}).registry, list).Gather()
		if err != nil {
			t.Fatal(err)
		}
		shown := map[string]bool{}
		for _, family := range families {
			shown[family.GetName()] = true
		}
		for _, name := range shows {
			if !shown[name] {
				t.Errorf("%s does not show %s", command, name)
			}
		}
		for _, name := range not {
			if shown[name] {
				t.Errorf("%s shows %s", command, name)
			}
		}
	}
	f("collect", []string{"weir_lines_total", "weir_config_last_reload_successful"}, []string{"weir_heartbeat_timestamp_seconds", "weir_detect_lag_records", "weir_store_bytes"})
	f("detect", []string{"weir_requests_total"}, []string{"weir_lines_total", "weir_heartbeat_timestamp_seconds"})
	f("collect,alert", []string{"weir_lines_total", "weir_heartbeat_timestamp_seconds", "weir_replay_differences"}, []string{"weir_principals"})
	f("serve", []string{"weir_store_bytes"}, []string{"weir_lines_total"})
}
