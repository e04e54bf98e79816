package detectors

import (
	"maps"
	"slices"
	"strings"

	"weir/pipeline"
)

// dossierAt is the evidence from which a principal's requests are kept as
// examples: early enough that an alert shows how it began.
const dossierAt = 3 * pipeline.Nat

// dossier is what an alert needs to be believed and a score does not need: who
// and which requests. Bounded; a shard keeps a few.
type dossier struct {
	Owner     uint64
	Aside     bool `json:",omitempty"` // Owner is the key of what is set aside
	Who       pipeline.Principal
	Addresses []string // sorted, at most 16
	Distinct  linear256
	Agents    []string
	JA4       []string
	Labels    map[string]string // common to all its sources
	Labelled  bool
	Cases     []*caseFile // by detector index; nil where nothing counted
	Logins    accountList // accounts that it tried to log in at
	Asked     accountList // accounts that it asked about
	Reached   reachList   // objects that it was granted
	Origin    origin
}

// caseFile is one detector's part of a dossier.
type caseFile struct {
	ID        string
	First     pipeline.Time
	Last      pipeline.Time
	Requests  int64 // that counted
	Bytes     int64
	Unsized   bool // a response's size was unknown
	Late      int64
	Blocked   int64 // requests that a gateway stopped
	Closed    bool  // one of them by closing the connection
	Endpoint  pipeline.Endpoint
	Template  uint64
	Objects   []string
	Truncated bool
	Exemplars []pipeline.Exemplar // the first four and the last four
	Refusals  []refusals          `json:",omitempty"` // by time, at most maxRefusals
	Backfill  bool
	// Supersedes is the detector whose case this one took over.
	Supersedes string

	Opened  bool // to be told
	Sent    bool // told
	Paged   bool
	Phase   uint8
	Changed bool
	Score   pipeline.Nats
}

const (
	maxAddresses = 16
	maxAgents    = 4
	maxAffected  = 32
	firstExamples,
	lastExamples = 4, 4
)

func (s *shard) caseOf(owner uint64) *dossier {
	i, ok := slices.BinarySearchFunc(s.cases, owner, func(d *dossier, o uint64) int { return compare(d.Owner, o) })
	if !ok {
		return nil
	}
	return s.cases[i]
}

// openCase returns the dossier of r's principal, making one; the least of the
// others makes room, and an opened case only for one with more evidence. It
// returns nil when there is no room.
func (s *shard) openCase(owner uint64, who pipeline.Principal, score pipeline.Nats, detectors int) *dossier {
	if d := s.caseOf(owner); d != nil {
		return d
	}
	if len(s.cases) >= maxCases {
		least := 0
		for i, d := range s.cases {
			if d.score() < s.cases[least].score() {
				least = i
			}
		}
		if s.cases[least].score() >= score {
			return nil
		}
		s.evictedCases++
		s.cases = slices.Delete(s.cases, least, least+1)
	}
	who.Value = strings.Clone(who.Value) // it points into the block
	d := &dossier{Owner: owner, Who: who, Cases: make([]*caseFile, detectors)}
	s.recall(d)
	i, _ := slices.BinarySearchFunc(s.cases, owner, func(d *dossier, o uint64) int { return compare(d.Owner, o) })
	s.cases = slices.Insert(s.cases, i, d)
	return d
}

func (s *shard) closeCase(owner uint64) {
	s.cases = slices.DeleteFunc(s.cases, func(d *dossier) bool { return d.Owner == owner })
}

// score is the highest evidence in d.
func (d *dossier) score() (best pipeline.Nats) {
	for _, c := range d.Cases {
		if c != nil {
			best = max(best, c.Score)
		}
	}
	return best
}

// label keeps the labels that all sources of the dossier have in common.
func (d *dossier) label(labels map[string]string) {
	if !d.Labelled {
		d.Labels, d.Labelled = maps.Clone(labels), true
		return
	}
	for k, v := range d.Labels {
		if labels[k] != v {
			delete(d.Labels, k)
		}
	}
}

// note adds a request that counted for detector i.
func (d *dossier) note(i int, r pipeline.Ordered, network string, o *pipeline.Observation, t *pipeline.Templates) *caseFile {
	c := d.Cases[i]
	if c == nil {
		c = &caseFile{First: o.Time, Backfill: true}
		d.Cases[i] = c
	}
	c.Last = o.Time
	c.Requests++
	if r.Bytes >= 0 {
		c.Bytes += r.Bytes
	} else {
		c.Unsized = true
	}
	if r.Flags&pipeline.FlagLate != 0 {
		c.Late++
	}
	if r.Flags&pipeline.FlagBlocked != 0 {
		c.Blocked++
		c.Closed = c.Closed || r.Status == 444
	}
	d.Origin.add(r.Request, network)
	c.Backfill = c.Backfill && r.Flags&pipeline.FlagBackfill != 0
	if c.Template != o.Template {
		c.Template = o.Template
		c.Endpoint = pipeline.Endpoint{Method: clean(r.Method, 16), Host: clean(r.Host, 128), Template: templateText(t, r.Request, o)}
	}
	address := r.Address.String()
	d.Distinct.add(pipeline.Hash64(address))
	if j, ok := slices.BinarySearch(d.Addresses, address); !ok && len(d.Addresses) < maxAddresses {
		d.Addresses = slices.Insert(d.Addresses, j, address)
	}
	c.refuse(o)
	d.Agents = keep(d.Agents, clean(r.Agent, 160), maxAgents)
	if r.JA4 != "" {
		d.JA4 = keep(d.JA4, clean(r.JA4, 64), maxAgents)
	}
	if o.Object != 0 && !o.Has(pipeline.ObsMiss) && o.Status < 400 {
		if len(c.Objects) < maxAffected {
			c.Objects = keep(c.Objects, objectText(r.Request, o), maxAffected)
		} else {
			c.Truncated = true
		}
	}
	var bytes *int64
	if r.Bytes >= 0 {
		n := r.Bytes
		bytes = &n
	}
	e := pipeline.Exemplar{
		Time: r.Time, IP: address, Method: clean(r.Method, 16), Path: clean(r.Path, 256), Status: int(r.Status), Bytes: bytes,
		Agent: clean(r.Agent, 160), Source: source(r),
	}
	if len(c.Exemplars) < firstExamples+lastExamples {
		c.Exemplars = append(c.Exemplars, e)
	} else {
		copy(c.Exemplars[firstExamples:], c.Exemplars[firstExamples+1:])
		c.Exemplars[len(c.Exemplars)-1] = e
	}
	return c
}

// keep appends s to list unless it is there or the list is full.
func keep(list []string, s string, limit int) []string {
	if s == "" || len(list) >= limit || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// clean copies at most n bytes of s out of the block's memory, as UTF-8.
func clean(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return toValid(s)
}
