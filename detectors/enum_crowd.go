package detectors

import (
	"cmp"
	"fmt"
	"maps"
	"math"
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
// of the excess. Its members are those whose ids were mostly near. It takes ten of
// them, and none counts for more than crowdTurns contacts: one client's walk is its
// own affair. Clients that have an alert of their own are left out.
//
// Misses: crowds that have nothing in common that the log shows, as soon as all
// traffic of the endpoint hides them. Looks like it: an app that fetches orders in
// a row for everybody, rolled out after the fit.
type crowds struct {
	Crowds []*crowd // sorted by dimension, then value
	Told   *toldCrowd
	Newest int64 // the highest id that was granted
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
	Onset    pipeline.Time
	Last     pipeline.Time
	Members  []crowdMember // sorted by print
	Beyond   uint32        // contacts of clients that found no place
	Reached  []string
	More     bool
	Dossier  *dossier

	near, miss trial
}

type crowdID struct {
	ID  int64
	Who uint32
}

type crowdMember struct {
	Print    uint32
	Contacts uint16
	Hits     uint16
	Who      pipeline.Principal
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
	c := &crowd{Dim: dim, Value: value, Text: crowdText(dim, s.Request.Request)}
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
	if c.Seen < crowdFrom {
		return
	}
	o := &s.Facts
	now := max(seconds(o.Time), c.near.at, c.miss.at)
	c.near.decay(now, halfLifeSeconds)
	c.miss.decay(now, halfLifeSeconds)
	if c.score() == 0 && c.Contacts > 0 && !cs.is(c) {
		c.begin()
	}
	first := len(c.Ring) == 0
	near, seen := c.place(o.Number, shortOf(s.Sender))
	if seen || first {
		return
	}
	hit, missed := near, !granted(o.Status)
	m := c.member(s)
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
	null := e.Merged.Beta
	c.near.observe(null, hit, countScale, now, halfLifeSeconds)
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
	if !missed {
		if len(c.Reached) < maxOwned {
			c.Reached = append(c.Reached, objectText(s.Request.Request, &s.Facts))
		} else {
			c.More = true
		}
	}
	if c.score() >= pipeline.ReviewAt {
		if cs.Told != nil && cs.is(c) {
			cs.Told.Changed = true
		}
		k.wake()
	}
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

// begin forgets what came to nothing; the ids stay.
func (c *crowd) begin() {
	*c = crowd{Dim: c.Dim, Value: c.Value, Text: c.Text, Seen: c.Seen, Ring: c.Ring, Hand: c.Hand, near: c.near, miss: c.miss}
}

// place records an id and says whether it is near one of the last that another
// asked for, or one of them itself.
func (c *crowd) place(id int64, who uint32) (near, seen bool) {
	for _, v := range c.Ring {
		d := id - v.ID
		if d == 0 {
			return false, true
		}
		near = near || d >= -8 && d <= 8 && v.Who != who
	}
	if len(c.Ring) < crowdRing {
		c.Ring = append(c.Ring, crowdID{id, who})
	} else {
		c.Ring[c.Hand] = crowdID{id, who}
		c.Hand = (c.Hand + 1) % crowdRing
	}
	return near, false
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

// walkers are the members whose ids were mostly near.
func (c *crowd) walkers() (out []pipeline.Principal, total int) {
	for _, m := range c.Members {
		if m.Hits > 0 && 2*m.Hits >= m.Contacts {
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

// tick tells of the campaign at the end of a minute.
func (cs *crowds) tick(k *knot, at pipeline.Time, template uint64) {
	e := k.b.endpoint(template)
	if e == nil {
		return
	}
	if cs.Told != nil {
		for _, c := range cs.Crowds {
			if !cs.is(c) {
				continue
			}
			if cs.Told.Changed {
				cs.Told.Changed = false
				k.emit(cs.finding(k, c, e, at))
			}
			if at.Sub(c.Last) < maxCampaignQuiet {
				return
			}
		}
		cs.Told = nil
	}
	var best *crowd
	most := int64(0)
	able := func(c *crowd) bool {
		_, n := c.walkers()
		return c.score() >= pipeline.ReviewAt && n >= crowdLeast && c.Dossier != nil && c.Dossier.Cases[0] != nil
	}
	for _, c := range cs.Crowds {
		if able(c) {
			most = max(most, c.excess(e.Merged.Beta))
		}
	}
	for _, c := range cs.Crowds {
		if able(c) && 5*c.excess(e.Merged.Beta) >= 4*most && (best == nil || c.Contacts < best.Contacts) {
			best = c
		}
	}
	if best == nil {
		return
	}
	cs.Told = &toldCrowd{Dim: best.Dim, Value: best.Value}
	f := cs.finding(k, best, e, at)
	k.emit(f)
}

// maxCampaignQuiet is how long a campaign keeps its crowd without news.
const maxCampaignQuiet = 7 * 24 * 3600e9

func (cs *crowds) finding(k *knot, c *crowd, e *EndpointBaseline, at pipeline.Time) pipeline.Finding {
	d := c.Dossier
	cf := d.Cases[0]
	members, total := c.walkers()
	on := cf.Endpoint.Method + " " + cf.Endpoint.Template
	granted := int64(c.Granted)
	f := pipeline.Finding{
		Time: at, Detector: "enum.object", Level: "campaign", Wide: true, Who: pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: c.Text + " on " + on},
		Onset: c.Onset, First: c.Onset, Last: c.Last, Endpoint: cf.Endpoint,
		Outcome: pipeline.Outcome{Requests: int64(c.Contacts), Attempted: int64(c.Contacts), Succeeded: &granted, Objects: granted, Basis: "status"},
		Facts:   pipeline.FindingFacts{CanSucceed: true},
		Members: members, MembersTotal: total, Predicate: c.Text,
		Addresses: slices.Clone(d.Addresses), AddressesTotal: max(len(d.Addresses), d.Distinct.count()),
		Objects: slices.Clone(c.Reached), Truncated: c.More, Agents: slices.Clone(d.Agents), JA4: slices.Clone(d.JA4),
		FirstSeen: c.Onset, Exemplars: slices.Clone(cf.Exemplars), Sampled: 1, Late: cf.Late, Backfill: cf.Backfill, Labels: maps.Clone(d.Labels),
		Attack: []string{"T1213", "T1119"}, OWASP: []string{"API1:2023"}, OAT: []string{"OAT-011"},
	}
	if len(d.Addresses) < maxAddresses {
		f.AddressesTotal = len(d.Addresses)
	}
	for _, part := range []struct {
		name string
		n    uint32
		null Prior
		nats pipeline.Nats
	}{{"merged_near_id", c.Hits, e.Merged, c.near.score()}, {"object_miss", c.Missed, pickPrior(e.Miss.N >= 20, e.Miss, k.b.Object), c.miss.score()}} {
		if part.nats == 0 {
			continue
		}
		f.Score += part.nats
		f.Signals = append(f.Signals, pipeline.FindingSignal{
			Name: part.name, Observed: float64(part.n), Expected: expected(uint16(min(c.Contacts, 1<<16-1)), part.null), Count: int64(part.n), Nats: part.nats, Baseline: k.b.baseline(part.null),
		})
	}
	// Bad contacts among all, when ordinary ones are near so often (detection.md 1.3).
	low, high := c.bad(e.Merged.Beta)
	f.Estimate = &pipeline.Estimate{Attempts: (low + high) / 2, Low: low, High: high}
	if cs.Told.ID == "" {
		cs.Told.ID = findingID("enum crowd", f.Who.Hash(), c.Onset)
	}
	f.ID = cs.Told.ID
	what := thingsOf(cf.Endpoint.Template)
	f.Title = fmt.Sprintf("%d clients walk the ids of %s together", total, on)
	common := "with one thing in common (" + c.Text + ")"
	if c.Dim == crowdAll {
		common = "with nothing in common that the log shows"
	}
	f.Reason = fmt.Sprintf("%d clients %s asked for %d %s in %s, %d of them next to one another's (ordinary traffic: %.0f %%); no client did enough to show alone.",
		total, common, c.Contacts, what, span(c.Last.Sub(c.Onset)), c.Hits, 100*e.Merged.Mean())
	f.Next = []string{"Challenge or rate-limit " + pick(c.Dim == crowdAll, "the listed clients", c.Text) + " on " + on, fmt.Sprintf("Check whether the %d granted %s belong to those who got them", c.Granted, what)}
	f.BenignIf = []string{"a new version of an app that fetches in a row", "a load test from many addresses"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %d clients had asked for ids next to one another's", crowdLeast)
	return f
}

// bad is the range that the number of contacts of the walk lies in.
func (c *crowd) bad(null Beta) (low, high int64) {
	n, f0 := float64(c.Contacts), null.Mean()
	mid := (float64(c.Hits) - float64(n*f0)) / (1 - f0)
	off := 2 * math.Sqrt(float64(n*f0)+1)
	return int64(max(0, mid-off)), int64(min(n, mid+off))
}

func pickPrior(is bool, yes, no Prior) Prior {
	if is {
		return yes
	}
	return no
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
