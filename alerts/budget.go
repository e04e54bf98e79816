package alerts

import (
	"time"

	"weir/pipeline"
)

// Budget is how many alerts are opened one by one in an hour of event time; 0 is any
// number. What is over it is told together, by a surge: nothing is left out.
type Budget struct {
	// Alerts is for each detector, and as much again for those of it whose success is
	// confirmed: no flood of tries hides what worked.
	Alerts int `yaml:"alerts"`
	// Pages is for high and critical ones of all detectors, counted alike.
	Pages int `yaml:"pages"`
}

// maxBudget bounds what may be configured.
const maxBudget = 1_000_000

// spending is what of the budget of an hour is used up.
type spending struct {
	Hour   pipeline.Time  `json:"hour"`
	Alerts map[string]int `json:"alerts,omitempty"` // by surgeKey, see afford
	Pages  [2]int         `json:"pages"`            // without and with success
}

// afford reports whether inc, about to be opened, is within the budget, and counts it
// if so. What others tell of, notices and weir's own health cost nothing.
func (b *Book) afford(inc *incident) bool {
	f := &inc.Finding
	if inc.Parent != "" || f.Level == "campaign" || f.Facts.Notice || isHealth(f.Detector) {
		return true
	}
	if hour := hourOf(b.now); b.spent.Hour != hour || b.spent.Alerts == nil {
		b.spent = spending{Hour: hour, Alerts: map[string]int{}}
	}
	key, worked := b.surgeKey(inc), 0
	if inc.Succeeded {
		key, worked = key+" succeeded", 1
	}
	s, most := &b.spent, b.cfg.Budget
	pages := inc.Tier == tierPage && inc.Severity >= high && !b.covered(inc)
	if most.Alerts > 0 && s.Alerts[key] >= most.Alerts || pages && most.Pages > 0 && s.Pages[worked] >= most.Pages {
		return false
	}
	s.Alerts[key]++
	if pages {
		s.Pages[worked]++
	}
	return true
}

// covered reports whether a suppression keeps inc from sinks: it costs the others
// nothing, and is bounded all the same.
func (b *Book) covered(inc *incident) bool {
	return inc.Place.Aside || b.silences.Covering(&inc.Finding, b.now) != nil
}

// surgeKey names the surge that inc is of when it is over the budget.
func (b *Book) surgeKey(inc *incident) string {
	if b.covered(inc) {
		return inc.Finding.Detector + " suppressed"
	}
	return inc.Finding.Detector
}

func hourOf(t pipeline.Time) pipeline.Time {
	const hour = pipeline.Time(time.Hour / time.Microsecond)
	h := t % hour
	if h < 0 {
		h += hour
	}
	return t - h
}

// Configure makes cfg and versions those of what is said from here on. Under lower
// bounds what is beyond them stays until it ends.
func (b *Book) Configure(cfg Config, versions pipeline.AlertVersions) {
	b.cfg, b.versions = cfg.bounded(), versions
}

// bounded is c with bounds where it has none.
func (c Config) bounded() Config {
	d := DefaultConfig()
	if c.MaxOpen <= 0 {
		c.MaxOpen = d.MaxOpen
	}
	if c.MaxResolved <= 0 {
		c.MaxResolved = d.MaxResolved
	}
	return c
}
