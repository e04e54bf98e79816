package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/bench/simulate"
	"weir/detectors"
	"weir/pipeline"
)

// Several processes give the alerts of one, byte for byte, however they share the
// work, whatever is killed, and whoever repeats what was said before.

//nolint:gochecknoglobals // flags of the test binary
var (
	fleetSeeds   = flag.Int("fleetseeds", 1, "in how many ways the tests of a fleet interleave it")
	fleetClients = flag.Int("fleetclients", 20, "how many harmless clients the traffic of a fleet has")
)

// memoryFleet is a fleet whose logs are in memory.
type memoryFleet struct {
	t       *testing.T
	rng     *rand.Rand
	cfg     *config
	shape   fleetShape
	edition *pipeline.Edition
	keys    *pipeline.PrivacyKeys
	labels  map[string]map[string]string
	facts   func(rng *rand.Rand, f *memoryFleet) []fact // what the log says between blocks; nil nothing
	told    func(alert []byte)                          // every revision; nil nobody
	codec   *pipeline.Codec

	input    [][]byte // encoded blocks, nil for a control
	controls map[int]*controlEntry
	signals  map[pipeline.Stage][][][]byte
	findings [][]byte
	truths   [][]byte

	detect  []*detectProcess
	cross   []*crossProcess
	alert   *alertProcess
	zombies []func() // each repeats something of a process that lost what it had

	detectKept []keptSlice
	crossKept  map[pipeline.Producer]*keptSlice
	alertKept  []byte
	alerts     [][]byte // the feed: a revision each
	kept       int      // of the feed, when alertKept was written

	kills, moves, repeats, rewinds int

	sent, sentBytes int64 // signals
}

// keptSlice is a slice in a checkpoint.
type keptSlice struct {
	head   []byte // of detect: what is common
	done   pipeline.Place
	chunks map[uint32][]byte
}

func (k *keptSlice) chunk(n uint32) ([]byte, error) { return k.chunks[n], nil }

func (k *keptSlice) put(n uint32, data []byte) error {
	k.chunks[n] = bytes.Clone(data)
	return nil
}

type detectProcess struct {
	m       *detectMember
	slices  []int
	next    int // of the input
	truthAt int64
}

type crossProcess struct {
	of []pipeline.Producer
	m  []*crossMember
	at []int64
}

type alertProcess struct {
	m    *alertMember
	at   int64
	said int // revisions
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// begun is with what the fleet begins.
func (f *memoryFleet) begun() *fleetStart {
	return must[*fleetStart](f.t)(newFleetStart(f.cfg, f.edition, f.keys))
}

// startDetect starts a process with slices as they were kept, from the lowest place
// of theirs.
func (f *memoryFleet) startDetect(list []int) *detectProcess {
	p := &detectProcess{slices: list}
	p.m = must[*detectMember](f.t)(newDetectMember(f.cfg, f.shape, f.edition, f.keys, f.labels, 1+f.rng.IntN(3)))
	lowest := list[0]
	for _, i := range list {
		if f.detectKept[i].done.Before(f.detectKept[lowest].done) {
			lowest = i
		}
	}
	if head := f.detectKept[lowest].head; head != nil {
		p.next = int(must[int64](f.t)(p.m.restoreCommon(f.codec, head)))
		p.truthAt = p.m.truths.State().Position
	} else if err := p.m.begin(f.begun()); err != nil {
		f.t.Fatal(err)
	}
	for _, i := range list {
		if err := p.m.addSlice(i, f.detectKept[i].done, f.detectKept[i].chunk); err != nil {
			f.t.Fatal(err)
		}
	}
	return p
}

// work takes up to n records of the log.
func (f *memoryFleet) work(p *detectProcess, n int) {
	for ; p.truthAt < int64(len(f.truths)); p.truthAt++ {
		var b pipeline.Bundle[detectors.Truth]
		if err := detectors.DecodeTruths(f.truths[p.truthAt], &b); err != nil {
			f.t.Fatal(err)
		}
		if err := p.m.learn(p.truthAt, &b); err != nil {
			f.t.Fatal(err)
		}
	}
	for ; p.m.step() && n > 0 && p.next < len(f.input); n-- {
		if f.control(p) {
			continue
		}
		b := new(pipeline.Block)
		if err := f.codec.DecodeBlock(f.input[p.next], b); err != nil {
			f.t.Fatal(err)
		}
		p.next++
		p.m.push(b)
	}
}

// control lets p take the next record, if it is a control.
func (f *memoryFleet) control(p *detectProcess) bool {
	c := f.controls[p.next]
	if c == nil {
		return false
	}
	if ids := silenced(f.t, c); ids != nil {
		p.m.silence(ids)
		p.next++
		return true
	}
	// Its record is in parts, the last of which is where it is met.
	last := int64(10 * p.next)
	if err := p.m.control(last-int64(p.next%3), last, c); err != nil {
		f.t.Fatal(err)
	}
	p.next++
	return true
}

// look is the control at a place.
func (f *memoryFleet) look(p pipeline.Place) (*controlEntry, error) {
	first, last := p.Offsets()
	n := int(last / 10)
	if c := f.controls[n]; c != nil && last-first == int64(n%3) {
		return c, nil
	}
	return nil, fmt.Errorf("no control is at [%d, %d]", first, last)
}

// send puts what a member has to say into the logs.
func (f *memoryFleet) send(o *outbox) {
	for to, bundles := range o.signals {
		for i := range bundles {
			data := must[[]byte](f.t)(f.codec.AppendSignals(nil, &bundles[i]))
			f.signals[to][i] = append(f.signals[to][i], data)
			if n := len(bundles[i].Items); n > 0 {
				f.sent += int64(n)
				f.sentBytes += int64(len(data))
			}
		}
	}
	if o.from != pipeline.StageResource {
		f.findings = append(f.findings, must[[]byte](f.t)(f.codec.AppendFindings(nil, &o.findings)))
	}
	if o.from == pipeline.StageLogin {
		f.truths = append(f.truths, must[[]byte](f.t)(detectors.AppendTruths(nil, &o.truths)))
	}
	o.reset()
}

// keepDetect writes a checkpoint of p's slices, where p is between two records.
func (f *memoryFleet) keepDetect(p *detectProcess) {
	if !p.m.idle() {
		return
	}
	f.send(p.m.flush())
	head := must[[]byte](f.t)(p.m.common(f.codec, int64(p.next)))
	for _, i := range p.slices {
		k := &f.detectKept[i]
		done := p.m.set.SliceReached(i)
		if done != p.m.set.Reached() {
			continue // it is ahead: what is kept of it is all there is
		}
		k.head, k.done = head, done
		if err := p.m.set.ChangedSlice(i, false, k.put); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *memoryFleet) startCross(of []pipeline.Producer) *crossProcess {
	p := &crossProcess{of: of, at: make([]int64, len(of))}
	for i, id := range of {
		m := must[*crossMember](f.t)(newCrossMember(f.cfg, f.shape, id, f.edition, f.labels))
		if f.rng.IntN(2) == 0 { // little room: what is ahead is read again
			m.in = pipeline.NewGather(placeOfSignal, f.shape.producers(id.Stage), 1+f.rng.IntN(100))
		}
		if k := f.crossKept[id]; k != nil {
			p.at[i] = must[int64](f.t)(m.restore(k.head, k.chunk))
		} else if err := m.begin(f.begun()); err != nil {
			f.t.Fatal(err)
		}
		p.m = append(p.m, m)
	}
	return p
}

// meet lets member i of p take up to n records.
func (f *memoryFleet) meet(p *crossProcess, i, n int) {
	log := f.signals[p.of[i].Stage][p.of[i].Slice]
	for ; n > 0 && p.at[i] < int64(len(log)); n-- {
		var b pipeline.Bundle[pipeline.Signal]
		if err := f.codec.DecodeSignals(log[p.at[i]], &b); err != nil {
			f.t.Fatal(err)
		}
		if err := p.m[i].push(p.at[i], &b, f.look); err != nil {
			f.t.Fatal(err)
		}
		p.at[i]++
		if back, ok := p.m[i].in.Rewind(); ok {
			p.at[i] = back
			f.rewinds++
		}
	}
}

func (f *memoryFleet) keepCross(p *crossProcess) {
	for i, m := range p.m {
		f.send(m.flush())
		k := f.crossKept[p.of[i]]
		if k == nil {
			k = &keptSlice{chunks: map[uint32][]byte{}}
			f.crossKept[p.of[i]] = k
		}
		k.head = must[[]byte](f.t)(m.head())
		if err := m.cross.Changed(false, k.put); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *memoryFleet) startAlert() *alertProcess {
	p := &alertProcess{said: f.kept}
	p.m = must[*alertMember](f.t)(newAlertMember(f.cfg, f.shape, f.edition))
	if f.alertKept != nil {
		p.at = must[int64](f.t)(p.m.restore(f.alertKept))
	} else if err := p.m.begin(f.begun()); err != nil {
		f.t.Fatal(err)
	}
	return p
}

// tell lets the alert member take up to n records; what is in the feed already must
// be the same again.
func (f *memoryFleet) tell(n int) {
	p := f.alert
	for ; n > 0 && p.at < int64(len(f.findings)); n-- {
		var b pipeline.Bundle[pipeline.Finding]
		if err := f.codec.DecodeFindings(f.findings[p.at], &b); err != nil {
			f.t.Fatal(err)
		}
		out, err := p.m.push(nil, p.at, &b, f.look)
		if err != nil {
			f.t.Fatal(err)
		}
		p.at++
		for i := range out {
			data := must[[]byte](f.t)(json.Marshal(&out[i]))
			if p.said < len(f.alerts) {
				if !bytes.Equal(f.alerts[p.said], data) {
					f.t.Fatalf("after a restart revision %d is another:\n%s\n%s", p.said, data, f.alerts[p.said])
				}
			} else {
				f.alerts = append(f.alerts, data)
			}
			p.said++
		}
	}
}

// dealSlices gives the slices of all stages to as many processes; nobody keeps what
// it had.
func (f *memoryFleet) dealDetect(n int) {
	f.detect = nil
	lists := make([][]int, n)
	for i, at := range f.rng.Perm(f.shape.slices) {
		lists[i%n] = append(lists[i%n], at)
	}
	for _, list := range lists {
		slices.Sort(list)
		f.detect = append(f.detect, f.startDetect(list))
	}
}

func (f *memoryFleet) dealCross(n int) {
	var all []pipeline.Producer
	for _, s := range crossStages() {
		for i := range f.shape.width(s) {
			all = append(all, pipeline.Producer{Stage: s, Slice: uint16(i)})
		}
	}
	lists := make([][]pipeline.Producer, n)
	for i, at := range f.rng.Perm(len(all)) {
		lists[i%n] = append(lists[i%n], all[at])
	}
	f.cross = nil
	for _, list := range lists {
		f.cross = append(f.cross, f.startCross(list))
	}
}

// act does one thing at random.
func (f *memoryFleet) act() {
	d, c := f.rng.IntN(len(f.detect)), f.rng.IntN(len(f.cross))
	switch n := f.rng.IntN(400); {
	case n < 190:
		p := f.detect[d]
		f.work(p, 1+f.rng.IntN(6))
		if !p.m.idle() || f.rng.IntN(3) == 0 {
			f.send(p.m.flush())
		}
	case n < 330:
		p := f.cross[c]
		for range 4 {
			i := f.rng.IntN(len(p.m))
			f.meet(p, i, 1+f.rng.IntN(40))
			if f.rng.IntN(3) == 0 {
				f.send(p.m[i].flush())
			}
		}
	case n < 360:
		f.tell(1 + f.rng.IntN(100))
	case n < 375:
		f.keepDetect(f.detect[d])
	case n < 385:
		f.keepCross(f.cross[c])
	case n < 388:
		f.alertKept, f.kept = must[[]byte](f.t)(f.alert.m.state()), f.alert.said
	case n < 391: // killed
		f.kills++
		f.detect[d] = f.startDetect(f.detect[d].slices)
	case n < 393:
		f.kills++
		f.cross[c] = f.startCross(f.cross[c].of)
	case n < 394:
		f.kills++
		f.alert = f.startAlert()
	case n < 396: // members come or go; one that is gone does not know it yet
		f.moves++
		old := f.detect[d]
		if f.rng.IntN(2) == 0 {
			f.keepDetect(old)
		}
		f.dealDetect(1 + f.rng.IntN(4))
		f.zombies = append(f.zombies, func() {
			f.work(old, 3)
			f.send(old.m.flush())
		})
	case n < 397:
		f.moves++
		old := f.cross[c]
		f.dealCross(1 + f.rng.IntN(3))
		f.zombies = append(f.zombies, func() {
			for i := range old.m {
				f.meet(old, i, 5)
				f.send(old.m[i].flush())
			}
		})
	case len(f.zombies) > 0:
		f.repeats++
		i := f.rng.IntN(len(f.zombies))
		f.zombies[i]()
		if f.rng.IntN(4) == 0 {
			f.zombies = slices.Delete(f.zombies, i, i+1)
		}
	}
}

// run runs the fleet until all of the input is through, and returns its alerts.
func (f *memoryFleet) run(end pipeline.Time) [][]byte {
	f.codec = pipeline.NewCodec()
	f.signals = map[pipeline.Stage][][][]byte{}
	for _, s := range crossStages() {
		f.signals[s] = make([][][]byte, f.shape.width(s))
	}
	f.detectKept, f.crossKept = make([]keptSlice, f.shape.slices), map[pipeline.Producer]*keptSlice{}
	for i := range f.detectKept {
		f.detectKept[i].chunks = map[uint32][]byte{}
	}
	f.dealDetect(3)
	f.dealCross(2)
	f.alert = f.startAlert()
	for range 40 + 4*len(f.input) {
		f.act()
	}
	for rounds := 0; f.alert.m.in.Reached().Time() < end; rounds++ {
		if rounds > 10_000 {
			f.t.Fatalf("it does not come to an end: alert is at %s of %s", f.alert.m.in.Reached(), pipeline.PlaceReached(end))
		}
		for _, p := range f.detect {
			f.work(p, len(f.input))
			f.send(p.m.flush())
		}
		for _, p := range f.cross {
			for i, m := range p.m {
				f.meet(p, i, 1<<20)
				f.send(m.flush())
			}
		}
		f.tell(1 << 20)
	}
	return f.alerts
}

// oneProcess is what the engine makes of the same log.
func oneProcess(t *testing.T, f *memoryFleet) (alerts [][]byte) {
	t.Helper()
	e := must[*engine](t)(newConfiguredEngine(f.cfg, f.edition, f.keys, cloneLabels(f.labels), 2, nil))
	codec := pipeline.NewCodec()
	for n, data := range f.input {
		var out []pipeline.Alert
		c := f.controls[n]
		var silent []uint64
		if c != nil {
			silent = silenced(t, c)
		}
		if c != nil && silent == nil {
			out = must[[]pipeline.Alert](t)(e.meet(nil, c))
		} else {
			for _, id := range silent {
				e.merge.Silence(id)
			}
			if c == nil {
				b := new(pipeline.Block)
				if err := codec.DecodeBlock(data, b); err != nil {
					t.Fatal(err)
				}
				e.merge.Push(b)
			}
			out = e.drain(nil)
			if now, ok := e.merge.Clock(); ok {
				out = e.advance(out, now)
			}
		}
		for i := range out {
			alerts = append(alerts, must[[]byte](t)(json.Marshal(&out[i])))
		}
	}
	return alerts
}

// dealtBlocks is requests as several sources bring them, in blocks of any size with
// heartbeats between them, and at the end one that says that event time goes on.
func dealtBlocks(t *testing.T, rng *rand.Rand, all []pipeline.Request, sources int) (log [][]byte, end pipeline.Time) {
	t.Helper()
	codec := pipeline.NewCodec()
	blocks := make([]*pipeline.Block, sources)
	write := func(i int, watermark pipeline.Time) {
		b := blocks[i]
		b.Watermark = watermark
		log = append(log, must[[]byte](t)(codec.AppendBlock(nil, b)))
		b.Requests = nil
	}
	for i := range blocks {
		blocks[i] = &pipeline.Block{Source: fmt.Sprintf("source%d", i), SourceID: uint64(100 - i)}
		write(i, pipeline.NoTime)
	}
	for n := range all {
		i := int(all[n].Owner>>7) % sources
		if rng.IntN(4) == 0 {
			i = rng.IntN(sources)
		}
		q := all[n]
		q.Effective = 0
		blocks[i].Requests = append(blocks[i].Requests, q)
		end = max(end, q.Time)
		switch rng.IntN(250) {
		case 0:
			write(i, pipeline.NoTime)
		case 1: // idle, all of them; now and then one is wrong about it
			for j := range blocks {
				write(j, q.Time.Add(time.Duration(rng.IntN(3))*time.Second))
			}
		}
	}
	end = end.Add(2 * time.Hour)
	for i := range blocks {
		write(i, end)
	}
	return log, end
}

// sameAlerts runs a log in one process and in a fleet of several, by several seeds.
func sameAlerts(t *testing.T, f *memoryFleet, all []pipeline.Request) {
	t.Helper()
	for seed := range uint64(*fleetSeeds) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var end pipeline.Time
		run := *f
		run.rng = rng
		run.input, end = dealtBlocks(t, rng, all, 3)
		if f.facts != nil {
			run.insert(f.facts(rng, &run))
		}
		want := oneProcess(t, &run)
		if len(want) == 0 {
			t.Fatal("one process gives no alerts")
		}
		for i := range want {
			if f.told != nil {
				f.told(want[i])
			}
		}
		got := run.run(end)
		for i := range min(len(want), len(got)) {
			if !bytes.Equal(want[i], got[i]) {
				t.Fatalf("seed %d: revision %d of %d:\n%s\nwant\n%s", seed, i, len(got), got[i], want[i])
			}
		}
		if len(got) != len(want) {
			t.Fatalf("seed %d: %d revisions, want %d", seed, len(got), len(want))
		}
		t.Logf("seed %d: %d revisions of %d requests in %d blocks; %d killed, %d times dealt anew, %d repeats, %d times read again; %d signals of %.0f bytes",
			seed, len(want), len(all), len(run.input), run.kills, run.moves, run.repeats, run.rewinds, run.sent, float64(run.sentBytes)/float64(max(1, run.sent)))
	}
}

// fleetAttacks is a day of a small shop with one attack of each type.
const fleetAttacks = `
name: fleet
site: {kind: shop, accounts: 3000, items: 400, login: %s}
start: 2026-03-02T00:00:00Z
days: 0.5
clients: %d
benign:
  - {profile: people, factor: 6}
  - {profile: office-nat, count: 10, factor: 4}
  - {profile: partner-sync, count: 2}
attacks:
  - {name: a, type: enum.object, start: 5h, requests: 120, rate: 1/s}
  - {name: b, type: enum.user, start: 3h, requests: 150, rate: 20/m}
  - {name: c, type: probe.path, start: 2h, requests: 250, rate: 4/s}
  - {name: d, type: auth.bruteforce, start: 4h, requests: 200, rate: 20/m, success: 1}
  - {name: e, type: auth.stuffing, start: 6h, requests: 300, rate: 10/m, sources: 30, success: 0.1}
  - {name: f, type: auth.spraying, start: 7h, requests: 160, rate: 20/m, rounds: 4, every: 30m, success: 0.05}
  - {name: g, type: auth.takeover, start: 8h, requests: 3}
  - {name: h, type: scrape.crawl, start: 3h, requests: 1500, rate: 1/s, sources: 20}
  - {name: i, type: key.misuse, start: 9h, requests: 150, rate: 20/m}
  - {name: j, type: data.exposure, start: 10h, requests: 20, rate: 3/m}
  - {name: k, type: inject.probe, start: 5h, requests: 100, rate: 1/s}
  - {name: l, type: volume.flood, start: 11h, duration: 60s, rate: 40/s, sources: 2}
`

// simulated is the requests of fleetAttacks.
func simulated(t testing.TB, lab *evalLab, login string, clients int) (all []pipeline.Request) {
	t.Helper()
	scenario := must[*simulate.Scenario](t)(simulate.Load(strings.NewReader(fmt.Sprintf(fleetAttacks, login, clients))))
	r := lab.id.NewResolver()
	if _, err := scenario.Run(1, func(e *simulate.Event) error {
		var q pipeline.Request
		lab.request(&q, r, e, int64(len(all)+1))
		all = append(all, q)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// fleetSilences sets aside what one detector sees, and for some hours a part of all
// clients.
const fleetSilences = `
alerts:
  suppressions:
    - match: {detector: probe.path}
      until: 2027-01-31T00:00:00Z
      reason: a test of fleets
      author: anna
  maintenance:
    - match: {address: 128.0.0.0/1}
      from: 2026-03-02T03:30:00Z
      until: 2026-03-02T06:30:00Z
      reason: a test of fleets
      author: anna
`

// TestFleetGivesTheAlertsOfOneProcess on simulated traffic with every attack, where
// logins show what they came to, where that has to be learned, and where some of it
// is suppressed.
func TestFleetGivesTheAlertsOfOneProcess(t *testing.T) {
	t.Parallel()
	silences := writeFile(t, t.TempDir(), "weir.yaml", []byte(fleetSilences))
	for _, c := range []struct{ name, login, config string }{{"shown", "status", ""}, {"learned", "size", ""}, {"suppressed", "status", silences}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lab := must[*evalLab](t)(newEvalLab(c.config))
			all := simulated(t, lab, c.login, *fleetClients)
			sameAlerts(t, &memoryFleet{t: t, cfg: lab.cfg, shape: fleetShape{12}, edition: pipeline.ShippedEdition(), keys: lab.keys}, all)
		})
	}
}

// logged is the requests of a log, and the edition fitted to it.
func logged(t testing.TB, lab *evalLab, path string) (all []pipeline.Request, edition *pipeline.Edition) {
	t.Helper()
	ins, _, problems, cleanup := openInputs([]string{path}, lab.cfg, collectConfig{}, nil)
	defer cleanup()
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	ctx := context.Background()
	edition = must[*pipeline.Edition](t)(fit(ctx, ins, lab.id, 2, true, nil, nil))
	r := ins[0].open(lab.id, 1, nil)
	defer r.Close()
	for {
		b, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return all, edition
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Requests...)
	}
}

// TestFleetGivesTheAlertsOfOneProcessOnToolsShop is the same on labelled traffic of
// real tools, which lies beside the repository, under an edition fitted to it.
func TestFleetGivesTheAlertsOfOneProcessOnToolsShop(t *testing.T) {
	t.Parallel()
	path := filepath.Join(repositoryRoot(t), "..", "shared", "data", "tools_shop", "access.json.gz")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the data is not here: %v", err)
	}
	lab := must[*evalLab](t)(newEvalLab(""))
	all, edition := logged(t, lab, path)
	sameAlerts(t, &memoryFleet{t: t, cfg: lab.cfg, shape: fleetShape{12}, edition: edition, keys: lab.keys, labels: map[string]map[string]string{"source1": {"env": "shop"}}}, all)
}
