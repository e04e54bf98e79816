package collector

import (
	"bytes"
	"strings"

	"weir/pipeline"
)

// What a request does where its path does not say it, and whether the application
// failed where the status does not: GraphQL, JSON-RPC and gRPC answer 200 to
// nearly everything. The names of the members are in jsonnames.go; nginx has
//
//	$upstream_trailer_grpc_status, $sent_http_grpc_status   gRPC
//	$request_body                                           GraphQL, JSON-RPC
//	$sent_http_location                                     where a login leads
//
// A body is read for what body.go says and kept nowhere.

// application is what a line says of the application behind the endpoint.
type application struct {
	Operation string // GraphQL operation, JSON-RPC or RPC method, where a member of its own has it
	Body      string // of the request, as logged
	Variables string // of a GraphQL request, a JSON object
	content   Body   // what was read of it
	Location  string // where the answer redirects to
	Known     bool   // the line says whether the application failed
	Status    uint16 // 0 it did not, else the status that the failure amounts to
}

// storeApplication takes the values that only say something together.
func (f *Fields) storeApplication(s slot, b []byte, escaped bool) {
	if s == slotBody || s == slotVariables {
		if escaped {
			b, f.Scratch = bodyText(f.Scratch, b)
		}
		if s == slotBody {
			f.Body = str(b)
		} else {
			f.Variables = str(b)
		}
		return
	}
	v := f.text(b, escaped)
	switch s {
	case slotOperation:
		// A sentence or a path is some tracer's name for the request.
		if v != "" && strings.IndexByte(v, ' ') < 0 && v[0] != '/' {
			f.Operation = v
		}
	case slotLocation:
		f.Location = v
	case slotGRPC:
		f.Known = true
		f.application.Status = grpcStatus(v)
	case slotAppErrors, slotAppError:
		f.Known = true
		if status := appError(v); status != 0 {
			f.application.Status = status
		}
	}
}

// apply puts what the line says of the application into r, before identity is
// decided.
func (f *Fields) apply(r *pipeline.Request) {
	if f.Body != "" || f.Variables != "" {
		f.readBody(r.Path, view(f.Body), view(f.Variables))
	}
	if f.Query != "" && isGraphQL(f.Path) {
		f.readQuery(r.Path)
	}
	// A gRPC path is the method already.
	if isOperation(f.Operation) && !strings.HasSuffix(f.Path, f.Operation) {
		r.Operation = f.Operation
	}
	if f.Known {
		r.SetApp(f.application.Status)
	}
}

// readBody takes what the body says. A member of the log's own that names the
// operation comes first, but a login is one under any name.
func (f *Fields) readBody(path string, body, variables []byte) {
	f.content, f.Scratch = ReadBody(f.Scratch, path, f.Operation, body, variables)
	if op := f.content.Operation; op != "" && (f.Operation == "" || pipeline.LoginOperation(op)) {
		f.Operation = op
	}
	f.BodyUser = f.content.User
}

// readQuery reads a GraphQL request by GET as if it had come in a body.
func (f *Fields) readQuery(path string) {
	var document, variables string
	rest := f.Query
	for n := 0; n < 64 && rest != ""; n++ {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		switch name, v, _ := strings.Cut(pair, "="); {
		case name == "operationName" && f.Operation == "":
			f.Operation = v
		case name == "query":
			document = f.decoded(v, '%')
		case name == "variables":
			variables = f.decoded(v, '%')
		}
	}
	if f.content.Object != "" || document == "" && variables == "" {
		return
	}
	r := bodyReader{path: path, op: f.Operation, variables: view(variables), left: bodyLooks, class: noObject, scratch: f.Scratch}
	r.document(view(document))
	if r.class == noObject {
		r.walkVariables()
	}
	if r.class != noObject {
		f.content.Object = r.object()
	}
	f.Scratch = r.scratch
}

// applyLocation tells from a redirect whether a login failed.
func (f *Fields) applyLocation(r *pipeline.Request) {
	if f.Location != "" && r.Flags&pipeline.FlagLogin != 0 && r.Status >= 300 && r.Status < 400 && !f.Known {
		if leadsBack(r.Path, f.Location) {
			r.SetApp(401)
		} else {
			r.SetApp(0)
		}
	}
}

// leadsBack reports whether a login's redirect goes to the login page again or
// to one that speaks of an error.
func leadsBack(path, location string) bool {
	if i := strings.Index(location, "://"); i >= 0 {
		location = location[i+3:]
		if i = strings.IndexByte(location, '/'); i < 0 {
			return false
		}
		location = location[i:]
	}
	target, query, _ := strings.Cut(location, "?")
	if strings.TrimSuffix(target, "/") == strings.TrimSuffix(path, "/") {
		return true
	}
	last := target[strings.LastIndexByte(target, '/')+1:]
	for _, word := range [...]string{"error", "fail", "invalid", "denied", "login", "signin", "sign-in", "logon", "sign_in"} {
		if containsFold(last, word) {
			return true
		}
	}
	for _, word := range [...]string{"error", "fail", "invalid", "denied"} {
		if containsFold(query, word) {
			return true
		}
	}
	return false
}

// containsFold reports whether s holds word, which is in lower case.
func containsFold(s, word string) bool {
	for i := 0; i+len(word) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// isOperation reports whether s can name an operation: up to 128 printable bytes
// without spaces or a '#'.
func isOperation(s string) bool {
	if s == "" || len(s) > jsonKey {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == pipeline.ObjectMark {
			return false
		}
	}
	return true
}

func isGraphQL(path string) bool {
	if n := len(path); n < 3 || path[n-1] != 'l' && path[n-1] != '/' {
		return false // most paths
	}
	last := strings.TrimSuffix(path, "/")
	last = last[strings.LastIndexByte(last, '/')+1:]
	return last == "graphql" || last == "gql"
}

// grpcStatus is what a gRPC status amounts to, by its number or its name; 0 is
// OK. https://grpc.github.io/grpc/core/md_doc_statuscodes.html
func grpcStatus(v string) uint16 {
	switch n, ok := integer(view(v)); {
	case !ok:
		return appError(v)
	case n == 0:
		return 0
	case n == 3, n == 9, n == 11: // INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE
		return 400
	case n == 16:
		return 401
	case n == 7:
		return 403
	case n == 5, n == 12: // NOT_FOUND, UNIMPLEMENTED
		return 404
	case n == 8:
		return 429
	}
	return 500
}

// appError is what an application's error amounts to: a code of GraphQL, gRPC or
// JSON-RPC, an HTTP status, a count of errors, or the list of them. 0 is none,
// 500 an error that says no more.
func appError(v string) uint16 {
	v = strings.TrimSpace(v)
	if v == "" {
		return 0
	}
	if v[0] == '[' || v[0] == '{' {
		if strings.Trim(v, "[]{} \t") == "" {
			return 0
		}
		rest := v
		for range 64 {
			i := strings.Index(rest, `"code"`)
			if i < 0 {
				break
			}
			rest = strings.TrimLeft(rest[i+len(`"code"`):], " :\"")
			end := strings.IndexAny(rest, "\",}] ")
			if end < 0 {
				break
			}
			if status := appError(rest[:end]); status != 0 && status != 500 {
				return status
			}
			rest = rest[end:]
		}
		return 500
	}
	minus := v[0] == '-'
	if n, ok := integer(view(strings.TrimPrefix(v, "-"))); ok {
		switch {
		case n == 0:
			return 0
		case minus && (n == 32700 || n == 32600 || n == 32602):
			return 400
		case minus && n == 32601:
			return 404
		case !minus && n >= 400 && n < 600:
			return uint16(n)
		}
		return 500
	}
	var room [32]byte
	word := room[:0]
	for i := 0; i < len(v) && len(word) < len(room); i++ {
		switch c := v[i]; {
		case c-'A' < 26:
			word = append(word, c|0x20)
		case c != '_' && c != '-' && c != ' ':
			word = append(word, c)
		}
	}
	switch string(word) {
	case "ok", "none", "null", "nil", "false", "success", "noerror":
		return 0
	case "unauthenticated", "unauthorized", "invalidcredentials", "authenticationfailed", "badcredentials", "loginfailed":
		return 401
	case "permissiondenied", "forbidden", "accessdenied":
		return 403
	case "notfound", "unimplemented", "methodnotfound":
		return 404
	case "invalidargument", "failedprecondition", "outofrange", "badrequest", "badrequesterror", "baduserinput", "graphqlvalidationfailed",
		"graphqlparsefailed", "invalidparams", "invalidrequest", "validationerror":
		return 400
	case "resourceexhausted", "toomanyrequests", "ratelimited":
		return 429
	}
	return 500
}

// bodyMembers knows the members of a body that name an operation. It is never
// written.
var bodyMembers = &jsonNode{kids: map[string]*jsonNode{
	"operationname": {slot: slotOperation}, "query": {slot: slotQuery}, "jsonrpc": {slot: slotProtocol}, "method": {slot: slotMethod},
	"variables": {slot: slotVariables}, "params": {slot: slotBody},
}}

// rootField returns the name of a GraphQL document's operation, or of its first
// field where it has none or that one logs somebody in.
func rootField(query []byte) (name []byte, login bool) {
	word := func(i int) (w []byte, end int) {
		from := i
		for i < len(query) && (query[i]|0x20-'a' < 26 || query[i]-'0' < 10 || query[i] == '_') {
			i++
		}
		return query[from:i], i
	}
	skip := func(i int) int {
		for i < len(query) {
			switch {
			case query[i] == '\\' && i+1 < len(query): // an escape of the body: \n, \t
				i += 2
			case query[i] <= ' ' || query[i] == ',':
				i++
			default:
				return i
			}
		}
		return i
	}
	i := skip(0)
	kind, end := word(i)
	if len(kind) > 0 {
		name, end = word(skip(end))
	}
	if end = skip(end); end < len(query) && query[end] == '(' { // the variables' types
		for depth := 0; end < len(query); end++ {
			if c := query[end]; c == '(' {
				depth++
			} else if c == ')' {
				if depth--; depth == 0 {
					break
				}
			}
		}
	}
	open := bytes.IndexByte(query[min(end, len(query)):], '{')
	if open < 0 {
		return name, false
	}
	field, end := word(skip(end + open + 1))
	if i = skip(end); i < len(query) && query[i] == ':' { // an alias
		field, _ = word(skip(i + 1))
	}
	if pipeline.LoginOperation(str(field)) {
		return field, true
	}
	if len(name) == 0 {
		name = field
	}
	return name, false
}
