package detectors

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

const (
	// campaignEvery is how often a campaign that moves says so; a login that
	// worked is told at the end of its minute.
	campaignEvery pipeline.Time = 10 * 60e6
	// campaignQuiet ends a campaign.
	campaignQuiet pipeline.Time = 6 * 3600e6
	maxMembers                  = 64
	maxTold                     = 96 // accounts in a finding
)

// exemplarOf is r as an alert shows it.
func exemplarOf(r *pipeline.Ordered) pipeline.Exemplar {
	x := pipeline.Exemplar{
		Time: r.Time, IP: r.Address.String(), Method: clean(r.Method, 16), Path: clean(r.Path, 256), Status: int(r.Status),
		Agent: clean(r.Agent, 160), Source: source(*r),
	}
	if r.Bytes >= 0 {
		n := r.Bytes
		x.Bytes = &n
	}
	return x
}

// party is the sampled attempts of a campaign.
type party struct {
	rows     []*attempt // by Rank and User
	members  []partyMember
	clients  int64 // estimated
	accounts int64 // estimated; 0 where none shows
	fails    int64 // of the sample
	pairs    int64 // client and account, of the sample
}

type partyMember struct {
	who     string
	address string
	rank    uint64
	fails   int64
}

// party gathers what p holds, or every stranger's failure since the onset.
func (e *loginEndpoint) party(p *trait, since pipeline.Time) (c party) {
	bar := e.Sample[0].Bar
	if b := e.Sample[1].Bar; bar == 0 || b != 0 && b < bar {
		bar = b
	}
	for g := range e.Sample {
		for i := range e.Sample[g].Rows {
			a := &e.Sample[g].Rows[i]
			if (p.Diffuse && a.Last >= since || p.holds(&a.Keys)) && (bar == 0 || a.Rank < bar) {
				c.rows = append(c.rows, a)
			}
		}
	}
	slices.SortStableFunc(c.rows, func(a, b *attempt) int { return compareAttempts(*a, b) })
	c.rows = e.outsiders(c.rows)
	seen := map[uint64]bool{}
	for _, a := range c.rows {
		c.fails += a.Fails
		c.pairs++
		if a.User != 0 {
			seen[a.User] = true
		}
		if n := len(c.members); n > 0 && c.members[n-1].rank == a.Rank {
			c.members[n-1].fails += a.Fails
			continue
		}
		c.members = append(c.members, partyMember{a.Who, a.Address, a.Rank, a.Fails})
	}
	scale := func(n int64) int64 {
		if bar == 0 {
			return n
		}
		return int64(uint64(n) * (^uint64(0) / max(bar>>20, 1)) >> 20)
	}
	c.clients, c.accounts = scale(int64(len(c.members))), scale(int64(len(seen)))
	slices.SortStableFunc(c.members, func(a, b partyMember) int {
		if a.fails != b.fails {
			return int(min(max(b.fails-a.fails, -1), 1))
		}
		return compareStrings(a.who, b.who)
	})
	return c
}

// outsiders drops from rows, sorted by Rank, what people do: an account that got
// in after all, and clients where as many other accounts got in as failed.
func (e *loginEndpoint) outsiders(rows []*attempt) []*attempt {
	kept := rows[:0]
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Rank == rows[0].Rank {
			n++
		}
		group := rows[:n]
		rows = rows[n:]
		if in := e.letIn(group[0].Rank, 0); in > 0 && in >= n {
			continue
		}
		for _, a := range group {
			if a.User == 0 || !slices.ContainsFunc(e.Wins, func(w attempt) bool { return w.Rank == a.Rank && w.User == a.User }) {
				kept = append(kept, a)
			}
		}
	}
	return kept
}

// open begins a campaign and tells it, unless it is about fewer than three
// accounts: that is guessing at an account, which has an alert of its own.
func (e *loginEndpoint) open(k *knot, c campaign) {
	m := e.party(&c.Trait, c.Onset)
	if m.accounts > 0 && m.accounts < 3 || len(m.members) < cohortSenders {
		return
	}
	c.Detector = nameStuffing
	if m.accounts > 0 && m.fails*2 >= m.pairs*5 {
		c.Detector = nameSpraying
	}
	if mode := k.c.cfg.Modes[c.Detector]; mode == ModeOff {
		return
	}
	c.ID = findingID("auth", c.Who.Hash(), c.Onset)
	c.Changed = true
	e.measure(&c)
	// Everybody's first login is by a client that never logged in before.
	c.Pure = !c.Trait.Diffuse && c.Trait.Dim != dimFresh && c.Estimate.Attempts*100 >= c.N*60
	if !c.Trait.Diffuse {
		r := e.Dims[c.Trait.Dim].find(c.Trait.Key)
		c.New = c.Pure && r != nil && r.histN-r.histK < 5
	}
	for i := range e.Wins {
		a := &e.Wins[i]
		since := c.Onset
		if c.New {
			since -= 24 * 3600e6 // a login that worked may have begun it
		}
		if a.Last >= since && (c.Trait.Diffuse || c.Trait.holds(&a.Keys)) && (c.New || e.sprayed(a)) {
			c.win(*a)
		}
	}
	e.Campaigns = append(e.Campaigns, c)
	e.tell(k, &e.Campaigns[len(e.Campaigns)-1])
}

// measure brings the numbers of c up to date.
func (e *loginEndpoint) measure(c *campaign) {
	w := &e.Watch
	if c.ByWatch && w.rise.n > 0 && w.rise.onset >= c.Onset {
		c.N, c.K, c.Expected = w.rise.n, w.rise.k, w.rise.expected
		c.Estimate = w.estimate(w.rise, c.Last)
		if c.Trait.Diffuse {
			return
		}
		if r := e.Dims[c.Trait.Dim].find(c.Trait.Key); r != nil && r.epoch == e.Epoch {
			c.N, c.K = int64(r.curN), int64(r.curK)
			e.measureCohort(c, r)
			c.Estimate.High += e.missed(c)
		}
		return
	}
	if c.ByWatch {
		return
	}
	if r := e.Dims[c.Trait.Dim].find(c.Trait.Key); r != nil && r.onset != 0 && int64(r.evN) >= c.N {
		c.N, c.K = int64(r.evN), int64(r.evK)
		e.measureCohort(c, r)
	}
}

// missed is how many malicious logins the trait of a campaign that the watch opened
// may have missed: those of the window in which it began, and those of clients that
// lost the trait because a login of theirs worked.
func (e *loginEndpoint) missed(c *campaign) int64 {
	n := c.N / max(e.Watch.rise.windows, 1)
	if c.Trait.Dim == dimFresh && c.WinCount > 0 {
		m := e.party(&c.Trait, c.Onset)
		n += c.WinCount * (c.N/max(m.clients, 1) + 1)
	}
	return n
}

func (e *loginEndpoint) measureCohort(c *campaign, r *cohort) {
	level := e.usual()
	usual := r.usual(level)
	c.Expected = usual * c.N
	c.Estimate = excessOf(c.N, c.K, usual, isqrt(usual*(shareOne-usual)/(20+int64(r.histN))))
}

// excessOf estimates the malicious among n logins of which k failed, where usually
// the given share does, known to within doubt (1/2^20).
func excessOf(n, k, usual, doubt int64) pipeline.Estimate {
	clean := max(shareOne-usual, shareOne/100)
	excess := k - usual*n/shareOne
	sd := isqrt(max(n, 1)*usual/shareOne*clean/shareOne*16) / 4
	if n < 1<<20 {
		sd = isqrt(n*(usual*clean/shareOne)/(shareOne/256)) / 16
	}
	drift := doubt * n / shareOne
	wide := isqrt(sd*sd+drift*drift)*7/4 + 1
	part := func(failures int64) int64 { return min(max(failures*shareOne/clean, 0), n) }
	return pipeline.Estimate{Attempts: part(excess), Low: part(excess - wide), High: part(excess + wide)}
}

// tick tells what moved, and ends what is over.
func (e *loginEndpoint) tick(k *knot, at pipeline.Time) (awake bool) {
	for i := range e.Campaigns {
		c := &e.Campaigns[i]
		if c.Changed && (at-c.Told >= campaignEvery || c.WinCount > c.Said) {
			e.tell(k, c)
		}
	}
	e.Campaigns = slices.DeleteFunc(e.Campaigns, func(c campaign) bool {
		return at-c.Last > campaignQuiet || c.ByWatch && !e.Watch.alarm && !c.Changed
	})
	return len(e.Campaigns) > 0
}

// tell emits the campaign as it stands.
func (e *loginEndpoint) tell(k *knot, c *campaign) {
	c.Changed, c.Told, c.Said = false, k.now, c.WinCount
	e.measure(c)
	m := e.party(&c.Trait, c.Onset)
	f := pipeline.Finding{
		ID: c.ID, Time: k.now, Detector: c.Detector, Level: "campaign", Who: c.Who, Onset: c.Onset, First: c.Onset,
		Last: max(c.Last, c.Onset), Score: c.Score, Endpoint: e.Endpoint, FirstSeen: c.Onset, Sampled: 1,
		Predicate: c.predicate(), MembersTotal: int(max(m.clients, int64(len(m.members)))), Backfill: !c.Live,
		Facts: pipeline.FindingFacts{CanSucceed: true, Succeeded: c.WinCount > 0},
		OWASP: []string{"API2:2023"}, Attack: []string{"T1110.004"}, OAT: []string{"OAT-008"},
	}
	if c.Detector == nameSpraying {
		f.Attack, f.OAT = []string{"T1110.003"}, []string{"OAT-007"}
	}
	if c.Estimate != (pipeline.Estimate{}) {
		est := c.Estimate
		f.Estimate = &est
	}
	for _, x := range m.members[:min(len(m.members), maxMembers)] {
		f.Members = append(f.Members, pipeline.Principal{Kind: pipeline.PrincipalIP, Value: x.who})
		if i, ok := slices.BinarySearch(f.Addresses, x.address); !ok && len(f.Addresses) < maxAddresses {
			f.Addresses = slices.Insert(f.Addresses, i, x.address)
		}
	}
	f.AddressesTotal = max(f.MembersTotal, len(f.Addresses))
	for i := range c.Wins {
		a := &c.Wins[i]
		if a.Account != "" && len(f.Accounts) < maxTold {
			f.Accounts = append(f.Accounts, pipeline.AffectedAccount{Name: a.Account, Outcome: "success", Time: a.First, Session: a.Session})
		}
	}
	for _, a := range m.rows {
		f.Agents, f.JA4 = keep(f.Agents, a.Agent, maxAgents), keep(f.JA4, a.JA4, maxAgents)
		if len(f.Exemplars) < firstExamples+lastExamples {
			f.Exemplars = append(f.Exemplars, a.Exemplar)
		}
		if a.Account == "" || slices.ContainsFunc(f.Accounts, func(x pipeline.AffectedAccount) bool { return x.Name == a.Account }) {
			continue
		}
		if len(f.Accounts) >= maxTold {
			f.Truncated = true
			continue
		}
		f.Accounts = append(f.Accounts, pipeline.AffectedAccount{Name: a.Account, Outcome: "failure", Time: a.Last})
	}
	f.Truncated = f.Truncated || m.accounts > int64(len(f.Accounts))
	slices.SortStableFunc(f.Exemplars, func(a, b pipeline.Exemplar) int { return compare(uint64(a.Time), uint64(b.Time)) })
	wins := c.WinCount
	f.Outcome = pipeline.Outcome{Requests: c.N, Attempted: c.N, Succeeded: &wins, Basis: "status"}
	if c.ByWatch {
		f.Outcome.Attempted, f.Outcome.Requests = c.Estimate.Attempts, c.Estimate.Attempts
	}
	if m.accounts > 0 {
		n := m.accounts
		f.Outcome.Accounts = &n
	}
	name, base := "cohort_login_failure", pipeline.Baseline{Kind: "prior"}
	if c.ByWatch {
		name, base = "failures_over_usual", pipeline.Baseline{Kind: "own", N: e.Total}
	} else if r := e.Dims[c.Trait.Dim].find(c.Trait.Key); r != nil && r.histN > 0 {
		base = pipeline.Baseline{Kind: "own", N: int64(r.histN)}
	}
	f.Signals = []pipeline.FindingSignal{{
		Name: name, Observed: float64(c.K), Expected: float64(c.Expected>>10*100/1024) / 100, Count: c.N, Nats: c.Score, Baseline: base,
	}}
	e.words(&f, c, &m)
	k.emit(f)
}

// predicate is what the campaign's attempts have in common, in words.
func (c *campaign) predicate() string {
	if !c.Trait.Diffuse {
		return c.Trait.Text
	}
	if len(c.Top) == 0 {
		return "diffuse: nothing in common"
	}
	var parts []string
	for i := range c.Top {
		parts = append(parts, fmt.Sprintf("%s (%d %%)", c.Top[i].Text, min(c.Top[i].Share, 100)))
	}
	return "diffuse: " + strings.Join(parts, ", ")
}

func (e *loginEndpoint) words(f *pipeline.Finding, c *campaign, m *party) {
	what := "Credential stuffing"
	if c.Detector == nameSpraying {
		what = "Password spraying"
	} else if m.accounts == 0 {
		what = "Credential stuffing or spraying"
	}
	clients := fmt.Sprintf("%d clients", f.MembersTotal)
	if m.clients > int64(len(m.members)) {
		clients = "about " + clients
	}
	f.Title = fmt.Sprintf("%s against %s by %s together", what, e.where(), clients)
	took := span(time.Duration(f.Last-f.Onset) * time.Microsecond)
	var b strings.Builder
	fmt.Fprintf(&b, "About %d malicious logins (90 %% sure: %d to %d) in %s from %s", c.Estimate.Attempts, c.Estimate.Low, c.Estimate.High, took, clients)
	if m.accounts > 0 {
		fmt.Fprintf(&b, " on %s%d accounts", when(m.clients > int64(len(m.members)), "about "), m.accounts)
	}
	if c.N > 0 {
		fmt.Fprintf(&b, ": %d of %d logins failed where %d were to be expected", c.K, c.N, c.Expected/shareOne)
	}
	if c.Trait.Diffuse {
		b.WriteString("; they have nothing in common that others have not")
	} else {
		b.WriteString("; in common: " + c.Trait.Text)
	}
	if c.WinCount > 0 {
		fmt.Fprintf(&b, ". %s", plural(c.WinCount, "login of theirs worked", "logins of theirs worked"))
		if len(c.Acts) > 0 {
			b.WriteString("; then: " + strings.Join(c.Acts, ", "))
		}
	}
	b.WriteByte('.')
	f.Reason = b.String()
	if c.WinCount > 0 {
		f.Next = append(f.Next, fmt.Sprintf("Reset %s that they got into and end the sessions, those first", plural(c.WinCount, "account", "accounts")))
	}
	switch {
	case c.Trait.Diffuse:
		f.Next = append(f.Next, "Ask every new client at "+e.where()+" for a second factor or a challenge until it is over; blocking addresses will not help")
	case c.Pure:
		f.Next = append(f.Next, "Block or challenge "+c.Trait.Text+" at "+e.where()+": few others log in so")
	default:
		f.Next = append(f.Next, "Challenge "+c.Trait.Text+" at "+e.where()+" rather than block: others log in so too")
	}
	f.BenignIf = []string{"a new version of an app that cannot log in", "a load test of the login", "a forced change of passwords"}
	f.WouldNotFireIf = "the share of logins that fail were what it usually is at this hour"
	if !c.ByWatch {
		f.WouldNotFireIf = "fewer accounts had failed there at their first try, or one client had made most of the attempts"
	}
}

// notice tells a common cause.
func (e *loginEndpoint) notice(k *knot, s *pipeline.Signal, words string) {
	w := &e.Watch
	who := pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: e.where()}
	if e.Notice.Since == 0 {
		e.Notice = noticeState{Since: w.rise.onset, ID: findingID("health", who.Hash(), w.rise.onset)}
	}
	e.Notice.Told, e.Notice.Words = k.now, words
	var c campaign
	e.attribute(&c)
	whose := "Logins at " + e.where() + " fail that used to work"
	if !c.Trait.Diffuse {
		whose += ", with " + c.Trait.Text
	}
	k.emit(pipeline.Finding{
		ID: e.Notice.ID, Time: k.now, Detector: nameLogins, Level: "endpoint", Who: who, Onset: w.rise.onset, First: w.rise.onset,
		Last: max(s.Facts.Time, w.rise.onset), FirstSeen: w.rise.onset, Sampled: 1, Endpoint: e.Endpoint,
		Facts:          pipeline.FindingFacts{Notice: true, Excuses: true},
		Backfill:       s.Request.Flags&pipeline.FlagBackfill != 0,
		Outcome:        pipeline.Outcome{Requests: w.rise.n, Attempted: w.rise.n, Basis: "status"},
		Title:          whose,
		Reason:         fmt.Sprintf("%d of %d logins failed where %d were to be expected, and %s: that is an outage, a deploy or a change of passwords, not an attack.", w.rise.k, w.rise.n, w.rise.expected/shareOne, words),
		Next:           []string{"Look at what was deployed, and at what the login depends on"},
		BenignIf:       []string{"an outage, a deploy, a forced change of passwords"},
		WouldNotFireIf: "clients that logged in before still could",
	})
}

// aftermath notes what an account did after a login that is part of a campaign.
func (e *loginEndpoint) aftermath(s *pipeline.Signal) {
	for i := range e.Campaigns {
		c := &e.Campaigns[i]
		for j := range c.Wins {
			if c.Wins[j].User != s.Facts.User || s.Facts.Time < c.Wins[j].First {
				continue
			}
			act := clean(s.Request.Method+" "+s.Request.Path, 80)
			if len(c.Acts) < 8 && !slices.Contains(c.Acts, act) {
				c.Acts = append(c.Acts, act)
				c.Changed, c.Said = true, -1
			}
		}
	}
}
