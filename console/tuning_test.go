package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"weir/pipeline"
)

const (
	goodConfig   = `{"yaml":"detect: {}"}`
	goodBacktest = `{"config":"detect: {}"}`
)

// fakeTuning says what a test wants to hear.
type fakeTuning struct {
	err       error // of all
	started   []string
	since     pipeline.Time
	canceled  []string
	applied   string
	explained []pipeline.Principal
	failAt    error // after the audit
}

func (f *fakeTuning) Config() (RunningConfig, error) {
	return RunningConfig{YAML: "detect: {}\n", Hash: "sha256:1", Path: "/etc/weir.yaml"}, f.err
}

func (f *fakeTuning) Diff(text string) ([]ConfigChange, error) {
	if strings.Contains(text, "same") {
		return nil, f.err
	}
	return []ConfigChange{{"detect.probe.path.mode", "", "off"}}, f.err
}

func (f *fakeTuning) Apply(_ context.Context, text, _ string, audit func([]ConfigChange, string, string) error) (RunningConfig, string, error) {
	if f.err != nil {
		return RunningConfig{}, "", f.err
	}
	if err := audit([]ConfigChange{{"detect.probe.path.mode", "", "off"}}, "sha256:1", "sha256:2"); err != nil {
		return RunningConfig{}, "", err
	}
	if f.failAt == nil {
		f.applied = text
	}
	return RunningConfig{YAML: text}, "later", f.failAt
}

func (f *fakeTuning) StartBacktest(text string, since, _ pipeline.Time) (string, error) {
	f.started, f.since = append(f.started, text), since
	return "b1", f.err
}

func (f *fakeTuning) Backtest(id string) ([]byte, bool) {
	return []byte(`{"id":"` + id + `"}`), id != "none"
}

func (f *fakeTuning) CancelBacktest(id string) bool {
	f.canceled = append(f.canceled, id)
	return id != "none"
}

func (f *fakeTuning) Explain(who pipeline.Principal, since, _ pipeline.Time) ([]byte, error) {
	f.explained, f.since = append(f.explained, who), since
	return []byte(`{"state":"running","progress":0.5,"error":"","client":{"kind":"` + who.Kind.String() + `","value":"` + who.Value + `"}}`), f.err
}

func TestTuning(t *testing.T) {
	s := &fakeStore{}
	o := options(s)
	tuning := &fakeTuning{}
	o.Tuning = tuning
	engineer := s.give(o, "eva", Engineer)
	h := newHandler(o)
	f := func(method, path, body string, code int, want string) {
		t.Helper()
		w := askAs(h, engineer, method, path, body)
		if w.Code != code || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s %s: %d %s, want %d %q", method, path, w.Code, w.Body, code, want)
		}
	}
	f("GET", "/api/v1/config", "", 200, `"hash":"sha256:1"`)
	f("GET", "/api/v1/config?secrets=1", "", 400, "no parameter")
	f("POST", "/api/v1/config/diff", `{"yaml":"same"}`, 200, `{"changes":[]}`)
	f("POST", "/api/v1/config/diff", `{"yaml":1}`, 400, "read the body")
	f("POST", "/api/v1/config/diff", `{"yaml":"`+strings.Repeat("a", maxBody)+`"}`, 200, "detect.probe.path.mode")
	f("POST", "/api/v1/config/diff", `{"yaml":"`+strings.Repeat("a", maxConfigText+1)+`"}`, 413, "at most")
	f("POST", "/api/v1/config/diff", `{"yaml":"`+strings.Repeat("a", maxConfigBody)+`"}`, 413, "larger than")
	f("POST", "/api/v1/reveal", `{"tokens":["`+strings.Repeat("a", maxBody)+`"]}`, 413, "larger than")
	f("POST", "/api/v1/backtests", `{"config":"x","since":"yesterday"}`, 400, "since")
	f("POST", "/api/v1/backtests", `{"config":"x","since":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}`, 400, "until is before since")
	f("POST", "/api/v1/backtests", `{"config":"x","since":"2026-01-02T00:00:00Z"}`, 202, `{"id":"b1"}`)
	if len(tuning.started) != 1 || tuning.since == 0 {
		t.Errorf("started %v since %d", tuning.started, tuning.since)
	}
	f("GET", "/api/v1/backtests/b1", "", 200, `"id":"b1"`)
	f("GET", "/api/v1/backtests/none", "", 404, "no backtest")
	f("DELETE", "/api/v1/backtests/b1", "", 204, "")
	f("DELETE", "/api/v1/backtests/none", "", 404, "no backtest")
	f("GET", "/api/v1/explain", "", 400, "KIND:VALUE")
	f("GET", "/api/v1/explain?client=ip:nobody", "", 400, "an IP address")
	f("GET", "/api/v1/explain?client=account:"+strings.Repeat("a", 600), "", 400, "at most")
	f("GET", "/api/v1/explain?client=ip:203.0.113.7&since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "", 400, "until is before since")
	f("GET", "/api/v1/explain?client=ip:2001:db8::7&since=2026-01-02T00:00:00Z", "", 200, `"state":"running"`)
	if got := tuning.explained; len(got) != 1 || got[0].Value != "2001:db8::/64" || tuning.since == 0 {
		t.Errorf("explained %v since %d", got, tuning.since)
	}
	f("POST", "/api/v1/config/apply", `{"yaml":"new","backtest":"b1"}`, 200, `"restart":"later"`)
	if tuning.applied != "new" {
		t.Errorf("applied %q", tuning.applied)
	}
	tuning.failAt = errors.New("no room")
	f("POST", "/api/v1/config/apply", `{"yaml":"new"}`, 500, "did not answer")
	tuning.err = &ConfigError{Status: http.StatusConflict, Text: "another runs"}
	f("POST", "/api/v1/backtests", goodBacktest, 409, "another runs")
	f("POST", "/api/v1/config/apply", goodConfig, 409, "another runs")
	tuning.err = &ConfigError{Status: http.StatusTooManyRequests, Text: "eight others wait"}
	if w := askAs(h, engineer, "GET", "/api/v1/explain?client=ip:203.0.113.7", ""); w.Code != 429 || w.Header().Get("Retry-After") != "10" {
		t.Errorf("with too many: %d %s, after %q", w.Code, w.Body, w.Header().Get("Retry-After"))
	}
	var said []string
	for _, e := range s.entries() {
		if e.Action == "config.apply" {
			body, err := json.Marshal(e.After)
			if err != nil {
				t.Fatal(err)
			}
			said = append(said, e.Outcome+" "+string(body))
		}
	}
	if got := strings.Join(said, "\n"); len(said) != 3 || !strings.HasPrefix(said[0], "success") || !strings.Contains(said[0], `"backtest":"b1"`) || !strings.Contains(said[0], "detect.probe.path.mode") || !strings.HasPrefix(said[2], "failure") {
		t.Errorf("the audit has\n%s", got)
	}
	// What cannot be audited does not happen.
	s.auditErr = errors.New("full")
	tuning.err, tuning.failAt, tuning.applied = nil, nil, ""
	f("POST", "/api/v1/config/apply", goodConfig, 500, "")
	started := len(tuning.started)
	f("POST", "/api/v1/backtests", goodBacktest, 500, "")
	if tuning.applied != "" || len(tuning.started) != started {
		t.Error("something was done without the audit")
	}
	o.Tuning = nil
	h = newHandler(o)
	f("GET", "/api/v1/config", "", 404, "nothing to tune")
}
