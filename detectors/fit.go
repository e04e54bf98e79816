package detectors

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/pipeline"
)

// Fitter learns an edition from a sample of whole clients: endpoint templates
// first, then, under those, the priors, the endpoints and the popularity of
// items. Clients with evidence against them do not teach: with 3 % attackers in
// the sample a plain fit triples the time to detect, a gated one does not move it
// (detection.md 3.0). What it learns does not depend on the order of Add
// between clients. One goroutine uses a Fitter.
type Fitter struct {
	rows    []fitRow
	paths   []fitPath
	index   map[uint64]uint32
	perKey  map[uint64]uint32 // rows by client
	level   atomic.Uint32     // clients whose hash has this many leading zero bits are kept
	first   pipeline.Time
	named   bool // somebody came with an account or a key: the log shows who is served
	methods []string
	path    []byte // scratch

	last     pipeline.Time // of a request
	before   *Baselines    // that the fit follows; nil none
	beforeAt pipeline.Time
	held     []string
}

type fitPath struct {
	key        uint64 // Request.PathKey
	host, path string
	reads      bool // a POST there reads
}

// fitRow is one request of the sample, 80 bytes.
type fitRow struct {
	owner  uint64
	client uint64
	time   pipeline.Time
	param  uint64 // the query's object, see queryID; 0 none
	number int64
	path   uint32
	page   int32
	status uint16
	method uint8
	flags  uint16
	size   int32
	agent  uint32
	user   uint32 // of the hash of the account that a login tries; 0 not visible
	fitExtras
}

const (
	fitLogin uint16 = 1 << iota
	fitLinked
	fitRead
	fitAccount   // names an account
	fitStates    // the source says whether the application failed
	fitPreflight // a question of a browser
	fitAsks      // asks about an account
	fitProven    // owned by a subject, an account or a key
	fitNumber    // number is set
)

const (
	// FitLimit is how many requests a fit keeps at most: beyond it, half of the
	// clients are dropped, by hash, until the rest fit.
	FitLimit = 1 << 17
	// fitClientLimit is how many requests of one client teach.
	fitClientLimit = 1 << 13
	maxMethods     = 64
)

// NewFitter returns an empty fitter.
func NewFitter() *Fitter {
	return &Fitter{index: map[uint64]uint32{}, perKey: map[uint64]uint32{}, first: pipeline.NoTime, last: pipeline.NoTime}
}

// Expect tells the fitter that about n requests will come, so that it need not
// begin with clients that it would drop later.
func (f *Fitter) Expect(n int64) {
	if f.rows == nil {
		f.rows = make([]fitRow, 0, min(n, FitLimit+1)) // memory that nothing touches yet
	}
	for n > FitLimit+FitLimit/8 && f.level.Load() < 40 {
		n /= 2
		f.level.Add(1)
	}
}

// Len returns how many requests the sample holds.
func (f *Fitter) Len() int { return len(f.rows) }

// Keeps reports whether requests of the client are still wanted: the owner hash
// of an address. It may be called from any goroutine, to spare parsing the others.
func (f *Fitter) Keeps(client uint64) bool {
	// The high bits choose the virtual shard; the sample is chosen by others.
	return uint32(bits.TrailingZeros64(client*0x9e3779b97f4a7c15>>7)) >= f.level.Load()
}

// Add takes one request; it keeps no reference to r's memory. Requests of one
// client must come in their order.
func (f *Fitter) Add(r *pipeline.Request) {
	if r.Kind == pipeline.PrincipalNone {
		return
	}
	client := r.Owner
	if !r.Address.IsZero() {
		client = r.Address.Owner()
	}
	if !f.Keeps(client) || f.perKey[client] >= fitClientLimit {
		return
	}
	f.perKey[client]++
	if r.PathKey == 0 {
		r.Seal()
	}
	key := r.PathKey
	id, ok := f.index[key]
	if !ok {
		id = uint32(len(f.paths))
		var path string
		path, f.path = pipeline.EndpointPath(f.path, r)
		f.paths = append(f.paths, fitPath{key, clean(r.Host, 256), clean(path, 2048), pipeline.ReadsPath(path)})
		f.index[key] = id
	}
	row := fitRow{owner: r.Owner, client: client, time: r.Time, path: id, page: -1, status: r.Answer(), method: f.method(r.Method)}
	row.size, row.agent = answerSize(r.Bytes), uint32(r.AgentKey)
	if r.Flags&pipeline.FlagLogin != 0 {
		row.flags |= fitLogin
	}
	if r.Flags&pipeline.FlagAsks != 0 {
		row.flags |= fitAsks
	}
	if r.LoginUser != "" {
		row.user = uint32(pipeline.Hash64(r.LoginUser)) | 1
	}
	if r.Referer != "" {
		row.flags |= fitLinked
	}
	if r.Account != "" {
		row.flags |= fitAccount
	}
	if r.Flags&pipeline.FlagAppStatus != 0 {
		row.flags |= fitStates
	}
	if preflight(r) {
		row.flags |= fitPreflight
	}
	if r.Kind == pipeline.PrincipalSubject || r.Kind == pipeline.PrincipalAccount || r.Kind == pipeline.PrincipalKey {
		f.named = true
		row.flags |= fitProven
	}
	if r.Verb == pipeline.VerbGet || r.Verb == pipeline.VerbHead || f.paths[id].reads && r.Verb == pipeline.VerbPost {
		row.flags |= fitRead
	}
	if r.Query != "" {
		row.page = pipeline.QueryPage(r.Query)
		var numbered bool
		if row.param, row.number, numbered = queryID(r.Query); numbered {
			row.flags |= fitNumber
		}
	}
	row.fitExtras = extrasOf(r)
	f.last = max(f.last, r.Time)
	if f.first == pipeline.NoTime || r.Time < f.first {
		f.first = r.Time
	}
	f.rows = append(f.rows, row)
	if len(f.rows) > FitLimit {
		f.thin()
	}
}

// method interns a method's name; beyond the bound all are the last.
func (f *Fitter) method(m string) uint8 {
	i := slices.Index(f.methods, m)
	if i < 0 {
		if len(f.methods) == maxMethods {
			return maxMethods - 1
		}
		i = len(f.methods)
		f.methods = append(f.methods, clean(m, 32))
	}
	return uint8(i)
}

// thin drops half of the clients until the sample fits. What remains is the
// clients of the first level that fits, whatever order they came in.
func (f *Fitter) thin() {
	for len(f.rows) > FitLimit && f.level.Load() < 40 {
		f.level.Add(1)
		f.rows = slices.DeleteFunc(f.rows, func(r fitRow) bool { return !f.Keeps(r.client) })
		for client := range f.perKey {
			if !f.Keeps(client) {
				delete(f.perKey, client)
			}
		}
	}
}

// fitClient is what one client did.
type fitClient struct {
	probe, object, near, login share
	loginUser                  share // first attempts at accounts
	days                       int64
	perDay                     uint32 // distinct items on the busiest day
	items                      []fitItem
	walks                      []fitWalk
	suspect                    bool
	fitUse
}

// fitItem is an item and the catalogue it belongs to: its template's, or that
// of all pages without an id (0).
type fitItem struct{ item, template uint64 }

type share struct{ k, n uint32 }

type fitWalk struct {
	template   uint64
	miss, near share
}

// Fit builds the edition. lateness is the disorder that was seen in the input.
func (f *Fitter) Fit(lateness time.Duration) (*pipeline.Edition, error) {
	var order []int32
	var crowd CrowdCurve
	var wg sync.WaitGroup
	wg.Go(func() {
		order = f.order()
		crowd = f.fitCrowd()
	})
	learner := pipeline.NewTemplateLearner()
	learned := make([]pipeline.LearnedPath, len(f.paths))
	for i := range f.rows {
		r := &f.rows[i]
		p := &f.paths[r.path]
		if r.flags&fitAsks != 0 {
			continue // a preflight is answered for paths that are not there, too
		}
		learner.AddPath(&learned[r.path], p.host, f.methods[r.method], p.path, r.status, r.owner)
	}
	templates := learner.Build(nil)
	b := ShippedBaselines()
	first := f.first
	if first == pipeline.NoTime {
		first = 0 // not one request
	}
	b.Since = first
	facts := f.pathFacts(templates, b)
	endpoints := f.fitTruth(facts)
	f.fitWrong(facts, endpoints)
	wg.Wait()
	clients := f.clients(order, facts, endpoints)
	b.Clients = int64(len(clients))
	for range 3 {
		for i := range clients {
			clients[i].suspect = clients[i].evidence(b) >= 7*pipeline.Nat // ln 1e3
		}
		shipped := ShippedBaselines()
		b.Probe = fitBeta(clients, func(c *fitClient) share { return c.probe }, shipped.Probe)
		b.Object = fitBeta(clients, func(c *fitClient) share { return c.object }, shipped.Object)
		b.Near = fitBeta(clients, func(c *fitClient) share { return c.near }, shipped.Near)
		b.Login = fitBeta(clients, func(c *fitClient) share { return c.login }, shipped.Login)
		b.LoginUser = fitBeta(clients, func(c *fitClient) share { return c.loginUser }, shipped.LoginUser)
		b.Crawl = fitRate(clients, shipped.Crawl)
		fitUses(b, clients, shipped)
	}
	b.Crowd = crowd
	rare := f.fitItems(b, clients)
	f.fitGuarded(facts, endpoints)
	f.fitAnswers(facts, clients, endpoints)
	b.Endpoints = fitEndpoints(clients, endpoints, rare)
	f.fitShares(b, facts, clients, order)
	b.Asked = f.fitAsked(facts, clients)
	f.follow(b)
	raw, err := b.Encode()
	if err != nil {
		return nil, err
	}
	return &pipeline.Edition{Number: 1, Effective: first, Lateness: lateness, Templates: templates, Detectors: raw}, nil
}

func (f *Fitter) pathFacts(t *pipeline.Templates, b *Baselines) []pathFacts {
	v := newObserver(t, b)
	out := make([]pathFacts, len(f.paths))
	for i, p := range f.paths {
		fact := v.facts(p.key, p.host, p.path)
		v.rank(fact, p.path)
		out[i] = *fact
	}
	return out
}

// order is the rows by the client's hash; one client's stay in their order.
func (f *Fitter) order() []int32 {
	type key struct {
		owner uint64
		row   int32
	}
	keys := make([]key, len(f.rows))
	for i := range keys {
		keys[i] = key{f.rows[i].owner, int32(i)}
	}
	slices.SortFunc(keys, func(a, b key) int {
		if c := cmp.Compare(a.owner, b.owner); c != 0 {
			return c
		}
		return cmp.Compare(a.row, b.row)
	})
	order := make([]int32, len(keys))
	for i := range keys {
		order[i] = keys[i].row
	}
	return order
}

// clients sums the rows up, in the order of the clients' hashes.
func (f *Fitter) clients(order []int32, facts []pathFacts, endpoints map[uint64]*EndpointBaseline) []fitClient {
	var clients []fitClient
	for from := 0; from < len(order); {
		to := from
		for to < len(order) && f.rows[order[to]].owner == f.rows[order[from]].owner {
			to++
		}
		clients = append(clients, f.client(order[from:to], facts, endpoints))
		from = to
	}
	return clients
}

func (f *Fitter) client(rows []int32, facts []pathFacts, endpoints map[uint64]*EndpointBaseline) (c fitClient) {
	seen := map[uint64]bool{}
	day, perDay := int64(-1), uint32(0)
	walks := map[uint64]*walkState{}
	use := newFitUser(&c.fitUse, seen, f.rows[rows[0]].owner)
	for _, i := range rows {
		r := &f.rows[i]
		p := &facts[r.path]
		use.take(r, p)
		object, number, slot, numbered := r.object(p)
		miss := false
		switch r.status {
		case 400, 403, 404, 405, 410, 501:
			miss = true
		}
		ok := r.status >= 200 && r.status < 400
		if r.flags&fitLogin != 0 {
			if failed, known := r.failed(endpoints[p.template]); known {
				c.login.n++
				if failed {
					c.login.k++
				}
				if key := pipeline.Mix64(uint64(r.user), saltTried); r.user != 0 && !seen[key] {
					seen[key] = true
					c.loginUser.n++
					if failed {
						c.loginUser.k++
					}
				}
			}
			continue
		}
		if r.flags&(fitPreflight|fitAsks) != 0 {
			continue // answers about accounts are no misses, nor a preflight's
		}
		// 401 says that the caller was refused; where callers are known, not the object.
		if slot && (r.status == 403 || r.status == 401 && !f.named) {
			endpointOf(endpoints, p.template).Refuses = true
		}
		if p.is(pipeline.ObsAuto) || !miss && p.is(pipeline.ObsStatic) {
			continue
		}
		key := p.path
		if miss && slot && !p.is(pipeline.ObsUnknown) {
			key = pipeline.Mix64(p.template, 3)
		}
		if !seen[key] {
			seen[key] = true
			if miss || ok {
				c.probe.n++
			}
			if miss {
				c.probe.k++
			}
		}
		item := p.path
		if object != 0 && object != p.object {
			item = object
		}
		if r.page >= 0 {
			item = pipeline.Mix64(item, uint64(r.page)+1)
		}
		if ok && r.flags&fitRead != 0 {
			if d := int64(r.time) / 86400e6; d != day {
				day, perDay = d, 0
				c.days++
			}
			if k := pipeline.Mix64(item, uint64(day)); !seen[k] {
				seen[k] = true
				perDay++
				c.perDay = max(c.perDay, perDay)
			}
			if k := pipeline.Mix64(item, 5); r.page < pipeline.CursorFrom && !seen[k] { // nobody shares a cursor
				seen[k] = true
				of := fitItem{item: item}
				if slot {
					of.template = p.template
				}
				c.items = append(c.items, of)
			}
		}
		if object == 0 || p.is(pipeline.ObsUnknown) || !ok && !miss {
			continue
		}
		if k := pipeline.Mix64(object, p.template); !seen[k] {
			seen[k] = true
			c.object.n++
			w := walks[p.template]
			if w == nil {
				if len(walks) > 256 {
					continue
				}
				w = &walkState{template: p.template}
				walks[p.template] = w
				c.walks = append(c.walks, fitWalk{template: p.template})
			}
			j := slices.IndexFunc(c.walks, func(x fitWalk) bool { return x.template == p.template })
			c.walks[j].miss.n++
			if miss {
				c.object.k++
				c.walks[j].miss.k++
			}
			if numbered {
				if near, first := w.place(number); !first {
					c.near.n++
					c.walks[j].near.n++
					if near {
						c.near.k++
						c.walks[j].near.k++
					}
				}
			}
		}
	}
	return c
}

// object is what r asks for, as the observer has it.
func (r *fitRow) object(p *pathFacts) (object uint64, number int64, slot, numbered bool) {
	if p.object == 0 && r.param != 0 && p.flags&(pipeline.ObsStatic|pipeline.ObsUnknown) == 0 {
		return max(pipeline.Mix64(p.path, r.param), 1), r.number, true, r.flags&fitNumber != 0
	}
	return p.object, p.number, p.is(pipeline.ObsSlot), p.is(pipeline.ObsNumber)
}

func endpointOf(m map[uint64]*EndpointBaseline, template uint64) *EndpointBaseline {
	e := m[template]
	if e == nil {
		e = &EndpointBaseline{Template: template}
		m[template] = e
	}
	return e
}

// evidence is what detection would hold against the client under b.
func (c *fitClient) evidence(b *Baselines) pipeline.Nats {
	against := func(s share, null Beta) pipeline.Nats {
		var t trial
		for range min(s.k, 200) {
			t.observe(null, true, countScale, 1, halfLifeSeconds)
		}
		for range min(s.n-s.k, 400) {
			t.observe(null, false, countScale, 1, halfLifeSeconds)
		}
		return t.score()
	}
	x := breadth{n: min(c.perDay, 1<<20) * 256}
	return max(against(c.probe, b.Probe.Beta), against(c.object, b.Object.Beta), against(c.near, b.Near.Beta), against(c.login, b.Login.Beta),
		against(c.loginUser, b.LoginUser.Beta), x.nats(b.Crawl, 1), c.against(b))
}

// priorBound is how far a fit may move a shipped mean, either way: a sample
// that is mostly attack, or has none of what the prior is about, must not decide
// what is ordinary.
const priorBound = 2

// maxPriorSize keeps a fitted prior ragged: a cohort that looks uniform has odd
// clients all the same.
const maxPriorSize = 20.0

// fitBeta fits a beta distribution by moments over the clients that teach, and
// leans on the shipped prior as long as they are few.
func fitBeta(clients []fitClient, of func(*fitClient) share, shipped Prior) Prior {
	var n, sum, sum2, noise float64
	for i := range clients {
		c := &clients[i]
		s := of(c)
		if c.suspect || s.n == 0 {
			continue
		}
		x := float64(s.k) / float64(s.n)
		n++
		sum += x
		sum2 += float64(x * x)
		noise += 1 / float64(s.n)
	}
	if n < 5 {
		return shipped
	}
	own := n / (n + 30)
	mean := float64(own*sum/n) + float64((1-own)*shipped.Mean())
	mean = min(max(mean, shipped.Mean()/priorBound), shipped.Mean()*priorBound, 0.9)
	spread := sum2/n - float64(sum/n*(sum/n)) - float64(mean*(1-mean))*noise/n
	size := maxPriorSize
	if spread > 1e-6 {
		size = mean*(1-mean)/spread - 1
	}
	shippedSize := float64(shipped.A+shipped.B) / 256
	size = float64(own*min(max(size, shippedSize), maxPriorSize)) + float64((1-own)*shippedSize)
	a := max(1, uint32(mean*size*256+0.5))
	return Prior{Beta: Beta{a, max(1, uint32(size*256+0.5)-min(a, uint32(size*256)))}, N: int64(n)}
}

// fitRate fits the gamma-Poisson of distinct items a day. The busiest two in a
// hundred count as the next one below: the shape must not be theirs.
func fitRate(clients []fitClient, shipped Rate) Rate {
	var xs []float64
	for i := range clients {
		if c := &clients[i]; !c.suspect && c.perDay >= 2 {
			xs = append(xs, float64(c.perDay))
		}
	}
	return gammaRate(xs, shipped, 5, 3, 1)
}

// gammaRate fits a gamma-Poisson by moments, of a mean of at least least and a
// shape of shape where nothing spreads, at most most; it leans on the shipped one
// as long as clients are few. The highest two in a hundred count as the next one
// below. It sorts xs.
func gammaRate(xs []float64, shipped Rate, least, shape, most float64) Rate {
	if len(xs) < 5 {
		return shipped
	}
	slices.Sort(xs)
	top := xs[len(xs)-1-len(xs)/50]
	var sum, sum2 float64
	for _, x := range xs {
		x = min(x, top)
		sum += x
		sum2 += float64(x * x)
	}
	n := float64(len(xs))
	mean := sum / n
	variance := sum2/n - float64(mean*mean)
	if variance > mean {
		shape = float64(mean*mean) / (variance - mean)
	}
	own := n / (n + 30)
	mean = float64(own*max(mean, least)) + float64((1-own)*float64(shipped.Mean)/256)
	shape = float64(own*min(max(shape, 0.4), most)) + float64((1-own)*float64(shipped.Shape)/256)
	return Rate{Mean: uint32(mean * 256), Shape: uint32(shape * 256), N: int64(n)}
}
