package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"weir/console"
	"weir/detectors"
	"weir/pipeline"
)

// What the console shows of traffic, detectors and weir itself.

func (s consoleStore) Minutes(ctx context.Context, since, until pipeline.Time, fn func(m console.Minute)) error {
	stats, err := s.db.Stats(ctx)
	if err != nil {
		return err
	}
	names := map[uint64]string{}
	for _, src := range stats.Sources {
		names[src.ID] = src.Source
	}
	list, err := s.db.Minutes(ctx, since, until)
	for _, m := range list {
		fn(console.Minute{Time: m.Time, Source: names[m.SourceID], Class: m.StatusClass, Requests: m.Requests, Bytes: m.Bytes})
	}
	return err
}

func (s consoleStore) EndpointTotals(ctx context.Context, since, until pipeline.Time) ([]console.EndpointTotal, int64, error) {
	stored, other, err := s.db.EndpointTotals(ctx, since, until)
	list := make([]console.EndpointTotal, len(stored))
	for i, e := range stored {
		list[i] = console.EndpointTotal(e)
	}
	return list, other, err
}

func (s consoleStore) EndpointMinutes(ctx context.Context, of pipeline.Endpoint, since, until pipeline.Time, fn func(m console.Minute)) error {
	list, err := s.db.EndpointMinutes(ctx, of, since, until)
	for _, m := range list {
		fn(console.Minute{Time: m.Time, Class: m.StatusClass, Requests: m.Requests, Bytes: m.Bytes})
	}
	return err
}

// detectorWords say in a few words and in one sentence what a detector looks for;
// docs/detectors.md says how.
func detectorWords() map[string][2]string {
	return map[string][2]string{
		"probe.path":      {"Probing for paths", "Clients that look for what might be there: word lists, backup files, admin pages, exploits that try a path."},
		"auth.bruteforce": {"Password guessing", "Clients that try many passwords, told by logins that fail, discounted by rate so that a stuck client does not page."},
		"enum.object":     {"Walking object ids", "Clients that ask for other people's objects: ids in order, ids that miss or are refused, objects that others own."},
		"scrape.crawl":    {"Scraping", "Clients that read far more of the items than ordinary ones do, alone or as a crowd that shares one trait."},
		"auth.stuffing":   {"Credential stuffing", "Clients or crowds that try stolen pairs of names and passwords: many accounts, one or two tries each."},
		"auth.spraying":   {"Password spraying", "Clients or crowds that try a few common passwords at many accounts."},
		"enum.user":       {"Looking for accounts", "Clients that find out which accounts exist, at logins, resets and registrations."},
		"inject.probe":    {"Injection probes", "Requests that carry payloads for databases, shells, templates or paths, and clients that keep trying them."},
		"data.exposure":   {"Data taken out", "Clients that take more bytes of what matters than their past and their cohort."},
		"volume.flood":    {"Floods", "Clients that ask far more often than their past, their cohort and the endpoint's capacity."},
		"auth.takeover":   {"Account takeover", "Accounts that somebody else gets into: a success after failures, from a client and place that are new to it."},
		"key.misuse":      {"API key misuse", "Keys and sessions that show up where and how their owner never used them."},
	}
}

// detectorInfos lists the detectors as they are configured.
func (s *service) detectorInfos() []console.DetectorInfo {
	modes, words := s.current().modes(), detectorWords()
	var list []console.DetectorInfo
	for _, name := range detectors.Names() {
		mode := string(cmp.Or(modes[name], detectors.ModeOn))
		list = append(list, console.DetectorInfo{
			Name: name, Mode: mode, Title: words[name][0], Doc: words[name][1],
			Knobs: []console.Knob{{Name: "detect." + name + ".mode", Value: mode, Default: string(detectors.ModeOn), Text: "on; shadow: findings are stored and raise no alert; off"}},
		})
	}
	return list
}

// templateOf names the endpoint of a path.
func (s *service) templateOf(host, path string) string {
	return string(s.names.name(nil, host, path))
}

// baseline is what is known of an endpoint.
func (s *service) baseline(of pipeline.Endpoint) *console.Baseline {
	e := s.names.of.Load()
	if e == nil {
		return nil
	}
	var m pipeline.Match
	e.Templates.Match(of.Host, of.Template, &m)
	b := &console.Baseline{Edition: e.Hash(), Known: m.Known, Facts: []console.BaselineFact{}}
	limits := s.limits.Load()
	if limits == nil {
		return b
	}
	for by, list := range map[string][]console.EndpointLimit{"address": limits.ByAddress, "credential": limits.ByKey} {
		for i := range list {
			if l := &list[i]; l.Method == of.Method && l.Template == of.Template && (l.Host == "" || l.Host == of.Host) {
				b.Facts = append(b.Facts,
					console.BaselineFact{Name: "median_" + by, Value: float64(l.Median), Unit: "requests a minute", Text: "the busiest minute of the median client without an alert, by " + by},
					console.BaselineFact{Name: "most_" + by, Value: float64(l.Most), Unit: "requests a minute", Text: "the busiest minute of any client without an alert, by " + by},
					console.BaselineFact{Name: "limit_" + by, Value: float64(l.PerMinute), Unit: "requests a minute", Text: "what a client may be held to, by " + by},
					console.BaselineFact{Name: "clients_" + by, Value: float64(l.Clients), Unit: "clients", Text: "without an alert, that this is read off"})
			}
		}
	}
	slices.SortFunc(b.Facts, func(x, y console.BaselineFact) int { return strings.Compare(x.Name, y.Name) })
	return b
}

// system says how weir is.
func (s *service) system(ctx context.Context) (v console.System, err error) {
	stats, err := s.db.Stats(ctx)
	if err != nil {
		return v, err
	}
	st := &s.status
	v = console.System{
		Version: version, Config: s.current().hash(), Started: timeOf(st.startedAt()), Sources: []console.SystemSource{}, Rejects: []console.SystemRejects{}, Sinks: []console.SystemSink{}, Processes: []console.SystemProcess{},
		Detect: console.SystemDetect{
			Through: optionalTime(pipeline.Time(st.eventTime.Load())), LagRecords: max(0, stats.Last-st.detected.Load()), LagSeconds: st.lagSeconds(), Position: new(st.detected.Load()),
			Late: new(st.late.Load()), Skewed: new(st.skewed.Load()), Duplicates: new(st.copies.Load()), Differences: stats.ReplayDifferences,
		},
		State: []console.SystemState{
			{Name: "principals", Value: st.principals.Load()}, {Name: "profiles", Value: st.profiles.Load()}, {Name: "case_files", Value: st.cases.Load()}, {Name: "evictions", Value: st.evictions.Load()},
		},
		Store: console.SystemStore{
			Path: s.cfg.Store.Path, Bytes: stats.Bytes, FileBytes: stats.FileBytes, Requests: new(stats.Requests), Oldest: optionalTime(stats.Oldest), Newest: optionalTime(stats.Newest),
			Alerts: stats.Alerts, Shed: stats.Shed, ReserveArmed: stats.ReserveArmed,
		},
	}
	if free := s.diskFree(); free >= 0 {
		v.Store.DiskFree = &free
	}
	if most := s.maxBytes(); most > 0 {
		v.Store.MaxBytes = &most
	}
	number, effective, _, ok, err := s.db.LatestEdition(ctx)
	if err != nil {
		return v, err
	}
	if e := s.names.of.Load(); ok && e != nil {
		v.Edition = &console.SystemEdition{Number: number, Effective: optionalTime(effective), Hash: e.Hash()}
	}
	if err := s.systemTraffic(ctx, &v, stats.Newest); err != nil {
		return v, err
	}
	lost, last := s.gauges("weir_source_lost", "source"), s.gauges("weir_source_last_line_timestamp_seconds", "source")
	for _, src := range stats.Sources {
		v.Sources = append(v.Sources, console.SystemSource{
			Source: src.Source, Requests: src.Requests, Lines: src.Lines, Rejected: src.Rejected, Lost: int64(lost[src.Source]), LastLine: optionalTime(pipeline.Time(last[src.Source] * 1e6)),
		})
	}
	for reason, n := range s.gauges("weir_rejects_total", "reason") {
		v.Rejects = append(v.Rejects, console.SystemRejects{Reason: reason, Count: int64(n)})
	}
	slices.SortFunc(v.Rejects, func(a, b console.SystemRejects) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Reason, b.Reason))
	})
	return v, s.systemSinks(ctx, &v, stats.Alerts)
}

// systemTraffic says how much came in the last ten minutes of event time.
func (s *service) systemTraffic(ctx context.Context, v *console.System, newest pipeline.Time) error {
	v.PerSecond = new(0.0)
	if newest == pipeline.NoTime || newest <= 0 {
		return nil
	}
	const span = 10 * time.Minute
	list, err := s.db.Minutes(ctx, newest.Add(-span), newest)
	var n int64
	for _, m := range list {
		n += m.Requests
	}
	v.PerSecond = new(float64(n) / span.Seconds())
	return err
}

func (s *service) systemSinks(ctx context.Context, v *console.System, last int64) error {
	backlog, err := s.db.SinkBacklogs(ctx)
	if err != nil {
		return err
	}
	for _, name := range s.current().Alerts.SinkNames() {
		seq, _, err := s.db.SinkPosition(ctx, name)
		if err != nil {
			return err
		}
		sink := console.SystemSink{Name: name, Kind: s.current().Alerts.SinkKind(name), Seq: seq, Behind: max(0, last-seq), Retries: backlog[name].Retries, Dead: backlog[name].Dead}
		if d := s.deliverer.Load(); d != nil {
			for _, st := range d.Status() {
				if st.Name == name {
					sink.State, sink.Reason = st.State, st.Reason
				}
			}
		}
		v.Sinks = append(v.Sinks, sink)
	}
	return nil
}

// gauges reads weir's own metrics of one name, by one label.
func (s *service) gauges(name, label string) map[string]float64 {
	out := map[string]float64{}
	families, err := s.metrics.registry.Gather()
	if err != nil && len(families) == 0 {
		return out
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if i := slices.IndexFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == label }); i >= 0 {
				out[m.GetLabel()[i].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return out
}
