package console

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

func TestLimitsAnswer(t *testing.T) {
	o := options(&fakeStore{})
	l := &Limits{Since: 1e6, Until: 2e6, Requests: 9, ByAddress: []EndpointLimit{{Method: "POST", Template: "/login", PerMinute: 12, Clients: 50}}}
	o.Limits = func() *Limits { return l }
	h := newHandler(o)
	f := func(query, by string, want int) {
		t.Helper()
		var v limitsView
		w := ask(h, "GET", "/api/v1/endpoints/limits"+query)
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 200 || v.By != by || len(v.Data) != want || v.Requests != 9 || v.Data == nil {
			t.Errorf("%s: %d %s: %v", query, w.Code, w.Body, err)
		}
	}
	f("", "address", 1)
	f("?by=key&format=json", "key", 0)
	w := ask(h, "GET", "/api/v1/endpoints/limits?format=nginx&by=key")
	if !strings.Contains(w.Body.String(), "$http_authorization") && len(l.ByKey) > 0 || w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	wantProblem(t, ask(h, "GET", "/api/v1/endpoints/limits?format=apache"), 400, "of json, nginx, haproxy")
	l = nil
	wantProblem(t, ask(h, "GET", "/api/v1/endpoints/limits"), 503, "has not seen enough")
	o.Limits = nil
	wantProblem(t, ask(newHandler(o), "GET", "/api/v1/endpoints/limits"), 404, "limits are off")
}

// TestGatewayPatterns: which requests the files mean, what stands in them of what
// attackers choose (nothing), and which of several endpoints counts.
func TestGatewayPatterns(t *testing.T) {
	f := func(host, template, fits, fitsNot string) {
		t.Helper()
		list := gatewayLimits([]EndpointLimit{{Host: host, Method: "GET", Template: template, PerMinute: 10}})
		if fits == "" {
			if len(list) != 0 {
				t.Errorf("%s: %+v", template, list)
			}
			return
		}
		r := regexp.MustCompile("^" + list[0].host + " GET " + list[0].path + "$")
		for s := range strings.SplitSeq(fits, "|") {
			if !r.MatchString(s) {
				t.Errorf("%s: %s does not fit %s", template, s, r)
			}
		}
		for s := range strings.SplitSeq(fitsNot, "|") {
			if fitsNot != "" && r.MatchString(s) {
				t.Errorf("%s: %s fits %s", template, s, r)
			}
		}
	}
	f("", "/login", "x.example GET /login| GET /login|a GET /login/", "a GET /login/x|a POST /login|a GET /loginx|a GET /a/login")
	f("Shop.example", "/a.b/{int}", "shop.example GET /a.b/12", "shopxexample GET /a.b/12|shop.example GET /acb/12|shop.example GET /a.b/x")
	f("", "/u/{uuid}/o/{str}", "a GET /u/8400f1e2-29b0-41d4-a716-446655440000/o/x", "a GET /u/x/o/x|a GET /u/8400f1e2-29b0/o/x/y")
	f("", "/f/{file}.pdf", "a GET /f/x.pdf", "a GET /f/xpdf|a GET /f/")
	f("", "/", "a GET /", "a GET /x")
	for _, bad := range []string{"", "login", `/a"; deny all;`, "/a b", "/a\nb", "/{int", "/a{int}", "/{int}*", "/graphql#Q", "/a/(b|c)+", "/$x", "/%2e"} {
		f("", bad, "", "")
	}
	f("evil.example\"", "/a", "", "")
	f("a:80", "/a", "", "")
	var order []string
	for _, g := range gatewayLimits([]EndpointLimit{
		{Method: "GET", Template: "/p/{str}", Clients: 9},
		{Method: "GET", Template: "/p/{int}", Clients: 1},
		{Method: "GET", Template: "/p/new", Clients: 2},
		{Method: "GET", Template: "/{str}/{int}", Clients: 9},
	}) {
		order = append(order, g.Template)
	}
	if got := strings.Join(order, " "); got != "/p/new /p/{int} /p/{str} /{str}/{int}" {
		t.Error(got)
	}
	many := make([]EndpointLimit, maxGatewayLimits+5)
	for i := range many {
		many[i] = EndpointLimit{Method: "GET", Template: "/a", Clients: int64(i)}
	}
	if list := gatewayLimits(many); len(list) != maxGatewayLimits {
		t.Errorf("%d limits", len(list))
	}
}
