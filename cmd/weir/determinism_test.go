package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/alerts"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// The same input gives the same alerts, byte for byte, whatever the number of
// workers, the cuts of the input, the wiring, and the crashes.

//nolint:gochecknoglobals // flags of the test binary
var (
	kills    = flag.Int("kills", 6, "how often the tests kill weir run")
	killSeed = flag.Uint64("killseed", 1, "chooses the moments of the kills and the traffic")
)

// entry is a line of a generated log.
type entry struct {
	at   time.Time
	text string // with its newline
}

// firstSize is the size of the first generated response. Each line has a size
// of its own, so that a lost or repeated line can be told by it.
const firstSize = 10_000

// The clients of trafficLog that abuse.
const (
	proberAddress  = "198.51.100.66"
	guesserAddress = "198.51.100.77"
	walkerAddress  = "198.51.100.88"
	crawlerAddress = "198.51.100.99"
)

// trafficLog is two hours of traffic in combined form and in order: ordinary
// clients, a prober, a login loop that gets in, a walk over ids, a crawler.
func trafficLog(seed uint64) []entry { return busyLog(seed, 0) }

// busyLog is trafficLog among n further requests of 2,000 ordinary clients.
func busyLog(seed uint64, n int) []entry {
	rng := rand.New(rand.NewPCG(seed, 7))
	start := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	var out []entry
	say := func(at time.Time, ip, method, path string, status int, agent string) {
		out = append(out, entry{at, fmt.Sprintf(`%s - - [%s] "%s %s HTTP/1.1" %d %%d "-" "%s"`,
			ip, at.Format("02/Jan/2006:15:04:05 -0700"), method, path, status, agent) + "\n"})
	}
	agents := []string{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/148.0", "Mozilla/5.0 (Macintosh) Safari/605.1.15", "Mozilla/5.0 (X11; Linux x86_64) Chrome/149.0"}
	for i := range 90 {
		ip, agent := fmt.Sprintf("203.0.113.%d", 1+i), agents[rng.IntN(len(agents))]
		at := start.Add(time.Duration(rng.IntN(100*60)) * time.Second)
		for range 20 + rng.IntN(15) {
			switch n := rng.IntN(100); {
			case n < 25:
				say(at, ip, "GET", "/", 200, agent)
			case n < 55:
				say(at, ip, "GET", fmt.Sprintf("/products/item-%d", rng.IntN(40)), 200, agent)
			case n < 75:
				say(at, ip, "GET", "/static/app.css", 304, agent)
			case n < 88:
				say(at, ip, "GET", fmt.Sprintf("/api/orders/%d", 1000+3*i+rng.IntN(2)), 200, agent)
			case n < 95:
				if rng.IntN(4) == 0 {
					say(at, ip, "POST", "/login", 401, agent)
					at = at.Add(8 * time.Second)
				}
				say(at, ip, "POST", "/login", 302, agent)
			default:
				say(at, ip, "GET", fmt.Sprintf("/products/gone-%d", rng.IntN(5)), 404, agent)
			}
			at = at.Add(time.Duration(1+rng.IntN(40)) * time.Second)
		}
	}
	at := start.Add(20 * time.Minute)
	for i := range 160 {
		say(at, proberAddress, "GET", fmt.Sprintf("/%s%d.php", []string{"admin", "backup", ".env", "old", "test"}[i%5], i), 404, "curl/8.9")
		at = at.Add(time.Duration(200+rng.IntN(900)) * time.Millisecond)
	}
	at = start.Add(40 * time.Minute)
	for i := range 90 {
		status := 401
		if i == 80 {
			status = 302
		}
		say(at, guesserAddress, "POST", "/login", status, "python-requests/2.32")
		at = at.Add(time.Second)
	}
	at = start.Add(60 * time.Minute)
	for i := range 150 {
		status := []int{403, 403, 404, 403, 200}[rng.IntN(5)]
		say(at, walkerAddress, "GET", fmt.Sprintf("/api/orders/%d", 5000+i), status, "Go-http-client/1.1")
		at = at.Add(time.Duration(300+rng.IntN(2000)) * time.Millisecond)
	}
	at = start.Add(80 * time.Minute)
	for i := range 500 {
		say(at, crawlerAddress, "GET", fmt.Sprintf("/products/item-%d", i), 200, "Scrapy/2.13")
		at = at.Add(time.Duration(100+rng.IntN(500)) * time.Millisecond)
	}
	for i := range n {
		say(start.Add(time.Duration(i)*2*time.Hour/time.Duration(n)), fmt.Sprintf("192.0.%d.%d", i%8, 1+i/8%250), "GET", fmt.Sprintf("/products/item-%d", i%7), 200, agents[i%len(agents)])
	}
	slices.SortStableFunc(out, func(a, b entry) int { return a.at.Compare(b.at) })
	for i := range out {
		out[i].text = fmt.Sprintf(out[i].text, firstSize+i)
	}
	return out
}

// disordered is the log as Apache writes it: a line when its request ends, up
// to a minute after the time it carries.
func disordered(log []entry, seed uint64) []entry {
	rng := rand.New(rand.NewPCG(seed, 8))
	type ended struct {
		entry
		end time.Time
	}
	list := make([]ended, len(log))
	for i, e := range log {
		took := time.Duration(rng.IntN(800)) * time.Millisecond
		if rng.IntN(12) == 0 {
			took = time.Duration(rng.IntN(60_000)) * time.Millisecond
		}
		list[i] = ended{e, e.at.Add(took)}
	}
	slices.SortStableFunc(list, func(a, b ended) int { return a.end.Compare(b.end) })
	out := make([]entry, len(log))
	for i := range list {
		out[i] = list[i].entry
	}
	return out
}

// dealt spreads a log over n servers, each line to one of them.
func dealt(log []entry, n int, seed uint64) [][]entry {
	rng := rand.New(rand.NewPCG(seed, 9))
	out := make([][]entry, n)
	for _, e := range log {
		i := rng.IntN(n)
		out[i] = append(out[i], e)
	}
	return out
}

func text(log []entry) []byte {
	var b bytes.Buffer
	for _, e := range log {
		b.WriteString(e.text)
	}
	return b.Bytes()
}

// writeFile writes data to name in dir and returns its path.
func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// weirCommand is this binary as weir.
func weirCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "weir" // TestMain goes by the name
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	return cmd
}

// result is what a command came to.
type result struct {
	code   int
	stdout []byte
	stderr string
}

// weir runs a command to its end. A crash, by a signal or with a trace, fails
// the test.
func weir(t *testing.T, args ...string) result {
	t.Helper()
	cmd := weirCommand(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() || strings.Contains(errs.String(), "goroutine ") {
		t.Fatalf("weir %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return result{cmd.ProcessState.ExitCode(), out.Bytes(), errs.String()}
}

// canonical is an alert without what comparisons leave out.
func canonical(a pipeline.Alert) string {
	a.Envelope = pipeline.AlertEnvelope{}
	a.Exemplars = slices.Clone(a.Exemplars)
	for i := range a.Exemplars {
		a.Exemplars[i].Source = ""
	}
	return string(alerts.AppendJSON(nil, &a))
}

// analyzed runs weir analyze and returns every revision, in order.
func analyzed(t *testing.T, args ...string) []string {
	t.Helper()
	r := weir(t, append([]string{"analyze", "--output", "json", "--quiet", "--pseudonyms"}, args...)...)
	if r.code != exitOK {
		t.Fatalf("weir analyze %s: exit %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return canonicalLines(t, r.stdout)
}

func canonicalLines(t *testing.T, out []byte) (list []string) {
	t.Helper()
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(nil, 1<<22)
	for s.Scan() {
		var a pipeline.Alert
		if err := json.Unmarshal(s.Bytes(), &a); err != nil {
			t.Fatalf("alert %s: %v", s.Text(), err)
		}
		list = append(list, canonical(a))
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// mustBeSame fails when two lists of revisions differ, and says where first.
func mustBeSame(t *testing.T, what string, want, got []string) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Fatalf("%s: revision %d of %d differs:\n%s\nwant:%s\ngot:%s", what, i+1, len(want), cmp.Diff(indented(want[i]), indented(got[i])), listed(want), listed(got))
		}
	}
	if len(want) != len(got) {
		longer, side := want, "missing"
		if len(got) > len(want) {
			longer, side = got, "not expected"
		}
		t.Fatalf("%s: %d revisions, want %d; %s: %s", what, len(got), len(want), side, longer[min(len(want), len(got))])
	}
}

// listed is one line a revision.
func listed(list []string) string {
	var b strings.Builder
	for _, s := range list {
		var a pipeline.Alert
		if err := json.Unmarshal([]byte(s), &a); err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, "\n  %.6s.%d %s %s last %s %s: %s", a.ID, a.Revision, a.Detector, a.Principal.Value, a.Window.Last.Std().Format(time.TimeOnly), a.Change.Kind, a.Change.Text)
	}
	return b.String()
}

func indented(s string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(s), "", " ") != nil {
		return s
	}
	return b.String()
}

// mustName fails unless each address has an alert: a test that compares
// nothing with nothing would pass.
func mustName(t *testing.T, list []string, addresses ...string) {
	t.Helper()
	for _, ip := range addresses {
		if !slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, `"value":"`+ip+`"`) }) {
			t.Errorf("no alert names %s among %d revisions", ip, len(list))
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

func abusers() []string {
	return []string{proberAddress, guesserAddress, walkerAddress, crawlerAddress}
}

// reference is a log with the edition and the alerts that analyze gives it.
type reference struct {
	dir, edition string
	alerts       []string
}

// referenceFor writes files and analyzes them together.
func referenceFor(t *testing.T, files map[string][]byte) reference {
	t.Helper()
	ref := reference{dir: t.TempDir()}
	var args []string
	for name, data := range files {
		args = append(args, writeFile(t, ref.dir, name, data))
	}
	slices.Sort(args)
	ref.edition = filepath.Join(ref.dir, "edition.json")
	ref.alerts = analyzed(t, append(args, "--edition-out", ref.edition)...)
	return ref
}

func TestSameAlertsForAnyWorkersAndCuts(t *testing.T) {
	t.Parallel()
	log := trafficLog(*killSeed)
	servers := dealt(log, 3, *killSeed)
	mixed := disordered(log, *killSeed)
	cases := []struct {
		name  string
		files map[string][]byte
	}{
		{"in order", map[string][]byte{"access.log": text(log)}},
		{"out of order", map[string][]byte{"access.log": text(mixed)}},
		{"three sources", map[string][]byte{"a.log": text(servers[0]), "b.log": text(servers[1]), "c.log": text(servers[2])}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ref := referenceFor(t, c.files)
			mustName(t, ref.alerts, abusers()...)
			var names []string
			for name := range c.files {
				names = append(names, filepath.Join(ref.dir, name))
			}
			slices.Sort(names)
			for _, workers := range []string{"1", "2", "8"} {
				got := analyzed(t, append(names, "--edition", ref.edition, "--workers", workers)...)
				mustBeSame(t, workers+" workers", ref.alerts, got)
			}
			if len(names) > 1 {
				return
			}
			var parts []string
			whole := c.files["access.log"]
			lines := bytes.SplitAfter(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
			for i := range 3 {
				part := bytes.Join(lines[i*len(lines)/3:(i+1)*len(lines)/3], nil)
				parts = append(parts, writeFile(t, ref.dir, fmt.Sprintf("part%d.log", i), part))
			}
			mustBeSame(t, "cut into three", ref.alerts, analyzed(t, append(parts, "--edition", ref.edition)...))
		})
	}
}

// feed is a log that a server writes while weir runs: some bytes at a time, as
// they come, not line by line.
type feed struct {
	path string
	data []byte
	// rotateAt is where the file is renamed and begun anew; 0 never.
	rotateAt int
	rng      *rand.Rand
	written  int
	file     *os.File
}

func newFeed(t *testing.T, path string, data []byte, seed uint64) *feed {
	t.Helper()
	f := &feed{path: path, data: data, rng: rand.New(rand.NewPCG(seed, 10))}
	f.open(t)
	t.Cleanup(func() { f.file.Close() })
	return f
}

func (f *feed) open(t *testing.T) {
	t.Helper()
	var err error
	if f.file, err = os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	}
}

// write appends about share of the log, and reports whether there is more.
func (f *feed) write(t *testing.T, share float64) bool {
	t.Helper()
	return f.append(t, min(1+int(share*float64(len(f.data))*2*f.rng.Float64()), len(f.data)-f.written))
}

// append writes the next n bytes, fewer where the file is rotated.
func (f *feed) append(t *testing.T, n int) bool {
	t.Helper()
	if f.written < f.rotateAt && f.written+n >= f.rotateAt {
		n = f.rotateAt - f.written
	}
	if _, err := f.file.Write(f.data[f.written : f.written+n]); err != nil {
		t.Fatal(err)
	}
	if f.written += n; f.written == f.rotateAt && n > 0 {
		f.file.Close()
		if err := os.Rename(f.path, f.path+".1"); err != nil {
			t.Fatal(err)
		}
		f.open(t)
	}
	return f.written < len(f.data)
}

// begin has the first line of each log stored: from then on weir knows what is
// history (nothing) and what is news.
func begin(t *testing.T, d *daemon, feeds ...*feed) {
	t.Helper()
	d.waitReady(t)
	for _, f := range feeds {
		if f.written > 0 {
			continue
		}
		f.append(t, 1+bytes.IndexByte(f.data, '\n'))
	}
	eventually(t, "the first line of each log is stored", d, func() bool { return d.metric("weir_requests_total") >= float64(len(feeds)) })
}

// rotateAfterHalf has the file rotated behind a line in the middle.
func (f *feed) rotateAfterHalf() {
	half := len(f.data) / 2
	f.rotateAt = half + bytes.IndexByte(f.data[half:], '\n') + 1
}

// follow runs weir run over the feeds while they are written until all of it is
// detected. It is killed n times at random moments, and, if at all, stopped twice.
// It returns the stopped store's path.
func follow(t *testing.T, feeds []*feed, n int, args ...string) (store string) {
	t.Helper()
	store = filepath.Join(t.TempDir(), "weir.db")
	args = append([]string{"run", "--store", store, "--listen", "127.0.0.1:0"}, args...)
	for _, f := range feeds {
		args = append(args, f.path)
	}
	d := startDaemon(t, args...)
	begin(t, d, feeds...)

	rng := rand.New(rand.NewPCG(*killSeed, 11))
	const steps = 200
	moments := make([]int, n)
	for i := range moments {
		moments[i] = 10 + rng.IntN(steps-20)
	}
	if n > 0 {
		// A checkpoint is written every half minute and at the end of a process:
		// so that kills come behind one, it ends twice by itself.
		moments = append(moments, -(20 + rng.IntN(steps/3)), -(steps/2 + rng.IntN(steps/3)))
	}
	slices.SortFunc(moments, func(a, b int) int { return max(a, -a) - max(b, -b) })
	pace := time.NewTicker(15 * time.Millisecond) // of the writer
	defer pace.Stop()
	for step, more := 0, true; more; step++ {
		more = false
		for _, f := range feeds {
			more = f.write(t, 1.0/steps) || more
		}
		for len(moments) > 0 && (max(moments[0], -moments[0]) <= step || !more) {
			if moments[0] < 0 {
				d.waitReady(t)
				d.stop(t)
			} else {
				d.kill(t)
			}
			moments = moments[1:]
			d = startDaemon(t, args...)
		}
		<-pace.C
	}
	d.waitReady(t)
	lines := int64(0)
	for _, f := range feeds {
		lines += int64(bytes.Count(f.data, []byte("\n")))
	}
	eventually(t, fmt.Sprintf("all %d lines are stored and detected", lines), d, func() bool {
		return drained(t, store, lines, int64(len(feeds))) && d.metric("weir_detect_lag_records") == 0
	})
	if got := d.metric("weir_replay_differences"); got != 0 {
		t.Errorf("weir_replay_differences %v, want 0", got)
	}
	d.stop(t)
	return store
}

// drained reports whether the store holds all lines, and behind them each source
// has said that it has no more for now: nothing waits to be sorted.
func drained(t *testing.T, store string, lines, sources int64) bool {
	t.Helper()
	db := openStored(t, store)
	defer db.Close()
	st, err := db.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if st.Requests < lines {
		return false
	}
	records, err := db.ReadRecords(context.Background(), st.Last-sources+1, int(sources))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.Block == nil || len(r.Block.Requests) > 0 || r.Block.Watermark == pipeline.NoTime {
			return false
		}
	}
	return len(records) == int(sources)
}

// storedAlerts is every revision of the feed, in order.
func storedAlerts(t *testing.T, store string) (list []string) {
	t.Helper()
	for _, a := range storedRevisions(t, store) {
		list = append(list, canonical(a.Alert))
	}
	return list
}

func openStored(t *testing.T, store string) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(store, sqlite.Options{ReadOnly: true, Readers: 1})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func storedRevisions(t *testing.T, store string) []storage.StoredAlert {
	t.Helper()
	db := openStored(t, store)
	defer db.Close()
	list, err := db.AlertsAfter(context.Background(), 0, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// mustHoldOnce fails unless the store holds every line once, and no replay
// differed.
func mustHoldOnce(t *testing.T, store string, lines int) {
	t.Helper()
	db := openStored(t, store)
	defer db.Close()
	st, err := db.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if st.Requests != int64(lines) || st.ReplayDifferences != 0 {
		t.Errorf("the store holds %d requests, want %d; replay differences %d, want 0", st.Requests, lines, st.ReplayDifferences)
	}
	seen := map[int64]int{}
	err = db.Requests(context.Background(), storage.RequestFilter{Limit: 10 * lines}, func(r *pipeline.Request, _ string) bool {
		seen[r.Bytes]++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range lines {
		if n := seen[int64(firstSize+i)]; n != 1 {
			t.Fatalf("line %d of the log is stored %d times", i+1, n)
		}
	}
}

func TestRunGivesWhatAnalyzeGives(t *testing.T) {
	t.Parallel()
	log := trafficLog(*killSeed)
	cases := []struct {
		name    string
		log     []entry
		sources int
		kills   int
		rotate  bool
	}{
		{"growing", log, 1, 0, false},
		{"killed", disordered(log, *killSeed), 1, *kills, false},
		{"rotated and killed", disordered(log, *killSeed), 1, *kills, true},
		{"three sources", disordered(log, *killSeed), 3, 0, false},
		{"three sources killed", log, 3, *kills, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := map[string][]byte{}
			for i, part := range dealt(c.log, c.sources, *killSeed) {
				files[fmt.Sprintf("access%d.log", i)] = text(part)
			}
			ref := referenceFor(t, files)
			mustName(t, ref.alerts, abusers()...)
			dir := t.TempDir()
			var feeds []*feed
			for i := range c.sources {
				name := fmt.Sprintf("access%d.log", i)
				f := newFeed(t, filepath.Join(dir, name), files[name], *killSeed+uint64(i))
				if c.rotate {
					f.rotateAfterHalf()
				}
				feeds = append(feeds, f)
			}
			store := follow(t, feeds, c.kills, "--edition", ref.edition)
			mustHoldOnce(t, store, len(c.log))
			got := storedAlerts(t, store)
			mustName(t, got, abusers()...)
			mustBeSame(t, "weir run", ref.alerts, got)
		})
	}
}

// TestRunReadsHistory: what a file holds at the first start gives the same
// alerts, each marked as history.
func TestRunReadsHistory(t *testing.T) {
	t.Parallel()
	log := disordered(trafficLog(*killSeed), *killSeed)
	ref := referenceFor(t, map[string][]byte{"access.log": text(log)})
	f := newFeed(t, filepath.Join(t.TempDir(), "access.log"), text(log), *killSeed)
	f.write(t, 1)
	for f.write(t, 1) {
	}
	store := follow(t, []*feed{f}, 0, "--edition", ref.edition)
	mustHoldOnce(t, store, len(log))
	mustBeSame(t, "weir run", ref.alerts, storedAlerts(t, store))
	for _, a := range storedRevisions(t, store) {
		if !a.Backfill {
			t.Errorf("revision %s.%d is not marked as history", a.Alert.ID, a.Alert.Revision)
		}
	}
}

// TestRunGivesWhatAnalyzeGivesOnRealLogs is the same on logs of others, which
// lie beside the repository.
func TestRunGivesWhatAnalyzeGivesOnRealLogs(t *testing.T) {
	if testing.Short() {
		t.Skip("short mode")
	}
	t.Parallel()
	cases := []struct {
		name    string
		attacks bool // there are alerts to compare; else only lines
	}{
		{"baseline_access_logs/apache_logs.gz", false},
		{"tools_shop/access.log.gz", true},
	}
	for _, c := range cases {
		t.Run(filepath.Dir(c.name), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(repositoryRoot(t), "..", "shared", "data", c.name)
			packed, err := os.Open(path)
			if err != nil {
				t.Skipf("the data is not here: %v", err)
			}
			defer packed.Close()
			z, err := gzip.NewReader(packed)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil, "privacy: {key_file: %q}\n", filepath.Join(dir, "key")))
			edition := filepath.Join(dir, "edition.json")
			want := analyzed(t, path, "-c", config, "--edition-out", edition)
			if c.attacks && len(want) == 0 {
				t.Fatal("analyze gives no alerts")
			}
			for _, workers := range []string{"1", "8"} {
				mustBeSame(t, workers+" workers", want, analyzed(t, path, "-c", config, "--edition", edition, "--workers", workers))
			}
			f := newFeed(t, filepath.Join(dir, "access.log"), data, *killSeed)
			store := follow(t, []*feed{f}, *kills, "-c", config, "--edition", edition)
			mustBeSame(t, "weir run", want, storedAlerts(t, store))
			db := openStored(t, store)
			defer db.Close()
			st, err := db.Stats(context.Background())
			if lines := bytes.Count(data, []byte("\n")); err != nil || st.Requests != int64(lines) || st.ReplayDifferences != 0 {
				t.Errorf("the store holds %d requests of %d lines, %d replay differences: %v", st.Requests, lines, st.ReplayDifferences, err)
			}
		})
	}
}
