package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/detectors"
	"weir/pipeline"
)

func blindSet(t *testing.T) *detectors.Set {
	t.Helper()
	set, err := detectors.NewSet(detectors.Config{}, pipeline.ShippedEdition())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func blindRequest(i int, method, path string, status uint16) *pipeline.Request {
	a, _ := pipeline.ParseAddress(fmt.Sprintf("10.0.%d.%d", i>>8&255, i&255))
	at := pipeline.TimeOf(time.Unix(1_760_000_000+int64(i), 0))
	r := &pipeline.Request{
		Time: at, Effective: at, Method: method, Path: path, Status: status, Bytes: 300, Address: a, Owner: a.Owner(), Kind: pipeline.PrincipalAccount,
		Account: "u_somebody", Agent: "Mozilla/5.0", Query: "page=1",
	}
	r.Seal()
	return r
}

func TestBlindSpots(t *testing.T) {
	f := func(name string, n int, make func(i int) *pipeline.Request, want ...string) {
		t.Helper()
		b := newBlindSpots(blindSet(t))
		for i := range n {
			b.add(make(i))
		}
		got := b.lines(maxBlindLines)
		if len(got) != len(want) {
			t.Errorf("%s: %d lines, want %d:\n%s", name, len(got), len(want), strings.Join(got, "\n"))
			return
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: %q is not in\n%s", name, want[i], got[i])
			}
		}
	}
	f("graphql without an operation", 40, func(i int) *pipeline.Request { return blindRequest(i, "POST", "/graphql", 200) },
		"POST /graphql: answers success to all 40 requests and the log shows no operation")
	f("graphql with one", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "POST", "/graphql", 200)
		r.Operation = "GetOrder#7"
		return r
	})
	f("graphql without objects", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "POST", "/graphql", 200)
		r.Operation = "GetOrder"
		return r
	}, "POST /graphql: the log does not show which objects are asked for: reading those of others is not detectable")
	f("too few", 19, func(i int) *pipeline.Request { return blindRequest(i, "POST", "/graphql", 200) })
	f("grpc without a status", 40, func(i int) *pipeline.Request { return blindRequest(i, "POST", "/shop.Orders/Get", 200) },
		"POST /shop.Orders/Get: answers success to all 40 requests and the log shows no gRPC status", "POST /shop.Orders/Get: the log does not show which objects")
	f("grpc with one", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "POST", "/shop.Orders/"+[...]string{"Get", "List"}[i%2], 200)
		r.SetApp(0)
		return r
	}, "POST /shop.Orders/Get and 1 more: the log does not show which objects")
	f("grpc with objects", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "POST", "/shop.Orders/"+[...]string{"Get", "List"}[i%2], 200)
		if r.SetApp(0); i%2 == 0 {
			r.Operation = "id#7"
		}
		return r
	})
	f("a login that answers 200 to all", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "POST", "/login", 200)
		r.Flags |= pipeline.FlagLogin
		r.LoginUser = "u_tried"
		return r
	}, `POST /login: the outcome of 40 of 40 logins is not known (40 × 200 with 300 bytes)`)
	f("a login whose failures show", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "POST", "/login", 401)
		r.Flags |= pipeline.FlagLogin
		r.LoginUser = "u_tried"
		return r
	})
	f("a login that does not name the account", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "POST", "/login", 401)
		r.Flags |= pipeline.FlagLogin
		return r
	}, "40 of 40 logins and resets do not name the account that was tried (in part: auth.stuffing by many clients, auth.takeover by passwords that were tried; later: auth.stuffing, auth.spraying, enum.user). Log it as login_user")
	f("no method", 40, func(i int) *pipeline.Request { return blindRequest(i, "", "/", 200) }, "40 of 40 requests have no method")
	f("no size", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "GET", "/", 200)
		r.Bytes = -1
		return r
	}, "40 of 40 answers have no size: what is too large is not seen (unseen: data.exposure)")
	f("no agent", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "GET", "/", 200)
		r.Agent, r.AgentKey = "", 0
		return r
	}, "40 of 40 requests have no agent")
	f("no query", 600, func(i int) *pipeline.Request {
		r := blindRequest(i, "GET", "/", 200)
		r.Query = ""
		return r
	}, "600 of 600 requests have no query string: attacks in parameters are not seen, nor pages by number (in part: inject.probe in query strings; later: scrape.crawl). Log $request_uri, not $uri. It is no gap if no request has one.")
	f("everybody behind one address", 400, func(i int) *pipeline.Request {
		r := blindRequest(0, "GET", "/", 200)
		r.AgentKey = pipeline.Hash64(fmt.Sprint(i % 40))
		if i%10 == 0 {
			r.Address = blindRequest(i, "GET", "/", 200).Address
		}
		return r
	}, "come from 10.0.0.0, which has the browsers of many: who changes session, key or user is another client behind it. Log $http_x_forwarded_for, and name the proxy: identity: {trusted_proxies: [10.0.0.0]}.")
	f("one program, most of the requests", 400, func(i int) *pipeline.Request {
		r := blindRequest(0, "GET", "/", 200)
		if i%10 == 0 {
			r.Address = blindRequest(i, "GET", "/", 200).Address
		}
		return r
	})
	f("no status", 40, func(i int) *pipeline.Request { return blindRequest(i, "GET", "/", 0) }, "40 of 40 requests have no status")
	f("no user", 40, func(i int) *pipeline.Request {
		r := blindRequest(i, "GET", "/", 200)
		r.Account, r.Kind = "", pipeline.PrincipalIP
		return r
	}, "no request names a user")
	f("an ordinary log", 40, func(i int) *pipeline.Request { return blindRequest(i, "GET", "/orders/7", 200) })
	f("more endpoints than there is room for", 40*400, func(i int) *pipeline.Request {
		return blindRequest(i, "POST", fmt.Sprintf("/v%d/graphql", i%400), 200)
	}, "graphql", "graphql", "graphql", "graphql", "graphql", "graphql", "122 endpoints more")
	f("a path that would write lines of its own", 40, func(i int) *pipeline.Request {
		return blindRequest(i, "POST", "/\x1b[31m\nblind: x/graphql", 200)
	}, `POST /\x1b[31m\nblind: x/graphql: answers`)
}

// TestEntrances: a login under another name is proposed; a sign-in that is
// known, and an endpoint that is used under an account, are not.
func TestEntrances(t *testing.T) {
	visit := func(e *entrances, i int, path string, renewed bool) {
		before := blindRequest(i, "GET", "/", 200)
		if !renewed {
			before.Account = ""
		} else {
			before.Account = fmt.Sprintf("u_%d", i)
		}
		e.add(before)
		for _, status := range []uint16{401, 200} {
			r := blindRequest(i, "POST", path, status)
			r.Account = ""
			e.add(r)
		}
		after := blindRequest(i, "GET", "/account", 200)
		after.Account = fmt.Sprintf("u_%d", i)
		e.add(after)
	}
	f := func(name, path string, clients int, renewed bool, want string) {
		t.Helper()
		e := newEntrances()
		for i := range clients {
			visit(&e, i, path, renewed)
		}
		var got []string
		for _, p := range e.found() {
			got = append(got, p.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	f("a login", "/konto/anmelden", 8, false, "POST /konto/anmelden")
	f("too few", "/konto/anmelden", 4, false, "")
	f("a token renewed", "/konto/anmelden", 8, true, "")
	e := newEntrances()
	for i := range 8 {
		visit(&e, i, "/konto/anmelden", false)
	}
	if p := e.found(); len(p) != 1 || !strings.Contains(p[0].text(), `{match: "POST /konto/anmelden", role: login}`) {
		t.Errorf("found %v", p)
	}
	// A form that everybody posts to, now and then before logging in elsewhere.
	e = newEntrances()
	for i := range 100 {
		r := blindRequest(i, "POST", "/newsletter", 200)
		r.Account = ""
		e.add(r)
		if i%4 == 0 {
			e.add(blindRequest(i, "GET", "/account", 200))
		}
	}
	if p := e.found(); len(p) != 0 {
		t.Errorf("a newsletter is taken for a login: %s", p[0].text())
	}
}
