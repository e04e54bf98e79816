package detectors

import (
	"fmt"
	"math/bits"
	"strings"

	"weir/pipeline"
)

// injectProbe sees clients that try attacks on inputs: SQL, script, traversal,
// commands, templates, in parameters, path slots and headers. It is no WAF: one
// odd value is nothing, what counts is how many different ones a client tries.
//
// Evidence: each distinct (endpoint, slot, shape) counts once for a principal,
// and so does each mixture of shapes, for less.
// New pairs against other new inputs are tested with the cohort's over-dispersed
// share; shapes that ordinary text does not have (pipeline.PayloadWeak has those
// that it does) add how much rarer they are among people, up to the cap of one
// event, unless ordinary clients send that shape to that endpoint (search boxes,
// code fields: the fit knows). A shape in a slot that otherwise holds a number or
// a uuid, and the first server error on a slot, are pairs of their own. At
// least three pairs from at least three requests.
//
// An answer of 5xx, or one larger than the endpoint gives in 999 of 1,000, is a
// possible effect: said in the reason, and reason enough for high severity.
//
// Misses: bodies, which logs do not have; payloads written for one target in
// plain words. Looks like it: a security scan that was ordered, an editor or a
// search for code on an endpoint that nobody else uses. Half-life 7 days.
// OWASP API8, ATT&CK T1190.
type injectProbe struct{}

// injectState is 136 bytes.
type injectState struct {
	odd    trial
	listed int32         // Nats from shapes that ordinary text does not have
	onset  pipeline.Time // of the first pair
	shapes pipeline.Payloads
	pairs  uint16
	events uint16 // requests that brought a new pair
	tried  uint16 // requests with a shape
	typed  uint16 // of these, in a slot of another type
	failed uint16 // answered 5xx
	large  uint16 // answered larger than nearly all
	passed uint16 // answered 2xx or 3xx
	waf    uint16 // stopped before the application
	denied uint16 // 403, 406
	slots  linear64
	known  [8]uint64 // pairs seen, a filter of its own: it only ever says "seen" too often
}

func newInjectProbe() detector { return injectProbe{} }

// pairOf names one (slot, shape) of an endpoint.
func pairOf(template, slot uint64, shape int) uint64 {
	return pipeline.Mix64(pipeline.Mix64(template, slot), uint64(shape)+0x696e6a)
}

const (
	pairTyped = 40 // beyond the shapes
	pairError = 41
	pairMix   = 42
)

// meet reports whether a pair is new, and remembers it.
func (st *injectState) meet(pair uint64) bool {
	a, b := pair&511, pair>>9&511
	if (st.known[a>>6]>>(a&63))&(st.known[b>>6]>>(b&63))&1 == 1 {
		return false
	}
	st.known[a>>6] |= 1 << (a & 63)
	st.known[b>>6] |= 1 << (b & 63)
	return true
}

// shapeRarity is how much rarer people send a shape than attackers do.
func shapeRarity(p pipeline.Payloads) pipeline.Nats {
	switch {
	case p&pipeline.PayloadWeak == p:
		return 0
	case p&(pipeline.PayloadRemote|pipeline.PayloadComment|pipeline.PayloadNull) == p:
		return rareSome
	case p&(pipeline.PayloadCommand|pipeline.PayloadTemplate|pipeline.PayloadSQL|pipeline.PayloadTraversal|pipeline.PayloadCode|pipeline.PayloadSSRF) == p:
		return rareOften
	}
	return rareAlways
}

func (injectProbe) observe(p *Profile, o *pipeline.Observation, s *scope) (pipeline.Nats, bool) {
	st := &p.inject
	r := s.r
	now := seconds(o.Time)
	if r.Payloads == 0 {
		if s.freshItem && r.Query != "" && !o.Has(pipeline.ObsStatic) && st.odd.branch != [3]branch{} {
			st.odd.observe(s.b.Inject.Beta, false, countScale, now, halfLifeSeconds)
		}
		return 0, false
	}
	template, endpoint := o.Template, s.endpoint
	typed := false
	switch {
	case r.Slot == pipeline.AgentSlot || r.Slot == pipeline.RefererSlot:
		template, endpoint = 0, nil
	case r.Slot == pipeline.PathSlot && s.v != nil:
		if t, ok := s.v.violated(r); ok {
			template, typed = t, true
			endpoint = s.b.endpoint(t)
		}
	}
	st.decay(now)
	usual := pipeline.Payloads(0)
	if endpoint != nil {
		usual = pipeline.Payloads(endpoint.Payloads)
	}
	fresh, strong := 0, 0
	rare := pipeline.Nats(0)
	note := func(shape int, n pipeline.Nats) {
		if !st.meet(pairOf(template, r.Slot, shape)) {
			return
		}
		fresh++
		if n > 0 {
			strong++
		}
		rare = max(rare, n)
	}
	for left := uint32(r.Payloads); left != 0; left &= left - 1 {
		shape := pipeline.Payloads(left & -left)
		n := shapeRarity(shape)
		if usual&shape != 0 {
			continue // people send it here
		}
		if r.Slot == pipeline.PathSlot && o.Has(pipeline.ObsMiss) && !typed {
			n = min(n, rareOften) // may be no more than an odd link
		}
		note(bits.TrailingZeros32(uint32(shape)), n)
	}
	if odd := r.Payloads &^ usual; odd&^pipeline.PayloadWeak != 0 && st.meet(pipeline.Mix64(pairOf(template, r.Slot, pairMix), uint64(odd))) && fresh == 0 {
		// Every shape of it was seen here, the mixture was not: another payload.
		fresh, strong, rare = 1, 1, rareSome
	}
	if typed {
		st.typed = bump(st.typed)
		if fresh > 0 {
			note(pairTyped, rareOften)
		}
	}
	failed := o.Status >= 500
	if failed && r.Payloads&^usual != 0 {
		note(pairError, rareSome)
	}
	if r.Payloads&^usual == 0 {
		return 0, false
	}
	if r.Payloads == pipeline.PayloadAgent && fresh == 0 {
		return 0, false // it names itself; this request is ordinary
	}
	if st.tried == 0 || st.onset == 0 {
		st.onset = o.Time
	}
	st.tried = bump(st.tried)
	effect := false
	switch {
	case r.Flags&pipeline.FlagBlocked != 0:
		st.waf = bump(st.waf)
	case o.Status == 403 || o.Status == 406:
		st.denied = bump(st.denied)
	case failed && o.Status != 503:
		st.failed = bump(st.failed)
		effect = true
	case o.Status >= 200 && o.Status < 400:
		st.passed = bump(st.passed)
		if endpoint != nil && endpoint.Sizes.N >= sizesEnough && o.Bytes > endpoint.Sizes.P999 && o.Status < 300 {
			st.large = bump(st.large)
			effect = true
		}
	}
	if fresh == 0 {
		return st.score(), effect
	}
	st.shapes |= r.Payloads
	st.slots.add(pipeline.Mix64(template, r.Slot))
	st.pairs = uint16(min(int(st.pairs)+fresh, 1<<16-1))
	st.events = bump(st.events)
	weight := uint32(countScale)
	if strong == 0 {
		weight /= 4
	}
	before := st.odd.score()
	st.odd.observe(s.b.Inject.Beta, true, weight, now, halfLifeSeconds)
	if rise := symbolCap - max(0, st.odd.score()-before); rare > 0 && rise > 0 {
		st.listed = int32(min(pipeline.Nats(st.listed)+min(rare, rise), 1000*pipeline.Nat))
	}
	return st.score(), true
}

// decay tempers the evidence of shapes with the trial's age.
func (st *injectState) decay(now uint32) {
	if now > st.odd.at && now-st.odd.at >= halfLifeSeconds/256 {
		f := int64(halfPower(uint64(now-st.odd.at) << 16 / halfLifeSeconds))
		st.listed = int32(int64(st.listed) * f >> 16)
	}
	if st.pairs > 0 && st.listed == 0 && st.odd.branch == [3]branch{} {
		*st = injectState{}
	}
}

func (st *injectState) score() pipeline.Nats {
	if st.pairs < 3 || st.events < 3 {
		return 0
	}
	return st.odd.score() + pipeline.Nats(st.listed)
}

func (st *injectState) effects() uint16 { return st.failed + st.large }

// violated finds the template of a path that an attack in one of its slots keeps
// from matching: the one that fits when the odd segment is a number or a uuid.
func (v *observer) violated(r *pipeline.Request) (template uint64, ok bool) {
	const maxTried = 12
	path := r.Path
	if v.cold || len(path) > 512 {
		return 0, false
	}
	var buf [640]byte
	from := 0
	for tried := 0; from < len(path) && tried < maxTried; tried++ {
		to := strings.IndexByte(path[from+1:], '/')
		if to < 0 {
			to = len(path)
		} else {
			to += from + 1
		}
		if oddSegment(path[from+1 : to]) {
			for _, value := range [...]string{"7", "0b4ea9a2-6f0a-4f3c-9d53-51b0f60d7a11"} {
				b := append(append(append(buf[:0], path[:from+1]...), value...), path[to:]...)
				var m pipeline.Match
				v.t.Match(r.Host, string(b), &m)
				if m.Known && (m.Type == pipeline.SlotInt || m.Type == pipeline.SlotUUID) && m.Value == value {
					return m.Template, true
				}
			}
		}
		from = to
	}
	return 0, false
}

// oddSegment reports characters that words and ids do not have.
func oddSegment(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			continue
		}
		return true
	}
	return false
}

func (injectProbe) phase(p *Profile) uint8 {
	if p.inject.effects() > 0 {
		return 1
	}
	return 0
}

func (injectProbe) signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal {
	st := &p.inject
	dst = append(dst, pipeline.FindingSignal{
		Name: "odd_input", Observed: float64(st.pairs), Expected: expected(st.pairs, b.Inject),
		Count: int64(st.events), Nats: st.odd.score(), Baseline: b.baseline(b.Inject),
	})
	if st.listed > 0 {
		dst = append(dst, pipeline.FindingSignal{
			Name: "attack_shape", Observed: float64(bits.OnesCount32(uint32(st.shapes &^ pipeline.PayloadWeak))), Expected: 0,
			Count: int64(st.pairs), Nats: pipeline.Nats(st.listed), Baseline: pipeline.Baseline{Kind: "prior"},
		})
	}
	return dst
}

func (injectProbe) describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines) {
	st := &p.inject
	f.Onset = st.onset
	f.Outcome.Attempted = int64(st.tried)
	f.Outcome.Basis = "unknown"
	if st.passed+st.failed == 0 {
		none := int64(0)
		f.Outcome.Succeeded, f.Outcome.Basis = &none, "status"
	}
	blocked := int64(st.waf) + int64(st.denied)
	switch {
	case st.waf > 0:
		f.Outcome.Blocked, f.Outcome.BlockedBy = &blocked, "a WAF or gateway"
	case st.denied > 0:
		f.Outcome.Blocked, f.Outcome.BlockedBy = &blocked, "403"
	}
	effects := int64(st.effects())
	f.Facts.CanSucceed = effects > 0
	f.Facts.Opportunistic = st.passed+st.failed == 0 && st.pairs < 12
	f.Facts.Notice = p.Flags&profileKnown != 0
	f.Title = fmt.Sprintf("Injection probing of %s by %s", pick(f.Endpoint.Template == "" || st.slots.count() > 3, "several inputs", f.Endpoint.Method+" "+f.Endpoint.Template), f.Who.Value)
	names := (st.shapes &^ pipeline.PayloadWeak).Names(nil)
	if len(names) == 0 {
		names = st.shapes.Names(nil)
	}
	more := len(names) - 5
	f.Reason = fmt.Sprintf("Sent %s of attack (%s%s) to %s in %s; %s%s%s.",
		plural(int64(bits.OnesCount32(uint32(st.shapes))), "shape", "different shapes"), strings.Join(names[:min(len(names), 5)], ", "), when(more > 0, fmt.Sprintf(" and %d more", more)),
		plural(int64(st.slots.count()), "input", "different inputs"), plural(int64(st.tried), "request", "requests"),
		pick(blocked >= int64(st.tried), "all were stopped", fmt.Sprintf("%d were answered normally", st.passed)),
		when(blocked > 0 && blocked < int64(st.tried), fmt.Sprintf(", %d stopped", blocked)),
		when(st.typed > 0, fmt.Sprintf(", %d in places that otherwise hold a number or an id", st.typed)))
	if effects > 0 {
		f.Reason += " Possible effect: " + strings.Join(nonEmpty(
			when(st.failed > 0, plural(int64(st.failed), "server error", "server errors")+" right after such input"),
			when(st.large > 0, plural(int64(st.large), "answer", "answers")+" larger than 999 of 1,000 there")), ", ") + "."
		f.Next = append(f.Next, "Look at the server's log for the requests in the exemplars: an error after odd input is often a hole")
	}
	f.Next = append(f.Next, blockAdvice(f))
	f.BenignIf = []string{"a security scan that you ordered", "people who search for code or paste it here"}
	f.WouldNotFireIf = "fewer than 3 different shapes or inputs had been tried"
	f.Attack = []string{"T1190", "T1595.002"}
	f.OWASP = []string{"API8:2023"}
	f.OAT = []string{"OAT-014"}
}

func nonEmpty(list ...string) (out []string) {
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
