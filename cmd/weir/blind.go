package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"weir/detectors"
	"weir/pipeline"
)

// blindSpots counts what detection cannot see in a log, and says which log
// setting or line of configuration would show it. Endpoints are bounded; those
// beyond are not named. One goroutine uses it.
type blindSpots struct {
	set       *detectors.Set // nil: what was learned is not asked
	requests  int64
	noStatus  int64
	named     int64 // with a user, key or session
	noAddress int64
	endpoints map[string]*blindEndpoint
	entrances entrances
}

// blindEndpoint is an endpoint that may hide something.
type blindEndpoint struct {
	login    bool
	attempts int64
	hidden   int64 // no operation, or an outcome that is not known
	known    int64 // outcomes in a row that are known
	told     int64 // the log says whether the application failed
	objects  int64 // the log says which object is asked for
	good     int64 // answered 2xx or 3xx
	answers  map[blindAnswer]int64
}

type blindAnswer struct {
	status uint16
	bytes  int64
}

const (
	maxBlindEndpoints = 128
	maxBlindAnswers   = 32 // of an endpoint
	maxBlindLines     = 6
	minBlindRequests  = 20 // fewer are not worth a line
)

func newBlindSpots(set *detectors.Set) *blindSpots {
	return &blindSpots{set: set, endpoints: map[string]*blindEndpoint{}, entrances: newEntrances()}
}

// observe takes the next requests, in order.
func (b *blindSpots) observe(batch []pipeline.Ordered) {
	for i := range batch {
		b.add(batch[i].Request)
	}
}

func (b *blindSpots) add(r *pipeline.Request) {
	b.requests++
	if r.Status == 0 {
		b.noStatus++
	}
	if r.Kind > pipeline.PrincipalIP || r.Flags&pipeline.FlagRefused != 0 {
		b.named++
	}
	if r.Address.IsZero() {
		b.noAddress++
	}
	b.entrances.add(r)
	login := r.Flags&pipeline.FlagLogin != 0 && (r.Verb == pipeline.VerbPost || r.Verb == pipeline.VerbPut)
	switch {
	case login:
	case r.Verb == pipeline.VerbPost && manyInOne(r.Path):
	case r.Verb == pipeline.VerbPost && isGRPC(r.Path):
	default:
		return
	}
	e := b.endpoint(r)
	if e == nil {
		return
	}
	e.login = e.login || login
	e.attempts++
	if r.Flags&pipeline.FlagAppStatus != 0 {
		e.told++
	}
	if strings.IndexByte(r.Operation, pipeline.ObjectMark) >= 0 {
		e.objects++
	}
	good := r.Status >= 200 && r.Status < 400
	if good {
		e.good++
	}
	switch {
	case login:
		switch {
		case !good || b.set == nil:
		case !b.set.LoginKnown(r):
			e.hidden, e.known = e.hidden+1, 0
		default:
			if e.known++; e.known >= minBlindRequests {
				e.hidden = 0 // learned meanwhile
			}
		}
		if a := (blindAnswer{r.Status, r.Bytes}); e.answers[a] > 0 || len(e.answers) < maxBlindAnswers {
			e.answers[a]++
		}
	case r.Operation == "" && manyInOne(r.Path):
		e.hidden++
	}
}

func (b *blindSpots) endpoint(r *pipeline.Request) *blindEndpoint {
	name := r.Method + " " + r.Path
	if r.Operation != "" && r.Flags&pipeline.FlagLogin != 0 {
		name = r.Method + " " + pipeline.EndpointText(r) // one of many that the path answers
	}
	e := b.endpoints[name]
	if e == nil {
		if len(b.endpoints) >= maxBlindEndpoints || len(r.Path) > 256 {
			return nil
		}
		e = &blindEndpoint{answers: map[blindAnswer]int64{}}
		b.endpoints[strings.Clone(name)] = e
	}
	return e
}

// manyInOne reports whether a path answers many operations.
func manyInOne(path string) bool {
	switch last := path[strings.LastIndexByte(strings.TrimSuffix(path, "/"), '/')+1:]; strings.TrimSuffix(last, "/") {
	case "graphql", "gql", "jsonrpc", "json-rpc", "rpc":
		return true
	}
	return false
}

// isGRPC reports whether a path is /package.Service/Method.
func isGRPC(path string) bool {
	service, method, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || strings.ContainsRune(method, '/') || method == "" || method[0] < 'A' || method[0] > 'Z' {
		return false
	}
	i := strings.LastIndexByte(service, '.')
	return i > 0 && i+1 < len(service) && service[i+1] >= 'A' && service[i+1] <= 'Z'
}

// lines says what is not seen, the worst first.
func (b *blindSpots) lines() []string {
	var out []string
	if b.requests < minBlindRequests {
		return nil
	}
	if b.noAddress*2 > b.requests {
		told := "nobody can be told apart"
		if b.named*2 > b.requests {
			told = "who changes session, key or user is another client"
		}
		out = append(out, fmt.Sprintf("%d of %d requests name no client address: %s. Log $remote_addr.", b.noAddress, b.requests, told))
	}
	if b.noStatus*20 > b.requests {
		out = append(out, fmt.Sprintf("%d of %d requests have no status: misses and refusals are not seen. Log $status.", b.noStatus, b.requests))
	}
	names := make([]string, 0, len(b.endpoints))
	for name := range b.endpoints {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int {
		if c := cmp.Compare(b.endpoints[y].attempts, b.endpoints[x].attempts); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	})
	for _, name := range names {
		e := b.endpoints[name]
		_, path, _ := strings.Cut(name, " ")
		shown := fmt.Sprintf("%q", name)
		shown = shown[1 : len(shown)-1]
		switch {
		case e.login && e.hidden >= minBlindRequests:
			out = append(out, fmt.Sprintf("%s: the outcome of %d of %d logins is not known (%s); too few people went on or tried again to learn it. Name it: endpoints: [{match: %q, role: login, failure: {or_size: BYTES}}], or log $sent_http_location.",
				shown, e.hidden, e.attempts, e.common(), name))
		case e.login:
		case e.hidden >= minBlindRequests && e.hidden*2 > e.attempts:
			out = append(out, fmt.Sprintf("%s: %s and the log shows no operation for %d of %d: all look alike. Log a JSON member graphql_operation (or $request_body) and graphql_errors or error_code.",
				shown, e.told200(), e.hidden, e.attempts))
		case isGRPC(path) && e.told == 0 && e.attempts >= minBlindRequests:
			out = append(out, fmt.Sprintf("%s: %s and the log shows no gRPC status: failures are not seen. Log $upstream_trailer_grpc_status or a JSON member grpc_status.", shown, e.told200()))
		}
	}
	if len(out) > maxBlindLines {
		more := len(out) - maxBlindLines
		out = append(out[:maxBlindLines], fmt.Sprintf("and %d endpoints more", more))
	}
	if line := b.opaqueLine(names); line != "" {
		out = append(out, line)
	}
	for _, p := range b.entrances.found() {
		out = append(out, p.text())
	}
	if b.named == 0 {
		out = append(out, "no request names a user, a key or a session: clients are addresses. Log $remote_user, a session cookie or an API key.")
	}
	return out
}

// opaque reports whether there are GraphQL, JSON-RPC or gRPC endpoints and not one
// request to them shows which object it asks for.
func (b *blindSpots) opaque() bool { return b.opaqueLine(nil) != "" }

// opaqueLine says so, naming the first of names that is such an endpoint.
func (b *blindSpots) opaqueLine(names []string) string {
	var attempts, objects int64
	for name, e := range b.endpoints {
		if e.asksInBody(name) {
			attempts, objects = attempts+e.attempts, objects+e.objects
		}
	}
	if objects > 0 || attempts < minBlindRequests {
		return ""
	}
	first, more := "", 0
	for _, name := range names {
		switch {
		case !b.endpoints[name].asksInBody(name):
		case first == "":
			first = fmt.Sprintf("%q", name)
			first = first[1 : len(first)-1]
		default:
			more++
		}
	}
	also := ""
	if more > 0 {
		also = fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%s%s: the log does not show which objects are asked for: reading those of others is not detectable there. Log $request_body or a JSON member graphql_variables; only ids are kept of it.",
		first, also)
}

// asksInBody reports whether the endpoint called name is one whose requests say in
// their bodies what they ask for. One that shows no operation has its own line.
func (e *blindEndpoint) asksInBody(name string) bool {
	_, path, _ := strings.Cut(name, " ")
	return !e.login && (isGRPC(path) || manyInOne(path) && e.hidden*2 <= e.attempts)
}

// told200 says how the endpoint answers.
func (e *blindEndpoint) told200() string {
	if e.good == e.attempts {
		return fmt.Sprintf("answers success to all %d requests", e.attempts)
	}
	return fmt.Sprintf("answers success to %d of %d requests", e.good, e.attempts)
}

// common lists the answers seen most.
func (e *blindEndpoint) common() string {
	list := make([]blindAnswer, 0, len(e.answers))
	for a := range e.answers {
		list = append(list, a)
	}
	slices.SortFunc(list, func(x, y blindAnswer) int {
		return cmp.Or(cmp.Compare(e.answers[y], e.answers[x]), cmp.Compare(x.status, y.status), cmp.Compare(x.bytes, y.bytes))
	})
	var parts []string
	for _, a := range list[:min(3, len(list))] {
		size := "no size"
		if a.bytes >= 0 {
			size = fmt.Sprintf("%d bytes", a.bytes)
		}
		parts = append(parts, fmt.Sprintf("%d × %d with %s", e.answers[a], a.status, size))
	}
	return strings.Join(parts, ", ")
}

// write prints the blind spots, if there are any.
func (b *blindSpots) write(w io.Writer) {
	for _, line := range b.lines() {
		fmt.Fprintf(w, "blind: %s\n", line)
	}
}
