package collector

// document looks for the object's id among the arguments of a GraphQL document's
// fields, as they stand or in the variables, and for the name that a login
// tries. It is no check of the document: what does not read like one ends it.
func (r *bodyReader) document(q []byte) {
	d := documentReader{bodyReader: r, q: q}
	for d.i < len(q) && q[d.i] != '{' {
		if q[d.i] == '(' {
			d.i = d.skip(d.i) // the variables' types
		} else {
			d.i++
		}
	}
	d.i++
	d.selections(0)
	r.field = nil
}

// selections reads the fields of one level, from behind its '{': many schemas
// put everything below a "viewer".
func (d *documentReader) selections(depth int) {
	for d.selection(depth) {
	}
	if d.at() == '}' {
		d.i++
	}
}

// documentReader is at q[i:].
type documentReader struct {
	*bodyReader
	q []byte
	i int
}

// space skips what separates, comments too.
func (d *documentReader) space() {
	for ; d.i < len(d.q); d.i++ {
		switch c := d.q[d.i]; {
		case c == '#':
			for d.i < len(d.q) && d.q[d.i] != '\n' {
				d.i++
			}
		case c > ' ' && c != ',':
			return
		}
	}
}

// at is the byte at hand behind space; 0 at the end.
func (d *documentReader) at() byte {
	if d.space(); d.i < len(d.q) {
		return d.q[d.i]
	}
	return 0
}

func (d *documentReader) word() []byte {
	d.space()
	from := d.i
	for d.i < len(d.q) && (d.q[d.i]|0x20-'a' < 26 || d.q[d.i]-'0' < 10 || d.q[d.i] == '_') {
		d.i++
	}
	return d.q[from:d.i]
}

// skip returns the index behind the bracket at i and all inside; len(q) when it
// does not close.
func (d *documentReader) skip(i int) int {
	for depth := 0; i < len(d.q); i++ {
		switch d.q[i] {
		case '"':
			i = d.quote(i)
		case '(', '{', '[':
			depth++
		case ')', '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(d.q)
}

// quote returns the index of the quote that closes the one at i.
func (d *documentReader) quote(i int) int {
	for i++; i < len(d.q); i++ {
		switch d.q[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(d.q)
}

// selection reads one field and what is below it; false at the end.
func (d *documentReader) selection(depth int) bool {
	switch c := d.at(); c {
	case '.': // a fragment
		for d.i < len(d.q) && d.q[d.i] == '.' {
			d.i++
		}
		if string(d.word()) == "on" {
			d.word()
		}
		d.below(depth)
		return true
	case 0, '}':
		return false
	}
	d.field = d.word()
	if d.at() == ':' { // an alias
		d.i++
		d.field = d.word()
	}
	if len(d.field) == 0 || !d.look() {
		return false
	}
	if d.at() == '(' {
		d.i++
		d.arguments(depth)
	}
	d.below(depth)
	return true
}

// below skips directives and reads what is selected of a field.
func (d *documentReader) below(depth int) {
	for d.at() == '@' {
		d.i++
		d.word()
		if d.at() == '(' {
			d.i = d.skip(d.i)
		}
	}
	switch {
	case d.at() != '{':
	case depth+1 < bodyDepth:
		d.i++
		d.selections(depth + 1)
	default:
		d.i = d.skip(d.i)
	}
}

// arguments reads name: value pairs up to what closes them.
func (d *documentReader) arguments(depth int) {
	for d.look() {
		switch d.at() {
		case ')', '}':
			d.i++
			return
		}
		name := d.word()
		if len(name) == 0 || d.at() != ':' {
			d.i = len(d.q)
			return
		}
		d.i++
		d.argument(name, depth)
	}
	d.i = len(d.q)
}

// argument reads one value.
func (d *documentReader) argument(name []byte, depth int) {
	switch c := d.at(); {
	case c == '"':
		end := d.quote(d.i)
		d.see(name, d.q[d.i+1:max(end, d.i+1)], depth)
		d.i = min(end+1, len(d.q))
	case c == '$':
		d.i++
		d.variable(name, d.word(), depth)
	case c == '{' && depth+1 < bodyDepth:
		d.i++
		d.arguments(depth + 1)
	case c == '{', c == '[':
		d.i = d.skip(d.i)
	case c-'0' < 10, c == '-':
		from := d.i
		for d.i < len(d.q) && (d.q[d.i]-'0' < 10 || d.q[d.i] == '-' || d.q[d.i] == '.') {
			d.i++
		}
		d.see(name, d.q[from:d.i], depth)
	default:
		if len(d.word()) == 0 {
			d.i = len(d.q)
		}
	}
}

// variable looks at what the variable of an argument is.
func (d *documentReader) variable(name, variable []byte, depth int) {
	b := d.variables
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' || len(variable) == 0 {
		return
	}
	for i++; ; {
		for i = skipSpace(b, i); i < len(b) && b[i] == ','; {
			i = skipSpace(b, i+1)
		}
		if i >= len(b) || b[i] != '"' {
			return
		}
		end := stringEnd(b, i+1)
		if end < 0 || !d.look() {
			return
		}
		key := b[i+1 : end]
		if i = skipSpace(b, end+1); i >= len(b) || b[i] != ':' {
			return
		}
		i = skipSpace(b, i+1)
		if string(key) == string(variable) {
			d.value(b, i, name, depth)
			return
		}
		_, _, next := scalar(b, i)
		if next <= i {
			return
		}
		i = next
	}
}
