package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
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
