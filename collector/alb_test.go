package collector

import "testing"

func TestALB(t *testing.T) {
	c := albFormat(ParseOptions{})
	f := func(line, want string) {
		t.Helper()
		if got := parse(c, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	const at = `https 2025-02-06T12:14:14.655641Z app/lb/50dc 203.0.113.7:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 0 57 `
	const tail = ` ECDHE TLSv1.2 arn:tg "Root=1-583" "shop.example" "arn:cert" 1 2025-02-06T12:14:14.364000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1`
	const want = `time=2025-02-06T12:14:14.655641Z remote=203.0.113.7 host=shop.example method=GET path=/a query=b=1 protocol=HTTP/1.1 status=200 bytes=57 us=171000 agent=curl/8`
	f(at+`"GET https://shop.example:443/a?b=1 HTTP/1.1" "curl/8"`+tail, want+` id=Root=1-583`)
	f(`2025-02-06T12:14:14.655641Z lb 203.0.113.7:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 0 57 "GET https://shop.example:443/a?b=1 HTTP/1.1" "curl/8" ECDHE TLSv1.2`, want)
	f(`h2 2025-02-06T12:14:14.655641Z app/lb/50dc [2001:db8::7]:2817 - -1 -1 -1 403 - 0 57 "GET https://h:443/a HTTP/2.0" "a \"b\"" E T - "Root=1" "-" "-" 0 2025-02-06T12:14:14.364000Z "waf" "-" "-" "-" "-" "-" "-"`,
		`time=2025-02-06T12:14:14.655641Z remote=2001:db8::7 host=h method=GET path=/a protocol=HTTP/2.0 status=403 bytes=57 agent=a "b" id=Root=1 blocked=true`)
	f(`http 2025-02-06T12:14:14.655641Z app/lb/50dc 203.0.113.7:1 - -1 -1 -1 400 - 0 272 "- http://lb.example:80- -" "-" - - - "-" "-" "-" - 2025-02-06T12:14:14.364000Z "-" "-" "-" "-" "-" "-" "-"`,
		`time=2025-02-06T12:14:14.655641Z remote=203.0.113.7 status=400 bytes=272`)
	f(`http 2025-02-06T12:14:14.655641Z app/lb/50dc 203.0.113.7:1 10.0.0.1:80 0.1 0.1 0.1 502 - 0 5 "GET http://h:80/ HTTP/1.1" "x`, `time=2025-02-06T12:14:14.655641Z remote=203.0.113.7 host=h method=GET path=/ protocol=HTTP/1.1 status=502 bytes=5 us=300000 agent=x`)
	f(`tls 2.0 2025-02-06T12:14:14 net/lb/1 l 203.0.113.7:1 10.0.0.1:80 5 2`, "reject: format")
	f(`http yesterday app/lb/50dc 203.0.113.7:1 10.0.0.1:80 0.1 0.1 0.1 502 - 0 5 "GET http://h:80/ HTTP/1.1" "x"`, "reject: time")
	f(`http 2025-02-06T12:14:14.655641Z app/lb/50dc 203.0.113.7:1 10.0.0.1:80 0.1 0.1 0.1 5x2 - 0 5 "GET http://h:80/ HTTP/1.1" "x"`, "reject: status")
	if got := string(c.ClientPrefix([]byte(at))); got != "203.0.113.7" {
		t.Errorf("client prefix %q", got)
	}
}
