package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weir/console"
)

// apiClient asks a running weir with a token.
type apiClient struct {
	t     *testing.T
	base  string
	token string
}

// do sends body as JSON, nil for none, and wants the status.
func (c *apiClient) do(method, path string, body any, want int) []byte {
	c.t.Helper()
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		in = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, in)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		c.t.Fatalf("%s %s: %d, want %d: %s (%v)", method, path, resp.StatusCode, want, out, err)
	}
	return out
}

func decoded[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v: %.300s", err, data)
	}
	return v
}

// jobView is a backtest as the API shows it.
type jobView struct {
	State    string
	Progress float64
	backtestResult
}

// explainedOverTheAPI: what the API explains is what the shell explains.
func explainedOverTheAPI(t *testing.T, d *daemon, c *apiClient, dir, config string) {
	t.Helper()
	alert := decoded[struct {
		Data []struct{ ID string }
	}](t, c.do("GET", "/api/v1/alerts?address="+crawlerAddress, nil, 200)).Data[0].ID
	line := firstLine(t, filepath.Join(dir, "access.log"))
	store := filepath.Join(dir, "weir.db")
	for _, tc := range []struct {
		body map[string]string
		args []string
		want func(x explanation) bool
	}{
		{map[string]string{"client": "ip:" + crawlerAddress}, []string{"--client", "ip:" + crawlerAddress}, func(x explanation) bool {
			return x.Client.Why.Code == "alerted" && len(x.Client.Alerts) > 0 && len(x.Client.Detectors) == len(detectorNames()) && x.Client.Detectors[0].Nats >= x.Client.ReviewAt
		}},
		{map[string]string{"client": "ip:192.0.2.254"}, []string{"--client", "ip:192.0.2.254"}, func(x explanation) bool { return x.Client.Why.Code == "unknown" }},
		{map[string]string{"alert": alert}, []string{"--alert", alert, "--events"}, func(x explanation) bool {
			return x.Alert.ID == alert && x.Alert.Total > 0 && !x.Alert.Still && len(x.Alert.Signals) > 0
		}},
		{map[string]string{"line": line}, []string{line}, func(x explanation) bool { return len(x.Line.Fields) > 5 && x.Line.Rejected == "" }},
		{map[string]string{"line": "no line of any log"}, nil, nil},
	} {
		id := decoded[struct{ ID string }](t, c.do("POST", "/api/v1/explanations", tc.body, 202)).ID
		var v explainView
		eventually(t, "the explanation is done", d, func() bool {
			v = decoded[explainView](t, c.do("GET", "/api/v1/explanations/"+id, nil, 200))
			return v.State != "running" && v.State != "waiting"
		})
		if tc.args == nil {
			if v.State != "failed" || v.Error == "" {
				t.Errorf("%v: %+v", tc.body, v)
			}
			continue
		}
		got := weir(t, append([]string{"explain", "--output", "json", "-c", config, "--store", store}, tc.args...)...)
		if v.State != "done" || got.code != exitOK || strings.TrimSpace(string(got.stdout)) != string(v.Answer) {
			t.Errorf("%v: %s %s: the API says %s, the shell %s %s", tc.body, v.State, v.Error, v.Answer, got.stdout, got.stderr)
			continue
		}
		if !tc.want(decoded[explanation](t, v.Answer)) {
			t.Errorf("%v: %s", tc.body, v.Answer)
		}
	}
}

func firstLine(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

// TestTuningOverTheAPI: a change is read, tried and applied as an engineer does it;
// what is told is what the shell tells, and no secret leaves.
func TestTuningOverTheAPI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := writeFile(t, dir, "access.log", text(trafficLog(1)))
	const hook = "https://hooks.example.com/services/T0/B0/verysecret"
	key := writeFile(t, dir, "hook.key", []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"))
	first := fmt.Sprintf("# ours\nstore: {path: %s}\nalerts:\n  sinks: {siem: {webhook: {url: %q, secret_file: %s}}}\n", filepath.Join(dir, "weir.db"), hook, key)
	config := writeFile(t, dir, "weir.yaml", []byte(first))
	token := weir(t, "token", "create", "-c", config, "--name", "eva", "--role", "engineer", "--role", "auditor")
	if token.code != exitOK {
		t.Fatal(token.stderr)
	}
	d := startDaemon(t, "run", "-c", config, "--listen", "127.0.0.1:0", log)
	d.waitReady(t)
	c := &apiClient{t: t, base: d.url(), token: strings.TrimSpace(string(token.stdout))}
	eventually(t, "all of the log is detected", d, func() bool {
		return strings.Contains(string(c.do("GET", "/metrics", nil, 200)), "\nweir_detect_lag_records 0\n") &&
			strings.Contains(string(c.do("GET", "/api/v1/alerts", nil, 200)), crawlerAddress)
	})

	now := decoded[console.RunningConfig](t, c.do("GET", "/api/v1/config", nil, 200))
	if strings.Contains(now.YAML, "verysecret") || !strings.Contains(now.YAML, "'<secret 1>'") || now.Path != config || now.Changed {
		t.Errorf("the configuration is shown as %+v", now)
	}
	next := now.YAML + "detect: {scrape.crawl: {mode: shadow}, probe.path: {mode: off}}\n"
	if got := string(c.do("POST", "/api/v1/config/diff", map[string]string{"yaml": next}, 200)); !strings.Contains(got, `{"path":"detect.probe.path.mode","old":"","new":"off"}`) || strings.Contains(got, "sinks") {
		t.Errorf("the difference is %s", got)
	}
	for _, bad := range []string{"detect: {nothing: {mode: off}}\n", "a: [", "'<secret 9>'\n", "log: {level: '${HOME}'}\n"} {
		c.do("POST", "/api/v1/backtests", map[string]string{"config": now.YAML + bad}, 422)
	}
	c.do("POST", "/api/v1/backtests", map[string]string{"config": now.YAML + "context: {lists: [{name: x, file: /etc/passwd}]}\n"}, 422)

	id := decoded[struct{ ID string }](t, c.do("POST", "/api/v1/backtests", map[string]string{"config": next}, 202)).ID
	var v jobView
	eventually(t, "the backtest is done", d, func() bool {
		v = decoded[jobView](t, c.do("GET", "/api/v1/backtests/"+id, nil, 200))
		return v.State != "running"
	})
	if v.State != "done" || v.LostTotal < 2 || v.Progress != 1 {
		t.Fatalf("the backtest: %+v", v)
	}
	tried := writeFile(t, dir, "next.yaml", []byte(strings.Replace(next, "'<secret 1>'", fmt.Sprintf("%q", hook), 1)))
	r := backtested(t, "-c", tried, "--against", config, "--store", filepath.Join(dir, "weir.db"))
	for i, a := range r.Lost {
		if v.Lost[i].ID != a.ID || v.Lost[i].outcome() != a.outcome() || v.Lost[i].Why != a.Why {
			t.Errorf("the API tells %+v, the shell %+v", v.Lost[i], a)
		}
	}

	// One at a time, and it can be ended.
	id = decoded[struct{ ID string }](t, c.do("POST", "/api/v1/backtests", map[string]string{"config": next}, 202)).ID
	c.do("DELETE", "/api/v1/backtests/"+id, nil, 204)
	if v := decoded[jobView](t, c.do("GET", "/api/v1/backtests/"+id, nil, 200)); v.State == "running" {
		t.Errorf("after the end it is %+v", v)
	}

	explainedOverTheAPI(t, d, c, dir, config)

	c.do("POST", "/api/v1/config/apply", map[string]string{"yaml": next, "if_hash": "sha256:other"}, 409)
	c.do("POST", "/api/v1/config/apply", map[string]string{"yaml": next, "if_hash": now.Hash, "backtest": id}, 200)
	written, err := os.ReadFile(config)
	if err != nil || string(written) != strings.Replace(next, "'<secret 1>'", fmt.Sprintf("%q", hook), 1) {
		t.Errorf("the file is %q (%v)", written, err)
	}
	if kept, err := os.ReadFile(config + ".bak"); err != nil || string(kept) != first {
		t.Errorf("kept is %q (%v)", kept, err)
	}
	if st, err := os.Stat(config); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v (%v)", st.Mode(), err)
	}
	// It is in force, without a restart.
	after := decoded[console.RunningConfig](t, c.do("GET", "/api/v1/config", nil, 200))
	if after.Changed || after.Hash == now.Hash || after.Config == now.Config || !strings.Contains(after.YAML, "probe.path: {mode: off}") {
		t.Errorf("after it was applied it is %+v", after)
	}
	if text := string(c.do("GET", "/metrics", nil, 200)); !strings.Contains(text, "weir_config_reloads_total{result=\"ok\"} 1\n") {
		t.Error("no reload is counted")
	}
	// What cannot be put into force leaves everything as it was.
	c.do("POST", "/api/v1/config/apply", map[string]string{"yaml": strings.Replace(after.YAML, key, filepath.Join(dir, "none"), 1), "if_hash": after.Hash}, 422)
	if now, err := os.ReadFile(config); err != nil || string(now) != string(written) {
		t.Errorf("after one that is bad the file is %q (%v)", now, err)
	}
	// What is changed by hand is not overwritten unseen.
	writeFile(t, dir, "weir.yaml", append(written, "# by hand\n"...))
	c.do("POST", "/api/v1/config/apply", map[string]string{"yaml": now.YAML}, 409)
	audit := string(c.do("GET", "/api/v1/feed/audit", nil, 200))
	if !strings.Contains(audit, `"action":"config.apply"`) || !strings.Contains(audit, "detect.probe.path.mode") || !strings.Contains(audit, id) || strings.Contains(audit, "verysecret") {
		t.Errorf("the audit has %s", audit)
	}
}

func TestSecretsOfAConfiguration(t *testing.T) {
	t.Parallel()
	f := func(text, want string) {
		t.Helper()
		got, err := hideSecrets(text)
		if err != nil || got != want {
			t.Errorf("%q is shown as %q (%v), want %q", text, got, err, want)
			return
		}
		if back, err := restoreSecrets(got, text); err != nil || back != text {
			t.Errorf("%q comes back as %q (%v)", text, back, err)
		}
	}
	f("", "")
	f("log: {level: info} # token: none\n", "log: {level: info} # token: none\n")
	f("a: {token: abc}\n", "a: {token: '<secret 1>'}\n")
	f("a:\n  password: 'it is'\n  url: \"https://u:p@h/x\" # ours\n", "a:\n  password: '<secret 1>'\n  url: '<secret 2>' # ours\n")
	f("ä: {ö: 1, token: geheim}\n", "ä: {ö: 1, token: '<secret 1>'}\n")
	f("a: {secret_file: /s, token: '${TOKEN}'}\n", "a: {secret_file: /s, token: '${TOKEN}'}\n")
	f("a: {url: http://h}\n", "a: {url: http://h}\n")
	if _, err := hideSecrets("a:\n  token: |\n    abc\n"); err == nil {
		t.Error("a secret of several lines is shown")
	}
	if _, err := restoreSecrets("a: '<secret 2>'", "a: {token: x}"); err == nil {
		t.Error("a mark of no secret is taken")
	}
}
