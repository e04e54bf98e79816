package pipeline

import (
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
	Ready   []rawTime `json:"ready"`   // effective times of the first requests below
	Heap    []uint64  `json:"heap"`    // arrivals of the next ones
	At      []rawTime `json:"at"`      // and their ordering times
	Pending int       `json:"pending"` // the rest
	Block   []byte    `json:"block"`   // the requests, ready then heap then pending
}

// Snapshot returns what Restore needs to go on as if nothing had happened.
func (m *Merge) Snapshot(c *Codec) ([]byte, error) {
	st := mergeState{Released: rawTime(m.released), Late: m.late, Skewed: m.skewed}
	for _, s := range m.sources {
		ss := mergeSourceState{ID: s.id, Max: rawTime(s.max), Eff: rawTime(s.eff), Arrival: s.arrival, Idle: s.idle, Until: rawTime(s.until), Ended: s.ended, Pending: len(s.pending)}
		b := Block{SourceID: s.id, Watermark: NoTime}
		add := func(h heldRequest) {
			if h.Block != nil {
				b.Source = h.Block.Source
			}
			b.Requests = append(b.Requests, *h.Request)
		}
		for _, h := range s.ready[s.head:] {
			ss.Ready = append(ss.Ready, rawTime(h.Effective))
			add(h)
		}
		waiting := append(slices.Clone(s.heap), s.run[s.from:]...)
		slices.SortFunc(waiting, func(a, b heldRequest) int {
			if (arrivalHeap{a, b}).Less(0, 1) {
				return -1
			}
			return 1
		})
		for _, h := range waiting {
			ss.Heap = append(ss.Heap, h.arrival)
			ss.At = append(ss.At, rawTime(h.at))
			add(h)
		}
		for _, h := range s.pending {
			ss.Heap = append(ss.Heap, h.arrival)
			ss.At = append(ss.At, rawTime(h.at))
			add(h)
		}
		if len(b.Requests) > 0 {
			var parts [][]byte
			for rest := b.Requests; len(rest) > 0; {
				n := min(len(rest), 4096)
				part := b
				part.Requests = rest[:n]
				data, err := c.AppendBlock(nil, &part)
				if err != nil {
					return nil, fmt.Errorf("write merge state: %w", err)
				}
				parts = append(parts, data)
				rest = rest[n:]
			}
			joined, err := json.Marshal(parts)
			if err != nil {
				return nil, err
			}
			ss.Block = joined
		}
		st.Sources = append(st.Sources, ss)
	}
	return json.Marshal(st)
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
			var parts [][]byte
			if err := json.Unmarshal(ss.Block, &parts); err != nil {
				return fmt.Errorf("read merge state: %w", err)
			}
			for _, p := range parts {
				b := new(Block)
				if err := c.DecodeBlock(p, b); err != nil {
					return fmt.Errorf("read merge state: %w", err)
				}
				b.held = len(b.Requests)
				for i := range b.Requests {
					all = append(all, Ordered{&b.Requests[i], b})
				}
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
