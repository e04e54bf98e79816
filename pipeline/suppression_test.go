package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// moment is a time of Wednesday, 4 March 2026, UTC.
func moment(clock string) Time {
	t, err := time.Parse(time.RFC3339, "2026-03-04T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return TimeOf(t)
}

func TestSilencesAside(t *testing.T) {
	labels := map[string]map[string]string{"shop.log": {"env": "prod"}}
	request := func(ip string, change func(r *Request)) *Ordered {
		a, _ := ParseAddress(ip)
		r := &Request{Time: moment("12:00:00"), Address: a, Kind: PrincipalIP, Method: "POST", Host: "shop.example", Path: "/export/17"}
		r.Owner = a.Owner()
		if change != nil {
			change(r)
		}
		r.Seal()
		return &Ordered{Request: r, Block: &Block{Source: "shop.log"}}
	}
	template := func(r *Request) string {
		if strings.HasPrefix(r.Path, "/export/") {
			return "/export/{id}"
		}
		return "{unknown}"
	}
	f := func(want bool, m SuppressionMatch, o *Ordered) {
		t.Helper()
		s := NewSilences(labels, nil)
		x := Suppression{ID: "s1", Match: m, Starts: moment("11:00:00"), Expires: moment("13:00:00")}
		x.Normalize()
		s.Put(x)
		if got := s.At(o.Time) && s.Aside(o, o.Owner, template) != 0; got != want {
			t.Errorf("%+v: aside %t, want %t", m, got, want)
		}
		if got := s.Unlearned(o, template); got != (want && m.narrow()) {
			t.Errorf("%+v: unlearned %t", m, got)
		}
	}
	plain := request("203.0.113.7", nil)
	who := func(kind PrincipalKind, value string) SuppressionMatch {
		return SuppressionMatch{Principal: &Principal{kind, value}}
	}
	at := func(method, host, path string) SuppressionMatch {
		return SuppressionMatch{Endpoint: &EndpointMatch{Method: method, Host: host, Template: path}}
	}
	f(true, who(PrincipalIP, "203.0.113.7"), plain)
	f(false, who(PrincipalIP, "203.0.113.8"), plain)
	f(true, who(PrincipalIP, "2001:db8::1"), request("2001:db8::ffff", nil))
	f(false, who(PrincipalCohort, "203.0.113.7"), plain)
	f(true, SuppressionMatch{Address: "203.0.113.0/29"}, plain)
	f(true, SuppressionMatch{Address: "203.0.113.7"}, plain)
	f(false, SuppressionMatch{Address: "203.0.113.8/29"}, plain)
	f(true, SuppressionMatch{Address: "2001:db8::/32"}, request("2001:db8:7::1", nil))
	keyed := request("203.0.113.7", func(r *Request) { r.Kind, r.Key, r.Account = PrincipalKey, "k_acme__mac", "u_token" })
	f(true, SuppressionMatch{Key: "k_acme__mac"}, keyed)
	f(true, SuppressionMatch{Client: "partner", KeyBegins: "k_acme_"}, keyed)
	f(false, SuppressionMatch{Client: "partner", KeyBegins: "k_acma_"}, keyed)
	f(true, SuppressionMatch{Account: "u_token", Address: "203.0.113.7"}, keyed)
	f(false, SuppressionMatch{Account: "u_token"}, plain)
	f(true, at("post", "", "/export/{id}"), plain)
	f(true, at("", "SHOP.example", ""), plain)
	f(true, at("POST", "", "/Export/{id}?page={id}"), plain)
	f(true, at("", "", "/exp*/**"), plain)
	f(true, at("", "", "/*/{id}"), plain)
	f(false, at("", "", "/export/{uuid}"), plain)
	f(false, at("", "", "/export/17"), plain)
	f(false, at("GET", "", "/export/{id}"), plain)
	f(false, at("", "", "/export"), plain)
	form := request("203.0.113.7", func(r *Request) { r.Path = "/secret-form" })
	f(true, at("", "", "/secret-form"), form)
	f(true, at("", "", "{unknown}"), form)
	f(true, SuppressionMatch{Labels: map[string]string{"env": "prod"}}, plain)
	f(false, SuppressionMatch{Labels: map[string]string{"env": "prod", "team": "x"}}, plain)
	f(true, SuppressionMatch{Detector: "auth", Level: "campaign"}, plain) // of requests all
}

func TestSilencesInForce(t *testing.T) {
	f := func(x Suppression, want string) {
		t.Helper()
		s := NewSilences(nil, nil)
		x.ID = "s1"
		if x.Expires == 0 {
			x.Starts, x.Expires = moment("00:00:00").Add(-30*24*time.Hour), moment("00:00:00").Add(30*24*time.Hour)
		}
		s.Put(x)
		in := false
		var got []string
		for at := moment("00:00:00"); at < moment("00:00:00").Add(48*time.Hour); at = at.Add(time.Minute) {
			if now := s.At(at); now != in {
				in = now
				got = append(got, fmt.Sprintf("%s %t", at.Std().Format("Mon 15:04"), in))
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%+v: %q, want %q", x.Schedule, got, want)
		}
		// Whatever is asked in between, the answer is the same.
		if back := s.At(moment("00:00:00")); back != strings.HasPrefix(want, "Wed 00:00 true") {
			t.Errorf("%+v: back at midnight %t", x.Schedule, back)
		}
	}
	ended := moment("11:30:00")
	f(Suppression{Starts: moment("11:00:00"), Expires: moment("12:00:00")}, "Wed 11:00 true, Wed 12:00 false")
	f(Suppression{Starts: moment("11:00:00"), Expires: moment("12:00:00"), Ended: &ended}, "Wed 11:00 true, Wed 11:30 false")
	f(Suppression{Schedule: &Schedule{From: "02:00", To: "04:30"}}, "Wed 02:00 true, Wed 04:30 false, Thu 02:00 true, Thu 04:30 false")
	f(Suppression{Schedule: &Schedule{Days: []string{"tue", "thu"}, From: "22:00", To: "04:00"}}, "Wed 00:00 true, Wed 04:00 false, Thu 22:00 true")
	f(Suppression{Schedule: &Schedule{Days: []string{"wed"}, From: "23:30", To: "00:30", Timezone: "Europe/Berlin"}}, "Wed 22:30 true, Wed 23:30 false")
	f(Suppression{Schedule: &Schedule{From: "12:00", To: "12:00"}}, "Wed 00:00 true")
}

func TestSilencesCovering(t *testing.T) {
	ip := func(v string) Principal { return Principal{PrincipalIP, v} }
	at := moment("12:00:00")
	f := func(want string, finding Finding, list ...SuppressionMatch) {
		t.Helper()
		s := NewSilences(nil, nil)
		for i, m := range list {
			s.Put(Suppression{ID: fmt.Sprintf("s%d", i), Match: m, Starts: moment("11:00:00"), Expires: moment("12:30:00")})
		}
		finding.Last = at
		got := ""
		if x := s.Covering(&finding, at); x != nil {
			got = x.ID
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", list, got, want)
		}
	}
	stuffing := Finding{Detector: "auth.stuffing", Level: "client", Who: ip("203.0.113.7"), Addresses: []string{"203.0.113.7"}, Endpoint: Endpoint{"POST", "", "/login"}, Labels: map[string]string{"env": "prod"}}
	f("s0", stuffing, SuppressionMatch{Detector: "auth"})
	f("s1", stuffing, SuppressionMatch{Detector: "auth.spraying"}, SuppressionMatch{Detector: "auth.*"})
	f("", stuffing, SuppressionMatch{Detector: "auth.stuffing", Level: "campaign"})
	f("s0", stuffing, SuppressionMatch{Address: "203.0.113.0/24", Endpoint: &EndpointMatch{Method: "POST", Template: "/login"}})
	f("", stuffing, SuppressionMatch{Address: "203.0.113.0/32"})
	f("", stuffing, SuppressionMatch{Endpoint: &EndpointMatch{Template: "/admin"}})
	f("", stuffing, SuppressionMatch{Labels: map[string]string{"env": "dev"}})
	f("", stuffing, SuppressionMatch{Account: "203.0.113.7"})

	by := stuffing
	by.Who, by.Addresses = Principal{PrincipalAccount, "u_a"}, []string{"203.0.113.7", "198.51.100.1"}
	f("", by, SuppressionMatch{Address: "203.0.113.0/24"}) // not all of it came from there
	f("s0", by, SuppressionMatch{Account: "u_a"})

	// What was set aside for several is covered by whatever set it aside.
	crowd := Finding{Detector: "auth.stuffing", Level: "campaign", Who: Principal{PrincipalEndpoint, "POST /login"}, Aside: true}
	f("s0", crowd, SuppressionMatch{Address: "203.0.113.0/24"})
	f("", crowd, SuppressionMatch{Address: "203.0.113.0/24", Level: "client"})
	crowd.Aside = false
	f("", crowd, SuppressionMatch{Address: "203.0.113.0/24"})
	// What was gathered just before the end is told after it.
	over := Finding{Detector: "auth.stuffing", Who: ip("203.0.113.7"), Last: moment("12:29:59")}
	s := NewSilences(nil, nil)
	s.Put(Suppression{ID: "s0", Match: SuppressionMatch{Detector: "auth"}, Starts: moment("11:00:00"), Expires: moment("12:30:00")})
	if s.Covering(&over, moment("12:31:00")) != nil {
		t.Error("covered after the end")
	}
	if over.Aside = true; s.Covering(&over, moment("12:31:00")) == nil {
		t.Error("not covered although it was set aside")
	}
	health := Finding{Detector: "health.source_silent", Who: Principal{PrincipalEndpoint, "x"}}
	f("", health, SuppressionMatch{})
	f("s0", health, SuppressionMatch{Detector: "health.source_silent"})
}

// TestSilencesBound: those that ended first are forgotten first.
func TestSilencesBound(t *testing.T) {
	s := NewSilences(nil, nil)
	for i := range maxSilences + 10 {
		s.Put(Suppression{ID: fmt.Sprintf("s%05d", maxSilences+10-i), Starts: 1, Expires: Time(1000 + i)})
	}
	list := s.List()
	if len(list) != maxSilences || slices.ContainsFunc(list, func(x Suppression) bool { return x.Expires < 1010 }) ||
		!slices.IsSortedFunc(list, func(a, b Suppression) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("%d are remembered", len(list))
	}
}
