package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/pipeline"
)

// stuffingLines are logins from one address with names of many accounts, of which
// carol and dave's work, after some others sign in.
func stuffingLines(begin time.Time) []byte {
	var b strings.Builder
	line := func(at time.Duration, ip, user string, status, bytes int) {
		fmt.Fprintf(&b, `{"time":%q,"remote_addr":%q,"request_method":"POST","request_uri":"/login","status":%d,"body_bytes_sent":%d,"http_user_agent":"x","login_user":%q}`+"\n",
			begin.Add(at).Format(time.RFC3339), ip, status, bytes, user)
	}
	for i := range 40 {
		line(time.Duration(i)*time.Second, fmt.Sprintf("198.51.100.%d", i+1), fmt.Sprintf("worker%d", i), 200, 900)
	}
	for i := range 200 { // for so long that it is told of as still active, with both
		user, status := fmt.Sprintf("victim%d", i), 401
		switch i {
		case 70:
			user, status = "carol", 200
		case 90:
			user, status = "dave", 200
		}
		line(time.Duration(60+10*i)*time.Second, "203.0.113.7", user, status, 900)
	}
	return []byte(b.String())
}

// TestNamesForWhoResponds: from a stuffing alert the SIEM gets the clear names of
// exactly the accounts that were got into; a sink that is not set so gets tokens, and
// so does a viewer. The audit has it.
func TestNamesForWhoResponds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var mu sync.Mutex
	got := map[string][]pipeline.Alert{}
	raw := map[string]string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		name, _, _ := strings.Cut(r.URL.Path[1:], "/")
		body, _ := io.ReadAll(r.Body)
		raw[name] += string(body)
		for d := json.NewDecoder(strings.NewReader(string(body))); d.More(); {
			var e struct {
				Event struct{ Native pipeline.Alert }
			}
			if err := d.Decode(&e); err != nil {
				t.Error(err)
				return
			}
			got[name] = append(got[name], e.Event.Native)
		}
		fmt.Fprint(w, `{"text":"Success","code":0}`)
	}))
	defer srv.Close()
	secret := writeFile(t, dir, "secret", []byte("hunter2\n"))
	log, store := writeFile(t, dir, "access.log", nil), filepath.Join(dir, "weir.db")
	config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil, `endpoints: [{match: POST /login, role: login, failure: {status: [401]}}]
alerts:
  sinks:
    siem: {identity: clear, splunk: {url: %[1]q, token_file: %[3]q}}
    lake: {splunk: {url: %[2]q, token_file: %[3]q}}
`, srv.URL+"/siem", srv.URL+"/lake", secret))
	viewer := strings.TrimSpace(string(weir(t, "token", "create", "--store", store, "--name", "v", "--role", "viewer").stdout))
	d := startDaemon(t, "run", "-c", config, "--store", store, "--listen", "127.0.0.1:0", log)
	d.waitReady(t)
	eventually(t, "the sinks are known", d, func() bool { return sinkKnown(t, store) })
	if err := os.WriteFile(log, stuffingLines(time.Now().Add(-time.Hour).UTC()), 0o600); err != nil {
		t.Fatal(err)
	}
	got2 := func(name string) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(got[name], func(a pipeline.Alert) bool { return a.Outcome.Succeeded != nil && *a.Outcome.Succeeded == 2 })
	}
	eventually(t, "both SIEMs have both successes", d, func() bool { return got2("siem") && got2("lake") })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url()+"/api/v1/alerts", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+viewer)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	shown, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(shown), `"u_`) {
		t.Fatalf("the viewer sees %d %s: %v", resp.StatusCode, shown, err)
	}
	mu.Lock()
	defer mu.Unlock()
	for who, text := range map[string]string{"the viewer": string(shown), "the lake": raw["lake"]} {
		for _, name := range []string{"carol", "dave", "victim", "worker"} {
			if strings.Contains(text, name) {
				t.Errorf("%s sees %s: %s", who, name, text)
			}
		}
	}
	if strings.Contains(raw["siem"], "victim") || strings.Contains(raw["siem"], "worker") {
		t.Errorf("the SIEM is shown who was not got into: %s", raw["siem"])
	}
	last := got["siem"][len(got["siem"])-1]
	var clear []string
	failed := 0
	for _, a := range last.Affected.Accounts {
		if strings.HasPrefix(a.Name, "u_") {
			failed++
		} else {
			clear = append(clear, a.Name+" "+a.Outcome)
		}
	}
	if slices.Sort(clear); !slices.Equal(clear, []string{"carol success", "dave success"}) || failed == 0 {
		t.Errorf("the SIEM is shown %v and %d tokens", clear, failed)
	}
	d.stop(t)
	audit := string(weir(t, "audit", "show", "--store", store).stdout)
	if strings.Count(audit, `"action":"sink.names"`) != 1 || !strings.Contains(audit, `"target":{"kind":"sink","ids":["siem"]}`) {
		t.Errorf("the audit has %s", audit)
	}
}
