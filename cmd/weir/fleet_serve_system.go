package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap"

	"weir/alerts"
	"weir/console"
	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage/clickhouse"
)

// beats are what the processes of the fleet said of themselves, the first roles
// first.
func (d *desk) beats() (list []processBeat, times []time.Time) {
	type told struct {
		beat processBeat
		at   time.Time
	}
	var all []told
	for _, m := range d.marks.under(processPrefix) {
		var b processBeat
		if json.Unmarshal(m.value, &b) == nil {
			all = append(all, told{b, m.time})
		}
	}
	order := func(b *processBeat) int {
		return slices.IndexFunc(roles(), func(r role) bool { return len(b.Roles) > 0 && r.name == b.Roles[0] })
	}
	slices.SortFunc(all, func(x, y told) int {
		return cmp.Or(cmp.Compare(order(&x.beat), order(&y.beat)), strings.Compare(x.beat.Instance, y.beat.Instance), cmp.Compare(x.beat.PID, y.beat.PID))
	})
	for _, t := range all {
		list, times = append(list, t.beat), append(times, t.at)
	}
	return list, times
}

// through is the event time that the alerts have reached, 0 before there is any.
func (d *desk) through() pipeline.Time {
	var t pipeline.Time
	list, _ := d.beats()
	for i := range list {
		if list[i].Through != nil {
			t = max(t, *list[i].Through)
		}
	}
	return t
}

// sourceNames are the names of sources by their ids on the bus.
func (d *desk) sourceNames() map[uint64]string {
	names := map[uint64]string{}
	for _, m := range d.marks.under(factPrefix) {
		var told fleetSources
		if json.Unmarshal(m.value, &told) == nil {
			for _, s := range told.Sources {
				names[s.ID] = s.Name
			}
		}
	}
	return names
}

// system says how the fleet is, by what its processes say, and by the bus.
func (d *desk) system(ctx context.Context) (v console.System, err error) {
	stats, err := d.db.Stats(ctx)
	if err != nil {
		return v, err
	}
	v = console.System{
		Version: version, Config: d.f.current().hash(), Started: timeOf(d.status.startedAt()),
		State: []console.SystemState{}, Sources: []console.SystemSource{}, Rejects: []console.SystemRejects{}, Sinks: []console.SystemSink{}, Processes: []console.SystemProcess{},
		Store: console.SystemStore{
			Path: d.cfg.Store.Path, Bytes: stats.Bytes, FileBytes: stats.FileBytes, Alerts: stats.Alerts, ReserveArmed: stats.ReserveArmed,
		},
		Detect: console.SystemDetect{Through: optionalTime(d.through()), Differences: stats.ReplayDifferences},
	}
	if e := d.names.of.Load(); e != nil {
		v.Edition = &console.SystemEdition{Number: e.Number, Effective: optionalTime(e.Effective), Hash: e.Hash()}
	}
	if v.Detect.Through != nil {
		v.Detect.LagSeconds = max(0, time.Since(v.Detect.Through.Std()).Seconds())
	}
	if free := d.diskFree(); free >= 0 {
		v.Store.DiskFree = &free
	}
	d.systemProcesses(&v)
	if err := d.systemRequests(ctx, &v); err != nil {
		return v, err
	}
	return v, d.systemSinks(&v)
}

// systemProcesses adds what processes say. What they counted is of their last start.
func (d *desk) systemProcesses(v *console.System) {
	list, times := d.beats()
	rejects := map[string]int64{}
	for i := range list {
		b := &list[i]
		age := time.Since(times[i])
		if age > beatForgotten || replaced(list, b, times[i]) {
			continue
		}
		p := console.SystemProcess{
			Instance: b.Instance, PID: b.PID, Roles: b.Roles, Version: b.Version, Config: b.Config, Started: timeOf(b.Started), Seen: timeOf(times[i]),
			State: "running", Slices: []console.SystemState{}, Lag: []console.SystemState{},
		}
		switch {
		case b.Ended:
			p.State = "ended"
		case age > beatGone:
			p.State = "gone"
		}
		p.Slices, p.Lag = statesOf(b.Slices), statesOf(b.Lag)
		v.Processes = append(v.Processes, p)
		if p.State == "running" && slices.Contains(b.Roles, "detect") {
			// Each of them reads all of the sequence: the one that is furthest behind counts.
			v.Detect.LagRecords = max(v.Detect.LagRecords, b.Lag[pipeline.StageDetect.String()])
		}
		v.Detect.Differences += b.Differences
		for _, s := range b.Sources {
			v.Sources = append(v.Sources, console.SystemSource{Source: s.Source, Requests: s.Lines - s.Rejected, Lines: s.Lines, Rejected: s.Rejected, Lost: s.Lost, LastLine: s.LastLine})
		}
		for reason, n := range b.Rejects {
			rejects[reason] += n
		}
	}
	for reason, n := range rejects {
		v.Rejects = append(v.Rejects, console.SystemRejects{Reason: reason, Count: n})
	}
	slices.SortFunc(v.Rejects, func(a, b console.SystemRejects) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Reason, b.Reason))
	})
}

// replaced reports whether a process of the same instance with the roles of b was
// started after b spoke last. Starts are kept in whole seconds.
func replaced(list []processBeat, b *processBeat, last time.Time) bool {
	return slices.ContainsFunc(list, func(o processBeat) bool {
		return o.Instance == b.Instance && slices.Equal(o.Roles, b.Roles) && o.PID != b.PID && o.Started.After(last.Add(-2*time.Second))
	})
}

func statesOf(m map[string]int64) []console.SystemState {
	list := []console.SystemState{}
	for name, n := range m {
		list = append(list, console.SystemState{Name: name, Value: n})
	}
	slices.SortFunc(list, func(a, b console.SystemState) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// systemRequests adds what ClickHouse holds, where there is one.
func (d *desk) systemRequests(ctx context.Context, v *console.System) error {
	err := d.read(ctx, func(db *clickhouse.DB) error {
		sum, err := db.Summary(ctx)
		if err != nil {
			return err
		}
		v.Store.Requests, v.Store.Oldest, v.Store.Newest = &sum.Requests, optionalTime(sum.Oldest), optionalTime(sum.Newest)
		const span = 10 * time.Minute
		v.PerSecond = new(0.0)
		if sum.Requests == 0 {
			return nil
		}
		list, err := db.Minutes(ctx, sum.Newest.Add(-span), sum.Newest+1)
		var n int64
		for _, m := range list {
			n += m.Requests
		}
		v.PerSecond = new(float64(n) / span.Seconds())
		return err
	})
	if _, ok := errors.AsType[*console.MissingError](err); ok {
		return nil // the rest is known
	}
	return err
}

// sinkStates are what the sinks have, by name.
func (d *desk) sinkStates() (map[string]*sinkState, error) {
	unpack, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer unpack.Close()
	states := map[string]*sinkState{}
	for name, m := range d.marks.under(sinkPrefix) {
		data, err := unpack.DecodeAll(m.value, nil)
		st := newSinkState()
		if err == nil {
			err = json.Unmarshal(data, st)
		}
		if err != nil {
			return nil, fmt.Errorf("read what sink %s has: %w", name, err)
		}
		states[name] = st
	}
	return states, nil
}

func (d *desk) systemSinks(v *console.System) error {
	states, err := d.sinkStates()
	if err != nil {
		return err
	}
	said := map[string]alerts.SinkStatus{}
	list, times := d.beats()
	for i := range list {
		for _, s := range list[i].Sinks {
			if !list[i].Ended && time.Since(times[i]) <= beatGone {
				said[s.Name] = s
			}
		}
	}
	for _, name := range d.f.current().Alerts.SinkNames() {
		sink := console.SystemSink{Name: name, Kind: d.f.current().Alerts.SinkKind(name), State: said[name].State, Reason: said[name].Reason, Behind: v.Store.Alerts, Dead: int64(len(d.dead.of(name)))}
		if st := states[name]; st != nil {
			sink.Seq, sink.Behind, sink.Retries = st.Cursor, max(0, v.Store.Alerts-st.Cursor), int64(len(st.Retries))
		}
		v.Sinks = append(v.Sinks, sink)
	}
	return nil
}

// deliveries says how far each sink has come with an alert's latest revision.
func (d *desk) deliveries(_ context.Context, a *console.Found) ([]console.Delivery, error) {
	states, err := d.sinkStates()
	if err != nil {
		return nil, err
	}
	list := []console.Delivery{}
	for _, name := range d.f.current().Alerts.SinkNames() {
		out := console.Delivery{Sink: name, Kind: d.f.current().Alerts.SinkKind(name), Revision: a.Alert.Revision, Seq: a.Seq}
		st := cmp.Or(states[name], newSinkState())
		retry, retrying := st.Retries[a.Seq]
		letter, dead := d.dead.of(name)[a.Seq]
		switch {
		case a.Backfill:
			out.State = "history"
		case dead:
			out.State, out.Reason, out.Time = "dead", letter.Error, optionalTime(timeOf(letter.Time))
		case retrying:
			out.State, out.Attempts, out.Next = "retrying", retry.Attempts, optionalTime(timeOf(retry.Next))
		case !d.f.current().Alerts.Wants(name, &a.Alert):
			out.State = "not_routed"
		case st.Cursor >= a.Seq:
			out.State = "delivered"
		default:
			out.State = "waiting"
		}
		list = append(list, out)
	}
	return list, nil
}

// deadBook is what sinks did not take, of the topic of what could not be dealt
// with. Several goroutines use it.
type deadBook struct {
	mu    sync.Mutex
	sinks map[string]map[int64]kafka.DeadLetter // by sink and seq
}

// of returns a copy of a sink's.
func (b *deadBook) of(sink string) map[int64]kafka.DeadLetter {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[int64]kafka.DeadLetter{}
	maps.Copy(found, b.sinks[sink])
	return found
}

// followDead reads the topic until ctx ends.
func (d *desk) followDead(ctx context.Context) error {
	return d.f.tail(ctx, d.f.topics.dead, 0, 0, func(r kafka.Record) error {
		var l kafka.DeadLetter
		if err := json.Unmarshal(r.Value, &l); err != nil {
			d.log.Warn("a dead letter cannot be read", zap.Int64("offset", r.Offset), zap.Error(err))
			return nil
		}
		if l.Reason != "sink" || l.Topic != d.f.topics.alerts {
			return nil
		}
		l.Value = nil
		d.dead.mu.Lock()
		defer d.dead.mu.Unlock()
		sink := string(l.Key)
		if d.dead.sinks[sink] == nil {
			d.dead.sinks[sink] = map[int64]kafka.DeadLetter{}
		}
		d.dead.sinks[sink][l.Offset+1] = l
		return nil
	})
}
