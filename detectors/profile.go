package detectors

import (
	"weir/pipeline"
)

// Profile is all that detection remembers of one principal that showed more
// than a handful of requests: fixed size and free of pointers, so that a
// million of them cost the garbage collector nothing and a checkpoint is a
// copy. Each detector has a part of its own.
type Profile struct {
	// What every request touches comes first, in few cache lines.
	Owner    uint64
	First    pipeline.Time
	Last     pipeline.Time
	Requests uint32
	Kind     pipeline.PrincipalKind
	Flags    profileFlags
	rate     [6]uint16 // requests in each of the last six minutes
	rateAt   int64     // minute of rate[0]
	agents   linear64  // distinct user agents
	agent    uint64    // of the last request

	probe probeState
	crawl crawlState
	seen  bloom // first contacts with paths, templates and items

	objects     bloom     // first contacts with objects
	again       filter    // second contacts with them
	credentials linear256 // distinct credentials seen from this address
	borrowed    uint32    // requests that came with them

	walk  [2]walkState
	login loginState
	tried triedLogin // the last attempt, until what follows tells how it ended
	ask   askState

	flood    floodState
	inject   injectState
	exposure exposureState
}

type profileFlags uint8

const (
	profileDeclared profileFlags = 1 << iota // says it is a crawler
	profileSuspect                           // behaves like a proxy: never paged for
	profileKnown                             // the configuration names it
	profileVerified                          // a crawler that comes from where its publisher says
	profilePretends                          // names a crawler that does not come from there
	profileListed                            // its address is on a threat-intelligence list
)

// touch counts one request.
func (p *Profile) touch(at pipeline.Time, agent uint64) {
	if p.Requests == 0 {
		p.First = at
	}
	p.Last = at
	p.Requests++
	p.agents.add(pipeline.Mix64(agent, 1))
	p.agent = agent
	minute := int64(at) / 60e6
	if d := minute - p.rateAt; d > 0 {
		for i := len(p.rate) - 1; i >= 0; i-- {
			if j := int64(i) - d; j >= 0 {
				p.rate[i] = p.rate[j]
			} else {
				p.rate[i] = 0
			}
		}
		p.rateAt = minute
	}
	if p.rate[0] < 1<<16-1 {
		p.rate[0]++
	}
}

// rate5m is the number of requests in the last five whole minutes and the
// running one.
func (p *Profile) rate5m() (n int64) {
	for _, v := range p.rate {
		n += int64(v)
	}
	return n
}

// people estimates how many people are behind the principal, as a range: those
// who show credentials are counted, the others go by their agents, unless the
// client changes its agent with every few requests.
func (p *Profile) people(b *Baselines) (low, high int) {
	if p.borrowed == 0 && p.agents&(p.agents-1) == 0 {
		return 1, 1 // one agent, or none
	}
	if p.rotates() {
		return 1, 1
	}
	n := b.Crowd.people(p.agents.count())
	if shown := p.accounts(); shown > n || uint64(p.borrowed)*2 > uint64(p.Requests) && shown > 0 {
		n = shown
	}
	return max(1, n*2/3), max(1, n*3/2)
}

func (p *Profile) accounts() int {
	if p.borrowed < 3*uint32(p.credentials.count()) {
		return 0
	}
	return p.credentials.count()
}

// rotates reports a client that changes its agent or its credential nearly
// every request: the number of them says nothing about people.
func (p *Profile) rotates() bool {
	if n := p.agents.count(); n > 8 && p.Requests < 5*uint32(n) {
		return true
	}
	n := p.credentials.count()
	return n > 8 && p.borrowed < 3*uint32(n)
}

// seconds is event time in whole seconds for the states of detectors; times
// outside 1970 to 2106 are cut to that.
func seconds(t pipeline.Time) uint32 {
	return uint32(min(max(int64(t)/1e6, 0), 1<<32-1))
}
