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
	_        uint8
	full     int32  // 1 + index of its profile; 0 none
	paths    uint32 // a bit for each path it asked for, where somebody wants to know
}

// meet reports whether the principal did not ask for a path with this hash
// before, and remembers it.
func (s *stub) meet(path uint64) bool {
	bit := uint32(1) << (path >> 59)
	fresh := s.paths&bit == 0
	s.paths |= bit
	return fresh
}

// grave keeps what an evicted principal had against it, so that flooding the
// table with new principals does not wash a slow one clean: 8 bytes.
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
	cases   []*dossier // sorted by owner
	dirty   bool
	recent  recentAccounts // of principals without a dossier

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
	return p.Owner + uint64(p.rateAt) + uint64(p.probe.onset) + uint64(p.crawl.bytes) + p.seen.block[0][0][0] + p.seen.block[1][0][0]
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
	s.exhume(p)
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
		max(p.walk[0].misses.score()+p.walk[0].near.score(), p.walk[1].misses.score()+p.walk[1].near.score()),
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

// drop buries profile i and frees it for another.
func (s *shard) drop(i int32) {
	p := s.profile(i)
	s.evictedProfiles++
	if score, which := p.worstScore(); score >= 2*pipeline.Nat {
		if s.graves == nil {
			s.graves = make([]grave, graveSlots)
		}
		g := &s.graves[p.Owner&(graveSlots-1)]
		if n := uint8(min(score/pipeline.Nat, 255)); n >= g.nats {
			*g = grave{uint32(p.Owner >> 8), uint16(seconds(p.Last) / 86400), n, uint8(which + 1)}
		}
	}
	s.closeCase(p.Owner)
	b := s.bucket(p.Owner)
	for j := range b {
		if b[j].owner == p.Owner && b[j].full == i+1 {
			b[j].full = 0
			b[j].requests = promoteAt // it comes back as soon as it is seen
		}
	}
}

// exhume gives a principal back what was held against it when it was evicted,
// tempered by its age.
func (s *shard) exhume(p *Profile) {
	if s.graves == nil {
		return
	}
	g := &s.graves[p.Owner&(graveSlots-1)]
	if g.nats == 0 || g.print != uint32(p.Owner>>8) {
		return
	}
	back := trial{at: uint32(g.day) * 86400}
	for j := range back.branch {
		back.branch[j] = branch{s: int32(pipeline.Nats(g.nats) * pipeline.Nat), k: uint16(g.nats) * countScale, n: uint16(g.nats) * countScale}
	}
	switch g.which - 1 {
	case 0:
		// One miss says seven nats at most: there were at least so many.
		p.probe.misses, p.probe.missed = back, (uint16(g.nats)+6)/7
		p.probe.onset = pipeline.Time(g.day) * 86400e6
	case 1:
		p.login.tries, p.login.attempts, p.login.failures = back, uint32(g.nats), uint32(g.nats)
		p.login.onset = pipeline.Time(g.day) * 86400e6
	case 3:
		p.login.exhume(back, g)
	case 4:
		p.inject.odd, p.inject.pairs, p.inject.events = back, (uint16(g.nats)+6)/7, (uint16(g.nats)+6)/7
		p.inject.onset = pipeline.Time(g.day) * 86400e6
	}
	*g = grave{}
}
