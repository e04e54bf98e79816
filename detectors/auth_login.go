package detectors

import (
	"weir/pipeline"
)

// loginState is what a principal's login attempts came to. It takes each
// attempt once, before any detector sees it; auth.bruteforce, auth.stuffing,
// auth.spraying and, for logins that tell unknown accounts apart, enum.user read
// it. Which of them owns the case follows from its shape, and a shape is left
// only with the state.
type loginState struct {
	tries     trial // attempts that fail
	firsts    trial // first attempts at an account that fail
	onset     pipeline.Time
	lastTry   pipeline.Time
	suspected pipeline.Time // of the third failure
	where     uint64        // template on which a failure showed last
	lastUser  uint64
	attempts  uint32 // since onset
	failures  uint32
	successes uint32
	hidden    uint32      // answers that say nothing as long as no failure showed
	veiled    hiddenTries // what these answers were
	learned   bool        // an outcome was told by what was learned
	after     uint32      // successes that followed at least three failures
	reached   uint32      // accounts behind these
	before    uint32      // accounts that worked earlier, since onset
	tried     uint32      // accounts
	refused   uint32      // accounts whose first attempt here failed
	absent    uint32      // of these: answered that there is no such account
	again     uint32      // attempts at a refused account, after one at another
	agent     uint32      // of the last attempt
	fast      breadth
	slow      breadth // attempts a day that are not known to have worked
	wide      breadth // refused accounts
	people    uint16
	shape     loginShape
	shows     bool // a failure showed in the status: 2xx and 3xx are successes
	took      bool // the attempt at hand added to the evidence
	tookFirst bool // it was the first at its account, and failed
	bySize    bool // answers' sizes told that there is no such account
}

// loginShape is what the attempts look like.
type loginShape uint8

const (
	shapeFew    loginShape = iota // few accounts, or accounts that the log does not show
	shapeWide                     // many accounts, about one try each
	shapeRounds                   // many accounts, tried again in rounds
	shapeNames                    // many accounts, most of which do not exist
)

const (
	loginHalfLife = 600
	// egressHalfLife is that of first attempts where many people share the
	// address: tomorrow it is somebody else's.
	egressHalfLife = 2 * 24 * 3600
	egressPeople   = 10
	// fewHalfLife is that of first attempts where one or two people are behind the
	// address: whoever tries two accounts a day there is still the same.
	fewHalfLife = 14 * 24 * 3600
	fewPeople   = 2
	// wideFrom is from how many refused accounts on it is not a few.
	wideFrom = 10
	// namesBy is by when it is decided whether many accounts are names tried out.
	namesBy = 16

	// Salts of what is put into Profile.seen.
	saltTried  = 9
	saltWorked = 11
	saltAsked  = 13
)

// egressHalf is the half-life of evidence that the people behind an address make
// stale.
func egressHalf(people uint16) uint32 {
	switch {
	case people >= egressPeople:
		return egressHalfLife
	case people <= fewPeople:
		return fewHalfLife
	}
	return halfLifeSeconds
}

// take counts one attempt.
func (st *loginState) take(p *Profile, o *pipeline.Observation, s *scope) {
	now := seconds(o.Time)
	st.tries.decay(now, loginHalfLife)
	half := egressHalf(st.people)
	st.firsts.decay(now, half)
	st.wide.decay(now, half)
	if st.attempts > 0 && o.Time.Sub(st.lastTry) > 3600e9 && st.tries.score() == 0 && st.slow.n < 4*256 && st.firsts.best() < pipeline.Nat/2 {
		*st = loginState{shows: st.shows, where: st.where, agent: st.agent, lastTry: st.lastTry}
	}
	if st.attempts == 0 {
		st.onset = o.Time
	}
	sameAgent := st.agent == uint32(o.Agent) || p.rotates()
	gap := o.Time - st.lastTry
	if st.lastTry == 0 {
		gap, sameAgent = 1<<40, true
	}
	weight := tryWeight(gap, sameAgent)
	st.lastTry, st.agent = o.Time, uint32(o.Agent)
	st.attempts++
	_, high := p.people(s.b)
	st.people = uint16(min(max(1, high-1), 1000))
	st.slow.add(breadthOne, now, daySeconds)
	failed := o.Has(pipeline.ObsFailed)
	told := o.Flags&(pipeline.ObsFailed|pipeline.ObsWorked) != 0
	veils := s.v.hides(s.endpoint, o.Template)
	st.learned = st.learned || told && o.Status < 400 && veils
	if st.hidden > 0 && told {
		st.settle(s)
	}
	answers := st.shows && st.where == o.Template || s.endpoint != nil && s.endpoint.Answers401
	absent := o.Status == 404 && answers && !o.Has(pipeline.ObsWorked)
	st.took, st.tookFirst = true, false
	switch {
	case failed || absent:
		if st.failures++; st.failures == 3 {
			st.suspected = o.Time
		}
		// Other statuses, and a gateway's refusal where failures answer 200, say
		// nothing of how a wrong password is answered.
		if !absent && !veils && (o.Status == 401 || o.Status == 403 || o.Status == 422) {
			st.shows, st.where = true, o.Template
		}
		sized := !absent && s.endpoint.unknownAccount(o)
		st.bySize = st.bySize || sized
		st.account(p, o, true, absent || sized, s.b, now)
	case o.Has(pipeline.ObsWorked), o.Status >= 200 && o.Status < 400 && (st.shows || answers):
		st.successes++
		st.slow.n, st.fast.n = st.slow.n/2, st.fast.n/2
		if st.failures >= 3 {
			st.after++
		}
		st.account(p, o, false, false, s.b, now)
		st.tries.observe(s.b.Login.Beta, false, countScale, now, loginHalfLife)
		st.took = st.after > 0
		return
	default:
		if o.Status < 400 {
			st.hidden++
			st.veiled.add(o)
		}
		if o.User != 0 && p.seen.add(pipeline.Mix64(o.User, saltTried), now) {
			st.tried++
		}
		if gap > 1_500_000 {
			st.took = st.slow.n > 10*256
			return
		}
		weight /= 2
	}
	if gap <= fastGap {
		st.fast.add(weight*breadthOne/countScale, now, loginHalfLife)
	}
	if gap < stuckGap || st.guessing() < slowCap {
		st.tries.observe(s.b.Login.Beta, true, weight, now, loginHalfLife)
	}
}

// account counts an attempt whose outcome and account are known.
func (st *loginState) account(p *Profile, o *pipeline.Observation, failed, absent bool, b *Baselines, now uint32) {
	if o.User == 0 {
		return
	}
	fresh := p.seen.add(pipeline.Mix64(o.User, saltTried), now)
	half := egressHalf(st.people)
	if fresh {
		st.tried++
		st.firsts.observe(b.LoginUser.Beta, failed, countScale, now, half)
	}
	switch {
	case !failed:
		if p.seen.add(pipeline.Mix64(o.User, saltWorked), now) {
			if st.failures >= 3 {
				st.reached++
			} else {
				st.before++
			}
		}
	case fresh:
		st.tookFirst = true
		st.refused++
		if absent {
			st.absent++
		}
		st.wide.add(breadthOne, now, half)
	case o.User != st.lastUser:
		st.again++
	}
	st.lastUser = o.User
	if failed {
		st.reshape()
	}
}

// reshape looks at what the attempts look like by now. A shape with more in it
// follows one with less, never the other way: an alert keeps its name.
func (st *loginState) reshape() {
	if st.refused < wideFrom {
		return
	}
	switch st.shape {
	case shapeFew:
		switch {
		case st.again >= st.refused/2 && st.again > 0:
			st.shape = shapeRounds
		case st.absent*2 > st.refused && (!st.bySize || st.absent < st.refused):
			// One size for all may be how this program is answered.
			st.shape = shapeNames
		case st.bySize && 4*st.absent >= st.refused && st.refused < namesBy:
			// It may yet turn out to be about names.
		case st.failures <= 2*st.refused:
			st.shape = shapeWide
		}
	case shapeWide, shapeNames:
		if st.again >= st.refused/2 && st.again > 0 {
			st.shape = shapeRounds
		}
	}
}

// spread is the evidence of the share of accounts that are refused and of how
// many there are. Their number leans on how many people are seen behind the
// address, so it adds at most half as much as the share.
func (st *loginState) spread() (share, number pipeline.Nats) {
	if st.refused < 3 {
		return 0, 0
	}
	share = st.firsts.score()
	return share, min(st.wide.nats(loginRate(1), int(st.people)), share/2)
}

// spreadScore is the evidence of a case that is about many accounts.
func (st *loginState) spreadScore() pipeline.Nats {
	share, number := st.spread()
	return share + number
}

// spreadSignals appends the lines of spread.
func (st *loginState) spreadSignals(dst []pipeline.FindingSignal, share string, b *Baselines) []pipeline.FindingSignal {
	first, number := st.spread()
	dst = append(dst, pipeline.FindingSignal{
		Name: share, Observed: float64(st.refused), Expected: expected(uint16(min(st.tried, 1<<16-1)), b.LoginUser),
		Count: int64(st.refused), Nats: first, Baseline: b.baseline(b.LoginUser),
	})
	if number > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "accounts_refused", Observed: float64(st.wide.n / breadthOne), Expected: float64(st.people),
			Count: int64(st.refused), Nats: number, Baseline: pipeline.Baseline{Kind: "prior"},
		})
	}
	return dst
}

// worked is how many accounts let the client in after the suspicion: those that
// f lists, or as many as were counted, if that is more.
func (st *loginState) worked(f *pipeline.Finding) uint32 {
	listed := uint32(0)
	for i := range f.Accounts {
		if a := &f.Accounts[i]; a.Outcome == "success" && st.failures >= 3 && a.Time >= st.suspected {
			listed++
		}
	}
	return max(listed, st.reached, min(st.after, 1))
}

// known reports whether the outcomes are.
func (st *loginState) known() bool { return st.shows || st.hidden == 0 }

// succeeded is how many logins worked after the suspicion; nil when that is not
// known.
func (st *loginState) succeeded(n uint32) *int64 {
	if !st.known() {
		return nil
	}
	worked := int64(n)
	return &worked
}

// outcome fills in what the attempts came to; worked is what counts as success.
func (st *loginState) outcome(f *pipeline.Finding, worked uint32) {
	f.Onset = st.onset
	f.Outcome.Attempted = int64(st.attempts)
	f.Outcome.Succeeded = st.succeeded(worked)
	f.Outcome.Basis = "status"
	switch {
	case f.Outcome.Succeeded == nil:
		f.Outcome.Basis = "unknown"
	case st.learned:
		f.Outcome.Basis = "learned"
	}
	if n := f.Outcome.Accounts; n != nil {
		*n = min(*n, f.Outcome.Attempted) // an estimate may say more
	}
	if n := int64(st.tried); n > 0 && (f.Outcome.Accounts == nil || *f.Outcome.Accounts < n) {
		f.Outcome.Accounts = &n
	}
	f.Facts.Succeeded = f.Outcome.Succeeded != nil && worked > 0
	f.Facts.CanSucceed = true
}

// accounts is how many accounts f says were tried.
func accounts(f *pipeline.Finding) int64 {
	if f.Outcome.Accounts == nil {
		return 0
	}
	return *f.Outcome.Accounts
}

// exhume gives back what was held against first attempts at so many accounts.
func (st *loginState) exhume(back trial, refused uint32, onset pipeline.Time) {
	st.firsts = back
	st.refused, st.tried = refused, refused
	st.attempts, st.failures = refused, refused
	st.wide = breadth{at: back.at, n: refused * breadthOne}
	st.onset, st.lastTry = onset, onset
}

// best is the evidence before the price of the choice: whether anything is left.
func (t *trial) best() pipeline.Nats {
	return pipeline.Nats(max(t.branch[0].s, t.branch[1].s, t.branch[2].s))
}
