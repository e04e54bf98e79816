package main

import (
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"weir/detectors"
)

var backtestAll = flag.Bool("backtest.all", false, "try every change of a configuration on every labelled set, and on real traffic")

// configTrial is a change of the configuration.
type configTrial struct{ name, old, now string }

// trialsOfModes turn each detector off and on and put it on trial.
func trialsOfModes() (list []configTrial) {
	for _, name := range detectors.Names() {
		mode := func(m string) string { return fmt.Sprintf("detect: {%s: {mode: %s}}\n", name, m) }
		list = append(list,
			configTrial{name + " off", "", mode("off")},
			configTrial{name + " on trial", "", mode("shadow")},
			configTrial{name + " from trial to on", mode("shadow"), mode("on")},
			configTrial{name + " from off to trial", mode("off"), mode("shadow")},
			configTrial{name + " on again", mode("off"), ""})
	}
	return list
}

// trialsOfTheRest are changes of everything else that alerts depend on, and of what
// they do not: who and account are principals of the set that alert.
func trialsOfTheRest(dir, who, account string) []configTrial {
	ip := strings.TrimPrefix(who, "ip:")
	const until = "from: 2026-01-01T00:00:00Z, until: 2026-12-31T00:00:00Z, reason: it was ordered, author: eva"
	suppress := func(match string) string {
		return fmt.Sprintf("alerts: {suppressions: [{match: {%s}, %s}]}\n", match, until)
	}
	bad := filepath.Join(dir, "bad.txt")
	api := func(text string) string { return strings.Replace(text, "POST /login", "POST /api/login", 1) }
	return []configTrial{
		{"a login of an API that is none", "", api(noLogin)},
		{"a login of an API that weighs", api(noLogin), api(weighty)},
		{"a login of an API that weighs little", "", api(strings.Replace(weighty, "high", "low", 1))},
		{"an endpoint of an API suppressed", "", suppress("endpoint: POST /api/login")},
		{"a family suppressed", "", suppress("detector: auth")},
		{"a detector suppressed", "", suppress("detector: scrape.crawl")},
		{"an address suppressed", "", suppress("address: " + ip)},
		{"a principal suppressed no more", suppress(`principal: "` + who + `"`), ""},
		{"an account suppressed", "", suppress(`principal: "` + account + `"`)},
		{"an endpoint suppressed", "", suppress("endpoint: POST /login")},
		{"everything suppressed at one endpoint and level", "", suppress("endpoint: /**, level: client")},
		{"a maintenance", "", fmt.Sprintf("alerts: {maintenance: [{match: {address: %s}, %s}]}\n", ip, until)},
		{"a known client by address", "", fmt.Sprintf("identity: {known_clients: [{name: theirs, ip: %s}]}\n", ip)},
		{"a known client by account", "", fmt.Sprintf("identity: {known_clients: [{name: theirs, account: %s}]}\n", strings.TrimPrefix(account, "account:"))},
		{"a known client no more", fmt.Sprintf("identity: {known_clients: [{name: theirs, ip: %s}]}\n", ip), ""},
		{"a proxy that is trusted", "", fmt.Sprintf("identity: {trusted_proxies: [%s]}\n", ip)},
		{"internal networks", "", "identity: {internal_networks: [240.0.0.0/4]}\n"},
		{"shorter prefixes of keys", "", "identity: {api_key_prefix: 0}\n"},
		{"a list of addresses", "", fmt.Sprintf("context: {lists: [{name: bad, file: %q}]}\n", bad)},
		{"crawlers are not checked", "", "context: {crawlers: {mode: off}}\n"},
		{"a login that is none", "", noLogin},
		{"a login that weighs", noLogin, weighty},
		{"a login whose failure is another", "", "endpoints: [{match: POST /login, role: login, failure: {status: [418]}}]\n"},
		{"a small budget", "", "alerts: {budget: {alerts: 2, pages: 1}}\n"},
		{"no budget", "alerts: {budget: {alerts: 2, pages: 1}}\n", "alerts: {budget: {alerts: 0, pages: 0}}\n"},
		{"few at once", "", "alerts: {max_open: 3, max_resolved: 2}\n"},
		{"sinks and routes", "", "alerts: {sinks: {a: {webhook: {url: 'https://127.0.0.1:1/x', secret_file: hook.key}}}, routes: [{match: {severity: [critical]}, to: [a]}]}\n"},
		{"several at once", "detect: {auth.stuffing: {mode: off}}\n", "detect: {probe.path: {mode: off}}\n" + weighty + suppress("detector: auth.bruteforce")},
	}
}

// trialSet is a log, its truth and the edition that it is detected with.
type trialSet struct {
	t                         *testing.T
	dir, log, labels, edition string

	mu    sync.Mutex
	known map[string]map[string]outcome // by configuration
}

func newTrialSet(t *testing.T, dir, log, labels string) *trialSet {
	t.Helper()
	s := &trialSet{t: t, dir: dir, log: log, labels: labels, edition: filepath.Join(dir, "e.json"), known: map[string]map[string]outcome{}}
	analyzed(t, "--edition-out", s.edition, log)
	return s
}

// simulatedSet is what weir simulate gives.
func simulatedSet(t *testing.T, args ...string) *trialSet {
	t.Helper()
	dir := t.TempDir()
	log, labels := filepath.Join(dir, "a.json"), filepath.Join(dir, "truth")
	if r := weir(t, append([]string{"simulate", "--quiet", "--out", log, "--labels", labels}, args...)...); r.code != exitOK {
		t.Fatal(r.stderr)
	}
	return newTrialSet(t, dir, log, labels)
}

// under is what comes of the set under a configuration.
func (s *trialSet) under(t *testing.T, file, text string) map[string]outcome {
	t.Helper()
	s.mu.Lock()
	found, ok := s.known[text]
	s.mu.Unlock()
	if !ok {
		found = applied(t, "-c", file, "--edition", s.edition, s.log)
		s.mu.Lock()
		s.known[text] = found
		s.mu.Unlock()
	}
	return found
}

// try backtests c and compares what it tells with what then happens.
func (s *trialSet) try(t *testing.T, i int, c configTrial) *backtestResult {
	t.Helper()
	old := writeFile(t, s.dir, fmt.Sprintf("old%d.yaml", i), []byte(c.old))
	now := writeFile(t, s.dir, fmt.Sprintf("new%d.yaml", i), []byte(c.now))
	args := []string{"-c", now, "--against", old, "--edition", s.edition}
	if s.labels != "" {
		args = append(args, "--labels", s.labels)
	}
	r := backtested(t, append(args, s.log)...)
	was, is := s.under(t, old, c.old), s.under(t, now, c.now)
	mustPredict(t, r, was, is)
	pages := func(m map[string]outcome) (n int) {
		for _, o := range m {
			if o.paged {
				n++
			}
		}
		return n
	}
	if r.Alerts != (both[int]{len(was), len(is)}) || r.Pages != (both[int]{pages(was), pages(is)}) {
		t.Errorf("alerts %+v and pages %+v, they are %d and %d, %d and %d", r.Alerts, r.Pages, len(was), len(is), pages(was), pages(is))
	}
	return r
}

// tally counts what was tried.
type trialTally struct {
	mu                  sync.Mutex
	gained, lost, moved int
	without             []string // changes that changed nothing
}

func (n *trialTally) add(name string, r *backtestResult) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gained += len(r.Gained)
	n.lost += len(r.Lost)
	n.moved += len(r.Moved)
	if len(r.Gained)+len(r.Lost)+len(r.Moved) == 0 {
		n.without = append(n.without, name)
	}
}

// tryAll runs trials side by side. Of a set, share is every how manieth is tried.
func (s *trialSet) tryAll(t *testing.T, trials []configTrial, first, share int) {
	var n trialTally
	t.Run("trial", func(t *testing.T) {
		for i := first % share; i < len(trials); i += share {
			t.Run(trials[i].name, func(t *testing.T) {
				t.Parallel()
				n.add(trials[i].name, s.try(t, i, trials[i]))
			})
		}
	})
	t.Logf("%d gained, %d lost, %d moved; nothing by %s", n.gained, n.lost, n.moved, strings.Join(n.without, ", "))
	if n.gained == 0 && n.lost == 0 || n.moved == 0 {
		t.Error("no alert was gained or lost, or none moved")
	}
}

// TestBacktestPredictsEveryChange: of changes of every kind what is told is what then
// happens, alert by alert. By default a part of it is tried on a small set.
func TestBacktestPredictsEveryChange(t *testing.T) {
	t.Parallel()
	sets := [][]string{{"--scenario", "tiny-attacks"}}
	share := 2
	if *backtestAll {
		share = 1
		sets = append(sets, []string{"--scenario", "tiny-attacks", "--seed", "2"}, []string{"--scenario", "tiny-attacks", "--seed", "3"},
			[]string{"--scenario", "saas-attacks", "--clients", "20"}, []string{"--scenario", "public-attacks", "--clients", "20"},
			[]string{"--scenario", "graphql-attacks", "--clients", "20"})
	}
	for k, args := range sets {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			s := simulatedSet(t, args...)
			trials := trialsOfTheRest(s.dir, s.abuser(t, "ip:"), s.abuser(t, "account:"))
			if *backtestAll { // else TestBacktestOfEveryDetector does
				trials = append(trials, trialsOfModes()...)
			}
			s.tryAll(t, trials, k, share)
		})
	}
	if *backtestAll {
		t.Run("real tools", func(t *testing.T) {
			s := realSet(t)
			s.tryAll(t, append(trialsOfTheRest(s.dir, s.abuser(t, "ip:"), "account:mia.berg@mail.example"), trialsOfModes()...), 0, 1)
		})
	}
}

// abuser is a principal of the set that alerts, of a kind; its address is in the list
// of bad ones.
func (s *trialSet) abuser(t *testing.T, kind string) string {
	t.Helper()
	writeFile(t, s.dir, "bad.txt", []byte("203.0.113.0/24\n240.0.0.0/6\n"))
	least := "" // any will do, but always the same
	for _, o := range s.under(t, writeFile(t, s.dir, "none.yaml", nil), "") {
		if strings.HasPrefix(o.principal, kind) && (least == "" || o.principal < least) && o.severity != "info" {
			least = o.principal
		}
	}
	if least == "" {
		return kind + "nobody"
	}
	return least
}

// realSet is what scanners and other tools did to a shop.
func realSet(t *testing.T) *trialSet {
	t.Helper()
	dir := t.TempDir()
	shared := filepath.Join(repositoryRoot(t), "..", "shared", "data", "tools_shop")
	packed, err := os.Open(filepath.Join(shared, "access.log.gz"))
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
	return newTrialSet(t, dir, writeFile(t, dir, "access.log", data), filepath.Join(shared, "labels.ndjson"))
}

// TestBacktestOfEachDetectorsCase: on what each detector is made for, it is lost when it
// is turned off, on trial or suppressed, and gained when it is on again.
func TestBacktestOfEachDetectorsCase(t *testing.T) {
	t.Parallel()
	for _, name := range detectors.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := filepath.Glob(filepath.Join("..", "..", "detectors", "testdata", strings.ReplaceAll(name, ".", "_"), "attack_*.txtar"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no case: %v", err)
			}
			if !*backtestAll {
				files = files[:1]
			}
			seen := 0
			for _, file := range files {
				c := stageCase(t, file)
				s := &trialSet{t: t, dir: c.dir, log: c.log("", c.lines), edition: c.edition, known: map[string]map[string]outcome{}}
				trials := []configTrial{
					{"off", "", fmt.Sprintf("detect: {%s: {mode: off}}\n", name)},
					{"on", fmt.Sprintf("detect: {%s: {mode: shadow}}\n", name), ""},
					{"suppressed", "", fmt.Sprintf("alerts: {suppressions: [{match: {detector: %s}, from: 2026-01-01T00:00:00Z, until: 2026-12-31T00:00:00Z, reason: it was ordered, author: eva}]}\n", name)},
				}
				for i, trial := range trials {
					r := s.try(t, i, trial)
					seen += len(r.Gained) + len(r.Lost) + len(r.Moved)
				}
			}
			if seen < 2 {
				t.Errorf("%d alerts changed", seen)
			}
		})
	}
}
