package collector

import (
	"strings"
	"testing"
)

func TestEnvoy(t *testing.T) {
	c := envoyFormat("envoy", "", ParseOptions{})
	f := func(line, want string) {
		t.Helper()
		if got := parse(c, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	const at = `[2025-02-06T12:14:14.655Z] `
	const when = `time=2025-02-06T12:14:14.655Z `
	f(at+`"GET /a?b=1 HTTP/1.1" 200 - 0 178 2 1 "192.0.2.1,203.0.113.7" "curl/8" "r-1" "shop.example:9080" "10.0.0.1:9080"`,
		when+`xff=192.0.2.1,203.0.113.7 host=shop.example method=GET path=/a query=b=1 protocol=HTTP/1.1 status=200 bytes=178 us=2000 agent=curl/8 id=r-1`)
	f(at+`"GET /a HTTP/2" 429 RL 0 18 0 - "203.0.113.7" "a "quoted" one" "r-1" "h" "-"`,
		when+`xff=203.0.113.7 host=h method=GET path=/a protocol=HTTP/2 status=429 bytes=18 us=0 agent=a "quoted" one id=r-1 blocked=true`)
	f(at+`"GET /a HTTP/1.1" 403 UAEX - - "-" 0 178 2 1 "203.0.113.7" "curl/8" "r-1" "h" "10.0.0.1:9080" inbound|9080|| 127.0.0.6:1 10.0.0.1:9080 10.0.0.9:39696 sni default`,
		when+`remote=10.0.0.9:39696 xff=203.0.113.7 host=h method=GET path=/a protocol=HTTP/1.1 status=403 bytes=178 us=2000 agent=curl/8 id=r-1`)
	f(at+`"- - HTTP/1.1" 400 DPE http1.codec_error - "-" 0 11 46 - "-" "-" "-" "-" "-" - - 10.0.0.1:8080 [2001:db8::7]:51643 - -`,
		when+`remote=[2001:db8::7]:51643 protocol=HTTP/1.1 status=400 bytes=11 us=46000`)
	f(at+`"GET /a HTTP/1.1" 0 DC - - "-" 0 0 746 - "10.0.0.9" "x" "r" "h" "h:1" c 127.0.0.6:1 10.0.0.1:9080 10.0.0.9:0 - -`,
		when+`remote=10.0.0.9:0 xff=10.0.0.9 host=h method=GET path=/a protocol=HTTP/1.1 bytes=0 us=746000 agent=x id=r`)
	f(`[yesterday] "GET /a HTTP/1.1" 200 - 0 178 2 1 "-" "-" "-" "-" "-"`, "reject: time")
	f(`203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 5`, "reject: time")
	if got := string(c.ClientPrefix([]byte(at + `"GET / HTTP/1.1" 200 - 0 178 2 1 "203.0.113.7" "curl/8" "r-1" "h" "10.0.0.1:9080"`))); got != "203.0.113.7" {
		t.Errorf("client prefix %q", got)
	}
}

func TestCompileEnvoy(t *testing.T) {
	f := func(format, line, want string) {
		t.Helper()
		c, err := CompileLogFormat(format, ParseOptions{})
		if err != nil {
			t.Errorf("%s: %v", format, err)
			return
		}
		if got := parse(c, line); c.Name != "envoy" || got != want {
			t.Errorf("%s (%s)\n%s\n got %s\nwant %s", format, c.Name, line, got, want)
		}
	}
	f(`%START_TIME(%s.%3f)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQ(:METHOD)% %REQ(:PATH):256% %RESPONSE_CODE% %GRPC_STATUS% %TLS_JA4_FINGERPRINT% "%REQ(X-API-KEY)%" %%`,
		`1738844054.655 203.0.113.7 POST /pkg.S/M 200 NotFound t13d "k1" %`, `time=2025-02-06T12:14:14.655Z remote=203.0.113.7 method=POST path=/pkg.S/M status=200 key=k1 ja4=t13d app=404`)
	f(`[%START_TIME(%Y/%m/%dT%H:%M:%S%z)%] %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQ(:METHOD)% %REQ(:PATH)%\n`,
		`[2025/02/06T12:14:14+0000] 10.0.0.9:1 203.0.113.7:2 GET /a`, `time=2025-02-06T12:14:14Z remote=10.0.0.9:1 real=203.0.113.7:2 method=GET path=/a`)
	f(`%START_TIME(%d/%b/%Y:%H:%M:%S %z)% %PROTOCOL% %REQ(:PATH)%`, `06/Feb/2025:12:14:14 +0000 HTTP/2 /a`, `time=2025-02-06T12:14:14Z path=/a protocol=HTTP/2`)
	for format, want := range map[string]string{
		`%START_TIME% %REQ(:PATH`:            "column 14",
		`%START_TIME%%REQ(:PATH)%%PROTOCOL%`: "nothing between",
		`%START_TIME(%Q)% %REQ(:PATH)%`:      "column 1",
		`%START_TIME% %PROTOCOL%`:            "no request and no path",
	} {
		if _, err := CompileEnvoy(format, ParseOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", format, err, want)
		}
	}
}
