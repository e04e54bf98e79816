package detectors

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"weir/pipeline"
)

// TruthDelay is how long after the minute in which it was learned login truth
// takes effect, whatever the wiring: so far detect may run ahead of correlate where
// they are different processes. What the edition knows already does not wait.
const TruthDelay = 10 * time.Minute

// Truth is what correlate had learned of logins when the minute ended at At; detect
// uses it from From on.
type Truth struct {
	At     pipeline.Time  `json:"at"`
	From   pipeline.Time  `json:"from"`
	Logins []learnedTruth `json:"logins"`
}

// truthBook is the truths that detect knows: the one in use, and those that take
// effect later.
type truthBook struct {
	list    []Truth
	through pipeline.Time // it is complete up to what was learned by then
	used    pipeline.Time // From of the one in use, where there is one
}

// current is the truth for time now: its index, -1 for none.
func (b *truthBook) current(now pipeline.Time) int {
	at := -1
	for i := range b.list {
		if b.list[i].From <= now {
			at = i
		}
	}
	return at
}

// learn makes the truth of the minute at hand the one in use; it changes only
// between minutes, so that it does not depend on batches. force is set when
// observers are new.
func (s *Set) learn(force bool) {
	b := &s.truth
	at := b.current(pipeline.Time(s.minute * 60e6))
	var logins []learnedTruth
	used := pipeline.NoTime
	if at >= 0 {
		logins, used = b.list[at].Logins, b.list[at].From
	}
	if used == b.used && !force {
		return
	}
	b.used = used
	s.v.truth = logins
	for _, w := range s.workers {
		w.v.truth = logins
	}
}

// LearnTruth takes what correlate, another process, says of the minutes up to and
// with the one that ended at through: truths are in order, none is left out, and
// those that are known already are passed over.
func (s *Set) LearnTruth(truths []Truth, through pipeline.Time) {
	b := &s.truth
	for i := range truths {
		if n := len(b.list); n == 0 || truths[i].At > b.list[n-1].At {
			b.list = append(b.list, truths[i])
		}
	}
	b.through = max(b.through, through)
	if !s.begun {
		return
	}
	if at := b.current(pipeline.Time(s.minute * 60e6)); at > 0 {
		b.list = slices.Delete(b.list, 0, at)
	}
	s.learn(false) // the minute at hand may have waited for it
}

// ready reports whether the truth of the minute at hand is known.
func (s *Set) ready() bool {
	if s.cfg.Slices == 0 {
		return true
	}
	needed := pipeline.Time(s.minute * 60e6).Add(-TruthDelay)
	return s.truth.through >= needed || needed <= pipeline.Time(s.since*60e6)
}

// gatherTruth puts together what the tables learned until at.
func (c *Correlator) gatherTruth(at pipeline.Time) {
	if !c.relearn {
		return
	}
	c.relearn = false
	t := Truth{At: at, From: at.Add(TruthDelay)}
	for _, x := range c.shards {
		if x == nil {
			continue
		}
		for _, table := range x.tables[:len(c.junctions)] {
			if tt, ok := table.(*truthTable); ok {
				for _, a := range tt.endpoints {
					if len(a.Learned) > 0 {
						t.Logins = append(t.Logins, learnedTruth{a.Template, a.Learned})
					}
				}
			}
		}
	}
	slices.SortFunc(t.Logins, func(a, b learnedTruth) int { return compare(a.Template, b.Template) })
	// The one in use and those to come; a list that was given out stays as it is.
	var list []Truth
	for i := range c.truths {
		if i+1 == len(c.truths) || c.truths[i+1].From > at {
			list = append(list, c.truths[i])
		}
	}
	c.truths = append(list, t)
	if c.cfg.Stage != 0 {
		c.learned = append(c.learned, t)
	}
}

// Learned returns the truths learned since the last call.
func (c *Correlator) Learned() []Truth {
	out := c.learned
	c.learned = nil
	return out
}

// PlaceOfTruth is the place of t, for a Gather: where its minute ends.
func PlaceOfTruth(t *Truth) pipeline.Place { return pipeline.PlaceReached(t.At) }

// AppendTruths appends an encoded bundle of truths to dst, and DecodeTruths reads
// it: JSON.
func AppendTruths(dst []byte, b *pipeline.Bundle[Truth]) ([]byte, error) {
	data, err := json.Marshal(b)
	return append(dst, data...), err
}

// DecodeTruths fills b from data, an encoded bundle.
func DecodeTruths(data []byte, b *pipeline.Bundle[Truth]) error {
	*b = pipeline.Bundle[Truth]{}
	if err := json.Unmarshal(data, b); err != nil {
		return fmt.Errorf("decode truths: %w", err)
	}
	return nil
}
