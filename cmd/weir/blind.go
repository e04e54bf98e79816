package main

import (
	"cmp"
	"fmt"
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
	since     pipeline.Time
	until     pipeline.Time
	requests  int64
	noStatus  int64
	noMethod  int64
	noAgent   int64
	noBytes   int64
	queries   int64 // with a query string
	named     int64 // with a user, key or session
	accounts  int64 // with a user
	noAddress int64
	logins    int64 // and questions about accounts
	noLogin   int64 // of these, without the account that was tried
	crowd     crowd
	sampled   float64 // the smallest share that a source shows; 0 all
	endpoints map[string]*blindEndpoint
	entrances entrances
}

// blindEndpoint is an endpoint that may hide something.
type blindEndpoint struct {
	login    bool
	attempts int64
	hidden   int64 // no operation, or an outcome that is not known
	known    int64 // outcomes in a row that are known
	nameless int64 // attempts without the account that was tried
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
	if b.requests == 0 {
		b.since = r.Effective
	}
	b.until = r.Effective
	b.requests++
	b.missing(r)
	b.entrances.add(r)
	login := r.Flags&pipeline.FlagLogin != 0 && (r.Verb == pipeline.VerbPost || r.Verb == pipeline.VerbPut)
	if login || r.Flags&pipeline.FlagAsks != 0 {
		b.logins++
		if r.LoginUser == "" {
			b.noLogin++
		}
	}
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
	if login && r.LoginUser == "" {
		e.nameless++
	}
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

// missing counts the fields that r does not have.
func (b *blindSpots) missing(r *pipeline.Request) {
	if r.Status == 0 {
		b.noStatus++
	}
	if r.Verb == pipeline.VerbOther && r.Method == "" {
		b.noMethod++
	}
	if r.AgentKey == 0 {
		b.noAgent++
	}
	if r.Bytes < 0 {
		b.noBytes++
	}
	if r.Query != "" {
		b.queries++
	}
	if r.Kind > pipeline.PrincipalIP || r.Flags&pipeline.FlagRefused != 0 {
		b.named++
	}
	if r.Account != "" {
		b.accounts++
	}
	if r.Address.IsZero() {
		b.noAddress++
	}
	b.crowd.add(r)
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
