package detectors

import (
	"slices"
	"time"

	"weir/pipeline"
)

// An edition that follows another moves each prior by a tenth a day at most, of
// its mean and of its raggedness: who would teach weir that abuse is ordinary has
// to keep it up for weeks, and a strange day does not unsettle what is known.
// Where the edition before knew nothing yet, the fit stands as it is.

const (
	// followMost is how many days of moves an edition may make up for.
	followMost = 30
	// followDay is the longest a number moves in a day, in hundredths.
	followDay = 110
)

// Follow makes the next Fit follow prev, in force since its effective time;
// nil is none. An edition that cannot be read is an error.
func (f *Fitter) Follow(prev *pipeline.Edition) error {
	f.before, f.beforeAt = nil, pipeline.NoTime
	if prev == nil {
		return nil
	}
	b, err := DecodeBaselines(prev.Detectors)
	if err != nil {
		return err
	}
	f.before, f.beforeAt = b, prev.Effective
	return nil
}

// Held names the priors that the last Fit would have moved further than it may, in
// the order of the edition: the site changed, or somebody tries to change what is
// ordinary.
func (f *Fitter) Held() []string { return f.held }

// follow holds b back to what may have become of the edition before.
func (f *Fitter) follow(b *Baselines) {
	f.held = nil
	old := f.before
	if old == nil || old.Clients == 0 {
		return
	}
	days := 1
	if f.beforeAt != pipeline.NoTime && f.last > f.beforeAt {
		days = min(max(1, int(f.last.Sub(f.beforeAt)/(24*time.Hour))), followMost)
	}
	hold := func(name string, moved bool) {
		if moved && !slices.Contains(f.held, name) {
			f.held = append(f.held, name)
		}
	}
	for _, p := range [...]struct {
		name     string
		now, was *Prior
	}{
		{"probe", &b.Probe, &old.Probe},
		{"object", &b.Object, &old.Object},
		{"near", &b.Near, &old.Near},
		{"login", &b.Login, &old.Login},
		{"login_user", &b.LoginUser, &old.LoginUser},
		{"inject", &b.Inject, &old.Inject},
		{"share", &b.Share, &old.Share},
	} {
		hold(p.name, p.now.follow(*p.was, days))
	}
	hold("crawl", b.Crawl.follow(old.Crawl, days))
	hold("volume", b.Volume.follow(old.Volume, days))
	hold("bytes", b.Bytes.follow(old.Bytes, days))
	for i := range b.Endpoints {
		e := &b.Endpoints[i]
		was := old.endpoint(e.Template)
		if was == nil {
			continue
		}
		for _, p := range [...]struct{ now, was *Prior }{{&e.Near, &was.Near}, {&e.Miss, &was.Miss}, {&e.Share, &was.Share}, {&e.Merged, &was.Merged}} {
			hold("endpoints", p.now.follow(*p.was, days))
		}
	}
}

// within moves x to where a number that was was may be after days.
func within(x, was uint64, days int) uint64 {
	low, high := was, was
	for range days {
		low, high = (low*100+followDay-1)/followDay, high*followDay/100
	}
	return min(max(x, low), max(high, low))
}

// follow reports whether p had to be held back from was. A prior that nothing
// was fitted to before, or now, is no move.
func (p *Prior) follow(was Prior, days int) bool {
	if was.N == 0 || p.N == 0 || was.A+was.B == 0 || p.A+p.B == 0 {
		return false
	}
	const one = 1 << 24
	size, oldSize := uint64(p.A)+uint64(p.B), uint64(was.A)+uint64(was.B)
	mean, oldMean := uint64(p.A)*one/size, uint64(was.A)*one/oldSize
	newMean := min(within(mean, oldMean, days), one*9/10)
	newSize := within(size, oldSize, days)
	if newMean == mean && newSize == size {
		return false
	}
	a := max(1, (newSize*newMean+one/2)/one)
	p.A, p.B = uint32(a), uint32(max(1, newSize-min(a, newSize)))
	return newMean != mean
}

func (r *Rate) follow(was Rate, days int) bool {
	if was.N == 0 || r.N == 0 {
		return false
	}
	mean := uint32(within(uint64(r.Mean), uint64(was.Mean), days))
	moved := mean != r.Mean
	r.Mean, r.Shape = max(1, mean), max(1, uint32(within(uint64(r.Shape), uint64(was.Shape), days)))
	return moved
}

func (l *LogNormal) follow(was LogNormal, days int) bool {
	if was.N == 0 || l.N == 0 {
		return false
	}
	most := (ln(followDay) - ln(100)) * pipeline.Nats(days)
	mu := min(max(l.Mu, was.Mu-most), was.Mu+most)
	moved := mu != l.Mu
	l.Mu, l.Sigma = mu, uint32(within(uint64(l.Sigma), uint64(was.Sigma), days))
	return moved
}
