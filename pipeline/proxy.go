package pipeline

import "slices"

// ProxyWatch tells from the traffic alone that an address is a proxy, a load
// balancer or a CDN that the configuration does not name: all its clients then
// look like one. It is fed in event order by one goroutine, keeps a fixed
// amount of memory and depends on nothing but what it was fed.
//
// Being taken for a proxy shields an address from paging, so it must cost more
// than forging headers. What is asked for is a population: several clients that
// come back, keep to their agents, and are mostly served (2xx, 3xx, no login
// attempts). And a share of the traffic that one abuser rarely has. The shield
// is lost again when the ordinary traffic behind it thins out, and every
// shielded address is named in Notice.
type ProxyWatch struct {
	cdn     [2]networks
	trusted networks
	s       proxyState
	marked  *proxyState
	forked  bool             // Fork goes on from marked
	hints   [256]uint8       // where owners were found last, by hash; not state
	agents  [1024]proxyAgent // what recent agents came to, by hash; not state
	edges   [4096]proxyEdge  // the providers of recent addresses, by owner; not state
}

type proxyEdge struct {
	owner    uint64
	provider uint8
}

type proxyAgent struct {
	hash   uint64
	family uint64
	bot    bool
}

// The numbers behind the decisions. Shares are in percent.
const (
	proxySlots    = 64 // addresses watched: any with more than 1/64 of the traffic is among them
	proxyClaims   = 32 // claimed clients sampled by address
	proxyFamilies = 24 // agent families by address
	cdnOwners     = 2048

	// When all slots are taken, every so many requests one of an address without
	// a slot takes the least one's: an address with a real share soon has one.
	proxyAdmit       = 8
	proxyMinRequests = 128
	proxyShare       = 30 // of all requests
	proxySmallShare  = 5  // or this, as one node of several, with
	proxyManyClients = 8  // so many ordinary clients
	proxyBareShare   = 80 // of all requests, where the log has no header
	// A private address with so many agent families or claimed clients that come
	// and go, and so many requests of theirs that are served, is a proxy however
	// loud an abuser behind it is.
	proxyPrivateFamilies = 3
	proxyPrivateServed   = 24
	proxyHoldEmerging    = 4 * proxyMinRequests // what a population may take to show behind one loud client
	proxyHalveEvery      = 1 << 17
	proxyLookEvery       = 64 // requests of an address between two looks at it
)

// proxyBasis says why an address is taken for a proxy.
type proxyBasis = uint8

const (
	proxyNo     proxyBasis = iota
	proxyHeader            // by what its forwarding headers claim
	proxyAgents            // by the agents behind it
	proxyCDN               // it lies in a CDN's networks
)

// proxyState is everything a ProxyWatch remembers; flat, so that it can be
// written as it is.
type proxyState struct {
	Total, Claimed uint32             // halved now and then, like all counts here
	Owner          [proxySlots]uint64 // the keys of Slots, beside them for speed
	Weight         [proxySlots]uint32 // requests, over-estimated by at most 1/64 of the total; 0 free
	Present        [1024]uint8        // how many slots have an owner with these low bits
	Slots          [proxySlots]proxySlot
	CDN            [2]proxyCrowd // by provider
	Owners         [cdnOwners]uint64
	OwnerOf        [cdnOwners]uint8 // provider + 1
	OwnerCount     uint32
	Full           bool // every slot is taken
}

// proxySlot is one watched address.
type proxySlot struct {
	Address Address
	Crowd   proxyCrowd
	Claimed uint32 // requests with a header
	Level   uint8  // claimed clients are sampled by hash, one in 2^Level
	Claims  [proxyClaims]proxyClaim
}

// NewProxyWatch returns an empty one. trusted are the proxies that the
// configuration names, as in IdentityConfig; it must be valid.
func NewProxyWatch(trusted ...string) *ProxyWatch {
	trusted = slices.DeleteFunc(slices.Clone(trusted), func(s string) bool { return s == unixPeer })
	return &ProxyWatch{cdn: cdnNetworks(), trusted: mustNetworks(trusted)}
}

// Observe takes the next request in event order. It keeps nothing of req and
// does not allocate.
func (w *ProxyWatch) Observe(req *Request) {
	if req.Address.IsZero() {
		return
	}
	s := &w.s
	s.Total++
	claims := !req.Forwarded.IsZero() && req.Forwarded != req.Address
	if claims {
		s.Claimed++
	}
	owner := req.Owner
	if req.Kind != PrincipalIP {
		owner = req.Address.Owner()
	}
	family, bot := w.family(req)
	served := req.Status >= 200 && req.Status < 400 && req.Flags&FlagLogin == 0

	if slot := w.slot(owner, req.Address); slot != nil {
		slot.Crowd.add(family, bot, served)
		if claims {
			slot.Claimed++
			slot.claim(req.Forwarded.Owner(), family, served)
		}
		if slot.Crowd.Requests%proxyLookEvery == 0 {
			slot.Crowd.Basis = s.look(slot)
		}
	}
	e := &w.edges[owner&4095]
	if e.owner != owner {
		*e = proxyEdge{owner, w.provider(req.Address)}
	}
	if p := e.provider; p > 0 {
		s.edge(owner, p, family, bot, served)
	}
	if s.Total >= proxyHalveEvery {
		s.halve()
	}
}

// Suspect reports whether the address with this owner hash is taken for an
// undeclared proxy. What is found against it must not page.
func (w *ProxyWatch) Suspect(owner uint64) bool {
	for i, o := range w.s.Owner {
		if o == owner && w.s.Weight[i] > 0 && w.s.Slots[i].Crowd.Basis != proxyNo {
			return true
		}
	}
	if i, ok := w.s.findOwner(owner); ok {
		return w.s.CDN[w.s.OwnerOf[i]-1].Basis != proxyNo
	}
	return false
}

// provider returns the number of the CDN that a belongs to, 0 none.
func (w *ProxyWatch) provider(a Address) uint8 {
	for i := range w.cdn {
		if w.cdn[i].contains(a) {
			return uint8(i + 1)
		}
	}
	return 0
}

// slot returns the slot of an address, taking over the lightest one for an
// address that has none (space-saving: a heavy address always has one).
func (w *ProxyWatch) slot(owner uint64, a Address) *proxySlot {
	s := &w.s
	hint := &w.hints[owner&255]
	if i := *hint; s.Owner[i] == owner && s.Weight[i] > 0 {
		s.Weight[i]++
		return &s.Slots[i]
	}
	if s.Present[owner&1023] > 0 {
		for i, o := range s.Owner {
			if o == owner && s.Weight[i] > 0 {
				*hint = uint8(i)
				s.Weight[i]++
				return &s.Slots[i]
			}
		}
	}
	if s.Full && s.Total%proxyAdmit != 0 {
		return nil
	}
	least := 0
	for i, n := range s.Weight {
		if n < s.Weight[least] {
			least = i
		}
	}
	s.Full = s.Weight[least] > 0
	if s.Full {
		s.Present[s.Owner[least]&1023]--
	}
	*hint = uint8(least)
	s.Owner[least] = owner
	s.Present[owner&1023]++
	s.Weight[least]++
	s.Slots[least] = proxySlot{Address: a}
	return &s.Slots[least]
}

// look decides about one address. What holds already holds down to half of the
// shares that it took to begin with.
func (s *proxyState) look(t *proxySlot) proxyBasis {
	n := t.Crowd.Requests
	if n < proxyMinRequests {
		return proxyNo
	}
	slack := uint32(1)
	if t.Crowd.Basis != proxyNo {
		slack = 2
	}
	share := func(part, of, percent uint32) bool {
		return uint64(part)*100*uint64(slack) >= uint64(of)*uint64(percent)
	}
	// A proxy sends the header with all but its own health checks.
	if uint64(t.Claimed)*4 >= uint64(n)*3 {
		v := t.view()
		population := v.clients >= 3 && v.requests >= 3*v.clients && v.steady*2 >= v.clients && t.Crowd.recurring() >= 2
		// The sample may have missed the one client that makes most requests:
		// what was served is counted in full.
		served := t.Crowd.Accepted
		switch {
		case population && private(t.Address) && share(n, s.Total, proxyShare) && v.ordinary >= proxyPrivateFamilies && v.ordinaryRequests >= proxyPrivateServed:
			return proxyHeader
		case !population:
		case share(n, s.Total, proxyShare) && v.ordinary >= 3 && share(v.ordinaryRequests, v.requests, 20) && share(served, n, 20),
			share(n, s.Total, proxySmallShare) && v.ordinary >= proxyManyClients && share(v.ordinaryRequests, v.requests, 50) && share(served, n, 50):
			return proxyHeader
		}
	}
	// A log that shows headers would show this one's.
	if share(s.Claimed, s.Total, 2) || !share(n, s.Total, proxyBareShare) {
		return proxyNo
	}
	if families, served := t.Crowd.various(); private(t.Address) && families >= proxyPrivateFamilies && served >= proxyPrivateServed {
		return proxyAgents
	}
	if share(t.Crowd.Accepted, n, 50) && t.Crowd.crowded() {
		return proxyAgents
	}
	return proxyNo
}

// private reports an address that no client on the internet has: what comes
// from it in bulk and in many voices comes through something.
func private(a Address) bool {
	ip := a.Addr()
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()
}

// Hold reports whether the address with this owner hash may yet turn out to be
// a proxy: it is too early to tell, and several clients that come back, with
// different agents, seem to be behind it. What is found against it waits.
func (w *ProxyWatch) Hold(owner uint64) bool {
	for i, o := range w.s.Owner {
		if o != owner || w.s.Weight[i] == 0 {
			continue
		}
		t := &w.s.Slots[i]
		if t.Crowd.Basis == proxyNo && t.Crowd.Requests < proxyHoldEmerging && t.emerging(w.s.Total) {
			return true
		}
		if t.Crowd.Basis != proxyNo || t.Crowd.Requests >= 2*proxyMinRequests {
			return false
		}
		back := 0
		for j := range t.Claims {
			if t.Claims[j].Hash != 0 && t.Claims[j].Requests >= 3 {
				back++
			}
		}
		families, _ := t.Crowd.various()
		return back >= 2 && t.Crowd.recurring() >= 2 || private(t.Address) && families >= 2
	}
	return false
}

// Mark remembers the state for Fork, while w itself goes on in another goroutine.
func (w *ProxyWatch) Mark() {
	if w.marked == nil {
		w.marked = new(proxyState)
	}
	*w.marked = w.s
	w.forked = true
}

// Unmark ends what Mark began.
func (w *ProxyWatch) Unmark() { w.forked = false }

// Fork returns a watch that goes on from the last Mark, else from where w is, in
// the memory of old if that is not nil.
func (w *ProxyWatch) Fork(old *ProxyWatch) *ProxyWatch {
	if old == nil {
		old = &ProxyWatch{cdn: w.cdn, trusted: w.trusted}
	}
	if w.forked {
		old.s = *w.marked
	} else {
		old.s = w.s
	}
	return old
}

// halve makes room for the present: old counts weigh half.
func (s *proxyState) halve() {
	s.Total /= 2
	s.Claimed /= 2
	for i := range s.Slots {
		t := &s.Slots[i]
		s.Weight[i] = (s.Weight[i] + 1) / 2
		t.Claimed /= 2
		t.Crowd.halve()
		for j := range t.Claims {
			c := &t.Claims[j]
			c.Requests, c.Accepted, c.Same = c.Requests/2, c.Accepted/2, c.Same/2
			if c.Requests == 0 {
				*c = proxyClaim{}
			}
		}
	}
	for i := range s.CDN {
		s.CDN[i].halve()
	}
}

// edge counts a request from a CDN's network. One edge address carries little:
// the provider as a whole is judged.
func (s *proxyState) edge(owner uint64, provider uint8, family uint64, bot, served bool) {
	if i, ok := s.findOwner(owner); !ok && s.OwnerCount < cdnOwners*3/4 {
		s.Owners[i], s.OwnerOf[i] = owner, provider
		s.OwnerCount++
	}
	c := &s.CDN[provider-1]
	c.add(family, bot, served)
	if c.Requests%proxyLookEvery != 0 {
		return
	}
	slack := uint64(1)
	if c.Basis != proxyNo {
		slack = 2
	}
	edges := 0
	for _, p := range s.OwnerOf {
		if p == provider {
			edges++
		}
	}
	c.Basis = proxyNo
	if c.Requests >= proxyMinRequests && uint64(c.Requests)*100*slack >= uint64(s.Total)*proxyShare &&
		uint64(c.Accepted)*100*slack >= uint64(c.Requests)*20 && edges >= 3 && c.recurring() >= 5 {
		c.Basis = proxyCDN
	}
}

// findOwner returns where owner is or would be in the table of edges.
func (s *proxyState) findOwner(owner uint64) (int, bool) {
	for i := int(owner % cdnOwners); ; i = (i + 1) % cdnOwners {
		if s.OwnerOf[i] == 0 {
			return i, false
		}
		if s.Owners[i] == owner {
			return i, true
		}
	}
}
