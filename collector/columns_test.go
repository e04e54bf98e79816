package collector

import (
	"errors"
	"strings"
	"testing"
)

// parseAll reads lines with one parser: what describe writes of each request.
func parseAll(c Format, lines ...string) string {
	var out []string
	p := c.New()
	var f Fields
	for _, l := range lines {
		switch err := p.Parse(&f, []byte(l)); {
		case err == nil:
			out = append(out, describe(&f))
		case !errors.Is(err, SkipLine):
			out = append(out, "reject: "+err.Error())
		}
	}
	return strings.Join(out, "\n")
}

func TestColumns(t *testing.T) {
	f := func(c Format, want string, lines ...string) {
		t.Helper()
		if got := parseAll(c, lines...); got != want {
			t.Errorf("%s\n got %s\nwant %s", lines, got, want)
		}
	}
	iis, cf, zeek := iisFormat(ParseOptions{}), cloudFrontFormat(ParseOptions{}), zeekColumnsFormat(ParseOptions{})
	const at = "time=2025-02-06T12:14:14Z "
	f(iis, at+`remote=203.0.113.7 host=shop.example method=GET path=/a query=q=1 protocol=HTTP/1.1 status=404 bytes=123 us=789000 agent=Mozilla/5.0 (X) user=CORP\ann session=s1 blocked=true
`+at+"remote=203.0.113.7 method=GET path=/b status=200",
		"#Software: Microsoft Internet Information Services 10.0", "#Version: 1.0", "#Date: 2025-02-06 12:14:14",
		"#Fields: date time s-sitename s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs-version cs(User-Agent) cs(Cookie) cs(Referer) cs-host sc-status sc-substatus sc-win32-status sc-bytes cs-bytes time-taken",
		`2025-02-06 12:14:14 W3SVC1 127.0.0.1 GET /a q=1 80 CORP\ann 203.0.113.7 HTTP/1.1 Mozilla/5.0+(X) a=b;+sid=s1 - shop.example:80 404 5 0 123 456 789`,
		"#Fields: time c-ip cs-method cs-uri-stem sc-status", "12:14:14 203.0.113.7 GET /b 200")
	f(iis, "reject: format\nreject: status\nreject: time\nreject: request",
		"#Fields: date time c-ip cs-method cs-uri-stem sc-status", "2025-02-06 12:14:14 203.0.113.7 GET /a", "2025-02-06 12:14:14 203.0.113.7 GET /a OK",
		"2025-02-30 12:14:14 203.0.113.7 GET /a 200", "2025-02-06 12:14:14 203.0.113.7 - - -")
	// Without a header.
	f(iis, at+"remote=203.0.113.7 xff=192.0.2.9 method=POST path=/a query=$x=1 status=200 us=26000 agent=Mozilla/5.0 (X) referer=https://r.example/\n"+
		at+"remote=203.0.113.7 method=GET path=/ protocol=HTTP/1.1 status=403 bytes=5 us=7000 agent=u\nreject: format",
		"2025-02-06 12:14:14 10.0.0.1 POST /a $x=1 443 - 203.0.113.7 Mozilla/5.0+(X) https://r.example/ 200 0 0 26 192.0.2.9",
		"2025-02-06 12:14:14 W3SVC1 WEB1 10.0.0.1 GET / - 443 - 203.0.113.7 HTTP/1.1 u - - 403 0 0 5 6 7",
		"2025-02-06 12:14:14 one two three GET four five six seven eight")
	f(cf, at+"remote=203.0.113.7 xff=192.0.2.1, 192.0.2.2 host=www.example.com method=GET path=/a query=b=1 protocol=HTTP/2.0 status=502 bytes=78 us=102000 agent=Mozilla/5.0 (X) referer=http://r.example/?a=b id=Sx==",
		strings.Join([]string{"2025-02-06", "12:14:14", "LAX1", "392", "203.0.113.7", "GET", "d1.cloudfront.net", "/a", "502", "http://r.example/?a=b", "Mozilla/5.0%20(X)", "b=1", "-", "Error", "Sx==", "www.example.com", "https", "23", "0.102", "192.0.2.1, 192.0.2.2", "TLSv1.2", "E", "Error", "HTTP/2.0", "-", "-", "11040", "0.102", "OriginDnsError", "text/html", "78", "-", "-"}, "\t"))
	f(cf, at+"remote=203.0.113.7 method=GET path=/a",
		"#Version: 1.0", "#Fields: date time c-ip cs-method cs-uri-stem sc-status", "2025-02-06\t12:14:14\t203.0.113.7\tGET\t/a\t000")
	f(zeek, "time=2025-02-06T12:14:14.655321Z remote=203.0.113.7 xff=192.0.2.9 host=h method=GET path=/a\\x09b query=c=1 protocol=1.1 status=200 bytes=9 agent=curl/8 user=ann",
		"#separator \\x09", "#set_separator\t,", "#path\thttp", "#open\t2025-02-06-12-00-00",
		"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tmethod\thost\turi\treferrer\tversion\tuser_agent\tresponse_body_len\tstatus_code\tusername\tproxied",
		"#types\ttime\tstring\taddr", "1738844054.655321\tC1\t203.0.113.7\t1\t10.0.0.1\t80\tGET\th:80\t/a\\x09b?c=1\t-\t1.1\tcurl/8\t9\t200\tann\tX-FORWARDED-FOR -> 192.0.2.9", "#close\t2025")
	f(zeek, "time=2025-02-06T12:14:14.655321Z remote=203.0.113.7 host=h method=GET path=/ protocol=1.1 status=200 bytes=9 agent=curl/8",
		"1738844054.655321\tC1\t203.0.113.7\t1\t10.0.0.1\t80\t1\tGET\th\t/\t-\t1.1\tcurl/8\t-\t0\t9\t200\tOK\t-\t-\t(empty)\t-\t-\t-\t-\t-\t-\tF1\t-\ttext/html")
}

func TestCarryHeader(t *testing.T) {
	f := func(before, data, want string) {
		t.Helper()
		if got := string(carryHeader([]byte(before), []byte(data))); got != want {
			t.Errorf("%q after %q: got %q, want %q", data, before, got, want)
		}
	}
	f("", "a b\nc d\n", "")
	f("", "#Fields: a\nx\n#Fields: b\ny", "#Fields: b\n")
	f("#Fields: a\n", "x\n", "#Fields: a\n")
	f("#Fields: a\n", "x #Fields: no\n", "#Fields: a\n")
	f("#Date: 2025\n#Fields: a\n", "x\n#Date: 2026", "#Fields: a\n#Date: 2026\n")
	f("", "#fields\tts\tuid\n1\t2\n", "#fields\tts\tuid\n")
}
