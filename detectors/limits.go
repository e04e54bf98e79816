package detectors

import (
	"cmp"
	"math/bits"
	"net/http"
	"slices"

	"weir/pipeline"
)

// What a limit rests on.
const (
	// LimitShare is how many of the clients without an alert stay under a limit.
	LimitShare = 0.999
	// limitClients is how many clients an endpoint has at least to have a limit.
	limitClients = 30
	// limitMany is from how many clients on the share can be read off them: below
	// it a limit is twice the busiest one.
	limitMany = 1000
	// limitFloor is the lowest limit, in requests a minute: a person who tries
	// again must not meet it.
	limitFloor = 10

	maxLimitPairs   = 1 << 19 // of an endpoint and a client; beyond it half of the clients go, by hash
	maxLimitPaths   = 1 << 17 // remembered; more are matched again
	maxLimitAt      = 4096    // endpoints looked at
	maxLimits       = 500     // told, those with the most clients
	limitSlot       = 10e6    // microseconds
	limitSlots      = 7       // together they hold any 60 s
	limitSlotCap    = 1<<16 - 1
	limitHashOffset = 9 // the sample is chosen by other bits than a fit's
)

// EndpointLimit is what clients ask of an endpoint at most, and the limit that
// follows from it. A client's peak is its requests in any 60 s, rounded up to
// where slots of 10 s end.
type EndpointLimit struct {
	Host     string // "" for several, or none in the log
	Method   string
	Template string

	PerMinute      int64
	Clients        int64 // without an alert
	Touched        int64 // of those, with a peak above PerMinute
	Median, Most   int64 // of their peaks
	Alerted        int64 // clients with an alert
	AlertedTouched int64
}

// LimitCounter counts what limits follow from. Requests of one client come in
// about their order. One goroutine uses a LimitCounter.
type LimitCounter struct {
	templates *pipeline.Templates
	pairs     map[limitPair]*limitPeak
	paths     map[uint64]int32 // by path and verb; the endpoint, -1 for none
	byID      map[uint64]int32
	endpoints []limitEndpoint
	level     int // clients whose hash has this many trailing zero bits are counted
	scratch   []byte
	requests  int64
}

type limitEndpoint struct{ host, method, template string }

type limitPair struct {
	endpoint int32
	client   uint64
}

// limitPeak is one client at one endpoint.
type limitPeak struct {
	slot   int64 // of 10 s, the latest
	counts [limitSlots]uint16
	peak   uint32
}

// NewLimitCounter counts by the endpoints of t.
func NewLimitCounter(t *pipeline.Templates) *LimitCounter {
	return &LimitCounter{templates: t, pairs: map[limitPair]*limitPeak{}, paths: map[uint64]int32{}, byID: map[uint64]int32{}}
}

// Requests is how many were counted.
func (l *LimitCounter) Requests() int64 { return l.requests }

// Add counts r for client: the owner hash of an address or a credential.
func (l *LimitCounter) Add(r *pipeline.Request, client uint64) {
	if bits.TrailingZeros64(client*0x9e3779b97f4a7c15>>limitHashOffset) < l.level {
		return
	}
	at := l.endpoint(r)
	if at < 0 {
		return
	}
	key := limitPair{at, client}
	p := l.pairs[key]
	if p == nil {
		if len(l.pairs) >= maxLimitPairs {
			l.thin()
			l.Add(r, client)
			return
		}
		p = &limitPeak{}
		l.pairs[key] = p
	}
	l.requests++
	p.add(int64(r.Time) / limitSlot)
}

func (p *limitPeak) add(slot int64) {
	switch {
	case slot-p.slot >= limitSlots:
		p.counts = [limitSlots]uint16{}
		p.slot = slot
	case p.slot-slot >= limitSlots: // late
		slot = p.slot - limitSlots + 1
	}
	for p.slot < slot {
		p.slot++
		p.counts[p.slot%limitSlots] = 0
	}
	if c := &p.counts[(slot%limitSlots+limitSlots)%limitSlots]; *c < limitSlotCap {
		*c++
	}
	sum := uint32(0)
	for _, n := range p.counts {
		sum += uint32(n)
	}
	p.peak = max(p.peak, sum)
}

// thin drops half of the clients.
func (l *LimitCounter) thin() {
	for len(l.pairs) >= maxLimitPairs && l.level < 40 {
		l.level++
		for key := range l.pairs {
			if bits.TrailingZeros64(key.client*0x9e3779b97f4a7c15>>limitHashOffset) < l.level {
				delete(l.pairs, key)
			}
		}
	}
}

// endpoint is the number of r's endpoint, -1 for what has none: assets, paths
// that no template fits, odd methods.
func (l *LimitCounter) endpoint(r *pipeline.Request) int32 {
	if r.PathKey == 0 {
		r.Seal()
	}
	if r.Verb == pipeline.VerbOther || r.Verb == pipeline.VerbOptions {
		return -1
	}
	key := pipeline.Mix64(r.PathKey, uint64(r.Verb))
	if at, ok := l.paths[key]; ok {
		return at
	}
	at := l.match(r)
	if len(l.paths) >= maxLimitPaths {
		clear(l.paths) // attackers choose paths
	}
	l.paths[key] = at
	return at
}

func (l *LimitCounter) match(r *pipeline.Request) int32 {
	var path string
	path, l.scratch = pipeline.EndpointPath(l.scratch, r)
	var m pipeline.Match
	l.templates.Match(r.Host, path, &m)
	if !m.Known || m.Cold || m.Static {
		return -1
	}
	id := pipeline.Mix64(m.Template, uint64(r.Verb))
	if at, ok := l.byID[id]; ok {
		if e := &l.endpoints[at]; e.host != r.Host {
			e.host = ""
		}
		return at
	}
	text, ok := l.templates.Text(m.Template)
	if !ok || len(l.endpoints) == maxLimitAt {
		return -1
	}
	at := int32(len(l.endpoints))
	l.endpoints = append(l.endpoints, limitEndpoint{clean(r.Host, 256), methodOf(r.Verb), pipeline.OperationText(text)})
	l.byID[id] = at
	return at
}

func methodOf(v pipeline.Verb) string {
	switch v {
	case pipeline.VerbHead:
		return http.MethodHead
	case pipeline.VerbPost:
		return http.MethodPost
	case pipeline.VerbPut:
		return http.MethodPut
	case pipeline.VerbDelete:
		return http.MethodDelete
	case pipeline.VerbPatch:
		return http.MethodPatch
	}
	return http.MethodGet
}

// Limits returns the limits, in the order of host, template and method; alerted
// tells whether a client has an alert. It depends on what was added alone.
func (l *LimitCounter) Limits(alerted func(client uint64) bool) []EndpointLimit {
	quiet, loud := make([][]uint32, len(l.endpoints)), make([][]uint32, len(l.endpoints))
	for key, p := range l.pairs {
		list := quiet
		if alerted(key.client) {
			list = loud
		}
		list[key.endpoint] = append(list[key.endpoint], p.peak)
	}
	var out []EndpointLimit
	for i, e := range l.endpoints {
		if peaks := quiet[i]; len(peaks) >= limitClients {
			out = append(out, limitOf(e, peaks, loud[i]))
		}
	}
	slices.SortFunc(out, func(a, b EndpointLimit) int {
		return cmp.Or(cmp.Compare(b.Clients, a.Clients), compareEndpoints(a, b))
	})
	out = out[:min(len(out), maxLimits)]
	slices.SortFunc(out, compareEndpoints)
	return out
}

func compareEndpoints(a, b EndpointLimit) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Template, b.Template), cmp.Compare(a.Method, b.Method))
}

// limitOf reads the limit off the peaks; it sorts them.
func limitOf(e limitEndpoint, quiet, loud []uint32) EndpointLimit {
	slices.Sort(quiet)
	n := len(quiet)
	most := int64(quiet[n-1])
	limit := 2 * most
	if n >= limitMany {
		limit = int64(quiet[n-1-int(float64(n)*(1-LimitShare))])
	}
	out := EndpointLimit{
		Host: e.host, Method: e.method, Template: e.template, PerMinute: max(limit, limitFloor),
		Clients: int64(n), Median: int64(quiet[n/2]), Most: most, Alerted: int64(len(loud)),
	}
	above := func(peaks []uint32) (k int64) {
		for _, p := range peaks {
			if int64(p) > out.PerMinute {
				k++
			}
		}
		return k
	}
	out.Touched, out.AlertedTouched = above(quiet), above(loud)
	return out
}
