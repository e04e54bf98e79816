package collector

import (
	"bytes"
	"strings"

	"weir/pipeline"
)

// What a request's body says of what it asks for, where the path does not: the
// operation, the id of one object, and the account that a login tries. Nothing
// else of a body is kept: no other member, no value that is not a number, a
// UUID, a ULID or 24 hexadecimal digits, and no name that speaks of a credential
// or a person's papers (pipeline.IDParameter).
//
// Which id is the object, of several: the one whose name the operation or the
// path bears (orderId for GetOrder), else "id", else another, and those that say
// who asks (userId, tenantId) last. The server reads the name that it knows, so
// a client cannot rename it; letters are folded, because some servers do. In
// GraphQL a client can name its operation as it likes, so there the object goes
// by the field that has it for an argument, or by the type that a global
// id ("T3JkZXI6MTA0Mg==", "gid://shop/Order/1042") names.

// Bounds of what is read of a body.
const (
	bodyLimit   = 64 << 10 // bytes
	bodyLooks   = 256      // members and arguments
	bodyDepth   = 4
	bodyUserMax = 256
	maxGlobalID = 64
)

// Body is what detection needs of a request's body. Strings point into the body
// or the scratch memory it was read with.
type Body struct {
	Operation string // GraphQL operation, JSON-RPC method; "" for any other body
	Object    string // "order#1042": what pipeline.Request.Operation becomes; "" none
	User      string // the account that a login would try; "" none
}

// Apply makes the object a part of r's endpoint, as if it were in the path, unless
// the path names one or r is about an account. Identity has been decided.
func (b *Body) Apply(r *pipeline.Request) {
	if b.Object != "" && r.Flags&(pipeline.FlagLogin|pipeline.FlagAsks) == 0 && !pipeline.ObjectPath(r.Path) {
		r.Operation = b.Object
	}
}

// ReadBody reads a JSON or form body, whole or cut off, of a request for path.
// operation is what the source calls the operation, "" unknown; variables are a
// GraphQL request's where they are known apart from the body. It returns scratch,
// which may have grown, and keeps no reference to it.
func ReadBody(scratch []byte, path, operation string, body, variables []byte) (Body, []byte) {
	r := bodyReader{path: path, op: operation, variables: variables, left: bodyLooks, class: noObject, scratch: scratch}
	if len(body) > bodyLimit {
		body = body[:bodyLimit]
	}
	if len(r.variables) > bodyLimit {
		r.variables = r.variables[:bodyLimit]
	}
	out := Body{Operation: r.read(body)}
	if r.class != noObject {
		out.Object = r.object()
	}
	if n := len(r.user); n > 0 && n <= bodyUserMax && bytes.IndexByte(r.user, '\\') < 0 {
		out.User = str(r.user)
	}
	return out, r.scratch
}

// bodyReader is at one body.
type bodyReader struct {
	path      string
	op        string // of the source, or of the body
	variables []byte // a GraphQL request's
	scratch   []byte
	left      int    // members still looked at
	field     []byte // GraphQL's field at hand; nil outside a document
	class     uint8  // of the object found, lower is better
	depth     int    // at which it was found
	name      []byte // what the object is called: a field, a type, a member
	member    bool   // it is a member's name: an operation's is better
	id        []byte
	user      []byte
}

// Classes of ids, the best first.
const (
	namedObject = iota // the operation or the path bears its name
	plainObject        // "id"
	otherObject
	askingObject // says who asks
	noObject
)

// read reads the whole body and returns its operation.
func (r *bodyReader) read(b []byte) string {
	i := skipSpace(b, 0)
	if i < len(b) && b[i] == '[' { // a batch: the first
		i = skipSpace(b, i+1)
	}
	if i >= len(b) || b[i] != '{' {
		r.form(b)
		r.walkVariables()
		return ""
	}
	p := jsonParser{root: bodyMembers, stop: slots}
	p.object(b, i+1, p.root, 0)
	op, query := p.vals[slotOperation].b, p.vals[slotQuery].b
	if v := p.vals[slotVariables]; v.b != nil && len(r.variables) == 0 {
		r.variables = r.plain(v.b, v.escaped)
	}
	if p.vals[slotProtocol].b != nil { // JSON-RPC; its "id" is the call's
		op = p.vals[slotMethod].b
		r.named(op)
		r.params(p.vals[slotBody].b)
		return operationName(op)
	}
	if op == nil && len(r.variables) == 0 && bytes.IndexByte(query, '{') < 0 {
		r.walk(b, i+1, 0)
		return ""
	}
	query = r.plain(query, true)
	// What a client calls its operation is its own affair; a login is one
	// under any name.
	if field, login := rootField(query); login || len(op) == 0 {
		op = field
	}
	r.named(op)
	r.document(query)
	if r.class == noObject {
		r.walkVariables()
	}
	return operationName(op)
}

// operationName is op if it can name an operation.
func operationName(op []byte) string {
	if len(op) == 0 || len(op) > jsonKey || bytes.IndexByte(op, '\\') >= 0 {
		return ""
	}
	return str(op)
}

func (r *bodyReader) named(op []byte) {
	if r.op == "" {
		r.op = operationName(op)
	}
}

// plain undoes the escapes of a JSON string.
func (r *bodyReader) plain(b []byte, escaped bool) (out []byte) {
	if escaped {
		out, r.scratch = bodyText(r.scratch, b)
		return out
	}
	return b
}

// bodyText undoes the escapes of a string that holds a body: what a log keeps
// written, since a terminal may show it, is white space here.
func bodyText(scratch, b []byte) (text, grown []byte) {
	if bytes.IndexByte(b, '\\') < 0 {
		return b, scratch
	}
	from := len(scratch)
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c != '\\' || i+1 == len(b) {
			scratch = append(scratch, c)
			continue
		}
		i++
		n := 0
		switch c = b[i]; c {
		case 'x':
			n = 2
		case 'u':
			n = 4
		case 'n', 'r', 't', 'b', 'f':
			c = ' '
		}
		if v, ok := hex(b[i+1:], n); n > 0 && ok {
			i += n
			c = byte('?')
			if v < 0x80 {
				c = byte(max(v, ' '))
			}
		}
		scratch = append(scratch, c)
	}
	return scratch[from:len(scratch):len(scratch)], scratch
}

// form reads name=value pairs.
func (r *bodyReader) form(b []byte) {
	for len(b) > 0 && r.look() {
		pair := b
		if i := bytes.IndexByte(b, '&'); i >= 0 {
			pair, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if i := bytes.IndexByte(pair, '='); i > 0 && i <= jsonKey {
			r.see(pair[:i], r.unquoted(pair[i+1:]), 0)
		}
	}
}

// unquoted undoes %XX in a value.
func (r *bodyReader) unquoted(v []byte) []byte {
	if bytes.IndexByte(v, '%') < 0 || len(v) > bodyUserMax {
		return v
	}
	from := len(r.scratch)
	for i := 0; i < len(v); i++ {
		if v[i] == '%' {
			if h, ok := hex(v[i+1:], 2); ok && h > ' ' && h < 0x7f {
				r.scratch = append(r.scratch, byte(h))
				i += 2
				continue
			}
		}
		r.scratch = append(r.scratch, v[i])
	}
	return r.scratch[from:len(r.scratch):len(r.scratch)]
}

// params reads JSON-RPC's parameters: an object, or a list whose first may be
// the object's id.
func (r *bodyReader) params(b []byte) {
	if len(b) == 0 {
		return
	}
	if b[0] == '{' {
		r.walk(b, 1, 0)
		return
	}
	i := skipSpace(b, 1)
	if i < len(b) && b[i] == '{' {
		r.walk(b, i+1, 0)
		return
	}
	if v, _, next := scalar(b, i); next > 0 {
		r.see([]byte("id"), v, 0)
	}
}

func (r *bodyReader) walkVariables() {
	if i := skipSpace(r.variables, 0); i < len(r.variables) && r.variables[i] == '{' {
		r.walk(r.variables, i+1, 0)
	}
}

// look counts a member; false when enough were looked at.
func (r *bodyReader) look() bool {
	r.left--
	return r.left >= 0
}

// walk reads the members of an object from behind its '{' and returns the index
// behind its '}', or -1.
func (r *bodyReader) walk(b []byte, i, depth int) int {
	for {
		for i = skipSpace(b, i); i < len(b) && b[i] == ','; {
			i = skipSpace(b, i+1)
		}
		if i >= len(b) {
			return -1
		}
		if b[i] == '}' {
			return i + 1
		}
		end := -1
		if b[i] == '"' {
			end = stringEnd(b, i+1)
		}
		if end < 0 || !r.look() {
			return -1
		}
		key := b[i+1 : end]
		if i = skipSpace(b, end+1); i >= len(b) || b[i] != ':' {
			return -1
		}
		if i = r.value(b, skipSpace(b, i+1), key, depth); i < 0 {
			return -1
		}
	}
}

// value reads the member key's value at i; of an array of objects the first.
func (r *bodyReader) value(b []byte, i int, key []byte, depth int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '{':
		if depth+1 >= bodyDepth {
			return skipContainer(b, i)
		}
		return r.walk(b, i+1, depth+1)
	case '[':
		end := skipContainer(b, i)
		if j := skipSpace(b, i+1); end > 0 && b[j] == '{' && depth+1 < bodyDepth {
			r.walk(b[:end], j+1, depth+1)
		}
		return end
	}
	v, _, next := scalar(b, i)
	if next > i {
		r.see(key, v, depth)
	}
	if next == i {
		return -1 // no value at all
	}
	return next
}

// see weighs one member or argument.
func (r *bodyReader) see(key, v []byte, depth int) {
	if len(key) == 0 || len(v) == 0 || len(key) > jsonKey {
		return
	}
	if r.user == nil && isLoginName(key) {
		r.user = v
	}
	if !pipeline.IDParameter(str(key)) {
		return
	}
	kind, id := objectID(&r.scratch, v)
	if id == nil {
		return
	}
	class := r.classOf(key)
	if class > r.class || class == r.class && depth >= r.depth {
		return
	}
	r.class, r.depth, r.id, r.member = class, depth, id, false
	switch {
	case kind != nil:
		r.name = kind
	case r.field != nil:
		r.name = r.field
	default:
		r.name, r.member = key, true
	}
}

// classOf says how likely key names the object that is asked for.
func (r *bodyReader) classOf(key []byte) uint8 {
	var buf [jsonKey]byte
	stem := fold(buf[:0], key)
	for _, end := range [...]string{"uuid", "guid", "ulid", "id"} {
		if s, ok := bytes.CutSuffix(stem, []byte(end)); ok {
			stem = s
			break
		}
	}
	if len(stem) == 0 {
		return plainObject
	}
	within := r.op
	if r.field != nil {
		within = str(r.field)
	} else if within == "" {
		within = r.path
	}
	if len(stem) >= 3 && containsFold(within, str(stem)) {
		return namedObject
	}
	switch string(stem) {
	case "user", "account", "customer", "tenant", "org", "organization", "organisation", "workspace", "company", "team", "shop", "store", "site",
		"merchant", "member", "owner", "actor", "viewer", "author":
		return askingObject
	}
	return otherObject
}

// object is "name#id", made in scratch.
func (r *bodyReader) object() string {
	name := r.name
	if r.member && r.op != "" && !strings.HasSuffix(r.path, r.op) {
		name = view(r.op)
	}
	from := len(r.scratch)
	if r.member && str(name) == str(r.name) {
		r.scratch = fold(r.scratch, name)
	} else {
		r.scratch = append(r.scratch, name...)
	}
	r.scratch = append(append(r.scratch, pipeline.ObjectMark), r.id...)
	return str(r.scratch[from:len(r.scratch):len(r.scratch)])
}

// fold appends s in lower case without what separates words.
func fold(dst, s []byte) []byte {
	for _, c := range s {
		switch {
		case c-'A' < 26:
			dst = append(dst, c|0x20)
		case c|0x20-'a' < 26 || c-'0' < 10:
			dst = append(dst, c)
		}
	}
	return dst
}

// isLoginName reports members that name the account of a login.
func isLoginName(key []byte) bool {
	var buf [jsonKey]byte
	switch string(fold(buf[:0], key)) {
	case "username", "user", "login", "loginname", "loginid", "email", "mail", "emailaddress", "useremail", "userid", "identifier", "account", "accountname",
		"phone", "phonenumber", "mobile", "handle", "uid":
		return true
	}
	return false
}
