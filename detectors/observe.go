package detectors

import (
	"strconv"
	"strings"

	"weir/pipeline"
)

// observer reduces requests to observations under one edition. One goroutine
// uses an observer; it remembers what it learned of recent paths.
type observer struct {
	t      *pipeline.Templates
	b      *Baselines
	logins *pipeline.LoginRules
	cold   bool           // no host has templates
	truth  []learnedTruth // of login endpoints, beyond what the baselines hold
	path   []byte         // scratch
	paths  []pathFacts    // two places for each, see recall
	agents []agentFacts
}

// pathFacts is what a path means under the edition; it fills one cache line.
type pathFacts struct {
	key      uint64
	template uint64
	path     uint64
	object   uint64
	number   int64
	rarity   int32 // Nats
	tail     int32 // Nats
	flags    pipeline.ObservationFlags
	class    pipeline.EndpointClass
	ranked   bool // rarity is known
	reads    bool // a POST here reads
	endpoint *EndpointBaseline
}

// agentFacts is what a user agent says of itself.
type agentFacts struct {
	key      uint64
	declared bool
}

const (
	pathCache  = 1 << 14
	agentCache = 1 << 10
)

// declares reports whether r's agent names itself a crawler.
func (v *observer) declares(r *pipeline.Request) bool {
	f := &v.agents[r.AgentKey&(agentCache-1)]
	if f.key != r.AgentKey {
		*f = agentFacts{r.AgentKey, declared(r.Agent)}
	}
	return f.declared
}

func newObserver(t *pipeline.Templates, b *Baselines) *observer {
	return &observer{t: t, b: b, cold: t.Len() == 0, paths: make([]pathFacts, pathCache), agents: make([]agentFacts, agentCache)}
}

// observe fills o from r. owner says about whom: the request's principal, or
// its address when a credential owns it. It returns what is known of the
// endpoint, nil if nothing is.
func (v *observer) observe(o *pipeline.Observation, r *pipeline.Request) *EndpointBaseline {
	if r.PathKey == 0 {
		r.Seal()
	}
	path := r.Path
	f := v.recall(r.PathKey)
	if f == nil || !f.ranked {
		path, v.path = pipeline.EndpointPath(v.path, r)
		if f == nil {
			f = v.facts(r.PathKey, r.Host, path)
		}
	}
	status := r.Answer()
	*o = pipeline.Observation{
		Time: r.Effective, Owner: r.Owner,
		Endpoint: pipeline.Mix64(f.template, uint64(r.Verb)), Template: f.template, Path: f.path,
		Object: f.object, Number: f.number, Bytes: r.Bytes, Tail: pipeline.Nats(f.tail), Item: f.path,
		Agent: r.AgentKey, Page: -1, Status: status, Class: f.class, Flags: f.flags,
	}
	if r.Flags&pipeline.FlagPretends != 0 {
		o.Flags |= pipeline.ObsPretends
	}
	if r.Referer != "" {
		o.Flags |= pipeline.ObsLinked
	}
	if r.Verb == pipeline.VerbGet || r.Verb == pipeline.VerbHead || f.reads && r.Verb == pipeline.VerbPost {
		o.Flags |= pipeline.ObsRead
	}
	switch status {
	case 400, 403, 404, 405, 410, 501:
		o.Flags |= pipeline.ObsMiss
	case 401:
		o.Flags |= pipeline.ObsRefused
	}
	if preflight(r) {
		// A browser asks on its own, and the answer says what scripts may do.
		o.Flags &^= pipeline.ObsMiss | pipeline.ObsUnknown
		o.Object = 0
	}
	if o.Flags&(pipeline.ObsMiss|pipeline.ObsUnknown) != 0 || v.cold {
		o.Rarity = v.rank(f, path)
	}
	if r.Flags&pipeline.FlagLogin != 0 {
		o.Flags |= pipeline.ObsLogin
		o.Flags &^= pipeline.ObsMiss
		v.outcome(o, r, f.endpoint)
		if r.LoginUser != "" {
			o.User = pipeline.Hash64(r.LoginUser)
		}
	}
	if r.Flags&pipeline.FlagAsks != 0 {
		v.asks(o, r)
	}
	if r.Query != "" && !f.is(pipeline.ObsStatic) {
		catalogue := f.catalogue()
		if param, number, numbered := queryID(r.Query); param != 0 && o.Object == 0 && !f.is(pipeline.ObsUnknown) {
			o.Object, o.Number = max(pipeline.Mix64(f.path, param), 1), number
			o.Flags |= pipeline.ObsSlot | pipeline.ObsQueried
			if numbered {
				o.Flags |= pipeline.ObsNumber
			}
			catalogue = f.template
			o.Item = o.Object
			o.Tail = v.b.tail(o.Item, catalogue)
		}
		if page := pipeline.QueryPage(r.Query); page >= 0 {
			o.Page = page
			o.Item = pipeline.Mix64(o.Item, uint64(page)+1)
			if o.Tail = 0; page < pipeline.CursorFrom { // of cursors none is popular
				o.Tail = v.b.tail(o.Item, catalogue)
			}
		}
	}
	return f.endpoint
}

// outcome decides whether a login failed: as configured, else as the
// application said, else as learned for the endpoint, else by its status. Where
// none tells, neither flag is set.
func (v *observer) outcome(o *pipeline.Observation, r *pipeline.Request, e *EndpointBaseline) {
	tell := func(failed bool) {
		if failed {
			o.Flags |= pipeline.ObsFailed
		} else {
			o.Flags |= pipeline.ObsWorked
		}
	}
	if v.logins != nil {
		if failed, known, basis := v.logins.Failed(r.Method, r.Path, o.Status, r.Bytes, false); known && (basis == "configured" || basis == "standard") {
			tell(failed)
			return
		}
	}
	switch {
	case o.Status == 400 || o.Status == 401 || o.Status == 403 || o.Status == 422 || o.Status == 429:
		o.Flags |= pipeline.ObsFailed
	case r.Flags&pipeline.FlagAppStatus != 0 && r.Status < 400:
		tell(r.Flags&pipeline.FlagAppFailed != 0)
	case o.Status >= 200 && o.Status < 400:
		if failed, known := v.learned(e, o.Template, o.Status, r.Bytes); known {
			tell(failed)
		}
	}
}

// preflight reports whether r is a question of a browser about another site's
// script, or an answer that says no more than that. What is not there is no such
// answer.
func preflight(r *pipeline.Request) bool {
	return r.Verb == pipeline.VerbOptions && r.Status != 404 && r.Status != 410
}

func (f *pathFacts) is(flag pipeline.ObservationFlags) bool { return f.flags&flag != 0 }

// asset reports a file that pages are made of and that names no object.
func (f *pathFacts) asset() bool { return f.is(pipeline.ObsStatic) && f.object == 0 }

// catalogue is what the path's items are counted among.
func (f *pathFacts) catalogue() uint64 {
	if f.is(pipeline.ObsSlot) {
		return f.template
	}
	return 0
}

// rank sets the path's rarity, which only misses and paths that no template
// knows are asked for.
func (v *observer) rank(f *pathFacts, path string) pipeline.Nats {
	if !f.ranked {
		f.ranked = true
		if n := rarity(path); n > 0 && !v.b.asked(f.path) {
			f.rarity = int32(n)
		}
	}
	return pipeline.Nats(f.rarity)
}

// factsOf returns what the endpoint of r means.
func (v *observer) factsOf(r *pipeline.Request) *pathFacts {
	if f := v.recall(r.PathKey); f != nil {
		return f
	}
	path := r.Path
	if r.Operation != "" {
		path, v.path = pipeline.EndpointPath(v.path, r)
	}
	return v.facts(r.PathKey, r.Host, path)
}

// firstPlace is where the facts about the path with this key are, or else behind.
func firstPlace(key uint64) uint64 { return key & (pathCache - 2) }

// recall returns what is remembered of the path with this key, nil if nothing is.
func (v *observer) recall(key uint64) *pathFacts {
	at := firstPlace(key)
	for i := at; i <= at+1; i++ {
		if f := &v.paths[i]; f.key == key && f.path != 0 {
			return f
		}
	}
	return nil
}

// facts returns what the path with this key means. The latest is remembered in the
// first place, the one before it in the second.
func (v *observer) facts(key uint64, host, path string) *pathFacts {
	if f := v.recall(key); f != nil {
		return f
	}
	f := &v.paths[firstPlace(key)]
	v.paths[firstPlace(key)+1] = *f
	var m pipeline.Match
	v.t.Match(host, path, &m)
	*f = pathFacts{key: key, template: m.Template, path: m.Path, object: m.Object, number: m.Number}
	if f.path == 0 {
		f.path = key | 1
	}
	if m.HasNumber {
		f.flags |= pipeline.ObsNumber
	}
	if m.Static {
		f.flags |= pipeline.ObsStatic
		f.class = pipeline.ClassStatic
	}
	if m.Odd {
		f.flags |= pipeline.ObsOdd
	}
	if m.Slots > 0 {
		f.flags |= pipeline.ObsSlot
	}
	if !m.Known && !m.Cold {
		f.flags |= pipeline.ObsUnknown
	}
	if askedBySoftware(path) {
		f.flags |= pipeline.ObsAuto
		f.ranked = true
	}
	f.reads = pipeline.ReadsPath(path)
	f.endpoint = v.b.endpoint(f.template)
	f.tail = int32(v.b.tail(f.path, f.catalogue()))
	return f
}

// queryID is the hash of the parameter that names an object and of its value; 0
// without one.
func queryID(query string) (param uint64, number int64, numbered bool) {
	name, value, ok := pipeline.QueryID(query)
	if !ok {
		return 0, 0, false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return max(pipeline.Mix64(pipeline.Hash64(name), pipeline.Hash64(value)), 1), n, err == nil
}

// objectText is the object as an alert lists it.
func objectText(r *pipeline.Request, o *pipeline.Observation) string {
	return toValid(string(appendObject(nil, r, o)))
}

// appendObject appends that to dst, cut to a length but not yet made valid UTF-8.
func appendObject(dst []byte, r *pipeline.Request, o *pipeline.Observation) []byte {
	cut := func(s string, n int) string { return s[:min(len(s), n)] }
	if o.Has(pipeline.ObsQueried) {
		if name, value, ok := pipeline.QueryID(r.Query); ok {
			dst = append(append(dst, cut(r.Path, 128)...), '?')
			dst = append(append(dst, cut(name, 64)...), '=')
			return append(dst, cut(value, 64)...)
		}
	}
	return append(dst, cut(pipeline.EndpointText(r), 192)...)
}

// templateText is the template as an alert shows it.
func templateText(t *pipeline.Templates, r *pipeline.Request, o *pipeline.Observation) string {
	text := endpointText(t, r)
	if text == "{unknown}" && r.Verb == pipeline.VerbPost && r.Flags&(pipeline.FlagLogin|pipeline.FlagAsks) != 0 {
		text = clean(r.Path, 128) // a form that only its abuser used: nobody shows where to look in {unknown}
	}
	if o.Has(pipeline.ObsQueried) {
		if name, _, ok := pipeline.QueryID(r.Query); ok {
			text += "?" + clean(name, 64) + "={id}"
		}
	}
	return text
}

// source names a request's place for an exemplar.
func source(r pipeline.Ordered) string {
	name := ""
	if r.Block != nil {
		name = r.Block.Source
	}
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	return clean(name, 128) + ":" + strconv.FormatInt(r.Line, 10)
}

func toValid(s string) string { return strings.Clone(strings.ToValidUTF8(s, "\uFFFD")) }
