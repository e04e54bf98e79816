package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

// DecisionsConfig is console.decisions: advice to those who can block. Without
// it there is none.
type DecisionsConfig struct {
	Enabled    bool     `yaml:"enabled"`
	NeverBlock []string `yaml:"never_block,omitempty"` // addresses and networks
}

// What a decision rests on.
const (
	decisionFor    = 4 * time.Hour // after the last request that counts
	decisionPeople = 3             // behind an address, at most
	maxDecisions   = 10_000
)

// decision is one piece of advice.
type decision struct {
	Kind     string        `json:"kind"`   // ip, account, subject, key, session
	Value    string        `json:"value"`  // an address, or an IPv6 /64, or a token
	Action   string        `json:"action"` // block, reset, suspend, end
	Reason   string        `json:"reason"`
	Alert    string        `json:"alert"`
	Detector string        `json:"detector"`
	Severity string        `json:"severity"`
	People   *[2]int       `json:"people"`  // behind it, at least and at most; null for what is no address
	Seconds  int64         `json:"seconds"` // left
	Expires  pipeline.Time `json:"expires"`
}

// spared is an address that is not advised to block, and why.
type spared struct {
	Value string `json:"value"`
	Alert string `json:"alert"`
	Why   string `json:"why"`
}

// decisionList is what there is to do now.
type decisionList struct {
	Data   []decision `json:"data"`
	Spared []spared   `json:"spared"`
}

// decisions answers what to block, as JSON or as a file for a gateway. Only
// incidents that are open, page by themselves and were active in the last hours
// count. weir advises; the gateway acts.
func (c *console) decisions(w http.ResponseWriter, r *http.Request, who *caller) {
	q := newQuery(r.URL.RawQuery)
	format := q.oneOf("format", "json", "text", "nginx", "haproxy")
	if err := q.err(); err != nil {
		c.refuseFor(w, r, err)
		return
	}
	if c.NeverBlock == nil {
		refuse(w, &problem{Status: http.StatusNotFound, Detail: "decisions are off; console.decisions turns them on"})
		return
	}
	if format == "" || format == "json" {
		c.api(func(r *http.Request) ([]byte, error) {
			list, err := c.decide(r.Context(), time.Now())
			if err != nil {
				return nil, err
			}
			body, err := json.Marshal(list)
			return appendPrintable(nil, append(body, '\n')), err
		})(w, r, who)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	done, err := c.turn(ctx)
	if err != nil {
		c.busy(w)
		return
	}
	defer done()
	list, err := c.decide(ctx, time.Now())
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	write(w, http.StatusOK, "text/plain; charset=utf-8", list.file(format))
}

// file writes the addresses for a gateway. Nothing that an attacker chose stands
// in it: addresses, ids and times alone.
func (l decisionList) file(format string) []byte {
	line := map[string]string{"text": "%[1]s\n", "nginx": "deny %[1]s; # %[2]s\n", "haproxy": "%[1]s %[2]s\n"}[format]
	out := []byte("# weir: addresses to block now, with the alert that says why; ask again every minute\n")
	for _, d := range l.Data {
		if d.Kind == "ip" {
			out = fmt.Appendf(out, line, d.Value, word(d.Alert))
		}
	}
	return out
}

// word keeps of an id what no file can take for anything else.
func word(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r == '-' {
			return r
		}
		return -1
	}, id)
}

// decide reads the open incidents.
func (c *console) decide(ctx context.Context, now time.Time) (l decisionList, err error) {
	l.Data, l.Spared = []decision{}, []spared{}
	f := AlertFilter{Severity: []string{"high", "critical"}, Status: "open", Limit: maxAlerts, Since: pipeline.TimeOf(now.Add(-decisionFor))}
	for {
		list, err := c.Store.Alerts(ctx, f)
		if err != nil {
			return l, err
		}
		for i := range list {
			var a pipeline.Alert
			if err := json.Unmarshal(list[i].JSON, &a); err != nil {
				return l, fmt.Errorf("read an alert: %w", err)
			}
			c.advise(&l, &a, now)
			f.BeforeSeq = list[i].Seq
		}
		switch {
		case len(l.Data)+len(l.Spared) > maxDecisions:
			return l, errors.New("more decisions than fit")
		case len(list) < f.Limit:
			l.sort()
			return l, nil
		}
	}
}

// sort puts the list in order and keeps the longest of each target.
func (l *decisionList) sort() {
	slices.SortStableFunc(l.Data, func(a, b decision) int {
		if d := strings.Compare(a.Kind+"\x00"+a.Value, b.Kind+"\x00"+b.Value); d != 0 {
			return d
		}
		return int(min(1, max(-1, b.Expires-a.Expires)))
	})
	l.Data = slices.CompactFunc(l.Data, func(a, b decision) bool { return a.Kind == b.Kind && a.Value == b.Value })
	slices.SortStableFunc(l.Spared, func(a, b spared) int { return strings.Compare(a.Value, b.Value) })
}

// advise adds what to do about one alert.
func (c *console) advise(l *decisionList, a *pipeline.Alert, now time.Time) {
	// A clock that runs ahead makes no decision last longer.
	expires := min(a.Window.Last, pipeline.TimeOf(now)).Add(decisionFor)
	left := expires.Sub(pipeline.TimeOf(now))
	if left <= 0 {
		return
	}
	add := func(kind, value, action string, people *[2]int) {
		l.Data = append(l.Data, decision{
			Kind: kind, Value: value, Action: action, Reason: a.Title, Alert: a.ID, Detector: a.Detector, Severity: a.Severity,
			People: people, Seconds: int64(left / time.Second), Expires: expires,
		})
	}
	// Who was broken into needs help whoever did it.
	for _, account := range a.Affected.Accounts {
		if account.Outcome == "success" && account.Name != "" {
			add("account", account.Name, "reset", nil)
		}
	}
	switch kind := a.Principal.Kind; kind {
	case pipeline.PrincipalIP:
		p, why := c.spare(a)
		if why != "" {
			l.Spared = append(l.Spared, spared{a.Principal.Value, a.ID, why})
			return
		}
		value := p.String()
		if p.IsSingleIP() {
			value = p.Addr().String()
		}
		add("ip", value, "block", a.Context.People)
	case pipeline.PrincipalAccount, pipeline.PrincipalSubject, pipeline.PrincipalKey:
		add(kind.String(), a.Principal.Value, "suspend", nil)
	case pipeline.PrincipalSession:
		add(kind.String(), a.Principal.Value, "end", nil)
	case pipeline.PrincipalNone, pipeline.PrincipalCohort, pipeline.PrincipalEndpoint:
		// Of a campaign each member is advised by its own alert.
	}
}

// spare says why an alert's address is not to be blocked, "" when it is.
func (c *console) spare(a *pipeline.Alert) (p netip.Prefix, why string) {
	p, err := netip.ParsePrefix(a.Principal.Value)
	if err != nil {
		addr, err := netip.ParseAddr(a.Principal.Value)
		if err != nil {
			return p, "it is no address"
		}
		p = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
	}
	p = p.Masked()
	if why := c.NeverBlock(p); why != "" {
		return p, why
	}
	if id, _ := a.Silent(); id != "" {
		return p, "suppression " + id + " covers it"
	}
	switch people := a.Context.People; {
	case a.Tier != "page":
		return p, "it does not page by itself"
	case slices.Contains([]string{"cgnat", "cdn", "corporate", "crawler"}, a.Context.Network):
		return p, "its network is " + a.Context.Network
	case people == nil:
		return p, "how many people are behind it is not known"
	case people[1] > decisionPeople:
		return p, fmt.Sprintf("%d to %d people may be behind it", people[0], people[1])
	case len(a.Context.Agents) > decisionPeople:
		// Where each person asks twice, a crowd looks like a client that takes
		// another browser's name every time. A mistake would hit the crowd.
		return p, "it shows many browsers: one client that changes its name, or many people"
	}
	return p, ""
}
