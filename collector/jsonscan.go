package collector

import (
	"bytes"
	"iter"
)

// isScalar tells whether v is a JSON literal or negative number, or what nginx
// leaves where a value is missing.
func isScalar(v []byte) bool {
	switch string(v) {
	case "", "-", "null", "true", "false":
		return true
	}
	return v[0] == '-' && isNumber(v[1:])
}

// isNumber tells whether v is digits, a fraction perhaps, an exponent perhaps.
func isNumber(v []byte) bool {
	point := false
	for i, c := range v {
		switch {
		case c-'0' < 10:
		case c == '.' && !point && i > 0:
			point = true
		default:
			_, ok := exponent(v[i:])
			return ok && i > 0
		}
	}
	return true
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// stringEnd returns the index of the quote that closes the string whose inside
// starts at i, or -1.
func stringEnd(b []byte, i int) int {
	n := bytes.IndexByte(b[i:], '"')
	if n <= 0 || b[i+n-1] != '\\' {
		if n < 0 {
			return -1
		}
		return i + n
	}
	return endQuote(b, i)
}

// skipContainer returns the index behind the object or array at i, or -1.
func skipContainer(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i = stringEnd(b, i+1); i < 0 {
				return -1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// elements are the objects of an array of objects; nothing if b is not one.
func elements(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := skipSpace(b, 0)
		if i >= len(b) || b[i] != '[' || skipContainer(b, i) != len(bytes.TrimRight(b, " \t\r")) {
			return
		}
		for i = skipSpace(b, i+1); i < len(b) && b[i] == '{'; {
			end := skipContainer(b, i)
			if end < 0 || !yield(b[i:end]) {
				return
			}
			if i = skipSpace(b, end); i < len(b) && b[i] == ',' {
				i = skipSpace(b, i+1)
			}
		}
	}
}
