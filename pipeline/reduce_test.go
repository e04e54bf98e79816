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
