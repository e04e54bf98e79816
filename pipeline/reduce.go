package pipeline

import (
	"strings"
	"unsafe"
)

// What a request's text says beyond what detection needs stops at collect:
// values in queries and in referers may be tokens, addresses or names.

// maxParameters is how many parameters of a query are kept.
const maxParameters = 64

// AppendQuery appends query with every value but page numbers and sizes replaced by "*";
// names stay. Parameters beyond the bound become "…".
func AppendQuery(dst []byte, query string) []byte {
	for n := 0; query != ""; n++ {
		if n > 0 {
			dst = append(dst, '&')
		}
		if n == maxParameters {
			return append(dst, "…"...)
		}
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, ok := strings.Cut(pair, "=")
		if !ok && !plainName(name) {
			dst = append(dst, '*') // a value without a name
			continue
		}
		dst = append(dst, name[:min(len(name), 64)]...)
		switch {
		case !ok:
		case value == "":
			dst = append(dst, '=')
		case (PageParameter(name) || SizeParameter(name)) && digits(value):
			dst = append(append(dst, '='), value...)
		default:
			dst = append(dst, "=*"...)
		}
	}
	return dst
}

// PageParameter reports names that carry a page, an offset or a start.
func PageParameter(name string) bool {
	switch name {
	case "page", "p", "pg", "offset", "start", "paged", "skip", "from":
		return true
	}
	return false
}

// SizeParameter reports names that carry how many items an answer may have.
func SizeParameter(name string) bool {
	switch name {
	case "limit", "size", "per_page", "perpage", "page_size", "pagesize", "pageSize", "perPage", "max_results", "maxResults", "rows", "take", "top", "$top":
		return true
	}
	return false
}

func plainName(s string) bool {
	if len(s) > 24 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 9
}

// reduce drops from r what does not leave collect.
func (r *Resolver) reduce(req *Request) {
	r.payloads(req)
	if req.Query != "" {
		r.query = AppendQuery(r.query[:0], req.Query)
		req.Query = unsafe.String(unsafe.SliceData(r.query), len(r.query)) // valid until the next call
	}
	if i := strings.IndexByte(req.Referer, '?'); i >= 0 {
		req.Referer = req.Referer[:i]
	}
	if i := strings.IndexByte(req.Path, ';'); i >= 0 && strings.Contains(strings.ToLower(req.Path[i:]), "sess") {
		req.Path = req.Path[:i] // ;jsessionid=...
	}
}
