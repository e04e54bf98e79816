package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"weir/alerts"
	"weir/collector"
	"weir/detectors"
	"weir/detectors/cases"
	"weir/pipeline"
)

// stagedCase is a detector's test case as weir's user has it: a log and an edition.
type stagedCase struct {
	t       *testing.T
	dir     string
	lines   [][]byte
	edition string
}

func readCase(t *testing.T, file string) (comment string, files map[string]string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return cases.Archive(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")))
}

func jsonLines(t *testing.T, text string, words []string) (lines [][]byte) {
	t.Helper()
	events, err := cases.Parse(text, words)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		line, err := events[i].AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// stageCase writes a case's log, and fits its first edition.
func stageCase(t *testing.T, file string) *stagedCase {
	t.Helper()
	_, files := readCase(t, file)
	words := strings.Fields(files["words"])
	c := &stagedCase{t: t, dir: t.TempDir(), lines: jsonLines(t, files["events.log"], words)}
	e := pipeline.ShippedEdition()
	from := c.lines
	switch editions := strings.Fields(files["edition"]); {
	case len(editions) == 0 || editions[0] == "shipped":
		from = nil
	case editions[0] == "learned":
		from = jsonLines(t, files["learn.log"], words)
	}
	if from != nil {
		e = c.fit(writeFile(t, c.dir, "learn.log", bytes.Join(from, nil)))
	}
	c.edition = filepath.Join(c.dir, "e.json")
	if err := pipeline.WriteEdition(c.edition, e); err != nil {
		t.Fatal(err)
	}
	return c
}

// fit learns from every client of a log, as the cases themselves do.
func (c *stagedCase) fit(log string) *pipeline.Edition {
	c.t.Helper()
	f := detectors.NewFitter()
	format, err := collector.Named("json", collector.ParseOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	keys, err := openKeys("")
	if err != nil {
		c.t.Fatal(err)
	}
	cfg, err := loadConfig("")
	if err != nil {
		c.t.Fatal(err)
	}
	id, err := cfg.newIdentity(keys, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r := collector.NewReader(collector.ReaderConfig{Path: log, Source: log, Format: &format, NewIdentify: identify(id), Workers: 1})
	defer r.Close()
	for {
		b, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.t.Fatal(err)
		}
		for i := range b.Requests {
			q := &b.Requests[i]
			q.Effective = q.Time
			f.Add(q)
		}
	}
	e, err := f.Fit(0)
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

func (c *stagedCase) flags() replayFlags {
	return replayFlags{how: collectConfig{Format: "json"}, edition: c.edition}
}

// log writes lines as the case's log, which has one name whatever is in it.
func (c *stagedCase) log(dir string, lines [][]byte) string {
	c.t.Helper()
	dir = filepath.Join(c.dir, dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	return writeFile(c.t, dir, "access.log", bytes.Join(lines, nil))
}

func (c *stagedCase) open(log string) *replay {
	c.t.Helper()
	p, err := openReplay(context.Background(), c.flags(), []string{log}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(p.close)
	return p
}

// alerts are all revisions, as stored.
func (p *replay) alerts(t *testing.T) (all []pipeline.Alert) {
	t.Helper()
	if _, err := p.run(context.Background(), nil, nil, func(a *pipeline.Alert) { all = append(all, *a) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEveryAlertExplainsItself runs the attack cases of every detector: of each
// alert the parts sum to the score; without the requests that explain lists,
// taken out of the log itself, and under the same edition, it is not there;
// verify recomputes it, and fails after one byte has changed in the alert or in
// what the log holds of its evidence. A detector without an alert fails.
func TestEveryAlertExplainsItself(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	checked := map[string]int{}
	t.Run("case", func(t *testing.T) {
		for _, name := range detectors.Names() {
			files, err := filepath.Glob(filepath.Join("..", "..", "detectors", "testdata", strings.ReplaceAll(name, ".", "_"), "attack_*.txtar"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				t.Run(name+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
					t.Parallel()
					for detector, n := range checkExplained(t, stageCase(t, file)) {
						mu.Lock()
						checked[detector] += n
						mu.Unlock()
					}
				})
			}
		}
	})
	for _, name := range detectors.Names() {
		if checked[name] == 0 {
			t.Errorf("%s: no alert of it was there to check", name)
		}
		t.Logf("%-16s %d alerts", name, checked[name])
	}
}

func checkExplained(t *testing.T, c *stagedCase) (checked map[string]int) {
	ctx := context.Background()
	checked = map[string]int{}
	log := c.log("", c.lines)
	p := c.open(log)
	all := p.alerts(t)
	latest := map[string]*pipeline.Alert{}
	var ids []string
	var stored, changed [][]byte
	for i := range all {
		a := &all[i]
		sum := int64(0)
		for _, s := range a.Signals {
			sum += int64(math.Round(s.Nats * 100))
			if s.Name == "other" {
				t.Errorf("%s: %v nats that no signal explains", a.Detector, s.Nats)
			}
		}
		if want := int64(math.Round(a.Score.Nats * 100)); sum != want {
			t.Errorf("%s revision %d: the signals sum to %d, the score is %d hundredths", a.Detector, a.Revision, sum, want)
		}
		if latest[a.ID] == nil {
			ids = append(ids, a.ID)
		}
		latest[a.ID] = a
		shown := p.shown(*a)
		line := append(alerts.AppendJSON(nil, &shown), '\n')
		stored = append(stored, line)
		changed = append(changed, flipByte(line, i))
	}
	if len(ids) == 0 {
		t.Error("no alert")
	}
	verified := func(alertLines [][]byte, log string) string {
		file := writeFile(t, c.dir, "alerts.json", bytes.Join(alertLines, nil))
		return fmt.Sprint(verify(ctx, io.Discard, c.flags(), file, []string{log}, nil))
	}
	said := verified(slices.Concat(stored, changed), log)
	for i := range slices.Concat(stored, changed) {
		if failed := strings.Contains(said, fmt.Sprintf("line %d: ", i+1)); failed != (i >= len(stored)) {
			t.Errorf("revision %d of %d, a byte of it changed: %t; verify fails: %t, %s", i%len(stored)+1, len(stored), i >= len(stored), failed, said)
		}
	}
	forged, shown := slices.Clone(c.lines), map[string]bool{}
	explained := map[string]bool{}
	for _, id := range ids {
		a := latest[id]
		if checked[a.Detector] == 2 {
			continue // of one case that is enough
		}
		checked[a.Detector]++
		name := fmt.Sprintf("%s %s against %s %s", a.ID[:6], a.Detector, a.Principal.Kind, openText(a.Principal.Value, p.keys))
		list, still, err := p.evidenceOf(ctx, a)
		if err != nil || len(list) == 0 || still {
			t.Errorf("%s: %d requests listed, fires without them: %t, %v", name, len(list), still, err)
			continue
		}
		explained[id] = true
		drop := map[int64]bool{}
		counted := 0
		for _, e := range list {
			drop[e.at.line] = true
			if e.counted {
				counted++
			}
		}
		var rest [][]byte
		for i, line := range c.lines {
			if !drop[int64(i)+1] {
				rest = append(rest, line)
			}
		}
		t.Logf("%s: %d of %d requests counted, %d listed", name, counted, len(c.lines), len(list))
		for _, b := range c.open(c.log(id+"-rest", rest)).alerts(t) {
			if b.ID == id {
				t.Errorf("%s is there without the %d requests that are listed", name, len(list))
				break
			}
		}
		// One digit of a request that the alert shows.
		_, line, _ := strings.Cut(a.Exemplars[len(a.Exemplars)-1].Source, ":")
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		if !shown[line] {
			shown[line] = true
			forged[n-1] = otherStatus(forged[n-1])
		}
	}
	said = verified(stored, c.log("forged", forged))
	for _, id := range ids {
		last := 0
		for i := range all {
			if all[i].ID == id {
				last = i + 1
			}
		}
		if explained[id] && !strings.Contains(said, fmt.Sprintf("line %d: ", last)) {
			t.Errorf("%s: verify takes a log in which a request of it was changed", latest[id].Detector)
		}
	}
	return checked
}

// flipByte changes one byte of an alert that is compared, another one each time.
func flipByte(line []byte, turn int) []byte {
	out := slices.Clone(line)
	fields := []string{`"nats":`, `"title":"`, `"observed":`, `"onset":"`, `"id":"`, `"status":"`}
	field := fields[turn%len(fields)]
	at := bytes.Index(out, []byte(field)) + len(field)
	switch c := out[at]; {
	case c >= '1' && c < '9':
		out[at]++
	case c == '9':
		out[at] = '1'
	default:
		out[at] ^= 1
	}
	return out
}

// otherStatus changes the first digit of the status in a line.
func otherStatus(line []byte) []byte {
	out := slices.Clone(line)
	at := bytes.Index(out, []byte(`"status":`)) + len(`"status":`)
	if out[at] == '4' {
		out[at] = '2'
	} else {
		out[at] = '4'
	}
	return out
}
