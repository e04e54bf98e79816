package pipeline

import (
	"fmt"
	"testing"
)

func TestAnswer(t *testing.T) {
	f := func(status, app uint16, want uint16) {
		t.Helper()
		r := Request{Status: status, Flags: FlagLogin | FlagListed}
		r.SetApp(500) // said before
		r.SetApp(app)
		if got := r.Answer(); got != want {
			t.Errorf("status %d and application %d amount to %d, want %d", status, app, got, want)
		}
		if r.Flags&FlagAppStatus == 0 || r.Flags&(FlagLogin|FlagListed) != FlagLogin|FlagListed {
			t.Errorf("flags %b", r.Flags)
		}
	}
	f(200, 0, 200)
	f(200, 400, 400)
	f(200, 401, 401)
	f(200, 403, 403)
	f(200, 404, 404)
	f(200, 429, 429)
	f(200, 409, 500)
	f(302, 401, 401)
	f(404, 401, 404)
	f(503, 404, 503)
	if r := (Request{Status: 200}); r.Answer() != 200 || r.Flags&FlagAppStatus != 0 {
		t.Error("an application that says nothing says something")
	}
}

func TestEndpointPath(t *testing.T) {
	f := func(path, operation, want, text string) {
		t.Helper()
		r := &Request{Path: path, Operation: operation}
		got, _ := EndpointPath(nil, r)
		if got != want || string(AppendEndpointPath(nil, r)) != want {
			t.Errorf("%s %s: %s, want %s", path, operation, got, want)
		}
		if got := OperationText(string(ColdTemplates().AppendText(nil, "", want))); got != text {
			t.Errorf("%s %s reads %s, want %s", path, operation, got, text)
		}
	}
	f("/graphql", "", "/graphql", "/graphql")
	f("/graphql", "GetOrder", "/graphql/%23GetOrder", "/graphql#GetOrder")
	f("/graphql/", "GetOrder", "/graphql/%23GetOrder", "/graphql#GetOrder")
	f("/", "eth_getBalance", "/%23eth_getBalance", "#eth_getBalance")
	f("/rpc", "tools/call", "/rpc/%23tools.call", "/rpc#tools.call")
	f("/rpc", "../../x?y#z%00", "/rpc/%23......xyz00", "/rpc#......xyz00")
	f("/graphql", "GetOrder#1042", "/graphql/%23GetOrder/1042", "/graphql#GetOrder/{int}")
	f("/a/Get", "id#0b0e1f6a-52f3-4c5b-9d5e-0f1a2b3c4d5e", "/a/Get/%23id/0b0e1f6a-52f3-4c5b-9d5e-0f1a2b3c4d5e", "/a/Get#id/{uuid}")
	f("/graphql", "x#../../1", "/graphql/%23x......1", "/graphql#x......1")
	f("/orders/17", "Get", "/orders/17/%23Get", "/orders/{int}#Get")
}

// TestOperationsApart: operations of one path are endpoints of their own, and
// names that clients make up are not.
func TestOperationsApart(t *testing.T) {
	l := NewTemplateLearner()
	add := func(client int, operation string) {
		path, _ := EndpointPath(nil, &Request{Path: "/graphql", Operation: operation})
		l.Add("shop.example", "POST", path, 200, Mix64(uint64(client), 1))
	}
	for c := range 60 {
		for _, op := range []string{"GetOrder", "ListOrders", "Checkout2", "login", "cart_v2"} {
			add(c, op)
		}
	}
	for i := range 5000 {
		add(1000, fmt.Sprintf("Made%dUp", i*7919))
	}
	tt := l.Build(nil)
	seen := map[uint64]string{}
	for _, op := range []string{"GetOrder", "ListOrders", "Checkout2", "login", "cart_v2"} {
		path, _ := EndpointPath(nil, &Request{Path: "/graphql", Operation: op})
		var m Match
		tt.Match("shop.example", path, &m)
		if !m.Known || seen[m.Template] != "" {
			t.Errorf("%s: known %t, the same template as %q", op, m.Known, seen[m.Template])
		}
		if m.Odd {
			t.Errorf("%s is odd", op)
		}
		seen[m.Template] = op
	}
	if n := tt.Len(); n > 20 {
		t.Errorf("one client's made-up operations made %d templates", n)
	}
}

func TestLoginOperation(t *testing.T) {
	for op, want := range map[string]bool{
		"login": true, "Login": true, "user.login": true, "signIn": true, "auth/sign_in": true, "tokenAuth": true, "LoginUser": true,
		"logout": false, "GetOrder": false, "session": false, "token": false, "auth": false, "loginHistory": false, "": false,
	} {
		if got := LoginOperation(op); got != want {
			t.Errorf("%q: %t", op, got)
		}
	}
}

// TestRefusedInside200: a credential that the application refuses owns nothing,
// and an operation that logs in belongs to the address.
func TestRefusedInside200(t *testing.T) {
	keys, err := PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	id, err := NewIdentity(DefaultIdentityConfig(), keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := func(app uint16, operation string, kind PrincipalKind, flags RequestFlags) {
		t.Helper()
		r := Request{Method: "POST", Path: "/graphql", Status: 200, Operation: operation}
		r.SetApp(app)
		id.NewResolver().Resolve(&r, &Clear{Remote: "203.0.113.7", APIKey: "k1234567"})
		if got := r.Flags & (FlagLogin | FlagRefused); r.Kind != kind || got != flags {
			t.Errorf("application %d %s: owned by %s, flags %b", app, operation, r.Kind, got)
		}
	}
	f(0, "GetOrder", PrincipalKey, 0)
	f(401, "GetOrder", PrincipalIP, FlagRefused)
	f(404, "GetOrder", PrincipalIP, 0)
	f(0, "login", PrincipalIP, FlagLogin)
	f(401, "user.login", PrincipalIP, FlagLogin|FlagRefused)
}

func TestReadsPath(t *testing.T) {
	f := func(path string, want bool) {
		t.Helper()
		if got := ReadsPath(path); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
	for _, path := range []string{"/graphql/%23Product", "/graphql/%23getProduct/7", "/api/graphql/%23orders", "/graphql/%23settings", "/shop.v1.Catalog/GetProduct", "/shop.v1.Catalog/ListProducts/%23id/7", "/rpc/%23orders.list", "/rpc/%23eth_getBalance"} {
		f(path, true)
	}
	for _, path := range []string{"/graphql/%23AddToCart", "/graphql/%23setAddress", "/graphql/%23Checkout", "/shop.v1.Carts/AddItem", "/shop.v1.Orders/Gettysburg", "/api/orders/find", "/rpc/%23order", "/", "/a/%23orderid/7", "/graphql"} {
		f(path, false)
	}
}
