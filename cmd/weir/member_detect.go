package main

import (
	"encoding/json"
	"fmt"
	"maps"

	"weir/detectors"
	"weir/pipeline"
)

// detectMember is detect in one of several processes: it takes the whole requests
// log, as every detect member does, and sends what its slices have to say.
type detectMember struct {
	engine // merge, set, watch, duplicates, facts and labels; no correlate, no book

	truths *pipeline.Gather[detectors.Truth]
	out    *outbox
	sent   []pipeline.Place // by slice: sent up to here
	index  []int            // by slice: its span in out

	rest  []pipeline.Ordered // given out by the merge and not taken yet
	clock bool               // the merge's clock is to be told then

	learned []detectors.Truth
}

// newDetectMember returns a member without slices, at the beginning of the log.
func newDetectMember(cfg *config, shape fleetShape, edition *pipeline.Edition, keys *pipeline.PrivacyKeys, labels map[string]map[string]string, workers int) (*detectMember, error) {
	logins, err := pipeline.NewLoginRules(cfg.Endpoints)
	if err != nil {
		return nil, err
	}
	watch := pipeline.NewProxyWatch(cfg.Identity.TrustedProxies...)
	labels = cloneLabels(labels)
	set, err := detectors.NewSet(detectors.Config{Modes: cfg.modes(), Watch: watch, Logins: logins, Labels: labels, Workers: workers, Slices: shape.slices}, edition)
	if err != nil {
		return nil, err
	}
	m := &detectMember{
		engine: engine{
			merge: pipeline.NewMerge(edition.Lateness, 0), set: set, watch: watch, keys: keys, logins: logins, labels: labels,
			first: pipeline.NoTime, last: pipeline.NoTime,
		},
		out: newOutbox(shape, pipeline.StageDetect), sent: make([]pipeline.Place, shape.slices), index: make([]int, shape.slices),
	}
	m.truths = newTruthGather()
	return m, nil
}

func newTruthGather() *pipeline.Gather[detectors.Truth] {
	return pipeline.NewGather(detectors.PlaceOfTruth, []pipeline.Producer{{Stage: pipeline.StageLogin}}, 0)
}

// control takes the next control of the log, whose record is at [first, last] there;
// the member stands between two records.
func (m *detectMember) control(first, last int64, c *controlEntry) error {
	k, err := kindOf(c)
	if err != nil {
		return err
	}
	if k.passed {
		m.out.controls = append(m.out.controls, m.set.Control(first, last))
	}
	_, err = m.meet(nil, c)
	return err
}

// push takes the next block of the log. step comes before the next one.
func (m *detectMember) push(b *pipeline.Block) {
	m.merge.Push(b)
	m.next()
}

// silence takes the news that sources are silent, as push takes a block.
func (m *detectMember) silence(sources []uint64) {
	for _, id := range sources {
		m.merge.Silence(id)
	}
	m.next()
}

// next takes what the merge gives out.
func (m *detectMember) next() {
	m.batch = m.merge.Next(m.batch[:0])
	m.rest, m.clock = m.distinct(m.batch), true
}

// step detects what was pushed. It returns false where it has to wait for what
// correlate learned: then what there is should be sent, and step called again after
// learn.
func (m *detectMember) step() bool {
	for len(m.rest) > 0 {
		part := m.rest[:min(len(m.rest), engineBatch)]
		var n int
		m.findings, n = m.set.Take(m.findings[:0], part)
		m.keepFindings()
		list := m.set.Signals()
		for i := range list {
			m.out.signal(&list[i], m.index[m.set.SliceOf(&list[i])])
		}
		if n > 0 {
			if m.onBatch != nil {
				m.onBatch(part[:n])
			}
			if m.first == pipeline.NoTime {
				m.first = part[0].Effective
			}
			m.last = part[n-1].Effective
			m.requests += int64(n)
			m.rest = m.rest[n:]
		}
		if n < len(part) {
			return false
		}
	}
	if now, ok := m.merge.Clock(); ok && m.clock && m.last != pipeline.NoTime && now > m.last {
		m.last = now
		m.findings = m.set.Advance(m.findings[:0], now)
		m.keepFindings()
	}
	m.clock = false
	m.merge.Done(nil)
	return true
}

// keepFindings puts what the set found where it will be sent from.
func (m *detectMember) keepFindings() {
	for i := range m.findings {
		m.out.findings.Add(m.findings[i], m.index[m.findings[i].Slice])
	}
}

// learn takes a bundle of truths from its position in their log.
func (m *detectMember) learn(position int64, b *pipeline.Bundle[detectors.Truth]) error {
	if err := m.truths.Push(position, b); err != nil {
		return err
	}
	var through pipeline.Place
	m.learned, through = m.truths.Next(m.learned[:0])
	m.set.LearnTruth(m.learned, through.Through())
	return nil
}

// flush returns what there is to send; reset it once it is sent.
func (m *detectMember) flush() *outbox {
	var spans []pipeline.Span
	for _, i := range m.set.Slices() {
		to := m.set.SliceReached(i)
		spans = append(spans, pipeline.Span{Producer: pipeline.Producer{Stage: pipeline.StageDetect, Slice: uint16(i)}, From: m.sent[i], To: to})
		m.sent[i] = to
	}
	m.out.seal(spans)
	return m.out
}

// idle reports whether the member stands between two records of the log: only then
// can its state be kept.
func (m *detectMember) idle() bool { return len(m.rest) == 0 && !m.clock }

// detectCommon is the state of a detect member outside its slices: the same in
// every member at one position of the log. It is kept with each slice.
type detectCommon struct {
	Position int64                  `json:"position"` // of the log, taken through
	First    int64                  `json:"first"`
	Last     int64                  `json:"last"`
	Requests int64                  `json:"requests"`
	Set      detectors.SnapshotHead `json:"set"`
	Truths   pipeline.GatherState   `json:"truths"`
	Facts    json.RawMessage        `json:"facts,omitempty"`
	Edition  []byte                 `json:"edition"`
	Merge    []byte                 `json:"merge"`
	Watch    []byte                 `json:"watch"`
	Dedupe   []byte                 `json:"dedupe,omitempty"`

	Config       json.RawMessage        `json:"config,omitempty"`
	Suppressions []pipeline.Suppression `json:"suppressions,omitempty"`
	Labels       map[string]labelled    `json:"labels,omitempty"`
}

// common writes the state outside the slices; position is the member's in the log.
func (m *detectMember) common(codec *pipeline.Codec, position int64) ([]byte, error) {
	c := detectCommon{
		Position: position, First: int64(m.first), Last: int64(m.last), Requests: m.requests, Set: m.set.Head(), Truths: m.truths.State(), Facts: m.factsBody,
		Config: m.configBody, Suppressions: m.set.Suppressions(), Labels: m.labels,
	}
	var err error
	if c.Merge, err = m.merge.Snapshot(codec); err != nil {
		return nil, err
	}
	if c.Watch, err = m.watch.AppendState(nil); err != nil {
		return nil, err
	}
	if m.dedupe != nil {
		c.Dedupe = m.dedupe.AppendState(nil)
	}
	if c.Edition, err = m.set.Edition().Encode(); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// restoreCommon makes a new member go on from where data was written, and returns
// its position in the log. Slices are added behind it.
func (m *detectMember) restoreCommon(codec *pipeline.Codec, data []byte) (position int64, err error) {
	var c detectCommon
	if err := json.Unmarshal(data, &c); err != nil {
		return 0, fmt.Errorf("read the state of detect: %w", err)
	}
	edition, err := pipeline.DecodeEdition(c.Edition)
	if err != nil {
		return 0, err
	}
	if err := m.setEdition(edition); err != nil {
		return 0, err
	}
	if c.Config != nil {
		if err := m.setConfig(c.Config); err != nil {
			return 0, err
		}
	}
	for _, s := range c.Suppressions {
		m.suppress(s)
	}
	clear(m.labels)
	maps.Copy(m.labels, c.Labels)
	if c.Facts != nil {
		if err := m.setFacts(c.Facts); err != nil {
			return 0, err
		}
	}
	if c.Dedupe != nil && m.dedupe != nil {
		if err := m.dedupe.RestoreState(c.Dedupe); err != nil {
			return 0, err
		}
	}
	if err := m.merge.Restore(codec, c.Merge); err != nil {
		return 0, err
	}
	if err := m.watch.RestoreState(c.Watch); err != nil {
		return 0, err
	}
	if err := m.truths.Restore(c.Truths); err != nil {
		return 0, err
	}
	if err := m.set.RestoreHead(c.Set); err != nil {
		return 0, err
	}
	m.first, m.last, m.requests = pipeline.Time(c.First), pipeline.Time(c.Last), c.Requests
	return c.Position, nil
}

// addSlice takes over a slice as it was at done; nothing may wait to be sent.
func (m *detectMember) addSlice(i int, done pipeline.Place, chunk func(n uint32) ([]byte, error)) error {
	if err := m.set.AddSlice(i, done, chunk); err != nil {
		return err
	}
	m.sent[i] = done
	m.number()
	return nil
}

// removeSlice gives a slice up; nothing may wait to be sent.
func (m *detectMember) removeSlice(i int) {
	m.set.RemoveSlice(i)
	m.number()
}

func (m *detectMember) number() {
	for at, i := range m.set.Slices() {
		m.index[i] = at
	}
}
