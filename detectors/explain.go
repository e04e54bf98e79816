package detectors

import (
	"fmt"

	"weir/pipeline"
)

// Reading is what detection makes of one request before any state.
type Reading struct {
	Template string
	Known    bool     // a learned template fits
	Cold     bool     // the host has no templates yet
	Words    []string // the facts that detectors ask for, in plain words
}

// Read returns what the edition in force says of r.
func (s *Set) Read(r *pipeline.Request) Reading {
	var o pipeline.Observation
	var m pipeline.Match
	v := s.workers[0].v
	endpoint := v.observe(&o, r)
	s.edition.Templates.Match(r.Host, string(pipeline.AppendEndpointPath(nil, r)), &m)
	out := Reading{Template: endpointText(s.edition.Templates, r), Known: m.Known, Cold: m.Cold}
	say := func(is bool, text string) {
		if is {
			out.Words = append(out.Words, text)
		}
	}
	say(o.Has(pipeline.ObsLogin), "a login attempt")
	say(o.Has(pipeline.ObsFailed), "it failed")
	say(o.Has(pipeline.ObsWorked), "it worked, as the configuration tells")
	say(o.Has(pipeline.ObsMiss), "a miss: answered like something that is not there")
	say(o.Has(pipeline.ObsRefused), "a credential was refused")
	say(o.Has(pipeline.ObsSlot), "names an object by id")
	say(o.Page >= 0, "a page of a list")
	say(o.Has(pipeline.ObsStatic), "an asset")
	say(o.Has(pipeline.ObsAuto), "asked by software on its own")
	say(o.Has(pipeline.ObsUnknown), "no learned template fits")
	say(o.Has(pipeline.ObsOdd), "written as no browser writes it")
	say(o.Has(pipeline.ObsLinked), "came by a link (referer)")
	say(o.Rarity > 0, "a path that scanners ask for and people do not")
	say(endpoint != nil && endpoint.Refuses, "an endpoint where objects are somebody's")
	say(endpoint != nil && endpoint.Guarded, "an endpoint that serves accounts alone")
	return out
}

// Standing is how a detector stands to a principal at the end.
type Standing struct {
	Detector string
	Mode     Mode
	Score    pipeline.Nats
	Signals  []pipeline.FindingSignal
}

// Client is what detection remembers of a principal.
type Client struct {
	Requests int64
	Full     bool     // it is looked at closely; else it has shown too little
	Withheld string   // why nothing is said against it, "" if something may be
	Hides    []string // that, and what makes findings about it information
	Hidden   int64    // its latest logins, where of none the outcome is known, else 0
	Standing []Standing
}

// Client returns what is remembered of the principal with this hash; false if
// nothing is.
func (s *Set) Client(owner uint64) (c Client, ok bool) {
	c, ok = s.client(owner, owner)
	aside, there := s.client(owner^asideSalt, owner)
	if there && !ok {
		c, ok = aside, true
	}
	if there {
		c.Hides = append(c.Hides, fmt.Sprintf("a suppression covered %d of its requests: they were judged by themselves and count for nothing else", aside.Requests))
	}
	return c, ok
}

// client is Client of what is kept under key.
func (s *Set) client(key, owner uint64) (c Client, ok bool) {
	sh := s.shards[pipeline.Shard(key)]
	if sh == nil || sh.buckets == nil {
		return c, false
	}
	b := sh.bucket(key)
	at, found := place(b, key)
	if !found {
		return c, false
	}
	if c.Requests = int64(b[at].requests); b[at].full == 0 {
		return c, true
	}
	p := sh.profile(b[at].full - 1)
	c.Requests, c.Full = int64(p.Requests), true
	if st := &p.login; st.failures == 0 && st.successes == 0 {
		c.Hidden = int64(st.hidden)
	}
	hide := func(is bool, text string) {
		if is {
			c.Hides = append(c.Hides, text)
		}
	}
	w := s.cfg.Watch
	address := p.Kind == pipeline.PrincipalIP
	switch {
	case p.Flags&profileSuspect != 0 || address && w != nil && w.Suspect(owner):
		c.Withheld = "it looks like a proxy that the configuration does not name (identity.trusted_proxies): nothing is said against it"
	case address && w != nil && w.Hold(owner):
		c.Withheld = "it may turn out to be a proxy: findings wait"
	}
	hide(c.Withheld != "", c.Withheld)
	hide(p.Flags&profileKnown != 0, "the configuration names it as a known client: crawls are information")
	hide(p.Flags&profileVerified != 0, "it is a verified crawler: crawls are information")
	hide(p.Flags&profileDeclared != 0 && p.Flags&(profileVerified|profilePretends) == 0, "it names itself a crawler: crawls are information")
	for k, d := range s.detectors {
		st := Standing{Detector: s.entries[k].name, Mode: s.cfg.Modes[s.entries[k].name]}
		if st.Mode == "" {
			st.Mode = ModeOn
		}
		for _, sig := range d.signals(nil, p, s.baselines) {
			if sig.Nats > 0 {
				st.Signals = append(st.Signals, sig)
				st.Score += sig.Nats
			}
		}
		c.Standing = append(c.Standing, st)
	}
	return c, true
}
