package main

import (
	"regexp"
	"strings"
	"testing"

	"weir/bench/simulate"
)

// TestScenariosThatWeShow: those of the guide and of the help load and run.
func TestScenariosThatWeShow(t *testing.T) {
	_, rest, _ := strings.Cut(simulateHelp, "scenario:\n\n")
	help, _, _ := strings.Cut(rest, "\n\nFlags:")
	shown := append(blocks(sectionOf(t, readPage(t, "docs/guide.md"), "Simulate traffic"), "yaml"), help)
	if len(shown) < 2 {
		t.Fatalf("%d scenarios are shown", len(shown))
	}
	for _, text := range shown {
		s, err := simulate.Load(strings.NewReader(text))
		if err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		s.Resize(20)
		n := 0
		if _, err := s.Run(1, func(*simulate.Event) error { n++; return nil }); err != nil || n == 0 {
			t.Errorf("%d events, %v of\n%s", n, err, text)
		}
	}
}

// TestAttacksAreDetectorNames: as the contract has them, or an evaluation finds nothing.
func TestAttacksAreDetectorNames(t *testing.T) {
	name := regexp.MustCompile(`^(enum\.(object|user)|probe\.path|auth\.(bruteforce|stuffing|spraying|takeover)|scrape\.crawl|key\.misuse|data\.exposure|inject\.probe|volume\.flood)(/[a-z]+)?$`)
	attacks := simulate.Attacks()
	if len(attacks) < 30 {
		t.Fatalf("%d attacks", len(attacks))
	}
	for _, a := range attacks {
		if !name.MatchString(a.Name) || a.About == "" {
			t.Errorf("%q: %q", a.Name, a.About)
		}
	}
}
