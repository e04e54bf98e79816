package detectors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// loginSite is a site whose failed logins do not show in the status.
type loginSite struct {
	name           string
	failed, worked func(*rand.Rand) (status uint16, bytes int64)
	back           bool // a failure redirects to the login page
	home           string
}

func hiddenSites() []loginSite {
	return []loginSite{
		{
			name:   "200 with another size",
			failed: func(rng *rand.Rand) (uint16, int64) { return 200, 1890 + rng.Int64N(20) },
			worked: func(rng *rand.Rand) (uint16, int64) { return 200, 380 + rng.Int64N(60) },
			home:   "/api/me",
		},
		{
			name:   "302 on success",
			failed: func(rng *rand.Rand) (uint16, int64) { return 200, 4200 + rng.Int64N(300) },
			worked: func(*rand.Rand) (uint16, int64) { return 302, 0 },
			home:   "/account",
		},
		{
			name:   "302 both ways, near sizes",
			failed: func(*rand.Rand) (uint16, int64) { return 302, 219 },
			worked: func(*rand.Rand) (uint16, int64) { return 302, 205 },
			back:   true, home: "/",
		},
	}
}

// traffic collects requests.
type loginTraffic struct {
	rng *rand.Rand
	all []*pipeline.Request
}

func (l *loginTraffic) add(client int, at pipeline.Time, method, path string, status uint16, bytes int64) {
	a, _ := pipeline.ParseAddress(fmt.Sprintf("10.%d.%d.%d", client>>16, client>>8&255, client&255))
	r := &pipeline.Request{
		Time: at, Effective: at, Address: a, Owner: a.Owner(), Kind: pipeline.PrincipalIP, Method: method, Path: path, Status: status, Bytes: bytes,
		Agent: fmt.Sprintf("Mozilla/5.0 (%d)", client%7),
	}
	if method == "POST" && path == "/login" {
		r.Flags |= pipeline.FlagLogin
	}
	r.Seal()
	l.all = append(l.all, r)
}

// people log in as people do: one in five mistypes, most of them try again, some
// give up and look around.
func (l *loginTraffic) people(site loginSite, first, n int, from pipeline.Time, over time.Duration) {
	for c := first; c < first+n; c++ {
		at := from.Add(time.Duration(l.rng.Int64N(int64(over))))
		wait := func(most int) { at = at.Add(time.Second + time.Duration(l.rng.IntN(most))*time.Second) }
		l.add(c, at, "GET", "/", 200, 9000)
		wait(20)
		l.add(c, at, "GET", "/login", 200, 1800)
		for range 4 {
			wait(25)
			if l.rng.IntN(100) >= 22 {
				status, bytes := site.worked(l.rng)
				l.add(c, at, "POST", "/login", status, bytes)
				at += 300_000
				l.add(c, at, "GET", site.home, 200, 3000+l.rng.Int64N(900))
				for range 2 + l.rng.IntN(5) {
					wait(40)
					l.add(c, at, "GET", fmt.Sprintf("/orders/%d", c*10+l.rng.IntN(10)), 200, 2200)
				}
				break
			}
			status, bytes := site.failed(l.rng)
			l.add(c, at, "POST", "/login", status, bytes)
			if site.back {
				at += 200_000
				l.add(c, at, "GET", "/login", 200, 1900)
			}
			if l.rng.IntN(100) < 20 {
				wait(15)
				l.add(c, at, "GET", "/help", 200, 5000)
				break
			}
		}
	}
}

// guess is a guesser, whose attempts worked at the given places.
func (l *loginTraffic) guess(site loginSite, client int, from pipeline.Time, n int, worked ...int) {
	for i := range n {
		status, bytes := site.failed(l.rng)
		if slices.Contains(worked, i) {
			status, bytes = site.worked(l.rng)
		}
		l.add(client, from.Add(time.Duration(i)*200*time.Millisecond), "POST", "/login", status, bytes)
	}
}

func (l *loginTraffic) batch() []pipeline.Ordered {
	slices.SortStableFunc(l.all, func(a, b *pipeline.Request) int { return compare(uint64(a.Effective), uint64(b.Effective)) })
	block := &pipeline.Block{Source: "logins"}
	out := make([]pipeline.Ordered, len(l.all))
	for i, r := range l.all {
		r.Line = int64(i) + 1
		out[i] = pipeline.Ordered{Request: r, Block: block}
	}
	return out
}

// withCross runs a batch through detect and correlate, in parts of n.
func withCross(t testing.TB, e *pipeline.Edition, batch []pipeline.Ordered, workers, n int) ([]pipeline.Finding, *Correlator) {
	t.Helper()
	cross, err := NewCorrelator(Config{}, e)
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, Config{Workers: workers, Cross: cross}, e)
	var out []pipeline.Finding
	for part := range slices.Chunk(batch, n) {
		out = s.Process(out, part)
	}
	return s.Advance(out, batch[len(batch)-1].Effective.Add(2*time.Minute)), cross
}

// learnedBy is what cross has learned of logins, in effect or not.
func learnedBy(cross *Correlator) []learnedTruth {
	if n := len(cross.truths); n > 0 {
		return cross.truths[n-1].Logins
	}
	return nil
}

// guessed returns the last finding of auth.bruteforce about a client.
func guessed(t testing.TB, found []pipeline.Finding, client int) *pipeline.Finding {
	t.Helper()
	who := fmt.Sprintf("10.%d.%d.%d", client>>16, client>>8&255, client&255)
	var last *pipeline.Finding
	for i := range found {
		if f := &found[i]; f.Detector == "auth.bruteforce" && f.Who.Value == who {
			last = f
		}
	}
	if last == nil {
		t.Fatalf("nothing was found about %s", who)
	}
	return last
}

func near(got *int64, want int64) bool { return got != nil && *got >= want-1 && *got <= want+1 }

func show(n *int64) string {
	if n == nil {
		return "null"
	}
	return fmt.Sprint(*n)
}

const (
	earlyGuesser = 200_000 + iota
	lateGuesser
)

// TestLoginTruth: under an edition that learned from ordinary traffic, and
// without one while weir runs, the logins that a guesser got are counted, though
// no status tells; before anything is learned their number is unknown.
func TestLoginTruth(t *testing.T) {
	for _, site := range hiddenSites() {
		t.Run(site.name, func(t *testing.T) {
			learn := &loginTraffic{rng: rand.New(rand.NewPCG(7, 1))}
			learn.people(site, 1, 120, caseStart, 6*time.Hour)
			edition := fitted(t, learn.batch())

			attack := &loginTraffic{rng: rand.New(rand.NewPCG(7, 2))}
			attack.people(site, 5000, 60, caseStart, 4*time.Hour)
			attack.guess(site, earlyGuesser, caseStart.Add(time.Second), 300, 120, 250)
			attack.guess(site, lateGuesser, caseStart.Add(3*time.Hour+30*time.Minute), 300, 70, 150, 299)
			batch := attack.batch()

			found := detectAll(t, Config{}, edition, batch)
			early, late := guessed(t, found, earlyGuesser), guessed(t, found, lateGuesser)
			t.Logf("fitted: %s of 2 and %s of 3: %s", show(early.Outcome.Succeeded), show(late.Outcome.Succeeded), late.Reason)
			if !near(early.Outcome.Succeeded, 2) || !near(late.Outcome.Succeeded, 3) || late.Outcome.Basis != "learned" {
				t.Errorf("under the learned edition %s and %s logins worked (%s), want 2 and 3 within one", show(early.Outcome.Succeeded), show(late.Outcome.Succeeded), late.Outcome.Basis)
			}

			found, _ = withCross(t, pipeline.ShippedEdition(), batch, 1, 512)
			early, late = guessed(t, found, earlyGuesser), guessed(t, found, lateGuesser)
			t.Logf("online: %s of 2, %s of 3", show(early.Outcome.Succeeded), show(late.Outcome.Succeeded))
			if early.Outcome.Succeeded != nil || early.Outcome.Basis != "unknown" {
				t.Errorf("before anything is learned %s logins worked, want null", show(early.Outcome.Succeeded))
			}
			if !near(late.Outcome.Succeeded, 3) {
				t.Errorf("after hours of ordinary logins %s worked, want 3 within one", show(late.Outcome.Succeeded))
			}
			for i := range found {
				if f := &found[i]; f.Who.Value != early.Who.Value && f.Who.Value != late.Who.Value {
					t.Errorf("%s about %s, who did nothing", f.Detector, f.Who.Value)
				}
			}
		})
	}
}

// TestLoginTruthSettles: a case that began before the truth was learned counts
// what it could not, once it is.
func TestLoginTruthSettles(t *testing.T) {
	for _, site := range []loginSite{hiddenSites()[0], hiddenSites()[2]} {
		l := &loginTraffic{rng: rand.New(rand.NewPCG(9, 1))}
		l.people(site, 1, 60, caseStart, 30*time.Minute)
		for i := range 8 { // eight bursts of a slow guesser
			l.guess(site, earlyGuesser, caseStart.Add(time.Duration(i)*5*time.Minute), 60, 30)
		}
		found, _ := withCross(t, pipeline.ShippedEdition(), l.batch(), 1, 512)
		if first := found[0].Outcome.Succeeded; first != nil {
			t.Errorf("the first finding says that %s logins worked, want null", show(first))
		}
		if f := guessed(t, found, earlyGuesser); !near(f.Outcome.Succeeded, 8) {
			t.Errorf("%s logins worked, want 8 within one", show(f.Outcome.Succeeded))
		}
	}
}

// TestLoginTruthIsTheSame for any number of workers and any cut, and across a
// checkpoint.
func TestLoginTruthIsTheSame(t *testing.T) {
	site := hiddenSites()[1]
	l := &loginTraffic{rng: rand.New(rand.NewPCG(11, 1))}
	l.people(site, 1, 80, caseStart, time.Hour)
	l.guess(site, earlyGuesser, caseStart.Add(time.Minute), 200, 100)
	l.guess(site, lateGuesser, caseStart.Add(50*time.Minute), 200, 100)
	batch := l.batch()
	want, cross := withCross(t, pipeline.ShippedEdition(), batch, 1, 1)
	if len(want) == 0 || len(learnedBy(cross)) == 0 {
		t.Fatal("nothing was found, or learned")
	}
	wantBytes, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]int{{1, 4096}, {4, 4096}, {3, 700}} {
		got, _ := withCross(t, pipeline.ShippedEdition(), batch, c[0], c[1])
		gotBytes, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(wantBytes, gotBytes) {
			t.Errorf("%d workers and batches of %d find something else", c[0], c[1])
		}
	}
	chunks := map[uint32][]byte{}
	if err := cross.Changed(true, func(n uint32, data []byte) error { chunks[n] = data; return nil }); err != nil {
		t.Fatal(err)
	}
	again, err := NewCorrelator(Config{}, pipeline.ShippedEdition())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(cross.Head(), func(n uint32) ([]byte, error) { return chunks[n], nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(learnedBy(again), learnedBy(cross), func(a, b learnedTruth) bool {
		return a.Template == b.Template && slices.Equal(a.Answers, b.Answers)
	}) {
		t.Errorf("restored %v, want %v", learnedBy(again), learnedBy(cross))
	}
}

// TestLoginTruthTakesNoLies: what it takes to teach it something false.
func TestLoginTruthTakesNoLies(t *testing.T) {
	site := hiddenSites()[1]
	lies := func(clients int) []pipeline.Ordered {
		l := &loginTraffic{rng: rand.New(rand.NewPCG(13, 1))}
		l.people(site, 1, 80, caseStart, 2*time.Hour)
		for c := 300_000; c < 300_000+clients; c++ {
			// Fail once and look around, as if that had worked.
			at := caseStart.Add(time.Duration(l.rng.Int64N(int64(2 * time.Hour))))
			status, bytes := site.failed(l.rng)
			l.add(c, at, "POST", "/login", status, bytes)
			l.add(c, at+1e6, "GET", "/account", 200, 3000)
		}
		l.guess(site, lateGuesser, caseStart.Add(2*time.Hour+10*time.Minute), 200, 100)
		return l.batch()
	}
	for _, clients := range []int{0, 1, 5, 15, 200} {
		found, _ := withCross(t, pipeline.ShippedEdition(), lies(clients), 1, 4096)
		f := guessed(t, found, lateGuesser)
		t.Logf("%d liars: %s of 1 worked", clients, show(f.Outcome.Succeeded))
		if f.Outcome.Succeeded != nil && *f.Outcome.Succeeded > 2 {
			t.Errorf("%d liars teach that %d logins worked, want 1 or null", clients, *f.Outcome.Succeeded)
		}
		if clients <= 1 && !near(f.Outcome.Succeeded, 1) {
			t.Errorf("%d liars keep it from learning", clients)
		}
	}
}

// TestLoginTruthStaysLearned on a busy site for as long as it runs, and follows
// one whose pages change.
func TestLoginTruthStaysLearned(t *testing.T) {
	l := &loginTraffic{rng: rand.New(rand.NewPCG(19, 1))}
	before, after := hiddenSites()[2], hiddenSites()[2]
	after.failed = func(*rand.Rand) (uint16, int64) { return 302, 260 }
	after.worked = func(*rand.Rand) (uint16, int64) { return 302, 219 } // what a failure was
	l.people(before, 1, 6000, caseStart, 20*time.Hour)
	l.people(after, 10_000, 6000, caseStart.Add(20*time.Hour), 20*time.Hour)
	l.guess(before, earlyGuesser, caseStart.Add(19*time.Hour), 200, 50, 100, 150)
	l.guess(after, lateGuesser, caseStart.Add(39*time.Hour), 200, 50, 100, 150)
	found, _ := withCross(t, pipeline.ShippedEdition(), l.batch(), 1, 4096)
	for _, client := range []int{earlyGuesser, lateGuesser} {
		if f := guessed(t, found, client); !near(f.Outcome.Succeeded, 3) {
			t.Errorf("%s of 3 logins worked", show(f.Outcome.Succeeded))
		}
	}
}

// TestLoginTruthNeedsBothSides: one client alone, however busy, teaches nothing.
func TestLoginTruthNeedsBothSides(t *testing.T) {
	site := hiddenSites()[0]
	l := &loginTraffic{rng: rand.New(rand.NewPCG(17, 1))}
	l.people(site, 1, 3, caseStart, time.Hour)
	l.guess(site, lateGuesser, caseStart, 2000, 10, 20, 30)
	batch := l.batch()
	if _, cross := withCross(t, pipeline.ShippedEdition(), batch, 1, 4096); len(learnedBy(cross)) != 0 {
		t.Errorf("four clients taught %v", learnedBy(cross))
	}
	b, err := DecodeBaselines(fitted(t, batch).Detectors)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range b.Endpoints {
		if e.Truth != nil {
			t.Errorf("a fit of four clients learned %v", e.Truth)
		}
	}
}

// FuzzLoginAnswers: any answers leave the table in order and within its bounds.
func FuzzLoginAnswers(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Fuzz(func(t *testing.T, data []byte) {
		a := &answers{Template: 7}
		for len(data) >= 6 {
			size := int32(data[1])<<16 | int32(data[2])<<8 | int32(data[3])
			a.add(uint64(data[4])<<56|uint64(data[4]), 100+uint16(data[0])*2, size-1, sequel(data[5]%4))
			data = data[6:]
		}
		if len(a.Bins) > truthBins {
			t.Fatalf("%d ranges", len(a.Bins))
		}
		for i := range a.Bins {
			if b := &a.Bins[i]; b.From > b.To || i > 0 && a.Bins[i-1].Status == b.Status && a.Bins[i-1].To >= b.From || i > 0 && a.Bins[i-1].Status > b.Status {
				t.Fatalf("ranges out of order: %+v", a.Bins)
			}
		}
		a.learn()
	})
}
