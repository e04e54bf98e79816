package detectors

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// town is a site's people and how they log in: each has an account, an agent, a
// home and a way of mistyping. It writes requests, in order of time.
type town struct {
	rng    *rand.Rand
	people []townsman
	perDay float64
	noise  float64 // beyond chance, in the share that fails
	drift  float64
	hidden bool // the log shows no accounts
	out    []*pipeline.Request
	bad    map[string]bool // attackers' addresses
}

type townsman struct {
	account, agent string
	home, mobile   pipeline.Address
	asn            uint32
	ja4            string
	fails          float64
}

func addressOf(n uint32) (a pipeline.Address) {
	a[10], a[11], a[12], a[13], a[14], a[15] = 0xff, 0xff, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return a
}

func newTown(seed uint64, people int, perDay, share float64) *town {
	v := &town{rng: rand.New(rand.NewPCG(seed, 9)), perDay: perDay, bad: map[string]bool{}}
	for i := range people {
		browser := v.rng.IntN(60)
		isp := v.rng.IntN(12)
		v.people = append(v.people, townsman{
			account: fmt.Sprintf("u_%d", i), agent: fmt.Sprintf("Mozilla/5.0 (%d) Chrome/1%d.0 Safari/537.36", browser%7, browser), asn: uint32(1000 + isp),
			home: addressOf(10<<24 | uint32(isp)<<20 | uint32(v.rng.IntN(1<<20))), mobile: addressOf(10<<24 | 13<<20 | uint32(v.rng.IntN(1<<14))),
			ja4: fmt.Sprintf("t13d%02d", browser%9), fails: betaDraw(v.rng, [2]float64{1, (1 - share) / share}),
		})
	}
	return v
}

func (v *town) login(at pipeline.Time, a pipeline.Address, asn uint32, agent, ja4, account string, status uint16) *pipeline.Request {
	r := &pipeline.Request{
		Time: at, Effective: at, Bytes: 900, Duration: -1, Owner: a.Owner(), Kind: pipeline.PrincipalIP, Flags: pipeline.FlagLogin,
		Status: status, Address: a, ASN: asn, Method: "POST", Path: "/login", Agent: agent, JA4: ja4, LoginUser: account,
	}
	if v.hidden {
		r.LoginUser = ""
	}
	r.Seal()
	v.out = append(v.out, r)
	return r
}

// live lets people log in between two times in days; broken is the share of those
// that would have worked and fail all the same.
func (v *town) live(from, to, broken float64) {
	v.liveOf(from, to, broken, func(*townsman) bool { return true })
}

func (v *town) liveOf(from, to, broken float64, hit func(*townsman) bool) {
	for at := from; at < to; {
		rate := v.perDay * (1 + 0.6*math.Sin(2*math.Pi*at))
		step := v.rng.ExpFloat64() / rate
		at += step
		decay := math.Exp(-step * 4)
		v.drift = v.drift*decay + v.noise*math.Sqrt(1-decay*decay)*v.rng.NormFloat64()
		p := &v.people[v.rng.IntN(len(v.people))]
		where, asn := p.home, p.asn
		if v.rng.IntN(5) == 0 {
			where, asn = p.mobile, 1013
		}
		status := uint16(200)
		if v.rng.Float64() < p.fails+v.drift || hit(p) && v.rng.Float64() < broken {
			status = 401
		}
		v.login(caseStart+pipeline.Time(at*86400e6), where, asn, p.agent, p.ja4, p.account, status)
	}
}

// raid is an attack by sources that share some of these.
type raid struct {
	from, to   float64
	sources    int
	perDay     float64 // attempts of all of them
	agent, ja4 string  // "": as people have them
	asn        uint32  // 0: anywhere
	worked     float64
	accounts   int     // 0: a new one each time
	known      float64 // share of the names tried that exist
	firstOctet uint32
}

func (v *town) raid(x raid) {
	for at := x.from; at < x.to; {
		at += v.rng.ExpFloat64() / x.perDay
		i := uint32(v.rng.IntN(x.sources))
		like := &v.people[(int(i)*7919)%len(v.people)]
		octet := x.firstOctet
		if octet == 0 {
			octet = 100
		}
		a := addressOf(octet<<24 | i*2654435761>>8&0xffffff)
		agent, ja4, asn := x.agent, x.ja4, x.asn
		if agent == "" {
			agent = like.agent
		}
		if ja4 == "" {
			ja4 = like.ja4
		}
		if asn == 0 {
			asn = 2000 + i%300
		}
		account := fmt.Sprintf("x_%d", v.rng.IntN(1<<30))
		if x.accounts > 0 {
			account = fmt.Sprintf("x_%d", v.rng.IntN(x.accounts))
		}
		status := uint16(401)
		if v.rng.Float64() < x.known {
			account = v.people[v.rng.IntN(len(v.people))].account
			if v.rng.Float64() < x.worked {
				status = 200
			}
		}
		v.bad[a.String()] = true
		v.login(caseStart+pipeline.Time(at*86400e6), a, asn, agent, ja4, account, status)
	}
}

// batch is all of it in order.
func (v *town) batch() []pipeline.Ordered {
	slices.SortStableFunc(v.out, func(a, b *pipeline.Request) int { return int(max(-1, min(1, a.Effective-b.Effective))) })
	block := &pipeline.Block{Source: "town"}
	out := make([]pipeline.Ordered, len(v.out))
	for i, r := range v.out {
		out[i] = pipeline.Ordered{Request: r, Block: block}
	}
	return out
}

// crossed runs a batch through detect and correlate.
func crossed(t testing.TB, workers, chunk int, batch []pipeline.Ordered) []pipeline.Finding {
	t.Helper()
	return crossedUnder(t, pipeline.ShippedEdition(), workers, chunk, batch)
}

func crossedUnder(t testing.TB, e *pipeline.Edition, workers, chunk int, batch []pipeline.Ordered) []pipeline.Finding {
	t.Helper()
	x, err := NewCorrelator(Config{}, e)
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, Config{Workers: workers, Cross: x}, e)
	var out []pipeline.Finding
	for part := range slices.Chunk(batch, chunk) {
		out = s.Process(out, part)
	}
	return s.Advance(out, batch[len(batch)-1].Effective.Add(2*time.Minute))
}

// wider keeps the findings above the level of a client and of an account.
func wider(found []pipeline.Finding) (out []pipeline.Finding) {
	for _, f := range found {
		if f.Level == "campaign" || f.Level == "endpoint" {
			out = append(out, f)
		}
	}
	return out
}

// campaigns keeps one finding, the last, of each campaign; notices apart.
func campaignsOf(found []pipeline.Finding) (attacks, notices []pipeline.Finding) {
	for _, f := range wider(found) {
		to := &attacks
		if f.Facts.Notice {
			to = &notices
		}
		if i := slices.IndexFunc(*to, func(g pipeline.Finding) bool { return g.ID == f.ID }); i >= 0 {
			(*to)[i] = f
		} else {
			*to = append(*to, f)
		}
	}
	return attacks, notices
}

// townSeeds is how many towns of each kind are built.
const townSeeds = 20

// benignTown is traffic without an attack.
type benignTown struct {
	name    string
	notices int // that each seed must give at least
	odd     int // campaigns that are known to be told all the same, of all seeds together
	make    func(seed uint64) *town
}

func benignTowns() []benignTown {
	small := func(seed uint64) *town { return newTown(seed, 1500, 5000, .1) }
	return []benignTown{
		{"an ordinary week", 0, 0, func(seed uint64) *town {
			v := small(seed)
			v.noise = .005
			v.live(0, 3, 0)
			return v
		}},
		{"no accounts in the log", 0, 0, func(seed uint64) *town {
			v := small(seed)
			v.hidden = true
			v.live(0, 2, 0)
			return v
		}},
		{"a third fails", 0, 0, func(seed uint64) *town {
			v := newTown(seed, 2000, 4000, .33)
			v.live(0, 3, 0)
			return v
		}},
		{"everything fails for an hour", 1, 0, func(seed uint64) *town {
			v := small(seed)
			v.live(0, 2.4, 0)
			v.live(2.4, 2.45, 1)
			v.live(2.45, 3, 0)
			return v
		}},
		{"everything fails, no accounts in the log", 1, 0, func(seed uint64) *town {
			v := small(seed)
			v.hidden = true
			v.live(0, 2.4, 0)
			v.live(2.4, 2.5, 1)
			v.live(2.5, 3, 0)
			return v
		}},
		{"everything fails on the first morning", 0, 2, func(seed uint64) *town {
			v := small(seed)
			v.live(0, .2, 0)
			v.live(.2, .3, 1)
			v.live(.3, 1, 0)
			return v
		}},
		{"a third of the logins breaks", 1, 0, func(seed uint64) *town {
			v := small(seed)
			v.live(0, 2.4, 0)
			v.live(2.4, 2.8, .3)
			v.live(2.8, 3, 0)
			return v
		}},
		{"one browser cannot log in", 1, 0, func(seed uint64) *town {
			v := small(seed)
			v.live(0, 2.4, 0)
			v.liveOf(2.4, 3, 1, func(p *townsman) bool { return p.ja4 == "t13d03" })
			return v
		}},
		{"everybody is logged out and comes back", 0, 0, func(seed uint64) *town {
			v := small(seed)
			v.live(0, 2.4, 0)
			v.perDay *= 20
			v.live(2.4, 2.5, 0)
			v.perDay /= 20
			v.live(2.5, 3, 0)
			return v
		}},
		{"a new version of the browser", 0, 0, func(seed uint64) *town {
			v := small(seed)
			v.live(0, 2, 0)
			for i := range v.people {
				if i%5 == 0 {
					v.people[i].agent, v.people[i].ja4 = "Mozilla/5.0 Chrome/200.0 Safari/537.36", "t13d99"
				}
			}
			v.live(2, 3, 0)
			return v
		}},
		{"new people move in", 0, 0, func(seed uint64) *town {
			v := small(seed)
			v.live(0, 2, 0)
			more := newTown(seed+1000, 3000, 0, .1).people
			for i := range more {
				more[i].account = "n" + more[i].account
			}
			v.people, v.perDay = append(v.people, more...), 2*v.perDay
			v.live(2, 3, 0)
			return v
		}},
		{"a monitor with a wrong password from five places", 0, 0, func(seed uint64) *town {
			v := small(seed)
			v.live(0, 3, 0)
			for i := range 1500 {
				v.login(caseStart.Add(time.Duration(i)*2*time.Minute), addressOf(192<<24|uint32(i%5)), 77, "monitor/1", "t13dm", "u_probe", 401)
			}
			return v
		}},
	}
}

// TestCampaignBenign: what ordinary sites go through is no campaign; what breaks is
// told as health.logins.
func TestCampaignBenign(t *testing.T) {
	ran := 0
	for _, c := range benignTowns() {
		odd := 0
		for seed := range uint64(8) {
			ran++
			batch := c.make(seed).batch()
			attacks, notices := campaignsOf(crossed(t, 1, 4096, batch))
			for _, f := range attacks {
				if odd++; odd <= c.odd {
					continue
				}
				t.Errorf("%s, seed %d: %s %s at %s: %s", c.name, seed, f.Level, f.Detector, f.Time.Std().Format("02 15:04"), f.Reason)
			}
			if len(notices) < c.notices {
				t.Errorf("%s, seed %d: %d notices", c.name, seed, len(notices))
			}
			if c.notices == 0 && len(notices) > 1 {
				t.Errorf("%s, seed %d: %d notices, such as %s", c.name, seed, len(notices), notices[0].Reason)
			}
		}
	}
	if ran == 0 {
		t.Fatal("nothing ran")
	}
}

// TestCampaignFloor holds after how many of the attackers' attempts a campaign by
// a cohort pages, and what the alert says of it.
func TestCampaignFloor(t *testing.T) {
	small := func(seed uint64) *town {
		v := newTown(seed, 1500, 5000, .1)
		v.live(1.6, 2.8, 0)
		return v
	}
	for _, c := range []struct {
		name      string
		attempts  int // the median, at most
		predicate string
		detector  string
		make      func(seed uint64) *town
	}{
		{"200 sources, one tool", 20, "agent python-requests/2.31", "auth.stuffing", func(seed uint64) *town {
			v := small(seed)
			v.raid(raid{from: 2.3, to: 2.6, sources: 200, perDay: 700, agent: "python-requests/2.31", known: .1, worked: .2})
			return v
		}},
		{"200 sources, one tool, no accounts in the log", 20, "agent python-requests/2.31", "auth.stuffing", func(seed uint64) *town {
			v := newTown(seed, 1500, 5000, .1)
			v.hidden = true
			v.live(1.6, 2.8, 0)
			v.raid(raid{from: 2.3, to: 2.6, sources: 200, perDay: 700, agent: "python-requests/2.31", known: .1, worked: .2})
			return v
		}},
		{"200 sources, one TLS stack, agents like people's", 40, "JA4 t13d1516h2_tool", "auth.stuffing", func(seed uint64) *town {
			v := small(seed)
			v.raid(raid{from: 2.3, to: 2.6, sources: 200, perDay: 1000, ja4: "t13d1516h2_tool", known: .1, worked: .2})
			return v
		}},
		{"200 sources in one network operator", 40, "AS64500", "auth.stuffing", func(seed uint64) *town {
			v := small(seed)
			v.raid(raid{from: 2.3, to: 2.6, sources: 200, perDay: 1000, asn: 64500, known: .1, worked: .2})
			return v
		}},
		{"spraying: 40 accounts, 100 sources", 40, "agent sprayer/1", "auth.spraying", func(seed uint64) *town {
			v := small(seed)
			v.raid(raid{from: 2.3, to: 2.9, sources: 100, perDay: 1000, agent: "sprayer/1", accounts: 40})
			return v
		}},
		{"10 a day for a week, one tool", 40, "agent slow/1", "auth.stuffing", func(seed uint64) *town {
			v := newTown(seed, 500, 1500, .1)
			v.live(1, 8, 0)
			v.raid(raid{from: 2, to: 8, sources: 300, perDay: 10, agent: "slow/1"})
			return v
		}},
	} {
		var counts []float64
		for seed := range uint64(townSeeds) {
			v := c.make(seed)
			batch := v.batch()
			found := crossed(t, 1, 256, batch)
			attacks, notices := campaignsOf(found)
			if len(attacks) != 1 || len(notices) > 0 {
				t.Errorf("%s, seed %d: %d campaigns, %d notices", c.name, seed, len(attacks), len(notices))
				for _, f := range append(attacks, notices...) {
					t.Logf("%s at %s: %s", f.Detector, f.Time.Std().Format("02 15:04"), f.Reason)
				}
				continue
			}
			f := attacks[0]
			if f.Predicate != c.predicate {
				t.Errorf("%s, seed %d: in common %q", c.name, seed, f.Predicate)
			}
			opened := wider(found)[0]
			n, won, total := 0, int64(0), int64(0)
			for _, r := range batch {
				if !v.bad[r.Address.String()] {
					continue
				}
				total++
				if r.Status == 200 {
					won++
				}
				if r.Effective <= opened.Time {
					n++
				}
			}
			counts = append(counts, float64(n))
			if opened.Score < pipeline.PageAt {
				t.Errorf("%s, seed %d: opens with %.1f nats", c.name, seed, opened.Score.Float())
			}
			if c.detector != f.Detector && c.detector == nameStuffing {
				t.Errorf("%s, seed %d: told as %s", c.name, seed, f.Detector)
			}
			for _, m := range f.Members {
				if !v.bad[m.Value] {
					t.Errorf("%s, seed %d: %s is no attacker", c.name, seed, m.Value)
				}
			}
			if f.Outcome.Succeeded == nil || *f.Outcome.Succeeded > won || *f.Outcome.Succeeded < won-1 {
				t.Errorf("%s, seed %d: %d of %d logins that worked", c.name, seed, *f.Outcome.Succeeded, won)
			}
			if e := f.Estimate; e == nil || e.Attempts*100 < total*85 || e.Attempts > total {
				t.Errorf("%s, seed %d: estimate %+v of %d", c.name, seed, e, total)
			}
		}
		median := quantile(counts, .5)
		t.Logf("%-52s pages after %3.0f attempts of all sources together, 90 %% within %.0f", c.name, median, quantile(counts, .9))
		if len(counts) == 0 || median > float64(c.attempts) {
			t.Errorf("%s: pages after %.0f attempts, want %d", c.name, median, c.attempts)
		}
	}
}

// TestCampaignDiffuse: sources that share nothing show in the endpoint's failures.
func TestCampaignDiffuse(t *testing.T) {
	v := newTown(3, 30000, 100000, .1)
	v.noise = .003
	v.live(0, 4.5, 0)
	v.raid(raid{from: 4, to: 4.5, sources: 1000, perDay: 5000, known: .02, worked: .5})
	attacks, notices := campaignsOf(crossed(t, 1, 4096, v.batch()))
	if len(attacks) != 1 || len(notices) != 0 {
		t.Fatalf("%d campaigns, %d notices", len(attacks), len(notices))
	}
	f := attacks[0]
	if f.Who != (pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: "POST /login"}) || !strings.HasPrefix(f.Predicate, "diffuse") && f.Predicate != "clients that never logged in before" ||
		f.Estimate == nil || f.Estimate.Low > 2500 || f.Estimate.High < 2500 || f.MembersTotal < 500 || f.MembersTotal > 2500 || len(f.Members) != 64 {
		t.Errorf("%s, %s, %d members, estimate %+v of 2,500", f.Reason, f.Predicate, f.MembersTotal, f.Estimate)
	}
}

// TestCampaignNames: an office among the addresses of a campaign is not named, nor
// are its people, who mistype now and then and mostly get in.
func TestCampaignNames(t *testing.T) {
	v := newTown(5, 2000, 4000, .1)
	v.live(.6, 3, 0)
	x := raid{from: 2, to: 2.5, sources: 60, perDay: 2000, agent: "python-requests/2.31", known: .1, worked: .3}
	v.raid(x)
	office := addressOf(203<<24 | 99)
	for i := range 60 { // their agent is the attack's: of what they share, they are the innocent
		at := caseStart + pipeline.Time((1.9+float64(i)*.01)*86400e6)
		account := fmt.Sprintf("office_%d", i)
		if i%4 == 1 {
			v.login(at, office, 2001, x.agent, "", account, 401)
			at += 20e6
		}
		if i%12 != 1 {
			v.login(at, office, 2001, x.agent, "", account, 200)
		}
	}
	attacks, _ := campaignsOf(crossed(t, 1, 4096, v.batch()))
	named, broken := 0, 0
	for _, f := range attacks {
		for _, m := range f.Members {
			if m.Value == office.PrincipalValue() {
				t.Errorf("%s names the office", f.Title)
			}
			named++
		}
		for _, a := range f.Accounts {
			if strings.HasPrefix(a.Name, "office_") {
				t.Errorf("%s names %s, %s", f.Title, a.Name, a.Outcome)
			}
			if a.Outcome == "success" {
				broken++
			}
		}
	}
	if named < 30 || broken == 0 {
		t.Errorf("%d members of 60 named, %d accounts that they got into", named, broken)
	}
}

// TestCampaignSame: workers, batches and restarts change nothing.
func TestCampaignSame(t *testing.T) {
	v := newTown(4, 1000, 4000, .1)
	v.live(.6, 3, 0)
	v.raid(raid{from: 1.3, to: 2.6, sources: 200, perDay: 700, agent: "python-requests/2.31", known: .1, worked: .2})
	v.raid(raid{from: 2.2, to: 3, sources: 900, perDay: 1500, known: .1, worked: .2, firstOctet: 90})
	batch := v.batch()
	want := lines(t, crossed(t, 1, 4096, batch))
	if attacks, _ := campaignsOf(crossed(t, 1, 4096, batch)); len(attacks) == 0 {
		t.Fatal("no campaign")
	}
	for _, workers := range []int{2, 8} {
		for _, chunk := range []int{97, 1000, 8192} {
			sameLines(t, fmt.Sprintf("%d workers, batches of %d", workers, chunk), lines(t, crossed(t, workers, chunk, batch)), want)
		}
	}
	for _, every := range []int{433, 3001} {
		sameLines(t, fmt.Sprintf("restored every %d", every), lines(t, restarted(t, every, batch)), want)
	}
}

// restarted is crossed with both states written and read back every so often.
func restarted(t testing.TB, every int, batch []pipeline.Ordered) (out []pipeline.Finding) {
	t.Helper()
	edition := pipeline.ShippedEdition()
	x, err := NewCorrelator(Config{}, edition)
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, Config{Cross: x}, edition)
	sets, crossings := map[uint32][]byte{}, map[uint32][]byte{}
	keepIn := func(m map[uint32][]byte) func(uint32, []byte) error {
		return func(n uint32, data []byte) error { m[n] = slices.Clone(data); return nil }
	}
	for part := range slices.Chunk(batch, every) {
		out = s.Process(out, part)
		if err := errors.Join(s.Changed(false, keepIn(sets)), x.Changed(false, keepIn(crossings))); err != nil {
			t.Fatal(err)
		}
		next, err := NewCorrelator(Config{}, edition)
		if err != nil {
			t.Fatal(err)
		}
		if err := next.Restore(x.Head(), func(n uint32) ([]byte, error) { return crossings[n], nil }); err != nil {
			t.Fatal(err)
		}
		set := newSet(t, Config{Cross: next}, edition)
		if err := set.Restore(s.Head(), func(n uint32) ([]byte, error) { return sets[n], nil }); err != nil {
			t.Fatal(err)
		}
		s, x = set, next
	}
	return s.Advance(out, batch[len(batch)-1].Effective.Add(2*time.Minute))
}

// TestLoginTableRefuses: a checkpoint that is cut or made up is an error, never a
// panic.
func FuzzLoginTable(f *testing.F) {
	v := newTown(4, 200, 2000, .1)
	v.live(0, .5, 0)
	x, err := NewCorrelator(Config{}, pipeline.ShippedEdition())
	if err != nil {
		f.Fatal(err)
	}
	s := newSet(f, Config{Cross: x}, pipeline.ShippedEdition())
	s.Process(nil, v.batch())
	for _, c := range x.shards {
		if c == nil {
			continue
		}
		for _, t := range c.tables {
			if t, ok := t.(*loginTable); ok {
				data, err := t.encode(nil)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(data)
				f.Add(data[:len(data)/2])
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var table loginTable
		if err := table.decode(data); err != nil {
			return
		}
		if _, err := table.encode(nil); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
