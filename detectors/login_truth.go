package detectors

import (
	"encoding/json"
	"fmt"
	"slices"

	"weir/pipeline"
)

// Login truth: what the answers of a login endpoint mean. Many logins answer 200
// to a wrong password, or redirect either way, so that no status tells; what
// people do next does (detection.md 3.4). Whoever failed tries again, or is sent
// back to the login page; whoever got in goes on to a page that he had not seen.
//
// Each attempt is followed up once, for five minutes, by the next request of the
// same address and agent that says either. Per endpoint and answer (status and
// size) distinct clients are counted on each side. An answer means failure where
// at least twice as many clients tried again as went on, success where four times
// as many went on as tried again; and nothing is said of an endpoint before both
// are there: five clients that succeeded, and five that failed or one that was
// answered the same at least twenty times within three seconds of each other, as
// guessers are; failures that show in the status (401, 403, 422) of five clients
// do as well. An answer that is hammered like that means success only where half
// as many attempts were seen to go on. To teach it a lie therefore takes several
// addresses, more of them than twice (or four times) the ordinary clients that say
// otherwise, and a success side of real clients; who can only fail can at most keep
// it from learning, and the outcome stays unknown. Counts are halved whenever a
// hundred clients more are on one side, so that they follow a site that changes.
//
// Sizes are not exact: pages carry names and tokens. Answers are kept as up to 24
// size ranges a status; beyond that the two nearest become one, so that clusters
// stay apart as long as the gap between them is wider than those inside. An answer
// between a range that failed and one that worked is unknown.
//
// The same code learns twice: in a fit, for the edition, and all the time in
// correlate, for what the edition does not know; the latter counts from TruthDelay
// after the minute on.

// LoginAnswer is one kind of answer to a login attempt. Sizes are in bytes, -1
// where the log has none.
type LoginAnswer struct {
	Status  uint16 `json:"status"`
	From    int32  `json:"from"`
	To      int32  `json:"to"`
	Failed  bool   `json:"failed"`
	Clients int    `json:"clients"` // that taught it
}

// learnedTruth is what was learned of one login template.
type learnedTruth struct {
	Template uint64
	Answers  []LoginAnswer
}

const (
	truthWindow    pipeline.Time = 5 * 60e6
	truthFast      pipeline.Time = 3e6
	truthBins                    = 24 // of an endpoint
	truthSide                    = 5  // clients that each side takes
	truthHammer                  = 20 // fast repeats that make one client a guesser
	truthEndpoints               = 8  // of a virtual shard
)

// answerSize is a response size as answers count it.
func answerSize(bytes int64) int32 { return int32(max(-1, min(bytes, 1<<30))) }

// triedLogin is a client's last attempt while what follows is awaited.
type triedLogin struct {
	template uint64
	at       pipeline.Time // 0: nothing is awaited
	agent    uint32
	size     int32
	status   uint16
}

// sequel is what followed an attempt.
type sequel uint8

const (
	sequelNone  sequel = iota
	sequelAgain        // tried again, or came back to the login page
	sequelFast         // tried again within three seconds
	sequelNext         // went on
)

// step is what the follow-up needs of a request.
type step struct {
	template uint64
	at       pipeline.Time
	agent    uint32
	size     int32
	status   uint16
	login    bool // an attempt
	aside    bool // says nothing: assets, what software asks on its own, preflights
	fresh    bool // a page that the client had not seen, or one with an account
}

// follow takes the client's next request. It returns what that says of the
// attempt in before; a sequel closes the attempt.
func (t *triedLogin) follow(s step) (before triedLogin, what sequel) {
	if t.at != 0 && (s.at-t.at > truthWindow || s.at < t.at) {
		*t = triedLogin{}
	}
	before = *t
	if t.at != 0 && s.agent == t.agent {
		switch {
		case s.login && s.template != t.template:
			*t = triedLogin{}
		case s.login && s.at-t.at <= truthFast:
			what = sequelFast
		case s.login:
			what = sequelAgain
		case s.aside:
		case s.template == t.template && s.status < 400:
			what = sequelAgain
		case s.fresh && (s.status >= 200 && s.status < 300 || s.status == 304):
			what = sequelNext
		}
	}
	if what != sequelNone {
		*t = triedLogin{}
	}
	if s.login {
		*t = triedLogin{s.template, s.at, s.agent, s.size, s.status}
	}
	return before, what
}

// follow tells correlate what request i says of the login attempt before it.
func (w *worker) follow(i int, p *Profile, r *pipeline.Ordered) {
	o := &w.obs
	login := o.Has(pipeline.ObsLogin)
	if p.tried.at == 0 && !login {
		return
	}
	before, what := p.tried.follow(step{
		template: o.Template, at: o.Time, agent: uint32(o.Agent), size: answerSize(o.Bytes), status: o.Status, login: login,
		aside: o.Flags&(pipeline.ObsStatic|pipeline.ObsAuto) != 0 || preflight(r.Request),
		fresh: w.sc.freshItem || r.Account != "",
	})
	if what == sequelNone {
		return
	}
	w.told = append(w.told, told{i, w.next(), pipeline.Signal{
		Meeting: pipeline.MeetLogin, Key: before.template, Sender: o.Owner, Weight: 256, Kind: uint8(what), Aside: w.salt != 0, Spare: w.spare, Request: *r,
		Facts: pipeline.Observation{
			Time: o.Time, Owner: o.Owner, Template: before.template, Status: before.status, Bytes: int64(before.size), Flags: pipeline.ObsLogin,
		},
	}})
}

// loginTruth learns in correlate, from what detect followed up.
type loginTruth struct{}

func (loginTruth) name() string                  { return "login.truth" }
func (loginTruth) wants(m pipeline.Meeting) bool { return m == pipeline.MeetLogin }
func (loginTruth) open() table                   { return &truthTable{} }

// truthTable is one virtual shard's login endpoints, sorted by template.
type truthTable struct {
	endpoints []*answers
}

// answers is what is known of one endpoint's answers: up to truthBins ranges,
// sorted by status and size, that do not overlap.
type answers struct {
	Template uint64
	Clients  linear64
	Bins     []answerBin
	Learned  []LoginAnswer
	changed  bool
}

type answerBin struct {
	Status  uint16
	From    int32
	To      int32
	Again   linear64 // clients that tried again
	Next    linear64 // clients that went on
	Retries uint32
	Fast    uint32
	Onward  uint32
	// Clients of the times before the sketches were emptied.
	WasAgain uint16
	WasNext  uint16
}

// truthFull is the number of clients at which sketches are emptied, while they
// still count well.
const truthFull = 100

// clients is how many tried again and how many went on.
func (b *answerBin) clients() (again, next int) {
	return int(b.WasAgain) + b.Again.count(), int(b.WasNext) + b.Next.count()
}

// age halves the counts.
func (b *answerBin) age() {
	again, next := b.clients()
	b.WasAgain, b.WasNext, b.Again, b.Next = uint16(again/2), uint16(next/2), 0, 0
	b.Retries, b.Fast, b.Onward = b.Retries/2, b.Fast/2, b.Onward/2
}

func (t *truthTable) meet(k *knot, s *pipeline.Signal) {
	i, ok := slices.BinarySearchFunc(t.endpoints, s.Key, func(a *answers, key uint64) int { return compare(a.Template, key) })
	if !ok {
		if len(t.endpoints) >= truthEndpoints {
			// Made-up logins have one visitor: the one with the fewest goes.
			least := 0
			for j, a := range t.endpoints {
				if a.Clients.count() < t.endpoints[least].Clients.count() {
					least = j
				}
			}
			t.endpoints = slices.Delete(t.endpoints, least, least+1)
			if least < i {
				i--
			}
		}
		t.endpoints = slices.Insert(t.endpoints, i, &answers{Template: s.Key})
	}
	t.endpoints[i].add(s.Sender, s.Facts.Status, int32(s.Facts.Bytes), sequel(s.Kind))
	k.wake()
}

func (t *truthTable) tick(k *knot, _ pipeline.Time) {
	for _, a := range t.endpoints {
		if !a.changed {
			continue
		}
		a.changed = false
		if learned := a.learn(); !slices.Equal(learned, a.Learned) {
			a.Learned = learned
			k.c.relearn = true
		}
	}
}

func (t *truthTable) encode(dst []byte) ([]byte, error) {
	data, err := json.Marshal(t.endpoints)
	return append(dst, data...), err
}

func (t *truthTable) decode(data []byte) error {
	if err := json.Unmarshal(data, &t.endpoints); err != nil {
		return err
	}
	if len(t.endpoints) > truthEndpoints {
		return fmt.Errorf("%d login endpoints", len(t.endpoints))
	}
	for _, a := range t.endpoints {
		if a == nil || len(a.Bins) > truthBins {
			return fmt.Errorf("a login endpoint of %d answers at most is beyond them", truthBins)
		}
		a.changed = true // what was awake is kept elsewhere; learning again is harmless
	}
	return nil
}

// learned says what an answer to a login attempt means, by the edition, else by
// what was learned since.
func (v *observer) learned(e *EndpointBaseline, template uint64, status uint16, bytes int64) (failed, known bool) {
	size := answerSize(bytes)
	if e != nil {
		if failed, known = meaning(e.Truth, status, size); known {
			return failed, true
		}
	}
	if i, ok := slices.BinarySearchFunc(v.truth, template, func(t learnedTruth, key uint64) int { return compare(t.Template, key) }); ok {
		return meaning(v.truth[i].Answers, status, size)
	}
	return false, false
}

// LoginKnown reports whether the outcome of r, a login attempt, is known: from
// the application's word, from its status, or as learned or configured.
func (s *Set) LoginKnown(r *pipeline.Request) bool {
	var o pipeline.Observation
	v := s.workers[0].v
	e := v.observe(&o, r)
	return o.Flags&(pipeline.ObsFailed|pipeline.ObsWorked) != 0 || e != nil && e.Answers401
}

// meaning looks an answer up. Outside the ranges the nearer one of its status
// counts, if it is much nearer than the nearest of the other kind.
func meaning(list []LoginAnswer, status uint16, size int32) (failed, known bool) {
	const far = int64(1) << 40
	near := [2]int64{far, far} // to what failed, to what worked
	lo, hi := int64(-1), int64(-1)
	for i := range list {
		a := &list[i]
		if a.Status != status {
			continue
		}
		d := int64(0)
		switch {
		case size < a.From:
			d = int64(a.From) - int64(size)
		case size > a.To:
			d = int64(size) - int64(a.To)
		}
		if d == 0 {
			return a.Failed, true
		}
		side := 1
		if a.Failed {
			side = 0
		}
		near[side] = min(near[side], d)
		if lo < 0 || int64(a.From) < lo {
			lo = int64(a.From)
		}
		hi = max(hi, int64(a.To))
	}
	best, other, side := near[0], near[1], 0
	if other < best {
		best, other, side = other, best, 1
	}
	switch {
	case best == far || size < 0:
		return false, false
	case other == far && (int64(size)*2 < lo || int64(size) > 2*hi+64):
		return false, false // one kind alone, and nothing like it
	case other < far && best*4 > other:
		return false, false
	case other < far && best > max(8, int64(size)/20):
		return false, false
	}
	return side == 0, true
}

// add counts what followed an attempt of client with this answer.
func (a *answers) add(client uint64, status uint16, size int32, what sequel) {
	i := 0
	for i < len(a.Bins) && (a.Bins[i].Status < status || a.Bins[i].Status == status && a.Bins[i].To < size) {
		i++
	}
	if i == len(a.Bins) || a.Bins[i].Status != status || size < a.Bins[i].From {
		a.Bins = slices.Insert(a.Bins, i, answerBin{Status: status, From: size, To: size})
		if len(a.Bins) > truthBins {
			i = a.crowd(i)
		}
	}
	b := &a.Bins[i]
	h := pipeline.Mix64(client, a.Template)
	a.Clients.add(h)
	a.changed = true
	switch what {
	case sequelFast:
		b.Fast = min(b.Fast+1, 1<<30)
		fallthrough
	case sequelAgain:
		b.Again.add(h)
		b.Retries = min(b.Retries+1, 1<<30)
	case sequelNext:
		b.Next.add(h)
		b.Onward = min(b.Onward+1, 1<<30)
	}
	if b.Again.count() >= truthFull || b.Next.count() >= truthFull {
		b.age()
	}
}

// crowd joins the two ranges that lie nearest to each other and returns where
// bin i is then. Where no two share a status the least used goes, never bin i.
func (a *answers) crowd(i int) int {
	best, at := int64(1)<<62, -1
	for j := 0; j+1 < len(a.Bins); j++ {
		x, y := &a.Bins[j], &a.Bins[j+1]
		if x.Status != y.Status {
			continue
		}
		if gap := (int64(y.From) - int64(x.To)) << 20 / max(1, int64(y.From)); gap < best {
			best, at = gap, j
		}
	}
	if at < 0 {
		for j := range a.Bins {
			if b := &a.Bins[j]; j != i && (at < 0 || b.Retries+b.Onward < a.Bins[at].Retries+a.Bins[at].Onward) {
				at = j
			}
		}
		a.Bins = slices.Delete(a.Bins, at, at+1)
	} else {
		a.Bins[at].join(&a.Bins[at+1])
		a.Bins = slices.Delete(a.Bins, at+1, at+2)
		at++
	}
	if i >= at {
		i--
	}
	return max(i, 0)
}

func (b *answerBin) join(c *answerBin) {
	b.To = c.To
	b.Again |= c.Again
	b.Next |= c.Next
	b.Retries, b.Fast, b.Onward = b.Retries+c.Retries, b.Fast+c.Fast, b.Onward+c.Onward
	b.WasAgain, b.WasNext = uint16(min(int(b.WasAgain)+int(c.WasAgain), 1<<12)), uint16(min(int(b.WasNext)+int(c.WasNext), 1<<12))
}

// verdict is what a range of answers means.
type verdict uint8

const (
	verdictNone verdict = iota
	verdictFailed
	verdictWorked
)

func (b *answerBin) hammered() bool { return b.Fast >= truthHammer }

// verdict needs at least three clients, or a guesser.
func (b *answerBin) verdict() verdict {
	again, next := b.clients()
	switch {
	case b.Status < 200 || b.Status >= 400:
		return verdictNone // the status tells
	case (again >= 3 || b.hammered()) && again >= 2*next:
		return verdictFailed
	case b.hammered() && next <= 1:
		return verdictFailed
	case next >= 3 && next >= 4*again && b.Fast < truthHammer+2*b.Onward:
		return verdictWorked
	}
	return verdictNone
}

// learn decides what the answers mean; nil as long as that is not certain.
func (a *answers) learn() []LoginAnswer {
	kinds := make([]verdict, len(a.Bins))
	for i := range a.Bins {
		kinds[i] = a.Bins[i].verdict()
	}
	// Ranges too small to say anything alone are judged together with their
	// neighbours, as far as the gaps between them are small.
	var runs []answerBin
	var of []verdict
	for i := 0; i < len(a.Bins); i++ {
		run, kind := a.Bins[i], kinds[i]
		if kind == verdictNone {
			for i+1 < len(a.Bins) && kinds[i+1] == verdictNone && run.near(&a.Bins[i+1]) {
				i++
				run.join(&a.Bins[i])
			}
			kind = run.verdict()
		}
		runs, of = append(runs, run), append(of, kind)
	}
	var failed, worked, refused answerBin
	for i := range runs {
		switch r := &runs[i]; {
		case of[i] == verdictFailed:
			failed.join(r)
		case of[i] == verdictWorked:
			worked.join(r)
		case r.Status == 401 || r.Status == 403 || r.Status == 422:
			refused.join(r)
		}
	}
	fails, _ := failed.clients()
	_, works := worked.clients()
	refusals, _ := refused.clients()
	if works < truthSide || fails < truthSide && !failed.hammered() && refusals < truthSide {
		return nil
	}
	var out []LoginAnswer
	for i := 0; i < len(runs); i++ {
		if of[i] == verdictNone {
			continue
		}
		r := &runs[i]
		for i+1 < len(runs) && of[i+1] == of[i] && r.near(&runs[i+1]) {
			i++
			r.join(&runs[i])
		}
		again, next := r.clients()
		answer := LoginAnswer{Status: r.Status, From: r.From, To: r.To, Failed: of[i] == verdictFailed, Clients: next}
		if answer.Failed {
			answer.Clients = again
		}
		out = append(out, answer)
	}
	return out
}

// near reports whether the next range of answers is one with b but for noise.
func (b *answerBin) near(c *answerBin) bool {
	return b.Status == c.Status && int64(c.From)-int64(b.To) <= max(8, int64(c.From)/50)
}

// fitTruth learns the login truth of the sample: what followed each attempt,
// client by client.
func (f *Fitter) fitTruth(facts []pathFacts) map[uint64]*EndpointBaseline {
	endpoints := map[uint64]*EndpointBaseline{}
	tries := map[uint64][]int32{} // rows of the clients that tried to log in
	for i := range f.rows {
		if f.rows[i].flags&fitLogin != 0 {
			tries[f.rows[i].client] = nil
		}
	}
	for i := range f.rows {
		if rows, ok := tries[f.rows[i].client]; ok {
			tries[f.rows[i].client] = append(rows, int32(i))
		}
	}
	clients := make([]uint64, 0, len(tries))
	for c := range tries {
		clients = append(clients, c)
	}
	slices.Sort(clients)
	of := map[uint64]*answers{}
	refusals := map[uint64]uint32{}
	seen := map[uint64]bool{}
	for _, client := range clients {
		var t triedLogin
		clear(seen)
		for _, i := range tries[client] {
			r := &f.rows[i]
			p := &facts[r.path]
			s := step{
				template: p.template, at: r.time, agent: r.agent, size: r.size, status: r.status, login: r.flags&fitLogin != 0,
				aside: p.flags&(pipeline.ObsStatic|pipeline.ObsAuto) != 0 || r.flags&fitPreflight != 0,
			}
			if !s.login && !s.aside {
				s.fresh = !seen[p.path] || r.flags&fitAccount != 0
				seen[p.path] = true
			}
			if s.login && (r.status == 401 || r.status == 403 || r.status == 422) {
				refusals[p.template]++
			}
			before, what := t.follow(s)
			if what == sequelNone {
				continue
			}
			a := of[before.template]
			if a == nil {
				a = &answers{Template: before.template}
				of[before.template] = a
			}
			a.add(client, before.status, before.size, what)
		}
	}
	for template, a := range of {
		if learned := a.learn(); learned != nil {
			endpointOf(endpoints, template).Truth = learned
		}
	}
	for template, n := range refusals {
		// A refusal now and then is a gateway's; if failures showed in the status,
		// answers that say success would seldom be followed by another attempt.
		again := uint32(0)
		if a := of[template]; a != nil {
			for i := range a.Bins {
				if s := a.Bins[i].Status; s >= 200 && s < 400 {
					again += a.Bins[i].Retries
				}
			}
		}
		if n >= again {
			endpointOf(endpoints, template).Answers401 = true
		}
	}
	return endpoints
}

// failed says how a login attempt of the sample ended.
func (r *fitRow) failed(e *EndpointBaseline) (failed, known bool) {
	switch {
	case r.status == 400 || r.status == 401 || r.status == 403 || r.status == 422 || r.status == 429:
		return true, true
	case r.flags&fitStates != 0 && r.status < 600:
		return r.status >= 400, true
	case e != nil && len(e.Truth) > 0:
		return meaning(e.Truth, r.status, r.size)
	}
	return false, e != nil && e.Answers401 && r.status >= 200 && r.status < 400
}

// endpointText is the template that an alert shows for r.
func endpointText(t *pipeline.Templates, r *pipeline.Request) string {
	path := string(pipeline.AppendEndpointPath(nil, r))
	text := string(t.AppendText(nil, r.Host, path))
	if r.Operation != "" {
		return pipeline.OperationText(text)
	}
	return text
}

// hides reports whether this endpoint answers failures with a success code.
func (v *observer) hides(e *EndpointBaseline, template uint64) bool {
	failed := func(list []LoginAnswer) bool {
		return slices.ContainsFunc(list, func(a LoginAnswer) bool { return a.Failed })
	}
	if e != nil && failed(e.Truth) {
		return true
	}
	i, ok := slices.BinarySearchFunc(v.truth, template, func(t learnedTruth, key uint64) int { return compare(t.Template, key) })
	return ok && failed(v.truth[i].Answers)
}

// hiddenTries are the attempts of a client whose outcome was not known when they
// came, by their answers: they are told apart once the truth is learned.
type hiddenTries struct {
	template uint64
	kinds    [4]hiddenKind
	others   uint32 // that cannot be told apart any more
}

// hiddenKind is a run of sizes that differ by a hundredth at most.
type hiddenKind struct {
	from   int32
	to     int32
	n      uint32
	status uint16
}

func (h *hiddenTries) add(o *pipeline.Observation) {
	if h.template == 0 {
		h.template = o.Template
	}
	size := answerSize(o.Bytes)
	for i := range h.kinds {
		k := &h.kinds[i]
		if k.n == 0 {
			k.from, k.to, k.status = size, size, o.Status
		}
		from, to := min(k.from, size), max(k.to, size)
		if h.template == o.Template && k.status == o.Status && (from == to || from >= 0 && to-from <= to/100) {
			k.from, k.to = from, to
			k.n++
			return
		}
	}
	h.others++
}

// settle counts the hidden attempts as what they have turned out to be, if that
// is known of all of them.
func (st *loginState) settle(s *scope) {
	h := &st.veiled
	if h.others > 0 {
		return
	}
	failures, successes := uint32(0), uint32(0)
	for i := range h.kinds {
		k := &h.kinds[i]
		if k.n == 0 {
			continue
		}
		failed, known := s.v.learned(s.endpoint, h.template, k.status, int64(k.from))
		other, sure := s.v.learned(s.endpoint, h.template, k.status, int64(k.to))
		switch {
		case !known || !sure || failed != other:
			return
		case failed:
			failures += k.n
		default:
			successes += k.n
		}
	}
	st.failures += failures
	st.successes += successes
	if st.failures >= 3 {
		st.after += successes
	}
	st.hidden, st.veiled = 0, hiddenTries{}
}
