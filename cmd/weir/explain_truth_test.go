package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

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

// TestExplainTellsTheTruth: of clients that did not alert the reason is the true
// one, as the generator knows it.
func TestExplainTellsTheTruth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, truth, edition := filepath.Join(dir, "a.json"), filepath.Join(dir, "truth"), filepath.Join(dir, "e.json")
	scenario := writeFile(t, dir, "near.yaml", []byte(nearMisses))
	for _, args := range [][]string{
		{"simulate", "--quiet", "--scenario", scenario, "--out", log, "--labels", truth},
		{"analyze", "--quiet", "--edition-out", edition, log},
	} {
		if r := weir(t, args...); r.code != exitOK {
			t.Fatalf("%s: %s", args, r.stderr)
		}
	}
	open := func(config, input string) *replay {
		path := ""
		if config != "" {
			path = writeFile(t, dir, fmt.Sprintf("c%d.yaml", len(config)), []byte(config))
		}
		p, err := openReplay(context.Background(), replayFlags{config: path, edition: edition}, []string{input}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		return p
	}
	plain, hidden := open("", log), open(nearMissesHidden, log)
	told, checked := map[string]int{}, 0
	f := func(p *replay, client, what string, want func(reason) bool) {
		t.Helper()
		why := whyNot(t, p, client)
		told[why.code]++
		checked++
		if !want(why) {
			t.Errorf("%s (%s): %s %s: %s", what, client, why.code, why.detector, why.text)
		}
	}
	for _, l := range readEpisodes(t, truth) {
		ips := addressesOf(l)
		switch kind, _, _ := strings.Cut(l.Episode, "-"); {
		case kind == "few":
			// An attack of that type went on for too short a time.
			f(plain, ips[0], l.Episode, func(r reason) bool {
				// Before it has asked for much, a question by login is a login.
				return r.code == "below" && familyOf(r.detector) == familyOf(l.Type) && strings.Contains(r.text, "more would raise it")
			})
		case kind == "shadow" || kind == "off":
			f(hidden, ips[0], l.Episode, func(r reason) bool { return r.code == kind && familyOf(r.detector) == familyOf(l.Type) })
		case l.Benign == "stuck-client":
			// It knocks with an old password, too slowly.
			f(plain, ips[0], l.Benign, func(r reason) bool { return r.code == "below" && familyOf(r.detector) == "auth" })
		case l.Benign == "people" || l.Benign == "bad-deploy":
			for _, ip := range ips[:4] {
				f(plain, ip, l.Benign, func(r reason) bool { return slices.Contains([]string{"few", "nothing", "below"}, r.code) })
			}
		}
	}
	f(open("", behindProxy(t, dir, log)), "ip:10.9.9.9", "an undeclared proxy", func(r reason) bool { return r.code == "proxy" })
	if checked < 20 {
		t.Errorf("%d clients checked", checked)
	}
	for _, code := range []string{"below", "shadow", "off", "proxy"} {
		if told[code] == 0 {
			t.Errorf("%s was never the reason", code)
		}
	}
	t.Run("more", func(t *testing.T) { moreIsTrue(t, dir, log, edition, readEpisodes(t, truth)) })
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
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`([0-9]+) more would raise it \(.*, one every ([0-9.]+) s as before\)`)
	stamp := regexp.MustCompile(`"time_iso8601":"([^"]+)"`)
	i := slices.IndexFunc(truth, func(l truthLine) bool { return l.Episode == "few-brute" })
	client := addressesOf(truth[i])[0]
	ip := strings.TrimPrefix(client, "ip:")
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
