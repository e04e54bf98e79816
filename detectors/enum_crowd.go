package detectors

import (
	"cmp"
	"fmt"
	"slices"

	"weir/pipeline"
)

// A walk that many clients share, each below its own floor, shows in what they
// have in common: the first contacts of all who use one agent, one TLS
// fingerprint, one network or one operator are taken as one stream, in which an id
// within 8 of one of the last 256 of others is near: who has orders in a row reads
// them by himself. On endpoints whose objects are
// somebody's, that share, and the share that misses, are tested against the
// whole stream's as the fit saw it. What the fit did not see is not tested, and the
// newest ids are left out.
//
// One campaign is told an endpoint: the smallest crowd that explains four fifths
// of the excess. Its members are those whose ids lay mostly among those of others.
// It takes ten of them, and none counts for more than crowdTurns contacts: one
// client's walk is its own affair. Clients that have an alert of their own are left out.
//
// Misses: crowds that have nothing in common that the log shows, as soon as all
// traffic of the endpoint hides them. Looks like it: an app that fetches orders in
// a row for everybody, rolled out after the fit.
type crowds struct {
	Crowds []*crowd // sorted by dimension, then value
	Told   *toldCrowd
	Newest int64 // the highest id that was granted
	Oldest int64 // the lowest, 0 none
}

// The dimensions of a crowd, narrowest first as a rule; it breaks ties.
const (
	crowdJA4 uint8 = iota
	crowdNet
	crowdAgent
	crowdASN
	crowdAll
	crowdDims
)

const (
	crowdsPerDim = 16   // the largest, by space-saving
	crowdFrom    = 16   // contacts before a crowd is followed
	crowdRing    = 256  // ids that a new one may be near to
	crowdMembers = 1024 // told apart
	crowdShown   = 256  // listed
	crowdTurns   = 16   // contacts of one member that count
	crowdLeast   = 10   // members
	crowdSize    = 40   // raggedness of the null, as of so many contacts
)

// crowd is the merged stream of all who share one value.
type crowd struct {
	Dim      uint8
	Value    uint64
	Text     string
	Seen     uint32 // contacts, by space-saving
	Ring     []crowdID
	Hand     int
	Trials   []byte // in a checkpoint
	Contacts uint32 // since onset
	Hits     uint32
	Missed   uint32
	Granted  uint32
	Since    pipeline.Time // of the first member kept
	Onset    pipeline.Time
	Last     pipeline.Time
	Members  []crowdMember // sorted by print
	Beyond   uint32        // contacts of clients that found no place
	Reached  []crowdReached
	Dossier  *dossier

	near, miss trial
}

type crowdID struct {
	ID     int64
	Who    uint32
	Beside uint8 // others' ids that were near it, before or after
}

// crowdDense is how many others' ids next to its own make a contact one of a walk's,
// where who walked is listed: one is there by chance as well.
const crowdDense = 2

type crowdMember struct {
	Print    uint32
	Contacts uint16
	Hits     uint16
	Granted  uint16
	Asked    uint16 // contacts, all of them
	Dense    uint16 // contacts among the ids of others
	Who      pipeline.Principal
}

// crowdReached is an object that a member was granted.
type crowdReached struct {
	Print uint32
	Text  string
}

// toldCrowd is the campaign that was told of.
type toldCrowd struct {
	Dim     uint8
	Value   uint64
	ID      string
	Changed bool
}

func (c *crowd) score() pipeline.Nats { return c.near.score() + c.miss.score() }

// crowd takes a first contact into every crowd that its client is of.
func (sh *sharing) crowd(k *knot, s *pipeline.Signal, e *EndpointBaseline) {
	if e == nil || e.Merged.N < 20 || sh.Off || !e.Refuses && !e.Guarded && !e.Keyed || !s.Facts.Has(pipeline.ObsNumber) || s.Score >= pipeline.ReviewAt {
		return
	}
	if sh.Crowds == nil {
		sh.Crowds = new(crowds)
	}
	// The newest ids come one after the other because they are made so.
	id := s.Facts.Number
	newest := id > sh.Crowds.Newest-crowdRing
	if granted(s.Facts.Status) {
		sh.Crowds.Newest = max(sh.Crowds.Newest, id)
		if sh.Crowds.Oldest == 0 || id < sh.Crowds.Oldest {
			sh.Crowds.Oldest = id
		}
	}
	if newest {
		return
	}
	r := s.Request.Request
	take := func(dim uint8, value uint64) { sh.Crowds.take(k, s, e, dim, value) }
	if r.JA4 != "" {
		take(crowdJA4, pipeline.Hash64(r.JA4))
	}
	if !r.Address.IsZero() {
		take(crowdNet, pipeline.Hash64(netOf(r.Address)))
	}
	if r.AgentKey != 0 {
		take(crowdAgent, r.AgentKey)
	}
	if r.ASN != 0 {
		take(crowdASN, uint64(r.ASN))
	}
	take(crowdAll, 0)
}

// netOf is the /24 or /48 of an address, in its bytes.
func netOf(a pipeline.Address) string {
	if a.Is4() {
		return string(a[:15])
	}
	return string(a[:6])
}

func crowdText(dim uint8, r *pipeline.Request) string {
	switch dim {
	case crowdJA4:
		return "TLS fingerprint " + clean(r.JA4, 64)
	case crowdNet:
		bits := 24
		if !r.Address.Is4() {
			bits = 48
		}
		p, err := r.Address.Addr().Prefix(bits)
		if err != nil {
			return "network " + r.Address.String()
		}
		return "network " + p.String()
	case crowdAgent:
		return "agent " + clean(r.Agent, 80)
	case crowdASN:
		return fmt.Sprintf("AS%d", r.ASN)
	}
	return "all clients"
}

func (cs *crowds) of(s *pipeline.Signal, dim uint8, value uint64) *crowd {
	order := func(c *crowd, at [2]uint64) int {
		return cmp.Or(cmp.Compare(uint64(c.Dim), at[0]), cmp.Compare(c.Value, at[1]))
	}
	i, ok := slices.BinarySearchFunc(cs.Crowds, [2]uint64{uint64(dim), value}, order)
	if ok {
		return cs.Crowds[i]
	}
	n, least := 0, -1
	for j, c := range cs.Crowds {
		if c.Dim != dim {
			continue
		}
		if n++; cs.Told != nil && cs.Told.Dim == dim && cs.Told.Value == c.Value {
			continue
		}
		if least < 0 || c.Seen < cs.Crowds[least].Seen {
			least = j
		}
	}
	c := &crowd{Dim: dim, Value: value, Text: crowdText(dim, s.Request.Request), Since: s.Facts.Time}
	if n >= crowdsPerDim {
		c.Seen = cs.Crowds[least].Seen
		cs.Crowds = slices.Delete(cs.Crowds, least, least+1)
		i, _ = slices.BinarySearchFunc(cs.Crowds, [2]uint64{uint64(dim), value}, order)
	}
	cs.Crowds = slices.Insert(cs.Crowds, i, c)
	return c
}

func (cs *crowds) take(k *knot, s *pipeline.Signal, e *EndpointBaseline, dim uint8, value uint64) {
	c := cs.of(s, dim, value)
	c.Seen = min(c.Seen+1, 1<<30)
	o := &s.Facts
	if c.Seen < crowdFrom {
		if m := c.member(s); m != nil {
			m.Asked = bump(m.Asked)
			c.reach(m, s)
		}
		c.place(o.Number, shortOf(s.Sender))
		return
	}
	now := max(seconds(o.Time), c.near.at, c.miss.at)
	c.near.decay(now, halfLifeSeconds)
	c.miss.decay(now, halfLifeSeconds)
	if c.score() == 0 && c.Contacts > 0 && !cs.is(c) {
		c.begin(o.Time)
	}
	first := len(c.Ring) == 0
	m := c.member(s)
	if m != nil {
		m.Asked = bump(m.Asked)
		c.reach(m, s)
	}
	near, seen := c.place(o.Number, shortOf(s.Sender))
	if seen || first {
		return
	}
	hit, missed := near, !granted(o.Status)
	if m == nil {
		c.Beyond++
	} else {
		if m.Contacts >= crowdTurns {
			c.trace(k, s, hit || missed, false)
			return
		}
		m.Contacts++
		if hit {
			m.Hits++
		}
	}
	if c.Contacts == 0 {
		c.Onset = o.Time
	}
	c.Contacts++
	c.Last = o.Time
	if hit {
		c.Hits++
	}
	c.near.observe(cs.null(e, c), hit, countScale, now, halfLifeSeconds)
	missNull := k.b.Object.Beta
	if e.Miss.N >= 20 {
		missNull = e.Miss.Beta
	}
	c.miss.observe(missNull, missed, countScale, now, halfLifeSeconds)
	if missed {
		c.Missed++
	} else {
		c.Granted++
	}
	if !hit && !missed {
		return
	}
	c.trace(k, s, true, true)
	if c.Dossier == nil {
		c.Dossier = &dossier{Cases: make([]*caseFile, 1)}
	}
	if c.score() >= dossierAt {
		if k.c.cfg.Labels != nil && s.Request.Block != nil {
			c.Dossier.label(k.c.cfg.Labels[s.Request.Block.Source])
		}
		c.Dossier.note(0, s.Request, "", o, k.templates())
	}
	if c.score() >= pipeline.ReviewAt {
		if cs.Told != nil && cs.is(c) {
			cs.Told.Changed = true
		}
		k.wake()
	}
}

// null is how often an id is near by chance: as the fit saw it, or, where there are
// fewer ids than it saw, as often as ids spread evenly over all are.
func (cs *crowds) null(e *EndpointBaseline, c *crowd) Beta {
	near := uint64(len(c.Ring)) * (2*8 + 1) << 16 / uint64(max(cs.Newest-cs.Oldest, 1)) // on average, Q16
	chance := 65536 - halfPower(min(near, 16<<16)*94548>>16)                            // 1 - exp(-near)
	null := e.Merged.Beta
	size := uint64(null.A) + uint64(null.B)
	if a := uint32(chance * size >> 16); a > null.A {
		null.A, null.B = a, uint32(size)-min(a, uint32(size)-1)
	}
	return null
}

// trace tells who follows the evidence of a contact that is near or missed.
func (c *crowd) trace(k *knot, s *pipeline.Signal, part, counted bool) {
	if !part || !k.traced() {
		return
	}
	at := endpointAt(k, s)
	who := pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: c.Text + " on " + at.Method + " " + at.Template}
	k.trace(s, Traced{Detector: "enum.object", Owner: who.Hash(), Score: c.score(), Counted: counted, Part: true})
}

// begin forgets what came to nothing; the ids stay, and who asked for them for a day:
// a walk begins before its ids lie next to one another.
func (c *crowd) begin(at pipeline.Time) {
	old := *c
	*c = crowd{Dim: c.Dim, Value: c.Value, Text: c.Text, Seen: c.Seen, Ring: c.Ring, Hand: c.Hand, Since: at, near: c.near, miss: c.miss}
	if at-old.Since < contactGap {
		c.Since, c.Members, c.Reached = old.Since, old.Members, old.Reached
		for i := range c.Members {
			c.Members[i].Contacts, c.Members[i].Hits = 0, 0
		}
	}
}

// place records an id and says whether it is near one of the last that another
// asked for, or one of them itself.
func (c *crowd) place(id int64, who uint32) (near, seen bool) {
	beside := uint8(0)
	for i := range c.Ring {
		v := &c.Ring[i]
		switch d := id - v.ID; {
		case d == 0:
			return false, true
		case d >= -8 && d <= 8 && v.Who != who:
			beside++
		}
	}
	for i := range c.Ring {
		v := &c.Ring[i]
		if d := id - v.ID; beside > 0 && d >= -8 && d <= 8 && v.Who != who && v.Beside < crowdDense {
			if v.Beside++; v.Beside == crowdDense {
				c.dense(v.Who)
			}
		}
	}
	if beside >= crowdDense {
		c.dense(who)
	}
	if len(c.Ring) < crowdRing {
		c.Ring = append(c.Ring, crowdID{id, who, beside})
	} else {
		c.Ring[c.Hand] = crowdID{id, who, beside}
		c.Hand = (c.Hand + 1) % crowdRing
	}
	return beside > 0, false
}

// dense counts a contact of a member that lies among those of others.
func (c *crowd) dense(print uint32) {
	if i, ok := slices.BinarySearchFunc(c.Members, print, func(m crowdMember, p uint32) int { return cmp.Compare(m.Print, p) }); ok {
		c.Members[i].Dense = bump(c.Members[i].Dense)
	}
}

// member is the sender's place in the crowd; who had the least to do with it
// makes room, nil when nobody does.
func (c *crowd) member(s *pipeline.Signal) *crowdMember {
	print := shortOf(s.Sender)
	find := func() (int, bool) {
		return slices.BinarySearchFunc(c.Members, print, func(m crowdMember, p uint32) int { return cmp.Compare(m.Print, p) })
	}
	i, ok := find()
	if ok {
		return &c.Members[i]
	}
	if len(c.Members) >= crowdMembers {
		least := slices.IndexFunc(c.Members, func(m crowdMember) bool { return m.Hits == 0 })
		if least < 0 {
			return nil
		}
		c.Members = slices.Delete(c.Members, least, least+1)
		i, _ = find()
	}
	c.Members = slices.Insert(c.Members, i, crowdMember{Print: print, Who: principalOf(s)})
	return &c.Members[i]
}

// reach lists a granted object of a member; who has no part in a walk makes room.
func (c *crowd) reach(m *crowdMember, s *pipeline.Signal) {
	if !granted(s.Facts.Status) {
		return
	}
	m.Granted = bump(m.Granted)
	if len(c.Reached) >= 2*maxOwned {
		i := slices.IndexFunc(c.Reached, func(r crowdReached) bool { return !c.walks(r.Print) })
		if i < 0 {
			return
		}
		c.Reached = slices.Delete(c.Reached, i, i+1)
	}
	c.Reached = append(c.Reached, crowdReached{m.Print, objectText(s.Request.Request, &s.Facts)})
}

// walks reports whether the ids of a member were mostly among those of others.
func (c *crowd) walks(print uint32) bool {
	i, ok := slices.BinarySearchFunc(c.Members, print, func(m crowdMember, p uint32) int { return cmp.Compare(m.Print, p) })
	return ok && c.Members[i].walks()
}

// What is not there counts for the address: it alone makes no member.
func (m *crowdMember) walks() bool {
	return m.Dense > 0 && 2*m.Dense >= m.Asked && (m.Granted > 0 || m.Asked > 1)
}

// handed is what the walkers were granted.
func (c *crowd) handed() (objects []string, total int64) {
	for _, r := range c.Reached {
		if len(objects) < maxOwned && c.walks(r.Print) {
			objects = append(objects, r.Text)
		}
	}
	for i := range c.Members {
		if m := &c.Members[i]; m.walks() {
			total += int64(m.Granted)
		}
	}
	return objects, total
}

// walkers are the members whose ids were mostly near.
func (c *crowd) walkers() (out []pipeline.Principal, total int) {
	for _, m := range c.Members {
		if m.walks() {
			if total++; len(out) < crowdShown {
				out = append(out, m.Who)
			}
		}
	}
	return out, total
}

// excess is how many of the hits ordinary traffic does not explain.
func (c *crowd) excess(null Beta) int64 {
	return int64(c.Hits) - int64(c.Contacts)*int64(null.A)/int64(null.A+null.B)
}

func (cs *crowds) is(c *crowd) bool {
	return cs.Told != nil && cs.Told.Dim == c.Dim && cs.Told.Value == c.Value
}

// freeze puts the trials where a checkpoint finds them; thaw is its inverse.
func (cs *crowds) freeze() {
	for _, c := range cs.Crowds {
		c.Trials = c.miss.append(c.near.append(c.Trials[:0]))
	}
}

func (cs *crowds) thaw() bool {
	for _, c := range cs.Crowds {
		if c == nil || len(c.Trials) != 2*trialBytes || !c.near.read(c.Trials[:trialBytes]) || !c.miss.read(c.Trials[trialBytes:]) {
			return false
		}
		if len(c.Ring) > crowdRing || c.Hand < 0 || c.Hand >= crowdRing || c.Dossier != nil && len(c.Dossier.Cases) != 1 {
			return false
		}
	}
	return true
}

// fitMerged learns how near the ids of all clients' contacts lie to one another
// in the order of time, as the median over pieces of the stream: a walk that is in
// less than half of them does not teach.
func fitMerged(b *Baselines, contacts []fitContact, suspect map[uint64]bool) {
	streams := map[uint64][]fitContact{}
	for _, c := range contacts {
		if c.numbered && !suspect[c.who] {
			streams[c.template] = append(streams[c.template], c)
		}
	}
	for i := range b.Endpoints {
		e := &b.Endpoints[i]
		stream := streams[e.Template]
		slices.SortFunc(stream, func(a, b fitContact) int {
			return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.object, b.object), cmp.Compare(a.who, b.who))
		})
		clients := map[uint64]struct{}{}
		var x crowd
		var shares []float64
		k, n := 0, 0
		newest := int64(0)
		for j := range stream {
			clients[stream[j].who] = struct{}{}
			id := stream[j].number
			young := id > newest-crowdRing
			if newest = max(newest, id); young {
				continue
			}
			if near, seen := x.place(stream[j].number, shortOf(stream[j].who)); !seen {
				n++
				if near {
					k++
				}
			}
			if n == 64 {
				shares = append(shares, float64(k)/64)
				k, n = 0, 0
			}
		}
		if len(shares) == 0 && n >= 16 {
			shares = append(shares, float64(k)/float64(n))
		}
		if len(shares) == 0 {
			continue
		}
		slices.Sort(shares)
		// A site that is young or small leans on a ragged guess.
		own := float64(len(shares)) / float64(len(shares)+1)
		mean := float64(own*shares[len(shares)/2]) + float64((1-own)*0.2)
		mean = min(max(mean, 0.01), 0.95)
		a := max(1, uint32(float64(mean*crowdSize*256)+0.5))
		e.Merged = Prior{Beta: Beta{a, max(1, crowdSize*256-min(a, crowdSize*256))}, N: int64(len(clients))}
	}
}
