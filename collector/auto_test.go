package collector

import (
	"fmt"
	"strings"
	"testing"
)

func sample(lines ...string) [][]byte {
	var out [][]byte
	for _, l := range lines {
		out = append(out, []byte(l))
	}
	return out
}

func TestDetect(t *testing.T) {
	const (
		common   = `203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET /a HTTP/1.1" 200 5`
		combined = common + ` "-" "Mozilla/5.0"`
	)
	f := func(lines [][]byte, want string) {
		t.Helper()
		d := Detect(lines, ParseOptions{})
		got := d.Problem
		if d.Format != nil {
			got = d.Format.Name + ", " + d.Chosen
			if d.Problem != "" || d.Confidence < detectShare {
				t.Errorf("chosen and yet: %+v", d)
			}
		} else if d.Remedy == "" || d.Chosen != "" {
			t.Errorf("no remedy: %+v", d)
		}
		if !strings.Contains(got, want) {
			t.Errorf("%.80q...: got %q, want %q", lines, got, want)
		}
	}
	f(sample(combined, combined, combined+` "192.0.2.1"`), "combined, combined (nginx/Apache): 3 of 3 lines")
	f(sample(common, common), "common, common (Apache): 2 of 2 lines")
	f(sample(common, combined), "combined, combined (nginx/Apache): 2 of 2 lines")
	f(sample("", combined+"\r\n", "# rotated", combined), "combined, combined (nginx/Apache): 2 of 3 lines")
	f(sample("h.example:80 "+combined), "vhost_combined, ")
	f(sample(`{"method":"GET","path":"/","status":200}`, caddyLine), "json, json (one object a line): 2 of 2 lines")
	f(nil, "empty")
	f(sample("", " ", "\r"), "empty")
	f(sample("\x1f\x8b\x08\x00rest"), "gzip")
	f(sample("\x28\xb5\x2f\xfdrest"), "zstd")
	f(sample("\xd4\xc3\xb2\xa1\x02\x00"), "packet capture")
	f(sample("\x7fELF\x02\x00\x00", "\x00\x01"), "binary")
	f(sample("\xff\xfe1\x002\x003\x00"), "UTF-16")
	f(sample("#Version: 1.0", "#Fields: date time c-ip", "2025-10-10 13:55:36 203.0.113.7"), "W3C")
	f(sample("#separator \\x09"), "Zeek")
	f(sample("time,ip,method,path,status", "1,2,3,4,5", "1,2,3,4,5"), "CSV")
	f(sample("time\tip\tmethod\tpath", "1\t2\t3\t4"), "tabs")
	f(sample("<134>Oct 10 13:55:36 web nginx: "+combined), "syslog")
	f(sample("Oct 10 13:55:36 web haproxy[1]: x", "Oct 10 13:55:37 web haproxy[1]: y"), "syslog")
	f(sample(`2025/10/10 13:55:36 [error] 31#31: *3 open() "/x" failed, client: 203.0.113.7`), "error log")
	f(sample(`[Tue Jul 22 06:48:30 2008] [error] [client 198.51.100.86] script not found`), "error log")
	f(sample(`h2 2018-07-02T22:23:00.186641Z app/lb/50dc6c 10.0.1.252:48160 10.0.0.66:9000 0.000 0.002 0.000 200 200 5 257 "GET https://10.0.2.105:773/ HTTP/2.0"`), "load balancer")
	f(sample(`{"log":"`+strings.ReplaceAll(combined, `"`, `\"`)+`\n","stream":"stdout","time":"2025-10-10T13:55:36Z"}`), "container")
	f(sample(`{"level":"info","msg":"x"}`, `{"level":"info","msg":"y"}`), "no request's")
	f(sample("[", `{"method":"GET",`), "array")
	f(sample("lorem ipsum", "dolor sit"), "any of the first 2 lines")
}

// What Detect proposes reads the lines it was proposed for.
func TestDetectProposes(t *testing.T) {
	f := func(layout, want string, fields ...string) {
		t.Helper()
		var lines [][]byte
		for i := range 30 {
			r := strings.NewReplacer(
				"{ip}", fmt.Sprintf("203.0.113.%d", i), "{clf}", fmt.Sprintf("10/Oct/2025:13:55:%02d +0200", i),
				"{iso}", fmt.Sprintf("2025-10-10T13:55:%02d.5Z", i), "{req}", fmt.Sprintf("GET /p/%d?x HTTP/1.1", i),
				"{n}", fmt.Sprint(100+37*i), "{s}", fmt.Sprintf("0.%03d", i), "{sid}", fmt.Sprintf("s3cr3t0123456789abcdef%04d", i/3),
				"{user}", []string{"-", "ann", "bob"}[i%3], "{ref}", []string{"-", "https://r.example/"}[i%2])
			lines = append(lines, []byte(r.Replace(layout)))
		}
		d := Detect(lines, ParseOptions{})
		if d.Format != nil || d.Remedy != "--log-format '"+want+"'" {
			t.Errorf("%s\n got %q %q\nwant %q", lines[0], d.Problem, d.Remedy, want)
			return
		}
		c, err := CompileLogFormat(want, ParseOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		for _, l := range lines {
			got := parse(c, string(l))
			for _, has := range fields {
				if !strings.Contains(got, has) {
					t.Errorf("%s\n got %s, want %q", l, got, has)
				}
			}
		}
	}
	f(`- - [{clf}] "{req}" 200 {n} "{ref}" {sid} "Mozilla/5.0 (X11)"`,
		`- - [$time_local] "$request" $status $body_bytes_sent "$http_referer" $cookie_PHPSESSID "$http_user_agent"`, "session=s3", "path=/p/", "agent=Mozilla")
	f(`[{clf}] {ip} TLSv1.2 ECDHE-RSA-AES128 "{req}" {n}`,
		`[$time_local] $remote_addr $unknown1 $unknown2 "$request" $unknown3`, "remote=203", "path=/p/")
	f(`{iso} {ip} {user} "{req}" 404 {n} {s} "curl/8.1" "192.0.2.1, 192.0.2.2"`,
		`$time_iso8601 $remote_addr $remote_user "$request" $status $body_bytes_sent $request_time "$http_user_agent" "$http_x_forwarded_for"`, "status=404", "us=", "xff=192")
	f(`shop.example.com {ip} [{clf}] GET /p HTTP/1.1 200 {n}`,
		`$host $remote_addr [$time_local] $request_method $request_uri $server_protocol $status $body_bytes_sent`, "host=shop", "method=GET", "path=/p")
	f(`1760097336.250 {ip} "{req}" 200 it's`, `$msec $remote_addr "$request" $status $unknown1`, "status=200")
}
