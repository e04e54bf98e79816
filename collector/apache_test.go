package collector

import (
	"strings"
	"testing"
	"time"
)

func TestCompileApache(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zones here: %v", err)
	}
	f := func(format, line, want string) {
		t.Helper()
		c, err := CompileApache(format, ParseOptions{Location: berlin})
		if err != nil {
			t.Errorf("%s: %v", format, err)
			return
		}
		if got := parse(c, line); got != want {
			t.Errorf("%s\n%s\n got %s\nwant %s", format, line, got, want)
		}
	}
	const (
		at     = "time=2025-10-10T11:55:36Z "
		req    = "method=GET path=/a query=b=1 protocol=HTTP/1.1"
		format = `%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"`
		line   = `203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200 - "-" "a \"b\" \\ \xc3\xa9\x07"`
		wants  = at + "remote=203.0.113.7 " + req + ` status=200 bytes=0 agent=a "b" \ é\x07 user=ann`
	)
	f(format, line, wants)
	f(`"`+format+`"`, line, wants)
	f(`LogFormat "`+format+`" combined`, line, wants)
	f(strings.ReplaceAll(format, `\"`, `"`), line, wants)
	f("%h\\t\"%r\"", "203.0.113.7\t\"GET /a?b=1 HTTP/1.1\"", "remote=203.0.113.7 "+req)
	f(`%400,501{User-agent}i "%r" %!200,304,302{Referer}i`, `ua "GET /a?b=1 HTTP/1.1" ref`, req+" agent=ua referer=ref")

	f(`%m %U%q %H`, `GET /a?b=1 HTTP/1.1`, req)
	f(`%m %U%q %H`, `GET /a HTTP/1.1`, "method=GET path=/a protocol=HTTP/1.1")
	f(`%m %U %q`, `GET /a ?b=1`, "method=GET path=/a query=b=1")
	f(`%v:%p %V %h "%r" %s %>s`, `conf.example:443 Asked.Example 203.0.113.7 "GET /a?b=1 HTTP/1.1" 302 200`, "remote=203.0.113.7 host=asked.example "+req+" status=200")
	f(`%a %{c}a "%r" %B %O %I`, `203.0.113.7 10.0.0.1 "GET /a?b=1 HTTP/1.1" 5 300 200`, "remote=10.0.0.1 real=203.0.113.7 "+req+" bytes=5")
	f(`%h "%r" %u`, `203.0.113.7 "GET /a?b=1 HTTP/1.1" ""`, "remote=203.0.113.7 "+req)
	f(`"%r" %D`, `"GET /a?b=1 HTTP/1.1" 1500`, req+" us=1500")
	f(`"%r" %T %{ms}T`, `"GET /a?b=1 HTTP/1.1" 2 1500`, req+" us=2000000")
	f(`"%r" %{us}T`, `"GET /a?b=1 HTTP/1.1" 1500`, req+" us=1500")
	f(`"%r" "%{X-Forwarded-For}i" "%{X-Real-IP}i" "%{JSESSIONID}C" "%{theme}C" %{UNIQUE_ID}e %{n}n %{Content-Type}o %X %k %f %A %L %P %{SSL_PROTOCOL}x`,
		`"GET /a?b=1 HTTP/1.1" "192.0.2.1" "9.9.9.9" "s1" "dark" id7 - text/html + 3 /var/www/a b 10.0.0.1 - 77 TLSv1.2`, "xff=192.0.2.1 "+req+" session=s1 id=id7")

	// Times of all makes.
	f(`%{%d/%b/%Y:%H:%M:%S}t.%{msec_frac}t %{%z}t "%r"`, `10/Oct/2025:13:55:36.250 +0200 "GET /a?b=1 HTTP/1.1"`, "time=2025-10-10T11:55:36.25Z "+req)
	f(`[%{begin:%F %T}t.%{begin:usec_frac}t] "%r"`, `[2025-10-10 13:55:36.250001] "GET /a?b=1 HTTP/1.1"`, "time=2025-10-10T11:55:36.250001Z "+req)
	f(`%{sec}t.%{msec_frac}t "%r"`, `1760097336.250 "GET /a?b=1 HTTP/1.1"`, "time=2025-10-10T11:55:36.25Z "+req)
	f(`%{sec}t%{usec_frac}t "%r"`, `1760097336250000 "GET /a?b=1 HTTP/1.1"`, "time=2025-10-10T11:55:36.25Z "+req)
	f(`%{end:msec}t "%r"`, `1760097336250 "GET /a?b=1 HTTP/1.1"`, "time=2025-10-10T11:55:36.25Z "+req)
	f(`%{usec}t "%r"`, `1760097336250000 "GET /a?b=1 HTTP/1.1"`, "time=2025-10-10T11:55:36.25Z "+req)
	f(`[%{%a %b %e %H:%M:%S %Y}t] "%r"`, `[Fri Oct 10 13:55:36 2025] "GET /a?b=1 HTTP/1.1"`, at+req)
	f(`[%{%c}t] "%r"`, `[Sat Feb  1 13:55:36 2025] "GET /a?b=1 HTTP/1.1"`, "time=2025-02-01T12:55:36Z "+req)
	f(`%{%m/%d/%y %I:%M:%S %p %Z}t "%r"`, `10/10/25 01:55:36 PM UTC "GET /a?b=1 HTTP/1.1"`, "time=2025-10-10T13:55:36Z "+req)
	f(`%{%D %r %z}t "%r"`, `10/10/25 12:00:01 AM +0000 "GET /a?b=1 HTTP/1.1"`, "time=2025-10-10T00:00:01Z "+req)
	f(`%{%s}t "%r"`, `1760097336 "GET /a?b=1 HTTP/1.1"`, at+req)
	f(`%{%F %T}t "%r"`, `2025-13-10 13:55:36 "GET /a?b=1 HTTP/1.1"`, "reject: time")
	f(`%t "%r"`, `[10/Oct/2025:13:55:36 ] "GET /a?b=1 HTTP/1.1"`, "reject: time")
	f(`%t "%r" %>s`, `[10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" abc`, "reject: status")
}

func TestCompileApacheErrors(t *testing.T) {
	f := func(format, want string) {
		t.Helper()
		_, err := CompileApache(format, ParseOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", format, err, want)
		}
	}
	f(`%h%u "%r"`, "column 3: %u follows %h")
	f(`%h %Z "%r"`, "column 4: %Z: Apache has no such directive")
	f(`%h %{User-Agent "%r"`, "column 4: %{User-Agent")
	f(`%h "%r" %`, "column 9")
	f(`%h "%r" %>`, "column 9")
	f(`%h %{%Q}t "%r"`, "does not know %Q")
	f(`%h %{%}t "%r"`, "lone %")
	f(`%h %{h}T "%r"`, "the unit is s, ms or us")
	f(`%h %>s`, "no request")
	f(`combined`, "no values")
}
