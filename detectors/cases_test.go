package detectors

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// A case is testdata/<detector>/attack_*.txtar or benign_*.txtar: its comment
// says what happens, and its files are
//
//	events.log  the traffic
//	learn.log   traffic to learn from, for "edition learned"
//	words       paths for {word}, one a line
//	edition     which editions it runs under; every one must give the same:
//	            shipped (the default), learned (from learn.log), self (from
//	            events.log, as weir analyze does)
//	want        the findings, one a line, or "nothing":
//	            <detector> <kind>:<value> review|page succeeded|failed|unknown [notice]
//
// A line of traffic is a log line in the combined format, or a statement that
// expands to many requests (all of a file's are put in order of time):
//
//	@WHEN CLIENT COUNT every GAP METHOD TARGET STATUS [agent=A] [user=U] [login=L] [key=K] [session=S] [referer=R] [bytes=N] [hours=H-H]
//
// WHEN counts from Monday, 2 March 2026, 00:00 UTC ("1d9h30m"). GAP ends in ~
// for random (exponential) gaps. STATUS is one, or several in turn "401,401,200",
// or "200/404:3": three in a hundred are 404, by chance. hours skips the night.
// CLIENT, TARGET and values may hold {n} (from 0), {n*7+100}, {n%40+1},
// {shuffle:1-500} (each once, in random order), {random:1-9}, {zipf:300}, {hex}
// (a random word of 16 bits), {word}, and {uuid:3} and {uuid:n%7+1} (the UUID of
// that number).

// caseStart is a Monday.
const caseStart pipeline.Time = 1772409600e6

// event is a line of traffic before it belongs to somebody.
type event struct {
	r pipeline.Request
	c pipeline.Clear
}

// archive splits a txtar file.
func archive(data []byte) (comment string, files map[string]string) {
	files = map[string]string{}
	name, body := "", strings.Builder{}
	flush := func() {
		if name == "" {
			comment = body.String()
		} else {
			files[name] = body.String()
		}
		body.Reset()
	}
	for line := range strings.Lines(string(data)) {
		if s := strings.TrimSpace(line); strings.HasPrefix(s, "-- ") && strings.HasSuffix(s, " --") && len(s) > 6 {
			flush()
			name = strings.TrimSpace(s[3 : len(s)-3])
			continue
		}
		body.WriteString(line)
	}
	flush()
	return comment, files
}

// parseEvents reads the traffic of a case.
func parseEvents(text string, words []string) ([]event, error) {
	rng := rand.New(rand.NewPCG(20260302, 1))
	var out []event
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		var err error
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '@':
			out, err = appendStatement(out, line, words, rng)
		default:
			var e event
			if e, err = parseCombined(line); err == nil {
				out = append(out, e)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	slices.SortStableFunc(out, func(a, b event) int { return int(max(-1, min(1, a.r.Time-b.r.Time))) })
	return out, nil
}

// parseCombined reads one line of the combined format.
func parseCombined(line string) (e event, err error) {
	head, rest, ok := strings.Cut(line, " [")
	stamp, rest, ok2 := strings.Cut(rest, "] \"")
	request, rest, ok3 := strings.Cut(rest, "\" ")
	numbers, rest, ok4 := strings.Cut(rest, " \"")
	referer, agent, ok5 := strings.Cut(strings.TrimSuffix(rest, "\""), "\" \"")
	who, target, sizes := strings.Fields(head), strings.Fields(request), strings.Fields(numbers)
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 || len(who) != 3 || len(target) != 3 || len(sizes) != 2 {
		return e, fmt.Errorf("no combined log line: %s", line)
	}
	at, err := time.Parse("02/Jan/2006:15:04:05 -0700", stamp)
	if err != nil {
		return e, err
	}
	return makeEvent(pipeline.TimeOf(at), who[0], who[2], target[0], target[1], sizes[0], sizes[1], referer, agent)
}

func makeEvent(at pipeline.Time, client, user, method, target, status, size, referer, agent string) (e event, err error) {
	code, err := strconv.ParseUint(status, 10, 16)
	if err != nil {
		return e, fmt.Errorf("status %q", status)
	}
	path, query, _ := strings.Cut(target, "?")
	e.r = pipeline.Request{Time: at, Effective: at, Bytes: -1, Duration: -1, Status: uint16(code), Method: method, Path: path, Query: query}
	if n, err := strconv.ParseInt(size, 10, 64); err == nil {
		e.r.Bytes = n
	}
	if referer != "-" {
		e.r.Referer = referer
	}
	if agent != "-" {
		e.r.Agent = agent
	}
	if _, ok := pipeline.ParseAddress(client); !ok {
		return e, fmt.Errorf("client %q is no address", client)
	}
	e.c = pipeline.Clear{Remote: client, User: user}
	return e, nil
}

// caseDuration reads "1d9h30m".
func caseDuration(s string) (time.Duration, error) {
	days := 0
	if d, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.Atoi(d)
		if err != nil {
			return 0, fmt.Errorf("time %q", s)
		}
		days, s = n, rest
		if s == "" {
			s = "0s"
		}
	}
	d, err := time.ParseDuration(s)
	return time.Duration(days)*24*time.Hour + d, err
}

func appendStatement(dst []event, line string, words []string, rng *rand.Rand) ([]event, error) {
	f := strings.Fields(line)
	if len(f) < 8 || f[3] != "every" {
		return nil, fmt.Errorf("want @WHEN CLIENT COUNT every GAP METHOD TARGET STATUS: %s", line)
	}
	start, err := caseDuration(f[0][1:])
	if err != nil {
		return nil, err
	}
	count, err := strconv.Atoi(f[2])
	if err != nil || count < 1 {
		return nil, fmt.Errorf("count %q", f[2])
	}
	gapText, random := strings.CutSuffix(f[4], "~")
	gap, err := caseDuration(gapText)
	if err != nil {
		return nil, err
	}
	values := map[string]string{"agent": "Mozilla/5.0", "user": "-", "login": "-", "key": "-", "session": "-", "referer": "-", "bytes": "2000"}
	for _, kv := range f[8:] {
		k, v, ok := strings.Cut(kv, "=")
		if _, known := values[k]; !ok || !known && k != "hours" {
			return nil, fmt.Errorf("no such value: %s", kv)
		}
		values[k] = v
	}
	from, to := 0, 24
	if h := values["hours"]; h != "" {
		if _, err := fmt.Sscanf(h, "%d-%d", &from, &to); err != nil || from >= to || to > 24 {
			return nil, fmt.Errorf("hours %q", h)
		}
	}
	x := expander{words: words, rng: rng, shuffles: map[string][]int{}}
	at := start
	for i := range count {
		for hour := int(at/time.Hour) % 24; hour < from || hour >= to; hour = int(at/time.Hour) % 24 {
			at += time.Hour
		}
		e, err := makeEvent(caseStart.Add(at), x.expand(f[1], i), x.expand(values["user"], i), f[5], x.expand(f[6], i),
			x.status(f[7], i), x.expand(values["bytes"], i), x.expand(values["referer"], i), x.expand(values["agent"], i))
		e.c.LoginUser = x.expand(values["login"], i)
		if err == nil {
			err = x.err
		}
		if err != nil {
			return nil, err
		}
		e.c.APIKey = x.expand(values["key"], i)
		if v := values["session"]; v != "-" {
			e.c.Session = x.expand(v, i)
		}
		dst = append(dst, e)
		if random {
			at += time.Duration(float64(gap) * rng.ExpFloat64())
		} else {
			at += gap
		}
	}
	return dst, nil
}

// expander fills in the placeholders of one statement.
type expander struct {
	words    []string
	rng      *rand.Rand
	shuffles map[string][]int
	zipf     *rand.Zipf
	err      error
}

func (x *expander) status(s string, i int) string {
	if usual, odd, ok := strings.Cut(s, "/"); ok {
		code, share, _ := strings.Cut(odd, ":")
		percent, err := strconv.ParseFloat(share, 64)
		if err != nil {
			x.err = fmt.Errorf("status %q", s)
		}
		if x.rng.Float64()*100 < percent {
			return code
		}
		return usual
	}
	list := strings.Split(s, ",")
	return list[i%len(list)]
}

func (x *expander) expand(s string, i int) string {
	for {
		before, rest, ok := strings.Cut(s, "{")
		name, after, ok2 := strings.Cut(rest, "}")
		if !ok || !ok2 {
			return s
		}
		s = before + x.value(name, i) + after
	}
}

func (x *expander) value(name string, i int) string {
	kind, arg, _ := strings.Cut(name, ":")
	lo, hi := 0, 0
	if kind == "shuffle" || kind == "random" {
		if _, err := fmt.Sscanf(arg, "%d-%d", &lo, &hi); err != nil || hi < lo {
			x.err = fmt.Errorf("placeholder {%s}", name)
			return ""
		}
	}
	switch kind {
	case "uuid":
		s := arg
		if _, err := strconv.Atoi(arg); err != nil {
			s = x.value(arg, i)
		}
		a, b := pipeline.Hash64("a"+s), pipeline.Hash64("b"+s)
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(a), a>>32&0xffff, a>>48&0xfff, b&0xfff, b>>16)
	case "word":
		if len(x.words) == 0 {
			x.err = fmt.Errorf("{word} without a file of words")
			return ""
		}
		return x.words[i%len(x.words)]
	case "hex":
		return strconv.FormatInt(int64(1+x.rng.IntN(65535)), 16)
	case "random":
		return strconv.Itoa(lo + x.rng.IntN(hi-lo+1))
	case "shuffle":
		if x.shuffles[arg] == nil {
			x.shuffles[arg] = x.rng.Perm(hi - lo + 1)
		}
		return strconv.Itoa(lo + x.shuffles[arg][i%(hi-lo+1)])
	case "zipf":
		if x.zipf == nil {
			n, err := strconv.ParseUint(arg, 10, 32)
			if err != nil || n == 0 {
				x.err = fmt.Errorf("placeholder {%s}", name)
				return ""
			}
			x.zipf = rand.NewZipf(x.rng, 1.1, 2, n-1)
		}
		return strconv.FormatUint(x.zipf.Uint64()+1, 10)
	}
	// n, n*A+B, n%A+B
	times, mod, add := 1, 0, 0
	for _, format := range []struct {
		text string
		to   []any
	}{{"n*%d+%d", []any{&times, &add}}, {"n*%d", []any{&times}}, {"n%%%d+%d", []any{&mod, &add}}, {"n%%%d", []any{&mod}}, {"n+%d", []any{&add}}, {"n", nil}} {
		times, mod, add = 1, 0, 0
		if _, err := fmt.Sscanf(name+"$", format.text+"$", format.to...); err != nil {
			continue
		}
		v := i * times
		if mod > 0 {
			v = i % mod
		}
		return strconv.Itoa(v + add)
	}
	x.err = fmt.Errorf("placeholder {%s}", name)
	return ""
}

// order decides who owns each event and puts them into one block.
func order(t testing.TB, events []event) []pipeline.Ordered {
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
		*r = events[i].r
		r.Line = int64(i) + 1
		resolver.Resolve(r, &events[i].c)
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
	for _, name := range append(catalogNames(), nameStuffing, nameKeyMisuse, nameTakeover) {
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
