package collector

import (
	"strings"
	"testing"
)

func TestHAProxy(t *testing.T) {
	c := haproxyFormat(ParseOptions{})
	f := func(line, want string) {
		t.Helper()
		if got := parse(c, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	const (
		head = `Feb  6 12:14:14 localhost haproxy[14389]: `
		at   = `203.0.113.7:33317 [06/Feb/2025:12:14:14.655] http-in static/srv1 10/0/30/69/109 `
		want = `time=2025-02-06T12:14:14.655Z remote=203.0.113.7 method=GET path=/a query=b=1 protocol=HTTP/1.1 status=200 bytes=2750 us=109000`
	)
	f(head+at+`200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /a?b=1 HTTP/1.1"`, want)
	f(at+`200 2750 - - ---- 1/1/1/1/0 0/0 "GET /a?b=1 HTTP/1.1"`, want)
	f(`<134>1 2025-02-06T12:14:14.655Z h haproxy 1 - - `+at+`200 2750 - - ---- 1/1/1/1/+3 0/0 {|} "GET /a?b=1 HTTP/1.1" 0/0/0/0/1 h/TLSv1.3/AES`, want)
	f(strings.Replace(at, "static/srv1", "static/srv1 site.example", 1)+`200 +2750 - - ---- 1/1/1/1/0 0/0 "GET /a?b=1 HTTP/1.1"`, want)
	// Addresses.
	f(strings.Replace(at, "203.0.113.7", "2001:db8::7", 1)+`200 5 - - ---- 1/1/1/1/0 0/0 "GET / HTTP/2.0"`, `time=2025-02-06T12:14:14.655Z remote=2001:db8::7 method=GET path=/ protocol=HTTP/2.0 status=200 bytes=5 us=109000`)
	f(strings.Replace(at, "203.0.113.7", "-", 1)+`200 5 - - ---- 1/1/1/1/0 0/0 "GET / HTTP/2.0"`, `time=2025-02-06T12:14:14.655Z method=GET path=/ protocol=HTTP/2.0 status=200 bytes=5 us=109000`)
	// What it writes for what it does not take, and its escapes.
	const short = `time=2025-02-06T12:14:14.655Z remote=203.0.113.7 `
	f(strings.Replace(at, "10/0/30/69/109", "-1/-1/-1/-1/+5", 1)+`400 0 - - CR-- 1/1/1/1/0 0/0 "<BADREQ>"`, short+`status=400 bytes=0 us=5000`)
	f(at+`-1 0 - - CD-- 1/1/1/1/0 0/0 "GET / HTTP/1.1"`, short+`method=GET path=/ protocol=HTTP/1.1 bytes=0 us=109000`)
	f(at+`200 5 - - ---- 1/1/1/1/0 0/0 "GET /a#22b#0A#C3#A9#FFc?x=#23\n HTTP/1.1"`, short+`method=GET path=/a"b\x0a\xc3\xa9\xffc query=x=#\n protocol=HTTP/1.1 status=200 bytes=5 us=109000`)
	f(at+`200 5 - - ---- 1/1/1/1/0 0/0 "GET /caf#C3#A9 HTTP/1.1"`, short+`method=GET path=/café protocol=HTTP/1.1 status=200 bytes=5 us=109000`)
	// Whether a rule stopped it.
	f(at+`403 5 - - PR-- 1/1/1/1/0 0/0 "GET / HTTP/1.1"`, short+`method=GET path=/ protocol=HTTP/1.1 status=403 bytes=5 us=109000 blocked=true`)
	f(at+`500 5 - - PT-- 1/1/1/1/0 0/0 "GET / HTTP/1.1"`, short+`method=GET path=/ protocol=HTTP/1.1 status=500 bytes=5 us=109000 blocked=true`)
	f(at+`401 5 - - PR-- 1/1/1/1/0 0/0 "GET / HTTP/1.1"`, short+`method=GET path=/ protocol=HTTP/1.1 status=401 bytes=5 us=109000`)
	// No requests.
	f(head+`Connect from 1.2.3.4:40780 to 1.2.3.4:5000 (main/HTTP)`, "reject: format")
	f(head+`127.0.0.1:40962 [20/Sep/2018:15:44:23.285] main app/<NOSRV> -1/-1/0 212 SC 1/1/0/0/0 0/0`, "reject: format")
	f(head+`127.0.0.1:40962 [20/Sep/2018:15:44:23.285] main/1: SSL handshake failure`, "reject: format")
	f(head+`127.0.0.1:40962 [20/Spt/2018:15:44:23.285] a b/c 1/1/1/1/1 200 5 - - ---- 1/1/1/1/0 0/0 "GET / HTTP/1.1"`, "reject: time")
	f(at+`2x0 5 - - ---- 1/1/1/1/0 0/0 "GET / HTTP/1.1"`, "reject: status")
	f(``, "reject: empty")
	if got := string(c.ClientPrefix([]byte(head + at))); got != "203.0.113.7" {
		t.Errorf("client prefix %q", got)
	}
}

func TestCompileHAProxy(t *testing.T) {
	f := func(format, line, want string) {
		t.Helper()
		c, err := CompileLogFormat(format, ParseOptions{})
		if err != nil {
			t.Errorf("%s: %v", format, err)
			return
		}
		if c.Name != "haproxy" {
			t.Errorf("%s: taken for %s", format, c.Name)
		}
		if got := parse(c, line); got != want {
			t.Errorf("%s\n%s\n got %s\nwant %s", format, line, got, want)
		}
	}
	const stock = `%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r`
	const line = `203.0.113.7:33317 [06/Feb/2025:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 `
	const want = `time=2025-02-06T12:14:14.655Z remote=203.0.113.7 method=GET path=/a query=b=1 protocol=HTTP/1.1 status=200 bytes=2750 us=109000`
	f(stock, line+`{1wt.eu} {} "GET /a?b=1 HTTP/1.1"`, want)
	f(stock, line+`"GET /a?b=1 HTTP/1.1"`, want)
	f(`log-format "`+strings.ReplaceAll(stock, `"`, `\"`)+`"`, line+`{1wt.eu} "GET /a?b=1 HTTP/1.1"`, want)
	f(`log-format %ci\ [%T]\ %HM\ %HU\ %ST`, `2001:db8::7 [06/Feb/2025:12:14:14 +0000] GET /a?b=1 200`, `time=2025-02-06T12:14:14Z remote=2001:db8::7 method=GET path=/a query=b=1 status=200`)
	f(`%ci:%cp %Ts %{+Q}[capture.req.hdr(0)] %[req.hdr(host)] "%[req.hdr(User-Agent)]" %HM %HP%HQ %[var(txn.user)] %ID`,
		`2001:db8::7:443 1738844054 "x" Shop.Example "curl/8 (x)" GET /a?b=1 ann 7f`, `time=2025-02-06T12:14:14Z remote=2001:db8::7 host=shop.example method=GET path=/a query=b=1 agent=curl/8 (x) user=ann id=7f`)
	// The request's own bytes come as #22; a sample's as they are.
	f(`%ci [%tr] %ST "%HM" %{+Q}HU`, `203.0.113.7 [06/Feb/2025:12:14:14.655] 200 "GET" "/a#22b?c=#23"`, `time=2025-02-06T12:14:14.655Z remote=203.0.113.7 method=GET path=/a"b query=c=# status=200`)
	f(`%ci [%tr] %ST "%HM" "%[url]"`, `203.0.113.7 [06/Feb/2025:12:14:14.655] 200 "GET" "/a#22b"`, `time=2025-02-06T12:14:14.655Z remote=203.0.113.7 method=GET path=/a#22b status=200`)
	f(`%ci [%tr] %ST %HM %HU "%[res.hdr(x-log-user)]" "%[res.hdr(x-log-login)]"`, `203.0.113.7 [06/Feb/2025:12:14:14.655] 200 GET /a "ann" "bob"`, `time=2025-02-06T12:14:14.655Z remote=203.0.113.7 method=GET path=/a status=200 user=ann login=bob`)
	for format, want := range map[string]string{
		`%ci %[src`:   "column 5",
		`%ci %{+Q`:    "column 5",
		`%ci%HM %HU`:  "nothing between",
		`%ci %ST`:     "no request and no path",
		`%ci %HU % x`: "column 9",
	} {
		if _, err := CompileHAProxy(format, ParseOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", format, err, want)
		}
	}
}
