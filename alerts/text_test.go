package alerts

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"weir/pipeline"
)

var update = flag.Bool("update", false, "write testdata again")

// stories are five findings as people meet them, each with what happened
// before; the last revision is shown.
func stories() map[string][]*pipeline.Finding {
	const nat = pipeline.Nat
	min := func(n int) pipeline.Time { return noon.Add(time.Duration(n) * time.Minute) }
	since := noon.Add(-7 * 24 * time.Hour)
	ip := func(s string) pipeline.Principal { return pipeline.Principal{Kind: pipeline.PrincipalIP, Value: s} }

	stuff := func(at pipeline.Time, n int64, ok int64) *pipeline.Finding {
		f := stuffing("203.0.113.7", at, n, ok)
		f.Onset, f.First = min(-21), min(-21)
		f.Score = 24222106
		f.Signals = []pipeline.FindingSignal{
			{Name: "login_failure", Observed: float64(n), Expected: 4.1, Count: n, Nats: 19 * nat, Baseline: pipeline.Baseline{Kind: "cohort", N: 5120, Since: &since}},
			{Name: "new_accounts", Observed: float64(n), Expected: 1.2, Count: n, Nats: f.Score - 19*nat, Baseline: pipeline.Baseline{Kind: "prior"}},
		}
		f.Title = "Credential stuffing against POST /login from 203.0.113.7"
		f.Reason = fmt.Sprintf("%d different accounts tried %d times, one or two passwords each; an office this size fails on about 4.", n, n)
		f.Next = []string{"Reset 2 accounts and end 2 sessions", "Block 203.0.113.7 for 4 h: no other user behind it", "Look for the same accounts elsewhere"}
		f.BenignIf = []string{"a password-manager migration"}
		f.WouldNotFireIf = "fewer than 14 distinct accounts had failed"
		f.People, f.Rate5m, f.Agents = [2]int{1, 3}, 38, []string{"python-requests/2.31.0"}
		f.Accounts = []pipeline.AffectedAccount{
			{Name: "alice", Outcome: "success", Time: at}, {Name: "bob", Outcome: "success", Time: at}, {Name: "carol", Outcome: "failure", Time: at},
		}
		if ok == 0 {
			f.Accounts = f.Accounts[2:]
		}
		f.Attack, f.OWASP, f.OAT = []string{"T1110.004"}, []string{"API2:2023"}, []string{"OAT-008"}
		f.Exemplars = []pipeline.Exemplar{{Time: at, IP: "203.0.113.7", Method: "POST", Path: "/login", Status: 401, Bytes: new(int64(1910)), Agent: "python-requests/2.31.0", Source: "access.log:18211"}}
		f.Labels = map[string]string{"service": "shop", "env": "prod"}
		return f
	}

	slow := probing("198.51.100.44", min(0), 61)
	slow.Facts = pipeline.FindingFacts{}
	slow.Onset, slow.First = min(-2*24*60), min(-2*24*60)
	slow.Outcome = pipeline.Outcome{Requests: 74, Attempted: 61, Succeeded: new(int64(0)), Basis: "status"}
	slow.Title = "Slow probing for hidden paths from 198.51.100.44"
	slow.Reason = "61 paths that do not exist here, one every 47 minutes, 44 of them from scanner wordlists; visitors of this site miss 2 in that time."
	slow.Next = []string{"Check that /backup and /.git answer 404 from outside", "Block 198.51.100.44 for 24 h: no logged-in user was seen behind it"}
	slow.BenignIf = []string{"a link checker of yours", "a scan you ordered"}
	slow.Endpoint, slow.Score, slow.People, slow.Rate5m = pipeline.Endpoint{}, 19*nat+nat/2, [2]int{1, 1}, 1
	slow.Agents = []string{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"}

	walk := stuffing("", min(0), 212, 31)
	walk.ID, walk.Detector, walk.Level = "id-enum", "enum.object", "account"
	walk.Who = pipeline.Principal{Kind: pipeline.PrincipalAccount, Value: "mallory@example.com"}
	walk.Addresses, walk.AddressesTotal = []string{"192.0.2.10", "192.0.2.77", "198.51.100.3"}, 3
	walk.Facts = pipeline.FindingFacts{CanSucceed: true}
	walk.Outcome = pipeline.Outcome{Requests: 220, Attempted: 212, Succeeded: nil, Blocked: new(int64(181)), BlockedBy: "the application (403)", Objects: 212, Basis: "unknown"}
	walk.Title = "Account mallory@example.com walks through order ids"
	walk.Reason = "212 orders asked for in ascending order, 181 refused with 403; this account's own orders are 3."
	walk.Next = []string{"Check that the 31 orders that answered 200 belong to mallory@example.com", "End the account's sessions"}
	walk.BenignIf = []string{"a support employee's account", "an export job"}
	walk.Endpoint = pipeline.Endpoint{Method: "GET", Host: "api.example.com", Template: "/orders/{id}"}
	walk.Score, walk.Rate5m = 31*nat, 120

	crawl := stuffing("2001:db8:1:2::/64", min(0), 8412, 8400)
	crawl.ID, crawl.Detector, crawl.Facts = "id-crawl", "scrape.crawl", pipeline.FindingFacts{}
	crawl.Who, crawl.Onset = ip("2001:db8:1:2::/64"), min(-185)
	crawl.Outcome = pipeline.Outcome{Requests: 8412, Attempted: 8412, Succeeded: new(int64(8400)), Bytes: new(int64(912_000_000)), Basis: "status"}
	crawl.Title = "Catalogue scraping of /products from 2001:db8:1:2::/64"
	crawl.Reason = "8,412 product pages in page order, without images or styles; a thorough shopper opens 40."
	crawl.Next = []string{"Decide whether the catalogue may be copied; if not, limit 2001:db8:1:2::/64 to 30 pages a minute"}
	crawl.BenignIf = []string{"a partner's feed without an API key", "a search engine that is not verified"}
	crawl.Score, crawl.Rate5m, crawl.Agents = 60*nat, 231, []string{"Mozilla/5.0 (compatible; PriceBot/1.0)"}

	var scan []*pipeline.Finding
	for i := range 260 {
		scan = append(scan, probing(fmt.Sprintf("198.51.100.%d", i%256), noon.Add(time.Duration(i)*time.Second), int64(20+i)))
	}
	return map[string][]*pipeline.Finding{
		"stuffing":  {stuff(min(-15), 12, 0), stuff(min(0), 57, 2)},
		"slowprobe": {slow}, "idwalk": {walk}, "crawl": {crawl}, "background": scan,
	}
}

// last is the newest revision of a story.
func last(t *testing.T, story []*pipeline.Finding) *pipeline.Alert {
	t.Helper()
	b := NewBook(DefaultConfig(), versions())
	var got []pipeline.Alert
	for _, f := range story {
		got = b.Take(got, f)
	}
	if len(got) == 0 {
		t.Fatal("the story raises no alert")
	}
	return &got[len(got)-1]
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (write it with -update): %s", name, d)
	}
}

func TestStories(t *testing.T) {
	all := stories()
	for _, name := range sortedKeys(all) {
		a := last(t, all[name])
		var b bytes.Buffer
		for _, o := range []TextOptions{{}, {Verbose: true, Width: 80}} {
			if err := Text(&b, a, o); err != nil {
				t.Fatal(err)
			}
			b.WriteByte('\n')
		}
		golden(t, name+".txt", b.Bytes())
		golden(t, name+".json", append(AppendJSON(nil, a), '\n'))
	}
}

// checkText fails when what a client wrote could reach the terminal.
func checkText(t *testing.T, a *pipeline.Alert) {
	t.Helper()
	for _, o := range []TextOptions{{}, {Width: 1}, {Width: 80, Verbose: true}} {
		var b bytes.Buffer
		if err := Text(&b, a, o); err != nil {
			t.Fatal(err)
		}
		rows := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(rows) > maxLines {
			t.Errorf("%d lines: %s", len(rows), b.String())
		}
		for _, row := range rows {
			if printable(row) != row {
				t.Errorf("not safe to print: %q", row)
			}
			if o.Width > 0 && utf8.RuneCountInString(row) > max(o.Width, minWidth) && !strings.HasPrefix(row, "  silence") {
				t.Errorf("%d columns, want %d: %s", utf8.RuneCountInString(row), max(o.Width, minWidth), row)
			}
		}
	}
}

func hostile() *pipeline.Finding {
	f := stuffing("203.0.113.7", noon, 57, 2)
	evil := "\x1b[2J\x1b]0;x\a\r\nroot\u202e\u200b\u009b31m\xff'; rm -rf ~ #"
	f.Who = pipeline.Principal{Kind: pipeline.PrincipalAccount, Value: evil}
	f.Title, f.Reason, f.Next, f.BenignIf = evil, strings.Repeat(evil+" ", 100), []string{evil, evil, evil}, []string{evil}
	f.Agents, f.Addresses, f.Detector, f.Endpoint.Template = []string{evil}, []string{evil}, "auth."+evil, evil
	f.Accounts = []pipeline.AffectedAccount{{Name: evil, Outcome: "success", Time: noon}}
	f.Outcome.BlockedBy, f.Outcome.Blocked = evil, new(int64(3))
	return f
}

func TestTextIsHarmless(t *testing.T) {
	a := last(t, []*pipeline.Finding{hostile()})
	checkText(t, a)
	var b bytes.Buffer
	if err := Text(&b, a, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	j := AppendJSON(nil, a)
	if !json.Valid(j) || printable(string(j)) != string(j) {
		t.Errorf("JSON holds what a terminal obeys: %q", j)
	}
}

func TestColorIsOnlyOurs(t *testing.T) {
	var b bytes.Buffer
	if err := Text(&b, last(t, stories()["stuffing"]), TextOptions{Color: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "\x1b[1;97;41mCRITICAL\x1b[0m") {
		t.Errorf("no color: %q", b.String())
	}
}

func TestJSONIsWhole(t *testing.T) {
	j := AppendJSON([]byte("x"), &pipeline.Alert{})
	if !bytes.HasPrefix(j, []byte(`x{"schema":`)) {
		t.Fatalf("not appended: %s", j)
	}
	var m map[string]any
	if err := json.Unmarshal(j[1:], &m); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"next", "benign_if", "addresses", "members", "signals", "exemplars", "attack", "owasp_api", "oat"} {
		if _, ok := m[k].([]any); !ok {
			t.Errorf("%s is %v, want a list", k, m[k])
		}
	}
	if d := cmp.Diff(map[string]any{"service": "", "env": "", "team": ""}, m["labels"]); d != "" {
		t.Error(d)
	}
	if o := m["outcome"].(map[string]any); o["succeeded"] != nil {
		t.Errorf("unknown success is %v, want null", o["succeeded"])
	}
	var back pipeline.Alert
	a := last(t, stories()["stuffing"])
	if err := json.Unmarshal(AppendJSON(nil, a), &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(AppendJSON(nil, a)), string(AppendJSON(nil, &back))); d != "" {
		t.Errorf("does not read back: %s", d)
	}
}

// FuzzFinding feeds findings of any content through everything that shows them.
func FuzzFinding(f *testing.F) {
	for _, s := range []*pipeline.Finding{hostile(), stuffing("203.0.113.7", noon, 57, 2), probing("::1", noon, 3)} {
		j, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(j, int64(s.Time), 1e300)
	}
	f.Fuzz(func(t *testing.T, j []byte, at int64, x float64) {
		var g pipeline.Finding
		if json.Unmarshal(j, &g) != nil {
			return
		}
		g.Last, g.FirstSeen, g.Sampled = pipeline.Time(at), pipeline.NoTime, x
		for i := range g.Signals {
			g.Signals[i].Observed = x
		}
		g.Facts.Notice = g.Facts.Notice || g.Score < pipeline.ReviewAt
		b := NewBook(DefaultConfig(), versions())
		got := b.Advance(b.Take(nil, &g), lastTime)
		if len(got) == 0 {
			t.Fatal("no alert")
		}
		for i := range got {
			checkText(t, &got[i])
			if j := AppendJSON(nil, &got[i]); !json.Valid(j) {
				t.Fatalf("no JSON: %s", j)
			}
		}
		c := NewBook(DefaultConfig(), versions())
		c.Take(nil, &g)
		snap, err := c.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		d, err := Restore(DefaultConfig(), versions(), snap)
		if err != nil {
			t.Fatal(err)
		}
		if x, y := lines(c.Open()), lines(d.Open()); x != y {
			t.Fatal(cmp.Diff(x, y))
		}
	})
}

// TestTextOfMember: a case that does not page because its campaign does says so.
func TestTextOfMember(t *testing.T) {
	f := func(want bool, change func(a *pipeline.Alert)) {
		t.Helper()
		a := pipeline.Alert{
			Detector: "auth.stuffing", Level: "client", Severity: "low", Tier: "review", Campaign: "b2e1",
			Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"}, Score: pipeline.AlertScore{Nats: 43.9, PageAt: 18.42},
		}
		change(&a)
		if got := strings.Contains(who(&a), "one of a campaign"); got != want {
			t.Errorf("%q: told %v, want %v", who(&a), got, want)
		}
	}
	f(true, func(*pipeline.Alert) {})
	f(false, func(a *pipeline.Alert) { a.Campaign = "" })
	f(false, func(a *pipeline.Alert) { a.Tier = "page" })
	f(false, func(a *pipeline.Alert) { a.Score.Nats = 14 })
	f(false, func(a *pipeline.Alert) { a.Detector = "probe.path" })
	f(false, func(a *pipeline.Alert) { a.Level, a.MembersTotal = "campaign", 9 })
}
