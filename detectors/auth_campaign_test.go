package detectors

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
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
			asn = uint32(2000 + i%300)
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
	x, err := NewCorrelator(Config{}, pipeline.ShippedEdition())
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, Config{Workers: workers, Cross: x}, pipeline.ShippedEdition())
	var out []pipeline.Finding
	for part := range slices.Chunk(batch, chunk) {
		out = s.Process(out, part)
	}
	return s.Advance(out, batch[len(batch)-1].Effective.Add(2*time.Minute))
}

// wide keeps the findings above the level of a client.
func wider(found []pipeline.Finding) (out []pipeline.Finding) {
	for _, f := range found {
		if f.Level != "client" {
			out = append(out, f)
		}
	}
	return out
}

func TestCampaignTown(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(seed uint64) *town
	}{
		{"quiet", func(seed uint64) *town {
			v := newTown(seed, 3000, 10000, .1)
			v.live(0, 6, 0)
			return v
		}},
		{"diffuse 3 % of 100k", func(seed uint64) *town {
			v := newTown(seed, 30000, 100000, .1)
			v.noise = .005
			v.live(0, 4, 0)
			v.raid(raid{from: 3.3, to: 4, sources: 1000, perDay: 3000, known: .02, worked: .1})
			return v
		}},
		{"tool", func(seed uint64) *town {
			v := newTown(seed, 3000, 10000, .1)
			v.live(0, 3, 0)
			v.raid(raid{from: 2.3, to: 3, sources: 200, perDay: 1000, agent: "python-requests/2.31", known: .1, worked: .2})
			return v
		}},
		{"outage", func(seed uint64) *town {
			v := newTown(seed, 3000, 10000, .1)
			v.live(0, 2.4, 0)
			v.live(2.4, 2.6, 1)
			v.live(2.6, 3, 0)
			return v
		}},
		{"half broken", func(seed uint64) *town {
			v := newTown(seed, 3000, 10000, .1)
			v.live(0, 2.4, 0)
			v.live(2.4, 2.8, .3)
			v.live(2.8, 3, 0)
			return v
		}},
		{"broken app", func(seed uint64) *town {
			v := newTown(seed, 3000, 10000, .1)
			v.live(0, 2.4, 0)
			v.liveOf(2.4, 3, 1, func(p *townsman) bool { return p.ja4 == "t13d03" })
			return v
		}},
	} {
		began := time.Now()
		v := c.make(1)
		batch := v.batch()
		made := time.Since(began)
		found := crossed(t, 1, 4096, batch)
		t.Logf("== %s: %d logins, made in %v, run in %v, %d findings", c.name, len(batch), made, time.Since(began)-made, len(found))
		for i, f := range wider(found) {
			if i < 6 {
				t.Logf("%v %s %s %.1f | %s | %s | %s | members %d acc %v", f.Time.Std().Format("02 15:04"), f.Detector, f.Level, f.Score.Float(), f.Title, f.Reason, f.Predicate, f.MembersTotal, len(f.Accounts))
			}
		}
	}
}
