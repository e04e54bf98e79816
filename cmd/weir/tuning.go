package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"weir/console"
	"weir/pipeline"
)

// tuning tries configurations on the stored requests and applies them, for the
// console. A backtest is a process of its own, with a low priority, little memory
// and one thread: detection goes on beside it, and when the machine runs out of
// memory it is the first to go.
type tuning struct {
	s    *service
	stop context.Context // ends with the service

	mu      sync.Mutex
	running string // the configuration in force, as the file had it
	config  string // its hash in alerts
	jobs    []*backtestJob

	explained  []*explainJob
	explaining chan struct{} // one element for the one that is being made

	applying sync.Mutex // one at a time
}

// keptJobs is how many backtests are remembered.
const keptJobs = 10

// apiListed bounds the lists of an answer; the totals are whole.
const apiListed = 1000

// newTuning returns what tunes s, which was started with the file at path; stop ends
// what it runs.
func newTuning(stop context.Context, s *service) *tuning {
	return &tuning{s: s, stop: stop, running: string(s.text), config: s.cfg.hash(), explaining: make(chan struct{}, 1)}
}

func hashOfText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:16])
}

func (t *tuning) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running
}

func (t *tuning) configHash() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.config
}

// applied notes that text is in force.
func (t *tuning) applied(text, config string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running, t.config = text, config
}

// Config returns the running configuration, without secrets.
func (t *tuning) Config() (console.RunningConfig, error) {
	text := t.text()
	shown, err := hideSecrets(text)
	if err != nil {
		return console.RunningConfig{}, &console.ConfigError{Status: http.StatusUnprocessableEntity, Text: err.Error()}
	}
	c := console.RunningConfig{YAML: shown, Hash: hashOfText(text), Path: t.s.path, Config: t.configHash()}
	if t.s.path != "" {
		now, err := os.ReadFile(t.s.path)
		c.Changed = err != nil || string(now) != text
	}
	return c, nil
}

// Diff returns what differs between the running configuration and text.
func (t *tuning) Diff(text string) ([]console.ConfigChange, error) {
	full, err := t.whole(text)
	if err != nil {
		return nil, err
	}
	return t.changes(full)
}

func (t *tuning) changes(full string) ([]console.ConfigChange, error) {
	list, err := diffConfigs([]byte(t.text()), []byte(full))
	if err != nil {
		return nil, refusedConfig(err)
	}
	out := make([]console.ConfigChange, len(list))
	for i, c := range list {
		out[i] = console.ConfigChange(c)
	}
	return out, nil
}

func refusedConfig(err error) error {
	return &console.ConfigError{Status: http.StatusUnprocessableEntity, Text: err.Error()}
}

var environment = regexp.MustCompile(`\$\{[^}\n]*\}`)

// whole is text with its secrets, once it is known to be a configuration. What a
// text over the API may not do is to show more of this machine than its sender
// sees: it names no variable of the environment that the running one does not.
func (t *tuning) whole(text string) (string, error) {
	running := t.text()
	full, err := restoreSecrets(text, running)
	if err != nil {
		return "", refusedConfig(err)
	}
	had := environment.FindAllString(running, -1)
	for _, name := range environment.FindAllString(full, -1) {
		if !slices.Contains(had, name) {
			return "", refusedConfig(fmt.Errorf("%s is not in the running configuration; what comes from the environment is written into the file itself", name))
		}
	}
	if _, err := parseConfig([]byte(full)); err != nil {
		return "", refusedConfig(err)
	}
	return full, nil
}

// tryable refuses what a backtest cannot try, or should not read on somebody's
// word.
func tryable(changes []console.ConfigChange) error {
	for _, c := range changes {
		if root, _, _ := strings.Cut(c.Path, "."); root == "context" || root == "privacy" {
			return refusedConfig(fmt.Errorf("%s: files that the configuration names are not read on trial; use weir backtest on the machine", c.Path))
		}
	}
	return nil
}

// wish is a configuration that somebody wants to be applied.
type wish struct {
	full, running string // texts with their secrets
	changes       []console.ConfigChange
}

// wish reads one, and refuses what was begun with another than the running one.
func (t *tuning) wish(text, hash string) (w wish, err error) {
	if w.full, err = t.whole(text); err != nil {
		return w, err
	}
	if w.changes, err = t.changes(w.full); err != nil {
		return w, err
	}
	w.running = t.text()
	switch {
	case t.s.path == "":
		return w, refusedConfig(errors.New("weir was started without -c: there is no file to write"))
	case hash != "" && hash != hashOfText(w.running):
		return w, &console.ConfigError{Status: http.StatusConflict, Text: "somebody else applied a configuration meanwhile; read it again"}
	}
	if disk, err := os.ReadFile(t.s.path); err != nil || string(disk) != w.running {
		return w, &console.ConfigError{Status: http.StatusConflict, Text: "the file was changed by hand since weir read it; apply that first"}
	}
	return w, nil
}

// Apply writes text over the configuration's file, after a copy of what it was.
func (t *tuning) Apply(ctx context.Context, text, hash string, audit func([]console.ConfigChange, string, string) error) (now console.RunningConfig, restart string, err error) {
	t.applying.Lock()
	defer t.applying.Unlock()
	w, err := t.wish(text, hash)
	if err != nil {
		return now, "", err
	}
	if len(w.changes) == 0 && w.full == w.running {
		return now, "", refusedConfig(errors.New("it is the running configuration: there is nothing to apply"))
	}
	if err := audit(w.changes, hashOfText(w.running), hashOfText(w.full)); err != nil {
		return now, "", err
	}
	if err := replaceFile(t.s.path, w.full, true); err != nil {
		return now, "", refusedConfig(err)
	}
	return t.reload(ctx, w.running)
}

// reload makes the file's new text the one in force; when that cannot be, the file is
// as before again.
func (t *tuning) reload(ctx context.Context, before string) (now console.RunningConfig, restart string, err error) {
	if t.s.reloads == nil {
		now, err = t.Config()
		return now, "the file is written; weir reads it at its next start", err
	}
	waits, err := t.s.reloads.ask(ctx)
	if err != nil {
		return now, "", errors.Join(refusedConfig(fmt.Errorf("the old one stays in force: %w", err)), replaceFile(t.s.path, before, false))
	}
	if len(waits) > 0 {
		restart = "in force but for what takes a restart: " + strings.Join(waits, ", ")
	}
	now, err = t.Config()
	return now, restart, err
}

// replaceFile writes text to path in one step, and before that what was there to
// path.bak, if it is to be kept.
func replaceFile(path, text string, keep bool) error {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if keep {
		old, err := os.ReadFile(path)
		if err == nil {
			err = writeWhole(path+".bak", old, st.Mode().Perm())
		}
		if err != nil {
			return fmt.Errorf("keep the configuration that was: %w", err)
		}
	}
	if err := writeWhole(path, []byte(text), st.Mode().Perm()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// writeWhole writes a file so that it is either as before or whole.
func writeWhole(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// backtestJob is one backtest.
type backtestJob struct {
	apartJob
	progress float64
	result   *backtestResult
}

// backtestView is a job as the API shows it.
type backtestView struct {
	ID       string  `json:"id"`
	State    string  `json:"state"`
	Progress float64 `json:"progress"`
	Error    string  `json:"error"`
	*backtestResult
}

// StartBacktest starts one, unless another runs.
func (t *tuning) StartBacktest(text string, since, until pipeline.Time) (string, error) {
	full, err := t.whole(text)
	if err != nil {
		return "", err
	}
	changes, err := t.changes(full)
	if err != nil {
		return "", err
	}
	if err := tryable(changes); err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, j := range t.jobs {
		if j.is("running") {
			return "", &console.ConfigError{Status: http.StatusConflict, Text: "backtest " + j.id + " runs; wait for it or cancel it"}
		}
	}
	dir, err := os.MkdirTemp("", "weir-backtest-")
	if err != nil {
		return "", fmt.Errorf("start the backtest: %w", err)
	}
	ctx, cancel := context.WithCancel(t.stop)
	j := &backtestJob{apartJob: newApartJob("running", cancel)}
	t.jobs = append(t.jobs, j)
	t.jobs = slices.Clone(t.jobs[max(0, len(t.jobs)-keptJobs):])
	running := t.running
	go func() {
		defer close(j.done)
		defer cancel()
		defer func() { _ = os.RemoveAll(dir) }()
		j.finish(ctx, j.run(ctx, dir, running, full, t.s.cfg.Store.Path, since, until))
	}()
	return j.id, nil
}

// Backtest returns a job as JSON.
func (t *tuning) Backtest(id string) ([]byte, bool) {
	j, ok := jobOf(t, &t.jobs, id)
	if !ok {
		return nil, false
	}
	j.mu.Lock()
	v := backtestView{j.id, j.state, j.progress, j.text, j.result}
	j.mu.Unlock()
	body, err := json.Marshal(v)
	return body, err == nil
}

// CancelBacktest ends a job and waits until its process is gone.
func (t *tuning) CancelBacktest(id string) bool { return cancelJob(t, &t.jobs, id) }

func (j *backtestJob) finish(ctx context.Context, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.progress = 1
	}
	j.apartJob.finish(ctx, err)
}

// maxBacktestResult bounds what is read of a process.
const maxBacktestResult = 64 << 20

// run starts the process and reads what it says.
func (j *backtestJob) run(ctx context.Context, dir, old, now, store string, since, until pipeline.Time) error {
	files := [2]string{filepath.Join(dir, "old.yaml"), filepath.Join(dir, "new.yaml")}
	for i, text := range []string{old, now} {
		if err := os.WriteFile(files[i], []byte(text), 0o600); err != nil {
			return fmt.Errorf("start the backtest: %w", err)
		}
	}
	args := []string{"backtest", "--against", files[0], "-c", files[1], "--store", store, "--output", "json", "--list", strconv.Itoa(apiListed), "--workers", "1", "--pseudonyms", "--plain-progress"}
	for _, f := range []struct {
		flag string
		t    pipeline.Time
	}{{"--since", since}, {"--until", until}} {
		if f.t != 0 {
			args = append(args, f.flag, f.t.Std().Format(time.RFC3339))
		}
	}
	out, err := runApart(ctx, args, nil, func(lines *bufio.Scanner) string {
		return strings.TrimPrefix(j.follow(lines), "weir backtest: ")
	})
	if err != nil {
		return err
	}
	var r backtestResult
	if err := json.Unmarshal(out, &r); err != nil {
		return fmt.Errorf("read what the backtest said: %w", err)
	}
	r.Sides = both[string]{"what weir runs with", "the text on trial"}
	j.mu.Lock()
	j.result = &r
	j.mu.Unlock()
	return nil
}

// follow takes lines of progress, and returns what else was said.
func (j *backtestJob) follow(lines *bufio.Scanner) string {
	var said []string
	for lines.Scan() {
		if share, err := strconv.ParseFloat(lines.Text(), 64); err == nil {
			j.mu.Lock()
			j.progress = min(max(share, j.progress), 1)
			j.mu.Unlock()
		} else if len(said) < 20 {
			said = append(said, lines.Text())
		}
	}
	return strings.Join(said, "\n")
}

// limitedBuffer keeps so much and no more.
type limitedBuffer struct{ b bytes.Buffer }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > maxBacktestResult {
		return 0, errors.New("the backtest says too much")
	}
	return l.b.Write(p)
}
