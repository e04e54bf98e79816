package detectors

import (
	"encoding/binary"
	"errors"

	"weir/pipeline"
)

// Whose an object is shows in who comes back to it: an account, a subject or a
// key that has two accesses to an object owns it. A first contact with what
// somebody else owns is foreign: on an endpoint where that is rare, a handful
// of them is an attack, whatever the ids look like (detection.md 3.1). Three
// junctions make that up. This one, by object, says whose it is and what was
// foreign; sharing (enum_share.go), by template, says how rare that is there;
// ledgers (enum_ledger.go), by principal, add it up and tell.
//
// Contacts travel object → template → principal as signals of kind contact*.

// What a contact signal says, in Signal.Kind; the high bits keep it apart from
// what others send to the same keys.
const (
	contactOwn     uint8 = 0x40             // a first contact that is not foreign as far as is known
	contactForeign uint8 = contactOwn | 0x1 // of another's object
	contactLate    uint8 = contactOwn | 0x2 // judged later: the request at hand is the owner's, not the sender's
	contactRival   uint8 = contactOwn | 0x4 // late, and the sender owns it too: one such a rival counts
	contactAbsent  uint8 = contactOwn | 0x8 // refused, of what nobody was granted
	contactAgain   uint8 = contactOwn | 0xc // granted a second time: the object may be its own
	contactMask    uint8 = 0xf0
)

const (
	ownerWays = 16
	ownerSets = 128 // at most: 2,048 objects a virtual shard, 8 million in all, 200 MB
	// ownedFor is how long an owner who does not come back stays one, and
	// pendingFor how long a contact waits for the owner to become known; hours.
	ownedFor   = 30 * 24
	pendingFor = 7 * 24
)

// holding is one object and up to two principals who came to it: its owner, a
// second owner, or those whose contact waits until an owner is known. 24 bytes.
type holding struct {
	print uint32    // of the object; 0 none
	who   [2]uint32 // the high half of a principal's hash
	hour  [2]uint16 // of the last contact, hours since 1970, cut
	home  [2]uint16 // of the address it came from
	what  [2]uint8
}

const (
	holdHere    uint8 = 1 << iota // the place is taken
	holdCanOwn                    // a subject, an account or a key
	holdOwns                      // two accesses
	holdRefused                   // the pending contact was refused
	holdKind    = 4               // PrincipalKind from this bit on
)

// ownerJunction is the object → owner table.
type ownerJunction struct{}

func (ownerJunction) name() string                  { return "enum.object" }
func (ownerJunction) wants(m pipeline.Meeting) bool { return m == pipeline.MeetResource }
func (ownerJunction) open() table                   { return new(ownerTable) }

type ownerTable struct {
	slots []holding // a power of two times ownerWays
	used  int
}

// ownable reports whether ownership can matter for a request: where accounts or
// keys are served and nobody else, and where that is not known, if somebody asks
// who can own. What strangers are served, too, is nobody's secret.
func ownable(r *pipeline.Request, e *EndpointBaseline) bool {
	if e != nil {
		return e.Guarded || e.Keyed
	}
	return r.Kind >= pipeline.PrincipalKey
}

// ownerContact tells whether o is a contact with an object that correlate wants to
// know of: the first two with each.
func (p *Profile) ownerContact(o *pipeline.Observation, r *pipeline.Request, fresh bool) bool {
	if o.Object == 0 || o.Flags&(pipeline.ObsLogin|pipeline.ObsStatic|pipeline.ObsAuto|pipeline.ObsUnknown) != 0 || r.Verb == pipeline.VerbOptions {
		return false
	}
	if !granted(o.Status) && !refusedObject(o.Status) || p.Flags&profileSuspect != 0 {
		return false
	}
	return fresh || p.again.add(pipeline.Mix64(o.Object, o.Template), seconds(o.Time))
}

func granted(status uint16) bool { return status >= 200 && status < 300 || status == 304 }

func refusedObject(status uint16) bool { return status == 403 || status == 404 || status == 410 }

// hoursOf is event time in hours; ages are their differences, so that the cut
// does no harm within seven years.
func hoursOf(t pipeline.Time) uint16 { return uint16(max(int64(t), 0) / 3600e6) }

func shortOf(hash uint64) uint32 { return uint32(hash >> 32) }

func homeOf(a pipeline.Address) uint16 { return uint16(a.Owner()>>8) | 1 }

func (t *ownerTable) meet(k *knot, s *pipeline.Signal) {
	o := &s.Facts
	got := granted(o.Status)
	h := t.find(s.Key, got, hoursOf(o.Time))
	if h == nil && t.elsewhere(k, s) != 0 {
		k.send(ownerContact(s, contactForeign, t.elsewhere(k, s)))
		return
	}
	if h == nil {
		k.send(ownerContact(s, contactAbsent, 0)) // nobody was ever granted it: it may not exist
		return
	}
	who, hour := shortOf(s.Sender), hoursOf(o.Time)
	kind := pipeline.PrincipalIP
	if s.Request.Owner == s.Sender {
		kind = s.Request.Kind
	}
	canOwn := kind == pipeline.PrincipalKey || kind == pipeline.PrincipalAccount || kind == pipeline.PrincipalSubject
	home := uint16(0)
	if !s.Request.Address.IsZero() {
		home = homeOf(s.Request.Address)
	}
	h.expire(hour)
	for i := range h.who {
		if h.what[i]&holdHere == 0 || h.who[i] != who {
			continue
		}
		if !got {
			return
		}
		h.hour[i], h.home[i] = hour, home
		h.what[i] &^= holdRefused
		if h.what[i]&holdOwns == 0 {
			k.send(ownerContact(s, contactAgain, 0))
		}
		if canOwn && h.what[i]&holdOwns == 0 {
			h.what[i] |= holdOwns
			h.settle(k, s, i)
		}
		return
	}
	foreign, owned, by := false, false, uint32(0)
	for i := range h.who {
		if h.what[i]&holdOwns == 0 {
			continue
		}
		owned = true
		if h.same(i, s, kind, home) {
			foreign = false
			break
		}
		foreign, by = true, h.who[i]
	}
	if !owned {
		by = t.elsewhere(k, s)
		foreign = by != 0
	}
	next := ownerContact(s, contactOwn, 0)
	if foreign {
		next = ownerContact(s, contactForeign, by)
	}
	k.send(next)
	// It waits for an owner to become known, or to become another owner itself.
	at := 1
	if h.what[0]&holdHere == 0 {
		at = 0
	} else if h.what[1]&holdOwns != 0 {
		at = 0
		if h.what[0]&holdOwns != 0 {
			return // it has two owners
		}
	}
	if !got && h.what[at]&holdHere != 0 {
		return
	}
	h.who[at], h.hour[at], h.home[at] = who, hour, home
	h.what[at] = holdHere | uint8(kind)<<holdKind
	if canOwn {
		h.what[at] |= holdCanOwn
	}
	if !got {
		h.what[at] |= holdRefused
	}
	if owned {
		h.hour[at] -= pendingFor // it was judged; only its return matters
	}
}

// elsewhere is the owner whose the object is by the ordinary table, where s is set
// aside and the sender is somebody else; 0 for none.
func (t *ownerTable) elsewhere(k *knot, s *pipeline.Signal) (by uint32) {
	ordinary, ok := k.ordinary().(*ownerTable)
	if !ok {
		return 0
	}
	h := ordinary.find(s.Key, false, hoursOf(s.Facts.Time))
	if h == nil {
		return 0
	}
	kind, home := pipeline.PrincipalIP, uint16(0)
	if s.Request.Owner == s.Sender {
		kind = s.Request.Kind
	}
	if !s.Request.Address.IsZero() {
		home = homeOf(s.Request.Address)
	}
	for i := range h.who {
		switch {
		case h.what[i]&holdOwns == 0 || hoursOf(s.Facts.Time)-h.hour[i] > ownedFor:
		case h.who[i] == shortOf(s.Sender) || h.same(i, s, kind, home):
			return 0
		default:
			by = h.who[i]
		}
	}
	return by
}

// same reports whether the sender of s may be the owner in place i under
// another name: the credential that the server refused was the owner's, or an
// identity of another kind came from where the owner is.
func (h *holding) same(i int, s *pipeline.Signal, kind pipeline.PrincipalKind, home uint16) bool {
	if home != 0 && h.home[i] == home && pipeline.PrincipalKind(h.what[i]>>holdKind) != kind {
		return true
	}
	r := s.Request.Request
	of := func(k pipeline.PrincipalKind, token string) bool {
		return token != "" && shortOf(pipeline.HashPrincipal(k, token)) == h.who[i]
	}
	return of(pipeline.PrincipalAccount, r.Account) || of(pipeline.PrincipalSubject, r.Account) || of(pipeline.PrincipalKey, r.Key)
}

// settle judges who came before the owner in place i was known.
func (h *holding) settle(k *knot, s *pipeline.Signal, i int) {
	j := 1 - i
	if h.what[j]&holdHere == 0 || h.what[j]&holdOwns == 0 && hoursOf(s.Facts.Time)-h.hour[j] >= pendingFor {
		return
	}
	if h.home[j] != 0 && h.home[j] == h.home[i] && h.what[j]>>holdKind != h.what[i]>>holdKind {
		return
	}
	next := ownerContact(s, contactForeign|contactLate, h.who[i])
	if h.what[j]&holdOwns != 0 {
		next.Kind |= contactRival
	}
	next.Sender = uint64(h.who[j]) << 32
	next.Facts.Owner = next.Sender
	next.Facts.Time -= pipeline.Time(hoursOf(s.Facts.Time)-h.hour[j]) * 3600e6
	next.Facts.Status = 200
	if h.what[j]&holdRefused != 0 {
		next.Facts.Status = 403
	}
	k.send(next)
}

// contact is s on its way to the template; by is the owner.
func ownerContact(s *pipeline.Signal, kind uint8, by uint32) pipeline.Signal {
	next := *s
	next.Meeting, next.Key, next.Kind, next.Value = pipeline.MeetTemplate, s.Facts.Template, kind, uint64(by)<<32
	return next
}

// expire forgets owners who stayed away; who waits is left, since only its age
// decides whether it is judged.
func (h *holding) expire(hour uint16) {
	for i := range h.what {
		if h.what[i]&holdOwns != 0 && hour-h.hour[i] > ownedFor {
			h.what[i] = 0
		}
	}
}

// find returns the object's holding, making one if create is set.
func (t *ownerTable) find(object uint64, create bool, hour uint16) *holding {
	print := max(uint32(object), 1)
	if t.slots == nil {
		if !create {
			return nil
		}
		t.slots = make([]holding, ownerWays)
	}
	for {
		set := t.set(object)
		free := -1
		for i := range set {
			if set[i].print == print {
				return &set[i]
			}
			if set[i].print == 0 && free < 0 {
				free = i
			}
		}
		switch {
		case !create:
			return nil
		case free >= 0:
			t.used++
			set[free] = holding{print: print}
			return &set[free]
		case len(t.slots) < ownerWays*ownerSets:
			t.grow()
			continue
		}
		// The one silent longest goes, those without an owner first; then by print.
		victim := 0
		for i := range set {
			a, b := set[i].age(hour), set[victim].age(hour)
			if a > b || a == b && set[i].print < set[victim].print {
				victim = i
			}
		}
		set[victim] = holding{print: print}
		return &set[victim]
	}
}

// age is how dispensable h is.
func (h *holding) age(hour uint16) int {
	age := 1 << 20
	for i := range h.what {
		switch {
		case h.what[i]&holdOwns != 0:
			age = min(age, int(hour-h.hour[i]))
		case h.what[i]&holdHere != 0:
			age = min(age, 1<<16+int(hour-h.hour[i]))
		}
	}
	return age
}

// set returns the places where the object may be, from its print alone, so that
// a grown table finds them again.
func (t *ownerTable) set(object uint64) []holding {
	n := uint64(len(t.slots) / ownerWays)
	i := uint64(uint32(object)*0x9e3779b1>>16) & (n - 1)
	return t.slots[i*ownerWays : (i+1)*ownerWays]
}

func (t *ownerTable) grow() {
	old := t.slots
	t.slots = make([]holding, 2*len(old))
	for i := range old {
		if old[i].print == 0 {
			continue
		}
		set := t.set(uint64(old[i].print))
		for j := range set {
			if set[j].print == 0 {
				set[j] = old[i]
				break
			}
		}
	}
}

func (*ownerTable) tick(*knot, pipeline.Time) {}

const (
	holdingBytes = 24
	ownerVersion = 1
)

func (t *ownerTable) encode(dst []byte) ([]byte, error) {
	le := binary.LittleEndian
	dst = append(dst, ownerVersion)
	dst = le.AppendUint32(dst, uint32(len(t.slots)))
	for i := range t.slots {
		h := &t.slots[i]
		if h.print == 0 {
			continue
		}
		dst = le.AppendUint32(dst, uint32(i))
		dst = le.AppendUint32(dst, h.print)
		for j := range h.who {
			dst = le.AppendUint32(dst, h.who[j])
			dst = le.AppendUint16(dst, h.hour[j])
			dst = le.AppendUint16(dst, h.home[j])
			dst = append(dst, h.what[j])
		}
	}
	return dst, nil
}

var errTable = errors.New("no table of this version")

func (t *ownerTable) decode(data []byte) error {
	le := binary.LittleEndian
	const each = 8 + 2*9
	if len(data) < 5 || data[0] != ownerVersion || (len(data)-5)%each != 0 {
		return errTable
	}
	n := int(le.Uint32(data[1:]))
	data = data[5:]
	if n == 0 {
		return nil
	}
	if n > ownerWays*ownerSets || n%ownerWays != 0 || n/ownerWays&(n/ownerWays-1) != 0 {
		return errTable
	}
	t.slots = make([]holding, n)
	for ; len(data) > 0; data = data[each:] {
		i := int(le.Uint32(data))
		if i >= n || t.slots[i].print != 0 || le.Uint32(data[4:]) == 0 {
			return errTable
		}
		h := &t.slots[i]
		h.print = le.Uint32(data[4:])
		for j := range h.who {
			d := data[8+9*j:]
			h.who[j], h.hour[j], h.home[j], h.what[j] = le.Uint32(d), le.Uint16(d[4:]), le.Uint16(d[6:]), d[8]
		}
		t.used++
	}
	return nil
}
