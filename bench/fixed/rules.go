package fixed

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
	match func(e *Event) (value, key string, ok bool)
}

// rules are the published numbers of widely used rule sets.
func rules() []rule {
	return []rule{
		{
			name: "http-probing", detector: "probe.path",
			capacity: 10, leak: 10 * time.Second, blackhole: 5 * time.Minute,
			match: func(e *Event) (string, string, bool) {
				return e.Path, "", (e.Status == 404 || e.Status == 403 || e.Status == 400) && !static(e.Path)
			},
		},
		{
			name: "http-crawl-non_statics", detector: "scrape.crawl",
			capacity: 40, leak: 500 * time.Millisecond, blackhole: time.Minute,
			match: func(e *Event) (string, string, bool) {
				_, file := splitPath(e.Path)
				if file == "" {
					file = e.Path
				}
				return file, "", (e.Method == "GET" || e.Method == "HEAD") && !static(e.Path)
			},
		},
		{
			name: "http-generic-bf", detector: "auth.bruteforce",
			capacity: 5, leak: 10 * time.Second, blackhole: time.Minute,
			match: func(e *Event) (string, string, bool) {
				return "", "", e.Method == "POST" && (e.Status == 401 || e.Status == 403)
			},
		},
		{
			name: "param-enumeration", detector: "enum.object",
			capacity: 50, window: 5 * time.Minute, blackhole: 5 * time.Minute,
			match: func(e *Event) (string, string, bool) {
				if !strings.ContainsAny(e.Path, "0123456789") || static(e.Path) {
					return "", "", false
				}
				tmpl, id := template(e.Path)
				return id, tmpl, id != ""
			},
		},
	}
}
