package pipeline

import "testing"

func TestAppendQuery(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := string(AppendQuery(nil, in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	f("", "")
	f("page=3", "page=3")
	f("page=secret", "page=*")
	f("token=abc&email=a@b.c&page=2", "token=*&email=*&page=2")
	f("otp=123456", "otp=*")
	f("flag", "flag")
	f("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", "*")
	f("a=", "a=")
	f("a=b=c", "a=*")
	f("&&x=1", "&&x=*")
	f("id=17", "id=17")
	f("order_id=0193-17", "order_id=*")
	f("order_id=7001&t=1", "order_id=7001&t=*")
	f("orderId=7001&ORDER-ID=3", "orderId=7001&ORDER-ID=3")
	f("filter[order_id]=9", "filter[order_id]=9")
	f("orderid=7001&paid=7001&userid=4", "orderid=7001&paid=*&userid=4")
	f("uuid=0193e3a4-7b1c-7def-8a00-1234567890ab", "uuid=0193e3a4-7b1c-7def-8a00-1234567890ab")
	f("doc_ulid=01ARZ3NDEKTSV4RRFFQ69G5FAV", "doc_ulid=01ARZ3NDEKTSV4RRFFQ69G5FAV")
	f("id=anna@example.com", "id=*")
	f("id=d41d8cd98f00b204e9800998ecf8427e", "id=*") // as many session ids look
	for _, name := range []string{"token_id", "session_id", "sessionId", "sid", "code_id", "key_id", "apiKeyId", "email_id", "client_id", "national_id", "utm_id", "trace_id", "otp", "void"} {
		f(name+"=123456", name+"=*")
	}
}

func TestQueryPage(t *testing.T) {
	f := func(query, reduced string, want int32) {
		t.Helper()
		got := string(AppendQuery(nil, query))
		if got != reduced || string(AppendQuery(nil, got)) != reduced {
			t.Errorf("%s: reduced to %s, want %s, twice the same", query, got, reduced)
		}
		if n := QueryPage(got); n != want {
			t.Errorf("%s: page %d, want %d", query, n, want)
		}
	}
	f("", "", -1)
	f("q=lamp&page=3", "q=*&page=3", 3)
	f("page=1234567890", "page=*", -1)
	f("cursor=Zm9vYmFy&limit=50", "cursor=~0d454700&limit=50", 0x0d454700>>2|CursorFrom)
	f("cursor=Zm9vYmFz", "cursor=~0bda68f2", 0x0bda68f2>>2|CursorFrom)
	f("token=Zm9vYmFy", "token=*", -1)
	// What pollers send is no cursor.
	for _, v := range []string{"1772409600", "2026-03-02T10:00:00Z", "2026-03-02", "12", "a"} {
		f("after="+v, "after=*", -1)
	}
}

func TestReduce(t *testing.T) {
	r := &Resolver{}
	req := Request{Path: "/shop;JSESSIONID=0F3A/cart", Query: "key=s3cret", Referer: "https://x.example/reset?token=s3cret"}
	r.reduce(&req)
	if req.Path != "/shop" || req.Query != "key=*" || req.Referer != "https://x.example/reset" {
		t.Errorf("got %q %q %q", req.Path, req.Query, req.Referer)
	}
}

func FuzzAppendQuery(f *testing.F) {
	f.Add("page=3&token=abc")
	f.Fuzz(func(t *testing.T, q string) {
		if out := AppendQuery(nil, q); len(out) > len(q)+3*maxParameters+8 {
			t.Errorf("%d bytes out of %d", len(out), len(q))
		}
	})
}
