package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"sync"
	"time"

	"weir/bench/simulate"
	"weir/pipeline"
)

const evalHelp = `Usage: weir eval [flags]

Measures detection on simulated traffic with known truth and prints a report in
Markdown: what is found and how soon, the detection floor of every attack beside
that of fixed thresholds on the same traffic, and what harmless clients of every
kind set off.

Every attack runs once for each seed, in traffic of a site that weir knows from
other days only: the edition is learned from another seed without the attack.

  --seeds N      runs of each attack (20)
  --days N       days of each harmless profile (30)
  --client-days N  clean client-days drawn from the priors for each detector, to
                 see how often chance gets how far (3000000)
  --only REGEXP  only the attacks and profiles whose name matches, "calibration"
                 and "flooded"
  -c FILE        the configuration to measure
  --out FILE     write the report there, and the plot of the calibration beside
                 it; standard output and no plot without it
  --workers N    runs at a time (one per CPU)
  --quiet        no progress
`

type evalOptions struct {
	seeds int
	days  int
	// clientDays are drawn for each detector's calibration.
	clientDays int64
	only       *regexp.Regexp
	out        string
	workers    int
	quiet      bool
}

func runEval(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var o evalOptions
	fs := flag.NewFlagSet("eval", flag.ContinueOnError)
	fs.IntVar(&o.seeds, "seeds", 20, "")
	fs.IntVar(&o.days, "days", 30, "")
	fs.Int64Var(&o.clientDays, "client-days", 3_000_000, "")
	only := fs.String("only", "", "")
	config := fs.String("c", "", "")
	fs.StringVar(&o.out, "out", "", "")
	fs.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "")
	fs.BoolVar(&o.quiet, "quiet", false, "")
	rest, code, done := parseFlags(fs, evalHelp, args, stdout, stderr)
	if done {
		return code
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil || len(rest) > 0 || o.seeds < 1 || o.days < 1 || o.clientDays < 1 || o.workers < 1 {
		fmt.Fprintf(stderr, "weir eval: want --seeds, --days, --client-days and --workers above 0, --only a regular expression, and no arguments\n\n%s", evalHelp)
		return exitUsage
	}
	limitMemory()
	lab, err := newEvalLab(*config)
	if err != nil {
		fmt.Fprintf(stderr, "weir eval: %v\n", err)
		return exitFailed
	}
	ev := &evaluation{o: o, lab: lab, stderr: stderr, editions: map[string]*pipeline.Edition{}, start: time.Now()}
	if err := ev.run(ctx); err != nil {
		fmt.Fprintf(stderr, "weir eval: %v\n", err)
		return exitFailed
	}
	w := stdout
	if o.out != "" {
		f, err := os.Create(o.out)
		if err != nil {
			fmt.Fprintf(stderr, "weir eval: write report: %v\n", err)
			return exitFailed
		}
		defer f.Close()
		w = f
	}
	if err := errors.Join(ev.report(w), ev.writePlot()); err != nil {
		fmt.Fprintf(stderr, "weir eval: write report: %v\n", err)
		return exitFailed
	}
	if err := ev.checkCalibration(); err != nil {
		fmt.Fprintf(stderr, "weir eval: calibration: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// evaluation is one run of weir eval.
type evaluation struct {
	o      evalOptions
	lab    *evalLab
	stderr io.Writer
	start  time.Time

	mu        sync.Mutex
	editions  map[string]*pipeline.Edition // by site
	done      int
	floors    []floorResult
	profiles  []profileResult
	campaigns []campaignResult

	calibrated []calibrated
	floods     []floodResult
}

// floorResult is one attack over all seeds.
type floorResult struct {
	evalFloor
	of                 string // the floor to compare with, if three in a hundred of the training clients attack
	alert, page, fixed []evalHit
	alerts             []int // alerts that name the episode, per run
	falseAlerts        int   // alerts on others, over all runs
	falsePages         int
	requests           int64
	clientDays         int64
	misnamed           int
	blind              int            // runs in which weir said that it cannot see which objects are asked for
	named              map[string]int // who was named wrongly: profile or episode, detector, severity
}

func (e *evaluation) run(ctx context.Context) error {
	var jobs []func() error
	for i, f := range withPoisoned(evalFloors()) {
		if e.o.only.MatchString(f.name) {
			e.floors = append(e.floors, f)
			i = len(e.floors) - 1
			for seed := range e.o.seeds {
				jobs = append(jobs, func() error { return e.floor(ctx, i, uint64(seed+1)) })
			}
		}
	}
	for _, p := range evalProfiles() {
		if e.o.only.MatchString(p.profile) {
			e.profiles = append(e.profiles, profileResult{evalProfile: p})
			i := len(e.profiles) - 1
			jobs = append(jobs, func() error { return e.profile(ctx, i) })
		}
	}
	for _, c := range evalCampaigns() {
		if e.o.only.MatchString(c.name) {
			e.campaigns = append(e.campaigns, campaignResult{evalCampaign: c})
			i := len(e.campaigns) - 1
			for seed := range e.o.seeds {
				jobs = append(jobs, func() error { return e.campaign(ctx, i, uint64(seed+1)) })
			}
		}
	}
	calibrating, flooding := e.o.only.MatchString("calibration"), e.o.only.MatchString("flooded")
	if len(jobs) == 0 && !calibrating && !flooding {
		return errors.New("--only leaves nothing to measure")
	}
	for _, site := range simulate.Sites() {
		if err := e.learn(ctx, site, nil); err != nil {
			return err
		}
	}
	for i := range e.floors {
		if f := &e.floors[i]; f.of != "" && e.editions[f.site+poisonedEdition] == nil {
			if err := e.learn(ctx, f.site, poison()); err != nil {
				return err
			}
		}
	}
	if calibrating {
		if err := e.calibrate(ctx); err != nil {
			return err
		}
	}
	if flooding {
		if err := e.flood(ctx); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	var first error
	next := make(chan func() error)
	for range e.o.workers {
		wg.Go(func() {
			for job := range next {
				err := job()
				e.mu.Lock()
				e.done++
				if first == nil {
					first = err
				}
				if !e.o.quiet && (e.done%10 == 0 || e.done == len(jobs)) {
					fmt.Fprintf(e.stderr, "%d of %d runs, %s\n", e.done, len(jobs), time.Since(e.start).Round(time.Second))
				}
				e.mu.Unlock()
			}
		})
	}
	for _, job := range jobs {
		if ctx.Err() != nil {
			break
		}
		next <- job
	}
	close(next)
	wg.Wait()
	return errors.Join(first, ctx.Err())
}

// evalLearnSeed is the seed of the traffic that editions are learned from; no
// attack runs under it.
const evalLearnSeed = 1_000_003

// poisonedEdition, behind a site, names the edition of its poisoned training days.
const poisonedEdition = ", poisoned"

// learn fits the edition that a site's attacks are measured with; attacks, if any,
// poison it.
func (e *evaluation) learn(ctx context.Context, site string, attacks []simulate.Attack) error {
	s, ok := simulate.Builtin(site)
	if !ok {
		return fmt.Errorf("no scenario %s", site)
	}
	s.Resize(evalClients)
	name := site
	if len(attacks) > 0 {
		s.Attacks, name = attacks, site+poisonedEdition
	}
	edition, err := e.lab.learn(ctx, s, evalLearnSeed)
	if err != nil {
		return fmt.Errorf("learn %s: %w", name, err)
	}
	e.editions[name] = edition
	return nil
}

// evalClients is the size of the crowd around an attack.
const evalClients = 300

// floor runs attack i once.
func (e *evaluation) floor(ctx context.Context, i int, seed uint64) error {
	f := e.floors[i].evalFloor
	s, ok := simulate.Builtin(f.site)
	if !ok {
		return fmt.Errorf("no scenario %s", f.site)
	}
	s.Resize(max(f.clients, 1))
	s.Length = f.length
	if f.change != nil {
		f.change(s)
	}
	attack := f.attack
	attack.Name = "attack"
	s.Attacks = []simulate.Attack{attack}
	edition := e.editions[f.site]
	if e.floors[i].of != "" {
		edition = e.editions[f.site+poisonedEdition]
	}
	t, err := e.lab.run(ctx, s, seed, edition)
	if err != nil {
		return fmt.Errorf("%s, seed %d: %w", f.name, seed, err)
	}
	if len(t.labels.Episodes) != 1 {
		return fmt.Errorf("%s, seed %d: %d episodes, want one", f.name, seed, len(t.labels.Episodes))
	}
	alert, page := t.hits(t.alerts, 0)
	fixedHit, _ := t.hits(t.fixed, 0)
	ev := Evaluate(t.labels, t.alerts, t.traffic)
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &e.floors[i]
	r.alert, r.page, r.fixed = append(r.alert, alert), append(r.page, page), append(r.fixed, fixedHit)
	told := 0
	for i := range ev.Results {
		told += ev.Results[i].Alerts
	}
	r.alerts = append(r.alerts, told)
	r.misnamed += ev.Misnamed
	if t.blind {
		r.blind++
	}
	r.falseAlerts += ev.False
	for _, a := range ev.FalseAlerts {
		if r.named == nil {
			r.named = map[string]int{}
		}
		r.named[fmt.Sprintf("%s | %s | %s", a.About, a.Detector, a.Severity)]++
		if !a.Misnamed && severityRank(a.Severity) >= severityRank("high") {
			r.falsePages++
		}
	}
	r.requests += t.events
	r.clientDays += t.traffic.cleanClientDays()
	return nil
}

// profileResult is one kind of harmless client over all its days.
type profileResult struct {
	evalProfile
	clients    int
	clientDays int64
	alerts     int // above info
	pages      int
	worst      int // alerts on one client
	fixed      int // alerts of fixed thresholds
	what       map[string]int
}

// profile runs one benign profile beside a small crowd.
func (e *evaluation) profile(ctx context.Context, i int) error {
	p := e.profiles[i].evalProfile
	s, ok := simulate.Builtin(p.site)
	if !ok {
		return fmt.Errorf("no scenario %s", p.site)
	}
	s.Resize(evalProfileCrowd)
	s.Length = time.Duration(e.o.days) * 24 * time.Hour
	s.Benign = append(s.Benign[:1:1], simulate.Benign{Name: "looked at", Profile: p.profile, Count: p.count})
	t, err := e.lab.run(ctx, s, 77, e.editions[p.site])
	if err != nil {
		return fmt.Errorf("profile %s: %w", p.profile, err)
	}
	k := -1
	for j, name := range t.labels.Profiles {
		if name == "looked at" {
			k = j
		}
	}
	if k < 0 {
		return fmt.Errorf("profile %s made no labels", p.profile)
	}
	r := profileResult{evalProfile: p, what: map[string]int{}}
	for o := range t.labels.owners {
		if int(t.labels.owners[o].profile) == k {
			r.clients++
			r.clientDays += t.traffic.owners[o].days
		}
	}
	count := func(alerts []pipeline.Alert, each func(in *incidentRevisions)) {
		for _, in := range groupRevisions(alerts) {
			a := in.latest()
			if a.Severity == "info" || a.Level == "campaign" && a.MembersTotal == 0 {
				continue
			}
			for _, o := range profilesOf(t.labels, alertOwners(t.labels, a)) {
				if int(o) == k {
					each(in)
				}
			}
		}
	}
	per := map[pipeline.Principal]int{}
	count(t.alerts, func(in *incidentRevisions) {
		a := in.latest()
		r.alerts++
		r.what[a.Detector+" "+a.Severity]++
		if in.paged {
			r.pages++
		}
		per[a.Principal]++
		r.worst = max(r.worst, per[a.Principal])
	})
	count(t.fixed, func(*incidentRevisions) { r.fixed++ })
	e.mu.Lock()
	e.profiles[i] = r
	e.mu.Unlock()
	return nil
}

// evalProfileCrowd is how many ordinary clients run beside a profile.
const evalProfileCrowd = 30
