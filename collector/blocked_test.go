package collector

import (
	"strings"
	"testing"
)

// What WAFs and gateways write when they stop a request; a status alone says
// nothing, and a challenge may have been passed.
func TestBlocked(t *testing.T) {
	json, err := Named("json", ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := func(members string, want bool) {
		t.Helper()
		got := parse(json, `{"method":"GET","path":"/x","status":403,`+members+`}`)
		if strings.HasPrefix(got, "reject") || strings.Contains(got, "blocked=true") != want {
			t.Errorf("%s: %s; want blocked %v", members, got, want)
		}
	}
	f(`"waf_action":"block"`, true)
	f(`"action":"BLOCK"`, true)
	f(`"action":"ALLOW"`, false)
	f(`"action":"block"`, false) // an application's own: one user blocks another
	f(`"SecurityAction":"block"`, true)
	f(`"SecurityAction":"managed_challenge"`, false)
	f(`"FirewallMatchesActions":["block"]`, true)
	f(`"FirewallMatchesActions":[]`, false)
	f(`"properties":{"action":"Blocked"}`, true)
	f(`"properties":{"action":"Detected"}`, false)
	f(`"jsonPayload":{"enforcedSecurityPolicy":{"outcome":"DENY"}}`, true)
	f(`"event":{"action":"denied"}`, true)
	f(`"blocked":true`, true)
	f(`"blocked":false`, false)
	f(`"blocked":1`, true)
	f(`"blocked":null`, false)
	f(`"transaction":{"is_interrupted":true}`, true)
	f(`"x":"block"`, false)
}
