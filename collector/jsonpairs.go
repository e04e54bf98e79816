package collector

// Headers and attributes are often written as arrays of names and values:
//
//	"headers":[{"name":"Host","value":"shop.example"}]
//	"attributes":[{"key":"http.method","value":{"stringValue":"POST"}}]

// pairs reads such an array from behind its '[' and returns the index behind its
// end, or -1.
func (p *jsonParser) pairs(b []byte, i int, what *jsonNode) int {
	if i = skipSpace(b, i); i < len(b) && b[i] == ']' {
		return i + 1
	}
	for n := 0; ; n++ {
		switch {
		case i >= len(b):
			return -1
		case b[i] == '{' && n < maxElements:
			i = p.pair(b, i+1, what)
		default:
			i = skipValue(b, i)
		}
		if i < 0 {
			return -1
		}
		if i = skipSpace(b, i); i >= len(b) {
			return -1
		}
		if b[i] == ']' {
			return i + 1
		}
		if b[i] != ',' {
			return -1
		}
		i = skipSpace(b, i+1)
	}
}

// pair reads one of them from behind its '{'.
func (p *jsonParser) pair(b []byte, i int, what *jsonNode) int {
	var name, value []byte
	quoted := false
	if i = skipSpace(b, i); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return -1
		}
		end := stringEnd(b, i+1)
		if end < 0 {
			return -1
		}
		key := b[i+1 : end]
		if i = skipSpace(b, end+1); i >= len(b) || b[i] != ':' {
			return -1
		}
		v, q, next := scalar(b, skipSpace(b, i+1))
		if next < 0 {
			return -1
		}
		switch string(key) {
		case "name", "key", "Name", "Key":
			name = v
		case "value", "Value":
			value, quoted = v, q
		}
		if i = skipSpace(b, next); i >= len(b) {
			return -1
		}
		if b[i] == '}' {
			break
		}
		if b[i] != ',' {
			return -1
		}
		i = skipSpace(b, i+1)
	}
	if kid := p.named(name, what); kid != nil && kid.slot != slotNone {
		p.keep(kid, value, quoted)
	}
	return i + 1
}

// scalar returns the value at i: the inside of a string, a number, or what the
// first member of an object holds, and the index behind it, or -1.
func scalar(b []byte, i int) (v []byte, quoted bool, next int) {
	if i >= len(b) {
		return nil, false, -1
	}
	switch b[i] {
	case '"':
		e := stringEnd(b, i+1)
		if e < 0 {
			return nil, false, -1
		}
		return b[i+1 : e], true, e + 1
	case '[':
		return nil, false, skipContainer(b, i)
	case '{':
		return wrapped(b, i)
	}
	end := scalarEnd(b, i)
	if v = b[i:end]; !isNumber(v) {
		v = nil
	}
	return v, false, end
}

// wrapped is scalar for an object whose first member holds the value.
func wrapped(b []byte, i int) (v []byte, quoted bool, next int) {
	start := i
	if i = skipSpace(b, i+1); i >= len(b) || b[i] != '"' {
		return nil, false, skipContainer(b, start)
	}
	if i = stringEnd(b, i+1); i < 0 {
		return nil, false, -1
	}
	if i = skipSpace(b, i+1); i >= len(b) || b[i] != ':' {
		return nil, false, -1
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '{' {
		return nil, false, skipContainer(b, start)
	}
	if v, quoted, i = scalar(b, i); i < 0 {
		return nil, false, -1
	}
	if i = skipSpace(b, i); i < len(b) && b[i] == '}' {
		return v, quoted, i + 1
	}
	return v, quoted, skipContainer(b, start)
}

// skipValue returns the index behind the value at i, or -1.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		if i = stringEnd(b, i+1); i < 0 {
			return -1
		}
		return i + 1
	case '{', '[':
		return skipContainer(b, i)
	}
	end := scalarEnd(b, i)
	if !isNumber(b[i:end]) && !isScalar(b[i:end]) {
		return -1
	}
	return end
}

// scalarEnd returns the index behind the number or word at i.
func scalarEnd(b []byte, i int) int {
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] > ' ' && b[i] != ']' {
		i++
	}
	return i
}
