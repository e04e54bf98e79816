package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weir/console"
)

// keptExplained is how many explanations are remembered, waitingExplained how many
// may wait for their turn: one is made at a time.
const keptExplained, waitingExplained = 50, 8

// explainJob is one explanation that the console asked for.
type explainJob struct {
	apartJob
	answer json.RawMessage
}

// explainView is an explanation as the API shows it.
type explainView struct {
	ID     string          `json:"id"`
	State  string          `json:"state"`
	Error  string          `json:"error"`
	Answer json.RawMessage `json:"answer"` // null until it is done
}

// StartExplain starts an explanation, or lets it wait for those before it.
func (t *tuning) StartExplain(q console.ExplainRequest) (string, error) {
	args, stdin, err := t.explainArgs(q)
	if err != nil {
		return "", refusedConfig(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := 0
	for _, j := range t.explained {
		if j.is("waiting") {
			waiting++
		}
	}
	if waiting >= waitingExplained {
		return "", &console.ConfigError{Status: http.StatusConflict, Text: fmt.Sprintf("%d explanations wait for their turn; try again later", waiting)}
	}
	ctx, cancel := context.WithCancel(t.stop)
	j := &explainJob{apartJob: newApartJob("waiting", cancel)}
	t.explained = append(t.explained, j)
	t.explained = slices.Clone(t.explained[max(0, len(t.explained)-keptExplained):])
	running := t.running
	go func() {
		defer close(j.done)
		defer cancel()
		answer, err := t.explain(ctx, j, running, args, stdin)
		j.finish(ctx, answer, err)
	}()
	return j.id, nil
}

// explainArgs are the arguments of the process that explains q, and what it reads. No
// account's name is among the arguments, which others on the machine may see.
func (t *tuning) explainArgs(q console.ExplainRequest) (args []string, stdin string, err error) {
	switch {
	case q.Line != "":
		return []string{"--store", t.s.cfg.Store.Path, "-"}, q.Line + "\n", nil
	case q.Alert != "":
		return []string{"--alert", q.Alert, "--events", "--store", t.s.cfg.Store.Path}, "", nil
	}
	p := &replay{cfg: t.s.cfg, keys: t.s.keys}
	who, err := p.principal(q.Client)
	if err != nil {
		return nil, "", errors.New(strings.TrimPrefix(err.Error(), "--"))
	}
	args = []string{"--client", who.Kind.String() + ":" + who.Value, "--store", t.s.cfg.Store.Path}
	if q.Since != 0 {
		args = append(args, "--since", q.Since.Std().Format(time.RFC3339Nano))
	}
	if q.Until != 0 {
		args = append(args, "--until", q.Until.Std().Format(time.RFC3339Nano))
	}
	return args, "", nil
}

// explain waits for its turn, and then runs the process.
func (t *tuning) explain(ctx context.Context, j *explainJob, running string, args []string, stdin string) ([]byte, error) {
	select {
	case t.explaining <- struct{}{}:
		defer func() { <-t.explaining }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	j.mu.Lock()
	j.state = "running"
	j.mu.Unlock()
	dir, err := os.MkdirTemp("", "weir-explain-")
	if err != nil {
		return nil, fmt.Errorf("start the explanation: %w", err)
	}
	defer os.RemoveAll(dir)
	config := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(config, []byte(running), 0o600); err != nil {
		return nil, fmt.Errorf("start the explanation: %w", err)
	}
	all := append([]string{"explain", "--output", "json", "-c", config}, args...)
	return runApart(ctx, all, strings.NewReader(stdin), func(lines *bufio.Scanner) string {
		var said []string
		for lines.Scan() && len(said) < 20 {
			said = append(said, lines.Text())
		}
		return strings.TrimPrefix(strings.Join(said, "\n"), "weir explain: ")
	})
}

func (j *explainJob) finish(ctx context.Context, answer []byte, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.answer = bytes.TrimSpace(answer)
	}
	j.apartJob.finish(ctx, err)
}

// Explanation returns an explanation as JSON.
func (t *tuning) Explanation(id string) ([]byte, bool) {
	j, ok := jobOf(t, &t.explained, id)
	if !ok {
		return nil, false
	}
	j.mu.Lock()
	v := explainView{j.id, j.state, j.text, j.answer}
	j.mu.Unlock()
	body, err := json.Marshal(v)
	return body, err == nil
}

// CancelExplain ends an explanation and waits until its process is gone.
func (t *tuning) CancelExplain(id string) bool { return cancelJob(t, &t.explained, id) }
