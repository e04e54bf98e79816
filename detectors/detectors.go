// Package detectors turns ordered requests into findings: it reduces each
// request to an observation, keeps a bounded profile per principal, and asks
// every detector what the observation adds to its case.
//
// Only event time exists here, evidence is integer arithmetic, and no output
// depends on workers, batches or restarts.
package detectors

import (
	"slices"

	"weir/pipeline"
)

// detector is one question asked of every observation of a principal. It keeps
// what it needs in its part of the Profile and nothing in itself: one value
// serves all workers.
type detector interface {
	// observe updates the detector's part of p. If o added to the evidence it
	// returns that and true; else the number means nothing.
	observe(p *Profile, o *pipeline.Observation, s *scope) (score pipeline.Nats, counted bool)
	// phase rises when the case changes in kind: the finding leaves at once.
	phase(p *Profile) uint8
	// signals appends the lines of evidence; their nats sum to the score.
	signals(dst []pipeline.FindingSignal, p *Profile, b *Baselines) []pipeline.FindingSignal
	// describe fills in the words, the outcome and the facts of f. It is called
	// for a finding that is about to leave, never per event.
	describe(f *pipeline.Finding, p *Profile, c *caseFile, b *Baselines)
}

// entry is one line of the catalog.
type entry struct {
	name string
	new  func() detector
	// of says which observations it is asked about: those with one of these flags;
	// 0 all. Those with one of the flags of not are spared it.
	of, not pipeline.ObservationFlags
	family  families // set from the name
}

// catalog lists every detector, in the order in which they are asked. To add
// one: a file with its doc and code, a field in Profile, a line here, and case
// files testdata/<name>/attack_*.txtar and benign_*.txtar.
func catalog() []entry {
	const aside = pipeline.ObsStatic | pipeline.ObsAuto | pipeline.ObsLogin
	return []entry{
		{name: "probe.path", new: newProbePath, of: 0, not: pipeline.ObsLogin | pipeline.ObsAuto},
		{name: "auth.bruteforce", new: newAuthBruteforce, of: pipeline.ObsLogin, not: 0},
		{name: "enum.object", new: newEnumObject, of: 0, not: aside | pipeline.ObsUnknown},
		{name: "scrape.crawl", new: newScrapeCrawl, of: pipeline.ObsRead, not: aside | pipeline.ObsMiss},
		{name: "auth.stuffing", new: newAuthStuffing, of: pipeline.ObsLogin, not: 0},
		{name: "auth.spraying", new: newAuthSpraying, of: pipeline.ObsLogin, not: 0},
		{name: "enum.user", new: newEnumUser, of: pipeline.ObsLogin | pipeline.ObsAsks, not: 0},
		{name: "inject.probe", new: newInjectProbe, of: 0, not: 0},
		{name: "data.exposure", new: newDataExposure, of: 0, not: aside | pipeline.ObsMiss},
		{name: "volume.flood", new: newVolumeFlood, of: 0, not: aside | pipeline.ObsMiss | pipeline.ObsRefused},
	}
}

// Names returns the detectors' names in catalog order, then those that only a
// wider view has.
func Names() []string {
	var names []string
	for _, e := range catalog() {
		names = append(names, e.name)
	}
	for _, name := range []string{nameStuffing, nameSpraying, nameTakeover, nameKeyMisuse} {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// family is a detector's name up to the dot.
func family(name string) string {
	for i := range len(name) {
		if name[i] == '.' {
			return name[:i]
		}
	}
	return name
}

// scope is what detectors may know of an observation beyond the observation.
type scope struct {
	b *Baselines
	// freshItem and freshPath say that the principal never asked for this item
	// (for this path, or missed on this template when it has slots) before.
	freshItem bool
	freshPath bool
	// freshObject says that this is the principal's first contact with the object.
	freshObject bool
	// endpoint is the baseline of the observation's template, nil if none.
	endpoint *EndpointBaseline
	// r is the request behind the observation; nothing of it may be kept.
	r *pipeline.Request
	// v knows what answers to login attempts mean.
	v *observer
}

// Mode says what becomes of a detector's findings.
type Mode string

// The modes.
const (
	ModeOn     Mode = "on"
	ModeShadow Mode = "shadow" // detected and stored, never alerted
	ModeOff    Mode = "off"
)

// breadth is the evidence of a count: distinct things (or attempts) in a while
// against a gamma-Poisson cohort, as the exact likelihood ratio of a twenty
// times higher mean with the same shape.
type breadth struct {
	at uint32
	n  uint32 // counted, 1/256
}

const (
	breadthFactor = 20
	breadthOne    = 256
	daySeconds    = 24 * 3600
)

// add counts amount (breadthOne is one); the count decays with half-life half.
func (b *breadth) add(amount, now, half uint32) {
	b.decay(now, half)
	if b.n < 1<<30 {
		b.n += amount
	}
}

func (b *breadth) decay(now, half uint32) {
	if now <= b.at {
		return
	}
	age := now - b.at
	if age < half/256 && b.n > 0 {
		return
	}
	b.at = now
	b.n = uint32(uint64(b.n) * halfPower(uint64(age)<<16/uint64(half)) >> 16)
}

// nats is the evidence against the cohort r when people share the count.
func (b *breadth) nats(r Rate, people int) pipeline.Nats {
	mean, shape := uint64(r.Mean), uint64(r.Shape)
	each := lnRatio(breadthFactor*mean*(mean+shape), (breadthFactor*mean+shape)*mean)
	fixed := lnRatio(breadthFactor*mean+shape, mean+shape) * pipeline.Nats(shape) / 256
	n := pipeline.Nats(b.n) / pipeline.Nats(max(1, people))
	return max(0, n*each/256-fixed)
}
