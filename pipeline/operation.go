package pipeline

import (
	"strings"
	"unsafe"
)

// Some endpoints are many: /graphql answers every operation, a JSON-RPC endpoint
// every method. Where the source names the operation it is part of the endpoint,
// as if it were the last segment of the path: "/graphql#GetOrder". And some
// answers fail inside a 2xx, with an error that only the source knows; the
// request then carries the status that the error amounts to.

// maxOperation is how much of an operation's name counts, in bytes.
const maxOperation = 64

// operationMark is '#' as a canonical path writes it.
const operationMark = "/%23"

// ObjectMark stands in Request.Operation before the id of the object that the
// request asks for, where a body names it: "GetOrder#1042". The id is a segment
// of the endpoint's path of its own, "/graphql#GetOrder/1042", so that templates
// have a slot for it and nothing else needs to know where it came from.
const ObjectMark = '#'

// AppendEndpointPath appends the path under which templates know r: with its
// operation as a last segment where it has one, and the object that a body names
// behind it. Bytes of an operation that mean something in a path, and what is
// longer than 64 bytes, are left out.
func AppendEndpointPath(dst []byte, r *Request) []byte {
	if r.Operation == "" {
		return append(dst, r.Path...)
	}
	path := r.Path
	for len(path) > 0 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	name, object := r.Operation, ""
	if i := strings.LastIndexByte(name, ObjectMark); i >= 0 && ObjectID(name[i+1:]) {
		name, object = name[:i], name[i+1:]
	}
	dst = append(append(dst, path...), operationMark...)
	for i := 0; i < len(name) && i < maxOperation; i++ {
		if c := name[i]; isOperationByte(c) {
			dst = append(dst, c)
		} else if c == '/' || c == ':' {
			dst = append(dst, '.')
		}
	}
	if object != "" {
		dst = append(append(dst, '/'), object...)
	}
	return dst
}

// EndpointText is the path of r as people read it, with its operation and the
// object that a body names: "/graphql#GetOrder/1042".
func EndpointText(r *Request) string {
	if r.Operation == "" {
		return r.Path
	}
	return OperationText(string(AppendEndpointPath(nil, r)))
}

// EndpointPath is AppendEndpointPath as a string. It points into scratch, whose
// new value it returns, where there is an operation, else it is the path.
func EndpointPath(scratch []byte, r *Request) (path string, grown []byte) {
	if r.Operation == "" {
		return r.Path, scratch
	}
	scratch = AppendEndpointPath(scratch[:0], r)
	return unsafe.String(unsafe.SliceData(scratch), len(scratch)), scratch
}

// OperationText turns the template of a path with an operation into what people
// read: "/graphql/%23GetOrder" is "/graphql#GetOrder".
func OperationText(template string) string {
	for i := len(template) - len(operationMark); i >= 0; i-- {
		if template[i:i+len(operationMark)] == operationMark {
			return template[:i] + "#" + template[i+len(operationMark):]
		}
	}
	return template
}

func isOperationByte(c byte) bool {
	return c|0x20-'a' < 26 || c-'0' < 10 || c == '_' || c == '-' || c == '.'
}

// appShift is where the class of an application's failure lies in the flags.
const appShift = 13

// FlagAppClass holds what a failure inside a 2xx amounts to, see Answer.
const FlagAppClass RequestFlags = 7 << appShift

// SetApp notes what the application said inside the answer: 0 that it worked,
// else the status that its failure amounts to. Statuses other than 400, 401,
// 403, 404 and 429 become 500: it failed, and no more is known.
func (r *Request) SetApp(status uint16) {
	r.Flags &^= FlagAppClass | FlagAppFailed
	r.Flags |= FlagAppStatus
	if status == 0 {
		return
	}
	class := RequestFlags(0)
	switch status {
	case 400:
		class = 1
	case 401:
		class = 2
	case 403:
		class = 3
	case 404:
		class = 4
	case 429:
		class = 5
	}
	r.Flags |= FlagAppFailed | class<<appShift
}

// Answer is the status that the answer amounts to: the HTTP status, unless that
// says success or redirects and the application says failure.
func (r *Request) Answer() uint16 {
	if r.Flags&FlagAppFailed == 0 || r.Status >= 400 {
		return r.Status
	}
	switch r.Flags & FlagAppClass >> appShift {
	case 1:
		return 400
	case 2:
		return 401
	case 3:
		return 403
	case 4:
		return 404
	case 5:
		return 429
	}
	return 500
}

// ReadsPath reports whether a path with an operation, as AppendEndpointPath makes
// it, or of a gRPC method is one that reads: by the verb that the operation's name
// begins with, a noun for a GraphQL query. Requests to it are POSTs all the same.
func ReadsPath(path string) bool {
	var name string
	operation := false
	if i := strings.LastIndex(path, operationMark); i >= 0 {
		if i > 0 && path[strings.LastIndexByte(path[:i], '/')+1:i] == "graphql" {
			operation = true
		}
		name = path[i+len(operationMark):]
		if j := strings.IndexByte(name, '/'); j >= 0 {
			name = name[:j] // the object
		}
		if method, ok := methodOfRPC(path[:i]); ok {
			name = method
		}
	} else if method, ok := methodOfRPC(path); ok {
		name = method
	} else {
		return false
	}
	name = name[strings.LastIndexAny(name, "._")+1:]
	for _, verb := range [...]string{"get", "list", "find", "search", "fetch", "read", "lookup", "query", "stream", "show", "view", "describe", "browse", "count"} {
		if hasVerb(name, verb) {
			return true
		}
	}
	if !operation {
		return false
	}
	for _, verb := range [...]string{
		"create", "update", "delete", "remove", "add", "set", "change", "put", "post", "save", "submit", "send", "cancel", "checkout", "register", "login",
		"logout", "sign", "reset", "request", "track", "import", "upload", "move", "approve", "pay", "mark", "confirm", "refresh", "place", "make", "edit",
		"upsert", "insert", "apply", "start", "stop", "enable", "disable", "invite", "accept", "reject", "subscribe", "unsubscribe", "verify",
	} {
		if hasVerb(name, verb) {
			return false
		}
	}
	return true
}

// methodOfRPC is Method of /package.Service/Method.
func methodOfRPC(path string) (string, bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 1 || i+1 == len(path) || !upper(path[i+1]) {
		return "", false
	}
	service := path[strings.LastIndexByte(path[:i], '/')+1 : i]
	dot := strings.LastIndexByte(service, '.')
	return path[i+1:], dot > 0 && dot+1 < len(service) && upper(service[dot+1])
}

// hasVerb reports whether name begins with verb as a word of its own.
func hasVerb(name, verb string) bool {
	if len(name) < len(verb) || !strings.EqualFold(name[:len(verb)], verb) {
		return false
	}
	return len(name) == len(verb) || name[len(verb)]-'a' >= 26
}

// LoginOperation reports whether an operation logs somebody in, by the last
// part of its name.
func LoginOperation(op string) bool {
	var room [maxOperation]byte
	if op == "" || len(op) > maxOperation {
		return false
	}
	name := room[:0]
	for i := 0; i < len(op); i++ {
		switch c := op[i]; {
		case c == '.' || c == '/' || c == ':':
			name = name[:0]
		case c-'A' < 26:
			name = append(name, c|0x20)
		case c != '_' && c != '-':
			name = append(name, c)
		}
	}
	switch string(name) {
	case "login", "signin", "logon", "authenticate", "dologin", "userlogin", "loginuser", "authenticateuser", "signinuser",
		"loginwithpassword", "tokenauth", "tokencreate", "customeraccesstokencreate", "generatecustomertoken":
		return true
	}
	return false
}
