// Splitter is the yardstick for speed: the least that any reader of a combined
// access log must do. On one core it reads the file with large reads, finds the
// seven fields of each line with bytes.IndexByte and counts the statuses.
//
//	go run ./bench/splitter access.log
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
)

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: splitter FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "splitter:", err)
		os.Exit(1)
	}
}

func run(path string, w io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	began := time.Now()
	c, err := count(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	seconds := time.Since(began).Seconds()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return fmt.Errorf("read resource usage: %w", err)
	}
	_, err = fmt.Fprintf(w, "lines %d\nrejected %d\nseconds %.3f\nlines/s %.0f\nMB/s %.1f\npeak_rss_MB %.1f\n2xx %d\n3xx %d\n4xx %d\n5xx %d\n",
		c.lines, c.rejected, seconds, float64(c.lines)/seconds, float64(c.bytes)/1e6/seconds, float64(u.Maxrss)/1024,
		c.class(2), c.class(3), c.class(4), c.class(5))
	return err
}

type counts struct {
	lines, rejected, bytes int64
	status                 [1000]int64
}

func (c *counts) class(n int) (sum int64) {
	for _, v := range c.status[n*100 : n*100+100] {
		sum += v
	}
	return sum
}

// fields is one split line; every slice points into the read buffer.
type fields struct {
	address, time, request, status, bytes, referer, agent []byte
}

// count reads lines of r to its end. A line longer than the buffer is rejected.
func count(r io.Reader) (*counts, error) {
	const size = 1 << 20
	c := new(counts)
	buf := make([]byte, size)
	kept, skipping := 0, false
	var f fields
	for {
		n, err := r.Read(buf[kept:])
		c.bytes += int64(n)
		data := buf[:kept+n]
		for {
			i := bytes.IndexByte(data, '\n')
			if i < 0 {
				break
			}
			if skipping {
				skipping = false
			} else {
				c.take(&f, data[:i])
			}
			data = data[i+1:]
		}
		if err != nil {
			if len(data) > 0 && !skipping {
				c.take(&f, data)
			}
			if errors.Is(err, io.EOF) {
				return c, nil
			}
			return c, err
		}
		if kept = copy(buf, data); kept == size {
			if !skipping {
				c.lines++
				c.rejected++
			}
			kept, skipping = 0, true
		}
	}
}

func (c *counts) take(f *fields, line []byte) {
	c.lines++
	if !split(f, line) || len(f.status) != 3 {
		c.rejected++
		return
	}
	s := 0
	for _, d := range f.status {
		if d < '0' || d > '9' {
			c.rejected++
			return
		}
		s = s*10 + int(d-'0')
	}
	c.status[s]++
}

// split finds the fields of a combined line.
func split(f *fields, line []byte) bool {
	var ok bool
	if f.address, line, ok = until(line, ' '); !ok {
		return false
	}
	if _, line, ok = until(line, '['); !ok {
		return false
	}
	if f.time, line, ok = until(line, ']'); !ok {
		return false
	}
	if _, line, ok = until(line, '"'); !ok {
		return false
	}
	if f.request, line, ok = until(line, '"'); !ok || len(line) == 0 {
		return false
	}
	if f.status, line, ok = until(line[1:], ' '); !ok {
		return false
	}
	if f.bytes, line, ok = until(line, ' '); !ok || len(line) == 0 {
		return false
	}
	if f.referer, line, ok = until(line[1:], '"'); !ok {
		return false
	}
	if _, line, ok = until(line, '"'); !ok {
		return false
	}
	f.agent, _, ok = until(line, '"')
	return ok
}

func until(b []byte, c byte) (head, rest []byte, ok bool) {
	i := bytes.IndexByte(b, c)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}
