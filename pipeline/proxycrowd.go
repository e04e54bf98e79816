package pipeline

import "github.com/zeebo/xxh3"

// proxyClaim is one client as a forwarding header claims it.
type proxyClaim struct {
	Hash               uint64
	Family             uint64 // its first agent family
	Requests, Accepted uint32
	Same               uint32 // requests with that family
}

// proxyCrowd is what came from one place, by agent family.
type proxyCrowd struct {
	Requests, Accepted uint32
	Last               uint64
	Basis              proxyBasis
	Families           [proxyFamilies]proxyFamily
}

type proxyFamily struct {
	Hash               uint64
	Requests, Accepted uint32
	Returns            uint32 // times it came back after another family
	Bot                bool
}

// claim counts a claimed client. When the sample is full, only clients with one
// more zero at the end of their hash stay, so that it always says how often
// clients come back, whatever their number.
func (t *proxySlot) claim(hash, family uint64, served bool) {
	hash |= 1 << 63 // never zero
	for hash&(1<<t.Level-1) == 0 {
		var free *proxyClaim
		for i := range t.Claims {
			c := &t.Claims[i]
			if c.Hash == hash {
				c.Requests++
				if served {
					c.Accepted++
				}
				if c.Family == family {
					c.Same++
				}
				return
			}
			if c.Hash == 0 && free == nil {
				free = c
			}
		}
		if free != nil {
			*free = proxyClaim{Hash: hash, Family: family, Requests: 1, Same: 1}
			if served {
				free.Accepted = 1
			}
			return
		}
		if t.Level == 40 {
			return
		}
		t.Level++
		for i := range t.Claims {
			if t.Claims[i].Hash&(1<<t.Level-1) != 0 {
				t.Claims[i] = proxyClaim{}
			}
		}
	}
}

func (c *proxyCrowd) add(family uint64, bot, served bool) {
	c.Requests++
	if served {
		c.Accepted++
	}
	back := family != c.Last
	c.Last = family
	for i := range c.Families {
		f := &c.Families[i]
		if f.Hash == 0 {
			*f = proxyFamily{Hash: family, Bot: bot}
			back = false
		}
		if f.Hash == family {
			f.Requests++
			if served {
				f.Accepted++
			}
			if back {
				f.Returns++
			}
			return
		}
	}
}

// claimView sums up the sampled clients of an address.
type claimView struct {
	clients, requests          uint32
	steady                     uint32 // keep to one agent family
	ordinary, ordinaryRequests uint32 // come back and are mostly served
}

func (t *proxySlot) view() (v claimView) {
	for i := range t.Claims {
		c := &t.Claims[i]
		if c.Hash == 0 {
			continue
		}
		v.clients++
		v.requests += c.Requests
		if c.Same*5 >= c.Requests*4 {
			v.steady++
		}
		if c.Requests >= 3 && c.Accepted*2 >= c.Requests {
			v.ordinary++
			v.ordinaryRequests += c.Requests
		}
	}
	return v
}

// emerging reports whether a population seems to be behind one loud client, of
// whom most requests are: some others keep to their agents and are served, but
// there are too few requests of theirs to tell. Who forges a new header with each
// request, or is never served, shows none.
func (t *proxySlot) emerging(total uint32) bool {
	n := uint64(t.Crowd.Requests)
	families := 0
	for i := range t.Crowd.Families {
		if f := &t.Crowd.Families[i]; f.Accepted > 0 && f.Accepted*2 >= f.Requests {
			families++
		}
	}
	if uint64(t.Claimed)*4 < n*3 {
		return private(t.Address) && families >= proxyPrivateFamilies && n*100 >= uint64(total)*proxyBareShare
	}
	if t.Level > 0 || families < 2 || n*100 < uint64(total)*proxyShare {
		return false
	}
	served, once := 0, uint64(0)
	for i := range t.Claims {
		c := &t.Claims[i]
		if c.Requests == 1 {
			once++
		}
		if c.Accepted > 0 && c.Accepted*2 >= c.Requests && c.Same == c.Requests {
			served++
		}
	}
	return served >= 3 && once*2 <= n
}

// recurring counts families with three requests or more.
func (c *proxyCrowd) recurring() (n int) {
	for i := range c.Families {
		if c.Families[i].Requests >= 3 {
			n++
		}
	}
	return n
}

// various counts families that come and go in turn and are mostly served, and
// what they were served.
func (c *proxyCrowd) various() (families int, served uint32) {
	for i := range c.Families {
		if f := &c.Families[i]; f.Requests >= 3 && f.Returns >= 2 && f.Accepted*2 >= f.Requests {
			families++
			served += f.Accepted
		}
	}
	return families, served
}

// crowded reports whether the agents look like the public rather than one
// house: at least eight families that come and go in turn, with search crawlers
// among them, which no office has, or twelve; and some of them much more used
// than others, which a rotated list is not.
func (c *proxyCrowd) crowded() bool {
	families, bots := 0, 0
	var sum, squares uint64
	for i := range c.Families {
		f := &c.Families[i]
		if f.Requests < 3 || f.Returns < 2 || f.Accepted*2 < f.Requests {
			continue
		}
		families++
		if f.Bot {
			bots++
		}
		sum += uint64(f.Requests)
		squares += uint64(f.Requests) * uint64(f.Requests)
	}
	if families < 8 || bots == 0 && families < 12 {
		return false
	}
	return squares*uint64(families)*10 >= sum*sum*15
}

func (c *proxyCrowd) halve() {
	c.Requests /= 2
	c.Accepted /= 2
	keep := c.Families
	n := 0
	c.Families = [proxyFamilies]proxyFamily{}
	for _, f := range keep {
		if f.Requests /= 2; f.Requests == 0 {
			continue
		}
		f.Accepted /= 2
		f.Returns /= 2
		c.Families[n] = f
		n++
	}
}

// family is agentFamily with a memory.
func (w *ProxyWatch) family(req *Request) (uint64, bool) {
	h := req.AgentKey
	if h == 0 && req.Agent != "" {
		h = Hash64(req.Agent) // not sealed
	}
	a := &w.agents[h&1023]
	if a.family == 0 || a.hash != h {
		a.hash = h
		a.family, a.bot = agentFamily(req.Agent)
	}
	return a.family, a.bot
}

// agentFamily hashes an agent without its digits, so that versions of one
// program are one family, and says whether it calls itself a crawler.
func agentFamily(agent string) (family uint64, bot bool) {
	var room [192]byte
	b := room[:0]
	for i := 0; i < len(agent) && len(b) < len(room); i++ {
		c := agent[i]
		if c >= '0' && c <= '9' || c == '.' && i > 0 && agent[i-1] >= '0' && agent[i-1] <= '9' {
			continue
		}
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
		if n := len(b); c == 't' && n >= 3 && b[n-2] == 'o' && b[n-3] == 'b' {
			bot = true
		}
	}
	return xxh3.HashSeed(b, hashSeed) | 1, bot
}
