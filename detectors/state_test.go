package detectors

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/pipeline"
)

// mixedTraffic is ordinary traffic of a shop with every kind of attack in it,
// some by credentials, in order.
func mixedTraffic(t testing.TB) []pipeline.Ordered {
	t.Helper()
	events, err := parseEvents(`
@0s 10.{random:1-3}.{random:0-9}.{random:1-40} 9000 every 2s~ GET /item/{zipf:600} 200/404:2 agent=Mozilla/5.{random:1-60}
@0s 10.{random:1-3}.{random:0-9}.{random:1-40} 2500 every 7s~ GET /orders/{random:1000-90000} 200/403:2 agent=Mozilla/5.{random:1-60}
@0s 10.{random:1-3}.{random:0-9}.{random:1-40} 900 every 20s~ POST /login 200/401:12 agent=Mozilla/5.{random:1-60}
@0s 10.{random:1-3}.{random:0-9}.{random:1-40} 1500 every 12s~ GET /orders/{random:1000-90000} 200 user=u{random:1-300} agent=Mozilla/5.{random:1-60}
@10m 203.0.113.{n%9+1} 400 every 3s GET /{word}-{random:1-40} 404 agent=scan
@1h 203.0.113.20 260 every 400ms POST /login 401,401,401,401,401,401,401,401,401,200 agent=hydra
@1h10m 203.0.113.21 120 every 20s GET /orders/{n+5000} 403,200
@20m 203.0.113.22 2400 every 5s GET /item/{shuffle:1-4000} 200
@30m 2001:db8:7:7:{hex}:{hex}:{hex}:{hex} 1500 every 6s~ GET /item/{shuffle:1-5000} 200 agent=Mozilla/5.{random:1-900}
@40m 203.0.113.23 1500 every 6s GET /item/{shuffle:1-4000} 200 user=mallory agent=python
@1h20m 203.0.113.25 40 every 7s GET /item/{n%5+1}?q{n%7}=%27+or+1%3D1-- 200,500
@1h30m 203.0.113.26 30 every 20s GET /item/{n*9+1}?limit=5000 200 bytes=900000
@1h40m 203.0.113.27 2500 every 25ms GET /item/3 200,200,502
@2h 203.0.113.24 200 every 10s GET /orders/{n*17+7000} 403,404 user=eve{n%7}
@15m 203.0.113.25 90 every 50s POST /login 401,401,401,401,401,401,200 login=leak{n} agent=okhttp
@25m 203.0.113.26 90 every 30s POST /login 401 login=staff{n%20} agent=okhttp
@35m 203.0.113.27 90 every 30s POST /password-reset 404,200 login=name{n} agent=okhttp
`, []string{".env", ".git/config", "wp-login.php", "backup.zip", "admin", "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return order(t, events)
}

// lines is findings as bytes.
func lines(t testing.TB, found []pipeline.Finding) string {
	t.Helper()
	var b strings.Builder
	for i := range found {
		line, err := json.Marshal(&found[i])
		if err != nil {
			t.Fatalf("finding %d: %v", i, err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// sameLines compares findings as bytes and shows the first that differs.
func sameLines(t testing.TB, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s: %d findings, want %d; number %d\n got  %.600s\n want %.600s", what, len(g)-1, len(w)-1, i, g[i], w[i])
		}
	}
	t.Fatalf("%s: %d findings, want %d", what, len(g)-1, len(w)-1)
}

// end lets the last minute pass.
func end(s *Set, dst []pipeline.Finding, batch []pipeline.Ordered) []pipeline.Finding {
	return s.Advance(dst, batch[len(batch)-1].Effective.Add(2*time.Minute))
}

// TestFindings: workers and the cut into batches change nothing, every finding
// adds up, and ids are those of their cases.
func TestFindings(t *testing.T) {
	batch := mixedTraffic(t)
	edition := fitted(t, batch)
	run := func(workers int, cut func(left int) int) []pipeline.Finding {
		s := newSet(t, Config{Workers: workers, Watch: pipeline.NewProxyWatch()}, edition)
		var out []pipeline.Finding
		for rest := batch; len(rest) > 0; {
			n := min(len(rest), cut(len(rest)))
			out = s.Process(out, rest[:n])
			rest = rest[n:]
		}
		return end(s, out, batch)
	}
	found := run(1, func(left int) int { return left })
	want := lines(t, found)
	for _, workers := range []int{1, 2, 8, 64} {
		sameLines(t, fmt.Sprintf("%d workers, one batch", workers), lines(t, run(workers, func(left int) int { return left })), want)
		for seed := range uint64(3) {
			rng := rand.New(rand.NewPCG(seed, 1))
			size := []int{40, 900, 8192}[seed]
			got := run(workers, func(int) int { return 1 + rng.IntN(size) })
			sameLines(t, fmt.Sprintf("%d workers, batches up to %d", workers, size), lines(t, got), want)
		}
	}

	type identity struct {
		family string
		who    pipeline.Principal
	}
	of := map[string]identity{}
	per := map[string]int{}
	for i := range found {
		f := &found[i]
		per[f.Detector]++
		var sum pipeline.Nats
		for _, sig := range f.Signals {
			sum += sig.Nats
			if sig.Nats < 0 {
				t.Errorf("%s of %s: signal %s takes evidence away", f.Detector, f.Who.Value, sig.Name)
			}
		}
		if sum != f.Score {
			t.Errorf("%s of %s: signals sum to %d, the score is %d", f.Detector, f.Who.Value, sum, f.Score)
		}
		if f.Seq != uint64(i)+1 {
			t.Errorf("finding %d has number %d", i, f.Seq)
		}
		if i > 0 && f.Time < found[i-1].Time {
			t.Errorf("finding %d goes back in time", i)
		}
		if f.Onset > f.First && f.Onset > f.Last || f.First > f.Last || f.Last > f.Time {
			t.Errorf("%s of %s: onset %d, first %d, last %d, told at %d", f.Detector, f.Who.Value, f.Onset, f.First, f.Last, f.Time)
		}
		who := identity{family(f.Detector), f.Who}
		if old, ok := of[f.ID]; ok && old != who {
			t.Errorf("id %s is %v and %v", f.ID, old, who)
		}
		of[f.ID] = who
	}
	for _, name := range catalogNames() {
		if per[name] == 0 {
			t.Errorf("no finding of %s: the traffic does not try it", name)
		}
	}
	ids := map[identity]string{}
	for id, who := range of {
		if other, ok := ids[who]; ok {
			t.Errorf("%v has the ids %s and %s", who, other, id)
		}
		ids[who] = id
	}
}

// TestSnapshot: a set that is written and read back every so often, changed
// shards only, finds what an undisturbed one finds.
func TestSnapshot(t *testing.T) {
	batch := mixedTraffic(t)
	edition := fitted(t, batch)
	s := newSet(t, Config{Workers: 2}, edition)
	want := lines(t, end(s, s.Process(nil, batch), batch))
	if want == "" {
		t.Fatal("nothing found")
	}
	for _, every := range []int{701, 5000} {
		s := newSet(t, Config{Workers: 2}, edition)
		stored := map[uint32][]byte{}
		var out []pipeline.Finding
		partial := false
		for part := range slices.Chunk(batch, every) {
			out = s.Process(out, part)
			written := 0
			if err := s.Changed(false, func(n uint32, data []byte) error {
				stored[n] = slices.Clone(data)
				written++
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			partial = partial || written > 0 && written < len(stored)
			head, err := json.Marshal(s.Head())
			if err != nil {
				t.Fatal(err)
			}
			var h SnapshotHead
			if err := json.Unmarshal(head, &h); err != nil {
				t.Fatal(err)
			}
			next := newSet(t, Config{Workers: 3}, edition)
			if err := next.Restore(h, func(n uint32) ([]byte, error) { return stored[n], nil }); err != nil {
				t.Fatal(err)
			}
			if a, b := s.Stats(), next.Stats(); a != b {
				t.Fatalf("the state was %+v and came back as %+v", a, b)
			}
			s = next
		}
		if !partial {
			t.Error("every checkpoint wrote every shard")
		}
		sameLines(t, fmt.Sprintf("restored every %d requests", every), lines(t, end(s, out, batch)), want)
	}
}

func TestRestoreRefuses(t *testing.T) {
	batch := mixedTraffic(t)[:4000]
	s := newSet(t, Config{}, pipeline.ShippedEdition())
	s.Process(nil, batch)
	stored := map[uint32][]byte{}
	if err := s.Changed(true, func(n uint32, data []byte) error { stored[n] = slices.Clone(data); return nil }); err != nil {
		t.Fatal(err)
	}
	h := s.Head()
	h.Layout = "another"
	if err := newSet(t, Config{}, pipeline.ShippedEdition()).Restore(h, func(uint32) ([]byte, error) { return nil, nil }); err == nil {
		t.Error("state of another layout is read")
	}
	tried := 0
	for n, data := range stored {
		if tried == 5 {
			break
		}
		tried++
		for _, cut := range []int{0, 3, len(data) / 2, len(data) - 1} {
			err := newSet(t, Config{}, pipeline.ShippedEdition()).Restore(s.Head(), func(i uint32) ([]byte, error) {
				if i == n {
					return data[:cut], nil
				}
				return nil, nil
			})
			if err == nil {
				t.Errorf("shard %d is read from %d of %d bytes", n, cut, len(data))
			}
		}
	}
	if tried == 0 {
		t.Fatal("no shard was written")
	}
}

// unmix returns the a for which pipeline.Mix64(a, b) is h: Mix64 is a bijection.
func unmix(h, b uint64) uint64 {
	inverse := func(m uint64) uint64 {
		x := m
		for range 6 {
			x *= 2 - m*x
		}
		return x
	}
	x := h ^ h>>31 ^ h>>62
	x *= inverse(0x94d049bb133111eb)
	x ^= x>>27 ^ x>>54
	x *= inverse(0xbf58476d1ce4e5b9)
	x ^= x>>30 ^ x>>60
	return x - (b*0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15)
}

// TestFlood: ten million new addresses, each with a miss or three, or with failed
// logins, move a slow attacker's floor by less than a fifth, and the state stays
// within its bounds. Virtual shards do not touch one another: the flood is what
// falls into the attacker's, between its requests.
func TestFlood(t *testing.T) {
	const flood = 10_000_000 / pipeline.Shards
	attacker, _ := pipeline.ParseAddress("203.0.113.7")
	block := &pipeline.Block{Source: "flood"}
	paths := []string{"/.env", "/.git/config", "/wp-login.php", "/backup.zip", "/phpinfo.php", "/.aws/credentials"}
	words := rand.New(rand.NewPCG(1, 1))
	miss := func(path string) pipeline.Request {
		return pipeline.Request{Method: "GET", Path: path, Status: 404}
	}
	login := func(user string) pipeline.Request {
		return pipeline.Request{Method: "POST", Path: "/login", Status: 401, Flags: pipeline.FlagLogin, LoginUser: user}
	}
	// floor is after how many of the attacker's requests detector k pages, with so
	// many new addresses between two of them, each of which sends a few requests.
	floor := func(k int, gap time.Duration, request func(i int) pipeline.Request, between, each int, junk func(n uint64) pipeline.Request) (int, Stats) {
		s := newSet(t, Config{}, pipeline.ShippedEdition())
		at, sent := caseStart, uint64(0)
		send := func(a pipeline.Address, r pipeline.Request) {
			r.Time, r.Effective, r.Address, r.Owner, r.Kind, r.Agent, r.Bytes = at, at, a, a.Owner(), pipeline.PrincipalIP, "curl/8", 100
			r.Seal()
			s.Process(nil, []pipeline.Ordered{{Request: &r, Block: block}})
		}
		for i := range 100 {
			at = at.Add(gap / 2)
			send(attacker, request(i))
			if scoresOf(s, attacker.Owner())[k] >= pipeline.PageAt {
				return i + 1, s.Stats()
			}
			at = at.Add(gap / 2)
			for range between {
				sent++
				// The high 12 bits of the hash are the shard.
				h := pipeline.Mix64(sent, 99)>>12 | uint64(pipeline.Shard(attacker.Owner()))<<52
				var a pipeline.Address
				hi := unmix(h, 6)
				for b := range 8 {
					a[b] = byte(hi >> (56 - 8*b))
				}
				if sent < 100 && a.Owner() != h {
					t.Fatalf("address %v has hash %x, want %x", a, a.Owner(), h)
				}
				for n := range each {
					send(a, junk(sent*8+uint64(n)))
				}
			}
		}
		return 0, s.Stats()
	}
	for _, c := range []struct {
		name    string
		k       int
		gap     time.Duration
		request func(i int) pipeline.Request
	}{
		{"word list, 8 a day", 0, 3 * time.Hour, func(i int) pipeline.Request { return miss(paths[i%len(paths)]) }},
		{"made-up names, 8 a day", 0, 3 * time.Hour, func(int) pipeline.Request { return miss("/" + wordOf(words)) }},
		{"objects in a row, refused, 4 a day", 2, 6 * time.Hour, func(i int) pipeline.Request {
			return pipeline.Request{Method: "GET", Path: fmt.Sprintf("/orders/%d", 5000+i), Status: 403}
		}},
		{"accounts, 10 a day", 4, 144 * time.Minute, func(i int) pipeline.Request { return login(fmt.Sprintf("u_%d", i)) }},
		{"accounts, 2 a day", 4, 12 * time.Hour, func(i int) pipeline.Request { return login(fmt.Sprintf("u_%d", i)) }},
		{"shapes in a parameter, 2 a day", 7, 12 * time.Hour, func(i int) pipeline.Request {
			return pipeline.Request{Method: "GET", Path: "/search", Query: "q=*", Status: 200, Payloads: 16 << (i % 20), Slot: 2}
		}},
	} {
		plain, _ := floor(c.k, c.gap, c.request, 0, 0, nil)
		if plain == 0 {
			t.Fatalf("%s: never pages", c.name)
		}
		for _, f := range []struct {
			name string
			each int
			junk func(n uint64) pipeline.Request
		}{
			{"one miss each", 1, func(uint64) pipeline.Request { return miss("/gone") }},
			{"three misses each", 3, func(n uint64) pipeline.Request { return miss(fmt.Sprintf("/gone-%d", n)) }},
			{"two failed logins each", 2, func(n uint64) pipeline.Request { return login(fmt.Sprintf("x_%d", n)) }},
		} {
			flooded, st := floor(c.k, c.gap, c.request, flood/plain, f.each, f.junk)
			t.Logf("%-36s pages after %2d; flooded, %-24s %2d; %+v", c.name, plain, f.name, flooded, st)
			if flooded == 0 || float64(flooded) > 1.2*float64(plain) {
				t.Errorf("%s: pages after %d (0: never) in a flood with %s, after %d without", c.name, flooded, f.name, plain)
			}
			if st.EvictedProfiles == 0 || st.EvictedStubs == 0 {
				t.Errorf("%s: nothing was evicted: %+v", c.name, st)
			}
			if st.Profiles > maxProfiles || st.Principals > stubWays*stubBuckets || st.Cases > maxCases {
				t.Errorf("%s: the state is beyond its bounds: %+v", c.name, st)
			}
		}
	}
}

// TestProcessAllocates: once warm, ordinary requests cost no allocation; the end
// of a minute may cost a few.
func TestProcessAllocates(t *testing.T) {
	events, err := parseEvents(`
@0s 10.{random:1-3}.{random:0-9}.{random:1-40} 6000 every 5ms GET /item/{zipf:600} 200/404:1 agent=Mozilla/5.{random:1-60}
@0s 10.{random:1-3}.{random:0-9}.{random:1-40} 2000 every 15ms GET /orders/{random:1000-90000} 200 user=u{random:1-300} agent=Mozilla/5.{random:1-60}
@0s 10.{random:1-3}.{random:0-9}.{random:1-40} 300 every 100ms POST /login 200/401:8 agent=Mozilla/5.{random:1-60}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	batch := order(t, events)
	s := newSet(t, Config{Watch: pipeline.NewProxyWatch()}, fitted(t, batch))
	var found []pipeline.Finding
	pass := func() {
		for i := range batch {
			batch[i].Effective = batch[i].Effective.Add(40 * time.Second)
		}
		found = s.Process(found[:0], batch)
	}
	pass()
	pass()
	if n := testing.AllocsPerRun(5, pass); n > float64(len(batch))/500 {
		t.Errorf("%v allocations for %d requests", n, len(batch))
	}
}
