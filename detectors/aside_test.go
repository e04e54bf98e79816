package detectors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// covering is a suppression of what m matches, for as long as any case lasts.
func covering(id string, m pipeline.SuppressionMatch) pipeline.Suppression {
	return pipeline.Suppression{ID: id, Match: m, Starts: 0, Expires: pipeline.MaxTime}
}

// asideCase is an attack with the addresses that it comes from.
type asideCase struct {
	edition   *pipeline.Edition
	batch     []pipeline.Ordered
	addresses map[pipeline.Address]bool
	want      []string // of the attackers
}

func readAsideCase(t *testing.T, file string) (c asideCase) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, files := archive(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")))
	words := strings.Fields(files["words"])
	events := func(name string) []pipeline.Ordered {
		list, err := parseEvents(files[name], words)
		if err != nil {
			t.Fatal(err)
		}
		return order(t, list)
	}
	c.batch, c.addresses = events("events.log"), map[pipeline.Address]bool{}
	switch which, _, _ := strings.Cut(strings.TrimSpace(files["edition"]), " "); which {
	case "", "shipped":
		c.edition = pipeline.ShippedEdition()
	case "learned":
		c.edition = fitted(t, events("learn.log"))
	default:
		c.edition = fitted(t, c.batch)
	}
	for line := range strings.Lines(files["want"]) {
		w := strings.Fields(line)
		if len(w) < 3 || strings.HasPrefix(w[1], "account:") { // an account has its owner's addresses, too
			continue
		}
		found := false
		for i := range c.batch {
			r := c.batch[i].Request
			if p := r.Principal(); p.Kind.String()+":"+p.Value == w[1] || "ip:"+r.Address.PrincipalValue() == w[1] {
				c.addresses[r.Address] = true
				found = true
			}
		}
		if found {
			c.want = append(c.want, w[0]+" "+w[1])
		}
	}
	return c
}

// detectAside is detectAll under suppressions: what is ordinary, what is set aside.
func detectAside(t *testing.T, c asideCase, batch []pipeline.Ordered, of ...pipeline.Suppression) (ordinary, aside []pipeline.Finding) {
	t.Helper()
	cfg := Config{Watch: pipeline.NewProxyWatch()}
	cross, err := NewCorrelator(cfg, c.edition)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cross = cross
	s := newSet(t, cfg, c.edition)
	for _, x := range of {
		s.Suppress(x)
	}
	var out []pipeline.Finding
	for part := range slices.Chunk(batch, 512) {
		out = s.Process(out, part)
	}
	for _, f := range s.Advance(out, c.batch[len(c.batch)-1].Effective.Add(2*time.Minute)) {
		if f.Seq = 0; f.Aside {
			aside = append(aside, f)
		} else {
			ordinary = append(ordinary, f)
		}
	}
	return ordinary, aside
}

// TestAside takes an attack of every detector and sets aside what comes from the
// attackers: nobody else's findings differ from those without the attack, in
// anything, and the attack is found by itself.
func TestAside(t *testing.T) {
	ran := 0
	for _, name := range Names() {
		files, err := filepath.Glob(filepath.Join("testdata", strings.ReplaceAll(name, ".", "_"), "attack_*.txtar"))
		if err != nil || len(files) == 0 {
			t.Fatal(err, name)
		}
		for _, file := range files {
			c := readAsideCase(t, file)
			if len(c.want) == 0 || len(c.batch) > 30_000 {
				continue
			}
			ran++
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				var of []pipeline.Suppression
				for a := range c.addresses {
					of = append(of, covering(a.String(), pipeline.SuppressionMatch{Address: a.String()}))
				}
				without := slices.DeleteFunc(slices.Clone(c.batch), func(o pipeline.Ordered) bool { return c.addresses[o.Address] })
				var want []pipeline.Finding
				if len(without) > 0 {
					want, _ = detectAside(t, c, without)
				}
				ordinary, aside := detectAside(t, c, c.batch, of...)
				sameLines(t, "ordinary findings", lines(t, ordinary), lines(t, want))
				got := verdicts(aside)
				for _, w := range c.want {
					if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, w+" ") }) {
						t.Errorf("not found aside: %s among %q", w, got)
					}
				}
			})
			if name != "enum.object" { // whose owners are known to the ordinary world alone
				break
			}
		}
	}
	if ran < 8 {
		t.Errorf("%d attacks ran", ran)
	}
}

// TestAsideFamily: a suppression of one detector leaves to the others what they had,
// and takes its family away, for any number of workers, cuts and restarts.
func TestAsideFamily(t *testing.T) {
	batch := mixedTraffic(t)
	edition := fitted(t, batch)
	at := func(h time.Duration) pipeline.Time { return caseStart.Add(h) }
	list := []pipeline.Suppression{
		covering("crawl", pipeline.SuppressionMatch{Detector: "scrape.crawl", Principal: &pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "203.0.113.22"}}),
		{ID: "office", Match: pipeline.SuppressionMatch{Address: "203.0.113.24/29", Endpoint: &pipeline.EndpointMatch{Method: "POST", Template: "/log*"}}, Starts: at(20 * time.Minute), Expires: at(50 * time.Minute)},
		covering("walk", pipeline.SuppressionMatch{Detector: "enum", Address: "203.0.113.21"}),
	}
	run := func(workers, cut, restart int, of ...pipeline.Suppression) []pipeline.Finding {
		t.Helper()
		begin := func() *Set {
			cfg := Config{Workers: workers, Watch: pipeline.NewProxyWatch()}
			cross, err := NewCorrelator(cfg, edition)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Cross = cross
			s := newSet(t, cfg, edition)
			for _, x := range of {
				s.Suppress(x)
			}
			return s
		}
		s := begin()
		var out []pipeline.Finding
		n := 0
		for part := range slices.Chunk(batch, cut) {
			out = s.Process(out, part)
			if n++; restart == 0 || n%restart != 0 {
				continue
			}
			next := begin()
			restored(t, s, next)
			s = next
		}
		return end(s, out, batch)
	}
	found := run(1, len(batch), 0, list...)
	want := lines(t, found)
	sameLines(t, "8 workers", lines(t, run(8, 997, 0, list...)), want)
	sameLines(t, "restarts", lines(t, run(2, 1499, 2, list...)), want)

	split := func(found []pipeline.Finding, keep func(f *pipeline.Finding) bool) (out []pipeline.Finding) {
		for _, f := range found {
			if f.Seq = 0; keep(&f) {
				f.Agents = nil // those of the client's other families are known, too
				out = append(out, f)
			}
		}
		return out
	}
	// Of the families that nobody suppressed for anybody all is as ever.
	probes := func(f *pipeline.Finding) bool {
		return strings.HasPrefix(f.Detector, "probe") || strings.HasPrefix(f.Detector, "inject")
	}
	loud := run(1, len(batch), 0)
	sameLines(t, "probes", lines(t, split(found, probes)), lines(t, split(loud, probes)))
	counts := map[string]int{}
	for i := range found {
		f := &found[i]
		counts[fmt.Sprintf("%s %t", family(f.Detector), f.Aside)]++
		if who := f.Who.Value; f.Aside && family(f.Detector) == "scrape" && who != "203.0.113.22" {
			t.Errorf("%s of %s is set aside", f.Detector, who)
		}
	}
	for what, some := range map[string]bool{"enum true": true, "enum false": true, "scrape true": true, "scrape false": true, "auth true": true, "auth false": true, "probe true": false} {
		if (counts[what] > 0) != some {
			t.Errorf("%s: %d findings in %v", what, counts[what], counts)
		}
	}
}

// restored takes s's state over to next, as a checkpoint does.
func restored(t *testing.T, s, next *Set) {
	t.Helper()
	stored, crossed := map[uint32][]byte{}, map[uint32][]byte{}
	keep := func(into map[uint32][]byte) func(uint32, []byte) error {
		return func(n uint32, data []byte) error { into[n] = slices.Clone(data); return nil }
	}
	if err := s.Changed(true, keep(stored)); err != nil {
		t.Fatal(err)
	}
	if err := s.cfg.Cross.Changed(true, keep(crossed)); err != nil {
		t.Fatal(err)
	}
	watch, err := s.cfg.Watch.AppendState(nil)
	if err != nil {
		t.Fatal(err)
	}
	head, err := json.Marshal(s.Head())
	if err != nil {
		t.Fatal(err)
	}
	var h SnapshotHead
	if err := json.Unmarshal(head, &h); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		next.Restore(h, func(n uint32) ([]byte, error) { return stored[n], nil }),
		next.cfg.Cross.Restore(s.cfg.Cross.Head(), func(n uint32) ([]byte, error) { return crossed[n], nil }),
		next.cfg.Watch.RestoreState(watch),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
