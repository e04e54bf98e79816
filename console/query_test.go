package console

import (
	stdcmp "cmp"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/pipeline"
)

// badQueries are what no list takes; also seeds of the fuzz target.
func badQueries() map[string]string { // query: what the problem must name
	return map[string]string{
		"severty=high":                    `no parameter "severty"; there are `,
		"limit=1&Limit=2":                 `"Limit"`,
		"a=1&b=2":                         `no parameter "a", "b"; there are since, until,`,
		"=1":                              `no parameter ""`,
		"limit":                           "limit=\"\"",
		"limit=":                          "limit=\"\"",
		"limit=0":                         "from 1 to",
		"limit=-1":                        "from 1 to",
		"limit=10001":                     "from 1 to",
		"limit=many":                      "from 1 to",
		"limit=1e3":                       "from 1 to",
		"limit=%2B5%20":                   "from 1 to",
		"limit=99999999999999999999":      "from 1 to",
		"limit=5&limit=6":                 "limit is given 2 times",
		"limit=5&limit=":                  "limit=\"\"",
		"limit=5;status=200":              "semicolon",
		"limit=%zz":                       "%zz",
		"since=":                          "since=\"\"",
		"since=yesterday":                 "RFC 3339",
		"since=2026-11-22":                "RFC 3339",
		"since=2026-11-22T03:00:00":       "RFC 3339",
		"since=2026-11-22T03:00:00+01:00": "%2B",
		"since=1970-01-01T00:00:00Z":      "after 1970",
		"until=1970-01-01T00:00:00Z":      "after 1970",
		"until=1969-12-31T23:59:59Z":      "after 1970",
		"until=0001-01-01T00:00:00Z":      "after 1970",
		"since=2026-11-22T03:00:01Z&until=2026-11-22T03:00:00Z": "until is before since",
		"principal=":                                      "principal=\"\"",
		"principal=203.0.113.7":                           "KIND:VALUE",
		"principal=ip":                                    "KIND:VALUE",
		"principal=ip:":                                   "KIND:VALUE",
		"principal=:203.0.113.7":                          "KIND:VALUE",
		"principal=IP:203.0.113.7":                        "KIND:VALUE",
		"principal=client:203.0.113.7":                    "KIND:VALUE",
		"principal=ip:203.0.113":                          "IP address",
		"principal=ip:example.com":                        "IP address",
		"principal=ip:203.0.113.0/24":                     "IP address",
		"principal=ip:::":                                 "IP address",
		"principal=ip:1.1.1.1&principal=":                 "principal=\"\"",
		"principal=ip:1.1.1.1&principal=ip:1.1.1.2":       "principal is given 2 times",
		strings.Repeat("limit=1&", maxValues) + "limit=2": "65 parameters",
		strings.Repeat("x", 9000):                         `xxx"...`,
		"e=1&b=1&c=1&d=1&a=1&f=1&g=1&h=1&i=1&j=1":         `no parameter "a", "b", "c", "d", "e", "f", "g", "h", and 2 more; there are`,
	}
}

func TestBadParameters(t *testing.T) {
	h := newHandler(options(&fakeStore{}))
	ran := 0
	f := func(path, query, want string) {
		t.Helper()
		ran++
		w := ask(h, "GET", path+"?"+query)
		p := wantProblem(t, w, 400, want)
		if len(p.Detail) > 2000 {
			t.Errorf("%s?%.80s: a detail of %d bytes", path, query, len(p.Detail))
		}
	}
	for query, want := range badQueries() {
		f("/api/v1/alerts", query, want)
		f("/api/v1/requests", query, want)
	}
	if ran == 0 {
		t.Fatal("no case ran")
	}
	f("/api/v1/alerts", "limit=1001", "from 1 to 1000")
	f("/api/v1/alerts", "severity=", "severity=\"\"")
	f("/api/v1/alerts", "severity=hihg", "info, low, medium, high, critical")
	f("/api/v1/alerts", "severity=high,", "severity=\"\"")
	f("/api/v1/alerts", "severity=high,HIGH", "\"HIGH\"")
	f("/api/v1/alerts", "status=closed", "open, resolved")
	f("/api/v1/alerts", "status=", "status=\"\"")
	f("/api/v1/alerts", "detector=", "detector=\"\"")
	f("/api/v1/alerts", "detector=auth", "a detector's name")
	f("/api/v1/alerts", "detector=auth.", "a detector's name")
	f("/api/v1/alerts", "detector=Auth.Bruteforce", "a detector's name")
	f("/api/v1/alerts", "detector=auth.bruteforce%27--", "a detector's name")
	f("/api/v1/alerts", "detector=a."+strings.Repeat("x", 64), "a detector's name")
	f("/api/v1/alerts", "sort=oldest", "newest, severity or score")
	f("/api/v1/alerts", "view=x", "row or full")
	f("/api/v1/alerts", "tag=a,,b", "tags")
	f("/api/v1/alerts", "label=x", "name=value")
	f("/api/v1/alerts", "address=x", "an IP address")
	f("/api/v1/alerts", "endpoint=POST", "METHOD TEMPLATE")
	f("/api/v1/alerts", "q=-", "words with letters or digits")
	f("/api/v1/alerts", "q="+strings.Repeat("x", 201), "words with letters or digits")
	f("/api/v1/alerts", "suppressed=yes", "true or false")
	f("/api/v1/alerts", "triage=open", "new, in_progress, closed")
	f("/api/v1/alerts", "cursor=x", "cursor: not one of this list")
	f("/api/v1/alerts/groups", "by=x", "one of detector")
	f("/api/v1/alerts/groups", "limit=501", "from 1 to 500")
	f("/api/v1/alerts", "before=0", "from 1 to")
	f("/api/v1/alerts", "before=9007199254740993", "from 1 to")
	f("/api/v1/alerts", "after=-1", "from 1 to")
	f("/api/v1/alerts", "path=/", "no parameter \"path\"")
	f("/api/v1/requests", "status=0", "from 100 to 999")
	f("/api/v1/requests", "status=99", "from 100 to 999")
	f("/api/v1/requests", "status=1000", "from 100 to 999")
	f("/api/v1/requests", "path=", "how the path begins")
	f("/api/v1/requests", "severity=high", "no parameter \"severity\"")
	f("/api/v1/requests", "limit=x&status=y", "status=\"y\"") // every problem at once
	f("/api/v1/requests", "limit=x&status=y", "limit=\"x\"")
	f("/api/v1/alerts/a", "limit=1", "no parameter \"limit\"")
	f("/api/v1/openapi.json", "pretty=1", "no parameter \"pretty\"")
}

func TestParameters(t *testing.T) {
	s := &fakeStore{}
	h := newHandler(options(s))
	ip := func(value string) pipeline.Principal {
		return pipeline.Principal{Kind: pipeline.PrincipalIP, Value: value}
	}
	alerts := func(query string, want AlertQuery) {
		t.Helper()
		if want.Limit == 0 {
			want.Limit = alertsLimit
		}
		want.Limit++ // the store is asked for one more than is shown
		want.Sort, want.Full = stdcmp.Or(want.Sort, sortNewest), !want.Full
		if w := ask(h, "GET", "/api/v1/alerts?"+query); w.Code != 200 {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
		if d := cmp.Diff(want, s.alertsBy); d != "" {
			t.Errorf("%s: %s", query, d)
		}
	}
	requests := func(query string, want RequestFilter) {
		t.Helper()
		if want.Limit == 0 {
			want.Limit = requestsLimit
		}
		want.Limit++
		if w := ask(h, "GET", "/api/v1/requests?"+query); w.Code != 200 {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
		if d := cmp.Diff(want, s.sought); d != "" {
			t.Errorf("%s: %s", query, d)
		}
	}
	alerts("", AlertQuery{})
	alerts("limit=1000", AlertQuery{Limit: 1000})
	alerts("severity=high,critical&severity=low,high", AlertQuery{Severity: []string{"high", "critical", "low"}})
	alerts("status=open", AlertQuery{Status: []string{"open"}})
	alerts("status=open,resolved", AlertQuery{Status: []string{"open", "resolved"}})
	alerts("detector=health.source_silent&before=12&after=3", AlertQuery{Detector: []string{"health.source_silent"}, BeforeSeq: 12, AfterSeq: 3})
	alerts("since=2026-01-01T01:00:00%2B01:00&until=2026-01-01T00:00:00.000001Z", AlertQuery{Since: 1767225600e6, Until: 1767225600e6 + 1})
	alerts("principal=ip:203.0.113.7", AlertQuery{Principal: ip("203.0.113.7")})
	alerts("principal=ip:::ffff:203.0.113.7", AlertQuery{Principal: ip("203.0.113.7")})
	alerts("principal=ip:2001:DB8:0:1::5", AlertQuery{Principal: ip("2001:db8:0:1::/64")})
	alerts("principal=ip:2001:db8:0:1::/64", AlertQuery{Principal: ip("2001:db8:0:1::/64")})
	alerts("principal=account:u_a:b", AlertQuery{Principal: pipeline.Principal{Kind: pipeline.PrincipalAccount, Value: "u_a:b"}})
	alerts("triage=new,closed&assignee=-&verdict=duplicate&tag=a,b&tier=page&suppressed=true&backfill=false", AlertQuery{
		Triage: []string{"new", "closed"}, Assignee: "-", Verdict: []string{"duplicate"}, Tags: []string{"a", "b"}, Tier: []string{"page"}, Suppressed: new(true), Backfill: new(false),
	})
	alerts("label=service=shop&label=env=a=b&campaign=c1&endpoint=POST%20/login&address=::ffff:203.0.113.7&q=two%20-%20words", AlertQuery{
		Labels: map[string]string{"service": "shop", "env": "a=b"}, Campaign: "c1", Endpoint: "POST /login", Address: "203.0.113.7", Words: []string{"two", "words"},
	})
	alerts("sort=score&view=row", AlertQuery{Sort: sortScore, Count: true, Full: true}) // not full
	alerts("view=row&count=false", AlertQuery{Full: true})
	alerts("count=true", AlertQuery{Count: true})
	requests("", RequestFilter{})
	requests("limit=10000", RequestFilter{Limit: 10_000})
	requests("path=/api/%2565&status=499", RequestFilter{PathPrefix: "/api/%65", Status: 499})
	requests("principal=key:k_acme_1&since=2026-01-01T00:00:00Z", RequestFilter{
		Principal: pipeline.Principal{Kind: pipeline.PrincipalKey, Value: "k_acme_1"}, Since: 1767225600e6,
	})
}

// FuzzQuery: whatever a caller sends, it is refused with a problem of bounded
// length, or the filter is within its limits and something in it says so for
// every parameter: none is overlooked.
func FuzzQuery(f *testing.F) {
	for query := range badQueries() {
		f.Add(query)
	}
	f.Add("since=2026-01-01T01:00:00%2B01:00&until=2027-01-01T00:00:00Z&limit=5&principal=ip:2001:db8::1&severity=high&before=7")
	f.Add("path=/a&status=404&principal=key:k_x_y")
	f.Add("status=open&detector=auth.bruteforce&after=9&severity=low,high")
	f.Fuzz(func(t *testing.T, raw string) {
		q := newQuery(raw)
		a, _, err := (&console{}).deskQuery(q)
		check(t, q, err)
		if err == nil {
			if a.Limit < 1 || a.Limit > maxAlerts || a.BeforeSeq < 0 || a.BeforeSeq > maxSeq || a.AfterSeq < 0 || a.AfterSeq > maxSeq || len(a.Severity) > 5 {
				t.Errorf("%q: %+v", raw, a)
			}
			counts(t, q, a, "limit", "sort", "view", "count")
		}
		q = newQuery(raw)
		r, err := q.requestFilter()
		check(t, q, err)
		if err == nil {
			if r.Limit < 1 || r.Limit > maxRequests || r.Status != 0 && (r.Status < 100 || r.Status > 999) {
				t.Errorf("%q: %+v", raw, r)
			}
			counts(t, q, r, "limit")
		}
	})
}

func check(t *testing.T, q *query, err error) {
	t.Helper()
	var p *problem
	if err != nil && (!errors.As(err, &p) || p.Status != http.StatusBadRequest || p.Detail == "" || len(p.Detail) > 4000) {
		t.Errorf("%v: %v", q.values, err)
	}
}

// counts fails when fewer fields of the filter select something than there are
// parameters, apart from those that have a value anyway.
func counts(t *testing.T, q *query, filter any, free ...string) {
	t.Helper()
	given := len(q.values)
	for _, name := range free {
		if q.values.Has(name) {
			given--
		}
	}
	set, v := 0, reflect.ValueOf(filter)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if !v.Field(i).IsZero() && !slices.Contains([]string{"Limit", "Sort", "Full", "Count"}, name) {
			set++
		}
	}
	if set != given {
		t.Errorf("%v: %d parameters, %d in %+v", q.values, given, set, filter)
	}
}
