package detectors

import (
	"maps"
	"slices"
	"strconv"

	"weir/pipeline"
)

// visit is one principal's look at request i of a batch: its owner's, or its
// address's.
type visit struct {
	i     int32
	as    role
	aside bool     // a suppression set it aside: owner is the key of that
	spare families // that are not asked
	owner uint64
}

// role is in which quality a principal sees a request.
type role uint8

const (
	asOwner   role = iota
	asAddress      // the address owns it, whatever credential it names
	asLender       // the address, where a credential owns it
)

// readAhead is how many visits are looked up before the first of them is made:
// what each waits for in memory, it waits for together with the others.
const readAhead = 16

func (w *worker) take(batch []pipeline.Ordered) {
	w.batch, w.ahead.at = batch, -1
	for mine := range slices.Chunk(w.mine, readAhead) {
		sum := w.warm
		for _, v := range mine {
			r := batch[v.i].Request
			sum += w.v.paths[firstPlace(r.PathKey)].key + uint64(r.Status) + uint64(len(r.Referer))
			sum += w.set.shards[pipeline.Shard(v.owner)].approach(v.owner)
		}
		for _, v := range mine {
			sum += w.set.shards[pipeline.Shard(v.owner)].warm(v.owner)
		}
		w.warm = sum
		for _, v := range mine {
			w.salt, w.spare = 0, v.spare
			if v.aside {
				w.salt = asideSalt
			}
			w.visit(int(v.i), &batch[v.i], v.owner, v.as)
		}
	}
}

// visit lets every detector see request i about one principal: its owner, or
// its address when a credential owns it (borrowed).
func (w *worker) visit(i int, r *pipeline.Ordered, owner uint64, as role) {
	if r.Kind == pipeline.PrincipalNone {
		return
	}
	w.index = uint16(as&asLender) << 7
	if w.salt != 0 {
		w.index += 1 << 7
	}
	n := pipeline.Shard(owner)
	sh := w.set.shards[n]
	if sh == nil {
		sh = new(shard)
		w.set.shards[n] = sh
	}
	sh.dirty = true
	st, fresh := sh.find(owner)
	now := seconds(r.Effective)
	if fresh {
		st.first = now
	}
	st.last = now
	if st.requests < 1<<16-1 {
		st.requests++
	}
	miss := r.Status >= 400 || r.Flags&pipeline.FlagAppFailed != 0
	if st.full == 0 && st.requests < promoteAt && !miss && r.Flags&(pipeline.FlagLogin|pipeline.FlagAsks) == 0 && r.Payloads == 0 && !w.proven(r.Request, as) {
		if r.Status != 0 {
			st.hits++
		}
		if as != asLender && sampledClient(owner^w.salt) {
			w.glimpse(i, st, r)
		}
		return
	}
	if st.full != 0 && !miss && as == asOwner && w.set.cfg.Trace == nil && w.asset(sh, sh.profile(st.full-1), r) {
		return
	}
	o := &w.obs
	endpoint := w.v.observe(o, r.Request)
	o.Owner = owner ^ w.salt
	var p *Profile
	if st.full == 0 {
		p = sh.promote(st, &w.arena)
		p.Kind = r.Kind
		if as != asOwner {
			p.Kind = pipeline.PrincipalIP
		}
		// What the stub saw were hits; they speak for the principal.
		for range st.hits {
			p.probe.misses.observe(w.sc.b.Probe.Beta, false, countScale, now, halfLifeSeconds)
		}
		p.First = pipeline.Time(st.first) * 1e6
		p.Requests = uint32(st.requests) - 1
	} else {
		p = sh.profile(st.full - 1)
	}
	if day := p.touch(o.Time, o.Agent); day != 0 && w.salt == 0 {
		sh.endDay(p, day, w.sc.b)
	}
	if as == asLender {
		o.Flags |= pipeline.ObsBorrowed
		p.borrowed++
		p.credentials.add(r.Owner)
	}
	if p.Requests < 64 && w.v.declares(r.Request) {
		p.Flags |= profileDeclared
	}
	if r.Flags&pipeline.FlagKnown != 0 {
		p.Flags |= profileKnown
	}
	p.place(r.Request)
	sc := &w.sc
	sc.endpoint, sc.r = endpoint, r.Request
	sc.freshItem, sc.freshPath, sc.freshObject = false, false, false
	// A preflight leaves the first contact to the request behind it.
	if (!o.Has(pipeline.ObsStatic) || o.Has(pipeline.ObsMiss)) && !preflight(r.Request) {
		sc.freshItem = p.seen.add(o.Item, now)
		path := o.Path
		if o.Flags&(pipeline.ObsSlot|pipeline.ObsUnknown|pipeline.ObsMiss) == pipeline.ObsSlot|pipeline.ObsMiss && (endpoint != nil || p.met(o.Template)) {
			path = pipeline.Mix64(o.Template, 3) // misses of ids are enum.object's
		}
		sc.freshPath = sc.freshItem
		if path != o.Item {
			sc.freshPath = p.seen.add(path, now)
		}
	}
	if o.Flags&(pipeline.ObsLogin|pipeline.ObsAsks) != 0 && w.spare&familyAuth == 0 {
		w.account(sh, p, r, as)
	}
	entries, trace, spare := w.set.entries, w.set.cfg.Trace, w.spare
	for k, d := range w.set.detectors {
		if e := &entries[k]; e.of != 0 && o.Flags&e.of == 0 || o.Flags&e.not != 0 || spare&e.family != 0 {
			continue
		}
		score, counted := d.observe(p, o, sc)
		if trace != nil {
			trace(Traced{Detector: entries[k].name, Owner: o.Owner, Request: r, Facts: o, Score: score, Counted: counted})
		}
		if counted && score >= dossierAt {
			w.counted(i, k, score+p.listed(score), sh, n, p, r, as)
		}
	}
	if o.Object != 0 && granted(o.Status) {
		w.touch(sh, p, r)
	}
	w.follow(i, p, r)
	if as != asLender {
		w.tell(i, p, r)
	}
}

// asset counts a request for a file that a page is made of, if r is one and no
// more than that: no detector judges it. It reports whether it was.
func (w *worker) asset(sh *shard, p *Profile, r *pipeline.Ordered) bool {
	if r.Verb != pipeline.VerbGet || r.Kind != pipeline.PrincipalIP || r.Payloads != 0 || r.Flags != 0 || r.Query != "" || p.tried.at != 0 ||
		!w.v.factsOf(r.Request).asset() {
		return false
	}
	if day := p.touch(r.Effective, r.AgentKey); day != 0 && w.salt == 0 {
		sh.endDay(p, day, w.sc.b)
	}
	if p.Requests < 64 && w.v.declares(r.Request) {
		p.Flags |= profileDeclared
	}
	return true
}

// counted keeps the request as an example and emits a finding when the case
// opens or changes in kind.
func (w *worker) counted(i, k int, score pipeline.Nats, sh *shard, n uint16, p *Profile, r *pipeline.Ordered, as role) {
	s := w.set
	if s.cfg.Modes[s.entries[k].name] == ModeOff {
		return
	}
	if p.Flags&profileSuspect != 0 {
		return
	}
	who := r.Principal()
	if as != asOwner {
		who = pipeline.Principal{Kind: pipeline.PrincipalIP, Value: r.Address.PrincipalValue()}
	}
	d := sh.openCase(p.Owner, who, score, len(s.detectors))
	if d == nil {
		return
	}
	d.Aside = w.salt != 0
	if s.cfg.Labels != nil && r.Block != nil {
		d.label(s.cfg.Labels[r.Block.Source])
	}
	d.adopt(k, s.entries)
	c := d.note(k, *r, s.places.Network(r.Request), &w.obs, s.edition.Templates)
	c.Score = score
	if score < pipeline.ReviewAt && !c.Opened {
		return
	}
	phase := s.detectors[k].phase(p)
	// Background noise waits for the end of the minute: by then it may have
	// turned out to be more than that.
	quiet := s.entries[k].name == "probe.path" && phase == 0 && p.probe.missed < toldProbe
	if !quiet && (!c.Opened || phase > c.Phase || !c.Paged && score >= pipeline.PageAt) {
		if !w.proxied(i, d) {
			w.emit(i, k, p, d, c)
		}
		return
	}
	c.Opened, c.Changed = true, true
	w.hot[n] = 1
}

func (w *worker) emit(i, k int, p *Profile, d *dossier, c *caseFile) {
	f := w.finding(w.obs.Time, k, p, d, c)
	c.Opened, c.Sent, c.Changed = true, true, false
	c.Paged = c.Paged || f.Score >= pipeline.PageAt
	c.Phase = w.set.detectors[k].phase(p)
	w.out = append(w.out, placed{i, k, p.Owner, f})
}

// finding builds the whole case as it stands.
func (w *worker) finding(at pipeline.Time, k int, p *Profile, d *dossier, c *caseFile) pipeline.Finding {
	s := w.set
	low, high := p.people(s.baselines)
	f := pipeline.Finding{
		Time: at, Detector: s.entries[k].name, Level: level(d.Who.Kind), Who: d.Who,
		First: c.First, Last: c.Last, Endpoint: c.Endpoint,
		Outcome:   pipeline.Outcome{Requests: c.Requests},
		Addresses: slices.Clone(d.Addresses), AddressesTotal: max(len(d.Addresses), min(d.Distinct.count(), 1420)),
		Objects: slices.Clone(c.Objects), Truncated: c.Truncated, Supersedes: c.Supersedes,
		Agents: slices.Clone(d.Agents), JA4: slices.Clone(d.JA4), People: [2]int{low, high},
		FirstSeen: p.First, Rate5m: p.rate5m(), Exemplars: slices.Clone(c.Exemplars), Sampled: 1, Late: c.Late,
		Edition: s.hash, Aside: d.Aside, Backfill: c.Backfill, Shadow: s.cfg.Modes[s.entries[k].name] == ModeShadow, Labels: maps.Clone(d.Labels),
	}
	if len(d.Addresses) < maxAddresses {
		f.AddressesTotal = len(d.Addresses)
	}
	if !c.Unsized {
		bytes := c.Bytes
		f.Outcome.Bytes = &bytes
	}
	d.affected(&f, p)
	f.Signals = s.detectors[k].signals(nil, p, s.baselines)
	for _, sig := range f.Signals {
		f.Score += sig.Nats
	}
	f.Shares = c.shares(f.Signals)
	if n := p.listed(f.Score); n > 0 {
		f.Signals = append(f.Signals, listedSignal(n))
		f.Score += n
	}
	d.Origin.describe(&f)
	s.detectors[k].describe(&f, p, c, s.baselines)
	if f.Detector == "enum.object" {
		d.handed(&f, p.worst())
	}
	c.block(&f)
	if f.Onset == 0 {
		f.Onset = c.First
	}
	// The case file opens with the first evidence worth keeping; what the
	// detector counted before belongs to it too.
	f.Outcome.Requests = max(f.Outcome.Requests, f.Outcome.Attempted)
	if c.ID == "" {
		c.ID = findingID(family(f.Detector), p.Owner, f.Onset)
	}
	f.ID = c.ID
	f.First = min(f.First, f.Onset)
	return f
}

func findingID(family string, owner uint64, first pipeline.Time) string {
	a := pipeline.Mix64(pipeline.Mix64(pipeline.Hash64(family), owner), uint64(first))
	b := pipeline.Mix64(pipeline.Mix64(owner, pipeline.Hash64(family)), ^uint64(first))
	return hex64(a) + hex64(b)
}

func hex64(v uint64) string {
	s := strconv.FormatUint(v, 16)
	return "0000000000000000"[len(s):] + s
}

func level(k pipeline.PrincipalKind) string {
	switch k {
	case pipeline.PrincipalAccount, pipeline.PrincipalSubject:
		return "account"
	case pipeline.PrincipalKey:
		return "key"
	}
	return "client"
}
