package alerts

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"fmt"
	"slices"

	"weir/pipeline"
)

const bookSchema = "weir.book/1"

// snapshot is the whole state of a Book, in a canonical order.
type snapshot struct {
	Schema    string        `json:"schema"`
	Now       pipeline.Time `json:"now"`
	Forgotten pipeline.Time `json:"forgotten"`
	Open      []*incident   `json:"open"`
	Resolved  []*memory     `json:"resolved"`
	Actors    []*actor      `json:"actors"`
	Scan      *scanState    `json:"scan"`
	More      *moreState    `json:"more"`
	Excuses   []excuse      `json:"excuses,omitempty"`
	Surges    []*surge      `json:"surges,omitempty"`
	Grouped   []*folded     `json:"grouped,omitempty"`
	Spent     *spending     `json:"spent,omitempty"`
	Stats     Stats         `json:"stats"`
}

type scanState struct {
	scan
	Members   []hashedSum `json:"members"`
	Addresses []uint64    `json:"addresses"`
}

type hashedSum struct {
	Hash uint64    `json:"hash"`
	Sum  memberSum `json:"sum"`
}

type moreState struct {
	more
	Places []uint64 `json:"places"`
}

// Snapshot returns the state as canonical bytes: equal states give equal bytes.
func (b *Book) Snapshot() ([]byte, error) {
	s := snapshot{
		Schema: bookSchema, Now: b.now, Forgotten: b.forgotten, Excuses: b.excuses, Stats: b.stats,
		Open: append([]*incident{}, b.due.list...), Resolved: []*memory{}, Actors: make([]*actor, 0, len(b.actors)),
	}
	slices.SortFunc(s.Open, func(x, y *incident) int {
		return cmp.Or(cmp.Compare(x.Place.Family, y.Place.Family), compareWho(x.Place.Who, y.Place.Who), compareBool(x.Place.Aside, y.Place.Aside))
	})
	for e := b.order.Front(); e != nil; e = e.Next() {
		s.Resolved = append(s.Resolved, e.Value.(*memory))
	}
	for _, a := range b.actors {
		s.Actors = append(s.Actors, a)
	}
	slices.SortFunc(s.Actors, func(x, y *actor) int { return compareWho(x.Who, y.Who) })
	if b.scan != nil {
		s.Scan = &scanState{scan: *b.scan, Members: make([]hashedSum, 0, len(b.scan.members)), Addresses: sortedHashes(b.scan.addresses)}
		for h, sum := range b.scan.members {
			s.Scan.Members = append(s.Scan.Members, hashedSum{h, sum})
		}
		slices.SortFunc(s.Scan.Members, func(x, y hashedSum) int { return cmp.Compare(x.Hash, y.Hash) })
	}
	if b.more != nil {
		s.More = &moreState{more: *b.more, Places: sortedHashes(b.more.places)}
	}
	b.snapshotSurges(&s)
	out, err := json.Marshal(&s)
	if err != nil {
		return nil, fmt.Errorf("write snapshot of incidents: %w", err)
	}
	return out, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func sortedHashes(m map[uint64]struct{}) []uint64 {
	out := make([]uint64, 0, len(m))
	for h := range m {
		out = append(out, h)
	}
	slices.Sort(out)
	return out
}

// Restore returns the book whose Snapshot data is; going on from it gives the
// same revisions as never having stopped.
func Restore(cfg Config, versions pipeline.AlertVersions, data []byte) (*Book, error) {
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("read snapshot of incidents: %w", err)
	}
	if s.Schema != bookSchema {
		return nil, fmt.Errorf("read snapshot of incidents: schema %q, want %q", s.Schema, bookSchema)
	}
	b := NewBook(cfg, versions)
	b.now, b.forgotten, b.excuses, b.stats = s.Now, s.Forgotten, s.Excuses, s.Stats
	for i, inc := range s.Open {
		if inc == nil || b.open[inc.Place] != nil {
			return nil, fmt.Errorf("read snapshot of incidents: open incident %d is empty or twice there", i)
		}
		if len(inc.Gaps) > maxGaps || inc.NextGap < 0 || inc.NextGap >= maxGaps {
			return nil, fmt.Errorf("read snapshot of incidents: open incident %d has %d gaps", i, len(inc.Gaps))
		}
		if inc.Severity < info || inc.Severity > critical || inc.Said.Severity < info || inc.Said.Severity > critical ||
			inc.Tier < tierContext || inc.Tier > tierPage {
			return nil, fmt.Errorf("read snapshot of incidents: open incident %d has no such severity or tier", i)
		}
		b.open[inc.Place] = inc
		if inc.Parent == inc.ID && inc.ID != "" {
			b.insertCampaign(inc)
		}
		heap.Push(&b.due, inc)
		heap.Push(&b.weak, inc)
	}
	for i, m := range s.Resolved {
		if m == nil || b.resolved[m.Place] != nil || len(m.Gaps) > maxGaps || m.NextGap < 0 || m.NextGap >= maxGaps {
			return nil, fmt.Errorf("read snapshot of incidents: resolved incident %d is empty, broken or twice there", i)
		}
		b.resolved[m.Place] = b.order.PushBack(m)
	}
	for i, a := range s.Actors {
		if a == nil {
			return nil, fmt.Errorf("read snapshot of incidents: client %d is empty", i)
		}
		b.actors[a.Who] = a
	}
	if s.Scan != nil {
		b.scan = &s.Scan.scan
		b.scan.members, b.scan.addresses = map[uint64]memberSum{}, hashSet(s.Scan.Addresses)
		for _, m := range s.Scan.Members {
			b.scan.members[m.Hash] = m.Sum
		}
	}
	if s.More != nil {
		b.more = &s.More.more
		b.more.places = hashSet(s.More.Places)
	}
	return b, b.restoreSurges(&s)
}

func (b *Book) snapshotSurges(s *snapshot) {
	for _, detector := range sortedKeys(b.surges) {
		s.Surges = append(s.Surges, b.surges[detector])
	}
	for _, m := range b.grouped {
		s.Grouped = append(s.Grouped, m)
	}
	slices.SortFunc(s.Grouped, func(x, y *folded) int {
		return cmp.Or(cmp.Compare(x.Place.Family, y.Place.Family), compareWho(x.Place.Who, y.Place.Who), compareBool(x.Place.Aside, y.Place.Aside))
	})
	if b.spent.Alerts != nil {
		s.Spent = &b.spent
	}
}

func (b *Book) restoreSurges(s *snapshot) error {
	for i, g := range s.Surges {
		if g == nil || b.surges[g.Key] != nil || g.Severity < info || g.Severity > critical || g.SaidSeverity < info || g.SaidSeverity > critical {
			return fmt.Errorf("read snapshot of incidents: surge %d is empty, broken or twice there", i)
		}
		b.surges[g.Key] = g
	}
	for i, m := range s.Grouped {
		if m == nil || b.surges[m.Surge] == nil || b.grouped[m.Place] != nil {
			return fmt.Errorf("read snapshot of incidents: member %d of surges is empty, in none or twice there", i)
		}
		b.grouped[m.Place] = m
	}
	if s.Spent != nil {
		b.spent = *s.Spent
	}
	return nil
}

func hashSet(in []uint64) map[uint64]struct{} {
	m := make(map[uint64]struct{}, len(in))
	for _, h := range in {
		m[h] = struct{}{}
	}
	return m
}
