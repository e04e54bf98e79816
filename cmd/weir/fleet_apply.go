package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/pipeline"
	"weir/pipeline/kafka"
)

// A configuration that is applied in the console of a fleet goes into the sequence, as
// one does that comes from a process's file, and into serve's own file. The files of
// the other processes still say what was before. They are passed over until they say
// something else: a mark names what the console has replaced.

const (
	appliedKey = "applied"
	// appliedKept is how many replaced configurations are remembered.
	appliedKept = 32
	// applyWithin bounds how long brokers may take.
	applyWithin = 30 * time.Second
)

// appliedMark is what was applied in the console last.
type appliedMark struct {
	Config   string    `json:"config"` // hash of what is in force
	Replaced []string  `json:"replaced"`
	Time     time.Time `json:"time"`
}

// said tells apart what a configuration says to the whole fleet.
func (c *config) said(keys *pipeline.PrivacyKeys) (string, error) {
	list, err := c.configured(keys)
	if err != nil {
		return "", err
	}
	var ids []string
	for i := range list {
		ids = append(ids, list[i].ID)
	}
	slices.Sort(ids)
	body, err := json.Marshal(struct {
		Config       detectConfig
		Suppressions []string
	}{c.detectConfig(), ids})
	return hashOfText(string(body)), err
}

// over is the mark after a configuration was applied over another.
func (m appliedMark) over(was, now string) appliedMark {
	list := slices.DeleteFunc(slices.Clone(m.Replaced), func(s string) bool { return s == was || s == now })
	if was != now {
		list = append(list, was)
	}
	m.Replaced = list[max(0, len(list)-appliedKept):]
	return m
}

// passedOver reports whether the file of a process, which says is, is what the console
// has replaced. A file that was something else before, which had is of, was changed by
// somebody: it counts. "" is that the process starts.
func (m appliedMark) passedOver(is, had string) bool {
	return slices.Contains(m.Replaced, is) && (had == "" || had == is)
}

// applied is what the marks say of it.
func (f *fleet) applied(ctx context.Context) (m appliedMark, err error) {
	marks, err := f.marks(ctx, appliedKey)
	if r, ok := marks[appliedKey]; ok && err == nil {
		err = json.Unmarshal(r.Value, &m)
	}
	return m, err
}

// noteApplied writes it; nil ends it.
func (f *fleet) noteApplied(ctx context.Context, m *appliedMark) error {
	r := kafka.Record{Key: []byte(appliedKey), Epoch: kafka.NoEpoch}
	if m != nil {
		var err error
		if r.Value, err = json.Marshal(m); err != nil {
			return err
		}
	}
	return f.appendMarks(ctx, []kafka.Record{r})
}

// outdated reports whether what c says was replaced in the console. had is as with
// publish.
func (f *fleet) outdated(ctx context.Context, c, had *config) (bool, error) {
	m, err := f.applied(ctx)
	if err != nil || len(m.Replaced) == 0 {
		return false, err
	}
	is, err := c.said(f.keys)
	was := ""
	if err == nil && had != nil {
		was, err = had.said(f.keys)
	}
	if err != nil || !m.passedOver(is, was) {
		return false, err
	}
	f.log.Warn("the configuration's file says what was replaced in the console: for the whole fleet that stays in force; bring the file up to date with serve's",
		zap.String("file", f.path), zap.String("in_force", m.Config), zap.Time("since", m.Time))
	return true, nil
}

// applyToFleet puts next in force in place of was.
func (f *fleet) applyToFleet(ctx context.Context, next, was *config) error {
	m, err := f.applied(ctx)
	if err != nil {
		return err
	}
	before, err := was.said(f.keys)
	if err != nil {
		return err
	}
	after, err := next.said(f.keys)
	if err != nil {
		return err
	}
	m = m.over(before, after)
	m.Config, m.Time = next.hash(), time.Now().UTC().Truncate(time.Second)
	if err := f.noteApplied(ctx, &m); err != nil { // first: a process that starts meanwhile changes nothing
		return err
	}
	body, err := json.Marshal(next.detectConfig())
	if err != nil {
		return err
	}
	now, err := f.configInForce(ctx)
	if err == nil && !bytes.Equal(now, body) {
		err = f.force(ctx, controlConfig, json.RawMessage(body), body)
	}
	if err != nil {
		return err
	}
	return f.publishConfigured(ctx, next)
}

// configInForce is the detectConfig in force.
func (f *fleet) configInForce(ctx context.Context) ([]byte, error) {
	body, err := f.forced(ctx, controlConfig)
	if err == nil && body == nil {
		body = f.start.Config
	}
	return body, err
}

// ofProcesses are the keys that differ and that each process has in its own file.
func ofProcesses(was, next *config) []string {
	_, list := was.reloaded(next)
	for _, key := range differing("alerts", reflect.ValueOf(was.Alerts), reflect.ValueOf(next.Alerts)) {
		switch key {
		case "alerts.suppressions", "alerts.maintenance", "alerts.max_open", "alerts.max_resolved", "alerts.budget":
		default:
			list = append(list, key)
		}
	}
	return list
}

// deskTuning shows, compares and applies configurations. In a fleet, several processes
// have them.
type deskTuning struct {
	*tuning
	d *desk
}

// Apply implements console.Tuning. What is in force for the whole fleet can be applied:
// how detection and alerts judge. Text that is the file of serve as it is puts that in
// force where it is not.
func (t deskTuning) Apply(ctx context.Context, text, hash string, audit func([]console.ConfigChange, string, string) error) (now console.RunningConfig, restart string, err error) {
	t.applying.Lock()
	defer t.applying.Unlock()
	w, err := t.wish(text, hash)
	if err != nil {
		return now, "", err
	}
	parsed, err := parseConfig([]byte(w.full))
	if err != nil {
		return now, "", refusedConfig(err)
	}
	f, was := t.d.f, t.d.f.current()
	next, _ := was.reloaded(parsed)
	if list := ofProcesses(was, parsed); len(list) > 0 {
		return now, "", refusedConfig(fmt.Errorf("%s: in a fleet this is of the files of the processes that have it; from here are applied detect, the weights of endpoints, alerts.suppressions, maintenance, budget, max_open and max_resolved", strings.Join(list, ", ")))
	}
	// Who asked may go away; what was begun is brought to its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), applyWithin)
	defer cancel()
	if err := t.agrees(ctx, was, w); err != nil {
		return now, "", err
	}
	if err := audit(w.changes, hashOfText(w.running), hashOfText(w.full)); err != nil {
		return now, "", err
	}
	if err := replaceFile(t.s.path, w.full, true); err != nil {
		return now, "", refusedConfig(err)
	}
	if err := f.applyToFleet(ctx, next, was); err != nil {
		return now, "", errors.Join(fmt.Errorf("put the configuration in force for the fleet: %w", err), replaceFile(t.s.path, w.running, false))
	}
	f.inForce.Store(next)
	t.applied(w.full, next.hash())
	f.log.Info("another configuration is in force for what comes now", zap.String("because", "it was applied over the API"), zap.String("config", next.hash()))
	now, err = t.Config()
	return now, "in force for the whole fleet; the files of its other processes say what was before: copy this one to them; until they say something else they are passed over", err
}

// agrees refuses to change what is not in force.
func (t deskTuning) agrees(ctx context.Context, was *config, w wish) error {
	f := t.d.f
	if f.start == nil { // nothing is judged here; applying has it
		start, err := f.beginning(ctx, nil)
		if err != nil {
			return err
		}
		if start == nil {
			return refusedConfig(errors.New("the fleet has not begun: no process that detects has run yet"))
		}
		f.start = start
	}
	now, err := f.configInForce(ctx)
	if err != nil {
		return err
	}
	ours, err := json.Marshal(was.detectConfig())
	if err != nil {
		return err
	}
	switch same := bytes.Equal(now, ours); {
	case !same && w.full != w.running:
		return &console.ConfigError{Status: http.StatusConflict, Text: "for the fleet another configuration is in force than the one in serve's file: bring that up to date, or apply it first as it is"}
	case same && w.full == w.running:
		return refusedConfig(errors.New("it is the running configuration: there is nothing to apply"))
	}
	return nil
}

func (deskTuning) StartBacktest(string, pipeline.Time, pipeline.Time) (string, error) {
	return "", refusedConfig(errors.New("not in a fleet: use weir backtest -c NEW.yaml --against OLD.yaml FILE with a log"))
}
