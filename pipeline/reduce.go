package pipeline

import (
	"strconv"
	"strings"
	"unsafe"
)

// What a request's text says beyond what detection needs stops at collect:
// values in queries and in referers may be tokens, addresses or names.

// maxParameters is how many parameters of a query are kept.
const maxParameters = 64

// AppendQuery appends query with every value but page numbers, sizes and the ids
// of objects replaced by "*", and cursors by a short hash, "~1a2b3c4d"; names stay. Parameters beyond the bound become "…".
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
		case IDParameter(name) && isID(value):
			dst = append(append(dst, '='), value...)
		case CursorParameter(name) && opaque(value):
			dst = appendCursor(append(dst, '='), value)
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

// CursorParameter reports names that carry where a list goes on, as the answer
// before said: a string that says nothing, and another one for each page.
func CursorParameter(name string) bool {
	switch name {
	case "cursor", "after", "before", "marker", "bookmark", "continuation", "page_token", "pageToken", "pagetoken", "next_token", "nextToken",
		"next_page_token", "nextPageToken", "next_cursor", "nextCursor", "continuation_token", "continuationToken", "starting_after", "ending_before",
		"start_after", "start-after", "startAfter", "scroll_id", "page[cursor]", "page[after]", "page[before]", "search_after", "$skiptoken", "$skipToken", "NextToken", "PageToken":
		return true
	}
	return false
}

// opaque reports values that can be cursors: no number, and no date or time, which
// pollers send.
func opaque(value string) bool {
	if len(value) < 6 || len(value) > 4096 {
		return false
	}
	t, _, _ := slotOf(value[:min(len(value), maxSegment)], false)
	return t != SlotInt && t != SlotDate
}

// cursorDigits is how much of a cursor's hash is kept.
const cursorDigits = 8

func appendCursor(dst []byte, value string) []byte {
	if len(value) == 1+cursorDigits && value[0] == '~' {
		return append(dst, value...) // reduced before
	}
	const digits = "0123456789abcdef"
	dst = append(dst, '~')
	h := Hash64(value)
	for range cursorDigits {
		dst = append(dst, digits[h>>60])
		h <<= 4
	}
	return dst
}

// CursorFrom is the first number of QueryPage that stands for a cursor.
const CursorFrom = 1 << 30

// QueryPage finds a page, offset or start number, or a cursor, among the parameters
// of a reduced query; -1 when there is none. Numbers have up to nine digits;
// cursors are numbers from CursorFrom on, by their hashes.
func QueryPage(query string) int32 {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, ok := strings.Cut(pair, "=")
		if !ok || len(value) == 0 || len(value) > 9 {
			continue
		}
		if value[0] == '~' {
			if n, err := strconv.ParseUint(value[1:], 16, 32); err == nil && CursorParameter(name) {
				return int32(n>>2 | CursorFrom)
			}
			continue
		}
		if !PageParameter(name) {
			continue
		}
		if n, err := strconv.Atoi(value); err == nil && n >= 0 {
			return int32(n)
		}
	}
	return -1
}

// SizeParameter reports names that carry how many items an answer may have.
func SizeParameter(name string) bool {
	switch name {
	case "limit", "size", "per_page", "perpage", "page_size", "pagesize", "pageSize", "perPage", "max_results", "maxResults", "rows", "take", "top", "$top":
		return true
	}
	return false
}

// maxIDName is the longest name of a parameter that is looked into for ids.
const maxIDName = 40

// IDParameter reports names that say which object is asked for: id, order_id,
// orderId, file-uuid. Names that speak of credentials, of papers that name a
// person or of bookkeeping about requests are none.
func IDParameter(name string) bool {
	if len(name) < 2 || len(name) > maxIDName || name[len(name)-1]|0x20 != 'd' && name[len(name)-1] != ']' {
		return false
	}
	last, words := "", 0
	for from := 0; from < len(name); {
		to := from
		for to < len(name) && letter(name[to]) && (to == from || !upper(name[to]) || upper(name[to-1])) {
			to++
		}
		if to == from {
			from++
			continue
		}
		word := name[from:to]
		if words++; words > 8 || secretWord(word) {
			return false
		}
		last, from = word, to
	}
	switch {
	case foldAny(last, "id", "uuid", "guid", "ulid"):
		return true
	case len(last) > 2 && strings.EqualFold(last[len(last)-2:], "id"):
		return foldAny(last[:len(last)-2], "order", "user", "account", "product", "customer", "invoice", "document", "doc", "file", "item", "post", "message", "ticket", "booking", "payment", "report")
	}
	return false
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func upper(c byte) bool  { return c >= 'A' && c <= 'Z' }

func secretWord(s string) bool {
	return foldAny(s, "token", "session", "sess", "sid", "code", "key", "email", "mail", "secret", "auth", "otp", "pin", "csrf", "xsrf", "nonce", "state",
		"password", "pass", "signature", "sig", "hash", "client", "device", "visitor", "install", "push", "ad", "utm", "request", "trace", "span", "correlation", "tracking", "event",
		"national", "tax", "personal", "passport", "card", "ssn", "social", "government", "citizen", "license", "phone", "login")
}

func foldAny(s string, of ...string) bool {
	for _, w := range of {
		if len(s) == len(w) && strings.EqualFold(s, w) {
			return true
		}
	}
	return false
}

// isID reports values that are numbers, UUIDs or ULIDs.
func isID(value string) bool {
	if len(value) == 0 || len(value) > 36 {
		return false
	}
	switch t, _, _ := slotOf(value, false); t {
	case SlotInt, SlotUUID, SlotULID:
		return true
	}
	return false
}

// ObjectID reports values in bodies that may be the id of an object: numbers,
// UUIDs, ULIDs and 24 hexadecimal digits, as MongoDB numbers documents.
func ObjectID(value string) bool {
	if len(value) == 0 || len(value) > 36 {
		return false
	}
	switch t, _, _ := slotOf(value, false); t {
	case SlotInt, SlotUUID, SlotULID:
		return value[0] != '-'
	case SlotHex:
		return len(value) == 24
	}
	return false
}

// ObjectPath reports whether the last segment of a path is an id: then a body
// that repeats it, or names another object, adds nothing.
func ObjectPath(path string) bool {
	path = strings.TrimSuffix(path, "/")
	return isID(path[strings.LastIndexByte(path, '/')+1:])
}

// QueryID finds the first parameter of a reduced query that names an object.
func QueryID(query string) (name, value string, ok bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, ok = strings.Cut(pair, "=")
		if ok && value != "*" && IDParameter(name) && isID(value) {
			return name, value, true
		}
	}
	return "", "", false
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
	plain := r.payloads(req)
	if req.Query != "" {
		r.query = AppendQuery(r.query[:0], req.Query)
		req.Query = unsafe.String(unsafe.SliceData(r.query), len(r.query)) // valid until the next call
	}
	if plain {
		return
	}
	if i := strings.IndexByte(req.Referer, '?'); i >= 0 {
		req.Referer = req.Referer[:i]
	}
	if i := strings.IndexByte(req.Path, ';'); i >= 0 && strings.Contains(strings.ToLower(req.Path[i:]), "sess") {
		req.Path = req.Path[:i] // ;jsessionid=...
	}
}
