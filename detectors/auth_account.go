package detectors

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"weir/pipeline"
)

// accountJunction sees one account over all clients. It finds two things.
//
// auth.bruteforce at the level of the account: guessing at one account by clients
// that change their address. The first contact of each client with the account
// counts, failed or not, against how clients fare at their first login, and how
// many such failures there are a day, against a person's. A client whose place and
// agent the account has logged in with before does not count, and clients of one
// place with one agent count three times at most: a phone that moves about with an
// old password is no attack. Where the account has been known for a week, every
// failure of a client counts whose place and program it never used and that did
// not fail before: a program that is stuck with an old password had the right one
// once, so the account knows it.
//
// auth.takeover: a login that worked from a place, a stack (agent family and JA4)
// and a country that the account never used (Freeman et al., NDSS'16, with the
// account's own rate of news for P(x|user)), where something else is suspicious:
// the client's own evidence, guessing at the account just before, a campaign. What
// the account does within 30 minutes to its password, factors or money adds.
// Travellers are new in place, and now and then in stack: alone, these stay below
// review. A session is a visit, too, twice a day: one that goes on from a place and
// with a program, of another family, that its account never used was copied, or
// so it seems, as seldom as sessions change their program here.
//
// Misses: accounts without five logins or visits seen; an attacker in the owner's
// network or with the owner's kind of browser. Looks like it: a new phone abroad
// after some typos; an app that hands its session to a browser, first used away
// from home. OWASP API2, ATT&CK T1110.001, T1078, T1550.004.
type accountJunction struct{}

const nameTakeover = "auth.takeover"

func (accountJunction) name() string                  { return nameTakeover }
func (accountJunction) wants(m pipeline.Meeting) bool { return m == pipeline.MeetAccount }
func (accountJunction) open() table                   { return new(accountTable) }

// The kinds of signals that meet at an account, besides kindLogin.
const (
	kindSensitive   uint8 = 2 // the account changed what secures or pays it
	kindCampaignWin uint8 = 3 // a login of it worked as part of a campaign
	kindSession     uint8 = 5 // a session of it is in use, told twice a day
)

const (
	accountWays      = 8
	minAccounts      = 8
	maxAccounts      = 512
	maxAccountCases  = 16
	accountHalfLife  = 7 * daySeconds
	sensitiveWithin  = 30 * 60e6
	strangerKnown    = 7 * daySeconds // how long an account must be known for its strangers to be some
	takeoverKnown    = 5              // logins that must have worked before news mean anything
	maxSuspicion     = 10 * pipeline.Nat
	sensitiveNats    = 4 * pipeline.Nat
	unsuspiciousNats = 13 * pipeline.Nat // place and stack alone: below review
	perStack         = 3
	halfDay          = daySeconds / 2
	// mixedPrior is how many visits of a session there are to one whose program
	// changed, until the shard's own are known.
	mixedPrior = 2000
)

// accountRow is one account, pointer-free.
type accountRow struct {
	key  uint64
	last uint32

	seenUsed uint16 // guessing
	counted  uint16
	seen     [4]uint64 // clients met, a bloom of this week
	seenAt   uint32
	fails    uint32 // of strangers, since onset
	after    uint32 // logins of strangers that worked after at least three failures
	tries    uint32
	stacks   linear64
	sources  linear64
	onset    pipeline.Time
	tests    trial
	daily    breadth
	strange  breadth   // failures of complete strangers, see stranger
	since    uint32    // of the first that was seen of the account
	early    [2]uint32 // strangers that failed before it was known for a while; the latest first

	worked    uint32 // habit
	news      [3]uint16
	moved     uint16 // the visit that is watched is of a session that moved
	places    slots
	stack     slots
	countries slots
	hours     [8]uint16
	sessions  [2]visits // the latest first

	at        pipeline.Time // the login that is watched
	endpoint  uint64
	place     int32 // Nats
	newStack  int32
	country   int32
	hour      int32
	suspicion int32
	sensitive int32
}

// visits is where a session was last, and with what; id 0 is none.
type visits struct{ id, place, family uint32 }

// slots keeps the values used most: the least used makes room.
type slots [3]slot

type slot struct {
	key uint32
	n   uint32
}

// use counts a value and reports whether it is new.
func (s *slots) use(key uint32) (fresh bool) {
	least := 0
	for i := range s {
		if s[i].n > 0 && s[i].key == key {
			if s[i].n < 1<<30 {
				s[i].n++
			}
			return false
		}
		if s[i].n < s[least].n {
			least = i
		}
	}
	s[least] = slot{key, 1}
	return true
}

func (s *slots) has(key uint32) bool {
	for i := range s {
		if s[i].n > 0 && s[i].key == key {
			return true
		}
	}
	return false
}

// accountCase is what an alert needs of an account.
type accountCase struct {
	Key       uint64
	Account   string
	Guess     string // finding ids, "" none
	Takeover  string
	Distinct  linear256
	Addresses []string
	Agents    []string
	JA4       []string
	Exemplars []pipeline.Exemplar
	Endpoint  pipeline.Endpoint
	First     pipeline.Time
	Last      pipeline.Time
	Session   string
	From      string // the client of the watched login
	Act       string
	Told      pipeline.Time
	Said      pipeline.Nats
	Won       uint32
	Live      bool
}

type accountTable struct {
	rows   []accountRow
	cases  []*accountCase // by Key
	visits uint32         // of sessions seen before
	mixed  uint32         // of these, with another family of programs than before
}

func (t *accountTable) tick(*knot, pipeline.Time) {}

func (t *accountTable) set(key uint64) []accountRow {
	i := int(key>>24) & (len(t.rows)/accountWays - 1)
	return t.rows[i*accountWays : (i+1)*accountWays]
}

// row returns the account's row; the least telling of its set makes room.
func (t *accountTable) row(key uint64) *accountRow {
	if t.rows == nil {
		t.rows = make([]accountRow, minAccounts)
	}
	for {
		set := t.set(key)
		at := 0
		for i := range set {
			if set[i].key == key {
				return &set[i]
			}
			if set[i].worth() < set[at].worth() || set[i].worth() == set[at].worth() && set[i].last < set[at].last {
				at = i
			}
		}
		if set[at].key != 0 && len(t.rows) < maxAccounts {
			old := t.rows
			t.rows = make([]accountRow, 2*len(old))
			for i := range old {
				if old[i].key == 0 {
					continue
				}
				to := t.set(old[i].key)
				for j := range to {
					if to[j].key == 0 {
						to[j] = old[i]
						break
					}
				}
			}
			continue
		}
		set[at] = accountRow{key: key}
		return &set[at]
	}
}

func (r *accountRow) worth() int64 {
	if r.key == 0 {
		return -1
	}
	return int64(r.tests.score()/pipeline.Nat)*100 + int64(min(r.worked, 50))
}

func (t *accountTable) caseOf(key uint64) *accountCase {
	i, ok := slices.BinarySearchFunc(t.cases, key, func(c *accountCase, key uint64) int { return compare(c.Key, key) })
	if !ok {
		return nil
	}
	return t.cases[i]
}

func (t *accountTable) openCase(s *pipeline.Signal) *accountCase {
	if c := t.caseOf(s.Key); c != nil {
		return c
	}
	if len(t.cases) >= maxAccountCases {
		least := 0
		for i, c := range t.cases {
			if c.Said < t.cases[least].Said || c.Said == t.cases[least].Said && c.Last < t.cases[least].Last {
				least = i
			}
		}
		t.cases = slices.Delete(t.cases, least, least+1)
	}
	i, _ := slices.BinarySearchFunc(t.cases, s.Key, func(c *accountCase, key uint64) int { return compare(c.Key, key) })
	name := s.Request.LoginUser
	if s.Kind == kindSession {
		name = s.Request.Account
	}
	c := &accountCase{Key: s.Key, Account: clean(name, 256), First: s.Facts.Time}
	t.cases = slices.Insert(t.cases, i, c)
	return c
}

// tellSession reports whether correlate should see that the account's session is
// in use: the first time in half a day from a place with a program. Most requests
// come from where the one before did, and cost a comparison.
func tellSession(p *Profile, o *pipeline.Observation, r *pipeline.Ordered) bool {
	half := uint64(max(int64(o.Time), 0)) / (halfDay * 1e6)
	mark := r.Address.Owner() ^ r.AgentKey ^ half<<48
	for i := range min(len(r.Session), 8) {
		mark ^= uint64(r.Session[len(r.Session)-1-i]) << (8 * i)
	}
	if mark == p.session {
		return false
	}
	p.session = mark
	return p.seen.add(pipeline.Mix64(pipeline.Mix64(wide(r), stackOf(r)), pipeline.Hash64(r.Session)^half), seconds(o.Time))
}

// session takes a visit.
func (t *accountTable) session(k *knot, r *accountRow, s *pipeline.Signal) {
	q := &s.Request
	place, stack := uint32(pipeline.Mix64(wide(q), 5)), uint32(stackOf(q))
	now := visits{uint32(pipeline.Hash64(q.Session)>>32) | 1, place, uint32(pipeline.Hash64(agentFamily(q.Agent)))}
	i := slices.IndexFunc(r.sessions[:], func(v visits) bool { return v.id == now.id })
	if i < 0 {
		r.sessions[1], r.sessions[0] = r.sessions[0], now
		r.learn(place, stack, q, s.Facts.Time)
		return
	}
	was := r.sessions[i]
	if i == 1 {
		r.sessions[0], r.sessions[1] = r.sessions[1], r.sessions[0]
	}
	changed := was.family != now.family
	rare := min(lnRatio(uint64(t.visits)+mixedPrior, 2*(uint64(t.mixed)+1)), symbolCap)
	if t.visits++; t.visits > 1<<30 {
		t.visits, t.mixed = t.visits/2, t.mixed/2
	}
	if changed {
		t.mixed++
	}
	if !changed || was.place == place || r.places.has(place) || r.stack.has(stack) || r.worked < takeoverKnown || rare <= 0 {
		r.sessions[0] = now
		r.learn(place, stack, q, s.Facts.Time)
		return
	}
	r.judge(k, place, stack, q, s)
	r.moved, r.suspicion = 1, max(r.suspicion, int32(rare))
	c := t.openCase(s)
	c.note(k, s)
	c.From, c.Session, c.Act = q.Address.PrincipalValue(), clean(q.Session, 64), ""
	if k.traced() {
		k.trace(s, Traced{Detector: nameTakeover, Owner: accountOwner(q.Account), Score: r.takeoverScore(), Counted: true, Part: true})
	}
	t.takeover(k, r, c, s)
}

func (t *accountTable) meet(k *knot, s *pipeline.Signal) {
	r := t.row(s.Key)
	if r.last = seconds(s.Facts.Time); r.since == 0 {
		r.since = max(1, r.last)
	}
	switch s.Kind {
	case kindSensitive:
		t.sensitive(k, r, s)
	case kindSession:
		t.session(k, r, s)
	case kindCampaignWin:
		if r.at != 0 && s.Facts.Time-r.at < sensitiveWithin {
			r.suspicion, r.endpoint = int32(maxSuspicion), s.Sender
			t.takeover(k, r, t.caseOf(s.Key), s)
		}
	default:
		t.login(k, r, s)
	}
}

func (t *accountTable) login(k *knot, r *accountRow, s *pipeline.Signal) {
	o, q := &s.Facts, &s.Request
	failed := o.Has(pipeline.ObsFailed)
	works := o.Has(pipeline.ObsWorked) || !failed && o.Status >= 200 && o.Status < 400 && shows(k.b.endpoint(o.Template), r)
	if !failed && !works {
		return
	}
	now := seconds(o.Time)
	place, stack := uint32(pipeline.Mix64(wide(q), 5)), uint32(stackOf(q))
	knownPlace, knownStack := r.places.has(place), r.stack.has(stack)
	own := knownPlace && knownStack // the account's usual place and program
	counted := false
	if first := r.meets(q.Address.Owner(), now); first && !own {
		counted = r.guess(k.b.Login.Beta, failed, pipeline.Mix64(uint64(place), uint64(stack)), q.Address.Owner(), now, o.Time)
	}
	odd := failed && !knownPlace && !knownStack && r.stranger(uint32(pipeline.Mix64(uint64(place), uint64(stack)))|1, now)
	if failed && !own {
		r.fails++
		r.tries++
		if k.traced() {
			k.trace(s, Traced{Detector: "auth.bruteforce", Owner: accountOwner(q.LoginUser), Score: r.guessScore(), Counted: counted || odd, Part: true})
		}
	}
	stranger := works && !own
	if stranger && r.fails >= 3 && r.guessScore() >= 2*pipeline.Nat {
		r.after++
		r.tries++
	}
	var c *accountCase
	if (counted || odd) && r.guessScore() >= dossierAt || stranger && r.worked >= takeoverKnown || t.caseOf(s.Key) != nil && failed {
		c = t.openCase(s)
		c.note(k, s)
	}
	if c != nil && (counted || odd || r.after > c.Won) {
		t.guessing(k, r, c, s)
	}
	if !works {
		return
	}
	r.judge(k, place, stack, q, s)
	if k.traced() && r.takeoverScore() > 0 {
		k.trace(s, Traced{Detector: nameTakeover, Owner: accountOwner(q.LoginUser), Score: r.takeoverScore(), Counted: true, Part: true})
	}
	if c != nil {
		c.From, c.Session, c.Act = q.Address.PrincipalValue(), clean(q.Session, 64), ""
		t.takeover(k, r, c, s)
	}
	r.acquainted()
	r.learn(place, stack, q, o.Time)
}

// shows reports whether failures show in the status at the endpoint.
func shows(b *EndpointBaseline, r *accountRow) bool {
	return b != nil && b.Answers401 || r.fails > 0 || b == nil
}

// accountOwner is the owner hash of the account that a finding is about.
func accountOwner(name string) uint64 {
	return pipeline.Principal{Kind: pipeline.PrincipalAccount, Value: clean(name, 256)}.Hash()
}

// stackOf is what a client runs: the family of its agent, and its JA4.
func stackOf(r *pipeline.Ordered) uint64 {
	return pipeline.Mix64(pipeline.Hash64(agentFamily(r.Agent)), pipeline.Hash64(r.JA4))
}

// meets reports whether the account meets the client for the first time in a week.
func (r *accountRow) meets(client uint64, now uint32) bool {
	if r.seenUsed >= 48 || now > r.seenAt && now-r.seenAt > accountHalfLife {
		r.seen, r.seenUsed, r.seenAt = [4]uint64{}, 0, now
	}
	a, b := client>>8&255, client>>16&255
	if r.seen[a>>6]>>(a&63)&1 == 1 && r.seen[b>>6]>>(b&63)&1 == 1 {
		return false
	}
	r.seen[a>>6] |= 1 << (a & 63)
	r.seen[b>>6] |= 1 << (b & 63)
	r.seenUsed++
	return true
}

// guess takes the first contact of a client; false if it does not count.
func (r *accountRow) guess(prior Beta, failed bool, kind, client uint64, now uint32, at pipeline.Time) bool {
	r.tests.decay(now, accountHalfLife)
	if r.tests.branch == [3]branch{} {
		r.onset, r.fails, r.after, r.tries, r.counted, r.stacks, r.sources = at, 0, 0, 0, 0, 0, 0
	}
	r.stacks.add(pipeline.Mix64(kind, 3))
	if int(r.counted) >= perStack*r.stacks.count() {
		return false
	}
	r.counted++
	r.sources.add(client)
	r.tests.observe(prior, failed, countScale, now, accountHalfLife)
	if failed {
		r.daily.add(breadthOne, now, daySeconds)
	}
	return failed
}

// stranger counts a failure of somebody of whom the account knows neither the place
// nor the program, if it has been known for a while, and this one not for as long.
func (r *accountRow) stranger(who, now uint32) (counted bool) {
	r.strange.decay(now, daySeconds)
	switch {
	case r.early[0] == who || r.early[1] == who:
		return false
	case r.worked < takeoverKnown || now-r.since < strangerKnown:
		r.early[1], r.early[0] = r.early[0], who
		return false
	}
	r.strange.add(breadthOne, now, daySeconds)
	return true
}

// acquainted forgets the failures of somebody who then got in, unless there were
// too many: it was the owner with something new.
func (r *accountRow) acquainted() {
	if r.stubborn() < pipeline.ReviewAt {
		r.strange = breadth{}
	}
}

// stubborn is the evidence of these failures, against what people make in a day.
func (r *accountRow) stubborn() pipeline.Nats { return r.strange.nats(loginRate(1), 1) }

// guessParts is the evidence of the share that fails and of how many clients there
// are: a person comes from one new place a day, give or take.
func (r *accountRow) guessParts() (share, count pipeline.Nats) {
	if r.counted < 3 {
		return 0, 0
	}
	if share = r.tests.score(); share == 0 {
		return 0, 0
	}
	return share, r.daily.nats(loginRate(1), 1)
}

func (r *accountRow) guessScore() pipeline.Nats {
	share, count := r.guessParts()
	return max(share+count, r.stubborn())
}

// news is how unlikely a new value is for the account: what an attacker's chance to
// bring one, in percent, exceeds the account's own rate of news by. The rate starts
// from the population's: one in known.
func newsNats(fresh bool, percent uint64, seen uint16, n uint32, known uint64) pipeline.Nats {
	if !fresh {
		// What the account does anyway speaks for it.
		return lnRatio(100-percent, 100) / 2
	}
	return min(lnRatio(percent*(uint64(n)+known), 100*(uint64(seen)+1)), symbolCap)
}

// judge weighs a login that worked against the account's habit.
func (r *accountRow) judge(k *knot, place, stack uint32, q *pipeline.Ordered, s *pipeline.Signal) {
	r.at, r.sensitive, r.suspicion, r.endpoint = s.Facts.Time, 0, 0, s.Facts.Endpoint
	r.place, r.newStack, r.country, r.hour, r.moved = 0, 0, 0, 0, 0
	if r.worked < takeoverKnown {
		return
	}
	r.place = int32(newsNats(!r.places.has(place), 90, r.news[0], r.worked, 8))
	r.newStack = int32(newsNats(!r.stack.has(stack), 80, r.news[1], r.worked, 15))
	if q.Country != [2]byte{} && r.place > 0 {
		if !r.countries.has(countryKey(q)) {
			r.country = int32(newsNats(true, 60, r.news[2], uint32(r.news[0])+2, 4))
		}
	}
	bin := r.hours[int64(s.Facts.Time)/3600e6%24/3]
	r.hour = int32(max(min(lnRatio(uint64(r.worked)+8, 8*(uint64(bin)+1)), 3*pipeline.Nat/2), -pipeline.Nat))
	guess := pipeline.Nats(0)
	if r.fails >= 3 {
		guess = r.guessScore()
	}
	r.suspicion = int32(min(max(s.Score, guess), maxSuspicion))
}

func countryKey(q *pipeline.Ordered) uint32 {
	return uint32(q.Country[0])<<8 | uint32(q.Country[1]) | 1<<16
}

// learn makes a login part of the habit, unless much is held against it.
func (r *accountRow) learn(place, stack uint32, q *pipeline.Ordered, at pipeline.Time) {
	if r.takeoverScore() >= 7*pipeline.Nat && r.suspicion > 0 {
		return
	}
	count := func(n *uint16, fresh bool) {
		if fresh && r.worked > 0 && *n < 1<<15 {
			*n++
		}
	}
	count(&r.news[0], r.places.use(place))
	count(&r.news[1], r.stack.use(stack))
	if q.Country != [2]byte{} {
		count(&r.news[2], r.countries.use(countryKey(q)))
	}
	if h := &r.hours[int64(at)/3600e6%24/3]; *h < 1<<15 {
		*h++
	}
	if r.worked < 1<<30 {
		r.worked++
	}
}

// takeoverParts are the lines of evidence; none of them counts unless the place
// and the stack are new together.
func (r *accountRow) takeoverParts() (place, stack, country, hour, suspicion, sensitive pipeline.Nats) {
	place, stack, country, hour = pipeline.Nats(r.place), pipeline.Nats(r.newStack), pipeline.Nats(r.country), pipeline.Nats(r.hour)
	if place <= 0 || stack <= 0 {
		return 0, 0, 0, 0, 0, 0
	}
	suspicion, sensitive = pipeline.Nats(r.suspicion), pipeline.Nats(r.sensitive)
	hour = max(hour, 0)
	if over := place + stack + country + hour - unsuspiciousNats; suspicion == 0 && over > 0 {
		cut := min(over, hour)
		hour, over = hour-cut, over-cut
		cut = min(over, country)
		country, over = country-cut, over-cut
		place -= min(over, place)
	}
	return place, stack, country, hour, suspicion, sensitive
}

func (r *accountRow) takeoverScore() pipeline.Nats {
	a, b, c, d, e, f := r.takeoverParts()
	return a + b + c + d + e + f
}

func (t *accountTable) sensitive(k *knot, r *accountRow, s *pipeline.Signal) {
	c := t.caseOf(s.Key)
	if r.at == 0 || c == nil || s.Facts.Time-r.at > sensitiveWithin || s.Facts.Time < r.at {
		return
	}
	// What this account did is for the campaign that got it, if any.
	if r.suspicion == int32(maxSuspicion) && r.endpoint != 0 {
		next := *s
		next.Meeting, next.Key, next.Kind, next.Facts.User = pipeline.MeetEndpoint, r.endpoint, kindAftermath, s.Key
		k.send(next)
	}
	r.sensitive = int32(sensitiveNats)
	c.Act = clean(s.Request.Method+" "+s.Request.Path, 80)
	if k.traced() && r.takeoverScore() > 0 {
		k.trace(s, Traced{Detector: nameTakeover, Owner: accountOwner(c.Account), Score: r.takeoverScore(), Counted: true, Part: true})
	}
	t.takeover(k, r, c, s)
}

// note keeps what an alert shows.
func (c *accountCase) note(k *knot, s *pipeline.Signal) {
	r := &s.Request
	c.Last = s.Facts.Time
	c.Live = c.Live || r.Flags&pipeline.FlagBackfill == 0
	address := r.Address.String()
	c.Distinct.add(pipeline.Hash64(address))
	if i, ok := slices.BinarySearch(c.Addresses, address); !ok && len(c.Addresses) < maxAddresses {
		c.Addresses = slices.Insert(c.Addresses, i, address)
	}
	c.Agents, c.JA4 = keep(c.Agents, clean(r.Agent, 160), maxAgents), keep(c.JA4, clean(r.JA4, 64), maxAgents)
	if c.Endpoint.Template == "" {
		c.Endpoint = pipeline.Endpoint{Method: clean(r.Method, 16), Host: clean(r.Host, 128), Template: endpointText(k.templates(), r.Request)}
	}
	if len(c.Exemplars) < firstExamples+lastExamples {
		c.Exemplars = append(c.Exemplars, exemplarOf(r))
	} else {
		copy(c.Exemplars[firstExamples:], c.Exemplars[firstExamples+1:])
		c.Exemplars[len(c.Exemplars)-1] = exemplarOf(r)
	}
}

// finding is what both kinds have in common.
func (c *accountCase) finding(k *knot, detector string, onset pipeline.Time) pipeline.Finding {
	total := max(len(c.Addresses), min(c.Distinct.count(), 1420))
	if len(c.Addresses) < maxAddresses {
		total = len(c.Addresses)
	}
	return pipeline.Finding{
		Time: k.now, Detector: detector, Level: "account", Who: pipeline.Principal{Kind: pipeline.PrincipalAccount, Value: c.Account},
		Onset: onset, First: min(c.First, onset), Last: c.Last, FirstSeen: min(c.First, onset), Endpoint: c.Endpoint, Sampled: 1,
		Addresses: slices.Clone(c.Addresses), AddressesTotal: total,
		Agents: slices.Clone(c.Agents), JA4: slices.Clone(c.JA4), Exemplars: slices.Clone(c.Exemplars), Backfill: !c.Live,
		OWASP: []string{"API2:2023"},
	}
}

func (t *accountTable) guessing(k *knot, r *accountRow, c *accountCase, s *pipeline.Signal) {
	score := r.guessScore()
	if score < pipeline.ReviewAt || c.Account == "" || k.c.cfg.Modes["auth.bruteforce"] == ModeOff {
		return
	}
	news := c.Guess == "" || r.after > c.Won || c.Said < pipeline.PageAt && score >= pipeline.PageAt
	if !news && k.now-c.Told < campaignEvery {
		return
	}
	c.Told, c.Said, c.Won = k.now, max(c.Said, score), r.after
	f := c.finding(k, "auth.bruteforce", r.onset)
	if c.Guess == "" {
		c.Guess = findingID("auth", f.Who.Hash(), r.onset)
	}
	f.ID, f.Score = c.Guess, score
	f.Signals = r.guessSignals(k.b)
	won, one := int64(r.after), int64(1)
	f.Outcome = pipeline.Outcome{Requests: int64(r.tries), Attempted: int64(r.tries), Succeeded: &won, Accounts: &one, Basis: "status"}
	f.Facts = pipeline.FindingFacts{CanSucceed: true, Succeeded: won > 0}
	outcome := pipeline.AffectedAccount{Name: c.Account, Outcome: "failure", Time: c.Last}
	if won > 0 {
		outcome.Outcome, outcome.Session = "success", clean(s.Request.Session, 64)
	}
	f.Accounts = []pipeline.AffectedAccount{outcome}
	took := span(time.Duration(f.Last-f.Onset) * time.Microsecond)
	if f.Signals[0].Name == strangerSignal {
		f.Title = fmt.Sprintf("Password guessing at account %s by a stranger", c.Account)
		f.Reason = fmt.Sprintf("%s at this account from networks and with programs that it never used in %d logins and visits; people fail about once a day%s.",
			plural(int64(r.strange.n/breadthOne), "login failed", "logins failed"), r.worked, when(won > 0, "; then a login from such a client worked"))
	} else {
		f.Title = fmt.Sprintf("Password guessing at account %s by clients that change", c.Account)
		f.Reason = fmt.Sprintf("At least %d clients that this account never used failed to log in to it %d times in %s; a person comes from about one new place a day%s.",
			r.sources.count(), r.fails, took, when(won > 0, "; then a login from such a client worked"))
	}
	if won > 0 {
		f.Next = []string{"Reset the password of " + c.Account + " and end its sessions"}
	}
	f.Next = append(f.Next, "Ask for a second factor at this account; blocking addresses will not help")
	f.BenignIf = []string{"a shared account whose password was changed", "a device of the owner's that moves about with an old password"}
	f.WouldNotFireIf = "fewer different clients had failed at their first try"
	f.Attack, f.OAT = []string{"T1110.001"}, []string{"OAT-007"}
	k.emit(f)
}

const strangerSignal = "stranger_failures"

// guessSignals are the lines of evidence; they sum to guessScore.
func (r *accountRow) guessSignals(b *Baselines) []pipeline.FindingSignal {
	share, count := r.guessParts()
	if n := r.stubborn(); n > share+count {
		return []pipeline.FindingSignal{{
			Name: strangerSignal, Observed: float64(r.strange.n / breadthOne), Expected: 1, Count: int64(r.strange.n / breadthOne), Nats: n,
			Baseline: pipeline.Baseline{Kind: "own", N: int64(r.worked)},
		}}
	}
	return []pipeline.FindingSignal{
		{
			Name: "login_failure", Observed: float64(r.counted), Expected: expected(r.counted, b.Login), Count: int64(r.counted), Nats: share,
			Baseline: b.baseline(b.Login),
		},
		{Name: "distinct_clients", Observed: float64(r.daily.n / breadthOne), Expected: 1, Count: int64(r.counted), Nats: count, Baseline: pipeline.Baseline{Kind: "prior"}},
	}
}

func (t *accountTable) takeover(k *knot, r *accountRow, c *accountCase, s *pipeline.Signal) {
	score := r.takeoverScore()
	if c == nil || score < pipeline.ReviewAt || c.Account == "" || k.c.cfg.Modes[nameTakeover] == ModeOff {
		return
	}
	f := c.finding(k, nameTakeover, r.at)
	f.ID = findingID("auth", f.Who.Hash(), r.at)
	c.Takeover = f.ID
	f.First = min(f.First, r.at)
	f.Last = max(s.Facts.Time, r.at)
	place, stack, country, hour, suspicion, sensitive := r.takeoverParts()
	own := pipeline.Baseline{Kind: "own", N: int64(r.worked)}
	for _, x := range []struct {
		name string
		nats pipeline.Nats
		base pipeline.Baseline
	}{
		{"new_place", place, own},
		{"new_stack", stack, own},
		{"new_country", country, own},
		{"unusual_hour", hour, own},
		{pick(r.moved > 0, "session_moved", "suspicious_client"), suspicion, pipeline.Baseline{Kind: "cohort"}},
		{"sensitive_action", sensitive, pipeline.Baseline{Kind: "prior"}},
	} {
		if x.nats > 0 {
			f.Signals = append(f.Signals, pipeline.FindingSignal{Name: x.name, Observed: 1, Count: 1, Nats: x.nats, Baseline: x.base})
			f.Score += x.nats
		}
	}
	one := int64(1)
	f.Outcome = pipeline.Outcome{Requests: 1, Attempted: 1, Succeeded: &one, Accounts: &one, Basis: "status"}
	f.Facts = pipeline.FindingFacts{CanSucceed: true, Succeeded: true}
	f.Accounts = []pipeline.AffectedAccount{{Name: c.Account, Outcome: "success", Time: r.at, Session: c.Session}}
	f.Title = fmt.Sprintf("Account %s was probably taken over from %s", c.Account, c.From)
	f.Reason = fmt.Sprintf("A login worked from a network and with a browser or program that this account never used in %d logins%s%s%s.",
		r.worked, when(country > 0, ", in a country new to it"),
		when(suspicion > 0, ", by a client or after attempts that look like an attack"),
		when(sensitive > 0, "; then it did "+c.Act))
	f.Attack = []string{"T1078"}
	if r.moved > 0 {
		f.Reason = fmt.Sprintf("A session goes on from a network and with a browser or program that this account never used in %d logins and visits%s%s.",
			r.worked, when(country > 0, ", in a country new to it"), when(sensitive > 0, "; then it did "+c.Act))
		f.Attack = append(f.Attack, "T1550.004")
	}
	f.Next = []string{"End the sessions of " + c.Account + " and reset its password", "Ask the owner whether it was them, by a channel that is not this account"}
	f.BenignIf = []string{"the owner with a new device in a new place"}
	f.WouldNotFireIf = "the place or the browser had been the account's own, or nothing else had been suspicious"
	f.OAT = []string{"OAT-007"}
	k.emit(f)
}

type accountChunk struct {
	Layout string
	Rows   []byte
	Cases  []*accountCase
	Visits uint32 `json:",omitempty"`
	Mixed  uint32 `json:",omitempty"`
}

func accountLayout() string { return layoutOf(reflect.TypeFor[accountRow]()) }

func (t *accountTable) encode(dst []byte) ([]byte, error) {
	data, err := json.Marshal(accountChunk{accountLayout(), raw(t.rows), t.cases, t.visits, t.mixed})
	return append(dst, data...), err
}

func (t *accountTable) decode(data []byte) error {
	var c accountChunk
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	if c.Layout != accountLayout() || !unraw(c.Rows, &t.rows, maxAccounts) || len(c.Cases) > maxAccountCases || slices.Contains(c.Cases, nil) ||
		len(t.rows) > 0 && (len(t.rows) < minAccounts || len(t.rows)&(len(t.rows)-1) != 0) {
		return ErrLayout
	}
	t.cases, t.visits, t.mixed = c.Cases, c.Visits, c.Mixed
	return nil
}
