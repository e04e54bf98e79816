package detectors

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"weir/pipeline"
)

// keyring is requests made with one API key.
type keyring struct {
	rng *rand.Rand
	out []*pipeline.Request
}

func (v *keyring) use(at float64, a pipeline.Address, asn uint32, agent, method, path string, status uint16) {
	t := caseStart + pipeline.Time(at*86400e6)
	r := &pipeline.Request{
		Time: t, Effective: t, Bytes: 900, Duration: -1, Owner: pipeline.HashPrincipal(pipeline.PrincipalKey, "acme_1"), Kind: pipeline.PrincipalKey,
		Key: "acme_1", Status: status, Address: a, ASN: asn, Method: method, Path: path, Agent: agent,
	}
	if status == 403 { // as collect has it: a refused request is its address's
		r.Kind, r.Owner = pipeline.PrincipalIP, a.Owner()
	}
	r.Seal()
	v.out = append(v.out, r)
}

// server uses the key day and night from a few addresses of one operator.
func (v *keyring) server(days int) {
	for i := range days * 200 {
		path, method := fmt.Sprintf("/v1/orders/%d", i%50), "GET"
		if i%9 == 0 {
			path, method = "/v1/orders", "POST"
		}
		v.use(float64(i)/200, addressOf(50<<24|uint32(i%4)), 8000, "acme-sync/2.1", method, path, 200)
	}
}

func (v *keyring) batch() []pipeline.Ordered { return (&town{out: v.out}).batch() }

// TestKeyMisuse holds what is said of a key, over 20 runs each.
func TestKeyMisuse(t *testing.T) {
	thief := addressOf(180<<24 | 77)
	for _, c := range []struct {
		name string
		want string // "", review, page
		make func(v *keyring)
	}{
		{"a server, for a month", "", func(v *keyring) { v.server(30) }},
		{"a thousand servers from the start", "", func(v *keyring) {
			for i := range 6000 {
				n := uint32(v.rng.IntN(1000))
				v.use(float64(i)/200, addressOf(60<<24|n), 9000+n%200, fmt.Sprintf("agent/%d", n%30), "GET", fmt.Sprintf("/v1/orders/%d", i%50), 200)
			}
		}},
		{"devices everywhere, refused now and then", "", func(v *keyring) {
			for i := range 6000 {
				n := uint32(v.rng.IntN(1 << 20))
				status := uint16(200)
				if i%40 == 0 {
					status = 403
				}
				v.use(float64(i)/200, addressOf(61<<24|n), 9000+n%500, "thing/1", "POST", fmt.Sprintf("/v1/readings/%d", i%9), status)
			}
		}},
		{"it moves to another host", "", func(v *keyring) {
			v.server(30)
			for i := range 100 {
				v.use(30+float64(i)/200, addressOf(70<<24|1), 8800, "acme-sync/2.1", "GET", fmt.Sprintf("/v1/orders/%d", i%50), 200)
			}
		}},
		{"a new release on the same host", "", func(v *keyring) {
			v.server(30)
			for i := range 100 {
				v.use(30+float64(i)/200, addressOf(50<<24|1), 8000, "rewritten/1.0", []string{"GET", "PUT"}[i%2], fmt.Sprintf("/v2/%s", []string{"orders", "users", "parts"}[i%3]), 200)
			}
		}},
		{"another host and a new release that writes more", "review", func(v *keyring) {
			v.server(30)
			for i := range 100 {
				v.use(30+float64(i)/200, addressOf(70<<24|1), 8800, "rewritten/1.0", []string{"GET", "PUT"}[i%2], fmt.Sprintf("/v2/%s", []string{"orders", "users", "parts"}[i%3]), 200)
			}
		}},
		{"another host and a new release that reads more and is refused once", "review", func(v *keyring) {
			v.server(30)
			for i := range 100 {
				path, status := fmt.Sprintf("/v2/%s", []string{"orders", "users", "parts", "hooks", "audit"}[i%5]), uint16(200)
				if i%5 == 4 {
					status = 403
				}
				v.use(30+float64(i)/200, addressOf(70<<24|1), 8800, "rewritten/1.0", "GET", path, status)
			}
		}},
		{"strangers name it and are refused", "", func(v *keyring) {
			v.server(30)
			for i := range 200 {
				v.use(29.5+float64(i)/2000, addressOf(180<<24|uint32(i%5)), 6500, "python-requests/2.31", "GET", fmt.Sprintf("/v1/%c/x", 'a'+i%20), 403)
			}
		}},
		{"stolen: reads what its owner never read", "review", func(v *keyring) {
			v.server(30)
			for i := range 60 {
				v.use(29.5+float64(i)/2000, thief, 6500, "python-requests/2.31", "GET", fmt.Sprintf("/v1/%s", []string{"users", "invoices", "members", "exports"}[i%4]), 200)
			}
		}},
		{"stolen: tried out with a script", "page", func(v *keyring) {
			v.server(30)
			for i, p := range []string{"/v1/orders", "/v1/users", "/v1/admin/keys", "/v1/payouts", "/v1/exports", "/v1/audit"} {
				v.use(29.5+float64(i)/2000, thief, 6500, "python-requests/2.31", "GET", p, []uint16{200, 403}[min(i, 1)])
			}
		}},
		{"stolen: a browser that writes", "page", func(v *keyring) {
			v.server(30)
			for i, p := range []string{"/v1/orders", "/v1/users/1", "/v1/hooks", "/v1/members"} {
				v.use(29.5+float64(i)/2000, thief, 6500, "Mozilla/5.0 Chrome/140.0", "PUT", p, 200)
			}
		}},
		{"stolen in its first days", "", func(v *keyring) {
			v.server(3)
			for i, p := range []string{"/v1/users", "/v1/admin/keys", "/v1/payouts", "/v1/exports"} {
				v.use(1+float64(i)/2000, thief, 6500, "python-requests/2.31", "GET", p, 403)
			}
		}},
	} {
		for seed := range uint64(20) {
			v := &keyring{rng: rand.New(rand.NewPCG(seed, 5))}
			c.make(v)
			got := ""
			for _, f := range crossed(t, 1, 512, v.batch()) {
				if f.Detector != nameKeyMisuse {
					continue
				}
				var sum pipeline.Nats
				for _, sig := range f.Signals {
					sum += sig.Nats
				}
				if sum != f.Score || f.Who.Value != "acme_1" || f.Level != "key" {
					t.Errorf("%s: signals sum to %d, the score is %d; %v", c.name, sum, f.Score, f.Who)
				}
				if seed == 0 {
					t.Logf("%s: %.1f nats: %s %s", c.name, f.Score.Float(), f.Title, f.Reason)
				}
				if got = max(got, "review"); f.Score >= pipeline.PageAt {
					got = "review, page"
				}
			}
			if got == "review, page" {
				got = "page"
			}
			if got != c.want {
				t.Errorf("%s, seed %d: %q, want %q", c.name, seed, got, c.want)
			}
		}
	}
	v := &keyring{rng: rand.New(rand.NewPCG(1, 5))}
	v.server(20)
	v.use(19.5, thief, 6500, "python-requests/2.31", "GET", "/v1/orders/3", 200)
	for i := range 9 {
		v.use(19.5+float64(i)/2000, thief, 6500, "python-requests/2.31", "GET", fmt.Sprintf("/v1/admin%c/x", 'a'+i), 403)
	}
	batch := v.batch()
	want := lines(t, crossed(t, 1, 4096, batch))
	if !slices.ContainsFunc(crossed(t, 1, 4096, batch), func(f pipeline.Finding) bool { return f.Detector == nameKeyMisuse }) {
		t.Fatal("nothing found")
	}
	sameLines(t, "8 workers", lines(t, crossed(t, 8, 777, batch)), want)
	sameLines(t, "restored", lines(t, restarted(t, 501, batch)), want)
}
