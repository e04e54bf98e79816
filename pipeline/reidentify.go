package pipeline

// Reidentify applies another configuration's identity to requests that were
// identified, and stored, before: which endpoints are logins, which clients are
// known, what lists and tables say of addresses. What collect reduced is not
// there to be judged again: forwarding headers (so trusted proxies stay as they
// were), the whole key behind a token's prefix, the account in a login's body.
// One goroutine uses a Reidentify.
type Reidentify struct {
	was, now  *Identity
	annotator *Annotator // nil: the context is the same

	// Roles counts requests whose endpoint has another role now, Unnamed those
	// among them that are logins now and do not say whose.
	Roles, Unnamed int64
}

// NewReidentify returns what takes requests of was to now.
func NewReidentify(was, now *Identity) *Reidentify {
	x := &Reidentify{was: was, now: now}
	if was.context.Hash() != now.context.Hash() {
		x.annotator = now.NewAnnotator()
	}
	return x
}

// Apply changes r, whose owner may become another.
func (x *Reidentify) Apply(r *Request) {
	x.role(r)
	if x.annotator != nil {
		r.Flags &^= FlagListed | FlagCrawler | FlagPretends
		r.ASN, r.Country = 0, Country{}
		x.annotator.Annotate(r)
	}
	r.Flags &^= FlagKnown
	if _, known := x.now.Known(r); known {
		r.Flags |= FlagKnown
	}
}

// role decides anew what the request asks for, where the rules differ about it.
func (x *Reidentify) role(r *Request) {
	was := x.was.logins.flags(r.Method, r.Path, r.Answer(), false)
	now := x.now.logins.flags(r.Method, r.Path, r.Answer(), false)
	const roles = FlagLogin | FlagAsks
	if was == now || r.Flags&roles != was {
		return // what stands there did not come from the rules
	}
	x.Roles++
	r.Flags = r.Flags&^roles | now
	if now != 0 && r.LoginUser == "" {
		x.Unnamed++
	}
	own(r, r.Kind == PrincipalSubject, r.Address.Owner())
}
