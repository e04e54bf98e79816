package detectors

import (
	"fmt"
	"testing"
	"time"

	"weir/pipeline"
)

// calls are n calls of one client, one every gap.
func calls(n int, gap time.Duration, make func(i int, r *pipeline.Request)) []pipeline.Ordered {
	block := &pipeline.Block{Source: "calls"}
	a, _ := pipeline.ParseAddress("203.0.113.7")
	var out []pipeline.Ordered
	for i := range n {
		at := caseStart.Add(time.Duration(i) * gap)
		r := &pipeline.Request{
			Time: at, Effective: at, Address: a, Owner: a.Owner(), Kind: pipeline.PrincipalIP, Method: "POST", Path: "/graphql", Status: 200,
			Bytes: 300, Agent: "curl/8", Line: int64(i) + 1,
		}
		make(i, r)
		r.Seal()
		out = append(out, pipeline.Ordered{Request: r, Block: block})
	}
	return out
}

// TestLoginInside200: the application's word tells failed logins that answer 200
// apart, whatever the protocol, from the first one on.
func TestLoginInside200(t *testing.T) {
	for _, c := range []struct{ path, operation, text string }{
		{"/graphql", "login", "/graphql#login"},
		{"/rpc", "user.login", "/rpc#user.login"},
		{"/shop.Auth/Login", "", "/shop.Auth/Login"},
	} {
		batch := calls(200, 200*time.Millisecond, func(i int, r *pipeline.Request) {
			r.Path, r.Operation, r.Flags = c.path, c.operation, pipeline.FlagLogin
			if i == 120 || i == 180 {
				r.SetApp(0)
			} else {
				r.SetApp(401)
			}
		})
		f := guessedBy(t, detectAll(t, Config{}, pipeline.ShippedEdition(), batch), "auth.bruteforce")
		if f.Outcome.Succeeded == nil || *f.Outcome.Succeeded != 2 || f.Endpoint.Template != c.text {
			t.Errorf("%s: %s logins worked, want 2; template %s", c.text, show(f.Outcome.Succeeded), f.Endpoint.Template)
		}
	}
}

func guessedBy(t *testing.T, found []pipeline.Finding, detector string) *pipeline.Finding {
	t.Helper()
	for i := len(found) - 1; i >= 0; i-- {
		if found[i].Detector == detector {
			return &found[i]
		}
	}
	t.Fatalf("no finding of %s among %d", detector, len(found))
	return nil
}

// TestMissInside200: an object that the application says is not there, or not
// yours, counts as one that the status says it of; what failed otherwise does not.
func TestMissInside200(t *testing.T) {
	walk := func(app uint16) []pipeline.Finding {
		batch := calls(60, time.Second, func(i int, r *pipeline.Request) {
			r.Method, r.Path = "GET", fmt.Sprintf("/api/orders/%d", 100+i*3)
			r.SetApp(app)
			if i < 8 {
				r.SetApp(0)
			}
		})
		return detectAll(t, Config{}, pipeline.ShippedEdition(), batch)
	}
	for _, app := range []uint16{403, 404} {
		if f := guessedBy(t, walk(app), "enum.object"); f.Score < pipeline.PageAt {
			t.Errorf("application %d: %.1f nats", app, f.Score.Float())
		}
	}
	for _, app := range []uint16{500, 429} {
		for _, f := range walk(app) {
			if f.Score >= pipeline.PageAt {
				t.Errorf("application %d: %s", app, f.Reason)
			}
		}
	}
}

// TestOperationsAreNoProbe: a client that calls many operations, all answered,
// is none that looks for what might be there.
func TestOperationsAreNoProbe(t *testing.T) {
	batch := calls(500, time.Second, func(i int, r *pipeline.Request) {
		r.Operation = fmt.Sprintf("Op%c%c", 'A'+i%26, 'a'+i/26%26)
		r.SetApp(0)
	})
	if found := detectAll(t, Config{}, pipeline.ShippedEdition(), batch); len(found) != 0 {
		t.Errorf("%s: %s", found[0].Detector, found[0].Reason)
	}
}

// TestPreflightLeavesFirstContact: a preflight is no evidence, and asking with
// OPTIONS first hides nothing of what is asked after it.
func TestPreflightLeavesFirstContact(t *testing.T) {
	peak := func(batch []pipeline.Ordered) [scored]pipeline.Nats {
		s := newSet(t, Config{}, pipeline.ShippedEdition())
		s.Process(nil, batch)
		return scoresOf(s, batch[0].Owner)
	}
	for _, status := range []uint16{200, 204, 302, 400, 403, 405, 501} {
		scores := peak(calls(300, time.Second, func(i int, r *pipeline.Request) {
			r.Method, r.Status, r.Path = "OPTIONS", status, fmt.Sprintf("/api/orders/%d/x%c%c", i, 'a'+i%26, 'a'+i/26)
		}))
		if scores != [scored]pipeline.Nats{} {
			t.Errorf("preflights answered %d are evidence: %v", status, scores)
		}
	}
	walk := func(i int, r *pipeline.Request) {
		r.Method, r.Status, r.Path = "GET", 404, fmt.Sprintf("/old%c%c.bak", 'a'+i%26, 'a'+i/26)
	}
	plain := peak(calls(40, 2*time.Second, walk))
	hidden := peak(calls(80, time.Second, func(i int, r *pipeline.Request) {
		walk(i/2, r)
		if i%2 == 0 {
			r.Method, r.Status = "OPTIONS", 204
		}
	}))
	if plain[0] < pipeline.PageAt || hidden[0] < plain[0]*9/10 {
		t.Errorf("asking with OPTIONS first brings %.1f nats down to %.1f", plain[0].Float(), hidden[0].Float())
	}
}
