package detectors

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"weir/pipeline"
)

// TestPeople puts crowds behind one address and compares the estimate with the
// truth: within a factor of two, from agents alone and from credentials.
func TestPeople(t *testing.T) {
	agentOf := func(rng *rand.Rand, zipf *rand.Zipf) string {
		if rng.IntN(20) == 0 {
			return fmt.Sprintf("Mozilla/5.0 rare %d", rng.Uint64())
		}
		return fmt.Sprintf("Mozilla/5.0 common %d", zipf.Uint64())
	}
	zipfOf := func(rng *rand.Rand) *rand.Zipf { return rand.NewZipf(rng, 1.3, 4, 400) }
	request := func(at pipeline.Time, a pipeline.Address, agent, session string) pipeline.Request {
		r := pipeline.Request{
			Time: at, Effective: at, Bytes: 900, Duration: -1, Status: 200, Address: a, Method: "GET",
			Path: "/page", Agent: agent, Session: session, Kind: pipeline.PrincipalIP, Owner: a.Owner(),
		}
		if session != "" {
			r.Kind, r.Owner = pipeline.PrincipalSession, pipeline.HashPrincipal(pipeline.PrincipalSession, session)
		}
		r.Seal()
		return r
	}
	rng := rand.New(rand.NewPCG(5, 5))
	zipf := zipfOf(rng)
	fitter := NewFitter()
	for i := range 3000 {
		a := pipeline.Address{10: 0xff, 11: 0xff, 12: 100, 14: byte(i >> 8), 15: byte(i)}
		agent := agentOf(rng, zipf)
		for k := range 3 {
			r := request(caseStart.Add(time.Duration(k)*time.Second), a, agent, "")
			fitter.Add(&r)
		}
	}
	e, err := fitter.Fit(0)
	if err != nil {
		t.Fatal(err)
	}
	f := func(edition *pipeline.Edition, people int, sessions bool, seed uint64) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 9))
		zipf := zipfOf(rng)
		address := pipeline.Address{10: 0xff, 11: 0xff, 12: 203, 14: 113, 15: 9}
		s := newSet(t, Config{}, edition)
		block := &pipeline.Block{Source: "crowd"}
		at := caseStart
		type person struct{ agent, session string }
		var crowd []person
		for i := range people {
			p := person{agent: agentOf(rng, zipf)}
			if sessions {
				p.session = fmt.Sprintf("s_%d", i)
			}
			crowd = append(crowd, p)
		}
		for range 12 * people {
			p := crowd[rng.IntN(people)]
			at = at.Add(time.Second)
			r := request(at, address, p.agent, p.session)
			s.Process(nil, []pipeline.Ordered{{Request: &r, Block: block}})
		}
		sh := s.shards[pipeline.Shard(address.Owner())]
		st, _ := sh.find(address.Owner())
		if st.full == 0 {
			t.Fatalf("%d people have no profile", people)
		}
		low, high := sh.profile(st.full - 1).people(s.baselines)
		if mid := (low + high + 1) / 2; mid*2 < people || mid > 2*people {
			t.Errorf("%d people (sessions %v, seed %d): estimated %d to %d", people, sessions, seed, low, high)
		}
	}
	for seed := range uint64(10) {
		for _, people := range []int{1, 20, 100, 500} {
			f(e, people, false, seed)
			f(e, people, true, seed)
		}
	}
	for seed := range uint64(3) { // nobody has taught yet: sessions tell all the same
		f(pipeline.ShippedEdition(), 20, true, seed)
		f(pipeline.ShippedEdition(), 500, true, seed)
	}
}

func TestCrowdCurveReadsBackwards(t *testing.T) {
	c := shippedCrowd()
	for i := range peopleSizes {
		if got := c.people(int(c[i]+128) / 256); got < peopleAt(i)*8/10 || got > peopleAt(i)*12/10+1 {
			t.Errorf("%d agents: %d people, want about %d", c[i]/256, got, peopleAt(i))
		}
	}
	if got := c.people(1 << 30); got != 1000 {
		t.Errorf("beyond the curve: %d", got)
	}
	if (&CrowdCurve{}).rising() {
		t.Error("no curve can be read backwards")
	}
}
