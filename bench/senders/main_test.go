package main

import (
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"weir/pipeline"
)

// TestClient: what the client notes of an answer is what the application sent.
func TestClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(origin)}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	all := traffic(300, 1)
	if !reflect.DeepEqual(all, traffic(300, 1)) {
		t.Error("the same seed gives other requests")
	}
	sendAll(t.Context(), l.Addr().String(), all, 4)
	seen := 0
	for _, r := range all {
		if r.failed || r.status == http.StatusBadRequest {
			continue // what Go's own server refuses
		}
		seen++
		parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(r.path, "/auth"), "/"), "/")
		want := map[string]int64{"0": 0, "7": 7, "1024": 1024, "70000": 70000, "3000c": 3000}[parts[1]]
		if parts[0] == "204" || parts[0] == "304" || r.method == "HEAD" {
			want = 0
		}
		if r.bytes != want || r.wire < r.bytes || r.total <= r.wire || !strings.HasPrefix(parts[0], string(rune('0'+r.status/100))) {
			t.Errorf("%s %.80s: status %d, %d bytes of %d, want %d", r.method, r.path, r.status, r.bytes, r.total, want)
		}
	}
	if seen < 200 {
		t.Errorf("%d of 300 requests were answered", seen)
	}
}

// TestCompare: every field that differs is told.
func TestCompare(t *testing.T) {
	keys, err := pipeline.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	a, _ := pipeline.ParseAddress("127.0.1.1")
	s := &sent{
		id: 3, client: "127.0.1.1", method: "GET", path: "/200/7/r3/x", query: "q=secret", host: "API.example.com:80", agent: "a\tb", user: "Ann", session: "s",
		key: "k", status: 200, bytes: 7, wire: 7, total: 90,
	}
	good := pipeline.Request{
		Method: "GET", Path: "/200/7/r3/x", Query: "q=*", Host: "api.example.com", Agent: `a\x09b`, Status: 200, Bytes: 7, Address: a,
		Account: keys.AccountToken("ann"), Session: "s_1", Key: "k_1",
	}
	good.Time = pipeline.TimeOf(s.start)
	f := func(change func(r *pipeline.Request), want string) {
		t.Helper()
		r := good
		change(&r)
		res := &result{fields: map[string]int{}, example: map[string]string{}}
		res.compare(s, &r, documented("x", ""), keys)
		got := ""
		for field := range res.fields {
			got += field
		}
		if got != want {
			t.Errorf("differs in %q, want %q: %v", got, want, res.example)
		}
	}
	f(func(*pipeline.Request) {}, "")
	f(func(r *pipeline.Request) { r.Method = "POST" }, "method")
	f(func(r *pipeline.Request) { r.Path += "y" }, "path")
	f(func(r *pipeline.Request) { r.Query = "q=secret" }, "query")
	f(func(r *pipeline.Request) { r.Host = "" }, "host")
	f(func(r *pipeline.Request) { r.Agent = "a\tb" }, "agent")
	f(func(r *pipeline.Request) { r.Status = 0 }, "status")
	f(func(r *pipeline.Request) { r.Bytes = 90 }, "bytes")
	f(func(r *pipeline.Request) { r.Time += 2e6 }, "time")
	f(func(r *pipeline.Request) { r.Address = pipeline.Address{} }, "address")
	f(func(r *pipeline.Request) { r.Forwarded = a }, "forwarded")
	f(func(r *pipeline.Request) { r.Account = "" }, "user")
	f(func(r *pipeline.Request) { r.Session = "" }, "session")
	f(func(r *pipeline.Request) { r.Key = "" }, "key")
	f(func(r *pipeline.Request) { r.LoginUser = keys.AccountToken("bob") }, "login_user")
}
