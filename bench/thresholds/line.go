package main

import (
	"bytes"
	"strings"
	"time"
	"unsafe"

	"weir/bench/fixed"
	"weir/pipeline"
)

// parseLine reads a combined or common line.
func parseLine(e *fixed.Event, line []byte) bool {
	addr, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return false
	}
	if e.Address, ok = pipeline.ParseAddress(view(addr)); !ok {
		return false
	}
	if _, rest, ok = bytes.Cut(rest, []byte{'['}); !ok {
		return false
	}
	stamp, rest, ok := bytes.Cut(rest, []byte(`] "`))
	if !ok {
		return false
	}
	t, err := time.Parse("02/Jan/2006:15:04:05 -0700", view(stamp))
	if err != nil {
		return false
	}
	e.Time = pipeline.TimeOf(t)
	end := bytes.Index(rest, []byte(`" `))
	if end < 0 || len(rest) < end+5 {
		return false
	}
	e.Status = 0
	for _, d := range rest[end+2 : end+5] {
		if d < '0' || d > '9' {
			return false
		}
		e.Status = e.Status*10 + uint16(d-'0')
	}
	request := view(rest[:end])
	var target string
	e.Method, target, _ = strings.Cut(request, " ")
	if i := strings.LastIndex(target, " HTTP/"); i >= 0 {
		target = target[:i]
	}
	e.Path, _, _ = strings.Cut(target, "?")
	return true
}

// view is b as a string without a copy; the log is never written.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
