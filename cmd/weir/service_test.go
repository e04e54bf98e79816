package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemon is a weir run of a test.
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	log  *safeBuffer
}

// safeBuffer takes what a process writes while a test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startDaemon starts a process that the test's end kills if nothing else did.
func startDaemon(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: weirCommand(t, args...), done: make(chan struct{}), log: &safeBuffer{}}
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.done)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.done
		if text := d.log.String(); strings.Contains(text, "goroutine ") {
			t.Errorf("weir run crashed:\n%s", text)
		}
	})
	return d
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if d.ended() {
		t.Fatalf("weir run ended by itself:\n%s", d.log)
	}
	_ = d.cmd.Process.Kill()
	<-d.done
}

// stop asks the process to end, and fails when it does not do so in time and
// with 0.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%v\n%s", err, d.log)
	}
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		t.Fatalf("weir run did not end within 10 s of SIGTERM:\n%s", d.log)
	}
	if code := d.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Fatalf("exit %d after SIGTERM, want 0:\n%s", code, d.log)
	}
}

var addressInLog = regexp.MustCompile(`"http": "(http://[^"]+)"`)

// url is where the process serves, "" while it does not.
func (d *daemon) url() string {
	if m := addressInLog.FindStringSubmatch(d.log.String()); m != nil {
		return m[1]
	}
	return ""
}

// waitReady waits until the process serves.
func (d *daemon) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, "weir run serves", d, func() bool { return d.url() != "" })
}

// get returns an answer: status 0 when there is none.
func (d *daemon) get(path string) (status int, header http.Header, body string) {
	base := d.url()
	if base == "" {
		return 0, nil, ""
	}
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(base + path)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	return resp.StatusCode, resp.Header, string(b)
}

// metric is the value of a metric without labels, or the sum over its labels;
// -1 while it cannot be read.
func (d *daemon) metric(name string) float64 {
	_, _, body := d.get("/metrics")
	sum, found := 0.0, false
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err == nil {
			sum, found = sum+v, true
		}
	}
	if !found {
		return -1
	}
	return sum
}

// hasRead reports whether this or an earlier process has stored a line.
func (d *daemon) hasRead() bool {
	return d.metric("weir_log_position") > 1 && d.metric("weir_lines_total") > 0
}

// patience is how long a test waits for what must come.
const patience = 40 * time.Second

// eventually polls until ok, and fails with the daemon's log when it does not
// come or the process ends.
func eventually(t *testing.T, what string, d *daemon, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if d.ended() {
			t.Fatalf("weir run ended before %s:\n%s", what, d.log)
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s\n%s", patience, what, d.log)
		}
		<-tick.C
	}
}

var _ = errors.New
var _ = fmt.Sprint
var _ = json.Marshal
var _ = os.Args
