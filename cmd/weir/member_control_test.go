package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/detectors"
	"weir/pipeline"
	"weir/storage/sqlite"
)

// fact is a control before a block of the input.
type fact struct {
	before int
	c      *controlEntry
}

func controlOf(t testing.TB, kind string, payload any) *controlEntry {
	t.Helper()
	body := must[[]byte](t)(json.Marshal(payload))
	return &controlEntry{Kind: kind, From: "test", Payload: body}
}

// insert puts facts between the blocks.
func (f *memoryFleet) insert(facts []fact) {
	slices.SortStableFunc(facts, func(a, b fact) int { return cmp.Compare(a.before, b.before) })
	blocks := f.input
	f.input, f.controls = nil, map[int]*controlEntry{}
	for i := 0; i <= len(blocks); i++ {
		for len(facts) > 0 && facts[0].before == i {
			f.controls[len(f.input)] = facts[0].c
			f.input, facts = append(f.input, nil), facts[1:]
		}
		if i < len(blocks) {
			f.input = append(f.input, blocks[i])
		}
	}
}

// fitted is an edition that follows from some of the requests.
func fitted(t testing.TB, all []pipeline.Request, lateness time.Duration) *pipeline.Edition {
	t.Helper()
	fitter := detectors.NewFitter()
	for i := range all {
		fitter.Add(&all[i])
	}
	return must[*pipeline.Edition](t)(fitter.Fit(lateness))
}

// TestFleetTakesControlsWhereOneProcessDoes: editions, suppressions, configurations and
// labels that come between blocks, several at one place too, take effect in every
// stage where they do in one process.
func TestFleetTakesControlsWhereOneProcessDoes(t *testing.T) {
	t.Parallel()
	for _, login := range []string{"status", "size"} {
		t.Run(login, func(t *testing.T) {
			t.Parallel()
			silences := writeFile(t, t.TempDir(), "weir.yaml", []byte(fleetSilences))
			lab := must[*evalLab](t)(newEvalLab(silences))
			all := simulated(t, lab, login, *fleetClients)
			var editions []*controlEntry
			for n := range 3 {
				e := fitted(t, all[:len(all)*(n+1)/4], time.Duration(n)*3*time.Second)
				editions = append(editions, controlOf(t, controlEdition, sentEdition{must[[]byte](t)(e.Encode())}))
			}
			seen := map[string]bool{}
			f := &memoryFleet{t: t, cfg: lab.cfg, shape: fleetShape{12}, edition: pipeline.ShippedEdition(), keys: lab.keys}
			f.facts = func(rng *rand.Rand, f *memoryFleet) []fact {
				return randomFacts(t, rng, lab, len(f.input), editions, all)
			}
			f.told = func(alert []byte) {
				var a pipeline.Alert
				if err := json.Unmarshal(alert, &a); err != nil {
					t.Fatal(err)
				}
				seen["edition "+a.Versions.Edition], seen["config "+a.Versions.Config] = true, true
				seen[fmt.Sprint("label ", a.Labels["n"])] = true
				if id, _ := a.Silent(); id != "" {
					seen["suppressed "+id] = true
				}
			}
			sameAlerts(t, f, all)
			for what, least := range map[string]int{"edition ": 3, "config ": 2, "label ": 3, "suppressed ": 2} {
				n := 0
				for s := range seen {
					if strings.HasPrefix(s, what) {
						n++
					}
				}
				if n < least {
					t.Errorf("%d kinds of %q in the alerts, want %d: %v", n, what, least, seen)
				}
			}
		})
	}
}

// randomFacts is what a log of so many blocks says between them.
func randomFacts(t testing.TB, rng *rand.Rand, lab *evalLab, blocks int, editions []*controlEntry, all []pipeline.Request) (list []fact) {
	t.Helper()
	add := func(at int, c *controlEntry) { list = append(list, fact{at, c}) }
	anywhere := func() int { return rng.IntN(blocks + 1) }
	sources := func(n int) *controlEntry {
		var told fleetSources
		for i := range 3 {
			told.Sources = append(told.Sources, fleetFact{
				sourceFact{ID: uint64(100 - i), Name: fmt.Sprintf("source%d", i), Lateness: int64(n%3) * 1e6, Sampled: float64(n%2) / 2},
				map[string]string{"n": fmt.Sprint(n), "source": fmt.Sprint(i)},
			})
		}
		return controlOf(t, controlSources, told)
	}
	add(0, sources(0))
	for n := range 4 {
		add(anywhere(), sources(n+1))
	}
	for n, e := range editions { // in their order, the last one somewhere in the middle
		add(blocks*(2*n+1)/8+rng.IntN(1+blocks/8), e)
	}
	for n := range 4 {
		cfg := *lab.cfg
		cfg.Alerts.Budget.Alerts = 5 * n
		cfg.Detect = map[string]detectorConfig{}
		for _, name := range detectors.Names() {
			if rng.IntN(6) == 0 {
				cfg.Detect[name] = detectorConfig{Mode: []detectors.Mode{detectors.ModeOff, detectors.ModeShadow}[rng.IntN(2)]}
			}
		}
		add(anywhere(), controlOf(t, controlConfig, cfg.detectConfig()))
	}
	for n := range 6 {
		q := &all[rng.IntN(len(all))]
		s := pipeline.Suppression{ID: fmt.Sprintf("s%d", n), Starts: all[0].Time, Expires: q.Time.Add(3 * time.Hour), Reason: "test", Author: "anna"}
		switch n % 3 {
		case 0:
			s.Match.Detector = detectors.Names()[rng.IntN(len(detectors.Names()))]
		case 1:
			s.Match.Address = "0.0.0.0/1"
		default:
			s.Match.Labels = map[string]string{"source": fmt.Sprint(n % 2)}
		}
		at := anywhere()
		add(at, controlOf(t, sqlite.SuppressionControl, s))
		if n%2 == 0 {
			s.Ended = new(q.Time.Add(time.Hour))
			add(min(blocks, at+rng.IntN(blocks)), controlOf(t, sqlite.SuppressionControl, s))
		}
	}
	add(blocks/2, controlOf(t, controlTick, 1))
	return list
}

// TestUnknownControl: a control that a newer weir wrote stops who does not know it.
func TestUnknownControl(t *testing.T) {
	t.Parallel()
	lab := must[*evalLab](t)(newEvalLab(""))
	m := must[*detectMember](t)(newDetectMember(lab.cfg, fleetShape{1}, pipeline.ShippedEdition(), lab.keys, nil, 1))
	err := m.control(7, 7, &controlEntry{Kind: "weather", From: "elsewhere"})
	if err == nil || !strings.Contains(err.Error(), `"weather"`) || !strings.Contains(err.Error(), "elsewhere") {
		t.Fatalf("it says %v", err)
	}
}
