package collector

import (
	"strconv"
	"unicode/utf8"
)

// The JSON encoding: the same messages under their names in lowerCamelCase,
// 64-bit numbers as strings or numbers, ids in hex.

// jsonMembers calls f for the members of the object that b is.
func jsonMembers(b []byte, f func(key, value []byte) error) error {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return errOTLP
	}
	return jsonItems(b, i+1, '}', func(i int) (int, error) {
		if b[i] != '"' {
			return 0, errOTLP
		}
		end := stringEnd(b, i+1)
		if end < 0 {
			return 0, errOTLP
		}
		key := b[i+1 : end]
		if i = skipSpace(b, end+1); i >= len(b) || b[i] != ':' {
			return 0, errOTLP
		}
		i = skipSpace(b, i+1)
		if end = jsonEnd(b, i); end < 0 {
			return 0, errOTLP
		}
		return end, f(key, b[i:end])
	})
}

// jsonElements calls f for the elements of the array that b is; null is an
// empty one.
func jsonElements(b []byte, f func(value []byte) error) error {
	i := skipSpace(b, 0)
	if string(b[i:]) == "null" {
		return nil
	}
	if i >= len(b) || b[i] != '[' {
		return errOTLP
	}
	return jsonItems(b, i+1, ']', func(i int) (int, error) {
		end := jsonEnd(b, i)
		if end < 0 {
			return 0, errOTLP
		}
		return end, f(b[i:end])
	})
}

// jsonItems calls item for what lies between commas up to the closing byte,
// which ends b.
func jsonItems(b []byte, i int, closing byte, item func(i int) (end int, err error)) error {
	for first := true; ; first = false {
		if i = skipSpace(b, i); i >= len(b) {
			return errOTLP
		}
		if b[i] == closing {
			if skipSpace(b, i+1) < len(b) {
				return errOTLP
			}
			return nil
		}
		if !first {
			if b[i] != ',' {
				return errOTLP
			}
			if i = skipSpace(b, i+1); i >= len(b) {
				return errOTLP
			}
		}
		end, err := item(i)
		if err != nil {
			return err
		}
		i = end
	}
}

// jsonEnd returns the index behind the value at i, or -1.
func jsonEnd(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '{', '[':
		return skipContainer(b, i)
	case '"':
		end := stringEnd(b, i+1)
		if end < 0 {
			return -1
		}
		return end + 1
	}
	end := i
	for end < len(b) && b[end] != ',' && b[end] != '}' && b[end] != ']' && b[end] > ' ' {
		end++
	}
	if end == i {
		return -1
	}
	return end
}

// readJSON reads an export. It changes b: a line end would end a record's line.
func (l *otlpLines) readJSON(b []byte, kind string) error {
	if !utf8.Valid(b) {
		return errOTLP
	}
	for i, c := range b {
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
	resources, scopes, records, record := "resourceLogs", "scopeLogs", "logRecords", l.jsonLog
	if kind == otlpTraces {
		resources, scopes, records, record = "resourceSpans", "scopeSpans", "spans", l.jsonSpan
	}
	list := func(name string, f func([]byte) error) func(key, value []byte) error {
		return func(key, value []byte) error {
			if string(key) != name {
				return nil
			}
			return jsonElements(value, f)
		}
	}
	return jsonMembers(b, list(resources, func(b []byte) error {
		return jsonMembers(b, list(scopes, func(b []byte) error {
			return jsonMembers(b, list(records, record))
		}))
	}))
}

func (l *otlpLines) jsonSpan(b []byte) error {
	var kind, start, end uint64
	var trace []byte
	l.begin()
	err := jsonMembers(b, func(key, value []byte) error {
		switch string(key) {
		case "traceId":
			trace = jsonInside(value)
		case "kind":
			kind = jsonUint(value)
			if string(jsonInside(value)) == "SPAN_KIND_SERVER" {
				kind = otlpServer
			}
		case "startTimeUnixNano":
			start = jsonUint(value)
		case "endTimeUnixNano":
			end = jsonUint(value)
		case "attributes":
			return jsonElements(value, l.jsonAttribute)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.endSpan(kind, start, end, trace)
}

func (l *otlpLines) jsonLog(b []byte) error {
	var at, observed uint64
	var trace, body []byte
	l.begin()
	err := jsonMembers(b, func(key, value []byte) error {
		switch string(key) {
		case "traceId":
			trace = jsonInside(value)
		case "timeUnixNano":
			at = jsonUint(value)
		case "observedTimeUnixNano":
			observed = jsonUint(value)
		case "body":
			body = value
		case "attributes":
			return jsonElements(value, l.jsonAttribute)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case l.http:
		return l.endLog(at, observed, trace)
	}
	l.undo()
	from := len(l.text)
	if len(body) > 0 && body[0] == '{' {
		err = jsonMembers(body, func(key, value []byte) (err error) {
			switch string(key) {
			case "stringValue":
				l.text = appendPlain(l.text[:from], jsonInside(value))
			case "kvlistValue":
				l.text, err = appendJSONMap(l.text[:from], value, 0)
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	return l.endText(from)
}

// jsonInside is what stands in a string, nil for anything else.
func jsonInside(v []byte) []byte {
	if len(v) < 2 || v[0] != '"' {
		return nil
	}
	return v[1 : len(v)-1]
}

// jsonUint reads a number, or a string that holds one; 0 for anything else.
func jsonUint(v []byte) uint64 {
	if len(v) > 2 && v[0] == '"' {
		v = v[1 : len(v)-1]
	}
	n, err := strconv.ParseUint(str(v), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// jsonPair splits a KeyValue.
func jsonPair(b []byte) (key, value []byte, err error) {
	err = jsonMembers(b, func(k, v []byte) error {
		switch string(k) {
		case "key":
			key = jsonInside(v)
		case "value":
			value = v
		}
		return nil
	})
	return key, value, err
}

func (l *otlpLines) jsonAttribute(b []byte) error {
	key, value, err := jsonPair(b)
	if err != nil || !l.name(key) {
		return err
	}
	l.requests, err = appendJSONValue(l.requests, value, maxOTLPDepth)
	return err
}

// appendJSONValue appends an AnyValue as plain JSON, as appendProtoValue does.
func appendJSONValue(dst, b []byte, depth int) ([]byte, error) {
	if len(b) == 0 || string(b) == "null" {
		return append(dst, "null"...), nil
	}
	from := len(dst)
	err := jsonMembers(b, func(key, v []byte) (err error) {
		dst = dst[:from]
		switch string(key) {
		case "stringValue", "bytesValue":
			if inside := jsonInside(v); inside != nil {
				dst = append(append(append(dst, '"'), inside...), '"')
			}
		case "intValue":
			if inside := jsonInside(v); inside != nil {
				v = inside
			}
			dst = appendScalar(dst, v)
		case "boolValue", "doubleValue":
			dst = appendScalar(dst, v)
		case "arrayValue":
			dst, err = appendJSONArray(append(dst, '"'), v)
			dst = append(dst, '"')
		case "kvlistValue":
			if depth < maxOTLPDepth {
				dst, err = appendJSONMap(dst, v, depth+1)
			}
		}
		return err
	})
	if len(dst) == from {
		dst = append(dst, "null"...)
	}
	return dst, err
}

// appendScalar appends v where it is a literal or a number.
func appendScalar(dst, v []byte) []byte {
	if len(v) == 0 || v[0] == '"' || !isScalar(v) && (v[0]-'0' > 9 || !isNumber(v)) {
		return dst
	}
	return append(dst, v...)
}

// appendJSONArray joins the strings of an ArrayValue, escaped as they are.
func appendJSONArray(dst, b []byte) ([]byte, error) {
	from := len(dst)
	err := jsonMembers(b, func(key, list []byte) error {
		if string(key) != "values" {
			return nil
		}
		return jsonElements(list, func(item []byte) error {
			return jsonMembers(item, func(key, v []byte) error {
				if string(key) == "stringValue" {
					if len(dst) > from {
						dst = append(dst, ", "...)
					}
					dst = append(dst, jsonInside(v)...)
				}
				return nil
			})
		})
	})
	return dst, err
}

// appendJSONMap appends a KeyValueList as an object.
func appendJSONMap(dst, b []byte, depth int) ([]byte, error) {
	dst = append(dst, '{')
	from := len(dst)
	err := jsonMembers(b, func(key, list []byte) error {
		if string(key) != "values" {
			return nil
		}
		return jsonElements(list, func(pair []byte) error {
			name, value, err := jsonPair(pair)
			if err != nil {
				return err
			}
			if len(dst) > from {
				dst = append(dst, ',')
			}
			dst = append(append(append(dst, '"'), name...), '"', ':')
			dst, err = appendJSONValue(dst, value, depth)
			return err
		})
	})
	return append(dst, '}'), err
}
