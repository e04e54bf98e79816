package main

import (
	"strings"
	"time"
)

// rule is one fixed threshold. A bucket per key gains one drop for each
// matching event (for each distinct value when value gives one), loses one
// every leak, and raises when it holds more than capacity. It then stays deaf
// for blackhole. With window set it does not leak but is emptied when the
// window, begun by its first drop, is over.
type rule struct {
	name      string
	detector  string // the weir detector whose family it answers to
	capacity  int
	leak      time.Duration
	window    time.Duration
	blackhole time.Duration
	// match returns what distinguishes the event ("" counts each) and what
	// beside the address makes the key.
	match func(e *event) (value, key string, ok bool)
}

// rules are the published numbers of widely used rule sets.
func rules() []rule {
	return []rule{
		{
			name: "http-probing", detector: "probe.path",
			capacity: 10, leak: 10 * time.Second, blackhole: 5 * time.Minute,
			match: func(e *event) (string, string, bool) {
				return e.path, "", (e.status == 404 || e.status == 403 || e.status == 400) && !static(e.path)
			},
		},
		{
			name: "http-crawl-non_statics", detector: "scrape.crawl",
			capacity: 40, leak: 500 * time.Millisecond, blackhole: time.Minute,
			match: func(e *event) (string, string, bool) {
				_, file := splitPath(e.path)
				if file == "" {
					file = e.path
				}
				return file, "", (e.method == "GET" || e.method == "HEAD") && !static(e.path)
			},
		},
		{
			name: "http-generic-bf", detector: "auth.bruteforce",
			capacity: 5, leak: 10 * time.Second, blackhole: time.Minute,
			match: func(e *event) (string, string, bool) {
				return "", "", e.method == "POST" && (e.status == 401 || e.status == 403)
			},
		},
		{
			name: "param-enumeration", detector: "enum.object",
			capacity: 50, window: 5 * time.Minute, blackhole: 5 * time.Minute,
			match: func(e *event) (string, string, bool) {
				if !strings.ContainsAny(e.path, "0123456789") || static(e.path) {
					return "", "", false
				}
				tmpl, id := template(e.path)
				return id, tmpl, id != ""
			},
		},
	}
}
