package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"weir/pipeline"
)

// Tuning is what the console asks of whoever can try and apply configurations. Its
// methods may be called from any goroutine. A *ConfigError is for the caller.
type Tuning interface {
	// Config returns the running configuration without secrets: in their place stand
	// marks, which the other methods put the secrets back for.
	Config() (RunningConfig, error)
	// Diff returns what differs between the running configuration and text.
	Diff(text string) ([]ConfigChange, error)
	// Apply makes text the configuration. entry is told what is about to change and
	// must be stored before it does. restart says what is left for weir's next start,
	// "" for nothing.
	Apply(ctx context.Context, text, hash string, audit func(changes []ConfigChange, before, after string) error) (now RunningConfig, restart string, err error)

	// StartBacktest tries text on the stored requests; since and until of 0 are open.
	StartBacktest(text string, since, until pipeline.Time) (id string, err error)
	// Backtest returns how far it is or what it came to, as the JSON of the answer;
	// false for an id that is not known any more.
	Backtest(id string) ([]byte, bool)
	// CancelBacktest ends one that runs, and reports whether it is known.
	CancelBacktest(id string) bool

	// StartExplain explains an alert, a client or a line over what is stored;
	// Explanation and CancelExplain are as with backtests.
	StartExplain(q ExplainRequest) (id string, err error)
	Explanation(id string) ([]byte, bool)
	CancelExplain(id string) bool
}

// RunningConfig is the configuration in force, as the file has it.
type RunningConfig struct {
	YAML    string `json:"yaml"`
	Hash    string `json:"hash"` // of the file
	Path    string `json:"path"` // "" without a file
	Config  string `json:"config"`
	Changed bool   `json:"changed"` // the file is another by now
}

// ConfigChange is one value that differs; "" is not set.
type ConfigChange struct {
	Path string `json:"path"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// ConfigError is a configuration, or a wish about it, that cannot be followed. It
// is for the caller, with the status of the answer.
type ConfigError struct {
	Status int
	Text   string
}

func (e *ConfigError) Error() string { return e.Text }

const (
	maxConfigBody = 2 << 20 // of a request: a configuration has at most a MiB
	maxConfigText = 1 << 20
)

// bodyLimit is how large the body of a request to path may be.
func bodyLimit(path string) int64 {
	if path == "/api/v1/backtests" || strings.HasPrefix(path, "/api/v1/config/") {
		return maxConfigBody
	}
	if path == bulkPath {
		return maxBulkBody
	}
	return maxBody
}

// tuned makes a handler of f, which is not there while nothing can be tuned.
func (c *console) tuned(f func(w http.ResponseWriter, r *http.Request, who *caller) error) handler {
	return func(w http.ResponseWriter, r *http.Request, who *caller) {
		err := error(&problem{Status: http.StatusNotFound, Detail: "this weir does not detect: there is nothing to tune"})
		if c.Tuning != nil {
			err = f(w, r, who)
		}
		if wrong, ok := errors.AsType[*ConfigError](err); ok {
			err = &problem{Status: wrong.Status, Detail: wrong.Text}
		}
		if err != nil {
			c.refuseFor(w, r, err)
		}
	}
}

func (c *console) showConfig(w http.ResponseWriter, r *http.Request, _ *caller) error {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return err
	}
	now, err := c.Tuning.Config()
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, now)
	return nil
}

// diffConfig answers {"changes":[...]}.
func (c *console) diffConfig(w http.ResponseWriter, r *http.Request, _ *caller) error {
	var q struct {
		YAML string `json:"yaml"`
	}
	if err := readConfigBody(r, &q, &q.YAML); err != nil {
		return err
	}
	changes, err := c.Tuning.Diff(q.YAML)
	if err != nil {
		return err
	}
	if changes == nil {
		changes = []ConfigChange{}
	}
	answer(w, http.StatusOK, map[string]any{"changes": changes})
	return nil
}

// applyConfig answers with the configuration and what is left for a restart. The
// audit has the change before it is made.
func (c *console) applyConfig(w http.ResponseWriter, r *http.Request, who *caller) error {
	var q struct {
		YAML     string `json:"yaml"`
		Backtest string `json:"backtest,omitempty"`
		IfHash   string `json:"if_hash,omitempty"`
	}
	if err := readConfigBody(r, &q, &q.YAML); err != nil {
		return err
	}
	if len(q.Backtest) > maxAlert || len(q.IfHash) > 128 {
		return &problem{Status: http.StatusBadRequest, Detail: "backtest and if_hash are shorter than that"}
	}
	e := c.entry(w, r, who, "config.apply", &AuditTarget{Kind: "config", IDs: []string{}}, "")
	now, restart, err := c.Tuning.Apply(r.Context(), q.YAML, q.IfHash, func(changes []ConfigChange, before, after string) error {
		e.Outcome = "success"
		e.Before = map[string]any{"hash": before}
		e.After = map[string]any{"hash": after, "changes": changes, "backtest": q.Backtest}
		return c.record(r.Context(), e)
	})
	if err != nil {
		if e.Outcome != "" { // the audit says that it was done
			e.Outcome, e.Reason, e.Time = "failure", err.Error(), pipeline.TimeOf(time.Now())
			err = errors.Join(err, c.record(r.Context(), e))
		}
		return err
	}
	answer(w, http.StatusOK, map[string]any{"config": now, "restart": restart})
	return nil
}

// bodyWindow reads since and until of a body; "" is open, 0.
func bodyWindow(since, until string) (from, to pipeline.Time, err error) {
	var times [2]pipeline.Time
	for i, s := range []string{since, until} {
		if s == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, s)
		if err != nil || pipeline.TimeOf(t) <= 0 {
			return 0, 0, &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%s: %s is no time like 2026-11-22T03:00:00Z", [2]string{"since", "until"}[i], quote(s))}
		}
		times[i] = pipeline.TimeOf(t)
	}
	if times[0] != 0 && times[1] != 0 && times[1] < times[0] {
		return 0, 0, &problem{Status: http.StatusBadRequest, Detail: "until is before since"}
	}
	return times[0], times[1], nil
}

// startBacktest answers 202 {"id"}.
func (c *console) startBacktest(w http.ResponseWriter, r *http.Request, who *caller) error {
	var q struct {
		Config string `json:"config"`
		Since  string `json:"since,omitempty"`
		Until  string `json:"until,omitempty"`
	}
	if err := readConfigBody(r, &q, &q.Config); err != nil {
		return err
	}
	since, until, err := bodyWindow(q.Since, q.Until)
	if err != nil {
		return err
	}
	changes, err := c.Tuning.Diff(q.Config)
	if err != nil {
		return err
	}
	e := c.entry(w, r, who, "backtest.start", &AuditTarget{Kind: "config", IDs: []string{}}, "")
	e.Outcome, e.After = "success", map[string]any{"changes": changes}
	if err := c.record(r.Context(), e); err != nil {
		return err
	}
	id, err := c.Tuning.StartBacktest(q.Config, since, until)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/api/v1/backtests/"+id)
	answer(w, http.StatusAccepted, map[string]string{"id": id})
	return nil
}

func (c *console) showBacktest(w http.ResponseWriter, r *http.Request, _ *caller) error {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return err
	}
	body, ok := c.Tuning.Backtest(r.PathValue("id"))
	if !ok {
		return &problem{Status: http.StatusNotFound, Detail: "no backtest has this id, or it was long ago"}
	}
	write(w, http.StatusOK, "application/json", appendPrintable(nil, append(body, '\n')))
	return nil
}

func (c *console) cancelBacktest(w http.ResponseWriter, r *http.Request, who *caller) error {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return err
	}
	if _, known := c.Tuning.Backtest(r.PathValue("id")); known {
		e := c.entry(w, r, who, "backtest.cancel", &AuditTarget{Kind: "backtest", IDs: []string{r.PathValue("id")}}, "")
		e.Outcome = "success"
		if err := c.record(r.Context(), e); err != nil {
			return err
		}
	}
	if !c.Tuning.CancelBacktest(r.PathValue("id")) {
		return &problem{Status: http.StatusNotFound, Detail: "no backtest has this id, or it was long ago"}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readConfigBody reads a body whose member text is a configuration.
func readConfigBody(r *http.Request, q any, text *string) error {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return err
	}
	if err := readBody(r, q); err != nil {
		return err
	}
	if len(*text) > maxConfigText {
		return &problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("a configuration has at most %d bytes", maxConfigText)}
	}
	return nil
}
