package detectors

import (
	"fmt"
	"strings"

	"weir/pipeline"
)

// authStuffing sees one client that tries many accounts, about once each: a
// list of leaked passwords, or the first round of a spray, which look alike as
// long as the log shows no passwords.
//
// Evidence: of each account that the client tries, the outcome of its first
// attempt here, against how often ordinary clients fail theirs; then how many
// accounts refused it, per person behind the address. At least ten accounts.
// Half-life 14 days where one or two people are behind the address, so that one
// or two a day add up; 2 days where ten or more share it, else 7.
//
// Misses: fewer than about one account a day; lists of which half works; logs
// that do not name the account that a login tried (auth.bruteforce counts
// attempts there); a list shared by many sources, a few tries each. Looks like
// it: everybody behind one address on the day when all passwords expired, a
// login service that is down. OWASP API2, ATT&CK T1110.004, OAT-008.
type authStuffing struct{}

func newAuthStuffing() detector { return authStuffing{} }

// authSpraying sees one client that goes through the same accounts in rounds, a
// password a round.
//
// Evidence: as auth.stuffing; the second round, half way through, gives it away.
// Misses and looks like it: as auth.stuffing. ATT&CK T1110.003, OAT-007.
type authSpraying struct{}

func newAuthSpraying() detector { return authSpraying{} }

func (authStuffing) observe(p *Profile, o *pipeline.Observation, _ *scope) (pipeline.Nats, bool) {
	return p.login.spreads(o, shapeWide)
}

func (authSpraying) observe(p *Profile, o *pipeline.Observation, _ *scope) (pipeline.Nats, bool) {
	return p.login.spreads(o, shapeRounds)
}

// spreads is what a detector of the given shape holds against the attempt at
// hand. Failures at known accounts add nothing, and belong to the case.
func (st *loginState) spreads(o *pipeline.Observation, shape loginShape) (pipeline.Nats, bool) {
	if !o.Has(pipeline.ObsLogin) || st.shape != shape {
		return 0, false
	}
	return st.spreadScore(), st.took
}

func (authStuffing) phase(p *Profile) uint8 { return p.login.spreadPhase() }
func (authSpraying) phase(p *Profile) uint8 { return p.login.spreadPhase() }

func (st *loginState) spreadPhase() uint8 {
	if st.after > 0 && st.known() {
		return 1
	}
	return 0
}

func (authStuffing) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	return p.login.spreadSignals(dst, "account_login_failure", b)
}

func (authSpraying) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	return p.login.spreadSignals(dst, "account_login_failure", b)
}

func (authStuffing) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	st := &p.login
	f.Title = fmt.Sprintf("Credential stuffing or password spraying against %s from %s", f.Endpoint.Method+" "+f.Endpoint.Template, f.Who.Value)
	st.outcome(f, st.worked(f))
	st.spreadWords(f, c, b, fmt.Sprintf("%.1f tries each", st.perAccount(f)))
	f.Attack = []string{"T1110.004", "T1110.003"}
	f.OAT = []string{"OAT-008", "OAT-007"}
}

func (authSpraying) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	st := &p.login
	f.Title = fmt.Sprintf("Password spraying against %s from %s", f.Endpoint.Method+" "+f.Endpoint.Template, f.Who.Value)
	st.outcome(f, st.worked(f))
	st.spreadWords(f, c, b, fmt.Sprintf("%.1f tries each, in rounds through the same accounts", st.perAccount(f)))
	f.Attack = []string{"T1110.003"}
	f.OAT = []string{"OAT-007"}
}

// perAccount is how many tries an account got on average.
func (st *loginState) perAccount(f *pipeline.Finding) float64 {
	return float64(st.attempts) / float64(max(1, accounts(f)))
}

// spreadWords fills in what both kinds of case say.
func (st *loginState) spreadWords(f *pipeline.Finding, c *caseFile, b *Baselines, rhythm string) {
	reached := int64(st.worked(f))
	f.Reason = fmt.Sprintf("%s tried in %s, %s; %d of %d attempts failed (ordinary clients fail %.0f %% of first tries)%s%s.",
		plural(accounts(f), "account", "accounts"), span(c.Last.Sub(st.onset)), rhythm, st.failures, st.attempts, 100*b.LoginUser.Mean(),
		when(f.Facts.Succeeded, fmt.Sprintf("; then %s", plural(reached, "account let it in", "accounts let it in"))),
		when(!st.known(), "; whether any worked is not known, because this endpoint answers failures with success codes"))
	f.Next = append(f.Next, resetAdvice(f, reached)...)
	f.Next = append(f.Next, blockAdvice(f))
	f.BenignIf = []string{"many people behind one address whose passwords all expired", "a login service that refuses everybody", "a password-manager migration or a test of many accounts"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %d distinct accounts had refused it", wideFrom)
	f.OWASP = []string{"API2:2023"}
}

// namedInAdvice is how many accounts advice names; the alert lists the others.
const namedInAdvice = 3

// resetAdvice says which accounts must be reset; n is how many let the client in
// after the suspicion.
func resetAdvice(f *pipeline.Finding, n int64) []string {
	var names []string
	total := 0
	for i := range f.Accounts {
		if f.Accounts[i].Outcome != "success" {
			continue
		}
		if total++; len(names) < namedInAdvice {
			names = append(names, f.Accounts[i].Name)
		}
	}
	switch {
	case total > len(names):
		return []string{fmt.Sprintf("Reset %s and end their sessions: %s and %d more that affected.accounts lists as success",
			plural(int64(total), "account", "accounts"), strings.Join(names, ", "), total-len(names))}
	case total > 0:
		return []string{fmt.Sprintf("Reset %s and end %s sessions: %s", plural(int64(total), "account", "accounts"),
			pick(total == 1, "its", "their"), strings.Join(names, ", "))}
	case n > 0 && f.Facts.Succeeded:
		return []string{fmt.Sprintf("Find the %s that worked from this client, reset the passwords, end the sessions", plural(n, "login", "logins"))}
	}
	return nil
}
