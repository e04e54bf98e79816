package fixed

import (
	"strings"

	"weir/pipeline"
)

// Event is a request as the rules see it. Its strings need to be valid until the
// watch is done.
type Event struct {
	Time    pipeline.Time
	Address pipeline.Address
	Method  string
	Path    string // without the query
	Status  uint16
}

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
