package detectors

import (
	"weir/pipeline"
)

// The bounds of one virtual shard; times pipeline.Shards they bound a whole
// process, however many principals an attacker invents: 8 million stubs
// (256 MB), 262,144 profiles (about 500 MB), 32,000 case files: less than 1 GiB
// even where five million addresses each ask for something that is not there.
// They are per virtual shard, never per worker, so that no result depends on
// workers.
const (
	stubWays     = 16  // slots of a bucket
	stubBuckets  = 128 // at most
	slabProfiles = 8   // profiles allocated at once
	maxProfiles  = 64
	maxCases     = 8
	graveSlots   = 256
	// promoteAt is the request on which a principal without any evidence gets a
	// profile.
	promoteAt = 5
)

// stub is a principal that showed little so far: 32 bytes.
type stub struct {
	owner    uint64
	first    uint32 // seconds
	last     uint32
	requests uint16
	hits     uint8
	day      uint8  // of what remains of its profile, 1 + mod 255; 0 nothing does
	full     int32  // 1 + index of its profile; 0 none
	paths    uint32 // a bit for each path it asked for, where somebody wants to know; or the remains
}

// meet reports whether the principal did not ask for a path with this hash
// before, and remembers it.
func (s *stub) meet(path uint64) bool {
	bit := uint32(1) << (path >> 59)
	fresh := s.paths&bit == 0
	s.paths |= bit
	return fresh
}

// remains are what is left of an evicted profile: the evidence of one detector,
// where it is most. They stay in the principal's stub, of which there is room for
// thirty times as many as for profiles, so that a flood of new principals does not
// wash a slow one clean; when the stub goes, a grave keeps them. 4 bytes.
type remains struct {
	nats  uint16 // 1/64
	items uint8  // behind it, at most
	which uint8  // 1 + detector index, from bit 3 on the alternative, then flags
}

const (
	remainsOne = 64
	// In which, of a walk: ids were near and none was missed; objects were refused.
	remainsNear, remainsPrivate = 1 << 5, 1 << 6
)

// keep puts what remains of the principal's profile of day in the place of paths,
// which nobody asks for once there was a profile.
func (s *stub) keep(r remains, day uint32) {
	s.paths, s.day = uint32(r.nats)<<16|uint32(r.items)<<8|uint32(r.which), uint8(1+day%255)
}

// kept is what keep kept; without anything its nats are 0.
func (s *stub) kept() (r remains, day uint32) {
	if s.day == 0 {
		return remains{}, 0
	}
	now := s.last / daySeconds
	return remains{uint16(s.paths >> 16), uint8(s.paths >> 8), uint8(s.paths)}, now - (now+255-uint32(s.day-1))%255
}

// grave is what remains of a principal that has no stub any more: 8 bytes.
type grave struct {
	print uint32
	day   uint16
	nats  uint8 // whole nats
	which uint8 // detector index + 1
}

// shard is the state of one virtual shard. One worker owns it.
type shard struct {
	buckets []stub // len is a power of two times stubWays
	used    int
	slabs   []*slab
	count   int
	hand    int
	graves  []grave
	pasts   []past
	cases   []*dossier // sorted by owner
	dirty   bool
	recent  recentAccounts // of principals without a dossier
	touched recentContacts // of the same

	evictedStubs, evictedProfiles, evictedCases int64
}

func (s *shard) profile(i int32) *Profile { return &s.slabs[i/slabProfiles][i%slabProfiles] }

// find returns the stub of owner, making room for it if it is new.
func (s *shard) find(owner uint64) (st *stub, fresh bool) {
	if s.buckets == nil {
		s.buckets = make([]stub, stubWays)
	}
	for {
		b := s.bucket(owner)
		at, found := place(b, owner)
		if found {
			return &b[at], false
		}
		if at >= 0 {
			s.used++
			b[at] = stub{owner: owner}
			return &b[at], true
		}
		if len(s.buckets) < stubBuckets*stubWays {
			s.grow()
			continue
		}
		// Evict the one silent longest that has no profile; ties by owner.
		victim := -1
		for i := range b {
			if b[i].full != 0 {
				continue
			}
			if victim < 0 || b[i].last < b[victim].last || b[i].last == b[victim].last && b[i].owner < b[victim].owner {
				victim = i
			}
		}
		if victim < 0 {
			victim = int(owner & (stubWays - 1))
			s.drop(b[victim].full - 1)
		}
		s.bury(&b[victim])
		s.evictedStubs++
		b[victim] = stub{owner: owner}
		return &b[victim], true
	}
}

// place returns where owner is in bucket b, or the free slot that it would take,
// -1 if there is none. Each owner has a slot where the search for it begins, and
// slots never become free again, so that the first free one ends it.
func place(b []stub, owner uint64) (at int, found bool) {
	b = b[:stubWays]
	for k := range uint64(stubWays) {
		i := (owner>>16 + k) % stubWays
		if b[i].requests == 0 {
			return int(i), false
		}
		if b[i].owner == owner {
			return int(i), true
		}
	}
	return -1, false
}

// approach reads the way to what warm reads.
func (s *shard) approach(owner uint64) uint64 {
	if s == nil || s.buckets == nil {
		return 0
	}
	return s.bucket(owner)[owner>>16%stubWays].owner
}

// warm reads what a visit of owner will need, so that the cache misses of
// several visits overlap; the sum only keeps the reads from being optimized
// away. It changes nothing.
func (s *shard) warm(owner uint64) (sum uint64) {
	if s == nil || s.buckets == nil {
		return 0
	}
	b := s.bucket(owner)
	at, found := place(b, owner)
	if !found || b[at].full == 0 {
		return 0
	}
	p := s.profile(b[at].full - 1)
	return p.Owner + uint64(p.rateAt) + uint64(p.probe.onset) + uint64(p.crawl.bytes) + p.seen.block[0][0][0] + p.seen.block[1][0][0] +
		uint64(p.tried.at) + uint64(p.flood.onset)
}

// bucket returns the slots where owner may be. The top 12 bits of a hash chose
// the shard; the next ones choose here.
func (s *shard) bucket(owner uint64) []stub {
	n := uint64(len(s.buckets) / stubWays)
	i := (owner >> 20) & (n - 1)
	return s.buckets[i*stubWays : (i+1)*stubWays]
}

func (s *shard) grow() {
	old := s.buckets
	s.buckets = make([]stub, 2*len(old))
	for i := range old {
		if old[i].requests == 0 {
			continue
		}
		b := s.bucket(old[i].owner)
		at, _ := place(b, old[i].owner)
		b[at] = old[i]
	}
}

// promote gives st a profile, with memory of a if need be.
func (s *shard) promote(st *stub, a *arena) *Profile {
	var p *Profile
	if s.count < maxProfiles {
		at := int32(s.count)
		if s.count%slabProfiles == 0 {
			s.slabs = append(s.slabs, a.slab())
		}
		s.count++
		st.full = at + 1
		p = s.profile(at)
	} else {
		at := s.victim()
		s.drop(at)
		st.full = at + 1
		p = s.profile(at)
		*p = Profile{}
	}
	p.Owner = st.owner
	s.exhume(p, st)
	return p
}

// victim is the profile with the least evidence among sixteen that a clock
// hand points at: silent longest, then by owner.
func (s *shard) victim() int32 {
	best := -1
	var bestScore pipeline.Nats
	for k := range 16 {
		i := (s.hand + k) % maxProfiles
		p := s.profile(int32(i))
		sc, _ := p.worstScore()
		if best < 0 {
			best, bestScore = i, sc
			continue
		}
		q := s.profile(int32(best))
		if sc < bestScore || sc == bestScore && (p.Last < q.Last || p.Last == q.Last && p.Owner < q.Owner) {
			best, bestScore = i, sc
		}
	}
	s.hand = (s.hand + 16) % maxProfiles
	return int32(best)
}

// worstScore is the highest evidence in p and the detector it belongs to. What
// is too little to be told of counts here: else whoever comes slowly would be
// forgotten before the third miss.
func (p *Profile) worstScore() (pipeline.Nats, int) {
	scores := [...]pipeline.Nats{
		p.probe.misses.score() + pipeline.Nats(p.probe.listed), p.login.tries.score(),
		max(p.walk[0].evidence(), p.walk[1].evidence()),
		p.login.firsts.score(),
		p.inject.odd.score() + pipeline.Nats(p.inject.listed),
	}
	best := 0
	for i, v := range scores {
		if v > scores[best] {
			best = i
		}
	}
	return scores[best], best
}

// remains is what to keep of p.
func (p *Profile) remains() remains {
	score, which := p.worstScore()
	if score <= 0 {
		return remains{}
	}
	t, items, more := &p.probe.misses, uint32(p.probe.missed), uint8(0)
	switch which {
	case 1:
		t, items = &p.login.tries, p.login.failures
	case 2:
		w := &p.walk[0]
		if p.walk[1].evidence() > w.evidence() {
			w = &p.walk[1]
		}
		if t, items = &w.misses, uint32(w.missed); items == 0 {
			t, items, more = &w.near, uint32(w.objects), remainsNear
		}
		if w.private {
			more |= remainsPrivate
		}
	case 3:
		t, items = &p.login.firsts, p.login.refused
	case 4:
		t, items = &p.inject.odd, uint32(p.inject.pairs)
	}
	best := 0
	for j := range t.branch {
		if t.branch[j].s > t.branch[best].s {
			best = j
		}
	}
	return remains{uint16(min(score*remainsOne/pipeline.Nat, 1<<16-1)), uint8(min(items, 255)), uint8(which+1) | uint8(best)<<3 | more}
}

// drop takes profile i from its principal, leaving the remains in its stub.
func (s *shard) drop(i int32) {
	p := s.profile(i)
	s.evictedProfiles++
	s.closeCase(p.Owner)
	b := s.bucket(p.Owner)
	for j := range b {
		if b[j].owner == p.Owner && b[j].full == i+1 {
			b[j].full = 0
			b[j].requests = promoteAt // it comes back as soon as it is seen
			b[j].keep(p.remains(), seconds(p.Last)/daySeconds)
		}
	}
}

// bury keeps what remains in a stub that makes room, in place of something lighter.
func (s *shard) bury(st *stub) {
	kept, _ := st.kept()
	n := uint8(min(kept.nats/remainsOne, 255))
	if n < 2 {
		return
	}
	if s.graves == nil {
		s.graves = make([]grave, graveSlots)
	}
	day := uint16(st.last / daySeconds)
	g := &s.graves[st.owner&(graveSlots-1)]
	// Equal ones do not take each other's place: a flood is all alike. A week halves.
	if old := g.nats >> min(7, (day-min(day, g.day))/7); n > old || g.nats == 0 {
		*g = grave{uint32(st.owner >> 8), day, n, kept.which}
	}
}

// exhume gives a principal back what was held against it when it was evicted,
// tempered by its age.
func (s *shard) exhume(p *Profile, st *stub) {
	kept, at := st.kept()
	st.paths, st.day = 0, 0
	if kept.nats == 0 && s.graves != nil {
		if g := &s.graves[p.Owner&(graveSlots-1)]; g.nats > 0 && g.print == uint32(p.Owner>>8) {
			// One item says seven nats at most: there were at least so many.
			kept, at = remains{uint16(g.nats) * remainsOne, (g.nats + 6) / 7, g.which}, uint32(g.day)
			*g = grave{}
		}
	}
	if kept.nats == 0 {
		return
	}
	items := uint16(kept.items)
	back := trial{at: at * daySeconds}
	// The price of the choice was taken off already.
	back.branch[min(kept.which>>3&3, 2)] = branch{s: int32(pipeline.Nats(kept.nats)*pipeline.Nat/remainsOne + mixturePrice), k: items * countScale, n: items * countScale}
	onset := pipeline.Time(at) * 86400e6
	switch kept.which&7 - 1 {
	case 0:
		p.probe.misses, p.probe.missed, p.probe.onset = back, items, onset
	case 1:
		p.login.tries, p.login.attempts, p.login.failures = back, uint32(items), uint32(items)
		p.login.onset = onset
	case 2:
		// Whose template it was is not known: it goes on with the next.
		p.walk[0] = walkState{onset: onset, exists: true, private: kept.which&remainsPrivate != 0, objects: items}
		if w := &p.walk[0]; kept.which&remainsNear != 0 {
			w.near = back
		} else {
			w.misses, w.missed = back, items
		}
	case 3:
		p.login.exhume(back, uint32(items), onset)
	case 4:
		p.inject.odd, p.inject.pairs, p.inject.events, p.inject.onset = back, items, items, onset
	}
}
