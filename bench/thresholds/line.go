package main

import (
	"bytes"
	"strings"
	"time"
	"unsafe"

	"weir/pipeline"
)

// event is one line as the rules see it. Its strings point into the log.
type event struct {
	time    pipeline.Time
	address pipeline.Address
	method  string
	path    string // without the query
	status  uint16
}

// parseLine reads a combined or common line.
func parseLine(e *event, line []byte) bool {
	addr, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return false
	}
	if e.address, ok = pipeline.ParseAddress(view(addr)); !ok {
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
	e.time = pipeline.TimeOf(t)
	end := bytes.Index(rest, []byte(`" `))
	if end < 0 || len(rest) < end+5 {
		return false
	}
	e.status = 0
	for _, d := range rest[end+2 : end+5] {
		if d < '0' || d > '9' {
			return false
		}
		e.status = e.status*10 + uint16(d-'0')
	}
	request := view(rest[:end])
	var target string
	e.method, target, _ = strings.Cut(request, " ")
	if i := strings.LastIndex(target, " HTTP/"); i >= 0 {
		target = target[:i]
	}
	e.path, _, _ = strings.Cut(target, "?")
	return true
}

// view is b as a string without a copy; the log is never written.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// static reports whether path names an asset.
func static(path string) bool {
	_, file := splitPath(path)
	i := strings.LastIndexByte(file, '.')
	if i < 0 {
		return false
	}
	switch strings.ToLower(file[i+1:]) {
	case "css", "js", "mjs", "map", "png", "jpg", "jpeg", "gif", "svg", "ico", "webp", "avif", "woff", "woff2", "ttf", "eot", "mp3", "mp4", "webm", "bmp":
		return true
	}
	return false
}

// splitPath cuts the last segment off.
func splitPath(path string) (dir, file string) {
	i := strings.LastIndexByte(path, '/')
	return path[:i+1], path[i+1:]
}

// template replaces the last segment that looks like an id by {id} and returns
// that id; id is "" when there is none.
func template(path string) (tmpl, id string) {
	for end := len(path); end > 0; {
		start := strings.LastIndexByte(path[:end], '/') + 1
		if s := path[start:end]; looksLikeID(s) {
			return path[:start] + "{id}" + path[end:], s
		}
		end = start - 1
	}
	return path, ""
}

// looksLikeID: all digits, or at least 16 of hex digits and dashes.
func looksLikeID(s string) bool {
	digits, hex := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
			hex++
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '-':
			hex++
		}
	}
	return len(s) > 0 && (digits == len(s) || hex == len(s) && len(s) >= 16)
}
