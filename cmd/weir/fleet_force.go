package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/xxh3"
	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage/sqlite"
)

// What is in force is in the sequence, and in the checkpoints of those that follow it.
// For those that do not, or come later, the topic of marks has it too:
//
//	start/NAME            with what a fleet began: the first one there counts
//	force/KIND/OFFSET     the control of that kind at that offset of the sequence; the
//	                      highest one counts
//	suppression/ID        a suppression
//
// The first two may be large: KEY/0, KEY/1 ... are their pieces, and what is under the key
// says how many, and what they hash to.

const (
	startPrefix       = "start/"
	forcePrefix       = "force/"
	suppressionPrefix = "suppression/"

	markPiece = 900 << 10
	// suppressionKept is how long a suppression is remembered once it is over.
	suppressionKept = 30 * 24 * time.Hour
)

// fleetStart is what members begin with that have no checkpoint. It holds until the
// sequence says otherwise.
type fleetStart struct {
	Edition      []byte                 `json:"edition"`
	Config       json.RawMessage        `json:"config"` // a detectConfig
	Suppressions []pipeline.Suppression `json:"suppressions,omitempty"`
}

func newFleetStart(cfg *config, edition *pipeline.Edition, keys *pipeline.PrivacyKeys) (*fleetStart, error) {
	s := &fleetStart{}
	var err error
	if s.Edition, err = edition.Encode(); err != nil {
		return nil, err
	}
	if s.Config, err = json.Marshal(cfg.detectConfig()); err != nil {
		return nil, err
	}
	s.Suppressions, err = cfg.configured(keys)
	return s, err
}

// begin makes an engine of that edition begin as the fleet did.
func (e *engine) begin(s *fleetStart) error {
	for _, x := range s.Suppressions {
		e.suppress(x)
	}
	return e.setConfig(s.Config)
}

// markRoot is under the key of a mark in pieces.
type markRoot struct {
	Pieces int    `json:"pieces"`
	Hash   string `json:"hash"`
}

func hashOfMark(value []byte) string {
	sum := xxh3.Hash128(value).Bytes()
	return hex.EncodeToString(sum[:])
}

// cutMark is the records of a mark, pieces first.
func cutMark(key string, value []byte) (list []kafka.Record, err error) {
	root := markRoot{Hash: hashOfMark(value)}
	for piece := range slices.Chunk(value, markPiece) {
		list = append(list, kafka.Record{Key: fmt.Appendf(nil, "%s/%d", key, root.Pieces), Value: piece, Epoch: kafka.NoEpoch})
		root.Pieces++
	}
	text, err := json.Marshal(root)
	return append(list, kafka.Record{Key: []byte(key), Value: text, Epoch: kafka.NoEpoch}), err
}

// joinMark is the value of a mark; ok is false when it is not whole.
func joinMark(marks map[string]kafka.Record, key string) (value []byte, ok bool) {
	var root markRoot
	if json.Unmarshal(marks[key].Value, &root) != nil {
		return nil, false
	}
	for i := range root.Pieces {
		value = append(value, marks[fmt.Sprintf("%s/%d", key, i)].Value...)
	}
	return value, hashOfMark(value) == root.Hash
}

// marks are the records of the topic of marks whose keys have a prefix.
func (f *fleet) marks(ctx context.Context, prefix string) (map[string]kafka.Record, error) {
	first, behind, err := f.bus.Bounds(ctx, f.topics.marks, 0)
	if err != nil {
		return nil, err
	}
	marks := map[string]kafka.Record{}
	err = f.bus.ReadRange(ctx, f.topics.marks, 0, first, behind, true, func(r kafka.Record) error {
		if key := string(r.Key); r.Value == nil {
			delete(marks, key)
		} else if strings.HasPrefix(key, prefix) {
			marks[key] = r
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read topic %s: %w", f.topics.marks, err)
	}
	return marks, nil
}

func (f *fleet) appendMarks(ctx context.Context, list []kafka.Record) error {
	p := f.bus.NewProducer(f.topics.marks, 0, true)
	defer p.Close()
	_, err := p.Append(ctx, list)
	return err
}

// whole are the keys of marks in pieces that are whole, with what they hold.
func whole(marks map[string]kafka.Record, depth int) map[string][]byte {
	out := map[string][]byte{}
	for key := range marks {
		if strings.Count(key, "/") != depth {
			continue
		}
		if value, ok := joinMark(marks, key); ok {
			out[key] = value
		}
	}
	return out
}

// beginning returns with what the fleet began; with ours it begins with that, if it
// did not yet. nil is that it did not.
func (f *fleet) beginning(ctx context.Context, ours *fleetStart) (*fleetStart, error) {
	look := func() (*fleetStart, error) {
		marks, err := f.marks(ctx, startPrefix)
		if err != nil {
			return nil, err
		}
		var first *kafka.Record
		var text []byte
		for key, value := range whole(marks, 1) {
			if r := marks[key]; first == nil || r.Offset < first.Offset {
				first, text = &r, value
			}
		}
		if first == nil {
			return nil, nil
		}
		s := &fleetStart{}
		if err := json.Unmarshal(text, s); err != nil {
			return nil, fmt.Errorf("read %s: %w", first.Key, err)
		}
		return s, nil
	}
	s, err := look()
	if s != nil || err != nil || ours == nil {
		return s, err
	}
	text, err := json.Marshal(ours)
	if err != nil {
		return nil, err
	}
	list, err := cutMark(startPrefix+f.instance+"-"+nonce(), text)
	if err == nil {
		err = f.appendMarks(ctx, list)
	}
	if err != nil {
		return nil, err
	}
	if s, err = look(); s == nil && err == nil { // of two that come first at once one counts
		err = errors.New("what the fleet begins with was written, and is not there")
	}
	return s, err
}

// force appends a control and notes that it is in force.
func (f *fleet) force(ctx context.Context, kind string, payload any, note []byte) error {
	at, err := f.appendControlAt(ctx, kind, payload)
	if err != nil {
		return err
	}
	list, err := cutMark(fmt.Sprintf("%s%s/%019d", forcePrefix, kind, at), note)
	if err != nil {
		return err
	}
	marks, err := f.marks(ctx, forcePrefix+kind+"/")
	if err != nil {
		return err
	}
	for key := range marks {
		if key < string(list[len(list)-1].Key) {
			list = append(list, kafka.Record{Key: []byte(key), Epoch: kafka.NoEpoch})
		}
	}
	return f.appendMarks(ctx, list)
}

// forced is what was noted of the control of a kind that is in force; nil for none.
func (f *fleet) forced(ctx context.Context, kind string) ([]byte, error) {
	marks, err := f.marks(ctx, forcePrefix+kind+"/")
	if err != nil {
		return nil, err
	}
	all := whole(marks, 2)
	last := ""
	for key := range all {
		last = max(last, key)
	}
	return all[last], nil
}

// putSuppression makes a suppression, or news of one, hold for what comes behind it in
// the sequence. To do it twice is harmless.
func (f *fleet) putSuppression(ctx context.Context, s pipeline.Suppression) error {
	if err := f.appendControl(ctx, sqlite.SuppressionControl, s); err != nil {
		return err
	}
	return f.noteSuppression(ctx, s)
}

func (f *fleet) noteSuppression(ctx context.Context, s pipeline.Suppression) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return f.appendMarks(ctx, []kafka.Record{{Key: []byte(suppressionPrefix + s.ID), Value: text, Epoch: kafka.NoEpoch}})
}

// suppressions are those that are in force, will be, or were within some weeks, by id.
func (f *fleet) suppressions(ctx context.Context) (list []pipeline.Suppression, err error) {
	marks, err := f.marks(ctx, suppressionPrefix)
	if err != nil {
		return nil, err
	}
	for key := range marks {
		var s pipeline.Suppression
		if err := json.Unmarshal(marks[key].Value, &s); err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(x, y pipeline.Suppression) int { return strings.Compare(x.ID, y.ID) })
	return list, nil
}

// publish puts into the sequence what c says and what is not in force; had is what this
// process had before, nil at its start. A file that says what was replaced in the console
// is passed over. What of c takes a restart is no reason: others
// may be restarted already.
func (f *fleet) publish(ctx context.Context, c, had *config) error {
	if outdated, err := f.outdated(ctx, c, had); outdated || err != nil {
		return err
	}
	body, err := json.Marshal(c.detectConfig())
	if err != nil {
		return fmt.Errorf("write the configuration of detection: %w", err)
	}
	if had != nil {
		old, err := json.Marshal(had.detectConfig())
		if err == nil && bytes.Equal(old, body) {
			return f.publishConfigured(ctx, c)
		}
	}
	before, err := f.configInForce(ctx)
	if err != nil {
		return err
	}
	if !bytes.Equal(before, body) {
		if err := f.force(ctx, controlConfig, json.RawMessage(body), body); err != nil {
			return err
		}
		if err := f.noteApplied(ctx, nil); err != nil { // files count again
			return err
		}
		f.log.Info("another configuration is in force for what comes now", zap.String("config", c.hash()))
	}
	return f.publishConfigured(ctx, c)
}

// publishConfigured puts the suppressions of c into the sequence that are new, and the
// end of those that are gone.
func (f *fleet) publishConfigured(ctx context.Context, c *config) error {
	want, err := c.configured(f.keys)
	if err != nil {
		return err
	}
	have, err := f.suppressions(ctx)
	if err != nil {
		return err
	}
	known, begun := map[string]bool{}, map[string]bool{}
	for i := range have {
		known[have[i].ID] = have[i].Source == "config"
	}
	for _, s := range f.start.Suppressions {
		begun[s.ID] = true
	}
	wanted := map[string]bool{}
	for _, s := range want {
		wanted[s.ID] = true
		switch {
		case known[s.ID]:
			continue
		case begun[s.ID]:
			err = f.noteSuppression(ctx, s)
		default:
			f.log.Info("suppression.create", zap.String("id", s.ID), zap.String("reason", s.Reason))
			err = f.putSuppression(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return f.endSuppressions(ctx, have, wanted)
}

// endSuppressions ends those of a configuration that is not in force any more, and
// forgets those that have been over for long.
func (f *fleet) endSuppressions(ctx context.Context, have []pipeline.Suppression, wanted map[string]bool) error {
	now := pipeline.TimeOf(time.Now())
	for _, s := range have {
		var err error
		switch {
		case wanted[s.ID]:
		case s.Source == "config" && s.End() > now:
			s.Ended = &now
			f.log.Info("suppression.end", zap.String("id", s.ID), zap.String("reason", s.Reason))
			err = f.putSuppression(ctx, s)
		case s.End() < now.Add(-suppressionKept):
			err = f.appendMarks(ctx, []kafka.Record{{Key: []byte(suppressionPrefix + s.ID), Epoch: kafka.NoEpoch}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// editionInForce is the edition that came into the sequence last; nil for none.
func (f *fleet) editionInForce(ctx context.Context) (*pipeline.Edition, error) {
	body, err := f.forced(ctx, controlEdition)
	if err != nil || body == nil {
		return nil, err
	}
	return pipeline.DecodeEdition(body)
}

// publishEdition puts an edition into the sequence.
func (f *fleet) publishEdition(ctx context.Context, edition *pipeline.Edition) error {
	body, err := edition.Encode()
	if err != nil {
		return err
	}
	if err := f.force(ctx, controlEdition, sentEdition{body}, body); err != nil {
		return err
	}
	f.log.Info("edition in force", zap.Int64("number", edition.Number), zap.String("hash", edition.Hash()), zap.Int("templates", edition.Templates.Len()))
	return nil
}

// settle makes what this process was started with the case, as far as it is not: with
// what the fleet begins, which edition was given, which configuration.
func (f *fleet) settle(ctx context.Context) error {
	ours, err := newFleetStart(f.cfg, f.edition, f.keys)
	if err != nil {
		return err
	}
	if f.start, err = f.beginning(ctx, ours); err != nil {
		return err
	}
	given := f.edition
	if f.edition, err = pipeline.DecodeEdition(f.start.Edition); err != nil {
		return err
	}
	if f.given {
		before, err := f.editionInForce(ctx)
		if err != nil {
			return err
		}
		if before == nil {
			before = f.edition
		}
		if before.Hash() != given.Hash() {
			if err := f.publishEdition(ctx, given); err != nil {
				return err
			}
		}
	}
	return f.publish(ctx, f.cfg, nil)
}
