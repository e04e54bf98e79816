package detectors

import (
	"fmt"

	"weir/pipeline"
)

// enumUser sees one client that finds out which accounts exist: by asking for
// password resets, registrations or look-ups of many names, or at a login that
// tells unknown accounts apart (404 beside 401).
//
// Evidence: how many distinct names a day or a week, per person behind the address (a
// name at a form that asks while it is typed counts a quarter); and of each
// name's first answer, the share that says there is no such account. At least
// ten names. Where the log does not show the name every request counts as one,
// at half weight and to review level at most. At a login it is auth.stuffing's
// evidence; the case is this detector's when most failures were about unknown
// accounts.
//
// Misses: an endpoint that answers alike, at a few names a day; names in order (only
// their tokens are kept); answers that differ in size alone, but at a login that a
// fit knows; in time alone.
// Looks like it: a helpdesk that resets passwords for others, an import that
// registers many. OWASP API2, ATT&CK T1589.002, T1087.
type enumUser struct{}

// askState is what a principal's questions about accounts came to.
type askState struct {
	unknown trial   // first answers that say there is no such account
	names   breadth // distinct names a day
	weekly  breadth // and a week
	onset   pipeline.Time
	last    pipeline.Time
	asked   uint32 // distinct names since onset; requests where none shows
	found   uint32 // names that exist
	absent  uint32 // names that do not
	people  uint16
	visible bool // the log shows names
	took    bool // the request at hand added to the evidence
}

func newEnumUser() detector { return enumUser{} }

const (
	askFrom = 10
	// askRate and askWeekly are names a day and a week of an ordinary client.
	askRate, askWeekly = 1, 3
	weekSeconds        = 7 * daySeconds
	// windowPrice is ln 2, for the choice between day and week.
	windowPrice = pipeline.Nats(726818)
)

// asks sets what detectors read of a request that asks about an account.
func (v *observer) asks(o *pipeline.Observation, r *pipeline.Request) {
	rules := v.logins
	if rules == nil {
		rules = &pipeline.LoginRules{}
	}
	o.Flags |= pipeline.ObsAsks
	o.Flags &^= pipeline.ObsMiss
	if e, ok := rules.Endpoint(r.Method, r.Path); ok && e.Role != pipeline.RoleReset {
		o.Flags |= pipeline.ObsTyping
	}
	if r.LoginUser != "" {
		o.User = pipeline.Hash64(r.LoginUser)
	}
}

// unknownName is the prior of answers that say there is no such account.
func unknownName() Prior { return Prior{Beta: betaOf(1.5, 13.5)} }

// take counts one request.
func (st *askState) take(p *Profile, o *pipeline.Observation, s *scope) {
	now := seconds(o.Time)
	half := egressHalf(st.people)
	st.unknown.decay(now, half)
	st.names.decay(now, daySeconds)
	st.weekly.decay(now, weekSeconds)
	if st.asked > 0 && o.Time.Sub(st.last) > 3600e9 && st.weekly.n < breadthOne/2 && st.unknown.best() < pipeline.Nat/2 {
		*st = askState{}
	}
	if st.asked == 0 {
		st.onset = o.Time
	}
	st.last, st.took = o.Time, false
	_, high := p.people(s.b)
	st.people = uint16(min(max(1, high-1), 1000))
	weight := uint32(breadthOne)
	if o.Has(pipeline.ObsTyping) {
		weight /= 4
	}
	if o.User == 0 {
		weight /= 2
	} else {
		st.visible = true
		if !p.seen.add(pipeline.Mix64(o.User, saltAsked), now) {
			return
		}
	}
	st.took = true
	st.asked++
	st.names.add(weight, now, daySeconds)
	st.weekly.add(weight, now, weekSeconds)
	switch {
	case o.Status >= 200 && o.Status < 400:
		st.found++
	case o.Status == 400 || o.Status == 404 || o.Status == 409 || o.Status == 410 || o.Status == 422:
		st.absent++
	default:
		return
	}
	if o.User != 0 {
		st.unknown.observe(unknownName().Beta, o.Status >= 400, countScale, now, half)
	}
}

// tells reports whether the answers tell names that exist from others.
func (st *askState) tells() bool { return st.found > 0 && st.absent > 0 }

// parts is the evidence of how many names and of the share that is unknown.
func (st *askState) parts() (names, unknown pipeline.Nats) {
	if st.asked < askFrom {
		return 0, 0
	}
	day, week := st.names.nats(loginRate(askRate), int(st.people)), st.weekly.nats(loginRate(askWeekly), int(st.people))
	names = max(0, max(day, week)-windowPrice)
	if !st.visible {
		return min(names, slowCap), 0
	}
	return names, st.unknown.score()
}

func (st *askState) score() pipeline.Nats {
	names, unknown := st.parts()
	return names + unknown
}

// namesScore is the evidence of a login that is asked which accounts exist.
func (st *loginState) namesScore() pipeline.Nats {
	if st.shape != shapeNames {
		return 0
	}
	return st.spreadScore()
}

// leads reports whether the questions say more than the logins.
func (st *askState) leads(login *loginState) bool { return st.score() >= login.namesScore() }

func (enumUser) observe(p *Profile, o *pipeline.Observation, _ *scope) (pipeline.Nats, bool) {
	switch {
	case o.Has(pipeline.ObsLogin) && p.login.shape == shapeNames:
		return max(p.ask.score(), p.login.namesScore()), p.login.took
	case o.Has(pipeline.ObsAsks):
		return max(p.ask.score(), p.login.namesScore()), p.ask.took
	}
	return 0, false
}

func (enumUser) phase(p *Profile) uint8 { return 0 }

func (enumUser) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	st := &p.ask
	if !st.leads(&p.login) {
		return p.login.spreadSignals(dst, "unknown_account", b)
	}
	names, unknown := st.parts()
	dst = append(dst, pipeline.FindingSignal{
		Name: pick(st.visible, "names_asked", "account_requests"), Observed: float64(st.names.n / breadthOne), Expected: float64(askRate * st.people),
		Count: int64(st.asked), Nats: names, Baseline: pipeline.Baseline{Kind: "prior"},
	})
	if unknown > 0 {
		prior := unknownName()
		dst = append(dst, pipeline.FindingSignal{
			Name: "unknown_account", Observed: float64(st.absent), Expected: expected(uint16(min(st.found+st.absent, 1<<16-1)), prior),
			Count: int64(st.absent), Nats: unknown, Baseline: b.baseline(prior),
		})
	}
	return dst
}

func (enumUser) describe(f *pipeline.Finding, p *Profile, c *caseFile, _ *Baselines) {
	st := &p.ask
	f.Facts.CanSucceed = false
	asked, absent, found := max(int64(st.asked), accounts(f)), int64(st.absent), int64(st.found)
	f.Onset, f.Outcome.Basis = st.onset, "status"
	shown := st.visible
	if !st.leads(&p.login) {
		asked, absent, shown = max(int64(p.login.tried), accounts(f)), int64(p.login.absent), true
		found = int64(p.login.tried) - absent
		f.Onset = p.login.onset
	}
	f.Outcome.Attempted = asked
	if shown {
		f.Outcome.Accounts = &asked
	}
	if found > 0 && absent > 0 && shown {
		f.Outcome.Succeeded = &found
	} else {
		f.Outcome.Basis = "unknown"
	}
	f.Title = fmt.Sprintf("Account names tried out at %s from %s", f.Endpoint.Method+" "+f.Endpoint.Template, f.Who.Value)
	took := span(c.Last.Sub(f.Onset))
	switch {
	case !shown:
		f.Reason = fmt.Sprintf("%s about accounts in %s; the log does not show which names (an ordinary client asks about one a day).",
			plural(asked, "request", "requests"), took)
	case f.Outcome.Succeeded != nil:
		f.Reason = fmt.Sprintf("%s in %s (an ordinary client asks about one a day): the answers told that %s%d do not exist and %d do.",
			plural(asked, "account name", "account names"), took, when(asked > absent+found, "at least "), absent, found)
	default:
		f.Reason = fmt.Sprintf("%s in %s (an ordinary client asks about one a day); the answers were all alike.",
			plural(asked, "account name", "account names"), took)
	}
	if f.Outcome.Succeeded != nil {
		f.Next = append(f.Next, "Make "+f.Endpoint.Method+" "+f.Endpoint.Template+" answer alike for known and unknown accounts")
	}
	f.Next = append(f.Next, blockAdvice(f), "Watch the logins of the names that exist: they are usually tried next")
	f.BenignIf = []string{"a helpdesk that resets passwords for others", "an import that registers or checks many accounts", "a sign-up form that checks names as they are typed"}
	f.WouldNotFireIf = fmt.Sprintf("it had asked about fewer than %d names in a day", askFrom)
	f.Attack = []string{"T1589.002", "T1087"}
	f.OWASP = []string{"API2:2023"}
	f.OAT = []string{"OAT-007", "OAT-019"}
}
