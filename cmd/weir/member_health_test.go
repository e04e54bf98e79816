package main

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"weir/pipeline"
)

// silenced are the sources that c says are silent; nil for a control of another kind.
func silenced(t testing.TB, c *controlEntry) (ids []uint64) {
	t.Helper()
	if c.Kind != controlSilent {
		return nil
	}
	var said fleetSilence
	if err := json.Unmarshal(c.Payload, &said); err != nil {
		t.Fatal(err)
	}
	for _, s := range said.Sources {
		ids = append(ids, s.ID)
	}
	return ids
}

// silence is a control about a source of dealtBlocks.
func silence(t testing.TB, source int) *controlEntry {
	t.Helper()
	return controlOf(t, controlSilent, fleetSilence{Collector: "a", Sources: []silentSource{{ID: uint64(100 - source)}}})
}

// lateWith is how many requests of a log come too late when it says this.
func lateWith(t testing.TB, blocks [][]byte, facts []fact) int64 {
	t.Helper()
	m, codec := pipeline.NewMerge(0, 0), pipeline.NewCodec()
	for i := 0; i <= len(blocks); i++ {
		for _, f := range facts {
			if f.before == i {
				for _, id := range silenced(t, f.c) {
					m.Silence(id)
				}
			}
		}
		if i < len(blocks) {
			b := new(pipeline.Block)
			if err := codec.DecodeBlock(blocks[i], b); err != nil {
				t.Fatal(err)
			}
			m.Push(b)
		}
		m.Next(nil)
	}
	late, _ := m.Late()
	return late
}

// withoutIdle takes out of a log what sources say of being idle: only silences let the
// others go on then.
func withoutIdle(t testing.TB, blocks [][]byte) {
	t.Helper()
	codec := pipeline.NewCodec()
	for i, data := range blocks {
		b := new(pipeline.Block)
		if err := codec.DecodeBlock(data, b); err != nil {
			t.Fatal(err)
		}
		b.Watermark = pipeline.NoTime
		blocks[i] = must[[]byte](t)(codec.AppendBlock(nil, b))
	}
}

// TestFleetTakesSilencesAndHealthWhereOneProcessDoes: sources that are said to be
// silent, and come back, and what weir says of its own sight, at any place of the log
// and several at one, give the alerts of one process.
func TestFleetTakesSilencesAndHealthWhereOneProcessDoes(t *testing.T) {
	t.Parallel()
	lab := must[*evalLab](t)(newEvalLab(""))
	all := simulated(t, lab, "status", *fleetClients)
	f := &memoryFleet{t: t, cfg: lab.cfg, shape: fleetShape{12}, edition: pipeline.ShippedEdition(), keys: lab.keys}
	late := int64(0)
	f.facts = func(rng *rand.Rand, f *memoryFleet) (list []fact) {
		n := len(f.input)
		withoutIdle(t, f.input[:n-3])
		for range 1 + n/12 {
			list = append(list, fact{rng.IntN(n), silence(t, rng.IntN(3))})
		}
		late += lateWith(t, f.input, list) - lateWith(t, f.input, nil)
		m := missing{collector: "a", sources: []string{"/var/log/access.log"}, all: true}
		for i := range 12 {
			at := []int{0, 1, n / 2, n, rng.IntN(n)}[min(i, 4)]
			g := m.finding(m.heard, 0)
			if i%3 == 2 {
				g = healthFinding("health.rejects", "a:/var/log/access.log", "rejects", "many", "rejected_share", 1, 0, "look")
			}
			list = append(list, fact{at, controlOf(t, controlHealth, g)})
		}
		return list
	}
	seen := map[string]int{}
	f.told = func(alert []byte) {
		var a pipeline.Alert
		if err := json.Unmarshal(alert, &a); err != nil {
			t.Fatal(err)
		}
		seen[a.Detector+" "+a.Status]++
	}
	sameAlerts(t, f, all)
	if late <= 0 {
		t.Errorf("%d more requests are late for the silences: they change nothing", late)
	}
	for _, want := range []string{"health.collector_silent open", "health.collector_silent resolved", "health.rejects open", "enum.object open"} {
		if seen[want] == 0 {
			t.Errorf("no alert %q: %v", want, seen)
		}
	}
}
