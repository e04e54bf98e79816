package simulate

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/golden.txt anew")

func load(t testing.TB, text string) *Scenario {
	t.Helper()
	s, err := Load(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func builtin(t testing.TB, name string) *Scenario {
	t.Helper()
	s, ok := Builtin(name)
	if !ok {
		t.Fatalf("no scenario %q", name)
	}
	return s
}

// events runs s and returns copies of what comes.
func events(t testing.TB, s *Scenario, seed uint64) ([]Event, []Label) {
	t.Helper()
	var list []Event
	labels, err := s.Run(seed, func(e *Event) error {
		list = append(list, *e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list, labels
}

// digest is the hash of the log and the labels.
func digest(t testing.TB, s *Scenario, seed uint64, format string) string {
	t.Helper()
	h := sha256.New()
	w, err := NewWriter(h, format)
	if err != nil {
		t.Fatal(err)
	}
	labels, err := s.Run(seed, w.Write)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Flush(), WriteLabels(h, labels)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestGolden: the same bytes as ever. -update after a change that is meant.
func TestGolden(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the bytes are promised for one architecture; these are amd64's")
	}
	var got strings.Builder
	for _, name := range Builtins() {
		fmt.Fprintf(&got, "%s json %s\n", name, digest(t, builtin(t, name), 7, "json"))
	}
	fmt.Fprintf(&got, "tiny-attacks combined %s\n", digest(t, builtin(t, "tiny-attacks"), 7, "combined"))
	file := filepath.Join("testdata", "golden.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Error(d)
	}
}

// TestOrderOfTheListDoesNotMatter: nor do earlier runs of the same scenario.
func TestOrderOfTheListDoesNotMatter(t *testing.T) {
	s := builtin(t, "tiny-attacks")
	want := digest(t, s, 3, "json")
	if digest(t, s, 3, "json") != want {
		t.Error("a second run differs")
	}
	if digest(t, s, 4, "json") == want {
		t.Error("the seed changes nothing")
	}
	slices.Reverse(s.Benign)
	slices.Reverse(s.Attacks)
	if digest(t, s, 3, "json") != want {
		t.Error("the reversed scenario differs")
	}
	s.Attacks[0], s.Attacks[5] = s.Attacks[5], s.Attacks[0]
	if digest(t, s, 3, "json") != want {
		t.Error("the shuffled scenario differs")
	}
}

// TestAttacksLeaveTheOthersAlone: so that runs with and without can be compared.
func TestAttacksLeaveTheOthersAlone(t *testing.T) {
	s := builtin(t, "tiny-attacks")
	harmless := map[string]bool{}
	for _, b := range s.Benign {
		harmless[b.name()] = true
	}
	with, _ := events(t, s, 5)
	without, _ := events(t, builtin(t, "tiny"), 5)
	with = slices.DeleteFunc(with, func(e Event) bool { return !harmless[e.Actor] })
	if len(without) < 1000 {
		t.Fatalf("%d events only", len(without))
	}
	if d := cmp.Diff(without, with); d != "" {
		t.Error(d)
	}
}

// TestEvents: what comes is in order, complete, and of the actor it names.
func TestEvents(t *testing.T) {
	for _, name := range Builtins() {
		s := builtin(t, name)
		site := newSite(s.Site)
		list, labels := events(t, s, 2)
		if n := len(list); s.Clients == 2000 && (n < 90_000 || n > 160_000) {
			t.Errorf("%s: %d events", name, n)
		}
		owner := map[string]string{} // of addresses
		for _, l := range labels {
			for _, p := range l.Principals {
				if ip, ok := strings.CutPrefix(p, "ip:"); ok {
					if owner[ip] != "" {
						t.Errorf("%s: %s is in the labels of %s and %s", name, ip, owner[ip], l.Benign+l.Episode)
					}
					owner[ip] = l.Benign + l.Episode
				}
			}
		}
		var last time.Time
		seen := map[string]int{}
		for i := range list {
			e := &list[i]
			if !e.Time.After(last) || e.Time.Nanosecond()%1000 != 0 || e.Time.Location() != time.UTC ||
				e.Time.Before(s.Start) || !e.Time.Before(s.Start.Add(s.Length)) {
				t.Fatalf("%s: event %d at %v after %v", name, i, e.Time, last)
			}
			last = e.Time
			seen[e.Actor]++
			if _, err := netip.ParseAddr(e.IP); err != nil || e.Method == "" || !strings.HasPrefix(e.Path, "/") ||
				e.Status < 200 || e.Status > 599 || e.Bytes < 0 || e.Duration < 0 || e.Host != site.host || e.Agent == "" {
				t.Fatalf("%s: %+v", name, *e)
			}
			if o := owner[labelled(e.IP)]; o != e.Actor && o != "mobile-exits" {
				t.Fatalf("%s: %s of %q is labelled %q", name, e.IP, e.Actor, o)
			}
			if strings.ContainsAny(e.Path, " \"\\\r\n") {
				t.Fatalf("%s: path %q", name, e.Path)
			}
			if e.AppFailed && !e.AppStatus {
				t.Fatalf("%s: failed without saying so: %+v", name, *e)
			}
		}
		for _, b := range s.Benign {
			if seen[b.name()] == 0 {
				t.Errorf("%s: nothing of %s", name, b.name())
			}
		}
	}
}

// count returns how many events of actor f is true of.
func count(list []Event, actor string, f func(*Event) bool) int {
	n := 0
	for i := range list {
		if list[i].Actor == actor && f(&list[i]) {
			n++
		}
	}
	return n
}

func all(*Event) bool { return true }

// TestEveryAttackOnEverySite: each variant makes its attempts, and its label
// says what it reached.
func TestEveryAttackOnEverySite(t *testing.T) {
	reaches := map[string]string{
		"enum.object": "objects", "enum.user": "accounts", "probe.path": "objects", "auth.stuffing": "logins", "auth.spraying": "logins",
		"auth.bruteforce": "logins", "auth.takeover": "logins", "scrape.crawl": "objects", "key.misuse": "objects", "data.exposure": "objects",
		"inject.probe": "objects",
	}
	for _, kind := range Sites() {
		for _, k := range attackKinds() {
			for _, v := range k.variants {
				s := &Scenario{Site: Site{Kind: kind}, Length: 12 * time.Hour, Attacks: []Attack{{
					Name: "x", Type: k.name, Variant: v.name, Sources: 3, Requests: 60, Success: 1, Start: time.Hour,
				}}}
				list, labels := events(t, s, 1)
				at := kind + " " + k.name + "/" + v.name
				var l *Label
				for i := range labels {
					if labels[i].Episode == "x" {
						l = &labels[i]
					}
				}
				if l == nil {
					t.Errorf("%s: no label", at)
					continue
				}
				want := 60
				if k.name == "auth.takeover" {
					want = 32 * 5
				}
				if int(l.Attempts) < want || int(l.Attempts) > count(list, "x", all) || l.Type != k.name || l.Profile != v.name {
					t.Errorf("%s: %d attempts in %d events, label %+v", at, l.Attempts, count(list, "x", all), l)
				}
				ips := map[string]bool{}
				for i := range list {
					if e := &list[i]; e.Actor == "x" {
						ips[e.IP] = true
						if e.Time.Before(*l.Start) && e.Time.Before(s.start().Add(time.Hour)) || e.Time.After(l.End.Add(time.Minute)) {
							t.Fatalf("%s: %v is outside of %v to %v", at, e.Time, l.Start, l.End)
						}
					}
				}
				if len(ips) < 3 || count(l.principals(), "", func(e *Event) bool { return ips[e.IP] }) != len(ips) {
					t.Errorf("%s: %d addresses, label %v", at, len(ips), l.Principals)
				}
				r := l.Reached
				got := map[string]int64{"objects": r.ObjectsTotal, "accounts": r.AccountsTotal, "logins": r.LoginsWorked}[reaches[k.name]]
				if v.name == "public" || v.name == "cursor" || k.name == "volume.flood" {
					if r.ObjectsTotal+r.AccountsTotal+r.LoginsWorked != 0 {
						t.Errorf("%s: reached %+v", at, r)
					}
				} else if got == 0 || int(r.ObjectsTotal) != len(r.Objects) || int(r.AccountsTotal) != len(r.Accounts) {
					t.Errorf("%s: reached %+v", at, r)
				}
			}
		}
	}
}

func (s *Scenario) start() time.Time {
	if s.Start.IsZero() {
		return time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	}
	return s.Start
}

// principals are the addresses of a label, as events for count.
func (l *Label) principals() (list []Event) {
	for _, p := range l.Principals {
		if ip, ok := strings.CutPrefix(p, "ip:"); ok {
			list = append(list, Event{IP: ip})
		}
	}
	return list
}

// attackEvents runs one attack of three hours alone.
func attackEvents(t *testing.T, text string) ([]Event, *Label) {
	t.Helper()
	s := load(t, "site: {kind: shop}\ndays: 7\nattacks:\n  - {name: x, "+text+"}\n")
	list, labels := events(t, s, 11)
	l := &labels[len(labels)-1]
	return slices.DeleteFunc(list, func(e Event) bool { return e.Actor != "x" }), l
}

// distinct counts the values of f.
func distinct(list []Event, f func(*Event) string) int {
	m := map[string]bool{}
	for i := range list {
		m[f(&list[i])] = true
	}
	return len(m)
}

// objectIDs are the ids of orders read, in order.
func objectIDs(list []Event) (ids []int) {
	for i := range list {
		var id int
		if n, _ := fmt.Sscanf(list[i].Path, "/api/orders/%d", &id); n == 1 {
			ids = append(ids, id)
		}
	}
	return ids
}

func near(t *testing.T, what string, got, want, by float64) {
	t.Helper()
	if math.Abs(got-want) > by {
		t.Errorf("%s: %v, want %v ± %v", what, got, want, by)
	}
}

func TestEvasions(t *testing.T) {
	ip := func(e *Event) string { return e.IP }
	agent := func(e *Event) string { return e.Agent }

	// Sequential, then a stride, then shuffled: the same range.
	list, _ := attackEvents(t, "type: enum.object, requests: 100")
	ids := objectIDs(list)
	for i := range ids[1:] {
		if ids[i+1] != ids[i]+1 {
			t.Fatalf("ids %d, %d in a walk", ids[i], ids[i+1])
		}
	}
	if n := distinct(list, ip); n != 1 || distinct(list, agent) != 1 {
		t.Errorf("%d addresses without rotation", n)
	}
	list, _ = attackEvents(t, "type: enum.object, requests: 100, evade: {stride: 7}")
	if ids := objectIDs(list); ids[5]-ids[4] != 7 {
		t.Errorf("ids %d, %d with stride 7", ids[4], ids[5])
	}
	list, _ = attackEvents(t, "type: enum.object, requests: 100, evade: {shuffle: true}")
	ids = objectIDs(list)
	if slices.IsSorted(ids) {
		t.Error("shuffled ids are sorted")
	}
	slices.Sort(ids)
	if len(ids) != 100 || ids[99]-ids[0] != 99 {
		t.Errorf("%d shuffled ids from %d to %d", len(ids), ids[0], ids[len(ids)-1])
	}

	// Sources tile one range.
	list, _ = attackEvents(t, "type: enum.object, requests: 103, sources: 5")
	ids = objectIDs(list)
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 103 || ids[102]-ids[0] != 102 || distinct(list, ip) != 5 {
		t.Errorf("%d ids from %d to %d by %d addresses", len(ids), ids[0], ids[len(ids)-1], distinct(list, ip))
	}

	// Rotation.
	list, l := attackEvents(t, "type: enum.object, requests: 400, evade: {addresses: 30, agents: true, accounts: 4, own: 30%}")
	if n := distinct(list, ip); n != 30 {
		t.Errorf("%d addresses, want 30", n)
	}
	if n := distinct(list, agent); n < 8 {
		t.Errorf("%d agents", n)
	}
	if n := distinct(list, func(e *Event) string { return e.User }); n != 4 {
		t.Errorf("%d accounts, want 4", n)
	}
	own := float64(len(objectIDs(list))) - 400
	near(t, "share of own objects", own/(own+400), .3, .06)
	if l.Attempts != 400 {
		t.Errorf("%d attempts: own objects are none", l.Attempts)
	}

	// Pace.
	gaps := func(list []Event) (mean, deviation float64) {
		var v []float64
		for i := range list[1:] {
			v = append(v, list[i+1].Time.Sub(list[i].Time).Seconds())
			mean += v[i] / float64(len(list)-1)
		}
		for _, g := range v {
			deviation += (g - mean) * (g - mean) / float64(len(v))
		}
		return mean, math.Sqrt(deviation) / mean
	}
	for jitter, want := range map[string]float64{"0": .03, "0.5": .29, "1": 1} {
		list, _ = attackEvents(t, "type: probe.path, rate: 6/m, requests: 1500, evade: {jitter: "+jitter+"}")
		mean, deviation := gaps(list)
		near(t, "mean gap at jitter "+jitter, mean, 10, .8)
		near(t, "deviation at jitter "+jitter, deviation, want, .08)
	}
	list, _ = attackEvents(t, "type: probe.path, rate: 20/h, duration: 3d, evade: {ramp: 1}")
	day := func(list []Event, d int) int {
		return count(list, "x", func(e *Event) bool { return e.Time.Day()-2 == d })
	}
	near(t, "growth", float64(day(list, 2))/float64(day(list, 0)), 4, .5)
	list, _ = attackEvents(t, "type: probe.path, rate: 60/h, duration: 3d, evade: {diurnal: true}")
	night := count(list, "x", func(e *Event) bool { return e.Time.Hour() >= 2 && e.Time.Hour() < 5 })
	evening := count(list, "x", func(e *Event) bool { return e.Time.Hour() >= 19 && e.Time.Hour() < 22 })
	if night*8 > evening {
		t.Errorf("by day: %d at night, %d in the evening", night, evening)
	}

	// Logins.
	works := func(e *Event) bool { return e.Path == "/api/login" && e.Status == 200 }
	logins := func(e *Event) bool { return e.Path == "/api/login" }
	list, l = attackEvents(t, "type: auth.stuffing, requests: 2000, success: 2%, canary: 40%, sources: 4")
	near(t, "logins that work", float64(count(list, "x", works))/2000, .4+.6*.02, .03)
	near(t, "victims", float64(l.Reached.LoginsWorked), 24, 14)
	if n := distinct(list, agent); n != 1 {
		t.Errorf("one tool has %d agents", n)
	}
	if n := count(list, "x", logins); n != 2000 || l.Attempts != 2000 {
		t.Errorf("%d logins, %d attempts", n, l.Attempts)
	}
	list, _ = attackEvents(t, "type: auth.stuffing, variant: diffuse, requests: 600, sources: 60")
	if n := distinct(list, func(e *Event) string { return e.JA4 }); n < 3 || distinct(list, ip) != 60 {
		t.Errorf("diffuse sources have %d fingerprints", n)
	}
	list, _ = attackEvents(t, "type: auth.spraying, requests: 200, rounds: 4, every: 2h, success: 0")
	if n := distinct(list, func(e *Event) string { return e.LoginUser }); n != 50 {
		t.Errorf("4 rounds of 50 went over %d accounts", n)
	}
	if gap := list[50].Time.Sub(list[0].Time); gap < 2*time.Hour || gap > 2*time.Hour+time.Minute {
		t.Errorf("the second round begins after %v", gap)
	}
	list, _ = attackEvents(t, "type: auth.bruteforce, requests: 200, success: 0")
	if n := distinct(list, func(e *Event) string { return e.LoginUser }); n != 1 || count(list, "x", works) != 0 {
		t.Errorf("%d accounts guessed", n)
	}
}

// TestLoginWays: how a failed and a successful login look.
func TestLoginWays(t *testing.T) {
	f := func(way string, failure, success string) {
		t.Helper()
		s := load(t, "site: {kind: shop, login: "+way+", soft_404: true, login_user: false}\nattacks:\n  - {type: auth.stuffing, requests: 60, success: 50%}\n  - {type: probe.path}\n")
		list, labels := events(t, s, 1)
		var l *Label
		for i := range labels {
			if labels[i].Type == "auth.stuffing" {
				l = &labels[i]
			}
		}
		got := map[string]int{}
		for i := range list {
			e := &list[i]
			if e.LoginUser != "" {
				t.Fatalf("a name in %+v", *e)
			}
			if e.Path == "/api/login" {
				got[fmt.Sprintf("%d %v %v", e.Status, e.Bytes/1000, e.User != "")]++
			}
			if e.Actor == "probe-path" && e.Status == 404 {
				t.Fatalf("a 404 where there are none: %+v", *e)
			}
		}
		worked := int(l.Reached.LoginsWorked)
		if d := cmp.Diff(map[string]int{failure + " false": 60 - worked, success + " true": worked}, got); d != "" {
			t.Errorf("%s: %s", way, d)
		}
	}
	f("status", "401 0", "200 0")
	f("size", "200 1", "200 5")
	f("redirect", "200 1", "302 0")
	f("error", "302 0", "302 0")
}

// TestFaces: GraphQL and gRPC answer 200 and say in the body what was wrong.
func TestFaces(t *testing.T) {
	for _, kind := range []string{"graphql", "grpc"} {
		s := &Scenario{Site: Site{Kind: kind}, Length: 3 * time.Hour, Attacks: []Attack{{Name: "x", Type: "enum.object", Requests: 300, Success: .5}}}
		list, l := events(t, s, 1)
		failed, operations := 0, map[string]int{}
		for i := range list {
			e := &list[i]
			operations[e.Operation]++
			if e.Status != 200 || !e.AppStatus {
				t.Fatalf("%s: %+v", kind, *e)
			}
			if e.AppFailed {
				failed++
			}
			if !json.Valid([]byte(e.ContentBody)) {
				t.Fatalf("%s: body %s", kind, e.ContentBody)
			}
		}
		if n := int64(failed) + l[0].Reached.ObjectsTotal; n != 300 || failed < 100 || len(operations) != 2 {
			t.Errorf("%s: %d failed, %d in all, %v", kind, failed, n, operations)
		}
	}
}

// TestVictims: a takeover has an honest past, on the account that is taken.
func TestVictims(t *testing.T) {
	for _, v := range []string{"stuffed", "session"} {
		s := &Scenario{Site: Site{Kind: "shop"}, Length: 20 * time.Hour, Attacks: []Attack{{Name: "x", Type: "auth.takeover", Variant: v, Start: 15 * time.Hour}}}
		list, labels := events(t, s, 1)
		for _, name := range labels[len(labels)-1].Reached.Accounts {
			before, sessions, thief := 0, map[string]bool{}, false
			for i := range list {
				switch e := &list[i]; {
				case e.User == name && e.Actor == "x-owner":
					before++
					sessions[e.Session] = true
				case e.User == name && strings.HasSuffix(e.Path, "/payout"):
					thief = true
					if sessions[e.Session] != (v == "session") {
						t.Errorf("%s: the thief's session is the victim's: %v", v, sessions[e.Session])
					}
				}
			}
			if before < 20 || !thief {
				t.Errorf("%s: %s made %d requests, payout changed: %v", v, name, before, thief)
			}
		}
	}
}

// TestMishaps: a mass logout makes people log in again, a broken release fails
// for everybody, and only while it lasts.
func TestMishaps(t *testing.T) {
	text := "site: shop\nclients: 200\nbenign:\n  - {profile: people, factor: 4}\n"
	plain, _ := events(t, load(t, text), 1)
	upset, _ := events(t, load(t, text+"  - {profile: mass-logout, count: 1, at: 16h}\n  - {profile: bad-deploy, count: 1, at: 10h, for: 2h}\n"), 1)
	refused := func(e *Event) bool { return e.Status == 401 && e.Path != "/api/login" }
	broken := func(e *Event) bool { return e.Status == 500 }
	if n := count(plain, "people", refused) + count(plain, "people", broken); n != 0 {
		t.Errorf("%d refused or broken on an ordinary day", n)
	}
	if n := count(upset, "people", refused); n < 30 {
		t.Errorf("%d refused by a mass logout", n)
	}
	if n := count(upset, "people", broken); n < 20 {
		t.Errorf("%d broken", n)
	}
	for i := range upset {
		e := &upset[i]
		if e.Actor == "people" && (refused(e) && e.Time.Hour() < 16 || broken(e) && (e.Time.Hour() < 10 || e.Time.Hour() >= 12)) {
			t.Fatalf("out of time: %+v", *e)
		}
	}
}

// TestProfiles: the profiles are what their descriptions say.
func TestProfiles(t *testing.T) {
	list, _ := events(t, builtin(t, "shop"), 3)
	by := map[string][]Event{}
	for i := range list {
		by[list[i].Actor] = append(by[list[i].Actor], list[i])
	}
	ip := func(e *Event) string { return e.IP }
	user := func(e *Event) string { return e.User }
	key := func(e *Event) string { return e.APIKey }
	agent := func(e *Event) string { return e.Agent }
	path := func(e *Event) string { return e.Path }
	status := func(e *Event) string { return fmt.Sprint(e.Status) }
	f := func(name, what string, of func(*Event) string, lo, hi int) {
		t.Helper()
		if n := distinct(by[name], of); n < lo || n > hi {
			t.Errorf("%s: %d %s, want %d to %d", name, n, what, lo, hi)
		}
	}
	f("office-nat", "addresses", ip, 1, 1)
	f("office-nat", "accounts", user, 150, 501)
	f("office-nat", "agents", agent, 8, 12)
	f("mobile-cgnat", "addresses", ip, 6, 8)
	f("private-relay", "addresses", ip, 60, 96)
	f("key-fleet", "keys", key, 1, 1)
	f("key-fleet", "addresses", ip, 800, 1000)
	f("iot", "keys", key, 250, 300)
	f("stuck-client", "answers", status, 1, 1)
	f("stuck-client", "accounts tried", func(e *Event) string { return e.LoginUser }, 3, 3)
	f("price-watch", "items", path, 500, 500)
	f("backups", "paths", path, 1, 1)
	f("people", "addresses", ip, 1000, 2240) // not everybody comes every day
	f("flash-crowd", "accounts", user, 1, 1) // nobody's
	f("load-test", "addresses", ip, 1, 1)

	// A refused request is followed by the same one with credentials.
	last := map[string]Event{}
	pairs := 0
	for _, e := range by["challenge"] {
		if p := last[e.IP]; p.Status == 401 {
			if e.Path != p.Path || e.Status == 401 || e.User == "" || p.User != "" {
				t.Fatalf("after %+v came %+v", p, e)
			}
			pairs++
		}
		last[e.IP] = e
	}
	if pairs < 300 {
		t.Errorf("%d handshakes", pairs)
	}
	// The batch walks, the partner repeats, the load test is even and quick.
	ids := objectIDs(by["batch"])
	if len(ids) != 2000 || !slices.IsSorted(ids) || ids[1999]-ids[0] != 1999 {
		t.Errorf("the batch read %d orders", len(ids))
	}
	if n := len(by["price-watch"]); n != 2000 {
		t.Errorf("the partner read 500 items %d times in four rounds", n)
	}
	tests := by["load-test"]
	if d := tests[len(tests)-1].Time.Sub(tests[0].Time); len(tests) < 2500 || d > 61*time.Second {
		t.Errorf("the load test made %d requests in %v", len(tests), d)
	}
	// People mistype, and mostly get in.
	wrong := count(by["people"], "people", func(e *Event) bool { return e.LoginUser != "" && e.Status == 401 })
	right := count(by["people"], "people", func(e *Event) bool { return e.LoginUser != "" && e.Status == 200 })
	near(t, "failed logins of people", float64(wrong)/float64(wrong+right), .15, .06)
	// Night is quieter than evening.
	night := count(by["people"], "people", func(e *Event) bool { return e.Time.Hour() >= 2 && e.Time.Hour() < 5 })
	evening := count(by["people"], "people", func(e *Event) bool { return e.Time.Hour() >= 18 && e.Time.Hour() < 21 })
	if night*6 > evening {
		t.Errorf("people make %d requests at night, %d in the evening", night, evening)
	}
}

// TestLogs: late, doubled and skewed records are still the same records.
func TestLogs(t *testing.T) {
	s := builtin(t, "tiny")
	plain, want := events(t, s, 1)
	s.Logs = Logs{Late: .05, LateBy: 20 * time.Second, Duplicates: .02, Skew: 10 * time.Second}
	list, got := events(t, s, 1)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("labels: %s", d)
	}
	near(t, "doubles", float64(len(list)-len(plain))/float64(len(plain)), .02, .01)
	back, skewed := 0, 0
	for i := range list {
		if i > 0 && list[i].Time.Before(list[i-1].Time) {
			back++
		}
	}
	times := map[time.Time]bool{}
	for i := range plain {
		times[plain[i].Time] = true
	}
	for i := range list {
		if !times[list[i].Time] {
			skewed++
		}
	}
	if back < len(list)/100 || skewed < len(list)/4 || skewed > len(list) {
		t.Errorf("of %d records %d go back in time and %d are skewed", len(list), back, skewed)
	}
	s.Logs = Logs{Late: .5}
	list, _ = events(t, s, 1)
	byTime := func(a, b Event) int { return a.Time.Compare(b.Time) }
	if slices.IsSortedFunc(list, byTime) {
		t.Error("half of the records are late and nothing is out of order")
	}
	slices.SortFunc(list, byTime)
	if d := cmp.Diff(plain, list); d != "" {
		t.Errorf("late records: %s", d)
	}
}

// TestMemory: ten times as long is not more to remember.
func TestMemory(t *testing.T) {
	peak := func(length time.Duration) (n int, heap uint64) {
		s := &Scenario{Site: Site{Kind: "shop"}, Length: length, Benign: []Benign{{Profile: "people", Count: 300, Factor: 3}, {Profile: "office-nat", Count: 50}}}
		_, err := s.Run(1, func(*Event) error {
			if n++; n%20_000 == 0 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				heap = max(heap, m.HeapAlloc+m.StackInuse)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n, heap
	}
	few, short := peak(2 * 24 * time.Hour)
	many, long := peak(20 * 24 * time.Hour)
	if many < 8*few || long > short+short/4+1<<20 {
		t.Errorf("%d events: %d bytes; %d events: %d bytes", few, short, many, long)
	}
}

// TestStop: an error of emit ends the run, and no coroutine stays behind.
func TestStop(t *testing.T) {
	before := runtime.NumGoroutine()
	stop := errors.New("enough")
	n := 0
	_, err := builtin(t, "tiny-attacks").Run(1, func(*Event) error {
		if n++; n == 500 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 500 {
		t.Errorf("%v after %d events", err, n)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

func TestResize(t *testing.T) {
	s := builtin(t, "shop")
	s.Resize(200)
	got := map[string]int{}
	for _, b := range s.Benign {
		got[b.Profile] = b.Count
	}
	for name, want := range map[string]int{"people": 200, "key-fleet": 100, "offline-retry": 8, "crawler": 0, "admin": 0} {
		if got[name] != want {
			t.Errorf("%s: %d, want %d", name, got[name], want)
		}
	}
	list, _ := events(t, s, 1)
	if ips := distinct(slices.DeleteFunc(list, func(e Event) bool { return e.Actor != "people" }), func(e *Event) string { return e.User }); ips < 60 || ips > 200 {
		t.Errorf("%d people with accounts", ips)
	}
}

// TestLoadProblems: all at once, each with its path.
func TestLoadProblems(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		_, err := Load(strings.NewReader(text))
		if err == nil {
			t.Fatalf("no error for %s", text)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q is not in:\n%v", w, err)
			}
		}
		if n := strings.Count(err.Error(), "\n"); n != len(want) && !strings.HasPrefix(err.Error(), "read scenario") {
			t.Errorf("%d problems, want %d:\n%v", n, len(want), err)
		}
	}
	f(`site: {kind: shop, login: maybe, colour: red}
days: many
start: yesterday
clients: -1
clients: 2
benign: {}
attacks:
  - {type: auth.stuffing, rate: fast, evade: {own: 200%, jitter: [1]}, start: 1x}
`, `site.colour (line 1): unknown key; there are kind host`, `days (line 2): "many"`, `start (line 3): "yesterday"`, `clients (line 4): "-1"`,
		`clients (line 5): is given twice`, `benign (line 6): want a list`, `attacks[0].rate (line 8): "fast": want a rate like 2/s`,
		`attacks[0].evade.own (line 8)`, `attacks[0].evade.jitter (line 8): want one value`, `attacks[0].start (line 8): "1x"`)
	f(`site: bank
benign:
  - {profile: people}
  - {profile: people, at: 2d}
  - {profile: ghosts}
attacks:
  - {type: auth.stufing}
  - {type: scrape.crawl, variant: slow, start: 1d, sources: 9999999, network: moon}
`, `site.kind: "bank"; there are shop saas`, `benign[1].name: "people" is that of benign[0], too`, `benign[1].at: 48h0m0s is behind`,
		`benign[2].profile: "ghosts"; there are people`, `attacks[0].type: "auth.stufing"; there are enum.object`,
		`attacks[1].variant: "slow"; there are fast human cursor`, `attacks[1].start`, `attacks[1].sources`, `attacks[1].network`)
	f("site: shop", "benign: nobody to simulate")
	f("- 1", "top level (line 1): want keys and values")
	f("a: [", "read scenario")
	f(strings.Repeat("#", maxScenario+1), "read scenario: it is larger")

	s := load(t, "site: {kind: shop, accounts: 10}\nbenign: [{profile: people, count: 20}]")
	if _, err := s.Run(1, func(*Event) error { return nil }); err == nil || !strings.Contains(err.Error(), "site.accounts: 10 are too few") {
		t.Errorf("too few accounts: %v", err)
	}
	s = load(t, "site: shop\nattacks: [{type: volume.flood, sources: 200000, evade: {addresses: 9}}]")
	if _, err := s.Run(1, func(*Event) error { return nil }); err == nil || !strings.Contains(err.Error(), "addresses") {
		t.Errorf("too many addresses: %v", err)
	}
}

// TestWriter: a hostile event stays one line, and JSON stays JSON.
func TestWriter(t *testing.T) {
	e := Event{
		Time: time.Date(2026, 3, 2, 1, 2, 3, 4000, time.UTC), IP: "240.0.0.1", Method: "GET", Host: "h", Path: "/a\"b\\c\nd\x00", Agent: "x\"\n", Status: 200,
		Bytes: 5, Duration: 1500 * time.Microsecond, User: "u\"", LoginUser: "l", AppStatus: true, ContentBody: `{"id":"1"}`, ASN: 7,
	}
	write := func(format string) string {
		var b bytes.Buffer
		w, err := NewWriter(&b, format)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Write(&e), w.Flush()); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	want := `240.0.0.1 - - [02/Mar/2026:01:02:03 +0000] "GET /a\x22b\x5Cc\x0Ad\x00 HTTP/1.1" 200 5 "-" "x\x22\x0A"` + "\n"
	if d := cmp.Diff(want, write("combined")); d != "" {
		t.Error(d)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(write("json")), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]any{
		"time_iso8601": "2026-03-02T01:02:03.000004Z", "remote_addr": "240.0.0.1", "request_method": "GET", "host": "h", "request_uri": "/a\"b\\c\nd\x00",
		"status": 200., "body_bytes_sent": 5., "request_time": .002, "http_user_agent": "x\"\n", "user": "u\"", "login_user": "l", "asn": 7.,
		"error_code": 0., "request_body": `{"id":"1"}`,
	}, got); d != "" {
		t.Error(d)
	}
	if _, err := NewWriter(nil, "xml"); err == nil {
		t.Error("there is no format xml")
	}
}

// TestAddresses: two clients never share one by accident.
func TestAddresses(t *testing.T) {
	w := &world{seed: 9}
	seen := map[string]bool{}
	for n := range uint64(60_000) {
		for kind := range netKinds {
			id := w.place(kind, n)
			if seen[id.ip] {
				t.Fatalf("%s twice", id.ip)
			}
			seen[id.ip] = true
			if a := netip.MustParseAddr(id.ip); a.As4()[0] < 240 {
				t.Fatalf("%s belongs to somebody", id.ip)
			}
		}
	}
}

func TestPermute(t *testing.T) {
	for _, n := range []uint64{1, 2, 3, 10, 64, 1000, 4097} {
		seen := make([]bool, n)
		for x := range n {
			y := permute(x, n, 42)
			if y >= n || seen[y] || unpermute(y, n, 42) != x {
				t.Fatalf("permute(%d, %d) = %d", x, n, y)
			}
			seen[y] = true
		}
	}
}

// FuzzLoad: whatever loads also runs.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"tiny", "shop", "attacks"} {
		data, err := scenarioFiles.ReadFile("scenarios/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("site: {kind: shop, items: 1}\nclients: 20\nbenign: [{profile: people}, {profile: flash-crowd, count: 3}, {profile: sale-day, count: 3}, {profile: key-fleet, count: 60}]\nattacks: [{type: key.misuse}, {type: scrape.crawl}]"))
	f.Add([]byte("site: {kind: saas, items: 1}\ndays: 3\nbenign: [{profile: crawler, factor: 0.0001}]\nattacks: [{type: enum.object, rate: 1/d, evade: {own: 1, stride: 9, ramp: 100, jitter: 3}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Load(bytes.NewReader(data))
		if err != nil {
			return
		}
		clients := 0
		for _, b := range s.Benign {
			clients += max(b.Count, 1)
		}
		for _, a := range s.Attacks {
			clients += a.Sources
		}
		if clients+s.Clients > 3000 {
			return
		}
		stop := errors.New("enough")
		n := 0
		_, err = s.Run(1, func(*Event) error {
			if n++; n > 2000 {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) && !strings.Contains(err.Error(), "too few") && !strings.Contains(err.Error(), "addresses") {
			t.Fatal(err)
		}
	})
}

func BenchmarkShop(b *testing.B) {
	s := builtin(b, "shop-attacks")
	n := 0
	for b.Loop() {
		if _, err := s.Run(1, func(*Event) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
