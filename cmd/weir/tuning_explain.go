package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"weir/console"
	"weir/pipeline"
)

// Limits of what is explained: so many wait for their turn, as answers are made one at
// a time; and answers are kept so long, and so many.
const (
	explainWaiting = 8
	explainKept    = 10 * time.Minute
	explainJobs    = 32
)

// explainKey is what makes two questions the same.
type explainKey struct {
	who          pipeline.Principal
	since, until pipeline.Time
}

// explainJob is one question: why a client alerted or did not.
type explainJob struct {
	key explainKey

	mu       sync.Mutex
	state    string // waiting, running, done, failed
	progress float64
	text     string // of the error
	result   json.RawMessage
	ended    time.Time
}

// explainView is a job as the API shows it.
type explainView struct {
	State    string             `json:"state"`
	Progress float64            `json:"progress"`
	Error    string             `json:"error"`
	Client   pipeline.Principal `json:"client"`
}

// Explain starts a job, or tells how far it is.
func (t *tuning) Explain(who pipeline.Principal, since, until pipeline.Time) ([]byte, error) {
	key := explainKey{who, since, until}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.explained = slices.DeleteFunc(t.explained, func(j *explainJob) bool { return j.over(now.Add(-explainKept)) })
	waits := 0
	for _, j := range t.explained {
		if j.key == key {
			return j.view()
		}
		if !j.over(now) {
			waits++
		}
	}
	if waits >= explainWaiting {
		return nil, &console.ConfigError{Status: http.StatusTooManyRequests, Text: fmt.Sprintf("%d other clients are being explained", waits)}
	}
	if i := slices.IndexFunc(t.explained, func(j *explainJob) bool { return j.over(now) }); i >= 0 && len(t.explained) >= explainJobs {
		t.explained = slices.Delete(t.explained, i, i+1)
	}
	j := &explainJob{key: key, state: "waiting"}
	t.explained = append(t.explained, j)
	go t.explain(j, t.running)
	return j.view()
}

// explain answers j when it is its turn.
func (t *tuning) explain(j *explainJob, running string) {
	select {
	case t.explaining <- struct{}{}:
		defer func() { <-t.explaining }()
	case <-t.stop.Done():
		j.end(nil, t.stop.Err())
		return
	}
	j.tell("running", 0)
	j.end(j.run(t.stop, running, t.s.cfg.Store.Path))
}

// run starts the process that answers.
func (j *explainJob) run(ctx context.Context, config, store string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "weir-explain-")
	if err != nil {
		return nil, fmt.Errorf("start to explain: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("start to explain: %w", err)
	}
	client := j.key.who.Kind.String() + ":" + j.key.who.Value
	args := []string{"explain", "--client", client, "-c", file, "--store", store, "--output", "json", "--pseudonyms", "--plain-progress"}
	return runBeside(ctx, append(args, spanFlags(j.key.since, j.key.until)...), func(share float64) { j.tell("running", share) })
}

// tell notes how far it is: of several readings of the history each begins anew.
func (j *explainJob) tell(state string, progress float64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state, j.progress = state, min(max(progress, j.progress), 1)
}

func (j *explainJob) end(result []byte, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = time.Now()
	if err != nil {
		j.state, j.text = "failed", err.Error()
		return
	}
	j.state, j.progress, j.result = "done", 1, result
}

// over reports whether j had ended by then.
func (j *explainJob) over(then time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.ended.IsZero() && !j.ended.After(then)
}

// view is the JSON of j: with what it came to once that is there.
func (j *explainJob) view() ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var x explanation
	if j.result == nil {
		return json.Marshal(explainView{j.state, j.progress, j.text, j.key.who})
	}
	if err := json.Unmarshal(j.result, &x); err != nil {
		return nil, fmt.Errorf("read what explain said: %w", err)
	}
	return json.Marshal(struct {
		State    string  `json:"state"`
		Progress float64 `json:"progress"`
		Error    string  `json:"error"`
		explanation
	}{j.state, j.progress, j.text, x})
}
