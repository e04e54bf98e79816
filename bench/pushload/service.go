package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// weir is the process under test, over several lives.
type weir struct {
	program string
	args    []string

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{}
	push    string // where lines are pushed to, "" while it does not listen
	http    string
	samples []sample
	last    []byte // of what it wrote
}

// sample is the resident memory at a moment.
type sample struct {
	life    int
	at      time.Time
	rss     int64 // bytes
	pending int64 // records that wait for detection
	taken   int64 // bodies acknowledged since the start
	later   int64 // answers to come again, since the start
}

// start runs the process and returns once it takes lines.
func (w *weir) start() error {
	cmd := exec.Command(w.program, w.args...)
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.mu.Lock()
	w.cmd, w.ended, w.push, w.http = cmd, make(chan struct{}), "", ""
	ended := w.ended
	w.mu.Unlock()
	listening := make(chan struct{})
	go w.read(cmd, out, ended, listening)
	select {
	case <-listening:
		return nil
	case <-ended:
		return fmt.Errorf("weir ended before it listened:\n%s", w.last)
	case <-time.After(time.Minute):
		return errors.New("weir did not listen within a minute")
	}
}

// read takes what the process writes, until it ends.
func (w *weir) read(cmd *exec.Cmd, out io.Reader, ended, listening chan struct{}) {
	push, served := regexp.MustCompile(`"push": "([^"]+)"`), regexp.MustCompile(`"http": "([^"]+)"`)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	told := false
	for lines.Scan() {
		w.mu.Lock()
		if m := push.FindSubmatch(lines.Bytes()); m != nil {
			w.push = string(m[1])
		}
		if m := served.FindSubmatch(lines.Bytes()); m != nil {
			w.http = string(m[1])
		}
		w.last = append(append(w.last, lines.Bytes()...), '\n')
		w.last = w.last[max(0, len(w.last)-8192):]
		if !told && w.push != "" && w.http != "" {
			told = true
			close(listening)
		}
		w.mu.Unlock()
	}
	_ = cmd.Wait()
	close(ended)
}

// where is the address to push to.
func (w *weir) where() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.push
}

// kill ends the process as a power cut would, as far as it can tell.
func (w *weir) kill() {
	_ = w.cmd.Process.Kill()
	<-w.ended
	w.mu.Lock()
	w.push = ""
	w.mu.Unlock()
}

// stop asks the process to end; again it does nothing.
func (w *weir) stop() error {
	select {
	case <-w.ended:
		return nil
	default:
	}
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.ended:
		return nil
	case <-time.After(30 * time.Second):
		w.kill()
		return errors.New("weir did not stop within 30 s")
	}
}

// metric reads a metric without labels, or the sum of one with labels; -1
// without an answer.
func (w *weir) metric(name string) float64 {
	w.mu.Lock()
	base := w.http
	w.mu.Unlock()
	if base == "" {
		return -1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return -1
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	sum, found := 0.0, false
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, ok := bytes.CutPrefix(lines.Bytes(), []byte(name))
		if !ok || len(rest) == 0 || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(string(rest[bytes.LastIndexByte(rest, ' ')+1:]), 64)
		if err == nil {
			sum, found = sum+v, true
		}
	}
	if !found {
		return -1
	}
	return sum
}

// caughtUp waits until detection has dealt with all that is stored.
func (w *weir) caughtUp(patience time.Duration) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if w.metric("weir_detect_lag_records") == 0 {
			return nil
		}
	}
	return fmt.Errorf("detection is %v records behind after %s", w.metric("weir_detect_lag_records"), patience)
}

// sample notes the resident memory, and how many bodies were answered 200 and
// 429 so far.
func (w *weir) sample(life int, taken, later int64) {
	w.mu.Lock()
	pid := w.cmd.Process.Pid
	w.mu.Unlock()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return
	}
	fields := bytes.Fields(data)
	if len(fields) < 2 {
		return
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil || pages == 0 {
		return
	}
	s := sample{life: life, at: time.Now(), rss: pages * int64(os.Getpagesize()), taken: taken, later: later}
	s.pending = int64(w.metric("weir_detect_lag_records"))
	w.mu.Lock()
	w.samples = append(w.samples, s)
	w.mu.Unlock()
}

// memory prints the samples, and of each life the range and the slope behind
// its first third: what a process takes when it starts is no growth.
func (w *weir) memory(out io.Writer) error {
	const mb = 1 << 20
	if len(w.samples) == 0 {
		return errors.New("no sample of the memory was taken")
	}
	all := make([]int64, 0, len(w.samples))
	for from := 0; from < len(w.samples); {
		to := from
		for to < len(w.samples) && w.samples[to].life == w.samples[from].life {
			all = append(all, w.samples[to].rss)
			to++
		}
		life := w.samples[from:to]
		fmt.Fprintf(out, "life %d, RSS in MB each second (records that wait, bodies answered 200, 429):", life[0].life+1)
		for i, s := range life {
			before := s
			if i+from > 0 {
				before = w.samples[i+from-1]
			}
			fmt.Fprintf(out, " %d(%d,%d,%d)", s.rss/mb, s.pending, s.taken-before.taken, s.later-before.later)
		}
		fmt.Fprintf(out, "; slope %.2f MB/s behind the first third\n", slope(life[len(life)/3:])/mb)
		from = to
	}
	slices.Sort(all)
	_, err := fmt.Fprintf(out, "RSS min %d MB, median %d MB, max %d MB over %d samples\n", all[0]/mb, all[len(all)/2]/mb, all[len(all)-1]/mb, len(all))
	return err
}

// slope is the least-squares slope in bytes a second.
func slope(s []sample) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, v := range s {
		x, y := v.at.Sub(s[0].at).Seconds(), float64(v.rss)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; cmp.Compare(d, 0) > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
