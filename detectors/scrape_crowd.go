package detectors

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"weir/pipeline"
)

// scrapeCrowd sees a catalogue that many clients copy together, each below what
// would tell of it, or each a little above.
//
// Two ways lead to a campaign, one for each catalogue (a template). What clients
// have in common (TLS fingerprint, agent, operator, network, fingerprint or agent
// with operator) is a client of its own: people follow popularity and meet at the
// same items, those who share out a catalogue read what is unpopular and what none
// of them has read yet. The share of such contacts is tested against what the
// fit saw and what everybody else does here. And clients that read more than
// ordinary are a crowd by that alone: the evidence against each of them, less what
// it costs to pick so many of all who came (ln C(M,n), below n (ln M/n + 1)), where
// their contacts pass the first test as well.
//
// It takes ten members, and that most who have the trait do it: people who share a
// browser with them are not accused. None counts for more than readerTurns
// contacts. A sample of clients is looked at whole (contact); numbers are scaled up.
//
// Misses: crowds that read popular items only; those that share nothing and stay
// within what is ordinary. Looks like it: link previews and apps on many devices that
// fetch what nobody reads, rolled out after the fit. OWASP API6, OAT-011.
type scrapeCrowd struct{}

func (scrapeCrowd) name() string                  { return "scrape.crawl" }
func (scrapeCrowd) wants(m pipeline.Meeting) bool { return m == pipeline.MeetTemplate }
func (scrapeCrowd) open() table                   { return new(readingTable) }

// readerSignal is the Kind of a signal of a client that reads more than ordinary.
// Its Value is its evidence, and above 32 bits how many items it took.
const readerSignal uint8 = 8

const (
	readerAt   = 3 * pipeline.Nat // from which a client is one of those that read much
	readerMost = 8 * pipeline.Nat // what one of them can say in a crowd
	// readerShares is what must speak for shared work besides.
	readerShares = 9 * pipeline.Nat
	readerTurns  = 16
	readerLeast  = 10
	readerHits   = 30 // contacts that a crowd is told from

	maxReadings   = 8  // catalogues of one virtual shard
	readersPerDim = 16 // crowds followed, by space-saving
	readerMembers = 128
	readerWords   = 128 // of a crowd's filter of items
	readerFiles   = 6   // crowds with a case
	maxOddReaders = 1024
	readerNull    = 100 // raggedness of the null, as of so many contacts
	readerFitted  = 100
	readerHalf    = 2 * daySeconds
	// contactsSampled of 64 clients tell of all their contacts, see contact.
	contactsSampled = 19
)

// The dimensions, narrowest first as a rule; it breaks ties.
const (
	readerPair uint8 = iota
	readerJA4
	readerNet
	readerAgent
	readerASN
	readerMuch // read more than ordinary
	readerDims
)

// readingTable is sorted by template.
type readingTable struct{ All []*readership }

// readership is one catalogue.
type readership struct {
	Template uint64
	Last     pipeline.Time
	Others   shareOf                 // unpopular and new, of contacts that nothing is held against
	Day      int64                   // of Clients[0]
	Clients  [2]linear256            // one in sixteen of those that came, this day and the last
	Much     []muchReader            // by print
	Dims     [readerDims][]readerRow `json:"-"`
	Files    []*readerFile           // of crowds with evidence, by dimension and value
	Told     *toldCrowd
	Onset    pipeline.Time // of what was told
}

type muchReader struct {
	Print uint32
	At    uint32
	Nats  int32
	Got   uint32
}

// readerRow is one crowd, pointer-free.
type readerRow struct {
	Value    uint64
	Onset    pipeline.Time
	Last     pipeline.Time
	Seen     uint32 // contacts, by space-saving
	Contacts uint32 // since the onset, members' turns only
	Hits     uint32
	Beyond   uint32
	Used     uint32
	N        uint32
	Test     trial
	Items    [readerWords]uint64
	Members  [readerMembers]readerMember
}

type readerMember struct {
	Print    uint32
	Contacts uint16
	Hits     uint16
}

// readerFile is the case against a crowd.
type readerFile struct {
	Dim     uint8
	Value   uint64
	Text    string
	Names   []named // of members, by print
	Reached []string
	More    bool
	Dossier *dossier
}

// odd reports a client that reads more than ordinary, now and then.
func (p *Profile) oddReader(o *pipeline.Observation, sc *scope) (nats pipeline.Nats, ok bool) {
	if !sc.freshItem || p.crawl.got < 20 || p.crawl.got&3 != 0 || !o.Has(pipeline.ObsRead|pipeline.ObsSlot) || o.Template == 0 || o.Status < 200 || o.Status >= 300 ||
		o.Flags&(pipeline.ObsStatic|pipeline.ObsUnknown|pipeline.ObsAuto|pipeline.ObsLogin|pipeline.ObsBorrowed) != 0 || p.Flags&(profileKnown|profileVerified|profileDeclared) != 0 {
		return 0, false
	}
	nats = p.crawl.score(sc.b)
	return nats, nats >= readerAt
}

func (t *readingTable) meet(k *knot, s *pipeline.Signal) {
	if s.Kind != contactSignal && s.Kind != readerSignal || !s.Facts.Has(pipeline.ObsSlot) {
		return
	}
	e := k.b.endpoint(s.Facts.Template)
	if e == nil || e.Refuses || e.Rare.N == 0 || e.RareTail == 0 {
		return
	}
	if r := s.Request.Request; r.Flags&(pipeline.FlagKnown|pipeline.FlagCrawler) != 0 || declared(r.Agent) {
		return
	}
	x := t.of(s)
	if x == nil {
		return
	}
	x.Last = s.Facts.Time
	now, h := seconds(s.Facts.Time), pipeline.Mix64(s.Sender, 21)
	if day := int64(now) / daySeconds; day != x.Day {
		x.Clients[1], x.Clients[0] = x.Clients[0], linear256{}
		x.Day = day
	}
	if s.Kind == readerSignal {
		x.much(shortOf(s.Sender), now, pipeline.Nats(uint32(s.Value)), uint32(s.Value>>32))
		x.take(k, s, e, readerMuch, 1, h, now)
		return
	}
	if sampledClient(s.Sender) {
		x.Clients[0].add(h)
	}
	r := s.Request.Request
	ja4, who := uint64(0), r.AgentKey
	if r.JA4 != "" {
		ja4 = pipeline.Hash64(r.JA4)
		who = ja4
	}
	calm, fresh := true, false
	for dim := range readerMuch {
		var value uint64
		switch dim {
		case readerPair:
			if r.ASN != 0 && who != 0 {
				value = pipeline.Mix64(who, uint64(r.ASN))
			}
		case readerJA4:
			value = ja4
		case readerNet:
			if !r.Address.IsZero() {
				value = network(r.Address)
			}
		case readerAgent:
			value = r.AgentKey
		case readerASN:
			value = uint64(r.ASN)
		}
		if value == 0 {
			continue
		}
		n, isNew := x.take(k, s, e, dim, value, h, now)
		calm, fresh = calm && n < cohortAt, fresh || isNew
	}
	if calm && s.Score < dossierAt {
		x.Others.add(fresh && s.Facts.Tail > 0)
	}
}

// of returns the catalogue of s; the one that is idle for longest makes room after
// a week.
func (t *readingTable) of(s *pipeline.Signal) *readership {
	i, ok := slices.BinarySearchFunc(t.All, s.Key, func(x *readership, key uint64) int { return compare(x.Template, key) })
	if ok {
		return t.All[i]
	}
	if len(t.All) >= maxReadings {
		least := 0
		for j, x := range t.All {
			if x.Last < t.All[least].Last {
				least = j
			}
		}
		if s.Facts.Time.Sub(t.All[least].Last) < maxCampaignQuiet {
			return nil
		}
		t.All = slices.Delete(t.All, least, least+1)
		if least < i {
			i--
		}
	}
	x := &readership{Template: s.Key}
	t.All = slices.Insert(t.All, i, x)
	return x
}

// null is what people's contacts are like: as the fit saw them, then as they are.
func (x *readership) null(e *EndpointBaseline) Beta {
	share := (uint64(e.Rare.A)<<16/(uint64(e.Rare.A)+uint64(e.Rare.B))*readerFitted + uint64(x.Others.K)<<16) / uint64(readerFitted+x.Others.N)
	a := uint32(share * readerNull * 256 >> 16)
	return Beta{max(a, 2*256), max(readerNull*256-min(a, readerNull*256), 256)}
}

// much keeps what is held against one that reads more than ordinary.
func (x *readership) much(print, now uint32, nats pipeline.Nats, got uint32) {
	i, ok := slices.BinarySearchFunc(x.Much, print, func(m muchReader, p uint32) int { return compare(uint64(m.Print), uint64(p)) })
	if !ok {
		if len(x.Much) >= maxOddReaders {
			least := 0
			for j := range x.Much {
				if x.Much[j].At < x.Much[least].At {
					least = j
				}
			}
			x.Much = slices.Delete(x.Much, least, least+1)
			if least < i {
				i--
			}
		}
		x.Much = slices.Insert(x.Much, i, muchReader{Print: print})
	}
	x.Much[i].At, x.Much[i].Nats, x.Much[i].Got = now, int32(min(nats, 1000*pipeline.Nat)), got
}

// came is about how many clients came in a day.
func (x *readership) came() int64 {
	n := max(x.Clients[0].count(), x.Clients[1].count())
	if n > 800 {
		return 1 << 20 // more than can be told apart
	}
	return int64(16 * max(n, 1))
}

// scan is the evidence of all that read more than ordinary this day, together,
// and how many items they took.
func (x *readership) scan(now uint32) (sum pipeline.Nats, n, got int64) {
	for i := range x.Much {
		if m := &x.Much[i]; now-min(now, m.At) <= daySeconds {
			sum += min(pipeline.Nats(m.Nats), readerMost)
			n++
			got += int64(m.Got)
		}
	}
	if n == 0 {
		return 0, 0, 0
	}
	cost := lnRatio(uint64(max(x.came(), n)), uint64(n)) + pipeline.Nat
	return max(0, sum-pipeline.Nats(n)*cost), n, got
}

// row returns the crowd of a value; the one with the fewest contacts makes room.
func (x *readership) row(dim uint8, value uint64) *readerRow {
	rows := x.Dims[dim]
	least := -1
	for i := range rows {
		if rows[i].Value == value {
			return &rows[i]
		}
		if (least < 0 || rows[i].Seen < rows[least].Seen) && !x.told(dim, rows[i].Value) {
			least = i
		}
	}
	if len(rows) < readersPerDim {
		x.Dims[dim] = append(rows, readerRow{Value: value})
		return &x.Dims[dim][len(rows)]
	}
	r := &rows[least]
	*r = readerRow{Value: value, Seen: r.Seen}
	return r
}

func (x *readership) told(dim uint8, value uint64) bool {
	return x.Told != nil && x.Told.Dim == dim && x.Told.Value == value
}

// take is a contact of a crowd's. It returns the evidence against the crowd and
// whether nobody of it asked for the item before.
func (x *readership) take(k *knot, s *pipeline.Signal, e *EndpointBaseline, dim uint8, value, h uint64, now uint32) (pipeline.Nats, bool) {
	r := x.row(dim, value)
	r.Seen = min(r.Seen+1, 1<<30)
	if dim != readerMuch && r.Seen < crowdFrom {
		return 0, false
	}
	r.Test.decay(now, readerHalf)
	if r.Test.branch == [3]branch{} && r.Contacts > 0 && !x.told(dim, value) {
		// Nothing is held against it: what it read stays known.
		r.Onset, r.Contacts, r.Hits, r.Beyond, r.N, r.Members = 0, 0, 0, 0, 0, [readerMembers]readerMember{}
		x.Files = slices.DeleteFunc(x.Files, func(f *readerFile) bool { return f.Dim == dim && f.Value == value })
	}
	isNew := r.add(s.Facts.Item)
	hit := isNew && s.Facts.Tail > 0
	m := r.member(shortOf(s.Sender))
	if m == nil {
		r.Beyond++
		return r.Test.score(), isNew
	}
	if m.Contacts >= readerTurns && !x.told(dim, value) {
		return r.Test.score(), isNew
	}
	m.Contacts = min(m.Contacts+1, 1<<15)
	if hit {
		m.Hits = min(m.Hits+1, 1<<15)
	}
	if r.Contacts == 0 {
		r.Onset = s.Facts.Time
	}
	r.Last = s.Facts.Time
	r.Contacts++
	if hit {
		r.Hits++
	}
	r.Test.observe(x.null(e), hit, countScale, now, readerHalf)
	score := r.Test.score()
	if score >= dossierAt {
		x.note(k, s, dim, r, hit)
		if score >= readerShares {
			if x.told(dim, value) {
				x.Told.Changed = true
			}
			k.wake()
		}
	}
	return score, isNew
}

// add reports whether nobody of the crowd read the item; when too many are known
// it begins anew.
func (r *readerRow) add(item uint64) bool {
	if r.Used >= readerWords*64/4 {
		r.Used, r.Items = 0, [readerWords]uint64{}
	}
	item = pipeline.Mix64(item, 5)
	a, b := item%(readerWords*64), item>>32%(readerWords*64)
	old := r.Items[a>>6]>>(a&63)&1 == 1 && r.Items[b>>6]>>(b&63)&1 == 1
	if !old {
		r.Items[a>>6] |= 1 << (a & 63)
		r.Items[b>>6] |= 1 << (b & 63)
		r.Used++
	}
	return !old
}

// member is the sender's place; one that has nothing to do with it makes room, nil
// when all have.
func (r *readerRow) member(print uint32) *readerMember {
	for i := range r.Members[:r.N] {
		if r.Members[i].Print == print {
			return &r.Members[i]
		}
	}
	if r.N < readerMembers {
		r.N++
		r.Members[r.N-1] = readerMember{Print: print}
		return &r.Members[r.N-1]
	}
	for i := range r.Members {
		if r.Members[i].Hits == 0 {
			r.Members[i] = readerMember{Print: print}
			return &r.Members[i]
		}
	}
	return nil
}

// takes reports whether a member's contacts are rather a share of the work than a
// person's: twice as many unpopular and new ones as others have, and most of them.
func (m *readerMember) takes(null Beta) bool {
	return m.Hits >= 3 && 2*m.Hits > m.Contacts && uint64(m.Hits)*uint64(null.A+null.B) >= 3*uint64(m.Contacts)*uint64(null.A)/2
}

// takers counts those members, among all that did enough to tell.
func (r *readerRow) takers(null Beta) (n, all int) {
	for i := range r.Members[:r.N] {
		m := &r.Members[i]
		if m.Contacts >= 3 {
			all++
		}
		if m.takes(null) {
			n++
		}
	}
	return n, all
}

// excess is how many hits ordinary traffic does not explain.
func (r *readerRow) excess(null Beta) int64 {
	return int64(r.Hits) - int64(r.Contacts)*int64(null.A)/int64(null.A+null.B)
}

// note keeps the request in the crowd's file.
func (x *readership) note(k *knot, s *pipeline.Signal, dim uint8, r *readerRow, hit bool) {
	i, ok := slices.BinarySearchFunc(x.Files, r, func(f *readerFile, r *readerRow) int {
		if f.Dim != dim {
			return int(f.Dim) - int(dim)
		}
		return compare(f.Value, r.Value)
	})
	if !ok {
		if len(x.Files) >= readerFiles {
			least := -1
			for j, f := range x.Files {
				if !x.told(f.Dim, f.Value) && (least < 0 || x.score(f) < x.score(x.Files[least])) {
					least = j
				}
			}
			if x.score(x.Files[least]) >= r.Test.score() {
				return
			}
			x.Files = slices.Delete(x.Files, least, least+1)
			if least < i {
				i--
			}
		}
		x.Files = slices.Insert(x.Files, i, &readerFile{Dim: dim, Value: r.Value, Text: readerText(dim, s.Request.Request), Dossier: &dossier{Cases: make([]*caseFile, 1)}})
	}
	f := x.Files[i]
	if !hit {
		return
	}
	if k.c.cfg.Labels != nil && s.Request.Block != nil {
		f.Dossier.label(k.c.cfg.Labels[s.Request.Block.Source])
	}
	f.Dossier.note(0, s.Request, "", &s.Facts, k.templates())
	print := shortOf(s.Sender)
	j, ok := slices.BinarySearchFunc(f.Names, print, func(n named, p uint32) int { return compare(uint64(n.Print), uint64(p)) })
	if !ok && len(f.Names) < crowdShown {
		f.Names = slices.Insert(f.Names, j, named{Print: print, Who: principalOf(s)})
	}
	if len(f.Reached) < maxOwned {
		f.Reached = append(f.Reached, objectText(s.Request.Request, &s.Facts))
	} else {
		f.More = true
	}
}

func (x *readership) score(f *readerFile) pipeline.Nats {
	if r := x.find(f.Dim, f.Value); r != nil {
		return r.Test.score()
	}
	return 0
}

func (x *readership) find(dim uint8, value uint64) *readerRow {
	rows := x.Dims[dim]
	for i := range rows {
		if rows[i].Value == value {
			return &rows[i]
		}
	}
	return nil
}

func readerText(dim uint8, r *pipeline.Request) string {
	switch dim {
	case readerPair:
		return pick(r.JA4 != "", crowdText(crowdJA4, r), crowdText(crowdAgent, r)) + " from " + crowdText(crowdASN, r)
	case readerJA4:
		return crowdText(crowdJA4, r)
	case readerNet:
		return crowdText(crowdNet, r)
	case readerAgent:
		return crowdText(crowdAgent, r)
	case readerASN:
		return crowdText(crowdASN, r)
	}
	return "clients that read more than ordinary ones"
}

func (t *readingTable) tick(k *knot, at pipeline.Time) {
	for _, x := range t.All {
		x.tick(k, at)
	}
}

// evidence is what a crowd is told by.
func (x *readership) evidence(f *readerFile, r *readerRow, at pipeline.Time) pipeline.Nats {
	score := r.Test.score()
	if f.Dim == readerMuch {
		if score < readerShares {
			return 0
		}
		score, _, _ = x.scan(seconds(at))
	}
	return score
}

// tick tells of the catalogue's campaign at the end of a minute, by the smallest
// crowd that explains four fifths of the excess; as more is known that may be
// another one.
func (x *readership) tick(k *knot, at pipeline.Time) {
	e := k.b.endpoint(x.Template)
	if e == nil {
		return
	}
	null := x.null(e)
	if x.Told != nil {
		if r := x.find(x.Told.Dim, x.Told.Value); r != nil && at.Sub(r.Last) < maxCampaignQuiet {
			if !x.Told.Changed {
				return
			}
		} else {
			x.Told = nil
		}
	}
	able := func(f *readerFile) *readerRow {
		r := x.find(f.Dim, f.Value)
		if r == nil || f.Dossier.Cases[0] == nil || r.Hits < readerHits || x.evidence(f, r, at) < pipeline.PageAt {
			return nil
		}
		takers, all := r.takers(null)
		if f.Dim == readerMuch && takers >= readerLeast || f.Dim != readerMuch && takers >= readerLeast/2 && takers*5 >= all*3 {
			return r
		}
		return nil
	}
	most := int64(0)
	for _, f := range x.Files {
		if r := able(f); r != nil {
			most = max(most, r.excess(null))
		}
	}
	var best *readerFile
	var row *readerRow
	for _, f := range x.Files {
		if r := able(f); r != nil && 5*r.excess(null) >= 4*most && (best == nil || r.Contacts < row.Contacts) {
			best, row = f, r
		}
	}
	if best == nil {
		return // what was told stands
	}
	if x.Told == nil {
		x.Told = &toldCrowd{}
	}
	x.Told.Dim, x.Told.Value, x.Told.Changed = best.Dim, best.Value, false
	k.emit(x.finding(k, best, row, e, null, at))
}

func (x *readership) finding(k *knot, c *readerFile, r *readerRow, e *EndpointBaseline, null Beta, at pipeline.Time) pipeline.Finding {
	d := c.Dossier
	cf := d.Cases[0]
	scale := func(n int64) int64 {
		if c.Dim == readerMuch {
			return n
		}
		return n * 64 / contactsSampled
	}
	scanned, readers, got := x.scan(seconds(at))
	takers, _ := r.takers(null)
	total := scale(int64(takers))
	if c.Dim == readerMuch {
		total = max(total, readers)
	}
	on := cf.Endpoint.Method + " " + cf.Endpoint.Template
	f := pipeline.Finding{
		Time: at, Detector: "scrape.crawl", Level: "campaign", Wide: true, Who: pipeline.Principal{Kind: pipeline.PrincipalCohort, Value: "clients that copy " + on + " together"},
		Onset: r.Onset, First: r.Onset, Last: r.Last, Endpoint: cf.Endpoint, Score: x.evidence(c, r, at),
		MembersTotal: int(total), Predicate: c.Text,
		Addresses: slices.Clone(d.Addresses), AddressesTotal: max(len(d.Addresses), d.Distinct.count()),
		Objects: slices.Clone(c.Reached), Truncated: c.More || c.Dim != readerMuch, Agents: slices.Clone(d.Agents), JA4: slices.Clone(d.JA4),
		FirstSeen: r.Onset, Exemplars: slices.Clone(cf.Exemplars), Sampled: 1, Late: cf.Late, Backfill: cf.Backfill, Labels: maps.Clone(d.Labels),
		Attack: []string{"T1119", "T1213"}, OWASP: []string{"API6:2023"}, OAT: []string{"OAT-011"},
	}
	for _, n := range c.Names {
		for i := range r.Members[:r.N] {
			if m := &r.Members[i]; m.Print == n.Print && (c.Dim == readerMuch || m.takes(null)) {
				f.Members = append(f.Members, n.Who)
			}
		}
	}
	if x.Told.ID == "" {
		x.Told.ID, x.Onset = findingID("scrape crowd", f.Who.Hash(), r.Onset), r.Onset
	}
	f.ID, f.Onset = x.Told.ID, min(f.Onset, x.Onset)
	f.First, f.FirstSeen = f.Onset, f.Onset
	if c.Dim == readerMuch || c.Dim == readerNet || c.Dim == readerASN {
		f.Agents, f.JA4 = nil, nil // they have those in common with everybody
	}
	took := scale(int64(r.Contacts))
	mean := null.Mean()
	if c.Dim == readerMuch {
		took = got
		f.Signals = []pipeline.FindingSignal{{
			Name: "readers_over_usual", Observed: float64(readers), Expected: float64(x.came()) / 20, Count: readers, Nats: f.Score, Baseline: k.b.describe(k.b.Crawl.N),
		}}
	} else {
		f.Signals = []pipeline.FindingSignal{{
			Name: "unpopular_new_items", Observed: float64(r.Hits), Expected: float64(r.Contacts) * mean, Count: int64(r.Hits), Nats: f.Score, Baseline: k.b.baseline(e.Rare),
		}}
		// Contacts of the copy among all, from the sample; 90 %, and what most clients
		// asked for before they were looked at.
		n := float64(r.Contacts)
		mid := (float64(r.Hits) - float64(n*mean)) / (1 - mean)
		off := float64(1.645*math.Sqrt(float64(n*mean)+1)) + float64(1.645*math.Sqrt(max(mid, 0)*readerTurns))
		f.Estimate = &pipeline.Estimate{Attempts: scale(int64(max(0, mid))), Low: scale(int64(max(0, mid-off))), High: scale(int64(min(n, mid+off)+float64(1.645*math.Sqrt(n*readerTurns)/2))) + total*promoteAt}
	}
	f.Outcome = pipeline.Outcome{Requests: took, Attempted: took, Succeeded: &took, Objects: took, Basis: "status"}
	if scanned == 0 || c.Dim != readerMuch {
		f.Outcome.Basis = "unknown"
	}
	f.Title = fmt.Sprintf("%d clients copy %s together", total, on)
	common := "with one thing in common (" + c.Text + ")"
	if c.Dim == readerMuch {
		common = "that each read more than ordinary ones"
	}
	f.Reason = fmt.Sprintf("About %d clients %s took %s in %s; of those looked at, %d of %d were unpopular and new to all of them (ordinary traffic: %.0f %%): they share the work.",
		total, common, plural(took, "page or object", "pages and objects"), span(r.Last.Sub(r.Onset)), r.Hits, r.Contacts, 100*mean)
	f.Next = []string{"Challenge or rate-limit " + pick(c.Dim == readerMuch, "the listed clients", c.Text) + " on " + on}
	f.BenignIf = []string{"a new version of an app that fetches ahead", "link previews on many devices", "a load test from many addresses"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %d clients had shared out what nobody else reads", readerLeast)
	return f
}

// readingChunk is the table in a checkpoint.
type readingChunk struct {
	Layout string
	All    []*readership
	Rows   [][readerDims][]byte
}

func (t *readingTable) encode(dst []byte) ([]byte, error) {
	c := readingChunk{Layout: layoutOf(reflect.TypeFor[readerRow]()), All: t.All}
	for _, x := range t.All {
		var rows [readerDims][]byte
		for d := range rows {
			rows[d] = raw(x.Dims[d])
		}
		c.Rows = append(c.Rows, rows)
	}
	return appendJSON(dst, &c)
}

func (t *readingTable) decode(data []byte) error {
	var c readingChunk
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	if c.Layout != layoutOf(reflect.TypeFor[readerRow]()) || len(c.All) != len(c.Rows) || len(c.All) > maxReadings {
		return ErrLayout
	}
	for i, x := range c.All {
		if x == nil || len(x.Much) > maxOddReaders || len(x.Files) > readerFiles {
			return ErrLayout
		}
		for d := range x.Dims {
			if !unraw(c.Rows[i][d], &x.Dims[d], readersPerDim) {
				return ErrLayout
			}
			for j := range x.Dims[d] {
				if x.Dims[d][j].N > readerMembers {
					return ErrLayout
				}
			}
		}
		for _, f := range x.Files {
			if f == nil || f.Dim >= readerDims || f.Dossier == nil || len(f.Dossier.Cases) != 1 {
				return ErrLayout
			}
		}
	}
	t.All = c.All
	return nil
}
