package collector

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weir/pipeline"
)

func TestReadBody(t *testing.T) {
	f := func(path, operation, body, variables, want string) {
		t.Helper()
		b, _ := ReadBody(nil, path, operation, []byte(body), []byte(variables))
		if got := b.Operation + "|" + b.Object + "|" + b.User; got != want {
			t.Errorf("%s %s %s\n got %s\nwant %s", path, body, variables, got, want)
		}
	}
	const gql = "/graphql"
	uuid := "0b0e1f6a-52f3-4c5b-9d5e-0f1a2b3c4d5e"
	// GraphQL: the root field has the id, whatever the client calls its operation.
	f(gql, "", `{"operationName":"GetOrder","variables":{"id":"1042"}}`, "", "GetOrder|GetOrder#1042|")
	f(gql, "", `{"operationName":"GetOrder","variables":{"id":1042}}`, "", "GetOrder|GetOrder#1042|")
	f(gql, "", `{"operationName":"X9","query":"query X9($o: ID!) { order(id: $o) { total } }","variables":{"o":"1042"}}`, "", "X9|order#1042|")
	f(gql, "", `{"query":"{ order(id: \"`+uuid+`\") { total } }"}`, "", "order|order#"+uuid+"|")
	f(gql, "", `{"query":"{\n  me { id }\n  a: order(id: 7) { total }\n}"}`, "", "me|order#7|")
	f(gql, "", `{"query":"query($i: In = {a: 1}) { orders(where: {orderId: 7, userId: 3}) { total } }"}`, "", "orders|orders#7|3")
	f(gql, "", `{"query":"mutation { update(input: $input) { ok } }","variables":{"input":{"name":"x","orderId":"55"}}}`, "", "update|update#55|")
	f(gql, "", `{"query":"{ ...F order @include(if: true) { lines(id: 3) { x } } }"}`, "", "|lines#3|")
	f(gql, "", `{"query":"{ viewer { a: order(id: 7) { lines { id } } } }"}`, "", "viewer|order#7|")
	f(gql, "", `{"operationName":"Node","query":"query Node($id: ID!) { node(id: $id) { id } }","variables":{"id":"T3JkZXI6MTA0Mg=="}}`, "", "Node|Order#1042|")
	f(gql, "", `{"operationName":"Node","variables":{"id":"gid://shop/Order/1042"}}`, "", "Node|Order#1042|")
	f(gql, "", `{"operationName":"Products","variables":{"page":3,"search":"shoes","after":"b3BhcXVl"}}`, "", "Products||")
	f(gql, "GetOrder", ``, `{"id":"1042"}`, "|GetOrder#1042|")
	f(gql, "", `{"query":"mutation { login(email: \"a@b.example\", password: \"x\") { token } }"}`, "", "login||a@b.example")
	f(gql, "", `{"operationName":"Login","variables":{"input":{"email":"a@b.example","password":"x"}}}`, "", "Login||a@b.example")
	f(gql, "", `[{"operationName":"A","variables":{"id":1}},{"operationName":"B","variables":{"id":2}}]`, "", "A|A#1|")
	f(gql, "", `{"operationName":"Cut","variables":{"id":"12"},"query":"quer`, "", "Cut|Cut#12|")
	// JSON-RPC: the id of the call is none of an object.
	f("/rpc", "", `{"jsonrpc":"2.0","id":77,"method":"order.get","params":{"order_id":5}}`, "", "order.get|order.get#5|")
	f("/rpc", "", `{"jsonrpc":"2.0","id":77,"method":"order.get","params":[5]}`, "", "order.get|order.get#5|")
	f("/rpc", "", `{"jsonrpc":"2.0","id":77,"method":"ping"}`, "", "ping||")
	// gRPC as JSON, and REST.
	f("/shop.Orders/GetOrder", "GetOrder", `{"order_id":"1042","tenantId":"7"}`, "", "|orderid#1042|")
	f("/api/orders/lookup", "", `{"userId":9,"filter":{"OrderId":1042}}`, "", "|orderid#1042|9")
	f("/api/orders/lookup", "", `{"userId":9}`, "", "|userid#9|9")
	f("/api/lookup", "", `{"id":"507f1f77bcf86cd799439011"}`, "", "|id#507f1f77bcf86cd799439011|")
	f("/api/lookup", "", `order_id=1042&x=y`, "", "|orderid#1042|")
	f("/api/lookup", "", `email=a%40b.example&password=p`, "", "||a@b.example")
	f("/api/login", "", `{"username":"anna","password":"secret"}`, "", "||anna")
	// What is no object's id stays where it is.
	for _, body := range []string{
		`{"sessionId":"1042"}`, `{"tax_id":"1042"}`, `{"id":"hunter2"}`, `{"id":-1}`, `{"id":{"$gt":""}}`, `{"id":null}`, `{"id":""}`, `{"clientId":"12"}`, `{"page":4}`, ``, `{`, `[`, `"x"`, `{"a"`, `{"a":`,
		`{"id":"deadbeefdeadbeefdeadbeefdeadbeef"}`,
	} {
		f("/api/x", "", body, "", "||")
	}
	// Bounds.
	f("/api/x", "", `{`+strings.Repeat(`"a":1,`, bodyLooks)+`"id":5}`, "", "||")
	f("/api/x", "", `{"a":{"a":{"a":{"a":{"id":5}}}}}`, "", "||")
	f("/api/x", "", `{"a":"`+strings.Repeat("x", bodyLimit)+`","id":5}`, "", "||")
}

// TestBodyObject: the object is a part of the endpoint, unless the path has it or
// the request is about an account.
func TestBodyObject(t *testing.T) {
	c := jsonFormat(nil, ParseOptions{})
	f := func(line, want string) {
		t.Helper()
		if got := c.application(t, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	f(`{"method":"POST","path":"/shop.Orders/GetOrder","status":200,"grpc_status":7,"request_body":{"orderId":"1042"}}`, "/shop.Orders/GetOrder#orderid#1042 403 told=true")
	f(`{"method":"PUT","path":"/orders/1042","status":200,"request_body":{"orderId":"1042"}}`, "/orders/1042# 200 told=false")
	f(`{"method":"POST","path":"/login","status":200,"request_body":{"userId":"1042"}}`, "/login# 200 told=false")
	f(`{"method":"POST","path":"/graphql","status":200,"graphql_operation":"GetOrder","graphql_variables":{"id":4}}`, "/graphql#GetOrder#4 200 told=false")
	f(`{"method":"POST","path":"/graphql","status":200,"graphql_operation":"GetOrder","variables":"{\"id\":4}"}`, "/graphql#GetOrder#4 200 told=false")
	f(`{"method":"GET","path":"/graphql?query=%7Border(id%3A4)%7Btotal%7D%7D","status":200}`, "/graphql#order#4 200 told=false")
	f(`{"method":"GET","path":"/graphql?operationName=GetOrder&variables=%7B%22id%22%3A%224%22%7D","status":200}`, "/graphql#GetOrder#4 200 told=false")
	f(`{"method":"POST","path":"/graphql","status":200,"graphql_operation":"a#4"}`, "/graphql# 200 told=false")
}

// TestBodyReachesRequests: nothing but the operation, the id and the token of who
// tried to log in is left of a body in the requests that leave collect.
func TestBodyReachesRequests(t *testing.T) {
	keys, err := pipeline.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	logins, err := pipeline.NewLoginRules(nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pipeline.NewIdentity(pipeline.DefaultIdentityConfig(), keys, logins)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "log")
	var log strings.Builder
	for _, line := range []string{
		`"path":"/graphql","status":200,"request_body":"{\"query\":\"{ order(id: 4){x} }\",\"note\":\"hush\"}"`,
		`"path":"/api/orders/find","status":200,"request_body":{"order_id":5,"note":"hush"}`,
		`"path":"/api/login","status":401,"request_body":{"email":"anna@a.example","password":"hush","userId":6}`,
		`"path":"/graphql","status":200,"request_body":{"query":"mutation { login(email: \"anna@a.example\", password: \"hush\") { t } }"}`,
		`"path":"/api/profile","status":200,"request_body":{"email":"anna@a.example","about":"hush"}`,
	} {
		log.WriteString(`{"time":"2026-03-02T10:00:00Z","remote_addr":"203.0.113.7","method":"POST",` + line + "}\n")
	}
	if err := os.WriteFile(name, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	format := jsonFormat(nil, ParseOptions{})
	r := NewReader(ReaderConfig{Path: name, Workers: 1, Format: &format, NewIdentify: func() Identify {
		resolver := id.NewResolver()
		return func(r *pipeline.Request, f *Fields) { resolver.Resolve(r, &f.Clear) }
	}})
	anna := keys.AccountToken("anna@a.example")
	want := []string{"order#4|", "orderid#5|", "|" + anna, "login|" + anna, "|"}
	var got []string
	for {
		b, err := r.Next(context.Background())
		if err != nil {
			break
		}
		for i := range b.Requests {
			q := &b.Requests[i]
			got = append(got, q.Operation+"|"+q.LoginUser)
			if s := fmt.Sprint(*q); strings.Contains(s, "hush") {
				t.Errorf("a request with what its body says: %s", s)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func FuzzReadBody(f *testing.F) {
	for _, s := range []string{
		`{"operationName":"a","variables":{"id":1}}`, `[{"jsonrpc":"2.0","method":"m","params":[1]}]`, `{"query":"mutation { a: login(x:1) { y } }"}`, `{"query":"query A`,
		`{"query":"\\`, `{"query":"{a(b:{c:[1,2],id:\"3\"}) @d(e:1){f}}"}`, `a=b&order_id=4`, `{"id":"T3JkZXI6MTA0Mg=="}`, `{"a":[{"id":4}]}`,
	} {
		f.Add([]byte(s), []byte(`{"id":"4"}`))
	}
	f.Fuzz(func(t *testing.T, body, variables []byte) {
		b, _ := ReadBody(nil, "/graphql", "", body, variables)
		if len(b.Operation) > jsonKey || len(b.User) > bodyUserMax {
			t.Errorf("an operation of %d bytes, a name of %d", len(b.Operation), len(b.User))
		}
		if b.Object == "" {
			return
		}
		i := strings.LastIndexByte(b.Object, pipeline.ObjectMark)
		if i < 0 || !pipeline.ObjectID(b.Object[i+1:]) {
			t.Errorf("object %q", b.Object)
		}
	})
}
