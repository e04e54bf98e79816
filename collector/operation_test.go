package collector

import (
	"fmt"
	"testing"

	"weir/pipeline"
)

// application parses a line and says what it tells of the application.
func (f Format) application(t *testing.T, line string) string {
	t.Helper()
	var fields Fields
	if err := f.New().Parse(&fields, []byte(line)); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	r := pipeline.Request{Method: fields.Method, Path: fields.Path, Query: fields.Query, Status: fields.Status}
	fields.apply(&r)
	if r.Method == "POST" && r.Path == "/login" {
		r.Flags |= pipeline.FlagLogin
	}
	fields.applyLocation(&r)
	fields.content.Apply(&r)
	return fmt.Sprintf("%s#%s %d told=%t", r.Path, r.Operation, r.Answer(), r.Flags&pipeline.FlagAppStatus != 0)
}

func TestApplicationInJSON(t *testing.T) {
	c := jsonFormat(nil, ParseOptions{})
	f := func(rest, want string) {
		t.Helper()
		line := `{"method":"POST","path":"/graphql","status":200,` + rest + `}`
		if got := c.application(t, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	f(`"x":1`, "/graphql# 200 told=false")
	f(`"graphql_operation":"GetOrder"`, "/graphql#GetOrder 200 told=false")
	f(`"operationName":"GetOrder","graphql_errors":0`, "/graphql#GetOrder 200 told=true")
	f(`"operation_name":"GetOrder","graphql_errors":2`, "/graphql#GetOrder 500 told=true")
	f(`"graphql_errors":true`, "/graphql# 500 told=true")
	f(`"graphql_errors":false`, "/graphql# 200 told=true")
	f(`"graphql_errors":[]`, "/graphql# 200 told=true")
	f(`"graphql_errors":[{"message":"no","extensions":{"code":"UNAUTHENTICATED"}}]`, "/graphql# 401 told=true")
	f(`"graphql_errors":"[{\"message\":\"no\",\"extensions\":{\"code\":\"FORBIDDEN\"}}]"`, "/graphql# 403 told=true")
	f(`"graphql_errors":1,"error_code":"NOT_FOUND"`, "/graphql# 404 told=true")
	f(`"error_code":"BAD_USER_INPUT"`, "/graphql# 400 told=true")
	f(`"error_code":"-"`, "/graphql# 200 told=false")
	f(`"error_code":-32601,"jsonrpc_method":"eth_call"`, "/graphql#eth_call 404 told=true")
	f(`"error_code":0`, "/graphql# 200 told=true")
	f(`"error_code":null`, "/graphql# 200 told=false")
	f(`"grpc_status":"16"`, "/graphql# 401 told=true")
	f(`"grpc_status":0`, "/graphql# 200 told=true")
	f(`"grpc_status":"NotFound"`, "/graphql# 404 told=true")
	f(`"grpc_status":"PERMISSION_DENIED"`, "/graphql# 403 told=true")
	f(`"grpc_status":13`, "/graphql# 500 told=true")
	f(`"request_body":{"operationName":"GetOrder","query":"x"}`, "/graphql#GetOrder 200 told=false")
	f(`"request_body":"{\"operationName\":\"GetOrder\",\"query\":\"query GetOrder { order(id:1){id} }\"}"`, "/graphql#order#1 200 told=false")
	f(`"request_body":"{\"query\":\"query Mine { me{id} }\"}"`, "/graphql#Mine 200 told=false")
	f(`"request_body":"{\"query\":\"{ a: user(id:1){id} }\"}"`, "/graphql#user#1 200 told=false")
	f(`"request_body":"{\"query\":\"mutation($n:String){\\n login(name:$n){token} }\"}"`, "/graphql#login 200 told=false")
	f(`"request_body":"{\"operationName\":\"GetHome\",\"query\":\"mutation GetHome { signIn(name:1){token} }\"}"`, "/graphql#signIn 200 told=false")
	f(`"request_body":"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"user.login\",\"params\":[]}"`, "/graphql#user.login 200 told=false")
	f(`"request_body":"[{\"jsonrpc\":\"2.0\",\"method\":\"a\"},{\"jsonrpc\":\"2.0\",\"method\":\"b\"}]"`, "/graphql#a 200 told=false")
	f(`"request_body":"{\"method\":\"paypal\",\"amount\":3}"`, "/graphql# 200 told=false")
	f(`"request_body":"{\"operationName\":\"Cut\",\"query\":\"quer"`, "/graphql#Cut 200 told=false")
	f(`"request_body":"name=x&password=y"`, "/graphql# 200 told=false")
	f(`"request_body":"{\"operationName\":\"a\\u0000b\"}"`, "/graphql# 200 told=false")
	f(`"operation_name":"GET /orders"`, "/graphql# 200 told=false")
	g := func(line, want string) {
		t.Helper()
		if got := c.application(t, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	g(`{"method":"GET","path":"/api/graphql?operationName=GetOrder&query=x","status":200}`, "/api/graphql#GetOrder 200 told=false")
	g(`{"method":"POST","path":"/shop.Orders/Get","rpc.method":"Get","grpc_status":"5","status":200}`, "/shop.Orders/Get# 404 told=true")
	// An HTTP status that says it failed stands.
	g(`{"method":"POST","path":"/graphql","status":503,"graphql_errors":1,"error_code":"NOT_FOUND"}`, "/graphql# 503 told=true")
	// Where a login leads.
	g(`{"method":"POST","path":"/login","status":302,"sent_http_location":"/login?error=1"}`, "/login# 401 told=true")
	g(`{"method":"POST","path":"/login","status":302,"sent_http_location":"https://a.example/"}`, "/login# 302 told=true")
	g(`{"method":"POST","path":"/login","status":303,"sent_http_location":"https://a.example/login/"}`, "/login# 401 told=true")
	g(`{"method":"POST","path":"/login","status":302,"sent_http_location":"/account"}`, "/login# 302 told=true")
	g(`{"method":"POST","path":"/login","status":302,"sent_http_location":"/?auth=Failed"}`, "/login# 401 told=true")
	g(`{"method":"POST","path":"/cart","status":302,"sent_http_location":"/cart"}`, "/cart# 302 told=false")
}

func TestApplicationInNginx(t *testing.T) {
	c, err := CompileNginx(`$remote_addr [$time_local] "$request" $status $upstream_trailer_grpc_status "$http_x_apollo_operation_name" "$request_body"`, ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := func(rest, want string) {
		t.Helper()
		line := `203.0.113.7 [10/Oct/2025:13:55:36 +0200] ` + rest
		if got := c.application(t, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	f(`"POST /shop.Auth/Check HTTP/2.0" 200 16 "-" "-"`, "/shop.Auth/Check# 401 told=true")
	f(`"POST /shop.Auth/Check HTTP/2.0" 200 0 "-" "-"`, "/shop.Auth/Check# 200 told=true")
	f(`"POST /graphql HTTP/2.0" 200 - "GetOrder" "-"`, "/graphql#GetOrder 200 told=false")
	f(`"POST /graphql HTTP/2.0" 200 - "-" "{\x22operationName\x22:\x22GetOrder\x22}"`, "/graphql#GetOrder 200 told=false")
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"NOT_FOUND", `[{"extensions":{"code":"FORBIDDEN"}}]`, "-32601", "/login?error"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if s := appError(v); s != 0 && (s < 400 || s > 599) {
			t.Errorf("%q amounts to %d", v, s)
		}
		leadsBack("/login", v)
	})
}
