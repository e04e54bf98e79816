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
	goodExplain  = `{"client":"ip:203.0.113.7"}`
)

// fakeTuning says what a test wants to hear.
type fakeTuning struct {
	err       error // of all
	started   []string
	explained []ExplainRequest
	since     pipeline.Time
	canceled  []string
	applied   string
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

func (f *fakeTuning) StartExplain(q ExplainRequest) (string, error) {
	f.explained = append(f.explained, q)
	return "x1", f.err
}

func (f *fakeTuning) Explanation(id string) ([]byte, bool) {
	return []byte(`{"id":"` + id + `","state":"waiting","error":"","answer":null}`), id != "none"
}

func (f *fakeTuning) CancelExplain(id string) bool {
	f.canceled = append(f.canceled, id)
	return id != "none"
}

// TestExplanations: one of three is explained, and what cannot be is refused before
// anything runs.
func TestExplanations(t *testing.T) {
	s := &fakeStore{}
	s.put("a1")
	o := options(s)
	tuning := &fakeTuning{}
	o.Tuning = tuning
	analyst := s.give(o, "ana", Analyst)
	h := newHandler(o)
	f := func(method, path, body string, code int, want string) {
		t.Helper()
		w := askAs(h, analyst, method, path, body)
		if w.Code != code || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s %s %s: %d %s, want %d %q", method, path, body, w.Code, w.Body, code, want)
		}
	}
	const path = "/api/v1/explanations"
	f("POST", path, `{}`, 400, "one of client, alert and line")
	f("POST", path, `{"client":"ip:203.0.113.7","alert":"a1"}`, 400, "one of client, alert and line")
	f("POST", path, `{"alert":"a1","since":"2026-01-02T00:00:00Z"}`, 400, "go with client")
	f("POST", path, `{"client":"ip:203.0.113.7","since":"soon"}`, 400, "since")
	f("POST", path, `{"line":"a\nb"}`, 400, "one line")
	f("POST", path, `{"line":"`+strings.Repeat("a", maxExplainLine+1)+`"}`, 400, "shorter")
	f("POST", path, `{"alert":"nothing"}`, 404, "")
	f("POST", path, `{"alert":"--store=x"}`, 400, "no id")
	if len(tuning.explained) != 0 {
		t.Fatalf("explained %+v", tuning.explained)
	}
	f("POST", path, `{"client":"ip:203.0.113.7","since":"2026-01-02T00:00:00Z"}`, 202, `{"id":"x1"}`)
	f("POST", path, `{"alert":"a1"}`, 202, `{"id":"x1"}`)
	f("POST", path, `{"line":"GET /"}`, 202, `{"id":"x1"}`)
	if len(tuning.explained) != 3 || tuning.explained[0].Since == 0 || tuning.explained[1].Alert != "a1" || tuning.explained[2].Line != "GET /" {
		t.Errorf("explained %+v", tuning.explained)
	}
	f("GET", path+"/x1", "", 200, `"state":"waiting"`)
	f("GET", path+"/none", "", 404, "no explanation")
	f("DELETE", path+"/x1", "", 204, "")
	f("DELETE", path+"/none", "", 404, "no explanation")
	tuning.err = &ConfigError{Status: http.StatusConflict, Text: "8 wait"}
	f("POST", path, `{"alert":"a1"}`, 409, "8 wait")
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
	f("POST", "/api/v1/config/apply", `{"yaml":"new","backtest":"b1"}`, 200, `"restart":"later"`)
	if tuning.applied != "new" {
		t.Errorf("applied %q", tuning.applied)
	}
	tuning.failAt = errors.New("no room")
	f("POST", "/api/v1/config/apply", `{"yaml":"new"}`, 500, "did not answer")
	tuning.err = &ConfigError{Status: http.StatusConflict, Text: "another runs"}
	f("POST", "/api/v1/backtests", goodBacktest, 409, "another runs")
	f("POST", "/api/v1/config/apply", goodConfig, 409, "another runs")
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
