package detectors

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"weir/pipeline"
)

// The kinds of signals that meet at an endpoint.
const (
	kindLogin     uint8 = iota
	kindAftermath       // what an account did after a login that is part of a campaign
)

const (
	familiarFor = 14 * daySeconds
	freshSalt   = 0x66726573
	// cohortAt is from where evidence against a cohort keeps its past as it is;
	// below it, cohortPending first contacts become past all the same.
	cohortAt      = 3 * pipeline.Nat
	cohortPending = 64
	// cohortSenders is how many clients make a cohort: fewer have alerts of their
	// own.
	cohortSenders = 3
)

// meet takes a login.
func (e *loginEndpoint) meet(k *knot, s *pipeline.Signal) {
	o, r := &s.Facts, &s.Request
	baseline := k.b.endpoint(o.Template)
	failed, known := e.outcome(o, baseline)
	opened := e.Worked >= openAfter || baseline != nil && baseline.Answers401
	e.Last = o.Time
	if !known {
		e.Unknown++
		return
	}
	now := seconds(o.Time)
	client := s.Sender
	if !r.Address.IsZero() {
		client = r.Address.Owner()
	}
	keys := e.keys(r)
	if !e.Familiar.has(pipeline.Mix64(client, freshSalt)) {
		keys[dimFresh] = 1
	}
	who := o.User
	if who == 0 {
		who = pipeline.Mix64(client, uint64(now)/3600) // once an hour is all that can be told apart
	}
	familiar := e.familiar(o.User, client, r)
	firstAgent := e.Seen.add(pipeline.Mix64(who, r.AgentKey), now, daySeconds)
	firstNet := e.Seen.add(pipeline.Mix64(who, keys[dimNet]), now, daySeconds)
	weighs := e.weighs(client, now)
	if weighs {
		e.count(failed, familiar, o.Time)
	}
	prior := e.strangers(k.b.Login.Beta)
	crisis := e.Recent.failing(e.usual() + shareOne/8)
	tested := 0 // dimensions, as bits
	best, teaches := -1, firstAgent && !familiar && !e.Watch.alarm
	claimed := e.claimed(&keys)
	for d := range dimensions {
		if keys[d] == 0 {
			continue
		}
		c := e.Dims[d].at(keys[d], now)
		if c.onset == 0 {
			c.totalWas, c.failsWas = uint32(e.Total), uint32(e.Fails)
			if weighs {
				c.totalWas--
				if failed {
					c.failsWas--
				}
			}
		}
		c.count(e.Epoch, failed, familiar, weighs, client, o.Time, now)
		if !d.tested() || familiar {
			continue
		}
		if d.place() && !firstNet || !d.place() && !firstAgent {
			continue
		}
		if claimed != nil && (claimed.Dim != d || claimed.Key != keys[d]) || crisis && failed && e.othersFail(d, keys[d]) || d == dimFresh && !crisis {
			continue
		}
		c.test(prior, failed, now)
		tested |= 1 << d
		teaches = teaches && c.tests.score() < cohortAt
		if failed && c.tests.score() >= pipeline.PageAt && (best < 0 || c.tests.score() > e.Dims[best].find(keys[best]).tests.score()) && opened && e.holds(d, c) {
			best = int(d)
		}
	}
	if teaches {
		e.Strangers.add(failed)
	}
	if weighs {
		e.Recent.add(&keys, failed, o.Time)
	}
	if weighs && e.Watch.take(o.Time, failed) {
		e.ended(k, s)
	}
	if failed && k.traced() {
		e.trace(k, s, &keys, tested, familiar, weighs)
	}
	if !familiar {
		e.keep(k, &keys, client, failed, s)
	}
	if !failed {
		e.befriend(o.User, client, r, now)
	}
	for i := range e.Campaigns {
		if c := &e.Campaigns[i]; e.belongs(c, &keys, failed, familiar) {
			c.Changed = true
			if failed {
				c.Last = o.Time
			}
			c.Live = c.Live || r.Flags&pipeline.FlagBackfill == 0
		}
	}
	if best >= 0 {
		e.cohortCampaign(k, dimension(best), e.Dims[best].find(keys[best]), s)
	}
}

// trace tells who follows the evidence what a failed login is to the cohorts and
// to the endpoint.
func (e *loginEndpoint) trace(k *knot, s *pipeline.Signal, keys *[dimensions]uint64, tested int, familiar, weighs bool) {
	all := pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: e.where()}.Hash()
	k.trace(s, Traced{Detector: nameLogins, Owner: all, Score: e.Watch.nats(), Counted: weighs, Part: true})
	if familiar {
		return
	}
	k.trace(s, Traced{Detector: nameStuffing, Owner: all, Score: e.Watch.nats(), Counted: weighs, Part: true})
	for d := range dimensions {
		if keys[d] == 0 || !d.tested() {
			continue
		}
		who := pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: e.text(d, keys[d], &s.Request) + " at " + e.where()}
		k.trace(s, Traced{Detector: nameStuffing, Owner: who.Hash(), Score: e.Dims[d].find(keys[d]).tests.score(), Counted: tested>>d&1 == 1, Part: true})
	}
}

// add counts one; what is older than some thousands fades.
func (s *shareOf) add(yes bool) {
	s.N++
	if yes {
		s.K++
	}
	if s.N >= 4096 {
		s.N, s.K = s.N/2, s.K/2
	}
}

const (
	// cohortWeight is how many logins of strangers the null of a cohort never seen
	// is worth: cohorts are less alike than chance has it, and more than clients are.
	cohortWeight = 40
	// strangersKnown is how many first contacts tell how strangers fare here.
	strangersKnown = 200
)

// strangers is the prior of a cohort: how strangers fare at this endpoint, once
// that is known, else the clients' prior.
func (e *loginEndpoint) strangers(prior Beta) Beta {
	s := e.Strangers
	if s.N < strangersKnown {
		return prior
	}
	a := max(uint32(cohortWeight*256*s.K/s.N), 2*256)
	return Beta{a, cohortWeight*256 - min(a, cohortWeight*256-256)}
}

// perHour is how many logins of one client in an hour weigh in what is said of the
// endpoint: what one client does, however often, is no campaign and no outage.
const perHour = 4

// weighs reports whether a login weighs in the endpoint's shares.
func (e *loginEndpoint) weighs(client uint64, now uint32) bool {
	for i := range uint64(perHour) {
		if e.Seen.add(pipeline.Mix64(pipeline.Mix64(client, 0x77+i), uint64(now)/3600), now, daySeconds) {
			return true
		}
	}
	return false
}

// outcome says whether a login failed, and whether that is known.
func (e *loginEndpoint) outcome(o *pipeline.Observation, b *EndpointBaseline) (failed, known bool) {
	switch {
	case o.Has(pipeline.ObsFailed):
		return true, true
	case o.Has(pipeline.ObsWorked):
		return false, true
	case o.Status < 200 || o.Status >= 400:
		return false, false
	}
	// Where failures show in the status, the rest worked.
	return false, b != nil && b.Answers401 || e.Fails >= 3 && e.Fails*50 >= e.Total+e.Unknown
}

// keys is what r has in common with others; 0 is unknown.
func (e *loginEndpoint) keys(r *pipeline.Ordered) (keys [dimensions]uint64) {
	keys[dimAgent] = r.AgentKey
	if r.Agent != "" {
		keys[dimFamily] = pipeline.Hash64(agentFamily(r.Agent))
	}
	if r.JA4 != "" {
		keys[dimJA4] = pipeline.Hash64(r.JA4)
	}
	keys[dimASN] = uint64(r.ASN)
	if r.Country != [2]byte{} {
		keys[dimCountry] = uint64(r.Country[0])<<8 | uint64(r.Country[1])
	}
	if !r.Address.IsZero() {
		keys[dimNet] = network(r.Address)
	}
	if keys[dimASN] != 0 && keys[dimJA4] != 0 {
		keys[dimJA4ASN] = pipeline.Mix64(keys[dimJA4], keys[dimASN])
	}
	if keys[dimASN] != 0 && keys[dimAgent] != 0 {
		keys[dimAgentASN] = pipeline.Mix64(keys[dimAgent], keys[dimASN])
	}
	return keys
}

// network is a's /24, or its IPv6 /48, as a number that is not 0.
func network(a pipeline.Address) uint64 {
	if a.Is4() {
		return 1<<63 | uint64(binary.BigEndian.Uint32(a[12:])>>8)
	}
	return binary.BigEndian.Uint64(a[:8])>>16 | 1<<62
}

// networkText is the inverse of network, for people.
func networkText(n uint64) string {
	var a pipeline.Address
	if n>>63 == 1 {
		a[10], a[11] = 0xff, 0xff
		binary.BigEndian.PutUint32(a[12:], uint32(n)<<8)
		return a.String() + "/24"
	}
	binary.BigEndian.PutUint64(a[:8], n&^(1<<62)<<16)
	return a.String() + "/48"
}

// agentFamily is what an agent runs, without its version: a browser's name, else
// the first product.
func agentFamily(agent string) string {
	if strings.HasPrefix(agent, "Mozilla/") {
		for _, name := range []string{"Edg/", "OPR/", "SamsungBrowser/", "Firefox/", "FxiOS/", "CriOS/", "Chrome/", "Safari/", "Trident/"} {
			if strings.Contains(agent, name) {
				return name[:len(name)-1]
			}
		}
		return "Mozilla"
	}
	end := strings.IndexAny(agent, "/ (;")
	if end < 0 {
		end = len(agent)
	}
	return agent[:min(end, 64)]
}

// wide is where r comes from as a wide place: the ASN, else the /16 or /32.
func wide(r *pipeline.Ordered) uint64 {
	if r.ASN != 0 {
		return uint64(r.ASN)
	}
	if r.Address.Is4() {
		return 1<<63 | uint64(r.Address[12])<<8 | uint64(r.Address[13])
	}
	return 1<<62 | uint64(binary.BigEndian.Uint32(r.Address[:4]))
}

// familiar reports whether this account logged in from this client or place
// before; where accounts do not show, whether this client did.
func (e *loginEndpoint) familiar(user, client uint64, r *pipeline.Ordered) bool {
	if e.Familiar.has(pipeline.Mix64(user, client)) {
		return true
	}
	return user != 0 && e.Familiar.has(pipeline.Mix64(user, wide(r)))
}

func (e *loginEndpoint) befriend(user, client uint64, r *pipeline.Ordered, now uint32) {
	e.Familiar.add(pipeline.Mix64(user, client), now, familiarFor)
	e.Familiar.add(pipeline.Mix64(client, freshSalt), now, familiarFor)
	if user != 0 {
		e.Familiar.add(pipeline.Mix64(user, wide(r)), now, familiarFor)
	}
}

// count keeps the endpoint's totals.
func (e *loginEndpoint) count(failed, familiar bool, at pipeline.Time) {
	e.Total++
	if hour := at / 3600e6; hour != e.PaceAt {
		if e.PaceAt != 0 && !e.Watch.alarm && e.Watch.sum == 0 {
			e.Pace[1] += (e.Pace[0] - e.Pace[1]) / 3
		}
		e.Pace[0], e.PaceAt = 0, hour
	}
	if failed {
		e.Fails++
	} else {
		e.Worked++
		if e.OKLast != 0 {
			e.OKs++
			e.OKGap += (int64(at-e.OKLast) - e.OKGap) / min(e.OKs, 200)
		}
		e.OKLast = at
		e.Pace[0]++
	}
	if familiar {
		e.Rest.WN++
		if failed {
			e.Rest.WK++
		}
	}
}

// count takes a login of the cohort, known outcome.
func (c *cohort) count(epoch uint32, failed, familiar, weighs bool, client uint64, at pipeline.Time, now uint32) {
	if c.epoch != epoch {
		c.epoch, c.curK, c.curN = epoch, 0, 0
	}
	c.last = now
	if weighs {
		c.total++
		c.curN++
		if failed {
			c.curK++
		}
	}
	if c.onset == 0 {
		if !failed {
			return
		}
		c.onset = at
	}
	c.evN++
	if weighs {
		c.weighN++
		if failed {
			c.weighK++
		}
	}
	if !failed {
		return
	}
	c.evK++
	if familiar {
		c.evKnown++
		return
	}
	c.senders.add(client)
	switch {
	case c.top == client:
		c.topN++
	case c.topN == 0:
		c.top, c.topN = client, 1
	default:
		c.topN--
	}
}

// test takes a first contact.
func (c *cohort) test(prior Beta, failed bool, now uint32) {
	c.pendN++
	if failed {
		c.pendK++
	}
	c.tests.observe(c.null(prior), failed, countScale, now, cohortHalfLife)
	if c.tests.branch == [3]branch{} {
		// Nothing is held against it: the evidence begins anew.
		c.onset, c.senders, c.top, c.topN, c.evK, c.evN, c.evKnown, c.firsts, c.weighN, c.weighK = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
	} else {
		c.firsts++
	}
	if c.tests.branch == [3]branch{} || c.pendN >= cohortPending && c.tests.score() < cohortAt {
		c.histN, c.histK, c.pendN, c.pendK = c.histN+c.pendN, c.histK+c.pendK, 0, 0
		for c.histN >= cohortHistory {
			c.histN, c.histK = c.histN/2, c.histK/2
		}
	}
}

// usualMost reports whether the cohort was most of the endpoint before the evidence
// began: that it became so by what is held against it is no excuse. Where little
// was known then, and of those that are new, what counts is how it is now.
func (e *loginEndpoint) usualMost(d dimension, c *cohort) bool {
	if d == dimFresh || c.totalWas < 200 {
		return int64(c.total)*2 > e.Total && e.Total >= 200
	}
	return int64(c.total-c.weighN)*2 > int64(c.totalWas)
}

// holds reports whether the case against a cohort is a cohort's: several clients,
// none of which is most of it, accounts that are strangers there, while others
// log in as ever.
func (e *loginEndpoint) holds(d dimension, c *cohort) bool {
	switch {
	case c.senders.count() < cohortSenders, c.topN*10 > c.evK*6, c.evKnown*5 > c.evK*2:
		return false
	case e.usualMost(d, c):
		return false // it is most of the endpoint: see the watch
	}
	n := int64(uint32(e.Total)-c.totalWas) - int64(c.weighN)
	k := int64(uint32(e.Fails)-c.failsWas) - int64(c.weighK)
	return n < 8 || k*shareOne/n <= e.usual()+shareOne/6 || e.attackedBy(d, c.key) || e.surged()
}

// attackedBy reports whether the others fail because of an open campaign.
func (e *loginEndpoint) attackedBy(d dimension, key uint64) bool {
	n, k := e.Recent.others(d, key)
	return len(e.Campaigns) > 0 && e.attacked(d, key, n, k)
}

// claimed returns what an open campaign knows the login by, nil if none does:
// then it is evidence against nothing else.
func (e *loginEndpoint) claimed(keys *[dimensions]uint64) *trait {
	for i := range e.Campaigns {
		if c := &e.Campaigns[i]; (c.Pure || c.Trait.Dim == dimFresh) && c.Trait.holds(keys) {
			return &c.Trait
		}
	}
	return nil
}

// usual is the share of logins that fails here.
func (e *loginEndpoint) usual() int64 {
	switch w := &e.Watch; {
	case w.windows == 0:
		return shareOne / 5
	case w.windows < usualKnown:
		return min(w.level, shareOne/5)
	}
	return e.Watch.level
}

// usualKnown is how many windows tell what is usual: fewer may be one bad morning.
const usualKnown = 40

// othersFail reports whether lately those without the value fail as well: then it
// is no sign of what they have in common.
func (e *loginEndpoint) othersFail(d dimension, key uint64) bool {
	n, k := e.Recent.others(d, key)
	return n >= 8 && k*shareOne/n > e.usual()+shareOne/4 && !e.attacked(d, key, n, k) && !e.surged()
}

// surged reports whether failures came on top of the logins that work, not in
// their place: twice as many logins as the pace of those that work lets expect,
// and those go on.
func (e *loginEndpoint) surged() bool {
	r := &e.Recent
	if e.OKGap <= 0 || e.OKs < 30 || r.n < 32 {
		return false
	}
	usualOK := r.span() / e.OKGap // in the time of the recent logins
	worked := int64(r.n - r.fails)
	if usualOK >= 4 && worked*5 < usualOK*2 {
		return false
	}
	return int64(r.n)*(shareOne-e.usual()) >= 2*usualOK*shareOne
}

// attacked reports whether what the others fail is itself of an open campaign.
func (e *loginEndpoint) attacked(d dimension, key uint64, n, k int64) bool {
	for i := range e.Recent.rows[:e.Recent.n] {
		row := &e.Recent.rows[i]
		if row.keys[d] == key {
			continue
		}
		for j := range e.Campaigns {
			if e.Campaigns[j].Trait.holds(&row.keys) {
				n--
				if row.failed {
					k--
				}
				break
			}
		}
	}
	return n >= 8 && k*2 <= n
}

// keep samples a login of an account that never logged in from there.
func (e *loginEndpoint) keep(k *knot, keys *[dimensions]uint64, client uint64, failed bool, s *pipeline.Signal) {
	o, r := &s.Facts, &s.Request
	a := attempt{Rank: pipeline.Mix64(client, 77) | 1, User: o.User, Keys: *keys, First: o.Time, Last: o.Time}
	fill := func(a *attempt) {
		a.Who, a.Address, a.Account, a.Session = r.Address.PrincipalValue(), r.Address.String(), clean(r.LoginUser, 256), clean(r.Session, 64)
		a.Agent, a.JA4 = clean(r.Agent, 160), clean(r.JA4, 64)
		a.Exemplar = exemplarOf(r)
	}
	if failed {
		if day := int64(o.Time) / 86400e6; day != e.SampleDay {
			e.Sample[1], e.Sample[0], e.SampleDay = e.Sample[0], loginSample{}, day
		}
		a.Fails = 1
		e.Sample[0].take(&a, fill)
		return
	}
	a.Works = 1
	matched := false
	for i := range e.Campaigns {
		c := &e.Campaigns[i]
		if !c.Trait.Diffuse && !c.Trait.holds(keys) || !c.New && !e.sprayed(&a) {
			continue
		}
		if a.Who == "" {
			fill(&a)
		}
		matched = true
		c.win(a)
		if o.User != 0 {
			next := *s
			next.Meeting, next.Key, next.Kind, next.Sender = pipeline.MeetAccount, o.User, kindCampaignWin, e.Key
			k.send(next)
		}
	}
	if matched {
		return
	}
	fill(&a)
	if len(e.Wins) >= maxWins {
		copy(e.Wins, e.Wins[1:])
		e.Wins = e.Wins[:maxWins-1]
	}
	e.Wins = append(e.Wins, a)
}

// win notes a login that worked as part of the campaign.
func (c *campaign) win(a attempt) {
	for i := range c.Wins {
		if c.Wins[i].User == a.User && c.Wins[i].Who == a.Who {
			c.Wins[i].Works += a.Works
			return
		}
	}
	c.WinCount++
	if len(c.Wins) < maxOpenWins {
		c.Wins = append(c.Wins, a)
	}
	c.Changed = true
}

// sprayed reports whether a's client failed with other accounts, with more than
// got in; where none show, three times and more.
func (e *loginEndpoint) sprayed(a *attempt) bool {
	failed := 0
	for g := range e.Sample {
		rows := e.Sample[g].Rows
		i, _ := slices.BinarySearchFunc(rows, a, func(x attempt, y *attempt) int { return compare(x.Rank, y.Rank) })
		for ; i < len(rows) && rows[i].Rank == a.Rank; i++ {
			if a.User == 0 && rows[i].Fails >= 3 {
				return true
			}
			if rows[i].User != a.User {
				failed++
			}
		}
	}
	return failed > 0 && failed > e.letIn(a.Rank, a.User)
}

// letIn counts the accounts but one that got in lately from a client, each for the
// first time: many people behind one address fail now and then, and mostly do not.
func (e *loginEndpoint) letIn(rank, but uint64) (n int) {
	for i := range e.Wins {
		if w := &e.Wins[i]; w.Rank == rank && w.User != but {
			n++
		}
	}
	for i := range e.Campaigns {
		c := &e.Campaigns[i]
		for j := range c.Wins {
			if w := &c.Wins[j]; w.Rank == rank && w.User != but {
				n++
			}
		}
	}
	return n
}

// belongs reports whether a login is c's.
func (e *loginEndpoint) belongs(c *campaign, keys *[dimensions]uint64, failed, familiar bool) bool {
	if c.Trait.Diffuse {
		return failed && !familiar && e.Watch.alarm
	}
	return c.Trait.holds(keys) && !familiar
}

// narrower is what tells those of c apart better than that they are new: something
// with a case of its own that nearly all of their failures have had in common since
// that case began.
func (e *loginEndpoint) narrower(d dimension, c *cohort, s *pipeline.Signal) (dimension, *cohort) {
	keys := e.keys(&s.Request)
	for to := range dimensions {
		if !to.tested() || to == dimFresh || keys[to] == 0 {
			continue
		}
		x := e.Dims[to].find(keys[to])
		if x == nil || x.onset == 0 || x.tests.score() < pipeline.ReviewAt || !e.holds(to, x) {
			continue
		}
		all, same := 0, 0
		for i := range e.Recent.rows[:e.Recent.n] {
			if r := &e.Recent.rows[i]; r.failed && r.keys[d] == c.key && r.at >= x.onset {
				all++
				if r.keys[to] == x.key {
					same++
				}
			}
		}
		if same*5 >= all*4 {
			return to, x
		}
	}
	return d, c
}

// cohortCampaign opens a campaign for a cohort that pages, unless one that is open
// has most of its attempts.
func (e *loginEndpoint) cohortCampaign(k *knot, d dimension, c *cohort, s *pipeline.Signal) {
	if d == dimFresh {
		d, c = e.narrower(d, c, s)
	}
	p := trait{Dim: d, Key: c.key, Share: 100, Text: e.text(d, c.key, &s.Request)}
	for i := range e.Campaigns {
		o := &e.Campaigns[i]
		if o.Trait.Diffuse || o.Trait.Dim == d && o.Trait.Key == c.key || e.overlap(&p, &o.Trait) {
			if !o.ByWatch && o.Trait.Dim == d && o.Trait.Key == c.key {
				o.Score = max(o.Score, c.tests.score())
			}
			return
		}
	}
	if len(e.Campaigns) >= maxCampaigns {
		return
	}
	who := pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: p.Text + " at " + e.where()}
	e.open(k, campaign{Trait: p, Who: who, Onset: c.onset, Last: s.Facts.Time, Score: c.tests.score(), Live: s.Request.Flags&pipeline.FlagBackfill == 0})
}

// overlap reports whether most of the sampled attempts of p are of q.
func (e *loginEndpoint) overlap(p, q *trait) bool {
	n, both := 0, 0
	for g := range e.Sample {
		for i := range e.Sample[g].Rows {
			if a := &e.Sample[g].Rows[i]; p.holds(&a.Keys) {
				n++
				if q.holds(&a.Keys) {
					both++
				}
			}
		}
	}
	return both*2 >= n
}

// text is a value in words; r, if any, has it.
func (e *loginEndpoint) text(d dimension, key uint64, r *pipeline.Ordered) string {
	var agent, ja4 string
	var asn uint32
	if r != nil {
		agent, ja4, asn = r.Agent, r.JA4, r.ASN
	} else {
		for g := range e.Sample {
			for i := range e.Sample[g].Rows {
				if a := &e.Sample[g].Rows[i]; agent == "" && ja4 == "" && asn == 0 && a.Keys[d] == key {
					agent, ja4, asn = a.Agent, a.JA4, uint32(a.Keys[dimASN])
				}
			}
		}
	}
	agent, ja4 = clean(agent, 80), clean(ja4, 40)
	as := "AS" + strconv.FormatUint(uint64(asn), 10)
	switch d {
	case dimAgent:
		return "agent " + agent
	case dimFamily:
		return "agents like " + agentFamily(agent)
	case dimJA4:
		return "JA4 " + ja4
	case dimASN:
		return "AS" + strconv.FormatUint(key, 10)
	case dimNet:
		return networkText(key)
	case dimCountry:
		return "country " + string([]byte{byte(key >> 8), byte(key)})
	case dimFresh:
		return "clients that never logged in before"
	case dimJA4ASN:
		return "JA4 " + ja4 + " from " + as
	}
	return "agent " + agent + " from " + as
}

func (e *loginEndpoint) where() string {
	s := e.Endpoint.Method + " " + e.Endpoint.Host + e.Endpoint.Template
	return strings.TrimSpace(s)
}

// ended follows the watch at the end of a window.
func (e *loginEndpoint) ended(k *knot, s *pipeline.Signal) {
	w, at := &e.Watch, s.Facts.Time
	e.Rest.window(!w.alarm && w.sum <= w.limit/2)
	if w.near == 0 {
		// Nothing is over what is usual: counts since the onset begin anew.
		e.Epoch++
		e.Rest.N, e.Rest.K, e.Rest.Expected = 0, 0, 0
	}
	open := -1
	for i := range e.Campaigns {
		if e.Campaigns[i].ByWatch {
			open = i
		}
	}
	switch {
	case !w.alarm:
		e.Notice.Since = 0
		return
	case open >= 0:
		c := &e.Campaigns[open]
		c.Changed = true
		if c.Trait.Diffuse {
			e.attribute(c)
		}
		c.Score = max(c.Score, w.nats())
		return
	case w.alarmed == at:
		if words := e.commonCause(at); words != "" {
			e.notice(k, s, words)
			return
		}
	default:
		if e.Notice.Since != 0 && at-e.Notice.Told >= brokenQuiet {
			e.notice(k, s, e.Notice.Words) // it goes on
		}
		return // it was told, or explained, when it began
	}
	for i := range e.Campaigns {
		if e.explains(&e.Campaigns[i].Trait) >= 60 {
			e.Campaigns[i].Changed = true
			return // it is that campaign that lifts the share
		}
	}
	c := campaign{ByWatch: true, Onset: w.rise.onset, Last: at, Score: w.nats(), Live: s.Request.Flags&pipeline.FlagBackfill == 0}
	c.Who = pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: e.where()}
	e.attribute(&c)
	if len(e.Campaigns) < maxCampaigns {
		e.open(k, c)
	}
}

// window ends a window; what it saw becomes usual if it may teach.
func (f *familiarity) window(teach bool) {
	f.N, f.K, f.Expected = f.N+f.WN, f.K+f.WK, f.Expected+f.Usual*f.WN
	if teach && f.WN > 0 {
		f.Taught = min(f.Taught+f.WN, 100*windowLogins)
		f.Usual += (f.WK*shareOne/f.WN - f.Usual) * f.WN / f.Taught
	}
	f.WN, f.WK = 0, 0
}

// nats puts the CUSUM on the scale of evidence: the height that chance reaches
// once in 90 days is page level.
func (w *failWatch) nats() pipeline.Nats {
	if w.limit <= 0 {
		return 0
	}
	return min(pipeline.PageAt*pipeline.Nats(w.sum)/pipeline.Nats(w.limit), 2*pipeline.PageAt)
}

// commonCause says, in words, what makes everybody fail; "" for an attack.
func (e *loginEndpoint) commonCause(at pipeline.Time) string {
	w := &e.Watch
	excess := w.rise.k*shareOne - w.rise.expected
	if r := &e.Rest; r.N >= 50 && r.Taught >= 2*windowLogins && excess > 0 {
		// How much more of those fail, against how much more of all do: about the
		// same where something broke, nothing where others attack.
		if (r.K*shareOne-r.Expected)/r.N*5 >= excess/w.rise.n*3 {
			return "accounts that logged in from the same place before fail as well"
		}
	}
	span := at - w.rise.onset
	if e.Pace[1] > 20 && span < 4*3600e6 {
		worked := w.rise.n - w.rise.k
		if usual := e.Pace[1] * int64(span) / 3600e6; usual >= 40 && worked*5 < usual*2 {
			return "logins that work have become rare"
		}
	}
	return ""
}

// explains is the share of the excess since the onset that p explains, percent.
func (e *loginEndpoint) explains(p *trait) int64 {
	if p.Diffuse {
		return 0
	}
	c := e.Dims[p.Dim].find(p.Key)
	total := e.Watch.rise.k*shareOne - e.Watch.rise.expected
	if c == nil || c.epoch != e.Epoch || total <= 0 {
		return 0
	}
	own := int64(c.curK)*shareOne - c.usual(e.Watch.level)*int64(c.curN)
	return max(own, 0) * 100 / total
}

// attribute finds what the excess since the onset has in common: the purest value
// that explains at least 80 % of it and is malicious to 60 % (Adtributor, NSDI'14);
// else the five that explain most.
func (e *loginEndpoint) attribute(c *campaign) {
	best, bestPurity := trait{Diffuse: true}, int64(0)
	var top []trait
	for d := range dimensions {
		rows := e.Dims[d].rows
		for i := range rows {
			r := &rows[i]
			if r.key == 0 || r.epoch != e.Epoch || r.curK < 5 {
				continue
			}
			p := trait{Dim: d, Key: r.key}
			p.Share = e.explains(&p)
			if p.Share < 10 {
				continue
			}
			usual := r.usual(e.Watch.level)
			purity := (int64(r.curK)*shareOne - usual*int64(r.curN)) * 100 / (int64(r.curN) * max(shareOne-usual, 1))
			if p.Share >= 80 && purity >= 60 && (best.Diffuse || purity > bestPurity) {
				best, bestPurity = p, purity
			}
			top = append(top, p)
		}
	}
	if !best.Diffuse {
		best.Text = e.text(best.Dim, best.Key, nil)
		c.Trait, c.Top = best, nil
		return
	}
	slices.SortFunc(top, func(a, b trait) int {
		if a.Share != b.Share {
			return int(b.Share - a.Share)
		}
		if a.Dim != b.Dim {
			return int(a.Dim) - int(b.Dim)
		}
		return compare(a.Key, b.Key)
	})
	top = top[:min(len(top), 5)]
	for i := range top {
		top[i].Text = e.text(top[i].Dim, top[i].Key, nil)
	}
	c.Trait, c.Top = best, slices.Clone(top)
}
