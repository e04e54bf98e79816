package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// runApart runs weir with args as a process of its own, with a low priority, one
// thread and a small heap, until it ends or ctx does, and returns what it printed.
// said reads what it says on stderr to the end; what it returns is the error when
// the process fails.
func runApart(ctx context.Context, args []string, stdin io.Reader, said func(*bufio.Scanner) string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find weir itself: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Args[0] = "weir"
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=50")
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = stdin
	var out limitedBuffer
	cmd.Stdout = &out
	errs, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start weir %s: %w", args[0], err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start weir %s: %w", args[0], err)
	}
	beNice(cmd.Process.Pid)
	why := said(bufio.NewScanner(errs))
	if err := cmd.Wait(); err != nil {
		if why == "" {
			why = err.Error()
		}
		return nil, errors.New(why)
	}
	return out.b.Bytes(), nil
}

// apartJob is work in a process of its own that is asked after until it is over.
type apartJob struct {
	id     string
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex // of what follows, and of what the job came to
	state string     // waiting, running, done, failed, cancelled
	text  string     // of the error
}

func newApartJob(state string, cancel context.CancelFunc) apartJob {
	return apartJob{id: strings.ToLower(rand.Text()[:12]), cancel: cancel, done: make(chan struct{}), state: state}
}

// named returns itself: jobs that hold one are looked up by it.
func (j *apartJob) named() *apartJob { return j }

func (j *apartJob) is(state string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state == state
}

// finish says how the job ended; mu is held.
func (j *apartJob) finish(ctx context.Context, err error) {
	switch {
	case err == nil:
		j.state = "done"
	case ctx.Err() != nil:
		j.state, j.text = "cancelled", "it was cancelled"
	default:
		j.state, j.text = "failed", err.Error()
	}
}

// jobOf returns the job with an id; ok is false when there is none.
func jobOf[J interface{ named() *apartJob }](t *tuning, list *[]J, id string) (job J, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(*list, func(j J) bool { return j.named().id == id })
	if i < 0 {
		return job, false
	}
	return (*list)[i], true
}

// cancelJob ends a job and waits until its process is gone.
func cancelJob[J interface{ named() *apartJob }](t *tuning, list *[]J, id string) bool {
	j, ok := jobOf(t, list, id)
	if ok {
		j.named().cancel()
		<-j.named().done
	}
	return ok
}
