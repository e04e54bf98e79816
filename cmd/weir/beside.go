package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// maxBesideOutput bounds what is read of a process.
const maxBesideOutput = 64 << 20

// runBeside runs weir once more beside this one, with args: a process of low priority,
// one thread and little memory, which is the first to go when that runs out. It returns
// what the process printed; progress is told of the numbers from 0 to 1 that it writes
// to stderr, a line each. What else it writes there is the error if it fails.
func runBeside(ctx context.Context, args []string, progress func(share float64)) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find weir itself: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Args[0] = "weir"
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=50")
	cmd.WaitDelay = 5 * time.Second
	out := limitedBuffer{of: args[0]}
	cmd.Stdout = &out
	errs, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start weir %s: %w", args[0], err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start weir %s: %w", args[0], err)
	}
	beNice(cmd.Process.Pid)
	said := followProgress(errs, progress)
	if err := cmd.Wait(); err != nil {
		if said == "" {
			said = err.Error()
		}
		return nil, errors.New(strings.TrimPrefix(said, "weir "+args[0]+": "))
	}
	return out.b.Bytes(), nil
}

// followProgress takes lines of progress, and returns what else was said.
func followProgress(r io.Reader, progress func(share float64)) string {
	var said []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if share, err := strconv.ParseFloat(lines.Text(), 64); err == nil {
			progress(share)
		} else if len(said) < 20 {
			said = append(said, lines.Text())
		}
	}
	_, _ = io.Copy(io.Discard, r) // after a line that is too long, so that it can go on
	return strings.Join(said, "\n")
}

// spanFlags are --since and --until; 0 is open.
func spanFlags(since, until pipeline.Time) (args []string) {
	if since != 0 {
		args = append(args, "--since", since.Std().Format(time.RFC3339))
	}
	if until != 0 {
		args = append(args, "--until", until.Std().Format(time.RFC3339))
	}
	return args
}

// limitedBuffer keeps so much and no more.
type limitedBuffer struct {
	of string
	b  bytes.Buffer
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > maxBesideOutput {
		return 0, fmt.Errorf("the %s says too much", l.of)
	}
	return l.b.Write(p)
}
