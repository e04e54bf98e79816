package detectors

import (
	"encoding/binary"
	"encoding/json"
	"slices"

	"weir/pipeline"
)

// ledgerJunction adds up, by principal, the contacts with objects of others.
//
// Evidence: `foreign_object`, each first contact with another's object against
// the share of such contacts on that endpoint; the first object of each owner
// counts fully, further ones a quarter, since who shares one thing with somebody
// shares several. Refused contacts count as granted ones do. A principal with a
// history of its own (50 contacts made while nothing was held against it) is
// measured against that, up to four times what its cohort does at most. What is
// not known of the endpoint, or is a reader that the edition names, reaches review
// level at most. At least three objects for a page. `near_id`: how many of all it
// came to are next to one another, against what clients of the endpoint do; it
// counts as much as foreign_object at most, alone to review level, and not for
// programs with a key.
type ledgerJunction struct{}

func (ledgerJunction) name() string                  { return "enum.object" }
func (ledgerJunction) wants(m pipeline.Meeting) bool { return m == pipeline.MeetPrincipal }
func (ledgerJunction) open() table                   { return new(ledgerTable) }

// The bounds of one virtual shard, and of one ledger.
const (
	maxLedgers = 32  // 131,000 in all
	maxNames   = 128 // principals whose name may yet be needed: 524,000 in all
	maxOwned   = 100 // objects listed
	maxCounted = 512 // objects told apart
	maxOwners  = 128 // owners told apart
	ownHistory = 50
)

type ledgerTable struct {
	Names   []named   // sorted by print
	Ledgers []*ledger // sorted by print
	Recent  recentContacts
	Evicted int64
}

// named is who a principal is, for contacts that are judged later.
// It is also how much it comes to day by day: who reads many objects every day, and
// never came under suspicion for it, does its work.
type named struct {
	Print uint32
	Seen  uint32 // hours
	Who   pipeline.Principal
	Today uint16 // first contacts of the day of Seen
	Usual uint16 // on a broad day
	Days  uint8  // broad days without suspicion
}

// What makes a day broad, how many of them make a habit, and how many times the
// usual is no longer it.
const (
	broadDay   = readerOwners
	habitDays  = readerDays
	habitTimes = 4
)

// count takes a first contact; calm says that nothing was paged for.
func (n *named) count(hour uint32, calm bool) {
	if hour/24 != n.Seen/24 {
		switch {
		case !calm:
			n.Days = 0
		case n.Today < broadDay:
		case n.Days == 0:
			n.Days, n.Usual = 1, n.Today
		default:
			n.Days = min(n.Days, 254) + 1
			n.Usual = uint16((3*uint32(n.Usual) + uint32(n.Today)) / 4)
		}
		n.Today = 0
	}
	n.Today, n.Seen = bump(n.Today), hour
}

// habitual reports whether what the principal does today is what it always does.
func (n *named) habitual() bool {
	return n.Days >= habitDays && uint32(n.Today) <= habitTimes*uint32(n.Usual)
}

// ledger is one principal's contacts with objects of others.
type ledger struct {
	Print    uint32
	Owner    uint64 // 0 while only its print is known
	Who      pipeline.Principal
	Trial    []byte `json:",omitempty"` // of share, in a checkpoint
	Contacts uint32 // since the first foreign one
	Foreign  uint32 // objects
	Refused  uint32
	Granted  uint32
	Numbers  uint32 // contacts whose id is a number
	Near     uint32 // of those, next to another
	Close    []byte `json:",omitempty"` // of near, in a checkpoint
	OwnK     uint16
	OwnN     uint16
	Share    uint32 // expected on the endpoint, 1/65536
	Basis    string // what it was compared with
	Capped   bool
	Reader   bool      // it always read what others own, as the edition says or its days
	Program  bool      // keys are for that here
	Known    bool      // named by the configuration
	Owners   []uint32  // sorted
	Counted  []uint64  // objects, sorted
	Reached  reachList // granted ones, whoever owns them
	Told     uint32    // foreign ones when it was last told
	Loose    uint32    // of the foreign ones, on endpoints of which too little is known
	Absent   uint32    // others that it asked for and did not get
	Onset    pipeline.Time
	Dossier  *dossier
	Rate     [6]uint16
	RateAt   int64

	share trial
	near  trial
}

func (t *ledgerTable) meet(k *knot, s *pipeline.Signal) {
	if s.Kind&contactMask != contactOwn {
		return
	}
	print := shortOf(s.Key)
	i, ok := t.at(print)
	switch {
	case s.Kind == contactAgain && ok:
		t.Ledgers[i].Reached.again(s.Facts.Object)
		return
	case s.Kind == contactAgain:
		t.Recent.again(uint64(print), s.Facts.Object)
		return
	case s.Kind == contactAbsent:
		if ok {
			t.Ledgers[i].absent(k, s.Facts.Time)
		}
		return
	}
	late := s.Kind&contactLate == contactLate
	foreign := s.Kind&contactForeign == contactForeign
	if !late {
		t.name(s, print, !ok || !t.Ledgers[i].paged())
	}
	if !ok {
		if !foreign {
			if !late && granted(s.Facts.Status) {
				t.Recent.remember(uint64(print), s.Facts.Object, s.Facts.Template, s.Facts.Time, s.Request.Request, &s.Facts)
			}
			return
		}
		if i, ok = t.make(print, i); !ok {
			return
		}
		t.begin(k, t.Ledgers[i], s)
	}
	l := t.Ledgers[i]
	if !late && l.Owner == 0 {
		l.Owner, l.Who = s.Sender, principalOf(s)
	}
	if l.Owner == 0 {
		if j, ok := t.named(print); ok {
			l.Who = t.Names[j].Who
			l.Owner = l.Who.Hash()
		}
	}
	habit := false
	if j, ok := t.named(print); ok {
		habit = t.Names[j].habitual()
	}
	l.take(k, s, foreign, late, habit)
}

// begin gives a new ledger what its principal did before its first contact with
// another's object.
func (t *ledgerTable) begin(k *knot, l *ledger, s *pipeline.Signal) {
	t.Recent.recall(&l.Reached, uint64(l.Print), s.Facts.Time, func(c *recentContact) {
		if c.Near != 0 && s.Kind&contactLate != contactLate && s.Request.Key == "" {
			l.beside(k.b.endpoint(c.Template), c.Near == ringNear, seconds(c.Time))
		}
	})
}

// beside takes the next number that the principal asked for.
func (l *ledger) beside(e *EndpointBaseline, near bool, now uint32) {
	if e == nil || !e.scatters() {
		return
	}
	l.Numbers++
	if near {
		l.Near++
	}
	l.near.observe(e.Near.Beta, near, countScale, now, halfLifeSeconds)
}

// principalOf is the sender of s by name.
func principalOf(s *pipeline.Signal) pipeline.Principal {
	who := pipeline.Principal{Kind: pipeline.PrincipalIP, Value: s.Request.Address.PrincipalValue()}
	if s.Request.Owner == s.Sender {
		who = s.Request.Principal()
		who.Value = clean(who.Value, 256)
	}
	return who
}

func (t *ledgerTable) named(print uint32) (int, bool) {
	return slices.BinarySearchFunc(t.Names, print, func(n named, p uint32) int { return compare(uint64(n.Print), uint64(p)) })
}

// name remembers who the sender is; the one not seen longest makes room.
func (t *ledgerTable) name(s *pipeline.Signal, print uint32, calm bool) {
	hour := uint32(max(int64(s.Facts.Time), 0) / 3600e6)
	i, ok := t.named(print)
	if ok {
		t.Names[i].count(hour, calm)
		return
	}
	if len(t.Names) >= maxNames {
		oldest := 0
		for j := range t.Names {
			if t.Names[j].Seen < t.Names[oldest].Seen {
				oldest = j
			}
		}
		t.Names = slices.Delete(t.Names, oldest, oldest+1)
		i, _ = t.named(print)
	}
	t.Names = slices.Insert(t.Names, i, named{Print: print, Seen: hour, Who: principalOf(s), Today: 1})
}

func (t *ledgerTable) at(print uint32) (int, bool) {
	return slices.BinarySearchFunc(t.Ledgers, print, func(l *ledger, p uint32) int { return compare(uint64(l.Print), uint64(p)) })
}

// make adds a ledger where i says; the one with the least evidence makes room,
// none that was told of.
func (t *ledgerTable) make(print uint32, i int) (int, bool) {
	if len(t.Ledgers) >= maxLedgers {
		least := -1
		for j, l := range t.Ledgers {
			if l.opened() {
				continue
			}
			if least < 0 || l.share.score() < t.Ledgers[least].share.score() ||
				l.share.score() == t.Ledgers[least].share.score() && l.share.at < t.Ledgers[least].share.at {
				least = j
			}
		}
		if least < 0 {
			// All were told of: the oldest goes.
			least = 0
			for j, l := range t.Ledgers {
				if l.share.at < t.Ledgers[least].share.at {
					least = j
				}
			}
		}
		t.Evicted++
		t.Ledgers = slices.Delete(t.Ledgers, least, least+1)
		i, _ = t.at(print)
	}
	t.Ledgers = slices.Insert(t.Ledgers, i, &ledger{Print: print})
	return i, true
}

func (l *ledger) paged() bool { return l.opened() && l.Dossier.Cases[0].Paged }

func (l *ledger) opened() bool { return l.Dossier != nil && l.Dossier.Cases[0].Opened }

// null is what an ordinary principal does on the endpoint, or what this one
// always did.
func (l *ledger) null(b *Baselines, e *EndpointBaseline, share uint32) (Beta, string) {
	size := (b.Share.A + b.Share.B) / 256
	if e != nil && e.Share.N >= 20 {
		size = (e.Share.A + e.Share.B) / 256
	}
	basis := pick(b.Clients > 0, "cohort", "prior")
	if l.OwnN >= ownHistory {
		own := uint32(l.OwnK) << 16 / uint32(l.OwnN)
		// Four times the cohort's far tail, three deviations out.
		ceiling := min(4*(share+3*root(share*65536/size)), 65536/2)
		if own = min(own, ceiling); own > share {
			share, basis = own, "own"
		}
	}
	a := max(share*size*256>>16, 12)
	return Beta{a, size*256 - min(a, size*256-256)}, basis
}

// root is the integer square root.
func root(x uint32) uint32 {
	r := uint32(0)
	for bit := uint32(1 << 15); bit > 0; bit >>= 1 {
		if n := r + bit; uint64(n)*uint64(n) <= uint64(x) {
			r = n
		}
	}
	return r
}

func (l *ledger) take(k *knot, s *pipeline.Signal, foreign, late, habit bool) {
	o := &s.Facts
	now := max(seconds(o.Time), l.share.at)
	l.share.decay(now, halfLifeSeconds)
	if l.share.score() == 0 && !l.opened() && l.Foreign > 16 {
		l.forget()
	}
	share, known := uint32(s.Value&0xffff), s.Value>>16&1 == 1
	null, basis := l.null(k.b, k.b.endpoint(o.Template), share)
	got := granted(o.Status)
	owner := uint32(s.Value >> 32)
	weight := uint32(countScale)
	if foreign {
		j, old := slices.BinarySearch(l.Owners, owner)
		if old {
			weight /= 4
			if s.Kind&contactRival == contactRival {
				return
			}
		}
		thing := pipeline.Mix64(o.Object, pick64(got, 1, 2))
		at, again := slices.BinarySearch(l.Counted, thing)
		if again {
			l.Reached.again(o.Object)
			return
		}
		if len(l.Counted) < maxCounted {
			l.Counted = slices.Insert(l.Counted, at, thing)
		}
		if !old && len(l.Owners) < maxOwners {
			l.Owners = slices.Insert(l.Owners, j, owner)
		}
	}
	l.Contacts++
	if l.share.score() < 3*pipeline.Nat {
		l.OwnN++
		if foreign {
			l.OwnK++
		}
		if l.OwnN > 200 {
			l.OwnN, l.OwnK = l.OwnN/2, l.OwnK/2
		}
	}
	l.share.observe(null, foreign, weight, now, halfLifeSeconds)
	l.near.decay(now, halfLifeSeconds)
	if !late && o.Has(pipeline.ObsNumber) && s.Request.Key == "" {
		l.beside(k.b.endpoint(o.Template), o.Has(pipeline.ObsNear), now)
		if !foreign && o.Has(pipeline.ObsNear) && k.traced() {
			k.trace(s, Traced{Detector: "enum.object", Owner: s.Sender, Score: l.score(), Counted: true})
		}
	}
	l.pace(o.Time)
	l.Known = l.Known || !late && s.Request.Flags&pipeline.FlagKnown != 0
	l.reach(s, foreign, got)
	if !foreign {
		l.grow(k, o.Time)
		if l.Dossier != nil {
			l.tell(k)
		}
		return
	}
	_, reader := slices.BinarySearchFunc(k.b.Readers, l.Print, func(h uint64, p uint32) int { return compare(h>>32, uint64(p)) })
	reader = reader || habit
	e := k.b.endpoint(o.Template)
	l.Program = l.Who.Kind == pipeline.PrincipalKey && e != nil && e.Programs
	if !known {
		l.Loose++
	}
	l.Share, l.Basis, l.Capped, l.Reader = share, basis, 2*l.Loose > l.Foreign || reader || l.Program, reader
	if l.Foreign == 0 {
		l.Onset = o.Time
	}
	l.Onset = min(l.Onset, o.Time)
	l.Foreign++
	c := l.note(k, s, late)
	if got {
		l.Granted++
	} else {
		l.Refused++
	}
	if k.traced() {
		owner := l.Owner
		if owner == 0 {
			owner = uint64(l.Print) << 32
		}
		k.trace(s, Traced{Detector: "enum.object", Owner: owner, Score: l.score(), Counted: true, Late: late})
	}
	// Whose an object was that it came to days ago is news when there are many more
	// of them.
	if c.Changed = c.Changed || !late || l.Foreign >= 2*l.Told; !late || l.Foreign >= 2*l.Told || !c.Opened {
		l.tell(k)
	}
}

// tell emits what is news, or leaves it to the end of the minute.
func (l *ledger) tell(k *knot) {
	c := l.Dossier.Cases[0]
	c.Score = l.score()
	if l.Who.Kind == pipeline.PrincipalNone || c.Score < pipeline.ReviewAt && !c.Opened {
		return
	}
	phase := l.phase(c.Score)
	if !c.Opened || phase > c.Phase || !c.Paged && c.Score >= pipeline.PageAt {
		k.emit(l.finding(k, k.now))
		c.Opened, c.Sent, c.Changed = true, true, false
		c.Paged = c.Paged || c.Score >= pipeline.PageAt
		c.Phase = phase
		return
	}
	if c.Changed {
		k.wake()
	}
}

// reach lists a contact. As long as little is held against the principal, what
// nobody is known to own is listed for a day.
func (l *ledger) reach(s *pipeline.Signal, foreign, got bool) {
	o := &s.Facts
	if !got {
		if !foreign {
			l.Absent++
		}
		return
	}
	if !l.opened() && l.share.score() < dossierAt {
		l.Reached.drop(o.Time - contactGap)
	}
	l.Reached.add(reached{Thing: o.Object, Template: o.Template, Time: o.Time, Text: objectText(s.Request.Request, o), Foreign: foreign})
}

// absent counts an object that is not there, or that nobody was granted.
func (l *ledger) absent(k *knot, at pipeline.Time) {
	l.Absent++
	l.grow(k, at)
}

// grow says at the end of the minute that an open case has more to tell.
func (l *ledger) grow(k *knot, at pipeline.Time) {
	if l.opened() {
		c := l.Dossier.Cases[0]
		c.Changed, c.Last = true, max(c.Last, at)
		k.wake()
	}
}

// forget starts over after evidence came to nothing; the history stays.
func (l *ledger) forget() {
	*l = ledger{Print: l.Print, Owner: l.Owner, Who: l.Who, OwnK: l.OwnK, OwnN: l.OwnN, Known: l.Known, share: l.share, near: l.near, Rate: l.Rate, RateAt: l.RateAt}
}

func pick64(is bool, yes, no uint64) uint64 {
	if is {
		return yes
	}
	return no
}

func (l *ledger) score() pipeline.Nats {
	share, near := l.parts()
	return share + near
}

// parts are the lines of evidence.
func (l *ledger) parts() (share, near pipeline.Nats) {
	share, near = l.share.score(), l.near.score()
	if l.Foreign < 3 {
		// Of one or two others' a row of ids says more than whose they are.
		share = min(share, near, slowCap/2)
		near = min(near, slowCap-share)
	} else {
		near = min(near, max(share, slowCap-share))
	}
	if l.Capped || l.Granted == 0 {
		share = min(share, slowCap)
		near = min(near, slowCap-share)
	}
	return share, near
}

func (l *ledger) phase(score pipeline.Nats) uint8 {
	if l.Granted > 0 && score >= pipeline.PageAt {
		return 1
	}
	return 0
}

// pace counts contacts by the minute.
func (l *ledger) pace(at pipeline.Time) {
	minute := int64(at) / 60e6
	if d := minute - l.RateAt; d > 0 {
		for i := len(l.Rate) - 1; i >= 0; i-- {
			l.Rate[i] = 0
			if j := int64(i) - d; j >= 0 {
				l.Rate[i] = l.Rate[j]
			}
		}
		l.RateAt = minute
	}
	if l.Rate[0] < 1<<16-1 {
		l.Rate[0]++
	}
}

// note keeps the request; of a contact judged late only what it was about is
// known.
func (l *ledger) note(k *knot, s *pipeline.Signal, late bool) *caseFile {
	if l.Dossier == nil {
		l.Dossier = &dossier{Owner: l.Owner, Who: l.Who, Cases: make([]*caseFile, 1)}
	}
	d := l.Dossier
	if !late {
		r := s.Request
		if k.c.cfg.Labels != nil && r.Block != nil {
			d.label(k.c.cfg.Labels[r.Block.Source])
		}
		return d.note(0, r, "", &s.Facts, k.templates())
	}
	c := d.Cases[0]
	if c == nil {
		c = &caseFile{First: s.Facts.Time, Last: s.Facts.Time, Backfill: s.Request.Flags&pipeline.FlagBackfill != 0, Template: s.Facts.Template, Endpoint: endpointAt(k, s)}
		d.Cases[0] = c
	}
	c.First = min(c.First, s.Facts.Time)
	c.Requests++
	c.Unsized = true
	return c
}

func (t *ledgerTable) tick(k *knot, at pipeline.Time) {
	for _, l := range t.Ledgers {
		if l.Dossier == nil {
			continue
		}
		if c := l.Dossier.Cases[0]; c.Changed && c.Opened {
			c.Changed = false
			k.emit(l.finding(k, at))
		}
	}
}

func (t *ledgerTable) encode(dst []byte) ([]byte, error) {
	for _, l := range t.Ledgers {
		l.Trial, l.Close = l.share.append(l.Trial[:0]), l.near.append(l.Close[:0])
	}
	data, err := json.Marshal(t)
	return append(dst, data...), err
}

func (t *ledgerTable) decode(data []byte) error {
	if err := json.Unmarshal(data, t); err != nil {
		return err
	}
	if !t.Recent.valid() {
		return errTable
	}
	for _, l := range t.Ledgers {
		if l == nil || !l.share.read(l.Trial) || !l.near.read(l.Close) || l.Dossier != nil && (len(l.Dossier.Cases) != 1 || l.Dossier.Cases[0] == nil) {
			return errTable
		}
	}
	return nil
}

const trialBytes = 4 + 3*8

// append writes t for a checkpoint.
func (t *trial) append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, t.at)
	for _, b := range t.branch {
		dst = le.AppendUint32(dst, uint32(b.s))
		dst = le.AppendUint16(dst, b.k)
		dst = le.AppendUint16(dst, b.n)
	}
	return dst
}

// read is append's inverse; false when data is none.
func (t *trial) read(data []byte) bool {
	if len(data) != trialBytes {
		return false
	}
	le := binary.LittleEndian
	t.at = le.Uint32(data)
	for i := range t.branch {
		d := data[4+8*i:]
		t.branch[i] = branch{int32(le.Uint32(d)), le.Uint16(d[4:]), le.Uint16(d[6:])}
	}
	return true
}
