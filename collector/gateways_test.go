package collector

import "testing"

func TestGateways(t *testing.T) {
	f := func(c Format, line, want string) {
		t.Helper()
		if got := parse(c, line); got != want {
			t.Errorf("%s: %s\n got %s\nwant %s", c.Name, line, got, want)
		}
	}
	named := func(name string) Format {
		c, err := Named(name, ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const head = `203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200 59 `
	const want = `time=2025-10-10T11:55:36Z remote=203.0.113.7 method=GET path=/a query=b=1 protocol=HTTP/1.1 status=200 bytes=59 `
	ingress, traefik, api := named("ingress_nginx"), named("traefik"), named("aws_apigateway")
	f(ingress, head+`"-" "curl/8" 89 0.001 [default-web-8080] [] 172.17.0.5:8080 59 0.000 200 529a007902362a5f51385a5fa7049884`, want+`us=1000 agent=curl/8 user=ann id=529a007902362a5f51385a5fa7049884`)
	f(ingress, head+`"-" "curl/8" 89 0.001 [a] [] 10.0.0.1:80, 10.0.0.2:80 0, 1 0.000, 1.000 502, 403 529a007902362a5f51385a5fa7049884`, want+`us=1000 agent=curl/8 user=ann id=529a007902362a5f51385a5fa7049884`)
	f(ingress, head+`"-" "curl/8"`, "reject: format")
	f(traefik, head+`"-" "curl/8" 72 "web@docker" "http://10.0.0.9:80" 12ms`, want+`us=12000 agent=curl/8 user=ann`)
	f(traefik, head+`"-" "curl/8" 72 "1.5 s" "http://10.0.0.9:80" 12ms`, want+`us=12000 agent=curl/8 user=ann`)
	f(traefik, head+`"-" "curl/8"`, "reject: format")
	f(traefik, `{"ClientAddr":"203.0.113.7:1","RequestMethod":"GET","RequestPath":"/a","DownstreamStatus":200,"StartUTC":"2025-10-10T11:55:36Z"}`, `time=2025-10-10T11:55:36Z remote=203.0.113.7:1 method=GET path=/a status=200`)
	f(api, head+`c6af9ac6-7b61-11e6-9a41-93e8deadbeef`, want+`user=ann id=c6af9ac6-7b61-11e6-9a41-93e8deadbeef`)
	f(api, head+`GQIVriFLIAMEMsA=`, want+`user=ann id=GQIVriFLIAMEMsA=`)
	f(api, head+`"-" "curl/8"`, "reject: format")
	f(api, head+`- c6af9ac6-7b61-11e6-9a41-93e8deadbeef`, "reject: format")
	for line, want := range map[string]string{
		head + `"-" "curl/8" 89 0.001 [a] [] - - - - 529a007902362a5f51385a5fa7049884`: "combined (nginx/Apache): 1 of 1 lines; --format ingress_nginx reads them, too, with the requests' ids",
		head + `"-" "curl/8" 72 "web@docker" "http://10.0.0.9:80" 12ms`:                "combined (nginx/Apache): 1 of 1 lines; --format traefik reads them, too, which knows its columns",
		head + `c6af9ac6-7b61-11e6-9a41-93e8deadbeef`:                                  "aws_apigateway: 1 of 1 lines",
		head + `"-" "curl/8"`: "combined (nginx/Apache): 1 of 1 lines",
	} {
		if d := Detect(sample(line), ParseOptions{}); d.Chosen != want {
			t.Errorf("%s: %q %q, want %q", line, d.Chosen, d.Problem, want)
		}
	}
}
