package detectors

import (
	"fmt"

	"weir/pipeline"
)

// authBruteforce sees one client trying passwords: on one account, or on
// accounts that the log does not show.
//
// Evidence: every attempt counts (not only first contacts: brute force on one
// account is a single symbol otherwise), failed against succeeded, each
// weighted by how soon it followed the one before: 1 within 1.5 s, down to 1/20
// beyond 15 s, with a half-life of ten minutes. To that adds how many attempts
// within three seconds of each other there are, per person behind the address:
// which share fails and how many there are are separate facts. Attempts 4.5 seconds and more
// apart never lift the evidence to page level: a program that repeats one stale
// password every five seconds is worth a look, whatever it does for days, and no
// more. Where a failed login answers 200 the outcome is unknown; then only
// attempts closer than a person can type count, at half weight, and the alert
// says that success is unknown.
//
// Attempts too slow for that add up over a day, per person behind the address,
// to review level at most (about 100): a slow guesser and a stuck program look
// alike where the log names no account, and somebody should look at either.
//
// Misses: guessing slower than about ten a minute where the log names no
// account; many sources with a few tries each. Looks like it: a load test, a
// client in a tight retry loop. OWASP API2, ATT&CK T1110.001.
type authBruteforce struct{}

// loginState is 184 bytes.
type loginState struct {
	tries     trial
	onset     pipeline.Time
	lastTry   pipeline.Time
	attempts  uint32 // since onset
	failures  uint32
	successes uint32
	after     uint32  // successes that followed at least three failures
	agent     uint32  // of the last attempt
	fast      breadth // weighted attempts within three seconds of the one before
	slow      breadth // attempts a day that are not known to have worked
	people    uint16
	users     linear64
	shows     bool // a failure showed in the status: 2xx and 3xx are successes
	blind     bool // the outcome is not known
	learned   bool // an outcome was told by what was learned
	hidden    hiddenTries
}

func newAuthBruteforce() detector { return authBruteforce{} }

const loginHalfLife = 600

// tryWeight is what an attempt counts by the time since the one before.
func tryWeight(gap pipeline.Time, sameAgent bool) uint32 {
	w := uint32(1)
	switch {
	case gap <= 1_500_000:
		w = 16
	case gap <= 3_000_000:
		w = 11
	case gap <= 6_000_000:
		w = 5
	case gap <= 15_000_000:
		w = 2
	}
	if !sameAgent {
		w = max(1, w/4) // another person behind the same address
	}
	return w
}

func (authBruteforce) observe(p *Profile, o *pipeline.Observation, s *scope) (pipeline.Nats, bool) {
	st := &p.login
	if !o.Has(pipeline.ObsLogin) {
		return 0, false
	}
	now := seconds(o.Time)
	st.tries.decay(now, loginHalfLife)
	if st.tries.score() == 0 && st.slow.n < 4*256 && st.attempts > 0 && o.Time.Sub(st.lastTry) > 3600e9 {
		shows := st.shows
		*st = loginState{shows: shows, agent: st.agent, lastTry: st.lastTry}
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
	if o.User != 0 {
		st.users.add(o.User)
	}
	failed := o.Has(pipeline.ObsFailed)
	st.learned = st.learned || o.Flags&(pipeline.ObsFailed|pipeline.ObsWorked) != 0 && o.Status < 400 && s.v.hides(s.endpoint, o.Template)
	if st.blind && o.Flags&(pipeline.ObsFailed|pipeline.ObsWorked) != 0 {
		st.settle(s)
	}
	_, high := p.people()
	st.people = uint16(min(max(1, high-1), 1000))
	st.slow.add(breadthOne, now, daySeconds)
	switch {
	case failed:
		st.failures++
		// Other statuses, and a gateway's refusal where failures answer 200, say
		// nothing of how a wrong password is answered.
		st.shows = st.shows || (o.Status == 401 || o.Status == 403 || o.Status == 422) && !s.v.hides(s.endpoint, o.Template)
	case o.Has(pipeline.ObsWorked), o.Status >= 200 && o.Status < 400 && (st.shows || s.endpoint != nil && s.endpoint.Answers401):
		st.successes++
		st.slow.n, st.fast.n = st.slow.n/2, st.fast.n/2
		if st.failures >= 3 {
			st.after++
		}
		st.tries.observe(s.b.Login.Beta, false, countScale, now, loginHalfLife)
		return st.score(), st.after > 0
	default:
		st.blind = true
		st.hidden.add(o)
		if gap > 1_500_000 {
			return st.score(), st.slow.n > 10*256
		}
		weight /= 2
	}
	if gap <= fastGap {
		st.fast.add(weight*breadthOne/countScale, now, loginHalfLife)
	}
	if gap < stuckGap || st.tries.score() < slowCap {
		st.tries.observe(s.b.Login.Beta, true, weight, now, loginHalfLife)
	}
	return st.score(), true
}

func (st *loginState) score() pipeline.Nats {
	if st.attempts < 5 {
		return 0
	}
	share, volume := st.parts()
	return max(share+volume, st.patience())
}

// parts is the evidence of the share that fails and of the number of attempts.
func (st *loginState) parts() (share, volume pipeline.Nats) {
	if share = st.tries.score(); share == 0 {
		return 0, 0 // many logins that work are no guessing
	}
	return share, st.fast.nats(loginRate(3), int(st.people))
}

// loginRate is how often people try to log in without success, in a while of
// which the mean is n: a shipped prior with a wide spread.
func loginRate(n uint32) Rate { return Rate{Mean: n * 256, Shape: 179} }

const (
	// slowCap is between review and page: slow attempts alone never page.
	slowCap = 14*pipeline.Nat + pipeline.Nat/2
	// stuckGap is from where on attempts are slow: programs that retry wait five
	// seconds or more, give or take.
	stuckGap pipeline.Time = 4_500_000
	fastGap  pipeline.Time = 3_000_000
)

// patience is the evidence of a day's slow attempts.
func (st *loginState) patience() pipeline.Nats {
	return min(st.slow.nats(loginRate(4), int(st.people)), slowCap)
}

func (authBruteforce) phase(p *Profile) uint8 {
	if p.login.after > 0 && !p.login.blind {
		return 1
	}
	return 0
}

func (authBruteforce) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	st := &p.login
	share, volume := st.parts()
	if slow := st.patience(); slow > share+volume {
		return append(dst, pipeline.FindingSignal{
			Name: "login_attempts_day", Observed: float64(st.slow.n / breadthOne), Expected: 4,
			Count: int64(st.attempts), Nats: slow, Baseline: pipeline.Baseline{Kind: "prior"},
		})
	}
	name, failures := "login_failure", st.failures
	if failures == 0 {
		name, failures = "login_attempt", st.attempts
	}
	dst = append(dst, pipeline.FindingSignal{
		Name: name, Observed: float64(failures), Expected: expected(uint16(min(st.attempts, 1<<16-1)), b.Login),
		Count: int64(failures), Nats: share, Baseline: b.baseline(b.Login),
	})
	if volume > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "login_volume", Observed: float64(st.fast.n / breadthOne), Expected: 3,
			Count: int64(st.attempts), Nats: volume, Baseline: pipeline.Baseline{Kind: "prior"},
		})
	}
	return dst
}

func (authBruteforce) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	st := &p.login
	f.Onset = st.onset
	f.Outcome.Attempted = int64(st.attempts)
	f.Outcome.Basis = "status"
	if st.learned {
		f.Outcome.Basis = "learned"
	}
	successes := int64(st.after)
	known := !st.blind
	if known {
		f.Outcome.Succeeded = &successes
	} else {
		f.Outcome.Basis = "unknown"
	}
	if n := int64(st.users.count()); n > 0 {
		f.Outcome.Accounts = &n
	}
	f.Facts.Succeeded = known && successes > 0
	f.Facts.CanSucceed = true
	on := f.Endpoint.Method + " " + f.Endpoint.Template
	f.Title = fmt.Sprintf("Password guessing against %s from %s", on, f.Who.Value)
	took := c.Last.Sub(st.onset)
	switch {
	case !known:
		f.Reason = fmt.Sprintf("%s in %s, %s; whether any worked is not known, because this endpoint answers failures with success codes.",
			plural(int64(st.attempts), "login attempt", "login attempts"), span(took),
			pick(st.score() > st.patience(), "faster than a person types", "more than people make in a day"))
	default:
		f.Reason = fmt.Sprintf("%s of %d failed in %s (ordinary clients fail %.0f %%)%s%s.",
			plural(int64(st.failures), "login", "logins"), st.attempts, span(took), 100*b.Login.Mean(),
			when(f.Outcome.Accounts != nil && *f.Outcome.Accounts > 1, fmt.Sprintf(", on about %d accounts", st.users.count())),
			when(successes > 0, fmt.Sprintf("; then %s", plural(successes, "login worked", "logins worked"))))
	}
	if successes > 0 && known {
		f.Next = append(f.Next, fmt.Sprintf("Find the %s that worked from this client, reset the passwords, end the sessions", plural(successes, "login", "logins")))
	}
	f.Next = append(f.Next, blockAdvice(f))
	f.BenignIf = []string{"a program stuck with an old password", "a load test or a monitor in a tight loop"}
	f.WouldNotFireIf = "fewer attempts had failed, or they had come five seconds or more apart"
	f.Attack = []string{"T1110.001"}
	f.OWASP = []string{"API2:2023"}
	f.OAT = []string{"OAT-007"}
}
