package main

import "weir/pipeline"

// Bounds of TrafficStats: request counts over time are kept in at most so many
// steps an episode and so many in all; client-days are counted exactly up to
// cleanDaysMax and sampled by hash above.
const (
	stepsPerEpisode = 1 << 14
	stepsTotal      = 1 << 23
	cleanDaysMax    = 1 << 18
)

// TrafficStats counts requests for an evaluation: of each episode over its
// time, of each labelled client, and of all. One goroutine uses it; memory is
// bounded by the labels, not by the traffic.
type TrafficStats struct {
	labels   *Labels
	requests int64
	first    pipeline.Time
	last     pipeline.Time
	owners   []ownerTraffic    // parallel to labels.owners
	episodes []episodeTraffic  // parallel to labels.Episodes
	others   distinctEstimator // (client, day) of clients the labels do not name
}

type ownerTraffic struct {
	requests int64
	lastDay  int64
	days     int64
}

type episodeTraffic struct {
	start, width pipeline.Time
	steps        int
	total        int64
	counts       []uint32 // grown up to steps
	last         int64    // ordinal of the last request counted
}

// NewTrafficStats prepares counting for l.
func NewTrafficStats(l *Labels) *TrafficStats {
	s := &TrafficStats{
		labels:   l,
		first:    pipeline.NoTime,
		last:     pipeline.NoTime,
		owners:   make([]ownerTraffic, len(l.owners)),
		episodes: make([]episodeTraffic, len(l.Episodes)),
		others:   distinctEstimator{limit: cleanDaysMax},
	}
	for i := range s.owners {
		s.owners[i].lastDay = int64(pipeline.NoTime)
	}
	steps := min(stepsPerEpisode, max(64, stepsTotal/max(1, len(l.Episodes))))
	for i := range l.Episodes {
		ep := &l.Episodes[i]
		start := wholeSecond(ep.Start)
		s.episodes[i] = episodeTraffic{start: start, width: (ep.End-start)/pipeline.Time(steps) + 1, steps: steps}
	}
	return s
}

// wholeSecond rounds down: most logs stamp whole seconds, so a request at
// 10:00:01.9 is logged as 10:00:01 and must still be inside an episode that
// starts at 10:00:01.8.
func wholeSecond(t pipeline.Time) pipeline.Time {
	const second = 1e6
	r := t % second
	if r < 0 {
		r += second
	}
	return t - r
}

// Observe counts one request of addr at event time t. The zero address counts
// to the total alone.
func (s *TrafficStats) Observe(addr pipeline.Address, t pipeline.Time) {
	s.count(t)
	if !addr.IsZero() {
		s.client(addr.Owner(), t, true)
	}
}

// ObserveRequest is Observe for logs whose labels name sessions, keys or
// accounts as well: a request counts once to an episode, whichever names match.
func (s *TrafficStats) ObserveRequest(r *pipeline.Request) {
	t := r.Effective
	if t == 0 {
		t = r.Time
	}
	s.count(t)
	named := false
	for _, p := range [...]pipeline.Principal{
		{Kind: pipeline.PrincipalSession, Value: r.Session},
		{Kind: pipeline.PrincipalKey, Value: r.Key},
		{Kind: pipeline.PrincipalAccount, Value: r.Account},
	} {
		if p.Value != "" && s.client(principalKey(p), t, false) {
			named = true
		}
	}
	if !r.Address.IsZero() {
		s.client(r.Address.Owner(), t, !named)
	} else if !named && r.Kind != pipeline.PrincipalNone {
		s.client(r.Owner, t, true)
	}
}

func (s *TrafficStats) count(t pipeline.Time) {
	s.requests++
	if s.first == pipeline.NoTime || t < s.first {
		s.first = t
	}
	s.last = max(s.last, t)
}

// client counts a request of the principal with this key and reports whether
// the labels name it. An unnamed one counts as a clean client when clean is set.
func (s *TrafficStats) client(key uint64, t pipeline.Time, clean bool) bool {
	day := int64(t) / (86400 * 1e6)
	i, ok := s.labels.index[key]
	if !ok {
		if clean {
			s.others.add(key + uint64(day)*0x9e3779b97f4a7c15) // odd, so the days of one client never meet
		}
		return false
	}
	o := &s.owners[i]
	o.requests++
	if day > o.lastDay {
		o.lastDay, o.days = day, o.days+1
	}
	for _, e := range s.labels.owners[i].episodes {
		ep := &s.episodes[e]
		if ep.last == s.requests || t < ep.start || t > s.labels.Episodes[e].End {
			continue
		}
		ep.last = s.requests
		ep.total++
		step := int((t - ep.start) / ep.width)
		for len(ep.counts) <= step {
			ep.counts = append(ep.counts, 0)
		}
		ep.counts[step]++
	}
	return true
}

// requestsUntil is how many requests of episode e came up to and including
// time t. It counts whole steps, so it may be a little high, never low.
func (s *TrafficStats) requestsUntil(e int, t pipeline.Time) int64 {
	ep := &s.episodes[e]
	if t < ep.start {
		return 0
	}
	last := min(int64((t-ep.start)/ep.width), int64(len(ep.counts)-1))
	n := int64(0)
	for _, c := range ep.counts[:last+1] {
		n += int64(c)
	}
	return n
}

// cleanClientDays is the number of (client, UTC day) pairs of clients that are
// in no episode.
func (s *TrafficStats) cleanClientDays() int64 {
	n := s.others.count()
	for i := range s.owners {
		if len(s.labels.owners[i].episodes) == 0 {
			n += s.owners[i].days
		}
	}
	return n
}

// days is the length of the traffic in days, at least one.
func (s *TrafficStats) days() float64 {
	if s.requests == 0 {
		return 1
	}
	return max(1, s.last.Sub(s.first).Hours()/24)
}

// distinctEstimator counts distinct hashes: exactly up to limit, then from the
// share whose low bits are zero, doubling the share's rarity whenever it fills.
// The relative error is near 1/sqrt(limit/2), 0.3 % at 262,144.
type distinctEstimator struct {
	limit int
	bits  uint
	seen  map[uint64]struct{}
}

func (d *distinctEstimator) add(h uint64) {
	if h&(1<<d.bits-1) != 0 {
		return
	}
	if d.seen == nil {
		d.seen = make(map[uint64]struct{})
	}
	d.seen[h] = struct{}{}
	for len(d.seen) > d.limit && d.bits < 63 {
		d.bits++
		for k := range d.seen {
			if k&(1<<d.bits-1) != 0 {
				delete(d.seen, k)
			}
		}
	}
}

func (d *distinctEstimator) count() int64 { return int64(len(d.seen)) << d.bits }
