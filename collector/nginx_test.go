package collector

import (
	"strings"
	"testing"
)

func TestCompileNginx(t *testing.T) {
	f := func(format, line, want string) {
		t.Helper()
		c, err := CompileNginx(format, ParseOptions{})
		if err != nil {
			t.Errorf("%s: %v", format, err)
			return
		}
		if got := parse(c, line); got != want {
			t.Errorf("%s\n%s\n got %s\nwant %s", format, line, got, want)
		}
	}
	const (
		at    = "time=2025-10-10T11:55:36Z "
		req   = "method=GET path=/a query=b=1 protocol=HTTP/1.1 "
		main  = `'$remote_addr - $remote_user [$time_local] "$request" '` + "\n\t" + `'$status $body_bytes_sent "$http_referer" '` + "\n" + `'"$http_user_agent" "$http_x_forwarded_for"'`
		line  = `203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200 5 "-" "it's \x22x\x22" "192.0.2.1, 192.0.2.2"`
		wants = at + "remote=203.0.113.7 xff=192.0.2.1, 192.0.2.2 " + req + `status=200 bytes=5 agent=it's "x" user=ann`
	)
	// As nginx.conf has it, and less.
	f(main, line, wants)
	f("log_format main "+main+";", line, wants)
	f("log_format\tmain\n"+main+" ;", line, wants)
	f("main "+main, line, wants)
	f("log_format main escape=default "+main+";", line, wants)
	f("escape=json "+main+";", line, wants)
	f(strings.ReplaceAll(strings.ReplaceAll(main, "'\n\t'", ""), "'\n'", ""), line, wants)
	f(`$remote_addr - ${remote_user} [$time_local] "$request" $status`, `203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200`, at+"remote=203.0.113.7 "+req+"status=200")
	f(`"$http_x_forwarded_for" "$request"`, `"192.0.2.1" "GET /a?b=1 HTTP/1.1"`, "xff=192.0.2.1 method=GET path=/a query=b=1 protocol=HTTP/1.1")

	// Times.
	f(`$time_iso8601 "$request"`, `2025-10-10T13:55:36+02:00 "GET /a?b=1 HTTP/1.1"`, at+strings.TrimSpace(req))
	f(`$msec "$request"`, `1760097336.250 "GET /a?b=1 HTTP/1.1"`, "time=2025-10-10T11:55:36.25Z "+strings.TrimSpace(req))
	f(`[$time_local] "$request"`, `[10/Oct/2025:13:55:36 0200] "GET / HTTP/1.1"`, "reject: time")
	f(`[$time_local] $status "$request"`, `[10/Oct/2025:13:55:36 +0200] 2OO "GET / HTTP/1.1"`, "reject: status")

	// Where the request stands.
	f(`$request_method $host$request_uri $server_protocol`, `GET Shop.Example:80/a?b=1 HTTP/1.1`, "host=shop.example "+strings.TrimSpace(req))
	f(`$request_method $scheme://$host$request_uri $server_protocol`, `GET https://shop.example/a?b=1 HTTP/1.1`, "host=shop.example "+strings.TrimSpace(req))
	f(`$request_method $uri$is_args$args $server_protocol`, `GET /a?b=1 HTTP/1.1`, strings.TrimSpace(req))
	f(`$request_method $uri $args $server_protocol`, `GET /a b=1 HTTP/1.1`, strings.TrimSpace(req))
	f(`$request_method $uri $args $server_protocol`, `GET /a - HTTP/1.1`, "method=GET path=/a protocol=HTTP/1.1")
	f(`"$request" "$uri" "$request_uri"`, `"GET /raw%20x?b HTTP/1.1" "/decoded x" "/raw%20x?b"`, "method=GET path=/raw%20x query=b protocol=HTTP/1.1")
	f(`$request $status`, `GET /a b c HTTP/1.1 200`, "method=GET path=/a b c protocol=HTTP/1.1 status=200")

	// Who asked.
	f(`$realip_remote_addr $remote_addr "$request"`, `10.0.0.1 203.0.113.7 "GET /a HTTP/1.1"`, "remote=10.0.0.1 real=203.0.113.7 method=GET path=/a protocol=HTTP/1.1")
	f(`$remote_addr $proxy_protocol_addr $http_x_real_ip "$request"`, `10.0.0.1 203.0.113.7 1.1.1.1 "GET /a HTTP/1.1"`, "remote=10.0.0.1 real=203.0.113.7 method=GET path=/a protocol=HTTP/1.1")
	f(`$cookie_theme "$cookie_connect_sid" "$http_x_api_key" "$http_authorization" "$request"`, `dark "s3" "k1" "Basic eA==" "GET /a HTTP/1.1"`,
		"method=GET path=/a protocol=HTTP/1.1 key=k1 session=s3 auth=Basic eA==")
	f(`"$http_cookie" "$request"`, `"a=b; PHPSESSID=s1; x=y" "GET /a HTTP/1.1"`, "method=GET path=/a protocol=HTTP/1.1 session=s1")
	f(`"$http_authorization" "$request"`, `"Bearer eyJhbGciOiJub25lIn0.eyJhY3QiOnsic3ViIjoiaW5uZXIifSwic3ViIjoiYW5uIn0.c2ln" "GET /a HTTP/1.1"`,
		"method=GET path=/a protocol=HTTP/1.1 subject=ann auth=Bearer eyJhbGciOiJub25lIn0.eyJhY3QiOnsic3ViIjoiaW5uZXIifSwic3ViIjoiYW5uIn0.c2ln")
	f(`$request_id $ssl_ja3 $ssl_protocol "$request"`, `ab12 771,4865 TLSv1.3 "GET /a HTTP/1.1"`, "method=GET path=/a protocol=HTTP/1.1 ja3=771,4865 id=ab12")
	f(`$host $server_name "$request"`, `a.example b.example "GET http://c.example/a HTTP/1.1"`, "host=a.example method=GET path=/a protocol=HTTP/1.1")

	// Values that hold what stands behind them.
	f(`$remote_addr - $remote_user [$time_local] "$request" $status`, `203.0.113.7 - x [01/Jan/2020:00:00:00 +0000] [10/Oct/2025:13:55:36 +0200] "GET /a HTTP/1.1" 200`,
		at+"remote=203.0.113.7 method=GET path=/a protocol=HTTP/1.1 status=200 user=x [01/Jan/2020:00:00:00 +0000]")
	f(`$http_x_forwarded_for - $remote_user [$time_local] "$request" $status`, `10.0.0.2, 10.0.0.1 - - [10/Oct/2025:13:55:36 +0200] "GET /a HTTP/1.1" 200`,
		at+"xff=10.0.0.2, 10.0.0.1 method=GET path=/a protocol=HTTP/1.1 status=200")
	f(`$http_x_forwarded_for $remote_addr "$request"`, `10.0.0.2, 10.0.0.1 203.0.113.7 "GET /a HTTP/1.1"`, "remote=203.0.113.7 xff=10.0.0.2, 10.0.0.1 method=GET path=/a protocol=HTTP/1.1")
	f(`"$http_x_forwarded_for" $remote_addr "$request"`, `"10.0.0.2," 203.0.113.7 "GET /a HTTP/1.1"`, "remote=203.0.113.7 xff=10.0.0.2, method=GET path=/a protocol=HTTP/1.1")
	f(`"$request" $upstream_addr $upstream_status $upstream_response_time $request_time`, `"GET /a HTTP/1.1" 10.0.0.1:80, unix:/x.sock : 10.0.0.2:80 502, 502 : 200 0.001, 0.002 : 0.003 0.010`,
		"method=GET path=/a protocol=HTTP/1.1 us=10000")
	f(`"$request" $pipe$connection $status`, `"GET /a HTTP/1.1" .77 200`, "method=GET path=/a protocol=HTTP/1.1 status=200")

	// Imitated JSON, and no escaping at all.
	f(`log_format j escape=json '{"t":"$time_iso8601","ip":"$remote_addr","r":"$request","s":$status,"rt":$request_time,"ua":"$http_user_agent"}';`,
		`{"t":"2025-10-10T13:55:36+02:00","ip":"203.0.113.7","r":"GET /a?b=1 HTTP/1.1","s":200,"rt":0.012,"ua":"an \"odd\" caf\u00e9 \u0007"}`,
		at+"remote=203.0.113.7 "+req+`status=200 us=12000 agent=an "odd" café \x07`)
	f(`log_format n escape=none '"$request" "$http_user_agent"';`, `"GET /\x41 HTTP/1.1" "C:\x"`, `method=GET path=/\x41 protocol=HTTP/1.1 agent=C:\x`)

	f(`$remote_addr "$request" end`, `203.0.113.7 "GET / HTTP/1.1" end and more`, "reject: format")
	f(`$remote_addr "$request"`, `203.0.113.7 "GET / HTTP/1.1`, "reject: format")
}

func TestCompileNginxErrors(t *testing.T) {
	f := func(format, want string) {
		t.Helper()
		_, err := CompileNginx(format, ParseOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", format, err, want)
		}
	}
	f(`$remote_addr$request`, "column 13: $request follows $remote_addr")
	f(`$remote_addr $status$body_bytes_sent "$request"`, "column 21: $body_bytes_sent follows $status")
	f(`$remote_addr $ "$request"`, "column 14: a $ with no variable")
	f(`${remote_addr "$request"`, "column 1: a $ with no variable")
	f(`$remote_addr $status`, "no request")
	f(`combined`, "no values")
	f(``, "no values")
	f(`'$request" '`+"$x", "quoted piece")
	f(`'$request`, "not closed")
	f(`log_format x escape=xml '$request';`, "escape=xml")
	f(strings.Repeat(`$request `, 300), "more than 200 values")
	f(strings.Repeat("x", maxFormat+1), "longer than")
}

// A line that fits nowhere ends after a bounded number of tries.
func TestLayoutTriesAreBounded(t *testing.T) {
	c, err := CompileNginx(strings.Repeat("$http_a ", 20)+"$status $request", ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := parse(c, strings.Repeat("a ", 10000)); got != "reject: format" && got != "reject: status" {
		t.Errorf("got %s", got)
	}
}
