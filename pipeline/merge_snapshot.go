package pipeline

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// rawTime is a Time written as a number, so that NoTime survives.
type rawTime int64

// mergeState is a Merge between two blocks, with the requests that wait.
type mergeState struct {
	Released rawTime            `json:"released"`
	Late     int64              `json:"late"`
	Skewed   int64              `json:"skewed"`
	Sources  []mergeSourceState `json:"sources"`
}

type mergeSourceState struct {
	ID      uint64    `json:"id"`
	Max     rawTime   `json:"max"`
	Eff     rawTime   `json:"eff"`
	Arrival uint64    `json:"arrival"`
	Idle    bool      `json:"idle"`
	Until   rawTime   `json:"until"`
	Ended   bool      `json:"ended"`
	Ready   []rawTime `json:"ready"`            // effective times of the first requests below
	Heap    []uint64  `json:"heap"`             // arrivals of the next ones
	At      []rawTime `json:"at"`               // and their ordering times
	Pending int       `json:"pending"`          // the rest
	Blocks  [][]byte  `json:"blocks,omitempty"` // the requests, ready then heap then pending
	Block   []byte    `json:"block,omitempty"`  // the same as the JSON of Blocks, as it once was
}

// Snapshot returns what Restore needs to go on as if nothing had happened. As
// many requests may wait as fit the bound: they are encoded a block at a time,
// in memory that is used again.
func (m *Merge) Snapshot(c *Codec) ([]byte, error) {
	st := mergeState{Released: rawTime(m.released), Late: m.late, Skewed: m.skewed}
	part := Block{Watermark: NoTime}
	for _, s := range m.sources {
		ss, err := s.state(c, &part)
		if err != nil {
			return nil, fmt.Errorf("write merge state: %w", err)
		}
		st.Sources = append(st.Sources, ss)
	}
	return json.Marshal(st)
}

// state is one source's part of a snapshot; part's memory is used on the way.
func (s *mergeSource) state(c *Codec, part *Block) (mergeSourceState, error) {
	ss := mergeSourceState{ID: s.id, Max: rawTime(s.max), Eff: rawTime(s.eff), Arrival: s.arrival, Idle: s.idle, Until: rawTime(s.until), Ended: s.ended, Pending: len(s.pending)}
	held := make([]*heldRequest, 0, len(s.ready)-s.head+s.waits()+len(s.pending))
	held = appendHeld(held, s.ready[s.head:])
	for _, h := range held {
		ss.Ready = append(ss.Ready, rawTime(h.Effective))
	}
	held = appendHeld(appendHeld(held, s.heap), s.run[s.from:])
	waiting := held[len(ss.Ready):]
	slices.SortFunc(waiting, func(a, b *heldRequest) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.arrival, b.arrival))
	})
	held = appendHeld(held, s.pending)
	waiting = held[len(ss.Ready):]
	ss.Heap, ss.At = make([]uint64, 0, len(waiting)), make([]rawTime, 0, len(waiting))
	for _, h := range waiting {
		ss.Heap, ss.At = append(ss.Heap, h.arrival), append(ss.At, rawTime(h.at))
	}
	for len(held) > 0 {
		n := min(len(held), MaxBlockRequests)
		part.SourceID, part.Source, part.Requests = s.id, held[0].Block.Source, part.Requests[:0]
		for _, h := range held[:n] {
			part.Requests = append(part.Requests, *h.Request)
		}
		data, err := c.AppendBlock(nil, part)
		if err != nil {
			return ss, err
		}
		ss.Blocks, held = append(ss.Blocks, data), held[n:]
	}
	return ss, nil
}

func appendHeld(dst []*heldRequest, list []heldRequest) []*heldRequest {
	for i := range list {
		dst = append(dst, &list[i])
	}
	return dst
}

// Restore rebuilds what Snapshot wrote; lateness and bound are as given to
// NewMerge and SetSourceLateness.
func (m *Merge) Restore(c *Codec, data []byte) error {
	var st mergeState
	if err := json.Unmarshal(data, &st); err != nil {
		return fmt.Errorf("read merge state: %w", err)
	}
	m.released, m.late, m.skewed = Time(st.Released), st.Late, st.Skewed
	for _, ss := range st.Sources {
		m.AddSource(ss.ID)
		s := m.sources[m.index[ss.ID]]
		s.max, s.eff, s.arrival, s.idle, s.until, s.ended = Time(ss.Max), Time(ss.Eff), ss.Arrival, ss.Idle, Time(ss.Until), ss.Ended
		var all []Ordered
		if len(ss.Block) > 0 {
			if err := json.Unmarshal(ss.Block, &ss.Blocks); err != nil {
				return fmt.Errorf("read merge state: %w", err)
			}
		}
		for _, p := range ss.Blocks {
			b := new(Block)
			if err := c.DecodeBlock(p, b); err != nil {
				return fmt.Errorf("read merge state: %w", err)
			}
			b.held = len(b.Requests)
			for i := range b.Requests {
				all = append(all, Ordered{&b.Requests[i], b})
			}
		}
		if len(all) != len(ss.Ready)+len(ss.Heap) || len(ss.At) != len(ss.Heap) || ss.Pending > len(ss.Heap) {
			return fmt.Errorf("read merge state: %d requests for %d places", len(all), len(ss.Ready)+len(ss.Heap))
		}
		m.held += len(all)
		for i, at := range ss.Ready {
			all[i].Effective = Time(at)
			s.ready = append(s.ready, heldRequest{all[i], Time(at), 0})
		}
		for i, arrival := range ss.Heap {
			h := heldRequest{all[len(ss.Ready)+i], Time(ss.At[i]), arrival}
			if i < len(ss.Heap)-ss.Pending {
				s.run = append(s.run, h)
			} else {
				s.pending = append(s.pending, h)
			}
		}
	}
	return nil
}
