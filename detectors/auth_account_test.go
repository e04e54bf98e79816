package detectors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// diary is one owner's logins and what others do with the account.
type diary struct {
	*town
	rng *rand.Rand
}

func newDiary(seed uint64) *diary {
	v := newTown(seed, 200, 400, .1)
	return &diary{v, rand.New(rand.NewPCG(seed, 77))}
}

// owner logs in n times a day for so many days, at home or at work.
func (d *diary) owner(days int) {
	for day := range days {
		for n := range 3 {
			at := caseStart.Add(time.Duration(day)*24*time.Hour + time.Duration(8+5*n)*time.Hour + time.Duration(d.rng.IntN(3600))*time.Second)
			a, asn := addressOf(20<<24|uint32(d.rng.IntN(3))), uint32(3000)
			if n == 1 {
				a, asn = addressOf(21<<24|7), 3001
			}
			status := uint16(200)
			if d.rng.IntN(10) == 0 {
				status = 401
			}
			r := d.login(at, a, asn, "Mozilla/5.0 (Macintosh) Chrome/140.0", "t13dm", "u_owner", status)
			r.Country = pipeline.Country{'D', 'E'}
		}
	}
}

func (d *diary) visit(at float64, a pipeline.Address, asn uint32, agent, ja4, country string, status uint16) {
	r := d.login(caseStart+pipeline.Time(at*86400e6), a, asn, agent, ja4, "u_owner", status)
	r.Country = pipeline.Country{country[0], country[1]}
}

// act is a request of the account that is no login.
func (d *diary) act(at float64, a pipeline.Address, method, path string) {
	t := caseStart + pipeline.Time(at*86400e6)
	r := &pipeline.Request{
		Time: t, Effective: t, Bytes: 900, Duration: -1, Owner: pipeline.HashPrincipal(pipeline.PrincipalAccount, "u_owner"), Kind: pipeline.PrincipalAccount,
		Status: 200, Address: a, Method: method, Path: path, Account: "u_owner", Agent: "x",
	}
	r.Seal()
	d.out = append(d.out, r)
}

// browse is a visit of the account in a session that was opened before.
func (d *diary) browse(at float64, a pipeline.Address, asn uint32, agent, ja4, country, session, method, path string) {
	d.act(at, a, method, path)
	r := d.out[len(d.out)-1]
	r.ASN, r.Agent, r.JA4, r.Session, r.Country = asn, agent, ja4, session, pipeline.Country{country[0], country[1]}
	r.AgentKey = 0
	r.Seal()
}

// stays logged in: three visits a day at home, some on the road.
func (d *diary) stays(days int) {
	for i := range 3 * days {
		at := float64(i)/3 + d.rng.Float64()/10
		a, asn := addressOf(20<<24|1), uint32(3000)
		if d.rng.IntN(4) == 0 {
			a, asn = addressOf(21<<24|uint32(d.rng.IntN(1<<16))), 3001
		}
		d.browse(at, a, asn, "Mozilla/5.0 (Macintosh) Chrome/140.0", "t13dm", "DE", "s_1", "GET", "/orders")
	}
}

// against keeps the last finding of each kind against an account.
func against(found []pipeline.Finding) (out []pipeline.Finding) {
	for _, f := range found {
		if f.Level != "account" {
			continue
		}
		if i := slices.IndexFunc(out, func(g pipeline.Finding) bool { return g.ID == f.ID && g.Detector == f.Detector }); i >= 0 {
			out[i] = f
		} else {
			out = append(out, f)
		}
	}
	return out
}

// guesses are attempts at the owner's account, each from another client.
func (d *diary) guesses(from float64, n int, gap float64, lastWorks bool) (last pipeline.Address) {
	for i := range n {
		status := uint16(401)
		if lastWorks && i == n-1 {
			status = 200
		}
		last = addressOf(uint32(100+d.rng.IntN(60))<<24 | uint32(d.rng.IntN(1<<24)))
		d.visit(from+float64(i)*gap, last, uint32(5000+d.rng.IntN(400)), fmt.Sprintf("Mozilla/5.0 Chrome/%d.0", 100+d.rng.IntN(30)), fmt.Sprintf("t13x%d", d.rng.IntN(9)), "US", status)
	}
	return last
}

// TestAccount holds what is said of one account, over 20 diaries each.
func TestAccount(t *testing.T) {
	foreign := addressOf(77<<24 | 12345)
	for _, c := range []struct {
		name string
		want string // "" nothing; else detector and tier
		make func(d *diary)
	}{
		{"an ordinary month", "", func(d *diary) { d.owner(30) }},
		{"a new phone at home", "", func(d *diary) {
			d.owner(20)
			for i := range 10 {
				d.visit(15+float64(i)/5, addressOf(20<<24|1), 3000, "App/7 (iPhone)", "t13ip", "DE", 200)
			}
		}},
		{"a journey with the same laptop", "", func(d *diary) {
			d.owner(20)
			for i := range 10 {
				d.visit(15+float64(i)/5, foreign, 7000, "Mozilla/5.0 (Macintosh) Chrome/140.0", "t13dm", "BR", 200)
			}
		}},
		{"a journey with a new phone", "", func(d *diary) {
			d.owner(20)
			for i := range 10 {
				d.visit(15+float64(i)/5, foreign, 7000, "App/7 (iPhone)", "t13ip", "BR", 200)
			}
		}},
		{"a phone with an old password that moves about for three weeks", "", func(d *diary) {
			d.owner(25)
			for i := range 400 {
				d.visit(2+float64(i)*.05, addressOf(30<<24|uint32(d.rng.IntN(3))<<16|uint32(d.rng.IntN(1<<14))), uint32(4000+i%3), "Mail/9", "t13ml", "DE", 401)
			}
		}},
		{"guessing by clients that change, 40 in an hour", "auth.bruteforce page failed", func(d *diary) {
			d.owner(12)
			d.guesses(10.1, 40, .001, false)
		}},
		{"guessing by clients that change, 10 a day", "at least a review", func(d *diary) {
			d.owner(15)
			d.guesses(6, 90, .1, false)
		}},
		{"guessing that works", "auth.bruteforce page succeeded, auth.takeover page succeeded", func(d *diary) {
			d.owner(12)
			d.guesses(10.1, 40, .001, true)
		}},
		{"twelve guesses, the last works, then the password is changed", "auth.takeover page succeeded", func(d *diary) {
			d.owner(20)
			last := d.guesses(15.1, 12, .001, true)
			d.act(15.12, last, "POST", "/account/password")
		}},
		{"a journey with a new phone, and the password is changed", "no page", func(d *diary) {
			d.owner(20)
			d.visit(15, foreign, 7000, "App/7 (iPhone)", "t13ip", "BR", 200)
			d.act(15.01, foreign, "POST", "/account/password")
		}},
		{"the password is changed at home", "", func(d *diary) {
			d.owner(20)
			d.visit(15, addressOf(20<<24|1), 3000, "Mozilla/5.0 (Macintosh) Chrome/140.0", "t13dm", "DE", 200)
			d.act(15.01, addressOf(20<<24|1), "POST", "/account/password")
		}},
	} {
		odd := 0
		for seed := range uint64(20) {
			d := newDiary(seed)
			d.live(14, 16, 0)
			c.make(d)
			var got []string
			for _, f := range against(crossed(t, 1, 4096, d.batch())) {
				tier, worked := "review", "failed"
				if f.Score >= pipeline.PageAt {
					tier = "page"
				}
				if f.Outcome.Succeeded != nil && *f.Outcome.Succeeded > 0 {
					worked = "succeeded"
				}
				if f.Who.Value != "u_owner" {
					worked += " (of " + f.Who.Value + ")"
				}
				var sum pipeline.Nats
				for _, sig := range f.Signals {
					sum += sig.Nats
				}
				if sum != f.Score {
					t.Errorf("%s, seed %d: the signals sum to %d, the score is %d", c.name, seed, sum, f.Score)
				}
				got = append(got, fmt.Sprintf("%s %s %s", f.Detector, tier, worked))
				if seed == 0 {
					t.Logf("%s: %.1f nats: %s %s", c.name, f.Score.Float(), f.Title, f.Reason)
				}
			}
			slices.Sort(got)
			text := ""
			for i, g := range got {
				if i > 0 {
					text += ", "
				}
				text += g
			}
			ok := text == c.want
			switch c.want {
			case "no page":
				ok = !strings.Contains(text, " page ")
			case "at least a review":
				ok = strings.HasPrefix(text, "auth.bruteforce ")
			}
			if !ok {
				odd++
				t.Logf("%s, seed %d: %q, want %q", c.name, seed, text, c.want)
			}
		}
		if odd > 1 {
			t.Errorf("%s: %d of 20 diaries are told otherwise", c.name, odd)
		}
	}
}

// TestAccountFloor holds how many guesses at one account take until it pages.
func TestAccountFloor(t *testing.T) {
	for _, c := range []struct {
		name    string
		gap     float64
		ceiling int
	}{
		{"a new client each time, 1 a minute", 1. / 1440, 30},
		{"a new client each time, 10 a day", .1, 55},
	} {
		var counts []float64
		for seed := range uint64(20) {
			d := newDiary(seed)
			d.owner(12)
			d.guesses(10.1, 80, c.gap, false)
			batch := d.batch()
			n := 0
			for _, f := range crossed(t, 1, 16, batch) {
				if f.Level == "account" && f.Score >= pipeline.PageAt {
					for _, r := range batch {
						if r.ASN >= 5000 && r.Effective <= f.Time {
							n++
						}
					}
					break
				}
			}
			if n > 0 {
				counts = append(counts, float64(n))
			}
		}
		median := quantile(counts, .5)
		t.Logf("%-40s pages after %.0f guesses, 90 %% within %.0f", c.name, median, quantile(counts, .9))
		if len(counts) < 19 || median > float64(c.ceiling) {
			t.Errorf("%s: %d of 20 page, median %.0f, want %d", c.name, len(counts), median, c.ceiling)
		}
	}
}

// TestAccountSame: batches and restarts change nothing.
func TestAccountSame(t *testing.T) {
	d := newDiary(3)
	d.live(0, 20, 0)
	d.owner(20)
	last := d.guesses(15.1, 30, .001, true)
	d.act(15.14, last, "POST", "/account/password")
	batch := d.batch()
	want := lines(t, crossed(t, 1, 4096, batch))
	if len(against(crossed(t, 1, 4096, batch))) < 2 {
		t.Fatal("not enough is found")
	}
	sameLines(t, "8 workers", lines(t, crossed(t, 8, 777, batch)), want)
	sameLines(t, "restored", lines(t, restarted(t, 501, batch)), want)
}

// catalogNames are the detectors that judge one principal.
func catalogNames() (names []string) {
	for _, e := range catalog() {
		names = append(names, e.name)
	}
	return names
}

// TestSession holds what is said of a session that goes on elsewhere, over 20
// diaries each, on a site that is known to serve these paths to accounts alone.
func TestSession(t *testing.T) {
	foreign := addressOf(77<<24 | 12345)
	site := &diary{&town{}, rand.New(rand.NewPCG(1, 2))}
	for i := range 1200 {
		path := []string{"/orders", "/me", "/account/password", "/account/email"}[i/60%4]
		site.browse(float64(i)/600, addressOf(30<<24|uint32(i%60)), 3000, "Mozilla/5.0 Chrome/140.0", "t13dm", "DE", "s", "GET", path)
		r := site.out[len(site.out)-1]
		r.Account = fmt.Sprintf("u_%d", i%60)
		r.Owner = pipeline.HashPrincipal(pipeline.PrincipalAccount, r.Account)
		if i%3 == 0 { // who is not logged in is sent away
			r.Account, r.Session, r.Status, r.Kind, r.Owner = "", "", 401, pipeline.PrincipalIP, r.Address.Owner()
		}
	}
	e := fitted(t, site.batch())
	for _, c := range []struct {
		name string
		want string // "" nothing, review (at least), page
		make func(d *diary)
	}{
		{"a session that lasts", "", func(d *diary) { d.stays(30) }},
		{"a session that goes on elsewhere with another browser", "review", func(d *diary) {
			d.stays(20)
			d.browse(15, foreign, 7000, "Mozilla/5.0 (X11; Linux) Firefox/140.0", "t13ff", "BR", "s_1", "GET", "/me")
			d.browse(15.001, foreign, 7000, "Mozilla/5.0 (X11; Linux) Firefox/140.0", "t13ff", "BR", "s_1", "GET", "/orders")
		}},
		{"the same, and the password is changed", "page", func(d *diary) {
			d.stays(20)
			d.browse(15, foreign, 7000, "Mozilla/5.0 (X11; Linux) Firefox/140.0", "t13ff", "BR", "s_1", "GET", "/me")
			d.browse(15.001, foreign, 7000, "Mozilla/5.0 (X11; Linux) Firefox/140.0", "t13ff", "BR", "s_1", "POST", "/account/password")
		}},
		{"a session that travels with its browser", "", func(d *diary) {
			d.stays(20)
			for i := range 9 {
				d.browse(15+float64(i)/3, foreign, 7000, "Mozilla/5.0 (Macintosh) Chrome/140.0", "t13dm", "BR", "s_1", []string{"GET", "POST"}[i%2], "/account/password")
			}
		}},
		{"a browser that is updated, on a journey", "", func(d *diary) {
			d.stays(20)
			for i := range 9 {
				d.browse(15+float64(i)/3, foreign, 7000, "Mozilla/5.0 (Macintosh) Chrome/141.0", "t13dn", "BR", "s_1", []string{"GET", "POST"}[i%2], "/account/password")
			}
		}},
		{"an app that hands its session to a browser at home, then on a journey", "", func(d *diary) {
			d.stays(20)
			for i := range 30 {
				a, asn := addressOf(20<<24|1), uint32(3000)
				if i > 20 {
					a, asn = foreign, 7000
				}
				d.browse(5+float64(i)/3, a, asn, "App/7 (iPhone)", "t13ip", "DE", "s_1", []string{"GET", "POST"}[i%2], "/account/email")
			}
		}},
		{"a new session on a new phone on a journey", "", func(d *diary) {
			d.stays(20)
			for i := range 9 {
				d.browse(15+float64(i)/3, foreign, 7000, "App/7 (iPhone)", "t13ip", "BR", "s_2", []string{"GET", "POST"}[i%2], "/account/email")
			}
		}},
	} {
		for seed := range uint64(20) {
			d := &diary{&town{}, rand.New(rand.NewPCG(seed, 77))}
			c.make(d)
			got, nats := "", pipeline.Nats(0)
			for _, f := range crossedUnder(t, e, 1, 4096, d.batch()) {
				if f.Detector != nameTakeover {
					continue
				}
				var sum pipeline.Nats
				for _, sig := range f.Signals {
					sum += sig.Nats
				}
				if sum != f.Score || f.Who.Value != "u_owner" {
					t.Errorf("%s, seed %d: the signals sum to %d, the score is %d; %v", c.name, seed, sum, f.Score, f.Who)
				}
				if nats = max(nats, f.Score); seed == 0 {
					t.Logf("%s: %.1f nats: %s %s", c.name, f.Score.Float(), f.Title, f.Reason)
				}
			}
			if nats >= pipeline.PageAt {
				got = "page"
			} else if nats > 0 {
				got = "review"
			}
			if got != c.want && (c.want != "review" || got != "page") {
				t.Errorf("%s, seed %d: %q, want %q", c.name, seed, got, c.want)
			}
		}
	}
}
