package collector

import (
	"strings"
	"testing"
)

func TestCombined(t *testing.T) {
	c := combinedFormat(ParseOptions{})
	f := func(line, want string) {
		t.Helper()
		if got := parse(c, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	const (
		head = `203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] `
		at   = `time=2025-10-10T11:55:36Z remote=203.0.113.7 `
	)
	f(head+`"GET /a/b?c=d HTTP/1.1" 200 2326 "https://r.example/" "Mozilla/5.0 (X11)"`,
		at+`method=GET path=/a/b query=c=d protocol=HTTP/1.1 status=200 bytes=2326 agent=Mozilla/5.0 (X11) referer=https://r.example/`)
	f(head+`"GET / HTTP/2.0" 304 0 "-" "-"`, at+`method=GET path=/ protocol=HTTP/2.0 status=304 bytes=0`)
	f(head+`"GET / HTTP/2" 304 -`, at+`method=GET path=/ protocol=HTTP/2 status=304 bytes=0`)
	f(head+`"GET / HTTP/1.1" 200 5 - -`, at+`method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5`)

	// What clients send that is no request.
	f(head+`"-" 408 - "-" "-"`, at+`status=408 bytes=0`)
	f(head+`"" 400 0 "-" "-"`, at+`status=400 bytes=0`)
	f(head+`"\x16\x03\x01\x02\x00" 400 157 "-" "-"`, at+`path=\x16\x03\x01\x02\x00 status=400 bytes=157`)
	f(head+`"]&\xDF\xBDV\xA2 HTTP" 400 157 "-" "-"`, at+`path=]&\xdf\xbdV\xa2 HTTP status=400 bytes=157`)
	f(head+`"\x03\x00\x00/*\xE0\x00Cookie: mstshash=Administr" 400 157 "-" "-"`, at+`path=\x03\x00\x00/*\xe0\x00Cookie: mstshash=Administr status=400 bytes=157`)
	f(head+`"GET" 400 0 "-" "-"`, at+`method=GET status=400 bytes=0`)
	f(head+`"hello" 400 173 "-" "-"`, at+`path=hello status=400 bytes=173`)
	f(head+`"t3 12.1.2" 400 173 "-" "-"`, at+`path=t3 12.1.2 status=400 bytes=173`)
	f(head+`"SSH-2.0-Go" 400 173 "-" "-"`, at+`path=SSH-2.0-Go status=400 bytes=173`)
	f(head+`"GET  HTTP/1.1" 400 300 "-" "-"`, at+`method=GET protocol=HTTP/1.1 status=400 bytes=300`)
	f(head+`"GET /old" 200 5 "-" "-"`, at+`method=GET path=/old status=200 bytes=5`)
	f(head+`"get /low HTTP/1.1" 400 5 "-" "-"`, at+`method=get path=/low protocol=HTTP/1.1 status=400 bytes=5`)
	f(head+`"GET /a b HTTP/1.0 c HTTP/1.1" 200 5 "-" "-"`, at+`method=GET path=/a b HTTP/1.0 c protocol=HTTP/1.1 status=200 bytes=5`)
	f(head+`"GET /a HTTP/x.y" 400 5 "-" "-"`, at+`method=GET path=/a HTTP/x.y status=400 bytes=5`)
	f(head+`"OPTIONS * HTTP/1.1" 200 5 "-" "-"`, at+`method=OPTIONS path=* protocol=HTTP/1.1 status=200 bytes=5`)
	f(head+`"GET http://User@Shop.Example.:8080/p?q=1 HTTP/1.1" 200 5 "-" "-"`, at+`host=shop.example method=GET path=/p query=q=1 protocol=HTTP/1.1 status=200 bytes=5`)
	f(head+`"GET http://[2001:DB8::1]:80 HTTP/1.1" 200 5 "-" "-"`, at+`host=[2001:db8::1] method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5`)
	f(head+`"GET http://h.example?a=b HTTP/1.1" 200 5 "-" "-"`, at+`host=h.example method=GET path=/ query=a=b protocol=HTTP/1.1 status=200 bytes=5`)
	f(head+`"CONNECT mail.example:25 HTTP/1.1" 405 5 "-" "-"`, at+`host=mail.example method=CONNECT path=mail.example:25 protocol=HTTP/1.1 status=405 bytes=5`)

	// Escapes of both servers; what is not printable stays written out.
	f(head+`"GET /caf\xC3\xA9?q=\x22a\x5C HTTP/1.1" 200 5 "-" "x \"y\" \\z"`, at+`method=GET path=/café query=q="a\ protocol=HTTP/1.1 status=200 bytes=5 agent=x "y" \z`)
	f(head+`"GET /\xff\xC3\xA9\t HTTP/1.1" 200 5 "-" "-"`, at+`method=GET path=/\xff\xc3\xa9\x09 protocol=HTTP/1.1 status=200 bytes=5`)
	f(head+`"GET /a HTTP/1.1" 200 5 "-" "\\"`, at+`method=GET path=/a protocol=HTTP/1.1 status=200 bytes=5 agent=\`)
	f(head+`"GET /\xZZ\q HTTP/1.1" 200 5 "-" "-"`, at+`method=GET path=/\xZZ\q protocol=HTTP/1.1 status=200 bytes=5`)
	f(head+`"GET /a"b" HTTP/1.1" 200 5 "-" "an "odd" one"`, at+`method=GET path=/a"b" protocol=HTTP/1.1 status=200 bytes=5 agent=an "odd`)

	// Who it was.
	f(`2001:db8::1 - ann smith [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5 "-" "-"`,
		`time=2025-10-10T11:55:36Z remote=2001:db8::1 method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5 user=ann smith`)
	f(`crawl-66.example.com ident ann [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5 "-" "-"`,
		`time=2025-10-10T11:55:36Z remote=crawl-66.example.com method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5 user=ann`)
	f(`203.0.113.7 - "" [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5 "-" "-"`, at+`method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5`)
	f(`203.0.113.7 - x [01/Jan/2020:00:00:00 +0000] \x22GET /fake HTTP/1.1\x22 200 1 [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5 "-" "-"`,
		at+`method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5 user=x [01/Jan/2020:00:00:00 +0000] "GET /fake HTTP/1.1" 200 1`)

	// What sites append.
	f(head+`"GET / HTTP/1.1" 200 5 "-" "a" "192.0.2.1, 2001:db8::2, unknown"`, at+`xff=192.0.2.1, 2001:db8::2, unknown method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5 agent=a`)
	f(head+`"GET / HTTP/1.1" 200 5 "-" "a" "-" "2.75" 462 0.050 [up-80] [] 10.0.0.1:80 12 0.049 200 9f`, at+`method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5 us=50000 agent=a`)
	f(head+`"GET / HTTP/2.0" 401 17 "-" "a" 72 "frontend" "/dashboard" 12ms`, at+`method=GET path=/ protocol=HTTP/2.0 status=401 bytes=17 us=12000 agent=a`)
	f(head+`"GET / HTTP/1.1" 200 5 "-" "cut in the mid`, at+`method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5 agent=cut in the mid`)
	f("\xef\xbb\xbf"+head+`"GET / HTTP/1.1" 200 5 "-" "a"`, at+`method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5 agent=a`)

	// What is not this format.
	f(``, "reject: empty")
	f(`   `, "reject: empty")
	f(strings.Repeat("x", MaxLine+1), "reject: too_long")
	f("GET / HTTP/1.1", "reject: format")
	f("a\x00b", "reject: binary")
	f("g\x00e\x00t\x00 \x00/\x00a\x00", "reject: encoding")
	f("\xfd\xfc \xfb\xfa", "reject: encoding")
	f("caf\xe9 is Latin-1, not an access log", "reject: format")
	f("\xff\xfe\xfd\xfc\xfb\xfa", "reject: encoding")
	f(`203.0.113.7 - - [10/Okt/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5`, "reject: time")
	f(`203.0.113.7 - - [31/Feb/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5`, "reject: time")
	f(head+`"GET / HTTP/1.1" OK 5 "-" "-"`, "reject: status")
	f(head+`"GET / HTTP/1.1" 200 many "-" "-"`, "reject: format")
	f(`shop.example 203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5 "-" "-"`, "reject: format")
	f(`10.0.0.2, 10.0.0.1 - - [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5 "-" "-"`, "reject: format")
	f(`- - [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5 "-" "-"`, "reject: format")
}

func TestCommonAndVhost(t *testing.T) {
	f := func(c Format, line, want string) {
		t.Helper()
		if got := parse(c, line); got != want {
			t.Errorf("%s: %s\n got %s\nwant %s", c.Name, line, got, want)
		}
	}
	common, vhost := commonFormat(ParseOptions{}), vhostFormat(ParseOptions{})
	const line = `203.0.113.7 - ann [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 2326`
	const want = `method=GET path=/a protocol=HTTP/1.0 status=200 bytes=2326`
	f(common, line, `time=2000-10-10T20:55:36Z remote=203.0.113.7 `+want+` user=ann`)
	f(common, line+` "-" "-"`, "reject: format")
	f(vhost, "Shop.Example:443 "+line+` "-" "a"`, `time=2000-10-10T20:55:36Z remote=203.0.113.7 host=shop.example `+want+` agent=a user=ann`)
	f(vhost, "2001:db8::5 "+line+` "-" "a"`, `time=2000-10-10T20:55:36Z remote=203.0.113.7 host=2001:db8::5 `+want+` agent=a user=ann`)
	f(vhost, line+` "-" "a"`, "reject: format")
	f(vhost, `"10.0.0.1, 10.0.0.2" `+line, "reject: format")
}

func TestClientPrefix(t *testing.T) {
	f := func(c Format, line, want string) {
		t.Helper()
		if got := string(c.ClientPrefix([]byte(line))); got != want {
			t.Errorf("%s: %s: client prefix %q, want %q", c.Name, line, got, want)
		}
	}
	compiled, err := CompileNginx(`$host "$http_x_forwarded_for" $remote_addr [$time_local] "$request"`, ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f(combinedFormat(ParseOptions{}), "203.0.113.7 - - [", "203.0.113.7")
	f(combinedFormat(ParseOptions{}), "", "")
	f(vhostFormat(ParseOptions{}), "h 203.0.113.7 - - [", "203.0.113.7")
	f(vhostFormat(ParseOptions{}), "h", "")
	f(jsonFormat(nil, ParseOptions{}), `{"time":"x","nested":{"remote_addr":"no"},"Remote_Addr":"203.0.113.7","broken`, "203.0.113.7")
	f(jsonFormat(nil, ParseOptions{}), `{"time":"x"}`, "")
	f(jsonFormat(nil, ParseOptions{}), `203.0.113.7`, "")
	f(compiled, `shop.example "1.2.3.4, 5.6.7.8" 203.0.113.7 [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1"`, "203.0.113.7")
	f(compiled, `shop.example`, "")
}
