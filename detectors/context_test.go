package detectors

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weir/pipeline"
)

// caseBatch is the traffic of a case file with the editions it names.
type caseBatch struct {
	name     string
	kind     string // attack, benign
	batch    []pipeline.Ordered
	editions []*pipeline.Edition
}

// allCases reads every case of every detector.
func allCases(t *testing.T) (all []caseBatch) {
	t.Helper()
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, parts := archive(data)
		words := strings.Fields(parts["words"])
		events, err := parseEvents(parts["events.log"], words)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(filepath.Base(file), "_")
		c := caseBatch{name: file, kind: kind, batch: order(t, events)}
		for which := range strings.FieldsSeq(parts["edition"]) {
			switch which {
			case "self":
				c.editions = append(c.editions, fitted(t, c.batch))
			case "learned":
				learn, err := parseEvents(parts["learn.log"], words)
				if err != nil {
					t.Fatal(err)
				}
				c.editions = append(c.editions, fitted(t, order(t, learn)))
			}
		}
		if len(c.editions) == 0 || strings.Contains(parts["edition"], "shipped") {
			c.editions = append(c.editions, pipeline.ShippedEdition())
		}
		all = append(all, c)
	}
	return all
}

// with is batch with flags added to every request.
func with(batch []pipeline.Ordered, flags pipeline.RequestFlags) []pipeline.Ordered {
	out := slices.Clone(batch)
	for i := range out {
		r := *out[i].Request
		r.Flags |= flags
		out[i].Request = &r
	}
	return out
}

// TestListed: on a list, a client's alerts gain a signal of their own and never
// the step from review to page; signals sum to the score, for every detector.
func TestListed(t *testing.T) {
	listed, findings := 0, 0
	for _, c := range allCases(t) {
		for _, e := range c.editions {
			for _, f := range detectAll(t, Config{Watch: pipeline.NewProxyWatch()}, e, with(c.batch, pipeline.FlagListed)) {
				findings++
				var sum, list pipeline.Nats
				for _, s := range f.Signals {
					sum += s.Nats
					if s.Name == "listed_address" {
						list += s.Nats
					}
				}
				own := f.Score - list
				switch {
				case sum != f.Score:
					t.Errorf("%s: %s: signals sum to %d, the score is %d", c.name, f.Detector, sum, f.Score)
				case list > listedNats || list > 0 && own < pipeline.ReviewAt-listedNats:
					t.Errorf("%s: %s: the list adds %.2f to %.2f", c.name, f.Detector, list.Float(), own.Float())
				case own < pipeline.PageAt && f.Score >= pipeline.PageAt:
					t.Errorf("%s: %s: the list lifts %.2f to a page", c.name, f.Detector, own.Float())
				case f.Who.Kind != pipeline.PrincipalIP && list > 0:
					t.Errorf("%s: a list speaks of %s", c.name, f.Who.Kind)
				}
				if list > 0 {
					listed++
				}
			}
		}
	}
	if listed == 0 || findings <= listed {
		t.Errorf("of %d findings %d are on a list", findings, listed)
	}
	// What is nearly worth a review is worth one from a listed address.
	raised := 0
	for n := 4; n < 30; n++ {
		events, err := parseEvents(fmt.Sprintf("@0s 198.51.100.7 %d every 1s GET /{hex}.php 404", n), nil)
		if err != nil {
			t.Fatal(err)
		}
		batch := order(t, events)
		quiet := detectAll(t, Config{}, pipeline.ShippedEdition(), batch)
		loud := detectAll(t, Config{}, pipeline.ShippedEdition(), with(batch, pipeline.FlagListed))
		if len(quiet) == 0 && len(loud) > 0 {
			raised++
		}
		if len(quiet) > 0 && len(loud) == 0 {
			t.Errorf("a listed address hides %d misses", n)
		}
	}
	if raised == 0 {
		t.Error("a list raises nothing")
	}
	p := Profile{Flags: profileListed}
	for own, want := range map[pipeline.Nats]pipeline.Nats{
		0: 0, pipeline.ReviewAt - listedNats - 1: 0, pipeline.ReviewAt - listedNats: listedNats,
		pipeline.PageAt - pipeline.Nat: pipeline.Nat - 1, pipeline.PageAt - 1: 0, pipeline.PageAt: listedNats,
	} {
		if got := p.listed(own); got != want {
			t.Errorf("listed(%.3f) = %.3f, want %.3f", own.Float(), got.Float(), want.Float())
		}
	}
	if got := (&Profile{}).listed(pipeline.PageAt); got != 0 {
		t.Errorf("an address on no list gains %d", got)
	}
}

// TestBlockedAndPlace: what a gateway stopped and where a client is from reach
// the finding; where neither is known, nothing is claimed.
func TestBlockedAndPlace(t *testing.T) {
	events, err := parseEvents("@0s 198.51.100.7 60 every 1s GET /{hex}.php 403", nil)
	if err != nil {
		t.Fatal(err)
	}
	batch := order(t, events)
	last := func(batch []pipeline.Ordered) pipeline.Finding {
		t.Helper()
		found := detectAll(t, Config{}, pipeline.ShippedEdition(), batch)
		if len(found) == 0 {
			t.Fatal("nothing found")
		}
		return found[len(found)-1]
	}
	f := last(with(batch, pipeline.FlagBlocked))
	if f.Outcome.Blocked == nil || *f.Outcome.Blocked < 30 || f.Outcome.BlockedBy != "a WAF or gateway" {
		t.Errorf("blocked %v by %q", f.Outcome.Blocked, f.Outcome.BlockedBy)
	}
	if f = last(batch); f.Outcome.BlockedBy == "a WAF or gateway" || f.ASN+f.Country+f.Network != "" {
		t.Errorf("blocked by %q, from %q %q %q", f.Outcome.BlockedBy, f.ASN, f.Country, f.Network)
	}
	placed := with(batch, 0)
	for i := range placed {
		placed[i].ASN, placed[i].Country = 24940, pipeline.Country{'D', 'E'}
	}
	if f = last(placed); f.ASN != "AS24940" || f.Country != "DE" || f.Network != "hosting" {
		t.Errorf("from %q %q %q", f.ASN, f.Country, f.Network)
	}
	placed[30].Country = pipeline.Country{'F', 'R'}
	if f = last(placed); f.ASN != "AS24940" || f.Country != "" {
		t.Errorf("from two countries, one system: %q %q", f.ASN, f.Country)
	}
}

// TestTraceCarriesEvidence: with the edition fixed, without the requests that
// carry evidence there is no finding; whoever is left out, the others' findings
// stay. Repeats of what counted carry evidence, too.
func TestTraceCarriesEvidence(t *testing.T) {
	checked := 0
	for _, c := range allCases(t) {
		if c.kind != "attack" {
			continue
		}
		e := c.editions[0]
		type suspect struct {
			detector string
			owner    uint64
		}
		var suspects []suspect
		for _, f := range detectAll(t, Config{}, e, c.batch) {
			if f.Wide || f.Level == "campaign" || f.Detector == nameKeyMisuse {
				continue // of correlate, which is not traced
			}
			if s := (suspect{f.Detector, f.Who.Hash()}); !slices.Contains(suspects, s) {
				suspects = append(suspects, s)
			}
		}
		for _, s := range suspects {
			if family(s.detector) == "health" {
				continue
			}
			rest, fires, counted := c.batch, true, 0
			rounds := 0
			for ; fires && rounds < 12; rounds++ {
				same := map[uint64]bool{}
				var seen []Traced
				cfg := Config{Trace: func(x Traced) {
					if x.Owner != s.owner || x.Detector != s.detector {
						return
					}
					o := *x.Facts
					at := *x.Request
					seen = append(seen, Traced{Facts: &o, Request: &at, Counted: x.Counted})
					if x.Counted {
						counted++
						for _, k := range []uint64{o.Item, o.Path, o.Object, o.User} {
							same[k] = k != 0
						}
					}
				}}
				fires = slices.ContainsFunc(detectAll(t, cfg, e, rest), func(f pipeline.Finding) bool {
					return f.Detector == s.detector && f.Who.Hash() == s.owner
				})
				drop := map[*pipeline.Request]bool{}
				for _, x := range seen {
					drop[x.Request.Request] = x.Counted || same[x.Facts.Item] || same[x.Facts.Path] || same[x.Facts.Object] || same[x.Facts.User]
				}
				rest = slices.DeleteFunc(slices.Clone(rest), func(o pipeline.Ordered) bool { return drop[o.Request] })
			}
			checked++
			if fires || counted == 0 || rounds < 2 {
				t.Errorf("%s: %s still fires after %d rounds without its %d requests", c.name, s.detector, rounds, counted)
			}
		}
	}
	if checked < 10 {
		t.Errorf("%d findings checked", checked)
	}
	t.Logf("%d findings", checked)
}

// TestTraceChangesNothing: who listens makes no difference to what is found.
func TestTraceChangesNothing(t *testing.T) {
	for _, c := range allCases(t)[:4] {
		traced := 0
		quiet := detectAll(t, Config{}, c.editions[0], c.batch)
		heard := detectAll(t, Config{Trace: func(Traced) { traced++ }}, c.editions[0], c.batch)
		if traced == 0 {
			t.Errorf("%s: %d findings, %d with %d traces", c.name, len(quiet), len(heard), traced)
		}
		sameLines(t, c.name, lines(t, heard), lines(t, quiet))
	}
}
