package detectors

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/detectors/cases"
	"weir/pipeline"
)

// How a case is written is told in detectors/cases.

const caseStart = cases.Start

func archive(data []byte) (comment string, files map[string]string) { return cases.Archive(data) }

func parseEvents(text string, words []string) ([]cases.Event, error) { return cases.Parse(text, words) }

// order decides who owns each event and puts them into one block.
func order(t testing.TB, events []cases.Event) []pipeline.Ordered {
	t.Helper()
	keys, err := pipeline.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	id, err := pipeline.NewIdentity(pipeline.DefaultIdentityConfig(), keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	known, err := pipeline.LoadContext(pipeline.DefaultContextConfig())
	if err != nil {
		t.Fatal(err)
	}
	resolver, annotator := id.NewResolver(), known.NewAnnotator()
	block := &pipeline.Block{Source: "events.log", Requests: make([]pipeline.Request, len(events))}
	out := make([]pipeline.Ordered, len(events))
	for i := range events {
		r := &block.Requests[i]
		*r = events[i].Request
		r.Line = int64(i) + 1
		resolver.Resolve(r, &events[i].Clear)
		annotator.Annotate(r)
		r.Query = strings.Clone(r.Query) // it was valid until the next one
		r.Seal()
		out[i] = pipeline.Ordered{Request: r, Block: block}
	}
	return out
}

func fitted(t testing.TB, batch []pipeline.Ordered) *pipeline.Edition {
	t.Helper()
	f := NewFitter()
	for i := range batch {
		f.Add(batch[i].Request)
	}
	e, err := f.Fit(0)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func newSet(t testing.TB, cfg Config, e *pipeline.Edition) *Set {
	t.Helper()
	s, err := NewSet(cfg, e)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// detectAll runs a batch as the service does and lets the last minute end.
func detectAll(t testing.TB, cfg Config, e *pipeline.Edition, batch []pipeline.Ordered) []pipeline.Finding {
	t.Helper()
	if cfg.Cross == nil {
		cross, err := NewCorrelator(cfg, e)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Cross = cross
	}
	s := newSet(t, cfg, e)
	var out []pipeline.Finding
	for part := range slices.Chunk(batch, 512) {
		out = s.Process(out, part)
	}
	return s.Advance(out, batch[len(batch)-1].Effective.Add(2*time.Minute))
}

// verdicts sums findings up as lines of a case's want, sorted: of each case the
// highest level it reached and what it came to.
func verdicts(found []pipeline.Finding) []string {
	type verdict struct {
		line  string
		score pipeline.Nats
	}
	byID := map[string]verdict{}
	for i := range found {
		f := &found[i]
		v := byID[f.ID+f.Detector]
		v.score = max(v.score, f.Score)
		tier, outcome, notice := "review", "failed", ""
		if v.score >= pipeline.PageAt {
			tier = "page"
		}
		switch {
		case f.Outcome.Succeeded == nil:
			outcome = "unknown"
		case *f.Outcome.Succeeded > 0:
			outcome = "succeeded"
		}
		if f.Facts.Notice {
			notice = " notice"
		}
		v.line = fmt.Sprintf("%s %s:%s %s %s%s", f.Detector, f.Who.Kind, f.Who.Value, tier, outcome, notice)
		byID[f.ID+f.Detector] = v
	}
	var lines []string
	for _, v := range byID {
		lines = append(lines, v.line)
	}
	slices.Sort(lines)
	return lines
}

// TestCases runs every case of every detector, and fails for a detector that
// has no attack or no benign one.
func TestCases(t *testing.T) {
	ran := 0
	for _, name := range Names() {
		dir := filepath.Join("testdata", strings.ReplaceAll(name, ".", "_"))
		for _, kind := range []string{"attack", "benign"} {
			files, err := filepath.Glob(filepath.Join(dir, kind+"_*.txtar"))
			if err != nil {
				t.Fatal(err)
			}
			if len(files) == 0 {
				t.Errorf("%s has no %s case in %s", name, kind, dir)
			}
			for _, file := range files {
				ran++
				t.Run(strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(file), "testdata/"), ".txtar"), func(t *testing.T) {
					runCase(t, file, name, kind)
				})
			}
		}
	}
	if ran == 0 {
		t.Fatal("no case ran")
	}
	known := map[string]bool{}
	for _, name := range Names() {
		known[strings.ReplaceAll(name, ".", "_")] = true
	}
	dirs, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.IsDir() && d.Name() != "fuzz" && !known[d.Name()] {
			t.Errorf("testdata/%s belongs to no detector", d.Name())
		}
	}
}

func runCase(t *testing.T, file, name, kind string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	comment, files := archive(data)
	if strings.TrimSpace(comment) == "" {
		t.Error("the case does not say what happens in it")
	}
	for f := range files {
		switch f {
		case "events.log", "learn.log", "words", "edition", "want":
		default:
			t.Errorf("file %s means nothing", f)
		}
	}
	words := strings.Fields(files["words"])
	events, err := parseEvents(files["events.log"], words)
	if err != nil || len(events) == 0 {
		t.Fatalf("events.log: %d events, %v", len(events), err)
	}
	batch := order(t, events)
	var want []string
	for line := range strings.Lines(files["want"]) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			want = append(want, line)
		}
	}
	if len(want) == 0 {
		t.Fatal("want is empty: write nothing where nothing is to be found")
	}
	if slices.Equal(want, []string{"nothing"}) {
		want = nil
	}
	pages := slices.ContainsFunc(want, func(s string) bool { return strings.HasPrefix(s, name+" ") && !strings.HasSuffix(s, "notice") })
	if kind == "attack" && !pages {
		t.Errorf("an attack case wants nothing of %s", name)
	}
	if kind == "benign" && slices.ContainsFunc(want, func(s string) bool { return strings.Contains(s, " page ") && !strings.HasSuffix(s, "notice") }) {
		t.Error("a benign case wants a page")
	}
	slices.Sort(want)
	editions := strings.Fields(files["edition"])
	if len(editions) == 0 {
		editions = []string{"shipped"}
	}
	for _, which := range editions {
		var e *pipeline.Edition
		switch which {
		case "shipped":
			e = pipeline.ShippedEdition()
		case "self":
			e = fitted(t, batch)
		case "learned":
			learn, err := parseEvents(files["learn.log"], words)
			if err != nil || len(learn) == 0 {
				t.Fatalf("learn.log: %d events, %v", len(learn), err)
			}
			e = fitted(t, order(t, learn))
		default:
			t.Fatalf("edition %s: there are shipped, learned, self", which)
		}
		found := detectAll(t, Config{Watch: pipeline.NewProxyWatch()}, e, batch)
		for i := range found {
			sum := pipeline.Nats(0)
			for _, s := range found[i].Signals {
				sum += s.Nats
			}
			if sum != found[i].Score {
				t.Errorf("%s: the signals sum to %d, the score is %d", found[i].Detector, sum, found[i].Score)
			}
		}
		if got := verdicts(found); !slices.Equal(got, want) {
			t.Errorf("under the %s edition\n got  %s\n want %s", which, strings.Join(got, "\n      "), strings.Join(want, "\n      "))
			for i := range found {
				if i < 12 {
					t.Logf("%s %s %.1f nats: %s", found[i].Time.Std().Format("02 15:04:05"), found[i].Detector, found[i].Score.Float(), found[i].Reason)
				}
			}
		}
	}
}
