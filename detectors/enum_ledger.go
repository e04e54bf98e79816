package detectors

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

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
// level at most. At least three objects. `near_id`: how many of all it came to are
// next to one another, against what clients of the endpoint do; it counts as much
// as foreign_object at most, and not for programs with a key.
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
	Evicted int64
}

// named is who a principal is, for contacts that are judged later.
type named struct {
	Print uint32
	Seen  uint32 // hours
	Who   pipeline.Principal
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
	Reader   bool     // the edition says that it always read what others own
	Known    bool     // named by the configuration
	Owners   []uint32 // sorted
	Counted  []uint64 // objects, sorted
	Reached  []string // granted ones, in order
	More     bool     // Reached is not all
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
	late := s.Kind&contactLate == contactLate
	foreign := s.Kind&contactForeign == contactForeign
	print := shortOf(s.Key)
	if !late {
		t.name(s, print)
	}
	i, ok := t.at(print)
	if !ok {
		if !foreign {
			return
		}
		if i, ok = t.make(print, i); !ok {
			return
		}
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
	l.take(k, s, foreign, late)
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
func (t *ledgerTable) name(s *pipeline.Signal, print uint32) {
	hour := uint32(max(int64(s.Facts.Time), 0) / 3600e6)
	i, ok := t.named(print)
	if ok {
		t.Names[i].Seen = hour
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
	t.Names = slices.Insert(t.Names, i, named{print, hour, principalOf(s)})
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

func (l *ledger) opened() bool { return l.Dossier != nil && l.Dossier.Cases[0].Opened }

// null is what an ordinary principal does on the endpoint, or what this one
// always did.
func (l *ledger) null(b *Baselines, share uint32) (Beta, string) {
	basis := pick(b.Clients > 0, "cohort", "prior")
	if l.OwnN >= ownHistory {
		own := uint32(l.OwnK) << 16 / uint32(l.OwnN)
		// Four times the cohort's far tail, three deviations out.
		ceiling := min(4*(share+3*root(share*(65536/shareSize))), 65536/2)
		if own = min(own, ceiling); own > share {
			share, basis = own, "own"
		}
	}
	a := max(share*shareSize*256>>16, 12)
	return Beta{a, shareSize*256 - min(a, shareSize*256-256)}, basis
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

func (l *ledger) take(k *knot, s *pipeline.Signal, foreign, late bool) {
	o := &s.Facts
	now := max(seconds(o.Time), l.share.at)
	l.share.decay(now, halfLifeSeconds)
	if l.share.score() == 0 && !l.opened() && l.Foreign > 16 {
		l.forget()
	}
	share, known := uint32(s.Value&0xffff), s.Value>>16&1 == 1
	null, basis := l.null(k.b, share)
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
	if e := k.b.endpoint(o.Template); e != nil && e.scatters() && !late && o.Has(pipeline.ObsNumber) && s.Request.Key == "" {
		l.Numbers++
		if o.Has(pipeline.ObsNear) {
			l.Near++
		}
		l.near.observe(e.Near.Beta, o.Has(pipeline.ObsNear), countScale, now, halfLifeSeconds)
		if !foreign && o.Has(pipeline.ObsNear) && k.traced() {
			k.trace(s, Traced{Detector: "enum.object", Owner: s.Sender, Score: l.score(), Counted: true})
		}
	}
	l.pace(o.Time)
	l.Known = l.Known || !late && s.Request.Flags&pipeline.FlagKnown != 0
	if !foreign {
		return
	}
	_, reader := slices.BinarySearchFunc(k.b.Readers, l.Print, func(h uint64, p uint32) int { return compare(h>>32, uint64(p)) })
	l.Share, l.Basis, l.Capped, l.Reader = share, basis, !known || reader, reader
	if l.Foreign == 0 {
		l.Onset = o.Time
	}
	l.Onset = min(l.Onset, o.Time)
	l.Foreign++
	c := l.note(k, s, late)
	if got {
		l.Granted++
		if len(l.Reached) < maxOwned {
			l.Reached = append(l.Reached, objectText(s.Request.Request, &s.Facts))
		} else {
			l.More = true
		}
	} else {
		l.Refused++
	}
	c.Score = l.score()
	if k.traced() {
		owner := l.Owner
		if owner == 0 {
			owner = uint64(l.Print) << 32
		}
		k.trace(s, Traced{Detector: "enum.object", Owner: owner, Score: c.Score, Counted: true, Late: late})
	}
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
	c.Changed = true
	k.wake()
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
	if l.Foreign < 3 {
		return 0, 0
	}
	share = l.share.score()
	near = min(l.near.score(), share)
	if l.Capped {
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

// finding is the whole case as it stands.
func (l *ledger) finding(k *knot, at pipeline.Time) pipeline.Finding {
	d := l.Dossier
	c := d.Cases[0]
	d.Who, d.Owner = l.Who, l.Owner
	low, high := 0, 0
	f := pipeline.Finding{
		Time: at, Detector: "enum.object", Level: level(l.Who.Kind), Who: l.Who, Wide: true,
		Onset: l.Onset, First: min(c.First, l.Onset), Last: max(c.Last, l.Onset), Endpoint: c.Endpoint, Score: l.score(),
		Outcome:   pipeline.Outcome{Requests: max(c.Requests, int64(l.Foreign)), Attempted: int64(l.Foreign), Objects: int64(l.Granted), Basis: "status"},
		Addresses: slices.Clone(d.Addresses), AddressesTotal: max(len(d.Addresses), d.Distinct.count()),
		Objects: slices.Clone(l.Reached), Truncated: l.More,
		Agents: slices.Clone(d.Agents), JA4: slices.Clone(d.JA4), People: [2]int{low, high},
		FirstSeen: min(c.First, l.Onset), Exemplars: slices.Clone(c.Exemplars), Sampled: 1, Late: c.Late, Backfill: c.Backfill, Labels: maps.Clone(d.Labels),
		Attack: []string{"T1213", "T1119"}, OWASP: []string{"API1:2023"}, OAT: []string{"OAT-011"},
	}
	if len(d.Addresses) < maxAddresses {
		f.AddressesTotal = len(d.Addresses)
	}
	for _, n := range l.Rate {
		f.Rate5m += int64(n)
	}
	if !c.Unsized {
		bytes := c.Bytes
		f.Outcome.Bytes = &bytes
	}
	granted, blocked := int64(l.Granted), int64(l.Refused)
	f.Outcome.Succeeded = &granted
	if blocked > 0 {
		f.Outcome.Blocked, f.Outcome.BlockedBy = &blocked, "403"
	}
	base := k.b.describe(0)
	base.Kind = l.Basis
	if e := k.b.endpoint(c.Template); l.Basis == "cohort" && e != nil {
		base = k.b.baseline(e.Share)
	}
	if l.Basis == "own" {
		base.N = int64(l.OwnN)
	}
	share, near := l.parts()
	f.Signals = []pipeline.FindingSignal{{
		Name: "foreign_object", Observed: float64(l.Foreign), Expected: float64(l.Contacts) * float64(l.Share) / 65536, Count: int64(l.Foreign), Nats: share, Baseline: base,
	}}
	if e := k.b.endpoint(c.Template); near > 0 {
		next := pipeline.FindingSignal{Name: "near_id", Observed: float64(l.Near), Count: int64(l.Near), Nats: near}
		if e != nil {
			next.Expected, next.Baseline = float64(l.Numbers)*e.Near.Mean(), k.b.baseline(e.Near)
		}
		f.Signals = append(f.Signals, next)
	}
	f.Facts.Succeeded, f.Facts.CanSucceed = l.Granted > 0 && !l.Known, true
	f.Facts.Notice = l.Known
	if c.ID == "" {
		c.ID = findingID("enum owned", l.Owner, l.Onset)
	}
	f.ID = c.ID
	l.describe(&f, c)
	return f
}

func (l *ledger) describe(f *pipeline.Finding, c *caseFile) {
	what := thingsOf(f.Endpoint.Template)
	word := pick(l.Who.Kind == pipeline.PrincipalKey, "client", "account")
	others := plural(int64(len(l.Owners)), "other "+word, "other "+word+"s")
	if len(l.Owners) >= maxOwners {
		others = "over " + others
	}
	took := f.Last.Sub(f.Onset)
	f.Title = fmt.Sprintf("Objects of others read on %s %s by %s", f.Endpoint.Method, f.Endpoint.Template, f.Who.Value)
	if l.Granted == 0 {
		f.Title = fmt.Sprintf("Objects of others asked for on %s %s by %s", f.Endpoint.Method, f.Endpoint.Template, f.Who.Value)
	}
	did := fmt.Sprintf("Read %d %s owned by %s in %s", l.Granted, what, others, span(took))
	switch {
	case l.Granted == 0:
		did = fmt.Sprintf("Asked for %d %s owned by %s in %s and got none", l.Refused, what, others, span(took))
	case l.Refused > 0:
		did += fmt.Sprintf("; %d more were refused", l.Refused)
	}
	rare := fmt.Sprintf("here 1 in %s reads is of another's", thousands(int64(65536/max(1, l.Share))))
	if l.Basis == "own" {
		rare = fmt.Sprintf("before, %d of its own %d reads were of another's", l.OwnK, l.OwnN)
	}
	f.Reason = fmt.Sprintf("%s (%s).", did, rare)
	switch {
	case l.Known:
		f.Reason += " The configuration names it as a known client."
	case l.Reader:
		f.Reason += " It read what others own before, too: support or a partner does, and a patient thief."
	case l.Capped:
		f.Reason += " Too little is known of who shares what here for more than a look."
	}
	if l.Granted > 0 {
		f.Next = append(f.Next, fmt.Sprintf("Fix the missing ownership check on %s %s", f.Endpoint.Method, f.Endpoint.Template),
			fmt.Sprintf("Treat the %d listed %s as disclosed", l.Granted, what))
	}
	f.Next = append(f.Next, blockAdvice(f))
	f.BenignIf = []string{"support or an administrator at work, or a partner's sync: name it in identity.known_clients", "people who share an account's objects on purpose"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %d of the %s had belonged to others", max(3, min(int(l.Foreign), 5)), what)
}

// thingsOf names what a template serves: "orders" of /api/orders/{uuid}.
func thingsOf(template string) string {
	if path, _, ok := strings.Cut(template, "?"); ok {
		template = path + "/{id}"
	}
	i := strings.LastIndexByte(template, '{')
	if i <= 1 {
		return "objects"
	}
	head := strings.TrimSuffix(template[:i], "/")
	word := head[strings.LastIndexByte(head, '/')+1:]
	for _, c := range []byte(word) {
		if (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return "objects"
		}
	}
	if len(word) < 3 || len(word) > 24 || !strings.HasSuffix(word, "s") {
		return "objects"
	}
	return word
}

func thousands(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
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
	for _, l := range t.Ledgers {
		if !l.share.read(l.Trial) || !l.near.read(l.Close) || l.Dossier != nil && (len(l.Dossier.Cases) != 1 || l.Dossier.Cases[0] == nil) {
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
