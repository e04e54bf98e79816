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
// to review level at most (about 100; about 30 where the log names one or two
// accounts): a slow guesser and a stuck program look alike, since no log shows
// whether it is one password or many, the guesser can keep the program's pace and
// name, and somebody should look at either. Where the account has a past of which
// the client is no part, see accountTable.
//
// Misses: guessing slower than about ten a minute where the log names no
// account; many sources with a few tries each. Looks like it: a load test, a
// client in a tight retry loop. OWASP API2, ATT&CK T1110.001.
type authBruteforce struct{}

func newAuthBruteforce() detector { return authBruteforce{} }

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

func (authBruteforce) observe(p *Profile, o *pipeline.Observation, _ *scope) (pipeline.Nats, bool) {
	st := &p.login
	if !o.Has(pipeline.ObsLogin) || st.shape != shapeFew {
		return 0, false
	}
	return st.guessing(), st.took
}

// guessing is the evidence of the attempts, whatever accounts they were at.
func (st *loginState) guessing() pipeline.Nats {
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
	return share, st.fast.nats(loginRate(2), int(st.people))
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
	return min(st.slow.nats(loginRate(st.daily()), int(st.people)), slowCap)
}

// daily is how many attempts without success an ordinary client makes a day: fewer
// at one or two accounts, where the log names them, than at all that people behind
// an address have.
func (st *loginState) daily() uint32 {
	if st.hidden == 0 && (st.tried == 1 || st.tried == 2) {
		return 1
	}
	return 4
}

func (authBruteforce) phase(p *Profile) uint8 {
	if p.login.after > 0 && p.login.known() {
		return 1
	}
	return 0
}

func (authBruteforce) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	st := &p.login
	share, volume := st.parts()
	if slow := st.patience(); slow > share+volume {
		return append(dst, pipeline.FindingSignal{
			Name: "login_attempts_day", Observed: float64(st.slow.n / breadthOne), Expected: float64(st.daily()),
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
			Name: "login_volume", Observed: float64(st.fast.n / breadthOne), Expected: 2,
			Count: int64(st.attempts), Nats: volume, Baseline: pipeline.Baseline{Kind: "prior"},
		})
	}
	return dst
}

func (authBruteforce) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	st := &p.login
	st.outcome(f, st.after)
	successes := int64(st.after)
	known := f.Outcome.Succeeded != nil
	f.Title = fmt.Sprintf("Password guessing against %s from %s", f.Endpoint.Method+" "+f.Endpoint.Template, f.Who.Value)
	took := c.Last.Sub(st.onset)
	switch {
	case !known:
		f.Reason = fmt.Sprintf("%s in %s, %s; whether any worked is not known, because this endpoint answers failures with success codes.",
			plural(int64(st.attempts), "login attempt", "login attempts"), span(took),
			pick(st.guessing() > st.patience(), "faster than a person types", "more than people make in a day"))
	default:
		f.Reason = fmt.Sprintf("%s of %d failed in %s (ordinary clients fail %.0f %%)%s%s.",
			plural(int64(st.failures), "login", "logins"), st.attempts, span(took), 100*b.Login.Mean(),
			when(accounts(f) > 0, ", at "+plural(accounts(f), "account", "accounts")),
			when(successes > 0, fmt.Sprintf("; then %s", plural(successes, "login worked", "logins worked"))))
	}
	f.Next = append(f.Next, resetAdvice(f, successes)...)
	f.Next = append(f.Next, blockAdvice(f))
	f.BenignIf = []string{"a program stuck with an old password", "a load test or a monitor in a tight loop"}
	f.WouldNotFireIf = "fewer attempts had failed, or they had come five seconds or more apart"
	f.Attack = []string{"T1110.001"}
	f.OWASP = []string{"API2:2023"}
	f.OAT = []string{"OAT-007"}
}
