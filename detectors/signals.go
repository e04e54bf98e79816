package detectors

import (
	"cmp"
	"slices"
	"strings"

	"weir/pipeline"
)

// told is a signal with the request in the batch that caused it, and its number
// among those of that request: the owner's come first, then the lending address'.
type told struct {
	at    int
	index uint16
	pipeline.Signal
}

func (t *told) before(o *told) bool { return t.at < o.at || t.at == o.at && t.index < o.index }

// next is the number of the next signal of the visit at hand.
func (w *worker) next() uint16 {
	w.index++
	return w.index - 1
}

// tell sends what a wider view needs of request i. Every kind of signal is
// listed here: what is not sent, correlate cannot know.
func (w *worker) tell(i int, p *Profile, r *pipeline.Ordered) {
	o := &w.obs
	who := o.Owner
	send := func(m pipeline.Meeting, key uint64, kind uint8) {
		score, _ := p.worstScore()
		w.told = append(w.told, told{i, w.next(), pipeline.Signal{Meeting: m, Key: key, Sender: who, Weight: 256, Kind: kind, Aside: w.salt != 0, Spare: w.spare, Score: score, Request: *r, Facts: *o}})
	}
	if ownable(r.Request, w.sc.endpoint) && p.ownerContact(o, r.Request, w.sc.freshObject) {
		send(pipeline.MeetResource, o.Object, 0)
	}
	if o.Has(pipeline.ObsLogin) {
		if o.User != 0 {
			send(pipeline.MeetAccount, o.User, 0)
		}
		send(pipeline.MeetEndpoint, o.Endpoint, 0)
	} else if r.Account != "" && r.Verb != pipeline.VerbGet && r.Status >= 200 && r.Status < 400 && sensitive(w.v.logins, r) {
		send(pipeline.MeetAccount, pipeline.Hash64(r.Account), kindSensitive)
	}
	if r.Session != "" && r.Account != "" && r.Owner == who && r.Kind >= pipeline.PrincipalAccount && !o.Has(pipeline.ObsLogin) {
		if trace := w.set.cfg.Trace; trace != nil {
			// The next request of a visit would be told of if the first were not there.
			trace(Traced{Detector: nameTakeover, Owner: accountOwner(r.Account), Request: r, Facts: o, Wide: true})
		}
		if tellSession(p, o, r) {
			send(pipeline.MeetAccount, pipeline.Hash64(r.Account), kindSession)
		}
	}
	if r.Key != "" && (r.Kind == pipeline.PrincipalKey || r.Kind == pipeline.PrincipalIP && o.Status == 403) && tellKey(p, o, r) {
		send(pipeline.MeetPrincipal, keyOf(r), kindKeyNews)
	}
	if contact(o, &w.sc) {
		send(pipeline.MeetTemplate, o.Template, contactSignal)
	}
	if missed(o, &w.sc) {
		send(pipeline.MeetTemplate, o.Template, missSignal)
	}
	if nats, ok := p.oddReader(o, &w.sc); ok {
		send(pipeline.MeetTemplate, o.Template, readerSignal)
		w.told[len(w.told)-1].Value = uint64(uint32(nats)) | uint64(p.crawl.got)<<32
	}
}

// glimpse sends the first contacts of a sampled principal that has no profile
// yet, so that visitors of a few pages speak for a crowd too.
func (w *worker) glimpse(i int, st *stub, r *pipeline.Ordered) {
	o := &w.obs
	w.v.observe(o, r.Request)
	o.Owner = st.owner ^ w.salt
	w.sc.freshPath = st.meet(o.Path)
	if contact(o, &w.sc) {
		w.told = append(w.told, told{i, w.next(), pipeline.Signal{Meeting: pipeline.MeetTemplate, Key: o.Template, Sender: o.Owner, Weight: 256, Kind: contactSignal, Aside: w.salt != 0, Spare: w.spare, Request: *r, Facts: *o}})
	}
}

// gather puts the workers' signals in the order of the requests. quiet says that
// nothing was set aside.
func (s *Set) gather(quiet bool) []told {
	clear(s.told)
	s.told = s.told[:0]
	for from := s.workers[0]; from != nil; {
		// Each worker's are in the order of the requests.
		from = nil
		for _, w := range s.workers {
			if w.given < len(w.told) && (from == nil || w.told[w.given].before(&from.told[from.given])) {
				from = w
			}
		}
		if from != nil {
			s.told = append(s.told, from.told[from.given])
			from.given++
		}
	}
	for _, w := range s.workers {
		clear(w.told)
		w.told, w.given = w.told[:0], 0
	}
	if len(s.workers) > 1 && !quiet {
		// What is set aside was visited first.
		slices.SortStableFunc(s.told, func(a, b told) int { return cmp.Or(a.at-b.at, int(a.index)-int(b.index)) })
	}
	return s.told
}

// relay hands a signal to correlate.
func (s *Set) relay(dst []pipeline.Finding, batch []pipeline.Ordered, t *told) []pipeline.Finding {
	t.Place = s.placeOf(batch, t.at).Signal(t.index)
	if s.cfg.Cross == nil {
		s.signals = append(s.signals, t.Signal)
		return dst
	}
	return s.cfg.Cross.Process(dst, &t.Signal)
}

// Signals returns what the last call of Process or Take has for correlate, where
// that is another process, in the order of their places; valid until the next call,
// and no longer than its batch. SliceOf says whose a signal is.
func (s *Set) Signals() []pipeline.Signal { return s.signals }

// sensitive reports whether r changes what secures an account or pays its owner:
// as configured (weight high), else by the names that such paths have.
func sensitive(rules *pipeline.LoginRules, r *pipeline.Ordered) bool {
	if rules != nil {
		if e, ok := rules.Endpoint(r.Method, r.Path); ok && e.Configured {
			return e.Weight == "high" && e.Role != pipeline.RoleLogin
		}
	}
	for part := range strings.SplitSeq(r.Path, "/") {
		if len(part) < 3 || len(part) > 20 {
			continue
		}
		for _, word := range [...]string{
			"password", "passwd", "change-password", "change_password", "email", "change-email", "mfa", "2fa", "totp", "otp", "authenticator",
			"recovery", "phone", "payout", "payouts", "bank", "bank-account", "iban", "withdraw", "withdrawal", "withdrawals", "transfer", "transfers",
			"payment-method", "payment-methods", "payment_methods", "cards", "api-keys", "api_keys", "apikeys",
		} {
			if strings.EqualFold(part, word) {
				return true
			}
		}
	}
	return false
}
