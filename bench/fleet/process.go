package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// process is one of the fleet.
type process struct {
	role string
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
}

// logBuffer keeps what a process writes.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func countLines(path string) (n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for {
		k, err := f.Read(buf)
		n += int64(bytes.Count(buf[:k], []byte("\n")))
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// cpuOf is the CPU time of a process so far.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64) // 0 where it is no number
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

func micros(d time.Duration, lines int64) float64 {
	return float64(d.Microseconds()) / float64(max(1, lines))
}

// sizeOf is how many bytes a topic's segments have on all brokers.
func sizeOf(dir, topic string) (n int64) {
	partitions, _ := filepath.Glob(filepath.Join(dir, "*", "data", topic+"-*", "*.log")) // the pattern is right
	name := regexp.MustCompile(regexp.QuoteMeta(topic) + `-\d+$`)
	for _, file := range partitions {
		if st, err := os.Stat(file); err == nil && name.MatchString(filepath.Dir(file)) {
			n += st.Size()
		}
	}
	return n
}
