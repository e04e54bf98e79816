package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/alerts"
	"weir/bench/services"
	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
	"weir/storage/sqlite"
)

// alertsTopic is what a topic of alerts holds after two processes made them, the
// first of which wrote on when it was none any more, and a write was tried again.
func alertsTopic(t *testing.T) (records []kafka.Record, want []string) {
	t.Helper()
	add := func(r kafka.Record) {
		r.First, r.Offset = int64(len(records)), int64(len(records))
		records = append(records, r)
	}
	claim := func() int64 {
		add(kafka.Record{Key: []byte(alertsKey), Claim: true, Epoch: kafka.NoEpoch})
		return int64(len(records) - 1)
	}
	revision := func(epoch int64, id string, revision int, counts bool) {
		a := consoleAlert(id, revision, "high")
		value, err := json.Marshal(sentAlert{Backfill: revision == 1, Alert: alerts.AppendJSON(nil, &a)})
		if err != nil {
			t.Fatal(err)
		}
		if counts {
			want = append(want, fmt.Sprintf("%d:%s.%d %t", len(records)+1, id, revision, revision == 1))
		}
		add(kafka.Record{Key: []byte(id), Value: value, Epoch: epoch})
	}
	first := claim()
	revision(first, "a", 1, true)
	revision(first, "b", 1, true)
	revision(first, "b", 1, false) // tried again
	second := claim()
	revision(first, "c", 1, false) // fenced: it counts when the second one says it
	revision(second, "a", 2, true)
	revision(first, "d", 1, false)
	revision(second, "c", 1, true)
	revision(second, "c", 1, false)
	claim()
	revision(second, "e", 1, false)
	return records, want
}

// TestDeskFollows: however the topic is cut into transactions, and wherever the
// process died in between, the feed holds each revision that counts once, at its
// place in the topic.
func TestDeskFollows(t *testing.T) {
	t.Parallel()
	records, want := alertsTopic(t)
	const topic = "weir-alerts"
	for _, step := range []int{1, 2, 3, len(records)} {
		path := filepath.Join(t.TempDir(), "weir.db")
		for end := false; !end; {
			db, err := sqlite.Open(path, sqlite.Options{Reserve: -1})
			if err != nil {
				t.Fatal(err)
			}
			at, ok, err := db.Followed(t.Context(), topic)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				at.Fence = kafka.NoEpoch
			}
			some := records[at.Next:min(int(at.Next)+step, len(records))]
			end = len(some) == 0
			rows, err := followedRows(topic, &at, some)
			if err == nil && !end {
				err = db.Follow(t.Context(), topic, at, rows)
			}
			if err != nil {
				t.Fatal(err)
			}
			if end {
				page, through, err := db.FeedPage(t.Context(), 0, 1<<40, nil, 100)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for i := range page {
					got = append(got, fmt.Sprintf("%d:%s.%d %t", page[i].Seq, page[i].Alert.ID, page[i].Alert.Revision, page[i].Backfill))
				}
				if diff := cmp.Diff(want, got); diff != "" || through != page[len(page)-1].Seq {
					t.Errorf("in steps of %d, through %d (-want +got):\n%s", step, through, diff)
				}
				if st, err := db.Stats(t.Context()); err != nil || st.ReplayDifferences != 0 {
					t.Errorf("%d differences, %v", st.ReplayDifferences, err)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	at := storage.Followed{}
	if _, err := followedRows(topic, &at, []kafka.Record{{Offset: 7, Value: []byte("{")}}); err == nil || !strings.Contains(err.Error(), "offset 7 of weir-alerts") {
		t.Errorf("a record that is none: %v", err)
	}
}

// TestDeskForwards: what people decide is for the fleet, in order; the rest of the
// file's log is not.
func TestDeskForwards(t *testing.T) {
	t.Parallel()
	s := consoleService(t)
	ctx := t.Context()
	putAlerts(t, s.db, consoleAlert("a1", 1, "high"))
	x := pipeline.Suppression{ID: "s1", Reason: "a test", Created: 1, Expires: 1 << 60, Match: pipeline.SuppressionMatch{Detector: "probe.path"}}
	by := storage.AuditEntry{Time: 1, Body: []byte("{}")}
	control := &pipeline.Control{Kind: sqlite.VerdictControl, Payload: []byte(`{"alert":"a1","verdict":"true_positive"}`)}
	errs := []error{
		s.db.PutSuppression(ctx, x, by),
		s.db.SaveTriage(ctx, storage.Triage{ID: "a1", Revision: 1, Body: []byte(`{"verdict":"true_positive"}`), Control: control}, by),
	}
	_, err := s.db.AppendControl(ctx, pipeline.Control{Kind: controlHealth, Payload: []byte("{}")})
	y := x
	y.ID, y.Source = "s2", "config"
	errs = append(errs, err, s.db.PutSuppression(ctx, y, by))
	records, err := s.db.ReadRecords(ctx, 1, 100)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	d := &desk{service: service{db: s.db}, marks: newMarksBook(nil, "", verdictPrefix)}
	var kinds []string
	for i := range records {
		send, err := d.forwarded(ctx, records[i].Control)
		if err != nil {
			t.Fatal(err)
		}
		if send != nil {
			kinds = append(kinds, records[i].Control.Kind)
		}
	}
	if diff := cmp.Diff([]string{"suppression", "verdict"}, kinds); diff != "" {
		t.Errorf("of %d records (-want +got):\n%s", len(records), diff)
	}
	mark, err := d.verdictMark(ctx, control.Payload)
	var v storage.TruePositive
	if err != nil || mark == nil || json.Unmarshal(mark.Value, &v) != nil || v.Who.Value == "" || v.Last == 0 {
		t.Fatalf("the mark of a confirmed case: %+v, %v", mark, err)
	}
	wrong := []byte(`{"alert":"a1","verdict":"false_positive_logic"}`)
	if none, err := d.verdictMark(ctx, wrong); none != nil || err != nil {
		t.Errorf("another verdict than was never given is a mark: %+v, %v", none, err)
	}
	d.marks.take(mark)
	if gone, err := d.verdictMark(ctx, wrong); err != nil || gone == nil || gone.Value != nil {
		t.Errorf("a case that is none any more: %+v, %v", gone, err)
	}
}

// TestDeskAdopts: the suppressions of the configuration come from the fleet, and
// their end; of those made here the file has the latest.
func TestDeskAdopts(t *testing.T) {
	t.Parallel()
	s := consoleService(t)
	ctx := t.Context()
	d := &desk{service: service{db: s.db}, marks: newMarksBook(nil, "", suppressionPrefix)}
	say := func(x pipeline.Suppression) {
		t.Helper()
		value, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		d.marks.take(&kafka.Record{Key: []byte(suppressionPrefix + x.ID), Value: value})
		if err := d.adoptSuppressions(ctx); err != nil {
			t.Fatal(err)
		}
	}
	base := pipeline.Suppression{Reason: "a test", Created: 1, Expires: 1 << 60, Match: pipeline.SuppressionMatch{Detector: "probe.path"}}
	config, ours := base, base
	config.ID, config.Source, ours.ID = "c1", "config", "o1"
	say(config)
	say(ours) // after the file was lost
	ended := ours
	ended.Ended = new(pipeline.Time(5))
	if err := s.db.PutSuppression(ctx, ended, storage.AuditEntry{Time: 1, Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	say(ours) // what the fleet has is older
	config.Ended = new(pipeline.Time(7))
	say(config)
	got := map[string]pipeline.Time{}
	list, err := s.db.Suppressions(ctx, 10)
	for _, x := range list {
		got[x.ID] = x.End()
	}
	if diff := cmp.Diff(map[string]pipeline.Time{"c1": 7, "o1": 5}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestDeskOfTheFleet: the last claim counts, and one that was written twice is one.
func TestDeskOfTheFleet(t *testing.T) {
	t.Parallel()
	f := &fleet{service: service{cfg: defaultConfig(), log: newLogger(logConfig{Level: "error"}, io.Discard)}}
	d := &desk{f: f, log: f.log, process: "p2"}
	say := func(offset int64, process string) {
		value, err := json.Marshal(deskMark{ID: "desk1", Instance: "host", Process: process, File: "/var/lib/weir/weir.db"})
		if err != nil {
			t.Fatal(err)
		}
		d.marked(deskKey, markedValue{value: value, offset: offset})
	}
	d.claimed.Store(-1)
	say(3, "p1") // before ours is known to be there
	d.claimed.Store(7)
	say(5, "p1")
	say(7, "p2")
	say(8, "p2")
	if why := d.elsewhere(); why != "" {
		t.Fatalf("it left: %s", why)
	}
	say(9, "p3")
	if why := d.elsewhere(); !strings.Contains(why, `"host" has the fleet's desk now`) {
		t.Errorf("it did not leave: %q", why)
	}
}

// consoleOf asks the console of a fleet, which may be down just now.
type consoleOf struct {
	fleet *fleetProcesses
	name  string
	token string
}

// ask returns an answer; status 0 without one.
func (c *consoleOf) ask(ctx context.Context, method, path, body string, into any) (status int, text string) {
	d := c.fleet.list[c.name]
	base := d.url()
	if base == "" || d.ended() {
		return 0, ""
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	if resp.StatusCode == http.StatusOK && into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			return 0, err.Error()
		}
	}
	return resp.StatusCode, string(answer)
}

// must asks until the console answers.
func (c *consoleOf) must(ctx context.Context, method, path, body string, into any) {
	c.fleet.t.Helper()
	again(ctx, c.fleet.t, method+" "+path, func() error {
		status, text := c.ask(ctx, method, path, body, into)
		if status == 0 || status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
			return fmt.Errorf("%d %s\n%s", status, text, c.fleet.list[c.name].log)
		}
		if status != http.StatusOK && status != http.StatusCreated {
			c.fleet.t.Fatalf("%s %s: %d %s", method, path, status, text)
		}
		return nil
	})
}

// feedReader reads the alerts' feed by its cursor.
type feedReader struct {
	console *consoleOf
	cursor  string
	rows    [][]byte
}

// read takes the next page, if the console answers.
func (r *feedReader) read(ctx context.Context) error {
	path := "/api/v1/feed/alerts?limit=3&start=oldest"
	if r.cursor != "" {
		path += "&cursor=" + url.QueryEscape(r.cursor)
	}
	var page struct {
		Data []json.RawMessage
		Next string `json:"next_cursor"`
	}
	if status, text := r.console.ask(ctx, http.MethodGet, path, "", &page); status != http.StatusOK {
		return fmt.Errorf("%d %s", status, text)
	}
	for _, row := range page.Data {
		r.rows = append(r.rows, row)
	}
	r.cursor = page.Next
	return nil
}

// TestServeAcrossKills: the console of a fleet, whose process is killed in the middle
// of the feed again and again. A reader gets each revision once, as analyze
// gives them; what an analyst did stays; requests are ClickHouse's; a
// suppression is in the sequence; another file is not the fleet's desk.
func TestServeAcrossKills(t *testing.T) {
	t.Parallel()
	broker := startKafka(t)
	server := startClickHouse(t)
	c := busConfigOf(broker)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	log := text(disordered(trafficLog(*killSeed), *killSeed))
	ref := referenceFor(t, map[string][]byte{"access.log": log})
	mustName(t, ref.alerts, abusers()...)
	dir := t.TempDir()
	f := newFeed(t, filepath.Join(dir, "access.log"), log, *killSeed)
	f.append(t, 1+bytes.IndexByte(log, '\n'))
	hook := newReceiver(t)
	sections := fmt.Sprintf("collect: [{file: %q}]\nstore: {path: %q, retention: 36500d, alert_retention: 36500d, clickhouse: {addresses: [%q], user: default, rollup_retention: 36500d}}\nconsole: {listen: '127.0.0.1:0'}\nalerts: {sinks: {siem: {webhook: {url: %q, secret_file: %q}}}}",
		f.path, filepath.Join(dir, "desk.db"), server.Address(), hook.URL+"/hook", writeFile(t, dir, "secret", []byte(hookSecret+"\n")))
	config := fleetConfig(t, dir, c, sections)
	var out bytes.Buffer
	if code := run(ctx, []string{"migrate", "-c", config}, nil, &out, &out); code != exitOK {
		t.Fatalf("migrate: %s", out.String())
	}
	token := strings.TrimSpace(string(weir(t, "token", "create", "-c", config, "--name", "anna", "--role", "analyst", "--role", "engineer", "--role", "admin").stdout))
	fleet := &fleetProcesses{t: t, config: config, args: []string{"--edition", ref.edition}, list: map[string]*daemon{}}
	for _, name := range []string{"collect", "detect", "correlate", "alert", "store", "serve"} {
		fleet.start(name)
	}
	at := &consoleOf{fleet, "serve", token}
	reader := &feedReader{console: at}
	rounds := min(*kills, 5)
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	killed := 0
	write := func(until int) {
		for ; f.written < min(until, len(log)); <-pace.C {
			f.append(t, min(1+f.rng.IntN(4000), len(log)-f.written))
			_ = reader.read(ctx) // it may be down
		}
	}
	for n := range rounds {
		write(len(log) * (n + 1) / (rounds + 1))
		again(ctx, t, "the feed goes on", func() error {
			if err := reader.read(ctx); err != nil {
				return fmt.Errorf("%w\n%s", err, fleet.list["serve"].log)
			}
			if n >= 2 && len(reader.rows) <= killed {
				return fmt.Errorf("%d rows", len(reader.rows))
			}
			return nil
		})
		killed = len(reader.rows)
		fleet.list["serve"].kill(t)
		fleet.start("serve")
	}
	write(len(log))
	again(ctx, t, "all of the feed", func() error {
		if err := reader.read(ctx); err != nil {
			return err
		}
		if len(reader.rows) < len(ref.alerts) {
			return fmt.Errorf("%d of %d rows\n%s", len(reader.rows), len(ref.alerts), fleet.logs())
		}
		return nil
	})
	var got []string
	for _, row := range reader.rows {
		got = append(got, canonicalLines(t, row)...)
	}
	mustBeSame(t, "the feed", ref.alerts, got)
	bus := openBus(t, c)
	tryServedBytes(ctx, t, bus, &c, reader.rows)
	tryTriageAndKill(ctx, t, fleet, at)
	tryServedRequests(ctx, t, fleet, at, &c, ref.alerts, server)
	trySuppressed(ctx, t, bus, &c, at)
	trySystem(ctx, t, fleet, at, hook)
	tryOtherDesk(ctx, t, fleet, at, dir, sections, c, reader)
	for name, d := range fleet.list {
		if d.ended() {
			t.Errorf("%s ended by itself:\n%s", name, d.log)
			continue
		}
		d.stop(t)
	}
}

// tryServedBytes: the feed has the bytes that the alert role wrote.
func tryServedBytes(ctx context.Context, t *testing.T, bus *kafka.Bus, c *busConfig, rows [][]byte) {
	t.Helper()
	topic := c.topics().alerts
	_, behind, err := bus.Bounds(ctx, topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = readFeed(ctx, bus, topic, 0, behind, func(key string, _ int64, a *sentAlert) error {
		if n < len(rows) && string(rows[n]) != string(a.Alert) {
			t.Errorf("row %d, %s:\n%s\n%s", n, key, rows[n], a.Alert)
		}
		n++
		return nil
	})
	if err != nil || n != len(rows) {
		t.Errorf("%d revisions in the topic, %d in the feed, %v", n, len(rows), err)
	}
}

// tryTriageAndKill: what an analyst did survives kill -9, and the audit has it.
func tryTriageAndKill(ctx context.Context, t *testing.T, fleet *fleetProcesses, at *consoleOf) {
	t.Helper()
	var page struct{ Data []struct{ ID string } }
	at.must(ctx, http.MethodGet, "/api/v1/alerts?view=row&limit=1", "", &page)
	id := page.Data[0].ID
	at.must(ctx, http.MethodPatch, "/api/v1/alerts/"+id, `{"status":"closed","assignee":"anna","verdict":"true_positive","comment":"seen in the proxy, too"}`, nil)
	fleet.list["serve"].kill(t)
	fleet.start("serve")
	var alert struct {
		Data []struct {
			Envelope struct {
				Triage struct {
					Status, Assignee, Verdict string
					Comments                  []struct{ Text string }
				}
			}
		}
	}
	at.must(ctx, http.MethodGet, "/api/v1/alerts/"+id, "", &alert)
	if tr := alert.Data[len(alert.Data)-1].Envelope.Triage; tr.Status != "closed" || tr.Assignee != "anna" || tr.Verdict != "true_positive" || len(tr.Comments) != 1 {
		t.Errorf("after a kill: %+v", tr)
	}
	var audit struct {
		Data []struct {
			Action, Outcome string
			Who             struct{ Name string }
		}
	}
	at.must(ctx, http.MethodGet, "/api/v1/alerts/"+id+"/audit", "", &audit)
	if len(audit.Data) != 1 || audit.Data[0].Outcome != "success" || audit.Data[0].Who.Name != "anna" {
		t.Errorf("the audit has %+v", audit.Data)
	}
	if r := weir(t, "audit", "verify", "-c", fleet.config); r.code != exitOK {
		t.Errorf("the audit: %s%s", r.stdout, r.stderr)
	}
}

// tryServedRequests: an alert's requests, and the charts, are what the log has.
func tryServedRequests(ctx context.Context, t *testing.T, fleet *fleetProcesses, at *consoleOf, c *busConfig, list []string, server *services.ClickHouse) {
	t.Helper()
	sums := fleet.sumsOf(ctx, c)
	total := 0
	for s := range maps.Values(sums) {
		total += s.Requests
	}
	again(ctx, t, "all requests are in ClickHouse", func() error {
		if !server.Running() {
			t.Log("ClickHouse ended by itself, and is started again")
			if err := server.Start(); err != nil {
				return err
			}
		}
		var v struct {
			Series struct{ Requests []int64 }
		}
		at.must(ctx, http.MethodGet, "/api/v1/traffic?since=2026-03-02T00:00:00Z&until=2026-03-03T00:00:00Z", "", &v)
		n := int64(0)
		for _, x := range v.Series.Requests {
			n += x
		}
		if n != int64(total) {
			return fmt.Errorf("%d of %d\n%s", n, total, fleet.list["store"].log)
		}
		return nil
	})
	tried := 0
	for _, line := range list {
		var a pipeline.Alert
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		if a.Revision > 1 || a.Principal.Kind != pipeline.PrincipalIP || !slices.Contains(abusers(), a.Principal.Value) {
			continue
		}
		tried++
		var page struct {
			Data []struct {
				Bytes int64
				Time  pipeline.Time
			}
			More bool
		}
		at.must(ctx, http.MethodGet, "/api/v1/requests?limit=1000&principal=ip:"+a.Principal.Value, "", &page)
		sum := clientSum{}
		for _, r := range page.Data {
			sum.Requests, sum.Bytes = sum.Requests+1, sum.Bytes+r.Bytes
		}
		if want := sums[a.Principal.Hash()]; page.More || sum.Requests != want.Requests || sum.Bytes != want.Bytes {
			t.Errorf("%s: %+v from ClickHouse, %+v in the log", a.Principal.Value, sum, want)
		}
		var of struct {
			Data     []struct{ Evidence bool }
			Evidence struct{ Marked int }
		}
		at.must(ctx, http.MethodGet, "/api/v1/alerts/"+a.ID+"/requests?limit=1000", "", &of)
		if len(of.Data) == 0 || of.Evidence.Marked == 0 {
			t.Errorf("%s: %d requests of the alert, %d of them evidence", a.Principal.Value, len(of.Data), of.Evidence.Marked)
		}
	}
	if tried < 3 {
		t.Errorf("tried only %d alerts", tried)
	}
	var endpoints struct {
		Data []struct {
			Template         string
			Requests, Errors int64
		}
	}
	at.must(ctx, http.MethodGet, "/api/v1/endpoints?since=2026-03-02T00:00:00Z&until=2026-03-03T00:00:00Z&limit=1000", "", &endpoints)
	n := int64(0)
	for _, e := range endpoints.Data {
		n += e.Requests
	}
	if n != int64(total) || endpoints.Data[0].Template == "" {
		t.Errorf("the endpoints have %d requests of %d", n, total)
	}
}

// trySuppressed: a suppression made in the console, and one from the shell, are in
// the sequence, and in the list.
func trySuppressed(ctx context.Context, t *testing.T, bus *kafka.Bus, c *busConfig, at *consoleOf) {
	t.Helper()
	var made struct{ ID string }
	at.must(ctx, http.MethodPost, "/api/v1/suppressions", `{"match":{"detector":"scrape.crawl","address":"192.0.2.0/28"},"for":"7d","reason":"the partner's exporter"}`, nil)
	if r := weir(t, "suppress", "add", "-c", at.fleet.config, "--detector", "probe.path", "--address", "192.0.2.99", "--for", "1d", "--reason", "a scan that we ordered"); r.code != exitOK {
		t.Fatalf("weir suppress add: %s", r.stderr)
	}
	var list struct {
		Data []struct{ ID, Reason string }
	}
	at.must(ctx, http.MethodGet, "/api/v1/suppressions", "", &list)
	want := map[string]bool{}
	for _, s := range list.Data {
		want[s.ID] = true
	}
	if len(want) != 2 {
		t.Fatalf("suppressions %+v, made %+v", list.Data, made)
	}
	again(ctx, t, "both and the verdict are in the sequence", func() error {
		verdicts, there := 0, map[string]bool{}
		first, behind, err := bus.Bounds(ctx, c.topics().sequence, 0)
		if err != nil {
			return err
		}
		err = bus.ReadRange(ctx, c.topics().sequence, 0, first, behind, false, func(r kafka.Record) error {
			if r.Claim {
				return nil
			}
			e, err := entryOf(&r)
			if err != nil || e.Control == nil {
				return err
			}
			switch e.Control.Kind {
			case sqlite.VerdictControl:
				verdicts++
			case sqlite.SuppressionControl:
				var s pipeline.Suppression
				if err := json.Unmarshal(e.Control.Payload, &s); err != nil {
					return err
				}
				there[s.ID] = true
			}
			return nil
		})
		if err == nil && (verdicts == 0 || !maps.Equal(want, there)) {
			err = fmt.Errorf("%d verdicts, suppressions %v of %v", verdicts, there, want)
		}
		return err
	})
}

// trySystem: the system page has the processes, the source, the sink.
func trySystem(ctx context.Context, t *testing.T, fleet *fleetProcesses, at *consoleOf, hook *receiver) {
	t.Helper()
	again(ctx, t, "the system page has everybody", func() error {
		var v struct {
			Detect    struct{ Through *pipeline.Time }
			Store     struct{ Requests int64 }
			Sources   []struct{ Lines int64 }
			Sinks     []struct{ Seq, Behind int64 }
			Processes []struct {
				Roles []string
				State string
			}
		}
		at.must(ctx, http.MethodGet, "/api/v1/system", "", &v)
		running := map[string]bool{}
		for _, p := range v.Processes {
			if p.State == "running" {
				running[strings.Join(p.Roles, ",")] = true
			}
		}
		if len(running) != 6 || v.Detect.Through == nil || v.Store.Requests == 0 || len(v.Sources) != 1 || v.Sources[0].Lines == 0 || len(v.Sinks) != 1 || v.Sinks[0].Behind != 0 || v.Sinks[0].Seq == 0 {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	var page struct {
		Data []struct{ ID string }
	}
	at.must(ctx, http.MethodGet, "/api/v1/alerts?view=row&limit=100&severity=critical,high", "", &page)
	states := map[string]int{}
	for _, a := range page.Data {
		var of struct{ Data []struct{ State string } }
		at.must(ctx, http.MethodGet, "/api/v1/alerts/"+a.ID+"/deliveries", "", &of)
		states[of.Data[0].State]++
	}
	if states["delivered"] == 0 || len(states) > 2 {
		t.Errorf("deliveries of %d alerts: %v; the sink got %d messages", len(page.Data), states, len(hook.got))
	}
	fleet.list["serve"].stop(t)
	fleet.start("serve")
}

// tryOtherDesk: a console with another file says who has the desk, and does nothing
// else; where the first file is lost it begins anew, with the same feed at the same
// places.
func tryOtherDesk(ctx context.Context, t *testing.T, fleet *fleetProcesses, at *consoleOf, dir, sections string, c busConfig, had *feedReader) {
	t.Helper()
	at.must(ctx, http.MethodGet, "/api/v1/me", "", nil)
	otherDir := t.TempDir()
	other := fleetConfig(t, otherDir, c, strings.Replace(sections, "desk.db", "other.db", 1))
	text, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	other = writeFile(t, otherDir, "fleet.yaml", bytes.Replace(text, []byte(filepath.Join(otherDir, "weir.key")), []byte(filepath.Join(dir, "weir.key")), 1))
	fleet.list["serve/2"] = startDaemon(t, append([]string{"serve", "-c", other}, fleet.args...)...)
	second := &consoleOf{fleet, "serve/2", at.token}
	again(ctx, t, "the second one says who has the desk", func() error {
		status, text := second.ask(ctx, http.MethodGet, "/api/v1/alerts", "", nil)
		if status != http.StatusServiceUnavailable || !strings.Contains(text, "desk.db") {
			return fmt.Errorf("%d %s\n%s", status, text, fleet.list["serve/2"].log)
		}
		return nil
	})
	if status, _ := second.ask(ctx, http.MethodGet, "/healthz", "", nil); status != http.StatusOK {
		t.Errorf("it is not healthy: %d", status)
	}
	if status, text := second.ask(ctx, http.MethodGet, "/readyz", "", nil); status != http.StatusServiceUnavailable {
		t.Errorf("it is ready: %d %s", status, text)
	}
	at.must(ctx, http.MethodGet, "/api/v1/me", "", nil)
	fleet.list["serve/2"].stop(t)
	// The same secret, the other file: who reads the feed goes on.
	reader := &feedReader{console: second}
	fleet.list["serve/2"] = startDaemon(t, append([]string{"serve", "-c", other, "--new-desk"}, fleet.args...)...)
	second.token = strings.TrimSpace(string(weir(t, "token", "create", "-c", other, "--name", "anna", "--role", "analyst", "--role", "admin").stdout))
	again(ctx, t, "the second one has all of the feed", func() error {
		if err := reader.read(ctx); err != nil || len(reader.rows) < len(had.rows) {
			return fmt.Errorf("%d rows of %d: %w", len(reader.rows), len(had.rows), err)
		}
		return nil
	})
	for i := range had.rows {
		if i < len(reader.rows) && !bytes.Equal(had.rows[i], reader.rows[i]) {
			t.Errorf("row %d differs", i)
		}
	}
	had.console = second
	if err := had.read(ctx); err != nil || had.cursor != reader.cursor || len(had.rows) != len(reader.rows) {
		t.Errorf("who read the first one does not go on with the second: %v", err)
	}
	again(ctx, t, "the first one knows", func() error {
		status, text := at.ask(ctx, http.MethodGet, "/api/v1/alerts", "", nil)
		if status != http.StatusServiceUnavailable || !strings.Contains(text, "other.db") {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
}
