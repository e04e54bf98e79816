package simulate

import (
	"math/rand/v2"
	"time"
)

// maxHeld bounds the records that wait to be written late.
const maxHeld = 1 << 16

// mangler does to records what happens to them on their way into a log.
type mangler struct {
	how  Logs
	r    *rand.Rand
	emit func(*Event) error
	held []heldEvent // a heap by due
	n    uint64
}

type heldEvent struct {
	due time.Time
	n   uint64
	ev  Event
}

func newMangler(how Logs, seed uint64, emit func(*Event) error) *mangler {
	if how.Late > 0 && how.LateBy == 0 {
		how.LateBy = 30 * time.Second
	}
	return &mangler{how: how, r: rand.New(rand.NewPCG(mix(seed), 0x10c)), emit: emit}
}

func (m *mangler) take(e *Event) error {
	h := m.how
	if h.Late == 0 && h.Duplicates == 0 && h.Skew == 0 {
		return m.emit(e)
	}
	for len(m.held) > 0 && !m.held[0].due.After(e.Time) {
		if err := m.release(); err != nil {
			return err
		}
	}
	now := e.Time
	if h.Skew > 0 { // three servers; a client's address says which
		server := int64(hashName(e.IP)%3) - 1
		e.Time = e.Time.Add(time.Duration(server) * h.Skew)
	}
	if m.r.Float64() < h.Duplicates {
		if err := m.hold(e, now.Add(time.Duration(m.r.Int64N(int64(2*time.Second))))); err != nil {
			return err
		}
	}
	if h.Late > 0 && m.r.Float64() < h.Late {
		return m.hold(e, now.Add(1+time.Duration(m.r.Int64N(int64(h.LateBy)))))
	}
	return m.emit(e)
}

func (m *mangler) hold(e *Event, due time.Time) error {
	if len(m.held) >= maxHeld {
		if err := m.release(); err != nil {
			return err
		}
	}
	m.n++
	m.held = append(m.held, heldEvent{due, m.n, *e})
	for i := len(m.held) - 1; i > 0 && m.before(i, (i-1)/2); i = (i - 1) / 2 {
		m.held[i], m.held[(i-1)/2] = m.held[(i-1)/2], m.held[i]
	}
	return nil
}

func (m *mangler) before(i, j int) bool {
	a, b := &m.held[i], &m.held[j]
	return a.due.Before(b.due) || a.due.Equal(b.due) && a.n < b.n
}

// release emits the record that is due first.
func (m *mangler) release() error {
	first := m.held[0].ev
	last := len(m.held) - 1
	m.held[0] = m.held[last]
	m.held[last] = heldEvent{}
	m.held = m.held[:last]
	for i := 0; ; {
		k := 2*i + 1
		if k >= last {
			break
		}
		if k+1 < last && m.before(k+1, k) {
			k++
		}
		if !m.before(k, i) {
			break
		}
		m.held[i], m.held[k] = m.held[k], m.held[i]
		i = k
	}
	return m.emit(&first)
}

func (m *mangler) flush() error {
	for len(m.held) > 0 {
		if err := m.release(); err != nil {
			return err
		}
	}
	return nil
}
