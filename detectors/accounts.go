package detectors

import (
	"math/bits"
	"slices"

	"weir/pipeline"
)

// accountList is the accounts that a principal tried, or asked about: those that
// worked before all others, since they are what a responder must act on.
type accountList struct {
	Accounts  []pipeline.AffectedAccount
	Worked    int
	Truncated bool
	Distinct  linear1024 // all of them
}

// linear1024 estimates the number of distinct hashes to about 2 % at several
// hundred; it saturates at seven thousand.
type linear1024 [16]uint64

func (l *linear1024) add(h uint64) { l[h>>60] |= 1 << (h >> 54 & 63) }

func (l *linear1024) count() int {
	zero := 1024
	for _, w := range l {
		zero -= bits.OnesCount64(w)
	}
	return int((1024*lnRatio(1024, uint64(max(zero, 1))) + pipeline.Nat/2) / pipeline.Nat)
}

// count is how many accounts there are: exact as long as the list names all.
func (l *accountList) count() int {
	if !l.Truncated {
		return len(l.Accounts)
	}
	return max(len(l.Accounts)+1, l.Distinct.count())
}

const (
	// maxReached is how many accounts that worked a list names.
	maxReached = 200
	// accepted is an outcome that means success once a failure has shown that
	// statuses tell here.
	accepted = "accepted"
	// maxRecent is how many attempts of principals without a dossier a virtual
	// shard remembers: what an attacker did before it was one.
	maxRecent = 32
	// maxToken is the longest account token there is.
	maxToken = 512
)

func worked(outcome string) bool { return outcome == "success" || outcome == accepted }

// add takes the outcome of one attempt; what worked once has worked.
func (l *accountList) add(a pipeline.AffectedAccount) {
	l.Distinct.add(pipeline.Hash64(a.Name))
	for i := range l.Accounts {
		have := &l.Accounts[i]
		if have.Name != a.Name {
			continue
		}
		if rank(a.Outcome) <= rank(have.Outcome) {
			return
		}
		if worked(a.Outcome) && !worked(have.Outcome) {
			if l.Worked >= maxReached {
				l.Truncated = true
				return
			}
			l.Worked++
			have.Time, have.Session = a.Time, a.Session
		}
		have.Outcome = a.Outcome
		return
	}
	if worked(a.Outcome) {
		if l.Worked >= maxReached {
			l.Truncated = true
			return
		}
		l.Worked++
	} else if len(l.Accounts)-l.Worked >= maxAffected {
		l.Truncated = true
		return
	}
	l.Accounts = append(l.Accounts, a)
}

// rank orders outcomes by what they tell.
func rank(outcome string) int {
	return slices.Index([]string{"unknown", "failure", accepted, "success"}, outcome)
}

// named is the list as an alert shows it: whether an accepted attempt worked is
// known only where failures look different.
func (l *accountList) named(known bool) []pipeline.AffectedAccount {
	out := slices.Clone(l.Accounts)
	for i := range out {
		if out[i].Outcome == accepted {
			out[i].Outcome = "unknown"
			if known {
				out[i].Outcome = "success"
			}
		}
	}
	return out
}

// recentAccounts is a ring of attempts.
type recentAccounts struct {
	List []recentAccount
	Next int
}

type recentAccount struct {
	Owner   uint64
	Time    pipeline.Time
	Name    []byte
	Session []byte
	Outcome string
	Asked   bool
}

// remember takes an attempt; once the ring is full it allocates nothing.
func (r *recentAccounts) remember(owner uint64, q *pipeline.Request, at pipeline.Time, outcome string, asked bool) {
	if len(r.List) < maxRecent {
		r.List = append(r.List, recentAccount{})
	}
	e := &r.List[r.Next]
	r.Next = (r.Next + 1) % maxRecent
	e.Owner, e.Time, e.Outcome, e.Asked = owner, at, outcome, asked
	e.Name = append(e.Name[:0], q.LoginUser[:min(len(q.LoginUser), maxToken)]...)
	e.Session = append(e.Session[:0], q.Session[:min(len(q.Session), 64)]...)
}

// recall moves what is remembered of d's principal into d, oldest first.
func (s *shard) recall(d *dossier) {
	s.touched.recall(&d.Reached, d.Owner, pipeline.NoTime, nil)
	n := len(s.recent.List)
	for k := range n {
		e := &s.recent.List[(s.recent.Next+k)%n]
		if e.Owner != d.Owner {
			continue
		}
		d.accounts(e.Asked).add(pipeline.AffectedAccount{
			Name: clean(string(e.Name), maxToken), Outcome: e.Outcome, Time: e.Time, Session: clean(string(e.Session), 64),
		})
		e.Owner = 0
	}
}

func (d *dossier) accounts(asked bool) *accountList {
	if asked {
		return &d.Asked
	}
	return &d.Logins
}

// account counts a login attempt or a question about an account, before any
// detector sees it, and keeps its name and outcome: in the dossier, which opens
// with the second account that is refused, else in the ring.
func (w *worker) account(sh *shard, p *Profile, r *pipeline.Ordered, as role) {
	o := &w.obs
	asked := !o.Has(pipeline.ObsLogin)
	outcome := "unknown"
	if asked {
		p.ask.take(p, o, &w.sc)
		switch {
		case o.Status >= 200 && o.Status < 400:
			outcome = accepted
		case o.Status >= 400 && o.Status < 500 && o.Status != 429:
			outcome = "failure"
		}
	} else {
		p.login.take(p, o, &w.sc)
		switch {
		case o.Has(pipeline.ObsFailed):
			outcome = "failure"
		case o.Has(pipeline.ObsWorked):
			outcome = "success"
		case o.Status >= 200 && o.Status < 400:
			outcome = accepted
		case o.Status == 404:
			outcome = "failure"
		}
	}
	if r.LoginUser == "" || as == asLender || p.Flags&profileSuspect != 0 {
		return
	}
	d := sh.caseOf(p.Owner)
	if d == nil && !asked && p.login.refused >= 2 {
		who := r.Principal()
		if as != asOwner {
			who = pipeline.Principal{Kind: pipeline.PrincipalIP, Value: r.Address.PrincipalValue()}
		}
		if d = sh.openCase(p.Owner, who, p.login.firsts.score(), len(w.set.detectors)); d != nil {
			d.Aside = w.salt != 0
		}
	}
	if d == nil {
		sh.recent.remember(p.Owner, r.Request, o.Time, outcome, asked)
		return
	}
	d.accounts(asked).add(pipeline.AffectedAccount{
		Name: clean(r.LoginUser, maxToken), Outcome: outcome, Time: o.Time, Session: clean(r.Session, 64),
	})
}

// affected puts the accounts of the case into f.
func (d *dossier) affected(f *pipeline.Finding, p *Profile) {
	var l *accountList
	var known bool
	switch {
	case family(f.Detector) == "auth", f.Detector == "enum.user" && !p.ask.leads(&p.login):
		l, known = &d.Logins, p.login.known()
	case f.Detector == "enum.user":
		l, known = &d.Asked, p.ask.tells()
	default:
		return
	}
	f.Accounts = l.named(known)
	f.Truncated = f.Truncated || l.Truncated
	if n := int64(l.count()); n > 0 {
		f.Outcome.Accounts = &n
	}
}

// adopt begins detector k's case with what another detector of the family auth
// has collected, where there is one: it is one case whose shape became known.
func (d *dossier) adopt(k int, entries []entry) {
	if d.Cases[k] != nil || family(entries[k].name) != "auth" {
		return
	}
	from := -1
	for i, c := range d.Cases {
		if c != nil && family(entries[i].name) == "auth" && (from < 0 || c.Last > d.Cases[from].Last) {
			from = i
		}
	}
	if from < 0 {
		return
	}
	old := d.Cases[from]
	c := *old
	c.Objects, c.Exemplars = slices.Clone(old.Objects), slices.Clone(old.Exemplars)
	c.Opened, c.Sent, c.Paged, c.Changed, c.Phase, c.Score = false, false, false, false, 0, 0
	c.Supersedes = entries[from].name
	old.Changed = false
	d.Cases[k] = &c
}
