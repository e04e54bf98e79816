package main

import (
	"encoding/json"
	"fmt"
	"maps"

	"weir/alerts"
	"weir/detectors"
	"weir/pipeline"
)

// crossMember is one slice of a stage of correlate.
type crossMember struct {
	engine // correlate, labels
	of     pipeline.Producer
	in     *pipeline.Gather[pipeline.Signal]
	out    *outbox
	sent   pipeline.Place
	done   pipeline.Place

	batch []pipeline.Signal
}

// newCrossMember returns a member that has taken nothing yet.
func newCrossMember(cfg *config, shape fleetShape, of pipeline.Producer, edition *pipeline.Edition, labels map[string]map[string]string) (*crossMember, error) {
	logins, err := pipeline.NewLoginRules(cfg.Endpoints)
	if err != nil {
		return nil, err
	}
	labels = cloneLabels(labels)
	cross, err := detectors.NewCorrelator(detectors.Config{Modes: cfg.modes(), Logins: logins, Labels: labels, Stage: of.Stage}, edition)
	if err != nil {
		return nil, err
	}
	return &crossMember{
		engine: engine{cross: cross, logins: logins, labels: labels}, of: of, out: newOutbox(shape, of.Stage),
		in: pipeline.NewGather(placeOfSignal, shape.producers(of.Stage), heldSignals),
	}, nil
}

// heldSignals is how many signals wait in one slice for producers that are behind:
// some 12 MB with their requests.
const heldSignals = 1 << 14

func placeOfSignal(s *pipeline.Signal) pipeline.Place { return s.Place }

func placeOfFinding(f *pipeline.Finding) pipeline.Place { return f.Place }

// push takes a bundle from its position in the member's log, and what can be taken
// of it then, controls included.
func (m *crossMember) push(position int64, b *pipeline.Bundle[pipeline.Signal], look controlAt) error {
	if err := m.in.Push(position, b); err != nil {
		return fmt.Errorf("%s: %w", m.of, err)
	}
	for {
		m.next()
		if !m.in.Control() {
			return nil
		}
		c, err := look(m.done)
		if err == nil {
			_, err = m.meet(nil, c)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.of, err)
		}
		m.out.controls = append(m.out.controls, m.done)
	}
}

// next takes what can be taken now, up to the next control.
func (m *crossMember) next() {
	m.batch, m.done = m.in.Next(m.batch[:0])
	m.findings = m.findings[:0]
	for i := range m.batch {
		m.findings = m.cross.Process(m.findings, &m.batch[i])
		list := m.cross.Sent()
		for j := range list {
			m.out.signal(&list[j], 0)
		}
	}
	if m.done.Time() != pipeline.NoTime {
		m.findings = m.cross.Advance(m.findings, m.done.Through())
	}
	for i := range m.findings {
		m.out.findings.Add(m.findings[i], 0)
	}
	for _, t := range m.cross.Learned() {
		m.out.truths.Add(t, 0)
	}
	clear(m.batch)
}

// flush returns what there is to send; reset it once it is sent.
func (m *crossMember) flush() *outbox {
	m.out.seal([]pipeline.Span{{Producer: m.of, From: m.sent, To: m.done}})
	m.sent = m.done
	return m.out
}

// crossHead is the state of a member outside its virtual shards.
type crossHead struct {
	Cross   detectors.CorrelatorHead `json:"cross"`
	In      pipeline.GatherState     `json:"in"`
	Edition []byte                   `json:"edition"`
	Config  json.RawMessage          `json:"config,omitempty"`
	Labels  map[string]labelled      `json:"labels,omitempty"`
}

// head writes the state outside the virtual shards, which cross.Changed writes.
// What there was to send is sent.
func (m *crossMember) head() ([]byte, error) {
	edition, err := m.cross.Edition().Encode()
	if err != nil {
		return nil, err
	}
	return json.Marshal(crossHead{m.cross.Head(), m.in.State(), edition, m.configBody, m.labels})
}

// restore makes a new member go on from where head was written, and returns the
// position from which its log is read.
func (m *crossMember) restore(head []byte, chunk func(n uint32) ([]byte, error)) (position int64, err error) {
	var h crossHead
	if err := json.Unmarshal(head, &h); err != nil {
		return 0, fmt.Errorf("read the state of %s: %w", m.of, err)
	}
	edition, err := pipeline.DecodeEdition(h.Edition)
	if err != nil {
		return 0, err
	}
	if err := m.setEdition(edition); err != nil {
		return 0, err
	}
	if h.Config != nil {
		if err := m.setConfig(h.Config); err != nil {
			return 0, err
		}
	}
	clear(m.labels)
	maps.Copy(m.labels, h.Labels)
	if err := m.cross.Restore(h.Cross, chunk); err != nil {
		return 0, err
	}
	m.sent, m.done = h.In.Reached, h.In.Reached
	return h.In.Position, m.in.Restore(h.In)
}

// alertMember is the alert stage of a fleet: one is active.
type alertMember struct {
	engine // the book, facts
	in     *pipeline.Gather[pipeline.Finding]
	batch  []pipeline.Finding
}

// newAlertMember returns a member that has taken nothing yet.
func newAlertMember(cfg *config, shape fleetShape, edition *pipeline.Edition) (*alertMember, error) {
	logins, err := pipeline.NewLoginRules(cfg.Endpoints)
	if err != nil {
		return nil, err
	}
	versions := pipeline.AlertVersions{Weir: version, Config: cfg.hash(), Edition: edition.Hash()}
	m := &alertMember{
		engine: engine{
			book: alerts.NewBook(cfg.Alerts, versions), bookConfig: cfg.Alerts, versions: versions, logins: logins,
			labels: map[string]map[string]string{}, first: pipeline.NoTime, last: pipeline.NoTime,
		},
		in: pipeline.NewGather(placeOfFinding, shape.producers(0), 0),
	}
	m.book.Weigh(logins)
	return m, nil
}

// push takes a bundle from its position in the log of findings, and appends to dst
// the revisions that what can be taken then causes, controls included.
func (m *alertMember) push(dst []pipeline.Alert, position int64, b *pipeline.Bundle[pipeline.Finding], look controlAt) ([]pipeline.Alert, error) {
	if err := m.in.Push(position, b); err != nil {
		return dst, err
	}
	for {
		dst = m.next(dst)
		if !m.in.Control() {
			return dst, nil
		}
		c, err := look(m.in.Reached())
		if err == nil {
			dst, err = m.meet(dst, c)
		}
		if err != nil {
			return dst, err
		}
	}
}

// next takes what can be taken now, up to the next control.
func (m *alertMember) next(dst []pipeline.Alert) []pipeline.Alert {
	var done pipeline.Place
	m.batch, done = m.in.Next(m.batch[:0])
	for i := range m.batch {
		// A finding about a late request comes when event time is further already.
		dst = m.book.Advance(dst, m.batch[i].Place.Time())
		m.findings = m.batch[i : i+1]
		dst = m.take(dst)
	}
	clear(m.batch)
	if done.Time() == pipeline.NoTime {
		return dst
	}
	m.last = done.Time()
	return m.book.Advance(dst, m.last)
}

// alertHead is the state of the alert member.
type alertHead struct {
	In    pipeline.GatherState `json:"in"`
	Facts json.RawMessage      `json:"facts,omitempty"`
	Book  []byte               `json:"book"`

	Edition      string                 `json:"edition"` // its hash
	Config       json.RawMessage        `json:"config,omitempty"`
	Suppressions []pipeline.Suppression `json:"suppressions,omitempty"`
}

func (m *alertMember) state() ([]byte, error) {
	book, err := m.book.Snapshot()
	if err != nil {
		return nil, err
	}
	return json.Marshal(alertHead{m.in.State(), m.factsBody, book, m.versions.Edition, m.configBody, m.book.Suppressions()})
}

// restore makes a new member go on from where data was written, and returns the
// position from which the log is read.
func (m *alertMember) restore(data []byte) (position int64, err error) {
	var h alertHead
	if err := json.Unmarshal(data, &h); err != nil {
		return 0, fmt.Errorf("read the state of alert: %w", err)
	}
	if h.Facts != nil {
		if err := m.setFacts(h.Facts); err != nil {
			return 0, err
		}
	}
	m.versions.Edition = h.Edition
	if h.Config != nil {
		if err := m.setConfig(h.Config); err != nil {
			return 0, err
		}
	}
	if err := m.restoreBook(h.Book); err != nil {
		return 0, err
	}
	for _, s := range h.Suppressions {
		m.suppress(s)
	}
	return h.In.Position, m.in.Restore(h.In)
}
