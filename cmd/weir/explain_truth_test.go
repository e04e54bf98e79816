package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/detectors"
	"weir/pipeline"
)

var truthSeeds = flag.Int("truthseeds", 3, "in how many ways the clients are made whose reasons are checked")

// nearMisses is a scenario of clients that do not alert, each for a reason that the
// generator knows: attacks that are cut short, attacks that the configuration hides,
// and harmless clients.
const nearMisses = `name: near
site: {kind: shop, accounts: 3000, items: 400}
start: 2026-03-02T10:00:00Z
days: 0.084
clients: 60
benign:
  - {profile: people, factor: 8}
  - {profile: stuck-client, count: 1}
  - {profile: uptime, count: 2}
  - {profile: bad-deploy, count: 60, at: 1h, for: 40m}
attacks:
  - {name: few-brute, type: auth.bruteforce, start: 30m, requests: 9, rate: 20/m}
  - {name: few-brute-fast, type: auth.bruteforce, start: 34m, requests: 6, rate: 30/m}
  - {name: few-stuff, type: auth.stuffing, start: 35m, requests: 6, rate: 10/m, success: 0}
  - {name: few-stuff-slow, type: auth.stuffing, start: 25m, requests: 5, rate: 4/m, success: 0}
  - {name: few-reset, type: enum.user, variant: reset, start: 45m, requests: 5, rate: 20/m}
  - {name: few-crawl, type: scrape.crawl, start: 50m, requests: 60, rate: 1/s}
  - {name: few-crawl-fast, type: scrape.crawl, start: 55m, requests: 40, rate: 2/s}
  - {name: shadow-crawl, type: scrape.crawl, start: 65m, requests: 700, rate: 2/s}
  - {name: shadow-object, type: enum.object, start: 76m, requests: 120, rate: 1/s}
  - {name: quiet-crawl, type: scrape.crawl, start: 40m, requests: 700, rate: 2/s}
  - {name: known-crawl, type: scrape.crawl, start: 20m, requests: 700, rate: 2/s}
  - {name: off-brute, type: auth.bruteforce, start: 70m, requests: 120, rate: 40/m}
  - {name: off-probe, type: probe.path, start: 60m, requests: 150, rate: 4/s}
  - {name: off-inject, type: inject.probe, start: 15m, requests: 80, rate: 1/s}
`

const nearMissesHidden = `detect:
  scrape.crawl: {mode: shadow}
  enum.object: {mode: shadow}
  auth.bruteforce: {mode: off}
  probe.path: {mode: off}
  inject.probe: {mode: off}
`

// nearMissesToldOff suppresses what one address does, and knows another's.
const nearMissesToldOff = `alerts:
  maintenance:
    - {match: {address: %s}, from: 2026-03-02T00:00:00Z, until: 2026-03-03T00:00:00Z, reason: a load test}
identity:
  known_clients: [{name: theirs, ip: %s}]
`

// hiddenLogins is a site whose logins answer 200 either way, too few of them to learn
// from.
const hiddenLogins = `name: hidden
site: {kind: shop, login: %s, accounts: 300, items: 100}
start: 2026-03-02T10:00:00Z
days: 0.03
clients: 3
benign: [{profile: people}]
attacks:
  - {name: hidden-a, type: auth.bruteforce, start: 5m, requests: 8, rate: 6/m, success: 0}
  - {name: hidden-b, type: auth.bruteforce, start: 15m, requests: 6, rate: 3/m, success: 0}
  - {name: hidden-c, type: auth.stuffing, start: 20m, requests: 6, rate: 4/m, success: 0}
`

// brokenItems is a site where for a while nobody finds an item.
const brokenItems = `name: broken
site: {kind: shop, accounts: 3000, items: 400}
start: 2026-03-02T10:00:00Z
days: 0.084
clients: 60
benign:
  - {profile: people, factor: 8}
  - {profile: broken-link, count: 120, at: 1h, for: 40m}
`

// truthLine is a line of the generator's labels.
type truthLine struct {
	Episode    string   `json:"episode"`
	Type       string   `json:"type"`
	Benign     string   `json:"benign"`
	Principals []string `json:"principals"`
}

func readEpisodes(t *testing.T, path string) (list []truthLine) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var l truthLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		list = append(list, l)
	}
	return list
}

// addressesOf are the addresses among principals.
func addressesOf(l truthLine) (list []string) {
	for _, p := range l.Principals {
		if strings.HasPrefix(p, "ip:") {
			list = append(list, p)
		}
	}
	return list
}

// whyNot explains a client in process.
func whyNot(t *testing.T, p *replay, client string) reason {
	t.Helper()
	who, err := p.principal(client)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.client(context.Background(), who, 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	why := c.why()
	if why.code == "below" {
		if err := p.missing(context.Background(), c, &why); err != nil {
			t.Fatal(err)
		}
	}
	return why
}

// truthCheck tells of clients why they did not alert, and counts.
type truthCheck struct {
	t            *testing.T
	dir, edition string
	told         map[string]int
	checked      int
}

// check explains client, which want must agree with.
func (c *truthCheck) check(p *replay, client, what string, want func(reason) bool) {
	c.t.Helper()
	why := whyNot(c.t, p, client)
	c.told[why.code]++
	c.checked++
	if !want(why) {
		c.t.Errorf("%s (%s): %s %s: %s", what, client, why.code, why.detector, why.text)
	}
}

func (c *truthCheck) open(name, config, edition, input string) *replay {
	c.t.Helper()
	p, err := openReplay(context.Background(), replayFlags{config: writeFile(c.t, c.dir, name+".yaml", []byte(config)), edition: edition}, []string{input}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(p.close)
	return p
}

// simulated writes the traffic of a scenario.
func (c *truthCheck) simulated(name, scenario string, seed int) (log string, truth []truthLine) {
	c.t.Helper()
	log, labels := filepath.Join(c.dir, name+".json"), filepath.Join(c.dir, name+".truth")
	file := writeFile(c.t, c.dir, name+".scenario.yaml", []byte(scenario))
	if r := weir(c.t, "simulate", "--quiet", "--seed", strconv.Itoa(seed), "--scenario", file, "--out", log, "--labels", labels); r.code != exitOK {
		c.t.Fatal(r.stderr)
	}
	return log, readEpisodes(c.t, labels)
}

// firstOf is an address of an episode.
func firstOf(truth []truthLine, episode string) string {
	i := slices.IndexFunc(truth, func(l truthLine) bool { return l.Episode == episode })
	return strings.TrimPrefix(addressesOf(truth[i])[0], "ip:")
}

// TestExplainTellsTheTruth: of clients that did not alert the reason is the true
// one, as the generator knows it; of at least twenty for each seed.
func TestExplainTellsTheTruth(t *testing.T) {
	t.Parallel()
	var excused atomic.Int64
	t.Run("seed", func(t *testing.T) { explainsSeeds(t, &excused) })
	if excused.Load() == 0 {
		t.Error("excused was never the reason")
	}
}

func explainsSeeds(t *testing.T, excused *atomic.Int64) {
	for seed := 1; seed <= *truthSeeds; seed++ {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			c := &truthCheck{t: t, dir: t.TempDir(), told: map[string]int{}}
			log, truth := c.simulated("near", nearMisses, seed)
			c.edition = filepath.Join(c.dir, "e.json")
			if r := weir(t, "analyze", "--quiet", "--edition-out", c.edition, log); r.code != exitOK {
				t.Fatal(r.stderr)
			}
			c.nearMisses(log, truth)
			c.logins(seed)
			c.broken(seed)
			excused.Add(int64(c.told["excused"]))
			t.Logf("%d clients: %v", c.checked, c.told)
			if c.checked < 20 {
				t.Errorf("%d clients checked", c.checked)
			}
			for _, code := range []string{"below", "shadow", "off", "suppressed", "information", "proxy", "unlearned"} {
				if c.told[code] == 0 {
					t.Errorf("%s was never the reason", code)
				}
			}
			if seed == 1 {
				moreIsTrue(t, c.dir, log, c.edition, truth)
			}
		})
	}
}

// nearMisses checks the clients of nearMisses.
func (c *truthCheck) nearMisses(log string, truth []truthLine) {
	plain, hidden := c.open("plain", "", c.edition, log), c.open("hidden", nearMissesHidden, c.edition, log)
	quiet := c.open("quiet", fmt.Sprintf(nearMissesToldOff, firstOf(truth, "quiet-crawl"), firstOf(truth, "known-crawl")), c.edition, log)
	for _, l := range truth {
		ips := addressesOf(l)
		switch kind, _, _ := strings.Cut(l.Episode, "-"); {
		case kind == "few":
			// An attack of that type went on for too short a time.
			c.check(plain, ips[0], l.Episode, func(r reason) bool {
				// Before it has asked for much, a question by login is a login.
				return r.code == "below" && akin(r.detector, l.Type) && strings.Contains(r.text, "more would raise it")
			})
		case kind == "shadow" || kind == "off":
			c.check(hidden, ips[0], l.Episode, func(r reason) bool { return r.code == kind && familyOf(r.detector) == familyOf(l.Type) })
		case kind == "quiet":
			c.check(quiet, ips[0], l.Episode, func(r reason) bool { return r.code == "suppressed" && r.detector == l.Type })
		case kind == "known":
			c.check(quiet, ips[0], l.Episode, func(r reason) bool { return r.code == "information" && r.detector == l.Type })
		case l.Benign == "stuck-client":
			// It knocks with an old password, too slowly.
			c.check(plain, ips[0], l.Benign, func(r reason) bool { return r.code == "below" && familyOf(r.detector) == "auth" })
		case l.Benign == "people" || l.Benign == "bad-deploy":
			for _, ip := range ips[:4] {
				c.check(plain, ip, l.Benign, func(r reason) bool { return slices.Contains([]string{"few", "nothing", "below"}, r.code) })
			}
		}
	}
	c.check(c.open("proxied", "", c.edition, behindProxy(c.t, c.dir, log)), "ip:10.9.9.9", "an undeclared proxy", func(r reason) bool { return r.code == "proxy" })
}

// logins checks that unknown outcomes are the reason where the site hides them, and
// nowhere else.
func (c *truthCheck) logins(seed int) {
	shipped := shippedEdition(c.t, c.dir)
	for _, answers := range []string{"size", "status"} {
		log, truth := c.simulated(answers, fmt.Sprintf(hiddenLogins, answers), seed)
		p := c.open(answers, "", shipped, log)
		for _, l := range truth {
			if strings.HasPrefix(l.Episode, "hidden") {
				c.check(p, addressesOf(l)[0], "logins that answer by "+answers, func(r reason) bool {
					return (r.code == "unlearned") == (answers == "size") && akin(r.detector, "auth.bruteforce")
				})
			}
		}
	}
}

// broken checks that whoever reached enough only where nobody found anything is
// excused, and that these are all people who looked there.
func (c *truthCheck) broken(seed int) {
	log, truth := c.simulated("broken", brokenItems, seed)
	edition := filepath.Join(c.dir, "broken.edition.json")
	if r := weir(c.t, "analyze", "--quiet", "--edition-out", edition, log); r.code != exitOK {
		c.t.Fatal(r.stderr)
	}
	p := c.open("broken", "", edition, log)
	var found []string
	p.finding = func(f *pipeline.Finding, fate fate) {
		if who := "ip:" + f.Who.Value; fate == fateExcused && !slices.Contains(found, who) {
			found = append(found, who)
		}
	}
	if _, err := p.run(context.Background(), nil, nil, func(*pipeline.Alert) {}); err != nil {
		c.t.Fatal(err)
	}
	i := slices.IndexFunc(truth, func(l truthLine) bool { return l.Benign == "broken-link" })
	looked := addressesOf(truth[i])
	for _, who := range found[:min(len(found), 4)] {
		c.check(p, who, "where nobody found anything", func(r reason) bool { return r.code == "excused" && slices.Contains(looked, who) })
	}
	for _, who := range slices.DeleteFunc(looked, func(who string) bool { return slices.Contains(found, who) })[:2] {
		c.check(p, who, "a few of the misses", func(r reason) bool { return slices.Contains([]string{"few", "nothing", "below"}, r.code) })
	}
}

// TestWhyOfWhatTrafficSeldomMakes: the reasons that take a full memory or a log that
// ends at the wrong moment, and which of several is told.
func TestWhyOfWhatTrafficSeldomMakes(t *testing.T) {
	t.Parallel()
	const enough, little = pipeline.ReviewAt, pipeline.ReviewAt / 2
	at := func(best pipeline.Nats) []nearest {
		return []nearest{{detector: "probe.path", mode: detectors.ModeOn, counted: 9, best: best}}
	}
	full := detectors.Client{Full: true, Requests: 9}
	f := func(c clientCase, want string) {
		t.Helper()
		if c.seen = 9; c.why().code != want {
			t.Errorf("%+v, want %s", c.why(), want)
		}
	}
	f(clientCase{near: at(enough), known: true, client: full}, "pending")
	f(clientCase{near: at(enough), known: true, client: full, sizes: detectors.Stats{EvictedCases: 1}}, "evicted")
	f(clientCase{near: at(little), known: true, client: detectors.Client{Full: true, Requests: 3}}, "evicted")
	f(clientCase{near: at(little)}, "evicted")
	f(clientCase{near: at(little), known: true, client: full}, "below")
	f(clientCase{near: at(enough), known: true, client: full, hidden: []hiddenCase{{"probe.path", enough, fateExcused}}}, "excused")
	f(clientCase{near: at(enough), known: true, client: full, hidden: []hiddenCase{{"probe.path", enough, fateExcused}, {"enum.object", enough, fateShadow}}}, "shadow")
}

// behindProxy is the log with everybody behind one address.
func behindProxy(t *testing.T, dir, log string) string {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`"remote_addr":"[^"]+"`)
	var out bytes.Buffer
	for line := range bytes.Lines(data) {
		m := address.Find(line)
		out.Write(bytes.Replace(line, m, []byte(`"remote_addr":"10.9.9.9","http_x_forwarded_for":`+strings.TrimPrefix(string(m), `"remote_addr":`)), 1))
	}
	return writeFile(t, dir, "proxied.json", out.Bytes())
}

// moreIsTrue: as many more lines as explain says make the alert, half as many do
// not.
func moreIsTrue(t *testing.T, dir, log, edition string, truth []truthLine) {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`([0-9]+) more would raise it \(.*, one every ([0-9.]+) s as before\)`)
	stamp := regexp.MustCompile(`"time_iso8601":"([^"]+)"`)
	ip := firstOf(truth, "few-brute")
	client := "ip:" + ip
	got := weir(t, "explain", "--client", client, "--edition", edition, log)
	m := said.FindSubmatch(got.stdout)
	if m == nil {
		t.Fatalf("explain says %s", got.stdout)
	}
	n, _ := strconv.Atoi(string(m[1]))
	gap, _ := strconv.ParseFloat(string(m[2]), 64)
	var last []byte
	var kept [][]byte
	for line := range bytes.Lines(data) {
		if kept = append(kept, line); bytes.Contains(line, []byte(ip)) {
			last = line
		}
	}
	alerts := func(more int) bool {
		at, err := time.Parse(time.RFC3339Nano, string(stamp.FindSubmatch(last)[1]))
		if err != nil {
			t.Fatal(err)
		}
		lines := slices.Clone(kept[:slices.IndexFunc(kept, func(l []byte) bool { return &l[0] == &last[0] })+1])
		for k := range more {
			then := at.Add(time.Duration(float64(k+1) * gap * float64(time.Second)))
			lines = append(lines, stamp.ReplaceAll(last, []byte(`"time_iso8601":"`+then.Format(time.RFC3339Nano)+`"`)))
		}
		path := writeFile(t, dir, "more.json", bytes.Join(lines, nil))
		return slices.ContainsFunc(analyzed(t, "--edition", edition, path), func(s string) bool { return strings.Contains(s, `"value":"`+ip+`"`) })
	}
	// A rounded pace may cost one.
	if !alerts(n+1) || alerts(n/2) {
		t.Errorf("%d more of %s: alert with one more than that %v, with half %v", n, ip, alerts(n+1), alerts(n/2))
	}
}
